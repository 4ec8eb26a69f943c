//! Checks that go on after the start: a worker that is not ready gets no requests, one that is unhealthy is replaced, and no client
//! notices either.

use std::{collections::BTreeSet, fs};

use serde_json::Value;
use watt_tests::{App, Load, User, for_each_user, kill, wait};

/// A look whether one is ready may take as long as it is to the next one: a worker that has to wait for a processor is none that is not ready,
/// and `up` would say so.
const CHECKED: &str = r#"
services:
  api:
    command: python3 -B services/checked.py
    network: private
    workers: 2
    ready: { http: /ready, interval: 1s, failures: 3 }
    health: { http: { path: /healthz, status: 200, body: '"pid"' }, interval: 100ms, timeout: 10s, failures: 2 }
server: { port: 0 }
gateway: { routes: [{ path: /, service: api }] }
"#;

fn start(user: User) -> App {
    let app = App::case("", user);
    app.write("watt.yaml", CHECKED);
    app.up();
    app
}

/// Waits for a worker's state.
fn becomes(app: &App, index: usize, state: &str) {
    wait(&format!("api/{index} is {state}"), || match app.worker("api", index)["state"].clone() {
        found if found == state => Ok(()),
        _ => Err(app.worker("api", index).to_string()),
    });
}

/// The workers that answer some requests.
fn answering(app: &App) -> BTreeSet<String> {
    let answers = (0..20).map(|_| app.get("/").1);
    answers.map(|body| serde_json::from_str::<Value>(&body).expect("JSON")["worker"].to_string()).collect()
}

#[test]
fn a_worker_that_is_not_ready_any_more_gets_no_requests_until_it_is() {
    for_each_user(|user| {
        let app = start(user);
        let pids = [app.pid("api", 0), app.pid("api", 1)];
        let load = Load::start(&app.gateway(), "/");
        app.write("unready-0", "");
        becomes(&app, 0, "unready");
        wait("the other one alone is ready and answers", || match (app.service("api"), answering(&app)) {
            (api, found) if api["ready"] == 1 && found == BTreeSet::from(["\"1\"".to_owned()]) => Ok(()),
            (api, found) => Err(format!("{user:?}: {found:?} {api}")),
        });
        let status = app.ok(&["status"]);
        assert!(status.contains("gets requests only while no worker is ready"), "{status}");
        // A successor of the daemon goes on where it was.
        let daemon = app.status()["supervisor"]["daemon_pid"].as_u64().and_then(|pid| pid.try_into().ok());
        kill("KILL", daemon.expect("a pid"));
        becomes(&app, 0, "unready");
        fs::remove_file(app.dir.join("unready-0")).expect("it was there");
        becomes(&app, 0, "ready");
        wait("both answer", || match answering(&app) {
            found if found.len() == 2 => Ok(()),
            found => Err(format!("{found:?}")),
        });
        let tally = load.stop();
        assert!(tally.failures.is_empty() && tally.answered > 0, "{user:?}: {tally:?}");
        assert_eq!([app.pid("api", 0), app.pid("api", 1)], pids, "nothing was restarted");
        let events = app.ok(&["events"]);
        assert!(!events.contains("health check failed"), "{events}");
        app.down();
    });
}

#[test]
fn an_unhealthy_worker_is_replaced() {
    for_each_user(|user| {
        let app = start(user);
        let pid = app.pid("api", 1);
        let load = Load::start(&app.gateway(), "/");
        app.write("sick-1", "");
        wait("it was replaced", || match app.worker("api", 1) {
            worker if worker["state"] == "ready" && worker["pid"] != pid => Ok(()),
            worker => Err(worker.to_string()),
        });
        let tally = load.stop();
        assert!(tally.failures.is_empty() && tally.answered > 0, "{user:?}: {tally:?}");
        let worker = app.worker("api", 1);
        assert_eq!(worker["last_exit"]["cause"], "unhealthy", "{worker}");
        assert_eq!(worker["last_exit"]["text"], "unhealthy: its check failed 2 times in a row", "{worker}");
        assert_eq!(worker["restarts"], 1, "{worker}");
        let events = app.ok(&["events"]);
        assert!(events.contains("api/1  health check failed: GET /healthz: status 503"), "{events}");
        app.down();
    });
}

/// Connections into a private network take sockets that were made there. Each check uses its own up, and leaves none to anybody.
#[test]
fn checks_leave_no_descriptors_behind() {
    let app = start(User::Ordinary);
    let supervisor = app.status()["supervisor"].clone();
    let pids = ["daemon_pid", "proxy_pid"].map(|role| supervisor[role].as_u64().expect("a pid"));
    let open = || pids.map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count());
    so_many_more_checks(&app, 0, 10);
    let before = open();
    so_many_more_checks(&app, 0, 50);
    let after = open();
    let grown = |nth: usize| after[nth].saturating_sub(before[nth]);
    assert!(grown(0) < 40 && grown(1) < 40, "{before:?} became {after:?}");
    app.down();
}

