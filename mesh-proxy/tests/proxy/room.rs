//! Who has how many connections, and whom that keeps out: nobody else.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
};

use watt_api::mesh::{Endpoint, ListenerKind, Service, ToProxy, Worker, WorkerState};

use crate::support::*;

/// Of a proxy that may open so many files each of two threads has 35 places for services, of which one may have 8.
const DESCRIPTORS: u32 = 400;
const PLACES: usize = 2 * 35;

fn with_worker(run: u64, path: std::path::PathBuf) -> Service {
    let endpoint = Some(Endpoint::Unix { path });
    let worker = Worker {
        run,
        index: 0,
        endpoint,
        state: WorkerState::Ready,
        drain_ms: None,
        cgroup: None,
        pid: None,
    };
    Service { workers: vec![worker], ..service() }
}

fn ask(mut stream: impl Read + Write, service: &str) -> Option<String> {
    stream
        .write_all(
            format!("GET /x HTTP/1.1\r\nHost: {service}.plt.local\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .ok()?;
    let mut response = String::new();
    stream.read_to_string(&mut response).ok()?;
    response.ends_with("GET /x").then_some(response)
}

fn ask_over(path: &std::path::Path) -> Option<String> {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    ask(stream, "api")
}

#[test]
fn strangers_keep_out_strangers_alone_and_only_while_they_are_there() {
    let proxy = Proxy::start_with_descriptors(DESCRIPTORS);
    let api = with_worker(1, http_worker(&proxy, "api.sock"));
    let _silent = UnixListener::bind(proxy.path("silent.sock")).unwrap();
    let silent = with_worker(2, proxy.path("silent.sock"));
    let mesh = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = mesh.local_addr().unwrap();
    let [operators, services] = ["mesh.sock", "web.sock"].map(|name| proxy.path(name));
    let mut daemon = proxy.daemon();
    daemon.add_listener("mesh_host/tcp", ListenerKind::MeshHost, &mesh);
    daemon.add_listener("mesh_host/unix", ListenerKind::MeshHost, UnixListener::bind(&operators).unwrap());
    let web = ListenerKind::MeshUnix { caller: "web".to_owned() };
    daemon.add_listener("mesh_unix/1", web, UnixListener::bind(&services).unwrap());
    daemon.publish(snapshot(1, [("api", api), ("silent", silent)]));

    let strangers: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stranger = connect(address);
            // It may have been turned away already.
            let _ = stranger.write_all(b"GET / HTTP/1.1\r\nHost: silent.plt.local\r\n\r\n");
            stranger
        })
        .collect();
    assert!(ask_over(&operators).is_some(), "an operator is served");
    assert!(ask_over(&services).is_some(), "a service is served");

    // Their requests are still being asked, and are dropped when somebody comes.
    drop(strangers);
    eventually("another stranger is served", || ask(connect(address), "api"));
}

#[test]
fn a_service_has_one_share_whichever_listeners_it_comes_by() {
    let proxy = Proxy::start_with_descriptors(DESCRIPTORS);
    let api = with_worker(1, http_worker(&proxy, "api.sock"));
    let port = serve_echo(TcpListener::bind("127.0.0.1:0").unwrap()).port();
    let mut daemon = proxy.daemon();
    daemon.publish(snapshot(1, [("api", api)]));
    let greedy: Vec<TcpListener> = (0..5).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    for (number, listener) in greedy.iter().enumerate() {
        let kind = ListenerKind::HostPort { caller: "greedy".to_owned(), port };
        daemon.add_listener(&format!("host_port/{number}/1"), kind, listener);
    }
    let mut taken: Vec<TcpStream> =
        greedy.iter().flat_map(|listener| (0..20).map(|_| connect(listener.local_addr().unwrap()))).collect();
    check_echo(&mut taken[0], b"it has some");
    // Among these are some of its thread.
    for number in 0..8 {
        let path = proxy.path(&format!("web{number}.sock"));
        let kind = ListenerKind::MeshUnix { caller: "web".to_owned() };
        daemon.add_listener(&format!("mesh_unix/{number}"), kind, UnixListener::bind(&path).unwrap());
        assert!(ask_over(&path).is_some(), "web over {number}");
    }
}

#[test]
fn who_waits_for_a_place_is_not_lost_with_the_proxys_listener() {
    let proxy = Proxy::start_with_descriptors(DESCRIPTORS);
    let port = serve_echo(TcpListener::bind("127.0.0.1:0").unwrap()).port();
    let mut daemon = proxy.daemon();
    daemon.publish(snapshot(1, []));
    let mut listener = |caller: &str| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let kind = ListenerKind::HostPort { caller: caller.to_owned(), port };
        daemon.add_listener(&format!("{caller}/1"), kind, &listener);
        listener
    };
    let listeners: Vec<TcpListener> = (0..40).map(|number| listener(&format!("service{number}"))).collect();
    let last = listener("last");
    let mut taken: Vec<TcpStream> = listeners
        .iter()
        .flat_map(|listener| (0..8).map(|_| connect(listener.local_addr().unwrap())))
        .collect();
    let mut served = 0;
    for client in &mut taken {
        client.write_all(b"x").unwrap();
        client.set_nonblocking(true).unwrap();
    }
    eventually("every place is taken", || {
        served += taken.iter_mut().filter_map(|client| client.read_exact(&mut [0]).ok()).count();
        (served == PLACES).then_some(())
    });

    let _waits = connect(last.local_addr().unwrap());
    // What the proxy did until here includes what it does with one that has come.
    daemon.publish(snapshot(2, []));
    daemon.send(&ToProxy::RemoveListener { id: "last/1".to_owned() });
    daemon.publish(snapshot(3, []));
    last.set_nonblocking(true).unwrap();
    assert!(last.accept().is_ok(), "it is still in the kernel's queue");
}
