//! What differs between two plans, and what each difference takes: the one place that knows what of a running application can
//! change, and how.
//!
//! A service's processes are started from its part of the plan, so what goes into a start takes new workers ([`Effect::NewWorkers`]),
//! and what others do for it (the proxy, the kernel's limits, the daemon's own patience) does not. docs/lifecycle.md has the table
//! of [`FIELDS`], held by a test.

use std::collections::BTreeMap;

use crate::{
    ServiceId,
    plan::{self, Limits, Network, Plan, ReadyWhen, Service, Traffic},
};

/// What a difference takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// It holds at once, for what runs as well.
    InPlace,
    /// It holds from now on: for the next start, exit or stop.
    FromNowOn,
    /// Workers are added, or the last ones are stopped.
    WorkerCount,
    /// The listener for clients is bound anew.
    Listener,
    /// Running workers are replaced by new ones.
    NewWorkers,
    /// It cannot be had while the application runs.
    Restart,
}

/// Something of a plan that may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the keys of the configuration are their documentation")]
pub enum Field {
    Name,
    File,
    Server,
    Proxies,
    Tls,
    ClientBounds,
    ToHttps,
    Listeners,
    Groups,
    Routes,
    Policies,
    Hold,
    BodyRate,
    CacheStore,
    Reload,
    Logs,
    AccessLog,
    LogFolder,
    LogJournal,
    AppLimits,
    SecretSources,
    ControlGroups,
    Jobs,
    Path,
    Command,
    Env,
    UnsetEnv,
    Stdin,
    Workers,
    SlowStart,
    Listen,
    Protocol,
    Network,
    EgressAllow,
    EgressAtAll,
    HostPorts,
    DependsOn,
    Startup,
    ReadyWhen,
    Notify,
    ReadyTimeout,
    ReadyUpkeep,
    Health,
    Watchdog,
    RestartPolicy,
    Roll,
    Stop,
    Hooks,
    CgroupLimits,
    OomGroup,
    Rlimits,
    LimitsTotal,
    Pressure,
    Scheduling,
    Sandbox,
    Secrets,
    ManagementRole,
    ManagementAtAll,
    FdStore,
    Timeouts,
    Retries,
    Breaker,
    Bulkhead,
    Balance,
    Ejection,
    BodyLimit,
    RateLimit,
    Rules,
    Cache,
    OpenApi,
}

use Effect::{FromNowOn, InPlace, Listener, NewWorkers, WorkerCount};

