//! Connections to a worker that speaks HTTP/2: one for all its requests, and another one when that has as many as it may, or
//! one of them that has to wait.

use std::{
    cell::{Cell, RefCell},
    io,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use tokio::sync::Notify;
use watt_api::mesh::Protocol;

use super::{
    CONNECTION_WINDOW, HEADER_LIST_MAX, SEND_BUFFER_MAX, SMALL_PIECES_OF_WORKER_MAX, STREAM_WINDOW, request,
};
use crate::{
    http::{Stream, pipe},
    pool::{self, ConnectError},
    thread::Thread,
    timer::{Clock, Ticks},
    worker::Worker,
};

/// A connection without a request is closed after this long.
const IDLE_MAX: Ticks = Ticks::from_ms(60_000);

/// How many streams a worker is thought to allow before it says so.
const STREAMS_FIRST: usize = 100;

/// One worker's, of one thread.
#[derive(Default)]
pub(crate) struct Links {
    open: RefCell<Vec<Rc<Link>>>,
    /// Somebody is making one, for whom others wait.
    connecting: Cell<bool>,
    connected: Notify,
}

/// A connection. Streams that are open keep it when nobody else does; then it ends with the last one.
pub(super) struct Link {
    worker: RefCell<SendRequest<Bytes>>,
    streams: Cell<usize>,
    /// So many of them have more to send than they may. What the worker does not read of one may use up the window of the connection, and
    /// then others would wait for it as well.
    stalled: Cell<usize>,
    /// It was of use before.
    has_answered: Cell<bool>,
    /// Somebody waited there for a window in vain.
    is_stuck: Cell<bool>,
    idle_since: Cell<Ticks>,
    pub(super) clock: Rc<Clock>,
}

/// A stream of it that may send nothing now, counted as long as this lives.
pub(super) struct Stalled(Rc<Link>);

impl Drop for Stalled {
    fn drop(&mut self) {
        self.0.stalled.set(self.0.stalled.get() - 1);
    }
}

/// A stream of it, counted as long as this lives.
struct Open(Rc<Link>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get() - 1);
        self.0.idle_since.set(self.0.clock.now());
    }
}

/// A stream to a worker.
pub(crate) struct Linked {
    pub(crate) stream: Stream,
    /// Its connection answered requests before, and had none when this one came.
    pub(crate) reused: bool,
}

impl Links {
    /// Lets go of all. Requests that are under way stay.
    pub(crate) fn retire(&self) {
        self.open.borrow_mut().clear();
    }

    /// Lets go of those that were not needed for long, or are broken. How many are left.
    pub(crate) fn sweep(&self, now: Ticks) -> usize {
        let mut open = self.open.borrow_mut();
        let is_old = |link: &Link| link.streams.get() == 0 && now.since(link.idle_since.get()) > IDLE_MAX;
        open.retain(|link| !is_old(link) && link.is_open());
        open.len()
    }

    fn take(&self) -> Option<Linked> {
        let mut open = self.open.borrow_mut();
        open.retain(|link| link.is_open());
        let link = open.iter().find(|link| link.has_room())?;
        let reused = link.has_answered.get() && link.streams.get() == 0;
        Some(Linked { stream: link.begin(), reused })
    }
}

/// A stream to this worker, on a connection that is there or on a new one. All of it takes no longer than `timeout`.
pub(crate) async fn open(
    thread: &Rc<Thread>,
    worker: &Worker,
    patient: bool,
    timeout: Duration,
) -> Result<Linked, ConnectError> {
    if let Some(linked) = worker.links.take() {
        return Ok(linked);
    }
    let limit = if timeout.is_zero() { Duration::MAX } else { timeout };
    let linked = tokio::time::timeout(limit, linked(worker, &thread.clock, patient, timeout));
    let linked = linked.await.unwrap_or(Err(ConnectError::Timeout))?;
    pool::begin_to_sweep(thread);
    Ok(linked)
}

async fn linked(
    worker: &Worker,
    clock: &Rc<Clock>,
    patient: bool,
    timeout: Duration,
) -> Result<Linked, ConnectError> {
    let links = &worker.links;
    loop {
        if let Some(linked) = links.take() {
            return Ok(linked);
        }
        // Many requests at once need one connection, not one each.
        if !links.connecting.replace(true) {
            break;
        }
        links.connected.notified().await;
    }
    let _connecting = Connecting(links);
    let socket = pool::connect(worker, None, patient, Protocol::H2c, timeout).await?;
    let link =
        Link::new(socket, clock).await.map_err(|error| ConnectError::Refused(io::Error::other(error)))?;
    let stream = link.begin();
    if worker.is_ready() {
        links.open.borrow_mut().push(link);
    }
    Ok(Linked { stream, reused: false })
}

/// Others wait as long as this lives.
struct Connecting<'l>(&'l Links);

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.connected.notify_waiters();
    }
}

impl Link {
    async fn new(socket: Stream, clock: &Rc<Clock>) -> Result<Rc<Link>, h2::Error> {
        let mut builder = Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .initial_max_send_streams(STREAMS_FIRST)
            .max_header_list_size(HEADER_LIST_MAX)
            .max_send_buffer_size(SEND_BUFFER_MAX)
            .data_frame_budget(SMALL_PIECES_OF_WORKER_MAX)
            .enable_push(false);
        let (worker, connection) = builder.handshake(socket).await?;
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a worker broke");
            }
        });
        Ok(Rc::new(Link {
            worker: RefCell::new(worker),
            streams: Cell::new(0),
            stalled: Cell::new(0),
            is_stuck: Cell::new(false),
            has_answered: Cell::new(false),
            idle_since: Cell::new(clock.now()),
            clock: Rc::clone(clock),
        }))
    }

    /// A request of it was answered.
    pub(super) fn answered(&self) {
        self.has_answered.set(true);
    }

    /// A stream of it may send nothing now.
    pub(super) fn stall(self: &Rc<Self>) -> Stalled {
        self.stalled.set(self.stalled.get() + 1);
        Stalled(Rc::clone(self))
    }

    /// A stream waited in vain until it might send more. The next requests go elsewhere.
    pub(super) fn got_stuck(&self) {
        self.is_stuck.set(true);
    }

    /// Whether the worker takes new streams there: it is connected, reads, and did not say GOAWAY.
    fn is_open(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !self.is_stuck.get() && !matches!(self.worker.borrow_mut().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }

    fn has_room(&self) -> bool {
        self.stalled.get() == 0 && self.streams.get() < self.worker.borrow().current_max_send_streams()
    }

    /// A stream for one request.
    fn begin(self: &Rc<Self>) -> Stream {
        self.streams.set(self.streams.get() + 1);
        let open = Open(Rc::clone(self));
        let (near, far) = pipe();
        let worker = self.worker.borrow().clone();
        tokio::task::spawn_local(async move {
            request::serve(worker, far, &open.0).await;
        });
        Stream::Pipe(near)
    }
}
