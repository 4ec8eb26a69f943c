//! What requests have to pass.

use watt_core::plan::CountedBy;

use super::{KeyDef, Kind, Preset, Table, Words};

/// The most requests of a rate, and the most at once.
pub(crate) const REQUESTS_MAX: u64 = 1_000_000_000;

/// The methods that pages may use unless others are listed: those that services have.
pub(crate) const CORS_METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// What requests are counted by.
pub(crate) static COUNTED_BY: Words<CountedBy> = Words(&[
    (
        "address",
        CountedBy::Address,
        "the client's address, of IPv6 its first 64 bits; a call in the mesh is its service's",
    ),
    ("service", CountedBy::Service, "the service that calls; all clients of the gateway are one"),
    ("everyone", CountedBy::Everyone, "all together"),
    ("user", CountedBy::User, "who it is known to be by `auth`; others by their address"),
]);

pub(super) const IP: KeyDef = KeyDef {
    name: "ip",
    kind: Kind::List(&Kind::Text),
    default: Preset::Unset("all addresses"),
    doc: "Which addresses may come: `allow` or `deny`, and an address, a network or `all`. The first that an address is in decides; those in none \
          have the opposite of the last one. Others are answered with 403. [More](policies.md#addresses)",
    example: r#"["deny 192.0.2.7", "allow 192.0.2.0/24"]"#,
};

pub(super) const CORS_KEY: KeyDef = KeyDef {
    name: "cors",
    kind: Kind::Table(&CORS),
    default: Preset::Unset("the services' affair"),
    doc: "Which pages of other origins may. The gateway answers their preflights, and its headers replace the service's. [More](policies.md#cors)",
    example: r#"{"origins": ["https://app.example.org"]}"#,
};

pub(super) const BODY_LIMIT: KeyDef = KeyDef {
    name: "body_limit",
    kind: Kind::Size,
    default: Preset::Unset("any size"),
    doc: "The largest body of a request. Larger ones are answered with 413.",
    example: r#""10M""#,
};

pub(super) const RATE_LIMIT_KEY: KeyDef = KeyDef {
    name: "rate_limit",
    kind: Kind::Either(&[Kind::Table(&RATE_LIMIT), Kind::List(&Kind::Table(&RATE_LIMIT))]),
    default: Preset::Unset("none"),
    doc: "How often requests may come: one limit, or a list of them, all of which hold. Those beyond are answered with 429. [More](policies.md#rate-limits)",
    example: r#"{"requests": 100, "per": "1m"}"#,
};

pub(super) const AUTHORITY_KEY: KeyDef = KeyDef {
    name: "authority",
    kind: Kind::Either(&[Kind::Words(&super::OFF), Kind::Table(&AUTHORITY)]),
    default: Preset::Unset("nobody is asked"),
    doc: "A service that gets the head of each request and allows it, by a status of 2xx, or answers it. [More](policies.md#authority)",
    example: r#"{"service": "api"}"#,
};

pub(crate) static AUTHORITY: Table = Table {
    title: "authority",
    doc: "Who says whether a request may go on. One that does not answer says no.",
    keys: &[
        KeyDef {
            name: "service",
            kind: Kind::ServiceName,
            default: Preset::Required,
            doc: "The service. It is asked by GET, with the headers of the request, its method in `X-Forwarded-Method` and its path and query in `X-Forwarded-Uri`.",
            example: r#""api""#,
        },
        KeyDef {
            name: "path",
            kind: Kind::UrlPath,
            default: Preset::Value("/"),
            doc: "The path that it is asked at.",
            example: r#""/allow""#,
        },
        KeyDef {
            name: "copy",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("none"),
            doc: "The headers of its answer that the request gets, in place of what the client sent.",
            example: r#"["X-User"]"#,
        },
        KeyDef {
            name: "timeout",
            kind: Kind::Duration,
            default: Preset::Value("5s"),
            doc: "How long it has to answer.",
            example: r#""2s""#,
        },
    ],
    foreign: &[
        ("url", "write `service`, and `path`"),
        ("uri", "write `path`"),
        ("headers", "write `copy`"),
        ("authResponseHeaders", "write `copy`"),
        ("allowed_upstream_headers", "write `copy`"),
    ],
};

pub(super) const FILTERS_KEY: KeyDef = KeyDef {
    name: "filters",
    kind: Kind::List(&Kind::Either(&[Kind::ServiceName, Kind::Table(&FILTER)])),
    default: Preset::Unset("none"),
    doc: "Services that get the head of each request, one after the other, and let it pass, change its headers or its path, or answer it. \
          [More](policies.md#filters)",
    example: r#"[{"service": "api", "path": "/look"}]"#,
};

