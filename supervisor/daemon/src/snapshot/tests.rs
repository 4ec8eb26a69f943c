use std::{cell::RefCell, num::NonZeroU16, path::Path};

use watt_core::{
    WorkerId,
    fleet::{FleetEvent, Request},
    plan::{
        Condition, CountedBy, Files, Guard, HeaderRules, PathMatch, Protocol, RateLimit, RequestPart,
        RestartPolicy, RouteCondition, RouteFault, RouteTarget, ValueTest, Workers,
    },
    worker::{Event, ExitCause},
};

use super::*;
use crate::{gateway::Place, testing};

/// A plan and its fleet.
struct Bench {
    plan: Plan,
    fleet: Fleet,
    now: Instant,
}

impl Bench {
    fn new(services: &[&str], change: impl FnOnce(&mut Plan)) -> Bench {
        let mut plan = testing::plan(services);
        change(&mut plan);
        Bench {
            fleet: Fleet::new(&std::sync::Arc::new(plan.clone()), RunId(1), 0),
            plan,
            now: Instant::now(),
        }
    }

    fn request(&mut self, request: Request) {
        self.fleet.handle(self.now, FleetEvent::Request(request), &mut Vec::new());
    }

    /// What happens to the first worker's present run.
    fn tell(&mut self, service: &str, event: impl FnOnce(RunId) -> Event) {
        let worker = WorkerId::new(id(service), 0);
        let run = self.fleet.worker(&worker).and_then(Worker::run).unwrap();
        self.fleet.handle(self.now, FleetEvent::Worker(worker, event(run)), &mut Vec::new());
    }

    fn exit(&mut self, service: &str, status: i32) {
        self.tell(service, |run| Event::Exited(run, ExitCause::Exited(status)));
        self.tell(service, Event::Emptied);
    }

    fn snapshot(&self) -> Snapshot {
        self.snapshot_with(&|_| RunFacts::default())
    }

    fn snapshot_with(&self, facts: &dyn Fn(RunId) -> RunFacts) -> Snapshot {
        self.snapshot_of(&AllBound::new(), facts)
    }

    fn snapshot_of(&self, bound: &AllBound, facts: &dyn Fn(RunId) -> RunFacts) -> Snapshot {
        let resolvers = &[];
        snapshot(
            &Sources {
                certificates: &Default::default(),
                bound,
                plan: &self.plan,
                addresses: &crate::addresses::of_services(&self.plan, &Default::default()),
                fleet: &self.fleet,
                facts,
                tasks: &|_| Vec::new(),
                metrics: Path::new("/run/watt/shop/metrics.sock"),
                redirect: true,
                resolvers,
                now: self.now,
            },
            9,
        )
    }

    fn outlook(&self, service: &str) -> Outlook {
        self.snapshot().services[service].outlook.clone()
    }
}

#[test]
fn a_route_need_not_lead_to_one_service() {
    let bench = Bench::new(&["api", "web"], |plan| {
        let to = |target| watt_core::plan::Route { target, ..watt_core::plan::Route::prefix("/", id("api")) };
        let body = "x".to_owned();
        plan.routes = vec![
            to(RouteTarget::Split {
                shares: vec![(id("api"), 9), (id("web"), 1)],
                sticky: Some("canary".into()),
            }),
            to(RouteTarget::Redirect { status: 308, to: "/x".into() }),
            to(RouteTarget::Respond { status: 503, body: body.clone(), content_type: body }),
            to(RouteTarget::Files(Files {
                root: "/srv/shop/dist".into(),
                index: "index.html".into(),
                spa: None,
                cache_control: "no-cache".into(),
                precompressed: true,
                hidden: false,
            })),
        ];
        plan.routes[0].mirror = Some((id("web"), 5));
    });
    let routes = bench.snapshot().routes;
    assert!(routes.iter().all(|route| route.service.is_empty()), "no other proxy takes them for a service's");
    let share = |service: &str, weight| mesh::RouteShare { service: service.into(), weight };
    assert_eq!(routes[0].split, [share("api", 9), share("web", 1)]);
    assert_eq!(routes[0].sticky.as_deref(), Some("canary"));
    assert_eq!(routes[0].mirror, Some(mesh::RouteMirror { service: "web".into(), percent: 5 }));
    let files = routes[3].files.as_ref().expect("files");
    assert_eq!((&*files.root, &*files.folder, &*files.name), ("/srv/shop/dist", "/srv/shop", "dist"));
    assert_eq!(routes[1].answer, Some(mesh::RouteAnswer::Redirect { status: 308, to: "/x".into() }));
    let fixed = mesh::RouteAnswer::Fixed { status: 503, body: "x".into(), content_type: "x".into() };
    assert_eq!(routes[2].answer, Some(fixed));
}

