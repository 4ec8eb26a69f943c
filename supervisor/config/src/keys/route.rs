//! The rules of the gateway.

use super::{KeyDef, Kind, Preset, Table, words::PATH_MATCH};

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
            doc: "What the service sees in place of the route's path. `{name}` stands for what the path's parameter of that name does, or the group \
                  `(?<name>…)` of a regular expression.",
            example: r#""/v1""#,
        },
    ],
    foreign: &[
        ("to", "write `service`"),
        ("upstream", "write `service`"),
        ("prefix", "write `path`"),
        ("method", "write `methods`"),
        ("regex", "write it as `path`, with `match: regex`"),
        ("exact", "write it as `path`, with `match: exact`"),
    ],
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
