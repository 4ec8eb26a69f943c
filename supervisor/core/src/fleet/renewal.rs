//! The renewal of a service, a roll: each of its workers is replaced by a new one, so many at a time as [`Roll`](crate::plan::Roll)
//! says. By default that is one, and without a moment in which fewer are ready than there were.
//!
//! ```text
//! Due ─its turn→ (a new one beside it: Replaces) ─healthy→ Stays, and the old one Leaves ─down→ its place is gone
//!  │                          ├─ failed → all that are new beside others Leave; all that are Due: Outdated
//!  │                          └─ the old one ends by itself → Returns, in the place where it is
//!  └─its turn, and one fewer may run→ Returns ─healthy→ Stays
//!                                       └─ failed → Stays; the same for the others
//! ```
//!
//! Healthy is who has been ready for `min_healthy`. There are never more places beside those that are configured than `surge`, and by
//! the roll never fewer workers up than `max_unavailable` less than configured; one that its own check takes out of the table for a
//! while is up. Where others are down by themselves, those that may come up are waited for, and the roll fails when none of them may.
//!
//! What is known of a renewal is the part of each worker in it, and nothing else: a successor of the daemon that finds the parts
//! goes on where its predecessor was. Only the deadline of the whole is counted anew by it.

use std::{collections::BTreeMap, num::NonZeroU16, time::Instant};

use super::{Fleet, FleetEffects, Input, verdict};
use crate::{
    RunId, ServiceId, WorkerId,
    plan::{Listen, RestartOrder, RestartPolicy, Service, Steps},
    worker::{AfterStop, Event, ExitCause, Part, State, Wanted, Worker, later},
};

/// Why workers of an earlier plan, or an earlier start, were kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WhyKept {
    /// A new worker ended so.
    Ended(ExitCause),
    /// The roll took longer than it may.
    Deadline,
    /// Others are down and do not come up, so that none could be taken away.
    TooFew,
}

/// How far a service's roll is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RollProgress {
    /// Workers that were replaced.
    pub replaced: usize,
    /// Workers that are to be.
    pub of: usize,
}

/// How far a new worker is that is waited for.
enum Progress {
    Going,
    /// To be looked at again at this time, when it has been ready, or unready, for long enough.
    Proving(Instant),
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

    /// How far the roll of this service is, while there is one.
    pub fn roll_progress(&self, service: &ServiceId) -> Option<RollProgress> {
        if !self.is_renewing(service) {
            return None;
        }
        let of = self.count(service).into();
        // Beside each that is Due there may be one that Replaces it, which is the same worker for the operator.
        let is_old = |worker: &Worker| matches!(worker.part, Part::Due | Part::Returns | Part::Outdated);
        let old = self.workers_of(service).filter(|(_, worker)| is_old(worker)).count();
        Some(RollProgress { replaced: usize::saturating_sub(of, old), of })
    }

    /// Why this service's roll failed, if it did since the last call of [`Fleet::take_failed_rolls`].
    pub fn failed_roll(&self, service: &ServiceId) -> Option<&WhyKept> {
        self.failed_rolls.get(service)
    }

    /// Whether somebody wants this service up.
    pub fn is_wanted(&self, service: &ServiceId) -> bool {
        self.workers_of(service).any(|(_, worker)| worker.wanted == Wanted::Up && worker.part != Part::Leaves)
    }

