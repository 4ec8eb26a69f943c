//! Sandboxes, limits, ways out, secrets and roles: what a file means.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use watt_core::{
    ServiceId,
    plan::{
        CgroupLimits, Destination, EgressRule, IoLimits, IoPriority, Resource, Role, Scheduling,
        SchedulingPolicy, Secret, Service,
    },
    sandbox::{
        AddressFamily, Capability, Namespace, PathAccess, PathRule, Personality, Profile, ProtectHome,
        ProtectProc, ProtectSystem, Sandbox, Temporary, User,
    },
    syscalls::Action,
};

use crate::{invalid, valid};

fn id(name: &str) -> ServiceId {
    ServiceId::new(name).unwrap()
}

/// The only service of a file with these keys at the top and these in the service.
#[track_caller]
fn service_in(top: &str, keys: &str) -> Service {
    valid(&format!("{top}\nservices: {{a: {{command: x, {keys}}}}}")).plan.services[&id("a")].clone()
}

#[track_caller]
fn service(keys: &str) -> Service {
    service_in("", keys)
}

#[track_caller]
fn sandbox(text: &str) -> Sandbox {
    (*service(&format!("sandbox: {text}")).sandbox).clone()
}

#[test]
fn a_profile_is_a_word_or_the_start_of_a_table() {
    for (word, profile) in
        [("off", Profile::Off), ("standard", Profile::Standard), ("strict", Profile::Strict)]
    {
        assert_eq!(sandbox(word), Sandbox::of(profile));
        assert_eq!(sandbox(&format!("{{profile: {word}}}")), Sandbox::of(profile));
        assert_eq!(*service_in(&format!("sandbox: {word}"), "").sandbox, Sandbox::of(profile));
    }
    assert_eq!(sandbox("{}"), Sandbox::of(Profile::Standard));
}

#[test]
fn a_service_changes_single_switches_of_the_applications_sandbox() {
    let top = "sandbox: {profile: strict, private_tmp: false, umask: 007}";
    let strict = Sandbox { private_tmp: false, umask: 0o007, ..Sandbox::of(Profile::Strict) };
    assert_eq!(*service_in(top, "").sandbox, strict);
    let changed = service_in(top, "sandbox: {private_pids: false}");
    assert_eq!(*changed.sandbox, Sandbox { private_pids: false, ..strict });
    let fresh = service_in(top, "sandbox: {profile: standard, private_pids: true}");
    assert_eq!(*fresh.sandbox, Sandbox { private_pids: true, ..Sandbox::of(Profile::Standard) });
}

/// Services without a sandbox of their own share one: it is large, and there may be thousands.
#[test]
fn services_share_a_sandbox() {
    let plan = valid(
        "services: {a: {command: x}, b: {command: x, sandbox: {}}, c: {command: x, sandbox: {umask: 022}}}",
    )
    .plan;
    let shared = &plan.services[&id("a")].sandbox;
    assert!(std::sync::Arc::ptr_eq(shared, &plan.services[&id("b")].sandbox));
    assert!(!std::sync::Arc::ptr_eq(shared, &plan.services[&id("c")].sandbox));
}

#[test]
fn every_switch_can_be_turned() {
    macro_rules! check {
        ($($name:ident),+) => {$(
            for profile in ["off", "strict"] {
                let start = sandbox(profile);
                let key = stringify!($name);
                let turned = sandbox(&format!("{{profile: {profile}, {key}: {}}}", !start.$name));
                assert_eq!(turned, Sandbox { $name: !start.$name, ..start }, "{key}");
            }
        )+};
    }
    check!(
        required,
        no_new_privileges,
        private_tmp,
        private_devices,
        protect_services,
        protect_kernel_tunables,
        protect_kernel_modules,
        protect_kernel_logs,
        protect_control_groups,
        protect_clock,
        protect_hostname,
        private_pids,
        private_ipc,
        private_cgroup,
        private_users,
        private_keyring,
        restrict_realtime,
        restrict_suid_sgid,
        memory_deny_write_execute,
        lock_personality,
        landlock
    );
}

