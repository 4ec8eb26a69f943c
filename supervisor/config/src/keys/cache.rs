//! Which responses the proxy stores.

use watt_core::plan::{Believed, CacheCookies};

use super::{KeyDef, Kind, Preset, Table, Words};

/// What becomes of responses that set cookies.
pub(crate) static CACHE_COOKIES: Words<CacheCookies> = Words(&[
    (
        "refuse",
        CacheCookies::Refuse,
        "they are not stored, unless they say `public` or `s-maxage`; then without their cookies",
    ),
    ("strip", CacheCookies::Strip, "they are stored without their cookies"),
    ("keep", CacheCookies::Keep, "they are stored with them: whoever asks next gets the same ones"),
]);

/// Whose wishes count.
pub(crate) static CACHE_BELIEVED: Words<Believed> = Words(&[
    ("nobody", Believed::Nobody, "of nobody"),
    ("services", Believed::Services, "of calls of services and operators, and not of clients of the gateway"),
    ("everybody", Believed::Everybody, "of clients of the gateway as well"),
]);

/// What is answered by what is stored.
pub(crate) static CACHE_METHOD: Words<bool> =
    Words(&[("GET", false, "GET"), ("HEAD", true, "HEAD, by what is stored for GET")]);

pub(super) const CACHE_KEY: KeyDef = KeyDef {
    name: "cache",
    kind: Kind::Either(&[Kind::Bool, Kind::Table(&CACHE)]),
    default: Preset::Value("false"),
    doc: "Which of its responses the proxy stores and answers requests with: `true`, or a table of what is to be other than usual. [More](cache.md)",
    example: "true",
};

/// The same of a route.
pub(super) const ROUTE_CACHE_KEY: KeyDef = KeyDef {
    default: Preset::Unset("what its service says"),
    doc: "Which responses the proxy stores and answers requests with, in place of what the service says. [More](cache.md)",
    ..CACHE_KEY
};

pub(super) const CACHE_STORE_KEY: KeyDef = KeyDef {
    name: "cache",
    kind: Kind::Table(&CACHE_STORE),
    default: Preset::Inner,
    doc: "How much the proxy stores of responses, of all services together. Which ones is said by `cache` of services and routes.",
    example: r#"{"size": "256M"}"#,
};

pub(crate) static CACHE_STORE: Table = Table {
    title: "cache",
    doc: "How much the proxy stores of responses, of all services together. [More](cache.md)",
    keys: &[
        KeyDef {
            name: "size",
            kind: Kind::Size,
            default: Preset::Value("64M"),
            doc: "The memory for it, with all that belongs to it, what is being stored and what is still being sent included.",
            example: r#""256M""#,
        },
        KeyDef {
            name: "entries",
            kind: Kind::Whole { min: 1, max: 100_000_000 },
            default: Preset::Value("1000000"),
            doc: "The most responses.",
            example: "10000",
        },
    ],
    foreign: &[
        ("maxSize", "write `size`"),
        ("max_size", "write `size`"),
        ("maxCount", "write `entries`"),
        ("max_entries", "write `entries`"),
        ("maxEntrySize", "write `max_size` inside `cache` of a service"),
        ("cacheByDefault", "write `ttl` inside `cache` of a service"),
        ("cacheTagsHeader", "write `tags` inside `cache` of a service"),
        ("methods", "write it inside `cache` of a service"),
        ("origins", "write `cache` into the services that are meant"),
        ("store", "remove it: responses are stored in the proxy's memory"),
        ("type", "remove it: what is for one client alone is not stored"),
    ],
};

pub(crate) static CACHE: Table = Table {
    title: "services.NAME.cache",
    doc: "Which responses the proxy stores: of a service, or along a route. [More](cache.md)",
    keys: &[
        KeyDef {
            name: "methods",
            kind: Kind::List(&Kind::Words(&CACHE_METHOD)),
            default: Preset::Derived("`[\"GET\", \"HEAD\"]`"),
            doc: "The requests that are answered by what is stored.",
            example: r#"["GET"]"#,
        },
        KeyDef {
            name: "max_size",
            kind: Kind::Size,
            default: Preset::Value("1M"),
            doc: "The largest body that is stored. A larger one goes to its client alone.",
            example: r#""10M""#,
        },
        KeyDef {
            name: "ttl",
            kind: Kind::Duration,
            default: Preset::Unset("they are not stored"),
            doc: "How long responses are fresh that do not say it: those with status 200, 203, 204, 300, 301 and 308.",
            example: r#""1m""#,
        },
        KeyDef {
            name: "heuristic",
            kind: Kind::Percent,
            default: Preset::Unset("they are not stored"),
            doc: "The same as a part of the time since `Last-Modified`, up to a day, where there is no `ttl`. RFC 9111 has 10 % for it.",
            example: r#""10%""#,
        },
        KeyDef {
            name: "stale_while_revalidate",
            kind: Kind::Duration,
            default: Preset::Value("0s"),
            doc: "For how long a stale response that does not say it itself is used yet, while another one is got.",
            example: r#""30s""#,
        },
        KeyDef {
            name: "stale_if_error",
            kind: Kind::Duration,
            default: Preset::Value("0s"),
            doc: "For how long a stale response that does not say it itself is used when the service answers with 500 or more, or not at all.",
            example: r#""1h""#,
        },
        KeyDef {
            name: "vary",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("those that responses name in `Vary`"),
            doc: "Headers of requests by which responses differ, besides those that they name themselves.",
            example: r#"["X-Tenant"]"#,
        },
        KeyDef {
            name: "tags",
            kind: Kind::Text,
            default: Preset::Value("cache-tag"),
            doc: "The header of responses that has their tags, with commas or spaces between them. `wattctl cache purge --tag` removes what has one.",
            example: r#""surrogate-key""#,
        },
        KeyDef {
            name: "set_cookie",
            kind: Kind::Words(&CACHE_COOKIES),
            default: Preset::Value("refuse"),
            doc: "What becomes of responses that set cookies.",
            example: r#""strip""#,
        },
        KeyDef {
            name: "request_directives",
            kind: Kind::Words(&CACHE_BELIEVED),
            default: Preset::Value("services"),
            doc: "Whose requests may say in `Cache-Control` that they want no stored response, or one of some age. Browsers do with each reload of a page. `no-store` is heeded in any case: the response is not stored.",
            example: r#""everybody""#,
        },
    ],
    foreign: &[
        ("size", "write it inside `cache` of the application; the largest body is `max_size`"),
        ("maxEntrySize", "write `max_size`"),
        ("max_entry_size", "write `max_size`"),
        ("cacheByDefault", "write `ttl`"),
        ("by_default", "write `ttl`"),
        ("default_ttl", "write `ttl`"),
        ("cacheTagsHeader", "write `tags`"),
        ("tags_header", "write `tags`"),
        ("type", "remove it: what is for one client alone is not stored"),
    ],
};
