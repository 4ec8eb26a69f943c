//! Which requests of clients go where.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Requests;
use crate::mesh::Route;

/// The gateway's rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Routes {
    /// The application.
    pub app: String,
    /// The configuration file.
    pub file: PathBuf,
    /// Where clients come in: `http://127.0.0.1:3042`. `None` where only the configuration was looked at.
    pub gateway: Option<String>,
    /// The rules in the order of the file.
    pub routes: Vec<Route>,
    /// What was sent to servers outside of the application, by what routes call them.
    #[serde(default)]
    pub upstreams: BTreeMap<String, Requests>,
}
