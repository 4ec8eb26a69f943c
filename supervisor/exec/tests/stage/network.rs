//! The private network, seen through the sockets that come out of it. Connections are made with sockets that the stage made
//! inside, so that no program has to run there; a listener of the program is one of them as well.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::PollFlags,
    sys::socket::{Backlog, SockaddrIn6, bind, connect, getsockopt, listen, sockopt},
};
use watt_exec::plan::{LaunchPlan, PrivateNetwork, Report, Task};
use watt_os::sock_diag::SockDiag;

use crate::harness::{Running, User, eventually, launch, program, start, wait_for};

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(93, 184, 216, 34);

fn plan(user: User, network: PrivateNetwork) -> LaunchPlan {
    LaunchPlan {
        user_namespace: !user.is_root(),
        network: Some(network),
        no_new_privs: true,
        ..program(&["/bin/sleep", "600"])
    }
}

/// Starts a program in a private network.
fn enter(user: User, network: PrivateNetwork) -> Running {
    start(user, &Task::Launch(Box::new(plan(user, network))), &[]).executed()
}

fn network(redirect: bool) -> PrivateNetwork {
    PrivateNetwork { redirect, egress: true, host_ports: vec![5432], sockets: 20 }
}

/// How a socket of the network, which is one of IPv6, names an IPv4 address.
fn mapped(ip: Ipv4Addr, port: u16) -> SockaddrIn6 {
    SockaddrIn6::from(SocketAddrV6::new(ip.to_ipv6_mapped(), port, 0, 0))
}

/// Connects a socket of the network; the caller's end.
fn call(inside: &mut Running, ip: impl Into<Ipv4Addr>, port: u16) -> Result<TcpStream, Errno> {
    let socket = inside.take("socket");
    let address = mapped(ip.into(), port);
    match connect(socket.as_raw_fd(), &address) {
        Ok(()) | Err(Errno::EINPROGRESS) => {}
        Err(errno) => return Err(errno),
    }
    wait_for(socket.as_fd(), PollFlags::POLLOUT);
    match getsockopt(&socket, sockopt::SocketError).unwrap() {
        0 => Ok(stream(socket)),
        errno => Err(Errno::from_raw(errno)),
    }
}

/// Checks that the connection ends at this listener; the listener's end.
fn accepted(listener: &TcpListener, mut caller: TcpStream) -> TcpStream {
    wait_for(listener.as_fd(), PollFlags::POLLIN);
    let mut served = stream(listener.accept().unwrap().0.into());
    // Not the address that was called, as the kernel would have it: that could connect a socket to itself.
    assert_eq!(served.peer_addr().unwrap().ip().to_canonical(), Ipv4Addr::LOCALHOST);
    caller.write_all(b"?").unwrap();
    let mut byte = [0];
    served.read_exact(&mut byte).unwrap();
    served
}

fn stream(socket: OwnedFd) -> TcpStream {
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

fn listener(inside: &mut Running, name: &str) -> TcpListener {
    inside.take(name).into()
}

/// A listener as the program would make it.
fn listen_inside(inside: &mut Running, ip: Ipv4Addr, port: u16) -> Result<TcpListener, Errno> {
    let socket = inside.take("socket");
    bind(socket.as_raw_fd(), &mapped(ip, port))?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(socket.into())
}

#[test]
fn redirected_connections_arrive_with_the_address_that_was_called() {
    for user in User::all() {
        let mut inside = enter(user, network(true));
        let mesh = listener(&mut inside, "mesh");
        let egress = listener(&mut inside, "egress");
        // The program has every port for itself, those that are called included.
        let own = listen_inside(&mut inside, Ipv4Addr::UNSPECIFIED, 80).unwrap();
        let mesh_host = Ipv4Addr::new(127, 77, 1, 5);
        for (listener, ip, port) in [
            (&mesh, mesh_host, 80),
            (&mesh, mesh_host, 5432),
            (&mesh, Ipv4Addr::new(127, 77, 255, 255), 1),
            (&egress, OUTSIDE, 443),
            (&egress, OUTSIDE, 80),
            (&egress, Ipv4Addr::new(10, 1, 2, 3), 65535),
            (&egress, Ipv4Addr::new(128, 0, 0, 1), 25),
        ] {
            let caller =
                call(&mut inside, ip, port).unwrap_or_else(|errno| panic!("{user:?} {ip}:{port} {errno}"));
            let served = accepted(listener, caller);
            let meant = getsockopt(&served, sockopt::OriginalDst).unwrap();
            let meant = (Ipv4Addr::from(u32::from_be(meant.sin_addr.s_addr)), u16::from_be(meant.sin_port));
            assert_eq!(meant, (ip, port), "{user:?}");
        }
        for ip in [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 78, 0, 1)] {
            let caller = call(&mut inside, ip, 80).unwrap();
            accepted(&own, caller);
        }
        assert_eq!(call(&mut inside, Ipv4Addr::LOCALHOST, 81).unwrap_err(), Errno::ECONNREFUSED);
    }
}

