//! The part of docs/hostile.md that is about the virtual machines of the test `vm`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
};

use super::{Kept, SETTINGS, Setting, Table, page};

/// The machines, as their own test calls them.
pub(super) const NAMES: [&str; 2] = ["bookworm", "trixie"];

const TITLE: &str = "\n## In virtual machines\n";

const INTRODUCTION: &str = "
The same on Debian 12 (`bookworm`, systemd 252) and the programs of Debian 13 (`trixie`, systemd 257), both with kernel 6.1 and cgroup v2
alone. Root's services are in a unit with `Delegate=yes`, an ordinary user's in a scope of his own manager's; `off` is not tried.
These are the cells that differ from those above in whether the attack is contained; all others are the same. Made by
`cargo test -p watt-tests --test vm -- --ignored hostile`, then `WATT_BLESS=1 cargo test -p watt-tests --test hostile machines`.

";

/// How [`tell`] begins each line.
const CELL: &str = "cell: ";

/// Prints what has become of all attacks, for [`renew`].
pub(super) fn tell(table: &Table) {
    for (setting, outcome) in table {
        for (attack, verdict) in &outcome.verdicts {
            let word = if verdict.is_contained { &verdict.why } else { SUCCEEDS };
            println!("{CELL}{attack} | {} | {word}", page::title(*setting));
        }
    }
}

const SUCCEEDS: &str = "**succeeds**";

/// All that is before it in a page.
pub(super) fn before(page: &str) -> &str {
    page.split_once(TITLE).map_or(page, |(before, _)| before)
}

/// It alone, as it is in a page.
pub(super) fn part(page: &str) -> &str {
    let start = page.find(TITLE).unwrap_or(page.len());
    let end = page.find(page::REASONS_TITLE).unwrap_or(page.len());
    page.get(start..end).unwrap_or_default()
}

/// What a page has of one machine: its own cells, and those of the host where there are none.
pub(super) fn read(page: &str, machine: &str) -> Kept {
    let mut kept = page::read(page);
    let own = cells(part(page)).into_iter().filter(|((name, _, _), _)| name == machine);
    kept.extend(own.map(|((_, attack, setting), word)| ((attack, setting), word != SUCCEEDS)));
    kept.retain(|(_, setting), _| setting.profile != "off");
    kept
}

/// Attacks that succeed in some machine, by the page.
pub(super) fn successes(page: &str) -> BTreeSet<String> {
    let succeeded = cells(part(page)).into_iter().filter(|(_, word)| word == SUCCEEDS);
    succeeded.map(|((_, attack, _), _)| attack).collect()
}

/// By machine, attack and setting.
type Cells = BTreeMap<(String, String, Setting), String>;

/// The rows of the part: attack, setting, and a cell for each machine.
fn cells(part: &str) -> Cells {
    let rows = part.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |"));
    let rows = rows.filter_map(|row| {
        let mut columns = row.split(" | ");
        let attack = columns.next()?.trim_end_matches('`').to_owned();
        let setting = setting(columns.next()?)?;
        Some(
            NAMES
                .into_iter()
                .zip(columns)
                .map(move |(name, word)| ((name.to_owned(), attack.clone(), setting), word.to_owned())),
        )
    });
    rows.flatten().collect()
}

fn setting(title: &str) -> Option<Setting> {
    SETTINGS.into_iter().find(|setting| page::title(*setting) == title)
}

/// The page with what the machines have told in their last run; what that left out is as it was.
pub(super) fn renew(page: &str, results: &Path) -> String {
    let mut all = cells(part(page));
    for name in NAMES {
        let told = fs::read_to_string(results.join(name).join("results")).unwrap_or_default();
        let told = told.lines().filter_map(|line| line.strip_prefix("| ")?.strip_prefix(CELL));
        for line in told {
            let mut columns = line.split(" | ");
            if let (Some(attack), Some(setting), Some(word)) =
                (columns.next(), columns.next().and_then(setting), columns.next())
            {
                all.insert((name.to_owned(), attack.to_owned(), setting), word.to_owned());
            }
        }
    }
    let end = page.find(page::REASONS_TITLE).unwrap_or(page.len());
    let renewed = write(&all, &page::read(page));
    let listed = page[end..].lines().filter_map(|line| line.strip_prefix("- `")?.split('`').next());
    let reasons = page::reasons(listed.map(str::to_owned).collect(), &successes(&renewed));
    format!("{}{renewed}{reasons}", before(&page[..end]))
}

/// What is not as on the host.
fn write(all: &Cells, host: &Kept) -> String {
    let mut part = format!("{TITLE}{INTRODUCTION}| attack | setting | {} |\n", NAMES.join(" | "));
    part += &format!("|---|---|{}\n", "---|".repeat(NAMES.len()));
    let rows: BTreeSet<(&String, Setting)> =
        all.keys().map(|(_, attack, setting)| (attack, *setting)).collect();
    for (attack, setting) in rows {
        let words = NAMES.map(|name| {
            all.get(&(name.to_owned(), attack.clone(), setting)).map_or("as above", String::as_str)
        });
        let host = host.get(&(attack.clone(), setting)).copied();
        let differs = |word: &&str| *word != "as above" && Some(*word != SUCCEEDS) != host;
        if words.iter().any(differs) {
            let _ = writeln!(part, "| `{attack}` | {} | {} |", page::title(setting), words.join(" | "));
        }
    }
    part
}
