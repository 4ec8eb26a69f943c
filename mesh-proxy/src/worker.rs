//! A worker as one thread sees it: where it accepts, what is on its way there, and the connections that are ready.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::sync::Notify;
use watt_api::mesh::{CacheCounts, Denied, Endpoint, Server, Upstream, WorkerState};

use crate::{
    edges::Edges, ejection::Standing, gate::REASONS, guards, http::Stream, http2::links::Links,
    latency::Latency, meter::Meter, names::Name, respond::Reason, thread::Report, timer::Ticks,
    tls::Connector,
};

/// A service's counts on one thread, since the proxy started.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) requests: Cell<u64>,
    pub(crate) failures: Cell<u64>,
    pub(crate) in_flight: Cell<u64>,
    /// Those that wait for a worker, and for their turn at the gate.
    pub(crate) held: Cell<usize>,
    queued: Cell<usize>,
    pub(crate) retries: Cell<u64>,
    pub(crate) retries_denied: Cell<u64>,
    pub(crate) timed_out: Cell<u64>,
    pub(crate) denied: Cell<Denied>,
    /// Requests that were refused at its gate, by [`crate::gate::Refused::number`].
    pub(crate) refused: [Cell<u64>; REASONS],
    pub(crate) breaker_opened: Cell<u64>,
    /// How often a worker was put out.
    pub(crate) ejections: Cell<u64>,
    pub(crate) cache: Cell<CacheCounts>,
    resends: Budget,
    pub(crate) meter: Meter,
    pub(crate) edges: Edges,
}

impl Tally {
    pub(crate) fn count_request(&self) {
        self.requests.set(self.requests.get() + 1);
        self.resends.earn(1);
    }

    /// Whether a request may be sent again now. It is counted once it is, since its client may leave before.
    pub(crate) fn may_resend(&self, now: Ticks) -> bool {
        let may = self.resends.take(now);
        if !may {
            self.retries_denied.set(self.retries_denied.get() + 1);
        }
        may
    }

    pub(crate) fn count_retry(&self) {
        self.retries.set(self.retries.get() + 1);
    }

    pub(crate) fn count_timed_out(&self) {
        self.timed_out.set(self.timed_out.get() + 1);
    }

    /// One that did not pass, for this reason.
    pub(crate) fn count_denied(&self, reason: Reason) {
        let mut denied = self.denied.get();
        guards::add(&mut denied, reason);
        self.denied.set(denied);
    }

    /// What the cache was for a request.
    pub(crate) fn count_cached(&self, count: impl FnOnce(&mut CacheCounts)) {
        let mut counts = self.cache.get();
        count(&mut counts);
        self.cache.set(counts);
    }

    pub(crate) fn count_failure(&self) {
        self.failures.set(self.failures.get() + 1);
    }

    /// All that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.held.get() + self.queued.get()
    }

    /// One more request in flight, or one less.
    fn set_in_flight(&self, in_flight: u64) {
        self.meter.add_up(self.in_flight.get(), self.waiting());
        self.in_flight.set(in_flight);
    }

    /// One more request that waits for a worker, or one less.
    pub(crate) fn set_held(&self, held: usize) {
        self.meter.add_up(self.in_flight.get(), self.waiting());
        self.held.set(held);
    }

    fn set_queued(&self, queued: usize) {
        self.meter.add_up(self.in_flight.get(), self.waiting());
        self.queued.set(queued);
    }
}

/// A request that waits for its turn, counted as long as this lives. Not one of those that wait for a worker, of which there are only
/// so many.
pub(crate) struct Queued(Rc<Tally>);

impl Queued {
    pub(crate) fn new(tally: &Rc<Tally>) -> Queued {
        tally.set_queued(tally.queued.get() + 1);
        Queued(tally.clone())
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.0.set_queued(self.0.queued.get() - 1);
    }
}

/// How many requests may be sent again that a worker was lost with: a fifth of all, and ten each second, so that a service
/// in trouble does not get a multiple of its load. Counted in fifths of a request; starts full.
#[derive(Debug)]
pub(crate) struct Budget {
    fifths: Cell<u64>,
    since: Cell<Ticks>,
}

/// What one more costs, what each second brings, and what may be saved up: a worker that is killed under load takes
/// all requests with it that it had, at once.
const RESEND_FIFTHS: u64 = 5;
const FIFTHS_PER_SECOND: u64 = 10 * RESEND_FIFTHS;
const FIFTHS_MAX: u64 = 1_000 * RESEND_FIFTHS;

impl Default for Budget {
    fn default() -> Self {
        Budget { fifths: Cell::new(FIFTHS_MAX), since: Cell::new(Ticks::START) }
    }
}

impl Budget {
    fn earn(&self, fifths: u64) {
        self.fifths.set(self.fifths.get().saturating_add(fifths).min(FIFTHS_MAX));
    }

