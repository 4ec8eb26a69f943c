//! One worker: its states, what may happen to it, and what has to be done then.
//!
//! The transitions are in `transitions.rs`, the restart policy's arithmetic is in `policy.rs`.

mod cause;
mod policy;
mod transitions;

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use crate::{RunId, plan};

pub use cause::signal_name;
pub use policy::{backoff, will_restart};
pub use transitions::KILL_AGAIN;

pub(crate) use policy::later;

/// What the operator wants of a worker. Nobody can ask for "starting".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It should run.
    Up,
    /// It should not.
    Down,
}

/// What a worker is doing. Data exist only where they mean something.
///
/// ```text
/// Down ─start→ Waiting ─deps→ Starting ─ready→ Ready ⇄ Unready ─stop→ Draining ─idle→ Stopping ─empty→ Down
///                 ↑               │exit, late     │exit, unhealthy            (kill after grace)
///                 └── Backoff ←───┴───────────────┘ ; too many: Failed
/// ```
///
/// A worker of a service that may have none goes to `Asleep` in place of `Down` or `Waiting`, and from there to `Waiting` when it is woken.
///
/// `wanted` is `Down` exactly in `Down` and in `Draining` and `Stopping` with [`AfterStop::Down`]. Every start, a
/// restart after a failure included, goes through `Waiting`, so that a dependency that is away is waited for.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Nothing runs and nothing is planned.
    Down,
    /// Nothing runs until somebody wants something of its service.
    Asleep,
    /// Wanted up, but a dependency is not there yet.
    Waiting,
    /// A process is wanted, was asked for or runs, and has not shown that it is ready.
    Starting {
        /// The run.
        run: RunId,
        /// When it counts as too late; `None` while the process was not asked for. With a thousand others before it that
        /// takes longer than it may take to get ready.
        ready_by: Option<Instant>,
        /// Whether the exec stage has ended in the program.
        executed: bool,
    },
    /// It serves.
    Ready {
        /// The run.
        run: RunId,
        /// Since when.
        since: Instant,
    },
    /// It was ready and runs, and cannot take requests at the moment, as its own check says: out of the table until that passes.
    Unready {
        /// The run.
        run: RunId,
        /// Since when.
        since: Instant,
    },
    /// Out of the table; its last requests are being answered.
    Draining {
        /// The run.
        run: RunId,
        /// When the stop signal is sent even if requests are left.
        until: Instant,
        /// What follows.
        then: AfterStop,
    },
    /// It was told to stop, or its main process has gone and others are left.
    Stopping {
        /// The run.
        run: RunId,
        /// When everything left is killed, and killed again.
        kill_at: Instant,
        /// What follows.
        then: AfterStop,
        /// Which of its processes may be there.
        left: Left,
        /// Why it ends: our decision, or how its main process ended.
        cause: ExitCause,
    },
    /// Waiting to be started again.
    Backoff {
        /// When.
        until: Instant,
        /// Failures in a row.
        failures: NonZeroU32,
    },
    /// It failed too often; only the operator or the slow retry starts it again.
    Failed {
        /// Failures within the window of the restart policy.
        failures: NonZeroU32,
        /// The next slow retry, when there is one.
        retry_at: Option<Instant>,
    },
    /// It ran to completion, and its policy asks for no restart.
    Completed {
        /// How it ended.
        exit: ExitCause,
    },
}

/// Which processes of a run that ends may be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// All of them, the main process included.
    All,
    /// The main process has ended; others may be left.
    Rest,
}

/// What follows a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterStop {
    /// Nothing: the operator wanted it down.
    Down,
    /// Nothing until somebody wants something of its service.
    Sleep,
    /// A new run at once: an operator's restart.
    Restart,
    /// A new run, when all those that end with it have ended: another of its group failed.
    Together,
    /// A new run at once, because this one stalled.
    Recycle(Stall),
    /// What the restart policy says, because it was found unhealthy.
    Replace(Complaint),
    /// What the restart policy says: it failed by not getting ready, or its main process went by itself.
    Policy,
}

/// Why a run ended. Never guessed: OOM comes from the cgroup's counter, everything else from the wait status or
/// from our own decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitCause {
    /// It exited by itself with this status.
    Exited(i32),
    /// It was ended by this signal, and not by us.
    Signaled {
        /// A number of signal(7).
        signal: i32,
        /// Whether a core was dumped.
        core_dumped: bool,
    },
    /// The kernel killed it for memory; the limit in bytes it met, where there is one.
    OutOfMemory {
        /// `memory` of its limits.
        limit: Option<u64>,
    },
    /// We stopped it, as the operator wanted.
    Stopped,
    /// It was not ready in time, so we stopped it.
    StartTimeout,
    /// Another service of its group failed, so we stopped it.
    Group,
    /// It stalled for too long, so we replaced it.
    Recycled(Stall),
    /// It was found unhealthy, so we replaced it.
    Unhealthy(Complaint),
    /// The exec stage failed before the program ran.
    ExecFailed(ExecFailure),
    /// It ended while nobody could see how (a spawner that was killed).
    Unknown,
}

/// How much a run stalled when it was decided to replace it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// What it waited for.
    pub resource: plan::Resource,
    /// The part of the last window in which some process of it waited, in percent.
    pub percent: u8,
}

/// What was found wrong with a run that was ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Complaint {
    /// Its health check failed so often in a row.
    Check {
        /// Failures.
        failures: u32,
    },
    /// No `WATCHDOG=1` came in time.
    Watchdog,
    /// It said so itself: `WATCHDOG=trigger`.
    Itself,
}

/// That a worker was replaced because it stalled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recycled {
    /// When.
    pub at: Instant,
    /// The how manieth of its service it was without a calm time in between.
    pub in_row: NonZeroU32,
}

