//! The tables of a service.

use super::{
    CEILING, CONDITION, HEALTH, KeyDef, Kind, LIMITS, LISTEN, NETWORK, NEVER, NOT_YET, ORDER, POLICY, PORT,
    PRESSURE, PROFILE, Preset, READINESS, READY, ROLE, ROLL, SANDBOX, SCHEDULING, STARTUP, Table, WORKERS,
};

/// How many workers a service may have.
pub(crate) const WORKERS_MAX: u16 = 1000;

pub(crate) static SERVICE: Table = Table {
    title: "services.NAME",
    doc: "One service.",
    keys: &[
        KeyDef {
            name: "id",
            kind: Kind::ServiceName,
            default: Preset::Derived("the key in `services`"),
            doc: "The name, where `services` is a list.",
            example: r#""api""#,
        },
        KeyDef {
            name: "path",
            kind: Kind::FilePath,
            default: Preset::Value("."),
            doc: "The folder the program runs in, from the folder of the configuration file.",
            example: r#"".""#,
        },
        KeyDef {
            name: "command",
            kind: Kind::Command,
            default: Preset::Required,
            doc: "The program and its arguments: a list, or text that is split as a shell would. No shell runs. A program with a `/` is looked for from `path`, another one in `PATH`. `{socket}` and `{port}` are the worker's own.",
            example: r#"["node", "server.js"]"#,
        },
        KeyDef {
            name: "env",
            kind: Kind::Variables,
            default: Preset::Unset("only `.env` and what watt sets"),
            doc: "Variables of the program's environment. They win over `.env`. `{socket}` and `{port}` are the worker's own.",
            example: r#"{"LOG_LEVEL": "info"}"#,
        },
        KeyDef {
            name: "unset_env",
            kind: Kind::List(&Kind::VariableName),
            default: Preset::Unset("none"),
            doc: "Variables it does not get, neither from `.env` and `env` nor from watt's own environment.",
            example: r#"["DB_PASSWORD", "LANG"]"#,
        },
        KeyDef {
            name: "stdin",
            kind: Kind::FilePath,
            default: Preset::Unset("nothing: `/dev/null`"),
            doc: "What the program reads as its standard input: a file, by the path and with the rights that the program has.",
            example: r#""report.sql""#,
        },
        KeyDef {
            name: "workers",
            kind: Kind::Either(&[Kind::Whole { min: 1, max: WORKERS_MAX as u64 }, Kind::Table(&WORKERS)]),
            default: Preset::Value("1"),
            doc: "How many processes of it run: always so many, or from `min` to `max`, as many as what they have to do takes. Requests are spread over them.",
            example: "2",
        },
        KeyDef {
            name: "listen",
            kind: Kind::Either(&[Kind::Words(&LISTEN), PORT]),
            default: Preset::Value("auto"),
            doc: "How the program accepts connections, or the number of the port it listens on.",
            example: r#""auto""#,
        },
        KeyDef {
            name: "network",
            kind: Kind::Words(&NETWORK),
            default: Preset::Value("private"),
            doc: "Which network it sees. In a private one several workers may listen on the same port.",
            example: r#""private""#,
        },
        KeyDef {
            name: "egress",
            kind: Kind::Table(&EGRESS),
            default: Preset::Inner,
            doc: "What a private service may reach outside the mesh.",
            example: r#"{"allow": ["*.example.org:443"], "host_ports": [5432]}"#,
        },
        KeyDef {
            name: "depends_on",
            kind: Kind::Either(&[
                Kind::List(&Kind::ServiceName),
                Kind::Named(&Kind::Either(&[Kind::Words(&CONDITION), Kind::Table(&DEPENDENCY)])),
            ]),
            default: Preset::Unset("it starts at once"),
            doc: "What has to be there before it starts: a list of services that have to be ready, or each with its condition. It stops before them.",
            example: r#"{"db": "ready"}"#,
        },
        KeyDef {
            name: "startup",
            kind: Kind::Table(&STARTUP),
            default: Preset::Unset("readiness is looked for at once"),
            doc: "What has to be seen before readiness is looked for; for programs that take long to come up.",
            example: r#"{"http": "/started", "timeout": "10m"}"#,
        },
        KeyDef {
            name: "ready",
            kind: Kind::Either(&[Kind::Words(&READY), Kind::Table(&READINESS)]),
            default: Preset::Inner,
            doc: "When a worker counts as ready: it gets requests, and services that depend on it start.",
            example: r#"{"http": "/healthz", "timeout": "30s"}"#,
        },
        KeyDef {
            name: "health",
            kind: Kind::Table(&HEALTH),
            default: Preset::Unset("a worker that runs is healthy"),
            doc: "What a ready worker has to go on showing. One that does not is drained, stopped and started anew as after a crash.",
            example: r#"{"http": "/healthz"}"#,
        },
        KeyDef {
            name: "restart",
            kind: Kind::Either(&[Kind::Words(&POLICY), Kind::Table(&RESTART)]),
            default: Preset::Inner,
            doc: "What follows an exit.",
            example: r#"{"policy": "always"}"#,
        },
        KeyDef {
            name: "roll",
            kind: Kind::Table(&ROLL),
            default: Preset::Inner,
            doc: "By how many at a time its workers are replaced.",
            example: r#"{"surge": "25%", "min_healthy": "10s"}"#,
        },
        KeyDef {
            name: "stop",
            kind: Kind::Table(&STOP),
            default: Preset::Inner,
            doc: "How a worker is stopped. No process of it is left afterwards.",
            example: r#"{"signal": "TERM", "drain": "5s", "grace": "10s"}"#,
        },
        KeyDef {
            name: "limits",
            kind: Kind::Table(&LIMITS),
            default: Preset::Inner,
            doc: "What each worker may use, held by the kernel.",
            example: r#"{"memory": "512M", "cpu": 1.5, "pids": 256, "nofile": 4096}"#,
        },
        KeyDef {
            name: "limits_total",
            kind: Kind::Table(&CEILING),
            default: Preset::Inner,
            doc: "What all its workers together may use, held by the kernel.",
            example: r#"{"memory": "2G"}"#,
        },
        KeyDef {
            name: "pressure",
            kind: Kind::Table(&PRESSURE),
            default: Preset::Inner,
            doc: "What is made of a worker that stalls for want of memory, CPU time or a disk.",
            example: r#"{"memory": "200ms", "recycle": {"memory": "30s"}}"#,
        },
        KeyDef {
            name: "scheduling",
            kind: Kind::Table(&SCHEDULING),
            default: Preset::Inner,
            doc: "How the kernel schedules its processes.",
            example: r#"{"nice": 5}"#,
        },
        KeyDef {
            name: "sandbox",
            kind: Kind::Either(&[Kind::Words(&PROFILE), Kind::Table(&SANDBOX)]),
            default: Preset::Derived("the application's `sandbox`"),
            doc: "What it may see and do: a profile's word, or a table of switches. A table without `profile` changes single switches of the application's `sandbox`.",
            example: r#""strict""#,
        },
        KeyDef {
            name: "secrets",
            kind: Kind::Either(&[Kind::List(&Kind::FileName), Kind::Named(&Kind::FileName)]),
            default: Preset::Unset("none"),
            doc: "Secrets it gets as files in `$CREDENTIALS_DIRECTORY`, which no other service can read: a list of names, or each file's name with that of its secret.",
            example: r#"["db_password"]"#,
        },
        KeyDef {
            name: "management",
            kind: Kind::Words(&ROLE),
            default: Preset::Unset("nothing"),
            doc: "What it may ask of the control API. Without this it has no way there.",
            example: r#""view""#,
        },
        KeyDef {
            name: "timeouts",
            kind: Kind::Table(&TIMEOUTS),
            default: Preset::Inner,
            doc: "How long requests to this service may take.",
            example: r#"{"first_byte": "60s"}"#,
        },
    ],
    foreign: &[
        ("build", NOT_YET),
        ("healthcheck", "write `health`, and `ready` for what has to be seen first"),
        ("liveness", "write `health`"),
        ("livenessProbe", "write `health`"),
        ("readinessProbe", "write `ready`"),
        ("startupProbe", "write `startup`"),
        ("cmd", "write `command`"),
        ("exec", "write `command`"),
        ("script", "write `command`"),
        ("run", "write `command`"),
        ("args", "write the arguments into `command`"),
        ("entrypoint", "write the program into `command`"),
        ("environment", "write `env`"),
        ("env_file", "variables for all services are read from `.env` beside the configuration file"),
        ("cwd", "write `path`"),
        ("dir", "write `path`"),
        ("directory", "write `path`"),
        ("working_dir", "write `path`"),
        ("replicas", "write `workers`"),
        ("instances", "write `workers`"),
        ("numprocs", "write `workers`"),
        ("dynamicWorkers", "write `workers: { min: 1, max: 4 }`"),
        ("verticalScaler", "write `workers: { min: 1, max: 4 }`"),
        ("autoscaling", "write `workers: { min: 1, max: 4 }`"),
        ("port", "write `listen`"),
        ("ports", "write `listen` for the port of the program and `gateway.routes` for the public one"),
        ("autorestart", "write `restart`"),
        ("image", "remove it: watt runs programs, not images"),
        ("volumes", "remove it: services see the host's files"),
        ("memory", "write it inside `limits`"),
        ("cpu", "write it inside `limits`"),
        ("cpus", "write `cpu` inside `limits`"),
        ("nice", "write it inside `scheduling`"),
        ("oom_score_adj", "write it inside `scheduling`"),
        ("user", "write it inside `sandbox`"),
        ("group", "write it inside `sandbox`"),
        ("cap_drop", "write `capabilities` inside `sandbox`"),
        ("cap_add", "write `capabilities` inside `sandbox`"),
        ("read_only", "write `protect_system: strict` inside `sandbox`"),
        ("tmpfs", "write `temporary_paths` inside `sandbox`"),
        ("credentials", "write `secrets`"),
    ],
};

