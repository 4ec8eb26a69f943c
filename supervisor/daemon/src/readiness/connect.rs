//! Connections to a run, for probes: over its Unix socket, the host's network, or sockets made in the run's own network.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr, TcpStream as StdTcpStream},
    os::fd::OwnedFd,
    sync::Arc,
    time::Duration,
};

use nix::errno::Errno;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream, UnixStream},
    sync::{Mutex, mpsc},
    time,
};
use watt_api::mesh::Endpoint;
use watt_core::{RunId, plan::Check};

use super::{
    News,
    exec::{Command, Walls},
    grpc, http,
};
use crate::{runs::Task, words};

/// Unconnected TCP sockets that were made in a run's network. A connection takes one; when none is left, the loop is asked for
/// more with [`News::NeedSockets`] and sends them here.
pub type Sockets = mpsc::Receiver<OwnedFd>;

/// How long a socket is waited for before it is asked for again.
const SOCKET_TIME_MAX: Duration = Duration::from_secs(10);

/// What came of a probe.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It passes.
    Passes,
    /// It does not: `GET /healthz: status 503`.
    Fails(String),
    /// It could not be made, for want of something that is not the worker's.
    Untried,
}

/// Makes the connections of one watch.
pub(super) struct Connector {
    run: RunId,
    sockets: Option<Arc<Mutex<Sockets>>>,
    news: mpsc::Sender<News>,
    /// What is left of the last answer is being read.
    rest: Option<Task>,
}

/// What is tried on a connection.
pub(super) enum Probe {
    /// A GET.
    Http(http::Question),
    /// A call of the health service.
    Grpc(grpc::Question),
    /// Nothing: that it was accepted is enough.
    Tcp,
    /// A command, for which there is no connection.
    Exec(Command),
}

impl Probe {
    /// What a plan's check takes. `host` is the service's name.
    pub(super) fn new(check: &Check, host: &str, walls: &Walls) -> Probe {
        match check {
            Check::Http(check) => Probe::Http(http::Question::new(check, host)),
            Check::Tcp => Probe::Tcp,
            Check::Grpc(check) => Probe::Grpc(grpc::Question::new(check, host)),
            Check::Exec(command) => Probe::Exec(Command::new(command, walls)),
        }
    }

    /// Whether it is made over a connection, to where a run accepts.
    pub(super) fn needs_endpoint(&self) -> bool {
        match self {
            Probe::Http(_) | Probe::Grpc(_) | Probe::Tcp => true,
            Probe::Exec(_) => false,
        }
    }

    /// Whether it passes, or how it does not. What follows an answer is read beside the watch, which knows enough.
    async fn run<C>(&self, mut connection: C) -> io::Result<(Result<(), String>, Option<Task>)>
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self {
            Probe::Http(question) => {
                let answer = question.ask(&mut connection).await?;
                let rest = Task(tokio::spawn(http::rest(connection)));
                Ok((answer, Some(rest)))
            }
            Probe::Grpc(question) => question.ask(connection).await,
            Probe::Tcp | Probe::Exec(_) => Ok((Ok(()), None)),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Http(question) => write!(f, "GET {}", question.path()),
            Probe::Grpc(question) if question.service().is_empty() => write!(f, "gRPC health"),
            Probe::Grpc(question) => write!(f, "gRPC health of {}", question.service()),
            Probe::Tcp => write!(f, "connection"),
            Probe::Exec(command) => write!(f, "exec {}", command.program()),
        }
    }
}

impl Connector {
    pub(super) fn new(run: RunId, sockets: Option<Sockets>, news: mpsc::Sender<News>) -> Connector {
        let sockets = sockets.map(|sockets| Arc::new(Mutex::new(sockets)));
        Connector { run, sockets, news, rest: None }
    }

    /// One for another check of the same run.
    pub(super) fn another(&self) -> Connector {
        Connector { run: self.run, sockets: self.sockets.clone(), news: self.news.clone(), rest: None }
    }

    /// Tries a probe. What this process has to get for it does not count in its time.
    pub(super) async fn attempt(
        &mut self,
        probe: &Probe,
        endpoint: Option<&Endpoint>,
        timeout: Duration,
    ) -> Outcome {
        match (probe, endpoint) {
            (Probe::Exec(command), _) => match command.attempt(self.run, &self.news, timeout).await {
                Outcome::Fails(why) => Outcome::Fails(format!("{probe}: {why}")),
                outcome => outcome,
            },
            (Probe::Http(_) | Probe::Grpc(_) | Probe::Tcp, Some(endpoint)) => {
                self.connect(probe, endpoint, timeout).await
            }
            (Probe::Http(_) | Probe::Grpc(_) | Probe::Tcp, None) => Outcome::Untried,
        }
    }

    async fn connect(&mut self, probe: &Probe, endpoint: &Endpoint, timeout: Duration) -> Outcome {
        let socket = match endpoint {
            Endpoint::PrivateTcp { .. } => match time::timeout(SOCKET_TIME_MAX, self.socket()).await {
                Ok(Ok(socket)) => Some(socket),
                Ok(Err(_)) | Err(_) => return Outcome::Untried,
            },
            Endpoint::Unix { .. } | Endpoint::Tcp { .. } => None,
        };
        let attempt = async {
            match (endpoint, socket) {
                (Endpoint::Unix { path }, _) => probe.run(UnixStream::connect(path).await?).await,
                (Endpoint::PrivateTcp { address }, Some(socket)) => {
                    probe.run(connect_inside(socket, *address).await?).await
                }
                (Endpoint::Tcp { address } | Endpoint::PrivateTcp { address }, _) => {
                    probe.run(TcpStream::connect(address).await?).await
                }
            }
        };
        let why = match time::timeout(timeout, attempt).await {
            Ok(Ok((answer, rest))) => {
                // The one before has had its time.
                self.rest = rest;
                match answer {
                    Ok(()) => return Outcome::Passes,
                    Err(why) => why,
                }
            }
            Ok(Err(error)) if is_our_own(&error) => return Outcome::Untried,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {}", words::duration(timeout)),
        };
        Outcome::Fails(format!("{probe}: {why}"))
    }

    /// Waits until the last answer has been read.
    pub(super) async fn finish(&mut self) {
        if let Some(mut rest) = self.rest.take() {
            // It ends in any case; a panic there is no news.
            let _ = (&mut rest.0).await;
        }
    }

    async fn socket(&self) -> io::Result<OwnedFd> {
        let none = || io::Error::other("there are no sockets of this network");
        let mut sockets = self.sockets.as_ref().ok_or_else(none)?.lock().await;
        if let Ok(socket) = sockets.try_recv() {
            return Ok(socket);
        }
        self.news.send(News::NeedSockets { run: self.run }).await.map_err(io::Error::other)?;
        sockets.recv().await.ok_or_else(none)
    }
}

/// Connects within the network that a socket was made in.
async fn connect_inside(socket: OwnedFd, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = StdTcpStream::from(socket);
    socket.set_nonblocking(true)?;
    let address = match (address.ip(), socket.local_addr()?) {
        (IpAddr::V4(ip), SocketAddr::V6(_)) => (ip.to_ipv6_mapped(), address.port()).into(),
        (IpAddr::V4(_) | IpAddr::V6(_), _) => address,
    };
    TcpSocket::from_std_stream(socket).connect(address).await
}

/// Whether an error is about what this process or the host lacks, for which no worker can be blamed.
fn is_our_own(error: &io::Error) -> bool {
    let lacks = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS, Errno::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|errno| lacks.contains(&Errno::from_raw(errno)))
}
