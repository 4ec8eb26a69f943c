//! What one thread of the proxy knows and owns: table, pools, counters. Nothing here is shared with another thread.

use std::{
    cell::{Cell, OnceCell, RefCell},
    collections::{BTreeMap, HashMap},
    num::NonZeroUsize,
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use tokio::sync::{Notify, Semaphore};
use watt_api::mesh::{Counts, EdgeCounts, EdgeOf, Outlook, Snapshot, Trouble, Work, WorkerState};

use crate::{
    access::{Log, Queue},
    cache::Cached,
    dispatch::{Dispatch, Reached},
    ejection::{self, Ejection, Wards},
    files::Folders,
    gate::{self, Gate, Gates},
    guards::Counted,
    http::{Refusal, Side, Stock, Stream},
    lost::LostRequest,
    pages::{Document, Documents},
    respond::{Failure, Reason},
    room::{Place, Pool, Rooms},
    table::{Kept, Table},
    timer::{Clock, Ticks},
    tls,
    worker::{Flight, Tally, Worker},
};

/// Whether a thread has something to do with a worker. That of a service that does not listen only calls others, and all that is
/// waited for is that it has no request, once it drains.
fn is_reached(service: &watt_api::mesh::Service, worker: &watt_api::mesh::Worker) -> bool {
    service.outlook != Outlook::NotListening || worker.state == WorkerState::Draining
}

/// What a thread has to say to the process around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The stock of unconnected sockets to this run's worker runs low. Said once until sockets arrive.
    NeedSockets {
        /// Whose.
        run: u64,
    },
    /// This thread has no request at this draining run. Said once.
    Drained {
        /// Which.
        run: u64,
    },
    /// A request waits for a service that sleeps. Said once for each snapshot.
    Wanted {
        /// Which.
        service: String,
    },
    /// A call was refused by a policy.
    Refused {
        /// The calling service, when known.
        caller: Option<String>,
        /// The service it called.
        target: String,
        /// The rule, in words.
        reason: String,
    },
    /// A request was lost with its worker.
    Lost(LostRequest),
    /// Something is wrong with a service as a whole.
    Trouble(Trouble),
}

/// Sockets that came for a run no snapshot has named yet are kept for this many snapshots.
const EARLY_SNAPSHOTS_MAX: u8 = 8;

/// Sockets that are kept for connections to a worker; more are closed. Four times what is made at a time.
const SOCKETS_MAX: usize = 128;

/// There are as many connections and streams as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

/// How many threads beside this one may wait for disks.
const DISK_MAX: usize = 8;

/// Servers outside are numbered from here on, and no run is.
const FIRST_UPSTREAM: u64 = 1 << 63;

/// Checks of passwords, which take long, and much memory, on other threads.
#[derive(Default)]
pub(crate) struct Checks {
    /// Turns at them, which all threads have in common. Each has its own in tests that have one thread.
    turns: OnceCell<Arc<Semaphore>>,
    /// How many requests wait for one.
    pub(crate) waiting: Cell<usize>,
    /// How many were made.
    pub(crate) made: Cell<u64>,
}

impl Checks {
    /// As many turns as a process with so many processors has: few, so that checks take neither these from the threads that serve, nor more
    /// than half a gigabyte.
    pub(crate) fn turns_of(processors: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new((processors / 4).clamp(1, 4)))
    }

    pub(crate) fn turns(&self) -> Arc<Semaphore> {
        Arc::clone(self.turns.get_or_init(|| Checks::turns_of(1)))
    }
}

struct EarlySockets {
    sockets: Vec<OwnedFd>,
    snapshots_seen: u8,
}

