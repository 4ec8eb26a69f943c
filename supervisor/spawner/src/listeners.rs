//! Listening sockets, which outlive the processes that accept on them.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::FileTypeExt},
    path::Path,
    rc::Rc,
};

use nix::{
    errno::Errno,
    sys::stat::{Mode, umask},
};
use socket2::{Domain, SockAddr, Socket, Type};

use watt_os::socket_file::{FileId, SocketFile};

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
    /// The file that was made for it.
    pub(crate) file: Option<FileId>,
}

impl Listener {
    /// Binds. Where others put sockets as well, one that somebody listens at is left alone.
    pub(crate) fn bind(address: Address, with_others: bool) -> Result<Self, Errno> {
        let (address, socket, file) = match address {
            Address::Tcp { address, reuse_port } => {
                let socket = tcp(&address.into(), reuse_port)?;
                let bound = socket.local_addr().map_err(errno)?.as_socket().unwrap_or(address);
                (Address::Tcp { address: bound, reuse_port }, socket, None)
            }
            Address::Unix { path, mode, owner } => {
                make_room(&path, with_others)?;
                let (socket, file) = unix(Type::STREAM, &path, mode, owner)?;
                socket.listen(BACKLOG).map_err(errno)?;
                (Address::Unix { path, mode, owner }, socket, Some(file))
            }
            Address::UnixDatagram { path, mode, owner } => {
                make_room(&path, false)?;
                let (socket, file) = unix(Type::DGRAM.nonblocking(), &path, mode, owner)?;
                (Address::UnixDatagram { path, mode, owner }, socket, Some(file))
            }
        };
        Ok(Self { address, socket: Rc::new(socket.into()), file })
    }

    /// Whether messages come to it, with whatever sockets in them.
    pub(crate) fn is_datagram(&self) -> bool {
        matches!(self.address, Address::UnixDatagram { .. })
    }

    /// Removes the socket's file, if it has one and nobody has put another one there. The socket is closed when its last user drops it.
    pub(crate) fn unlink(&self) {
        if let Some(path) = path(&self.address)
            && self.file.is_some()
            && file_at(path) == self.file
        {
            drop(fs::remove_file(path));
        }
    }
}

/// Where the file of such a socket is.
fn path(address: &Address) -> Option<&Path> {
    match address {
        Address::Tcp { .. } => None,
        Address::Unix { path, .. } | Address::UnixDatagram { path, .. } => Some(path),
    }
}

/// The socket file that is there now.
fn file_at(path: &Path) -> Option<FileId> {
    SocketFile::open(path).ok().map(|file| file.id())
}

/// The file of a socket that a version of watt has bound which did not say which one it was: the one that is there.
pub(crate) fn file_of(address: &Address) -> Option<FileId> {
    path(address).and_then(file_at)
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

/// Removes a socket that is where one is to be. In our own folders it belongs to nobody, since the application's lock is ours; where others put
/// some as well, only one that nobody listens at is removed. Other files are left alone: bind then says EADDRINUSE.
fn make_room(path: &Path, with_others: bool) -> Result<(), Errno> {
    if !fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
        return Ok(());
    }
    if with_others {
        let asking = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None).map_err(errno)?;
        let answer = SockAddr::unix(path).and_then(|address| asking.connect(&address));
        match answer.map_err(errno) {
            Err(Errno::ECONNREFUSED) => {}
            Err(Errno::ENOENT) => return Ok(()),
            // Somebody listens, has a full queue, or has a socket of another type.
            Ok(()) | Err(_) => return Err(Errno::EADDRINUSE),
        }
    }
    fs::remove_file(path).map_err(errno)
}

/// A bound Unix socket, with its file. A stream socket stays blocking: a worker that inherits it (sd_listen_fds(3)) expects
/// that, and whoever else takes it sets what it needs.
fn unix(kind: Type, path: &Path, mode: u32, owner: Option<(u32, u32)>) -> Result<(Socket, FileId), Errno> {
    if path.as_os_str().len() > PATH_SIZE_MAX {
        return Err(Errno::ENAMETOOLONG);
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
    let file = SocketFile::open(path).map_err(errno)?;
    if let Some(owner) = owner {
        file.set_owner(owner).map_err(errno)?;
    }
    Ok((socket, file.id()))
}

fn errno(error: io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    #[test]
    fn sockets_of_others_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        let bind = |with_others| {
            let address = Address::Unix { path: path.clone(), mode: 0o600, owner: None };
            Listener::bind(address, with_others)
        };
        let first = bind(true).unwrap();
        assert_eq!(bind(true).unwrap_err(), Errno::EADDRINUSE, "it listens");
        // Somebody else takes the place.
        fs::remove_file(&path).unwrap();
        let other = UnixListener::bind(&path).unwrap();
        first.unlink();
        assert!(path.exists());
        drop(other);
        let second = bind(true).expect("nobody listens there any more");
        first.unlink();
        assert!(path.exists());
        second.unlink();
        assert!(!path.exists());
        let _datagram = UnixDatagram::bind(&path).unwrap();
        assert_eq!(bind(true).unwrap_err(), Errno::EADDRINUSE, "it is in use");
        bind(false).expect("in our own folders what is there is nobody's");
    }
}
