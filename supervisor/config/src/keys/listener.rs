//! Where clients come in.

use super::{KeyDef, Kind, PORT_OR_ANY, Preset, ROUTE, TLS, Table, Words};

/// What requests are sent to that no route takes.
pub(crate) static TO_HTTPS: Words<()> =
    Words(&[("https", (), "the same host, path and query in TLS, with 308, which keeps method and body")]);

const TLS_KEY: KeyDef = KeyDef {
    name: "tls",
    kind: Kind::Table(&TLS),
    default: Preset::Unset("plain text"),
    doc: "Clients are spoken with in TLS: `https://`.",
    example: r#"{"certificate": "shop.pem", "key": "shop.key"}"#,
};

const PROXY_PROTOCOL: KeyDef = KeyDef {
    name: "proxy_protocol",
    kind: Kind::List(&Kind::Text),
    default: Preset::Unset("nobody is asked"),
    doc: "Addresses and networks of proxies before the gateway that say who their clients are by the PROXY protocol, version 1 or 2. Their connections have to begin with that; others are taken as they come. [More](http.md#behind-another-proxy)",
    example: r#"["10.0.0.0/8", "192.0.2.1"]"#,
};

const REDIRECT_TO_HTTPS: KeyDef = KeyDef {
    name: "redirect",
    kind: Kind::Words(&TO_HTTPS),
    default: Preset::Unset("none"),
    doc: "Sends clients to TLS: with all requests, or at a listener with `routes` of its own with those that none of them takes. [More](tls.md#from-http-to-https)",
    example: r#""https""#,
};

const REDIRECT_PORT: KeyDef = KeyDef {
    name: "redirect_port",
    kind: Kind::Whole { min: 1, max: 65535 },
    default: Preset::Derived(
        "the port of `server` if it speaks TLS, or else of the first listener by name that does, those last that turn clients without certificates away; behind a proxy that speaks the PROXY protocol 443",
    ),
    doc: "With `redirect`: the port that clients are sent to.",
    example: "443",
};

const HEAD_TIMEOUT: KeyDef = KeyDef {
    name: "head_timeout",
    kind: Kind::Duration,
    default: Preset::Value("30s"),
    doc: "How long the head of a request may take to come, from its first byte on. Slower ones are answered with 408.",
    example: r#""5s""#,
};

const IDLE_TIMEOUT: KeyDef = KeyDef {
    name: "idle_timeout",
    kind: Kind::Duration,
    default: Preset::Value("75s"),
    doc: "How long a connection stays open without a request.",
    example: r#""15s""#,
};

const HEAD_LIMIT: KeyDef = KeyDef {
    name: "head_limit",
    kind: Kind::Size,
    default: Preset::Value("64K"),
    doc: "The longest head of a request: its first line and headers, from 1K to 64K. Longer ones are answered with 431.",
    example: r#""16K""#,
};

const BODY_LIMIT: KeyDef = KeyDef {
    name: "body_limit",
    kind: Kind::Size,
    default: Preset::Unset("any size"),
    doc: "The largest body of a request, whatever its route allows. Larger ones are answered with 413.",
    example: r#""10M""#,
};

const BODY_RATE: KeyDef = KeyDef {
    name: "body_rate",
    kind: Kind::Whole { min: 0, max: 1_000_000_000 },
    default: Preset::Derived("`gateway.body_rate`"),
    doc: "Bytes a second that the body of a request has to come with on average, after its first minute.",
    example: "500",
};

pub(crate) static SERVER: Table = Table {
    title: "server",
    doc: "The listener of the gateway. [Further ones](#gatewaylistenersname) are in `gateway.listeners`.",
    keys: &[
        KeyDef {
            name: "hostname",
            kind: Kind::IpAddress,
            default: Preset::Value("127.0.0.1"),
            doc: "The address to listen on, or `localhost`. `0.0.0.0` or `::` are all addresses of the host.",
            example: r#""0.0.0.0""#,
        },
        KeyDef {
            name: "port",
            kind: PORT_OR_ANY,
            default: Preset::Value("3042"),
            doc: "The TCP port; 0 takes a free one.",
            example: r#""{PORT:-3042}""#,
        },
        TLS_KEY,
        PROXY_PROTOCOL,
        REDIRECT_TO_HTTPS,
        REDIRECT_PORT,
        HEAD_TIMEOUT,
        IDLE_TIMEOUT,
        HEAD_LIMIT,
        BODY_LIMIT,
        BODY_RATE,
    ],
    foreign: &FOREIGN,
};

pub(crate) static LISTENER: Table = Table {
    title: "gateway.listeners.NAME",
    doc: "A further listener of the gateway, beside that of `server`. Where there are some, there is one of `server` only if that is written.",
    keys: &[
        KeyDef {
            name: "hostname",
            kind: Kind::IpAddress,
            default: Preset::Value("127.0.0.1"),
            doc: "The address to listen on, or `localhost`. `0.0.0.0` or `::` are all addresses of the host.",
            example: r#""0.0.0.0""#,
        },
        KeyDef {
            name: "port",
            kind: PORT_OR_ANY,
            default: Preset::Derived("this or `unix` has to be written"),
            doc: "The TCP port; 0 takes a free one.",
            example: "9000",
        },
        KeyDef {
            name: "unix",
            kind: Kind::FilePath,
            default: Preset::Unset("TCP"),
            doc: "The path of a Unix socket to listen at instead. A socket that nobody listens at any more is replaced; one that somebody does, and any other file, is an error.",
            example: r#""/run/shop-gateway.sock""#,
        },
        KeyDef {
            name: "mode",
            kind: Kind::Umask,
            default: Preset::Value("660"),
            doc: "The mode of that socket's file: who may connect. All have to be able to get into its folder.",
            example: r#""666""#,
        },
        KeyDef {
            name: "user",
            kind: Kind::Account,
            default: Preset::Unset("the user who runs watt"),
            doc: "The user that owns it.",
            example: r#""www-data""#,
        },
        KeyDef {
            name: "group",
            kind: Kind::Account,
            default: Preset::Unset("the group of the user who runs watt"),
            doc: "The group that owns it.",
            example: r#""www-data""#,
        },
        TLS_KEY,
        PROXY_PROTOCOL,
        KeyDef {
            name: "routes",
            kind: Kind::List(&Kind::Table(&ROUTE)),
            default: Preset::Derived("with `redirect` none, else those of `gateway`"),
            doc: "Its own rules, in place of those in `gateway.routes`. What `gateway` says for all routes holds for them as well.",
            example: r#"[{"path": "/", "service": "api"}]"#,
        },
        REDIRECT_TO_HTTPS,
        REDIRECT_PORT,
        HEAD_TIMEOUT,
        IDLE_TIMEOUT,
        HEAD_LIMIT,
        BODY_LIMIT,
        BODY_RATE,
    ],
    foreign: &FOREIGN,
};

static FOREIGN: [(&str, &str); 9] = [
    ("host", "write `hostname`"),
    ("address", "write `hostname`"),
    ("https", "write `tls`"),
    ("ssl", "write `tls`"),
    ("socket", "write `unix`"),
    ("owner", "write `user` and `group`"),
    ("max_body_size", "write `body_limit`"),
    ("max_header_size", "write `head_limit`"),
    ("keepalive_timeout", "write `idle_timeout`"),
];