#[test]
fn limits_are_known_by_their_name_and_place() {
    let limit = |of_gateway| RateLimit {
        name: "address".into(),
        of_gateway,
        requests: 5.try_into().unwrap(),
        per: Duration::from_secs(60),
        burst: 7.try_into().unwrap(),
        header: Some("x-tenant".into()),
        by: CountedBy::Service,
    };
    let ids = |order: &[&str]| {
        let bench = Bench::new(&["api"], |plan| {
            let route = |path: &&str| {
                let guard = Guard { limits: vec![limit(true), limit(false)], ..Guard::default() };
                watt_core::plan::Route { guard, ..watt_core::plan::Route::prefix(path, id("api")) }
            };
            plan.routes = order.iter().map(route).collect();
            plan.services.get_mut(&id("api")).unwrap().guard.limits = vec![limit(false)];
        });
        let snapshot = bench.snapshot();
        let mut ids: Vec<String> = Vec::new();
        for limit in snapshot.routes.iter().flat_map(|route| &route.guard.limits) {
            assert_eq!((limit.requests, limit.per_ms, limit.burst), (5, 60_000, 7));
            assert_eq!((limit.header.as_deref(), limit.by), (Some("x-tenant"), mesh::CountedBy::Service));
            ids.push(limit.id.clone());
        }
        ids.push(snapshot.services["api"].guard.limits[0].id.clone());
        ids
    };
    let [one, other] = [ids(&["/a", "/b"]), ids(&["/b", "/a"])];
    assert_eq!([&one[..2], &one[2..4], &one[4..]], [&other[2..4], &other[..2], &other[4..]]);
    assert_eq!(one[0], one[2], "all routes count what the gateway limits");
    assert_eq!(one.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "and all else apart: {one:?}");
}

fn id(name: &str) -> ServiceId {
    ServiceId::new(name).unwrap()
}

fn service<'a>(plan: &'a mut Plan, name: &str) -> &'a mut Service {
    plan.services.get_mut(&id(name)).unwrap()
}

const ALL: Selection = Selection::All;

/// A rule as it was before there were methods, conditions and ways to mean a path: what is not here was ignored.
#[derive(Debug, PartialEq, serde::Deserialize)]
struct FirstRoute {
    path: String,
    host: Option<String>,
    service: String,
}

#[derive(serde::Deserialize)]
struct FirstSnapshot {
    routes: Vec<FirstRoute>,
}

#[test]
fn an_older_proxy_takes_nothing_that_a_route_excludes() {
    use watt_core::plan::Route;
    let bench = Bench::new(&["api"], |plan| {
        let header = RouteCondition {
            part: RequestPart::Header,
            name: "x-key".into(),
            test: ValueTest::Is("secret".into()),
        };
        let route = |path: &str| Route::prefix(path, id("api"));
        plan.routes = vec![
            Route { conditions: vec![header], ..route("/admin") },
            Route { methods: vec!["GET".into()], ..route("/read") },
            route("/a"),
            Route { matching: PathMatch::Exact, ..route("/exact") },
            Route { matching: PathMatch::Regex, ..route("/.*") },
            route("/users/{id}"),
            Route { host: Some("b.org".into()), rewrite: Some(String::new()), ..route("/b") },
        ];
    });
    let snapshot = bench.snapshot();
    let text = serde_json::to_string(&snapshot).unwrap();
    let read: FirstSnapshot = serde_json::from_str(&text).unwrap();
    let first = |path: &str, host: Option<&str>| FirstRoute {
        path: path.into(),
        host: host.map(str::to_owned),
        service: "api".into(),
    };
    assert_eq!(read.routes, [first("/a", None), first("/b", Some("b.org"))]);
    let mut joined = snapshot;
    joined.join_routes();
    assert_eq!((joined.routes.len(), joined.narrow_routes.len()), (7, 0));
}

