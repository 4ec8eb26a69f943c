//! The control API: HTTP/1.1 with JSON over the application's control socket, `/v1`.
//!
//! | method and path | what it does | reply |
//! |---|---|---|
//! | GET /v1/status | the whole application | [`Status`] |
//! | GET /v1/services/{service} | one service, with its effective configuration | [`Inspect`] |
//! | GET /v1/graph | which services wait for which | [`Graph`] |
//! | GET /v1/routes | which requests of clients go where | [`Routes`] |
//! | GET /v1/analyze?service=A | what the application's start waited for, or the last one of a service | [`Analysis`] |
//! | PUT /v1/services/{service}?plan=true&wait=true&folder=F&file=F | with one entry of `services`; applies that one | [`Reloaded`] |
//! | DELETE /v1/services/{service}?plan=true&wait=true&folder=F | takes one out of the application | [`Reloaded`] |
//! | GET /v1/limits | limits, with what they bound and did | [`Limits`] |
//! | GET /v1/audit?service=A&service=B&full=true | how exposed services leave everything else | [`Audit`] |
//! | POST /v1/limits/{service} | with [`LimitsChange`]; changes limits in place | [`LimitsChanged`] |
//! | POST /v1/start, /v1/stop, /v1/restart | with [`Selection`]; returns when done | [`Outcome`] |
//! | POST /v1/await | with [`Selection`]; returns when they are ready, or not going to be | [`Outcome`] |
//! | POST /v1/scale | with [`Scale`]; other numbers of workers; returns when they are ready | [`Scaled`] |
//! | POST /v1/reload | with [`Reload`]; reads the configuration again and applies what differs | [`Reloaded`] |
//! | POST /v1/run | with [`Run`]; starts a process that runs once, in a new sandbox of a service | [`TaskStarted`], or [`OfTask`]s |
//! | POST /v1/exec | with [`Exec`]; starts a command inside a worker's sandbox | [`OfTask`]s |
//! | GET /v1/tasks | every task that has not ended | [`Tasks`] |
//! | POST /v1/tasks/{task}/stop | with [`TaskStop`]; returns when nothing of it is left | [`TaskEnd`] |
//! | POST /v1/tasks/{task} | goes on with one of these whose daemon was replaced | [`OfTask`]s |
//! | POST /v1/upgrade | with [`Upgrade`]; has another version of watt take over; returns when it is about to | [`UpgradeState`] |
//! | GET /v1/upgrade | the last upgrade, or the one that is under way | [`UpgradeState`] |
//! | POST /v1/shutdown | with [`Shutdown`]; returns when everything but the supervisor has ended | [`Outcome`] |
//! | GET /v1/jobs | every job | [`Jobs`] |
//! | GET /v1/jobs/{job} | one job, with what came of it | [`JobDetail`] |
//! | GET /v1/jobs/{job}/next?count=N | the instants to come | [`JobInstants`] |
//! | POST /v1/jobs/{job}/run | with [`JobRequest`]; returns when it has begun, or ended | [`JobRun`] |
//! | POST /v1/jobs/{job}/pause, /v1/jobs/{job}/resume | whether it fires by itself | [`Job`] |
//! | GET /v1/events?since=N&follow=true | the event stream, one JSON object a line | [`Event`]s |
//! | GET /v1/logs?service=A&service=B&since=T&after=S&tail=N&follow=true | output, one JSON object a line | [`LogLine`]s |
//! | GET /v1/openapi.json | this, as OpenAPI 3.1 | |
//!
//! Errors are [`Problem`]s with a 4xx or 5xx status. Times are RFC 3339 in UTC with milliseconds.
//!
//! Of events, `since` leaves out those up to this number; a stream that cannot give all that followed begins with an
//! event of kind `skipped`. Of logs, `since` is a time, `after` the `seq` of the last line that is known already, and
//! `tail` how many of the last lines of the past (10,000 at most; all that is kept, when it is left out).

