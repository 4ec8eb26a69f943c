//! What the workers write: read from their pipes, cut into lines, attributed, kept in files and in memory, and given to
//! whoever asks.
//!
//! - A line is in its file before it leaves the pipe, so a daemon that is killed loses none ([`pipe`]).
//! - A worker is never blocked for longer than its turn takes, and cannot make another wait ([`pump`]).
//! - Memory is bounded: for each service, for all together, and for readers, who pull ([`store`], [`readers`]).
//! - The end of a pipe says nothing about its run, and a run that has ended may leave its pipe to an orphan. Only
//!   [`Logs::ended`] ends the reading.

mod bookmark;
mod file;
mod frame;
mod history;
mod line;
mod output;
mod pipe;
mod pump;
mod readers;
mod replay;
mod ring;
mod store;
#[cfg(test)]
mod tests;

use std::{
    io,
    os::fd::OwnedFd,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
};

use nix::sys::eventfd::{EfdFlags, EventFd};
use regex::Regex;
use tokio::sync::oneshot;
use watt_core::{RunId, ServiceId, WorkerId};

use self::{bookmark::Bookmarks, history::Part, pump::Pump, store::Store};
pub use self::{file::Rotation, line::Entry, output::Output};
use crate::{events::Events, journal::Target};

/// The most lines that are looked for from the newest one on.
pub const TAIL_MAX: usize = 10_000;

/// How much is kept, and where.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder of the log files; made when the first line comes.
    pub dir: PathBuf,
    /// A small file in the runtime folder: how far each pipe was read ([`bookmark`]).
    pub bookmarks: PathBuf,
    /// When files are rotated.
    pub rotation: Rotation,
    /// Bytes of memory for the lines of all services.
    pub memory: usize,
    /// Bytes of memory for the lines of one service.
    pub memory_per_service: usize,
    /// The journal that gets every line as well.
    pub journal: Option<Target>,
}

impl Settings {
    /// Files in the folder `dir`; 8 MiB of memory in all, an eighth of it for one service.
    pub fn new(dir: PathBuf, bookmarks: PathBuf, logs: &watt_core::plan::Logs) -> Settings {
        let rotation = Rotation { file_size_max: logs.file_size_max, files_max: logs.files_max.max(1) };
        Settings { dir, bookmarks, rotation, memory: 8 << 20, memory_per_service: 1 << 20, journal: None }
    }
}

/// Whose output it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A worker's: it goes to `<service>.jsonl`.
    Worker(WorkerId),
    /// A task's: it goes there as well.
    Task {
        /// Its service.
        service: ServiceId,
        /// Its name within that.
        name: String,
        /// Its run, by which its lines are told from others'.
        run: RunId,
    },
    /// The mesh proxy's: what it says on standard error goes to `watt.log` as it is, and its standard output, which is its access log, to
    /// `access.log`.
    Proxy,
}

impl Source {
    fn service(&self) -> Option<&ServiceId> {
        match self {
            Source::Worker(WorkerId { service, .. }) | Source::Task { service, .. } => Some(service),
            Source::Proxy => None,
        }
    }

    fn worker(&self) -> u16 {
        match self {
            Source::Worker(worker) => worker.index,
            Source::Task { .. } | Source::Proxy => 0,
        }
    }

    /// The task whose lines alone are its own. A worker has the lines of all its runs.
    fn task(&self) -> Option<RunId> {
        match self {
            Source::Task { run, .. } => Some(*run),
            Source::Worker(_) | Source::Proxy => None,
        }
    }
}

/// A run whose output is to be read.
#[derive(Debug, Clone)]
pub struct RunInfo {
    /// The run.
    pub run: RunId,
    /// Whose run it is.
    pub source: Source,
    /// When it was started, in microseconds since the Unix epoch, if an earlier daemon read its output before.
    pub adopted_since: Option<u64>,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// Of these services.
    pub services: Vec<ServiceId>,
    /// Of this run alone.
    pub run: Option<RunId>,
    /// Only lines with a greater `seq`, which is also a time: microseconds since the Unix epoch.
    pub after: u64,
    /// Of the past, only so many, the newest; never more than [`TAIL_MAX`]. Everything, when it is `None`.
    pub tail: Option<usize>,
    /// Those to come as well.
    pub follow: bool,
}

