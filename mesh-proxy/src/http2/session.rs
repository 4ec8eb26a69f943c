//! A client's connection of HTTP/2: takes its streams on, and ends it.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Builder, Connection, SendResponse},
};
use http::Request;

use super::{
    CONNECTION_WINDOW, HEADER_LIST_MAX, SEND_BUFFER_MAX, SMALL_PIECES_MAX, STREAM_WINDOW,
    allowance::{CANCELS_MAX, Ledger, Wire},
    response::{self, Ended},
};
use crate::{
    http::{Client, Http2Begun, Refusal, keep_asking},
    room::{Place, Pool},
    thread::{NoRoom, Thread},
    timer::{Alarm, Ticks},
};

/// The most streams of a connection at a time: what RFC 9113 §6.5.2 recommends as the least.
const STREAMS_MAX: u32 = 100;

/// How long the client's settings may take, and what is left to be said when a connection without streams ends.
const GREETING_TIMEOUT: Ticks = Ticks::from_ms(30_000);
const FAREWELL_TIMEOUT: Ticks = Ticks::from_ms(2_000);

/// The same where it is the proxy that retires: what is left to be said are ends of responses, and some clients read slowly.
const LONG_FAREWELL_TIMEOUT: Ticks = Ticks::from_ms(60_000);

/// What the tasks of a connection's streams share with it.
struct Shared {
    ledger: Rc<Ledger>,
    streams: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

/// A stream that is open, counted as long as this lives.
struct Open {
    shared: Rc<Shared>,
    _place: Option<Place>,
}

impl Open {
    fn new(shared: &Rc<Shared>, place: Option<Place>) -> Open {
        shared.streams.set(shared.streams.get() + 1);
        Open { shared: Rc::clone(shared), _place: place }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.streams.set(self.shared.streams.get() - 1);
        if let Some(waker) = self.shared.waker.take() {
            waker.wake();
        }
    }
}

/// Serves a connection whose client has begun to speak HTTP/2, to its end.
pub(crate) async fn serve(begun: Http2Begun) {
    let Http2Begun { thread, client, stream, input, alarm, pool } = begun;
    keep_asking(&stream);
    let ledger = Rc::new(Ledger::new(thread.clock.now()));
    let wire = Wire::new(input, stream, Rc::clone(&ledger));
    alarm.busy();
    alarm.set(GREETING_TIMEOUT);
    let mut greeting = pin!(builder().handshake::<_, Bytes>(wire));
    let greeted = poll_fn(|cx| {
        ledger.begin_turn();
        match greeting.as_mut().poll(cx) {
            Poll::Ready(greeted) => Poll::Ready(greeted.ok()),
            Poll::Pending => alarm.poll(cx).map(|()| None),
        }
    });
    let Some(connection) = greeted.await else { return };
    let shared = Rc::new(Shared { ledger, streams: Cell::new(0), waker: RefCell::new(None) });
    let mut session = Session { thread, client, connection, alarm, pool, shared, state: State::Fresh };
    poll_fn(|cx| session.poll(cx)).await;
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_MAX)
        .max_send_buffer_size(SEND_BUFFER_MAX)
        .data_frame_budget(SMALL_PIECES_MAX)
        .max_pending_accept_reset_streams(CANCELS_MAX as usize)
        .enable_connect_protocol();
    builder
}

/// What a connection does. Fresh, Busy and Idle follow each other as streams come and go; each → Leaving, when it or the proxy
/// is to end, and Leaving → over, when no stream is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    /// Streams are open.
    Busy,
    /// None is, and the alarm says for how long yet.
    Idle,
    /// The client was told to open no more of them.
    Leaving {
        /// None is open, and the alarm says for how long the client has to take that in.
        idle: bool,
        /// Nobody waits for its end, so it may take its time.
        at_leisure: bool,
    },
}

struct Session {
    thread: Rc<Thread>,
    client: Client,
    connection: Connection<Wire, Bytes>,
    alarm: Alarm,
    pool: Pool,
    shared: Rc<Shared>,
    state: State,
}

