//! What limits do to runs while they act: the kernel is asked to tell.

use std::time::{Duration, Instant};

use tokio::io::{Interest, unix::AsyncFd};
use watt_core::{
    RunId, ServiceId, WorkerId,
    plan::{CgroupLimits, Plan, Resource},
};
use watt_os::cgroup::{Events, Group, LimitSignal};

use crate::{app::App, events::limits, limit_of::LimitOf, oom, runs::Task, stalls::Window};

/// How often and in what steps one looks for the count of what was told.
const LOOKS: usize = 20;
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long one waits between the first looks for a refused fork where the kernel does not tell, and at most: seldom,
/// because there may be a thousand who do. `status` looks by itself.
const FORK_LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How often one looks whether a worker is being slowed down.
const SLOWED_LOOK_EVERY: Duration = Duration::from_secs(5);

/// How much of that time it has to have waited for CPU time: less is what a limit is for.
const SLOWED_BY_CPU_MIN: Duration = Duration::from_secs(1);

/// How long a worker has to go without, for being slowed down to be news again: it may be for as long as it runs.
const SLOWED_FREE_MIN: Duration = Duration::from_secs(60);

/// How often that is told at most.
const SLOWED_TOLD_EVERY: Duration = Duration::from_secs(300);

/// News of limits.
#[derive(Debug)]
pub(crate) enum LimitNews {
    /// One of a run may have acted.
    Hit(RunId),
    /// The ceiling of processes of a service, or of all of them together, may have refused a fork.
    Ceiling(Option<ServiceId>),
    /// One of a run has slowed it down lately, this much.
    Slowed(RunId, Slowed),
    /// A run stalls for want of this, so much; or does so no more.
    Stalls(RunId, Resource, Option<Window>),
    /// The kernel has changed ones of a service, or of all of them together, but for these.
    Set(Option<ServiceId>, Vec<String>),
    /// What services use whose number of workers follows that; `None` when it could not be read.
    Measured(Option<Box<crate::autoscale::Figures>>),
}

impl App {
    /// There is news of limits.
    pub(crate) fn limit_news(&mut self, news: LimitNews) {
        match news {
            LimitNews::Hit(id) => {
                self.out_of_memory(id);
                self.fork_refused(id);
            }
            LimitNews::Ceiling(of) => self.ceiling_met(of),
            LimitNews::Slowed(id, by) => {
                if let Some(run) = self.runs.get(&id) {
                    let within = SLOWED_LOOK_EVERY;
                    self.events.emit(limits::SlowedDown { worker: run.worker.clone(), run: id, by, within });
                }
            }
            LimitNews::Stalls(id, resource, seen) => self.stalls(id, resource, seen),
            LimitNews::Set(of, unenforced) => self.limits_set(of, unenforced),
            LimitNews::Measured(figures) => self.measured(figures),
        }
    }

    /// Has the kernel tell when a limit of this run acts, from now on.
    pub(crate) fn watch_limits(&mut self, id: RunId) {
        if let Some(run) = self.runs.get_mut(&id) {
            run.limit_watches.clear();
        }
        self.watch_memory(id);
        self.watch_processes(id);
        self.watch_speed(id);
        self.watch_stalls(id);
    }

    /// Looks now and then whether limits slow a run down. The kernel does not tell.
    fn watch_speed(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let slows = |limits: &CgroupLimits| limits.cpu_millis.is_some() || limits.memory_high.is_some();
        let service = self.plan.services.get(&run.worker.service);
        if service.is_none_or(|service| !slows(&service.limits.cgroup)) || !run.group.is_usable() {
            return;
        }
        let (group, sender) = (run.group.clone(), self.senders.limit_hits.clone());
        run.limit_watches.push(Task(tokio::spawn(async move {
            let mut before = group.events();
            let mut spells = Spells::default();
            loop {
                tokio::time::sleep(SLOWED_LOOK_EVERY).await;
                let now = group.events();
                if let Some(by) = Slowed::between(&before, &now)
                    && spells.is_news(Instant::now())
                    && sender.send(LimitNews::Slowed(id, by)).await.is_err()
                {
                    return;
                }
                before = now;
            }
        })));
    }

