//! The diff against a model: a plan to which single things were done.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::{
    AppName,
    plan::{Listener, *},
    sandbox::{Profile, Sandbox},
    testing::{id, job, plan, service},
};

fn server(plan: &mut Plan) -> &mut Listener {
    plan.listeners.get_mut(Listener::SERVER).unwrap()
}

/// Does to a plan what this field stands for, so that it differs from before in nothing else.
fn change(plan: &mut Plan, of: &ServiceId, field: Field) {
    let route = Route::prefix("/", of.clone());
    let Some(service) = plan.services.get_mut(of) else { return };
    match field {
        Field::Name => plan.name = AppName::new("other").unwrap(),
        Field::File => plan.file = "/srv/other.yaml".into(),
        Field::Server => {
            let at = ListenAt::Tcp { hostname: [127, 0, 0, 1].into(), port: 0 };
            plan.listeners
                .entry(Listener::SERVER.into())
                .and_modify(|server| server.at = at)
                .or_insert_with(|| Listener::tcp([127, 0, 0, 1].into(), 0));
        }
        Field::Proxies => server(plan).proxies.push(([10, 0, 0, 0].into(), 8)),
        Field::Tls => {
            let tls = Tls { certificates: Vec::new(), clients: None, version_min: TlsVersion::V1_3 };
            server(plan).tls = Some(tls);
        }
        Field::ClientBounds => server(plan).bounds.head_max -= 1,
        Field::ToHttps => server(plan).to_https = Some(ToHttps { port: Some(443) }),
        Field::Listeners => {
            let other = Listener::tcp([127, 0, 0, 1].into(), 9000);
            drop(plan.listeners.insert("admin".into(), other));
        }
        Field::Groups => {
            let strategy = GroupStrategy::OneForAll;
            let group = Group { services: Vec::new(), strategy, give_up: None };
            drop(plan.groups.insert("x".into(), group));
        }
        Field::Routes => plan.routes.push(route),
        Field::Policies => plan.policies.push(Policy { from: of.clone(), to: of.clone() }),
        Field::Hold => plan.hold.requests_max += 1,
        Field::BodyRate => plan.body_rate_min += 1,
        Field::CacheStore => plan.cache.bytes_max += 1,
        Field::Reload => plan.reload_on_change = !plan.reload_on_change,
        Field::Logs => plan.logs.files_max += 1,
        Field::AccessLog => {
            let access = AccessLog { mesh: false, percent: 100, headers: Vec::new(), query: false };
            plan.logs.access = Some(access);
        }
        Field::LogFolder => plan.logs.dir = Some("/var/log/shop".into()),
        Field::LogJournal => plan.logs.journal = Some(true),
        Field::AppLimits => plan.limits.pids = Some(7),
        Field::SecretSources => drop(plan.secrets.insert("db".into(), Secret::File("/db".into()))),
        Field::ControlGroups => drop(plan.control.insert("ops".into(), Role::View)),
        Field::Jobs => {
            let job = job(of.as_str());
            plan.jobs.insert(job.id.clone(), job);
        }
        Field::Path => service.path = "/srv".into(),
        Field::Command => service.command.push("again".into()),
        Field::Env => drop(service.env.insert("A".into(), "b".into())),
        Field::UnsetEnv => {
            service.unset_env.insert("A".into());
        }
        Field::Stdin => service.stdin = Some("/dev/null".into()),
        Field::Workers => service.workers = Workers::Fixed(service.workers.first().saturating_add(1)),
        Field::SlowStart => service.slow_start = Some(Duration::from_secs(9)),
        Field::Listen => service.listen = Listen::Unix,
        Field::Protocol => service.protocol = Protocol::H2c,
        Field::Network => service.network = Network::Host,
        Field::EgressAllow => {
            let to = EgressRule { to: Destination::Anywhere, port: None };
            service.egress.allow = Some(vec![to]);
        }
        Field::EgressAtAll => service.egress.allow = Some(Vec::new()),
        Field::HostPorts => drop(service.egress.host_ports.insert(5432)),
        Field::DependsOn => drop(service.depends_on.insert(id("z"), Condition::Ready.into())),
        Field::Startup => {
            service.startup = Some(Startup { check: Check::Tcp, timeout: Duration::from_secs(1) });
        }
        Field::ReadyWhen => service.ready.when = ReadyWhen::Check(Check::Tcp),
        Field::ReadyUpkeep => service.ready.upkeep = Some(Rhythm::default()),
        Field::Health => service.health = Some(Health::Check(Check::Tcp, Rhythm::default())),
        Field::Watchdog => service.health = Some(Health::Watchdog(Duration::from_secs(1))),
        Field::Notify => service.ready.when = ReadyWhen::Notify,
        Field::ReadyTimeout => service.ready.timeout += Duration::from_secs(1),
        Field::RestartPolicy => service.restart.give_up_failures += 1,
        Field::Roll => service.roll.min_healthy += Duration::from_secs(1),
        Field::Stop => service.stop.signal = 2,
        Field::Hooks => {
            let hook = Hook { act: HookAct::Command(vec!["x".into()]), timeout: Duration::from_secs(1) };
            drop(service.hooks.insert(HookPoint::PreStart, hook));
        }
        Field::CgroupLimits => service.limits.cgroup.memory = Some(1 << 20),
        Field::OomGroup => service.limits.oom_group ^= true,
        Field::Rlimits => {
            let value = RlimitValue { soft: 1, hard: 1 };
            service.limits.rlimits.insert(Rlimit::Nofile, value);
        }
        Field::LimitsTotal => service.limits_total.pids = Some(5),
        Field::Pressure => {
            service.pressure.tell.insert(Resource::Cpu, Duration::from_millis(200));
        }
        Field::Scheduling => service.scheduling.nice = Some(3),
        Field::Sandbox => service.sandbox = Sandbox::of(Profile::Strict).into(),
        Field::Secrets => drop(service.secrets.insert("key".into(), "db".into())),
        Field::ManagementRole => service.management = Some(Role::Admin),
        Field::ManagementAtAll => service.management = Some(Role::View),
        Field::FdStore => service.fd_store += 1,
        Field::Timeouts => service.timeouts.idle += Duration::from_secs(1),
        Field::Retries => service.traffic.retries.attempts += 1,
        Field::Breaker => {
            service.traffic.breaker = Some(Breaker {
                failures: None,
                ratio_percent: 50,
                requests_min: 1,
                window: Duration::from_secs(1),
                open: Duration::from_secs(1),
                probes: 1,
                on: Vec::new(),
            });
        }
        Field::Bulkhead => {
            service.traffic.bulkhead = Some(Bulkhead {
                in_flight_max: 1,
                queue_max: 1,
                queue_timeout: Duration::from_secs(1),
                believes: Believed::Nobody,
            });
        }
        Field::Balance => service.traffic.balance = Balance::RoundRobin,
        Field::Ejection => service.traffic.ejection = Some(Ejection::default()),
        Field::BodyLimit => service.guard.body_max = Some(1 << 20),
        Field::Rules => service.guard.rules.push(AccessRule {
            allows: true,
            methods: Vec::new(),
            path: None,
            roles: Vec::new(),
            users: Vec::new(),
            claims: Default::default(),
            callers: vec![Caller::Gateway],
            certificate: None,
        }),
        Field::RateLimit => service.guard.limits.push(RateLimit {
            name: "x".into(),
            of_gateway: false,
            requests: std::num::NonZeroU64::MIN,
            per: Duration::from_secs(1),
            burst: std::num::NonZeroU64::MIN,
            header: None,
            by: CountedBy::Everyone,
        }),
        Field::OpenApi => {
            service.openapi = Some(Description {
                from: DescribedBy::Path("/openapi.json".into()),
                base: String::new(),
                refresh: None,
                ignore: Vec::new(),
                rename: BTreeMap::new(),
            });
        }
        Field::Cache => {
            service.cache = Some(Cache {
                head: true,
                entry_max: 1,
                ttl: None,
                heuristic_percent: 0,
                stale_while_revalidate: Duration::ZERO,
                stale_if_error: Duration::ZERO,
                vary: Vec::new(),
                tags: "cache-tag".into(),
                cookies: CacheCookies::Refuse,
                believes: Believed::Services,
            });
        }
    }
}

