//! What the mesh proxy has to know, from the plan and the fleet's state. Pure.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use watt_api::mesh::{self, Endpoint, Outlook, Snapshot, WorkerState};
use watt_certificates::Certificates;
use watt_core::{
    RunId, ServiceId, WorkerId,
    fleet::{Fleet, Goal, Selection, Verdict},
    plan::{self, Destination, EgressRule, Listen, Plan, Policy, Scaling, Service},
    worker::{AfterStop, State, Wanted, Worker},
};

use crate::{
    gateway::{AllBound, Bound},
    routes, tls, upstreams, words,
};

pub(crate) mod cache;
pub(crate) mod guard;
mod traffic;

/// The port of DNS (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;

/// The most name servers a resolver looks at: MAXNS of resolv.conf(5).
const RESOLVERS_MAX: usize = 3;

/// What is known of a run besides its state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFacts {
    /// Where it accepts, once that is known.
    pub endpoint: Option<Endpoint>,
    /// The id of its cgroup in the v2 hierarchy.
    pub cgroup: Option<u64>,
    /// Its main process, while there is one.
    pub pid: Option<u32>,
    /// Whether it has said that it stops.
    pub is_stopping: bool,
}

/// What a snapshot is made of.
pub struct Sources<'a> {
    /// The application.
    pub plan: &'a Plan,
    /// Each service's own address.
    pub addresses: &'a BTreeMap<ServiceId, Ipv4Addr>,
    /// The state of its workers.
    pub fleet: &'a Fleet,
    /// What is known of a run.
    pub facts: &'a dyn Fn(RunId) -> RunFacts,
    /// The tasks of a service: they take no requests, and make some.
    pub tasks: &'a dyn Fn(&ServiceId) -> Vec<mesh::Worker>,
    /// The files of certificates, keys and credentials that the plan names.
    pub certificates: &'a Certificates,
    /// The gateway's listeners.
    pub(crate) bound: &'a AllBound,
    /// Where the proxy gets what was counted, for collectors.
    pub metrics: &'a Path,
    /// Whether services have addresses of their own: packets are redirected in private networks.
    pub redirect: bool,
    /// Name servers of the host, see [`resolvers`].
    pub resolvers: &'a [SocketAddr],
    /// The time, for how long a failed service stays so.
    pub now: Instant,
}

/// The snapshot with this version.
pub fn snapshot(sources: &Sources<'_>, version: u64) -> Snapshot {
    let verdicts = sources.fleet.verdicts(&Selection::All, Goal::Up);
    let service = |(id, plan): (&ServiceId, &Service)| {
        let service = mesh::Service {
            address: sources.addresses.get(id).copied().filter(|_| sources.redirect),
            workers: workers(sources, id).into_iter().chain((sources.tasks)(id)).collect(),
            outlook: outlook(sources, plan, verdicts.get(id)),
            callers: callers(&sources.plan.policies, id),
            // The listeners for the mesh and the way out are safe: they refuse what was not redirected to them.
            reserved_ports: plan.egress.host_ports.iter().copied().chain([DNS_PORT]).collect(),
            protocol: protocol(plan.protocol),
            egress: plan.egress.allow.as_ref().map(|rules| rules.iter().map(egress_rule).collect()),
            connect_timeout_ms: millis(plan.timeouts.connect),
            first_byte_timeout_ms: millis(plan.timeouts.first_byte),
            idle_timeout_ms: millis(plan.timeouts.idle),
            hold_timeout_ms: millis(sources.plan.hold.timeout),
            hold_requests_max: sources.plan.hold.requests_max,
            slow_start_ms: plan.slow_start.map_or(0, millis),
            measured: plan.workers.scaling().is_some_and(Scaling::needs_proxy),
            traffic: traffic::of(plan).into(),
            guard: guard::of_service(plan).into(),
            upstream: None,
            cache: plan.cache.as_ref().map(|cache| Box::new(cache::of(cache))),
        };
        (id.to_string(), service)
    };
    let services = sources.plan.services.iter().map(service).chain(upstreams::of_plan(
        sources.plan,
        sources.certificates,
        sources.metrics,
    ));
    let (routes, narrow_routes) = Snapshot::part_routes(routes::of_plan(sources.plan));
    Snapshot {
        version,
        app: sources.plan.name.to_string(),
        services: services.collect(),
        routes,
        narrow_routes,
        resolvers: sources.resolvers.to_vec(),
        auths: guard::auths(sources.plan, sources.certificates),
        body_rate_min: sources.plan.body_rate_min,
        access_log: sources.plan.logs.access.as_ref().map(access_log),
        cache: cache::limits(sources.plan),
        listeners: listeners(sources),
        edges: true,
    }
}

