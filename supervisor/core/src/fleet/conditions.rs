//! Whether what a service depends on is there.

use std::collections::BTreeSet;

use super::Fleet;
use crate::{
    ServiceId,
    plan::{Condition, Dependency, Health, RestartPolicy, Service},
    worker::{AfterStop, ExitCause, Part, State, Worker},
};

impl Fleet {
    /// What a service still waits for, and what of that: dependencies, and the one of its group that failed.
    pub fn waiting_for(&self, service: &ServiceId) -> Vec<(ServiceId, Condition)> {
        let Some(plan) = self.plan(service) else { return Vec::new() };
        let unmet = |(on, dependency): (&ServiceId, &Dependency)| {
            (!self.is_met(on, *dependency)).then(|| (on.clone(), dependency.condition))
        };
        let dependencies = plan.depends_on.iter().filter_map(unmet);
        dependencies.chain(self.held_by(service).map(|holder| (holder, Condition::Started))).collect()
    }

    fn is_met(&self, on: &ServiceId, dependency: Dependency) -> bool {
        // One that leaves keeps those that leave with it: they are stopped together, and are not to start for that.
        let may_go_without = !dependency.required && !self.is_leaving(on);
        self.has_reached(on, dependency.condition)
            || (may_go_without && !self.is_coming(on, dependency.condition))
    }

    /// A service whose wait is over for a reason that is further away than its neighbours: one that it can do without will not come,
    /// because something that that one needs does not.
    pub(super) fn freed(&self) -> Option<ServiceId> {
        let is_free = |service: &&ServiceId| {
            self.workers_of(service).any(|(_, worker)| worker.state == State::Waiting)
                && self.waiting_for(service).is_empty()
        };
        self.order.lenient().iter().find(is_free).cloned()
    }

    /// The workers of a service that count: one that is to take over from another, or has been taken over from, is beside the one
    /// that does.
    pub(super) fn counting(&self, service: &ServiceId) -> impl Iterator<Item = &Worker> {
        let workers = self.workers_of(service).map(|(_, worker)| worker);
        workers.filter(|worker| !matches!(worker.part, Part::Replaces | Part::Leaves))
    }

    /// Whether every worker of a service has reached a condition.
    pub(super) fn has_reached(&self, service: &ServiceId, condition: Condition) -> bool {
        let Some(plan) = self.plan(service) else { return false };
        let mut workers = self.counting(service).peekable();
        workers.peek().is_some() && workers.all(|worker| has_reached(plan, worker, condition))
    }

    /// Whether a service may still reach a condition without anything that failed being tried again. Walks with a stack of its own: a
    /// chain may be as long as there are services.
    fn is_coming(&self, service: &ServiceId, condition: Condition) -> bool {
        let mut open = vec![(service, condition)];
        let mut seen = BTreeSet::new();
        while let Some((service, condition)) = open.pop() {
            if !seen.insert((service, condition)) || self.has_reached(service, condition) {
                continue;
            }
            let Some(plan) = self.plan(service) else { return false };
            let mut workers = self.counting(service).peekable();
            let comes = |worker| has_reached(plan, worker, condition) || is_coming(plan, worker, condition);
            if workers.peek().is_none() || !workers.all(comes) {
                return false;
            }
            if self.counting(service).any(|worker| worker.state == State::Waiting) {
                let required = plan.depends_on.iter().filter(|(_, dependency)| dependency.required);
                open.extend(required.map(|(on, dependency)| (on, dependency.condition)));
                if self.held_by(service).is_some() {
                    return false;
                }
            }
        }
        true
    }
}

/// Whether a worker has reached a condition. One that completed well has reached all of them: there is nothing more to wait for.
fn has_reached(plan: &Service, worker: &Worker, condition: Condition) -> bool {
    match (&worker.state, condition) {
        (State::Completed { exit }, condition) => {
            condition == Condition::Completed || *exit == ExitCause::Exited(0)
        }
        (State::Failed { .. }, Condition::Completed) => true,
        (State::Ready { .. }, Condition::Started | Condition::Ready)
        | (State::Unready { .. }, Condition::Started)
        // It is there as soon as somebody wants it.
        | (State::Asleep, Condition::Started | Condition::Ready | Condition::Healthy) => true,
        (State::Ready { run, .. }, Condition::Healthy) => match plan.health {
            Some(Health::Check(..)) => worker.record.healthy_run == Some(*run),
            // Silence is what would tell.
            Some(Health::Watchdog(_)) | None => true,
        },
        (State::Starting { executed, .. }, Condition::Started) => *executed,
        (
            State::Ready { .. } | State::Asleep,
            Condition::Completed | Condition::CompletedSuccessfully,
        )
        | (
            State::Unready { .. } | State::Starting { .. },
            Condition::Ready | Condition::Healthy | Condition::Completed | Condition::CompletedSuccessfully,
        )
        | (
            State::Failed { .. },
            Condition::Started | Condition::Ready | Condition::Healthy | Condition::CompletedSuccessfully,
        )
        | (
            State::Down
            | State::Waiting
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Backoff { .. },
            Condition::Started
            | Condition::Ready
            | Condition::Healthy
            | Condition::Completed
            | Condition::CompletedSuccessfully,
        ) => false,
    }
}

/// Whether a worker that has not reached a condition is on its way there, and has not failed on it.
fn is_coming(plan: &Service, worker: &Worker, condition: Condition) -> bool {
    let may_end = condition.is_end() && plan.restart.policy != RestartPolicy::Always;
    match worker.state {
        State::Down | State::Backoff { .. } | State::Failed { .. } | State::Completed { .. } => false,
        State::Draining { then: AfterStop::Down, .. } | State::Stopping { then: AfterStop::Down, .. } => {
            false
        }
        State::Ready { .. } => condition == Condition::Healthy || may_end,
        // It may be ready again, and nobody knows when.
        State::Unready { .. } | State::Asleep => may_end,
        State::Waiting | State::Starting { .. } | State::Draining { .. } | State::Stopping { .. } => {
            worker.record.failures_in_row == 0 && (!condition.is_end() || may_end)
        }
    }
}
