//! What is counted for one destination outside, by all threads at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use watt_api::mesh::OutgoingCounts;

use crate::tunnel::Traffic;

/// What is counted for one destination.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    connections: AtomicU64,
    open: AtomicU64,
    failed: AtomicU64,
    refused: AtomicU64,
    connect_us_total: AtomicU64,
    connect_us_max: AtomicU64,
    last_ms: AtomicU64,
    traffic: Traffic,
}

/// A connection that is open, counted as long as this lives.
pub(crate) struct Open(Arc<Tally>);

impl Tally {
    /// A connection was made, in this time.
    pub(crate) fn connected(self: &Arc<Self>, took: Duration) -> Open {
        self.tried();
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.connections.fetch_add(1, Relaxed);
        self.open.fetch_add(1, Relaxed);
        self.connect_us_total.fetch_add(took, Relaxed);
        self.connect_us_max.fetch_max(took, Relaxed);
        Open(Arc::clone(self))
    }

    /// It could not be reached.
    pub(crate) fn failed(&self) {
        self.tried();
        self.failed.fetch_add(1, Relaxed);
    }

    /// It was not allowed.
    pub(crate) fn refused(&self) {
        self.tried();
        self.refused.fetch_add(1, Relaxed);
    }

    fn tried(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        self.last_ms.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Relaxed);
    }

    /// What is counted so far.
    pub(super) fn read(&self) -> OutgoingCounts {
        let get = |count: &AtomicU64| count.load(Relaxed);
        OutgoingCounts {
            connections: get(&self.connections),
            open: get(&self.open),
            failed: get(&self.failed),
            refused: get(&self.refused),
            sent: get(&self.traffic.there),
            received: get(&self.traffic.back),
            connect_us_total: get(&self.connect_us_total),
            connect_us_max: get(&self.connect_us_max),
            last_ms: get(&self.last_ms),
        }
    }

    /// Takes over what another one counted, of which no connection is open.
    pub(super) fn add(&self, other: &Self) {
        let add = |own: &AtomicU64, other: &AtomicU64| own.fetch_add(other.load(Relaxed), Relaxed);
        add(&self.connections, &other.connections);
        add(&self.failed, &other.failed);
        add(&self.refused, &other.refused);
        add(&self.connect_us_total, &other.connect_us_total);
        add(&self.traffic.there, &other.traffic.there);
        add(&self.traffic.back, &other.traffic.back);
        self.connect_us_max.fetch_max(other.connect_us_max.load(Relaxed), Relaxed);
        self.last_ms.fetch_max(other.last_ms.load(Relaxed), Relaxed);
    }
}

impl Open {
    /// Where its bytes are counted.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.0.traffic
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}
