//! A service in a network namespace of its own: what it connects to is redirected to the proxy outside, as
//! ARCHITECTURE.md ("The mesh's addresses") says.
//!
//! The namespace is made by unshare(1) around this same program, which prepares it as the exec stage does, hands
//! its sockets out over its standard input, and then behaves like a service. As an ordinary user it needs user
//! namespaces. Where the host has no namespaces or no nftables, there is nothing to test, and the test says so.

use std::{
    io::{self, Read, Write},
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Command, Stdio},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use socket2::{Domain, Socket, Type};
use watt_api::mesh::{Endpoint, FromProxy, ListenerKind, Service, ToProxy, Worker, WorkerState};

use crate::support::*;

/// How many sockets the namespace gives to reach its worker with, and how many descriptors in all.
const SOCKETS: usize = 64;
const DESCRIPTORS: usize = SOCKETS + 3;
const API: Ipv4Addr = Ipv4Addr::new(127, 77, 1, 0);
const CLOSED: Ipv4Addr = Ipv4Addr::new(127, 77, 1, 1);
const NOBODY: Ipv4Addr = Ipv4Addr::new(127, 77, 9, 9);
/// The worker's own protocol, on a port that only its network knows.
const WORKER_PORT: u16 = 6379;
/// What the inside says when the host does not let it be prepared.
const NOT_POSSIBLE: i32 = 77;

const RULES: &str = "
table ip watt {
    chain out {
        type nat hook output priority -100;
        ip daddr 127.77.0.0/16 meta l4proto tcp redirect to :15001
        ip daddr != 127.0.0.0/8 meta l4proto tcp redirect to :15002
    }
}";

#[test]
fn a_private_service_reaches_services_names_and_the_outside() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut unshare = Command::new("unshare");
    unshare.arg("--net");
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    let mut inside = unshare
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "private_network::inside_the_private_network", "--ignored", "--nocapture"])
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    drop(unshare);
    let mut sockets = receive(&ours).into_iter();
    let (Some(mesh), Some(egress), Some(dns)) = (sockets.next(), sockets.next(), sockets.next()) else {
        let status = inside.wait().unwrap();
        assert!(matches!(status.code(), Some(NOT_POSSIBLE | 1)), "{status}");
        eprintln!("not tested: no network namespace with nftables here");
        return;
    };

    let proxy = Proxy::start();
    let mut daemon = proxy.daemon();
    let caller = || "web".to_owned();
    daemon.add_listener("mesh/1", ListenerKind::Mesh { caller: caller() }, &mesh);
    daemon.add_listener("egress/1", ListenerKind::Egress { caller: caller() }, &egress);
    daemon.add_listener("dns_udp/1", ListenerKind::DnsUdp { caller: caller() }, &dns);
    let sockets: Vec<OwnedFd> = sockets.collect();
    assert_eq!(sockets.len(), SOCKETS);
    let borrowed: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
    daemon.send_with(&ToProxy::Sockets { run: 1 }, &borrowed);
    drop((mesh, egress, dns, sockets));

    let endpoint = Endpoint::PrivateTcp { address: (Ipv4Addr::LOCALHOST, WORKER_PORT).into() };
    let worker = Worker {
        run: 1,
        index: 0,
        endpoint: Some(endpoint),
        state: WorkerState::Ready,
        drain_ms: None,
        cgroup: None,
        pid: None,
    };
    let api = Service { address: Some(API), workers: vec![worker.clone()], ..service() };
    let closed = Service {
        callers: Some(vec![]),
        address: Some(CLOSED),
        workers: vec![Worker { run: 2, ..worker }],
        ..service()
    };
    daemon.publish(snapshot(1, [("api", api), ("closed", closed), ("web", service())]));

    let outside = outside();
    (&ours).write_all(format!("{outside}\n").as_bytes()).unwrap();
    let status = inside.wait().unwrap();
    assert!(status.success(), "{status}");

    let mut refused = Vec::new();
    while refused.len() < 5 {
        refused.push(daemon.wait_for(|message| match message {
            FromProxy::Refused { caller, target, reason } => {
                assert_eq!(caller.as_deref(), Some("web"));
                Some(format!("{target}: {reason}"))
            }
            _ => None,
        }));
    }
    let expect = |start: &str, part: &str| {
        let found = refused.iter().any(|text| text.starts_with(start) && text.contains(part));
        assert!(found, "{start} … {part} is not in {refused:#?}");
    };
    expect("127.77.9.9:8080", "no service");
    expect("closed: ", "polic");
    expect("api:1:", "refused");
    expect("240.0.0.1:80", "240.0.0.0/4");
    expect(&format!("{}:1:", outside.ip()), "refused");
}

