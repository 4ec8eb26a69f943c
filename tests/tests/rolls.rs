//! Rolls and what comes in between: a stop at any time, a daemon that dies, a singleton whose new version is bad.

use std::process::Stdio;

use watt_tests::{App, User, for_each_user, kill, printed, wait};

/// One that gets ready when a file is there.
const SLOW: &str = r#"
services:
  slow:
    command: [sh, -c, "while [ ! -e go ]; do sleep 0.05; done; exec python3 services/web.py VERSION"]
    workers: 2
    ready: { timeout: 5m }
    restart: { backoff: { first: 10m, max: 10m } }
"#;

fn state(app: &App, place: usize, wanted: &str) {
    wait(wanted, || match app.worker("slow", place) {
        worker if worker["state"] == wanted => Ok(()),
        worker => Err(worker.to_string()),
    });
}

fn all_down(app: &App) {
    let service = app.service("slow");
    let workers = service["workers"].as_array().cloned().unwrap_or_default();
    assert_eq!(workers.len(), 2, "{service}");
    assert!(workers.iter().all(|worker| worker["state"] == "down" && worker["part"] == "stays"), "{service}");
    let left: Vec<_> = app.processes().into_iter().filter(|(_, command)| command.contains("go ]")).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn slow(version: u32) -> String {
    SLOW.replace("VERSION", &format!("{}", 3000 + version))
}

#[test]
fn a_stop_in_a_start_in_a_backoff_and_in_a_roll_leaves_nothing() {
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("watt.yaml", &slow(0));
        let mut up = app.wattctl(&["up", "-d"]);
        let mut up = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("wattctl runs");
        wait("it is there", || match app.run(&["status", "--json"]) {
            output if !output.stdout.is_empty() => Ok(()),
            output => Err(printed(&output)),
        });
        state(&app, 1, "starting");
        app.ok(&["stop", "slow"]);
        all_down(&app);
        assert!(!up.wait().expect("it ends").success(), "it did not come up");
        // Ready, and then gone.
        app.write("go", "");
        app.ok(&["start", "slow"]);
        std::fs::remove_file(app.dir.join("go")).expect("it is there");
        kill("KILL", app.pid("slow", 0));
        state(&app, 0, "backoff");
        app.ok(&["stop", "slow"]);
        all_down(&app);
        // In the middle of a roll, whose command hears of it.
        app.write("go", "");
        app.ok(&["start", "slow"]);
        std::fs::remove_file(app.dir.join("go")).expect("it is there");
        let mut restart = app.wattctl(&["restart", "--json"]);
        let restart = restart.stdout(Stdio::piped()).spawn().expect("wattctl runs");
        wait("a new one is beside the old one", || match app.service("slow") {
            service if service["workers"].as_array().is_some_and(|all| all.len() == 3) => Ok(()),
            service => Err(service.to_string()),
        });
        app.ok(&["stop", "slow"]);
        all_down(&app);
        let output = restart.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(1));
        assert!(printed(&output).contains("another request came in between"), "{}", printed(&output));
        app.down();
    });
}

/// Many who ask at a time for the same get one roll.
#[test]
fn restarts_at_a_time_are_one() {
    let app = App::case("", User::Ordinary);
    app.write("watt.yaml", &slow(0));
    app.write("go", "");
    app.up();
    std::fs::remove_file(app.dir.join("go")).expect("it is there");
    let asking: Vec<_> = (0..6)
        .map(|_| app.wattctl(&["restart", "--json"]).stdout(Stdio::null()).spawn().expect("wattctl runs"))
        .collect();
    wait("a new one is beside the old one", || match app.service("slow") {
        service if service["workers"].as_array().is_some_and(|all| all.len() == 3) => Ok(()),
        service => Err(service.to_string()),
    });
    app.write("go", "");
    for mut asking in asking {
        assert!(asking.wait().expect("it ends").success());
    }
    let starts = app.ok(&["events", "--json"]).matches("\"state\":\"starting\"").count();
    // Who comes when the last one has been replaced begins anew; all six at once are far from that.
    assert!(starts <= 6, "{starts} starts of two workers");
    app.down();
}

/// There is nobody to go on with; the version from before has to be started again, whatever dies meanwhile.
#[test]
fn a_bad_version_of_one_that_cannot_run_twice_is_rolled_back() {
    const ONE: &str = r#"
services:
  one:
    command: python3 services/web.py
    env: { VERSION: good }
    restart: { order: stop-first }
    roll: { on_failure: roll_back }
server: { port: 0 }
gateway: { routes: [{ path: /, service: one }] }
"#;
    for_each_user(|user| {
        for kills in [false, true] {
            let app = App::case("", user);
            app.write("watt.yaml", ONE);
            app.up();
            let digest = app.status()["digest"].clone();
            app.write("watt.yaml", &ONE.replace("python3 services/web.py", "sh -c 'sleep 0.3; exit 4'"));
            let mut reload = app.wattctl(&["reload", "--wait", "--json"]);
            let reload = reload.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("wattctl runs");
            if kills {
                wait("the new configuration is in force", || match app.status()["digest"].clone() {
                    now if now != digest => Ok(()),
                    now => Err(now.to_string()),
                });
                let daemon = app.status()["supervisor"]["daemon_pid"].as_u64();
                kill("KILL", daemon.and_then(|pid| pid.try_into().ok()).expect("a pid"));
            }
            let output = reload.wait_with_output().expect("it ends");
            if !kills {
                assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
                let text = printed(&output);
                assert!(text.contains("rolled back: a new one did not get ready: exit 4"), "{text}");
                wait("the old configuration is in force", || match app.status()["digest"].clone() {
                    now if now == digest => Ok(()),
                    now => Err(now.to_string()),
                });
            }
            wait("the good version serves", || match app.service("one") {
                service if service["ready"] == 1 && app.status()["digest"] == digest => Ok(()),
                service => Err(service.to_string()),
            });
            assert!(app.get("/env").1.contains(r#""VERSION": "good""#), "{user:?}");
            app.down();
        }
    });
}
