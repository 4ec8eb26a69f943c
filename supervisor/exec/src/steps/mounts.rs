//! A mount namespace in which other files are seen in place of some of the host's: `/etc/hosts`, `/etc/resolv.conf`,
//! `/etc/nsswitch.conf`.
//!
//! A target that is a symbolic link is followed, for `/etc/resolv.conf` often leads to a file that a resolver keeps in /run.
//! A target that does not exist, or a link that leads nowhere, is passed over: a file cannot be bound where there is none, and
//! making one on the host is not ours to do. What that means for names: without `/etc/hosts` they are asked
//! of the name server; without `/etc/resolv.conf` resolvers ask 127.0.0.1 (resolv.conf(5)), which is what ours
//! says as well; without `/etc/nsswitch.conf` the C library has defaults that include files and DNS.

use std::{fs, io, path::Path};

use watt_os::{
    mount,
    namespace::{self, Kind},
};

use crate::{
    error::{About, StepError},
    launch::Stage,
};

pub(crate) fn bind_files(stage: &mut Stage<'_>) -> Result<(), StepError> {
    if stage.plan.bind_files.is_empty() {
        return Ok(());
    }
    enter_new()?;
    for (source, target) in &stage.plan.bind_files {
        bind(source, target)?;
    }
    Ok(())
}

/// Enters a mount namespace whose mounts the host does not see.
pub(crate) fn enter_new() -> Result<(), StepError> {
    namespace::enter_new(Kind::Mount).about("mount namespace")?;
    mount::detach().about("/")
}

fn bind(source: &Path, target: &Path) -> Result<(), StepError> {
    let real = match fs::canonicalize(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result.about(&target.display().to_string())?,
    };
    mount::bind(source, &real).about(&format!("{} on {}", source.display(), real.display()))
}
