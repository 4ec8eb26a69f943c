//! The Gregorian calendar, as far as a schedule needs it. Days are counted from 1970-01-01, a Thursday.

/// A date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) year: i64,
    /// 1 to 12.
    pub(super) month: u32,
    /// 1 to 31.
    pub(super) day: u32,
}

/// The date of a day. The year begins in March here, so that the day which not every year has is its last one.
pub(super) fn date(days: i64) -> Date {
    /// Days of 400 years, after which the calendar repeats itself.
    const ERA: i64 = 146_097;
    // From 0000-03-01.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
    let year = (day - day / 1460 + day / 36_524 - day / (ERA - 1)) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    // Months from March on: 31, 30, 31, 30, 31 days, and again.
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let narrow = |number: i64| u32::try_from(number).unwrap_or(0);
    Date { year: 400 * era + year + later, month: narrow(month), day: narrow(day) }
}

/// The day of the week: 0 is Sunday.
pub(super) fn weekday(days: i64) -> u32 {
    u32::try_from((days + 4).rem_euclid(7)).unwrap_or(0)
}

/// How many days a month has.
pub(super) fn days_of(year: i64, month: u32) -> u32 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every day of 800 years follows from the one before.
    #[test]
    fn days_follow_each_other() {
        let first = -141_427; // 1582-10-15, a Friday
        let mut expected = Date { year: 1582, month: 10, day: 15 };
        let mut of_week = 5;
        for days in first..first + 292_194 {
            assert_eq!((date(days), weekday(days)), (expected, of_week), "{days}");
            of_week = (of_week + 1) % 7;
            expected.day += 1;
            if expected.day > days_of(expected.year, expected.month) {
                (expected.day, expected.month) = (1, expected.month + 1);
            }
            if expected.month > 12 {
                (expected.month, expected.year) = (1, expected.year + 1);
            }
        }
        assert_eq!(date(0), Date { year: 1970, month: 1, day: 1 });
    }
}
