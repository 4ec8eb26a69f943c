//! Which draining runs have no request left on any thread, and whether the daemon knows.

use std::collections::{BTreeMap, BTreeSet};

use watt_api::mesh::{Snapshot, WorkerState};

/// The draining runs of the present snapshot.
#[derive(Debug)]
pub(crate) struct Drains {
    threads: usize,
    runs: BTreeMap<u64, Drain>,
}

#[derive(Debug, Default)]
struct Drain {
    /// Threads that have no request there. A draining run gets no new ones, so a thread is never taken out again.
    threads: BTreeSet<usize>,
    told: bool,
}

impl Drains {
    /// None yet, for so many threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads, runs: BTreeMap::new() }
    }

    /// A daemon has come that was told nothing.
    pub(crate) fn hello(&mut self) {
        self.runs.values_mut().for_each(|drain| drain.told = false);
    }

    /// The runs that drain now. Returns those of which the daemon is to be told.
    pub(crate) fn apply(&mut self, snapshot: &Snapshot) -> Vec<u64> {
        let workers = snapshot.services.values().flat_map(|service| &service.workers);
        let draining = workers.filter(|worker| worker.state == WorkerState::Draining);
        let draining: BTreeSet<u64> = draining.map(|worker| worker.run).collect();
        self.runs.retain(|run, _| draining.contains(run));
        for run in draining {
            self.runs.entry(run).or_default();
        }
        let threads = self.threads;
        let done = self.runs.iter_mut().filter_map(|(run, drain)| drain.is_news(threads).then_some(*run));
        done.collect()
    }

    /// A thread has no request at this run. Returns whether the daemon is to be told that nobody has.
    pub(crate) fn drained(&mut self, run: u64, thread: usize) -> bool {
        let Some(drain) = self.runs.get_mut(&run) else { return false };
        drain.threads.insert(thread);
        drain.is_news(self.threads)
    }
}

impl Drain {
    fn is_news(&mut self, threads: usize) -> bool {
        self.threads.len() == threads && !std::mem::replace(&mut self.told, true)
    }
}

#[cfg(test)]
mod tests {
    use watt_api::mesh::{Service, Worker};

    use super::*;

    fn snapshot(states: &[(u64, WorkerState)]) -> Snapshot {
        let worker = |(run, state): &(u64, WorkerState)| Worker {
            run: *run,
            index: 0,
            endpoint: None,
            state: *state,
            drain_ms: None,
            cgroup: None,
            pid: None,
        };
        let service = Service { workers: states.iter().map(worker).collect(), ..Service::default() };
        Snapshot { services: [("api".to_owned(), service)].into(), ..Snapshot::default() }
    }

    #[test]
    fn a_run_is_drained_when_every_thread_says_so_and_is_told_once() {
        let mut drains = Drains::new(2);
        let draining = snapshot(&[(1, WorkerState::Draining), (2, WorkerState::Ready)]);
        assert!(drains.apply(&draining).is_empty());
        assert!(!drains.drained(1, 0));
        assert!(!drains.drained(1, 0), "the same thread again");
        assert!(drains.drained(1, 1));
        assert!(!drains.drained(1, 1));
        assert!(drains.apply(&draining).is_empty());
        assert!(!drains.drained(2, 0), "it does not drain");
    }

    #[test]
    fn the_next_daemon_is_told_again() {
        let mut drains = Drains::new(1);
        let draining = snapshot(&[(1, WorkerState::Draining)]);
        drains.apply(&draining);
        assert!(drains.drained(1, 0));
        drains.hello();
        assert_eq!(drains.apply(&draining), [1]);
        assert!(drains.apply(&draining).is_empty());
    }

    #[test]
    fn a_run_that_is_gone_is_forgotten() {
        let mut drains = Drains::new(1);
        drains.apply(&snapshot(&[(1, WorkerState::Draining)]));
        drains.apply(&snapshot(&[]));
        assert!(drains.runs.is_empty());
    }
}
