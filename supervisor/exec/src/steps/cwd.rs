//! The working directory.

use nix::unistd::chdir;

use crate::{
    error::{About, StepError},
    launch::Stage,
};

pub(crate) fn enter(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let path = &stage.plan.cwd;
    chdir(path).about(path.display())
}
