//! Watches a run: whether it has come up, is ready, stays so, and is healthy; and where it accepts.
//!
//! One task watches one run and tells the loop by message. It ends nothing and decides nothing: what follows is for
//! `watt-core` to say. Where a run accepts is looked for until it is known; a program that moves to another port later has to
//! be restarted.

mod connect;
pub mod exec;
mod fd;
mod grpc;
pub(crate) mod http;
pub mod kin;
pub mod notify;
pub mod store;
mod upkeep;

use std::{
    convert::Infallible,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time,
};
use watt_api::mesh::Endpoint;
use watt_core::{
    RunId,
    plan::{Check, Health, ReadyWhen, Rhythm, Service},
    worker::Complaint,
};

use crate::{listening::Listening, record::Said};
use connect::{Connector, Outcome, Probe};
use exec::{Ask, Walls};
use notify::{NotifySocket, Voice};

pub use connect::Sockets;
pub use notify::Status;

/// The first and the longest wait between two looks. A program in C is there within a millisecond.
const POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

/// The same where each look starts a process.
const EXEC_POLL: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

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
    /// What has to pass before the sign is waited for.
    pub startup: Option<Check>,
    /// The sign of readiness to wait for.
    pub sign: Sign,
    /// What it is watched for from then on.
    pub after: After,
    /// Where it accepts. `None` when the kernel cannot be asked; then the endpoint stays unknown.
    pub listening: Option<Listening>,
    /// Unconnected sockets of its network, when that is its own. Without them only Unix sockets and the host's network can be probed.
    pub sockets: Option<Sockets>,
    /// What it was told as `$NOTIFY_SOCKET`, if it was.
    pub notify: Option<NotifySocket>,
    /// What it has said there to an earlier watch.
    pub said: Said,
    /// What it takes to run commands inside its walls.
    pub walls: Walls,
}

/// What a ready run is watched for.
#[derive(Debug, Default)]
pub struct After {
    /// That its check goes on to pass.
    pub ready: Option<(Check, Rhythm)>,
    /// Whether it does not at the moment.
    pub is_unready: bool,
    /// That it is healthy.
    pub health: Option<Health>,
}

/// The plan's [`ReadyWhen`] with what it takes to see it.
#[derive(Debug)]
pub enum Sign {
    /// Nothing: its program was executed.
    Started,
    /// It accepts connections.
    Listening,
    /// A check passes.
    Check(Check),
    /// A line of its output matched: the reader of the output says so.
    Log(oneshot::Receiver<()>),
    /// It said `READY=1`.
    Notify,
    /// It wrote a line break to this pipe.
    Fd(OwnedFd),
    /// Seen already, by a daemon before this one, with where it accepts, if that was found: only what follows a sign is left to do.
    Seen(Option<Endpoint>),
}

/// What the loop hears of a watched run.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// It has passed its startup check.
    Started {
        /// Which.
        run: RunId,
    },
    /// It has said something that holds for as long as it lives.
    Said {
        /// Which.
        run: RunId,
        /// All of that.
        said: Said,
    },
    /// It asks for this much time from now to get ready.
    Extend {
        /// Which.
        run: RunId,
        /// How much.
        time: Duration,
    },
    /// It is ready, for the first time or again.
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
    /// It has passed its health check, for the first time since it is watched.
    Healthy {
        /// Which.
        run: RunId,
    },
    /// It is not ready any more.
    Unready {
        /// Which.
        run: RunId,
        /// What was seen of that: `GET /ready: status 503`.
        why: String,
    },
    /// It is unhealthy.
    Unhealthy {
        /// Which.
        run: RunId,
        /// What is wrong.
        complaint: Complaint,
        /// What was seen of that.
        why: String,
    },
    /// Another process is its main one from now on.
    Main {
        /// Which.
        run: RunId,
        /// The process.
        named: kin::Named,
    },
    /// What was told before has been acted upon when this is heard, and whoever waits for that is to be told.
    Heard(Reply),
    /// Nothing is left unheard of what it had said when that was asked for.
    HeardOut {
        /// Which.
        run: RunId,
    },
    /// It asks something of its store of descriptors.
    Store(Box<store::Asked>),
    /// A command is to be run inside its walls.
    Check(Box<Ask>),
    /// More sockets are wanted for probes: [`Sockets`].
    NeedSockets {
        /// For which.
        run: RunId,
    },
}

