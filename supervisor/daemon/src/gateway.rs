//! The gateway's listeners: one socket for each thread of the proxy, so that the kernel spreads connections over them; at a Unix socket, which
//! cannot be bound twice, one for all.
//!
//! The spawner holds them while daemon and proxy come and go, and a service manager while the spawner does, so that connections wait
//! for the next life in place of being refused. Their names say by a number which of them were bound together: no two listeners have the
//! same one, nor has one that is bound anew. What a listener is called in the configuration is not in them: those that are where a
//! configuration wants one are taken up again, whatever it is called there.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs, io,
    net::{IpAddr, SocketAddr, TcpListener},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileTypeExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt::PeerCredentials,
    },
};
use watt_core::plan::{ListenAt, Listener, Plan, SocketOwner};
use watt_spawner::protocol::Address;

use crate::{
    adopt::is_of_worker,
    holder::{self, Holder},
    launch::accounts,
    proxy,
    settings::{GatewayRefusal, StartError},
};

/// The beginning of their names at the spawner.
const PREFIX: &str = watt_spawner::protocol::GATEWAY_PREFIX;

/// The sockets that the spawner holds, by name.
type Held = BTreeMap<String, (Address, OwnedFd)>;

/// Where sockets are bound, with the kernel's choice of port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp(address) => address.fmt(f),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Place {
    /// That of a held socket, if it is one that clients can come in by.
    fn of(address: &Address) -> Option<Place> {
        match address {
            Address::Tcp { address, .. } => Some(Place::Tcp(*address)),
            Address::Unix { path, .. } => Some(Place::Unix(path.clone())),
            Address::UnixDatagram { .. } => None,
        }
    }

    /// Where a configuration wants one.
    fn wanted(at: &ListenAt) -> Place {
        match at {
            ListenAt::Tcp { hostname, port } => Place::Tcp(SocketAddr::new(*hostname, *port)),
            ListenAt::Unix { path, .. } => Place::Unix(path.clone()),
        }
    }

    /// Whether this is where a configuration wants one.
    pub(crate) fn is_at(&self, at: &ListenAt) -> bool {
        match (self, at) {
            (Place::Tcp(bound), ListenAt::Tcp { hostname, port }) => {
                bound.ip() == *hostname && (*port == 0 || bound.port() == *port)
            }
            (Place::Unix(bound), ListenAt::Unix { path, .. }) => bound == path,
            (Place::Tcp(_), ListenAt::Unix { .. }) | (Place::Unix(_), ListenAt::Tcp { .. }) => false,
        }
    }
}

/// The sockets of a listener: their number, and where they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) number: u64,
    pub(crate) place: Place,
}

/// Those of all listeners, by what the configuration calls them.
pub(crate) type AllBound = BTreeMap<String, Bound>;

/// A listener whose sockets are bound one after the other.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) listener: String,
    pub(crate) number: u64,
    pub(crate) sockets: Vec<Arc<OwnedFd>>,
    address: Address,
    count: usize,
}

impl Binding {
    /// None is bound yet.
    pub(crate) fn new(
        listener: &str,
        number: u64,
        at: &ListenAt,
        owner: Option<(u32, u32)>,
        threads: usize,
    ) -> Binding {
        let address = match at {
            // Shared even where there is one thread, so that a reload can bind another address on the same port.
            ListenAt::Tcp { hostname, port } => {
                Address::Tcp { address: SocketAddr::new(*hostname, *port), reuse_port: true }
            }
            ListenAt::Unix { path, mode, .. } => Address::Unix { path: path.clone(), mode: *mode, owner },
        };
        Binding {
            listener: listener.to_owned(),
            number,
            sockets: Vec::new(),
            address,
            count: sockets(at, threads),
        }
    }

    /// Some are bound already, here.
    pub(crate) fn goes_on_at(&mut self, place: &Place) {
        if let (Address::Tcp { address, .. }, Place::Tcp(bound)) = (&mut self.address, place) {
            *address = *bound;
        }
    }

