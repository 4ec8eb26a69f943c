//! The loop.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::fd::AsFd,
    path::PathBuf,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        signal::Signal,
    },
    unistd::setsid,
};
use watt_exec::plan::Failure;
use watt_os::{
    fdpass,
    process::{self, Reap, Reaped, SpawnError},
    program,
    signalfd::{self, Signals},
};

use crate::{
    daemon::{DAEMON_REFUSED, Daemon},
    discard::Discarded,
    ending::End,
    errands::{ERRANDS_MAX, Errand},
    follow::Watched,
    handover, journal,
    launch::{Launcher, Reports, Said},
    lock::Lock,
    manager::Manager,
    notes::{Writer, note},
    outbox::{Flushed, Outbox},
    protocol::{MESSAGE_SIZE_MAX, Message, Request},
    runs::{Holdings, now_ms},
    table::TableError,
    upgrade::{Program, Resume, Upgrade},
    wire,
};

/// What a spawner is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The file whose lock makes this the application's only spawner. Its content becomes our pid.
    pub lock: PathBuf,
    /// The daemon's command line. It gets our environment and working directory, its socket as descriptor 3,
    /// and that number in [`SPAWNER_FD_VARIABLE`](crate::SPAWNER_FD_VARIABLE).
    pub daemon: Vec<OsString>,
    /// Whether the daemon's program is this one, and goes on to be when the file is replaced: a daemon of another version would not
    /// understand us. The first word of its command line is a name then.
    pub own_program: bool,
    /// How long a daemon may leave messages unread before it counts as stuck and is killed: [`STALL_MAX`](crate::STALL_MAX), except in tests.
    pub stall_max: Duration,
    /// How long a daemon may say nothing before it counts as hung and is killed: [`SILENCE_MAX`](crate::SILENCE_MAX), except in tests.
    pub silence_max: Duration,
    /// Whether a service manager started this process and is to be told how it goes: `$NOTIFY_SOCKET` and the other variables are
    /// ours then, and the daemon does not get them.
    pub managed: bool,
    /// The socket of the journal that gets our lines as well as standard error, and the application's name for it.
    pub journal: Option<(OsString, String)>,
    /// Our own command line, for another program that takes over: the program's name, the role, and the rest. Without what a handover
    /// adds ([`Resume::strip`]).
    pub command: Vec<OsString>,
    /// Set when this program takes over from another one that was this process before.
    pub resume: Option<Resume>,
}

