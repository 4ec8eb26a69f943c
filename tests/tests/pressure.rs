//! A worker that stalls is told of, shown, and replaced where that was asked for. What only cgroup v2 with its memory controller
//! can show runs in the virtual machine.

use std::fs;

use serde_json::Value;
use std::time::Duration;

use watt_tests::{App, User, is_root, wait, wait_within};

/// Root, where the kernel counts stalls of groups; `wattctl doctor` says whether it does.
fn counted() -> Option<User> {
    if !is_root() {
        return None;
    }
    let app = App::yaml("services: { a: { command: sleep 1000, listen: none } }\n", User::Root);
    let doctor = app.run(&["doctor", "--json"]);
    let doctor: Value = serde_json::from_slice(&doctor.stdout).expect("JSON");
    let features = doctor["features"].as_array().cloned().unwrap_or_default();
    let pressure =
        features.into_iter().find(|feature| feature["name"] == "pressure").expect("a line of its own");
    if pressure["state"] != "on" {
        eprintln!("skipped: {}", pressure["detail"]);
        return None;
    }
    Some(User::Root)
}

/// The first event of this kind.
fn event(app: &App, kind: &str) -> Value {
    wait(&format!("there is an event {kind}"), || {
        let events = app.ok(&["events", "--json"]);
        let parsed = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.into_iter().find(|event| event["kind"] == kind).ok_or(events)
    })
}

/// More processes than there are CPUs, each busy until there is a file `calm`. Their neighbour stalls a little when it is started, as
/// everybody does, and not after that.
const CROWD: &str = r#"
services:
  crowd:
    command:
      - python3
      - -c
      - |
        import os, time
        for _ in range(4 * os.cpu_count() - 1):
            if os.fork() == 0:
                break
        while not os.path.exists("calm"):
            for _ in range(100000):
                pass
        time.sleep(1000)
    listen: none
    pressure: { cpu: 300ms }
  neighbour:
    command: sleep 1000
    listen: none
    pressure: { cpu: 1500ms, memory: 1500ms, io: 1500ms }
"#;

#[test]
fn a_worker_that_stalls_is_told_of_with_numbers_until_it_is_over() {
    let Some(user) = counted() else { return };
    let app = App::yaml(CROWD, user);
    app.up();
    let began = event(&app, "pressure");
    assert_eq!((&began["service"], &began["worker"]), (&"crowd".into(), &0.into()), "{began}");
    assert_eq!(began["text"], "cpu pressure: stalled for at least 300ms of 2s", "{began}");
    let data = &began["data"];
    assert!(data["resource"] == "cpu" && data["stalled_ms"] == 300 && data["window_ms"] == 2000, "{began}");
    // The kernel reckons its averages every two seconds: at the beginning they may not have it yet.
    assert!(data["some_avg10"].is_f64(), "{began}");
    wait("status shows it with what was measured", || {
        let worker = app.worker("crowd", 0);
        let pressure = &worker["pressure"][0];
        let is_measured =
            pressure["percent"].as_u64() > Some(15) && pressure["for_ms"].as_u64() >= Some(2000);
        if pressure["resource"] == "cpu" && is_measured { Ok(()) } else { Err(worker.to_string()) }
    });
    let status = app.ok(&["status"]);
    assert!(status.contains("cpu pressure ") && status.contains(" % for "), "{status}");
    fs::write(app.dir.join("calm"), "").expect("the folder is ours");
    let over = event(&app, "pressure_over");
    assert!(over["data"]["stalled_ms"].as_u64() > Some(300), "{over}");
    assert!(over["text"].as_str().is_some_and(|text| text.starts_with("cpu pressure is over: ")), "{over}");
    assert_eq!(app.worker("crowd", 0)["pressure"], Value::Array(Vec::new()));
    let events = app.ok(&["events"]);
    assert!(!events.contains("neighbour/0  cpu pressure"), "{events}");
    assert_eq!(events.matches("cpu pressure: ").count(), 1, "one stall is one event: {events}");
    app.down();
}

/// Held at its limit, it waits without using anything.
const STALLING: &str = r#"
services:
  spin:
    command: [sh, -c, "while :; do :; done"]
    listen: none
    limits: { cpu: 5% }
    pressure: { cpu: 500ms, recycle: { cpu: 4s } }
"#;

/// It takes the minute that a worker has to have been ready for.
#[test]
fn a_worker_that_stalls_for_too_long_is_replaced_and_says_why() {
    let Some(user) = counted() else { return };
    let app = App::yaml(STALLING, user);
    app.up();
    let first = app.pid("spin", 0);
    // In no time at all it stalls; for a minute nothing follows from that.
    event(&app, "pressure");
    let worker = wait_within(Duration::from_secs(300), "it is replaced", || {
        let worker = app.worker("spin", 0);
        let is_another = worker["state"] == "ready" && worker["pid"] != first;
        if is_another { Ok(worker) } else { Err(worker.to_string()) }
    });
    let exit = &worker["last_exit"];
    assert_eq!(exit["cause"], "recycled", "{exit}");
    let text = exit["text"].as_str().unwrap_or_default();
    assert!(text.starts_with("recycled: cpu pressure ") && text.ends_with(" %"), "{exit}");
    assert_eq!(worker["restarts"], 1, "{worker}");
    let events = app.ok(&["events"]);
    assert!(events.contains("spin/0  ends: recycled: cpu pressure "), "{events}");
    app.down();
}

/// A program that has more than it may, page by page again and again.
const HELD: &str = r#"
services:
  hog:
    command: [python3, -c, "while True: b = bytearray(64 << 20)"]
    listen: none
    limits: { memory_high: 24M, swap: 0 }
"#;

#[test]
fn a_worker_that_is_held_at_memory_high_is_told_of_by_default() {
    let Some(user) = counted() else { return };
    let app = App::yaml(HELD, user);
    app.up();
    if app.service("hog")["unenforced"].to_string().contains("memory_high") {
        eprintln!("skipped: cgroup v1 has no memory_high");
        return app.down();
    }
    let told = event(&app, "pressure");
    assert_eq!(told["data"]["resource"], "memory", "{told}");
    assert!(
        told["text"].as_str().is_some_and(|text| text.starts_with("memory pressure: stalled for ")),
        "{told}"
    );
    app.down();
}

#[test]
fn where_stalls_are_not_counted_that_is_said_to_whom_it_concerns() {
    let app = App::yaml(
        r#"
sandbox: off
services:
  asks: { command: sleep 1000, listen: none, pressure: { io: 1s } }
  none: { command: sleep 1000, listen: none }
"#,
        User::Ordinary,
    );
    app.ok(&["up", "-d"]);
    let asks = app.service("asks")["unenforced"].to_string();
    // An ordinary user may have cgroups of its own, where those are delegated.
    let has_cgroups = app.ok(&["inspect", "asks"]).contains("cgroup ");
    assert!(has_cgroups || asks.contains("pressure (no cgroup can be made here)"), "{asks}");
    assert!(!app.service("none")["unenforced"].to_string().contains("pressure"));
    app.down();
}
