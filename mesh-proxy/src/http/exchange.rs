//! One request and its response: sends, waits, passes back, and tries again where that is safe.
//!
//! What may be sent again, and what not (RFC 9110 §9.2.2):
//! - anything of which no byte was accepted. That a Unix socket answers ECONNRESET proves less: that some bytes were not
//!   read, not that none were;
//! - requests with an idempotent method as long as no byte of the response came.
//!
//! In both cases only while all bytes that went out are still here: a head, and a body that was short enough to be
//! sent along with it.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
};

use tokio::time::{Instant, Sleep};

use super::{
    Side,
    again::Loss,
    answer::{self, Answer, Kind, State},
    body::{Body, Coding, Peer, Pump, PumpError},
    cached::{self, Filling, Heard, Look},
    chunked::ChunkError,
    compress::Encoder,
    connection::{After, Connection},
    deadline::Progress,
    judging::Trial,
    mirror,
    pipe::Break,
    prepare::Prepared,
    response::BadResponse,
    trickle::Trickle,
    tunnel, websocket,
};
use crate::{
    access::CutOff,
    dispatch::{Dispatch, Reached},
    edges::Timed,
    failures::Outcome,
    gate::Ticket,
    pool,
    respond::Failure,
    room::Pool,
    thread::Thread,
    timer::{Alarm, Ticks},
    worker::Worker,
};

/// How long a response head waits for the body that its length announces: the shortest time the coarse clock has.
const HEAD_WAITS: Ticks = Ticks::from_ms(1);

/// The most interim responses to one request.
const INTERIM_MAX: u32 = 64;

/// A worker that was told to expect a body and says nothing gets it after this long, as RFC 9110 §10.1.1 lets clients do.
const CONTINUE_AFTER: Ticks = Ticks::from_ms(1_000);

/// Why an exchange cannot go on.
pub(super) enum Stop {
    /// The client gets to know.
    Failure(Failure),
    /// The client is gone.
    Abort,
    /// The client has a part of the response already that cannot be completed: why, in words.
    Broken(String),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Failure(failure)
    }
}

/// How one attempt with one connection ended without a response.
enum Lost {
    /// The connection died before the client saw a byte of the response.
    Connection(io::Error),
    /// The worker lives, and another try is to be made of it.
    Again,
    Stop(Stop),
}

impl<S: Into<Stop>> From<S> for Lost {
    fn from(stop: S) -> Self {
        Lost::Stop(stop.into())
    }
}

/// How an exchange ended that passed a response on.
pub(super) struct Ended {
    pub(super) after: After,
    /// The worker's connection is as good as new.
    pub(super) reuse: bool,
}

/// Serves a request whose head for the worker is in the connection's `request_out`.
pub(crate) async fn run(connection: &mut Connection, mut request: Prepared) -> After {
    connection.peer.input.consume(request.head_len);
    connection.note(|outcome| outcome.service = Some(request.service.name.clone()));
    let thread = connection.thread.clone();
    let mut upload = Pump::new(request.body, Coding::AsIs)
        .keeping(request.may_repeat || request.mirror.is_some())
        .of_at_most(request.body_max);
    let started = upload.start(&mut connection.peer.input, &mut connection.request_out);
    connection.peer.input.release(&thread.stock);
    if let Some(delay) = request.delay
        && let Some(after) = connection.delayed(&request, delay).await
    {
        return after;
    }
    let filling = match request.cache.is_some() {
        true => match cached::look(connection, &mut request).await {
            Look::Answered(after) => return after,
            Look::Ask(filling) => filling,
        },
        false => None,
    };
    // What services send each other may be slow on purpose: a stream of events, for example.
    let bounds = connection.client.terms.bounds();
    let is_gateway = matches!(connection.client.side, Side::Gateway);
    let is_pipe = connection.peer.stream.is_pipe();
    let rate_min = is_gateway.then(|| bounds.body_rate_min(thread.table().body_rate_min)).flatten();
    let (progress, deadline) = (Cell::default(), request.deadline);
    let side = &connection.client.side;
    let timed =
        thread.counts_edges().then(|| request.service.tally.edges.begin(side, request.route.as_ref()));
    let mut exchange = Exchange {
        dispatch: Dispatch::new(&thread, request.service.clone()).wishing(request.wish),
        thread: &thread,
        connection,
        request,
        upload,
        trickle: Trickle::new(rate_min),
        lag: (is_gateway && !is_pipe).then(Lag::default),
        upload_broken: false,
        progress: &progress,
        sent: false,
        tries: 0,
        try_over: None,
        whole_at: None,
        since: None,
        answering: false,
        continued: false,
        interims: 0,
        trial: None,
        ticket: None,
        timed,
        filling,
    };
    let answered = match (started, deadline) {
        (Ok(()), None) => exchange.answer().await,
        (Ok(()), Some(deadline)) => {
            // In a box, so that those who have none do not carry its size.
            let answered = deadline.bound(&progress, Box::pin(exchange.answer())).await;
            answered.unwrap_or_else(|| Err(exchange.over()))
        }
        (Err(error), _) => Err(exchange.bad_chunk(error).into()),
    };
    exchange.connection.note(|outcome| match &answered {
        Err(Stop::Abort) => outcome.cut_off(CutOff::ByClient),
        Err(Stop::Broken(_)) => outcome.cut_off(CutOff::InResponse),
        Ok(_) | Err(Stop::Failure(_)) => {}
    });
    match answered {
        Ok(after) => after,
        Err(Stop::Abort | Stop::Broken(_)) => {
            exchange.connection.peer.stream.breaks_off();
            After::Close
        }
        Err(Stop::Failure(failure)) => match exchange.cover(&failure).await {
            Some(after) => after,
            None => exchange.fail(failure).await,
        },
    }
}

