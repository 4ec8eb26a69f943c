//! Another user, and fewer rights (credentials(7), capabilities(7)).

use nix::{errno::Errno, unistd::geteuid};
use watt_os::credentials;

use crate::{
    error::{About, StepError},
    launch::Stage,
    plan::{Capabilities, Identity},
};

pub(crate) fn give_up(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let plan = &stage.plan;
    if let Some(Capabilities { bounding, ambient }) = plan.capabilities {
        // Before the user changes, which takes the capability that is needed here.
        limit_bounding_set(bounding, plan.no_new_privs)?;
        if ambient != 0 {
            credentials::keep_capabilities().about("keep capabilities")?;
        }
    }
    if let Some(identity) = &plan.identity {
        become_user(identity)?;
    }
    plan.capabilities.map_or(Ok(()), keep)
}

fn become_user(Identity { uid, gid, groups }: &Identity) -> Result<(), StepError> {
    let about = match groups.as_slice() {
        [] => format!("uid {uid}, gid {gid}"),
        groups => format!("uid {uid}, gid {gid}, groups {groups:?}"),
    };
    credentials::change_to(*uid, *gid, groups).about(&about)
}

/// Gives up all that is not to be left. What root keeps until execve(2) is what it has again afterwards.
fn keep(Capabilities { bounding, ambient }: Capabilities) -> Result<(), StepError> {
    let permitted = credentials::permitted().about("capabilities")?;
    let left = if geteuid().is_root() { bounding | ambient } else { ambient };
    credentials::set_capabilities(permitted & left, permitted & ambient).about("capabilities")?;
    credentials::raise_ambient(ambient).about("ambient capabilities")
}

/// An ordinary user outside of a user namespace has no capability, CAP_SETPCAP included, and so cannot limit the
/// bounding set. With no_new_privs that is no loss: what the set allows can only be gained by execve(2), which then gives nothing.
fn limit_bounding_set(keep: u64, no_new_privs: bool) -> Result<(), StepError> {
    match credentials::limit_bounding_set(keep) {
        Err(error) if no_new_privs && error.raw_os_error() == Some(Errno::EPERM as i32) => Ok(()),
        result => result.about("bounding set"),
    }
}
