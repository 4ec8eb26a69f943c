//! Plans from one line of text.

use std::num::NonZeroU16;

use watt_core::{plan::*, testing};

/// `db; api*2: db=ready; job!: db=started` — name, workers, `!` for "runs to completion", dependencies.
pub(crate) fn plan(text: &str) -> Plan {
    testing::plan(text.split(';').map(|part| service(part.trim())))
}

fn service(text: &str) -> Service {
    let (head, dependencies) = text.split_once(':').unwrap_or((text, ""));
    let (head, workers) = head.split_once('*').unwrap_or((head, "1"));
    let (name, to_completion) = head.strip_suffix('!').map_or((head, false), |name| (name, true));
    let dependency = |text: &str| {
        let (name, condition) = text.split_once('=').unwrap();
        let condition = match condition {
            "started" => Condition::Started,
            "ready" => Condition::Ready,
            "completed" => Condition::Completed,
            other => panic!("no condition {other}"),
        };
        (testing::id(name), condition)
    };
    let policy = if to_completion { RestartPolicy::Never } else { RestartPolicy::Always };
    Service {
        workers: Workers::Fixed(NonZeroU16::new(workers.parse().unwrap()).unwrap()),
        depends_on: dependencies.split_whitespace().map(dependency).collect(),
        restart: Restart { policy, ..Restart::default() },
        ..testing::service(name)
    }
}
