//! The renewal of a service: each of its workers is replaced by a new one, one after the other, without a moment in which fewer
//! are ready than there were.
//!
//! ```text
//! Due ─its turn→ (a new one beside it: Replaces) ─ready→ Stays, and the old one Leaves ─down→ its place is gone
//!  │                          └─ failed → it Leaves; the old one, and all that are Due: Outdated
//!  └─its turn, where two cannot run→ Returns ─ready→ Stays
//!                                       └─ failed → Stays; all that are Due: Outdated
//! ```
//!
//! What is known of a renewal is the part of each worker in it, and nothing else: a successor of the daemon that finds the parts
//! goes on where its predecessor was.

use std::time::Instant;

use super::{Fleet, FleetEffects, Input};
use crate::{
    ServiceId, WorkerId,
    plan::{Listen, RestartOrder, RestartPolicy},
    worker::{Event, ExitCause, Part, State, Wanted, Worker},
};

/// How far a new worker is that is waited for.
enum Progress {
    Going,
    There,
    Failed(ExitCause),
    /// The operator wants it down.
    Withdrawn,
}

/// A worker that was to be replaced and whose run ends gets a new run in any case.
pub(super) fn forget_if_over(worker: &mut Worker) {
    if matches!(worker.part, Part::Due | Part::Outdated)
        && !matches!(worker.state, State::Ready { .. } | State::Unready { .. })
    {
        worker.part = Part::Stays;
    }
}

impl Fleet {
    /// Whether workers of this service are being replaced.
    pub fn is_renewing(&self, service: &ServiceId) -> bool {
        let is_new = |part: Part| matches!(part, Part::Due | Part::Replaces | Part::Returns);
        self.renewing.contains(service) && self.workers_of(service).any(|(_, worker)| is_new(worker.part))
    }

    /// Places that are no more since the last call. What was kept under their names can go.
    pub fn take_removed(&mut self) -> std::collections::BTreeSet<WorkerId> {
        std::mem::take(&mut self.removed)
    }

    /// An operator's restart. Workers that are not ready are started anew at once: there is nothing that could be lost.
    pub(super) fn restart(&mut self, now: Instant, service: &ServiceId, effects: &mut FleetEffects) {
        let joins = self.is_renewing(service);
        for id in self.places(service) {
            let Some(worker) = self.workers.get(&id) else { continue };
            match (worker.part, &worker.state) {
                (Part::Leaves, _) => {}
                (Part::Replaces | Part::Returns, _) if joins => {}
                (_, State::Ready { .. } | State::Unready { .. }) if joins => {}
                (_, State::Ready { .. } | State::Unready { .. }) => self.set_part(&id, Part::Due),
                _ => self.tell(now, &id, Input::Event(Event::Restart), effects),
            }
        }
    }

    /// Goes on with the renewals for which there is news.
    pub(super) fn renew_what_may_be_renewed(&mut self, now: Instant, effects: &mut FleetEffects) {
        while let Some(service) = self.renewable.pop_first() {
            while self.renew_one(now, &service, effects) {}
            self.renewable.remove(&service);
        }
    }

    /// Does the next thing, and says whether there was one.
    fn renew_one(&mut self, now: Instant, service: &ServiceId, effects: &mut FleetEffects) -> bool {
        let places = self.places(service);
        if places.iter().any(|id| self.let_go(now, id, effects))
            || places.iter().any(|id| self.follow(now, id, effects))
            || self.add_missing(now, service, effects)
        {
            return true;
        }
        let part = |id: &WorkerId| self.workers.get(id).map_or(Part::Stays, |worker| worker.part);
        let parts: Vec<Part> = places.iter().map(part).collect();
        // One at a time: the next one when the new one is there and the old one has gone.
        let is_busy = |(id, part): (&WorkerId, &Part)| match part {
            Part::Replaces | Part::Returns => true,
            Part::Leaves => self.workers.contains_key(&id.beside()),
            Part::Stays | Part::Due | Part::Outdated => false,
        };
        if places.iter().zip(&parts).any(is_busy) {
            return false;
        }
        if let Some((id, _)) = places.iter().zip(&parts).find(|(_, part)| **part == Part::Due) {
            return self.take_turn(now, id, effects);
        }
        if parts.iter().all(|part| *part == Part::Stays) {
            self.renewing.remove(service);
        }
        false
    }

    /// A place that goes: its worker is told to stop, and when it is down the place is no more.
    fn let_go(&mut self, now: Instant, id: &WorkerId, effects: &mut FleetEffects) -> bool {
        let Some(worker) = self.workers.get(id).filter(|worker| worker.part == Part::Leaves) else {
            return false;
        };
        match (&worker.state, worker.wanted) {
            (State::Down, _) => {
                self.workers.remove(id);
                self.changed.remove(id);
                self.removed.insert(id.clone());
                true
            }
            // A whole service goes in the order of dependencies.
            (_, Wanted::Up) if !self.leaving.contains_key(&id.service) => {
                self.tell(now, id, Input::Event(Event::Stop), effects);
                true
            }
            (_, Wanted::Up | Wanted::Down) => false,
        }
    }

