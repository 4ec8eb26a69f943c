//! The rules of the gateway.

use super::{
    KeyDef, Kind, Preset, TIMEOUTS, Table,
    auth::{AUTH_KEY, ROLES_KEY},
    cache::ROUTE_CACHE_KEY,
    compress::COMPRESS_KEY,
    guard::{AUTHORITY_KEY, BODY_LIMIT, CORS_KEY, FILTERS_KEY, IP, RATE_LIMIT_KEY, RULES_KEY},
    openapi::{API_PAGE_KEY, DEPRECATION_KEY, SUNSET_KEY},
    words::{PATH_CASE, PATH_MATCH, PROTOCOL},
};

/// What each header, cookie or parameter of the query has to be.
const CONDITIONS: Kind = Kind::Named(&Kind::Either(&[Kind::Text, Kind::Table(&ROUTE_CONDITION)]));

pub(crate) static ROUTE: Table = Table {
    title: "gateway.routes",
    doc: "One rule of the gateway.",
    keys: &[
        KeyDef {
            name: "path",
            kind: Kind::RoutePath,
            default: Preset::Value("/"),
            doc: "A path and everything below it: `/api` is for `/api` and `/api/x`, not for `/apix`. A segment `{name}`, in lower case, is any one \
                  that is not empty; variables in upper case are filled in as everywhere.",
            example: r#""/users/{id}""#,
        },
        KeyDef {
            name: "match",
            kind: Kind::Words(&PATH_MATCH),
            default: Preset::Value("prefix"),
            doc: "How the path is meant.",
            example: r#""exact""#,
        },
        KeyDef {
            name: "case",
            kind: Kind::Words(&PATH_CASE),
            default: Preset::Value("guarded"),
            doc: "What its path is in other letters. [More](policies.md#spellings-of-a-path)",
            example: r#""exact""#,
        },
        KeyDef {
            name: "host",
            kind: Kind::HostName,
            default: Preset::Unset("every host"),
            doc: "The host it is for; `*.example.org` is every name below.",
            example: r#""example.org""#,
        },
        KeyDef {
            name: "methods",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("every method"),
            doc: "The methods it takes; `GET` takes HEAD as well, unless a route for the same lists HEAD. Where routes take other methods of a path only, the answer is 405.",
            example: r#"["GET", "POST"]"#,
        },
        KeyDef {
            name: "headers",
            kind: CONDITIONS,
            default: Preset::Unset("none is asked for"),
            doc: "Headers that a request must have: the value, or a table.",
            example: r#"{"x-version": "2"}"#,
        },
        KeyDef {
            name: "cookies",
            kind: CONDITIONS,
            default: Preset::Unset("none is asked for"),
            doc: "Cookies that it must have, likewise.",
            example: r#"{"beta": {"regex": "yes|on"}}"#,
        },
        KeyDef {
            name: "query",
            kind: CONDITIONS,
            default: Preset::Unset("none is asked for"),
            doc: "Parameters after `?` that it must have, likewise.",
            example: r#"{"debug": {"present": true}}"#,
        },
        KeyDef {
            name: "service",
            kind: Kind::ServiceName,
            default: Preset::Derived(
                "this, `services`, `upstream`, `static`, `openapi`, `redirect` or `respond` has to be written",
            ),
            doc: "Where the requests go.",
            example: r#""api""#,
        },
        KeyDef {
            name: "services",
            kind: Kind::Named(&Kind::Whole { min: 0, max: 1000 }),
            default: Preset::Unset("one service"),
            doc: "Services that share the requests, each with its weight: of `{api: 9, next: 1}` every tenth request goes to `next`, by chance. One \
                  with `0` gets none.",
            example: r#"{"api": 9, "web": 1}"#,
        },
        KeyDef {
            name: "sticky",
            kind: Kind::Text,
            default: Preset::Unset("each request for itself"),
            doc: "The name of a cookie that keeps a client with the service of `services` that it met first, until the browser ends.",
            example: r#""canary""#,
        },
        KeyDef {
            name: "upstream",
            kind: Kind::Either(&[Kind::Text, Kind::Table(&UPSTREAM)]),
            default: Preset::Unset("a service"),
            doc: "A server that is no service of the application, in place of one: its URL, or a table.",
            example: r#""http://127.0.0.1:8080""#,
        },
        KeyDef {
            name: "static",
            kind: Kind::Either(&[Kind::FilePath, Kind::Table(&FILES)]),
            default: Preset::Unset("none"),
            doc: "Files of a folder, in place of a service: what follows the route's path is the path of the file. [More](http.md#files)",
            example: r#""dist""#,
        },
        API_PAGE_KEY,
        KeyDef {
            name: "redirect",
            kind: Kind::Either(&[Kind::Text, Kind::Table(&REDIRECT)]),
            default: Preset::Unset("none"),
            doc: "Sends clients elsewhere: a path or a URL in place of the route's path, with what follows it and the query.",
            example: r#""https://example.org""#,
        },
        KeyDef {
            name: "respond",
            kind: Kind::Either(&[STATUS, Kind::Table(&RESPOND)]),
            default: Preset::Unset("none"),
            doc: "Answers with this status, without any service.",
            example: "503",
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
            doc: "What the service sees in place of the route's path. `{name}` stands for what the path's parameter of that name does, or the group \
                  `(?<name>…)` of a regular expression.",
            example: r#""/v1""#,
        },
        KeyDef {
            name: "request_headers",
            kind: Kind::Table(&HEADER_RULES),
            default: Preset::Inner,
            doc: "What becomes of the headers of requests before the service sees them.",
            example: r#"{"set": {"x-tenant": "shop"}, "remove": ["authorization"]}"#,
        },
        KeyDef {
            name: "response_headers",
            kind: Kind::Table(&HEADER_RULES),
            default: Preset::Inner,
            doc: "The same of responses: of the service, of `redirect` and of `respond`, not of the proxy's errors.",
            example: r#"{"set": {"strict-transport-security": "max-age=31536000"}, "remove": ["server"]}"#,
        },
        KeyDef {
            name: "fault",
            kind: Kind::Table(&FAULT),
            default: Preset::Unset("none"),
            doc: "Faults on purpose, for tests of what calls the gateway.",
            example: r#"{"delay": "200ms", "abort": 503, "aborted": "10%"}"#,
        },
        KeyDef {
            name: "mirror",
            kind: Kind::Either(&[Kind::ServiceName, Kind::Table(&MIRROR)]),
            default: Preset::Unset("none"),
            doc: "A service that gets a copy of each request, and whose answers nobody gets.",
            example: r#"{"service": "web", "part": "10%"}"#,
        },
        IP,
        CORS_KEY,
        BODY_LIMIT,
        RATE_LIMIT_KEY,
        RULES_KEY,
        AUTHORITY_KEY,
        FILTERS_KEY,
        AUTH_KEY,
        ROLES_KEY,
        ROUTE_CACHE_KEY,
        DEPRECATION_KEY,
        SUNSET_KEY,
        COMPRESS_KEY,
    ],
    foreign: &[
        ("to", "write `service`"),
        ("weights", "write `services`"),
        ("return", "write `respond`"),
        ("add_headers", "write `response_headers: { add: { … } }`"),
        ("headers_remove", "write `request_headers: { remove: [ … ] }`"),
        ("prefix", "write `path`"),
        ("method", "write `methods`"),
        ("regex", "write it as `path`, with `match: regex`"),
        ("exact", "write it as `path`, with `match: exact`"),
    ],
};

