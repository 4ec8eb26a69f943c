//! Unconnected TCP sockets for the proxy: each reaches into the network namespace it was made in, wherever it is used.

use std::os::fd::{OwnedFd, RawFd};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use watt_os::namespace::{self, Kind};

use crate::{
    error::{About, StepError},
    report::ReportSocket,
};

/// Makes this many here, named as they are reported.
pub(crate) fn make(count: u16) -> Result<Vec<(String, OwnedFd)>, StepError> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let one = |_| Ok(("socket".to_owned(), socket(AddressFamily::Inet, SockType::Stream, flags, None)?));
    (0..RawFd::from(count)).map(one).collect::<nix::Result<_>>().about("socket")
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
