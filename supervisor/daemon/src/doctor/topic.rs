//! What a conclusion is about, and which applications it concerns.

use watt_api::control::{Feature, FeatureState};
use watt_core::{
    plan::{Network, Plan, Resource, Service},
    sandbox::{ProtectHome, ProtectProc, ProtectSystem, Sandbox, User},
};
use watt_os::cgroup::LimitName;

/// A conclusion.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Finding {
    pub(super) topic: Topic,
    pub(super) feature: Feature,
}

/// What it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    Kernel,
    ProcessDescriptors,
    OpenFiles,
    RuntimeFolder,
    Cgroups,
    Limit(LimitName),
    Pressure,
    WholeWorkers,
    /// The exec stage could not even try.
    Isolation,
    UserNamespaces,
    PrivateNetwork,
    Redirect,
    AnyIp,
    NamesInHosts,
    ChangeOfUser,
    HostNames,
    OutsideNames,
    /// A wall around workers.
    Wall(Wall),
}

/// A part of a sandbox that a host may not be able to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wall {
    ReadOnlyPaths,
    Devices,
    Processes,
    HiddenProcesses,
    Ipc,
    HostName,
    CgroupNamespace,
    Keyring,
    Landlock,
    SystemCalls,
    Capabilities,
}

impl Wall {
    /// Its name in reports.
    fn name(self) -> &'static str {
        match self {
            Wall::ReadOnlyPaths => "read-only paths",
            Wall::Devices => "private devices",
            Wall::Processes => "private processes",
            Wall::HiddenProcesses => "hidden processes",
            Wall::Ipc => "private IPC",
            Wall::HostName => "private host name",
            Wall::CgroupNamespace => "private cgroups",
            Wall::Keyring => "private keyring",
            Wall::Landlock => "Landlock",
            Wall::SystemCalls => "system call filter",
            Wall::Capabilities => "capabilities",
        }
    }

    /// Whether a sandbox has it.
    fn is_in(self, sandbox: &Sandbox) -> bool {
        match self {
            Wall::ReadOnlyPaths => {
                sandbox.protect_system != ProtectSystem::No
                    || sandbox.protect_home == ProtectHome::ReadOnly
                    || sandbox.protect_services
                    || sandbox.protect_kernel_tunables
                    || sandbox.protect_control_groups
                    || !sandbox.paths.is_empty()
            }
            Wall::Devices => sandbox.private_devices,
            Wall::Processes => sandbox.private_pids,
            Wall::HiddenProcesses => sandbox.protect_proc != ProtectProc::Default && !sandbox.private_pids,
            Wall::Ipc => sandbox.private_ipc,
            Wall::HostName => sandbox.protect_hostname,
            Wall::CgroupNamespace => sandbox.private_cgroup,
            Wall::Keyring => sandbox.private_keyring,
            Wall::Landlock => sandbox.landlock,
            Wall::SystemCalls => sandbox.system_calls.is_some() || sandbox.address_families.is_some(),
            Wall::Capabilities => sandbox.capabilities.is_some(),
        }
    }
}

