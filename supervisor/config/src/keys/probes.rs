//! The tables of what is looked at in a worker.

use super::{KeyDef, Kind, NEVER, Preset, Table};

/// How often a check is repeated, how long one may take, and how many may fail.
pub(crate) const INTERVAL: &str = "10s";
pub(crate) const FAILURES: &str = "3";

const FAILURES_KIND: Kind = Kind::Whole { min: 1, max: 1000 };

const HTTP: KeyDef = KeyDef {
    name: "http",
    kind: Kind::Either(&[Kind::UrlPath, Kind::Table(&HTTP_CHECK)]),
    default: Preset::Unset("not asked"),
    doc: "A GET of this path is answered with a status from 200 to 399, or as the table says.",
    example: r#""/healthz""#,
};

const fn tcp(default: Preset) -> KeyDef {
    KeyDef {
        name: "tcp",
        kind: Kind::Bool,
        default,
        doc: "With `true`: it accepts a connection.",
        example: "true",
    }
}

/// How long a check of a ready worker may take, and one that starts a program.
pub(crate) const TIMEOUT: &str = "1s";
pub(crate) const EXEC_TIMEOUT: &str = "5s";

const EXEC: KeyDef = KeyDef {
    name: "exec",
    kind: Kind::Command,
    default: Preset::Unset("not run"),
    doc: "A command, run inside the worker's walls as by `wattctl exec`, ends with exit status 0. No shell is run. What it leaves behind is killed.",
    example: r#"["pg_isready", "-q"]"#,
};

pub(crate) static HTTP_CHECK: Table = Table {
    title: "services.NAME.ready.http",
    doc: "A GET and the answer that passes. `startup.http` and `health.http` are the same.",
    keys: &[
        KeyDef {
            name: "path",
            kind: Kind::UrlPath,
            default: Preset::Value("/"),
            doc: "What is asked for.",
            example: r#""/healthz""#,
        },
        KeyDef {
            name: "status",
            kind: Kind::Status,
            default: Preset::Value("200-399"),
            doc: "The status of the answer: one, or the lowest and the highest.",
            example: r#""200-299""#,
        },
        KeyDef {
            name: "headers",
            kind: Kind::Variables,
            default: Preset::Unset("none"),
            doc: "Fields of the request. `Host` is the service's name in the mesh unless it is here.",
            example: r#"{"Authorization": "Bearer probe"}"#,
        },
        KeyDef {
            name: "body",
            kind: Kind::Pattern,
            default: Preset::Unset("any"),
            doc: "The answer's body contains a match of this regular expression. Its first 64K are looked at.",
            example: r#""ok""#,
        },
    ],
    foreign: &[("url", "write `path`"), ("port", "remove it: the worker is reached as `listen` says")],
};

pub(crate) static GRPC_CHECK: Table = Table {
    title: "services.NAME.ready.grpc",
    doc: "A call of `grpc.health.v1.Health/Check`. `startup.grpc` and `health.grpc` are the same.",
    keys: &[
        KeyDef {
            name: "service",
            kind: Kind::Text,
            default: Preset::Unset("the server as a whole"),
            doc: "Which service of the server is asked about.",
            example: r#""shop.Cart""#,
        },
        KeyDef {
            name: "authority",
            kind: Kind::Text,
            default: Preset::Derived("the service's name in the mesh"),
            doc: "The `:authority` of the call.",
            example: r#""cart.example.org""#,
        },
    ],
    foreign: &[("port", "remove it: the worker is reached as `listen` says")],
};

const GRPC: KeyDef = KeyDef {
    name: "grpc",
    kind: Kind::Either(&[Kind::Bool, Kind::Table(&GRPC_CHECK)]),
    default: Preset::Unset("not called"),
    doc: "With `true`, or as the table says: the standard health service of gRPC answers `SERVING`, over HTTP/2 without TLS.",
    example: "true",
};

pub(crate) static STARTUP: Table = Table {
    title: "services.NAME.startup",
    doc: "A check that is repeated until it passes once. Then readiness is looked for, and `ready.timeout` begins.",
    keys: &[
        HTTP,
        tcp(Preset::Derived("`true` where nothing else is written")),
        GRPC,
        EXEC,
        KeyDef {
            name: "timeout",
            kind: Kind::Duration,
            default: Preset::Value("5m"),
            doc: "A worker that has not passed after this time is stopped and counts as failed.",
            example: r#""10m""#,
        },
    ],
    foreign: &[("cmd", "write `exec`"), ("command", "write `exec`")],
};

