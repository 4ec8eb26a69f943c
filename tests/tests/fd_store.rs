//! Descriptors that a worker has kept for its successor: `FDSTORE=1` of sd_notify(3).

use watt_tests::{App, User, for_each_user, kill, wait, wattctl};

/// Takes what it inherits; where there is nothing, it makes a pipe, has its ends kept, and writes into it.
const PROGRAM: &str = r#"
import array, os, socket, sys, time
count = int(os.environ.get("LISTEN_FDS", 0))
names = os.environ.get("LISTEN_FDNAMES", "").split(":")
assert not count or os.environ["LISTEN_PID"] == str(os.getpid())
def say(text, *fds):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect(os.environ["NOTIFY_SOCKET"])
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    s.sendmsg([text.encode()], rights)
inherited = {name: 3 + index for index, name in enumerate(names[:count])}
if "state" in inherited:
    # Whatever it is told twice is kept once.
    say("FDSTORE=1\nFDNAME=state", inherited["state"])
    state = os.read(inherited["state"], 100).decode()
    os.write(inherited["into"], state.encode() + b"+")
else:
    state = "new"
    read, write = os.pipe()
    os.write(write, b"kept")
    say("FDSTORE=1\nFDNAME=state", read)
    say("FDSTORE=1\nFDNAME=into\nFDPOLL=0", write)
    gone, other = socket.socketpair()
    say("FDSTORE=1\nFDNAME=gone", gone.fileno())
    other.close()
    removed, other = socket.socketpair()
    say("FDSTORE=1\nFDNAME=removed", removed.fileno())
    say("FDSTOREREMOVE=1\nFDNAME=removed")
    # More than there may be.
    for _ in range(5):
        say("FDSTORE=1\nFDNAME=more\nFDPOLL=0", os.open("/dev/null", os.O_RDONLY))
say(f"STATUS={state} {' '.join(sorted(names[:count]))} of {os.environ['FDSTORE']}\nREADY=1")
time.sleep(1000)
"#;

fn start(user: User, keys: &str) -> App {
    let app = App::empty(user);
    app.write("store.py", PROGRAM);
    let services = "services:\n  db: { command: [python3, store.py], ready: notify, fd_store: 4";
    app.write("watt.yaml", &format!("{services}, restart: {{ backoff: {{ first: 10ms }} }}, {keys} }}\n"));
    app.up();
    app
}

fn says(app: &App, expected: &str) {
    wait(expected, || match app.worker("db", 0) {
        worker if worker["state"] == "ready" && worker["says"] == expected => Ok(()),
        worker => Err(worker.to_string()),
    });
}

fn daemon(app: &App) -> u32 {
    app.status()["supervisor"]["daemon_pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a pid")
}

#[test]
fn a_successor_inherits_what_is_kept_whoever_dies() {
    for_each_user(|user| {
        for sandbox in ["standard", "strict"] {
            let app = start(user, &format!("listen: none, sandbox: {sandbox}"));
            says(&app, "new  of 4");
            // A crash of the worker.
            kill("KILL", app.pid("db", 0));
            says(&app, "kept into more more state of 4");
            // Of the daemon as well, and of both.
            kill("KILL", daemon(&app));
            kill("KILL", app.pid("db", 0));
            says(&app, "kept+ into more more state of 4");
            // It is told, by name.
            let worker = app.worker("db", 0);
            assert_eq!(worker["stored"], serde_json::json!(["state", "into", "more", "more"]), "{worker}");
            let inspected = app.ok(&["inspect", "db"]);
            assert!(inspected.contains("4 descriptors (state, into, more, more)"), "{inspected}");
            // A roll, in which the new one is there before the old one has gone.
            app.ok(&["restart", "db"]);
            says(&app, "kept++ into more more state of 4");
            app.ok(&["restart", "db"]);
            says(&app, "kept+++ into more more state of 4");
            // Who was stopped begins anew.
            app.ok(&["stop", "db"]);
            app.ok(&["start", "db"]);
            says(&app, "new  of 4");
            app.down();
        }
    });
}

