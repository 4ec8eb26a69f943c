//! How many workers a service has: as many as its plan says, or another number since somebody said so.
//!
//! Another number is not part of the plan, so that it can change while a reload is under way, and nothing of a plan has to be written
//! anew for it. It holds until a plan says of the service's workers something else than the one before.

use std::{collections::BTreeMap, num::NonZeroU16, time::Instant};

use super::{Fleet, FleetEffects};
use crate::{
    ServiceId,
    plan::{Plan, Workers},
};

/// Numbers of workers that are others than the plan's.
pub type WorkerCounts = BTreeMap<ServiceId, NonZeroU16>;

impl Fleet {
    /// How many workers a service has, or is on the way to have; none when it goes, or there is no such service.
    pub fn count(&self, service: &ServiceId) -> u16 {
        match self.plan.services.get(service) {
            Some(plan) if !self.leaving.contains_key(service) => {
                self.counts.get(service).copied().unwrap_or(plan.workers.first()).get()
            }
            _ => 0,
        }
    }

    /// Gives a service so many workers, or those of the plan again. New ones are started, unless it was stopped; of too many, those with
    /// the highest indexes answer their last requests and go.
    pub fn scale(
        &mut self,
        now: Instant,
        service: &ServiceId,
        count: Option<NonZeroU16>,
        effects: &mut FleetEffects,
    ) {
        match count {
            Some(count) => drop(self.counts.insert(service.clone(), count)),
            None => drop(self.counts.remove(service)),
        }
        self.fit();
        // The plan's own order of things has others in front: there may be nothing to start, and something to look at.
        self.look_at(service);
        self.settle(now, effects);
    }

    /// The numbers of those that have not as many as the plan says.
    pub fn counts(&self) -> &WorkerCounts {
        &self.counts
    }

    /// Says how many workers services had by somebody's word under the plan that comes next, which has been in force before.
    pub fn bring_back(&mut self, counts: WorkerCounts) {
        self.counts_back = counts;
    }

    /// Takes over the numbers of a predecessor. To be called before [`Fleet::adopt`].
    pub fn adopt_counts(&mut self, counts: WorkerCounts) {
        self.counts = counts;
        self.workers =
            super::first_places(&self.plan, &self.counts).map(|id| (id, Default::default())).collect();
    }
}

/// Forgets the numbers of services of whose workers `new` says something else than `old`. Where that is that they follow what there is to do,
/// they go on from what they are.
pub(super) fn carry_over(counts: &mut WorkerCounts, old: &Plan, new: &Plan) {
    let mut carried = WorkerCounts::new();
    for (id, service) in &new.services {
        let Some(before) = old.services.get(id) else { continue };
        let count = counts.get(id).copied();
        let carries = match &service.workers {
            same if *same == before.workers => count,
            Workers::Scaled(scaling) => Some(scaling.clamp(count.unwrap_or(before.workers.first()))),
            Workers::Fixed(_) => None,
        };
        carried.extend(carries.map(|count| (id.clone(), count)));
    }
    *counts = carried;
}
