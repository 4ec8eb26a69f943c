//! A mount namespace in which other files are seen in place of some of the host's: `/etc/hosts`, `/etc/resolv.conf`,
//! `/etc/nsswitch.conf`; and in which the sockets of watt and of the other workers are not seen at all.
//!
//! A target that is a symbolic link is followed, for `/etc/resolv.conf` often leads to a file that a resolver keeps in /run.
//! A target that does not exist, or a link that leads nowhere, is passed over: a file cannot be bound where there is none, and
//! making one on the host is not ours to do. What that means for names: without `/etc/hosts` they are asked
//! of the name server; without `/etc/resolv.conf` resolvers ask 127.0.0.1 (resolv.conf(5)), which is what ours
//! says as well; without `/etc/nsswitch.conf` the C library has defaults that include files and DNS.

use std::{env, fs, io, path::Path};

use watt_os::{
    mount,
    namespace::{self, Kind},
};

use crate::{
    error::{About, StepError},
    launch::Stage,
    plan::{HiddenFolder, Mount},
};

pub(crate) fn arrange(stage: &mut Stage<'_>) -> Result<(), StepError> {
    if stage.plan.mounts.is_empty() {
        return Ok(());
    }
    enter_new()?;
    for mount in &stage.plan.mounts {
        match mount {
            Mount::Bind { source, target, .. } => bind(source, target)?,
            Mount::HideFolder(hidden) => hide(hidden)?,
            _ => return Err(StepError::invalid("mount".to_owned())),
        }
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

/// Covers a folder, and shows what is kept in its old place. The working directory is what still leads to it once it is
/// covered, until a later step changes it.
fn hide(HiddenFolder { folder, keep }: &HiddenFolder) -> Result<(), StepError> {
    let (covered, kept) = (folder.display().to_string(), keep.display().to_string());
    env::set_current_dir(keep).about(&kept)?;
    mount::cover(folder).about(&covered)?;
    fs::create_dir_all(keep).about(&kept)?;
    mount::bind(Path::new("."), keep).about(&kept)?;
    mount::make_read_only(folder).about(&covered)
}
