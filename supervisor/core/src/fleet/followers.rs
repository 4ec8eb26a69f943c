//! Services whose workers are replaced when those of a service that they depend on were (`restart: true` of a dependency).
//!
//! Runs are numbered in the order of their starts, and a worker starts after what it depends on. So a worker whose run is older than
//! every run of its dependency has none of those left that it was started after, whatever took them away, and it is replaced as by
//! an operator's restart as soon as the new ones have reached the condition. Nothing is kept for that but the
//! numbers, which a successor of the daemon finds.

use std::time::Instant;

use super::{Fleet, FleetEffects, change::newest_run};
use crate::{
    RunId, ServiceId,
    worker::{Part, State, Wanted, Worker},
};

impl Fleet {
    /// Begins to replace the followers whose time has come. Says whether there were some.
    pub(super) fn replace_followers(&mut self, now: Instant, effects: &mut FleetEffects) -> bool {
        let mut due = Vec::new();
        for (service, on) in self.order.followers() {
            if self.is_to_stop(service) || self.is_leaving(service) {
                continue;
            }
            let Some(oldest) = self.settled_since(service, on) else { continue };
            let old = self.workers_of(service).filter(|(_, worker)| is_older(worker, oldest));
            due.extend(old.map(|(id, _)| (id.clone(), oldest)));
        }
        for (id, oldest) in &due {
            self.renew_place(now, id, *oldest, effects);
        }
        !due.is_empty()
    }

    /// The oldest run of a dependency that has reached its condition and is not being replaced.
    fn settled_since(&self, service: &ServiceId, on: &ServiceId) -> Option<RunId> {
        let condition = self.plan(service)?.depends_on.get(on)?.condition;
        if self.is_renewing(on) || !self.has_reached(on, condition) {
            return None;
        }
        self.counting(on).map(|worker| worker.run().or(worker.record.last_run)).min().flatten()
    }
}

/// Whether a worker runs that was started before this run and is not marked to be replaced.
fn is_older(worker: &Worker, oldest: RunId) -> bool {
    let runs = match worker.state {
        State::Starting { .. } | State::Ready { .. } | State::Unready { .. } => true,
        // The next run is younger, or there is none.
        State::Down
        | State::Asleep
        | State::Waiting
        | State::Draining { .. }
        | State::Stopping { .. }
        | State::Backoff { .. }
        | State::Failed { .. }
        | State::Completed { .. } => false,
    };
    runs && worker.wanted == Wanted::Up
        && !matches!(worker.part, Part::Due | Part::Leaves)
        && newest_run(worker).is_some_and(|run| run < oldest)
}
