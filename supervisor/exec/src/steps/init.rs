//! The init of a PID namespace of the program's own (pid_namespaces(7)).
//!
//! The problem: the first process of the namespace is its init. What is orphaned becomes its child, signals without a handler do
//! not reach it, and when it ends the kernel kills all others. Few programs are made for that. So the stage, which is
//! that process, stays and starts the program as its child. It does four things and nothing else:
//!
//! - It hands on what the child says to the spawner, and tells when the program is executed: the end of the socket cannot
//!   say that while the init has it open too.
//! - It reaps.
//! - It passes signals from outside to the program. All of them are blocked, which is what lets an init receive them.
//! - When the program ends it reports how, and ends. The kernel then kills what is left, and the spawner is told of the
//!   init's end when all of that is gone.
//!
//! A program that says who its main process is (`MAINPID=` of sd_notify(3)) may end and leave that behind. What it has said is heard
//! elsewhere, and may be heard after its end. So the init of such a one reports that and stays with those that are left, until
//! it is told whom to follow, or all of them have ended.
//!
//! A program that joins the PID namespace of a running one is a child of the stage as well, as only a child can be born there. The stage
//! stays outside then, and does the same four things; nothing but the program is its child.
//!
//! It has the program's user and hardly a right, and the program cannot trace it: its socket is its own.

use std::{
    io::{self, ErrorKind, stdin},
    os::fd::{AsFd, OwnedFd, RawFd},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{prctl::set_name, signal::Signal},
    unistd::{chdir, close, dup2_stderr, dup2_stdout, setsid},
};
use watt_os::{
    credentials, fdpass, pidfd, prctl,
    process::{self, Forked, Reap, Reaped},
    signals::{self, Received},
};

use crate::{
    error::{About, StepError},
    launch::Stage,
    plan::{Ended, LISTEN_FDS_START, Order, Report},
    report::ReportSocket,
    steps::parent_death,
};

/// More than the spawner accepts in one message.
const MESSAGE_SIZE_MAX: usize = 64 << 10;

/// What a shell adds to a signal's number for an exit status. Nobody but people reads ours.
const SIGNALED: i32 = 128;

/// How many ends of others are remembered after the program's.
const SINCE_MAX: usize = 64;

/// The way from the child that becomes the program to the init.
#[derive(Debug)]
pub(crate) struct Relay {
    to_init: ReportSocket,
    from_program: OwnedFd,
    signals: signals::Incoming,
}

/// Makes the way, as long as there is no limit of open files.
pub(crate) fn prepare(stage: &mut Stage<'_>) -> Result<(), StepError> {
    if stage.plan.namespaces.pid {
        let (to_init, from_program) = ReportSocket::pair().about("sockets")?;
        let signals = signals::Incoming::new().about("signals")?;
        stage.relay = Some(Relay { to_init, from_program, signals });
    }
    Ok(())
}

/// Goes on in a child, which is to become the program. The init does not come back from here.
pub(crate) fn stay_behind(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let Some(Relay { to_init, from_program, signals }) = stage.relay.take() else { return Ok(()) };
    // Before there is a child that could look.
    prctl::set_untraceable().about("prctl")?;
    // Who started the spawner may have ignored SIGCHLD: then the kernel would keep the child's status from us.
    signals::restore_defaults();
    match process::fork().about("fork")? {
        Forked::Child => {
            drop((from_program, signals));
            *stage.report = to_init;
            // Out of the init's session, as the leader of its own.
            setsid().map(drop).about("setsid")?;
            // An init takes the program with it when it ends; a stage outside of the namespace has to ask for that.
            match stage.joined.take() {
                Some(_) => parent_death::follow(stage.report),
                None => Ok(()),
            }
        }
        Forked::Parent(program) => {
            drop(to_init);
            let (listeners, notification) = (stage.plan.listeners, stage.plan.notification_fd);
            let hands_over = stage.plan.hands_over;
            // An init is to be small.
            stage.plan = Default::default();
            stage.domain = None;
            stage.streams = None;
            let is_outside = stage.joined.take().is_some();
            give_up_rights().about("capabilities")?;
            let program = Program::Runs { pid: program, pidfd: None, has_lost: false };
            let init = Init { report: stage.report, signals, program, is_outside, hands_over };
            std::process::exit(init.run(from_program, listeners, notification))
        }
    }
}

