//! Webhooks: what receivers in the mesh and outside are told, and what comes of those that fail and hang.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
};

use serde_json::Value;
use watt_tests::{App, User, for_each_user, kill, wait};

/// Somebody outside, who takes requests and answers them when he is told to.
struct Outside {
    port: u16,
    state: Arc<(Mutex<State>, Condvar)>,
}

#[derive(Default)]
struct State {
    /// Path and body of each request, in order.
    got: Vec<(String, Value)>,
    /// Whether they are answered.
    answers: bool,
}

impl Outside {
    fn start() -> Outside {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let state = Arc::<(Mutex<State>, Condvar)>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || take(connection.expect("a connection"), &shared));
            }
        });
        Outside { port, state }
    }

    fn answer(&self) {
        self.state.0.lock().expect("no panic").answers = true;
        self.state.1.notify_all();
    }

    /// Waits for so many requests.
    fn got(&self, count: usize) -> Vec<(String, Value)> {
        wait(&format!("{count} requests have come"), || {
            let got = self.state.0.lock().expect("no panic").got.clone();
            if got.len() >= count { Ok(got) } else { Err(format!("{got:?}")) }
        })
    }
}

fn take(mut connection: TcpStream, (state, told): &(Mutex<State>, Condvar)) {
    let mut request = Vec::new();
    let (path, body) = loop {
        let mut part = [0; 4096];
        let length = connection.read(&mut part).expect("a request");
        assert_ne!(length, 0, "it ends early: {}", request.escape_ascii());
        request.extend_from_slice(&part[..length]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        if let Ok(body) = serde_json::from_str::<Value>(body) {
            let line = head.lines().next().expect("a line");
            assert!(head.contains("Content-Type: application/json"), "{head}");
            break (line.split(' ').nth(1).expect("a path").to_owned(), body);
        }
    };
    let mut state = state.lock().expect("no panic");
    state.got.push((path, body));
    let state = told.wait_while(state, |state| !state.answers).expect("no panic");
    drop(state);
    // Who asked may have gone.
    let _ = connection.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
}

fn worker(app: &App, expected: impl Fn(&Value) -> bool) -> Value {
    wait("the worker is as expected", || match app.worker("api", 0) {
        worker if expected(&worker) => Ok(worker),
        worker => Err(worker.to_string()),
    })
}

fn events(app: &App) -> Vec<Value> {
    let text = app.ok(&["events", "--json"]);
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("a line of JSON"));
    all.filter(|event| event["kind"] == "webhook_ended").collect()
}

/// What the service `alerts` got: the number of earlier attempts, path and body.
fn alerts(app: &App) -> Vec<(String, String, Value)> {
    let text = std::fs::read_to_string(app.dir.join("ticks.log")).unwrap_or_default();
    let line = |line: &str| {
        let [_, _, attempt, _, path, body] = line.splitn(6, ' ').collect::<Vec<_>>()[..] else { return None };
        Some((attempt.to_owned(), path.to_owned(), serde_json::from_str(body).ok()?))
    };
    text.lines().filter_map(line).collect()
}

