//! What becomes of requests that do not go as they should.

use watt_core::plan::{Believed, Failure};

use super::{KeyDef, Kind, NEVER, Preset, Table, Words};

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
        ("duration", "write `backoff`"),
        ("policy", "remove it: each wait is twice the one before"),
        ("maxInterval", "remove it: a wait is ten times the first at most"),
        ("matching", "write its statuses into `on`"),
        ("httpStatusCodes", "write them into `on`"),
        ("gRPCStatusCodes", "write the statuses into `on` that they stand for, such as 503 for UNAVAILABLE"),
        ("budget", "remove it: a fifth of all requests, and ten each second"),
    ],
};

/// What a breaker takes for a failure that does not say it.
pub(crate) const BREAKER_ON: [Failure; 4] =
    [Failure::Connect, Failure::Reset, Failure::Timeout, Failure::Status(500, 599)];

/// Whose requests may say how urgent they are.
pub(crate) static BELIEVED: Words<Believed> = Words(&[
    ("nobody", Believed::Nobody, "all are as urgent"),
    (
        "services",
        Believed::Services,
        "calls of services and operators; what comes in at the gateway is as urgent as what says nothing",
    ),
    ("everybody", Believed::Everybody, "clients of the gateway as well"),
]);

pub(crate) static BREAKER: Table = Table {
    title: "services.NAME.breaker",
    doc: "When the service is not asked for a while, because it fails: requests are answered 503 with reason `breaker_open` at once. One for all workers and all threads of the proxy. [More](http.md#limits-of-a-service)",
    keys: &[
        KeyDef {
            name: "failures",
            kind: Kind::Whole { min: 1, max: 1000 },
            default: Preset::Unset("they are not counted"),
            doc: "It opens also after so many requests in a row that failed. One worker that dies can lose many requests at once.",
            example: "10",
        },
        KeyDef {
            name: "ratio",
            kind: Kind::Percent,
            default: Preset::Value("50%"),
            doc: "It opens when such a part of the requests lately failed.",
            example: r#""20%""#,
        },
        KeyDef {
            name: "min_requests",
            kind: Kind::Whole { min: 1, max: 1_000_000 },
            default: Preset::Value("20"),
            doc: "Fewer than these are too few for a part.",
            example: "100",
        },
        KeyDef {
            name: "window",
            kind: Kind::Duration,
            default: Preset::Value("10s"),
            doc: "For how long a request counts for the part.",
            example: r#""30s""#,
        },
        KeyDef {
            name: "open",
            kind: Kind::Duration,
            default: Preset::Value("5s"),
            doc: "For how long it is open. Then probes are let through.",
            example: r#""30s""#,
        },
        KeyDef {
            name: "probes",
            kind: Kind::Whole { min: 1, max: 1000 },
            default: Preset::Value("1"),
            doc: "How many requests have to succeed then, before all are let through. One that fails opens it again.",
            example: "3",
        },
        KeyDef {
            name: "on",
            kind: Kind::List(&Kind::Either(&[Kind::Words(&FAILURE), Kind::Status])),
            default: Preset::Derived("`[\"connect\", \"reset\", \"timeout\", \"500-599\"]`"),
            doc: "What is a failure, of a request with all its tries: these words, and statuses of the answer.",
            example: r#"["reset", "timeout", 503]"#,
        },
    ],
    foreign: &[
        ("threshold", "write `failures` or `ratio`"),
        ("trip", "write `failures` for `consecutiveFailures`, or `ratio` for a part of the requests"),
        ("consecutiveFailures", "write `failures`"),
        ("interval", "write `window`"),
        ("timeout", "write `open`"),
        ("resetTimeout", "write `open`"),
        ("maxRequests", "write `probes`"),
        ("minRequests", "write `min_requests`"),
    ],
};

pub(crate) static BULKHEAD: Table = Table {
    title: "services.NAME.bulkhead",
    doc: "How many requests the service has at a time, of all callers and all threads of the proxy together. Tunnels count as long as they last. A number alone is `in_flight`. [More](http.md#limits-of-a-service)",
    keys: &[
        KeyDef {
            name: "in_flight",
            kind: Kind::Whole { min: 1, max: 1_000_000 },
            default: Preset::Required,
            doc: "So many, waiting for a worker included.",
            example: "100",
        },
        KeyDef {
            name: "queue",
            kind: Kind::Whole { min: 0, max: 1_000_000 },
            default: Preset::Value("100"),
            doc: "So many wait beyond; more are answered 503 with reason `bulkhead_full`.",
            example: "1000",
        },
        KeyDef {
            name: "queue_timeout",
            kind: Kind::Duration,
            default: Preset::Value("1s"),
            doc: "Each of them for so long; then it is answered 503 with reason `queue_timeout`.",
            example: r#""5s""#,
        },
        KeyDef {
            name: "priority",
            kind: Kind::Words(&BELIEVED),
            default: Preset::Value("nobody"),
            doc: "Whose word counts on how urgent a request is: `Priority: u=0` (RFC 9218) is the most, `u=7` the least, 3 what says nothing. The most urgent is next; in a full queue the least urgent, of those the last one, makes room, and is answered 503 with reason `shed`.",
            example: r#""services""#,
        },
    ],
    foreign: &[
        ("max", "write `in_flight`"),
        ("concurrency", "write `in_flight`"),
        ("max_in_flight", "write `in_flight`"),
        ("maxConcurrent", "write `in_flight`"),
        ("max_queue", "write `queue`"),
        ("timeout", "write `queue_timeout`"),
    ],
};

