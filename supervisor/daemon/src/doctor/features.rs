//! The conclusions: each feature with its state, how it works or why it does not, and what would turn it on.

use std::io;

use watt_api::control::{Feature, FeatureState};
use watt_exec::plan::{Failure, Probe};
use watt_os::cgroup::{LimitName, Mode};

use super::{
    cgroups::NOT_COUNTED,
    facts::{Facts, NamespaceSwitches},
    topic::{Finding, Topic},
    walls,
};
use crate::host_probe;

/// close_range(2) with CLOSE_RANGE_CLOEXEC, which every start of a process needs; pidfd_open(2), clone3(2) and
/// CLONE_INTO_CGROUP are older.
const KERNEL_MIN: (u32, u32) = (5, 11);
/// `cgroup.kill`.
const KERNEL_GOOD: (u32, u32) = (5, 14);
/// Descriptors for a thousand workers: the spawner holds some six for each, the proxy its connections.
const NOFILE_GOOD: u64 = 65_536;
/// What a small application needs.
const NOFILE_MIN: u64 = 1_024;
/// Where a worker on the host's network looks for the mesh.
const MESH_PORT: u16 = 80;

/// All conclusions.
pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![kernel(&facts.kernel), pidfd(&facts.pidfd), open_files(facts), runtime(facts)];
    findings.push(cgroups(facts));
    findings.extend(limits(facts));
    findings.extend([pressure(facts), whole_worker(facts)]);
    findings.extend(namespaces(facts));
    findings.extend([port_80(facts), dns(facts)]);
    findings
}

pub(super) fn on(topic: Topic, detail: impl Into<String>) -> Finding {
    let feature =
        Feature { name: topic.name().into(), state: FeatureState::On, detail: detail.into(), fix: None };
    Finding { topic, feature }
}

pub(super) fn degraded(topic: Topic, detail: impl Into<String>, fix: Option<&str>) -> Finding {
    let Finding { topic, feature } = on(topic, detail);
    Finding { topic, feature: Feature { state: FeatureState::Degraded, fix: fix.map(Into::into), ..feature } }
}

pub(super) fn off(topic: Topic, detail: impl Into<String>, fix: Option<&str>) -> Finding {
    let Finding { topic, feature } = on(topic, detail);
    Finding { topic, feature: Feature { state: FeatureState::Off, fix: fix.map(Into::into), ..feature } }
}

pub(super) fn kernel(text: &str) -> Finding {
    let topic = Topic::Kernel;
    let (major, minor) = KERNEL_MIN;
    match version(text) {
        Some(version) if version >= KERNEL_GOOD => {
            on(topic, format!("{text} ({major}.{minor} or newer is needed)"))
        }
        Some(version) if version >= KERNEL_MIN => {
            degraded(topic, format!("{text}: workers are killed process by process before 5.14"), None)
        }
        Some(_) => off(
            topic,
            format!("{text}: Linux {major}.{minor} or newer is needed"),
            Some("install a newer kernel"),
        ),
        None => degraded(topic, format!("{text:?} is no version that is understood"), None),
    }
}

/// `6.1.0-18-amd64` is (6, 1).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

pub(super) fn pidfd(works: &Result<(), String>) -> Finding {
    let topic = Topic::ProcessDescriptors;
    match works {
        Ok(()) => on(topic, "pidfd_open works"),
        Err(error) => off(
            topic,
            format!("pidfd_open: {error}"),
            Some("let the container's seccomp profile allow pidfd_open"),
        ),
    }
}

fn open_files(facts: &Facts) -> Finding {
    let topic = Topic::OpenFiles;
    let (soft, hard) = facts.nofile;
    let detail = match hard {
        u64::MAX => format!("{soft}, raised without limit for watt's own processes"),
        _ => format!("{soft}, raised to {hard} for watt's own processes"),
    };
    let fix = Some("set LimitNOFILE=1048576 in the unit, or nofile in /etc/security/limits.conf");
    match hard {
        NOFILE_GOOD.. => on(topic, detail),
        NOFILE_MIN.. => degraded(topic, format!("{detail}: enough for some {} workers", hard / 8), fix),
        _ => off(topic, detail, fix),
    }
}

fn runtime(facts: &Facts) -> Finding {
    let topic = Topic::RuntimeFolder;
    let (path, writable) = &facts.runtime;
    match writable {
        true => on(topic, path.display().to_string()),
        false => off(
            topic,
            format!("cannot be made: {}", path.display()),
            Some("set WATT_RUNTIME_DIR to a folder of your own"),
        ),
    }
}

