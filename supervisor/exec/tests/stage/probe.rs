//! Finding out what the host allows.

use std::os::unix::fs::MetadataExt;

use watt_exec::plan::{Probe, Report, Task};

use crate::harness::{User, start};

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
