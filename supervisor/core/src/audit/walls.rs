//! How a sandbox stands.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use super::{Check, Finding, Standing, WIDE};
use crate::{
    ServiceId,
    plan::{Network, Plan, Service},
    sandbox::{
        AddressFamily, Capability, Namespace, PathAccess, PathRule, ProtectHome, ProtectProc, ProtectSystem,
        Sandbox, User,
    },
    syscalls::{Action, groups},
};

/// Capabilities that reach no further than the program's own files, processes and identity.
const MODEST: [Capability; 13] = [
    Capability::Chown,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::IpcLock,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::DacOverride,
];

/// Kinds of sockets that every network program may need, and that no network namespace lets out.
const ORDINARY_FAMILIES: [AddressFamily; 4] =
    [AddressFamily::Unix, AddressFamily::Inet, AddressFamily::Inet6, AddressFamily::Netlink];

/// Groups of usual hosts whose members can become root, by their own programs or devices.
const MIGHTY_GROUPS: [&str; 12] =
    ["0", "root", "sudo", "wheel", "admin", "docker", "podman", "lxd", "libvirt", "disk", "shadow", "kmem"];

/// Places where what is written changes the host, or speaks to what runs there.
const HOST_PLACES: [&str; 12] =
    ["/boot", "/dev", "/efi", "/etc", "/lib", "/proc", "/run", "/sbin", "/sys", "/usr", "/bin", "/var/run"];

/// The calls that each check of them is about. Made once: their words are long, and each step of an audit asks again.
static CALLS: LazyLock<Vec<(Check, BTreeSet<&'static str>)>> = LazyLock::new(|| {
    let groups = [
        (Check::CallsClock, "@clock"),
        (Check::CallsCpuEmulation, "@cpu-emulation"),
        (Check::CallsDebug, "@debug"),
        (Check::CallsKeyring, "@keyring"),
        (Check::CallsModule, "@module"),
        (Check::CallsMount, "@mount"),
        (Check::CallsObsolete, "@obsolete"),
        (Check::CallsPrivileged, "@privileged"),
        (Check::CallsRawIo, "@raw-io"),
        (Check::CallsReboot, "@reboot"),
        (Check::CallsResources, "@resources"),
        (Check::CallsSwap, "@swap"),
    ];
    let single = [(Check::CallsIoUring, IO_URING.into()), (Check::CallsUserfaultfd, ["userfaultfd"].into())];
    groups.into_iter().map(|(check, group)| (check, group_of(group))).chain(single).collect()
});

/// Groups that switches refuse, whatever the list says.
static BY_SWITCH: LazyLock<[BTreeSet<&'static str>; 3]> =
    LazyLock::new(|| ["@clock", "@module", "@raw-io"].map(group_of));

const IO_URING: [&str; 3] = ["io_uring_enter", "io_uring_register", "io_uring_setup"];

fn group_of(name: &str) -> BTreeSet<&'static str> {
    groups::members(name).unwrap_or_default()
}

