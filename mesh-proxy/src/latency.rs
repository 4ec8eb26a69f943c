//! How long a worker's answers take of late: an average that slow answers raise at once and fast ones lower little by little ("peak EWMA",
//! as in Finagle and Linkerd).
//!
//! It falls with time alone as well: who was slow is asked again some time, and not judged for ever by an answer of long ago.

use std::{cell::Cell, time::Duration};

use crate::timer::Ticks;

/// After this time an answer counts a third.
const DECAY_MS: f32 = 10_000.0;

/// What a failure counts at least: who fails fast is not fast.
const FAILED_MIN: Duration = Duration::from_secs(1);

/// Less is nothing, in milliseconds.
const KNOWN_MIN_MS: f32 = 0.001;

/// What one request in flight at a worker counts of which nothing is known: it gets one to begin with, and the next when that is answered.
const UNKNOWN_MS: f32 = 1e9;

/// One worker's, as one thread sees it.
#[derive(Debug)]
pub(crate) struct Latency {
    ms: Cell<f32>,
    at: Cell<Ticks>,
}

impl Default for Latency {
    fn default() -> Self {
        Latency { ms: Cell::new(0.0), at: Cell::new(Ticks::START) }
    }
}

impl Latency {
    /// An answer took so long to begin.
    pub(crate) fn observe(&self, took: Duration, now: Ticks) {
        let (ms, kept) = (took.as_secs_f32() * 1_000.0, self.kept(now));
        let average = self.ms.get() * kept + ms * (1.0 - kept);
        self.set(if ms > self.ms.get() * kept { ms } else { average }, now);
    }

    /// There was none for so long, or none that would do.
    pub(crate) fn failed(&self, after: Duration, now: Ticks) {
        self.observe(after.max(FAILED_MIN), now);
    }

    /// How dear one more request is beside so many.
    pub(crate) fn cost(&self, in_flight: u64, now: Ticks) -> f32 {
        let ms = self.ms.get() * self.kept(now);
        if ms < KNOWN_MIN_MS { UNKNOWN_MS * in_flight as f32 } else { ms * (in_flight + 1) as f32 }
    }

    fn set(&self, ms: f32, now: Ticks) {
        self.ms.set(ms);
        self.at.set(now);
    }

    /// Which part of the average is left.
    fn kept(&self, now: Ticks) -> f32 {
        (-(now.since(self.at.get()).as_ms() as f32) / DECAY_MS).exp()
    }
}
