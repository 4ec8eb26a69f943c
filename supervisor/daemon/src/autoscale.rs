//! Services whose number of workers follows what they have to do: what is measured, once a second, and what is made of it.
//!
//! The kernel's figures are read beside the loop, the proxy's come by themselves; `watt-core` decides. What was measured is not kept
//! for a successor: it begins anew, and takes no worker away before it has looked for as long as the cooldown.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

use watt_api::{
    control::ScaledBy,
    mesh::{Work, answer_within},
};
use watt_core::{
    RunId, ServiceId,
    fleet::FleetEvent,
    plan::{CgroupLimits, Plan, Scaling, Service},
    scaling::{Decision, Lack, Reason, Room, Sample, Scaler},
    worker::{Part, State},
};
use watt_os::cgroup::{Group, PressureOf, Usage};

use crate::{
    app::{App, Ending},
    beside::VIEWS,
    events::scaling::ScalingRefused,
    limit_hits::LimitNews,
    usage::{Meter, Subject},
};

/// How often is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(1);

/// The part of the host's memory that is left to others.
const HOST_MEMORY_LEFT: u64 = 10;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Autoscale {
    services: BTreeMap<ServiceId, Watched>,
    /// When is measured next; not while that is done.
    due: Option<Instant>,
    /// For figures of processes without a cgroup.
    meter: Meter,
    /// What the proxy said last, and when.
    work: Option<(Instant, BTreeMap<String, Work>)>,
    /// What groups had used at the last look.
    used: BTreeMap<Option<ServiceId>, (Instant, u64)>,
}

/// One of them.
#[derive(Debug)]
struct Watched {
    rules: Scaling,
    scaler: Scaler,
    last: Option<Last>,
    lacks: Option<String>,
}

/// What was seen at the last look.
#[derive(Debug)]
struct Last {
    at: Instant,
    runs: BTreeMap<RunId, RunFigures>,
    work: Option<(Instant, Work)>,
}

/// What one run has used.
#[derive(Debug, Clone, Copy)]
struct RunFigures {
    cpu_us: Option<u64>,
    memory: Option<u64>,
    stalled: Option<Duration>,
}

/// What the kernel says.
#[derive(Debug)]
pub(crate) struct Figures {
    at: Instant,
    runs: BTreeMap<RunId, RunFigures>,
    /// Of the application, and of services with a ceiling of their own; their memory is what is not given back for more.
    groups: BTreeMap<Option<ServiceId>, Usage>,
    /// All of the host's memory, and what of it is free or can be made so.
    host_memory: Option<(u64, u64)>,
}

impl Autoscale {
    /// When [`App::measure`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Watches the services of this plan that are to be. What is known of those whose rules are the same stays.
    pub(crate) fn fit(&mut self, plan: &Plan, now: Instant) {
        let rules = |id: &ServiceId| plan.services.get(id).and_then(|service| service.workers.scaling());
        self.services.retain(|id, watched| rules(id) == Some(&watched.rules));
        for (id, service) in &plan.services {
            let Some(rules) = service.workers.scaling() else { continue };
            let new = || Watched { rules: rules.clone(), scaler: Scaler::new(now), last: None, lacks: None };
            self.services.entry(id.clone()).or_insert_with(new);
        }
        match self.services.is_empty() {
            true => self.due = None,
            false => drop(self.due.get_or_insert(now + MEASURE_EVERY)),
        }
    }

    /// What the proxy has measured since it started.
    pub(crate) fn proxy_measured(&mut self, now: Instant, work: BTreeMap<String, Work>) {
        self.work = Some((now, work));
    }

    /// There is no proxy, or another one: what it did not say is not nothing.
    pub(crate) fn proxy_lost(&mut self) {
        self.work = None;
    }

    /// What a service lacks for more workers that it would take.
    pub(crate) fn lacks(&self, service: &ServiceId) -> Option<&str> {
        self.services.get(service)?.lacks.as_deref()
    }

    /// CPUs that a group has used since the last look.
    fn cpus(&mut self, of: &Option<ServiceId>, figures: &Figures) -> Option<f64> {
        let cpu_us = figures.groups.get(of)?.cpu_us?;
        let (at, before) = self.used.insert(of.clone(), (figures.at, cpu_us))?;
        let passed = figures.at.saturating_duration_since(at).as_secs_f64();
        let cpus = cpu_us.saturating_sub(before) as f64 / 1e6 / passed;
        cpus.is_finite().then_some(cpus)
    }
}

