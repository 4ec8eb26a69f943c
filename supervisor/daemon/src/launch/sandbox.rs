//! What is in force of a service's sandbox on this host, and everything of it that is no mount.
//!
//! A switch that the host cannot do is left out and named in [`Walls::missing`]: in `status`, in the warnings of `up`, and
//! as the reason not to start where the sandbox is `required`.

use std::{path::Path, sync::Arc};

use watt_core::{
    plan::Service,
    sandbox::{
        Capability, PathAccess, Personality, ProtectHome, ProtectProc, ProtectSystem, Sandbox, Temporary,
        User,
    },
};
use watt_exec::plan::{Capabilities, FileAccess, HostName, Landlock, LandlockRule, LaunchPlan, Namespaces};

use super::{Host, accounts::Account};
use crate::filter;

/// The first ABI of Landlock that knows signals and abstract sockets (landlock(7)).
pub(crate) const LANDLOCK_WITH_SCOPES: u32 = 6;

/// Which walls this host can put around a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Paths can be read-only or closed for a worker alone.
    pub read_only: bool,
    /// A `/dev` of its own.
    pub devices: bool,
    /// A PID namespace with its `/proc`.
    pub pid_namespace: bool,
    /// A `/proc` that hides processes, without such a namespace.
    pub proc_shared: bool,
    /// A `/sys` of its own network.
    pub sys: bool,
    /// An IPC namespace.
    pub ipc_namespace: bool,
    /// There is a `/dev/mqueue`.
    pub mqueue: bool,
    /// A UTS namespace.
    pub uts_namespace: bool,
    /// A cgroup namespace.
    pub cgroup_namespace: bool,
    /// A session keyring.
    pub keyring: bool,
    /// The ABI version of Landlock; 0 where there is none.
    pub landlock: u32,
    /// Filters of system calls.
    pub seccomp: bool,
    /// Workers can be other users than the supervisor.
    pub change_user: bool,
    /// A user namespace around a worker.
    pub user_namespace: bool,
    /// Capabilities can be given up for good.
    pub capabilities: bool,
}

/// What is in force.
#[derive(Debug, Clone)]
pub(super) struct Walls {
    /// The sandbox without what the host cannot do.
    pub(super) sandbox: Arc<Sandbox>,
    /// Whether there is a `/proc` of its own.
    pub(super) own_proc: bool,
    /// Whom the worker runs as, when it is not the supervisor's user.
    pub(super) account: Option<Account>,
    /// Whether capabilities can be given up.
    gives_up: bool,
    /// Whether the exec stage has what it takes to put up walls around a program that may still gain rights.
    is_privileged: bool,
    /// What the filters of system calls are.
    filters: Arc<[Vec<u8>]>,
    /// What the host cannot do, by the words of the configuration.
    pub(super) missing: Vec<&'static str>,
}

impl Walls {
    /// What this host makes of a service's sandbox.
    pub(super) fn of(service: &Service, host: &Host, account: Option<&Account>) -> Walls {
        let mut left = Left { sandbox: Arc::clone(&service.sandbox), missing: Vec::new() };
        left.files(host);
        left.namespaces(host);
        let filters = left.system_calls(&service.sandbox, host);
        left.landlock(host);
        left.rights(host);
        let changes_user = left.account(host);
        let account = account.filter(|_| changes_user).cloned();
        let Left { sandbox, missing } = left;
        let hides = sandbox.protect_proc != ProtectProc::Default;
        let gives_up = host.walls.capabilities;
        // Who can mount without a user namespace has CAP_SYS_ADMIN.
        let is_privileged = host.is_root && host.bind_files && !host.user_namespace;
        let own_proc = sandbox.private_pids || hides;
        Walls { own_proc, sandbox, account, gives_up, is_privileged, filters, missing }
    }

