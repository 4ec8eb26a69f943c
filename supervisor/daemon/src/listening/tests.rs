use std::{
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::net::UnixListener,
    process::{Child, Command, Stdio},
};

use watt_os::process_info;

use super::*;

/// Set for the process that listens on behalf of a test.
const HELPER: &str = "WATT_TEST_LISTEN_ON";

/// Not a test of its own: what [`Program::start`] starts.
#[test]
fn helper() {
    let Ok(addresses) = std::env::var(HELPER) else { return };
    let listeners: Vec<TcpListener> =
        addresses.split(' ').map(|address| TcpListener::bind(address).unwrap()).collect();
    let ports = listeners.iter().map(|listener| listener.local_addr().unwrap().port().to_string());
    println!("ports {}", ports.collect::<Vec<_>>().join(" "));
    // The end of the input is the end of the test.
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// A program that listens.
struct Program {
    child: Child,
    ports: Vec<u16>,
}

impl Program {
    fn start(addresses: &str) -> Program {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "listening::tests::helper", "--nocapture"])
            .env(HELPER, addresses)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The test harness writes in front of it.
        let ports = lines.map(Result::unwrap).find_map(|line| Some(line.split_once("ports ")?.1.to_owned()));
        let ports = ports.unwrap().split(' ').map(|port| port.parse().unwrap()).collect();
        Program { child, ports }
    }

    fn network(&self) -> Network {
        let main = self.child.id();
        let main_started = process_info::start_time(main).unwrap();
        Network::host(Owner { cgroup: None, marks: Marks { main, main_started, ..Marks::default() } })
            .unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tcp(port: u16) -> Option<Endpoint> {
    Some(Endpoint::Tcp { address: (Ipv4Addr::LOCALHOST, port).into() })
}

#[tokio::test]
async fn a_programs_listeners_are_told_from_those_of_others() {
    let program = Program::start("127.0.0.1:0");
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    let foreign = foreign.local_addr().unwrap().port();
    let port = program.ports[0];
    let look = async |accepts| Listening::new(accepts, program.network()).look().await.unwrap();
    assert_eq!(look(Accepts::Found(1)).await, tcp(port));
    assert_eq!(look(Accepts::Port(port)).await, tcp(port));
    // Somebody else on the expected port is not the program.
    assert_eq!(look(Accepts::Port(foreign)).await, None);
    assert_eq!(look(Accepts::Nowhere).await, None);
}

#[tokio::test]
async fn the_port_it_was_told_comes_first_then_the_lowest() {
    let program = Program::start("127.0.0.1:0 0.0.0.0:0 127.0.0.1:0");
    let look = async |told| Listening::new(Accepts::Found(told), program.network()).look().await.unwrap();
    for port in &program.ports {
        assert_eq!(look(*port).await, tcp(*port));
    }
    assert_eq!(look(1).await, tcp(*program.ports.iter().min().unwrap()));
}

#[tokio::test]
async fn a_program_that_does_not_listen_yet_is_nowhere() {
    let mut program = Program::start("127.0.0.1:0");
    let network = program.network();
    program.child.kill().unwrap();
    program.child.wait().unwrap();
    assert_eq!(Listening::new(Accepts::Found(program.ports[0]), network).look().await.unwrap(), None);
}

#[tokio::test]
async fn watts_own_listeners_in_a_private_network_do_not_count() {
    let listener = OwnedFd::from(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = TcpListener::from(listener.try_clone().unwrap()).local_addr().unwrap();
    let look = async |own: &[OwnedFd]| {
        let network = Network::private(SockDiag::open().unwrap().into(), own).unwrap();
        Listening::new(Accepts::Port(address.port()), network).look().await.unwrap()
    };
    assert_eq!(look(&[]).await, Some(Endpoint::PrivateTcp { address }));
    assert_eq!(look(&[listener]).await, None);
}

#[tokio::test]
async fn a_unix_socket_counts_when_somebody_accepts_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("worker.sock");
    let network = || Network::private(SockDiag::open().unwrap().into(), []).unwrap();
    let mut made = Listening::new(Accepts::Unix(path.clone()), network());
    let mut inherited = Listening::new(Accepts::Inherited(path.clone()), network());
    let endpoint = Some(Endpoint::Unix { path: path.clone() });
    assert_eq!(inherited.look().await.unwrap(), endpoint);
    assert_eq!(made.look().await.unwrap(), None);
    let listener = UnixListener::bind(&path).unwrap();
    assert_eq!(made.look().await.unwrap(), endpoint);
    // The file is left behind by a program that has gone.
    drop(listener);
    assert!(path.exists());
    assert_eq!(made.look().await.unwrap(), None);
}

fn listener(port: u16, inode: u32, cgroup: Option<u64>) -> Listener {
    Listener { address: (Ipv4Addr::LOCALHOST, port).into(), v6_only: false, inode, uid: 0, cgroup }
}

/// The ports of the listeners that are the owner's.
async fn own_ports(owner: &Owner, listeners: &[Listener], walk: &mut Walk) -> Vec<u16> {
    let kept = owner.keep_own(listeners.to_vec(), walk).await.unwrap();
    kept.iter().map(|listener| listener.address.port()).collect()
}

#[tokio::test]
async fn a_cgroup_decides_where_there_is_one() {
    let listener = |port, cgroup| listener(port, 0, cgroup);
    let owner = Owner { cgroup: Some(7), marks: Marks { main: u32::MAX, ..Marks::default() } };
    let walk = &mut Walk::default();
    let three = [listener(1, Some(7)), listener(2, Some(8)), listener(3, Some(7))];
    assert_eq!(own_ports(&owner, &three, walk).await, [1, 3]);
    // One whose cgroup the kernel does not tell is looked for among the processes, and these have none.
    assert_eq!(own_ports(&owner, &[listener(1, Some(7)), listener(2, None)], walk).await, [1]);
}

#[tokio::test(start_paused = true)]
async fn processes_are_walked_again_for_another_socket_or_after_a_while() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = inode(&socket).unwrap();
    let ours = std::process::id();
    let listeners = [listener(1, own, None)];
    // The walk leaves out the process that makes it, so that a child which inherited the socket has to hold it.
    let socket = OwnedFd::from(socket);
    let child = Command::new("sleep").arg("1000").stdin(Stdio::from(socket)).spawn().unwrap();
    let program = Program { child, ports: Vec::new() };
    let Network::Host { owner, mut walk, .. } = program.network() else { unreachable!("it is the host's") };
    assert_eq!(own_ports(&owner, &listeners, &mut walk).await, [1]);

    // With an owner that has no process, what is still known shows that nobody looked.
    let nobody = Owner { cgroup: None, marks: Marks { main: ours, ..Marks::default() } };
    assert_eq!(own_ports(&nobody, &listeners, &mut walk).await, [1], "it was looked again");
    let with_another = [listener(1, own, None), listener(2, own + 1, None)];
    assert!(own_ports(&nobody, &with_another, &mut walk).await.is_empty());
    assert!(own_ports(&owner, &with_another, &mut walk).await.is_empty());
    tokio::time::advance(WALK_AGAIN_AFTER).await;
    assert_eq!(own_ports(&owner, &with_another, &mut walk).await, [1]);
}

