//! Our groups against those of the systemd on this host.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use watt_core::syscalls::groups::{self, GROUPS};

/// The version whose groups ours were compared with. Others have moved a call from one to the other.
const VERSION: &str = "systemd 252 ";

/// Calls that this version lists as known and has in no group: it got them by updates, their groups came later.
const LATER: [&str; 8] = [
    "futex_requeue",
    "futex_wait",
    "futex_wake",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "map_shadow_stack",
    "seccomp",
];

#[test]
fn groups_have_the_members_they_have_for_systemd() {
    let Some(theirs) = theirs() else {
        eprintln!("not checked: there is no {VERSION}here");
        return;
    };
    // Its `@known` lacks some that are in its other groups.
    let known: BTreeSet<_> = theirs.keys().flat_map(|group| expand(&theirs, group)).collect();
    for group in GROUPS.iter().filter(|group| group.name != "@sandbox") {
        let theirs = expand(&theirs, group.name);
        let members = group.members().into_iter().filter(|call| known.contains(*call));
        let ours: BTreeSet<_> = members.filter(|call| !LATER.contains(call)).map(String::from).collect();
        assert_eq!(ours, theirs, "{}", group.name);
    }
    let unknown: Vec<_> = theirs.keys().filter(|name| groups::members(name).is_none()).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

type Groups = BTreeMap<String, Vec<String>>;

/// What `systemd-analyze syscall-filter` prints: a group's name, and indented a comment and its members.
fn theirs() -> Option<Groups> {
    let version = Command::new("systemd-analyze").arg("--version").output().ok()?;
    if !version.stdout.starts_with(VERSION.as_bytes()) {
        return None;
    }
    let output = Command::new("systemd-analyze").args(["syscall-filter", "--no-pager"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut groups = Groups::new();
    let mut members = None;
    for line in text.lines() {
        match (line.strip_prefix("    "), &mut members) {
            (Some(word), Some(group)) if !word.starts_with('#') => {
                groups.entry(String::clone(group)).or_default().push(word.into());
            }
            (None, _) => members = line.starts_with('@').then(|| line.to_owned()),
            (Some(_), _) => {}
        }
    }
    Some(groups)
}

fn expand(theirs: &Groups, group: &str) -> BTreeSet<String> {
    let words = theirs.get(group).into_iter().flatten();
    words
        .flat_map(|word| match word.starts_with('@') {
            true => expand(theirs, word),
            false => BTreeSet::from([word.clone()]),
        })
        .collect()
}
