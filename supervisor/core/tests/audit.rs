//! docs/audit.md has the table of checks as it is in the code. `WATT_BLESS=1 cargo test -p watt-core` rewrites it.

use std::{fmt::Write as _, path::Path};

use watt_core::audit::{Area, Check};

/// What stands around the table in the page.
const BEGIN: &str = "<!-- The table is written by a test; do not edit it. -->\n";
const END: &str = "<!-- The end of the table. -->\n";

#[test]
fn the_page_has_every_check() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/audit.md");
    let written = std::fs::read_to_string(&path).expect("docs/audit.md");
    let (before, rest) = written.split_once(BEGIN).expect("the beginning of the table");
    let (_, after) = rest.split_once(END).expect("the end of the table");
    let page = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var_os("WATT_BLESS").is_some() {
        std::fs::write(&path, &page).expect("docs/audit.md can be written");
        return;
    }
    assert!(
        written == page,
        "docs/audit.md is not what is checked; run `WATT_BLESS=1 cargo test -p watt-core`"
    );
}

fn table() -> String {
    let mut text = String::new();
    let mut area: Option<Area> = None;
    for check in Check::ALL {
        let about = check.about();
        if area != Some(about.area) {
            area = Some(about.area);
            let _ = write!(
                text,
                "\n### {}\n\n| check | weight | shut by | while it is open, an attacker … |\n|---|---|---|---|\n",
                about.area.title()
            );
        }
        let key = about.key.trim_start_matches('/');
        let _ = writeln!(text, "| `{}` | {} | `{key}` | {} |", about.id, about.weight, about.risk);
    }
    text.push('\n');
    text
}