mod apply;
mod audit;
mod cache;
mod graph;
mod jobs;
mod routes;
mod scale;
mod tasks;
mod upgrade;

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mesh::{CacheCounts, Denied};

pub use self::{
    apply::{Applied, Apply},
    audit::{Audit, AuditBasis, AuditCheck, AuditFact, AuditState, AuditStep, AuditedService},
    cache::{Cache, CachePurged},
    graph::{Analysis, AnalyzedStart, Graph, GraphEdge, GraphGroup, GraphService},
    jobs::{
        Job, JobCause, JobDetail, JobInstant, JobInstants, JobRequest, JobResult, JobRun, JobState, Jobs,
    },
    routes::{ListenerRoutes, Routes},
    scale::{Scale, Scaled, ScaledBy, ScaledService, Scaling, ScalingRange},
    tasks::{
        Exec, OfTask, Run, TaskEnd, TaskInfo, TaskKind, TaskStarted, TaskState, TaskStop, Tasks, Terminal,
        ToTask, UPGRADE,
    },
    upgrade::{ProxyProcess, Upgrade, UpgradeProgram, UpgradeProgress, UpgradeState, UpgradeStep},
};

/// The application as it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Its name.
    pub app: String,
    /// The configuration file.
    pub file: PathBuf,
    /// The version of the running supervisor.
    pub version: String,
    /// When the application was started.
    pub started_at: String,
    /// When the configuration in force was read: at the start, or by a reload.
    #[serde(default)]
    pub loaded_at: String,
    /// Tells configuration files apart: the same text has the same digest.
    #[serde(default)]
    pub digest: String,
    /// Where clients come in: `http://127.0.0.1:3042`.
    pub gateway: Option<String>,
    /// All places where clients come in, where there are more than that one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<Listener>,
    /// TLS at the gateway, where it is spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Its three own processes.
    pub supervisor: Supervisor,
    /// Its services in the order of the configuration's names.
    pub services: Vec<Service>,
    /// Services of the file that were taken out of the application while it runs.
    #[serde(default)]
    pub taken_out: BTreeMap<String, Applied>,
    /// What this host cannot enforce or offer, in words; empty on a complete host.
    pub warnings: Vec<String>,
}

/// A listener of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Listener {
    /// `server`, or its name in `gateway.listeners`.
    pub name: String,
    /// Where it is: `https://127.0.0.1:443`, `unix:/run/shop.sock`.
    pub url: String,
}

/// TLS at the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Tls {
    /// Connections that began well, since the application was started.
    pub completed: u64,
    /// Those that did not, by the reason in one word.
    pub failed: BTreeMap<String, u64>,
    /// What is shown to clients.
    pub certificates: Vec<Certificate>,
}

/// A certificate of the gateway's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Certificate {
    /// Its file.
    pub file: PathBuf,
    /// The hosts that it is for.
    pub names: Vec<String>,
    /// Until when it holds.
    pub expires_at: String,
}

/// watt's own processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Supervisor {
    /// The spawner.
    pub spawner_pid: u32,
    /// The daemon.
    pub daemon_pid: u32,
    /// The mesh proxy; `None` while it is being replaced.
    pub proxy_pid: Option<u32>,
    /// How often the daemon was replaced.
    pub daemon_restarts: u64,
    /// How often the proxy was replaced.
    pub proxy_restarts: u64,
    /// Private memory of them together, in bytes.
    pub memory: u64,
    /// The program that spawner and daemon are, by the path where it was found.
    #[serde(default)]
    pub program: String,
    /// The proxies: mostly one. After an upgrade, that of the program before is there for as long as its connections are.
    #[serde(default)]
    pub proxies: Vec<ProxyProcess>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Service {
    /// Its name.
    pub id: String,
    /// The worst state among its workers, in the order failed, backoff, stopping, starting, ready.
    pub state: WorkerState,
    /// While it waits: the services it depends on that have not come as far as they must.
    #[serde(default)]
    pub waiting_for: Vec<String>,
    /// How many are ready.
    pub ready: u16,
    /// How many are wanted.
    pub wanted: u16,
    /// Why that is so, where it is another number than the configured one, or follows what there is to do.
    #[serde(default)]
    pub scaling: Option<Scaling>,
    /// Its workers.
    pub workers: Vec<Worker>,
    /// What the proxy counted.
    pub requests: Requests,
    /// The profile its sandbox starts from: `off`, `standard` or `strict`.
    #[serde(default)]
    pub sandbox: String,
    /// What is configured but not enforced on this host, with the reason.
    pub unenforced: Vec<String>,
    /// Where what it is was applied by itself, and is not what the file says.
    #[serde(default)]
    pub applied: Option<Applied>,
}

