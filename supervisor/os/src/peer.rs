//! Who is at the other end of a Unix socket (unix(7)).

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

/// A process may have as many supplementary groups (NGROUPS_MAX of limits.h on Linux).
const GROUPS_MAX: usize = 1 << 16;

/// The supplementary groups that the process had when it connected (SO_PEERGROUPS). Its own group is not among them.
///
/// # Errors
/// ENODATA when nobody ever connected, ENOPROTOOPT before Linux 4.13.
pub fn groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    // Most have a few. The kernel tells when there are more, and how many.
    let mut groups = vec![0u32; 32];
    loop {
        let room = groups.len() * size_of::<u32>();
        let mut length = libc::socklen_t::try_from(room).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most `length` bytes to `groups`, which has as many, and the length it needs to `length`.
        // Both outlive the call.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = usize::try_from(length).map_err(io::Error::other)? / size_of::<u32>();
        if result == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() || count > GROUPS_MAX {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsFd, unix::net::UnixStream};

    use super::*;

    #[test]
    fn a_peers_groups_are_ours_when_it_is_us() {
        let (here, _there) = UnixStream::pair().unwrap();
        let mut own: Vec<u32> =
            nix::unistd::getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
        let mut found = groups(here.as_fd()).unwrap();
        own.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, own);
    }
}
