//! Tasks: processes of a service that run once. A new sandbox is made from the service's plan for each, with a network,
//! a cgroup, secrets and an identity in the mesh as a worker has them, and nothing listens there for others.
//!
//! - Whoever wants one makes an [`Order`] and calls `App::start_task`. That it has ended is told to its [`Owner`], by
//!   `App::task_over`, when no process of it is left.
//! - What a successor has to know is in the note on its run at the spawner. So a task outlives its daemon, and its
//!   owner hears of its end from whichever daemon there is then: at least once, as everything that is told.
//! - It decides nothing. When to start, how often, and what follows from an end is its owner's.
//!
//! One may be inside a worker's sandbox instead ([`Attachment::inside`]): in its namespaces and its cgroup, as its user, with its
//! filters, and at an end with it. And somebody may be attached to one, who has its streams and is told what happens to it;
//! when he goes away it is hung up and killed.
//!
//! What one is is kept with the spawner before anything of it is made (`unborn`), until its process has it: a successor ends one that has none.
//!
//! `view` is what operators see. `start` begins them, `inside` plans those in a worker's sandbox, `follow` hears what the spawner says of them, `over` ends and clears them, `note` is what is kept.

mod follow;
mod inside;
mod note;
mod operator;
mod over;
mod start;
mod unborn;
mod view;

use std::{
    collections::BTreeMap,
    fmt,
    os::{fd::OwnedFd, unix::process::parent_id},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, task::JoinHandle};
use watt_api::{control::TaskEnd, mesh};
use watt_core::{
    RunId, ServiceId,
    worker::{ExecFailure, ExitCause},
};
use watt_os::{
    cgroup::Group,
    descendants::{Environment, Marks},
    namespace::{self, Kind},
};
use watt_spawner::protocol::Stage;

pub(crate) use self::{
    inside::VARIABLE,
    note::TaskNote,
    operator::{Request, wire},
    start::{NotStarted, set},
};
use crate::{
    containment::Containment,
    control::Reply,
    hooks::Hooked,
    launch::Launch,
    life,
    runs::{self, Main},
    seat::Seat,
};

/// Their runs are numbered from here on, out of the way of workers', and below what a number in JSON holds exactly (RFC
/// 8259 §6): lines of output name them.
const FIRST_RUN: u64 = 1 << 52;
const END_OF_RUNS: u64 = 1 << 53;

/// The key of the highest number that was given to one.
pub(crate) const LAST: &str = "last_task";

/// The number of a task, never given out twice in an application's life: `t7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct TaskId(u64);

impl TaskId {
    /// Its run.
    pub(crate) fn run(self) -> RunId {
        RunId(FIRST_RUN + self.0)
    }

    /// The task of this name.
    pub(crate) fn of_name(name: &str) -> Option<TaskId> {
        name.strip_prefix('t')?.parse().ok().map(TaskId)
    }

    /// The task that a run is of.
    pub(crate) fn of_run(run: RunId) -> Option<TaskId> {
        (FIRST_RUN..END_OF_RUNS).contains(&run.0).then(|| TaskId(run.0 - FIRST_RUN))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "t{}", self.0)
    }
}

/// What is to be run.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    /// In whose sandbox.
    pub(crate) service: ServiceId,
    /// Program and arguments; the service's own command when there is none.
    pub(crate) command: Option<Vec<String>>,
    /// Variables besides the service's, and before them.
    pub(crate) env: BTreeMap<String, String>,
    /// It is stopped after this time.
    pub(crate) time_max: Option<Duration>,
    /// Who wants it.
    pub(crate) owner: Owner,
}

/// Who wanted a task and is told of its end. It is in the run's note, in JSON, so that a successor tells the same one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Owner {
    /// An operator, who may have gone.
    Operator,
    /// A firing of a job.
    Job {
        /// The job.
        job: String,
        /// The firing.
        number: u64,
    },
    /// A worker, at a point of its life.
    Hook(Hooked),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Operator => f.write_str("an operator"),
            Owner::Job { job, number } => write!(f, "job {job}, run {number}"),
            Owner::Hook(hooked) => hooked.fmt(f),
        }
    }
}

