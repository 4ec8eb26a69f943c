//! Who asks, and what they may.

use super::{KeyDef, Kind, Preset, Table, Words};

/// What stands for nothing that would be asked.
pub(crate) static OFF: Words<()> = Words(&[("off", (), "anybody may")]);

/// How tokens may be signed, in the words of RFC 7518.
pub(crate) static ALGORITHM: Words<&str> = Words(&[
    ("HS256", "HS256", "HMAC, with `secret_file`"),
    ("RS256", "RS256", "RSA, PKCS #1 v1.5"),
    ("PS256", "PS256", "RSA, PSS"),
    ("ES256", "ES256", "ECDSA on P-256"),
    ("EdDSA", "EdDSA", "Ed25519"),
]);

/// Those that are taken unless others are listed.
pub(crate) const ALGORITHMS: [&str; 5] = ["HS256", "RS256", "PS256", "ES256", "EdDSA"];

pub(super) const AUTH_KEY: KeyDef = KeyDef {
    name: "auth",
    kind: Kind::Either(&[Kind::Words(&OFF), Kind::Table(&AUTH)]),
    default: Preset::Unset("anybody may"),
    doc: "How it is known who asks. Others are answered with 401. Services are told in `X-Forwarded-User`. [More](policies.md#who-asks)",
    example: r#"{"api_keys": {"billing": "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}}"#,
};

pub(super) const ROLES_KEY: KeyDef = KeyDef {
    name: "roles",
    kind: Kind::List(&Kind::Text),
    default: Preset::Unset("none has to be had"),
    doc: "One of these roles has to be had, or the answer is 403. [More](policies.md#roles)",
    example: r#"["admin"]"#,
};

pub(crate) static AUTH: Table = Table {
    title: "auth",
    doc: "How it is known who asks: by a key, by a password, or by a token that somebody else has signed. Of several, any will do.",
    keys: &[
        KeyDef {
            name: "api_keys",
            kind: Kind::Named(&Kind::Either(&[Kind::Text, Kind::Table(&API_KEY)])),
            default: Preset::Unset("none"),
            doc: "Who has a key: its hash, or a table, by the holder's name.",
            example: r#"{"billing": "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}"#,
        },
        KeyDef {
            name: "api_keys_file",
            kind: Kind::FilePath,
            default: Preset::Unset("none"),
            doc: "A file with others: lines `NAME:sha256:HASH`, and behind another colon roles with commas between them. It is read again by `wattctl reload`, and as soon as it changes with `reload: on-change`.",
            example: r#""api-keys""#,
        },
        KeyDef {
            name: "basic",
            kind: Kind::Either(&[Kind::FilePath, Kind::Table(&BASIC)]),
            default: Preset::Unset("none is taken"),
            doc: "Passwords in `Authorization: Basic`: a file, or a table. They go no further.",
            example: r#"{"file": ".htpasswd"}"#,
        },
        KeyDef {
            name: "header",
            kind: Kind::Text,
            default: Preset::Value("X-Api-Key"),
            doc: "The header that keys come in. It goes no further.",
            example: r#""X-Api-Key""#,
        },
        KeyDef {
            name: "jwt",
            kind: Kind::Table(&JWT),
            default: Preset::Unset("none is taken"),
            doc: "JSON Web Tokens in `Authorization: Bearer`.",
            example: r#"{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
        },
    ],
    foreign: &[
        ("keys", "write `api_keys`"),
        ("apiKeys", "write `api_keys`"),
        ("htpasswd", "write `basic`"),
        ("users", "write `basic`"),
        ("oidc", super::NOT_YET),
    ],
};

pub(crate) static API_KEY: Table = Table {
    title: "auth.api_keys.NAME",
    doc: "Who has a key. The hash alone is enough.",
    keys: &[
        KeyDef {
            name: "hash",
            kind: Kind::Text,
            default: Preset::Required,
            doc: "The key's SHA-256. It is shown nowhere.",
            example: r#""sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad""#,
        },
        KeyDef {
            name: "roles",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("none"),
            doc: "What the holder may.",
            example: r#"["read"]"#,
        },
    ],
    foreign: &[("key", "write its hash as `hash`"), ("sha256", "write `hash`")],
};

pub(crate) static KEYS_URL: Table = Table {
    title: "auth.jwt.keys_url",
    doc: "A JWK Set that is fetched. As text alone it is `url`.",
    keys: &[
        KeyDef {
            name: "url",
            kind: Kind::Text,
            default: Preset::Required,
            doc: "Where it is.",
            example: r#""https://id.example.org/jwks.json""#,
        },
        KeyDef {
            name: "every",
            kind: Kind::Duration,
            default: Preset::Value("1h"),
            doc: "How often it is fetched again, while tokens come. Until another one comes the last one holds.",
            example: r#""10m""#,
        },
    ],
    foreign: &[("refresh", "write `every`"), ("interval", "write `every`")],
};

