//! Plans and services with nothing but defaults, for tests here and in crates that use this one. A test says what differs.

use std::time::Duration;

use crate::{
    AppName, JobId, ServiceId,
    jobs::Schedule,
    plan::{
        Call, CatchUp, CgroupLimits, Egress, Hold, Job, Listen, Logs, Network, Overlap, Plan, Protocol,
        Ready, ReadyWhen, Scheduling, Service, Work, Workers,
    },
    sandbox::{Profile, Sandbox},
};

/// The name of a service.
///
/// # Panics
/// When it is none.
pub fn id(name: &str) -> ServiceId {
    ServiceId::new(name).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A service with one worker, `sleep 1000`, without a sandbox.
pub fn service(name: &str) -> Service {
    Service {
        id: id(name),
        path: "/srv/shop".into(),
        command: vec!["sleep".into(), "1000".into()],
        env: Default::default(),
        unset_env: Default::default(),
        stdin: None,
        workers: Workers::ONE,
        slow_start: None,
        listen: Listen::Auto,
        protocol: Protocol::Http1,
        network: Network::Private,
        egress: Egress::default(),
        depends_on: Default::default(),
        startup: None,
        ready: Ready { when: ReadyWhen::Listening, timeout: Duration::from_secs(30), upkeep: None }.into(),
        health: None,
        restart: Default::default(),
        roll: Default::default(),
        stop: Default::default(),
        hooks: Default::default(),
        limits: Default::default(),
        limits_total: Default::default(),
        pressure: Default::default(),
        scheduling: Scheduling::default(),
        sandbox: Sandbox::of(Profile::Off).into(),
        secrets: Default::default(),
        management: None,
        fd_store: 0,
        timeouts: Default::default(),
        traffic: Default::default(),
        guard: Default::default(),
        cache: None,
        openapi: None,
    }
}

/// A job `tick` of a service: a POST to `/tick` every minute, which is never sent twice.
pub fn job(service: &str) -> Job {
    Job {
        id: JobId::new("tick").unwrap_or_else(|error| panic!("{error}")),
        service: id(service),
        work: Work::Call(Call {
            method: "POST".into(),
            path: "/tick".into(),
            headers: Default::default(),
            body: None,
            retries: 0,
        }),
        schedule: Schedule::parse("* * * * *").unwrap_or_else(|error| panic!("{error}")),
        timezone: "UTC".into(),
        jitter: Duration::ZERO,
        overlap: Overlap::Forbid,
        catch_up: CatchUp::Skip,
        timeout: None,
        history: 20,
    }
}

/// The application `shop` of these services.
pub fn plan(services: impl IntoIterator<Item = Service>) -> Plan {
    Plan {
        name: AppName::new("shop").unwrap_or_else(|error| panic!("{error}")),
        file: "/srv/shop/watt.yaml".into(),
        root: "/srv/shop".into(),
        listeners: Default::default(),
        services: services.into_iter().map(|service| (service.id.clone(), service)).collect(),
        groups: Default::default(),
        routes: Vec::new(),
        policies: Vec::new(),
        hold: Hold::default(),
        body_rate_min: 100,
        cache: crate::plan::CacheStore { bytes_max: 64 << 20, entries_max: 1_000_000 },
        reload_on_change: false,
        logs: Logs::default(),
        limits: CgroupLimits::default(),
        secrets: Default::default(),
        control: Default::default(),
        jobs: Default::default(),
    }
}
