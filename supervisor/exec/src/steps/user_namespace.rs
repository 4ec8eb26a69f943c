//! A user namespace in which the caller is itself and has every capability over what it makes there. How an ordinary user
//! gets network and mount namespaces (user_namespaces(7)). The capabilities vanish at execve(2), because the uid is not 0.

use nix::unistd::{getegid, geteuid};
use watt_os::namespace::{self, Kind};

use crate::{
    error::{About, StepError},
    launch::Stage,
};

pub(crate) fn enter(stage: &mut Stage<'_>) -> Result<(), StepError> {
    if stage.plan.user_namespace { enter_new() } else { Ok(()) }
}

/// Enters one. The ids are asked for before, as inside they are nobody's until the map is written.
pub(crate) fn enter_new() -> Result<(), StepError> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    namespace::enter_new(Kind::User).about("user namespace")?;
    namespace::map_identity(uid, gid).about("uid and gid map")
}
