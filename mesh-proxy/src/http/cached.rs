//! A request that is answered by what is stored, and a response that is stored.
//!
//! What is stored is a response as a worker gave it. When it is the answer it is read like one from a worker, so that whatever its route makes of
//! responses is made of it each time, and nothing that is of one request alone is ever stored.
//!
//! A response goes to its client meanwhile. When the client goes away, or the worker does, nothing is stored.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::Poll,
};

use bytes::Bytes;
use tokio::{sync::watch, time::Instant};
use watt_cache::{Asked, Cookies, Entry, Fields as Said, Looked, Making, Told, Unstorable, Use};

use super::{
    Client,
    answer::{self, Answer, Kind, State},
    body::{Body, Peer},
    compress::{Encoder, PIECE_MAX},
    connection::{After, Connection},
    deadline::Progress,
    exchange::{self, Ended, Exchange, Stop},
    head::{Fields, Framing, Lines, storage},
    pipe::pipe,
    prepare::Prepared,
    request::Method,
    response,
    stream::Stream,
    tap::Tap,
};
use crate::{
    access::CutOff,
    affinity::Wish,
    cache::{Caching, Lead, Rules, Turn, WAIT_MAX},
    failures::Outcome,
    files::Coding,
    respond::{Failure, Reason},
    thread::Thread,
    timer::Ticks,
};

/// Heads with more than these are not stored: some fields are added when one is the answer.
const FIELDS_MAX: usize = 112;
const HEAD_MAX: usize = 32 << 10;

/// A body up to this goes out with its head; longer ones in such pieces, for each of which a client has this long.
const TOGETHER_MAX: usize = 16 << 10;
const PIECE: usize = 128 << 10;
const PIECE_TIMEOUT: Ticks = Ticks::from_ms(60_000);

/// Longer than any wait for another request.
const WAIT_ALARM: Ticks = Ticks::from_ms(60_000);

/// The most responses that a thread gets in place of stale ones at a time.
const REFRESHES_MAX: usize = 64;

/// What becomes of a request.
pub(super) enum Look {
    /// It was answered.
    Answered(After),
    /// A worker is asked, and this is to be done with what it says.
    Ask(Option<Box<Filling>>),
}

/// A request that goes to a worker although there is a cache.
pub(super) struct Filling {
    caching: Caching,
    asked: Asked,
    /// Its head as the worker would get it without a cache.
    head: Vec<u8>,
    /// Before anything was asked.
    generation: u64,
    started_ms: u64,
    why: Why,
    /// Others wait for what it gets.
    lead: Option<Lead>,
    storing: Option<Making>,
}

/// Why it goes there.
enum Why {
    /// Nothing is stored for it.
    Missing,
    /// For other requests alone.
    OtherVariants,
    /// What is stored is stale, or is to be asked for.
    Stale(Arc<Entry>),
    /// It may change what is stored.
    Unsafe,
}

/// What is to be done with a worker's response.
pub(super) enum Heard {
    /// It goes to the client.
    Pass,
    /// This does, in its place.
    Stored { entry: Arc<Entry>, told: Told, lines: Vec<u8> },
}

enum Decided {
    /// This is the answer, and another one is to be got meanwhile, if so.
    Answer(Arc<Entry>, Asked, bool),
    NotCached,
    Ask(Asked, Why),
    Pass,
}

