//! From local times to instants.
//!
//! Clocks of a zone are set forward, and a local time never comes; they are set back, and it comes twice. What follows from that
//! depends on what a schedule is about:
//!
//! - One that names hours is about times of the day. Each local time that it names has its turn once: at the first moment at which the
//!   zone's clock shows it *or has passed it*. So what is skipped has its turn when the clock is set forward, all of it together in that one
//!   moment, and what comes twice has it the first time.
//! - One that goes on through every hour (`*/10 * * * *`) is about the time that passes: it has its turn whenever the clock shows a time
//!   that it names, so that neither an hour without a turn nor one with twice as many comes of a change.
//!
//! This is the rule of Vixie's cron, for changes of any size; but for that cron, a schedule is of the second kind when the hour *or
//! minute* is written with a star, and here it is what the hours are that counts.

use super::{Schedule, Second};

/// What the clocks of a place show.
pub trait Zone {
    /// The stretch of time around this second in which its clock goes on evenly.
    fn stretch(&self, at: i64) -> Stretch;
}

/// A stretch of time in which a zone's clock goes on evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Seconds that the clock is ahead of UTC.
    pub offset: i64,
    /// Its first second; `None` where it has no beginning.
    pub from: Option<i64>,
    /// The first second after it; `None` where it has no end.
    pub until: Option<i64>,
}

/// Changes within this time before a stretch count for what its clock had passed already: no two clocks of the world are further apart,
/// in seconds.
const REACH: i64 = 2 * 86_400;

/// What is farther away counts as this: some 35,000 years, so that sums have room.
const FARTHEST: i64 = 1 << 40;

/// More changes than any zone has in the longest time that a schedule may leave empty.
const STRETCHES_MAX: usize = 1000;

impl Schedule {
    /// The first instant after this one.
    pub fn next(&self, zone: &dyn Zone, after: Second) -> Option<Second> {
        let mut at = after.0.clamp(-FARTHEST, FARTHEST) + 1;
        for _ in 0..STRETCHES_MAX {
            let stretch = zone.stretch(at);
            if let Some(found) = self.first_in(zone, &stretch, at) {
                return Some(Second(found));
            }
            // A zone that does not get on is broken.
            at = stretch.until.filter(|until| *until > at)?;
        }
        None
    }

    /// The last instant before this one.
    pub fn previous(&self, zone: &dyn Zone, before: Second) -> Option<Second> {
        let mut end = before.0.clamp(-FARTHEST, FARTHEST);
        for _ in 0..STRETCHES_MAX {
            let stretch = zone.stretch(end - 1);
            if let Some(found) = self.last_in(zone, &stretch, end) {
                return Some(Second(found));
            }
            end = stretch.from.filter(|from| *from < end)?;
        }
        None
    }

    /// The first instant of a stretch, from this one on.
    fn first_in(&self, zone: &dyn Zone, stretch: &Stretch, at: i64) -> Option<i64> {
        let passed = self.passed(zone, stretch);
        if let (Some(passed), Some(from)) = (passed, stretch.from)
            && at <= from
            && self.local_from(passed).is_some_and(|skipped| skipped < from + stretch.offset)
        {
            return Some(from);
        }
        let local = (at + stretch.offset).max(passed.unwrap_or(i64::MIN));
        let found = self.local_from(local)? - stretch.offset;
        stretch.until.is_none_or(|until| found < until).then_some(found)
    }

    /// The last instant of a stretch, before this one.
    fn last_in(&self, zone: &dyn Zone, stretch: &Stretch, end: i64) -> Option<i64> {
        let passed = self.passed(zone, stretch);
        let fresh = |local: &i64| {
            stretch.from.is_none_or(|from| *local - stretch.offset >= from)
                && passed.is_none_or(|passed| *local >= passed)
        };
        if let Some(found) = self.local_before(end + stretch.offset).filter(fresh) {
            return Some(found - stretch.offset);
        }
        let (passed, from) = (passed?, stretch.from?);
        let skipped = self.local_from(passed).is_some_and(|skipped| skipped < from + stretch.offset);
        (skipped && from < end).then_some(from)
    }

    /// What the clock had come to before a stretch: local times before this one have had their turn. `None` where that does not matter.
    fn passed(&self, zone: &dyn Zone, stretch: &Stretch) -> Option<i64> {
        if self.is_of_every_hour() {
            return None;
        }
        let begin = stretch.from?;
        let mut end = begin;
        let mut passed = i64::MIN;
        while end >= begin - REACH {
            let before = zone.stretch(end - 1);
            passed = passed.max(end + before.offset);
            match before.from {
                Some(from) if from < end => end = from,
                Some(_) | None => break,
            }
        }
        Some(passed)
    }
}
