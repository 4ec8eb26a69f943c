//! Waits until a run shows its sign of readiness, and finds out where it accepts.
//!
//! One task watches one run and tells the loop by message. It ends nothing and decides nothing: that a run takes too long is for
//! `watt-core` to say. A run that is ready is not watched any longer, unless it is not yet known where it accepts; a program
//! that moves to another port later has to be restarted.

mod connect;
mod http;
pub mod notify;

use std::{convert::Infallible, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time,
};
use watt_api::mesh::Endpoint;
use watt_core::{RunId, plan::ReadyWhen};

use crate::listening::Listening;
use connect::{Connector, Probe};
use notify::NotifySocket;

pub use connect::Sockets;

/// The first and the longest wait between two looks. A program in C is there within a millisecond.
const POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// How long the first probe may take, and the longest. They grow, because some programs compile on the first request, longer than any
/// one probe should wait.
const PROBE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// The longest wait between two looks for where a run accepts that is ready already.
const LATE_POLL_MAX: Duration = Duration::from_secs(1);

/// What one run is watched for, and by what means.
#[derive(Debug)]
pub struct Watch {
    /// The run.
    pub run: RunId,
    /// Its name in the mesh, for the Host header of probes.
    pub host: String,
    /// The sign to wait for.
    pub sign: Sign,
    /// Where it accepts. `None` when the kernel cannot be asked; then the endpoint stays unknown.
    pub listening: Option<Listening>,
    /// Unconnected sockets of its network, when that is its own. Without them only Unix sockets and the host's network can be probed.
    pub sockets: Option<Sockets>,
}

/// The plan's [`ReadyWhen`] with what it takes to see it.
#[derive(Debug)]
pub enum Sign {
    /// Nothing: its program was executed.
    Started,
    /// It accepts connections.
    Listening,
    /// A GET of this path is answered with 200–399.
    Http {
        /// Path and query.
        path: String,
    },
    /// A connection is accepted.
    Tcp,
    /// A line of its output matched: the reader of the output says so.
    Log(oneshot::Receiver<()>),
    /// It said `READY=1`.
    Notify(NotifySocket),
    /// Seen already, by a daemon before this one: only what follows a sign is left to do.
    Seen {
        /// Whether it is known where it accepts.
        found: bool,
        /// What it was told as `$NOTIFY_SOCKET`, if it was.
        notify: Option<NotifySocket>,
    },
}

/// What the loop hears of a watched run.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// It is ready.
    Ready {
        /// Which.
        run: RunId,
        /// Where it accepts, when that is known.
        endpoint: Option<Endpoint>,
    },
    /// It was ready, and now it is known where it accepts.
    Endpoint {
        /// Which.
        run: RunId,
        /// Where.
        endpoint: Endpoint,
    },
    /// More sockets are wanted for probes: [`Sockets`].
    NeedSockets {
        /// For which.
        run: RunId,
    },
}

/// A watch that goes on until this is dropped. Keep it for as long as the run lives: a program that says more than
/// `READY=1` would be blocked by a socket that nobody reads.
///
/// It is not the handle of a task, which would keep the task's memory when the task has long been done.
#[derive(Debug)]
pub struct Watching {
    _end: oneshot::Sender<Infallible>,
}

impl Watch {
    /// Starts to watch.
    pub fn start(self, news: mpsc::Sender<News>) -> Watching {
        let (end, ended) = oneshot::channel();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = ended => {}
                () = watch(self, news) => {}
            }
        });
        Watching { _end: end }
    }
}

/// Whether a plan's sign needs a connection into the run's network.
pub fn needs_sockets(when: &ReadyWhen) -> bool {
    match when {
        ReadyWhen::Http { .. } | ReadyWhen::Tcp => true,
        ReadyWhen::Started | ReadyWhen::Listening | ReadyWhen::Log { .. } | ReadyWhen::Notify => false,
    }
}

async fn watch(watch: Watch, news: mpsc::Sender<News>) {
    let Watch { run, host, sign, listening, sockets } = watch;
    let mut eyes = Eyes { run, listening, complained: false };
    let mut connector = Connector::new(run, sockets, news.clone());
    let mut notify = None;
    let endpoint = match sign {
        Sign::Started => eyes.look().await,
        Sign::Listening => eyes.until_accepting(POLL.1).await,
        Sign::Http { path } => {
            let probe = Probe::Http { request: http::request(&host, &path) };
            eyes.until_passing(&probe, &mut connector).await
        }
        Sign::Tcp => eyes.until_passing(&Probe::Tcp, &mut connector).await,
        Sign::Log(seen) => match seen.await {
            Ok(()) => eyes.look().await,
            // Its output ended or its reader has gone: no line can match any more.
            Err(_) => return,
        },
        Sign::Notify(socket) => {
            socket.ready().await;
            notify = Some(socket);
            eyes.look().await
        }
        Sign::Seen { found, notify } => return watch_on(eyes, found, notify, news).await,
    };
    let found = endpoint.is_some();
    if news.send(News::Ready { run, endpoint }).await.is_ok() {
        connector.finish().await;
        watch_on(eyes, found, notify, news).await;
    }
}

/// What a run that is ready is watched for: where it accepts, until that is known, and whatever it says.
async fn watch_on(mut eyes: Eyes, found: bool, notify: Option<NotifySocket>, news: mpsc::Sender<News>) {
    let run = eyes.run;
    let find = async {
        if !found && let Some(endpoint) = eyes.until_accepting(LATE_POLL_MAX).await {
            // Fails when the loop has ended, and with it everything else.
            let _ = news.send(News::Endpoint { run, endpoint }).await;
        }
    };
    match notify {
        None => find.await,
        Some(socket) => {
            tokio::join!(find, socket.discard_for_ever());
        }
    }
}

/// Looks where a run accepts.
struct Eyes {
    run: RunId,
    listening: Option<Listening>,
    complained: bool,
}

impl Eyes {
    fn expects_endpoint(&self) -> bool {
        self.listening.as_ref().is_some_and(Listening::is_expected)
    }

    /// One look.
    async fn look(&mut self) -> Option<Endpoint> {
        let found = self.listening.as_mut()?.look().await;
        found.unwrap_or_else(|error| {
            if !self.complained {
                self.complained = true;
                tracing::warn!(run = self.run.0, %error, "cannot ask the kernel where a worker listens");
            }
            None
        })
    }

    /// Looks until it accepts. A run that is to accept nowhere has nothing to wait for.
    async fn until_accepting(&mut self, poll_max: Duration) -> Option<Endpoint> {
        if !self.expects_endpoint() {
            return None;
        }
        let mut wait = POLL.0;
        loop {
            if let Some(endpoint) = self.look().await {
                return Some(endpoint);
            }
            time::sleep(wait).await;
            wait = (wait * 2).min(poll_max);
        }
    }

    /// Probes where it accepts until a probe passes. Each time it looks anew: a program may open a debugger's port first.
    async fn until_passing(&mut self, probe: &Probe, connector: &mut Connector) -> Option<Endpoint> {
        let (mut wait, mut timeout) = (POLL.0, PROBE.0);
        loop {
            if let Some(endpoint) = self.look().await {
                if connector.passes(probe, &endpoint, timeout).await {
                    return Some(endpoint);
                }
                timeout = (timeout * 2).min(PROBE.1);
            }
            time::sleep(wait).await;
            wait = (wait * 2).min(POLL.1);
        }
    }
}

#[cfg(test)]
mod tests;
