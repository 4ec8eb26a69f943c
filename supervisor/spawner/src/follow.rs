//! A run that goes on in another process: what a program says by `MAINPID=` (sd_notify(3)), and the daemon has found to be one of the run's.
//!
//! Without a PID namespace of its own that process is ours to watch. Most often it is an orphan by then, which has come to us as the
//! subreaper, and is reaped with its status like any other child. It may also be somebody else's child; then its pidfd tells that
//! it has ended, and nobody how, unless its parent ends first and leaves it to us.
//!
//! In a PID namespace of its own the init does the same, and says how it went.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    rc::Rc,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::epoll::{EpollEvent, EpollFlags},
};
use watt_exec::plan::Order;
use watt_os::process;

use crate::{
    launch::Left,
    notes::note,
    protocol::{Message, WaitStatus},
    runs::{Run, unreaped},
    spawner::Spawner,
};

/// How long an init may take to answer before another program takes over: a moment, unless somebody has stopped it.
const ANSWERS_PATIENCE: Duration = Duration::from_secs(1);

/// What is listened to besides processes in the exec stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    /// The init of this run, on the socket of its reports.
    Init(u64),
    /// The main process of this run, which was no child of ours, by its pidfd.
    Main(u64),
}

impl Watched {
    /// Of which run.
    pub(crate) fn run(self) -> u64 {
        match self {
            Watched::Init(run) | Watched::Main(run) => run,
        }
    }
}

impl Spawner {
    /// Goes on with another main process of a run.
    pub(crate) fn follow_main(&mut self, id: u64, pid: u32, descriptors: Vec<OwnedFd>) {
        let Some(run) = self.holdings.runs.get_mut(&id) else {
            return note(format_args!("no such run to go on with: run {id}"));
        };
        let taken = match (descriptors.into_iter().next(), &mut run.init) {
            (None, Some(init)) => {
                let is_told = init.order(Order::Follow { pid });
                if is_told {
                    run.exit = None;
                }
                is_told
            }
            // A check or a command inside the worker is a run of its own.
            (Some(_), None) if self.pids.get(&pid).is_some_and(|other| *other != id) => false,
            (Some(pidfd), None) => {
                // Whoever had the part before is an orphan like others from here on.
                take_out(&mut self.pids, run.pid, id);
                self.watched.retain(|_, watched| watched.run() != id);
                (run.pid, run.pidfd, run.exit) = (pid, Rc::new(pidfd), None);
                self.watch_main(id);
                true
            }
            (None, None) | (Some(_), Some(_)) => false,
        };
        self.outbox.push((Message::Followed { run: id, taken }, Vec::new()));
        if let Some(exit) = self.holdings.runs.get(&id).and_then(|run| run.exit) {
            self.outbox.push_about(id, (Message::Exited { run: id, exit }, Vec::new()));
        }
    }

    /// Has the end of a run's main process noticed.
    pub(crate) fn watch_main(&mut self, id: u64) {
        let Some(Run { pid, pidfd, .. }) = self.holdings.runs.get(&id).map(|run| &**run) else { return };
        if process::is_child(*pid) {
            self.pids.insert(*pid, id);
            return;
        }
        let (pid, pidfd, token) = (*pid, Rc::clone(pidfd), self.token());
        match self.epoll.add(&pidfd, EpollEvent::new(EpollFlags::EPOLLIN, token)) {
            Ok(()) => drop(self.watched.insert(token, Watched::Main(id))),
            Err(errno) => note(format_args!("the end of process {pid} will not be noticed: {errno}")),
        }
    }

    /// Listens to the init of a run again, after another program has taken over.
    pub(crate) fn watch_init(&mut self, id: u64) {
        let token = self.token();
        let Some(init) = self.holdings.runs.get(&id).and_then(|run| run.init.as_deref()) else { return };
        match self.epoll.add(init, EpollEvent::new(EpollFlags::EPOLLIN, token)) {
            Ok(()) => drop(self.watched.insert(token, Watched::Init(id))),
            // Its own end is noticed all the same.
            Err(errno) => note(format_args!("cannot listen to the init of run {id}: {errno}")),
        }
    }

    /// Something has happened to what is listened to.
    pub(crate) fn look_at(&mut self, token: u64) {
        match self.watched.get(&token) {
            Some(Watched::Init(id)) => self.hear_init(token, *id),
            Some(Watched::Main(id)) => self.main_ended(token, *id),
            None => {}
        }
    }

    fn hear_init(&mut self, token: u64, id: u64) {
        let Some(run) = self.holdings.runs.get_mut(&id) else { return };
        let Some(init) = &mut run.init else { return };
        if init.read(&mut self.buffer) {
            // It has ended, which is noticed when it is reaped.
            let _ = self.epoll.delete(&**init);
            self.watched.remove(&token);
        }
        if let Some(Left(ended)) = init.left.take() {
            self.ended_unreaped(id, unreaped(ended));
        }
    }