    /// Puts them into a plan that has its mounts already.
    pub(super) fn put_into(&self, plan: &mut LaunchPlan, own: &Path, state: &Path) {
        let sandbox = &*self.sandbox;
        plan.umask = sandbox.umask;
        plan.namespaces = Namespaces {
            ipc: sandbox.private_ipc,
            uts: sandbox.protect_hostname.then_some(HostName::Same),
            cgroup: sandbox.private_cgroup,
            pid: sandbox.private_pids,
        };
        plan.identity = self.account.as_ref().map(|account| account.identity.clone());
        // An ordinary user's worker is in one anyway.
        plan.private_users = sandbox.private_users && self.is_privileged;
        plan.capabilities = self.capabilities();
        plan.keyring = sandbox.private_keyring;
        plan.personality = sandbox.personality.map(domain);
        plan.landlock = self.landlock([own, state]);
        plan.seccomp = self.filters.to_vec();
        // The kernel takes neither from an ordinary user's program that could gain rights behind them.
        let has_to = plan.landlock.is_some() || !plan.seccomp.is_empty();
        plan.no_new_privs = sandbox.no_new_privileges || (has_to && !self.is_privileged);
    }

    /// What may be had, without what a switch takes away although the list has it.
    fn capabilities(&self) -> Option<Capabilities> {
        if !self.gives_up {
            return None;
        }
        let sandbox = &*self.sandbox;
        let taken = [
            (sandbox.protect_kernel_modules, Capability::SysModule),
            (sandbox.protect_kernel_logs, Capability::Syslog),
            (sandbox.protect_clock, Capability::SysTime),
            (sandbox.protect_clock, Capability::WakeAlarm),
            (sandbox.private_devices, Capability::Mknod),
            (sandbox.private_devices, Capability::SysRawio),
        ];
        let taken: u64 =
            taken.into_iter().filter(|(is_on, _)| *is_on).map(|(_, one)| bit(one)).fold(0, |a, b| a | b);
        let bits =
            |set: &std::collections::BTreeSet<Capability>| set.iter().copied().map(bit).fold(0, |a, b| a | b);
        let listed = sandbox.capabilities.as_ref().map_or(u64::MAX, bits);
        let (bounding, ambient) = (listed & !taken, bits(&sandbox.ambient_capabilities) & !taken);
        (bounding != u64::MAX || ambient != 0).then_some(Capabilities { bounding, ambient })
    }

    /// No process outside can be looked into, signalled or reached by an abstract socket. Where all files are read-only
    /// but some, Landlock says so a second time, for those who find a way around the mounts.
    ///
    /// A domain has to refuse something: where it leaves files alone, the making of device nodes, which nobody has a right
    /// to. Control of devices is with that, and goes on for those in `/dev`.
    fn landlock(&self, own: [&Path; 2]) -> Option<Landlock> {
        let sandbox = &*self.sandbox;
        if !sandbox.landlock {
            return None;
        }
        let (abstract_sockets, signals) = (true, true);
        let rule = |path: &Path, access| LandlockRule { path: path.to_owned(), access, optional: true };
        let devices = FileAccess { devices: true, ..FileAccess::default() };
        if sandbox.protect_system != ProtectSystem::Strict {
            let rules = vec![rule(Path::new("/dev"), devices)];
            return Some(Landlock { handled: devices, rules, abstract_sockets, signals });
        }
        let places = ["/dev", "/proc", "/sys"].into_iter();
        let places = places.chain(["/tmp", "/var/tmp"].into_iter().filter(|_| sandbox.private_tmp));
        let named = sandbox.paths.iter().filter_map(|rule| match rule.access {
            PathAccess::ReadWrite
            | PathAccess::Temporary(Temporary { read_only: false, .. })
            | PathAccess::Bind { read_only: false, .. } => Some(rule.path.as_path()),
            PathAccess::ReadOnly
            | PathAccess::Inaccessible
            | PathAccess::Temporary(_)
            | PathAccess::Bind { read_only: true, .. }
            | PathAccess::NoExec
            | PathAccess::Exec => None,
        });
        let handled = FileAccess { write: true, make: true, ..devices };
        let rules = places.map(Path::new).chain(named).chain(own).map(|path| rule(path, handled));
        Some(Landlock { handled, rules: rules.collect(), abstract_sockets, signals })
    }
}

/// The kernel's number of an execution domain (linux/personality.h).
fn domain(personality: Personality) -> u32 {
    match personality {
        Personality::Linux => 0,
        Personality::Linux32 => 8,
    }
}

