//! What the daemon asks for.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    rc::Rc,
    time::Duration,
};

use nix::errno::Errno;
use watt_os::{
    fdpass::Received,
    process::{Isolation, SpawnError},
};

use crate::{
    ending::End,
    errands::{Errand, Kind, refusal},
    launch::{Reports, Start, at, output_pipe},
    listeners::Listener,
    notes::note,
    protocol::{Address, GATEWAY_PREFIX, Message, PROGRAM, Request, Stage},
    runs::{Holdings, Run},
    spawner::{Owner, Spawner},
};

/// The longest tag and value in bytes: with everything else they fit in one message.
const NOTE_SIZE_MAX: usize = 32 << 10;
/// The longest name and key in bytes.
const NAME_SIZE_MAX: usize = 255;
/// All values together, in bytes: a daemon keeps a note of some 300 bytes for each worker. Larger things are kept as
/// memfds.
const VALUES_SIZE_MAX: usize = 64 << 20;

/// The descriptors that come with a start.
struct Sent<'a> {
    task: BorrowedFd<'a>,
    cgroup: Option<BorrowedFd<'a>>,
    handed: Vec<BorrowedFd<'a>>,
}

impl<'a> Sent<'a> {
    /// Tells them apart. `None` when there are others than announced.
    fn take(descriptors: &'a [OwnedFd], cgroup: bool, handed: u8) -> Option<Sent<'a>> {
        let mut rest = descriptors.iter().map(AsFd::as_fd);
        let task = rest.next()?;
        let cgroup = if cgroup { Some(rest.next()?) } else { None };
        let rest: Vec<_> = rest.collect();
        (rest.len() == usize::from(handed)).then_some(Sent { task, cgroup, handed: rest })
    }
}

impl Spawner {
    /// Does what the daemon asks for. A request that makes no sense is refused where there is an answer to
    /// say so, and passed over with a line in the log where there is none.
    pub(crate) fn request(&mut self, request: Request, received: Received) {
        let Received { descriptors, lost_descriptors, .. } = received;
        match request {
            Request::Spawn { run, .. } if lost_descriptors => {
                self.spawn_failed(run, at("descriptors")(Errno::EMFILE));
            }
            Request::List => {
                let info = self.info();
                self.outbox.push_list(info);
            }
            Request::Spawn { run, tag, cgroup, handed, pid_namespace, user_namespace, pass } => {
                let isolation = match (pid_namespace, user_namespace) {
                    (false, _) => Isolation::None,
                    (true, false) => Isolation::Pids,
                    (true, true) => Isolation::PidsAndUser,
                };
                let sent = Sent::take(&descriptors, cgroup, handed);
                self.spawn(run, tag, sent, isolation, &pass);
            }
            Request::Tag { run, tag } => match self.holdings.runs.get_mut(&run) {
                Some(held) if tag.len() <= NOTE_SIZE_MAX => held.tag = tag,
                _ => note(format_args!("no such run, or too long a tag: run {run}")),
            },
            Request::Follow { run, pid } => self.follow_main(run, pid, descriptors),
            Request::Forget { run } => self.forget(run),
            Request::MakeSockets { run, count } => self.make_sockets(run, count),
            Request::Probe => {
                let errand = Errand::probe(&mut self.launcher);
                self.begin_errand(Kind::Probe, errand);
            }
            Request::Listen { name, address } => self.listen(name, address),
            Request::Unlisten { name } => self.unlisten(&name),
            Request::Store { name } => self.manager.store(&name, &self.holdings),
            Request::Notify { text } => self.manager.pass_on(text),
            // That it came is all.
            Request::Beat => {}
            Request::Keep { name } if lost_descriptors => {
                note(format_args!("too few open files are allowed (ulimit -n) to keep {name:.40}"));
            }
            Request::Keep { name } => match <[OwnedFd; 1]>::try_from(descriptors) {
                Ok([fd]) if name.len() <= NAME_SIZE_MAX => {
                    let before = self.holdings.kept.insert(name, Rc::new(fd));
                    self.discard(before);
                }
                _ => note(format_args!("one descriptor and a name are needed to keep something")),
            },
            // The program goes with this process.
            Request::Unkeep { name } if name == PROGRAM => {}
            Request::Unkeep { name } => {
                let kept = self.holdings.kept.remove(&name);
                self.discard(kept.into_iter().chain(descriptors.into_iter().map(Rc::new)));
            }
            Request::Close => self.discard(descriptors.into_iter().map(Rc::new)),
            Request::Put { key, value } => self.put(key, value),
            Request::Table => self.give_table(),
            Request::Upgrade { number, path, within_ms } => {
                self.ask_upgrade(number, path, Duration::from_millis(within_ms), descriptors);
            }
            Request::Settle => self.settle(),
            Request::GoBack { why } => self.go_back(why),
            Request::Exit { status, join_cgroups, remove, remove_if_empty } => {
                self.end = Some(End { status: Ok(status), join_cgroups, remove, remove_if_empty });
            }
        }
    }

    fn spawn(
        &mut self,
        run: u64,
        tag: Vec<u8>,
        sent: Option<Sent<'_>>,
        isolation: Isolation,
        pass: &[String],
    ) {
        match self.try_spawn(run, tag, sent, isolation, pass) {
            Ok((pid, descriptors)) => self.outbox.push((Message::Spawned { run, pid }, descriptors)),
            Err(error) => self.spawn_failed(run, error),
        }
    }