/// Looks whether a request can be answered by what is stored.
pub(super) async fn look(connection: &mut Connection, request: &mut Prepared) -> Look {
    let Some(caching) = request.cache.take() else { return Look::Ask(None) };
    let thread = connection.thread.clone();
    let is_plain = request.body == Body::Done && !request.upgrade;
    let mut decided = decide(&thread, &caching, is_plain, &connection.request_out);
    let mut lead = None;
    let mut told = Told::Hit;
    if let Decided::Ask(asked, why) = &decided
        && may_share(asked, why, &caching)
    {
        let cached = thread.cached();
        match cached.turns.take(&caching.uri, &caching.place, cached.now().ms) {
            Turn::Leads(leads) => lead = Some(leads),
            Turn::Follows(leader) => {
                match wait(connection, request, leader).await {
                    Waited::Done => {}
                    Waited::TooLong => {
                        cached.turns.was_too_long(&caching.uri, &caching.place, cached.now().ms);
                    }
                    Waited::Gone => return Look::Answered(gone(connection)),
                }
                decided = decide(&thread, &caching, is_plain, &connection.request_out);
                told = Told::Collapsed;
            }
            Turn::Alone => {}
        }
    }
    match decided {
        Decided::Pass => Look::Ask(None),
        Decided::NotCached => {
            let message = "Only what is stored was asked for, and nothing is.".to_owned();
            let failure = Failure::new(Reason::NotCached, Some(request.service.name.clone()), message);
            let close = !request.keep_alive || connection.is_closing();
            Look::Answered(connection.respond(&failure, request.manner(close)).await)
        }
        Decided::Answer(entry, asked, is_refreshed) => {
            let is_stale = entry.facts().ttl_s(thread.cached().now()) <= 0;
            request.service.tally.count_cached(|counts| {
                counts.collapsed += u64::from(told == Told::Collapsed);
                if is_stale { counts.stale += 1 } else { counts.hits += 1 }
            });
            if is_refreshed {
                let is_for_one = caching.is_for_one;
                refresh(connection, request, caching.rules, is_for_one, &entry);
            }
            Look::Answered(send(connection, request, &entry, &asked, told, &[]).await)
        }
        Decided::Ask(asked, why) => {
            let cached = thread.cached();
            let filling = Filling {
                generation: cached.store.generation(&caching.uri),
                started_ms: cached.now().ms,
                head: head_of(&connection.request_out).to_vec(),
                caching: *caching,
                asked,
                lead,
                storing: None,
                why,
            };
            if let Why::Stale(entry) = &filling.why
                && entry.can_be_validated()
            {
                condition(request, entry, &mut connection.request_out);
            }
            if !matches!(filling.why, Why::Unsafe) {
                request.service.tally.count_cached(|counts| counts.misses += 1);
            }
            Look::Ask(Some(Box::new(filling)))
        }
    }
}

fn decide(thread: &Thread, caching: &Caching, is_plain: bool, head: &[u8]) -> Decided {
    let cached = thread.cached();
    let decided = with_request(head, |method, fields| {
        if watt_cache::is_unsafe(method) {
            return Decided::Ask(Asked::default(), Why::Unsafe);
        }
        if !caching.stores {
            return Decided::Pass;
        }
        let is_known = method == "GET" || method == "HEAD" && caching.rules.head;
        let asked = asked(caching, method, fields);
        if !is_known || !is_plain || asked.is_for_service {
            return Decided::Pass;
        }
        let why = match cached.store.look(&caching.uri, &caching.place, fields) {
            Looked::Nothing => Why::Missing,
            Looked::Variants => Why::OtherVariants,
            Looked::Found(entry) => match entry.facts().usable(&asked.directives, cached.now()) {
                Use::Fresh | Use::Stale if !caching.is_refresh => {
                    return Decided::Answer(entry, asked, false);
                }
                Use::WhileRevalidating if !caching.is_refresh => {
                    let refreshes = entry.begin_refresh();
                    return Decided::Answer(entry, asked, refreshes);
                }
                _ => Why::Stale(entry),
            },
        };
        match asked.directives.only_if_cached {
            true => Decided::NotCached,
            false => Decided::Ask(asked, why),
        }
    });
    decided.unwrap_or(Decided::Pass)
}

/// What a request says to the cache. What tells a service who asks has a name of the operator's choice with an authority.
fn asked(caching: &Caching, method: &str, fields: Said<'_>) -> Asked {
    let mut asked = Asked::read(method, fields, caching.is_believed);
    asked.is_authorized |= caching.is_for_one;
    asked
}

/// Whether another request may get the response for this one, or this one for others. Not where it is for one alone, by what is known of it, or where
/// its response is none for all.
fn may_share(asked: &Asked, why: &Why, caching: &Caching) -> bool {
    let is_shared = match why {
        Why::Missing | Why::OtherVariants => true,
        Why::Stale(entry) => !entry.facts().is_validated_each_time(),
        Why::Unsafe => false,
    };
    let is_own =
        asked.is_head || asked.is_authorized || asked.no_store || asked.directives != Default::default();
    is_shared && !is_own && !asked.conditions.are_any() && !caching.is_refresh
}

