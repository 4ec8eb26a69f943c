//! The one list of what may be written in a configuration file.
//!
//! A table names its keys; a key has a kind, a default and a sentence. The decoder opens a file's tables with these and
//! takes defaults from here, the JSON Schema and docs/configuration.md are printed from here, and suggestions search
//! here. A key that is added to a table and not decoded fails a test, and so does the reverse.

mod app;
mod auth;
mod cache;
mod compress;
mod groups;
mod guard;
mod hooks;
mod jobs;
mod limits;
mod listener;
mod openapi;
mod pressure;
mod probes;
mod roll;
mod route;
mod sandbox;
mod scheduling;
mod service;
mod tls;
mod traffic;
mod words;
mod workers;

pub(crate) use self::{
    app::*, auth::*, cache::*, compress::*, groups::*, guard::*, hooks::*, jobs::*, limits::*, listener::*,
    openapi::*, pressure::*, probes::*, roll::*, route::*, sandbox::*, scheduling::*, service::*, tls::*,
    traffic::*, words::*, workers::*,
};

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
    /// A whole number that may be below zero.
    Signed {
        min: i64,
        max: i64,
    },
    /// A file mode creation mask, in octal digits.
    Umask,
    Duration,
    /// A number of workers, or a part of them.
    Share,
    Size,
    Cpu,
    /// A part of something.
    Percent,
    Signal,
    IpAddress,
    UrlPath,
    /// The path of a route: one, with parameters, or a regular expression.
    RoutePath,
    /// A status of HTTP, or the lowest and the highest.
    Status,
    HostName,
    Pattern,
    ServiceName,
    /// CPUs by number and range.
    CpuList,
    /// Hosts outside of the mesh.
    Destination,
    /// The name of a file, without a folder.
    FileName,
    /// The name of an environment variable.
    VariableName,
    /// A user or group of the host, by name or number.
    Account,
    /// A path, after a `-` where it need not exist.
    OptionalPath,
    /// Two paths, source and target, after a `-` where the source need not exist.
    BindPath,
    /// A path, after a `-` where it need not exist, and before options after a colon.
    TemporaryPath,
    /// An error's name or number, or `kill`.
    CallError,
    /// A capability of capabilities(7).
    Capability,
    /// An address family of address_families(7).
    AddressFamily,
    /// A system call or a group of them, in systemd's words.
    SystemCall,
    /// One of some words.
    Words(&'static dyn WordList),
    /// A program and its arguments: text or a list.
    Command,
    /// Any text.
    Text,
    /// Times as cron(5) has them.
    Schedule,
    /// A place of the time zone database.
    TimeZone,
    /// A URL of a service of the mesh.
    MeshUrl,
    /// A URL of anybody.
    WebUrl,
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

/// Every table, in the order they are documented.
pub(crate) static TABLES: [&Table; 76] = [
    &ROOT,
    &SERVER,
    &TLS,
    &CERTIFICATE,
    &SERVICE,
    &WORKERS,
    &TARGET,
    &EGRESS,
    &DEPENDENCY,
    &STARTUP,
    &READINESS,
    &HTTP_CHECK,
    &GRPC_CHECK,
    &HEALTH,
    &RESTART,
    &BACKOFF,
    &GIVE_UP,
    &ROLL,
    &STOP,
    &HOOKS,
    &HOOK,
    &LIMITS,
    &SOFT_HARD,
    &PRESSURE,
    &RECYCLE,
    &SCHEDULING,
    &TIMEOUTS,
    &RETRIES,
    &BREAKER,
    &BULKHEAD,
    &BALANCE,
    &EJECTION,
    &CACHE,
    &DESCRIPTION,
    &GROUP,
    &GATEWAY,
    &LISTENER,
    &ROUTE,
    &ROUTE_CONDITION,
    &UPSTREAM,
    &FILES,
    &API_PAGE,
    &REDIRECT,
    &RESPOND,
    &HEADER_RULES,
    &FAULT,
    &MIRROR,
    &NOTICE,
    &COMPRESS,
    &AUTH,
    &API_KEY,
    &BASIC,
    &USER,
    &JWT,
    &KEYS_URL,
    &CORS,
    &RATE_LIMIT,
    &ACCESS_RULE,
    &ACCESS_CERTIFICATE,
    &AUTHORITY,
    &FILTER,
    &HOLD,
    &POLICIES,
    &CACHE_STORE,
    &JOB,
    &CALL,
    &CATCHING_UP,
    &SCHEDULED,
    &LOGS,
    &ACCESS_LOG,
    &METRICS,
    &SANDBOX,
    &CEILING,
    &IO,
    &SECRET,
    &CONTROL,
];

impl Table {
    /// The key of this name.
    pub(crate) fn key(&self, name: &str) -> Option<&'static KeyDef> {
        self.keys.iter().find(|key| key.name == name)
    }
}

const PORT: Kind = Kind::Whole { min: 1, max: 65535 };
const PORT_OR_ANY: Kind = Kind::Whole { min: 0, max: 65535 };

const NOT_YET: &str = "it is not supported yet";
