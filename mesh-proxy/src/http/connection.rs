//! A client's connection between and around its requests.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::io::AsyncWrite;

use super::{
    Client, Stream,
    body::Peer,
    exchange,
    pause::Paused,
    prepare::{Declined, Prepared, Unready, prepare},
    request::leading_empty_lines,
};
use crate::{
    access::{CutOff, Entry, Outcome, Running},
    entrances::HEAD_TIMEOUT,
    forwarded::Forwarded,
    guards::{Pending, SoFar},
    http2,
    respond::{self, Failure, Manner, Reason, Reply},
    room::Pool,
    thread::Thread,
    timer::{Alarm, Ticks},
};

/// How long, and for how many bytes, a client may go on to send after the response that ends its connection. Closing
/// with bytes unread would make the kernel throw the response away (RFC 9112 §9.6).
const LINGER: (Ticks, usize) = (Ticks::from_ms(2_000), 1 << 20);

/// The same after an answer that is no error: a redirect of an upload, for example.
const LINGER_LONG: (Ticks, usize) = (Ticks::from_ms(10_000), 64 << 20);

/// Heads that were longer than this do not keep their memory.
const OUT_KEPT_MAX: usize = 8 << 10;

/// A client's connection.
pub(crate) struct Connection {
    pub(crate) thread: Rc<Thread>,
    pub(crate) client: Client,
    pub(crate) peer: Peer,
    pub(crate) alarm: Alarm,
    /// The request's head as the worker gets it.
    pub(crate) request_out: Vec<u8>,
    /// The response's head as the client gets it.
    pub(crate) response_out: Vec<u8>,
    /// The present request's line in the access log, if it gets one.
    entry: Running,
    /// Memory for the next one.
    spare_entry: Option<Box<Entry>>,
    pub(super) pool: Pool,
    forwarded: Forwarded,
    /// For how long, and how many bytes, it is read on after the last answer.
    lingers: (Ticks, usize),
    /// The client ended its direction.
    ended: bool,
    /// Nothing has come yet but what may be the beginning of HTTP/2.
    is_fresh: bool,
}

/// What becomes of the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum After {
    /// The next request.
    Next,
    /// It ends.
    Close,
    /// It ends, once the client has stopped to send.
    Linger,
    /// What the client sends is HTTP/2.
    Http2,
}

/// A connection on which HTTP/2 is spoken, up to what the client began with.
pub(crate) struct Http2Begun {
    pub(crate) thread: Rc<Thread>,
    pub(crate) client: Client,
    pub(crate) stream: Stream,
    pub(crate) input: Bytes,
    pub(crate) alarm: Alarm,
    pub(crate) pool: Pool,
}

/// Why there is no next request.
enum NoMore {
    Ended,
    TimedOut,
}

impl Connection {
    pub(crate) fn new(thread: Rc<Thread>, client: Client, stream: Stream) -> Connection {
        Connection {
            alarm: thread.clock.alarm(),
            pool: client.side.pool(),
            forwarded: Forwarded::new(&client),
            peer: Peer::new(stream),
            request_out: Vec::new(),
            response_out: Vec::new(),
            lingers: LINGER,
            entry: Running::default(),
            spare_entry: None,
            ended: false,
            is_fresh: true,
            thread,
            client,
        }
    }

    /// One request after the other. Returns what there is of a connection of HTTP/2.
    pub(crate) async fn run(mut self) -> Option<Box<Http2Begun>> {
        let last = loop {
            match self.next_request().await {
                Ok(request) => {
                    let after = exchange::run(&mut self, request).await;
                    self.end_entry();
                    if after != After::Next {
                        break after;
                    }
                }
                Err(last) => break last,
            }
        };
        if last == After::Linger {
            self.linger().await;
        }
        let input = match last {
            After::Http2 => Bytes::copy_from_slice(self.peer.input.bytes()),
            After::Next | After::Close | After::Linger => Bytes::new(),
        };
        self.peer.input.consume(self.peer.input.bytes().len());
        self.peer.input.release(&self.thread.stock);
        let Connection { thread, client, peer: Peer { stream, .. }, alarm, pool, .. } = self;
        (last == After::Http2).then(|| Box::new(Http2Begun { thread, client, stream, input, alarm, pool }))
    }

