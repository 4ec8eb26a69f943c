//! One service is applied, changed and taken out by itself, over what the file says.

use std::{
    io::Write as _,
    process::{Output, Stdio},
};

use serde_json::Value;
use watt_tests::{App, Load, User, for_each_user, kill, printed, wait};

const SHOP: &str = r#"
services:
  web: { command: python3 services/web.py }
  api: { command: python3 services/web.py, env: { GREETING: hello } }
  spare: { command: sleep 1000, listen: none }
server: { port: 0 }
gateway:
  routes:
    - { path: /, service: web }
    - { path: /api, service: api, strip: true }
"#;

/// `api` as it is applied.
const API: &str = "command: python3 services/web.py\nenv: { GREETING: good day }\n";

fn shop(user: User, text: &str) -> App {
    let app = App::case("", user);
    app.write("watt.yaml", text);
    app.write("faults/none", "");
    let up = app.wattctl(&["up", "-d"]).env("WATT_FAULTS", app.dir.join("faults")).output();
    let up = up.expect("wattctl runs");
    assert!(up.status.success(), "{}", printed(&up));
    app
}

/// Runs `wattctl` with this as its input.
fn with_input(app: &App, arguments: &[&str], text: &str) -> Output {
    let mut command = app.wattctl(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("wattctl runs");
    // It may have ended without having read it.
    let _ = child.stdin.take().expect("it is piped").write_all(text.as_bytes());
    child.wait_with_output().expect("it ends")
}

/// Applies a service to the end, and gives what came of it.
fn apply(app: &App, service: &str, text: &str) -> Value {
    let output = with_input(app, &["apply", service, "--wait", "--json"], text);
    assert!(output.status.success(), "{}", printed(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// The differences as `service key effect`.
fn changes(reloaded: &Value) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let changes = reloaded["changes"].as_array().cloned().unwrap_or_default();
    let line = |change: &Value| match change["kind"].as_str() {
        Some("changed") => {
            format!("{} {} {}", word(&change["service"]), word(&change["key"]), word(&change["effect"]))
        }
        kind => format!("{} {}", word(&change["service"]), kind.unwrap_or_default()),
    };
    changes.iter().map(line).collect()
}

fn greeting(app: &App) -> String {
    let (status, body) = app.get("/api/env");
    assert_eq!(status, 200, "{body}");
    let env: Value = serde_json::from_str(&body).expect("JSON");
    env["GREETING"].as_str().unwrap_or_default().to_owned()
}

/// Kills the daemon, and waits for the next one.
fn replace_daemon(app: &App) {
    let status = app.status();
    let (pid, before) =
        (&status["supervisor"]["daemon_pid"], status["supervisor"]["daemon_restarts"].as_u64());
    kill("KILL", pid.as_u64().and_then(|pid| pid.try_into().ok()).expect("a pid"));
    wait("a new daemon answers", || match app.status()["supervisor"]["daemon_restarts"].as_u64() {
        restarts if restarts > before => Ok(()),
        restarts => Err(format!("{restarts:?}")),
    });
}

#[test]
fn a_service_is_applied_and_taken_out_and_everything_else_goes_on() {
    for_each_user(|user| {
        let app = shop(user, SHOP);
        let (web, api) = (app.pid("web", 0), app.pid("api", 0));
        let loads = [Load::start(&app.gateway(), "/"), Load::start(&app.gateway(), "/api/")];
        let planned = with_input(&app, &["apply", "api", "--plan"], API);
        let text = printed(&planned);
        assert!(text.contains("env.GREETING") && text.contains("`wattctl apply` applies it"), "{text}");
        assert_eq!((greeting(&app).as_str(), app.pid("api", 0)), ("hello", api));

        let applied = apply(&app, "api", API);
        assert_eq!(changes(&applied), ["api env.GREETING new_workers"]);
        assert_eq!((&applied["ok"], &applied["services"]["api"]), (&true.into(), &"ready".into()));
        assert_eq!((greeting(&app).as_str(), app.pid("web", 0)), ("good day", web));
        assert_ne!(app.pid("api", 0), api);
        // A path is relative to the folder of the application's file, wherever the document is.
        app.write("elsewhere/new.yaml", "command: python3 web.py\npath: services\n");
        app.ok(&["apply", "new", "-f", "elsewhere/new.yaml", "--wait"]);
        assert_eq!(app.service("new")["state"], "ready");
        let body = app.get("/call/new/").1;
        assert!(body.contains(r#""status": 200"#), "{user:?}: {body}");
        let inspected = app.json(&["inspect", "new"]);
        assert_eq!(inspected["config"]["path"]["from"], "elsewhere/new.yaml:2:7");
        app.ok(&["remove", "spare", "--wait"]);

        for _ in 0..2 {
            let status = app.status();
            assert!(status["taken_out"]["spare"]["by"].as_str().is_some_and(|by| by.starts_with("user ")));
            for (service, applied) in [("web", false), ("api", true), ("new", true)] {
                assert_eq!(app.service(service)["applied"].is_object(), applied, "{service}");
            }
            let text = app.ok(&["status"]);
            for line in ["api was applied by itself", "spare was taken out of the application"] {
                assert!(text.contains(&format!("not from the file: {line}")), "{text}");
            }
            assert_eq!(changes(&apply(&app, "api", API)), [""; 0], "a successor has the same");
            assert_eq!(greeting(&app), "good day");
            replace_daemon(&app);
        }

        // What the file does not have is gone without a trace; what it has, not.
        assert_eq!(app.json(&["remove", "new", "--wait"])["services"]["new"], "gone");
        assert_eq!(app.status()["taken_out"].as_object().map(serde_json::Map::len), Some(1));
        let refused = app.run(&["remove", "new"]);
        assert_eq!(refused.status.code(), Some(1), "{}", printed(&refused));
        assert!(app.run(&["remove", "spare"]).status.success(), "it is out of it already");

        let plan = app.json(&["reload", "--plan"]);
        assert_eq!(plan["taken_back"], serde_json::json!(["api", "spare"]));
        let text = app.ok(&["reload", "--wait"]);
        assert!(text.contains("spare is what the file says"), "{text}");
        assert_eq!((greeting(&app).as_str(), app.pid("web", 0)), ("hello", web));
        assert_eq!(app.service("spare")["state"], "ready");
        assert!(!app.ok(&["status"]).contains("not from the file"));
        for load in loads {
            let tally = load.stop();
            assert!(tally.failures.is_empty() && tally.answered > 0, "{user:?}: {tally:?}");
        }
        let events = app.ok(&["events"]);
        // Those of the last daemon.
        assert!(events.contains(" took new out of the application: 1 change; removed: new"), "{events}");
        assert!(events.contains("renewed: api; taken back: api, spare"), "{events}");
        app.down();
    });
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_changes_nothing() {
    let app = shop(User::Ordinary, SHOP);
    let before = app.status()["loaded_at"].clone();
    let check = |arguments: &[&str], text: &str, code: i32, expected: &str| {
        let output = with_input(&app, arguments, text);
        let printed = printed(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {printed}");
        assert!(printed.contains(expected), "{arguments:?}: no {expected:?} in {printed}");
    };
    app.write("api.yaml", "command: x\ncomand: y\n");
    check(&["apply", "api", "-f", "api.yaml"], "", 3, "--> api.yaml:2:1");
    check(&["apply", "api"], "command: python3\nlimits: { memory: much }\n", 3, "--> api (applied):2:");
    check(
        &["apply", "api"],
        r#"{"command": "python3", "depends_on": ["wbe"]}"#,
        3,
        "there is no service `wbe`",
    );
    check(&["apply", "new"], "command: no-such-program-here", 3, "is in no folder of PATH");
    check(&["apply", "New"], "command: sleep 1", 1, "cannot be a service's name");
    check(&["apply", "api", "-f", "nowhere.yaml"], "", 3, "cannot read nowhere.yaml");
    check(&["apply", "api"], &"#".repeat(300 << 10), 3, "more than 256 KiB");
    check(&["remove", "web"], "", 3, "`web` is taken out of the application, and ");
    check(&["remove", "wbe"], "", 1, "its services are api, spare, web");
    check(&["apply", "api", "--json"], "comand: x", 3, r#""line":1"#);
    let after = app.status();
    assert_eq!(
        (&before, after["taken_out"].as_object().map(|out| out.len())),
        (&after["loaded_at"], Some(0))
    );
    assert_eq!(greeting(&app), "hello");
    assert!(app.ok(&["events"]).contains("the configuration in force stays: "));
    app.down();
}

/// Another service's secret, which a reload would look at, is none of this one's business, also for a daemon that does not know its value.
#[test]
fn a_secret_of_another_service_is_left_alone() {
    let app = App::case("", User::Ordinary);
    app.write("key", "first");
    let text = format!(
        "secrets: {{ key: {{ file: key }} }}\n{}",
        SHOP.replace("web.py }\n  api", "web.py, secrets: [key] }\n  api")
    );
    app.write("watt.yaml", &text);
    app.up();
    let web = app.pid("web", 0);
    replace_daemon(&app);
    app.write("key", "second");
    assert_eq!(changes(&apply(&app, "api", API)), ["api env.GREETING new_workers"]);
    assert_eq!(app.pid("web", 0), web);
    // Its own is looked at as ever.
    let more = "command: python3 services/web.py\nsecrets: [key]\nenv: { A: b }";
    assert_eq!(changes(&apply(&app, "web", more)), ["web env.A new_workers"]);
    app.write("key", "third");
    assert_eq!(changes(&apply(&app, "web", more)), ["web secrets new_workers"]);
    app.down();
}

#[test]
fn what_does_not_get_ready_is_taken_back_where_the_service_says_so() {
    for_each_user(|user| {
        let app = shop(user, SHOP);
        let (api, load) = (app.pid("api", 0), Load::start(&app.gateway(), "/api/"));
        let broken = "command: python3 services/none.py\nroll: { on_failure: roll_back }\n";
        let output = with_input(&app, &["apply", "api", "--wait", "--json"], broken);
        assert_eq!(output.status.code(), Some(1), "{user:?}: {}", printed(&output));
        assert!(printed(&output).contains("rolled back: "), "{}", printed(&output));
        wait("what was before is in force again", || match app.service("api")["applied"].is_null() {
            true => Ok(()),
            false => Err(app.service("api").to_string()),
        });
        assert_eq!((app.pid("api", 0), greeting(&app).as_str()), (api, "hello"));
        // What had been applied before is what comes back.
        apply(&app, "api", API);
        let output = with_input(&app, &["apply", "api", "--wait"], broken);
        assert_eq!(output.status.code(), Some(1), "{user:?}: {}", printed(&output));
        wait("what was applied before is in force again", || match greeting(&app).as_str() {
            "good day" => Ok(()),
            other => Err(other.to_owned()),
        });
        assert!(app.service("api")["applied"].is_object());
        let tally = load.stop();
        assert!(tally.failures.is_empty() && tally.answered > 0, "{user:?}: {tally:?}");
        app.down();
    });
}

/// Wherever the daemon dies, the command comes to its end with the next one, and what was applied holds.
#[test]
fn a_daemon_that_is_killed_while_a_service_is_applied_is_made_up_for() {
    let app = shop(User::Ordinary, SHOP);
    let load = Load::start(&app.gateway(), "/api/");
    for step in ["daemon.reload_prepared", "daemon.reload_kept", "daemon.reload_changed"] {
        let armed = app.dir.join("faults").join(step);
        app.write(&format!("faults/{step}"), "");
        let applied = apply(&app, "api", &format!("{API}# {step}\n").replace("good day", step));
        assert!(!armed.exists(), "nobody died at {step}");
        assert_eq!((applied["ok"].as_bool(), greeting(&app).as_str()), (Some(true), step));
        app.write(&format!("faults/{step}"), "");
        let removed = app.json(&["remove", "spare", "--wait"]);
        assert!(!armed.exists(), "nobody died at {step}");
        assert_eq!(removed["ok"], true, "{removed}");
        wait("spare has gone", || match app.status().to_string().contains("\"id\":\"spare\"") {
            false => Ok(()),
            true => Err(app.status().to_string()),
        });
        apply(&app, "spare", "command: sleep 1000\nlisten: none\n");
    }
    let tally = load.stop();
    assert!(tally.failures.is_empty() && tally.answered > 0, "{tally:?}");
    app.down();
}

/// Those that are asked for at the same time hold all of them, in the order in which they came.
#[test]
fn many_that_are_applied_at_a_time_all_hold() {
    let app = shop(User::Ordinary, SHOP);
    let names: Vec<String> = (0..8).map(|nth| format!("s{nth}")).collect();
    let begun: Vec<_> = names
        .iter()
        .map(|name| {
            let mut command = app.wattctl(&["apply", name, "--wait"]);
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::inherit());
            let mut child = command.spawn().expect("wattctl runs");
            let mut input = child.stdin.take().expect("it is piped");
            input.write_all(b"command: sleep 1000\nlisten: none\n").expect("it is read");
            child
        })
        .collect();
    for mut child in begun {
        assert!(child.wait().expect("it ends").success());
    }
    for name in &names {
        assert_eq!(app.service(name)["state"], "ready", "{name}");
    }
    app.down();
}
