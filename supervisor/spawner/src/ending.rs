//! The end of an application.

use std::{
    fs, io,
    net::Shutdown,
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{Signal, kill},
        statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs},
    },
    unistd::Pid,
};
use socket2::SockRef;
use watt_os::{
    pidfd,
    process::{self, Reap},
};

use crate::{
    Error,
    notes::{self, LAST_PATIENCE, note},
    spawner::Spawner,
};

/// How it is to end.
#[derive(Debug)]
pub(crate) struct End {
    /// What to exit with.
    pub(crate) status: Result<i32, Error>,
    /// `cgroup.procs` files to join.
    pub(crate) join_cgroups: Vec<PathBuf>,
    /// Directories to remove.
    pub(crate) remove: Vec<PathBuf>,
    /// Directories to remove then, if nothing is in them.
    pub(crate) remove_if_empty: Vec<PathBuf>,
}

/// Whether the disk that our lines go to takes them.
#[derive(Debug, Clone, Copy)]
enum Disk {
    Works,
    Hangs,
}

/// How long a daemon that has said its last word may take to end by itself.
const DAEMON_PATIENCE: Duration = Duration::from_secs(2);

/// How long killed processes may take to be gone. More than this is a process the kernel itself is stuck in.
const KILL_PATIENCE: Duration = Duration::from_secs(10);

impl End {
    /// Ends with this status and nothing else to do.
    pub(crate) fn with(status: i32) -> Self {
        Self::as_it_is(Ok(status))
    }

    /// Ends with an error.
    pub(crate) fn failed(error: Error) -> Self {
        Self::as_it_is(Err(error))
    }

    fn as_it_is(status: Result<i32, Error>) -> Self {
        Self { status, join_cgroups: Vec::new(), remove: Vec::new(), remove_if_empty: Vec::new() }
    }
}

impl Spawner {
    /// Ends every process, closes everything, and clears up.
    pub(crate) fn finish(mut self, end: End) -> Result<i32, Error> {
        for run in self.holdings.runs.values().filter(|run| run.exit.is_none()) {
            let _ = pidfd::send_signal(&*run.pidfd, Signal::SIGKILL as i32);
        }
        if let Some(up) = self.daemon.up() {
            // The last thing a daemon waits for.
            let _ = SockRef::from(&up.socket).shutdown(Shutdown::Both);
        }
        let disk = self.wait_for_children();
        self.holdings.listeners.values().for_each(|listener| listener.unlink());
        // What workers have made is closed by the end of this process, which waits for nobody.
        let holdings = &mut self.holdings;
        holdings.kept.values().for_each(|kept| self.discarded.push(kept.clone()));
        let sockets = holdings.listeners.values().filter(|listener| listener.is_datagram());
        sockets.for_each(|listener| self.discarded.push(listener.socket.clone()));
        self.discarded.leave();
        // The lock is held until everything is cleared up: a next life must not meet that.
        let (mut launcher, _lock) = self.close();
        for procs in &end.join_cgroups {
            if let Err(error) = fs::write(procs, "0") {
                note(format_args!("cannot join {}: {error}", procs.display()));
            }
        }
        for directory in &end.remove {
            if let Err(error) = remove(directory) {
                note(format_args!("cannot remove {}: {error}", directory.display()));
            }
        }
        for directory in &end.remove_if_empty {
            // What is in it belongs to others: then it stays.
            let _ = fs::remove_dir(directory);
        }
        match disk {
            Disk::Works => notes::write_last(&mut launcher),
            // A second process would hang there as well. The journal has the lines, if there is one.
            Disk::Hangs => {}
        }
        end.status
    }

    /// Kills and reaps until there is no child. Orphans of the killed ones come to us, which is why the
    /// children are listed anew each time. The writer of our own lines is not waited for when it is the last one and hangs: on some
    /// disks it is not gone before they work again.
    fn wait_for_children(&mut self) -> Disk {
        let begin = Instant::now();
        let mut disk = Disk::Works;
        loop {
            loop {
                match process::reap() {
                    Reap::Child(reaped) => self.reaped(&reaped),
                    Reap::NoneEnded => break,
                    Reap::NoChildren => return disk,
                }
            }
            let elapsed = begin.elapsed();
            let writer = self.writer.pid().filter(|_| elapsed > LAST_PATIENCE);
            if writer.is_some() {
                disk = Disk::Hangs;
            }
            let children = process::children();
            self.kill_children(&children, elapsed);
            if writer.is_some_and(|writer| children == [writer]) {
                return disk;
            }
            if elapsed > KILL_PATIENCE {
                note(format_args!("processes do not end although they were killed"));
                return disk;
            }
            self.wait_for_signal();
        }
    }

    /// The daemon has a last word to say, and our own lines may be on their way to the disk. All others have had their time.
    fn kill_children(&mut self, children: &[u32], elapsed: Duration) {
        let daemon = self.daemon.up().map(|up| up.pid).filter(|_| elapsed <= DAEMON_PATIENCE);
        let writer = self.writer.pid().filter(|_| elapsed <= LAST_PATIENCE);
        for pid in children.iter().filter(|pid| ![daemon, writer].contains(&Some(**pid))) {
            // A child's number stays its own until we reap it.
            if let Ok(raw) = i32::try_from(*pid) {
                let _ = kill(Pid::from_raw(raw), Signal::SIGKILL);
            }
        }
        if elapsed > DAEMON_PATIENCE {
            // Where the kernel does not list children.
            self.daemon.kill("does not end");
        }
    }

    fn wait_for_signal(&self) {
        let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(50u8));
        while let Ok(Some(_)) = self.signals.next() {}
    }
}

/// Removes a directory with everything in it.
fn remove(directory: &Path) -> io::Result<()> {
    let kind = statfs(directory)?.filesystem_type();
    if kind == CGROUP2_SUPER_MAGIC || kind == CGROUP_SUPER_MAGIC {
        remove_cgroup(directory)
    } else {
        watt_os::remove::tree(directory)
    }
}

/// A cgroup's files go with it; only groups below it are in the way.
fn remove_cgroup(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    // The kernel takes a moment to see that the last process is gone.
    for _ in 0..100 {
        match fs::remove_dir(directory) {
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
                let _ = poll(&mut [], PollTimeout::from(10u8));
            }
            result => return result,
        }
    }
    Err(Errno::EBUSY.into())
}
