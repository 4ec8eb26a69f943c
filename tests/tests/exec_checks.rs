//! Checks that are commands: run inside the worker's walls, and gone with everything they started.

use std::{fs, path::Path};

use serde_json::Value;
use watt_tests::{App, User, for_each_user, kill, wait};

/// A look whether it is ready may take as long as it is to the next one, which is enough for a shell to start.
const CHECKED: &str = r#"
services:
  db:
    command: [sh, -c, "readlink /proc/self/ns/net > worker-net; exec sleep 1000"]
    listen: none
    network: private
    startup: { exec: [sh, -c, "echo x >> started; test -e go"] }
    ready: { exec: "sh ready.sh", interval: 1s, failures: 3 }
    health: { exec: [sh, -c, "readlink /proc/self/ns/net > check-net; test ! -e sick || { rm sick; echo 'it is sick' >&2; exit 3; }"], interval: 100ms, failures: 1 }
    stop: { grace: 1h }
"#;

fn start(user: User) -> App {
    let app = App::yaml(CHECKED, user);
    app.write("ready.sh", "test ! -e busy\n");
    let mut up = app.wattctl(&["up", "-d"]).spawn().expect("wattctl runs");
    // A check of the start that fails is tried again.
    so_many_more(&app, "started", 3);
    assert_eq!(app.worker("db", 0)["state"], "starting");
    app.write("go", "");
    wait("it is up", || up.try_wait().expect("it is ours").ok_or_else(String::new));
    app
}

fn size(app: &App, name: &str) -> u64 {
    fs::metadata(app.dir.join(name)).map_or(0, |file| file.len())
}

/// Each line in a file is a tick of a clock that runs as fast as the machine does.
fn so_many_more(app: &App, name: &str, lines: u64) {
    let until = size(app, name) + 2 * lines;
    wait(&format!("{lines} more in {name}"), || match size(app, name) {
        now if now >= until => Ok(()),
        now => Err(now.to_string()),
    });
}

fn becomes(app: &App, what: &str, is: impl Fn(&Value) -> bool) {
    wait(what, || match app.worker("db", 0) {
        worker if is(&worker) => Ok(()),
        worker => Err(worker.to_string()),
    });
}

#[test]
fn commands_say_whether_a_worker_has_come_up_is_ready_and_is_healthy() {
    for_each_user(|user| {
        let app = start(user);
        becomes(&app, "it is ready", |worker| worker["state"] == "ready");
        let pid = app.pid("db", 0);
        app.write("busy", "");
        becomes(&app, "it is unready", |worker| worker["state"] == "unready");
        fs::remove_file(app.dir.join("busy")).expect("it was there");
        becomes(&app, "it is ready again", |worker| worker["state"] == "ready");
        assert_eq!(app.pid("db", 0), pid);
        let net = |name| fs::read_to_string(app.dir.join(name)).unwrap_or_default();
        wait("a check has looked", || if net("check-net").is_empty() { Err(String::new()) } else { Ok(()) });
        assert_eq!(net("check-net"), net("worker-net"), "it was not in the worker's network");
        app.write("sick", "");
        becomes(&app, "it was replaced", |worker| worker["state"] == "ready" && worker["pid"] != pid);
        let events = app.ok(&["events"]);
        assert!(events.contains("db/0  health check failed: exec sh: exit 3: it is sick"), "{events}");
        let lines = events.lines().filter(|line| line.contains(" check failed: "));
        assert_eq!(lines.count(), 2, "a check that passes is no news: {events}");
        assert_eq!(app.ok(&["logs", "db"]), "", "a check's output is not the service's");
        app.down();
    });
}

const LEAVING: &str = r#"
services:
  db:
    command: [sleep, "1000"]
    listen: none
    health: { exec: [sh, -c, "sleep 1002 & sleep 1001 >/dev/null 2>&1 & echo x >> ran"], interval: 100ms }
    stop: { grace: 1h }
"#;