/// Every check of the sandbox.
pub(super) fn findings(standing: &Standing<'_>) -> Vec<Finding> {
    // One by one, so that a new switch asks for its place here.
    let Sandbox {
        profile: _,
        required,
        no_new_privileges: _,
        private_tmp,
        private_devices,
        protect_system,
        protect_home,
        protect_services: _,
        protect_kernel_tunables,
        protect_kernel_modules,
        protect_kernel_logs,
        protect_control_groups,
        protect_clock,
        protect_hostname,
        protect_proc: _,
        private_pids,
        private_ipc,
        private_cgroup,
        // It tells in what capabilities reach.
        private_users: _,
        private_keyring,
        paths,
        user: _,
        supplementary_groups,
        capabilities: _,
        ambient_capabilities: _,
        umask,
        // What uname(2) says of the processor is no wall.
        personality: _,
        system_calls: _,
        address_families,
        restrict_namespaces,
        restrict_realtime,
        restrict_suid_sgid,
        memory_deny_write_execute,
        lock_personality,
        landlock: _,
    } = &*standing.service.sandbox;
    let sandbox = &*standing.service.sandbox;
    let switch =
        |check, on: &bool| Finding::new(check, if *on { 0 } else { WIDE }, if *on { "on" } else { "off" });
    let mut findings = vec![
        user(standing),
        switch(Check::NoNewPrivileges, &gains_nothing(standing)),
        capabilities(standing),
        memberships(supplementary_groups),
        mask(*umask),
        system(*protect_system),
        home(*protect_home),
        services(standing),
        switch(Check::PrivateTmp, private_tmp),
        switch(Check::PrivateDevices, private_devices),
        writable(paths, standing.plan),
        executable(paths),
        landlock(standing),
        switch(Check::KernelTunables, protect_kernel_tunables),
        switch(Check::KernelModules, protect_kernel_modules),
        switch(Check::KernelLogs, protect_kernel_logs),
        switch(Check::ControlGroups, protect_control_groups),
        switch(Check::Clock, protect_clock),
        switch(Check::HostName, protect_hostname),
        namespaces(restrict_namespaces.as_ref()),
        families(address_families.as_ref()),
        switch(Check::Realtime, restrict_realtime),
        switch(Check::SuidSgid, restrict_suid_sgid),
        switch(Check::WriteExecute, memory_deny_write_execute),
        switch(Check::Personality, lock_personality),
        switch(Check::PrivatePids, private_pids),
        processes(sandbox),
        switch(Check::PrivateIpc, private_ipc),
        switch(Check::PrivateCgroup, private_cgroup),
        switch(Check::PrivateKeyring, private_keyring),
        switch(Check::Required, required),
    ];
    findings.extend(CALLS.iter().map(|(check, group)| calls(*check, sandbox, group)));
    findings
}

/// Whether it is, on the host, root.
pub(super) fn is_root(standing: &Standing<'_>) -> bool {
    match &standing.service.sandbox.user {
        User::Same => standing.host.is_root,
        User::Named { user, .. } => user == "root" || user == "0",
        User::Dynamic => false,
    }
}

fn user(standing: &Standing<'_>) -> Finding {
    let (open, note) = match &standing.service.sandbox.user {
        _ if is_root(standing) => (WIDE, "root".to_owned()),
        User::Same => (5, "the user who started watt, as whom others run too".to_owned()),
        User::Named { user, .. } => match sharing(user, standing) {
            Some(other) => (4, format!("user {user}, as {other} is")),
            None => (2, format!("user {user} of the host")),
        },
        User::Dynamic => (0, "a user that nobody else is".to_owned()),
    };
    Finding::new(Check::User, open, note)
}

/// Another service that is this user.
fn sharing<'a>(user: &str, standing: &Standing<'a>) -> Option<&'a ServiceId> {
    let others = standing.plan.services.values().filter(|other| other.id != standing.service.id);
    let is_same =
        |other: &&Service| matches!(&other.sandbox.user, User::Named { user: name, .. } if name == user);
    others.into_iter().find(is_same).map(|other| &other.id)
}

/// An ordinary user's programs can have Landlock and filters of system calls only with it, so there each of these turns it on.
pub(super) fn gains_nothing(standing: &Standing<'_>) -> bool {
    let sandbox = &*standing.service.sandbox;
    let by_filter = sandbox.system_calls.is_some()
        || sandbox.address_families.is_some()
        || sandbox.restrict_namespaces.is_some()
        || sandbox.restrict_realtime
        || sandbox.restrict_suid_sgid
        || sandbox.memory_deny_write_execute
        || sandbox.lock_personality
        || sandbox.private_devices
        || sandbox.protect_clock
        || sandbox.protect_hostname
        || sandbox.protect_kernel_modules
        || sandbox.protect_kernel_logs;
    sandbox.no_new_privileges || (!standing.host.is_root && (sandbox.landlock || by_filter))
}