#[test]
fn without_egress_the_outside_has_no_route() {
    for user in User::all() {
        for redirect in [true, false] {
            let mut inside = enter(user, PrivateNetwork { egress: false, ..network(redirect) });
            assert!(!inside.descriptors.keys().any(|name| name.starts_with("egress")));
            assert_eq!(call(&mut inside, OUTSIDE, 443).unwrap_err(), Errno::ENETUNREACH);
            let mesh = listener(&mut inside, "mesh");
            let caller = call(&mut inside, [127, 77, 0, 1], 80).unwrap();
            accepted(&mesh, caller);
        }
    }
}

#[test]
fn without_redirection_the_web_is_reached_by_any_ip() {
    for user in User::all() {
        let mut inside = enter(user, network(false));
        let mesh = listener(&mut inside, "mesh");
        let caller = call(&mut inside, [127, 77, 0, 1], 80).unwrap();
        accepted(&mesh, caller);
        for port in [80, 443] {
            let egress = listener(&mut inside, &format!("egress:{port}"));
            let caller = call(&mut inside, OUTSIDE, port).unwrap();
            let served = accepted(&egress, caller);
            assert_eq!(served.local_addr().unwrap(), SocketAddr::from((OUTSIDE, port)));
            let taken = listen_inside(&mut inside, Ipv4Addr::UNSPECIFIED, port);
            assert_eq!(taken.unwrap_err(), Errno::EADDRINUSE);
        }
        assert_eq!(call(&mut inside, OUTSIDE, 5432).unwrap_err(), Errno::ECONNREFUSED);
        listen_inside(&mut inside, Ipv4Addr::UNSPECIFIED, 8080).unwrap();
    }
}

/// Sends where nothing but TCP leads, and prints what the kernel says to that.
const SEND: &str = r"
import errno, socket
for family, ip in (
    (socket.AF_INET, '93.184.216.34'),
    (socket.AF_INET, '224.0.0.251'),
    (socket.AF_INET, '127.77.1.5'),
    (socket.AF_INET6, '2001:db8::1'),
):
    for way in ('connected', 'unconnected'):
        stream = socket.socket(family, socket.SOCK_DGRAM)
        stream.settimeout(30)
        try:
            if way == 'connected':
                stream.connect((ip, 9))
                stream.send(b'x')
            else:
                stream.sendto(b'x', (ip, 9))
            stream.recv(1)
        except OSError as error:
            print(errno.errorcode.get(error.errno, error), end=' ')
try:
    socket.create_connection(('2001:db8::1', 80), 30)
except OSError as error:
    print(errno.errorcode.get(error.errno, error))
";

#[test]
fn what_is_not_tcp_over_ipv4_fails_at_once() {
    for user in User::all() {
        let plan = LaunchPlan { argv: program(&["python3", "-c", SEND]).argv, ..plan(user, network(true)) };
        let finished = launch(user, plan);
        // The kernel's word for "dropped by a rule", and for "no route".
        let expected = ["EPERM"; 6].into_iter().chain(["ENETUNREACH"; 3]).collect::<Vec<_>>().join(" ");
        assert_eq!(finished.output.trim(), expected, "{user:?} {:?}", finished.reports);
    }
}