#[test]
fn a_snapshot_holds_the_whole_plan() {
    let bench = Bench::new(&["api", "web"], |plan| {
        plan.routes = vec![watt_core::plan::Route {
            host: Some("*.example.org".into()),
            methods: vec!["GET".into()],
            conditions: vec![RouteCondition {
                part: RequestPart::Cookie,
                name: "beta".into(),
                test: ValueTest::Regex("y.*".into()),
            }],
            matching: PathMatch::Exact,
            rewrite: Some(String::new()),
            request_headers: HeaderRules { remove: vec!["x".into()], ..HeaderRules::default() },
            fault: Some(RouteFault { delay: Some((Duration::from_secs(1), 5)), abort: None }),
            ..watt_core::plan::Route::prefix("/api", id("api"))
        }];
        plan.policies = vec![Policy { from: id("web"), to: id("api") }];
        plan.hold.requests_max = 5;
        service(plan, "api").timeouts.connect = Duration::from_millis(1);
        service(plan, "api").timeouts.total = Some(Duration::from_secs(2));
        service(plan, "api").traffic.retries.on = vec![plan::Failure::Reset, plan::Failure::Status(502, 504)];
        service(plan, "api").traffic.bulkhead = Some(plan::Bulkhead {
            in_flight_max: 7,
            queue_max: 9,
            queue_timeout: Duration::from_secs(1),
            believes: plan::Believed::Services,
        });
        service(plan, "api").traffic.breaker = Some(plan::Breaker {
            failures: None,
            ratio_percent: 50,
            requests_min: 2,
            window: Duration::from_secs(3),
            open: Duration::from_secs(4),
            probes: 5,
            on: vec![plan::Failure::Connect],
        });
        service(plan, "api").traffic.balance = plan::Balance::Hash(plan::HashKey::Header("x-tenant".into()));
        service(plan, "api").traffic.ejection = Some(plan::Ejection {
            failures: 7,
            first: Duration::from_secs(8),
            max: Duration::from_secs(9),
            on: vec![plan::Failure::Status(500, 599)],
        });
        service(plan, "api").protocol = Protocol::H2c;
        service(plan, "api").egress.host_ports = [5432].into();
        service(plan, "api").egress.allow = Some(vec![
            EgressRule { to: Destination::Anywhere, port: NonZeroU16::new(443) },
            EgressRule { to: Destination::Name("*.example.org".into()), port: None },
            EgressRule { to: Destination::Network([10, 0, 0, 0].into(), 8), port: None },
        ]);
    });
    let snapshot = bench.snapshot();
    assert_eq!((snapshot.version, snapshot.app.as_str()), (9, "shop"));
    assert_eq!((snapshot.routes.len(), snapshot.narrow_routes.len()), (0, 1));
    let expected = mesh::Route {
        path: "/api".into(),
        matching: mesh::PathMatch::Exact,
        host: Some("*.example.org".into()),
        methods: vec!["GET".into()],
        conditions: vec![mesh::RouteCondition {
            part: mesh::RequestPart::Cookie,
            name: "beta".into(),
            test: mesh::ValueTest::Regex("y.*".into()),
        }],
        service: "api".into(),
        rewrite: Some(String::new()),
        request_headers: mesh::HeaderRules { remove: vec!["x".into()], ..mesh::HeaderRules::default() },
        fault: Some(mesh::RouteFault { delay_ms: 1000, delay_percent: 5, ..mesh::RouteFault::default() }),
        ..mesh::Route::default()
    };
    assert_eq!(snapshot.narrow_routes[0], expected);
    let (api, web) = (&snapshot.services["api"], &snapshot.services["web"]);
    assert_eq!(api.address, Some(Ipv4Addr::new(127, 77, 1, 0)));
    assert_eq!(web.address, Some(Ipv4Addr::new(127, 77, 1, 1)));
    assert_eq!(api.callers, Some(vec!["web".to_owned()]));
    assert_eq!(web.callers, None);
    assert_eq!((&api.reserved_ports[..], &web.reserved_ports[..]), (&[5432, 53][..], &[53][..]));
    assert_eq!((api.protocol, web.protocol), (mesh::Protocol::H2c, mesh::Protocol::Http1));
    assert_eq!(web.egress, None);
    let rule = |to, port| mesh::EgressRule { to, port: NonZeroU16::new(port) };
    let expected = [
        rule(mesh::Destination::Anywhere, 443),
        rule(mesh::Destination::Name { name: "*.example.org".into() }, 0),
        rule(mesh::Destination::Network { address: [10, 0, 0, 0].into(), bits: 8 }, 0),
    ];
    assert_eq!(api.egress.as_deref(), Some(&expected[..]));
    assert_eq!((api.connect_timeout_ms, api.first_byte_timeout_ms, api.hold_requests_max), (1, 60_000, 5));
    assert_eq!((api.traffic.total_timeout_ms, api.traffic.try_timeout_ms), (2_000, 0));
    let on = mesh::Failures { reset: true, statuses: vec![(502, 504)], ..mesh::Failures::default() };
    assert_eq!(api.traffic.retries, mesh::Retries { on, ..mesh::Retries::default() });
    let bulkhead = mesh::Bulkhead {
        in_flight_max: 7,
        queue_max: 9,
        queue_timeout_ms: 1_000,
        believes: mesh::Believed::Services,
    };
    assert_eq!(api.traffic.bulkhead, Some(bulkhead));
    let breaker = mesh::Breaker {
        failures: 0,
        ratio_percent: 50,
        requests_min: 2,
        window_ms: 3_000,
        open_ms: 4_000,
        probes: 5,
        on: mesh::Failures { connect: true, ..mesh::Failures::default() },
    };
    assert_eq!(api.traffic.breaker, Some(breaker));
    let on = mesh::Failures { statuses: vec![(500, 599)], ..mesh::Failures::default() };
    let ejection = mesh::Ejection { failures: 7, on, first_ms: 8_000, max_ms: 9_000 };
    assert_eq!(api.traffic.ejection, Some(ejection));
    let key = mesh::HashKey::Header { name: "x-tenant".into() };
    assert_eq!(api.traffic.balance, mesh::Balance::Hash { key });
    assert_eq!(web.traffic, mesh::Traffic::default());
}

