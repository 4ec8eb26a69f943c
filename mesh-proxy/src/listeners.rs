//! What one thread accepts: a task for each listener at which somebody is, and one for each connection.
//!
//! A connection is accepted when there is a place for it, see [`crate::room`]. Further clients wait in the kernel's
//! queue, where another thread may take them, or the next proxy.

use std::{collections::HashMap, io, os::fd::OwnedFd, pin::Pin, rc::Rc, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::{SocketFlags, accept_with},
};
use socket2::{Domain, SockRef};
use tokio::{
    net::{TcpStream, UnixStream},
    task::{self, AbortHandle, JoinError, JoinSet},
    time::sleep,
};
use watt_api::mesh::{ListenerId, ListenerKind};

use crate::{
    bells::Bells,
    clients::{gateway, gateway_unix, mesh_host_tcp, mesh_host_unix, mesh_unix},
    context::Context,
    dns::Answerer,
    egress, host_port, mesh_port,
    patience::Patience,
    room::{ConnectionsMax, Place, Pool, Rooms},
};

/// The wait before one accepts again whose task had a bug: whatever led to it may come again at once.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// The listeners of one thread.
pub(crate) struct Listeners {
    context: Rc<Context>,
    rooms: Rc<Rooms>,
    bells: Bells,
    open: HashMap<ListenerId, Open>,
    /// The names of those that are open, by the numbers of their bells.
    names: HashMap<u64, ListenerId>,
    next_number: u64,
    tasks: JoinSet<Left>,
    /// The numbers of those that have a task.
    busy: HashMap<task::Id, u64>,
}

/// One of them.
struct Open {
    number: u64,
    listener: Rc<OwnedFd>,
    /// While somebody is there.
    task: Option<AbortHandle>,
    accepting: Accepting,
}

/// Makes what accepts at a listener, which outlives it.
type Accepting = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Left>>>>;

/// Why a listener's task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Nobody is there for the moment.
    Nobody,
    /// The listener is of no use any longer.
    Useless,
}

/// A listener that cannot be used now, with the reason.
pub(crate) struct Unused {
    pub(crate) listener: OwnedFd,
    pub(crate) error: io::Error,
}

impl Listeners {
    /// None yet.
    pub(crate) fn new(context: Rc<Context>, connections_max: ConnectionsMax) -> io::Result<Self> {
        let rooms = Rc::new(Rooms::new(Rc::clone(&context.thread.clock), connections_max));
        context.thread.use_rooms(Rc::clone(&rooms));
        Ok(Self {
            context,
            rooms,
            bells: Bells::new()?,
            open: HashMap::new(),
            names: HashMap::new(),
            next_number: 0,
            tasks: JoinSet::new(),
            busy: HashMap::new(),
        })
    }

    /// Accepts there from now on. Gives the listener back when that is not possible, for lack of memory for example.
    pub(crate) fn add(
        &mut self,
        id: &ListenerId,
        kind: ListenerKind,
        listener: OwnedFd,
    ) -> Result<(), Unused> {
        self.open(id, listener, |own, listener| own.accepting(id, kind, listener))
    }

    fn open(
        &mut self,
        id: &ListenerId,
        listener: OwnedFd,
        accepting: impl FnOnce(&Self, Rc<OwnedFd>) -> Accepting,
    ) -> Result<(), Unused> {
        let number = self.next_number;
        let ready = SockRef::from(&listener).set_nonblocking(true);
        if let Err(error) = ready.and_then(|()| self.bells.hang(number, &listener)) {
            return Err(Unused { listener, error });
        }
        self.next_number += 1;
        let listener = Rc::new(listener);
        let accepting = accepting(self, Rc::clone(&listener));
        self.names.insert(number, id.clone());
        self.open.insert(id.clone(), Open { number, listener, task: None, accepting });
        Ok(())
    }

    /// Waits until one is of no use any longer, and serves those at which somebody is meanwhile. One whose task has a bug
    /// accepts again: nobody else would, and its clients would wait for ever.
    pub(crate) async fn ended(&mut self) -> ListenerId {
        loop {
            tokio::select! {
                rung = self.bells.rung() => match rung {
                    Ok(numbers) => numbers.into_iter().for_each(|number| self.begin(number)),
                    // The kernel has no reason to (epoll_wait(2)). Not at once again, or this would be all that is done.
                    Err(error) => {
                        tracing::error!(%error, "cannot hear who comes");
                        sleep(AGAIN_AFTER).await;
                    }
                },
                Some(ended) = self.tasks.join_next_with_id() => {
                    if let Some(useless) = self.task_ended(ended) {
                        return useless;
                    }
                }
            }
        }
    }

