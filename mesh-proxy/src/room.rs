//! How many connections there may be, and who makes room when there are as many.
//!
//! Every connection takes a descriptor, and mostly a second one at a worker. So each thread has places for connections
//! from outside and for those from services, which can not take each other's. When all are taken and one more comes, the
//! connection goes that has waited longest for a request. Clients that hold connections without asking for anything, or
//! let a head trickle in, do not keep others out: they lose theirs to whoever comes.

use std::{cell::Cell, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use crate::timer::Clock;

/// How long those who are to go are waited for before the next ones are told to.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How often it is told that there is no room.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// Whose places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pool {
    /// Clients of the gateway.
    Gateway,
    /// Services, and operators.
    Services,
}

/// How many connections there may be at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionsMax {
    /// Of one pool, on one thread.
    pub(crate) pool: usize,
    /// Of one listener for services.
    pub(crate) caller: usize,
}

impl ConnectionsMax {
    /// Shares of the descriptors this process may open: two fifths for each pool, of which half is for the connections to
    /// workers, and a fifth for listeners and all else. Each caller may have a small part of its pool, and never all of it.
    pub(crate) fn new(descriptors_max: u64, threads: usize) -> Self {
        let descriptors_max = usize::try_from(descriptors_max).unwrap_or(usize::MAX);
        let pool = (descriptors_max / 5 / threads.max(1)).clamp(32, 1 << 20);
        Self { pool, caller: (descriptors_max / 32).clamp(32, 4096).min(pool / 2) }
    }
}

/// The places of one pool on one thread.
#[derive(Debug)]
pub(crate) struct Room {
    pool: Pool,
    places: Arc<Semaphore>,
    let_go: Cell<usize>,
    told: Cell<Option<Instant>>,
}

impl Room {
    pub(crate) fn new(pool: Pool, places: usize) -> Self {
        Self { pool, places: Arc::new(Semaphore::new(places)), let_go: Cell::new(0), told: Cell::new(None) }
    }

    /// A place for a connection that has come. Lets others go while there is none.
    pub(crate) async fn enter(&self, clock: &Clock) -> OwnedSemaphorePermit {
        loop {
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                return place;
            }
            self.let_go.set(self.let_go.get() + clock.let_go(self.pool));
            self.tell();
            // The semaphore is never closed.
            if let Ok(Ok(place)) = timeout(LOOK_AGAIN_AFTER, Arc::clone(&self.places).acquire_owned()).await {
                return place;
            }
        }
    }

    fn tell(&self) {
        let now = Instant::now();
        if self.told.get().is_none_or(|told| now.duration_since(told) >= TELL_EVERY) {
            self.told.set(Some(now));
            let (pool, closed) = (self.pool, self.let_go.replace(0));
            tracing::warn!(
                ?pool,
                closed,
                "there are as many connections as may be; those that wait for a request make room"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_pools_leave_room_for_the_rest() {
        for (descriptors, threads) in [(1 << 20, 1), (1 << 20, 64), (65_536, 4), (1_024, 2), (1_024, 1)] {
            let max = ConnectionsMax::new(descriptors, threads);
            let used = 2 * 2 * max.pool * threads;
            assert!(used as u64 <= descriptors * 4 / 5, "{descriptors} for {threads} threads: {max:?}");
            assert!(max.caller < max.pool);
        }
    }
}
