//! A stream of a client: its request goes to the engine, and the engine's response to it.

use std::{
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{Request, Response, StatusCode};

use super::{
    allowance::Ledger,
    heads::{self, Asked, Unaskable},
    receiving::Receiving,
    sending::{Sending, Unsent},
};
use crate::{
    http::{Body, Break, Client, Far, Refusal, converse, pipe},
    thread::Thread,
    timer::{Alarm, Ticks},
};

/// How long a client may take nothing of what is left of a response when nobody else watches over it any longer.
const TAKE_TIMEOUT: Ticks = Ticks::from_ms(60_000);

/// Who takes a request back later than this has waited for it in earnest.
const HASTE: Ticks = Ticks::from_ms(1_000);

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// With a whole response, or with one that broke off for a reason of ours.
    Answered,
    /// The client took the request back, or is gone.
    TakenBack,
    /// The same once it had waited, or begun to get what it asked for.
    Left,
}

/// Serves one stream. Dropping the engine's side cancels what it does, wherever it waits.
pub(super) async fn serve(
    thread: &Rc<Thread>,
    client: Client,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    ledger: Rc<Ledger>,
) -> Ended {
    let (pipe, far) = pipe();
    let mut stream = match Stream::begin(thread, request, respond, far, ledger) {
        Ok(stream) => stream,
        Err(ended) => return ended,
    };
    let mut engine = pin!(converse(Rc::clone(thread), client, pipe));
    let ended = poll_fn(|cx| {
        stream.engine_ended = stream.engine_ended || engine.as_mut().poll(cx).is_ready();
        stream.poll(cx)
    });
    match ended.await {
        Ended::TakenBack if !stream.is_young() => Ended::Left,
        ended => ended,
    }
}

/// Answers a request that cannot be said to the engine.
fn decline(thread: &Thread, why: Unaskable, mut respond: SendResponse<Bytes>) -> Ended {
    match why {
        Unaskable::Malformed => {
            thread.count_refusal(Refusal::Syntax);
            respond.send_reset(Reason::PROTOCOL_ERROR);
            Ended::TakenBack
        }
        Unaskable::ToHttp => {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
            // It fails when the client has gone.
            let _ = respond.send_response(response, true);
            Ended::Answered
        }
    }
}

struct Stream {
    thread: Rc<Thread>,
    far: Far,
    asked: Asked,
    receiving: Receiving,
    /// What comes is a part of the request, or of the protocol that was switched to. To another request's head what a client
    /// sends into a tunnel that is not there must not be taken.
    receives: bool,
    responding: Responding,
    ledger: Rc<Ledger>,
    since: Ticks,
    /// It has no clock any longer that would end the stream.
    engine_ended: bool,
    /// Set while the client alone is waited for.
    patience: Option<Alarm>,
}

/// How far the response is.
enum Responding {
    /// So many bytes of its head are no whole one.
    Head {
        respond: SendResponse<Bytes>,
        seen: usize,
    },
    Body {
        to: SendStream<Bytes>,
        sending: Sending,
    },
}

impl Stream {
    fn begin(
        thread: &Rc<Thread>,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        far: Far,
        ledger: Rc<Ledger>,
    ) -> Result<Stream, Ended> {
        let (parts, body) = request.into_parts();
        let mut head = Vec::with_capacity(512);
        let (asked, framing) = match heads::write_request(&parts, body.is_end_stream(), &mut head) {
            Ok(written) => written,
            Err(why) => return Err(decline(thread, why, respond)),
        };
        far.push(&head);
        Ok(Stream {
            thread: Rc::clone(thread),
            far,
            asked,
            receiving: Receiving::new(body, framing),
            receives: asked != Asked::Tunnel,
            responding: Responding::Head { respond, seen: 0 },
            ledger,
            since: thread.clock.now(),
            engine_ended: false,
            patience: None,
        })
    }

