//! Groups: services that are started anew together when one of them fails, by the strategies of Erlang/OTP's supervisors.
//!
//! A failure is what is followed by a restart: an exit, a start that takes too long, ill health. The others are drained and stopped, and
//! none of them starts before all have ended and the one that failed is about to start: side by side, an old and a new one
//! might not fit together. Should it fail too often, they wait until it is tried again. What an operator
//! restarts or stops concerns nobody else.
//!
//! All of this follows from the states of the workers, so that a successor of the daemon goes on with it.

use std::time::Instant;

use super::{Fleet, FleetEffects, Input};
use crate::{
    ServiceId, WorkerId,
    plan::Service,
    worker::{AfterStop, Event, ExitCause, Part, Siblings, State, Worker, will_restart},
};

impl Fleet {
    /// Ends what is to be started anew with those that have failed.
    pub(super) fn end_with_the_failed(&mut self, now: Instant, effects: &mut FleetEffects) {
        while let Some(failed) = self.failed.pop_first() {
            if self.shutting_down {
                continue;
            }
            for service in self.order.ended_with(&failed.service).to_vec() {
                // It is stopped in its turn.
                if self.is_to_stop(&service) {
                    continue;
                }
                for id in self.places(&service).into_iter().filter(|id| *id != failed) {
                    self.tell(now, &id, Input::Event(Event::Together), effects);
                }
            }
        }
    }

    /// The service of a group that keeps this one from starting: it has failed or ends, and is started with it.
    pub(super) fn held_by(&self, service: &ServiceId) -> Option<ServiceId> {
        let holds = |id: &&ServiceId| self.counting(id).any(holds);
        self.order.ending(service).iter().find(holds).cloned()
    }

    /// Whether a worker of a service has failed too often.
    pub(super) fn has_failed(&self, service: &ServiceId) -> bool {
        self.counting(service).any(|worker| matches!(worker.state, State::Failed { .. }))
    }

    /// What is known of the failures of the others of a worker's group, where they count.
    pub(super) fn siblings(&self, now: Instant, id: &WorkerId) -> Option<Siblings> {
        let group = self.order.group(&id.service)?;
        let (failures_max, within) = group.give_up?;
        let workers = group.services.iter().flat_map(|service| self.workers_of(service));
        let others = workers.filter(|(other, _)| *other != id);
        let failures = others.map(|(_, worker)| worker.record.failures_within(now, within)).sum();
        Some(Siblings { failures_max, within, failures })
    }
}

/// Whether a worker's run has just failed, so that another one will follow. One that was to take over from another has that to fall
/// back on.
pub(super) fn has_failed(plan: &Service, before: &Worker, after: &Worker) -> bool {
    let ran = matches!(before.state, State::Starting { .. } | State::Ready { .. } | State::Unready { .. });
    if !ran || matches!(before.part, Part::Replaces | Part::Leaves) {
        return false;
    }
    // It may have ended and left nothing in one step.
    after.state == State::Waiting || is_failing(plan, after)
}

/// Whether a worker has failed and has not been started since.
pub(super) fn is_failing(plan: &Service, worker: &Worker) -> bool {
    let will_restart = |cause: &ExitCause| will_restart(plan.restart.policy, cause);
    match worker.state {
        State::Draining { then: AfterStop::Replace(complaint), .. }
        | State::Stopping { then: AfterStop::Replace(complaint), .. } => {
            will_restart(&ExitCause::Unhealthy(complaint))
        }
        State::Stopping { then: AfterStop::Policy, ref cause, .. } => will_restart(cause),
        State::Backoff { .. } | State::Failed { .. } => true,
        State::Draining { .. } | State::Stopping { .. } => false,
        State::Down
        | State::Asleep
        | State::Waiting
        | State::Starting { .. }
        | State::Ready { .. }
        | State::Unready { .. }
        | State::Completed { .. } => false,
    }
}

/// Whether the others of a worker's group wait for it.
fn holds(worker: &Worker) -> bool {
    match worker.state {
        State::Backoff { .. } | State::Failed { .. } => true,
        State::Draining { then, .. } | State::Stopping { then, .. } => match then {
            AfterStop::Together | AfterStop::Policy | AfterStop::Replace(_) => true,
            AfterStop::Down | AfterStop::Sleep | AfterStop::Restart | AfterStop::Recycle(_) => false,
        },
        State::Down
        | State::Asleep
        | State::Waiting
        | State::Starting { .. }
        | State::Ready { .. }
        | State::Unready { .. }
        | State::Completed { .. } => false,
    }
}
