//! Unconnected TCP sockets for the proxy: each reaches into the network namespace it was made in, wherever it is used.

use std::os::fd::OwnedFd;

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt},
};
use watt_os::namespace::{self, Kind};

use crate::{
    error::{About, StepError},
    report::ReportSocket,
};

/// Makes this many here, named as they are reported. They are IPv6 sockets, which reach IPv4 as well, by mapped addresses
/// (ipv6(7)): a program may listen on `::1` alone. A kernel without IPv6 has no such programs.
pub(crate) fn make(count: u16) -> Result<Vec<(String, OwnedFd)>, StepError> {
    let one = |_| Ok(("socket".to_owned(), dual_stack()?));
    (0..count).map(one).collect::<nix::Result<_>>().about("socket")
}

fn dual_stack() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    match socket(AddressFamily::Inet6, SockType::Stream, flags, None) {
        Ok(made) => {
            // The default is a setting of the host (net.ipv6.bindv6only).
            setsockopt(&made, sockopt::Ipv6V6Only, &false)?;
            Ok(made)
        }
        Err(Errno::EAFNOSUPPORT) => socket(AddressFamily::Inet, SockType::Stream, flags, None),
        Err(errno) => Err(errno),
    }
}

/// Makes them in the network of a running worker and reports them.
pub(crate) fn enter_and_make(
    namespaces: &[OwnedFd],
    user_namespace: bool,
    count: u16,
    report: &ReportSocket,
) -> Result<(), StepError> {
    // The user namespace first: it gives the right to enter the network that belongs to it.
    let kinds =
        user_namespace.then_some((Kind::User, "userns")).into_iter().chain([(Kind::Network, "netns")]);
    for (fd, (kind, name)) in namespaces.iter().zip(kinds) {
        namespace::enter(fd, kind).about(name)?;
    }
    report.send_descriptors(&make(count)?)
}
