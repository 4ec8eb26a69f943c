//! What the control server asks of the loop: one closed list. Each command carries the channel for its answer; a
//! client that has gone away leaves a closed channel, and what it started goes on.

use std::collections::BTreeMap;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use watt_api::control::{
    Analysis, Audit, Cache, CachePurged, Graph, Inspect, Job, JobDetail, JobInstants, JobRun, Jobs, Limits,
    LimitsChange, LimitsChanged, Outcome, Reload, Reloaded, Routes, Scaled, Status, Upgrade, UpgradeState,
};
use watt_api::mesh::CachePurge;
use watt_core::{ServiceId, plan::Role};

use crate::{jobs::Order, proxies::Edges, reload, tasks};

/// Where an answer goes. Sending fails when the client has gone, which is none of the loop's business.
pub type Reply<T> = oneshot::Sender<Result<T, Refusal>>;

/// A request to the loop.
#[derive(Debug)]
pub enum Command {
    /// The names of all services. Always legal.
    Names {
        /// The answer.
        reply: Reply<Vec<ServiceId>>,
    },
    /// Which service a process is of, and what that may do. Always legal.
    ServiceOf {
        /// The process and those above it, up to a child of the spawner.
        line: Vec<u32>,
        /// The answer.
        reply: Reply<Option<(ServiceId, Option<Role>)>>,
    },
    /// The whole application. Always legal.
    Status {
        /// The answer.
        reply: Reply<Box<Status>>,
    },
    /// One service in full. Always legal.
    Inspect {
        /// Which.
        service: ServiceId,
        /// The answer.
        reply: Reply<Box<Inspect>>,
    },
    /// Which services wait for which. Always legal.
    Graph {
        /// The answer.
        reply: Reply<Box<Graph>>,
    },
    /// Which requests of clients go where. Always legal.
    Routes {
        /// The answer.
        reply: Reply<Box<Routes>>,
    },
    /// What was counted of requests by where they came from; `None` when that is not known yet. Always legal.
    Edges {
        /// The answer.
        reply: Reply<Option<Edges>>,
    },
    /// What the proxy has stored of responses. Always legal.
    Cache {
        /// The answer.
        reply: Reply<Box<Cache>>,
    },
    /// Remove some of it. Always legal.
    PurgeCache {
        /// What.
        purge: CachePurge,
        /// Answered when the proxy has done it.
        reply: Reply<CachePurged>,
    },
    /// What a start waited for: the application's, or the last one of a service. Always legal.
    Analyze {
        /// Which.
        service: Option<ServiceId>,
        /// The answer.
        reply: Reply<Box<Analysis>>,
    },
    /// Limits, with what they bound and did. Always legal.
    Limits {
        /// The answer.
        reply: Reply<Limits>,
    },
    /// How exposed services leave everything else. Always legal.
    Audit {
        /// Which.
        services: Services,
        /// Every check and fact, not the scores alone.
        full: bool,
        /// Given back when the work is done.
        turn: OwnedSemaphorePermit,
        /// The answer.
        reply: Reply<Box<Audit>>,
    },
    /// Change limits of a service in place. Legal at any time.
    ChangeLimits {
        /// Which.
        service: ServiceId,
        /// How.
        change: LimitsChange,
        /// Answered when the kernel has them.
        reply: Reply<LimitsChanged>,
    },
    /// Every job. Always legal.
    Jobs {
        /// The answer.
        reply: Reply<Jobs>,
    },
    /// One job in full. Always legal.
    Job {
        /// Which.
        job: String,
        /// The answer.
        reply: Reply<Box<JobDetail>>,
    },
    /// The next instants of a job. Always legal.
    JobInstants {
        /// Which.
        job: String,
        /// How many.
        count: u64,
        /// The answer.
        reply: Reply<JobInstants>,
    },
    /// Pause a job, or have it go on. Always legal.
    OrderJob {
        /// Which.
        job: String,
        /// What.
        order: Order,
        /// The answer.
        reply: Reply<Box<Job>>,
    },
    /// Have a job fire now. Legal until a shutdown has begun, while nothing of it is under way that must not overlap.
    RunJob {
        /// Which.
        job: String,
        /// Answered when it has ended, in place of when it has begun.
        wait: bool,
        /// The answer.
        reply: Reply<JobRun>,
    },
    /// Wait for services to get ready; nothing is started for it. Always legal.
    Await {
        /// Which.
        services: Services,
        /// Answered when each is ready, or is not going to be.
        reply: Reply<Outcome>,
    },
    /// Start services and what they depend on. Legal until a shutdown has begun.
    Start {
        /// Which.
        services: Services,
        /// Answered when each is ready, or is not going to be.
        reply: Reply<Outcome>,
    },
    /// Stop services, dependents first. Legal at any time.
    Stop {
        /// Which.
        services: Services,
        /// Answered when each has ended.
        reply: Reply<Outcome>,
    },
    /// Stop and start services. Legal until a shutdown has begun.
    Restart {
        /// Which.
        services: Services,
        /// Answered when each new run is ready, or is not going to be.
        reply: Reply<Outcome>,
    },
    /// Give services other numbers of workers. Legal until a shutdown has begun.
    Scale {
        /// How many; `None` is what the configuration says.
        services: BTreeMap<ServiceId, Option<u16>>,
        /// Answered when each has so many that are ready, or is not going to.
        reply: Reply<Scaled>,
    },
    /// Read the configuration again and apply what differs. Legal until a shutdown has begun.
    Reload {
        /// How.
        request: Reload,
        /// Answered when it holds, or, if that is asked for, when all that follows from it has come about.
        reply: Reply<Box<Reloaded>>,
    },
    /// Apply one service, or take it out of the application. Legal until a shutdown has begun.
    Apply {
        /// Which, and how it is to be.
        single: Single,
        /// How.
        request: Reload,
        /// Answered as a reload.
        reply: Reply<Box<Reloaded>>,
    },
    /// Something about tasks. What starts one is legal until a shutdown has begun.
    Task(TaskCommand),
    /// Have another program take over. Legal until a shutdown has begun, and one at a time.
    Upgrade {
        /// Which.
        request: Upgrade,
        /// Answered when it is about to.
        reply: Reply<Box<UpgradeState>>,
    },
    /// The last upgrade. Always legal.
    UpgradeState {
        /// The answer.
        reply: Reply<Box<UpgradeState>>,
    },
    /// End the application. Legal at any time; a second one with `now` cuts the first one short.
    Shutdown {
        /// Kill at once in place of draining.
        now: bool,
        /// Answered when everything but the supervisor has ended.
        reply: Reply<Outcome>,
    },
}

