//! What a hostile service can do to its neighbour, to watt and to the host: every attack of `cases/hostile`, in each profile,
//! as root and as an ordinary user.
//!
//! The results are docs/hostile.md. The test fails when an attack succeeds that the page has as contained;
//! `WATT_BLESS=1` writes the page anew, which takes root. Whether an attack is an attack at all is told by `off`, on the host's network
//! and without limits, where it succeeds if file modes do not forbid it.

mod battle;
mod outside;
mod page;

use std::{collections::BTreeMap, fs, process::Command, thread};

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

#[test]
fn a_hostile_neighbour_is_contained() {
    let _managers = Managers::new();
    let attacks = attacks();
    assert!(attacks.len() >= 40, "{}", attacks.len());
    let settings = SETTINGS.into_iter().filter(|setting| is_root() || setting.user == User::Ordinary);
    let table: Table = thread::scope(|scope| {
        let attacks = &attacks;
        let running: Vec<_> = settings
            .map(|setting| (setting, scope.spawn(move || Battle::new(setting, attacks).fight(attacks))))
            .collect();
        let fought = running.into_iter().map(|(setting, thread)| (setting, thread.join()));
        fought.map(|(setting, outcome)| (setting, outcome.expect("it has an end"))).collect()
    });
    let page = page::write(&attacks, &table);
    println!("{page}");
    let path = repository().join("docs/hostile.md");
    if std::env::var_os("WATT_BLESS").is_some() {
        assert!(is_root(), "the page has what root sees, too");
        fs::write(&path, &page).expect("docs can be written");
    }
    let unexplained = successes(&table).filter(|(attack, _, _)| page::reason(attack).is_none());
    let unexplained: Vec<_> = unexplained.collect();
    assert!(unexplained.is_empty(), "succeeded, and nobody says why: {unexplained:#?}");
    let kept = page::read(&fs::read_to_string(path).expect("the page is there"));
    for (attack, setting, why) in successes(&table) {
        let was_contained = kept.get(&(attack.clone(), setting)) == Some(&true);
        assert!(!was_contained, "{attack} in {setting:?} is contained in docs/hostile.md, and now: {why}");
    }
    for attack in &attacks {
        assert!(kept.contains_key(&(attack.name.clone(), SETTINGS[3])), "{} is not in the page", attack.name);
    }
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

/// What succeeded although there was a sandbox.
fn successes(table: &Table) -> impl Iterator<Item = (String, Setting, String)> {
    let walled = table.iter().filter(|(setting, outcome)| setting.profile != "off" && outcome.is_walled);
    walled.flat_map(|(setting, outcome)| {
        let got = outcome.verdicts.iter().filter(|(_, verdict)| !verdict.is_contained);
        got.map(|(attack, verdict)| (attack.clone(), *setting, verdict.why.clone()))
    })
}
