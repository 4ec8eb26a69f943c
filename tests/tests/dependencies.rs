//! Conditions, dependencies that are not required, and who is started anew with whom: with real ends.

use std::collections::BTreeMap;

use serde_json::Value;
use watt_tests::{App, User, for_each_user, kill, wait};

/// The run of each service's only worker.
type Runs = BTreeMap<String, u64>;

/// Waits until every service has a ready worker with a process, and gives the runs.
fn ready(app: &App) -> Runs {
    wait("every service is ready", || {
        let status = app.status();
        let services = status["services"].as_array().cloned().unwrap_or_default();
        let run = |service: &Value| {
            let [worker] = service["workers"].as_array()?.as_slice() else { return None };
            let is_ready = worker["state"] == "ready" && worker["part"] == "stays";
            let run = worker["run"].as_u64().filter(|_| is_ready)?;
            Some((service["id"].as_str()?.to_owned(), run))
        };
        services.iter().map(run).collect::<Option<Runs>>().ok_or_else(|| status.to_string())
    })
}

/// Waits until exactly these have other runs than before.
fn replaced(app: &App, before: &Runs, expected: &[&str]) -> Runs {
    wait(&format!("{expected:?} are new"), || {
        let now = ready(app);
        let new: Vec<&str> =
            now.iter().filter(|(id, run)| before.get(*id) != Some(run)).map(|(id, _)| id.as_str()).collect();
        if new == expected { Ok(now) } else { Err(format!("{before:?} {now:?}")) }
    })
}

fn state(app: &App, service: &str, expected: &str) {
    wait(&format!("{service} is {expected}"), || match app.service(service) {
        found if found["state"] == expected => Ok(()),
        found => Err(found.to_string()),
    });
}

#[test]
fn each_condition_is_waited_for_and_what_is_not_required_holds_nobody_back() {
    for_each_user(|user| {
        let app = App::case("", user);
        app.write(
            "watt.yaml",
            r#"
services:
  job: { command: sh -c "exit 3", listen: none, restart: never }
  ended: { command: sleep 1000, listen: none, depends_on: { job: completed } }
  succeeded: { command: sleep 1000, listen: none, depends_on: { job: completed_successfully } }
  db: { command: python3 services/web.py, health: { http: /healthz } }
  sick: { command: python3 services/web.py, health: { http: { path: /, body: never }, interval: 1h } }
  healthy: { command: sleep 1000, listen: none, depends_on: { db: healthy } }
  patient: { command: sleep 1000, listen: none, depends_on: { sick: healthy } }
  cache: { command: sh -c "exit 1", listen: none, ready: { log: never }, restart: { give_up: { failures: 1 } } }
  base: { command: sleep 1000, listen: none, depends_on: [cache] }
  soft: { command: sleep 1000, listen: none, depends_on: { base: { required: false } } }
"#,
        );
        // Some are never ready.
        let mut up = app.wattctl(&["up", "-d"]).stderr(std::process::Stdio::null()).spawn().expect("it runs");
        wait("it answers", || match app.run(&["status", "--json"]) {
            output if output.stdout.starts_with(b"{") => Ok(()),
            output => Err(watt_tests::printed(&output)),
        });
        for service in ["ended", "db", "sick", "healthy", "soft"] {
            state(&app, service, "ready");
        }
        state(&app, "cache", "failed");
        for service in ["succeeded", "patient", "base"] {
            state(&app, service, "waiting");
        }
        assert_eq!(app.service("patient")["waiting_for"], serde_json::json!(["sick"]));
        kill("KILL", up.id());
        let _ = up.wait();
        app.down();
    });
}

#[test]
fn followers_are_replaced_after_a_crash_a_restart_and_the_death_of_the_daemon() {
    for_each_user(|user| {
        let app = App::yaml(
            r#"
services:
  db: { command: sleep 1000, listen: none, restart: { backoff: { first: 10ms } } }
  api: { command: sleep 1000, listen: none, depends_on: { db: { restart: true } } }
  web: { command: sleep 1000, listen: none, depends_on: { api: { restart: true } } }
  other: { command: sleep 1000, listen: none, depends_on: [db] }
"#,
            user,
        );
        app.up();
        let before = ready(&app);
        kill("KILL", app.pid("db", 0));
        let before = replaced(&app, &before, &["api", "db", "web"]);
        app.ok(&["restart", "db"]);
        let before = replaced(&app, &before, &["api", "db", "web"]);
        app.kill_daemon();
        replaced(&app, &before, &[]);
        kill("KILL", app.pid("api", 0));
        replaced(&app, &before, &["api", "web"]);
        app.down();
    });
}

