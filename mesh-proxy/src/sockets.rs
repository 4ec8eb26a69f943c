//! Sockets that were made in workers' networks: which thread wants some, and who gets those that come.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    os::fd::OwnedFd,
    time::Duration,
};

use tokio::time::Instant;
use watt_api::mesh::Snapshot;

/// After this time without an answer the daemon is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What is wanted.
#[derive(Debug)]
pub(crate) struct Sockets {
    threads: Range<usize>,
    wanted: BTreeMap<u64, Wanted>,
}

#[derive(Debug, Default)]
struct Wanted {
    by: BTreeSet<usize>,
    asked: Option<Instant>,
}

impl Sockets {
    /// Nothing yet, for so many threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self { threads: 0..threads, wanted: BTreeMap::new() }
    }

    /// A daemon has come that was asked nothing.
    pub(crate) fn hello(&mut self) {
        self.wanted.values_mut().for_each(|wanted| wanted.asked = None);
    }

    /// Forgets the wants of runs that are gone.
    pub(crate) fn apply(&mut self, snapshot: &Snapshot) {
        let workers = snapshot.services.values().flat_map(|service| &service.workers);
        let runs: BTreeSet<u64> = workers.map(|worker| worker.run).collect();
        self.wanted.retain(|run, _| runs.contains(run));
    }

    /// A thread wants some.
    pub(crate) fn want(&mut self, run: u64, thread: usize) {
        self.wanted.entry(run).or_default().by.insert(thread);
    }

    /// The runs for which the daemon is to be asked now.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<u64> {
        let is_due =
            |wanted: &Wanted| wanted.asked.is_none_or(|asked| now.duration_since(asked) >= ASK_AGAIN_AFTER);
        let due = self.wanted.iter_mut().filter(|(_, wanted)| is_due(wanted));
        let ask = |(run, wanted): (&u64, &mut Wanted)| {
            wanted.asked = Some(now);
            *run
        };
        due.map(ask).collect()
    }

    /// Deals sockets out: to the threads that want some, else to all. A thread that got none goes on wanting.
    pub(crate) fn deal(&mut self, run: u64, sockets: Vec<OwnedFd>) -> BTreeMap<usize, Vec<OwnedFd>> {
        let wanting = self.wanted.get(&run).map(|wanted| wanted.by.iter().copied().collect::<Vec<_>>());
        let threads = wanting.unwrap_or_else(|| self.threads.clone().collect());
        let mut dealt: BTreeMap<usize, Vec<OwnedFd>> = BTreeMap::new();
        for (thread, socket) in threads.iter().cycle().zip(sockets) {
            dealt.entry(*thread).or_default().push(socket);
        }
        if let Some(wanted) = self.wanted.get_mut(&run) {
            wanted.by.retain(|thread| !dealt.contains_key(thread));
            if wanted.by.is_empty() {
                self.wanted.remove(&run);
            } else if !dealt.is_empty() {
                // The daemon answered; it may have more.
                wanted.asked = None;
            }
        }
        dealt
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn sockets(count: usize) -> Vec<OwnedFd> {
        (0..count).map(|_| File::open("/dev/null").unwrap().into()).collect()
    }

    fn sizes(dealt: &BTreeMap<usize, Vec<OwnedFd>>) -> Vec<(usize, usize)> {
        dealt.iter().map(|(thread, sockets)| (*thread, sockets.len())).collect()
    }

    #[test]
    fn those_who_asked_get_them() {
        let mut stock = Sockets::new(3);
        assert_eq!(sizes(&stock.deal(1, sockets(7))), [(0, 3), (1, 2), (2, 2)]);
        stock.want(1, 2);
        assert_eq!(sizes(&stock.deal(1, sockets(4))), [(2, 4)]);
        assert_eq!(sizes(&stock.deal(1, sockets(1))), [(0, 1)]);
    }

    #[test]
    fn who_got_none_is_asked_for_again() {
        let mut stock = Sockets::new(3);
        (0..3).for_each(|thread| stock.want(1, thread));
        assert_eq!(stock.due(Instant::now()), [1]);
        assert!(stock.deal(1, vec![]).is_empty());
        assert!(stock.due(Instant::now()).is_empty(), "the daemon has none just now");
        assert_eq!(sizes(&stock.deal(1, sockets(1))), [(0, 1)]);
        assert_eq!(stock.due(Instant::now()), [1]);
        assert_eq!(sizes(&stock.deal(1, sockets(2))), [(1, 1), (2, 1)]);
        assert!(stock.due(Instant::now()).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_daemon_is_asked_once_and_later_again() {
        let mut stock = Sockets::new(2);
        stock.want(1, 0);
        stock.want(1, 1);
        assert_eq!(stock.due(Instant::now()), [1]);
        assert!(stock.due(Instant::now()).is_empty());
        tokio::time::advance(ASK_AGAIN_AFTER).await;
        assert_eq!(stock.due(Instant::now()), [1]);
        stock.hello();
        assert_eq!(stock.due(Instant::now()), [1]);
        stock.apply(&Snapshot::default());
        tokio::time::advance(ASK_AGAIN_AFTER).await;
        assert!(stock.due(Instant::now()).is_empty(), "the run is gone");
    }
}