/// The switches of a sandbox that this host can do.
pub(super) fn in_force(sandbox: &Arc<Sandbox>, host: &Host) -> Arc<Sandbox> {
    let mut left = Left { sandbox: Arc::clone(sandbox), missing: Vec::new() };
    left.files(host);
    left.namespaces(host);
    if !host.walls.seccomp || !filter::is_possible() {
        left.no_filters(host);
    }
    left.landlock(host);
    left.rights(host);
    left.account(host);
    left.sandbox
}

fn bit(capability: Capability) -> u64 {
    1 << capability.number()
}

/// What is left of a sandbox.
struct Left {
    sandbox: Arc<Sandbox>,
    missing: Vec<&'static str>,
}

impl Left {
    /// Takes a switch out that is on and cannot be done.
    fn unless(
        &mut self,
        able: bool,
        name: &'static str,
        is_on: impl FnOnce(&Sandbox) -> bool,
        off: impl FnOnce(&mut Sandbox),
    ) {
        if !able && is_on(&self.sandbox) {
            off(Arc::make_mut(&mut self.sandbox));
            self.missing.push(name);
        }
    }

    fn files(&mut self, host: &Host) {
        let mounts = host.bind_files;
        let read_only = mounts && host.walls.read_only;
        self.unless(mounts, "private_tmp", |s| s.private_tmp, |s| s.private_tmp = false);
        let devices = mounts && host.walls.devices;
        self.unless(devices, "private_devices", |s| s.private_devices, |s| s.private_devices = false);
        self.unless(
            read_only,
            "protect_system",
            |s| s.protect_system != ProtectSystem::No,
            |s| s.protect_system = ProtectSystem::No,
        );
        // An empty folder is made where a read-only one cannot be.
        let home = |s: &Sandbox| {
            s.protect_home == ProtectHome::ReadOnly || (!mounts && s.protect_home != ProtectHome::No)
        };
        self.unless(read_only, "protect_home", home, |s| s.protect_home = ProtectHome::No);
        self.unless(read_only, "protect_services", |s| s.protect_services, |s| s.protect_services = false);
        self.unless(
            read_only,
            "protect_kernel_tunables",
            |s| s.protect_kernel_tunables,
            |s| s.protect_kernel_tunables = false,
        );
        self.unless(
            read_only,
            "protect_control_groups",
            |s| s.protect_control_groups,
            |s| s.protect_control_groups = false,
        );
        self.unless(read_only, "paths", |s| !s.paths.is_empty(), |s| s.paths.clear());
        // Modules, log and clock are held by capabilities and system calls too, which say for themselves what is missing.
        if !read_only && (self.sandbox.protect_kernel_modules || self.sandbox.protect_kernel_logs) {
            self.missing.push("protect_kernel_modules and protect_kernel_logs as far as files go");
        }
    }

    fn namespaces(&mut self, host: &Host) {
        let walls = &host.walls;
        let pids = walls.pid_namespace && host.bind_files;
        self.unless(pids, "private_pids", |s| s.private_pids, |s| s.private_pids = false);
        let proc = self.sandbox.private_pids || (walls.proc_shared && host.bind_files);
        self.unless(
            proc,
            "protect_proc",
            |s| s.protect_proc != ProtectProc::Default,
            |s| s.protect_proc = ProtectProc::Default,
        );
        self.unless(walls.ipc_namespace, "private_ipc", |s| s.private_ipc, |s| s.private_ipc = false);
        let cgroup = walls.cgroup_namespace && host.bind_files;
        self.unless(cgroup, "private_cgroup", |s| s.private_cgroup, |s| s.private_cgroup = false);
        self.unless(
            walls.uts_namespace,
            "protect_hostname",
            |s| s.protect_hostname,
            |s| s.protect_hostname = false,
        );
        let users = walls.user_namespace;
        self.unless(users, "private_users", |s| s.private_users, |s| s.private_users = false);
        self.unless(walls.keyring, "private_keyring", |s| s.private_keyring, |s| s.private_keyring = false);
    }

    /// The filters of the sandbox as it was written: what a mount cannot do here, a filter may.
    fn system_calls(&mut self, written: &Sandbox, host: &Host) -> Arc<[Vec<u8>]> {
        match filter::programs(written) {
            Ok(filters) if filters.is_empty() || host.walls.seccomp => filters,
            Ok(_) | Err(_) => {
                self.missing.push("system_calls, address_families and what else is a filter of system calls");
                Arc::new([])
            }
        }
    }

