//! The HTTP/1.1 engine: what happens on a client's connection.

mod stream;

use std::{net::SocketAddr, rc::Rc};

pub use stream::Stream;

use crate::thread::Thread;

/// Who is at the other end of a connection, as the kernel says.
#[derive(Debug, Clone)]
pub struct Client {
    /// Where the connection came in.
    pub side: Side,
    /// The client's address; `None` over a Unix socket.
    pub peer: Option<SocketAddr>,
    /// The address it connected to; `None` over a Unix socket.
    pub local: Option<SocketAddr>,
    /// Whether the client spoke TLS; then `https` is what services are told.
    pub tls: bool,
}

/// Where a connection came in.
#[derive(Debug, Clone)]
pub enum Side {
    /// From outside: the routes decide.
    Gateway,
    /// From a service or an operator: `Host` names the service.
    Mesh {
        /// The calling service; `None` for operators and whoever is not known.
        caller: Option<Rc<str>>,
    },
}

/// Serves one client's connection until it ends. Never fails: what goes wrong is answered, counted and logged here.
pub async fn serve(_thread: &Rc<Thread>, stream: impl Into<Stream>, _client: Client) {
    drop(stream.into());
}
