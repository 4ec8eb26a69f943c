//! A simulated daemon and kernel: performs effects, and checks after each step what must always be true.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
    sync::Arc,
    time::{Duration, Instant},
};

use watt_core::{
    RunId, ServiceId, WorkerId,
    fleet::{Fleet, FleetEvent, Leaving, RECYCLE_APART, Renewal, Request},
    plan::{GroupStrategy, Plan, Resource, RestartPolicy, Service},
    worker::{AfterStop, Complaint, Effect, Event, ExitCause, Part, Stall, State, Wanted, Worker},
};

/// What the kernel has of a run.
#[derive(Debug, Clone)]
struct Run {
    worker: WorkerId,
    /// The main process lives.
    main: bool,
    /// Others live.
    rest: bool,
    requested: bool,
    executed: bool,
    draining: bool,
    signalled: bool,
    released: bool,
}

pub(crate) struct World {
    pub(crate) fleet: Fleet,
    pub(crate) plan: Plan,
    pub(crate) now: Instant,
    runs: BTreeMap<RunId, Run>,
    gone: BTreeSet<RunId>,
    shutdown: bool,
    leaving: BTreeMap<ServiceId, Leaving>,
    renewal: Renewal,
    /// Services of whose workers the last two plans say the same.
    same_workers: BTreeSet<ServiceId>,
    /// Whether rolls are held to the numbers of the plan, which does not change meanwhile.
    holds_to_numbers: bool,
    /// Whether what happens now is that a worker was found bad.
    pub(crate) was_own_fault: bool,
}

impl World {
    pub(crate) fn new(plan: Plan) -> World {
        let fleet = Fleet::new(&Arc::new(plan.clone()), RunId(1), 42);
        let now = Instant::now();
        World {
            fleet,
            plan,
            now,
            runs: BTreeMap::new(),
            gone: BTreeSet::new(),
            shutdown: false,
            leaving: BTreeMap::new(),
            renewal: Renewal::new(),
            same_workers: BTreeSet::new(),
            holds_to_numbers: false,
            was_own_fault: false,
        }
    }

    /// From now on rolls must keep to their numbers. For a plan that stays.
    pub(crate) fn hold_to_numbers(&mut self) {
        self.holds_to_numbers = true;
    }

    /// Processes do so many times what they are meant to do: they start, get ready, and end when they are told to.
    pub(crate) fn go_well(&mut self, count: usize) {
        for _ in 0..count {
            match self.next_well() {
                Some((run, event)) => self.apply(run, event),
                None => return,
            }
        }
    }

    /// The same, and time passes, until there is nothing that anybody waits for.
    pub(crate) fn settle_down(&mut self) {
        for _ in 0..10_000 {
            match self.next_well() {
                Some((run, event)) => self.apply(run, event),
                None if self.fleet.deadline().is_none() => return,
                None => self.pass_until_deadline(),
            }
        }
        panic!("it never comes to rest: {:?}", self.fleet.workers().collect::<Vec<_>>());
    }

    fn next_well(&self) -> Option<(RunId, Event)> {
        let comes_up = |(id, run): (&RunId, &Run)| {
            if !run.main || run.signalled || !run.requested {
                return None;
            }
            let state = &self.fleet.worker(&run.worker)?.state;
            match state {
                _ if !run.executed => Some((*id, Event::Executed(*id))),
                State::Starting { .. } | State::Unready { .. } => Some((*id, Event::Ready(*id))),
                _ => None,
            }
        };
        self.runs.iter().find_map(|(id, run)| due(*id, run)).or_else(|| self.runs.iter().find_map(comes_up))
    }

    pub(crate) fn request(&mut self, request: Request) {
        self.shutdown |= matches!(request, Request::Shutdown { .. });
        self.event(FleetEvent::Request(request));
    }

