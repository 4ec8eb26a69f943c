//! What is taken hold of before the first mount is made.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use watt_os::mount::{self, Forbid, Tree};

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
    /// What to cover with.
    Inaccessible(Inaccessible),
    /// What goes into the own /dev.
    Devices(Sources),
}

impl Held {
    pub(super) fn tree(self) -> Option<Tree> {
        match self {
            Held::Tree(tree) => Some(tree),
            Held::Nothing | Held::Inaccessible(_) | Held::Devices(_) => None,
        }
    }
}

/// An empty folder and an empty file that only root can open, of which a mount uses one: which it is, is known when the path is
/// covered.
#[derive(Debug)]
pub(super) struct Inaccessible {
    pub(super) folder: Tree,
    pub(super) file: Tree,
}

/// Takes hold for all mounts, in their order.
pub(super) fn take(mounts: &[Mount]) -> Result<Vec<Held>, StepError> {
    let covers = mounts.iter().filter(|mount| matches!(mount, Mount::Inaccessible { .. })).count();
    let mut covers = inaccessible(covers)?.into_iter();
    let one = |(index, mount): (usize, &Mount)| match mount {
        Mount::Bind { source, optional, .. } => tree(source, *optional),
        Mount::Writable { path, optional } => tree(&source_of(path, &mounts[..index]), *optional),
        Mount::HideFolder(hidden) => tree(&hidden.keep, false),
        Mount::Inaccessible { .. } => Ok(covers.next().map_or(Held::Nothing, Held::Inaccessible)),
        Mount::Devices => devices::take(&mounts[index..]).map(Held::Devices),
        Mount::Sys => tree(Path::new("/sys/fs/cgroup"), true),
        Mount::Tmpfs { .. }
        | Mount::ReadOnly { .. }
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
        Mount::Bind { source, target, .. } => path
            .strip_prefix(target)
            .ok()
            .map(|below| if below.as_os_str().is_empty() { source.clone() } else { source.join(below) }),
        _ => None,
    });
    bound.unwrap_or_else(|| path.to_owned())
}

/// Makes what paths are covered with, `count` times. It is made in a file system of its own, mounted for a moment where every
/// system has a folder; nobody else sees this mount namespace.
fn inaccessible(count: usize) -> Result<Vec<Inaccessible>, StepError> {
    const PLACE: &str = "/proc";
    if count == 0 {
        return Ok(Vec::new());
    }
    let place = Path::new(PLACE);
    let (folder, file) = (place.join("folder"), place.join("file"));
    let make = || -> io::Result<Vec<Inaccessible>> {
        fs::create_dir(&folder)?;
        File::create(&file)?;
        for path in [&folder, &file] {
            fs::set_permissions(path, Permissions::from_mode(0o000))?;
        }
        let one = |_| Ok(Inaccessible { folder: Tree::of(&folder)?, file: Tree::of(&file)? });
        (0..count).map(one).collect()
    };
    // Room for the three of them: the root, a folder and a file.
    let forbid = Forbid { devices: true, executing: true, writing: false };
    mount::filesystem("tmpfs", place, "mode=0755,nr_inodes=4,size=4k", forbid).about("cover")?;
    let made = make().about("cover");
    mount::unmount(place).about("cover")?;
    made
}