#[test]
fn workers_with_a_run_are_in_the_table_with_what_is_known_of_it() {
    let mut bench = Bench::new(&["api"], |plan| {
        service(plan, "api").workers = Workers::Fixed(NonZeroU16::new(2).unwrap());
    });
    bench.request(Request::Start(ALL));
    bench.tell("api", Event::Ready);
    let endpoint = Endpoint::Unix { path: "/x".into() };
    let asked = RefCell::new(Vec::new());
    let facts = |run: RunId| {
        asked.borrow_mut().push(run);
        let endpoint = (run == RunId(1)).then(|| endpoint.clone());
        RunFacts { endpoint, cgroup: Some(run.0), pid: Some(1), ..RunFacts::default() }
    };
    let workers = bench.snapshot_with(&facts).services["api"].workers.clone();
    assert_eq!(asked.take(), [RunId(1), RunId(2)]);
    let [first, second] = &workers[..] else { panic!("{workers:?}") };
    assert_eq!((first.run, first.index, first.state, first.cgroup), (1, 0, WorkerState::Ready, Some(1)));
    assert_eq!(first.endpoint, Some(endpoint));
    assert_eq!((second.run, second.index, second.state), (2, 1, WorkerState::Starting));

    let state = |bench: &Bench| bench.snapshot().services["api"].workers.first().map(|worker| worker.state);
    bench.request(Request::Stop(ALL));
    assert_eq!(state(&bench), Some(WorkerState::Draining));
    let left = |bench: &Bench| bench.snapshot().services["api"].workers[0].drain_ms;
    assert!(left(&bench).is_some_and(|ms| ms > 0 && ms <= 5_000), "{:?}", left(&bench));
    bench.tell("api", Event::Drained);
    assert_eq!(left(&bench), Some(0));
    assert_eq!(state(&bench), Some(WorkerState::Draining), "it may still call others");
    bench.exit("api", 0);
    assert_eq!(bench.snapshot().services["api"].workers.len(), 1, "the other one is still stopping");
}