/// To whoever waits until something has been acted upon.
#[derive(Debug)]
pub struct Reply(oneshot::Sender<()>);

impl Reply {
    /// Tells that.
    pub(crate) fn done(self) {
        // Nobody waits any more.
        let _ = self.0.send(());
    }
}

/// For tests, in which one is as good as another.
impl PartialEq for Reply {
    fn eq(&self, _: &Reply) -> bool {
        true
    }
}

impl Eq for Reply {}

/// A watch that goes on until this is dropped. Keep it for as long as the run lives: a program that says more than
/// `READY=1` would be blocked by a socket that nobody reads.
///
/// It is not the handle of a task, which would keep the task's memory when the task has long been done.
#[derive(Debug)]
pub struct Watching {
    _end: oneshot::Sender<Infallible>,
    status: Arc<Status>,
    early: Arc<Early>,
    /// To who reads what the run says, where somebody does.
    voice: Option<mpsc::Sender<notify::LastWords>>,
}

/// How a check of a run that is starting failed last, and which.
#[derive(Debug, Default)]
struct Early(Mutex<Option<(&'static str, String)>>);

impl Early {
    fn set(&self, failure: Option<(&'static str, String)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }
}

impl Watching {
    /// What the run has said of itself last: `STATUS=` of sd_notify(3).
    pub fn status(&self) -> Option<String> {
        self.status.get()
    }

    /// Has everything heard that the run has said until now, which is a wait for the answer, or its sender's end. `None` when nobody listens.
    pub(crate) fn hear_out(&self) -> Option<oneshot::Receiver<()>> {
        let (asked, heard) = oneshot::channel();
        self.voice.as_ref()?.try_send(asked).ok()?;
        Some(heard)
    }

    /// Which check has kept it from getting ready, and how that failed last.
    pub(crate) fn early_failure(&self) -> Option<(&'static str, String)> {
        self.early.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Watch {
    /// Starts to watch.
    pub fn start(self, news: mpsc::Sender<News>) -> Watching {
        let (end, ended) = oneshot::channel();
        let status = Arc::<Status>::default();
        let early = Arc::<Early>::default();
        let own = (Arc::clone(&status), Arc::clone(&early));
        // One that is asked for once more while it is under way is as good as the first.
        let (voice, asked) = mpsc::channel(1);
        let voice = self.notify.is_some().then_some(voice);
        tokio::spawn(async move {
            tokio::select! {
                biased;
                _ = ended => {}
                () = watch(self, own, asked, news) => {}
            }
        });
        Watching { _end: end, status, early, voice }
    }
}

/// Whether a service is looked at over connections into its network.
pub fn needs_sockets(service: &Service) -> bool {
    service.checks().any(Check::needs_listener)
}

impl After {
    /// What a plan asks for.
    pub fn of(service: &Service) -> After {
        let check = match &service.ready.when {
            ReadyWhen::Check(check) => Some(check.clone()),
            ReadyWhen::Started
            | ReadyWhen::Listening
            | ReadyWhen::Log { .. }
            | ReadyWhen::Notify
            | ReadyWhen::NotificationFd(_) => None,
        };
        After { ready: check.zip(service.ready.upkeep), is_unready: false, health: service.health.clone() }
    }
}

/// Watches for all of it, and reads whatever the run says, which has to be read for as long as it lives.
async fn watch(
    mut watch: Watch,
    (status, early): (Arc<Status>, Arc<Early>),
    asked: mpsc::Receiver<notify::LastWords>,
    news: mpsc::Sender<News>,
) {
    let voice = Voice::new(watch.run, watch.said, status, news.clone());
    match watch.notify.take() {
        None => live(watch, &voice, early, news).await,
        Some(socket) => {
            // What it has said counts before what it has failed to say.
            tokio::join!(biased; voice.listen(socket, asked), live(watch, &voice, early, news));
        }
    }
}

/// From the start to readiness, and on from there.
async fn live(watch: Watch, voice: &Voice, early: Arc<Early>, news: mpsc::Sender<News>) {
    let Watch { run, host, startup, sign, after, listening, sockets, notify: _, said: _, walls } = watch;
    let first = |check: &Check| Probe::new(check, &host, &walls);
    let mut eyes = Eyes { run, listening, complained: false, early };
    let mut connector = Connector::new(run, sockets, news.clone());
    if let Some(check) = startup {
        eyes.until_passing("startup", &first(&check), &mut connector).await;
        if news.send(News::Started { run }).await.is_err() {
            return;
        }
    }
    let endpoint = match sign {
        Sign::Started => eyes.look().await,
        Sign::Listening => eyes.until_accepting(POLL.1).await,
        Sign::Check(check) => eyes.until_passing("ready", &first(&check), &mut connector).await,
        Sign::Log(seen) => match seen.await {
            Ok(()) => eyes.look().await,
            // Its output ended or its reader has gone: no line can match any more.
            Err(_) => return,
        },
        Sign::Notify => {
            voice.ready().await;
            eyes.look().await
        }
        Sign::Fd(pipe) => match fd::line_break(pipe).await {
            Ok(()) => eyes.look().await,
            // Nothing will be written there any more.
            Err(error) => {
                tracing::debug!(run = run.0, %error, "no line break comes at a notification descriptor");
                return;
            }
        },
        Sign::Seen(endpoint) => {
            return upkeep::upkeep(eyes, endpoint, after, (&host, &walls), connector, voice, news).await;
        }
    };
    // One that stops will not be ready any more.
    if !voice.is_stopping() && news.send(News::Ready { run, endpoint: endpoint.clone() }).await.is_ok() {
        connector.finish().await;
        upkeep::upkeep(eyes, endpoint, after, (&host, &walls), connector, voice, news).await;
    }
}

/// Looks where a run accepts.
struct Eyes {
    run: RunId,
    listening: Option<Listening>,
    complained: bool,
    early: Arc<Early>,
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
    async fn until_passing(
        &mut self,
        check: &'static str,
        probe: &Probe,
        connector: &mut Connector,
    ) -> Option<Endpoint> {
        if !probe.needs_endpoint() {
            return self.until_ending_well(check, probe, connector).await;
        }
        let (mut wait, mut timeout) = (POLL.0, PROBE.0);
        loop {
            if let Some(endpoint) = self.look().await {
                let outcome = connector.attempt(probe, Some(&endpoint), timeout).await;
                if self.passes(check, outcome) {
                    return Some(endpoint);
                }
                timeout = (timeout * 2).min(PROBE.1);
            }
            time::sleep(wait).await;
            wait = (wait * 2).min(POLL.1);
        }
    }

    /// The same with a command, which finds the way by itself.
    async fn until_ending_well(
        &mut self,
        check: &'static str,
        probe: &Probe,
        connector: &mut Connector,
    ) -> Option<Endpoint> {
        let mut wait = EXEC_POLL.0;
        loop {
            let outcome = connector.attempt(probe, None, PROBE.1).await;
            if self.passes(check, outcome) {
                break;
            }
            time::sleep(wait).await;
            wait = (wait * 2).min(EXEC_POLL.1);
        }
        self.look().await
    }

    /// Whether a check passes, and notes how it does not for whoever has to say why a start took too long.
    fn passes(&self, check: &'static str, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Passes => self.early.set(None),
            Outcome::Fails(why) => {
                self.early.set(Some((check, why)));
                return false;
            }
            Outcome::Untried => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests;
