//! Mounts inside a process's own mount namespace.

use std::{io, path::Path};

use nix::mount::{MsFlags, mount};

/// Keeps this namespace's mounts from the host, while mounts of the host still arrive here: propagation becomes
/// *slave* (mount_namespaces(7)). Without it a mount made here would appear on a host whose root is shared, which is
/// systemd's default.
///
/// # Errors
/// EPERM in a namespace that is not ours.
pub fn detach() -> io::Result<()> {
    let flags = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    Ok(mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?)
}

/// Shows `source` in place of `target`. Both are files, or both are directories, and exist.
///
/// # Errors
/// ENOENT for a missing one, ENOTDIR when only one is a directory.
pub fn bind(source: &Path, target: &Path) -> io::Result<()> {
    Ok(mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?)
}

/// Shows an empty folder in place of this one: a tmpfs (tmpfs(5)).
///
/// # Errors
/// ENOENT or ENOTDIR when there is no such folder.
pub fn cover(folder: &Path) -> io::Result<()> {
    Ok(mount(Some("watt"), folder, Some("tmpfs"), COVER, Some("mode=0755"))?)
}

/// Makes a folder that was covered unchangeable. Other mounts below it stay as they are.
///
/// # Errors
/// EINVAL when nothing is mounted there.
pub fn make_read_only(folder: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | COVER;
    Ok(mount(None::<&str>, folder, None::<&str>, flags, None::<&str>)?)
}

/// There is nothing to execute or to open in a cover.
const COVER: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