    /// The name of the next one and where it is to be bound. `None` when all are.
    pub(crate) fn next(&self) -> Option<(String, Address)> {
        let thread = self.sockets.len();
        (thread < self.count).then(|| (name(self.number, thread), self.address.clone()))
    }

    /// Takes the next one.
    pub(crate) fn took(&mut self, address: Address, socket: OwnedFd) {
        // Port 0 is chosen by the kernel for the first, and the others follow it.
        if let (Address::Tcp { address: wanted, .. }, Address::Tcp { address, .. }) =
            (&mut self.address, address)
        {
            *wanted = address;
        }
        self.sockets.push(Arc::new(socket));
    }

    /// Where it is.
    pub(crate) fn bound(&self) -> Option<Bound> {
        Some(Bound { number: self.number, place: Place::of(&self.address)? })
    }

    /// Why it cannot be had.
    pub(crate) fn refused(&self, error: &io::Error) -> StartError {
        let place = Place::of(&self.address).unwrap_or_else(|| Place::Unix(PathBuf::new()));
        refused(&self.listener, &place, error)
    }

    /// The names that there may be at the spawner, the one that is on its way included.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        (0..=self.sockets.len()).map(|thread| name(self.number, thread))
    }
}

/// Where these are.
pub(crate) fn all(bindings: &[Binding]) -> AllBound {
    let one = |binding: &Binding| Some((binding.listener.clone(), binding.bound()?));
    bindings.iter().filter_map(one).collect()
}

/// How many sockets a listener has.
fn sockets(at: &ListenAt, threads: usize) -> usize {
    match at {
        ListenAt::Tcp { .. } => threads,
        ListenAt::Unix { .. } => 1,
    }
}

/// The name of one of them at the spawner.
pub(crate) fn name(number: u64, thread: usize) -> String {
    match number {
        0 => format!("{PREFIX}{thread}"),
        _ => format!("{PREFIX}{number}/{thread}"),
    }
}

/// Whether this is the name of one of them.
pub(crate) fn is_name(name: &str) -> bool {
    name.starts_with(PREFIX)
}

/// The number in such a name.
fn number(name: &str) -> Option<u64> {
    match name.strip_prefix(PREFIX)?.split_once('/') {
        None => Some(0),
        Some((number, _)) => number.parse().ok(),
    }
}

/// The listeners of a plan, that of `server` first.
pub(crate) fn in_order(plan: &Plan) -> impl Iterator<Item = (&str, &Listener)> {
    let server = plan.server().map(|server| (Listener::SERVER, server));
    server.into_iter().chain(plan.other_listeners())
}

/// Which of those that are bound are where a configuration wants some, and which it has to have bound.
pub(crate) fn assign<'p>(plan: &'p Plan, bound: &AllBound) -> (AllBound, Vec<(&'p str, &'p Listener)>) {
    let mut stay = AllBound::new();
    let is_taken = |stay: &AllBound, one: &Bound| stay.values().any(|other| other.number == one.number);
    // Under its own name first: where any port will do, that is the one that its clients know.
    for (name, listener) in in_order(plan) {
        if let Some(own) = bound.get(name).filter(|own| own.place.is_at(&listener.at)) {
            stay.insert(name.to_owned(), own.clone());
        }
    }
    let mut missing = Vec::new();
    for (name, listener) in in_order(plan) {
        if stay.contains_key(name) {
            continue;
        }
        let fits = |one: &&Bound| {
            !is_any_port(&listener.at) && one.place.is_at(&listener.at) && !is_taken(&stay, one)
        };
        match bound.values().find(fits).cloned() {
            Some(other) => drop(stay.insert(name.to_owned(), other)),
            None => missing.push((name, listener)),
        }
    }
    (stay, missing)
}

/// Whether the kernel chooses the port.
fn is_any_port(at: &ListenAt) -> bool {
    matches!(at, ListenAt::Tcp { port: 0, .. })
}

