//! What one thread accepts: a task for each listener, and one for each connection.
//!
//! A connection is accepted when there is a place for it, see [`crate::room`]. Further clients wait in the kernel's
//! queue, where another thread may take them, or the next proxy.

use std::{
    collections::HashMap, io, net::UdpSocket as StdUdpSocket, os::fd::OwnedFd, pin::Pin, rc::Rc,
    time::Duration,
};

use nix::errno::Errno;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{SocketFlags, accept_with},
};
use socket2::{Domain, SockRef};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::{TcpStream, UdpSocket, UnixStream},
    task::{self, AbortHandle, JoinSet},
    time::sleep,
};
use watt_api::mesh::{ListenerId, ListenerKind};

use crate::{
    caller::{Caller, UNKNOWN_CALLER},
    context::Context,
    dns::Answerer,
    egress, host_port,
    http::{self, Client, Side},
    mesh_port,
    room::{ConnectionsMax, Place, Pool, Rooms},
};

/// The wait after an error that means "not now", and what it grows to.
const BACKOFF_FIRST: Duration = Duration::from_millis(5);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// The wait before one accepts again whose task had a bug: whatever led to it may come again at once.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The listeners of one thread.
pub(crate) struct Listeners {
    context: Rc<Context>,
    rooms: Rc<Rooms>,
    open: HashMap<ListenerId, Open>,
    tasks: JoinSet<()>,
}

/// One of them.
struct Open {
    task: AbortHandle,
    accepting: Accepting,
}

/// Makes what accepts at a listener, which outlives it.
type Accepting = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()>>>>;

/// A listener that cannot be used now, with the reason.
pub(crate) struct Unused {
    pub(crate) listener: OwnedFd,
    pub(crate) error: io::Error,
}

impl Listeners {
    /// None yet.
    pub(crate) fn new(context: Rc<Context>, connections_max: ConnectionsMax) -> Self {
        let rooms = Rc::new(Rooms::new(Rc::clone(&context.thread.clock), connections_max));
        Self { context, rooms, open: HashMap::new(), tasks: JoinSet::new() }
    }

    /// Accepts there from now on. Gives the listener back when that is not possible, for lack of memory for example.
    pub(crate) fn add(
        &mut self,
        id: &ListenerId,
        kind: ListenerKind,
        listener: OwnedFd,
    ) -> Result<(), Unused> {
        let accepting = self.accepting(id, kind, listener)?;
        self.open(id, accepting);
        Ok(())
    }

    fn open(&mut self, id: &ListenerId, accepting: Accepting) {
        let task = self.tasks.spawn_local(accepting());
        self.open.insert(id.clone(), Open { task, accepting });
    }

    /// Waits until one ends by itself, which is of no use any longer. `None` when none is left. One whose task has a bug
    /// accepts again: nobody else would, and its clients would wait for ever.
    pub(crate) async fn ended(&mut self) -> Option<ListenerId> {
        loop {
            let (task, has_bug) = match self.tasks.join_next_with_id().await? {
                Ok((task, ())) => (task, false),
                Err(error) => (error.id(), error.is_panic()),
            };
            // Those that were removed are not in there.
            let Some((id, open)) = self.open.iter_mut().find(|(_, open)| open.task.id() == task) else {
                continue;
            };
            if has_bug {
                tracing::error!(%id, "a listener's task had a bug");
                let again = (open.accepting)();
                open.task = self.tasks.spawn_local(async {
                    sleep(AGAIN_AFTER).await;
                    again.await;
                });
                continue;
            }
            let id = id.clone();
            self.open.remove(&id);
            return Some(id);
        }
    }

    /// Accepts there no longer. Its connections live on.
    pub(crate) fn remove(&mut self, id: &str) {
        if let Some(open) = self.open.remove(id) {
            open.task.abort();
        }
    }

    /// Accepts nowhere any longer.
    pub(crate) fn remove_all(&mut self) {
        self.open.drain().for_each(|(_, open)| open.task.abort());
    }

