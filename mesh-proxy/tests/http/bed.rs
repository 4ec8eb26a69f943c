//! A thread of the proxy between a scripted client and scripted workers, all in one test.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    num::NonZeroUsize,
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::{JoinHandle, JoinSet, LocalSet, spawn_local},
};
use watt_api::mesh::{Endpoint, Outlook, Route, Service, Snapshot, Worker, WorkerState};
use watt_mesh_proxy::{
    http::{Client, Side, Stream, serve},
    thread::{Report, Thread},
};

/// No test may take longer; it then hangs.
const CAP: Duration = Duration::from_secs(30);

/// Runs a test on one thread, as the proxy's threads run.
pub(crate) fn local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let capped = async { tokio::time::timeout(CAP, test).await.expect("the test hangs") };
    LocalSet::new().block_on(&runtime, capped);
}

/// The same with time that passes only when nothing else can happen.
pub(crate) fn at_once(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let capped = async { tokio::time::timeout(CAP * 1000, test).await.expect("the test hangs") };
    LocalSet::new().block_on(&runtime, capped);
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(CAP / 2, waiting).await.is_ok(), "never: {what}");
}

/// The proxy's thread and what it is told.
pub(crate) struct Bed {
    pub(crate) thread: Rc<Thread>,
    pub(crate) reports: Rc<RefCell<Vec<Report>>>,
    pub(crate) snapshot: RefCell<Snapshot>,
    dir: TempDir,
}

impl Bed {
    /// One service, `api`, with one ready worker, at the gateway's `/`.
    pub(crate) fn with_worker() -> (Bed, MockWorker) {
        let bed = Bed::new();
        let worker = bed.worker("api", 1);
        (bed, worker)
    }

    /// One service, `api`, without workers, at the gateway's `/`.
    pub(crate) fn new() -> Bed {
        let reports = Rc::new(RefCell::new(Vec::new()));
        let told = reports.clone();
        let bed = Bed {
            thread: Thread::new(NonZeroUsize::MIN, move |report| told.borrow_mut().push(report)),
            reports,
            snapshot: RefCell::new(Snapshot {
                version: 1,
                app: "shop".into(),
                services: BTreeMap::from([("api".into(), service())]),
                routes: vec![route("/", "api", None)],
                ..Snapshot::default()
            }),
            dir: tempfile::tempdir().unwrap(),
        };
        bed.apply();
        bed
    }

    pub(crate) fn apply(&self) {
        self.thread.apply(&self.snapshot.borrow());
    }

    /// Changes the snapshot and has it used.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.snapshot.borrow_mut());
        self.apply();
    }

    /// Changes `api`.
    pub(crate) fn change_api(&self, change: impl FnOnce(&mut Service)) {
        self.change(|snapshot| change(snapshot.services.get_mut("api").unwrap()));
    }

    /// The requests that were named as lost.
    pub(crate) fn lost(&self) -> Vec<String> {
        let reports = self.reports.borrow();
        let lost = reports.iter().filter_map(|report| match report {
            Report::Lost(lost) => {
                Some(format!("{} {} of {} at run {}", lost.method, lost.path, lost.service, lost.run))
            }
            Report::NeedSockets { .. }
            | Report::Drained { .. }
            | Report::Wanted { .. }
            | Report::Trouble(_)
            | Report::Refused { .. } => None,
        });
        lost.collect()
    }

    pub(crate) fn path(&self, run: u64) -> PathBuf {
        self.dir.path().join(format!("{run}.sock"))
    }

    /// A worker that listens and is ready.
    pub(crate) fn worker(&self, service: &str, run: u64) -> MockWorker {
        let listener = UnixListener::bind(self.path(run)).unwrap();
        let endpoint = Endpoint::Unix { path: self.path(run) };
        self.change(|snapshot| {
            snapshot.services.get_mut(service).unwrap().workers.push(ready(run, endpoint));
        });
        MockWorker { listener }
    }

    /// A client of the gateway.
    pub(crate) fn client(&self) -> Wire {
        self.client_at(gateway()).0
    }

    /// A client of the gateway that has sent this.
    pub(crate) async fn ask(&self, request: impl AsRef<[u8]>) -> Wire {
        let mut client = self.client();
        client.send(request).await;
        client
    }

    /// A client of the mesh, called `caller`.
    pub(crate) fn caller(&self, caller: &str) -> Wire {
        self.client_at(Side::Mesh { caller: Some(caller.into()) }).0
    }

    /// A client of the gateway over TCP.
    pub(crate) async fn tcp_client(&self) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (theirs, peer) = listener.accept().await.unwrap();
        let client =
            Client { side: gateway(), peer: Some(peer), local: None, tls: None, terms: Default::default() };
        let thread = self.thread.clone();
        spawn_local(async move { serve(&thread, theirs, client).await });
        Wire::new(ours)
    }

    /// A client of the gateway that comes from this address.
    pub(crate) fn client_from(&self, address: &str) -> Wire {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let peer = Some((address.parse::<std::net::IpAddr>().unwrap(), 1).into());
        let client = Client { side: gateway(), peer, local: None, tls: None, terms: Default::default() };
        let thread = self.thread.clone();
        spawn_local(async move { serve(&thread, theirs, client).await });
        Wire::new(ours)
    }

    pub(crate) fn client_at(&self, side: Side) -> (Wire, JoinHandle<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let client = Client { side, peer: None, local: None, tls: None, terms: Default::default() };
        let thread = self.thread.clone();
        let served = spawn_local(async move { serve(&thread, theirs, client).await });
        (Wire::new(ours), served)
    }
}

pub(crate) fn gateway() -> Side {
    Side::Gateway
}

