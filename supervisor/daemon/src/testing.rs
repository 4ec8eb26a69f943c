//! Plans for tests.

use watt_core::{
    AppName, ServiceId,
    plan::{
        CgroupLimits, Egress, Hold, Limits, Listen, Logs, Network, Plan, Ready, ReadyWhen, Restart,
        Scheduling, Service, Stop, Timeouts,
    },
    sandbox::{Profile, Sandbox},
};

use watt_exec::plan::{Failure, Probe};

use crate::launch::{Abilities, Host};

/// A host that can do everything, for root.
pub(crate) const HOST: Host = Host {
    is_root: true,
    user_namespace: false,
    private_network: true,
    redirect: true,
    bind_files: true,
    name_files: Vec::new(),
    oom_score_adj: None,
    proxy_group: None,
    pids_by_rlimit: false,
    walls: Abilities {
        read_only: true,
        devices: true,
        pid_namespace: true,
        proc_shared: true,
        sys: true,
        ipc_namespace: true,
        mqueue: true,
        uts_namespace: true,
        cgroup_namespace: true,
        keyring: true,
        landlock: 7,
        seccomp: true,
        change_user: true,
        user_namespace: true,
        capabilities: true,
    },
};

/// The application `shop` with these services, each of them `sleep 1000` with every default.
pub(crate) fn plan(services: &[&str]) -> Plan {
    let services = services.iter().map(|name| service(name)).map(|service| (service.id.clone(), service));
    Plan {
        name: AppName::new("shop").unwrap(),
        file: "/srv/shop/watt.yaml".into(),
        root: "/srv/shop".into(),
        server: None,
        services: services.collect(),
        routes: Vec::new(),
        policies: Vec::new(),
        hold: Hold::default(),
        body_rate_min: 100,
        logs: Logs::default(),
        limits: CgroupLimits::default(),
        secrets: Default::default(),
        control: Default::default(),
    }
}

fn service(name: &str) -> Service {
    Service {
        id: ServiceId::new(name).unwrap(),
        path: "/srv/shop".into(),
        command: vec!["sleep".into(), "1000".into()],
        env: Default::default(),
        unset_env: Default::default(),
        stdin: None,
        workers: std::num::NonZeroU16::MIN,
        listen: Listen::Auto,
        network: Network::Private,
        egress: Egress::default(),
        depends_on: Default::default(),
        ready: Ready { when: ReadyWhen::Listening, timeout: std::time::Duration::from_secs(30) },
        restart: Restart::default(),
        stop: Stop::default(),
        limits: Limits::default(),
        limits_total: CgroupLimits::default(),
        pressure: Default::default(),
        scheduling: Scheduling::default(),
        sandbox: Sandbox::of(Profile::Standard).into(),
        secrets: Default::default(),
        management: None,
        timeouts: Timeouts::default(),
    }
}

/// What the exec stage says on a host where everything works.
pub(crate) fn probe() -> Probe {
    every_answer(Ok(()), Ok(7))
}

/// The same answer to every question.
pub(crate) fn every_answer(answer: Result<(), Failure>, landlock: Result<u32, Failure>) -> Probe {
    let answer = || answer.clone();
    Probe {
        user_namespace: answer(),
        network_namespace: answer(),
        redirect: answer(),
        any_ip: answer(),
        mount_namespace: answer(),
        read_only: answer(),
        devices: answer(),
        pid_namespace: answer(),
        proc: answer(),
        proc_shared: answer(),
        sys: answer(),
        ipc_namespace: answer(),
        uts_namespace: answer(),
        cgroup_namespace: answer(),
        keyring: answer(),
        landlock,
        seccomp: answer(),
        change_user: answer(),
        capabilities: answer(),
    }
}
