//! Listening sockets, which outlive the processes that accept on them.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, lchown},
    },
    path::Path,
    rc::Rc,
};

use nix::{
    errno::Errno,
    sys::stat::{Mode, umask},
};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::protocol::Address;

/// Connections that may wait to be accepted. The kernel's own bound (`net.core.somaxconn`) has this default.
const BACKLOG: i32 = 4096;

/// The longest path of a Unix socket (unix(7): 108 bytes with the null byte).
const PATH_SIZE_MAX: usize = 107;

/// A bound socket.
#[derive(Debug)]
pub(crate) struct Listener {
    /// Where, with the kernel's choice of port.
    pub(crate) address: Address,
    /// The socket.
    pub(crate) socket: Rc<OwnedFd>,
}

impl Listener {
    /// Binds.
    pub(crate) fn bind(address: Address) -> Result<Self, Errno> {
        let (address, socket) = match address {
            Address::Tcp { address, reuse_port } => {
                let socket = tcp(&address.into(), reuse_port)?;
                let bound = socket.local_addr().map_err(errno)?.as_socket().unwrap_or(address);
                (Address::Tcp { address: bound, reuse_port }, socket)
            }
            Address::Unix { path, mode, owner } => {
                let socket = unix(Type::STREAM, &path, mode, owner)?;
                socket.listen(BACKLOG).map_err(errno)?;
                (Address::Unix { path, mode, owner }, socket)
            }
            Address::UnixDatagram { path, mode, owner } => {
                let socket = unix(Type::DGRAM.nonblocking(), &path, mode, owner)?;
                (Address::UnixDatagram { path, mode, owner }, socket)
            }
        };
        Ok(Self { address, socket: Rc::new(socket.into()) })
    }

    /// Whether messages come to it, with whatever sockets in them.
    pub(crate) fn is_datagram(&self) -> bool {
        matches!(self.address, Address::UnixDatagram { .. })
    }

    /// Removes the socket's file, if it has one. The socket is closed when its last user drops it.
    pub(crate) fn unlink(&self) {
        match &self.address {
            Address::Tcp { .. } => {}
            Address::Unix { path, .. } | Address::UnixDatagram { path, .. } => drop(fs::remove_file(path)),
        }
    }
}

fn tcp(address: &SockAddr, reuse_port: bool) -> Result<Socket, Errno> {
    let bind = || -> io::Result<Socket> {
        let socket = Socket::new(address.domain(), Type::STREAM.nonblocking().cloexec(), None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(reuse_port)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    };
    bind().map_err(errno)
}

/// A bound Unix socket. A stream socket stays blocking: a worker that inherits it (sd_listen_fds(3)) expects
/// that, and whoever else takes it sets what it needs.
fn unix(kind: Type, path: &Path, mode: u32, owner: Option<(u32, u32)>) -> Result<Socket, Errno> {
    if path.as_os_str().len() > PATH_SIZE_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    // The application's lock is ours, so a socket that is there belongs to nobody. Other files are left
    // alone: bind then says EADDRINUSE.
    if fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        fs::remove_file(path).map_err(errno)?;
    }
    let socket = Socket::new(Domain::UNIX, kind.cloexec(), None).map_err(errno)?;
    if kind != Type::STREAM {
        // The run that it is for may speak before the daemon has the socket, and of messages from before this nobody knows who sent them.
        socket.set_passcred(true).map_err(errno)?;
    }
    // With this mask the file is made with its final mode, so nobody can connect too early. One thread:
    // nothing else makes files meanwhile.
    let before = umask(Mode::from_bits_truncate(!mode & 0o777));
    let bound = SockAddr::unix(path).and_then(|address| socket.bind(&address));
    umask(before);
    bound.map_err(errno)?;
    if let Some((uid, gid)) = owner {
        lchown(path, Some(uid), Some(gid)).map_err(errno)?;
    }
    Ok(socket)
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw)
}
