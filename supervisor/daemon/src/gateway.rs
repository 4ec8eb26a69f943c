//! The gateway's listeners: one for each thread of the proxy, so that the kernel spreads connections over them.
//!
//! The spawner holds them while daemon and proxy come and go, and a service manager while the spawner does, so that connections wait
//! for the next life in place of being refused. Their names say by a number, the generation, which of them were bound together: those
//! of a reload have another one than those before. Which are taken up again is decided by where they are bound.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{SocketAddr, TcpListener},
    os::fd::{AsFd, OwnedFd},
};

use watt_core::plan::Server;
use watt_spawner::protocol::Address;

use crate::{
    adopt::is_of_worker,
    holder, proxy,
    settings::{GatewayRefusal, StartError},
};

/// The beginning of their names at the spawner.
const PREFIX: &str = "gateway/";

/// The sockets that the spawner holds, by name.
type Held = BTreeMap<String, (Address, OwnedFd)>;

/// The name of one of them at the spawner.
pub(crate) fn name(generation: u64, thread: usize) -> String {
    match generation {
        0 => format!("{PREFIX}{thread}"),
        _ => format!("{PREFIX}{generation}/{thread}"),
    }
}

/// Whether this is the name of one of them.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The generation in such a name.
fn generation(name: &str) -> Option<u64> {
    match name.strip_prefix(PREFIX)?.split_once('/') {
        None => Some(0),
        Some((generation, _)) => generation.parse().ok(),
    }
}

/// Whether what is bound here is where the configuration says.
pub(crate) fn is_at(server: &Server, bound: SocketAddr) -> bool {
    bound.ip() == server.hostname && (server.port == 0 || bound.port() == server.port)
}

/// What a new application goes on with, of what an earlier life left in a service manager's keeping: the generation most of whose
/// listeners are where they are wanted, else one that nothing is called by.
pub(crate) fn first_generation(server: Option<&Server>, held: &Held, threads: usize) -> u64 {
    let known: BTreeSet<u64> = held.keys().filter_map(|name| generation(name)).collect();
    let fitting =
        |generation: &u64| server.map_or(0, |server| fitting(server, *generation, held, threads).len());
    let best = known.iter().copied().map(|generation| (fitting(&generation), generation)).max();
    match (best, known.last()) {
        (Some((1.., generation)), _) => generation,
        (_, Some(last)) => last.saturating_add(1),
        (_, None) => 0,
    }
}

/// The held listeners of a generation that are wanted, and where all of them are.
pub(crate) fn fitting(
    server: &Server,
    generation: u64,
    held: &Held,
    threads: usize,
) -> BTreeMap<String, SocketAddr> {
    let mut found = BTreeMap::new();
    for name in (0..threads).map(|thread| name(generation, thread)) {
        let Some((Address::Tcp { address, reuse_port }, _)) = held.get(&name) else { continue };
        // Others cannot be bound beside one without.
        let can_share = *reuse_port || threads == 1;
        let is_with_others = found.values().all(|other| other == address);
        if can_share && is_with_others && is_at(server, *address) {
            found.insert(name, *address);
        }
    }
    found
}

/// The names of held TCP listeners that are neither among these nor any other of ours: of an earlier address, of more threads, or
/// of somebody who put them in our manager's keeping.
pub(crate) fn unwanted<'a>(held: &'a Held, wanted: &BTreeMap<String, SocketAddr>) -> Vec<&'a String> {
    let is_other = |name: &str| name == proxy::MESH_HOST || is_of_worker(name);
    let tcp = held.iter().filter(|(_, (address, _))| matches!(address, Address::Tcp { .. }));
    tcp.map(|(name, _)| name).filter(|name| !wanted.contains_key(*name) && !is_other(name)).collect()
}

/// What tells these sockets from all others of the host.
pub(crate) fn inodes<'a>(sockets: impl IntoIterator<Item = &'a OwnedFd>) -> BTreeSet<u64> {
    let inode = |socket: &OwnedFd| nix::sys::stat::fstat(socket.as_fd()).ok().map(|stat| stat.st_ino);
    sockets.into_iter().filter_map(inode).collect()
}

/// Whether nobody else listens there. With SO_REUSEPORT the kernel lets a second application of the same user share a port in
/// silence, so it is bound once without; what stands in the way then may be our own, on this port and another address.
pub(crate) fn check_free(address: SocketAddr, own: &BTreeSet<u64>) -> Result<(), StartError> {
    let Err(error) = TcpListener::bind(address) else { return Ok(()) };
    let in_the_way = holder::listeners(address);
    let is_own = !in_the_way.is_empty() && in_the_way.iter().all(|inode| own.contains(inode));
    if error.kind() == io::ErrorKind::AddrInUse && is_own { Ok(()) } else { Err(refused(address, &error)) }
}