pub(crate) static READINESS: Table = Table {
    title: "services.NAME.ready",
    doc: "One sign of readiness, and how long it may take. Without a sign: `listening`, or `started` where `listen` is `none`. `http`, `tcp`, `grpc` and `exec` are repeated when they have passed: a worker that fails then gets no requests until it passes again, and goes on running.",
    keys: &[
        HTTP,
        tcp(Preset::Unset("not tried")),
        GRPC,
        EXEC,
        KeyDef {
            name: "log",
            kind: Kind::Pattern,
            default: Preset::Unset("not looked for"),
            doc: "A line of its output contains a match of this regular expression.",
            example: r#""listening on""#,
        },
        KeyDef {
            name: "notify",
            kind: Kind::Bool,
            default: Preset::Unset("not waited for"),
            doc: "With `true`: it sends `READY=1` to `$NOTIFY_SOCKET` (sd_notify).",
            example: "true",
        },
        KeyDef {
            name: "notification_fd",
            kind: Kind::Whole { min: 3, max: 1023 },
            default: Preset::Unset("not waited for"),
            doc: "It writes a line break to the descriptor of this number, which it inherits, as programs do that are made for s6.",
            example: "3",
        },
        KeyDef {
            name: "listening",
            kind: Kind::Bool,
            default: Preset::Derived("`true`, unless `listen` is `none`"),
            doc: "With `true`: the kernel shows it listening.",
            example: "true",
        },
        KeyDef {
            name: "started",
            kind: Kind::Bool,
            default: Preset::Derived("`true` where `listen` is `none`"),
            doc: "With `true`: its program runs.",
            example: "true",
        },
        KeyDef {
            name: "timeout",
            kind: Kind::Duration,
            default: Preset::Value("1m"),
            doc: "A worker that is not ready after this time is stopped and counts as failed.",
            example: r#""30s""#,
        },
        KeyDef {
            name: "interval",
            kind: Kind::Either(&[Kind::Duration, Kind::Words(&NEVER)]),
            default: Preset::Derived("`10s` with `http`, `tcp`, `grpc` and `exec`"),
            doc: "How long after a check the next one follows, once it has passed. Each may take as long, at most 10 seconds.",
            example: r#""30s""#,
        },
        KeyDef {
            name: "failures",
            kind: FAILURES_KIND,
            default: Preset::Derived("`3` with `http`, `tcp`, `grpc` and `exec`"),
            doc: "So many in a row that fail take a worker out. One that passes brings it back.",
            example: "1",
        },
    ],
    foreign: &[
        ("cmd", "write `exec`"),
        ("command", "write `exec`"),
        ("notification-fd", "write `notification_fd`"),
        ("fd", "write `notification_fd`"),
        ("port", "remove it: the worker is reached as `listen` says"),
    ],
};

pub(crate) static HEALTH: Table = Table {
    title: "services.NAME.health",
    doc: "One sign of health.",
    keys: &[
        HTTP,
        tcp(Preset::Derived("`true` where nothing else is written")),
        GRPC,
        EXEC,
        KeyDef {
            name: "watchdog",
            kind: Kind::Duration,
            default: Preset::Unset("not waited for"),
            doc: "It sends `WATCHDOG=1` to `$NOTIFY_SOCKET` at least this often (sd_notify), which it is told by `$WATCHDOG_USEC`.",
            example: r#""30s""#,
        },
        KeyDef {
            name: "interval",
            kind: Kind::Duration,
            default: Preset::Derived("`10s`, but for `watchdog`"),
            doc: "How long after a check the next one follows.",
            example: r#""30s""#,
        },
        KeyDef {
            name: "timeout",
            kind: Kind::Duration,
            default: Preset::Derived("`1s`, with `exec` `5s`"),
            doc: "How long a check may take. A command is killed then, with everything it started.",
            example: r#""3s""#,
        },
        KeyDef {
            name: "failures",
            kind: FAILURES_KIND,
            default: Preset::Derived("`3`, but for `watchdog`"),
            doc: "So many in a row that fail are one too many.",
            example: "5",
        },
    ],
    foreign: &[
        ("cmd", "write `exec`"),
        ("command", "write `exec`"),
        ("test", "write `exec`, without `CMD`"),
        ("retries", "write `failures`"),
        ("start_period", "write `startup: { …, timeout: … }`"),
        ("port", "remove it: the worker is reached as `listen` says"),
    ],
};
