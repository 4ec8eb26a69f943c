//! The one list of what may be written in a configuration file.
//!
//! A table names its keys; a key has a kind, a default and a sentence. The decoder opens a file's tables with these and
//! takes defaults from here, the JSON Schema and docs/configuration.md are printed from here, and suggestions search
//! here. A key that is added to a table and not decoded fails a test, and so does the reverse.

use watt_core::plan::{Condition, Network, RestartPolicy, Rlimit};

/// A set of keys that belong together.
#[derive(Debug)]
pub(crate) struct Table {
    /// Where it is, as users say it: `services.NAME.restart`.
    pub(crate) title: &'static str,
    /// What it is for.
    pub(crate) doc: &'static str,
    /// Its keys, in the order they are shown.
    pub(crate) keys: &'static [KeyDef],
    /// Words of other programs or of later versions, and what to write here instead.
    pub(crate) foreign: &'static [(&'static str, &'static str)],
}

/// A key.
#[derive(Debug)]
pub(crate) struct KeyDef {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) default: Preset,
    /// What it does, in sentences.
    pub(crate) doc: &'static str,
    /// A value, as JSON.
    pub(crate) example: &'static str,
}

/// What holds when a key is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Preset {
    /// This value, as it would be written.
    Value(&'static str),
    /// Something that depends on other keys, in words.
    Derived(&'static str),
    /// Nothing is set; in words, what that means.
    Unset(&'static str),
    /// The key has to be written.
    Required,
    /// Its keys have defaults of their own.
    Inner,
}

/// What a key's value is.
#[derive(Debug)]
pub(crate) enum Kind {
    Name,
    FilePath,
    Bool,
    Whole {
        min: u64,
        max: u64,
    },
    Duration,
    Size,
    Cpu,
    Signal,
    IpAddress,
    UrlPath,
    HostName,
    Pattern,
    ServiceName,
    /// One of some words.
    Words(&'static dyn WordList),
    /// A program and its arguments: text or a list.
    Command,
    /// Names and texts.
    Variables,
    /// A number, a size or `unlimited`, or a table of `soft` and `hard`.
    Rlimit,
    /// A fixed table.
    Table(&'static Table),
    /// A list of values.
    List(&'static Kind),
    /// A table with names of the user's choice for keys.
    Named(&'static Kind),
    /// Any of these.
    Either(&'static [Kind]),
}

/// Words and what they mean, without the type they stand for.
pub(crate) trait WordList: Sync + std::fmt::Debug {
    /// Each word with a few words about it.
    fn words(&self) -> Vec<(&'static str, &'static str)>;
}

/// Words, what they stand for, and a few words about each. The first word for a value is the one that is shown.
#[derive(Debug)]
pub(crate) struct Words<T: 'static>(pub(crate) &'static [(&'static str, T, &'static str)]);

impl<T: Sync + std::fmt::Debug> WordList for Words<T> {
    fn words(&self) -> Vec<(&'static str, &'static str)> {
        self.0.iter().map(|(word, _, doc)| (*word, *doc)).collect()
    }
}

/// The words of `listen`, besides a port number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenWord {
    Auto,
    Unix,
    Fd,
    Port,
    None,
}

/// The words of `ready`, and the keys of its table that name a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadyWord {
    Started,
    Listening,
    Tcp,
    Notify,
}

/// The one word `give_up` and `retry_failed_after` know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Never;

pub(crate) static LISTEN: Words<ListenWord> = Words(&[
    ("auto", ListenWord::Auto, "whatever the kernel shows the program listening on"),
    ("unix", ListenWord::Unix, "the Unix socket named by `$WATT_SOCKET` and `{socket}`"),
    ("fd", ListenWord::Fd, "a socket it inherits, by systemd's protocol (`$LISTEN_FDS`)"),
    ("port", ListenWord::Port, "the TCP port in `$PORT` and `{port}`"),
    ("none", ListenWord::None, "nothing: the program accepts no connections"),
]);

pub(crate) static NETWORK: Words<Network> = Words(&[
    ("private", Network::Private, "a network namespace for each worker"),
    ("host", Network::Host, "the host's network"),
]);

pub(crate) static CONDITION: Words<Condition> = Words(&[
    ("ready", Condition::Ready, "every worker is ready"),
    ("started", Condition::Started, "every worker's program runs"),
    ("completed", Condition::Completed, "every worker ended with exit status 0"),
    ("service_healthy", Condition::Ready, "Compose's word for `ready`"),
    ("service_started", Condition::Started, "Compose's word for `started`"),
    ("service_completed_successfully", Condition::Completed, "Compose's word for `completed`"),
]);

pub(crate) static READY: Words<ReadyWord> = Words(&[
    ("listening", ReadyWord::Listening, "the kernel shows it listening"),
    ("started", ReadyWord::Started, "its program runs"),
    ("tcp", ReadyWord::Tcp, "it accepts a connection"),
    ("notify", ReadyWord::Notify, "it sends `READY=1` (sd_notify)"),
]);

pub(crate) static POLICY: Words<RestartPolicy> = Words(&[
    ("always", RestartPolicy::Always, "after every exit"),
    ("on-failure", RestartPolicy::OnFailure, "after every exit but status 0"),
    ("never", RestartPolicy::Never, "not at all: the service runs to completion"),
    ("unless-stopped", RestartPolicy::Always, "Compose's word for `always`"),
    ("no", RestartPolicy::Never, "Compose's word for `never`"),
]);

pub(crate) static NEVER: Words<Never> = Words(&[("never", Never, "not at all")]);

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

/// How many workers a service may have.
pub(crate) const WORKERS_MAX: u64 = 1000;

const PORT: Kind = Kind::Whole { min: 1, max: 65535 };
const PORT_OR_ANY: Kind = Kind::Whole { min: 0, max: 65535 };

const NOT_YET: &str = "it is not supported yet";

pub(crate) static ROOT: Table = Table {
    title: "",
    doc: "The file. Keys that start with `x-` are ignored: a place for anchors.",
    keys: &[
        KeyDef {
            name: "name",
            kind: Kind::Name,
            default: Preset::Derived("the folder's name"),
            doc: "The application's name: a-z, 0-9, `-` and `_`. Two applications with one name cannot run at the same time.",
            example: r#""shop""#,
        },
        KeyDef {
            name: "server",
            kind: Kind::Table(&SERVER),
            default: Preset::Derived("with routes: 127.0.0.1:3042; without: no gateway"),
            doc: "Where clients come in.",
            example: r#"{"hostname": "0.0.0.0", "port": 3042}"#,
        },
        KeyDef {
            name: "services",
            kind: Kind::Either(&[Kind::Named(&Kind::Table(&SERVICE)), Kind::List(&Kind::Table(&SERVICE))]),
            default: Preset::Required,
            doc: "The services, by name. A list is understood too; then each has its name in `id`. The name is also the host name: `http://NAME.plt.local/`.",
            example: r#"{"api": {"command": "node server.js"}}"#,
        },
        KeyDef {
            name: "gateway",
            kind: Kind::Table(&GATEWAY),
            default: Preset::Inner,
            doc: "Which requests of clients go to which service.",
            example: r#"{"routes": [{"path": "/", "service": "api"}]}"#,
        },
        KeyDef {
            name: "policies",
            kind: Kind::List(&Kind::Table(&POLICIES)),
            default: Preset::Unset("every service may call every other one"),
            doc: "Who may call whom. A service that is named in a `to` may be called only by those in the `from` beside it.",
            example: r#"[{"from": "web", "to": "api"}]"#,
        },
        KeyDef {
            name: "logs",
            kind: Kind::Table(&LOGS),
            default: Preset::Inner,
            doc: "What is kept of the services' output.",
            example: r#"{"file_size": "10M", "files": 10}"#,
        },
    ],
    foreign: &[
        ("jobs", NOT_YET),
        ("secrets", NOT_YET),
        ("applications", "write `services`"),
        ("processes", "write `services`"),
        ("apps", "write `services`"),
        ("version", "remove it: the file has no version"),
        ("routes", "write it inside `gateway`"),
        ("hold", "write it inside `gateway`"),
        ("port", "write it inside `server`"),
        ("hostname", "write it inside `server`"),
        ("env", "write it inside a service, or put variables for all of them into `.env`"),
    ],
};

pub(crate) static SERVER: Table = Table {
    title: "server",
    doc: "The listener of the gateway.",
    keys: &[
        KeyDef {
            name: "hostname",
            kind: Kind::IpAddress,
            default: Preset::Value("127.0.0.1"),
            doc: "The address to listen on. `0.0.0.0` or `::` are all addresses of the host.",
            example: r#""0.0.0.0""#,
        },
        KeyDef {
            name: "port",
            kind: PORT_OR_ANY,
            default: Preset::Value("3042"),
            doc: "The TCP port; 0 takes a free one.",
            example: r#""{PORT:-3042}""#,
        },
    ],
    foreign: &[
        ("host", "write `hostname`"),
        ("address", "write `hostname`"),
        ("https", NOT_YET),
        ("tls", NOT_YET),
    ],
};

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
            name: "workers",
            kind: Kind::Whole { min: 1, max: WORKERS_MAX },
            default: Preset::Value("1"),
            doc: "How many processes of it run. Requests are spread over them.",
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
            doc: "What a private service may reach outside the mesh. All of the internet, and of the host's own localhost nothing but this.",
            example: r#"{"host_ports": [5432]}"#,
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
            name: "ready",
            kind: Kind::Either(&[Kind::Words(&READY), Kind::Table(&READINESS)]),
            default: Preset::Inner,
            doc: "When a worker counts as ready: it gets requests, and services that depend on it start.",
            example: r#"{"http": "/healthz", "timeout": "30s"}"#,
        },
        KeyDef {
            name: "restart",
            kind: Kind::Either(&[Kind::Words(&POLICY), Kind::Table(&RESTART)]),
            default: Preset::Inner,
            doc: "What follows an exit.",
            example: r#"{"policy": "always"}"#,
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
            name: "timeouts",
            kind: Kind::Table(&TIMEOUTS),
            default: Preset::Inner,
            doc: "How long requests to this service may take.",
            example: r#"{"first_byte": "60s"}"#,
        },
    ],
    foreign: &[
        ("build", NOT_YET),
        ("health", NOT_YET),
        ("healthcheck", "it is not supported yet; `ready` waits for a service to come up"),
        ("sandbox", NOT_YET),
        ("secrets", NOT_YET),
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
        ("port", "write `listen`"),
        ("ports", "write `listen` for the port of the program and `gateway.routes` for the public one"),
        ("autorestart", "write `restart`"),
        ("image", "remove it: watt runs programs, not images"),
        ("volumes", "remove it: services see the host's files"),
        ("memory", "write it inside `limits`"),
        ("cpu", "write it inside `limits`"),
        ("cpus", "write `cpu` inside `limits`"),
    ],
};

pub(crate) static EGRESS: Table = Table {
    title: "services.NAME.egress",
    doc: "What a private service may reach outside the mesh.",
    keys: &[KeyDef {
        name: "host_ports",
        kind: Kind::List(&PORT),
        default: Preset::Unset("none"),
        doc: "Ports of the host's own localhost that it may connect to, at its own localhost.",
        example: "[5432]",
    }],
    foreign: &[("allow", NOT_YET)],
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

pub(crate) static READINESS: Table = Table {
    title: "services.NAME.ready",
    doc: "One sign of readiness, and how long it may take. Without a sign: `listening`, or `started` where `listen` is `none`.",
    keys: &[
        KeyDef {
            name: "http",
            kind: Kind::UrlPath,
            default: Preset::Unset("not asked"),
            doc: "A GET of this path is answered with a status from 200 to 399.",
            example: r#""/healthz""#,
        },
        KeyDef {
            name: "tcp",
            kind: Kind::Bool,
            default: Preset::Unset("not tried"),
            doc: "With `true`: it accepts a connection.",
            example: "true",
        },
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
    ],
    foreign: &[
        ("exec", NOT_YET),
        ("cmd", NOT_YET),
        ("port", "remove it: the worker is reached as `listen` says"),
    ],
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

/// A resource limit's key.
const fn rlimit(name: &'static str, doc: &'static str, example: &'static str) -> KeyDef {
    KeyDef { name, kind: Kind::Rlimit, default: Preset::Unset("as watt itself has it"), doc, example }
}

pub(crate) static LIMITS: Table = Table {
    title: "services.NAME.limits",
    doc: "Limits of each worker. The first five hold for all its processes together, the others are resource limits of setrlimit(2) for each process: one value for soft and hard limit, or `{ soft: …, hard: … }`.",
    keys: &[
        KeyDef {
            name: "memory",
            kind: Kind::Size,
            default: Preset::Unset("no limit"),
            doc: "Memory. More is an out-of-memory kill, which `status` names.",
            example: r#""512M""#,
        },
        KeyDef {
            name: "memory_high",
            kind: Kind::Size,
            default: Preset::Unset("no limit"),
            doc: "Memory above which the kernel slows the worker down and reclaims.",
            example: r#""400M""#,
        },
        KeyDef {
            name: "cpu",
            kind: Kind::Cpu,
            default: Preset::Unset("no limit"),
            doc: "CPU time: `1.5` is one and a half CPUs, as is `150%`.",
            example: "1.5",
        },
        KeyDef {
            name: "pids",
            kind: Kind::Whole { min: 1, max: 4_194_304 },
            default: Preset::Unset("no limit"),
            doc: "Processes and threads.",
            example: "256",
        },
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
    foreign: &[
        ("mem", "write `memory`"),
        ("memory_max", "write `memory`"),
        ("mem_limit", "write `memory`"),
        ("cpus", "write `cpu`"),
        ("tasks", "write `pids`"),
        ("open_files", "write `nofile`"),
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

pub(crate) static GATEWAY: Table = Table {
    title: "gateway",
    doc: "The way from clients to services.",
    keys: &[
        KeyDef {
            name: "routes",
            kind: Kind::List(&Kind::Table(&ROUTE)),
            default: Preset::Unset("no gateway"),
            doc: "The rules. The longest path wins, and a rule with a host wins over one without.",
            example: r#"[{"path": "/", "service": "api"}]"#,
        },
        KeyDef {
            name: "hold",
            kind: Kind::Table(&HOLD),
            default: Preset::Inner,
            doc: "Requests wait while a service starts or restarts, instead of failing.",
            example: r#"{"timeout": "10s", "requests": 1000}"#,
        },
    ],
    foreign: &[("server", "write it at the top of the file"), ("cors", NOT_YET), ("auth", NOT_YET)],
};

pub(crate) static ROUTE: Table = Table {
    title: "gateway.routes",
    doc: "One rule of the gateway.",
    keys: &[
        KeyDef {
            name: "path",
            kind: Kind::UrlPath,
            default: Preset::Value("/"),
            doc: "A path and everything below it: `/api` is for `/api` and `/api/x`, not for `/apix`.",
            example: r#""/api""#,
        },
        KeyDef {
            name: "host",
            kind: Kind::HostName,
            default: Preset::Unset("every host"),
            doc: "The host it is for; `*.example.org` is every name below.",
            example: r#""example.org""#,
        },
        KeyDef {
            name: "service",
            kind: Kind::ServiceName,
            default: Preset::Required,
            doc: "Where the requests go.",
            example: r#""api""#,
        },
        KeyDef {
            name: "strip",
            kind: Kind::Bool,
            default: Preset::Value("false"),
            doc: "Whether the service sees the path without the route's.",
            example: "true",
        },
        KeyDef {
            name: "rewrite",
            kind: Kind::UrlPath,
            default: Preset::Unset("the path stays"),
            doc: "What the service sees in place of the route's path.",
            example: r#""/v1""#,
        },
    ],
    foreign: &[("to", "write `service`"), ("upstream", "write `service`"), ("prefix", "write `path`")],
};

pub(crate) static HOLD: Table = Table {
    title: "gateway.hold",
    doc: "Bounds on requests that wait for a worker.",
    keys: &[
        KeyDef {
            name: "timeout",
            kind: Kind::Duration,
            default: Preset::Value("10s"),
            doc: "How long a request waits before it is answered with 503.",
            example: r#""10s""#,
        },
        KeyDef {
            name: "requests",
            kind: Kind::Whole { min: 0, max: 1_000_000 },
            default: Preset::Value("1000"),
            doc: "How many may wait for one service; those beyond are answered with 503 at once.",
            example: "1000",
        },
    ],
    foreign: &[],
};

pub(crate) static POLICIES: Table = Table {
    title: "policies",
    doc: "A permission to call.",
    keys: &[
        KeyDef {
            name: "from",
            kind: Kind::ServiceName,
            default: Preset::Required,
            doc: "The caller.",
            example: r#""web""#,
        },
        KeyDef {
            name: "to",
            kind: Kind::ServiceName,
            default: Preset::Required,
            doc: "The one called.",
            example: r#""api""#,
        },
    ],
    foreign: &[],
};

pub(crate) static LOGS: Table = Table {
    title: "logs",
    doc: "The files with the services' output.",
    keys: &[
        KeyDef {
            name: "dir",
            kind: Kind::FilePath,
            default: Preset::Unset("`logs` in the application's state folder"),
            doc: "Their folder, from the folder of the configuration file.",
            example: r#""logs""#,
        },
        KeyDef {
            name: "file_size",
            kind: Kind::Size,
            default: Preset::Value("10M"),
            doc: "A file of this size is put aside and a new one begun.",
            example: r#""10M""#,
        },
        KeyDef {
            name: "files",
            kind: Kind::Whole { min: 1, max: 1000 },
            default: Preset::Value("10"),
            doc: "How many files are kept for each service.",
            example: "10",
        },
    ],
    foreign: &[("level", NOT_YET)],
};

/// Every table, in the order they are documented.
pub(crate) static TABLES: [&Table; 18] = [
    &ROOT,
    &SERVER,
    &SERVICE,
    &EGRESS,
    &DEPENDENCY,
    &READINESS,
    &RESTART,
    &BACKOFF,
    &GIVE_UP,
    &STOP,
    &LIMITS,
    &SOFT_HARD,
    &TIMEOUTS,
    &GATEWAY,
    &ROUTE,
    &HOLD,
    &POLICIES,
    &LOGS,
];

impl Table {
    /// The key of this name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static KeyDef> {
        self.keys.iter().find(|key| key.name == name)
    }
}
