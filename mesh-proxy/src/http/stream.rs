//! A connection's socket, whichever kind it is.
//!
//! One enum in place of a generic parameter: the engine is compiled once, not once for each pair of client and
//! worker, and a branch that always goes the same way costs nothing.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};

use super::pipe::{Break, Pipe};
use crate::tls::TlsStream;

/// A connected stream socket, registered with this thread's runtime, or what stands in its place.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
    /// In TLS, over TCP.
    Tls(Box<TlsStream>),
    /// A stream of HTTP/2.
    Pipe(Pipe),
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Stream::Tcp(stream)
    }
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Stream::Unix(stream)
    }
}

impl From<TlsStream> for Stream {
    fn from(stream: TlsStream) -> Self {
        Stream::Tls(Box::new(stream))
    }
}

impl Stream {
    /// The socket, where there is one.
    pub fn socket(&self) -> Option<SockRef<'_>> {
        match self {
            Stream::Tcp(stream) => Some(SockRef::from(stream)),
            Stream::Unix(stream) => Some(SockRef::from(stream)),
            Stream::Tls(stream) => Some(SockRef::from(stream.socket())),
            Stream::Pipe(_) => None,
        }
    }

    /// Whether a read would do something, without a buffer to read into and without a system call. May be wrong
    /// in one way: ready, and the read then finds nothing.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Stream::Tcp(stream) => stream.poll_read_ready(cx),
            Stream::Unix(stream) => stream.poll_read_ready(cx),
            Stream::Tls(stream) => stream.poll_read_ready(cx),
            Stream::Pipe(pipe) => pipe.poll_read_ready(cx),
        }
    }

    /// Whether bytes are here already that nobody has asked for.
    pub(crate) fn has_more(&self) -> bool {
        matches!(self, Stream::Tls(stream) if stream.has_more())
    }

    /// Whether the peer can certainly read no more, after it ended its direction. Over a Unix socket the kernel knows,
    /// and says EPIPE even to a message of no bytes; over TCP it learns of it only by a reset.
    pub(crate) fn is_deaf(&self) -> bool {
        self.socket().is_some_and(|socket| socket.send(&[]).is_err())
    }

    /// Has the kernel acknowledge at once what came, and not up to 40 ms later together with what is sent next (tcp(7)). A
    /// program that writes a response in pieces, with Nagle's algorithm on, waits for that before its next piece: Python's
    /// `http.server` does, after each head.
    pub(crate) fn acknowledge(&self) {
        if let Stream::Tcp(stream) = self {
            // Without it the response comes as late as it does without a proxy that keeps connections.
            let _ = rustix::net::sockopt::set_tcp_quickack(stream, true);
        }
    }

    /// Whether the stream is one of HTTP/2, which belongs to a connection of its own.
    pub(crate) fn is_pipe(&self) -> bool {
        matches!(self, Stream::Pipe(_))
    }

    /// The connection ends in the middle of something, which its client is to see.
    pub(crate) fn breaks_off(&mut self) {
        if let Stream::Tls(stream) = self {
            stream.withhold_farewell();
        }
    }

    /// Where this is a stream of HTTP/2, has it break off as the one did that its bytes come from.
    pub(crate) fn break_off(&self, error: &io::Error) {
        if let (Stream::Pipe(pipe), Some(broken)) = (self, Break::of(error)) {
            pipe.break_off(broken.clone());
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => stream.poll_read(cx, buf),
            Stream::Pipe(pipe) => pipe.poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => stream.poll_write(cx, bytes),
            Stream::Pipe(pipe) => pipe.poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Stream::Tls(stream) => stream.poll_write_vectored(cx, slices),
            Stream::Pipe(pipe) => match slices.iter().find(|slice| !slice.is_empty()) {
                Some(slice) => pipe.poll_write(cx, slice),
                None => Poll::Ready(Ok(0)),
            },
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tls(stream) => stream.poll_flush(cx),
            Stream::Tcp(_) | Stream::Unix(_) | Stream::Pipe(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => stream.poll_shutdown(cx),
            Stream::Pipe(pipe) => {
                pipe.shut();
                Poll::Ready(Ok(()))
            }
        }
    }
}
