//! The proxy as a process: it survives its daemons, whatever they send, and ends in order.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    process::Command,
    time::Duration,
};

use rustix::process::Signal;

use watt_api::mesh::{FromProxy, Listener, ListenerKind, Snapshot, ToProxy};

use crate::support::*;

fn echo_port() -> u16 {
    serve_echo(TcpListener::bind("127.0.0.1:0").unwrap()).port()
}

/// A listener and what it leads to: a port of the host's own localhost.
fn host_port(port: u16) -> (TcpListener, ListenerKind) {
    let kind = ListenerKind::HostPort { caller: "api".to_owned(), port };
    (TcpListener::bind("127.0.0.1:0").unwrap(), kind)
}

#[test]
fn traffic_survives_the_daemon_and_the_next_one_takes_over() {
    let proxy = Proxy::start();
    let (kept, kind) = host_port(echo_port());
    let (dropped, _) = host_port(0);
    let [kept_at, dropped_at] = [&kept, &dropped].map(|listener| listener.local_addr().unwrap());
    let mut first = proxy.daemon();
    first.add_listener("host_port/1", kind.clone(), &kept);
    first.add_listener("host_port/2", kind.clone(), &dropped);
    first.publish(snapshot(7, []));
    // The proxy's is the only descriptor of it from now on.
    drop(dropped);
    let mut on_dropped = connect(dropped_at);
    check_echo(&mut on_dropped, b"with a daemon");

    drop(first);
    check_echo(&mut on_dropped, b"without one");
    check_echo(&mut connect(kept_at), b"a new connection without one");

    let mut second = proxy.daemon();
    second.add_listener("host_port/1", kind, &kept);
    check_echo(&mut connect(dropped_at), b"nothing is dropped before the snapshot");
    second.publish(snapshot(1, []));
    eventually("what was not named again is closed", || TcpStream::connect(dropped_at).err());
    check_echo(&mut connect(kept_at), b"what was named again is there");
    check_echo(&mut on_dropped, b"and connections live on");
}

#[test]
fn a_daemon_that_hangs_is_replaced() {
    let proxy = Proxy::start();
    let mut first = proxy.daemon();
    first.publish(snapshot(1, []));
    let mut second = proxy.daemon();
    second.publish(snapshot(1, []));
    first.wait_for_end();
}

#[test]
fn hostile_frames_end_their_link_and_nothing_else() {
    let mut proxy = Proxy::start();
    let (listener, kind) = host_port(echo_port());
    let mut daemon = proxy.daemon();
    daemon.add_listener("host_port/1", kind.clone(), &listener);
    daemon.publish(snapshot(1, []));
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..50 {
        let mut hostile = Daemon::connect(proxy.path("proxy.sock"));
        let mut bytes: Vec<u8> = (0..random.usize(4..2000)).map(|_| random.u8(..)).collect();
        if round % 2 == 0 {
            // A length that fits, and garbage.
            let size = u32::try_from(bytes.len() - 4).unwrap();
            bytes[..4].copy_from_slice(&size.to_le_bytes());
        } else {
            bytes[3] = 0xff;
        }
        hostile.send_raw(&bytes);
        hostile.wait_for_end();
    }
    // A listener without a descriptor, one that is a file, and one that does not listen.
    let mut hostile = proxy.daemon();
    hostile.send(&ToProxy::AddListener { id: "mesh/1".to_owned(), kind: kind.clone() });
    hostile.wait_for_end();
    let mut hostile = proxy.daemon();
    hostile.add_listener("mesh/2", kind.clone(), std::fs::File::open("/dev/null").unwrap());
    hostile.add_listener("mesh/3", kind.clone(), UdpSocket::bind("127.0.0.1:0").unwrap());
    hostile.add_listener("host_port/1", kind, &listener);
    hostile.publish(snapshot(1, []));

    check_echo(&mut connect(listener.local_addr().unwrap()), b"it serves");
    assert!(proxy.is_running());
}

