//! What a daemon leaves to its successor, as plain data. Times are relative, because an `Instant` means nothing in
//! another process.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use crate::{
    RunId,
    worker::{AfterStop, Effect, ExitCause, Left, Part, Record, Recycled, State, Wanted, Worker, later},
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
    /// See `Record::recycled`: how long ago, and the how manieth in a row.
    pub recycled: Option<(Duration, NonZeroU32)>,
    /// See `Record::last_run`.
    pub last_run: Option<RunId>,
    /// See `Record::healthy_run`.
    pub healthy_run: Option<RunId>,
    /// See `Worker::part`.
    pub part: Part,
}

/// [`crate::worker::State`] with relative times.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "worker::State is their documentation")]
pub enum SavedState {
    Down,
    Asleep,
    Waiting,
    Starting { run: RunId, ready_in: Option<Duration>, executed: bool },
    Ready { run: RunId, ready_for: Duration },
    Unready { run: RunId, unready_for: Duration },
    Draining { run: RunId, signal_in: Duration, then: AfterStop },
    Stopping { run: RunId, kill_in: Duration, then: AfterStop, left: Left, cause: ExitCause },
    Backoff { retry_in: Duration, failures: NonZeroU32 },
    Failed { failures: NonZeroU32, retry_in: Option<Duration> },
    Completed { exit: ExitCause },
}

impl SavedState {
    /// The run, where there was one.
    pub fn run(&self) -> Option<RunId> {
        match self {
            SavedState::Starting { run, .. }
            | SavedState::Ready { run, .. }
            | SavedState::Unready { run, .. }
            | SavedState::Draining { run, .. }
            | SavedState::Stopping { run, .. } => Some(*run),
            SavedState::Down
            | SavedState::Asleep
            | SavedState::Waiting
            | SavedState::Backoff { .. }
            | SavedState::Failed { .. }
            | SavedState::Completed { .. } => None,
        }
    }
}

/// Takes down a worker as it is at `now`.
pub(super) fn save(now: Instant, worker: &Worker, stop_pending: bool) -> Saved {
    let until = |at: Instant| at.saturating_duration_since(now);
    let since = |at: Instant| now.saturating_duration_since(at);
    let state = match worker.state.clone() {
        State::Down => SavedState::Down,
        State::Asleep => SavedState::Asleep,
        State::Waiting => SavedState::Waiting,
        State::Starting { run, ready_by, executed } => {
            SavedState::Starting { run, ready_in: ready_by.map(until), executed }
        }
        State::Ready { run, since: at } => SavedState::Ready { run, ready_for: since(at) },
        State::Unready { run, since: at } => SavedState::Unready { run, unready_for: since(at) },
        State::Draining { run, until: at, then } => SavedState::Draining { run, signal_in: until(at), then },
        State::Stopping { run, kill_at, then, left, cause } => {
            SavedState::Stopping { run, kill_in: until(kill_at), then, left, cause }
        }
        State::Backoff { until: at, failures } => SavedState::Backoff { retry_in: until(at), failures },
        State::Failed { failures, retry_at } => {
            SavedState::Failed { failures, retry_in: retry_at.map(until) }
        }
        State::Completed { exit } => SavedState::Completed { exit },
    };
    let record = &worker.record;
    Saved {
        wanted: worker.wanted,
        state,
        stop_pending,
        restarts: record.restarts,
        last_exit: record.last_exit.clone(),
        recent_failures: record.recent_failures.iter().map(|at| since(*at)).collect(),
        failures_in_row: record.failures_in_row,
        recycled: record.recycled.map(|Recycled { at, in_row }| (since(at), in_row)),
        last_run: record.last_run,
        healthy_run: record.healthy_run,
        part: worker.part,
    }
}

/// Puts a worker back that was saved `passed` before `now`, with the effects that nobody may have performed or be waiting on any more:
/// the predecessor may have died between saving a state and acting on it.
pub(super) fn restore(now: Instant, saved: Saved, passed: Duration) -> (Worker, Vec<Effect>) {
    let at = |left: Duration| later(now, left.saturating_sub(passed));
    let ago = |time: Duration| time.checked_add(passed).and_then(|time| now.checked_sub(time));
    let mut effects = Vec::new();
    let last_run = saved.last_run.or(saved.state.run());
    let state = match saved.state {
        SavedState::Down => State::Down,
        SavedState::Asleep => State::Asleep,
        SavedState::Waiting => State::Waiting,
        SavedState::Starting { run, ready_in, executed } => {
            if ready_in.is_none() {
                effects.push(Effect::Spawn(run));
            }
            State::Starting { run, ready_by: ready_in.map(at), executed }
        }
        SavedState::Ready { run, ready_for } => State::Ready { run, since: ago(ready_for).unwrap_or(now) },
        SavedState::Unready { run, unready_for } => {
            State::Unready { run, since: ago(unready_for).unwrap_or(now) }
        }
        SavedState::Draining { run, signal_in, then } => {
            effects.push(Effect::Drain(run));
            State::Draining { run, until: at(signal_in), then }
        }
        SavedState::Stopping { run, kill_in, then, left, cause } => {
            match left {
                Left::All => effects.push(Effect::Signal(run)),
                Left::Rest => effects.extend([Effect::TerminateRest(run), Effect::Release(run)]),
            }
            State::Stopping { run, kill_at: at(kill_in), then, left, cause }
        }
        SavedState::Backoff { retry_in, failures } => State::Backoff { until: at(retry_in), failures },
        SavedState::Failed { failures, retry_in } => State::Failed { failures, retry_at: retry_in.map(at) },
        SavedState::Completed { exit } => State::Completed { exit },
    };
    let record = Record {
        restarts: saved.restarts,
        last_run,
        healthy_run: saved.healthy_run,
        last_exit: saved.last_exit,
        recent_failures: saved.recent_failures.into_iter().filter_map(ago).collect(),
        failures_in_row: saved.failures_in_row,
        recycled: saved.recycled.and_then(|(time, in_row)| Some(Recycled { at: ago(time)?, in_row })),
    };
    (Worker { wanted: saved.wanted, state, record, part: saved.part }, effects)
}
