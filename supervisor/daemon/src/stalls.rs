//! Workers that stall: the kernel tells when that begins, then one looks every window how much it is, until it is over.
//! People hear of it, and `watt-core` when it has lasted for as long as the plan lets it.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::io::{Interest, unix::AsyncFd};
use watt_core::{
    RunId,
    fleet::FleetEvent,
    plan::{PRESSURE_WINDOW, Resource},
    worker::Stall,
};
use watt_os::cgroup::{Group, Pressure, PressureOf, PressureTrigger};

use crate::{app::App, events::limits, limit_hits::LimitNews, runs::Task};

/// When the same is told again of a run: it may go on for as long as it runs, or come and go all the time.
const TOLD_EVERY: Duration = Duration::from_secs(300);

/// What a run stalls for, and when that was told.
#[derive(Debug, Default)]
pub(crate) struct Stalls {
    current: BTreeMap<Resource, Stalling>,
    told: BTreeMap<Resource, Instant>,
}

/// A run that stalls for want of something.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stalling {
    /// Since when.
    pub(crate) since: Instant,
    /// The last look.
    pub(crate) last: Window,
    /// For how long some process of it has stalled in all.
    stalled: Duration,
    /// Whether its beginning was told, so that its end is worth a word as well.
    is_told: bool,
}

/// What follows from a look at a run that stalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Noted {
    /// For how long it has lasted.
    lasted: Duration,
    /// Whether that is to be told.
    is_news: bool,
    /// Whether it has lasted for as long as the plan lets it.
    is_enough: bool,
}

/// A stall that was told and is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Over {
    stalled: Duration,
    lasted: Duration,
}

impl Stalls {
    /// Each resource that the run stalls for now.
    pub(crate) fn current(&self) -> impl Iterator<Item = (Resource, &Stalling)> {
        self.current.iter().map(|(resource, stalling)| (*resource, stalling))
    }

    /// It is watched anew, as when it is another daemon's or its limits have changed. What was told stays told.
    fn watch_anew(&mut self) {
        self.current.clear();
    }

    fn note(
        &mut self,
        now: Instant,
        resource: Resource,
        window: Window,
        patience: Option<Duration>,
    ) -> Noted {
        let new = Stalling { since: now, last: window, stalled: Duration::ZERO, is_told: false };
        let stalling = self.current.entry(resource).or_insert(new);
        stalling.last = window;
        stalling.stalled += window.stalled;
        let lasted = now.saturating_duration_since(stalling.since);
        let told = self.told.get(&resource);
        let is_news = told.is_none_or(|told| now.saturating_duration_since(*told) >= TOLD_EVERY);
        if is_news {
            self.told.insert(resource, now);
            stalling.is_told = true;
        }
        Noted { lasted, is_news, is_enough: patience.is_some_and(|patience| lasted >= patience) }
    }

    /// Forgets a stall. Its end is worth a word when its beginning was.
    fn end(&mut self, now: Instant, resource: Resource) -> Option<Over> {
        let Stalling { since, stalled, is_told, .. } = self.current.remove(&resource)?;
        is_told.then(|| Over { stalled, lasted: now.saturating_duration_since(since) })
    }
}

/// What was seen over a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// For how long some process stalled.
    pub stalled: Duration,
    /// Within this time.
    pub within: Duration,
    /// Whether it may have been more: the kernel says that it was as much as it was asked for.
    pub at_least: bool,
    /// What the kernel says of the last ten seconds.
    pub pressure: Pressure,
}

impl Window {
    /// What the kernel has told.
    fn told(stalled: Duration, pressure: Pressure) -> Window {
        Window { stalled, within: PRESSURE_WINDOW, at_least: true, pressure }
    }

    fn between(before: &Pressure, now: Pressure, within: Duration) -> Window {
        let stalled = now.some_total.saturating_sub(before.some_total);
        Window { stalled, within, at_least: false, pressure: now }
    }

    /// Whether it is as much as this of a [`PRESSURE_WINDOW`].
    fn reaches(&self, told: Duration) -> bool {
        self.stalled.as_micros() * PRESSURE_WINDOW.as_micros() >= told.as_micros() * self.within.as_micros()
    }

