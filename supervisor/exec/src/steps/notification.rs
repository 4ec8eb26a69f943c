//! A pipe to which the program writes a line break when it is ready (servicedir of s6, `notification-fd`).
//!
//! The other end goes to the spawner, which keeps it for as long as the run lives, so that what is written stays there whoever dies
//! meanwhile.

use std::os::fd::RawFd;

use nix::{fcntl::OFlag, unistd::pipe2};
use watt_os::inherited;

use crate::{
    error::{About, StepError},
    launch::Stage,
    plan::NOTIFICATION,
};

/// Makes it, first of all that needs a number: that which the program wants is free, and open from here on.
pub(crate) fn make(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let Some(number) = stage.plan.notification_fd else { return Ok(()) };
    let about = format!("descriptor {number}");
    let (read, write) = pipe2(OFlag::O_CLOEXEC).about(&about)?;
    // It may have got the number itself.
    let read = inherited::duplicate_above(read, RawFd::from(number) + 1).about(&about)?;
    inherited::hand_on(vec![write], number.into()).about(&about)?;
    stage.report.send_descriptors(&[(NOTIFICATION.to_owned(), read)])
}

/// Lets the program have it, after all others were marked to be closed.
pub(crate) fn hand_down(number: Option<u16>) -> std::io::Result<()> {
    number.map_or(Ok(()), |number| inherited::hand_down_number(number.into()))
}
