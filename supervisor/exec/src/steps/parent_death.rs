//! A signal when the spawner dies, so that nothing of an application outlives it unseen.
//!
//! The kernel sends it when the parent *thread* ends. That is safe here alone: the spawner has one thread.

use nix::{errno::Errno, sys::signal::Signal};
use watt_os::prctl;

use crate::{
    error::{About, StepError},
    launch::Stage,
    report::ReportSocket,
};

pub(crate) fn ask(stage: &mut Stage<'_>) -> Result<(), StepError> {
    match stage.plan.parent_death_signal {
        Some(signal) => ask_for(signal, stage.report),
        None => Ok(()),
    }
}

/// Has this process killed when the one that made it ends.
pub(crate) fn follow(report: &ReportSocket) -> Result<(), StepError> {
    ask_for(Signal::SIGKILL as i32, report)
}

fn ask_for(signal: i32, report: &ReportSocket) -> Result<(), StepError> {
    prctl::set_parent_death_signal(signal).about(format_args!("signal {signal}"))?;
    // A spawner that died before will not die again. Its end of the socket went with it.
    if report.is_abandoned() {
        return Err(StepError { object: "spawner".to_owned(), errno: Errno::ESRCH as i32 });
    }
    Ok(())
}