/// What the program has, or could get by executing something. In a user namespace, where an ordinary user's services always are,
/// they reach the kernel and nothing of the host's.
fn capabilities(standing: &Standing<'_>) -> Finding {
    let held = held(standing);
    let mighty = held.iter().filter(|capability| !MODEST.contains(*capability)).count();
    let open = match (held.len(), mighty) {
        (0, _) => 0,
        (_, 0) if held.contains(&Capability::DacOverride) || held.contains(&Capability::Setuid) => 3,
        (_, 0) => 2,
        (_, 1..=3) => 7,
        (_, _) => WIDE,
    };
    let is_apart = !standing.host.is_root || standing.service.sandbox.private_users;
    let open = if is_apart { open.min(3) } else { open };
    let first = held.iter().find(|capability| !MODEST.contains(*capability));
    let note = match (held.len(), first) {
        (0, _) => "none".to_owned(),
        (all, _) if all == Capability::ALL.len() => "all".to_owned(),
        (count, Some(one)) => format!("{count}, {} among them", one.name()),
        (count, None) if held.contains(&Capability::DacOverride) => {
            format!("{count}, and file modes do not hold it")
        }
        (count, None) => format!("{count}, for its own files and processes"),
    };
    Finding::new(Check::Capabilities, open, note)
}

/// The capabilities that the program has, or could get.
pub(super) fn held(standing: &Standing<'_>) -> BTreeSet<Capability> {
    let sandbox = &*standing.service.sandbox;
    // Root has all that is not taken away. Who is not root needs a program with more rights than his own.
    let as_root = is_root(standing) || !standing.host.is_root;
    let bounding: BTreeSet<Capability> = match &sandbox.capabilities {
        None => Capability::ALL.iter().copied().collect(),
        Some(listed) => listed.clone(),
    };
    let mut held = sandbox.ambient_capabilities.clone();
    if as_root || !gains_nothing(standing) {
        held.extend(bounding);
    }
    let taken = [
        (sandbox.protect_kernel_modules, Capability::SysModule),
        (sandbox.protect_kernel_logs, Capability::Syslog),
        (sandbox.protect_clock, Capability::SysTime),
        (sandbox.protect_clock, Capability::WakeAlarm),
        (sandbox.private_devices, Capability::Mknod),
        (sandbox.private_devices, Capability::SysRawio),
    ];
    for (_, capability) in taken.into_iter().filter(|(is_on, _)| *is_on) {
        held.remove(&capability);
    }
    held
}

fn memberships(groups: &[String]) -> Finding {
    let mighty = groups.iter().find(|group| MIGHTY_GROUPS.contains(&group.as_str()));
    let (open, note) = match (mighty, groups) {
        (_, []) => (0, "none".to_owned()),
        (Some(group), _) => (WIDE, format!("{group} is as good as root")),
        (None, groups) => (3, groups.join(", ")),
    };
    Finding::new(Check::SupplementaryGroups, open, note)
}

/// What others may do counts more than what the group may, and writing more than reading.
fn mask(umask: u32) -> Finding {
    let open = [(0o002, 4), (0o004, 3), (0o020, 2), (0o040, 1)];
    let open = open.into_iter().filter(|(bit, _)| umask & bit == 0).map(|(_, open)| open).sum();
    Finding::new(Check::Umask, open, format!("{umask:03o}"))
}

fn system(protect: ProtectSystem) -> Finding {
    let (open, note) = match protect {
        ProtectSystem::No => (WIDE, "all can be written that file modes let it"),
        ProtectSystem::Yes => (6, "/usr and the boot loader are read-only"),
        ProtectSystem::Full => (4, "/usr, the boot loader and /etc are read-only"),
        ProtectSystem::Strict => (0, "read-only but for its own"),
    };
    Finding::new(Check::ProtectSystem, open, note)
}

fn home(protect: ProtectHome) -> Finding {
    let (open, note) = match protect {
        ProtectHome::No => (WIDE, "open as far as file modes go"),
        ProtectHome::ReadOnly => (7, "read-only"),
        ProtectHome::Hidden => (0, "look empty"),
    };
    Finding::new(Check::ProtectHome, open, note)
}