impl Session {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.waker.replace(Some(cx.waker().clone()));
        self.shared.ledger.begin_turn();
        loop {
            match self.connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.begin(request, respond, cx);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "a connection of HTTP/2 broke");
                    if !error.is_remote() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
                        self.thread.count_refusal(Refusal::Flood);
                    }
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if self.shared.ledger.is_overdrawn(self.thread.clock.now()) {
                return self.calm(cx);
            }
            let is_leaving = matches!(self.state, State::Leaving { .. });
            if !is_leaving && (self.is_closing() || self.is_idle_for_long(cx)) {
                self.connection.graceful_shutdown();
                let at_leisure = self.is_closing() && !self.alarm.is_let_go();
                self.state = State::Leaving { idle: false, at_leisure };
                self.alarm.clear();
                continue;
            }
            if let State::Leaving { at_leisure, .. } = self.state
                && self.has_left(at_leisure && !self.thread.is_hurrying(), cx)
            {
                return Poll::Ready(());
            }
            return Poll::Pending;
        }
    }

    fn is_closing(&self) -> bool {
        self.thread.is_closing() || self.client.terms.are_over()
    }

    /// Whether the last stream ended long ago, or the connection's place is needed. Starts to count when there is none.
    fn is_idle_for_long(&mut self, cx: &mut Context<'_>) -> bool {
        let busy = self.shared.streams.get() > 0;
        if busy && self.state != State::Busy {
            self.state = State::Busy;
            self.alarm.busy();
            self.alarm.clear();
        } else if !busy && self.state != State::Idle {
            self.state = State::Idle;
            self.alarm.wait(self.pool, self.client.terms.bounds().idle_timeout);
        }
        self.alarm.poll(cx).is_ready()
    }

    /// Whether a client that was told to leave has had its time.
    fn has_left(&mut self, at_leisure: bool, cx: &mut Context<'_>) -> bool {
        let idle = self.shared.streams.get() == 0;
        let leaving = State::Leaving { idle, at_leisure };
        if self.state != leaving {
            self.state = leaving;
            self.alarm.busy();
            match (idle, at_leisure) {
                (false, _) => self.alarm.clear(),
                (true, true) => self.alarm.set(LONG_FAREWELL_TIMEOUT),
                (true, false) => self.alarm.set(FAREWELL_TIMEOUT),
            }
        }
        self.alarm.poll(cx).is_ready()
    }

    /// Ends a connection that does too much that leads to nothing.
    fn calm(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        tracing::debug!(client = ?self.client.peer, "a client's connection was ended for what it does to no purpose");
        self.thread.count_refusal(Refusal::Flood);
        self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        // As much as can be said at once is said; nobody is owed more.
        let _ = self.connection.poll_accept(cx);
        Poll::Ready(())
    }

    fn begin(
        &mut self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
        cx: &mut Context<'_>,
    ) {
        // Taken back before anybody looked at it, which costs the client as little as it should cost us.
        if respond.poll_reset(cx).is_ready() {
            return self.shared.ledger.took_back(self.thread.clock.now());
        }
        // The first one has the connection's.
        let place = match self.shared.streams.get() {
            0 => None,
            _ => match self.thread.one_more_stream(&self.client.side) {
                Ok(place) => place,
                // Nothing was done with it, and the client may send it again (RFC 9113 §8.7).
                Err(NoRoom) => return respond.send_reset(Reason::REFUSED_STREAM),
            },
        };
        self.shared.ledger.asked();
        let open = Open::new(&self.shared, place);
        let (thread, client) = (Rc::clone(&self.thread), self.client.clone());
        tokio::task::spawn_local(async move {
            let ledger = Rc::clone(&open.shared.ledger);
            match response::serve(&thread, client, request, respond, Rc::clone(&ledger)).await {
                Ended::Answered => ledger.was_answered(),
                Ended::TakenBack => ledger.took_back(thread.clock.now()),
                Ended::Left => {}
            }
        });
    }
}
