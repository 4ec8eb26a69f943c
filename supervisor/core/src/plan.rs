//! What an application is meant to be: the validated configuration, with every default applied and every path
//! absolute. `watt-config` makes it, everything else reads it.

mod cache;
mod dependency;
mod files;
mod guard;
mod hooks;
mod jobs;
mod listener;
mod openapi;
mod pressure;
mod roll;
mod route;
mod scaling;
mod shared;
mod traffic;
mod upstream;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU16,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use crate::{AppName, JobId, ServiceId, sandbox::Sandbox};

pub use cache::{Cache, CacheCookies, CacheStore, RouteCache};
pub use dependency::{Condition, Dependency, Group, GroupStrategy};
pub use files::Files;
pub use guard::{
    AccessRule, AddressRule, ApiKey, Auth, Authority, Basic, Caller, CertificateNames, Cors, CountedBy,
    Filter, Guard, Hidden, Jwt, KeysAt, RateLimit, RemoteKeys, User,
};
pub use hooks::{Hook, HookAct, HookPoint, Receiver, Webhook};
pub use jobs::{Call, CatchUp, Job, Overlap, Work};
pub use listener::{
    CertificateFiles, ClientAuthorities, ClientBounds, HEAD_SIZE_MAX, ListenAt, Listener, SocketOwner, Tls,
    TlsVersion, ToHttps,
};
pub use openapi::{ApiPage, DescribedBy, Description, Notice};
pub use pressure::{PRESSURE_WINDOW, Pressure, Resource};
pub use roll::{OnFailure, Roll, Share, Steps};
pub use route::{
    Compress, HeaderRules, PathMatch, RequestPart, Route, RouteCondition, RouteFault, RouteTarget, ValueTest,
};
pub use scaling::{Scaling, Targets, Workers};
pub use shared::Shared;
pub use traffic::{Balance, Believed, Breaker, Bulkhead, Ejection, Failure, HashKey, Retries, Traffic};
pub use upstream::{Upstream, UpstreamServer};

/// A whole application.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The application's name.
    pub name: AppName,
    /// The configuration file this came from.
    pub file: PathBuf,
    /// The folder of that file; relative paths start there.
    pub root: PathBuf,
    /// Where clients come in, by name; none when no gateway is configured.
    pub listeners: BTreeMap<String, Listener>,
    /// Every service by name.
    pub services: BTreeMap<ServiceId, Service>,
    /// Services that are started anew together, by the group's name.
    pub groups: BTreeMap<String, Group>,
    /// Gateway routes, in the order they were written, of listeners that have none of their own. Which one wins is decided by length, not by
    /// order.
    pub routes: Vec<Route>,
    /// Who may call whom. Empty means that every service may call every other one.
    pub policies: Vec<Policy>,
    /// How long a request may wait for a service that has no ready worker at the moment.
    pub hold: Hold,
    /// Bytes a second that a client's request body has to come with, on average, after its first minute; 0 is any rate.
    pub body_rate_min: u64,
    /// How much is stored of responses.
    pub cache: CacheStore,
    /// Whether the configuration is read again whenever its file changes.
    pub reload_on_change: bool,
    /// Where and how much output is kept.
    pub logs: Logs,
    /// The ceiling of the whole application.
    pub limits: CgroupLimits,
    /// Where the values of secrets come from, by name.
    pub secrets: BTreeMap<String, Secret>,
    /// Who else than root and the supervisor's user may use the control socket: groups of the host by name.
    pub control: BTreeMap<String, Role>,
    /// What is done at certain times, by name.
    pub jobs: BTreeMap<JobId, Job>,
}

/// Bounds on requests that wait for a worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    /// How long one request waits.
    pub timeout: Duration,
    /// How many may wait for one service at a time.
    pub requests_max: usize,
}

/// Bounds on kept output.
#[derive(Debug, Clone, PartialEq)]
pub struct Logs {
    /// Folder of the log files; `None` lets the daemon choose the host's usual place.
    pub dir: Option<PathBuf>,
    /// A file is rotated when it reaches this many bytes.
    pub file_size_max: u64,
    /// How many files, the current one included, are kept for one service.
    pub files_max: u32,
    /// Whether lines go to systemd's journal as well; `None`: where watt's own output does.
    pub journal: Option<bool>,
    /// Which requests are written to `access.log`; `None` is none.
    pub access: Option<AccessLog>,
}

