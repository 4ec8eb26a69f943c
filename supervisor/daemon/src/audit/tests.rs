use std::sync::Arc;

use watt_core::{plan::Network, sandbox::Sandbox};
use watt_os::cgroup::Mode;

use super::*;
use crate::testing;

/// A host of these abilities, where nothing was told yet.
fn real(host: Host, cgroups: doctor::Cgroups) -> Real {
    Real {
        host,
        accounts: Accounts::new(),
        cgroups,
        places: Places { runtime: "/run/watt/shop".into(), state: "/var/lib/watt/shop".into() },
        unenforced: BTreeMap::new(),
        outside: BTreeMap::new(),
        groups: Vec::new(),
    }
}

fn complete() -> Real {
    real(testing::HOST, doctor::Cgroups::all_enforced())
}

fn plan(change: impl FnOnce(&mut Service)) -> Plan {
    let mut plan = testing::plan(&["api"]);
    plan.services.values_mut().for_each(|service| {
        service.sandbox = Sandbox::of(Profile::Strict).into();
        service.egress.allow = Some(Vec::new());
        service.limits.cgroup.memory = Some(1 << 30);
        service.limits.cgroup.pids = Some(64);
        service.limits_total.cpu_millis = Some(500);
    });
    change(plan.services.values_mut().next().unwrap());
    plan
}

fn audited_on(place: &Real, plan: &Plan) -> AuditedService {
    let held = place.application(plan);
    audited(plan, plan.services.values().next().unwrap(), place, &held, true)
}

fn lost(service: &AuditedService) -> Vec<&str> {
    service.checks.iter().filter(|check| check.unenforced).map(|check| check.id.as_str()).collect()
}

#[test]
fn on_a_complete_host_it_is_what_is_configured() {
    let plan = plan(|_| {});
    let there = audited_on(&complete(), &plan);
    let configured = of_configuration(&plan).services.remove(0);
    assert_eq!((there.exposure, &there.checks), (configured.exposure, &configured.checks));
    assert_eq!(lost(&there), [""; 0]);
    let folder = |service: &AuditedService| {
        service.can.iter().find(|fact| fact.about == "write").unwrap().text.clone()
    };
    assert_eq!(folder(&there), "/var/lib/watt/shop/services/api, /tmp of its own");
    assert_eq!(folder(&configured), "$STATE_DIRECTORY, /tmp of its own");
}

/// Everything that is asked for and not done counts as open, and nothing is proposed that would change nothing.
#[test]
fn what_the_host_cannot_do_counts_as_open() {
    let plan = plan(|service| service.secrets = [("key".to_owned(), "key".to_owned())].into());
    let bare =
        real(Host { is_root: true, ..Host::default() }, doctor::Cgroups::none(Mode::None, "none".into()));
    let there = audited_on(&bare, &plan);
    assert_eq!(
        lost(&there),
        [
            "user",
            "capabilities",
            "protect_system",
            "protect_home",
            "protect_services",
            "private_tmp",
            "private_devices",
            "landlock",
            "protect_kernel_tunables",
            "protect_kernel_modules",
            "protect_kernel_logs",
            "protect_control_groups",
            "protect_clock",
            "protect_hostname",
            "restrict_namespaces",
            "address_families",
            "restrict_realtime",
            "restrict_suid_sgid",
            "lock_personality",
            "system_calls:@clock",
            "system_calls:@cpu-emulation",
            "system_calls:@debug",
            "system_calls:@keyring",
            "system_calls:@module",
            "system_calls:@mount",
            "system_calls:@obsolete",
            "system_calls:@privileged",
            "system_calls:@raw-io",
            "system_calls:@reboot",
            "system_calls:@resources",
            "system_calls:@swap",
            "system_calls:io_uring",
            "system_calls:userfaultfd",
            "private_pids",
            "protect_proc",
            "private_ipc",
            "private_cgroup",
            "private_keyring",
            "network",
            "egress.allow",
            "egress.host_ports",
            "limits.memory",
            "limits.pids",
            "limits.cpu",
            "secrets",
        ]
    );
    let by_rlimit = Host { pids_by_rlimit: true, ..bare.host.clone() };
    let by_rlimit = real(by_rlimit, doctor::Cgroups::none(Mode::None, "none".into()));
    assert!(!lost(&audited_on(&by_rlimit, &plan)).contains(&"limits.pids"));
    assert!(there.exposure > 7.0, "{}", there.exposure);
    assert!(!there.unenforced.is_empty());
    let keys: Vec<String> = there.steps.iter().map(|step| step.key[2..].join(".")).collect();
    assert_eq!(keys, ["limits.nofile", "sandbox.required"]);
}

