//! Starting processes in the exec stage, and listening to what it reports.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, OFlag, fcntl},
    sys::resource::{Resource, getrlimit, setrlimit},
    unistd::{Uid, pipe2},
};
use serde::{Deserialize, Serialize};
use watt_exec::plan::{Ended, Failure, Order, Probe, Report};
use watt_os::{
    fdpass,
    process::{self, Child, Isolation, Slots, SpawnError},
};

use crate::{stage::exec_stage, wire};

/// Descriptors that a start takes: the stage, five of its own, and those that are passed on, of which a worker has one.
const SLOTS: u16 = 16;

/// What every start needs.
#[derive(Debug)]
pub(crate) struct Launcher {
    /// `None` where a child starts with a copy of all descriptors of ours.
    slots: Option<Slots>,
    stage: OwnedFd,
    argv: [CString; 1],
    null: File,
    /// The limit of descriptors that this process was started with.
    nofile: (u64, u64),
}

/// What a process in the exec stage starts with.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    /// The sealed task.
    pub(crate) task: BorrowedFd<'a>,
    /// Standard output and error; `None` for nowhere to write to.
    pub(crate) streams: Option<[BorrowedFd<'a>; 2]>,
    /// Descriptors from `LISTEN_FDS_START + 2` on.
    pub(crate) passed: &'a [BorrowedFd<'a>],
    /// The v2 cgroup to start in.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// Whether it keeps our own raised limit of descriptors.
    pub(crate) raised_limit: bool,
    /// The namespaces that only a clone can make.
    pub(crate) isolation: Isolation,
}

impl Launcher {
    /// Raises this process's own limit of descriptors as far as it goes: it holds those of all runs. Programs
    /// get the limit that was there before, because some of them cannot deal with a larger one (select(2)).
    ///
    /// `before` is that limit where another program has raised it already.
    pub(crate) fn new(before: Option<(u64, u64)>) -> io::Result<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok(Self {
            slots: Slots::reserve(SLOTS)?,
            stage: exec_stage()?,
            argv: [c"watt-exec".into()],
            null: File::options().read(true).write(true).open("/dev/null")?,
            nofile: before.unwrap_or((soft, hard)),
        })
    }

    /// The limit of descriptors that programs get.
    pub(crate) fn nofile(&self) -> (u64, u64) {
        self.nofile
    }

    /// Starts a process in the exec stage.
    pub(crate) fn start(&mut self, start: &Start<'_>) -> Result<(Child, Reports), SpawnError> {
        let (ours, theirs) = report_sockets().map_err(at("socketpair"))?;
        let null = self.null.as_fd();
        let [output, error] = start.streams.unwrap_or([null; 2]);
        let mut descriptors = vec![null, output, error, start.task, theirs.as_fd()];
        descriptors.extend(start.passed);
        let launch = process::Launch {
            program: self.stage.as_fd(),
            argv: &self.argv,
            // The stage takes nothing from its environment; the program's comes with its plan.
            env: &[],
            descriptors: &descriptors,
            cgroup: start.cgroup,
            nofile: (!start.raised_limit).then_some(self.nofile),
            isolation: start.isolation,
        };
        let child = match &mut self.slots {
            Some(slots) => process::spawn_through(slots, &launch)?,
            None => process::spawn(&launch)?,
        };
        Ok((child, Reports::new(ours)))
    }
}

/// Our end does not block; the stage's does, because we always read.
fn report_sockets() -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs) = fdpass::seqpacket_pair()?;
    fcntl(&theirs, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok((ours, theirs))
}

/// A pipe for a program's output: the read end does not block, the write end does. The larger its buffer, the
/// longer a program can go on while nobody reads.
///
/// `pipes` is how many there are already: the buffers of one ordinary user count against
/// `fs.pipe-user-pages-soft` (pipe(7), 64 MiB by default), beyond which further pipes get one page. And even
/// an empty large buffer costs the kernel 10 kB. So the first ones are large and the rest have the usual 64
/// KiB.
pub(crate) fn output_pipe(pipes: usize) -> nix::Result<(OwnedFd, OwnedFd)> {
    const SIZE: i32 = 1 << 20;
    const LARGE_MAX: usize = 128;
    const LARGE_MAX_UNPRIVILEGED: usize = 32;
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let large = if Uid::effective().is_root() { LARGE_MAX } else { LARGE_MAX_UNPRIVILEGED };
    if pipes < large {
        // Refused above the limits; the pipe works as well with a smaller buffer.
        let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(SIZE));
    }
    Ok((read, write))
}

