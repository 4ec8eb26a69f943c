//! How often something may be done: the generic cell rate algorithm (GCRA).
//!
//! All that is kept of a key is one time, up to which it has used what it may: each request moves it on by the time that one request
//! stands for, and where it would lie further ahead of now than the burst allows, the request is refused. So nothing has to be filled up by
//! a timer, and a key whose time has passed is as one that was never seen.

use std::{num::NonZeroU64, time::Duration};

/// So many requests in a time, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// The time that one stands for, in nanoseconds; at least 1.
    each_ns: u64,
    /// How far ahead a key may be, in nanoseconds.
    ahead_ns: u64,
    requests: NonZeroU64,
    per: Duration,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It may go on.
    Admitted {
        /// How many more may follow at once.
        left: u64,
        /// When all that the key may have is there again.
        full_after: Duration,
    },
    /// It was one too many, and is not counted.
    Refused {
        /// When the next one may go on.
        retry_after: Duration,
        /// When all that the key may have is there again.
        full_after: Duration,
    },
}

impl Rate {
    /// `requests` in `per`, and of those `burst` at once. A time of less than a nanosecond for each is taken for one.
    pub fn new(requests: NonZeroU64, per: Duration, burst: NonZeroU64) -> Rate {
        // Rounded up, so that there are never more than what was written.
        let each = per.as_nanos().div_ceil(u128::from(requests.get())).max(1);
        let each_ns = u64::try_from(each).unwrap_or(u64::MAX);
        Rate { each_ns, ahead_ns: each_ns.saturating_mul(burst.get()), requests, per }
    }

    /// As it was written: so many.
    pub fn requests(&self) -> u64 {
        self.requests.get()
    }

    /// In this time.
    pub fn per(&self) -> Duration {
        self.per
    }

    /// One more request of a key that has used what it may up to `used_ns`. Both times are in nanoseconds from the same beginning. Returns
    /// what it has used then.
    ///
    /// Nobody has used more than the limit lets anybody use: what was used under a stricter one, from before a reload, counts as that.
    pub fn take(&self, used_ns: u64, now_ns: u64) -> (u64, Outcome) {
        let before = used_ns.min(now_ns.saturating_add(self.ahead_ns)).max(now_ns);
        let after = before.saturating_add(self.each_ns);
        let ahead = after - now_ns;
        let full_after = |used: u64| Duration::from_nanos(used - now_ns);
        match ahead.checked_sub(self.ahead_ns) {
            None | Some(0) => {
                let left = (self.ahead_ns - ahead) / self.each_ns;
                (after, Outcome::Admitted { left, full_after: full_after(after) })
            }
            Some(too_far) => {
                let retry_after = Duration::from_nanos(too_far);
                (before, Outcome::Refused { retry_after, full_after: full_after(before) })
            }
        }
    }

    /// What a key has used when one of its requests is not counted after all.
    pub fn give_back(&self, used_ns: u64) -> u64 {
        used_ns.saturating_sub(self.each_ns)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate(requests: u64, per_ms: u64, burst: u64) -> Rate {
        let some = |number| NonZeroU64::new(number).unwrap();
        Rate::new(some(requests), Duration::from_millis(per_ms), some(burst))
    }

    /// How many of those that come at these times are admitted.
    fn admitted(rate: Rate, times: impl IntoIterator<Item = u64>) -> usize {
        let mut used = 0;
        let mut count = 0;
        for now in times {
            let (after, outcome) = rate.take(used, now);
            used = after;
            count += usize::from(matches!(outcome, Outcome::Admitted { .. }));
        }
        count
    }

    #[test]
    fn a_burst_passes_and_then_one_at_a_time() {
        let rate = rate(10, 1_000, 3);
        assert_eq!(admitted(rate, [5 * SECOND; 20]), 3);
        // A request each 50 ms, where each 100 ms one may.
        let times = (0..200).map(|step| 5 * SECOND + step * SECOND / 20);
        assert_eq!(admitted(rate, times), 3 + 99);
    }

    #[test]
    fn who_has_used_up_a_stricter_limit_is_not_shut_out_by_the_next_one_for_as_long() {
        let (strict, loose) = (rate(3, 86_400_000, 3), rate(3, 1_000, 3));
        let now = 7 * SECOND;
        let used = (0..3).fold(0, |used, _| strict.take(used, now).0);
        let (used, outcome) = loose.take(used, now);
        let Outcome::Refused { retry_after, .. } = outcome else { panic!("{outcome:?}") };
        assert!(retry_after <= Duration::from_millis(334), "{retry_after:?}");
        assert!(matches!(loose.take(used, now + SECOND / 2).1, Outcome::Admitted { .. }));
    }

    #[test]
    fn whoever_waits_as_long_as_he_is_told_is_admitted() {
        let rate = rate(3, 1_000, 1);
        let (used, first) = rate.take(0, 7 * SECOND);
        assert_eq!(first, Outcome::Admitted { left: 0, full_after: Duration::from_nanos(333_333_334) });
        let (same, second) = rate.take(used, 7 * SECOND);
        let Outcome::Refused { retry_after, .. } = second else { panic!("{second:?}") };
        assert_eq!(same, used, "what is refused is not counted");
        let now = 7 * SECOND + u64::try_from(retry_after.as_nanos()).unwrap();
        assert!(matches!(rate.take(used, now - 1).1, Outcome::Refused { .. }));
        assert!(matches!(rate.take(used, now).1, Outcome::Admitted { .. }));
    }

    #[test]
    fn what_is_left_is_counted_down() {
        let rate = rate(60, 60_000, 4);
        let mut used = 0;
        for expected in [3, 2, 1, 0] {
            let (after, outcome) = rate.take(used, SECOND);
            used = after;
            let full_after = Duration::from_secs(4 - expected);
            assert_eq!(outcome, Outcome::Admitted { left: expected, full_after });
        }
        let (_, outcome) = rate.take(rate.give_back(used), SECOND);
        assert!(matches!(outcome, Outcome::Admitted { left: 0, .. }));
    }

    #[test]
    fn extremes_do_not_overflow() {
        let slow = rate(1, u64::MAX / 1_000_000, u64::MAX);
        assert!(matches!(slow.take(0, 0).1, Outcome::Admitted { .. }));
        let fast = Rate::new(NonZeroU64::MAX, Duration::from_nanos(1), NonZeroU64::MIN);
        assert!(matches!(fast.take(u64::MAX, u64::MAX).1, Outcome::Admitted { .. }));
        assert!(matches!(fast.take(u64::MAX, 0).1, Outcome::Refused { .. }));
    }

    proptest! {
        /// In no window of time do more pass than the burst and what the time brings.
        #[test]
        fn no_window_has_more_than_it_may(
            requests in 1u64..50, per_ms in 1u64..5_000, burst in 1u64..20,
            steps in prop::collection::vec(0u64..200_000_000, 1..200),
        ) {
            let rate = rate(requests, per_ms, burst);
            let (mut now, mut used) = (SECOND, 0);
            let mut passed = Vec::new();
            for step in steps {
                now += step;
                let (after, outcome) = rate.take(used, now);
                used = after;
                if matches!(outcome, Outcome::Admitted { .. }) {
                    passed.push(now);
                }
            }
            for (index, from) in passed.iter().enumerate() {
                for (count, to) in passed[index..].iter().enumerate() {
                    let brings = u128::from(to - from) * u128::from(requests) / u128::from(per_ms * 1_000_000);
                    prop_assert!(count as u128 <= u128::from(burst) + brings);
                }
            }
        }
    }
}
