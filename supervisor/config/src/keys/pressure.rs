//! The tables of what is made of workers that stall.

use watt_core::plan::Resource;

use super::{KeyDef, Kind, NEVER, Preset, Table};

const DURATION_OR_NEVER: Kind = Kind::Either(&[Kind::Duration, Kind::Words(&NEVER)]);

/// How much is told by default where something is: of a worker with `memory_high`, because a limit at which the kernel slows a
/// process down is a trap as long as nobody hears of it, and of one that is to be replaced.
pub(crate) const TOLD: [(Resource, &str); 3] =
    [(Resource::Memory, "200ms"), (Resource::Cpu, "1s"), (Resource::Io, "1s")];

const fn told(name: &'static str, default: Preset, doc: &'static str, example: &'static str) -> KeyDef {
    KeyDef { name, kind: DURATION_OR_NEVER, default, doc, example }
}

pub(crate) static PRESSURE: Table = Table {
    title: "services.NAME.pressure",
    doc: "When a worker that stalls is told of, as an event `pressure` and in `status`: some process of it waited for so long within 2 seconds, by the kernel's pressure stall information.",
    keys: &[
        told(
            "memory",
            Preset::Derived(
                "`200ms` where `limits.memory_high` or `recycle.memory` is written, else `never`",
            ),
            "Waiting for memory: that it is reclaimed, read back, or for being above `memory_high`.",
            r#""200ms""#,
        ),
        told(
            "cpu",
            Preset::Derived("`1s` where `recycle.cpu` is written, else `never`"),
            "Waiting for a CPU, or for CPU time where that is limited.",
            r#""1s""#,
        ),
        told(
            "io",
            Preset::Derived("`1s` where `recycle.io` is written, else `never`"),
            "Waiting for a disk.",
            r#""1s""#,
        ),
        KeyDef {
            name: "recycle",
            kind: Kind::Table(&RECYCLE),
            default: Preset::Inner,
            doc: "When a worker that stalls is drained and replaced.",
            example: r#"{"memory": "30s"}"#,
        },
    ],
    foreign: &[],
};

const fn recycled(name: &'static str, doc: &'static str) -> KeyDef {
    KeyDef { name, kind: DURATION_OR_NEVER, default: Preset::Unset("never"), doc, example: r#""30s""# }
}

pub(crate) static RECYCLE: Table = Table {
    title: "services.NAME.pressure.recycle",
    doc: "For how long a worker has to stall without a pause, as much as is told, before it is drained and replaced. One worker of a service at a time, none that was ready for less than a minute, and each time that follows another one waits twice as long, up to an hour.",
    keys: &[
        recycled("memory", "Because it waits for memory."),
        recycled(
            "cpu",
            "Because it waits for CPU time. A new worker of a program that is only busy will wait as well.",
        ),
        recycled("io", "Because it waits for a disk. A new worker on a slow disk will wait as well."),
    ],
    foreign: &[],
};
