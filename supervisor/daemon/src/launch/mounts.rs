//! What a worker sees of the file system, as a list of changes from the outside in.
//!
//! What comes later lies over what came before ([`Mount`]): first what is to stay where it is, then how much of the system can be
//! written, then file systems of the kernel's, then folders that are emptied. After these the application's own folder is put back where it was
//! covered, then come the folders of other services, the operator's own rules, the ways to files that the configuration names, what
//! secrets are read from, sockets that lead out, the configuration, and the files that give the mesh its names.
//! Then watt's own folders are hidden, whatever was said before. Last of all comes where nothing can be executed.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;
use watt_core::{
    plan::{Network, Plan, Secret, Service},
    sandbox::{PathAccess, PathRule, ProtectHome, ProtectProc, ProtectSystem, Sandbox, Temporary},
};
use watt_exec::plan::{HiddenFolder, HideProcesses, Mount};

use super::{Host, sandbox::Walls};
use crate::{
    places::{Places, WorkerPlaces},
    secrets::CREDENTIALS_DIRECTORY,
};

/// Temporary folders.
const TEMPORARY: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// Users' homes, and what `ProtectHome=` of systemd.exec(5) counts among them.
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];

/// Everybody writes, and removes what is his own.
const STICKY: u32 = 0o1777;

/// What of `/proc` changes the kernel (`ProtectKernelTunables=`).
const KNOBS: [&str; 8] = [
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/latency_stats",
    "/proc/mtrr",
    "/proc/acpi",
    "/proc/fs",
    "/proc/irq",
    "/proc/bus",
];

/// What of `/proc` tells addresses and memory of the kernel.
const KERNEL_MEMORY: [&str; 3] = ["/proc/kallsyms", "/proc/kcore", "/proc/timer_list"];

/// Where modules are.
const MODULES: [&str; 2] = ["/usr/lib/modules", "/lib/modules"];

/// The kernel's log.
const KERNEL_LOGS: [&str; 2] = ["/proc/kmsg", "/dev/kmsg"];

/// Whoever may speak to these has others do what he may not: start processes outside of his sandbox.
const MANAGERS: [&str; 5] = [
    "/run/systemd/private",
    "/run/dbus/system_bus_socket",
    "/run/docker.sock",
    "/run/podman",
    "/run/containerd",
];

/// The same of a user's own, in `/run/user/UID`.
const MANAGERS_OF_USERS: [&str; 4] = ["systemd", "bus", "docker.sock", "podman"];

/// Where the host's resolvers answer, which look past the mesh and its rules for names. Not their folder: `/etc/resolv.conf` is
/// often a link into it.
const RESOLVERS: [&str; 3] = [
    "/run/systemd/resolve/io.systemd.Resolve",
    "/run/systemd/resolve/io.systemd.Resolve.Monitor",
    "/run/nscd/socket",
];

/// What the list is made from.
pub(super) struct View<'a> {
    pub(super) plan: &'a Plan,
    pub(super) service: &'a Service,
    pub(super) network: Network,
    pub(super) host: &'a Host,
    pub(super) places: &'a Places,
    pub(super) own: &'a WorkerPlaces,
    pub(super) state: &'a Path,
    /// Where its secrets are.
    pub(super) credentials: Option<&'a Path>,
    /// The environment the supervisor was started with.
    pub(super) inherited: &'a BTreeMap<String, String>,
    /// What is in force of the sandbox.
    pub(super) walls: &'a Walls,
}

