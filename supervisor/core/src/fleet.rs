//! All workers of an application together: order of starts and stops, dependencies, operator's requests.
//!
//! [`Fleet`] owns the state of every worker. The daemon tells it what happened with [`Fleet::handle`], performs the
//! effects it answers with, and calls it again with [`FleetEvent::Tick`] when [`Fleet::deadline`] has come.
//!
//! - **Start** of a service also starts what it depends on. A worker waits in `Waiting` until each dependency has
//!   reached its condition, however many runs that takes; a dependency that goes away later bounces nobody.
//! - **Stop** of several services stops dependents before what they depend on, independent ones in parallel.
//!   What the stopped services depend on runs on.
//! - **Recycling** replaces a worker that stalls, one of a service at a time and seldom (`recycle.rs`).
//! - **Restart** takes all workers of the selected services at once; each comes back when its dependencies are there.

mod order;
mod recycle;
mod saved;
mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    RunId, ServiceId, WorkerId,
    plan::{self, Condition, Plan},
    worker::{Context, Effect, Event, ExitCause, RunIds, Stall, State, Wanted, Worker},
};

use order::Order;

pub use recycle::{RECYCLE_APART, RECYCLE_APART_MAX};
pub use saved::{Saved, SavedState};
pub use verdict::{Goal, Verdict};

/// Which services a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// Every service.
    All,
    /// These. Names that no service has are left out; whoever takes the request refuses them.
    Services(BTreeSet<ServiceId>),
}

/// What an operator may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Start these and what they depend on. A service named here runs again even when it had completed; a dependency, or any under
    /// [`Selection::All`], that had completed well is left so. Ignored once a shutdown has begun.
    Start(Selection),
    /// Stop these, dependents first.
    Stop(Selection),
    /// Stop and start these; starts what they depend on. Ignored once a shutdown has begun.
    Restart(Selection),
    /// Stop everything for good: ordered and drained, or with `now` killed all at once. The second form may follow the first.
    Shutdown {
        /// No order, no drain, no grace.
        now: bool,
    },
}

/// What the daemon tells the fleet.
#[derive(Debug, Clone, PartialEq)]
pub enum FleetEvent {
    /// An operator's request.
    Request(Request),
    /// News of a worker's run. Workers that do not exist are ignored.
    Worker(WorkerId, Event),
    /// A worker's run stalls, and has for as long as its plan lets it.
    Stalled(WorkerId, RunId, Stall),
    /// Time has passed.
    Tick,
}

/// What has to be done, and for whom.
pub type FleetEffects = Vec<(WorkerId, Effect)>;

/// All workers of an application.
#[derive(Debug, Clone)]
pub struct Fleet {
    plan: Arc<Plan>,
    workers: BTreeMap<ServiceId, Vec<Worker>>,
    order: Order,
    ids: RunIds,
    jitter: Jitter,
    shutting_down: bool,
    /// Services that were asked to stop and have not been told yet, with those that have to be gone before.
    stops: BTreeMap<ServiceId, BTreeSet<ServiceId>>,
    /// Services with a worker that may be able to start now.
    startable: BTreeSet<ServiceId>,
    /// When each worker that waits for time is to be told that it has come.
    deadlines: BTreeSet<(Instant, WorkerId)>,
    changed: BTreeSet<WorkerId>,
}

/// What a worker is told.
enum Input {
    Event(Event),
    Tick,
}

impl Fleet {
    /// A fleet in which everything is down. Runs are numbered from `first_run` on; `seed` is for the jitter of
    /// backoffs.
    pub fn new(plan: &Arc<Plan>, first_run: RunId, seed: u64) -> Fleet {
        let workers = |service: &plan::Service| vec![Worker::new(); usize::from(service.workers.get())];
        Fleet {
            plan: Arc::clone(plan),
            workers: plan.services.iter().map(|(id, service)| (id.clone(), workers(service))).collect(),
            order: Order::new(plan),
            ids: RunIds::starting_at(first_run),
            jitter: Jitter(seed),
            shutting_down: false,
            stops: BTreeMap::new(),
            startable: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            changed: BTreeSet::new(),
        }
    }