/// Somebody who is there while it runs.
#[derive(Debug, Default)]
pub(crate) struct Attachment {
    /// The run of a worker whose sandbox it is in.
    pub(crate) inside: Option<RunId>,
    /// Where its streams lead.
    pub(crate) streams: Streams,
    /// Who is told what happens to it.
    pub(crate) told: Option<mpsc::UnboundedSender<Told>>,
    /// Who asked for it, in words.
    pub(crate) by: Option<String>,
}

/// Where a task's streams lead.
#[derive(Debug, Default)]
pub(crate) enum Streams {
    /// Its output to the log of its service, and nothing to read.
    #[default]
    Log,
    /// All three to these. They are pipes, whose other ends we do not read: what nobody takes holds the task up.
    Given([OwnedFd; 3]),
    /// To a terminal of its own. The other end comes with [`Told::Executed`].
    Terminal {
        /// From top to bottom.
        rows: u16,
        /// From left to right.
        columns: u16,
        /// Its kind, for `$TERM`.
        kind: String,
    },
}

/// What who is attached to a task is told: at most one of each.
#[derive(Debug)]
pub(crate) enum Told {
    /// Its program runs.
    Executed {
        /// The other end of its terminal.
        terminal: Option<OwnedFd>,
    },
    /// It is over.
    Ended(End),
}

/// How long one whose client was the predecessor's may be without him.
const UNATTENDED_MAX: Duration = Duration::from_secs(5);

/// How long what was hung up may take to end.
const HANGUP_GRACE: Duration = Duration::from_secs(5);

/// Why one was ended that had not ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stopped {
    /// Somebody asked for it, or the application ends.
    Asked,
    /// It took longer than it may.
    TimedOut,
    /// Who was attached to it went away.
    Left,
}

/// How one ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct End {
    /// Which.
    pub(crate) task: TaskId,
    /// Whose sandbox it had.
    pub(crate) service: ServiceId,
    /// By what. It is `ExecFailed` when the program was never executed.
    pub(crate) cause: ExitCause,
    /// Whether it was ended, and why.
    pub(crate) stopped: Option<Stopped>,
    /// When it was started: milliseconds since the Unix epoch.
    pub(crate) started_at_ms: u64,
    /// When its main process ended.
    pub(crate) ended_at_ms: u64,
}

impl End {
    /// Whether it did what it was to do.
    pub(crate) fn is_success(&self) -> bool {
        self.cause == ExitCause::Exited(0) && self.stopped.is_none()
    }
}

/// What happens to one beside the loop.
#[derive(Debug)]
pub(crate) enum News {
    /// Its secrets were read, or cannot be. With them comes everything that is handed to the exec stage.
    Ready { task: TaskId, launch: Box<Launch>, ready: Result<Vec<OwnedFd>, ExecFailure> },
    /// No process of it is left, or what is still being done about it may be over.
    Emptied(TaskId),
}