/// By what is told of this service, too: a limit that the kernel refused for it alone.
#[test]
fn a_limit_that_was_refused_does_not_count() {
    let check = |line: &str, expected: &[&str]| {
        let mut place = complete();
        place.unenforced = [("api".to_owned(), vec![line.to_owned()])].into();
        let there = audited_on(&place, &plan(|_| {}));
        assert_eq!(lost(&there), expected, "{line}");
        assert_eq!(there.unenforced, [line]);
    };
    check("memory, memory_high (device or resource busy)", &["limits.memory"]);
    check("limits_total: cpu (no controller)", &["limits.cpu"]);
    // Of each worker, where only the total is set.
    check("cpu (no controller)", &[]);
    check("memory_high (a soft limit only)", &[]);
}

/// Limits that bound a service weakly count as far as they hold, too.
#[test]
fn a_weak_limit_that_was_refused_does_not_count() {
    let check = |line: &str, id: &str, change: fn(&mut CgroupLimits)| {
        let plan = plan(|service| {
            (service.limits.cgroup, service.limits_total) = Default::default();
            change(&mut service.limits.cgroup);
        });
        let found = |place: &Real| {
            let checks = audited_on(place, &plan).checks;
            checks
                .into_iter()
                .find(|check| check.id == id)
                .map(|check| (check.state, check.unenforced))
                .unwrap()
        };
        let mut place = complete();
        assert_eq!(found(&place), (AuditState::Partial, false), "{line}");
        place.unenforced = [("api".to_owned(), vec![line.to_owned()])].into();
        assert_eq!(found(&place), (AuditState::Absent, true), "{line}");
    };
    check("memory_high (a soft limit only)", "limits.memory", |limits| limits.memory_high = Some(1 << 30));
    check("cpu_weight (no controller)", "limits.cpu", |limits| limits.cpu_weight = Some(50));
    check("cpuset (no controller)", "limits.cpu", |limits| limits.cpus = [0].into());
}

#[test]
fn a_disk_that_is_not_bounded_here_has_no_limit() {
    let bounds = watt_core::plan::IoLimits { read_bytes: Some(1 << 20), ..Default::default() };
    let plan = plan(|service| service.limits.cgroup.io = [("/srv".into(), bounds)].into());
    let disk = |place: &Real| {
        let facts = audited_on(place, &plan).at_most;
        facts.into_iter().find(|fact| fact.about == "disk bandwidth").unwrap().text
    };
    let mut place = complete();
    assert_eq!(disk(&place), "limited on /srv");
    place.unenforced = [("api".to_owned(), vec!["io (no controller)".to_owned()])].into();
    assert_eq!(disk(&place), "no limit");
}

/// The ceiling of the application is every service's, where there are cgroups.
#[test]
fn the_ceiling_of_all_counts_where_it_holds() {
    let mut plan = plan(|service| (service.limits.cgroup, service.limits_total) = Default::default());
    plan.limits.memory = Some(1 << 30);
    let memory = |place: &Real| {
        let checks = audited_on(place, &plan).checks;
        checks.into_iter().find(|check| check.id == "limits.memory").unwrap()
    };
    let held = memory(&complete());
    assert!(held.state != AuditState::Absent && !held.unenforced, "{held:?}");
    let lost = memory(&real(testing::HOST, doctor::Cgroups::none(Mode::None, "none".into())));
    assert!(lost.state == AuditState::Absent && lost.unenforced, "{lost:?}");
}

/// Landlock of a kernel before 6.12 leaves signals and abstract sockets alone, which counts where nothing else holds them.
#[test]
fn landlock_of_this_kernel_is_what_counts() {
    let plan = plan(|service| service.sandbox = Sandbox::of(Profile::Standard).into());
    let landlock = |abi| {
        let walls = crate::launch::Abilities { landlock: abi, ..testing::HOST.walls };
        let place = real(Host { walls, ..testing::HOST }, doctor::Cgroups::all_enforced());
        let checks = audited_on(&place, &plan).checks;
        checks.into_iter().find(|check| check.id == "landlock").unwrap().state
    };
    assert_eq!(
        (landlock(LANDLOCK_WITH_SCOPES), landlock(LANDLOCK_WITH_SCOPES - 1)),
        (AuditState::Present, AuditState::Partial)
    );
}

