//! The tables of limits: for each worker, for a whole service, for the whole application.

use watt_core::plan::Rlimit;

use super::{KeyDef, Kind, Preset, Table};

/// The resources of setrlimit(2) by their keys. `RLIMIT_CPU` counts seconds in all, where `cpu` is a share of each
/// second, so it has a name of its own.
pub(crate) const RLIMITS: [(&str, Rlimit); 16] = [
    ("as", Rlimit::As),
    ("core", Rlimit::Core),
    ("cpu_seconds", Rlimit::Cpu),
    ("data", Rlimit::Data),
    ("fsize", Rlimit::Fsize),
    ("locks", Rlimit::Locks),
    ("memlock", Rlimit::Memlock),
    ("msgqueue", Rlimit::Msgqueue),
    ("nice", Rlimit::Nice),
    ("nofile", Rlimit::Nofile),
    ("nproc", Rlimit::Nproc),
    ("rss", Rlimit::Rss),
    ("rtprio", Rlimit::Rtprio),
    ("rttime", Rlimit::Rttime),
    ("sigpending", Rlimit::Sigpending),
    ("stack", Rlimit::Stack),
];

/// The largest share that cgroup-v2.rst allows.
pub(crate) const WEIGHT_MAX: u64 = 10_000;

/// The most processes that a 64-bit kernel has (`PID_MAX_LIMIT`).
pub(crate) const PIDS_MAX: u64 = 4_194_304;

const NO_LIMIT: Preset = Preset::Unset("no limit");
const NOT_SET: Preset = Preset::Unset("as the kernel has it");

const fn size(name: &'static str, default: Preset, doc: &'static str, example: &'static str) -> KeyDef {
    KeyDef { name, kind: Kind::Size, default, doc, example }
}

