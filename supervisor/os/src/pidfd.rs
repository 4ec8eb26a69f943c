//! References to processes that cannot come to mean another process (pidfd_open(2)).

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

/// Refers to the process that has this number now.
///
/// # Errors
/// ESRCH when there is none.
pub fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(|_| io::Error::from_raw_os_error(libc::ESRCH))?;
    // SAFETY: pidfd_open(2) takes two integers and touches no memory of ours.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = check(fd)?;
    // SAFETY: the call above made this descriptor (close-on-exec) and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Sends a signal of signal(7); 0 only asks whether the process is there.
///
/// # Errors
/// ESRCH when it has been reaped, EPERM when it may not be signalled.
pub fn send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    let fd = pidfd.as_fd().as_raw_fd();
    // SAFETY: pidfd_send_signal(2) accepts a null siginfo, as kill(2) would fill it in; the rest are integers.
    let sent = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<libc::siginfo_t>(), 0)
    };
    check(sent).map(drop)
}

fn check(result: libc::c_long) -> io::Result<libc::c_int> {
    match libc::c_int::try_from(result) {
        Ok(value) if value >= 0 => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_there_until_it_is_reaped() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pidfd = open(child.id()).unwrap();
        send_signal(&pidfd, 0).unwrap();
        send_signal(&pidfd, libc::SIGKILL).unwrap();
        child.wait().unwrap();
        assert_eq!(send_signal(&pidfd, 0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn an_impossible_number_is_no_process() {
        assert_eq!(open(u32::MAX).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
