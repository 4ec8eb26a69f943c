//! The daemon: the one process that the spawner starts again by itself.

use std::{
    env,
    ffi::OsStr,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    rc::Rc,
    time::{Duration, Instant},
};

use nix::sys::{
    signal::Signal,
    stat::{Mode, umask},
};
use watt_exec::plan::{Failure, LISTEN_FDS_START, LaunchPlan, Task};
use watt_os::{
    fdpass, memfd, pidfd,
    process::{Isolation, SpawnError},
};

use crate::{
    launch::{Launcher, Reports, Start, at},
    manager,
    notes::note,
    spawner::Settings,
    table::DaemonRow,
    upgrade::Program,
};

/// The variable that tells the daemon which descriptor is its socket.
pub const SPAWNER_FD_VARIABLE: &str = "WATT_SPAWNER_FD";

/// The status of a daemon that will never be able to start: the configuration was refused, a place is taken
/// (EX_CONFIG of sysexits.h). While there is no run, the spawner ends with it, as it does with 0. Any other
/// end, or one while there are runs, is a crash, and the daemon is started again.
pub const DAEMON_REFUSED: i32 = 78;

/// How long a daemon may leave messages unread.
pub const STALL_MAX: Duration = Duration::from_secs(30);

/// How long a daemon may say nothing. Its loop turns in microseconds, so this is for a machine that is out of breath.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How many times as long as that it may take, after we were asked to stop, until a daemon lives that can go about it.
const STOP_FACTOR: u32 = 2;

/// The share of that when we were asked once more, which means now.
const STOP_AGAIN_DIVISOR: u32 = 4;

/// How many times as long a daemon may take until its loop turns for the first time: an earlier life's processes may have to be
/// ended first.
const START_FACTOR: u32 = 10;

/// A deadline that is noticed so late was slept through by ourselves: a suspended machine, a frozen unit, a debugger. The daemon has
/// slept as well, and gets its time once more.
const OVERSLEPT: Duration = Duration::from_secs(2);

/// How long a daemon may live on without its socket, which it cannot do anything without. Enough to end by
/// itself: a status of its own says more than our signal.
const DEAF_MAX: Duration = Duration::from_secs(2);

/// How long a killed daemon may take until it can be reaped. It takes longer while a thread of it hangs in the kernel, as that for its log
/// does on some disks. None of its threads gets back to its program, so that a successor has nothing to fear from it.
const KILLED_MAX: Duration = Duration::from_secs(5);

/// How to start it, and what it is to be told.
#[derive(Debug)]
pub(crate) struct Daemon {
    task: OwnedFd,
    /// Its program, when that is ours.
    program: Option<Rc<OwnedFd>>,
    pub(crate) state: State,
    backoff: Backoff,
    /// How often it was started again.
    pub(crate) restarts: u64,
    /// Whether another program was this process before.
    resumed: bool,
    /// We were asked to stop. Every daemon is told, until one ends it all.
    stop: Option<Stop>,
    /// We were asked to reload, and no daemon was told yet.
    reload: bool,
}

/// That we were asked to stop.
#[derive(Debug)]
struct Stop {
    /// When that was, or when a daemon last showed that it lives on: its loop had turned before, and has again.
    since: Instant,
    /// Whether we were asked more than once.
    again: bool,
}

impl Stop {
    fn begun() -> Stop {
        Stop { since: Instant::now(), again: false }
    }
}

/// What is.
#[derive(Debug)]
pub(crate) enum State {
    /// It is not running.
    Down {
        /// When it is started.
        start_at: Instant,
    },
    /// It is.
    Up(Up),
}

/// A running daemon.
#[derive(Debug)]
pub(crate) struct Up {
    pub(crate) pid: u32,
    pidfd: OwnedFd,
    /// Our end of its socket.
    pub(crate) socket: OwnedFd,
    since: Instant,
    /// Whether it has sent a request, so that its signal handlers are there.
    heard: bool,
    /// When it sent the last one, or was started.
    heard_at: Instant,
    /// Whether its loop has turned.
    beats: bool,
    /// Whether it can still be talked to.
    deaf: Deaf,
    /// When we killed it.
    killed_at: Option<Instant>,
    /// Why its program could not be executed.
    pub(crate) failure: Option<Failure>,
}

