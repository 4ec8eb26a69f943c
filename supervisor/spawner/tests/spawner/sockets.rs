//! Sockets that the spawner makes: listeners, and those in networks of runs.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixDatagram, UnixStream},
        },
    },
    time::Duration,
};

use nix::{sys::signal::Signal, unistd::Uid};
use socket2::{SockRef, Socket};
use watt_exec::plan::{MESH_ADDRESS, PrivateNetwork};
use watt_spawner::protocol::{Address, Message, Request};

use crate::{
    app::{App, Daemon, eventually, program, sh, state},
    runner::{Case, cases},
};

pub(crate) fn all() -> Vec<Case> {
    cases![
        listeners_outlive_the_daemon_and_are_passed_on,
        sockets_and_their_files_are_as_asked_for,
        what_cannot_be_bound_is_refused_with_the_error,
        sockets_are_made_in_a_private_network,
        sockets_are_made_in_a_private_network_of_an_ordinary_user,
        a_socket_that_waits_for_its_peer_holds_nobody_up,
    ]
}

/// A connection whose last holder waits for days when it closes it, and its other end, which reads nothing.
fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    near.set_nonblocking(true).unwrap();
    SockRef::from(&near).set_linger(Some(Duration::from_secs(30_000))).unwrap();
    // As much as there is room for.
    while near.write(&[0; 1 << 16]).is_ok() {}
    (near, far)
}

fn a_socket_that_waits_for_its_peer_holds_nobody_up() {
    let mut app = App::start();
    let mut daemon = app.daemon();
    let path = app.folder.path().join("notify");
    let address = Address::UnixDatagram { path: path.clone(), mode: 0o666, owner: None };
    drop(listen(&mut daemon, "notify", address).unwrap());
    let mut others = Vec::new();
    let mut give = |daemon: &Daemon, request: Request| {
        let (near, far) = lingering();
        daemon.send(&request, &[near.as_fd()]);
        others.push(far);
    };
    let keep = || Request::Keep { name: "slow".into() };
    // Standing still, or this process could be the last holder.
    app.signal(Signal::SIGSTOP);
    eventually("it stands still", || state(app.spawner.id()) == Some('T'));
    give(&daemon, keep());
    // In place of the first.
    give(&daemon, keep());
    daemon.send(&Request::Unkeep { name: "slow".into() }, &[]);
    give(&daemon, Request::Close);
    // In a message that nobody has read.
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(&path).unwrap();
    let (near, far) = lingering();
    watt_os::fdpass::send(sender.as_fd(), b"x", &[near.as_fd()]).unwrap();
    drop(near);
    daemon.send(&Request::Unlisten { name: "notify".into() }, &[]);
    // There at the end.
    give(&daemon, keep());
    app.signal(Signal::SIGCONT);
    assert_eq!(daemon.list().len(), 2, "the info and what is kept");
    let exit = Request::Exit { status: 7, join_cgroups: vec![], remove: vec![], remove_if_empty: vec![] };
    daemon.send(&exit, &[]);
    assert_eq!(app.wait().code(), Some(7));
    drop((others, far));
}

fn loopback() -> Address {
    Address::Tcp { address: "127.0.0.1:0".parse().unwrap(), reuse_port: false }
}

pub(crate) fn listen(daemon: &mut Daemon, name: &str, address: Address) -> Result<(Address, OwnedFd), i32> {
    daemon.send(&Request::Listen { name: name.into(), address }, &[]);
    let (answer, mut descriptors) = daemon.wait(|message| match message {
        Message::Listener { address, .. } => Some(Ok(address.clone())),
        Message::ListenFailed { errno, .. } => Some(Err(*errno)),
        _ => None,
    });
    answer.map(|address| (address, descriptors.remove(0)))
}

fn listeners_outlive_the_daemon_and_are_passed_on() {
    let app = App::start();
    let mut daemon = app.daemon();
    let (Address::Tcp { address, .. }, _) = listen(&mut daemon, "gateway", loopback()).unwrap() else {
        panic!()
    };
    let mut waiting = TcpStream::connect(address).unwrap();
    daemon.kill();
    let mut waiting_more = TcpStream::connect(address).unwrap();
    let mut daemon = app.daemon();
    let list = daemon.list();
    let (Message::Listener { name, address: Address::Tcp { address: found, .. } }, _) = &list[1] else {
        panic!("{list:?}")
    };
    assert_eq!((name.as_str(), found), ("gateway", &address));
    let (again, _) = listen(&mut daemon, "gateway", loopback()).unwrap();
    assert_eq!(again, Address::Tcp { address, reuse_port: false }, "the name gives the same listener");
    // A worker answers both connections on the socket it inherited at descriptor 3.
    let script = "import socket; s = socket.socket(fileno=3); s.setblocking(True)\n\
                  for _ in range(2): s.accept()[0].sendall(b'hello')";
    let mut plan = program(&["python3", "-c", script]);
    plan.listeners = 1;
    daemon.spawn_with(1, plan, &["gateway"]);
    for connection in [&mut waiting, &mut waiting_more] {
        let mut text = String::new();
        connection.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }
    assert_eq!(daemon.exited(1).code, 0);
}

