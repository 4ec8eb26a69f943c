//! What holds for any service: a switch that is turned on never makes it worse, and the profiles are in their order.

use proptest::prelude::*;

use super::*;

/// A sandbox of any values.
fn any_sandbox() -> impl Strategy<Value = Sandbox> {
    let some = |all: &'static [Capability]| prop::sample::subsequence(all, 0..=all.len());
    let families = prop::sample::subsequence(AddressFamily::ALL, 0..=AddressFamily::ALL.len());
    let calls = prop::option::of(prop_oneof![Just(Filter::standard()), Just(Filter::strict())]);
    let user = prop_oneof![
        Just(User::Same),
        Just(User::Dynamic),
        Just(User::Named { user: "www".into(), group: None }),
        Just(User::Named { user: "root".into(), group: None }),
    ];
    let path = prop_oneof![
        Just("/etc"),
        Just("/srv/shop/web"),
        Just("/srv/shop/api/data"),
        Just("/data"),
        Just("/")
    ];
    let access = prop_oneof![
        Just(PathAccess::ReadOnly),
        Just(PathAccess::ReadWrite),
        Just(PathAccess::Bind { source: "/srv/shop/db".into(), read_only: false }),
    ];
    let rule =
        (access, path).prop_map(|(access, path)| PathRule { access, path: path.into(), optional: false });
    let words = (
        prop_oneof![
            Just(ProtectSystem::No),
            Just(ProtectSystem::Yes),
            Just(ProtectSystem::Full),
            Just(ProtectSystem::Strict)
        ],
        prop_oneof![Just(ProtectHome::No), Just(ProtectHome::ReadOnly), Just(ProtectHome::Hidden)],
        prop_oneof![Just(ProtectProc::Default), Just(ProtectProc::Invisible), Just(ProtectProc::Ptraceable)],
    );
    let sets = (
        prop::option::of(some(Capability::ALL)),
        some(Capability::ALL),
        prop::option::of(families),
        calls,
        user,
        prop::collection::vec(rule, 0..3),
        prop::sample::subsequence(vec!["adm".to_owned(), "docker".to_owned()], 0..=2),
        (0..=0o777_u32, prop::option::of(prop::sample::subsequence(&Namespace::ALL[..], 0..=8))),
    );
    (prop::collection::vec(any::<bool>(), SWITCHES.len()), words, sets).prop_map(|(on, words, sets)| {
        let (protect_system, protect_home, protect_proc) = words;
        let (capabilities, ambient, families, system_calls, user, paths, groups, (umask, kinds)) = sets;
        let mut sandbox = Sandbox {
            protect_system,
            protect_home,
            protect_proc,
            capabilities: capabilities.map(BTreeSet::from_iter),
            ambient_capabilities: ambient.into_iter().collect(),
            address_families: families.map(BTreeSet::from_iter),
            system_calls,
            user,
            paths,
            supplementary_groups: groups,
            umask,
            restrict_namespaces: kinds.map(BTreeSet::from_iter),
            ..Sandbox::of(Profile::Off)
        };
        for (switch, on) in SWITCHES.iter().zip(on) {
            *switch(&mut sandbox) = on;
        }
        sandbox
    })
}

type Switch = fn(&mut Sandbox) -> &mut bool;

const SWITCHES: [Switch; 20] = [
    |s| &mut s.required,
    |s| &mut s.no_new_privileges,
    |s| &mut s.private_tmp,
    |s| &mut s.private_devices,
    |s| &mut s.protect_services,
    |s| &mut s.protect_kernel_tunables,
    |s| &mut s.protect_kernel_modules,
    |s| &mut s.protect_kernel_logs,
    |s| &mut s.protect_control_groups,
    |s| &mut s.protect_clock,
    |s| &mut s.protect_hostname,
    |s| &mut s.private_pids,
    |s| &mut s.private_ipc,
    |s| &mut s.private_cgroup,
    |s| &mut s.private_keyring,
    |s| &mut s.restrict_realtime,
    |s| &mut s.restrict_suid_sgid,
    |s| &mut s.memory_deny_write_execute,
    |s| &mut s.lock_personality,
    |s| &mut s.landlock,
];

