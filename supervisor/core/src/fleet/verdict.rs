//! How far a service is on the way to what an operator asked for.

use std::collections::{BTreeMap, BTreeSet};

use super::{Fleet, WhyKept};
use crate::{
    ServiceId,
    plan::{Condition, RestartPolicy, Service},
    worker::{AfterStop, ExitCause, Part, State, Wanted, Worker},
};

/// What an operation waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Ready or completed: `up`, `start`, `restart`.
    Up,
    /// Down: `stop`, `shutdown`.
    Down,
}

/// How far a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// On its way.
    Pending,
    /// Every worker is ready.
    Ready,
    /// Every worker was ready, and some are not at the moment, as their checks say.
    Unready,
    /// Nothing runs, because nobody wants anything: it starts with the first request.
    Asleep,
    /// Every worker ended with exit status 0.
    Completed,
    /// Every worker is down.
    Down,
    /// A worker ended otherwise than well and is not tried again before the operator hears of it.
    Failed {
        /// How the last run ended, when there was one.
        exit: Option<ExitCause>,
    },
    /// Every worker is ready, but some are of an earlier plan, or an earlier start: their replacement failed.
    Kept {
        /// Why.
        why: WhyKept,
    },
    /// It waits for a dependency that will not get there by itself.
    Blocked {
        /// Which, and what is asked of it.
        on: (ServiceId, Condition),
    },
    /// Another request has come in between and wants the opposite.
    Overruled,
}

impl Verdict {
    /// Whether the goal was reached.
    pub fn is_ok(&self, goal: Goal) -> bool {
        match (goal, self) {
            (Goal::Up, Verdict::Ready | Verdict::Asleep | Verdict::Completed)
            | (Goal::Down, Verdict::Down) => true,
            (
                Goal::Up | Goal::Down,
                Verdict::Pending
                | Verdict::Ready
                | Verdict::Asleep
                | Verdict::Unready
                | Verdict::Completed
                | Verdict::Down
                | Verdict::Failed { .. }
                | Verdict::Kept { .. }
                | Verdict::Blocked { .. }
                | Verdict::Overruled,
            ) => false,
        }
    }
}

/// The verdicts of these services.
pub(super) fn verdicts(
    fleet: &Fleet,
    services: &BTreeSet<ServiceId>,
    goal: Goal,
) -> BTreeMap<ServiceId, Verdict> {
    let mut all = match goal {
        Goal::Up => up(fleet),
        Goal::Down => services.iter().map(|id| (id.clone(), down(fleet, id))).collect(),
    };
    all.retain(|id, _| services.contains(id));
    all
}

/// How far every service is on the way up. Whether a waiting one may still hope depends on what it waits for, so they are judged
/// in the order of starts.
fn up(fleet: &Fleet) -> BTreeMap<ServiceId, Verdict> {
    let mut verdicts = BTreeMap::new();
    for id in fleet.order.starts() {
        let Some(plan) = fleet.plan(id).filter(|_| !fleet.is_leaving(id)) else { continue };
        verdicts.insert(id.clone(), service_up(fleet, plan, &verdicts));
    }
    verdicts
}

/// How far a service is on the way up. While its workers are replaced, those that are waited for say how far that is.
fn service_up(fleet: &Fleet, plan: &Service, verdicts: &BTreeMap<ServiceId, Verdict>) -> Verdict {
    let workers = || fleet.workers_of(&plan.id).map(|(_, worker)| worker);
    let is_awaited = |worker: &&Worker| matches!(worker.part, Part::Replaces | Part::Returns);
    let judge = |worker| worker_up(fleet, plan, worker, verdicts);
    let awaited = workers().filter(is_awaited).map(judge).reduce(worse);
    let others = workers().filter(|worker| worker.part != Part::Leaves && !is_awaited(worker));
    let all = others.map(judge).chain(awaited.clone()).reduce(worse).unwrap_or(Verdict::Pending);
    // A renewal is over when the old ones have gone.
    let is_due = workers().any(|worker| matches!(worker.part, Part::Due | Part::Leaves));
    match (awaited, fleet.kept.get(&plan.id)) {
        (Some(blocked @ Verdict::Blocked { .. }), _) => blocked,
        // It is ready and has to stay so for a while, or is not and may be again.
        (Some(Verdict::Ready | Verdict::Unready | Verdict::Completed), _) => Verdict::Pending,
        // One that is down by itself holds the roll up, and waits for something that will not come.
        (None, _) if is_due => match all {
            blocked @ Verdict::Blocked { .. } => blocked,
            _ => Verdict::Pending,
        },
        (None, Some(why)) if all == Verdict::Ready => Verdict::Kept { why: why.clone() },
        _ => all,
    }
}