/// One thread's state. Make and use it inside the thread's `LocalSet`.
pub struct Thread {
    report: Rc<dyn Fn(Report)>,
    threads: NonZeroUsize,
    pub(crate) clock: Rc<Clock>,
    pub(crate) stock: Stock,
    table: RefCell<Rc<Table>>,
    /// Told when the table changed, for requests that wait for a worker.
    pub(crate) changed: Notify,
    pub(crate) workers: RefCell<HashMap<u64, Rc<Worker>>>,
    /// Servers outside, by what routes call them, and how many there have been.
    pub(crate) upstreams: RefCell<HashMap<String, Rc<Worker>>>,
    upstreams_made: Cell<u64>,
    tallies: RefCell<BTreeMap<String, Rc<Tally>>>,
    /// Of a thread that has no others beside it; see [`Thread::apply`].
    own_gates: RefCell<Gates>,
    own_wards: RefCell<Wards>,
    early: RefCell<HashMap<u64, EarlySockets>>,
    pub(crate) sweeping: Cell<bool>,
    /// Turns at the disk.
    pub(crate) disk: Arc<Semaphore>,
    /// Responses that are being compressed.
    pub(crate) encoders: Cell<usize>,
    /// Checks of passwords.
    pub(crate) checks: Checks,
    /// Folders with files that routes lead to.
    folders: RefCell<Folders>,
    /// What pages show.
    documents: RefCell<Documents>,
    /// Copies of requests that are under way.
    pub(crate) copies: Cell<usize>,
    /// What is being got in place of stale responses.
    pub(crate) refreshes: Cell<usize>,
    /// What is stored, by all threads together. Each has its own in tests that have one thread.
    cached: OnceCell<Arc<Cached>>,
    own_snapshot: RefCell<Snapshot>,
    closing: Cell<bool>,
    hurrying: Cell<bool>,
    connections: Cell<usize>,
    connection_ended: Notify,
    /// Where connections have places, which their streams need as well. None in tests that have no listeners.
    rooms: OnceCell<Rc<Rooms>>,
    /// What is counted for limits, of all threads together. Each has its own in tests that have one thread.
    counted: OnceCell<Arc<Counted>>,
    refused: [Cell<u64>; Refusal::ALL.len()],
    pub(crate) handshakes: tls::Tally,
    /// Where the access log is written; in tests that have no process nowhere.
    access_queue: OnceCell<Arc<Queue>>,
    access: RefCell<Option<Rc<Log>>>,
    counts_edges: Cell<bool>,
}

impl Thread {
    /// State for one of `threads` threads. `report` is called from the request path: it must not wait.
    pub fn new(threads: NonZeroUsize, report: impl Fn(Report) + 'static) -> Rc<Thread> {
        Rc::new(Thread {
            report: Rc::new(report),
            threads,
            clock: Clock::new(),
            stock: Stock::default(),
            table: RefCell::default(),
            changed: Notify::new(),
            workers: RefCell::default(),
            upstreams: RefCell::default(),
            upstreams_made: Cell::new(0),
            tallies: RefCell::default(),
            own_gates: RefCell::default(),
            own_wards: RefCell::default(),
            early: RefCell::default(),
            sweeping: Cell::new(false),
            disk: Arc::new(Semaphore::new(DISK_MAX)),
            encoders: Cell::new(0),
            checks: Checks::default(),
            folders: RefCell::default(),
            documents: RefCell::default(),
            copies: Cell::new(0),
            refreshes: Cell::new(0),
            cached: OnceCell::new(),
            own_snapshot: RefCell::default(),
            closing: Cell::new(false),
            hurrying: Cell::new(false),
            connections: Cell::new(0),
            connection_ended: Notify::new(),
            rooms: OnceCell::new(),
            counted: OnceCell::new(),
            refused: Default::default(),
            handshakes: tls::Tally::default(),
            access_queue: OnceCell::new(),
            access: RefCell::default(),
            counts_edges: Cell::new(false),
        })
    }

    /// Serves files of these folders from the next snapshot on.
    pub fn use_folders(&self, folders: &BTreeMap<String, Arc<OwnedFd>>) {
        self.folders.borrow_mut().clone_from(folders);
    }

    /// Has pages show these documents from the next snapshot on.
    pub fn use_documents(&self, documents: &BTreeMap<String, Arc<Document>>) {
        self.documents.borrow_mut().clone_from(documents);
    }

    /// Uses this snapshot from the next request on. Requests that wait for a worker look again. Services' limits are this thread's own.
    pub fn apply(&self, snapshot: &Snapshot) {
        let mut gates = self.own_gates.borrow_mut();
        gate::renew(&mut gates, snapshot);
        let before = self.own_snapshot.replace(snapshot.clone());
        self.cached().renew(&before, snapshot);
        let mut wards = self.own_wards.borrow_mut();
        ejection::renew(&mut wards, snapshot).into_iter().for_each(|trouble| self.tell(trouble));
        self.apply_with(snapshot, &gates, &wards);
    }

