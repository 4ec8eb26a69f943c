//! When work that is done for all workers together is due: a new snapshot for the proxy, answers to operators.
//!
//! What it takes grows with the number of services, and so does the number of things that ask for it: done after each of
//! them, it would take all of the time when a thousand services start. So it rests after it was done. A few times in a row
//! it may be done without that, because one worker's end and return come alone most of the time.

use std::time::{Duration, Instant};

/// The longest time that such work waits for a quiet moment.
const SETTLE_AFTER_MAX: Duration = Duration::from_millis(10);

/// How long it rests, as a multiple of what it took: with thousands of services it gets a thirtieth of the time and not
/// all of it.
const REST_FACTOR: u32 = 30;

/// The longest rest. What it took is time on the clock, and we may have been stopped meanwhile.
const REST_MAX: Duration = Duration::from_millis(100);

/// How much rest may be owed: a worker's end, and its return, are told at once.
const OWED_MAX: Duration = Duration::from_millis(400);

/// When such work is due.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Since when there is some.
    since: Option<Instant>,
    /// When all rests will be over, if there was none before its time.
    rested_at: Instant,
}

impl Pace {
    pub(crate) fn new(now: Instant) -> Pace {
        Pace { since: None, rested_at: now }
    }

    /// There is something to be done.
    pub(crate) fn want(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// From when on it is done if nothing else is to be done.
    pub(crate) fn quiet_at(&self) -> Option<Instant> {
        self.since.map(|_| self.rested_at.checked_sub(OWED_MAX).unwrap_or(self.rested_at))
    }

    /// From when on it is done before anything else.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        Some(self.quiet_at()?.max(self.since? + SETTLE_AFTER_MAX))
    }

    /// Everything has been done, and took so long.
    pub(crate) fn done(&mut self, now: Instant, took: Duration) {
        self.since = None;
        let rest = took.saturating_mul(REST_FACTOR).min(REST_MAX);
        self.rested_at = self.rested_at.max(now) + rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Has the work done so many times, as soon as it is due, and gives back how long that took besides the work.
    fn rests(pace: &mut Pace, now: &mut Instant, took: Duration, times: u32) -> Duration {
        let before = *now;
        for _ in 0..times {
            pace.want(*now);
            *now = pace.quiet_at().unwrap().max(*now) + took;
            pace.done(*now, took);
        }
        *now - before - took * times
    }

    #[test]
    fn it_rests_when_there_is_much_and_not_when_there_is_little() {
        let ms = Duration::from_millis;
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pace.quiet_at(), None);
        assert_eq!(rests(&mut pace, &mut now, ms(3), 4), Duration::ZERO, "a worker ends and comes back");
        assert!(rests(&mut pace, &mut now, ms(3), 100) > ms(8_500), "a thousand start");
        now += ms(500);
        assert_eq!(rests(&mut pace, &mut now, ms(3), 4), Duration::ZERO, "later on");
    }

    #[test]
    fn a_rest_is_short_although_the_process_was_stopped_meanwhile() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        for _ in 0..10 {
            let rest = rests(&mut pace, &mut now, Duration::from_secs(60), 1);
            assert!(rest <= REST_MAX, "{rest:?}");
        }
        pace.want(now);
        assert!(pace.due_at().unwrap() <= now + REST_MAX + SETTLE_AFTER_MAX);
    }
}
