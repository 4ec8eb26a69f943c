//! A second process out of this one, for a program with one thread.

use std::{fs, io};

use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
};

/// Which of the two this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// The new one.
    Child,
    /// The one that was there, with the number of the new one.
    Parent(u32),
}

/// Makes a copy of this process (fork(2)), as a process with one thread may without further ado: nothing of it can be in the
/// middle of anything.
///
/// # Errors
/// EINVAL in a process with several threads; EAGAIN at a limit of processes.
pub fn fork() -> io::Result<Forked> {
    // Without effect in a process with one thread, and refused in others (unshare(2)).
    match unshare(CloneFlags::CLONE_THREAD) {
        // In most containers it is refused to everybody.
        Err(Errno::EPERM | Errno::ENOSYS) if has_one_thread() => {}
        tried => tried?,
    }
    // SAFETY: the call, or the kernel's count, shows that this is the only thread: no other could have made one since. So no lock is held by a thread that the child does not have,
    // and the child may do all that this process may.
    let pid = unsafe { libc::fork() };
    match u32::try_from(pid) {
        Ok(0) => Ok(Forked::Child),
        Ok(pid) => Ok(Forked::Parent(pid)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Whether the kernel counts one thread in this process (proc_pid_status(5)).
fn has_one_thread() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line == "Threads:\t1")
}
