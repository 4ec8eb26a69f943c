//! Which worker gets a request, with real ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::Value;
use watt_tests::{App, User, exchange, kill, wait};

const APPLICATION: &str = r#"
services:
  turn: { command: python3 services/trouble.py, listen: port, workers: 3, balance: round_robin }
  tenant: { command: python3 services/trouble.py, listen: port, workers: 3, balance: { by: hash, header: X-Tenant } }
  cart: { command: python3 services/trouble.py, listen: port, workers: 3, balance: sticky }
server: { port: 0 }
gateway:
  routes:
    - { path: /turn, service: turn, strip: true }
    - { path: /tenant, service: tenant, strip: true }
    - { path: /cart, service: cart, strip: true }
"#;

const SLOW_START: &str = r#"
services:
  api: { command: python3 services/trouble.py, listen: port, workers: 2, slow_start: 8s }
server: { port: 0 }
gateway: { routes: [{ path: /, service: api }] }
"#;

/// What is written there.
const SLOW_START_TIME: Duration = Duration::from_secs(8);

const EJECTION: &str = r#"
services:
  api:
    command: python3 services/trouble.py
    listen: port
    workers: 2
    ejection: { failures: 3, on: [503], first: 5m, max: 5m }
server: { port: 0 }
gateway: { routes: [{ path: /, service: api }] }
"#;

fn application(yaml: &str) -> App {
    let app = App::case("", User::Ordinary);
    app.write("watt.yaml", yaml);
    app.up();
    app
}

/// A connection that is kept: one thread of the proxy has it.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(app: &App) -> Client {
        Client(BufReader::new(TcpStream::connect(app.gateway()).unwrap()))
    }

    /// Which worker answers.
    fn met(&mut self, path: &str, lines: &str) -> u64 {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            match line.trim_end().to_ascii_lowercase().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(_) => {}
                None if line == "\r\n" => break,
                None => assert!(line.starts_with("HTTP/1.1 200 "), "{line}"),
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        worker_of(&body)
    }

    /// How many of so many requests each worker answers.
    fn spread(&mut self, path: &str, requests: u32) -> BTreeMap<u64, u32> {
        let mut spread = BTreeMap::new();
        for _ in 0..requests {
            *spread.entry(self.met(path, "")).or_default() += 1;
        }
        spread
    }
}

fn worker_of(body: &[u8]) -> u64 {
    serde_json::from_slice::<Value>(body).unwrap()["worker"].as_u64().unwrap()
}

/// Kills a worker and waits until another run of it is ready.
fn replace(app: &App, service: &str, index: usize) {
    let before = app.pid(service, index);
    kill("KILL", before);
    wait("it has a successor", || {
        let worker = app.worker(service, index);
        match worker["pid"].as_u64() {
            Some(pid) if pid != u64::from(before) && worker["state"] == "ready" => Ok(()),
            _ => Err(worker.to_string()),
        }
    });
}

#[test]
fn in_turn_all_get_the_same() {
    let app = application(APPLICATION);
    let spread = Client::new(&app).spread("/turn/", 60);
    assert_eq!(spread, [(0, 20), (1, 20), (2, 20)].into());
    app.down();
}

#[test]
fn a_tenant_has_its_worker_and_gets_it_back_after_a_crash() {
    let app = application(APPLICATION);
    let homes = || -> Vec<u64> {
        // New connections, which any thread of the proxy may have.
        (0..30).map(|tenant| Client::new(&app).met("/tenant/", &format!("X-Tenant: {tenant}\r\n"))).collect()
    };
    let before = homes();
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 3, "all workers have some: {before:?}");
    assert_eq!(homes(), before);
    replace(&app, "tenant", 1);
    wait("its tenants are there again", || match homes() {
        now if now == before => Ok(()),
        now => Err(format!("{now:?} and not {before:?}")),
    });
    // Two of three: who had one of those stays.
    app.ok(&["scale", "tenant=2"]);
    wait("the last one gets no more", || match homes() {
        now if now.contains(&2) => Err(format!("{now:?}")),
        now => {
            let stays = before.iter().zip(&now).all(|(before, now)| before == now || *before == 2);
            assert!(stays, "{before:?} {now:?}");
            Ok(())
        }
    });
    app.down();
}

