//! A session keyring of the program's own: no key of another service is in it, and none of its is in another's.

use watt_os::keyring;

use crate::{
    error::{About, StepError},
    launch::Stage,
};

pub(crate) fn join(stage: &mut Stage<'_>) -> Result<(), StepError> {
    if stage.plan.keyring { keyring::join_new().about("session keyring") } else { Ok(()) }
}