/// What a new application goes on with, of what an earlier life left in a service manager's keeping: for each listener the number most of
/// whose sockets are where it is wanted, else one that nothing is called by.
pub(crate) fn first_numbers(plan: &Plan, held: &Held, threads: usize) -> BTreeMap<String, u64> {
    let known: BTreeSet<u64> = held.keys().filter_map(|name| number(name)).collect();
    let mut free = known.last().map_or(0, |last| last.saturating_add(1));
    let mut taken = BTreeSet::new();
    let mut numbers = BTreeMap::new();
    // Where any port will do last: what is wanted at a certain one is that one's.
    let (any, fixed): (Vec<_>, Vec<_>) = in_order(plan).partition(|(_, listener)| is_any_port(&listener.at));
    for (name, listener) in fixed.into_iter().chain(any) {
        let fitting = |number: &u64| fitting(&listener.at, *number, held, threads).len();
        let left = known.iter().filter(|number| !taken.contains(*number));
        let best = left.map(|number| (fitting(number), *number)).max();
        let number = match best {
            Some((1.., number)) => number,
            _ => {
                free += 1;
                free - 1
            }
        };
        taken.insert(number);
        numbers.insert(name.to_owned(), number);
    }
    numbers
}

/// The held sockets with a number that are wanted.
pub(crate) fn fitting(at: &ListenAt, number: u64, held: &Held, threads: usize) -> BTreeMap<String, Place> {
    let mut found = BTreeMap::new();
    for name in (0..sockets(at, threads)).map(|thread| name(number, thread)) {
        let Some((address, _)) = held.get(&name) else { continue };
        // Others cannot be bound beside one without.
        let can_share = match address {
            Address::Tcp { reuse_port, .. } => *reuse_port || threads == 1,
            Address::Unix { .. } | Address::UnixDatagram { .. } => true,
        };
        let Some(place) = Place::of(address) else { continue };
        let is_with_others = found.values().all(|other| *other == place);
        if can_share && is_with_others && place.is_at(at) {
            found.insert(name, place);
        }
    }
    found
}

/// The names of held listeners that are neither among these nor any other of ours: of an earlier address, of more threads, or
/// of somebody who put them in our manager's keeping.
pub(crate) fn unwanted<'a>(held: &'a Held, wanted: &BTreeMap<String, Place>) -> Vec<&'a String> {
    let is_other = |name: &str, address: &Address| match address {
        Address::Tcp { .. } => name == proxy::MESH_HOST || is_of_worker(name),
        Address::Unix { .. } | Address::UnixDatagram { .. } => !is_name(name),
    };
    let ours = held.iter().filter(|(name, (address, _))| !is_other(name, address));
    ours.map(|(name, _)| name).filter(|name| !wanted.contains_key(*name)).collect()
}

/// What tells these sockets from all others of the host.
pub(crate) fn inodes<'a>(sockets: impl IntoIterator<Item = &'a OwnedFd>) -> BTreeSet<u64> {
    let inode = |socket: &OwnedFd| nix::sys::stat::fstat(socket.as_fd()).ok().map(|stat| stat.st_ino);
    sockets.into_iter().filter_map(inode).collect()
}

/// Whose the file of a listener's socket is to be, in numbers. `None` where nothing is said about that. May have to ask a name service.
pub(crate) fn owner(name: &str, listener: &Listener) -> Result<Option<(u32, u32)>, StartError> {
    let ListenAt::Unix { owner: SocketOwner { user, group }, .. } = &listener.at else { return Ok(None) };
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    accounts::of_socket(user.as_deref(), group.as_deref()).map(Some).map_err(|unknown| StartError::Gateway {
        listener: name.to_owned(),
        place: Place::wanted(&listener.at),
        reason: GatewayRefusal::Account(unknown.what),
    })
}

