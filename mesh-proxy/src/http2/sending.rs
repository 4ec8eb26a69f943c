//! A body on its way from the engine to HTTP/2: its framing is taken off, and it goes as fast as the receiver gives room.

use std::{
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;

use super::{allowance::Ledger, heads::read_trailer};
use crate::http::{Body, Break, Far, Piece};

/// Why a body could not be sent to its end.
#[derive(Debug)]
pub(super) enum Unsent {
    /// The engine's end broke off.
    Source(Break),
    /// The receiver takes no more.
    Sink,
}

/// One body.
#[derive(Debug)]
pub(super) struct Sending {
    body: Body,
    trailers: HeaderMap,
    /// Taken from the engine and not sent.
    held: Bytes,
    /// Something was sent since somebody asked.
    progress: bool,
    /// The client's, where it goes to one.
    ledger: Option<Rc<Ledger>>,
}

/// What comes next of a body.
enum Next {
    Data(usize),
    Framing(usize),
    End,
    More,
}

impl Sending {
    pub(super) fn new(body: Body, ledger: Option<Rc<Ledger>>) -> Sending {
        Sending { body, trailers: HeaderMap::new(), held: Bytes::new(), progress: false, ledger }
    }

    /// Whether something was sent since the last time this was asked.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.progress)
    }

    /// Whether there is something that could not be sent yet.
    pub(super) fn is_stalled(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether the engine has nothing more to say.
    pub(super) fn has_all(&self) -> bool {
        self.body == Body::Done
    }

    /// Sends what can be sent now. Ready once all is, and its end.
    pub(super) fn poll(
        &mut self,
        far: &Far,
        to: &mut SendStream<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Unsent>> {
        loop {
            if self.held.is_empty() && !ready!(self.poll_take(far, cx)).map_err(Unsent::Source)? {
                return Poll::Ready(self.end(to));
            }
            let room = ready!(poll_room(self.held.len(), to, cx))?;
            let part = self.held.split_to(room.min(self.held.len()));
            // The last piece says that it is, which saves a frame.
            let is_last = self.held.is_empty() && self.is_at_end(far)? && self.trailers.is_empty();
            if let Some(ledger) = &self.ledger {
                ledger.sent(part.len());
            }
            to.send_data(part, is_last).map_err(|_| Unsent::Sink)?;
            self.progress = true;
            if is_last {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn end(&mut self, to: &mut SendStream<Bytes>) -> Result<(), Unsent> {
        let sent = match self.trailers.is_empty() {
            true => to.send_data(Bytes::new(), true),
            false => to.send_trailers(std::mem::take(&mut self.trailers)),
        };
        sent.map_err(|_| Unsent::Sink)
    }

    /// Takes the next piece. False at the end.
    fn poll_take(&mut self, far: &Far, cx: &mut Context<'_>) -> Poll<Result<bool, Break>> {
        loop {
            match self.next(far)? {
                Next::Data(len) => {
                    self.held = far.take(len);
                    return Poll::Ready(Ok(true));
                }
                Next::Framing(len) => far.skip(len),
                Next::End => return Poll::Ready(Ok(false)),
                Next::More => {
                    let seen = far.look(<[u8]>::len);
                    if !ready!(far.poll_more(seen, cx))? {
                        self.source_ended()?;
                    }
                }
            }
        }
    }

    fn source_ended(&mut self) -> Result<(), Break> {
        if self.body != Body::UntilClose {
            return Err(broken("the message broke off"));
        }
        self.body = Body::Done;
        Ok(())
    }

    /// Goes past framing that is there, to the next piece or the end. Whether it is the end.
    fn is_at_end(&mut self, far: &Far) -> Result<bool, Unsent> {
        loop {
            match self.next(far).map_err(Unsent::Source)? {
                Next::Framing(len) => far.skip(len),
                Next::Data(len) => {
                    self.held = far.take(len);
                    return Ok(false);
                }
                Next::End => return Ok(true),
                Next::More => return Ok(false),
            }
        }
    }

    fn next(&mut self, far: &Far) -> Result<Next, Break> {
        let (body, trailers) = (&mut self.body, &mut self.trailers);
        far.look(|bytes| match body {
            Body::Done => Ok(Next::End),
            Body::UntilClose if bytes.is_empty() => Ok(Next::More),
            Body::UntilClose => Ok(Next::Data(bytes.len())),
            Body::Length(_) if bytes.is_empty() => Ok(Next::More),
            Body::Length(left) => {
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= len as u64;
                if *left == 0 {
                    *body = Body::Done;
                }
                Ok(Next::Data(len))
            }
            Body::Chunked(chunked) => {
                let in_trailers = chunked.is_in_trailers();
                let piece = chunked.next(bytes).map_err(|error| broken(&error.to_string()))?;
                if chunked.is_done() {
                    *body = Body::Done;
                }
                match piece {
                    Piece::Data(len) => Ok(Next::Data(len)),
                    Piece::More => Ok(Next::More),
                    Piece::Framing(len) => {
                        if in_trailers && len > 2 {
                            let line = &bytes[..len - 2];
                            read_trailer(line, trailers).map_err(|_| broken("a trailer is malformed"))?;
                        }
                        Ok(Next::Framing(len))
                    }
                }
            }
        })
    }
}

/// Waits for room for some of `len` bytes.
fn poll_room(len: usize, to: &mut SendStream<Bytes>, cx: &mut Context<'_>) -> Poll<Result<usize, Unsent>> {
    to.reserve_capacity(len);
    loop {
        let room = to.capacity();
        if room > 0 {
            return Poll::Ready(Ok(room));
        }
        match ready!(to.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Err(Unsent::Sink)),
        }
    }
}

fn broken(what: &str) -> Break {
    Break { reason: Reason::INTERNAL_ERROR, unprocessed: false, closed: false, what: what.to_owned() }
}