#[test]
fn what_strict_would_make_of_it_is_said_where_that_is_less() {
    let of =
        |profile| audited_on(&complete(), &plan(|service| service.sandbox = Sandbox::of(profile).into()));
    let strict = of(Profile::Strict);
    assert_eq!(
        (of(Profile::Standard).strict, of(Profile::Off).strict),
        (Some(strict.exposure), Some(strict.exposure))
    );
    assert_eq!(strict.strict, None);
}

/// Whoever asks for all services at once gets a line of each.
#[test]
fn an_overview_has_the_same_numbers_and_no_more() {
    let plan = plan(|service| service.sandbox = Sandbox::of(Profile::Standard).into());
    let place = complete();
    let held = place.application(&plan);
    let short = audited(&plan, plan.services.values().next().unwrap(), &place, &held, false);
    let full = audited_on(&place, &plan);
    assert_eq!((short.exposure, &short.next, short.strict), (full.exposure, &full.next, full.strict));
    assert!(
        short.checks.is_empty() && short.steps.is_empty() && short.can.is_empty() && short.at_most.is_empty()
    );
    assert!(
        !full.checks.is_empty() && !full.steps.is_empty() && !full.can.is_empty() && !full.at_most.is_empty()
    );
}

/// Cgroups that are plain folders, of which each has had so much memory at its peak.
#[test]
fn memory_is_proposed_by_the_most_that_a_worker_of_the_service_has_had() {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("proc/self/mountinfo", "1 0 0:1 / /cgroup rw - cgroup2 cgroup2 rw\n");
    write("proc/self/cgroup", "0::/\n");
    write("cgroup/cgroup.procs", "");
    let host = watt_os::cgroup::Host::detect(root.path()).unwrap();
    let tree = watt_os::cgroup::Tree::create(&host, "shop");
    let group = |service: &str, index: &str, peak: u64| {
        let group = tree.worker(service, index);
        tree.make(&group, &std::collections::BTreeSet::new()).unwrap();
        let dir = group.directories().next().unwrap();
        std::fs::write(dir.join("cgroup.controllers"), "memory").unwrap();
        std::fs::write(dir.join("memory.peak"), peak.to_string()).unwrap();
        (ServiceId::new(service).unwrap(), group)
    };
    let plan = plan(|service| (service.limits.cgroup, service.limits_total) = Default::default());
    let mut place = complete();
    place.groups =
        vec![group("api", "0", 100 << 20), group("api", "1", 300 << 20), group("web", "0", 5 << 30)];
    let steps = audited_on(&place, &plan).steps;
    let step = steps.iter().find(|step| step.key[2..] == ["limits", "memory"]).unwrap();
    assert_eq!(step.line, "services.api.limits.memory: 1G");
    assert_eq!(step.caution.as_deref(), Some("twice the most that a worker has had so far"));
}

