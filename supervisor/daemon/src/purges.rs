//! Purges of the cache: asked of the proxy, and answered when it says that they are done.

use std::collections::BTreeMap;

use watt_api::{
    control::{Cache, CachePurged},
    mesh::{CacheCounts, CachePurge},
};

use crate::{app::App, control::Reply, operate::answer};

/// The most that wait for an answer. Those whose clients have gone wait no longer.
const WAITING_MAX: usize = 256;

/// Those that the proxy has not answered.
#[derive(Debug, Default)]
pub(crate) struct Purges {
    /// The number of the last one.
    last: u64,
    waiting: BTreeMap<u64, Reply<CachePurged>>,
}

impl App {
    /// Has what is stored removed. A proxy that is replaced meanwhile has nothing, and answers as well.
    pub(crate) fn purge_cache(&mut self, purge: CachePurge, reply: Reply<CachePurged>) {
        let Purges { last, waiting } = &mut self.purges;
        waiting.retain(|_, reply| !reply.is_closed());
        if waiting.len() >= WAITING_MAX {
            // Its client hears that it was not done.
            waiting.pop_first();
        }
        *last += 1;
        waiting.insert(*last, reply);
        self.proxy_link.purge_cache(*last, purge);
    }

    /// The proxy has done it.
    pub(crate) fn cache_purged(&mut self, number: u64, removed: u64) {
        if let Some(reply) = self.purges.waiting.remove(&number) {
            answer(reply, Ok(CachePurged { removed }));
        }
    }

    /// What is stored.
    pub(crate) fn cache(&self, reply: Reply<Box<Cache>>) {
        let counts = self.counts.iter().map(|(service, counts)| (service.clone(), counts.cache));
        let services = counts.filter(|(_, cache)| *cache != CacheCounts::default()).collect();
        answer(reply, Ok(Box::new(Cache { store: self.proxy_link.cache(), services })));
    }
}