fn delegate(facts: &Facts) -> Option<&'static str> {
    match facts.uid {
        0 => Some("mount cgroup2 at /sys/fs/cgroup; in a container, give it a writable cgroup namespace"),
        _ if facts.user_manager => Some("systemd-run --user --scope -p Delegate=yes wattctl up"),
        _ => Some("start it as a systemd unit with User= and Delegate=yes"),
    }
}

fn cgroups(facts: &Facts) -> Finding {
    let topic = Topic::Cgroups;
    let mode = facts.cgroups.mode;
    match &facts.cgroups.refused {
        None => on(topic, mode.to_string()),
        Some(reason) => {
            let what = if counts_processes(facts) { "memory and CPU" } else { "memory, CPU and processes" };
            let detail = format!("no limits of {what} ({reason})");
            off(topic, detail, delegate(facts))
        }
    }
}

fn limits(facts: &Facts) -> impl Iterator<Item = Finding> {
    // What belongs to the limit of memory is told with it.
    let told = |limit: &LimitName| !matches!(limit, LimitName::Swap | LimitName::OomGroup);
    LimitName::ALL.into_iter().filter(told).map(|limit| {
        let topic = Topic::Limit(limit);
        match (&facts.cgroups.refused, facts.cgroups.missing.get(&limit)) {
            (Some(_), _) | (_, Some(_)) if limit == LimitName::Pids && counts_processes(facts) => degraded(
                topic,
                "pids by RLIMIT_NPROC: of each worker, not of `limits_total`",
                delegate(facts),
            ),
            (Some(_), _) => off(topic, "needs cgroups", delegate(facts)),
            (None, None) => on(topic, "enforced for each worker"),
            (None, Some(reason)) => {
                let fix = match facts.cgroups.mode {
                    // systemd chooses it at boot.
                    Mode::Hybrid | Mode::Legacy => Some("boot with systemd.unified_cgroup_hierarchy=1"),
                    Mode::Unified | Mode::None => delegate(facts),
                };
                off(topic, reason.clone(), fix)
            }
        }
    })
}

fn counts_processes(facts: &Facts) -> bool {
    let Ok(probe) = &facts.probe else { return false };
    let user_namespace = facts.uid != 0 && probe.user_namespace.is_ok();
    host_probe::counts_processes(user_namespace, probe.mount_namespace.is_ok(), &facts.kernel)
}

/// Whether it can be told that workers stall.
fn pressure(facts: &Facts) -> Finding {
    let topic = Topic::Pressure;
    match (&facts.cgroups.refused, &facts.cgroups.no_pressure) {
        (Some(_), _) => off(topic, "needs cgroups", delegate(facts)),
        (None, None) => on(topic, "it is told when a worker stalls for want of memory, CPU time or a disk"),
        (None, Some(reason)) => {
            let fix =
                if reason == NOT_COUNTED { "boot with psi=1" } else { "mount cgroup2 at /sys/fs/cgroup" };
            off(topic, reason.clone(), Some(fix))
        }
    }
}

/// How everything a worker started is found and ended.
fn whole_worker(facts: &Facts) -> Finding {
    let topic = Topic::WholeWorkers;
    let usable = facts.cgroups.refused.is_none();
    match facts.cgroups.mode {
        Mode::Unified | Mode::Hybrid if usable => on(topic, "by cgroup"),
        Mode::Legacy if usable => on(topic, "by the v1 freezer"),
        _ => degraded(topic, "by walking the process tree, as there are no cgroups", delegate(facts)),
    }
}

fn namespaces(facts: &Facts) -> Vec<Finding> {
    let probe = match &facts.probe {
        Ok(probe) => probe,
        Err(reason) => return vec![off(Topic::Isolation, reason.clone(), probe_fix(reason))],
    };
    let is_root = facts.uid == 0;
    let root =
        is_root.then_some("run it on the host, or in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN");
    let fix = root.or_else(|| namespace_fix(facts.namespace_switches));
    let mut features = Vec::new();
    if !is_root {
        let words = [
            "give an ordinary user the following",
            "services of an ordinary user share the host's network, and call the mesh by $WATT_MESH_SOCKET",
        ];
        features.push(tried(Topic::UserNamespaces, &probe.user_namespace, words, fix));
    }
    let network = [
        "a network namespace for each worker",
        "services share the host's network, where each needs a port of its own and `egress.allow` has no effect",
    ];
    let redirected = [
        "nftables leads every port of a service to the mesh",
        "without nftables, private services reach each other by name over HTTP on port 80 alone",
    ];
    let any_ip = [
        "connections to the outside are caught without nftables",
        "connections to the outside cannot be caught without nftables",
    ];
    let names = [
        "a mount namespace for each worker",
        "services share the host's network and /etc/hosts, and call the mesh by $WATT_MESH_SOCKET",
    ];
    // Modules are of no use without a network for them.
    let redirect_fix = if probe.network_namespace.is_ok() { Some(NFT_FIX) } else { fix };
    features.extend([
        tried(Topic::PrivateNetwork, &probe.network_namespace, network, fix),
        tried(Topic::Redirect, &redirect(probe), redirected, redirect_fix),
        tried(Topic::AnyIp, &probe.any_ip, any_ip, fix),
        tried(Topic::NamesInHosts, &probe.mount_namespace, names, fix),
    ]);
    features.push(match (is_root, &probe.change_user) {
        (true, result) => {
            let words =
                ["the mesh proxy and services may have users of their own", "everything runs as root"];
            tried(Topic::ChangeOfUser, result, words, root)
        }
        (false, _) => {
            let detail = "the mesh proxy and all services run as the user who starts them";
            degraded(Topic::ChangeOfUser, detail, Some("start it as root, best as a systemd unit"))
        }
    });
    features.extend(walls::findings(probe, fix));
    features
}