    /// One of the things that may happen now, by number: the program is executed, gets ready, is drained, ends as told or by itself,
    /// leaves processes behind, is emptied.
    pub(crate) fn happen(&mut self, choice: usize) {
        let possible: Vec<(RunId, Event)> =
            self.runs.iter().flat_map(|(id, run)| possible(*id, run)).collect();
        if let Some((run, event)) = possible.get(choice.checked_rem(possible.len()).unwrap_or(0)) {
            self.apply(*run, event.clone());
        }
    }

    /// Whatever has to happen some time if every process does as it is told.
    fn happen_fairly(&mut self) -> bool {
        let due = self.runs.iter().find_map(|(id, run)| due(*id, run));
        if let Some((run, event)) = due.clone() {
            self.apply(run, event);
        }
        due.is_some()
    }

    fn apply(&mut self, id: RunId, event: Event) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let worker = run.worker.clone();
        match event {
            Event::Requested(_) => run.requested = true,
            Event::Executed(_) => run.executed = true,
            Event::Drained(_) => run.draining = false,
            Event::Exited(..) => run.main = false,
            Event::Emptied(_) => {
                self.runs.remove(&id);
                self.gone.insert(id);
            }
            Event::Ready(_)
            | Event::Started(_)
            | Event::Extend(..)
            | Event::Healthy(_)
            | Event::Unready(_)
            | Event::Unhealthy(..)
            | Event::Start
            | Event::Stop
            | Event::Restart
            | Event::Kill
            | Event::Sleep
            | Event::Wake
            | Event::Together
            | Event::Recycle(..)
            | Event::DependenciesMet => {}
        }
        self.event(FleetEvent::Worker(worker, event));
    }

    /// News of a run that has gone long ago.
    pub(crate) fn stale(&mut self, choice: usize) {
        let Some(worker) = self.fleet.workers().map(|(id, _)| id).nth(choice % 4) else { return };
        let Some(run) = self.gone.iter().copied().nth(choice.checked_rem(self.gone.len()).unwrap_or(0))
        else {
            return;
        };
        let events = [
            Event::Executed(run),
            Event::Ready(run),
            Event::Healthy(run),
            Event::Unready(run),
            Event::Unhealthy(run, Complaint::Watchdog),
            Event::Drained(run),
            Event::Exited(run, ExitCause::Exited(0)),
            Event::Emptied(run),
        ];
        let before = self.fleet.worker(&worker).cloned();
        self.event(FleetEvent::Worker(worker.clone(), events[choice % events.len()].clone()));
        assert_eq!(self.fleet.worker(&worker).cloned(), before, "a run that has gone changed its worker");
    }

    /// A worker says that it stalls, whether it may be replaced or not. One of a service is away for that at a time, and none
    /// that is young.
    pub(crate) fn stall(&mut self, choice: usize) {
        let Some((id, worker)) = self.fleet.workers().nth(choice % 4) else { return };
        let Some(run) = worker.run() else { return };
        let was = worker.state.clone();
        let stall = Stall { resource: Resource::Memory, percent: 43 };
        self.event(FleetEvent::Stalled(id.clone(), run, stall));
        let is_away = |worker: &&Worker| !matches!(worker.state, State::Ready { .. });
        if self.fleet.worker(&id).is_some_and(|worker| worker.state != was) {
            assert_eq!(
                self.fleet.workers_of(&id.service).map(|(_, worker)| worker).filter(is_away).count(),
                1,
                "{id}"
            );
            let age = |since| self.now.saturating_duration_since(since);
            assert!(
                matches!(was, State::Ready { since, .. } if age(since) >= RECYCLE_APART),
                "{id}: {was:?}"
            );
            assert!(!self.shutdown);
        }
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.event(FleetEvent::Tick);
    }

    pub(crate) fn pass_until_deadline(&mut self) {
        if let Some(deadline) = self.fleet.deadline() {
            self.now = self.now.max(deadline);
            self.event(FleetEvent::Tick);
        }
    }

    /// Replaces the daemon by a successor.
    pub(crate) fn succeed(&mut self) {
        if self.shutdown {
            // Its successor is told of a shutdown by the request itself.
            return;
        }
        self.same_workers = self.plan.services.keys().cloned().collect();
        self.take_over();
    }

    /// What a successor does, with the plan and what was noted of the workers.
    fn take_over(&mut self) {
        // Those of which the plan that was kept meanwhile says something else are forgotten.
        let counts = self.fleet.counts().iter().filter(|(id, _)| self.same_workers.contains(*id));
        let counts = counts.map(|(id, count)| (id.clone(), *count)).collect();
        let ids: Vec<WorkerId> = self.fleet.workers().map(|(id, _)| id).collect();
        let saved = ids.iter().map(|id| (id.clone(), self.fleet.save(self.now, id).unwrap())).collect();
        self.fleet = Fleet::new(&Arc::new(self.plan.clone()), RunId(1), 43);
        // A number that was given out and whose run has gone is known from a note of its own in the real one.
        if let Some(last) = self.gone.last().max(self.runs.keys().last()) {
            self.fleet.skip_runs(*last);
        }
        self.fleet.adopt_counts(counts);
        let mut effects = Vec::new();
        self.fleet.adopt(self.now, saved, Duration::ZERO, &mut effects);
        let leaving = self.leaving.clone();
        let unnoted = self.fleet.workers().map(|(id, _)| id).filter(|id| !ids.contains(id)).collect();
        self.fleet.go_on(self.now, leaving, &self.renewal, &unnoted, &mut effects);
        // What the predecessor had asked for is there.
        let (known, new): (Vec<_>, Vec<_>) = (effects.into_iter())
            .partition(|(_, effect)| matches!(effect, Effect::Spawn(run) if self.runs.contains_key(run)));
        self.perform(new);
        for (_, effect) in known {
            if let Effect::Spawn(run) = effect {
                self.apply(run, Event::Requested(run));
            }
        }
        self.event(FleetEvent::Tick);
    }

    fn event(&mut self, event: FleetEvent) {
        let before: BTreeMap<WorkerId, Worker> =
            self.fleet.workers().map(|(id, worker)| (id, worker.clone())).collect();
        let is_request = matches!(event, FleetEvent::Request(_));
        let is_tick = matches!(event, FleetEvent::Tick);
        self.was_own_fault =
            matches!(event, FleetEvent::Worker(_, Event::Unhealthy(..)) | FleetEvent::Stalled(..));
        let mut effects = Vec::new();
        self.fleet.handle(self.now, event, &mut effects);
        self.conclude(&before, effects, is_request, is_tick);
    }

    /// Nobody wants anything of a service, or somebody does.
    pub(crate) fn sleep(&mut self, service: &str, is_idle: bool) {
        let id = ServiceId::new(service).unwrap();
        self.event(if is_idle { FleetEvent::Sleep(id) } else { FleetEvent::Wake(id) });
    }

    /// Gives a service another number of workers. When nothing else goes on, it has as many as that.
    pub(crate) fn scale(&mut self, service: &str, count: u16) {
        let id = ServiceId::new(service).unwrap();
        if self.shutdown || !self.plan.services.contains_key(&id) {
            return;
        }
        let before: BTreeMap<WorkerId, Worker> =
            self.fleet.workers().map(|(id, worker)| (id, worker.clone())).collect();
        let mut effects = Vec::new();
        self.fleet.scale(self.now, &id, NonZeroU16::new(count), &mut effects);
        self.conclude(&before, effects, true, false);
        for (worker, state) in self.fleet.workers_of(&id) {
            let is_one = worker.index < self.fleet.count(&id);
            assert!(is_one || state.part == Part::Leaves, "{worker} stays: {state:?}");
        }
    }

    /// Takes another plan, in which these services are changed, and what the present one has more leaves. The daemon may be killed when it
    /// has kept the plan, and its successor then comes to the same.
    pub(crate) fn change(&mut self, plan: Plan, changed: &[ServiceId], is_killed: bool) {
        if self.shutdown {
            return;
        }
        let before: BTreeMap<WorkerId, Worker> =
            self.fleet.workers().map(|(id, worker)| (id, worker.clone())).collect();
        let last = self.fleet.last_run();
        let changed = changed.iter().filter(|id| plan.services.contains_key(*id));
        let changed: Renewal = changed.map(|id| (id.clone(), last)).collect();
        self.renewal.extend(changed.clone());
        let (after, added): (BTreeSet<ServiceId>, BTreeSet<ServiceId>) =
            plan.services.keys().cloned().partition(|id| self.plan.services.contains_key(id));
        self.leaving.retain(|id, _| !plan.services.contains_key(id));
        let mut union = plan;
        for (id, service) in &self.plan.services {
            if !union.services.contains_key(id) {
                self.leaving.entry(id.clone()).or_insert_with(|| Leaving { after: after.clone() });
                let mut service = service.clone();
                // Cycles are none of the configurations that are taken.
                service.depends_on.retain(|on, _| !added.contains(on));
                union.services.insert(id.clone(), service);
            }
        }
        let is_same = |id: &&ServiceId| {
            let [old, new] =
                [&self.plan, &union].map(|plan| plan.services.get(*id).map(|plan| plan.workers.clone()));
            old == new
        };
        self.same_workers = union.services.keys().filter(is_same).cloned().collect();
        for leaving in self.leaving.values_mut() {
            leaving.after.retain(|id| union.services.contains_key(id));
        }
        self.plan = union;
        self.renewal.retain(|id, _| self.plan.services.contains_key(id));
        if is_killed {
            self.take_over();
        } else {
            let mut effects = Vec::new();
            let (plan, leaving) = (Arc::new(self.plan.clone()), self.leaving.clone());
            self.fleet.change(self.now, &plan, leaving, &changed, &mut effects);
            self.conclude(&before, effects, true, false);
        }
        for (id, worker) in self.fleet.workers() {
            let Some(last) = changed.get(&id.service) else { continue };
            let is_old = worker.run().or(worker.record.last_run).is_some_and(|run| run <= *last);
            assert!(!(is_old && would_stay(worker)), "{id} would stay as it is: {worker:?}");
        }
    }

    fn conclude(
        &mut self,
        before: &BTreeMap<WorkerId, Worker>,
        effects: Vec<(WorkerId, Effect)>,
        is_request: bool,
        is_tick: bool,
    ) {
        for (id, effect) in &effects {
            if let Some(before) = before.get(id) {
                self.check_order(id, effect, before, is_request, is_tick);
            }
        }
        self.perform(effects);
        self.check(is_tick);
        let changed = self.fleet.take_changed();
        for (id, worker) in self.fleet.workers() {
            let differs = before.get(&id) != Some(worker);
            assert!(!differs || changed.contains(&id), "{id} changed and nobody was told");
        }
        let removed = self.fleet.take_removed();
        assert!(removed.iter().all(|id| self.fleet.worker(id).is_none()), "{removed:?}");
        for id in before.keys().filter(|id| self.fleet.worker(id).is_none()) {
            assert!(removed.contains(id), "{id} is no more and nobody was told");
        }
        for id in self.fleet.left() {
            self.leaving.remove(&id);
            self.plan.services.remove(&id);
            self.fleet.forget(&Arc::new(self.plan.clone()), &id);
        }
        self.check_renewals();
        if self.holds_to_numbers {
            self.check_numbers(before);
        }
        self.check_followers();
        self.check_groups(before);
    }

    /// Those that a strategy ends with one that has just failed do not go on.
    fn check_groups(&self, before: &BTreeMap<WorkerId, Worker>) {
        let runs = |worker: &Worker| matches!(worker.state, State::Starting { .. }) || is_ready(worker);
        let counts = |worker: &Worker| !matches!(worker.part, Part::Replaces | Part::Leaves);
        let has_failed = |(id, worker): &(WorkerId, &Worker)| {
            let before = before.get(id).is_some_and(|before| runs(before) && counts(before));
            let policy = self.plan.services[&id.service].restart.policy;
            let is_failure =
                |cause: &ExitCause| policy == RestartPolicy::Always || *cause != ExitCause::Exited(0);
            let failed = match &worker.state {
                State::Stopping { then: AfterStop::Policy, cause, .. } => is_failure(cause),
                State::Backoff { .. } | State::Failed { .. } => true,
                _ => false,
            };
            before && failed && policy != RestartPolicy::Never
        };
        for (id, _) in self.fleet.workers().filter(has_failed) {
            for other in ended_with(&self.plan, &id.service) {
                for (other, worker) in self.fleet.workers_of(other).filter(|(other, _)| **other != id) {
                    let is_to_stop = self.fleet.save(self.now, other).is_some_and(|saved| saved.stop_pending);
                    let may_go_on = self.shutdown || is_to_stop || worker.part == Part::Leaves;
                    assert!(may_go_on || !runs(worker), "{other} goes on without {id}: {worker:?}");
                }
            }
        }
    }

    /// What a strategy ends together does not start before all of it has ended.
    fn check_hold(&self, id: &WorkerId) {
        let holds = |worker: &Worker| match worker.state {
            State::Draining { then, .. } | State::Stopping { then, .. } => then == AfterStop::Together,
            State::Backoff { .. } | State::Failed { .. } => true,
            _ => false,
        };
        for other in self.plan.services.keys() {
            if !ended_with(&self.plan, other).contains(&id.service) {
                continue;
            }
            for (other, worker) in self.fleet.workers_of(other) {
                let counts = !matches!(worker.part, Part::Replaces | Part::Leaves);
                assert!(!(counts && holds(worker)), "{id} starts while {other} is {:?}", worker.state);
            }
        }
    }

    /// Nobody who follows a service stays as it was when nothing is left of what it was started after.
    fn check_followers(&self) {
        let is_settled = |worker: &Worker| worker.part == Part::Stays && is_ready(worker);
        let follows = |service: &Service| {
            let followed = service.depends_on.iter().filter(|(_, on)| on.restart && !on.condition.is_end());
            followed.map(|(on, _)| (service.id.clone(), on.clone())).collect::<Vec<_>>()
        };
        for (service, on) in self.plan.services.values().flat_map(follows) {
            let is_checked = self.plan.services.get(&on).is_none_or(|service| service.health.is_some());
            let on: Vec<&Worker> = self.fleet.workers_of(&on).map(|(_, worker)| worker).collect();
            let Some(oldest) = on.iter().filter_map(|worker| worker.run()).min() else { continue };
            if self.shutdown || is_checked || !on.iter().all(|worker| is_settled(worker)) {
                continue;
            }
            for (id, worker) in self.fleet.workers_of(&service).filter(|(_, worker)| is_settled(worker)) {
                let is_to_stop = self.fleet.save(self.now, id).is_some_and(|saved| saved.stop_pending);
                let is_older = worker.run().is_some_and(|run| run < oldest);
                let stays = !is_to_stop && !self.leaving.contains_key(&service);
                assert!(!(is_older && stays), "{id} does not follow: {worker:?}, {on:?}");
            }
        }
    }

    /// No more than one worker beside those that are wanted, and never fewer ready ones for the sake of a renewal.
    fn check_renewals(&self) {
        for (id, worker) in self.fleet.workers() {
            let Some(beside) = self.fleet.worker(&id.beside()) else { continue };
            let parts = [worker.part, beside.part];
            assert!(
                parts.contains(&Part::Leaves) || parts.contains(&Part::Replaces),
                "{id}: two workers stay in one place"
            );
            if worker.part == Part::Replaces {
                assert!(
                    matches!(beside.state, State::Ready { .. } | State::Unready { .. }),
                    "{id}: the old one was not kept: {beside:?}"
                );
            }
        }
        for service in self.plan.services.keys() {
            let new = self.fleet.workers_of(service).filter(|(_, worker)| worker.part == Part::Replaces);
            let surge = self.plan.services[service].roll.steps(NonZeroU16::MAX, true).surge;
            assert!(new.count() <= surge, "{service}: too many replacements at a time");
        }
    }

    fn perform(&mut self, effects: Vec<(WorkerId, Effect)>) {
        for (worker, effect) in effects {
            if let Effect::Spawn(run) = effect {
                let others = self.runs.values().filter(|run| run.worker == worker).count();
                assert_eq!(others, 0, "{worker} has a second run");
                self.check_hold(&worker);
                assert!(!self.gone.contains(&run) && !self.runs.contains_key(&run), "run {run} is not new");
                let new = Run {
                    worker,
                    main: true,
                    rest: false,
                    requested: false,
                    executed: false,
                    draining: false,
                    signalled: false,
                    released: false,
                };
                self.runs.insert(run, new);
                continue;
            }
            let (Effect::Spawn(id)
            | Effect::Drain(id)
            | Effect::Signal(id)
            | Effect::TerminateRest(id)
            | Effect::Kill(id)
            | Effect::Release(id)) = effect;
            let run = self.runs.get_mut(&id).unwrap_or_else(|| panic!("{effect:?} for a run that has gone"));
            assert_eq!(run.worker, worker);
            match effect {
                Effect::Spawn(_) => {}
                Effect::Drain(_) => run.draining = true,
                Effect::Signal(_) => run.signalled = true,
                Effect::TerminateRest(_) => {
                    assert!(!run.main, "the rest of a run is ended while its main process lives");
                    run.signalled = true;
                }
                Effect::Kill(_) => {
                    run.signalled = true;
                    run.rest = false;
                }
                Effect::Release(_) => {
                    assert!(!run.main, "released while its main process lives");
                    run.released = true;
                }
            }
        }
    }

    /// At a shutdown, what runs is told to stop only when nothing that depends on it runs any more.
    fn check_order(&self, id: &WorkerId, effect: &Effect, before: &Worker, is_request: bool, is_tick: bool) {
        let stops = matches!(effect, Effect::Drain(_) | Effect::Signal(_));
        let ran = matches!(before.state, State::Starting { .. } | State::Ready { .. });
        if !(self.shutdown && stops && ran) || (is_tick && !is_request) {
            return;
        }
        // Another one has taken over from it, which is there for those that depend on it.
        if self.fleet.worker(id).is_some_and(|worker| worker.part == Part::Leaves) {
            return;
        }
        for (other, worker) in self.fleet.workers() {
            let depends = other.service != id.service && depends(&self.plan, &other.service, &id.service);
            assert!(
                !(depends && worker.run().is_some()),
                "{id} is stopped before {other}, which depends on it"
            );
        }
    }

    fn check(&self, is_tick: bool) {
        for (id, worker) in self.fleet.workers() {
            let own: Vec<&RunId> =
                self.runs.iter().filter(|(_, run)| run.worker == id).map(|(run, _)| run).collect();
            assert_eq!(worker.run().iter().collect::<Vec<_>>(), own, "{id}: state and kernel disagree");
            let down = matches!(
                worker.state,
                State::Down
                    | State::Draining { then: AfterStop::Down, .. }
                    | State::Stopping { then: AfterStop::Down, .. }
            );
            assert_eq!(
                worker.wanted == Wanted::Down,
                down,
                "{id}: wanted {:?} in {:?}",
                worker.wanted,
                worker.state
            );
            let waits_for_time = match worker.state {
                State::Starting { ready_by, .. } => ready_by.is_some(),
                State::Draining { .. } | State::Stopping { .. } | State::Backoff { .. } => true,
                State::Failed { retry_at, .. } => retry_at.is_some(),
                State::Down
                | State::Asleep
                | State::Waiting
                | State::Ready { .. }
                | State::Unready { .. }
                | State::Completed { .. } => false,
            };
            assert_eq!(worker.deadline().is_some(), waits_for_time, "{id}: {:?}", worker.state);
            if worker.state == State::Waiting && !self.shutdown {
                assert!(!self.fleet.waiting_for(&id.service).is_empty(), "{id} waits for nothing");
            }
            if is_tick {
                assert!(
                    worker.deadline().is_none_or(|at| at > self.now),
                    "{id}: {:?} is overdue",
                    worker.state
                );
            }
            let least = |at: &Instant| *at <= self.now;
            assert!(worker.record.recent_failures.iter().all(least));
        }
    }

    /// Ends everything and expects that it ends, if processes do as they are told or are killed.
    pub(crate) fn end(&mut self, now: bool) {
        self.request(Request::Shutdown { now });
        for _ in 0..10_000 {
            if self.fleet.is_idle() && self.runs.is_empty() {
                break;
            }
            if !self.happen_fairly() {
                self.pass_until_deadline();
            }
        }
        for (id, worker) in self.fleet.workers() {
            assert_eq!((worker.wanted, &worker.state), (Wanted::Down, &State::Down), "{id} is not down");
        }
        assert!(self.runs.is_empty(), "left behind: {:?}", self.runs);
        assert_eq!(self.fleet.deadline(), None);
    }
}