    /// Takes out what is a filter and nothing else. Modules, log and clock are held by capabilities as well.
    fn no_filters(&mut self, host: &Host) {
        let sandbox = Arc::make_mut(&mut self.sandbox);
        sandbox.system_calls = None;
        sandbox.address_families = None;
        sandbox.restrict_namespaces = None;
        let switches = [
            &mut sandbox.restrict_realtime,
            &mut sandbox.restrict_suid_sgid,
            &mut sandbox.memory_deny_write_execute,
            &mut sandbox.lock_personality,
        ];
        switches.into_iter().for_each(|switch| *switch = false);
        if !host.walls.capabilities {
            sandbox.protect_kernel_modules = false;
            sandbox.protect_kernel_logs = false;
            sandbox.protect_clock = false;
        }
    }

    fn landlock(&mut self, host: &Host) {
        self.unless(host.walls.landlock > 0, "landlock", |s| s.landlock, |s| s.landlock = false);
        // In a PID namespace of its own a worker finds no other process to send a signal to.
        if self.sandbox.landlock && !self.sandbox.private_pids && host.walls.landlock < LANDLOCK_WITH_SCOPES {
            self.missing.push("landlock's hold on signals and abstract sockets (Linux 6.12)");
        }
    }

    fn rights(&mut self, host: &Host) {
        let able = host.walls.capabilities;
        self.unless(able, "capabilities", |s| s.capabilities.is_some(), |s| s.capabilities = None);
        self.unless(
            able && host.is_root,
            "ambient_capabilities",
            |s| !s.ambient_capabilities.is_empty(),
            |s| s.ambient_capabilities.clear(),
        );
    }

    /// Whether the worker can be somebody else, where it is to be.
    fn account(&mut self, host: &Host) -> bool {
        let able = host.walls.change_user;
        self.unless(able, "dynamic_user", |s| s.user == User::Dynamic, |s| s.user = User::Same);
        self.unless(able, "user", |s| s.user != User::Same, |s| s.user = User::Same);
        self.unless(
            able,
            "supplementary_groups",
            |s| !s.supplementary_groups.is_empty(),
            |s| s.supplementary_groups.clear(),
        );
        able
    }
}

#[cfg(test)]
mod tests {
    use watt_core::sandbox::Profile;

    use super::*;
    use crate::testing;

    fn plan(
        host: &Host,
        profile: Profile,
        change: impl FnOnce(&mut Sandbox),
    ) -> (LaunchPlan, Vec<&'static str>) {
        let mut service = testing::plan(&["api"]).services.into_values().next().unwrap();
        let mut sandbox = Sandbox::of(profile);
        change(&mut sandbox);
        service.sandbox = sandbox.into();
        let walls = Walls::of(&service, host, None);
        let mut plan = LaunchPlan::default();
        walls.put_into(&mut plan, Path::new("/run/own"), Path::new("/state/own"));
        (plan, walls.missing)
    }

    #[test]
    fn off_asks_for_nothing() {
        let (plan, missing) = plan(&Host::default(), Profile::Off, |_| {});
        assert_eq!(plan, LaunchPlan { umask: 0o022, ..LaunchPlan::default() });
        assert!(missing.is_empty());
    }

    /// Root's programs may gain rights behind a filter, unless they are not to.
    #[test]
    fn a_filter_alone_does_not_keep_roots_programs_from_gaining_rights() {
        let no_new_privs =
            |host: &Host, change: fn(&mut Sandbox)| plan(host, Profile::Off, change).0.no_new_privs;
        let filters: fn(&mut Sandbox) = |sandbox| sandbox.lock_personality = true;
        let root = Host { is_root: true, user_namespace: false, ..testing::HOST };
        assert!(!no_new_privs(&root, filters));
        assert!(no_new_privs(&root, |sandbox| sandbox.no_new_privileges = true));
        assert!(no_new_privs(&Host { is_root: false, ..root.clone() }, filters));
        assert!(no_new_privs(&Host { bind_files: false, ..root }, filters), "root without rights");
    }