impl App {
    /// Has the kernel's figures read, when it is time.
    pub(crate) fn measure(&mut self, now: Instant) {
        if self.autoscale.due.is_none_or(|due| due > now) {
            return;
        }
        // The answer sets it anew.
        self.autoscale.due = None;
        let runs =
            self.runs.iter().filter(|(_, run)| self.autoscale.services.contains_key(&run.worker.service));
        let subjects = runs.map(|(id, run)| Subject {
            run: *id,
            pid: run.live_pid(),
            group: run.group.clone(),
            started_at_ms: run.started_at_ms,
            pids_refused_before: None,
        });
        let subjects: Vec<Subject> = subjects.collect();
        let bounded = |id: &&ServiceId| {
            self.plan.services.get(*id).is_some_and(|service| service.limits_total != CgroupLimits::default())
        };
        let mut groups: Vec<(Option<ServiceId>, Group)> = self
            .autoscale
            .services
            .keys()
            .filter(bounded)
            .map(|id| (Some(id.clone()), self.cgroups.service(id)))
            .collect();
        groups.push((None, self.cgroups.application(&self.plan.limits)));
        let (meter, sender) = (self.autoscale.meter.clone(), self.senders.limit_hits.clone());
        tokio::spawn(async move {
            let figures = VIEWS.run(move || read(&meter, &subjects, &groups)).await;
            // The loop has ended when it does not take it.
            let _ = sender.send(LimitNews::Measured(figures.map(Box::new))).await;
        });
    }

    /// The kernel's figures have been read.
    pub(crate) fn measured(&mut self, figures: Option<Box<Figures>>) {
        if self.autoscale.services.is_empty() {
            return;
        }
        self.autoscale.due = Some(Instant::now() + MEASURE_EVERY);
        let Some(figures) = figures.filter(|_| self.ending == Ending::No) else { return };
        let app_cpus = self.autoscale.cpus(&None, &figures);
        let ids: Vec<ServiceId> = self.autoscale.services.keys().cloned().collect();
        for id in ids {
            let service_cpus = self.autoscale.cpus(&Some(id.clone()), &figures);
            if let Some(decision) = self.decide(&id, &figures, app_cpus, service_cpus) {
                self.follow(&id, decision);
            }
        }
    }

    fn decide(
        &mut self,
        id: &ServiceId,
        figures: &Figures,
        app_cpus: Option<f64>,
        service_cpus: Option<f64>,
    ) -> Option<Decision> {
        let service = self.plan.services.get(id)?;
        let count = std::num::NonZeroU16::new(self.fleet.count(id))?;
        let ready = self.ready_runs(id);
        let room = room(&self.plan, service, figures, &ready, app_cpus, service_cpus);
        let counts = self.counts.get(id.as_str()).copied().unwrap_or_default();
        let is_decided = self.fleet.will_sleep(id)
            || self.is_held(id)
            || self.fleet.is_renewing(id)
            || self.is_stopped(id);
        let work = self.autoscale.work.as_ref();
        let work = work.and_then(|(at, work)| Some((*at, work.get(id.as_str())?.clone())));
        let watched = self.autoscale.services.get_mut(id)?;
        let now = Last { at: figures.at, runs: of(&ready, figures), work };
        let last = watched.last.replace(now);
        if is_decided {
            watched.scaler.begin_anew(figures.at);
            watched.lacks = None;
            return None;
        }
        let (last, now) = (last?, watched.last.as_ref()?);
        let mut sample = sample(service, &last, now, ready.len());
        // A worker that is on its way was wanted.
        sample.active |= counts.in_flight > 0 || counts.held > 0 || ready.is_empty();
        let decision = watched.scaler.decide(&watched.rules, count, sample, &room);
        if !watched.scaler.is_refused() {
            watched.lacks = None;
        }
        decision
    }

    fn follow(&mut self, id: &ServiceId, decision: Decision) {
        match decision {
            Decision::Count(count, reason) => {
                self.give_workers(id, Some(count), ScaledBy::Load, &reason.to_string());
            }
            Decision::Sleep(reason) => self.sleep(id, &reason),
            Decision::Refused(wanted, reason, lack) => self.refuse_workers(id, wanted.get(), &reason, &lack),
        }
    }

    /// Nobody wants anything of a service: its workers end.
    fn sleep(&mut self, id: &ServiceId, reason: &Reason) {
        let from = self.fleet.count(id);
        if from > 1 {
            self.give_workers(id, Some(std::num::NonZeroU16::MIN), ScaledBy::Load, &reason.to_string());
        }
        self.tell(FleetEvent::Sleep(id.clone()));
        self.note_scale(id, ScaledBy::Load, from, 0, &reason.to_string());
    }

    /// Somebody wants something of a service that sleeps.
    pub(crate) fn wanted(&mut self, service: &str) {
        let Ok(id) = ServiceId::new(service) else { return };
        if self.ending == Ending::No && self.fleet.will_sleep(&id) {
            self.tell(FleetEvent::Wake(id.clone()));
            self.note_scale(&id, ScaledBy::Load, 0, self.fleet.count(&id), "a request came");
        }
    }

