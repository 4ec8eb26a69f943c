//! Whether a worker that stalls is replaced. Stalling is often not the worker's fault: a host that is short of memory, a disk
//! that does not answer. Then new workers stall as well, so that replacing has to be bounded by itself.
//!
//! - One worker of a service is away at a time, whatever took the other one away.
//! - A worker is not replaced before it was ready for [`RECYCLE_APART`]: it has to warm up, and it can hardly have leaked.
//! - Two replacements of a service are that far apart as well, and each that follows another one without a calm time waits
//!   for twice as long, up to [`RECYCLE_APART_MAX`]. A service is calm when it went without for twice as long as it had to.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use super::Fleet;
use crate::{
    RunId, WorkerId,
    worker::{Complaint, Part, Recycled, State, Worker, backoff},
};

/// The shortest time between two replacements in a service, and the youngest age of a worker at which it is replaced.
pub const RECYCLE_APART: Duration = Duration::from_secs(60);
/// The longest time that a service has to wait for the next one.
pub const RECYCLE_APART_MAX: Duration = Duration::from_secs(60 * 60);

impl Fleet {
    /// Whether this run, which stalls, is to be replaced; then the how manieth in a row it is.
    pub(super) fn may_recycle(&self, now: Instant, id: &WorkerId, run: RunId) -> Option<NonZeroU32> {
        if self.is_to_stop(&id.service) {
            return None;
        }
        let State::Ready { run: current, since } = self.worker(id)?.state else { return None };
        let workers = || self.workers_of(&id.service).map(|(_, worker)| worker);
        // Where workers are being replaced already, this one has its turn. Where that was given up, a new one did not get ready, and
        // would not now: a worker that stalls is better than none.
        let is_settled =
            |worker: &Worker| matches!(worker.state, State::Ready { .. }) && worker.part == Part::Stays;
        let are_ready = workers().all(is_settled);
        let last = workers().filter_map(|worker| worker.record.recycled).max_by_key(|last| last.at);
        if current == run && are_ready { next(now, since, last) } else { None }
    }
}

impl Fleet {
    /// Whether a worker that was found unhealthy is replaced now. When what all workers of a service depend on fails, so do all of
    /// their checks: one is away at a time, and the others go on as well as they can. They are found unhealthy again. One that says so itself is
    /// believed.
    pub(super) fn may_replace(&self, id: &WorkerId, complaint: Complaint) -> bool {
        // It is stopped in its turn.
        if self.is_to_stop(&id.service) {
            return false;
        }
        let is_away = |(other, worker): (&WorkerId, &Worker)| {
            let comes_back = match worker.state {
                State::Waiting
                | State::Starting { .. }
                | State::Draining { .. }
                | State::Stopping { .. }
                | State::Backoff { .. } => true,
                State::Down
                | State::Asleep
                | State::Ready { .. }
                | State::Unready { .. }
                | State::Failed { .. }
                | State::Completed { .. } => false,
            };
            other != id && comes_back && matches!(worker.part, Part::Stays | Part::Returns)
        };
        complaint == Complaint::Itself || !self.workers_of(&id.service).any(is_away)
    }
}

/// The how manieth in a row a replacement is now, if it may be.
fn next(now: Instant, ready_since: Instant, last: Option<Recycled>) -> Option<NonZeroU32> {
    if now.saturating_duration_since(ready_since) < RECYCLE_APART {
        return None;
    }
    let Some(Recycled { at, in_row }) = last else { return Some(NonZeroU32::MIN) };
    let passed = now.saturating_duration_since(at);
    let wait = backoff(RECYCLE_APART, RECYCLE_APART_MAX, in_row);
    match passed {
        passed if passed >= wait * 2 => Some(NonZeroU32::MIN),
        passed if passed >= wait => Some(in_row.saturating_add(1)),
        _ => None,
    }
}
