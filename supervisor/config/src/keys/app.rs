//! The tables of the application as a whole.

use super::{
    ACCESS, CEILING, GROUP, JOB, KeyDef, Kind, LISTENER, NOT_YET, PROFILE, Preset, RELOAD, ROLE, ROUTE,
    SANDBOX, SCHEDULED, SERVER, SERVICE, Table,
    auth::{AUTH_KEY, ROLES_KEY},
    cache::CACHE_STORE_KEY,
    compress::COMPRESS_KEY,
    guard::{AUTHORITY_KEY, BODY_LIMIT, CORS_KEY, FILTERS_KEY, IP, RATE_LIMIT_KEY, RULES_KEY},
};

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
            default: Preset::Derived("with routes and no `gateway.listeners`: 127.0.0.1:3042; else none"),
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
            name: "groups",
            kind: Kind::Named(&Kind::Table(&GROUP)),
            default: Preset::Unset("each worker that fails is started anew alone"),
            doc: "Services that are started anew together when one of them fails.",
            example: r#"{"backend": {"services": ["db", "api"], "strategy": "rest_for_one"}}"#,
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
        CACHE_STORE_KEY,
        KeyDef {
            name: "jobs",
            kind: Kind::Named(&Kind::Table(&JOB)),
            default: Preset::Unset("none"),
            doc: "What is done at certain times, by name.",
            example: r#"{"tick": {"service": "api", "http": "/tick", "schedule": "*/5 * * * *"}}"#,
        },
        KeyDef {
            name: "scheduler",
            kind: Kind::List(&Kind::Table(&SCHEDULED)),
            default: Preset::Unset("none"),
            doc: "Jobs as Platformatic writes them.",
            example: r#"[{"name": "tick", "cron": "*/5 * * * *", "callbackUrl": "http://api.plt.local/tick"}]"#,
        },
        KeyDef {
            name: "logs",
            kind: Kind::Table(&LOGS),
            default: Preset::Inner,
            doc: "What is kept of the services' output.",
            example: r#"{"file_size": "10M", "files": 10}"#,
        },
        KeyDef {
            name: "metrics",
            kind: Kind::Either(&[Kind::Bool, Kind::Table(&METRICS)]),
            default: Preset::Value("false"),
            doc: "Where collectors such as Prometheus get what was counted: `true`, or a table of what is to be other than usual. [More](metrics.md)",
            example: r#"{"port": 9090}"#,
        },
        KeyDef {
            name: "reload",
            kind: Kind::Words(&RELOAD),
            default: Preset::Value("on-request"),
            doc: "When the configuration is read again while the application runs.",
            example: r#""on-change""#,
        },
        KeyDef {
            name: "sandbox",
            kind: Kind::Either(&[Kind::Words(&PROFILE), Kind::Table(&SANDBOX)]),
            default: Preset::Value("standard"),
            doc: "What services may see and do, unless they say otherwise.",
            example: r#""standard""#,
        },
        KeyDef {
            name: "limits",
            kind: Kind::Table(&CEILING),
            default: Preset::Inner,
            doc: "What all services together may use, held by the kernel.",
            example: r#"{"memory": "4G"}"#,
        },
        KeyDef {
            name: "secrets",
            kind: Kind::Named(&Kind::Table(&SECRET)),
            default: Preset::Unset("none"),
            doc: "Where the values of secrets come from, by name. Which service gets which is in its own `secrets`. Values are never shown.",
            example: r#"{"db_password": {"file": "/etc/shop/db_password"}}"#,
        },
        KeyDef {
            name: "control",
            kind: Kind::Table(&CONTROL),
            default: Preset::Inner,
            doc: "Who may use the control socket.",
            example: r#"{"groups": {"ops": "operate"}}"#,
        },
    ],
    foreign: &[
        ("applications", "write `services`"),
        ("processes", "write `services`"),
        ("apps", "write `services`"),
        ("watch", "write `reload: on-change` to have this file read again when it changes"),
        ("version", "remove it: the file has no version"),
        ("routes", "write it inside `gateway`"),
        ("hold", "write it inside `gateway`"),
        (
            "httpCache",
            "write `cache` into the services whose responses are to be stored; how much is `cache` here",
        ),
        ("port", "write it inside `server`"),
        ("hostname", "write it inside `server`"),
        ("env", "write it inside a service, or put variables for all of them into `.env`"),
    ],
};

pub(crate) static METRICS: Table = Table {
    title: "metrics",
    doc: "A port where whoever asks gets what was counted, in plain text and without credentials. At `/ready` is said whether each service has a worker that is ready (200 or 500), at `/status` that watt is there.",
    keys: &[
        KeyDef {
            name: "enabled",
            kind: Kind::Bool,
            default: Preset::Value("true"),
            doc: "Whether there is one.",
            example: "true",
        },
        KeyDef {
            name: "hostname",
            kind: Kind::IpAddress,
            default: Preset::Value("127.0.0.1"),
            doc: "The address. Another one than this host's own, and everybody who gets there can read it.",
            example: r#""10.0.0.5""#,
        },
        KeyDef {
            name: "port",
            kind: Kind::Whole { min: 0, max: 65535 },
            default: Preset::Value("9090"),
            doc: "The port; 0 is a free one.",
            example: "9090",
        },
        KeyDef {
            name: "endpoint",
            kind: Kind::UrlPath,
            default: Preset::Value("/metrics"),
            doc: "The path.",
            example: r#""/metrics""#,
        },
    ],
    foreign: &[
        ("host", "write `hostname`"),
        ("path", "write `endpoint`"),
        ("server", "write `hostname` and `port`"),
        ("auth", NOT_YET),
        ("https", NOT_YET),
        ("labels", NOT_YET),
        ("otlpExporter", NOT_YET),
        ("readiness", NOT_YET),
        ("liveness", NOT_YET),
    ],
};

