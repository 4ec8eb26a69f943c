//! What the mesh does with a service's requests when they do not go as they should.

use std::time::Duration;

/// How requests to a service are sent, and sent again.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traffic {
    /// When a request is sent again.
    pub retries: Retries,
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
