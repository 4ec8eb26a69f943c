//! What one thread accepts: a task for each listener, and one for each connection.
//!
//! A service's listener holds a bounded number of connections. When it has them all it stops accepting, and further clients
//! wait in the kernel's queue: a service that opens connections without end takes its own share of the proxy's
//! descriptors, and nobody else's. How many there may be in all is up to [`crate::room`].

use std::{
    collections::HashMap,
    io,
    net::{TcpListener as StdTcpListener, UdpSocket as StdUdpSocket},
    os::{fd::OwnedFd, unix::net::UnixListener as StdUnixListener},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use nix::errno::Errno;
use socket2::{Domain, SockRef};
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream},
    sync::Semaphore,
    task::{self, AbortHandle, JoinSet},
    time::sleep,
};
use watt_api::mesh::{ListenerId, ListenerKind};

use crate::{
    context::Context,
    dns::Answerer,
    egress, host_port,
    http::{self, Client, Side},
    mesh_port,
    room::{ConnectionsMax, Pool, Room},
};

/// The wait after an error that means "not now", and what it grows to.
const BACKOFF_FIRST: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// For a listener of many clients, which has no share of its own in its pool.
const SHARED: usize = Semaphore::MAX_PERMITS;

/// The listeners of one thread.
pub(crate) struct Listeners {
    context: Rc<Context>,
    connections_max: ConnectionsMax,
    outside: Rc<Room>,
    inside: Rc<Room>,
    open: HashMap<ListenerId, AbortHandle>,
    tasks: JoinSet<()>,
}

impl Listeners {
    /// None yet.
    pub(crate) fn new(context: Rc<Context>, connections_max: ConnectionsMax) -> Self {
        let room = |pool| Rc::new(Room::new(pool, connections_max.pool));
        let (outside, inside) = (room(Pool::Gateway), room(Pool::Services));
        Self { context, connections_max, outside, inside, open: HashMap::new(), tasks: JoinSet::new() }
    }

    /// Accepts there from now on. False when that is not possible.
    pub(crate) fn add(&mut self, id: &ListenerId, kind: ListenerKind, listener: OwnedFd) -> bool {
        match self.start(id, kind, listener) {
            Ok(task) => drop(self.open.insert(id.clone(), task)),
            Err(error) => {
                tracing::error!(%id, %error, "a listener cannot be used");
                return false;
            }
        }
        true
    }

    /// Waits until one ends by itself: it is of no use any longer, or its task has a bug. `None` when none is left.
    pub(crate) async fn ended(&mut self) -> Option<ListenerId> {
        loop {
            let task = match self.tasks.join_next_with_id().await? {
                Ok((task, ())) => task,
                Err(error) => error.id(),
            };
            // Those that were removed are not in there.
            let ended = self.open.extract_if(|_, open| open.id() == task).next();
            if let Some((id, _)) = ended {
                return Some(id);
            }
        }
    }

    /// Accepts there no longer. Its connections live on.
    pub(crate) fn remove(&mut self, id: &str) {
        if let Some(task) = self.open.remove(id) {
            task.abort();
        }
    }

    /// Accepts nowhere any longer.
    pub(crate) fn remove_all(&mut self) {
        self.open.drain().for_each(|(_, task)| task.abort());
    }

    fn start(&mut self, id: &ListenerId, kind: ListenerKind, listener: OwnedFd) -> io::Result<AbortHandle> {
        let context = Rc::clone(&self.context);
        let caller_max = self.connections_max.caller;
        let task = match kind {
            ListenerKind::Gateway { thread: _ } => {
                let serve = async |context: Rc<Context>, stream| gateway(&context, stream).await;
                self.accept(id, tcp(listener)?, Pool::Gateway, SHARED, serve)
            }
            ListenerKind::Mesh { caller } => {
                let caller: Rc<str> = caller.into();
                let serve = async move |context: Rc<Context>, stream| {
                    mesh_port::serve(&context, Rc::clone(&caller), stream).await;
                };
                self.accept(id, tcp(listener)?, Pool::Services, caller_max, serve)
            }
            ListenerKind::MeshUnix { caller } => {
                let caller: Rc<str> = caller.into();
                let serve = async move |context: Rc<Context>, stream| {
                    let caller = context.view().callers.over_unix_of(&caller, &stream);
                    mesh_unix(&context, Some(caller), stream).await;
                };
                self.accept(id, unix(listener)?, Pool::Services, caller_max, serve)
            }
            ListenerKind::MeshHost if is_unix(&listener)? => {
                let serve = async |context: Rc<Context>, stream| mesh_host_unix(&context, stream).await;
                self.accept(id, unix(listener)?, Pool::Services, SHARED, serve)
            }
            ListenerKind::MeshHost => {
                let serve = async |context: Rc<Context>, stream| mesh_host_tcp(&context, stream).await;
                self.accept(id, tcp(listener)?, Pool::Services, SHARED, serve)
            }
            ListenerKind::Egress { caller } => {
                let caller: Rc<str> = caller.into();
                let serve = async move |context: Rc<Context>, stream| {
                    let _tunnel = context.tunnel();
                    egress::serve(&context, &caller, stream).await;
                };
                self.accept(id, tcp(listener)?, Pool::Services, caller_max, serve)
            }
            ListenerKind::HostPort { caller, port } => {
                let caller: Rc<str> = caller.into();
                let serve = async move |context: Rc<Context>, stream| {
                    let _tunnel = context.tunnel();
                    host_port::serve(&context, &caller, port, stream).await;
                };
                self.accept(id, tcp(listener)?, Pool::Services, caller_max, serve)
            }
            ListenerKind::DnsUdp { caller: _ } => {
                let socket = StdUdpSocket::from(listener);
                socket.set_nonblocking(true)?;
                let socket = Rc::new(UdpSocket::from_std(socket)?);
                let answerer = answerer(context);
                self.tasks.spawn_local(dns_udp(id.clone(), answerer, socket))
            }
            ListenerKind::DnsTcp { caller: _ } => {
                let answerer = answerer(context);
                let serve = async move |_: Rc<Context>, stream| answerer.serve_tcp(stream).await;
                self.accept(id, tcp(listener)?, Pool::Services, caller_max, serve)
            }
        };
        Ok(task)
    }
    /// Accepts in a task and serves each connection in one of its own, so that a panic costs one connection.
    fn accept<L: Accept>(
        &mut self,
        id: &ListenerId,
        listener: L,
        pool: Pool,
        connections_max: usize,
        serve: impl AsyncFn(Rc<Context>, L::Stream) + 'static,
    ) -> AbortHandle {
        let (id, serve, context) = (id.clone(), Rc::new(serve), Rc::clone(&self.context));
        let room = Rc::clone(match pool {
            Pool::Gateway => &self.outside,
            Pool::Services => &self.inside,
        });
        let connections = Arc::new(Semaphore::new(connections_max));
        self.tasks.spawn_local(async move {
            let mut patience = Patience::default();
            // The semaphore is never closed.
            while let Ok(connection) = Arc::clone(&connections).acquire_owned().await {
                let stream = match listener.accept().await {
                    Ok(stream) => stream,
                    Err(error) => match patience.after(&id, &error) {
                        Some(wait) => {
                            sleep(wait).await;
                            continue;
                        }
                        None => return,
                    },
                };
                patience = Patience::default();
                let place = room.enter(&context.thread.clock).await;
                let (context, serve) = (Rc::clone(&context), Rc::clone(&serve));
                task::spawn_local(async move {
                    serve(context, stream).await;
                    drop((connection, place));
                });
            }
        })
    }
}