    /// Accepts at a listener to which somebody has come. One that was removed meanwhile is not there.
    fn begin(&mut self, number: u64) {
        let Some(open) = self.names.get(&number).and_then(|id| self.open.get_mut(id)) else { return };
        let accepting = (open.accepting)();
        let task = self.tasks.spawn_local(accepting);
        self.busy.insert(task.id(), number);
        open.task = Some(task);
    }

    /// Returns the listener if it is of no use any longer.
    fn task_ended(&mut self, ended: Result<(task::Id, Left), JoinError>) -> Option<ListenerId> {
        let (task, left) = match ended {
            Ok((task, left)) => (task, Some(left)),
            Err(error) => (error.id(), None),
        };
        let id = self.busy.remove(&task).and_then(|number| self.names.get(&number)).cloned()?;
        let open = self.open.get_mut(&id)?;
        open.task = None;
        let is_useless = match left {
            Some(Left::Nobody) => match self.bells.wind_up(open.number, &open.listener) {
                Ok(()) => false,
                Err(error) => {
                    tracing::error!(%id, %error, "a listener cannot be waited at any longer");
                    true
                }
            },
            Some(Left::Useless) => true,
            None => {
                tracing::error!(%id, "a listener's task had a bug");
                let (number, again) = (open.number, (open.accepting)());
                let task = self.tasks.spawn_local(async {
                    sleep(AGAIN_AFTER).await;
                    again.await
                });
                self.busy.insert(task.id(), number);
                open.task = Some(task);
                false
            }
        };
        is_useless.then(|| {
            self.remove(&id);
            id
        })
    }

    /// Accepts there no longer. Its connections live on.
    pub(crate) fn remove(&mut self, id: &str) {
        let Some(Open { number, listener, task, accepting: _ }) = self.open.remove(id) else { return };
        self.names.remove(&number);
        self.bells.take_down(&listener);
        if let Some(task) = task {
            task.abort();
        }
    }

    /// Accepts nowhere any longer.
    pub(crate) fn remove_all(&mut self) {
        let ids: Vec<ListenerId> = self.open.keys().cloned().collect();
        ids.iter().for_each(|id| self.remove(id));
    }

