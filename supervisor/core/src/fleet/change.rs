//! Another plan for a fleet that runs.
//!
//! The plan it is given has, besides the services of the new configuration, those that are [`Leaving`], until their workers have
//! gone: what is to be stopped has to be known by somebody.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use super::{Fleet, FleetEffects, Input, Order, Selection, scale};
use crate::{
    RunId, ServiceId, WorkerId,
    plan::Plan,
    worker::{Event, ExitCause, Part, State, Wanted, Worker},
};

/// A service that is no longer configured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leaving {
    /// Services that may still need it: it is stopped when their workers have been replaced.
    pub after: BTreeSet<ServiceId>,
}

/// Which workers a change of plan replaces: of these services, those with a run up to this number.
pub type Renewal = BTreeMap<ServiceId, RunId>;

/// Runs that are of a plan although older ones than these are not, and newer ones were not, because it has been in force before: of
/// these services, those after the first number, up to the second.
pub type Spared = BTreeMap<ServiceId, (RunId, RunId)>;

/// Whether a run is one of those.
pub fn is_spared(spared: &Spared, service: &ServiceId, run: RunId) -> bool {
    spared.get(service).is_some_and(|(after, up_to)| run > *after && run <= *up_to)
}

impl Fleet {
    /// The number of the last run, which is of the present plan, like all before it.
    pub fn last_run(&self) -> RunId {
        self.ids.last_id()
    }

    /// Says which runs of services are of the plan that comes next. Neither [`Fleet::change`] nor [`Fleet::go_on`] replaces them.
    pub fn spare(&mut self, runs: Spared) {
        self.spared = runs;
    }

    /// Takes another plan. Workers that it has more are started, unless their service was stopped; those it has no longer are stopped;
    /// those of services in `renewal` are replaced. The order of starts and stops is the new one from now on.
    pub fn change(
        &mut self,
        now: Instant,
        plan: &Arc<Plan>,
        leaving: BTreeMap<ServiceId, Leaving>,
        renewal: &Renewal,
        effects: &mut FleetEffects,
    ) {
        scale::carry_over(&mut self.counts, &self.plan, plan);
        self.counts.extend(std::mem::take(&mut self.counts_back));
        self.plan = Arc::clone(plan);
        self.order = Order::new(plan);
        let before = std::mem::replace(&mut self.leaving, leaving);
        // What comes back is not to be stopped for that it had to go.
        self.stops.retain(|id, _| !before.contains_key(id) || self.leaving.contains_key(id));
        self.began.retain(|id, _| !renewal.contains_key(id));
        self.kept.retain(|id, _| !renewal.contains_key(id) && plan.services.contains_key(id));
        // What failed before is nothing that this plan could be blamed for.
        self.failed_rolls.retain(|id, _| !renewal.contains_key(id) && plan.services.contains_key(id));
        // Those whose stop was taken back have their turns again.
        self.renewable.extend(self.renewing.iter().cloned());
        self.fit();
        self.wake_who_may_not_sleep(now, effects);
        self.renew(now, renewal, effects);
        // Another one may have other dependencies.
        self.startable.extend(plan.services.keys().cloned());
        self.settle(now, effects);
    }

    /// Goes on with a change of plan that a predecessor began: marks what it may not have marked. To be called after
    /// [`Fleet::adopt`]. Workers that nobody has noted are started like those of [`Fleet::change`].
    pub fn go_on(
        &mut self,
        now: Instant,
        leaving: BTreeMap<ServiceId, Leaving>,
        renewal: &Renewal,
        unnoted: &BTreeSet<WorkerId>,
        effects: &mut FleetEffects,
    ) {
        self.leaving = leaving;
        self.fit();
        self.wake_who_may_not_sleep(now, effects);
        for id in unnoted {
            let is_wanted = self.is_wanted_without(&id.service, unnoted);
            if is_wanted && self.worker(id).is_some_and(|worker| worker.part == Part::Stays) {
                self.tell(now, id, Input::Event(Event::Start), effects);
            }
        }
        self.renew(now, renewal, effects);
        self.settle(now, effects);
    }