/// A check that was not there is watched from the reload on, by the workers that run.
#[test]
fn a_reload_changes_checks_in_place() {
    let app = App::case("", User::Ordinary);
    let without = CHECKED.lines().filter(|line| !line.contains("health:")).collect::<Vec<_>>().join("\n");
    app.write("watt.yaml", &without);
    app.up();
    let pid = app.pid("api", 1);
    app.write("watt.yaml", CHECKED);
    let reloaded = app.ok(&["reload"]);
    assert!(reloaded.contains("in place"), "{reloaded}");
    assert_eq!(app.pid("api", 1), pid, "it was restarted");
    app.write("sick-1", "");
    wait("it was replaced", || match app.worker("api", 1) {
        worker if worker["last_exit"]["cause"] == "unhealthy" => Ok(()),
        worker => Err(worker.to_string()),
    });
    app.down();
}

/// How often a worker was asked whether it is healthy. Each time is a tick of a clock that runs as fast as the machine does.
fn checked(app: &App, worker: usize) -> u64 {
    fs::metadata(app.dir.join(format!("checked-{worker}"))).map_or(0, |file| file.len())
}

fn so_many_more_checks(app: &App, worker: usize, checks: u64) {
    let until = checked(app, worker) + checks;
    wait(&format!("{checks} checks"), || match checked(app, worker) {
        now if now >= until => Ok(()),
        now => Err(now.to_string()),
    });
}

/// The processes of `api`.
fn pids(app: &App) -> BTreeSet<u64> {
    let workers = app.service("api")["workers"].as_array().cloned().unwrap_or_default();
    workers.iter().filter_map(|worker| worker["pid"].as_u64()).collect()
}

/// What the new configuration asks for is no matter to those that it replaces.
#[test]
fn workers_that_are_to_be_replaced_are_checked_as_they_were() {
    let app = start(User::Ordinary);
    let old = pids(&app);
    app.write("hold", "");
    let anew = CHECKED
        .replace("status: 200", "status: 201")
        .replace("workers: 2", "workers: 2\n    env: { HEALTHY: \"201\", HOLD: \"1\" }");
    app.write("watt.yaml", &anew);
    let mut reload = app.wattctl(&["reload"]).spawn().expect("wattctl runs");
    wait("the first of the new ones is starting", || match app.status().to_string() {
        status if status.contains("\"starting\"") => Ok(()),
        status => Err(status),
    });
    so_many_more_checks(&app, 0, 10);
    so_many_more_checks(&app, 1, 10);
    // A successor of the daemon knows it as well.
    let daemon = app.status()["supervisor"]["daemon_pid"].as_u64().and_then(|pid| pid.try_into().ok());
    kill("KILL", daemon.expect("a pid"));
    assert!(pids(&app).is_superset(&old), "{}", app.service("api"));
    let events = app.ok(&["events"]);
    assert!(!events.contains("health check failed"), "{events}");
    fs::remove_file(app.dir.join("hold")).expect("it was there");
    wait("the reload has ended", || reload.try_wait().expect("it is ours").ok_or_else(String::new));
    wait("both are new", || match app.service("api") {
        service if service["ready"] == 2 && pids(&app).is_disjoint(&old) => Ok(()),
        service => Err(service.to_string()),
    });
    so_many_more_checks(&app, 0, 5);
    let events = app.ok(&["events"]);
    assert!(!events.contains("health check failed"), "{events}");
    app.down();
}

/// Nothing is there any more that could find it ready.
#[test]
fn a_worker_that_was_not_ready_serves_again_when_its_check_is_taken_away() {
    let app = start(User::Ordinary);
    let pid = app.pid("api", 0);
    app.write("unready-0", "");
    becomes(&app, 0, "unready");
    let without = CHECKED.lines().filter(|line| !line.contains("ready:")).collect::<Vec<_>>().join("\n");
    app.write("watt.yaml", &without);
    app.ok(&["reload"]);
    becomes(&app, 0, "ready");
    assert_eq!(app.pid("api", 0), pid, "it was restarted");
    wait("both answer", || match answering(&app) {
        found if found.len() == 2 => Ok(()),
        found => Err(format!("{found:?}")),
    });
    app.down();
}

