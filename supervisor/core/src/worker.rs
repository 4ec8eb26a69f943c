//! One worker: its states, what may happen to it, and what has to be done then.

use std::{num::NonZeroU32, time::{Duration, Instant}};

use crate::RunId;

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
/// Down ─start→ Waiting ─deps→ Starting ─ready→ Ready ─stop→ Draining ─idle→ Stopping ─empty→ Down
///                 ↑               │exit, late     │exit            (kill after grace)
///                 └── Backoff ←───┴───────────────┘ ; too many: Failed
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Nothing runs and nothing is planned.
    Down,
    /// Wanted up, but a dependency is not there yet.
    Waiting,
    /// A process was asked for or runs, and has not shown that it is ready.
    Starting {
        /// The run.
        run: RunId,
        /// When it counts as too late.
        ready_by: Instant,
    },
    /// It serves.
    Ready {
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
        /// When everything left is killed.
        kill_at: Instant,
        /// What follows.
        then: AfterStop,
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
        /// Failures in a row.
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

/// What follows a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterStop {
    /// Nothing: the operator wanted it down.
    Down,
    /// A new run at once: an operator's restart.
    Restart,
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
    /// The exec stage failed before the program ran.
    ExecFailed(ExecFailure),
    /// It ended while nobody could see how (a spawner that was killed).
    Unknown,
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
    /// The operator wants it up. From `Failed` and `Completed` too, with a clean record.
    Start,
    /// The operator wants it down.
    Stop,
    /// The operator wants a new run.
    Restart,
    /// End it now: no drain, no grace.
    Kill,
    /// Everything it depends on is there.
    DependenciesMet,
    /// The exec stage ended in the program.
    Executed(RunId),
    /// The run showed its sign of readiness.
    Ready(RunId),
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
    /// Start a process. Answered by `Executed`, or by `Exited` with [`ExitCause::ExecFailed`] and `Emptied`.
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

/// One worker's state and record.
#[derive(Debug, Clone)]
pub struct Worker {
    /// What is wanted.
    pub wanted: Wanted,
    /// What is.
    pub state: State,
    /// What has been so far.
    pub record: Record,
}

/// A worker's history: what `status` shows and what the restart policy looks at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// Runs that were started again after an exit, without the operator's restarts.
    pub restarts: u64,
    /// How the last run ended.
    pub last_exit: Option<ExitCause>,
    /// When failures happened, within the window of the restart policy.
    pub recent_failures: Vec<Instant>,
    /// Failures since the worker was last healthy for long enough; the exponent of the backoff.
    pub failures_in_row: u32,
}

/// The wait before retry number `failures` (1 is the first), before jitter: doubles from first to max.
pub fn backoff(first: Duration, max: Duration, failures: NonZeroU32) -> Duration {
    let doublings = failures.get().saturating_sub(1).min(31);
    first.checked_mul(1 << doublings).map_or(max, |wait| wait.min(max))
}
