//! The engine: what happens on a client's connection. It speaks HTTP/1.1; HTTP/2 comes to it, and leaves it, by [`crate::http2`].

mod again;
mod answer;
mod ask;
mod body;
mod buffer;
mod cached;
mod chunked;
mod compress;
mod connection;
mod deadline;
mod documents;
mod exchange;
mod failures;
mod files;
mod frames;
mod gating;
mod head;
mod judging;
mod mirror;
mod pause;
mod pipe;
mod prepare;
mod request;
mod response;
mod stream;
mod tap;
mod trickle;
mod tunnel;
mod websocket;

use std::{net::SocketAddr, rc::Rc};

pub(crate) use again::Loss;
pub(crate) use ask::{Answered, ask};
pub(crate) use body::Body;
#[cfg(test)]
pub(crate) use body::{Coding, Peer, Pump};
pub(crate) use buffer::{LARGE, Stock};
pub(crate) use chunked::{Chunked, Piece};
pub(crate) use compress::Rules as CompressRules;
pub(crate) use connection::Http2Begun;
pub(crate) use documents::DocumentAsked;
pub(crate) use files::FileAsked;
pub(crate) use head::{Fields, Framing, Lines, list, trim};
pub(crate) use pipe::{Break, Far, Pipe, pipe};
pub(crate) use prepare::{asked, is_http};
pub use request::Refusal;
pub(crate) use request::{Method, Request, is_protocol};
pub use stream::Stream;
pub(crate) use tunnel::ask_now_and_then as keep_asking;

use crate::{caller::UNKNOWN_CALLER, http2, room::Pool, thread::Thread};
pub use crate::{
    entrances::Terms,
    tls::{Secure, TlsStream},
};

/// Who is at the other end of a connection, as the kernel says.
#[derive(Debug, Clone)]
pub struct Client {
    /// Where the connection came in.
    pub side: Side,
    /// The client's address; `None` over a Unix socket.
    pub peer: Option<SocketAddr>,
    /// The address it connected to; `None` over a Unix socket.
    pub local: Option<SocketAddr>,
    /// Where the client speaks TLS; then `https` is what services are told.
    pub tls: Option<Rc<Secure>>,
    /// What it was taken on.
    pub terms: Terms,
}

/// Where a connection came in.
#[derive(Debug, Clone)]
pub enum Side {
    /// From outside: the routes decide.
    Gateway,
    /// From a service or an operator: `Host` names the service.
    Mesh {
        /// The calling service; `None` for operators.
        caller: Option<Rc<str>>,
    },
}

impl Side {
    pub(crate) fn pool(&self) -> Pool {
        match self {
            Side::Gateway => Pool::Gateway,
            Side::Mesh { caller: None } => Pool::Operators,
            Side::Mesh { caller: Some(caller) } if **caller == *UNKNOWN_CALLER => Pool::Strangers,
            Side::Mesh { caller: Some(_) } => Pool::Services,
        }
    }

    /// Whom responses are stored for. `None` where it is not known who asks: two such clients are not to have what one of them was told.
    pub(crate) fn cached(&self) -> Option<watt_cache::Side> {
        Some(match self {
            Side::Gateway => watt_cache::Side::Gateway,
            Side::Mesh { caller: None } => watt_cache::Side::Operators,
            Side::Mesh { caller: Some(caller) } if **caller == *UNKNOWN_CALLER => return None,
            Side::Mesh { caller: Some(caller) } => watt_cache::Side::Service((&**caller).into()),
        })
    }
}

/// Serves one client's connection until it ends. Never fails: what goes wrong is answered and counted here.
pub async fn serve(thread: &Rc<Thread>, stream: impl Into<Stream>, client: Client) {
    let _connected = thread.connection_started();
    let stream = stream.into();
    if let Stream::Tcp(tcp) = &stream {
        // Without it the end of a response could wait for the client's delayed acknowledgement of its beginning. A
        // connection that is gone already says so at the first read.
        let _ = tcp.set_nodelay(true);
    }
    let last = connection::Connection::new(thread.clone(), client, stream).run().await;
    if let Some(begun) = last {
        // In memory of its own, which connections of HTTP/1.1 do not have to hold.
        Box::pin(http2::serve(*begun)).await;
    }
}

/// Serves what comes over a pipe, until it ends.
pub(crate) async fn converse(thread: Rc<Thread>, client: Client, pipe: Pipe) {
    connection::Connection::new(thread, client, Stream::Pipe(pipe)).run().await;
}

/// Reads a request head that is there as a whole, as the engine does.
pub(crate) fn with_request<T>(
    head: &[u8],
    then: impl FnOnce(&request::Request<'_, '_>) -> T,
) -> Result<T, Refusal> {
    let mut room = head::storage();
    request::parse(head, &mut room)?.as_ref().map(then).ok_or(Refusal::Syntax)
}