    fn refuse_workers(&mut self, id: &ServiceId, wanted: u16, reason: &Reason, lack: &Lack) {
        if let Some(watched) = self.autoscale.services.get_mut(id) {
            watched.lacks = Some(format!("{wanted} would be better ({reason}), but {lack}"));
        }
        let (from, reason, lack) = (self.fleet.count(id), reason.to_string(), lack.to_string());
        self.events.emit(ScalingRefused { service: id.clone(), from, wanted, reason, lack });
    }

    /// Runs that take requests, of workers that stay.
    fn ready_runs(&self, id: &ServiceId) -> BTreeSet<RunId> {
        let ready = self.fleet.workers_of(id).filter_map(|(_, worker)| match worker.state {
            State::Ready { run, .. } if !matches!(worker.part, Part::Leaves | Part::Replaces) => Some(run),
            _ => None,
        });
        ready.collect()
    }

    /// Whether an operator wants it down.
    pub(crate) fn is_stopped(&self, id: &ServiceId) -> bool {
        use watt_core::worker::Wanted;
        self.fleet.workers_of(id).all(|(_, worker)| worker.wanted == Wanted::Down)
    }
}

fn of(runs: &BTreeSet<RunId>, figures: &Figures) -> BTreeMap<RunId, RunFigures> {
    runs.iter().filter_map(|run| Some((*run, *figures.runs.get(run)?))).collect()
}

/// What happened between two looks. Of a worker that was not ready at both, it is taken to be as with the others.
fn sample(service: &Service, last: &Last, now: &Last, ready: usize) -> Sample {
    let passed = now.at.saturating_duration_since(last.at);
    let both = || now.runs.iter().filter_map(|(run, figures)| Some((figures, last.runs.get(run)?)));
    let mean = |parts: Vec<f64>| {
        let mean = parts.iter().sum::<f64>() / parts.len() as f64;
        mean.is_finite().then_some(mean)
    };
    let seconds = passed.as_secs_f64();
    let may_use = service.limits.cgroup.cpu_millis.map_or(1.0, |millis| f64::from(millis) / 1000.0);
    let cpu = both().filter_map(|(now, last)| {
        Some(now.cpu_us?.saturating_sub(last.cpu_us?) as f64 / 1e6 / seconds / may_use)
    });
    let stalled = both()
        .filter_map(|(now, last)| Some(now.stalled?.saturating_sub(last.stalled?).as_secs_f64() / seconds));
    let work = now.work.as_ref().zip(last.work.as_ref()).and_then(|((to, now), (from, last))| {
        let passed = to.saturating_duration_since(*from);
        Some((now.since(last)?, passed.as_secs_f64())).filter(|(_, passed)| *passed > 0.0)
    });
    let on_average =
        |of: fn(&Work) -> u64| work.as_ref().map(|(work, passed)| of(work) as f64 / 1e6 / passed);
    let answers = work.as_ref().map(|(work, _)| {
        let counts = work.answers.iter().enumerate().filter(|(_, count)| **count > 0);
        counts.map(|(bucket, count)| (answer_within(bucket), *count)).collect()
    });
    Sample {
        at: now.at,
        passed,
        ready: u16::try_from(ready).unwrap_or(u16::MAX),
        cpu: mean(cpu.collect()).map(|each| each * ready as f64),
        in_flight: on_average(|work| work.in_flight_us),
        answers,
        queue: on_average(|work| work.held_us),
        pressure: mean(stalled.collect()),
        // The sums of the proxy lose nothing: what came before its next message is seen then.
        active: match (&now.work, &last.work) {
            (Some((to, _)), Some((from, _))) if to == from => false,
            _ => work.as_ref().is_none_or(|(work, _)| !work.is_nothing()),
        },
    }
}

/// What there is for more workers: of the service, of the application, else of the host, whichever is least.
fn room(
    plan: &Plan,
    service: &Service,
    figures: &Figures,
    ready: &BTreeSet<RunId>,
    app_cpus: Option<f64>,
    service_cpus: Option<f64>,
) -> Room {
    let group = |of: &Option<ServiceId>| figures.groups.get(of).copied().unwrap_or_default();
    let (app, own) = (group(&None), group(&Some(service.id.clone())));
    let left = |limits: &CgroupLimits, usage: Usage| Some(limits.memory?.saturating_sub(usage.memory?));
    let host = figures.host_memory.map(|(all, free)| free.saturating_sub(all / HOST_MEMORY_LEFT));
    let memory = [left(&plan.limits, app), left(&service.limits_total, own), host];
    let each: Vec<u64> = of(ready, figures).into_values().filter_map(|run| run.memory).collect();
    let host_cpus = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get) as f64;
    let of_limit = |limits: &CgroupLimits| limits.cpu_millis.map(|millis| f64::from(millis) / 1000.0);
    let app_cpus = app_cpus.map(|used| (used, of_limit(&plan.limits).unwrap_or(host_cpus)));
    let own_cpus = service_cpus.zip(of_limit(&service.limits_total));
    let fullest = [app_cpus, own_cpus].into_iter().flatten();
    Room {
        memory_free: memory.into_iter().flatten().min(),
        memory_each: each.iter().sum::<u64>().checked_div(each.len() as u64),
        cpus: fullest.max_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1))),
    }
}

