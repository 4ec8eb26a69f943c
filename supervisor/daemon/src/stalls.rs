//! Workers that stall: the kernel tells when that begins, then one looks every window how much it is, until it is over.
//! People hear of it, and `watt-core` when it has lasted for as long as the plan lets it.

use std::time::{Duration, Instant};

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
        run.stalls.clear();
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
            if let Some(Stalling { since, stalled, is_told: true, .. }) = run.stalls.remove(&resource) {
                let lasted = now.saturating_duration_since(since);
                self.events.emit(limits::PressureOver { worker, run: id, resource, stalled, lasted });
            }
            return;
        };
        let new = Stalling { since: now, last: window, stalled: Duration::ZERO, is_told: false };
        let stalling = run.stalls.entry(resource).or_insert(new);
        stalling.last = window;
        stalling.stalled += window.stalled;
        let lasted = now.saturating_duration_since(stalling.since);
        let told = run.stalls_told.get(&resource);
        if told.is_none_or(|told| now.saturating_duration_since(*told) >= TOLD_EVERY) {
            run.stalls_told.insert(resource, now);
            stalling.is_told = true;
            let worker = worker.clone();
            self.events.emit(limits::UnderPressure { worker, run: id, resource, window, lasted });
        }
        let service = self.plan.services.get(&worker.service);
        let patience = service.and_then(|service| service.pressure.recycle.get(&resource));
        if patience.is_some_and(|patience| lasted >= *patience) {
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
    let of = match resource {
        Resource::Memory => PressureOf::Memory,
        Resource::Cpu => PressureOf::Cpu,
        Resource::Io => PressureOf::Io,
    };
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
}
