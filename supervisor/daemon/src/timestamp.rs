//! Times as the API and the files say them: RFC 3339 in UTC with milliseconds.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// This moment.
pub fn now() -> String {
    text(SystemTime::now())
}

/// That moment. What no calendar has (before year -9999, after 9999) is the epoch.
pub fn text(time: SystemTime) -> String {
    format!("{:.3}", Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH))
}

/// A moment given in milliseconds since the Unix epoch, as the spawner counts.
pub fn from_ms(ms: u64) -> String {
    let timestamp = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", timestamp.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// Microseconds since the Unix epoch; 0 for a clock that is set before it.
pub(crate) fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

/// Microseconds since the Unix epoch of an RFC 3339 time; times before the epoch are 0.
pub(crate) fn parse_us(text: &str) -> Result<u64, jiff::Error> {
    text.parse::<Timestamp>().map(|time| u64::try_from(time.as_microsecond()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_in_utc() {
        assert_eq!(from_ms(1_764_141_753_123), "2025-11-26T07:22:33.123Z");
        assert_eq!(from_ms(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(from_ms(u64::MAX), "1970-01-01T00:00:00.000Z");
        assert_eq!(text(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
        assert_eq!(parse_us("1970-01-01T01:00:00.5+01:00").ok(), Some(500_000));
        assert_eq!(parse_us("1960-01-01T00:00:00Z").ok(), Some(0));
        assert!(parse_us("yesterday").is_err());
    }
}
