//! What a schedule names: cron's five fields, or six with seconds before them.

use std::fmt;

use super::civil;

/// Local times, by their parts. A field is the set of its numbers, one bit each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Schedule {
    /// As it was written, with single spaces.
    text: String,
    seconds: u64,
    minutes: u64,
    hours: u64,
    /// Days of the month, from bit 1.
    days: u64,
    /// From bit 1.
    months: u64,
    /// Bit 0 is Sunday.
    weekdays: u64,
}

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScheduleError {
    /// It has this many fields, and neither five nor six.
    Fields(usize),
    /// A word that begins with `@` and is not known.
    Word(String),
    /// A part of a field.
    Part {
        /// Which field: `hour`.
        field: &'static str,
        /// The part as it was written.
        part: String,
        /// What is wrong with it.
        wrong: &'static str,
        /// The least and the greatest number of the field.
        range: (u32, u32),
    },
    /// No year has such a day.
    Never,
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ScheduleError::Fields(count) => {
                write!(f, "a schedule has five fields, or six with seconds first, and this has {count}")
            }
            ScheduleError::Word(word) => write!(f, "{word:?} is no schedule"),
            ScheduleError::Part { field, part, wrong, range: (min, max) } => {
                write!(f, "{part:?} in the field for the {field} ({min}-{max}) {wrong}")
            }
            ScheduleError::Never => write!(f, "there is no such day in any year"),
        }
    }
}

impl std::error::Error for ScheduleError {}

/// A field: its name, its numbers, and words for them.
struct Field {
    name: &'static str,
    min: u32,
    max: u32,
    /// The first is for the least number.
    words: &'static [&'static str],
}