/// The processes that a check has left behind, and that have not ended.
fn left(app: &App) -> Vec<String> {
    let named = |path: &Path| {
        let command = fs::read(path.join("cmdline")).unwrap_or_default();
        let folder = fs::read_link(path.join("cwd")).unwrap_or_default();
        (folder == app.dir).then(|| String::from_utf8_lossy(&command).replace('\0', " "))
    };
    let all = fs::read_dir("/proc").expect("/proc").flatten().filter_map(|entry| named(&entry.path()));
    all.filter(|command| command.contains("sleep 100") && !command.contains("sleep 1000")).collect()
}

fn roles(app: &App) -> [u64; 2] {
    let supervisor = app.status()["supervisor"].clone();
    ["daemon_pid", "spawner_pid"].map(|role| supervisor[role].as_u64().expect("a pid"))
}

/// Descriptors, and processes that nobody waits for.
#[test]
fn a_thousand_checks_would_leave_nothing() {
    for_each_user(|user| {
        let app = App::yaml(LEAVING, user);
        app.up();
        let open =
            || roles(&app).map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count());
        so_many_more(&app, "ran", 3);
        let before = open();
        so_many_more(&app, "ran", 20);
        let after = open();
        assert!(after.iter().zip(before).all(|(after, before)| *after < before + 15), "{before:?} {after:?}");
        // Whoever is killed in the middle of one leaves it to a successor.
        for _ in 0..3 {
            kill("KILL", roles(&app)[0].try_into().expect("a pid"));
            so_many_more(&app, "ran", 2);
        }
        // At most what the one that is under way has started.
        let few = || match left(&app) {
            left if left.len() <= 2 => Ok(()),
            left => Err(format!("{left:?}")),
        };
        wait("little is left", few);
        let events = app.ok(&["events"]);
        assert!(!events.contains("check failed") && !events.contains("is ended"), "{events}");
        // Nothing that a check has started holds up a stop, whose grace is an hour.
        app.ok(&["stop", "db"]);
        wait("nothing is left", || {
            if left(&app).is_empty() { Ok(()) } else { Err(format!("{:?}", left(&app))) }
        });
        app.down();
    });
}

const HANGING: &str = r#"
services:
  db:
    command: [sleep, "1000"]
    listen: none
    health: { exec: [sh, -c, "sh -c 'sleep 1001; :' & sleep 1002; :"], interval: 100ms, timeout: 100ms, failures: 2 }
"#;

#[test]
fn a_check_that_hangs_is_killed_with_its_children() {
    for_each_user(|user| {
        let app = App::yaml(HANGING, user);
        // It fails as soon as it is ready: `up` may or may not see that.
        let up = app.begin_up();
        becomes(&app, "it was replaced", |worker| worker["last_exit"]["cause"] == "unhealthy");
        let events = app.ok(&["events"]);
        assert!(events.contains("health check failed: exec sh: no end within 100ms"), "{events}");
        app.ok(&["stop", "db"]);
        wait("nothing is left", || {
            if left(&app).is_empty() { Ok(()) } else { Err(format!("{:?}", left(&app))) }
        });
        app.end_up(up);
    });
}

const NEVER: &str = r#"
services:
  early:
    command: [sleep, "1000"]
    listen: none
    startup: { exec: [sh, -c, "echo no schema; exit 4"], timeout: 4s }
    restart: never
  late:
    command: [sleep, "1000"]
    listen: none
    ready: { exec: [no-such-program], timeout: 4s }
    restart: never
"#;

/// That something took too long says little.
#[test]
fn a_start_that_takes_too_long_says_what_its_check_has_seen() {
    let app = App::yaml(NEVER, User::Ordinary);
    let up = app.run(&["up", "-d"]);
    assert!(!up.status.success());
    let events = app.ok(&["events"]);
    for line in [
        "early/0  startup check failed: exec sh: exit 4: no schema",
        "late/0  ready check failed: exec no-such-program: exec no-such-program: No such file or directory",
    ] {
        assert_eq!(events.matches(line).count(), 1, "{line}: {events}");
    }
    app.down();
}
