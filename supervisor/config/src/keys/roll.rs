//! `services.NAME.roll`.

use super::{KeyDef, Kind, NEVER, ON_FAILURE, Preset, Table};

pub(crate) static ROLL: Table = Table {
    title: "services.NAME.roll",
    doc: "By how many at a time `wattctl restart` and `reload` replace the workers.",
    keys: &[
        KeyDef {
            name: "surge",
            kind: Kind::Share,
            default: Preset::Value("1"),
            doc: "So many workers more than configured, for a while; a part is rounded up. None where two cannot run beside each other.",
            example: r#""25%""#,
        },
        KeyDef {
            name: "max_unavailable",
            kind: Kind::Share,
            default: Preset::Value("0"),
            doc: "So many workers fewer than configured, for a while; a part is rounded down. At least 1 where there is no surge.",
            example: "1",
        },
        KeyDef {
            name: "min_healthy",
            kind: Kind::Duration,
            default: Preset::Value("0s"),
            doc: "A new worker has to have been ready for this long before an old one goes for it.",
            example: r#""10s""#,
        },
        KeyDef {
            name: "deadline",
            kind: Kind::Either(&[Kind::Duration, Kind::Words(&NEVER)]),
            default: Preset::Value("never"),
            doc: "A replacement of all workers that takes longer has failed.",
            example: r#""10m""#,
        },
        KeyDef {
            name: "on_failure",
            kind: Kind::Words(&ON_FAILURE),
            default: Preset::Value("keep"),
            doc: "What becomes of those that were replaced already, when a new one fails.",
            example: r#""roll_back""#,
        },
    ],
    foreign: &[
        ("max_surge", "write `surge`"),
        ("maxSurge", "write `surge`"),
        ("maxUnavailable", "write `max_unavailable`"),
        ("parallelism", "write `surge` or `max_unavailable`"),
        ("max_parallel", "write `surge` or `max_unavailable`"),
        ("delay", "write `min_healthy`"),
        ("monitor", "write `min_healthy`"),
        ("min_healthy_time", "write `min_healthy`"),
        ("progress_deadline", "write `deadline`"),
        ("failure_action", "write `on_failure`"),
        ("auto_revert", "write `on_failure: roll_back`"),
        ("order", "write `restart: { order: … }` of the service"),
    ],
};