impl Topic {
    /// Its name in reports.
    pub(super) fn name(self) -> &'static str {
        match self {
            Topic::Kernel => "kernel",
            Topic::ProcessDescriptors => "process descriptors",
            Topic::OpenFiles => "open files",
            Topic::RuntimeFolder => "runtime folder",
            Topic::Cgroups => "cgroups",
            Topic::Limit(LimitName::Memory) => "memory limit",
            Topic::Limit(LimitName::MemoryHigh) => "memory_high limit",
            Topic::Limit(LimitName::MemoryLow) => "memory_low",
            Topic::Limit(LimitName::MemoryMin) => "memory_min",
            Topic::Limit(LimitName::Swap) => "swap limit",
            Topic::Limit(LimitName::Cpu) => "cpu limit",
            Topic::Limit(LimitName::CpuWeight) => "cpu_weight",
            Topic::Limit(LimitName::Cpuset) => "cpuset",
            Topic::Limit(LimitName::Pids) => "pids limit",
            Topic::Limit(LimitName::IoWeight) => "io_weight",
            Topic::Limit(LimitName::Io) => "io limit",
            Topic::Limit(LimitName::Hugetlb) => "hugetlb limit",
            Topic::Limit(LimitName::OomGroup) => "oom_group",
            Topic::Pressure => "pressure",
            Topic::WholeWorkers => "end of whole workers",
            Topic::Isolation => "isolation",
            Topic::UserNamespaces => "user namespaces",
            Topic::PrivateNetwork => "private network",
            Topic::Redirect => "redirect",
            Topic::AnyIp => "AnyIP",
            Topic::NamesInHosts => "names in /etc/hosts",
            Topic::ChangeOfUser => "change of user",
            Topic::HostNames => "names on the host's network",
            Topic::OutsideNames => "names of the outside",
            Topic::Wall(wall) => wall.name(),
        }
    }

    /// The topic without which this one cannot be had: one of the two is told.
    fn needs(self) -> Option<Topic> {
        match self {
            Topic::PrivateNetwork | Topic::NamesInHosts => Some(Topic::UserNamespaces),
            Topic::Wall(Wall::Landlock | Wall::SystemCalls | Wall::Keyring) => None,
            // A mount namespace is the least of what these need.
            Topic::Wall(_) => Some(Topic::NamesInHosts),
            Topic::Redirect => Some(Topic::PrivateNetwork),
            Topic::Limit(_) | Topic::Pressure => Some(Topic::Cgroups),
            Topic::Kernel
            | Topic::ProcessDescriptors
            | Topic::OpenFiles
            | Topic::RuntimeFolder
            | Topic::Cgroups
            | Topic::WholeWorkers
            | Topic::Isolation
            | Topic::UserNamespaces
            | Topic::AnyIp
            | Topic::ChangeOfUser
            | Topic::HostNames
            | Topic::OutsideNames => None,
        }
    }

    /// Whether the application asks for what is missing.
    fn concerns(self, plan: &Plan, uid: u32) -> bool {
        let some = |asks: fn(&Service) -> bool| plan.services.values().any(asks);
        match self {
            // Nothing would run at all, and that has said so.
            Topic::Kernel | Topic::ProcessDescriptors | Topic::RuntimeFolder => false,
            // Met by an error that says so; what a small limit is good for depends on connections that nobody knows.
            Topic::OpenFiles => false,
            // There are other ways, which serve as well.
            Topic::WholeWorkers | Topic::AnyIp => false,
            Topic::Cgroups => {
                some(|service| LimitName::ALL.into_iter().any(|limit| has_limit(service, limit)))
            }
            Topic::Limit(limit) => plan.services.values().any(|service| has_limit(service, limit)),
            Topic::Pressure => some(asks_for_pressure),
            Topic::Isolation | Topic::UserNamespaces | Topic::NamesInHosts => true,
            Topic::PrivateNetwork | Topic::Redirect | Topic::OutsideNames => {
                some(|service| service.network == Network::Private)
            }
            // An ordinary user knows whose processes these are, unless it asks for others.
            Topic::ChangeOfUser => uid == 0 || some(has_other_user),
            Topic::HostNames => some(|service| service.network == Network::Host),
            Topic::Wall(wall) => plan.services.values().any(|service| wall.is_in(&service.sandbox)),
        }
    }
}

/// Whether a service is to be told of when it stalls. That one with `memory_high` is by default is no wish of anybody's.
pub(crate) fn asks_for_pressure(service: &Service) -> bool {
    let is_default =
        |resource: &Resource| *resource == Resource::Memory && service.limits.cgroup.memory_high.is_some();
    !service.pressure.recycle.is_empty() || !service.pressure.tell.keys().all(is_default)
}

fn has_other_user(service: &Service) -> bool {
    service.sandbox.user != User::Same || !service.sandbox.supplementary_groups.is_empty()
}

fn has_limit(service: &Service, limit: LimitName) -> bool {
    [&service.limits.cgroup, &service.limits_total].into_iter().any(|limits| match limit {
        LimitName::Memory | LimitName::OomGroup => limits.memory.is_some(),
        LimitName::Swap => limits.memory.is_some() || limits.swap.is_some(),
        LimitName::MemoryHigh => limits.memory_high.is_some(),
        LimitName::MemoryLow => limits.memory_low.is_some(),
        LimitName::MemoryMin => limits.memory_min.is_some(),
        LimitName::Cpu => limits.cpu_millis.is_some(),
        LimitName::CpuWeight => limits.cpu_weight.is_some(),
        LimitName::Cpuset => !limits.cpus.is_empty(),
        LimitName::Pids => limits.pids.is_some(),
        LimitName::IoWeight => limits.io_weight.is_some(),
        LimitName::Io => !limits.io.is_empty(),
        LimitName::Hugetlb => !limits.hugetlb.is_empty(),
    })
}

