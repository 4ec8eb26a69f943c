//! The number of workers follows what they have to do.

use serde_json::Value;
use watt_tests::{App, Load, User, is_root, kill, wait};

/// Short times, so that the test sees them pass. What is awaited are states, never times.
const RULES: &str = "min: 1, window: 2s, cooldown: 3s";

fn app(max: u16, target: &str, more: &str, user: User) -> App {
    let app = App::case("", user);
    let text = format!(
        r#"
services:
  web: {{ command: python3 services/web.py, workers: {{ max: {max}, {RULES}, target: {{ {target} }} }} }}
server: {{ port: 0 }}
gateway: {{ routes: [{{ path: /, service: web }}] }}
{more}
"#
    );
    app.write("watt.yaml", &text);
    app.up();
    app
}

fn workers(app: &App, count: u64) -> Value {
    wait(&format!("{count} are ready and no others are there"), || {
        let web = app.service("web");
        let there = web["workers"].as_array().map_or(0, Vec::len) as u64;
        let is_so = web["ready"] == count && web["wanted"] == count && there == count;
        if is_so { Ok(web) } else { Err(web.to_string()) }
    })
}

#[test]
fn requests_in_flight_bring_workers_that_go_again_and_no_request_is_lost() {
    let app = app(3, "in_flight: 2", "", User::Ordinary);
    let first = workers(&app, 1);
    assert_eq!(first["scaling"]["by"], "configuration", "{first}");
    assert_eq!(first["scaling"]["range"], serde_json::json!({ "min": 1, "max": 3 }));
    let loads = [0, 1].map(|_| Load::start(&app.gateway(), "/slow/0.2"));
    let web = workers(&app, 3);
    assert_eq!(web["scaling"]["by"], "load", "{web}");
    let reason = web["scaling"]["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("requests at a time for each worker, target 2"), "{reason}");
    assert!(app.ok(&["status"]).contains(&reason));
    let daemon = app.status()["supervisor"]["daemon_pid"].as_u64().and_then(|pid| pid.try_into().ok());
    kill("KILL", daemon.expect("a pid"));
    wait("a new daemon knows", || match app.service("web") {
        web if web["scaling"]["by"] == "load" && web["ready"] == 3 => Ok(()),
        web => Err(web.to_string()),
    });
    for load in loads {
        let tally = load.stop();
        assert!(tally.failures.is_empty() && tally.answered > 0, "{tally:?}");
    }
    let web = wait("one is left, and requests one after the other are answered meanwhile", || {
        assert_eq!(app.get("/").0, 200);
        match app.service("web") {
            web if web["ready"] == 1 && web["workers"].as_array().map(Vec::len) == Some(1) => Ok(web),
            web => Err(web.to_string()),
        }
    });
    assert_eq!(web["scaling"]["reason"], "fewer were enough for 3s");
    let told = app.ok(&["events"]);
    assert!(told.contains("-> 1 worker: fewer were enough for 3s"), "{told}");
    app.down();
}

#[test]
fn cpu_time_brings_workers_and_an_operator_may_hold_their_number() {
    // Far less than what is used, whatever else the machine has to do.
    let app = app(3, "cpu: 5%", "", User::Ordinary);
    workers(&app, 1);
    let load = Load::start(&app.gateway(), "/burn/0.1");
    let web = workers(&app, 3);
    assert!(web["scaling"]["reason"].as_str().is_some_and(|reason| reason.starts_with("CPU at ")), "{web}");
    app.ok(&["scale", "web=2"]);
    assert_eq!(workers(&app, 2)["scaling"]["by"], "operator", "it is held");
    app.ok(&["scale", "web=auto"]);
    workers(&app, 3);
    let tally = load.stop();
    assert!(tally.failures.is_empty() && tally.answered > 0, "{tally:?}");
    workers(&app, 1);
    app.down();
}

#[test]
fn there_are_no_more_than_the_application_has_cpu_time_for() {
    if !is_root() {
        return eprintln!("not tried: an ordinary user has no cgroup here");
    }
    let app = app(100, "in_flight: 1", "limits: { cpu: 0.1 }", User::Root);
    workers(&app, 1);
    let load = Load::start(&app.gateway(), "/burn/0.05");
    let web = wait("it says what it lacks", || match app.service("web") {
        web if !web["scaling"]["lacks"].is_null() => Ok(web),
        web => Err(web.to_string()),
    });
    let lacks = web["scaling"]["lacks"].as_str().unwrap_or_default();
    assert!(lacks.contains("of 0.1 CPUs are used already"), "{lacks}");
    let told = app.ok(&["events"]);
    assert_eq!(told.matches("CPUs are used already").count(), 1, "once: {told}");
    load.stop();
    app.down();
}

/// A load that makes this much work brings a second worker, `status` says why in these words, no request is lost, and it goes again.
fn a_second_one_comes(app: &App, path: &str, words: &str) {
    workers(app, 1);
    let load = Load::start(&app.gateway(), path);
    let web = wait("a second worker is wanted because of the load", || match app.service("web") {
        web if web["wanted"] == 2 && web["scaling"]["by"] == "load" => Ok(web),
        web => Err(web.to_string()),
    });
    assert!(web["scaling"]["reason"].as_str().is_some_and(|reason| reason.contains(words)), "{web}");
    let tally = load.stop();
    assert!(tally.failures.is_empty() && tally.answered > 0, "{tally:?}");
    workers(app, 1);
    app.down();
}

#[test]
fn answers_that_take_too_long_bring_a_worker() {
    let app = app(2, "latency_p95: 50ms", "", User::Ordinary);
    a_second_one_comes(&app, "/slow/0.2", "95 % of answers begin within ");
}

#[test]
fn requests_that_wait_bring_a_worker() {
    let app = App::case("", User::Ordinary);
    let text = format!(
        "services:\n  web: {{ command: python3 services/web.py, bulkhead: {{ in_flight: 1, queue_timeout: 1m }}, workers: {{ max: 2, {RULES}, target: {{ queue: 1 }} }} }}\n\
         server: {{ port: 0 }}\ngateway: {{ routes: [{{ path: /, service: web }}] }}\n"
    );
    app.write("watt.yaml", &text);
    app.up();
    a_second_one_comes(&app, "/slow/0.1", " requests wait for each worker, target 1");
}

#[test]
fn waiting_for_cpu_time_brings_a_worker() {
    if !is_root() {
        return eprintln!("not tried: an ordinary user has no cgroup here");
    }
    let app = App::case("", User::Root);
    let text = format!(
        "services:\n  web: {{ command: python3 services/web.py, limits: {{ cpu: 10% }}, workers: {{ max: 2, {RULES}, target: {{ pressure: 10% }} }} }}\n\
         server: {{ port: 0 }}\ngateway: {{ routes: [{{ path: /, service: web }}] }}\n"
    );
    app.write("watt.yaml", &text);
    app.up();
    if app.service("web")["unenforced"].to_string().contains("pressure") {
        eprintln!("not tried: the kernel does not count it");
        return app.down();
    }
    a_second_one_comes(&app, "/burn/0.05", "CPU pressure ");
}