    /// Takes an event: changes states and says what has to be done, in order.
    pub fn handle(&mut self, now: Instant, event: FleetEvent, effects: &mut FleetEffects) {
        match event {
            FleetEvent::Request(request) => self.request(now, request, effects),
            FleetEvent::Worker(id, event) => self.tell(now, &id, Input::Event(event), effects),
            FleetEvent::Stalled(id, run, stall) => {
                if let Some(nth) = self.may_recycle(now, &id, run) {
                    self.tell(now, &id, Input::Event(Event::Recycle(run, stall, nth)), effects);
                }
            }
            FleetEvent::Tick => {
                let due = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
                let due: BTreeSet<WorkerId> = due.map(|(_, id)| id.clone()).collect();
                for id in due {
                    self.tell(now, &id, Input::Tick, effects);
                }
            }
        }
        self.stop_what_may_stop(now, effects);
        self.start_what_may_start(now, effects);
    }

    /// When to call [`Fleet::handle`] with [`FleetEvent::Tick`], if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Takes over what a predecessor saved, `passed` before now. Saved workers that this plan does not have are given back; their
    /// runs, if any, are nobody's and have to be killed. Call it once, on a new fleet.
    pub fn adopt(
        &mut self,
        now: Instant,
        saved: BTreeMap<WorkerId, Saved>,
        passed: Duration,
        effects: &mut FleetEffects,
    ) -> Vec<(WorkerId, Saved)> {
        let mut unknown = Vec::new();
        let mut stops = BTreeSet::new();
        for (id, saved) in saved {
            let Some(worker) = self.worker_mut(&id) else {
                unknown.push((id, saved));
                continue;
            };
            if saved.stop_pending {
                stops.insert(id.service.clone());
            }
            let (restored, again) = saved::restore(now, saved, passed);
            let run = restored.run();
            let (before, after) = (worker.deadline(), restored.deadline());
            *worker = restored;
            self.move_deadline(&id, before, after);
            effects.extend(again.into_iter().map(|effect| (id.clone(), effect)));
            if let Some(run) = run {
                self.ids.skip(run);
            }
            self.startable.insert(id.service.clone());
            self.changed.insert(id);
        }
        self.order_stops(stops);
        unknown
    }

    /// Gives out no run number up to and including this one: a predecessor did. [`Fleet::adopt`] knows of the runs that are there;
    /// this is for the last one that has gone.
    pub fn skip_runs(&mut self, used: RunId) {
        self.ids.skip(used);
    }

    /// What a successor has to know of a worker. Worth saving whenever [`Fleet::take_changed`] names it.
    pub fn save(&self, now: Instant, worker: &WorkerId) -> Option<Saved> {
        Some(saved::save(now, self.worker(worker)?, self.stops.contains_key(&worker.service)))
    }

    /// The workers whose state or record changed since the last call, in order.
    pub fn take_changed(&mut self) -> BTreeSet<WorkerId> {
        std::mem::take(&mut self.changed)
    }

    /// Takes a plan that differs in the limits of services alone: the same services, workers and dependencies.
    pub fn change_limits(&mut self, plan: &Arc<Plan>) {
        self.plan = Arc::clone(plan);
    }

    /// A service's plan.
    pub fn plan(&self, service: &ServiceId) -> Option<&plan::Service> {
        self.plan.services.get(service)
    }

    /// Every worker with its name, in order.
    pub fn workers(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.ids().filter_map(|id| self.worker(&id).map(|worker| (id, worker)))
    }

    /// Every service's plan, in the order of names.
    pub fn plans(&self) -> impl Iterator<Item = &plan::Service> {
        self.plan.services.values()
    }

    /// One worker.
    pub fn worker(&self, id: &WorkerId) -> Option<&Worker> {
        self.workers.get(&id.service)?.get(usize::from(id.index))
    }

    /// A service's workers, by index; empty when there is no such service.
    pub fn workers_of(&self, service: &ServiceId) -> &[Worker] {
        self.workers.get(service).map_or(&[], Vec::as_slice)
    }

    /// Which dependencies of a service have not reached their condition.
    pub fn waiting_for(&self, service: &ServiceId) -> Vec<(ServiceId, Condition)> {
        let Some(plan) = self.plan(service) else { return Vec::new() };
        let unmet = |(on, condition): (&ServiceId, &Condition)| {
            (!self.has_reached(on, *condition)).then(|| (on.clone(), *condition))
        };
        plan.depends_on.iter().filter_map(unmet).collect()
    }

