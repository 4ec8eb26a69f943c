//! How long a request may take in all: what its service lets it, or less when its client asks for less, and what a worker is told is
//! left of that.
//!
//! gRPC has a field for it, `grpc-timeout` (gRPC's PROTOCOL-HTTP2.md). Other requests have `X-Request-Timeout-Ms`, whole milliseconds from
//! now on: the form that `X-Envoy-Expected-Rq-Timeout-Ms` and `Connect-Timeout-Ms` have, without a product's name. Lengths of time and not
//! instants, so that no two clocks have to agree.
//!
//! A request waits for workers and is sent again, so the number is written anew each time it is sent, in a place that was kept for it.

use std::{cell::Cell, future::Future, io::Write, pin::pin, task::Poll, time::Duration};

use tokio::time::Instant;

use super::head::{Fields, Lines};

/// The most digits that gRPC lets a number have, and the place that is kept for it. Spaces in front of a value are no part of it
/// (RFC 9110 §5.5), where zeros would make an octal number of it to some.
const DIGITS: usize = 8;
const MS_MAX: u128 = 99_999_999;

/// The number in `X-Request-Timeout-Ms` may be longer: a day has more milliseconds than gRPC has digits.
const DIGITS_READ_MAX: usize = 12;

/// When a request is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    /// How long it may take in all.
    length: Duration,
    is_grpc: bool,
    /// Its client wanted less than the service lets it have, so that nobody failed when it is over.
    pub(crate) is_wish: bool,
    /// Where its number is in the head for the worker.
    place: usize,
}

/// How far the client has got with its response, for what can be done once its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Progress {
    /// It has nothing of it yet, or interim responses as a whole.
    #[default]
    Nothing,
    /// It may have a part of a response.
    Begun,
    /// The connection is a tunnel, which may last.
    Tunnel,
}

impl Deadline {
    /// By what the service lets a request take, and by the fields that say what its client waits for. Lines that are read go on as this
    /// proxy writes them; others are left as they are.
    pub(crate) fn new(
        total: Option<Duration>,
        is_grpc: bool,
        fields: &Fields<'_, '_>,
        lines: Lines,
    ) -> Option<Deadline> {
        let wanted = asked_for(is_grpc, fields, lines);
        let (length, is_wish) = match (total, wanted) {
            (Some(total), Some(wanted)) => (total.min(wanted), wanted < total),
            (Some(total), None) => (total, false),
            (None, wanted) => (wanted?, true),
        };
        Some(Deadline { at: Instant::now() + length, length, is_grpc, is_wish, place: 0 })
    }

    /// Whether less than half of the time is left from then on.
    pub(crate) fn is_mostly_over(&self, at: Instant) -> bool {
        self.at.saturating_duration_since(at) < self.length / 2
    }

    /// Puts the field at the end of a head, in front of its empty line.
    pub(crate) fn write(&mut self, head: &mut Vec<u8>) {
        head.truncate(head.len() - 2);
        let (name, unit) = if self.is_grpc {
            ("grpc-timeout: ", "m\r\n\r\n")
        } else {
            ("X-Request-Timeout-Ms: ", "\r\n\r\n")
        };
        head.extend_from_slice(name.as_bytes());
        self.place = head.len();
        head.extend_from_slice(&[b' '; DIGITS]);
        head.extend_from_slice(unit.as_bytes());
    }

    /// Writes what is left into the head. Never nothing: the field has no form for that, and whoever is told ends at once.
    pub(crate) fn stamp(&self, head: &mut [u8]) {
        let left = self.at.duration_since(Instant::now()).as_millis().clamp(1, MS_MAX);
        if let Some(mut place) = head.get_mut(self.place..self.place + DIGITS) {
            // The place is as wide as the number.
            let _ = write!(place, "{left:>DIGITS$}");
        }
    }

    /// Does this until the time is over; `None` is that it is. A tunnel is past that. Without any time it does not even begin.
    pub(crate) async fn bound<F: Future>(&self, progress: &Cell<Progress>, doing: F) -> Option<F::Output> {
        if self.at <= Instant::now() {
            return None;
        }
        let mut over = pin!(tokio::time::sleep_until(self.at));
        let mut doing = pin!(doing);
        std::future::poll_fn(|cx| match doing.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending if progress.get() == Progress::Tunnel => Poll::Pending,
            Poll::Pending => over.as_mut().poll(cx).map(|()| None),
        })
        .await
    }
}

