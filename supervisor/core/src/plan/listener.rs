//! Where clients come in, and how they are met there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use super::{Plan, Route};

/// A listener for clients.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Where.
    pub at: ListenAt,
    /// How clients are spoken with in TLS; `None` is in plain text.
    pub tls: Option<Tls>,
    /// Proxies before it that say who their clients are (the PROXY protocol), as networks: the addresses that begin with so many bits of
    /// this one. They are believed, and nobody else.
    pub proxies: Vec<(IpAddr, u8)>,
    /// How much time and room clients have.
    pub bounds: ClientBounds,
    /// Requests that no route takes are sent to the same address in TLS.
    pub to_https: Option<ToHttps>,
    /// Its routes; `None` is those of the gateway.
    pub routes: Option<Vec<Route>>,
}

impl Listener {
    /// What the one is called that `server` describes.
    pub const SERVER: &str = "server";

    /// What the one is called at which collectors get what was counted.
    pub const METRICS: &str = "metrics";

    /// One over TCP with every default.
    pub fn tcp(hostname: IpAddr, port: u16) -> Listener {
        Listener {
            at: ListenAt::Tcp { hostname, port },
            tls: None,
            proxies: Vec::new(),
            bounds: ClientBounds::default(),
            to_https: None,
            routes: None,
        }
    }
}

/// Where a listener is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAt {
    /// Over TCP.
    Tcp {
        /// The address to bind.
        hostname: IpAddr,
        /// The port to bind; 0 asks the kernel for a free one.
        port: u16,
    },
    /// At a Unix socket.
    Unix {
        /// Its path.
        path: PathBuf,
        /// Who may connect, as the mode of its file.
        mode: u32,
        /// Whose it is.
        owner: SocketOwner,
    },
}

impl fmt::Display for ListenAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenAt::Tcp { hostname, port } => SocketAddr::new(*hostname, *port).fmt(f),
            ListenAt::Unix { path, .. } => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Whose the file of a socket is: accounts of the host, by name or number. `None` is the user's who runs watt.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SocketOwner {
    /// The user.
    pub user: Option<String>,
    /// The group.
    pub group: Option<String>,
}

/// How much time and room each client of a listener has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientBounds {
    /// For the head of a request, from its first byte on.
    pub head_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
    /// The longest head of a request, in bytes.
    pub head_max: u64,
    /// The largest body of a request, in bytes; `None` is any size.
    pub body_max: Option<u64>,
    /// Bytes a second that a body has to come with on average; `None` is what the gateway says.
    pub body_rate_min: Option<u64>,
}

/// The longest head that there may be at all, in bytes: what the proxy reads one into.
pub const HEAD_SIZE_MAX: u64 = 64 << 10;

impl Default for ClientBounds {
    fn default() -> Self {
        ClientBounds {
            head_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            head_max: HEAD_SIZE_MAX,
            body_max: None,
            body_rate_min: None,
        }
    }
}

/// That clients are sent to TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToHttps {
    /// The port there; `None` is that of the listener that speaks it.
    pub port: Option<u16>,
}

/// TLS at a listener.
#[derive(Debug, Clone, PartialEq)]
pub struct Tls {
    /// What is shown to clients: the first one whose names have the one that is asked for, else the first one.
    pub certificates: Vec<CertificateFiles>,
    /// Whose clients' certificates are asked for, if they are.
    pub clients: Option<ClientAuthorities>,
    /// The oldest version that is spoken.
    pub version_min: TlsVersion,
}

/// A certificate and its key, as PEM. Both may be in one file.
#[derive(Debug, Clone, PartialEq)]
pub struct CertificateFiles {
    /// The certificate, and behind it those that vouch for it.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Who vouches for clients.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientAuthorities {
    /// The file of their certificates.
    pub file: PathBuf,
    /// Whether a client without a certificate of theirs is turned away.
    pub required: bool,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

impl Tls {
    /// Every file that it is made from, each once.
    pub fn files(&self) -> BTreeSet<&PathBuf> {
        let pairs = self.certificates.iter().flat_map(|files| [&files.certificate, &files.key]);
        pairs.chain(self.clients.iter().map(|clients| &clients.file)).collect()
    }
}

impl Plan {
    /// TLS, wherever it is spoken with clients.
    pub fn tls(&self) -> impl Iterator<Item = &Tls> {
        self.listeners.values().filter_map(|listener| listener.tls.as_ref())
    }

    /// The listener that `server` describes.
    pub fn server(&self) -> Option<&Listener> {
        self.listeners.get(Listener::SERVER)
    }

    /// All others, by name.
    pub fn other_listeners(&self) -> BTreeMap<&str, &Listener> {
        let all = self.listeners.iter().map(|(name, listener)| (name.as_str(), listener));
        all.filter(|(name, _)| *name != Listener::SERVER).collect()
    }

    /// Every route, those of single listeners behind those of the gateway.
    pub fn all_routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().chain(self.listeners.values().filter_map(|one| one.routes.as_ref()).flatten())
    }
}