    /// Has the kernel tell of out-of-memory kills, which need not meet the main process.
    fn watch_memory(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        if !is_limited(&self.plan, &run.worker, |limits| limits.memory.is_some()) || !run.group.is_usable() {
            return;
        }
        // What was seen before stays: when limits are changed there may be a kill in between that is to be told yet.
        run.memory_ended = run.memory_ended.or_else(|| self.cgroups.memory_ended(&run.worker));
        let (group, counted) = (run.group.clone(), run.oom_kills_told);
        let sender = self.senders.limit_hits.clone();
        run.limit_watches.push(Task(tokio::spawn(async move {
            for told in counted.. {
                out_of_memory(&group, told).await;
                if sender.send(LimitNews::Hit(id)).await.is_err() {
                    return;
                }
            }
        })));
    }

    /// The kernel killed a process of a run for memory. With `oom_group` the rest follows: cgroup v2 does that itself,
    /// v1 kills one process alone, and half a worker is worse than none.
    pub(crate) fn out_of_memory(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let kills = run.group.oom_kills();
        if kills <= run.oom_kills_told {
            return;
        }
        run.oom_kills_told = kills;
        let worker = run.worker.clone();
        let levels = self.cgroups.levels(&worker);
        let (victims, ended) = levels.map(|levels| self.oom_kills.of(&levels)).unwrap_or_default();
        let counts = self.cgroups.memory_ended(&worker);
        let before = std::mem::replace(&mut run.memory_ended, counts);
        let ended = ended.or_else(|| match counts.zip(before) {
            Some((counts, before)) => counts.since(&before),
            None => oom::by_peak(&self.plan, &worker, &run.group),
        });
        run.oom_ended.clone_from(&ended);
        let limit = ended.as_ref().and_then(|ended| ended.limit(&self.plan, &worker));
        let service = self.plan.services.get(&worker.service);
        let whole = service.is_none_or(|service| service.limits.oom_group);
        let peak = run.group.usage().memory_peak;
        if let Some(counts) = counts {
            let others = self.runs.values_mut().map(|run| &mut **run);
            oom::told_of_neighbour(others, &worker, &counts);
        }
        self.events.emit(limits::OutOfMemory { worker, run: id, victims, ended, limit, peak, kills });
        if whole {
            self.kill(id);
        }
    }

    /// Has the kernel tell of the first fork that a limit of processes refuses. The next thousand are counted in `status`.
    fn watch_processes(&mut self, id: RunId) {
        self.watch_ceilings(id);
        let Some(run) = self.runs.get_mut(&id) else { return };
        let is_limited = is_limited(&self.plan, &run.worker, |limits| limits.pids.is_some());
        if !is_limited || !run.group.is_usable() || run.pids_limit_told {
            return;
        }
        let (group, counted) = (run.group.clone(), run.pids_refused_before);
        let sender = self.senders.limit_hits.clone();
        run.limit_watches.push(Task(tokio::spawn(async move {
            fork_refused(&group, counted).await;
            // The loop has ended when it does not take it.
            let _ = sender.send(LimitNews::Hit(id)).await;
        })));
    }

    /// The limit of processes may have refused forks of a run: it is looked at, told once, and noted for the time when the
    /// run is over.
    pub(crate) fn fork_refused(&mut self, id: RunId) {
        self.ceilings_met(id);
        let Some(run) = self.runs.get_mut(&id) else { return };
        let worker = run.worker.clone();
        let count = run.pids_refused();
        if count == 0 || !is_limited(&self.plan, &worker, |limits| limits.pids.is_some()) {
            return;
        }
        let of = self.cgroups.full_of_processes(&worker, &self.plan, &run.group);
        let times = self.times.entry(worker.clone()).or_default();
        times.pids_refused = if of.is_none_or(|of| of == LimitOf::Worker) { count } else { 0 };
        if !std::mem::replace(&mut run.pids_limit_told, true) {
            let at = of.and_then(|of| Some((of, of.limits(&self.plan, &worker)?.pids?)));
            self.events.emit(limits::PidsLimitMet { worker, run: id, at, count });
        }
    }
}

/// How much limits slowed a run down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slowed {
    /// How long it waited for CPU time, by all its threads together.
    pub cpu: Duration,
    /// In so many periods of its limit its CPU time was used up.
    pub throttled: u64,
    /// Of so many in which it had something to run.
    pub periods: u64,
    /// How often it was held up at `memory_high`.
    pub memory_high: u64,
}

