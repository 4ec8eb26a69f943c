//! Namespaces (namespaces(7)): entering new ones and existing ones, and telling which one a process is in.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::MetadataExt,
    },
};

use nix::sched::{CloneFlags, setns, unshare};

/// A kind of namespace that is used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// user_namespaces(7)
    User,
    /// network_namespaces(7)
    Network,
    /// mount_namespaces(7)
    Mount,
    /// ipc_namespaces(7)
    Ipc,
    /// uts_namespaces(7)
    Uts,
    /// cgroup_namespaces(7)
    Cgroup,
    /// pid_namespaces(7). A process cannot enter one: its next children are born in it.
    Pid,
}

impl Kind {
    /// Its file in /proc/PID/ns.
    fn file(self) -> &'static str {
        match self {
            Kind::User => "user",
            Kind::Network => "net",
            Kind::Mount => "mnt",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            Kind::Cgroup => "cgroup",
            Kind::Pid => "pid",
        }
    }

    fn flag(self) -> CloneFlags {
        match self {
            Kind::User => CloneFlags::CLONE_NEWUSER,
            Kind::Network => CloneFlags::CLONE_NEWNET,
            Kind::Mount => CloneFlags::CLONE_NEWNS,
            Kind::Ipc => CloneFlags::CLONE_NEWIPC,
            Kind::Uts => CloneFlags::CLONE_NEWUTS,
            Kind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
            Kind::Pid => CloneFlags::CLONE_NEWPID,
        }
    }
}

/// A namespace by its number. Numbers are reused when a namespace has gone; one is kept from going by a process
/// inside or an open descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Its kind.
    pub kind: Kind,
    /// Its inode number.
    pub inode: u64,
}

impl Id {
    /// The namespace a process is in.
    ///
    /// # Errors
    /// EACCES when the process is not ours to look at, ENOENT when there is none.
    pub fn of_process(pid: u32, kind: Kind) -> io::Result<Id> {
        let inode = fs::metadata(format!("/proc/{pid}/ns/{}", kind.file()))?.ino();
        Ok(Id { kind, inode })
    }

    /// The namespace this descriptor refers to.
    ///
    /// # Errors
    /// When its status cannot be read.
    pub fn of_descriptor(fd: impl AsFd, kind: Kind) -> io::Result<Id> {
        let inode = nix::sys::stat::fstat(fd)?.st_ino;
        Ok(Id { kind, inode })
    }
}

/// Moves this process into a new namespace. A user namespace cannot be entered with more than one thread.
///
/// # Errors
/// EPERM without the right, ENOSPC at a limit of /proc/sys/user.
pub fn enter_new(kind: Kind) -> io::Result<()> {
    Ok(unshare(kind.flag())?)
}

/// Moves this process into an existing namespace.
///
/// # Errors
/// The descriptor is that of a namespace, or of a process that is in it (pidfd_open(2), from Linux 5.8 on).
///
/// EPERM without the right in that namespace, EINVAL when the descriptor is of another kind.
pub fn enter(fd: impl AsFd, kind: Kind) -> io::Result<()> {
    Ok(setns(fd, kind.flag())?)
}

/// Opens the namespace a process is in.
///
/// # Errors
/// EACCES when the process is not ours to look at, ENOENT when there is none.
pub fn open_of(pid: u32, kind: Kind) -> io::Result<OwnedFd> {
    Ok(File::open(format!("/proc/{pid}/ns/{}", kind.file()))?.into())
}

/// Opens the namespace this process is in.
///
/// # Errors
/// When /proc is not there.
pub fn open_own(kind: Kind) -> io::Result<OwnedFd> {
    Ok(File::open(format!("/proc/self/ns/{}", kind.file()))?.into())
}

/// Maps one user and one group to themselves in the user namespace that was just entered: all an ordinary user may
/// map without help (user_namespaces(7)). Changing groups has to be given up for that.
///
/// # Errors
/// When a map cannot be written.
pub fn map_identity(uid: u32, gid: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}
