//! Processes that run once, inside a service's sandbox.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What to run once in a new sandbox of a service.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// The service.
    pub service: String,
    /// Program and arguments; the service's own command, when it is empty.
    #[serde(default)]
    pub command: Vec<String>,
    /// It is stopped after so many milliseconds; never, when it is left out.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
}

/// A task that was started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TaskStarted {
    /// Its name: `api/t7`.
    pub task: String,
}
