//! A request to a worker: the engine's request becomes a stream, and the worker's response to it one of HTTP/1.1.

use std::{
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{
    Reason, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{Method, Request, header::CONTENT_LENGTH};

use super::{
    broken,
    heads::{self, Read, Unsayable},
    links::{Link, Stalled},
    receiving::Receiving,
    sending::{Sending, Unsent},
};
use crate::{
    http::{Body, Break, Far},
    timer::{Alarm, Ticks},
};

/// How long the end of a stream may take whose response has come to the length that it announced.
const END_TIMEOUT: Ticks = Ticks::from_ms(5_000);

/// Serves the request that the engine writes to the pipe. Notes it when the worker answers.
pub(super) async fn serve(worker: SendRequest<Bytes>, far: Far, link: &Rc<Link>) {
    let served = async {
        // Without a stream the engine gave up before it said what it wants, or was told that it cannot be said.
        let Some(mut stream) = begin(worker, &far).await? else { return Ok(()) };
        poll_fn(|cx| stream.poll(&far, link, cx)).await
    };
    if let Err(why) = served.await {
        far.break_off(why);
    }
}

/// Waits for the head, and opens a stream with it.
async fn begin(mut worker: SendRequest<Bytes>, far: &Far) -> Result<Option<Stream>, Break> {
    let mut seen = 0;
    let head = loop {
        if !poll_fn(|cx| far.poll_more(seen, cx)).await? {
            return Ok(None);
        }
        match far.look(heads::read_request) {
            Ok(Some(head)) => break head,
            Ok(None) => seen = far.look(<[u8]>::len),
            Err(Unsayable) => {
                far.push(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                return Ok(None);
            }
        }
    };
    let Read { len, message, body } = head;
    far.skip(len);
    let asked_head = message.method() == Method::HEAD;
    let is_whole = body == Body::Done;
    let (response, to) = open(&mut worker, message, is_whole)?;
    let sending = (!is_whole).then(|| (Sending::new(body, None), to));
    Ok(Some(Stream {
        asked_head,
        sending,
        stalled: None,
        answering: Answering::Head(response),
        farewell: None,
    }))
}

fn open(
    worker: &mut SendRequest<Bytes>,
    message: Request<()>,
    is_whole: bool,
) -> Result<(ResponseFuture, SendStream<Bytes>), Break> {
    // A stream that cannot be opened reached nobody.
    worker.send_request(message, is_whole).map_err(|error| Break { unprocessed: true, ..broken(&error) })
}

struct Stream {
    asked_head: bool,
    /// What is left of the request.
    sending: Option<(Sending, SendStream<Bytes>)>,
    /// It waits for the worker's window.
    stalled: Option<Stalled>,
    answering: Answering,
    /// Set while nothing but the end of the stream is waited for.
    farewell: Option<Alarm>,
}

/// How far the response is.
enum Answering {
    Head(ResponseFuture),
    Body(Receiving),
}

impl Stream {
    /// Ready when the response is complete, or the engine wants no more of it: whatever is left is taken back with the stream.
    fn poll(&mut self, far: &Far, link: &Rc<Link>, cx: &mut Context<'_>) -> Poll<Result<(), Break>> {
        if let Some((sending, to)) = &mut self.sending {
            match sending.poll(far, to, cx) {
                Poll::Ready(Err(Unsent::Source(why))) => {
                    to.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(why));
                }
                // That the worker takes no more may mean that it has answered already.
                Poll::Ready(Ok(()) | Err(Unsent::Sink)) => {
                    self.sending = None;
                    self.stalled = None;
                }
                Poll::Pending if !sending.is_stalled() => self.stalled = None,
                Poll::Pending if self.stalled.is_none() => self.stalled = Some(link.stall()),
                Poll::Pending => {}
            }
        }
        // Who has all that a length announced may have gone. The end of the stream is on its way, and is awaited: to take the stream back
        // now would look like a failure to the worker. But not for ever: some never send it.
        let is_complete = matches!(&self.answering, Answering::Body(receiving) if receiving.is_complete());
        if far.poll_abandoned(cx).is_ready() {
            if !is_complete {
                if self.stalled.is_some() && matches!(self.answering, Answering::Head(_)) {
                    link.got_stuck();
                }
                return Poll::Ready(Ok(()));
            }
            let alarm = self.farewell.get_or_insert_with(|| {
                let alarm = link.clock.alarm();
                alarm.set(END_TIMEOUT);
                alarm
            });
            if alarm.poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
        }
        loop {
            match &mut self.answering {
                Answering::Head(response) => {
                    let receiving = ready!(poll_head(response, self.asked_head, far, cx))?;
                    link.answered();
                    self.answering = Answering::Body(receiving);
                }
                Answering::Body(receiving) => return receiving.poll(far, cx),
            }
        }
    }
}

/// Passes interim responses on, and the head of the last one.
fn poll_head(
    response: &mut ResponseFuture,
    asked_head: bool,
    far: &Far,
    cx: &mut Context<'_>,
) -> Poll<Result<Receiving, Break>> {
    let mut out = Vec::with_capacity(512);
    while let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
        let interim = interim.map_err(|error| broken(&error))?;
        heads::write_interim(&interim.into_parts().0, &mut out);
    }
    far.push(&out);
    out.clear();
    let answer = ready!(Pin::new(response).poll(cx)).map_err(|error| broken(&error))?;
    let (parts, body) = answer.into_parts();
    let framing = heads::write_response(&parts, body.is_end_stream(), asked_head, &mut out);
    far.push(&out);
    let length = parts.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    Poll::Ready(Ok(Receiving::new(body, framing).of_length(length)))
}
