//! Landlock domains (landlock(7)): access rights that a process gives up for good.
//!
//! Not by the crate of this name: it brings a second version of what all derives are built with, into the exec stage as well,
//! for three system calls; and it does not tell the kernel's ABI, which the probe is asked for.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    path::Path,
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::{Mode, SFlag, fstat},
};

/// What can be done with files (`LANDLOCK_ACCESS_FS_*` of linux/landlock.h).
pub mod file {
    #![expect(missing_docs, reason = "landlock(7) has them by these names")]
    pub const EXECUTE: u64 = 1;
    pub const WRITE_FILE: u64 = 1 << 1;
    pub const READ_FILE: u64 = 1 << 2;
    pub const READ_DIR: u64 = 1 << 3;
    pub const REMOVE_DIR: u64 = 1 << 4;
    pub const REMOVE_FILE: u64 = 1 << 5;
    pub const MAKE_CHAR: u64 = 1 << 6;
    pub const MAKE_DIR: u64 = 1 << 7;
    pub const MAKE_REG: u64 = 1 << 8;
    pub const MAKE_SOCK: u64 = 1 << 9;
    pub const MAKE_FIFO: u64 = 1 << 10;
    pub const MAKE_BLOCK: u64 = 1 << 11;
    pub const MAKE_SYM: u64 = 1 << 12;
    pub const REFER: u64 = 1 << 13;
    pub const TRUNCATE: u64 = 1 << 14;
    pub const IOCTL_DEV: u64 = 1 << 15;

    /// Those that a file can have which is no folder. The kernel refuses rules with others for one.
    pub(super) const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;
}

/// What can be kept inside (`LANDLOCK_SCOPE_*` of linux/landlock.h).
pub mod scope {
    #![expect(missing_docs, reason = "landlock(7) has them by these names")]
    pub const ABSTRACT_UNIX_SOCKET: u64 = 1;
    pub const SIGNAL: u64 = 1 << 1;
}

/// The version of the kernel's ABI, at least 1.
///
/// # Errors
/// ENOSYS on kernels before 5.13 or without Landlock, EOPNOTSUPP where it was switched off at boot.
pub fn abi() -> io::Result<u32> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with the flag for the version, landlock_create_ruleset(2) takes a null pointer and a size of 0.
    let abi = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0usize, VERSION)
    };
    u32::try_from(abi).map_err(|_| io::Error::last_os_error())
}

/// The rights to files that an ABI knows.
pub fn known_files(abi: u32) -> u64 {
    let first_unknown = match abi {
        0 => file::EXECUTE,
        1 => file::REFER,
        2 => file::TRUNCATE,
        3 | 4 => file::IOCTL_DEV,
        5.. => file::IOCTL_DEV << 1,
    };
    first_unknown - 1
}

/// The scopes that an ABI knows.
pub fn known_scopes(abi: u32) -> u64 {
    if abi >= 6 { scope::ABSTRACT_UNIX_SOCKET | scope::SIGNAL } else { 0 }
}

/// A domain that was not entered yet.
#[derive(Debug)]
pub struct Domain {
    ruleset: OwnedFd,
    files: u64,
}

/// `struct landlock_ruleset_attr`
#[repr(C)]
struct Attributes {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

/// `struct landlock_path_beneath_attr`
#[repr(C, packed)]
struct PathBeneath {
    allowed_access: u64,
    parent_fd: i32,
}

impl Domain {
    /// A domain in which none of these rights to files is had anywhere, and which keeps these scopes inside. Both have to
    /// be known to the kernel's ABI, and one of them has to be something.
    ///
    /// # Errors
    /// EINVAL for what the kernel does not know, ENOMSG for nothing at all.
    pub fn new(files: u64, scopes: u64) -> io::Result<Domain> {
        let attributes = Attributes { handled_access_fs: files, handled_access_net: 0, scoped: scopes };
        // SAFETY: landlock_create_ruleset(2) reads as many bytes as it is told, which is the structure's size. Older
        // kernels know less of it, and accept zeros for the rest.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_landlock_create_ruleset,
                &raw const attributes,
                size_of::<Attributes>(),
                0,
            )
        };
        let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the call above made this descriptor (close-on-exec) and nobody else knows it.
        let ruleset = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Domain { ruleset, files })
    }

    /// Gives rights back for a file, or for a folder and all below it: those that were taken, and that make sense for it.
    ///
    /// # Errors
    /// ENOENT when it is missing.
    pub fn allow(&self, path: &Path, files: u64) -> io::Result<()> {
        const PATH_BENEATH: libc::c_int = 1;
        let place = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let kind = SFlag::from_bits_truncate(fstat(&place)?.st_mode) & SFlag::S_IFMT;
        let sensible = if kind == SFlag::S_IFDIR { self.files } else { self.files & file::OF_FILES };
        let allowed = files & sensible;
        if allowed == 0 {
            return Ok(());
        }
        let rule = PathBeneath { allowed_access: allowed, parent_fd: place.as_raw_fd() };
        // SAFETY: landlock_add_rule(2) reads one structure of the kind it is told; both descriptors are open.
        let added = unsafe {
            libc::syscall(
                libc::SYS_landlock_add_rule,
                self.ruleset.as_raw_fd(),
                PATH_BENEATH,
                &raw const rule,
                0,
            )
        };
        if added == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Puts this thread, and all it becomes and starts, into the domain.
    ///
    /// # Errors
    /// EPERM without no_new_privs and without CAP_SYS_ADMIN; E2BIG beyond 16 domains in each other.
    pub fn enter(self) -> io::Result<()> {
        // SAFETY: landlock_restrict_self(2) takes a descriptor and flags.
        let entered = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.ruleset.as_raw_fd(), 0) };
        if entered == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_abi_knows_what_the_manual_says() {
        let newest = |abi: u32| 63 - known_files(abi).leading_zeros();
        // landlock(7), "Landlock ABI versions": the highest right of each.
        assert_eq!([1, 2, 3, 4, 5, 6, 99].map(newest), [12, 13, 14, 14, 15, 15, 15]);
        assert_eq!(known_files(0), 0);
        assert_eq!([5, 6, 7].map(known_scopes), [0, 3, 3]);
    }
}