    /// Whether a service is to go. Its workers are still there.
    pub fn is_leaving(&self, service: &ServiceId) -> bool {
        self.leaving.contains_key(service)
    }

    /// Services that go, and have no worker any more: a plan without them can take the place of this one.
    pub fn left(&self) -> Vec<ServiceId> {
        // The order of stops goes by those whose turn has not come, also when they have nothing left to be stopped.
        let has_left =
            |id: &&ServiceId| self.workers_of(id).next().is_none() && !self.stops.contains_key(*id);
        self.leaving.keys().filter(has_left).cloned().collect()
    }

    /// Takes a plan without a service that has [`left`](Fleet::left).
    pub fn forget(&mut self, plan: &Arc<Plan>, service: &ServiceId) {
        self.plan = Arc::clone(plan);
        self.order = Order::new(plan);
        self.leaving.remove(service);
        self.spared.remove(service);
        self.stops.remove(service);
        self.alone.remove(service);
        self.kept.remove(service);
        self.counts.remove(service);
        self.began.remove(service);
        self.look_at.remove(service);
    }

    /// The services that a leaving one is still kept for.
    pub fn kept_for(&self, service: &ServiceId) -> Vec<ServiceId> {
        let is_old = |id: &&ServiceId| self.workers_of(id).any(|(_, worker)| worker.part != Part::Stays);
        let after = self.leaving.get(service).map(|leaving| &leaving.after);
        after.into_iter().flatten().filter(is_old).cloned().collect()
    }

    /// Gives each worker its part in the present plan: those that it does not have go.
    pub(super) fn fit(&mut self) {
        let mut parts = Vec::new();
        for (id, worker) in &self.workers {
            let count = self.count(&id.service);
            let is_back = worker.part == Part::Leaves
                && worker.wanted == Wanted::Up
                && !self.workers.contains_key(&id.beside());
            if id.index >= count {
                parts.push((id.clone(), Part::Leaves));
            } else if is_back {
                parts.push((id.clone(), Part::Stays));
            }
        }
        for (id, part) in parts {
            self.set_part(&id, part);
        }
        let incomplete: Vec<ServiceId> =
            self.plan.services.keys().filter(|id| self.missing(id).next().is_some()).cloned().collect();
        for service in incomplete {
            self.look_at(&service);
        }
    }

    /// The indexes of a service at which there is no worker that stays.
    fn missing(&self, service: &ServiceId) -> impl Iterator<Item = WorkerId> {
        let count = self.count(service);
        let stays = |id: &WorkerId| self.workers.get(id).is_some_and(|worker| worker.part != Part::Leaves);
        let first = (0..count).map(|index| WorkerId::new(service.clone(), index));
        first.filter(move |id| !stays(id) && !stays(&id.beside()))
    }

    /// Adds a worker that the plan has and that is not there, when one of its places is free.
    pub(super) fn add_missing(
        &mut self,
        now: Instant,
        service: &ServiceId,
        effects: &mut FleetEffects,
    ) -> bool {
        let can_overlap = self.can_overlap(service);
        let free = |first: WorkerId| {
            let places = [first.beside(), first];
            let runs = |id: &WorkerId| self.workers.get(id).is_some_and(|worker| worker.run().is_some());
            if !can_overlap && places.iter().any(runs) {
                return None;
            }
            places.into_iter().rev().find(|id| !self.workers.contains_key(id))
        };
        let Some(id) = self.missing(service).find_map(free) else { return false };
        let is_wanted = self.is_wanted_without(service, &BTreeSet::new());
        self.workers.insert(id.clone(), Worker::new());
        self.removed.remove(&id);
        self.changed.insert(id.clone());
        if is_wanted && !self.is_to_stop(service) {
            self.tell(now, &id, Input::Event(Event::Start), effects);
        }
        true
    }