pub(super) struct Exchange<'e> {
    pub(super) thread: &'e Rc<Thread>,
    pub(super) connection: &'e mut Connection,
    pub(super) dispatch: Dispatch<'e>,
    pub(super) request: Prepared,
    /// From the client to the worker; the head is the connection's `request_out`.
    pub(super) upload: Pump,
    /// Whether the client sends it fast enough.
    trickle: Trickle,
    /// Whether the client lags, where that is looked at: services may be slow on purpose, and what a stream of HTTP/2 has is its connection's.
    lag: Option<Lag>,
    /// The worker took no more of the request. It may have answered all the same.
    pub(super) upload_broken: bool,
    /// How far the client has got with the response.
    pub(super) progress: &'e Cell<Progress>,
    sent: bool,
    /// How often the request was sent, kept connections left out that had died.
    pub(super) tries: u32,
    /// When the present try is over, where tries have a time: from when the worker has all of the request, since how fast a client sends it
    /// is not the worker's affair.
    try_over: Option<Pin<Box<Sleep>>>,
    /// When a worker had all of it first, where its time is bounded.
    pub(super) whole_at: Option<Instant>,
    /// When it was sent first, where that is measured.
    since: Option<Instant>,
    /// The worker that has it now sent a part of a response.
    answering: bool,
    /// The client was told to go on with the body.
    continued: bool,
    pub(super) interims: u32,
    /// The worker that has it.
    pub(super) trial: Option<Trial>,
    /// From the gate of its service, where that has one.
    pub(super) ticket: Option<Ticket>,
    /// Counts it by where it came from, when this is dropped.
    pub(super) timed: Option<Timed>,
    /// What is to be done with the response for what is stored.
    pub(super) filling: Option<Box<Filling>>,
}