/// A step of the exec stage that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecFailure {
    /// The step: `cwd`, `rlimits`, `exec` …
    pub step: String,
    /// What it was about: a path, a limit.
    pub object: String,
    /// The error number of errno(3).
    pub errno: i32,
}

/// What may happen to a worker.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The operator wants it up. From `Backoff`, `Failed` and `Completed` too, at once and with a clean record.
    Start,
    /// The operator wants it down.
    Stop,
    /// The operator wants a new run.
    Restart,
    /// The operator wants it down now: no drain, no grace.
    Kill,
    /// Another of its group has failed: the run is to end, and the next one to begin with the others'.
    Together,
    /// The run has stalled for too long and is to be replaced, as the so manieth of its service in a row.
    Recycle(RunId, Stall, NonZeroU32),
    /// It is not needed until somebody wants something of its service. What is on its way up stays so.
    Sleep,
    /// Somebody wants something of its service.
    Wake,
    /// Everything it depends on is there.
    DependenciesMet,
    /// The process of the run was asked for.
    Requested(RunId),
    /// The exec stage ended in the program.
    Executed(RunId),
    /// The run passed its startup check: its time to get ready begins.
    Started(RunId),
    /// The run asks for more time to get ready: this much from now (`EXTEND_TIMEOUT_USEC=` of sd_notify(3)).
    Extend(RunId, Duration),
    /// The run showed its sign of readiness, for the first time or again.
    Ready(RunId),
    /// The run passed its health check, for the first time or again.
    Healthy(RunId),
    /// The run is not ready any more.
    Unready(RunId),
    /// The run is unhealthy and is to be replaced.
    Unhealthy(RunId, Complaint),
    /// The proxy has no request of this run left.
    Drained(RunId),
    /// The main process ended. Others of the run may be left.
    Exited(RunId, ExitCause),
    /// No process of the run is left and its cgroup is gone.
    Emptied(RunId),
}

/// What has to be done. The daemon does it and answers with events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Start a process. Answered by `Requested` when its turn has come, and by `Executed`, or by `Exited` with
    /// [`ExitCause::ExecFailed`] and `Emptied`.
    Spawn(RunId),
    /// Take the run out of the table and say when its requests are done. Answered by `Drained`.
    Drain(RunId),
    /// Send the stop signal (and CONT) to the main process.
    Signal(RunId),
    /// The main process has gone: send TERM (and CONT) to the processes that are left.
    TerminateRest(RunId),
    /// Kill every process of the run.
    Kill(RunId),
    /// The main process has ended: when no process is left, read the last counters, remove the cgroup and answer
    /// `Emptied`.
    Release(RunId),
}

/// What a decision draws on besides the worker itself.
#[derive(Debug)]
pub struct Context<'a> {
    /// The time.
    pub now: Instant,
    /// The worker's service.
    pub plan: &'a plan::Service,
    /// Where new runs get their numbers.
    pub ids: &'a mut RunIds,
    /// A random number of 0..1, for the jitter of a backoff.
    pub jitter: f64,
    /// The others of its group, where that counts the failures of all.
    pub siblings: Option<Siblings>,
}

/// What the failures of the others of a group do to a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Siblings {
    /// So many failures of all together …
    pub failures_max: u32,
    /// … within this time are too many.
    pub within: Duration,
    /// Failures of the others within that time.
    pub failures: u32,
}

/// The numbers of runs, counting up.
#[derive(Debug, Clone)]
pub struct RunIds(RunId);

impl RunIds {
    /// Numbers from `first` on.
    pub fn starting_at(first: RunId) -> RunIds {
        RunIds(first)
    }

    /// A number that was not given out before.
    pub fn next_id(&mut self) -> RunId {
        let id = self.0;
        self.0 = RunId(id.0 + 1);
        id
    }

    /// The last number that was given out; 0 when there was none.
    pub fn last_id(&self) -> RunId {
        RunId(self.0.0.saturating_sub(1))
    }

    /// Leaves out every number up to and including this one, because a predecessor gave it out.
    pub fn skip(&mut self, used: RunId) {
        self.0 = self.0.max(RunId(used.0.saturating_add(1)));
    }
}

/// One worker's state and record.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// What is wanted.
    pub wanted: Wanted,
    /// What is.
    pub state: State,
    /// What has been so far.
    pub record: Record,
    /// Its part in a renewal of its service.
    pub part: Part,
}

/// What part a worker has in a renewal of its service, in which each run is replaced by a new one (`fleet/renewal.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// None: it stays as it is.
    #[default]
    Stays,
    /// Its run is to be replaced when its turn has come.
    Due,
    /// It is being started to take over from the one beside it.
    Replaces,
    /// It is stopped and started anew in its own place, and waited for.
    Returns,
    /// It was due, and its replacement did not get ready: its run, which is of an earlier plan, goes on.
    Outdated,
    /// It goes for good, and its place with it.
    Leaves,
}

/// A worker's history: what `status` shows and what the restart policy looks at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// Runs that were started again after an exit or a stall, without the operator's restarts.
    pub restarts: u64,
    /// How the last run ended.
    pub last_exit: Option<ExitCause>,
    /// When failures happened, within the window of the restart policy.
    pub recent_failures: Vec<Instant>,
    /// Failures since the worker was last healthy for long enough; the exponent of the backoff.
    pub failures_in_row: u32,
    /// When it was last replaced because it stalled.
    pub recycled: Option<Recycled>,
    /// The newest run in this place, or beside it in the attempt to replace this one. Says which plan was tried last.
    pub last_run: Option<RunId>,
    /// The last run that passed its health check.
    pub healthy_run: Option<RunId>,
}

#[cfg(test)]
mod tests;
