//! `status` and `inspect`: fleet, runs and counts as the control API says them.
//!
//! What is in memory is put together in the loop; figures that have to be read from many files are filled in
//! afterwards, beside it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use watt_api::{
    control::{
        self, Exit, PidsLimit, Requests, RequestsRefused, ScaledBy, ScalingRange, WorkerPart, WorkerState,
    },
    mesh::{Counts, Endpoint, Outgoing},
};
use watt_core::{
    RunId, ServiceId, WorkerId,
    fleet::Fleet,
    plan,
    worker::{AfterStop, ExitCause, Part, State, Worker},
};

use crate::{
    autoscale::Autoscale, fd_store::Stores, record::Times, runs::Run, scaling::Scale, timestamp,
    usage::Figures, words,
};

/// What `status` is made of.
pub(crate) struct Sources<'a> {
    pub(crate) fleet: &'a Fleet,
    pub(crate) runs: &'a BTreeMap<RunId, Box<Run>>,
    pub(crate) times: &'a BTreeMap<WorkerId, Box<Times>>,
    pub(crate) counts: &'a BTreeMap<String, Counts>,
    pub(crate) unenforced: &'a BTreeMap<String, Vec<String>>,
    pub(crate) scales: &'a BTreeMap<ServiceId, Scale>,
    pub(crate) autoscale: &'a Autoscale,
    pub(crate) loaded_at_ms: u64,
    /// What was applied of single services.
    pub(crate) applied: &'a BTreeMap<String, watt_config::Applied>,
    /// What workers have kept for their successors.
    pub(crate) stores: &'a Stores,
    pub(crate) now: Instant,
}

impl Sources<'_> {
    /// Every service, without figures.
    pub(crate) fn services(&self) -> Vec<control::Service> {
        self.fleet.plans().map(|plan| self.service(plan)).collect()
    }

    /// One service, without figures.
    pub(crate) fn service(&self, plan: &plan::Service) -> control::Service {
        let workers: Vec<control::Worker> =
            self.fleet.workers_of(&plan.id).map(|(id, worker)| self.worker(plan, id, worker)).collect();
        // What takes turns with another one says nothing of the service, unless nothing else is there.
        let passes =
            |worker: &&control::Worker| matches!(worker.part, WorkerPart::Replaces | WorkerPart::Leaves);
        let stay = workers.iter().filter(|worker| !passes(worker)).map(|worker| worker.state).max();
        let all = workers.iter().map(|worker| worker.state).max();
        let state = stay.or(all).unwrap_or(WorkerState::Down);
        control::Service {
            id: plan.id.to_string(),
            state,
            waiting_for: if state == WorkerState::Waiting { self.waiting_for(plan) } else { Vec::new() },
            ready: count(workers.iter().filter(|worker| worker.state == WorkerState::Ready)),
            wanted: if self.fleet.is_asleep(&plan.id) { 0 } else { self.fleet.count(&plan.id) },
            scaling: self.scaling(plan),
            requests: self.counts.get(plan.id.as_str()).map(requests).unwrap_or_default(),
            sandbox: words::profile(plan.sandbox.profile).to_owned(),
            unenforced: self.unenforced.get(plan.id.as_str()).cloned().unwrap_or_default(),
            applied: self.applied.get(plan.id.as_str()).filter(|one| one.document.is_some()).map(applied),
            workers,
        }
    }

    /// Why it has so many workers, where there is something to say of that.
    fn scaling(&self, plan: &plan::Service) -> Option<control::Scaling> {
        let known = self.scales.get(&plan.id).map(Scale::describe);
        let Some(rules) = plan.workers.scaling() else { return known };
        let first = || control::Scaling {
            by: ScaledBy::Configuration,
            from: self.fleet.count(&plan.id),
            at: timestamp::from_ms(self.loaded_at_ms),
            reason: "it began with the fewest".to_owned(),
            range: None,
            lacks: None,
        };
        Some(control::Scaling {
            range: Some(ScalingRange { min: rules.min, max: rules.max.get() }),
            lacks: self.autoscale.lacks(&plan.id).map(str::to_owned),
            ..known.unwrap_or_else(first)
        })
    }

    fn pressure(&self, run: &Run) -> Vec<control::Pressure> {
        let stalls = run.stalls.current().map(|(resource, stalling)| control::Pressure {
            resource: resource.name().to_owned(),
            percent: stalling.last.percent(),
            for_ms: u64::try_from(self.now.saturating_duration_since(stalling.since).as_millis())
                .unwrap_or(u64::MAX),
        });
        stalls.collect()
    }

    fn waiting_for(&self, plan: &plan::Service) -> Vec<String> {
        self.fleet.waiting_for(&plan.id).into_iter().map(|(on, _)| on.to_string()).collect()
    }

    fn worker(&self, plan: &plan::Service, id: &WorkerId, worker: &Worker) -> control::Worker {
        let times = self.times.get(id).map(|times| **times).unwrap_or_default();
        let run = worker.run();
        let details = run.and_then(|run| self.runs.get(&run));
        let deadline = deadline(&worker.state).map(|at| at.saturating_duration_since(self.now));
        control::Worker {
            index: id.index,
            part: part(worker.part),
            state: state(&worker.state),
            run: run.map(|run| run.0),
            pid: details.and_then(|run| run.live_pid()),
            started_at: details.map(|run| timestamp::from_ms(run.started_at_ms)),
            since: timestamp::from_ms(times.since_ms),
            endpoint: details.and_then(|run| run.endpoint.as_ref()).map(endpoint),
            deadline_ms: deadline.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            says: details.and_then(|run| run.watching.as_ref()?.status()),
            reloading: details.is_some_and(|run| is_up(&worker.state) && run.said.reloading),
            stored: self.stores.names(id),
            restarts: worker.record.restarts,
            last_exit: worker.record.last_exit.as_ref().map(|cause| exit(cause, plan, times.exited_at_ms)),
            memory: None,
            cpu_us: None,
            cpu_millis: None,
            pids: None,
            pressure: details.map(|run| self.pressure(run)).unwrap_or_default(),
            pids_limit: plan.limits.cgroup.pids.map(|max| PidsLimit { max, refused: times.pids_refused }),
            last_output: Vec::new(),
        }
    }
}

