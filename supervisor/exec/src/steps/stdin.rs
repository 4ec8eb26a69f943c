//! What the program reads as its standard input.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    unistd::dup2_stdin,
};

use crate::{
    error::{About, StepError},
    launch::Stage,
};

pub(crate) fn open(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let Some(path) = &stage.plan.stdin else { return Ok(()) };
    let about = path.display();
    // A pipe that nobody writes to is not to hold up the start, nor a terminal to become the session's own.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).about(&about)?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty())).about(&about)?;
    dup2_stdin(&file).about(&about)
}