/// One that has not ended.
#[derive(Debug)]
pub(crate) struct Task {
    seat: Seat,
    owner: Owner,
    started_at_ms: u64,
    /// The run of the worker that it is inside of.
    inside: Option<RunId>,
    /// Whether somebody is attached to it, or is to be.
    is_attached: bool,
    /// Who that is.
    told: Option<mpsc::UnboundedSender<Told>>,
    /// When it is hung up if nobody is.
    unattended_until: Option<Instant>,
    /// Its cgroup, or the worker's that it is inside of.
    group: Group,
    /// The entry of the environment by which its processes can be told without a cgroup.
    environment: Vec<u8>,
    /// Who asked for it, in words, if that was somebody else than its owner says.
    by: Option<String>,
    /// Program and arguments, for people.
    command: Vec<String>,
    /// Out-of-memory kills that its cgroup had counted before it was started: those of a worker that it is inside of.
    oom_kills_before: u64,
    /// Whether its process was asked for, which it is when its secrets are there.
    is_asked_for: bool,
    /// Whether it is known that its program was executed.
    is_executed: bool,
    /// Its main process, from the moment it was cloned.
    main: Option<Main>,
    /// Signals that could not be sent because the process was not there yet.
    owed_signals: Vec<i32>,
    /// The step that failed before its program was executed.
    failure: Option<ExecFailure>,
    /// Descriptors the exec stage made, by name.
    descriptors: BTreeMap<String, Arc<OwnedFd>>,
    /// Ids of the listeners that the proxy was given for it.
    listeners: Vec<String>,
    /// The folder of its secrets on the host, if it has some, and whether nothing is to be put there any more.
    secrets: Option<(PathBuf, Arc<Mutex<bool>>)>,
    /// When it is stopped if it has not ended by then.
    times_out_at: Option<Instant>,
    stop: Option<Stop>,
    /// Whether its owner knows already that it is over.
    is_told: bool,
    /// Those who wait for its end.
    awaited_by: Vec<Reply<TaskEnd>>,
    /// What is being done about it beside the loop.
    acts: Vec<JoinHandle<()>>,
    /// Tasks that end with it.
    waits: Vec<runs::Task>,
}

/// One that is being ended.
#[derive(Debug, Clone, Copy)]
struct Stop {
    why: Stopped,
    /// When what is left of it is killed.
    kill_at: Instant,
    is_killed: bool,
}

impl Task {
    fn new(seat: Seat, owner: Owner, group: Group, mark: &str, started_at_ms: u64) -> Task {
        Task {
            seat,
            owner,
            started_at_ms,
            inside: None,
            is_attached: false,
            told: None,
            unattended_until: None,
            group,
            environment: format!("{}={mark}", life::VARIABLE).into_bytes(),
            by: None,
            command: Vec::new(),
            oom_kills_before: 0,
            is_asked_for: false,
            is_executed: false,
            main: None,
            owed_signals: Vec::new(),
            failure: None,
            descriptors: BTreeMap::new(),
            listeners: Vec::new(),
            secrets: None,
            times_out_at: None,
            stop: None,
            is_told: false,
            awaited_by: Vec::new(),
            acts: Vec::new(),
            waits: Vec::new(),
        }
    }

    /// Whether it is news that its program was executed.
    fn is_news(&self, stage: &Stage) -> bool {
        *stage == Stage::Executed && !self.is_executed
    }

    /// The pid while the main process lives.
    fn live_pid(&self) -> Option<u32> {
        self.main.as_ref().filter(|main| main.exit.is_none()).map(|main| main.pid)
    }

    fn signal(&mut self, signal: i32) {
        match &self.main {
            Some(main) if main.exit.is_none() => main.signal(signal),
            Some(_) => {}
            None => self.owed_signals.push(signal),
        }
    }

    /// What holds its processes.
    fn containment(&self) -> Containment {
        // The group is the worker's, where it is inside of one.
        if self.group.is_usable() && self.inside.is_none() {
            return Containment::Group(self.group.clone());
        }
        let Some(main) = &self.main else { return Containment::Nothing };
        let kinds = [("netns", Kind::Network), ("userns", Kind::User)];
        let namespaces = kinds
            .into_iter()
            .filter_map(|(name, kind)| namespace::Id::of_descriptor(self.descriptors.get(name)?, kind).ok());
        Containment::Marks(Marks {
            main: main.pid,
            main_started: main.started,
            later: None,
            namespaces: namespaces.collect(),
            environment: Some(Environment::Entry(self.environment.clone())),
            ancestor: Some(parent_id()),
        })
    }

    /// When something is due for it by itself.
    fn deadline(&self) -> Option<Instant> {
        match self.stop {
            Some(Stop { kill_at, is_killed: false, .. }) => Some(kill_at),
            Some(_) => None,
            None => self.times_out_at.into_iter().chain(self.unattended_until).min(),
        }
    }
}

/// Those that have not ended.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    last: u64,
    running: BTreeMap<TaskId, Task>,
    /// Ends that nobody has heard whom they were meant for, until then.
    unheard: BTreeMap<TaskId, (End, Instant)>,
}

