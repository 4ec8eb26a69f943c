//! Copies of requests: another service gets them, and nobody its answers.
//!
//! They are made beside the request, which neither waits for them nor learns of them, and of what is at hand of it anyway: its head and a
//! body of up to 64 KB. A service that is slow with them has a few at a time, and misses the others. What it asks of other requests it asks
//! of them as well: its guard was asked when the request was prepared, and at its gate a copy waits for nobody.

use std::{future::poll_fn, io, rc::Rc, time::Duration};

use super::{
    body::Peer,
    chunked::{Chunked, Piece},
};
use crate::{
    breaker::Change,
    dispatch::{Dispatch, Reached},
    failures::Outcome,
    gate::{Entry, Refused, Ticket},
    table::Service,
    thread::Thread,
    troubles,
};

/// No request is less urgent (RFC 9218 §4.1).
const LEAST_URGENT: u8 = 7;

/// Who gets a copy.
pub(crate) struct Mirror {
    pub(crate) to: Rc<Service>,
    /// The largest body that it may have.
    pub(crate) body_max: Option<u64>,
}

/// The most copies that a thread has under way.
const COPIES_MAX: usize = 64;

/// How long one may take.
const COPY_TIME_MAX: Duration = Duration::from_secs(30);

/// What a copy has besides: whoever gets it may want to know, and its connection ends with the answer, so that the end of that need not be
/// looked for.
const LINES: &[u8] = b"X-Mirrored: 1\r\nConnection: close\r\n";

/// Sends a copy of a request, as its service got it, to another one. Without any when it is not all there, or when too many are under way.
/// `is_chunked`: how its body is framed.
pub(super) fn send(thread: &Rc<Thread>, mirror: Mirror, request: Option<&[u8]>, is_chunked: bool) {
    let Mirror { to, body_max } = mirror;
    let fits = |copy: &Copied| !is_chunked || body_max.is_none_or(|max| data_len(copy.body()) <= max);
    let copy = request.and_then(Copied::of).filter(fits).filter(|_| !thread.is_closing());
    let (Some(copy), Some(place)) = (copy, Place::take(thread)) else {
        tracing::debug!(service = &*to.name, "a request was not copied");
        return to.tally.count_failure();
    };
    let ticket = match enter(&to) {
        Ok(ticket) => ticket,
        Err(refused) => return tracing::debug!(service = &*to.name, why = refused.words(), "not copied"),
    };
    tokio::task::spawn_local(async move {
        let sent = tokio::time::timeout(COPY_TIME_MAX, exchange(&place.0, &to, &copy.0)).await;
        let outcome = sent.unwrap_or(Some(Outcome::Timeout));
        if !matches!(outcome, Some(Outcome::Status(..500))) {
            to.tally.count_failure();
        }
        if let (Some(mut ticket), Some(outcome)) = (ticket, outcome)
            && let Some(change) = ticket.tell(outcome)
        {
            if matches!(change, Change::Opened { .. }) {
                to.tally.breaker_opened.set(to.tally.breaker_opened.get() + 1);
            }
            place.0.tell(troubles::breaker(&to.name, change));
        }
    });
}

/// Gets through the service's gate, if there is one. A copy does not wait there.
fn enter(to: &Service) -> Result<Option<Ticket>, Refused> {
    let Some(gate) = &to.gate else { return Ok(None) };
    let refused = match gate.enter(LEAST_URGENT) {
        Ok(Entry::Passes(ticket)) => return Ok(Some(ticket)),
        Ok(Entry::Waits(_)) => Refused::Full,
        Err(refused) => refused,
    };
    let count = &to.tally.refused[refused.number()];
    count.set(count.get() + 1);
    gate.refused(refused);
    Err(refused)
}

/// A request's bytes, with what a copy has besides.
struct Copied(Vec<u8>, usize);

impl Copied {
    fn of(request: &[u8]) -> Option<Copied> {
        let end = memchr::memmem::find(request, b"\r\n\r\n")? + 2;
        Some(Copied([&request[..end], LINES, &request[end..]].concat(), end + LINES.len() + 2))
    }

    fn body(&self) -> &[u8] {
        &self.0[self.1..]
    }
}

/// How much data is in a chunked body that is there as a whole.
fn data_len(mut body: &[u8]) -> u64 {
    let (mut chunked, mut data) = (Chunked::new(), 0);
    loop {
        let len = match chunked.next(body) {
            Ok(Piece::Framing(len)) => len,
            Ok(Piece::Data(len)) => {
                data += len as u64;
                len
            }
            Ok(Piece::More) | Err(_) => return data,
        };
        body = &body[len..];
    }
}

/// What it came to, once all of the answer was read. `None` when that says nothing of the service.
async fn exchange(thread: &Rc<Thread>, to: &Rc<Service>, request: &[u8]) -> Option<Outcome> {
    let mut dispatch = Dispatch::new(thread, to.clone());
    // A kept connection may have ended, and nothing is sent twice here.
    let Ok(Reached { stream, flight, .. }) = dispatch.connection(true).await else {
        return (!dispatch.is_ours).then_some(Outcome::Connect);
    };
    to.tally.count_request();
    let mut worker = Peer::new(stream);
    let answered = pass(thread, &mut worker, request).await;
    worker.input.consume(worker.input.bytes().len());
    worker.input.release(&thread.stock);
    drop(flight);
    let status = answered.ok().flatten().and_then(|digits| std::str::from_utf8(&digits).ok()?.parse().ok());
    Some(status.map_or(Outcome::Reset, Outcome::Status))
}

async fn pass(thread: &Rc<Thread>, worker: &mut Peer, request: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut written = 0;
    poll_fn(|cx| worker.poll_write_all(request, &mut written, cx)).await?;
    let mut beginning = Vec::new();
    while poll_fn(|cx| worker.poll_read(&thread.stock, cx)).await? > 0 {
        let bytes = worker.input.bytes();
        beginning.extend(bytes.iter().copied().take(STATUS_END - beginning.len()));
        worker.input.consume(bytes.len());
    }
    Ok(beginning.get(STATUS_START..STATUS_END).map(<[u8]>::to_vec))
}

/// `HTTP/1.1 200`: where the digits begin and end.
const STATUS_START: usize = 9;
const STATUS_END: usize = 12;

/// A place among the copies of a thread.
struct Place(Rc<Thread>);

impl Place {
    fn take(thread: &Rc<Thread>) -> Option<Place> {
        let copies = thread.copies.get();
        (copies < COPIES_MAX).then(|| {
            thread.copies.set(copies + 1);
            Place(thread.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.copies.set(self.0.copies.get() - 1);
    }
}