fn answerer(context: Rc<Context>) -> Rc<Answerer> {
    Answerer::new(move || Arc::clone(&context.view().zone))
}

fn tcp(listener: OwnedFd) -> io::Result<TcpListener> {
    let listener = StdTcpListener::from(listener);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn unix(listener: OwnedFd) -> io::Result<UnixListener> {
    let listener = StdUnixListener::from(listener);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

fn is_unix(listener: &OwnedFd) -> io::Result<bool> {
    Ok(SockRef::from(listener).domain()? == Domain::UNIX)
}

/// A listener of either kind.
trait Accept: 'static {
    type Stream: 'static;
    async fn accept(&self) -> io::Result<Self::Stream>;
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn accept(&self) -> io::Result<TcpStream> {
        Ok(TcpListener::accept(self).await?.0)
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        Ok(UnixListener::accept(self).await?.0)
    }
}

/// UDP has no connections; the socket's errors are treated like those of accept.
async fn dns_udp(id: ListenerId, answerer: Rc<Answerer>, socket: Rc<UdpSocket>) {
    let mut patience = Patience::default();
    loop {
        let error = answerer.serve_udp(Rc::clone(&socket)).await;
        match patience.after(&id, &error) {
            Some(wait) => sleep(wait).await,
            None => return,
        }
    }
}

/// Errors in a row, to wait longer each time and to be told once.
#[derive(Debug, Default)]
struct Patience {
    wait: Option<Duration>,
}

impl Patience {
    /// How long to wait before the next try; `None` when there is no use in trying.
    fn after(&mut self, id: &str, error: &io::Error) -> Option<Duration> {
        let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
        match errno {
            Errno::EBADF | Errno::EINVAL | Errno::ENOTSOCK | Errno::EOPNOTSUPP => {
                tracing::error!(%id, %error, "a listener is no longer of use");
                return None;
            }
            // The affair of one client, which is gone (accept(2)): the next one may be there already.
            Errno::ECONNABORTED | Errno::EPERM | Errno::ECONNREFUSED => return Some(Duration::ZERO),
            _ => {}
        }
        if self.wait.is_none() {
            tracing::warn!(%id, %error, "cannot accept for the moment");
        }
        let wait = self.wait.map_or(BACKOFF_FIRST, |wait| BACKOFF_MAX.min(wait * 2));
        self.wait = Some(wait);
        Some(wait)
    }
}

async fn gateway(context: &Context, stream: TcpStream) {
    let client = tcp_client(Side::Gateway, &stream);
    http::serve(&context.thread, stream, client).await;
}

async fn mesh_host_tcp(context: &Context, stream: TcpStream) {
    let ends = (stream.peer_addr(), stream.local_addr());
    let caller = match ends {
        (Ok(peer), Ok(local)) => context.view().callers.over_tcp(peer, local),
        // It ended before it was accepted.
        _ => return,
    };
    let client = tcp_client(Side::Mesh { caller: caller.name() }, &stream);
    http::serve(&context.thread, stream, client).await;
}

async fn mesh_host_unix(context: &Context, stream: UnixStream) {
    let caller = context.view().callers.over_unix(&stream);
    mesh_unix(context, caller.name(), stream).await;
}

async fn mesh_unix(context: &Context, caller: Option<Rc<str>>, stream: UnixStream) {
    let client = Client { side: Side::Mesh { caller }, peer: None, local: None, tls: false };
    http::serve(&context.thread, stream, client).await;
}

/// What is known of a client over TCP. Its addresses are missing when it is gone already, which its first read
/// will show.
pub(crate) fn tcp_client(side: Side, stream: &TcpStream) -> Client {
    Client { side, peer: stream.peer_addr().ok(), local: stream.local_addr().ok(), tls: false }
}
