//! Short jobs of the exec stage for the daemon: sockets made in a worker's network, and the probe of the
//! host.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
    time::{Duration, Instant},
};

use nix::{errno::Errno, sys::signal::Signal};
use watt_exec::plan::Task;
use watt_os::{
    memfd, pidfd,
    process::{Isolation, SpawnError},
};

use crate::{
    launch::{Launcher, Reports, Said, Start, at},
    outbox::Told,
    protocol::Message,
    runs::Run,
};

/// Requests are not read while so many errands are under way.
pub(crate) const ERRANDS_MAX: usize = 16;

/// How long an errand may take before it is killed and counts as failed. They take a few milliseconds.
const TIME_MAX: Duration = Duration::from_secs(10);

/// An errand under way.
#[derive(Debug)]
pub(crate) struct Errand {
    kind: Kind,
    /// Its process.
    pub(crate) pidfd: OwnedFd,
    /// When it is killed.
    pub(crate) deadline: Instant,
}

/// What it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Sockets in the network of this run.
    Sockets(u64),
    /// The probe of the host.
    Probe,
}

impl Errand {
    /// Starts making sockets in the run's network.
    pub(crate) fn sockets(
        launcher: &mut Launcher,
        id: u64,
        run: &Run,
        count: u16,
    ) -> Result<(Self, Reports), SpawnError> {
        let user = run.kept("userns");
        let network = run.kept("netns").ok_or(Errno::ENONET).map_err(at("netns"))?;
        let passed: Vec<BorrowedFd<'_>> = user.into_iter().chain([network]).map(AsFd::as_fd).collect();
        let task = Task::MakeSockets { user_namespace: user.is_some(), count };
        Self::start(launcher, Kind::Sockets(id), &task, &passed)
    }

    /// Starts probing the host.
    pub(crate) fn probe(launcher: &mut Launcher) -> Result<(Self, Reports), SpawnError> {
        Self::start(launcher, Kind::Probe, &Task::Probe, &[])
    }

    fn start(
        launcher: &mut Launcher,
        kind: Kind,
        task: &Task,
        passed: &[BorrowedFd<'_>],
    ) -> Result<(Self, Reports), SpawnError> {
        let task = postcard::to_stdvec(task).map_err(|_| Errno::EINVAL).map_err(at("encode"))?;
        let task = memfd::sealed(c"watt-task", &task).map_err(at("memfd_create"))?;
        let (child, reports) = launcher.start(&Start {
            task: task.as_fd(),
            streams: None,
            passed,
            cgroup: None,
            raised_limit: true,
            isolation: Isolation::None,
        })?;
        let deadline = Instant::now() + TIME_MAX;
        Ok((Self { kind, pidfd: child.pidfd, deadline }, reports))
    }

    /// Ends it. Its report socket ends too, which answers the daemon.
    pub(crate) fn kill(&self) {
        let _ = pidfd::send_signal(&self.pidfd, Signal::SIGKILL as i32);
    }

    /// The answer, once the errand has said all.
    pub(crate) fn answer(self, reports: Reports) -> Told {
        match self.kind {
            Kind::Sockets(run) => {
                let errno = match reports.said {
                    _ if !reports.descriptors.is_empty() => 0,
                    Said::Failed(failure) => failure.errno,
                    Said::Nothing | Said::Executing | Said::Executed | Said::Probe(_) => {
                        Errno::ECANCELED as i32
                    }
                };
                let sockets =
                    reports.descriptors.into_iter().map(|(_, socket)| Rc::new(socket)).take(SOCKETS_MAX);
                (Message::Sockets { run, errno }, sockets.collect())
            }
            Kind::Probe => {
                let probe = match reports.said {
                    Said::Probe(probe) => postcard::to_stdvec(&*probe).unwrap_or_default(),
                    Said::Nothing | Said::Executing | Said::Executed | Said::Failed(_) => Vec::new(),
                };
                (Message::Probe { probe }, Vec::new())
            }
        }
    }
}

/// What one message carries and one request asks for.
const SOCKETS_MAX: usize = 250;

/// The answer when an errand could not even be started.
pub(crate) fn refusal(kind: Kind, errno: Errno) -> Message {
    match kind {
        Kind::Sockets(run) => Message::Sockets { run, errno: errno as i32 },
        Kind::Probe => Message::Probe { probe: Vec::new() },
    }
}