pub(crate) static GATEWAY: Table = Table {
    title: "gateway",
    doc: "The way from clients to services. `ip`, `cors`, `body_limit` and `rate_limit` are for all routes that have none of their own.",
    keys: &[
        KeyDef {
            name: "routes",
            kind: Kind::List(&Kind::Table(&ROUTE)),
            default: Preset::Unset("no gateway, unless there are `listeners`"),
            doc: "The rules. Of those that take a request the most specific one has it: docs/http.md says which that is, and `wattctl routes --test` why.",
            example: r#"[{"path": "/", "service": "api"}]"#,
        },
        KeyDef {
            name: "listeners",
            kind: Kind::Named(&Kind::Table(&LISTENER)),
            default: Preset::Unset("that of `server` alone"),
            doc: "Further listeners, by names of your choice.",
            example: r#"{"admin": {"port": 9000, "routes": [{"path": "/", "service": "api"}]}}"#,
        },
        KeyDef {
            name: "hold",
            kind: Kind::Table(&HOLD),
            default: Preset::Inner,
            doc: "Requests wait while a service starts or restarts, instead of failing.",
            example: r#"{"timeout": "10s", "requests": 1000}"#,
        },
        KeyDef {
            name: "body_rate",
            kind: Kind::Whole { min: 0, max: 1_000_000_000 },
            default: Preset::Value("100"),
            doc: "Bytes a second that the body of a request has to come with on average, after its first minute. \
                  Slower ones are answered with 408; with `0` none is.",
            example: "500",
        },
        IP,
        CORS_KEY,
        BODY_LIMIT,
        RATE_LIMIT_KEY,
        RULES_KEY,
        AUTHORITY_KEY,
        FILTERS_KEY,
        COMPRESS_KEY,
        AUTH_KEY,
        ROLES_KEY,
    ],
    foreign: &[
        ("server", "write it at the top of the file"),
        ("rate_limits", "write `rate_limit`"),
        ("ips", "write `ip`"),
        ("max_body_size", "write `body_limit`"),
        ("bodyLimit", "write `body_limit`"),
    ],
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
        KeyDef {
            name: "journal",
            kind: Kind::Bool,
            default: Preset::Unset("`true` in a unit of systemd whose output goes to its journal"),
            doc: "Whether lines and events go to systemd's journal as well, with fields such as `WATT_SERVICE`.",
            example: "false",
        },
        KeyDef {
            name: "access",
            kind: Kind::Either(&[Kind::Words(&ACCESS), Kind::Table(&ACCESS_LOG)]),
            default: Preset::Value("none"),
            doc: "Which requests are written to `access.log`, a line of JSON each when it is over.",
            example: r#""gateway""#,
        },
    ],
    foreign: &[("level", NOT_YET)],
};

pub(crate) static ACCESS_LOG: Table = Table {
    title: "logs.access",
    doc: "The access log: docs/http.md says what is in a line. A word alone stands for `requests`.",
    keys: &[
        KeyDef {
            name: "requests",
            kind: Kind::Words(&ACCESS),
            default: Preset::Value("gateway"),
            doc: "Which requests are written.",
            example: r#""all""#,
        },
        KeyDef {
            name: "sample",
            kind: Kind::Percent,
            default: Preset::Value("100%"),
            doc: "How many of them. Those that fail, with a status from 500 on or without an answer, are all written.",
            example: r#""10%""#,
        },
        KeyDef {
            name: "headers",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("none"),
            doc: "Headers of requests that are written as well. Not those that let somebody in, such as `Authorization` and `Cookie`.",
            example: r#"["user-agent", "referer"]"#,
        },
        KeyDef {
            name: "query",
            kind: Kind::Bool,
            default: Preset::Value("false"),
            doc: "Whether the query is written, which may hold what is nobody's business.",
            example: "true",
        },
    ],
    foreign: &[],
};

pub(crate) static SECRET: Table = Table {
    title: "secrets.NAME",
    doc: "Where a secret's value comes from: exactly one of these.",
    keys: &[
        KeyDef {
            name: "file",
            kind: Kind::FilePath,
            default: Preset::Unset("not this"),
            doc: "A file, from the folder of the configuration file.",
            example: r#""/etc/shop/db_password""#,
        },
        KeyDef {
            name: "env",
            kind: Kind::VariableName,
            default: Preset::Unset("not this"),
            doc: "A variable of watt's own environment or of `.env`. No service has it in its environment.",
            example: r#""DB_PASSWORD""#,
        },
        KeyDef {
            name: "credential",
            kind: Kind::FileName,
            default: Preset::Unset("not this"),
            doc: "A credential that systemd loaded for watt's unit (`LoadCredential=`).",
            example: r#""db_password""#,
        },
        KeyDef {
            name: "command",
            kind: Kind::Command,
            default: Preset::Unset("not this"),
            doc: "What this program writes to its standard output: text that is split as a shell would, or a list.",
            example: r#"["pass", "show", "shop/db"]"#,
        },
    ],
    foreign: &[
        ("environment", "write `env`"),
        ("path", "write `file`"),
        ("value", "a secret does not belong into this file; write `file`, `env`, `credential` or `command`"),
    ],
};

pub(crate) static CONTROL: Table = Table {
    title: "control",
    doc: "Who may use the control socket. Root and the user who started watt always may.",
    keys: &[KeyDef {
        name: "groups",
        kind: Kind::Named(&Kind::Words(&ROLE)),
        default: Preset::Unset("nobody else"),
        doc: "Groups of the host, each with what its members may do.",
        example: r#"{"ops": "operate"}"#,
    }],
    foreign: &[("users", "write `groups`; make a group for them")],
};
