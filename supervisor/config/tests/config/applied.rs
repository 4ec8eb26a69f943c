//! Services that are applied one by one, over what the file says.

use std::path::PathBuf;

use watt_config::{Applied, Document, Sources, parse};
use watt_core::{ServiceId, plan::Plan};

use super::{invalid_sources, sources};

const FILE: &str = "services:\n  api: { command: [old], path: api, env: { WORD: '{WORD}' } }\n  web: { command: web, depends_on: [api] }\n";

fn id(name: &str) -> ServiceId {
    ServiceId::new(name).unwrap()
}

fn document(file: &str, text: &str) -> Applied {
    let document = Document { file: PathBuf::from(file), text: text.to_owned() };
    Applied { document: Some(document), at_ms: 1, by: "user 0".to_owned() }
}

fn removed() -> Applied {
    Applied { document: None, at_ms: 1, by: "user 0".to_owned() }
}

fn base() -> Sources {
    sources("watt.yaml", FILE)
}

#[track_caller]
fn plan(sources: &Sources) -> Plan {
    let config = parse(sources).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(watt_config::plan(sources).unwrap_or_else(|report| panic!("{report}")), config.plan);
    config.plan
}

#[test]
fn a_document_is_one_entry_of_the_file_wherever_it_came_from() {
    let entry = "command: [new, '{WORD}']\npath: other\nenv: { ROOT: '{WATT_ROOT}' }\n";
    let expected = plan(&sources(
        "watt.yaml",
        "services:\n  api: { command: [new, '{WORD}'], path: other, env: { ROOT: '{WATT_ROOT}' } }\n  web: { command: web, depends_on: [api] }\n",
    ));
    let json = r#"{"command": ["new", "{WORD}"], "path": "other", "env": {"ROOT": "{WATT_ROOT}"}}"#;
    let toml = "command = ['new', '{WORD}']\npath = 'other'\n[env]\nROOT = '{WATT_ROOT}'\n";
    for (file, text) in [("/tmp/api.yaml", entry), ("api (applied)", json), ("/tmp/api.toml", toml)] {
        let found = plan(&base().with(&id("api"), document(file, text)));
        assert_eq!(found, expected, "{file}");
    }
    assert_eq!(expected.services[&id("api")].path, PathBuf::from("/srv/shop/other"));
}

#[test]
fn one_that_the_file_does_not_have_is_added_and_one_that_it_has_goes() {
    let more = base().with(&id("new"), document("new", "command: x\ndepends_on: [web]"));
    let names =
        |sources: &Sources| plan(sources).services.keys().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&more), ["api", "new", "web"]);
    let fewer = more.with(&id("web"), removed()).with(&id("new"), document("new", "command: x"));
    assert_eq!(names(&fewer), ["api", "new"]);
    assert_eq!(names(&fewer.without(&id("web")).without(&id("new"))), ["api", "web"]);
    assert_eq!(fewer.of_file(), base());
    // In a list, the name is a key of the entry.
    let listed = sources("watt.yaml", "services: [{ id: api, command: x }, { id: web, command: y }]");
    let found = plan(&listed.with(&id("api"), document("api", "command: z")));
    assert_eq!(found.services[&id("api")].command, ["z"]);
    assert_eq!(found.services.len(), 2);
}

#[test]
fn errors_have_their_places_in_the_document() {
    let wrong = base()
        .with(&id("api"), document("/srv/shop/a.yaml", "command: [x]\ncomand: y\nenv: { A: '{NOPE}' }\n"))
        .with(&id("new"), document("new (applied)", "path: x\nlimits:\n  memory: much\n"));
    let report = invalid_sources(&wrong);
    let text = report.to_string();
    for expected in [
        "--> a.yaml:2:1\n",
        "2 | comand: y\n",
        "--> a.yaml:3:12\n",
        "--> new (applied):3:11\n",
        "3 |   memory: much\n",
        "the variable NOPE is not set",
    ] {
        assert!(text.contains(expected), "no {expected:?} in\n{text}");
    }
    let json = report.to_json();
    let places: Vec<String> = json["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| format!("{}:{}", error["file"].as_str().unwrap(), error["line"]))
        .collect();
    assert!(places.contains(&"/srv/shop/a.yaml:2".to_owned()), "{places:?}");
    assert!(places.contains(&"new (applied):3".to_owned()), "{places:?}");
}

#[test]
fn what_is_checked_of_services_together_is_checked_with_it() {
    let check = |sources: Sources, expected: &[&str]| {
        let text = invalid_sources(&sources).to_string();
        for expected in expected {
            assert!(text.contains(expected), "no {expected:?} in\n{text}");
        }
    };
    check(
        base().with(&id("api"), removed()),
        &["`api` is taken out of the application, and `web` needs it", "watt.yaml:3:"],
    );
    check(
        base().with(&id("api"), document("a.yaml", "command: x\ndepends_on:\n  - web\n")),
        &["services depend on each other in a circle", "--> a.yaml:3:5"],
    );
    check(base().with(&id("new"), document("n.yaml", "")), &["n.yaml:1:1"]);
    check(base().with(&id("new"), document("n.yaml", "[x")), &["n.yaml:1:"]);
    check(base().with(&id("new"), document("n.yaml", "a: &x 1\nb: *y\n")), &["n.yaml:2:4"]);
    let none = base().with(&id("api"), removed()).with(&id("web"), removed());
    check(none, &["no service would be left", "wattctl down"]);
}

/// Both places of an error that has two are where they are, whichever file they are in.
#[test]
fn a_place_in_the_file_and_one_in_a_document_are_told_apart() {
    let file = "services:\n  a: { command: x, network: host, listen: 4000 }\n  b: { command: y }\n";
    let wrong = sources("watt.yaml", file)
        .with(&id("b"), document("b.yaml", "command: y\nnetwork: host\nlisten: 4000\n"));
    let text = invalid_sources(&wrong).to_string();
    assert!(text.contains("b.yaml:3:9") && text.contains("watt.yaml:2:"), "{text}");
}

#[test]
fn sources_are_read_as_they_were_kept() {
    let applied = base().with(&id("new"), document("new", "command: x")).with(&id("web"), removed());
    let kept = serde_json::to_string(&applied).unwrap();
    assert_eq!(serde_json::from_str::<Sources>(&kept).unwrap(), applied);
    let before = serde_json::to_string(&base()).unwrap();
    assert!(!before.contains("applied"), "{before}");
    assert_eq!(serde_json::from_str::<Sources>(&before).unwrap(), base());
}

#[test]
fn what_is_shown_says_where_it_was_written() {
    let config = parse(&base().with(&id("api"), document("/tmp/a.yaml", "path: x\ncommand: [new]"))).unwrap();
    assert!(config.service_json(&id("api"))["path"]["from"].as_str().unwrap().starts_with("a.yaml:1:7"));
    assert!(config.service_json(&id("web"))["command"].to_string().contains("watt.yaml:3:"));
}
