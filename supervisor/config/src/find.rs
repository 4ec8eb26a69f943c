//! Finding the configuration file upward from a folder.

use std::path::{Path, PathBuf};

use crate::{
    platformatic::{self, FileKind},
    source::{FILE_BYTES_MAX, read_capped},
};

/// The names a configuration file may have, in the order they are looked for.
pub const FILE_NAMES: [&str; 4] = ["watt.yaml", "watt.yml", "watt.json", "watt.toml"];

/// Why no configuration file was found.
#[derive(Debug)]
pub enum FindError {
    /// Nothing is at this path.
    Missing(PathBuf),
    /// The path could not be looked at.
    Unreadable {
        /// What was looked at.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Two of the names are in one folder, and neither is more right than the other.
    Ambiguous {
        /// The folder.
        folder: PathBuf,
        /// The names in it.
        names: Vec<&'static str>,
    },
    /// None of the names is in this folder or any folder above it.
    NotFound {
        /// Where the search started.
        start: PathBuf,
    },
}

impl FindError {
    /// What the user can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            FindError::Missing(_) | FindError::Unreadable { .. } => {
                "name the folder or the configuration file of the application"
            }
            FindError::Ambiguous { .. } => "name one of them, or remove the others",
            FindError::NotFound { .. } => {
                "make a watt.yaml there, or name the folder or file of the application"
            }
        }
    }
}

impl std::fmt::Display for FindError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            FindError::Missing(path) => write!(f, "{} does not exist", path.display()),
            FindError::Unreadable { path, .. } => write!(f, "cannot look at {}", path.display()),
            FindError::Ambiguous { folder, names } => {
                let names = names.join(", ");
                write!(f, "{} has more than one configuration file: {names}", folder.display())
            }
            FindError::NotFound { start } => {
                let names = FILE_NAMES.join(", ");
                write!(f, "no configuration file ({names}) in {} or a folder above it", start.display())
            }
        }
    }
}

impl std::error::Error for FindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            FindError::Unreadable { source, .. } => Some(source),
            FindError::Missing(_) | FindError::Ambiguous { .. } | FindError::NotFound { .. } => None,
        }
    }
}

/// Finds the configuration file for `start`: the file itself, or one of [`FILE_NAMES`] in that folder or the nearest
/// folder above it. A project of Platformatic's is found as well, by the names that it has for its files; where there is a file of watt's
/// own beside it, that one counts. A file of one application of Platformatic's counts where there is no project around it.
///
/// # Errors
/// See [`FindError`].
pub fn find(start: &Path) -> Result<PathBuf, FindError> {
    let unreadable = |path: &Path, source| FindError::Unreadable { path: path.to_path_buf(), source };
    let start = std::path::absolute(start).map_err(|error| unreadable(start, error))?;
    match std::fs::metadata(&start) {
        Ok(kind) if !kind.is_dir() => return Ok(start),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(FindError::Missing(start)),
        Err(error) => return Err(unreadable(&start, error)),
    }
    let mut application = None;
    for folder in start.ancestors() {
        let mut names = Vec::new();
        for name in FILE_NAMES {
            let path = folder.join(name);
            if path.try_exists().map_err(|error| unreadable(&path, error))? && kind(&path).is_none() {
                names.push(name);
            }
        }
        match names[..] {
            [] => {}
            [name] => return Ok(folder.join(name)),
            _ => return Err(FindError::Ambiguous { folder: folder.to_path_buf(), names }),
        }
        match platformatic::first_in(folder, Path::exists).map(|path| (kind(&path), path)) {
            Some((Some(FileKind::Root), path)) => return Ok(path),
            // One that does not say what it is for is refused with that, by its name.
            Some((Some(FileKind::Application(_)) | None, path)) => drop(application.get_or_insert(path)),
            None => {}
        }
    }
    application.ok_or(FindError::NotFound { start })
}

/// What a file is among Platformatic's, if it is one of them and can be read.
fn kind(path: &Path) -> Option<FileKind> {
    let text = String::from_utf8(read_capped(path, FILE_BYTES_MAX).ok()?).ok()?;
    platformatic::kind(path, &text)
}
