//! What a conclusion is about, and which applications it concerns.

use watt_api::control::{Feature, FeatureState};
use watt_core::plan::{Limits, Network, Plan, Service};
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
            Topic::Limit(LimitName::Cpu) => "cpu limit",
            Topic::Limit(LimitName::Pids) => "pids limit",
            Topic::Limit(LimitName::Swap) => "swap limit",
            Topic::Limit(LimitName::OomGroup) => "oom_group",
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
        }
    }

    /// The topic without which this one cannot be had: one of the two is told.
    fn needs(self) -> Option<Topic> {
        match self {
            Topic::PrivateNetwork | Topic::NamesInHosts => Some(Topic::UserNamespaces),
            Topic::Redirect => Some(Topic::PrivateNetwork),
            Topic::Limit(_) => Some(Topic::Cgroups),
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
            Topic::Cgroups => some(|service| has_limits(&service.limits)),
            Topic::Limit(limit) => plan.services.values().any(|service| has_limit(&service.limits, limit)),
            Topic::Isolation | Topic::UserNamespaces | Topic::NamesInHosts => true,
            Topic::PrivateNetwork | Topic::Redirect | Topic::OutsideNames => {
                some(|service| service.network == Network::Private)
            }
            // An ordinary user knows whose processes these are.
            Topic::ChangeOfUser => uid == 0,
            Topic::HostNames => some(|service| service.network == Network::Host),
        }
    }
}

fn has_limits(limits: &Limits) -> bool {
    [LimitName::Memory, LimitName::MemoryHigh, LimitName::Cpu, LimitName::Pids]
        .into_iter()
        .any(|limit| has_limit(limits, limit))
}

fn has_limit(limits: &Limits, limit: LimitName) -> bool {
    match limit {
        LimitName::Memory | LimitName::Swap | LimitName::OomGroup => limits.memory.is_some(),
        LimitName::MemoryHigh => limits.memory_high.is_some(),
        LimitName::Cpu => limits.cpu_millis.is_some(),
        LimitName::Pids => limits.pids.is_some(),
    }
}

/// What is missing and this application asks for: each with its reason and what would turn it on.
pub(super) fn warnings(findings: &[Finding], plan: &Plan, uid: u32) -> Vec<String> {
    let is_off = |topic: Topic| {
        findings.iter().any(|finding| finding.topic == topic && finding.feature.state == FeatureState::Off)
    };
    let missing = findings.iter().filter(|Finding { topic, feature }| {
        feature.state != FeatureState::On && topic.concerns(plan, uid) && !topic.needs().is_some_and(is_off)
    });
    missing.map(|finding| in_words(&finding.feature)).collect()
}

fn in_words(feature: &Feature) -> String {
    let fix = feature.fix.iter().map(|fix| format!("; to turn on: {fix}")).collect::<String>();
    format!("{}: {}{fix}", feature.name, feature.detail)
}

#[cfg(test)]
mod tests {
    use watt_exec::plan::Probe;
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
        facts.cgroups =
            Cgroups { mode: Mode::Unified, refused: Some("no".into()), missing: Default::default() };
        check(&facts, |_| {}, &[]);
        check(&facts, |service| service.limits.memory = Some(1 << 20), &["cgroups"]);
        let everything = || Probe {
            user_namespace: failure(),
            network_namespace: failure(),
            redirect: failure(),
            any_ip: failure(),
            mount_namespace: failure(),
            change_user: failure(),
        };
        facts.probe = Ok(everything());
        check(&facts, |_| {}, &["user namespaces"]);
        check(&facts, on_the_host, &["user namespaces", "names on the host's network"]);
        let facts = Facts { probe: Ok(everything()), ..complete() };
        check(&facts, |_| {}, &["private network", "names in /etc/hosts", "change of user"]);
        check(&facts, on_the_host, &["names in /etc/hosts", "change of user"]);
    }

    #[test]
    fn a_limit_that_is_not_enforced_is_told_to_those_who_set_it() {
        let mut facts = complete();
        facts.cgroups.mode = Mode::Hybrid;
        facts.cgroups.missing = [(LimitName::MemoryHigh, "soft only".into())].into();
        check(&facts, |service| service.limits.memory = Some(1 << 20), &[]);
        check(&facts, |service| service.limits.memory_high = Some(1 << 20), &["memory_high limit"]);
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
