//! Folders with files that routes lead to.
//!
//! The proxy is nobody in particular and may not get to them. So it gets a descriptor of the folder that has the root: from there it looks for the
//! root by its name, each time, so that one that is made anew, by a build for example, is seen at once. It reads what everybody may read there,
//! and nothing else of ours.

use std::{
    collections::BTreeSet,
    fs::OpenOptions,
    io,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::libc::{O_DIRECTORY, O_PATH};
use watt_api::mesh::RouteFiles;
use watt_core::plan::{Files, Plan};

use crate::beside;

/// How long the opening of one may take. A disk that hangs is not waited for longer: the proxy is told other things in the same line.
const OPEN_TIME_MAX: Duration = Duration::from_secs(1);

/// The folders that have the roots of a plan.
pub(crate) fn of_plan(plan: &Plan) -> BTreeSet<PathBuf> {
    plan.files().map(|files| parts(&files.root).0.to_path_buf()).collect()
}

/// The folder that has a root, and the root's name there.
fn parts(root: &Path) -> (&Path, String) {
    match (root.parent(), root.file_name()) {
        (Some(parent), Some(name)) => (parent, name.to_string_lossy().into_owned()),
        // That of everything, or one that is written with dots.
        _ => (root, String::new()),
    }
}

/// What the proxy calls a folder.
pub(crate) fn id(folder: &Path) -> String {
    folder.to_string_lossy().into_owned()
}

/// What the proxy has to know of the files of a route.
pub(crate) fn files(files: &Files) -> RouteFiles {
    let Files { root, index, spa, cache_control, precompressed, hidden } = files;
    let (folder, name) = parts(root);
    RouteFiles {
        root: root.to_string_lossy().into_owned(),
        folder: id(folder),
        name,
        index: index.clone(),
        spa: spa.clone(),
        cache_control: cache_control.clone(),
        precompressed: *precompressed,
        hidden: *hidden,
    }
}

/// A folder to look for something in, and for nothing else (O_PATH).
pub(crate) async fn open(folder: PathBuf) -> io::Result<OwnedFd> {
    let opening = beside::FOLDERS.run(move || {
        let options = OpenOptions::new().read(true).custom_flags(O_PATH | O_DIRECTORY).open(folder)?;
        Ok(OwnedFd::from(options))
    });
    match tokio::time::timeout(OPEN_TIME_MAX, opening).await {
        Ok(Some(opened)) => opened,
        Ok(None) => Err(io::Error::other("the thread for it panicked")),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_is_looked_for_by_its_name() {
        for (root, expected) in [
            ("/srv/shop/dist", ("/srv/shop", "dist")),
            ("/srv", ("/", "srv")),
            ("/", ("/", "")),
            ("/srv/..", ("/srv/..", "")),
        ] {
            let (folder, name) = parts(Path::new(root));
            assert_eq!((folder, &*name), (Path::new(expected.0), expected.1), "{root}");
        }
    }
}