/// The changes, in their order. Empty where the host cannot do any.
pub(super) fn list(view: &View<'_>) -> Vec<Mount> {
    if !view.host.bind_files {
        return Vec::new();
    }
    let sandbox = &view.walls.sandbox;
    let mut mounts = view.pinned();
    system(sandbox, &mut mounts);
    home(sandbox, &mut mounts);
    kernel(view, &mut mounts);
    temporary(view, &mut mounts);
    let covered = covered(&mounts);
    mounts.extend(view.put_back(&covered));
    mounts.extend(view.other_services());
    mounts.extend(sandbox.paths.iter().filter(|rule| !rule.access.is_of_executing()).map(rule));
    mounts.extend(view.pinned_ways());
    mounts.extend(view.out_of_reach().into_iter().map(inaccessible));
    mounts.extend(view.configuration());
    mounts.extend(view.name_files());
    mounts.extend(view.own_folders());
    mounts.extend(view.control_socket());
    // After everything that programs could be put into.
    mounts.extend(sandbox.paths.iter().filter(|rule| rule.access.is_of_executing()).map(rule));
    mounts.extend(view.credentials.map(|folder| Mount::Credentials { target: folder.to_owned() }));
    mounts
}

fn read_only(path: impl Into<PathBuf>) -> Mount {
    Mount::ReadOnly { path: path.into(), optional: true }
}

fn writable(path: impl Into<PathBuf>) -> Mount {
    Mount::Writable { path: path.into(), optional: true }
}

fn inaccessible(path: impl Into<PathBuf>) -> Mount {
    Mount::Inaccessible { path: path.into(), optional: true }
}

/// How much of the system can be written.
fn system(sandbox: &Sandbox, mounts: &mut Vec<Mount>) {
    let folders: &[&str] = match sandbox.protect_system {
        ProtectSystem::No => &[],
        ProtectSystem::Yes => &["/usr", "/boot", "/efi"],
        ProtectSystem::Full => &["/usr", "/boot", "/efi", "/etc"],
        ProtectSystem::Strict => &["/"],
    };
    mounts.extend(folders.iter().copied().map(read_only));
    if sandbox.protect_system == ProtectSystem::Strict {
        let own_devices = (!sandbox.private_devices).then_some("/dev");
        mounts.extend(["/proc", "/sys"].into_iter().chain(own_devices).map(writable));
    }
}

fn home(sandbox: &Sandbox, mounts: &mut Vec<Mount>) {
    match sandbox.protect_home {
        ProtectHome::No => {}
        ProtectHome::ReadOnly => mounts.extend(HOMES.map(read_only)),
        ProtectHome::Hidden => mounts.extend(HOMES.map(|home| empty(home, 0o755, true))),
    }
}

fn empty(target: impl Into<PathBuf>, mode: u32, read_only: bool) -> Mount {
    Mount::Tmpfs { target: target.into(), size: None, mode, no_exec: false, read_only, optional: true }
}

/// `/proc`, `/sys`, `/dev`, and what in them changes or tells too much of the kernel.
fn kernel(view: &View<'_>, mounts: &mut Vec<Mount>) {
    let sandbox = &view.walls.sandbox;
    let hide = match sandbox.protect_proc {
        ProtectProc::Default => HideProcesses::None,
        ProtectProc::Invisible => HideProcesses::Invisible,
        ProtectProc::Ptraceable => HideProcesses::NotPtraceable,
    };
    if view.walls.own_proc {
        mounts.push(Mount::Proc { hide, processes_only: false });
    }
    if sandbox.private_devices {
        mounts.push(Mount::Devices);
    }
    if sandbox.protect_kernel_tunables {
        mounts.extend(KNOBS.map(read_only));
        mounts.extend(KERNEL_MEMORY.map(inaccessible));
        // The host's network devices are seen in its own /sys.
        let own = view.network == Network::Private && view.host.walls.sys;
        mounts.push(if own { Mount::Sys } else { read_only("/sys") });
        if !sandbox.protect_control_groups {
            mounts.push(writable("/sys/fs/cgroup"));
        }
    } else if sandbox.protect_control_groups {
        mounts.push(read_only("/sys/fs/cgroup"));
    }
    if sandbox.private_cgroup {
        mounts.push(Mount::Cgroups);
    }
    if sandbox.protect_kernel_modules {
        mounts.extend(MODULES.map(inaccessible));
    }
    if sandbox.protect_kernel_logs {
        mounts.extend(KERNEL_LOGS.map(inaccessible));
    }
}