    /// Takes one, if there is one.
    fn take(&self, now: Ticks) -> bool {
        let ms = now.since(self.since.replace(now)).as_ms();
        self.earn(ms.saturating_mul(FIFTHS_PER_SECOND) / 1_000);
        let left = self.fifths.get().checked_sub(RESEND_FIFTHS);
        self.fifths.set(left.unwrap_or(self.fifths.get()));
        left.is_some()
    }
}

/// A connection on which the last exchange ended well.
pub(crate) struct Idle {
    pub(crate) stream: Stream,
    pub(crate) since: Ticks,
}

/// Where a worker is reached.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Of(Endpoint),
    /// A server outside that is known by its name.
    Named {
        name: Rc<Name>,
        port: u16,
    },
}

/// One run's worker, or a server outside, which has a number that no run has.
pub(crate) struct Worker {
    pub(crate) run: u64,
    pub(crate) place: RefCell<Option<Rc<Place>>>,
    /// How TLS is spoken with it, if it is.
    pub(crate) connector: RefCell<Option<Rc<Connector>>>,
    pub(crate) state: Cell<WorkerState>,
    /// Counts from 0 within the service; a successor has its predecessor's.
    pub(crate) index: Cell<u16>,
    pub(crate) in_flight: Cell<u64>,
    /// How long its answers take, where that decides who is asked.
    pub(crate) latency: Latency,
    /// What all threads know of its failures, from the first table on that has it.
    pub(crate) standing: OnceCell<Arc<Standing>>,
    /// The one used last is at the end and is taken first: it is the least likely to have been closed.
    pub(crate) idle: RefCell<Vec<Idle>>,
    /// Its connections of HTTP/2.
    pub(crate) links: Links,
    /// Unconnected sockets of the worker's network namespace.
    pub(crate) sockets: RefCell<Vec<OwnedFd>>,
    /// Wakes those who wait for such a socket.
    pub(crate) sockets_came: Notify,
    pub(crate) sockets_wanted: Cell<bool>,
    /// How often in a row it refused connections, and until when it is passed over for that.
    refusals: Cell<u32>,
    passed_over_until: Cell<Ticks>,
    drained_said: Cell<bool>,
    /// Its WebSockets are to end, and what wakes them for that.
    ends_tunnels: Cell<bool>,
    pub(crate) tunnels_end: Notify,
    /// It was heard when that will be.
    end_is_known: Cell<bool>,
    /// Since when it is ready, and until when it has less than its share of requests.
    ready_at: Cell<Ticks>,
    warm_at: Cell<Ticks>,
    report: Rc<dyn Fn(Report)>,
}

/// How long before the end of a drain WebSockets are told to end: a second, and as much again as the ticks of both sides may be late.
const CLOSE_BEFORE: Duration = Duration::from_millis(1500);

/// The part of its share of requests that a worker begins with.
const SHARE_MIN: f32 = 0.1;

/// A worker is passed over for this long after it refused a connection; doubled each time in a row.
const PASS_OVER_FIRST_MS: u64 = 100;

/// The number of doublings: 6.4 s at most.
const PASS_OVER_DOUBLINGS: u32 = 6;

impl Worker {
    pub(crate) fn new(run: u64, report: Rc<dyn Fn(Report)>) -> Worker {
        Worker {
            run,
            place: RefCell::new(None),
            connector: RefCell::default(),
            state: Cell::new(WorkerState::Starting),
            index: Cell::new(0),
            in_flight: Cell::new(0),
            latency: Latency::default(),
            standing: OnceCell::new(),
            idle: RefCell::default(),
            links: Links::default(),
            sockets: RefCell::default(),
            sockets_came: Notify::new(),
            sockets_wanted: Cell::new(false),
            refusals: Cell::new(0),
            passed_over_until: Cell::new(Ticks::START),
            drained_said: Cell::new(false),
            ends_tunnels: Cell::new(false),
            tunnels_end: Notify::new(),
            end_is_known: Cell::new(false),
            ready_at: Cell::new(Ticks::START),
            warm_at: Cell::new(Ticks::START),
            report,
        }
    }

    /// Takes in what the newest snapshot says.
    pub(crate) fn update(&self, worker: &watt_api::mesh::Worker) {
        self.moves(worker.endpoint.clone().map(Place::Of));
        self.state.set(worker.state);
        self.index.set(worker.index);
        if worker.state == WorkerState::Draining {
            self.forget_kept();
            self.say_if_drained();
        }
    }

    /// Is a server outside, which is always there.
    pub(crate) fn serve_at(&self, upstream: &Upstream) {
        let Upstream { server, host: _, tls } = upstream;
        let is_same = self.connector.borrow().as_deref().map(Connector::of) == tls.as_ref();
        if !is_same {
            self.connector.replace(tls.clone().map(|tls| Rc::new(Connector::new(tls))));
            self.forget_kept();
        }
        let place = match server {
            Server::Unix { path } => Place::Of(Endpoint::Unix { path: path.clone() }),
            Server::Tcp { name, port } => match name.parse() {
                Ok(ip) => Place::Of(Endpoint::Tcp { address: SocketAddr::new(ip, *port) }),
                Err(_) => Place::Named { name: Name::new(name), port: *port },
            },
        };
        self.moves(Some(place));
        self.state.set(WorkerState::Ready);
    }

