//! Runs and whatever else the spawner holds for the daemon: what the list tells.

use std::{
    collections::BTreeMap,
    mem,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
    time::{SystemTime, UNIX_EPOCH},
};

use nix::{errno::Errno, sys::signal::Signal};
use watt_exec::plan::{Ended, Failure, TERMINAL};
use watt_os::{fdpass, pidfd, process::Reaped};

use crate::{
    launch::{Left, Reports, Said},
    listeners::Listener,
    outbox::Told,
    protocol::{Message, Stage, WaitStatus},
};

/// Everything that outlives a daemon.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    /// In boxes, because a map keeps room for more than it has.
    pub(crate) runs: BTreeMap<u64, Box<Run>>,
    pub(crate) listeners: BTreeMap<String, Listener>,
    pub(crate) kept: BTreeMap<String, Rc<OwnedFd>>,
    pub(crate) values: BTreeMap<String, Vec<u8>>,
    /// The bytes of all keys and values.
    pub(crate) values_size: usize,
}

impl Holdings {
    /// A listener or kept descriptor to pass on.
    pub(crate) fn to_pass(&self, name: &str) -> Option<BorrowedFd<'_>> {
        let listener = self.listeners.get(name).map(|listener| &listener.socket);
        listener.or_else(|| self.kept.get(name)).map(|fd| fd.as_fd())
    }
}

/// One process that the daemon asked for, from its clone until the daemon forgets it.
#[derive(Debug)]
pub(crate) struct Run {
    /// The daemon's note.
    pub(crate) tag: Vec<u8>,
    /// Its number. After `exit` it may be another process's. In a PID namespace of its own it is the init, which passes
    /// signals on. Otherwise a later main process may have taken the place of the first ([`crate::follow`]).
    pub(crate) pid: u32,
    pub(crate) pidfd: Rc<OwnedFd>,
    pub(crate) stdout: Rc<OwnedFd>,
    pub(crate) stderr: Rc<OwnedFd>,
    /// How far it has come.
    pub(crate) stage: Stage,
    /// What it says while it is in the exec stage: key of [`crate::spawner::Spawner`]'s stages.
    pub(crate) reports: Option<u64>,
    /// What its init will say, when it has one and that has said that the program is executed, until it is reaped: its program may have
    /// ended before.
    pub(crate) init: Option<Box<Reports>>,
    /// The descriptors that the stage made and that are to be kept.
    pub(crate) kept: Vec<(String, Rc<OwnedFd>)>,
    pub(crate) exit: Option<WaitStatus>,
}

/// Descriptors kept of one run: what one message carries besides its first three.
const KEPT_MAX: usize = fdpass::DESCRIPTORS_MAX - 3;

/// The names of descriptors that are passed on and not kept. A terminal hangs up when whoever looks at it has gone.
const PASSED_ON: [&str; 2] = ["socket", TERMINAL];

impl Run {
    /// Notes the end of the exec stage. Returns what to tell the daemon, if it is known already: a stage that
    /// ended without a word died, and its exit says how.
    pub(crate) fn stage_ended(&mut self, run: u64, mut reports: Reports) -> Option<Told> {
        self.reports = None;
        if reports.lost_descriptors {
            // Its exit follows, as that of a stage that failed.
            let _ = pidfd::send_signal(&*self.pidfd, Signal::SIGKILL as i32);
            let (step, object) = ("descriptors".into(), String::new());
            return Some(self.failed(run, Failure { step, object, errno: Errno::EMFILE as i32 }));
        }
        match mem::replace(&mut reports.said, Said::Nothing) {
            Said::Executing => Some(self.executed(run, reports.descriptors)),
            Said::Executed => {
                let made = mem::take(&mut reports.descriptors);
                self.init = Some(Box::new(reports));
                Some(self.executed(run, made))
            }
            Said::Failed(failure) => Some(self.failed(run, failure)),
            Said::Nothing | Said::Probe(_) => None,
        }
    }

