//! One test's application: a spawner, and the tests in its daemon's place.

use std::{
    collections::VecDeque,
    env, fs,
    fs::File,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::chown,
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::{Pid, Uid},
};
use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;
use watt_exec::plan::{LaunchPlan, Task};
use watt_os::{fdpass, memfd};
use watt_spawner::{
    Handle,
    protocol::{Message, Request, WaitStatus},
};

use crate::role;

/// How long anything may take before the test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until a condition holds. `what` tells what it is in the failure.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        let _ = poll(&mut [], PollTimeout::from(5u8));
    }
}

/// Waits until there is something to read. Returns whether there is.
fn readable(fd: BorrowedFd<'_>) -> bool {
    let patience = PollTimeout::try_from(PATIENCE).unwrap();
    poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], patience) == Ok(1)
}

/// A running spawner.
pub(crate) struct App {
    pub(crate) folder: TempDir,
    pub(crate) spawner: Child,
    daemons: Socket,
}

impl App {
    pub(crate) fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// Starts it as nobody, if the tests run as root.
    pub(crate) fn start_as_nobody() -> Self {
        use std::os::unix::process::CommandExt;
        Self::start_with(|command| {
            if Uid::effective().is_root() {
                command.uid(65534).gid(65534);
            }
        })
    }

    pub(crate) fn start_with(change: impl FnOnce(&mut Command)) -> Self {
        let folder = tempfile::Builder::new().prefix("watt-test-").tempdir().unwrap();
        let daemons = Socket::new(Domain::UNIX, Type::SEQPACKET, None).unwrap();
        let socket = folder.path().join("daemons");
        daemons.bind(&SockAddr::unix(&socket).unwrap()).unwrap();
        daemons.listen(16).unwrap();
        if Uid::effective().is_root() {
            chown(folder.path(), Some(65534), Some(65534)).unwrap();
            chown(&socket, Some(65534), Some(65534)).unwrap();
        }
        let mut command = spawner_command(folder.path());
        change(&mut command);
        let spawner = command.spawn().unwrap();
        Self { folder, spawner, daemons }
    }

    /// The next daemon that the spawner starts.
    #[track_caller]
    pub(crate) fn daemon(&self) -> Daemon {
        assert!(readable(self.daemons.as_fd()), "no daemon came");
        let control: OwnedFd = self.daemons.accept().unwrap().0.into();
        assert!(readable(control.as_fd()), "the daemon says nothing");
        let mut pid = [0; 4];
        let received = fdpass::receive(control.as_fd(), &mut pid).unwrap();
        let [socket] = <[OwnedFd; 1]>::try_from(received.descriptors).unwrap();
        Daemon { pid: u32::from_ne_bytes(pid), control, handle: socket.into(), early: VecDeque::new() }
    }

    /// How the spawner ended.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        let mut status = None;
        eventually("the spawner ends", || {
            status = self.spawner.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.spawner.id() as i32), signal).unwrap();
    }

    /// How many descriptors the spawner has.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.spawner.id())).unwrap().count()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.spawner.kill();
        let _ = self.spawner.wait();
    }
}

/// The command for a spawner of this folder.
pub(crate) fn spawner_command(folder: &Path) -> Command {
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(role::VARIABLE, role::SPAWNER).env(role::FOLDER, folder).stdin(Stdio::null());
    command
}

/// The tests in the place of a daemon process, which is there but leaves its socket to them.
pub(crate) struct Daemon {
    pub(crate) pid: u32,
    control: OwnedFd,
    pub(crate) handle: Handle,
    /// Received while something else was waited for.
    early: VecDeque<(Message, Vec<OwnedFd>)>,
}

impl Daemon {
    #[track_caller]
    pub(crate) fn send(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) {
        let begin = Instant::now();
        while let Err(error) = self.handle.send(request, descriptors) {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            assert!(begin.elapsed() < PATIENCE, "the spawner does not read");
            let _ =
                poll(&mut [PollFd::new(self.handle.as_fd(), PollFlags::POLLOUT)], PollTimeout::from(100u8));
        }
    }

    /// The next message at all.
    #[track_caller]
    pub(crate) fn next(&mut self) -> (Message, Vec<OwnedFd>) {
        if let Some(early) = self.early.pop_front() {
            return early;
        }
        self.receive()
    }

    #[track_caller]
    fn receive(&self) -> (Message, Vec<OwnedFd>) {
        loop {
            if let Some(message) = self.handle.recv().unwrap() {
                return message;
            }
            assert!(readable(self.handle.as_fd()), "the spawner says nothing");
        }
    }

    /// The next message that `pick` takes; the others remain in their order.
    #[track_caller]
    pub(crate) fn wait<T>(&mut self, mut pick: impl FnMut(&Message) -> Option<T>) -> (T, Vec<OwnedFd>) {
        let early = self.early.iter().enumerate().find_map(|(at, (message, _))| Some((at, pick(message)?)));
        if let Some((at, picked)) = early {
            let (_, descriptors) = self.early.remove(at).unwrap();
            return (picked, descriptors);
        }
        loop {
            let (message, descriptors) = self.receive();
            match pick(&message) {
                Some(picked) => return (picked, descriptors),
                None => self.early.push_back((message, descriptors)),
            }
        }
    }