    fn accepting(&self, id: &ListenerId, kind: ListenerKind, listener: OwnedFd) -> Result<Accepting, Unused> {
        match kind {
            ListenerKind::Gateway { thread: _ } => {
                let serve = async |context: Rc<Context>, stream, _place| gateway(&context, stream).await;
                self.accept(id, listener, Pool::Gateway, None, serve)
            }
            ListenerKind::Mesh { caller } => {
                self.accept_of(id, listener, caller, async |context, caller, stream| {
                    mesh_port::serve(&context, caller, stream).await;
                })
            }
            ListenerKind::MeshUnix { caller } => {
                self.accept_of(id, listener, caller, async |context, caller, stream| {
                    let caller = context.view().callers.over_unix_of(&caller, &stream);
                    mesh_unix(&context, Some(caller), stream).await;
                })
            }
            ListenerKind::MeshHost if is_unix(&listener) => {
                let rooms = Rc::clone(&self.rooms);
                let serve = async move |context: Rc<Context>, stream, door| {
                    mesh_host_unix(&context, &rooms, door, stream).await;
                };
                self.accept(id, listener, Pool::Operators, None, serve)
            }
            ListenerKind::MeshHost => {
                let rooms = Rc::clone(&self.rooms);
                let serve = async move |context: Rc<Context>, stream, door| {
                    mesh_host_tcp(&context, &rooms, door, stream).await;
                };
                self.accept(id, listener, Pool::Services, None, serve)
            }
            ListenerKind::Egress { caller } => {
                self.accept_of(id, listener, caller, async |context, caller, stream| {
                    let _tunnel = context.tunnel();
                    egress::serve(&context, &caller, stream).await;
                })
            }
            ListenerKind::HostPort { caller, port } => {
                self.accept_of(id, listener, caller, async move |context, caller, stream| {
                    let _tunnel = context.tunnel();
                    host_port::serve(&context, &caller, port, stream).await;
                })
            }
            ListenerKind::DnsUdp { caller } => {
                let socket = Rc::new(udp_socket(listener)?);
                let (id, answerer) = (id.clone(), answerer(&caller, Rc::clone(&self.context)));
                Ok(Box::new(move || Box::pin(dns_udp(id.clone(), Rc::clone(&answerer), Rc::clone(&socket)))))
            }
            ListenerKind::DnsTcp { caller } => {
                let answerer = answerer(&caller, Rc::clone(&self.context));
                self.accept_of(id, listener, caller, async move |_, _, stream| {
                    answerer.serve_tcp(stream).await
                })
            }
        }
    }

    /// The same for a listener that only this service can reach.
    fn accept_of<S: Accepted>(
        &self,
        id: &ListenerId,
        listener: OwnedFd,
        caller: String,
        serve: impl AsyncFn(Rc<Context>, Rc<str>, S) + 'static,
    ) -> Result<Accepting, Unused> {
        let caller: Rc<str> = caller.into();
        let service = Some(Rc::clone(&caller));
        let serve = async move |context, stream, _place| serve(context, Rc::clone(&caller), stream).await;
        self.accept(id, listener, Pool::Services, service, serve)
    }

    /// Accepts in a task and serves each connection in one of its own, so that a panic costs one connection. `serve`
    /// has the connection's place for as long as it takes.
    fn accept<S: Accepted>(
        &self,
        id: &ListenerId,
        listener: OwnedFd,
        pool: Pool,
        service: Option<Rc<str>>,
        serve: impl AsyncFn(Rc<Context>, S, Place) + 'static,
    ) -> Result<Accepting, Unused> {
        let listener = Rc::new(watched(listener)?);
        let (id, serve) = (id.clone(), Rc::new(serve));
        let (context, rooms) = (Rc::clone(&self.context), Rc::clone(&self.rooms));
        Ok(Box::new(move || {
            let (listener, id, serve) = (Rc::clone(&listener), id.clone(), Rc::clone(&serve));
            let (context, rooms, service) = (Rc::clone(&context), Rc::clone(&rooms), service.clone());
            Box::pin(async move {
                let mut patience = Patience::default();
                loop {
                    let (stream, place) = match next(&listener, &rooms, pool, service.as_ref()).await {
                        Ok(accepted) => accepted,
                        Err(error) => match patience.after(&id, &error) {
                            Some(wait) => {
                                Box::pin(sleep(wait)).await;
                                continue;
                            }
                            None => return,
                        },
                    };
                    patience = Patience::default();
                    let (context, serve) = (Rc::clone(&context), Rc::clone(&serve));
                    task::spawn_local(async move { serve(context, stream, place).await });
                }
            })
        }))
    }
}

