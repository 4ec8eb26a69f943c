//! Which responses are compressed.

use super::{CODING, KeyDef, Kind, Preset, Table};

/// What is compressed unless something else is said.
pub(crate) const COMPRESSIBLE: [&str; 13] = [
    "text/*",
    "*+json",
    "*+xml",
    "application/javascript",
    "application/json",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/xml",
    "application/yaml",
    "font/otf",
    "font/ttf",
    "image/bmp",
];

pub(super) const COMPRESS_KEY: KeyDef = KeyDef {
    name: "compress",
    kind: Kind::Either(&[Kind::Bool, Kind::Table(&COMPRESS)]),
    default: Preset::Value("false"),
    doc: "Whether responses of services are compressed for clients that take it: `true`, or a table of what is to be other than usual. It takes processor time, some ten milliseconds for a megabyte. [More](http.md#compression)",
    example: "true",
};

pub(crate) static COMPRESS: Table = Table {
    title: "compress",
    doc: "Which responses of services get smaller, and how. What is coded already, parts, streams of events, gRPC and what says `no-transform` go on as they are.",
    keys: &[
        KeyDef {
            name: "codings",
            kind: Kind::List(&Kind::Words(&CODING)),
            default: Preset::Derived("`[\"br\", \"zstd\", \"gzip\"]`"),
            doc: "In which codings, the best one first; the client has to take it.",
            example: r#"["gzip"]"#,
        },
        KeyDef {
            name: "types",
            kind: Kind::List(&Kind::Text),
            default: Preset::Derived("texts, JSON, XML, JavaScript, WebAssembly and the like"),
            doc: "Of which types; `text/*` is every text, `*+json` all that is JSON.",
            example: r#"["text/*", "application/json"]"#,
        },
        KeyDef {
            name: "min",
            kind: Kind::Size,
            default: Preset::Value("1K"),
            doc: "From this size on, where a response says it.",
            example: r#""4K""#,
        },
    ],
    foreign: &[
        ("algorithms", "write `codings`"),
        ("encodings", "write `codings`"),
        ("min_size", "write `min`"),
        ("min_length", "write `min`"),
        ("threshold", "write `min`"),
        ("content_types", "write `types`"),
    ],
};
