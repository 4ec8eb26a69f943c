//! Joining the v1 cgroups. The v2 one was entered by clone3(2).
//!
//! The process does it itself, before anything else: if its parent did it afterwards, a program that forks at once would be
//! half outside (measured: in 57 to 294 of 300 starts).

use std::fs::OpenOptions;
use std::io::Write;

use crate::{
    error::{About, StepError},
    launch::Stage,
};

pub(crate) fn join(stage: &mut Stage<'_>) -> Result<(), StepError> {
    for path in &stage.plan.join_cgroups {
        let tasks = OpenOptions::new().write(true).open(path);
        // "0" is the writing thread (cgroups(7)), and there is no other.
        tasks.and_then(|mut file| file.write_all(b"0")).about(path.display())?;
    }
    Ok(())
}