    /// A new worker that is waited for.
    fn follow(&mut self, now: Instant, id: &WorkerId, effects: &mut FleetEffects) -> bool {
        let Some(worker) = self.workers.get(id) else { return false };
        match (worker.part, progress(worker)) {
            // Returns => (Stays).
            (Part::Returns, Progress::There | Progress::Withdrawn) => self.set_part(id, Part::Stays),
            (Part::Returns, Progress::Failed(cause)) => {
                self.set_part(id, Part::Stays);
                self.give_up(id, cause, false);
            }
            // Replaces => (Stays): it takes over.
            (Part::Replaces, Progress::There) => self.take_over(now, id, effects),
            // Its turn has come sooner: the old one has ended by itself.
            (Part::Replaces, Progress::Going) if !self.is_up(&id.beside()) => {
                self.take_over(now, id, effects);
            }
            // Replaces => (Leaves): the old one goes on.
            (Part::Replaces, Progress::Failed(cause)) => {
                self.set_part(id, Part::Leaves);
                self.give_up(id, cause, true);
            }
            (Part::Replaces, Progress::Withdrawn) => {
                self.set_part(id, Part::Leaves);
                self.set_part(&id.beside(), Part::Stays);
            }
            (Part::Returns | Part::Replaces, Progress::Going)
            | (Part::Stays | Part::Due | Part::Outdated | Part::Leaves, _) => return false,
        }
        true
    }

    fn take_over(&mut self, now: Instant, id: &WorkerId, effects: &mut FleetEffects) {
        self.set_part(id, Part::Stays);
        let beside = id.beside();
        if self.workers.contains_key(&beside) {
            self.set_part(&beside, Part::Leaves);
            self.tell(now, &beside, Input::Event(Event::Stop), effects);
        }
    }

    /// The turn of one that is due has come.
    fn take_turn(&mut self, now: Instant, id: &WorkerId, effects: &mut FleetEffects) -> bool {
        let Some(worker) = self.workers.get(id) else { return false };
        if self.shutting_down || worker.wanted == Wanted::Down {
            self.set_part(id, Part::Stays);
            return true;
        }
        if !self.can_overlap(&id.service) {
            self.set_part(id, Part::Returns);
            self.tell(now, id, Input::Event(Event::Restart), effects);
            return true;
        }
        let mut record = worker.record.clone();
        record.forget_failures();
        let beside = id.beside();
        self.workers.insert(beside.clone(), Worker { record, part: Part::Replaces, ..Worker::new() });
        self.removed.remove(&beside);
        self.tell(now, &beside, Input::Event(Event::Start), effects);
        true
    }

    /// Whether a new worker can run beside the one that it replaces, and something is won by that: one that takes no requests
    /// loses none, and might do its work twice.
    pub(super) fn can_overlap(&self, service: &ServiceId) -> bool {
        self.plan.services.get(service).is_some_and(|plan| {
            plan.restart.order == RestartOrder::StartFirst
                && plan.restart.policy != RestartPolicy::Never
                && plan.listen != Listen::None
                && !self.alone.contains(service)
        })
    }

    /// This new worker failed: those that are still to be replaced go on as they are.
    fn give_up(&mut self, new: &WorkerId, cause: ExitCause, is_replaced: bool) {
        let service = &new.service;
        let tried = self.workers.get(new).and_then(|worker| worker.record.last_run);
        let due: Vec<WorkerId> = self
            .workers_of(service)
            .filter(|(_, worker)| worker.part == Part::Due)
            .map(|(id, _)| id.clone())
            .collect();
        if is_replaced || !due.is_empty() {
            self.kept.insert(service.clone(), cause);
        }
        for id in due {
            if let Some(worker) = self.workers.get_mut(&id) {
                worker.record.last_run = tried;
            }
            self.set_part(&id, Part::Outdated);
        }
    }

    pub(super) fn set_part(&mut self, id: &WorkerId, part: Part) {
        let Some(worker) = self.workers.get_mut(id).filter(|worker| worker.part != part) else { return };
        worker.part = part;
        self.changed.insert(id.clone());
        self.look_at(&id.service);
        // Conditions are those of the workers that count.
        self.startable.insert(id.service.clone());
        self.startable.extend(self.order.dependents(&id.service).iter().cloned());
    }

    /// A worker of this service may have something to do in a renewal.
    pub(super) fn look_at(&mut self, service: &ServiceId) {
        self.renewing.insert(service.clone());
        self.renewable.insert(service.clone());
    }

    /// Whether it was ready and still runs.
    fn is_up(&self, id: &WorkerId) -> bool {
        let is_up = |state: &State| matches!(state, State::Ready { .. } | State::Unready { .. });
        self.workers.get(id).is_some_and(|worker| is_up(&worker.state))
    }
}

fn progress(worker: &Worker) -> Progress {
    let failed = || Progress::Failed(worker.record.last_exit.clone().unwrap_or(ExitCause::Unknown));
    if worker.wanted == Wanted::Down {
        return Progress::Withdrawn;
    }
    match &worker.state {
        State::Ready { .. } | State::Completed { exit: ExitCause::Exited(0) } => Progress::There,
        State::Failed { .. } | State::Completed { .. } => failed(),
        State::Waiting | State::Starting { .. } | State::Stopping { .. } | State::Backoff { .. }
            if worker.record.failures_in_row > 0 =>
        {
            failed()
        }
        State::Down
        | State::Waiting
        | State::Starting { .. }
        | State::Unready { .. }
        | State::Draining { .. }
        | State::Stopping { .. }
        | State::Backoff { .. } => Progress::Going,
    }
}
