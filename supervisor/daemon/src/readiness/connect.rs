//! Connections to a run, for probes: over its Unix socket, the host's network, or sockets made in the run's own network.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpStream as StdTcpStream},
    os::fd::OwnedFd,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpSocket, TcpStream, UnixStream},
    sync::mpsc,
    time,
};
use watt_api::mesh::Endpoint;
use watt_core::RunId;

use super::{News, http};
use crate::runs::Task;

/// Unconnected TCP sockets that were made in a run's network. A connection takes one; when none is left, the loop is asked for
/// more with [`News::NeedSockets`] and sends them here.
pub type Sockets = mpsc::Receiver<OwnedFd>;

/// Makes the connections of one watch.
pub(super) struct Connector {
    run: RunId,
    sockets: Option<Sockets>,
    news: mpsc::Sender<News>,
    /// What is left of the last answer is being read.
    rest: Option<Task>,
}

/// What is tried on a connection.
pub(super) enum Probe {
    /// A GET, which has to be answered with 200–399.
    Http {
        /// The whole request.
        request: Vec<u8>,
    },
    /// Nothing: that it was accepted is enough.
    Tcp,
}

impl Probe {
    /// Whether it passes. What follows an answer is read beside the watch, which knows enough.
    async fn run<C>(&self, mut connection: C) -> io::Result<(bool, Option<Task>)>
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self {
            Probe::Http { request } => {
                let status = http::status(&mut connection, request).await?;
                let rest = Task(tokio::spawn(http::rest(connection)));
                Ok(((200..400).contains(&status), Some(rest)))
            }
            Probe::Tcp => Ok((true, None)),
        }
    }
}

impl Connector {
    pub(super) fn new(run: RunId, sockets: Option<Sockets>, news: mpsc::Sender<News>) -> Connector {
        Connector { run, sockets, news, rest: None }
    }

    /// Whether a probe passes in time.
    pub(super) async fn passes(&mut self, probe: &Probe, endpoint: &Endpoint, timeout: Duration) -> bool {
        let attempt = async {
            match endpoint {
                Endpoint::Unix { path } => probe.run(UnixStream::connect(path).await?).await,
                Endpoint::Tcp { address } => probe.run(TcpStream::connect(address).await?).await,
                Endpoint::PrivateTcp { address } => probe.run(self.connect_inside(*address).await?).await,
            }
        };
        let Ok(Ok((passes, rest))) = time::timeout(timeout, attempt).await else { return false };
        // The one before has had its time.
        self.rest = rest;
        passes
    }

    /// Waits until the last answer has been read.
    pub(super) async fn finish(self) {
        if let Some(mut rest) = self.rest {
            // It ends in any case; a panic there is no news.
            let _ = (&mut rest.0).await;
        }
    }

    /// Connects within the run's network: a socket keeps the network it was made in.
    async fn connect_inside(&mut self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = StdTcpStream::from(self.socket().await?);
        socket.set_nonblocking(true)?;
        let address = match (address.ip(), socket.local_addr()?) {
            (IpAddr::V4(ip), SocketAddr::V6(_)) => (ip.to_ipv6_mapped(), address.port()).into(),
            (IpAddr::V4(_) | IpAddr::V6(_), _) => address,
        };
        TcpSocket::from_std_stream(socket).connect(address).await
    }

    async fn socket(&mut self) -> io::Result<OwnedFd> {
        let none = || io::Error::other("there are no sockets of this network");
        let sockets = self.sockets.as_mut().ok_or_else(none)?;
        if let Ok(socket) = sockets.try_recv() {
            return Ok(socket);
        }
        self.news.send(News::NeedSockets { run: self.run }).await.map_err(io::Error::other)?;
        sockets.recv().await.ok_or_else(none)
    }
}
