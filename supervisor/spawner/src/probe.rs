//! The probe of the host without a spawner: for `wattctl doctor`, which needs no running application.

use std::{io, os::fd::AsFd, time::Instant};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::wait::{Id, WaitPidFlag, waitid},
};
use thiserror::Error;
use watt_exec::plan::Probe;
use watt_os::process::SpawnError;

use crate::{
    errands::Errand,
    launch::{Launcher, Reports, Said},
    protocol::MESSAGE_SIZE_MAX,
};

/// Why it is not known what the host allows.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The exec stage is not ready to be started.
    #[error("cannot prepare the exec stage")]
    Prepare(#[source] io::Error),
    /// It could not be started.
    #[error("cannot start the exec stage")]
    Start(#[source] SpawnError),
    /// It ended, or was ended after ten seconds, without an answer.
    #[error("the exec stage gave no answer")]
    Silent,
}

/// Tries what the host allows this process's user. Waits some milliseconds; the process that tries is gone
/// afterwards.
///
/// Raises this process's own limit of descriptors, as a spawner does.
///
/// # Errors
/// See [`ProbeError`].
pub fn probe_host() -> Result<Probe, ProbeError> {
    let mut launcher = Launcher::new(None).map_err(ProbeError::Prepare)?;
    let (errand, mut reports) = Errand::probe(&mut launcher).map_err(ProbeError::Start)?;
    let mut buffer = vec![0; MESSAGE_SIZE_MAX];
    while !reports.read(&mut buffer) {
        if !wait_for(&reports, errand.deadline) {
            break;
        }
    }
    // Its answer is all it was for, so it may not outlive it.
    errand.kill();
    while let Err(Errno::EINTR) = waitid(Id::PIDFd(errand.pidfd.as_fd()), WaitPidFlag::WEXITED) {}
    match reports.said {
        Said::Probe(probe) => Ok(*probe),
        Said::Nothing | Said::Executing | Said::Executed | Said::Failed(_) => Err(ProbeError::Silent),
    }
}

/// Whether something has come before the deadline.
fn wait_for(reports: &Reports, deadline: Instant) -> bool {
    let left = deadline.saturating_duration_since(Instant::now());
    let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
    let mut polled = [PollFd::new(reports.as_fd(), PollFlags::POLLIN)];
    match poll(&mut polled, timeout) {
        Ok(0) => false,
        Ok(_) | Err(Errno::EINTR) => true,
        Err(_) => false,
    }
}
