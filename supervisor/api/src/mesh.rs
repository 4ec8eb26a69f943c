//! The link between the daemon and the mesh proxy.
//!
//! The proxy listens on `proxy.sock`, a listener held by the spawner, so that either end may be replaced. The
//! daemon connects, and sends [`ToProxy`] messages; the proxy answers with [`FromProxy`]. Each message is a
//! little-endian `u32` length and that many bytes of JSON; descriptors travel by SCM_RIGHTS with the first byte
//! of the message that names them (at most 253, unix(7)). After connecting, the daemon sends every listener and
//! a full snapshot; what the proxy had from an earlier daemon and does not hear of again is dropped.

mod cache;
mod guard;
mod listener;
mod route;
mod traffic;
mod upstream;
mod usual;
mod work;

use std::{
    collections::{BTreeMap, HashSet},
    error, fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    path::PathBuf,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use cache::{Cache, CacheCookies, CacheCounts, CacheLimits, CachePurge, CacheStatus, RouteCache};
pub use guard::{
    AccessRule, AddressRule, ApiKey, Auth, Authority, Basic, CertificateNames, Cors, CountedBy, Denied,
    Filter, Guard, Jwt, RateLimit, RemoteKeys, User,
};
pub use listener::{Certificate, ClientBounds, Handshakes, Listener, Network, Secret, Tls, ToHttps};
pub use route::{
    Compress, HeaderRules, PathMatch, RequestPart, Route, RouteAnswer, RouteCondition, RouteFault,
    RouteFiles, RouteMirror, RoutePage, RouteShare, ValueTest,
};
pub use traffic::{
    Balance, Believed, Breaker, Bulkhead, Ejection, Failures, HashKey, Retries, Traffic, Trouble,
};
pub use upstream::{Server, Upstream, UpstreamTls};
pub use usual::{OrUsual, Usual};
pub use work::{Work, answer_bucket, answer_within};

/// The largest message either side accepts, in bytes.
pub const MESSAGE_SIZE_MAX: u32 = 64 << 20;

/// The form of these messages. Either end reads its own and the one before: while watt is upgraded, a daemon has two proxies, of which
/// one is of the version before. The messages are JSON, so that a field with a default needs no other number. Another kind of message,
/// or another variant of what is in one, does: whoever knows that the other end is older leaves it out.
pub const FORMAT: u32 = 1;

/// Whether this version understands messages of that form.
pub const fn is_readable(format: u32) -> bool {
    format == FORMAT || (FORMAT > 1 && format == FORMAT - 1)
}

/// How many descriptors one message may carry (SCM_MAX_FD, unix(7)).
pub const MESSAGE_DESCRIPTORS_MAX: usize = 253;

/// The size of the length in front of each message, in bytes.
const LENGTH_SIZE: usize = size_of::<u32>();

/// Appends a message, with its length in front, to `buffer`. After an error `buffer` is as it was.
pub fn encode<M: Serialize>(message: &M, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = buffer.len();
    let written = append(message, buffer);
    if written.is_err() {
        buffer.truncate(start);
    }
    written
}

fn append<M: Serialize>(message: &M, buffer: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = buffer.len();
    buffer.extend([0; LENGTH_SIZE]);
    serde_json::to_writer(&mut *buffer, message).map_err(CodecError::Content)?;
    let size = buffer.len() - start - LENGTH_SIZE;
    let length = u32::try_from(size).ok().filter(|length| *length <= MESSAGE_SIZE_MAX);
    let length = length.ok_or(CodecError::Size { size })?;
    buffer[start..start + LENGTH_SIZE].copy_from_slice(&length.to_le_bytes());
    Ok(())
}

/// Reads the message at the start of `buffer`, and says how many bytes it took. `None` when it is not all
/// there.
pub fn decode<M: DeserializeOwned>(buffer: &[u8]) -> Result<Option<(M, usize)>, CodecError> {
    let Some((length, rest)) = buffer.split_first_chunk::<LENGTH_SIZE>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length);
    let size = usize::try_from(length).unwrap_or(usize::MAX);
    if length > MESSAGE_SIZE_MAX {
        return Err(CodecError::Size { size });
    }
    let Some(content) = rest.get(..size) else { return Ok(None) };
    let message = serde_json::from_slice(content).map_err(CodecError::Content)?;
    Ok(Some((message, LENGTH_SIZE + size)))
}

