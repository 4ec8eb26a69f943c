//! No request is lost, whatever is done to the application while clients of every kind go on (`watt_tests::traffic`). Each test
//! prints what it counted.

use serde_json::Value;
use watt_tests::{
    App, for_each_user, kill, printed,
    traffic::{APPLICATION, Counts, Kind, SERVICES, Traffic, application},
    wait,
};

/// Runs the traffic while something is done, for each kind of user.
fn during(what: &str, act: impl Fn(&App, &Traffic), judge: impl Fn(&Counts, &str, &App)) {
    for_each_user(|user| {
        let app = application(user, APPLICATION);
        let traffic = Traffic::start(&app);
        act(&app, &traffic);
        let counts = traffic.stop();
        let title = format!("{what}, as {user:?}");
        judge(&counts, &title, &app);
        counts.assert_posts(&title, &app);
        app.down();
    });
}

fn nothing_failed(counts: &Counts, title: &str, _: &App) {
    counts.assert_no_failure(title);
}

fn all_ready(app: &App) {
    are_ready(app, 2);
}

/// Each service has so many workers, all of them ready.
fn are_ready(app: &App, count: usize) {
    for service in SERVICES {
        wait("all workers are ready", || match app.service(service) {
            status
                if status["ready"] == count
                    && status["workers"].as_array().is_some_and(|all| all.len() == count) =>
            {
                Ok(())
            }
            status => Err(status.to_string()),
        });
    }
}

fn supervisor(app: &App, which: &str) -> u32 {
    let status = app.status();
    let pid = status["supervisor"][which].as_u64().and_then(|pid| pid.try_into().ok());
    pid.unwrap_or_else(|| panic!("no {which} in {status}"))
}

#[test]
fn through_a_restart_of_all_services() {
    let restart = |app: &App, traffic: &Traffic| {
        for _ in 0..2 {
            let before: Vec<u32> =
                SERVICES.iter().flat_map(|service| [app.pid(service, 0), app.pid(service, 1)]).collect();
            app.ok(&["restart"]);
            traffic.go_around();
            let after: Vec<u32> =
                SERVICES.iter().flat_map(|service| [app.pid(service, 0), app.pid(service, 1)]).collect();
            assert!(before.iter().all(|pid| !after.contains(pid)), "{before:?} became {after:?}");
        }
    };
    during("a restart of all services, twice", restart, nothing_failed);
}

#[test]
fn through_a_reload_that_changes_commands_limits_and_routes() {
    let reload = |app: &App, traffic: &Traffic| {
        let changed = APPLICATION
            .replace("node traffic/node.js", "node --trace-warnings traffic/node.js")
            .replace("python3 traffic/python.py", "python3 -B traffic/python.py")
            .replace("workers: 2", "workers: 2\n    limits: { nofile: 2000, pids: 300 }")
            .replace(
                "gateway:\n  routes:",
                "gateway:\n  routes:\n    - { path: /other, service: node, strip: true }",
            );
        for text in [changed.as_str(), APPLICATION] {
            app.write("watt.yaml", text);
            let reloaded = app.json(&["reload", "--wait"]);
            assert_eq!(reloaded["ok"], true, "{reloaded}");
            for part in ["command", "limits", "routes"] {
                assert!(reloaded["changes"].to_string().contains(part), "{part}: {reloaded}");
            }
            assert_eq!(app.get("/other/get/1").0, if text == APPLICATION { 404 } else { 200 });
            traffic.go_around();
        }
    };
    during("a reload of commands, limits and routes, and back", reload, nothing_failed);
}

#[test]
fn through_scaling_up_and_down() {
    let scale = |app: &App, traffic: &Traffic| {
        for count in [4, 1, 3, 2] {
            for service in SERVICES {
                app.ok(&["scale", &format!("{service}={count}")]);
            }
            are_ready(app, count);
            traffic.go_around();
        }
    };
    during("scaling to 4, 1, 3 and 2 workers", scale, nothing_failed);
}

