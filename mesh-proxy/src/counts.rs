//! The sum of what the threads count.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
};

use watt_api::mesh::{Counts, EdgeCounts, EdgeOf, Handshakes, Work};

/// Counts by service.
pub(crate) type ByService = BTreeMap<String, Counts>;

/// What was measured, by service.
pub(crate) type WorkByService = BTreeMap<String, Work>;

/// The last counts of each thread, and what the daemon knows.
#[derive(Debug)]
pub(crate) struct Totals {
    threads: Vec<ByService>,
    handshakes: Vec<Handshakes>,
    told: Option<(ByService, Handshakes)>,
    work: Vec<WorkByService>,
    edges: BTreeMap<EdgeOf, EdgeCounts>,
    /// Edges that the daemon has not been told of as they are.
    edges_changed: BTreeSet<EdgeOf>,
}

impl Totals {
    /// Nothing counted yet, for so many threads.
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads: vec![ByService::new(); threads],
            handshakes: vec![Handshakes::default(); threads],
            told: None,
            work: vec![WorkByService::new(); threads],
            edges: BTreeMap::new(),
            edges_changed: BTreeSet::new(),
        }
    }

    /// A daemon has come that was told nothing.
    pub(crate) fn hello(&mut self) {
        self.told = None;
        self.edges_changed.extend(self.edges.keys().cloned());
    }

    /// Services and routes that are left; the others are counted no longer.
    pub(crate) fn keep_edges(&mut self, is_left: impl Fn(&EdgeOf) -> bool) {
        self.edges.retain(|edge, _| is_left(edge));
        self.edges_changed.retain(is_left);
    }

    /// A thread counted these since it told of them last.
    pub(crate) fn counted_edges(&mut self, edges: Vec<(EdgeOf, EdgeCounts)>) {
        for (edge, counts) in edges {
            self.edges.entry(edge.clone()).or_default().add(&counts);
            self.edges_changed.insert(edge);
        }
    }

    /// The sums of at most so many of those that changed since the daemon was told of them.
    pub(crate) fn edges(&mut self, max: usize) -> Vec<(EdgeOf, EdgeCounts)> {
        let next = || self.edges_changed.pop_first();
        let changed: Vec<EdgeOf> = iter::from_fn(next).take(max).collect();
        changed
            .into_iter()
            .filter_map(|edge| self.edges.get_key_value(&edge))
            .map(|(edge, sum)| (edge.clone(), *sum))
            .collect()
    }

    /// What this thread counted since it started.
    pub(crate) fn update(&mut self, thread: usize, counts: ByService) {
        if let Some(known) = self.threads.get_mut(thread) {
            *known = counts;
        }
    }

    /// How TLS began on this thread since it started.
    pub(crate) fn shaken(&mut self, thread: usize, handshakes: Handshakes) {
        if let Some(known) = self.handshakes.get_mut(thread) {
            *known = handshakes;
        }
    }

    /// What this thread measured since it started.
    pub(crate) fn measured(&mut self, thread: usize, work: WorkByService) {
        if let Some(known) = self.work.get_mut(thread) {
            *known = work;
        }
    }

    /// The sum of what was measured, where anything is. Without a change it is news as well: that nothing was asked for.
    pub(crate) fn work(&self) -> Option<WorkByService> {
        let mut sum = WorkByService::new();
        for (service, work) in self.work.iter().flatten() {
            sum.entry(service.clone()).or_default().add(work);
        }
        Some(sum).filter(|sum| !sum.is_empty())
    }

    /// The sum, when it is not what the daemon was told last, or it is to be told anyway.
    pub(crate) fn news(&mut self, anyway: bool) -> Option<(ByService, Handshakes)> {
        let mut sum = ByService::new();
        for (service, counts) in self.threads.iter().flatten() {
            sum.entry(service.clone()).or_default().add(counts);
        }
        let mut handshakes = Handshakes::default();
        self.handshakes.iter().for_each(|one| handshakes.add(one));
        let news = (sum, handshakes);
        if self.told.as_ref() == Some(&news) && !anyway {
            return None;
        }
        self.told = Some(news.clone());
        Some(news)
    }
}

#[cfg(test)]
mod tests {
    use watt_api::mesh::{CacheCounts, Denied};

    use super::*;

    fn counted(requests: u64) -> ByService {
        let counts = Counts {
            requests,
            failures: 1,
            in_flight: 2,
            held: 3,
            retries: 4,
            retries_denied: 5,
            timed_out: 6,
            denied: Denied {
                address: 7,
                cors: 8,
                body: 9,
                rate: 10,
                credentials: 11,
                role: 12,
                rule: 21,
                authority: 33,
            },
            refused_breaker: 7,
            refused_full: 8,
            refused_late: 9,
            refused_shed: 10,
            breaker_opened: 11,
            breaker_is_open: requests == 7,
            ejections: 13,
            ejected: requests,
            cache: CacheCounts { hits: 12, stale: 13, validated: 14, misses: 15, stored: 16, collapsed: 17 },
        };
        [("api".to_owned(), counts)].into()
    }

    #[test]
    fn threads_are_added_up_and_news_told_once() {
        let mut totals = Totals::new(2);
        totals.update(0, counted(5));
        totals.update(1, counted(7));
        let sum = Counts {
            requests: 12,
            failures: 2,
            in_flight: 4,
            held: 6,
            retries: 8,
            retries_denied: 10,
            timed_out: 12,
            denied: Denied {
                address: 14,
                cors: 16,
                body: 18,
                rate: 20,
                credentials: 22,
                role: 24,
                rule: 42,
                authority: 66,
            },
            refused_breaker: 14,
            refused_full: 16,
            refused_late: 18,
            refused_shed: 20,
            breaker_opened: 22,
            breaker_is_open: true,
            ejections: 26,
            ejected: 7,
            cache: CacheCounts { hits: 24, stale: 26, validated: 28, misses: 30, stored: 32, collapsed: 34 },
        };
        assert_eq!(totals.news(false), Some(([("api".to_owned(), sum)].into(), Handshakes::default())));
        assert_eq!(totals.news(false), None);
        totals.update(1, counted(8));
        assert_eq!(totals.news(false).unwrap().0["api"].requests, 13);
        assert!(totals.news(true).is_some(), "with something else to tell");
        for thread in [0, 1] {
            totals.shaken(thread, Handshakes { completed: 2, failed: [("timeout".to_owned(), 1)].into() });
        }
        let handshakes = Handshakes { completed: 4, failed: [("timeout".to_owned(), 2)].into() };
        assert_eq!(totals.news(false).unwrap().1, handshakes);
        totals.hello();
        assert!(totals.news(false).is_some());
    }
}