const NFT_FIX: &str = "modprobe nf_tables nft_redir nft_chain_nat";

/// Without a network there is nothing to redirect in: one reason is enough.
fn redirect(probe: &Probe) -> Result<(), Failure> {
    probe.network_namespace.clone().and_then(|()| probe.redirect.clone())
}

/// What it means when it works, and when it does not.
pub(super) fn tried(
    topic: Topic,
    result: &Result<(), Failure>,
    words: [&str; 2],
    fix: Option<&str>,
) -> Finding {
    match result {
        Ok(()) => on(topic, words[0]),
        Err(failure) => off(topic, format!("{} ({})", words[1], reason(failure)), fix),
    }
}

pub(super) fn reason(failure: &Failure) -> String {
    let Failure { step, object, errno } = failure;
    let error = io::Error::from_raw_os_error(*errno);
    match (object.as_str(), errno) {
        (_, 0) => step.clone(),
        ("", _) => format!("{step}: {error}"),
        // The step `network` makes a `network namespace`.
        (object, _) if object.starts_with(step.as_str()) => format!("{object}: {error}"),
        (object, _) => format!("{step} {object}: {error}"),
    }
}

fn probe_fix(reason: &str) -> Option<&'static str> {
    // Executing a memfd is what fails on a host that forbids it; the setting says so in its name.
    reason.contains("Permission denied").then_some("sysctl vm.memfd_noexec=0")
}

fn namespace_fix(switches: NamespaceSwitches) -> Option<&'static str> {
    let NamespaceSwitches { clone_off, apparmor, max_zero } = switches;
    match (clone_off, apparmor, max_zero) {
        (true, _, _) => Some("sysctl kernel.unprivileged_userns_clone=1"),
        (_, true, _) => Some("sysctl kernel.apparmor_restrict_unprivileged_userns=0"),
        (_, _, true) => Some("sysctl user.max_user_namespaces=15000"),
        (false, false, false) => None,
    }
}

fn port_80(facts: &Facts) -> Finding {
    let topic = Topic::HostNames;
    match facts.uid == 0 || facts.unprivileged_port_start <= MESH_PORT {
        true => on(topic, "services with network: host call each other by name on port 80"),
        false => degraded(
            topic,
            "services with network: host call each other by $WATT_MESH_SOCKET alone",
            Some("sysctl net.ipv4.ip_unprivileged_port_start=80"),
        ),
    }
}

