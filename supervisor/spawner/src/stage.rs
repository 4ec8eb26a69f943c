//! The exec stage, carried inside the program.

use std::{io, os::fd::OwnedFd};

use watt_os::memfd;

/// The static `watt-exec` that build.rs built.
static WATT_EXEC: &[u8] = include_bytes!(env!("WATT_EXEC"));

/// A sealed, executable memfd with the exec stage.
///
/// # Errors
/// What memfd_create(2) says.
pub fn exec_stage() -> io::Result<OwnedFd> {
    memfd::sealed_executable(c"watt-exec", WATT_EXEC)
}