#[test]
fn workers_that_are_not_ready_any_more_serve_only_when_nobody_else_does() {
    let mut bench = Bench::new(&["api"], |plan| {
        service(plan, "api").workers = Workers::Fixed(NonZeroU16::new(2).unwrap());
    });
    bench.request(Request::Start(ALL));
    let ids: Vec<WorkerId> = bench.fleet.workers().map(|(id, _)| id).collect();
    let tell = |bench: &mut Bench, nth: usize, event: fn(RunId) -> Event| {
        let run = RunId(nth as u64 + 1);
        bench.fleet.handle(bench.now, FleetEvent::Worker(ids[nth].clone(), event(run)), &mut Vec::new());
    };
    let states = |bench: &Bench, stopping: Option<RunId>| -> Vec<WorkerState> {
        let facts = |run| RunFacts { is_stopping: stopping == Some(run), ..RunFacts::default() };
        bench.snapshot_with(&facts).services["api"].workers.iter().map(|worker| worker.state).collect()
    };
    (0..2).for_each(|nth| tell(&mut bench, nth, Event::Ready));
    tell(&mut bench, 0, Event::Unready);
    assert_eq!(states(&bench, None), [WorkerState::Starting, WorkerState::Ready]);
    tell(&mut bench, 1, Event::Unready);
    assert_eq!(states(&bench, None), [WorkerState::Ready, WorkerState::Ready]);
    assert_eq!(states(&bench, Some(RunId(2))), [WorkerState::Ready, WorkerState::Starting]);
}

#[test]
fn requests_wait_for_whatever_comes_back_by_itself() {
    let mut bench = Bench::new(&["api"], |_| ());
    bench.request(Request::Start(ALL));
    assert_eq!(bench.outlook("api"), Outlook::Coming);
    bench.tell("api", Event::Ready);
    assert_eq!(bench.outlook("api"), Outlook::Coming);
    bench.tell("api", |run| Event::Exited(run, ExitCause::Exited(1)));
    assert_eq!(bench.outlook("api"), Outlook::Coming);
    bench.tell("api", Event::Emptied);
    assert_eq!(bench.outlook("api"), Outlook::Coming);
    bench.request(Request::Restart(ALL));
    assert_eq!(bench.outlook("api"), Outlook::Coming);
}

#[test]
fn a_stopped_service_answers_at_once() {
    let mut bench = Bench::new(&["api"], |_| ());
    assert_eq!(bench.outlook("api"), Outlook::Stopped);
    bench.request(Request::Start(ALL));
    bench.tell("api", Event::Ready);
    bench.request(Request::Stop(ALL));
    assert_eq!(bench.outlook("api"), Outlook::Stopped);
    bench.request(Request::Start(ALL));
    assert_eq!(bench.outlook("api"), Outlook::Coming);
}

#[test]
fn a_failed_service_says_why_and_when_to_come_back() {
    let mut bench = Bench::new(&["api"], |plan| {
        let restart = &mut service(plan, "api").restart;
        restart.give_up_failures = 2;
        restart.backoff_first = Duration::ZERO;
    });
    bench.request(Request::Start(ALL));
    bench.exit("api", 1);
    bench.fleet.handle(bench.now, FleetEvent::Tick, &mut Vec::new());
    bench.exit("api", 3);
    let failed =
        |retry_after_s| Outlook::Failed { reason: "exit 3, 2 times within 1m".into(), retry_after_s };
    assert_eq!(bench.outlook("api"), failed(Some(300)));
    bench.now += Duration::from_millis(100);
    assert_eq!(bench.outlook("api"), failed(Some(300)));
    bench.now += Duration::from_secs(1000);
    assert_eq!(bench.outlook("api"), failed(Some(0)));
}

#[test]
fn one_failed_worker_of_two_is_no_failed_service() {
    let mut bench = Bench::new(&["api"], |plan| {
        service(plan, "api").restart.give_up_failures = 1;
        service(plan, "api").workers = Workers::Fixed(NonZeroU16::new(2).unwrap());
    });
    bench.request(Request::Start(ALL));
    bench.exit("api", 3);
    assert_eq!(bench.outlook("api"), Outlook::Coming);
}

#[test]
fn who_waits_in_vain_says_for_what() {
    let mut bench = Bench::new(&["api", "db"], |plan| {
        service(plan, "db").restart.policy = RestartPolicy::Never;
        service(plan, "api").depends_on.insert(id("db"), Condition::Ready.into());
    });
    bench.request(Request::Start(ALL));
    assert_eq!(bench.outlook("api"), Outlook::Coming);
    bench.exit("db", 1);
    let reason = "waits for db to be ready".to_owned();
    assert_eq!(bench.outlook("api"), Outlook::Failed { reason, retry_after_s: None });
    let reason = "completed: exit 1".to_owned();
    assert_eq!(bench.outlook("db"), Outlook::Failed { reason, retry_after_s: None });
}

