//! The table of a group of services.

use watt_core::plan::GroupStrategy;

use super::{GIVE_UP, KeyDef, Kind, Preset, Table, Words};

pub(crate) static STRATEGY: Words<GroupStrategy> = Words(&[
    ("one_for_one", GroupStrategy::OneForOne, "the worker that failed alone"),
    ("one_for_all", GroupStrategy::OneForAll, "all services of the group"),
    (
        "rest_for_one",
        GroupStrategy::RestForOne,
        "the worker that failed, and the services that come after its own in the list",
    ),
]);

pub(crate) static GROUP: Table = Table {
    title: "groups.NAME",
    doc: "Services that are started anew together when one of them fails, as by a supervisor of Erlang. A service is in one group at most. [More](dependencies.md#groups)",
    keys: &[
        KeyDef {
            name: "services",
            kind: Kind::List(&Kind::ServiceName),
            default: Preset::Required,
            doc: "Its services, in their order.",
            example: r#"["db", "api"]"#,
        },
        KeyDef {
            name: "strategy",
            kind: Kind::Words(&STRATEGY),
            default: Preset::Value("one_for_one"),
            doc: "Who is started anew when a worker fails.",
            example: r#""rest_for_one""#,
        },
        KeyDef {
            name: "give_up",
            kind: Kind::Table(&GIVE_UP),
            default: Preset::Unset("the `restart.give_up` of each service alone"),
            doc: "How many failures of all of them together, in how short a time, make the worker that fails then `Failed`.",
            example: r#"{"failures": 10, "within": "1m"}"#,
        },
    ],
    foreign: &[
        ("members", "write `services`"),
        ("intensity", "write `give_up: { failures: …, within: … }`"),
        ("restart", "write `strategy`"),
    ],
};
