//! Servers outside of the application.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A server in place of workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upstream {
    /// Where it is.
    pub server: Server,
    /// What requests have in `Host`; `None` is what the client sent.
    pub host: Option<String>,
}

/// Where a server accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Server {
    /// Over TCP.
    Tcp {
        /// A name, or an address.
        name: String,
        /// The port.
        port: u16,
    },
    /// At a Unix socket.
    Unix {
        /// Its path.
        path: PathBuf,
    },
}
