//! The daemon's end of the socket.

use std::{
    env, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use watt_os::fdpass;

use crate::{
    SPAWNER_FD_VARIABLE,
    protocol::{MESSAGE_SIZE_MAX, Message, Request},
    wire,
};

/// The daemon's connection to its spawner. It is non-blocking: wait on its descriptor (`AsyncFd`) for more to
/// read, and for room to write.
#[derive(Debug)]
pub struct Handle {
    socket: OwnedFd,
}

impl Handle {
    /// Takes over the socket that the spawner started this process with. Once in the life of a process.
    ///
    /// # Errors
    /// NotFound when the process was not started by a spawner; otherwise why its socket cannot be used.
    pub fn from_env() -> io::Result<Self> {
        let number = env::var(SPAWNER_FD_VARIABLE)
            .ok()
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "not started by a spawner"))?;
        Ok(Self { socket: fdpass::inherited(number)? })
    }

    /// Sends a request. The descriptors remain the caller's and may be closed as soon as this returns.
    ///
    /// # Errors
    /// WouldBlock when the spawner has not read enough yet. The spawner reads nothing while the daemon leaves
    /// many of its messages unread, so a caller that waits for room must go on receiving meanwhile.
    /// ETOOMANYREFS is the same for descriptors that are under way (unix(7)), but shows as writable: try
    /// again after the next message. InvalidInput when the request is larger than [`MESSAGE_SIZE_MAX`] or has
    /// more than 253 descriptors.
    pub fn send(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        fdpass::send(self.socket.as_fd(), &wire::encode(request)?, descriptors)
    }

    /// Receives a message with its descriptors. `None`: there is none yet.
    ///
    /// # Errors
    /// UnexpectedEof when the spawner is gone. InvalidData when this process has no room for the descriptors:
    /// that message is lost, and a new [`Request::List`] tells what it was about.
    pub fn recv(&self) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
        let mut buffer = [0; MESSAGE_SIZE_MAX];
        let received = match fdpass::receive(self.socket.as_fd(), &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            result => result?,
        };
        match buffer.get(..received.length) {
            None | Some([]) => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(_) if received.lost_descriptors => Err(io::ErrorKind::InvalidData.into()),
            Some(bytes) => Ok(Some((wire::decode(bytes)?, received.descriptors))),
        }
    }
}

/// For whoever got a daemon's socket in another way.
impl From<OwnedFd> for Handle {
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

impl AsFd for Handle {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
