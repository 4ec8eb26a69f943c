//! The service manager that started this process (systemd, by sd_notify(3) and sd_listen_fds(3)), when it was told to talk to one.
//!
//! All that the manager is told comes from this process: it is the unit's main one, so that the unit says `NotifyAccess=main`
//! and a service that finds the manager's socket is not listened to. What the daemon has to say it asks us to pass on. That we
//! live is told by ourselves, whatever becomes of the daemon, for which we look ourselves.
//!
//! Nothing waits for the manager: what it does not take now is offered again.

use std::{
    collections::{BTreeSet, VecDeque},
    env,
    ffi::OsStr,
    io,
    os::fd::{AsFd, OwnedFd},
    process,
    rc::Rc,
    time::{Duration, Instant},
};

use socket2::{SockAddr, SockRef, Type};
use watt_os::systemd::{inherited, notify::Notifier};

use crate::{
    listeners::Listener,
    notes::note,
    protocol::Address,
    runs::Holdings,
    table::{self, Descriptors, ManagerRow, TableError},
};

/// Variables of the manager's that are for this process alone.
pub(crate) const VARIABLES: [&str; 7] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "FDSTORE",
];

/// When what was not taken is offered again.
const RETRY: Duration = Duration::from_millis(100);
/// What may wait at most: one descriptor for each thread of the proxy, and some words.
const WAITING_MAX: usize = 512;
/// The longest text in bytes: a line or two for people.
const TEXT_SIZE_MAX: usize = 4 << 10;

/// The manager, or none.
#[derive(Debug, Default)]
pub(crate) struct Manager {
    way: Option<Notifier>,
    waiting: VecDeque<Notice>,
    retry_at: Option<Instant>,
    watchdog: Option<Watchdog>,
    /// Names under which it keeps descriptors of ours.
    stored: BTreeSet<String>,
}

/// Something it has not been told yet.
#[derive(Debug)]
struct Notice {
    text: String,
    descriptor: Option<Rc<OwnedFd>>,
}

/// That it wants to hear from us.
#[derive(Debug)]
struct Watchdog {
    every: Duration,
    next: Instant,
}

impl Manager {
    /// The one of this process's environment, with the listeners it kept since an earlier life. To be called before
    /// anything is opened.
    pub(crate) fn from_env() -> (Manager, Vec<(String, Listener)>) {
        let env = |name: &str| env::var(name).ok();
        let mut manager = Manager { way: way(env::var_os("NOTIFY_SOCKET").as_deref()), ..Manager::default() };
        manager.watchdog = watchdog(&env).map(|every| Watchdog { every, next: Instant::now() });
        let mut listeners = Vec::new();
        for (name, socket) in inherited::take(env) {
            // It keeps it until we say otherwise, and closing our copy is not enough.
            manager.stored.insert(name.clone());
            match listener(socket) {
                Ok(listener) => listeners.push((name, listener)),
                Err(_) => manager.discard(&name),
            }
        }
        (manager, listeners)
    }

    /// The same when this process was another program before: what it was started with was taken by that.
    pub(crate) fn again() -> Manager {
        let env = |name: &str| env::var(name).ok();
        let watchdog = watchdog(&env).map(|every| Watchdog { every, next: Instant::now() });
        Manager { way: way(env::var_os("NOTIFY_SOCKET").as_deref()), watchdog, ..Manager::default() }
    }

    /// What it has, and what it was not told yet.
    pub(crate) fn row(&self) -> ManagerRow {
        let waiting = self
            .waiting
            .iter()
            .map(|Notice { text, descriptor }| (text.clone(), descriptor.as_ref().map(table::number)));
        ManagerRow { stored: self.stored.clone(), waiting: waiting.collect() }
    }

    /// Takes over what another program had noted.
    pub(crate) fn fill(&mut self, row: ManagerRow, descriptors: &Descriptors) -> Result<(), TableError> {
        self.stored = row.stored;
        for (text, number) in row.waiting {
            let descriptor = number.map(|number| descriptors.share(number)).transpose()?;
            self.waiting.push_back(Notice { text, descriptor });
        }
        self.flush();
        Ok(())
    }

    /// Whether somebody listens.
    pub(crate) fn is_there(&self) -> bool {
        self.way.is_some()
    }