/// Why a message could not be written or read. The connection it came from is of no further use.
#[derive(Debug)]
pub enum CodecError {
    /// It is larger than [`MESSAGE_SIZE_MAX`].
    Size {
        /// Its size in bytes.
        size: usize,
    },
    /// It is not the JSON of a message.
    Content(serde_json::Error),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size { size } => write!(f, "a message has {size} bytes; {MESSAGE_SIZE_MAX} are allowed"),
            Self::Content(_) => write!(f, "a message is not understood"),
        }
    }
}

impl error::Error for CodecError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Size { .. } => None,
            Self::Content(cause) => Some(cause),
        }
    }
}

/// From the daemon to the proxy. The kind comes first, and not as a member beside the others: those would have to be kept in
/// a general form until it is found, which for a snapshot takes several times its memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToProxy {
    /// First message of a connection: forget the listeners that are not added again before the next `Snapshot`.
    Hello {
        /// Of the messages: [`FORMAT`].
        format: u32,
    },
    /// Accept on the descriptor that comes with this message. A listener with a known id replaces nothing: the
    /// proxy keeps what it has and closes the new descriptor.
    AddListener {
        /// Names it from now on.
        id: ListenerId,
        /// What comes in there.
        kind: ListenerKind,
    },
    /// A folder with files that routes lead to, whose descriptor comes with this message; in place of one with the same id. One that no
    /// route of the next snapshot leads to is closed. Only for a proxy of the daemon's own program: older ones do not know it.
    AddFolder {
        /// What [`RouteFiles::folder`] calls it.
        id: String,
    },
    /// A document that pages show, as JSON; in place of one with the same id. It is shown from the next snapshot on, and one that no page of
    /// that shows is forgotten. Only for a proxy of the daemon's own program: older ones do not know it.
    AddDocument {
        /// What [`RoutePage::document`] calls it.
        id: String,
        /// All of it.
        body: String,
    },
    /// Accept there no longer; connections that were accepted live on.
    RemoveListener {
        /// Which.
        id: ListenerId,
    },
    /// Unconnected TCP sockets, made in the network namespace of this run, to reach its worker with. The
    /// descriptors come with this message.
    Sockets {
        /// Whose.
        run: u64,
    },
    /// Everything else the proxy has to know. Replaces the last one as a whole.
    Snapshot(Box<Snapshot>),
    /// Remove stored responses, and say so with this number. Only for a proxy of the daemon's own program: older ones do not know it.
    PurgeCache {
        /// Of the purge.
        number: u64,
        /// Which ones.
        purge: CachePurge,
    },
    /// Another proxy has taken over: accept nothing more, anywhere, and end when nobody is connected any longer. Connections are told to
    /// close with their next answer, and idle ones are left to their clients, none of whom then meets a closed one. Said again, it
    /// changes nothing.
    Retire {
        /// When what is still there is cut off, in milliseconds from now.
        within_ms: u64,
    },
}

impl ToProxy {
    /// The first message.
    pub const HELLO: ToProxy = ToProxy::Hello { format: FORMAT };
}

