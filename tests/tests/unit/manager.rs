//! A service manager in the place of systemd: it owns the socket that a unit's main process notifies, keeps the descriptors it is
//! given, and starts that process as systemd does. What goes over these is the real protocol.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    process::{Child, ExitStatus, Stdio},
};

use socket2::SockRef;
use watt_os::fdpass;

use watt_tests::{App, wait, wattctl};

/// Puts descriptors where systemd puts them and becomes the program: sd_listen_fds(3).
const START: &str = r#"
import fcntl, os, socket, sys
given = socket.socket(fileno=os.dup(0))
names, fds, _, _ = socket.recv_fds(given, 65536, 250)
given.close()
null = os.open("/dev/null", os.O_RDONLY)
os.dup2(null, 0)
fds = [fcntl.fcntl(fd, fcntl.F_DUPFD, 300) for fd in fds]
os.closerange(3, 300)
for number, fd in enumerate(fds, 3):
    os.dup2(fd, number)
    os.close(fd)
if fds:
    os.environ.update(LISTEN_FDS=str(len(fds)), LISTEN_FDNAMES=names.decode().strip(), LISTEN_PID=str(os.getpid()))
if "WATCHDOG_USEC" in os.environ:
    os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// The manager of one unit.
pub(crate) struct Manager {
    socket: UnixDatagram,
    /// What was said and not yet looked at: assignments in their order.
    said: VecDeque<String>,
    /// The descriptors it keeps, by name.
    pub(crate) store: BTreeMap<String, OwnedFd>,
    /// The pids that spoke.
    pub(crate) speakers: Vec<u32>,
}

impl Manager {
    /// A manager that listens in the application's folder.
    pub(crate) fn new(app: &App) -> Manager {
        let path = app.dir.join("notify");
        let socket = UnixDatagram::bind(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        SockRef::from(&socket).set_passcred(true).expect("a socket option");
        // The application's user may write to it.
        app.write("made", "");
        Manager { socket, said: VecDeque::new(), store: BTreeMap::new(), speakers: Vec::new() }
    }

    /// Starts `wattctl up --unit`, with the descriptors that it keeps.
    pub(crate) fn start(&self, app: &App, arguments: &[&str], env: &[(&str, &str)]) -> Child {
        let (ours, theirs) = fdpass::seqpacket_pair().expect("a pair of sockets");
        let mut command = app.command("python3");
        command.args(["-c", START]).arg(wattctl()).args(["up", "--unit"]).args(arguments);
        command.env("NOTIFY_SOCKET", app.dir.join("notify")).envs(env.iter().copied());
        command.stdin(Stdio::from(theirs)).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("python3 runs");
        let names: Vec<&str> = self.store.keys().map(String::as_str).collect();
        let descriptors: Vec<_> = self.store.values().map(AsFd::as_fd).collect();
        // A message without a byte would be an end.
        fdpass::send(ours.as_fd(), format!("{}\n", names.join(":")).as_bytes(), &descriptors)
            .expect("python3 takes it");
        child
    }

    /// Reads what was said so far.
    pub(crate) fn listen(&mut self) {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let mut received = match fdpass::receive(self.socket.as_fd(), &mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                received => received.expect("a message"),
            };
            let text = String::from_utf8_lossy(&buffer[..received.length]).into_owned();
            let name = text.lines().find_map(|line| line.strip_prefix("FDNAME="));
            match (name, received.descriptors.pop()) {
                (Some(name), Some(descriptor)) if text.contains("FDSTORE=1") => {
                    self.store.insert(name.to_owned(), descriptor);
                }
                (Some(name), None) if text.contains("FDSTOREREMOVE=1") => drop(self.store.remove(name)),
                _ => {}
            }
            self.speakers.extend(received.sender);
            self.said.extend(text.lines().map(str::to_owned));
        }
    }

    /// Waits until something is said that `wanted` finds right. What was said before it is taken as well, and returned.
    pub(crate) fn heard(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        wait(what, || {
            self.listen();
            match self.said.iter().position(|line| wanted(line)) {
                Some(at) => Ok(self.said.drain(..=at).collect()),
                None => Err(format!("{:?}", self.said)),
            }
        })
    }

    /// Everything that was said and not looked at.
    pub(crate) fn rest(&mut self) -> Vec<String> {
        self.listen();
        self.said.drain(..).collect()
    }
}

/// Waits for the end of a process.
pub(crate) fn ended(child: &mut Child) -> ExitStatus {
    wait("it ends", || match child.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(format!("{other:?}")),
    })
}