/// What the thread is told.
#[derive(Debug)]
enum Message {
    Attach { info: RunInfo, stdout: OwnedFd, stderr: OwnedFd },
    Ended { run: RunId, reply: oneshot::Sender<()> },
    LastLines { source: Source, count: usize, reply: oneshot::Sender<Vec<Entry>> },
    Ask { question: Question, reply: oneshot::Sender<Answer> },
    Watch { run: RunId, pattern: Regex, found: oneshot::Sender<()> },
    Pull { reader: u64, reply: oneshot::Sender<Vec<Entry>> },
    Close { reader: u64 },
    Rotate(Rotation),
}

/// What memory knows, and what has to be looked up in files.
#[derive(Debug)]
struct Answer {
    found: Vec<Entry>,
    parts: Vec<Part>,
    /// What the question came to: only lines with a greater `seq`.
    after: u64,
    /// The answer is complete up to this `seq`; every later line has a greater one.
    until: u64,
    reader: Option<u64>,
}

/// A handle to the thread that reads the workers' output. The thread ends with the last handle.
#[derive(Debug, Clone)]
pub struct Logs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Unbounded, and bounded all the same: the loop sends a message or two for each run, and each of the readers,
    /// whose number the control server limits, waits for its answer before it sends the next one.
    messages: mpsc::Sender<Message>,
    wake: Arc<EventFd>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // `messages` is dropped after this, so the thread may find it still connected; replacing it first closes it.
        self.messages = mpsc::channel().0;
        let _ = self.wake.write(1);
    }
}

impl Logs {
    /// Starts the thread.
    pub fn start(settings: Settings, events: Events) -> io::Result<Logs> {
        let wake = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        let (messages, receiver) = mpsc::channel();
        let bookmarks = Bookmarks::open(&settings.bookmarks);
        let pump = Pump::new(Arc::clone(&wake), receiver, bookmarks, Store::new(settings, events))?;
        thread::Builder::new().name("watt-logs".into()).spawn(|| pump.run())?;
        Ok(Logs(Arc::new(Inner { messages, wake })))
    }

    /// Rotates files in this way from now on.
    pub fn rotate(&self, rotation: Rotation) {
        self.send(Message::Rotate(rotation));
    }

    /// Reads these pipes from now on.
    pub fn attach(&self, info: RunInfo, stdout: OwnedFd, stderr: OwnedFd) {
        self.send(Message::Attach { info, stdout, stderr });
    }

    /// No process of the run is left, or none that matters: takes what is in its pipes and closes them. The future is
    /// done when the last line is in its place; it need not be awaited.
    pub fn ended(&self, run: RunId) -> impl Future<Output = ()> + Send + use<> {
        let (reply, done) = oneshot::channel();
        self.send(Message::Ended { run, reply });
        async { done.await.unwrap_or(()) }
    }

    /// The newest lines of a worker that are in memory, both streams together, oldest first; what stands in its pipes
    /// at this moment included. For the report of a failed start.
    pub fn last_lines(
        &self,
        source: Source,
        count: usize,
    ) -> impl Future<Output = Vec<Entry>> + Send + use<> {
        let (reply, lines) = oneshot::channel();
        self.send(Message::LastLines { source, count, reply });
        async { lines.await.unwrap_or_default() }
    }

    /// Waits until the run has written a line that matches, be it before this call. `false` when it ended without.
    pub fn wait_for_line(
        &self,
        worker: WorkerId,
        run: RunId,
        pattern: Regex,
    ) -> impl Future<Output = bool> + use<> {
        let (found, to_come) = oneshot::channel();
        // Asked for first, so that no line falls between the past and what is to come.
        self.send(Message::Watch { run, pattern: pattern.clone(), found });
        let question = Question { services: vec![worker.service], run: Some(run), ..Question::default() };
        let mut past = self.read(question);
        async move {
            while let Some(lines) = past.next().await {
                if lines.iter().filter_map(Entry::text).any(|text| pattern.is_match(&text)) {
                    return true;
                }
            }
            to_come.await.is_ok()
        }
    }

    /// The lines of the past, oldest first, and those to come when the question asks for it.
    pub fn read(&self, question: Question) -> Output {
        Output::new(self.clone(), question)
    }

    fn send(&self, message: Message) {
        // A thread that has gone drops the reply's channel, and the caller sees an end.
        let _ = self.0.messages.send(message);
        let _ = self.0.wake.write(1);
    }
}