/// What the proxy counted for a service since the proxy started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Requests {
    /// All.
    pub total: u64,
    /// Those answered 500–599.
    pub failures: u64,
    /// Those being answered now.
    pub in_flight: u64,
    /// Those waiting for a worker now.
    pub held: u64,
    /// How often one was sent to a worker again.
    #[serde(default)]
    pub retries: u64,
    /// How often one was not, because as many were already as may be.
    #[serde(default)]
    pub retries_denied: u64,
    /// Those whose time was over, or that of each of their tries.
    #[serde(default)]
    pub timed_out: u64,
    /// Those that were denied by what they have to pass, and did not reach it.
    #[serde(default)]
    pub denied: Denied,
    /// Those that were refused, by the reason.
    #[serde(default)]
    pub refused: RequestsRefused,
    /// How often the breaker opened.
    #[serde(default)]
    pub breaker_opened: u64,
    /// Whether it is open now, or tries whether it may close.
    #[serde(default)]
    pub breaker_is_open: bool,
    /// How often a worker was ejected: it got no requests for a while, since those that it had failed.
    #[serde(default)]
    pub ejections: u64,
    /// How many workers are ejected now.
    #[serde(default)]
    pub ejected: u64,
    /// What the cache was for them. Those that it answered are not among the others.
    #[serde(default)]
    pub cache: CacheCounts,
}

/// Requests that were answered 503 because of a limit of their service, by the reason that the answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct RequestsRefused {
    /// The breaker was open.
    pub breaker_open: u64,
    /// As many were in flight and waited as may.
    pub bulkhead_full: u64,
    /// They had waited for as long as they may.
    pub queue_timeout: u64,
    /// More urgent ones came.
    pub shed: u64,
}

/// The state of a worker in one word; the numbers are beside it in [`Worker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "watt_core::worker::State is their documentation")]
pub enum WorkerState {
    Ready,
    Completed,
    Asleep,
    Down,
    Waiting,
    Starting,
    Unready,
    Draining,
    Stopping,
    Backoff,
    Failed,
}