/// Whether no other listener of ours stays at the port where one is to be: the kernel may have chosen it for one that any port will do for, and would
/// let both share it in silence.
pub(crate) fn check_beside(name: &str, listener: &Listener, stay: &AllBound) -> Result<(), StartError> {
    let place = Place::wanted(&listener.at);
    let Place::Tcp(wanted) = place else { return Ok(()) };
    let shares = |bound: &Bound| match bound.place {
        Place::Tcp(bound) => {
            let takes =
                |all: IpAddr, other: IpAddr| all.is_unspecified() && (all.is_ipv6() || other.is_ipv4());
            let (first, second) = (bound.ip(), wanted.ip());
            bound.port() == wanted.port() && (first == second || takes(first, second) || takes(second, first))
        }
        Place::Unix(_) => false,
    };
    match stay.iter().find(|(_, bound)| shares(bound)) {
        None => Ok(()),
        Some((other, _)) => {
            let reason = GatewayRefusal::Other(format!("the listener `{other}` has that port"));
            Err(StartError::Gateway { listener: name.to_owned(), place, reason })
        }
    }
}

/// Whether nobody else listens where a listener is to be. Own sockets are no obstacle.
pub(crate) fn check_free(name: &str, listener: &Listener, own: &BTreeSet<u64>) -> Result<(), StartError> {
    let place = Place::wanted(&listener.at);
    match &place {
        Place::Tcp(address) => check_port(name, *address, own),
        Place::Unix(path) => check_path(path).map_err(|reason| StartError::Gateway {
            listener: name.to_owned(),
            place: place.clone(),
            reason,
        }),
    }
}

/// With SO_REUSEPORT the kernel lets a second application of the same user share a port in
/// silence, so it is bound once without; what stands in the way then may be our own, on this port and another address.
fn check_port(name: &str, address: SocketAddr, own: &BTreeSet<u64>) -> Result<(), StartError> {
    let Err(error) = TcpListener::bind(address) else { return Ok(()) };
    let in_the_way = holder::listeners(address);
    let is_own = !in_the_way.is_empty() && in_the_way.iter().all(|inode| own.contains(inode));
    match error.kind() == io::ErrorKind::AddrInUse && is_own {
        true => Ok(()),
        false => Err(refused(name, &Place::Tcp(address), &error)),
    }
}

/// The spawner removes a socket that it finds where it is to bind one. So only one that nobody listens at may be there.
fn check_path(path: &Path) -> Result<(), GatewayRefusal> {
    let other = |error: io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => GatewayRefusal::Denied(error.to_string()),
        _ => GatewayRefusal::Other(error.to_string()),
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(other(error)),
        Ok(file) if !file.file_type().is_socket() => return Err(GatewayRefusal::NoSocket),
        Ok(_) => {}
    }
    let address = UnixAddr::new(path).map_err(|errno| other(errno.into()))?;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let asking =
        socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(|errno| other(errno.into()))?;
    use std::os::fd::AsRawFd;
    match connect(asking.as_raw_fd(), &address) {
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(()),
        // Who listens has its queue full.
        Err(Errno::EAGAIN) => Err(GatewayRefusal::Listens(Holder::AnotherUsers)),
        // A datagram socket, perhaps, which is somebody's as well.
        Err(errno) => Err(other(errno.into())),
        Ok(()) => {
            let pid =
                getsockopt(&asking, PeerCredentials).ok().and_then(|peer| u32::try_from(peer.pid()).ok());
            Err(GatewayRefusal::Listens(pid.map_or(Holder::AnotherUsers, Holder::of_pid)))
        }
    }
}

