//! Programs of which somebody waits for the end: those whose output is a secret, and those that check a worker
//! ([`crate::check_command`]). The spawner starts them as it starts everything. Those of secrets run as the supervisor's user,
//! with its environment, in the cgroup of the worker that waits for them.

use std::{
    collections::BTreeMap,
    fmt,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::unix::pipe::Receiver as Pipe,
    sync::mpsc,
};
use watt_core::worker::{ExecFailure, ExitCause};
use watt_exec::plan::LaunchPlan;
use watt_os::{pidfd, rlimit::Resource};
use watt_spawner::protocol::WaitStatus;

use crate::{
    proxy,
    runs::{Main, SIGKILL},
};

/// Their runs are numbered from here on, out of the way of workers' and below the proxy's.
const FIRST_RUN: u64 = 1 << 61;

/// How much of what one says when it fails is told.
const COMPLAINT_LEN_MAX: usize = 256;

/// Those that run.
#[derive(Debug)]
pub(crate) struct Commands {
    next_run: u64,
    running: BTreeMap<u64, Running>,
}

/// One of them.
#[derive(Debug)]
struct Running {
    told: mpsc::UnboundedSender<News>,
    /// What has still to come about before it is forgotten.
    awaited: Awaited,
}

/// The last things that become of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// Its end.
    End,
    /// Its end, and that nothing of it is left.
    EndAndRest,
    /// That nothing of it is left.
    Rest,
}

/// What happened to one: at most three of these each.
#[derive(Debug)]
enum News {
    Started {
        process: Process,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// It could not be started, and why.
    Failed(ExecFailure),
    Ended(WaitStatus),
}

/// The output of one, which comes later.
#[derive(Debug)]
pub(crate) struct Answer(mpsc::UnboundedReceiver<News>);

/// A process that is killed when nobody wants its output any more.
#[derive(Debug)]
pub(crate) struct Process(Main);

impl Process {
    /// Its number and when it started, as the kernel counts.
    pub(crate) fn identity(&self) -> (u32, u64) {
        (self.0.pid, self.0.started)
    }
}

/// One that runs.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) process: Process,
    pub(crate) stdout: Pipe,
    pub(crate) stderr: Pipe,
}

/// Why one does not run.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// A step before the program failed.
    Failed(ExecFailure),
    /// What became of it is not known, or its output cannot be read.
    Lost,
}

impl Drop for Process {
    fn drop(&mut self) {
        // Without effect on one that has ended.
        let _ = pidfd::send_signal(&self.0.pidfd, SIGKILL);
    }
}

impl Commands {
    pub(crate) fn new() -> Commands {
        Commands { next_run: FIRST_RUN, running: BTreeMap::new() }
    }

    /// Whether a run is one of these.
    pub(crate) fn is_one(run: u64) -> bool {
        (FIRST_RUN..proxy::FIRST_RUN).contains(&run)
    }

    /// A predecessor's has this number.
    pub(crate) fn leave_out(&mut self, run: u64) {
        if Self::is_one(run) {
            self.next_run = self.next_run.max(run + 1);
        }
    }

    /// A predecessor's of which nothing may be left, and which may have ended.
    pub(crate) fn take_over(&mut self, run: u64, has_ended: bool) {
        self.leave_out(run);
        let awaited = if has_ended { Awaited::Rest } else { Awaited::EndAndRest };
        self.running.insert(run, Running { told: mpsc::unbounded_channel().0, awaited });
    }

    /// A number for one that is being asked for, and the way to its output.
    pub(crate) fn begin(&mut self) -> (u64, Answer) {
        self.add(Awaited::End)
    }

    /// The same for one of which nothing may be left: until that is [said](Commands::emptied) a successor finds it.
    pub(crate) fn begin_thorough(&mut self) -> (u64, Answer) {
        self.add(Awaited::EndAndRest)
    }

    fn add(&mut self, awaited: Awaited) -> (u64, Answer) {
        let run = self.next_run;
        self.next_run += 1;
        let (told, receiver) = mpsc::unbounded_channel();
        self.running.insert(run, Running { told, awaited });
        (run, Answer(receiver))
    }

    pub(crate) fn spawned(&mut self, run: u64, process: Main, stdout: OwnedFd, stderr: OwnedFd) {
        self.tell(run, News::Started { process: Process(process), stdout, stderr });
    }

    /// There is no process, and will be none.
    pub(crate) fn not_started(&mut self, run: u64, failure: ExecFailure) {
        self.tell(run, News::Failed(failure));
        self.running.remove(&run);
    }

    /// A step before the program failed. Its end follows.
    pub(crate) fn failed(&mut self, run: u64, failure: ExecFailure) {
        self.tell(run, News::Failed(failure));
    }

    /// Whether it is to be forgotten now.
    pub(crate) fn ended(&mut self, run: u64, exit: WaitStatus) -> bool {
        self.tell(run, News::Ended(exit));
        self.come_about(run, Awaited::End, Awaited::Rest)
    }

    /// Nothing of it is left. Whether it is to be forgotten now.
    pub(crate) fn emptied(&mut self, run: u64) -> bool {
        self.come_about(run, Awaited::Rest, Awaited::End)
    }

    fn come_about(&mut self, run: u64, last: Awaited, left: Awaited) -> bool {
        match self.running.get_mut(&run) {
            Some(running) if running.awaited == Awaited::EndAndRest => {
                running.awaited = left;
                false
            }
            Some(running) if running.awaited != last => false,
            Some(_) | None => {
                self.running.remove(&run);
                true
            }
        }
    }

