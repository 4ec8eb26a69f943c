//! A proxy that runs, and a daemon made of a few lines that commands it.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::{self, Read, Write},
    mem::MaybeUninit,
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags},
    process::{Pid, Signal, kill_process},
};
use watt_api::mesh::{
    FromProxy, ListenerKind, MESSAGE_DESCRIPTORS_MAX, Service, Snapshot, ToProxy, decode, encode,
};

/// How long anything may take on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How long the proxies of these tests finish after SIGTERM, in a variable's value.
pub(crate) const DRAIN_MS: &str = "WATT_TEST_DRAIN_MS";

/// A proxy that runs; killed at the end of the test.
pub(crate) struct Proxy {
    child: Child,
    folder: tempfile::TempDir,
}

impl Proxy {
    /// With two threads and plenty of time to finish.
    pub(crate) fn start() -> Self {
        Self::start_with_drain(Duration::from_secs(600))
    }

    pub(crate) fn start_with_drain(drain: Duration) -> Self {
        Self::start_by("exec \"$@\"", drain)
    }

    /// Whose parent is a shell: [`Proxy::signal`] reaches that one.
    pub(crate) fn start_below_a_shell() -> Self {
        Self::start_by("\"$@\" & wait", Duration::from_secs(600))
    }

    /// That may open so few files.
    pub(crate) fn start_with_descriptors(max: u32) -> Self {
        Self::start_by(&format!("ulimit -n {max}; exec \"$@\""), Duration::from_secs(600))
    }

    fn start_by(command: &str, drain: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("proxy.sock")).unwrap();
        // std starts processes with three descriptors; the shell makes the first one the fourth, where an
        // inherited listener has to be.
        let child = Command::new("sh")
            .args(["-c", &format!("exec 3<&0 </dev/null; {command}"), "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "the_proxys_process", "--ignored", "--nocapture"])
            .env("LISTEN_FDS", "1")
            .env(DRAIN_MS, drain.as_millis().to_string())
            .stdin(OwnedFd::from(listener))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A daemon that has just connected and said hello.
    pub(crate) fn daemon(&self) -> Daemon {
        let mut daemon = Daemon::connect(self.path("proxy.sock"));
        daemon.send(&ToProxy::HELLO);
        daemon
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        eventually("the proxy ends", || self.child.try_wait().unwrap())
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other end of the proxy's link.
pub(crate) struct Daemon {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Daemon {
    pub(crate) fn connect(path: PathBuf) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, received: Vec::new() }
    }

    pub(crate) fn send(&mut self, message: &ToProxy) {
        let mut bytes = Vec::new();
        encode(message, &mut bytes).unwrap();
        self.stream.write_all(&bytes).unwrap();
    }

    pub(crate) fn send_raw(&mut self, bytes: &[u8]) {
        // The proxy may have closed the connection already, which is what is to be seen then.
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn add_listener(&mut self, id: &str, kind: ListenerKind, listener: impl AsFd) {
        let message = ToProxy::AddListener { id: id.to_owned(), kind };
        self.send_with(&message, &[listener.as_fd()]);
    }

    pub(crate) fn send_with(&mut self, message: &ToProxy, descriptors: &[BorrowedFd<'_>]) {
        let mut bytes = Vec::new();
        encode(message, &mut bytes).unwrap();
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MESSAGE_DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
        let slices = [io::IoSlice::new(&bytes)];
        let sent = rustix::net::sendmsg(&self.stream, &slices, &mut ancillary, SendFlags::empty()).unwrap();
        self.stream.write_all(&bytes[sent..]).unwrap();
    }

    /// Publishes a snapshot and waits until it is used.
    pub(crate) fn publish(&mut self, snapshot: Snapshot) {
        let version = snapshot.version;
        self.send(&ToProxy::Snapshot(Box::new(snapshot)));
        self.wait_for(|message| (*message == FromProxy::Applied { version }).then_some(()));
    }

    /// Reads until a message is what `wanted` wants.
    pub(crate) fn wait_for<T>(&mut self, mut wanted: impl FnMut(&FromProxy) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            let message = self.next().expect("the proxy keeps the link");
            if let Some(found) = wanted(&message) {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "in vain; the last message is {message:?}");
        }
    }

    /// Reads until the proxy ends the link.
    pub(crate) fn wait_for_end(&mut self) {
        while self.next().is_some() {}
    }

    /// The next message; `None` at the end of the link.
    fn next(&mut self) -> Option<FromProxy> {
        loop {
            if let Some((message, size)) = decode(&self.received).unwrap() {
                self.received.drain(..size);
                return Some(message);
            }
            let mut piece = [0; 65536];
            match self.stream.read(&mut piece) {
                Ok(0) => return None,
                Ok(size) => self.received.extend(&piece[..size]),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no message in time: {error}"),
            }
        }
    }
}

/// A snapshot with these services.
pub(crate) fn snapshot<const N: usize>(version: u64, services: [(&str, Service); N]) -> Snapshot {
    let services = services.map(|(name, service)| (name.to_owned(), service));
    Snapshot { version, app: "test".to_owned(), services: BTreeMap::from(services), ..Snapshot::default() }
}

/// A service with timeouts long enough for any machine.
pub(crate) fn service() -> Service {
    Service {
        connect_timeout_ms: 10_000,
        first_byte_timeout_ms: 30_000,
        idle_timeout_ms: 60_000,
        hold_timeout_ms: 20_000,
        hold_requests_max: 100,
        ..Service::default()
    }
}

/// A server that gives back what it gets, and ends when its client does. Returns its address.
pub(crate) fn serve_echo(listener: TcpListener) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || io::copy(&mut stream.try_clone().unwrap(), &mut stream));
        }
    });
    address
}

/// A worker on a Unix socket that answers with the request's first words. Returns its path.
pub(crate) fn http_worker(proxy: &Proxy, name: &str) -> PathBuf {
    let path = proxy.path(name);
    let listener = UnixListener::bind(&path).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let mut head = Vec::new();
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|size| size == 1) {
                    head.push(byte[0]);
                    if head.ends_with(b"\r\n\r\n") {
                        let text = String::from_utf8_lossy(&head).into_owned();
                        let words: Vec<&str> = text.split(' ').take(2).collect();
                        let body = words.join(" ");
                        let response =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
                        stream.write_all(response.as_bytes()).unwrap();
                        head.clear();
                    }
                }
            });
        }
    });
    path
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// What a process of this test's says: this program in Python, with these arguments.
pub(crate) fn python<const N: usize>(program: &str, arguments: [&OsStr; N]) -> String {
    let output = Command::new("python3").args(["-c", program]).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Sends these bytes and expects them back.
pub(crate) fn check_echo(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).unwrap();
    let mut received = vec![0; bytes.len()];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(received, bytes);
}

/// Tries until there is an answer.
pub(crate) fn eventually<T>(what: &str, mut question: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "in vain: {what}");
        // A pause between two looks, not a wait for something to have happened.
        thread::park_timeout(Duration::from_millis(5));
    }
}