fn sockets_and_their_files_are_as_asked_for() {
    let app = App::start();
    let mut daemon = app.daemon();
    let path = app.folder.path().join("a.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let address = Address::Unix { path: path.clone(), mode: 0o640, owner: None };
    listen(&mut daemon, "a", address).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    UnixStream::connect(&path).unwrap();
    let datagrams = app.folder.path().join("notify.sock");
    let address = Address::UnixDatagram { path: datagrams.clone(), mode: 0o622, owner: None };
    let (_, socket) = listen(&mut daemon, "n", address).unwrap();
    assert_eq!(fs::metadata(&datagrams).unwrap().permissions().mode() & 0o777, 0o622);
    UnixDatagram::unbound().unwrap().send_to(b"READY=1", &datagrams).unwrap();
    let received = watt_os::fdpass::receive(socket.as_fd(), &mut [0; 16]).unwrap();
    assert_eq!(received.sender, Some(std::process::id()), "whoever speaks first is known as well");
}

fn what_cannot_be_bound_is_refused_with_the_error() {
    let app = App::start();
    let mut daemon = app.daemon();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let holder = TcpListener::bind(taken).unwrap();
    let address = Address::Tcp { address: holder.local_addr().unwrap(), reuse_port: false };
    assert_eq!(listen(&mut daemon, "taken", address).unwrap_err(), nix::libc::EADDRINUSE);
    let path = app.folder.path().join("x".repeat(108));
    let address = Address::Unix { path, mode: 0o600, owner: None };
    assert_eq!(listen(&mut daemon, "long", address).unwrap_err(), nix::libc::ENAMETOOLONG);
    let file = app.folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    let address = Address::Unix { path: file.clone(), mode: 0o600, owner: None };
    assert_eq!(listen(&mut daemon, "file", address).unwrap_err(), nix::libc::EADDRINUSE);
    assert_eq!(fs::read_to_string(file).unwrap(), "precious");
}

fn sockets_are_made_in_a_private_network() {
    check_sockets(&App::start(), !Uid::effective().is_root());
}

fn sockets_are_made_in_a_private_network_of_an_ordinary_user() {
    check_sockets(&App::start_as_nobody(), true);
}

fn check_sockets(app: &App, user_namespace: bool) {
    let mut daemon = app.daemon();
    let mut plan = sh("exec sleep 1000");
    plan.user_namespace = user_namespace;
    plan.network = Some(PrivateNetwork { sockets: 3, ..PrivateNetwork::default() });
    daemon.spawn(1, plan);
    let (names, made) = daemon.wait(|message| match message {
        Message::Executed { run: 1, names } => Some(names.clone()),
        Message::ExecFailed { step, object, errno, .. } => panic!("{step} {object}: {errno}"),
        _ => None,
    });
    assert_eq!(names.len(), made.len(), "{names:?}");
    assert_eq!(names.iter().filter(|name| *name == "socket").count(), 3, "{names:?}");
    daemon.send(&Request::MakeSockets { run: 1, count: 250 }, &[]);
    let (errno, more) = daemon.wait(|message| match message {
        Message::Sockets { run: 1, errno } => Some(*errno),
        _ => None,
    });
    assert_eq!((errno, more.len()), (0, 250));
    // Both kinds reach a listener that exists in that network only.
    let mesh = Socket::from(made[names.iter().position(|name| name == "mesh").unwrap()].try_clone().unwrap());
    let first = made[names.iter().position(|name| name == "socket").unwrap()].try_clone().unwrap();
    mesh.set_nonblocking(false).unwrap();
    for socket in [first, more[249].try_clone().unwrap()] {
        let socket = Socket::from(socket);
        socket.set_nonblocking(false).unwrap();
        socket.connect(&SocketAddr::from((MESH_ADDRESS.to_ipv6_mapped(), 80)).into()).unwrap();
        mesh.accept().unwrap();
    }
    // A successor gets what was kept, and no sockets.
    daemon.kill();
    let list = app.daemon().list();
    let (Message::Run { names: kept, .. }, descriptors) = &list[1] else { panic!("{list:?}") };
    let expected: Vec<&String> = names.iter().filter(|name| *name != "socket").collect();
    assert_eq!(kept.iter().collect::<Vec<_>>(), expected);
    assert_eq!(descriptors.len(), 3 + kept.len());
}