    /// The part of the time in percent.
    pub fn percent(&self) -> u8 {
        let percent = self.stalled.as_micros() * 100 / self.within.as_micros().max(1);
        u8::try_from(percent.min(100)).unwrap_or(100)
    }
}

impl App {
    /// Has the kernel tell when a run stalls.
    pub(crate) fn watch_stalls(&mut self, id: RunId) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        run.stalls.watch_anew();
        let Some(service) = self.plan.services.get(&run.worker.service) else { return };
        for (resource, told) in service.pressure.told(&service.limits.cgroup) {
            let (group, sender) = (run.group.clone(), self.senders.limit_hits.clone());
            run.limit_watches.push(Task(tokio::spawn(watch(group, resource, told, async move |seen| {
                sender.send(LimitNews::Stalls(id, resource, seen)).await.is_ok()
            }))));
        }
    }

    /// A run stalls, or does so no more.
    pub(crate) fn stalls(&mut self, id: RunId, resource: Resource, seen: Option<Window>) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let (worker, now) = (run.worker.clone(), Instant::now());
        let Some(window) = seen else {
            if let Some(Over { stalled, lasted }) = run.stalls.end(now, resource) {
                self.events.emit(limits::PressureOver { worker, run: id, resource, stalled, lasted });
            }
            return;
        };
        let service = self.plan.services.get(&worker.service);
        let patience = service.and_then(|service| service.pressure.recycle.get(&resource)).copied();
        let Noted { lasted, is_news, is_enough } = run.stalls.note(now, resource, window, patience);
        if is_news {
            let worker = worker.clone();
            self.events.emit(limits::UnderPressure { worker, run: id, resource, window, lasted });
        }
        if is_enough {
            let stall = Stall { resource, percent: window.percent() };
            self.tell(FleetEvent::Stalled(worker, id, stall));
        }
    }
}

/// Says what is seen of a group that stalls as much as this, window by window, and `None` when it is over. Ends when nobody
/// listens any more, or when the kernel does not tell.
async fn watch(
    group: Group,
    resource: Resource,
    told: Duration,
    mut say: impl AsyncFnMut(Option<Window>) -> bool,
) {
    let of = kernels(resource);
    // A trigger remembers what it saw while nobody asked, so that there is a new one for each wait.
    while let Ok(trigger) = group.pressure_trigger(of, told, PRESSURE_WINDOW) {
        fired(trigger).await;
        // Of a group that has gone there is none: that wakes us as well.
        let Some(mut before) = group.pressure(of) else { return };
        let mut at = Instant::now();
        if !say(Some(Window::told(told, before))).await {
            return;
        }
        loop {
            tokio::time::sleep(PRESSURE_WINDOW).await;
            let Some(now) = group.pressure(of) else { return };
            let window = Window::between(&before, now, at.elapsed());
            (before, at) = (now, Instant::now());
            let goes_on = window.reaches(told);
            if !say(goes_on.then_some(window)).await {
                return;
            }
            if !goes_on {
                break;
            }
        }
    }
}

fn kernels(resource: Resource) -> PressureOf {
    match resource {
        Resource::Memory => PressureOf::Memory,
        Resource::Cpu => PressureOf::Cpu,
        Resource::Io => PressureOf::Io,
    }
}

