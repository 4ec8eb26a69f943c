//! The configuration is read again while everything runs: what differs is applied, what does not goes on.

use std::{fs, path::Path};

use serde_json::Value;
use watt_tests::{App, Load, User, for_each_user, is_root, kill, printed, wait};

/// Two services behind the gateway; `EXTRA` and the placeholders are what the tests change.
const SHOP: &str = r#"
services:
  web: { command: python3 services/web.py }
  api: { command: python3 services/web.py, env: { GREETING: hello } }
server: { port: 0 }
gateway:
  routes:
    - { path: /, service: web }
    - { path: /api, service: api, strip: true }
"#;

fn shop(user: User, text: &str) -> App {
    let app = App::case("", user);
    app.write("watt.yaml", text);
    app.up();
    app
}

/// Writes another configuration and has it applied to the end.
fn reload(app: &App, text: &str) -> Value {
    app.write("watt.yaml", text);
    app.json(&["reload", "--wait"])
}

/// The differences as `service key effect`.
fn changes(reloaded: &Value) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let changes = reloaded["changes"].as_array().cloned().unwrap_or_default();
    changes
        .iter()
        .map(|change| match change["kind"].as_str() {
            Some("changed") => {
                format!("{} {} {}", word(&change["service"]), word(&change["key"]), word(&change["effect"]))
            }
            kind => format!("{} {}", word(&change["service"]), kind.unwrap_or_default()),
        })
        .collect()
}

fn greeting(app: &App) -> String {
    let (status, body) = app.get("/api/env");
    assert_eq!(status, 200, "{body}");
    let env: Value = serde_json::from_str(&body).expect("JSON");
    env["GREETING"].as_str().unwrap_or_default().to_owned()
}

fn daemon(app: &App) -> u32 {
    let status = app.status();
    let pid = status["supervisor"]["daemon_pid"].as_u64().and_then(|pid| pid.try_into().ok());
    pid.unwrap_or_else(|| panic!("no daemon in {status}"))
}

