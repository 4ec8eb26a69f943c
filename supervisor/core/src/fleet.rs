//! All workers of an application together: order of starts and stops, dependencies, operator's requests.
//!
//! [`Fleet`] owns the state of every worker. The daemon tells it what happened with [`Fleet::handle`], performs the
//! effects it answers with, and calls it again with [`FleetEvent::Tick`] when [`Fleet::deadline`] has come.
//!
//! - **Start** of a service also starts what it depends on. A worker waits in `Waiting` until each dependency has
//!   reached its condition, however many runs that takes, or, where it is not required, until its first try has failed
//!   (`conditions.rs`); a dependency that goes away later bounces nobody but those who ask for that (`followers.rs`).
//! - **Stop** of several services stops dependents before what they depend on, independent ones in parallel.
//!   What the stopped services depend on runs on.
//! - A **group** is started anew together when one of its services fails (`groups.rs`).
//! - **Recycling** replaces a worker that stalls, one of a service at a time and seldom (`recycle.rs`).
//! - **Restart** replaces the workers of the selected services one after the other; each new one gets ready before the old one is
//!   stopped, where both can run at a time (`renewal`).
//! - **Change** takes another plan: what it has more is started, what it has no longer is stopped (`change`).
//! - **Sleep** is for services that may have no worker as long as nobody wants anything of them (`sleep`).
//! - **Scaling** gives a service another number of workers than its plan has (`scale`).

mod change;
mod conditions;
mod followers;
mod groups;
mod order;
mod recycle;
mod renewal;
mod saved;
mod scale;
mod sleep;
mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    RunId, ServiceId, WorkerId,
    plan::{self, Plan},
    worker::{Context, Effect, Event, ExitCause, Part, RunIds, Stall, State, Wanted, Worker},
};

use order::Order;

pub use change::{Leaving, Renewal, Spared, is_spared};
pub use order::levels;
pub use recycle::{RECYCLE_APART, RECYCLE_APART_MAX};
pub use renewal::{RollProgress, WhyKept};
pub use saved::{Saved, SavedState};
pub use scale::WorkerCounts;
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
    /// Replace the workers of these by new ones; starts what they depend on. One that comes while they are being replaced joins
    /// that. Ignored once a shutdown has begun.
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
    /// Nobody wanted anything of a service for long: its workers are not needed until somebody does.
    Sleep(ServiceId),
    /// Somebody wants something of a service that sleeps.
    Wake(ServiceId),
    /// Time has passed.
    Tick,
}

/// What has to be done, and for whom.
pub type FleetEffects = Vec<(WorkerId, Effect)>;