/// From the proxy to the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromProxy {
    /// The answer to [`ToProxy::Hello`].
    Hello {
        /// Of the messages: [`FORMAT`].
        format: u32,
        /// The proxy's version.
        version: String,
    },
    /// Every thread uses the snapshot with this version.
    Applied {
        /// Of the snapshot.
        version: u64,
    },
    /// A run that is draining has no request left. Sent once per run and connection, also when it never had
    /// one.
    Drained {
        /// Which.
        run: u64,
    },
    /// A request waits for a service that is [`Outlook::Asleep`]. Said once for each snapshot.
    Wanted {
        /// Which.
        service: String,
    },
    /// More sockets are wanted for this run.
    NeedSockets {
        /// Whose.
        run: u64,
    },
    /// Counts since the proxy started, sent once a second when they changed.
    Counts {
        /// By service. Nothing was counted of one that is not in it.
        services: BTreeMap<String, Counts>,
        /// Beginnings of TLS at the gateway.
        #[serde(default)]
        handshakes: Handshakes,
        /// What happened since the last time; of much of a kind, some is told.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        troubles: Vec<Trouble>,
        /// How much is stored.
        #[serde(default)]
        cache: CacheStatus,
    },
    /// The answer to [`ToProxy::PurgeCache`].
    CachePurged {
        /// Of the purge.
        number: u64,
        /// How many responses were removed.
        removed: u64,
    },
    /// What services had to do since the proxy started, of those that are [`Service::measured`]. Sent once a second while there are such.
    Work {
        /// By service.
        services: BTreeMap<String, Work>,
    },
    /// What was counted of requests by where they came from, since the proxy started: of those edges that changed since the last time.
    /// Sent at most once a second, where the snapshot [asks for it](Snapshot::edges).
    Edges {
        /// Those.
        edges: Vec<(EdgeOf, EdgeCounts)>,
    },
    /// A call was refused by a policy, or a connection to the outside failed; for the event stream.
    Refused {
        /// The calling service, when known.
        caller: Option<String>,
        /// What it wanted to reach.
        target: String,
        /// The rule, in words.
        reason: String,
    },
    /// A request was lost with the worker that had it, and could not be sent again; for the event stream. Of a flood of them, some
    /// are told.
    Lost {
        /// The service that it was for.
        service: String,
        /// The worker's run.
        run: u64,
        /// The request's method.
        method: String,
        /// Its path as the worker got it, without a query.
        path: String,
        /// How it was lost, in words.
        reason: String,
    },
    /// A service's list of destinations does not have a connection or a name that it asked for. The same one
    /// is told once in a while; how often it happened is in [`FromProxy::Outside`].
    EgressRefused {
        /// The service.
        caller: String,
        /// What it wanted to reach: `192.0.2.1:443`, or a name.
        target: String,
        /// Why not, in words.
        reason: String,
        /// What to add to the list to allow it, as the configuration writes it: `db.example.org:5432`. `None`
        /// where no rule allows it.
        allow: Option<String>,
    },
    /// Everything that was counted for a service's ways out since the proxy started, sent at most once a
    /// second when it changed.
    Outside {
        /// The service.
        service: String,
        /// At most as many as the proxy remembers, the last one for all others together.
        destinations: Vec<Outgoing>,
    },
}

/// Requests that came from one place to a service, by one route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EdgeOf {
    /// The calling service, or one of the names that no service has: [`EdgeOf::GATEWAY`], [`EdgeOf::OPERATOR`].
    pub caller: String,
    /// Where they went.
    pub service: String,
    /// Host and path of the gateway's route; empty for calls by name.
    pub route: String,
}

impl EdgeOf {
    /// Clients of the gateway.
    pub const GATEWAY: &str = "@gateway";
    /// Who is not a service: `wattctl inject`, for example.
    pub const OPERATOR: &str = "@operator";
}

/// How long requests took is counted by these bounds, in microseconds; what took longer comes behind the last. They are those that
/// client libraries of Prometheus have in advance, and three below them, since a call within one host takes less than a millisecond.
pub const EDGE_BOUNDS_US: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// What was counted of an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct EdgeCounts {
    /// Requests by the first digit of the status that the caller got; the first are those that got none, since they went away.
    pub by_class: [u64; 6],
    /// Requests by how long they took until all of the answer was passed on; see [`EDGE_BOUNDS_US`].
    pub by_time: [u64; EDGE_BOUNDS_US.len() + 1],
    /// How long they took together, in microseconds.
    pub us: u64,
}

impl EdgeCounts {
    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: &EdgeCounts) {
        let EdgeCounts { by_class, by_time, us } = other;
        self.by_class.iter_mut().zip(by_class).for_each(|(sum, count)| *sum += count);
        self.by_time.iter_mut().zip(by_time).for_each(|(sum, count)| *sum += count);
        self.us += us;
    }
}