const SECOND: Field = Field { name: "second", min: 0, max: 59, words: &[] };
const MINUTE: Field = Field { name: "minute", min: 0, max: 59, words: &[] };
const HOUR: Field = Field { name: "hour", min: 0, max: 23, words: &[] };
const DAY: Field = Field { name: "day of the month", min: 1, max: 31, words: &[] };
const MONTH: Field = Field {
    name: "month",
    min: 1,
    max: 12,
    words: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
/// 7 is Sunday as well.
const WEEKDAY: Field = Field {
    name: "day of the week",
    min: 0,
    max: 7,
    words: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

/// Words for whole schedules, and what they stand for.
pub(crate) const WORDS: [(&str, &str); 9] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
    ("@minutely", "* * * * *"),
    ("@secondly", "* * * * * *"),
];

const DAY_SECONDS: i64 = 86_400;

/// The longest that a schedule may leave empty, in days: from one 29 February over a year without one to the next.
const EMPTY_DAYS_MAX: i64 = 8 * 366 + 1;

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// When it is none, or when it names a date that no year has.
    pub fn parse(text: &str) -> Result<Schedule, ScheduleError> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let written = words.join(" ");
        if let [word] = words[..]
            && word.starts_with('@')
        {
            let lower = word.to_ascii_lowercase();
            let known = WORDS.iter().find(|(known, _)| *known == lower);
            let (_, meaning) = known.ok_or_else(|| ScheduleError::Word(word.to_owned()))?;
            return Ok(Schedule { text: written, ..Schedule::parse(meaning)? });
        }
        let (second, fields) = match words[..] {
            [second, ref fields @ ..] if words.len() == 6 => (second, fields),
            _ => ("0", &words[..]),
        };
        let [minute, hour, day, month, weekday] = *fields else {
            return Err(ScheduleError::Fields(words.len()));
        };
        let weekdays = WEEKDAY.parse(weekday)?;
        let schedule = Schedule {
            text: written,
            seconds: SECOND.parse(second)?,
            minutes: MINUTE.parse(minute)?,
            hours: HOUR.parse(hour)?,
            days: DAY.parse(day)?,
            months: MONTH.parse(month)?,
            weekdays: (weekdays | weekdays >> 7) & set(0, 6),
        };
        match schedule.has_a_day() {
            true => Ok(schedule),
            false => Err(ScheduleError::Never),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it goes on through every hour of a day: then it is about how much time passes, not about times of the day.
    pub fn is_of_every_hour(&self) -> bool {
        self.hours == set(HOUR.min, HOUR.max)
    }

    /// The shortest time between two local times that it names on one day or two that follow each other, in seconds.
    pub fn shortest_gap(&self) -> u32 {
        let first = self.time_from(0);
        let mut shortest = DAY_SECONDS;
        let mut before = first;
        while let Some(time) = before
            && shortest > 1
        {
            let next = self.time_from(time + 1);
            let gap = match (next, first) {
                (Some(next), _) => next - time,
                (None, Some(first)) => first + DAY_SECONDS - time,
                (None, None) => DAY_SECONDS,
            };
            shortest = shortest.min(gap);
            before = next;
        }
        u32::try_from(shortest).unwrap_or(u32::MAX)
    }

    /// The first local second from this one on that it names. Local seconds are counted as if the clock had always gone on evenly from
    /// 1970-01-01 00:00:00.
    pub(super) fn local_from(&self, local: i64) -> Option<i64> {
        let (mut day, time) = (local.div_euclid(DAY_SECONDS), local.rem_euclid(DAY_SECONDS));
        let until = day + EMPTY_DAYS_MAX;
        if self.has(day)
            && let Some(time) = self.time_from(time)
        {
            return Some(day * DAY_SECONDS + time);
        }
        let first = self.time_from(0)?;
        while day < until {
            day += 1;
            if self.has(day) {
                return Some(day * DAY_SECONDS + first);
            }
            let date = civil::date(day);
            if self.months & (1 << date.month) == 0 {
                day += i64::from(civil::days_of(date.year, date.month) - date.day);
            }
        }
        None
    }

    /// The last local second before this one that it names.
    pub(super) fn local_before(&self, local: i64) -> Option<i64> {
        let (mut day, time) = (local.div_euclid(DAY_SECONDS), local.rem_euclid(DAY_SECONDS));
        let until = day - EMPTY_DAYS_MAX;
        if self.has(day)
            && let Some(time) = self.time_before(time)
        {
            return Some(day * DAY_SECONDS + time);
        }
        let last = self.time_before(DAY_SECONDS)?;
        while day > until {
            day -= 1;
            if self.has(day) {
                return Some(day * DAY_SECONDS + last);
            }
            let date = civil::date(day);
            if self.months & (1 << date.month) == 0 {
                day -= i64::from(date.day) - 1;
            }
        }
        None
    }

    /// Whether it names this day. A field that has all its days says nothing; where both say something, either will do, as in cron(8).
    fn has(&self, day: i64) -> bool {
        let date = civil::date(day);
        let all_days = self.days == set(DAY.min, DAY.max);
        let all_weekdays = self.weekdays == set(0, 6);
        let of_month = self.days & (1 << date.day) != 0;
        let of_week = self.weekdays & (1 << civil::weekday(day)) != 0;
        self.months & (1 << date.month) != 0
            && match (all_days, all_weekdays) {
                (true, true) => true,
                (false, true) => of_month,
                (true, false) => of_week,
                (false, false) => of_month || of_week,
            }
    }

    /// Whether any year has a day that it names.
    fn has_a_day(&self) -> bool {
        // 2000 is a leap year.
        let exists = |month: u32| {
            self.months & (1 << month) != 0
                && first(self.days, 1).is_some_and(|day| day <= civil::days_of(2000, month))
        };
        self.weekdays != set(0, 6) || (1..=12).any(exists)
    }

    /// The first time of day from this one on.
    fn time_from(&self, time: i64) -> Option<i64> {
        let (hour, minute, second) = parts(time);
        let this_hour = self.hours & (1 << hour) != 0;
        if this_hour
            && self.minutes & (1 << minute) != 0
            && let Some(second) = first(self.seconds, second)
        {
            return Some(whole(hour, minute, second));
        }
        if this_hour && let Some(minute) = first(self.minutes, minute + 1) {
            return Some(whole(hour, minute, first(self.seconds, 0)?));
        }
        let hour = first(self.hours, hour + 1)?;
        Some(whole(hour, first(self.minutes, 0)?, first(self.seconds, 0)?))
    }

    /// The last time of day before this one.
    fn time_before(&self, time: i64) -> Option<i64> {
        let (hour, minute, second) = parts(time);
        let this_hour = self.hours & (1 << hour) != 0;
        if this_hour
            && self.minutes & (1 << minute) != 0
            && let Some(second) = last(self.seconds, second)
        {
            return Some(whole(hour, minute, second));
        }
        if this_hour && let Some(minute) = last(self.minutes, minute) {
            return Some(whole(hour, minute, last(self.seconds, 60)?));
        }
        let hour = last(self.hours, hour)?;
        Some(whole(hour, last(self.minutes, 60)?, last(self.seconds, 60)?))
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl Field {
    /// Numbers, and ranges and steps of them, with commas between.
    fn parse(&self, text: &str) -> Result<u64, ScheduleError> {
        let mut numbers = 0;
        for part in text.split(',') {
            numbers |= self.part(part).map_err(|wrong| ScheduleError::Part {
                field: self.name,
                part: part.to_owned(),
                wrong,
                range: (self.min, self.max),
            })?;
        }
        Ok(numbers)
    }

    fn part(&self, part: &str) -> Result<u64, &'static str> {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (part, None),
        };
        let is_any = range == "*" || (range == "?" && self.has_question_mark());
        let (low, high) = match range.split_once('-') {
            // The second number of Sunday is for ranges up to it.
            _ if is_any => (self.min, if self.words.len() == 7 { 6 } else { self.max }),
            Some((low, high)) => (self.number(low)?, self.number(high)?),
            None if step.is_some() => (self.number(range)?, self.max),
            None => (self.number(range)?, self.number(range)?),
        };
        if low > high {
            return Err("goes backwards; write two ranges with a comma between");
        }
        let step = match step {
            None => 1,
            Some(text) => match decimal(text).ok_or("has a step that is not a number")? {
                0 => return Err("has a step of 0"),
                step if step > self.max - self.min => return Err("has a step that is longer than the field"),
                step => step,
            },
        };
        Ok((low..=high).step_by(step as usize).fold(0, |numbers, number| numbers | 1 << number))
    }

    /// `?` is how some write that a day says nothing because the other one does.
    fn has_question_mark(&self) -> bool {
        self.max == DAY.max || self.words.len() == 7
    }

    fn number(&self, text: &str) -> Result<u32, &'static str> {
        let lower = text.to_ascii_lowercase();
        if let Some(index) = self.words.iter().position(|word| *word == lower) {
            return Ok(self.min + u32::try_from(index).unwrap_or(0));
        }
        match decimal(text) {
            Some(number) if (self.min..=self.max).contains(&number) => Ok(number),
            Some(_) => Err("is out of range"),
            None if text.contains(['L', 'W', '#']) => {
                Err("is not supported: only numbers, `*`, `,`, `-` and `/` are")
            }
            None if self.words.is_empty() => Err("is not a number"),
            None => Err("is neither a number nor a name such as those of cron"),
        }
    }
}

