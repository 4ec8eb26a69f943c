//! A stream of a client: its request goes to the engine, and the engine's response to it.

use std::{
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{Request, StatusCode};

use super::{
    allowance::Ledger,
    heads::{self, Asked},
    receiving::Receiving,
    sending::{Sending, Unsent},
};
use crate::{
    http::{Body, Break, Client, Far, converse, pipe},
    thread::Thread,
};

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// With a whole response, or with one that broke off for a reason of ours.
    Answered,
    /// The client took the request back, or is gone.
    TakenBack,
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
    let mut stream = Stream::begin(request, respond, far, ledger);
    let mut engine = pin!(converse(Rc::clone(thread), client, pipe));
    let mut engine_ended = false;
    poll_fn(|cx| {
        engine_ended = engine_ended || engine.as_mut().poll(cx).is_ready();
        stream.poll(cx)
    })
    .await
}

struct Stream {
    far: Far,
    asked: Asked,
    receiving: Receiving,
    received: bool,
    responding: Responding,
    ledger: Rc<Ledger>,
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
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        far: Far,
        ledger: Rc<Ledger>,
    ) -> Stream {
        let (parts, body) = request.into_parts();
        let mut head = Vec::with_capacity(512);
        let (asked, framing) = heads::write_request(&parts, body.is_end_stream(), &mut head);
        far.push(&head);
        Stream {
            far,
            asked,
            receiving: Receiving::new(body, framing),
            received: false,
            responding: Responding::Head { respond, seen: 0 },
            ledger,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Ended> {
        if !self.received
            && let Poll::Ready(received) = self.receiving.poll(&self.far, cx)
        {
            if received.is_err() {
                return Poll::Ready(Ended::TakenBack);
            }
            self.received = true;
            if self.asked == Asked::Tunnel {
                self.far.shut();
            }
        }
        loop {
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
                            to.send_reset(why.reason);
                            Poll::Ready(Ended::Answered)
                        }
                        Poll::Ready(Err(Unsent::Sink)) => Poll::Ready(Ended::TakenBack),
                        Poll::Pending => to.poll_reset(cx).map(|_| Ended::TakenBack),
                    };
                }
            }
        }
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
            Err(Break { reason, .. }) => {
                respond.send_reset(reason);
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
        let sending = Sending::new(head.body, Some(Rc::clone(&self.ledger)));
        self.responding = Responding::Body { to, sending };
        Poll::Ready(None)
    }
}
