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
    /// Where clients come in, that of `server` first.
    #[serde(default)]
    pub listeners: Vec<ListenerRoutes>,
}

/// A listener, and which rules are its own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ListenerRoutes {
    /// `server`, or its name in `gateway.listeners`.
    pub name: String,
    /// Where it is: `https://127.0.0.1:443`, `unix:/run/shop.sock`. A port of 0 was not chosen yet.
    pub url: String,
    /// Its rules; `null` is those of the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<Route>>,
    /// Where requests are sent that no rule takes, if they are: `https` and a port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<String>,
}
