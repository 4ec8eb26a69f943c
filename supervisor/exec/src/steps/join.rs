//! The namespaces of a running process, to be inside the same walls.
//!
//! The process is held by its pidfd, so that it is that one or none. It may be of another user by now, and let nobody look at it
//! (PR_SET_DUMPABLE): each namespace is entered while the rights for that are there.

use std::os::fd::OwnedFd;

use watt_os::{
    namespace::{self, Kind},
    pidfd, prctl,
};

use crate::{
    error::{About, StepError},
    launch::Stage,
};

/// The process.
#[derive(Debug)]
pub(crate) struct Joined {
    pid: u32,
    process: OwnedFd,
    /// The user namespace that is entered last, as the user it belongs to, who may not look at the process.
    private_users: Option<OwnedFd>,
}

impl Joined {
    pub(crate) fn new(pid: u32, process: OwnedFd) -> Joined {
        Joined { pid, process, private_users: None }
    }

    /// Enters a namespace of it. That of PIDs is entered by the next child.
    pub(crate) fn enter(&self, kind: Kind) -> Result<(), StepError> {
        namespace::enter(&self.process, kind)
            .about(format_args!("{kind:?} namespace of process {}", self.pid))
    }

    /// Enters the user namespace that it has for itself.
    pub(crate) fn enter_private_users(&self) -> Result<(), StepError> {
        match &self.private_users {
            Some(users) => namespace::enter(users, Kind::User)
                .about(format_args!("User namespace of process {}", self.pid)),
            None => Err(StepError::invalid("no user namespace".to_owned())),
        }
    }
}

/// Keeps the worker's processes from tracing this one on its way in. They may be of the same user, in the same namespace of PIDs by then, and
/// where there is neither Landlock nor Yama nothing else is in their way. execve(2) ends this.
pub(crate) fn hide(stage: &mut Stage<'_>) -> Result<(), StepError> {
    match stage.joined {
        Some(_) => prctl::set_untraceable().about("prctl"),
        None => Ok(()),
    }
}

/// Takes hold of what cannot be reached later.
pub(crate) fn prepare(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let Some(joined) = &mut stage.joined else { return Ok(()) };
    if stage.plan.private_users {
        let users = namespace::open_of(joined.pid, Kind::User);
        joined.private_users = Some(users.about(format_args!("process {}", joined.pid))?);
    }
    // Its number was its own until here, if it is there now.
    pidfd::send_signal(&joined.process, 0).about(format_args!("process {}", joined.pid))
}