/// The kernel gives such a folder half of the memory there is. Here that is half of what the worker may have: it counts as the
/// worker's, and a full folder is better to be told of than a kill.
fn temporary(view: &View<'_>, mounts: &mut Vec<Mount>) {
    if view.walls.sandbox.private_tmp {
        mounts.extend(TEMPORARY.map(|folder| Mount::Tmpfs {
            target: folder.into(),
            size: view.service.limits.cgroup.memory.map(|limit| limit / 2),
            mode: STICKY,
            no_exec: false,
            read_only: false,
            optional: true,
        }));
    }
    if view.walls.sandbox.private_ipc && view.host.walls.mqueue {
        mounts.push(Mount::Mqueue);
    }
}

/// The folders that look empty after these changes.
fn covered(mounts: &[Mount]) -> Vec<&Path> {
    let folders = mounts.iter().filter_map(|mount| match mount {
        Mount::Tmpfs { target, .. } => Some(target.as_path()),
        _ => None,
    });
    folders.collect()
}

/// An operator's rule.
fn rule(rule: &PathRule) -> Mount {
    let PathRule { access, path, optional } = rule;
    let (path, optional) = (path.clone(), *optional);
    match access {
        PathAccess::ReadOnly => Mount::ReadOnly { path, optional },
        PathAccess::ReadWrite => Mount::Writable { path, optional },
        PathAccess::Inaccessible => Mount::Inaccessible { path, optional },
        PathAccess::Bind { source, read_only } => {
            Mount::Bind { source: source.clone(), target: path, read_only: *read_only, optional }
        }
        PathAccess::Temporary(Temporary { mode, size, read_only }) => Mount::Tmpfs {
            target: path,
            size: *size,
            mode: *mode,
            no_exec: false,
            read_only: *read_only,
            optional,
        },
        PathAccess::NoExec => Mount::Executable { path, allowed: false, optional },
        PathAccess::Exec => Mount::Executable { path, allowed: true, optional },
    }
}