/// What part a worker has while the workers of its service are replaced by new ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerPart {
    /// None.
    #[default]
    Stays,
    /// It will be replaced when its turn has come.
    Due,
    /// It is started to take over from the one with the same index.
    Replaces,
    /// It was stopped to be started anew, and is waited for.
    Returns,
    /// It is of an earlier configuration, because the one that was to replace it did not get ready.
    Outdated,
    /// It goes for good.
    Leaves,
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Worker {
    /// Counts from 0 within the service. While a worker is replaced, its index is there twice.
    pub index: u16,
    /// Its part when its service's workers are replaced.
    #[serde(default)]
    pub part: WorkerPart,
    /// What it is doing.
    pub state: WorkerState,
    /// The run, while there is one.
    pub run: Option<u64>,
    /// Its main process.
    pub pid: Option<u32>,
    /// When this run was started.
    pub started_at: Option<String>,
    /// When the state was entered.
    pub since: String,
    /// Where it accepts: `unix:/run/…`, `tcp:127.0.0.1:3000`, `private:127.0.0.1:3000`.
    pub endpoint: Option<String>,
    /// Milliseconds until the next retry, kill or start timeout, whichever the state has.
    pub deadline_ms: Option<u64>,
    /// Restarts after an exit or a stall, without the operator's.
    pub restarts: u64,
    /// What it says of itself: `STATUS=` of sd_notify(3).
    #[serde(default)]
    pub says: Option<String>,
    /// Whether it is reading its own configuration again, as it says: `RELOADING=1` of sd_notify(3).
    #[serde(default)]
    pub reloading: bool,
    /// The names of the descriptors that are kept for its successor: `FDSTORE=1` of sd_notify(3).
    #[serde(default)]
    pub stored: Vec<String>,
    /// How the last run ended: `exit 3`, `signal 9 (KILL)`, `oom (limit 512M)`, `start timeout (30s)`, `recycled: memory pressure 43 %`,
    /// `exec: cwd /srv/x: no such file or directory`.
    pub last_exit: Option<Exit>,
    /// Memory of the worker with all its processes, in bytes.
    pub memory: Option<u64>,
    /// CPU time used by this run, in microseconds.
    pub cpu_us: Option<u64>,
    /// CPU use over the last second or more, in thousandths of one CPU.
    pub cpu_millis: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Its limit of processes and threads, if it has one.
    #[serde(default)]
    pub pids_limit: Option<PidsLimit>,
    /// What its processes stall for at the moment, of what `pressure` of its service has told.
    #[serde(default)]
    pub pressure: Vec<Pressure>,
    /// The last lines it wrote, oldest first; filled when it failed to start or has failed.
    pub last_output: Vec<String>,
}

/// That processes of a worker wait for something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pressure {
    /// For what: `memory`, `cpu`, `io`.
    pub resource: String,
    /// The part of the last two seconds in which some process did, in percent.
    pub percent: u8,
    /// How long it has been so without a pause, in milliseconds.
    pub for_ms: u64,
}

/// What the limit of processes and threads did to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PidsLimit {
    /// The limit.
    pub max: u32,
    /// How many forks and threads it refused to the last run that met it.
    pub refused: u64,
}

/// Limits, and what they bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// All services together, then each service with its workers.
    pub groups: Vec<Limited>,
}

/// What a limit bounds: all services, all workers of one, or one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limited {
    /// The service; `None` for all of them together.
    pub service: Option<String>,
    /// The worker; `None` for all of them together.
    pub worker: Option<u16>,
    /// The limits, by their keys and as the configuration writes them.
    pub limits: BTreeMap<String, String>,
    /// Bytes of memory in use.
    pub memory: Option<u64>,
    /// The most bytes of memory so far.
    pub memory_peak: Option<u64>,
    /// CPU time used, in microseconds.
    pub cpu_us: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// What the limits did.
    pub hits: LimitHits,
}

/// What limits did so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LimitHits {
    /// Processes killed for memory.
    pub oom_kills: u64,
    /// Times it was slowed down at `memory_high`.
    pub memory_high: u64,
    /// Forks and threads refused.
    pub pids: u64,
    /// Periods in which its CPU time was used up.
    pub cpu: u64,
    /// How long it waited in them, in microseconds.
    pub cpu_us: u64,
}

/// A change of limits while the application runs. It is gone when the application is started anew.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsChange {
    /// For each worker: values by key, both as in the configuration; `none` takes a limit away. What is not named stays.
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
    /// For all workers of the service together.
    #[serde(default)]
    pub limits_total: BTreeMap<String, String>,
}

