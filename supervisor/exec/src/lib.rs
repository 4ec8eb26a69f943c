//! The exec stage: from a fresh clone to the service's program.
//!
//! The spawner clones `watt-exec`, a small static program, which reads a [`plan::LaunchPlan`] from a sealed
//! memfd, applies it step by step and executes the program. A step that fails is reported by name, object and
//! error number; success is [`plan::Report::Executing`] and then the end of the report socket, which execve(2) closes.
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
    io,
    os::fd::{AsFd, OwnedFd},
};

use error::{Failed, StepError};
use plan::{Failure, LISTEN_FDS_START, PLAN_FD, Report, Task};
use report::ReportSocket;
use watt_os::{inherited, memfd};

/// The largest task in bytes. Arguments and environment of a process are at most 6 MiB (execve(2)).
pub const TASK_SIZE_MAX: usize = 16 << 20;

/// Does what the task at [`PLAN_FD`] says. For a launch that succeeds it does not return.
///
/// # Errors
/// What went wrong; it was also sent to the spawner, unless the report socket itself is missing.
pub fn run() -> Result<(), Failed> {
    let report = ReportSocket::inherited()
        .map_err(|error| Failed::new("report", &StepError::new("socket", &error)))?;
    let result = perform(&report);
    if let Err(failed) = &result {
        // The spawner sees our exit status anyway. It is gone, most likely.
        let _ = report.send(&Report::Failed(failed.0.clone()), &[]);
    }
    result
}

fn perform(report: &ReportSocket) -> Result<(), Failed> {
    let task = read_task().map_err(|error| Failed::new("plan", &error))?;
    match task {
        Task::Launch(plan) => {
            let listeners = passed(plan.listeners).map_err(|error| Failed::new("listeners", &error))?;
            launch::launch(*plan, listeners, report)
        }
        Task::MakeSockets { user_namespace, count } => {
            let namespaces = passed(1 + u16::from(user_namespace));
            let made =
                namespaces.and_then(|fds| sockets::enter_and_make(&fds, user_namespace, count, report));
            made.map_err(|error| Failed::new("sockets", &error))
        }
        Task::Probe => {
            let probe = Report::Probe(probe::probe());
            report.send(&probe, &[]).map_err(|error| Failed::new("report", &StepError::new("probe", &error)))
        }
    }
}

fn read_task() -> Result<Task, StepError> {
    let plan = inherited::take(PLAN_FD).map_err(|error| StepError::new("descriptor", &error))?;
    let bytes =
        memfd::read_sealed(plan.as_fd(), TASK_SIZE_MAX).map_err(|error| StepError::new("memfd", &error))?;
    postcard::from_bytes(&bytes).map_err(|_| StepError::new("encoding", &io::ErrorKind::InvalidData.into()))
}

/// The descriptors after the agreed two.
fn passed(count: u16) -> Result<Vec<OwnedFd>, StepError> {
    let first = LISTEN_FDS_START + 2;
    let take = |number| {
        inherited::take(number).map_err(|error| StepError::new(&format!("descriptor {number}"), &error))
    };
    (first..first + i32::from(count)).map(take).collect()
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Failure { step, object, errno } = &self.0;
        write!(f, "{step}: {object}: {}", io::Error::from_raw_os_error(*errno))
    }
}
