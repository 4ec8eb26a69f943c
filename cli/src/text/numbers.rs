//! Numbers as people read them.

use std::time::Duration;

/// A time span, as events and errors say it as well.
pub use watt_supervisor::words::duration as span;

/// Bytes with three figures at most: `512 B`, `9.4 MB`, `1.2 GB`. Multiples of 1024, as `limits` are written.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{bytes} B"),
        _ if value < 9.95 => format!("{value:.1} {}", UNITS[unit]),
        _ => format!("{value:.0} {}", UNITS[unit]),
    }
}

/// Thousandths of one CPU as a percentage: `0%`, `3.5%`, `120%`.
pub fn cpu(millis: u32) -> String {
    match millis {
        1..100 => format!("{}.{}%", millis / 10, millis % 10),
        _ => format!("{}%", millis / 10),
    }
}

/// A count with at most four figures: `950`, `12.3k`, `4.5M`.
pub fn count(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{:.1}k", count as f64 / 1e3),
        _ => format!("{:.1}M", count as f64 / 1e6),
    }
}

/// A number of things: `1 service`, `3 services`.
pub fn counted(count: usize, thing: &str) -> String {
    watt_supervisor::words::counted(count as u64, thing)
}

/// An RFC 3339 time as the operator's clock shows it, to the second: `2026-11-26 09:00:01`. As it is, when it cannot be read.
pub fn local(at: &str) -> String {
    in_zone(at, "%Y-%m-%d %H:%M:%S")
}

/// The time of day of an RFC 3339 time, to the millisecond: `09:00:01.250`.
pub fn clock(at: &str) -> String {
    in_zone(at, "%H:%M:%S.%3f")
}

fn in_zone(at: &str, format: &str) -> String {
    let Ok(time) = at.parse::<jiff::Timestamp>() else { return at.to_owned() };
    time.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime(format).to_string()
}

/// How long ago an RFC 3339 time was; `None` for a time that cannot be read.
pub fn since(at: &str) -> Option<Duration> {
    let then: jiff::Timestamp = at.parse().ok()?;
    Some(jiff::Timestamp::now().duration_since(then).try_into().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_exact_enough() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1000), "1.0 KB");
        assert_eq!(bytes(9 << 20), "9.0 MB");
        assert_eq!(bytes(512 << 20), "512 MB");
        assert_eq!(bytes(1 << 30), "1.0 GB");
        assert_eq!(bytes(u64::MAX), "16777216 TB");
        assert_eq!(cpu(0), "0%");
        assert_eq!(cpu(35), "3.5%");
        assert_eq!(cpu(1200), "120%");
        assert_eq!(count(9999), "9999");
        assert_eq!(count(12_345), "12.3k");
        assert_eq!(counted(1, "service"), "1 service");
        assert_eq!(counted(0, "service"), "0 services");
    }
}