#[test]
fn protections_have_degrees() {
    let system = |text: &str| sandbox(&format!("{{protect_system: {text}}}")).protect_system;
    assert_eq!(system("false"), ProtectSystem::No);
    assert_eq!(system("true"), ProtectSystem::Yes);
    assert_eq!(system("full"), ProtectSystem::Full);
    assert_eq!(system("strict"), ProtectSystem::Strict);
    let home = |text: &str| sandbox(&format!("{{protect_home: {text}}}")).protect_home;
    assert_eq!(home("false"), ProtectHome::No);
    assert_eq!(home("read_only"), ProtectHome::ReadOnly);
    assert_eq!(home("hidden"), ProtectHome::Hidden);
    assert_eq!(home("true"), ProtectHome::Hidden);
    let proc = |text: &str| sandbox(&format!("{{protect_proc: {text}}}")).protect_proc;
    assert_eq!(proc("default"), ProtectProc::Default);
    assert_eq!(proc("invisible"), ProtectProc::Invisible);
    assert_eq!(proc("ptraceable"), ProtectProc::Ptraceable);
}

fn path_rule(access: PathAccess, path: &str, optional: bool) -> PathRule {
    PathRule { access, path: path.into(), optional }
}

#[test]
fn paths_are_ordered_from_the_outside_in() {
    let rules = sandbox(
        "{read_write_paths: [/srv/data/up, -rel], read_only_paths: [/srv/data], inaccessible_paths: [/srv], \
         temporary_paths: [/var/cache], bind_paths: [/a:/srv/data/b, /c], bind_read_only_paths: ['-/d:/e']}",
    );
    let bind = |source: &str, read_only| PathAccess::Bind { source: source.into(), read_only };
    assert_eq!(
        rules.paths,
        [
            path_rule(bind("/c", false), "/c", false),
            path_rule(bind("/d", true), "/e", true),
            path_rule(PathAccess::Inaccessible, "/srv", false),
            path_rule(PathAccess::ReadOnly, "/srv/data", false),
            path_rule(bind("/a", false), "/srv/data/b", false),
            path_rule(PathAccess::ReadWrite, "/srv/data/up", false),
            path_rule(PathAccess::ReadWrite, "/srv/shop/rel", true),
            path_rule(PathAccess::Temporary(Temporary::DEFAULT), "/var/cache", false),
        ]
    );
}

/// Where nothing is executed has nothing to do with what is read-only, and is said beside it.
#[test]
fn executing_has_rules_of_its_own() {
    let rules = sandbox(
        "{no_exec_paths: [/, /srv], exec_paths: [-/usr], read_only_paths: [/srv], read_write_paths: [/usr]}",
    );
    assert_eq!(
        rules.paths,
        [
            path_rule(PathAccess::NoExec, "/", false),
            path_rule(PathAccess::ReadOnly, "/srv", false),
            path_rule(PathAccess::NoExec, "/srv", false),
            path_rule(PathAccess::ReadWrite, "/usr", false),
            path_rule(PathAccess::Exec, "/usr", true),
        ]
    );
    let both = "services: {a: {command: x, sandbox: {no_exec_paths: [/srv], exec_paths: [/srv]}}}";
    assert!(invalid(both).to_string().contains("two rules for `/srv`"));
}

