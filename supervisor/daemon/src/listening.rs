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
};

use tokio::net::UnixStream;
use watt_api::mesh::Endpoint;
use watt_os::{
    descendants::{self, Marks},
    sock_diag::{Listener, SockDiag},
};

use crate::launch::Accepts;

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
    },
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
        Ok(Network::Host { diag: SockDiag::open()?, owner })
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
                let listeners = self.network.listeners()?;
                let mut fitting = listeners.iter().filter(|listener| listener.address.port() == port);
                Ok(best(&mut fitting).map(|address| self.network.endpoint(address)))
            }
            Accepts::Found(told) => {
                let told = *told;
                let listeners = self.network.listeners()?;
                let mut as_told = listeners.iter().filter(|listener| listener.address.port() == told);
                let found = best(&mut as_told).or_else(|| best(&mut listeners.iter()));
                Ok(found.map(|address| self.network.endpoint(address)))
            }
        }
    }
}

impl Network {
    /// The TCP sockets on which the run listens.
    fn listeners(&mut self) -> io::Result<Vec<Listener>> {
        match self {
            Network::Private { diag, own } => {
                let mut listeners = diag.listeners()?;
                listeners.retain(|listener| !own.contains(&listener.inode));
                Ok(listeners)
            }
            Network::Host { diag, owner } => {
                let listeners = diag.listeners()?;
                owner.keep_own(listeners)
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
    fn keep_own(&self, mut listeners: Vec<Listener>) -> io::Result<Vec<Listener>> {
        let told_by_cgroup = |listener: &Listener| Some(listener.cgroup? == self.cgroup?);
        if listeners.iter().all(|listener| told_by_cgroup(listener).is_some()) {
            listeners.retain(|listener| told_by_cgroup(listener) == Some(true));
            return Ok(listeners);
        }
        let sockets = sockets_of(&descendants::find(&self.marks)?);
        listeners
            .retain(|listener| told_by_cgroup(listener).unwrap_or_else(|| sockets.contains(&listener.inode)));
        Ok(listeners)
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
