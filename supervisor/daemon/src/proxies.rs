//! The proxies that there are, as the loop talks to them: mostly one, of the daemon's own program. While watt is upgraded there is that
//! of another program as well, and one may be left for as long as its clients stay.
//!
//! The proxy that is wanted is the one of the daemon's own program. Any other one serves until that one uses a snapshot and the upgrade
//! is settled; then it accepts nothing more, and ends with its last connection. This holds whichever daemon looks, after an upgrade, a
//! way back, and the death of any of them in between.
//!
//! ```text
//! Tried  ─ the upgrade is settled, or no other one serves ─▶ Serves
//! Serves ─ another one has taken over ─▶ Leaves
//! ```

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    os::fd::OwnedFd,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};
use watt_api::mesh::{
    CachePurge, CacheStatus, Counts, EdgeCounts, EdgeOf, FromProxy, Handshakes, ListenerId, ListenerKind,
    Outgoing, OutgoingCounts, Snapshot, ToProxy,
};
use watt_core::RunId;

use crate::{
    apis::Documents,
    proxy_link::{LinkEvent, ProxyLink},
    runs::{Main, SIGKILL},
};

/// How long a proxy that another one has taken over from may go on with its connections.
pub(crate) const RETIRE_MAX: Duration = Duration::from_secs(3600);

/// How much longer it is waited for before it is killed: it cuts them off by itself.
const KILL_AFTER: Duration = Duration::from_secs(60);

/// How long one that says nothing at all is waited for: it is stuck, and so is whoever is connected there.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What was counted of requests, by where they came from.
pub(crate) type Edges = BTreeMap<EdgeOf, EdgeCounts>;

/// All of them, by the number of the program they are of.
#[derive(Debug)]
pub(crate) struct Proxies {
    own: u64,
    all: BTreeMap<u64, Linked>,
    events: mpsc::Sender<(u64, LinkEvent)>,
    listeners: BTreeMap<ListenerId, (ListenerKind, Arc<OwnedFd>)>,
    folders: BTreeSet<PathBuf>,
    documents: Documents,
    snapshot: Option<(u64, Arc<ToProxy>)>,
    /// Who has asked for sockets of a run, in order.
    asked: BTreeMap<RunId, VecDeque<u64>>,
    /// What those counted that have left.
    past: BTreeMap<String, Counts>,
    past_edges: Edges,
    used: watch::Sender<u64>,
    past_handshakes: Handshakes,
}

/// One of them.
#[derive(Debug)]
struct Linked {
    link: ProxyLink,
    part: Part,
    /// The process, of another program's. That of the own one is elsewhere.
    other: Option<Other>,
    version: Option<String>,
    uses: Uses,
    /// The draining runs that have no request there.
    drained: BTreeSet<RunId>,
    counts: BTreeMap<String, Counts>,
    handshakes: Handshakes,
    edges: Edges,
    cache: CacheStatus,
    /// It has told this daemon what it counted before.
    has_told: bool,
    outside: BTreeMap<String, Vec<Outgoing>>,
}

/// By which snapshot a proxy serves whoever comes to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Uses {
    /// There is no such process, or it had none so far: whoever comes waits until it has the last.
    None,
    /// By one that was sent on another connection: a predecessor's, or an older one of ours.
    Earlier,
    /// By the one with this version.
    Version(u64),
}

/// What one is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It has to show that it can use a snapshot, and accepts nowhere.
    Tried,
    /// It accepts.
    Serves,
    /// It serves what is connected.
    Leaves,
}

/// A proxy of another program.
#[derive(Debug)]
struct Other {
    run: u64,
    main: Main,
    path: String,
    kill_at: Option<Instant>,
}

/// One for people.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    /// Pid and path. Of the own one they are known elsewhere.
    pub(crate) other: Option<(u32, String)>,
    pub(crate) version: Option<String>,
    pub(crate) part: Part,
}

impl Proxies {
    /// That of the own program, at this socket. With `is_tried`, another one serves until all is well.
    pub(crate) fn new(
        own: u64,
        socket: PathBuf,
        is_tried: bool,
        events: mpsc::Sender<(u64, LinkEvent)>,
    ) -> Proxies {
        let mut proxies = Proxies {
            own,
            all: BTreeMap::new(),
            events,
            listeners: BTreeMap::new(),
            folders: BTreeSet::new(),
            documents: Documents::new(),
            snapshot: None,
            asked: BTreeMap::new(),
            past: BTreeMap::new(),
            past_edges: Edges::new(),
            used: watch::Sender::new(u64::MAX),
            past_handshakes: Handshakes::default(),
        };
        proxies.link(own, socket, if is_tried { Part::Tried } else { Part::Serves }, None);
        proxies
    }

