//! Servers outside of the application that routes lead to.

use std::{collections::BTreeSet, fmt, path::PathBuf};

use super::{Files, Plan, Protocol, RouteTarget, Timeouts, Tls};

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
    /// A file with the certificates of those who vouch for it, where it speaks TLS; `None` is those whom the host trusts.
    pub ca: Option<PathBuf>,
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
    /// Over TCP, in TLS.
    Tls {
        /// A name, or an address, which its certificate is to be for.
        name: String,
        /// The port.
        port: u16,
    },
    /// At a Unix socket.
    Unix(PathBuf),
    /// Where watt itself says what it has counted, see [`super::Listener::METRICS`].
    Metrics,
}

/// The ports that URLs leave out (RFC 9110 §4.2).
const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

impl Plan {
    /// The servers outside that routes lead to, some of them several times.
    pub fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.all_routes().filter_map(|route| match &route.target {
            RouteTarget::Upstream(upstream) => Some(upstream),
            RouteTarget::Service(_)
            | RouteTarget::Split { .. }
            | RouteTarget::Files(_)
            | RouteTarget::ApiPage(_)
            | RouteTarget::Redirect { .. }
            | RouteTarget::Respond { .. } => None,
        })
    }
}

impl Plan {
    /// Every file with certificates or keys that is read with the configuration, each once.
    pub fn certificate_files(&self) -> BTreeSet<&PathBuf> {
        self.tls().flat_map(Tls::files).chain(self.upstream_authorities()).collect()
    }

    /// Those with the certificates of those who vouch for servers outside, some of them several times.
    pub fn upstream_authorities(&self) -> impl Iterator<Item = &PathBuf> {
        self.upstreams().filter_map(|upstream| upstream.ca.as_ref())
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
            | RouteTarget::ApiPage(_)
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
                Some(UpstreamServer::authority(name, (*port != HTTP_PORT).then_some(*port)))
            }
            UpstreamServer::Tls { name, port } => {
                Some(UpstreamServer::authority(name, (*port != HTTPS_PORT).then_some(*port)))
            }
            UpstreamServer::Unix(_) | UpstreamServer::Metrics => None,
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
                write!(f, "http://{}", UpstreamServer::authority(name, (*port != HTTP_PORT).then_some(*port)))
            }
            UpstreamServer::Tls { name, port } => {
                write!(
                    f,
                    "https://{}",
                    UpstreamServer::authority(name, (*port != HTTPS_PORT).then_some(*port))
                )
            }
            UpstreamServer::Unix(path) => write!(f, "unix:{}", path.display()),
            UpstreamServer::Metrics => f.write_str("watt:metrics"),
        }
    }
}
