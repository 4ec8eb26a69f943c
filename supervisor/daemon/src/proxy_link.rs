//! The daemon's end of the link to the mesh proxy (`watt_api::mesh`).
//!
//! The loop says what the proxy should know; a task beside it makes that so, again from the start whenever the connection is a
//! new one. What is kept is a state and not a queue of messages: a proxy that is slow or away costs the
//! daemon no memory, and never makes it wait.
//!
//! The listener of `proxy.sock` is held by the spawner, so that a connection made while the proxy is replaced waits for the new
//! one and is not refused.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::Interest,
    net::UnixStream,
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use watt_api::mesh::{self, CachePurge, FromProxy, ListenerId, ListenerKind, ToProxy};
use watt_core::RunId;

use crate::{apis::Documents, folders};

/// The most descriptors in one message: SCM_MAX_FD of unix(7) is 253.
const SOCKETS_PER_MESSAGE_MAX: usize = 250;

/// Batches of sockets kept for a proxy that does not take them. It asks again for what it misses.
const SOCKETS_WAITING_MAX: usize = 64;

/// Purges kept for a proxy that does not take them.
const PURGES_WAITING_MAX: usize = 256;

/// The largest message from the proxy. The counts of a thousand services take a tenth of it.
const FROM_PROXY_SIZE_MAX: usize = 4 << 20;

/// What is kept to read its messages into, in bytes. Counts of many services are larger, and mostly far apart.
const READ_AT_LEAST: usize = 4 << 10;

/// The wait before the first attempt to connect again, and the longest one.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));

/// What the link tells the loop.
#[derive(Debug)]
pub enum LinkEvent {
    /// Connected, perhaps to a proxy that is still starting.
    Connected,
    /// The connection ended. Another one is on its way.
    Lost {
        /// Why, when it was not just closed.
        error: Option<io::Error>,
    },
    /// A message.
    Message(FromProxy),
}

/// The loop's handle. The task ends when it is dropped.
#[derive(Debug)]
pub struct ProxyLink {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    desired: Mutex<Desired>,
    changed: Notify,
}

/// What the proxy should know.
#[derive(Debug, Default)]
struct Desired {
    listeners: BTreeMap<ListenerId, (ListenerKind, Arc<OwnedFd>)>,
    /// Folders that have the roots of routes.
    folders: BTreeSet<PathBuf>,
    /// Documents that pages show.
    documents: Documents,
    /// The last snapshot with its version, as the message that it is sent in.
    snapshot: Option<(u64, Arc<ToProxy>)>,
    /// It is to accept nothing more, and to end within this time.
    retire: Option<Duration>,
    /// What is to be removed of what is stored, once, with numbers; the oldest are dropped when there are too many, and whoever waits for those hears nothing.
    purges: VecDeque<(u64, CachePurge)>,
    /// To be given away once; the oldest are dropped when there are too many.
    sockets: VecDeque<(RunId, Vec<OwnedFd>)>,
    /// What it was told on the present connection, when there is one.
    told: Option<Told>,
}

/// What the proxy was told.
#[derive(Debug, Default)]
struct Told {
    listeners: BTreeSet<ListenerId>,
    /// Listeners that it has to be told of: new ones, and told ones that have gone. Kept, because looking for them among
    /// all for every message would take a start of thousands of services the square of their number.
    pending: BTreeSet<ListenerId>,
    /// Folders that it has to get, or to get anew.
    folders: BTreeSet<PathBuf>,
    /// The same of documents.
    documents: BTreeSet<String>,
    version: Option<u64>,
    /// Whether it is told to retire.
    retired: bool,
    /// Whether it used one of the snapshots.
    applied: bool,
}

/// The next thing to tell.
enum Next {
    Add(ListenerId, ListenerKind, Arc<OwnedFd>),
    Remove(ListenerId),
    Retire(Duration),
    Folder(PathBuf),
    Document(String, Arc<str>),
    Snapshot(Arc<ToProxy>),
    Purge(u64, CachePurge),
    Sockets(RunId, Vec<OwnedFd>),
}

impl ProxyLink {
    /// Starts to connect to the proxy at `socket`, whose events come with this number.
    pub fn start(number: u64, socket: PathBuf, events: mpsc::Sender<(u64, LinkEvent)>) -> ProxyLink {
        let shared = Arc::new(Shared::default());
        let events = Events { number, sender: events };
        let task = tokio::spawn(run(socket, Arc::clone(&shared), events));
        ProxyLink { shared, task }
    }

    /// Has the proxy accept on this listener.
    pub fn add_listener(&self, id: ListenerId, kind: ListenerKind, listener: Arc<OwnedFd>) {
        self.change(|desired| {
            desired.listeners.insert(id.clone(), (kind, listener));
            desired.changed(&id);
        });
    }

    /// Has it accept there no longer.
    pub fn remove_listener(&self, id: &str) {
        self.change(|desired| {
            desired.listeners.remove(id);
            desired.changed(id);
        });
    }

