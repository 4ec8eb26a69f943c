//! Hooks: what each is run for, and what comes of those that fail, hang or say too much.

use serde_json::Value;
use watt_tests::{App, User, for_each_user, kill, wait};

/// Appends the hook, and why, to a file that the test reads.
const NOTE: &str = r#"[sh, -c, 'echo "$WATT_HOOK $WATT_HOOK_WORKER $WATT_CAUSE $WATT_EXIT" >> hooks']"#;

fn notes(app: &App) -> Vec<String> {
    let text = std::fs::read_to_string(app.dir.join("hooks")).unwrap_or_default();
    text.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Waits until the notes are these.
fn noted(app: &App, expected: &[&str]) {
    wait(&format!("{expected:?} are noted"), || match notes(app) {
        found if found == expected => Ok(()),
        found => Err(format!("{found:?} {}", app.status())),
    });
}

fn worker(app: &App, expected: impl Fn(&Value) -> bool) -> Value {
    wait("the worker is as expected", || match app.worker("api", 0) {
        worker if expected(&worker) => Ok(worker),
        worker => Err(worker.to_string()),
    })
}

#[test]
fn each_hook_is_run_at_its_point_with_the_cause() {
    for_each_user(|user| {
        let hooks = ["pre_start", "post_start", "pre_stop", "post_stop", "on_failure"];
        let hooks: Vec<String> = hooks.iter().map(|hook| format!("{hook}: {NOTE}")).collect();
        let app = App::yaml(
            &format!(
                "services:\n  api:\n    command: sleep 1000\n    listen: none\n    restart: {{ backoff: {{ first: 10ms }} }}\n    hooks: {{ {} }}\n",
                hooks.join(", ")
            ),
            user,
        );
        app.up();
        noted(&app, &["pre_start 0", "post_start 0"]);
        kill("SEGV", app.pid("api", 0));
        // Those that hold nobody up have no order among the others.
        wait("the failure is noted", || {
            let mut found = notes(&app);
            found.sort();
            let expected = [
                "on_failure 0 signal 11",
                "post_start 0",
                "post_start 0",
                "post_stop 0 signal 11",
                "pre_start 0",
                "pre_start 0",
            ];
            if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
        });
        std::fs::remove_file(app.dir.join("hooks")).expect("it is there");
        app.ok(&["stop", "api"]);
        noted(&app, &["pre_stop 0", "post_stop 0 stopped"]);
        app.ok(&["start", "api"]);
        wait("it has started", || match notes(&app).len() {
            4 => Ok(()),
            _ => Err(format!("{:?}", notes(&app))),
        });
        app.down();
        assert_eq!(&notes(&app)[4..], ["pre_stop 0", "post_stop 0 stopped"], "{user:?}: at the end as well");
    });
}

/// An out-of-memory kill is one where the host has limits of memory.
#[test]
fn a_failure_is_told_with_its_cause() {
    for_each_user(|user| {
        let check = |keys: &str, expected: &str, text: &str| {
            let app = App::yaml(
                &format!(
                    "services:\n  api: {{ {keys}, listen: none, restart: never, stop: {{ grace: 1s }}, hooks: {{ on_failure: [sh, -c, 'echo \"$WATT_CAUSE $WATT_EXIT\" >> hooks; echo \"$WATT_HOOK_EVENT\" > event'] }} }}\n"
                ),
                user,
            );
            let up = app.begin_up();
            let worker = worker(&app, |worker| worker["state"] == "completed");
            if !app.service("api")["unenforced"].to_string().contains("memory") {
                noted(&app, &[expected]);
                let event: Value = wait("the event is there", || {
                    let text = std::fs::read_to_string(app.dir.join("event")).unwrap_or_default();
                    serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
                });
                assert_eq!((&event["service"], &event["text"]), (&"api".into(), &text.into()), "{worker}");
            }
            app.end_up(up);
        };
        check("command: sh -c 'exit 3'", "exit 3", "exit 3");
        check(
            "command: sleep 1000, ready: { log: never, timeout: 200ms }",
            "start_timeout",
            "start timeout (200ms)",
        );
        let eater = r#"command: [python3, -c, "x = 'x' * (200 << 20)"], limits: { memory: 50M }"#;
        check(eater, "oom", "oom (limit 50M)");
    });
}

#[test]
fn a_pre_start_that_fails_or_hangs_is_why_the_start_failed() {
    for_each_user(|user| {
        let check = |hook: &str, expected: &str| {
            let app = App::yaml(
                &format!(
                    "services:\n  api:\n    command: touch started\n    listen: none\n    hooks: {{ pre_start: {hook} }}\n    restart: never\n"
                ),
                user,
            );
            let up = app.begin_up();
            let worker = worker(&app, |worker| worker["state"] == "completed");
            assert_eq!(worker["last_exit"]["text"], expected, "{user:?} {hook}");
            assert!(!app.dir.join("started").exists());
            app.end_up(up);
        };
        check("sh -c 'exit 3'", "pre_start: exit 3");
        check("{ command: sleep 1000, timeout: 200ms }", "pre_start: timeout");
        let deaf = "[sh, -c, 'trap : TERM; while :; do sleep 1; done']";
        check(&format!("{{ command: {deaf}, timeout: 200ms }}"), "pre_start: timeout");
        check("./nothing", "pre_start: exec: exec ./nothing: No such file or directory");
    });
}

#[test]
fn one_that_waits_for_its_pre_start_can_be_stopped() {
    let app = App::yaml(
        "services:\n  api: { command: touch started, listen: none, hooks: { pre_start: { command: sleep 1000, timeout: 1h } } }\n",
        User::Ordinary,
    );
    let up = app.begin_up();
    worker(&app, |worker| worker["state"] == "starting");
    app.ok(&["stop", "api"]);
    assert_eq!(app.worker("api", 0)["state"], "down");
    assert!(!app.dir.join("started").exists());
    app.end_up(up);
}

#[test]
fn a_hook_that_says_too_much_holds_nobody_up() {
    let app = App::yaml(
        "services:\n  api: { command: sleep 1000, listen: none, hooks: { post_start: { command: yes, timeout: 1s }, pre_start: [sh, -c, 'head -c 3000000 /dev/zero'] } }\n",
        User::Ordinary,
    );
    app.up();
    wait("it was killed", || {
        let events = app.ok(&["events", "--json"]);
        let ended = events.lines().filter(|line| line.contains("task_ended")).count();
        if ended == 2 { Ok(()) } else { Err(events) }
    });
    assert_eq!(app.worker("api", 0)["state"], "ready");
    app.down();
}

/// One that fails all the time does not fill the host with hooks that hang.
#[test]
fn hooks_that_nobody_waits_for_are_so_many_at_most() {
    let app = App::yaml(
        "services:\n  api: { command: sleep 1000, listen: none, restart: { backoff: { first: 1ms, max: 1ms }, give_up: { failures: 1000 } }, hooks: { on_failure: { command: sleep 1000, timeout: 1h } } }\n",
        User::Ordinary,
    );
    app.up();
    let mut run = Value::Null;
    for _ in 0..20 {
        run = worker(&app, |worker| worker["state"] == "ready" && worker["run"] != run)["run"].clone();
        kill("KILL", app.pid("api", 0));
    }
    worker(&app, |worker| worker["state"] == "ready" && worker["run"] != run);
    let events = app.ok(&["events", "--json"]);
    assert_eq!(events.lines().filter(|line| line.contains("task_started")).count(), 16, "{events}");
    wait("that some were left out is in the log", || match app.own_log() {
        log if log.contains("the hook on_failure of api/0 is left out") => Ok(()),
        log => Err(log),
    });
    app.ok(&["down", "--now"]);
}

/// The new daemon waits where the old one did.
#[test]
fn a_hook_outlives_the_daemon() {
    for_each_user(|user| {
        let patient = |name: &str| {
            format!("[sh, -c, 'echo {name} >> hooks; while ! [ -e {name} ]; do sleep 0.02; done']")
        };
        let app = App::yaml(
            &format!(
                "services:\n  api:\n    command: sleep 1000\n    listen: none\n    stop: {{ grace: 1h }}\n    hooks:\n      pre_start: {{ command: {}, timeout: 1h }}\n      pre_stop: {{ command: {}, timeout: 1h }}\n      post_stop: {{ command: {}, timeout: 1h }}\n",
                patient("before"),
                patient("during"),
                patient("after")
            ),
            user,
        );
        let up = app.begin_up();
        noted(&app, &["before"]);
        app.kill_daemon();
        assert_eq!(app.worker("api", 0)["state"], "starting", "{user:?}");
        app.write("before", "");
        worker(&app, |worker| worker["state"] == "ready");
        noted(&app, &["before"]);
        let mut stop =
            app.wattctl(&["stop", "api"]).stderr(std::process::Stdio::null()).spawn().expect("it runs");
        noted(&app, &["before", "during"]);
        let pid = app.pid("api", 0);
        app.kill_daemon();
        assert_eq!(app.pid("api", 0), pid, "{user:?}: it was not signalled yet");
        app.write("during", "");
        noted(&app, &["before", "during", "after"]);
        app.kill_daemon();
        assert_eq!(app.worker("api", 0)["state"], "stopping");
        app.write("after", "");
        worker(&app, |worker| worker["state"] == "down");
        noted(&app, &["before", "during", "after"]);
        let _ = stop.wait();
        app.end_up(up);
    });
}

/// Nothing else would run it again: what comes after a failure does not wait for it.
#[test]
fn a_failure_is_told_although_the_daemon_dies_before_it_could() {
    for step in ["hooks_due", "task_noted"] {
        let app = App::yaml(
            &format!(
                "services:\n  api: {{ command: sleep 1000, listen: none, restart: {{ backoff: {{ first: 1h, max: 1h }} }}, hooks: {{ on_failure: {NOTE} }} }}\n"
            ),
            User::Ordinary,
        );
        app.write("faults/none", "");
        let up = app.wattctl(&["up", "-d"]).env("WATT_FAULTS", app.dir.join("faults")).output();
        assert!(up.expect("wattctl runs").status.success());
        let fault = format!("faults/daemon.{step}");
        app.write(&fault, "");
        kill("SEGV", app.pid("api", 0));
        noted(&app, &["on_failure 0 signal 11"]);
        assert!(!app.dir.join(&fault).exists(), "{step}: nobody died there");
        worker(&app, |worker| worker["state"] == "backoff");
        app.down();
    }
}

/// Nothing else would run it either: that a worker gets ready happens once.
#[test]
fn what_follows_readiness_is_run_although_the_daemon_dies_before_it_could() {
    for step in ["hooks_due", "task_noted"] {
        let app = App::yaml(
            &format!(
                "services:\n  api: {{ command: sleep 1000, listen: none, hooks: {{ post_start: {NOTE} }} }}\n"
            ),
            User::Ordinary,
        );
        let fault = format!("faults/daemon.{step}");
        app.write(&fault, "");
        // The command may lose the daemon that it asked.
        let up = app.wattctl(&["up", "-d"]).env("WATT_FAULTS", app.dir.join("faults")).output();
        up.expect("wattctl runs");
        noted(&app, &["post_start 0"]);
        assert!(!app.dir.join(&fault).exists(), "{step}: nobody died there");
        worker(&app, |worker| worker["state"] == "ready");
        // Who comes later finds that it was begun.
        app.kill_daemon();
        app.ok(&["restart", "api"]);
        noted(&app, &["post_start 0", "post_start 0"]);
        app.down();
    }
}
