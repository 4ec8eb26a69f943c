//! Whose sockets and connections are these? (sock_diag(7), socket(7))
//!
//! A [`SockDiag`] sees the sockets of the network namespace its descriptor was made in, whoever holds it. One made inside a
//! worker's network shows what the worker listens on, in about 30 µs where reading /proc/net/tcp takes milliseconds.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
    os::fd::{AsFd, OwnedFd},
};

use nix::sys::socket::{SockProtocol, getsockopt, sockopt};

use crate::netlink::{
    Message, Socket,
    message::{ACK, DUMP, Reply, attributes, u32_at},
    replies,
};

/// A listening TCP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens. `::` accepts IPv4 as well unless `v6_only`.
    pub address: SocketAddr,
    /// Whether an IPv6 socket leaves IPv4 to others.
    pub v6_only: bool,
    /// Its inode number, as in /proc/PID/fd.
    pub inode: u32,
    /// Who made it.
    pub uid: u32,
    /// The v2 cgroup it was made in, where the kernel tells (Linux 5.7).
    pub cgroup: Option<u64>,
}

/// One end of a TCP connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Who made the socket.
    pub uid: u32,
    /// Its inode number; 0 when no process holds it any more.
    pub inode: u32,
    /// The v2 cgroup it was made in, where the kernel tells (Linux 5.7).
    pub cgroup: Option<u64>,
}

/// A socket that answers questions about sockets.
#[derive(Debug)]
pub struct SockDiag {
    socket: Socket,
    sequence: u32,
}

/// More listeners than one program has; beyond it the rest is not looked at.
const LISTENERS_MAX: usize = 4096;

impl SockDiag {
    /// Makes one for this network namespace.
    ///
    /// # Errors
    /// EPROTONOSUPPORT when the kernel does not have it, EMFILE.
    pub fn open() -> io::Result<SockDiag> {
        Socket::open(SockProtocol::NetlinkSockDiag).map(|socket| SockDiag { socket, sequence: 0 })
    }

    /// The TCP sockets that listen, IPv4 before IPv6.
    ///
    /// # Errors
    /// ENOENT when the kernel cannot load tcp_diag; InvalidData for an answer of unknown form.
    pub fn listeners(&mut self) -> io::Result<Vec<Listener>> {
        let mut found = Vec::new();
        for family in [Family::V4, Family::V6] {
            self.dump(family, |reply| {
                if found.len() < LISTENERS_MAX {
                    found.extend(listener(reply.payload));
                }
            })?;
        }
        Ok(found)
    }