/// Whether a daemon has closed its socket.
#[derive(Debug)]
enum Deaf {
    No,
    Since(Instant),
    /// And was killed for it.
    Killed,
}

impl Daemon {
    /// A daemon that is due now. It gets our environment and working directory. The program is `None` when it is not ours.
    pub(crate) fn new(settings: &Settings, program: Option<&Program>) -> io::Result<Self> {
        let task = memfd::sealed(c"watt-daemon", &encode_plan(settings)?)?;
        Ok(Self {
            task,
            program: program.map(|program| Rc::clone(&program.file)),
            state: State::Down { start_at: Instant::now() },
            backoff: Backoff::default(),
            restarts: 0,
            resumed: false,
            stop: None,
            reload: false,
        })
    }

    /// The next daemon of a spawner that was another program before.
    pub(crate) fn resumed(
        settings: &Settings,
        program: Option<&Program>,
        row: &DaemonRow,
    ) -> io::Result<Self> {
        let DaemonRow { restarts, stop, reload } = *row;
        let stop = stop.then(Stop::begun);
        Ok(Self { restarts, resumed: true, stop, reload, ..Self::new(settings, program)? })
    }

    /// What that one is to be told.
    pub(crate) fn row(&self) -> DaemonRow {
        DaemonRow { restarts: self.restarts, stop: self.stop.is_some(), reload: self.reload }
    }

    /// Whether there was none before this one, so that nothing is lost when it cannot start.
    pub(crate) fn is_first(&self) -> bool {
        self.restarts == 0 && !self.resumed
    }

    /// Down => Down: it need not wait.
    pub(crate) fn start_now(&mut self) {
        if let State::Down { start_at } = &mut self.state {
            *start_at = Instant::now();
        }
    }

    /// The running one.
    pub(crate) fn up(&mut self) -> Option<&mut Up> {
        match &mut self.state {
            State::Up(up) => Some(up),
            State::Down { .. } => None,
        }
    }

    /// When it is to be started.
    pub(crate) fn start_at(&self) -> Option<Instant> {
        match self.state {
            State::Down { start_at } => Some(start_at),
            State::Up(_) => None,
        }
    }