/// The set of a range.
const fn set(low: u32, high: u32) -> u64 {
    (u64::MAX >> (63 - high)) & (u64::MAX << low)
}

/// Digits alone: parse() takes a sign.
fn decimal(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The least number of a set from this one on.
fn first(numbers: u64, from: u32) -> Option<u32> {
    let rest = numbers & u64::MAX.checked_shl(from).unwrap_or(0);
    (rest != 0).then(|| rest.trailing_zeros())
}

/// The greatest number of a set below this one.
fn last(numbers: u64, before: u32) -> Option<u32> {
    let rest = numbers & !u64::MAX.checked_shl(before).unwrap_or(0);
    (rest != 0).then(|| 63 - rest.leading_zeros())
}

/// Hour, minute and second. The end of a day is the hour 24.
fn parts(time: i64) -> (u32, u32, u32) {
    let narrow = |number: i64| u32::try_from(number).unwrap_or(0);
    (narrow(time / 3600), narrow(time / 60 % 60), narrow(time % 60))
}

fn whole(hour: u32, minute: u32, second: u32) -> i64 {
    i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(text: &str) -> Schedule {
        Schedule::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// `2026-11-26 19:36:00` as local seconds.
    fn local(text: &str) -> i64 {
        let numbers: Vec<i64> = text.split(['-', ' ', ':']).map(|number| number.parse().unwrap()).collect();
        let [year, month, day, hour, minute, second] = numbers[..] else { panic!("{text}") };
        let is_before = |days: &i64| {
            let date = civil::date(*days);
            (date.year, i64::from(date.month), i64::from(date.day)) < (year, month, day)
        };
        let days = ((year - 1970) * 365..).find(|days| !is_before(days)).unwrap();
        days * DAY_SECONDS + hour * 3600 + minute * 60 + second
    }

    #[track_caller]
    fn next(text: &str, from: &str, expected: &str) {
        let found = schedule(text).local_from(local(from) + 1).unwrap();
        assert_eq!(found, local(expected), "{text} after {from}");
        assert_eq!(schedule(text).local_before(found + 1), Some(found));
        assert_eq!(schedule(text).local_before(found).filter(|before| *before > local(from)), None);
    }

    #[test]
    fn what_fields_mean() {
        next("0 3 * * *", "2026-11-26 19:36:00", "2026-11-27 03:00:00");
        next("*/10 * * * * *", "2026-11-26 19:36:00", "2026-11-26 19:36:10");
        next("5/20 * * * *", "2026-11-26 19:26:00", "2026-11-26 19:45:00");
        next("59 59 23 31 12 *", "2026-11-26 19:36:00", "2026-12-31 23:59:59");
        next("0 0 29 2 *", "2096-02-29 00:00:00", "2104-02-29 00:00:00");
        next("30 6 * * mon-FRI", "2026-11-27 06:30:00", "2026-11-30 06:30:00");
        next("0 0 * * 7", "2026-11-26 00:00:00", "2026-11-29 00:00:00");
        next("0 0 * * 5-7", "2026-11-28 00:00:00", "2026-11-29 00:00:00");
        next("15,45 8-10/2 * Feb ?", "2026-11-26 00:00:00", "2027-02-01 08:15:00");
        // Either day will do where both are named.
        next("0 0 13 * 5", "2026-11-26 00:00:00", "2026-11-27 00:00:00");
        next("0 0 13 * 5", "2026-12-11 00:00:00", "2026-12-13 00:00:00");
        next("@weekly", "2026-11-26 00:00:00", "2026-11-29 00:00:00");
        next("@Hourly", "2026-11-26 19:36:00", "2026-11-26 20:00:00");
    }

    #[test]
    fn a_day_of_the_week_or_of_the_month() {
        assert_eq!(schedule("0 0 * * 0-6").weekdays, schedule("0 0 * * *").weekdays);
        assert_eq!(schedule("0 0 * * 0-7").weekdays, schedule("0 0 * * *").weekdays);
        assert_eq!(schedule("0 0 * * 7").weekdays, schedule("0 0 * * sun").weekdays);
        assert_eq!(schedule("0 0 * * */2").weekdays, schedule("0 0 * * 0,2,4,6").weekdays);
    }

    #[test]
    fn what_is_no_schedule() {
        let check = |text: &str, expected: &str| {
            assert_eq!(Schedule::parse(text).unwrap_err().to_string(), expected, "{text}");
        };
        check("", "a schedule has five fields, or six with seconds first, and this has 0");
        check("0 0 * *", "a schedule has five fields, or six with seconds first, and this has 4");
        check("0 0 0 * * * 2026", "a schedule has five fields, or six with seconds first, and this has 7");
        check("@reboot", r#""@reboot" is no schedule"#);
        check("60 * * * *", r#""60" in the field for the minute (0-59) is out of range"#);
        check("0 24 * * *", r#""24" in the field for the hour (0-23) is out of range"#);
        check("0 0 0 * *", r#""0" in the field for the day of the month (1-31) is out of range"#);
        check("0 0 * 13 *", r#""13" in the field for the month (1-12) is out of range"#);
        check("0 0 * * 8", r#""8" in the field for the day of the week (0-7) is out of range"#);
        check(
            "0 22-5 * * *",
            r#""22-5" in the field for the hour (0-23) goes backwards; write two ranges with a comma between"#,
        );
        check("*/0 * * * *", r#""*/0" in the field for the minute (0-59) has a step of 0"#);
        check(
            "*/90 * * * *",
            r#""*/90" in the field for the minute (0-59) has a step that is longer than the field"#,
        );
        check("+5 * * * *", r#""+5" in the field for the minute (0-59) is not a number"#);
        check("1,,2 * * * *", r#""" in the field for the minute (0-59) is not a number"#);
        check(
            "0 0 L * *",
            r#""L" in the field for the day of the month (1-31) is not supported: only numbers, `*`, `,`, `-` and `/` are"#,
        );
        check("? * * * *", r#""?" in the field for the minute (0-59) is not a number"#);
        check("99999999999 * * * *", r#""99999999999" in the field for the minute (0-59) is not a number"#);
        for never in ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 2,4,6,9,11 *"] {
            check(never, "there is no such day in any year");
        }
        // On Mondays of February.
        assert!(Schedule::parse("0 0 31 2 1").is_ok());
    }

    #[test]
    fn the_shortest_time_between_two() {
        let check = |text: &str, expected| assert_eq!(schedule(text).shortest_gap(), expected, "{text}");
        check("0 3 * * *", 86_400);
        check("*/10 * * * * *", 10);
        check("* * * * * *", 1);
        check("*/7 * * * *", 240);
        check("0 23,1 * * *", 7200);
        check("0,20 * * * *", 1200);
    }

    /// Any schedule of few numbers, so that days without one are not rare.
    fn any() -> impl Strategy<Value = Schedule> {
        let field = |min: u32, max: u32| {
            prop_oneof![
                Just("*".to_owned()),
                prop::collection::vec(min..=max, 1..4).prop_map(|numbers| numbers
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(",")),
            ]
        };
        (field(0, 59), field(0, 59), field(0, 23), field(1, 31), field(1, 12), field(0, 7)).prop_filter_map(
            "a day of some year",
            |(second, minute, hour, day, month, weekday)| {
                Schedule::parse(&format!("{second} {minute} {hour} {day} {month} {weekday}")).ok()
            },
        )
    }

    /// The model: every second is looked at by itself.
    fn names(schedule: &Schedule, local: i64) -> bool {
        let (hour, minute, second) = parts(local.rem_euclid(DAY_SECONDS));
        schedule.has(local.div_euclid(DAY_SECONDS))
            && schedule.hours & (1 << hour) != 0
            && schedule.minutes & (1 << minute) != 0
            && schedule.seconds & (1 << second) != 0
    }

    proptest! {
        #[test]
        fn the_next_and_the_one_before_are_the_nearest(schedule in any(), start in -5_000_000_000i64..5_000_000_000) {
            let next = schedule.local_from(start).unwrap();
            prop_assert!(names(&schedule, next) && next >= start);
            for local in start..next.min(start + 5000) {
                prop_assert!(!names(&schedule, local));
            }
            let before = schedule.local_before(start).unwrap();
            prop_assert!(names(&schedule, before) && before < start);
            for local in (before + 1).max(start - 5000)..start {
                prop_assert!(!names(&schedule, local));
            }
            prop_assert_eq!(schedule.local_from(before + 1).unwrap(), next);
            prop_assert_eq!(schedule.local_before(next).unwrap(), before);
        }
    }
}
