//! No program started from here on gains rights by being executed (prctl(2), PR_SET_NO_NEW_PRIVS).

use watt_os::prctl;

use crate::{
    error::{About, StepError},
    launch::Stage,
};

pub(crate) fn set(stage: &mut Stage<'_>) -> Result<(), StepError> {
    if stage.plan.no_new_privs { prctl::set_no_new_privs().about("no_new_privs") } else { Ok(()) }
}