impl Tasks {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// The one that somebody wanted.
    pub(crate) fn of(&self, owner: &Owner) -> Option<TaskId> {
        self.running.iter().find(|(_, task)| task.owner == *owner).map(|(id, _)| *id)
    }

    /// How many hooks of a service are under way for which nobody waits.
    pub(crate) fn unattended_hooks_of(&self, service: &ServiceId) -> usize {
        let is_one = |task: &Task| matches!(&task.owner, Owner::Hook(hooked) if hooked.is_unattended());
        self.running.values().filter(|task| task.seat.service == *service && is_one(task)).count()
    }

    /// Whether it has a process, or had one.
    pub(crate) fn is_born(&self, id: TaskId) -> bool {
        self.running.get(&id).is_some_and(|task| task.main.is_some())
    }

    /// Those inside of a worker's run.
    fn inside(&self, run: RunId) -> Vec<TaskId> {
        self.running.iter().filter(|(_, task)| task.inside == Some(run)).map(|(id, _)| *id).collect()
    }

    /// Whether a service has one in a sandbox of its own.
    pub(crate) fn has_one_of(&self, service: &ServiceId) -> bool {
        self.running.values().any(|task| task.inside.is_none() && task.seat.service == *service)
    }

    /// The main processes of those in sandboxes of their own.
    pub(crate) fn live_pids(&self) -> impl Iterator<Item = u32> {
        self.running.values().filter(|task| task.inside.is_none()).filter_map(Task::live_pid)
    }

    /// The service of the one whose main process is one of these.
    pub(crate) fn service_of(&self, line: &[u32]) -> Option<&ServiceId> {
        let is_it = |task: &&Task| task.live_pid().is_some_and(|pid| line.contains(&pid));
        self.running.values().find(is_it).map(|task| &task.seat.service)
    }

    /// Those of a service as the proxy knows a caller on the host's network: by its cgroup, or its main process.
    pub(crate) fn callers(&self, service: &ServiceId) -> Vec<mesh::Worker> {
        let own = self.running.iter().filter(|(_, task)| task.seat.service == *service);
        let caller = |(id, task): (&TaskId, &Task)| mesh::Worker {
            run: id.run().0,
            index: 0,
            endpoint: None,
            // Of all states the one in which there are no new requests for it.
            state: mesh::WorkerState::Draining,
            drain_ms: None,
            cgroup: task.group.id(),
            pid: task.live_pid(),
        };
        own.filter(|(_, task)| task.main.is_some()).map(caller).collect()
    }

    /// When something is due for one of them.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let unheard = self.unheard.values().map(|(_, until)| *until);
        self.running.values().filter_map(Task::deadline).chain(unheard).min()
    }
}

/// One that ended well.
#[cfg(test)]
pub(crate) fn ended_for_tests() -> End {
    let service = ServiceId::new("api").unwrap_or_else(|error| panic!("{error}"));
    End {
        task: TaskId(7),
        service,
        cause: ExitCause::Exited(0),
        stopped: None,
        started_at_ms: 1,
        ended_at_ms: 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was lost on the way is in the list that is asked for then, also for one that somebody is attached to.
    #[test]
    fn that_a_program_runs_is_news_once() {
        let seat = Seat::of_task(ServiceId::new("api").unwrap(), TaskId(7));
        let mut task = Task::new(seat, Owner::Operator, Group::default(), "life/7", 1);
        task.is_attached = true;
        assert!(!task.is_news(&Stage::Preparing));
        assert!(task.is_news(&Stage::Executed));
        task.is_executed = true;
        assert!(!task.is_news(&Stage::Executed));
    }

    #[test]
    fn a_task_is_told_from_other_runs_by_its_number() {
        let task = TaskId(7);
        assert_eq!(TaskId::of_run(task.run()), Some(task));
        assert_eq!(task.to_string(), "t7");
        for other in [0, 1, FIRST_RUN - 1, END_OF_RUNS, 1 << 61, crate::proxy::FIRST_RUN] {
            assert_eq!(TaskId::of_run(RunId(other)), None, "{other}");
        }
    }
}
