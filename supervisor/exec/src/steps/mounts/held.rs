//! What is taken hold of before the first mount is made.

use std::path::{Path, PathBuf};

use watt_os::mount::Tree;

use super::{
    cgroups::CGROUPS,
    devices::{self, Sources},
};
use crate::{
    error::{About, StepError, is_missing},
    plan::{HiddenFolder, HideProcesses, Mount},
};

/// One mount of the plan, with what it needs in hand.
#[derive(Debug)]
pub(super) enum Held<'a> {
    /// Something optional is not there.
    LeftOut,
    /// [`Mount::Bind`] and [`Mount::Writable`]
    Show { tree: Tree, target: &'a Path, read_only: bool, optional: bool },
    /// [`Mount::Tmpfs`]
    Empty { target: &'a Path, options: String, no_exec: bool, read_only: bool, optional: bool },
    /// [`Mount::ReadOnly`]
    ReadOnly { path: &'a Path, optional: bool },
    /// [`Mount::Executable`]
    Executable { path: &'a Path, allowed: bool, optional: bool },
    /// [`Mount::Pinned`]
    Pinned { path: &'a Path, optional: bool },
    /// [`Mount::Inaccessible`]
    Cover { path: &'a Path, optional: bool },
    /// [`Mount::HideFolder`]
    Hide { folder: &'a Path, keep: &'a Path, kept: Tree },
    /// [`Mount::Devices`]
    Devices(Sources),
    /// [`Mount::Proc`]
    Proc { hide: HideProcesses, processes_only: bool },
    /// [`Mount::Sys`], with the cgroups of a host that has any.
    Sys(Option<Tree>),
    /// [`Mount::Cgroups`]
    Cgroups,
    /// [`Mount::Mqueue`]
    Mqueue,
    /// [`Mount::Credentials`]
    Credentials { target: &'a Path },
}

/// Takes hold for all mounts, in their order.
pub(super) fn take(mounts: &[Mount]) -> Result<Vec<Held<'_>>, StepError> {
    mounts.iter().enumerate().map(|(index, mount)| one(mount, &mounts[..index], &mounts[index..])).collect()
}

fn one<'a>(mount: &'a Mount, earlier: &[Mount], later: &[Mount]) -> Result<Held<'a>, StepError> {
    Ok(match mount {
        Mount::Bind { source, target, read_only, optional } => {
            show(tree(source, *optional)?, target, *read_only, *optional)
        }
        Mount::Writable { path, optional } => {
            show(tree(&source_of(path, earlier), *optional)?, path, false, *optional)
        }
        Mount::Tmpfs { target, size, mode, no_exec, read_only, optional } => Held::Empty {
            target,
            options: size.map_or(format!("mode={mode:o}"), |size| format!("mode={mode:o},size={size}")),
            no_exec: *no_exec,
            read_only: *read_only,
            optional: *optional,
        },
        Mount::ReadOnly { path, optional } => Held::ReadOnly { path, optional: *optional },
        Mount::Executable { path, allowed, optional } => {
            Held::Executable { path, allowed: *allowed, optional: *optional }
        }
        Mount::Pinned { path, optional } => Held::Pinned { path, optional: *optional },
        Mount::Inaccessible { path, optional } => Held::Cover { path, optional: *optional },
        Mount::HideFolder(HiddenFolder { folder, keep }) => {
            Held::Hide { folder, keep, kept: Tree::of(keep).about(keep.display())? }
        }
        Mount::Devices => Held::Devices(devices::take(later)?),
        Mount::Proc { hide, processes_only } => Held::Proc { hide: *hide, processes_only: *processes_only },
        Mount::Sys => Held::Sys(tree(Path::new(CGROUPS), true)?),
        Mount::Cgroups => Held::Cgroups,
        Mount::Mqueue => Held::Mqueue,
        Mount::Credentials { target } => Held::Credentials { target },
    })
}

fn show(tree: Option<Tree>, target: &Path, read_only: bool, optional: bool) -> Held<'_> {
    tree.map_or(Held::LeftOut, |tree| Held::Show { tree, target, read_only, optional })
}

/// Takes hold of a path, if it is there.
fn tree(path: &Path, optional: bool) -> Result<Option<Tree>, StepError> {
    match Tree::of(path) {
        Err(error) if optional && is_missing(&error) => Ok(None),
        result => result.map(Some).about(path.display()),
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
