//! Removing a folder whose content somebody hostile made.

use std::{
    collections::VecDeque,
    ffi::{CStr, CString},
    fs, io,
    os::fd::OwnedFd,
    path::Path,
};

use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{OFlag, open, openat, renameat},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, unlinkat},
};

/// Removes a folder with everything in it, as [`fs::remove_dir_all`] does: no link is followed. That one descends, with a stack frame
/// and a descriptor for each level, and a process can nest folders deeper than either lasts. Here a folder in a folder is
/// moved up first, so two descriptors are enough.
///
/// # Errors
/// What the kernel says of the first thing that cannot be removed; what was in its way has gone by then.
pub fn tree(folder: &Path) -> io::Result<()> {
    let top = open(folder, FOLDER, Mode::empty())?;
    let mut names = Names::default();
    let mut left: VecDeque<CString> = entries(&top)?.into();
    while let Some(name) = left.pop_front() {
        match unlinkat(&top, &*name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => continue,
            Err(Errno::EISDIR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let below = openat(&top, &*name, FOLDER, Mode::empty())?;
        for entry in entries(&below)? {
            match unlinkat(&below, &*entry, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(Errno::EISDIR) => left.push_back(names.move_up(&below, &entry, &top)?),
                Err(errno) => return Err(errno.into()),
            }
        }
        unlinkat(&top, &*name, UnlinkatFlags::RemoveDir)?;
    }
    fs::remove_dir(folder)
}

/// `O_NOFOLLOW`: what was a folder a moment ago may be a link by now.
const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

fn entries(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut folder = Dir::openat(folder, ".", FOLDER, Mode::empty())?;
    let names = folder.iter().map(|entry| Ok(entry?.file_name().to_owned()));
    let is_entry = |name: &CString| ![c".", c".."].contains(&name.as_c_str());
    names.filter(|name| name.as_ref().map_or(true, is_entry)).collect()
}

/// Names in the uppermost folder.
#[derive(Default)]
struct Names(u64);

impl Names {
    fn move_up(&mut self, from: &OwnedFd, entry: &CStr, top: &OwnedFd) -> io::Result<CString> {
        loop {
            self.0 += 1;
            let name = CString::new(format!(".{}", self.0)).expect("digits have no NUL");
            match renameat(from, entry, top, &*name) {
                Ok(()) => return Ok(name),
                // Taken, by one of the finite number of entries that were there before.
                Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::{sys::stat::mkdirat, unistd::mkdir};

    use super::*;

    #[test]
    fn a_folder_goes_with_everything_in_it_and_nothing_else() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("stays"), "").unwrap();
        let top = outside.path().join("top");
        fs::create_dir_all(top.join("a/b/c")).unwrap();
        fs::create_dir_all(top.join(".1/full")).unwrap();
        fs::write(top.join("a/b/file"), "").unwrap();
        fs::write(top.join(".2"), "").unwrap();
        symlink(outside.path(), top.join("a/link")).unwrap();
        tree(&top).unwrap();
        let left: Vec<_> =
            fs::read_dir(outside.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["stays"]);
        assert_eq!(tree(&top).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    /// Deeper than a path can say, a thread of the tests has stack for, or a process has descriptors.
    #[test]
    fn depth_is_no_way_to_stop_it() {
        let outside = tempfile::tempdir().unwrap();
        let top = outside.path().join("top");
        mkdir(&top, Mode::S_IRWXU).unwrap();
        let mut deepest = open(&top, FOLDER, Mode::empty()).unwrap();
        for _ in 0..30_000 {
            mkdirat(&deepest, c"x", Mode::S_IRWXU).unwrap();
            deepest = openat(&deepest, c"x", FOLDER, Mode::empty()).unwrap();
        }
        tree(&top).unwrap();
        assert!(!top.exists());
    }
}