    /// Asks for a run of this plan.
    #[track_caller]
    pub(crate) fn spawn(&self, run: u64, plan: LaunchPlan) {
        self.spawn_with(run, plan, &[]);
    }

    #[track_caller]
    pub(crate) fn spawn_with(&self, run: u64, plan: LaunchPlan, pass: &[&str]) {
        let task = encode(&plan);
        let pass = pass.iter().map(|name| (*name).to_owned()).collect();
        let request = Request::Spawn {
            run,
            tag: format!("tag {run}").into_bytes(),
            cgroup: false,
            handed: 0,
            pid_namespace: plan.namespaces.pid,
            user_namespace: plan.user_namespace,
            pass,
        };
        self.send(&request, &[task.as_fd()]);
    }

    /// Its pid, and its pidfd, output and error.
    #[track_caller]
    pub(crate) fn spawned(&mut self, wanted: u64) -> (u32, [OwnedFd; 3]) {
        let (pid, descriptors) = self.wait(|message| match message {
            Message::Spawned { run, pid } if *run == wanted => Some(*pid),
            Message::SpawnFailed { run, step, errno } if *run == wanted => panic!("{step}: {errno}"),
            _ => None,
        });
        (pid, descriptors.try_into().unwrap())
    }

    #[track_caller]
    pub(crate) fn executed(&mut self, wanted: u64) {
        self.wait(|message| match message {
            Message::Executed { run, .. } if *run == wanted => Some(()),
            Message::ExecFailed { run, step, object, errno } if *run == wanted => {
                panic!("{step} {object}: {errno}")
            }
            _ => None,
        });
    }

    #[track_caller]
    pub(crate) fn exited(&mut self, wanted: u64) -> WaitStatus {
        self.wait(|message| match message {
            Message::Exited { run, exit } if *run == wanted => Some(*exit),
            _ => None,
        })
        .0
    }

    /// The list, without its end.
    #[track_caller]
    pub(crate) fn list(&mut self) -> Vec<(Message, Vec<OwnedFd>)> {
        self.send(&Request::List, &[]);
        let mut list = Vec::new();
        loop {
            match self.next() {
                (Message::ListEnd, _) => return list,
                told => list.push(told),
            }
        }
    }

    /// The signal that the spawner passed on next.
    #[track_caller]
    pub(crate) fn signal(&self) -> Signal {
        assert!(readable(self.control.as_fd()), "no signal came");
        let mut number = [0];
        fdpass::receive(self.control.as_fd(), &mut number).unwrap();
        Signal::try_from(i32::from(number[0])).unwrap()
    }

    /// Whether a signal was passed on and not yet taken.
    pub(crate) fn has_signal(&self) -> bool {
        poll(&mut [PollFd::new(self.control.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(1)
    }

    /// Ends the daemon process with a status.
    pub(crate) fn exit(self, status: u8) {
        fdpass::send(self.control.as_fd(), &[status], &[]).unwrap();
    }

    /// Closes the socket to the spawner. The process lives as long as what this returns.
    pub(crate) fn close(self) -> OwnedFd {
        self.control
    }

    pub(crate) fn kill(self) {
        kill(Pid::from_raw(self.pid as i32), Signal::SIGKILL).unwrap();
    }
}

/// The sealed task that launches this plan.
pub(crate) fn encode(plan: &LaunchPlan) -> OwnedFd {
    let task = Task::Launch(Box::new(plan.clone()));
    memfd::sealed(c"plan", &postcard::to_stdvec(&task).unwrap()).unwrap()
}

/// A plan for `/bin/sh -c script`.
pub(crate) fn sh(script: &str) -> LaunchPlan {
    program(&["/bin/sh", "-c", script])
}

/// A plan for a command.
pub(crate) fn program(argv: &[&str]) -> LaunchPlan {
    LaunchPlan {
        argv: argv.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
        env: vec![b"PATH=/usr/bin:/bin".to_vec()],
        cwd: "/".into(),
        umask: 0o022,
        parent_death_signal: Some(Signal::SIGKILL as i32),
        ..LaunchPlan::default()
    }
}

/// Everything in a pipe, up to its end.
pub(crate) fn drain(pipe: &OwnedFd) -> String {
    let mut text = String::new();
    let mut file = File::from(pipe.try_clone().unwrap());
    loop {
        assert!(readable(pipe.as_fd()), "the pipe does not end");
        match file.read_to_string(&mut text) {
            Ok(_) => return text,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// The children of a process of one thread.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    list.split_ascii_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Page faults of all children that a process has reaped (proc_pid_stat(5)): more with each.
pub(crate) fn faults_of_reaped(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The 11th field; the first of these is the third.
    stat.rsplit(") ").next().unwrap().split(' ').nth(8).unwrap().parse().unwrap()
}

/// The state letter of a process in /proc, or none.
pub(crate) fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(") ").next()?.chars().next()
}

/// Waits until a process sleeps and has no signal to take: it has dealt with everything so far.
#[track_caller]
pub(crate) fn idle(pid: u32) {
    eventually("it sleeps", || {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let pending =
            status.lines().any(|line| line.starts_with("ShdPnd:") && !line.ends_with("0000000000000000"));
        state(pid) == Some('S') && !pending
    });
}