#[test]
fn through_bad_deploys() {
    let deploy = |app: &App, traffic: &Traffic| {
        let crashes = APPLICATION.replace("node traffic/node.js", "node -e 'process.exit(7)'");
        let is_never_ready = APPLICATION
            .replace("python3 traffic/python.py", "sleep 1000")
            .replace("stop: { drain: 20s }", "stop: { drain: 20s }\n    ready: { timeout: 2s }");
        for (text, cause) in [(crashes, "exit 7"), (is_never_ready, "start timeout (2s)")] {
            app.write("watt.yaml", &text);
            let output = app.run(&["reload", "--wait"]);
            assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
            assert!(printed(&output).contains(cause), "{}", printed(&output));
            traffic.go_around();
            app.write("watt.yaml", APPLICATION);
            app.ok(&["reload", "--wait"]);
            all_ready(app);
        }
    };
    during("a deploy that crashes and one that never gets ready", deploy, nothing_failed);
}

#[test]
fn through_the_death_of_the_daemon() {
    let kill_daemon = |app: &App, traffic: &Traffic| {
        for round in 1..=2 {
            kill("KILL", supervisor(app, "daemon_pid"));
            wait("a new daemon answers", || match app.status() {
                status if status["supervisor"]["daemon_restarts"] == round => Ok(()),
                status => Err(status.to_string()),
            });
            traffic.go_around();
        }
    };
    during("kill -9 of the daemon, twice", kill_daemon, nothing_failed);
}

/// Spawner, daemon and proxy are other processes' programs afterwards, once they stay so, and once they do not.
#[test]
fn through_an_upgrade_of_watt_and_one_that_goes_back() {
    let upgrade = |app: &App, traffic: &Traffic| {
        app.pass_through();
        std::fs::copy(watt_tests::wattctl(), app.dir.join("real")).expect("a copy of wattctl");
        let cases = [("next", true), ("hangs-as-daemon", false), ("after", true), ("dies-as-proxy", false)];
        for (name, is_well) in cases {
            let to = app.dir.join(name);
            std::fs::copy(env!("CARGO_BIN_EXE_double"), &to).expect("a copy of the double");
            let timeout = if name.starts_with("hangs") { "3" } else { "60" };
            let to = to.display().to_string();
            let output = app.run(&["upgrade", "--json", "--timeout", timeout, "--to", &to]);
            assert_eq!(output.status.success(), is_well, "{name}: {}", printed(&output));
            traffic.go_around();
            let program = app.status()["supervisor"]["program"].to_string();
            assert_eq!(program.contains(name), is_well, "{program}");
        }
    };
    during("two upgrades of watt and two that go back", upgrade, nothing_failed);
}

/// What is on its way in a proxy ends with it, and nothing else: connections that it had not accepted wait for the next one.
#[test]
fn through_the_death_of_the_proxy_but_for_what_was_in_it() {
    let kill_proxy = |app: &App, traffic: &Traffic| {
        kill("KILL", supervisor(app, "proxy_pid"));
        traffic.go_around();
        all_ready(app);
    };
    let judge = |counts: &Counts, title: &str, _: &App| counts.assert_one_failure_per_client(title);
    during("kill -9 of the proxy", kill_proxy, judge);
}

/// A POST that a killed worker had inside is not sent to another one, and is named; so is a stream that broke off.
#[test]
fn through_the_death_of_workers_but_for_what_cannot_be_sent_again() {
    let kill_workers = |app: &App, traffic: &Traffic| {
        for service in SERVICES {
            for index in 0..2 {
                let pid = app.pid(service, index);
                kill("KILL", pid);
                wait("it is replaced", || {
                    let worker = app.worker(service, index);
                    let is_replaced = worker["state"] == "ready" && worker["pid"] != pid;
                    if is_replaced { Ok(()) } else { Err(worker.to_string()) }
                });
                traffic.go_around();
            }
        }
    };
    let judge = |counts: &Counts, title: &str, app: &App| counts.assert_only_named_failures(title, app);
    during("kill -9 of each worker", kill_workers, judge);
}

/// Services behind others come and go; what stays is not touched.
#[test]
fn through_a_stop_and_start_of_a_dependency() {
    for_each_user(|user| {
        let with_db = APPLICATION
            .replace(
                "services:\n",
                "services:\n  db: { command: node traffic/node.js, stop: { drain: 20s } }\n",
            )
            .replace("workers: 2", "workers: 2\n    depends_on: { db: ready }");
        let app = application(user, &with_db);
        let traffic = Traffic::start(&app);
        for _ in 0..2 {
            app.ok(&["stop", "db"]);
            traffic.go_around();
            assert_eq!(app.worker("db", 0)["state"], "down");
            app.ok(&["start", "db"]);
            traffic.go_around();
        }
        app.ok(&["restart", "db"]);
        let counts = traffic.stop();
        let title = format!("a stop and start of a dependency, twice, as {user:?}");
        counts.assert_no_failure(&title);
        counts.assert_posts(&title, &app);
        app.down();
    });
}

