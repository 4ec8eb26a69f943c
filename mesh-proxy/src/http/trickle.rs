//! Request bodies that come too slowly.
//!
//! A byte now and then is enough for any timeout between two bytes, and a client that sends no more than that would keep a
//! worker's connection for as long as it likes. So a body has to come with some rate on average, once a first while is
//! over. What counts is the time in which the client is waited for: a worker that reads slowly costs it nothing.

use std::num::NonZeroU64;

use crate::timer::Ticks;

/// How long a body may take whatever its rate is.
const GRACE: Ticks = Ticks::from_ms(60_000);

/// How long the client was waited for, and what came of it.
#[derive(Debug)]
pub(super) struct Trickle {
    /// Bytes a second; `None` is any rate.
    rate_min: Option<NonZeroU64>,
    received: u64,
    waited: Ticks,
    waits_since: Option<Ticks>,
}

impl Trickle {
    pub(super) fn new(rate_min: Option<NonZeroU64>) -> Trickle {
        Trickle { rate_min, received: 0, waited: Ticks::NONE, waits_since: None }
    }

    /// So many bytes have come, and now the client is waited for, or it is not.
    pub(super) fn look(&mut self, now: Ticks, received: u64, waits: bool) {
        self.received += received;
        if let Some(since) = self.waits_since {
            self.waited = self.waited.plus(now.since(since));
        }
        self.waits_since = waits.then_some(now);
    }

    /// How much longer the client is waited for if nothing more comes.
    pub(super) fn left(&self) -> Ticks {
        match (self.rate_min, self.waits_since) {
            (Some(rate), Some(_)) => {
                let earned = Ticks::from_ms((self.received.saturating_mul(1000) / rate).max(1));
                GRACE.plus(earned).since(self.waited)
            }
            _ => Ticks::NEVER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Ticks {
        Ticks::from_ms(seconds * 1000)
    }

    #[test]
    fn bytes_earn_time_and_waiting_takes_it() {
        let mut trickle = Trickle::new(NonZeroU64::new(100));
        assert_eq!(trickle.left(), Ticks::NEVER, "nobody waits yet");
        trickle.look(at(10), 0, true);
        assert!(trickle.left() >= at(60));
        trickle.look(at(40), 1000, true);
        assert_eq!(trickle.left(), at(60 + 10 - 30));
        trickle.look(at(80), 0, true);
        assert_eq!(trickle.left().since(at(1)), Ticks::NONE, "no more than the ten seconds that came late");
    }

    #[test]
    fn a_worker_that_reads_slowly_costs_the_client_nothing() {
        let mut trickle = Trickle::new(NonZeroU64::new(100));
        trickle.look(at(10), 0, true);
        trickle.look(at(20), 100, false);
        trickle.look(at(500), 0, true);
        assert_eq!(trickle.left(), at(60 + 1 - 10));
    }

    #[test]
    fn without_a_rate_there_is_no_end() {
        let mut trickle = Trickle::new(None);
        trickle.look(at(0), 0, true);
        trickle.look(at(100_000), 1, true);
        assert_eq!(trickle.left(), Ticks::NEVER);
    }
}
