//! The version of everything that the spawner hands to another version of watt in an upgrade: its table, and what a daemon keeps with it
//! (notes on runs, values, the plan in force). What daemon and proxy say to each other has a number of its own, `watt_api::mesh::FORMAT`.
//!
//! A program reads the form of its own number and of the one before, and writes its own once an upgrade is settled. Until then it may
//! have to go back, so that it writes what the program before it reads.
//!
//! For the next person. What is JSON (notes, values, the plan) may get new fields without another number, as long as they have a
//! default and the old ones keep their meaning: older programs pass over what they do not know. The table and the messages in it are
//! postcard, which has no names: each change of a type that is in [`crate::table`] is another number. Then:
//!
//! 1. add one to [`FORMAT`], and keep the types of the table as they were under another name, to be read and converted;
//! 2. keep the fixture `tests/fixtures/table-<number>.bin` of the form that is the one before by now, and drop older ones;
//! 3. say in CHANGELOG.md which versions can be upgraded from.

use std::ops::RangeInclusive;

/// The form that this program writes.
pub const FORMAT: u32 = 1;

/// The forms that this program reads.
pub const fn readable() -> RangeInclusive<u32> {
    // There is none before the first.
    let oldest = if FORMAT > 1 { FORMAT - 1 } else { 1 };
    oldest..=FORMAT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_form_is_read_and_no_newer_one() {
        assert!(readable().contains(&FORMAT) && !readable().contains(&(FORMAT + 1)));
        assert!(!readable().contains(&0));
    }
}