fn listeners(sources: &Sources<'_>) -> BTreeMap<String, mesh::Listener> {
    let listener = |(name, bound): (&String, &Bound)| {
        let listener = sources.plan.listeners.get(name)?;
        let told = mesh::Listener {
            name: name.clone(),
            routes: listener.routes.as_ref().map(|own| routes::of_listener(name, own)),
            to_https: listener.to_https.map(|to| tls::to_https(to, sources.plan, sources.bound)),
            ..tls::listener(listener, sources.certificates)
        };
        Some((tls::listener_name(bound.number), told))
    };
    sources.bound.iter().filter_map(listener).collect()
}

fn access_log(access: &plan::AccessLog) -> mesh::AccessLog {
    let plan::AccessLog { mesh, percent, headers, query } = access.clone();
    mesh::AccessLog { mesh, percent, headers, query }
}

fn egress_rule(rule: &EgressRule) -> mesh::EgressRule {
    let to = match &rule.to {
        Destination::Anywhere => mesh::Destination::Anywhere,
        Destination::Name(name) => mesh::Destination::Name { name: name.clone() },
        Destination::Network(address, bits) => mesh::Destination::Network { address: *address, bits: *bits },
    };
    mesh::EgressRule { to, port: rule.port }
}

/// The host's name servers, from the text of its `/etc/resolv.conf`. resolv.conf(5): no entry means the local machine. Addresses
/// with the name of an interface in them are left out; only the host could say what they mean.
pub fn resolvers(resolv_conf: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let is_server = words.next() == Some("nameserver");
        let address = words.next().filter(|_| is_server)?.parse::<IpAddr>().ok()?;
        Some(SocketAddr::new(address, DNS_PORT))
    };
    let found: Vec<SocketAddr> = resolv_conf.lines().filter_map(server).take(RESOLVERS_MAX).collect();
    match found.is_empty() {
        true => vec![(Ipv4Addr::LOCALHOST, DNS_PORT).into()],
        false => found,
    }
}

/// The workers of a service that have processes. One that is stopping takes no requests, but may make some: it stays in the
/// table, so that it is known as a caller. When none is ready, those that are not ready any more get the requests after all: whatever
/// they answer is better than nothing, and what failed may be something that all of them depend on.
fn workers(sources: &Sources<'_>, id: &ServiceId) -> Vec<mesh::Worker> {
    let is_ready = |(_, worker): (&WorkerId, &Worker)| matches!(worker.state, State::Ready { .. });
    let none_is_ready = !sources.fleet.workers_of(id).any(is_ready);
    let worker = |(id, worker): (&WorkerId, &Worker)| {
        let drain_ms = |until: Instant| millis(until.saturating_duration_since(sources.now));
        let (run, state, drain_ms) = match worker.state {
            State::Unready { run, .. } if none_is_ready && !(sources.facts)(run).is_stopping => {
                (run, WorkerState::Ready, None)
            }
            // It will be ready again, like one that starts.
            State::Starting { run, .. } | State::Unready { run, .. } => (run, WorkerState::Starting, None),
            State::Ready { run, .. } => (run, WorkerState::Ready, None),
            State::Draining { run, until, .. } => (run, WorkerState::Draining, Some(drain_ms(until))),
            State::Stopping { run, .. } => (run, WorkerState::Draining, Some(0)),
            State::Down
            | State::Asleep
            | State::Waiting
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Completed { .. } => return None,
        };
        let RunFacts { endpoint, cgroup, pid, is_stopping: _ } = (sources.facts)(run);
        Some(mesh::Worker { run: run.0, index: id.index, endpoint, state, drain_ms, cgroup, pid })
    };
    sources.fleet.workers_of(id).filter_map(worker).collect()
}

