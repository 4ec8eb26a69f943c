//! Mounts inside a process's own mount namespace (mount_namespaces(7)).

mod attributes;
mod tree;

use std::{io, path::Path};

use nix::mount::{MntFlags, MsFlags, umount2};

pub use attributes::{Change, change_below, make_read_only};
pub use tree::Tree;

/// Keeps this namespace's mounts from the host, while mounts of the host still arrive here: propagation becomes
/// *slave* (mount_namespaces(7)). Without it a mount made here would appear on a host whose root is shared, which is
/// systemd's default. Were it *private*, what the host unmounts would stay busy for as long as a worker runs.
///
/// # Errors
/// EPERM in a namespace that is not ours.
pub fn detach() -> io::Result<()> {
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    Ok(nix::mount::mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?)
}

/// What a mount forbids of all its files (mount(8)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forbid {
    /// Opening device nodes.
    pub devices: bool,
    /// Executing.
    pub executing: bool,
    /// Writing.
    pub writing: bool,
}

/// Mounts a new file system of this kind in place of a folder. Set-user-ID bits have no effect on it. `options` are
/// those of the kind: tmpfs(5), proc(5).
///
/// # Errors
/// ENOENT or ENOTDIR when there is no such folder; EPERM for what a user namespace does not allow, ENODEV for a
/// kind that the kernel does not have, EINVAL for options that it does not have.
pub fn filesystem(kind: &str, target: &Path, options: &str, forbid: Forbid) -> io::Result<()> {
    let mut flags = MsFlags::MS_NOSUID;
    flags.set(MsFlags::MS_NODEV, forbid.devices);
    flags.set(MsFlags::MS_NOEXEC, forbid.executing);
    flags.set(MsFlags::MS_RDONLY, forbid.writing);
    let options = Some(options).filter(|options| !options.is_empty());
    Ok(nix::mount::mount(Some(kind), target, Some(kind), flags, options)?)
}

/// Shows `source` in place of `target`, with what is mounted below it. Both are files, or both are directories, and exist.
///
/// # Errors
/// ENOENT for a missing one, ENOTDIR when only one is a directory.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    Ok(nix::mount::mount(Some(source), target, None::<&str>, flags, None::<&str>)?)
}

/// Takes away the topmost mount at this place. It goes on for those who still use it.
///
/// # Errors
/// EINVAL when nothing is mounted there.
pub fn unmount(target: &Path) -> io::Result<()> {
    Ok(umount2(target, MntFlags::MNT_DETACH)?)
}
