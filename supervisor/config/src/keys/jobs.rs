//! The tables of jobs.

use super::{CATCH_UP, KeyDef, Kind, METHOD, NEVER, OVERLAP, Preset, Table};

/// How long a call may take that does not say it.
pub(crate) const CALL_TIMEOUT: &str = "1m";

pub(crate) static JOB: Table = Table {
    title: "jobs.NAME",
    doc: "Work that is done at certain times, for a service: a command in its sandbox, or a request to it. docs/jobs.md has what happens when.",
    keys: &[
        KeyDef {
            name: "service",
            kind: Kind::ServiceName,
            default: Preset::Required,
            doc: "The service that it is a job of.",
            example: r#""api""#,
        },
        KeyDef {
            name: "command",
            kind: Kind::Command,
            default: Preset::Unset("`http` says what is done"),
            doc: "Runs a program in a new sandbox of the service: a list, or text that is split as a shell would. Exit status 0 is success. It finds `$WATT_JOB` and `$WATT_INSTANT`, the time that it is for.",
            example: r#"["node", "report.js"]"#,
        },
        KeyDef {
            name: "http",
            kind: Kind::Either(&[Kind::UrlPath, Kind::Table(&CALL)]),
            default: Preset::Unset("`command` says what is done"),
            doc: "Sends the service a request, over the mesh. A status from 200 to 299 is success. A path alone is a GET.",
            example: r#"{"method": "POST", "path": "/tick"}"#,
        },
        KeyDef {
            name: "schedule",
            kind: Kind::Schedule,
            default: Preset::Required,
            doc: "When, as cron has it: minute, hour, day of the month, month, day of the week, or six fields with the second first; or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.",
            example: r#""0 3 * * *""#,
        },
        KeyDef {
            name: "timezone",
            kind: Kind::TimeZone,
            default: Preset::Value("UTC"),
            doc: "The place whose clocks the schedule is about, as the IANA's database names it.",
            example: r#""Europe/Berlin""#,
        },
        KeyDef {
            name: "jitter",
            kind: Kind::Duration,
            default: Preset::Value("0s"),
            doc: "Each firing is put off by less than this, at random. Shorter than the time between two firings.",
            example: r#""30s""#,
        },
        KeyDef {
            name: "overlap",
            kind: Kind::Words(&OVERLAP),
            default: Preset::Value("forbid"),
            doc: "What becomes of a firing while an earlier one is under way.",
            example: r#""replace""#,
        },
        KeyDef {
            name: "catch_up",
            kind: Kind::Either(&[Kind::Words(&CATCH_UP), Kind::Table(&CATCHING_UP)]),
            default: Preset::Value("skip"),
            doc: "What is made up for of firings that were missed: watt did not run, the host slept, the clock was set forward.",
            example: r#"{"mode": "one", "within": "6h"}"#,
        },
        KeyDef {
            name: "timeout",
            kind: Kind::Either(&[Kind::Duration, Kind::Words(&NEVER)]),
            default: Preset::Derived("`1m` for a call, `never` for a command"),
            doc: "How long a command, or one attempt of a call, may take. A command is stopped then as its service is.",
            example: r#""5m""#,
        },
        KeyDef {
            name: "retries",
            kind: Kind::Whole { min: 0, max: RETRIES_MAX },
            default: Preset::Value("0"),
            doc: "How often a call that fails is sent again, after 100ms, 200ms, 400ms and so on. With `0` a request is never sent twice.",
            example: "3",
        },
        KeyDef {
            name: "history",
            kind: Kind::Whole { min: 1, max: HISTORY_MAX },
            default: Preset::Value("20"),
            doc: "How many firings that have ended are remembered.",
            example: "100",
        },
        KeyDef {
            name: "enabled",
            kind: Kind::Bool,
            default: Preset::Value("true"),
            doc: "With `false` there is no such job.",
            example: "false",
        },
    ],
    foreign: &[
        ("cron", "write `schedule`"),
        ("tz", "write `timezone`"),
        ("time_zone", "write `timezone`"),
        ("callbackUrl", "write `service` and `http`"),
        ("maxRetries", "write `retries`"),
        ("concurrency", "write `overlap`"),
        ("url", "write `service` and `http`"),
        ("path", "write `http: { path: … }`"),
        ("method", "write it inside `http`"),
        ("headers", "write it inside `http`"),
        ("body", "write it inside `http`"),
    ],
};

