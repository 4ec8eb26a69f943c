//! docs/hostile.md: its text, and what a kept one says.

use std::{collections::BTreeSet, fmt::Write as _};

use watt_tests::User;

use super::{Attack, Kept, SETTINGS, Setting, Table, Verdict, machines, successes};

/// Why an attack that succeeds in some sandbox does so.
pub(super) fn reason(attack: &str) -> Option<&'static str> {
    REASONS.iter().find(|(name, _)| *name == attack).map(|(_, why)| *why)
}

/// What they are allowed on purpose, or cannot be kept from here. An ordinary user has no cgroups on a host that delegates none.
const REASONS: &[(&str, &str)] = &[
    ("user-namespace", BROWSERS),
    ("user-namespace-by-clone", BROWSERS),
    (
        "write-var",
        "root's service in `standard` writes root's files, as with systemd's `ProtectSystem=full`: `protect_system: strict`, or a `user:`",
    ),
    (
        "read-shadow",
        "root's service in `standard` reads root's files: a `user:`, `dynamic_user: true`, or `strict`",
    ),
    ("read-home", "runtimes are installed in homes (nvm, pyenv, rustup): `protect_home: hidden`"),
    (
        "memory-write-execute",
        "just-in-time compilers do: `memory_deny_write_execute: true` where there is none",
    ),
    ("neighbour-signal", NO_SCOPES),
    ("supervisor-signal", NO_SCOPES),
    ("neighbour-priority", SAME_USER),
    ("neighbour-limits", SAME_USER),
    ("neighbour-oom-score", SAME_USER),
    ("memory-heap", NO_CGROUP),
    ("memory-shared", NO_CGROUP),
    ("memory-memfd", NO_CGROUP),
    ("memory-page-cache", NO_CGROUP),
    ("cpu-spin", NO_CGROUP),
    (
        "configuration-variables",
        "nothing can be mounted where nothing is, and other files may be made there: an empty `.env`, `protect_system: strict`, or files of another user",
    ),
    (
        "neighbour-secret-replaced",
        "the kernel takes a mount away with the file it is on: write the file in place, have it in a folder that `inaccessible_paths` closes, or a user for each service",
    ),
    (
        "disk-state",
        "watt sets no quotas of disks: a file system of its own for the state folder (`WATT_STATE_DIR`)",
    ),
];

const BROWSERS: &str = "the sandboxes of browsers make them, and what is dangerous in one is refused there, too \
    (`mount-in-user-namespace`): `restrict_namespaces: true`";
const SAME_USER: &str = "the kernel lets processes of one user do this, with systemd as well: `private_pids: true`, or a user for each service";
const NO_SCOPES: &str =
    "only before Linux 6.12, whose Landlock is the first to hold signals: `private_pids: true`";
const NO_CGROUP: &str = "only where an ordinary user has no cgroup delegated, as on this host: `wattctl doctor` tells how to get one";

pub(super) fn title(setting: Setting) -> String {
    let user = match setting.user {
        User::Root => "root",
        User::Ordinary => "user",
    };
    format!("{} {user}", setting.profile)
}

/// The page of these results, and of those in machines.
pub(super) fn write(attacks: &[Attack], table: &Table, machines: &str) -> String {
    let mut page = String::from(INTRODUCTION);
    let groups: BTreeSet<&str> = attacks.iter().map(|attack| &*attack.group).collect();
    for group in groups {
        let titles: Vec<String> = SETTINGS.into_iter().map(title).collect();
        let _ = writeln!(page, "\n## On {}\n\n| attack | it … | {} |", group_name(group), titles.join(" | "));
        let _ = writeln!(page, "|---|---|{}", "---|".repeat(SETTINGS.len()));
        for attack in attacks.iter().filter(|attack| attack.group == group) {
            let cells = SETTINGS.into_iter().map(|setting| {
                match table.get(&setting).map(|outcome| &outcome.verdicts[&attack.name]) {
                    Some(Verdict { is_contained: true, why }) => why.clone(),
                    Some(Verdict { is_contained: false, .. }) => "**succeeds**".to_owned(),
                    None => "not tried".to_owned(),
                }
            });
            let cells: Vec<String> = cells.collect();
            let _ = writeln!(page, "| `{}` | {} | {} |", attack.name, attack.what, cells.join(" | "));
        }
    }
    page += machines;
    let succeeded = successes(table, false).map(|(attack, _, _)| attack).collect();
    page + &reasons(succeeded, &machines::successes(machines))
}

/// The part of the page that says why.
pub(super) fn reasons(mut succeeded: BTreeSet<String>, in_machines: &BTreeSet<String>) -> String {
    succeeded.extend(in_machines.iter().cloned());
    let mut part = format!("{REASONS_TITLE}\n");
    for attack in succeeded {
        let _ = writeln!(part, "- `{attack}`: {}", reason(&attack).unwrap_or("nobody knows"));
    }
    part
}

/// Where [`reasons`] begin.
pub(super) const REASONS_TITLE: &str = "\n## What is not contained, and why\n";

fn group_name(group: &str) -> &str {
    match group {
        "kernel" => "the kernel and the host",
        "neighbours" => "the service next door",
        "network" => "what is outside its network, and what a policy forbids",
        "resources" => "what all share",
        "supervisor" => "watt itself",
        other => other,
    }
}

const INTRODUCTION: &str = "# What a hostile service can do

Each attack is made by a service beside a victim, in each profile, by root and by an ordinary user (`user`). A cell has what stopped it:
an error, a signal, or words. With `off` they are made on the host's network and without limits, to show what there is to
contain; file modes and the user are then all that stops one. In `standard` and `strict` each service has limits
(`memory`, `pids`, `cpu`, `nofile`, `memlock`), a private network and an empty `egress.allow`: a sandbox without limits
does not keep a service from taking what all share.

After all of them the victim is the same process and answers, its files are as they were, and so is watt. Made by
`WATT_BLESS=1 cargo test -p watt-tests --test hostile` as root, on a host with cgroups of version 1; the test fails when
something succeeds that is contained here, on a host that can do all of the sandbox.
";

/// Which attacks a page has as contained, by their setting.
pub(super) fn read(page: &str) -> Kept {
    let rows = machines::before(page).lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.flat_map(|row| {
        let mut cells = row.trim_end_matches(" |").split(" | ");
        let name = cells.next().unwrap_or_default().trim_end_matches('`').to_owned();
        let verdicts: Vec<bool> =
            cells.skip(1).map(|cell| cell != "**succeeds**" && cell != "not tried").collect();
        SETTINGS.into_iter().zip(verdicts).map(move |(setting, verdict)| ((name.clone(), setting), verdict))
    });
    cells.collect()
}
