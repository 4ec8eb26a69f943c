//! Closing what workers have made.
//!
//! close(2) of a socket waits for its peer for as long as a worker has set (SO_LINGER of socket(7)), non-blocking or not, and so does
//! that of a Unix socket with such a one in its queue. It is the last holder that waits, unless its process is ending. So a child
//! is the last holder here, which does nothing but end.

use std::{
    io::{self, Read},
    os::fd::OwnedFd,
    process,
    rc::Rc,
};

use nix::sys::stat::{SFlag, fstat};
use watt_os::process::{Forked, fork};

/// What is to be closed.
#[derive(Debug, Default)]
pub(crate) struct Discarded(Vec<Rc<OwnedFd>>);

impl Discarded {
    /// Has it closed soon.
    pub(crate) fn push(&mut self, descriptor: Rc<OwnedFd>) {
        // Of all other kinds nothing waits.
        if is_socket(&descriptor) {
            self.0.push(descriptor);
        }
    }

    /// Closes what nobody else here holds. What cannot be closed now can be later.
    pub(crate) fn close(&mut self) {
        let is_ours = |descriptor: &Rc<OwnedFd>| Rc::strong_count(descriptor) == 1;
        if self.0.iter().any(is_ours) {
            // Fails at a limit of processes or descriptors.
            let _ = beside_a_holder(|| self.0.retain(|descriptor| !is_ours(descriptor)));
        }
    }

    /// Leaves all of it to the end of this process.
    pub(crate) fn leave(&mut self) {
        std::mem::take(&mut self.0).into_iter().for_each(std::mem::forget);
    }
}

/// What cannot be asked counts as one.
fn is_socket(descriptor: &OwnedFd) -> bool {
    let kind = |mode| SFlag::from_bits_truncate(mode) & SFlag::S_IFMT;
    fstat(descriptor).map_or(true, |stat| kind(stat.st_mode) == SFlag::S_IFSOCK)
}

/// Does this while a child holds whatever this process holds. The child ends then, and is reaped as an orphan is.
fn beside_a_holder(close: impl FnOnce()) -> io::Result<()> {
    let (mut reader, writer) = io::pipe()?;
    match fork()? {
        Forked::Child => {
            drop(writer);
            let _ = reader.read_to_end(&mut Vec::new());
            process::exit(0)
        }
        Forked::Parent(_) => {
            close();
            drop(writer);
            Ok(())
        }
    }
}
