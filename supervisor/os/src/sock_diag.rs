//! Who listens where? (sock_diag(7))
//!
//! A [`SockDiag`] sees the sockets of the network namespace its descriptor was made in, whoever holds it. One made inside a
//! worker's network shows what the worker listens on, in about 30 µs where reading /proc/net/tcp takes milliseconds.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
};

use nix::sys::socket::SockProtocol;

use crate::netlink::{
    Message, Socket,
    message::{DUMP, Reply, attributes, u32_at},
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

    fn dump(&mut self, family: Family, mut each: impl FnMut(&Reply<'_>)) -> io::Result<()> {
        let sequence = self.next();
        self.socket.send(&request(family, sequence))?;
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

// linux/sock_diag.h and linux/inet_diag.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const LISTENING: u32 = 1 << 10; // TCP_LISTEN
const ID_LEN: usize = 48; // struct inet_diag_sockid
const MESSAGE_LEN: usize = 72; // struct inet_diag_msg
const SKV6ONLY: u16 = 11; // INET_DIAG_SKV6ONLY
const CGROUP_ID: u16 = 21; // INET_DIAG_CGROUP_ID

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

/// `struct inet_diag_req_v2` in a message, for all sockets that listen.
fn request(family: Family, sequence: u32) -> Vec<u8> {
    let family = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    let byte = |number: i32| u8::try_from(number).unwrap_or_default();
    Message::new(SOCK_DIAG_BY_FAMILY, DUMP, sequence)
        .fixed(&[byte(family), byte(libc::IPPROTO_TCP), 0, 0])
        .fixed(&LISTENING.to_ne_bytes())
        .fixed(&[0; ID_LEN])
        .finish()
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

fn cgroup(payload: &[u8]) -> Option<u64> {
    let (_, value) = attributes(payload.get(MESSAGE_LEN..)?).find(|(kind, _)| *kind == CGROUP_ID)?;
    Some(u64::from_ne_bytes(*value.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

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
    fn cut_messages_yield_nothing() {
        for len in 0..MESSAGE_LEN {
            assert_eq!(listener(&vec![0xff; len]), None);
        }
        assert_eq!(listener(&[0xff; 200]), None);
        let mut v4 = vec![0u8; MESSAGE_LEN];
        v4[0] = 2;
        v4.extend([9, 0, 21, 0, 1]);
        assert_eq!(listener(&v4).unwrap().cgroup, None);
    }
}
