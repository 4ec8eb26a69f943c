//! User, groups and capabilities of this process (credentials(7), capabilities(7)).

use std::io;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// Changes to this user and group for good, without supplementary groups.
///
/// # Errors
/// EPERM without CAP_SETUID and CAP_SETGID, EINVAL for an id the user namespace does not map.
pub fn change_to(uid: u32, gid: u32) -> io::Result<()> {
    // Groups first: afterwards the right to change them has gone.
    setgroups(&[])?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setresgid(gid, gid, gid)?;
    Ok(setresuid(uid, uid, uid)?)
}

/// Takes every capability out of the bounding set, so that no program executed from here on can gain one, not even
/// by a file's capabilities or as root.
///
/// # Errors
/// EPERM without CAP_SETPCAP.
pub fn clear_bounding_set() -> io::Result<()> {
    for capability in 0..=63 {
        // SAFETY: PR_CAPBSET_DROP takes integers only.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if result == -1 {
            let error = io::Error::last_os_error();
            // The kernel's last capability was the one before.
            return if error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) };
        }
    }
    Ok(())
}

/// Gives up every capability this process has: permitted, effective, inheritable and ambient.
///
/// # Errors
/// None that the kernel documents for giving up.
pub fn clear_capabilities() -> io::Result<()> {
    // SAFETY: PR_CAP_AMBIENT_CLEAR_ALL takes integers only.
    let cleared = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    // EINVAL: a kernel before 4.3, which has no ambient set.
    if cleared == -1 && io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL) {
        return Err(io::Error::last_os_error());
    }
    let header = Header { version: VERSION_3, pid: 0 };
    let none = [Data::default(); 2];
    // SAFETY: capset(2) reads a header and, in version 3, two data structures; both outlive the call.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const none) };
    if set == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h.
const VERSION_3: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}