/// What is written of requests.
#[derive(Debug, Clone, PartialEq)]
pub struct AccessLog {
    /// Of calls between services as well, and not of those of clients alone.
    pub mesh: bool,
    /// So many of a hundred, from 1. Those that fail are written in any case.
    pub percent: u8,
    /// Fields of requests that are written, by name in lower case.
    pub headers: Vec<String>,
    /// With the query.
    pub query: bool,
}

/// One service. What takes much and is the same for most services is [`Shared`].
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// Its name.
    pub id: ServiceId,
    /// The working directory.
    pub path: PathBuf,
    /// Program and arguments; never empty. `{socket}` and `{port}` in an argument or an environment value are
    /// replaced for each worker.
    pub command: Vec<String>,
    /// Variables added to the service's environment. The environment of a worker is a pure function of the
    /// plan: these, watt's own, and the few inherited ones listed in docs/environment.md.
    pub env: BTreeMap<String, String>,
    /// Variables that it does not get after all, whoever set them, but for watt's own.
    pub unset_env: BTreeSet<String>,
    /// What the program reads as its standard input, by the path it sees; `None` is nothing.
    pub stdin: Option<PathBuf>,
    /// How many workers run.
    pub workers: Workers,
    /// Over which time a worker that has got ready comes to its full share of requests, where it does not have it at once.
    pub slow_start: Option<Duration>,
    /// How the program accepts connections.
    pub listen: Listen,
    /// What it speaks there.
    pub protocol: Protocol,
    /// Which network it sees.
    pub network: Network,
    /// What a private service may reach outside the mesh.
    pub egress: Egress,
    /// What has to be true before this service starts.
    pub depends_on: BTreeMap<ServiceId, Dependency>,
    /// What has to be seen before a worker's readiness is looked for; for programs that take long to come up.
    pub startup: Option<Startup>,
    /// When a worker counts as ready.
    pub ready: Shared<Ready>,
    /// What a ready worker has to go on showing, or it is replaced.
    pub health: Option<Health>,
    /// What follows an exit.
    pub restart: Shared<Restart>,
    /// By how many at a time its workers are replaced.
    pub roll: Roll,
    /// How a worker is stopped.
    pub stop: Stop,
    /// What is run at points of a worker's life.
    pub hooks: BTreeMap<HookPoint, Hook>,
    /// What the kernel enforces for each worker.
    pub limits: Shared<Limits>,
    /// The ceiling of all its workers together.
    pub limits_total: Shared<CgroupLimits>,
    /// What is made of a worker that stalls.
    pub pressure: Shared<Pressure>,
    /// How its processes are scheduled.
    pub scheduling: Scheduling,
    /// What it may see and do. Most services of an application share one.
    pub sandbox: Arc<Sandbox>,
    /// Secrets it gets as files in `$CREDENTIALS_DIRECTORY`, by the name of the file: which of [`Plan::secrets`].
    pub secrets: BTreeMap<String, String>,
    /// What it may ask of the control API; `None` gives it no way there.
    pub management: Option<Role>,
    /// How many descriptors a worker may have kept for its successor (`FDSTORE=1` of sd_notify(3)).
    pub fd_store: u16,
    /// Timeouts of requests sent to this service.
    pub timeouts: Shared<Timeouts>,
    /// What becomes of requests that do not go as they should.
    pub traffic: Shared<Traffic>,
    /// What requests have to pass, whoever calls.
    pub guard: Shared<Guard>,
    /// Which of its responses are stored, if any are.
    pub cache: Option<Cache>,
    /// Where its API is described, if it is.
    pub openapi: Option<Description>,
}

/// What a private service may reach outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Egress {
    /// Destinations it may connect to. `None` allows all, an empty list none.
    pub allow: Option<Vec<EgressRule>>,
    /// Ports of the host's own localhost it may reach, at its own localhost.
    pub host_ports: BTreeSet<u16>,
}

/// A set of destinations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressRule {
    /// Where.
    pub to: Destination,
    /// The only port, or every one.
    pub port: Option<NonZeroU16>,
}

/// Hosts outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Every one.
    Anywhere,
    /// The host of this name, lower case; `*.example.org` is every name below.
    Name(String),
    /// The addresses that begin with this many bits of this one.
    Network(IpAddr, u8),
}

/// Where a secret's value comes from. The value itself is never part of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// A file.
    File(PathBuf),
    /// A variable of the supervisor's environment or of `.env`.
    Environment(String),
    /// A credential that systemd loaded for the unit (`LoadCredential=`).
    Credential(String),
    /// What this program writes to its standard output.
    Command(Vec<String>),
}