pub(crate) static EGRESS: Table = Table {
    title: "services.NAME.egress",
    doc: "What a private service may reach outside the mesh.",
    keys: &[
        KeyDef {
            name: "allow",
            kind: Kind::List(&Kind::Destination),
            default: Preset::Derived("`[\"*\"]`; `[]` where the sandbox's profile is `strict`"),
            doc: "Where it may connect to, with any port or one: `*` is everywhere, `example.org` one host, `*.example.org:443` port 443 of every host below it, `10.0.0.0/8` or `[2001:db8::]/32` the addresses of a network.",
            example: r#"["example.org", "*.example.org:443", "10.0.0.0/8:5432"]"#,
        },
        KeyDef {
            name: "host_ports",
            kind: Kind::List(&PORT),
            default: Preset::Unset("none"),
            doc: "Ports of the host's own localhost that it may connect to, at its own localhost.",
            example: "[5432]",
        },
    ],
    foreign: &[("deny", "write what is allowed into `allow`; everything else is refused")],
};

pub(crate) static DEPENDENCY: Table = Table {
    title: "services.NAME.depends_on.NAME",
    doc: "A dependency in Compose's form.",
    keys: &[KeyDef {
        name: "condition",
        kind: Kind::Words(&CONDITION),
        default: Preset::Value("ready"),
        doc: "What the other service has to reach.",
        example: r#""service_healthy""#,
    }],
    foreign: &[("restart", NOT_YET), ("required", NOT_YET)],
};

