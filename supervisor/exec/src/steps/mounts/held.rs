//! What is taken hold of before the first mount is made.

use std::path::{Path, PathBuf};

use watt_os::mount::Tree;

use super::devices::{self, Sources};
use crate::{
    error::{About, StepError, is_missing},
    plan::Mount,
};

/// What one mount of the plan needs.
#[derive(Debug)]
pub(super) enum Held {
    /// Nothing, or something optional that is not there.
    Nothing,
    /// What is to be shown.
    Tree(Tree),
    /// What goes into the own /dev.
    Devices(Sources),
}

impl Held {
    pub(super) fn tree(self) -> Option<Tree> {
        match self {
            Held::Tree(tree) => Some(tree),
            Held::Nothing | Held::Devices(_) => None,
        }
    }
}

/// Takes hold for all mounts, in their order.
pub(super) fn take(mounts: &[Mount]) -> Result<Vec<Held>, StepError> {
    let one = |(index, mount): (usize, &Mount)| match mount {
        Mount::Bind { source, optional, .. } => tree(source, *optional),
        Mount::Writable { path, optional } => tree(&source_of(path, &mounts[..index]), *optional),
        Mount::HideFolder(hidden) => tree(&hidden.keep, false),
        Mount::Devices => devices::take(&mounts[index..]).map(Held::Devices),
        Mount::Sys => tree(Path::new("/sys/fs/cgroup"), true),
        Mount::Tmpfs { .. }
        | Mount::ReadOnly { .. }
        | Mount::Inaccessible { .. }
        | Mount::Proc { .. }
        | Mount::Cgroups
        | Mount::Mqueue => Ok(Held::Nothing),
    };
    mounts.iter().enumerate().map(one).collect()
}

/// Takes hold of a path, if it is there.
fn tree(path: &Path, optional: bool) -> Result<Held, StepError> {
    match Tree::of(path) {
        Err(error) if optional && is_missing(&error) => Ok(Held::Nothing),
        result => result.map(Held::Tree).about(&path.display().to_string()),
    }
}

/// Where a path that the program sees is on the host: another place was bound there by an earlier mount.
fn source_of(path: &Path, earlier: &[Mount]) -> PathBuf {
    let bound = earlier.iter().rev().find_map(|mount| match mount {
        Mount::Bind { source, target, .. } => Some((source, path.strip_prefix(target).ok()?)),
        _ => None,
    });
    match bound {
        // Joined with nothing, a path gets a slash at its end, which a file must not have.
        Some((source, below)) if below.as_os_str().is_empty() => source.clone(),
        Some((source, below)) => source.join(below),
        None => path.to_owned(),
    }
}