    /// The same as one of several threads, to which these gates and wards are common.
    pub(crate) fn apply_with(&self, snapshot: &Snapshot, gates: &Gates, wards: &Wards) {
        let mut known = self.workers.take();
        // They may have requests yet, whatever becomes of their service.
        let at_work: Vec<u64> =
            known.values().filter(|worker| worker.in_flight.get() > 0).map(|worker| worker.run).collect();
        let now = self.clock.look();
        let named = snapshot.services.values().flat_map(|service| {
            // 0 is none, as a length of time without end would be elsewhere.
            let slow =
                if service.slow_start_ms == 0 { Ticks::NONE } else { Ticks::from_ms(service.slow_start_ms) };
            let at_work = &at_work;
            let is_kept = |worker: &&watt_api::mesh::Worker| {
                is_reached(service, worker) || at_work.contains(&worker.run)
            };
            service.workers.iter().filter(is_kept).map(move |worker| (worker, slow))
        });
        let update = |(worker, slow): (&watt_api::mesh::Worker, Ticks)| {
            let known = known.remove(&worker.run);
            let was_ready = known.as_ref().is_some_and(|known| known.is_ready());
            let worker = self.updated(known, worker);
            worker.warm_up(was_ready, now, slow);
            (worker.run, worker)
        };
        let workers = named.map(update).collect();
        // Those that are left over run no longer. Who still talks to one of them keeps it until then.
        for worker in known.values() {
            worker.forget_kept();
        }
        self.workers.replace(workers);
        self.renew_upstreams(snapshot);
        self.counted().keep(snapshot);
        self.tallies.borrow_mut().retain(|name, _| snapshot.services.contains_key(name));
        self.renew_edges(snapshot);
        self.age_early_sockets();
        let log = snapshot.access_log.as_ref().zip(self.access_queue.get());
        self.access.replace(log.map(|(wanted, queue)| Rc::new(Log::new(wanted, queue))));
        let table = {
            let workers = self.workers.borrow();
            let upstreams = self.upstreams.borrow();
            let kept = Kept {
                worker: &|worker| workers.get(&worker.run).cloned(),
                outside: &|name| upstreams[name].clone(),
                folder: &|id| self.folders.borrow().get(id).cloned(),
                document: &|id| self.documents.borrow().get(id).cloned(),
                tally: &|name| self.tally(name),
                gates,
                wards,
            };
            Table::new(&self.table(), snapshot, self.threads.get(), &kept)
        };
        self.table.replace(Rc::new(table));
        self.changed.notify_waiters();
    }

    /// Forgets what was counted of edges that there are no longer.
    fn renew_edges(&self, snapshot: &Snapshot) {
        self.counts_edges.set(snapshot.edges);
        let is_left = snapshot.edges_left();
        self.tallies.borrow().iter().for_each(|(service, tally)| tally.edges.keep(service, &is_left));
    }

    /// Those of a snapshot, with the connections that there are.
    fn renew_upstreams(&self, snapshot: &Snapshot) {
        let mut known = self.upstreams.take();
        let named =
            snapshot.services.iter().filter_map(|(name, service)| Some((name, service.upstream.as_deref()?)));
        let update = |(name, upstream): (&String, &watt_api::mesh::Upstream)| {
            let worker = known.remove(name).unwrap_or_else(|| {
                let number = self.upstreams_made.get();
                self.upstreams_made.set(number + 1);
                Rc::new(Worker::new(FIRST_UPSTREAM + number, self.report.clone()))
            });
            worker.serve_at(upstream);
            (name.clone(), worker)
        };
        self.upstreams.replace(named.map(update).collect());
        for worker in known.values() {
            worker.forget_kept();
        }
    }

