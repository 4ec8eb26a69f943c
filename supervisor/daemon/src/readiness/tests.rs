use std::{
    io::{self, BufRead, BufReader, Read as _, Write},
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU64,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, UnixListener},
};
use watt_core::plan::HttpCheck;
use watt_os::{cgroup::Group, descendants::Marks, process_info, sock_diag::SockDiag};

use super::{kin::Kin, *};
use crate::{launch::Accepts, listening::Network};

const RUN: RunId = RunId(7);

/// How long a test waits for what has to come. Only a failing one waits that long.
const PATIENCE: Duration = Duration::from_secs(30);

fn listening(accepts: Accepts) -> Listening {
    Listening::new(accepts, Network::private(SockDiag::open().unwrap().into(), []).unwrap())
}

/// A watch, with as many sockets as probes ask for.
struct Watched {
    news: mpsc::Receiver<News>,
    sockets: mpsc::Sender<OwnedFd>,
    watching: Watching,
    said: Said,
}

impl Watched {
    fn new(sign: Sign, accepts: Accepts) -> Watched {
        Watched::with(sign, accepts, |_| {})
    }

    fn with(sign: Sign, accepts: Accepts, change: impl FnOnce(&mut Watch)) -> Watched {
        let (sender, mut all) = mpsc::channel(1);
        let (told, news) = mpsc::channel(1);
        // As the loop does, which acts upon each before the next.
        tokio::spawn(async move {
            while let Some(news) = all.recv().await {
                match news {
                    News::Heard(reply) => reply.done(),
                    news => told.send(news).await.unwrap_or_default(),
                }
            }
        });
        let (sockets, receiver) = mpsc::channel(1);
        let mut watch = Watch {
            run: RUN,
            host: "api.plt.local".into(),
            startup: None,
            sign,
            after: After::default(),
            listening: Some(listening(accepts)),
            sockets: Some(receiver),
            notify: None,
            said: Said::default(),
            walls: Walls::default(),
        };
        change(&mut watch);
        Watched { news, sockets, watching: watch.start(sender), said: Said::default() }
    }

    /// The next news, but for sockets and what is to be kept for a successor.
    async fn news(&mut self) -> Option<News> {
        loop {
            match time::timeout(PATIENCE, self.news.recv()).await.expect("no news") {
                Some(News::NeedSockets { run: RUN }) => {
                    self.sockets.send(std_socket()).await.unwrap();
                }
                Some(News::Said { run: RUN, said }) => self.said = said,
                news => return news,
            }
        }
    }

    /// The next that is to be kept for a successor. Nothing else comes before.
    async fn said_next(&mut self) -> Option<Said> {
        match time::timeout(PATIENCE, self.news.recv()).await.expect("no news") {
            Some(News::Said { run: RUN, said }) => Some(said),
            other => panic!("{other:?}"),
        }
    }

    async fn ready(&mut self) -> Option<Endpoint> {
        match self.news().await {
            Some(News::Ready { run: RUN, endpoint }) => endpoint,
            other => panic!("{other:?}"),
        }
    }
}

fn get(path: &str) -> Check {
    Check::Http(HttpCheck::of(path))
}

fn std_socket() -> OwnedFd {
    let socket = TcpSocket::new_v4().unwrap();
    socket.as_fd().try_clone_to_owned().unwrap()
}