fn worker_up(
    fleet: &Fleet,
    plan: &Service,
    worker: &Worker,
    verdicts: &BTreeMap<ServiceId, Verdict>,
) -> Verdict {
    let failed = || Verdict::Failed { exit: worker.record.last_exit.clone() };
    match &worker.state {
        State::Ready { .. } => Verdict::Ready,
        State::Asleep
        | State::Draining { then: AfterStop::Sleep, .. }
        | State::Stopping { then: AfterStop::Sleep, .. } => Verdict::Asleep,
        State::Unready { .. } => Verdict::Unready,
        State::Completed { exit: ExitCause::Exited(0) } => Verdict::Completed,
        State::Completed { .. } | State::Failed { .. } => failed(),
        State::Down
        | State::Draining { then: AfterStop::Down, .. }
        | State::Stopping { then: AfterStop::Down, .. } => Verdict::Overruled,
        State::Waiting | State::Starting { .. } | State::Stopping { .. } | State::Backoff { .. }
            if has_had_its_chance(plan, worker) =>
        {
            failed()
        }
        State::Waiting => {
            blocked(fleet, plan, verdicts).map_or(Verdict::Pending, |on| Verdict::Blocked { on })
        }
        State::Starting { .. } | State::Draining { .. } | State::Stopping { .. } | State::Backoff { .. } => {
            Verdict::Pending
        }
    }
}

/// Whether the operator need not wait for this worker any longer although it is tried again. Slow failures, as of a worker
/// that is stopped because it does not get ready, may never fill the window that makes it `Failed`.
pub(super) fn has_had_its_chance(plan: &Service, worker: &Worker) -> bool {
    let record = &worker.record;
    let was_too_slow = record.last_exit == Some(ExitCause::StartTimeout);
    record.failures_in_row > 0
        && (was_too_slow || record.failures_in_row >= plan.restart.give_up_failures.max(1))
}

/// A dependency that has not reached its condition and will not by itself.
fn blocked(
    fleet: &Fleet,
    plan: &Service,
    verdicts: &BTreeMap<ServiceId, Verdict>,
) -> Option<(ServiceId, Condition)> {
    fleet.waiting_for(&plan.id).into_iter().find(|(on, condition)| match verdicts.get(on) {
        // Another of its group, which is tried again unless it has failed too often.
        _ if !plan.depends_on.contains_key(on) => fleet.has_failed(on),
        // One that is not required is waited for only as long as it may come.
        _ if plan.depends_on.get(on).is_some_and(|dependency| !dependency.required) => false,
        Some(Verdict::Pending) => false,
        // A service that runs may still complete, unless it is started again whenever it ends.
        Some(
            Verdict::Ready | Verdict::Asleep | Verdict::Kept { .. } | Verdict::Completed | Verdict::Down,
        ) => {
            let policy = fleet.plan(on).map(|plan| plan.restart.policy);
            condition.is_end() && policy == Some(RestartPolicy::Always)
        }
        // It may be ready again, and nobody knows when.
        Some(Verdict::Unready) => *condition != Condition::Started,
        Some(Verdict::Failed { .. } | Verdict::Blocked { .. } | Verdict::Overruled) => true,
        // Judged later, so they wait for each other; or there is no such service.
        None => true,
    })
}

/// How far a service is on the way down.
fn down(fleet: &Fleet, id: &ServiceId) -> Verdict {
    let has_to_wait = fleet.stops.contains_key(id);
    let verdict = |worker: &Worker| match (worker.wanted, &worker.state) {
        (Wanted::Down, State::Down) => Verdict::Down,
        (Wanted::Up, _) if !has_to_wait => Verdict::Overruled,
        (Wanted::Down | Wanted::Up, _) => Verdict::Pending,
    };
    fleet.workers_of(id).map(|(_, worker)| verdict(worker)).reduce(worse).unwrap_or(Verdict::Down)
}

/// The verdict of two workers together: as long as one is on its way, so is the service; then the worse one counts.
fn worse(a: Verdict, b: Verdict) -> Verdict {
    let badness = |verdict: &Verdict| match verdict {
        Verdict::Pending => 9,
        Verdict::Overruled => 8,
        Verdict::Failed { .. } => 7,
        Verdict::Blocked { .. } => 6,
        Verdict::Kept { .. } => 5,
        Verdict::Unready => 4,
        Verdict::Ready => 3,
        Verdict::Asleep => 2,
        Verdict::Completed => 1,
        Verdict::Down => 0,
    };
    if badness(&b) > badness(&a) { b } else { a }
}
