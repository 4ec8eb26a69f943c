//! Callers on the host's network and at the application's own socket: the kernel says who they are, and policies
//! are applied to that.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    os::unix::{
        fs::MetadataExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
};

use rustix::process::{Pid, Signal, WaitOptions};
use watt_api::mesh::{Endpoint, FromProxy, ListenerKind, Service, Snapshot, Worker, WorkerState};

use crate::support::*;

/// `api` accepts at `path` and may be called by `web` alone, whose worker has this cgroup and process.
fn only_web_may_call(path: &Path, cgroup: Option<u64>, pid: Option<u32>) -> Snapshot {
    let worker = |run, endpoint, cgroup, pid| {
        let state = WorkerState::Ready;
        Worker { run, index: 0, endpoint, state, drain_ms: None, cgroup, pid }
    };
    let endpoint = Some(Endpoint::Unix { path: path.to_owned() });
    let api = Service {
        workers: vec![worker(1, endpoint, None, None)],
        callers: Some(vec!["web".to_owned()]),
        ..service()
    };
    let web = Service { workers: vec![worker(2, None, cgroup, pid)], ..service() };
    snapshot(1, [("api", api), ("web", web)])
}

/// The status that a call of `api` is answered with.
fn call(mut stream: impl Read + Write) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: api.plt.local\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response.split(' ').nth(1).unwrap_or_default().to_owned()
}

/// This process's cgroup, as a snapshot names it; `None` on a host without cgroup v2.
fn own_cgroup() -> Option<u64> {
    Some(fs::metadata(own_cgroup_path()?).unwrap().ino())
}

/// Its folder.
fn own_cgroup_path() -> Option<PathBuf> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
    let root = roots.into_iter().find(|root| root.join("cgroup.controllers").exists())?;
    Some(root.join(path))
}

#[test]
fn a_call_over_tcp_is_its_cgroups() {
    let Some(cgroup) = own_cgroup() else {
        eprintln!("not tested: no cgroup v2 here");
        return;
    };
    let proxy = Proxy::start();
    let worker = http_worker(&proxy, "worker.sock");
    let mesh = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mesh.local_addr().unwrap();
    let mut daemon = proxy.daemon();
    daemon.add_listener("mesh_host/tcp", ListenerKind::MeshHost, &mesh);
    daemon.publish(only_web_may_call(&worker, Some(cgroup), None));
    assert_eq!(call(connect(address)), "200");

    daemon.publish(only_web_may_call(&worker, Some(u64::MAX), Some(std::process::id())));
    assert_eq!(call(connect(address)), "403", "the cgroup is another one, and root is nobody special");
    let caller = daemon.wait_for(|message| match message {
        FromProxy::Refused { caller, target, .. } if target == "api" => Some(caller.clone()),
        _ => None,
    });
    assert_eq!(caller.as_deref(), Some("(unknown)"));
}

/// Calls `api` over the socket at `path`, as a process that `how` tells, in the cgroup of `procs` if that is given; prints the
/// status. It is a child of the proxy's parent, or descends from one, as what a worker starts does.
const CALLER: &str = r"
import os, socket, sys, time
how, path, *cgroup = sys.argv[1:]
for procs in cgroup:
    open(procs, 'w').write('0')
parent = os.getppid()
if how != 'operator':
    os.setsid()
if how == 'deep':
    for _ in range(80):
        if child := os.fork():
            os.waitpid(child, 0)
            os._exit(0)
if how == 'orphan':
    if os.fork():
        os._exit(0)
    while os.getppid() != parent:
        time.sleep(0.002)
stream = socket.socket(socket.AF_UNIX)
stream.settimeout(30)
stream.connect(path)
stream.sendall(b'GET / HTTP/1.1\r\nHost: api.plt.local\r\nConnection: close\r\n\r\n')
print(stream.recv(4096).split()[1].decode())
";

fn call_as(how: &str, path: &Path) -> String {
    python(CALLER, [how.as_ref(), path.as_os_str()]).trim().to_owned()
}