#[test]
fn a_foreign_user_is_turned_away() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not tested: only root can become somebody else");
        return;
    }
    let proxy = Proxy::start();
    for path in [proxy.path("."), proxy.path("proxy.sock")] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
    }
    let script = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                  s.settimeout(30); sys.exit(0 if s.recv(1) == b'' else 1)";
    let connect = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "python3", "-c", script])
        .arg(proxy.path("proxy.sock"))
        // The other user may not be let into a folder that root's path begins with.
        .env("PATH", "/usr/bin:/bin")
        .status();
    assert!(connect.unwrap().success(), "the connection is closed without a word");
}

#[test]
fn a_listener_of_no_use_may_be_named_again() {
    let proxy = Proxy::start();
    let echo = echo_port();
    let mut daemon = proxy.daemon();
    daemon.publish(snapshot(1, []));
    // The one cannot be waited for, the other accepts no longer.
    let (ended, _) = host_port(0);
    socket2::SockRef::from(&ended).shutdown(Shutdown::Both).unwrap();
    let bad: [OwnedFd; 2] = [std::fs::File::open("/dev/null").unwrap().into(), ended.into()];
    for (id, bad) in ["host_port/1", "host_port/2"].into_iter().zip(bad) {
        let (listener, kind) = host_port(echo);
        daemon.add_listener(id, kind.clone(), bad);
        let mut client = connect(listener.local_addr().unwrap());
        client.write_all(b"x").unwrap();
        client.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        eventually(id, || {
            daemon.add_listener(id, kind.clone(), &listener);
            client.read_exact(&mut [0]).ok()
        });
    }
}

#[test]
fn clients_that_ask_for_nothing_make_room() {
    let proxy = Proxy::start_with_descriptors(400);
    let worker = UnixListener::bind(proxy.path("worker.sock")).unwrap();
    let gateway = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gateway.local_addr().unwrap();
    let mut daemon = proxy.daemon();
    daemon.add_listener("gateway/0", ListenerKind::Gateway { thread: 0, listener: String::new() }, &gateway);
    daemon.publish(with_worker(1, &proxy.path("worker.sock")));
    let mut busy = connect(address);
    busy.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let (mut at_busy, _) = worker.accept().unwrap();

    let mut idle: Vec<TcpStream> = (0..300).map(|_| connect(address)).collect();
    let trickling = || {
        let mut client = connect(address);
        client.write_all(b"GET / HT").unwrap();
        client
    };
    let slow: Vec<TcpStream> = (0..300).map(|_| trickling()).collect();
    // Somebody who takes a moment to ask, as over a slow network, while more of them keep coming.
    let mut last = connect(address);
    let more: Vec<TcpStream> = (0..15).map(|_| trickling()).collect();
    // Too short a look can only miss a failure.
    last.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(last.read(&mut [0]).is_err(), "it is not closed");
    last.set_read_timeout(Some(PATIENCE)).unwrap();
    last.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let (mut at_last, _) = worker.accept().unwrap();
    for (client, worker) in [(&mut last, &mut at_last), (&mut busy, &mut at_busy)] {
        worker.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
        let mut status = [0; 12];
        client.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
    assert_eq!(idle[0].read(&mut [0]).unwrap(), 0, "the first one was closed");
    drop((slow, more));
}

#[test]
fn clients_whose_request_never_comes_whole_make_room() {
    let proxy = Proxy::start_with_descriptors(400);
    let worker = UnixListener::bind(proxy.path("worker.sock")).unwrap();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = worker.accept() {
            let mut head = [0; 3];
            if stream.read_exact(&mut head).is_ok() && &head == b"GET" {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            }
            held.push(stream);
        }
    });
    let gateway = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gateway.local_addr().unwrap();
    let mut daemon = proxy.daemon();
    daemon.add_listener("gateway/0", ListenerKind::Gateway { thread: 0, listener: String::new() }, &gateway);
    daemon.publish(with_worker(1, &proxy.path("worker.sock")));
    let slow = || {
        let mut client = connect(address);
        client.write_all(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nx").unwrap();
        client
    };
    let slow: Vec<TcpStream> = (0..100).map(|_| slow()).collect();
    let mut client = connect(address);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    let mut status = [0; 12];
    client.read_exact(&mut status).unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    drop(slow);
}