/// What the client's field says, if it has one and that can be understood.
fn asked_for(is_grpc: bool, fields: &Fields<'_, '_>, lines: Lines) -> Option<Duration> {
    let mut values = lines.iter().map(|line| fields.value(line));
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    if is_grpc { grpc_timeout(value) } else { milliseconds(value) }
}

fn number(digits: &[u8], digits_max: usize) -> Option<u64> {
    let is_number = (1..=digits_max).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| is_number)?.parse().ok()
}

fn milliseconds(value: &[u8]) -> Option<Duration> {
    number(value, DIGITS_READ_MAX).map(Duration::from_millis)
}

/// `TimeoutValue TimeoutUnit` of gRPC's PROTOCOL-HTTP2.md.
fn grpc_timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    let count = number(digits, DIGITS)?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3_600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_clients_ask_for() {
        for (value, expected) in [
            ("5S", Some(Duration::from_secs(5))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("2M", Some(Duration::from_secs(120))),
            ("1500m", Some(Duration::from_millis(1_500))),
            ("7u", Some(Duration::from_micros(7))),
            ("7n", Some(Duration::from_nanos(7))),
            ("0m", Some(Duration::ZERO)),
            ("123456789m", None),
            ("m", None),
            ("5", None),
            ("+5m", None),
            ("5 m", None),
            ("5s", None),
            ("", None),
        ] {
            assert_eq!(grpc_timeout(value.as_bytes()), expected, "{value}");
        }
        for (value, expected) in [
            ("250", Some(Duration::from_millis(250))),
            ("100000000", Some(Duration::from_millis(100_000_000))),
            ("9999999999999", None),
            ("-1", None),
            ("1.5", None),
            ("1e3", None),
            ("", None),
        ] {
            assert_eq!(milliseconds(value.as_bytes()), expected, "{value}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_is_written_each_time() {
        for (is_grpc, expected) in [
            (false, "X: y\r\nX-Request-Timeout-Ms:     2000\r\n\r\n"),
            (true, "X: y\r\ngrpc-timeout:     2000m\r\n\r\n"),
        ] {
            let mut deadline = Deadline {
                at: Instant::now() + Duration::from_secs(5),
                length: Duration::ZERO,
                is_grpc,
                is_wish: false,
                place: 0,
            };
            let mut head = b"X: y\r\n\r\n".to_vec();
            deadline.write(&mut head);
            deadline.stamp(&mut head);
            tokio::time::advance(Duration::from_secs(3)).await;
            deadline.stamp(&mut head);
            assert_eq!(String::from_utf8_lossy(&head), expected);
            tokio::time::advance(Duration::from_secs(3)).await;
            deadline.stamp(&mut head);
            assert!(String::from_utf8_lossy(&head).contains(":        1"), "there is no word for none");
            deadline.at = Instant::now() + Duration::from_secs(1 << 30);
            deadline.stamp(&mut head);
            assert!(String::from_utf8_lossy(&head).contains(": 99999999"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_too_long_ends_and_a_tunnel_does_not() {
        let mut deadline = Deadline {
            at: Instant::now() + Duration::from_millis(10),
            length: Duration::ZERO,
            is_grpc: false,
            is_wish: false,
            place: 0,
        };
        let progress = Cell::default();
        let sleep = |ms| tokio::time::sleep(Duration::from_millis(ms));
        assert_eq!(deadline.bound(&progress, async { 7 }).await, Some(7));
        assert_eq!(deadline.bound(&progress, sleep(1_000)).await, None);
        assert_eq!(deadline.bound(&progress, async { 7 }).await, None, "it is over before it begins");
        deadline.at = Instant::now() + Duration::from_millis(10);
        progress.set(Progress::Tunnel);
        assert_eq!(deadline.bound(&progress, sleep(1_000)).await, Some(()));
    }
}
