//! Local times and instants, at every change of the clocks that the time zone database knows.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, tz::TimeZone};
use watt_core::jobs::{Schedule, Second, Stretch, Zone};

use crate::instants;

/// A zone of the database, asked as the daemon asks.
struct Of(TimeZone);

impl Zone for Of {
    fn stretch(&self, at: i64) -> Stretch {
        let moment = timestamp(at);
        // What precedes is before the moment, and a stretch begins with its first second.
        let after = timestamp(at + 1);
        Stretch {
            offset: i64::from(self.0.to_offset(moment).seconds()),
            from: self.0.preceding(after).next().map(|change| change.timestamp().as_second()),
            until: self.0.following(moment).next().map(|change| change.timestamp().as_second()),
        }
    }
}

fn timestamp(at: i64) -> Timestamp {
    Timestamp::from_second(at.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second())).unwrap()
}

fn zone(name: &str) -> Of {
    Of(TimeZone::get(name).unwrap_or_else(|error| panic!("{name}: {error}")))
}

/// What a schedule's instants are in words: local time and offset.
fn shown(text: &str, zone_name: &str, from: &str, count: usize) -> Vec<String> {
    let zone = zone(zone_name);
    let schedule = Schedule::parse(text).unwrap();
    let mut at = Second(from.parse::<jiff::Timestamp>().unwrap().as_second());
    let mut found = Vec::new();
    while found.len() < count {
        at = schedule.next(&zone, at).unwrap();
        found.push(timestamp(at.0).to_zoned_datetime(zone.0.clone()).strftime("%m-%d %H:%M %z").to_string());
    }
    found
}

