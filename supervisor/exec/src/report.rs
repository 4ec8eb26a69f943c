//! The socket to the spawner.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use watt_os::{fdpass, inherited};

use crate::{
    error::{About, StepError},
    plan::{LISTEN_FDS_START, Order, REPORT_FD, Report},
};

/// How many descriptors travel in one message: the kernel allows 253 (SCM_MAX_FD).
const DESCRIPTORS_MAX: usize = 250;

/// More than any order has.
const ORDER_SIZE_MAX: usize = 64;

/// How often a full queue is tried again, a millisecond apart. The spawner is single-threaded and may be starting others.
const RETRIES_MAX: usize = 10_000;

/// The socket to the spawner. execve(2) closes it.
#[derive(Debug)]
pub(crate) struct ReportSocket(OwnedFd);

impl ReportSocket {
    /// Takes the one at [`REPORT_FD`].
    pub(crate) fn inherited() -> io::Result<ReportSocket> {
        inherited::take(REPORT_FD).map(ReportSocket)
    }

    /// Makes a socket and its other end.
    pub(crate) fn pair() -> io::Result<(ReportSocket, OwnedFd)> {
        let (ours, theirs) = fdpass::seqpacket_pair()?;
        Ok((ReportSocket(ours), theirs))
    }

    /// Moves to a number above those at which a program expects this many listeners.
    pub(crate) fn make_room(&mut self, listeners: u16) -> io::Result<()> {
        self.0 = inherited::duplicate_above(&self.0, LISTEN_FDS_START + RawFd::from(listeners))?;
        Ok(())
    }

    /// Sends a report.
    pub(crate) fn send(&self, report: &Report, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = postcard::to_stdvec(report).map_err(io::Error::other)?;
        for _ in 0..RETRIES_MAX {
            match fdpass::send(self.0.as_fd(), &bytes, descriptors) {
                Err(error) if passes(&error) => {}
                result => return result,
            }
            // Not a wait for room in the socket: ETOOMANYREFS is about all sockets of the user.
            poll(&mut [], PollTimeout::from(1u8))?;
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Sends descriptors with their names, in as many messages as it takes.
    pub(crate) fn send_descriptors(&self, named: &[(String, OwnedFd)]) -> Result<(), StepError> {
        for some in named.chunks(DESCRIPTORS_MAX) {
            let names = some.iter().map(|(name, _)| name.clone()).collect();
            let descriptors: Vec<BorrowedFd<'_>> = some.iter().map(|(_, fd)| fd.as_fd()).collect();
            self.send(&Report::Descriptors { names }, &descriptors).about("report")?;
        }
        Ok(())
    }

    /// What the spawner has ordered. `None`: nothing so far.
    ///
    /// # Errors
    /// UnexpectedEof when it has gone; InvalidData for what is no order.
    pub(crate) fn order(&self) -> io::Result<Option<Order>> {
        let mut buffer = [0; ORDER_SIZE_MAX];
        let received = match fdpass::receive(self.0.as_fd(), &mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            received => received?,
        };
        match buffer.get(..received.length) {
            None | Some([]) => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(bytes) => {
                postcard::from_bytes(bytes).map(Some).map_err(|_| io::ErrorKind::InvalidData.into())
            }
        }
    }

    /// Whether the spawner has gone.
    pub(crate) fn is_abandoned(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO).is_ok()
            && fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }
}

impl AsFd for ReportSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether an error of sending goes away when the spawner has read more.
fn passes(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.raw_os_error() == Some(nix::errno::Errno::ETOOMANYREFS as i32)
}
