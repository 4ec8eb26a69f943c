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
    /// How it is known, where it speaks TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
}

/// TLS with a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamTls {
    /// The name or address that its certificate has to be for.
    pub name: String,
    /// The certificates of those who vouch for it, as PEM; `None` is those whom the host trusts.
    pub ca: Option<String>,
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
