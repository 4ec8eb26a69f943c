//! Signal dispositions and the signal mask, which execve(2) hands on as far as they are "ignored" and "blocked".

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

/// The last signal number of Linux (`_NSIG`, signal(7)).
const LAST: libc::c_int = 64;

/// The size of the kernel's signal mask in bytes, which it wants to be told.
const MASK_SIZE: usize = 8;

/// More bytes than the kernel's `struct sigaction` has on any architecture.
const DEFAULT: [u64; 8] = [0; 8];

/// Gives every signal its default disposition and unblocks all, as a new program expects. Rust's runtime ignores
/// SIGPIPE, and who started us may have ignored or blocked others (nohup(1)).
///
/// # Errors
/// None that the kernel documents.
pub fn reset() -> io::Result<()> {
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
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}