/// What somebody may ask of the control API. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// To look: status, events, logs.
    View,
    /// To start, stop and restart services.
    Operate,
    /// Everything.
    Admin,
}

/// How a program accepts connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Whatever the kernel shows it listening on.
    Auto,
    /// On the Unix socket named by `$WATT_SOCKET` and `{socket}`.
    Unix,
    /// On an inherited descriptor, by systemd's protocol (sd_listen_fds(3)).
    Fd,
    /// On TCP port `$PORT` and `{port}`. `None` lets watt choose the number.
    Port(Option<NonZeroU16>),
    /// Not at all.
    None,
}

/// What a program speaks on the connections that it accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1, or what is no HTTP at all.
    Http1,
    /// HTTP/2 without TLS, from the first byte on.
    H2c,
}

/// Which network a worker sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Its own network namespace.
    Private,
    /// The host's.
    Host,
}

/// When a worker counts as ready, and how long it may take.
#[derive(Debug, Clone, PartialEq)]
pub struct Ready {
    /// The sign to wait for.
    pub when: ReadyWhen,
    /// A worker that has not shown it after this time is stopped and counts as failed.
    pub timeout: Duration,
    /// How the check goes on once it has passed; `None` for signs that are seen once. A worker that fails gets no requests until it
    /// passes again.
    pub upkeep: Option<Rhythm>,
}

/// What comes before readiness.
#[derive(Debug, Clone, PartialEq)]
pub struct Startup {
    /// What is tried.
    pub check: Check,
    /// A worker that has not passed after this time is stopped and counts as failed. `ready.timeout` begins when it has.
    pub timeout: Duration,
}

/// What a ready worker has to go on showing.
#[derive(Debug, Clone, PartialEq)]
pub enum Health {
    /// That it passes a check.
    Check(Check, Rhythm),
    /// A `WATCHDOG=1` (sd_notify(3)) at least this often.
    Watchdog(Duration),
}

/// What is tried at a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// A GET.
    Http(HttpCheck),
    /// A connection, which has to be accepted.
    Tcp,
    /// A call of `grpc.health.v1.Health/Check`.
    Grpc(GrpcCheck),
    /// Program and arguments: run inside the worker's walls, it has to end with exit status 0. `{socket}` and `{port}` are replaced as
    /// in a service's command.
    Exec(Vec<String>),
}

impl Check {
    /// Whether it is made over a connection, to where the worker accepts.
    pub fn needs_listener(&self) -> bool {
        match self {
            Check::Http(_) | Check::Tcp | Check::Grpc(_) => true,
            Check::Exec(_) => false,
        }
    }
}

/// A GET and what has to come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpCheck {
    /// The path and query, starting with `/`.
    pub path: String,
    /// The lowest and the highest status that passes.
    pub status: (u16, u16),
    /// Fields of the request's head.
    pub headers: BTreeMap<String, String>,
    /// What the answer's body has to contain.
    pub body: Option<String>,
}

/// A call of `grpc.health.v1.Health/Check`, which has to be answered with `SERVING`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrpcCheck {
    /// Which service of the server is asked about; the server as a whole when it is empty.
    pub service: String,
    /// What is called, if not by the service's name in the mesh.
    pub authority: Option<String>,
}

/// How a check is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    /// From the end of one to the next.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// So many in a row that fail are a failure.
    pub failures: u32,
}

/// The sign of readiness.
#[derive(Debug, Clone, PartialEq)]
pub enum ReadyWhen {
    /// The program was executed; for services that do not listen.
    Started,
    /// The kernel shows it listening where requests will be sent.
    Listening,
    /// A check passes.
    Check(Check),
    /// A line of output contains a match of this regular expression.
    Log {
        /// The pattern, already checked.
        pattern: String,
    },
    /// The program sends `READY=1` (sd_notify(3)).
    Notify,
    /// The program writes a line break to the inherited descriptor of this number, as those do that s6 supervises.
    NotificationFd(u16),
}

/// What follows an exit.
#[derive(Debug, Clone, PartialEq)]
pub struct Restart {
    /// Which exits are followed by a restart.
    pub policy: RestartPolicy,
    /// The wait before the first retry.
    pub backoff_first: Duration,
    /// The longest wait. Waits double from the first to this one, with jitter of ±20 %.
    pub backoff_max: Duration,
    /// A worker that was ready for this long starts with a clean record, and restarts at once.
    pub healthy_after: Duration,
    /// This many failures …
    pub give_up_failures: u32,
    /// … within this time make the worker `Failed`.
    pub give_up_within: Duration,
    /// A `Failed` worker is tried again after this time; `None` leaves it to the operator.
    pub retry_failed_after: Option<Duration>,
    /// How a worker is replaced by another one.
    pub order: RestartOrder,
}