#[test]
fn what_a_service_did_is_what_it_is_allowed() {
    let plan = plan(|service| service.egress.allow = None);
    let mut place = complete();
    let outgoing = |to: &str, connections| {
        let counts = watt_api::mesh::OutgoingCounts { connections, ..Default::default() };
        Outgoing { to: to.to_owned(), counts }
    };
    let seen = vec![outgoing("db.example.org:5432", 3), outgoing("x.example.org:1", 0), outgoing("", 9)];
    place.outside = [("api".to_owned(), seen)].into();
    let next = audited_on(&place, &plan).next.unwrap();
    assert_eq!(next.line, r#"services.api.egress.allow: ["db.example.org:5432"]"#);
    assert_eq!(next.value, serde_json::json!(["db.example.org:5432"]));
}

#[test]
fn an_ordinary_user_has_what_is_left() {
    let host = Host {
        is_root: false,
        user_namespace: true,
        walls: crate::launch::Abilities { change_user: false, ..testing::HOST.walls },
        ..testing::HOST
    };
    let place = real(host, doctor::Cgroups::all_enforced());
    let there = audited_on(&place, &plan(|service| service.scheduling.nice = Some(-5)));
    assert_eq!(lost(&there), ["user"]);
    let check = |id: &str| there.checks.iter().find(|check| check.id == id).unwrap();
    assert_eq!(check("user").note, "the user who started watt, as whom others run too");
    assert_eq!(check("scheduling").state, AuditState::Present, "only root's services go before others");
}

#[test]
fn a_name_of_roots_is_root() {
    let user = watt_core::sandbox::User::Named { user: "toor".into(), group: None };
    let plan = plan(|service| Arc::make_mut(&mut service.sandbox).user = user);
    let mut place = complete();
    let identity = watt_exec::plan::Identity { uid: 0, gid: 0, groups: Vec::new() };
    let account = crate::launch::accounts::Account { identity, name: None, home: None };
    place.accounts = plan.services.keys().map(|id| (id.clone(), Ok(Some(account.clone())))).collect();
    let there = audited_on(&place, &plan);
    assert_eq!(there.checks[0].note, "root");
}

/// `egress.allow` has no effect there.
#[test]
fn nothing_is_proposed_that_the_configuration_would_refuse() {
    let plan = plan(|service| (service.network, service.egress.allow) = (Network::Host, None));
    let there = audited_on(&complete(), &plan);
    let keys: Vec<&str> = there.steps.iter().map(|step| step.key[2].as_str()).collect();
    assert!(!keys.contains(&"egress") && keys.contains(&"network"), "{keys:?}");
}

/// A configuration as JSON, with one line of an audit in it.
fn with_line(config: &serde_json::Value, step: &AuditStep) -> serde_json::Value {
    let mut config = config.clone();
    let mut at = &mut config;
    for part in &step.key {
        // A word stands for the profile of that name.
        if at.is_string() {
            *at = serde_json::json!({ "profile": at.take() });
        }
        at = &mut at[part.as_str()];
    }
    *at = step.value.clone();
    config
}

fn audit_of(config: &serde_json::Value) -> control::Audit {
    let sources = watt_config::Sources {
        file: "/srv/shop/watt.json".into(),
        text: config.to_string(),
        ..watt_config::Sources::default()
    };
    let plan = watt_config::plan(&sources);
    of_configuration(&plan.unwrap_or_else(|report| panic!("{config}: {:?}", report.problems())))
}

/// Every line that is proposed is one that the configuration takes, and does what is said.
#[test]
fn every_line_can_be_written_and_lowers_the_exposure_as_told() {
    let check = |service: serde_json::Value, all: serde_json::Value| {
        let mut service = service;
        service["command"] = "./server".into();
        let mut config = serde_json::json!({ "name": "shop", "services": { "api": service, "web": { "command": "./web" } } });
        config.as_object_mut().unwrap().extend(all.as_object().unwrap().clone());
        let before = audit_of(&config).services.remove(0);
        assert!(!before.steps.is_empty() || before.exposure < 2.0, "{config}");
        for step in &before.steps {
            let after = audit_of(&with_line(&config, step)).services.remove(0);
            assert_eq!(after.exposure, step.exposure, "{}", step.line);
            assert!(after.exposure < before.exposure, "{}", step.line);
        }
        before.steps.len()
    };
    use serde_json::json;
    let none = || json!({});
    assert!(check(json!({}), none()) > 15);
    assert!(check(json!({ "sandbox": "off" }), none()) > 30);
    assert!(check(json!({ "sandbox": "strict" }), none()) > 5);
    check(json!({}), json!({ "sandbox": "off" }));
    check(
        json!({ "sandbox": { "user": "www-data", "ambient_capabilities": ["chown"], "capabilities": ["chown"] } }),
        none(),
    );
    check(
        json!({ "sandbox": { "profile": "off", "private_tmp": true, "system_calls": ["~@mount"] } }),
        none(),
    );
    check(
        json!({ "network": "host", "limits": { "memory_high": "700M" } }),
        json!({ "limits": { "memory": "800M", "pids": 7 } }),
    );
    check(
        json!({ "limits_total": { "cpu": 0.25, "memory": "100000001" }, "egress": { "allow": ["*:443"] } }),
        none(),
    );
    check(json!({ "limits": { "nofile": 4096, "core": 0, "cpu": 1, "pids": 5, "memory": "1G" } }), none());
}
