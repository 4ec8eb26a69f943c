//! The conclusions: each feature with its state, how it works or why it does not, and what would turn it on.

use std::io;

use watt_api::control::{Feature, FeatureState};
use watt_exec::plan::{Failure, Probe};
use watt_os::cgroup::{LimitName, Mode};

use super::facts::{Facts, NamespaceSwitches};

/// clone3(2) with CLONE_INTO_CGROUP.
const KERNEL_MIN: (u32, u32) = (5, 7);
/// `cgroup.kill`.
const KERNEL_GOOD: (u32, u32) = (5, 14);
/// Descriptors for a thousand workers: the spawner holds some six for each, the proxy its connections.
const NOFILE_GOOD: u64 = 65_536;
/// What a small application needs.
const NOFILE_MIN: u64 = 1_024;
/// Where a worker on the host's network looks for the mesh.
const MESH_PORT: u16 = 80;

/// All features.
pub(super) fn features(facts: &Facts) -> Vec<Feature> {
    let mut features = vec![kernel(facts), pidfd(facts), open_files(facts), runtime(facts)];
    features.push(cgroups(facts));
    features.extend(limits(facts));
    features.push(whole_worker(facts));
    features.extend(namespaces(facts));
    features.extend([port_80(facts), dns(facts)]);
    features
}

fn on(name: &str, detail: impl Into<String>) -> Feature {
    Feature { name: name.into(), state: FeatureState::On, detail: detail.into(), fix: None }
}

fn degraded(name: &str, detail: impl Into<String>, fix: Option<&str>) -> Feature {
    Feature { state: FeatureState::Degraded, fix: fix.map(Into::into), ..on(name, detail) }
}

fn off(name: &str, detail: impl Into<String>, fix: Option<&str>) -> Feature {
    Feature { state: FeatureState::Off, fix: fix.map(Into::into), ..on(name, detail) }
}

fn kernel(facts: &Facts) -> Feature {
    let name = "kernel";
    let text = facts.kernel.as_str();
    match version(text) {
        Some(version) if version >= KERNEL_GOOD => on(name, text),
        Some(version) if version >= KERNEL_MIN => {
            degraded(name, format!("{text}: workers are killed process by process before 5.14"), None)
        }
        Some(_) => off(name, format!("{text}: 5.7 is needed"), Some("install a newer kernel")),
        None => degraded(name, format!("{text:?} is no version that is understood"), None),
    }
}

/// `6.1.0-18-amd64` is (6, 1).
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn pidfd(facts: &Facts) -> Feature {
    let name = "process descriptors";
    match &facts.pidfd {
        Ok(()) => on(name, "pidfd_open works"),
        Err(error) => off(
            name,
            format!("pidfd_open: {error}"),
            Some("let the container's seccomp profile allow pidfd_open"),
        ),
    }
}

fn open_files(facts: &Facts) -> Feature {
    let name = "open files";
    let (soft, hard) = facts.nofile;
    let detail = match hard {
        u64::MAX => format!("{soft}, raised without limit for watt's own processes"),
        _ => format!("{soft}, raised to {hard} for watt's own processes"),
    };
    let fix = Some("set LimitNOFILE=1048576 in the unit, or nofile in /etc/security/limits.conf");
    match hard {
        NOFILE_GOOD.. => on(name, detail),
        NOFILE_MIN.. => degraded(name, format!("{detail}: enough for some {} workers", hard / 8), fix),
        _ => off(name, detail, fix),
    }
}

fn runtime(facts: &Facts) -> Feature {
    let name = "runtime folder";
    let (path, writable) = &facts.runtime;
    match writable {
        true => on(name, path.display().to_string()),
        false => off(
            name,
            format!("cannot be made: {}", path.display()),
            Some("set WATT_RUNTIME_DIR to a folder of your own"),
        ),
    }
}

