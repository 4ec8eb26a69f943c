//! Workers that fail in a row are left out for a while, which grows, and never more than half of a service's.
//!
//! ```text
//! In  ─ so many failures in a row, on whatever thread, and more than half would stay ─▶ Out
//! Out ─ its time is over ─▶ In, where one failure is enough as long as no request succeeds
//! ```
//!
//! The threads share what they know of a worker: each by itself would have to see as many failures, at another time, and nobody could hold
//! to the half. It costs a request two reads of numbers that only change when something fails: whether the worker is out, and whether it
//! failed last time. What changes them is behind a lock of the service's.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;
use watt_api::mesh::{self, Snapshot, Trouble, WorkerState};

use crate::{
    failures::{Failures, Outcome},
    table::Service,
    thread::Thread,
    troubles,
    worker::Worker,
};

/// For how long a worker is out at least: each time is told.
const OUT_MIN: Duration = Duration::from_secs(1);

/// The wards of all services.
pub(crate) type Wards = BTreeMap<String, Arc<Ward>>;

/// What the newest snapshot says of them. What is to be told of it.
pub(crate) fn renew(wards: &mut Wards, snapshot: &Snapshot) -> Vec<Trouble> {
    wards.retain(|name, _| snapshot.services.contains_key(name));
    let mut troubles = Vec::new();
    for (name, service) in &snapshot.services {
        let back = wards.entry(name.clone()).or_default().renew(service);
        troubles.extend(back.into_iter().map(|run| troubles::returned(name, run)));
    }
    troubles
}

/// The rules of a service, in one table.
#[derive(Debug)]
pub(crate) struct Ejection {
    failures: u32,
    on: Failures,
    ward: Arc<Ward>,
}

impl Ejection {
    /// Those of a service of which this is kept.
    pub(crate) fn new(rules: &mesh::Ejection, ward: &Arc<Ward>) -> Ejection {
        Ejection { failures: rules.failures.max(1), on: (&rules.on).into(), ward: Arc::clone(ward) }
    }

    /// How many workers are out now.
    pub(crate) fn out(&self) -> u64 {
        self.ward.state().out(Instant::now()) as u64
    }
}

impl Service {
    /// A worker made this of a request that it got in this era of its own.
    pub(crate) fn judge(&self, thread: &Thread, worker: &Worker, era: u32, outcome: Outcome) {
        let (Some(ejection), Some(standing)) = (&self.ejection, worker.standing.get()) else { return };
        if !ejection.on.have(outcome) {
            return standing.succeeded(era);
        }
        let row = standing.failed(era);
        if row >= ejection.failures
            && let Some(length) = ejection.ward.eject(worker.run)
        {
            self.tally.ejections.set(self.tally.ejections.get() + 1);
            thread.tell(troubles::ejected(&self.name, worker.run, row, outcome, length));
        }
    }
}

/// How a worker stands with all threads.
#[derive(Debug)]
pub(crate) struct Standing {
    start: Instant,
    /// Failures in a row.
    row: AtomicU32,
    /// Until when it is out, in milliseconds since the start; 0 is that it is in.
    out_until_ms: AtomicU64,
    /// How often it was put out. What it got before says nothing about now.
    era: AtomicU32,
}

impl Default for Standing {
    fn default() -> Self {
        Standing {
            start: Instant::now(),
            row: AtomicU32::new(0),
            out_until_ms: AtomicU64::new(0),
            era: AtomicU32::new(0),
        }
    }
}

impl Standing {
    /// Whether it gets no requests while others can have them.
    pub(crate) fn is_out(&self) -> bool {
        let until = self.out_until_ms.load(Relaxed);
        until > 0 && self.ms(Instant::now()) < until
    }

    pub(crate) fn era(&self) -> u32 {
        self.era.load(Relaxed)
    }

    fn succeeded(&self, era: u32) {
        // Only when it has failed is there anything to be written, which other threads would have to read anew.
        if self.row.load(Relaxed) > 0 && era == self.era() {
            self.row.store(0, Relaxed);
        }
    }

    /// How many failures in a row that makes; none while it is out anyway.
    fn failed(&self, era: u32) -> u32 {
        if era == self.era() && !self.is_out() { self.row.fetch_add(1, Relaxed).saturating_add(1) } else { 0 }
    }

