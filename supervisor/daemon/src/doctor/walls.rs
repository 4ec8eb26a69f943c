//! Conclusions about walls: which parts of a sandbox this host can put around a worker.

use watt_exec::plan::{Failure, Probe};

use super::{
    features::{degraded, off, on, reason, tried},
    topic::{Finding, Topic, Wall},
};

/// The version of Landlock that knows scopes (landlock(7)).
const LANDLOCK_SCOPES: u32 = 6;

/// All of them. `fix` turns namespaces on.
pub(super) fn findings(probe: &Probe, fix: Option<&str>) -> Vec<Finding> {
    let Probe { proc, pid_namespace, .. } = probe;
    let processes = pid_namespace.clone().and_then(|()| proc.clone());
    let wall = |wall, result: &Result<(), Failure>, words, fix| tried(Topic::Wall(wall), result, words, fix);
    vec![
        wall(
            Wall::ReadOnlyPaths,
            &probe.read_only,
            ["for each worker", "services write wherever file modes let them"],
            fix,
        ),
        wall(Wall::Devices, &probe.devices, ["a /dev for each worker", "services see the host's /dev"], fix),
        wall(
            Wall::Processes,
            &processes,
            ["a PID namespace for each worker", "services see all processes of the host"],
            fix,
        ),
        wall(
            Wall::HiddenProcesses,
            &probe.proc_shared,
            ["a /proc that hides processes of others", "/proc hides nothing without a PID namespace"],
            fix,
        ),
        wall(
            Wall::Ipc,
            &probe.ipc_namespace,
            ["an IPC namespace for each worker", "services share shared memory and message queues"],
            fix,
        ),
        wall(
            Wall::HostName,
            &probe.uts_namespace,
            ["a UTS namespace for each worker", "services share the host's name"],
            fix,
        ),
        wall(
            Wall::CgroupNamespace,
            &probe.cgroup_namespace,
            ["a cgroup namespace for each worker", "services see the host's cgroups"],
            fix,
        ),
        wall(
            Wall::Keyring,
            &probe.keyring,
            ["a session keyring for each worker", "services share the keyrings of their user"],
            Some("let the container's seccomp profile allow keyctl"),
        ),
        landlock(probe),
        wall(
            Wall::SystemCalls,
            &probe.seccomp,
            ["by seccomp", "services make every system call"],
            Some("use a kernel with CONFIG_SECCOMP_FILTER"),
        ),
        wall(
            Wall::Capabilities,
            &probe.capabilities,
            ["given up for good", "services keep the supervisor's capabilities"],
            fix,
        ),
    ]
}

fn landlock(probe: &Probe) -> Finding {
    let topic = Topic::Wall(Wall::Landlock);
    let fix = Some("boot with lsm=landlock,… in the kernel's command line");
    match &probe.landlock {
        Ok(abi) if *abi >= LANDLOCK_SCOPES => on(topic, format!("version {abi}")),
        Ok(abi) => {
            degraded(topic, format!("version {abi}: abstract sockets and signals need version 6"), None)
        }
        Err(failure) => off(topic, format!("not there ({})", reason(failure)), fix),
    }
}
