use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
    sync::{Arc, LazyLock},
};

use super::*;
use crate::{
    ServiceId,
    plan::{CgroupLimits, Destination, EgressRule, Network, Policy, Rlimit, RlimitValue, Role},
    sandbox::{
        AddressFamily, Capability, Namespace, PathAccess, PathRule, Profile, ProtectHome, ProtectProc,
        ProtectSystem, Sandbox, Temporary, User,
    },
    syscalls::{Action, Filter},
    testing,
};

fn service(name: &str, sandbox: Sandbox) -> Service {
    let path = format!("/srv/shop/{name}").into();
    Service { path, sandbox: Arc::new(sandbox), ..testing::service(name) }
}

/// `api`, which is looked at, beside `web` and `db`.
fn plan(api: &Service) -> Plan {
    // Properties make thousands of plans.
    static OTHERS: LazyLock<[Service; 2]> =
        LazyLock::new(|| ["web", "db"].map(|name| service(name, Sandbox::of(Profile::Standard))));
    testing::plan(OTHERS.iter().chain([api]).cloned())
}

fn with<T>(api: &Service, host: Circumstances, ask: impl FnOnce(&Standing<'_>) -> T) -> T {
    ask(&Standing { plan: &plan(api), service: api, host })
}

fn points(api: &Service, host: Circumstances) -> u32 {
    with(api, host, findings).iter().map(|finding| u32::from(finding.open) * finding.check.weight()).sum()
}

fn of_profile(profile: Profile) -> Service {
    steps::with_profile(&service("api", Sandbox::of(Profile::Off)), profile)
}

fn finding(api: &Service, host: Circumstances, check: Check) -> Finding {
    with(api, host, findings).into_iter().find(|finding| finding.check == check).unwrap()
}

const ORDINARY: Circumstances = Circumstances { is_root: false, ..Circumstances::COMPLETE };

#[test]
fn each_door_is_looked_at_once() {
    let found: Vec<Check> = with(&of_profile(Profile::Off), Circumstances::COMPLETE, findings)
        .into_iter()
        .map(|finding| finding.check)
        .collect();
    assert_eq!(found, Check::ALL);
    let ids: BTreeSet<&str> = Check::ALL.iter().map(|check| check.id()).collect();
    assert_eq!(ids.len(), Check::ALL.len());
}

/// The words are worth what the profiles are: whoever changes a weight sees here what becomes of them.
#[test]
fn profiles_have_these_exposures() {
    let check = |host, expected: [&str; 3]| {
        let scores = [Profile::Off, Profile::Standard, Profile::Strict].map(|profile| {
            let exposure = with(&of_profile(profile), host, exposure);
            format!("{exposure} {}", exposure.level())
        });
        assert_eq!(scores, expected);
    };
    check(Circumstances::COMPLETE, ["8.4 UNSAFE", "4.1 MEDIUM", "1.3 OK"]);
    check(ORDINARY, ["7.7 EXPOSED", "3.8 MEDIUM", "1.3 OK"]);
}

/// The best there is.
#[test]
fn all_shut_is_nothing_and_all_open_is_ten() {
    let mut best = of_profile(Profile::Strict);
    let sandbox = Arc::make_mut(&mut best.sandbox);
    sandbox.memory_deny_write_execute = true;
    sandbox.required = true;
    sandbox.paths = vec![PathRule { access: PathAccess::NoExec, path: "/".into(), optional: false }];
    let only = BTreeMap::from([("read", Action::Allow)]);
    sandbox.system_calls = Some(Filter { otherwise: Action::REFUSE, calls: only });
    best.limits.cgroup = CgroupLimits {
        memory: Some(1 << 30),
        cpu_millis: Some(500),
        pids: Some(9),
        ..CgroupLimits::default()
    };
    for rlimit in [Rlimit::Nofile, Rlimit::Core] {
        best.limits.rlimits.insert(rlimit, RlimitValue { soft: 0, hard: 0 });
    }
    let mut plan = plan(&best);
    plan.policies = ["web", "db"]
        .map(|name| {
            let id = ServiceId::new(name).unwrap();
            Policy { from: id.clone(), to: id }
        })
        .into();
    let standing = Standing { plan: &plan, service: &best, host: Circumstances::COMPLETE };
    let open: Vec<Finding> = findings(&standing).into_iter().filter(|finding| finding.open > 0).collect();
    assert_eq!(open, []);
    assert_eq!((exposure(&standing).hundredths(), exposure(&standing).to_string()), (0, "0.0".into()));
    let all_open: Vec<Finding> = Check::ALL.iter().map(|check| Finding::new(*check, 10, "")).collect();
    assert_eq!(Exposure::of(&all_open).hundredths(), 1000);
    assert_eq!(Exposure::of(&all_open).level(), Level::Unsafe);
}

#[test]
fn a_word_goes_with_what_is_printed() {
    let check = |hundredths, text: &str, level| {
        assert_eq!((Exposure(hundredths).to_string().as_str(), Exposure(hundredths).level()), (text, level));
    };
    check(294, "2.9", Level::Ok);
    check(295, "3.0", Level::Medium);
    check(545, "5.5", Level::Exposed);
    check(794, "7.9", Level::Exposed);
    check(795, "8.0", Level::Unsafe);
    check(1000, "10.0", Level::Unsafe);
}

#[test]
fn who_it_is_counts_by_who_else_that_is() {
    let check = |user: User, host, expected: u8| {
        let api = service("api", Sandbox { user, ..Sandbox::of(Profile::Standard) });
        assert_eq!(finding(&api, host, Check::User).open, expected);
    };
    let named = |user: &str| User::Named { user: user.into(), group: None };
    check(User::Same, Circumstances::COMPLETE, 10);
    check(User::Same, ORDINARY, 5);
    check(named("root"), Circumstances::COMPLETE, 10);
    check(named("0"), Circumstances::COMPLETE, 10);
    check(named("www-data"), Circumstances::COMPLETE, 2);
    check(User::Dynamic, Circumstances::COMPLETE, 0);
    let shared = service("api", Sandbox { user: named("shop"), ..Sandbox::of(Profile::Standard) });
    let mut plan = plan(&shared);
    for service in plan.services.values_mut() {
        service.sandbox = Arc::clone(&shared.sandbox);
    }
    let standing = Standing { plan: &plan, service: &shared, host: Circumstances::COMPLETE };
    let found = findings(&standing).remove(0);
    assert_eq!((found.open, found.note.as_str()), (4, "user shop, as db is"));
}

/// Who is not root has none of root's rights, and nobody gets them who cannot gain any.
#[test]
fn rights_are_those_that_can_be_had() {
    let check = |host, change: fn(&mut Sandbox), expected: (u8, &str)| {
        let mut sandbox = Sandbox::of(Profile::Off);
        change(&mut sandbox);
        let found = finding(&service("api", sandbox), host, Check::Capabilities);
        assert_eq!((found.open, found.note.as_str()), expected);
    };
    let root = Circumstances::COMPLETE;
    check(root, |_| {}, (10, "all"));
    check(root, |s| s.capabilities = Some([Capability::SysAdmin].into()), (7, "1, CAP_SYS_ADMIN among them"));
    check(
        root,
        |s| s.capabilities = Some([Capability::NetBindService].into()),
        (2, "1, for its own files and processes"),
    );
    check(root, |s| s.user = User::Dynamic, (10, "all"));
    check(root, |s| (s.user, s.no_new_privileges) = (User::Dynamic, true), (0, "none"));
    check(root, |s| (s.user, s.lock_personality) = (User::Dynamic, true), (10, "all"));
    check(
        root,
        |s| (s.capabilities, s.protect_clock) = (Some([Capability::SysTime].into()), true),
        (0, "none"),
    );
    check(ORDINARY, |_| {}, (3, "all"));
}

#[test]
fn policies_open_what_they_leave_open() {
    let id = |name: &str| ServiceId::new(name).unwrap();
    let check = |policies: &[(&str, &str)], expected: u8| {
        let api = of_profile(Profile::Standard);
        let mut plan = plan(&api);
        plan.policies = policies.iter().map(|(from, to)| Policy { from: id(from), to: id(to) }).collect();
        let standing = Standing { plan: &plan, service: &api, host: Circumstances::COMPLETE };
        let found = findings(&standing).into_iter().find(|finding| finding.check == Check::Policies).unwrap();
        assert_eq!(found.open, expected, "{policies:?}: {}", found.note);
    };
    check(&[], 10);
    check(&[("web", "db")], 5);
    check(&[("api", "db")], 10);
    check(&[("web", "db"), ("db", "web")], 0);
    check(&[("web", "api")], 10);
}

#[test]
fn the_way_out_counts_by_its_width() {
    let check = |rules: &[(Destination, Option<u16>)], expected: u8| {
        let mut api = of_profile(Profile::Standard);
        let rule = |(to, port): &(Destination, Option<u16>)| EgressRule {
            to: to.clone(),
            port: port.and_then(NonZeroU16::new),
        };
        api.egress.allow = Some(rules.iter().map(rule).collect());
        assert_eq!(finding(&api, Circumstances::COMPLETE, Check::Egress).open, expected, "{rules:?}");
        api.network = Network::Host;
        assert_eq!(finding(&api, Circumstances::COMPLETE, Check::Egress).open, 10);
    };
    let network = |bits| Destination::Network([10, 0, 0, 0].into(), bits);
    check(&[], 0);
    check(&[(Destination::Name("a.example".into()), Some(443))], 1);
    check(&[(Destination::Name("*.example".into()), Some(443))], 3);
    check(&[(network(16), None), (network(32), Some(1))], 4);
    check(&[(network(0), None)], 10);
    check(&[(Destination::Anywhere, Some(443))], 8);
    check(&[(Destination::Anywhere, None), (network(32), Some(1))], 10);
}

#[test]
fn rules_for_paths_count_by_where_they_lead() {
    let check = |access: PathAccess, path: &str, expected: (u8, u8)| {
        let rule = PathRule { access, path: path.into(), optional: false };
        let api = service("api", Sandbox { paths: vec![rule], ..Sandbox::of(Profile::Strict) });
        let open = |check| finding(&api, Circumstances::COMPLETE, check).open;
        assert_eq!((open(Check::Paths), open(Check::ProtectServices)), expected, "{path}");
    };
    check(PathAccess::ReadWrite, "/srv/shop/api/data", (1, 0));
    check(PathAccess::ReadWrite, "/srv/other", (4, 0));
    check(PathAccess::ReadWrite, "/etc/cron.d", (10, 0));
    check(PathAccess::ReadWrite, "/", (10, 0));
    check(PathAccess::Bind { source: "/run/docker.sock".into(), read_only: false }, "/srv/x", (10, 0));
    check(PathAccess::Bind { source: "/etc/a".into(), read_only: true }, "/srv/x", (0, 0));
    check(PathAccess::ReadOnly, "/srv/shop/web/public", (0, 3));
    check(PathAccess::NoExec, "/srv/shop/web", (0, 0));
    check(PathAccess::Temporary(Temporary::DEFAULT), "/var/cache", (0, 0));
}

/// What the host does not do counts where it is taken out of the service before.
#[test]
fn landlock_of_an_older_kernel_holds_in_part() {
    let old = Circumstances { landlock_scopes: false, ..Circumstances::COMPLETE };
    assert_eq!(finding(&of_profile(Profile::Standard), old, Check::Landlock).open, 3);
    assert_eq!(finding(&of_profile(Profile::Strict), old, Check::Landlock).open, 0);
    assert_eq!(finding(&of_profile(Profile::Off), old, Check::Landlock).open, 10);
}

fn tried(api: &Service, seen: &Seen) -> Vec<Step> {
    let plan = plan(api);
    steps(&plan, api, seen, |service| {
        exposure(&Standing { plan: &plan, service, host: Circumstances::COMPLETE })
    })
}

#[test]
fn the_best_switch_is_the_one_that_lowers_most() {
    let first = |api: &Service| tried(api, &Seen::default()).first().map(|step| step.line("api"));
    assert_eq!(first(&of_profile(Profile::Off)).as_deref(), Some("services.api.sandbox: standard"));
    let standard = of_profile(Profile::Standard);
    assert_eq!(first(&standard).as_deref(), Some("services.api.sandbox.dynamic_user: true"));
    let mut listed = standard.clone();
    Arc::make_mut(&mut listed.sandbox).user = User::Dynamic;
    assert_eq!(first(&listed).as_deref(), Some("services.api.egress.allow: []"));
    let steps = tried(&standard, &Seen::default());
    assert!(steps.is_sorted_by_key(|step| (step.breaks.is_some(), step.after)));
    let before = with(&standard, Circumstances::COMPLETE, exposure);
    assert!(steps.iter().all(|step| step.after < before));
}

/// W^X ends a just-in-time compiler, and a change of user a program that does it itself.
#[test]
fn a_switch_that_breaks_the_program_is_none_to_take() {
    let check = |command: &str, key: &str, expected: Option<&str>| {
        let mut api = of_profile(Profile::Standard);
        api.command = command.split(' ').map(str::to_owned).collect();
        let steps = tried(&api, &Seen::default());
        let step = steps.iter().find(|step| step.key == key).unwrap();
        let breaks = step.breaks.as_deref();
        assert_eq!(breaks.and_then(|text| text.split(' ').next()), expected, "{command}");
        assert!(steps[0].breaks.is_none());
    };
    let write_execute = "sandbox.memory_deny_write_execute";
    check("node server.js", write_execute, Some("node"));
    check("/usr/bin/java -jar x.jar", write_execute, Some("java"));
    check("./server", write_execute, None);
    check("python3 server.py", write_execute, None);
    check("chromium --headless", "sandbox.restrict_namespaces", Some("chromium"));
    check("nginx -g x", "sandbox.dynamic_user", Some("nginx"));
    check("nginx -g x", "sandbox.capabilities", Some("nginx"));
    check("/home/ann/.nvm/node x.js", "sandbox.protect_home", Some("/home/ann/.nvm/node"));
    check("/usr/bin/node x.js", "sandbox.protect_home", None);
}

#[test]
fn numbers_are_what_was_seen_and_no_more_than_what_all_have() {
    let value = |api: &Service, seen: &Seen, key: &str| {
        tried(api, seen).into_iter().find(|step| step.key == key).map(|step| step.line("api"))
    };
    let mut api = of_profile(Profile::Standard);
    let memory =
        |api: &Service, peak| value(api, &Seen { memory_peak: peak, ..Seen::default() }, "limits.memory");
    assert_eq!(memory(&api, None).as_deref(), Some("services.api.limits.memory: 512M"));
    assert_eq!(memory(&api, Some(700 << 20)).as_deref(), Some("services.api.limits.memory: 2G"));
    assert_eq!(memory(&api, Some(1)).as_deref(), Some("services.api.limits.memory: 64M"));
    assert_eq!(memory(&api, Some(u64::MAX)), None);
    let rule = EgressRule { to: Destination::Name("db.example.org".into()), port: NonZeroU16::new(5432) };
    let seen = Seen { destinations: vec![("db.example.org:5432".into(), rule)], ..Seen::default() };
    assert_eq!(
        value(&api, &seen, "egress.allow").as_deref(),
        Some(r#"services.api.egress.allow: ["db.example.org:5432"]"#)
    );
    // A list that somebody wrote stays.
    api.egress.allow = Some(vec![seen.destinations[0].1.clone()]);
    assert_eq!(value(&api, &Seen::default(), "egress.allow"), None);
    api.limits.cgroup.memory_high = Some(900 << 20);
    assert_eq!(memory(&api, None).as_deref(), Some("services.api.limits.memory: 1G"));
}

#[test]
fn what_it_can_do_is_told() {
    let facts = |api: &Service| {
        with(api, Circumstances::COMPLETE, |standing| reach(standing, "/var/lib/x")).map(|section| {
            section
                .facts
                .into_iter()
                .map(|(what, text)| format!("{what}: {text}"))
                .collect::<Vec<_>>()
                .join("\n")
        })
    };
    let [can, cannot, at_most] = facts(&of_profile(Profile::Off));
    assert!(can.contains("be: root, with all of root's rights\nread: every file\nwrite: /var/lib/x; and wherever file modes let root write, such as"), "{can}");
    assert!(can.contains("reach outside: everything by TCP"), "{can}");
    assert_eq!(cannot, "pose as another: its network is its own, by which it is known");
    assert!(at_most.contains("memory: no limit"), "{at_most}");
    let mut strict = of_profile(Profile::Strict);
    strict.env = [("DB_PASSWORD".to_owned(), "hunter2000".to_owned())].into();
    strict.management = Some(Role::Operate);
    strict.limits.cgroup.memory = Some(3 << 29);
    let [can, cannot, at_most] = facts(&strict);
    for line in [
        "be: a user that nobody else is, without any of root's rights",
        "read: what file modes let its user read, but not homes, others' /tmp, devices, sources of secrets, /srv/shop/db, /srv/shop/web",
        "write: /var/lib/x, /tmp of its own",
        "call: every other service, as there are no policies: db, web",
        "reach outside: nothing",
        "know: the secrets $DB_PASSWORD",
        "ask of watt: to start, stop and restart services, and what they log",
    ] {
        assert!(can.lines().any(|found| found == line), "{line} in {can}");
    }
    assert!(!can.contains("hunter2"));
    assert!(cannot.contains("touch processes: it finds none but its own"), "{cannot}");
    assert!(at_most.contains("memory: 1536M"), "{at_most}");
}

mod properties;