    /// Gives sockets made in a run's network to it. They reach one proxy only: a new one asks for its own.
    pub fn give_sockets(&self, run: RunId, mut sockets: Vec<OwnedFd>) {
        self.change(|desired| {
            while !sockets.is_empty() {
                let rest = sockets.split_off(sockets.len().min(SOCKETS_PER_MESSAGE_MAX));
                desired.sockets.push_back((run, sockets));
                sockets = rest;
            }
            while desired.sockets.len() > SOCKETS_WAITING_MAX {
                desired.sockets.pop_front();
            }
        });
    }

    /// Has it remove what is stored.
    pub fn purge_cache(&self, number: u64, purge: CachePurge) {
        self.change(|desired| {
            desired.purges.push_back((number, purge));
            while desired.purges.len() > PURGES_WAITING_MAX {
                desired.purges.pop_front();
            }
        });
    }

    /// Passes these folders, which the next snapshot's routes need, those that it has as well: others may be there by now.
    pub fn pass_folders(&self, folders: BTreeSet<PathBuf>) {
        self.change(|desired| {
            if let Some(told) = &mut desired.told {
                told.folders.clone_from(&folders);
            }
            desired.folders = folders;
        });
    }

    /// Gives it documents that pages show, in place of those that it has. It shows them with the next snapshot.
    pub(crate) fn pass_documents(&self, documents: Documents) {
        self.change(|desired| {
            if let Some(told) = &mut desired.told {
                let differs = |id: &&String| documents.get(*id) != desired.documents.get(*id);
                told.documents.extend(documents.keys().filter(differs).cloned());
            }
            desired.documents = documents;
        });
    }

    /// Replaces what it knows of services and routes, by a [`ToProxy::Snapshot`] with this version, which must be larger than the last
    /// one's.
    pub fn publish(&self, version: u64, snapshot: Arc<ToProxy>) {
        self.change(|desired| desired.snapshot = Some((version, snapshot)));
    }

    /// Has it accept nowhere any longer, and end when nobody is connected, or when this time is over.
    pub fn retire(&self, within: Duration) {
        self.change(|desired| {
            desired.retire = Some(within);
            // It closes them by itself, and needs to hear of none.
            desired.listeners.clear();
            desired.told.iter_mut().for_each(|told| told.pending.clear());
        });
    }

    fn change(&self, change: impl FnOnce(&mut Desired)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_one();
    }
}

impl Drop for ProxyLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Desired> {
        // Nothing panics while it holds the lock, and the state would be whole if it did.
        self.desired.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new connection, to a proxy that knows nothing.
    fn connected(&self) {
        let mut desired = self.lock();
        let pending = desired.listeners.keys().cloned().collect();
        let folders = desired.folders.clone();
        let documents = desired.documents.keys().cloned().collect();
        desired.told = Some(Told { pending, folders, documents, ..Told::default() });
    }

    /// The connection has ended. Returns whether the proxy had all of it that it was to be told first.
    fn lost(&self) -> bool {
        self.lock().told.take().is_some_and(|told| told.applied)
    }

    /// The proxy uses a snapshot of this connection.
    fn applied(&self) {
        if let Some(told) = &mut self.lock().told {
            told.applied = true;
        }
    }

    fn next(&self) -> Option<Next> {
        self.lock().next()
    }
}

impl Desired {
    /// Notes that a listener came or went, after it did.
    fn changed(&mut self, id: &str) {
        let Some(told) = &mut self.told else { return };
        if self.listeners.contains_key(id) == told.listeners.contains(id) {
            // One that goes before the proxy heard of it is no news. A proxy that does not read costs no more than what
            // it was told and what there is.
            told.pending.remove(id);
        } else {
            told.pending.insert(id.to_owned());
        }
    }

    /// The next thing the proxy was not told yet on this connection. A snapshot waits for the listeners, because the proxy drops
    /// those it has not heard of by then; sockets wait for the snapshot that names their run.
    fn next(&mut self) -> Option<Next> {
        let told = self.told.as_mut()?;
        if let (Some(within), false) = (self.retire, told.retired) {
            told.retired = true;
            return Some(Next::Retire(within));
        }
        if let Some(id) = told.pending.pop_first() {
            let Some((kind, listener)) = self.listeners.get(&id) else {
                told.listeners.remove(&id);
                return Some(Next::Remove(id));
            };
            told.listeners.insert(id.clone());
            return Some(Next::Add(id, kind.clone(), Arc::clone(listener)));
        }
        if let Some(folder) = told.folders.pop_first() {
            return Some(Next::Folder(folder));
        }
        while let Some(id) = told.documents.pop_first() {
            if let Some(body) = self.documents.get(&id) {
                return Some(Next::Document(id, Arc::clone(body)));
            }
        }
        let (version, snapshot) = self.snapshot.as_ref()?;
        if told.version != Some(*version) {
            told.version = Some(*version);
            return Some(Next::Snapshot(Arc::clone(snapshot)));
        }
        if let Some((number, purge)) = self.purges.pop_front() {
            return Some(Next::Purge(number, purge));
        }
        self.sockets.pop_front().map(|(run, sockets)| Next::Sockets(run, sockets))
    }
}

