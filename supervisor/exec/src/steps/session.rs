//! A session of its own, and nothing to read on standard input.

use std::fs::File;

use nix::{
    sys::stat::{Mode, umask},
    unistd::{dup2_stdin, setsid},
};

use crate::{
    error::{About, StepError},
    launch::Stage,
};

const NOTHING: &str = "/dev/null";

/// What the steps make in empty folders can be passed through by every user, whatever mask the program gets.
const UMASK: Mode = Mode::S_IWGRP.union(Mode::S_IWOTH);

pub(crate) fn start(_: &mut Stage<'_>) -> Result<(), StepError> {
    // No terminal: its Ctrl-C is meant for wattctl. EPERM cannot happen, since a fresh clone leads no process group.
    setsid().about("setsid")?;
    let nothing = File::open(NOTHING).about(NOTHING)?;
    dup2_stdin(&nothing).about(NOTHING)?;
    umask(UMASK);
    Ok(())
}
