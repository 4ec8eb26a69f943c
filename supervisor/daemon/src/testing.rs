//! Plans for tests.

use std::sync::Arc;

use watt_core::{
    plan::{Plan, Service},
    sandbox::{Profile, Sandbox},
    testing,
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
    let sandbox: Arc<Sandbox> = Sandbox::of(Profile::Standard).into();
    testing::plan(services.iter().map(|name| Service { sandbox: sandbox.clone(), ..testing::service(name) }))
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
