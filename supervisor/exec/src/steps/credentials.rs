//! Another user, and fewer rights (credentials(7), capabilities(7)).

use nix::errno::Errno;
use watt_os::credentials;

use crate::{
    error::{About, StepError},
    launch::Stage,
    plan::Identity,
};

pub(crate) fn give_up(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let plan = &stage.plan;
    if plan.capabilities.is_some() {
        // Before the user changes, which takes the capability that is needed here.
        clear_bounding_set(plan.no_new_privs)?;
    }
    if let Some(Identity { uid, gid, .. }) = plan.identity {
        credentials::change_to(uid, gid).about(&format!("uid {uid}, gid {gid}"))?;
    }
    if plan.capabilities.is_some() {
        credentials::clear_capabilities().about("capabilities")?;
    }
    Ok(())
}

/// An ordinary user outside of a user namespace has no capability, CAP_SETPCAP included, and so cannot empty the
/// bounding set. With no_new_privs that is no loss: what the set allows can only be gained by execve(2), which then gives nothing.
fn clear_bounding_set(no_new_privs: bool) -> Result<(), StepError> {
    match credentials::clear_bounding_set() {
        Err(error) if no_new_privs && error.raw_os_error() == Some(Errno::EPERM as i32) => Ok(()),
        result => result.about("bounding set"),
    }
}
