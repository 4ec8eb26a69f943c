//! A service that nobody wants anything of has no worker, and the first request has one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use serde_json::Value;
use watt_tests::{App, User, for_each_user, get, wait};

/// Times are short, so that the test sees them pass. What is awaited are states, never times.
const SHOP: &str = r#"
services:
  api:
    command: python3 services/web.py
    workers: { min: 0, max: 2, idle: 2s }
  web: { command: python3 services/web.py, depends_on: { api: ready } }
  broken:
    command: sh -c 'exit 3'
    workers: { min: 0, max: 2 }
    restart: { backoff: { first: 10ms }, give_up: { failures: 2, within: 1m } }
server: { port: 0 }
gateway:
  routes:
    - { path: /, service: web }
    - { path: /api, service: api, strip: true }
    - { path: /broken, service: broken }
"#;

fn shop(user: User) -> App {
    let app = App::case("", user);
    app.write("watt.yaml", SHOP);
    app.up();
    app
}

fn asleep(app: &App) -> Value {
    wait("it sleeps", || match app.service("api") {
        api if api["state"] == "asleep" && api["wanted"] == 0 => Ok(api),
        api => Err(api.to_string()),
    })
}

#[test]
fn the_first_request_has_a_worker_and_without_any_there_is_none() {
    for_each_user(|user| {
        let app = shop(user);
        let api = asleep(&app);
        assert_eq!(api["workers"][0]["pid"], Value::Null, "nothing was started: {api}");
        assert_eq!(app.run(&["status"]).status.code(), Some(0), "that is as it should be");
        // From outside, and while there is none the one of a neighbour.
        let (status, body) = app.get("/api/");
        assert_eq!(status, 200, "{body}");
        // It stays as long as somebody asks, however long it takes to look.
        asleep(&app);
        let is_over = Arc::new(AtomicBool::new(false));
        let (address, ends) = (app.gateway(), Arc::clone(&is_over));
        let asking = thread::spawn(move || {
            while !ends.load(Relaxed) {
                assert!(get(&address, "/api/slow/0.1").is_ok_and(|(status, _)| status == 200));
            }
        });
        wait("it has a worker", || match app.service("api") {
            api if api["ready"] == 1 && api["scaling"]["reason"] == "a request came" => Ok(()),
            api => Err(api.to_string()),
        });
        is_over.store(true, Relaxed);
        asking.join().expect("every request is answered");
        let api = asleep(&app);
        assert_eq!(api["scaling"]["reason"], "nothing was asked of it for 2s", "{api}");
        let body = app.get("/call/api/").1;
        assert!(body.contains(r#""status": 200"#), "{user:?}: {body}");
        asleep(&app);
        // A successor knows, and is told.
        app.kill_daemon();
        asleep(&app);
        assert_eq!(app.get("/api/").0, 200);
        // Whoever holds a number holds it, and a stop is a stop.
        assert_eq!(app.json(&["scale", "api=1"])["services"]["api"]["result"], "ready");
        app.ok(&["stop", "api"]);
        let (status, body) = app.get("/api/");
        assert_eq!((status, body.contains("stopped")), (503, true), "{body}");
        app.ok(&["scale", "api=auto"]);
        assert_eq!(app.json(&["start", "api"])["services"]["api"], "ready");
        asleep(&app);
        app.write("watt.yaml", &SHOP.replace("{ min: 0, max: 2, idle: 2s }", "1"));
        let reloaded = app.json(&["reload", "--wait"]);
        assert_eq!(reloaded["services"]["api"], "ready", "one that may not sleep is woken: {reloaded}");
        app.down();
    });
}

#[test]
fn who_asks_for_what_does_not_start_is_told_why() {
    let app = shop(User::Ordinary);
    let (status, body) = app.get("/broken/");
    assert_eq!(status, 503, "{body}");
    assert!(body.contains("`broken` failed and is not running: exit 3"), "{body}");
    app.down();
}

/// As long as requests come and go about when the last one is idle, each is answered.
#[test]
fn a_request_that_comes_while_the_last_worker_goes_is_answered() {
    let app = shop(User::Ordinary);
    for _ in 0..3 {
        assert_eq!(app.get("/api/").0, 200);
        wait("it is on its way out", || match app.service("api") {
            api if api["state"] != "ready" => Ok(()),
            api => Err(api.to_string()),
        });
        assert_eq!(app.get("/api/").0, 200);
    }
    app.down();
}