    /// Waits for the answers of inits that have an order. The next program does not know of it, and would take an end that was told before
    /// the order was heard for that of the process which is to be followed.
    pub(crate) fn wait_for_inits(&mut self) {
        let until = Instant::now() + ANSWERS_PATIENCE;
        loop {
            let asked: Vec<(u64, u64)> = self.inits_that_were_asked().collect();
            let left = until.saturating_duration_since(Instant::now());
            if asked.is_empty() || left.is_zero() {
                return;
            }
            let inits = asked.iter().filter_map(|(_, id)| self.holdings.runs.get(id)?.init.as_ref());
            let mut fds: Vec<PollFd<'_>> =
                inits.map(|init| PollFd::new(init.as_fd(), PollFlags::POLLIN)).collect();
            let _ = poll(&mut fds, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO));
            drop(fds);
            asked.iter().for_each(|(token, id)| self.hear_init(*token, *id));
        }
    }

    fn inits_that_were_asked(&self) -> impl Iterator<Item = (u64, u64)> {
        let inits = self.watched.iter().filter_map(|(token, watched)| match watched {
            Watched::Init(id) => Some((*token, *id)),
            Watched::Main(_) => None,
        });
        inits.filter(|(_, id)| {
            let run = self.holdings.runs.get(id);
            run.and_then(|run| run.init.as_ref()).is_some_and(|init| init.orders > 0)
        })
    }

    /// The pidfd of a main process says that it has ended.
    fn main_ended(&mut self, token: u64, id: u64) {
        let Some(run) = self.holdings.runs.get(&id) else { return };
        let pid = run.pid;
        let reaped = process::reap_one(&*run.pidfd);
        let _ = self.epoll.delete(&*run.pidfd);
        self.watched.remove(&token);
        match reaped {
            Ok(Some(reaped)) => self.run_died(id, &reaped),
            // Ours, and traced by somebody who has not looked at its end yet: SIGCHLD comes when it is to be reaped.
            Ok(None) => drop(self.pids.insert(pid, id)),
            Err(_) => self.ended_unreaped(id, unreaped(None)),
        }
    }

    fn ended_unreaped(&mut self, id: u64, exit: WaitStatus) {
        let Some(run) = self.holdings.runs.get_mut(&id).filter(|run| run.exit.is_none()) else { return };
        run.exit = Some(exit);
        self.outbox.push_about(id, (Message::Exited { run: id, exit }, Vec::new()));
    }

    /// Reaps main processes that have become our children meanwhile. They are told by their pidfds, before their numbers could be anybody
    /// else's.
    pub(crate) fn reap_watched(&mut self) {
        let mains = self.watched.iter().filter(|(_, watched)| matches!(watched, Watched::Main(_)));
        let mains: Vec<(u64, u64)> = mains.map(|(token, watched)| (*token, watched.run())).collect();
        for (token, id) in mains {
            let pidfd = self.holdings.runs.get(&id).map(|run| Rc::clone(&run.pidfd));
            if let Some(Ok(Some(reaped))) = pidfd.as_ref().map(|pidfd| process::reap_one(&**pidfd)) {
                let _ = pidfd.map(|pidfd| self.epoll.delete(&pidfd));
                self.watched.remove(&token);
                self.run_died(id, &reaped);
            }
        }
    }

    /// The run of which a process that was just reaped is the main one, although it was no child of ours.
    pub(crate) fn watched_main(&mut self, pid: u32) -> Option<u64> {
        let is_it = |watched: &Watched| {
            let run = self.holdings.runs.get(&watched.run());
            matches!(watched, Watched::Main(_)) && run.is_some_and(|run| run.pid == pid)
        };
        let (token, watched) = self.watched.iter().find(|(_, watched)| is_it(watched))?;
        let (token, id) = (*token, watched.run());
        if let Some(run) = self.holdings.runs.get(&id) {
            let _ = self.epoll.delete(&*run.pidfd);
        }
        self.watched.remove(&token);
        Some(id)
    }
}

/// A number is no run's any more. It may be another run's by now.
fn take_out(pids: &mut BTreeMap<u32, u64>, pid: u32, run: u64) {
    if pids.get(&pid) == Some(&run) {
        pids.remove(&pid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_another_runs_by_now_stays_with_that() {
        let mut pids = BTreeMap::from([(20, 1), (21, 2)]);
        take_out(&mut pids, 21, 1);
        take_out(&mut pids, 22, 1);
        assert_eq!(pids, BTreeMap::from([(20, 1), (21, 2)]));
        take_out(&mut pids, 20, 1);
        assert_eq!(pids, BTreeMap::from([(21, 2)]));
    }
}