    /// Finds one end of a connection by its addresses: `local` is the end that is asked about. `None` when it has gone.
    ///
    /// # Errors
    /// InvalidInput when the addresses are of different families; otherwise as [`SockDiag::listeners`].
    pub fn connection(&mut self, local: SocketAddr, remote: SocketAddr) -> io::Result<Option<Connection>> {
        let (local, remote) = (plain(local), plain(remote));
        let family = match (local, remote) {
            (SocketAddr::V4(_), SocketAddr::V4(_)) => Family::V4,
            (SocketAddr::V6(_), SocketAddr::V6(_)) => Family::V6,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let sequence = self.next();
        let request = request(family, ACK, sequence, ALL_STATES, &id(local, remote));
        self.socket.send(&request)?;
        let mut found = None;
        let mut buffer = Vec::new();
        loop {
            self.socket.receive(&mut buffer)?;
            for reply in replies(&buffer).filter(|reply| reply.sequence == sequence) {
                match reply.error()? {
                    Some(0) => return Ok(found),
                    Some(libc::ENOENT) => return Ok(None),
                    Some(errno) => return Err(io::Error::from_raw_os_error(errno)),
                    None => found = connection(reply.payload),
                }
            }
        }
    }

    fn dump(&mut self, family: Family, mut each: impl FnMut(&Reply<'_>)) -> io::Result<()> {
        let sequence = self.next();
        self.socket.send(&request(family, DUMP, sequence, LISTENING, &[0; ID_LEN]))?;
        let mut buffer = Vec::new();
        loop {
            self.socket.receive(&mut buffer)?;
            // What is left of an earlier question that ended in an error is passed over.
            for reply in replies(&buffer).filter(|reply| reply.sequence == sequence) {
                if let Some(errno) = reply.error()? {
                    return Err(io::Error::from_raw_os_error(errno));
                }
                if reply.is_done() {
                    return Ok(());
                }
                each(&reply);
            }
        }
    }

    fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}

impl From<OwnedFd> for SockDiag {
    fn from(fd: OwnedFd) -> Self {
        SockDiag { socket: fd.into(), sequence: 0 }
    }
}

impl From<SockDiag> for OwnedFd {
    fn from(diag: SockDiag) -> Self {
        diag.socket.into()
    }
}

/// Where a redirected connection was meant to go (SO_ORIGINAL_DST of netfilter).
///
/// # Errors
/// ENOENT or ENOPROTOOPT when it was not redirected.
pub fn original_destination(connection: impl AsFd) -> io::Result<SocketAddrV4> {
    let address = getsockopt(&connection, sockopt::OriginalDst)?;
    let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
    Ok(SocketAddrV4::new(ip, u16::from_be(address.sin_port)))
}

/// Who is at the other end of a Unix socket (SO_PEERCRED, unix(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its user when it connected.
    pub uid: u32,
    /// Its group when it connected.
    pub gid: u32,
    /// Its process when it connected; the number may mean another one by now.
    pub pid: u32,
}

/// Asks the kernel who connected.
///
/// # Errors
/// ENOTSOCK and the like for anything but a connected Unix socket.
pub fn peer_credentials(socket: impl AsFd) -> io::Result<Peer> {
    let peer = getsockopt(&socket, sockopt::PeerCredentials)?;
    Ok(Peer { uid: peer.uid(), gid: peer.gid(), pid: u32::try_from(peer.pid()).unwrap_or(0) })
}

// linux/sock_diag.h and linux/inet_diag.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const LISTENING: u32 = 1 << 10; // TCP_LISTEN
const ALL_STATES: u32 = u32::MAX;
const STATE_LISTEN: u8 = 10;
const ID_LEN: usize = 48; // struct inet_diag_sockid
const MESSAGE_LEN: usize = 72; // struct inet_diag_msg
const SKV6ONLY: u16 = 11; // INET_DIAG_SKV6ONLY
const CGROUP_ID: u16 = 21; // INET_DIAG_CGROUP_ID

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// `struct inet_diag_req_v2` in a message.
fn request(family: Family, flags: u16, sequence: u32, states: u32, id: &[u8; ID_LEN]) -> Vec<u8> {
    let family = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    let byte = |number: i32| u8::try_from(number).unwrap_or_default();
    Message::new(SOCK_DIAG_BY_FAMILY, flags, sequence)
        .fixed(&[byte(family), byte(libc::IPPROTO_TCP), 0, 0])
        .fixed(&states.to_ne_bytes())
        .fixed(id)
        .finish()
}

/// `struct inet_diag_sockid`: ports, addresses in 16 bytes each, interface, cookie. No interface and no cookie are given.
fn id(local: SocketAddr, remote: SocketAddr) -> [u8; ID_LEN] {
    let mut id = [0u8; ID_LEN];
    id[0..2].copy_from_slice(&local.port().to_be_bytes());
    id[2..4].copy_from_slice(&remote.port().to_be_bytes());
    for (at, ip) in [(4, local.ip()), (20, remote.ip())] {
        match ip {
            IpAddr::V4(ip) => id[at..at + 4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => id[at..at + 16].copy_from_slice(&ip.octets()),
        }
    }
    id[40..48].fill(0xff); // INET_DIAG_NOCOOKIE
    id
}

/// An IPv4 address in IPv6 form is an IPv4 connection to the kernel.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn listener(payload: &[u8]) -> Option<Listener> {
    let message: &[u8; MESSAGE_LEN] = payload.first_chunk()?;
    let port = u16::from_be_bytes([message[4], message[5]]);
    let ip = match i32::from(message[0]) {
        libc::AF_INET => IpAddr::V4(Ipv4Addr::from(*message[8..].first_chunk::<4>()?)),
        libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(*message[8..].first_chunk::<16>()?)),
        _ => return None,
    };
    let v6_only = attributes(&payload[MESSAGE_LEN..]).find(|(kind, _)| *kind == SKV6ONLY);
    Some(Listener {
        address: SocketAddr::new(ip, port),
        v6_only: v6_only.is_some_and(|(_, value)| value.first().is_some_and(|value| *value != 0)),
        uid: u32_at(message, 64)?,
        inode: u32_at(message, 68)?,
        cgroup: cgroup(payload),
    })
}

