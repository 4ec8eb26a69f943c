//! Copies of requests: another service gets them, and nobody its answers.
//!
//! They are made beside the request, which neither waits for them nor learns of them, and of what is at hand of it anyway: its head and a
//! body of up to 64 KB. A service that is slow with them has a few at a time, and misses the others.

use std::{future::poll_fn, io, rc::Rc, time::Duration};

use super::body::Peer;
use crate::{
    dispatch::{Dispatch, Reached},
    table::Service,
    thread::Thread,
};

/// The most copies that a thread has under way.
const COPIES_MAX: usize = 64;

/// How long one may take.
const COPY_TIME_MAX: Duration = Duration::from_secs(30);

/// What a copy has besides: whoever gets it may want to know, and its connection ends with the answer, so that the end of that need not be
/// looked for.
const LINES: &[u8] = b"X-Mirrored: 1\r\nConnection: close\r\n";

/// Sends a copy of a request, as its service got it, to another one. Without any when it is not all there, or when too many are under way.
pub(super) fn send(thread: &Rc<Thread>, to: Rc<Service>, request: Option<&[u8]>) {
    let copy = request.and_then(copy).filter(|_| !thread.is_closing());
    let (Some(copy), Some(place)) = (copy, Place::take(thread)) else {
        tracing::debug!(service = &*to.name, "a request was not copied");
        return to.tally.count_failure();
    };
    tokio::task::spawn_local(async move {
        let sent = tokio::time::timeout(COPY_TIME_MAX, exchange(&place.0, &to, &copy)).await;
        if !matches!(sent, Ok(Some(status)) if !status.starts_with(b"5")) {
            to.tally.count_failure();
        }
    });
}

fn copy(request: &[u8]) -> Option<Vec<u8>> {
    let end = memchr::memmem::find(request, b"\r\n\r\n")? + 2;
    Some([&request[..end], LINES, &request[end..]].concat())
}

/// The status of the answer, in digits, once all of it was read.
async fn exchange(thread: &Rc<Thread>, to: &Rc<Service>, request: &[u8]) -> Option<Vec<u8>> {
    let mut dispatch = Dispatch::new(thread, to.clone());
    // A kept connection may have ended, and nothing is sent twice here.
    let Reached { stream, flight, .. } = dispatch.connection(true).await.ok()?;
    to.tally.count_request();
    let mut worker = Peer::new(stream);
    let answered = pass(thread, &mut worker, request).await;
    worker.input.consume(worker.input.bytes().len());
    worker.input.release(&thread.stock);
    drop(flight);
    answered.ok().flatten()
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