/// How often a call may be repeated.
pub(crate) const RETRIES_MAX: u64 = 100;

/// How much may be remembered of a job.
pub(crate) const HISTORY_MAX: u64 = 1000;

pub(crate) static CALL: Table = Table {
    title: "jobs.NAME.http",
    doc: "A request. It has the fields `X-Watt-Job`, the job's name, `X-Watt-Instant`, the time that it is for, and `X-Retry-Attempt`, how often it was sent before.",
    keys: &[
        KeyDef {
            name: "method",
            kind: Kind::Words(&METHOD),
            default: Preset::Value("GET"),
            doc: "Its method.",
            example: r#""POST""#,
        },
        KeyDef {
            name: "path",
            kind: Kind::UrlPath,
            default: Preset::Value("/"),
            doc: "Path and query.",
            example: r#""/tick""#,
        },
        KeyDef {
            name: "headers",
            kind: Kind::Variables,
            default: Preset::Unset("none"),
            doc: "Fields of its head. `Host` is the service's name in the mesh unless it is here.",
            example: r#"{"Content-Type": "application/json"}"#,
        },
        KeyDef {
            name: "body",
            kind: Kind::Text,
            default: Preset::Unset("none"),
            doc: "Its body.",
            example: r#""{\"force\": true}""#,
        },
    ],
    foreign: &[("url", "write `path`; the service is the job's"), ("retries", "write it beside `http`")],
};

pub(crate) static CATCHING_UP: Table = Table {
    title: "jobs.NAME.catch_up",
    doc: "What is made up for.",
    keys: &[
        KeyDef {
            name: "mode",
            kind: Kind::Words(&CATCH_UP),
            default: Preset::Value("skip"),
            doc: "Which ones.",
            example: r#""one""#,
        },
        KeyDef {
            name: "within",
            kind: Kind::Duration,
            default: Preset::Derived("`1d` with `one` and `all`"),
            doc: "None that is longer ago than this.",
            example: r#""6h""#,
        },
    ],
    foreign: &[("deadline", "write `within`")],
};

pub(crate) static SCHEDULED: Table = Table {
    title: "scheduler",
    doc: "A job as Platformatic writes it: a call with the clocks of UTC and `overlap: forbid`. What can be written here can be written in `jobs` as well.",
    keys: &[
        KeyDef {
            name: "name",
            kind: Kind::Text,
            default: Preset::Required,
            doc: "Its name. As a job it has the nearest one of a-z, 0-9, `-` and `_`: `Clean up` is `clean-up`.",
            example: r#""tick""#,
        },
        KeyDef {
            name: "cron",
            kind: Kind::Schedule,
            default: Preset::Required,
            doc: "When.",
            example: r#""*/5 * * * *""#,
        },
        KeyDef {
            name: "callbackUrl",
            kind: Kind::MeshUrl,
            default: Preset::Required,
            doc: "Where the request goes: to a service of the mesh.",
            example: r#""http://api.plt.local/tick""#,
        },
        KeyDef {
            name: "method",
            kind: Kind::Words(&METHOD),
            default: Preset::Value("GET"),
            doc: "Its method.",
            example: r#""POST""#,
        },
        KeyDef {
            name: "headers",
            kind: Kind::Variables,
            default: Preset::Unset("none"),
            doc: "Fields of its head.",
            example: r#"{"Content-Type": "application/json"}"#,
        },
        KeyDef {
            name: "body",
            kind: Kind::Text,
            default: Preset::Unset("none"),
            doc: "Its body: text, or a table, which is sent as JSON.",
            example: r#""{\"force\": true}""#,
        },
        KeyDef {
            name: "maxRetries",
            kind: Kind::Whole { min: 0, max: RETRIES_MAX },
            default: Preset::Value("3"),
            doc: "How often a call that fails is sent again.",
            example: "0",
        },
        KeyDef {
            name: "enabled",
            kind: Kind::Bool,
            default: Preset::Value("true"),
            doc: "With `false` there is no such job.",
            example: "false",
        },
    ],
    foreign: &[
        ("schedule", "write `cron`"),
        ("url", "write `callbackUrl`"),
        ("maxRetry", "write `maxRetries`"),
    ],
};
