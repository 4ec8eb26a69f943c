//! One service that is applied by itself while the application runs, in place of what the file says of it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How one service is applied or taken out: the query of `PUT` and `DELETE /v1/services/{service}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Apply {
    /// Only say what would change.
    pub plan: bool,
    /// Answer when new workers have taken over and what was removed has gone, or when they are not going to.
    pub wait: bool,
    /// The folder that paths in messages are relative to.
    pub folder: Option<PathBuf>,
    /// The file that the document came from, for messages. Its ending says which language it is in: TOML, else YAML or JSON.
    pub file: Option<PathBuf>,
}

/// That a service is not as the file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// Since when.
    pub at: String,
    /// By whom, in words: `user 1000`.
    pub by: String,
}
