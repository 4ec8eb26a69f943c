//! Closing what workers have made.
//!
//! close(2) of a socket waits for its peer for as long as a worker has set (SO_LINGER of socket(7)), non-blocking or not, and so does
//! that of a Unix socket with such a one in its queue. It is the last holder that waits, unless its process is ending. So a child
//! is the last holder here, which does nothing but end.
//!
//! Nor may the daemon be the last one, which sends a descriptor and closes its own then. It has done so when a later message of it
//! comes, or when it has gone; until then nothing is closed here. It says every few seconds that it turns.

use std::{
    io::{self, PipeWriter, Read},
    os::fd::OwnedFd,
    process,
    rc::Rc,
};

use nix::sys::stat::{SFlag, fstat};
use watt_os::process::{Forked, fork};

use crate::notes::note;

/// What is to be closed.
#[derive(Debug, Default)]
pub(crate) struct Discarded {
    /// What the daemon may hold yet.
    fresh: Vec<Rc<OwnedFd>>,
    waiting: Vec<Rc<OwnedFd>>,
    /// Whether the last attempt failed, which was said then.
    is_failing: bool,
}

impl Discarded {
    /// Has it closed soon.
    pub(crate) fn push(&mut self, descriptor: Rc<OwnedFd>) {
        // Of all other kinds nothing waits.
        if is_socket(&descriptor) {
            self.fresh.push(descriptor);
        }
    }

    /// The daemon holds nothing any more of what came before this.
    pub(crate) fn settle(&mut self) {
        self.waiting.append(&mut self.fresh);
    }

    /// Closes what nobody else here holds. What cannot be closed now can be later.
    pub(crate) fn close(&mut self) {
        if let Some(error) = self.close_beside(holder) {
            let count = self.waiting.len();
            note(format_args!(
                "{count} sockets of workers are not closed yet, for want of a process that does it: {error}"
            ));
        }
    }

    /// Closes while a child holds all of it as well. The error is that of the first in a row of attempts that fail.
    fn close_beside<Holder>(&mut self, hold: impl FnOnce() -> io::Result<Holder>) -> Option<io::Error> {
        let is_ours = |descriptor: &Rc<OwnedFd>| Rc::strong_count(descriptor) == 1;
        if !self.waiting.iter().any(is_ours) {
            return None;
        }
        match hold() {
            Ok(_holder) => {
                self.waiting.retain(|descriptor| !is_ours(descriptor));
                self.is_failing = false;
                None
            }
            Err(error) => (!std::mem::replace(&mut self.is_failing, true)).then_some(error),
        }
    }

    /// Leaves all of it to the end of this process.
    pub(crate) fn leave(&mut self) {
        self.settle();
        std::mem::take(&mut self.waiting).into_iter().for_each(std::mem::forget);
    }
}

/// What cannot be asked counts as one.
fn is_socket(descriptor: &OwnedFd) -> bool {
    let kind = |mode| SFlag::from_bits_truncate(mode) & SFlag::S_IFMT;
    fstat(descriptor).map_or(true, |stat| kind(stat.st_mode) == SFlag::S_IFSOCK)
}

/// A child that holds whatever this process holds, until what is returned goes. It ends then, and is reaped as an orphan is. There is none
/// at a limit of processes or descriptors.
fn holder() -> io::Result<PipeWriter> {
    let (mut reader, writer) = io::pipe()?;
    match fork()? {
        Forked::Child => {
            drop(writer);
            let _ = reader.read_to_end(&mut Vec::new());
            process::exit(0)
        }
        Forked::Parent(_) => Ok(writer),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_cannot_be_closed_is_said_once_and_closed_later() {
        let mut discarded = Discarded::default();
        let (socket, mut other) = UnixStream::pair().unwrap();
        let none = || Err::<(), _>(io::Error::from_raw_os_error(11));
        assert!(discarded.close_beside(none).is_none(), "there is nothing to be closed");
        discarded.push(Rc::new(socket.into()));
        assert!(discarded.close_beside(none).is_none(), "the daemon may hold it yet");
        discarded.settle();
        let said = discarded.close_beside(none).and_then(|error| error.raw_os_error());
        assert_eq!(said, Some(11));
        assert!(discarded.close_beside(none).is_none(), "it was said");
        assert!(discarded.close_beside(|| Ok(())).is_none());
        assert_eq!(other.read(&mut [0]).unwrap(), 0, "it is closed");
        let (socket, _other) = UnixStream::pair().unwrap();
        discarded.push(Rc::new(socket.into()));
        discarded.settle();
        assert!(discarded.close_beside(none).is_some(), "it is news again");
    }
}