struct Init<'a> {
    report: &'a ReportSocket,
    signals: signals::Incoming,
    program: Program,
    /// Whether it is in no PID namespace with the program.
    is_outside: bool,
    /// See [`crate::plan::LaunchPlan::hands_over`].
    hands_over: bool,
}

/// Whom signals are passed to, and whose end is told.
enum Program {
    Runs {
        pid: u32,
        /// Where it is no child of this process, so that only its end is seen, and not how it ended.
        pidfd: Option<OwnedFd>,
        /// Whether it has said that another one is to be followed that had ended by then.
        has_lost: bool,
    },
    /// It has ended like this, and others have not.
    Left {
        pid: u32,
        ended: Option<Ended>,
        /// Whether that was told.
        is_told: bool,
        /// Those that have ended since.
        since: Vec<(u32, Ended)>,
    },
}

impl Init<'_> {
    /// Returns what to exit with.
    fn run(mut self, from_program: OwnedFd, listeners: u16, notification: Option<u16>) -> i32 {
        let_go(listeners, notification);
        self.relay(&from_program);
        // One number below a limit of open files is free.
        drop(from_program);
        while self.goes_on() {
            self.wait();
        }
        let Program::Left { ended, is_told, .. } = self.program else { return 1 };
        let report = match ended {
            Some(ended) => Some(Report::Ended(ended)),
            None => self.hands_over.then_some(Report::Left(None)),
        };
        // Without a spawner nobody has to know.
        let _ = report.filter(|_| !is_told).map(|report| self.report.send(&report, &[]));
        ended.map_or(1, |ended| if ended.signaled { SIGNALED + ended.code } else { ended.code })
    }

    /// Hands on what the child reports until execve(2), or its end, closes its socket.
    fn relay(&self, from_program: &OwnedFd) {
        let mut buffer = vec![0; MESSAGE_SIZE_MAX];
        let mut last = None;
        loop {
            let mut fds = [PollFd::new(from_program.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::NONE);
            let received = fdpass::receive(from_program.as_fd(), &mut buffer);
            let received = match received {
                Ok(received) if received.length == 0 => break,
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(_) => break,
            };
            let report = postcard::from_bytes(buffer.get(..received.length).unwrap_or_default()).ok();
            if let Some(report) = report {
                let descriptors: Vec<_> = received.descriptors.iter().map(AsFd::as_fd).collect();
                let _ = self.report.send(&report, &descriptors);
                last = Some(report);
            }
        }
        if last == Some(Report::Executing) {
            let _ = self.report.send(&Report::Executed, &[]);
        }
    }

    /// Reaps whoever has ended. Says whether there is anything left to be waited for.
    fn goes_on(&mut self) -> bool {
        loop {
            match (process::reap(), &mut self.program) {
                (Reap::Child(reaped), Program::Runs { pid, has_lost, .. }) if reaped.pid == *pid => {
                    let is_known = !*has_lost || reaped.signaled || reaped.code != 0;
                    self.program_ended(reaped.pid, is_known.then(|| ended(&reaped)));
                    if !self.hands_over {
                        return false;
                    }
                }
                (Reap::Child(reaped), Program::Left { since, .. }) => {
                    since.truncate(SINCE_MAX - 1);
                    since.insert(0, (reaped.pid, ended(&reaped)));
                }
                (Reap::Child(_), Program::Runs { .. }) => {}
                (Reap::NoneEnded, Program::Left { ended, is_told, .. }) if !*is_told => {
                    *is_told = true;
                    let _ = self.report.send(&Report::Left(*ended), &[]);
                }
                (Reap::NoneEnded, _) => return true,
                (Reap::NoChildren, Program::Runs { pid, .. }) => {
                    let pid = *pid;
                    self.program_ended(pid, None);
                    return false;
                }
                (Reap::NoChildren, Program::Left { .. }) => return false,
            }
        }
    }

    fn program_ended(&mut self, pid: u32, ended: Option<Ended>) {
        self.program = Program::Left { pid, ended, is_told: false, since: Vec::new() };
    }

    /// Waits for something to happen, and deals with it.
    fn wait(&mut self) {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        if self.hands_over {
            fds.push(PollFd::new(self.report.as_fd(), PollFlags::POLLIN));
        }
        if let Program::Runs { pidfd: Some(pidfd), .. } = &self.program {
            fds.push(PollFd::new(pidfd.as_fd(), PollFlags::POLLIN));
        }
        let _ = poll(&mut fds, PollTimeout::NONE);
        drop(fds);
        // Before the signals: one that comes after an order is for whom that names.
        if self.hands_over {
            self.obey();
        }
        while let Ok(Some(received)) = self.signals.next() {
            self.pass_on(received);
        }
        if let Program::Runs { pid, pidfd: Some(pidfd), .. } = &self.program
            && has_ended(pidfd)
            && !process::is_child(*pid)
        {
            let pid = *pid;
            self.program_ended(pid, None);
        }
    }

    /// A signal from the kernel or from outside. Not what the program, or one of its children, sends to its parent.
    fn pass_on(&self, Received { signal, sender }: Received) {
        let is_from_outside = sender == 0 || self.is_outside;
        if signal == Signal::SIGCHLD as i32 || !is_from_outside {
            return;
        }
        match &self.program {
            Program::Runs { pidfd: Some(pidfd), .. } => drop(pidfd::send_signal(pidfd, signal)),
            // Its number is its own until it is reaped.
            Program::Runs { pid, pidfd: None, .. } => drop(signals::send(*pid, signal)),
            Program::Left { .. } => {}
        }
    }

    fn obey(&mut self) {
        loop {
            match self.report.order() {
                Ok(Some(Order::Follow { pid })) => self.follow(pid),
                Ok(None) => return,
                Err(error) if error.kind() == ErrorKind::InvalidData => {}
                Err(_) => {
                    // The spawner has gone, and this process goes with it.
                    self.hands_over = false;
                    return;
                }
            }
        }
    }

    /// Makes another process the program.
    fn follow(&mut self, next: u32) {
        let found = find(next);
        // First: what was said of an end before this is of the program before.
        let _ = self.report.send(&Report::Follows, &[]);
        match &mut self.program {
            Program::Runs { pid, .. } if *pid == next => {}
            Program::Runs { has_lost, .. } if found.is_none() => *has_lost = true,
            // It has named itself before it ended.
            Program::Left { pid, ended, .. } if *pid == next && found.is_none() => {
                let ended = *ended;
                self.program_ended(next, ended);
            }
            Program::Left { since, .. } if found.is_none() => {
                let ended = since.iter().find(|(pid, _)| *pid == next).map(|(_, ended)| *ended);
                self.program_ended(next, ended);
            }
            Program::Runs { .. } | Program::Left { .. } => {
                let pidfd = found.flatten();
                self.program = Program::Runs { pid: next, pidfd, has_lost: false };
            }
        }
    }
}

