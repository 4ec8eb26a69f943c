//! What becomes of requests that do not go as they should.

use watt_core::plan::Failure;

use super::{KeyDef, Kind, Preset, Table, Words};

/// The most that a request is sent.
pub(crate) const ATTEMPTS_MAX: u64 = 10;

/// What a request may come to, besides statuses.
pub(crate) static FAILURE: Words<Failure> = Words(&[
    ("connect", Failure::Connect, "no worker took a byte of the request; with any method"),
    ("reset", Failure::Reset, "the worker went away before it answered"),
    ("timeout", Failure::Timeout, "it did not begin to answer within `timeouts.per_try`"),
]);

pub(crate) static RETRIES: Table = Table {
    title: "services.NAME.retries",
    doc: "When a request is sent again, to another worker if there is one. Only while all of it is at hand: its head, and a body of up to 64 KB. Of all requests a fifth, and ten each second, for each thread of the proxy. [More](http.md#sent-again)",
    keys: &[
        KeyDef {
            name: "attempts",
            kind: Kind::Whole { min: 1, max: ATTEMPTS_MAX },
            default: Preset::Value("3"),
            doc: "How often it is sent at most, the first time included; 1 is never again.",
            example: "2",
        },
        KeyDef {
            name: "on",
            kind: Kind::List(&Kind::Either(&[Kind::Words(&FAILURE), Kind::Status])),
            default: Preset::Derived("`[\"connect\", \"reset\", \"timeout\"]`"),
            doc: "What it is sent again after: these words, and statuses of the answer. An answer of gRPC without a message counts as the status that its own stands for: UNAVAILABLE as 503, DEADLINE_EXCEEDED as 504, RESOURCE_EXHAUSTED as 429.",
            example: r#"["connect", "reset", "502-504"]"#,
        },
        KeyDef {
            name: "methods",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("GET, HEAD, OPTIONS, TRACE, PUT and DELETE, which may be done twice"),
            doc: "The methods of requests that may be sent again although a worker may have acted upon them. gRPC's is POST.",
            example: r#"["GET", "HEAD", "POST"]"#,
        },
        KeyDef {
            name: "backoff",
            kind: Kind::Duration,
            default: Preset::Value("25ms"),
            doc: "How long it waits after an answer, or after none in time; doubled each time up to tenfold, and of that a random part, at least half. After a lost worker it does not wait.",
            example: r#""100ms""#,
        },
    ],
    foreign: &[
        ("max", "write `attempts`"),
        ("maxRetries", "write `attempts`, which counts the first one too"),
        ("max_retries", "write `attempts`, which counts the first one too"),
        ("num_retries", "write `attempts`, which counts the first one too"),
        ("count", "write `attempts`, which counts the first one too"),
        ("retry_on", "write `on`"),
        ("statuses", "write them into `on`"),
        ("status", "write it into `on`"),
        ("timeout", "write `per_try` inside `timeouts`"),
        ("per_try_timeout", "write `per_try` inside `timeouts`"),
        ("interval", "write `backoff`"),
        ("budget", "remove it: a fifth of all requests, and ten each second"),
    ],
};
