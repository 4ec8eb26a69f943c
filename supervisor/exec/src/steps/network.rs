//! A network namespace with loopback only, and in it the sockets that lead out: listeners for the mesh, for DNS and for
//! everything outside, made here and served elsewhere. A socket keeps the namespace it was made in.
//!
//! With nftables (`redirect`), the mesh and egress listeners have ports of the kernel's choice, and TCP is led there by
//! destination. The program may itself listen on every port.
//!
//! Without nftables, connections reach a listener only where it is bound:
//! - `mesh` is 127.77.0.1:80. HTTP to service names works, other protocols and ports do not.
//! - `egress:80` and `egress:443` are 0.0.0.0 on those ports. By the AnyIP route plain HTTP and HTTPS to any IPv4
//!   address arrive there, with the address that was called as the connection's local one. Every other
//!   port of the outside is refused at once.
//! - So the program cannot itself listen on 80 (nor on 443, when there is egress). The kernel lets nobody share a
//!   port with a listener of all addresses.
//!
//! In both cases 127.0.0.1:53 (UDP and TCP) answers names, and each of `host_ports` is a listener on 127.0.0.1.
//! IPv6 has no route. What is neither IPv6 nor TCP is refused by nftables, and without them reaches a port that nobody listens on.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, getsockname, listen, setsockopt,
        socket, sockopt,
    },
};
use watt_os::{
    namespace::{self, Kind},
    netlink::{
        nft::{self, Redirect},
        route,
    },
    sock_diag::SockDiag,
};

use crate::{
    error::{About, StepError},
    launch::Stage,
    plan::{MESH_ADDRESS, PrivateNetwork},
    sockets,
};

/// The port of HTTP, where the mesh is without nftables.
const HTTP_PORT: u16 = 80;
/// Where egress listens without nftables. Few, because the program cannot have these ports.
const EGRESS_PORTS: [u16; 2] = [HTTP_PORT, 443];
/// The port of DNS.
const DNS_PORT: u16 = 53;

/// Descriptors by the names they are reported with.
type Named = Vec<(String, OwnedFd)>;

pub(crate) fn enter(stage: &mut Stage<'_>) -> Result<(), StepError> {
    let Some(network) = &stage.plan.network else { return Ok(()) };
    if let Some(joined) = &stage.joined {
        // What was made in it is served already.
        return joined.enter(Kind::Network);
    }
    enter_new()?;
    let mut made = Vec::new();
    if network.redirect {
        make_redirected(network, &mut made)?;
    } else {
        make_bound(network, &mut made)?;
    }
    make_common(network, &mut made)?;
    made.push(("netns".into(), namespace::open_own(Kind::Network).about("netns")?));
    if stage.plan.user_namespace {
        made.push(("userns".into(), namespace::open_own(Kind::User).about("userns")?));
    }
    made.extend(sockets::make(network.sockets)?);
    stage.report.send_descriptors(&made)
}

/// Enters a network namespace and brings its loopback interface up.
pub(crate) fn enter_new() -> Result<(), StepError> {
    namespace::enter_new(Kind::Network).about("network namespace")?;
    route::loopback_up().about("loopback interface")
}

fn make_redirected(network: &PrivateNetwork, made: &mut Named) -> Result<(), StepError> {
    let (mesh, port) = listener(Ipv4Addr::LOCALHOST, 0, Sharing::No)?;
    made.push(("mesh".into(), mesh));
    let mut redirect = Redirect { mesh: port, egress: None };
    if network.egress {
        let (egress, port) = listener(Ipv4Addr::LOCALHOST, 0, Sharing::No)?;
        made.push(("egress".into(), egress));
        redirect.egress = Some(port);
        // Without a route the connection fails before the chain sees it.
        route::any_ip().about("AnyIP route")?;
    }
    nft::redirect(redirect).about("nftables")
}

fn make_bound(network: &PrivateNetwork, made: &mut Named) -> Result<(), StepError> {
    made.push(("mesh".into(), listener(MESH_ADDRESS, HTTP_PORT, Sharing::Among)?.0));
    if network.egress {
        for port in EGRESS_PORTS {
            // On port 80 the kernel prefers the mesh's listener for its address, as the more specific one.
            made.push((format!("egress:{port}"), listener(Ipv4Addr::UNSPECIFIED, port, Sharing::Among)?.0));
        }
        route::any_ip().about("AnyIP route")?;
    }
    Ok(())
}

/// What is the same with and without redirection.
fn make_common(network: &PrivateNetwork, made: &mut Named) -> Result<(), StepError> {
    made.push(("dns_udp".into(), bound(Ipv4Addr::LOCALHOST, DNS_PORT, SockType::Datagram, Sharing::No)?));
    made.push(("dns_tcp".into(), listener(Ipv4Addr::LOCALHOST, DNS_PORT, Sharing::No)?.0));
    for port in &network.host_ports {
        made.push((format!("host_port:{port}"), listener(Ipv4Addr::LOCALHOST, *port, Sharing::No)?.0));
    }
    made.push(("diag".into(), SockDiag::open().about("sock_diag")?.into()));
    Ok(())
}

/// Whether other listeners of ours may have the same port.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    No,
    Among,
}

/// A listener, and the port it got.
pub(crate) fn listener(ip: Ipv4Addr, port: u16, sharing: Sharing) -> Result<(OwnedFd, u16), StepError> {
    let object = SocketAddrV4::new(ip, port).to_string();
    let fd = bound(ip, port, SockType::Stream, sharing)?;
    listen(&fd, Backlog::MAXCONN).about(&object)?;
    let address: SockaddrIn = getsockname(fd.as_raw_fd()).about(&object)?;
    Ok((fd, address.port()))
}

fn bound(ip: Ipv4Addr, port: u16, kind: SockType, sharing: Sharing) -> Result<OwnedFd, StepError> {
    let address = SocketAddrV4::new(ip, port);
    let make = || -> Result<OwnedFd, Errno> {
        let fd = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        if sharing == Sharing::Among {
            setsockopt(&fd, sockopt::ReusePort, &true)?;
        }
        bind(fd.as_raw_fd(), &SockaddrIn::from(address))?;
        Ok(fd)
    };
    make().about(address)
}
