//! The clocks of places: the host's time zone database, or, where the host has none, the one in our own program.

use jiff::{Timestamp, tz::TimeZone};
use watt_core::jobs::{Second, Stretch, Zone as Clocks};

/// A place's clocks, as they were when they were read. A reload reads them again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Zone(TimeZone);

impl Zone {
    /// Reads files: not for the loop. `None` when there is no such place.
    pub(crate) fn named(name: &str) -> Option<Zone> {
        TimeZone::get(name).ok().map(Zone)
    }

    /// What its clocks show: `2026-03-29T03:00:00+02:00`.
    pub(crate) fn shown(&self, at: Second) -> String {
        timestamp(at.0).to_zoned_datetime(self.0.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

impl Clocks for Zone {
    fn stretch(&self, at: i64) -> Stretch {
        let moment = timestamp(at);
        // What precedes is before a moment, and a stretch begins with its first second.
        let after = timestamp(at.saturating_add(1));
        Stretch {
            offset: i64::from(self.0.to_offset(moment).seconds()),
            from: self.0.preceding(after).next().map(|change| change.timestamp().as_second()),
            until: self.0.following(moment).next().map(|change| change.timestamp().as_second()),
        }
    }
}

/// Clocks that are never changed, for what has no place.
#[derive(Debug)]
pub(super) struct Utc;

impl Clocks for Utc {
    fn stretch(&self, _: i64) -> Stretch {
        Stretch { offset: 0, from: None, until: None }
    }
}

/// Beyond the years -9999 and 9999 time stands still.
fn timestamp(at: i64) -> Timestamp {
    let at = at.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
    Timestamp::from_second(at).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use watt_core::jobs::Schedule;

    use super::*;

    #[test]
    fn a_schedule_goes_by_its_clocks() {
        let zone = Zone::named("Europe/Berlin").unwrap();
        let schedule = Schedule::parse("30 2 * * *").unwrap();
        let from: Timestamp = "2026-03-28T12:00:00Z".parse().unwrap();
        let found = schedule.next(&zone, Second(from.as_second())).unwrap();
        assert_eq!(zone.shown(found), "2026-03-29T03:00:00+02:00");
        assert!(Zone::named("Europe/Berlim").is_none());
    }

    #[test]
    fn no_second_is_too_far() {
        for name in ["UTC", "Europe/Berlin"] {
            let zone = Zone::named(name).unwrap();
            for at in [i64::MIN, -1 << 40, 1 << 40, i64::MAX] {
                zone.stretch(at);
                zone.shown(Second(at));
                let yearly = Schedule::parse("@yearly").unwrap();
                yearly.next(&zone, Second(at));
                yearly.previous(&zone, Second(at));
            }
        }
    }
}
