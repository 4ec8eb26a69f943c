//! The session keyring: where keys lie that the processes of a session share (session-keyring(7)).

use std::io;

/// `KEYCTL_JOIN_SESSION_KEYRING` of linux/keyctl.h.
const JOIN_SESSION_KEYRING: libc::c_int = 1;

/// Has a new, empty session keyring without a name. It is not linked to the user's, as that of a login is.
///
/// # Errors
/// ENOSYS on kernels without keys, EDQUOT when the user has too many, EPERM where a container forbids it.
pub fn join_new() -> io::Result<()> {
    // SAFETY: keyctl(2) accepts a null name for a keyring without one; the rest are integers.
    let joined = unsafe {
        libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<libc::c_char>(), 0, 0, 0)
    };
    if joined == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
