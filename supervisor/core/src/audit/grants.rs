//! How everything else of a service stands: its network, limits, secrets, and what it may ask of watt.

use std::net::IpAddr;

use super::{Check, Finding, Standing, WIDE, secrets::look_like_secrets};
use crate::{
    ServiceId,
    plan::{
        CgroupLimits, Destination, Egress, EgressRule, Limits, Network, Rlimit, Role, Scheduling,
        SchedulingPolicy, Service,
    },
};

/// More open files than this are as good as no limit: the kernel's own hard limit for most programs is 524,288 (systemd) or
/// 1,048,576.
const NOFILE_MANY: u64 = 65_536;

/// Networks of more addresses than this are like everything: a /8.
const BITS_OF_MUCH: u8 = 8;

/// Every check that is not the sandbox's.
pub(super) fn findings(standing: &Standing<'_>) -> Vec<Finding> {
    // One by one, so that a new field asks for its place here.
    let Service {
        id: _,
        path: _,
        command: _,
        env,
        unset_env,
        stdin: _,
        workers: _,
        slow_start: _,
        listen: _,
        protocol: _,
        network,
        egress,
        depends_on: _,
        hooks: _,
        startup: _,
        ready: _,
        health: _,
        restart: _,
        roll: _,
        stop: _,
        limits,
        limits_total,
        // What is done about a stall, and no wall.
        pressure: _,
        scheduling,
        sandbox: _,
        secrets,
        management,
        fd_store: _,
        timeouts: _,
        traffic: _,
        guard: _,
        cache: _,
        openapi: _,
    } = standing.service;
    let Limits { cgroup, oom_group: _, rlimits: _ } = &**limits;
    let levels = [cgroup, &**limits_total];
    let suspects = look_like_secrets(env, unset_env);
    vec![
        self::network(*network),
        outside(*network, egress),
        host_ports(*network, egress),
        policies(standing),
        memory(levels, &standing.plan.limits),
        processes(levels, &standing.plan.limits),
        cpu(levels, &standing.plan.limits),
        open_files(standing.service),
        core(standing.service),
        priority(scheduling),
        match suspects[..] {
            [] => Finding::new(Check::Environment, 0, "nothing that looks like a secret"),
            _ => Finding::new(Check::Environment, WIDE, suspects.join(", ")),
        },
        match (secrets.len(), standing.host.private_secrets) {
            (0, _) => Finding::new(Check::SecretFiles, 0, "it has none"),
            (_, true) => Finding::new(Check::SecretFiles, 0, "in a file system of its own"),
            (_, false) => Finding::new(Check::SecretFiles, WIDE, "in the runtime folder"),
        },
        self::management(*management),
        control_groups(standing),
    ]
}

fn network(network: Network) -> Finding {
    match network {
        Network::Private => Finding::new(Check::Network, 0, "its own"),
        Network::Host => Finding::new(Check::Network, WIDE, "the host's"),
    }
}

fn outside(network: Network, egress: &Egress) -> Finding {
    let (open, note) = match (network, &egress.allow) {
        (Network::Host, _) => (WIDE, "everything: nothing is filtered on the host's network".to_owned()),
        (Network::Private, None) => (WIDE, "everything: there is no list".to_owned()),
        (Network::Private, Some(rules)) => {
            let open = rules.iter().map(width).max().unwrap_or(0);
            let note = match (open, rules.len()) {
                (_, 0) => "nothing".to_owned(),
                (WIDE, _) => "everything: the list lets all through".to_owned(),
                (_, 1) => "1 destination".to_owned(),
                (_, count) => format!("{count} destinations"),
            };
            (open, note)
        }
    };
    Finding::new(Check::Egress, open, note)
}

/// How much of what is outside a rule lets through. The port counts little: whoever is to be reached chooses it.
pub(super) fn width(rule: &EgressRule) -> u8 {
    let everywhere = match &rule.to {
        Destination::Anywhere => true,
        Destination::Network(_, bits) => *bits < BITS_OF_MUCH,
        Destination::Name(_) => false,
    };
    match (&rule.to, rule.port.is_some()) {
        _ if everywhere && rule.port.is_none() => WIDE,
        _ if everywhere => 8,
        (Destination::Network(IpAddr::V4(_), ..24) | Destination::Network(IpAddr::V6(_), ..64), _) => 4,
        (Destination::Name(name), _) if name.starts_with("*.") => 3,
        (_, false) => 2,
        (_, true) => 1,
    }
}

fn host_ports(network: Network, egress: &Egress) -> Finding {
    let ports: Vec<String> = egress.host_ports.iter().map(u16::to_string).collect();
    let (open, note) = match (network, ports.len()) {
        (Network::Host, _) => (WIDE, "every port: it is on the host's network".to_owned()),
        (Network::Private, 0) => (0, "none".to_owned()),
        (Network::Private, count) => (u8::try_from(count + 3).unwrap_or(WIDE).min(8), ports.join(", ")),
    };
    Finding::new(Check::HostPorts, open, note)
}

/// The other services that a service may call.
pub(super) fn callable<'a>(standing: &Standing<'a>) -> Vec<&'a ServiceId> {
    let Standing { plan, service, .. } = standing;
    let may = |other: &ServiceId| {
        let mut rules = plan.policies.iter().filter(|policy| policy.to == *other).peekable();
        rules.peek().is_none() || rules.any(|policy| policy.from == service.id)
    };
    plan.services.keys().filter(|other| **other != service.id && may(other)).collect()
}