    /// Whether we were asked to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_some()
    }

    /// When all of it is ended without a daemon, as none lives that could do what we were asked for.
    pub(crate) fn stop_at(&self, silence_max: Duration) -> Option<Instant> {
        let Stop { since, again } = self.stop.as_ref()?;
        let patience = silence_max * STOP_FACTOR;
        Some(*since + if *again { patience / STOP_AGAIN_DIVISOR } else { patience })
    }

    /// Whether that is now.
    pub(crate) fn is_to_be_stopped(&mut self, now: Instant, silence_max: Duration) -> bool {
        let late = self.stop_at(silence_max).and_then(|at| now.checked_duration_since(at));
        match (late, &mut self.stop) {
            (Some(late), Some(stop)) if late >= OVERSLEPT => {
                stop.since = now;
                false
            }
            (late, _) => late.is_some(),
        }
    }

    /// Down => Up, or Down again for a while when nothing can be started now.
    pub(crate) fn start(&mut self, launcher: &mut Launcher) -> Result<Reports, SpawnError> {
        self.try_start(launcher).inspect_err(|_| {
            self.state = State::Down { start_at: Instant::now() + self.backoff.next(Duration::ZERO) };
        })
    }

    fn try_start(&mut self, launcher: &mut Launcher) -> Result<Reports, SpawnError> {
        let (socket, theirs) = fdpass::seqpacket_pair().map_err(at("socketpair"))?;
        let passed: Vec<_> = [theirs.as_fd()]
            .into_iter()
            .chain(self.program.as_ref().map(|program| program.as_fd()))
            .collect();
        let (child, reports) = launcher.start(&Start {
            task: self.task.as_fd(),
            streams: Some([io::stdout().as_fd(), io::stderr().as_fd()]),
            passed: &passed,
            cgroup: None,
            raised_limit: true,
            isolation: Isolation::None,
        })?;
        let since = Instant::now();
        self.state = State::Up(Up {
            pid: child.pid,
            pidfd: child.pidfd,
            socket,
            since,
            heard: false,
            heard_at: since,
            beats: false,
            deaf: Deaf::No,
            killed_at: None,
            failure: None,
        });
        Ok(reports)
    }

    /// Up => Down: it has been reaped. Started again at once the first time, then with growing delays.
    pub(crate) fn died(&mut self) {
        if let State::Up(up) = &self.state {
            let delay = self.backoff.next(up.since.elapsed());
            self.state = State::Down { start_at: Instant::now() + delay };
            self.restarts += 1;
        }
    }

    /// It has sent a request. With the first one, it is told what it missed.
    pub(crate) fn heard(&mut self) {
        let (stop, reload) = (self.is_stopping(), self.reload);
        let Some(up) = self.up() else { return };
        up.heard_at = Instant::now();
        if std::mem::replace(&mut up.heard, true) {
            return;
        }
        if reload {
            self.pass_reload();
        }
        if stop {
            self.signal_heard(Signal::SIGTERM);
        }
    }

    /// We were asked to stop, once more perhaps.
    pub(crate) fn pass_stop(&mut self) {
        let again = self.is_stopping();
        self.stop = Some(Stop { again, ..Stop::begun() });
        self.signal_heard(Signal::SIGTERM);
    }

    /// We were asked to reload.
    pub(crate) fn pass_reload(&mut self) {
        self.reload = !self.signal_heard(Signal::SIGHUP);
    }

    /// It has closed its socket.
    pub(crate) fn became_deaf(&mut self) {
        if let Some(up) = self.up()
            && matches!(up.deaf, Deaf::No)
        {
            up.deaf = Deaf::Since(Instant::now());
        }
    }

    /// Whether it has closed its socket.
    pub(crate) fn is_deaf(&self) -> bool {
        matches!(&self.state, State::Up(Up { deaf: Deaf::Since(_) | Deaf::Killed, .. }))
    }

    /// When a daemon without a socket is killed.
    pub(crate) fn kill_at(&self) -> Option<Instant> {
        match &self.state {
            State::Up(Up { deaf: Deaf::Since(since), .. }) => Some(*since + DEAF_MAX),
            State::Up(_) | State::Down { .. } => None,
        }
    }

    /// Kills a daemon without a socket whose time is over.
    pub(crate) fn kill_deaf(&mut self, now: Instant) {
        if self.kill_at().is_some_and(|at| at <= now) {
            self.kill("has closed its socket and lives on");
            if let Some(up) = self.up() {
                up.deaf = Deaf::Killed;
            }
        }
    }

    /// Its loop turns. One that dies at its first turn each time is none that stops anything.
    pub(crate) fn beats(&mut self) {
        let Some(up) = self.up() else { return };
        let has_before = std::mem::replace(&mut up.beats, true);
        if let Some(stop) = self.stop.as_mut().filter(|_| has_before) {
            stop.since = Instant::now();
        }
    }

    /// When a daemon that says nothing until then is killed. One that has closed its socket has a deadline of its own.
    pub(crate) fn silent_at(&self, silence_max: Duration) -> Option<Instant> {
        match &self.state {
            State::Up(Up { deaf: Deaf::No, heard_at, beats, .. }) => {
                Some(*heard_at + if *beats { silence_max } else { silence_max * START_FACTOR })
            }
            State::Up(_) | State::Down { .. } => None,
        }
    }

    /// Kills a daemon that has said nothing for so long that it hangs, or is stopped.
    pub(crate) fn kill_silent(&mut self, now: Instant, silence_max: Duration) {
        let Some(late) = self.silent_at(silence_max).and_then(|at| now.checked_duration_since(at)) else {
            return;
        };
        let Some(up) = self.up() else { return };
        if late >= OVERSLEPT || is_traced(up.pid) {
            up.heard_at = now;
            return;
        }
        let silent = now.saturating_duration_since(up.heard_at).as_secs();
        up.deaf = Deaf::Killed;
        self.kill(&format!("has said nothing for {silent} s"));
    }

    /// Ends a daemon that is of no use. Its exit follows. Once is enough, and said once.
    pub(crate) fn kill(&mut self, why: &str) {
        if let Some(up) = self.up()
            && up.killed_at.is_none()
        {
            up.killed_at = Some(Instant::now());
            let _ = pidfd::send_signal(&up.pidfd, Signal::SIGKILL as i32);
            note(format_args!("the daemon (pid {}) {why}: killing it", up.pid));
        }
    }

    /// When a daemon that was killed and not reaped is taken as dead.
    pub(crate) fn given_up_at(&self) -> Option<Instant> {
        match &self.state {
            State::Up(Up { killed_at: Some(killed_at), .. }) => Some(*killed_at + KILLED_MAX),
            State::Up(_) | State::Down { .. } => None,
        }
    }

    fn signal_heard(&mut self, signal: Signal) -> bool {
        self.up().is_some_and(|up| up.heard && pidfd::send_signal(&up.pidfd, signal as i32).is_ok())
    }
}