    /// Nobody may wait for it any more.
    fn tell(&mut self, run: u64, news: News) {
        if let Some(running) = self.running.get(&run) {
            let _ = running.told.send(news);
        }
    }
}

/// How one is started: with what the supervisor has in its own environment, since it may need it to open a vault.
pub(crate) fn launch(
    argv: &[String],
    environment: &BTreeMap<String, String>,
    mark: Vec<u8>,
    root: &Path,
    join_cgroups: Vec<PathBuf>,
) -> LaunchPlan {
    let environment = environment.iter().map(|(name, value)| format!("{name}={value}").into_bytes());
    LaunchPlan {
        argv: argv.iter().map(|argument| argument.clone().into_bytes()).collect(),
        env: environment.chain([mark]).collect(),
        cwd: root.to_owned(),
        join_cgroups,
        rlimits: vec![(Resource::Core.number(), 0, 0)],
        umask: 0o077,
        parent_death_signal: Some(SIGKILL),
        ..LaunchPlan::default()
    }
}

impl Answer {
    /// What it wrote to its standard output, without one line break at the end. It is killed when this future is dropped.
    ///
    /// # Errors
    /// Why there is no such output: it did not start, it failed, it said more than `size_max` bytes.
    pub(crate) async fn read(mut self, size_max: usize) -> Result<Vec<u8>, String> {
        let Started { process, stdout, stderr } = self.started().await.map_err(|why| why.to_string())?;
        let (output, complaint) =
            tokio::try_join!(read_all(stdout, size_max), async { Ok(read_start(stderr).await) })?;
        let exit = self.ended().await.map_err(|why| why.to_string())?;
        drop(process);
        if exit.signaled || exit.code != 0 {
            return Err(failure(exit, &complaint));
        }
        Ok(output.strip_suffix(b"\n").map(<[u8]>::to_vec).unwrap_or(output))
    }

    /// Waits until there is a process, which is killed when what is given back is dropped.
    pub(crate) async fn started(&mut self) -> Result<Started, NotStarted> {
        match self.0.recv().await.ok_or(NotStarted::Lost)? {
            News::Started { process, stdout, stderr } => {
                let pipe = |end| Pipe::from_owned_fd(end).map_err(|_| NotStarted::Lost);
                Ok(Started { process, stdout: pipe(stdout)?, stderr: pipe(stderr)? })
            }
            News::Failed(failure) => Err(NotStarted::Failed(failure)),
            News::Ended(_) => Err(NotStarted::Lost),
        }
    }

    /// Waits for the end of one that was started. A step before the program may still have failed.
    pub(crate) async fn ended(&mut self) -> Result<WaitStatus, NotStarted> {
        loop {
            match self.0.recv().await.ok_or(NotStarted::Lost)? {
                News::Ended(exit) => return Ok(exit),
                News::Failed(failure) => return Err(NotStarted::Failed(failure)),
                News::Started { .. } => {}
            }
        }
    }
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotStarted::Failed(failure) => failure.fmt(f),
            NotStarted::Lost => f.write_str("it was lost"),
        }
    }
}

async fn read_all(pipe: Pipe, size_max: usize) -> Result<Vec<u8>, String> {
    let mut output = Vec::new();
    let read = pipe.take(size_max as u64 + 1).read_to_end(&mut output).await;
    read.map_err(|error| error.to_string())?;
    if output.len() > size_max {
        return Err(format!("it says more than {size_max} bytes"));
    }
    Ok(output)
}

/// The first bytes; the others are read as well, so that it does not wait for a reader.
async fn read_start(mut pipe: impl AsyncRead + Unpin) -> Vec<u8> {
    let (mut start, mut buffer) = (Vec::new(), [0; 4096]);
    while let Ok(count @ 1..) = pipe.read(&mut buffer).await {
        let room = COMPLAINT_LEN_MAX - start.len();
        start.extend(buffer.iter().take(count.min(room)));
    }
    start
}

/// How one ended.
pub(crate) fn cause(exit: WaitStatus) -> ExitCause {
    let WaitStatus { code, signaled, core_dumped, .. } = exit;
    match signaled {
        true => ExitCause::Signaled { signal: code, core_dumped },
        false => ExitCause::Exited(code),
    }
}

fn failure(exit: WaitStatus, complaint: &[u8]) -> String {
    let cause = cause(exit);
    let complaint = String::from_utf8_lossy(complaint);
    match complaint.lines().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{cause}: {}", line.trim()),
        None => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: WaitStatus =
        WaitStatus { code: 0, signaled: false, core_dumped: false, at_ms: 0, cpu_us: 0, rss_max: 0 };

    #[test]
    fn one_is_forgotten_when_nothing_is_left_of_it() {
        let mut commands = Commands::new();
        let (secret, _answer) = commands.begin();
        assert!(commands.ended(secret, EXIT));
        let (check, _answer) = commands.begin_thorough();
        assert!(!commands.ended(check, EXIT));
        assert!(commands.emptied(check));
        let (check, _answer) = commands.begin_thorough();
        assert!(!commands.emptied(check));
        assert!(commands.ended(check, EXIT));
        let (check, _answer) = commands.begin_thorough();
        commands.not_started(check, ExecFailure { step: "clone".into(), object: String::new(), errno: 11 });
        assert!(commands.running.is_empty());
    }
}
