//! Signal dispositions and the signal mask, which execve(2) hands on as far as they are "ignored" and "blocked".

use std::{io, mem};

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

/// The last signal number of Linux (`_NSIG`, signal(7)).
const LAST: libc::c_int = 64;

/// Gives every signal its default disposition and unblocks all, as a new program expects. Rust's runtime ignores
/// SIGPIPE, and who started us may have ignored or blocked others (nohup(1)).
///
/// # Errors
/// None that the kernel documents.
pub fn reset() -> io::Result<()> {
    for signal in 1..=LAST {
        // SAFETY: an all-zero sigaction is SIG_DFL with no flags and an empty mask.
        let default: libc::sigaction = unsafe { mem::zeroed() };
        // SAFETY: reads one sigaction, which outlives the call, and installs no handler. KILL, STOP and the C library's own
        // signals are refused, which leaves them as they should be.
        unsafe { libc::sigaction(signal, &raw const default, std::ptr::null_mut()) };
    }
    Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?)
}
