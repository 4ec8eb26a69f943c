//! Where does this run accept connections? The kernel is asked; the program need not say.
//!
//! In a network of its own, everything that listens there and is not watt's belongs to the run. On the host's network, a socket's
//! cgroup says whose it is; where runs have no cgroup of their own, its inode is looked for among the open files of the run's processes.

use std::{
    collections::BTreeSet,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    os::unix::fs::MetadataExt,
    path::Path,
    time::Duration,
};

use tokio::{net::UnixStream, time::Instant};
use watt_api::mesh::Endpoint;
use watt_os::{
    descendants::{self, Marks},
    sock_diag::{Listener, SockDiag},
};

use crate::{beside, launch::Accepts};

/// How long a walk over the processes is believed while no other socket listens.
const WALK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Finds out where one run accepts.
#[derive(Debug)]
pub struct Listening {
    accepts: Accepts,
    network: Network,
}

/// The network a run listens in.
#[derive(Debug)]
pub enum Network {
    /// Its own.
    Private {
        /// Looks into it: made inside by the exec stage.
        diag: SockDiag,
        /// Inodes of the listeners that watt has there, see [`inode`].
        own: BTreeSet<u32>,
    },
    /// The host's.
    Host {
        /// Looks into it.
        diag: SockDiag,
        /// Whose sockets count.
        owner: Owner,
        /// What the last walk found.
        walk: Walk,
    },
}

/// A look at the open files of a run's processes, which takes a walk over all processes of the host: for twenty services
/// that do not listen yet, too much to do ten times a second each.
#[derive(Debug, Default)]
pub struct Walk {
    /// When.
    at: Option<Instant>,
    /// The sockets that were looked for, by inode.
    wanted: BTreeSet<u32>,
    /// Those that were found.
    found: BTreeSet<u32>,
}

/// The processes of a run.
#[derive(Debug, Clone)]
pub struct Owner {
    /// Their own cgroup in the v2 hierarchy, where they have one.
    pub cgroup: Option<u64>,
    /// What they are told by otherwise.
    pub marks: Marks,
}

/// The number by which sock_diag(7) names this socket.
///
/// # Errors
/// Those of fstat(2).
pub fn inode(socket: impl AsFd) -> io::Result<u32> {
    let file = fs::File::from(socket.as_fd().try_clone_to_owned()?);
    // The kernel gives sockets numbers of 32 bits.
    u32::try_from(file.metadata()?.ino()).map_err(io::Error::other)
}

impl Network {
    /// A network of the run's own, with the socket and the listeners that the exec stage made there.
    ///
    /// # Errors
    /// Those of fstat(2).
    pub fn private<'a>(diag: OwnedFd, own: impl IntoIterator<Item = &'a OwnedFd>) -> io::Result<Network> {
        let own = own.into_iter().map(inode).collect::<io::Result<_>>()?;
        Ok(Network::Private { diag: diag.into(), own })
    }

    /// The host's network.
    ///
    /// # Errors
    /// When the kernel does not have sock_diag(7).
    pub fn host(owner: Owner) -> io::Result<Network> {
        Ok(Network::Host { diag: SockDiag::open()?, owner, walk: Walk::default() })
    }
}

impl Listening {
    /// A run that is expected to accept like this, in this network.
    pub fn new(accepts: Accepts, network: Network) -> Listening {
        Listening { accepts, network }
    }

    /// Whether the run accepts anywhere at all.
    pub fn is_expected(&self) -> bool {
        self.accepts != Accepts::Nowhere
    }

    /// Where the run accepts now. `None`: not yet, or nowhere.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub async fn look(&mut self) -> io::Result<Option<Endpoint>> {
        match &self.accepts {
            Accepts::Nowhere => Ok(None),
            Accepts::Unix(path) => {
                let accepts = accepts_connections(path).await;
                Ok(accepts.then(|| Endpoint::Unix { path: path.clone() }))
            }
            // Bound before the program was started: connections wait for it in the queue.
            Accepts::Inherited(path) => Ok(Some(Endpoint::Unix { path: path.clone() })),
            Accepts::Port(port) => {
                let port = *port;
                let listeners = self.network.listeners().await?;
                let mut fitting = listeners.iter().filter(|listener| listener.address.port() == port);
                Ok(best(&mut fitting).map(|address| self.network.endpoint(address)))
            }
            Accepts::Found(told) => {
                let told = *told;
                let listeners = self.network.listeners().await?;
                let mut as_told = listeners.iter().filter(|listener| listener.address.port() == told);
                let found = best(&mut as_told).or_else(|| best(&mut listeners.iter()));
                Ok(found.map(|address| self.network.endpoint(address)))
            }
        }
    }
}