/// How a worker is replaced when an operator restarts it, or another plan needs a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartOrder {
    /// The new one gets ready before the old one is stopped, where both can run at a time.
    StartFirst,
    /// The old one is stopped before the new one is started.
    StopFirst,
}

/// Which exits are followed by a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Every one.
    Always,
    /// Those that were not exit status 0.
    OnFailure,
    /// None: the service runs to completion.
    Never,
}

/// How a worker is stopped: leave the table, drain, signal, grace, kill.
#[derive(Debug, Clone, PartialEq)]
pub struct Stop {
    /// The signal the main process gets first; a number of signal(7).
    pub signal: i32,
    /// How long requests in flight may take before the signal is sent anyway.
    pub drain: Duration,
    /// How long the processes may take after the signal before they are killed.
    pub grace: Duration,
}

/// What the kernel enforces for each worker.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Limits {
    /// By its cgroup.
    pub cgroup: CgroupLimits,
    /// Whether an out-of-memory kill takes every process of the worker (`memory.oom.group`). On by default: half
    /// a worker is worse than none.
    pub oom_group: bool,
    /// Resource limits by their setrlimit(2) name.
    pub rlimits: BTreeMap<Rlimit, RlimitValue>,
}

/// What a cgroup limits (cgroup-v2.rst of the kernel). `None` leaves the kernel's or the host's own limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CgroupLimits {
    /// Bytes of memory; more is an out-of-memory kill (`memory.max`).
    pub memory: Option<u64>,
    /// Bytes of memory above which the kernel slows the group down and reclaims (`memory.high`).
    pub memory_high: Option<u64>,
    /// Bytes that are reclaimed from others first (`memory.low`).
    pub memory_low: Option<u64>,
    /// Bytes that are never reclaimed (`memory.min`).
    pub memory_min: Option<u64>,
    /// Bytes of swap (`memory.swap.max`); none where `memory` is set and this is not.
    pub swap: Option<u64>,
    /// CPU time in thousandths of one CPU: 1500 is one and a half (`cpu.max`).
    pub cpu_millis: Option<u32>,
    /// Share of CPU time among neighbours that all want it, 1 to 10,000; the kernel's own is 100 (`cpu.weight`).
    pub cpu_weight: Option<u16>,
    /// The CPUs it may run on (`cpuset.cpus`); empty allows all.
    pub cpus: BTreeSet<u16>,
    /// Processes and threads (`pids.max`).
    pub pids: Option<u32>,
    /// Share of a disk's time, 1 to 10,000 (`io.weight`).
    pub io_weight: Option<u16>,
    /// Bounds by block device (`io.max`), the device or any path on it.
    pub io: BTreeMap<PathBuf, IoLimits>,
    /// Bytes of huge pages by page size, as the kernel writes it: `2MB` (`hugetlb.2MB.max`).
    pub hugetlb: BTreeMap<String, u64>,
}

/// Bounds on one block device (`io.max`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoLimits {
    /// Bytes a second that are read.
    pub read_bytes: Option<u64>,
    /// Bytes a second that are written.
    pub write_bytes: Option<u64>,
    /// Reads a second.
    pub read_ops: Option<u64>,
    /// Writes a second.
    pub write_ops: Option<u64>,
}

/// How processes are scheduled (sched(7)). `None` leaves what the supervisor has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scheduling {
    /// -20, the most eager, to 19.
    pub nice: Option<i8>,
    /// The CPU scheduling policy.
    pub policy: Option<SchedulingPolicy>,
    /// The CPUs its threads may run on (sched_setaffinity(2)); empty allows all.
    pub affinity: BTreeSet<u16>,
    /// The I/O scheduling class and its level, 0 to 7 (ioprio_set(2)).
    pub io: Option<IoPriority>,
    /// How eagerly the kernel kills it when the host is out of memory, -1000 to 1000 (proc_pid_oom_score_adj(5)).
    pub oom_score_adj: Option<i16>,
}