/// How a wait for another request ended.
enum Waited {
    /// It has its response, or this one has no more time: what there is now is looked at.
    Done,
    /// It took as long as a request waits at most.
    TooLong,
    /// The client is gone.
    Gone,
}

/// Waits until another request has got what this one is for, for long enough, or until its own time or the proxy's is over.
async fn wait(connection: &mut Connection, request: &Prepared, mut leader: watch::Receiver<()>) -> Waited {
    let (latest, last) = (Instant::now() + WAIT_MAX, request.deadline.map(|deadline| deadline.at));
    let is_own = last.is_some_and(|last| last < latest);
    let until = last.map_or(latest, |last| last.min(latest));
    let mut waiting = pin!(tokio::time::timeout_at(until, leader.changed()));
    // It is not to ring, but wakes this task with all others that are to look at what the proxy does.
    connection.alarm.set(WAIT_ALARM);
    poll_fn(|cx| match waiting.as_mut().poll(cx) {
        Poll::Ready(Err(_)) if !is_own => Poll::Ready(Waited::TooLong),
        Poll::Ready(_) => Poll::Ready(Waited::Done),
        Poll::Pending if connection.thread.is_hurrying() || connection.alarm.poll(cx).is_ready() => {
            Poll::Ready(Waited::Done)
        }
        Poll::Pending => connection.poll_gone(cx).map(|()| Waited::Gone),
    })
    .await
}

fn gone(connection: &mut Connection) -> After {
    connection.note(|outcome| outcome.cut_off(CutOff::ByClient));
    connection.peer.stream.breaks_off();
    After::Close
}

/// Without the beginning of a body behind it.
fn head_of(out: &[u8]) -> &[u8] {
    memchr::memmem::find(out, b"\r\n\r\n").map_or(out, |end| &out[..end + 4])
}