    fn ms(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

/// A service's workers, in and out.
#[derive(Debug, Default)]
pub(crate) struct Ward(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    rules: Option<mesh::Ejection>,
    /// By run.
    members: BTreeMap<u64, Member>,
}

#[derive(Debug, Default)]
struct Member {
    standing: Arc<Standing>,
    /// Whether it would get requests if it was in.
    is_ready: bool,
    /// When it was out last, or is.
    last: Option<Out>,
}

#[derive(Debug, Clone, Copy)]
struct Out {
    until: Instant,
    length: Duration,
    /// That it is in again.
    is_told: bool,
}

impl Member {
    fn is_out(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now < last.until)
    }

    fn come_back(&mut self, now: Instant) {
        self.standing.out_until_ms.store(0, Relaxed);
        if let Some(last) = &mut self.last {
            (last.until, last.is_told) = (last.until.min(now), true);
        }
    }
}

impl State {
    fn ready(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| member.is_ready)
    }

    fn out(&self, now: Instant) -> usize {
        self.ready().filter(|member| member.is_out(now)).count()
    }

    fn has_too_many_out(&self, now: Instant) -> bool {
        let out = self.out(now);
        out * 2 > self.ready().count() || out > 0 && self.rules.is_none()
    }

    /// Of those that would get requests, the one that has been out for longest.
    fn longest_out(&mut self, now: Instant) -> Option<(u64, &mut Member)> {
        let since = |member: &Member| member.last.map(|last| last.until - last.length);
        let out = self.members.iter_mut().filter(|(_, member)| member.is_ready && member.is_out(now));
        out.min_by_key(|(_, member)| since(member)).map(|(run, member)| (*run, member))
    }
}

impl Ward {
    /// A panic while the lock was held leaves numbers that are as good as before.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a run stands. One that no snapshot has, such as a server outside, is never put out.
    pub(crate) fn standing(&self, run: u64) -> Arc<Standing> {
        self.state().members.get(&run).map(|member| Arc::clone(&member.standing)).unwrap_or_default()
    }

    /// Takes in a snapshot. Those that are in by that: since there are no rules any more, or since they would be more than half.
    fn renew(&self, service: &mesh::Service) -> Vec<u64> {
        let now = Instant::now();
        let mut state = self.state();
        let State { rules, members } = &mut *state;
        rules.clone_from(&service.traffic.ejection);
        let mut known = std::mem::take(members);
        for worker in &service.workers {
            let mut member = known.remove(&worker.run).unwrap_or_default();
            member.is_ready = worker.state == WorkerState::Ready && worker.endpoint.is_some();
            members.insert(worker.run, member);
        }
        let mut back = Vec::new();
        while state.has_too_many_out(now) {
            let Some((run, member)) = state.longest_out(now) else { break };
            member.come_back(now);
            back.push(run);
        }
        back
    }

    /// Puts a worker out, if more than half of all stay in: for how long.
    fn eject(&self, run: u64) -> Option<Duration> {
        let now = Instant::now();
        let mut state = self.state();
        let is_half = (state.out(now) + 1) * 2 > state.ready().count();
        let State { rules: Some(rules), members } = &mut *state else { return None };
        let member =
            members.get_mut(&run).filter(|member| member.is_ready && !member.is_out(now) && !is_half)?;
        let ms = |ms: u64| Duration::from_millis(ms).max(OUT_MIN);
        // As soon again as that took, it has not recovered.
        let again = member.last.filter(|last| now < last.until + last.length);
        let length = again.map_or(ms(rules.first_ms), |last| last.length * 2).min(ms(rules.max_ms));
        member.last = Some(Out { until: now + length, length, is_told: false });
        let standing = &member.standing;
        standing.era.fetch_add(1, Relaxed);
        standing.row.store(rules.failures.saturating_sub(1), Relaxed);
        standing.out_until_ms.store(standing.ms(now + length).max(1), Relaxed);
        Some(length)
    }

