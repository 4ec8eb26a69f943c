//! `reload: on-change`: what becomes of the file becomes of the application.

use std::fs;

use serde_json::Value;
use watt_tests::{App, User, for_each_user, kill, wait};

const SHOP: &str = r#"
reload: on-change
services:
  web: { command: python3 services/web.py, env: { GREETING: hello, WORD: "{WORD:-none}" } }
server: { port: 0 }
gateway: { routes: [{ path: /, service: web }] }
"#;

/// Waits until the service has this in its environment.
fn has(app: &App, name: &str, value: &str) {
    wait(&format!("{name} is {value}"), || {
        let (_, body) = app.get("/env");
        let env: Value = serde_json::from_str(&body).unwrap_or_default();
        if env[name] == value { Ok(()) } else { Err(body) }
    });
}

/// Puts another file in its place, as editors do.
fn replace(app: &App, text: &str) {
    app.write("new", text);
    fs::rename(app.dir.join("new"), app.dir.join("watt.yaml")).expect("it is there");
}

/// Waits until so many refusals were told by this daemon.
fn refused(app: &App, count: usize) {
    wait("it is refused", || {
        let events = app.ok(&["events", "--json"]);
        let found = events.matches("\"kind\":\"reload_refused\"").count();
        if found == count { Ok(()) } else { Err(events) }
    });
}

#[test]
fn the_file_is_followed_and_a_wrong_one_is_not() {
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("watt.yaml", SHOP);
        app.up();
        has(&app, "GREETING", "hello");
        app.write("watt.yaml", &SHOP.replace("hello", "in place"));
        has(&app, "GREETING", "in place");
        app.write(".env", "WORD=dotenv\n");
        has(&app, "WORD", "dotenv");
        let pid = app.pid("web", 0);
        replace(&app, "services: { web: { comand: x } }");
        refused(&app, 1);
        fs::remove_file(app.dir.join("watt.yaml")).expect("it is there");
        refused(&app, 2);
        assert_eq!((app.pid("web", 0), app.get("/").0), (pid, 200), "{user:?}");
        replace(&app, &SHOP.replace("hello", "back"));
        has(&app, "GREETING", "back");
        // A link that leads elsewhere.
        app.write("next.yaml", &SHOP.replace("hello", "linked"));
        std::os::unix::fs::symlink("next.yaml", app.dir.join("link")).expect("it is made");
        fs::rename(app.dir.join("link"), app.dir.join("watt.yaml")).expect("it is there");
        has(&app, "GREETING", "linked");
        app.down();
    });
}

#[test]
fn a_successor_finds_what_has_changed_and_does_not_try_again_what_was_refused() {
    let app = App::case("", User::Ordinary);
    app.write("watt.yaml", SHOP);
    app.up();
    replace(&app, "services: { web: { comand: x } }");
    refused(&app, 1);
    let replaced = |count: u64| {
        let daemon = app.status()["supervisor"]["daemon_pid"].as_u64().expect("a pid");
        kill("KILL", u32::try_from(daemon).expect("a pid"));
        wait("another daemon is there", || match app.status()["supervisor"]["daemon_restarts"].as_u64() {
            Some(restarts) if restarts == count => Ok(()),
            restarts => Err(format!("{restarts:?}")),
        });
    };
    replaced(1);
    // Written as what runs in the end, and seen by the next one at the latest: the first has told no refusal of its own.
    replace(&app, &SHOP.replace("hello", "mended"));
    has(&app, "GREETING", "mended");
    refused(&app, 0);
    app.down();
}

#[test]
fn it_ends_when_the_file_says_so() {
    let app = App::case("", User::Ordinary);
    app.write("watt.yaml", SHOP);
    app.up();
    let quiet = SHOP.replace("reload: on-change", "reload: on-request");
    app.write("watt.yaml", &quiet.replace("hello", "last"));
    has(&app, "GREETING", "last");
    app.write("watt.yaml", &quiet.replace("hello", "not followed"));
    let reloaded = app.json(&["reload", "--wait"]);
    assert_eq!(reloaded["changes"][0]["key"], "env.GREETING", "{reloaded}");
    // And begins again in the same way.
    app.write("watt.yaml", SHOP);
    app.ok(&["reload", "--wait"]);
    app.write("watt.yaml", &SHOP.replace("hello", "followed"));
    has(&app, "GREETING", "followed");
    app.down();
}