    /// Whether its next answer is the last one.
    pub(crate) fn is_closing(&self) -> bool {
        self.thread.is_closing() || self.client.terms.are_over()
    }

    /// Waits for a request that goes somewhere; answers those that do not.
    async fn next_request(&mut self) -> Result<Prepared, After> {
        let bounds = *self.client.terms.bounds();
        self.alarm.wait(self.pool, bounds.idle_timeout);
        let mut begun = false;
        let mut whole_line = true;
        let mut so_far = None;
        loop {
            let empty_lines = leading_empty_lines(self.peer.input.bytes());
            self.peer.input.consume(empty_lines);
            if whole_line && !self.peer.input.is_empty() {
                let (input, out) = (self.peer.input.bytes(), &mut self.request_out);
                let known = so_far.take();
                match prepare(&self.thread, &self.client, &mut self.forwarded, input, known.as_ref(), out) {
                    Ok(Some(request)) => {
                        self.is_fresh = false;
                        self.alarm.busy();
                        self.begin_entry(request.head_len, true);
                        return Ok(request);
                    }
                    Ok(None) => {}
                    Err(Unready::Asks(pending)) => {
                        self.is_fresh = false;
                        self.alarm.busy();
                        so_far = Some(self.find_out(*pending).await?);
                        continue;
                    }
                    // To HTTP/1.1 it is a request of another version.
                    Err(_) if self.is_fresh && http2::is_preface(self.peer.input.bytes()) => {
                        return Err(After::Http2);
                    }
                    Err(_) if self.is_fresh && http2::begins_preface(self.peer.input.bytes()) => {}
                    Err(Unready::Declined(declined)) => {
                        self.is_fresh = false;
                        self.decline(*declined).await?;
                        self.alarm.wait(self.pool, bounds.idle_timeout);
                        begun = false;
                        continue;
                    }
                }
            }
            whole_line = self.fill().await? || self.peer.input.bytes().len() > bounds.head_max;
            // Once per head: one that only ever begins, with an empty line each time, has no more time than others.
            if !std::mem::replace(&mut begun, true) {
                self.alarm.set(bounds.head_timeout);
            }
        }
    }

    /// Finds out what has to be known of a request first, unless its client goes.
    async fn find_out(&mut self, pending: Pending) -> Result<SoFar, After> {
        let thread = Rc::clone(&self.thread);
        let mut finding = Box::pin(pending.find_out(&thread));
        poll_fn(|cx| match finding.as_mut().poll(cx) {
            Poll::Ready(found) => Poll::Ready(Ok(found)),
            Poll::Pending => self.poll_gone_behind(cx).map(|()| Err(After::Close)),
        })
        .await
    }

    /// Reads more of a head. True when that may complete it.
    async fn fill(&mut self) -> Result<bool, After> {
        let before = self.peer.input.bytes().len();
        if before == 0 {
            self.rest();
        }
        match poll_fn(|cx| self.poll_more(cx)).await {
            Ok(()) => {}
            // One that makes room does so at once, without an answer that somebody would have to take.
            Err(NoMore::TimedOut) if before > 0 && !self.alarm.is_let_go() => {
                let message = "The request's head did not come in time.".to_owned();
                let failure = Failure::new(Reason::RequestTimeout, None, message);
                let manner = Manner { close: true, ..Manner::default() };
                return Err(self.respond(&failure, manner).await);
            }
            Err(NoMore::TimedOut | NoMore::Ended) => return Err(After::Close),
        }
        Ok(self.peer.input.may_end_head(before))
    }

