//! Namespaces of the program's own, beside those of user, network and mounts.

use nix::unistd::{getpid, sethostname};
use watt_os::namespace::{self, Kind};

use crate::{
    error::{About, StepError},
    launch::Stage,
    plan::{HostName, Namespaces},
    steps::mounts::cgroups,
};

/// The number of the init in its PID namespace.
const INIT: i32 = 1;

pub(crate) fn enter(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let Namespaces { ipc, uts, cgroup, pid } = &stage.plan.namespaces;
    if let Some(joined) = &stage.joined {
        let kinds =
            [(*ipc, Kind::Ipc), (uts.is_some(), Kind::Uts), (*cgroup, Kind::Cgroup), (*pid, Kind::Pid)];
        return kinds.iter().filter(|(has_own, _)| *has_own).try_for_each(|(_, kind)| joined.enter(*kind));
    }
    // A process cannot enter a PID namespace, only be born in one. To go on without would be a wall that is not there; in one
    // that the plan does not know of, the program would have to be its init.
    if *pid != (getpid().as_raw() == INIT) {
        return Err(StepError::invalid("PID namespace".to_owned()));
    }
    if *ipc {
        enter_ipc()?;
    }
    if let Some(name) = uts {
        enter_uts(name)?;
    }
    if *cgroup {
        stage.cgroups = cgroups::own()?;
        enter_cgroup()?;
    }
    Ok(())
}

pub(crate) fn enter_ipc() -> Result<(), StepError> {
    namespace::enter_new(Kind::Ipc).about("IPC namespace")
}

pub(crate) fn enter_uts(name: &HostName) -> Result<(), StepError> {
    namespace::enter_new(Kind::Uts).about("UTS namespace")?;
    match name {
        HostName::Same => Ok(()),
        HostName::Own(name) => sethostname(name).about(format_args!("host name {name}")),
    }
}

/// Its root is the cgroup that this process has joined by now.
pub(crate) fn enter_cgroup() -> Result<(), StepError> {
    namespace::enter_new(Kind::Cgroup).about("cgroup namespace")
}