/// Reads some small files for each worker.
fn read(meter: &Meter, subjects: &[Subject], groups: &[(Option<ServiceId>, Group)]) -> Figures {
    let figures = meter.read(subjects);
    let runs = subjects.iter().filter_map(|subject| {
        let figures = figures.get(&subject.run)?;
        let stalled = subject.group.pressure(PressureOf::Cpu).map(|pressure| pressure.some_total);
        let memory = without_cache(figures.memory, &subject.group);
        Some((subject.run, RunFigures { cpu_us: figures.cpu_us, memory, stalled }))
    });
    let groups = groups.iter().map(|(of, group)| {
        let usage = group.usage();
        (of.clone(), Usage { memory: without_cache(usage.memory, group), ..usage })
    });
    Figures {
        at: Instant::now(),
        runs: runs.collect(),
        groups: groups.collect(),
        host_memory: fs::read_to_string("/proc/meminfo").ok().and_then(|text| host_memory(&text)),
    }
}

/// What is kept of files in memory is given back when somebody needs it: a group that reads a lot is always as full as it may be.
fn without_cache(memory: Option<u64>, group: &Group) -> Option<u64> {
    Some(memory?.saturating_sub(group.file_cache().unwrap_or(0)))
}

/// All of the host's memory and what is available of it, in bytes, of proc_meminfo(5).
fn host_memory(meminfo: &str) -> Option<(u64, u64)> {
    let value = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.saturating_mul(1024))
    };
    Some((value("MemTotal")?, value("MemAvailable")?))
}

#[cfg(test)]
mod tests {
    use watt_core::testing;

    use super::*;

    #[test]
    fn memory_of_the_host_is_read() {
        let text = "MemTotal:        2000 kB\nMemFree:   5 kB\nMemAvailable:    1000 kB\n";
        assert_eq!(host_memory(text), Some((2_048_000, 1_024_000)));
        assert_eq!(host_memory("MemTotal: much\n"), None);
    }

    fn look(at: Instant, cpu_us: u64, work: Work) -> Last {
        let figures = RunFigures { cpu_us: Some(cpu_us), memory: Some(1 << 20), stalled: None };
        Last { at, runs: [(RunId(1), figures)].into(), work: Some((at, work)) }
    }

    #[test]
    fn what_is_between_two_looks_is_told_for_all_workers() {
        let mut service = testing::service("api");
        service.limits.cgroup.cpu_millis = Some(500);
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let before = look(start, 1_000_000, Work { in_flight_us: 7, ..Work::default() });
        let work = Work { in_flight_us: 3_000_007, held_us: 500_000, answers: vec![0, 4] };
        let after = look(start + second, 1_250_000, work);
        let seen = sample(&service, &before, &after, 2);
        assert_eq!(
            (seen.cpu, seen.in_flight, seen.queue),
            (Some(1.0), Some(3.0), Some(0.5)),
            "half of a half, twice"
        );
        assert_eq!(seen.answers, Some(vec![(answer_within(1), 4)]));
        // Another proxy, and another run.
        let other = Last { runs: BTreeMap::new(), ..look(start + 2 * second, 0, Work::default()) };
        let seen = sample(&service, &after, &other, 1);
        assert_eq!((seen.cpu, seen.in_flight, seen.pressure), (None, None, None));
        assert_eq!(seen.answers, None, "not that there were none");
    }

    #[test]
    fn the_least_room_counts() {
        let mut service = testing::service("api");
        service.limits_total.memory = Some(100 << 20);
        let mut plan = testing::plan([service.clone()]);
        plan.limits.cpu_millis = Some(1000);
        let usage = |memory| Usage { memory: Some(memory), ..Usage::default() };
        let run = RunFigures { cpu_us: None, memory: Some(30 << 20), stalled: None };
        let figures = Figures {
            at: Instant::now(),
            runs: [(RunId(1), run)].into(),
            groups: [(None, usage(80 << 20)), (Some(service.id.clone()), usage(60 << 20))].into(),
            host_memory: Some((1000 << 20, 200 << 20)),
        };
        let found = room(&plan, &service, &figures, &[RunId(1)].into(), Some(0.97), None);
        assert_eq!((found.memory_free, found.memory_each), (Some(40 << 20), Some(30 << 20)));
        assert_eq!(found.cpus, Some((0.97, 1.0)));
    }
}
