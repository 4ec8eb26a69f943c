//! Descriptions of services' APIs, the page that has them all, and what clients are told of a route's end.

use super::{KeyDef, Kind, NEVER, Preset, Table};

pub(super) const OPENAPI_KEY: KeyDef = KeyDef {
    name: "openapi",
    kind: Kind::Either(&[Kind::UrlPath, Kind::Table(&DESCRIPTION)]),
    default: Preset::Unset("it has no description"),
    doc: "Where the service's API is described, by OpenAPI 3.0 to 3.2: the path that the service has it at, or a table. [More](openapi.md)",
    example: r#""/openapi.json""#,
};

pub(crate) static DESCRIPTION: Table = Table {
    title: "services.NAME.openapi",
    doc: "Where the service's API is described, as JSON. As text alone it is `path`. [More](openapi.md)",
    keys: &[
        KeyDef {
            name: "path",
            kind: Kind::UrlPath,
            default: Preset::Derived("this, or `file`, has to be written"),
            doc: "The path that the service has the description at.",
            example: r#""/openapi.json""#,
        },
        KeyDef {
            name: "file",
            kind: Kind::FilePath,
            default: Preset::Unset("the service has it"),
            doc: "A file with the description, from the file's folder.",
            example: r#""api/openapi.json""#,
        },
        KeyDef {
            name: "base",
            kind: Kind::UrlPath,
            default: Preset::Unset("nothing: `servers` of the description are not looked at"),
            doc: "What paths of the service begin with, that those of the description do not.",
            example: r#""/v1""#,
        },
        KeyDef {
            name: "refresh",
            kind: Kind::Either(&[Kind::Duration, Kind::Words(&NEVER)]),
            default: Preset::Value("10s"),
            doc: "How often the description is looked at, besides whenever a worker gets ready. A service that is stopped while nobody wants anything is not asked in between.",
            example: r#""1m""#,
        },
        KeyDef {
            name: "ignore",
            kind: Kind::List(&Kind::Text),
            default: Preset::Unset("nothing is left out"),
            doc: "What is left out of the description of all: paths as this description has them, with a method in front or without, and with `/*` at the end for all below. Clients get there as before.",
            example: r#"["/internal/*", "DELETE /users/{id}"]"#,
        },
        KeyDef {
            name: "rename",
            kind: Kind::Variables,
            default: Preset::Derived("`SERVICE_NAME`"),
            doc: "What components and operations are called in the description of all, by what this description calls them.",
            example: r#"{"Item": "Product"}"#,
        },
    ],
    foreign: &[
        ("url", "write `path`"),
        ("prefix", "the routes say by which path clients get there"),
        (
            "alias",
            "write a route: `{ path: /people/{id}, match: exact, service: api, rewrite: /users/{id} }`",
        ),
        ("config", "write `ignore` and `rename` here"),
        ("refreshTimeout", "write `refresh`"),
    ],
};

pub(super) const API_PAGE_KEY: KeyDef = KeyDef {
    name: "openapi",
    kind: Kind::Either(&[Kind::Bool, Kind::Text, Kind::Table(&API_PAGE)]),
    default: Preset::Unset("none"),
    doc: "A page with the APIs of all services whose `openapi` says where they are described, as clients of the gateway get to them, and the description itself at `openapi.json` below the route's path. [More](openapi.md)",
    example: r#"{"title": "The shop's API"}"#,
};

pub(crate) static API_PAGE: Table = Table {
    title: "gateway.routes.openapi",
    doc: "The description of all APIs that routes lead to. As text alone it is `title`; `true` is a page with all defaults. [More](openapi.md)",
    keys: &[
        KeyDef {
            name: "title",
            kind: Kind::Text,
            default: Preset::Derived("the application's name"),
            doc: "What it is called.",
            example: r#""The shop's API""#,
        },
        KeyDef {
            name: "version",
            kind: Kind::Text,
            default: Preset::Value("1.0.0"),
            doc: "The version of what is described.",
            example: r#""2.1.0""#,
        },
        KeyDef {
            name: "description",
            kind: Kind::Text,
            default: Preset::Unset("none"),
            doc: "What that is, in up to 64K of Markdown.",
            example: r#""Everything that our partners may ask for.""#,
        },
    ],
    foreign: &[
        ("swaggerPrefix", "write `path` of the route"),
        ("name", "write `title`"),
        ("info", "write its keys here"),
    ],
};

pub(super) const DEPRECATION_KEY: KeyDef = KeyDef {
    name: "deprecation",
    kind: Kind::Either(&[Kind::Text, Kind::Table(&NOTICE)]),
    default: Preset::Unset("clients are told nothing"),
    doc: "Since when, or from when on, this is not to be used any longer: a date, or a table. Clients are told by `Deprecation` and `Link` of each response (RFC 9745).",
    example: r#""2026-06-30""#,
};

pub(super) const SUNSET_KEY: KeyDef = KeyDef {
    name: "sunset",
    kind: Kind::Either(&[Kind::Text, Kind::Table(&NOTICE)]),
    default: Preset::Unset("clients are told nothing"),
    doc: "When this will be there no longer, likewise, by `Sunset` (RFC 8594). On that day nothing is done about it.",
    example: r#"{"at": "2026-12-31", "link": "https://example.org/moving"}"#,
};

pub(crate) static NOTICE: Table = Table {
    title: "gateway.routes.deprecation",
    doc: "What clients are told of the end of a route; `sunset` is the same. As text alone it is `at`.",
    keys: &[
        KeyDef {
            name: "at",
            kind: Kind::Text,
            default: Preset::Required,
            doc: "A date, whose day begins in UTC, or a time such as `2026-06-30T12:00:00Z`.",
            example: r#""2026-06-30""#,
        },
        KeyDef {
            name: "link",
            kind: Kind::Text,
            default: Preset::Unset("none"),
            doc: "Where there is more about it: a URL, or a path.",
            example: r#""https://example.org/moving""#,
        },
    ],
    foreign: &[("date", "write `at`"), ("url", "write `link`")],
};
