//! A session of its own, nothing to read on standard input, and the file mode creation mask.

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

pub(crate) fn start(stage: &mut Stage<'_>) -> Result<(), StepError> {
    // No terminal: its Ctrl-C is meant for wattctl. EPERM cannot happen, since a fresh clone leads no process group.
    setsid().about("setsid")?;
    let nothing = File::open(NOTHING).about(NOTHING)?;
    dup2_stdin(&nothing).about(NOTHING)?;
    umask(Mode::from_bits_truncate(stage.plan.umask));
    Ok(())
}
