//! Tasks: processes that run once, in a sandbox of a service's own making.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use serde_json::{Value, json};
use watt_tests::{App, User, for_each_user, kill, wait};

/// Asks the control API itself: status and reply.
fn call(app: &App, path: &str, body: &Value) -> (u16, Value) {
    let mut stream = UnixStream::connect(app.runtime().join("control.sock")).expect("the control socket");
    let body = body.to_string();
    let request =
        format!("POST {path} HTTP/1.1\r\nHost: watt\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).expect("it takes a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

/// Starts a shell script in a service's sandbox; gives back the task's name.
fn start(app: &App, service: &str, script: &str) -> String {
    start_with(app, json!({ "service": service, "command": ["sh", "-c", script] }))
}

fn start_with(app: &App, request: Value) -> String {
    let (status, reply) = call(app, "/v1/run", &request);
    assert_eq!(status, 200, "{reply}");
    reply["task"].as_str().expect("a name").to_owned()
}

/// The event of a task's end.
fn end(app: &App, task: &str) -> Value {
    let (service, name) = task.split_once('/').expect("a service and a name");
    wait("the task has ended", || {
        let text = app.ok(&["events", "--json"]);
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut ends = events.filter(|event| event["kind"] == "task_ended");
        let found = ends.find(|event| event["service"] == service && event["data"]["task"] == name);
        found.ok_or(text)
    })
}

/// What a task wrote.
fn said(app: &App, task: &str) -> Vec<String> {
    let (service, name) = task.split_once('/').expect("a service and a name");
    let text = app.ok(&["logs", service, "--json"]);
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let own = lines.filter(|line| line["task"] == name && line["service"] == service);
    own.filter_map(|line| line["text"].as_str().map(str::to_owned)).collect()
}

const POLICIES: &str = r#"
services:
  front: { command: python3 services/web.py }
  other: { command: python3 services/web.py }
  secret: { command: python3 services/web.py }
server: { port: 0 }
gateway: { routes: [{ path: /, service: front }] }
policies:
  - { from: front, to: secret }
"#;

const WALLS: &str = r#"
code() { curl -s -m 30 -o /dev/null -w "%{http_code}" "$@"; }
echo "by name $(code http://secret.plt.local/)"
echo "by socket $(code --unix-socket "$WATT_MESH_SOCKET" http://secret.plt.local/)"
echo "as $WATT_SERVICE $WATT_TASK worker ${WATT_WORKER:-none} port ${PORT:-none}"
python3 -c 'import socket; socket.socket().bind(("127.0.0.1", 8080)); print("has a network of its own")'
touch /tmp/mine-of-a-task && echo "writes to tmp"
grep -e NoNewPrivs -e "Seccomp:" /proc/self/status | tr '\t' ' '
"#;

#[test]
fn a_task_has_its_services_walls_and_its_name_in_the_mesh() {
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("watt.yaml", POLICIES);
        app.up();
        for (service, status) in [("front", 200), ("other", 403)] {
            let task = start(&app, service, WALLS);
            let end = end(&app, &task);
            assert_eq!(end["text"], "exit 0", "{user:?}: {end} {:?}", said(&app, &task));
            let name = task.split_once('/').expect("a name").1;
            let expected = [
                format!("by name {status}"),
                format!("by socket {status}"),
                format!("as {service} {name} worker none port none"),
                "has a network of its own".to_owned(),
                "writes to tmp".to_owned(),
                "NoNewPrivs: 1".to_owned(),
                "Seccomp: 2".to_owned(),
            ];
            assert_eq!(said(&app, &task), expected, "{user:?} {service}");
            assert!(!Path::new("/tmp/mine-of-a-task").exists(), "{user:?}");
        }
        // It was none of the table: requests still find the worker alone.
        assert_eq!(app.service("front")["workers"].as_array().map(Vec::len), Some(1));
        assert_eq!(app.get("/").0, 200);
        app.down();
    });
}

#[test]
fn a_task_on_the_hosts_network_is_known_too() {
    for_each_user(|user| {
        let app = App::case("", user);
        let host = "{ command: sleep 1000, listen: none, network: host, sandbox: off }";
        let secret = "secret: { command: python3 services/web.py }";
        app.write(
            "watt.yaml",
            &format!("services: {{ front: {host}, other: {host}, {secret} }}\npolicies: [{{ from: front, to: secret }}]"),
        );
        app.up();
        // By root's own address, where everybody on the host's network comes in; an ordinary user cannot have port 80.
        let ways: &[&str] = if user == User::Root {
            &["", "--unix-socket $WATT_MESH_SOCKET"]
        } else {
            &["--unix-socket $WATT_MESH_SOCKET"]
        };
        for (service, status) in [("front", "200"), ("other", "403")] {
            for way in ways {
                let script = format!(
                    "curl -s -m 30 -o /dev/null -w '%{{http_code}}\\n' {way} http://secret.plt.local/"
                );
                let task = start(&app, service, &script);
                end(&app, &task);
                assert_eq!(said(&app, &task), [status], "{user:?} {service} {way}");
            }
        }
        app.down();
    });
}