/// Why a listener cannot be bound.
fn refused(listener: &str, place: &Place, error: &io::Error) -> StartError {
    let reason = match (error.kind(), place) {
        (io::ErrorKind::AddrInUse, Place::Tcp(address)) => GatewayRefusal::Taken(holder::of_port(*address)),
        // The spawner removes what it may, so this is no socket, or somebody listens there since a moment ago.
        (io::ErrorKind::AddrInUse, Place::Unix(path)) => {
            check_path(path).err().unwrap_or(GatewayRefusal::NoSocket)
        }
        (io::ErrorKind::PermissionDenied, _) => GatewayRefusal::Denied(error.to_string()),
        _ => GatewayRefusal::Other(error.to_string()),
    };
    StartError::Gateway { listener: listener.to_owned(), place: place.clone(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `gateway/1/0 127.0.0.1:80`, with a `!` for one whose port cannot be shared.
    fn held(lines: &[&str]) -> Held {
        let one = |line: &&str| {
            let (name, address) = line.split_once(' ').unwrap();
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            if let Some(path) = address.strip_prefix("unix:") {
                let address = Address::Unix { path: path.into(), mode: 0o660, owner: None };
                return (name.to_owned(), (address, socket.into()));
            }
            let (address, reuse_port) = match address.strip_suffix('!') {
                Some(address) => (address, false),
                None => (address, true),
            };
            let address = Address::Tcp { address: address.parse().unwrap(), reuse_port };
            (name.to_owned(), (address, socket.into()))
        };
        lines.iter().map(one).collect()
    }

    /// `a 127.0.0.1:80`, `b unix:/run/b`; without a name that of `server`.
    fn plan(wanted: &[&str]) -> Plan {
        let mut plan = crate::testing::plan(&["api"]);
        for line in wanted {
            let (name, at) = line.split_once(' ').unwrap_or((Listener::SERVER, line));
            let listener = match at.strip_prefix("unix:") {
                Some(path) => {
                    let at = ListenAt::Unix { path: path.into(), mode: 0o660, owner: SocketOwner::default() };
                    Listener { at, ..Listener::tcp([127, 0, 0, 1].into(), 0) }
                }
                None => {
                    let address: SocketAddr = at.parse().unwrap();
                    Listener::tcp(address.ip(), address.port())
                }
            };
            plan.listeners.insert(name.to_owned(), listener);
        }
        plan
    }

    fn bound(lines: &[&str]) -> AllBound {
        let one = |line: &&str| {
            let [name, number, place] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            let place = match place.strip_prefix("unix:") {
                Some(path) => Place::Unix(path.into()),
                None => Place::Tcp(place.parse().unwrap()),
            };
            (name.to_owned(), Bound { number: number.parse().unwrap(), place })
        };
        lines.iter().map(one).collect()
    }

    #[test]
    fn what_was_stored_is_found_by_its_address() {
        let check =
            |wanted: &str, threads, stored: &[&str], expected: u64, kept: &[&str], given_back: &[&str]| {
                let (plan, stored) = (plan(&[wanted]), held(stored));
                let number = first_numbers(&plan, &stored, threads)[Listener::SERVER];
                assert_eq!(number, expected);
                let fitting = fitting(&plan.server().unwrap().at, number, &stored, threads);
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
    }

    #[test]
    fn each_of_several_has_a_number_of_its_own() {
        let check = |wanted: &[&str], stored: &[&str], expected: &[(&str, u64)]| {
            let numbers = first_numbers(&plan(wanted), &held(stored), 1);
            let numbers: Vec<_> = numbers.iter().map(|(name, number)| (name.as_str(), *number)).collect();
            assert_eq!(numbers, expected, "{wanted:?} {stored:?}");
        };
        let wanted = ["127.0.0.1:80", "admin 127.0.0.1:81", "local unix:/run/x"];
        check(&wanted, &[], &[("admin", 1), ("local", 2), ("server", 0)]);
        check(&wanted, &["gateway/3/0 127.0.0.1:81"], &[("admin", 3), ("local", 5), ("server", 4)]);
        let all = ["gateway/0 unix:/run/x", "gateway/1/0 127.0.0.1:80", "gateway/2/0 127.0.0.1:81"];
        check(&wanted, &all, &[("admin", 2), ("local", 0), ("server", 1)]);
        // Where any port will do, two listeners are not given the same sockets.
        let any = ["127.0.0.1:0", "admin 127.0.0.1:0"];
        check(&any, &["gateway/0 127.0.0.1:80"], &[("admin", 1), ("server", 0)]);
        let one_fixed = ["127.0.0.1:0", "admin 127.0.0.1:80"];
        check(&one_fixed, &["gateway/0 127.0.0.1:80"], &[("admin", 0), ("server", 1)]);
        let stored = held(&all);
        assert_eq!(unwanted(&stored, &BTreeMap::new()).len(), 3);
        assert!(unwanted(&held(&["mesh.sock unix:/run/mesh.sock"]), &BTreeMap::new()).is_empty());
    }

    #[test]
    fn what_is_bound_where_it_is_wanted_stays_whatever_it_is_called() {
        let check = |wanted: &[&str], now: &[&str], stay: &[&str], missing: &[&str]| {
            let plan = plan(wanted);
            let (found, lacks) = assign(&plan, &bound(now));
            assert_eq!(found, bound(stay), "{wanted:?} {now:?}");
            let lacks: Vec<&str> = lacks.into_iter().map(|(name, _)| name).collect();
            assert_eq!(lacks, missing, "{wanted:?} {now:?}");
        };
        check(&["127.0.0.1:80"], &[], &[], &["server"]);
        let now = ["server 0 127.0.0.1:80", "local 1 unix:/run/x"];
        check(&["127.0.0.1:80", "local unix:/run/x"], &now, &now, &[]);
        check(&["127.0.0.1:80"], &now, &now[..1], &[]);
        check(&["other unix:/run/x"], &now, &["other 1 unix:/run/x"], &[]);
        check(&["127.0.0.1:80", "local unix:/run/y"], &now, &now[..1], &["local"]);
        // Two that change places.
        check(
            &["a 127.0.0.1:81", "b 127.0.0.1:80"],
            &["a 4 127.0.0.1:80", "b 5 127.0.0.1:81"],
            &["a 5 127.0.0.1:81", "b 4 127.0.0.1:80"],
            &[],
        );
        // Any port: its own, and no other's.
        check(&["127.0.0.1:0"], &["server 0 127.0.0.1:80"], &["server 0 127.0.0.1:80"], &[]);
        check(&["a 127.0.0.1:0"], &["server 0 127.0.0.1:80"], &[], &["a"]);
    }

    #[test]
    fn no_two_listeners_share_a_port() {
        let stay = bound(&["any 3 127.0.0.1:4000", "local 4 unix:/run/x"]);
        let check = |wanted: &str| {
            let plan = plan(&[wanted]);
            check_beside(Listener::SERVER, plan.server().unwrap(), &stay).is_ok()
        };
        assert!(check("127.0.0.1:4001") && check("127.0.0.2:4000") && check("127.0.0.1:0"));
        assert!(!check("127.0.0.1:4000") && !check("0.0.0.0:4000") && !check("[::]:4000"));
    }

    #[test]
    fn only_a_socket_that_nobody_listens_at_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        assert!(check_path(&path).is_ok(), "there is nothing");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let taken = check_path(&path).unwrap_err().to_string();
        assert!(taken.contains(&format!("pid {}", std::process::id())), "{taken}");
        drop(listener);
        assert!(check_path(&path).is_ok(), "its file is left");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        assert!(matches!(check_path(&path), Err(GatewayRefusal::NoSocket)));
    }

    #[test]
    fn only_others_are_in_the_way() {
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = own.local_addr().unwrap();
        let everywhere = SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), address.port());
        let own = inodes([&OwnedFd::from(own.try_clone().unwrap())]);
        for address in [address, everywhere] {
            assert!(check_port("x", address, &own).is_ok());
            assert!(check_port("x", address, &BTreeSet::new()).is_err());
        }
        // One that has a stranger beside ours.
        let stranger = TcpListener::bind(SocketAddr::new([127, 0, 0, 2].into(), address.port())).unwrap();
        assert!(check_port("x", address, &own).is_ok());
        assert!(check_port("x", everywhere, &own).is_err());
        drop(stranger);
    }
}