/// What a service did at one destination outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outgoing {
    /// `db.example.org:5432` where the service asked for the name before, else the address and port; a name
    /// alone where the question for it was refused; empty for all others together.
    pub to: String,
    /// How often.
    #[serde(flatten)]
    pub counts: OutgoingCounts,
}

/// What the proxy counted at a destination outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OutgoingCounts {
    /// Connections that were made.
    pub connections: u64,
    /// Those of them that are open.
    pub open: u64,
    /// Connections that failed.
    pub failed: u64,
    /// Connections and questions that the list does not allow.
    pub refused: u64,
    /// Bytes from the service.
    pub sent: u64,
    /// Bytes to the service.
    pub received: u64,
    /// Time until a connection was made, in microseconds: all of them together.
    pub connect_us_total: u64,
    /// The longest of them.
    pub connect_us_max: u64,
    /// When it was last tried, in milliseconds since the Unix epoch.
    pub last_ms: u64,
}

/// A listener's name, unique among those of one application: `gateway/0`, `mesh/17`, `egress/17`, `dns/17`.
pub type ListenerId = String;

/// What comes in at a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ListenerKind {
    /// Clients from outside, over TCP or at a Unix socket. One per thread, with SO_REUSEPORT; that of a Unix socket is the same for all.
    Gateway {
        /// Which thread accepts.
        thread: u32,
        /// Which of [`Snapshot::listeners`] says how clients are met there.
        #[serde(default)]
        listener: String,
    },
    /// Calls to services over TCP, made in a worker's network namespace. The destination of a connection is
    /// where the client wanted to go: SO_ORIGINAL_DST when redirected, else the local address. Port 80 is HTTP,
    /// with the target named by Host; another port of a service's address is a byte stream to that port.
    Mesh {
        /// The calling service.
        caller: String,
    },
    /// Calls to services over a Unix socket inside a directory that only this service can reach.
    MeshUnix {
        /// The calling service.
        caller: String,
    },
    /// Calls to services on the host's network, and by operators over the application's own `mesh.sock`: the
    /// caller is known by SO_PEERCRED (Unix) or the connection's cgroup (TCP), see [`Worker::cgroup`].
    MeshHost,
    /// Other outgoing TCP of a private worker, redirected; the wanted address is SO_ORIGINAL_DST.
    Egress {
        /// The calling service.
        caller: String,
    },
    /// The host's own localhost: connections are passed on to this port of it.
    HostPort {
        /// The calling service.
        caller: String,
        /// The port.
        port: u16,
    },
    /// Name questions of a private worker over UDP (RFC 1035). The names of the mesh are answered, others asked
    /// of the host's resolvers.
    DnsUdp {
        /// The calling service.
        caller: String,
    },
    /// The same over TCP (RFC 7766).
    DnsTcp {
        /// The calling service.
        caller: String,
    },
}

/// What the proxy has to know.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Snapshot {
    /// Grows with each snapshot of one daemon.
    pub version: u64,
    /// The application's name, for `Via` and error bodies.
    pub app: String,
    /// Every service by name.
    pub services: BTreeMap<String, Service>,
    /// Gateway routes. From a daemon those of the [first form](Route::is_of_first_form) alone.
    pub routes: Vec<Route>,
    /// All others. A proxy from before there were any ignores what it does not know: in `routes` it would see their path and host alone,
    /// and take what they exclude. This list it does not know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub narrow_routes: Vec<Route>,
    /// Name servers of the host for names outside the mesh.
    pub resolvers: Vec<SocketAddr>,
    /// How it is known who asks, by the names that guards have for it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub auths: BTreeMap<String, Auth>,
    /// Bytes a second that the body of a request from outside has to come with, on average, after its first minute; 0 is
    /// any rate.
    #[serde(default)]
    pub body_rate_min: u64,
    /// How clients are met at the gateway's listeners, by name.
    #[serde(default)]
    pub listeners: BTreeMap<String, Listener>,
    /// Which requests are written to the access log; `None` is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
    /// Whether the daemon understands [`FromProxy::Edges`], which one of an earlier version does not.
    #[serde(default)]
    pub edges: bool,
    /// How much is stored of responses; `None` is nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheLimits>,
}