/// Waits for the kernel's word.
async fn fired(trigger: PressureTrigger) {
    #[expect(
        deprecated,
        reason = "its successor is unsafe; the trigger owns its descriptor until it is dropped"
    )]
    let Ok(trigger) = AsyncFd::with_interest(trigger, Interest::PRIORITY) else {
        return std::future::pending().await;
    };
    if trigger.ready(Interest::PRIORITY).await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(ms: u64) -> Pressure {
        Pressure { some_total: Duration::from_millis(ms), ..Pressure::default() }
    }

    #[test]
    fn a_look_that_came_late_is_measured_by_the_time_that_passed() {
        let check = |stalled: u64, within, percent, reaches| {
            let window = Window::between(&total(5000), total(5000 + stalled), Duration::from_millis(within));
            assert_eq!(window.percent(), percent);
            assert_eq!(window.reaches(Duration::from_millis(200)), reaches, "{stalled} of {within}");
        };
        check(200, 2000, 10, true);
        check(199, 2000, 9, false);
        check(399, 4000, 9, false);
        check(400, 4000, 10, true);
        check(9000, 2000, 100, true);
        check(0, 0, 0, true);
        // A group that was made anew begins at 0.
        assert_eq!(Window::between(&total(5000), total(10), PRESSURE_WINDOW).percent(), 0);
    }

    #[test]
    fn each_resource_is_looked_for_where_the_kernel_counts_it() {
        for resource in Resource::ALL {
            assert_eq!(format!("{:?}", kernels(resource)).to_lowercase(), resource.name());
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// A run that stalls for half of each window, looked at so many seconds after the start.
    struct Bench {
        stalls: Stalls,
        start: Instant,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { stalls: Stalls::default(), start: Instant::now() }
        }

        fn note(&mut self, at: u32, resource: Resource, patience: Option<Duration>) -> Noted {
            let window = Window { stalled: SECOND, at_least: false, ..Window::told(SECOND, total(0)) };
            self.stalls.note(self.start + SECOND * at, resource, window, patience)
        }

        fn end(&mut self, at: u32, resource: Resource) -> Option<Over> {
            self.stalls.end(self.start + SECOND * at, resource)
        }
    }

    #[test]
    fn a_stall_is_told_when_it_begins_and_every_five_minutes_while_it_lasts() {
        let mut bench = Bench::new();
        let told: Vec<u32> =
            (0..700).step_by(2).filter(|at| bench.note(*at, Resource::Cpu, None).is_news).collect();
        assert_eq!(told, [0, 300, 600]);
        assert!(bench.note(2, Resource::Memory, None).is_news, "another resource has a word of its own");
        let over = Over { stalled: SECOND * 350, lasted: SECOND * 700 };
        assert_eq!(bench.end(700, Resource::Cpu), Some(over));
        assert_eq!(bench.end(702, Resource::Cpu), None, "once");
    }

    #[test]
    fn one_that_comes_back_at_once_is_told_neither_at_its_beginning_nor_at_its_end() {
        let mut bench = Bench::new();
        assert!(bench.note(0, Resource::Io, None).is_news);
        assert_eq!(bench.end(2, Resource::Io), Some(Over { stalled: SECOND, lasted: SECOND * 2 }));
        assert_eq!(
            bench.note(4, Resource::Io, None),
            Noted { lasted: Duration::ZERO, is_news: false, is_enough: false }
        );
        assert_eq!(bench.end(6, Resource::Io), None);
        // Nor is it when it is watched anew, which forgets what there was of it.
        bench.note(8, Resource::Io, None);
        bench.stalls.watch_anew();
        assert_eq!(bench.stalls.current().count(), 0);
        assert_eq!(bench.note(12, Resource::Io, None).lasted, Duration::ZERO);
        assert!(bench.note(300, Resource::Io, None).is_news, "five minutes after it was told");
    }

    #[test]
    fn it_is_enough_when_it_has_lasted_without_a_break_for_as_long_as_the_plan_lets_it() {
        let mut bench = Bench::new();
        let is_enough = |noted: Noted| noted.is_enough;
        let patience = Some(SECOND * 30);
        assert!((0..30).step_by(2).all(|at| !is_enough(bench.note(at, Resource::Memory, patience))));
        assert!(is_enough(bench.note(30, Resource::Memory, patience)));
        assert!(is_enough(bench.note(32, Resource::Memory, patience)), "until somebody does something");
        bench.end(34, Resource::Memory);
        assert!(!is_enough(bench.note(36, Resource::Memory, patience)), "it begins anew");
        assert!(
            !is_enough(bench.note(100, Resource::Cpu, None))
                && !is_enough(bench.note(500, Resource::Cpu, None))
        );
    }

    #[test]
    fn what_is_shown_is_the_last_look() {
        let mut bench = Bench::new();
        bench.note(0, Resource::Cpu, None);
        let last = Window { stalled: SECOND / 2, at_least: false, ..Window::told(SECOND, total(0)) };
        bench.stalls.note(bench.start + SECOND * 2, Resource::Cpu, last, None);
        let shown = bench
            .stalls
            .current()
            .map(|(resource, stalling)| (resource, stalling.last.percent(), stalling.since));
        assert_eq!(shown.collect::<Vec<_>>(), [(Resource::Cpu, 25, bench.start)]);
    }
}
