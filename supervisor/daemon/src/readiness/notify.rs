//! Readiness by sd_notify(3): datagrams of `NAME=value` lines on a Unix socket.
//!
//! Who sent one is known from SCM_CREDENTIALS (unix(7)) as far as the sender still lives: a program like systemd-notify(1) ends before
//! anybody can look at it. Such messages are believed, because the socket is in a folder of the worker's own.

use std::{
    fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixDatagram as StdUnixDatagram,
    },
};

use nix::sys::socket::{setsockopt, sockopt::PassCred};
use tokio::{io::Interest, net::UnixDatagram, task, time};
use watt_os::{fdpass, process_info::Stat};

/// The longest message: as of systemd, which drops longer ones (NOTIFY_BUFFER_MAX).
const MESSAGE_SIZE_MAX: usize = 4096;

/// The most generations between a sender and the run's main process.
const LINEAGE_MAX: usize = 64;

/// Messages handled before others have their turn: a program that does nothing but send must not keep the daemon busy.
const MESSAGES_IN_A_ROW: usize = 32;

/// The receiving end of one run's `$NOTIFY_SOCKET`.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    /// The run's main process.
    main: u32,
}

/// Makes a worker's socket ready for its next run: senders' credentials on, messages of earlier runs thrown away. To be called
/// before the run is started.
///
/// # Errors
/// Those of setsockopt(2).
pub fn prepare(socket: &OwnedFd) -> io::Result<()> {
    setsockopt(socket, PassCred, &true)?;
    let socket = StdUnixDatagram::from(socket.try_clone()?);
    socket.set_nonblocking(true)?;
    // The kernel holds a few messages a socket (net.unix.max_dgram_qlen); nobody can be sending any.
    while socket.recv(&mut [0; 1]).is_ok() {}
    Ok(())
}

impl NotifySocket {
    /// The socket that the run with this main process was told.
    ///
    /// # Errors
    /// When the runtime cannot wait for it.
    pub fn new(socket: OwnedFd, main: u32) -> io::Result<NotifySocket> {
        let socket = StdUnixDatagram::from(socket);
        socket.set_nonblocking(true)?;
        Ok(NotifySocket { socket: UnixDatagram::from_std(socket)?, main })
    }

    /// Waits for `READY=1` from a process of the run.
    pub(super) async fn ready(&self) {
        for count in 1usize.. {
            if let Some(message) = self.receive(count).await
                && says_ready(&message.text)
                && message.sender.is_none_or(|sender| self.belongs(sender))
            {
                return;
            }
        }
    }

    /// Reads whatever else the run says: a sender waits for room in the socket.
    pub(super) async fn discard_for_ever(&self) {
        for count in 1usize.. {
            self.receive(count).await;
        }
    }

    async fn receive(&self, count: usize) -> Option<Received> {
        if count.is_multiple_of(MESSAGES_IN_A_ROW) {
            task::yield_now().await;
        }
        match self.socket.async_io(Interest::READABLE, || receive(&self.socket)).await {
            Ok(message) => Some(message),
            Err(error) => {
                // Nothing a sender does ends up here; a broken socket must not become a loop without a rest.
                tracing::debug!(%error, "cannot read a notify socket");
                time::sleep(time::Duration::from_secs(1)).await;
                None
            }
        }
    }

    /// Whether a process is the run's: its main process, one that descends from it, or one in its cgroup. One that has gone cannot
    /// be asked and is believed.
    fn belongs(&self, sender: u32) -> bool {
        let parent = |pid: &u32| Stat::of(*pid).ok().map(|stat| stat.parent).filter(|parent| *parent != 0);
        let mut lineage = std::iter::successors(Some(sender), parent).take(LINEAGE_MAX);
        lineage.any(|pid| pid == self.main)
            || match (cgroup(sender), cgroup(std::process::id())) {
                (None, _) => true,
                // A cgroup that is ours as well says nothing.
                (theirs, ours) => theirs != ours && theirs == cgroup(self.main),
            }
    }
}

/// A received message.
struct Received {
    text: Vec<u8>,
    sender: Option<u32>,
}

fn receive(socket: &UnixDatagram) -> io::Result<Received> {
    let mut text = vec![0; MESSAGE_SIZE_MAX];
    // Descriptors that come with a message are closed here. That is also what BARRIER=1 waits for.
    match fdpass::receive(socket.as_fd(), &mut text) {
        Ok(message) => {
            text.truncate(message.length);
            // Pid 0 is a process outside of our pid namespace.
            Ok(Received { text, sender: message.sender.filter(|pid| *pid != 0) })
        }
        // Too long, and lost.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Ok(Received { text: Vec::new(), sender: None })
        }
        Err(error) => Err(error),
    }
}

fn says_ready(text: &[u8]) -> bool {
    text.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

/// The v2 cgroup of a process, as its own namespace names it.
fn cgroup(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}
