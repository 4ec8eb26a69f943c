//! What would lower the exposure: each switch that is not on is tried on the model, and what comes out is scored again.

use std::collections::BTreeSet;

use super::{
    Exposure,
    grants::{self, millis},
    runtime,
};
use crate::{
    plan::{CgroupLimits, Egress, EgressRule, Network, Plan, Rlimit, RlimitValue, Service},
    sandbox::{AddressFamily, Profile, ProtectHome, ProtectProc, ProtectSystem, Sandbox, User},
    syscalls::Filter,
};

/// A switch that would lower the exposure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where it is written, within the service: `sandbox.protect_home`.
    pub key: &'static str,
    /// The value, as JSON.
    pub value: String,
    /// The exposure with it.
    pub after: Exposure,
    /// What to know before.
    pub caution: &'static str,
    /// Why this program does not run with it, when that is known. Such a step is none to take.
    pub breaks: Option<String>,
}

/// What was seen of a service while it ran: numbers for what is to be chosen by need.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Seen {
    /// Where it connected to outside, and how that is written.
    pub destinations: Vec<(String, EgressRule)>,
    /// The most memory one of its workers had, in bytes.
    pub memory_peak: Option<u64>,
}

/// What a worker may have where nothing is known of it, in bytes: 512 MiB.
const MEMORY: u64 = 512 << 20;
/// No less is proposed, however little was seen to be used.
const MEMORY_MIN: u64 = 64 << 20;
/// How much more than was seen: a worker at its busiest may not have been seen.
const MEMORY_ROOM: u64 = 2;
const PIDS: u32 = 256;
const CPU_MILLIS: u32 = 1000;
const NOFILE: u64 = 4096;

/// Kinds of sockets that services need.
const FAMILIES: [AddressFamily; 4] =
    [AddressFamily::Unix, AddressFamily::Inet, AddressFamily::Inet6, AddressFamily::Netlink];

/// A value that could be written.
struct Candidate {
    key: &'static str,
    value: String,
    caution: &'static str,
    after: Service,
}

/// Every step, the best first; those that would break the program are last. `score` gives the exposure of a service that is
/// configured like this.
pub fn steps(plan: &Plan, service: &Service, seen: &Seen, score: impl Fn(&Service) -> Exposure) -> Vec<Step> {
    let before = score(service);
    let mut steps: Vec<Step> = candidates(plan, service, seen)
        .into_iter()
        .map(|candidate| Step {
            key: candidate.key,
            value: candidate.value,
            after: score(&candidate.after),
            caution: candidate.caution,
            breaks: runtime::breaks(plan, service, candidate.key),
        })
        .filter(|step| step.after < before)
        .collect();
    steps.sort_by_key(|step| (step.breaks.is_some(), step.after));
    steps
}

/// A service with another profile, and what follows from that.
pub fn with_profile(service: &Service, profile: Profile) -> Service {
    let mut after = Service { sandbox: Sandbox::of(profile).into(), ..service.clone() };
    if profile == Profile::Strict && after.network == Network::Private {
        after.egress.allow.get_or_insert_default();
    }
    after
}

impl Step {
    /// The line to write, with the name of the service: `services.api.sandbox.protect_home: hidden`.
    pub fn line(&self, service: &str) -> String {
        let text = self.value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        // Digits alone would be a number in YAML, and in another base.
        let is_word = |text: &&str| {
            text.ends_with(|c: char| c.is_ascii_alphabetic()) && !text.contains([' ', ':', '"'])
        };
        let plain = text.filter(is_word);
        format!("services.{service}.{}: {}", self.key, plain.unwrap_or(&self.value))
    }
}

fn candidates(plan: &Plan, service: &Service, seen: &Seen) -> Vec<Candidate> {
    let mut candidates = of_sandbox(plan, service);
    candidates.extend(of_network(service, seen));
    candidates.extend(of_limits(plan, service, seen));
    candidates
}

