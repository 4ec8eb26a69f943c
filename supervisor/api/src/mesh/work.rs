//! What the proxy measures of services whose number of workers follows what they have to do.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Sums since the proxy started.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Work {
    /// How long each request was in flight, tunnels included, all of them together, in microseconds: two at a time for a second are 2,000,000.
    pub in_flight_us: u64,
    /// How long each request waited for a worker, likewise.
    pub held_us: u64,
    /// How many answers began within the time of each [`answer_within`] and not sooner; those at the end that are missing are 0.
    pub answers: Vec<u64>,
}

impl Work {
    /// Adds what somebody else measured.
    pub fn add(&mut self, other: &Work) {
        let Work { in_flight_us, held_us, answers } = other;
        self.in_flight_us = self.in_flight_us.saturating_add(*in_flight_us);
        self.held_us = self.held_us.saturating_add(*held_us);
        if self.answers.len() < answers.len() {
            self.answers.resize(answers.len(), 0);
        }
        for (sum, count) in self.answers.iter_mut().zip(answers) {
            *sum = sum.saturating_add(*count);
        }
    }

    /// Whether nobody wanted anything.
    pub fn is_nothing(&self) -> bool {
        self.in_flight_us == 0 && self.held_us == 0 && self.answers.iter().all(|count| *count == 0)
    }

    /// What came since an earlier reading. `None` when that was another proxy's, which began anew.
    pub fn since(&self, earlier: &Work) -> Option<Work> {
        let before = earlier.answers.iter().copied().chain(std::iter::repeat(0));
        let answers = self.answers.iter().zip(before).map(|(now, before)| now.checked_sub(before));
        if earlier.answers.len() > self.answers.len() {
            return None;
        }
        Some(Work {
            in_flight_us: self.in_flight_us.checked_sub(earlier.in_flight_us)?,
            held_us: self.held_us.checked_sub(earlier.held_us)?,
            answers: answers.collect::<Option<_>>()?,
        })
    }
}

/// The first bucket ends here, and each octave above it has four.
const FIRST_US: u64 = 64;
const IN_OCTAVE: usize = 4;
/// The last one has all that takes longer: some five minutes.
const BUCKETS: usize = 90;

/// Among which of the [`Work::answers`] one counts that began after this time.
pub fn answer_bucket(time: Duration) -> usize {
    let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    if us < FIRST_US {
        return 0;
    }
    let octave = us.ilog2() - FIRST_US.ilog2();
    // The two bits below the highest one.
    let part = (us >> (us.ilog2() - 2)) & 0b11;
    let bucket = 1 + octave as usize * IN_OCTAVE + part as usize;
    bucket.min(BUCKETS - 1)
}

/// The time within which the answers of a bucket began: up to a quarter more than it took.
pub fn answer_within(bucket: usize) -> Duration {
    let bucket = bucket.min(BUCKETS - 1);
    let (octave, part) = (bucket / IN_OCTAVE, bucket % IN_OCTAVE);
    Duration::from_micros((FIRST_US << octave) / 4 * (4 + part as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_within_that_of_its_bucket_and_not_far_below() {
        let mut last = 0;
        for us in (0..1_000_000).step_by(37).chain([u64::MAX, 300_000_000, 4_000_000]) {
            let bucket = answer_bucket(Duration::from_micros(us));
            let within = answer_within(bucket).as_micros();
            let is_last = bucket == BUCKETS - 1;
            assert!(is_last || u128::from(us) < within, "{us} in {bucket}: {within}");
            assert!(us < FIRST_US || within <= u128::from(us) * 5 / 4 + 1, "{us} in {bucket}: {within}");
            assert!(us >= 1_000_000 || bucket >= last, "{us}: {bucket}");
            last = bucket;
        }
        assert!(answer_within(BUCKETS - 2) > Duration::from_secs(200));
    }

    #[test]
    fn what_came_since_is_what_was_added() {
        let earlier = Work { in_flight_us: 5, held_us: 1, answers: vec![1, 2] };
        let more = Work { in_flight_us: 7, held_us: 0, answers: vec![0, 0, 3] };
        let mut sum = earlier.clone();
        sum.add(&more);
        assert_eq!(sum.since(&earlier), Some(more));
        assert_eq!(earlier.since(&sum), None, "another proxy began anew");
        assert_eq!(Work::default().since(&earlier), None);
    }
}
