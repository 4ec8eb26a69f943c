//! When and where the program runs, and how eagerly the kernel kills it when the whole host is out of memory
//! (proc_pid_oom_score_adj(5)).

use std::fs;

use watt_os::scheduling;

use crate::{
    error::{About, StepError},
    launch::Stage,
};

pub(crate) fn set(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let plan = &stage.plan.scheduling;
    if let Some(score) = plan.oom_score_adj {
        fs::write("/proc/self/oom_score_adj", score.to_string())
            .about(format_args!("oom_score_adj {score}"))?;
    }
    if let Some(nice) = plan.nice {
        scheduling::set_nice(nice).about(format_args!("nice {nice}"))?;
    }
    if let Some((policy, priority)) = plan.policy {
        scheduling::set_policy(policy, priority)
            .about(format_args!("policy {policy}, priority {priority}"))?;
    }
    if let Some(slice_ns) = plan.slice_ns {
        // Where it is forbidden, by a container's filter for example, the program only waits for its turn as all others do.
        let _ = scheduling::set_slice(slice_ns);
    }
    if !plan.affinity.is_empty() {
        scheduling::set_affinity(&plan.affinity).about(format_args!("CPUs {:?}", plan.affinity))?;
    }
    if let Some((class, level)) = plan.io {
        scheduling::set_io_priority(class, level).about(format_args!("I/O class {class}, level {level}"))?;
    }
    Ok(())
}
