//! A mount namespace in which the program sees other files than the host has: the names of the mesh in `/etc/hosts`,
//! nothing of the sockets of watt and of the other workers, folders it cannot write, devices and processes of its own.
//!
//! Three passes. First everything is taken hold of that is to be shown in another place, or in its old one on top of
//! what covers it: what later mounts hide can still be reached then. Then the mounts are made in the plan's order. Last,
//! the empty folders among them become read-only, since until then mount points are made in them.

pub(crate) mod cgroups;
mod credentials;
mod devices;
mod held;
mod inaccessible;
mod kernel;
mod view;

use std::path::Path;

use watt_os::{
    mount::{self, Change, Forbid, Tree},
    namespace::{self, Kind},
};

use crate::{
    error::{About, StepError},
    launch::Stage,
    plan::{Credentials, Mount},
};
use cgroups::OwnGroup;
use held::Held;
use view::{Point, View};

pub(crate) fn arrange(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let mounts = &stage.plan.mounts;
    if mounts.is_empty() {
        return Ok(());
    }
    if let Some(joined) = &stage.joined {
        return joined.enter(Kind::Mount);
    }
    enter_new()?;
    let files = credentials::take(stage.credentials.take())?;
    let owner = stage.plan.identity.as_ref().map(|identity| (identity.uid, identity.gid));
    make(mounts, &Given { cgroups: &stage.cgroups, files, owner })
}

/// Enters a mount namespace whose mounts the host does not see.
pub(crate) fn enter_new() -> Result<(), StepError> {
    namespace::enter_new(Kind::Mount).about("mount namespace")?;
    mount::detach().about("/")
}

/// What mounts are made of besides the host's files.
#[derive(Debug, Default)]
pub(crate) struct Given<'a> {
    /// Where this process is among the cgroups.
    pub(crate) cgroups: &'a [OwnGroup],
    /// The files of [`Mount::Credentials`].
    pub(crate) files: Credentials,
    /// Whom they are for, when it is another user than the present one.
    pub(crate) owner: Option<(u32, u32)>,
}

/// Makes these mounts in the present mount namespace.
pub(crate) fn make(mounts: &[Mount], given: &Given<'_>) -> Result<(), StepError> {
    let held = held::take(mounts)?;
    let mut view = View::default();
    for mount in held {
        apply(&mut view, mount, given)?;
    }
    view.finish()
}

fn apply(view: &mut View, mount: Held<'_>, given: &Given<'_>) -> Result<(), StepError> {
    match mount {
        Held::LeftOut => Ok(()),
        Held::Show { tree, target, read_only, optional } => show(view, &tree, target, read_only, optional),
        Held::Empty { target, options, no_exec, read_only, optional } => {
            if !view.point(target, Point::Folder, optional)? {
                return Ok(());
            }
            empty(view, target, &options, no_exec)?;
            if read_only {
                view.read_only_at_last(target.to_owned());
            }
            Ok(())
        }
        Held::ReadOnly { path, optional } => {
            view.existing(path, optional)?.map_or(Ok(()), |_| change_below(path, Change::ReadOnly))
        }
        Held::Executable { path, allowed, optional } => {
            let change = if allowed { Change::Exec } else { Change::NoExec };
            view.existing(path, optional)?.map_or(Ok(()), |_| change_below(path, change))
        }
        Held::Pinned { path, optional } => view.existing(path, optional)?.map_or(Ok(()), |_| pin(path)),
        Held::Cover { path, optional } => view.cover(path, optional),
        Held::Hide { folder, keep, kept } => hide(view, folder, keep, &kept),
        Held::Devices(sources) => devices::make(view, sources),
        Held::Proc { hide, processes_only } => kernel::proc(hide, processes_only),
        Held::Sys(cgroups) => kernel::sys(view, cgroups),
        Held::Cgroups => cgroups::show_own(given.cgroups),
        Held::Mqueue => kernel::mqueue(view),
        Held::Credentials { target } => credentials::make(view, target, given),
    }
}

/// Shows what was taken hold of, if there is a place for it.
fn show(view: &View, tree: &Tree, target: &Path, read_only: bool, optional: bool) -> Result<(), StepError> {
    let about = target.display();
    let kind = if tree.is_folder().about(&about)? { Point::Folder } else { Point::File };
    if !view.point(target, kind, optional)? {
        return Ok(());
    }
    let shown = if read_only { tree.attach_changed(target, Change::ReadOnly) } else { tree.attach(target) };
    shown.about(&about)
}

/// An empty folder in memory, in which mount points are made from here on.
fn empty(view: &mut View, point: &Path, options: &str, no_exec: bool) -> Result<(), StepError> {
    let forbid = Forbid { devices: true, executing: no_exec, writing: false };
    let about = point.display();
    mount::filesystem("tmpfs", point, options, forbid).about(&about)?;
    view.made(point).about(&about)
}

/// Only a mount can be changed: what is not one becomes one by being shown in its own place.
fn change_below(path: &Path, change: Change) -> Result<(), StepError> {
    let changed = match mount::change_below(path, change) {
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EINVAL as i32) => {
            Tree::of(path).and_then(|tree| tree.attach_changed(path, change))
        }
        result => result,
    };
    changed.about(path.display())
}

/// Shows a path in its own place, with what was said of it until now.
fn pin(path: &Path) -> Result<(), StepError> {
    Tree::of(path).and_then(|tree| tree.attach(path)).about(path.display())
}

/// Covers a folder, and shows what is kept in its old place.
fn hide(view: &mut View, folder: &Path, keep: &Path, kept: &Tree) -> Result<(), StepError> {
    view.point(folder, Point::Folder, false)?;
    empty(view, folder, "mode=0755", true)?;
    show(view, kept, keep, false, false)?;
    view.read_only_at_last(folder.to_owned());
    Ok(())
}