    fn spawn_failed(&mut self, run: u64, SpawnError { step, errno }: SpawnError) {
        let failed = Message::SpawnFailed { run, step: step.into(), errno: errno as i32 };
        self.outbox.push((failed, Vec::new()));
    }

    fn try_spawn(
        &mut self,
        id: u64,
        tag: Vec<u8>,
        sent: Option<Sent<'_>>,
        isolation: Isolation,
        pass: &[String],
    ) -> Result<(u32, Vec<Rc<OwnedFd>>), SpawnError> {
        if self.holdings.runs.contains_key(&id) {
            return Err(at("run")(Errno::EEXIST));
        }
        if tag.len() > NOTE_SIZE_MAX {
            return Err(at("tag")(Errno::E2BIG));
        }
        let Sent { task, cgroup, handed } = sent.ok_or_else(|| at("descriptors")(Errno::EINVAL))?;
        let passed: Vec<BorrowedFd<'_>> = pass
            .iter()
            .map(|name| self.holdings.to_pass(name))
            .chain(handed.into_iter().map(Some))
            .collect::<Option<_>>()
            .ok_or_else(|| at("pass")(Errno::ENOENT))?;
        let pipes = 2 * self.holdings.runs.len();
        let (stdout, output) = output_pipe(pipes).map_err(at("pipe"))?;
        let (stderr, error) = output_pipe(pipes).map_err(at("pipe"))?;
        let (child, reports) = self.launcher.start(&Start {
            task,
            streams: Some([output.as_fd(), error.as_fd()]),
            passed: &passed,
            cgroup,
            raised_limit: false,
            isolation,
        })?;
        let run = Run {
            tag,
            pid: child.pid,
            pidfd: Rc::new(child.pidfd),
            stdout: Rc::new(stdout),
            stderr: Rc::new(stderr),
            stage: Stage::Preparing,
            reports: None,
            init: None,
            kept: Vec::new(),
            exit: None,
        };
        watt_fault::step_of("stage.cloned", run.pid);
        watt_fault::step("spawner.cloned");
        let told = vec![run.pidfd.clone(), run.stdout.clone(), run.stderr.clone()];
        self.pids.insert(child.pid, id);
        self.holdings.runs.insert(id, Box::new(run));
        self.follow(Owner::Run(id), reports);
        Ok((child.pid, told))
    }

    fn forget(&mut self, run: u64) {
        match self.holdings.runs.get(&run) {
            Some(held) if held.exit.is_some() => drop(self.holdings.runs.remove(&run)),
            Some(_) => note(format_args!("run {run} is alive and not forgotten")),
            None => {}
        }
    }

    fn discard(&mut self, descriptors: impl IntoIterator<Item = Rc<OwnedFd>>) {
        descriptors.into_iter().for_each(|descriptor| self.discarded.push(descriptor));
    }

    fn make_sockets(&mut self, run: u64, count: u16) {
        let errand = match self.holdings.runs.get(&run) {
            Some(held) => Errand::sockets(&mut self.launcher, run, held, count),
            None => Err(at("run")(Errno::ESRCH)),
        };
        self.begin_errand(Kind::Sockets(run), errand);
    }

    fn begin_errand(&mut self, kind: Kind, errand: Result<(Errand, Reports), SpawnError>) {
        match errand {
            Ok((errand, reports)) => self.follow(Owner::Errand(errand), reports),
            Err(SpawnError { errno, .. }) => self.outbox.push((refusal(kind, errno), Vec::new())),
        }
    }

    fn listen(&mut self, name: String, address: Address) {
        if !self.holdings.listeners.contains_key(&name) {
            let bound = match name.len() {
                // The gateway's sockets are where the configuration says, the others in folders of the application alone.
                0..=NAME_SIZE_MAX => Listener::bind(address, name.starts_with(GATEWAY_PREFIX)),
                _ => Err(Errno::ENAMETOOLONG),
            };
            match bound {
                Ok(listener) => drop(self.holdings.listeners.insert(name.clone(), listener)),
                Err(errno) => {
                    let failed = Message::ListenFailed { name, errno: errno as i32 };
                    return self.outbox.push((failed, Vec::new()));
                }
            }
        }
        if let Some(listener) = self.holdings.listeners.get(&name) {
            let message = Message::Listener { name, address: listener.address.clone() };
            self.outbox.push((message, vec![listener.socket.clone()]));
        }
    }

    fn unlisten(&mut self, name: &str) {
        self.manager.discard(name);
        if let Some(listener) = self.holdings.listeners.remove(name) {
            listener.unlink();
            // The address of any other is free at once, as its successor wants it.
            if listener.is_datagram() {
                self.discarded.push(listener.socket);
            }
        }
    }

    fn put(&mut self, key: String, value: Vec<u8>) {
        let Holdings { values, values_size, .. } = &mut self.holdings;
        let before = values.get(&key).map_or(0, |value| key.len() + value.len());
        let after = if value.is_empty() { 0 } else { key.len() + value.len() };
        let size = *values_size - before + after;
        if key.len() > NAME_SIZE_MAX || value.len() > NOTE_SIZE_MAX || size > VALUES_SIZE_MAX {
            return note(format_args!("too large a value is not kept: {key:.40}"));
        }
        *values_size = size;
        if value.is_empty() {
            values.remove(&key);
        } else {
            values.insert(key, value);
        }
    }
}
