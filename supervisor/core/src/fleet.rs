//! All workers of an application together: order of starts and stops, dependencies, operator's requests.
//!
//! [`Fleet`] owns the state of every worker. The daemon tells it what happened with [`Fleet::handle`], performs the
//! effects it answers with, and calls it again with [`FleetEvent::Tick`] when [`Fleet::deadline`] has come.
//!
//! - **Start** of a service also starts what it depends on. A worker waits in `Waiting` until each dependency has
//!   reached its condition, however many runs that takes; a dependency that goes away later bounces nobody.
//! - **Stop** of several services stops dependents before what they depend on, independent ones in parallel.
//!   What the stopped services depend on runs on.
//! - **Restart** takes all workers of the selected services at once; each comes back when its dependencies are there.

mod order;
mod saved;
mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{
    RunId, ServiceId, WorkerId,
    plan::{self, Condition, Plan},
    worker::{Effect, Event, RunIds, Worker},
};

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
    /// Time has passed.
    Tick,
}

/// What has to be done, and for whom.
pub type FleetEffects = Vec<(WorkerId, Effect)>;

/// All workers of an application.
#[derive(Debug, Clone)]
pub struct Fleet {
    services: BTreeMap<ServiceId, Member>,
    ids: RunIds,
    shutting_down: bool,
}

/// One service of the fleet.
#[derive(Debug, Clone)]
struct Member {
    plan: plan::Service,
    workers: Vec<Worker>,
}

impl Fleet {
    /// A fleet in which everything is down. Runs are numbered from `first_run` on; `seed` is for the jitter of backoffs.
    pub fn new(plan: &Plan, first_run: RunId, seed: u64) -> Fleet {
        let _ = (plan, first_run, seed);
        todo!()
    }

    /// Takes an event: changes states and says what has to be done, in order.
    pub fn handle(&mut self, now: Instant, event: FleetEvent, effects: &mut FleetEffects) {
        let _ = (now, event, effects);
        todo!()
    }

    /// When to call [`Fleet::handle`] with [`FleetEvent::Tick`], if nothing happens before.
    pub fn deadline(&self) -> Option<Instant> {
        todo!()
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
        let _ = (now, saved, passed, effects);
        todo!()
    }

    /// What a successor has to know of a worker. Worth saving whenever [`Fleet::take_changed`] names it.
    pub fn save(&self, now: Instant, worker: &WorkerId) -> Option<Saved> {
        let _ = (now, worker);
        todo!()
    }

    /// The workers whose state or record changed since the last call, in order.
    pub fn take_changed(&mut self) -> BTreeSet<WorkerId> {
        todo!()
    }

    /// A service's plan.
    pub fn plan(&self, service: &ServiceId) -> Option<&plan::Service> {
        self.services.get(service).map(|member| &member.plan)
    }

    /// Every service's plan, in the order of names.
    pub fn plans(&self) -> impl Iterator<Item = &plan::Service> {
        self.services.values().map(|member| &member.plan)
    }

    /// One worker.
    pub fn worker(&self, id: &WorkerId) -> Option<&Worker> {
        self.services.get(&id.service)?.workers.get(usize::from(id.index))
    }

    /// A service's workers, by index; empty when there is no such service.
    pub fn workers_of(&self, service: &ServiceId) -> &[Worker] {
        self.services.get(service).map_or(&[], |member| &member.workers)
    }

    /// Which dependencies of a service have not reached their condition.
    pub fn waiting_for(&self, service: &ServiceId) -> Vec<(ServiceId, Condition)> {
        let _ = service;
        todo!()
    }

    /// How far each of these services is on the way to a goal. An operation is done when no verdict is [`Verdict::Pending`].
    pub fn verdicts(&self, selection: &Selection, goal: Goal) -> BTreeMap<ServiceId, Verdict> {
        let _ = (selection, goal);
        todo!()
    }

    /// Whether a shutdown was asked for.
    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down
    }

    /// Whether no worker has a run, so that after a shutdown nothing is left to be done.
    pub fn is_idle(&self) -> bool {
        self.services.values().flat_map(|member| &member.workers).all(|worker| worker.run().is_none())
    }
}