/// A rule that names another service's folder opens it again.
fn services(standing: &Standing<'_>) -> Finding {
    let (open, note) = match (standing.service.sandbox.protect_services, opened(standing).first()) {
        (false, _) => (WIDE, "off".to_owned()),
        (true, None) => (0, "on".to_owned()),
        (true, Some(folder)) => (3, format!("on, but for {}", folder.display())),
    };
    Finding::new(Check::ProtectServices, open, note)
}

/// Folders of other services that are closed to this one, unless rules open them.
pub(super) fn closed(standing: &Standing<'_>) -> BTreeSet<PathBuf> {
    let Standing { plan, service, .. } = standing;
    if !service.sandbox.protect_services {
        return BTreeSet::new();
    }
    let own = &service.path;
    let others = plan.services.values().map(|other| &other.path);
    let apart = others.filter(|folder| {
        !own.starts_with(folder) && !folder.starts_with(own) && !plan.root.starts_with(folder)
    });
    apart.filter(|folder| !is_named(&service.sandbox.paths, folder)).cloned().collect()
}

fn opened(standing: &Standing<'_>) -> Vec<PathBuf> {
    let without_rules = |sandbox: &Sandbox| Sandbox { paths: Vec::new(), ..sandbox.clone() };
    let all =
        Service { sandbox: without_rules(&standing.service.sandbox).into(), ..standing.service.clone() };
    let all = closed(&Standing { service: &all, ..*standing });
    all.difference(&closed(standing)).cloned().collect()
}

/// Whether a rule is about this folder, or something in it.
fn is_named(rules: &[PathRule], folder: &Path) -> bool {
    rules.iter().any(|rule| {
        let source = match &rule.access {
            PathAccess::Bind { source, .. } => source,
            PathAccess::ReadOnly
            | PathAccess::ReadWrite
            | PathAccess::Inaccessible
            | PathAccess::Temporary(_) => &rule.path,
            PathAccess::NoExec | PathAccess::Exec => return false,
        };
        source.starts_with(folder) || rule.path.starts_with(folder)
    })
}

/// The places that rules let it write in.
pub(super) fn writes(rules: &[PathRule]) -> impl Iterator<Item = &Path> {
    rules.iter().filter_map(|rule| match &rule.access {
        PathAccess::ReadWrite => Some(rule.path.as_path()),
        PathAccess::Bind { source, read_only: false } => Some(source.as_path()),
        PathAccess::ReadOnly
        | PathAccess::Inaccessible
        | PathAccess::Temporary(_)
        | PathAccess::NoExec
        | PathAccess::Exec
        | PathAccess::Bind { read_only: true, .. } => None,
    })
}

fn writable(rules: &[PathRule], plan: &Plan) -> Finding {
    let places: Vec<&Path> = writes(rules).collect();
    let is_hosts = |path: &&&Path| {
        let inside = HOST_PLACES.iter().any(|place| path.starts_with(place));
        (inside && !path.starts_with(&plan.root)) || **path == Path::new("/")
    };
    let (open, note) = match (places.iter().find(is_hosts), &places[..]) {
        (_, []) => (0, "no rule opens any".to_owned()),
        (Some(place), _) => (WIDE, place.display().to_string()),
        (None, places) => {
            let outside = places.iter().filter(|path| !path.starts_with(&plan.root)).count();
            let shown: Vec<String> = places.iter().take(3).map(|path| path.display().to_string()).collect();
            let more = if places.len() > shown.len() { ", …" } else { "" };
            (if outside > 0 { 4 } else { 1 }, format!("{}{more}", shown.join(", ")))
        }
    };
    Finding::new(Check::Paths, open, note)
}