/// What is written of requests, as lines of JSON on the proxy's standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessLog {
    /// Of calls between services as well, and not of the gateway's requests alone.
    #[serde(default)]
    pub mesh: bool,
    /// So many of a hundred. Those that fail are written in any case.
    pub percent: u8,
    /// Fields of requests that are written, by name in lower case.
    #[serde(default)]
    pub headers: Vec<String>,
    /// With the query.
    #[serde(default)]
    pub query: bool,
}

impl Snapshot {
    /// Parts routes, in the order of the file, into those that every proxy understands and the others.
    ///
    /// Their order needs no more: of two that are equal in all that goes before the place in the file, both are in one list.
    pub fn part_routes(routes: Vec<Route>) -> (Vec<Route>, Vec<Route>) {
        routes.into_iter().partition(Route::is_of_first_form)
    }

    /// Every route, those of single listeners among them.
    pub fn all_routes(&self) -> impl Iterator<Item = &Route> {
        let own = self.listeners.values().filter_map(|listener| listener.routes.as_ref()).flatten();
        self.routes.iter().chain(&self.narrow_routes).chain(own)
    }

    /// Whether an edge is one of this application as it is now: caller, service and route.
    pub fn edges_left(&self) -> impl Fn(&EdgeOf) -> bool {
        let labels: HashSet<String> = self.all_routes().map(Route::label).collect();
        move |edge| {
            let is_service = |name: &str| self.services.contains_key(name);
            (edge.caller.starts_with('@') || is_service(&edge.caller))
                && is_service(&edge.service)
                && (edge.route.is_empty() || labels.contains(&edge.route))
        }
    }

    /// Gives back the room that lists have beyond what is in them: after it was decoded, whoever keeps it. A list is begun with room for
    /// four, and most services have one worker.
    pub fn shrink(&mut self) {
        for service in self.services.values_mut() {
            service.workers.shrink_to_fit();
            service.reserved_ports.shrink_to_fit();
            service.callers.iter_mut().for_each(Vec::shrink_to_fit);
            service.egress.iter_mut().for_each(Vec::shrink_to_fit);
        }
    }

    /// Puts all routes into `routes`, as a proxy needs them.
    pub fn join_routes(&mut self) {
        self.routes.append(&mut self.narrow_routes);
    }
}

/// A service as callers see it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Service {
    /// Its loopback address in private networks, of 127.77.0.0/16.
    pub address: Option<std::net::Ipv4Addr>,
    /// Its workers that run.
    pub workers: Vec<Worker>,
    /// What a request may hope for when none of them is ready.
    pub outlook: Outlook,
    /// Who may call it; `None` is everybody. The gateway may call what a route names.
    pub callers: Option<Vec<String>>,
    /// Ports in its workers' private networks that lead back to the proxy: names, and the host's ports. Calls
    /// from outside to them would go on in this service's name, and are refused.
    #[serde(default)]
    pub reserved_ports: Vec<u16>,
    /// What its workers speak.
    #[serde(default)]
    pub protocol: Protocol,
    /// Where its private workers may connect to outside; `None` is everywhere. As `watt_core::plan::Egress`.
    #[serde(default)]
    pub egress: Option<Vec<EgressRule>>,
    /// To reach a worker, in milliseconds.
    pub connect_timeout_ms: u64,
    /// From the last byte of the request sent to the response head, in milliseconds. While a body is still
    /// being sent the idle timeout counts. Like the other timeouts, 0 is none.
    pub first_byte_timeout_ms: u64,
    /// With no byte in either direction, in milliseconds.
    pub idle_timeout_ms: u64,
    /// How long a request waits for a worker, in milliseconds.
    pub hold_timeout_ms: u64,
    /// How many requests may wait at a time.
    pub hold_requests_max: usize,
    /// Over which time a worker comes to its full share of requests, in milliseconds; at once with 0.
    #[serde(default)]
    pub slow_start_ms: u64,
    /// Whether what it has to do is measured.
    #[serde(default)]
    pub measured: bool,
    /// What becomes of requests that do not go as they should.
    #[serde(default, skip_serializing_if = "OrUsual::is_usual")]
    pub traffic: OrUsual<Traffic>,
    /// What requests have to pass, whoever calls.
    #[serde(default, skip_serializing_if = "OrUsual::is_usual")]
    pub guard: OrUsual<Guard>,
    /// The server that it is in place of workers, which is always there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Box<Upstream>>,
    /// Which of its responses are stored; `None` is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Box<Cache>>,
}