/// A process that can be followed, with its pidfd where it is no child of this one. An init is nobody's program.
fn find(pid: u32) -> Option<Option<OwnedFd>> {
    if pid == std::process::id() {
        return None;
    }
    if process::is_child(pid) {
        return Some(None);
    }
    Some(Some(pidfd::open(pid).ok()?))
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// An init needs no right but to signal a program that has become another user.
fn give_up_rights() -> io::Result<()> {
    const KILL: u64 = 1 << 5;
    credentials::set_capabilities(credentials::permitted()? & KILL, 0)
}

/// Lets go of what is the program's: its output ends when it closes it, its listeners when it ends, its folder can be unmounted.
fn let_go(listeners: u16, notification: Option<u16>) {
    // Standard input is /dev/null.
    let _ = dup2_stdout(stdin());
    let _ = dup2_stderr(stdin());
    let listeners = LISTEN_FDS_START..LISTEN_FDS_START + RawFd::from(listeners);
    for number in listeners.chain(notification.map(RawFd::from)) {
        // Nothing here owns it since it was handed on.
        let _ = close(number);
    }
    let _ = chdir("/");
    // For ps(1).
    let _ = set_name(c"watt-init");
}

fn ended(&Reaped { code, signaled, core_dumped, .. }: &Reaped) -> Ended {
    Ended { code, signaled, core_dumped }
}
