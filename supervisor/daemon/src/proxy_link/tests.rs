use std::{net::TcpListener, path::Path};

use tokio::{net::UnixListener, time};
use watt_api::mesh::{ListenerKind, Service, Snapshot};

use super::*;
use crate::listening::inode;

/// How long a test waits for what has to come. Only a failing one waits that long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The proxy's end.
struct Proxy {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// Of each message that had some: the kernel never joins those of two in one read (unix(7)).
    descriptors: VecDeque<Vec<OwnedFd>>,
}

impl Proxy {
    async fn accept(listener: &UnixListener) -> Proxy {
        let (stream, _) = time::timeout(PATIENCE, listener.accept()).await.expect("no connection").unwrap();
        Proxy { stream, buffer: Vec::new(), descriptors: VecDeque::new() }
    }

    async fn next(&mut self) -> ToProxy {
        time::timeout(PATIENCE, self.receive()).await.expect("no message").expect("the link was closed")
    }

    /// `None` at the end.
    async fn receive(&mut self) -> Option<ToProxy> {
        loop {
            if let Some((message, length)) = mesh::decode(&self.buffer).unwrap() {
                self.buffer.drain(..length);
                return Some(message);
            }
            let mut part = vec![0; 64 << 10];
            let receive = || watt_os::fdpass::receive(self.stream.as_fd(), &mut part);
            let received = self.stream.async_io(Interest::READABLE, receive).await.unwrap();
            if received.length == 0 {
                return None;
            }
            self.buffer.extend(&part[..received.length]);
            if !received.descriptors.is_empty() {
                self.descriptors.push_back(received.descriptors);
            }
        }
    }

    async fn say(&self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            self.stream.writable().await.unwrap();
            match self.stream.try_write(rest) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The daemon has hung up.
                Err(_) => return,
            }
        }
    }
}

struct Bench {
    _folder: tempfile::TempDir,
    listener: UnixListener,
    link: ProxyLink,
    events: mpsc::Receiver<(u64, LinkEvent)>,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("proxy.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (sender, events) = mpsc::channel(4);
        Bench { _folder: folder, listener, link: ProxyLink::start(3, path, sender), events }
    }

    async fn event(&mut self) -> LinkEvent {
        let event = time::timeout(PATIENCE, self.events.recv()).await.expect("no event");
        let (number, event) = event.expect("the link has ended");
        assert_eq!(number, 3);
        event
    }

    async fn lost(&mut self) {
        while !matches!(self.event().await, LinkEvent::Lost { .. }) {}
    }
}

fn listener() -> Arc<OwnedFd> {
    Arc::new(TcpListener::bind("127.0.0.1:0").unwrap().into())
}

fn mesh_kind() -> ListenerKind {
    ListenerKind::Mesh { caller: "api".into() }
}

fn snapshot(version: u64) -> Snapshot {
    Snapshot { version, ..Snapshot::default() }
}

fn publish(link: &ProxyLink, version: u64) {
    link.publish(version, Arc::new(ToProxy::Snapshot(Box::new(snapshot(version)))));
}

