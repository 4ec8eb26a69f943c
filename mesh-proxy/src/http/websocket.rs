//! A WebSocket between a client and a worker: bytes both ways like any tunnel, and an orderly end when its worker is replaced.
//!
//! ```text
//! Open ─the worker's drain ends, or the worker does→ Closing: the frame under way goes out to its end, then a Close 1012 to the client
//!   │                                                   ├─ the client's Close → to the worker, and both ends have ended
//!   └─ both ended, or one broke                         └─ a second → cut, after a Close of ours to the worker, if its turn is
//! ```
//!
//! Nothing is known of what the frames hold. Where frames end is known of both directions, at the cost of a look at each header
//! ([`super::frames`]).

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use tokio::io::AsyncWrite;

use super::{
    body::Peer,
    buffer::Stock,
    frames::{Frames, RESTARTS, RESTARTS_MASKED},
    tunnel,
};
use crate::{
    timer::{Alarm, Ticks},
    worker::Worker,
};

/// How long the client has to answer a Close.
const CLOSE_WAITS: Ticks = Ticks::from_ms(1_000);

/// How a WebSocket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With a Close, or by the client.
    Orderly,
    /// The worker went without a word.
    Lost,
}

/// Runs until it has ended.
pub(crate) async fn run(
    client: &mut Peer,
    worker: &mut Peer,
    of: &Worker,
    stock: &Stock,
    alarm: &Alarm,
) -> Ended {
    tunnel::keep_alive(client, worker);
    // Made before the first look, so that no word of it is missed.
    let mut told = pin!(of.tunnels_end.notified());
    let (up, down) = (Way::default(), Way::default());
    let mut socket = Socket { up, down, closing: None, half_closed: false, worker_left: false };
    poll_fn(|cx| {
        if socket.closing.is_none() && (of.ends_tunnels() || told.as_mut().poll(cx).is_ready()) {
            socket.begin_to_close(alarm);
        }
        match socket.closing {
            None => socket.poll_open(client, worker, of, stock, alarm, cx),
            Some(_) => socket.poll_closing(client, worker, stock, alarm, cx),
        }
    })
    .await
}

/// One direction.
#[derive(Debug, Default)]
struct Way {
    frames: Frames,
    /// The sender ended it.
    ended: bool,
    /// The receiver was told.
    shut: bool,
    /// The receiver takes no more: what comes is looked at and thrown away.
    in_vain: bool,
}

/// Whose connection broke.
enum Broke {
    Sender,
    Receiver,
}

/// How far an end is that we began.
#[derive(Debug, Default)]
struct Closing {
    /// So much of the Close to the client is written.
    written: usize,
    /// The client has answered, or has gone.
    answered: bool,
}

struct Socket {
    /// From the client to the worker.
    up: Way,
    down: Way,
    closing: Option<Closing>,
    half_closed: bool,
    /// The worker ended its direction before the client did.
    worker_left: bool,
}

impl Way {
    /// Passes bytes on, to the end of the present frame or for as long as they come. Ready when the frame is over or the sender has
    /// ended, and everything is passed.
    fn poll(
        &mut self,
        from: &mut Peer,
        to: &mut Peer,
        stock: &Stock,
        only_this_frame: bool,
        moved: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Broke>> {
        loop {
            if !self.in_vain && ready!(Pin::new(&mut to.stream).poll_flush(cx)).is_err() {
                return Poll::Ready(Err(Broke::Receiver));
            }
            while !from.input.is_empty() {
                let bytes = from.input.bytes();
                let len = if only_this_frame { self.frames.of_this_frame(bytes) } else { bytes.len() };
                if len == 0 {
                    return Poll::Ready(Ok(()));
                }
                let len = match self.in_vain {
                    true => len,
                    false => match ready!(Pin::new(&mut to.stream).poll_write(cx, &bytes[..len])) {
                        Ok(written @ 1..) => written,
                        Ok(0) | Err(_) => return Poll::Ready(Err(Broke::Receiver)),
                    },
                };
                self.frames.pass(&bytes[..len]);
                from.input.consume(len);
                *moved = true;
            }
            from.input.release(stock);
            if self.ended || only_this_frame && self.frames.is_between() {
                return Poll::Ready(Ok(()));
            }
            match ready!(from.poll_read(stock, cx)) {
                Ok(0) => self.ended = true,
                Ok(_) => from.input.enlarge_if_filled(stock),
                Err(_) => return Poll::Ready(Err(Broke::Sender)),
            }
        }
    }

    /// Tells the receiver that this direction has ended.
    fn poll_shut(&mut self, to: &mut Peer, cx: &mut Context<'_>) -> Poll<()> {
        if !self.shut {
            // One that has gone knows.
            let _ = ready!(Pin::new(&mut to.stream).poll_shutdown(cx));
            self.shut = true;
        }
        Poll::Ready(())
    }
}

impl Socket {
    fn begin_to_close(&mut self, alarm: &Alarm) {
        self.closing = Some(Closing::default());
        alarm.set(CLOSE_WAITS);
    }