/// Puts figures where they belong.
pub(crate) fn fill(service: &mut control::Service, figures: &BTreeMap<RunId, Figures>) {
    for worker in &mut service.workers {
        let Some(figures) = worker.run.and_then(|run| figures.get(&RunId(run))) else { continue };
        worker.memory = figures.memory;
        worker.cpu_us = figures.cpu_us;
        worker.cpu_millis = figures.cpu_millis;
        worker.pids = figures.pids;
        if let (Some(limit), Some(refused)) = (&mut worker.pids_limit, figures.pids_refused) {
            limit.refused = refused;
        }
    }
}

/// Services of the file that were taken out of the application.
pub(crate) fn taken_out(all: &BTreeMap<String, watt_config::Applied>) -> BTreeMap<String, control::Applied> {
    let out = all.iter().filter(|(_, one)| one.document.is_none());
    out.map(|(name, one)| (name.clone(), applied(one))).collect()
}

fn applied(applied: &watt_config::Applied) -> control::Applied {
    control::Applied { at: timestamp::from_ms(applied.at_ms), by: applied.by.clone() }
}

/// A worker's state in one word.
pub(crate) fn state(state: &State) -> WorkerState {
    match state {
        State::Down => WorkerState::Down,
        State::Asleep => WorkerState::Asleep,
        State::Waiting => WorkerState::Waiting,
        State::Starting { .. } => WorkerState::Starting,
        State::Ready { .. } => WorkerState::Ready,
        State::Unready { .. } => WorkerState::Unready,
        State::Draining { .. } => WorkerState::Draining,
        State::Stopping { .. } => WorkerState::Stopping,
        State::Backoff { .. } => WorkerState::Backoff,
        State::Failed { .. } => WorkerState::Failed,
        State::Completed { .. } => WorkerState::Completed,
    }
}

/// A worker's part in a renewal.
fn part(part: Part) -> WorkerPart {
    match part {
        Part::Stays => WorkerPart::Stays,
        Part::Due => WorkerPart::Due,
        Part::Replaces => WorkerPart::Replaces,
        Part::Returns => WorkerPart::Returns,
        Part::Outdated => WorkerPart::Outdated,
        Part::Leaves => WorkerPart::Leaves,
    }
}

/// What an exit is to the API.
pub(crate) fn exit(cause: &ExitCause, plan: &plan::Service, at_ms: u64) -> Exit {
    Exit {
        cause: words::exit_cause(cause).to_owned(),
        code: words::exit_code(cause),
        text: words::exit_of(cause, Some(plan)),
        at: timestamp::from_ms(at_ms),
    }
}

