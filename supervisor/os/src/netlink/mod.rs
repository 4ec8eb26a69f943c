//! The kernel's network configuration, spoken in its own messages (netlink(7)): what `ip` and `nft` do for people, without
//! needing either program in a worker's fresh network namespace.

pub(crate) mod message;
pub mod nft;
pub mod route;

pub(crate) use message::{Message, replies};
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

/// The most that one read returns: the kernel's own messages are at most 32 KiB (NLMSG_GOODSIZE and dumps).
const REPLY_SIZE_MAX: usize = 32 << 10;

/// A netlink socket. Belongs to the network namespace it was made in.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    pub(crate) fn open(protocol: SockProtocol) -> io::Result<Socket> {
        Ok(Socket(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?))
    }

    /// Sends one or several messages at once.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = send(self.0.as_raw_fd(), bytes, MsgFlags::empty())?;
        // A datagram goes whole or not at all.
        if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Reads some replies. Never waits: the kernel answers within send(2), and continues a dump within recv(2).
    pub(crate) fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.resize(REPLY_SIZE_MAX, 0);
        let len = recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_DONTWAIT)?;
        buffer.truncate(len);
        Ok(())
    }

    /// Waits for the answer to message number `sequence`.
    ///
    /// # Errors
    /// What the kernel answered to it or to one before it.
    fn acknowledged(&self, sequence: u32) -> io::Result<()> {
        let mut buffer = Vec::new();
        loop {
            self.receive(&mut buffer)?;
            for reply in replies(&buffer) {
                match reply.error()? {
                    Some(0) if reply.sequence == sequence => return Ok(()),
                    Some(0) | None => {}
                    Some(errno) => return Err(io::Error::from_raw_os_error(errno)),
                }
            }
        }
    }
}

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Self {
        Socket(fd)
    }
}

impl From<Socket> for OwnedFd {
    fn from(socket: Socket) -> Self {
        socket.0
    }
}