impl View<'_> {
    /// The application's folder and all above it cannot be moved away: nobody renames what something is mounted on. Who could
    /// would put another one in its place, whose configuration the next start would read.
    fn pinned(&self) -> Vec<Mount> {
        if !self.walls.sandbox.protect_services {
            return Vec::new();
        }
        let mut folders: Vec<&Path> =
            self.plan.root.ancestors().filter(|folder| folder.parent().is_some()).collect();
        folders.reverse();
        folders
            .into_iter()
            .map(|folder| Mount::Writable { path: folder.to_owned(), optional: false })
            .collect()
    }

    /// The folders on the way to the configuration and to all files that it names. A file that something is mounted on stays where it
    /// is, and moves with a folder around it: who could rename that would put another one in its place.
    fn pinned_ways(&self) -> Vec<Mount> {
        if !self.walls.sandbox.protect_services {
            return Vec::new();
        }
        let own = [self.plan.file.clone(), self.dotenv()];
        let secrets = self.plan.secrets.values().filter_map(|secret| match secret {
            Secret::File(file) => Some(file),
            Secret::Environment(_) | Secret::Credential(_) | Secret::Command(_) => None,
        });
        let files = own.iter().chain(secrets).chain(self.plan.certificate_files());
        let folders = files.flat_map(|file| file.ancestors().skip(1));
        let apart = folders.filter(|folder| folder.parent().is_some() && !self.plan.root.starts_with(folder));
        // In their order parents come first.
        let apart: BTreeSet<&Path> = apart.collect();
        let pinned =
            apart.into_iter().map(|folder| Mount::Pinned { path: folder.to_owned(), optional: true });
        pinned.collect()
    }

    /// The application's folder and the service's own are where they were, and can be written unless everything is read-only.
    fn put_back(&self, covered: &[&Path]) -> Vec<Mount> {
        let system = self.walls.sandbox.protect_system;
        let mut folders = vec![&self.plan.root];
        if !self.service.path.starts_with(&self.plan.root) {
            folders.push(&self.service.path);
        }
        let protected: &[&str] = match system {
            ProtectSystem::No | ProtectSystem::Strict => &[],
            ProtectSystem::Yes => &["/usr"],
            ProtectSystem::Full => &["/usr", "/etc"],
        };
        let mounts = folders.into_iter().filter_map(|folder| {
            let is_in = |outer: &&&str| folder.starts_with(**outer);
            if covered.iter().any(|outer| folder.starts_with(outer)) {
                return Some(Mount::Bind {
                    source: folder.clone(),
                    target: folder.clone(),
                    read_only: system == ProtectSystem::Strict,
                    optional: false,
                });
            }
            protected.iter().find(is_in).map(|_| writable(folder))
        });
        mounts.collect()
    }

    /// Folders of other services that nobody shares with this one.
    fn other_services(&self) -> Vec<Mount> {
        let sandbox = &self.walls.sandbox;
        if !sandbox.protect_services {
            return Vec::new();
        }
        let own = &self.service.path;
        let others: BTreeSet<&PathBuf> = self.plan.services.values().map(|service| &service.path).collect();
        let apart = others.into_iter().filter(|folder| {
            !own.starts_with(folder)
                && !folder.starts_with(own)
                && !self.plan.root.starts_with(folder)
                && !self.is_named(folder)
        });
        // What is in a folder that is out of reach needs no mount of its own. Parents come first.
        let mut closed: Vec<&PathBuf> = Vec::new();
        for folder in apart {
            if closed.last().is_none_or(|outer| !folder.starts_with(outer)) {
                closed.push(folder);
            }
        }
        closed.into_iter().map(inaccessible).collect()
    }

    /// What secrets are read from (who is to have one gets it in a `$CREDENTIALS_DIRECTORY` of its own), and sockets that lead
    /// out of the sandbox, but for what a rule names. A rule for a folder around them opens none.
    fn out_of_reach(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        if self.walls.sandbox.protect_services {
            paths.extend(self.secret_files());
            paths.extend(MANAGERS.map(PathBuf::from));
            let uid = self.walls.account.as_ref().map_or(geteuid().as_raw(), |account| account.identity.uid);
            let own = PathBuf::from(format!("/run/user/{uid}"));
            paths.extend(MANAGERS_OF_USERS.map(|name| own.join(name)));
        }
        if self.network == Network::Private {
            paths.extend(RESOLVERS.map(PathBuf::from));
        }
        paths.retain(|path| !self.is_named(path));
        paths
    }

    /// Files with values of secrets, the folder of those that systemd gave to watt's unit, keys of TLS, and what those are known by who ask
    /// at the gateway: modes of files do not keep a service of the same user from them.
    fn secret_files(&self) -> Vec<PathBuf> {
        let files = self.plan.secrets.values().filter_map(|secret| match secret {
            Secret::File(file) => Some(file.clone()),
            Secret::Environment(_) => Some(self.dotenv()),
            Secret::Credential(_) | Secret::Command(_) => None,
        });
        let unit = self.inherited.get(CREDENTIALS_DIRECTORY).map(PathBuf::from);
        // systemd's is absolute, and has no application in it.
        let is_around_us =
            |folder: &Path| self.service.path.starts_with(folder) || self.plan.root.starts_with(folder);
        let unit = unit.filter(|folder| folder.is_absolute() && !is_around_us(folder));
        let keys = self.plan.tls().flat_map(|tls| &tls.certificates).map(|files| files.key.clone());
        let credentials = self.plan.credential_files().into_iter().cloned();
        let sources: BTreeSet<PathBuf> = files.chain(unit).chain(keys).chain(credentials).collect();
        sources.into_iter().collect()
    }

    /// The variables beside the configuration.
    fn dotenv(&self) -> PathBuf {
        self.plan.file.with_file_name(".env")
    }

    /// Whether a rule of the operator is about this path, or something in it. `/var/run` is another name of `/run`.
    fn is_named(&self, path: &Path) -> bool {
        let is_in = |named: &Path| match named.strip_prefix("/var/run") {
            Ok(below) => Path::new("/run").join(below).starts_with(path),
            Err(_) => named.starts_with(path),
        };
        self.walls.sandbox.paths.iter().any(|rule| {
            let source = match &rule.access {
                PathAccess::Bind { source, .. } => source,
                PathAccess::ReadOnly
                | PathAccess::ReadWrite
                | PathAccess::Inaccessible
                | PathAccess::Temporary(_) => &rule.path,
                PathAccess::NoExec | PathAccess::Exec => return false,
            };
            is_in(source) || is_in(&rule.path)
        })
    }

    /// The application's configuration cannot be written: by the next reload it decides about this sandbox, too. Nor can
    /// certificates, which decide whose clients come in. What is secret is covered already.
    fn configuration(&self) -> Vec<Mount> {
        if !self.walls.sandbox.protect_services {
            return Vec::new();
        }
        let secrets = self.secret_files();
        let certificates = self.plan.certificate_files();
        let files =
            [self.plan.file.clone(), self.dotenv()].into_iter().chain(certificates.into_iter().cloned());
        let files = files.filter(|file| !self.is_named(file) && !secrets.contains(file));
        files.map(read_only).collect()
    }

    /// The files that give the mesh its names. Only the hosts file makes sense on the host's network, where the
    /// host's own resolver stays in charge.
    fn name_files(&self) -> Vec<Mount> {
        let places = self.places;
        let files = match self.network {
            Network::Private => vec![
                (places.hosts(), "/etc/hosts"),
                (places.resolv_conf(), "/etc/resolv.conf"),
                (places.nsswitch_conf(), "/etc/nsswitch.conf"),
            ],
            Network::Host => vec![(places.hosts_shared(), "/etc/hosts")],
        };
        let exists = |target: &str| self.host.name_files.iter().any(|file| file == Path::new(target));
        let files = files.into_iter().filter(|(_, target)| exists(target));
        files
            .map(|(source, target)| Mount::Bind {
                source,
                target: target.into(),
                read_only: true,
                optional: false,
            })
            .collect()
    }

    /// The control socket, for a service that may use it, where it is on the host.
    fn control_socket(&self) -> Option<Mount> {
        let socket = self.places.control_socket();
        self.service.management.map(|_| Mount::Bind {
            source: socket.clone(),
            target: socket,
            read_only: false,
            optional: false,
        })
    }

    /// The worker's own two folders, and nothing else of the sockets, logs and secrets of watt, of other workers and of
    /// this user's other applications. A folder that somebody chose to hold them may hold anything else as well, and only our
    /// own one in it is hidden.
    fn own_folders(&self) -> [Mount; 2] {
        let is_chosen = |variable: &str| {
            self.inherited.get(variable).is_some_and(|folder| Path::new(folder).is_absolute())
        };
        let outer = |own: &Path, variable: &str| match own.parent() {
            Some(base) if !is_chosen(variable) => base.to_owned(),
            Some(_) | None => own.to_owned(),
        };
        let folders = [
            (outer(&self.places.state, "WATT_STATE_DIR"), self.state.to_owned()),
            (outer(&self.places.runtime, "WATT_RUNTIME_DIR"), self.own.dir.clone()),
        ];
        folders.map(|(folder, keep)| match self.plan.root.starts_with(&folder) {
            // Whoever keeps an application in there wants it to be seen.
            true => Mount::Writable { path: keep, optional: false },
            false => Mount::HideFolder(HiddenFolder { folder, keep }),
        })
    }
}

#[cfg(test)]
mod tests;
