//! Where the program's standard streams lead.

use std::{
    fs::OpenOptions,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{OpenOptionsExt, fchown},
    },
};

use nix::{
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::stat::{SFlag, fstat},
    unistd::{dup2_stderr, dup2_stdin, dup2_stdout},
};
use watt_os::terminal::{self, Size};

use crate::{
    error::{About, StepError},
    launch::Stage,
    plan::{Streams, TERMINAL},
};

pub(crate) fn open(stage: &mut Stage<'_>) -> Result<(), StepError> {
    match stage.plan.streams {
        Streams::Spawner => open_file(stage),
        Streams::Passed => match stage.streams.take() {
            Some([input, output, error]) => replace(&input, &output, &error),
            None => Err(StepError::invalid("no streams".to_owned())),
        },
        Streams::Terminal { rows, columns } => {
            let (other_end, own) = terminal::open(Size { rows, columns }).about("/dev/ptmx")?;
            terminal::make_controlling(&own).about("controlling terminal")?;
            replace(&own, &own, &own)?;
            stage.report.send_descriptors(&[(TERMINAL.to_owned(), other_end)])
        }
    }
}

/// Gives the program's output to its user, who may open it anew then: by `/dev/stderr`, as nginx and PHP-FPM are often told to. Only
/// what is a pipe, and so this program's alone. Has to happen while there is the right to do so; without it, the program goes without.
pub(crate) fn hand_over(stage: &Stage<'_>, uid: u32) {
    let (output, error) = (std::io::stdout(), std::io::stderr());
    let streams = match &stage.streams {
        Some([_, output, error]) => [output.as_fd(), error.as_fd()],
        None => [output.as_fd(), error.as_fd()],
    };
    for stream in streams {
        let mode = fstat(stream).map_or(SFlag::empty(), |found| SFlag::from_bits_truncate(found.st_mode));
        if mode & SFlag::S_IFMT == SFlag::S_IFIFO {
            let _ = fchown(stream, Some(uid), None);
        }
    }
}

fn replace(input: &OwnedFd, output: &OwnedFd, error: &OwnedFd) -> Result<(), StepError> {
    dup2_stdin(input).about("standard input")?;
    dup2_stdout(output).about("standard output")?;
    dup2_stderr(error).about("standard error")
}

fn open_file(stage: &Stage<'_>) -> Result<(), StepError> {
    let Some(path) = &stage.plan.stdin else { return Ok(()) };
    let about = path.display();
    // A pipe that nobody writes to is not to hold up the start, nor a terminal to become the session's own.
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).about(&about)?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty())).about(&about)?;
    dup2_stdin(&file).about(&about)
}