/// Before it knows signals and abstract sockets, namespaces have to do it.
fn landlock(standing: &Standing<'_>) -> Finding {
    let Standing { service, host, .. } = standing;
    let in_namespaces = service.sandbox.private_pids && service.network == Network::Private;
    let (open, note) = match (service.sandbox.landlock, host.landlock_scopes || in_namespaces) {
        (false, _) => (WIDE, "off"),
        (true, true) => (0, "on"),
        (true, false) => (3, "on, but this kernel's lets signals and abstract sockets through"),
    };
    Finding::new(Check::Landlock, open, note)
}

/// In one of users a program is root, which opens the others.
fn namespaces(allowed: Option<&BTreeSet<Namespace>>) -> Finding {
    let (open, note) = match allowed {
        None => (WIDE, "all".to_owned()),
        Some(allowed) if allowed.is_empty() => (0, "none".to_owned()),
        Some(allowed) => {
            let names: Vec<&str> = allowed.iter().map(|kind| kind.name()).collect();
            (if allowed.contains(&Namespace::User) { 8 } else { 3 }, names.join(", "))
        }
    };
    Finding::new(Check::Namespaces, open, note)
}

/// A rule for all but what others name again is the whole wall.
fn executable(rules: &[PathRule]) -> Finding {
    let refused = || rules.iter().filter(|rule| rule.access == PathAccess::NoExec).map(|rule| &rule.path);
    let (open, note) = match (refused().any(|path| path == Path::new("/")), refused().next()) {
        (true, _) => (0, "where rules say".to_owned()),
        (false, Some(path)) => (5, format!("not in {}", path.display())),
        (false, None) => (WIDE, "everywhere".to_owned()),
    };
    Finding::new(Check::Executables, open, note)
}

fn families(allowed: Option<&BTreeSet<AddressFamily>>) -> Finding {
    let (open, note) = match allowed {
        None => (WIDE, "all".to_owned()),
        Some(allowed) => match allowed.iter().find(|family| !ORDINARY_FAMILIES.contains(family)) {
            Some(family) => (6, format!("{} among them", family.name())),
            None if allowed.is_empty() => (0, "none".to_owned()),
            None => (0, "none but of the Internet, local and netlink sockets".to_owned()),
        },
    };
    Finding::new(Check::AddressFamilies, open, note)
}

/// In a PID namespace of its own it finds nobody else there.
fn processes(sandbox: &Sandbox) -> Finding {
    let (open, note) = match (sandbox.protect_proc, sandbox.private_pids) {
        (_, true) => (0, "its own processes alone"),
        (ProtectProc::Default, false) => (WIDE, "all processes are seen"),
        (ProtectProc::Invisible, false) => (3, "those of its user are seen"),
        (ProtectProc::Ptraceable, false) => (0, "those that it may trace are seen"),
    };
    Finding::new(Check::ProtectProc, open, note)
}

/// How many calls of a group can be made.
fn calls(check: Check, sandbox: &Sandbox, group: &BTreeSet<&'static str>) -> Finding {
    let allowed = group.iter().filter(|call| is_allowed(sandbox, call)).count();
    let open = (allowed * usize::from(WIDE)).div_ceil(group.len().max(1));
    let note = match allowed {
        0 => "refused".to_owned(),
        all if all == group.len() => "allowed".to_owned(),
        some => format!("{some} of {} allowed", group.len()),
    };
    Finding::new(check, u8::try_from(open).unwrap_or(WIDE), note)
}

/// The strictest of list and switches holds.
pub(super) fn is_allowed(sandbox: &Sandbox, call: &str) -> bool {
    let listed = sandbox.system_calls.as_ref().map_or(Action::Allow, |filter| filter.action(call));
    let switches = [sandbox.protect_clock, sandbox.protect_kernel_modules, sandbox.private_devices];
    let refused =
        switches.into_iter().zip(BY_SWITCH.iter()).any(|(is_on, calls)| is_on && calls.contains(call));
    // It would make sockets and files that no filter sees.
    let hidden = sandbox.address_families.is_some() || sandbox.restrict_suid_sgid;
    listed == Action::Allow && !refused && !(hidden && IO_URING.contains(&call))
}
