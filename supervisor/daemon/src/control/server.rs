//! The server itself: accepts on the listener that the spawner holds, looks whose process it is, and answers one
//! request a connection.

use std::{
    convert::Infallible,
    io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixListener as StdListener, process::parent_id},
    },
    sync::Arc,
    time::Duration,
};

use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};

use super::{Command, Control, LONG_CALLS_MAX, peer, problem::Failure, routes};
use crate::{
    events::{Events, happenings::ControlRefused},
    logs::Logs,
};

/// How many connections are served at a time: all long calls and as many short ones. The next ones wait in the
/// kernel's queue.
const CONNECTIONS_MAX: usize = 2 * LONG_CALLS_MAX;
/// How long a request head may take to come from a process of the same host.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest request head.
const HEAD_SIZE_MAX: usize = 16 << 10;
/// How long to wait after accept(2) failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
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
    control: Control,
    stopping: watch::Sender<bool>,
    uid: u32,
}

impl Server {
    /// Makes a server on the listener that the spawner holds. Processes of this user and of root may use it that are
    /// no service's.
    pub fn new(
        listener: OwnedFd,
        commands: mpsc::Sender<Command>,
        events: Events,
        logs: Logs,
    ) -> Result<Server, ServeError> {
        let listener = StdListener::from(listener);
        listener.set_nonblocking(true).map_err(ServeError::Listener)?;
        let listener = UnixListener::from_std(listener).map_err(ServeError::Listener)?;
        let (stopping, receiver) = watch::channel(false);
        let long_calls = Arc::new(Semaphore::new(LONG_CALLS_MAX));
        let control = Control { commands, events, logs, long_calls, stopping: receiver };
        Ok(Server { listener, control, stopping, uid: nix::unistd::geteuid().as_raw() })
    }

    /// Serves until `stop` is done; then streams end, and replies under way get a moment to leave.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(serve(stream, self.control.clone(), self.uid))),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept at the control socket");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        self.stopping.send_replace(true);
        let farewell = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }
}

async fn serve(stream: UnixStream, control: Control, uid: u32) {
    let refused = refuse(&stream, &control.events, uid);
    let service = service_fn(|request: Request<Incoming>| {
        let (control, refused) = (&control, refused.clone());
        async move {
            let answer = match refused {
                Some(refused) => Err(refused),
                None => routes::answer(control, request).await,
            };
            Ok::<_, Infallible>(answer.unwrap_or_else(Failure::into_response))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_SIZE_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a control connection ended early");
    }
}

/// Why this process may not use the socket. Its mode keeps others out already; a descriptor that was passed on, or a
/// mode that was changed, does not let them in. Services are kept out although they are the same user.
fn refuse(stream: &UnixStream, events: &Events, own: u32) -> Option<Failure> {
    let (uid, pid) = match stream.peer_cred() {
        Ok(credentials) => (credentials.uid(), credentials.pid()),
        // The overflow uid of the kernel, which is nobody's.
        Err(_) => (u32::from(u16::MAX) - 1, None),
    };
    let failure = if uid != own && uid != 0 {
        Failure::Forbidden { uid }
    } else if peer::is_service(stream, parent_id()) {
        Failure::ForbiddenToServices
    } else {
        return None;
    };
    events.emit(ControlRefused { uid, pid, is_service: failure == Failure::ForbiddenToServices });
    Some(failure)
}