    /// What accepts there.
    fn accepting(&self, id: &ListenerId, kind: ListenerKind, listener: Rc<OwnedFd>) -> Accepting {
        match kind {
            ListenerKind::Gateway { thread: _, listener: name } if is_unix(&listener) => {
                let name: Rc<str> = name.into();
                let serve = async move |context: Rc<Context>, stream, _place| {
                    gateway_unix(&context, &name, stream).await;
                };
                self.accept(id, listener, Pool::Gateway, None, serve)
            }
            ListenerKind::Gateway { thread: _, listener: name } => {
                let name: Rc<str> = name.into();
                let serve = async move |context: Rc<Context>, stream, _place| {
                    gateway(&context, &name, stream).await;
                };
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
                let (id, answerer) = (id.clone(), answerer(&caller, Rc::clone(&self.context)));
                Box::new(move || Box::pin(dns_udp(id.clone(), Rc::clone(&answerer), Rc::clone(&listener))))
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
        listener: Rc<OwnedFd>,
        caller: String,
        serve: impl AsyncFn(Rc<Context>, Rc<str>, S) + 'static,
    ) -> Accepting {
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
        listener: Rc<OwnedFd>,
        pool: Pool,
        service: Option<Rc<str>>,
        serve: impl AsyncFn(Rc<Context>, S, Place) + 'static,
    ) -> Accepting {
        let (id, serve) = (id.clone(), Rc::new(serve));
        let (context, rooms) = (Rc::clone(&self.context), Rc::clone(&self.rooms));
        Box::new(move || {
            let (listener, id, serve) = (Rc::clone(&listener), id.clone(), Rc::clone(&serve));
            let (context, rooms, service) = (Rc::clone(&context), Rc::clone(&rooms), service.clone());
            Box::pin(async move {
                let mut patience = Patience::default();
                loop {
                    let (stream, place) = match next(&listener, &rooms, pool, service.as_ref()).await {
                        Ok(Some(accepted)) => accepted,
                        Ok(None) => return Left::Nobody,
                        Err(error) => match patience.after(&id, &error) {
                            Some(wait) => {
                                sleep(wait).await;
                                continue;
                            }
                            None => return Left::Useless,
                        },
                    };
                    patience = Patience::default();
                    let (context, serve) = (Rc::clone(&context), Rc::clone(&serve));
                    task::spawn_local(async move { serve(context, stream, place).await });
                }
            })
        })
    }
}

/// The next connection, when a place for it was found. The place comes first: a connection that was accepted can be
/// served by nobody else. And it is looked for when somebody has come, as others may have to make room. `None` when nobody
/// is there, because another thread was faster for example.
async fn next<S: Accepted>(
    listener: &OwnedFd,
    rooms: &Rooms,
    pool: Pool,
    service: Option<&Rc<str>>,
) -> io::Result<Option<(S, Place)>> {
    // Clients that come without a pause must not keep the thread to themselves.
    task::consume_budget().await;
    if rooms.is_full(pool, service) && !has_come(listener)? {
        return Ok(None);
    }
    let place = rooms.enter(pool, service).await;
    match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
        Ok(accepted) => Ok(Some((S::new(accepted)?, place))),
        Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether a connection waits to be accepted now. That the bell rang may be long ago.
fn has_come(listener: &OwnedFd) -> io::Result<bool> {
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
async fn dns_udp(id: ListenerId, answerer: Rc<Answerer>, socket: Rc<OwnedFd>) -> Left {
    let mut patience = Patience::default();
    loop {
        let Err(error) = answerer.answer_udp(&socket).await else { return Left::Nobody };
        match patience.after(&id, &error) {
            Some(wait) => sleep(wait).await,
            None => return Left::Useless,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, net::TcpListener, num::NonZeroUsize};

    use tokio::{sync::mpsc, task::LocalSet};

    use super::*;
    use crate::thread::Thread;

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
            let mut listeners = Listeners::new(context, ConnectionsMax::new(1000, 1)).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let serve = async move |_, Buggy(stream), _| served.send(stream).unwrap();
            let id = "gateway".to_owned();
            let opened = listeners.open(&id, listener.into(), |own, listener| {
                own.accept(&id, listener, Pool::Gateway, None, serve)
            });
            assert!(opened.is_ok());
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
                id = listeners.ended() => panic!("{id} ended for good"),
            }
        };
        LocalSet::new().run_until(test).await;
    }

    /// There are several for each worker in a private network.
    #[tokio::test]
    async fn a_listener_has_a_task_only_while_somebody_is_there() {
        let test = async {
            let context = Rc::new(Context::new(Thread::new(NonZeroUsize::MIN, |_| {}), |_| {}));
            let mut listeners = Listeners::new(context, ConnectionsMax::new(1000, 1)).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let (address, copy) = (listener.local_addr().unwrap(), listener.try_clone().unwrap());
            let (served, mut serves) = mpsc::unbounded_channel();
            let serve = async move |_, stream: TcpStream, _| served.send(stream).unwrap();
            let id = "gateway".to_owned();
            let opened = listeners.open(&id, listener.into(), |own, listener| {
                own.accept(&id, listener, Pool::Gateway, None, serve)
            });
            assert!(opened.is_ok());
            for _ in 0..3 {
                assert!(listeners.tasks.is_empty());
                let client = std::net::TcpStream::connect(address).unwrap();
                tokio::select! {
                    accepted = serves.recv() => assert!(accepted.is_some()),
                    id = listeners.ended() => panic!("{id} ended"),
                }
                drop(client);
                // Until it has seen that nobody else is there.
                while !listeners.tasks.is_empty() {
                    let ended = tokio::time::timeout(Duration::from_millis(1), listeners.ended()).await;
                    assert!(ended.is_err(), "{ended:?}");
                }
            }
            listeners.remove(&id);
            let _client = std::net::TcpStream::connect(address).unwrap();
            let ended = tokio::time::timeout(Duration::from_millis(20), listeners.ended()).await;
            assert!(ended.is_err() && listeners.tasks.is_empty(), "it was removed");
            drop(copy);
        };
        let capped = tokio::time::timeout(Duration::from_secs(30), test);
        LocalSet::new().run_until(capped).await.expect("everybody is served");
    }
}