    /// How far each of these services is on the way to a goal. An operation is done when no verdict is [`Verdict::Pending`].
    pub fn verdicts(&self, selection: &Selection, goal: Goal) -> BTreeMap<ServiceId, Verdict> {
        verdict::verdicts(self, &self.selected(selection), goal)
    }

    /// Whether a shutdown was asked for.
    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down
    }

    /// Whether no worker has a run, so that after a shutdown nothing is left to be done.
    pub fn is_idle(&self) -> bool {
        self.workers.values().flatten().all(|worker| worker.run().is_none())
    }

    /// Whether every worker of a service has reached a condition.
    ///
    /// A worker that completed well has reached all of them: there is nothing more to wait for.
    fn has_reached(&self, service: &ServiceId, condition: Condition) -> bool {
        let Some(workers) = self.workers.get(service) else { return false };
        workers.iter().all(|worker| match (&worker.state, condition) {
            (State::Completed { exit }, _) => *exit == ExitCause::Exited(0),
            (State::Ready { .. }, Condition::Started | Condition::Ready) => true,
            (State::Starting { executed, .. }, Condition::Started) => *executed,
            (State::Ready { .. }, Condition::Completed)
            | (State::Starting { .. }, Condition::Ready | Condition::Completed)
            | (
                State::Down
                | State::Waiting
                | State::Draining { .. }
                | State::Stopping { .. }
                | State::Backoff { .. }
                | State::Failed { .. },
                Condition::Started | Condition::Ready | Condition::Completed,
            ) => false,
        })
    }

    fn request(&mut self, now: Instant, request: Request, effects: &mut FleetEffects) {
        match request {
            Request::Start(_) | Request::Restart(_) if self.shutting_down => {}
            Request::Start(selection) => {
                let named = self.selected(&selection);
                for id in self.start_of(&named) {
                    let again = matches!(selection, Selection::Services(_)) && named.contains(&id.service);
                    if again || !self.has_completed_well(&id) {
                        self.tell(now, &id, Input::Event(Event::Start), effects);
                    }
                }
            }
            Request::Restart(selection) => {
                let named = self.selected(&selection);
                for id in self.start_of(&named) {
                    if named.contains(&id.service) {
                        self.tell(now, &id, Input::Event(Event::Restart), effects);
                    } else if !self.has_completed_well(&id) {
                        self.tell(now, &id, Input::Event(Event::Start), effects);
                    }
                }
            }
            Request::Stop(selection) => self.stop(&selection),
            Request::Shutdown { now: false } => {
                self.shutting_down = true;
                self.stop(&Selection::All);
            }
            Request::Shutdown { now: true } => {
                self.shutting_down = true;
                self.stops.clear();
                let all: Vec<WorkerId> = self.ids().collect();
                for id in all {
                    self.tell(now, &id, Input::Event(Event::Kill), effects);
                }
            }
        }
    }

    /// The workers that a start of these services concerns: theirs, and those of what they depend on. None of them is to be
    /// stopped any more.
    fn start_of(&mut self, named: &BTreeSet<ServiceId>) -> Vec<WorkerId> {
        let services = self.order.with_dependencies(named);
        self.stops.retain(|id, _| !services.contains(id));
        self.ids().filter(|id| services.contains(&id.service)).collect()
    }

    /// Notes services to be stopped besides those that are to be stopped already.
    fn stop(&mut self, selection: &Selection) {
        let mut services = self.selected(selection);
        services.extend(self.stops.keys().cloned());
        self.order_stops(services);
    }

    /// Puts the services that are to be stopped in order, after those that are being stopped.
    fn order_stops(&mut self, services: BTreeSet<ServiceId>) {
        let is_leaving = |worker: &Worker| worker.wanted == Wanted::Down && worker.run().is_some();
        let leaving = self.workers.iter().filter(|(_, workers)| workers.iter().any(is_leaving));
        let ordered = services.iter().chain(leaving.map(|(id, _)| id)).cloned().collect();
        self.stops = self.order.stop_after(&ordered);
        self.stops.retain(|id, _| services.contains(id));
    }

    /// Stops what was asked to stop and whose dependents have gone. Workers that have no run at the moment are stopped ahead of their
    /// turn, or one that crashes while it waits for its turn would be started again. Dependents
    /// come first, so one pass is enough.
    fn stop_what_may_stop(&mut self, now: Instant, effects: &mut FleetEffects) {
        if self.stops.is_empty() {
            return;
        }
        let turns: Vec<ServiceId> = self.order.starts().iter().rev().cloned().collect();
        for service in turns {
            let Some(before) = self.stops.get(&service) else { continue };
            // One that has no run may still have its turn to come, and those that depend on it as well.
            let is_gone = |id: &ServiceId| !self.has_run(id) && !self.stops.contains_key(id);
            let is_its_turn = before.iter().all(is_gone);
            for index in 0..self.count(&service) {
                let id = WorkerId { service: service.clone(), index };
                if is_its_turn || self.worker(&id).is_some_and(|worker| worker.run().is_none()) {
                    self.tell(now, &id, Input::Event(Event::Stop), effects);
                }
            }
            if is_its_turn {
                self.stops.remove(&service);
            }
        }
    }

    /// Starts the waiting workers whose dependencies are there.
    fn start_what_may_start(&mut self, now: Instant, effects: &mut FleetEffects) {
        while let Some(service) = self.startable.pop_first() {
            let waits = self.workers_of(&service).iter().any(|worker| worker.state == State::Waiting);
            if !waits || !self.waiting_for(&service).is_empty() {
                continue;
            }
            for index in 0..self.count(&service) {
                let id = WorkerId { service: service.clone(), index };
                self.tell(now, &id, Input::Event(Event::DependenciesMet), effects);
            }
        }
    }

    /// Hands one worker its input, and notes what may follow from a change.
    fn tell(&mut self, now: Instant, id: &WorkerId, input: Input, effects: &mut FleetEffects) {
        let Some(plan) = self.plan.services.get(&id.service) else { return };
        let Some(workers) = self.workers.get_mut(&id.service) else { return };
        let Some(worker) = workers.get_mut(usize::from(id.index)) else { return };
        let mut context = Context { now, plan, ids: &mut self.ids, jitter: self.jitter.next_unit() };
        let before = worker.clone();
        let mut own = Vec::new();
        match input {
            Input::Event(event) => worker.handle(event, &mut context, &mut own),
            Input::Tick => worker.tick(&mut context, &mut own),
        }
        if before != *worker {
            let after = worker.deadline();
            self.move_deadline(id, before.deadline(), after);
            self.changed.insert(id.clone());
            self.startable.insert(id.service.clone());
            self.startable.extend(self.order.dependents(&id.service).iter().cloned());
        }
        effects.extend(own.into_iter().map(|effect| (id.clone(), effect)));
    }

    fn move_deadline(&mut self, id: &WorkerId, before: Option<Instant>, after: Option<Instant>) {
        if let Some(deadline) = before {
            self.deadlines.remove(&(deadline, id.clone()));
        }
        if let Some(deadline) = after {
            self.deadlines.insert((deadline, id.clone()));
        }
    }

    /// Every worker, in order.
    fn ids(&self) -> impl Iterator<Item = WorkerId> {
        self.plan.services.iter().flat_map(|(service, plan)| {
            (0..plan.workers.get()).map(|index| WorkerId { service: service.clone(), index })
        })
    }

    fn worker_mut(&mut self, id: &WorkerId) -> Option<&mut Worker> {
        self.workers.get_mut(&id.service)?.get_mut(usize::from(id.index))
    }

    fn count(&self, service: &ServiceId) -> u16 {
        self.plan(service).map_or(0, |plan| plan.workers.get())
    }

    fn selected(&self, selection: &Selection) -> BTreeSet<ServiceId> {
        match selection {
            Selection::All => self.workers.keys().cloned().collect(),
            Selection::Services(named) => {
                named.iter().filter(|id| self.workers.contains_key(*id)).cloned().collect()
            }
        }
    }

    fn has_run(&self, service: &ServiceId) -> bool {
        self.workers_of(service).iter().any(|worker| worker.run().is_some())
    }

    fn has_completed_well(&self, id: &WorkerId) -> bool {
        self.worker(id).is_some_and(|worker| worker.state == State::Completed { exit: ExitCause::Exited(0) })
    }
}

/// Random numbers for jitter: SplitMix64, which is enough to spread retries and needs nothing but its seed.
#[derive(Debug, Clone)]
struct Jitter(u64);

impl Jitter {
    /// The next number of 0..1.
    fn next_unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        // The 53 bits that a double holds exactly.
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}