impl Slowed {
    /// `None` when it was not worth a word.
    fn between(before: &Events, now: &Events) -> Option<Slowed> {
        let cpu = Duration::from_micros(now.cpu_throttled_us.saturating_sub(before.cpu_throttled_us));
        let memory_high = now.memory_high_hits.saturating_sub(before.memory_high_hits);
        let throttled = now.cpu_throttled.saturating_sub(before.cpu_throttled);
        let periods = now.cpu_periods.saturating_sub(before.cpu_periods);
        let is_slow = cpu >= SLOWED_BY_CPU_MIN || memory_high > 0;
        is_slow.then_some(Slowed { cpu, throttled, periods, memory_high })
    }
}

/// When a run was slowed down: what lies less than [`SLOWED_FREE_MIN`] apart is one spell.
#[derive(Debug, Default)]
struct Spells {
    seen: Option<Instant>,
    /// Whether the present one was told.
    is_told: bool,
    told: Option<Instant>,
}

impl Spells {
    /// It is slowed down now. Says whether that is worth a word.
    fn is_news(&mut self, now: Instant) -> bool {
        let is_over = |time: Option<Instant>, after| time.is_none_or(|time| now - time >= after);
        let is_new = is_over(self.seen, SLOWED_FREE_MIN);
        self.seen = Some(now);
        let is_known = self.is_told && !is_new;
        self.is_told = is_known || is_over(self.told, SLOWED_TOLD_EVERY);
        let is_news = self.is_told && !is_known;
        if is_news {
            self.told = Some(now);
        }
        is_news
    }
}

/// Whether a worker has this limit, alone or together with others.
fn is_limited(plan: &Plan, worker: &WorkerId, has: fn(&CgroupLimits) -> bool) -> bool {
    let service = plan.services.get(&worker.service);
    has(&plan.limits)
        || service.is_some_and(|service| has(&service.limits.cgroup) || has(&service.limits_total))
}

/// Waits until the kernel has killed a process of the group for memory, after `counted` such kills. For ever where it
/// does not tell.
async fn out_of_memory(group: &Group, counted: u64) {
    let signal = group.oom_signal().inspect_err(|error| {
        tracing::warn!("out-of-memory kills are seen only when a main process ends: {error}");
    });
    match signal {
        Ok(Some(signal)) => told(signal, || group.oom_kills() > counted).await,
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
pub(crate) async fn told(signal: LimitSignal, is_so: impl Fn() -> bool) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_waiting_for_cpu_time_is_not_told() {
        let events = |cpu_throttled_us, memory_high_hits| Events {
            cpu_throttled_us,
            memory_high_hits,
            ..Events::default()
        };
        let before = events(5_000_000, 2);
        assert_eq!(Slowed::between(&before, &events(5_900_000, 2)), None);
        let slowed = Slowed { cpu: Duration::from_millis(1500), throttled: 40, periods: 50, memory_high: 0 };
        let now = Events { cpu_throttled: 40, cpu_periods: 50, ..events(6_500_000, 2) };
        assert_eq!(Slowed::between(&before, &now), Some(slowed));
        let slowed = Slowed { cpu: Duration::ZERO, throttled: 0, periods: 0, memory_high: 3 };
        assert_eq!(Slowed::between(&before, &events(5_000_000, 5)), Some(slowed));
        // A group that was made anew begins at 0.
        assert_eq!(Slowed::between(&before, &events(0, 0)), None);
    }

    #[test]
    fn what_goes_on_or_comes_back_at_once_is_told_once() {
        let mut spells = Spells::default();
        let start = Instant::now();
        let mut is_news = |at: u64| spells.is_news(start + Duration::from_secs(at));
        assert!(is_news(0));
        assert!((1..100).all(|look| !is_news(look * 59)), "it goes on");
        assert!(is_news(99 * 59 + 60), "after a minute without");
        assert!(!is_news(99 * 59 + 200), "told a moment ago");
        assert!(!is_news(99 * 59 + 250));
        assert!(!is_news(99 * 59 + 300));
        assert!(!is_news(99 * 59 + 359));
        assert!(is_news(99 * 59 + 360), "the same spell, which was not told");
    }
}