    /// Keeps no more memory than an idle connection needs.
    fn rest(&mut self) {
        self.peer.input.release(&self.thread.stock);
        self.spare_entry = None;
        for out in [&mut self.request_out, &mut self.response_out] {
            if out.capacity() > OUT_KEPT_MAX {
                *out = Vec::new();
            }
        }
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NoMore>> {
        if self.ended {
            return Poll::Ready(Err(NoMore::Ended));
        }
        if let Poll::Ready(read) = self.peer.poll_read(&self.thread.stock, cx) {
            return Poll::Ready(match read {
                Ok(0) | Err(_) => Err(NoMore::Ended),
                Ok(_) => Ok(()),
            });
        }
        if self.peer.input.is_empty() && self.thread.is_hurrying() {
            return Poll::Ready(Err(NoMore::Ended));
        }
        self.alarm.poll(cx).map(|()| Err(NoMore::TimedOut))
    }

    /// While a response is awaited: ready when the client is certainly gone. That it ended its direction does not mean
    /// that; it may well read on. But most have gone that did so, and when there is no room, it is taken for that.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended {
            return self.alarm.poll_let_go(cx);
        }
        // With the next request waiting already, there is nothing to be learnt.
        if !self.peer.input.is_empty() {
            return Poll::Pending;
        }
        self.poll_end(cx)
    }

    /// The same while the request's head still waits in the input: what comes behind it is read as well, as far as there is room.
    fn poll_gone_behind(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ended {
            return self.alarm.poll_let_go(cx);
        }
        while !self.peer.input.is_full() {
            let before = self.peer.input.bytes().len();
            let gone = self.poll_end(cx);
            if gone.is_ready() || self.peer.input.bytes().len() == before {
                return gone;
            }
        }
        Poll::Pending
    }

    /// Reads once.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.peer.poll_read(&self.thread.stock, cx)) {
            Ok(0) if !self.peer.stream.is_deaf() => {
                self.ended = true;
                self.alarm.may_let_go(self.pool);
                self.alarm.poll_let_go(cx)
            }
            Ok(1..) => Poll::Pending,
            Ok(0) => Poll::Ready(()),
            Err(_) => Poll::Ready(()),
        }
    }

    async fn decline(&mut self, declined: Declined) -> Result<(), After> {
        // Whoever loads a file waits for no request.
        self.alarm.busy();
        let head_len = if declined.head_len == 0 { self.peer.input.bytes().len() } else { declined.head_len };
        self.begin_entry(head_len, false);
        self.peer.input.consume(declined.head_len);
        if let Some(delay) = declined.delay
            && self.pause(delay, None).await == Paused::Gone
        {
            self.note(|outcome| outcome.cut_off(CutOff::ByClient));
            self.end_entry();
            return Err(After::Close);
        }
        let after = match &declined.reply {
            Reply::Failure(failure) => self.respond(failure, declined.manner).await,
            Reply::Own(own) => {
                tracing::debug!(status = own.status, "a route's own answer");
                self.response_out.clear();
                respond::write_own(own, declined.manner, &mut self.response_out);
                // It is no error, and whoever sends much is to see it: perhaps where to send that.
                self.lingers = LINGER_LONG;
                self.note(|outcome| outcome.status = own.status);
                self.send_response_out(declined.manner).await
            }
            Reply::File(asked) => self.send_file(asked, declined.manner).await,
            Reply::Document(asked) => self.send_document(asked, declined.manner).await,
        };
        self.end_entry();
        if after == After::Next { Ok(()) } else { Err(after) }
    }

    /// Notes the head at the start of the input for the access log, if there is one. `goes_on`: there is a head for a worker.
    fn begin_entry(&mut self, head_len: usize, goes_on: bool) {
        let Some(log) = self.thread.access_log(&self.client.side) else { return };
        let is_http2 = matches!(self.peer.stream, Stream::Pipe(_));
        let head = &self.peer.input.bytes()[..head_len];
        let sent = goes_on.then_some(&self.request_out[..]);
        let spare = self.spare_entry.take();
        self.entry.begin(Entry::begin(&log, spare, &self.client, is_http2, head, sent));
    }

    /// Notes what became of the request, where that is written.
    pub(crate) fn note(&mut self, note: impl FnOnce(&mut Outcome)) {
        self.entry.note(note);
    }

    /// The request is over.
    fn end_entry(&mut self) {
        self.spare_entry = self.entry.end().or(self.spare_entry.take());
    }

    /// Sends an answer of the proxy's own.
    pub(crate) async fn respond(&mut self, failure: &Failure, manner: Manner) -> After {
        if let Reason::Refused(refusal) = failure.reason {
            self.thread.count_refusal(refusal);
        }
        tracing::debug!(
            service = failure.service.as_deref(),
            reason = failure.reason.code(),
            message = failure.message,
            "answered in place of a worker"
        );
        self.response_out.clear();
        respond::write(failure, manner, &mut self.response_out);
        self.note(|outcome| outcome.failed(failure));
        self.send_response_out(manner).await
    }

    /// The same for an answer that is in `response_out`.
    pub(super) async fn send_response_out(&mut self, manner: Manner) -> After {
        self.alarm.set(HEAD_TIMEOUT);
        let written = self.write_response_out().await;
        let len = self.response_out.len() as u64;
        self.note(|outcome| match written {
            Ok(()) => outcome.sent = len,
            Err(_) => outcome.cut_off(CutOff::ByClient),
        });
        match written {
            Ok(()) if manner.close => After::Linger,
            Ok(()) => After::Next,
            Err(_) => After::Close,
        }
    }

    /// Writes the head in `response_out` to the client.
    pub(crate) async fn write_response_out(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.response_out);
        let written = self.write_to_client(&out).await;
        self.response_out = out;
        written
    }

    /// Writes all of `bytes`, until the alarm.
    pub(crate) async fn write_to_client(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        poll_fn(|cx| match self.peer.poll_write_all(bytes, &mut written, cx) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self.alarm.poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
        })
        .await
    }

    /// Ends our direction, and reads on until the client ends its own.
    async fn linger(&mut self) {
        let (timeout, mut left) = self.lingers;
        self.alarm.set(timeout);
        poll_fn(|cx| {
            let Peer { stream, input } = &mut self.peer;
            if ready!(Pin::new(&mut *stream).poll_shutdown(cx)).is_err() {
                return Poll::Ready(());
            }
            loop {
                left = left.saturating_sub(input.bytes().len());
                input.consume(input.bytes().len());
                input.make_room(&self.thread.stock);
                match input.poll_fill(stream, cx) {
                    Poll::Ready(Ok(1..)) if left > 0 => {}
                    Poll::Ready(_) => return Poll::Ready(()),
                    Poll::Pending => return self.alarm.poll(cx),
                }
            }
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use std::{num::NonZeroUsize, time::Duration};

    use tokio::{io::AsyncWriteExt, net::UnixStream, task::LocalSet};

    use super::{
        super::{Side, Terms},
        *,
    };

    #[tokio::test(start_paused = true)]
    async fn empty_lines_do_not_hold_a_connection_open() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let test = async {
            let thread = Thread::new(NonZeroUsize::MIN, |_| {});
            let client =
                Client { side: Side::Gateway, peer: None, local: None, tls: None, terms: Terms::default() };
            let served = tokio::task::spawn_local(Connection::new(thread, client, theirs.into()).run());
            let trickle = async {
                while ours.write_all(b"\r\n").await.is_ok() {
                    tokio::time::sleep(Duration::from_secs(10)).await;
                }
            };
            let ended = tokio::time::timeout(Duration::from_secs(300), trickle).await;
            assert!(ended.is_ok(), "it is still open");
            served.await.unwrap();
        };
        LocalSet::new().run_until(test).await;
    }
}