    fn updated(&self, known: Option<Rc<Worker>>, worker: &watt_api::mesh::Worker) -> Rc<Worker> {
        let found = known.unwrap_or_else(|| Rc::new(Worker::new(worker.run, self.report.clone())));
        if let Some(early) = self.early.borrow_mut().remove(&worker.run) {
            found.sockets.borrow_mut().extend(early.sockets);
        }
        found.update(worker);
        if let Some(left) = worker.drain_ms.filter(|_| found.is_draining()) {
            found.drains_for(Duration::from_millis(left));
        }
        found
    }

    fn tally(&self, name: &str) -> Rc<Tally> {
        self.tallies.borrow_mut().entry(name.to_owned()).or_default().clone()
    }

    fn age_early_sockets(&self) {
        self.early.borrow_mut().retain(|_, early| {
            early.snapshots_seen += 1;
            early.snapshots_seen < EARLY_SNAPSHOTS_MAX
        });
    }

    /// Adds unconnected TCP sockets made in the network namespace of this run.
    pub fn add_sockets(&self, run: u64, sockets: Vec<OwnedFd>) {
        match self.workers.borrow().get(&run) {
            Some(worker) => {
                let mut stock = worker.sockets.borrow_mut();
                stock.extend(sockets);
                stock.truncate(SOCKETS_MAX);
                drop(stock);
                worker.sockets_wanted.set(false);
                worker.sockets_came.notify_waiters();
            }
            None => {
                let mut early = self.early.borrow_mut();
                let early =
                    early.entry(run).or_insert(EarlySockets { sockets: Vec::new(), snapshots_seen: 0 });
                early.sockets.extend(sockets);
                early.sockets.truncate(SOCKETS_MAX);
            }
        }
    }

    /// What this thread counted, by service.
    pub fn counts(&self) -> BTreeMap<String, Counts> {
        let table = self.table();
        let counts =
            |(name, tally): (&String, &Rc<Tally>)| (name.clone(), Self::counts_of(&table, name, tally));
        self.tallies.borrow().iter().map(counts).collect()
    }

    /// The same without services that it counted nothing of, which of many are most.
    pub(crate) fn counts_of_some(&self) -> BTreeMap<String, Counts> {
        let table = self.table();
        let tallies = self.tallies.borrow();
        let all = tallies.iter().map(|(name, tally)| (name, Self::counts_of(&table, name, tally)));
        let counted = all.filter(|(_, counts)| *counts != Counts::default());
        counted.map(|(name, counts)| (name.clone(), counts)).collect()
    }

    fn counts_of(table: &Table, name: &str, tally: &Tally) -> Counts {
        let gate = table.service(name).and_then(|service| service.gate.as_deref());
        let ejection = table.service(name).and_then(|service| service.ejection.as_ref());
        Counts {
            requests: tally.requests.get(),
            failures: tally.failures.get(),
            in_flight: tally.in_flight.get(),
            held: tally.waiting() as u64,
            retries: tally.retries.get(),
            retries_denied: tally.retries_denied.get(),
            timed_out: tally.timed_out.get(),
            denied: tally.denied.get(),
            refused_breaker: tally.refused[0].get(),
            refused_full: tally.refused[1].get(),
            refused_late: tally.refused[2].get(),
            refused_shed: tally.refused[3].get(),
            breaker_opened: tally.breaker_opened.get(),
            breaker_is_open: gate.is_some_and(Gate::is_open),
            ejections: tally.ejections.get(),
            ejected: ejection.map_or(0, Ejection::out),
            cache: tally.cache.get(),
        }
    }

    /// How many passwords were checked for this thread.
    pub fn password_checks(&self) -> u64 {
        self.checks.made.get()
    }

    /// What this thread measured, of the services that are.
    pub fn work(&self) -> BTreeMap<String, Work> {
        let work = |tally: &Tally| tally.meter.read(tally.in_flight.get(), tally.waiting());
        self.tallies.borrow().iter().filter_map(|(name, tally)| Some((name.clone(), work(tally)?))).collect()
    }

    /// Whether requests are counted by where they came from.
    pub(crate) fn counts_edges(&self) -> bool {
        self.counts_edges.get()
    }

    /// What this thread counted of edges since this was asked last.
    pub(crate) fn edges(&self) -> Vec<(EdgeOf, EdgeCounts)> {
        self.tallies.borrow().iter().flat_map(|(service, tally)| tally.edges.news(service)).collect()
    }

