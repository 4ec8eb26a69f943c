//! How the workers of a service are replaced: by how many at a time, and what has to be seen of a new one before the next.

use std::{num::NonZeroU16, time::Duration};

/// The numbers of a roll: of `wattctl restart`, and of a reload that takes new workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roll {
    /// So many workers more than configured at a time; a part is rounded up. None where two cannot run beside each other.
    pub surge: Share,
    /// So many workers fewer than configured at a time; a part is rounded down.
    pub max_unavailable: Share,
    /// A new worker has to have been ready for this long before it counts.
    pub min_healthy: Duration,
    /// A roll that takes longer has failed; `None` is no limit.
    pub deadline: Option<Duration>,
    /// What becomes of those that were replaced already, when one fails.
    pub on_failure: OnFailure,
}

/// A number of workers: so many, or a part of those that are configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// So many.
    Count(u16),
    /// So many in a hundred.
    Percent(u8),
}

/// What follows the failure of a new worker. The old ones that are there go on in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Those that were replaced already stay as well.
    Keep,
    /// The configuration from before comes back, with all that was replaced.
    RollBack,
}

/// What a roll may do at a time, of one service with its workers. At least one of the two is not 0, or it would never end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps {
    /// Workers beside those that are configured.
    pub surge: usize,
    /// Workers that are taken away before their successors are there.
    pub unavailable: usize,
}

impl Share {
    fn down(self, workers: u16) -> u16 {
        match self {
            Share::Count(count) => count,
            Share::Percent(percent) => (u32::from(workers) * u32::from(percent) / 100) as u16,
        }
        .min(workers)
    }

    fn up(self, workers: u16) -> u16 {
        match self {
            Share::Count(count) => count,
            Share::Percent(percent) => (u32::from(workers) * u32::from(percent)).div_ceil(100) as u16,
        }
        .min(workers)
    }
}

impl Roll {
    /// What may be done at a time with so many workers, which can run beside their successors or not.
    pub fn steps(&self, workers: NonZeroU16, can_overlap: bool) -> Steps {
        let surge = if can_overlap { self.surge.up(workers.get()) } else { 0 };
        let unavailable = self.max_unavailable.down(workers.get()).max(u16::from(surge == 0));
        Steps { surge: surge.into(), unavailable: unavailable.into() }
    }
}

impl Default for Roll {
    fn default() -> Roll {
        Roll {
            surge: Share::Count(1),
            max_unavailable: Share::Count(0),
            min_healthy: Duration::ZERO,
            deadline: None,
            on_failure: OnFailure::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn steps(surge: Share, max_unavailable: Share, workers: u16, can_overlap: bool) -> (usize, usize) {
        let roll = Roll { surge, max_unavailable, ..Roll::default() };
        let Steps { surge, unavailable } = roll.steps(NonZeroU16::new(workers).unwrap(), can_overlap);
        (surge, unavailable)
    }

    #[test]
    fn parts_are_rounded_so_that_more_are_there_rather_than_fewer() {
        let (count, percent) = (Share::Count, Share::Percent);
        assert_eq!(steps(count(1), count(0), 4, true), (1, 0));
        assert_eq!(steps(percent(25), percent(25), 5, true), (2, 1));
        assert_eq!(steps(percent(25), percent(25), 2, true), (1, 0));
        assert_eq!(steps(percent(100), percent(100), 3, true), (3, 3));
        assert_eq!(steps(count(9), count(9), 3, true), (3, 3), "never more than there are");
        // One at a time is the least that there can be.
        assert_eq!(steps(count(0), percent(10), 5, true), (0, 1));
        assert_eq!(steps(count(3), count(0), 5, false), (0, 1));
        assert_eq!(steps(count(3), count(2), 5, false), (0, 2));
    }

    proptest! {
        #[test]
        fn some_step_is_always_possible_and_none_is_larger_than_the_service(
            surge in 0u16..300, unavailable in 0u16..300, of: bool, workers in 1u16..1000, can_overlap: bool,
        ) {
            let share = |n: u16| if of { Share::Percent(n.min(100) as u8) } else { Share::Count(n) };
            let (surge, unavailable) = steps(share(surge), share(unavailable), workers, can_overlap);
            prop_assert!(surge + unavailable > 0);
            prop_assert!(surge.max(unavailable) <= usize::from(workers));
        }
    }
}