fn dns(facts: &Facts) -> Finding {
    let topic = Topic::OutsideNames;
    let missing = &facts.missing_name_files;
    if !missing.is_empty() {
        let detail =
            format!("{} is missing, so services see the host's own view of names", missing.join(", "));
        return degraded(topic, detail, Some("create what is missing; an empty file is enough"));
    }
    match facts.name_servers {
        0 => degraded(
            topic,
            "/etc/resolv.conf names no server",
            Some("add a nameserver line to /etc/resolv.conf"),
        ),
        1 => on(topic, "answered by the mesh proxy, which asks the host's server"),
        count => on(topic, format!("answered by the mesh proxy, which asks {count} servers")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::doctor::cgroups::Cgroups;

    pub(in crate::doctor) fn failure() -> Result<(), Failure> {
        Err(Failure { step: "network".into(), object: "unshare".into(), errno: 1 })
    }

    pub(in crate::doctor) fn complete() -> Facts {
        Facts {
            uid: 0,
            kernel: "6.1.0-18-amd64".into(),
            probe: Ok(crate::testing::probe()),
            cgroups: Cgroups {
                mode: Mode::Unified,
                refused: None,
                missing: BTreeMap::new(),
                no_pressure: None,
            },
            user_manager: true,
            nofile: (1024, 1 << 20),
            pidfd: Ok(()),
            unprivileged_port_start: 1024,
            name_servers: 1,
            missing_name_files: Vec::new(),
            runtime: ("/run/watt".into(), true),
            namespace_switches: NamespaceSwitches::default(),
        }
    }

    /// The features that are not on, with their fixes, after one thing has changed.
    fn check(change: impl FnOnce(&mut Facts), expected: &[(&str, FeatureState, Option<&str>)]) {
        let mut facts = complete();
        change(&mut facts);
        let findings = findings(&facts);
        let missing: Vec<_> = findings
            .iter()
            .map(|finding| &finding.feature)
            .filter(|feature| feature.state != FeatureState::On)
            .map(|feature| (feature.name.as_str(), feature.state, feature.fix.as_deref()))
            .collect();
        assert_eq!(missing, expected);
    }

    #[test]
    fn a_reason_says_nothing_twice() {
        let check = |step: &str, object: &str, expected: &str| {
            let failure = Failure { step: step.into(), object: object.into(), errno: 1 };
            assert_eq!(reason(&failure), expected);
        };
        check("network", "network namespace", "network namespace: Operation not permitted (os error 1)");
        check("network", "unshare", "network unshare: Operation not permitted (os error 1)");
    }

    #[test]
    fn what_is_missing_is_named_with_what_turns_it_on() {
        use FeatureState::{Degraded, Off};
        let as_user = ("change of user", Degraded, Some("start it as root, best as a systemd unit"));
        check(|_| {}, &[]);
        check(|facts| facts.kernel = "5.11.0-28".into(), &[("kernel", Degraded, None)]);
        check(|facts| facts.kernel = "5.10.0-28".into(), &[("kernel", Off, Some("install a newer kernel"))]);
        check(|facts| facts.kernel = String::new(), &[("kernel", Degraded, None)]);
        let boot = Some("boot with systemd.unified_cgroup_hierarchy=1");
        check(
            |facts| {
                facts.cgroups.mode = Mode::Hybrid;
                facts.cgroups.missing = [(LimitName::MemoryHigh, "soft only".into())].into();
            },
            &[("memory_high limit", Off, boot)],
        );
        check(
            |facts| {
                facts.uid = 1000;
                facts.namespace_switches.apparmor = true;
                if let Ok(probe) = &mut facts.probe {
                    probe.user_namespace = failure();
                }
            },
            &[
                ("user namespaces", Off, Some("sysctl kernel.apparmor_restrict_unprivileged_userns=0")),
                as_user,
                (
                    "names on the host's network",
                    Degraded,
                    Some("sysctl net.ipv4.ip_unprivileged_port_start=80"),
                ),
            ],
        );
        check(
            |facts| {
                if let Ok(probe) = &mut facts.probe {
                    probe.redirect = failure();
                }
            },
            &[("redirect", Off, Some(NFT_FIX))],
        );
        let container = Some("run it on the host, or in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN");
        check(
            |facts| {
                if let Ok(probe) = &mut facts.probe {
                    probe.network_namespace = failure();
                }
            },
            &[("private network", Off, container), ("redirect", Off, container)],
        );
        check(
            |facts| facts.probe = Err("cannot start the exec stage: Permission denied".into()),
            &[("isolation", Off, Some("sysctl vm.memfd_noexec=0"))],
        );
    }

    #[test]
    fn without_cgroups_everything_that_needs_them_says_so() {
        let mut facts = complete();
        facts.uid = 1000;
        facts.cgroups = Cgroups::none(Mode::Unified, "no".into());
        let concerned = [
            "cgroups",
            "memory limit",
            "memory_high limit",
            "memory_low",
            "memory_min",
            "cpu limit",
            "cpu_weight",
            "cpuset",
            "pids limit",
            "io_weight",
            "io limit",
            "hugetlb limit",
            "pressure",
            "end of whole workers",
        ];
        let fixes = [
            (true, "systemd-run --user --scope -p Delegate=yes wattctl up"),
            (false, "start it as a systemd unit with User= and Delegate=yes"),
        ];
        for (user_manager, fix) in fixes {
            facts.user_manager = user_manager;
            let features = findings(&facts).into_iter().map(|finding| finding.feature);
            let fixed = features.filter(|feature| feature.fix.as_deref() == Some(fix));
            let names: Vec<String> = fixed.map(|feature| feature.name).collect();
            assert_eq!(names, concerned);
        }
    }

    #[test]
    fn this_host_is_looked_at_without_harm() {
        let doctor = crate::doctor::report();
        assert!(doctor.features.iter().all(|feature| !feature.name.is_empty() && !feature.detail.is_empty()));
        let kernel = &doctor.features[0];
        assert_eq!((kernel.name.as_str(), kernel.state), ("kernel", FeatureState::On));
    }
}