/// An echo server at an address of this host that is not localhost; at localhost where there is no other, which
/// the inside then does not try.
fn outside() -> SocketAddr {
    let probe = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Sends nothing: it only asks for a route (RFC 5737 §3).
    let ip = match probe.connect("192.0.2.1:9").and_then(|()| probe.local_addr()) {
        Ok(address) => address.ip(),
        Err(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
    };
    let listener = TcpListener::bind((ip, 0)).unwrap();
    serve_echo(listener)
}

/// Not a test: the service.
#[test]
#[ignore = "started by the other tests in a network of its own"]
fn inside_the_private_network() {
    let link = UnixStream::from(io::stdin().as_fd().try_clone_to_owned().unwrap());
    if !prepare() {
        std::process::exit(NOT_POSSIBLE);
    }
    let mesh = TcpListener::bind("127.0.0.1:15001").unwrap();
    let egress = TcpListener::bind("0.0.0.0:15002").unwrap();
    let dns = UdpSocket::bind("127.0.0.1:53").unwrap();
    let sockets: Vec<Socket> =
        (0..SOCKETS).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    let mut descriptors = vec![mesh.as_fd(), egress.as_fd(), dns.as_fd()];
    descriptors.extend(sockets.iter().map(AsFd::as_fd));
    send(&link, &descriptors);
    serve_echo(TcpListener::bind(("127.0.0.1", WORKER_PORT)).unwrap());
    // The service may itself listen on the ports that lead to the mesh.
    let _own = TcpListener::bind("0.0.0.0:80").unwrap();

    let mut outside = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(&link), &mut outside).unwrap();
    let outside: SocketAddr = outside.trim().parse().unwrap();

    check_echo(&mut connect((API, WORKER_PORT).into()), b"to another port of a service");
    check_http((API, 80).into());
    for refused in [(API, 1), (CLOSED, WORKER_PORT), (NOBODY, 8080), (Ipv4Addr::new(240, 0, 0, 1), 80)] {
        check_reset(refused.into());
    }
    check_name();
    if outside.ip().is_loopback() {
        check_reset((Ipv4Addr::new(240, 0, 0, 2), 80).into());
    } else {
        let mut client = connect(outside);
        check_echo(&mut client, b"to the outside");
        check_echo(&mut client, &vec![7; 300_000]);
        check_reset((outside.ip(), 1).into());
    }
}

/// Loopback up, every address local, and redirected.
fn prepare() -> bool {
    let run = |command: &str, input: &str| {
        let child = Command::new("sh").args(["-c", command]).stdin(Stdio::piped()).spawn();
        let Ok(mut child) = child else { return false };
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait().unwrap().success()
    };
    run("ip link set lo up && ip route add local default dev lo && nft -f -", RULES)
}

/// The worker is no HTTP server: it gives the request back, which the proxy cannot take for a response.
fn check_http(address: SocketAddr) {
    let mut client = connect(address);
    client.write_all(b"GET / HTTP/1.1\r\nHost: api.plt.local\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 502 "), "{response}");
    let mut client = connect(address);
    client.write_all(b"GET / HTTP/1.1\r\nHost: closed.plt.local\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 403 "), "{response}");
}

fn check_reset(address: SocketAddr) {
    // The connection is accepted by the redirect, and may be reset before connect(2) returns.
    let error = TcpStream::connect(address).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.read(&mut [0])
    });
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::ConnectionReset, "{address}");
}

fn check_name() {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let question = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x03api\x03plt\x05local\0\0\x01\0\x01";
    client.send_to(question, "127.0.0.1:53").unwrap();
    let mut reply = [0; 512];
    let size = client.recv(&mut reply).unwrap();
    assert!(reply[..size].ends_with(&API.octets()));
}

fn send(link: &UnixStream, descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
    rustix::net::sendmsg(link, &[io::IoSlice::new(b".")], &mut ancillary, SendFlags::empty()).unwrap();
}

/// Nothing, when the other end was closed.
fn receive(link: &UnixStream) -> Vec<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut slices = [io::IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(link, &mut slices, &mut ancillary, RecvFlags::CMSG_CLOEXEC).unwrap();
    let messages = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors.collect::<Vec<_>>()),
        _ => None,
    });
    messages.flatten().collect()
}