/// Reads a head that the proxy wrote. `None` where it has more fields than a head is read with.
fn with_request<T>(head: &[u8], then: impl FnOnce(&str, Said<'_>) -> T) -> Option<T> {
    let mut room = storage();
    let mut parsed = httparse::Request::new(&mut []);
    let read = parsed.parse_with_uninit_headers(head, &mut room);
    matches!(read, Ok(httparse::Status::Complete(_)))
        .then(|| then(parsed.method.unwrap_or_default(), Said(parsed.headers)))
}

/// Lines that are for the one request that has them: those of a client's own copy, and those that the proxy writes anew.
fn is_of_one_request(name: &str) -> bool {
    const NAMES: [&str; 5] =
        ["if-none-match", "if-modified-since", "range", "if-range", "x-request-timeout-ms"];
    NAMES.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// A head without these, and without its empty line.
fn bare(head: &[u8]) -> Option<Vec<u8>> {
    let mut room = storage();
    let mut parsed = httparse::Request::new(&mut []);
    let Ok(httparse::Status::Complete(len)) = parsed.parse_with_uninit_headers(head, &mut room) else {
        return None;
    };
    let mut drop = Lines::NONE;
    for (line, header) in parsed.headers.iter().enumerate() {
        if is_of_one_request(header.name) {
            drop.add(line);
        }
    }
    let mut out = Vec::with_capacity(head.len() + 128);
    Fields { bytes: &head[..len], headers: parsed.headers }.copy_lines(0, drop, &mut out);
    Some(out)
}

/// Has a request ask whether what is stored is still right.
fn condition(request: &mut Prepared, entry: &Entry, head: &mut Vec<u8>) {
    let Some(mut out) = bare(head) else { return };
    entry.write_conditions(&mut out);
    out.extend_from_slice(b"\r\n");
    if let Some(deadline) = &mut request.deadline {
        deadline.write(&mut out);
    }
    *head = out;
}

/// Sends what is stored.
async fn send(
    connection: &mut Connection,
    request: &Prepared,
    entry: &Entry,
    asked: &Asked,
    told: Told,
    lines: &[u8],
) -> After {
    let part = entry.part(&asked.conditions);
    let mut head = Vec::with_capacity(1024);
    let now = connection.thread.cached().now();
    let range = watt_cache::write_head(entry, part, told, lines, now, &mut head);
    let thread = connection.thread.clone();
    let state = State { request, thread: &thread, uploading: false, closing: connection.is_closing() };
    let read = answer::read(state, &head, &mut connection.response_out);
    let Ok(Some(Answer { status, kind: Kind::Final { body, close, squeezed, .. }, .. })) = read else {
        tracing::error!(service = &*request.service.name, "what is stored cannot be read");
        let message = "What is stored of the response cannot be read.".to_owned();
        let failure = Failure::new(Reason::BadResponse, Some(request.service.name.clone()), message);
        return connection.respond(&failure, request.manner(true)).await;
    };
    connection.note(|outcome| outcome.status = status);
    let body = if body == Body::Done { Bytes::new() } else { entry.body().slice(range) };
    let is_sent = match squeezed {
        Some(coding) => write_squeezed(connection, &body, coding).await,
        None => {
            let together = if body.len() <= TOGETHER_MAX { body.len() } else { 0 };
            connection.response_out.extend_from_slice(&body[..together]);
            write(connection, &body[together..]).await
        }
    };
    match (is_sent, close) {
        (true, true) => After::Close,
        (true, false) => After::Next,
        (false, _) => gone(connection),
    }
}

/// Writes the head that is in `response_out`, and a body that gets smaller on its way, between whose pieces others have their turns. Whether the
/// client took all of it.
async fn write_squeezed(connection: &mut Connection, body: &[u8], coding: Coding) -> bool {
    let Ok(mut encoder) = Encoder::new(coding, &connection.thread) else { return false };
    let mut pieces = body.chunks(PIECE_MAX).peekable();
    let mut sent = 0;
    while let Some(piece) = pieces.next() {
        let is_last = pieces.peek().is_none();
        let out = &mut connection.response_out;
        // Writing to memory does not fail.
        let _ = encoder.write(piece);
        let _ = if is_last { encoder.finish(out) } else { encoder.take(false, out) };
        if is_last || out.len() >= PIECE_MAX {
            connection.alarm.set(PIECE_TIMEOUT);
            sent += out.len() as u64;
            if connection.write_response_out().await.is_err() {
                return false;
            }
            connection.response_out.clear();
            connection.note(|outcome| outcome.sent = sent);
        }
        if !is_last {
            tokio::task::yield_now().await;
        }
    }
    true
}

/// Writes the head that is in `response_out`, and a body. Whether the client took all of it.
async fn write(connection: &mut Connection, body: &[u8]) -> bool {
    connection.alarm.set(PIECE_TIMEOUT);
    if connection.write_response_out().await.is_err() {
        return false;
    }
    let len = connection.response_out.len() as u64;
    connection.note(|outcome| outcome.sent = len);
    for piece in body.chunks(PIECE) {
        connection.alarm.set(PIECE_TIMEOUT);
        if connection.write_to_client(piece).await.is_err() {
            return false;
        }
        connection.note(|outcome| outcome.sent += piece.len() as u64);
    }
    true
}

impl Filling {
    /// A worker's response came; `out` has its head for the client. Returns what the client gets.
    fn hear(&mut self, request: &Prepared, thread: &Thread, head: &[u8], out: &mut Vec<u8>) -> Heard {
        let mut room = storage();
        let Ok(Some(response)) = response::parse(head, &mut room) else { return Heard::Pass };
        if matches!(self.why, Why::Unsafe) && !self.hear_change(thread, out) {
            return Heard::Pass;
        }
        if let Why::Stale(entry) = &self.why {
            let entry = entry.clone();
            if let Some(stored) = self.hear_of(&entry, request, thread, &response) {
                return stored;
            }
        }
        let stored = self.store(thread, &response);
        if stored.is_err()
            && let Some(lead) = self.lead.take()
        {
            lead.was_in_vain(thread.cached().now().ms);
        }
        let told = match self.why {
            _ if self.asked.is_head => Told::Bypassed,
            Why::Missing => Told::Missed(stored),
            Why::OtherVariants => Told::MissedVariant(stored),
            Why::Stale(_) => Told::Replaced(stored),
            Why::Unsafe => Told::Method,
        };
        out.truncate(out.len() - 2);
        told.write(None, out);
        out.extend_from_slice(b"\r\n");
        Heard::Pass
    }

    /// A request may have changed something. Whether its response is one to what may be asked for by GET (RFC 9110 §9.3.3).
    fn hear_change(&mut self, thread: &Thread, out: &[u8]) -> bool {
        let mut room = storage();
        // As the client sees it: what is stored is found by that.
        let Ok(Some(response)) = response::parse(out, &mut room) else { return false };
        let said = Said(response.fields.headers);
        let store = &thread.cached().store;
        let changed = watt_cache::invalidated(&self.caching.uri, response.status, said);
        changed.iter().for_each(|uri| store.invalidate(uri));
        self.generation = store.generation(&self.caching.uri);
        let is_of_itself = said.has("content-location") && changed.iter().all(|uri| *uri == self.caching.uri);
        if !self.caching.stores || response.status != 200 || !is_of_itself || !self.head.starts_with(b"POST ")
        {
            return false;
        }
        let asked = with_request(&self.head, |method, fields| asked(&self.caching, method, fields));
        self.asked = asked.unwrap_or_default();
        true
    }

    /// A response to a request for which something is stored. What is stored, where that is the answer.
    fn hear_of(
        &mut self,
        entry: &Arc<Entry>,
        request: &Prepared,
        thread: &Thread,
        response: &response::Response<'_, '_>,
    ) -> Option<Heard> {
        let cached = thread.cached();
        let now = cached.now();
        let said = Said(response.fields.headers);
        if response.status == 304 && entry.can_be_validated() {
            request.service.tally.count_cached(|counts| counts.validated += 1);
            // Cookies are for the one who asked, unless they are stored.
            let cookies = match self.caching.rules.settings.cookies {
                Cookies::Keep => Lines::NONE,
                Cookies::Refuse | Cookies::Strip => response.set_cookie,
            };
            let line = |line| [b"Set-Cookie: ", response.fields.value(line), b"\r\n"].concat();
            let lines = cookies.iter().flat_map(line).collect();
            let entry = self.freshen(entry, thread, response);
            self.lead = None;
            return Some(Heard::Stored { entry, told: Told::Validated, lines });
        }
        if response.status >= 500 {
            let covers = entry.facts().may_cover_errors(&self.asked.directives, now);
            return covers.then(|| {
                request.service.tally.count_cached(|counts| counts.stale += 1);
                Heard::Stored {
                    entry: entry.clone(),
                    told: Told::Covered(response.status),
                    lines: Vec::new(),
                }
            });
        }
        if !self.asked.is_head || entry.is_contradicted_by(said) {
            cached.store.remove(entry);
        }
        None
    }

    /// What is stored, with what a 304 says of it.
    fn freshen(
        &self,
        entry: &Arc<Entry>,
        thread: &Thread,
        response: &response::Response<'_, '_>,
    ) -> Arc<Entry> {
        let cached = thread.cached();
        let now = cached.now();
        let waited_ms = now.ms.saturating_sub(self.started_ms);
        let Rules { settings, naming, .. } = &*self.caching.rules;
        let (news, dropped) = (Said(response.fields.headers), response.hop_by_hop);
        let freshened = with_request(&self.head, |_, asked| {
            entry.freshened(
                &self.asked,
                news,
                |line| dropped.has(line),
                (settings, naming),
                asked,
                (waited_ms, now),
            )
        });
        cached.store.remove(entry);
        let Some((making, kept)) = freshened else { return entry.clone() };
        let size = making.size(entry.body().len(), &self.caching.uri);
        let Some(mut reserved) = cached.store.reserve(size) else { return entry.clone() };
        if !reserved.settle(size) {
            return entry.clone();
        }
        let fresh =
            making.with_body(entry.body().clone(), entry.uri().clone(), entry.place().clone(), reserved);
        let fresh = Arc::new(fresh);
        if kept.is_ok() {
            cached.store.put(fresh.clone(), self.generation);
        }
        fresh
    }

    /// Begins to store a response, if it may be.
    fn store(&mut self, thread: &Thread, response: &response::Response<'_, '_>) -> Result<(), Unstorable> {
        let Rules { settings, naming, entry_max, .. } = &*self.caching.rules;
        let cached = thread.cached();
        let now = cached.now();
        let said = Said(response.fields.headers);
        if self.asked.is_head || said.0.len() > FIELDS_MAX || response.fields.bytes.len() > HEAD_MAX {
            return Err(Unstorable::TooLarge);
        }
        let waited_ms = now.ms.saturating_sub(self.started_ms);
        let judged = watt_cache::judge(&self.asked, response.status, said, settings, waited_ms, now)?;
        // What was sent to be acted upon is stored by the service's own word alone.
        if matches!(self.why, Why::Unsafe) && !judged.is_explicit {
            return Err(Unstorable::Useless);
        }
        let is_too_large = matches!(response.framing, Framing::Length(length) if length > *entry_max as u64);
        if is_too_large && !response.is_bodiless() {
            return Err(Unstorable::TooLarge);
        }
        if response.framing == Framing::Unspecified && !response.is_bodiless() {
            return Err(Unstorable::Unframed);
        }
        let line_end = memchr::memchr(b'\r', response.fields.bytes).unwrap_or(0);
        let status_line = [b"HTTP/1.1", response.fields.bytes.get(8..line_end).unwrap_or_default()].concat();
        let dropped = response.hop_by_hop;
        let making = with_request(&self.head, |_, asked| {
            Making::new(&status_line, said, |line| dropped.has(line), judged, asked, naming)
        });
        self.storing = Some(making.ok_or(Unstorable::TooLarge)?);
        Ok(())
    }

    /// What is to be kept of the body that follows, if anything is.
    pub(super) fn tap(&mut self, thread: &Thread, body: Body) -> Option<Box<Tap>> {
        let making = self.storing.as_ref()?;
        let reserved = thread.cached().store.reserve(making.size(0, &self.caching.uri));
        let Some(reserved) = reserved else {
            self.storing = None;
            self.lead = None;
            return None;
        };
        let length = match body {
            Body::Length(length) => usize::try_from(length).unwrap_or(usize::MAX),
            Body::Done | Body::Chunked(_) | Body::UntilClose => usize::MAX,
        };
        Some(Box::new(Tap::new(length.min(self.caching.rules.entry_max), reserved)))
    }

    /// The body has passed by as a whole.
    pub(super) fn finish(&mut self, request: &Prepared, thread: &Thread, tap: Tap) {
        let (Some(making), Some((body, mut reserved))) = (self.storing.take(), tap.finish()) else { return };
        let size = making.size(body.len(), &self.caching.uri);
        // Without what there was room for and did not come.
        let body = Bytes::from(body.into_boxed_slice());
        if !reserved.settle(size) {
            return;
        }
        let uri = Arc::from(&self.caching.uri[..]);
        let entry = making.with_body(body, uri, self.caching.place.clone(), reserved);
        if thread.cached().store.put(Arc::new(entry), self.generation) {
            request.service.tally.count_cached(|counts| counts.stored += 1);
        }
        // Whoever waits may look now.
        self.lead = None;
    }
}

impl Exchange<'_> {
    /// A final response came whose head is at the start of the worker's input. What the client gets in its place, if that is stored.
    pub(super) fn hear(&mut self, head: &[u8]) -> Heard {
        match &mut self.filling {
            Some(filling) => {
                filling.hear(&self.request, self.thread, head, &mut self.connection.response_out)
            }
            None => Heard::Pass,
        }
    }

    /// Sends what is stored in place of the worker's answer.
    pub(super) async fn pass_stored(
        &mut self,
        worker: &mut Peer,
        answer: Answer,
        (entry, told, lines): (Arc<Entry>, Told, Vec<u8>),
    ) -> Result<Ended, Stop> {
        let Kind::Final { body, reuse, .. } = answer.kind else { return Err(Stop::Abort) };
        self.answered(answer);
        self.answered_with(entry.facts().status);
        self.came_to(Outcome::Status(answer.verdict));
        self.progress.set(Progress::Begun);
        let asked = self.filling.as_ref().map(|filling| filling.asked.clone()).unwrap_or_default();
        // What is left of the other answer nobody reads.
        let reuse = reuse && body == Body::Done && worker.input.is_empty();
        let after = send(self.connection, &self.request, &entry, &asked, told, &lines).await;
        Ok(Ended { after, reuse })
    }

    /// Sends what is stored where no worker answers, if it may be.
    pub(super) async fn cover(&mut self, failure: &Failure) -> Option<After> {
        let filling = self.filling.as_ref()?;
        let Why::Stale(entry) = &filling.why else { return None };
        let is_ours = matches!(failure.reason, Reason::Refused(_) | Reason::UnknownService);
        let now = self.thread.cached().now();
        if is_ours || !entry.facts().may_cover_errors(&filling.asked.directives, now) {
            return None;
        }
        let (entry, asked) = (entry.clone(), filling.asked.clone());
        self.failed(failure);
        self.answered_with(entry.facts().status);
        self.request.service.tally.count_cached(|counts| counts.stale += 1);
        Some(send(self.connection, &self.request, &entry, &asked, Told::Unreachable, &[]).await)
    }
}

/// Gets another response in place of a stale one, beside the request that was answered by that.
fn refresh(
    connection: &Connection,
    request: &Prepared,
    rules: Rc<Rules>,
    is_for_one: bool,
    entry: &Arc<Entry>,
) {
    let turn = Refreshing::take(&connection.thread, entry);
    let head = bare(&connection.request_out).filter(|head| head.starts_with(b"GET "));
    let (Some(turn), Some(mut head)) = (turn, head) else { return };
    head.extend_from_slice(b"\r\n");
    let caching = Caching {
        rules,
        uri: entry.uri().to_vec(),
        place: entry.place().clone(),
        is_believed: false,
        is_for_one,
        stores: true,
        is_refresh: true,
    };
    let request = Prepared {
        service: request.service.clone(),
        route: request.route.clone(),
        head_len: 0,
        body: Body::Done,
        method: Method::Idempotent,
        may_repeat: request.may_repeat,
        deadline: None,
        wish: Wish::default(),
        urgency: request.urgency,
        http10: false,
        keep_alive: true,
        upgrade: false,
        websocket: false,
        expect: false,
        format: request.format,
        returning: None,
        delay: None,
        mirror: None,
        body_max: None,
        compress: None,
        cache: Some(Box::new(caching)),
    };
    tokio::task::spawn_local(refreshing(
        connection.thread.clone(),
        connection.client.clone(),
        head,
        request,
        turn,
    ));
}

/// In a box, since a request may lead to one of these, which is a request again.
fn refreshing(
    thread: Rc<Thread>,
    client: Client,
    head: Vec<u8>,
    request: Prepared,
    turn: Refreshing,
) -> Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(async move {
        let _turn = turn;
        let (pipe, far) = pipe();
        let mut connection = Connection::new(thread, client, Stream::Pipe(pipe));
        connection.request_out = head;
        let mut asking = pin!(exchange::run(&mut connection, request));
        poll_fn(|cx| {
            let asked = asking.as_mut().poll(cx);
            while let Poll::Ready(Ok(true)) = far.poll_more(0, cx) {
                far.skip(far.look(<[u8]>::len));
            }
            asked.map(|_| ())
        })
        .await;
    })
}

/// A response that is being got in place of a stale one.
struct Refreshing {
    thread: Rc<Thread>,
    entry: Arc<Entry>,
}

impl Refreshing {
    /// `None` when too many are; then the next request for it tries.
    fn take(thread: &Rc<Thread>, entry: &Arc<Entry>) -> Option<Refreshing> {
        let refreshes = thread.refreshes.get();
        if refreshes >= REFRESHES_MAX || thread.is_closing() {
            entry.end_refresh();
            return None;
        }
        thread.refreshes.set(refreshes + 1);
        Some(Refreshing { thread: thread.clone(), entry: entry.clone() })
    }
}

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.thread.refreshes.set(self.thread.refreshes.get() - 1);
        self.entry.end_refresh();
    }
}
