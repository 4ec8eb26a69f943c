//! Services that may have no worker as long as nobody wants anything of them.
//!
//! Their first worker is `Asleep` then, and counts as there: who depends on it starts, and wakes it by the first request. When that comes while
//! the last run ends, a new one is started beside it, where two can run at a time; the request does not wait for a slow end.

use std::time::Instant;

use super::{Fleet, FleetEffects, Input};
use crate::{
    ServiceId, WorkerId,
    worker::{AfterStop, Event, Part, State, Worker},
};

impl Fleet {
    /// Whether a service has no worker because nobody wants anything of it.
    pub fn is_asleep(&self, service: &ServiceId) -> bool {
        let mut workers =
            self.workers_of(service).filter(|(_, worker)| worker.part != Part::Leaves).peekable();
        workers.peek().is_some() && workers.all(|(_, worker)| worker.state == State::Asleep)
    }

    /// Whether it is asleep, or will be when the last run has ended.
    pub fn will_sleep(&self, service: &ServiceId) -> bool {
        let mut workers =
            self.workers_of(service).filter(|(_, worker)| worker.part != Part::Leaves).peekable();
        workers.peek().is_some()
            && workers.all(|(_, worker)| match worker.state {
                State::Asleep => true,
                State::Draining { then, .. } | State::Stopping { then, .. } => then == AfterStop::Sleep,
                _ => false,
            })
    }

    /// Has a worker up that nobody asked for by name: one that may sleep does until it is needed.
    pub(super) fn have_up(&mut self, now: Instant, id: &WorkerId, effects: &mut FleetEffects) {
        let may_sleep = self.plan.services.get(&id.service).is_some_and(|plan| plan.workers.may_sleep());
        let is_up = |worker: &Worker| matches!(worker.state, State::Ready { .. } | State::Unready { .. });
        let event = match may_sleep && !self.worker(id).is_some_and(is_up) {
            true => Event::Sleep,
            false => Event::Start,
        };
        self.tell(now, id, Input::Event(event), effects);
    }

    pub(super) fn put_to_sleep(&mut self, now: Instant, service: &ServiceId, effects: &mut FleetEffects) {
        let is_up = |worker: &Worker| matches!(worker.state, State::Ready { .. } | State::Unready { .. });
        for id in self.places(service) {
            let stays = |worker: &&Worker| worker.part == Part::Stays && is_up(worker);
            if !self.is_to_stop(service) && self.worker(&id).filter(stays).is_some() {
                self.tell(now, &id, Input::Event(Event::Sleep), effects);
            }
        }
    }

    pub(super) fn wake(&mut self, now: Instant, service: &ServiceId, effects: &mut FleetEffects) {
        if self.is_to_stop(service) {
            return;
        }
        let ends = |worker: &&Worker| {
            let (State::Draining { then, .. } | State::Stopping { then, .. }) = worker.state else {
                return false;
            };
            then == AfterStop::Sleep && worker.part == Part::Stays
        };
        for id in self.places(service) {
            let may_overlap = self.can_overlap(service) && !self.workers.contains_key(&id.beside());
            if may_overlap && self.worker(&id).filter(ends).is_some() {
                // What is missing then is started beside it.
                self.set_part(&id, Part::Leaves);
            } else {
                self.tell(now, &id, Input::Event(Event::Wake), effects);
            }
        }
    }

    /// Another plan is in force: wakes those that may not sleep any more.
    pub(super) fn wake_who_may_not_sleep(&mut self, now: Instant, effects: &mut FleetEffects) {
        let asleep = self.workers.iter().filter(|(id, worker)| {
            let may_sleep = self.plan.services.get(&id.service).is_some_and(|plan| plan.workers.may_sleep());
            worker.state == State::Asleep && !may_sleep && !self.leaving.contains_key(&id.service)
        });
        for id in asleep.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.tell(now, &id, Input::Event(Event::Wake), effects);
        }
    }
}