/// What one process in the exec stage has said so far.
#[derive(Debug)]
pub(crate) struct Reports {
    socket: OwnedFd,
    /// What there was besides descriptors.
    pub(crate) said: Said,
    /// The descriptors it made, with their names.
    pub(crate) descriptors: Vec<(String, OwnedFd)>,
    /// How its program ended, when it stayed as the init beside it.
    pub(crate) ended: Option<Ended>,
    /// That its program has ended and left others there, which is news until somebody takes it.
    pub(crate) left: Option<Left>,
    /// Orders that it has not answered. What it says of an end before it has is void.
    pub(crate) orders: u32,
    /// Whether we had no room for some of them. What is started without them is not what was asked for.
    pub(crate) lost_descriptors: bool,
}

/// How a program ended that has left others in its PID namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Left(pub(crate) Option<Ended>);

/// The last thing the stage said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Said {
    /// Nothing yet. When it ends like that, it was killed or it crashed.
    Nothing,
    /// That execve(2) is next.
    Executing,
    /// That the program is executed, and that it stays as the init beside it.
    Executed,
    /// That a step failed.
    Failed(Failure),
    /// What the host allows.
    Probe(Box<Probe>),
}

/// The most descriptors taken from one stage: two messages full.
const DESCRIPTORS_MAX: usize = 506;

/// The longest name of a descriptor in bytes. So a full set of names fits in a message.
const NAME_SIZE_MAX: usize = 64;

/// The longest text of a failure in bytes, cut when it is longer: a program's name has no bound of its own.
const TEXT_SIZE_MAX: usize = 8 << 10;

impl Reports {
    pub(crate) fn new(socket: OwnedFd) -> Self {
        let (said, descriptors) = (Said::Nothing, Vec::new());
        Self { socket, said, descriptors, ended: None, left: None, orders: 0, lost_descriptors: false }
    }

    /// Takes in what has arrived. Returns whether that was all: the stage has ended, in its program or
    /// otherwise. One that stays as an init has one thing more to say, at its end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> bool {
        loop {
            match fdpass::receive(self.socket.as_fd(), buffer) {
                Ok(received) if received.length == 0 => return true,
                Ok(received) => {
                    self.lost_descriptors |= received.lost_descriptors;
                    let report = buffer.get(..received.length).map(wire::decode);
                    if let Some(Ok(report)) = report {
                        let executed = report == Report::Executed;
                        self.take(report, received.descriptors);
                        if executed {
                            return true;
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // Cut, because it is longer than any that the stage sends: nothing to keep, but there may be more.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
                Err(_) => return true,
            }
        }
    }

    /// Tells an init what to do. Says whether it will hear that.
    pub(crate) fn order(&mut self, order: Order) -> bool {
        // A number always has a form.
        let bytes = postcard::to_stdvec(&order).unwrap_or_default();
        let is_sent = fdpass::send(self.socket.as_fd(), &bytes, &[]).is_ok();
        self.orders += u32::from(is_sent);
        is_sent
    }

    fn take(&mut self, report: Report, descriptors: Vec<OwnedFd>) {
        match report {
            Report::Descriptors { names } => {
                let room = DESCRIPTORS_MAX - self.descriptors.len();
                let named =
                    names.into_iter().zip(descriptors).filter(|(name, _)| name.len() <= NAME_SIZE_MAX);
                self.descriptors.extend(named.take(room));
            }
            Report::Executing => self.said = Said::Executing,
            Report::Failed(Failure { step, object, errno }) => {
                self.said = Said::Failed(Failure { step: cut(step), object: cut(object), errno });
            }
            Report::Executed => self.said = Said::Executed,
            Report::Ended(ended) => self.ended = Some(ended),
            Report::Left(ended) => {
                self.ended = ended;
                self.left = (self.orders == 0).then_some(Left(ended));
            }
            Report::Follows => {
                self.ended = None;
                self.orders = self.orders.saturating_sub(1);
            }
            Report::Probe(probe) => self.said = Said::Probe(Box::new(probe)),
        }
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_SIZE_MAX));
    text
}

impl AsFd for Reports {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Names the failed call of a start.
pub(crate) fn at<E: Into<io::Error>>(step: &'static str) -> impl Fn(E) -> SpawnError {
    move |error| {
        let errno = error.into().raw_os_error().map_or(Errno::EINVAL, Errno::from_raw);
        SpawnError { step, errno }
    }
}