    /// Takes over one of another program.
    pub(crate) fn adopt(&mut self, program: u64, socket: PathBuf, run: u64, main: Main, path: String) {
        self.link(program, socket, Part::Serves, Some(Other { run, main, path, kill_at: None }));
    }

    /// Takes over the one of the own program: it serves by what a predecessor has sent.
    pub(crate) fn adopt_own(&mut self) {
        self.own_uses(Uses::Earlier);
    }

    /// The process of the own program's has ended. The next one has no snapshot.
    pub(crate) fn own_ended(&mut self) {
        self.own_uses(Uses::None);
        if let Some(own) = self.all.get_mut(&self.own) {
            // The next one begins at 0.
            own.edges.clear();
        }
    }

    fn own_uses(&mut self, uses: Uses) {
        if let Some(own) = self.all.get_mut(&self.own) {
            own.uses = uses;
        }
        self.note_used();
    }

    fn link(&mut self, program: u64, socket: PathBuf, part: Part, other: Option<Other>) {
        let link = ProxyLink::start(program, socket, self.events.clone());
        if part == Part::Serves {
            for (id, (kind, listener)) in &self.listeners {
                link.add_listener(id.clone(), kind.clone(), Arc::clone(listener));
            }
        }
        if other.is_none() {
            link.pass_folders(self.folders.clone());
            link.pass_documents(self.documents.clone());
        }
        if let Some((version, snapshot)) = &self.snapshot {
            link.publish(*version, Arc::clone(snapshot));
        }
        let uses = if other.is_some() { Uses::Earlier } else { Uses::None };
        let linked = Linked {
            link,
            part,
            other,
            version: None,
            uses,
            drained: BTreeSet::new(),
            counts: BTreeMap::new(),
            handshakes: Handshakes::default(),
            edges: Edges::new(),
            cache: CacheStatus::default(),
            has_told: false,
            outside: BTreeMap::new(),
        };
        self.all.insert(program, linked);
        self.note_used();
    }

    /// Has them accept on this listener.
    pub(crate) fn add_listener(&mut self, id: ListenerId, kind: ListenerKind, listener: Arc<OwnedFd>) {
        for linked in self.all.values().filter(|linked| linked.part == Part::Serves) {
            linked.link.add_listener(id.clone(), kind.clone(), Arc::clone(&listener));
        }
        self.listeners.insert(id, (kind, listener));
    }

    /// Has them accept there no longer.
    pub(crate) fn remove_listener(&mut self, id: &str) {
        self.listeners.remove(id);
        self.all.values().for_each(|linked| linked.link.remove_listener(id));
    }

    /// Passes the folders that have the roots of routes to the one of the own program. Others may not know what they are.
    pub(crate) fn pass_folders(&mut self, folders: BTreeSet<PathBuf>) {
        for linked in self.all.values().filter(|linked| linked.other.is_none()) {
            linked.link.pass_folders(folders.clone());
        }
        self.folders = folders;
    }

    /// Gives documents that pages show to the one of the own program, in place of those that it has. Others may not know what they are.
    pub(crate) fn pass_documents(&mut self, documents: Documents) {
        for linked in self.all.values().filter(|linked| linked.other.is_none()) {
            linked.link.pass_documents(documents.clone());
        }
        self.documents = documents;
    }

    /// Has the one of the own program remove what is stored. Others may not know what that is; they serve those who are connected to them, and leave.
    pub(crate) fn purge_cache(&self, number: u64, purge: CachePurge) {
        for linked in self.all.values().filter(|linked| linked.other.is_none()) {
            linked.link.purge_cache(number, purge.clone());
        }
    }

    /// How much the own one has stored.
    pub(crate) fn cache(&self) -> CacheStatus {
        self.all.get(&self.own).map(|linked| linked.cache).unwrap_or_default()
    }

    /// Gives sockets made in a run's network to whoever asked for them first, else to one that serves.
    pub(crate) fn give_sockets(&mut self, run: RunId, sockets: Vec<OwnedFd>) {
        let asked = self.asked.get_mut(&run).and_then(VecDeque::pop_front);
        self.asked.retain(|_, waiting| !waiting.is_empty());
        let asked = asked.and_then(|program| self.all.get(&program));
        let serving = || self.all.values().rfind(|linked| linked.part == Part::Serves);
        if let Some(linked) = asked.or_else(serving) {
            linked.link.give_sockets(run, sockets);
        }
    }

    /// Replaces what they know of services and routes.
    pub(crate) fn publish(&mut self, snapshot: Snapshot) {
        let version = snapshot.version;
        let is_left = snapshot.edges_left();
        self.past_edges.retain(|edge, _| is_left(edge));
        self.all.values_mut().for_each(|linked| linked.edges.retain(|edge, _| is_left(edge)));
        drop(is_left);
        let snapshot = Arc::new(ToProxy::Snapshot(Box::new(snapshot)));
        self.all.values().for_each(|linked| linked.link.publish(version, Arc::clone(&snapshot)));
        self.snapshot = Some((version, snapshot));
    }