#[test]
fn a_service_is_turned_away() {
    let proxy = Proxy::start();
    // As a service does that found the socket: the daemon's user, a child of the proxy's parent, in a session of its own.
    let connect = "import os,socket,sys; os.setsid(); s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); \
                   s.settimeout(30); print(s.recv(1))";
    assert_eq!(python(connect, [proxy.path("proxy.sock").as_os_str()]), "b''\n");
    proxy.daemon().publish(snapshot(1, []));
}

#[test]
fn sigterm_lets_finish_what_is_there() {
    let mut proxy = Proxy::start();
    let (listener, kind) = host_port(echo_port());
    let address = listener.local_addr().unwrap();
    let mut daemon = proxy.daemon();
    daemon.add_listener("host_port/1", kind, &listener);
    daemon.publish(snapshot(1, []));
    drop(listener);
    let mut client = connect(address);
    check_echo(&mut client, b"before");

    proxy.signal(Signal::TERM);
    eventually("nothing is accepted any more", || TcpStream::connect(address).err());
    check_echo(&mut client, b"after");
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert!(proxy.wait().success());
}

#[test]
fn sigterm_does_not_wait_for_ever() {
    let mut proxy = Proxy::start_with_drain(Duration::from_millis(50));
    let (listener, kind) = host_port(echo_port());
    let mut daemon = proxy.daemon();
    daemon.add_listener("host_port/1", kind, &listener);
    daemon.publish(snapshot(1, []));
    let mut client = connect(listener.local_addr().unwrap());
    check_echo(&mut client, b"before");
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success());
}

/// Two proxies at the same listeners: the old one accepts nothing more, and what it has is served to its end. A request that a client
/// of an idle connection sends just then is answered.
#[test]
fn a_proxy_that_retires_serves_what_is_connected() {
    let (mut old, new) = (Proxy::start(), Proxy::start());
    let worker = http_worker(&old, "worker.sock");
    let (gateway, echo) = (TcpListener::bind("127.0.0.1:0").unwrap(), host_port(echo_port()));
    let (address, tunnels) = (gateway.local_addr().unwrap(), echo.0.local_addr().unwrap());
    let publish = |proxy: &Proxy| {
        let mut daemon = proxy.daemon();
        daemon.add_listener(
            "gateway/0",
            ListenerKind::Gateway { thread: 0, listener: String::new() },
            &gateway,
        );
        daemon.add_listener("host_port/1", echo.1.clone(), &echo.0);
        daemon.publish(with_worker(1, &worker));
        daemon
    };
    let mut daemon = publish(&old);
    let request = b"GET /x HTTP/1.1\r\nHost: test\r\n\r\n";
    let answer = |client: &mut TcpStream| {
        client.write_all(request).unwrap();
        let mut text = String::new();
        while !text.ends_with("GET /x") {
            let mut piece = [0; 1024];
            let size = client.read(&mut piece).unwrap();
            assert!(size > 0, "closed after {text:?}");
            text.push_str(&String::from_utf8_lossy(&piece[..size]));
        }
        text.to_ascii_lowercase()
    };
    let mut idle = connect(address);
    assert!(!answer(&mut idle).contains("connection: close"));
    let mut tunnel = connect(tunnels);
    check_echo(&mut tunnel, b"before");
    let _next = publish(&new);
    for _ in 0..2 {
        // Said again, it changes nothing.
        daemon.send(&ToProxy::Retire { within_ms: 600_000 });
    }
    // It is known by now: messages are in order.
    daemon.publish(with_worker(2, &worker));
    let mut others: Vec<TcpStream> = (0..20).map(|_| connect(address)).collect();
    for client in &mut others {
        assert!(!answer(client).contains("connection: close"), "these are the new one's");
    }
    check_echo(&mut tunnel, b"after");
    assert!(answer(&mut idle).contains("connection: close"), "the last one on this connection");
    assert_eq!(idle.read(&mut [0]).unwrap(), 0);
    assert!(old.is_running());
    tunnel.shutdown(Shutdown::Write).unwrap();
    assert_eq!(tunnel.read(&mut [0]).unwrap(), 0);
    assert!(old.wait().success());
}

