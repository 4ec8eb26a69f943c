//! A few low descriptors through which a child gets what it starts with, however many the parent has.
//!
//! The problem: a child starts with a copy of its parent's table of descriptors, and execve(2) closes those that it is not
//! to have, one by one. A parent that holds five descriptors for each of a thousand children pays ten thousand steps for
//! every further one. So the child shares the table at first (CLONE_FILES of clone(2)), and makes a copy of its low end
//! alone: CLOSE_RANGE_UNSHARE of close_range(2). What it is to have must be there by then, and low numbers must be free
//! for it when thousands are taken: they are reserved while there are few.

use std::{
    ffi::c_uint,
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
};

/// Reserved descriptors. They lead to `/dev/null` except while a child is being made.
#[derive(Debug)]
pub struct Slots {
    nothing: OwnedFd,
    slots: Vec<OwnedFd>,
}

impl Slots {
    /// Reserves so many, to be called early. `None` where seccomp(2) forbids to leave the rest of a table
    /// behind; every kernel from 5.9 on can.
    ///
    /// # Errors
    /// EMFILE and the like.
    pub fn reserve(count: u16) -> io::Result<Option<Self>> {
        if !is_possible() {
            return Ok(None);
        }
        let nothing = OwnedFd::from(File::options().read(true).write(true).open("/dev/null")?);
        // Above the numbers that the child fills from them.
        let reserve = |_| -> io::Result<OwnedFd> {
            let raw = fcntl(&nothing, FcntlArg::F_DUPFD_CLOEXEC(RawFd::from(count)))?;
            // SAFETY: fcntl just made this descriptor and nothing else knows its number.
            Ok(unsafe { OwnedFd::from_raw_fd(raw) })
        };
        let slots = (0..count).map(reserve).collect::<io::Result<_>>()?;
        Ok(Some(Self { nothing, slots }))
    }

    /// The first number above all slots.
    pub(super) fn end(&self) -> RawFd {
        self.slots.iter().map(|slot| slot.as_raw_fd() + 1).max().unwrap_or(0)
    }

    /// Puts these into slots until the result is dropped. `None` when there are too many.
    pub(super) fn fill(&self, descriptors: &[BorrowedFd<'_>]) -> Option<Result<Filled<'_>, Errno>> {
        let slots = self.slots.get(..descriptors.len())?;
        let filled = Filled { slots, nothing: self.nothing.as_fd() };
        let put = |(slot, descriptor): (&OwnedFd, &BorrowedFd<'_>)| replace(slot, *descriptor);
        Some(slots.iter().zip(descriptors).try_for_each(put).map(|()| filled))
    }
}

/// Slots in use.
pub(super) struct Filled<'a> {
    slots: &'a [OwnedFd],
    nothing: BorrowedFd<'a>,
}

impl Filled<'_> {
    pub(super) fn numbers(&self) -> Vec<RawFd> {
        self.slots.iter().map(AsRawFd::as_raw_fd).collect()
    }
}

impl Drop for Filled<'_> {
    /// Whoever reads a pipe waits for its end until the last copy of the other side is closed, the one here too.
    fn drop(&mut self) {
        for slot in self.slots {
            // Cannot fail: both are open (dup3(2)).
            let _ = replace(slot, self.nothing);
        }
    }
}

/// Makes a slot lead somewhere else.
fn replace(slot: &OwnedFd, with: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: both descriptors are open and stay so; what the slot led to is closed, and nobody but this module knows that it
    // led there.
    Errno::result(unsafe { libc::dup3(with.as_raw_fd(), slot.as_raw_fd(), libc::O_CLOEXEC) }).map(drop)
}

/// Goes on with a table of descriptors of its own that has those below `first` only. To be called by a child that shares its
/// parent's, which stays as it is.
pub(super) fn leave_behind(first: RawFd) -> Result<(), Errno> {
    let first = c_uint::try_from(first).map_err(|_| Errno::EINVAL)?;
    // SAFETY: closes descriptors in a new table of the caller, a child that executes its program next and has no use for
    // them.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, libc::CLOSE_RANGE_UNSHARE) };
    Errno::result(result).map(drop)
}

/// Whether there is a close_range(2), which could unshare from the start. Asked without that, because a caller with threads
/// would part from their descriptors.
fn is_possible() -> bool {
    // SAFETY: no descriptor has so large a number, so that nothing is closed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, c_uint::MAX, c_uint::MAX, 0) };
    result == 0
}