pub(crate) static UPSTREAM: Table = Table {
    title: "gateway.routes.upstream",
    doc: "A server that is no service of the application. As text alone it is `url`.",
    keys: &[
        KeyDef {
            name: "url",
            kind: Kind::Text,
            default: Preset::Required,
            doc: "`http://HOST:PORT`, `https://HOST:PORT`, `unix:/PATH` or, for a service, `internal://NAME`. Names are looked up as the host does, again every 10 s. The proxy's user connects, \
                  which is nobody in particular where root has started watt.",
            example: r#""http://legacy.example.org:8080""#,
        },
        KeyDef {
            name: "host",
            kind: Kind::Text,
            default: Preset::Derived("the host and port of `url`; `client` for `unix:`"),
            doc: "What requests have in `Host`: `client` is what the client sent, which `X-Forwarded-Host` says in any case.",
            example: r#""client""#,
        },
        KeyDef {
            name: "protocol",
            kind: Kind::Words(&PROTOCOL),
            default: Preset::Value("http1"),
            doc: "What it speaks; over `https://` only `http1`.",
            example: r#""h2c""#,
        },
        KeyDef {
            name: "ca",
            kind: Kind::FilePath,
            default: Preset::Unset("those whom this host trusts: `/etc/ssl/certs`"),
            doc: "With `https://`: a file of PEM with the certificates of those who vouch for it. It is read when the configuration is.",
            example: r#""/etc/shop/tls/partner.pem""#,
        },
        KeyDef {
            name: "timeouts",
            kind: Kind::Table(&TIMEOUTS),
            default: Preset::Inner,
            doc: "How long is waited for it, as for services. The handshake of TLS is part of `connect`.",
            example: r#"{"connect": "1s"}"#,
        },
    ],
    foreign: &[
        ("uri", "write `url`"),
        ("address", "write `url`"),
        ("path", "write what the path becomes as `rewrite` of the route"),
    ],
};