#[test]
fn nothing_is_left_of_a_task() {
    for_each_user(|user| {
        let app = App::yaml(
            "secrets: { key: { file: key } }
services:
  api: { command: sleep 1000, listen: none, secrets: { key: key } }
  bare: { command: sleep 1000, listen: none, sandbox: off, network: host }",
            user,
        );
        app.write("key", "a-value");
        app.up();
        for service in ["api", "bare"] {
            let script =
                "cat $CREDENTIALS_DIRECTORY/key 2>/dev/null; setsid sleep 4242 & echo started; exit 3";
            let task = start(&app, service, script);
            let end = end(&app, &task);
            assert_eq!((&end["text"], &end["data"]["stopped"]), (&json!("exit 3"), &json!("no")), "{user:?}");
            let text = said(&app, &task).concat();
            assert_eq!(text, if service == "api" { "a-valuestarted" } else { "started" }, "{user:?}");
            let left: Vec<_> =
                app.processes().into_iter().filter(|(_, line)| line.contains("4242")).collect();
            assert!(left.is_empty(), "{user:?} {service}: {left:?}");
            for folder in ["workers", "credentials"] {
                let folder = app.runtime().join(folder).join(service);
                let names: Vec<_> = fs::read_dir(&folder).into_iter().flatten().flatten().collect();
                let names: Vec<_> = names.iter().map(|entry| entry.file_name()).collect();
                assert!(names.iter().all(|name| name == "0"), "{user:?} {service}: {names:?}");
            }
        }
        app.down();
    });
}

#[test]
fn a_task_is_stopped_at_its_time_and_with_the_application() {
    for_each_user(|user| {
        let app = App::yaml(
            "services: { api: { command: sleep 1000, listen: none, stop: { grace: 200ms } } }",
            user,
        );
        app.up();
        // At the same time, and long enough for a shell to have come to its trap.
        let begun = [
            ("sleep 1000", "signal 15 (TERM)"),
            ("trap 'exit 4' TERM; sleep 1000 & wait", "exit 4"),
            ("trap '' TERM; sleep 1000", "signal 9 (KILL)"),
        ]
        .map(|(script, expected)| {
            let request = json!({ "service": "api", "command": ["sh", "-c", script], "timeout_ms": 3000 });
            (start_with(&app, request), expected)
        });
        for (task, expected) in begun {
            let end = end(&app, &task);
            assert_eq!(end["data"]["stopped"], "timed_out", "{user:?}: {end}");
            assert_eq!(end["text"], format!("{expected}; it took longer than it may"), "{user:?}");
        }
        // What the end of the application does not wait for in vain.
        start(&app, "api", "trap '' TERM; sleep 1000");
        app.down();
    });
}

#[test]
fn a_task_outlives_its_daemon() {
    for_each_user(|user| {
        let app = App::yaml("services: { api: { command: sleep 1000, listen: none } }", user);
        app.up();
        let script = "while [ ! -e go ]; do sleep 0.02; done; echo done; exit 7";
        let later = start(&app, "api", script);
        let timed = json!({ "service": "api", "command": ["sleep", "1000"], "timeout_ms": 6000 });
        let timed = start_with(&app, timed);
        let daemon = app.status()["supervisor"]["daemon_pid"].as_u64().expect("a pid");
        kill("KILL", u32::try_from(daemon).expect("a pid"));
        wait("another daemon is there", || {
            let now = app.status()["supervisor"]["daemon_pid"].as_u64();
            if now != Some(daemon) { Ok(()) } else { Err(format!("{now:?}")) }
        });
        app.write("go", "");
        assert_eq!(end(&app, &later)["text"], "exit 7", "{user:?}");
        assert_eq!(said(&app, &later), ["done"]);
        assert_eq!(end(&app, &timed)["data"]["stopped"], "timed_out", "{user:?}");
        // Numbers are not given out twice.
        let next = start(&app, "api", "true");
        assert!(next != later && next != timed, "{next}");
        end(&app, &next);
        app.down();
    });
}

#[test]
fn what_cannot_be_run_says_so() {
    for_each_user(|user| {
        let app = App::yaml("services: { api: { command: sleep 1000, listen: none } }", user);
        app.up();
        let (status, problem) = call(&app, "/v1/run", &json!({ "service": "apo" }));
        assert_eq!((status, &problem["code"]), (404, &json!("unknown_service")), "{problem}");
        assert_eq!(problem["hint"], "did you mean api?", "{problem}");
        let task = start_with(&app, json!({ "service": "api", "command": ["no-such-program"] }));
        let end = end(&app, &task);
        assert_eq!(end["text"], "exec: exec no-such-program: No such file or directory", "{user:?}: {end}");
        app.down();
    });
}