fn delegate(facts: &Facts) -> Option<&'static str> {
    match facts.uid {
        0 => Some("mount cgroup2 at /sys/fs/cgroup; in a container, give it a writable cgroup namespace"),
        _ => Some("systemd-run --user --scope -p Delegate=yes wattctl up"),
    }
}

fn cgroups(facts: &Facts) -> Feature {
    let name = "cgroups";
    let mode = facts.cgroups.mode;
    match &facts.cgroups.refused {
        None => on(name, mode.to_string()),
        Some(reason) => off(name, reason.clone(), delegate(facts)),
    }
}

fn limits(facts: &Facts) -> impl Iterator<Item = Feature> {
    let limits = [
        ("memory limit", LimitName::Memory),
        ("memory_high limit", LimitName::MemoryHigh),
        ("cpu limit", LimitName::Cpu),
        ("pids limit", LimitName::Pids),
    ];
    limits.into_iter().map(|(name, limit)| {
        match (&facts.cgroups.refused, facts.cgroups.missing.get(&limit)) {
            (Some(_), _) => off(name, "needs cgroups", delegate(facts)),
            (None, None) => on(name, "enforced for each worker"),
            (None, Some(reason)) => {
                let fix = match facts.cgroups.mode {
                    // systemd chooses it at boot.
                    Mode::Hybrid | Mode::Legacy => Some("boot with systemd.unified_cgroup_hierarchy=1"),
                    Mode::Unified | Mode::None => delegate(facts),
                };
                off(name, reason.clone(), fix)
            }
        }
    })
}

/// How everything a worker started is found and ended.
fn whole_worker(facts: &Facts) -> Feature {
    let name = "end of whole workers";
    let usable = facts.cgroups.refused.is_none();
    match facts.cgroups.mode {
        Mode::Unified | Mode::Hybrid if usable => on(name, "by cgroup"),
        Mode::Legacy if usable => on(name, "by the v1 freezer"),
        _ => degraded(name, "by walking the process tree, as there are no cgroups", delegate(facts)),
    }
}

fn namespaces(facts: &Facts) -> Vec<Feature> {
    let probe = match &facts.probe {
        Ok(probe) => probe,
        Err(reason) => return vec![off("isolation", reason.clone(), probe_fix(reason))],
    };
    let is_root = facts.uid == 0;
    let root =
        is_root.then_some("run it on the host, or in a container with CAP_SYS_ADMIN and CAP_NET_ADMIN");
    let fix = root.or_else(|| namespace_fix(facts.namespace_switches));
    let mut features = Vec::new();
    if !is_root {
        let detail = "gives an ordinary user the following";
        features.push(tried("user namespaces", &probe.user_namespace, detail, fix));
    }
    features.extend([
        tried("private network", &probe.network_namespace, "a network namespace for each worker", fix),
        tried(
            "redirect",
            &redirect(probe),
            "nftables leads every port of a service to the mesh",
            Some(NFT_FIX),
        ),
        tried("AnyIP", &probe.any_ip, "connections to the outside are caught without nftables", fix),
        tried("names in /etc/hosts", &probe.mount_namespace, "a mount namespace for each worker", fix),
    ]);
    features.push(match (is_root, &probe.change_user) {
        (true, result) => tried("change of user", result, "the mesh proxy has a user of its own", root),
        (false, _) => {
            let detail = "the mesh proxy and all services run as the user who starts them";
            degraded("change of user", detail, Some("start it as root, best as a systemd unit"))
        }
    });
    features
}

const NFT_FIX: &str = "modprobe nf_tables nft_redir nft_chain_nat";

/// Without a network there is nothing to redirect in: one reason is enough.
fn redirect(probe: &Probe) -> Result<(), Failure> {
    probe.network_namespace.clone().and_then(|()| probe.redirect.clone())
}

fn tried(name: &str, result: &Result<(), Failure>, detail: &str, fix: Option<&str>) -> Feature {
    match result {
        Ok(()) => on(name, detail),
        Err(failure) => off(name, words(failure), fix),
    }
}

