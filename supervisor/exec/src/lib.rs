//! The exec stage: from a fresh clone to the service's program.
//!
//! The spawner clones `watt-exec`, a small static program, which reads a [`plan::LaunchPlan`] from a sealed
//! memfd, applies it step by step and executes the program. A step that fails is reported by name, object and
//! error number; success is [`plan::Report::Executing`] and then the end of the report socket, which execve(2) closes.
//! In a PID namespace of the program's own the stage stays as its init, and says [`plan::Report::Executed`] instead.
//!
//! The steps and the reasons for their order are the list in `launch.rs`; each is one file in `steps/`.

#![forbid(unsafe_code)]

pub mod plan;

mod error;
mod launch;
mod probe;
mod report;
mod sockets;
mod steps;

use std::{
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
    process::ExitCode,
};

use error::{About, Failed, StepError};
use nix::sys::signal::Signal;
use plan::{LISTEN_FDS_START, PLAN_FD, Report, Task};
use report::ReportSocket;
use watt_os::{inherited, memfd, prctl};

/// The largest task in bytes. Arguments and environment of a process are at most 6 MiB (execve(2)).
pub const TASK_SIZE_MAX: usize = 16 << 20;

/// Does what the task at [`PLAN_FD`] says, and reports a failure to the spawner; on standard error when that cannot be.
/// For a launch that succeeds it does not return.
pub fn run() -> ExitCode {
    match ReportSocket::inherited().about("socket") {
        Ok(mut report) => match perform(&mut report) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failed) => {
                if report.send(&Report::Failed(failed.0.clone()), &[]).is_err() {
                    eprintln!("watt-exec: {failed}");
                }
                ExitCode::FAILURE
            }
        },
        Err(error) => {
            eprintln!("watt-exec: {}", Failed::new("report", &error));
            ExitCode::FAILURE
        }
    }
}

fn perform(report: &mut ReportSocket) -> Result<(), Failed> {
    let task = read_task().map_err(|error| Failed::new("plan", &error))?;
    match task {
        Task::Launch(plan) => {
            let passed = take_passed(report, plan.listeners + plan.handed(), plan.notification_fd);
            let passed = passed.map_err(|error| Failed::new("listeners", &error))?;
            launch::launch(*plan, passed, report)
        }
        Task::MakeSockets { user_namespace, count } => {
            let namespaces = passed(1 + u16::from(user_namespace));
            let made =
                namespaces.and_then(|fds| sockets::enter_and_make(&fds, user_namespace, count, report));
            made.map_err(|error| Failed::new("sockets", &error))
        }
        Task::Probe => {
            let probe = Report::Probe(probe::probe());
            report.send(&probe, &[]).about("probe").map_err(|error| Failed::new("report", &error))
        }
        Task::Say { text } => say(&text).map_err(|error| Failed::new("say", &error)),
    }
}

/// Writes lines at once, and not after the spawner's end: nothing is to be left of an application that was killed.
fn say(text: &[u8]) -> Result<(), StepError> {
    prctl::set_parent_death_signal(Signal::SIGKILL as i32).about("parent death signal")?;
    io::stderr().write_all(text).about("standard error")
}

/// Takes what was passed first: the number of one of them may be free to be given out otherwise. One number may be kept free.
fn take_passed(report: &mut ReportSocket, count: u16, free: Option<u16>) -> Result<Vec<OwnedFd>, StepError> {
    let passed = passed(count)?;
    let Some(free) = free else {
        report.make_room(count).about("report socket")?;
        return Ok(passed);
    };
    report.make_room(count.max(free)).about("report socket")?;
    let above = |fd| inherited::duplicate_above(fd, LISTEN_FDS_START + i32::from(free)).about("descriptor");
    passed.into_iter().map(above).collect()
}

fn read_task() -> Result<Task, StepError> {
    let plan = inherited::take(PLAN_FD).about("descriptor")?;
    let bytes = memfd::read_sealed(plan.as_fd(), TASK_SIZE_MAX).about("memfd")?;
    postcard::from_bytes(&bytes).map_err(|_| StepError::new("encoding", &io::ErrorKind::InvalidData.into()))
}

/// The descriptors after the agreed two.
fn passed(count: u16) -> Result<Vec<OwnedFd>, StepError> {
    let first = LISTEN_FDS_START + 2;
    let take = |number| inherited::take(number).about(format_args!("descriptor {number}"));
    (first..first + i32::from(count)).map(take).collect()
}
