//! What has become of the file system so far: where mount points may be made, and what becomes read-only in the end.

use std::{
    collections::BTreeSet,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use watt_os::mount;

use super::inaccessible::Inaccessible;
use crate::error::{About, StepError, is_missing, is_out_of_reach};

/// What is mounted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    Folder,
    File,
}

/// The mounts that were made. Paths are used as they are given: to find out their real names takes a call for each folder they
/// are in, which was a tenth of a start.
#[derive(Debug, Default)]
pub(super) struct View {
    /// The empty file systems of ours, by the device that each is to stat(2).
    ours: BTreeSet<u64>,
    read_only: Vec<PathBuf>,
    /// Made when it is first needed.
    covers: Option<Inaccessible>,
}

impl View {
    /// An empty file system of ours was mounted here.
    pub(super) fn made(&mut self, point: &Path) -> io::Result<()> {
        self.ours.insert(fs::metadata(point)?.dev());
        Ok(())
    }

    /// This mount becomes read-only when all others are made.
    pub(super) fn read_only_at_last(&mut self, point: PathBuf) {
        self.read_only.push(point);
    }

    pub(super) fn finish(self) -> Result<(), StepError> {
        self.read_only.iter().try_for_each(|point| mount::make_read_only(point).about(point.display()))
    }

    /// What there is at a path. `None` when it may be missing and is.
    pub(super) fn existing(&self, path: &Path, optional: bool) -> Result<Option<Metadata>, StepError> {
        match fs::metadata(path) {
            Err(error) if optional && is_out_of_reach(&error) => Ok(None),
            result => result.map(Some).about(path.display()),
        }
    }

    /// Sees to it that there is something to mount at, and says whether there is. What is missing is made in file systems of ours.
    /// On the host's it is not ours to make.
    pub(super) fn point(&self, path: &Path, kind: Point, optional: bool) -> Result<bool, StepError> {
        let about = path.display();
        match fs::metadata(path) {
            Err(error) if is_missing(&error) && self.is_ours(path) => make(path, kind).about(&about)?,
            Err(error) if is_missing(&error) && optional => return Ok(false),
            found => not_root(path, &found.about(&about)?)?,
        }
        Ok(true)
    }

    /// Covers a path, so that neither it nor what is below it can be opened.
    pub(super) fn cover(&mut self, path: &Path, optional: bool) -> Result<(), StepError> {
        let Some(found) = self.existing(path, optional)? else { return Ok(()) };
        not_root(path, &found)?;
        let covers = match &mut self.covers {
            Some(covers) => covers,
            none => none.insert(Inaccessible::make().about("cover")?),
        };
        covers.cover(path, found.is_dir()).about(path.display())
    }

    /// Whether what is there of a missing path is in a file system of ours.
    fn is_ours(&self, path: &Path) -> bool {
        let there = path.ancestors().find_map(|folder| fs::metadata(folder).ok());
        there.is_some_and(|there| self.ours.contains(&there.dev()))
    }
}

/// A mount on the root would be on top of it, where nobody looks: the root of a process stays what it was.
fn not_root(path: &Path, found: &Metadata) -> Result<(), StepError> {
    let about = path.display();
    let root = fs::metadata("/").about("/")?;
    // The root may be mounted in another place as well, which only its path can tell.
    let may_be = (found.dev(), found.ino()) == (root.dev(), root.ino());
    let is = may_be && fs::canonicalize(path).about(&about)? == Path::new("/");
    if is { Err(StepError::invalid(about.to_string())) } else { Ok(()) }
}

fn make(path: &Path, kind: Point) -> io::Result<()> {
    match (kind, path.parent()) {
        (Point::Folder, _) => fs::create_dir_all(path),
        (Point::File, folder) => {
            folder.map_or(Ok(()), fs::create_dir_all)?;
            File::create(path).map(drop)
        }
    }
}