/// Asks the kernel to tell when somebody has come.
fn watched(listener: OwnedFd) -> Result<AsyncFd<OwnedFd>, Unused> {
    if let Err(error) = SockRef::from(&listener).set_nonblocking(true) {
        return Err(Unused { listener, error });
    }
    #[expect(
        deprecated,
        reason = "its successor is unsafe; what owns a descriptor does not close it earlier"
    )]
    AsyncFd::try_with_interest(listener, Interest::READABLE).map_err(|error| {
        let (listener, error) = error.into_parts();
        Unused { listener, error }
    })
}

fn udp_socket(listener: OwnedFd) -> Result<UdpSocket, Unused> {
    let socket = listener.try_clone().map(StdUdpSocket::from).and_then(|socket| {
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    });
    socket.map_err(|error| Unused { listener, error })
}

/// Waits for the next connection and a place for it. The place comes first: a connection that was accepted can be
/// served by nobody else. And it is looked for when somebody has come, as others may have to make room.
async fn next<S: Accepted>(
    listener: &AsyncFd<OwnedFd>,
    rooms: &Rooms,
    pool: Pool,
    service: Option<&Rc<str>>,
) -> io::Result<(S, Place)> {
    loop {
        // Clients that come without a pause must not keep the thread to themselves.
        task::consume_budget().await;
        let mut ready = listener.readable().await?;
        if rooms.is_full(pool, service) && !has_come(listener)? {
            ready.clear_ready();
            continue;
        }
        // In a box of its own: most listeners never see anybody, and the room for this would be most of what each takes.
        let place = Box::pin(rooms.enter(pool, service)).await;
        let accept = |listener: &AsyncFd<OwnedFd>| {
            Ok(accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?)
        };
        // Otherwise another thread was faster.
        if let Ok(accepted) = ready.try_io(accept) {
            return Ok((S::new(accepted?)?, place));
        }
    }
}

/// Whether a connection waits to be accepted now. That the listener was readable may be long ago.
fn has_come(listener: &AsyncFd<OwnedFd>) -> io::Result<bool> {
    let mut listener = [PollFd::new(listener, PollFlags::IN)];
    Ok(poll(&mut listener, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0)
}

fn answerer(caller: &str, context: Rc<Context>) -> Rc<Answerer> {
    Answerer::new(caller.into(), move || context.view())
}

fn is_unix(listener: &OwnedFd) -> bool {
    SockRef::from(listener).domain().is_ok_and(|domain| domain == Domain::UNIX)
}

/// A connection of either kind, which does not block.
trait Accepted: Sized + 'static {
    fn new(accepted: OwnedFd) -> io::Result<Self>;
}

impl Accepted for TcpStream {
    fn new(accepted: OwnedFd) -> io::Result<Self> {
        Self::from_std(accepted.into())
    }
}

impl Accepted for UnixStream {
    fn new(accepted: OwnedFd) -> io::Result<Self> {
        Self::from_std(accepted.into())
    }
}

