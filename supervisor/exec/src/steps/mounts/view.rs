//! What has become of the file system so far: where mount points may be made, and what becomes read-only in the end.

use std::{
    fs::{self, File},
    io,
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

/// The mounts that were made.
#[derive(Debug, Default)]
pub(super) struct View {
    /// Where something was mounted, and whether it is an empty file system of ours. The last one that a path is below decides.
    mounts: Vec<(PathBuf, bool)>,
    read_only: Vec<PathBuf>,
    /// Made when it is first needed.
    covers: Option<Inaccessible>,
}

impl View {
    /// Something of the host was mounted here.
    pub(super) fn mounted(&mut self, point: &Path) {
        self.mounts.push((point.to_owned(), false));
    }

    /// An empty file system of ours was mounted here.
    pub(super) fn made(&mut self, point: &Path) {
        self.mounts.push((point.to_owned(), true));
    }

    /// This mount becomes read-only when all others are made.
    pub(super) fn read_only_at_last(&mut self, point: PathBuf) {
        self.read_only.push(point);
    }

    pub(super) fn finish(self) -> Result<(), StepError> {
        self.read_only
            .iter()
            .try_for_each(|point| mount::make_read_only(point).about(&point.display().to_string()))
    }

    /// The real path of something that exists. `/etc/resolv.conf` is often a symbolic link to a file that a resolver
    /// keeps in /run.
    pub(super) fn existing(&self, path: &Path, optional: bool) -> Result<Option<PathBuf>, StepError> {
        match fs::canonicalize(path) {
            Err(error) if optional && is_out_of_reach(&error) => Ok(None),
            result => result.map(Some).about(&path.display().to_string()),
        }
    }

    /// The real path to mount at. One that is missing is made in file systems of ours. On the host's it is not ours to make.
    pub(super) fn point(
        &self,
        path: &Path,
        kind: Point,
        optional: bool,
    ) -> Result<Option<PathBuf>, StepError> {
        let about = path.display().to_string();
        let real = match fs::canonicalize(path) {
            Err(error) if is_missing(&error) && self.is_ours(path) => {
                make(path, kind).and_then(|()| fs::canonicalize(path)).about(&about)?
            }
            Err(error) if is_missing(&error) && optional => return Ok(None),
            result => result.about(&about)?,
        };
        below_root(&real, &about)?;
        Ok(Some(real))
    }

    /// Covers a path, so that neither it nor what is below it can be opened.
    pub(super) fn cover(&mut self, path: &Path, optional: bool) -> Result<(), StepError> {
        let about = path.display().to_string();
        let Some(real) = self.existing(path, optional)? else { return Ok(()) };
        below_root(&real, &about)?;
        let covers = match &mut self.covers {
            Some(covers) => covers,
            none => none.insert(Inaccessible::make().about("cover")?),
        };
        covers.cover(&real).about(&about)?;
        self.mounted(&real);
        Ok(())
    }

    /// Whether what is there of a missing path is in a file system of ours.
    fn is_ours(&self, path: &Path) -> bool {
        let there = path.ancestors().find_map(|folder| fs::canonicalize(folder).ok());
        let above = |there: &PathBuf| self.mounts.iter().rev().find(|(point, _)| there.starts_with(point));
        there.as_ref().and_then(above).is_some_and(|(_, ours)| *ours)
    }
}

/// A mount on the root would be on top of it, where nobody looks: the root of a process stays what it was.
fn below_root(real: &Path, about: &str) -> Result<(), StepError> {
    if real == Path::new("/") { Err(StepError::invalid(about.to_owned())) } else { Ok(()) }
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