pub(crate) static BASIC: Table = Table {
    title: "auth.basic",
    doc: "Who has a password (RFC 7617). The hash alone is enough, by argon2 or bcrypt.",
    keys: &[
        KeyDef {
            name: "users",
            kind: Kind::Named(&Kind::Either(&[Kind::Text, Kind::Table(&USER)])),
            default: Preset::Unset("none"),
            doc: "Who has a password: its hash, or a table, by name.",
            example: r#"{"ada": "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"}"#,
        },
        KeyDef {
            name: "file",
            kind: Kind::FilePath,
            default: Preset::Unset("none"),
            doc: "A file with others, as `htpasswd -B` writes it: lines `NAME:HASH`, and behind another colon roles with commas between them.",
            example: r#"".htpasswd""#,
        },
        KeyDef {
            name: "realm",
            kind: Kind::Text,
            default: Preset::Derived("the application's name"),
            doc: "What browsers show when they ask for it.",
            example: r#""shop""#,
        },
    ],
    foreign: &[("htpasswd", "write `file`")],
};

pub(crate) static USER: Table = Table {
    title: "auth.basic.users.NAME",
    doc: "Who has a password.",
    keys: &[
        KeyDef {
            name: "password",
            kind: Kind::Text,
            default: Preset::Required,
            doc: "The password's hash. It is shown nowhere.",
            example: r#""$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW""#,
        },
        KeyDef {
            name: "roles",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("none"),
            doc: "What he may.",
            example: r#"["read"]"#,
        },
    ],
    foreign: &[("hash", "write `password`")],
};

pub(crate) static JWT: Table = Table {
    title: "auth.jwt",
    doc: "Tokens that others have signed (RFC 7519). They have to say until when they hold.",
    keys: &[
        KeyDef {
            name: "keys",
            kind: Kind::List(&Kind::Variables),
            default: Preset::Derived("these, `keys_file`, `keys_url` or `secret_file` have to be written"),
            doc: "The public keys of those who sign, as in the `keys` of a JWK Set (RFC 7517).",
            example: r#"[{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]"#,
        },
        KeyDef {
            name: "keys_file",
            kind: Kind::FilePath,
            default: Preset::Unset("none"),
            doc: "A file with a JWK Set, of public keys. It is read again by `wattctl reload`, and as soon as it changes with `reload: on-change`.",
            example: r#""jwks.json""#,
        },
        KeyDef {
            name: "secret_file",
            kind: Kind::FilePath,
            default: Preset::Unset("none"),
            doc: "A file with a secret that whoever signs has as well, of 32 bytes at least: for HS256. Whoever has it can sign.",
            example: r#""/etc/shop/jwt.secret""#,
        },
        KeyDef {
            name: "keys_url",
            kind: Kind::Either(&[Kind::Text, Kind::Table(&KEYS_URL)]),
            default: Preset::Unset("none"),
            doc: "Where a JWK Set is published: `http://NAME.plt.local/…` of a service, or `https://…` outside: over `http://`, whoever is on the way says which keys hold. It is fetched by the proxy, with the first token and when one names a key that is not known.",
            example: r#""https://id.example.org/jwks.json""#,
        },
        KeyDef {
            name: "algorithms",
            kind: Kind::List(&Kind::Words(&ALGORITHM)),
            default: Preset::Derived("all of these"),
            doc: "How they may sign. A key is used with the algorithms of its own kind alone.",
            example: r#"["EdDSA"]"#,
        },
        KeyDef {
            name: "issuer",
            kind: Kind::Text,
            default: Preset::Unset("anybody"),
            doc: "Who has to have made it (`iss`).",
            example: r#""https://id.example.org""#,
        },
        KeyDef {
            name: "audiences",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("anybody"),
            doc: "For whom it has to be (`aud`), one of these.",
            example: r#"["shop"]"#,
        },
        KeyDef {
            name: "skew",
            kind: Kind::Duration,
            default: Preset::Value("30s"),
            doc: "How far clocks may be apart.",
            example: r#""30s""#,
        },
        KeyDef {
            name: "user",
            kind: Kind::Text,
            default: Preset::Value("sub"),
            doc: "The claim that names who it is.",
            example: r#""email""#,
        },
        KeyDef {
            name: "roles",
            kind: Kind::Text,
            default: Preset::Value("roles"),
            doc: "The claim with roles: a list, or words.",
            example: r#""scope""#,
        },
        KeyDef {
            name: "claims",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("none"),
            doc: "The claims that services are told, in `X-Forwarded-Claim-NAME`.",
            example: r#"["tenant"]"#,
        },
    ],
    foreign: &[
        ("audience", "write `audiences`"),
        ("aud", "write `audiences`"),
        ("iss", "write `issuer`"),
        ("secret", "write `secret_file`: a secret does not belong into this file"),
        ("algorithm", "write `algorithms`"),
        ("leeway", "write `skew`"),
        ("jwks", "write its `keys`, or `keys_file`"),
        ("jwks_file", "write `keys_file`"),
        ("jwks_uri", "write `keys_url`"),
        ("jwks_url", "write `keys_url`"),
    ],
};