/// Every field with the key of the configuration that it comes from, what it takes, and why, where that is not plain.
pub const FIELDS: [(Field, &str, Effect, &str); 70] = [
    (Field::Name, "name", Effect::Restart, "folders, cgroups and addresses have it"),
    (Field::File, "the configuration file", Effect::Restart, "the same file is read again"),
    (Field::Server, "server", Listener, "open connections stay"),
    (Field::Proxies, "server.proxy_protocol", InPlace, "for the next connection"),
    (
        Field::Tls,
        "server.tls",
        InPlace,
        "for the next connection; services that were not kept from a key get new workers",
    ),
    (
        Field::ClientBounds,
        "server.head_timeout, server.idle_timeout, server.head_limit, server.body_limit, server.body_rate",
        InPlace,
        "for the next connection",
    ),
    (Field::ToHttps, "server.redirect, server.redirect_port", InPlace, "for the next request"),
    (
        Field::Listeners,
        "gateway.listeners",
        Listener,
        "connections of those that stay where they are stay; those of one that goes end with the next answer",
    ),
    (Field::Groups, "groups", FromNowOn, "for the next failure"),
    (Field::Routes, "gateway.routes", InPlace, ""),
    (Field::Policies, "policies", InPlace, "for the next call"),
    (Field::Hold, "gateway.hold", InPlace, ""),
    (Field::BodyRate, "gateway.body_rate", InPlace, "for the next request"),
    (Field::CacheStore, "cache", InPlace, "what has no room any longer is removed"),
    (Field::Reload, "reload", InPlace, ""),
    (Field::Logs, "logs.file_size, logs.files", InPlace, ""),
    (Field::AccessLog, "logs.access", InPlace, "for the next request"),
    (Field::LogFolder, "logs.dir", Effect::Restart, "lines that were written stay readable"),
    (Field::LogJournal, "logs.journal", Effect::Restart, ""),
    (Field::AppLimits, "limits", InPlace, "of the application as a whole"),
    (Field::SecretSources, "secrets", InPlace, "services whose values are others get new workers"),
    (Field::ControlGroups, "control.groups", InPlace, "for the next request"),
    (Field::Jobs, "jobs", InPlace, "for the next firing; what is under way goes on"),
    (Field::Path, "services.NAME.path", NewWorkers, ""),
    (Field::Command, "services.NAME.command", NewWorkers, ""),
    (Field::Env, "services.NAME.env", NewWorkers, ""),
    (Field::UnsetEnv, "services.NAME.unset_env", NewWorkers, ""),
    (Field::Stdin, "services.NAME.stdin", NewWorkers, ""),
    (Field::Workers, "services.NAME.workers", WorkerCount, ""),
    (Field::SlowStart, "services.NAME.slow_start", InPlace, ""),
    (Field::Listen, "services.NAME.listen", NewWorkers, ""),
    (Field::Protocol, "services.NAME.protocol", InPlace, "for the next request"),
    (Field::Network, "services.NAME.network", NewWorkers, ""),
    (Field::EgressAllow, "services.NAME.egress.allow", InPlace, "for the next connection"),
    (Field::EgressAtAll, "services.NAME.egress.allow", NewWorkers, "to an empty list, or from one"),
    (
        Field::HostPorts,
        "services.NAME.egress.host_ports",
        NewWorkers,
        "they are bound in the worker's network",
    ),
    (Field::DependsOn, "services.NAME.depends_on", FromNowOn, ""),
    (Field::Startup, "services.NAME.startup", FromNowOn, "for the next start"),
    (Field::ReadyWhen, "services.NAME.ready", FromNowOn, "for the next start, and for the next check"),
    (Field::Notify, "services.NAME.ready", NewWorkers, "to `notify` or `notification_fd`, or from them"),
    (Field::ReadyTimeout, "services.NAME.ready.timeout", FromNowOn, "for the next start"),
    (Field::ReadyUpkeep, "services.NAME.ready", InPlace, "`interval` and `failures`"),
    (Field::Health, "services.NAME.health", InPlace, ""),
    (
        Field::Watchdog,
        "services.NAME.health.watchdog",
        NewWorkers,
        "they are told how often to say that they live",
    ),
    (Field::RestartPolicy, "services.NAME.restart", FromNowOn, "for the next exit"),
    (Field::Roll, "services.NAME.roll", FromNowOn, "also for the replacement that the same reload begins"),
    (Field::Stop, "services.NAME.stop", FromNowOn, "for the next stop, also of what runs"),
    (Field::Hooks, "services.NAME.hooks", FromNowOn, "for the next start, stop or failure"),
    (Field::CgroupLimits, "services.NAME.limits", InPlace, "of memory, CPU, processes and disks"),
    (Field::OomGroup, "services.NAME.limits.oom_group", InPlace, ""),
    (Field::Rlimits, "services.NAME.limits", NewWorkers, "those of setrlimit(2), such as `nofile`"),
    (Field::LimitsTotal, "services.NAME.limits_total", InPlace, ""),
    (Field::Pressure, "services.NAME.pressure", InPlace, ""),
    (Field::Scheduling, "services.NAME.scheduling", NewWorkers, ""),
    (Field::Sandbox, "services.NAME.sandbox", NewWorkers, ""),
    (Field::Secrets, "services.NAME.secrets", NewWorkers, ""),
    (Field::ManagementRole, "services.NAME.management", InPlace, "for the next request"),
    (
        Field::ManagementAtAll,
        "services.NAME.management",
        NewWorkers,
        "to a role where there was none, or to none",
    ),
    (Field::FdStore, "services.NAME.fd_store", NewWorkers, "they are told how many"),
    (Field::Timeouts, "services.NAME.timeouts", InPlace, "for the next request"),
    (Field::Retries, "services.NAME.retries", InPlace, "for the next request"),
    (Field::Breaker, "services.NAME.breaker", InPlace, "for the next request"),
    (Field::Bulkhead, "services.NAME.bulkhead", InPlace, "for the next request"),
    (Field::Balance, "services.NAME.balance", InPlace, "for the next request"),
    (Field::Ejection, "services.NAME.ejection", InPlace, "for the next request; who is out stays out"),
    (Field::BodyLimit, "services.NAME.body_limit", InPlace, "for the next request"),
    (
        Field::RateLimit,
        "services.NAME.rate_limit",
        InPlace,
        "for the next request; what was counted under a name stays",
    ),
    (Field::Rules, "services.NAME.rules", InPlace, "for the next request"),
    (
        Field::Cache,
        "services.NAME.cache",
        InPlace,
        "for the next request; what was stored under other rules is removed",
    ),
    (Field::OpenApi, "services.NAME.openapi", InPlace, "the description of all is made anew"),
];

impl Field {
    /// What it takes.
    pub fn effect(self) -> Effect {
        self.row().2
    }

    /// The key, without the service's name: `limits`, `egress.allow`.
    pub fn key(self) -> &'static str {
        let key = self.row().1;
        key.strip_prefix("services.NAME.").unwrap_or(key)
    }

    fn row(self) -> (Field, &'static str, Effect, &'static str) {
        // The table is in the order of the fields, which a test holds.
        FIELDS[self as usize]
    }
}