    /// Whether the workers of a service are wanted up, as far as there are others than these.
    fn is_wanted_without(&self, service: &ServiceId, others: &BTreeSet<WorkerId>) -> bool {
        let counts =
            |(id, worker): &(&WorkerId, &Worker)| worker.part != Part::Leaves && !others.contains(*id);
        let mut wanted = self.workers_of(service).filter(counts).map(|(_, worker)| worker.wanted).peekable();
        wanted.peek().is_none() || wanted.any(|wanted| wanted == Wanted::Up)
    }

    /// Marks what is to be replaced. One that has no run, or whose run does not serve yet, is tried with the new plan at once, and waited
    /// for before others are. What was marked, or tried with the new plan, before stays as it is, so that a successor can do it once more.
    fn renew(&mut self, now: Instant, renewal: &Renewal, effects: &mut FleetEffects) {
        for (service, last) in renewal {
            for id in self.places(service) {
                let Some(worker) = self.workers.get(&id) else { continue };
                let is_own = |run: RunId| is_spared(&self.spared, service, run);
                if worker.run().or(worker.record.last_run).is_some_and(is_own) {
                    if matches!(worker.part, Part::Due | Part::Outdated) {
                        self.set_part(&id, Part::Stays);
                    }
                    continue;
                }
                self.renew_place(now, &id, *last, effects);
            }
        }
    }

    /// Marks a worker to be replaced whose run is not above this one.
    pub(super) fn renew_place(
        &mut self,
        now: Instant,
        id: &WorkerId,
        last: RunId,
        effects: &mut FleetEffects,
    ) {
        let Some(worker) = self.workers.get(id) else { return };
        let newest = newest_run(worker);
        let is_old = newest.is_none_or(|run| run <= last);
        match (worker.part, &worker.state) {
            _ if !is_old || worker.wanted == Wanted::Down => {}
            (Part::Leaves, _) => {}
            // A replacement that is of an earlier plan as well: the next one follows it.
            (Part::Replaces, _) if worker.run().is_some() => self.set_part(id, Part::Leaves),
            (Part::Replaces, _) => {}
            (_, State::Ready { .. } | State::Unready { .. }) => self.set_part(id, Part::Due),
            // It has shown before what it is for, or is an additional one.
            (_, State::Completed { exit: ExitCause::Exited(0) }) => {
                self.tell(now, id, Input::Event(Event::Restart), effects);
            }
            _ if newest.is_none() => self.tell(now, id, Input::Event(Event::Restart), effects),
            _ => {
                self.set_part(id, Part::Returns);
                self.tell(now, id, Input::Event(Event::Restart), effects);
            }
        }
    }

    /// Stops services that go and that nobody needs any more. Says whether there were some.
    pub(super) fn stop_what_leaves(&mut self) -> bool {
        let is_asked = |id: &ServiceId| {
            self.stops.contains_key(id)
                || self.workers_of(id).all(|(_, worker)| worker.wanted == Wanted::Down)
        };
        let is_renewed = |id: &ServiceId| {
            self.workers_of(id).all(|(_, worker)| worker.part == Part::Stays) || self.leaving.contains_key(id)
        };
        let ready =
            |(id, leaving): &(&ServiceId, &Leaving)| !is_asked(id) && leaving.after.iter().all(is_renewed);
        let services: BTreeSet<ServiceId> =
            self.leaving.iter().filter(ready).map(|(id, _)| id.clone()).collect();
        let are_some = !services.is_empty();
        if are_some {
            self.stop(&Selection::Services(services));
        }
        are_some
    }
}

/// The newest run that was tried in a worker's place. Of one whose replacement failed, its own run is old, and whether a new one was
/// tried is what counts.
pub(super) fn newest_run(worker: &Worker) -> Option<RunId> {
    match worker.part {
        Part::Outdated => worker.record.last_run,
        Part::Stays | Part::Due | Part::Replaces | Part::Returns | Part::Leaves => {
            worker.run().or(worker.record.last_run)
        }
    }
}
