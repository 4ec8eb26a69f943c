//! What may be done with the files of a mount, changed mount by mount.

use std::{
    ffi::{CStr, CString, OsString},
    fs, io,
    os::{
        fd::{AsRawFd, BorrowedFd, RawFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statvfs::{FsFlags, statvfs},
};

/// Makes the mount at this path unchangeable. Other mounts below it stay as they are.
///
/// # Errors
/// EINVAL when nothing is mounted there.
pub fn make_read_only(target: &Path) -> io::Result<()> {
    change(target, Change::ReadOnly, 0)
}

/// What becomes of the files of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// They cannot be changed.
    ReadOnly,
    /// They cannot be executed.
    NoExec,
    /// They can be executed.
    Exec,
}

/// Changes the mount at this path, and every mount below it.
///
/// # Errors
/// EINVAL when nothing is mounted there; EPERM for [`Change::Exec`] in a user namespace whose mounts came from outside without it.
pub fn change_below(target: &Path, change: Change) -> io::Result<()> {
    self::change(target, change, libc::AT_RECURSIVE)
}

/// Changes a tree that is held, with every mount below it, wherever it is or will be.
///
/// # Errors
/// As for [`change_below`], and ENOSYS before Linux 5.12, where only what has a path can be changed.
pub(super) fn change_held(tree: BorrowedFd<'_>, change: Change) -> io::Result<()> {
    set_attributes(tree.as_raw_fd(), c"", change, libc::AT_EMPTY_PATH | libc::AT_RECURSIVE)
}

fn change(target: &Path, change: Change, flags: libc::c_int) -> io::Result<()> {
    let path = CString::new(target.as_os_str().as_bytes())?;
    match set_attributes(libc::AT_FDCWD, &path, change, flags) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) && flags == 0 => remount(target, change),
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => remount_below(target, change),
        result => result,
    }
}

/// mount_setattr(2), since Linux 5.12.
fn set_attributes(folder: RawFd, path: &CStr, change: Change, flags: libc::c_int) -> io::Result<()> {
    let (attr_set, attr_clr) = match change {
        Change::ReadOnly => (libc::MOUNT_ATTR_RDONLY, 0),
        Change::NoExec => (libc::MOUNT_ATTR_NOEXEC, 0),
        Change::Exec => (0, libc::MOUNT_ATTR_NOEXEC),
    };
    let attributes = libc::mount_attr { attr_set, attr_clr, propagation: 0, userns_fd: 0 };
    // SAFETY: mount_setattr(2) reads a path that ends with NUL and a structure of the size it is told; both outlive
    // the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            folder,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What older kernels have instead: each mount again, with the flags it has.
fn remount_below(target: &Path, change: Change) -> io::Result<()> {
    remount(target, change)?;
    // The list has no symbolic links in its names.
    let target = &fs::canonicalize(target)?;
    let mounts = fs::read("/proc/thread-self/mountinfo")?;
    for below in mount_points(&mounts).filter(|point| point.starts_with(target) && point != target) {
        match remount(&below, change) {
            // Covered by another one since, or in a folder that cannot be entered: out of reach for the program as well.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT | libc::EACCES)) => {}
            result => result?,
        }
    }
    Ok(())
}

fn remount(target: &Path, change: Change) -> io::Result<()> {
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    let present = statvfs(target)?.flags();
    // Those that a user namespace may not take away have to be given again.
    for (has, wanted) in [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
    ] {
        flags.set(wanted, present.contains(has));
    }
    match change {
        Change::ReadOnly => flags.insert(MsFlags::MS_RDONLY),
        Change::NoExec => flags.insert(MsFlags::MS_NOEXEC),
        Change::Exec => flags.remove(MsFlags::MS_NOEXEC),
    }
    Ok(mount(None::<&str>, target, None::<&str>, flags, None::<&str>)?)
}

/// Field 5 of each line of proc_pid_mountinfo(5).
fn mount_points(mountinfo: &[u8]) -> impl Iterator<Item = PathBuf> {
    let point = |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).map(unescape);
    mountinfo.split(|byte| *byte == b'\n').filter_map(point)
}

/// Space, tab, newline and backslash are written as `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let escaped = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escaped.filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::{
        sched::{CloneFlags, unshare},
        unistd::geteuid,
    };

    use super::*;

    #[test]
    fn mount_points_are_read_with_their_spaces() {
        let text = b"22 27 0:21 / /proc rw - proc proc rw\n23 27 0:22 / /a\\040b\\134 rw - x y rw\nshort\n";
        let points: Vec<PathBuf> = mount_points(text).collect();
        assert_eq!(points, [Path::new("/proc"), Path::new("/a b\\")]);
    }

    /// Makes two file systems, one in the other, with mounts that end with the thread, and tells of both what is asked. The way gets
    /// a path with a symbolic link.
    fn in_two<T: Send + 'static>(
        way: impl Fn(&Path) + Send + 'static,
        ask: impl Fn(&Path) -> T + Send + 'static,
    ) -> [T; 2] {
        let folder = tempfile::tempdir().unwrap();
        let (outer, inner) = (folder.path().to_owned(), folder.path().join("in ner"));
        let asked = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
            super::super::detach().unwrap();
            let tmpfs = |at: &Path| super::super::filesystem("tmpfs", at, "", Default::default()).unwrap();
            tmpfs(&outer);
            fs::create_dir(&inner).unwrap();
            tmpfs(&inner);
            symlink(&outer, outer.join("link")).unwrap();
            way(&outer.join("link"));
            [ask(&outer), ask(&inner)]
        });
        asked.join().unwrap()
    }

    #[test]
    fn old_and_new_kernels_make_the_same_mounts_read_only() {
        if !geteuid().is_root() {
            return println!("needs a mount namespace");
        }
        type Way = fn(&Path) -> io::Result<()>;
        let ways: [(Way, bool); 4] = [
            (make_read_only, false),
            (|path| change_below(path, Change::ReadOnly), true),
            (|path| remount(path, Change::ReadOnly), false),
            (|path| remount_below(path, Change::ReadOnly), true),
        ];
        for (way, below) in ways {
            let writable = |path: &Path| fs::write(path.join("x"), "").is_ok();
            assert_eq!(in_two(move |path| way(path).unwrap(), writable), [false, !below]);
        }
    }

    #[test]
    fn old_and_new_kernels_take_and_give_the_same_right_to_execute() {
        if !geteuid().is_root() {
            return println!("needs a mount namespace");
        }
        type Way = fn(&Path) -> io::Result<()>;
        let ways: [[Way; 2]; 2] = [
            [|path| change_below(path, Change::NoExec), |path| change_below(path, Change::Exec)],
            [|path| remount_below(path, Change::NoExec), |path| remount_below(path, Change::Exec)],
        ];
        for [forbid, allow] in ways {
            let flags = |path: &Path| {
                let flags = statvfs(path).unwrap().flags();
                (flags.contains(FsFlags::ST_NOEXEC), flags.contains(FsFlags::ST_RDONLY))
            };
            let forbidden = move |path: &Path| {
                change_below(path, Change::ReadOnly).unwrap();
                forbid(path).unwrap();
            };
            assert_eq!(in_two(forbidden, flags), [(true, true); 2]);
            let allowed_again = move |path: &Path| {
                forbidden(path);
                allow(path).unwrap();
            };
            assert_eq!(in_two(allowed_again, flags), [(false, true); 2]);
        }
    }
}
