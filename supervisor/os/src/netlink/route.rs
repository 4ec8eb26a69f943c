//! Interfaces and routes (rtnetlink(7)): loopback up, and the AnyIP route.

use std::{io, net::Ipv4Addr};

use nix::{net::if_::if_nametoindex, sys::socket::SockProtocol};

use super::{
    Message, Socket,
    message::{ACK, CREATE, EXCLUSIVE},
};

/// RTM_NEWLINK of linux/rtnetlink.h
const NEW_LINK: u16 = 16;
/// RTM_NEWROUTE
const NEW_ROUTE: u16 = 24;
/// RTA_OIF
const OUTPUT_INTERFACE: u16 = 4;
/// RTA_PREFSRC
const PREFERRED_SOURCE: u16 = 7;

/// Brings the loopback interface of this network namespace up, which gives it 127.0.0.1/8 and ::1.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN here.
pub fn loopback_up() -> io::Result<()> {
    let up = libc::IFF_UP.cast_unsigned();
    // struct ifinfomsg: family, padding, type; index; flags; which flags to change.
    let message = Message::new(NEW_LINK, ACK, 1)
        .fixed(&[0u8; 4])
        .fixed(&loopback_index()?.to_ne_bytes())
        .fixed(&up.to_ne_bytes())
        .fixed(&up.to_ne_bytes());
    request(message)
}

/// Makes every IPv4 address an address of this host: `local 0.0.0.0/0 dev lo`, known as AnyIP. A connection to any address
/// arrives at our own listeners, and one to a port nobody listens on is refused at once.
///
/// The source of such connections is 127.0.0.1. Left to itself the kernel would use the address that is called, and a source
/// port that happens to be the called one would connect a socket to itself.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN here, EEXIST when it is there.
pub fn any_ip() -> io::Result<()> {
    // struct rtmsg: family, destination and source length, tos; table, protocol, scope, type; flags.
    let family = u8::try_from(libc::AF_INET).unwrap_or_default();
    let message = Message::new(NEW_ROUTE, ACK | CREATE | EXCLUSIVE, 1)
        .fixed(&[family, 0, 0, 0])
        .fixed(&[libc::RT_TABLE_LOCAL, libc::RTPROT_BOOT, libc::RT_SCOPE_HOST, libc::RTN_LOCAL])
        .fixed(&[0u8; 4])
        .attribute(OUTPUT_INTERFACE, &loopback_index()?.to_ne_bytes())
        .attribute(PREFERRED_SOURCE, &Ipv4Addr::LOCALHOST.octets());
    request(message)
}

fn loopback_index() -> io::Result<u32> {
    Ok(if_nametoindex("lo")?)
}

fn request(message: Message) -> io::Result<()> {
    let socket = Socket::open(SockProtocol::NetlinkRoute)?;
    socket.send(&message.finish())?;
    socket.acknowledged(1)
}
