//! A user namespace in which the caller is itself and has every capability over what it makes there. How an ordinary user
//! gets the other namespaces (user_namespaces(7)). The capabilities vanish at execve(2), because the uid is not 0.

use nix::unistd::{getegid, geteuid};
use watt_os::{
    credentials,
    namespace::{self, Kind},
};

use crate::{
    error::{About, StepError},
    launch::Stage,
};

pub(crate) fn enter(stage: &mut Stage<'_>) -> Result<(), StepError> {
    if let (true, Some(joined)) = (stage.plan.user_namespace, &stage.joined) {
        return joined.enter(Kind::User);
    }
    match (stage.plan.user_namespace, stage.plan.namespaces.pid) {
        (false, _) => Ok(()),
        (true, false) => enter_new(),
        // The clone has made it, since a PID namespace belongs to the user namespace of the process that makes it; and
        // has handed the capabilities on. They are for this process alone.
        (true, true) => keep_for_this_process(),
    }
}

/// Enters one. The ids are asked for before, as inside they are nobody's until the map is written.
pub(crate) fn enter_new() -> Result<(), StepError> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    namespace::enter_new(Kind::User).about("user namespace")?;
    namespace::map_identity(uid, gid).about("uid and gid map")
}

fn keep_for_this_process() -> Result<(), StepError> {
    let permitted = credentials::permitted().about("capabilities")?;
    credentials::set_capabilities(permitted, 0).about("capabilities")
}
