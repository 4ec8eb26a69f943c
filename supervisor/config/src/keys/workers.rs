//! The tables of a number of workers that follows what they have to do.

use super::{KeyDef, Kind, Preset, Table, WORKERS_MAX};

/// How long nobody has to want anything before there is no worker.
pub(crate) const IDLE: &str = "5m";

const COUNT: Kind = Kind::Whole { min: 1, max: WORKERS_MAX as u64 };

/// What a worker is meant to use of its CPU time where no target is written.
pub(crate) const CPU_TARGET: &str = "70%";

pub(crate) static WORKERS: Table = Table {
    title: "services.NAME.workers",
    doc: "As many workers as what they have to do takes, from `min` to `max`. A number alone is always so many.",
    keys: &[
        KeyDef {
            name: "min",
            kind: Kind::Whole { min: 0, max: WORKERS_MAX as u64 },
            default: Preset::Value("1"),
            doc: "The fewest. With `0` there is none when nobody has wanted anything for `idle`; the next request starts one, and waits for it.",
            example: "2",
        },
        KeyDef { name: "max", kind: COUNT, default: Preset::Required, doc: "The most.", example: "8" },
        KeyDef {
            name: "target",
            kind: Kind::Table(&TARGET),
            default: Preset::Inner,
            doc: "What one worker is meant to have to do. With more there are more workers at once, at most twice as many as are ready. Of several, the one that takes most workers counts.",
            example: r#"{"in_flight": 20}"#,
        },
        KeyDef {
            name: "window",
            kind: Kind::Duration,
            default: Preset::Value("10s"),
            doc: "What was measured over this time counts, 2 seconds at least.",
            example: r#""30s""#,
        },
        KeyDef {
            name: "cooldown",
            kind: Kind::Duration,
            default: Preset::Value("1m"),
            doc: "Fewer workers have to have been enough for this long before there are fewer.",
            example: r#""5m""#,
        },
        KeyDef {
            name: "idle",
            kind: Kind::Duration,
            default: Preset::Derived("`5m` with `min: 0`"),
            doc: "For how long nobody has to want anything before there is no worker.",
            example: r#""15m""#,
        },
        KeyDef {
            name: "static",
            kind: COUNT,
            default: Preset::Unset("not a fixed number"),
            doc: "Always so many: Platformatic's word.",
            example: "2",
        },
        KeyDef {
            name: "dynamic",
            kind: Kind::Bool,
            default: Preset::Derived("`false` with `static`, else `true`"),
            doc: "Whether `static` or the other keys count: Platformatic's word.",
            example: "true",
        },
        KeyDef {
            name: "minimum",
            kind: Kind::Whole { min: 0, max: WORKERS_MAX as u64 },
            default: Preset::Unset("`min`"),
            doc: "Platformatic's word for `min`.",
            example: "1",
        },
        KeyDef {
            name: "maximum",
            kind: COUNT,
            default: Preset::Unset("`max`"),
            doc: "Platformatic's word for `max`.",
            example: "4",
        },
    ],
    foreign: &[
        ("scaleUpELU", "write `target: { cpu: 80% }`: an event loop that is busy uses a CPU"),
        ("scaleDownELU", "remove it: there are fewer workers when fewer would be below `target`"),
        ("gracePeriod", "remove it: a new worker counts from when it is ready"),
        ("total", "write `limits` of the application: there are no more workers than it has CPU time for"),
        ("maxMemory", "write `memory` into `limits` of the application, or `limits_total` of the service"),
        ("minReplicas", "write `min`"),
        ("maxReplicas", "write `max`"),
        ("minScale", "write `min`"),
        ("maxScale", "write `max`"),
        ("targetCPUUtilizationPercentage", "write `target: { cpu: 70% }`"),
        ("scaleToZero", "write `min: 0`"),
        ("containerConcurrency", "write `target: { in_flight: 20 }`"),
        ("cooldownPeriod", "write `cooldown`"),
    ],
};

pub(crate) static TARGET: Table = Table {
    title: "services.NAME.workers.target",
    doc: "What one worker is meant to have to do. Without any: `cpu: 70%`.",
    keys: &[
        KeyDef {
            name: "cpu",
            kind: Kind::Percent,
            default: Preset::Derived("`70%` where nothing else is written"),
            doc: "CPU time that it uses, of `limits.cpu`, or of one CPU without that limit.",
            example: r#""70%""#,
        },
        KeyDef {
            name: "in_flight",
            kind: Kind::Whole { min: 1, max: 1_000_000 },
            default: Preset::Unset("not looked at"),
            doc: "Requests that it answers at a time.",
            example: "20",
        },
        KeyDef {
            name: "latency_p95",
            kind: Kind::Duration,
            default: Preset::Unset("not looked at"),
            doc: "Of a hundred answers 95 begin within this time, from when the request was sent to it.",
            example: r#""200ms""#,
        },
        KeyDef {
            name: "queue",
            kind: Kind::Whole { min: 1, max: 1_000_000 },
            default: Preset::Unset("not looked at"),
            doc: "Requests that wait for a worker, because none is ready or their queues are full.",
            example: "5",
        },
        KeyDef {
            name: "pressure",
            kind: Kind::Percent,
            default: Preset::Unset("not looked at"),
            doc: "The part of the time in which some process of it waits for CPU time, by the kernel's pressure stall information.",
            example: r#""20%""#,
        },
    ],
    foreign: &[
        ("memory", "remove it: more workers take more memory; `limits_total.memory` bounds it"),
        ("concurrency", "write `in_flight`"),
        ("requests", "write `in_flight`"),
        ("latency", "write `latency_p95`"),
        ("p95", "write `latency_p95`"),
    ],
};
