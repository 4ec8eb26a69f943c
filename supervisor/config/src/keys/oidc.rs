//! Logins of browsers.

use super::{ALGORITHM, KeyDef, Kind, Preset, Table};

/// How ID tokens may be signed unless others are listed: with keys that the provider publishes.
pub(crate) const ID_ALGORITHMS: [&str; 4] = ["RS256", "PS256", "ES256", "EdDSA"];

/// What is asked for unless something else is listed.
pub(crate) const SCOPES: [&str; 2] = ["openid", "profile"];

pub(crate) static OIDC: Table = Table {
    title: "auth.oidc",
    doc: "Browsers log in at a provider of OpenID Connect, and are known by a cookie that nobody but the proxy reads.",
    keys: &[
        KeyDef {
            name: "issuer",
            kind: Kind::Text,
            default: Preset::Required,
            doc: "What the provider calls itself, letter by letter: the `iss` of its tokens.",
            example: r#""http://id.example.org""#,
        },
        KeyDef {
            name: "client_id",
            kind: Kind::Text,
            default: Preset::Required,
            doc: "What the provider calls the gateway.",
            example: r#""shop""#,
        },
        KeyDef {
            name: "client_secret_file",
            kind: Kind::FilePath,
            default: Preset::Unset("none: the client is a public one"),
            doc: "A file with what the gateway proves that by.",
            example: r#""/etc/shop/oidc.secret""#,
        },
        KeyDef {
            name: "cookie_keys_file",
            kind: Kind::FilePath,
            default: Preset::Required,
            doc: "A file with what cookies are sealed with: a key in each line, of 32 characters at least. The first one seals, and all of them open.",
            example: r#""/etc/shop/cookie.keys""#,
        },
        KeyDef {
            name: "discovery_url",
            kind: Kind::Text,
            default: Preset::Derived("`/.well-known/openid-configuration` of `issuer`"),
            doc: "Where the provider says what else there is of it: `http://NAME.plt.local/…` of a service, for example, which browsers know by another name.",
            example: r#""http://id.plt.local/.well-known/openid-configuration""#,
        },
        KeyDef {
            name: "servers",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("none"),
            doc: "Whom else the proxy asks, where tokens or keys are at other hosts than `issuer` and `discovery_url`.",
            example: r#"["http://keys.example.org"]"#,
        },
        KeyDef {
            name: "scopes",
            kind: Kind::List(&Kind::Text),
            default: Preset::Derived("`[\"openid\", \"profile\"]`"),
            doc: "What is asked for. Many providers let a session be renewed only with `offline_access`.",
            example: r#"["openid", "email", "offline_access"]"#,
        },
        KeyDef {
            name: "url",
            kind: Kind::Text,
            default: Preset::Derived("what the browser asked for"),
            doc: "What is before the gateway's paths in browsers, where another proxy is in front of it.",
            example: r#""https://shop.example.org""#,
        },
        KeyDef {
            name: "callback",
            kind: Kind::UrlPath,
            default: Preset::Value("/auth/callback"),
            doc: "The path that browsers come back to. The provider has to know it.",
            example: r#""/auth/callback""#,
        },
        KeyDef {
            name: "logout",
            kind: Kind::UrlPath,
            default: Preset::Unset("none"),
            doc: "The path at which a browser is logged out, here and at the provider.",
            example: r#""/auth/logout""#,
        },
        KeyDef {
            name: "after_logout",
            kind: Kind::Text,
            default: Preset::Unset("what the provider shows, or `/`"),
            doc: "Where it goes then. The provider has to know it.",
            example: r#""https://shop.example.org/""#,
        },
        KeyDef {
            name: "cookie",
            kind: Kind::Text,
            default: Preset::Value("watt-session"),
            doc: "The name of the cookie; with TLS `__Host-` is in front of it.",
            example: r#""shop""#,
        },
        KeyDef {
            name: "session",
            kind: Kind::Duration,
            default: Preset::Value("8h"),
            doc: "How long a session lasts that is not renewed.",
            example: r#""1h""#,
        },
        KeyDef {
            name: "renew",
            kind: Kind::Duration,
            default: Preset::Value("15m"),
            doc: "How often the provider is asked whether a session still holds, where it gave a refresh token; `0s` is never.",
            example: r#""5m""#,
        },
        KeyDef {
            name: "algorithms",
            kind: Kind::List(&Kind::Words(&ALGORITHM)),
            default: Preset::Derived("all but HS256"),
            doc: "How ID tokens may be signed.",
            example: r#"["RS256"]"#,
        },
        KeyDef {
            name: "skew",
            kind: Kind::Duration,
            default: Preset::Value("30s"),
            doc: "How far clocks may be apart.",
            example: r#""1m""#,
        },
        KeyDef {
            name: "user",
            kind: Kind::Text,
            default: Preset::Value("sub"),
            doc: "The claim that is whose name it is.",
            example: r#""email""#,
        },
        KeyDef {
            name: "roles",
            kind: Kind::Text,
            default: Preset::Value("roles"),
            doc: "The claim with roles: a list, or words with spaces between them.",
            example: r#""groups""#,
        },
        KeyDef {
            name: "claims",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("none"),
            doc: "Claims that services are told, in `X-Forwarded-Claim-NAME`.",
            example: r#"["email"]"#,
        },
    ],
    foreign: &[
        ("client_secret", "write it into a file, and that as `client_secret_file`"),
        ("cookie_secret", "write it into a file, and that as `cookie_keys_file`"),
        ("redirect_uri", "write its path as `callback`"),
        ("redirect_url", "write its path as `callback`"),
        ("provider", "write `issuer`"),
    ],
};
