//! The server itself: accepts on the listener that the spawner holds, looks whose process it is, and answers one
//! request a connection.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    os::{fd::OwnedFd, unix::net::UnixListener as StdListener},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, SemaphorePermit, mpsc, watch},
    task::JoinSet,
};

use super::{
    Command, Control, LONG_CALLS_MAX,
    problem::Failure,
    roles::{Caller, Roles, Who},
    routes, scrapes,
};
use crate::{
    beside::AUDITS_MAX,
    events::{Events, happenings::ControlRefused},
    logs::Logs,
};

/// How many connections are served at a time: all long calls and as many short ones. The next ones wait in the
/// kernel's queue.
const CONNECTIONS_MAX: usize = 2 * LONG_CALLS_MAX;
/// How many of them may be of those who have no role. They are refused as soon as they ask, and more are not even heard: whoever may
/// connect must not keep the others out.
const STRANGERS_MAX: usize = 8;
/// How many may be of each service and of each user who has a role without being root or the supervisor's user, and how many
/// of all of them together: whoever may only look must not keep an operator out, who needs one place of the long calls.
const OTHERS_EACH_MAX: usize = 16;
const OTHERS_MAX: usize = LONG_CALLS_MAX - 20;
/// A refusal is told at most so often: it is not for those who are refused to fill the log.
const REFUSALS_APART: Duration = Duration::from_secs(1);
/// How long a request head may take to come from a process of the same host.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest request head.
const HEAD_SIZE_MAX: usize = 16 << 10;
/// How long to wait after accept(2) failed for want of descriptors or memory.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long replies may take to leave at the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why there is no control server.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The descriptor is not a listening Unix socket that can be used.
    #[error("cannot listen at the control socket")]
    Listener(#[source] io::Error),
}

/// The control server.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    /// Where the proxy gets what was counted.
    scrapes: Option<UnixListener>,
    control: Control,
    stopping: watch::Sender<bool>,
    gate: Arc<Gate>,
    roles: watch::Sender<Arc<Roles>>,
}

/// What stands between a connection and the routes.
#[derive(Debug)]
struct Gate {
    roles: watch::Receiver<Arc<Roles>>,
    strangers: Semaphore,
    others: Others,
    /// When a refusal was told last.
    told: Mutex<Option<Instant>>,
}

impl Server {
    /// Makes a server on the listener that the spawner holds, for those who have a role.
    pub fn new(
        listener: OwnedFd,
        roles: Roles,
        commands: mpsc::Sender<Command>,
        events: Events,
        logs: Logs,
    ) -> Result<Server, ServeError> {
        let listener = listening(listener)?;
        let (stopping, receiver) = watch::channel(false);
        let long_calls = Arc::new(Semaphore::new(LONG_CALLS_MAX));
        let audits = Arc::new(Semaphore::new(AUDITS_MAX));
        let control = Control { commands, events, logs, long_calls, audits, stopping: receiver };
        let (roles, current) = watch::channel(Arc::new(roles));
        let gate = Gate {
            roles: current,
            strangers: Semaphore::new(STRANGERS_MAX),
            others: Others::default(),
            told: Mutex::new(None),
        };
        Ok(Server { listener, scrapes: None, control, stopping, gate: gate.into(), roles })
    }

    /// One that says at this listener as well what was counted, to whoever gets there.
    pub fn with_scrapes(self, listener: OwnedFd) -> Result<Server, ServeError> {
        Ok(Server { scrapes: Some(listening(listener)?), ..self })
    }

    /// The way to give it other roles, which hold for connections from then on.
    pub fn roles(&self) -> watch::Sender<Arc<Roles>> {
        self.roles.clone()
    }

    /// Serves until `stop` is done; then streams end, and replies under way get a moment to leave.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        // Ends with this.
        let mut beside = JoinSet::new();
        if let Some(listener) = self.scrapes {
            beside.spawn(scrapes::serve(listener, self.control.clone(), self.roles.subscribe()));
        }
        tokio::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(serve(stream, self.control.clone(), self.gate.clone()))),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept at the control socket");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        self.stopping.send_replace(true);
        // Who is attached to a task is told of its end on a connection that was handed over, and has its place among the long calls.
        let farewell = async {
            while connections.join_next().await.is_some() {}
            let all = u32::try_from(LONG_CALLS_MAX).unwrap_or(u32::MAX);
            // Fails when it is closed, which nobody does.
            drop(self.control.long_calls.acquire_many(all).await);
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
}

