//! Signal dispositions and the signal mask, which execve(2) hands on as far as they are "ignored" and "blocked"; and waiting
//! for signals that are blocked.

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

/// The last signal number of Linux (`_NSIG`, signal(7)).
const LAST: libc::c_int = 64;

/// The size of the kernel's signal mask in bytes, which it wants to be told.
const MASK_SIZE: usize = 8;

/// More bytes than the kernel's `struct sigaction` has on any architecture.
const DEFAULT: [u64; 8] = [0; 8];

/// Gives every signal its default disposition and unblocks all, as a new program expects.
///
/// # Errors
/// None that the kernel documents.
pub fn reset() -> io::Result<()> {
    restore_defaults();
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}

/// Gives every signal its default disposition. Rust's runtime ignores SIGPIPE, and who started us may have ignored others
/// (nohup(1)).
pub fn restore_defaults() {
    for signal in 1..=LAST {
        // Not the C library's sigaction: it refuses the two signals it keeps for itself, which may be ignored as well.
        // SAFETY: rt_sigaction(2) reads one sigaction, all zero here (SIG_DFL, no flags, an empty mask), and installs
        // no handler. KILL and STOP are refused, which leaves them as they should be.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                DEFAULT.as_ptr(),
                std::ptr::null_mut::<libc::c_void>(),
                MASK_SIZE,
            )
        };
    }
}

/// Sends a signal, by its number, to the process that has this one now.
///
/// # Errors
/// ESRCH when there is none, EPERM when it may not be signalled, EINVAL for a number that is no signal.
pub fn send(pid: u32, signal: i32) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: kill(2) takes two integers.
    if unsafe { libc::kill(pid, signal) } == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Its number (signal(7)).
    pub signal: i32,
    /// Who sent it; 0 for the kernel, and for a process that this PID namespace does not know.
    pub sender: i32,
}

/// Waits for any signal, all of which have to be blocked. It counts as handled.
///
/// # Errors
/// EINTR when a blocked process was stopped and continued.
pub fn wait() -> io::Result<Received> {
    let all = u64::MAX.to_ne_bytes();
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    // Not the C library's sigwaitinfo: it leaves out the signals it keeps for itself.
    // SAFETY: rt_sigtimedwait(2) reads a mask of the size it is told and writes one siginfo; a null time waits for ever.
    let signal = unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            all.as_ptr(),
            info.as_mut_ptr(),
            std::ptr::null::<libc::timespec>(),
            MASK_SIZE,
        )
    };
    let signal =
        i32::try_from(signal).ok().filter(|signal| *signal > 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: all zero is a siginfo, and the call has written over it.
    let info = unsafe { info.assume_init() };
    // SAFETY: whatever the kind of signal, these bytes of the structure were written.
    let sender = unsafe { info.si_pid() };
    // Other codes are not of kill(2) and its like, and have something else in this place.
    let sender =
        if matches!(info.si_code, libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL) { sender } else { 0 };
    Ok(Received { signal, sender })
}
