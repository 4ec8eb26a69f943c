//! Rolls and what comes in between: a stop at any time, a daemon that dies, a singleton whose new version is bad.

use std::process::Stdio;

use watt_tests::{App, Load, User, for_each_user, kill, printed, wait};

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
    // All of them have asked before any of them can be answered.
    wait("six are waiting for an answer", || {
        let socket = app.runtime().join("control.sock").display().to_string();
        let sockets = std::fs::read_to_string("/proc/net/unix").expect("/proc is mounted");
        // The ends of the daemon, which are connected (unix(7)): they have its name.
        let is_end = |line: &&str| line.ends_with(&socket) && line.split_whitespace().nth(5) == Some("03");
        match sockets.lines().filter(is_end).count() {
            6.. => Ok(()),
            some => Err(some.to_string()),
        }
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
            if !kills {
                app.write("fail", "");
            }
            let bad = "sh -c 'until [ -e fail ]; do sleep 0.05; done; exit 4'";
            app.write("watt.yaml", &ONE.replace("python3 services/web.py", bad));
            let mut reload = app.wattctl(&["reload", "--wait", "--json"]);
            let reload = reload.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("wattctl runs");
            if kills {
                wait("the new configuration is in force", || match app.status()["digest"].clone() {
                    now if now != digest => Ok(()),
                    now => Err(now.to_string()),
                });
                let daemon = app.status()["supervisor"]["daemon_pid"].as_u64();
                kill("KILL", daemon.and_then(|pid| pid.try_into().ok()).expect("a pid"));
                app.write("fail", "");
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

/// The operator has mended it and reloads while the bad version is still on its way: what is mended comes after what is taken back.
#[test]
fn a_reload_that_is_under_way_when_the_one_before_fails_is_not_taken_back() {
    const ONE: &str = r#"
secrets: { key: { command: sh said.sh } }
services:
  one:
    command: python3 services/web.py
    env: { VERSION: good }
    roll: { on_failure: roll_back }
  other: { command: sleep 1000, listen: none, secrets: [key] }
server: { port: 0 }
gateway: { routes: [{ path: /, service: one }] }
"#;
    let runs = |app: &App, what: &str| {
        wait(what, || match app.processes() {
            all if all.iter().any(|(_, command)| command.contains(what)) => Ok(()),
            all => Err(format!("{all:?}")),
        });
    };
    let app = App::case("", User::Ordinary);
    app.write("watt.yaml", ONE);
    app.write("said.sh", "until [ -e say ]; do sleep 0.05; done; echo x");
    app.write("say", "");
    app.up();
    let bad = "sh -c 'until [ -e fail ]; do sleep 0.05; done; exit 4'";
    app.write("watt.yaml", &ONE.replace("python3 services/web.py", bad));
    app.ok(&["reload"]);
    runs(&app, "-e fail");
    // The mended one waits for the secret.
    std::fs::remove_file(app.dir.join("say")).expect("it is there");
    app.write("watt.yaml", &ONE.replace("good", "mended"));
    let mut reload = app.wattctl(&["reload", "--wait", "--json"]);
    let reload = reload.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("wattctl runs");
    runs(&app, "sh said.sh");
    app.write("fail", "");
    wait("it is seen that the bad one fails", || match app.ok(&["events", "--json"]) {
        events if events.contains("rolled_back") => Ok(()),
        events => Err(events),
    });
    app.write("say", "");
    let output = reload.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", printed(&output));
    assert!(app.get("/env").1.contains(r#""VERSION": "mended""#));
    // This one comes after all that was asked for.
    let again = app.json(&["reload"]);
    assert_eq!(again["changes"].as_array().map(Vec::len), Some(0), "{again}");
    app.down();
}

/// What the operator had said is the operator's, and comes back with the configuration that it was said of.
#[test]
fn what_was_set_by_hand_comes_back_as_well() {
    const WEB: &str = r#"
services:
  web:
    command: python3 services/web.py
    workers: 1
    limits: { pids: 100 }
    roll: { on_failure: roll_back }
server: { port: 0 }
gateway: { routes: [{ path: /, service: web }] }
"#;
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("watt.yaml", WEB);
        app.up();
        app.ok(&["scale", "web=2"]);
        // Where nothing can be limited it is noted all the same, and the command says that it is not enforced.
        app.run(&["limits", "set", "web", "pids=77"]);
        let bad = WEB.replace("python3 services/web.py", "sh -c 'exit 4'");
        app.write("watt.yaml", &bad.replace("workers: 1", "workers: 3").replace("pids: 100", "pids: 50"));
        let output = app.run(&["reload", "--wait", "--json"]);
        assert!(!output.status.success(), "{}", printed(&output));
        wait("the two are there again", || match app.service("web") {
            web if web["ready"] == 2 && web["wanted"] == 2 && web["scaling"]["by"] == "operator" => Ok(()),
            web => Err(web.to_string()),
        });
        let limits = app.ok(&["limits", "--json"]);
        assert!(
            limits.contains(r#""pids":"77""#) || limits.contains(r#""pids": "77""#),
            "{user:?}: {limits}"
        );
        app.down();
    });
}

/// It answers one request at a time, for a while each, and closes the connection after it.
const ONE_AT_A_TIME: &str = r#"
import http.server, os, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.02)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
http.server.HTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"#;

#[test]
fn programs_that_answer_one_request_at_a_time_are_replaced_without_a_lost_one() {
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("one.py", ONE_AT_A_TIME);
        let text = |version: u32| {
            format!(
                "services:\n  web: {{ command: python3 one.py, listen: port, ready: tcp, workers: 2, env: {{ VERSION: \"{version}\" }} }}\n\
                 server: {{ port: 0 }}\ngateway: {{ routes: [{{ path: /, service: web }}] }}\n"
            )
        };
        app.write("watt.yaml", &text(1));
        app.up();
        let before = [app.pid("web", 0), app.pid("web", 1)];
        let load = Load::start(&app.gateway(), "/");
        app.ok(&["restart", "web"]);
        let between = [app.pid("web", 0), app.pid("web", 1)];
        app.write("watt.yaml", &text(2));
        app.ok(&["reload", "--wait"]);
        let after = [app.pid("web", 0), app.pid("web", 1)];
        assert!(
            before.iter().all(|pid| !between.contains(pid)) && between.iter().all(|pid| !after.contains(pid))
        );
        let tally = load.stop();
        assert!(
            tally.failures.is_empty() && tally.answered > 0,
            "{user:?}: {} answered, {:?}",
            tally.answered,
            tally.failures
        );
        app.down();
    });
}
