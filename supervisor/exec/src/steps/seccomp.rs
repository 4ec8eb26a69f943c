//! The system call filters, the last thing before execve(2): nothing of our own has to be allowed by them but that.

use watt_os::seccomp;

use crate::{
    error::{About, StepError},
    launch::Stage,
};

pub(crate) fn install(stage: &mut Stage<'_>) -> Result<(), StepError> {
    for (index, filter) in stage.plan.seccomp.iter().enumerate() {
        seccomp::install(filter).about(format_args!("filter {index}"))?;
    }
    Ok(())
}