#[test]
fn a_client_comes_back_to_its_worker() {
    let app = application(APPLICATION);
    let ask = |lines: &str| {
        let request = format!("GET /cart/ HTTP/1.1\r\nHost: x\r\n{lines}Connection: close\r\n\r\n");
        let answer = exchange(&app.gateway(), &request).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let mut cookies = head.lines().filter_map(|line| line.strip_prefix("Set-Cookie: cart_worker="));
        let cookie: Option<u64> =
            cookies.next().map(|value| value.split(';').next().unwrap().parse().unwrap());
        (worker_of(body.as_bytes()), cookie)
    };
    let (first, cookie) = ask("");
    assert_eq!(cookie, Some(first));
    for _ in 0..20 {
        assert_eq!(ask(&format!("Cookie: cart_worker={first}\r\n")), (first, None));
    }
    app.down();
}

#[test]
fn a_new_worker_gets_its_share_little_by_little() {
    let app = application(SLOW_START);
    let up = Instant::now();
    wait("the other one has its whole share", || match up.elapsed() {
        passed if passed > SLOW_START_TIME => Ok(()),
        passed => Err(format!("{passed:?}")),
    });
    replace(&app, "api", 1);
    let mut client = Client::new(&app);
    wait("it gets requests", || match client.met("/", "") {
        1 => Ok(()),
        other => Err(format!("worker {other} answers")),
    });
    let early = client.spread("/", 200);
    let late = wait("it gets as many as the other one", || {
        let spread = client.spread("/", 200);
        if spread.get(&1) >= Some(&80) { Ok(spread) } else { Err(format!("{spread:?}")) }
    });
    // A twentieth of all to begin with, where half is its share.
    assert!(early.get(&1) <= Some(&60), "early {early:?}, late {late:?}");
    println!("of 200 requests: early {early:?}, late {late:?}");
    app.down();
}

/// The events of workers that were put out and are in again, as kind, worker and reason.
fn ejections(app: &App) -> Vec<(String, u64, String)> {
    let text = app.ok(&["events", "--json"]);
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_workers = events
        .filter(|event| ["worker_ejected", "worker_returned"].iter().any(|kind| event["kind"] == *kind));
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    of_workers
        .map(|event| {
            (word(&event["kind"]), event["worker"].as_u64().unwrap(), word(&event["data"]["reason"]))
        })
        .collect()
}

#[test]
fn a_worker_that_fails_gets_no_requests_for_a_while() {
    let app = application(EJECTION);
    // Each on a connection of its own: all threads of the proxy see some of it.
    let failed = |requests: u32| {
        let ask = |_| u32::from(watt_tests::get(&app.gateway(), "/busy").unwrap().0 == 503);
        (0..requests).map(ask).sum::<u32>()
    };
    let before = failed(60);
    assert_eq!(before, 3, "failures that clients saw before nobody was asked that fails");
    assert_eq!(failed(60), 0);
    wait("it is told", || match ejections(&app) {
        told if told == [("worker_ejected".to_owned(), 0, "status".to_owned())] => Ok(()),
        told => Err(format!("{told:?}")),
    });
    wait("and counted", || {
        let requests = app.service("api")["requests"].clone();
        let is_counted = requests["ejections"] == 1 && requests["ejected"] == 1;
        if is_counted { Ok(()) } else { Err(requests.to_string()) }
    });
    assert!(app.ok(&["inspect", "api"]).contains("a worker was ejected once, 1 out now"));
    assert!(app.ok(&["status"]).contains("1 worker gets no requests for a while"));

    app.write("watt.yaml", &EJECTION.replace("{ failures: 3, on: [503], first: 5m, max: 5m }", "never"));
    app.ok(&["reload"]);
    assert!(failed(60) > 5, "it has its share again");
    wait("that is told as well", || match ejections(&app).last() {
        Some((kind, 0, _)) if kind == "worker_returned" => Ok(()),
        told => Err(format!("{told:?}")),
    });
    app.down();
}