/// Two ways to do a thing to one place, and what depends on another choice: of these only one at a time says what it is.
fn excludes(field: Field) -> &'static [Field] {
    match field {
        Field::EgressAllow => &[Field::EgressAtAll, Field::Network],
        Field::EgressAtAll => &[Field::EgressAllow, Field::Network],
        Field::Network => &[Field::EgressAllow, Field::EgressAtAll],
        Field::ReadyWhen => &[Field::Notify],
        Field::Notify => &[Field::ReadyWhen],
        Field::Health => &[Field::Watchdog],
        Field::Watchdog => &[Field::Health],
        // A role is changed where there is one.
        Field::ManagementRole => &[Field::ManagementAtAll],
        Field::ManagementAtAll => &[Field::ManagementRole],
        _ => &[],
    }
}

fn fields() -> impl Strategy<Value = BTreeSet<Field>> {
    prop::collection::vec(0..FIELDS.len(), 0..8).prop_map(|indexes| {
        let mut chosen = BTreeSet::new();
        for field in indexes.into_iter().map(|index| FIELDS[index].0) {
            if !excludes(field).iter().any(|other| chosen.contains(other)) {
                chosen.insert(field);
            }
        }
        chosen
    })
}

proptest! {
    #[test]
    fn what_was_done_to_a_plan_is_what_differs(chosen in fields(), added: bool, removed: bool) {
        let mut old = plan(["api", "old", "web"].map(service));
        // So that a role can be another one.
        let has_role = chosen.contains(&Field::ManagementRole);
        old.services.get_mut(&id("api")).unwrap().management = has_role.then_some(Role::View);
        // So that there is something that it can be spoken at.
        let of_server = [Field::Tls, Field::Proxies, Field::ClientBounds, Field::ToHttps];
        if of_server.iter().any(|field| chosen.contains(field)) {
            old.listeners.insert(Listener::SERVER.into(), Listener::tcp([127, 0, 0, 2].into(), 0));
        }
        let mut new = old.clone();
        for field in &chosen {
            change(&mut new, &id("api"), *field);
        }
        if added {
            new.services.insert(id("new"), service("new"));
        }
        if removed {
            new.services.remove(&id("old"));
        }
        let diff = Diff::between(&old, &new);
        let is_app = |field: &Field| *field <= Field::Jobs;
        let (app, service): (BTreeSet<Field>, BTreeSet<Field>) = chosen.iter().partition(|field| is_app(field));
        prop_assert_eq!(diff.app.iter().copied().collect::<BTreeSet<_>>(), app);
        let found = match diff.services.get(&id("api")) {
            Some(ServiceDiff::Changed(fields)) => fields.iter().copied().collect(),
            other => { prop_assert_eq!(other, None); BTreeSet::new() }
        };
        let needs = service.iter().any(|field| field.effect() == Effect::NewWorkers);
        prop_assert_eq!(diff.needs_new_workers(&id("api")), needs);
        prop_assert_eq!(found, service);
        prop_assert_eq!(diff.services.get(&id("new")), added.then_some(&ServiceDiff::Added));
        prop_assert_eq!(diff.services.get(&id("old")), removed.then_some(&ServiceDiff::Removed));
        prop_assert_eq!(diff.services.get(&id("web")), None);
        prop_assert_eq!(diff.is_empty(), chosen.is_empty() && !added && !removed);
        prop_assert_eq!(Diff::between(&new, &new), Diff::default());
    }
}

#[test]
fn the_table_is_in_the_order_of_the_fields() {
    for (index, (field, ..)) in FIELDS.iter().enumerate() {
        assert_eq!(*field as usize, index, "{field:?}");
        assert_eq!(field.effect(), FIELDS[index].2);
    }
}
