//! Dates of HTTP, in seconds since the Unix epoch.

use std::time::{Duration, SystemTime};

/// One in any of the three forms (RFC 9110 §5.6.7).
pub(crate) fn seconds(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    let time = httpdate::parse_http_date(text).ok()?;
    Some(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs())
}

/// As it is written today.
pub(crate) fn text(seconds: u64) -> String {
    // Beyond the year 9999 there is no such date.
    let seconds = seconds.min(253_402_300_799);
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_forms() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(seconds(text.as_bytes()), Some(784_111_777), "{text}");
        }
        for text in ["0", "", "now", "Sun, 06 Nov 1994 08:49:37 UTC"] {
            assert_eq!(seconds(text.as_bytes()), None, "{text}");
        }
        assert_eq!(text(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(seconds(text(u64::MAX).as_bytes()), Some(253_402_300_799));
    }
}