/// A state in words, with its numbers: what an event says.
pub(crate) fn describe(worker: &Worker, plan: &plan::Service, now: Instant, waiting_for: &str) -> String {
    let last = || match &worker.record.last_exit {
        Some(cause) => words::exit_of(cause, Some(plan)),
        None => "nothing has run yet".to_owned(),
    };
    let wait = |at: Instant| words::duration(at.saturating_duration_since(now));
    match &worker.state {
        State::Down => "down".to_owned(),
        State::Asleep => "asleep until the first request".to_owned(),
        State::Waiting if waiting_for.is_empty() => "about to start".to_owned(),
        State::Waiting => format!("waits for {waiting_for}"),
        State::Starting { executed: false, .. } => "starting".to_owned(),
        State::Starting { executed: true, .. } => "started, not ready yet".to_owned(),
        State::Ready { .. } => "ready".to_owned(),
        State::Unready { .. } => "not ready any more; it gets no requests".to_owned(),
        State::Draining { then: AfterStop::Together, .. } => {
            format!("{}; its last requests are being answered", ExitCause::Group)
        }
        State::Draining { then: AfterStop::Recycle(stall), .. } => {
            format!("{}; its last requests are being answered", ExitCause::Recycled(*stall))
        }
        State::Draining { then: AfterStop::Replace(complaint), .. } => {
            format!("{}; its last requests are being answered", ExitCause::Unhealthy(*complaint))
        }
        State::Draining { .. } => "its last requests are being answered".to_owned(),
        State::Stopping { cause: ExitCause::Stopped, .. } => "stopping".to_owned(),
        State::Stopping { cause: ExitCause::Group, .. } => {
            "stopping, because another service of its group failed".to_owned()
        }
        State::Stopping { cause, .. } => format!("ends: {}", words::exit_of(cause, Some(plan))),
        State::Backoff { until, .. } => {
            format!("{}; retry in {}", last(), wait(*until))
        }
        State::Failed { failures, retry_at } => {
            let within = plan.restart.give_up_within;
            let next = match retry_at {
                Some(at) => format!("retry in {}", wait(*at)),
                None => "`wattctl start` tries again".to_owned(),
            };
            format!("{}, {}; {next}", last(), words::times(failures.get(), within))
        }
        State::Completed { exit } => format!("completed: {}", words::exit_of(exit, Some(plan))),
    }
}

/// An endpoint in one word.
pub(crate) fn endpoint(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Unix { path } => format!("unix:{}", path.display()),
        Endpoint::Tcp { address } => format!("tcp:{address}"),
        Endpoint::PrivateTcp { address } => format!("private:{address}"),
    }
}

/// Whether a worker in this state does its work.
fn is_up(state: &State) -> bool {
    matches!(state, State::Ready { .. } | State::Unready { .. })
}

/// When a state ends by itself.
fn deadline(state: &State) -> Option<Instant> {
    match state {
        State::Starting { ready_by, .. } => *ready_by,
        State::Draining { until, .. } | State::Backoff { until, .. } => Some(*until),
        State::Stopping { kill_at, .. } => Some(*kill_at),
        State::Failed { retry_at, .. } => *retry_at,
        State::Down
        | State::Asleep
        | State::Waiting
        | State::Ready { .. }
        | State::Unready { .. }
        | State::Completed { .. } => None,
    }
}

/// Whether a worker's last lines of output are part of the answer to "why?".
pub(crate) fn explains(state: WorkerState) -> bool {
    match state {
        WorkerState::Backoff | WorkerState::Failed => true,
        WorkerState::Ready
        | WorkerState::Asleep
        | WorkerState::Completed
        | WorkerState::Down
        | WorkerState::Waiting
        | WorkerState::Starting
        | WorkerState::Unready
        | WorkerState::Draining
        | WorkerState::Stopping => false,
    }
}

pub(crate) fn requests(counts: &Counts) -> Requests {
    let refused = RequestsRefused {
        breaker_open: counts.refused_breaker,
        bulkhead_full: counts.refused_full,
        queue_timeout: counts.refused_late,
        shed: counts.refused_shed,
    };
    Requests {
        total: counts.requests,
        failures: counts.failures,
        in_flight: counts.in_flight,
        held: counts.held,
        retries: counts.retries,
        retries_denied: counts.retries_denied,
        timed_out: counts.timed_out,
        denied: counts.denied,
        refused,
        breaker_opened: counts.breaker_opened,
        breaker_is_open: counts.breaker_is_open,
        ejections: counts.ejections,
        ejected: counts.ejected,
        cache: counts.cache,
    }
}

/// What the proxy counted at one destination.
pub(crate) fn outgoing(outgoing: &Outgoing) -> control::Outgoing {
    let Outgoing { to, counts } = outgoing;
    control::Outgoing {
        to: Some(to.clone()).filter(|to| !to.is_empty()),
        connections: counts.connections,
        open: counts.open,
        failed: counts.failed,
        refused: counts.refused,
        sent: counts.sent,
        received: counts.received,
        connect_us_mean: counts.connect_us_total.checked_div(counts.connections),
        connect_us_max: (counts.connections > 0).then_some(counts.connect_us_max),
        last_at: timestamp::from_ms(counts.last_ms),
    }
}

fn count(items: impl Iterator) -> u16 {
    u16::try_from(items.count()).unwrap_or(u16::MAX)
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
