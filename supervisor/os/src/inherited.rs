//! Descriptors that a process is started with under agreed numbers, and those it hands on in the same way.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
    sync::Mutex,
};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Numbers that were taken, so that none gets two owners.
static TAKEN: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Takes a descriptor this process was started with, and has it closed by execve(2). Meant for the start of `main`,
/// before anything else is opened.
///
/// # Errors
/// EBADF when it is not open; EBUSY when it was taken before.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    let mut taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if taken.contains(&number) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    set_close_on_exec(number)?;
    taken.push(number);
    // SAFETY: the descriptor is open, and the list above makes this its only owner: what the program itself opened has
    // numbers it does not ask for here.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A descriptor that this process was started with, before it has an owner here: it is looked at, and passed on by execve(2) as it
/// came, until it is taken.
#[derive(Debug)]
pub struct Unclaimed(RawFd);

impl Unclaimed {
    /// The one with this number. Meant for the start of `main`, before anything else is opened.
    ///
    /// # Errors
    /// EBADF when it is not open, or is a standard stream; EBUSY when it was taken before.
    pub fn find(number: RawFd) -> io::Result<Self> {
        let taken = TAKEN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if taken.contains(&number) {
            return Err(io::Error::from_raw_os_error(libc::EBUSY));
        }
        // SAFETY: F_GETFD takes no argument and changes nothing, whatever the number means.
        if number <= libc::STDERR_FILENO || unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        Ok(Self(number))
    }

    /// Its number.
    pub fn number(&self) -> RawFd {
        self.0
    }

    /// Takes it, and has it closed by execve(2).
    ///
    /// # Errors
    /// EBUSY when it was taken meanwhile.
    pub fn take(self) -> io::Result<OwnedFd> {
        take(self.0)
    }
}

impl AsFd for Unclaimed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: it was open when it was found and nobody in this process owns it, so that nobody closes it while this lives: whoever
        // takes it by its number meanwhile is told that it is there once, and this type is for what is not taken yet.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// Has a descriptor stay open across execve(2).
///
/// # Errors
/// None that fcntl(2) documents for an open descriptor.
pub fn hand_down(fd: impl AsFd) -> io::Result<()> {
    fcntl(fd.as_fd(), FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}

/// The same for one that the caller has, known by its number.
///
/// # Errors
/// EBADF when it is not open.
pub fn hand_down_number(number: RawFd) -> io::Result<()> {
    // SAFETY: F_SETFD takes an integer; that execve(2) leaves a descriptor open takes nothing from its owner.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Moves descriptors to the numbers from `first` on, where the next program expects them, and returns how many there
/// are. Nothing owns them any more; execve(2) or exit closes them.
///
/// # Errors
/// EBUSY when something else is open at one of the numbers, EBADF when one is above the limit of open files.
pub fn hand_on(descriptors: Vec<OwnedFd>, first: RawFd) -> io::Result<usize> {
    let count = descriptors.len();
    let numbers = RawFd::try_from(count).ok().and_then(|count| Some(first..first.checked_add(count)?));
    let numbers = numbers.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
    // Out of the way first: one of them may have the number another one is to get.
    let aside: Vec<OwnedFd> =
        descriptors.into_iter().map(|fd| duplicate_above(fd, numbers.end)).collect::<io::Result<_>>()?;
    for (source, number) in aside.iter().zip(numbers) {
        place(source, number)?;
    }
    Ok(count)
}

/// Duplicates a descriptor to the first free number that is not below `lowest`, close-on-exec.
///
/// # Errors
/// EINVAL when `lowest` is above the limit of open files, EMFILE when none is free.
pub fn duplicate_above(fd: impl AsFd, lowest: RawFd) -> io::Result<OwnedFd> {
    let number = fcntl(fd.as_fd(), FcntlArg::F_DUPFD_CLOEXEC(lowest))?;
    // SAFETY: F_DUPFD_CLOEXEC made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Has execve(2) close every descriptor from `first` on.
///
/// # Errors
/// None but ENOSYS or EPERM where seccomp(2) forbids it; every kernel from 5.11 on has it.
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    let first = libc::c_uint::try_from(first).map_err(|_| io::Error::from_raw_os_error(libc::EBADF))?;
    // SAFETY: close_range(2) takes integers; with CLOEXEC it closes nothing now, so no owner loses a descriptor.
    let result =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Duplicates a descriptor to a number that is not in use, open across execve(2).
fn place(source: &OwnedFd, number: RawFd) -> io::Result<()> {
    // SAFETY: F_GETFD takes no argument and changes nothing, whatever the number means.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags != -1 {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: nothing is open at that number, so no owner's descriptor is replaced; the result has no owner, as said above.
    let copy = unsafe { nix::unistd::dup2_raw(source, number) }?;
    let _ = copy.into_raw_fd();
    Ok(())
}

fn set_close_on_exec(number: RawFd) -> io::Result<()> {
    // SAFETY: F_SETFD takes an integer, and setting close-on-exec takes nothing from an owner.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, FdFlag::FD_CLOEXEC.bits()) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