/// What a worker speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, from the first byte on (RFC 9113 §3.3).
    H2c,
}

/// A set of destinations outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressRule {
    /// Where.
    pub to: Destination,
    /// The only port, or every one.
    pub port: Option<NonZeroU16>,
}

/// Hosts outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Destination {
    /// Every one.
    Anywhere,
    /// The host of this name, lower case; `*.` in front is every name below.
    Name {
        /// Without a dot at its end.
        name: String,
    },
    /// The addresses that begin with this many bits of this one.
    Network {
        /// The first one.
        address: IpAddr,
        /// How many.
        bits: u8,
    },
}

/// Why a service has no ready worker, and what to do with its requests meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Outlook {
    /// One starts or will start by itself: requests wait.
    #[default]
    Coming,
    /// Nobody has wanted anything for long: the first request has one started, and waits like the others.
    Asleep,
    /// It failed too often: requests are answered 503 at once.
    Failed {
        /// In words, as `status` says it: `exit 1, 5 times in a minute`.
        reason: String,
        /// Seconds until it is tried again, when it is.
        retry_after_s: Option<u64>,
    },
    /// The operator stopped it: 503 at once.
    Stopped,
    /// It does not listen: 502 at once.
    NotListening,
}

/// A worker that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its run.
    pub run: u64,
    /// Counts from 0 within the service.
    pub index: u16,
    /// Where it accepts; `None` while that is not known.
    pub endpoint: Option<Endpoint>,
    /// Whether it takes new requests.
    pub state: WorkerState,
    /// Of one that drains: milliseconds until it is told to stop whatever is left, and 0 once it was. The proxy ends WebSockets before.
    #[serde(default)]
    pub drain_ms: Option<u64>,
    /// Its cgroup's id (the inode of its directory in the v2 hierarchy), to know a caller on the host network.
    pub cgroup: Option<u64>,
    /// Its main process, to know a caller by SO_PEERCRED where there is no cgroup.
    pub pid: Option<u32>,
}

/// Whether a worker takes new requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Not yet.
    Starting,
    /// Yes.
    Ready,
    /// No longer; `Drained` is expected.
    Draining,
}

/// Where a worker accepts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Endpoint {
    /// A Unix socket.
    Unix {
        /// Its path, reachable for the proxy.
        path: PathBuf,
    },
    /// TCP on the host's network.
    Tcp {
        /// Where.
        address: SocketAddr,
    },
    /// TCP in the run's own network namespace, reached with sockets that were made there.
    PrivateTcp {
        /// Where, as seen inside.
        address: SocketAddr,
    },
}

/// What the proxy counted for one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Requests that were sent to it.
    pub requests: u64,
    /// Those answered 500–599 by it, or by the proxy on its behalf.
    pub failures: u64,
    /// Those being answered now.
    pub in_flight: u64,
    /// Those waiting for a worker now.
    pub held: u64,
    /// How often one was sent again.
    pub retries: u64,
    /// How often one was not, because as many were already as may be.
    pub retries_denied: u64,
    /// Those whose time was over, or that of each of their tries.
    pub timed_out: u64,
    /// Those that were denied.
    pub denied: Denied,
    /// Those refused because the breaker was open.
    pub refused_breaker: u64,
    /// Those refused because as many were in flight and waited as may.
    pub refused_full: u64,
    /// Those refused because they had waited for as long as they may.
    pub refused_late: u64,
    /// Those refused because more urgent ones came.
    pub refused_shed: u64,
    /// How often the breaker opened.
    pub breaker_opened: u64,
    /// Whether it is open now.
    pub breaker_is_open: bool,
    /// How often a worker was put out since its requests failed.
    pub ejections: u64,
    /// How many are out now.
    pub ejected: u64,
    /// What the cache was for its requests.
    pub cache: CacheCounts,
}