pub(crate) static RESTART: Table = Table {
    title: "services.NAME.restart",
    doc: "What follows an exit. A policy's word alone is enough.",
    keys: &[
        KeyDef {
            name: "policy",
            kind: Kind::Words(&POLICY),
            default: Preset::Value("always"),
            doc: "Which exits are followed by a restart.",
            example: r#""on-failure""#,
        },
        KeyDef {
            name: "backoff",
            kind: Kind::Table(&BACKOFF),
            default: Preset::Inner,
            doc: "How long it waits before it tries again.",
            example: r#"{"first": "200ms", "max": "30s"}"#,
        },
        KeyDef {
            name: "give_up",
            kind: Kind::Table(&GIVE_UP),
            default: Preset::Inner,
            doc: "How many failures in how short a time make a worker `Failed`.",
            example: r#"{"failures": 5, "within": "1m"}"#,
        },
        KeyDef {
            name: "healthy_after",
            kind: Kind::Duration,
            default: Preset::Value("30s"),
            doc: "A worker that was ready for this long has a clean record, and is restarted at once.",
            example: r#""30s""#,
        },
        KeyDef {
            name: "retry_failed_after",
            kind: Kind::Either(&[Kind::Duration, Kind::Words(&NEVER)]),
            default: Preset::Value("5m"),
            doc: "A `Failed` worker is tried again after this time, or `never` before an operator says so.",
            example: r#""5m""#,
        },
        KeyDef {
            name: "order",
            kind: Kind::Words(&ORDER),
            default: Preset::Value("start-first"),
            doc: "How a worker is replaced by `wattctl restart` and `reload`.",
            example: r#""stop-first""#,
        },
    ],
    foreign: &[
        ("condition", "write `policy`"),
        ("delay", "write `backoff: { first: … }`"),
        ("max_attempts", "write `give_up: { failures: … }`"),
    ],
};