#[test]
fn each_strategy_starts_anew_whom_it_says() {
    for_each_user(|user| {
        let check = |strategy: &str, killed: &str, expected: &[&str]| {
            let service = "{ command: sleep 1000, listen: none, restart: { backoff: { first: 10ms } } }";
            let names = ["a", "b", "c", "out"];
            let services: String = names.iter().map(|name| format!("  {name}: {service}\n")).collect();
            let text = format!(
                "services:\n{services}groups: {{ all: {{ services: [c, a, b], strategy: {strategy} }} }}\n"
            );
            let app = App::yaml(&text, user);
            app.up();
            let before = ready(&app);
            kill("KILL", app.pid(killed, 0));
            replaced(&app, &before, expected);
            for other in expected.iter().filter(|service| **service != killed) {
                assert_eq!(app.worker(other, 0)["last_exit"]["cause"], "group", "{strategy} {other}");
            }
            assert_eq!(app.worker(killed, 0)["last_exit"]["code"], 9, "{strategy}");
            app.down();
        };
        check("one_for_one", "a", &["a"]);
        check("one_for_all", "a", &["a", "b", "c"]);
        check("rest_for_one", "a", &["a", "b"]);
    });
}

/// One that takes its time to stop holds up the others, over the death of the daemon.
#[test]
fn a_group_starts_when_all_of_it_has_ended() {
    let app = App::yaml(
        r#"
services:
  quick: { command: sleep 1000, listen: none, restart: { backoff: { first: 10ms } } }
  slow:
    command: [sh, -c, "trap : TERM; echo here; while ! [ -e go ]; do sleep 0.02; done; rm go; exit 0"]
    listen: none
    ready: { log: here }
    stop: { grace: 1h }
groups: { both: { services: [quick, slow], strategy: one_for_all } }
"#,
        User::Ordinary,
    );
    app.up();
    let before = ready(&app);
    kill("KILL", app.pid("quick", 0));
    state(&app, "slow", "stopping");
    state(&app, "quick", "waiting");
    assert_eq!(app.service("quick")["waiting_for"], serde_json::json!(["slow"]));
    app.kill_daemon();
    state(&app, "quick", "waiting");
    app.write("go", "");
    replaced(&app, &before, &["quick", "slow"]);
    app.ok(&["down", "--now"]);
}

/// Of the file alone and of what runs; and what the start waited for, which a replaced daemon still knows.
#[test]
fn the_graph_and_what_a_start_waited_for() {
    let app = App::yaml(
        r#"
services:
  db: { command: [sh, -c, "until [ -e go ]; do sleep 0.05; done; sleep 0.3; echo here; exec sleep 1000"], listen: none, ready: { log: here } }
  cache: { command: sleep 1000, listen: none }
  api: { command: sleep 1000, listen: none, depends_on: { db: ready, cache: { required: false } } }
"#,
        User::Ordinary,
    );
    let edges = |graph: &Value| {
        assert_eq!(graph["services"][2]["id"], "api", "{graph}");
        let levels: Vec<&Value> =
            graph["services"].as_array().expect("services").iter().map(|service| &service["level"]).collect();
        assert_eq!(levels, [0, 0, 1]);
        graph["services"][2]["depends_on"].clone()
    };
    // Without a daemon.
    let alone = app.json(&["graph"]);
    assert_eq!(alone["services"][0]["state"], Value::Null);
    assert!(app.ok(&["graph", "--format", "dot"]).contains("\"db\" -> \"api\" [label=\"ready\"]"));
    assert!(app.ok(&["graph", "--format", "mermaid", "--file", "."]).contains("flowchart LR"));
    let mut up = app.begin_up();
    // So that it is `db` that is waited for, whichever of them is started first.
    state(&app, "cache", "ready");
    app.write("go", "");
    assert!(up.wait().expect("it ends").success());
    let running = app.json(&["graph"]);
    assert_eq!(edges(&running), edges(&alone));
    assert_eq!(running["services"][0]["state"], "ready");
    assert!(app.ok(&["graph"]).contains("api  ready  after cache (ready, not required), db (ready)"));

    let whole = app.json(&["analyze"]);
    let chain: Vec<&Value> =
        whole["chain"].as_array().expect("a chain").iter().map(|start| &start["service"]).collect();
    assert_eq!(chain, ["api", "db"], "{whole}");
    assert!(whole["total_ms"].as_u64().is_some_and(|total| total >= 300), "{whole}");
    assert!(app.ok(&["analyze"]).starts_with("the application was ready after "));
    app.kill_daemon();
    assert_eq!(app.json(&["analyze"]), whole);
    app.ok(&["restart", "api"]);
    assert_eq!(app.json(&["analyze"]), whole, "that was another start");
    let api = app.json(&["analyze", "api"]);
    assert_eq!(api["chain"].as_array().map(Vec::len), Some(1), "{api}");
    assert_ne!(app.run(&["analyze", "nobody"]).status.code(), Some(0));
    app.down();
}