#[test]
fn a_time_of_the_day_that_is_skipped_has_its_turn_when_the_clock_is_set_forward() {
    // Berlin goes from 2:00 to 3:00 on 2026-03-29.
    let found = shown("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3);
    assert_eq!(found, ["03-28 02:30 +0100", "03-29 03:00 +0200", "03-30 02:30 +0200"]);
    // All that is skipped is one moment.
    let found = shown("*/20 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
    assert_eq!(found, ["03-29 03:00 +0200", "03-30 02:00 +0200"]);
}

#[test]
fn a_time_of_the_day_that_comes_twice_has_its_turn_the_first_time() {
    // Berlin goes from 3:00 back to 2:00 on 2026-10-25.
    let found = shown("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
    assert_eq!(found, ["10-25 02:30 +0200", "10-26 02:30 +0100"]);
    let found = shown("0,30 1-3 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 6);
    assert_eq!(
        found,
        [
            "10-25 01:00 +0200",
            "10-25 01:30 +0200",
            "10-25 02:00 +0200",
            "10-25 02:30 +0200",
            "10-25 03:00 +0100",
            "10-25 03:30 +0100",
        ]
    );
}

#[test]
fn what_is_of_every_hour_goes_on_by_the_time_that_passes() {
    let found = shown("30 * * * *", "Europe/Berlin", "2026-03-28T23:45:00Z", 3);
    assert_eq!(found, ["03-29 01:30 +0100", "03-29 03:30 +0200", "03-29 04:30 +0200"]);
    let found = shown("30 * * * *", "Europe/Berlin", "2026-10-24T23:45:00Z", 4);
    assert_eq!(found, ["10-25 02:30 +0200", "10-25 02:30 +0100", "10-25 03:30 +0100", "10-25 04:30 +0100"]);
}

#[test]
fn a_day_that_a_place_never_had() {
    // Samoa went from the end of 2011-12-29 to the beginning of 2011-12-31.
    let found = shown("0 12 * * *", "Pacific/Apia", "2011-12-28T23:00:00Z", 3);
    assert_eq!(found, ["12-29 12:00 -1000", "12-31 00:00 +1400", "12-31 12:00 +1400"]);
    let found = shown("0 3 30 12 *", "Pacific/Apia", "2011-01-01T00:00:00Z", 1);
    assert_eq!(found, ["12-31 00:00 +1400"]);
}

/// A change of the clocks: when, and what they were ahead of UTC before and after.
type Change = (i64, i64, i64);

/// Every change of every zone until this year, with the name of one zone that has it. Those that are the same in many zones are looked at
/// once, if nothing else happens close by.
fn changes(until: &str) -> BTreeMap<Change, String> {
    let until: Timestamp = until.parse().unwrap();
    let mut all = BTreeMap::new();
    for name in jiff::tz::db().available() {
        let Ok(zone) = TimeZone::get(name.as_str()) else { continue };
        let mut before = i64::from(zone.to_offset(Timestamp::MIN).seconds());
        for change in zone.following(Timestamp::MIN).take_while(|change| change.timestamp() < until) {
            let after = i64::from(change.offset().seconds());
            all.insert((change.timestamp().as_second(), before, after), name.as_str().to_owned());
            before = after;
        }
    }
    all
}

/// Local seconds of the days around a local second at which a model names these times.
fn named(around: i64, times: &[i64]) -> impl Iterator<Item = i64> {
    let day = around.div_euclid(86_400);
    (day - 4..=day + 4).flat_map(move |day| times.iter().map(move |time| day * 86_400 + time))
}

/// Stretches around a second, in order.
fn stretches(zone: &Of, around: i64) -> Vec<Stretch> {
    let mut all = vec![zone.stretch(around - 6 * 86_400)];
    while let Some(until) =
        all.last().and_then(|last| last.until).filter(|until| *until < around + 6 * 86_400)
    {
        all.push(zone.stretch(until));
    }
    all
}

/// The first moment at which the clock shows this local second or has passed it.
fn first_shown(stretches: &[Stretch], local: i64) -> Option<i64> {
    let within = |stretch: &Stretch| {
        let at = (local - stretch.offset).max(stretch.from.unwrap_or(i64::MIN));
        stretch.until.is_none_or(|until| at < until).then_some(at)
    };
    stretches.iter().filter_map(within).min()
}

/// All moments at which the clock shows it.
fn shown_at(stretches: &[Stretch], local: i64) -> impl Iterator<Item = i64> {
    stretches.iter().filter_map(move |stretch| {
        let at = local - stretch.offset;
        let is_in =
            stretch.from.is_none_or(|from| at >= from) && stretch.until.is_none_or(|until| at < until);
        is_in.then_some(at)
    })
}

#[test]
fn every_change_of_every_zone_follows_the_rule() {
    let every = |minutes: i64| (0..1440 / minutes).map(|nth| nth * minutes * 60).collect::<Vec<i64>>();
    let at = |hour: i64, minute: i64| hour * 3600 + minute * 60;
    let few = |hours: std::ops::Range<i64>| {
        hours.flat_map(|hour| [at(hour, 0), at(hour, 20), at(hour, 40)]).collect::<Vec<i64>>()
    };
    let cases: [(&str, Vec<i64>, bool); 6] = [
        ("30 2 * * *", vec![at(2, 30)], true),
        ("0 0 * * *", vec![at(0, 0)], true),
        ("59 23 * * *", vec![at(23, 59)], true),
        ("*/20 1-3 * * *", few(1..4), true),
        ("15 * * * *", (0..24).map(|hour| at(hour, 15)).collect(), false),
        ("*/10 * * * *", every(10), false),
    ];
    let changes = changes("2100-01-01T00:00:00Z");
    assert!(changes.len() > 5000, "{} changes", changes.len());
    for ((change, before, after), name) in &changes {
        let zone = zone(name);
        let stretches = stretches(&zone, *change);
        for (text, times, is_named) in &cases {
            let schedule = Schedule::parse(text).unwrap();
            let around = if *is_named { 30 * 3600 } else { 3 * 3600 };
            let (from, until) = (change - around, change + around);
            let expected: BTreeSet<i64> = match is_named {
                true => {
                    named(change + after, times).filter_map(|local| first_shown(&stretches, local)).collect()
                }
                false => named(change + after, times).flat_map(|local| shown_at(&stretches, local)).collect(),
            };
            let expected: Vec<i64> = expected.into_iter().filter(|at| *at > from && *at <= until).collect();
            let found = instants(&schedule, &zone, from, until);
            assert_eq!(
                found, expected,
                "{text} in {name}, whose clocks went from {before} to {after} at {change}"
            );
            let back = std::iter::successors(schedule.previous(&zone, Second(until + 1)), |at| {
                schedule.previous(&zone, *at)
            });
            let mut back: Vec<i64> = back.map(|at| at.0).take_while(|at| *at > from).collect();
            back.reverse();
            assert_eq!(back, expected, "{text} in {name}, backwards");
        }
    }
}