/// How requests are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BalanceBy {
    TwoChoices,
    RoundRobin,
    LeastLatency,
    Hash,
    Sticky,
}

pub(crate) static BALANCE_BY: Words<BalanceBy> = Words(&[
    ("p2c", BalanceBy::TwoChoices, "two are drawn by lot, and the one with fewer requests in flight gets it"),
    ("round_robin", BalanceBy::RoundRobin, "in turn, on each thread of the proxy"),
    (
        "least_latency",
        BalanceBy::LeastLatency,
        "two are drawn by lot, and the one gets it that answers sooner: by how long its answers took of late, a slow one at once and fast ones \
         little by little, times its requests in flight",
    ),
    (
        "hash",
        BalanceBy::Hash,
        "requests with the same `of`, `header` or `cookie` go to the same worker; when workers come or go, only those move that were theirs",
    ),
    (
        "sticky",
        BalanceBy::Sticky,
        "a client goes where it was before, which a cookie says that it gets with the first answer",
    ),
]);

/// What is hashed unless it is a header or a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HashOf {
    Address,
    Path,
}

pub(crate) static HASH_OF: Words<HashOf> = Words(&[
    ("address", HashOf::Address, "the client's address; calls in the mesh have none"),
    ("path", HashOf::Path, "the path as the client sent it, without the query"),
]);

pub(crate) static BALANCE: Table = Table {
    title: "services.NAME.balance",
    doc: "How requests are spread over the workers. The word of `by` alone is enough. What has no `header` or `cookie` goes as by `p2c`, and so does what cannot go where it should.",
    keys: &[
        KeyDef {
            name: "by",
            kind: Kind::Words(&BALANCE_BY),
            default: Preset::Value("p2c"),
            doc: "Which worker gets a request.",
            example: r#""hash""#,
        },
        KeyDef {
            name: "of",
            kind: Kind::Words(&HASH_OF),
            default: Preset::Derived("`address`, of `hash` without `header` and `cookie`"),
            doc: "What is hashed.",
            example: r#""path""#,
        },
        KeyDef {
            name: "header",
            kind: Kind::Text,
            default: Preset::Unset("none"),
            doc: "The header that is hashed.",
            example: r#""X-Tenant""#,
        },
        KeyDef {
            name: "cookie",
            kind: Kind::Text,
            default: Preset::Derived("the service's name and `_worker`, of `sticky`"),
            doc: "The cookie that is hashed, or that `sticky` has clients bring back: it is the number of a worker. Each service has one of its own.",
            example: r#""cart""#,
        },
    ],
    foreign: &[
        ("strategy", "write `by`"),
        ("policy", "write `by`"),
        ("method", "write `by`"),
        ("algorithm", "write `by`"),
        ("key", "write `of`, `header` or `cookie`"),
        ("name", "write `header` or `cookie`"),
        ("weight", "write `services: { NAME: WEIGHT }` into a route: the workers of a service are all alike"),
        (
            "weights",
            "write `services: { NAME: WEIGHT }` into a route: the workers of a service are all alike",
        ),
    ],
};

pub(crate) static EJECTION: Table = Table {
    title: "services.NAME.ejection",
    doc: "When a worker that fails gets no requests for a while. Never more than half of the ready workers, and none that is alone. `failures` alone, or `never`, is enough. [More](http.md#workers-that-fail)",
    keys: &[
        KeyDef {
            name: "failures",
            kind: Kind::Either(&[Kind::Whole { min: 1, max: 1000 }, Kind::Words(&NEVER)]),
            default: Preset::Value("5"),
            doc: "So many requests in a row that failed there, from whatever client.",
            example: "10",
        },
        KeyDef {
            name: "on",
            kind: Kind::List(&Kind::Either(&[Kind::Words(&FAILURE), Kind::Status])),
            default: Preset::Derived("`[\"connect\", \"reset\", \"timeout\"]`"),
            doc: "What is a failure, of each try: these words, and statuses of the answer. Everything else that a worker answers is a success.",
            example: r#"["connect", "reset", "timeout", "500-599"]"#,
        },
        KeyDef {
            name: "first",
            kind: Kind::Duration,
            default: Preset::Value("10s"),
            doc: "How long it is left out the first time. Then one more failure is enough as long as nothing succeeds. Doubled each time, until it has been well for as long as it was out.",
            example: r#""30s""#,
        },
        KeyDef {
            name: "max",
            kind: Kind::Duration,
            default: Preset::Value("5m"),
            doc: "How long it is left out at most.",
            example: r#""1m""#,
        },
    ],
    foreign: &[
        ("consecutive_5xx", "write `failures`, and the statuses into `on`"),
        ("consecutiveErrors", "write `failures`"),
        ("max_fails", "write `failures`"),
        ("fail_timeout", "write `first`"),
        ("base_ejection_time", "write `first`"),
        ("time", "write `first`"),
        ("max_ejection_percent", "remove it: never more than half"),
    ],
};
