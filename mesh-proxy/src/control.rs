//! The control thread: the daemon's orders go out to the threads, and their news goes back to the daemon.
//!
//! A daemon that goes away changes nothing for traffic. The next one, or one that connects while the last one hangs,
//! says [`Order::Hello`], names every listener and sends a snapshot; what it did not name is then dropped.

use std::{collections::BTreeSet, io, num::NonZeroUsize, os::fd::OwnedFd, sync::Arc, time::Duration};

use tokio::{
    net::UnixListener,
    signal::unix::Signal,
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use watt_api::mesh::{CacheStatus, FORMAT, FromProxy, ListenerId, ListenerKind, Snapshot};

use crate::{
    cache::Cached,
    counts::Totals,
    drains::Drains,
    egress::{EgressRefusal, Outside},
    ejection::{self, Wards},
    files::Folders,
    gate::{self, Gates},
    link::{Door, Link, LinkError, Order},
    lost::LostRequest,
    pages::{Document, Documents},
    refusals::Refusal,
    registry::Registry,
    sockets::Sockets,
    threads::{ThreadEvent, ThreadOrder},
    troubles::Troubles,
    view::View,
};

/// How often the daemon is told what changed.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How many edges are told of at a time. Each takes some 400 bytes, and what waits to be sent may have a few MiB.
const EDGES_TOLD_MAX: usize = 2_000;
/// The wait after the link's listener could not accept, for lack of descriptors for example.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// How the process's service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything was finished after a signal.
    Finished,
    /// Some connections were left when the time was over, or a second signal came.
    CutOff,
    /// A thread died. What it accepted is lost and nobody accepts in its place.
    ThreadDied(usize),
}

/// What the control thread knows.
pub(crate) struct Control {
    threads: Vec<mpsc::Sender<ThreadOrder>>,
    link: Option<Link>,
    registry: Registry,
    /// Listeners that nobody accepts at yet: before there is a snapshot that knows how clients are met there, what comes in could only be
    /// answered wrongly; a listener of several threads takes as many descriptors, and a thread may be unable to use one for the moment.
    /// Clients wait in the kernel's queue.
    waiting: Vec<(ListenerId, ListenerKind, OwnedFd)>,
    drains: Drains,
    sockets: Sockets,
    totals: Totals,
    /// The daemon understands what is said of edges. Before its first snapshot that is not known.
    tells_edges: bool,
    troubles: Troubles,
    outside: Arc<Outside>,
    /// The newest snapshot.
    view: Arc<View>,
    gates: Gates,
    wards: Wards,
    /// What is stored of responses, and how much of it the daemon was told of.
    cached: Arc<Cached>,
    cache_told: CacheStatus,
    /// Folders that the daemon has passed; of those that no route leads to any more none is kept.
    folders: Folders,
    /// The same of documents.
    documents: Documents,
    applying: Applying,
    tidying: Tidying,
    life: Life,
}

/// The newest snapshot on its way to the threads.
#[derive(Debug, Default)]
struct Applying {
    /// Counts snapshots of all daemons, whose own versions may repeat.
    number: u64,
    version: u64,
    /// Threads that do not use it yet.
    left: usize,
}

/// Memory is given back when snapshots have stopped coming. Each replaces one of its own size, and what the old one
/// took lies between what is in use.
struct Tidying {
    give_back: fn(),
    /// The number of the newest snapshot when this was looked at last.
    seen: u64,
    /// The number of the newest one when memory was given back.
    done: u64,
}

/// serving → (retiring, finishing): another proxy has taken over; a signal.
/// retiring → (finishing): a signal.
#[derive(Debug)]
enum Life {
    Serving,
    /// Until everything is done by itself, or the deadline.
    Retiring {
        deadline: Instant,
        left: BTreeSet<usize>,
    },
    /// Until everything is done, or the deadline.
    Finishing {
        deadline: Instant,
        left: BTreeSet<usize>,
    },
}

/// The process's signals to end.
pub(crate) struct Signals {
    pub(crate) terminate: Signal,
    pub(crate) interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

impl Control {
    /// Commands these threads. `give_back` is called when much memory may have become free.
    pub(crate) fn new(threads: Vec<mpsc::Sender<ThreadOrder>>, cached: Arc<Cached>, give_back: fn()) -> Self {
        let count = threads.len();
        Self {
            registry: Registry::new(NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN)),
            drains: Drains::new(count),
            sockets: Sockets::new(count),
            totals: Totals::new(count),
            tells_edges: false,
            troubles: Troubles::default(),
            outside: Arc::default(),
            view: Arc::default(),
            gates: Gates::new(),
            wards: Wards::new(),
            cached,
            cache_told: CacheStatus::default(),
            folders: Folders::new(),
            documents: Documents::new(),
            threads,
            link: None,
            waiting: Vec::new(),
            applying: Applying::default(),
            tidying: Tidying { give_back, seen: 0, done: 0 },
            life: Life::Serving,
        }
    }

