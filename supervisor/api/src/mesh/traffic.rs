//! What the proxy does with a service's requests when they do not go as they should.

use schemars::JsonSchema;
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
    /// When the service is not asked for a while.
    pub breaker: Option<Breaker>,
    /// How many requests it has at a time, from all threads.
    pub bulkhead: Option<Bulkhead>,
    /// How requests are spread over its workers.
    pub balance: Balance,
    /// When one of those is left out for a while; `None` is never.
    pub ejection: Option<Ejection>,
}

/// As `watt_core::plan::Ejection`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ejection {
    /// So many failures in a row.
    pub failures: u32,
    /// What is a failure.
    pub on: Failures,
    /// How long the worker is out the first time, in milliseconds.
    pub first_ms: u64,
    /// And at most.
    pub max_ms: u64,
}

impl Default for Ejection {
    fn default() -> Self {
        Ejection {
            failures: 5,
            on: Failures { connect: true, reset: true, timeout: true, statuses: Vec::new() },
            first_ms: 10_000,
            max_ms: 300_000,
        }
    }
}

/// As `watt_core::plan::Balance`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Balance {
    /// To the one of two drawn by lot that has fewer requests in flight.
    #[default]
    P2c,
    /// In turn.
    RoundRobin,
    /// To the one of two drawn by lot that answers sooner.
    LeastLatency,
    /// Those with the same key to the same one.
    Hash {
        /// What is hashed.
        key: HashKey,
    },
    /// Each client's to one.
    Sticky {
        /// The name of the cookie that says which one.
        cookie: String,
    },
}

/// As `watt_core::plan::HashKey`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HashKey {
    /// The client's address.
    Address,
    /// The path, without the query.
    Path,
    /// A header.
    Header {
        /// Its name, in lower case.
        name: String,
    },
    /// A cookie.
    Cookie {
        /// Its name.
        name: String,
    },
}

/// As `watt_core::plan::Breaker`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Breaker {
    /// So many failures in a row; 0 is that they are not counted.
    pub failures: u32,
    /// Such a part of the requests lately; 0 is that it is not looked at.
    pub ratio_percent: u32,
    /// Of so many at least.
    pub requests_min: u32,
    /// How long a request counts for the part, in milliseconds.
    pub window_ms: u64,
    /// How long nothing is let through, in milliseconds.
    pub open_ms: u64,
    /// How many requests have to succeed after that.
    pub probes: u32,
    /// What is a failure.
    pub on: Failures,
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker {
            failures: 0,
            ratio_percent: 50,
            requests_min: 20,
            window_ms: 10_000,
            open_ms: 5_000,
            probes: 1,
            on: Failures { connect: true, reset: true, timeout: true, statuses: vec![(500, 599)] },
        }
    }
}

/// As `watt_core::plan::Bulkhead`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Bulkhead {
    /// So many are in flight.
    pub in_flight_max: usize,
    /// So many wait beyond.
    pub queue_max: usize,
    /// Each of them for so long, in milliseconds.
    pub queue_timeout_ms: u64,
    /// Whose word counts on how urgent a request is.
    pub believes: Believed,
}

/// Whose requests may say how urgent they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Believed {
    /// Nobody's.
    #[default]
    Nobody,
    /// Those of services and operators.
    Services,
    /// Those of clients outside as well.
    Everybody,
}

/// Something that went wrong at a service, for the event stream. The kind is a word and no enum, so that either end may be older.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The service.
    pub service: String,
    /// The worker's run, where it is about one.
    #[serde(default)]
    pub run: Option<u64>,
    /// `circuit_opened`, `circuit_closed`, `requests_refused`, `worker_ejected`, `worker_returned`.
    pub kind: String,
    /// A word for programs: why.
    #[serde(default)]
    pub reason: String,
    /// One sentence for people.
    pub text: String,
    /// Of how many requests it is.
    #[serde(default)]
    pub count: u64,
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