    /// Rolls that failed since the last call.
    pub fn take_failed_rolls(&mut self) -> BTreeMap<ServiceId, WhyKept> {
        std::mem::take(&mut self.failed_rolls)
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
            self.set_roll_clock(now, &service);
        }
    }

    /// Those of which it is time to look again.
    pub(super) fn look_at_due_rolls(&mut self, now: Instant) {
        let is_due = |(_, at): &(&ServiceId, &Instant)| **at <= now;
        let due: Vec<ServiceId> = self.look_at.iter().filter(is_due).map(|(id, _)| id.clone()).collect();
        for service in due {
            self.look_at.remove(&service);
            self.renewable.insert(service);
        }
    }

    /// Notes when this service's roll is to be looked at if nothing happens before: when one has proved itself, or the whole is late.
    fn set_roll_clock(&mut self, now: Instant, service: &ServiceId) {
        self.look_at.remove(service);
        if !self.is_renewing(service) {
            self.began.remove(service);
            return;
        }
        let began = *self.began.entry(service.clone()).or_insert(now);
        let Some(plan) = self.plan.services.get(service) else { return };
        let late = plan.roll.deadline.map(|deadline| later(began, deadline));
        let proving = self.workers_of(service).filter_map(|(_, worker)| match worker.part {
            Part::Replaces | Part::Returns => match self.progress(worker, now, plan) {
                Progress::Proving(until) => Some(until),
                Progress::Going | Progress::There | Progress::Failed(_) | Progress::Withdrawn => None,
            },
            Part::Stays | Part::Due | Part::Outdated | Part::Leaves => None,
        });
        if let Some(at) = proving.chain(late).min() {
            self.look_at.insert(service.clone(), at);
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
        if self.is_late(now, service) {
            self.fail(service, WhyKept::Deadline, None);
            return true;
        }
        if let Some(moved) = self.next_turn(now, service, &places, effects) {
            return moved;
        }
        if places.iter().all(|id| self.part(id) == Part::Stays) {
            self.renewing.remove(service);
        }
        false
    }

    /// The turn of the next one that is due, when there is room for it. `None` when none is due.
    fn next_turn(
        &mut self,
        now: Instant,
        service: &ServiceId,
        places: &[WorkerId],
        effects: &mut FleetEffects,
    ) -> Option<bool> {
        let is_next = |id: &&WorkerId| self.part(id) == Part::Due && !self.workers.contains_key(&id.beside());
        let next = places.iter().find(is_next)?;
        // That goes first, and may be taken back.
        if self.is_to_stop(service) {
            return Some(false);
        }
        let plan = self.plan.services.get(service)?;
        let workers = NonZeroU16::new(self.count(service)).unwrap_or(plan.workers.first());
        let Steps { surge, unavailable } = plan.roll.steps(workers, self.can_overlap(service));
        let is_beside = |id: &&WorkerId| match self.part(id) {
            Part::Replaces => true,
            Part::Leaves => self.workers.contains_key(&id.beside()),
            Part::Stays | Part::Due | Part::Returns | Part::Outdated => false,
        };
        let beside = places.iter().filter(is_beside).count();
        let down: Vec<&WorkerId> = places.iter().filter(|id| self.is_down(id)).collect();
        let returning = places.iter().filter(|id| self.part(id) == Part::Returns).count();
        // Those that return from a time when there was no surge take its place.
        let overlaps = beside < surge && beside + returning < surge + unavailable;
        if overlaps || down.len() < unavailable {
            let next = next.clone();
            return Some(self.take_turn(now, &next, overlaps, effects));
        }
        let is_hopeless = |id: &&WorkerId| self.is_hopeless(id);
        // One that goes on will make room. With none, those that are down by themselves have to.
        if beside == 0 && down.iter().all(is_hopeless) {
            self.fail(service, WhyKept::TooFew, None);
            return Some(true);
        }
        Some(false)
    }

    fn part(&self, id: &WorkerId) -> Part {
        self.workers.get(id).map_or(Part::Stays, |worker| worker.part)
    }

    /// Whether a worker that counts is not there: it does not run, or it is new and has not proved itself.
    fn is_down(&self, id: &WorkerId) -> bool {
        let Some(worker) = self.workers.get(id) else { return false };
        let is_done = matches!(worker.state, State::Asleep | State::Completed { exit: ExitCause::Exited(0) });
        match worker.part {
            Part::Returns => true,
            Part::Stays | Part::Due | Part::Outdated => !self.is_up(id) && !is_done,
            Part::Replaces | Part::Leaves => false,
        }
    }

    /// Whether a worker that is down has ended for good, as far as anybody can tell. One of the roll's own is followed anyway.
    fn is_hopeless(&self, id: &WorkerId) -> bool {
        let Some((worker, plan)) = self.workers.get(id).zip(self.plan.services.get(&id.service)) else {
            return true;
        };
        worker.part == Part::Stays
            && match worker.state {
                State::Failed { .. } | State::Completed { .. } => true,
                State::Waiting | State::Starting { .. } | State::Stopping { .. } | State::Backoff { .. } => {
                    verdict::has_had_its_chance(plan, worker)
                }
                State::Down
                | State::Asleep
                | State::Ready { .. }
                | State::Unready { .. }
                | State::Draining { .. } => false,
            }
    }

    /// Whether the roll of this service has taken longer than it may.
    fn is_late(&self, now: Instant, service: &ServiceId) -> bool {
        let deadline = self.plan.services.get(service).and_then(|plan| plan.roll.deadline);
        let late = self.began.get(service).zip(deadline).map(|(began, deadline)| later(*began, deadline));
        late.is_some_and(|late| late <= now) && self.is_renewing(service)
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
        let Some((worker, plan)) = self.workers.get(id).zip(self.plan.services.get(&id.service)) else {
            return false;
        };
        match (worker.part, self.progress(worker, now, plan)) {
            // Returns => (Stays).
            (Part::Returns, Progress::There | Progress::Withdrawn) => self.set_part(id, Part::Stays),
            (Part::Returns, Progress::Failed(cause)) => {
                let tried = worker.record.last_run;
                self.fail(&id.service, WhyKept::Ended(cause), tried);
            }
            // Replaces => (Stays): it takes over.
            (Part::Replaces, Progress::There) => self.take_over(now, id, Part::Stays, effects),
            // Replaces => (Returns): the old one has ended by itself, which says nothing of the new one.
            (Part::Replaces, Progress::Going | Progress::Proving(_)) if !self.is_up(&id.beside()) => {
                self.take_over(now, id, Part::Returns, effects);
            }
            // Replaces => (Leaves): the old one goes on.
            (Part::Replaces, Progress::Failed(cause)) => {
                let tried = worker.record.last_run;
                self.fail(&id.service, WhyKept::Ended(cause), tried);
            }
            // Replaces => (Leaves): a stop has begun, which may be taken back before it is the old one's turn.
            (Part::Replaces, Progress::Withdrawn) => {
                let beside = id.beside();
                let goes_on = self.workers.get(&beside).is_some_and(|old| old.wanted == Wanted::Up);
                self.set_part(id, Part::Leaves);
                self.set_part(&beside, if goes_on { Part::Due } else { Part::Stays });
            }
            (Part::Returns | Part::Replaces, Progress::Going | Progress::Proving(_))
            | (Part::Stays | Part::Due | Part::Outdated | Part::Leaves, _) => return false,
        }
        true
    }

    /// The old one beside it goes.
    fn take_over(&mut self, now: Instant, id: &WorkerId, part: Part, effects: &mut FleetEffects) {
        self.set_part(id, part);
        let beside = id.beside();
        if self.workers.contains_key(&beside) {
            self.set_part(&beside, Part::Leaves);
            self.tell(now, &beside, Input::Event(Event::Stop), effects);
        }
    }

    /// The turn of one that is due has come: a new one is started beside it, or in its own place.
    fn take_turn(&mut self, now: Instant, id: &WorkerId, overlaps: bool, effects: &mut FleetEffects) -> bool {
        let Some(worker) = self.workers.get(id) else { return false };
        if self.shutting_down || worker.wanted == Wanted::Down {
            self.set_part(id, Part::Stays);
            return true;
        }
        if !overlaps {
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

    /// The roll fails: those that are still to be replaced go on as they are, and the new ones that stand beside them go. `tried` is
    /// the run that failed.
    fn fail(&mut self, service: &ServiceId, why: WhyKept, tried: Option<RunId>) {
        let tried = tried.unwrap_or(self.ids.last_id());
        let mut keeps = false;
        for id in self.places(service) {
            match self.part(&id) {
                Part::Due => {
                    if let Some(worker) = self.workers.get_mut(&id) {
                        worker.record.last_run = Some(tried);
                    }
                    self.set_part(&id, Part::Outdated);
                    keeps = true;
                }
                Part::Replaces => self.set_part(&id, Part::Leaves),
                // It is of the new plan, and there is nobody to go back to.
                Part::Returns => self.set_part(&id, Part::Stays),
                Part::Stays | Part::Outdated | Part::Leaves => {}
            }
        }
        self.failed_rolls.insert(service.clone(), why.clone());
        if keeps {
            self.kept.insert(service.clone(), why);
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
        self.startable.extend(self.order.ended_with(&id.service).iter().cloned());
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

    /// How far a new worker is: it has to be ready for `min_healthy`, and to have had no failure since its turn came.
    fn progress(&self, worker: &Worker, now: Instant, plan: &Service) -> Progress {
        let failed = || Progress::Failed(worker.record.last_exit.clone().unwrap_or(ExitCause::Unknown));
        if worker.wanted == Wanted::Down {
            return Progress::Withdrawn;
        }
        let has_failed = worker.record.failures_in_row > 0 || !worker.record.recent_failures.is_empty();
        match &worker.state {
            State::Ready { since, .. } => match later(*since, plan.roll.min_healthy) {
                until if until > now => Progress::Proving(until),
                _ => Progress::There,
            },
            // It has as long to be ready again as it had to get ready.
            State::Unready { since, .. } => match later(*since, plan.ready.timeout) {
                until if until > now => Progress::Proving(until),
                _ => Progress::Failed(ExitCause::StartTimeout),
            },
            State::Draining { then: AfterStop::Replace(complaint), .. } => {
                Progress::Failed(ExitCause::Unhealthy(*complaint))
            }
            State::Asleep => Progress::There,
            State::Completed { exit: ExitCause::Exited(0) }
                if worker.part == Part::Returns && self.runs_to_completion(plan) =>
            {
                Progress::There
            }
            State::Failed { .. } | State::Completed { .. } => failed(),
            State::Waiting | State::Starting { .. } | State::Stopping { .. } | State::Backoff { .. }
                if has_failed =>
            {
                failed()
            }
            State::Down
            | State::Waiting
            | State::Starting { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Backoff { .. } => Progress::Going,
        }
    }

    /// Whether the end of such a worker is what it is for: a server that ends without an error is no server for all that.
    fn runs_to_completion(&self, plan: &Service) -> bool {
        let awaits = |other: &Service| other.depends_on.get(&plan.id).is_some_and(|on| on.condition.is_end());
        plan.restart.policy == RestartPolicy::Never
            || plan.listen == Listen::None
            || self.plan.services.values().any(awaits)
    }
}
