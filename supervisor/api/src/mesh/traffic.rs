//! What the proxy does with a service's requests when they do not go as they should.

use serde::{Deserialize, Serialize};

/// As `watt_core::plan::Traffic`, with the timeouts of whole requests.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Traffic {
    /// From a request's head to the last byte of its response, in milliseconds; 0 is no limit.
    pub total_timeout_ms: u64,
    /// From a request that is sent to a worker to the response's head, in milliseconds, before another worker is asked; 0 is no
    /// limit.
    pub try_timeout_ms: u64,
    /// When a request is sent again.
    pub retries: Retries,
}

/// What a request may come to instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Failures {
    /// No worker took a byte of it.
    pub connect: bool,
    /// Its worker went away before it answered.
    pub reset: bool,
    /// Its worker did not answer in time.
    pub timeout: bool,
    /// An answer with one of these: the lowest and the highest of each range.
    pub statuses: Vec<(u16, u16)>,
}

/// When a request is sent again, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Retries {
    /// How often it is sent at most, the first time included.
    pub attempts: u32,
    /// After what.
    pub on: Failures,
    /// The methods that may be sent again although a worker may have acted; `None`: those that are idempotent.
    pub methods: Option<Vec<String>>,
    /// The wait before the first repetition after an answer, or after none in time, in milliseconds.
    pub backoff_ms: u64,
}

/// What the proxy did before this could be said.
impl Default for Retries {
    fn default() -> Self {
        Retries {
            attempts: 3,
            on: Failures { connect: true, reset: true, timeout: true, statuses: Vec::new() },
            methods: None,
            backoff_ms: 25,
        }
    }
}
