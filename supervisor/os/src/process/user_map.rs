//! The child's part of being born in a user namespace: mapping its ids, and keeping its capabilities over execve(2).
//!
//! An ordinary user may map its own ids alone, and only from inside (user_namespaces(7)). What is written is prepared in the
//! parent; the child only makes system calls, as everything between clone and execve.

use std::{
    ffi::{CStr, c_int},
    ptr,
};

use nix::{
    errno::Errno,
    unistd::{getegid, geteuid},
};

use crate::credentials::{Data, Header, VERSION_3};

/// The ids to map to themselves.
pub(super) struct UserMap {
    uid: Vec<u8>,
    gid: Vec<u8>,
}

impl UserMap {
    /// Those of the calling process.
    pub(super) fn of_caller() -> Self {
        let line = |id: u32| format!("{id} {id} 1").into_bytes();
        Self { uid: line(geteuid().as_raw()), gid: line(getegid().as_raw()) }
    }

    /// Maps them for the calling process. Allocates nothing.
    pub(super) fn apply(&self) -> Result<(), Errno> {
        // Without this a group map cannot be written.
        write(c"/proc/self/setgroups", b"deny")?;
        write(c"/proc/self/uid_map", &self.uid)?;
        write(c"/proc/self/gid_map", &self.gid)?;
        keep_capabilities()
    }
}

fn write(path: &CStr, bytes: &[u8]) -> Result<(), Errno> {
    // SAFETY: open reads a string that ends with NUL and makes a new descriptor.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    if file < 0 {
        return Err(Errno::last());
    }
    // SAFETY: write reads as many bytes as there are.
    let written = unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) };
    let result = if written < 0 { Err(Errno::last()) } else { Ok(()) };
    // SAFETY: the descriptor is ours and not used afterwards.
    unsafe { libc::close(file) };
    result
}

/// The first process of a user namespace has all capabilities, and a program it executes has none unless its user is root there.
fn keep_capabilities() -> Result<(), Errno> {
    let header = Header { version: VERSION_3, pid: 0 };
    // Bits that are no capability are passed over by the kernel.
    let all = [Data { effective: u32::MAX, permitted: u32::MAX, inheritable: u32::MAX }; 2];
    // SAFETY: capset(2) reads a header and, in version 3, two data structures; both outlive the call.
    if unsafe { libc::syscall(libc::SYS_capset, ptr::from_ref(&header), ptr::from_ref(&all)) } == -1 {
        return Err(Errno::last());
    }
    let mut capability: c_int = 0;
    // Ends with EINVAL behind the kernel's last capability.
    // SAFETY: PR_CAP_AMBIENT_RAISE takes integers only.
    while unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) } == 0 {
        capability += 1;
    }
    if Errno::last() == Errno::EINVAL { Ok(()) } else { Err(Errno::last()) }
}
