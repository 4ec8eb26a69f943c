//! The process `wattctl mesh-proxy`: one thread that talks with the daemon, and one for each core that serves.

use std::{
    fs::File,
    io,
    num::NonZeroUsize,
    os::{fd::AsFd, unix::net::UnixListener},
    sync::Arc,
    thread,
    time::Duration,
};

use listenfd::ListenFd;
use rustix::{
    io::fcntl_dupfd_cloexec,
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use crate::{
    access::Queue,
    auth::Renewals,
    cache::Cached,
    control::{self, Control, End, Signals},
    guards::Counted,
    link::Door,
    process,
    room::ConnectionsMax,
    thread::Checks,
    threads::{self, Shared},
};

/// What an operator may choose.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How many threads serve; `None` is one for each core this process may use.
    pub threads: Option<NonZeroUsize>,
    /// How long requests and tunnels may go on after SIGTERM or SIGINT. A second signal ends them at once.
    pub drain_timeout: Duration,
    /// Called when much memory may have become free, to give it back to the kernel. How is up to the allocator, which is the
    /// program's.
    pub give_back_memory: fn(),
}

impl Default for Settings {
    fn default() -> Self {
        Self { threads: None, drain_timeout: Duration::from_secs(10), give_back_memory: || {} }
    }
}

/// Why the proxy could not start or go on. The daemon starts another one.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It was started by something else than the daemon.
    #[error("no Unix listener was passed as descriptor 3 (sd_listen_fds(3)); `wattctl up` starts the proxy")]
    NoListener(#[source] Option<io::Error>),
    /// No thread, or no event queue.
    #[error("cannot start thread {index}")]
    StartThread {
        /// Which, from 0.
        index: usize,
        /// The system's reason.
        source: io::Error,
    },
    /// The control thread could not be set up.
    #[error("cannot prepare to serve: {what}")]
    Prepare {
        /// What failed.
        what: &'static str,
        /// The system's reason.
        source: io::Error,
    },
    /// A bug of ours: what a thread accepted is lost, and nobody accepts in its place.
    #[error("thread {index} died")]
    ThreadDied {
        /// Which, from 0.
        index: usize,
    },
}

/// Descriptors of a proxy with some thousand connections. Room for so many takes 32 KiB.
const DESCRIPTORS: i32 = 4096;

/// Serves on the listener that was inherited, until a signal. Call it before any thread is started: it takes
/// `LISTEN_FDS` out of the environment.
pub fn run(settings: &Settings) -> Result<(), RunError> {
    process::remember_spawner();
    let inherited =
        ListenFd::from_env().take_unix_listener(0).map_err(|error| RunError::NoListener(Some(error)))?;
    serve(inherited.ok_or(RunError::NoListener(None))?, settings)
}

fn serve(listener: UnixListener, settings: &Settings) -> Result<(), RunError> {
    let count =
        settings.threads.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN);
    let connections_max = ConnectionsMax::new(raise_descriptors_max(), count.get());
    make_room(&listener);
    let (events, queue) = mpsc::unbounded_channel();
    let counted = Arc::new(Counted::default());
    let check_turns = Checks::turns_of(thread::available_parallelism().map_or(1, NonZeroUsize::get));
    let (cached, renewals) = (Arc::new(Cached::default()), Arc::new(Renewals::default()));
    let prepare = |what| move |source| RunError::Prepare { what, source };
    let access_queue = stdout().and_then(Queue::start).map_err(prepare("access log"))?;
    let mut threads = Vec::new();
    for index in 0..count.get() {
        let shared = Shared {
            counted: Arc::clone(&counted),
            check_turns: Arc::clone(&check_turns),
            access_queue: Arc::clone(&access_queue),
            cached: Arc::clone(&cached),
            renewals: Arc::clone(&renewals),
        };
        let orders = threads::start(index, count, connections_max, shared, events.clone());
        threads.push(orders.map_err(|source| RunError::StartThread { index, source })?);
    }

    let runtime = Builder::new_current_thread().enable_all().build().map_err(prepare("event queue"))?;
    let end = runtime.block_on(async {
        let door = Door::new(control::listener(listener).map_err(prepare("inherited listener"))?);
        let signals = Signals {
            terminate: signal(SignalKind::terminate()).map_err(prepare("SIGTERM"))?,
            interrupt: signal(SignalKind::interrupt()).map_err(prepare("SIGINT"))?,
        };
        tracing::info!(threads = count, "the proxy serves");
        Ok(Control::new(threads, cached, settings.give_back_memory)
            .run(&door, queue, signals, settings.drain_timeout)
            .await)
    })?;
    access_queue.finish();
    match end {
        End::Finished => tracing::info!("everything is finished"),
        End::CutOff => tracing::warn!("connections were cut off"),
        End::ThreadDied(index) => return Err(RunError::ThreadDied { index }),
    }
    Ok(())
}

/// Standard output without the buffer of [`io::Stdout`], which would part lines.
fn stdout() -> io::Result<File> {
    Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?))
}

/// Makes the table of descriptors large before there are threads. In a process that has some, the kernel waits at each growth
/// until no CPU uses the old table, 10 ms and more (synchronize_rcu() in fs/file.c), with a request that waits for its
/// connection meanwhile.
fn make_room(any: &UnixListener) {
    // Beyond the limit it fails, and the table grows when it has to.
    drop(fcntl_dupfd_cloexec(any, DESCRIPTORS - 1));
}

/// Raises the limit on open descriptors as far as it goes, and returns it. Every connection takes one.
fn raise_descriptors_max() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, "cannot raise the limit on open files");
    }
    // `None` is no limit.
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
