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
    path::Path,
};

use watt_api::mesh::{Endpoint, FromProxy, ListenerKind, Service, Snapshot, Worker, WorkerState};

use crate::support::*;

/// `api` accepts at `path` and may be called by `web` alone, whose worker has this cgroup and process.
fn only_web_may_call(path: &Path, cgroup: Option<u64>, pid: Option<u32>) -> Snapshot {
    let worker = |run, endpoint, cgroup, pid| {
        let state = WorkerState::Ready;
        Worker { run, index: 0, endpoint, state, cgroup, pid }
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
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = cgroups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let roots = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(Path::new);
    let root = roots.into_iter().find(|root| root.join("cgroup.controllers").exists())?;
    Some(fs::metadata(root.join(path)).unwrap().ino())
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

#[test]
fn a_call_over_a_unix_socket_is_its_workers_or_an_operators() {
    let proxy = Proxy::start();
    let worker = http_worker(&proxy, "worker.sock");
    let path = proxy.path("mesh.sock");
    let mesh = UnixListener::bind(&path).unwrap();
    let mut daemon = proxy.daemon();
    daemon.add_listener("mesh_host/unix", ListenerKind::MeshHost, &mesh);
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
