//! Whose socket is it? The kernel knows the cgroup a socket was made in (sock_diag(7)), and answers any user.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, netlink::SocketAddrNetlink,
};

/// Type of a question and of its answer (linux/sock_diag.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// linux/netlink.h.
const NLM_F_REQUEST: u16 = 1;
/// Size of `struct nlmsghdr`.
const HEADER_SIZE: usize = 16;
/// Size of `struct inet_diag_msg`, after which attributes follow (linux/inet_diag.h).
const ANSWER_SIZE: usize = 72;
/// Attribute with the cgroup's id, since Linux 5.9.
const INET_DIAG_CGROUP_ID: u16 = 21;
/// "Whatever cookie the socket has."
const INET_DIAG_NOCOOKIE: [u8; 8] = [0xff; 8];
const IPPROTO_TCP: u8 = 6;

/// The id of the cgroup in which the TCP socket with these two ends was made; `None` when there is no such socket
/// in this network namespace any more, or the kernel does not say. The kernel answers while it is being asked, so
/// that this does not wait.
pub(crate) fn cgroup_of_socket(own: SocketAddr, peer: SocketAddr) -> io::Result<Option<u64>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))?;
    let kernel = SocketAddrNetlink::new(0, 0);
    rustix::net::sendto(&socket, &question(own, peer), SendFlags::empty(), &kernel)?;
    let mut answer = [0; 4096];
    let (size, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    Ok(read_answer(&answer[..size]))
}

/// A `struct nlmsghdr` and a `struct inet_diag_req_v2` for exactly one socket.
fn question(own: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let family = if own.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let mut bytes = Vec::with_capacity(HEADER_SIZE + 56);
    bytes.extend(72u32.to_ne_bytes());
    bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]); // sequence number and port: there is one question and one answer
    bytes.extend([family.as_raw() as u8, IPPROTO_TCP, 0, 0]);
    bytes.extend(u32::MAX.to_ne_bytes()); // in any state
    bytes.extend(own.port().to_be_bytes());
    bytes.extend(peer.port().to_be_bytes());
    bytes.extend(address(own.ip()));
    bytes.extend(address(peer.ip()));
    bytes.extend(0u32.to_ne_bytes()); // on any interface
    bytes.extend(INET_DIAG_NOCOOKIE);
    bytes
}

/// Four words in network order, of which IPv4 uses the first.
fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V6(ip) => ip.octets(),
        IpAddr::V4(ip) => {
            let mut words = [0; 16];
            words[..4].copy_from_slice(&ip.octets());
            words
        }
    }
}

fn read_answer(bytes: &[u8]) -> Option<u64> {
    let size = u32::from_ne_bytes(*bytes.first_chunk()?);
    let message = bytes.get(..usize::try_from(size).ok()?)?;
    if u16::from_ne_bytes(*message.get(4..)?.first_chunk()?) != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let mut attributes = message.get(HEADER_SIZE + ANSWER_SIZE..)?;
    // `struct nlattr`: length with these four bytes, type, data, padded to four bytes (netlink(7)).
    while let Some(head) = attributes.first_chunk::<4>() {
        let size = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let data = attributes.get(4..size)?;
        if u16::from_ne_bytes([head[2], head[3]]) == INET_DIAG_CGROUP_ID {
            return Some(u64::from_ne_bytes(*data.first_chunk()?));
        }
        attributes = attributes.get(size.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::process;

    fn check(address: &str) {
        let listener = TcpListener::bind(address).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, peer) = listener.accept().unwrap();
        let found = cgroup_of_socket(peer, server.local_addr().unwrap()).unwrap();
        let ours = process::cgroup_ids(std::process::id());
        assert_eq!(found, ours.first().copied(), "{peer}");
        drop(client);
    }

    #[test]
    fn a_socket_made_here_is_in_our_cgroup() {
        check("127.0.0.1:0");
        check("[::1]:0");
    }

    #[test]
    fn a_socket_that_is_not_there_has_none() {
        let nowhere = "127.0.0.1:1".parse().unwrap();
        assert_eq!(cgroup_of_socket(nowhere, nowhere).unwrap(), None);
    }

    #[test]
    fn a_damaged_answer_is_survived() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100_000 {
            let mut bytes: Vec<u8> = (0..random.usize(..160)).map(|_| random.u8(..8)).collect();
            if let Some(size) = bytes.first_mut() {
                *size = random.u8(..160);
            }
            if let Some(kind) = bytes.get_mut(4) {
                *kind = SOCK_DIAG_BY_FAMILY as u8;
            }
            let _ = read_answer(&bytes);
        }
    }
}