    #[test]
    fn users_of_its_own_are_made_for_root_or_said_to_be_missing() {
        let private = |host: &Host| {
            let (plan, missing) = plan(host, Profile::Off, |sandbox| sandbox.private_users = true);
            (plan.private_users, missing)
        };
        assert_eq!(private(&testing::HOST), (true, vec![]));
        let ordinary = Host { is_root: false, user_namespace: true, ..testing::HOST };
        assert_eq!(private(&ordinary), (false, vec![]), "it is in one");
        assert_eq!(private(&Host::default()), (false, vec!["private_users"]));
    }

    #[test]
    fn a_complete_host_does_everything() {
        let (plan, missing) = plan(&testing::HOST, Profile::Strict, |_| {});
        assert!(missing.is_empty(), "{missing:?}");
        let Namespaces { ipc, uts, cgroup, pid } = plan.namespaces;
        assert!(ipc && cgroup && pid && uts == Some(HostName::Same));
        assert_eq!(plan.capabilities, Some(Capabilities { bounding: 0, ambient: 0 }));
        assert!(plan.keyring && plan.no_new_privs && plan.umask == 0o077);
        assert_eq!(plan.seccomp.len(), 1);
        let landlock = plan.landlock.unwrap();
        let may_write =
            |path: &str| landlock.rules.iter().any(|rule| rule.path == Path::new(path) && rule.access.write);
        assert!(
            landlock.handled.write && may_write("/run/own") && may_write("/state/own") && may_write("/tmp")
        );
        assert!(!landlock.handled.read && !may_write("/srv/shop"));
    }

    #[test]
    fn a_bare_host_does_nothing_and_every_missing_switch_is_named() {
        let (plan, missing) = plan(&Host::default(), Profile::Strict, |sandbox| {
            sandbox.supplementary_groups = vec!["7".into()];
            sandbox.ambient_capabilities = [Capability::Chown].into();
            sandbox.paths = vec![watt_core::sandbox::PathRule {
                access: PathAccess::ReadOnly,
                path: "/a".into(),
                optional: false,
            }];
        });
        let left = LaunchPlan { umask: 0o077, no_new_privs: true, ..LaunchPlan::default() };
        assert_eq!(plan, left);
        assert_eq!(
            missing,
            [
                "private_tmp",
                "private_devices",
                "protect_system",
                "protect_home",
                "protect_services",
                "protect_kernel_tunables",
                "protect_control_groups",
                "paths",
                "protect_kernel_modules and protect_kernel_logs as far as files go",
                "private_pids",
                "protect_proc",
                "private_ipc",
                "private_cgroup",
                "protect_hostname",
                "private_keyring",
                "system_calls, address_families and what else is a filter of system calls",
                "landlock",
                "capabilities",
                "ambient_capabilities",
                "dynamic_user",
                "supplementary_groups",
            ]
        );
    }

    /// A switch that is named is in force also where the list of capabilities says otherwise.
    #[test]
    fn capabilities_are_what_the_list_has_and_no_switch_takes_away() {
        let bounding = |change: fn(&mut Sandbox)| plan(&testing::HOST, Profile::Off, change).0.capabilities;
        assert_eq!(bounding(|_| {}), None);
        let without =
            |capability: Capability| Some(Capabilities { bounding: !(1 << capability.number()), ambient: 0 });
        assert_eq!(bounding(|sandbox| sandbox.protect_kernel_modules = true), without(Capability::SysModule));
        assert_eq!(bounding(|sandbox| sandbox.protect_kernel_logs = true), without(Capability::Syslog));
        let one = 1 << Capability::Chown.number();
        let chown = Some(Capabilities { bounding: one, ambient: one });
        assert_eq!(
            bounding(|sandbox| {
                sandbox.capabilities = Some([Capability::Chown].into());
                sandbox.ambient_capabilities = [Capability::Chown].into();
            }),
            chown
        );
    }

    /// Older versions of Landlock know no scopes, and keep processes from each other's memory all the same.
    #[test]
    fn landlock_is_used_in_every_version() {
        let walls = Abilities { landlock: 1, ..testing::HOST.walls };
        let (plan, missing) = plan(&Host { walls, ..testing::HOST }, Profile::Standard, |_| {});
        let landlock = plan.landlock.unwrap();
        assert!(landlock.handled.devices && !landlock.handled.write);
        assert_eq!(missing, ["landlock's hold on signals and abstract sockets (Linux 6.12)"]);
    }
}