    /// What the client sends goes to the worker. Ready when that is over; an error is a client that has gone.
    fn poll_up(
        &mut self,
        client: &mut Peer,
        worker: &mut Peer,
        stock: &Stock,
        moved: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Ended>> {
        loop {
            match ready!(self.up.poll(client, worker, stock, false, moved, cx)) {
                Ok(()) => {
                    ready!(self.up.poll_shut(worker, cx));
                    return Poll::Ready(Ok(()));
                }
                Err(Broke::Sender) => return Poll::Ready(Err(Ended::Orderly)),
                // What the worker has said before still goes to the client.
                Err(Broke::Receiver) => self.up.in_vain = true,
            }
        }
    }

    /// As any tunnel: each direction ends by itself.
    fn poll_open(
        &mut self,
        client: &mut Peer,
        worker: &mut Peer,
        of: &Worker,
        stock: &Stock,
        alarm: &Alarm,
        cx: &mut Context<'_>,
    ) -> Poll<Ended> {
        let mut moved = false;
        let up = match self.poll_up(client, worker, stock, &mut moved, cx) {
            Poll::Ready(Err(ended)) => return Poll::Ready(ended),
            up => up.is_ready(),
        };
        let down = match self.down.poll(worker, client, stock, false, &mut moved, cx) {
            Poll::Ready(Err(Broke::Receiver)) => return Poll::Ready(Ended::Orderly),
            down => down,
        };
        self.worker_left |= down.is_ready() && !up;
        if down.is_ready() && !self.down.frames.is_closed() && of.is_draining() {
            // It was told to end, and did not say so to this client.
            self.begin_to_close(alarm);
            return self.poll_closing(client, worker, stock, alarm, cx);
        }
        let down = match down {
            Poll::Ready(Err(_)) => return Poll::Ready(self.how_it_ended()),
            Poll::Ready(Ok(())) => self.down.poll_shut(client, cx).is_ready(),
            Poll::Pending => false,
        };
        if up && down {
            return Poll::Ready(self.how_it_ended());
        }
        if !up && !down {
            return Poll::Pending;
        }
        if moved || !std::mem::replace(&mut self.half_closed, true) {
            alarm.set(tunnel::HALF_CLOSED_IDLE_TIMEOUT);
        }
        alarm.poll(cx).map(|()| self.how_it_ended())
    }

    /// The client gets a Close where a frame may stand, and answers it.
    fn poll_closing(
        &mut self,
        client: &mut Peer,
        worker: &mut Peer,
        stock: &Stock,
        alarm: &Alarm,
        cx: &mut Context<'_>,
    ) -> Poll<Ended> {
        if let Poll::Ready(ended) = self.poll_close(client, worker, stock, cx) {
            return Poll::Ready(ended);
        }
        ready!(alarm.poll(cx));
        // The client does not answer; the worker is not left without a word for that. As far as it goes at once: whatever is in the way of it there, the
        // worker has not read.
        if self.up.frames.is_between() && !self.up.frames.is_closed() && !self.up.ended {
            let _ = Pin::new(&mut worker.stream).poll_write(cx, &RESTARTS_MASKED);
        }
        Poll::Ready(Ended::Orderly)
    }

    fn poll_close(
        &mut self,
        client: &mut Peer,
        worker: &mut Peer,
        stock: &Stock,
        cx: &mut Context<'_>,
    ) -> Poll<Ended> {
        let mut moved = false;
        if !self.down.frames.is_between() {
            match self.down.poll(worker, client, stock, true, &mut moved, cx) {
                Poll::Ready(Err(Broke::Receiver)) => return Poll::Ready(Ended::Orderly),
                // It ended within a frame, and nothing can follow that.
                Poll::Ready(_) if !self.down.frames.is_between() => return Poll::Ready(Ended::Lost),
                Poll::Ready(_) | Poll::Pending => {}
            }
        }
        let has_said = self.down.frames.is_between() && self.poll_say(client, cx).is_ready();
        if !self.closing.as_ref().is_some_and(|closing| closing.answered) {
            // What the client sends goes on to the worker, its Close above all.
            let up = match self.poll_up(client, worker, stock, &mut moved, cx) {
                Poll::Ready(Err(ended)) => return Poll::Ready(ended),
                up => up.is_ready(),
            };
            let answered = has_said && (up || self.up.frames.is_closed());
            self.closing = self.closing.take().map(|closing| Closing { answered, ..closing });
            if !answered {
                return Poll::Pending;
            }
        }
        ready!(self.down.poll_shut(client, cx));
        ready!(self.up.poll_shut(worker, cx));
        poll_discard(worker, stock, cx).map(|()| Ended::Orderly)
    }

    /// Writes the Close to the client. A worker that has closed by itself has nothing to be added.
    fn poll_say(&mut self, client: &mut Peer, cx: &mut Context<'_>) -> Poll<()> {
        let Some(closing) = self.closing.as_mut().filter(|_| !self.down.frames.is_closed()) else {
            return Poll::Ready(());
        };
        // One that has gone is found out when it is read from.
        client.poll_write_all(&RESTARTS, &mut closing.written, cx).map(drop)
    }

    fn how_it_ended(&self) -> Ended {
        let has_close = self.down.frames.is_closed() || self.up.frames.is_closed();
        if self.worker_left && !has_close { Ended::Lost } else { Ended::Orderly }
    }
}

/// Throws away what comes. Ready at the end of it.
fn poll_discard(from: &mut Peer, stock: &Stock, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        from.input.consume(from.input.bytes().len());
        from.input.release(stock);
        match ready!(from.poll_read(stock, cx)) {
            Ok(1..) => {}
            Ok(0) | Err(_) => return Poll::Ready(()),
        }
    }
}
