//! Another user, and fewer rights (credentials(7), capabilities(7)).

use nix::{errno::Errno, unistd::geteuid};
use watt_os::credentials;

use crate::{
    error::{About, StepError},
    launch::Stage,
    plan::{Capabilities, Identity, LaunchPlan},
    steps::{streams, user_namespace},
};

/// What a filter or a domain takes from a program that may still gain rights.
const SYS_ADMIN: u64 = 1 << 21;

pub(crate) fn give_up(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let plan = &stage.plan;
    // Not inheritable and not ambient, so that execve(2) takes it away, as the bounding set and the user have it.
    let until_executed = if needs_admin(plan) { SYS_ADMIN } else { 0 };
    if !plan.private_users {
        // Before the user changes, which takes the capability that is needed here.
        limit_bounding_set(plan)?;
    }
    let ambient = plan.capabilities.map_or(0, |capabilities| capabilities.ambient);
    if ambient | until_executed != 0 {
        credentials::keep_capabilities().about("keep capabilities")?;
    }
    if let Some(identity) = &plan.identity {
        streams::hand_over(stage, identity.uid);
        become_user(identity)?;
    }
    if plan.private_users {
        match &stage.joined {
            Some(joined) => joined.enter_private_users()?,
            None => enter_own_users()?,
        }
        // There all capabilities are given anew, and so is the bounding set.
        limit_bounding_set(plan)?;
    }
    match plan.capabilities {
        Some(capabilities) => keep(capabilities, until_executed),
        // What another user than root would have lost without us.
        None if until_executed != 0 && !geteuid().is_root() => {
            keep(Capabilities { bounding: u64::MAX, ambient: 0 }, until_executed)
        }
        None => Ok(()),
    }
}

/// A process that has changed its user may not write its own map, unless it can be traced. That it can be until execve(2), as it
/// can afterwards, lets nobody get at anything: what is secret has been put in its place.
fn enter_own_users() -> Result<(), StepError> {
    nix::sys::prctl::set_dumpable(true).about("prctl")?;
    user_namespace::enter_new()
}

/// Whether walls go up later that take a right.
fn needs_admin(plan: &LaunchPlan) -> bool {
    !plan.no_new_privs && (plan.landlock.is_some() || !plan.seccomp.is_empty())
}

fn become_user(Identity { uid, gid, groups }: &Identity) -> Result<(), StepError> {
    let about = match groups.as_slice() {
        [] => format!("uid {uid}, gid {gid}"),
        groups => format!("uid {uid}, gid {gid}, groups {groups:?}"),
    };
    credentials::change_to(*uid, *gid, groups).about(&about)
}

/// Gives up all that is not to be left. What root keeps until execve(2) is what it has again afterwards.
fn keep(Capabilities { bounding, ambient }: Capabilities, until_executed: u64) -> Result<(), StepError> {
    let permitted = credentials::permitted().about("capabilities")?;
    let left = until_executed | if geteuid().is_root() { bounding | ambient } else { ambient };
    credentials::set_capabilities(permitted & left, permitted & ambient).about("capabilities")?;
    credentials::raise_ambient(ambient).about("ambient capabilities")
}

/// An ordinary user outside of a user namespace has no capability, CAP_SETPCAP included, and so cannot limit the
/// bounding set. With no_new_privs that is no loss: what the set allows can only be gained by execve(2), which then gives nothing.
fn limit_bounding_set(plan: &LaunchPlan) -> Result<(), StepError> {
    let Some(Capabilities { bounding, .. }) = plan.capabilities else { return Ok(()) };
    match credentials::limit_bounding_set(bounding) {
        Err(error) if plan.no_new_privs && error.raw_os_error() == Some(Errno::EPERM as i32) => Ok(()),
        result => result.about("bounding set"),
    }
}
