//! What the mesh does with a service's requests when they do not go as they should.

use std::{num::NonZeroU32, time::Duration};

/// How requests to a service are sent, and sent again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traffic {
    /// When a request is sent again.
    pub retries: Retries,
    /// When the service is not asked for a while, because it fails.
    pub breaker: Option<Breaker>,
    /// How many requests it has at a time.
    pub bulkhead: Option<Bulkhead>,
    /// How requests are spread over its workers.
    pub balance: Balance,
    /// When one of those is left out for a while.
    pub ejection: Option<Ejection>,
}

/// How requests are spread over a service's workers, which are all alike.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Balance {
    /// To the one of two drawn by lot that has fewer requests in flight.
    #[default]
    TwoChoices,
    /// In turn.
    RoundRobin,
    /// To the one of two drawn by lot that has answered sooner of late, times its requests in flight.
    LeastLatency,
    /// Those that have the same of something to the same one.
    Hash(HashKey),
    /// Each client's to the one that had it first, which a cookie of this name says.
    Sticky(String),
}

/// What decides, of a request, which worker gets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashKey {
    /// The client's address.
    Address,
    /// The path, without the query.
    Path,
    /// The header of this name, in lower case.
    Header(String),
    /// The cookie of this name.
    Cookie(String),
}

/// When a worker that fails gets no requests for a while. Never more than half of a service's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ejection {
    /// So many failures in a row.
    pub failures: u32,
    /// What is a failure.
    pub on: Vec<Failure>,
    /// How long it is left out the first time. Doubled each time until it has been well for as long as it was out.
    pub first: Duration,
    /// And at most.
    pub max: Duration,
}

impl Default for Ejection {
    fn default() -> Self {
        Ejection {
            failures: 5,
            on: vec![Failure::Connect, Failure::Reset, Failure::Timeout],
            first: Duration::from_secs(10),
            max: Duration::from_secs(300),
        }
    }
}

/// When a service that fails is not asked for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breaker {
    /// So many failures in a row.
    pub failures: Option<NonZeroU32>,
    /// Such a part of the requests of the last [`Self::window`], in percent.
    pub ratio_percent: u32,
    /// Of so many at least.
    pub requests_min: u32,
    /// How long a request counts for the part.
    pub window: Duration,
    /// How long nothing is let through.
    pub open: Duration,
    /// How many requests have to succeed after that, and are let through until they have.
    pub probes: u32,
    /// What is a failure.
    pub on: Vec<Failure>,
}

/// How many requests a service has at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bulkhead {
    /// So many.
    pub in_flight_max: u32,
    /// So many wait beyond.
    pub queue_max: u32,
    /// Each of them for so long.
    pub queue_timeout: Duration,
    /// Whose word counts on how urgent a request is.
    pub believes: Believed,
}

/// Whose requests may say of themselves how urgent they are, by the field `Priority` (RFC 9218).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Believed {
    /// Nobody's.
    Nobody,
    /// Those of services and operators.
    Services,
    /// Those of clients outside as well.
    Everybody,
}

/// When a request is sent again, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// How often it is sent at most, the first time included.
    pub attempts: u32,
    /// After which failures, without one twice.
    pub on: Vec<Failure>,
    /// The methods of requests that may be sent again although a worker may have acted upon them; `None`: those that are idempotent
    /// (RFC 9110 §9.2.2).
    pub methods: Option<Vec<String>>,
    /// How long the first repetition waits that follows an answer, or the lack of one. Doubled each time.
    pub backoff: Duration,
}

/// What a request may come to instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No worker took a byte of it.
    Connect,
    /// The worker went away before it answered.
    Reset,
    /// The worker did not answer within [`Timeouts::per_try`](super::Timeouts::per_try).
    Timeout,
    /// The worker answered with a status from the first to the last.
    Status(u16, u16),
}

impl Default for Retries {
    fn default() -> Self {
        Retries {
            attempts: 3,
            on: vec![Failure::Connect, Failure::Reset, Failure::Timeout],
            methods: None,
            backoff: Duration::from_millis(25),
        }
    }
}