/// It may be what it waits for.
#[test]
fn a_worker_that_is_not_ready_gets_secrets_that_have_changed() {
    let app = App::case("", User::Ordinary);
    app.write("key", "first");
    app.write(
        "watt.yaml",
        &format!("secrets: {{ key: {{ file: key }} }}\n{}", CHECKED.replace("workers: 2", "secrets: [key]")),
    );
    app.up();
    let old = pids(&app);
    app.write("unready-0", &app.pid("api", 0).to_string());
    becomes(&app, 0, "unready");
    app.write("key", "second");
    assert_eq!(app.json(&["reload"])["changes"][0]["key"], "secrets");
    wait("it is new", || match app.service("api") {
        service if service["ready"] == 1 && pids(&app).is_disjoint(&old) => Ok(()),
        service => Err(service.to_string()),
    });
    app.down();
}

/// Who was asked to stop answers no checks any more, and need not.
#[test]
fn a_stop_is_no_check_that_fails() {
    let app = App::case("", User::Ordinary);
    let other = "  other:\n    command: python3 -B services/checked.py\n    health: { http: /healthz, interval: 100ms, timeout: 10s }\n";
    let text =
        CHECKED.replace("workers: 2", "workers: 1\n    env: { LINGER: \"1\" }\n    stop: { grace: 1h }");
    // Both count their checks in the same file: when the one does not any more, it is the other's clock.
    app.write("watt.yaml", &text.replace("server:", &format!("{other}server:")));
    app.up();
    let mut stop = app.wattctl(&["stop", "api"]).spawn().expect("wattctl runs");
    wait("it has closed its door", || {
        if app.dir.join("closed").exists() { Ok(()) } else { Err(app.worker("api", 0).to_string()) }
    });
    so_many_more_checks(&app, 0, 10);
    app.write("leave", "");
    assert!(wait("it is stopped", || stop.try_wait().expect("it is ours").ok_or_else(String::new)).success());
    let events = app.ok(&["events"]);
    assert!(!events.contains("check failed"), "{events}");
    app.down();
}

const NOTIFYING: &str = r#"
services:
  beats:
    command:
      - python3
      - -c
      - |
        import os, socket, time
        say = lambda text: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(text, os.environ["NOTIFY_SOCKET"])
        say(b"STATUS=as told: " + os.environ["WATCHDOG_USEC"].encode() + b"\nREADY=1")
        while not os.path.exists("silent"):
            say(b"WATCHDOG=1")
            time.sleep(0.05)
        os.remove("silent")
        time.sleep(1000)
    listen: none
    ready: notify
    health: { watchdog: 3s }
    stop: { grace: 100ms }
"#;

#[test]
fn a_worker_whose_watchdog_falls_silent_is_replaced() {
    for_each_user(|user| {
        let app = App::yaml(NOTIFYING, user);
        app.up();
        assert_eq!(app.worker("beats", 0)["says"], "as told: 3000000", "{user:?}");
        assert!(app.ok(&["status"]).contains("as told: 3000000"));
        app.write("silent", "");
        wait("it was replaced", || match app.worker("beats", 0) {
            worker if worker["state"] == "ready" && worker["restarts"] != 0 => Ok(()),
            worker => Err(worker.to_string()),
        });
        assert_eq!(app.worker("beats", 0)["last_exit"]["text"], "unhealthy: watchdog");
        let events = app.ok(&["events"]);
        assert!(events.contains("beats/0  health check failed: no WATCHDOG=1 for 3s"), "{events}");
        app.down();
    });
}

/// At HUP, as programs do that systemd runs with `Type=notify-reload`.
const RELOADING: &str = r#"
services:
  api:
    command:
      - python3
      - -c
      - |
        import os, signal, socket, time
        def say(text):
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
        def reload(*_):
            usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            say("RELOADING=1\nSTATUS=reads\nMONOTONIC_USEC=" + str(usec))
            while not os.path.exists("read"):
                time.sleep(0.02)
            os.remove("read")
            say("READY=1\nSTATUS=has read")
        signal.signal(signal.SIGHUP, reload)
        say("READY=1")
        while True:
            time.sleep(1000)
    listen: none
    ready: notify
"#;

#[test]
fn a_worker_that_reads_its_configuration_again_is_shown_to() {
    for_each_user(|user| {
        let app = App::yaml(RELOADING, user);
        app.up();
        let is_reloading = |expected: bool| {
            wait("it is shown", || match app.worker("api", 0) {
                worker if worker["reloading"] == expected && worker["state"] == "ready" => Ok(worker),
                worker => Err(worker.to_string()),
            })
        };
        let run = is_reloading(false)["run"].clone();
        kill("HUP", app.pid("api", 0));
        is_reloading(true);
        let status = app.ok(&["status"]);
        assert!(status.contains("reloading: reads"), "{status}");
        // A later daemon knows it too, and this one's own reload has nothing to do with it.
        app.kill_daemon();
        is_reloading(true);
        app.ok(&["reload", "--wait"]);
        is_reloading(true);
        app.write("read", "");
        let worker = is_reloading(false);
        assert_eq!((&worker["says"], &worker["run"]), (&"has read".into(), &run), "{worker}");
        app.down();
    });
}