pub(crate) static FILTER: Table = Table {
    title: "filters",
    doc: "A service that looks at requests before they get on. As text alone it is `service`. [More](policies.md#filters)",
    keys: &[
        KeyDef {
            name: "service",
            kind: Kind::ServiceName,
            default: Preset::Required,
            doc: "The service. It is asked by POST, with what is in the head as JSON.",
            example: r#""api""#,
        },
        KeyDef {
            name: "path",
            kind: Kind::UrlPath,
            default: Preset::Value("/"),
            doc: "The path that it is asked at.",
            example: r#""/look""#,
        },
        KeyDef {
            name: "timeout",
            kind: Kind::Duration,
            default: Preset::Value("1s"),
            doc: "How long it has to answer.",
            example: r#""200ms""#,
        },
        KeyDef {
            name: "on_failure",
            kind: Kind::Words(&WHEN_FAILED),
            default: Preset::Value("refuse"),
            doc: "What becomes of requests when it does not answer, or not as a filter does.",
            example: r#""pass""#,
        },
    ],
    foreign: &[
        ("url", "write `service`, and `path`"),
        ("failure_mode_allow", "write `on_failure: pass`"),
        ("message_timeout", "write `timeout`"),
    ],
};

/// Whether requests pass.
pub(crate) static WHEN_FAILED: Words<bool> = Words(&[
    ("refuse", false, "they are answered with 503"),
    ("pass", true, "they go on as if it were not there"),
]);

pub(super) const RULES_KEY: KeyDef = KeyDef {
    name: "rules",
    kind: Kind::List(&Kind::Table(&ACCESS_RULE)),
    default: Preset::Unset("all who get here"),
    doc: "Who may do what: the first rule that fits decides, and where none does it is the opposite of the last one's word. Others are answered with 403. \
          [More](policies.md#rules)",
    example: r#"[{"do": "allow", "methods": ["GET"]}]"#,
};

/// What a rule says.
pub(crate) static VERDICT: Words<bool> = Words(&[("allow", true, "it may"), ("deny", false, "it may not")]);

pub(crate) static ACCESS_RULE: Table = Table {
    title: "rules",
    doc: "One rule. It fits where all that is written holds; of a list, one will do.",
    keys: &[
        KeyDef {
            name: "do",
            kind: Kind::Words(&VERDICT),
            default: Preset::Required,
            doc: "What it says.",
            example: r#""allow""#,
        },
        KeyDef {
            name: "methods",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("every method"),
            doc: "The request's method; `GET` is HEAD as well.",
            example: r#"["GET"]"#,
        },
        KeyDef {
            name: "path",
            kind: Kind::UrlPath,
            default: Preset::Unset("every path"),
            doc: "Its path, or one below: as the client sent it, and for the rules of a service as the service gets it. A segment `*` is any one. A denial is meant for all spellings of it, an allowance for this one.",
            example: r#""/orders/*/items""#,
        },
        KeyDef {
            name: "roles",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("whoever it is"),
            doc: "The roles of whoever asks, where that is known by `auth`.",
            example: r#"["admin"]"#,
        },
        KeyDef {
            name: "users",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("whoever it is"),
            doc: "Who asks, likewise.",
            example: r#"["ada"]"#,
        },
        KeyDef {
            name: "claims",
            kind: Kind::Named(&Kind::Either(&[Kind::Text, Kind::List(&Kind::Text)])),
            default: Preset::Unset("whatever they are"),
            doc: "What the token says: by claim its value, or a list of them. Of a claim that is a list, or words, one has to be among them.",
            example: r#"{"tenant": ["blue", "green"]}"#,
        },
        KeyDef {
            name: "certificate",
            kind: Kind::Table(&ACCESS_CERTIFICATE),
            default: Preset::Unset("with or without one"),
            doc: "The certificate that the client has shown, where `tls` asks for one by `client_ca`; `{}` is any.",
            example: r#"{"cn": ["billing"]}"#,
        },
        KeyDef {
            name: "from",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("whoever calls"),
            doc: "The service that calls, and `gateway` for clients. Of the rules of services alone.",
            example: r#"["api"]"#,
        },
    ],
    foreign: &[
        ("allow", "write `do: allow`"),
        ("deny", "write `do: deny`"),
        ("effect", "write `do`"),
        ("action", "write `do`"),
        ("method", "write `methods`"),
        ("role", "write `roles`"),
        ("user", "write `users`"),
        ("services", "write `from`"),
    ],
};

