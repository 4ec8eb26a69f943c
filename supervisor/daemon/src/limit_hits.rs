//! What limits do to runs while they act: the kernel is asked to tell.

use std::time::Duration;

use tokio::io::{Interest, unix::AsyncFd};
use watt_core::RunId;
use watt_os::cgroup::{Group, LimitSignal};

use crate::{app::App, events::happenings, runs::Task};

/// How often and in what steps one looks for the count of what was told.
const LOOKS: usize = 20;
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long one waits between the first looks for a refused fork where the kernel does not tell, and at most: seldom,
/// because there may be a thousand who do. `status` looks by itself.
const FORK_LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

impl App {
    /// A limit may have acted.
    pub(crate) fn limit_hit(&mut self, id: RunId) {
        self.out_of_memory(id);
        self.fork_refused(id);
    }

    /// Has the kernel tell when a limit of this run acts.
    pub(crate) fn watch_limits(&mut self, id: RunId) {
        self.watch_memory(id);
        self.watch_processes(id);
    }

    /// Has the kernel tell of out-of-memory kills, which need not meet the main process.
    fn watch_memory(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let service = self.plan.services.get(&run.worker.service);
        if service.is_none_or(|service| service.limits.cgroup.memory.is_none()) || !run.group.is_usable() {
            return;
        }
        let (group, counted) = (run.group.clone(), run.oom_kills_before);
        let sender = self.senders.limit_hits.clone();
        run.tasks.push(Task(tokio::spawn(async move {
            for told in counted.. {
                out_of_memory(&group, told).await;
                if sender.send(id).await.is_err() {
                    return;
                }
            }
        })));
    }

    /// The kernel killed a process of a run for memory. With `oom_group` the rest follows: cgroup v2 does that itself,
    /// v1 kills one process alone, and half a worker is worse than none.
    pub(crate) fn out_of_memory(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let kills = run.group.events().oom_kills;
        if kills <= run.oom_kills_told {
            return;
        }
        run.oom_kills_told = kills;
        let worker = run.worker.clone();
        let limits = self.plan.services.get(&worker.service).map(|service| &service.limits);
        let (limit, whole) = limits.map_or((None, true), |limits| (limits.cgroup.memory, limits.oom_group));
        self.events.emit(happenings::OutOfMemory { worker, run: id, limit });
        if whole {
            self.kill(id);
        }
    }

    /// Has the kernel tell of the first fork that the limit of processes refuses. The next thousand are counted in `status`.
    fn watch_processes(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let service = self.plan.services.get(&run.worker.service);
        let is_limited = service.is_some_and(|service| service.limits.cgroup.pids.is_some());
        if !is_limited || !run.group.is_usable() || run.pids_limit_told {
            return;
        }
        let (group, counted) = (run.group.clone(), run.pids_refused_before);
        let sender = self.senders.limit_hits.clone();
        run.tasks.push(Task(tokio::spawn(async move {
            fork_refused(&group, counted).await;
            // The loop has ended when it does not take it.
            let _ = sender.send(id).await;
        })));
    }

    /// The limit of processes may have refused forks of a run: it is looked at, told once, and noted for the time when the
    /// run is over.
    pub(crate) fn fork_refused(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let service = self.plan.services.get(&run.worker.service);
        let Some(limit) = service.and_then(|service| service.limits.cgroup.pids) else { return };
        let count = run.pids_refused();
        if count == 0 {
            return;
        }
        let worker = run.worker.clone();
        self.times.entry(worker.clone()).or_default().pids_refused = count;
        if !std::mem::replace(&mut run.pids_limit_told, true) {
            self.events.emit(happenings::PidsLimitMet { worker, run: id, limit, count });
        }
    }
}

/// Waits until the kernel has killed a process of the group for memory, after `counted` such kills. For ever where it
/// does not tell.
async fn out_of_memory(group: &Group, counted: u64) {
    let signal = group.oom_signal().inspect_err(|error| {
        tracing::warn!("out-of-memory kills are seen only when a main process ends: {error}");
    });
    match signal {
        Ok(Some(signal)) => told(signal, || group.events().oom_kills > counted).await,
        Ok(None) | Err(_) => std::future::pending().await,
    }
}

/// Waits until a fork was refused, after `counted` of them. The kernel tells of it on cgroup v2; on v1 one has to look.
async fn fork_refused(group: &Group, counted: u64) {
    let is_so = || group.pids_limit_hits() > counted;
    match group.pids_signal() {
        Ok(Some(signal)) => told(signal, is_so).await,
        Ok(None) | Err(_) => {
            let mut wait = FORK_LOOK.0;
            while !is_so() {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(FORK_LOOK.1);
            }
        }
    }
}

/// Waits until the kernel tells of what `is_so` then sees.
async fn told(signal: LimitSignal, is_so: impl Fn() -> bool) {
    let interest = if signal.is_priority() { Interest::PRIORITY } else { Interest::READABLE };
    #[expect(
        deprecated,
        reason = "its successor is unsafe; the signal owns its descriptor until it is dropped"
    )]
    let Ok(signal) = AsyncFd::with_interest(signal, interest) else { return std::future::pending().await };
    while !is_so() {
        match signal.ready(interest).await {
            Ok(mut ready) => {
                ready.clear_ready();
                signal.get_ref().rearm();
            }
            Err(_) => return std::future::pending().await,
        }
        // cgroup v1 tells of kills first and counts them a moment later.
        for _ in 0..LOOKS {
            if is_so() {
                return;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}