/// What is applied of one service.
#[derive(Debug)]
pub struct Single(pub(crate) reload::Single);

/// A request about tasks, which are the loop's own business.
#[derive(Debug)]
pub struct TaskCommand(pub(crate) tasks::Request);

/// Which services a command is for. Names were checked for form alone: the loop knows which exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Services {
    /// Every one.
    All,
    /// These, at least one.
    Named(Vec<ServiceId>),
}

/// Why the loop does not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No service has this name.
    UnknownService {
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<ServiceId>,
    },
    /// No job has this name.
    UnknownJob {
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// No task has this name.
    UnknownTask {
        /// The name.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// An earlier firing of this job is under way, and has to end first.
    JobBusy(String),
    /// The limits are not what the configuration could have.
    BadLimits(String),
    /// A service cannot have so many workers.
    BadScale {
        /// Why not.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The configuration has errors.
    Config {
        /// All of them in words.
        text: String,
        /// All of them for programs.
        report: serde_json::Value,
    },
    /// The configuration is right, and cannot take the place of the one in force.
    NotReloaded {
        /// One word for programs.
        code: &'static str,
        /// Why not.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// A process could not be started, and why.
    NotStarted(String),
    /// The program cannot take over.
    NotUpgraded {
        /// One word for programs.
        code: &'static str,
        /// Why not.
        message: String,
        /// What to do.
        hint: Option<String>,
    },
    /// The application is being shut down.
    ShuttingDown,
}
