//! How eagerly the kernel kills this process when the whole host is out of memory (proc_pid_oom_score_adj(5)).

use std::fs;

use crate::{
    error::{About, StepError},
    launch::Stage,
};

pub(crate) fn set(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let Some(score) = stage.plan.scheduling.oom_score_adj else { return Ok(()) };
    fs::write("/proc/self/oom_score_adj", score.to_string()).about(&score.to_string())
}
