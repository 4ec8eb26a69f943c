//! What systemd offers a process, by datagrams to its sockets and by descriptors it starts with. Nothing here waits, and no library of
//! systemd's is needed.

pub mod inherited;
pub mod journal;
pub mod notify;

use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt};

use nix::sys::socket::UnixAddr;

/// The address of a socket as systemd writes it: a path, or `@` and a name that is no file's (unix(7), "abstract").
fn address(text: &OsStr) -> io::Result<UnixAddr> {
    let address = match text.as_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name),
        [b'/', ..] => UnixAddr::new(text),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    };
    Ok(address?)
}