/// Accepts connections and answers each request with the next of these, the last one for ever. Counts the answers.
fn serve(listener: TcpListener, answers: &'static [&'static str]) -> Arc<AtomicUsize> {
    let count = Arc::new(AtomicUsize::new(0));
    let answered = Arc::clone(&count);
    tokio::spawn(async move {
        for count in 0.. {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = connection.read(&mut request).await.unwrap_or(0);
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            if length > 0 {
                assert!(
                    text.starts_with("GET /healthz?full=1 HTTP/1.1\r\nHost: api.plt.local\r\n"),
                    "{text}"
                );
            }
            let answer = answers[count.min(answers.len() - 1)];
            answered.fetch_add(1, Ordering::Relaxed);
            let _ = connection.write_all(answer.as_bytes()).await;
        }
    });
    count
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address at which nobody listens yet: it stays taken by a socket that is only bound.
fn taken() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn a_run_is_ready_when_it_listens() {
    let (socket, address) = taken();
    let mut watched = Watched::new(Sign::Listening, Accepts::Port(address.port()));
    task_turns().await;
    assert!(watched.news.try_recv().is_err(), "ready before it listens");
    let _listener = socket.listen(1).unwrap();
    assert_eq!(watched.ready().await, Some(Endpoint::PrivateTcp { address }));
}

#[tokio::test]
async fn a_run_that_accepts_nowhere_is_ready_at_once() {
    let mut watched = Watched::new(Sign::Listening, Accepts::Nowhere);
    assert_eq!(watched.ready().await, None);
    assert_eq!(watched.news().await, None, "there is nothing left to watch");
}

#[tokio::test]
async fn a_started_run_is_ready_and_its_endpoint_follows() {
    let (socket, address) = taken();
    let mut watched = Watched::new(Sign::Started, Accepts::Port(address.port()));
    assert_eq!(watched.ready().await, None);
    let _listener = socket.listen(1).unwrap();
    let endpoint = Endpoint::PrivateTcp { address };
    assert_eq!(watched.news().await, Some(News::Endpoint { run: RUN, endpoint }));
}

#[tokio::test]
async fn a_get_has_to_be_answered_well() {
    let (listener, address) = listener().await;
    let answered = serve(
        listener,
        &[
            "HTTP/1.1 503 Not Yet\r\n\r\n",
            "",
            "SSH-2.0-OpenSSH_9.2\r\n\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\n\r\n",
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 302 Found\r\n\r\n",
        ],
    );
    let sign = Sign::Check(get("/healthz?full=1"));
    let mut watched = Watched::new(sign, Accepts::Port(address.port()));
    assert_eq!(watched.ready().await, Some(Endpoint::PrivateTcp { address }));
    assert_eq!(answered.load(Ordering::Relaxed), 5, "a bad answer was taken for a good one");
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_given_up_and_asked_for_again() {
    let (listener, address) = listener().await;
    let sign = Sign::Check(get("/healthz?full=1"));
    let mut watched = Watched::new(sign, Accepts::Port(address.port()));
    watched.sockets.send(std_socket()).await.unwrap();
    // Accepted, and then nothing.
    let _silent = listener.accept().await.unwrap();
    serve(listener, &["HTTP/1.1 200 OK\r\n\r\n"]);
    assert_eq!(watched.ready().await, Some(Endpoint::PrivateTcp { address }));
}

/// A program that fails for a while with answers that do not end would have a connection of each.
#[tokio::test]
async fn an_answer_is_read_no_longer_than_until_the_next_one() {
    const PROBES: usize = 6;
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let program = std::thread::spawn(move || {
        let mut connections: Vec<std::net::TcpStream> = Vec::new();
        let mut open_max = 0;
        for _ in 0..PROBES {
            let (mut connection, _) = listener.accept().unwrap();
            let is_open = |connection: &&std::net::TcpStream| {
                connection.set_nonblocking(true).unwrap();
                connection.peek(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            };
            open_max = open_max.max(connections.iter().filter(is_open).count());
            assert!(connection.read(&mut [0; 4096]).unwrap() > 0);
            connection.write_all(b"HTTP/1.1 503 Not Yet\r\n\r\n").unwrap();
            connections.push(connection);
        }
        open_max
    });
    let sign = Sign::Check(get("/"));
    let mut watched = Watched::new(sign, Accepts::Port(address.port()));
    let open = crate::beside::now(move || program.join().unwrap());
    tokio::select! {
        open = open => assert_eq!(open.unwrap(), 1),
        news = watched.news() => panic!("{news:?}"),
    }
}

#[tokio::test]
async fn probes_reach_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("worker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let sign = Sign::Check(get("/"));
    let mut watched = Watched::new(sign, Accepts::Inherited(path.clone()));
    let (mut connection, _) = listener.accept().await.unwrap();
    connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    assert_eq!(watched.ready().await, Some(Endpoint::Unix { path: path.clone() }));

    let mut watched = Watched::new(Sign::Check(Check::Tcp), Accepts::Unix(path.clone()));
    assert_eq!(watched.ready().await, Some(Endpoint::Unix { path }));
}

#[tokio::test]
async fn a_connection_is_enough_for_tcp() {
    let (_listener, address) = listener().await;
    let mut watched = Watched::new(Sign::Check(Check::Tcp), Accepts::Port(address.port()));
    assert_eq!(watched.ready().await, Some(Endpoint::PrivateTcp { address }));
}

#[tokio::test]
async fn a_matching_line_makes_ready_and_the_end_of_output_does_not() {
    let (line, seen) = oneshot::channel();
    let mut watched = Watched::new(Sign::Log(seen), Accepts::Nowhere);
    task_turns().await;
    assert!(watched.news.try_recv().is_err(), "ready before the line");
    line.send(()).unwrap();
    assert_eq!(watched.ready().await, None);

    let (line, seen) = oneshot::channel();
    let mut watched = Watched::new(Sign::Log(seen), Accepts::Nowhere);
    drop(line);
    assert_eq!(watched.news().await, None);
}

#[tokio::test]
async fn a_watch_ends_when_it_is_dropped() {
    let (_socket, address) = taken();
    let Watched { mut news, watching, .. } = Watched::new(Sign::Listening, Accepts::Port(address.port()));
    drop(watching);
    assert_eq!(time::timeout(PATIENCE, news.recv()).await.expect("it goes on"), None);
}

/// Set for the process that sends on behalf of a test.
const HELPER: &str = "WATT_TEST_NOTIFY";

/// What is repeated without a pause, and may fail twice in a row.
const RHYTHM: Rhythm =
    Rhythm { interval: Duration::from_millis(1), timeout: Duration::from_secs(30), failures: 3 };

#[tokio::test]
async fn what_comes_before_readiness_passes_first() {
    let (listener, address) = listener().await;
    let answered = serve(listener, &["HTTP/1.1 503 Not Yet\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"]);
    let startup = Some(get("/healthz?full=1"));
    let mut watched =
        Watched::with(Sign::Listening, Accepts::Port(address.port()), |watch| watch.startup = startup);
    assert_eq!(watched.news().await, Some(News::Started { run: RUN }));
    assert_eq!(answered.load(Ordering::Relaxed), 2);
    assert_eq!(watched.ready().await, Some(Endpoint::PrivateTcp { address }));
}

#[tokio::test]
async fn a_ready_run_that_fails_often_enough_is_told_and_so_is_one_that_is_back() {
    const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";
    const BUSY: &str = "HTTP/1.1 503 Busy\r\n\r\n";
    let (listener, address) = listener().await;
    let answered = serve(listener, &[OK, BUSY, BUSY, OK, BUSY, "", BUSY, BUSY, OK]);
    let check = get("/healthz?full=1");
    let after = After { ready: Some((check.clone(), RHYTHM)), ..After::default() };
    let mut watched =
        Watched::with(Sign::Check(check), Accepts::Port(address.port()), |watch| watch.after = after);
    assert_eq!(watched.ready().await, Some(Endpoint::PrivateTcp { address }));
    let why = "GET /healthz?full=1: status 503".to_owned();
    assert_eq!(watched.news().await, Some(News::Unready { run: RUN, why }));
    assert_eq!(answered.load(Ordering::Relaxed), 7, "two in a row are not three");
    assert_eq!(watched.news().await, Some(News::Ready { run: RUN, endpoint: None }));
}

/// As the daemon before this one left it.
#[tokio::test]
async fn a_run_that_is_not_ready_is_told_when_it_is() {
    let (listener, address) = listener().await;
    serve(listener, &["HTTP/1.1 503 Busy\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"]);
    let after = After { ready: Some((get("/healthz?full=1"), RHYTHM)), is_unready: true, health: None };
    let sign = Sign::Seen(Some(Endpoint::Tcp { address }));
    let mut watched = Watched::with(sign, Accepts::Nowhere, |watch| watch.after = after);
    assert_eq!(watched.news().await, Some(News::Ready { run: RUN, endpoint: None }));
}

#[tokio::test]
async fn an_unhealthy_run_is_told_until_it_is_replaced() {
    let (listener, address) = listener().await;
    let health = Some(Health::Check(Check::Tcp, RHYTHM));
    let sign = Sign::Seen(Some(Endpoint::Tcp { address }));
    let mut watched = Watched::with(sign, Accepts::Nowhere, |watch| watch.after.health = health);
    let (_connection, _) = listener.accept().await.unwrap();
    drop(listener);
    // The first look is taken at once: others may wait for that.
    assert_eq!(watched.news().await, Some(News::Healthy { run: RUN }));
    let complaint = Complaint::Check { failures: 3 };
    match watched.news().await {
        Some(News::Unhealthy { run: RUN, complaint: found, why }) => {
            assert_eq!(found, complaint);
            assert!(why.starts_with("connection: Connection refused"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    // It may have to wait until it is replaced.
    assert!(matches!(watched.news().await, Some(News::Unhealthy { run: RUN, .. })));
}

/// Ready and health are looked at apart: one that hangs keeps the other from nothing.
#[tokio::test]
async fn a_check_that_hangs_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("worker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let after = After {
        ready: Some((get("/hangs"), RHYTHM)),
        is_unready: false,
        health: Some(Health::Check(get("/fails"), Rhythm { failures: 1, ..RHYTHM })),
    };
    let sign = Sign::Seen(Some(Endpoint::Unix { path }));
    let mut watched = Watched::with(sign, Accepts::Nowhere, |watch| watch.after = after);
    let mut hanging = Vec::new();
    // An early one that fails is none of those that count.
    let mut failures_left = 2;
    while failures_left > 0 {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let length = connection.read(&mut request).await.unwrap();
        if request[..length].starts_with(b"GET /fails ") {
            connection.write_all(b"HTTP/1.1 500 No\r\n\r\n").await.unwrap();
            failures_left -= 1;
            continue;
        }
        hanging.push(connection);
    }
    let why = "GET /fails: status 500".to_owned();
    let complaint = Complaint::Check { failures: 1 };
    assert_eq!(watched.news().await, Some(News::Unhealthy { run: RUN, complaint, why }));
}

/// Not a test of its own: what [`Program::start`] starts. Sends each line of its input as a message and answers with a line.
#[test]
fn helper() {
    let Ok(path) = std::env::var(HELPER) else { return };
    let socket = UnixDatagram::unbound().unwrap();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap().replace("\\n", "\n");
        let sent = socket.send_to(line.as_bytes(), &path);
        println!("sent {sent:?}");
    }
}

struct Program {
    child: Child,
    input: Option<ChildStdin>,
}

impl Program {
    fn start(socket: &Path) -> Program {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "readiness::tests::helper", "--nocapture"])
            .env(HELPER, socket)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        Program { child, input }
    }

    fn send(&mut self, message: &str) {
        writeln!(self.input.as_mut().unwrap(), "{message}").unwrap();
    }

    /// Ends it and returns how many messages it has sent.
    fn finish(&mut self) -> usize {
        drop(self.input.take());
        let output = BufReader::new(self.child.stdout.take().unwrap()).lines();
        let sent = output.map(Result::unwrap).filter(|line| line.contains("sent Ok")).count();
        self.child.wait().unwrap();
        sent
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kin(main: u32) -> Kin {
    let main_started = process_info::start_time(main).unwrap();
    Kin::new(main, None, Group::default(), Marks { main, main_started, ..Marks::default() })
}

struct NotifyBench {
    folder: tempfile::TempDir,
    socket: OwnedFd,
}

impl NotifyBench {
    fn new() -> NotifyBench {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify.sock")).unwrap();
        let socket = OwnedFd::from(socket);
        notify::prepare(&socket).unwrap();
        NotifyBench { folder, socket }
    }

    fn program(&self) -> Program {
        Program::start(&self.folder.path().join("notify.sock"))
    }

    fn watch(&self, main: &Program) -> Watched {
        self.watch_for(Sign::Notify, main.child.id(), After::default())
    }

    fn watch_for(&self, sign: Sign, main: u32, after: After) -> Watched {
        let socket = NotifySocket::new(self.socket.try_clone().unwrap(), kin(main)).unwrap();
        Watched::with(sign, Accepts::Nowhere, |watch| (watch.notify, watch.after) = (Some(socket), after))
    }
}

#[tokio::test]
async fn a_program_says_itself_that_it_is_ready() {
    let bench = NotifyBench::new();
    let mut program = bench.program();
    let mut watched = bench.watch(&program);
    program.send("STATUS=warming up");
    program.send("NOTREADY=1\\nREADY=10");
    program.send("MAINPID=1\\nREADY=1\\nSTATUS=here");
    assert_eq!(watched.ready().await, None);
}

#[tokio::test]
async fn what_a_program_says_of_itself_is_heard() {
    let bench = NotifyBench::new();
    let mut program = bench.program();
    let mut watched = bench.watch(&program);
    program.send("EXTEND_TIMEOUT_USEC=2500000\\nEXTEND_TIMEOUT_USEC=soon");
    let time = Duration::from_millis(2500);
    assert_eq!(watched.news().await, Some(News::Extend { run: RUN, time }));
    program.send("STATUS=warm\\nREADY=1");
    assert_eq!(watched.ready().await, None);
    assert_eq!(watched.watching.status().as_deref(), Some("warm"));
    let reloading = |reloading| Some(Said { ready: true, reloading, ..Said::default() });
    program.send("RELOADING=1\\nMONOTONIC_USEC=12");
    assert_eq!(watched.said_next().await, reloading(true));
    program.send("READY=1");
    assert_eq!(watched.said_next().await, reloading(false));
    program.send("STOPPING=1");
    program.send("RELOADING=1\\nSTOPPING=1\\nSTATUS=\\nWATCHDOG=trigger");
    let why = "it said STOPPING=1".to_owned();
    assert_eq!(watched.news().await, Some(News::Unready { run: RUN, why }));
    let why = "it said WATCHDOG=trigger".to_owned();
    let told = News::Unhealthy { run: RUN, complaint: Complaint::Itself, why };
    assert_eq!(watched.news().await, Some(told));
    assert_eq!(watched.watching.status(), None);
    assert_eq!(watched.said, Said { ready: true, stopping: true, ..Said::default() });
}

/// A watch ends with the daemon, or when the checks of the service change. What a run has said once it says no more.
#[tokio::test]
async fn what_was_said_to_an_earlier_watch_holds() {
    let bench = NotifyBench::new();
    let program = bench.program();
    let watch = |said, after| {
        let socket = NotifySocket::new(bench.socket.try_clone().unwrap(), kin(program.child.id())).unwrap();
        Watched::with(Sign::Notify, Accepts::Nowhere, |watch| {
            (watch.notify, watch.said, watch.after) = (Some(socket), said, after);
        })
    };
    let often = Said { ready: true, watchdog_us: NonZeroU64::new(1000), ..Said::default() };
    let after = After { health: Some(Health::Watchdog(Duration::from_secs(3600))), ..After::default() };
    let mut watched = watch(often, after);
    assert_eq!(watched.ready().await, None);
    let why = "no WATCHDOG=1 for 1ms".to_owned();
    let told = News::Unhealthy { run: RUN, complaint: Complaint::Watchdog, why };
    assert_eq!(watched.news().await, Some(told));
    let mut watched = watch(Said { stopping: true, ..often }, After::default());
    task_turns().await;
    assert!(watched.news.try_recv().is_err(), "one that stops is not ready");
}

/// Of a program that has ended nobody can say whose it was.
#[tokio::test]
async fn a_sender_that_has_gone_does_no_harm() {
    let bench = NotifyBench::new();
    let program = bench.program();
    let mut short = bench.program();
    short.send("STOPPING=1\\nWATCHDOG=trigger\\nWATCHDOG_USEC=1\\nEXTEND_TIMEOUT_USEC=1\\nREADY=1");
    assert_eq!(short.finish(), 1);
    let mut watched = bench.watch(&program);
    assert_eq!(watched.ready().await, None);
    assert_eq!(watched.said, Said { ready: true, ..Said::default() });
}

/// What this process lacks is no fault of a worker.
#[tokio::test]
async fn a_check_that_could_not_be_made_says_nothing() {
    let (_listener, address) = listener().await;
    let health = Some(Health::Check(Check::Tcp, Rhythm { failures: 1, ..RHYTHM }));
    let sign = Sign::Seen(Some(Endpoint::PrivateTcp { address }));
    let mut watched = Watched::with(sign, Accepts::Nowhere, |watch| watch.after.health = health);
    assert_eq!(watched.news.recv().await, Some(News::NeedSockets { run: RUN }));
    // The namespace is not this one's: there it has no such address.
    drop(watched.sockets);
    task_turns().await;
    while let Ok(news) = watched.news.try_recv() {
        assert_eq!(news, News::NeedSockets { run: RUN });
    }
}

#[tokio::test]
async fn a_run_that_stops_to_say_that_it_lives_is_unhealthy() {
    let bench = NotifyBench::new();
    let mut program = bench.program();
    let after = After { health: Some(Health::Watchdog(Duration::from_secs(3600))), ..After::default() };
    let mut watched = bench.watch_for(Sign::Notify, program.child.id(), after);
    program.send("READY=1");
    assert_eq!(watched.ready().await, None);
    program.send("WATCHDOG=1\\nWATCHDOG_USEC=1000");
    let why = "no WATCHDOG=1 for 1ms".to_owned();
    let told = News::Unhealthy { run: RUN, complaint: Complaint::Watchdog, why };
    assert_eq!(watched.news().await, Some(told));
}

/// After a stop of the daemon itself, for example, everything is overdue.
#[tokio::test]
async fn what_was_said_while_nobody_listened_counts() {
    let bench = NotifyBench::new();
    let mut program = bench.program();
    let every = Duration::from_millis(500);
    let after = After { health: Some(Health::Watchdog(every)), ..After::default() };
    let mut watched = bench.watch_for(Sign::Notify, program.child.id(), after);
    program.send("READY=1");
    assert_eq!(watched.ready().await, None);
    task_turns().await;
    program.send("WATCHDOG=1");
    // Nothing of this test's runtime turns meanwhile.
    std::thread::park_timeout(every * 2);
    assert!(watched.news.try_recv().is_err());
    task_turns().await;
    assert!(watched.news.try_recv().is_err(), "it had said that it lives");
}

#[tokio::test]
async fn what_it_says_later_never_blocks_it() {
    let bench = NotifyBench::new();
    let mut program = bench.program();
    let mut watched = bench.watch(&program);
    program.send("READY=1");
    assert_eq!(watched.ready().await, None);
    // Many times as many as the kernel holds (net.unix.max_dgram_qlen).
    for count in 0..2000 {
        program.send(&format!("STATUS={count}"));
    }
    let finish = crate::beside::now(move || program.finish());
    assert_eq!(time::timeout(PATIENCE, finish).await.expect("it is blocked").unwrap(), 2001);
}

#[tokio::test]
async fn what_it_says_to_a_later_daemon_never_blocks_it_either() {
    let bench = NotifyBench::new();
    let mut program = bench.program();
    let sign = Sign::Seen(Some(Endpoint::Unix { path: "/x".into() }));
    let mut watched = bench.watch_for(sign, program.child.id(), After::default());
    for count in 0..2000 {
        program.send(&format!("STATUS={count}"));
    }
    let finish = crate::beside::now(move || program.finish());
    assert_eq!(time::timeout(PATIENCE, finish).await.expect("it is blocked").unwrap(), 2000);
    assert!(watched.news.try_recv().is_err(), "its sign was told a second time");
}

#[tokio::test]
async fn a_run_that_was_ready_is_still_found() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let sign = Sign::Seen(None);
    let mut watched = Watched::new(sign, Accepts::Port(address.port()));
    let endpoint = Endpoint::PrivateTcp { address };
    assert_eq!(watched.news().await, Some(News::Endpoint { run: RUN, endpoint }));
}

#[tokio::test]
async fn somebody_else_cannot_say_it() {
    let bench = NotifyBench::new();
    let mut program = bench.program();
    let mut watched = bench.watch(&program);
    // This process is no descendant of the program, and shares its cgroup with it.
    let stranger = UnixDatagram::unbound().unwrap();
    stranger.send_to(b"READY=1", bench.folder.path().join("notify.sock")).unwrap();
    task_turns().await;
    assert!(watched.news.try_recv().is_err(), "a stranger was believed");
    program.send("READY=1");
    assert_eq!(watched.ready().await, None);
}

#[tokio::test]
async fn a_sender_that_has_gone_is_believed() {
    let bench = NotifyBench::new();
    let program = bench.program();
    let mut short = bench.program();
    short.send("READY=1");
    assert_eq!(short.finish(), 1);
    let mut watched = bench.watch(&program);
    assert_eq!(watched.ready().await, None);
}

/// A run's end is judged by what it has said before.
#[tokio::test]
async fn what_was_said_is_told_before_the_answer_to_who_asks() {
    let bench = NotifyBench::new();
    let program = bench.program();
    let mut short = bench.program();
    short.send("READY=1");
    assert_eq!(short.finish(), 1);
    let mut watched = bench.watch(&program);
    let heard = watched.watching.hear_out().expect("somebody listens");
    assert_eq!(watched.ready().await, None);
    time::timeout(PATIENCE, heard).await.expect("no answer").unwrap();
    assert!(watched.said.ready);
    let heard = watched.watching.hear_out().expect("somebody listens");
    time::timeout(PATIENCE, heard).await.expect("no answer").unwrap();
    let silent = Watched::new(Sign::Started, Accepts::Nowhere);
    assert!(silent.watching.hear_out().is_none(), "one that is not told where says nothing");
}

/// Until the loop has acted upon it: a daemon that is killed before leaves it to its successor.
#[tokio::test]
async fn a_message_stays_in_its_socket_until_it_was_acted_upon() {
    let bench = NotifyBench::new();
    let mut program = bench.program();
    let (sender, mut news) = mpsc::channel(16);
    let socket = NotifySocket::new(bench.socket.try_clone().unwrap(), kin(program.child.id())).unwrap();
    let voice = Voice::new(RUN, Said::default(), Arc::default(), sender);
    let (_voice, asked) = mpsc::channel(1);
    let _listening = crate::runs::Task(tokio::spawn(async move { voice.listen(socket, asked).await }));
    program.send("READY=1");
    let said = Said { ready: true, ..Said::default() };
    assert_eq!(news.recv().await, Some(News::Said { run: RUN, said }));
    let Some(News::Heard(reply)) = news.recv().await else { panic!("it does not wait") };
    let is_there = || watt_os::fdpass::peek(bench.socket.as_fd(), &mut [0; 64]).is_ok();
    assert!(is_there());
    reply.done();
    let gone = async {
        while is_there() {
            task_turns().await;
        }
    };
    time::timeout(PATIENCE, gone).await.expect("it is not taken");
}

#[tokio::test]
async fn messages_to_an_earlier_run_are_thrown_away() {
    let bench = NotifyBench::new();
    let mut earlier = bench.program();
    earlier.send("READY=1");
    earlier.send("READY=1");
    assert_eq!(earlier.finish(), 2);
    notify::prepare(&bench.socket).unwrap();
    let mut program = bench.program();
    let mut watched = bench.watch(&program);
    task_turns().await;
    assert!(watched.news.try_recv().is_err(), "an earlier run was believed");
    program.send("READY=1");
    assert_eq!(watched.ready().await, None);
}

#[tokio::test]
async fn messages_that_are_too_long_and_descriptors_are_dropped() {
    let bench = NotifyBench::new();
    let mut program = bench.program();
    let path = bench.folder.path().join("notify.sock");
    let stranger = UnixDatagram::unbound().unwrap();
    stranger.connect(&path).unwrap();
    let (ours, theirs) = std::io::pipe().unwrap();
    watt_os::fdpass::send(stranger.as_fd(), b"BARRIER=1", &[theirs.as_fd()]).unwrap();
    drop(theirs);
    stranger.send(&[b'x'; 10_000]).unwrap();
    let mut watched = bench.watch(&program);
    let ours = tokio::net::unix::pipe::Receiver::from_owned_fd(ours.into()).unwrap();
    let closed = async {
        ours.readable().await.unwrap();
        assert_eq!(ours.try_read(&mut [0]).unwrap(), 0);
    };
    time::timeout(PATIENCE, closed).await.expect("the descriptor is still open");
    program.send(&format!("X={}\\nREADY=1", "x".repeat(5000)));
    task_turns().await;
    assert!(watched.news.try_recv().is_err(), "a cut message was believed");
    program.send("READY=1");
    assert_eq!(watched.ready().await, None);
}

/// As systemd-notify(1) with `--fd` does.
#[tokio::test]
async fn a_message_that_comes_with_descriptors_is_read_like_any_other() {
    let bench = NotifyBench::new();
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(bench.folder.path().join("notify.sock")).unwrap();
    let mut watched = bench.watch_for(Sign::Notify, std::process::id(), After::default());
    let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    let descriptors = [one.as_fd(); watt_os::fdpass::DESCRIPTORS_MAX];
    watt_os::fdpass::send(sender.as_fd(), b"FDSTORE=1\nREADY=1", &descriptors).unwrap();
    assert_eq!(watched.ready().await, None);
}

/// Gives other tasks and the kernel every chance. For checks that something does not happen, which can only miss a failure, never
/// report one that is none.
async fn task_turns() {
    time::sleep(Duration::from_millis(50)).await;
}