/// Its timeouts are longer than a test may take: one that waits for them by mistake fails.
pub(crate) fn service() -> Service {
    Service {
        outlook: Outlook::Coming,
        connect_timeout_ms: 60_000,
        first_byte_timeout_ms: 60_000,
        idle_timeout_ms: 60_000,
        hold_timeout_ms: 60_000,
        hold_requests_max: 100,
        ..Service::default()
    }
}

pub(crate) fn route(path: &str, service: &str, rewrite: Option<&str>) -> Route {
    Route {
        path: path.into(),
        service: service.into(),
        rewrite: rewrite.map(str::to_owned),
        ..Route::default()
    }
}

pub(crate) fn ready(run: u64, endpoint: Endpoint) -> Worker {
    Worker {
        run,
        index: 0,
        endpoint: Some(endpoint),
        state: WorkerState::Ready,
        drain_ms: None,
        cgroup: None,
        pid: None,
    }
}

/// A worker that does what the test says.
pub(crate) struct MockWorker {
    listener: UnixListener,
}

impl MockWorker {
    /// The next connection of the proxy.
    pub(crate) async fn accept(&self) -> Wire {
        Wire::new(self.listener.accept().await.unwrap().0)
    }

    /// The next connection, of which a head was read.
    pub(crate) async fn asked(&self) -> Wire {
        let mut wire = self.accept().await;
        wire.head().await;
        wire
    }

    /// Answers every request on every connection in the same way.
    pub(crate) fn answer(self, response: &'static str) -> JoinHandle<()> {
        self.answer_unless(response, Rc::default(), Rc::default())
    }

    /// The same, until it is stuck. From then on it counts the requests that it reads and does not answer.
    /// Aborting it is `kill -9`: listener and connections are gone at once.
    pub(crate) fn answer_unless(
        self,
        response: &'static str,
        stuck: Rc<Cell<bool>>,
        unanswered: Rc<Cell<u32>>,
    ) -> JoinHandle<()> {
        spawn_local(async move {
            let mut connections = JoinSet::new();
            loop {
                let mut wire = self.accept().await;
                let (stuck, unanswered) = (stuck.clone(), unanswered.clone());
                connections.spawn_local(async move {
                    while wire.try_head().await.is_some() {
                        if stuck.get() {
                            unanswered.set(unanswered.get() + 1);
                            std::future::pending::<()>().await;
                        }
                        wire.send(response).await;
                    }
                });
            }
        })
    }
}

/// One end of a connection, with what was read and not looked at yet.
pub(crate) struct Wire {
    pub(crate) stream: Stream,
    pub(crate) input: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: impl Into<Stream>) -> Wire {
        Wire { stream: stream.into(), input: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Byte by byte, each read before the next one comes.
    pub(crate) async fn send_slowly(&mut self, text: &str) {
        for byte in text.bytes() {
            self.send([byte]).await;
            tokio::task::yield_now().await;
        }
    }

    /// Ends this direction.
    pub(crate) async fn end(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The next head, with its empty line; `None` when the peer ends before one.
    pub(crate) async fn try_head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.input.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.input.split_off(at + 4);
                let head = std::mem::replace(&mut self.input, rest);
                return Some(String::from_utf8(head).unwrap());
            }
            if self.stream.read_buf(&mut self.input).await.ok()? == 0 {
                assert!(
                    self.input.is_empty(),
                    "ended within a head: {:?}",
                    String::from_utf8_lossy(&self.input)
                );
                return None;
            }
        }
    }

    pub(crate) async fn head(&mut self) -> String {
        self.try_head().await.expect("a head")
    }

    /// The next `len` bytes, as text.
    pub(crate) async fn take(&mut self, len: usize) -> String {
        String::from_utf8(self.take_bytes(len).await).unwrap()
    }

    /// The next `len` bytes.
    pub(crate) async fn take_bytes(&mut self, len: usize) -> Vec<u8> {
        while self.input.len() < len {
            assert_ne!(
                self.stream.read_buf(&mut self.input).await.unwrap(),
                0,
                "ended early: {:?}",
                self.input
            );
        }
        let rest = self.input.split_off(len);
        std::mem::replace(&mut self.input, rest)
    }

    /// Everything until the peer ends. A reset is an end, too.
    pub(crate) async fn rest(&mut self) -> String {
        while let Ok(1..) = self.stream.read_buf(&mut self.input).await {}
        String::from_utf8(std::mem::take(&mut self.input)).unwrap()
    }

    /// The body of a response with this head, which has a Content-Length.
    pub(crate) async fn rest_of(&mut self, head: &str) -> String {
        let length = field(head, "content-length").map_or(0, |length| length.parse().unwrap());
        self.take(length).await
    }

    /// A response with a Content-Length: its status and its body.
    pub(crate) async fn response(&mut self) -> (u16, String) {
        let head = self.head().await;
        let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        (status(&head), self.take(length).await)
    }

    /// An error of the proxy's own: its status and its reason.
    pub(crate) async fn failure(&mut self) -> (u16, String) {
        let (status, body) = self.response().await;
        let body: serde_json::Value = serde_json::from_str(&body).expect("an error in JSON");
        (status, body["error"]["reason"].as_str().unwrap().to_owned())
    }
}

/// A response on a connection that is then kept.
pub(crate) async fn warm(client: &mut Wire, worker: &MockWorker) -> Wire {
    client.send(GET).await;
    let mut wire = worker.asked().await;
    wire.send(OK).await;
    client.response().await;
    wire
}

pub(crate) fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

/// The value of a field that is there once.
pub(crate) fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(": "));
    let mut values = lines.filter(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let value = values.next();
    assert_eq!(values.next(), None, "{name} twice in {head}");
    value
}

pub(crate) const GET: &str = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
pub(crate) const POST: &str = "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nab";
