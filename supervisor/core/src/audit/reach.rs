//! What a broken or hostile service can do here, in words: what it reaches, what is in its way, and how much it can take.
//!
//! Made of the configuration as it is in force, as the checks are. Words of the configuration (paths, names) are in it as they
//! are written there.

use std::path::{Path, PathBuf};

use super::{
    Standing,
    grants::{self, callable, millis},
    look_like_secrets, walls,
};
use crate::{
    plan::{Destination, EgressRule, Network, Rlimit, RlimitValue, Role},
    sandbox::{Capability, ProtectHome, ProtectProc, ProtectSystem, Sandbox, User},
    syscalls::groups,
};

/// Facts of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// `can`, `cannot` or `at most`.
    pub title: &'static str,
    /// Each with what it is about.
    pub facts: Vec<Fact>,
}

/// What it is about, and how that is.
pub type Fact = (&'static str, String);

/// How many names of a list are written out.
const SHOWN_MAX: usize = 12;

/// The three sections. `state` is the service's own folder, as it is told.
pub fn reach(standing: &Standing<'_>, state: &str) -> [Section; 3] {
    [
        Section { title: "can", facts: can(standing, state) },
        Section { title: "cannot", facts: cannot(standing) },
        Section { title: "at most", facts: at_most(standing) },
    ]
}

/// What it reaches.
fn can(standing: &Standing<'_>, state: &str) -> Vec<Fact> {
    let Standing { plan, service, .. } = standing;
    let mut facts = vec![
        ("be", identity(standing)),
        ("read", readable(standing)),
        ("write", writable(standing, state)),
        (
            "call",
            match (callable(standing), plan.services.len()) {
                (_, 1) => "there is no other service".to_owned(),
                (services, all) if services.len() + 1 == all && plan.policies.is_empty() => {
                    format!("every other service, as there are no policies: {}", some(services))
                }
                (services, _) if services.is_empty() => "no other service".to_owned(),
                (services, _) => some(services),
            },
        ),
        ("reach outside", outside(standing)),
        (
            "reach on the host",
            match service.network {
                Network::Host => {
                    "every port of localhost, and abstract sockets, as the host's own programs".to_owned()
                }
                Network::Private if service.egress.host_ports.is_empty() => "no port of localhost".to_owned(),
                Network::Private => {
                    format!("localhost's {}", some(&service.egress.host_ports))
                }
            },
        ),
        ("know", secrets(standing)),
        (
            "ask of watt",
            match service.management {
                None => "nothing".to_owned(),
                Some(Role::View) => "status, events and logs of all services".to_owned(),
                Some(Role::Operate) => "to start, stop and restart services, and what they log".to_owned(),
                Some(Role::Admin) => {
                    "everything: to run any program as watt's user, without walls, too".to_owned()
                }
            },
        ),
    ];
    if !service.sandbox.supplementary_groups.is_empty() {
        facts.insert(1, ("be a member of", some(&service.sandbox.supplementary_groups)));
    }
    facts
}

fn identity(standing: &Standing<'_>) -> String {
    let who = match &standing.service.sandbox.user {
        _ if walls::is_root(standing) => "root".to_owned(),
        User::Same => {
            "the user who started watt, as whom all services and that user's programs run".to_owned()
        }
        User::Named { user, .. } => format!("user {user}"),
        User::Dynamic => "a user that nobody else is".to_owned(),
    };
    let held = walls::held(standing);
    let rights = match held.len() {
        _ if !standing.host.is_root => "without rights on the host".to_owned(),
        0 => "without any of root's rights".to_owned(),
        all if all == Capability::ALL.len() => "with all of root's rights".to_owned(),
        _ => {
            let names = held.iter().map(|one| one.name().trim_start_matches("CAP_").to_ascii_lowercase());
            format!("with {}", some(names))
        }
    };
    format!("{who}, {rights}")
}

fn readable(standing: &Standing<'_>) -> String {
    let sandbox = &*standing.service.sandbox;
    let mut but: Vec<String> = Vec::new();
    if sandbox.protect_home == ProtectHome::Hidden {
        but.push("homes".to_owned());
    }
    if sandbox.private_tmp {
        but.push("others' /tmp".to_owned());
    }
    if sandbox.private_devices {
        but.push("devices".to_owned());
    }
    if sandbox.protect_services {
        but.push("sources of secrets".to_owned());
        but.extend(walls::closed(standing).iter().map(|folder| folder.display().to_string()));
    }
    let who = match walls::is_root(standing) {
        // It needs a capability to pass over file modes.
        true if walls::held(standing).contains(&Capability::DacOverride) => "every file",
        true => "what root owns or everybody may read",
        false => "what file modes let its user read",
    };
    match but.is_empty() {
        true => who.to_owned(),
        false => format!("{who}, but not {}", some(but)),
    }
}

fn writable(standing: &Standing<'_>, state: &str) -> String {
    let Standing { plan, service, .. } = standing;
    let sandbox = &*service.sandbox;
    let mut places = vec![state.to_owned()];
    if sandbox.private_tmp {
        places.push("/tmp of its own".to_owned());
    }
    places.extend(walls::writes(&sandbox.paths).map(|path| path.display().to_string()));
    if sandbox.protect_system == ProtectSystem::Strict {
        return some(places);
    }
    let who = if walls::is_root(standing) { "root" } else { "its user" };
    let but = match sandbox.protect_system {
        ProtectSystem::No | ProtectSystem::Strict => "",
        ProtectSystem::Yes => ", but not /usr and /boot",
        ProtectSystem::Full => ", but not /usr, /boot and /etc",
    };
    let root = plan.root.display();
    format!("{}; and wherever file modes let {who} write{but}, such as {root}", some(places))
}

fn outside(standing: &Standing<'_>) -> String {
    let service = standing.service;
    match (service.network, &service.egress.allow) {
        (Network::Host, _) => "everything, by every protocol".to_owned(),
        (Network::Private, None) => "everything by TCP, the networks the host is in among it".to_owned(),
        (Network::Private, Some(rules)) if rules.is_empty() => "nothing".to_owned(),
        (Network::Private, Some(rules)) => format!("by TCP: {}", some(rules.iter().map(rule))),
    }
}

/// A destination as the configuration writes it.
fn rule(rule: &EgressRule) -> String {
    let to = match &rule.to {
        Destination::Anywhere => "*".to_owned(),
        Destination::Name(name) => name.clone(),
        Destination::Network(address, bits) => {
            match (address.is_ipv6(), if address.is_ipv6() { 128 } else { 32 }) {
                (true, whole) if *bits == whole => format!("[{address}]"),
                (true, _) => format!("[{address}]/{bits}"),
                (false, whole) if *bits == whole => address.to_string(),
                (false, _) => format!("{address}/{bits}"),
            }
        }
    };
    rule.port.map_or_else(|| to.clone(), |port| format!("{to}:{port}"))
}

fn secrets(standing: &Standing<'_>) -> String {
    let service = standing.service;
    let suspects = look_like_secrets(&service.env, &service.unset_env);
    let mut words: Vec<String> = service.secrets.values().cloned().collect();
    words.extend(suspects.into_iter().map(|name| format!("${name}")));
    match words.is_empty() {
        true => "no secret that watt knows of".to_owned(),
        false => format!("the secrets {}", some(words)),
    }
}

/// What is in its way.
fn cannot(standing: &Standing<'_>) -> Vec<Fact> {
    let Standing { service, .. } = standing;
    let sandbox = &*service.sandbox;
    let mut facts = Vec::new();
    if walls::gains_nothing(standing) {
        facts.push(("gain rights", "no program that it starts has more than it has".to_owned()));
    }
    if let Some(fact) = processes(sandbox) {
        facts.push(("touch processes", fact));
    }
    if sandbox.private_ipc || sandbox.private_tmp || sandbox.private_keyring {
        let what = [
            (sandbox.private_tmp, "/tmp and /dev/shm"),
            (sandbox.private_ipc, "shared memory and message queues"),
            (sandbox.private_keyring, "keys"),
        ];
        facts.push((
            "share with others",
            some(what.into_iter().filter(|(is_own, _)| *is_own).map(|(_, what)| what)),
        ));
    }
    let kernel = kernel(sandbox);
    if !kernel.is_empty() {
        facts.push(("change the kernel", some(kernel)));
    }
    let all = groups::members(groups::KNOWN).unwrap_or_default();
    let refused = all.iter().filter(|call| !walls::is_allowed(sandbox, call)).count();
    if refused > 0 {
        facts.push(("call", format!("{refused} of {} system calls", all.len())));
    }
    if let Some(families) = &sandbox.address_families {
        let names = families.iter().map(|family| family.name());
        facts.push(("make sockets", format!("other than {}", some(names))));
    }
    if service.network == Network::Private {
        facts.push(("pose as another", "its network is its own, by which it is known".to_owned()));
    }
    facts
}

fn processes(sandbox: &Sandbox) -> Option<String> {
    let hidden = matches!(sandbox.protect_proc, ProtectProc::Invisible | ProtectProc::Ptraceable);
    match (sandbox.private_pids, sandbox.landlock, hidden) {
        (true, ..) => Some("it finds none but its own".to_owned()),
        (false, true, true) => Some("others are hidden, and closed to tracing".to_owned()),
        (false, true, false) => Some("others are seen, and closed to tracing".to_owned()),
        (false, false, true) => Some("others are hidden".to_owned()),
        (false, false, false) => None,
    }
}

fn kernel(sandbox: &Sandbox) -> Vec<&'static str> {
    let what = [
        (sandbox.protect_kernel_tunables, "settings"),
        (sandbox.protect_kernel_modules, "modules"),
        (sandbox.protect_kernel_logs, "log"),
        (sandbox.protect_control_groups, "cgroups"),
        (sandbox.protect_clock, "clock"),
        (sandbox.protect_hostname, "host name"),
        (sandbox.restrict_namespaces.is_some(), "namespaces"),
    ];
    what.into_iter().filter(|(is_on, _)| *is_on).map(|(_, what)| what).collect()
}