pub(crate) static FILES: Table = Table {
    title: "gateway.routes.static",
    doc: "Files of a folder. As text alone it is `root`.",
    keys: &[
        KeyDef {
            name: "root",
            kind: Kind::FilePath,
            default: Preset::Required,
            doc: "The folder, from that of the configuration file. Files that everybody may read are served, and no links lead out of it.",
            example: r#""dist""#,
        },
        KeyDef {
            name: "index",
            kind: Kind::FileName,
            default: Preset::Value("index.html"),
            doc: "What a path with a slash at its end stands for. There are no listings.",
            example: r#""index.htm""#,
        },
        KeyDef {
            name: "spa",
            kind: Kind::Text,
            default: Preset::Unset("a 404"),
            doc: "The file that stands for all paths without a file, unless their last name has a dot in it: the page of an application that has its own paths in the browser.",
            example: r#""index.html""#,
        },
        KeyDef {
            name: "cache_control",
            kind: Kind::Text,
            default: Preset::Value("no-cache"),
            doc: "What `Cache-Control` says; with `no-cache` browsers ask each time whether there is another one. With `spa`, pages of HTML always say `no-cache`.",
            example: r#""public, max-age=31536000, immutable""#,
        },
        KeyDef {
            name: "precompressed",
            kind: Kind::Bool,
            default: Preset::Value("true"),
            doc: "Whether `x.br`, `x.zst` or `x.gz` is sent in place of `x` to clients that take it, if it is there and not older.",
            example: "false",
        },
        KeyDef {
            name: "hidden",
            kind: Kind::Bool,
            default: Preset::Value("false"),
            doc: "Whether names that begin with a dot are served. `.well-known` is in any case.",
            example: "true",
        },
    ],
    foreign: &[
        ("path", "write `root`"),
        ("folder", "write `root`"),
        ("dir", "write `root`"),
        ("fallback", "write `spa`"),
        ("try_files", "write `spa`"),
    ],
};

/// An answer's status that is final.
const STATUS: Kind = Kind::Whole { min: 200, max: 599 };

pub(crate) static REDIRECT: Table = Table {
    title: "gateway.routes.redirect",
    doc: "Where clients are sent. As text alone it is `to`.",
    keys: &[
        KeyDef {
            name: "to",
            kind: Kind::Text,
            default: Preset::Required,
            doc: "A path, or a URL. `{name}` in its path stands for what the route's parameter does.",
            example: r#""https://example.org/new""#,
        },
        KeyDef {
            name: "status",
            kind: Kind::Whole { min: 301, max: 308 },
            default: Preset::Value("307"),
            doc: "301, 302, 303, 307 or 308. 307 and 308 keep the method and the body, 301 and 308 are for good: browsers remember them.",
            example: "308",
        },
    ],
    foreign: &[("location", "write `to`"), ("code", "write `status`")],
};