/// UDP has no connections; the socket's errors are treated like those of accept.
async fn dns_udp(id: ListenerId, answerer: Rc<Answerer>, socket: Rc<UdpSocket>) {
    let mut patience = Patience::default();
    loop {
        let error = answerer.serve_udp(Rc::clone(&socket)).await;
        match patience.after(&id, &error) {
            Some(wait) => Box::pin(sleep(wait)).await,
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

async fn mesh_host_tcp(context: &Context, rooms: &Rooms, door: Place, stream: TcpStream) {
    let ends = (stream.peer_addr(), stream.local_addr());
    let caller = match ends {
        (Ok(peer), Ok(local)) => context.view().callers.over_tcp(peer, local),
        // It ended before it was accepted.
        _ => return,
    };
    let Some(_place) = admit(context, rooms, door, &caller) else { return };
    let client = tcp_client(Side::Mesh { caller: caller.name() }, &stream);
    http::serve(&context.thread, stream, client).await;
}

async fn mesh_host_unix(context: &Context, rooms: &Rooms, door: Place, stream: UnixStream) {
    let caller = context.view().callers.over_unix(&stream);
    let Some(_place) = admit(context, rooms, door, &caller) else { return };
    mesh_unix(context, caller.name(), stream).await;
}

/// The place of a caller who came in by a listener of many callers.
fn admit(context: &Context, rooms: &Rooms, door: Place, caller: &Caller) -> Option<Place> {
    let (pool, service) = match caller {
        Caller::Service(service) => (Pool::Services, Some(service)),
        Caller::Operator => (Pool::Operators, None),
        Caller::Unknown => (Pool::Strangers, None),
    };
    let place = rooms.exchange(door, pool, service);
    if place.is_none() {
        let caller = service.map_or(UNKNOWN_CALLER, |service| service);
        context.refuse(Some(caller), "the mesh", "there are as many connections as may be");
    }
    place
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

#[cfg(test)]
mod tests {
    use std::{cell::Cell, net::TcpListener, num::NonZeroUsize};

    use tokio::{sync::mpsc, task::LocalSet};

    use super::*;
    use crate::{thread::Thread, timer::Clock};

    thread_local!(static BUGS: Cell<u32> = const { Cell::new(2) });

    /// A connection that cannot be accepted without a panic, the first times.
    struct Buggy(TcpStream);

    impl Accepted for Buggy {
        fn new(accepted: OwnedFd) -> io::Result<Self> {
            let left = BUGS.get();
            BUGS.set(left.saturating_sub(1));
            assert_eq!(left, 0, "a bug");
            <TcpStream as Accepted>::new(accepted).map(Buggy)
        }
    }

    #[tokio::test]
    async fn a_listener_whose_task_had_a_bug_accepts_again() {
        let (served, mut serves) = mpsc::unbounded_channel();
        let test = async {
            let context = Rc::new(Context::new(Thread::new(NonZeroUsize::MIN, |_| {}), |_| {}));
            let mut listeners = Listeners::new(context, ConnectionsMax::new(1000, 1));
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let serve = async move |_, Buggy(stream), _| served.send(stream).unwrap();
            let id = "gateway".to_owned();
            let accepting = listeners.accept(&id, listener.into(), Pool::Gateway, None, serve);
            let Ok(accepting) = accepting else { panic!("it can be used") };
            listeners.open(&id, accepting);
            let clients = async {
                loop {
                    let client = TcpStream::connect(address).await.unwrap();
                    let patience = tokio::time::timeout(AGAIN_AFTER * 2, serves.recv());
                    if let Ok(Some(accepted)) = patience.await {
                        return (client, accepted);
                    }
                }
            };
            tokio::select! {
                _ = clients => {}
                id = listeners.ended() => panic!("{id:?} ended for good"),
            }
        };
        LocalSet::new().run_until(test).await;
    }

    /// There are several for each worker in a private network.
    #[tokio::test]
    async fn a_listener_to_which_nobody_comes_is_small() {
        let rooms = Rooms::new(Clock::new(), ConnectionsMax::new(1 << 16, 1));
        let listener = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
        #[expect(deprecated, reason = "its successor is unsafe")]
        let listener = AsyncFd::with_interest(listener, Interest::READABLE).unwrap();
        let waiting = next::<TcpStream>(&listener, &rooms, Pool::Services, None);
        let size = size_of_val(&waiting);
        assert!(size <= 256, "{size} bytes");
    }
}