    /// When [`Manager::turn`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let watchdog = self.watchdog.as_ref().filter(|_| self.is_there()).map(|watchdog| watchdog.next);
        [self.retry_at, watchdog].into_iter().flatten().min()
    }

    /// Tells it that we live, when that is due, and what it did not take before.
    pub(crate) fn turn(&mut self, now: Instant) {
        if let Some(watchdog) = self.watchdog.as_mut().filter(|watchdog| watchdog.next <= now) {
            watchdog.next = now + watchdog.every;
            // Never behind what it may refuse for a while, such as a descriptor. One that is lost has a successor in time.
            let _ = self.way.as_ref().map(|way| way.send("WATCHDOG=1", None));
        }
        if self.retry_at.is_some_and(|at| at <= now) {
            self.flush();
        }
    }

    /// Passes words on: assignments, one a line.
    pub(crate) fn pass_on(&mut self, mut text: String) {
        text.truncate(text.floor_char_boundary(TEXT_SIZE_MAX));
        self.tell(text, None);
    }

    /// Has it keep a listener over a restart of the unit.
    pub(crate) fn store(&mut self, name: &str, holdings: &Holdings) {
        let Some(listener) = holdings.listeners.get(name) else {
            return note(format_args!("no listener {name:.40} to be stored"));
        };
        if self.is_there() && self.stored.insert(name.to_owned()) {
            self.tell(format!("FDSTORE=1\nFDNAME={name}"), Some(listener.socket.clone()));
        }
    }

    /// Has it forget what it keeps under this name.
    pub(crate) fn discard(&mut self, name: &str) {
        if self.stored.remove(name) {
            self.tell(format!("FDSTOREREMOVE=1\nFDNAME={name}"), None);
        }
    }

    fn tell(&mut self, text: String, descriptor: Option<Rc<OwnedFd>>) {
        if self.is_there() && self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(Notice { text, descriptor });
            self.flush();
        }
    }

    fn flush(&mut self) {
        let Some(way) = &self.way else { return };
        self.retry_at = None;
        while let Some(Notice { text, descriptor }) = self.waiting.front() {
            if way.send(text, descriptor.as_ref().map(|descriptor| descriptor.as_fd())).is_err() {
                // It is busy or is being executed anew; either passes.
                self.retry_at = Some(Instant::now() + RETRY);
                return;
            }
            self.waiting.pop_front();
        }
    }
}

fn way(address: Option<&OsStr>) -> Option<Notifier> {
    Notifier::new(address?).inspect_err(|error| note(format_args!("cannot use $NOTIFY_SOCKET: {error}"))).ok()
}

/// How often to say that we live: twice as often as asked for (sd_watchdog_enabled(3)).
fn watchdog(env: &impl Fn(&str) -> Option<String>) -> Option<Duration> {
    let is_ours = env("WATCHDOG_PID").is_none_or(|pid| pid == process::id().to_string());
    let micros: u64 = env("WATCHDOG_USEC")?.parse().ok()?;
    (is_ours && micros > 1).then(|| Duration::from_micros(micros / 2))
}

/// A listener that was kept: of TCP, since others have files that an earlier life has removed.
fn listener(socket: OwnedFd) -> io::Result<Listener> {
    let (address, reuse_port) = {
        let socket = SockRef::from(&socket);
        if socket.r#type()? != Type::STREAM || !socket.is_listener()? {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // Kept by somebody else perhaps, who need not have set it.
        socket.set_nonblocking(true)?;
        let address = socket.local_addr().ok().as_ref().and_then(SockAddr::as_socket);
        (address.ok_or(io::ErrorKind::InvalidInput)?, socket.reuse_port()?)
    };
    Ok(Listener { address: Address::Tcp { address, reuse_port }, socket: Rc::new(socket), file: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_is_told_twice_as_often_as_it_asks_and_only_when_it_is_ours() {
        let check = |pid: Option<&str>, micros: Option<&str>, expected: Option<Duration>| {
            let env = |name: &str| match name {
                "WATCHDOG_PID" => pid.map(str::to_owned),
                _ => micros.map(str::to_owned),
            };
            assert_eq!(watchdog(&env), expected, "{pid:?} {micros:?}");
        };
        check(None, Some("2000000"), Some(Duration::from_secs(1)));
        check(Some(&process::id().to_string()), Some("2000000"), Some(Duration::from_secs(1)));
        check(Some("1"), Some("2000000"), None);
        check(None, None, None);
        check(None, Some("0"), None);
        check(None, Some("soon"), None);
    }
}