#[test]
fn a_service_that_does_not_listen_says_so_in_every_state() {
    let mut bench = Bench::new(&["api"], |plan| service(plan, "api").listen = Listen::None);
    assert_eq!(bench.outlook("api"), Outlook::NotListening);
    bench.request(Request::Start(ALL));
    assert_eq!(bench.outlook("api"), Outlook::NotListening);
}

/// So the proxy knows those of a reload from those before, at which clients were met in another way.
#[test]
fn listeners_that_are_bound_anew_have_another_name() {
    let bench = Bench::new(&["api"], |plan| {
        plan.listeners.insert(plan::Listener::SERVER.into(), plan::Listener::tcp([127, 0, 0, 1].into(), 0));
    });
    let place = || Place::Tcp(([127, 0, 0, 1], 80).into());
    for number in [0, 7] {
        let bound = [(plan::Listener::SERVER.to_owned(), Bound { number, place: place() })].into();
        let snapshot = bench.snapshot_of(&bound, &|_| RunFacts::default());
        let names: Vec<&String> = snapshot.listeners.keys().collect();
        assert_eq!(names, [&tls::listener_name(number)]);
    }
    assert_ne!(tls::listener_name(0), tls::listener_name(7));
}

#[test]
fn a_listener_has_its_own_routes_and_sends_to_the_one_that_speaks_tls() {
    let bench = Bench::new(&["api"], |plan| {
        let tcp = |port| plan::Listener::tcp([127, 0, 0, 1].into(), port);
        let secure =
            plan::Tls { certificates: Vec::new(), clients: None, version_min: plan::TlsVersion::V1_2 };
        let route = plan::Route {
            guard: plan::Guard {
                limits: vec![plan::RateLimit {
                    name: "default".into(),
                    of_gateway: false,
                    requests: 1.try_into().unwrap(),
                    per: Duration::from_secs(1),
                    burst: 1.try_into().unwrap(),
                    header: None,
                    by: plan::CountedBy::Address,
                }],
                ..plan::Guard::default()
            },
            ..plan::Route::prefix("/", id("api"))
        };
        plan.routes = vec![route.clone()];
        let plain =
            plan::Listener { to_https: Some(plan::ToHttps { port: None }), routes: Some(vec![]), ..tcp(80) };
        let listeners = [
            ("server", plan::Listener { tls: Some(secure), ..tcp(0) }),
            ("admin", plan::Listener { routes: Some(vec![route]), ..tcp(9000) }),
            ("plain", plain),
        ];
        plan.listeners.extend(listeners.map(|(name, one)| (name.to_owned(), one)));
    });
    let bound = ["server", "admin", "plain"].into_iter().zip([8443, 9000, 80]).zip(3..);
    let bound = bound.map(|((name, port), number)| {
        (name.to_owned(), Bound { number, place: Place::Tcp(([127, 0, 0, 1], port).into()) })
    });
    let snapshot = bench.snapshot_of(&bound.collect(), &|_| RunFacts::default());
    let [server, admin, plain] = ["3", "4", "5"].map(|number| &snapshot.listeners[number]);
    assert_eq!((server.name.as_str(), &server.routes, server.to_https), ("server", &None, None));
    let own = &admin.routes.as_ref().unwrap()[0];
    let [common, own] = [&snapshot.routes[0], own].map(|route| &route.guard.limits[0].id);
    assert_ne!(common, own, "what is counted is each listener's own");
    assert_eq!(
        (plain.routes.as_deref(), plain.to_https),
        (Some(&[][..]), Some(mesh::ToHttps { port: 8443, for_all: false }))
    );
}

#[test]
fn name_servers_are_read_as_the_resolver_reads_them() {
    let check = |text: &str, expected: &[&str]| {
        let expected: Vec<SocketAddr> = expected.iter().map(|address| address.parse().unwrap()).collect();
        assert_eq!(resolvers(text), expected, "{text:?}");
    };
    check(
        "# comment\nsearch a.example\nnameserver 10.0.0.2\nnameserver\t::1 # here\n",
        &["10.0.0.2:53", "[::1]:53"],
    );
    check("nameserver fe80::1%eth0\nnameserver x\nnameserver\nnameservers 1.2.3.4\n", &["127.0.0.1:53"]);
    check("", &["127.0.0.1:53"]);
    let many = "nameserver 1.1.1.1\n".repeat(9);
    check(&many, &["1.1.1.1:53"; 3]);
}
