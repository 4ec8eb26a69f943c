//! What the numbers of a roll promise, looked at after each step.

use std::{collections::BTreeMap, time::Instant};

use watt_core::{
    WorkerId,
    plan::RestartOrder,
    worker::{AfterStop, Part, State, Worker},
};

use crate::world::World;

impl World {
    /// A roll has no more places than its surge beside those that are wanted, takes none away when too few would be left, and lets
    /// none go for a new one that has not proved itself.
    pub(crate) fn check_numbers(&self, before: &BTreeMap<WorkerId, Worker>) {
        let is_up = |worker: &Worker| matches!(worker.state, State::Ready { .. } | State::Unready { .. });
        for (name, plan) in &self.plan.services {
            let workers: BTreeMap<&WorkerId, &Worker> = self.fleet.workers_of(name).collect();
            let overlaps = plan.restart.order == RestartOrder::StartFirst;
            let steps = plan.roll.steps(plan.workers.first(), overlaps);
            let is_beside = |id: &WorkerId, worker: &Worker| match worker.part {
                Part::Replaces => true,
                Part::Leaves => workers.contains_key(&id.beside()),
                Part::Stays | Part::Due | Part::Returns | Part::Outdated => false,
            };
            let beside = workers.iter().filter(|(id, worker)| is_beside(id, worker)).count();
            assert!(beside <= steps.surge, "{beside} beside those that are wanted");
            let counts = |worker: &&&Worker| {
                is_up(worker) && matches!(worker.part, Part::Stays | Part::Due | Part::Outdated)
            };
            let up = workers.values().filter(counts).count();
            for (id, worker) in &workers {
                let Some(was) = before.get(*id).filter(|was| is_up(was)) else { continue };
                let restarts = matches!(
                    worker.state,
                    State::Draining { then: AfterStop::Restart, .. }
                        | State::Stopping { then: AfterStop::Restart, .. }
                );
                if restarts {
                    let least = usize::from(plan.workers.first().get()) - steps.unavailable;
                    assert!(up >= least, "{id} was taken away, and {up} are left of {least}");
                }
                // One that ends by itself, or for its own fault, makes way for the new one as it is.
                let is_taken = matches!(worker.state, State::Draining { .. }) && !self.was_own_fault;
                if was.part == Part::Due && worker.part == Part::Leaves && is_taken {
                    let new = workers.get(&id.beside()).map(|new| &new.state);
                    let proved = |since: &Instant| *since + plan.roll.min_healthy <= self.now;
                    assert!(
                        matches!(new, Some(State::Ready { since, .. }) if proved(since)),
                        "{id} went for {new:?}"
                    );
                }
            }
        }
    }
}