#[test]
fn addresses_are_those_it_can_be_reached_by() {
    let check = |listeners: &[(&str, bool)], expected: &str| {
        let listener = |(address, v6_only): &(&str, bool)| Listener {
            address: address.parse().unwrap(),
            v6_only: *v6_only,
            inode: 0,
            uid: 0,
            cgroup: None,
        };
        let listeners: Vec<Listener> = listeners.iter().map(listener).collect();
        assert_eq!(best(&mut listeners.iter()), Some(expected.parse().unwrap()), "{listeners:?}");
    };
    check(&[("0.0.0.0:80", false)], "127.0.0.1:80");
    check(&[("[::]:80", false)], "127.0.0.1:80");
    check(&[("[::]:80", true)], "[::1]:80");
    check(&[("[::1]:80", false)], "[::1]:80");
    check(&[("[::ffff:127.0.0.1]:80", false)], "127.0.0.1:80");
    check(&[("10.1.2.3:80", false)], "10.1.2.3:80");
    check(&[("[::1]:80", true), ("127.0.0.1:80", false)], "127.0.0.1:80");
    check(&[("10.1.2.3:80", false), ("127.0.0.1:80", false)], "127.0.0.1:80");
    check(&[("127.0.0.1:9229", false), ("[::1]:3000", false)], "[::1]:3000");
    assert_eq!(best(&mut [].iter()), None);
}

#[test]
fn links_to_sockets_are_read_and_others_are_not() {
    let check = |target: &str, expected| assert_eq!(socket_inode(Path::new(target)), expected, "{target}");
    check("socket:[4711]", Some(4711));
    check("pipe:[4711]", None);
    check("socket:[]", None);
    check("socket:[99999999999]", None);
    check("/tmp/socket:[1]", None);
}
