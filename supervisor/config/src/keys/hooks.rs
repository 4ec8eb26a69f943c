//! The tables of hooks.

use super::{KeyDef, Kind, Preset, Table};

/// How often a webhook may be sent again.
pub(crate) const HOOK_RETRIES_MAX: u64 = 20;

static EITHER: [Kind; 2] = [Kind::Command, Kind::Table(&HOOK)];

const fn hook(name: &'static str, doc: &'static str, example: &'static str) -> KeyDef {
    KeyDef { name, kind: Kind::Either(&EITHER), default: Preset::Unset("nothing"), doc, example }
}

pub(crate) static HOOKS: Table = Table {
    title: "services.NAME.hooks",
    doc: "What is done at points of each worker's life: commands, in a sandbox of the service's own, and webhooks. [More](hooks.md)",
    keys: &[
        hook(
            "pre_start",
            "Before each start. The program is executed when the hook has succeeded; else the start has failed, and is tried again as after any failure.",
            r#"["./wait-for-disk", "/srv"]"#,
        ),
        hook("post_start", "When a worker has got ready.", r#""./announce up""#),
        hook(
            "pre_stop",
            "Before the stop signal, when the last requests have been answered. The signal comes when it has ended, and the kill after `stop.grace` in any case.",
            r#"{"command": "./flush", "timeout": "5s"}"#,
        ),
        hook(
            "post_stop",
            "When no process of a worker is left, however it ended. The next start waits for it.",
            r#"["rm", "-f", "app.lock"]"#,
        ),
        hook(
            "on_failure",
            "When a worker has failed. It is told the cause.",
            r#"{"url": "http://api.plt.local/failed"}"#,
        ),
    ],
    foreign: &[
        ("prestart", "write `pre_start`"),
        ("ExecStartPre", "write `pre_start`"),
        ("ExecStartPost", "write `post_start`"),
        ("ExecStop", "write `pre_stop`"),
        ("ExecStopPost", "write `post_stop`"),
        ("preStop", "write `pre_stop`"),
        ("postStart", "write `post_start`"),
    ],
};

pub(crate) static HOOK: Table = Table {
    title: "services.NAME.hooks.HOOK",
    doc: "A hook in full. A command alone is enough.",
    keys: &[
        KeyDef {
            name: "command",
            kind: Kind::Command,
            default: Preset::Unset("`url` says what is done"),
            doc: "The program and its arguments, as in the service's own `command`.",
            example: r#"["./flush", "--all"]"#,
        },
        KeyDef {
            name: "url",
            kind: Kind::WebUrl,
            default: Preset::Unset("`command` says what is done"),
            doc: "Where a POST goes that says in JSON what has happened: to a service of the mesh, or outside, without TLS. A status from 200 to 299 is success.",
            example: r#""http://api.plt.local/failed""#,
        },
        KeyDef {
            name: "headers",
            kind: Kind::Variables,
            default: Preset::Unset("none"),
            doc: "Fields of the POST's head besides watt's own.",
            example: r#"{"Authorization": "Bearer {TOKEN:-none}"}"#,
        },
        KeyDef {
            name: "retries",
            kind: Kind::Whole { min: 0, max: HOOK_RETRIES_MAX },
            default: Preset::Derived("`3` for a `url`"),
            doc: "How often the POST is sent again while it has not succeeded, after 100ms, 200ms, 400ms and so on.",
            example: "5",
        },
        KeyDef {
            name: "timeout",
            kind: Kind::Duration,
            default: Preset::Value("30s"),
            doc: "It is ended after this time. Attempts of a POST share it.",
            example: r#""30s""#,
        },
    ],
    foreign: &[
        ("webhook", "write `url`"),
        ("http", "write `url`"),
        ("method", "it is always a POST"),
        ("body", "it is always what has happened, in JSON"),
    ],
};