/// The spawner that keeps them is another program then.
#[test]
fn what_is_kept_outlives_an_upgrade() {
    for_each_user(|user| {
        let app = start(user, "listen: none");
        says(&app, "new  of 4");
        let next = app.dir.join("next");
        std::fs::copy(wattctl(), &next).expect("a copy of wattctl");
        let next = next.display().to_string();
        app.ok(&["upgrade", "--to", &next]);
        assert_eq!(app.status()["supervisor"]["program"], *next);
        kill("KILL", app.pid("db", 0));
        says(&app, "kept into more more state of 4");
        app.down();
    });
}

#[test]
fn without_a_store_nothing_is_kept() {
    let app = start(User::Ordinary, "listen: none, env: { FDSTORE: \"none\" }");
    let text = std::fs::read_to_string(app.dir.join("watt.yaml")).expect("it is there");
    says(&app, "new  of 4");
    app.write("watt.yaml", &text.replace("fd_store: 4", "fd_store: 0"));
    app.ok(&["reload", "--wait"]);
    says(&app, "new  of none");
    kill("KILL", app.pid("db", 0));
    wait("it was restarted", || match app.worker("db", 0) {
        worker if worker["restarts"] == 1 => Ok(()),
        worker => Err(worker.to_string()),
    });
    says(&app, "new  of none");
    app.down();
}

/// What is kept is for the one that comes, also while that waits to be started.
#[test]
fn a_successor_that_waits_inherits_what_is_kept() {
    let pre_start = "[sh, -c, '[ ! -e hold ] || { echo >> held; while [ -e hold ]; do sleep 0.02; done; }']";
    let app =
        start(User::Ordinary, &format!("hooks: {{ pre_start: {{ command: {pre_start}, timeout: 1h }} }}"));
    says(&app, "new  of 4");
    let old = app.pid("db", 0);
    app.write("hold", "");
    let mut roll =
        app.wattctl(&["restart", "db"]).stderr(std::process::Stdio::null()).spawn().expect("it runs");
    wait(
        "its successor is held up",
        || if app.dir.join("held").exists() { Ok(()) } else { Err(String::new()) },
    );
    kill("KILL", old);
    wait("the old one has gone", || match app.status() {
        status if !status.to_string().contains(&format!("\"pid\":{old}")) => Ok(()),
        status => Err(status.to_string()),
    });
    std::fs::remove_file(app.dir.join("hold")).expect("it is there");
    says(&app, "kept into more more state of 4");
    let _ = roll.wait();
    app.down();
}

/// Has sent sockets whose last holder waits for a peer that reads nothing, by processes that are no more.
const LINGERING: &str = r#"
import array, os, socket, struct, time
def say(text, *fds):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.connect(os.environ["NOTIFY_SOCKET"])
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    s.sendmsg([text.encode()], rights)
listener = socket.create_server(("127.0.0.1", 0))
others = []
more = "FDSTORE=1\nFDNAME=a"
for text in ["READY=0", "x" * 5000, more, more, "FDSTOREREMOVE=1\nFDNAME=a", "READY=0"]:
    child = os.fork()
    if not child:
        near = socket.create_connection(listener.getsockname())
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 30000))
        near.setblocking(False)
        try:
            while True:
                near.send(bytes(65536))
        except BlockingIOError:
            pass
        say(text, near.fileno())
        os._exit(0)
    os.waitpid(child, 0)
    others.append(listener.accept())
say("STATUS=said\nREADY=1")
time.sleep(1000)
"#;

#[test]
fn a_socket_that_waits_for_its_peer_holds_nobody_up() {
    let app = App::empty(User::Ordinary);
    app.write("store.py", LINGERING);
    let service = "db: { command: [python3, store.py], listen: none, ready: notify, fd_store: 1 }";
    app.write("watt.yaml", &format!("services:\n  {service}\n"));
    app.up();
    says(&app, "said");
    let daemon = daemon(&app);
    app.ok(&["restart", "db"]);
    says(&app, "said");
    assert_eq!(self::daemon(&app), daemon, "it was not killed for its silence");
    app.down();
}
