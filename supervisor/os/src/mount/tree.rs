//! A part of the file system held by a descriptor, to be shown in another place, or in its old one after it was covered.

use std::{
    ffi::{CStr, CString},
    io,
    os::{
        fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::sys::stat::{SFlag, fstat};

use super::attributes::{self, Change};

/// A file or folder, with everything mounted below it.
#[derive(Debug)]
pub struct Tree(OwnedFd);

impl Tree {
    /// Takes hold of a path as it is now (open_tree(2), since Linux 5.2). A symbolic link is followed.
    ///
    /// # Errors
    /// ENOENT when it does not exist, EPERM without the right to mount.
    pub fn of(path: &Path) -> io::Result<Tree> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        open_tree(libc::AT_FDCWD, &path, 0)
    }

    /// Takes hold once more of what was attached.
    ///
    /// # Errors
    /// EINVAL when it was not.
    pub fn again(&self) -> io::Result<Tree> {
        open_tree(self.0.as_raw_fd(), c"", libc::AT_EMPTY_PATH)
    }

    /// Whether it is a folder.
    ///
    /// # Errors
    /// When its status cannot be read.
    pub fn is_folder(&self) -> io::Result<bool> {
        let mode = SFlag::from_bits_truncate(fstat(&self.0)?.st_mode);
        Ok(mode & SFlag::S_IFMT == SFlag::S_IFDIR)
    }

    /// Shows it in place of `target` (move_mount(2)), which exists and is a folder if it is one. A symbolic link is followed.
    ///
    /// # Errors
    /// ENOENT for a missing target, EINVAL when only one is a folder.
    pub fn attach(&self, target: &Path) -> io::Result<()> {
        let target = CString::new(target.as_os_str().as_bytes())?;
        // SAFETY: move_mount(2) reads two strings, which end with NUL and outlive the call; the descriptor is ours.
        let moved = unsafe {
            libc::syscall(
                libc::SYS_move_mount,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                libc::AT_FDCWD,
                target.as_ptr(),
                libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_SYMLINKS,
            )
        };
        if moved == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Shows it in place of `target`, with all its mounts changed. They are changed first: afterwards `target` may be the path of
    /// another place, when somebody moves a folder or a link on the way. Kernels before 5.12 can change only what has a path.
    ///
    /// # Errors
    /// As for [`Tree::attach`] and [`super::change_below`].
    pub fn attach_changed(&self, target: &Path, change: Change) -> io::Result<()> {
        match attributes::change_held(self.0.as_fd(), change) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                self.attach(target)?;
                attributes::change_below(target, change)
            }
            result => result.and_then(|()| self.attach(target)),
        }
    }
}

fn open_tree(folder: RawFd, path: &CStr, flags: libc::c_int) -> io::Result<Tree> {
    let flags =
        libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | (libc::AT_RECURSIVE | flags) as libc::c_uint;
    // SAFETY: open_tree(2) reads the path, which ends with NUL and outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, folder, path.as_ptr(), flags) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the call above made this descriptor and nobody else knows it.
    Ok(Tree(unsafe { OwnedFd::from_raw_fd(fd) }))
}
