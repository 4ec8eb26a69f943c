//! What a hostile service can do to its neighbour, to watt and to the host: every attack of `cases/hostile`, in each profile,
//! as root and as an ordinary user.
//!
//! The results are docs/hostile.md. The test fails when an attack succeeds that the page has as contained;
//! `WATT_BLESS=1` writes the page anew, which takes root. In a virtual machine of the test `vm`, `WATT_TEST_MACHINE` has its name, which has
//! a part of the page to itself; `WATT_BLESS=1` writes that part from the machines' last results. Whether an attack is an attack at all is told by `off`, on the host's network
//! and without limits, where it succeeds if file modes do not forbid it.

mod battle;
mod machines;
mod outside;
mod page;
mod systemd;

use std::{collections::BTreeMap, fs, path::PathBuf, process::Command, thread};

use watt_tests::{User, is_root, printed, repository};

use battle::Battle;
use outside::Managers;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Setting {
    profile: &'static str,
    user: User,
}

const SETTINGS: [Setting; 6] = [
    Setting { profile: "off", user: User::Root },
    Setting { profile: "off", user: User::Ordinary },
    Setting { profile: "standard", user: User::Root },
    Setting { profile: "standard", user: User::Ordinary },
    Setting { profile: "strict", user: User::Root },
    Setting { profile: "strict", user: User::Ordinary },
];

/// One of `attack.py --list`.
struct Attack {
    name: String,
    group: String,
    what: String,
}

/// What came of one.
#[derive(Debug, Clone)]
struct Verdict {
    is_contained: bool,
    why: String,
}

/// What came of all in one setting.
struct Outcome {
    verdicts: BTreeMap<String, Verdict>,
    /// Whether the host can do all of the sandbox, or at least what this one can that made the page.
    is_walled: bool,
}

type Table = BTreeMap<Setting, Outcome>;

/// Whether an attack was contained when the page was written.
type Kept = BTreeMap<(String, Setting), bool>;

#[test]
fn a_hostile_neighbour_is_contained() {
    let _managers = Managers::new();
    let attacks = attacks();
    assert!(attacks.len() >= 40, "{}", attacks.len());
    let machine = std::env::var("WATT_TEST_MACHINE").ok();
    let kept = fs::read_to_string(page_path()).expect("the page is there");
    let (table, kept) = match &machine {
        // Root's own services and an ordinary user's are two ways to start it. `off` is shown elsewhere, and is the machine's end.
        Some(machine) => {
            let user = if is_root() { User::Root } else { User::Ordinary };
            let settings =
                SETTINGS.into_iter().filter(|setting| setting.profile != "off" && setting.user == user);
            let table =
                settings.map(|setting| (setting, Battle::new(setting, &attacks).fight(&attacks))).collect();
            machines::tell(&table);
            (table, machines::read(&kept, machine))
        }
        None => {
            let table = fight_all(&attacks);
            let page = page::write(&attacks, &table, machines::part(&kept));
            println!("{page}");
            if is_blessed() {
                assert!(is_root(), "the page has what root sees, too");
                fs::write(page_path(), &page).expect("docs can be written");
                return;
            }
            (table, page::read(&kept))
        }
    };
    check(&attacks, &table, &kept, machine.is_some());
}

/// Every setting at the same time.
fn fight_all(attacks: &[Attack]) -> Table {
    let settings = SETTINGS.into_iter().filter(|setting| is_root() || setting.user == User::Ordinary);
    thread::scope(|scope| {
        let running: Vec<_> = settings
            .map(|setting| (setting, scope.spawn(move || Battle::new(setting, attacks).fight(attacks))))
            .collect();
        let fought = running.into_iter().map(|(setting, thread)| (setting, thread.join()));
        fought.map(|(setting, outcome)| (setting, outcome.expect("it has an end"))).collect()
    })
}

/// Nothing succeeds that was contained when the page was written, and what does has a reason.
fn check(attacks: &[Attack], table: &Table, kept: &Kept, is_machine: bool) {
    let unexplained: Vec<_> =
        successes(table, is_machine).filter(|(attack, _, _)| page::reason(attack).is_none()).collect();
    assert!(unexplained.is_empty(), "succeeded, and nobody says why: {unexplained:#?}");
    for (attack, setting, why) in successes(table, is_machine) {
        let was_contained = kept.get(&(attack.clone(), setting)) != Some(&false);
        assert!(!was_contained, "{attack} in {setting:?} is contained in docs/hostile.md, and now: {why}");
    }
    for attack in attacks {
        assert!(kept.contains_key(&(attack.name.clone(), SETTINGS[3])), "{} is not in the page", attack.name);
    }
}

#[test]
fn the_page_tells_of_the_machines() {
    // The page is a matter of the repository.
    if std::env::var_os("WATT_TEST_MACHINE").is_some() {
        return;
    }
    let page = fs::read_to_string(page_path()).expect("the page is there");
    // Of another run, or of none: a machine that was not asked has no news.
    let results = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("vm");
    let page = if is_blessed() { machines::renew(&page, &results) } else { page };
    if is_blessed() {
        fs::write(page_path(), &page).expect("docs can be written");
    }
    for machine in machines::NAMES {
        let kept = machines::read(&page, machine);
        assert!(!kept.is_empty(), "there is nothing of {machine}");
    }
    let unexplained: Vec<_> =
        machines::successes(&page).into_iter().filter(|attack| page::reason(attack).is_none()).collect();
    assert!(unexplained.is_empty(), "succeeded in a machine, and nobody says why: {unexplained:?}");
}

fn page_path() -> PathBuf {
    repository().join("docs/hostile.md")
}

fn is_blessed() -> bool {
    std::env::var_os("WATT_BLESS").is_some()
}

fn attacks() -> Vec<Attack> {
    let output = Command::new("python3")
        .args(["-B", "attack.py", "--list"])
        .current_dir(repository().join("tests/cases/hostile"))
        .output()
        .expect("python3 runs");
    let list: Vec<[String; 3]> =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", printed(&output)));
    list.into_iter().map(|[name, group, what]| Attack { name, group, what }).collect()
}

/// What succeeded although there was a sandbox: everywhere that is as good as where the page was made, and in a machine, whose own
/// part of the page tells what it lacks.
fn successes(table: &Table, is_machine: bool) -> impl Iterator<Item = (String, Setting, String)> {
    let walled = table
        .iter()
        .filter(move |(setting, outcome)| setting.profile != "off" && (outcome.is_walled || is_machine));
    walled.flat_map(|(setting, outcome)| {
        let got = outcome.verdicts.iter().filter(|(_, verdict)| !verdict.is_contained);
        got.map(|(attack, verdict)| (attack.clone(), *setting, verdict.why.clone()))
    })
}
