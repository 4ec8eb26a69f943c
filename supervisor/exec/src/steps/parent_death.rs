//! A signal when the spawner dies, so that nothing of an application outlives it unseen.
//!
//! The kernel sends it when the parent *thread* ends. That is safe here alone: the spawner has one thread.

use nix::errno::Errno;
use watt_os::prctl;

use crate::{
    error::{About, StepError},
    launch::Stage,
};

pub(crate) fn ask(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let Some(signal) = stage.plan.parent_death_signal else { return Ok(()) };
    prctl::set_parent_death_signal(signal).about(format_args!("signal {signal}"))?;
    // A spawner that died before will not die again. Its end of the socket went with it.
    if stage.report.is_abandoned() {
        return Err(StepError { object: "spawner".to_owned(), errno: Errno::ESRCH as i32 });
    }
    Ok(())
}