    /// Notes what one says, as far as it is of one proxy alone. Returns a run that has no request at any of them.
    pub(crate) fn hear(&mut self, program: u64, event: &LinkEvent) -> Option<RunId> {
        let linked = self.all.get_mut(&program)?;
        match event {
            LinkEvent::Connected | LinkEvent::Lost { .. } => {
                linked.uses = match linked.uses {
                    Uses::None => Uses::None,
                    Uses::Earlier | Uses::Version(_) => Uses::Earlier,
                };
                linked.drained.clear();
                self.note_used();
            }
            LinkEvent::Message(FromProxy::Hello { version, .. }) => {
                linked.version = Some(version.clone());
                if let (Part::Leaves, Some(other)) = (linked.part, &mut linked.other) {
                    other.kill_at = Some(Instant::now() + RETIRE_MAX + KILL_AFTER);
                }
            }
            LinkEvent::Message(FromProxy::Applied { version }) => {
                linked.uses = Uses::Version(*version);
                self.note_used();
            }
            LinkEvent::Message(FromProxy::Counts { services, handshakes, cache, .. }) => {
                linked.has_told = true;
                linked.counts.clone_from(services);
                linked.cache = *cache;
                linked.handshakes.clone_from(handshakes);
            }
            LinkEvent::Message(FromProxy::Edges { edges }) => linked.edges.extend(edges.iter().cloned()),
            LinkEvent::Message(FromProxy::Outside { service, destinations }) => {
                linked.outside.insert(service.clone(), destinations.clone());
            }
            LinkEvent::Message(FromProxy::Drained { run }) => {
                let run = RunId(*run);
                linked.drained.insert(run);
                return self.is_drained(run).then_some(run);
            }
            LinkEvent::Message(FromProxy::NeedSockets { run }) => {
                let asked = self.asked.entry(RunId(*run)).or_default();
                if !asked.contains(&program) {
                    asked.push_back(program);
                }
            }
            LinkEvent::Message(
                FromProxy::Refused { .. }
                | FromProxy::EgressRefused { .. }
                | FromProxy::Lost { .. }
                | FromProxy::Work { .. }
                | FromProxy::CachePurged { .. }
                | FromProxy::Wanted { .. },
            ) => {}
        }
        None
    }

    fn is_drained(&self, run: RunId) -> bool {
        self.all.values().all(|linked| linked.drained.contains(&run))
    }

    /// What they counted together, by service.
    pub(crate) fn counts(&self) -> BTreeMap<String, Counts> {
        let mut sum = self.past.clone();
        for (service, counts) in self.all.values().flat_map(|linked| &linked.counts) {
            sum.entry(service.clone()).or_default().add(counts);
        }
        sum
    }

    /// What they counted together, by where requests came from. `None` as long as one has not told what it counted before this daemon came:
    /// what there is would look as if all began anew.
    pub(crate) fn edges(&self) -> Option<Edges> {
        if !self.all.values().all(|linked| linked.has_told) {
            return None;
        }
        let mut sum = self.past_edges.clone();
        for (edge, counts) in self.all.values().flat_map(|linked| &linked.edges) {
            sum.entry(edge.clone()).or_default().add(counts);
        }
        Some(sum)
    }

    /// Beginnings of TLS at all of them.
    pub(crate) fn handshakes(&self) -> Handshakes {
        let mut sum = self.past_handshakes.clone();
        self.all.values().for_each(|linked| sum.add(&linked.handshakes));
        sum
    }

    /// What a service did outside, by all of them that are there.
    pub(crate) fn outside(&self, service: &str) -> Vec<Outgoing> {
        let mut lists = self.all.values().filter_map(|linked| linked.outside.get(service));
        let mut sum = lists.next().cloned().unwrap_or_default();
        for outgoing in lists.flatten() {
            match sum.iter_mut().find(|known| known.to == outgoing.to) {
                Some(known) => known.counts = both(known.counts, outgoing.counts),
                None => sum.push(outgoing.clone()),
            }
        }
        sum
    }

    /// A service has gone.
    pub(crate) fn forget(&mut self, service: &str) {
        self.past.remove(service);
        for linked in self.all.values_mut() {
            linked.counts.remove(service);
            linked.outside.remove(service);
        }
    }

    /// Whether there is one of this program, or is to be.
    pub(crate) fn has(&self, program: u64) -> bool {
        self.all.contains_key(&program)
    }

    /// Whether it is the one of this program that whoever comes meets, as far as that can be said.
    pub(crate) fn serves_newcomers(&self, program: u64) -> bool {
        let serving = self.all.iter().rfind(|(_, linked)| linked.part == Part::Serves);
        serving.is_some_and(|(serving, _)| *serving == program)
    }