    /// How it ended: the program, where the reaped process was its init and lived to tell.
    pub(crate) fn wait_status(&mut self, reaped: &Reaped, buffer: &mut [u8]) -> WaitStatus {
        let init = self.init.take().map(|mut init| {
            init.read(buffer);
            *init
        });
        let own = wait_status(reaped);
        match init {
            // It was to go on in another process, and had ended before it heard that: nobody was left.
            Some(Reports { ended: Some(Ended { code: 0, signaled: false, .. }), orders: 1.., .. }) => {
                WaitStatus { code: WaitStatus::UNSEEN, ..own }
            }
            Some(Reports { ended: Some(ended), .. }) => of_program(own, ended),
            Some(Reports { left: Some(Left(None)), .. }) => WaitStatus { code: WaitStatus::UNSEEN, ..own },
            Some(_) | None => own,
        }
    }

    fn executed(&mut self, run: u64, made: Vec<(String, OwnedFd)>) -> Told {
        self.stage = Stage::Executed;
        let made = made.into_iter().map(|(name, fd)| (name, Rc::new(fd)));
        let (sockets, mut others): (Vec<_>, Vec<_>) =
            made.partition(|(name, _)| PASSED_ON.contains(&name.as_str()));
        others.truncate(KEPT_MAX);
        self.kept.clone_from(&others);
        others.extend(sockets);
        others.truncate(fdpass::DESCRIPTORS_MAX);
        let (names, descriptors) = others.into_iter().unzip();
        (Message::Executed { run, names }, descriptors)
    }

    fn failed(&mut self, run: u64, failure: Failure) -> Told {
        let Failure { step, object, errno } = failure;
        self.stage = Stage::Failed { step: step.clone(), object: object.clone(), errno };
        (Message::ExecFailed { run, step, object, errno }, Vec::new())
    }

    /// Notes the exit. Returns what to tell the daemon before it, when the exec stage itself died.
    pub(crate) fn exited(&mut self, run: u64, exit: WaitStatus) -> Option<Told> {
        self.exit = Some(exit);
        (self.stage == Stage::Preparing).then(|| {
            let how = if exit.signaled { "was killed by signal" } else { "ended with status" };
            let object = format!("watt-exec {how} {} before the program was executed", exit.code);
            self.failed(run, Failure { step: "stage".into(), object, errno: Errno::ECANCELED as i32 })
        })
    }

    /// As the list tells it, with its descriptors.
    pub(crate) fn describe(&self, run: u64) -> Told {
        let mut descriptors = vec![self.pidfd.clone(), self.stdout.clone(), self.stderr.clone()];
        descriptors.extend(self.kept.iter().map(|(_, fd)| fd.clone()));
        let message = Message::Run {
            run,
            tag: self.tag.clone(),
            pid: self.pid,
            stage: self.stage.clone(),
            exit: self.exit,
            names: self.kept.iter().map(|(name, _)| name.clone()).collect(),
        };
        (message, descriptors)
    }

    /// The kept descriptor of this name.
    pub(crate) fn kept(&self, wanted: &str) -> Option<&OwnedFd> {
        self.kept.iter().find(|(name, _)| name == wanted).map(|(_, fd)| &**fd)
    }
}

/// The status of a process that has ended without being reaped here.
pub(crate) fn unreaped(ended: Option<Ended>) -> WaitStatus {
    let unseen = WaitStatus {
        code: WaitStatus::UNSEEN,
        signaled: false,
        core_dumped: false,
        at_ms: now_ms(),
        cpu_us: 0,
        rss_max: 0,
    };
    ended.map_or(unseen, |ended| of_program(unseen, ended))
}

fn of_program(own: WaitStatus, Ended { code, signaled, core_dumped }: Ended) -> WaitStatus {
    WaitStatus { code, signaled, core_dumped, ..own }
}

/// The protocol's form of a status, dated now.
fn wait_status(reaped: &Reaped) -> WaitStatus {
    WaitStatus {
        code: reaped.code,
        signaled: reaped.signaled,
        core_dumped: reaped.core_dumped,
        at_ms: now_ms(),
        cpu_us: u64::try_from(reaped.cpu.as_micros()).unwrap_or(u64::MAX),
        rss_max: reaped.rss_max,
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
