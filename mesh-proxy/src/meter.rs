//! What a service's workers have to do, measured where their number follows it.
//!
//! A request of such a service costs four readings of the clock, one of any other service none.

use std::cell::{Cell, RefCell};

use tokio::time::Instant;
use watt_api::mesh::{Work, answer_bucket};

/// One thread's, for one service.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Up to when the sums are right; `None` while nothing is measured.
    since: Cell<Option<Instant>>,
    in_flight_us: Cell<u64>,
    held_us: Cell<u64>,
    answers: RefCell<Vec<u64>>,
}

impl Meter {
    /// Measures from now on, or no longer.
    pub(crate) fn switch(&self, is_on: bool) {
        match (is_on, self.since.get()) {
            (true, None) => self.since.set(Some(Instant::now())),
            (true, Some(_)) => {}
            (false, _) => self.since.set(None),
        }
    }

    /// So many were in flight and waited up to now. To be called before either changes.
    pub(crate) fn add_up(&self, in_flight: u64, held: usize) {
        let Some(since) = self.since.get() else { return };
        let now = Instant::now();
        let passed = u64::try_from(now.duration_since(since).as_micros()).unwrap_or(u64::MAX);
        let add =
            |sum: &Cell<u64>, count: u64| sum.set(sum.get().saturating_add(passed.saturating_mul(count)));
        add(&self.in_flight_us, in_flight);
        add(&self.held_us, held as u64);
        // What is less than a microsecond is left for the next time.
        self.since.set(Some(since + std::time::Duration::from_micros(passed)));
    }

    /// The time, when a request is to be measured that is sent now.
    pub(crate) fn start(&self) -> Option<Instant> {
        self.since.get().map(|_| Instant::now())
    }

    /// The answer to a request began that was sent then.
    pub(crate) fn answered(&self, started: Instant) {
        let bucket = answer_bucket(started.elapsed());
        let mut answers = self.answers.borrow_mut();
        if answers.len() <= bucket {
            answers.resize(bucket + 1, 0);
        }
        answers[bucket] += 1;
    }

    /// What was measured so far, if anything is.
    pub(crate) fn read(&self, in_flight: u64, held: usize) -> Option<Work> {
        self.since.get()?;
        self.add_up(in_flight, held);
        Some(Work {
            in_flight_us: self.in_flight_us.get(),
            held_us: self.held_us.get(),
            answers: self.answers.borrow().clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn requests_add_up_over_time_and_only_where_that_is_asked_for() {
        let meter = Meter::default();
        assert_eq!((meter.read(3, 1), meter.start()), (None, None));
        meter.switch(true);
        tokio::time::advance(Duration::from_millis(500)).await;
        meter.add_up(4, 0);
        tokio::time::advance(Duration::from_millis(500)).await;
        let started = meter.start().unwrap();
        let work = meter.read(2, 1).unwrap();
        assert_eq!((work.in_flight_us, work.held_us), (3_000_000, 500_000));
        tokio::time::advance(Duration::from_millis(80)).await;
        meter.answered(started);
        let work = meter.read(0, 0).unwrap();
        assert_eq!(work.answers.iter().sum::<u64>(), 1);
        let within = watt_api::mesh::answer_within(work.answers.len() - 1);
        assert!((Duration::from_millis(80)..Duration::from_millis(100)).contains(&within), "{within:?}");
        meter.switch(false);
        assert_eq!(meter.read(9, 9), None);
    }
}