/// Every switch of the sandbox that is not all on.
fn of_sandbox(plan: &Plan, service: &Service) -> Vec<Candidate> {
    // One by one, so that a new switch asks for its place here.
    let Sandbox {
        profile,
        required,
        no_new_privileges,
        private_tmp,
        private_devices,
        protect_system,
        protect_home,
        protect_services,
        protect_kernel_tunables,
        protect_kernel_modules,
        protect_kernel_logs,
        protect_control_groups,
        protect_clock,
        protect_hostname,
        protect_proc,
        private_pids,
        private_ipc,
        private_cgroup,
        private_users,
        private_keyring,
        // What rules and groups open, somebody wrote down on purpose.
        paths: _,
        user,
        supplementary_groups: _,
        capabilities,
        ambient_capabilities,
        umask,
        personality: _,
        system_calls,
        address_families,
        restrict_namespaces,
        restrict_realtime,
        restrict_suid_sgid,
        memory_deny_write_execute,
        lock_personality,
        landlock,
    } = &*service.sandbox;
    let with = |is_useful: bool, key, value: &str, caution, change: &dyn Fn(&mut Sandbox)| {
        is_useful.then(|| {
            let mut sandbox = Sandbox::clone(&service.sandbox);
            change(&mut sandbox);
            let after = Service { sandbox: sandbox.into(), ..service.clone() };
            Candidate { key, value: value.to_owned(), caution, after }
        })
    };
    let on = |is_on: &bool, key, caution, change: &dyn Fn(&mut Sandbox)| {
        with(!*is_on, key, "true", caution, change)
    };
    // A list of their own is not replaced.
    let standard = Some(Filter::standard());
    let calls = system_calls.is_none() || *system_calls == standard;
    let calls_all =
        runtime::breaks(plan, service, "sandbox.system_calls").is_some() && system_calls.is_none();
    let (calls_word, calls_after) = match calls_all {
        true => (r#""standard""#, standard),
        false => (r#""strict""#, Some(Filter::strict())),
    };
    let all = [
        with(
            *profile == Profile::Off && is_profile(&service.sandbox),
            "sandbox",
            r#""standard""#,
            "what needs more than `standard` has is in docs/sandbox.md",
            &|s| *s = Sandbox::of(Profile::Standard),
        ),
        with(
            *user == User::Same,
            "sandbox.dynamic_user",
            "true",
            "files that it reads have to be readable by others, and what it writes goes to $STATE_DIRECTORY",
            &|s| s.user = User::Dynamic,
        ),
        on(no_new_privileges, "sandbox.no_new_privileges", "sudo and the like do not work in it", &|s| {
            s.no_new_privileges = true;
        }),
        with(
            ambient_capabilities.is_empty() && capabilities.as_ref().is_none_or(|listed| !listed.is_empty()),
            "sandbox.capabilities",
            r#""none""#,
            "root's programs that change their user or give files away do not run any more",
            &|s| s.capabilities = Some(BTreeSet::new()),
        ),
        with(
            umask & 0o077 != 0o077,
            "sandbox.umask",
            r#""077""#,
            "other users cannot read the files it makes",
            &|s| s.umask |= 0o077,
        ),
        with(
            *protect_system != ProtectSystem::Strict,
            "sandbox.protect_system",
            r#""strict""#,
            "what it writes goes to $STATE_DIRECTORY, or needs `read_write_paths`",
            &|s| s.protect_system = ProtectSystem::Strict,
        ),
        with(
            *protect_home != ProtectHome::Hidden,
            "sandbox.protect_home",
            r#""hidden""#,
            "programs and files in a home are not there any more, but for the application's own folder",
            &|s| s.protect_home = ProtectHome::Hidden,
        ),
        on(
            protect_services,
            "sandbox.protect_services",
            "files that services share need `read_only_paths`",
            &|s| {
                s.protect_services = true;
            },
        ),
        on(private_tmp, "sandbox.private_tmp", "/tmp is its own, and empty at each start", &|s| {
            s.private_tmp = true
        }),
        on(
            private_devices,
            "sandbox.private_devices",
            "graphics cards, KVM and FUSE need `bind_paths`",
            &|s| {
                s.private_devices = true;
            },
        ),
        on(landlock, "sandbox.landlock", "", &|s| s.landlock = true),
        on(
            protect_kernel_tunables,
            "sandbox.protect_kernel_tunables",
            "/proc/sys and /sys are read-only",
            &|s| {
                s.protect_kernel_tunables = true;
            },
        ),
        on(protect_kernel_modules, "sandbox.protect_kernel_modules", "", &|s| {
            s.protect_kernel_modules = true
        }),
        on(protect_kernel_logs, "sandbox.protect_kernel_logs", "", &|s| s.protect_kernel_logs = true),
        on(protect_control_groups, "sandbox.protect_control_groups", "", &|s| {
            s.protect_control_groups = true
        }),
        on(protect_clock, "sandbox.protect_clock", "", &|s| s.protect_clock = true),
        on(protect_hostname, "sandbox.protect_hostname", "", &|s| s.protect_hostname = true),
        with(
            restrict_namespaces.is_none(),
            "sandbox.restrict_namespaces",
            "true",
            "browsers make namespaces for their own sandbox",
            &|s| s.restrict_namespaces = Some(BTreeSet::new()),
        ),
        with(
            address_families.is_none(),
            "sandbox.address_families",
            r#"["AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"]"#,
            "packet, Bluetooth and other special sockets cannot be made",
            &|s| s.address_families = Some(FAMILIES.into()),
        ),
        on(restrict_realtime, "sandbox.restrict_realtime", "", &|s| s.restrict_realtime = true),
        on(restrict_suid_sgid, "sandbox.restrict_suid_sgid", "`chmod g+s` fails", &|s| {
            s.restrict_suid_sgid = true
        }),
        on(
            memory_deny_write_execute,
            "sandbox.memory_deny_write_execute",
            "whatever compiles while it runs does not work: Node.js, Java, .NET, LuaJIT, PCRE's JIT",
            &|s| s.memory_deny_write_execute = true,
        ),
        on(lock_personality, "sandbox.lock_personality", "", &|s| s.lock_personality = true),
        with(
            calls,
            "sandbox.system_calls",
            calls_word,
            "a call that is refused fails with EPERM, and the program says so",
            &|s| s.system_calls.clone_from(&calls_after),
        ),
        on(private_pids, "sandbox.private_pids", "it sees its own processes alone", &|s| {
            s.private_pids = true
        }),
        with(
            *protect_proc != ProtectProc::Ptraceable,
            "sandbox.protect_proc",
            r#""ptraceable""#,
            "tools that show all processes show fewer",
            &|s| s.protect_proc = ProtectProc::Ptraceable,
        ),
        on(private_ipc, "sandbox.private_ipc", "System V shared memory is its own", &|s| {
            s.private_ipc = true
        }),
        on(private_cgroup, "sandbox.private_cgroup", "", &|s| s.private_cgroup = true),
        on(
            private_users,
            "sandbox.private_users",
            "all users but its own look like nobody, and it can become none of them",
            &|s| {
                s.private_users = true;
            },
        ),
        on(private_keyring, "sandbox.private_keyring", "", &|s| s.private_keyring = true),
        on(
            required,
            "sandbox.required",
            "it does not start where the host cannot do all of its sandbox",
            &|s| {
                s.required = true;
            },
        ),
    ];
    all.into_iter().flatten().collect()
}

/// Whether a sandbox is what its profile says. One that was put together switch by switch is not replaced.
fn is_profile(sandbox: &Sandbox) -> bool {
    let Sandbox { required, profile, .. } = sandbox;
    *sandbox == Sandbox { required: *required, ..Sandbox::of(*profile) }
}

fn of_network(service: &Service, seen: &Seen) -> Vec<Candidate> {
    let Service { network, egress: Egress { allow, host_ports }, .. } = service;
    if *network == Network::Host {
        let after = Service { network: Network::Private, ..service.clone() };
        let caution =
            "UDP to the outside and servers on the host's localhost need `network: host` or `host_ports`";
        return vec![Candidate { key: "network", value: r#""private""#.to_owned(), caution, after }];
    }
    // A list that somebody wrote is not replaced, unless it lets everything through.
    let lets_all = |rules: &Vec<EgressRule>| rules.iter().any(|rule| grants::width(rule) >= 8);
    if !allow.as_ref().is_none_or(lets_all) {
        return Vec::new();
    }
    let (words, rules): (Vec<&str>, Vec<EgressRule>) =
        seen.destinations.iter().map(|(word, rule)| (word.as_str(), rule.clone())).unzip();
    // What was seen has the characters of names, addresses and ports alone.
    let words: Vec<String> = words.into_iter().map(|word| format!("\"{word}\"")).collect();
    let caution = match words.is_empty() {
        true => "add what it has to reach outside; a refusal is an event with the line that would allow it",
        false => "these are the destinations it reached so far",
    };
    let egress = Egress { allow: Some(rules), host_ports: host_ports.clone() };
    let after = Service { egress, ..service.clone() };
    vec![Candidate { key: "egress.allow", value: format!("[{}]", words.join(", ")), caution, after }]
}

fn of_limits(plan: &Plan, service: &Service, seen: &Seen) -> Vec<Candidate> {
    let (limits, total, all) = (&service.limits.cgroup, &service.limits_total, &plan.limits);
    let ceilings = |of: fn(&CgroupLimits) -> Option<u64>| {
        [of(total), of(all)].into_iter().flatten().min().unwrap_or(u64::MAX)
    };
    let with = |key, value: String, caution, change: &dyn Fn(&mut Service)| {
        let mut after = service.clone();
        change(&mut after);
        Candidate { key, value, caution, after }
    };
    let mut candidates = Vec::new();
    let peak = seen.memory_peak.map(|peak| peak.saturating_mul(MEMORY_ROOM).max(MEMORY_MIN));
    let lowest =
        [limits.memory_high, limits.memory_low, limits.memory_min].into_iter().flatten().max().unwrap_or(0);
    // Powers of two, as people write them.
    let wanted = peak.unwrap_or(MEMORY).max(lowest).checked_next_power_of_two().unwrap_or(u64::MAX);
    let memory = wanted.min(ceilings(|limits| limits.memory));
    if limits.memory.is_none() && memory >= lowest && memory < u64::MAX {
        let caution = match seen.memory_peak {
            Some(_) => "twice the most that a worker has had so far",
            None => "as much as it needs at its busiest: `wattctl limits` shows the peak",
        };
        let value = format!("\"{}\"", grants::bytes(memory));
        candidates.push(with("limits.memory", value, caution, &|s| s.limits.cgroup.memory = Some(memory)));
    }
    let at_most = |wanted: u32, ceiling: u64| wanted.min(u32::try_from(ceiling).unwrap_or(u32::MAX));
    if limits.pids.is_none() {
        let pids = at_most(PIDS, ceilings(|limits| limits.pids.map(u64::from)));
        let caution = "threads count too: `wattctl limits` shows how many there are";
        candidates
            .push(with("limits.pids", pids.to_string(), caution, &|s| s.limits.cgroup.pids = Some(pids)));
    }
    if limits.cpu_millis.is_none() {
        let cpu = at_most(CPU_MILLIS, ceilings(|limits| limits.cpu_millis.map(u64::from)));
        let caution = "as many CPUs as it needs at its busiest";
        candidates
            .push(with("limits.cpu", millis(cpu), caution, &|s| s.limits.cgroup.cpu_millis = Some(cpu)));
    }
    let bound = |value| RlimitValue { soft: value, hard: value };
    if !service.limits.rlimits.contains_key(&Rlimit::Nofile) {
        candidates.push(with("limits.nofile", NOFILE.to_string(), "each connection is a file", &|s| {
            s.limits.rlimits.insert(Rlimit::Nofile, bound(NOFILE));
        }));
    }
    if !service.limits.rlimits.contains_key(&Rlimit::Core) {
        candidates.push(with("limits.core", "0".to_owned(), "a crash leaves nothing to look at", &|s| {
            s.limits.rlimits.insert(Rlimit::Core, bound(0));
        }));
    }
    candidates
}