/// Every way to make a sandbox stricter by one switch. `nth` chooses among many.
fn stricter(sandbox: &Sandbox, nth: usize) -> Vec<Sandbox> {
    let mut all: Vec<Sandbox> = Vec::new();
    let mut change = |change: &dyn Fn(&mut Sandbox)| {
        let mut stricter = sandbox.clone();
        change(&mut stricter);
        all.push(stricter);
    };
    for switch in SWITCHES {
        change(&|s| *switch(s) = true);
    }
    for system in [ProtectSystem::Yes, ProtectSystem::Full, ProtectSystem::Strict] {
        change(&|s| s.protect_system = s.protect_system.max(system));
    }
    for home in [ProtectHome::ReadOnly, ProtectHome::Hidden] {
        change(&|s| s.protect_home = s.protect_home.max(home));
    }
    for proc in [ProtectProc::Invisible, ProtectProc::Ptraceable] {
        change(&|s| s.protect_proc = s.protect_proc.max(proc));
    }
    change(&|s| {
        let kinds = s.restrict_namespaces.get_or_insert_with(|| Namespace::ALL.into());
        kinds.remove(&Namespace::ALL[nth % Namespace::ALL.len()]);
    });
    change(&|s| s.restrict_namespaces = Some(BTreeSet::new()));
    change(&|s| s.paths.push(PathRule { access: PathAccess::NoExec, path: "/x".into(), optional: false }));
    change(&|s| s.user = User::Dynamic);
    change(&|s| s.umask |= 1 << (nth % 9));
    change(&|s| drop((!s.paths.is_empty()).then(|| s.paths.remove(nth % s.paths.len()))));
    change(&|s| drop(s.supplementary_groups.pop()));
    change(&|s| {
        let capability = Capability::ALL[nth % Capability::ALL.len()];
        s.capabilities.get_or_insert_with(|| Capability::ALL.iter().copied().collect()).remove(&capability);
    });
    change(&|s| _ = s.ambient_capabilities.remove(&Capability::ALL[nth % Capability::ALL.len()]));
    change(&|s| {
        let family = AddressFamily::ALL[nth % AddressFamily::ALL.len()];
        s.address_families
            .get_or_insert_with(|| AddressFamily::ALL.iter().copied().collect())
            .remove(&family);
    });
    let words: Vec<&str> = crate::syscalls::groups::words().collect();
    change(&|s| {
        let everything = Filter { otherwise: Action::Allow, calls: BTreeMap::new() };
        let word = format!("~{}", words[nth % words.len()]);
        s.system_calls.get_or_insert(everything).amend(&word, Action::REFUSE).unwrap();
    });
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the rest is, a switch that is turned on never makes it worse, for root and others, on any host.
    #[test]
    fn no_switch_makes_it_worse(
        sandbox in any_sandbox(),
        nth in 0..10_000_usize,
        is_root: bool,
        landlock_scopes: bool,
        own_network: bool,
    ) {
        let host = Circumstances { is_root, landlock_scopes, ..Circumstances::COMPLETE };
        let network = if own_network { Network::Private } else { Network::Host };
        let before = Service { network, ..service("api", sandbox.clone()) };
        for stricter in stricter(&sandbox, nth) {
            let after = Service { sandbox: Arc::new(stricter), ..before.clone() };
            prop_assert!(points(&after, host) <= points(&before, host), "{:?} to {:?}", sandbox, after.sandbox);
        }
        let after = Service { network: Network::Private, ..before.clone() };
        prop_assert!(points(&after, host) <= points(&before, host));
    }

    /// Whatever else a service has, each profile is worth more than the one before.
    #[test]
    fn strict_is_better_than_standard_and_standard_than_off(
        is_root: bool,
        landlock_scopes: bool,
        own_network: bool,
        bounded: bool,
        role in prop::option::of(prop_oneof![Just(Role::View), Just(Role::Admin)]),
    ) {
        let host = Circumstances { is_root, landlock_scopes, ..Circumstances::COMPLETE };
        let mut base = service("api", Sandbox::of(Profile::Off));
        base.network = if own_network { Network::Private } else { Network::Host };
        base.management = role;
        base.limits.cgroup.memory = bounded.then_some(1 << 30);
        let of = |profile| points(&steps::with_profile(&base, profile), host);
        prop_assert!(of(Profile::Strict) < of(Profile::Standard));
        prop_assert!(of(Profile::Standard) < of(Profile::Off));
    }

    /// What is proposed is an improvement, and by as much as is said.
    #[test]
    fn every_step_is_one_down(sandbox in any_sandbox()) {
        let api = service("api", sandbox);
        let before = with(&api, Circumstances::COMPLETE, exposure);
        for step in tried(&api, &Seen::default()) {
            prop_assert!(step.after < before, "{}", step.line("api"));
        }
    }
}