    /// Serves until a signal, and then until all is finished or `drain_timeout` is over.
    pub(crate) async fn run(
        mut self,
        door: &Door,
        mut events: mpsc::UnboundedReceiver<(usize, ThreadEvent)>,
        mut signals: Signals,
        drain_timeout: Duration,
    ) -> End {
        let mut tick = interval(TELL_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                link = accept(door) => self.link = Some(link),
                order = next_order(&mut self.link) => self.obey(order).await,
                Some((thread, event)) = events.recv() => {
                    if let Some(end) = self.hear(thread, event).await {
                        return end;
                    }
                }
                _ = tick.tick() => {
                    self.add_waiting().await;
                    self.tell_news();
                    self.tidy();
                }
                () = signals.next() => match self.life {
                    Life::Serving | Life::Retiring { .. } => self.finish(Instant::now() + drain_timeout).await,
                    Life::Finishing { .. } => return End::CutOff,
                },
                () = deadline(&self.life) => return End::CutOff,
            }
        }
    }

    async fn obey(&mut self, order: Result<Option<Order>, LinkError>) {
        match order {
            Ok(Some(Order::Hello)) => self.hello(),
            Ok(Some(Order::AddListener { id, kind, listener })) => {
                self.add_listener(id, kind, listener).await
            }
            Ok(Some(Order::AddFolder { id, folder })) => drop(self.folders.insert(id, Arc::new(folder))),
            Ok(Some(Order::AddDocument { id, body })) => {
                self.documents.insert(id, Arc::new(Document::json(body)));
            }
            Ok(Some(Order::RemoveListener { id })) => {
                self.waiting.retain(|(waiting, ..)| *waiting != id);
                let threads = self.registry.remove(&id);
                self.remove_listener(&id, threads).await;
            }
            Ok(Some(Order::Sockets { run, sockets })) => {
                for (thread, sockets) in self.sockets.deal(run, sockets) {
                    self.order(thread, ThreadOrder::Sockets { run, sockets }).await;
                }
            }
            Ok(Some(Order::Snapshot(snapshot))) => self.apply(*snapshot).await,
            Ok(Some(Order::Purge { number, purge })) => {
                let removed = self.cached.purge(purge);
                self.tell(&FromProxy::CachePurged { number, removed });
            }
            Ok(Some(Order::Retire { within })) => self.retire(Instant::now() + within).await,
            Ok(None) => {
                tracing::info!("the daemon has gone; serving what is known");
                self.link = None;
            }
            Err(error) => self.drop_link(&error),
        }
    }

    /// What an earlier daemon was told or asked, this one was not.
    fn hello(&mut self) {
        tracing::info!("a daemon has come");
        self.registry.hello();
        self.waiting.clear();
        self.drains.hello();
        self.sockets.hello();
        self.totals.hello();
        self.tells_edges = false;
        self.outside.hello();
        self.applying.left = 0;
        self.tell(&FromProxy::Hello { format: FORMAT, version: env!("CARGO_PKG_VERSION").to_owned() });
    }

    async fn add_listener(&mut self, id: ListenerId, kind: ListenerKind, listener: OwnedFd) {
        if !matches!(self.life, Life::Serving) {
            return;
        }
        if self.applying.number == 0 || !self.view.knows(&kind) {
            self.waiting.push((id, kind, listener));
            return;
        }
        let threads = self.registry.add(&id, &kind);
        let Some((last, others)) = threads.split_last() else { return };
        match others.iter().map(|_| listener.try_clone()).collect::<io::Result<Vec<_>>>() {
            Ok(clones) => {
                for (thread, listener) in others.iter().zip(clones) {
                    let (id, kind) = (id.clone(), kind.clone());
                    self.order(*thread, ThreadOrder::Add { id, kind, listener }).await;
                }
                self.order(*last, ThreadOrder::Add { id, kind, listener }).await;
            }
            Err(error) => {
                tracing::warn!(%id, %error, "a listener cannot be used for the moment");
                for thread in threads {
                    self.registry.ended(&id, thread);
                }
                self.waiting.push((id, kind, listener));
            }
        }
    }

    async fn add_waiting(&mut self) {
        if self.applying.number > 0 {
            for (id, kind, listener) in std::mem::take(&mut self.waiting) {
                self.add_listener(id, kind, listener).await;
            }
        }
    }

    async fn remove_listener(&mut self, id: &ListenerId, threads: BTreeSet<usize>) {
        for thread in threads {
            self.order(thread, ThreadOrder::Remove { id: id.clone() }).await;
        }
    }

    async fn apply(&mut self, snapshot: Snapshot) {
        watt_fault::step("proxy.told");
        for (id, threads) in self.registry.settle() {
            self.remove_listener(&id, threads).await;
        }
        self.sockets.apply(&snapshot);
        for run in self.drains.apply(&snapshot) {
            self.tell(&FromProxy::Drained { run });
        }
        let number = self.applying.number + 1;
        self.applying = Applying { number, version: snapshot.version, left: self.threads.len() };
        self.outside.retain(|name| snapshot.services.contains_key(name));
        self.totals.keep_edges(snapshot.edges_left());
        self.tells_edges = snapshot.edges;
        let uid = self.link.as_ref().map(Link::peer_uid);
        let is_named = |id: &String| {
            snapshot.all_routes().filter_map(|route| route.files.as_ref()).any(|files| files.folder == *id)
        };
        self.folders.retain(|id, _| is_named(id));
        let is_shown = |id: &String| {
            snapshot.all_routes().filter_map(|route| route.page.as_ref()).any(|page| page.document == *id)
        };
        self.documents.retain(|id, _| is_shown(id));
        // Before any thread has the snapshot, and not by each: one that is late would bring the limits of the last one back.
        gate::renew(&mut self.gates, &snapshot);
        self.cached.renew(&self.view.snapshot, &snapshot);
        ejection::renew(&mut self.wards, &snapshot)
            .into_iter()
            .for_each(|trouble| self.troubles.add(trouble));
        let view = self.view.next(snapshot, uid, Arc::clone(&self.outside));
        let view = view.with_gates(self.gates.clone(), self.wards.clone());
        let view = Arc::new(view.with_content(self.folders.clone(), self.documents.clone()));
        self.view = Arc::clone(&view);
        for thread in 0..self.threads.len() {
            self.order(thread, ThreadOrder::Apply { number, view: Arc::clone(&view) }).await;
        }
        self.add_waiting().await;
    }

    /// Threads never wait for anything but orders, so this does not wait long. One that died reports that.
    async fn order(&self, thread: usize, order: ThreadOrder) {
        if let Some(orders) = self.threads.get(thread) {
            let _ = orders.send(order).await;
        }
    }

    async fn hear(&mut self, thread: usize, event: ThreadEvent) -> Option<End> {
        match event {
            ThreadEvent::Applied { number } => self.applied(number),
            ThreadEvent::Drained { run } => {
                if self.drains.drained(run, thread) {
                    self.tell(&FromProxy::Drained { run });
                }
            }
            ThreadEvent::NeedSockets { run } => {
                self.sockets.want(run, thread);
                self.ask_for_sockets();
            }
            ThreadEvent::Wanted { service } => self.tell(&FromProxy::Wanted { service }),
            ThreadEvent::Counts(counts) => self.totals.update(thread, counts),
            ThreadEvent::Handshakes(handshakes) => self.totals.shaken(thread, handshakes),
            ThreadEvent::Edges(edges) => self.totals.counted_edges(edges),
            ThreadEvent::Work(work) => self.totals.measured(thread, work),
            ThreadEvent::Lost(LostRequest { service, run, method, path, reason }) => {
                self.tell(&FromProxy::Lost { service, run, method, path, reason });
            }
            ThreadEvent::Trouble(trouble) => self.troubles.add(trouble),
            ThreadEvent::Refused(Refusal { caller, target, reason }) => {
                self.tell(&FromProxy::Refused { caller, target, reason });
            }
            ThreadEvent::ListenerEnded { id } => drop(self.registry.ended(&id, thread)),
            ThreadEvent::ListenerUnused { id, kind, listener } => {
                if self.registry.ended(&id, thread) {
                    self.waiting.push((id, kind, listener));
                }
            }
            ThreadEvent::Ended => return self.ended(thread),
        }
        None
    }

    fn applied(&mut self, number: u64) {
        if number != self.applying.number || self.applying.left == 0 {
            return;
        }
        self.applying.left -= 1;
        if self.applying.left == 0 {
            watt_fault::step("proxy.applied");
            self.tell(&FromProxy::Applied { version: self.applying.version });
        }
    }

    fn ended(&mut self, thread: usize) -> Option<End> {
        match &mut self.life {
            Life::Serving => Some(End::ThreadDied(thread)),
            Life::Retiring { left, .. } | Life::Finishing { left, .. } => {
                left.remove(&thread);
                left.is_empty().then_some(End::Finished)
            }
        }
    }

    async fn finish(&mut self, deadline: Instant) {
        tracing::info!("finishing what is in flight");
        let left = match &mut self.life {
            Life::Serving => (0..self.threads.len()).collect(),
            Life::Retiring { left, .. } | Life::Finishing { left, .. } => std::mem::take(left),
        };
        self.life = Life::Finishing { deadline, left };
        for thread in 0..self.threads.len() {
            self.order(thread, ThreadOrder::Finish).await;
        }
    }

    /// Another proxy accepts from now on, at the same listeners. What waits there is its.
    async fn retire(&mut self, deadline: Instant) {
        if !matches!(self.life, Life::Serving) {
            return;
        }
        tracing::info!("another proxy has taken over");
        self.waiting.clear();
        self.life = Life::Retiring { deadline, left: (0..self.threads.len()).collect() };
        for thread in 0..self.threads.len() {
            self.order(thread, ThreadOrder::Retire).await;
        }
    }

    fn tell_news(&mut self) {
        self.ask_for_sockets();
        if self.link.is_some() {
            let refused = self.gates.iter().flat_map(|(service, gate)| gate.refusals(service));
            let back = self.wards.iter().flat_map(|(service, ward)| ward.returned(service));
            refused.chain(back).for_each(|trouble| self.troubles.add(trouble));
        }
        if self.link.is_some()
            && let cache = self.cached.status()
            && let Some((services, handshakes)) =
                self.totals.news(!self.troubles.is_empty() || cache != self.cache_told)
        {
            self.cache_told = cache;
            let troubles = self.troubles.take();
            self.tell(&FromProxy::Counts { services, handshakes, troubles, cache });
        }
        if self.link.is_some() && self.tells_edges {
            let edges = self.totals.edges(EDGES_TOLD_MAX);
            if !edges.is_empty() {
                self.tell(&FromProxy::Edges { edges });
            }
        }
        if let (Some(services), true) = (self.totals.work(), self.link.is_some()) {
            self.tell(&FromProxy::Work { services });
        }
        if self.link.is_some() {
            self.tell_of_outside();
        }
    }

    fn tell_of_outside(&mut self) {
        for EgressRefusal { caller, target, reason, allow } in self.outside.refusals() {
            self.tell(&FromProxy::EgressRefused { caller, target, reason, allow });
        }
        for (service, destinations) in self.outside.counts() {
            self.tell(&FromProxy::Outside { service, destinations });
        }
    }

    /// Once after each rush of snapshots: when every thread uses the last one, and none has come since the last look.
    fn tidy(&mut self) {
        let Applying { number, left, .. } = self.applying;
        let Tidying { give_back, seen, done } = &mut self.tidying;
        if left == 0 && number == *seen && number != *done {
            give_back();
            *done = number;
        }
        *seen = number;
    }

    fn ask_for_sockets(&mut self) {
        if self.link.is_some() {
            for run in self.sockets.due(Instant::now()) {
                self.tell(&FromProxy::NeedSockets { run });
            }
        }
    }

    /// News for nobody is dropped: a new daemon is told again what it must know.
    fn tell(&mut self, message: &FromProxy) {
        if let Some(link) = &mut self.link
            && let Err(error) = link.send(message)
        {
            self.drop_link(&error);
        }
    }

    fn drop_link(&mut self, error: &LinkError) {
        let cause = std::error::Error::source(error).map(ToString::to_string);
        tracing::warn!(%error, cause, "the link to the daemon broke; serving what is known");
        self.link = None;
    }
}

async fn next_order(link: &mut Option<Link>) -> Result<Option<Order>, LinkError> {
    match link {
        Some(link) => link.next().await,
        None => std::future::pending().await,
    }
}

async fn accept(door: &Door) -> Link {
    loop {
        match door.accept().await {
            Ok(link) => return link,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a daemon's connection");
                sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

async fn deadline(life: &Life) {
    match life {
        Life::Serving => std::future::pending().await,
        Life::Retiring { deadline, .. } | Life::Finishing { deadline, .. } => sleep_until(*deadline).await,
    }
}

/// Makes a listener that std accepted blocking calls on into one of the runtime's.
pub(crate) fn listener(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

#[cfg(test)]
mod tests;