    /// Those whose time is over, and of whom that was not told.
    pub(crate) fn returned(&self, service: &str) -> Vec<Trouble> {
        let now = Instant::now();
        let mut state = self.state();
        let untold = |member: &Member| member.last.is_some_and(|last| !last.is_told && last.until <= now);
        let back = state.members.iter_mut().filter(|(_, member)| untold(member));
        back.map(|(run, member)| {
            member.come_back(now);
            troubles::returned(service, *run)
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use watt_api::mesh::Endpoint;

    use super::*;

    struct Bench {
        wards: Wards,
        snapshot: Snapshot,
    }

    impl Bench {
        /// A service whose workers are out for 10 s at first.
        fn of(workers: u64) -> Bench {
            let mut bench = Bench { wards: Wards::new(), snapshot: Snapshot::default() };
            bench.snapshot.services.insert("api".into(), mesh::Service::default());
            bench.change(|api| {
                api.traffic.ejection = Some(mesh::Ejection {
                    failures: 3,
                    first_ms: 10_000,
                    max_ms: 25_000,
                    ..mesh::Ejection::default()
                });
                api.workers = (0..workers).map(worker).collect();
            });
            bench
        }

        fn change(&mut self, change: impl FnOnce(&mut mesh::Service)) -> Vec<u64> {
            change(self.snapshot.services.get_mut("api").unwrap());
            renew(&mut self.wards, &self.snapshot).iter().map(|trouble| trouble.run.unwrap()).collect()
        }

        fn ward(&self) -> &Ward {
            &self.wards["api"]
        }

        fn eject(&self, run: u64) -> Option<u64> {
            self.ward().eject(run).map(|length| length.as_secs())
        }

        fn out(&self, runs: std::ops::Range<u64>) -> Vec<u64> {
            runs.filter(|run| self.ward().standing(*run).is_out()).collect()
        }
    }

    fn worker(run: u64) -> mesh::Worker {
        mesh::Worker {
            run,
            index: run as u16,
            endpoint: Some(Endpoint::Unix { path: "/x".into() }),
            state: WorkerState::Ready,
            drain_ms: None,
            cgroup: None,
            pid: None,
        }
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn never_more_than_half_are_out() {
        for (workers, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
            let bench = Bench::of(workers);
            let ejected = (0..workers).filter(|run| bench.eject(*run).is_some()).count();
            assert_eq!((ejected, bench.out(0..workers).len()), (most, most), "of {workers}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn when_others_go_some_that_are_out_are_in_again() {
        let mut bench = Bench::of(6);
        for run in [3, 1, 2] {
            assert!(bench.eject(run).is_some());
            pass(1).await;
        }
        // Of five, two may be out: the one that has been out for longest is in again.
        assert_eq!(bench.change(|api| drop(api.workers.pop())), [3]);
        assert_eq!(bench.out(0..6), [1, 2]);
        // One that is not ready is no help, and one that is out and not ready counts for nothing.
        assert_eq!(bench.change(|api| api.workers[0].state = WorkerState::Starting), [0; 0]);
        assert_eq!(bench.change(|api| api.workers[4].state = WorkerState::Starting), [1]);
        assert_eq!(bench.out(0..6), [2]);
        assert_eq!(bench.change(|api| api.traffic.ejection = None), [2]);
        assert_eq!((bench.out(0..6), bench.eject(0)), (vec![], None));
    }

    #[tokio::test(start_paused = true)]
    async fn its_time_grows_while_it_does_not_recover() {
        let bench = Bench::of(2);
        let standing = bench.ward().standing(0);
        for length in [10, 20, 25, 25] {
            assert_eq!(bench.eject(0), Some(length));
            assert_eq!(bench.eject(0), None, "it is out already");
            pass(length - 1).await;
            assert!(standing.is_out() && bench.ward().returned("api").is_empty());
            pass(1).await;
            assert!(!standing.is_out());
            let told = bench.ward().returned("api");
            assert_eq!((told.len(), told[0].run, &told[0].kind[..]), (1, Some(0), "worker_returned"));
            assert!(bench.ward().returned("api").is_empty(), "told once");
        }
        pass(25).await;
        assert_eq!(bench.eject(0), Some(10), "it was well for as long as it was out");
    }

    #[tokio::test(start_paused = true)]
    async fn what_it_got_before_says_nothing_about_now() {
        let bench = Bench::of(2);
        let standing = bench.ward().standing(0);
        let era = standing.era();
        assert_eq!([1, 2].map(|_| standing.failed(era)), [1, 2]);
        standing.succeeded(era);
        assert_eq!([1, 2, 3].map(|_| standing.failed(era)), [1, 2, 3]);
        bench.eject(0);
        assert_eq!((standing.failed(era), standing.failed(standing.era())), (0, 0), "it is out");
        pass(10).await;
        assert_eq!(standing.failed(era), 0, "of before");
        standing.succeeded(era);
        assert_eq!(standing.failed(standing.era()), 3, "the first one after that is enough");
        standing.succeeded(standing.era());
        assert_eq!(standing.failed(standing.era()), 1);
    }
}
