//! How a connection in TLS begins.
//!
//! A client that takes its time costs its own place and nothing else: it has [`TIMEOUT`], and loses its place before that to whoever comes
//! when all are taken, sooner than connections that have been of use ([`crate::room`]). What costs is the cryptography, a millisecond for some
//! keys. So one handshake has its turn, and then every other task of the thread, before the next one has.

use std::{
    cell::Cell,
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
};

use rustls::{Error, PeerIncompatible, ServerConnection};
use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    net::TcpStream,
    sync::Semaphore,
    task::yield_now,
};
use watt_api::mesh::Handshakes;

use super::{Acceptor, Secure, TlsStream, stream::Socket};
use crate::{
    room::Pool,
    thread::Thread,
    timer::{Alarm, Ticks},
};

/// How long a client has for all of it.
const TIMEOUT: Ticks = Ticks::from_ms(10_000);

/// How long, and for how many bytes, a client may go on to send after it was told why nothing comes of it. Closing with bytes unread would
/// make the kernel throw that away.
const LINGER_TIMEOUT: Ticks = Ticks::from_ms(2_000);
const LINGER_BYTES_MAX: usize = 64 << 10;

/// The longest certificate of a client. Services get all of it with each request, and most take heads of 16 KB.
const CERTIFICATE_SIZE_MAX: usize = 8 << 10;

/// How much is read at a time. Most clients say everything in a sixth of it.
const INPUT_SIZE: usize = 4 << 10;

/// The answer to those who speak HTTP where TLS is spoken.
const IS_TLS: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 35\r\n\
    Connection: close\r\n\r\nThis port speaks TLS: use https://\n";

/// Why a connection in TLS did not come to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The client took too long.
    Timeout,
    /// Its place was needed.
    NoRoom,
    /// It went away.
    Gone,
    /// It spoke HTTP.
    PlainHttp,
    /// It spoke something else.
    NotTls,
    /// There is no version, cipher or kind of key that both know.
    NothingInCommon,
    /// It has to have a certificate, and has none.
    NoCertificate,
    /// Its certificate is not one of those that are taken.
    BadCertificate,
    /// It did not take ours, as far as it says.
    RefusedByClient,
    /// It broke the protocol.
    Protocol,
}

impl Failure {
    pub(crate) const ALL: [Failure; 10] = [
        Failure::Timeout,
        Failure::NoRoom,
        Failure::Gone,
        Failure::PlainHttp,
        Failure::NotTls,
        Failure::NothingInCommon,
        Failure::NoCertificate,
        Failure::BadCertificate,
        Failure::RefusedByClient,
        Failure::Protocol,
    ];

    /// In one word.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Failure::Timeout => "timeout",
            Failure::NoRoom => "no_room",
            Failure::Gone => "gone",
            Failure::PlainHttp => "plain_http",
            Failure::NotTls => "not_tls",
            Failure::NothingInCommon => "nothing_in_common",
            Failure::NoCertificate => "no_client_certificate",
            Failure::BadCertificate => "bad_client_certificate",
            Failure::RefusedByClient => "refused_by_client",
            Failure::Protocol => "protocol",
        }
    }

    /// Whether the client was told: by an alert, or by an answer in HTTP.
    fn was_said(self) -> bool {
        match self {
            Failure::PlainHttp
            | Failure::NothingInCommon
            | Failure::NoCertificate
            | Failure::BadCertificate
            | Failure::Protocol => true,
            Failure::Timeout
            | Failure::NoRoom
            | Failure::Gone
            | Failure::NotTls
            | Failure::RefusedByClient => false,
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        match error {
            Error::NoCertificatesPresented => Failure::NoCertificate,
            Error::InvalidCertificate(_) => Failure::BadCertificate,
            Error::AlertReceived(_) => Failure::RefusedByClient,
            Error::PeerIncompatible(PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon) => {
                Failure::BadCertificate
            }
            Error::PeerIncompatible(_) | Error::NoApplicationProtocol => Failure::NothingInCommon,
            _ => Failure::Protocol,
        }
    }
}

/// The handshakes of one thread.
pub(crate) struct Tally {
    /// Whoever has it may compute.
    pub(super) turn: Semaphore,
    completed: Cell<u64>,
    failed: [Cell<u64>; Failure::ALL.len()],
}

impl Default for Tally {
    fn default() -> Self {
        Tally { turn: Semaphore::new(1), completed: Cell::default(), failed: Default::default() }
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read().fmt(f)
    }
}

impl Tally {
    /// What was counted.
    pub(crate) fn read(&self) -> Handshakes {
        let failed =
            Failure::ALL.iter().zip(self.failed.iter().map(Cell::get)).filter(|(_, count)| *count > 0);
        let failed = failed.map(|(failure, count)| (failure.code().to_owned(), count));
        Handshakes { completed: self.completed.get(), failed: failed.collect() }
    }

    fn count(&self, failure: Failure) {
        let index = Failure::ALL.iter().position(|other| *other == failure);
        if let Some(count) = index.and_then(|index| self.failed.get(index)) {
            count.set(count.get() + 1);
        }
    }
}