pub(crate) static BACKOFF: Table = Table {
    title: "services.NAME.restart.backoff",
    doc: "Waits double from the first to the longest, give or take a fifth.",
    keys: &[
        KeyDef {
            name: "first",
            kind: Kind::Duration,
            default: Preset::Value("200ms"),
            doc: "The wait before the first retry.",
            example: r#""200ms""#,
        },
        KeyDef {
            name: "max",
            kind: Kind::Duration,
            default: Preset::Value("30s"),
            doc: "The longest wait.",
            example: r#""30s""#,
        },
    ],
    foreign: &[],
};

pub(crate) static GIVE_UP: Table = Table {
    title: "services.NAME.restart.give_up",
    doc: "When a worker counts as `Failed`.",
    keys: &[
        KeyDef {
            name: "failures",
            kind: Kind::Whole { min: 1, max: 1000 },
            default: Preset::Value("5"),
            doc: "This many failures …",
            example: "5",
        },
        KeyDef {
            name: "within",
            kind: Kind::Duration,
            default: Preset::Value("1m"),
            doc: "… within this time.",
            example: r#""1m""#,
        },
    ],
    foreign: &[],
};

pub(crate) static STOP: Table = Table {
    title: "services.NAME.stop",
    doc: "A stop: no new requests, wait for those in flight, signal, wait, kill what is left.",
    keys: &[
        KeyDef {
            name: "signal",
            kind: Kind::Signal,
            default: Preset::Value("TERM"),
            doc: "The signal the program gets first: a name or number of signal(7).",
            example: r#""INT""#,
        },
        KeyDef {
            name: "drain",
            kind: Kind::Duration,
            default: Preset::Value("5s"),
            doc: "How long requests in flight may take before the signal is sent.",
            example: r#""5s""#,
        },
        KeyDef {
            name: "grace",
            kind: Kind::Duration,
            default: Preset::Value("10s"),
            doc: "How long the processes may take after the signal before they are killed.",
            example: r#""10s""#,
        },
    ],
    foreign: &[("timeout", "write `grace`"), ("command", NOT_YET)],
};

pub(crate) static TIMEOUTS: Table = Table {
    title: "services.NAME.timeouts",
    doc: "Timeouts of requests that the gateway or another service sends.",
    keys: &[
        KeyDef {
            name: "connect",
            kind: Kind::Duration,
            default: Preset::Value("5s"),
            doc: "To reach a worker.",
            example: r#""5s""#,
        },
        KeyDef {
            name: "first_byte",
            kind: Kind::Duration,
            default: Preset::Value("1m"),
            doc: "From the request to the head of the response.",
            example: r#""60s""#,
        },
        KeyDef {
            name: "idle",
            kind: Kind::Duration,
            default: Preset::Value("1m"),
            doc: "Without a byte in either direction while a body is on its way.",
            example: r#""60s""#,
        },
    ],
    foreign: &[("request", NOT_YET), ("total", NOT_YET), ("read", "write `first_byte` or `idle`")],
};