/// As many beside the old ones as there are, each proved for a moment.
#[test]
fn through_a_roll_of_all_at_a_time() {
    for_each_user(|user| {
        let numbers = "workers: 2\n    roll: { surge: 100%, min_healthy: 200ms }";
        let app = application(user, &APPLICATION.replace("workers: 2", numbers));
        let traffic = Traffic::start(&app);
        app.ok(&["restart"]);
        let counts = traffic.stop();
        let title = format!("a roll of all at a time, as {user:?}");
        counts.assert_no_failure(&title);
        counts.assert_posts(&title, &app);
        for service in SERVICES {
            let events = events(&app, service);
            let of_state = |state: &str| -> Vec<usize> {
                let all = events.iter().enumerate();
                all.filter(|(_, event)| event["state"] == state).map(|(at, _)| at).collect()
            };
            // Those of the application's own start are the first two.
            let (starts, drains) = (of_state("starting"), of_state("draining"));
            assert_eq!((starts.len(), drains.len()), (4, 2), "{service}: {events:?}");
            assert!(starts[3] < drains[0], "{service}: not both at a time: {events:?}");
            let told: Vec<String> = events
                .iter()
                .filter(|event| event["kind"] == "roll")
                .map(|event| event["data"].to_string())
                .collect();
            assert_eq!(told.last().map(String::as_str), Some(r#"{"of":2,"replaced":2}"#), "{told:?}");
        }
        app.down();
    });
}

/// WebSockets that would stay for ever: each is told by a Close of its own that its service restarts, answers, and its worker sees a Close
/// as well.
#[test]
fn through_a_restart_with_websockets_that_stay() {
    for_each_user(|user| {
        let app = application(user, &APPLICATION.replace("drain: 20s", "drain: 8s"));
        let traffic = Traffic::with_kept_websockets(&app);
        app.ok(&["restart"]);
        let counts = traffic.stop();
        let title = format!("a restart with WebSockets that stay, as {user:?}");
        counts.assert_no_failure(&title);
        counts.assert_posts(&title, &app);
        assert!(counts.kinds[&Kind::Kept].told_to_return >= 2, "{title}: nobody was told");
        for service in SERVICES {
            let log = app.ok(&["logs", service]);
            assert!(log.contains("closed by the other side: 1012"), "{service}: {log}");
        }
        app.down();
    });
}

/// A configuration whose workers do not come up goes, with its routes, and the old workers were never touched.
#[test]
fn through_a_bad_deploy_that_is_rolled_back() {
    for_each_user(|user| {
        let strict = APPLICATION.replace("workers: 2", "workers: 2\n    roll: { on_failure: roll_back }");
        let app = application(user, &strict);
        let before = (app.status()["digest"].clone(), [app.pid("node", 0), app.pid("node", 1)]);
        let traffic = Traffic::start(&app);
        let bad = strict.replace("node traffic/node.js", "node -e 'process.exit(7)'").replace(
            "gateway:\n  routes:",
            "gateway:\n  routes:\n    - { path: /other, service: python, strip: true }",
        );
        app.write("watt.yaml", &bad);
        let output = app.run(&["reload", "--wait"]);
        assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
        let text = printed(&output);
        assert!(text.contains("rolled back: a new one did not get ready: exit 7"), "{text}");
        wait("the old configuration is in force", || match app.status()["digest"].clone() {
            digest if digest == before.0 => Ok(()),
            digest => Err(digest.to_string()),
        });
        all_ready(&app);
        assert_eq!([app.pid("node", 0), app.pid("node", 1)], before.1, "they were right all the time");
        assert_eq!(app.worker("node", 0)["part"], "stays");
        assert_eq!(app.get("/other/get/1").0, 404);
        let counts = traffic.stop();
        let title = format!("a bad deploy that is rolled back, as {user:?}");
        counts.assert_no_failure(&title);
        counts.assert_posts(&title, &app);
        let told = app.ok(&["events"]);
        assert!(told.contains("the configuration from before comes back, because of node: "), "{told}");
        app.down();
    });
}

fn events(app: &App, service: &str) -> Vec<Value> {
    let told = app.ok(&["events", "--json"]);
    let events = told.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    events.filter(|event| event["service"] == service).collect()
}
