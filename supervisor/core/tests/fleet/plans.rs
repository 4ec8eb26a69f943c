//! Plans from one line of text.

use std::{num::NonZeroU16, time::Duration};

use watt_core::{ServiceId, plan::*, testing};

/// `db@; api*2: db=healthy; job!: db=started?+` — name, `@` for a health check, workers, `!` for "runs to completion", dependencies with
/// `?` for "not required" and `+` for "replaced with it". `all(db api)/3` is a group and how many failures are too many in a minute.
pub(crate) fn plan(text: &str) -> Plan {
    let parts = || text.split(';').map(str::trim);
    let is_group = |part: &&str| part.contains('(');
    let mut plan = testing::plan(parts().filter(|part| !is_group(part)).map(service));
    plan.groups =
        parts().filter(is_group).map(group).enumerate().map(|(n, group)| (n.to_string(), group)).collect();
    plan
}

fn group(text: &str) -> Group {
    let (strategy, rest) = text.split_once('(').unwrap();
    let (services, failures) = rest.split_once(')').unwrap();
    let strategy = match strategy {
        "one" => GroupStrategy::OneForOne,
        "all" => GroupStrategy::OneForAll,
        "rest" => GroupStrategy::RestForOne,
        other => panic!("no strategy {other}"),
    };
    let failures = failures.strip_prefix('/').map(|failures| failures.parse().unwrap());
    let give_up = failures.map(|failures| (failures, Duration::from_secs(60)));
    Group { services: services.split_whitespace().map(testing::id).collect(), strategy, give_up }
}

fn service(text: &str) -> Service {
    let (head, dependencies) = text.split_once(':').unwrap_or((text, ""));
    let (head, workers) = head.split_once('*').unwrap_or((head, "1"));
    let (head, to_completion) = head.strip_suffix('!').map_or((head, false), |name| (name, true));
    let (name, has_check) = head.strip_suffix('@').map_or((head, false), |name| (name, true));
    let policy = if to_completion { RestartPolicy::Never } else { RestartPolicy::Always };
    Service {
        workers: Workers::Fixed(NonZeroU16::new(workers.parse().unwrap()).unwrap()),
        depends_on: dependencies.split_whitespace().map(dependency).collect(),
        restart: Restart { policy, ..Restart::default() }.into(),
        health: has_check.then(|| Health::Check(Check::Tcp, Rhythm::default())),
        ..testing::service(name)
    }
}

fn dependency(text: &str) -> (ServiceId, Dependency) {
    let (text, restart) = text.strip_suffix('+').map_or((text, false), |text| (text, true));
    let (text, required) = text.strip_suffix('?').map_or((text, true), |text| (text, false));
    let (name, condition) = text.split_once('=').unwrap();
    let condition = match condition {
        "started" => Condition::Started,
        "ready" => Condition::Ready,
        "healthy" => Condition::Healthy,
        "completed" => Condition::Completed,
        "succeeded" => Condition::CompletedSuccessfully,
        other => panic!("no condition {other}"),
    };
    (testing::id(name), Dependency { condition, required, restart })
}
