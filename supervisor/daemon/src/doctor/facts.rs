//! What is looked at.

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access, geteuid};
use watt_exec::plan::Probe;

use super::cgroups::Cgroups;
use crate::{places::Places, snapshot};

/// Everything the conclusions are drawn from.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) uid: u32,
    /// As uname(2) has it: `6.1.0-18-amd64`.
    pub(super) kernel: String,
    /// What the exec stage could do, or why that is not known.
    pub(super) probe: Result<Probe, String>,
    pub(super) cgroups: Cgroups,
    /// Whether the user has a systemd manager of its own, which can delegate.
    pub(super) user_manager: bool,
    /// Soft and hard limit of descriptors.
    pub(super) nofile: (u64, u64),
    /// pidfd_open(2) of ourselves.
    pub(super) pidfd: Result<(), String>,
    /// The first port that an ordinary user may bind.
    pub(super) unprivileged_port_start: u16,
    /// How many name servers /etc/resolv.conf names.
    pub(super) name_servers: usize,
    /// Which of the files that names come from are missing.
    pub(super) missing_name_files: Vec<&'static str>,
    /// Where sockets are made, and whether they can be.
    pub(super) runtime: (PathBuf, bool),
    /// Settings that forbid user namespaces, as sysctl(8) names them.
    pub(super) namespace_switches: NamespaceSwitches,
}

/// The ways in which distributions turn user namespaces off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct NamespaceSwitches {
    /// `kernel.unprivileged_userns_clone` is 0 (Debian before 12, Arch).
    pub(super) clone_off: bool,
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1 (Ubuntu since 23.10).
    pub(super) apparmor: bool,
    /// `user.max_user_namespaces` is 0.
    pub(super) max_zero: bool,
}

impl Facts {
    /// Tries everything.
    pub(super) fn collect() -> Facts {
        // Before the probe, which raises the soft limit.
        let nofile = nofile();
        let probe = watt_spawner::probe_host().map_err(|error| chain(&error));
        Facts { nofile, ..Facts::with(probe, Cgroups::try_out()) }
    }

    /// Looks at the rest.
    pub(super) fn with(probe: Result<Probe, String>, cgroups: Cgroups) -> Facts {
        let uid = geteuid().as_raw();
        Facts {
            uid,
            kernel: kernel(),
            nofile: nofile(),
            probe,
            cgroups,
            // Where systemd-run(1) looks for it.
            user_manager: std::env::var_os("XDG_RUNTIME_DIR")
                .is_some_and(|folder| Path::new(&folder).join("systemd/private").exists()),
            pidfd: pidfd(),
            unprivileged_port_start: read("/proc/sys/net/ipv4/ip_unprivileged_port_start")
                .parse()
                .unwrap_or(1024),
            name_servers: snapshot::resolvers(&fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
                .len(),
            missing_name_files: ["/etc/hosts", "/etc/resolv.conf", "/etc/nsswitch.conf"]
                .into_iter()
                .filter(|file| fs::metadata(file).is_err())
                .collect(),
            runtime: runtime(uid),
            namespace_switches: NamespaceSwitches {
                clone_off: read("/proc/sys/kernel/unprivileged_userns_clone") == "0",
                apparmor: read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1",
                max_zero: read("/proc/sys/user/max_user_namespaces") == "0",
            },
        }
    }
}

/// The running kernel's release.
pub(crate) fn kernel() -> String {
    read("/proc/sys/kernel/osrelease")
}

/// Whether processes can be held by descriptor.
pub(super) fn pidfd() -> Result<(), String> {
    watt_os::pidfd::open(std::process::id()).map(drop).map_err(|error| error.to_string())
}

/// A one-line file of /proc; empty when there is none, which is the same as not having the setting.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// Soft and hard limit of descriptors, from a file rather than a call, as the rest. Unknown ones are taken as the
/// kernel's defaults.
fn nofile() -> (u64, u64) {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_default();
    let mut numbers = line.split_whitespace().map(|number| number.parse().unwrap_or(u64::MAX));
    (numbers.next().unwrap_or(1024), numbers.next().unwrap_or(4096))
}

/// The folder of all runtime folders, or the next one above that exists.
fn runtime(uid: u32) -> (PathBuf, bool) {
    let base = Places::runtime_base(&|name| std::env::var_os(name), uid);
    let existing = base.ancestors().find(|path| path.exists());
    let writable = existing.is_some_and(|path| access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok());
    (base, writable)
}

fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |error: &&dyn Error| (**error).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