fn policies(standing: &Standing<'_>) -> Finding {
    let others = standing.plan.services.len().saturating_sub(1);
    let callable = callable(standing).len();
    let open = (callable * usize::from(WIDE)).div_ceil(others.max(1));
    let note = match (callable, others) {
        (_, 0) => "there is no other service".to_owned(),
        (0, _) => "it may call no other service".to_owned(),
        (all, others) if all == others => "it may call every other service".to_owned(),
        (some, others) => format!("it may call {some} of {others} other services"),
    };
    Finding::new(Check::Policies, u8::try_from(open).unwrap_or(WIDE), note)
}

/// A ceiling of the application keeps the host, but no neighbour.
fn bounded(
    check: Check,
    levels: [Option<String>; 2],
    ceiling: Option<String>,
    weakly: Option<&str>,
) -> Finding {
    match (levels, ceiling, weakly) {
        ([Some(each), _], ..) => Finding::new(check, 0, each),
        ([None, Some(total)], ..) => Finding::new(check, 0, format!("{total} for all workers together")),
        ([None, None], Some(ceiling), _) => {
            Finding::new(check, 5, format!("{ceiling} for all services together"))
        }
        ([None, None], None, Some(weakly)) => Finding::new(check, 6, weakly),
        ([None, None], None, None) => Finding::new(check, WIDE, "no limit"),
    }
}

fn memory(levels: [&CgroupLimits; 2], ceiling: &CgroupLimits) -> Finding {
    let words = |limits: &CgroupLimits| limits.memory.map(bytes);
    let weakly = levels.iter().any(|limits| limits.memory_high.is_some());
    bounded(Check::Memory, levels.map(words), words(ceiling), weakly.then_some("slowed down, not stopped"))
}

fn processes(levels: [&CgroupLimits; 2], ceiling: &CgroupLimits) -> Finding {
    let words = |limits: &CgroupLimits| limits.pids.map(|pids| pids.to_string());
    bounded(Check::Pids, levels.map(words), words(ceiling), None)
}

fn cpu(levels: [&CgroupLimits; 2], ceiling: &CgroupLimits) -> Finding {
    let words = |limits: &CgroupLimits| limits.cpu_millis.map(millis);
    let weakly = levels.iter().any(|limits| limits.cpu_weight.is_some() || !limits.cpus.is_empty());
    bounded(
        Check::Cpu,
        levels.map(words),
        words(ceiling),
        weakly.then_some("its share or its CPUs alone are set"),
    )
}

fn open_files(service: &Service) -> Finding {
    let (open, note) = match service.limits.rlimits.get(&Rlimit::Nofile).map(|limit| limit.hard) {
        None => (WIDE, "as watt itself has it".to_owned()),
        Some(u64::MAX) => (WIDE, "unlimited".to_owned()),
        Some(many) if many > NOFILE_MANY => (5, many.to_string()),
        Some(few) => (0, few.to_string()),
    };
    Finding::new(Check::OpenFiles, open, note)
}

/// Who has secrets dumps none, unless it is told to.
fn core(service: &Service) -> Finding {
    let (open, note) = match service.limits.rlimits.get(&Rlimit::Core).map(|limit| limit.hard) {
        Some(0) => (0, "none"),
        Some(_) => (WIDE, "made"),
        None if !service.secrets.is_empty() => (0, "none, as it has secrets"),
        None => (WIDE, "as watt itself has it"),
    };
    Finding::new(Check::Core, open, note)
}

fn priority(scheduling: &Scheduling) -> Finding {
    let Scheduling { nice, policy, affinity: _, io: _, oom_score_adj } = scheduling;
    let realtime = matches!(policy, Some(SchedulingPolicy::Fifo(_) | SchedulingPolicy::RoundRobin(_)));
    let (open, note) = match (realtime, nice, oom_score_adj) {
        (true, ..) => (WIDE, "realtime"),
        (_, Some(..0), _) => (5, "before others, by its nice value"),
        (.., Some(..0)) => (5, "spared when memory runs out"),
        _ => (0, "no better than others"),
    };
    Finding::new(Check::Priority, open, note)
}

fn management(role: Option<Role>) -> Finding {
    let (open, note) = match role {
        None => (0, "nothing"),
        Some(Role::View) => (3, "it may look"),
        Some(Role::Operate) => (7, "it may start, stop and restart services"),
        Some(Role::Admin) => (WIDE, "everything: it runs any program as watt's user"),
    };
    Finding::new(Check::Management, open, note)
}

fn control_groups(standing: &Standing<'_>) -> Finding {
    let best = standing.plan.control.iter().max_by_key(|(_, role)| **role);
    let (open, note) = match best {
        None => (0, "root and watt's user alone".to_owned()),
        Some((group, Role::View)) => (0, format!("{group} may look")),
        Some((group, Role::Operate)) => (5, format!("{group} may operate")),
        Some((group, Role::Admin)) => {
            (WIDE, format!("{group} may do everything, and run any program as watt's user"))
        }
    };
    Finding::new(Check::ControlSocket, open, note)
}

/// An amount of memory as the configuration writes it.
pub(super) fn bytes(bytes: u64) -> String {
    let units = [(1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    let unit = units.into_iter().find(|(size, _)| bytes >= *size && bytes.is_multiple_of(*size));
    unit.map_or_else(|| bytes.to_string(), |(size, unit)| format!("{}{unit}", bytes / size))
}

/// An amount of CPU as the configuration writes it.
pub(super) fn millis(millis: u32) -> String {
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
