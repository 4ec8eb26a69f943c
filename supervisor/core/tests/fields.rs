//! docs/lifecycle.md has the table of what changes how, from the knowledge of the diff itself.

use std::path::Path;

use watt_core::diff::{Effect, FIELDS};

const BEGIN: &str = "<!-- what changes how -->\n";
const END: &str = "<!-- end -->\n";

fn how(effect: Effect) -> &'static str {
    match effect {
        Effect::InPlace => "in place, at once",
        Effect::FromNowOn => "in place, from now on",
        Effect::WorkerCount => "workers are added, or the last ones stopped",
        Effect::Listener => "a new listener for clients",
        Effect::NewWorkers => "new workers",
        Effect::Restart => "not while it runs",
    }
}

fn table() -> String {
    let mut text = String::from("| what differs | what happens | |\n|---|---|---|\n");
    for (_, key, effect, note) in FIELDS {
        let key = key.split(", ").map(|key| match key.contains(' ') {
            true => key.to_owned(),
            false => format!("`{key}`"),
        });
        let keys: Vec<String> = key.collect();
        text.push_str(&format!("| {} | {} | {note} |\n", keys.join(", "), how(effect)).replace("  |", " |"));
    }
    text
}

/// With `WATT_BLESS` in the environment the page is written anew.
#[test]
fn the_page_has_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/lifecycle.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var_os("WATT_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == expected, "docs/lifecycle.md is not current; run this test with WATT_BLESS=1");
}
