//! What becomes of requests that do not go as they should, from the configuration to the counters.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::Value;
use watt_tests::{App, User, exchange, get, wait};

const APPLICATION: &str = r#"
services:
  api:
    command: python3 services/trouble.py
    listen: port
    workers: 2
    retries: { on: [connect, reset, 503], backoff: 1ms }
  front: { command: python3 services/trouble.py, listen: port, timeouts: { total: 30s } }
  back: { command: python3 services/trouble.py, listen: port }
  weak:
    command: python3 services/trouble.py
    listen: port
    bulkhead: { in_flight: 1, queue: 0 }
    breaker: { failures: 3, open: 1s, on: [503] }
server: { port: 0 }
gateway:
  routes:
    - { path: /, service: api }
    - { path: /front, service: front, strip: true }
    - { path: /weak, service: weak, strip: true }
"#;

fn application() -> App {
    let app = App::case("", User::Ordinary);
    app.write("watt.yaml", APPLICATION);
    app.up();
    app
}

/// Counters come from the proxy once a second.
fn counted(app: &App, service: &str, what: &str) -> u64 {
    app.service(service)["requests"][what].as_u64().unwrap()
}

#[test]
fn a_worker_that_is_busy_is_seen_by_nobody_while_another_one_is_not() {
    let app = application();
    let gateway = app.gateway();
    for _ in 0..50 {
        let (status, body) = get(&gateway, "/busy").unwrap();
        assert_eq!(status, 200, "{body}");
    }
    // Half of them met the busy one first, as two workers are drawn by lot.
    wait("repetitions are counted", || match counted(&app, "api", "retries") {
        0 => Err(app.service("api")["requests"].to_string()),
        _ => Ok(()),
    });
    assert_eq!(counted(&app, "api", "failures"), 0);
    let text = app.ok(&["inspect", "api"]);
    assert!(text.contains(" sent again"), "{text}");

    // Without it every other one is a 503, at once after a reload.
    app.write("watt.yaml", &APPLICATION.replace("reset, 503", "reset"));
    app.ok(&["reload"]);
    wait("the new rule holds", || match get(&gateway, "/busy").unwrap().0 {
        503 => Ok(()),
        status => Err(status.to_string()),
    });
    app.down();
}

#[test]
fn a_deadline_goes_with_the_calls() {
    let app = application();
    let (status, body) = app.get("/front/then/");
    assert_eq!(status, 200, "{body}");
    let fields = &serde_json::from_str::<Value>(&body).unwrap()["fields"];
    let left: u64 = fields["x-request-timeout-ms"].as_str().unwrap().parse().unwrap();
    assert!((1..=30_000).contains(&left), "what the second service is told: {left}");

    let ask = |path: &str| {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nX-Request-Timeout-Ms: 1000\r\nConnection: close\r\n\r\n"
        );
        exchange(&app.gateway(), &request).unwrap()
    };
    // Of two deadlines that are the same, either may be the first.
    for (path, service) in [("/front/then/sleep/30", "back"), ("/front/sleep/30", "front")] {
        let answer = ask(path);
        assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("deadline_exceeded"), "{answer}");
        wait("its time is over and counted", || match counted(&app, service, "timed_out") {
            0 => Err(app.service(service)["requests"].to_string()),
            _ => Ok(()),
        });
    }
    app.down();
}

/// The kinds of the events of a service.
fn events(app: &App, service: &str) -> Vec<String> {
    let text = app.ok(&["events", "--json"]);
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_service = events.filter(|event| event["service"] == service);
    of_service.map(|event| event["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_service_that_fails_or_is_full_is_spared() {
    let app = application();
    let gateway = app.gateway();
    // The one that comes after three failures is refused, or is a probe if it took long to come.
    wait("it fails too often", || match get(&gateway, "/weak/busy").unwrap() {
        (503, body) if body.contains("breaker_open") => Ok(()),
        (status, body) => Err(format!("{status} {body}")),
    });
    wait("the next one that is let through closes it", || match get(&gateway, "/weak/").unwrap() {
        (200, _) => Ok(()),
        (status, body) => Err(format!("{status} {body}")),
    });

    let mut slow = TcpStream::connect(&gateway).unwrap();
    let head = b"POST /weak/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n";
    slow.write_all(head).unwrap();
    wait("the slow one has the only place", || match counted(&app, "weak", "in_flight") {
        0 => Err(app.service("weak")["requests"].to_string()),
        _ => Ok(()),
    });
    let (status, body) = get(&gateway, "/weak/").unwrap();
    assert!(status == 503 && body.contains("bulkhead_full"), "{status} {body}");
    slow.write_all(b"ab").unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(get(&gateway, "/weak/").unwrap().0, 200, "its place is free again");
    wait("all of it is counted and told", || {
        let requests = app.service("weak")["requests"].clone();
        let kinds = events(&app, "weak");
        let told = ["circuit_opened", "circuit_closed", "requests_refused"];
        let counted = requests["breaker_opened"].as_u64() > Some(0)
            && requests["refused"]["bulkhead_full"].as_u64() > Some(0)
            && requests["refused"]["breaker_open"].as_u64() > Some(0);
        match counted && told.iter().all(|kind| kinds.iter().any(|other| other == kind)) {
            true => Ok(()),
            false => Err(format!("{requests} {kinds:?}")),
        }
    });
    app.down();
}
