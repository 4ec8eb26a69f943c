//! Signal dispositions and the signal mask, which execve(2) hands on as far as they are "ignored" and "blocked"; and waiting
//! for signals that are blocked.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

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

/// All signals as something to wait for beside other things (signalfd(2)). They have to be blocked.
#[derive(Debug)]
pub struct Incoming(OwnedFd);

impl Incoming {
    /// # Errors
    /// EMFILE.
    pub fn new() -> io::Result<Incoming> {
        let all = u64::MAX.to_ne_bytes();
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // Not the C library's signalfd: its sets leave out the signals it keeps for itself.
        // SAFETY: signalfd4(2) reads a mask of the size it is told.
        let fd = unsafe { libc::syscall(libc::SYS_signalfd4, -1, all.as_ptr(), MASK_SIZE, flags) };
        let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the call above made this descriptor and nobody else knows it.
        Ok(Incoming(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next one, which counts as handled. `None`: none has come.
    ///
    /// # Errors
    /// What read(2) says.
    pub fn next(&self) -> io::Result<Option<Received>> {
        let mut info = MaybeUninit::<libc::signalfd_siginfo>::zeroed();
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: read(2) writes at most the bytes of one such structure, which is live.
        let length = unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), size) };
        if length < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        // SAFETY: all zero is a value of the structure, and the kernel writes it as a whole.
        let info = unsafe { info.assume_init() };
        // Other codes are not of kill(2) and its like, and have something else in this place.
        let is_sent = matches!(info.ssi_code, libc::SI_USER | libc::SI_QUEUE | libc::SI_TKILL);
        Ok(Some(Received {
            signal: i32::try_from(info.ssi_signo).map_err(io::Error::other)?,
            sender: if is_sent { i32::try_from(info.ssi_pid).unwrap_or(0) } else { 0 },
        }))
    }
}

impl AsFd for Incoming {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