/// Why the gateway's address cannot be bound.
pub(crate) fn refused(address: SocketAddr, error: &io::Error) -> StartError {
    let reason = match error.kind() {
        io::ErrorKind::AddrInUse => GatewayRefusal::Taken(holder::of_port(address)),
        io::ErrorKind::PermissionDenied => GatewayRefusal::Denied(error.to_string()),
        _ => GatewayRefusal::Other(error.to_string()),
    };
    StartError::Gateway { address, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `gateway/1/0 127.0.0.1:80`, with a `!` for one whose port cannot be shared.
    fn held(lines: &[&str]) -> Held {
        let one = |line: &&str| {
            let (name, address) = line.split_once(' ').unwrap();
            let (address, reuse_port) = match address.strip_suffix('!') {
                Some(address) => (address, false),
                None => (address, true),
            };
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = Address::Tcp { address: address.parse().unwrap(), reuse_port };
            (name.to_owned(), (address, socket.into()))
        };
        lines.iter().map(one).collect()
    }

    fn server(address: &str) -> Server {
        let address: SocketAddr = address.parse().unwrap();
        Server { hostname: address.ip(), port: address.port(), tls: None, proxies: Vec::new() }
    }

    #[test]
    fn what_was_stored_is_found_by_its_address() {
        let check =
            |wanted: &str, threads, stored: &[&str], expected: u64, kept: &[&str], given_back: &[&str]| {
                let (server, stored) = (server(wanted), held(stored));
                let generation = first_generation(Some(&server), &stored, threads);
                assert_eq!(generation, expected);
                let fitting = fitting(&server, generation, &stored, threads);
                assert_eq!(fitting.keys().collect::<Vec<_>>(), kept);
                assert_eq!(unwanted(&stored, &fitting), given_back);
            };
        let two = ["gateway/0 127.0.0.1:80", "gateway/1 127.0.0.1:80"];
        check("127.0.0.1:80", 2, &[], 0, &[], &[]);
        check("127.0.0.1:80", 2, &two, 0, &["gateway/0", "gateway/1"], &[]);
        check("127.0.0.1:0", 2, &two, 0, &["gateway/0", "gateway/1"], &[]);
        // Of a reload.
        let later = ["gateway/7/0 127.0.0.1:81", "gateway/7/1 127.0.0.1:81"];
        check("127.0.0.1:81", 2, &later, 7, &["gateway/7/0", "gateway/7/1"], &[]);
        // Killed in a reload.
        let both = [two, later].concat();
        check("127.0.0.1:81", 2, &both, 7, &["gateway/7/0", "gateway/7/1"], &["gateway/0", "gateway/1"]);
        check("127.0.0.1:80", 2, &both, 0, &["gateway/0", "gateway/1"], &["gateway/7/0", "gateway/7/1"]);
        // Another address; the names are not given to others.
        check("127.0.0.2:80", 2, &two, 1, &[], &["gateway/0", "gateway/1"]);
        check("127.0.0.1:82", 2, &both, 8, &[], &["gateway/0", "gateway/1", "gateway/7/0", "gateway/7/1"]);
        // More and fewer threads than before.
        check("127.0.0.1:80", 3, &two, 0, &["gateway/0", "gateway/1"], &[]);
        check("127.0.0.1:80", 1, &two, 0, &["gateway/0"], &["gateway/1"]);
        // What another version bound for itself alone.
        check("127.0.0.1:80", 1, &["gateway/0 127.0.0.1:80!"], 0, &["gateway/0"], &[]);
        check("127.0.0.1:80", 2, &["gateway/0 127.0.0.1:80!"], 1, &[], &["gateway/0"]);
        // A stranger's, and what else is ours.
        let others = ["http 127.0.0.1:80", "mesh/host 127.78.0.1:80", "gateway/x/y 127.0.0.1:80"];
        check("127.0.0.1:80", 1, &others, 0, &[], &["gateway/x/y", "http"]);
        assert_eq!(first_generation(None, &held(&two), 2), 1);
    }

    #[test]
    fn only_others_are_in_the_way() {
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = own.local_addr().unwrap();
        let everywhere = SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), address.port());
        let own = inodes([&OwnedFd::from(own.try_clone().unwrap())]);
        for address in [address, everywhere] {
            assert!(check_free(address, &own).is_ok());
            assert!(check_free(address, &BTreeSet::new()).is_err());
        }
        // One that has a stranger beside ours.
        let stranger = TcpListener::bind(SocketAddr::new([127, 0, 0, 2].into(), address.port())).unwrap();
        assert!(check_free(address, &own).is_ok());
        assert!(check_free(everywhere, &own).is_err());
        drop(stranger);
    }
}
