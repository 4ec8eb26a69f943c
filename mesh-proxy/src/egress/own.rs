//! Whose address is it? The kernel's routing table knows which are this host's own (rtnetlink(7)), and answers any user.
//!
//! Not by the source address that a socket would have on the way there: to a second address in one network that is the
//! first one. Not by trying to bind to it either: `net.ipv4.ip_nonlocal_bind` lets every address be bound.

use std::{io, net::Ipv4Addr};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink};

/// Types of messages (linux/netlink.h, linux/rtnetlink.h).
const NLMSG_ERROR: u16 = 2;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
/// linux/netlink.h.
const NLM_F_REQUEST: u16 = 1;
/// The attribute with the address that is asked about.
const RTA_DST: u16 = 1;
/// A route that leads away from here. Others lead to the host itself, to many, or nowhere.
const RTN_UNICAST: u8 = 1;
/// Size of `struct nlmsghdr`.
const HEADER_SIZE: usize = 16;
/// Where `struct rtmsg` has the route's type.
const TYPE_AT: usize = 7;

/// Whether a connection to this address ends here. What cannot be found out is taken for that: nothing is allowed by it.
pub(super) fn is_own(address: Ipv4Addr) -> bool {
    let answer = ask(address).unwrap_or_else(|error| Answer::Unknown(error.to_string()));
    match answer {
        Answer::Route(kind) => kind != RTN_UNICAST,
        // The connection will fail as well.
        Answer::Nowhere => false,
        Answer::Unknown(why) => {
            tracing::debug!(%address, why, "no route says whose address it is");
            true
        }
    }
}

/// What the kernel says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// A route of this type (`rtm_type`).
    Route(u8),
    /// There is no way.
    Nowhere,
    /// Nothing that helps, and why.
    Unknown(String),
}

/// Asks for the route that a packet would take. The kernel answers while it is being asked, so that this does not wait.
fn ask(address: Ipv4Addr) -> io::Result<Answer> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Protocol 0 is NETLINK_ROUTE.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    rustix::net::sendto(&socket, &question(address), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 4096];
    let (size, _) = rustix::net::recv(&socket, &mut answer, RecvFlags::empty())?;
    Ok(read_answer(&answer[..size]).unwrap_or_else(|| Answer::Unknown("an answer that is none".to_owned())))
}

/// A `struct nlmsghdr`, a `struct rtmsg` and one attribute.
fn question(address: Ipv4Addr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_SIZE + 20);
    bytes.extend(36u32.to_ne_bytes());
    bytes.extend(RTM_GETROUTE.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]); // sequence number and port: there is one question and one answer
    bytes.extend([AddressFamily::INET.as_raw() as u8, 32]);
    bytes.extend([0; 10]); // from anywhere, in any table, of any kind
    bytes.extend(8u16.to_ne_bytes());
    bytes.extend(RTA_DST.to_ne_bytes());
    bytes.extend(address.octets());
    bytes
}

fn read_answer(bytes: &[u8]) -> Option<Answer> {
    let size = u32::from_ne_bytes(*bytes.first_chunk()?);
    let message = bytes.get(..usize::try_from(size).ok()?)?;
    let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
    let content = message.get(HEADER_SIZE..)?;
    match kind {
        RTM_NEWROUTE => content.get(TYPE_AT).map(|kind| Answer::Route(*kind)),
        NLMSG_ERROR => {
            let errno = i32::from_ne_bytes(*content.first_chunk()?).checked_neg()?;
            let error = io::Error::from_raw_os_error(errno);
            Some(match error.kind() {
                io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => Answer::Nowhere,
                _ => Answer::Unknown(error.to_string()),
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_own_addresses_are_known() {
        assert!(is_own(Ipv4Addr::LOCALHOST));
        assert!(!is_own(Ipv4Addr::new(93, 184, 216, 34)));
    }

    /// The way to these has the first one as its source, and so did not tell that they are the host's.
    #[test]
    fn a_further_address_in_one_network_is_the_hosts_own() {
        assert!(is_own(Ipv4Addr::new(127, 0, 0, 2)));
        assert!(is_own(Ipv4Addr::new(127, 200, 3, 4)));
    }

    #[test]
    fn a_damaged_answer_is_survived_and_allows_nothing() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..100_000 {
            let mut bytes: Vec<u8> = (0..random.usize(..60)).map(|_| random.u8(..4)).collect();
            if let Some(size) = bytes.first_mut() {
                *size = random.u8(..60);
            }
            if let Some(kind) = bytes.get_mut(4) {
                *kind = [RTM_NEWROUTE, NLMSG_ERROR][random.usize(..2)] as u8;
            }
            let _ = read_answer(&bytes);
        }
        assert_eq!(read_answer(&[]), None);
        let refused = [&20u32.to_ne_bytes()[..], &[2, 0], &[0; 10], &(-13i32).to_ne_bytes()].concat();
        assert!(matches!(read_answer(&refused), Some(Answer::Unknown(_))));
        let nowhere = [&20u32.to_ne_bytes()[..], &[2, 0], &[0; 10], &(-101i32).to_ne_bytes()].concat();
        assert_eq!(read_answer(&nowhere), Some(Answer::Nowhere));
    }
}