    /// Whether it was opened just now, and no response has begun.
    fn is_young(&self) -> bool {
        let age = self.thread.clock.now().since(self.since);
        matches!(self.responding, Responding::Head { .. }) && age < HASTE
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        loop {
            if self.receives
                && let Poll::Ready(received) = self.receiving.poll(&self.far, cx)
            {
                if received.is_err() {
                    return Poll::Ready(Ended::TakenBack);
                }
                self.receives = false;
                if self.asked == Asked::Tunnel {
                    self.far.shut();
                }
            }
            match &mut self.responding {
                Responding::Head { .. } => {
                    if let Some(ended) = ready!(self.poll_head(cx)) {
                        return Poll::Ready(ended);
                    }
                }
                Responding::Body { to, sending } => {
                    let sent = sending.poll(&self.far, to, cx);
                    return match sent {
                        Poll::Ready(Ok(())) => Poll::Ready(Ended::Answered),
                        Poll::Ready(Err(Unsent::Source(why))) => {
                            to.send_reset(reason(&why));
                            Poll::Ready(Ended::Answered)
                        }
                        Poll::Ready(Err(Unsent::Sink)) => Poll::Ready(Ended::TakenBack),
                        Poll::Pending if to.poll_reset(cx).is_ready() => Poll::Ready(Ended::TakenBack),
                        Poll::Pending => self.poll_patience(cx),
                    };
                }
            }
        }
    }

    /// Ends a stream whose client takes no more of its response. As long as the engine has something to say it is the one that
    /// ends it, by the service's times.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        let Responding::Body { to, sending } = &mut self.responding else { return Poll::Pending };
        let moved = sending.take_progress();
        if !self.engine_ended && !sending.has_all() {
            self.patience = None;
            return Poll::Pending;
        }
        let is_new = self.patience.is_none();
        let alarm = self.patience.get_or_insert_with(|| self.thread.clock.alarm());
        if is_new || moved {
            alarm.set(TAKE_TIMEOUT);
        }
        ready!(alarm.poll(cx));
        to.send_reset(Reason::CANCEL);
        Poll::Ready(Ended::TakenBack)
    }

    /// Passes on a head that the engine wrote. What the stream ended with, if it has ended.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        let Responding::Head { respond, seen } = &mut self.responding else { return Poll::Ready(None) };
        if respond.poll_reset(cx).is_ready() {
            return Poll::Ready(Some(Ended::TakenBack));
        }
        match ready!(self.far.poll_more(*seen, cx)) {
            Ok(true) => {}
            Ok(false) => {
                respond.send_reset(Reason::INTERNAL_ERROR);
                return Poll::Ready(Some(Ended::Answered));
            }
            Err(why) => {
                respond.send_reset(reason(&why));
                return Poll::Ready(Some(Ended::Answered));
            }
        }
        let head = match self.far.look(|bytes| (heads::read_response(bytes, self.asked), bytes.len())) {
            (Ok(Some(head)), _) => head,
            (Ok(None), len) => {
                *seen = len;
                return Poll::Ready(None);
            }
            (Err(heads::Unsayable), _) => {
                respond.send_reset(Reason::INTERNAL_ERROR);
                return Poll::Ready(Some(Ended::Answered));
            }
        };
        self.far.skip(head.len);
        *seen = 0;
        if head.message.status().is_informational() {
            let sent = head.message.status() == StatusCode::SWITCHING_PROTOCOLS
                || respond.send_informational(head.message).is_ok();
            return Poll::Ready((!sent).then_some(Ended::TakenBack));
        }
        let is_whole = head.body == Body::Done;
        let Ok(to) = respond.send_response(head.message, is_whole) else {
            return Poll::Ready(Some(Ended::TakenBack));
        };
        if is_whole {
            return Poll::Ready(Some(Ended::Answered));
        }
        self.receives |= self.asked == Asked::Tunnel && head.body == Body::UntilClose;
        let sending = Sending::new(head.body, Some(Rc::clone(&self.ledger)));
        self.responding = Responding::Body { to, sending };
        Poll::Ready(None)
    }
}

/// What a client is told of a response that broke off. That nothing was done with its request, or that all went well, is not so even if the
/// worker said it.
fn reason(why: &Break) -> Reason {
    match why.reason {
        Reason::NO_ERROR | Reason::REFUSED_STREAM => Reason::INTERNAL_ERROR,
        other => other,
    }
}