/// What differs of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceDiff {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// These are others; at least one.
    Changed(Vec<Field>),
}

/// What differs between two plans.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Of the application.
    pub app: Vec<Field>,
    /// By service; those that are the same are left out.
    pub services: BTreeMap<ServiceId, ServiceDiff>,
}

impl Diff {
    /// What `new` has other than `old`.
    pub fn between(old: &Plan, new: &Plan) -> Diff {
        let mut services = BTreeMap::new();
        for (id, service) in &new.services {
            match old.services.get(id) {
                None => drop(services.insert(id.clone(), ServiceDiff::Added)),
                Some(before) => {
                    let fields = of_service(before, service);
                    if !fields.is_empty() {
                        services.insert(id.clone(), ServiceDiff::Changed(fields));
                    }
                }
            }
        }
        let removed = old.services.keys().filter(|id| !new.services.contains_key(*id));
        services.extend(removed.map(|id| (id.clone(), ServiceDiff::Removed)));
        Diff { app: of_app(old, new), services }
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.app.is_empty() && self.services.is_empty()
    }

    /// What cannot be had while the application runs.
    pub fn impossible(&self) -> impl Iterator<Item = Field> {
        self.app.iter().copied().filter(|field| field.effect() == Effect::Restart)
    }

    /// Whether a service's workers have to be replaced.
    pub fn needs_new_workers(&self, service: &ServiceId) -> bool {
        match self.services.get(service) {
            Some(ServiceDiff::Changed(fields)) => {
                fields.iter().any(|field| field.effect() == Effect::NewWorkers)
            }
            Some(ServiceDiff::Added | ServiceDiff::Removed) | None => false,
        }
    }
}

/// Fields that are said to differ where `differs`.
struct Found(Vec<Field>);

impl Found {
    fn note(&mut self, field: Field, differs: bool) {
        if differs {
            self.0.push(field);
        }
    }
}

fn of_app(old: &Plan, new: &Plan) -> Vec<Field> {
    // Taken apart, so that something new in a plan cannot be forgotten here.
    let Plan {
        name,
        file,
        root,
        listeners: _,
        services: _,
        groups,
        routes,
        policies,
        hold,
        body_rate_min,
        cache,
        reload_on_change,
        logs,
        limits,
        secrets,
        control,
        jobs,
    } = new;
    let mut found = Found(Vec::new());
    found.note(Field::Name, old.name != *name);
    found.note(Field::File, old.file != *file || old.root != *root);
    of_listeners(old, new, &mut found);
    found.note(Field::Groups, old.groups != *groups);
    found.note(Field::Routes, old.routes != *routes);
    found.note(Field::Policies, old.policies != *policies);
    found.note(Field::Hold, old.hold != *hold);
    found.note(Field::BodyRate, old.body_rate_min != *body_rate_min);
    found.note(Field::CacheStore, old.cache != *cache);
    found.note(Field::Reload, old.reload_on_change != *reload_on_change);
    let sizes = (old.logs.file_size_max, old.logs.files_max);
    found.note(Field::Logs, sizes != (logs.file_size_max, logs.files_max));
    found.note(Field::LogFolder, old.logs.dir != logs.dir);
    found.note(Field::AccessLog, old.logs.access != logs.access);
    found.note(Field::LogJournal, old.logs.journal != logs.journal);
    found.note(Field::AppLimits, old.limits != *limits);
    found.note(Field::SecretSources, old.secrets != *secrets);
    found.note(Field::ControlGroups, old.control != *control);
    found.note(Field::Jobs, old.jobs != *jobs);
    found.0
}

fn of_listeners(old: &Plan, new: &Plan, found: &mut Found) {
    let at = |plan: &Plan| plan.server().map(|server| server.at.clone());
    found.note(Field::Server, at(old) != at(new));
    // With the listener as a whole they come and go.
    if let (Some(old), Some(new)) = (old.server(), new.server()) {
        let plan::Listener { at: _, tls, proxies, bounds, to_https, routes } = new;
        found.note(Field::Tls, old.tls != *tls);
        found.note(Field::Proxies, old.proxies != *proxies);
        found.note(Field::ClientBounds, old.bounds != *bounds);
        found.note(Field::ToHttps, old.to_https != *to_https || old.routes != *routes);
    }
    found.note(Field::Listeners, old.other_listeners() != new.other_listeners());
}

