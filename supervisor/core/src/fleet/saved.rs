//! What a daemon leaves to its successor, as plain data. Times are relative, because an `Instant` means nothing in
//! another process.

use std::{num::NonZeroU32, time::Duration};

use crate::{
    RunId,
    worker::{AfterStop, ExitCause, Left, Wanted},
};

/// A worker's state and record at the time it was saved.
#[derive(Debug, Clone, PartialEq)]
pub struct Saved {
    /// What was wanted.
    pub wanted: Wanted,
    /// What was.
    pub state: SavedState,
    /// Whether the operator had asked to stop it and it waited for its dependents to end.
    pub stop_pending: bool,
    /// See `Record::restarts`.
    pub restarts: u64,
    /// See `Record::last_exit`.
    pub last_exit: Option<ExitCause>,
    /// How long ago each recent failure was.
    pub recent_failures: Vec<Duration>,
    /// See `Record::failures_in_row`.
    pub failures_in_row: u32,
}

/// [`crate::worker::State`] with relative times.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "worker::State is their documentation")]
pub enum SavedState {
    Down,
    Waiting,
    Starting { run: RunId, ready_in: Duration, executed: bool },
    Ready { run: RunId, ready_for: Duration },
    Draining { run: RunId, signal_in: Duration, then: AfterStop },
    Stopping { run: RunId, kill_in: Duration, then: AfterStop, left: Left, cause: ExitCause },
    Backoff { retry_in: Duration, failures: NonZeroU32 },
    Failed { failures: NonZeroU32, retry_in: Option<Duration> },
    Completed { exit: ExitCause },
}
