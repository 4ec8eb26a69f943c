//! docs/test-execute.md: written by a blessed run, and read by every other one.

use std::{collections::BTreeMap, fmt::Write};

use crate::{Verdict, archive::VERSION};

const HEAD: &str = "\
# systemd's own tests of `systemd.exec(5)`, run by watt

systemd tests what its unit files do to a program with small units that check for themselves: `test/test-execute` of its
sources. Here those of VERSION, the version of Debian 13, run as services of watt. They are fetched from the distribution's source
package when the test runs; no part of them is in this repository.

A translator makes a service of each unit: what systemd calls `PrivateTmp=` is `private_tmp`, and so on, on top of `sandbox: off` with
`required: true`, so that nothing is left out without a failure. Commands that have the same rights become one service, one
after the other in its sandbox; a command with a `+` is a service of its own without a sandbox; `ExecStartPre=` and
`ExecStartPost=` come before and after; `ExecStop=` is left out. Quotes, `%` and `$` of command lines and `EnvironmentFile=` are the
translator's work, and mount points that are missing on the host are made before, as watt makes none. A unit holds when its
last command ends as systemd's `test-execute` wants it to end there: by an exit status, or by a signal.

Made by `WATT_BLESS=1 cargo test -p watt-tests --test execute` as root. The test fails when a unit that holds here does not.
";

/// The page.
pub(crate) fn write(verdicts: &BTreeMap<String, Verdict>) -> String {
    let count = |is: fn(&Verdict) -> bool| verdicts.values().filter(|verdict| is(verdict)).count();
    let holding = count(|verdict| *verdict == Verdict::Holds);
    let failing = count(|verdict| matches!(verdict, Verdict::Fails(_)));
    let mut page = HEAD.replace("VERSION", VERSION);
    let left_out = verdicts.len() - holding - failing;
    let _ = write!(
        page,
        "\n**{holding} of {} hold**, {failing} fail, {left_out} are not run.\n\n| unit | outcome | reason |\n|---|---|---|\n",
        verdicts.len()
    );
    for (name, verdict) in verdicts {
        let (outcome, reason) = match verdict {
            Verdict::Holds => ("holds", ""),
            Verdict::Fails(reason) => ("**fails**", reason.as_str()),
            Verdict::NotRun(reason) => ("not run", reason.as_str()),
        };
        let _ =
            writeln!(page, "| `{name}` | {outcome} | {} |", reason.replace('|', "\\|").replace('\n', " "));
    }
    page
}

/// The units that hold in a page.
pub(crate) fn holding(page: &str) -> Vec<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | holds |"));
    rows.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn a_page_is_read_as_it_was_written() {
    let verdicts = BTreeMap::from([
        ("exec-a".to_owned(), Verdict::Holds),
        ("exec-b".to_owned(), Verdict::Fails("exit 1 | 2".to_owned())),
        ("exec-c".to_owned(), Verdict::NotRun("no".to_owned())),
    ]);
    let page = write(&verdicts);
    assert!(page.contains("**1 of 3 hold**, 1 fail, 1 are not run") && page.contains("exit 1 \\| 2"));
    assert_eq!(holding(&page), ["exec-a"]);
}
