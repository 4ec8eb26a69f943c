//! Plans from one line of text.

use std::{num::NonZeroU16, time::Duration};

use watt_core::{
    AppName, ServiceId,
    plan::*,
    sandbox::{Profile, Sandbox},
};

/// `db; api*2: db=ready; job!: db=started` — name, workers, `!` for "runs to completion", dependencies.
pub(crate) fn plan(text: &str) -> Plan {
    let services = text.split(';').map(|part| service(part.trim()));
    Plan {
        name: AppName::new("shop").unwrap(),
        file: "/srv/shop/watt.yaml".into(),
        root: "/srv/shop".into(),
        server: None,
        services: services.map(|service| (service.id.clone(), service)).collect(),
        routes: Vec::new(),
        policies: Vec::new(),
        secrets: Default::default(),
        limits: Default::default(),
        control: Default::default(),
        hold: Hold::default(),
        body_rate_min: 100,
        logs: Logs::default(),
    }
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
        (ServiceId::new(name).unwrap(), condition)
    };
    let policy = if to_completion { RestartPolicy::Never } else { RestartPolicy::Always };
    Service {
        id: ServiceId::new(name).unwrap(),
        path: "/".into(),
        command: vec![name.into()],
        env: Default::default(),
        unset_env: Default::default(),
        stdin: None,
        workers: NonZeroU16::new(workers.parse().unwrap()).unwrap(),
        listen: Listen::Auto,
        network: Network::Private,
        egress: Default::default(),
        depends_on: dependencies.split_whitespace().map(dependency).collect(),
        ready: Ready { when: ReadyWhen::Listening, timeout: Duration::from_secs(30) },
        restart: Restart { policy, ..Restart::default() },
        stop: Stop::default(),
        limits: Limits::default(),
        limits_total: Default::default(),
        pressure: Default::default(),
        scheduling: Default::default(),
        sandbox: Sandbox::of(Profile::Off).into(),
        secrets: Default::default(),
        management: None,
        timeouts: Timeouts::default(),
    }
}