fn version(message: &ToProxy) -> u64 {
    match message {
        ToProxy::Snapshot(snapshot) => snapshot.version,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_proxy_is_told_listeners_then_the_snapshot_then_sockets() {
    let bench = Bench::new();
    let (a, b) = (listener(), listener());
    bench.link.give_sockets(RunId(7), vec![TcpListener::bind("127.0.0.1:0").unwrap().into()]);
    publish(&bench.link, 1);
    bench.link.add_listener("mesh/2".into(), mesh_kind(), Arc::clone(&b));
    bench.link.add_listener("mesh/1".into(), mesh_kind(), Arc::clone(&a));
    let mut proxy = Proxy::accept(&bench.listener).await;
    assert_eq!(proxy.next().await, ToProxy::HELLO);
    for (id, expected) in [("mesh/1", &a), ("mesh/2", &b)] {
        assert_eq!(proxy.next().await, ToProxy::AddListener { id: id.into(), kind: mesh_kind() });
        let received = proxy.descriptors.pop_front().expect("a listener without its descriptor");
        assert_eq!(received.len(), 1);
        assert_eq!(inode(&received[0]).unwrap(), inode(&**expected).unwrap());
    }
    assert_eq!(version(&proxy.next().await), 1);
    assert_eq!(proxy.next().await, ToProxy::Sockets { run: 7 });
    assert_eq!(proxy.descriptors.pop_front().unwrap().len(), 1);
}

#[tokio::test]
async fn changes_follow_and_nothing_is_said_twice() {
    let bench = Bench::new();
    bench.link.add_listener("mesh/1".into(), mesh_kind(), listener());
    publish(&bench.link, 1);
    let mut proxy = Proxy::accept(&bench.listener).await;
    for _ in 0..3 {
        proxy.next().await;
    }
    bench.link.remove_listener("mesh/1");
    assert_eq!(proxy.next().await, ToProxy::RemoveListener { id: "mesh/1".into() });
    publish(&bench.link, 2);
    assert_eq!(version(&proxy.next().await), 2);
    // One that comes and goes between two looks was never there.
    bench.link.add_listener("mesh/2".into(), mesh_kind(), listener());
    bench.link.remove_listener("mesh/2");
    publish(&bench.link, 3);
    assert_eq!(version(&proxy.next().await), 3);
}

#[test]
fn a_connection_that_came_to_nothing_is_no_reason_to_hurry() {
    let shared = Shared::default();
    shared.connected();
    assert!(!shared.lost());
    shared.connected();
    shared.applied();
    assert!(shared.lost());
    shared.applied();
    assert!(!shared.lost(), "there was no connection");
}

#[tokio::test]
async fn a_new_proxy_is_told_everything_again() {
    let mut bench = Bench::new();
    bench.link.add_listener(
        "gateway/0".into(),
        ListenerKind::Gateway { thread: 0, listener: String::new() },
        listener(),
    );
    publish(&bench.link, 5);
    for _ in 0..3 {
        let mut proxy = Proxy::accept(&bench.listener).await;
        assert!(matches!(bench.event().await, LinkEvent::Connected));
        assert_eq!(proxy.next().await, ToProxy::HELLO);
        assert!(matches!(proxy.next().await, ToProxy::AddListener { .. }));
        assert_eq!(proxy.descriptors.len(), 1);
        assert_eq!(version(&proxy.next().await), 5);
        drop(proxy);
        assert!(matches!(bench.event().await, LinkEvent::Lost { .. }));
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_yet_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.sock");
    let (sender, mut events) = mpsc::channel(4);
    let link = ProxyLink::start(3, path.clone(), sender);
    publish(&link, 1);
    assert!(matches!(events.recv().await, Some((3, LinkEvent::Lost { error: Some(_) }))));
    let listener = UnixListener::bind(&path).unwrap();
    // Its events are not read meanwhile, which must not keep it from connecting.
    let mut proxy = tokio::select! {
        proxy = Proxy::accept(&listener) => proxy,
        () = async { while events.recv().await.is_some() {} } => panic!("the link has ended"),
    };
    assert_eq!(proxy.next().await, ToProxy::HELLO);
}

#[tokio::test]
async fn what_the_proxy_says_reaches_the_loop() {
    let mut bench = Bench::new();
    let proxy = Proxy::accept(&bench.listener).await;
    assert!(matches!(bench.event().await, LinkEvent::Connected));
    let mut bytes = Vec::new();
    mesh::encode(&FromProxy::Drained { run: 3 }, &mut bytes).unwrap();
    mesh::encode(&FromProxy::Applied { version: 4 }, &mut bytes).unwrap();
    for byte in bytes {
        proxy.say(&[byte]).await;
    }
    assert!(matches!(bench.event().await, LinkEvent::Message(FromProxy::Drained { run: 3 })));
    assert!(matches!(bench.event().await, LinkEvent::Message(FromProxy::Applied { version: 4 })));
}

#[tokio::test]
async fn nonsense_ends_the_connection_and_not_the_link() {
    let mut endless = (64u32 << 20).to_le_bytes().to_vec();
    endless.resize(5 << 20, b' ');
    let too_large = u32::MAX.to_le_bytes().to_vec();
    let unknown = [&12u32.to_le_bytes()[..], br#"{"type":"x"}"#].concat();
    let mut bench = Bench::new();
    for nonsense in [endless, too_large, unknown] {
        let proxy = Proxy::accept(&bench.listener).await;
        tokio::join!(proxy.say(&nonsense), bench.lost());
    }
    publish(&bench.link, 1);
    let mut proxy = Proxy::accept(&bench.listener).await;
    assert_eq!(proxy.next().await, ToProxy::HELLO);
}

#[tokio::test]
async fn a_slow_proxy_gets_the_latest_and_not_every_snapshot() {
    let bench = Bench::new();
    let mut large = snapshot(0);
    for count in 0..500 {
        large.services.insert(format!("service-{count}"), Service::default());
    }
    for version in 1..=200 {
        let message = ToProxy::Snapshot(Box::new(Snapshot { version, ..large.clone() }));
        bench.link.publish(version, Arc::new(message));
        tokio::task::yield_now().await;
    }
    let mut proxy = Proxy::accept(&bench.listener).await;
    assert_eq!(proxy.next().await, ToProxy::HELLO);
    let mut count = 1;
    while version(&proxy.next().await) != 200 {
        count += 1;
    }
    assert!(count < 20, "{count} snapshots of 200 waited in a queue");
}

#[tokio::test]
async fn sockets_that_nobody_takes_are_bounded() {
    let bench = Bench::new();
    let descriptor = listener();
    for run in 0..1000 {
        bench.link.give_sockets(RunId(run), vec![descriptor.try_clone().unwrap()]);
    }
    assert_eq!(bench.link.shared.lock().sockets.len(), SOCKETS_WAITING_MAX);
    // More than one message carries.
    let many = (0..600).map(|_| descriptor.try_clone().unwrap()).collect();
    bench.link.give_sockets(RunId(1000), many);
    publish(&bench.link, 1);
    let mut proxy = Proxy::accept(&bench.listener).await;
    let mut batches = Vec::new();
    while batches.iter().sum::<usize>() < 600 {
        if let ToProxy::Sockets { run } = proxy.next().await {
            let sockets = proxy.descriptors.pop_front().unwrap();
            if run == 1000 {
                batches.push(sockets.len());
            }
        }
    }
    assert_eq!(batches, [250, 250, 100]);
}

#[tokio::test]
async fn both_sides_may_be_slow_to_read() {
    let mut bench = Bench::new();
    let mut large = snapshot(1);
    for count in 0..5000 {
        large.services.insert(format!("service-{count}"), Service::default());
    }
    bench.link.publish(large.version, Arc::new(ToProxy::Snapshot(Box::new(large))));
    let mut proxy = Proxy::accept(&bench.listener).await;
    let mut bytes = Vec::new();
    for version in 0..50_000 {
        mesh::encode(&FromProxy::Applied { version }, &mut bytes).unwrap();
    }
    // The proxy says all it has before it reads anything.
    let talk = async {
        proxy.say(&bytes).await;
        assert_eq!(proxy.next().await, ToProxy::HELLO);
        assert_eq!(version(&proxy.next().await), 1);
    };
    let hear = async {
        while !matches!(bench.event().await, LinkEvent::Message(FromProxy::Applied { version: 49_999 })) {}
    };
    tokio::join!(talk, hear);
}

#[tokio::test]
async fn the_link_ends_when_it_is_dropped() {
    let bench = Bench::new();
    let mut proxy = Proxy::accept(&bench.listener).await;
    let Bench { link, _folder, .. } = bench;
    drop(link);
    while proxy.receive().await.is_some() {}
    assert!(Path::exists(_folder.path()));
}

#[test]
fn a_proxy_that_does_not_read_costs_no_more_than_what_there_is() {
    let listener = Arc::new(OwnedFd::from(std::net::TcpListener::bind("127.0.0.1:0").unwrap()));
    let mut desired = Desired { told: Some(Told::default()), ..Desired::default() };
    let set = |desired: &mut Desired, id: &str, is_there: bool| {
        match is_there {
            true => drop(desired.listeners.insert(id.to_owned(), (mesh_kind(), Arc::clone(&listener)))),
            false => drop(desired.listeners.remove(id)),
        }
        desired.changed(id);
    };
    set(&mut desired, "told", true);
    assert!(matches!(desired.next(), Some(Next::Add(id, ..)) if id == "told"));
    for number in 0..1000 {
        set(&mut desired, &number.to_string(), true);
        set(&mut desired, &number.to_string(), false);
    }
    set(&mut desired, "told", false);
    set(&mut desired, "new", true);
    assert_eq!(desired.told.as_ref().map(|told| told.pending.len()), Some(2));
    assert!(matches!(desired.next(), Some(Next::Add(id, ..)) if id == "new"));
    assert!(matches!(desired.next(), Some(Next::Remove(id)) if id == "told"));
    assert!(desired.next().is_none());
}

/// A connection that comes later is told so too: the proxy may have been asked by an earlier daemon, or not.
#[tokio::test]
async fn one_that_retires_is_told_so_on_each_connection_and_hears_of_no_listener() {
    let bench = Bench::new();
    bench.link.add_listener("mesh/1".into(), mesh_kind(), listener());
    bench.link.retire(Duration::from_secs(9));
    publish(&bench.link, 1);
    for _ in 0..2 {
        let mut proxy = Proxy::accept(&bench.listener).await;
        assert_eq!(proxy.next().await, ToProxy::HELLO);
        assert_eq!(proxy.next().await, ToProxy::Retire { within_ms: 9000 });
        assert_eq!(version(&proxy.next().await), 1);
    }
}