pub(crate) static ACCESS_CERTIFICATE: Table = Table {
    title: "rules.certificate",
    doc: "Names that a client's certificate has: one of each kind that is written. A denial is meant for names in any letters, an allowance for these; in hosts they are never told apart.",
    keys: &[
        KeyDef {
            name: "cn",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("any or none"),
            doc: "`CN` of its subject, as a whole.",
            example: r#"["billing"]"#,
        },
        KeyDef {
            name: "dns",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("any or none"),
            doc: "A host among its alternative names (`subjectAltName`), as it is written there.",
            example: r#"["billing.shop.example"]"#,
        },
        KeyDef {
            name: "uri",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("any or none"),
            doc: "A URI among them, as SPIFFE has it.",
            example: r#"["spiffe://shop.example/billing"]"#,
        },
        KeyDef {
            name: "email",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("any or none"),
            doc: "A mail address among them.",
            example: r#"["ada@shop.example"]"#,
        },
    ],
    foreign: &[
        ("common_name", "write `cn`"),
        ("subject", "write `cn`, or one of its alternative names"),
        ("san", "write `dns`, `uri` or `email`"),
        ("spiffe", "write `uri`"),
    ],
};

pub(crate) static CORS: Table = Table {
    title: "cors",
    doc: "Which pages of other origins may send requests from browsers, and read what is answered (CORS).",
    keys: &[
        KeyDef {
            name: "origins",
            kind: Kind::List(&Kind::Text),
            default: Preset::Required,
            doc: "The origins of those pages: scheme, host, and the port where it is another one than usual. `https://*.example.org` is every name below; `*` alone is all.",
            example: r#"["https://app.example.org", "https://*.example.com"]"#,
        },
        KeyDef {
            name: "methods",
            kind: Kind::List(&Kind::Text),
            default: Preset::Derived("`[\"GET\", \"HEAD\", \"POST\", \"PUT\", \"PATCH\", \"DELETE\"]`"),
            doc: "The methods that they may use.",
            example: r#"["GET", "POST"]"#,
        },
        KeyDef {
            name: "headers",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("those they ask for"),
            doc: "The headers that they may set.",
            example: r#"["Content-Type", "X-Request-Id"]"#,
        },
        KeyDef {
            name: "expose",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("those that all pages may read"),
            doc: "The headers of responses that they may read besides.",
            example: r#"["ETag"]"#,
        },
        KeyDef {
            name: "credentials",
            kind: Kind::Bool,
            default: Preset::Value("false"),
            doc: "Whether cookies and the like go with their requests. Not for all origins.",
            example: "true",
        },
        KeyDef {
            name: "max_age",
            kind: Kind::Duration,
            default: Preset::Unset("the browser's: 5 seconds"),
            doc: "How long a browser need not ask again.",
            example: r#""10m""#,
        },
    ],
    foreign: &[
        ("origin", "write `origins`"),
        ("allowOrigin", "write `origins`"),
        ("allow_origins", "write `origins`"),
        ("allowedHeaders", "write `headers`"),
        ("allow_headers", "write `headers`"),
        ("allow_methods", "write `methods`"),
        ("exposedHeaders", "write `expose`"),
        ("expose_headers", "write `expose`"),
        ("allow_credentials", "write `credentials`"),
        ("maxAge", "write `max_age`"),
    ],
};

pub(crate) static RATE_LIMIT: Table = Table {
    title: "rate_limit",
    doc: "How often requests may come, over all threads of the proxy (GCRA). Responses have it in `RateLimit` and `RateLimit-Policy`.",
    keys: &[
        KeyDef {
            name: "requests",
            kind: Kind::Whole { min: 1, max: REQUESTS_MAX },
            default: Preset::Required,
            doc: "So many.",
            example: "100",
        },
        KeyDef {
            name: "per",
            kind: Kind::Duration,
            default: Preset::Value("1m"),
            doc: "In this time, evenly: with 60 a minute one more may come each second.",
            example: r#""1m""#,
        },
        KeyDef {
            name: "burst",
            kind: Kind::Whole { min: 1, max: REQUESTS_MAX },
            default: Preset::Derived("as many as `requests`"),
            doc: "So many at once, after a rest.",
            example: "20",
        },
        KeyDef {
            name: "by",
            kind: Kind::Words(&COUNTED_BY),
            default: Preset::Value("address"),
            doc: "What requests are counted by.",
            example: r#""address""#,
        },
        KeyDef {
            name: "header",
            kind: Kind::Text,
            default: Preset::Unset("none"),
            doc: "Counted by the value of this header instead; those without it as `by` says. Clients may write anything there.",
            example: r#""X-Tenant""#,
        },
        KeyDef {
            name: "name",
            kind: Kind::Text,
            default: Preset::Derived("what it is counted by; of a service after its name"),
            doc: "What it is called in responses. Under the same name at the same place it goes on to count when the configuration changes.",
            example: r#""search""#,
        },
    ],
    foreign: &[
        ("limit", "write `requests`"),
        ("max", "write `requests`"),
        ("rate", "write `requests`, and `per`"),
        ("average", "write `requests`"),
        ("period", "write `per`"),
        ("window", "write `per`"),
        ("timeWindow", "write `per`"),
        ("key", "write `by`, or `header`"),
    ],
};