#[test]
fn a_service_is_told_what_happens_to_another_one() {
    for_each_user(|user| {
        let app = App::case("", user);
        let hook = |name: &str, path: &str| {
            format!(
                "{name}: {{ url: 'http://alerts.plt.local{path}', headers: {{ X-Watt-Job: hook }}, retries: 1 }}"
            )
        };
        let hooks: Vec<String> = ["post_start", "pre_stop", "post_stop", "on_failure"]
            .iter()
            .map(|name| hook(name, &format!("/{name}")))
            .collect();
        app.write(
            "watt.yaml",
            &format!(
                "services:\n  alerts: {{ command: python3 services/ticks.py, listen: port, sandbox: off }}\n  \
                 api:\n    command: sleep 1000\n    listen: none\n    depends_on: [alerts]\n    restart: {{ backoff: {{ first: 10ms }} }}\n    hooks: {{ {} }}\n  \
                 gated: {{ command: touch started, listen: none, depends_on: [alerts], restart: never, hooks: {{ {} }} }}\n",
                hooks.join(", "),
                hook("pre_start", "/status/503"),
            ),
            );
        let up = app.begin_up();
        wait("the gate was asked twice, and the start failed", || {
            let asked = alerts(&app).into_iter().filter(|(_, path, _)| path == "/status/503");
            let asked: Vec<String> = asked.map(|(attempt, ..)| attempt).collect();
            let gated = app.service("gated")["workers"][0].clone();
            let is_over = asked == ["0", "1"] && gated["last_exit"]["text"] == "pre_start: status 503";
            if is_over { Ok(()) } else { Err(format!("{asked:?} {gated}")) }
        });
        assert!(!app.dir.join("started").exists());
        let of = |path: &str, count: usize| {
            wait(&format!("{path} has come {count} times"), || {
                let got = alerts(&app);
                let found: Vec<Value> =
                    got.iter().filter(|(_, at, _)| at == path).map(|(_, _, body)| body.clone()).collect();
                if found.len() == count { Ok(found) } else { Err(format!("{got:?}")) }
            })
        };
        of("/post_start", 1);
        let run = worker(&app, |worker| worker["state"] == "ready")["run"].clone();
        kill("SEGV", app.pid("api", 0));
        for path in ["/on_failure", "/post_stop"] {
            let event = of(path, 1).remove(0);
            let (cause, code) = (&event["cause"], &event["code"]);
            assert_eq!((cause, code, &event["run"]), (&"signal".into(), &11.into(), &run), "{event}");
            assert_eq!((&event["hook"], &event["service"]), (&path[1..].into(), &"api".into()), "{event}");
            assert!(event["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{event}");
        }
        of("/post_start", 2);
        app.ok(&["stop", "api"]);
        assert_eq!(of("/post_stop", 2)[1]["cause"], "stopped");
        of("/pre_stop", 1);
        let failed = events(&app).into_iter().find(|event| event["data"]["ok"] == false).expect("one failed");
        assert_eq!(failed["text"], "pre_start to alerts.plt.local: status 503 (2 attempts)");
        app.end_up(up);
    });
}

/// The new daemon sends it again, with the same event, and waits where the old one did.
#[test]
fn a_start_waits_for_a_receiver_outside_over_the_death_of_the_daemon() {
    for_each_user(|user| {
        let outside = Outside::start();
        let app = App::yaml(
            &format!(
                "services:\n  api: {{ command: sleep 1000, listen: none, hooks: {{ pre_start: {{ url: 'http://127.0.0.1:{}/gate', retries: 0, timeout: 1h }} }} }}\n",
                outside.port
            ),
            user,
        );
        let up = app.begin_up();
        let first = outside.got(1).remove(0);
        assert_eq!((first.0.as_str(), &first.1["hook"]), ("/gate", &"pre_start".into()));
        app.kill_daemon();
        assert_eq!(app.worker("api", 0)["state"], "starting", "{user:?}");
        assert_eq!(outside.got(2)[1], first, "{user:?}");
        outside.answer();
        worker(&app, |worker| worker["state"] == "ready");
        assert_eq!(outside.got(2).len(), 2);
        app.end_up(up);
    });
}

#[test]
fn a_receiver_that_hangs_holds_up_nobody_who_does_not_wait_for_it() {
    let outside = Outside::start();
    let url = format!("http://localhost:{}/", outside.port);
    let app = App::yaml(
        &format!(
            "services:\n  api: {{ command: sleep 1000, listen: none, restart: {{ backoff: {{ first: 1ms, max: 1ms }}, give_up: {{ failures: 1000 }} }}, hooks: {{ on_failure: {{ url: '{url}failed', retries: 0, timeout: 1h }} }} }}\n  \
             held: {{ command: sleep 1000, listen: none, hooks: {{ pre_start: {{ url: '{url}gate', retries: 0, timeout: 1h }} }} }}\n"
        ),
        User::Ordinary,
    );
    let up = app.begin_up();
    let mut run = Value::Null;
    // More than may be under way at a time.
    for _ in 0..20 {
        let ready = worker(&app, |worker| worker["state"] == "ready" && worker["run"] != run);
        run = ready["run"].clone();
        kill("KILL", app.pid("api", 0));
    }
    worker(&app, |worker| worker["state"] == "ready" && worker["run"] != run);
    let got = outside.got(17);
    assert_eq!(got.iter().filter(|(path, _)| path == "/failed").count(), 16, "{got:?}");
    // One that waits for its gate can be stopped.
    assert_eq!(app.service("held")["state"], "starting");
    app.ok(&["stop", "held"]);
    assert_eq!(app.service("held")["state"], "down");
    assert_eq!(events(&app).len(), 0);
    // What was not told is told by the next daemon.
    app.kill_daemon();
    outside.got(17 + 16);
    outside.answer();
    wait("all have been told", || match events(&app).len() {
        16 => Ok(()),
        some => Err(format!("{some}")),
    });
    app.end_up(up);
}

#[test]
fn the_end_of_the_application_waits_for_a_receiver_that_hangs_no_longer_than_for_a_moment() {
    let outside = Outside::start();
    let app = App::yaml(
        &format!(
            "services:\n  api: {{ command: 'false', listen: none, restart: never, hooks: {{ on_failure: {{ url: 'http://127.0.0.1:{}/', timeout: 1h }} }} }}\n",
            outside.port
        ),
        User::Ordinary,
    );
    let mut up = app.begin_up();
    outside.got(1);
    let _ = up.wait();
    app.down();
}

/// Whoever is waited for.
#[test]
fn a_kill_waits_for_no_receiver() {
    for_each_user(|user| {
        let outside = Outside::start();
        let hook = |point: &str| {
            format!(
                "hooks: {{ {point}: {{ url: 'http://127.0.0.1:{}/{point}', timeout: 1h }} }}",
                outside.port
            )
        };
        let service = "{ command: sleep 1000, listen: none, stop: { grace: 1h }";
        let app = App::yaml(
            &format!(
                "services:\n  before: {service}, {} }}\n  during: {service}, {} }}\n  after: {service}, {} }}\n",
                hook("pre_start"),
                hook("pre_stop"),
                hook("post_stop"),
            ),
            user,
        );
        let up = app.begin_up();
        let is_ready = |service: &str| match app.service(service) {
            found if found["state"] == "ready" => Ok(()),
            found => Err(found.to_string()),
        };
        wait("they are ready", || is_ready("during").and_then(|()| is_ready("after")));
        let mut stop = app.wattctl(&["stop", "during", "after"]);
        let mut stop = stop.stderr(std::process::Stdio::null()).spawn().expect("it runs");
        let mut got: Vec<String> = outside.got(3).into_iter().map(|(path, _)| path).collect();
        got.sort();
        assert_eq!(got, ["/post_stop", "/pre_start", "/pre_stop"], "{user:?}");
        app.end_up(up);
        let _ = stop.wait();
        app.assert_gone();
    });
}
