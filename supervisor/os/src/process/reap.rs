//! Reaping.

use std::{ffi::c_int, fs, io, mem::MaybeUninit, time::Duration};

use nix::{errno::Errno, sys::wait::waitpid, unistd::Pid};

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reaped {
    /// Which.
    pub pid: u32,
    /// Its exit status, or the number of the signal that ended it.
    pub code: i32,
    /// Whether a signal ended it.
    pub signaled: bool,
    /// Whether a core was dumped.
    pub core_dumped: bool,
    /// CPU time of it and of the children it waited for.
    pub cpu: Duration,
    /// Its peak resident memory in bytes. Never less than what its parent had when it was cloned:
    /// getrusage(2) counts the memory that was shared until the program was executed.
    pub rss_max: u64,
}

/// What [`reap`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reap {
    /// A child had ended and is gone now.
    Child(Reaped),
    /// All children are alive.
    NoneEnded,
    /// There are no children.
    NoChildren,
}

/// Takes the status of any one child that has ended (wait4(2)). Does not wait. A process has one reaper or
/// statuses get lost, so this is for the spawner only.
pub fn reap() -> Reap {
    let mut status: c_int = 0;
    let mut usage = MaybeUninit::uninit();
    loop {
        // SAFETY: both results are live and of the type that the kernel writes.
        let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG, usage.as_mut_ptr()) };
        match u32::try_from(pid) {
            Ok(0) => return Reap::NoneEnded,
            Ok(pid) => {
                // SAFETY: wait4 returned a process, so it has written the usage.
                let usage = unsafe { usage.assume_init() };
                return Reap::Child(reaped(pid, status, &usage));
            }
            Err(_) if Errno::last() == Errno::EINTR => {}
            Err(_) => return Reap::NoChildren,
        }
    }
}

fn reaped(pid: u32, status: c_int, usage: &libc::rusage) -> Reaped {
    let signaled = libc::WIFSIGNALED(status);
    Reaped {
        pid,
        code: if signaled { libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) },
        signaled,
        core_dumped: signaled && libc::WCOREDUMP(status),
        cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
        // The kernel counts in KiB.
        rss_max: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    }
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_micros(u64::try_from(time.tv_sec * 1_000_000 + time.tv_usec).unwrap_or(0))
}

/// Waits for a child that is ending, and drops its status.
pub(super) fn forget(pid: u32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    while waitpid(Pid::from_raw(pid), None) == Err(Errno::EINTR) {}
}

/// Makes this process the parent of all orphans below it (PR_SET_CHILD_SUBREAPER of prctl(2)).
///
/// # Errors
/// On kernels before 3.4.
pub fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// The process's present children, adopted orphans included. Empty on kernels without CONFIG_PROC_CHILDREN.
pub fn children() -> Vec<u32> {
    // A thread's file lists what that thread cloned; the spawner, for which this is, has one.
    let list = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
