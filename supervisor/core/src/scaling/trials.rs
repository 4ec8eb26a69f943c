//! What came of it when there were fewer workers.
//!
//! A queue, a latency or a pressure that is far below its target with five workers does not say what it would be with four. That is tried, and
//! where it had to be undone, it would be so again as long as the load is the same: the next trial comes after twice the time.

use std::{num::NonZeroU16, time::Instant};

use super::Measured;
use crate::plan::Scaling;

/// How often the time until the next trial is doubled: up to 32 times the cooldown.
const DOUBLED_MOST: u32 = 5;
/// Below this part of what there was to do, it is another load.
const SAME_LOAD: f64 = 0.75;

/// The last one, and the one that failed.
#[derive(Debug, Clone, Default)]
pub(super) struct Trials {
    /// As long as there are as many workers as that, and it is not known whether they are enough.
    under_way: Option<Trial>,
    failed: Option<Failed>,
}

/// There are fewer from now on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trial {
    /// How many there were.
    pub(super) from: NonZeroU16,
    /// How many are left.
    pub(super) to: NonZeroU16,
    /// When.
    pub(super) at: Instant,
    /// What there was to do then.
    pub(super) load: Load,
}

/// One that had to be undone.
#[derive(Debug, Clone, Copy)]
struct Failed {
    trial: Trial,
    /// How often that was so with as many workers.
    times: u32,
    /// When it was undone last.
    at: Instant,
}

/// What there is to do for all workers together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) in_flight: Option<f64>,
    pub(super) cpu: Option<f64>,
}

impl Trials {
    /// Time has passed: a trial that has lasted for longer than it takes to see that it fails was right.
    pub(super) fn look(&mut self, now: Instant, rules: &Scaling) {
        let is_right = |trial: &mut Trial| !is_recent(now, rules, trial.at);
        if let Some(right) = self.under_way.take_if(is_right) {
            self.failed = self.failed.filter(|failed| failed.trial.to < right.to);
        }
    }

    /// There are fewer.
    pub(super) fn begin(&mut self, trial: Trial) {
        // Of another load nothing is known.
        self.failed = self.failed.filter(|failed| !trial.load.is_less_than(&failed.trial.load));
        self.under_way = Some(trial);
    }

    /// The trial that is over when there are to be more for this reason. What is in proportion to the load needs no trial: it has grown.
    pub(super) fn that_failed(&self, count: NonZeroU16, why: &Measured) -> Option<Trial> {
        self.under_way.filter(|trial| is_tried(why) && trial.to == count)
    }

    /// Whether there are to be as many as before a trial that failed just now.
    pub(super) fn has_undone(
        &self,
        now: Instant,
        rules: &Scaling,
        count: NonZeroU16,
        why: &Measured,
    ) -> bool {
        let is_it = |failed: Failed| failed.trial.from == count && is_recent(now, rules, failed.at);
        is_tried(why) && self.failed.is_some_and(is_it)
    }

    /// There are more, and a trial is undone by that, if there was one.
    pub(super) fn grown(&mut self, now: Instant, undone: Option<Trial>) {
        self.under_way = None;
        if let Some(trial) = undone {
            let before = self.failed.filter(|failed| failed.trial.to == trial.to);
            let times = before.map_or(1, |failed| (failed.times + 1).min(DOUBLED_MOST));
            self.failed = Some(Failed { trial, times, at: now });
        }
    }

    /// Fewer than this are not tried now.
    pub(super) fn fewest(&self, now: Instant, rules: &Scaling, load: &Load) -> NonZeroU16 {
        let is_out = |failed: &Failed| {
            // The cooldown itself follows when this is over.
            let wait = rules.cooldown.max(rules.window).saturating_mul((1 << failed.times) - 1);
            now.saturating_duration_since(failed.at) < wait && !load.is_less_than(&failed.trial.load)
        };
        let failed = self.failed.filter(is_out);
        failed.map_or(NonZeroU16::MIN, |failed| failed.trial.to.saturating_add(1))
    }
}

/// Whether it is not longer ago than it takes to see whether so many workers are enough.
fn is_recent(now: Instant, rules: &Scaling, at: Instant) -> bool {
    now.saturating_duration_since(at) <= rules.cooldown.saturating_add(rules.window)
}

/// Whether only a trial tells how many workers that takes.
fn is_tried(why: &Measured) -> bool {
    match why {
        Measured::Latency(..) | Measured::Queue(..) | Measured::Pressure(..) => true,
        Measured::Cpu(..) | Measured::InFlight(..) => false,
    }
}

impl Load {
    /// Whether there is less to do, and not by chance. What is not known of both is no difference.
    fn is_less_than(&self, other: &Load) -> bool {
        let is_less = |(now, then): (f64, f64)| now < then * SAME_LOAD;
        let known = self.in_flight.zip(other.in_flight).or(self.cpu.zip(other.cpu));
        known.is_some_and(is_less)
    }
}