/// Whether a debugger has it (proc_pid_status(5)): then it stands still on purpose.
fn is_traced(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

/// The delay before a start: none for the first, then 100 ms doubling up to 5 s; from the beginning again
/// after a daemon that lived for 30 s.
#[derive(Debug, Default)]
struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(5);
    const RESET: Duration = Duration::from_secs(30);

    fn next(&mut self, lived: Duration) -> Duration {
        if lived >= Self::RESET {
            self.next = Duration::ZERO;
        }
        let delay = self.next;
        self.next = (delay * 2).clamp(Self::FIRST, Self::MAX);
        delay
    }
}

fn encode_plan(settings: &Settings) -> io::Result<Vec<u8>> {
    let Settings { daemon: argv, managed, own_program, .. } = settings;
    let program = LISTEN_FDS_START + 1;
    // Reading the mask is setting it. One thread: nothing else makes files meanwhile.
    let mask = umask(Mode::empty());
    umask(mask);
    let plan = LaunchPlan {
        argv: argv.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
        program: own_program.then(|| format!("/proc/self/fd/{program}").into()),
        env: environment(*managed),
        cwd: env::current_dir()?,
        listeners: if *own_program { 2 } else { 1 },
        umask: mask.bits(),
        // By this the proxy knows whom it takes orders from.
        keeps_session: true,
        // Without a spawner nobody reaps, and the next `up` would meet a daemon that still acts.
        parent_death_signal: Some(Signal::SIGKILL as i32),
        ..LaunchPlan::default()
    };
    postcard::to_stdvec(&Task::Launch(Box::new(plan))).map_err(io::Error::other)
}

/// Ours, without what a service manager said to us alone.
fn environment(managed: bool) -> Vec<Vec<u8>> {
    let not_for_it = |name: &OsStr| manager::VARIABLES.iter().any(|own| name == OsStr::new(own));
    let passed = env::vars_os()
        .filter(|(name, _)| name != OsStr::new(SPAWNER_FD_VARIABLE) && !(managed && not_for_it(name)));
    let ours = passed.map(|(name, value)| {
        let mut variable = name.into_vec();
        variable.push(b'=');
        variable.extend(value.as_bytes());
        variable
    });
    ours.chain([format!("{SPAWNER_FD_VARIABLE}={LISTEN_FDS_START}").into_bytes()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_to_its_bound_and_starts_again_after_a_long_life() {
        let mut backoff = Backoff::default();
        let short: Vec<u128> = (0..9).map(|_| backoff.next(Duration::from_secs(1)).as_millis()).collect();
        assert_eq!(short, [0, 100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.next(Duration::from_secs(30)), Duration::ZERO);
        assert_eq!(backoff.next(Duration::from_secs(29)), Duration::from_millis(100));
    }
}
