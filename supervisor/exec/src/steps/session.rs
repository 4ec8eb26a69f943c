//! A session of its own, nothing to read on standard input, and the file mode creation mask.

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

pub(crate) fn start(stage: &mut Stage<'_>) -> Result<(), StepError> {
    // No terminal: its Ctrl-C is meant for wattctl. EPERM cannot happen, since a fresh clone leads no process group.
    if stage.plan.keeps_session {
        setpgid(OURSELVES, OURSELVES).about("setpgid")?;
    } else {
        setsid().about("setsid")?;
    }
    let nothing = File::open(NOTHING).about(NOTHING)?;
    dup2_stdin(&nothing).about(NOTHING)?;
    umask(Mode::from_bits_truncate(stage.plan.umask));
    Ok(())
}