pub(crate) static RESPOND: Table = Table {
    title: "gateway.routes.respond",
    doc: "An answer of the proxy's own. As a number alone it is `status`.",
    keys: &[
        KeyDef {
            name: "status",
            kind: STATUS,
            default: Preset::Value("200"),
            doc: "The status.",
            example: "503",
        },
        KeyDef {
            name: "body",
            kind: Kind::Text,
            default: Preset::Unset("none"),
            doc: "The body, of up to 64K.",
            example: r#""We are back at noon.\n""#,
        },
        KeyDef {
            name: "type",
            kind: Kind::Text,
            default: Preset::Value("text/plain; charset=utf-8"),
            doc: "The body's Content-Type.",
            example: r#""text/html; charset=utf-8""#,
        },
    ],
    foreign: &[("content_type", "write `type`"), ("headers", "write `response_headers` beside it")],
};

pub(crate) static HEADER_RULES: Table = Table {
    title: "gateway.routes.request_headers",
    doc: "What becomes of headers; `response_headers` is the same. Those of the connection, the framing and those that the proxy makes cannot be named.",
    keys: &[
        KeyDef {
            name: "set",
            kind: Kind::Variables,
            default: Preset::Unset("none"),
            doc: "Headers in place of those of their names.",
            example: r#"{"x-tenant": "shop"}"#,
        },
        KeyDef {
            name: "add",
            kind: Kind::Variables,
            default: Preset::Unset("none"),
            doc: "Headers beside those of their names.",
            example: r#"{"cache-control": "private"}"#,
        },
        KeyDef {
            name: "remove",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("none"),
            doc: "Headers that go no further.",
            example: r#"["x-powered-by"]"#,
        },
    ],
    foreign: &[("delete", "write `remove`"), ("replace", "write `set`"), ("append", "write `add`")],
};

pub(crate) static FAULT: Table = Table {
    title: "gateway.routes.fault",
    doc: "What happens to some requests, by chance.",
    keys: &[
        KeyDef {
            name: "delay",
            kind: Kind::Duration,
            default: Preset::Unset("none"),
            doc: "They wait so long before anything else is done, up to a minute.",
            example: r#""200ms""#,
        },
        KeyDef {
            name: "delayed",
            kind: Kind::Percent,
            default: Preset::Value("100%"),
            doc: "How many of them.",
            example: r#""50%""#,
        },
        KeyDef {
            name: "abort",
            kind: Kind::Whole { min: 400, max: 599 },
            default: Preset::Unset("none"),
            doc: "They are answered with this status, and go nowhere.",
            example: "503",
        },
        KeyDef {
            name: "aborted",
            kind: Kind::Percent,
            default: Preset::Value("100%"),
            doc: "How many of them.",
            example: r#""10%""#,
        },
    ],
    foreign: &[("latency", "write `delay`"), ("percent", "write `delayed` or `aborted`")],
};

pub(crate) static MIRROR: Table = Table {
    title: "gateway.routes.mirror",
    doc: "Copies of requests. As text alone it is `service`.",
    keys: &[
        KeyDef {
            name: "service",
            kind: Kind::ServiceName,
            default: Preset::Required,
            doc: "Who gets them.",
            example: r#""api""#,
        },
        KeyDef {
            name: "part",
            kind: Kind::Percent,
            default: Preset::Value("100%"),
            doc: "Of how many requests.",
            example: r#""10%""#,
        },
    ],
    foreign: &[("percent", "write `part`"), ("to", "write `service`")],
};

pub(crate) static ROUTE_CONDITION: Table = Table {
    title: "gateway.routes.headers",
    doc: "What a header, a cookie or a parameter of the query has to be, in one of three ways. Of several values any will do.",
    keys: &[
        KeyDef {
            name: "is",
            kind: Kind::Text,
            default: Preset::Unset("not compared"),
            doc: "This text. Written alone, it needs no table.",
            example: r#""2""#,
        },
        KeyDef {
            name: "regex",
            kind: Kind::Pattern,
            default: Preset::Unset("not compared"),
            doc: "What this regular expression describes, from the first character to the last.",
            example: r#""[0-9]+""#,
        },
        KeyDef {
            name: "present",
            kind: Kind::Bool,
            default: Preset::Unset("not asked"),
            doc: "With `true` anything, if it is there; with `false` it must not be there.",
            example: "true",
        },
    ],
    foreign: &[("exact", "write `is`"), ("value", "write `is`"), ("absent", "write `present: false`")],
};