/// Where news goes.
struct Events {
    number: u64,
    sender: mpsc::Sender<(u64, LinkEvent)>,
}

impl Events {
    /// Whether somebody takes it.
    async fn send(&self, event: LinkEvent) -> bool {
        self.sender.send((self.number, event)).await.is_ok()
    }
}

/// Connects, serves the connection until it ends, and again.
async fn run(socket: PathBuf, shared: Arc<Shared>, events: Events) {
    let mut wait = RECONNECT.0;
    while !events.sender.is_closed() {
        let error = match UnixStream::connect(&socket).await {
            Ok(stream) => {
                events.send(LinkEvent::Connected).await;
                shared.connected();
                let ended = serve(&stream, &shared, &events).await;
                // A proxy that ends each connection at once is not to be asked without a pause.
                if shared.lost() {
                    wait = RECONNECT.0;
                }
                ended.err()
            }
            Err(error) => Some(error),
        };
        events.send(LinkEvent::Lost { error }).await;
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RECONNECT.1);
    }
}

/// Both directions at once: a proxy that waits for us to read must not keep us from writing, or both would wait for ever.
async fn serve(stream: &UnixStream, shared: &Shared, events: &Events) -> io::Result<()> {
    tokio::select! {
        ended = tell(stream, shared) => ended,
        ended = listen(stream, shared, events) => ended,
    }
}

/// Tells the proxy whatever it does not know yet, for ever.
async fn tell(stream: &UnixStream, shared: &Shared) -> io::Result<()> {
    send(stream, &ToProxy::HELLO, &[]).await?;
    loop {
        let changed = shared.changed.notified();
        while let Some(next) = shared.next() {
            match next {
                Next::Add(id, kind, listener) => {
                    send(stream, &ToProxy::AddListener { id, kind }, &[listener.as_fd()]).await?;
                }
                Next::Remove(id) => send(stream, &ToProxy::RemoveListener { id }, &[]).await?,
                Next::Retire(within) => {
                    let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
                    send(stream, &ToProxy::Retire { within_ms }, &[]).await?;
                }
                Next::Folder(folder) => match folders::open(folder.clone()).await {
                    Ok(opened) => {
                        send(stream, &ToProxy::AddFolder { id: folders::id(&folder) }, &[opened.as_fd()])
                            .await?;
                    }
                    // Its files are answered with 503 until the next reload.
                    Err(error) => {
                        tracing::error!(folder = %folder.display(), %error, "cannot open a folder of files for routes");
                    }
                },
                Next::Document(id, body) => {
                    send(stream, &ToProxy::AddDocument { id, body: body.to_string() }, &[]).await?;
                }
                Next::Snapshot(snapshot) => send(stream, &snapshot, &[]).await?,
                Next::Purge(number, purge) => {
                    send(stream, &ToProxy::PurgeCache { number, purge }, &[]).await?;
                }
                Next::Sockets(run, sockets) => {
                    let descriptors: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
                    send(stream, &ToProxy::Sockets { run: run.0 }, &descriptors).await?;
                }
            }
        }
        changed.await;
    }
}

/// Sends one message. Descriptors go with its first byte alone, because a longer part may be taken by the kernel in pieces.
async fn send(stream: &UnixStream, message: &ToProxy, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut bytes = Vec::new();
    mesh::encode(message, &mut bytes).map_err(io::Error::other)?;
    let mut rest = &bytes[..];
    if let Some((first, others)) = bytes.split_first()
        && !descriptors.is_empty()
    {
        let first = std::slice::from_ref(first);
        let send = || watt_os::fdpass::send(stream.as_fd(), first, descriptors);
        stream.async_io(Interest::WRITABLE, send).await?;
        rest = others;
    }
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(sent) => rest = &rest[sent..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Hands the proxy's messages to the loop until the connection ends.
async fn listen(stream: &UnixStream, shared: &Shared, events: &Events) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(READ_AT_LEAST);
    loop {
        stream.readable().await?;
        match stream.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        while let Some((message, length)) = mesh::decode(&buffer).map_err(io::Error::other)? {
            buffer.drain(..length);
            if matches!(message, FromProxy::Applied { .. }) {
                shared.applied();
            }
            if !events.send(LinkEvent::Message(message)).await {
                return Ok(());
            }
        }
        if buffer.is_empty() {
            buffer.shrink_to(READ_AT_LEAST);
        }
        if buffer.len() > FROM_PROXY_SIZE_MAX {
            return Err(io::Error::other("the proxy sent a message that is too large"));
        }
    }
}

#[cfg(test)]
mod tests;