    fn moves(&self, to: Option<Place>) {
        let mut place = self.place.borrow_mut();
        if place.as_deref() != to.as_ref() {
            *place = to.map(Rc::new);
            self.forget_kept();
            self.reached();
        }
    }

    /// Uses no connection again that is there. Requests that are under way stay.
    pub(crate) fn forget_kept(&self) {
        self.idle.borrow_mut().clear();
        self.links.retire();
    }

    /// Its drain ends when this much time has passed. A good second before, or for a shorter drain at half of it, its WebSockets are told to
    /// end, which leaves them that time for it.
    pub(crate) fn drains_for(self: &Rc<Self>, left: Duration) {
        let wait = left - (left / 2).min(CLOSE_BEFORE);
        if wait.is_zero() {
            return self.end_tunnels();
        }
        // Each snapshot says it again, with less time left.
        if !self.end_is_known.replace(true) {
            let worker = Rc::clone(self);
            tokio::task::spawn_local(async move {
                tokio::time::sleep(wait).await;
                worker.end_tunnels();
            });
        }
    }

    fn end_tunnels(&self) {
        self.ends_tunnels.set(true);
        self.tunnels_end.notify_waiters();
    }

    pub(crate) fn ends_tunnels(&self) -> bool {
        self.ends_tunnels.get()
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.state.get() == WorkerState::Draining
    }

    /// Begins, or goes on, with less than its share of requests, for so long from when it got ready. `was_ready`: before this snapshot.
    pub(crate) fn warm_up(&self, was_ready: bool, now: Ticks, time: Ticks) {
        if !was_ready {
            self.ready_at.set(now);
        }
        self.warm_at.set(self.ready_at.get().plus(time));
    }

    /// Which part of its share it is to have, while that is not all of it.
    pub(crate) fn share(&self, now: Ticks) -> Option<f32> {
        let (from, to) = (self.ready_at.get(), self.warm_at.get());
        let part = || now.since(from).as_ms() as f32 / to.since(from).as_ms() as f32;
        (now < to).then(|| part().max(SHARE_MIN))
    }

    /// Whether one that warms up leaves to another what is its turn. Drawn anew each time.
    pub(crate) fn leaves_it(&self, now: Ticks) -> bool {
        self.share(now).is_some_and(|share| fastrand::f32() > share)
    }

    /// How long one more request is likely to wait for its answer there. In no unit: to compare workers by.
    pub(crate) fn cost(&self, now: Ticks) -> f32 {
        self.latency.cost(self.in_flight.get(), now)
    }

    /// Whether new requests may go there.
    pub(crate) fn is_ready(&self) -> bool {
        self.state.get() == WorkerState::Ready && self.place.borrow().is_some()
    }

    /// Whether it gets nothing for a while, since it failed.
    pub(crate) fn is_out(&self) -> bool {
        self.standing.get().is_some_and(|standing| standing.is_out())
    }

    /// What it got since then says something about how it is now.
    pub(crate) fn era(&self) -> u32 {
        self.standing.get().map_or(0, |standing| standing.era())
    }

    pub(crate) fn is_passed_over(&self, now: Ticks) -> bool {
        self.passed_over_until.get() > now
    }

    pub(crate) fn passed_over_until(&self) -> Ticks {
        self.passed_over_until.get()
    }

    /// It refused a connection.
    pub(crate) fn refused(&self, now: Ticks) {
        let before = self.refusals.get();
        self.refusals.set(before.saturating_add(1));
        let length = Ticks::from_ms(PASS_OVER_FIRST_MS << before.min(PASS_OVER_DOUBLINGS));
        self.passed_over_until.set(now.plus(length));
        self.forget_kept();
    }

    /// It accepted one.
    pub(crate) fn reached(&self) {
        if self.refusals.replace(0) > 0 {
            self.passed_over_until.set(Ticks::START);
        }
    }

    pub(crate) fn report(&self, report: Report) {
        (self.report)(report);
    }

    fn say_if_drained(&self) {
        let drained = self.state.get() == WorkerState::Draining && self.in_flight.get() == 0;
        if drained && !self.drained_said.replace(true) {
            self.report(Report::Drained { run: self.run });
        }
    }
}

/// A request or a tunnel at a worker, counted as long as this lives.
pub(crate) struct Flight {
    worker: Rc<Worker>,
    tally: Rc<Tally>,
}

impl Flight {
    pub(crate) fn new(worker: Rc<Worker>, tally: Rc<Tally>) -> Flight {
        worker.in_flight.set(worker.in_flight.get() + 1);
        tally.set_in_flight(tally.in_flight.get() + 1);
        Flight { worker, tally }
    }

    pub(crate) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.worker.in_flight.set(self.worker.in_flight.get() - 1);
        self.tally.set_in_flight(self.tally.in_flight.get() - 1);
        self.worker.say_if_drained();
    }
}
