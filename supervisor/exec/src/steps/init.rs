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
    credentials, fdpass, prctl,
    process::{self, Forked, Reap, Reaped},
    signals::{self, Received},
};

use crate::{
    error::{About, StepError},
    launch::Stage,
    plan::{Ended, LISTEN_FDS_START, Report},
    report::ReportSocket,
    steps::parent_death,
};

/// More than the spawner accepts in one message.
const MESSAGE_SIZE_MAX: usize = 64 << 10;

/// What a shell adds to a signal's number for an exit status. Nobody but people reads ours.
const SIGNALED: i32 = 128;

/// The way from the child that becomes the program to the init.
#[derive(Debug)]
pub(crate) struct Relay {
    to_init: ReportSocket,
    from_program: OwnedFd,
}

/// Makes the way, as long as there is no limit of open files.
pub(crate) fn prepare(stage: &mut Stage<'_>) -> Result<(), StepError> {
    if stage.plan.namespaces.pid {
        let (to_init, from_program) = ReportSocket::pair().about("sockets")?;
        stage.relay = Some(Relay { to_init, from_program });
    }
    Ok(())
}

/// Goes on in a child, which is to become the program. The init does not come back from here.
pub(crate) fn stay_behind(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let Some(Relay { to_init, from_program }) = stage.relay.take() else { return Ok(()) };
    // Before there is a child that could look.
    prctl::set_untraceable().about("prctl")?;
    // Who started the spawner may have ignored SIGCHLD: then the kernel would keep the child's status from us.
    signals::restore_defaults();
    match process::fork().about("fork")? {
        Forked::Child => {
            drop(from_program);
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
            // An init is to be small.
            stage.plan = Default::default();
            stage.domain = None;
            stage.streams = None;
            let is_outside = stage.joined.take().is_some();
            give_up_rights().about("capabilities")?;
            let init = Init { report: stage.report, from_program, program, is_outside };
            std::process::exit(init.run(listeners, notification))
        }
    }
}

struct Init<'a> {
    report: &'a ReportSocket,
    from_program: OwnedFd,
    program: u32,
    /// Whether it is in no PID namespace with the program.
    is_outside: bool,
}

impl Init<'_> {
    /// Returns what to exit with.
    fn run(self, listeners: u16, notification: Option<u16>) -> i32 {
        let_go(listeners, notification);
        self.relay();
        let Some(ended) = self.wait_for_end() else { return 1 };
        // Without a spawner nobody has to know.
        let _ = self.report.send(&Report::Ended(ended), &[]);
        if ended.signaled { SIGNALED + ended.code } else { ended.code }
    }

    /// Hands on what the child reports until execve(2), or its end, closes its socket.
    fn relay(&self) {
        let mut buffer = vec![0; MESSAGE_SIZE_MAX];
        let mut last = None;
        loop {
            let mut fds = [PollFd::new(self.from_program.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut fds, PollTimeout::NONE);
            let received = fdpass::receive(self.from_program.as_fd(), &mut buffer);
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

    /// Reaps, and passes signals on, until the program has ended. `None` cannot be: the kernel has no status for it.
    fn wait_for_end(&self) -> Option<Ended> {
        loop {
            loop {
                match process::reap() {
                    Reap::Child(reaped) if reaped.pid == self.program => return Some(ended(&reaped)),
                    Reap::Child(_) => {}
                    Reap::NoneEnded => break,
                    Reap::NoChildren => return None,
                }
            }
            match signals::wait() {
                // From the kernel or from outside. Not what the program, or one of its children, sends to its parent.
                Ok(Received { signal, sender })
                    if signal != Signal::SIGCHLD as i32 && (sender == 0 || self.is_outside) =>
                {
                    // Its number is its own until it is reaped.
                    let _ = signals::send(self.program, signal);
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
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
