//! Servers outside of the application that routes lead to.

use std::{fmt, path::PathBuf};

use super::{Files, Plan, Protocol, RouteTarget, Timeouts};

/// One of them, and how it is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Where it is.
    pub server: UpstreamServer,
    /// What requests have in `Host`; `None` is what the client sent.
    pub host: Option<String>,
    /// What it speaks.
    pub protocol: Protocol,
    /// How long is waited for it.
    pub timeouts: Timeouts,
}

/// Where a server accepts. Written as it is displayed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamServer {
    /// Over TCP.
    Tcp {
        /// A name, or an address.
        name: String,
        /// The port.
        port: u16,
    },
    /// At a Unix socket.
    Unix(PathBuf),
}

impl Plan {
    /// The servers outside that routes lead to, some of them several times.
    pub fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.all_routes().filter_map(|route| match &route.target {
            RouteTarget::Upstream(upstream) => Some(upstream),
            RouteTarget::Service(_)
            | RouteTarget::Split { .. }
            | RouteTarget::Files(_)
            | RouteTarget::Redirect { .. }
            | RouteTarget::Respond { .. } => None,
        })
    }
}

impl Plan {
    /// What routes serve files of, some of it several times.
    pub fn files(&self) -> impl Iterator<Item = &Files> {
        self.all_routes().filter_map(|route| match &route.target {
            RouteTarget::Files(files) => Some(files),
            RouteTarget::Service(_)
            | RouteTarget::Split { .. }
            | RouteTarget::Upstream(_)
            | RouteTarget::Redirect { .. }
            | RouteTarget::Respond { .. } => None,
        })
    }
}

impl UpstreamServer {
    /// What requests have in `Host` unless something else is said: its own name, where it has one.
    pub fn host(&self) -> Option<String> {
        match self {
            UpstreamServer::Tcp { name, port } => {
                Some(UpstreamServer::authority(name, (*port != 80).then_some(*port)))
            }
            UpstreamServer::Unix(_) => None,
        }
    }

    /// A name or an address, and a port, as URLs have them.
    pub fn authority(name: &str, port: Option<u16>) -> String {
        let name = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
        match port {
            Some(port) => format!("{name}:{port}"),
            None => name,
        }
    }
}

impl fmt::Display for UpstreamServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpstreamServer::Tcp { name, port } => {
                write!(f, "http://{}", UpstreamServer::authority(name, (*port != 80).then_some(*port)))
            }
            UpstreamServer::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
