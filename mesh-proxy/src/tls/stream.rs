//! A connection in TLS as the engine has it: bytes in, bytes out.
//!
//! It keeps what a socket would: what was written and not sent yet goes out before anything else is taken, so that a client that does not
//! read costs one piece of memory and no more. Who has written has to flush, or to go on asking whether it is flushed ([`TlsStream::poll_flush`]).

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    pin::Pin,
    task::{Context, Poll, ready},
};

use rustls::Connection;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// How much is encrypted before it is sent: two records (RFC 8446 §5.1).
const PIECE_MAX: usize = 32 << 10;

/// A connection whose handshake is over.
#[derive(Debug)]
pub struct TlsStream {
    socket: TcpStream,
    session: Connection,
    /// The client is told that it has everything, once it has.
    farewell: Farewell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    /// When the connection ends.
    Owed,
    Said,
    /// It has not, and is to see that (RFC 8446 §6.1).
    Withheld,
}

impl TlsStream {
    pub(super) fn new(socket: TcpStream, session: impl Into<Connection>) -> TlsStream {
        let mut session = session.into();
        session.set_buffer_limit(Some(PIECE_MAX));
        TlsStream { socket, session, farewell: Farewell::Owed }
    }

    /// What it goes over.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether something came that nobody has asked for yet, or the end.
    pub(crate) fn has_more(&self) -> bool {
        !self.session.wants_read()
    }

    /// The client's certificate, if it has one, as it was verified.
    pub(super) fn client_certificate(&self) -> Option<&[u8]> {
        self.session.peer_certificates().and_then(<[_]>::first).map(AsRef::as_ref)
    }

    /// Ends without saying that everything was said.
    pub(crate) fn withhold_farewell(&mut self) {
        self.farewell = Farewell::Withheld;
    }

    /// Whether a read would do something: what is decrypted already, or bytes at the socket.
    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.session.wants_read() {
            true => self.socket.poll_read_ready(cx),
            false => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            match self.session.reader().read(buf.initialize_unfilled()) {
                Ok(read) => {
                    buf.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // That of a client which ends without a farewell among them.
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(self.poll_receive(cx))?;
        }
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.session.read_tls(&mut Socket { socket: &mut self.socket, cx }) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
            Err(error) => return Poll::Ready(Err(error)),
        }
        let processed = self.session.process_new_packets();
        // It may have something to say by itself: why it cannot go on, or another key.
        let _ = self.poll_flush(cx)?;
        Poll::Ready(processed.map(drop).map_err(|error| {
            self.farewell = Farewell::Withheld;
            io::Error::new(io::ErrorKind::InvalidData, error)
        }))
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        let written = self.session.writer().write(bytes)?;
        let _ = self.poll_flush(cx)?;
        Poll::Ready(Ok(written))
    }

    pub(crate) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        let written = self.session.writer().write_vectored(slices)?;
        let _ = self.poll_flush(cx)?;
        Poll::Ready(Ok(written))
    }

    /// Ready when everything that was written is sent. Otherwise this task is woken when more of it can be.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Socket { socket: &mut self.socket, cx }) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends our direction.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.say_farewell();
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn say_farewell(&mut self) {
        if self.farewell == Farewell::Owed {
            self.session.send_close_notify();
            self.farewell = Farewell::Said;
        }
    }
}

impl Drop for TlsStream {
    /// As far as it goes at once. Without it some clients take an answer that ends with the connection for one that broke off. What ends
    /// by a bug of ours is one that did.
    fn drop(&mut self) {
        if self.farewell == Farewell::Owed && !std::thread::panicking() {
            self.say_farewell();
            let _ = self.session.write_tls(&mut AtOnce(&self.socket));
        }
    }
}

/// The socket as rustls reads and writes: what has to wait is an error.
pub(super) struct Socket<'s, 'c, 'w> {
    pub(super) socket: &'s mut TcpStream,
    pub(super) cx: &'c mut Context<'w>,
}

fn at_once<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

impl io::Read for Socket<'_, '_, '_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut buf = ReadBuf::new(buf);
        at_once(Pin::new(&mut *self.socket).poll_read(self.cx, &mut buf))?;
        Ok(buf.filled().len())
    }
}

impl io::Write for Socket<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        at_once(Pin::new(&mut *self.socket).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        at_once(Pin::new(&mut *self.socket).poll_write_vectored(self.cx, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The socket without a task that could wait.
struct AtOnce<'s>(&'s TcpStream);

impl io::Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