#[test]
fn a_folder_in_memory_has_options() {
    let folder = |text: &str| match &sandbox(&format!("{{temporary_paths: ['{text}']}}")).paths[..] {
        [PathRule { access: PathAccess::Temporary(folder), path, optional }] => {
            assert_eq!(path.to_str(), Some("/a"));
            (*folder, *optional)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(folder("/a:"), (Temporary::DEFAULT, false));
    let options = Temporary { mode: 0o750, size: Some(64 << 20), read_only: true };
    assert_eq!(folder("-/a:mode=0750,ro,size=64M"), (options, true));
    let text = valid("services: {a: {command: x, sandbox: {temporary_paths: ['/a:size=64M,mode=750,ro']}}}")
        .show_text();
    assert!(text.contains("/a:ro,mode=0750,size=64M"), "{text}");
    let wrong = |options: &str| {
        invalid(&format!("services: {{a: {{command: x, sandbox: {{temporary_paths: ['/a:{options}']}}}}}}"))
            .to_string()
    };
    assert!(wrong("nosuid").contains("`nosuid` is not understood here"));
    assert!(
        wrong("mode=9").contains("`9` is not the mode of a folder") && wrong("mode=4755").contains("`4755`")
    );
    assert!(wrong("size=x").contains("`x` is not a size"));
}

#[test]
fn namespaces_are_refused_or_listed() {
    let allowed = |text: &str| sandbox(text).restrict_namespaces;
    assert_eq!(allowed("{profile: strict, restrict_namespaces: false}"), None);
    assert_eq!(allowed("{restrict_namespaces: true}"), Some(BTreeSet::new()));
    assert_eq!(allowed("{restrict_namespaces: []}"), Some(BTreeSet::new()));
    let two = [Namespace::Mount, Namespace::Pid].into();
    assert_eq!(allowed("{restrict_namespaces: [pid, mnt]}"), Some(two));
    let text = "services: {a: {command: x, sandbox: {restrict_namespaces: [network]}}}";
    assert!(invalid(text).to_string().contains("`network` is not understood here"));
}

#[test]
fn the_execution_domain_is_a_word() {
    assert_eq!(sandbox("strict").personality, None);
    assert_eq!(sandbox("{personality: linux32}").personality, Some(Personality::Linux32));
}

#[test]
fn a_services_paths_replace_the_applications_of_the_same_key_or_place() {
    let top = "sandbox: {read_only_paths: [/a, /b], inaccessible_paths: [/c, /d]}";
    let paths = |keys: &str| service_in(top, &format!("sandbox: {keys}")).sandbox.paths.clone();
    assert_eq!(
        paths("{inaccessible_paths: [/e], read_write_paths: [/b]}"),
        [
            path_rule(PathAccess::ReadOnly, "/a", false),
            path_rule(PathAccess::ReadWrite, "/b", false),
            path_rule(PathAccess::Inaccessible, "/e", false),
        ]
    );
    assert_eq!(paths("{inaccessible_paths: []}").len(), 2);
}

#[test]
fn accounts() {
    let user = |text: &str| sandbox(&format!("{{{text}}}")).user;
    let named =
        |user: &str, group: Option<&str>| User::Named { user: user.into(), group: group.map(Into::into) };
    assert_eq!(user("profile: standard"), User::Same);
    assert_eq!(user("user: www-data"), named("www-data", None));
    assert_eq!(user("user: 33, group: adm"), named("33", Some("adm")));
    assert_eq!(user("dynamic_user: true"), User::Dynamic);
    assert_eq!(user("profile: strict"), User::Dynamic);
    assert_eq!(user("profile: strict, dynamic_user: false"), User::Same);
    assert_eq!(user("profile: strict, user: db"), named("db", None));
    let inherited = |keys: &str| service_in("sandbox: {user: db, group: db}", keys).sandbox.user.clone();
    assert_eq!(inherited(""), named("db", Some("db")));
    assert_eq!(inherited("sandbox: {group: adm}"), named("db", Some("adm")));
    assert_eq!(inherited("sandbox: {user: web}"), named("web", None));
    assert_eq!(inherited("sandbox: {dynamic_user: true}"), User::Dynamic);
    assert_eq!(sandbox("{supplementary_groups: [video, 44]}").supplementary_groups, ["video", "44"]);
}

#[test]
fn rights_are_sets_or_a_word() {
    let capabilities = |text: &str| sandbox(&format!("{{profile: off, capabilities: {text}}}")).capabilities;
    assert_eq!(capabilities("all"), None);
    assert_eq!(capabilities("none"), Some(BTreeSet::new()));
    assert_eq!(capabilities("[]"), Some(BTreeSet::new()));
    let two = [Capability::Chown, Capability::NetRaw].into();
    assert_eq!(capabilities("[CAP_CHOWN, net_raw]"), Some(two));
    let ambient = sandbox("{ambient_capabilities: [net_bind_service]}").ambient_capabilities;
    assert_eq!(ambient, [Capability::NetBindService].into());
    let families = |text: &str| sandbox(&format!("{{address_families: {text}}}")).address_families;
    assert_eq!(families("all"), None);
    assert_eq!(families("none"), Some(BTreeSet::new()));
    assert_eq!(families("[AF_UNIX, inet6]"), Some([AddressFamily::Unix, AddressFamily::Inet6].into()));
    let umask = |text: &str| sandbox(&format!("{{umask: {text}}}")).umask;
    assert_eq!([umask("022"), umask("'0077'"), umask("0o7"), umask("0")], [0o022, 0o077, 0o007, 0]);
}

#[test]
fn system_calls_are_a_list_of_their_own_or_change_one() {
    let calls = |text: &str| sandbox(text).system_calls;
    let action = |text: &str, call: &str| calls(text).unwrap().action(call);
    assert_eq!(calls("{system_calls: all}"), None);
    assert_eq!(calls("{system_calls: strict}"), Sandbox::of(Profile::Strict).system_calls);
    // A list of what is allowed.
    let own = "{system_calls: ['@basic-io', socket]}";
    assert_eq!(action(own, "read"), Action::Allow);
    assert_eq!(action(own, "execve"), Action::Allow, "what every program needs");
    assert_eq!(action(own, "connect"), Action::REFUSE);
    // What is taken away is taken from what the profile allows.
    let less = "{profile: strict, system_calls: ['~socket:EACCES', '~connect:kill']}";
    assert_eq!(action(less, "socket"), Action::Fail(13));
    assert_eq!(action(less, "connect"), Action::Kill);
    assert_eq!(action(less, "mount"), Action::REFUSE);
    // A profile's list with more.
    let more = "{system_calls: [strict, chroot, '~read']}";
    assert_eq!(action(more, "chroot"), Action::Allow);
    assert_eq!(action(more, "read"), Action::REFUSE);
    assert_eq!(action(more, "mount"), Action::REFUSE);
    assert_eq!(action("{profile: off, system_calls: ['~read']}", "write"), Action::Allow);
    assert_eq!(action("{system_calls: [all, '~read']}", "mount"), Action::Allow);
    // How the calls fail that have no answer of their own.
    let kills = "{system_calls: [read, '~write:EACCES', '~pipe'], system_call_error: kill}";
    assert_eq!(
        [action(kills, "mount"), action(kills, "write"), action(kills, "pipe")],
        [Action::Kill, Action::Fail(13), Action::Kill]
    );
    let base = "{profile: strict, system_calls: ['~socket'], system_call_error: 38}";
    assert_eq!([action(base, "socket"), action(base, "mount")], [Action::ABSENT, Action::REFUSE]);
    for (sandbox, error) in [
        ("{system_call_error: EACCES}", "`system_call_error` without a list"),
        ("{system_call_error: EACCES, system_calls: strict}", "`system_call_error` without a list"),
        ("{system_call_error: EPREM, system_calls: [read]}", "`EPREM` is no answer to a call"),
    ] {
        let report = invalid(&format!("services: {{a: {{command: x, sandbox: {sandbox}}}}}")).to_string();
        assert!(report.contains(error), "{report}");
    }
}

#[test]
fn variables_can_be_withheld_and_input_be_a_file() {
    let with = service("unset_env: [DB_PASSWORD, LANG], stdin: in.sql");
    assert_eq!(with.unset_env, ["DB_PASSWORD", "LANG"].map(str::to_owned).into());
    assert_eq!(with.stdin, Some("/srv/shop/in.sql".into()));
    assert_eq!((service("").unset_env.len(), service("").stdin), (0, None));
    let wrong =
        |name: &str| invalid(&format!("services: {{a: {{command: x, unset_env: [{name}]}}}}")).to_string();
    assert!(wrong("WATT_APP").contains("watt sets `WATT_APP` itself"));
    assert!(wrong("'A=1'").contains("`A=1` is not a variable's name"));
}

#[test]
fn limits_of_the_cgroup() {
    let text = "{memory: 512M, memory_high: 400M, memory_low: 64M, memory_min: 32M, swap: 0, cpu: 1.5, cpu_weight: 200, \
                cpuset: '0-2,5', pids: 64, io_weight: 50, \
                io: {/var: {read_bytes: 1M, write_bytes: 2M, read_ops: 3, write_ops: 4}}, hugetlb: {2MB: 4M}}";
    let expected = CgroupLimits {
        memory: Some(512 << 20),
        memory_high: Some(400 << 20),
        memory_low: Some(64 << 20),
        memory_min: Some(32 << 20),
        swap: Some(0),
        cpu_millis: Some(1500),
        cpu_weight: Some(200),
        cpus: [0, 1, 2, 5].into(),
        pids: Some(64),
        io_weight: Some(50),
        io: [(
            "/var".into(),
            IoLimits {
                read_bytes: Some(1 << 20),
                write_bytes: Some(2 << 20),
                read_ops: Some(3),
                write_ops: Some(4),
            },
        )]
        .into(),
        hugetlb: [("2MB".to_owned(), 4 << 20)].into(),
    };
    assert_eq!(service(&format!("limits: {text}")).limits.cgroup, expected);
    assert_eq!(service(&format!("limits_total: {text}")).limits_total, expected);
    assert_eq!(valid(&format!("services: {{a: {{command: x}}}}\nlimits: {text}")).plan.limits, expected);
}

#[test]
fn scheduling() {
    let scheduling = |text: &str| service(&format!("scheduling: {text}")).scheduling;
    assert_eq!(
        scheduling(
            "{nice: -5, policy: batch, affinity: '1,3', io: realtime, io_level: 2, oom_score_adj: -100}"
        ),
        Scheduling {
            nice: Some(-5),
            policy: Some(SchedulingPolicy::Batch),
            affinity: [1, 3].into(),
            io: Some(IoPriority::Realtime(2)),
            oom_score_adj: Some(-100),
        }
    );
    let policy = |text: &str| scheduling(text).policy;
    assert_eq!(policy("{policy: other}"), Some(SchedulingPolicy::Other));
    assert_eq!(policy("{policy: idle}"), Some(SchedulingPolicy::Idle));
    assert_eq!(policy("{policy: fifo}"), Some(SchedulingPolicy::Fifo(1)));
    assert_eq!(policy("{policy: rr, priority: 50}"), Some(SchedulingPolicy::RoundRobin(50)));
    let io = |text: &str| scheduling(text).io;
    assert_eq!(io("{io: best_effort}"), Some(IoPriority::BestEffort(4)));
    assert_eq!(io("{io_level: 7}"), Some(IoPriority::BestEffort(7)));
    assert_eq!(io("{io: idle}"), Some(IoPriority::Idle));
}

#[test]
fn stalls() {
    let check = |keys: &str, tell: &[(Resource, u64)], recycle: &[(Resource, u64)]| {
        let times = |times: &[(Resource, u64)]| {
            let times = times.iter().map(|(resource, ms)| (*resource, Duration::from_millis(*ms)));
            times.collect::<BTreeMap<_, _>>()
        };
        let Service { pressure, limits, .. } = service(keys);
        assert_eq!(pressure.told(&limits.cgroup), times(tell), "{keys}");
        assert_eq!(pressure.recycle, times(recycle), "{keys}");
    };
    use Resource::{Cpu, Io, Memory};
    check("", &[], &[]);
    check("pressure: { cpu: 1s, io: 1ms }", &[(Cpu, 1000), (Io, 1)], &[]);
    check("limits: { memory_high: 64M }", &[(Memory, 200)], &[]);
    check("limits: { memory_high: 64M }, pressure: { memory: never }", &[], &[]);
    check("limits: { memory_high: 64M }, pressure: { memory: 2s }", &[(Memory, 2000)], &[]);
    check("pressure: { recycle: { memory: 30s, io: never } }", &[(Memory, 200)], &[(Memory, 30_000)]);
    check(
        "pressure: { recycle: { cpu: 30s, io: 2s } }",
        &[(Cpu, 1000), (Io, 1000)],
        &[(Cpu, 30_000), (Io, 2000)],
    );
    let both = "pressure: { cpu: 500ms, recycle: { cpu: 1m } }";
    check(both, &[(Cpu, 500)], &[(Cpu, 60_000)]);
}

#[test]
fn ways_out() {
    let allow = |text: &str| service(&format!("egress: {{allow: [{text}]}}")).egress.allow.unwrap();
    let check = |text: &str, to: Destination, port: u16| {
        assert_eq!(allow(text), [EgressRule { to, port: std::num::NonZeroU16::new(port) }], "{text}");
    };
    let name = |text: &str| Destination::Name(text.into());
    let network = |address: &str, bits| Destination::Network(address.parse().unwrap(), bits);
    check("'*'", Destination::Anywhere, 0);
    check("'*:443'", Destination::Anywhere, 443);
    check("Example.org", name("example.org"), 0);
    check("'*.example.org:443'", name("*.example.org"), 443);
    check("10.0.0.0/8:5432", network("10.0.0.0", 8), 5432);
    check("192.0.2.1", network("192.0.2.1", 32), 0);
    check("0.0.0.0/0", network("0.0.0.0", 0), 0);
    check("'[2001:db8::]/32'", network("2001:db8::", 32), 0);
    check("'[2001:db8::1]:25'", network("2001:db8::1", 128), 25);
    check("'[::]/0:80'", network("::", 0), 80);
    assert_eq!(service("egress: {host_ports: [5432, 6379]}").egress.host_ports, [5432, 6379].into());
    assert_eq!(service("egress: {allow: []}").egress.allow, Some(Vec::new()));
    assert_eq!(service("sandbox: strict").egress.allow, Some(Vec::new()), "strict reaches what is written");
    assert_eq!(service("sandbox: off").egress.allow, None);
}

#[test]
fn secrets() {
    let text = "secrets: {a: {file: keys/a}, b: {env: DB_PASSWORD}, c: {credential: cred}, d: {command: 'pass show x'}}\n\
                services: {a: {command: x, secrets: [a, b]}, b: {command: x, secrets: {password: c}}}";
    let config = valid(text);
    let secrets = &config.plan.secrets;
    assert_eq!(secrets["a"], Secret::File("/srv/shop/keys/a".into()));
    assert_eq!(secrets["b"], Secret::Environment("DB_PASSWORD".into()));
    assert_eq!(secrets["c"], Secret::Credential("cred".into()));
    assert_eq!(secrets["d"], Secret::Command(["pass", "show", "x"].map(Into::into).into()));
    let of = |name: &str| config.plan.services[&id(name)].secrets.clone();
    assert_eq!(of("a"), [("a", "a"), ("b", "b")].map(|(file, name)| (file.into(), name.into())).into());
    assert_eq!(of("b"), [("password".into(), "c".into())].into());
    assert!(!config.show_text().contains("hidden"), "the value of a secret is shown");
    assert!(!config.show().to_string().contains("hidden"), "the value of a secret is shown");
}

/// `.env` is part of every service's environment, but for what is a secret.
#[test]
fn a_secret_of_the_env_file_is_in_no_environment() {
    let text = "secrets: {a: {env: TOKEN}}\nservices: {a: {command: x, secrets: [a]}}";
    let mut sources = crate::sources("watt.yaml", text);
    sources.dotenv = Some(("/srv/shop/.env".into(), "TOKEN=t0ken\nOTHER=1".into()));
    let config = watt_config::parse(&sources).unwrap_or_else(|report| panic!("{report}"));
    let env = &config.plan.services[&id("a")].env;
    assert_eq!(env.keys().collect::<Vec<_>>(), ["OTHER"]);
    assert!(!config.show_text().contains("t0ken"));
}

/// Whatever a value is for, when a variable is in it.
#[test]
fn what_may_be_a_secret_is_left_out_of_what_is_redacted() {
    let text = "services: {a: {command: 'x --token={TOKEN}', env: {URL: 'postgres://u:written@h'}, stop: {drain: '{D:-4s}'}}}\n\
                jobs: {j: {service: a, command: [y, '{TOKEN}'], schedule: '@daily'}}";
    let mut sources = crate::sources("watt.yaml", text);
    sources.dotenv = Some(("/srv/shop/.env".into(), "TOKEN=t0ken\nOTHER=0ther".into()));
    let mut config = watt_config::parse(&sources).unwrap_or_else(|report| panic!("{report}"));
    let all = format!("{}{}", config.show_text(), config.show());
    config.redact();
    let redacted = format!("{}{}", config.show_text(), config.show());
    for secret in ["t0ken", "0ther", "written"] {
        assert!(all.contains(secret), "{all}");
        assert!(!redacted.contains(secret), "{redacted}");
    }
    assert!(redacted.contains("variable TOKEN of .env:1:1"), "where it came from stays: {redacted}");
    assert!(redacted.contains("drain: 4s"), "a default is no variable: {redacted}");
}

#[test]
fn roles() {
    let management = |text: &str| service(&format!("management: {text}")).management;
    assert_eq!(management("view"), Some(Role::View));
    assert_eq!(management("operate"), Some(Role::Operate));
    assert_eq!(management("admin"), Some(Role::Admin));
    let plan = valid("control: {groups: {ops: operate, adm: admin}}\nservices: {a: {command: x}}").plan;
    assert_eq!(plan.control, [("ops".into(), Role::Operate), ("adm".into(), Role::Admin)].into());
}

#[test]
fn what_is_shown_reads_back_as_the_same_plan() {
    let config = valid(include_str!("walls.yaml"));
    let text = config.show_text();
    assert_eq!(config.plan, valid(&text).plan, "{text}");
    assert!(text.contains(r#"cpuset: "0-3""#), "ranges stay short: {text}");
}

#[test]
fn every_switch_is_shown_with_where_it_came_from() {
    let config = valid(
        "sandbox: {umask: 022}\nservices: {a: {command: x, sandbox: {private_tmp: false}}, b: {command: x, sandbox: strict}}",
    );
    let shown = config.service_json(&id("a"));
    assert_eq!(shown["sandbox"]["private_tmp"]["from"], "watt.yaml:2:51");
    assert_eq!(shown["sandbox"]["umask"]["from"], "watt.yaml:1:18");
    assert_eq!(shown["sandbox"]["private_devices"], serde_json::json!({ "value": true, "from": "default" }));
    let keys = |shown: &serde_json::Value| shown.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let unwritten = valid("services: {a: {command: x}}").service_json(&id("a"));
    assert_eq!(keys(&unwritten["sandbox"]), keys(&shown["sandbox"]), "in the order of the reference");
    let strict = config.service_json(&id("b"));
    assert_eq!(strict["sandbox"]["umask"], serde_json::json!({ "value": "077", "from": "profile strict" }));
}
