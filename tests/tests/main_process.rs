//! Programs that leave their work to another process of theirs and say so: `MAINPID=` of sd_notify(3).

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::Value;
use watt_tests::{App, User, for_each_user, kill, wait, wattctl};

/// Goes on in a grandchild, in a session of its own, as daemons do. That ends with 3 at USR1, and says `bye` when it is to stop.
const PROGRAM: &str = r#"
import os, signal, socket, sys, time
def say(text):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect(os.environ["NOTIFY_SOCKET"])
    s.send(text.encode())
def end(status, text):
    print(text, flush=True)
    os._exit(status)
reader, writer = os.pipe()
if os.fork():
    pid = os.read(reader, 20).decode()
    say(f"STATUS=in {pid}\nMAINPID={pid}\nREADY=1")
    sys.exit(0)
os.setsid()
if os.fork():
    os._exit(0)
signal.signal(signal.SIGUSR1, lambda *_: end(3, "failed"))
signal.signal(signal.SIGTERM, lambda *_: end(0, "bye"))
os.write(writer, str(os.getpid()).encode())
while True:
    time.sleep(1000)
"#;

const SANDBOXES: [&str; 3] = ["off", "standard", "strict"];

/// One service in each sandbox, all of this program.
fn app(user: User, program: &str, keys: &str) -> App {
    let app = App::empty(user);
    app.write("main.py", program);
    let service = |sandbox: &str| {
        format!(
            "  {sandbox}:\n    {{ command: [python3, main.py], listen: none, ready: notify, sandbox: {sandbox}, \
             restart: {{ backoff: {{ first: 10ms, max: 50ms }}, {keys} }} }}\n"
        )
    };
    app.write("watt.yaml", &format!("services:\n{}", SANDBOXES.map(service).concat()));
    app.write("faults/.keep", "");
    app.pass_through();
    fs::set_permissions(app.dir.join("faults"), fs::Permissions::from_mode(0o777)).expect("it is ours");
    app
}

/// The worker, when it is ready in its grandchild and was restarted so often.
fn ready(app: &App, sandbox: &str, restarts: u64) -> Value {
    wait("it is ready", || {
        let worker = app.worker(sandbox, 0);
        let is_at = worker["state"] == "ready" && worker["restarts"] == restarts;
        // In a PID namespace of its own the number is another one, and the process the init.
        let named = format!("in {}", worker["pid"]);
        // What it says is not known to a later daemon.
        if is_at && (sandbox == "strict" || worker["says"].is_null() || worker["says"] == *named) {
            Ok(worker)
        } else {
            Err(format!("{restarts} {worker}"))
        }
    })
}

fn signal(app: &App, sandbox: &str, name: &str) {
    kill(name, app.pid(sandbox, 0));
}

fn last_exit(worker: &Value) -> &str {
    worker["last_exit"]["text"].as_str().unwrap_or_default()
}

#[test]
fn a_service_goes_on_in_the_process_that_it_names() {
    for_each_user(|user| {
        let app = app(user, PROGRAM, "policy: always");
        app.up();
        for sandbox in SANDBOXES {
            ready(&app, sandbox, 0);
            signal(&app, sandbox, "USR1");
            assert_eq!(last_exit(&ready(&app, sandbox, 1)), "exit 3", "{user:?} {sandbox}");
        }
        // Not by a daemon either that did not see the first process end.
        app.kill_daemon();
        for sandbox in SANDBOXES {
            ready(&app, sandbox, 1);
            signal(&app, sandbox, "USR1");
            assert_eq!(last_exit(&ready(&app, sandbox, 2)), "exit 3", "{user:?} {sandbox}");
            signal(&app, sandbox, "KILL");
            assert_eq!(last_exit(&ready(&app, sandbox, 3)), "signal 9 (KILL)", "{user:?} {sandbox}");
            app.ok(&["exec", sandbox, "--", "true"]);
            app.ok(&["stop", sandbox]);
            assert!(app.ok(&["logs", sandbox]).contains("bye"), "{user:?} {sandbox}");
            let worker = app.worker(sandbox, 0);
            assert_eq!((worker["state"].as_str(), last_exit(&worker)), (Some("down"), "stopped"), "{worker}");
        }
        app.down();
    });
}

#[test]
fn what_names_the_process_outlives_a_daemon() {
    for user in
        [User::Ordinary, User::Root].into_iter().filter(|user| *user != User::Root || watt_tests::is_root())
    {
        for step in ["daemon.exited", "daemon.main_named", "daemon.main_followed"] {
            let app = app(user, PROGRAM, "policy: always");
            let fault = app.dir.join("faults").join(step);
            fs::write(&fault, "").expect("the folder is there");
            let mut up = app.wattctl(&["up", "-d"]);
            let _ = up.env("WATT_FAULTS", app.dir.join("faults")).output().expect("wattctl runs");
            for sandbox in SANDBOXES {
                ready(&app, sandbox, 0);
                signal(&app, sandbox, "USR1");
                assert_eq!(last_exit(&ready(&app, sandbox, 1)), "exit 3", "{user:?} {sandbox} {step}");
            }
            assert!(!fault.exists(), "nobody came by {step}");
            app.down();
        }
    }
}