/// How much it can take.
fn at_most(standing: &Standing<'_>) -> Vec<Fact> {
    let Standing { plan, service, .. } = standing;
    let (each, total, all) = (&service.limits.cgroup, &service.limits_total, &plan.limits);
    let workers = service.workers.most().get();
    let level = |amounts: [Option<String>; 3]| match amounts {
        [Some(each), ..] if workers > 1 => format!("{each} for each of {workers} workers"),
        [Some(each), ..] => each,
        [None, Some(total), _] => format!("{total} for all its workers"),
        [None, None, Some(all)] => format!("{all}, with all other services"),
        [None, None, None] => "no limit".to_owned(),
    };
    let levels = [each, total, all];
    let rlimit = |resource| match service.limits.rlimits.get(&resource) {
        None => "as watt itself has it".to_owned(),
        Some(RlimitValue { hard: u64::MAX, .. }) => "no limit".to_owned(),
        Some(RlimitValue { hard, .. }) => hard.to_string(),
    };
    vec![
        ("memory", level(levels.map(|limits| limits.memory.map(grants::bytes)))),
        ("CPUs", level(levels.map(|limits| limits.cpu_millis.map(millis)))),
        ("processes", level(levels.map(|limits| limits.pids.map(|pids| pids.to_string())))),
        ("open files", rlimit(Rlimit::Nofile)),
        (
            "disk bandwidth",
            match levels.iter().find(|limits| !limits.io.is_empty()) {
                None => "no limit".to_owned(),
                Some(limits) => {
                    format!("limited on {}", some(limits.io.keys().map(|path: &PathBuf| Path::display(path))))
                }
            },
        ),
    ]
}

/// Names with commas between them, not more than a screen has room for.
fn some<T: std::fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    let mut names = names.into_iter();
    let mut shown: Vec<String> = names.by_ref().take(SHOWN_MAX).map(|name| name.to_string()).collect();
    match names.count() {
        0 => {}
        more => shown.push(format!("and {more} more")),
    }
    shown.join(", ")
}