/// A CPU scheduling policy of sched(7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchedulingPolicy {
    /// Time-sharing, the usual one.
    Other,
    /// Time-sharing for work that does not interact.
    Batch,
    /// When nothing else runs.
    Idle,
    /// Realtime, first in first out, with this priority of 1 to 99.
    Fifo(u8),
    /// Realtime, in turns, with this priority of 1 to 99.
    RoundRobin(u8),
}

/// An I/O scheduling class of ioprio_set(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoPriority {
    /// First access to the disk, with this level.
    Realtime(u8),
    /// The usual class, with this level.
    BestEffort(u8),
    /// When nobody else wants the disk.
    Idle,
}

/// A resource of setrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "setrlimit(2) is their documentation")]
pub enum Rlimit {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// The soft and hard value of a resource limit; `u64::MAX` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RlimitValue {
    /// What the process meets; it may raise it up to `hard`.
    pub soft: u64,
    /// What the process cannot pass.
    pub hard: u64,
}

/// Timeouts of requests that the mesh sends to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// To reach a worker.
    pub connect: Duration,
    /// From the whole request head sent to the response head.
    pub first_byte: Duration,
    /// With no byte in either direction while a body is on its way.
    pub idle: Duration,
    /// From when a worker has the whole request to the response head, before another worker is asked.
    pub per_try: Option<Duration>,
    /// From the whole request head to the end of the response.
    pub total: Option<Duration>,
}

/// A permission: `from` may call `to`. When any policy names a service as `to`, only those named may call it.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The caller.
    pub from: ServiceId,
    /// The one called.
    pub to: ServiceId,
}

impl Default for Hold {
    fn default() -> Self {
        Hold { timeout: Duration::from_secs(10), requests_max: 1000 }
    }
}

impl Default for Logs {
    fn default() -> Self {
        Logs { dir: None, file_size_max: 10 << 20, files_max: 10, journal: None, access: None }
    }
}

impl Service {
    /// Has together with another one what both have in common.
    pub fn join(&mut self, other: &Service) {
        self.ready.join(&other.ready);
        self.restart.join(&other.restart);
        self.limits.join(&other.limits);
        self.limits_total.join(&other.limits_total);
        self.pressure.join(&other.pressure);
        self.timeouts.join(&other.timeouts);
        self.traffic.join(&other.traffic);
        self.guard.join(&other.guard);
    }

    /// How often it has to say that it lives, if it has to.
    pub fn watchdog(&self) -> Option<Duration> {
        match self.health {
            Some(Health::Watchdog(interval)) => Some(interval),
            Some(Health::Check(..)) | None => None,
        }
    }

    /// What is tried at its workers: at the start, for readiness, for health.
    pub fn checks(&self) -> impl Iterator<Item = &Check> {
        let startup = self.startup.as_ref().map(|startup| &startup.check);
        let ready = match &self.ready.when {
            ReadyWhen::Check(check) => Some(check),
            ReadyWhen::Started
            | ReadyWhen::Listening
            | ReadyWhen::Log { .. }
            | ReadyWhen::Notify
            | ReadyWhen::NotificationFd(_) => None,
        };
        let health = match &self.health {
            Some(Health::Check(check, _)) => Some(check),
            Some(Health::Watchdog(_)) | None => None,
        };
        [startup, ready, health].into_iter().flatten()
    }

    /// Whether it is told where to say something: `$NOTIFY_SOCKET`.
    pub fn notifies(&self) -> bool {
        self.ready.when == ReadyWhen::Notify || self.watchdog().is_some() || self.fd_store > 0
    }
}

impl HttpCheck {
    /// A GET of this path that has to be answered with a status from 200 to 399.
    pub fn of(path: impl Into<String>) -> HttpCheck {
        HttpCheck { path: path.into(), status: (200, 399), headers: BTreeMap::new(), body: None }
    }
}

impl Default for Rhythm {
    fn default() -> Self {
        Rhythm { interval: Duration::from_secs(10), timeout: Duration::from_secs(1), failures: 3 }
    }
}

impl Default for Restart {
    fn default() -> Self {
        Restart {
            policy: RestartPolicy::Always,
            backoff_first: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
            healthy_after: Duration::from_secs(30),
            give_up_failures: 5,
            give_up_within: Duration::from_secs(60),
            retry_failed_after: Some(Duration::from_secs(300)),
            order: RestartOrder::StartFirst,
        }
    }
}

impl Default for Stop {
    fn default() -> Self {
        Stop { signal: 15, drain: Duration::from_secs(5), grace: Duration::from_secs(10) }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(60),
            idle: Duration::from_secs(60),
            per_try: None,
            total: None,
        }
    }
}