#[test]
fn one_that_stays_beside_the_process_that_it_named_is_heard_by_a_later_daemon() {
    for_each_user(|user| {
        let stays = PROGRAM.replace("sys.exit(0)", "time.sleep(1000)");
        let app = app(user, &stays, "policy: always");
        let fault = app.dir.join("faults/daemon.main_followed");
        fs::write(&fault, "").expect("the folder is there");
        let mut up = app.wattctl(&["up", "-d"]);
        let _ = up.env("WATT_FAULTS", app.dir.join("faults")).output().expect("wattctl runs");
        for sandbox in SANDBOXES {
            ready(&app, sandbox, 0);
        }
        assert!(!fault.exists(), "{user:?}: nobody came by the step");
        app.down();
    });
}

#[test]
fn what_was_named_is_known_to_another_version() {
    let app = app(User::Ordinary, PROGRAM, "policy: always");
    app.up();
    let pids = SANDBOXES.map(|sandbox| app.pid(sandbox, 0));
    let real = app.dir.join("real");
    fs::copy(wattctl(), &real).expect("a copy of wattctl");
    app.ok(&["upgrade", "--to", &real.display().to_string()]);
    for (sandbox, pid) in SANDBOXES.into_iter().zip(pids) {
        assert_eq!(ready(&app, sandbox, 0)["pid"], pid);
        signal(&app, sandbox, "USR1");
        assert_eq!(last_exit(&ready(&app, sandbox, 1)), "exit 3", "{sandbox}");
    }
    app.down();
}

/// The worker once it is ready after its first restart.
fn started_anew(app: &App, sandbox: &str) -> Value {
    wait("it was started anew", || match app.worker(sandbox, 0) {
        worker if worker["state"] == "ready" && worker["restarts"] == 1 => Ok(worker),
        worker => Err(worker.to_string()),
    })
}

/// Names a process that has ended, the first time it is run, and ends well itself.
const LOST: &str = r#"
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
there = os.path.join(os.environ["STATE_DIRECTORY"], "there")
if os.path.exists(there):
    s.send(b"READY=1")
    time.sleep(1000)
open(there, "w").close()
child = os.fork()
if not child:
    os._exit(1)
os.waitpid(child, 0)
s.send(f"READY=1\nMAINPID={child}".encode())
"#;

#[test]
fn a_service_whose_named_process_has_ended_has_failed() {
    for_each_user(|user| {
        let app = app(user, LOST, "policy: on-failure");
        // It may have ended before that looks.
        let up = app.begin_up();
        for sandbox in SANDBOXES {
            assert_eq!(last_exit(&started_anew(&app, sandbox)), "unknown", "{user:?} {sandbox}");
        }
        app.end_up(up);
    });
}

/// Names processes that are not its own, and then ends.
const LIAR: &str = r#"
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
there = os.path.join(os.environ["STATE_DIRECTORY"], "there")
if os.path.exists(there):
    s.send(b"READY=1")
    time.sleep(1000)
open(there, "w").close()
for name in ["1", str(os.getppid()), "0", "-1", "99999999999999999999", "", "x"]:
    s.send(f"MAINPID={name}".encode())
sys.exit(5)
"#;

#[test]
fn nobody_elses_process_is_taken_for_the_main_one() {
    for_each_user(|user| {
        let app = app(user, LIAR, "policy: always");
        // It may have ended before that looks.
        let up = app.begin_up();
        for sandbox in SANDBOXES {
            assert_eq!(last_exit(&started_anew(&app, sandbox)), "exit 5", "{user:?} {sandbox}");
        }
        app.end_up(up);
    });
}

/// Names itself, and ends well before anybody can look.
const ITSELF: &str = r#"
import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
s.send(f"MAINPID={os.getpid()}\nREADY=1".encode())
os._exit(0)
"#;

#[test]
fn a_service_that_names_itself_and_has_ended_is_not_lost() {
    for_each_user(|user| {
        let app = app(user, ITSELF, "policy: on-failure");
        let up = app.begin_up();
        for sandbox in SANDBOXES {
            let worker = wait("it has ended", || match app.worker(sandbox, 0) {
                worker if worker["last_exit"].is_object() => Ok(worker),
                worker => Err(worker.to_string()),
            });
            assert_eq!(
                (worker["restarts"].as_u64(), last_exit(&worker)),
                (Some(0), "exit 0"),
                "{user:?} {sandbox}"
            );
        }
        app.end_up(up);
    });
}

/// Names itself once more while it stops, as one does that says with each message who it is.
const STOPPING: &str = r#"
import os, signal, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
terms = []
def term(*_):
    terms.append(1)
    print("term", len(terms), flush=True)
signal.signal(signal.SIGTERM, term)
s.send(f"MAINPID={os.getpid()}\nREADY=1".encode())
while not terms:
    time.sleep(0.01)
s.send(f"MAINPID={os.getpid()}\nSTOPPING=1".encode())
reader, writer = os.pipe()
socket.send_fds(s, [b"BARRIER=1"], [writer])
os.close(writer)
os.read(reader, 1)
time.sleep(0.3)
print("bye", flush=True)
"#;

#[test]
fn a_service_that_names_itself_while_it_stops_has_its_signal_once() {
    for_each_user(|user| {
        let app = app(user, STOPPING, "policy: always");
        app.up();
        for sandbox in SANDBOXES {
            app.ok(&["stop", sandbox]);
            let said = app.ok(&["logs", sandbox]);
            assert!(said.contains("term 1") && said.contains("bye"), "{user:?} {sandbox}: {said}");
            assert!(!said.contains("term 2"), "{user:?} {sandbox}: {said}");
        }
        app.down();
    });
}