impl Exchange<'_> {
    /// All attempts.
    async fn answer(&mut self) -> Result<After, Stop> {
        self.pass_gate().await?;
        let mut fresh = false;
        loop {
            self.trial = None;
            if let Some(lag) = &mut self.lag {
                lag.look((&self.connection.alarm, self.connection.pool), false, 0);
            }
            let Reached { stream, flight, reused } = self.reach(fresh).await?;
            self.is_at(flight.worker());
            self.sends();
            let tries = self.tries;
            self.connection.note(|outcome| outcome.sent_to(flight.worker().run, tries));
            let mut worker = Peer::new(stream);
            let error = match self.attempt(&mut worker, flight.worker()).await {
                Ok(Ended { after, reuse }) => {
                    if reuse {
                        worker.input.release(&self.thread.stock);
                        pool::put(self.thread, flight.worker(), worker.stream);
                    }
                    return Ok(after);
                }
                Err(Lost::Stop(stop)) => {
                    if let Stop::Broken(what) = &stop {
                        self.name_lost(
                            flight.worker(),
                            format!("its response could not be completed: {what}"),
                        );
                    }
                    return Err(stop);
                }
                Err(Lost::Again) => {
                    let passed = Rc::clone(flight.worker());
                    // It is busy with this no longer.
                    drop((worker, flight));
                    self.dispatch.avoid(&passed);
                    self.rest().await?;
                    fresh = false;
                    continue;
                }
                Err(Lost::Connection(error)) => error,
            };
            let loss = Loss {
                delivered: self.upload.has_begun() && !Break::is_unprocessed(&error),
                refused: Break::is_refused(&error),
                // Nobody begins to answer, or ends one request of many, because he was asked nothing for long.
                waited: reused && !self.answering && !Break::is_of_one_stream(&error),
            };
            // A client that is slow to send may have had its worker lose patience.
            if !loss.waited && !loss.refused && !self.waits_for_client() {
                self.judge(Outcome::Reset);
            }
            let failure = self.connection_lost(&error);
            if !self.may_send_again(&loss) || !self.dispatch.lost(flight.worker(), &loss, failure.clone()) {
                if loss.delivered {
                    self.name_lost(
                        flight.worker(),
                        format!("the worker had it, and did not answer: {error}"),
                    );
                }
                return Err(failure.into());
            }
            fresh = true;
        }
    }

    /// A connection to a worker. Waiting for one ends when the client goes away.
    async fn reach(&mut self, fresh: bool) -> Result<Reached, Stop> {
        let Exchange { dispatch, connection, .. } = self;
        let mut reaching = pin!(dispatch.connection(fresh));
        poll_fn(|cx| match reaching.as_mut().poll(cx) {
            Poll::Ready(reached) => Poll::Ready(reached.map_err(Stop::Failure)),
            Poll::Pending => connection.poll_gone(cx).map(|()| Err(Stop::Abort)),
        })
        .await
    }

    /// The request goes to a worker now.
    fn sends(&mut self) {
        self.tries += 1;
        self.dispatch.sends();
        self.answering = false;
        if !std::mem::replace(&mut self.sent, true) {
            self.request.service.tally.count_request();
            self.since = self.request.service.tally.meter.start();
        }
        if let Some(deadline) = &self.request.deadline {
            deadline.stamp(&mut self.connection.request_out);
        }
        self.try_over = None;
    }

    /// One attempt with one connection.
    async fn attempt(&mut self, worker: &mut Peer, of: &Worker) -> Result<Ended, Lost> {
        let answer = loop {
            let answer = self.response_head(worker).await?;
            let is_unwanted = matches!(answer.kind, Kind::Final { .. }) && self.is_unwanted(&answer);
            let is_last = matches!(answer.kind, Kind::Final { .. }) && !is_unwanted;
            if is_last
                && self.filling.is_some()
                && let Heard::Stored { entry, told, lines } =
                    self.hear(&worker.input.bytes()[..answer.head_len])
            {
                worker.input.consume(answer.head_len);
                return Ok(self.pass_stored(worker, answer, (entry, told, lines)).await?);
            }
            worker.input.consume(answer.head_len);
            match answer.kind {
                Kind::Interim => self.pass_interim(answer.status).await?,
                Kind::Switch => return Ok(Ended { after: self.tunnel(worker, of).await?, reuse: false }),
                Kind::Final { .. } if is_unwanted => return Err(Lost::Again),
                Kind::Final { .. } => break answer,
            }
        };
        self.connection.alarm.busy();
        self.first_of_body(worker, answer.kind).await?;
        Ok(self.pass_response(worker, answer).await?)
    }

    /// Many programs write a head and then its body. One that is killed in between has said nothing yet that the client
    /// knows of. So the head waits a moment for the first bytes behind it, and if the worker dies meanwhile, another one is asked.
    /// Only where a length says that bytes will come at once: a stream's head goes on as it is.
    async fn first_of_body(&mut self, worker: &mut Peer, kind: Kind) -> Result<(), Lost> {
        let expected = matches!(kind, Kind::Final { body: Body::Length(1..), .. });
        if !expected || !worker.input.is_empty() || !self.request.may_repeat || self.uploading() {
            return Ok(());
        }
        worker.stream.acknowledge();
        self.connection.alarm.set(HEAD_WAITS);
        poll_fn(|cx| match worker.poll_read(&self.thread.stock, cx) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.connection.alarm.poll(cx).map(Ok),
        })
        .await
        .map_err(Lost::Connection)
    }

    /// Sends the request as far as it can be sent, until the head of a response was read and written to
    /// `response_out`.
    async fn response_head(&mut self, worker: &mut Peer) -> Result<Answer, Lost> {
        self.connection.alarm.set(if self.must_continue() { CONTINUE_AFTER } else { self.wait_limit() });
        let mut may_end = true;
        loop {
            if may_end && !worker.input.is_empty() {
                let (uploading, closing) = (self.uploading(), self.connection.is_closing());
                let state = State { request: &self.request, thread: self.thread, uploading, closing };
                match answer::read(state, worker.input.bytes(), &mut self.connection.response_out) {
                    Ok(Some(answer)) => return Ok(answer),
                    Ok(None) => worker.stream.acknowledge(),
                    Err(error) => return Err(self.bad_response(error).into()),
                }
            }
            let before = worker.input.bytes().len();
            match self.more_of_head(worker).await {
                Ok(()) => may_end = worker.input.may_end_head(before),
                // Of a head that broke off the client has seen nothing.
                Err(Wait::Lost(error)) => return Err(Lost::Connection(error)),
                Err(Wait::ClientGone) => return Err(Stop::Abort.into()),
                Err(Wait::Chunk(error)) => return Err(self.bad_chunk(error).into()),
                Err(Wait::TryOver) if self.may_ask_another() => return Err(Lost::Again),
                Err(Wait::TryOver) => return Err(self.no_try_left().into()),
                Err(Wait::TooLong) if self.must_continue() => self.say_continue().await?,
                Err(Wait::TooLong) => return Err(self.too_long().into()),
            }
        }
    }

    pub(super) fn uploading(&self) -> bool {
        !self.upload.is_done(&self.connection.request_out)
    }

    /// Waits for bytes from the worker. Sends meanwhile.
    async fn more_of_head(&mut self, worker: &mut Peer) -> Result<(), Wait> {
        let waits_for_continue = self.must_continue();
        poll_fn(|cx| {
            let connection = &mut *self.connection;
            if !self.upload_broken && !self.upload.is_done(&connection.request_out) {
                let out = &mut connection.request_out;
                let sent =
                    self.upload.poll(&mut connection.peer, &mut worker.stream, out, &self.thread.stock, cx);
                let progressed = self.upload.take_progress() && !waits_for_continue;
                let (received, starved) = (self.upload.take_received(), self.upload.is_starved());
                self.trickle.look(self.thread.clock.now(), received, starved);
                if let Some(lag) = &mut self.lag {
                    let lags = sent.is_pending() && starved && !waits_for_continue;
                    lag.look((&connection.alarm, connection.pool), lags, received);
                }
                match sent {
                    Poll::Ready(Ok(())) => {
                        if let Some(mirror) = self.request.mirror.take()
                            && !self.request.upgrade
                        {
                            let is_chunked = matches!(self.request.body, Body::Chunked(_));
                            let whole = self.upload.is_whole().then_some(&out[..]);
                            mirror::send(self.thread, mirror, whole, is_chunked);
                        }
                        connection.alarm.set(self.request.service.first_byte_timeout);
                        if self.request.deadline.is_some() {
                            self.whole_at.get_or_insert_with(Instant::now);
                        }
                        self.try_over = self.request.service.try_from_now();
                    }
                    Poll::Ready(Err(PumpError::Source(_))) => return Poll::Ready(Err(Wait::ClientGone)),
                    Poll::Ready(Err(PumpError::Chunk(error))) => {
                        return Poll::Ready(Err(Wait::Chunk(error)));
                    }
                    // It may have answered and closed without reading everything.
                    Poll::Ready(Err(PumpError::Sink)) => {
                        self.upload_broken = true;
                        self.try_over = self.request.service.try_from_now();
                    }
                    Poll::Pending if progressed => {
                        connection.alarm.set(self.request.service.idle_timeout.min(self.trickle.left()));
                    }
                    Poll::Pending => {}
                }
            }
            if let Poll::Ready(read) = worker.poll_read(&self.thread.stock, cx) {
                return Poll::Ready(match read {
                    Ok(0) => Err(Wait::Lost(io::ErrorKind::UnexpectedEof.into())),
                    Ok(_) => {
                        self.answering = true;
                        Ok(())
                    }
                    Err(error) => Err(Wait::Lost(error)),
                });
            }
            if self.upload.is_done(&connection.request_out) && connection.poll_gone(cx).is_ready() {
                return Poll::Ready(Err(Wait::ClientGone));
            }
            if let Some(over) = &mut self.try_over
                && over.as_mut().poll(cx).is_ready()
            {
                return Poll::Ready(Err(Wait::TryOver));
            }
            connection.alarm.poll(cx).map(|()| match connection.alarm.is_let_go() {
                // Nobody is there to whom it would have to be said.
                true => Err(Wait::ClientGone),
                false => Err(Wait::TooLong),
            })
        })
        .await
    }

    /// The client gets this status.
    pub(super) fn answered_with(&mut self, status: u16) {
        if let Some(timed) = &mut self.timed {
            timed.status = status;
        }
    }

    fn must_continue(&self) -> bool {
        self.request.expect && !self.continued && self.uploading()
    }

    fn wait_limit(&self) -> Ticks {
        let service = &self.request.service;
        if self.uploading() { service.idle_timeout } else { service.first_byte_timeout }
    }

    /// The worker does not know the expectation, or takes its time. So that nobody waits for ever, the client is told
    /// to go on.
    async fn say_continue(&mut self) -> Result<(), Stop> {
        self.continued = true;
        self.connection.alarm.set(self.request.service.idle_timeout);
        self.progress.set(Progress::Begun);
        self.connection.write_to_client(b"HTTP/1.1 100 Continue\r\n\r\n").await.map_err(|_| Stop::Abort)?;
        self.progress.set(Progress::Nothing);
        Ok(())
    }

    /// Passes an interim response on, to those who know that there are such things.
    async fn pass_interim(&mut self, status: u16) -> Result<(), Stop> {
        self.interims += 1;
        if self.interims > INTERIM_MAX {
            return Err(self.bad_response(BadResponse::Interim).into());
        }
        let said_already = status == 100 && std::mem::replace(&mut self.continued, true);
        if self.request.http10 || said_already {
            return Ok(());
        }
        self.connection.alarm.set(self.request.service.idle_timeout);
        self.progress.set(Progress::Begun);
        self.connection.write_response_out().await.map_err(|_| Stop::Abort)?;
        self.progress.set(Progress::Nothing);
        Ok(())
    }

    /// Passes the response on, whose head is in `response_out`.
    async fn pass_response(&mut self, worker: &mut Peer, answer: Answer) -> Result<Ended, Stop> {
        let Kind::Final { body, coding, close, reuse, squeezed } = answer.kind else {
            return Err(Stop::Abort);
        };
        self.answered(answer);
        self.progress.set(Progress::Begun);
        self.connection.note(|outcome| outcome.status = answer.status);
        self.answered_with(answer.status);
        self.upload.forget(&mut self.connection.request_out);
        let tap = self.filling.as_mut().and_then(|filling| filling.tap(self.thread, body));
        let encoder = squeezed.map(|coding| Encoder::new(coding, self.thread)).transpose();
        let encoder = encoder.map_err(|error| self.bad_body(&format!("it cannot be compressed: {error}")))?;
        let mut download = Pump::new(body, coding).tapped(tap).squeezed_by(encoder);
        download
            .start(&mut worker.input, &mut self.connection.response_out)
            .map_err(|_| self.bad_body("its chunked framing is malformed"))?;
        self.came_to(Outcome::Status(answer.verdict));
        self.connection.alarm.set(self.request.service.idle_timeout);
        self.download(&mut download, worker).await?;
        if let (Some(tap), Some(filling)) = (download.take_tap(), &mut self.filling) {
            filling.finish(&self.request, self.thread, *tap);
        }
        if self.uploading() {
            return Ok(Ended { after: After::Linger, reuse: false });
        }
        // More bytes than the response has would be taken for the next one.
        let reuse = reuse && worker.input.is_empty();
        Ok(Ended { after: if close { After::Close } else { After::Next }, reuse })
    }

    /// A worker has answered.
    pub(super) fn answered(&self, answer: Answer) {
        if answer.status >= 500 {
            self.request.service.tally.count_failure();
        }
        if let Some(since) = self.since {
            self.request.service.tally.meter.answered(since);
        }
    }

    async fn download(&mut self, download: &mut Pump, worker: &mut Peer) -> Result<(), Stop> {
        poll_fn(|cx| {
            let connection = &mut *self.connection;
            if !self.upload_broken && !self.upload.is_done(&connection.request_out) {
                let out = &mut connection.request_out;
                let sent =
                    self.upload.poll(&mut connection.peer, &mut worker.stream, out, &self.thread.stock, cx);
                if let Poll::Ready(Err(PumpError::Chunk(error))) = sent {
                    return Poll::Ready(Err(self.body_broken(download, error)));
                }
                // Whatever else went wrong there: the response is what counts now.
                self.upload_broken = matches!(sent, Poll::Ready(Err(_)));
                self.upload.forget(out);
            }
            let out = &mut connection.response_out;
            let sent = download.sent();
            let received = download.poll(worker, &mut connection.peer.stream, out, &self.thread.stock, cx);
            // At once, since this may be dropped at any time.
            connection.note(|outcome| outcome.sent = download.sent());
            if let Some(lag) = &mut self.lag {
                let lags = received.is_pending() && download.is_choked();
                lag.look((&connection.alarm, connection.pool), lags, download.sent() - sent);
            }
            let more = download.take_progress();
            if more && received.is_pending() {
                worker.stream.acknowledge();
            }
            if more | self.upload.take_progress() {
                connection.alarm.set(self.request.service.idle_timeout);
            }
            match received {
                Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(self.broken_off(download, error))),
                Poll::Pending => connection.alarm.poll(cx).map(|()| {
                    connection.note(|outcome| outcome.cut_off(CutOff::InResponse));
                    Err(Stop::Abort)
                }),
            }
        })
        .await
    }

    /// Both sides agreed on another protocol: bytes both ways from here on.
    async fn tunnel(&mut self, worker: &mut Peer, of: &Worker) -> Result<After, Stop> {
        self.connection.alarm.busy();
        self.progress.set(Progress::Tunnel);
        self.came_to(Outcome::Status(101));
        self.connection.note(|outcome| outcome.status = 101);
        if let Some(timed) = self.timed.take() {
            timed.switched();
        }
        self.connection.alarm.set(self.request.service.idle_timeout);
        self.connection.write_response_out().await.map_err(|_| Stop::Abort)?;
        self.connection.alarm.clear();
        let Connection { peer, alarm, .. } = &mut *self.connection;
        if !self.request.websocket {
            tunnel::run(peer, worker, &self.thread.stock, alarm).await;
        } else if websocket::run(peer, worker, of, &self.thread.stock, alarm).await == websocket::Ended::Lost
        {
            self.name_lost(of, "the worker left its WebSocket without a Close".to_owned());
        }
        Ok(After::Close)
    }
}

/// After so many bytes a client has shown that it is not one that only holds its place.
const LAG_IS_OVER_AFTER: u64 = 64 << 10;

/// Whether a client with a request under way is what is waited for: when there is no room, those make some that have been for longest.
#[derive(Default)]
struct Lag {
    does: bool,
    /// Since which turn: [`Alarm::lags`](crate::timer::Alarm::lags).
    since: Option<u64>,
    /// Bytes that moved since then.
    moved: u64,
}

impl Lag {
    /// After so many more bytes.
    fn look(&mut self, (alarm, pool): (&Alarm, Pool), does: bool, moved: u64) {
        self.moved += moved;
        if self.moved >= LAG_IS_OVER_AFTER {
            (self.moved, self.since) = (0, None);
        }
        if does {
            alarm.lags(pool, &mut self.since);
        } else if self.does {
            alarm.busy();
        }
        self.does = does;
    }
}

/// Why waiting for a response head ended without more bytes of it.
enum Wait {
    /// The worker's connection died.
    Lost(io::Error),
    ClientGone,
    /// The request's body is malformed, or too large.
    Chunk(ChunkError),
    TooLong,
    /// The worker had the time that one try has.
    TryOver,
}