#[test]
fn what_changed_is_renewed_and_nothing_else_and_no_request_fails() {
    for_each_user(|user| {
        let app = shop(user, SHOP);
        let (web, api) = (app.pid("web", 0), app.pid("api", 0));
        let loads = [Load::start(&app.gateway(), "/"), Load::start(&app.gateway(), "/api/")];
        let changed = SHOP.replace("hello", "good day");
        let reloaded = reload(&app, &changed);
        assert_eq!(changes(&reloaded), ["api env.GREETING new_workers"]);
        assert_eq!((&reloaded["ok"], &reloaded["services"]["api"]), (&true.into(), &"ready".into()));
        assert_eq!(greeting(&app), "good day");
        assert_eq!(app.pid("web", 0), web);
        assert_ne!(app.pid("api", 0), api);
        assert_eq!(app.worker("api", 0)["index"], 0);
        assert_eq!(app.service("api")["workers"].as_array().map(Vec::len), Some(1), "the old one has gone");
        // Added, removed, and a route to what is new.
        let more = changed
            .replace(
                "server:",
                "  new: { command: python3 services/web.py, depends_on: { web: ready } }\nserver:",
            )
            .replace("service: web }", "service: web }\n    - { path: /new, service: new, strip: true }");
        let reloaded = reload(&app, &more);
        assert_eq!(changes(&reloaded), ["- gateway.routes in_place", "new added"]);
        assert_eq!(app.get("/new/").0, 200);
        let body = app.get("/call/new/").1;
        assert!(body.contains(r#""status": 200"#), "{user:?}: an old worker calls a new service: {body}");
        let reloaded = reload(&app, &changed);
        assert_eq!(changes(&reloaded), ["- gateway.routes in_place", "new removed"]);
        assert_eq!(reloaded["services"]["new"], "gone");
        assert!(!app.status().to_string().contains("\"new\""));
        assert_eq!(app.run(&["inspect", "new"]).status.code(), Some(1));
        for load in loads {
            let tally = load.stop();
            assert!(tally.failures.is_empty(), "{user:?}: {} answered, {:?}", tally.answered, tally.failures);
            assert!(tally.answered > 0);
        }
        assert_eq!(app.pid("web", 0), web);
        let told: Vec<String> = app
            .ok(&["events", "--json"])
            .lines()
            .filter(|event| event.contains("\"kind\":\"reloaded\""))
            .map(str::to_owned)
            .collect();
        assert_eq!(told.len(), 3, "{told:?}");
        app.down();
    });
}

#[test]
fn routes_policies_and_patience_change_without_a_restart() {
    let app = shop(User::Ordinary, SHOP);
    let pids = [app.pid("web", 0), app.pid("api", 0)];
    let load = Load::start(&app.gateway(), "/");
    assert!(app.get("/call/api/").1.contains(r#""status": 200"#), "{}", app.get("/call/api/").1);
    let other = SHOP
        .replace("path: /api,", "path: /other,")
        .replace("server:", "policies: [{ from: api, to: api }]\nserver:")
        .replace("hello }", "hello }, stop: { grace: 3s }, restart: { healthy_after: 5s }");
    let reloaded = reload(&app, &other);
    let expected = [
        "- gateway.routes in_place",
        "- policies in_place",
        "api restart from_now_on",
        "api stop from_now_on",
    ];
    assert_eq!(changes(&reloaded), expected);
    assert_eq!(app.get("/other/").0, 200);
    assert!(app.get("/api/").1.contains(r#""service": "web""#), "the route to api is gone");
    let refused = app.get("/call/api/").1;
    assert!(refused.contains("403"), "{refused}");
    assert_eq!([app.pid("web", 0), app.pid("api", 0)], pids);
    let tally = load.stop();
    assert!(tally.failures.is_empty() && tally.answered > 0, "{tally:?}");
    assert_eq!(changes(&reload(&app, &other)), [""; 0]);
    assert!(app.ok(&["reload"]).contains("nothing differs"));
    app.down();
}

#[test]
fn a_wrong_file_is_refused_as_a_whole_like_config_check_does() {
    for_each_user(|user| {
        let app = shop(user, SHOP);
        let before = app.status();
        let wrong = SHOP.replace("hello", "bye").replace("service: web }", "service: wbe }");
        app.write("watt.yaml", &wrong);
        let (refused, check) = (app.run(&["reload"]), app.run(&["config", "check"]));
        assert_eq!(refused.status.code(), Some(3), "{}", printed(&refused));
        assert_eq!(refused.status.code(), check.status.code());
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(text, String::from_utf8_lossy(&check.stderr));
        assert!(text.contains("watt.yaml:8:27"), "{text}");
        let [refused, check] =
            [&["reload", "--json"][..], &["config", "check", "--json"]].map(|arguments| app.run(arguments));
        assert_eq!(refused.stderr, check.stderr, "{}", printed(&refused));
        assert_eq!(app.run(&["reload", "--plan"]).status.code(), Some(3));
        let after = app.status();
        for fact in ["digest", "loaded_at"] {
            assert_eq!(before[fact], after[fact]);
        }
        assert_eq!(greeting(&app), "hello");
        // A folder that is not there, a name that cannot change, a file that is not there.
        app.write("watt.yaml", &SHOP.replace("env:", "path: nowhere, env:"));
        assert_eq!(app.run(&["reload"]).status.code(), Some(3));
        app.write("watt.yaml", &format!("name: other\n{SHOP}"));
        let refused = app.run(&["reload"]);
        assert_eq!(refused.status.code(), Some(3));
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(text.contains("name cannot be changed while the application runs"), "{text}");
        fs::remove_file(app.dir.join("watt.yaml")).expect("it is there");
        assert_eq!(app.run(&["reload", "--app", "app"]).status.code(), Some(3));
        app.write("watt.yaml", SHOP);
        let told = app.ok(&["events"]);
        assert!(told.contains("the configuration in force stays: "), "{told}");
        assert_eq!(changes(&app.json(&["reload"])), [""; 0]);
        app.down();
    });
}

#[test]
fn a_plan_shows_what_would_change_and_changes_nothing() {
    let app = shop(User::Ordinary, SHOP);
    let before = (app.status()["digest"].clone(), app.pid("api", 0));
    app.write(
        "watt.yaml",
        &SHOP
            .replace("hello", "bye")
            .replace(
                "web: { command: python3 services/web.py }",
                "web: { command: python3 services/web.py, workers: 3 }",
            )
            .replace("server:", "  new: { command: sleep 1000, listen: none }\nserver:"),
    );
    let text = app.ok(&["reload", "--plan"]);
    let lines: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for expected in [
        "~ api env.GREETING new workers",
        "+ new service is started",
        "~ web workers 1 -> 3 more or fewer workers",
        "nothing was changed; `wattctl reload` applies it",
    ] {
        assert!(lines.iter().any(|line| line == expected), "{expected} in {text}");
    }
    assert_eq!(app.json(&["reload", "--plan"])["applied"], false);
    assert_eq!((app.status()["digest"].clone(), app.pid("api", 0)), before);
    let reloaded = app.json(&["reload", "--wait"]);
    assert_eq!(reloaded["ok"], true, "{reloaded}");
    assert_ne!(app.status()["digest"], before.0);
    assert_eq!(app.service("web")["ready"], 3);
    let fewer = reload(&app, SHOP);
    assert_eq!(fewer["ok"], true, "{fewer}");
    assert_eq!(app.service("web")["workers"].as_array().map(Vec::len), Some(1));
    app.down();
}

#[test]
fn a_new_worker_that_does_not_get_ready_leaves_the_old_ones() {
    for_each_user(|user| {
        let app = shop(user, SHOP);
        let pid = app.pid("api", 0);
        let load = Load::start(&app.gateway(), "/api/");
        app.write(
            "watt.yaml",
            &SHOP.replace("hello", "bye").replace("services/web.py, env", "services/none.py, env"),
        );
        let output = app.run(&["reload", "--wait", "--json"]);
        assert_eq!(output.status.code(), Some(1), "{user:?}: {}", printed(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("the old workers stay, because a new one did not get ready: exit 2"), "{text}");
        assert_eq!(app.pid("api", 0), pid);
        assert_eq!(app.worker("api", 0)["part"], "outdated");
        assert_eq!(greeting(&app), "hello");
        assert_eq!(reload(&app, &SHOP.replace("hello", "bye"))["ok"], true);
        assert_eq!(greeting(&app), "bye");
        let tally = load.stop();
        assert!(tally.failures.is_empty() && tally.answered > 0, "{user:?}: {tally:?}");
        app.down();
    });
}

#[test]
fn limits_change_in_place_and_the_file_wins_where_it_says_something_new() {
    if !is_root() {
        return;
    }
    let limited = |memory: &str, pids: &str| {
        SHOP.replace("hello }", &format!("hello }}, limits: {{ memory: {memory}, pids: {pids} }}"))
    };
    let app = shop(User::Root, &format!("sandbox: off\n{}", limited("128M", "50")));
    let pid = app.pid("api", 0);
    let dirs = app.json(&["inspect", "api"])["cgroups"].as_array().cloned().unwrap_or_default();
    let kernel = |names: [&str; 2]| -> u64 {
        let dirs = dirs.iter().filter_map(Value::as_str);
        let texts = dirs.flat_map(|dir| names.map(|name| fs::read_to_string(Path::new(dir).join(name))));
        texts.flatten().find_map(|text| text.trim().parse().ok()).unwrap_or_else(|| panic!("{names:?}"))
    };
    let memory = || kernel(["memory.max", "memory.limit_in_bytes"]);
    let pids = || kernel(["pids.max", "pids.max"]);
    let eventually = |what: &str, read: &dyn Fn() -> u64, expected: u64| {
        wait(what, || if read() == expected { Ok(()) } else { Err(read().to_string()) });
    };
    assert_eq!((memory(), pids()), (128 << 20, 50));
    let text = |memory, pids| format!("sandbox: off\n{}", limited(memory, pids));
    let reloaded = reload(&app, &text("256M", "50"));
    assert_eq!(changes(&reloaded), ["api limits.memory in_place"]);
    let change = &reloaded["changes"][0];
    assert_eq!((&change["before"], &change["after"]), (&"128M".into(), &"256M".into()));
    eventually("the kernel has the new limit", &memory, 256 << 20);
    // An operator's change stays while the file says what it said, and is over when that says something else.
    app.ok(&["limits", "set", "api", "memory=200M", "pids=40"]);
    eventually("the operator's limit", &memory, 200 << 20);
    let reloaded = reload(&app, &text("256M", "60"));
    assert_eq!(changes(&reloaded), ["api limits.pids in_place"]);
    eventually("the file's limit of processes", &pids, 60);
    assert_eq!(memory(), 200 << 20);
    let reloaded = reload(&app, &text("300M", "60"));
    assert_eq!(changes(&reloaded), ["api limits.memory in_place"]);
    eventually("the file's limit of memory", &memory, 300 << 20);
    // A successor has the same.
    let daemon = daemon(&app);
    kill("KILL", daemon);
    wait("a new daemon answers", || match app.status()["supervisor"]["daemon_restarts"].clone() {
        restarts if restarts == 1 => Ok(()),
        restarts => Err(restarts.to_string()),
    });
    assert_eq!((memory(), pids(), app.pid("api", 0)), (300 << 20, 60, pid));
    assert_eq!(changes(&app.json(&["reload", "--plan"])), [""; 0]);
    app.down();
}

/// Two changes of one limit at a time: what was asked for last is what the kernel has.
#[test]
fn the_last_of_many_changes_of_a_limit_is_the_one_that_stays() {
    if !is_root() {
        return;
    }
    let app = shop(User::Root, &format!("sandbox: off\n{SHOP}"));
    for round in 1..=3 {
        let sets: Vec<_> = (1..=8)
            .map(|nth| {
                let limit = format!("pids={}", 100 * round + nth);
                app.wattctl(&["limits", "set", "api", &limit]).stdout(std::process::Stdio::null()).spawn()
            })
            .collect();
        for set in sets {
            assert!(set.expect("wattctl runs").wait().expect("it ends").success());
        }
        let limits = app.json(&["limits"]);
        let groups = limits["groups"].as_array().cloned().unwrap_or_default();
        let group = groups.iter().find(|group| group["service"] == "api" && group["worker"] == 0);
        let said = group.and_then(|group| group["limits"]["pids"].as_str()).unwrap_or_default().to_owned();
        let dirs = app.json(&["inspect", "api"])["cgroups"].as_array().cloned().unwrap_or_default();
        let dirs = dirs.iter().filter_map(Value::as_str);
        let found: Vec<String> =
            dirs.filter_map(|dir| fs::read_to_string(Path::new(dir).join("pids.max")).ok()).collect();
        assert!(found.iter().any(|text| text.trim() == said), "{said}: the kernel has {found:?}");
    }
    app.down();
}

#[test]
fn a_secret_that_changed_brings_new_workers_to_those_who_have_it() {
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("key", "first");
        app.write(
            "watt.yaml",
            &format!(
                "secrets: {{ key: {{ file: key }}, said: {{ command: cat key }} }}\n{}",
                SHOP.replace("hello }", "hello }, secrets: [key, said]")
            ),
        );
        app.up();
        let pids = [app.pid("web", 0), app.pid("api", 0)];
        assert_eq!(changes(&app.json(&["reload", "--wait"])), [""; 0]);
        assert_eq!([app.pid("web", 0), app.pid("api", 0)], pids);
        app.write("key", "second");
        let reloaded = app.json(&["reload", "--wait"]);
        assert_eq!(changes(&reloaded), ["api secrets new_workers"], "{user:?}");
        assert_eq!(app.pid("web", 0), pids[0]);
        assert_ne!(app.pid("api", 0), pids[1]);
        assert!(!reloaded.to_string().contains("second"));
        fs::remove_file(app.dir.join("key")).expect("it is there");
        let refused = app.run(&["reload"]);
        assert_eq!(refused.status.code(), Some(1), "{}", printed(&refused));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("key"), "{}", printed(&refused));
        assert_eq!(app.get("/api/").0, 200);
        app.down();
    });
}

#[test]
fn the_gateway_moves_to_another_port_and_open_connections_stay() {
    let app = shop(User::Ordinary, SHOP);
    let (port, old) = (watt_tests::free_port(), app.gateway());
    let reloaded = reload(&app, &SHOP.replace("port: 0", &format!("port: {port}")));
    assert_eq!(changes(&reloaded), ["- server listener"]);
    wait("the new address answers", || match watt_tests::get(&format!("127.0.0.1:{port}"), "/") {
        Ok((200, _)) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    wait("the old one is closed", || match std::net::TcpStream::connect(&old) {
        Err(_) => Ok(()),
        Ok(_) => Err(old.clone()),
    });
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("it is bound");
    app.write("watt.yaml", &SHOP.replace("port: 0", &format!("port: {}", address.port())));
    let refused = app.run(&["reload"]);
    assert_eq!(refused.status.code(), Some(7), "{}", printed(&refused));
    assert!(app.gateway().ends_with(&format!(":{port}")));
    let daemon = daemon(&app);
    kill("KILL", daemon);
    wait("a new daemon answers", || match app.status()["supervisor"]["daemon_restarts"].clone() {
        restarts if restarts == 1 => Ok(()),
        restarts => Err(restarts.to_string()),
    });
    assert!(app.gateway().ends_with(&format!(":{port}")));
    assert_eq!(app.get("/").0, 200);
    app.down();
}

/// Each service with the number of its workers and its state.
fn workers(app: &App) -> Vec<String> {
    let status = app.status();
    let services = status["services"].as_array().into_iter().flatten();
    let service = |service: &Value| {
        let workers = service["workers"].as_array().map_or(0, Vec::len);
        format!("{}*{workers} {}", service["id"].as_str().unwrap_or_default(), service["state"])
    };
    services.map(service).collect()
}

/// Whenever the daemon dies in a reload, its successor has the old configuration or the new one, and goes on to that.
#[test]
fn a_daemon_that_is_killed_in_a_reload_leaves_the_old_or_the_new() {
    for_each_user(|user| {
        let app = shop(user, &format!("{SHOP}# 0\n"));
        let load = Load::start(&app.gateway(), "/api/");
        for round in 1..=8u32 {
            let old = greeting(&app);
            let new = format!("round {round}");
            let extra = if round % 2 == 1 {
                "  extra: { command: python3 services/web.py }\nserver:"
            } else {
                "server:"
            };
            app.write("watt.yaml", &SHOP.replace("hello", &new).replace("server:", extra));
            let pid = daemon(&app);
            let mut asking = app.wattctl(&["reload", "--wait"]);
            let mut asking = asking
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("wattctl runs");
            // Each round a little later in what it does.
            std::thread::park_timeout(std::time::Duration::from_millis(u64::from(round) * 12));
            kill("KILL", pid);
            // It asks again until a daemon answers, so that it comes about in the end.
            let _ = asking.wait();
            wait("a new daemon answers", || match app.status()["supervisor"]["daemon_restarts"].clone() {
                restarts if restarts == round => Ok(()),
                restarts => Err(restarts.to_string()),
            });
            let digest = app.status()["digest"].clone();
            let has = greeting(&app);
            assert!(has == old || has == new, "{user:?}: {has}");
            let reloaded = app.json(&["reload", "--wait"]);
            assert_eq!(reloaded["ok"], true, "{reloaded}");
            assert_eq!(greeting(&app), new, "{user:?}: after {digest}, {reloaded}");
            let expected = match round % 2 {
                1 => vec!["api*1 \"ready\"", "extra*1 \"ready\"", "web*1 \"ready\""],
                _ => vec!["api*1 \"ready\"", "web*1 \"ready\""],
            };
            // The last of those that were replaced may still be on their way out: the new ones are ready, which is what was asked for.
            wait("there is one worker of each", || {
                let services = workers(&app);
                if services == expected {
                    Ok(())
                } else {
                    Err(format!("{user:?}: round {round}: {services:?}"))
                }
            });
            // In a PID namespace of its own, a worker has an init before it; here it has none.
            wait("and no process but theirs", || {
                let all = app.processes().into_iter();
                let own: Vec<_> = all.filter(|(_, command)| command.contains("services/web.py")).collect();
                if own.len() == expected.len() {
                    Ok(())
                } else {
                    Err(format!("{user:?}: round {round}: {own:?}"))
                }
            });
        }
        let tally = load.stop();
        assert!(tally.failures.is_empty() && tally.answered > 0, "{user:?}: {tally:?}");
        app.down();
    });
}

#[test]
fn a_hangup_reloads_and_reloads_at_a_time_are_answered_together() {
    let app = shop(User::Ordinary, SHOP);
    app.write("watt.yaml", &SHOP.replace("hello", "hup"));
    let spawner = app.status()["supervisor"]["spawner_pid"].as_u64().and_then(|pid| pid.try_into().ok());
    kill("HUP", spawner.expect("a pid"));
    wait("the new greeting is there", || match greeting(&app) {
        text if text == "hup" => Ok(()),
        text => Err(text),
    });
    app.write("watt.yaml", &SHOP.replace("hello", "many"));
    let asking: Vec<_> = (0..12)
        .map(|_| app.wattctl(&["reload", "--wait", "--json"]).stdout(std::process::Stdio::null()).spawn())
        .collect();
    for asking in asking {
        assert!(asking.expect("wattctl runs").wait().expect("it ends").success());
    }
    assert_eq!(greeting(&app), "many");
    let runs = app.ok(&["events", "--json"]).matches("\"state\":\"starting\"").count();
    assert!(runs <= 8, "one reload renews api once, not each that was asked for: {runs} starts");
    app.down();
}

#[test]
fn fifty_reloads_leave_nothing_behind() {
    for_each_user(|user| {
        let app = shop(user, SHOP);
        let texts = [
            SHOP.replace("hello", "even")
                .replace("server:", "  extra: { command: sleep 1000, listen: none }\nserver:"),
            SHOP.replace("hello", "odd"),
        ];
        let counted = |app: &App| {
            let supervisor = app.status()["supervisor"].clone();
            let pids =
                ["spawner_pid", "daemon_pid", "proxy_pid"].map(|key| supervisor[key].as_u64().unwrap_or(0));
            pids.map(|pid| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count))
        };
        let folders = |app: &App| {
            let mut all: Vec<String> = Vec::new();
            let mut open = vec![app.runtime()];
            while let Some(folder) = open.pop() {
                for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                    // Places take turns: 0 and 0b.
                    all.push(entry.path().display().to_string().replace("0b", "0"));
                    open.push(entry.path());
                }
            }
            all.sort();
            all
        };
        let groups = |app: &App| -> usize {
            let inspect = app.json(&["inspect", "api"]);
            let dirs = inspect["cgroups"].as_array().cloned().unwrap_or_default();
            let services = dirs.iter().filter_map(|dir| Path::new(dir.as_str()?).parent()?.parent());
            services.map(|dir| fs::read_dir(dir).into_iter().flatten().flatten().count()).sum()
        };
        reload(&app, &texts[0]);
        reload(&app, &texts[1]);
        let before = (folders(&app), groups(&app));
        let descriptors = counted(&app);
        for round in 0..50 {
            let reloaded = reload(&app, &texts[round % 2]);
            assert_eq!(reloaded["ok"], true, "{user:?}: {reloaded}");
        }
        wait("folders and cgroups are those from before", || match (folders(&app), groups(&app)) {
            now if now == before => Ok(()),
            now => Err(format!("{user:?}: {now:?}, before {before:?}")),
        });
        wait("as many descriptors as before", || {
            let now = counted(&app);
            let more = now.iter().zip(descriptors).any(|(now, before)| *now > before + 2);
            if more { Err(format!("{now:?}, before {descriptors:?}")) } else { Ok(()) }
        });
        app.down();
    });
}