#[test]
fn a_proxy_that_retires_does_not_wait_for_ever() {
    let mut proxy = Proxy::start();
    let (listener, kind) = host_port(echo_port());
    let mut daemon = proxy.daemon();
    daemon.add_listener("host_port/1", kind, &listener);
    daemon.publish(snapshot(1, []));
    let mut client = connect(listener.local_addr().unwrap());
    check_echo(&mut client, b"before");
    daemon.send(&ToProxy::Retire { within_ms: 50 });
    assert!(proxy.wait().success());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut proxy = Proxy::start();
    let (listener, kind) = host_port(echo_port());
    let address = listener.local_addr().unwrap();
    let mut daemon = proxy.daemon();
    daemon.add_listener("host_port/1", kind, &listener);
    daemon.publish(snapshot(1, []));
    drop(listener);
    let mut client = connect(address);
    check_echo(&mut client, b"before");
    proxy.signal(Signal::TERM);
    eventually("nothing is accepted any more", || TcpStream::connect(address).err());
    assert!(proxy.is_running());
    proxy.signal(Signal::TERM);
    assert!(proxy.wait().success());
}

#[test]
fn a_port_that_nobody_listens_on_is_a_reset_and_is_told() {
    let proxy = Proxy::start();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (listener, kind) = host_port(closed);
    let mut daemon = proxy.daemon();
    daemon.add_listener("host_port/1", kind, &listener);
    daemon.publish(snapshot(1, []));
    let mut client = connect(listener.local_addr().unwrap());
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let (caller, target) = daemon.wait_for(|message| match message {
        FromProxy::Refused { caller, target, reason } if reason.contains("refused") => {
            Some((caller.clone(), target.clone()))
        }
        _ => None,
    });
    assert_eq!((caller.as_deref(), target), (Some("api"), format!("the host's 127.0.0.1:{closed}")));
}

#[test]
fn names_are_answered_at_the_listeners_that_were_passed() {
    let proxy = Proxy::start();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut daemon = proxy.daemon();
    let caller = "web".to_owned();
    daemon.add_listener("dns_udp/1", ListenerKind::DnsUdp { caller: caller.clone() }, &udp);
    daemon.add_listener("dns_tcp/1", ListenerKind::DnsTcp { caller }, &tcp);
    let api = || watt_api::mesh::Service { address: Some([127, 77, 1, 0].into()), ..service() };
    daemon.publish(snapshot(1, [("api", api())]));

    let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03api\x03plt\x05local\0\0\x01\0\x01";
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(question, udp.local_addr().unwrap()).unwrap();
    let mut reply = [0; 512];
    let size = client.recv(&mut reply).unwrap();
    assert!(reply[..size].starts_with(b"\x12\x34") && reply[..size].ends_with(&[127, 77, 1, 0]));

    let mut client = connect(tcp.local_addr().unwrap());
    client.write_all(&[&[0, question.len() as u8], &question[..]].concat()).unwrap();
    let mut reply = vec![0; 2 + size];
    client.read_exact(&mut reply).unwrap();
    assert!(reply.ends_with(&[127, 77, 1, 0]));

    // A new snapshot counts from the next question on.
    daemon.publish(snapshot(2, []));
    client.write_all(&[&[0, question.len() as u8], &question[..]].concat()).unwrap();
    let mut head = [0; 6];
    client.read_exact(&mut head).unwrap();
    assert_eq!(head[5] & 0x0f, 3, "no such name");
}

