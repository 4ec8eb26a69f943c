//! Resource limits (setrlimit(2)).

use watt_os::rlimit::{self, INFINITY, Limit, Resource};

use crate::{
    error::{About, StepError},
    launch::Stage,
};

pub(crate) fn set(stage: &mut Stage<'_>) -> Result<(), StepError> {
    for (number, soft, hard) in &stage.plan.rlimits {
        let resource =
            Resource::from_number(*number).ok_or_else(|| StepError::invalid(format!("resource {number}")))?;
        let limit = Limit { soft: *soft, hard: *hard };
        rlimit::set(None, resource, limit).about(format!(
            "{} {}:{}",
            resource.name(),
            text(*soft),
            text(*hard)
        ))?;
    }
    Ok(())
}

fn text(value: u64) -> String {
    if value == INFINITY { "unlimited".to_owned() } else { value.to_string() }
}