/// What a request may hope for when no worker is ready.
fn outlook(sources: &Sources<'_>, plan: &Service, verdict: Option<&Verdict>) -> Outlook {
    let workers = || sources.fleet.workers_of(&plan.id).map(|(_, worker)| worker);
    if plan.listen == Listen::None {
        return Outlook::NotListening;
    }
    if workers().all(|worker| worker.wanted == Wanted::Down) {
        return Outlook::Stopped;
    }
    if workers().any(will_serve) {
        return Outlook::Coming;
    }
    if sources.fleet.will_sleep(&plan.id) {
        return Outlook::Asleep;
    }
    if let Some(Verdict::Blocked { on: (service, condition) }) = verdict {
        let reason = format!("waits for {service} to be {}", words::condition(*condition));
        return Outlook::Failed { reason, retry_after_s: None };
    }
    // What is left has failed, has completed, or is waiting and may still hope.
    workers().find_map(|worker| ended(sources.now, plan, worker)).unwrap_or(Outlook::Coming)
}

/// Whether a worker serves or will by itself, whatever becomes of others.
fn will_serve(worker: &Worker) -> bool {
    match &worker.state {
        State::Starting { .. } | State::Ready { .. } | State::Unready { .. } | State::Backoff { .. } => true,
        State::Draining { then, .. } | State::Stopping { then, .. } => {
            !matches!(then, AfterStop::Down | AfterStop::Sleep)
        }
        State::Down | State::Asleep | State::Waiting | State::Failed { .. } | State::Completed { .. } => {
            false
        }
    }
}

/// Why a worker does not serve any more, when that is so.
fn ended(now: Instant, plan: &Service, worker: &Worker) -> Option<Outlook> {
    match &worker.state {
        State::Failed { failures, retry_at } => {
            let exit = worker.record.last_exit.as_ref().map_or("failed".to_owned(), ToString::to_string);
            let reason = format!("{exit}, {}", words::times(failures.get(), plan.restart.give_up_within));
            let wait = retry_at.map(|at| at.saturating_duration_since(now));
            // Rounded up: a client that comes back exactly then must not be too early.
            let retry_after_s = wait.map(|wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0));
            Some(Outlook::Failed { reason, retry_after_s })
        }
        State::Completed { exit } => {
            Some(Outlook::Failed { reason: format!("completed: {exit}"), retry_after_s: None })
        }
        State::Down
        | State::Asleep
        | State::Waiting
        | State::Starting { .. }
        | State::Ready { .. }
        | State::Unready { .. }
        | State::Draining { .. }
        | State::Stopping { .. }
        | State::Backoff { .. } => None,
    }
}

/// Who may call a service: everybody, unless a policy names it.
fn callers(policies: &[Policy], id: &ServiceId) -> Option<Vec<String>> {
    let named: Vec<String> =
        policies.iter().filter(|policy| policy.to == *id).map(|policy| policy.from.to_string()).collect();
    (!named.is_empty()).then_some(named)
}

pub(crate) fn protocol(protocol: plan::Protocol) -> mesh::Protocol {
    match protocol {
        plan::Protocol::Http1 => mesh::Protocol::Http1,
        plan::Protocol::H2c => mesh::Protocol::H2c,
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