/// Begins a connection. `None` when that fails, which is counted here.
pub(crate) async fn accept(
    thread: &Rc<Thread>,
    acceptor: &Acceptor,
    socket: TcpStream,
) -> Option<(TlsStream, Secure)> {
    let _connected = thread.connection_started();
    // Of several messages in a row the last one would wait for the client's delayed acknowledgement.
    let _ = socket.set_nodelay(true);
    let Ok(session) = ServerConnection::new(acceptor.config.clone()) else {
        thread.handshakes.count(Failure::Protocol);
        return None;
    };
    let alarm = thread.clock.alarm();
    alarm.wait_to_begin(Pool::Gateway, TIMEOUT);
    // In memory of its own, which the connection does not have to hold afterwards.
    let stream = Box::pin(Handshake { thread, alarm, socket, session }.run()).await?;
    thread.handshakes.completed.set(thread.handshakes.completed.get() + 1);
    let secure = Secure::new(stream.client_certificate());
    Some((stream, secure))
}

struct Handshake<'t> {
    thread: &'t Thread,
    alarm: Alarm,
    socket: TcpStream,
    session: ServerConnection,
}

impl Handshake<'_> {
    async fn run(mut self) -> Option<TlsStream> {
        let Err(failure) = self.shake().await else {
            self.alarm.busy();
            return Some(TlsStream::new(self.socket, self.session));
        };
        let peer = self.socket.peer_addr().ok();
        tracing::debug!(?peer, reason = failure.code(), "TLS did not come to be");
        self.thread.handshakes.count(failure);
        if failure.was_said() {
            self.linger().await;
        }
        None
    }

    async fn shake(&mut self) -> Result<(), Failure> {
        let mut input = vec![0; INPUT_SIZE];
        let mut is_first = true;
        while self.session.is_handshaking() {
            let len = self.receive(&mut input).await?;
            let input = &input[..len];
            if std::mem::take(&mut is_first) {
                self.look_at(input[0])?;
            }
            let taken = self.take(input).await;
            // Also where it cannot go on: the client is told why.
            let sent = self.send().await;
            taken.and(sent)?;
        }
        let certificate = self.session.peer_certificates().and_then(<[_]>::first);
        match certificate.is_some_and(|certificate| certificate.len() > CERTIFICATE_SIZE_MAX) {
            true => Err(Failure::BadCertificate),
            false => Ok(()),
        }
    }

    /// Ends our direction, and reads on until the client ends its own.
    async fn linger(mut self) {
        self.alarm.wait_to_begin(Pool::Gateway, LINGER_TIMEOUT);
        let mut input = vec![0; INPUT_SIZE];
        let mut left = LINGER_BYTES_MAX;
        if poll_fn(|cx| Pin::new(&mut self.socket).poll_shutdown(cx)).await.is_err() {
            return;
        }
        while left > 0 {
            match self.receive(&mut input).await {
                Ok(len) => left = left.saturating_sub(len),
                Err(_) => return,
            }
        }
    }

    /// Every connection of TLS begins with a record of a handshake (RFC 8446 §5.1).
    fn look_at(&self, first: u8) -> Result<(), Failure> {
        const HANDSHAKE: u8 = 22;
        match first {
            HANDSHAKE => Ok(()),
            b'A'..=b'Z' => {
                // As far as that goes at once. Of a client that wants more to be said nothing is owed.
                let _ = self.socket.try_write(IS_TLS);
                Err(Failure::PlainHttp)
            }
            _ => Err(Failure::NotTls),
        }
    }

    /// Some bytes, one at least.
    async fn receive(&mut self, input: &mut [u8]) -> Result<usize, Failure> {
        poll_fn(|cx| {
            let mut buf = ReadBuf::new(input);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => Poll::Ready(Ok(buf.filled().len())),
                Poll::Ready(_) => Poll::Ready(Err(Failure::Gone)),
                Poll::Pending => self.poll_over(cx).map(Err),
            }
        })
        .await
    }

    /// Has the session take what came, when it is its turn.
    async fn take(&mut self, mut input: &[u8]) -> Result<(), Failure> {
        while !input.is_empty() {
            match self.session.read_tls(&mut input) {
                Ok(1..) => {}
                // More than there may be.
                Ok(0) | Err(_) => return Err(Failure::Protocol),
            }
            let thread = self.thread;
            let mut turn = pin!(thread.handshakes.turn.acquire());
            let turn = poll_fn(|cx| match turn.as_mut().poll(cx) {
                Poll::Ready(turn) => Poll::Ready(Ok(turn)),
                Poll::Pending => self.poll_over(cx).map(Err),
            });
            let turn = turn.await?;
            let processed = self.session.process_new_packets();
            yield_now().await;
            drop(turn);
            processed.map_err(|error| Failure::from(&error))?;
        }
        Ok(())
    }

    /// Sends what there is to be sent.
    async fn send(&mut self) -> Result<(), Failure> {
        poll_fn(|cx| {
            while self.session.wants_write() {
                match self.session.write_tls(&mut Socket { socket: &mut self.socket, cx }) {
                    Ok(1..) => {}
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        return self.poll_over(cx).map(Err);
                    }
                    Ok(0) | Err(_) => return Poll::Ready(Err(Failure::Gone)),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Whether its time is over, and why.
    fn poll_over(&self, cx: &mut Context<'_>) -> Poll<Failure> {
        if self.thread.is_hurrying() {
            return Poll::Ready(Failure::NoRoom);
        }
        self.alarm.poll(cx).map(|()| if self.alarm.is_let_go() { Failure::NoRoom } else { Failure::Timeout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_plain_http_has_its_length() {
        let text = std::str::from_utf8(IS_TLS).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{text}");
    }

    #[test]
    fn reasons_are_counted_each_for_itself() {
        let tally = Tally::default();
        Failure::ALL.iter().for_each(|failure| tally.count(*failure));
        let read = tally.read();
        assert_eq!(read.failed.len(), Failure::ALL.len());
        assert!(read.failed.values().all(|count| *count == 1), "{read:?}");
    }
}