#[test]
fn a_request_flows_before_without_and_after_a_daemon() {
    let proxy = Proxy::start();
    let worker = http_worker(&proxy, "worker.sock");
    let gateway = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = gateway.local_addr().unwrap();
    let mut first = proxy.daemon();
    first.add_listener("gateway/0", ListenerKind::Gateway { thread: 0, listener: String::new() }, &gateway);
    first.publish(with_worker(1, &worker));
    assert!(get(address, "/x").ends_with("GET /x"), "with a daemon");
    drop(first);
    assert!(get(address, "/y").ends_with("GET /y"), "without one");

    let mut second = proxy.daemon();
    second.add_listener("gateway/0", ListenerKind::Gateway { thread: 0, listener: String::new() }, &gateway);
    second.publish(with_worker(1, &worker));
    assert!(get(address, "/z").ends_with("GET /z"), "with the next one");
    second.wait_for(|message| match message {
        FromProxy::Counts { services, .. } => (services.get("api")?.requests == 3).then_some(()),
        _ => None,
    });
}

/// Those of a reload may be for TLS, and those before were not.
#[test]
fn nobody_is_met_at_new_listeners_before_it_is_known_how() {
    let proxy = Proxy::start();
    let worker = http_worker(&proxy, "worker.sock");
    let known = |names: &[&str]| {
        let listeners = names.iter().map(|name| ((*name).to_owned(), Listener::default())).collect();
        Snapshot { listeners, ..with_worker(1, &worker) }
    };
    let [first, second] = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let mut daemon = proxy.daemon();
    let kind = |name: &str| ListenerKind::Gateway { thread: 0, listener: name.to_owned() };
    daemon.add_listener("gateway/0", kind("0"), &first);
    daemon.publish(known(&["0"]));
    assert!(get(first.local_addr().unwrap(), "/x").ends_with("GET /x"));
    daemon.add_listener("gateway/1/0", kind("1"), &second);
    let mut client = connect(second.local_addr().unwrap());
    client.write_all(b"GET /y HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    // Too short a look can only miss a failure.
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(client.read(&mut [0]).is_err(), "nobody has said how clients are met there");
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    daemon.publish(known(&["1"]));
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.ends_with("GET /y"), "{response}");
}

#[test]
fn nothing_is_answered_before_there_is_a_snapshot() {
    let proxy = Proxy::start();
    let worker = http_worker(&proxy, "worker.sock");
    let gateway = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = connect(gateway.local_addr().unwrap());
    client.write_all(b"GET /x HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").unwrap();
    let mut daemon = proxy.daemon();
    daemon.add_listener("gateway/0", ListenerKind::Gateway { thread: 0, listener: String::new() }, &gateway);
    // Too short a look can only miss a failure.
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(client.read(&mut [0]).is_err(), "it could only be answered wrongly");
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    daemon.publish(with_worker(1, &worker));
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.ends_with("GET /x"), "{response}");
}

#[test]
fn a_drained_run_is_told_to_each_daemon() {
    let proxy = Proxy::start();
    let worker = http_worker(&proxy, "worker.sock");
    let mut draining = with_worker(1, &worker);
    draining.services.get_mut("api").unwrap().workers[0].state = watt_api::mesh::WorkerState::Draining;
    for _ in 0..2 {
        let mut daemon = proxy.daemon();
        daemon.send(&ToProxy::Snapshot(Box::new(draining.clone())));
        daemon.wait_for(|message| (*message == FromProxy::Drained { run: 17 }).then_some(()));
    }
}

fn with_worker(version: u64, path: &std::path::Path) -> Snapshot {
    let worker = watt_api::mesh::Worker {
        run: 17,
        index: 0,
        endpoint: Some(watt_api::mesh::Endpoint::Unix { path: path.to_owned() }),
        state: watt_api::mesh::WorkerState::Ready,
        drain_ms: None,
        cgroup: None,
        pid: None,
    };
    let api = watt_api::mesh::Service { workers: vec![worker], ..service() };
    let route =
        watt_api::mesh::Route { path: "/".to_owned(), service: "api".to_owned(), ..Default::default() };
    Snapshot { routes: vec![route], ..snapshot(version, [("api", api)]) }
}

fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut client = connect(address);
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    response
}
