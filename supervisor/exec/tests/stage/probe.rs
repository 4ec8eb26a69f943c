//! Finding out what the host allows.

use std::{os::unix::fs::MetadataExt, path::PathBuf};

use watt_exec::plan::{
    Capabilities, HideProcesses, HostName, Identity, LaunchPlan, Mount, Namespaces, PrivateNetwork, Probe,
    Report, Task,
};

use crate::harness::{User, launch, shell, start};

fn probe(user: User) -> Probe {
    let finished = start(user, &Task::Probe, &[]).finish();
    assert_eq!(finished.status, Some(0));
    match finished.reports.as_slice() {
        [Report::Probe(probe)] => probe.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn everything_is_answered_and_refusals_are_named() {
    for user in User::all() {
        let probe = probe(user);
        if user.is_root() {
            assert_eq!(probe.change_user, Ok(()));
        } else {
            let refused = probe.change_user.clone().unwrap_err();
            assert_eq!(refused.step, "credentials");
        }
        // A host that refuses the namespace refuses what needs it, and for the same reason.
        if let Err(failure) = &probe.network_namespace {
            assert_eq!(probe.redirect.as_ref(), Err(failure));
            assert_eq!(probe.any_ip.as_ref(), Err(failure));
        }
    }
}

/// What the probe promises is what a launch does: for each answer a plan that needs it.
#[test]
fn an_answer_is_what_a_launch_finds() {
    let mount = |mount| LaunchPlan { mounts: vec![mount], ..shell("true") };
    let namespaces = |namespaces| LaunchPlan { namespaces, ..shell("true") };
    let path = || PathBuf::from("/");
    for user in User::all() {
        let probe = probe(user);
        let root = user.is_root();
        let none = Namespaces::default;
        let proc = || mount(Mount::Proc { hide: HideProcesses::Invisible, processes_only: false });
        let mut cases = vec![
            (&probe.read_only, mount(Mount::ReadOnly { path: path(), optional: false })),
            (&probe.devices, mount(Mount::Devices)),
            (&probe.proc_shared, proc()),
            (&probe.sys, LaunchPlan { network: Some(PrivateNetwork::default()), ..mount(Mount::Sys) }),
            (&probe.ipc_namespace, namespaces(Namespaces { ipc: true, ..none() })),
            (&probe.uts_namespace, namespaces(Namespaces { uts: Some(HostName::Same), ..none() })),
            (
                &probe.cgroup_namespace,
                LaunchPlan { namespaces: Namespaces { cgroup: true, ..none() }, ..mount(Mount::Cgroups) },
            ),
            (&probe.keyring, LaunchPlan { keyring: true, ..shell("true") }),
            (
                &probe.capabilities,
                LaunchPlan { capabilities: Some(Capabilities { bounding: 0, ambient: 0 }), ..shell("true") },
            ),
            (
                &probe.change_user,
                LaunchPlan {
                    identity: Some(Identity { uid: 1234, gid: 1234, groups: Vec::new() }),
                    ..shell("true")
                },
            ),
        ];
        if user == User::Caller {
            let own = Namespaces { pid: true, ..none() };
            cases.push((&probe.pid_namespace, namespaces(own.clone())));
            cases.push((&probe.proc, LaunchPlan { namespaces: own, ..proc() }));
        }
        for (answer, plan) in cases {
            let plan = LaunchPlan { user_namespace: !root && probe.user_namespace.is_ok(), ..plan };
            let finished = launch(user, plan.clone());
            let launched = !matches!(finished.reports.last(), Some(Report::Failed(_)));
            assert_eq!(answer.is_ok(), launched, "{user:?} {answer:?} {:?} {plan:?}", finished.reports);
        }
        assert_eq!(probe.landlock.ok(), watt_os::landlock::abi().ok());
    }
}

#[test]
fn the_host_stays_as_it_was() {
    let before = std::fs::metadata("/etc/hosts").unwrap().ino();
    let routes = || std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    let (routes_before, rules) = (routes(), || std::fs::read_to_string("/proc/net/netfilter/nf_log").ok());
    let rules_before = rules();
    User::all().into_iter().for_each(|user| drop(probe(user)));
    assert_eq!(std::fs::metadata("/etc/hosts").unwrap().ino(), before);
    assert_eq!(routes(), routes_before);
    assert_eq!(rules(), rules_before);
}
