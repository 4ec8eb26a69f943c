//! Reaping.

use std::{
    ffi::c_int,
    fs, io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::wait::{Id, WaitPidFlag, waitid, waitpid},
    unistd::Pid,
};

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

/// Takes the status of this child, if it has ended (waitid(2)). Does not wait. The process is held by its pidfd, so that it is that
/// one or none.
///
/// # Errors
/// ECHILD when it is no child of this process, or not any more.
pub fn reap_one(pidfd: impl AsFd) -> io::Result<Option<Reaped>> {
    /// `P_PIDFD` of waitid(2).
    const PIDFD: c_int = 3;
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // Not the C library's waitid: it has no place for the usage.
        // SAFETY: both results are live and of the type that the kernel writes; the rest are integers.
        let result = unsafe {
            libc::syscall(
                libc::SYS_waitid,
                PIDFD,
                pidfd.as_fd().as_raw_fd(),
                info.as_mut_ptr(),
                libc::WEXITED | libc::WNOHANG,
                usage.as_mut_ptr(),
            )
        };
        match result {
            0 => break,
            _ if Errno::last() == Errno::EINTR => {}
            _ => return Err(io::Error::last_os_error()),
        }
    }
    // SAFETY: all zero is a siginfo, and the kernel has written over it.
    let info = unsafe { info.assume_init() };
    // SAFETY: all zero is a usage, and the kernel has written over it.
    let usage = unsafe { usage.assume_init() };
    // SAFETY: these bytes of the structure are the pid of a child, or zero where there is none.
    let pid = unsafe { info.si_pid() };
    // SAFETY: the same of its status.
    let status = unsafe { info.si_status() };
    let Some(pid) = u32::try_from(pid).ok().filter(|pid| *pid != 0) else { return Ok(None) };
    Ok(Some(Reaped {
        pid,
        code: status,
        signaled: info.si_code != libc::CLD_EXITED,
        core_dumped: info.si_code == libc::CLD_DUMPED,
        cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
        rss_max: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
    }))
}

/// Whether the process with this number is a child of this one, which has not been reaped.
pub fn is_child(pid: u32) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    i32::try_from(pid).is_ok_and(|pid| waitid(Id::Pid(Pid::from_raw(pid)), flags).is_ok())
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
