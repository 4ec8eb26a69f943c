//! User, groups and capabilities of this process (credentials(7), capabilities(7)).

use std::io;

use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

/// Changes to this user and group for good, with exactly these supplementary groups. The capabilities go unless the user is
/// root, or [`keep_capabilities`] was asked for.
///
/// # Errors
/// EPERM without CAP_SETUID and CAP_SETGID, EINVAL for an id the user namespace does not map.
pub fn change_to(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // Groups first: afterwards the right to change them has gone.
    setgroups(&groups.iter().copied().map(Gid::from_raw).collect::<Vec<_>>())?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setresgid(gid, gid, gid)?;
    Ok(setresuid(uid, uid, uid)?)
}

/// Has the permitted capabilities outlive the next change of user, until execve(2).
///
/// # Errors
/// EPERM when the process's secure bits forbid it.
pub fn keep_capabilities() -> io::Result<()> {
    Ok(nix::sys::prctl::set_keepcaps(true)?)
}

/// Takes every capability but these out of the bounding set, so that no program executed from here on can gain another one, not
/// even by a file's capabilities or as root. Those that are not in it are not added.
///
/// # Errors
/// EPERM without CAP_SETPCAP.
pub fn limit_bounding_set(keep: u64) -> io::Result<()> {
    for capability in (0..64).filter(|capability| keep & (1 << capability) == 0) {
        // SAFETY: PR_CAPBSET_DROP takes integers only.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if result == -1 {
            let error = io::Error::last_os_error();
            // Beyond the kernel's last capability.
            return if error.raw_os_error() == Some(libc::EINVAL) { Ok(()) } else { Err(error) };
        }
    }
    Ok(())
}

/// The capabilities that may be used now: the permitted set.
///
/// # Errors
/// None that the kernel documents.
pub fn permitted() -> io::Result<u64> {
    let header = Header { version: VERSION_3, pid: 0 };
    let mut sets = [Data::default(); 2];
    // SAFETY: capget(2) reads a header and, in version 3, writes two data structures; both outlive the call.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw const header, &raw mut sets) };
    if got == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::from(sets[0].permitted) | u64::from(sets[1].permitted) << 32)
}

/// Has these capabilities permitted and effective, those inheritable, and none ambient. Sets can be made smaller.
///
/// # Errors
/// EPERM for a capability that is not permitted.
pub fn set_capabilities(permitted: u64, inheritable: u64) -> io::Result<()> {
    clear_ambient()?;
    let header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| {
        let (permitted, inheritable) = ((permitted >> shift) as u32, (inheritable >> shift) as u32);
        Data { effective: permitted, permitted, inheritable }
    };
    let sets = [half(0), half(32)];
    // SAFETY: capset(2) reads a header and, in version 3, two data structures; both outlive the call.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, &raw const sets) };
    if set == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn clear_ambient() -> io::Result<()> {
    // SAFETY: PR_CAP_AMBIENT_CLEAR_ALL takes integers only.
    let cleared = unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) };
    // EINVAL: a kernel before 4.3, which has no ambient set.
    if cleared == -1 && io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL) {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Hands these capabilities on to programs of users that are not root. They have to be permitted and inheritable.
///
/// # Errors
/// EPERM when one is not, EINVAL for a number that is no capability.
pub fn raise_ambient(capabilities: u64) -> io::Result<()> {
    for capability in (0..64).filter(|capability| capabilities & (1 << capability) != 0) {
        // SAFETY: PR_CAP_AMBIENT_RAISE takes integers only.
        let raised =
            unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0) };
        if raised == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h.
pub(crate) const VERSION_3: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct`
#[repr(C)]
pub(crate) struct Header {
    pub(crate) version: u32,
    pub(crate) pid: i32,
}

/// `struct __user_cap_data_struct`
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct Data {
    pub(crate) effective: u32,
    pub(crate) permitted: u32,
    pub(crate) inheritable: u32,
}