fn words(failure: &Failure) -> String {
    let error = io::Error::from_raw_os_error(failure.errno);
    match failure.object.as_str() {
        "" => format!("{}: {error}", failure.step),
        object => format!("{} ({object}): {error}", failure.step),
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

fn port_80(facts: &Facts) -> Feature {
    let name = "names on the host's network";
    match facts.uid == 0 || facts.unprivileged_port_start <= MESH_PORT {
        true => on(name, "services with network: host call each other by name on port 80"),
        false => degraded(
            name,
            "services with network: host call each other by $WATT_MESH_SOCKET alone",
            Some("sysctl net.ipv4.ip_unprivileged_port_start=80"),
        ),
    }
}

fn dns(facts: &Facts) -> Feature {
    let name = "names of the outside";
    let missing = &facts.missing_name_files;
    if !missing.is_empty() {
        let detail =
            format!("{} is missing, so services see the host's own view of names", missing.join(", "));
        return degraded(name, detail, Some("create what is missing; an empty file is enough"));
    }
    match facts.name_servers {
        0 => degraded(
            name,
            "/etc/resolv.conf names no server",
            Some("add a nameserver line to /etc/resolv.conf"),
        ),
        count => on(name, format!("answered by the mesh proxy, which asks {count} servers")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::doctor::cgroups::Cgroups;

    fn failure() -> Result<(), Failure> {
        Err(Failure { step: "network".into(), object: "unshare".into(), errno: 1 })
    }

    fn complete() -> Facts {
        let probe = Probe {
            user_namespace: Ok(()),
            network_namespace: Ok(()),
            redirect: Ok(()),
            any_ip: Ok(()),
            mount_namespace: Ok(()),
            change_user: Ok(()),
        };
        Facts {
            uid: 0,
            kernel: "6.1.0-18-amd64".into(),
            probe: Ok(probe),
            cgroups: Cgroups { mode: Mode::Unified, refused: None, missing: BTreeMap::new() },
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
        let features = features(&facts);
        let missing: Vec<_> = features
            .iter()
            .filter(|feature| feature.state != FeatureState::On)
            .map(|feature| (feature.name.as_str(), feature.state, feature.fix.as_deref()))
            .collect();
        assert_eq!(missing, expected);
    }

    #[test]
    fn what_is_missing_is_named_with_what_turns_it_on() {
        use FeatureState::{Degraded, Off};
        let as_user = ("change of user", Degraded, Some("start it as root, best as a systemd unit"));
        check(|_| {}, &[]);
        check(|facts| facts.kernel = "5.10.0-28".into(), &[("kernel", Degraded, None)]);
        check(|facts| facts.kernel = "4.19".into(), &[("kernel", Off, Some("install a newer kernel"))]);
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
        check(
            |facts| facts.probe = Err("cannot start the exec stage: Permission denied".into()),
            &[("isolation", Off, Some("sysctl vm.memfd_noexec=0"))],
        );
    }

    #[test]
    fn without_cgroups_everything_that_needs_them_says_so() {
        let mut facts = complete();
        facts.uid = 1000;
        facts.cgroups = Cgroups { mode: Mode::Unified, refused: Some("no".into()), missing: BTreeMap::new() };
        let fix = "systemd-run --user --scope -p Delegate=yes wattctl up";
        let fixed = features(&facts).into_iter().filter(|feature| feature.fix.as_deref() == Some(fix));
        let names: Vec<String> = fixed.map(|feature| feature.name).collect();
        assert_eq!(
            names,
            [
                "cgroups",
                "memory limit",
                "memory_high limit",
                "cpu limit",
                "pids limit",
                "end of whole workers"
            ]
        );
    }

    #[test]
    fn this_host_is_looked_at_without_harm() {
        let doctor = crate::doctor::report();
        assert!(doctor.features.iter().all(|feature| !feature.name.is_empty() && !feature.detail.is_empty()));
        let kernel = &doctor.features[0];
        assert_eq!((kernel.name.as_str(), kernel.state), ("kernel", FeatureState::On));
    }
}
