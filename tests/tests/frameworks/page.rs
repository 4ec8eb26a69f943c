//! docs/frameworks.md: written by a blessed run, and read by every other one.

use std::{collections::BTreeSet, fmt::Write};

use watt_tests::User;

use super::{FRAMEWORKS, Framework, Outcomes, SETTINGS, Setting};

const HEAD: &str = "\
# Frameworks in the sandboxes

Programs of every language, as they are: nothing of them is changed for watt, each is started by its own command, on a port as its documentation
has it, and asked for a page through the gateway. `standard` is the default, and everything runs in it. In `strict` a program only
reads its own folder; what does not run there says why.

Made by `WATT_BLESS=1 cargo test -p watt-tests --test frameworks -- --ignored` as root, which fetches two gigabytes from npm, PyPI, crates.io and
Debian's archive. The versions are those of that day: the newest of what `tests/cases/frameworks/fetch` names. Node's `http`, Python's
`http.server` and a Rust server without a framework run in the shop of `examples/`, a browser in its test. PHP-FPM speaks no HTTP: nginx and Caddy,
each a service of its own, call it as `php-fpm.plt.local:9000`. Astro, React Router and SvelteKit run on a Node.js from npm, as Debian's is too old for them.
Not tried are ASP.NET Core, Phoenix, Spring Boot, Quarkus, Helidon, FrankenPHP and RoadRunner, which none of these archives has.
";

/// Why some do not run in `strict`.
const REASONS: [(&str, &str); 4] = [
    (
        "chromium",
        "its own sandbox makes namespaces, and it writes in its home: [sandbox.md](sandbox.md#what-runtimes-need)",
    ),
    ("next-dev", DEVELOPMENT),
    ("astro-dev", DEVELOPMENT),
    (
        "rails",
        "it makes folders in its own, `tmp` and `log`: `read_write_paths: [.]`, or have them there and `rails server --pid /tmp/rails.pid`",
    ),
];

const DEVELOPMENT: &str = "a server for development writes what it compiles in its own folder: `read_write_paths: [.]`, or build it and run what was built";

const RUNS: &str = "runs";

/// The page.
pub(super) fn write(outcomes: &Outcomes) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n| name | command |");
    for setting in SETTINGS {
        let _ = write!(page, " {} |", title(setting));
    }
    page.push_str("\n|---|---|---|---|---|---|\n");
    for Framework { name, command, .. } in &FRAMEWORKS {
        let _ = write!(page, "| `{name}` | `{command}` |");
        for setting in SETTINGS {
            let word = match outcomes.get(&(*name, setting)) {
                Some(Ok(())) => RUNS,
                Some(Err(_)) => "**no**",
                None => "not tried",
            };
            let _ = write!(page, " {word} |");
        }
        page.push('\n');
    }
    let failing: BTreeSet<&str> =
        outcomes.iter().filter(|(_, outcome)| outcome.is_err()).map(|((name, _), _)| *name).collect();
    if !failing.is_empty() {
        page.push('\n');
    }
    for name in failing {
        let reason =
            REASONS.iter().find(|(of, _)| *of == name).map_or("nobody says why", |(_, reason)| reason);
        let _ = writeln!(page, "- `{name}`: {reason}");
    }
    page
}

/// What runs according to a page.
pub(super) fn running(page: &str) -> BTreeSet<(String, Setting)> {
    let mut found = BTreeSet::new();
    for line in page.lines() {
        let Some((name, rest)) = line.strip_prefix("| `").and_then(|rest| rest.split_once("` |")) else {
            continue;
        };
        let words = rest.split('|').skip(1).map(str::trim);
        let runs = SETTINGS.into_iter().zip(words).filter(|(_, word)| *word == RUNS);
        found.extend(runs.map(|(setting, _)| (name.to_owned(), setting)));
    }
    found
}

fn title(setting: Setting) -> String {
    let user = if setting.user == User::Root { "root" } else { "user" };
    format!("{} {user}", setting.profile)
}

#[test]
fn a_page_is_read_as_it_was_written() {
    let (first, second) = (FRAMEWORKS[0].name, FRAMEWORKS[1].name);
    let outcomes = Outcomes::from([
        ((first, SETTINGS[0]), Ok(())),
        ((first, SETTINGS[2]), Err("closed".to_owned())),
        ((second, SETTINGS[3]), Ok(())),
    ]);
    let found = running(&write(&outcomes));
    assert_eq!(found, [(first.to_owned(), SETTINGS[0]), (second.to_owned(), SETTINGS[3])].into());
}
