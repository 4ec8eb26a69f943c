//! Whether a request is sent again, as its service says it.

use std::time::Duration;

use watt_api::mesh;

use crate::{failures::Failures, http::Method};

/// The wait grows up to this many times.
const BACKOFF_TIMES_MAX: u32 = 10;

/// The rules of one service.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    pub(crate) attempts: u32,
    pub(crate) on: Failures,
    methods: Option<Box<[Box<str>]>>,
    backoff: Duration,
}

impl Retries {
    pub(crate) fn new(rules: &mesh::Retries) -> Retries {
        let methods = |methods: &Vec<String>| methods.iter().map(|method| method.as_str().into()).collect();
        Retries {
            attempts: rules.attempts.max(1),
            on: (&rules.on).into(),
            methods: rules.methods.as_ref().map(methods),
            backoff: Duration::from_millis(rules.backoff_ms),
        }
    }

    /// Whether a request with this method may be sent again although a worker may have acted upon it.
    pub(crate) fn allows(&self, kind: Method, name: &[u8]) -> bool {
        match &self.methods {
            None => kind != Method::Other,
            Some(methods) => {
                // Who reads twice may ask twice, as a route for GET is one for HEAD.
                let is = |other: &[u8]| methods.iter().any(|method| method.as_bytes() == other);
                is(name) || kind == Method::Head && is(b"GET")
            }
        }
    }

    /// How long to wait before the try with this number, of which 1 is the first one after the first: a random part, at least half, so
    /// that many who failed together do not come back together.
    pub(crate) fn wait(&self, again: u32) -> Duration {
        let times =
            1_u32.checked_shl(again.saturating_sub(1)).unwrap_or(u32::MAX).clamp(1, BACKOFF_TIMES_MAX);
        (self.backoff * times).mul_f32(0.5 + fastrand::f32() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failures::Outcome;

    #[test]
    fn methods_and_statuses_are_those_that_were_named() {
        let usual = Retries::new(&mesh::Retries::default());
        assert!(usual.allows(Method::Idempotent, b"PUT") && !usual.allows(Method::Other, b"POST"));
        assert!(!usual.on.have(Outcome::Status(503)) && usual.on.have(Outcome::Reset));
        let methods = Some(vec!["POST".to_owned()]);
        let on = mesh::Failures { statuses: vec![(502, 504), (429, 429)], ..mesh::Failures::default() };
        let named = Retries::new(&mesh::Retries { methods, on, ..mesh::Retries::default() });
        assert!(named.allows(Method::Other, b"POST") && !named.allows(Method::Idempotent, b"GET"));
        assert!(!named.allows(Method::Other, b"post"), "letters matter");
        let only = |method: &str| {
            let methods = Some(vec![method.to_owned()]);
            Retries::new(&mesh::Retries { methods, ..mesh::Retries::default() })
        };
        let (get, head) = (only("GET"), only("HEAD"));
        assert!(get.allows(Method::Head, b"HEAD") && get.allows(Method::Idempotent, b"GET"));
        assert!(head.allows(Method::Head, b"HEAD") && !head.allows(Method::Idempotent, b"GET"));
        assert!(!named.allows(Method::Head, b"HEAD"));
        let found: Vec<u16> = (400..600).filter(|status| named.on.have(Outcome::Status(*status))).collect();
        assert_eq!(found, [429, 502, 503, 504]);
        assert!(![Outcome::Connect, Outcome::Reset, Outcome::Timeout].iter().any(|one| named.on.have(*one)));
    }

    #[test]
    fn waits_grow_to_a_bound_and_vary() {
        let retries = Retries::new(&mesh::Retries { backoff_ms: 100, ..mesh::Retries::default() });
        for (again, full) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1_000), (40, 1_000)] {
            let waits: Vec<Duration> = (0..50).map(|_| retries.wait(again)).collect();
            let range = Duration::from_millis(full / 2)..=Duration::from_millis(full);
            assert!(waits.iter().all(|wait| range.contains(wait)), "{again}: {waits:?}");
            assert!(waits.iter().any(|wait| *wait != waits[0]), "{again}");
        }
    }
}