fn listening(descriptor: OwnedFd) -> Result<UnixListener, ServeError> {
    let listener = StdListener::from(descriptor);
    listener.set_nonblocking(true).map_err(ServeError::Listener)?;
    UnixListener::from_std(listener).map_err(ServeError::Listener)
}

async fn serve(stream: UnixStream, control: Control, gate: Arc<Gate>) {
    let roles = Arc::clone(&gate.roles.borrow());
    let found = roles.caller(&stream, &control).await;
    let Some((caller, _place)) = gate.admit(found) else { return };
    let service = service_fn(|request: Request<Incoming>| {
        let (control, caller, gate) = (&control, caller.clone(), &gate);
        async move {
            let what = format!("{} {}", request.method(), request.uri().path());
            let answer = match &caller {
                Err(failure) => Err(failure.clone()),
                Ok(caller) => routes::answer(control, caller, request).await,
            };
            if let (Err(Failure::Forbidden { who, .. }), Ok(caller)) = (&answer, &caller) {
                gate.tell(&control.events, caller, who.to_string(), what);
            }
            Ok::<_, Infallible>(answer.unwrap_or_else(Failure::into_response))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_SIZE_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a control connection ended early");
    }
}

/// The connections of those who have a role and are not the owner.
#[derive(Debug, Default)]
struct Others(Mutex<HashMap<Who, usize>>);

/// A place of one of them, until it is dropped.
#[derive(Debug)]
struct Place<'a> {
    others: &'a Others,
    who: Who,
}

impl Others {
    /// `None` when he has all that he may have, or all of them together have.
    fn enter(&self, who: &Who) -> Option<Place<'_>> {
        let mut places = self.places();
        let own = places.get(who).copied().unwrap_or(0);
        if own >= OTHERS_EACH_MAX || places.values().sum::<usize>() >= OTHERS_MAX {
            return None;
        }
        places.insert(who.clone(), own + 1);
        Some(Place { others: self, who: who.clone() })
    }

    /// A panic elsewhere does not make the numbers wrong.
    fn places(&self) -> MutexGuard<'_, HashMap<Who, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut places = self.others.places();
        if let Some(own) = places.get_mut(&self.who) {
            *own -= 1;
            if *own == 0 {
                places.remove(&self.who);
            }
        }
    }
}

/// The place that a connection has while it is served.
#[derive(Debug)]
#[expect(dead_code, reason = "they are given back when they are dropped")]
enum Admitted<'a> {
    Owner,
    Other(Place<'a>),
    Stranger(SemaphorePermit<'a>),
}

impl Gate {
    /// Gives a connection its place. Who has too many is told that we are busy, from a place of those who have no role. `None`
    /// when it is not even heard.
    fn admit(&self, caller: Result<Caller, Failure>) -> Option<(Result<Caller, Failure>, Admitted<'_>)> {
        let refused = match caller {
            Ok(caller) if caller.role.is_some() => {
                if !self.roles.borrow().is_other(&caller) {
                    return Some((Ok(caller), Admitted::Owner));
                }
                match self.others.enter(&caller.who) {
                    Some(place) => return Some((Ok(caller), Admitted::Other(place))),
                    None => Err(Failure::Busy),
                }
            }
            stranger => stranger,
        };
        Some((refused, Admitted::Stranger(self.strangers.try_acquire().ok()?)))
    }

    /// Tells of a refusal, unless one was told just now.
    fn tell(&self, events: &Events, caller: &Caller, who: String, what: String) {
        let now = Instant::now();
        {
            // A panic elsewhere does not make the time wrong.
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.is_some_and(|last| now.duration_since(last) < REFUSALS_APART) {
                return;
            }
            *told = Some(now);
        }
        events.emit(ControlRefused { uid: caller.uid, pid: caller.pid, who, what });
    }
}

#[cfg(test)]
mod tests {
    use watt_core::ServiceId;

    use super::*;

    #[test]
    fn nobody_but_the_owner_can_take_all_places() {
        let others = Others::default();
        let service = |name: &str| Who::Service(Some(ServiceId::new(name).unwrap()));
        let enter_all = |who: &Who| -> Vec<Place<'_>> { std::iter::from_fn(|| others.enter(who)).collect() };
        let mut first = enter_all(&service("a"));
        assert_eq!(first.len(), OTHERS_EACH_MAX);
        drop(first.pop());
        assert!(others.enter(&service("a")).is_some(), "a place is free again");
        let more: Vec<Vec<Place<'_>>> = (0..100).map(|uid| enter_all(&Who::User(uid))).collect();
        assert_eq!(first.len() + more.iter().map(Vec::len).sum::<usize>(), OTHERS_MAX);
        drop((first, more));
        assert!(others.places().is_empty());
    }
}
