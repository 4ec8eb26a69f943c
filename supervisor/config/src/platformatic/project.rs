//! The files of a Platformatic project, as they were when it was read.
//!
//! What a project means depends on more than one file: those of its services, their `package.json`, which folders there are, what has been
//! built. All that was looked at is kept, and what it means is worked out from that alone. So a daemon that takes over sees the project
//! that the application was started with, and the same files always mean the same.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::source::{plain, read_capped};

/// The largest file of a service that is read. Configuration files and `package.json` have a few kilobytes.
const FILE_BYTES_MAX: usize = 1 << 20;

/// How much is kept of all files together: it is handed from daemon to daemon.
const PROJECT_BYTES_MAX: usize = 6 << 20;

/// How many entries of a folder are looked at.
const FOLDER_ENTRIES_MAX: usize = 10_000;

/// What was looked at of a project beside its first file. See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Project {
    /// Files that were read.
    texts: BTreeMap<PathBuf, Found>,
    /// Folders that were listed: names, and whether each is a folder itself. `None` where there is none.
    folders: BTreeMap<PathBuf, Option<Vec<(String, bool)>>>,
    /// Whether there is something at a path.
    present: BTreeMap<PathBuf, bool>,
}

/// What was found where a file was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Found {
    /// Nothing.
    Missing,
    /// Something that cannot be read; why.
    Unreadable(String),
    /// Its text.
    Text(String),
}

impl Project {
    /// The texts of files, in the order their places are counted in.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.texts.iter().filter_map(|(path, found)| match found {
            Found::Text(text) => Some((path.as_path(), text.as_str())),
            Found::Missing | Found::Unreadable(_) => None,
        })
    }
}

/// The way to the files: those that were looked at before, or the disk, while a project is read.
pub(crate) struct View<'a> {
    /// What was seen before; nothing else is there.
    seen: Option<&'a Project>,
    /// What is seen on the disk.
    noted: RefCell<Project>,
}

impl<'a> View<'a> {
    /// What was seen, and nothing else.
    pub(crate) fn of(project: &'a Project) -> Self {
        View { seen: Some(project), noted: RefCell::default() }
    }

    /// The disk; what is looked at is noted.
    pub(crate) fn of_disk() -> Self {
        View { seen: None, noted: RefCell::default() }
    }

    /// What was noted.
    pub(crate) fn into_project(self) -> Project {
        self.noted.into_inner()
    }

    /// A file.
    pub(crate) fn file(&self, path: &Path) -> Found {
        if let Some(seen) = self.seen {
            return seen.texts.get(path).cloned().unwrap_or(Found::Missing);
        }
        let mut noted = self.noted.borrow_mut();
        if let Some(found) = noted.texts.get(path) {
            return found.clone();
        }
        let kept: usize = noted.texts().map(|(_, text)| text.len()).sum();
        let found = read(path, FILE_BYTES_MAX.min(PROJECT_BYTES_MAX.saturating_sub(kept)));
        noted.texts.insert(path.to_owned(), found.clone());
        found
    }

    /// The names in a folder, sorted, each with whether it is a folder itself. `None` when there is no such folder.
    pub(crate) fn folder(&self, path: &Path) -> Option<Vec<(String, bool)>> {
        if let Some(seen) = self.seen {
            return seen.folders.get(path).cloned().flatten();
        }
        let mut noted = self.noted.borrow_mut();
        noted.folders.entry(path.to_owned()).or_insert_with(|| list(path)).clone()
    }

    /// Whether there is something.
    pub(crate) fn is_there(&self, path: &Path) -> bool {
        if let Some(seen) = self.seen {
            return seen.present.get(path).copied().unwrap_or(false);
        }
        *self.noted.borrow_mut().present.entry(path.to_owned()).or_insert_with(|| path.exists())
    }
}

fn read(path: &Path, bytes_max: usize) -> Found {
    match read_capped(path, bytes_max) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Found::Text(text),
            Err(_) => Found::Unreadable("it is not UTF-8".to_owned()),
        },
        Err(error) if is_absent(&error) => Found::Missing,
        Err(error) => Found::Unreadable(plain(&error)),
    }
}

fn list(path: &Path) -> Option<Vec<(String, bool)>> {
    let entries = std::fs::read_dir(path).ok()?.flatten().take(FOLDER_ENTRIES_MAX);
    let named = entries.filter_map(|entry| {
        let is_folder = std::fs::metadata(entry.path()).is_ok_and(|kind| kind.is_dir());
        Some((entry.file_name().into_string().ok()?, is_folder))
    });
    let mut named: Vec<(String, bool)> = named.collect();
    named.sort();
    Some(named)
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}