/// What became of a change of limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LimitsChanged {
    /// Those of each worker now, by their keys and as the configuration writes them.
    pub limits: BTreeMap<String, String>,
    /// Those of all workers of the service together now.
    pub limits_total: BTreeMap<String, String>,
    /// What is not enforced, with the reason.
    pub unenforced: Vec<String>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exit {
    /// One of `exit`, `signal`, `oom`, `stopped`, `start_timeout`, `group`, `recycled`, `unhealthy`, `pre_start`, `exec_failed`, `unknown`.
    pub cause: String,
    /// The exit status, the signal's number or the error number, where the cause has one.
    pub code: Option<i32>,
    /// In words, as people read it.
    pub text: String,
    /// When.
    pub at: String,
}

/// A service in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Inspect {
    /// What it is doing.
    pub service: Service,
    /// Its effective configuration, with every default; secrets left out.
    pub config: serde_json::Value,
    /// The folder of its log files.
    pub log_dir: PathBuf,
    /// Its workers' cgroups.
    pub cgroups: Vec<PathBuf>,
    /// What its private workers did outside the mesh since the proxy started, by destination. Of very many destinations some
    /// are counted together, in the last one.
    #[serde(default)]
    pub outside: Vec<Outgoing>,
}

/// What a service did at one destination outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outgoing {
    /// `db.example.org:5432` where it asked for the name, else the address and port; the name alone where the question for it
    /// was refused. `None` is all others together.
    pub to: Option<String>,
    /// Connections that were made.
    pub connections: u64,
    /// Those of them that are open.
    pub open: u64,
    /// Connections that failed.
    pub failed: u64,
    /// Connections and questions that its `egress.allow` does not have.
    pub refused: u64,
    /// Bytes from the service.
    pub sent: u64,
    /// Bytes to the service.
    pub received: u64,
    /// How long it took to connect on average, in microseconds, if it ever did.
    pub connect_us_mean: Option<u64>,
    /// How long it took at most.
    pub connect_us_max: Option<u64>,
    /// When it was last tried.
    pub last_at: String,
}

/// Which services an operation is for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// By name; empty is all of them.
    #[serde(default)]
    pub services: Vec<String>,
}

/// How to read the configuration again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// Only say what would change.
    #[serde(default)]
    pub plan: bool,
    /// Answer when new workers have taken over and what was removed has gone, or when they are not going to.
    #[serde(default)]
    pub wait: bool,
    /// The folder that paths in messages are relative to.
    #[serde(default)]
    pub folder: Option<PathBuf>,
}

/// What a reload came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// Whether everything that was waited for came about.
    pub ok: bool,
    /// Whether the changes hold now; not, when only the plan was asked for.
    pub applied: bool,
    /// What differs from the configuration that was in force; empty when nothing does.
    pub changes: Vec<Change>,
    /// What stays although the configuration has it otherwise, and why: numbers of workers that an operator changed.
    #[serde(default)]
    pub stay: Vec<String>,
    /// Services that are again as the file has them, in place of what was applied of them.
    #[serde(default)]
    pub taken_back: Vec<String>,
    /// What was waited for, by service: `ready`, `gone`, or why not.
    #[serde(default)]
    pub services: BTreeMap<String, String>,
}

/// One difference between two configurations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// The service it is about; `None` for the application as a whole.
    pub service: Option<String>,
    /// What became of it.
    pub kind: ChangeKind,
    /// The key of the configuration; `None` for a whole service.
    pub key: Option<String>,
    /// The value before, where it is short and no secret.
    pub before: Option<String>,
    /// The value now.
    pub after: Option<String>,
    /// What it takes.
    pub effect: ChangeEffect,
}

/// What became of something in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they say it themselves")]
pub enum ChangeKind {
    Added,
    Removed,
    Changed,
}

/// What a change takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChangeEffect {
    /// It holds at once, for what runs as well.
    InPlace,
    /// It holds for what happens next: a start, an exit, a stop.
    FromNowOn,
    /// Workers are started or stopped.
    Workers,
    /// The listener for clients is bound anew.
    Listener,
    /// Running workers are replaced by new ones.
    NewWorkers,
}

/// How to end the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shutdown {
    /// Kill at once in place of draining.
    #[serde(default)]
    pub now: bool,
}