    /// How many requests were refused for which reason.
    pub fn refusals(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL.into_iter().zip(self.refused.iter().map(Cell::get))
    }

    pub(crate) fn count_refusal(&self, refusal: Refusal) {
        let index = Refusal::ALL.iter().position(|other| *other == refusal);
        if let Some(count) = index.and_then(|index| self.refused.get(index)) {
            count.set(count.get() + 1);
        }
    }

    /// Requests and tunnels at this run's worker now.
    pub fn in_flight(&self, run: u64) -> u64 {
        self.workers.borrow().get(&run).map_or(0, |worker| worker.in_flight.get())
    }

    /// A byte stream to a worker of `service`, chosen, waited for and allowed as for a request, at another port of it if
    /// one is given. The worker counts the stream as a request until the [`Passage`] is dropped.
    pub async fn open(
        self: &Rc<Self>,
        service: &str,
        port: Option<u16>,
        caller: Option<&str>,
    ) -> Result<Passage, Failure> {
        let found = self.table().service(service).cloned();
        let Some(found) = found else {
            let message = format!("There is no service `{service}`.");
            return Err(Failure::new(Reason::UnknownService, Some(service.into()), message));
        };
        self.admit(&found, caller)?;
        if let Some(port) = port.filter(|port| found.reserved_ports.contains(port)) {
            let message = format!("Port {port} in the network of `{service}` is the mesh's own.");
            return Err(Failure::new(Reason::ConnectionRefused, Some(service.into()), message));
        }
        let Reached { stream, flight, .. } = Dispatch::new(self, found).new_connection(port).await?;
        Ok(Passage { stream, _flight: flight })
    }

    /// Asks a service's policy, and reports a refusal.
    pub(crate) fn admit(&self, service: &crate::table::Service, caller: Option<&str>) -> Result<(), Failure> {
        service.admits(caller).inspect_err(|failure| {
            (self.report)(Report::Refused {
                caller: caller.map(str::to_owned),
                target: service.name.to_string(),
                reason: failure.message.clone(),
            });
        })
    }

    /// Tells connections to close with their next answer. Idle ones stay for as long as any may: their clients may be sending a request
    /// just now.
    pub fn retire(&self) {
        self.closing.set(true);
        // Connections of HTTP/2 say GOAWAY, and need no answer for that.
        self.clock.wake_all();
    }

    /// Ends idle connections now and the others after their present request. Tunnels stay.
    pub fn shut_down(&self) {
        self.closing.set(true);
        self.hurrying.set(true);
        self.clock.wake_all();
    }

    /// Whether answers are the last ones of their connections.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Whether idle connections are ended.
    pub(crate) fn is_hurrying(&self) -> bool {
        self.hurrying.get()
    }

    /// Has the access log written there, from the next snapshot on that wants one.
    pub(crate) fn use_access_queue(&self, queue: Arc<Queue>) {
        // There is one for all threads.
        let _ = self.access_queue.set(queue);
    }

    /// The access log, where requests are written that came in there.
    pub(crate) fn access_log(&self, side: &Side) -> Option<Rc<Log>> {
        self.access.borrow().as_ref().filter(|log| log.covers(side)).cloned()
    }

    /// Has the streams of HTTP/2 take places there.
    pub(crate) fn use_rooms(&self, rooms: Rc<Rooms>) {
        // There is one set of them for each thread.
        let _ = self.rooms.set(rooms);
    }

    /// Counts with others from now on.
    pub(crate) fn count_with(&self, counted: Arc<Counted>) {
        // There is one for the whole process.
        let _ = self.counted.set(counted);
    }

    /// Checks passwords in turn with others from now on.
    pub(crate) fn check_with(&self, turns: Arc<Semaphore>) {
        // There is one for the whole process.
        let _ = self.checks.turns.set(turns);
    }

    /// Stores with others from now on.
    pub(crate) fn store_with(&self, cached: Arc<Cached>) {
        // There is one for the whole process.
        let _ = self.cached.set(cached);
    }

    /// What is stored of responses.
    pub(crate) fn cached(&self) -> &Cached {
        self.cached.get_or_init(Arc::default)
    }

