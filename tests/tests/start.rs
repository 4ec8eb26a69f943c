//! `up` itself: two at once, what it waits for, what it ends with, and what a worker sees of it all.

use std::{
    collections::BTreeSet,
    process::{Child, Output, Stdio},
};

use watt_tests::{App, User, for_each_user, kill, printed, wait};

fn spawn(app: &App, arguments: &[&str]) -> Child {
    let mut command = app.wattctl(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("wattctl runs")
}

fn ended(mut child: Child) -> Output {
    wait("the command ends", || child.try_wait().expect("it is ours").ok_or_else(String::new));
    child.wait_with_output().expect("it has ended")
}

#[test]
fn of_starts_at_one_instant_one_wins_and_the_others_name_it() {
    for_each_user(|user| {
        let app = App::yaml("services:\n  one: { command: sleep 1000, listen: none }\n", user);
        for _ in 0..5 {
            let starts: Vec<Child> = (0..3).map(|_| spawn(&app, &["up", "-d"])).collect();
            let ends: Vec<Output> = starts.into_iter().map(ended).collect();
            let (won, lost): (Vec<_>, Vec<_>) = ends.iter().partition(|end| end.status.success());
            assert_eq!(won.len(), 1, "{user:?}: {:?}", ends.iter().map(printed).collect::<Vec<_>>());
            let spawner = format!("(pid {})", app.status()["supervisor"]["spawner_pid"]);
            for lost in lost {
                assert_eq!(lost.status.code(), Some(5), "{user:?}: {}", printed(lost));
                let said = String::from_utf8_lossy(&lost.stderr);
                assert!(said.contains(&spawner), "{user:?}: {said} without {spawner}");
            }
            assert_eq!(app.worker("one", 0)["restarts"], 0);
            let sleepers = app.processes().into_iter().filter(|(_, command)| command.trim() == "sleep 1000");
            assert_eq!(sleepers.count(), 1, "{user:?}");
            app.down();
        }
    });
}

/// Gets ready when a file is there, and fails when another one is.
const PATIENT: &str = r#"
services:
  patient:
    command: [sh, -c, "while :; do [ -e go ] && echo here; [ -e fail ] && exit 3; sleep 0.02; done"]
    listen: none
    ready: { log: here, timeout: 1h }
    restart: { policy: never }
  after: { command: sleep 1000, listen: none, depends_on: [patient] }
"#;

fn starting(app: &App) -> u64 {
    wait("it starts", || {
        let output = app.run(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let services = status["services"].as_array().cloned().unwrap_or_default();
        let worker = services.iter().find(|service| service["id"] == "patient");
        let worker = worker.map(|service| service["workers"][0].clone()).unwrap_or_default();
        if worker["state"] == "starting" {
            worker["run"].as_u64().ok_or_else(String::new)
        } else {
            Err(printed(&output))
        }
    })
}

#[test]
fn up_waits_for_the_verdict_over_the_death_of_its_daemon() {
    for_each_user(|user| {
        let app = App::yaml(PATIENT, user);
        let mut up = spawn(&app, &["up", "-d"]);
        let run = starting(&app);
        for restarts in 1..=2 {
            let daemon =
                app.status()["supervisor"]["daemon_pid"].as_u64().and_then(|pid| pid.try_into().ok());
            kill("KILL", daemon.expect("a pid"));
            wait("a new daemon answers", || match app.status() {
                status if status["supervisor"]["daemon_restarts"] == restarts => Ok(()),
                status => Err(status.to_string()),
            });
        }
        assert_eq!(up.try_wait().expect("it is ours"), None, "{user:?}: nothing is ready");
        app.write("go", "");
        let up = ended(up);
        assert_eq!(up.status.code(), Some(0), "{user:?}: {}", printed(&up));
        assert_eq!(app.worker("patient", 0)["run"], run, "{user:?}: it was started anew");
        assert_eq!(app.service("after")["ready"], 1);
        app.down();
    });
}

#[test]
fn up_ends_with_the_verdict_on_each_service() {
    let app = App::yaml(PATIENT, User::Ordinary);
    let up = spawn(&app, &["up", "-d", "--json"]);
    starting(&app);
    app.write("fail", "");
    let up = ended(up);
    assert_eq!(up.status.code(), Some(1), "{}", printed(&up));
    let status: serde_json::Value = serde_json::from_slice(&up.stdout).expect("JSON");
    let worker = |service: usize| &status["services"][service]["workers"][0];
    assert_eq!(worker(0)["state"], "waiting", "{status}");
    assert_eq!(
        (&worker(1)["last_exit"]["cause"], &worker(1)["last_exit"]["code"]),
        (&"exit".into(), &3.into())
    );
    app.down();
}

/// A failure on the way is not the verdict while there is another try.
#[test]
fn up_waits_for_a_service_that_is_ready_the_second_time() {
    let second = r#"
services:
  second:
    command: [sh, -c, "[ -e tried ] || { touch tried; exit 1; }; echo here; exec sleep 1000"]
    listen: none
    ready: { log: here }
"#;
    let app = App::yaml(second, User::Ordinary);
    app.up();
    assert_eq!(app.worker("second", 0)["restarts"], 1);
    app.down();
}

/// Every path below a folder that can be seen.
const LOOK: &str = r#"
import os, sys, time
base = sys.argv[1]
for folder, folders, files in os.walk(base):
    for name in folders + files:
        print("sees", os.path.relpath(os.path.join(folder, name), base))
print("done", flush=True)
time.sleep(1000)
"#;

/// The user's runtime folder has the sockets of all of the user's applications.
#[test]
fn a_worker_sees_nothing_of_the_runtime_folder_but_its_own() {
    let apps = ["one", "other"].map(|name| {
        let app = App::empty(User::Ordinary);
        app.write("look.py", LOOK);
        app.write(
            "watt.yaml",
            &format!(
                "name: {name}\nservices:\n  look: {{ command: \"python3 look.py '{{XDG_RUNTIME_DIR}}/watt'\", listen: none, ready: {{ log: done }} }}\n  near: {{ command: sleep 1000, listen: none }}\n"
            ),
        );
        app
    });
    // A folder of the application is its user's.
    apps[0].write("xdg/of", "this user");
    let base = apps[0].dir.join("xdg");
    let wattctl = |app: &App, arguments: &[&str]| {
        let mut command = app.wattctl(arguments);
        let output = command.env_remove("WATT_RUNTIME_DIR").env("XDG_RUNTIME_DIR", &base).output();
        let output = output.expect("wattctl runs");
        assert!(output.status.success(), "{}", printed(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for app in apps.iter().rev() {
        wattctl(app, &["up", "-d"]);
    }
    let output = wattctl(&apps[0], &["logs", "look"]);
    for app in ["one", "other"] {
        assert!(base.join("watt").join(app).join("control.sock").exists(), "{app} has its sockets elsewhere");
    }
    for app in &apps {
        wattctl(app, &["down"]);
    }
    let seen: BTreeSet<&str> =
        output.lines().filter_map(|line| line.split_once("sees ")?.1.split('"').next()).collect();
    let own =
        ["one", "one/workers", "one/workers/look", "one/workers/look/0", "one/workers/look/0/mesh.sock"];
    assert_eq!(seen, own.into(), "{output}");
}