impl Counts {
    /// Adds what another thread, or another program's proxy, counted.
    pub fn add(&mut self, others: &Counts) {
        let Counts {
            requests,
            failures,
            in_flight,
            held,
            retries,
            retries_denied,
            timed_out,
            denied,
            refused_breaker,
            refused_full,
            refused_late,
            refused_shed,
            breaker_opened,
            breaker_is_open,
            ejections,
            ejected,
            cache,
        } = *others;
        let add = |sum: &mut u64, count| *sum = sum.saturating_add(count);
        add(&mut self.requests, requests);
        add(&mut self.failures, failures);
        add(&mut self.in_flight, in_flight);
        add(&mut self.held, held);
        add(&mut self.retries, retries);
        add(&mut self.retries_denied, retries_denied);
        add(&mut self.timed_out, timed_out);
        self.denied.add(&denied);
        add(&mut self.refused_breaker, refused_breaker);
        add(&mut self.refused_full, refused_full);
        add(&mut self.refused_late, refused_late);
        add(&mut self.refused_shed, refused_shed);
        add(&mut self.breaker_opened, breaker_opened);
        // The breaker is one for all threads of a proxy, and so is who is out.
        self.breaker_is_open |= breaker_is_open;
        add(&mut self.ejections, ejections);
        self.ejected = self.ejected.max(ejected);
        self.cache.add(&cache);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in() {
        let sent = [FromProxy::Applied { version: 7 }, FromProxy::Drained { run: u64::MAX }];
        let mut buffer = Vec::new();
        for message in &sent {
            encode(message, &mut buffer).unwrap();
        }
        let (first, taken) = decode::<FromProxy>(&buffer).unwrap().unwrap();
        let (second, rest) = decode::<FromProxy>(&buffer[taken..]).unwrap().unwrap();
        assert_eq!([first, second], sent);
        assert_eq!(taken + rest, buffer.len());
    }

    #[test]
    fn every_part_of_a_message_is_incomplete() {
        let mut buffer = Vec::new();
        encode(&ToProxy::HELLO, &mut buffer).unwrap();
        for end in 0..buffer.len() {
            assert!(decode::<ToProxy>(&buffer[..end]).unwrap().is_none(), "{end} bytes");
        }
    }

    #[test]
    fn a_length_is_refused_before_the_bytes_are_there() {
        let length = (MESSAGE_SIZE_MAX + 1).to_le_bytes();
        assert!(matches!(decode::<ToProxy>(&length), Err(CodecError::Size { .. })));
        assert!(decode::<ToProxy>(&MESSAGE_SIZE_MAX.to_le_bytes()).unwrap().is_none());
    }

    #[test]
    fn nonsense_and_unknown_types_are_errors() {
        for content in [&b"{"[..], b"\xff", br#"{"type":"surprise"}"#] {
            let mut buffer = u32::try_from(content.len()).unwrap().to_le_bytes().to_vec();
            buffer.extend(content);
            assert!(matches!(decode::<ToProxy>(&buffer), Err(CodecError::Content(_))), "{content:?}");
        }
    }

    #[test]
    fn a_message_that_cannot_be_written_leaves_the_buffer_alone() {
        let mut buffer = b"before".to_vec();
        let too_large = FromProxy::Refused {
            caller: None,
            target: "x".repeat(MESSAGE_SIZE_MAX as usize),
            reason: String::new(),
        };
        assert!(matches!(encode(&too_large, &mut buffer), Err(CodecError::Size { .. })));
        assert_eq!(buffer, b"before");
    }
}