const MEMORY: KeyDef =
    size("memory", NO_LIMIT, "Memory. More is an out-of-memory kill, which `status` names.", r#""512M""#);
const MEMORY_HIGH: KeyDef = size(
    "memory_high",
    NO_LIMIT,
    "Memory above which the kernel slows the processes down and reclaims.",
    r#""400M""#,
);
const MEMORY_LOW: KeyDef = size(
    "memory_low",
    NOT_SET,
    "Memory that is reclaimed only when nobody else has any to give.",
    r#""64M""#,
);
const MEMORY_MIN: KeyDef = size("memory_min", NOT_SET, "Memory that is never reclaimed.", r#""32M""#);
const SWAP: KeyDef =
    size("swap", Preset::Derived("none where `memory` is set, else no limit"), "Swap space.", r#""128M""#);
const CPU: KeyDef = KeyDef {
    name: "cpu",
    kind: Kind::Cpu,
    default: NO_LIMIT,
    doc: "CPU time: `1.5` is one and a half CPUs, as is `150%`.",
    example: "1.5",
};
const CPU_WEIGHT: KeyDef = KeyDef {
    name: "cpu_weight",
    kind: Kind::Whole { min: 1, max: WEIGHT_MAX },
    default: Preset::Unset("100"),
    doc: "Share of CPU time among neighbours that all want it: of a worker among those of its service, in `limits_total` of the service.",
    example: "200",
};
const CPUSET: KeyDef = KeyDef {
    name: "cpuset",
    kind: Kind::CpuList,
    default: Preset::Unset("all"),
    doc: "The CPUs it may run on. `scheduling.affinity` is the same wish, which the program may change.",
    example: r#""0-3,6""#,
};
const PIDS: KeyDef = KeyDef {
    name: "pids",
    kind: Kind::Whole { min: 1, max: PIDS_MAX },
    default: NO_LIMIT,
    doc: "Processes and threads.",
    example: "256",
};
const IO_WEIGHT: KeyDef = KeyDef {
    name: "io_weight",
    kind: Kind::Whole { min: 1, max: WEIGHT_MAX },
    default: Preset::Unset("100"),
    doc: "Share of a disk's time among neighbours that all want it.",
    example: "200",
};
const IO_DEVICES: KeyDef = KeyDef {
    name: "io",
    kind: Kind::Named(&Kind::Table(&IO)),
    default: NO_LIMIT,
    doc: "Bounds by block device: the device, or any path on it.",
    example: r#"{"/var/lib/data": {"write_bytes": "20M"}}"#,
};
const HUGETLB: KeyDef = KeyDef {
    name: "hugetlb",
    kind: Kind::Named(&Kind::Size),
    default: NO_LIMIT,
    doc: "Huge pages, by their size as the kernel writes it: `2MB`, `1GB`.",
    example: r#"{"2MB": "64M"}"#,
};

/// A resource limit's key.
const fn rlimit(name: &'static str, doc: &'static str, example: &'static str) -> KeyDef {
    KeyDef { name, kind: Kind::Rlimit, default: Preset::Unset("as watt itself has it"), doc, example }
}

const FOREIGN: &[(&str, &str)] = &[
    ("mem", "write `memory`"),
    ("memory_max", "write `memory`"),
    ("mem_limit", "write `memory`"),
    ("memory_swap_max", "write `swap`"),
    ("cpus", "write `cpu` for an amount of CPU, `cpuset` for certain CPUs"),
    ("cpuset_cpus", "write `cpuset`"),
    ("cpu_shares", "write `cpu_weight`"),
    ("tasks", "write `pids`"),
    ("tasks_max", "write `pids`"),
    ("open_files", "write `nofile`"),
    ("oom_score_adj", "write it inside `scheduling`"),
];

/// Of each worker.
pub(crate) static LIMITS: Table = Table {
    title: "services.NAME.limits",
    doc: "Limits of each worker. Those up to `oom_group` hold for all its processes together, the others are resource limits of setrlimit(2) for each process: one value for soft and hard limit, or `{ soft: …, hard: … }`.",
    keys: &[
        MEMORY,
        MEMORY_HIGH,
        MEMORY_LOW,
        MEMORY_MIN,
        SWAP,
        CPU,
        CPU_WEIGHT,
        CPUSET,
        PIDS,
        IO_WEIGHT,
        IO_DEVICES,
        HUGETLB,
        KeyDef {
            name: "oom_group",
            kind: Kind::Bool,
            default: Preset::Value("true"),
            doc: "Whether an out-of-memory kill takes all processes of the worker. Half a worker is worse than none.",
            example: "true",
        },
        rlimit("as", "Address space, in bytes.", r#""4G""#),
        rlimit("core", "Size of a core dump, in bytes; 0 makes none.", "0"),
        rlimit("cpu_seconds", "CPU time in all, in seconds (`RLIMIT_CPU`).", "3600"),
        rlimit("data", "Data segment, in bytes.", r#""1G""#),
        rlimit("fsize", "Size of a file it writes, in bytes.", r#""10G""#),
        rlimit("locks", "File locks.", "100"),
        rlimit("memlock", "Locked memory, in bytes.", r#""64K""#),
        rlimit("msgqueue", "POSIX message queues, in bytes.", r#""800K""#),
        rlimit("nice", "How far it may raise its priority: 20 minus the nice value.", "20"),
        rlimit("nofile", "Open files.", r#"{"soft": 1024, "hard": 4096}"#),
        rlimit(
            "nproc",
            "Processes of its user, in and outside of watt; `pids` is for the worker alone.",
            "1000",
        ),
        rlimit("rss", "Without effect on Linux since 2.4.30.", r#""1G""#),
        rlimit("rtprio", "Real-time priority.", "0"),
        rlimit("rttime", "Real-time CPU time without a pause, in microseconds.", "200000"),
        rlimit("sigpending", "Queued signals.", "1000"),
        rlimit("stack", "Stack, in bytes.", r#""8M""#),
    ],
    foreign: FOREIGN,
};

/// Of many workers together.
pub(crate) static CEILING: Table = Table {
    title: "limits",
    doc: "What all services together may use. `limits_total` of a service has the same keys, for all its workers together.",
    keys: &[
        MEMORY,
        MEMORY_HIGH,
        MEMORY_LOW,
        MEMORY_MIN,
        SWAP,
        CPU,
        CPU_WEIGHT,
        CPUSET,
        PIDS,
        IO_WEIGHT,
        IO_DEVICES,
        HUGETLB,
    ],
    foreign: FOREIGN,
};

const fn rate(name: &'static str, kind: Kind, doc: &'static str, example: &'static str) -> KeyDef {
    KeyDef { name, kind, default: NO_LIMIT, doc, example }
}

const OPERATIONS: Kind = Kind::Whole { min: 1, max: 1_000_000_000 };

pub(crate) static IO: Table = Table {
    title: "limits.io.DEVICE",
    doc: "Bounds on one block device.",
    keys: &[
        rate("read_bytes", Kind::Size, "Bytes a second that are read.", r#""50M""#),
        rate("write_bytes", Kind::Size, "Bytes a second that are written.", r#""20M""#),
        rate("read_ops", OPERATIONS, "Reads a second.", "1000"),
        rate("write_ops", OPERATIONS, "Writes a second.", "500"),
    ],
    foreign: &[
        ("rbps", "write `read_bytes`"),
        ("wbps", "write `write_bytes`"),
        ("riops", "write `read_ops`"),
        ("wiops", "write `write_ops`"),
    ],
};

pub(crate) static SOFT_HARD: Table = Table {
    title: "services.NAME.limits.LIMIT",
    doc: "A resource limit with two values.",
    keys: &[
        KeyDef {
            name: "soft",
            kind: Kind::Size,
            default: Preset::Derived("`hard`"),
            doc: "What the process meets; it may raise it up to `hard`.",
            example: "1024",
        },
        KeyDef {
            name: "hard",
            kind: Kind::Size,
            default: Preset::Derived("`soft`"),
            doc: "What the process cannot pass.",
            example: "4096",
        },
    ],
    foreign: &[],
};
