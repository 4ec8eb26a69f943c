//! What a service tells its manager: sd_notify(3).

use std::{
    ffi::OsStr,
    io::{self, IoSlice},
    os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket,
};

/// The way to a manager.
#[derive(Debug)]
pub struct Notifier {
    socket: OwnedFd,
    address: UnixAddr,
}

impl Notifier {
    /// To the socket that `$NOTIFY_SOCKET` names.
    ///
    /// # Errors
    /// InvalidInput for an address that is neither a path nor an abstract one; EMFILE.
    pub fn new(address: &OsStr) -> io::Result<Notifier> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        Ok(Notifier {
            address: super::address(address)?,
            socket: socket(AddressFamily::Unix, SockType::Datagram, flags, None)?,
        })
    }

    /// Sends assignments, one a line, with a descriptor for `FDSTORE=1`. Who sent it is added by the kernel.
    ///
    /// # Errors
    /// WouldBlock when the manager has not read what came before; those of connect(2) when there is none.
    pub fn send(&self, assignments: &str, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let number: Vec<RawFd> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&number)];
        let control = if number.is_empty() { &[][..] } else { &rights[..] };
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let bytes = [IoSlice::new(assignments.as_bytes())];
        sendmsg(self.socket.as_raw_fd(), &bytes, control, flags, Some(&self.address))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::{
        fd::AsFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    };

    use super::*;
    use crate::fdpass;

    fn check(manager: &UnixDatagram, address: &OsStr) {
        let notifier = Notifier::new(address).unwrap();
        notifier.send("READY=1\nSTATUS=ok", None).unwrap();
        notifier.send("FDSTORE=1", Some(manager.as_fd())).unwrap();
        let mut buffer = [0; 64];
        let mut next = || {
            let received = fdpass::receive(manager.as_fd(), &mut buffer).unwrap();
            (String::from_utf8_lossy(&buffer[..received.length]).into_owned(), received.descriptors.len())
        };
        assert_eq!(next(), ("READY=1\nSTATUS=ok".to_owned(), 0));
        assert_eq!(next(), ("FDSTORE=1".to_owned(), 1));
    }

    #[test]
    fn a_manager_is_told_at_a_path_and_at_an_abstract_address() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        check(&UnixDatagram::bind(&path).unwrap(), path.as_os_str());

        let name = format!("watt-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        check(&UnixDatagram::bind_addr(&address).unwrap(), OsStr::new(&format!("@{name}")));
    }

    #[test]
    fn a_manager_that_does_not_read_or_is_not_there_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let notifier = Notifier::new(path.as_os_str()).unwrap();
        assert_eq!(notifier.send("READY=1", None).unwrap_err().kind(), io::ErrorKind::NotFound);
        let _manager = UnixDatagram::bind(&path).unwrap();
        let full = (0..100_000).find_map(|_| notifier.send("WATCHDOG=1", None).err());
        assert_eq!(full.map(|error| error.kind()), Some(io::ErrorKind::WouldBlock));
        assert!(Notifier::new(OsStr::new("vsock:2:1234")).is_err());
    }
}
