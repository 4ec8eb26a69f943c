//! The execution domain (personality(2)).

use nix::sys::personality::{self, Persona};

use crate::{
    error::{About, StepError},
    launch::Stage,
};

pub(crate) fn set(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let Some(number) = stage.plan.personality else { return Ok(()) };
    // The kernel takes all 32 bits as one number.
    let persona = Persona::from_bits_retain(number.cast_signed());
    personality::set(persona).map(drop).about(format_args!("personality {number:#x}"))
}
