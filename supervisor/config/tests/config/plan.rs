//! What a file means.

use std::time::Duration;

use watt_config::{Config, Sources, parse};
use watt_core::{
    ServiceId,
    plan::{
        CgroupLimits, Check, Condition, Dependency, Egress, GrpcCheck, Health, Hold, HttpCheck, Limits,
        Listen, Logs, Network, OnFailure, PathMatch, Plan, Protocol, Ready, ReadyWhen, RequestPart, Restart,
        RestartPolicy, Rhythm, Rlimit, RlimitValue, Roll, Route, RouteCondition, Scheduling, Service, Share,
        Startup, Stop, Timeouts, ValueTest,
    },
    sandbox::{Profile, Sandbox},
};

use crate::{sources, valid};

/// A file of one service `a` with these keys.
fn service(keys: &str) -> Service {
    let config =
        valid(&format!("services:\n  b: {{command: x, restart: never}}\n  a: {{command: x, {keys}}}"));
    config.plan.services[&id("a")].clone()
}

fn id(name: &str) -> ServiceId {
    ServiceId::new(name).unwrap()
}

#[test]
fn the_defaults_are_the_models() {
    let config = valid("services: {a: {command: x}}");
    let Config { plan, .. } = &config;
    assert_eq!(plan.name.as_str(), "shop");
    assert!(plan.listeners.is_empty());
    assert_eq!(plan.hold, Hold::default());
    assert_eq!(plan.logs, Logs::default());
    assert!(plan.routes.is_empty() && plan.policies.is_empty());
    let service = &plan.services[&id("a")];
    assert_eq!(service.path.to_str(), Some("/srv/shop"));
    assert_eq!(service.workers.first().get(), 1);
    assert_eq!((service.listen, service.protocol), (Listen::Auto, Protocol::Http1));
    assert_eq!(service.network, Network::Private);
    assert_eq!(
        service.ready,
        Ready { when: ReadyWhen::Listening, timeout: Duration::from_secs(60), upkeep: None }
    );
    assert_eq!(service.restart, Restart::default());
    assert_eq!(service.roll, Roll::default());
    assert_eq!(service.stop, Stop::default());
    assert_eq!(service.timeouts, Timeouts::default());
    assert_eq!(service.limits, Limits { oom_group: true, ..Limits::default() });
    assert_eq!(service.limits_total, CgroupLimits::default());
    assert_eq!(service.scheduling, Scheduling::default());
    assert_eq!(*service.sandbox, Sandbox::of(Profile::Standard));
    assert_eq!((&service.egress, service.management), (&Egress::default(), None));
    assert!(service.env.is_empty() && service.depends_on.is_empty() && service.secrets.is_empty());
    assert_eq!(plan.limits, CgroupLimits::default());
    assert!(plan.secrets.is_empty() && plan.control.is_empty());
}

#[test]
fn the_same_file_in_three_languages_is_the_same_plan() {
    let plan = |name: &str, text: &str| {
        let config = parse(&sources(name, text)).unwrap_or_else(|report| panic!("{report}"));
        Plan { file: "/srv/shop/watt".into(), ..config.plan }
    };
    let yaml = plan("watt.yaml", include_str!("same.yaml"));
    assert_eq!(yaml, plan("watt.json", include_str!("same.json")));
    assert_eq!(yaml, plan("watt.toml", include_str!("same.toml")));
    let api = &yaml.services[&id("api")];
    assert_eq!(api.command, ["node", "server.js", "--title", "my shop"]);
    assert_eq!(api.env["VERSION"], "1.10");
    assert_eq!(api.limits.rlimits[&Rlimit::Nofile], RlimitValue { soft: 1024, hard: 4096 });
    assert_eq!(yaml.server().map(|server| server.at.to_string()), Some("0.0.0.0:4000".into()));
    assert_eq!(yaml.routes[0].rewrite.as_deref(), Some(""));
}

