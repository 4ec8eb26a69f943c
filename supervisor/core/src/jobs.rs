//! Jobs: work that is done at certain times of the wall clock.
//!
//! - [`Schedule`] is what was written: which local times it names, and nothing else.
//! - A [`Zone`] says what the clocks of a place show. With it, a schedule's local times become instants ([`Schedule::next`],
//!   [`Schedule::previous`]); how, when a zone's clocks are changed, is told there.
//! - [`Keeper`] keeps one job: which instants have had their turn, what runs, what is to be made up for. It is told the time and what
//!   happens, and answers with what is to be done.
//!
//! The wall clock is not to be relied on: it is set forward and back. All that is decided here follows from what it shows at the moment
//! and from the last instant that had its turn, never from how long something seemed to take.

mod civil;
mod instants;
mod keeper;
mod schedule;

pub use instants::{Stretch, Zone};
pub use keeper::{
    Cause, Context, Effect, Event, Firing, Keeper, MADE_UP_MAX, Mark, PUNCTUAL, Passed, Pending, RUNS_MAX,
    SET_BACK_MAX, Saved, Why,
};
pub use schedule::{Schedule, ScheduleError};

/// A moment by the wall clock: milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Wall(pub i64);

/// A whole second by the wall clock, since the Unix epoch: what a schedule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Second(pub i64);

impl Wall {
    /// The second that it is in.
    pub fn second(self) -> Second {
        Second(self.0.div_euclid(1000))
    }

    /// How long it is after another moment; not at all, when it is not.
    pub fn since(self, earlier: Wall) -> std::time::Duration {
        let ms = self.0.saturating_sub(earlier.0);
        std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }
}

impl Second {
    /// Its beginning.
    pub fn wall(self) -> Wall {
        Wall(self.0.saturating_mul(1000))
    }
}