#[test]
fn names_and_ports_of_the_host_are_asked_for_inside() {
    for user in User::all() {
        let mut inside = enter(user, network(true));
        for (name, port) in [("dns_tcp", 53), ("host_port:5432", 5432)] {
            let listener = listener(&mut inside, name);
            let caller = call(&mut inside, Ipv4Addr::LOCALHOST, port).unwrap();
            accepted(&listener, caller);
        }
        let udp: UdpSocket = inside.take("dns_udp").into();
        assert_eq!(udp.local_addr().unwrap(), SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
    }
}

#[test]
fn every_network_is_its_own() {
    let user = User::Caller;
    // Both have the same ports.
    let (mut one, mut two) = (enter(user, network(false)), enter(user, network(false)));
    listen_inside(&mut one, Ipv4Addr::LOCALHOST, 3000).unwrap();
    assert_eq!(call(&mut two, Ipv4Addr::LOCALHOST, 3000).unwrap_err(), Errno::ECONNREFUSED);
}

#[test]
fn the_diagnosis_socket_sees_what_listens_inside() {
    for user in User::all() {
        let host = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut inside = enter(user, network(true));
        let mut diag = SockDiag::from(inside.take("diag"));
        let before = diag.listeners().unwrap();
        assert!(!before.iter().any(|found| found.address == host.local_addr().unwrap()));
        let own = listen_inside(&mut inside, Ipv4Addr::UNSPECIFIED, 3000).unwrap();
        let after = diag.listeners().unwrap();
        let new: Vec<SocketAddr> =
            after.iter().filter(|found| !before.contains(found)).map(|found| found.address).collect();
        assert_eq!(new, [own.local_addr().unwrap()]);
    }
}

#[test]
fn descriptors_come_in_the_promised_order_and_in_messages_the_kernel_takes() {
    for user in User::all() {
        let mut inside = start(
            user,
            &Task::Launch(Box::new(plan(user, PrivateNetwork { sockets: 600, ..network(true) }))),
            &[],
        );
        inside.read_reports();
        let names: Vec<&str> = inside
            .reports
            .iter()
            .filter_map(|report| match report {
                Report::Descriptors { names } => Some(names),
                _ => None,
            })
            .flatten()
            .map(String::as_str)
            .collect();
        let userns: &[&str] = if user.is_root() { &[] } else { &["userns"] };
        let fixed = ["mesh", "egress", "dns_udp", "dns_tcp", "host_port:5432", "diag", "netns"];
        let expected = [&fixed[..], userns, &["socket"; 600]].concat();
        assert_eq!(names, expected);
        assert!(inside.reports.len() >= 4);
    }
}

#[test]
fn a_program_that_listens_on_ipv6_alone_is_reached() {
    for user in User::all() {
        let mut inside = enter(user, network(true));
        let socket = inside.take("socket");
        let address = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::LOCALHOST, 3000, 0, 0));
        bind(socket.as_raw_fd(), &address).unwrap();
        listen(&socket, Backlog::MAXCONN).unwrap();
        let caller = stream(inside.take("socket"));
        connect(caller.as_raw_fd(), &address).unwrap();
        TcpListener::from(socket).accept().unwrap();
    }
}

#[test]
fn more_sockets_are_made_later() {
    for user in User::all() {
        let mut inside = enter(user, network(true));
        let mesh = listener(&mut inside, "mesh");
        inside.descriptors.remove("socket");
        let netns = inside.take("netns");
        let userns = (!user.is_root()).then(|| inside.take("userns"));
        let passed: Vec<_> = userns.iter().chain([&netns]).map(AsFd::as_fd).collect();
        let task = Task::MakeSockets { user_namespace: userns.is_some(), count: 3 };
        let mut stage = start(user, &task, &passed);
        stage.read_reports();
        assert_eq!(stage.wait(), Some(0), "{user:?} {:?}", stage.reports);
        let sockets = stage.descriptors.remove("socket").unwrap();
        assert_eq!(sockets.len(), 3);
        inside.descriptors.insert("socket".to_owned(), sockets);
        let caller = call(&mut inside, [127, 77, 1, 1], 80).unwrap();
        accepted(&mesh, caller);
    }
}

#[test]
fn a_network_that_cannot_be_entered_is_named() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let task = Task::MakeSockets { user_namespace: false, count: 3 };
    let finished = start(User::Caller, &task, &[file.as_fd()]).finish();
    assert_eq!((finished.failure().step.as_str(), finished.failure().object.as_str()), ("sockets", "netns"));
}

#[test]
fn the_network_goes_with_its_processes_and_sockets() {
    let mut inside = enter(User::Caller, network(true));
    let ours = std::fs::metadata("/proc/self/ns/net").unwrap();
    let theirs = std::fs::metadata(format!("/proc/{}/ns/net", inside.pid())).unwrap();
    assert_ne!(std::os::unix::fs::MetadataExt::ino(&ours), std::os::unix::fs::MetadataExt::ino(&theirs));
    watt_os::pidfd::send_signal(watt_os::pidfd::open(inside.pid()).unwrap(), 9).unwrap();
    assert_eq!(inside.wait(), None);
    // The listeners still work: a successor of the proxy may answer what is queued.
    let mesh = listener(&mut inside, "mesh");
    let caller = call(&mut inside, [127, 77, 1, 1], 80).unwrap();
    accepted(&mesh, caller);
    eventually("the process has gone", || !std::path::Path::new(&format!("/proc/{}", inside.pid())).exists());
}