/// Whether nothing makes this worker one of another plan.
fn would_stay(worker: &Worker) -> bool {
    match worker.state {
        State::Ready { .. } | State::Unready { .. } => matches!(worker.part, Part::Stays | Part::Outdated),
        State::Draining { then, .. } | State::Stopping { then, .. } => {
            !matches!(then, AfterStop::Restart | AfterStop::Together | AfterStop::Down | AfterStop::Sleep)
        }
        State::Starting { .. } | State::Backoff { .. } | State::Failed { .. } | State::Completed { .. } => {
            worker.part != Part::Leaves
        }
        State::Down | State::Asleep | State::Waiting => false,
    }
}

fn possible(id: RunId, run: &Run) -> Vec<(RunId, Event)> {
    let mut events = Vec::new();
    if !run.requested {
        events.push(Event::Requested(id));
    } else if run.main {
        if !run.executed {
            events.push(Event::Executed(id));
        }
        events.push(Event::Ready(id));
        events.push(Event::Healthy(id));
        events.push(Event::Unready(id));
        events.push(Event::Unhealthy(id, Complaint::Watchdog));
        events.push(Event::Exited(id, ExitCause::Exited(1)));
        events.push(Event::Exited(id, ExitCause::Exited(0)));
        events.push(Event::Exited(id, ExitCause::Signaled { signal: 9, core_dumped: false }));
    }
    if run.draining {
        events.push(Event::Drained(id));
    }
    if run.released && !run.rest {
        events.push(Event::Emptied(id));
    }
    events.into_iter().map(|event| (id, event)).collect()
}