#[test]
fn services_as_a_list() {
    let config = valid("services:\n- id: a\n  command: x\n- {id: b, command: y}");
    assert_eq!(config.plan.services.keys().map(ServiceId::as_str).collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn commands() {
    assert_eq!(
        valid("services: {a: {command: \"x 'y z' {WORD}\"}}").plan.services[&id("a")].command,
        ["x", "y z", "word"]
    );
    let config = valid("services: {a: {command: [x, 1, true, '{PORT}{port}', '{socket}', '{{WORD}}']}}");
    assert_eq!(
        config.plan.services[&id("a")].command,
        ["x", "1", "true", "4000{port}", "{socket}", "{WORD}"]
    );
}

#[test]
fn listening() {
    let listen = |text: &str| service(&format!("listen: {text}")).listen;
    assert_eq!(listen("unix"), Listen::Unix);
    assert_eq!(listen("fd"), Listen::Fd);
    assert_eq!(listen("port"), Listen::Port(None));
    assert_eq!(listen("none"), Listen::None);
    assert_eq!(listen("3000"), Listen::Port(std::num::NonZeroU16::new(3000)));
    assert_eq!(listen("'{PORT}'"), Listen::Port(std::num::NonZeroU16::new(4000)));
}

#[test]
fn readiness() {
    let ready = |text: &str| service(text).ready.when.clone();
    assert_eq!(ready("ready: started"), ReadyWhen::Started);
    assert_eq!(ready("ready: tcp"), ReadyWhen::Check(Check::Tcp));
    assert_eq!(ready("ready: notify"), ReadyWhen::Notify);
    assert_eq!(ready("ready: {http: '/z?a=1'}"), ReadyWhen::Check(Check::Http(HttpCheck::of("/z?a=1"))));
    assert_eq!(ready("ready: {log: 'up \\d+'}"), ReadyWhen::Log { pattern: "up \\d+".into() });
    let command = |words: &[&str]| Check::Exec(words.iter().map(|word| (*word).to_owned()).collect());
    assert_eq!(ready("ready: {exec: 'pg_isready -q'}"), ReadyWhen::Check(command(&["pg_isready", "-q"])));
    let on_port = ready("listen: none, ready: {exec: [redis-cli, -p, '{port}', ping]}");
    assert_eq!(on_port, ReadyWhen::Check(command(&["redis-cli", "-p", "{port}", "ping"])));
    let grpc = |service: &str, authority: Option<&str>| {
        let check = GrpcCheck { service: service.into(), authority: authority.map(Into::into) };
        ReadyWhen::Check(Check::Grpc(check))
    };
    assert_eq!(ready("ready: {grpc: true}"), grpc("", None));
    assert_eq!(ready("ready: {grpc: {}}"), grpc("", None));
    assert_eq!(ready("ready: {grpc: false}"), ReadyWhen::Listening);
    assert_eq!(ready("ready: {grpc: {service: a.B, authority: 'b.c:1'}}"), grpc("a.B", Some("b.c:1")));
    assert_eq!(ready("ready: {notification_fd: 4}, listen: fd"), ReadyWhen::NotificationFd(4));
    assert_eq!(ready("ready: {tcp: true}"), ReadyWhen::Check(Check::Tcp));
    assert_eq!(ready("ready: {tcp: false}"), ReadyWhen::Listening);
    assert_eq!(ready("ready: {timeout: 1s}"), ReadyWhen::Listening);
    assert_eq!(ready("listen: none"), ReadyWhen::Started);
    assert_eq!(ready("listen: unix"), ReadyWhen::Listening);
    assert_eq!(service("ready: {timeout: 90s}").ready.timeout, Duration::from_secs(90));
}

#[test]
fn descriptors_are_kept_where_that_is_asked_for() {
    assert_eq!((service("listen: auto").fd_store, service("listen: auto").notifies()), (0, false));
    let service = service("fd_store: 16, ready: {notification_fd: 19}");
    assert_eq!((service.fd_store, service.notifies()), (16, true));
}

#[test]
fn a_check_is_repeated_where_it_can_be() {
    let seconds = Duration::from_secs;
    let upkeep = |text: &str| service(text).ready.upkeep;
    let rhythm = Rhythm { interval: seconds(10), timeout: seconds(10), failures: 3 };
    assert_eq!(upkeep("ready: tcp"), Some(rhythm));
    assert_eq!(upkeep("ready: {http: /z}"), Some(rhythm));
    let often = Rhythm { interval: seconds(2), timeout: seconds(2), failures: 1 };
    assert_eq!(upkeep("ready: {http: /z, interval: 2s, failures: 1}"), Some(often));
    assert_eq!(upkeep("ready: {http: /z, interval: 1m}").map(|rhythm| rhythm.timeout), Some(seconds(10)));
    assert_eq!(upkeep("ready: {http: /z, interval: never}"), None);
    assert_eq!(upkeep("ready: notify"), None);
    assert_eq!(upkeep("listen: auto"), None);
}

#[test]
fn health_and_what_comes_before() {
    let seconds = Duration::from_secs;
    let service = service("startup: {tcp: true}, health: {http: /z}");
    assert_eq!(service.startup, Some(Startup { check: Check::Tcp, timeout: seconds(300) }));
    assert_eq!(
        service.health,
        Some(Health::Check(
            Check::Http(HttpCheck::of("/z")),
            Rhythm { interval: seconds(10), timeout: seconds(1), failures: 3 }
        ))
    );
    let service = self::service("listen: none, startup: {exec: 'a b'}, health: {exec: c}");
    let startup = Startup { check: Check::Exec(vec!["a".into(), "b".into()]), timeout: seconds(300) };
    assert_eq!(service.startup, Some(startup));
    let rhythm = Rhythm { interval: seconds(10), timeout: seconds(5), failures: 3 };
    assert_eq!(service.health, Some(Health::Check(Check::Exec(vec!["c".into()]), rhythm)));
    let service = self::service("health: {watchdog: 30s}");
    assert_eq!((service.watchdog(), service.notifies()), (Some(seconds(30)), true));
    let service = self::service(
        "health: {http: {path: /z, status: 200-204, headers: {Host: shop, X-Key: '1'}, body: '^ok'}, interval: 3s, timeout: 2s, failures: 5}",
    );
    let Some(Health::Check(Check::Http(check), rhythm)) = service.health else {
        panic!("{:?}", service.health)
    };
    let headers = [("Host", "shop"), ("X-Key", "1")].map(|(name, value)| (name.into(), value.into()));
    let expected = HttpCheck {
        path: "/z".into(),
        status: (200, 204),
        headers: headers.into(),
        body: Some("^ok".into()),
    };
    assert_eq!(check, expected);
    assert_eq!(rhythm, Rhythm { interval: seconds(3), timeout: seconds(2), failures: 5 });
}

#[test]
fn rolls() {
    let roll = |text: &str| service(&format!("roll: {text}")).roll;
    let all = roll("{surge: 25%, max_unavailable: 2, min_healthy: 10s, deadline: 10m, on_failure: rollback}");
    let expected = Roll {
        surge: Share::Percent(25),
        max_unavailable: Share::Count(2),
        min_healthy: Duration::from_secs(10),
        deadline: Some(Duration::from_secs(600)),
        on_failure: OnFailure::RollBack,
    };
    assert_eq!(all, expected);
    assert_eq!(roll("{surge: 0, max_unavailable: 100%}").surge, Share::Count(0));
    assert_eq!(roll("{deadline: never}"), Roll::default());
}

#[test]
fn restarts() {
    let policy = |text: &str| service(&format!("restart: {text}")).restart.policy;
    assert_eq!(policy("never"), RestartPolicy::Never);
    assert_eq!(policy("no"), RestartPolicy::Never);
    assert_eq!(policy("on-failure"), RestartPolicy::OnFailure);
    assert_eq!(policy("unless-stopped"), RestartPolicy::Always);
    assert_eq!(policy("{policy: on-failure}"), RestartPolicy::OnFailure);
    assert_eq!(service("restart: {retry_failed_after: never}").restart.retry_failed_after, None);
    assert_eq!(service("restart: {backoff: {first: 1s}}").restart.backoff_first, Duration::from_secs(1));
    assert_eq!(service("restart: {give_up: {failures: 2}}").restart.give_up_failures, 2);
}

#[test]
fn dependencies() {
    let dependency = |text: &str| service(&format!("depends_on: {text}")).depends_on[&id("b")];
    let condition = |text: &str| dependency(text).condition;
    assert_eq!(dependency("[b]"), Condition::Ready.into());
    let soft = Dependency { required: false, ..Condition::Healthy.into() };
    assert_eq!(dependency("{b: {condition: healthy, required: false}}"), soft);
    let followed = Dependency { restart: true, ..Condition::Ready.into() };
    assert_eq!(dependency("{b: {restart: true}}"), followed);
    assert_eq!(condition("{b: service_started}"), Condition::Started);
    assert_eq!(condition("{b: process_log_ready}"), Condition::Ready);
    assert_eq!(condition("{b: process_healthy}"), Condition::Healthy);
    assert_eq!(condition("{b: process_completed}"), Condition::Completed);
    assert_eq!(condition("{b: started}"), Condition::Started);
    assert_eq!(condition("{b: completed}"), Condition::Completed);
    assert_eq!(condition("{b: {condition: service_healthy}}"), Condition::Healthy);
    assert_eq!(condition("{b: service_completed_successfully}"), Condition::CompletedSuccessfully);
    assert_eq!(condition("{b: }"), Condition::Ready);
}

#[test]
fn sizes_and_amounts() {
    let memory = |text: &str| service(&format!("limits: {{memory: {text}}}")).limits.cgroup.memory;
    for (text, expected) in [
        ("512M", 512 << 20),
        ("512m", 512 << 20),
        ("512 MiB", 512 << 20),
        ("512MB", 512 << 20),
        ("1.5G", 3 << 29),
        ("2048K", 2 << 20),
        ("1T", 1 << 40),
        ("1048576", 1 << 20),
    ] {
        assert_eq!(memory(text), Some(expected), "{text}");
    }
    let cpu = |text: &str| service(&format!("limits: {{cpu: {text}}}")).limits.cgroup.cpu_millis;
    assert_eq!(cpu("1.5"), Some(1500));
    assert_eq!(cpu("150%"), Some(1500));
    assert_eq!(cpu("0.01"), Some(10));
    let limit = |key: &str, text: &str, resource| {
        service(&format!("limits: {{{key}: {text}}}")).limits.rlimits[&resource]
    };
    assert_eq!(limit("nofile", "4096", Rlimit::Nofile), RlimitValue { soft: 4096, hard: 4096 });
    assert_eq!(limit("core", "unlimited", Rlimit::Core), RlimitValue { soft: u64::MAX, hard: u64::MAX });
    assert_eq!(limit("stack", "{soft: 8M}", Rlimit::Stack), RlimitValue { soft: 8 << 20, hard: 8 << 20 });
    assert_eq!(limit("cpu_seconds", "10", Rlimit::Cpu), RlimitValue { soft: 10, hard: 10 });
}

#[test]
fn times() {
    let grace = |text: &str| service(&format!("stop: {{grace: {text}}}")).stop.grace;
    for (text, millis) in
        [("200ms", 200), ("10s", 10_000), ("1.5s", 1500), ("1h30m", 5_400_000), ("1d", 86_400_000), ("0", 0)]
    {
        assert_eq!(grace(text), Duration::from_millis(millis), "{text}");
    }
}

#[test]
fn signals() {
    let signal = |text: &str| service(&format!("stop: {{signal: {text}}}")).stop.signal;
    for (text, number) in [("TERM", 15), ("SIGINT", 2), ("quit", 3), ("9", 9), ("RTMIN+3", 37), ("WINCH", 28)]
    {
        assert_eq!(signal(text), number, "{text}");
    }
}

#[test]
fn the_gateway() {
    let config = valid(
        "services: {a: {command: x}}\ngateway: {routes: [{service: a}, {path: /v1/, host: '*.Example.org', service: a, rewrite: /}]}",
    );
    assert_eq!(config.plan.server().unwrap().at.to_string(), "127.0.0.1:3042");
    let [all, version] = &config.plan.routes[..] else { panic!("{:?}", config.plan.routes) };
    assert_eq!((all.path.as_str(), &all.host, &all.rewrite), ("/", &None, &None));
    assert_eq!((version.path.as_str(), version.host.as_deref()), ("/v1", Some("*.example.org")));
    assert_eq!(version.rewrite.as_deref(), Some(""), "`/` in place of a prefix strips it");
}

#[test]
fn what_a_route_takes() {
    let config = valid(
        r#"
services: {a: {command: x}}
gateway:
  routes:
  - path: '/{PORT}/{user}/'
    service: a
    methods: [GET, PROPFIND]
    headers: {X-Version: 2}
    cookies: {beta: {present: false}}
    query: {q: {regex: '[0-9]{2}'}}
    rewrite: /x/{user}/
  - {path: '/v(?<n>[0-9]{1,3})/', match: regex, service: a, rewrite: '/{n}/'}
  - {path: /dir/, match: exact, service: a}
"#,
    );
    let [first, regex, exact] = &config.plan.routes[..] else { panic!("{:?}", config.plan.routes) };
    let condition = |part, name: &str, test| RouteCondition { part, name: name.into(), test };
    let expected = Route {
        methods: vec!["GET".into(), "PROPFIND".into()],
        conditions: vec![
            condition(RequestPart::Header, "x-version", ValueTest::Is("2".into())),
            condition(RequestPart::Cookie, "beta", ValueTest::Absent),
            condition(RequestPart::Query, "q", ValueTest::Regex("[0-9]{2}".into())),
        ],
        rewrite: Some("/x/{user}".into()),
        ..Route::prefix("/4000/{user}", id("a"))
    };
    assert_eq!(*first, expected, "a variable is filled in, a parameter stays");
    let regex = (regex.matching, regex.path.as_str(), regex.rewrite.as_deref());
    assert_eq!(regex, (PathMatch::Regex, "/v(?<n>[0-9]{1,3})/", Some("/{n}/")));
    assert_eq!((exact.matching, exact.path.as_str()), (PathMatch::Exact, "/dir/"));
}

#[test]
fn variables_come_from_the_environment_before_dotenv() {
    let dotenv = "PORT=1\nONLY='file # x'\nexport MANY=\"two\\nlines\n# three\"  # comment\nEMPTY_ONE=\nPLAIN = a b # c\n";
    let mut sources =
        sources("watt.yaml", "services: {a: {command: [x, '{PORT}', '{ONLY}'], env: {ONLY: mine}}}");
    sources.dotenv = Some(("/srv/shop/.env".into(), dotenv.into()));
    let config = parse(&sources).unwrap();
    let service = &config.plan.services[&id("a")];
    assert_eq!(service.command, ["x", "4000", "file # x"]);
    let env: Vec<_> = service.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let expected = [
        ("EMPTY_ONE", ""),
        ("MANY", "two\nlines\n# three"),
        ("ONLY", "mine"),
        ("PLAIN", "a b"),
        ("PORT", "4000"),
    ];
    assert_eq!(env, expected);
    let shown = config.service_json(&id("a"));
    assert_eq!(shown["env"]["ONLY"]["from"], "watt.yaml:1:62");
    assert_eq!(shown["env"]["EMPTY_ONE"]["from"], ".env:5:1");
    assert_eq!(shown["env"]["PORT"]["from"], "variable PORT of the environment, which wins over .env:1:1");
}

#[test]
fn merge_keys_and_aliases() {
    let config = valid(include_str!("merge.yaml"));
    let a = &config.plan.services[&id("a")];
    let b = &config.plan.services[&id("b")];
    assert_eq!((a.workers.first().get(), a.listen), (2, Listen::Unix), "its own keys win");
    assert_eq!((b.workers.first().get(), b.listen), (3, Listen::Fd), "the first merged table wins");
    assert_eq!(a.env, b.env);
}

#[test]
fn what_is_shown_reads_back_as_the_same_plan() {
    let config = valid(include_str!("same.yaml"));
    let text = config.show_text();
    let again = valid(&text);
    // Ways that a route's path can be changed are shown as what they are, and `{port}` is a worker's own.
    assert_eq!(config.plan, again.plan, "{text}");
}

#[test]
fn every_value_has_an_origin() {
    let config = valid("name: '{WORD}'\nservices: {a: {command: x}}");
    let shown = config.show();
    assert_eq!(shown["name"]["value"], "word");
    assert_eq!(shown["name"]["from"], "watt.yaml:1:7, variable WORD of the environment");
    assert_eq!(shown["services"]["a"]["workers"], serde_json::json!({ "value": 1, "from": "default" }));
    assert_eq!(config.service_json(&id("nobody")), serde_json::Value::Null);
}

#[test]
fn sources_survive_being_kept() {
    let mut before = sources("watt.yaml", include_str!("same.yaml"));
    before.dotenv = Some(("/srv/shop/.env".into(), "A=1".into()));
    let kept = serde_json::to_string(&before).unwrap();
    let after: Sources = serde_json::from_str(&kept).unwrap();
    assert_eq!(before, after);
    assert_eq!(parse(&before).unwrap().plan, parse(&after).unwrap().plan);
}