/// Why there is no spawner (any more).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Another one has the lock.
    #[error("already running{}", .pid.map(|pid| format!(" with pid {pid}")).unwrap_or_default())]
    Running {
        /// Its pid, unless it has not come to writing it.
        pid: Option<u32>,
        /// The lock.
        lock: PathBuf,
    },
    /// The lock file cannot be used.
    #[error("cannot lock {}", .path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused something at the start.
    #[error("cannot {what}")]
    Setup {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// What another program has handed over cannot be used.
    #[error("cannot take over")]
    Resume(#[source] TableError),
    /// The first daemon's process could not be started.
    #[error("cannot start the daemon")]
    Daemon(#[source] SpawnError),
    /// The first daemon's program could not be executed.
    #[error("cannot execute the daemon: {step} {object}")]
    DaemonStage {
        /// The step of the exec stage that failed.
        step: String,
        /// What it was about.
        object: String,
        /// Why.
        source: io::Error,
    },
}

/// Runs the spawner until the daemon says [`Exit`](crate::protocol::Request::Exit), or ends before it started
/// anything with status 0 or [`DAEMON_REFUSED`]. Returns the status to exit with. To be called in a process
/// with one thread, which it takes over: session, signals, subreaper, limits, mask.
///
/// # Errors
/// When there is one already, and when it cannot start. Once the first daemon runs nothing is an error.
pub fn run(settings: &Settings) -> Result<i32, Error> {
    if let Some((socket, app)) = &settings.journal {
        journal::open(socket, app);
    }
    let mut spawner = match &settings.resume {
        Some(resume) => handover::resume(settings, resume)?,
        None => begin(settings)?,
    };
    let end = loop {
        if let Some(end) = spawner.end.take() {
            break end;
        }
        spawner.turn();
    };
    spawner.finish(end)
}

/// The first life of a spawner.
fn begin(settings: &Settings) -> Result<Spawner, Error> {
    // First, while its descriptors are the only ones.
    let (manager, stored) = if settings.managed { Manager::from_env() } else { Default::default() };
    // Away from the terminal, whose Ctrl-C and whose end are for `wattctl up` alone. Refused to the leader of a process group
    // (EPERM of setsid(2)): a service manager's process is in a session of its own already.
    let _ = setsid();
    let lock = Lock::take(&settings.lock)?;
    let setup = |what| move |source| Error::Setup { what, source };
    let launcher = Launcher::new(None).map_err(setup("unpack the exec stage"))?;
    let program =
        settings.own_program.then(Program::own).transpose().map_err(setup("open our own program"))?;
    let daemon = Daemon::new(settings, program.as_ref()).map_err(setup("plan the daemon"))?;
    let mut spawner = Spawner::assemble(settings, manager, lock, launcher, daemon, program)?;
    spawner.holdings.listeners.extend(stored);
    spawner.keep_program();
    Ok(spawner)
}

/// Everything the spawner has.
pub(crate) struct Spawner {
    pub(crate) started_at_ms: u64,
    /// Dropped last, when nothing of ours is left.
    pub(crate) lock: Lock,
    /// Our own command line.
    pub(crate) command: Vec<OsString>,
    /// This one, when daemons have the same.
    pub(crate) program: Option<Program>,
    pub(crate) upgrade: Upgrade,
    /// Why the last upgrade came to nothing.
    pub(crate) went_back: Option<String>,
    pub(crate) epoll: Epoll,
    pub(crate) signals: Signals,
    pub(crate) launcher: Launcher,
    pub(crate) daemon: Daemon,
    pub(crate) outbox: Outbox,
    pub(crate) holdings: Holdings,
    pub(crate) discarded: Discarded,
    /// The runs whose process has not been reaped, by its number.
    pub(crate) pids: BTreeMap<u32, u64>,
    /// Processes in the exec stage, by the token their report socket has with epoll.
    stages: BTreeMap<u64, (Owner, Reports)>,
    /// What else is listened to, by its token.
    pub(crate) watched: BTreeMap<u64, Watched>,
    next_token: u64,
    /// What the daemon's socket is watched for.
    interest: EpollFlags,
    /// See [`Settings`].
    stall_max: Duration,
    silence_max: Duration,
    pub(crate) manager: Manager,
    /// Of our own lines.
    pub(crate) writer: Writer,
    /// Requests that made no sense.
    nonsense: u64,
    /// Where messages are received.
    pub(crate) buffer: Vec<u8>,
    /// Set when it is all over.
    pub(crate) end: Option<End>,
}

/// For whom a process is in the exec stage.
#[derive(Debug)]
pub(crate) enum Owner {
    Daemon,
    Run(u64),
    Errand(Errand),
}

const SIGNALS: u64 = 0;
const DAEMON: u64 = 1;
const FIRST_STAGE: u64 = 2;

/// Requests read before anything else gets its turn.
const REQUESTS_PER_TURN: usize = 32;

impl Spawner {
    pub(crate) fn assemble(
        settings: &Settings,
        manager: Manager,
        lock: Lock,
        launcher: Launcher,
        daemon: Daemon,
        program: Option<Program>,
    ) -> Result<Self, Error> {
        let setup = |what| move |source| Error::Setup { what, source };
        process::become_subreaper().map_err(setup("become subreaper"))?;
        signalfd::ignore(Signal::SIGPIPE).map_err(setup("ignore SIGPIPE"))?;
        let signals = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
        let signals = Signals::new(&signals).map_err(setup("read signals"))?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .and_then(|epoll| {
                epoll.add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, SIGNALS))?;
                Ok(epoll)
            })
            .map_err(io::Error::from)
            .map_err(setup("wait for events"))?;
        Ok(Self {
            started_at_ms: now_ms(),
            epoll,
            signals,
            lock,
            command: settings.command.clone(),
            program,
            upgrade: Upgrade::None,
            went_back: None,
            launcher,
            daemon,
            outbox: Outbox::default(),
            holdings: Holdings::default(),
            discarded: Discarded::default(),
            pids: BTreeMap::new(),
            stages: BTreeMap::new(),
            watched: BTreeMap::new(),
            next_token: FIRST_STAGE,
            interest: EpollFlags::empty(),
            stall_max: settings.stall_max,
            silence_max: settings.silence_max,
            manager,
            writer: Writer::Idle,
            nonsense: 0,
            buffer: vec![0; MESSAGE_SIZE_MAX],
            end: None,
        })
    }

    /// Closes everything, but for what the last words take, and the lock.
    pub(crate) fn close(self) -> (Launcher, Lock) {
        (self.launcher, self.lock)
    }

    /// What a process in the exec stage has said.
    pub(crate) fn reports(&self, token: u64) -> Option<&Reports> {
        self.stages.get(&token).map(|(_, reports)| reports)
    }

    /// Waits for something to happen and deals with it.
    fn turn(&mut self) {
        let mut events = [EpollEvent::empty(); 32];
        let count = match self.epoll.wait(&mut events, self.timeout()) {
            Ok(count) => count,
            // It was stopped and goes on (signal(7)). What came meanwhile is heard before deadlines that have passed meanwhile are looked at.
            Err(Errno::EINTR) => return,
            Err(errno) => return note(format_args!("cannot wait for events: {errno}")),
        };
        for event in events.iter().take(count) {
            match event.data() {
                SIGNALS => self.take_signals(),
                // Its end is reported without being asked for, and must not be so again and again.
                DAEMON if self.is_busy() && event.events().contains(EpollFlags::EPOLLHUP) => {
                    self.lose_daemon()
                }
                DAEMON => self.read_requests(REQUESTS_PER_TURN),
                token if self.watched.contains_key(&token) => self.look_at(token),
                token => self.read_reports(token),
            }
        }
        self.discarded.close();
        self.timers();
        self.flush();
        self.write_notes();
    }

    /// Until the next deadline.
    fn timeout(&self) -> EpollTimeout {
        let stalled = self.outbox.blocked_since().map(|since| since + self.stall_max);
        // While nothing is read of it, it cannot be heard.
        let silent = self.daemon.silent_at(self.silence_max).filter(|_| !self.is_busy());
        let stop = self.daemon.stop_at(self.silence_max);
        let of_daemon =
            [self.daemon.start_at(), self.daemon.kill_at(), self.daemon.given_up_at(), stalled, silent, stop];
        let of_others = [
            self.outbox.retry_at(),
            self.manager.deadline(),
            self.writer.deadline(),
            self.upgrade_deadline(),
        ];
        let deadlines = of_daemon.into_iter().chain(of_others);
        let errands = self.errands().map(|errand| errand.deadline);
        let Some(next) = deadlines.flatten().chain(errands).min() else {
            return EpollTimeout::NONE;
        };
        // Rounded up, or the last fraction of a millisecond would be spent in a busy loop.
        let left = next.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
    }

    fn errands(&self) -> impl Iterator<Item = &Errand> {
        self.stages.values().filter_map(|(owner, _)| match owner {
            Owner::Errand(errand) => Some(errand),
            Owner::Daemon | Owner::Run(_) => None,
        })
    }

    fn timers(&mut self) {
        let now = Instant::now();
        self.end_errands(|errand| errand.deadline <= now);
        self.daemon.kill_deaf(now);
        if !self.is_busy() {
            self.daemon.kill_silent(now, self.silence_max);
        }
        self.manager.turn(now);
        self.upgrade_turn(now);
        if self.outbox.blocked_since().is_some_and(|since| now >= since + self.stall_max) {
            self.daemon.kill("reads nothing");
            self.outbox.clear();
        }
        if self.daemon.given_up_at().is_some_and(|at| at <= now) {
            self.give_daemon_up();
        }
        if self.end.is_none() && self.daemon.is_to_be_stopped(now, self.silence_max) {
            note(format_args!("no daemon is there that could stop the application: everything is killed"));
            self.end = Some(End::with(0));
        }
        if self.end.is_none() && self.daemon.start_at().is_some_and(|at| at <= now) {
            self.start_daemon();
        }
    }

    /// Kills errands and takes them as answered, as far as they have come.
    fn end_errands(&mut self, which: impl Fn(&Errand) -> bool) {
        let chosen = self.stages.iter().filter_map(|(token, (owner, _))| match owner {
            Owner::Errand(errand) if which(errand) => Some((*token, errand)),
            Owner::Daemon | Owner::Run(_) | Owner::Errand(_) => None,
        });
        let tokens: Vec<u64> = chosen.inspect(|(_, errand)| errand.kill()).map(|(token, _)| token).collect();
        tokens.into_iter().for_each(|token| self.stage_ended(token));
    }

    fn start_daemon(&mut self) {
        match self.daemon.start(&mut self.launcher) {
            Ok(reports) => {
                self.outbox.clear();
                self.interest = EpollFlags::EPOLLIN;
                if let Some(up) = self.daemon.up()
                    && let Err(errno) = self.epoll.add(&up.socket, EpollEvent::new(self.interest, DAEMON))
                {
                    self.daemon.kill(&format!("cannot be listened to ({errno})"));
                }
                self.follow(Owner::Daemon, reports);
            }
            Err(error) if self.daemon.is_first() => self.end = Some(End::failed(Error::Daemon(error))),
            Err(error) => note(format_args!("cannot start the daemon: {} {}", error.step, error.errno)),
        }
    }

    /// Listens to a process in the exec stage.
    pub(crate) fn follow(&mut self, owner: Owner, reports: Reports) {
        let token = self.token();
        if let Err(errno) = self.epoll.add(&reports, EpollEvent::new(EpollFlags::EPOLLIN, token)) {
            // Without an event its end is still noticed when it is reaped.
            note(format_args!("cannot listen to the exec stage: {errno}"));
        }
        if let Owner::Run(id) = owner
            && let Some(run) = self.holdings.runs.get_mut(&id)
        {
            run.reports = Some(token);
        }
        self.stages.insert(token, (owner, reports));
    }

    /// One that nothing else has.
    pub(crate) fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token - 1
    }

    fn read_reports(&mut self, token: u64) {
        let Some((_, reports)) = self.stages.get_mut(&token) else { return };
        if reports.read(&mut self.buffer) {
            self.stage_ended(token);
        }
    }

    /// A process has left the exec stage: for its program, or for good.
    fn stage_ended(&mut self, token: u64) {
        let Some((owner, reports)) = self.stages.remove(&token) else { return };
        match owner {
            Owner::Daemon => {
                if let (Some(up), Said::Failed(failure)) = (self.daemon.up(), reports.said) {
                    up.failure = Some(failure);
                }
                // Little of it is needed from here on. That more memory than needed is taken is no reason for anything.
                let _ = program::let_go_of_code();
            }
            Owner::Run(id) => {
                if reports.said == Said::Executed {
                    // It stays open, and with epoll.
                    self.watched.insert(token, Watched::Init(id));
                }
                let told = self.holdings.runs.get_mut(&id).and_then(|run| run.stage_ended(id, reports));
                if let Some(told) = told {
                    self.outbox.push_about(id, told);
                }
            }
            Owner::Errand(errand) => {
                self.outbox.push(errand.answer(reports));
            }
        }
    }

    fn take_signals(&mut self) {
        loop {
            match self.signals.next() {
                Ok(Some(Signal::SIGCHLD)) => self.reap(),
                Ok(Some(Signal::SIGHUP)) => self.daemon.pass_reload(),
                Ok(Some(_)) => self.daemon.pass_stop(),
                Ok(None) => return,
                Err(error) => return note(format_args!("cannot read signals: {error}")),
            }
        }
    }

    pub(crate) fn reap(&mut self) {
        self.reap_watched();
        while let Reap::Child(reaped) = process::reap() {
            self.reaped(&reaped);
        }
    }

    /// A child is gone: a run's, the daemon, the writer of our lines, an errand's, or an orphan of anybody's.
    pub(crate) fn reaped(&mut self, reaped: &Reaped) {
        if self.daemon.up().is_some_and(|up| up.pid == reaped.pid) {
            self.daemon_died(reaped);
        } else if let Some(id) = self.pids.remove(&reaped.pid).or_else(|| self.watched_main(reaped.pid)) {
            self.run_died(id, reaped);
        } else {
            self.writer.reaped(reaped);
        }
    }

    pub(crate) fn run_died(&mut self, id: u64, reaped: &Reaped) {
        // What it reported is told before its end, whichever was noticed first.
        if let Some(token) = self.holdings.runs.get(&id).and_then(|run| run.reports) {
            if let Some((_, reports)) = self.stages.get_mut(&token) {
                reports.read(&mut self.buffer);
            }
            self.stage_ended(token);
        }
        let Some(run) = self.holdings.runs.get_mut(&id) else { return };
        watt_fault::step("spawner.reaped");
        let exit = run.wait_status(reaped, &mut self.buffer);
        self.watched.retain(|_, watched| watched.run() != id);
        if run.exit.is_some() {
            // Its program had ended before, and that was told.
            return;
        }
        if let Some(told) = run.exited(id, exit) {
            self.outbox.push_about(id, told);
        }
        self.outbox.push_about(id, (Message::Exited { run: id, exit }, Vec::new()));
    }

    fn daemon_died(&mut self, reaped: &Reaped) {
        // Its last requests still count: its successor builds on them.
        while self.read_request() {}
        watt_fault::step("spawner.daemon_died");
        // Nobody waits for its errands.
        self.end_errands(|_| true);
        let failure = self.daemon_failure().filter(|_| self.daemon.is_first());
        self.daemon.died();
        self.outbox.clear();
        if self.end.is_some() {
            return;
        }
        if reaped.signaled || reaped.code != 0 {
            let how = if reaped.signaled { "was killed by signal" } else { "ended with status" };
            note(format_args!("the daemon (pid {}) {how} {}", reaped.pid, reaped.code));
        }
        if !self.daemon_ended_for_upgrade() && self.holdings.runs.is_empty() {
            self.end = self.end_without_daemon(reaped, failure);
        }
    }

    /// It was killed and cannot be reaped. When it can be at last, nobody asks for it any more.
    fn give_daemon_up(&mut self) {
        let Some(pid) = self.daemon.up().map(|up| up.pid) else { return };
        note(format_args!("the daemon (pid {pid}) hangs in the kernel: it is taken as dead"));
        let (code, cpu) = (Signal::SIGKILL as i32, Duration::ZERO);
        self.daemon_died(&Reaped { pid, code, signaled: true, core_dumped: false, cpu, rss_max: 0 });
    }

    fn daemon_failure(&mut self) -> Option<Failure> {
        let token = self
            .stages
            .iter()
            .find(|(_, (owner, _))| matches!(owner, Owner::Daemon))
            .map(|(token, _)| *token);
        if let Some(token) = token {
            if let Some((_, reports)) = self.stages.get_mut(&token) {
                reports.read(&mut self.buffer);
            }
            self.stage_ended(token);
        }
        self.daemon.up().and_then(|up| up.failure.take())
    }

    /// Whether the end of a daemon is the end of all. There are no runs, so nothing is lost.
    fn end_without_daemon(&self, reaped: &Reaped, failure: Option<Failure>) -> Option<End> {
        if let Some(failure) = failure {
            let source = io::Error::from_raw_os_error(failure.errno);
            let (step, object) = (failure.step, failure.object);
            return Some(End::failed(Error::DaemonStage { step, object, source }));
        }
        let refused = !reaped.signaled && matches!(reaped.code, 0 | DAEMON_REFUSED);
        if refused {
            Some(End::with(reaped.code))
        } else if self.daemon.is_stopping() {
            Some(End::with(0))
        } else {
            None
        }
    }

    fn read_requests(&mut self, count: usize) {
        for _ in 0..count {
            if self.is_busy() || !self.read_request() {
                return;
            }
        }
    }

    /// Whether no request should be read now: the daemon has answers to read first, or errands are to be
    /// waited for.
    fn is_busy(&self) -> bool {
        self.end.is_some() || self.outbox.is_long() || self.errands().count() >= ERRANDS_MAX
    }

    /// Reads one request and does it. Returns whether there may be more.
    fn read_request(&mut self) -> bool {
        let Some(up) = self.daemon.up() else { return false };
        let received = match fdpass::receive(up.socket.as_fd(), &mut self.buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.nonsense("it is too long");
                return true;
            }
            Err(_) => {
                self.lose_daemon();
                return false;
            }
        };
        let Some(bytes @ [_, ..]) = self.buffer.get(..received.length) else {
            self.lose_daemon();
            return false;
        };
        self.discarded.settle();
        match wire::decode(bytes) {
            Ok(request) => {
                self.daemon.heard();
                if request == Request::Beat {
                    self.daemon.beats();
                }
                self.outbox.open();
                self.request(request, received);
            }
            Err(error) => self.nonsense(&error.to_string()),
        }
        true
    }

    /// Notes that a request is passed over: the first, the second, the fourth … of them.
    fn nonsense(&mut self, why: &str) {
        self.nonsense += 1;
        if self.nonsense.is_power_of_two() {
            note(format_args!("a request of the daemon is passed over ({} so far): {why}", self.nonsense));
        }
    }

    /// The daemon has closed its socket, most often because it is ending. Its exit is what counts.
    fn lose_daemon(&mut self) {
        if let Some(up) = self.daemon.up() {
            // Fails the second time, when its last requests are read.
            let _ = self.epoll.delete(&up.socket);
        }
        self.daemon.became_deaf();
        self.discarded.settle();
    }

    /// Sends what waits, and watches the daemon's socket for what is wanted of it now.
    fn flush(&mut self) {
        let Some(up) = self.daemon.up() else { return };
        let flushed = self.outbox.flush(up.socket.as_fd(), &self.holdings);
        let mut interest = EpollFlags::empty();
        match flushed {
            Flushed::Gone => self.outbox.clear(),
            Flushed::Blocked if self.outbox.retry_at().is_none() => interest |= EpollFlags::EPOLLOUT,
            Flushed::Blocked | Flushed::Empty => {}
        }
        if !self.is_busy() {
            interest |= EpollFlags::EPOLLIN;
        }
        self.watch(interest);
    }

    fn watch(&mut self, interest: EpollFlags) {
        if interest == self.interest || self.daemon.is_deaf() {
            return;
        }
        if let Some(up) = self.daemon.up()
            && self.epoll.modify(&up.socket, &mut EpollEvent::new(interest, DAEMON)).is_ok()
        {
            self.interest = interest;
        }
    }
}
