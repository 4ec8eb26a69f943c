//! Requests that were lost with their worker and could not be sent again. Each is named, so that whoever has to put it right
//! knows which: a POST that nobody can say of whether it was acted upon, a response that broke off.

use std::{cell::Cell, time::Duration};

use tokio::time::Instant;

/// A request that a worker had, and that was not answered to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostRequest {
    /// The service that it was for.
    pub service: String,
    /// The run that had it.
    pub run: u64,
    /// Its method.
    pub method: String,
    /// Its path as the worker got it, without the query, which may hold what is nobody's business.
    pub path: String,
    /// How it was lost, in words.
    pub reason: String,
}

/// The longest method and path that are told, in bytes.
const METHOD_MAX: usize = 32;
const PATH_MAX: usize = 256;

impl LostRequest {
    /// `head` is what was sent to the worker.
    pub(crate) fn new(service: &str, run: u64, head: &[u8], reason: String) -> LostRequest {
        let mut words = head.split(|byte| *byte == b' ');
        let word = |word: Option<&[u8]>, max: usize| {
            let word = word.unwrap_or_default();
            String::from_utf8_lossy(&word[..word.len().min(max)]).into_owned()
        };
        let method = word(words.next(), METHOD_MAX);
        let path = words.next().map(|target| target.split(|byte| *byte == b'?').next().unwrap_or_default());
        LostRequest { service: service.to_owned(), run, method, path: word(path, PATH_MAX), reason }
    }
}

/// How many are told in a row, and how long it takes until as many may be told again.
const AT_A_TIME: u32 = 256;
const PERIOD: Duration = Duration::from_secs(10);

/// What one thread told lately: a worker that loses each request must not fill the event stream.
#[derive(Debug, Default)]
pub(crate) struct Told {
    count: Cell<u32>,
    since: Cell<Option<Instant>>,
}

impl Told {
    /// Whether one more is to be told now.
    pub(crate) fn one_more(&self) -> bool {
        let now = Instant::now();
        if self.since.get().is_none_or(|since| now.duration_since(since) >= PERIOD) {
            self.since.set(Some(now));
            self.count.set(0);
        }
        self.count.set(self.count.get().saturating_add(1));
        self.count.get() <= AT_A_TIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_named_without_what_it_asked_for() {
        let check = |head: &str, expected: [&str; 2]| {
            let lost = LostRequest::new("api", 7, head.as_bytes(), String::new());
            assert_eq!([&lost.method[..], &lost.path[..]], expected);
        };
        check("POST /orders/7?token=secret HTTP/1.1\r\nHost: x\r\n\r\n", ["POST", "/orders/7"]);
        check("GET / HTTP/1.1\r\n\r\n", ["GET", "/"]);
        check("", ["", ""]);
        let long = format!("{} /{} HTTP/1.1\r\n", "M".repeat(1_000), "p".repeat(10_000));
        check(&long, [&"M".repeat(METHOD_MAX), &format!("/{}", "p".repeat(PATH_MAX - 1))]);
    }

    #[tokio::test(start_paused = true)]
    async fn many_are_told_and_not_all_of_a_flood() {
        let told = Told::default();
        assert_eq!((0..10_000).filter(|_| told.one_more()).count(), 256);
        tokio::time::advance(PERIOD).await;
        assert_eq!((0..10_000).filter(|_| told.one_more()).count(), 256);
    }
}