    /// How much memory is taken by what is stored, with what is being stored and sent.
    pub fn cache_bytes(&self) -> u64 {
        self.cached().store.status().bytes
    }

    /// What is counted for limits.
    pub(crate) fn counted(&self) -> &Counted {
        self.counted.get_or_init(Arc::default)
    }

    /// A place for one more stream of a client's connection. An error when there is none.
    pub(crate) fn one_more_stream(&self, side: &Side) -> Result<Option<Place>, NoRoom> {
        let Some(rooms) = self.rooms.get() else { return Ok(None) };
        let pool = side.pool();
        let service = match side {
            Side::Mesh { caller: Some(caller) } if pool == Pool::Services => Some(caller),
            Side::Mesh { .. } | Side::Gateway => None,
        };
        rooms.one_more(pool, service).map(Some).ok_or(NoRoom)
    }

    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        self.connections.get()
    }

    /// Waits until no connection is left.
    pub async fn connections_ended(&self) {
        loop {
            let ended = self.connection_ended.notified();
            if self.connections.get() == 0 {
                return;
            }
            ended.await;
        }
    }

    /// Has a service that sleeps woken.
    pub(crate) fn want(&self, service: &crate::table::Service) {
        if !service.is_wanted.replace(true) {
            (self.report)(Report::Wanted { service: service.name.to_string() });
        }
    }

    /// Tells of something that is wrong with a service as a whole.
    pub(crate) fn tell(&self, trouble: Trouble) {
        (self.report)(Report::Trouble(trouble));
    }

    pub(crate) fn connection_started(self: &Rc<Self>) -> Connected {
        self.connections.set(self.connections.get() + 1);
        Connected(self.clone())
    }

    pub(crate) fn table(&self) -> Rc<Table> {
        self.table.borrow().clone()
    }
}

/// A client's connection, counted as long as this lives.
pub(crate) struct Connected(Rc<Thread>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.set(self.0.connections.get() - 1);
        self.0.connection_ended.notify_waiters();
    }
}

/// A stream to a worker, see [`Thread::open`].
pub struct Passage {
    /// Connected, with nothing sent.
    pub stream: Stream,
    _flight: Flight,
}

#[cfg(test)]
mod tests {
    use watt_api::mesh::{self, Service};

    use super::*;

    fn snapshot(outlook: &Outlook, state: WorkerState) -> Snapshot {
        let worker =
            mesh::Worker { run: 7, index: 0, endpoint: None, state, drain_ms: None, cgroup: None, pid: None };
        let quiet = Service { workers: vec![worker], outlook: outlook.clone(), ..Service::default() };
        let services = [("api".to_owned(), Service::default()), ("quiet".to_owned(), quiet)];
        Snapshot { services: services.into(), ..Snapshot::default() }
    }

    #[tokio::test]
    async fn only_services_that_something_was_counted_of_are_told_of() {
        let thread = Thread::new(NonZeroUsize::MIN, |_| {});
        thread.apply(&snapshot(&Outlook::Coming, WorkerState::Ready));
        assert!(thread.counts_of_some().is_empty());
        assert_eq!(thread.counts().len(), 2);
        thread.tally("api").count_request();
        let told = thread.counts_of_some();
        assert_eq!((told.len(), told["api"].requests), (1, 1));
    }

    #[tokio::test]
    async fn a_worker_that_does_not_listen_is_nobody_until_it_drains() {
        let drained = Rc::new(RefCell::new(Vec::new()));
        let heard = Rc::clone(&drained);
        let thread = Thread::new(NonZeroUsize::MIN, move |report| heard.borrow_mut().push(report));
        thread.apply(&snapshot(&Outlook::Coming, WorkerState::Ready));
        assert!(thread.workers.borrow().contains_key(&7));
        thread.apply(&snapshot(&Outlook::NotListening, WorkerState::Ready));
        assert!(thread.workers.borrow().is_empty() && drained.borrow().is_empty());
        thread.apply(&snapshot(&Outlook::NotListening, WorkerState::Draining));
        assert_eq!(*drained.borrow(), [Report::Drained { run: 7 }]);
    }
}