fn due(id: RunId, run: &Run) -> Option<(RunId, Event)> {
    if !run.requested {
        return Some((id, Event::Requested(id)));
    }
    if run.draining {
        return Some((id, Event::Drained(id)));
    }
    if run.main && run.signalled {
        return Some((id, Event::Exited(id, ExitCause::Exited(0))));
    }
    (run.released && !run.main).then_some((id, Event::Emptied(id)))
}

fn is_ready(worker: &Worker) -> bool {
    matches!(worker.state, State::Ready { .. })
}

/// The services that end when a worker of this one fails.
fn ended_with<'p>(plan: &'p Plan, service: &ServiceId) -> &'p [ServiceId] {
    let Some(group) = plan.groups.values().find(|group| group.services.contains(service)) else { return &[] };
    let place = group.services.iter().position(|id| id == service).unwrap();
    match group.strategy {
        GroupStrategy::OneForOne => &[],
        GroupStrategy::OneForAll => &group.services,
        GroupStrategy::RestForOne => &group.services[place + 1..],
    }
}

/// Whether `from` depends on `on`, over any number of steps.
fn depends(plan: &Plan, from: &ServiceId, on: &ServiceId) -> bool {
    let Some(service) = plan.services.get(from) else { return false };
    let direct = &service.depends_on;
    direct.contains_key(on) || direct.keys().any(|middle| depends(plan, middle, on))
}