fn of_service(old: &Service, new: &Service) -> Vec<Field> {
    let Service {
        id: _,
        path,
        command,
        env,
        unset_env,
        stdin,
        workers,
        slow_start,
        listen,
        protocol,
        network,
        egress,
        depends_on,
        startup,
        ready,
        health: _,
        restart,
        roll,
        stop,
        hooks,
        limits,
        limits_total,
        pressure,
        scheduling,
        sandbox,
        secrets,
        management,
        fd_store,
        timeouts,
        traffic,
        guard,
        cache,
        openapi,
    } = new;
    let mut found = Found(Vec::new());
    found.note(Field::Path, old.path != *path);
    found.note(Field::Command, old.command != *command);
    found.note(Field::Env, old.env != *env);
    found.note(Field::UnsetEnv, old.unset_env != *unset_env);
    found.note(Field::Stdin, old.stdin != *stdin);
    found.note(Field::Workers, old.workers != *workers);
    found.note(Field::SlowStart, old.slow_start != *slow_start);
    found.note(Field::Listen, old.listen != *listen);
    found.note(Field::Protocol, old.protocol != *protocol);
    found.note(Field::Network, old.network != *network);
    of_egress(old, new, &mut found);
    found.note(Field::HostPorts, old.egress.host_ports != egress.host_ports);
    found.note(Field::DependsOn, old.depends_on != *depends_on);
    found.note(Field::Startup, old.startup != *startup);
    of_readiness(old, new, &mut found);
    found.note(Field::ReadyTimeout, old.ready.timeout != ready.timeout);
    found.note(Field::ReadyUpkeep, old.ready.upkeep != ready.upkeep);
    found.note(Field::RestartPolicy, old.restart != *restart);
    found.note(Field::Roll, old.roll != *roll);
    found.note(Field::Stop, old.stop != *stop);
    found.note(Field::Hooks, old.hooks != *hooks);
    of_limits(&old.limits, limits, &mut found);
    found.note(Field::LimitsTotal, old.limits_total != *limits_total);
    found.note(Field::Pressure, old.pressure != *pressure);
    found.note(Field::Scheduling, old.scheduling != *scheduling);
    found.note(Field::Sandbox, old.sandbox != *sandbox);
    found.note(Field::Secrets, old.secrets != *secrets);
    let at_all = old.management.is_some() != management.is_some();
    found.note(Field::ManagementRole, !at_all && old.management != *management);
    found.note(Field::ManagementAtAll, at_all);
    found.note(Field::FdStore, old.fd_store != *fd_store);
    found.note(Field::Timeouts, old.timeouts != *timeouts);
    let Traffic { retries, breaker, bulkhead, balance, ejection } = &**traffic;
    found.note(Field::Retries, old.traffic.retries != *retries);
    found.note(Field::Breaker, old.traffic.breaker != *breaker);
    found.note(Field::Bulkhead, old.traffic.bulkhead != *bulkhead);
    found.note(Field::Balance, old.traffic.balance != *balance);
    found.note(Field::Ejection, old.traffic.ejection != *ejection);
    found.note(Field::BodyLimit, old.guard.body_max != guard.body_max);
    found.note(Field::RateLimit, old.guard.limits != guard.limits);
    found.note(Field::Rules, old.guard.rules != guard.rules);
    found.note(Field::Cache, old.cache != *cache);
    found.note(Field::OpenApi, old.openapi != *openapi);
    found.0
}

/// A worker whose list is empty has neither a route nor a listener for the way out.
fn of_egress(old: &Service, new: &Service, found: &mut Found) {
    let (before, after) = (&old.egress.allow, &new.egress.allow);
    let is_none = |rules: &Option<Vec<_>>| rules.as_ref().is_some_and(Vec::is_empty);
    let at_all = new.network == Network::Private && is_none(before) != is_none(after);
    found.note(Field::EgressAllow, !at_all && before != after);
    found.note(Field::EgressAtAll, at_all);
}

/// A worker that is to say that it is ready, or that it lives, is told where and how often.
fn of_readiness(old: &Service, new: &Service, found: &mut Found) {
    let differs = old.ready.when != new.ready.when;
    let is_told = |when: &ReadyWhen| matches!(when, ReadyWhen::Notify | ReadyWhen::NotificationFd(_));
    let told = is_told(&old.ready.when) || is_told(&new.ready.when);
    found.note(Field::ReadyWhen, differs && !told);
    found.note(Field::Notify, differs && told);
    let watchdog = old.watchdog() != new.watchdog();
    found.note(Field::Health, !watchdog && old.health != new.health);
    found.note(Field::Watchdog, watchdog);
}

fn of_limits(old: &Limits, new: &Limits, found: &mut Found) {
    let Limits { cgroup, oom_group, rlimits } = new;
    found.note(Field::CgroupLimits, old.cgroup != *cgroup);
    found.note(Field::OomGroup, old.oom_group != *oom_group);
    found.note(Field::Rlimits, old.rlimits != *rlimits);
}

#[cfg(test)]
mod tests;
