//! Programs whose output is a secret. The spawner starts them as it starts everything; they run as the supervisor's user, with
//! its environment, in the cgroup of the worker that waits for them.

use std::{
    collections::BTreeMap,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::unix::pipe::Receiver as Pipe,
    sync::mpsc,
};
use watt_core::worker::ExitCause;
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
    running: BTreeMap<u64, mpsc::UnboundedSender<News>>,
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
    Failed(String),
    Ended(WaitStatus),
}

/// The output of one, which comes later.
#[derive(Debug)]
pub(crate) struct Answer(mpsc::UnboundedReceiver<News>);

/// A process that is killed when nobody wants its output any more.
#[derive(Debug)]
struct Process(Main);

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

    /// A number for one that is being asked for, and the way to its output.
    pub(crate) fn begin(&mut self) -> (u64, Answer) {
        let run = self.next_run;
        self.next_run += 1;
        let (sender, receiver) = mpsc::unbounded_channel();
        self.running.insert(run, sender);
        (run, Answer(receiver))
    }

    pub(crate) fn spawned(&mut self, run: u64, process: Main, stdout: OwnedFd, stderr: OwnedFd) {
        self.tell(run, News::Started { process: Process(process), stdout, stderr });
    }

    pub(crate) fn failed(&mut self, run: u64, reason: String) {
        self.tell(run, News::Failed(reason));
        self.running.remove(&run);
    }

    pub(crate) fn ended(&mut self, run: u64, exit: WaitStatus) {
        self.tell(run, News::Ended(exit));
        self.running.remove(&run);
    }

    /// Nobody may wait for it any more.
    fn tell(&mut self, run: u64, news: News) {
        if let Some(sender) = self.running.get(&run) {
            let _ = sender.send(news);
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
        let lost = || "it was lost".to_owned();
        let (process, stdout, stderr) = match self.0.recv().await.ok_or_else(lost)? {
            News::Started { process, stdout, stderr } => (process, stdout, stderr),
            News::Failed(reason) => return Err(reason),
            News::Ended(_) => return Err(lost()),
        };
        let pipe = |end| Pipe::from_owned_fd(end).map_err(|error| error.to_string());
        let (stdout, stderr) = (pipe(stdout)?, pipe(stderr)?);
        let (output, complaint) =
            tokio::try_join!(read_all(stdout, size_max), async { Ok(read_start(stderr).await) })?;
        let exit = loop {
            match self.0.recv().await.ok_or_else(lost)? {
                News::Ended(exit) => break exit,
                News::Failed(reason) => return Err(reason),
                News::Started { .. } => {}
            }
        };
        drop(process);
        if exit.signaled || exit.code != 0 {
            return Err(failure(exit, &complaint));
        }
        Ok(output.strip_suffix(b"\n").map(<[u8]>::to_vec).unwrap_or(output))
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

fn failure(exit: WaitStatus, complaint: &[u8]) -> String {
    let WaitStatus { code, signaled, core_dumped, .. } = exit;
    let cause = match signaled {
        true => ExitCause::Signaled { signal: code, core_dumped },
        false => ExitCause::Exited(code),
    };
    let complaint = String::from_utf8_lossy(complaint);
    match complaint.lines().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{cause}: {}", line.trim()),
        None => cause.to_string(),
    }
}