/// What an operation came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outcome {
    /// Whether everything asked for was reached.
    pub ok: bool,
    /// By service: `ready`, `down`, or why not.
    pub services: BTreeMap<String, String>,
}

/// An error reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// One word for programs: `unknown_service`, `bad_request`, `forbidden`, `busy`, `internal`, `config`, `not_while_running`.
    pub code: String,
    /// What was wrong.
    pub message: String,
    /// What to do, when we know.
    pub hint: Option<String>,
    /// For `config`: every error of the configuration with its place, as `wattctl config check --json` has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Box<serde_json::Value>>,
}

/// Something that happened. Each is self-contained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Grows by one; `since` of the stream resumes after it.
    pub seq: u64,
    /// When.
    pub at: String,
    /// What: `worker_state`, `check_failed`, `oom`, `pids_limit`, `slowed_down`, `pressure`, `pressure_over`, `limits_changed`, `scaled`, `scaling_refused`, `reloaded`, `reload_refused`, `roll`, `roll_failed`, `rolled_back`, `upgrade_started`, `upgraded`, `upgrade_rolled_back`, `refused`, `egress_refused`, `request_lost`, `circuit_opened`, `circuit_closed`, `requests_refused`, `worker_ejected`, `worker_returned`, `openapi_problem`,
    /// `job_started`, `job_ended`, `job_missed`, `job_skipped`, `proxy_replaced`, `daemon_replaced`, `app_ready`, `app_stopping`,
    /// `task_started`, `task_ended`, `webhook_ended`.
    pub kind: String,
    /// The service it is about.
    pub service: Option<String>,
    /// The worker it is about.
    pub worker: Option<u16>,
    /// The run it is about.
    pub run: Option<u64>,
    /// In words.
    pub text: String,
    /// For `worker_state`: the state entered.
    pub state: Option<WorkerState>,
    /// For a run that ended: how.
    pub exit: Option<Exit>,
    /// Further facts, by name.
    #[serde(default)]
    pub data: BTreeMap<String, serde_json::Value>,
}

/// One line of a worker's output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LogLine {
    /// When it was read.
    pub at: String,
    /// The service.
    pub service: String,
    /// The worker; 0 for a task.
    pub worker: u16,
    /// The task, when it is one's line: `t7`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub task: Option<String>,
    /// The run.
    pub run: u64,
    /// `stdout` or `stderr`.
    pub stream: Stream,
    /// The line, when it was not a JSON object; bytes that are not UTF-8 are replaced.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub text: Option<String>,
    /// The line, when it was a JSON object.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub json: Option<serde_json::Value>,
    /// Set on all but the last part of a line that was longer than 8 KiB, or that stood unfinished for a second (a
    /// prompt). The last part may be empty.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub partial: bool,
    /// Orders the lines of all workers: microseconds since the Unix epoch, made unique by counting up. A stream
    /// resumes after it with `after=`.
    #[serde(default)]
    pub seq: u64,
    /// In place of `text` and `json`: so many lines of this service are missing here, because the reader was slower
    /// than the writer. They are in the log files.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub skipped: Option<u64>,
}

/// Which of its streams a worker wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they say it themselves")]
pub enum Stream {
    Stdout,
    Stderr,
}

/// What this host offers, one line a feature; `wattctl doctor` prints it and `up` warns from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Doctor {
    /// The features.
    pub features: Vec<Feature>,
}

/// One feature of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Feature {
    /// Its name: `cgroup memory limit`, `private network`, `names in /etc/hosts`.
    pub name: String,
    /// Whether it works.
    pub state: FeatureState,
    /// How it works, or why it does not.
    pub detail: String,
    /// The command or setting that would turn it on.
    pub fix: Option<String>,
}

/// Whether a feature works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "they say it themselves")]
pub enum FeatureState {
    On,
    Degraded,
    Off,
}