impl Network {
    /// The TCP sockets on which the run listens.
    async fn listeners(&mut self) -> io::Result<Vec<Listener>> {
        match self {
            Network::Private { diag, own } => {
                let mut listeners = diag.listeners()?;
                listeners.retain(|listener| !own.contains(&listener.inode));
                Ok(listeners)
            }
            Network::Host { diag, owner, walk } => {
                let listeners = diag.listeners()?;
                owner.keep_own(listeners, walk).await
            }
        }
    }

    fn endpoint(&self, address: SocketAddr) -> Endpoint {
        match self {
            Network::Private { .. } => Endpoint::PrivateTcp { address },
            Network::Host { .. } => Endpoint::Tcp { address },
        }
    }
}

impl Owner {
    /// Leaves out the listeners of others.
    async fn keep_own(&self, mut listeners: Vec<Listener>, walk: &mut Walk) -> io::Result<Vec<Listener>> {
        let told_by_cgroup = |listener: &Listener| Some(listener.cgroup? == self.cgroup?);
        let untold = listeners.iter().filter(|listener| told_by_cgroup(listener).is_none());
        walk.look_for(untold.map(|listener| listener.inode).collect(), &self.marks).await?;
        listeners.retain(|listener| {
            told_by_cgroup(listener).unwrap_or_else(|| walk.found.contains(&listener.inode))
        });
        Ok(listeners)
    }
}

impl Walk {
    /// Looks which of these sockets are the run's, unless it is known from the last time. A socket seldom changes hands
    /// while it listens, so that one looks again soon only when there is another one.
    async fn look_for(&mut self, wanted: BTreeSet<u32>, marks: &Marks) -> io::Result<()> {
        let is_fresh = self.at.is_some_and(|at| at.elapsed() < WALK_AGAIN_AFTER);
        if wanted.is_empty() || (is_fresh && wanted == self.wanted) {
            return Ok(());
        }
        let marks = marks.clone();
        let walk = move || descendants::find(&marks).map(|processes| sockets_of(&processes));
        let sockets = beside::now(walk).await.map_err(io::Error::other)??;
        let found = wanted.intersection(&sockets).copied().collect();
        *self = Walk { at: Some(Instant::now()), wanted, found };
        Ok(())
    }
}

/// The inodes of all sockets these processes hold. Those that end meanwhile or may not be looked into hold none.
fn sockets_of(processes: &BTreeSet<u32>) -> BTreeSet<u32> {
    let files = processes.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).ok()).flatten();
    let targets = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    targets.filter_map(|target| socket_inode(&target)).collect()
}

/// proc_pid_fd(5): `socket:[4711]`.
fn socket_inode(target: &Path) -> Option<u32> {
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The address to reach one of these listeners by: that of the lowest port, because a program that opens several (a
/// debugger, metrics) mostly opens its main one below; on one port, IPv4 before IPv6.
fn best(listeners: &mut dyn Iterator<Item = &Listener>) -> Option<SocketAddr> {
    let addresses = listeners.map(|listener| reachable(listener.address, listener.v6_only));
    addresses.min_by_key(|address| (address.port(), address.is_ipv6(), !address.ip().is_loopback(), *address))
}

/// Where a socket that listens on all addresses is reached: by loopback.
fn reachable(address: SocketAddr, v6_only: bool) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() && v6_only => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        ip => ip.to_canonical(),
    };
    SocketAddr::new(ip, address.port())
}

/// Whether somebody listens on a Unix socket. The connection is closed at once, which every server has to cope with anyway. A full
/// queue counts: it has a listener.
async fn accepts_connections(path: &Path) -> bool {
    match UnixStream::connect(path).await {
        Ok(_) => true,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests;
