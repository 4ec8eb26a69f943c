//! Hearing of a limit that acts when it acts. Of an out-of-memory kill: before the killed process is reaped, and also when
//! it was not the main one. Of a fork that was refused.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    path::Path,
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Controller, Group, file, usage::OWN_PIDS_EVENTS};

/// Becomes ready when a limit of the group has acted, and now and then when it has not: [`Group::events`] says what happened.
#[derive(Debug)]
pub struct LimitSignal(Kind);

#[derive(Debug)]
enum Kind {
    /// v2: `memory.events`, `pids.events` or `pids.events.local`, ready for POLLPRI.
    Events(File),
    /// v1: an eventfd that the kernel was told of (cgroup-v1/memory.rst §10), ready to be read.
    Eventfd(OwnedFd),
}

impl LimitSignal {
    /// Whether readiness is POLLPRI, in place of POLLIN.
    pub fn is_priority(&self) -> bool {
        matches!(self.0, Kind::Events(_))
    }

    /// Takes the readiness back, so that the next time is seen.
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

impl AsFd for LimitSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Kind::Events(events) => events.as_fd(),
            Kind::Eventfd(signal) => signal.as_fd(),
        }
    }
}

impl AsRawFd for LimitSignal {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Group {
    /// Asks the kernel to tell of out-of-memory kills. `None` where it does not count memory.
    ///
    /// # Errors
    /// EMFILE, or what the kernel says of the registration.
    pub fn oom_signal(&self) -> io::Result<Option<LimitSignal>> {
        let kind = match (self.legacy.get(&Controller::Memory), &self.unified) {
            (Some(dir), _) => Some(Kind::Eventfd(register(dir)?)),
            (None, Some(dir)) => events_file(&dir.join("memory.events"))?,
            (None, None) => None,
        };
        Ok(kind.map(armed))
    }

    /// Asks the kernel to tell of forks that are refused: by this group's own limit of processes, and before Linux 6.11 of those in
    /// this group. `None` where it does not: v1 counts them and tells nobody (seen with 6.18).
    ///
    /// # Errors
    /// EMFILE, or what the kernel says of the file.
    pub fn pids_signal(&self) -> io::Result<Option<LimitSignal>> {
        match (self.legacy.get(&Controller::Pids), &self.unified) {
            (None, Some(dir)) => {
                let own = events_file(&dir.join(OWN_PIDS_EVENTS))?;
                let any = || events_file(&dir.join("pids.events"));
                Ok(own.map_or_else(any, |own| Ok(Some(own)))?.map(armed))
            }
            (Some(_), _) | (None, None) => Ok(None),
        }
    }
}

fn armed(kind: Kind) -> LimitSignal {
    let signal = LimitSignal(kind);
    signal.rearm();
    signal
}

/// `None` where the controller is not there.
fn events_file(path: &Path) -> io::Result<Option<Kind>> {
    match File::open(path) {
        Ok(events) => Ok(Some(Kind::Events(events))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn register(dir: &Path) -> io::Result<OwnedFd> {
    let signal = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let control = File::open(dir.join("memory.oom_control"))?;
    let numbers = format!("{} {}", signal.as_raw_fd(), control.as_raw_fd());
    file::write(&dir.join("cgroup.event_control"), &numbers)?;
    Ok(signal.into())
}