/// All workers of an application.
#[derive(Debug, Clone)]
pub struct Fleet {
    plan: Arc<Plan>,
    workers: BTreeMap<WorkerId, Worker>,
    order: Order,
    ids: RunIds,
    jitter: Jitter,
    shutting_down: bool,
    /// Services that were asked to stop and have not been told yet, with those that have to be gone before.
    stops: BTreeMap<ServiceId, BTreeSet<ServiceId>>,
    /// Workers that have failed and whose group has not heard of it.
    failed: BTreeSet<WorkerId>,
    /// Services with a worker that may be able to start now.
    startable: BTreeSet<ServiceId>,
    /// When each worker that waits for time is to be told that it has come.
    deadlines: BTreeSet<(Instant, WorkerId)>,
    changed: BTreeSet<WorkerId>,
    /// Services that the plan has only until their workers have gone.
    leaving: BTreeMap<ServiceId, Leaving>,
    /// Services two of whose workers cannot run in one place at a time, for instance because of a port.
    alone: BTreeSet<ServiceId>,
    /// Services in which a worker has another part than [`Part::Stays`].
    renewing: BTreeSet<ServiceId>,
    /// Those of them for which there is news.
    renewable: BTreeSet<ServiceId>,
    /// When each roll that is under way began.
    began: BTreeMap<ServiceId, Instant>,
    /// When a roll has to be looked at if nothing happens before.
    look_at: BTreeMap<ServiceId, Instant>,
    /// Rolls that failed since somebody asked.
    failed_rolls: BTreeMap<ServiceId, WhyKept>,
    /// What is of the present plan of services whose plan has come back.
    spared: Spared,
    /// Services whose workers were not all replaced, and why.
    kept: BTreeMap<ServiceId, WhyKept>,
    /// Places that are no more.
    removed: BTreeSet<WorkerId>,
    /// How many workers services have that have not as many as the plan says.
    counts: WorkerCounts,
    /// Those of them that the plan that comes next had before.
    counts_back: WorkerCounts,
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
        Fleet {
            plan: Arc::clone(plan),
            workers: first_places(plan, &WorkerCounts::new()).map(|id| (id, Worker::new())).collect(),
            order: Order::new(plan),
            ids: RunIds::starting_at(first_run),
            jitter: Jitter(seed),
            shutting_down: false,
            stops: BTreeMap::new(),
            failed: BTreeSet::new(),
            startable: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            changed: BTreeSet::new(),
            leaving: BTreeMap::new(),
            alone: BTreeSet::new(),
            renewing: BTreeSet::new(),
            renewable: BTreeSet::new(),
            began: BTreeMap::new(),
            look_at: BTreeMap::new(),
            failed_rolls: BTreeMap::new(),
            spared: Spared::new(),
            kept: BTreeMap::new(),
            removed: BTreeSet::new(),
            counts: WorkerCounts::new(),
            counts_back: WorkerCounts::new(),
        }
    }

    /// Takes an event: changes states and says what has to be done, in order.
    pub fn handle(&mut self, now: Instant, event: FleetEvent, effects: &mut FleetEffects) {
        match event {
            FleetEvent::Request(request) => self.request(now, request, effects),
            FleetEvent::Worker(id, Event::Unhealthy(_, complaint)) if !self.may_replace(&id, complaint) => {}
            FleetEvent::Worker(id, event) => self.tell(now, &id, Input::Event(event), effects),
            FleetEvent::Stalled(id, run, stall) => {
                if let Some(nth) = self.may_recycle(now, &id, run) {
                    self.tell(now, &id, Input::Event(Event::Recycle(run, stall, nth)), effects);
                }
            }
            FleetEvent::Sleep(service) => self.put_to_sleep(now, &service, effects),
            FleetEvent::Wake(service) => self.wake(now, &service, effects),
            FleetEvent::Tick => {
                let due = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
                let due: BTreeSet<WorkerId> = due.map(|(_, id)| id.clone()).collect();
                for id in due {
                    self.tell(now, &id, Input::Tick, effects);
                }
                self.look_at_due_rolls(now);
            }
        }
        self.settle(now, effects);
    }

    /// Draws the conclusions of what has changed.
    fn settle(&mut self, now: Instant, effects: &mut FleetEffects) {
        loop {
            self.end_with_the_failed(now, effects);
            self.stop_what_may_stop(now, effects);
            self.renew_what_may_be_renewed(now, effects);
            self.start_what_may_start(now, effects);
            let is_more = self.stop_what_leaves() | self.replace_followers(now, effects);
            if !is_more && self.renewable.is_empty() {
                return;
            }
        }
    }

    /// When to call [`Fleet::handle`] with [`FleetEvent::Tick`], if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        let of_worker = self.deadlines.first().map(|(deadline, _)| *deadline);
        of_worker.into_iter().chain(self.look_at.values().copied()).min()
    }

    /// Takes over what a predecessor saved, `passed` before now. Saved workers of services that this plan does not have are given
    /// back; their runs, if any, are nobody's and have to be killed. Call it once, on a new fleet, and then [`Fleet::go_on`].
    pub fn adopt(
        &mut self,
        now: Instant,
        saved: BTreeMap<WorkerId, Saved>,
        passed: Duration,
        effects: &mut FleetEffects,
    ) -> Vec<(WorkerId, Saved)> {
        let mut unknown = Vec::new();
        let mut stops = BTreeSet::new();
        // Where it has saved one place of an index, the other one was not there.
        for id in saved.keys() {
            let beside = id.beside();
            if !saved.contains_key(&beside) {
                self.workers.remove(&beside);
            }
        }
        for (id, saved) in saved {
            if !self.plan.services.contains_key(&id.service) {
                unknown.push((id, saved));
                continue;
            }
            if saved.stop_pending {
                stops.insert(id.service.clone());
            }
            let (restored, again) = saved::restore(now, saved, passed);
            if let Some(run) = restored.record.last_run {
                self.ids.skip(run);
            }
            self.move_deadline(&id, None, restored.deadline());
            if restored.part != Part::Stays {
                self.look_at(&id.service);
            }
            // Its predecessor may have died before it had told the group of it.
            if self.plan.services.get(&id.service).is_some_and(|plan| groups::is_failing(plan, &restored)) {
                self.failed.insert(id.clone());
            }
            self.workers.insert(id.clone(), restored);
            effects.extend(again.into_iter().map(|effect| (id.clone(), effect)));
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
        let Self { stops, leaving, .. } = self;
        // A service that leaves is stopped for that, as long as it does.
        let stop_pending = stops.contains_key(&worker.service) && !leaving.contains_key(&worker.service);
        Some(saved::save(now, self.worker(worker)?, stop_pending))
    }

    /// The workers whose state or record changed since the last call, in order.
    pub fn take_changed(&mut self) -> BTreeSet<WorkerId> {
        std::mem::take(&mut self.changed)
    }

    /// Takes a plan that differs in the limits of services alone: the same services, workers and dependencies.
    pub fn change_limits(&mut self, plan: &Arc<Plan>) {
        self.plan = Arc::clone(plan);
    }

    /// Says whether two workers of a service can take one place in turns without a pause: not when both would need one port.
    pub fn set_alone(&mut self, service: &ServiceId, is_alone: bool) {
        match is_alone {
            true => drop(self.alone.insert(service.clone())),
            false => drop(self.alone.remove(service)),
        }
    }

    /// A service's plan.
    pub fn plan(&self, service: &ServiceId) -> Option<&plan::Service> {
        self.plan.services.get(service)
    }

    /// Every worker with its name, in order.
    pub fn workers(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.workers.iter().map(|(id, worker)| (id.clone(), worker))
    }

    /// Every service's plan, in the order of names.
    pub fn plans(&self) -> impl Iterator<Item = &plan::Service> {
        self.plan.services.values()
    }

    /// One worker.
    pub fn worker(&self, id: &WorkerId) -> Option<&Worker> {
        self.workers.get(id)
    }

    /// A service's workers, by index; none when there is no such service. While one is replaced, its index is there twice.
    pub fn workers_of(&self, service: &ServiceId) -> impl Iterator<Item = (&WorkerId, &Worker)> {
        let first = WorkerId::new(service.clone(), 0);
        let last = WorkerId { second: true, ..WorkerId::new(service.clone(), u16::MAX) };
        self.workers.range(first..=last)
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
        self.workers.values().all(|worker| worker.run().is_none())
    }

    fn request(&mut self, now: Instant, request: Request, effects: &mut FleetEffects) {
        match request {
            Request::Start(_) | Request::Restart(_) if self.shutting_down => {}
            Request::Start(selection) => {
                let named = self.selected(&selection);
                for id in self.start_of(&named) {
                    let again = matches!(selection, Selection::Services(_)) && named.contains(&id.service);
                    if again {
                        self.tell(now, &id, Input::Event(Event::Start), effects);
                    } else if !self.has_completed_well(&id) {
                        self.have_up(now, &id, effects);
                    }
                }
            }
            Request::Restart(selection) => {
                let named = self.selected(&selection);
                for id in self.start_of(&named) {
                    if !named.contains(&id.service) && !self.has_completed_well(&id) {
                        self.have_up(now, &id, effects);
                    }
                }
                for service in named {
                    self.restart(now, &service, effects);
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
                let all: Vec<WorkerId> = self.workers.keys().cloned().collect();
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
        // A roll that waited for a stop goes on.
        self.renewable.extend(self.renewing.intersection(&services).cloned());
        for service in named {
            self.kept.remove(service);
        }
        let stays = |(id, worker): &(&WorkerId, &Worker)| {
            services.contains(&id.service) && worker.part != Part::Leaves
        };
        self.workers.iter().filter(stays).map(|(id, _)| id.clone()).collect()
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
        let leaving = self.workers.iter().filter(|(_, worker)| is_leaving(worker));
        let ordered = services.iter().chain(leaving.map(|(id, _)| &id.service)).cloned().collect();
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
            for id in self.places(&service) {
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
        while let Some(service) = self.startable.pop_first().or_else(|| self.freed()) {
            let waits = self.workers_of(&service).any(|(_, worker)| worker.state == State::Waiting);
            if !waits || !self.waiting_for(&service).is_empty() {
                continue;
            }
            for id in self.places(&service) {
                self.tell(now, &id, Input::Event(Event::DependenciesMet), effects);
            }
        }
    }

    /// Whether a service has to stop, and waits for others to stop before.
    fn is_to_stop(&self, service: &ServiceId) -> bool {
        self.shutting_down || self.stops.contains_key(service)
    }

    /// Hands one worker its input, and notes what may follow from a change.
    fn tell(&mut self, now: Instant, id: &WorkerId, input: Input, effects: &mut FleetEffects) {
        let siblings = self.siblings(now, id);
        let Some(plan) = self.plan.services.get(&id.service) else { return };
        let Some(worker) = self.workers.get_mut(id) else { return };
        let jitter = self.jitter.next_unit();
        let mut context = Context { now, plan, ids: &mut self.ids, jitter, siblings };
        let before = worker.clone();
        let mut own = Vec::new();
        match input {
            Input::Event(event) => worker.handle(event, &mut context, &mut own),
            Input::Tick => worker.tick(&mut context, &mut own),
        }
        if before != *worker {
            renewal::forget_if_over(worker);
            if groups::has_failed(plan, &before, worker) {
                self.failed.insert(id.clone());
            }
            let after = worker.deadline();
            self.move_deadline(id, before.deadline(), after);
            self.changed.insert(id.clone());
            if self.renewing.contains(&id.service) {
                self.renewable.insert(id.service.clone());
            }
            self.startable.insert(id.service.clone());
            self.startable.extend(self.order.dependents(&id.service).iter().cloned());
            self.startable.extend(self.order.ended_with(&id.service).iter().cloned());
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

    /// The places of a service, in order.
    fn places(&self, service: &ServiceId) -> Vec<WorkerId> {
        self.workers_of(service).map(|(id, _)| id.clone()).collect()
    }

    fn selected(&self, selection: &Selection) -> BTreeSet<ServiceId> {
        match selection {
            Selection::All => self.plan.services.keys().cloned().collect(),
            Selection::Services(named) => {
                named.iter().filter(|id| self.plan.services.contains_key(*id)).cloned().collect()
            }
        }
    }

    fn has_run(&self, service: &ServiceId) -> bool {
        self.workers_of(service).any(|(_, worker)| worker.run().is_some())
    }

    fn has_completed_well(&self, id: &WorkerId) -> bool {
        self.worker(id).is_some_and(|worker| worker.state == State::Completed { exit: ExitCause::Exited(0) })
    }
}

/// The first place of every index of a plan, where these services have another number of workers.
fn first_places<'a>(plan: &'a Plan, counts: &'a WorkerCounts) -> impl Iterator<Item = WorkerId> + 'a {
    plan.services.iter().flat_map(|(service, plan)| {
        let count = counts.get(service).copied().unwrap_or(plan.workers.first()).get();
        (0..count).map(|index| WorkerId::new(service.clone(), index))
    })
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
