//! A session of its own, and nothing to read on standard input.

use std::fs::File;

use nix::{
    sys::stat::{Mode, umask},
    unistd::{Pid, dup2_stdin, setpgid, setsid},
};

use crate::{
    error::{About, StepError},
    launch::Stage,
};

const NOTHING: &str = "/dev/null";
/// The process that asks, and the group that has its number (setpgid(2)).
const OURSELVES: Pid = Pid::from_raw(0);

/// What the steps make in empty folders can be passed through by every user, whatever mask the program gets.
const UMASK: Mode = Mode::S_IWGRP.union(Mode::S_IWOTH);

pub(crate) fn start(stage: &mut Stage<'_>) -> Result<(), StepError> {
    // No terminal: its Ctrl-C is meant for wattctl. EPERM cannot happen, since a fresh clone leads no process group.
    if stage.plan.keeps_session {
        setpgid(OURSELVES, OURSELVES).about("setpgid")?;
    } else {
        setsid().about("setsid")?;
    }
    let nothing = File::open(NOTHING).about(NOTHING)?;
    dup2_stdin(&nothing).about(NOTHING)?;
    umask(UMASK);
    Ok(())
}