    /// The oldest snapshot that somebody is served by, as it changes: 0 while that is one that nobody here knows.
    pub(crate) fn used(&self) -> watch::Receiver<u64> {
        self.used.subscribe()
    }

    /// Has those hear of it who wait.
    fn note_used(&self) {
        let serving = self.all.values().filter(|linked| linked.part == Part::Serves);
        let used = serving.filter_map(|linked| match linked.uses {
            Uses::None => None,
            Uses::Earlier => Some(0),
            Uses::Version(version) => Some(version),
        });
        self.used.send_replace(used.min().unwrap_or(u64::MAX));
    }

    /// Whether the own one uses a snapshot.
    pub(crate) fn own_is_well(&self) -> bool {
        self.all.get(&self.own).is_some_and(|linked| matches!(linked.uses, Uses::Version(_)))
    }

    /// Makes it so that the own one serves, and the others leave, as far as that may be. `is_trial` says that the upgrade is not settled.
    pub(crate) fn step(&mut self, now: Instant, is_trial: bool) {
        let others_serve =
            self.all.iter().any(|(program, linked)| *program != self.own && linked.part == Part::Serves);
        let Some(own) = self.all.get_mut(&self.own) else { return };
        if own.part == Part::Tried && !(is_trial && others_serve) {
            own.part = Part::Serves;
            for (id, (kind, listener)) in &self.listeners {
                own.link.add_listener(id.clone(), kind.clone(), Arc::clone(listener));
            }
        }
        if is_trial || !matches!(own.uses, Uses::Version(_)) {
            return;
        }
        for (program, linked) in &mut self.all {
            if *program != self.own && linked.part == Part::Serves {
                linked.part = Part::Leaves;
                linked.link.retire(RETIRE_MAX);
                if let Some(other) = &mut linked.other {
                    let patience =
                        if linked.version.is_some() { RETIRE_MAX + KILL_AFTER } else { SILENCE_MAX };
                    other.kill_at = Some(now + patience);
                }
            }
        }
        self.note_used();
    }

    /// When one is killed that does not leave.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.all.values().filter_map(|linked| linked.other.as_ref()?.kill_at).min()
    }

    /// Kills those that do not leave.
    pub(crate) fn kill_late(&mut self, now: Instant) {
        for other in self.all.values_mut().filter_map(|linked| linked.other.as_mut()) {
            if other.kill_at.is_some_and(|at| at <= now) {
                other.kill_at = None;
                tracing::warn!("a mesh proxy that was to leave does not end: killing it");
                let _ = watt_os::pidfd::send_signal(&other.main.pidfd, SIGKILL);
            }
        }
    }

    /// A process has ended. `None` when it is not that of another program's; else that program, and the runs that have no request
    /// at any of those that are left.
    pub(crate) fn other_ended(&mut self, run: u64) -> Option<(u64, Vec<RunId>)> {
        let is_it = |linked: &Linked| linked.other.as_ref().is_some_and(|other| other.run == run);
        let program = self.all.iter().find(|(_, linked)| is_it(linked)).map(|(program, _)| *program)?;
        let gone = self.all.remove(&program)?;
        self.note_used();
        self.past_handshakes.add(&gone.handshakes);
        for (edge, counts) in gone.edges {
            self.past_edges.entry(edge).or_default().add(&counts);
        }
        for (service, counts) in gone.counts {
            let ended = Counts { in_flight: 0, held: 0, breaker_is_open: false, ejected: 0, ..counts };
            self.past.entry(service).or_default().add(&ended);
        }
        self.asked.values_mut().for_each(|waiting| waiting.retain(|asked| *asked != program));
        let drained = self.all.values().flat_map(|linked| &linked.drained).copied().collect::<BTreeSet<_>>();
        Some((program, drained.into_iter().filter(|run| self.is_drained(*run)).collect()))
    }

    /// All of them.
    pub(crate) fn view(&self) -> Vec<View> {
        let view = |linked: &Linked| View {
            other: linked.other.as_ref().map(|other| (other.main.pid, other.path.clone())),
            version: linked.version.clone(),
            part: linked.part,
        };
        self.all.values().map(view).collect()
    }
}

fn both(one: OutgoingCounts, other: OutgoingCounts) -> OutgoingCounts {
    OutgoingCounts {
        connections: one.connections + other.connections,
        open: one.open + other.open,
        failed: one.failed + other.failed,
        refused: one.refused + other.refused,
        sent: one.sent + other.sent,
        received: one.received + other.received,
        connect_us_total: one.connect_us_total + other.connect_us_total,
        connect_us_max: one.connect_us_max.max(other.connect_us_max),
        last_ms: one.last_ms.max(other.last_ms),
    }
}

#[cfg(test)]
mod tests;