/// The application's own socket.
fn unix_mesh(daemon: &mut Daemon, proxy: &Proxy) -> PathBuf {
    let path = proxy.path("mesh.sock");
    daemon.add_listener("mesh_host/unix", ListenerKind::MeshHost, UnixListener::bind(&path).unwrap());
    path
}

#[test]
fn what_services_started_is_never_an_operators() {
    // As the spawner is, so that an orphan becomes a child of it.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let proxy = Proxy::start();
    let worker = http_worker(&proxy, "worker.sock");
    let mut daemon = proxy.daemon();
    let path = unix_mesh(&mut daemon, &proxy);
    // With no worker in the snapshot that could be found, and with one that has a cgroup.
    for cgroup in [None, Some(u64::MAX)] {
        daemon.publish(only_web_may_call(&worker, cgroup, None));
        for (how, expected) in [("operator", "200"), ("child", "403"), ("orphan", "403"), ("deep", "403")] {
            assert_eq!(call_as(how, &path), expected, "{how}, {cgroup:?}");
        }
    }
}

#[test]
fn a_cgroup_below_a_workers_is_the_workers() {
    let below = own_cgroup_path().map(|own| own.join(format!("watt-test-{}", std::process::id())));
    let Some(below) = below.filter(|below| fs::create_dir(below).is_ok()) else {
        eprintln!("not tested: no cgroup v2 here in which another one may be made");
        return;
    };
    let _removed = Removed(&below);
    let proxy = Proxy::start();
    let worker = http_worker(&proxy, "worker.sock");
    let mut daemon = proxy.daemon();
    let path = unix_mesh(&mut daemon, &proxy);
    let call =
        || python(CALLER, ["child".as_ref(), path.as_os_str(), below.join("cgroup.procs").as_os_str()]);
    let mut snapshot = only_web_may_call(&worker, own_cgroup(), None);
    daemon.publish(snapshot.clone());
    assert_eq!(call(), "200\n", "it is `web`");
    snapshot.services.get_mut("api").unwrap().callers = Some(vec!["jobs".to_owned()]);
    daemon.publish(snapshot);
    assert_eq!(call(), "403\n", "and not `jobs`");
}

/// A cgroup that is gone at the end.
struct Removed<'p>(&'p Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir(self.0);
    }
}

#[test]
fn without_its_spawner_a_proxy_knows_neither_daemon_nor_operators() {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let mut proxy = Proxy::start_below_a_shell();
    let worker = http_worker(&proxy, "worker.sock");
    let mut daemon = proxy.daemon();
    let path = unix_mesh(&mut daemon, &proxy);
    daemon.publish(only_web_may_call(&worker, None, None));
    assert_eq!(call_as("operator", &path), "200");

    let shell = proxy.pid().as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap();
    let orphan = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    proxy.signal(Signal::KILL);
    proxy.wait();
    let parent = || fs::read_to_string(format!("/proc/{}/stat", orphan.as_raw_nonzero())).unwrap();
    eventually("it is ours", || parent().contains(&format!(" {} ", std::process::id())).then_some(()));
    assert_eq!(call_as("operator", &path), "403");
    Daemon::connect(proxy.path("proxy.sock")).wait_for_end();

    rustix::process::kill_process(orphan, Signal::KILL).unwrap();
    rustix::process::waitpid(Some(orphan), WaitOptions::empty()).unwrap();
}

#[test]
fn a_call_over_a_unix_socket_is_its_workers_or_an_operators() {
    let proxy = Proxy::start();
    let worker = http_worker(&proxy, "worker.sock");
    let mut daemon = proxy.daemon();
    let path = unix_mesh(&mut daemon, &proxy);
    let connect = || {
        let stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    daemon.publish(only_web_may_call(&worker, None, Some(std::process::id())));
    assert_eq!(call(connect()), "200", "known by its process");

    // A service that is known stays one, whoever its user is.
    let mut others = only_web_may_call(&worker, None, Some(std::process::id()));
    others.services.get_mut("api").unwrap().callers = Some(vec!["jobs".to_owned()]);
    daemon.publish(others);
    assert_eq!(call(connect()), "403");

    // Nobody's process, but the supervisor's user: an operator.
    daemon.publish(only_web_may_call(&worker, None, None));
    assert_eq!(call(connect()), "200");
}
