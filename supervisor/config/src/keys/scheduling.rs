//! The table of scheduling.

use super::{IO_CLASS, KeyDef, Kind, Preset, SCHEDULER, Table};

pub(crate) static SCHEDULING: Table = Table {
    title: "services.NAME.scheduling",
    doc: "How the kernel schedules its processes (sched(7)). What only root may ask for needs a supervisor that is root.",
    keys: &[
        KeyDef {
            name: "nice",
            kind: Kind::Signed { min: -20, max: 19 },
            default: Preset::Unset("as watt itself has it"),
            doc: "-20 is the most eager, 19 the most patient.",
            example: "5",
        },
        KeyDef {
            name: "policy",
            kind: Kind::Words(&SCHEDULER),
            default: Preset::Unset("as watt itself has it"),
            doc: "The CPU scheduling policy. With the usual one, `other`, it gets a CPU as soon as it wakes up, and gives it back as soon; `batch` is for what computes.",
            example: r#""batch""#,
        },
        KeyDef {
            name: "priority",
            kind: Kind::Whole { min: 1, max: 99 },
            default: Preset::Derived("1 where `policy` is a realtime one"),
            doc: "The priority of a realtime policy.",
            example: "10",
        },
        KeyDef {
            name: "affinity",
            kind: Kind::CpuList,
            default: Preset::Unset("all"),
            doc: "The CPUs its threads start on.",
            example: r#""0-3,6""#,
        },
        KeyDef {
            name: "io",
            kind: Kind::Words(&IO_CLASS),
            default: Preset::Unset("as watt itself has it"),
            doc: "The I/O scheduling class.",
            example: r#""idle""#,
        },
        KeyDef {
            name: "io_level",
            kind: Kind::Whole { min: 0, max: 7 },
            default: Preset::Derived("4, where the class has levels"),
            doc: "The level in that class; 0 is served first.",
            example: "4",
        },
        KeyDef {
            name: "oom_score_adj",
            kind: Kind::Signed { min: -1000, max: 1000 },
            default: Preset::Unset("0"),
            doc: "How eagerly the kernel kills it when the host is out of memory: -1000 never, 1000 first.",
            example: "500",
        },
    ],
    foreign: &[
        ("cpu_affinity", "write `affinity`"),
        ("cpus", "write `affinity`"),
        ("io_class", "write `io`"),
        ("io_priority", "write `io_level`"),
    ],
};
