//! The tables of hooks.

use super::{KeyDef, Kind, Preset, Table};

const WEBHOOK: &str = "write a `command` that sends it, for example with curl: a hook is a command";

static EITHER: [Kind; 2] = [Kind::Command, Kind::Table(&HOOK)];

const fn hook(name: &'static str, doc: &'static str, example: &'static str) -> KeyDef {
    KeyDef { name, kind: Kind::Either(&EITHER), default: Preset::Unset("nothing"), doc, example }
}

pub(crate) static HOOKS: Table = Table {
    title: "services.NAME.hooks",
    doc: "Commands that are run at points of each worker's life, in a sandbox of the service's own. [More](hooks.md)",
    keys: &[
        hook(
            "pre_start",
            "Before each start. The program is executed when it has succeeded; else the start has failed, and is tried again as after any failure.",
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
        hook("on_failure", "When a worker has failed; the cause is in its environment.", r#""./alert""#),
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
    doc: "A hook in full. Its command alone is enough.",
    keys: &[
        KeyDef {
            name: "command",
            kind: Kind::Command,
            default: Preset::Required,
            doc: "The program and its arguments, as in the service's own `command`.",
            example: r#"["./flush", "--all"]"#,
        },
        KeyDef {
            name: "timeout",
            kind: Kind::Duration,
            default: Preset::Value("30s"),
            doc: "It is killed after this time.",
            example: r#""30s""#,
        },
    ],
    foreign: &[("url", WEBHOOK), ("webhook", WEBHOOK), ("http", WEBHOOK)],
};