/// A connection; not the listener that the kernel offers when there is none.
fn connection(payload: &[u8]) -> Option<Connection> {
    let message: &[u8; MESSAGE_LEN] = payload.first_chunk()?;
    if message[1] == STATE_LISTEN {
        return None;
    }
    Some(Connection { uid: u32_at(message, 64)?, inode: u32_at(message, 68)?, cgroup: cgroup(payload) })
}

fn cgroup(payload: &[u8]) -> Option<u64> {
    let (_, value) = attributes(payload.get(MESSAGE_LEN..)?).find(|(kind, _)| *kind == CGROUP_ID)?;
    Some(u64::from_ne_bytes(*value.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::unix::net::UnixStream,
    };

    use super::*;

    #[test]
    fn listeners_are_found_with_their_owner() {
        let v4 = TcpListener::bind("127.0.0.1:0").unwrap();
        let v6 = TcpListener::bind("[::1]:0").unwrap();
        let found = SockDiag::open().unwrap().listeners().unwrap();
        for address in [v4.local_addr().unwrap(), v6.local_addr().unwrap()] {
            let listener = found.iter().find(|listener| listener.address == address).unwrap();
            assert_eq!(listener.uid, nix::unistd::geteuid().as_raw());
            assert_ne!(listener.inode, 0);
        }
    }

    #[test]
    fn both_ends_of_a_connection_are_found_until_it_has_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (near, far) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
        let mut diag = SockDiag::open().unwrap();
        let found = diag.connection(near, far).unwrap().unwrap();
        assert_eq!(found.uid, nix::unistd::geteuid().as_raw());
        let mapped = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
            IpAddr::V6(_) => address,
        };
        assert_eq!(diag.connection(mapped(near), mapped(far)).unwrap(), Some(found));
        // A connection that is not there is none, though its listener is.
        let nobody = SocketAddr::from(([127, 0, 0, 2], 1));
        assert_eq!(diag.connection(far, nobody).unwrap(), None);
        let mixed = diag.connection(near, SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 1)));
        assert_eq!(mixed.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(diag.listeners().unwrap().iter().any(|found| found.address == far));
    }

    #[test]
    fn the_peer_of_a_unix_socket_is_known() {
        let (a, _b) = UnixStream::pair().unwrap();
        let peer = peer_credentials(&a).unwrap();
        assert_eq!((peer.uid, peer.pid), (nix::unistd::geteuid().as_raw(), std::process::id()));
    }

    #[test]
    fn a_connection_that_was_not_redirected_has_no_other_destination() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(original_destination(&client).is_err());
    }

    #[test]
    fn cut_messages_yield_nothing() {
        for len in 0..MESSAGE_LEN {
            assert_eq!(listener(&vec![0xff; len]), None);
            assert_eq!(connection(&vec![0xff; len]), None);
        }
        assert_eq!(listener(&[0xff; 200]), None);
        let mut v4 = vec![0u8; MESSAGE_LEN];
        v4[0] = 2;
        v4.extend([9, 0, 21, 0, 1]);
        assert_eq!(listener(&v4).unwrap().cgroup, None);
    }
}
