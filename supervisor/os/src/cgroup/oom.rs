//! Hearing of an out-of-memory kill when it happens: before the killed process is reaped, and also when it was not the
//! main one.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::Path,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Controller, Group, file};

/// Becomes ready when the kernel has killed a process of the group for memory, and when something else about its
/// memory changed: [`Group::events`] says which.
#[derive(Debug)]
pub struct OomSignal(Kind);

#[derive(Debug)]
enum Kind {
    /// v2: `memory.events`, ready for POLLPRI.
    Events(File),
    /// v1: an eventfd that the kernel was told of (cgroup-v1/memory.rst §10), ready to be read.
    Eventfd(OwnedFd),
}

impl OomSignal {
    /// Whether readiness is POLLPRI, in place of POLLIN.
    pub fn is_priority(&self) -> bool {
        matches!(self.0, Kind::Events(_))
    }

    /// Takes the readiness back, so that the next kill is seen.
    pub fn rearm(&self) {
        match &self.0 {
            // Looking at the group's counters reads the file, but through another descriptor; kernfs arms by reading
            // through this one.
            Kind::Events(events) => {
                use std::os::unix::fs::FileExt;
                let _ = events.read_at(&mut [0; 1], 0);
            }
            Kind::Eventfd(signal) => {
                let _ = nix::unistd::read(signal, &mut [0; 8]);
            }
        }
    }
}

impl AsFd for OomSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Kind::Events(events) => events.as_fd(),
            Kind::Eventfd(signal) => signal.as_fd(),
        }
    }
}

impl AsRawFd for OomSignal {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Group {
    /// Asks the kernel to tell of out-of-memory kills. `None` where it does not count memory.
    ///
    /// # Errors
    /// EMFILE, or what the kernel says of the registration.
    pub fn oom_signal(&self) -> io::Result<Option<OomSignal>> {
        let kind = match (self.legacy.get(&Controller::Memory), &self.unified) {
            (Some(dir), _) => Some(Kind::Eventfd(register(dir)?)),
            (None, Some(dir)) => match File::open(dir.join("memory.events")) {
                Ok(events) => Some(Kind::Events(events)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error),
            },
            (None, None) => None,
        };
        let signal = kind.map(OomSignal);
        if let Some(signal) = &signal {
            signal.rearm();
        }
        Ok(signal)
    }
}

fn register(dir: &Path) -> io::Result<OwnedFd> {
    let signal = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let control = File::open(dir.join("memory.oom_control"))?;
    let numbers = format!("{} {}", signal.as_raw_fd(), control.as_raw_fd());
    file::write(&dir.join("cgroup.event_control"), &numbers)?;
    Ok(signal.into())
}