/// What is missing and this application asks for: each with its reason and what would turn it on.
pub(super) fn warnings(findings: &[Finding], plan: &Plan, uid: u32) -> Vec<String> {
    let is_off = |topic: Topic| {
        findings.iter().any(|finding| finding.topic == topic && finding.feature.state == FeatureState::Off)
    };
    let roots = |topic: Topic| std::iter::successors(topic.needs(), |topic| topic.needs());
    let missing = findings.iter().filter(|Finding { topic, feature }| {
        feature.state != FeatureState::On && topic.concerns(plan, uid) && !roots(*topic).any(is_off)
    });
    missing.map(|finding| in_words(&finding.feature)).collect()
}

fn in_words(feature: &Feature) -> String {
    let fix = feature.fix.iter().map(|fix| format!("; to turn on: {fix}")).collect::<String>();
    format!("{}: {}{fix}", feature.name, feature.detail)
}

#[cfg(test)]
mod tests {
    use watt_core::sandbox::Profile;
    use watt_os::cgroup::Mode;

    use super::*;
    use crate::{
        doctor::{
            cgroups::Cgroups,
            facts::Facts,
            features::{
                findings,
                tests::{complete, failure},
            },
        },
        testing,
    };

    fn check(facts: &Facts, change: impl FnOnce(&mut Service), expected: &[&str]) {
        let mut plan = testing::plan(&["api"]);
        change(plan.services.values_mut().next().unwrap());
        let warnings = warnings(&findings(facts), &plan, facts.uid);
        let names: Vec<&str> =
            warnings.iter().filter_map(|warning| Some(warning.split_once(':')?.0)).collect();
        assert_eq!(names, expected, "{warnings:?}");
    }

    fn on_the_host(service: &mut Service) {
        service.network = Network::Host;
    }

    #[test]
    fn a_complete_host_gets_no_warning() {
        check(&complete(), |_| {}, &[]);
        check(&Facts { uid: 1000, ..complete() }, |_| {}, &[]);
    }

    #[test]
    fn only_what_is_asked_for_is_told_and_only_its_root() {
        let mut facts = Facts { uid: 1000, ..complete() };
        facts.cgroups = Cgroups::none(Mode::Unified, "no".into());
        check(&facts, |_| {}, &[]);
        check(&facts, |service| service.limits.cgroup.memory = Some(1 << 20), &["cgroups"]);
        let everything = || testing::every_answer(failure(), Ok(7));
        facts.probe = Ok(everything());
        // Neither needs a namespace.
        let apart = ["private keyring", "system call filter"];
        check(&facts, |_| {}, &["user namespaces", apart[0], apart[1]]);
        check(&facts, on_the_host, &["user namespaces", apart[0], apart[1], "names on the host's network"]);
        let facts = Facts { probe: Ok(everything()), ..complete() };
        let mounts = "names in /etc/hosts";
        check(&facts, |_| {}, &["private network", mounts, "change of user", apart[0], apart[1]]);
        check(&facts, on_the_host, &[mounts, "change of user", apart[0], apart[1]]);
    }

    #[test]
    fn a_wall_that_cannot_be_put_up_is_told_to_those_who_want_it() {
        let mut facts = complete();
        if let Ok(probe) = &mut facts.probe {
            probe.proc = failure();
            probe.devices = failure();
        }
        let with = |profile| move |service: &mut Service| service.sandbox = Sandbox::of(profile).into();
        check(&facts, with(Profile::Off), &[]);
        check(&facts, with(Profile::Standard), &["private devices"]);
        check(&facts, with(Profile::Strict), &["private devices", "private processes"]);
        let facts = Facts { uid: 1000, ..complete() };
        check(&facts, with(Profile::Strict), &["change of user"]);
    }

    #[test]
    fn a_limit_that_is_not_enforced_is_told_to_those_who_set_it() {
        let mut facts = complete();
        facts.cgroups.mode = Mode::Hybrid;
        facts.cgroups.missing = [(LimitName::MemoryHigh, "soft only".into())].into();
        check(&facts, |service| service.limits.cgroup.memory = Some(1 << 20), &[]);
        check(&facts, |service| service.limits.cgroup.memory_high = Some(1 << 20), &["memory_high limit"]);
    }

    #[test]
    fn a_warning_says_what_to_do() {
        let feature = Feature {
            name: "redirect".into(),
            state: FeatureState::Off,
            detail: "no nftables".into(),
            fix: Some("modprobe nft".into()),
        };
        assert_eq!(in_words(&feature), "redirect: no nftables; to turn on: modprobe nft");
    }
}
