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

/// Unconnected TCP sockets that were made in a run's network. A connection takes one; when none is left, the loop is asked for
/// more with [`News::NeedSockets`] and sends them here.
pub type Sockets = mpsc::Receiver<OwnedFd>;

/// Makes the connections of one watch.
pub(super) struct Connector {
    run: RunId,
    sockets: Option<Sockets>,
    news: mpsc::Sender<News>,
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
    async fn run<C>(&self, mut connection: C) -> io::Result<bool>
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        match self {
            Probe::Http { request } => {
                let status = http::status(&mut connection, request).await?;
                // Beside the watch, which has its answer.
                tokio::spawn(http::rest(connection));
                Ok((200..400).contains(&status))
            }
            Probe::Tcp => Ok(true),
        }
    }
}

impl Connector {
    pub(super) fn new(run: RunId, sockets: Option<Sockets>, news: mpsc::Sender<News>) -> Connector {
        Connector { run, sockets, news }
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
        matches!(time::timeout(timeout, attempt).await, Ok(Ok(true)))
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
