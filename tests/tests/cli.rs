//! What an operator reads when all is well and when it is not: `status` at any width, the start and the end of an
//! application, and what programs read in place of it.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::Stdio,
};

use insta::{Settings, assert_snapshot};
use serde_json::Value;
use watt_tests::{App, User, printed, wait, wattctl};

/// Workers in every state that lasts: one of two workers is ready, one has failed, one waits for it, one is stopped.
const MIXED: &str = r#"
services:
  api: { command: python3 services/web.py, workers: 2 }
  job: { command: "true", listen: none, restart: never }
  bad:
    command: [sh, -c, "exec >&2; echo reading the table; echo no such table; exit 3"]
    restart: { give_up: { failures: 2, within: 1m } }
  waits: { command: sleep 1000, listen: none, depends_on: [bad] }
  idle: { command: sleep 1000, listen: none }
server: { hostname: 127.0.0.1, port: 0 }
gateway:
  routes:
    - { path: /, service: api }
"#;

fn mixed() -> App {
    let app = App::case("", User::Ordinary);
    app.write("watt.yaml", MIXED);
    app
}

/// Snapshots without what differs from run to run. Columns of numbers keep their place in lines that are alike, so runs of
/// spaces count as two.
fn settings() -> Settings {
    let mut settings = Settings::clone_current();
    settings.add_filter(r"127\.0\.0\.1:\d{4,}", "[ADDRESS]");
    settings.add_filter(r"\b(\d+(\.\d)?(ms|[dhms]))+\b", "[TIME]");
    settings.add_filter(r"\b[\d.]+ (B|KB|MB|GB)\b", "[MEM]");
    // Known after the second look only.
    settings.add_filter(r" +CPU\b| +[\d.]+%", "");
    settings.add_filter(r"watt \d+\.\d+\.\d+", "watt [VERSION]");
    settings.add_filter(r"\b\d{3,}\b", "[PID]");
    settings.add_filter(r"(?m)^(warning|not enforced): .*\n", "");
    settings.add_filter(r" {2,}", "  ");
    settings.add_filter(r"\n+\z", "");
    settings
}

fn status(app: &App, width: &str) -> String {
    let output = app.wattctl(&["status"]).env("COLUMNS", width).output().expect("wattctl runs");
    assert_eq!(output.status.code(), Some(1), "a service has failed: {}", printed(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_start_with_a_failure_ends_and_is_explained() {
    let app = mixed();
    let up = app.run(&["up", "-d"]);
    assert_eq!(up.status.code(), Some(1), "{}", printed(&up));
    let said = String::from_utf8_lossy(&up.stderr).into_owned();
    for part in
        ["bad", "failed", "exit 3", "no such table", "waits for bad", "2 of 5 services did not come up"]
    {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    app.down();
}

#[test]
fn status_at_two_widths() {
    let app = mixed();
    app.run(&["up", "-d"]);
    app.ok(&["stop", "idle"]);
    let (narrow, wide) = (status(&app, "80"), status(&app, "200"));
    for line in
        narrow.lines().filter(|line| !line.starts_with("warning") && !line.starts_with("not enforced"))
    {
        assert!(line.chars().count() <= 80, "wider than 80 columns: {line}");
    }
    for part in ["2 of 5 up", "failed", "exit 3; retry in", "waits for bad", "no such table"] {
        assert!(narrow.contains(part), "{part:?} is not in {narrow}");
    }
    settings().bind(|| {
        assert_snapshot!(wide, @r#"
        app  2 of 5 up for [TIME]  http://[ADDRESS]  watt [VERSION] [MEM]

        SERVICE  STATE  FOR  READY  RESTARTS  MEM  TASKS  NOTE
        api  ready  [TIME]  2/2  0  [MEM]  2
        bad  failed  [TIME]  0/1  1  exit 3; retry in [TIME]
        idle  down  [TIME]  0  stopped, [TIME] ago
        job  completed  [TIME]  0  exit 0, [TIME] ago
        waits  waiting  [TIME]  0/1  0  waits for bad

        last output of bad/0:
          │ reading the table
          │ no such table
          │ reading the table
          │ no such table
        "#);
    });
    app.down();
}

#[test]
fn each_worker_has_a_row_when_they_are_asked_for() {
    let app = mixed();
    app.run(&["up", "-d"]);
    let output = app.wattctl(&["status", "-w"]).env("COLUMNS", "200").output().expect("wattctl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("  api/0  ready") && text.contains("  api/1  ready"), "{text}");
    app.down();
}

#[test]
fn programs_read_json_and_nothing_else() {
    let app = App::yaml("services:\n  one: { command: sleep 1000, listen: none }\n", User::Ordinary);
    let up = app.run(&["up", "-d", "--json"]);
    assert!(up.status.success() && up.stderr.is_empty(), "{}", printed(&up));
    let up: Value = serde_json::from_slice(&up.stdout).expect("JSON");
    assert_eq!(up["services"][0]["state"], "ready");
    assert_eq!(app.json(&["inspect", "one"])["service"]["id"], "one");
    let events = app.ok(&["events", "--json"]);
    assert!(events.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{events}");
    assert_eq!(app.json(&["restart"])["services"]["one"], "ready");
    assert_eq!(app.json(&["down"])["ok"], true);
}

/// `wattctl logs -f | head -1` ends with `head`, not with the next line, which may never come.
#[test]
fn following_ends_with_its_reader() {
    let app = App::yaml(
        "services:\n  one: { command: [sh, -c, echo up; exec sleep 1000], listen: none }\n",
        User::Ordinary,
    );
    app.up();
    // A socket is what Node gives its children.
    for (command, is_socket) in [("logs", false), ("logs", true), ("events", false)] {
        let mut following = app.wattctl(&[command, "-f"]);
        let (ours, theirs): (OwnedFd, OwnedFd) = if is_socket {
            let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
            (ours.into(), theirs.into())
        } else {
            let (ours, theirs) = std::io::pipe().expect("a pipe");
            (ours.into(), theirs.into())
        };
        let mut following = following.stdout(theirs).spawn().expect("wattctl runs");
        let mut first = String::new();
        let mut reader = BufReader::new(File::from(ours));
        reader.read_line(&mut first).expect("there is a line");
        drop(reader);
        let code =
            wait("it has ended", || following.try_wait().expect("it is ours").ok_or("it has not".into()));
        assert_eq!(code.code(), Some(141), "as a shell shows SIGPIPE; {command} said {first}");
    }
    let full = File::options().write(true).open("/dev/full").expect("it is there");
    let output = app.wattctl(&["logs"]).stdout(full).output().expect("wattctl runs");
    assert_eq!(output.status.code(), Some(7));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot write to standard output: No space left"), "{said}");
    app.down();
}

#[test]
fn one_service_is_not_many() {
    let app = App::yaml("services:\n  one: { command: sleep 1000, listen: none }\n", User::Ordinary);
    let up = app.run(&["up", "-d"]);
    let said = String::from_utf8_lossy(&up.stderr).into_owned();
    assert!(said.contains("app is up: 1 service in "), "{said}");
    app.down();
}

/// A service that ignores TERM would last 1,000 seconds; the second Ctrl-C ends it.
#[test]
fn the_second_ctrl_c_kills() {
    let app = App::yaml(
        r#"
services:
  deaf:
    command: [sh, -c, "trap '' TERM; echo deaf; while :; do sleep 1; done"]
    listen: none
    ready: { log: deaf }
    stop: { grace: 1000s }
"#,
        User::Ordinary,
    );
    let mut up = app.wattctl(&["up"]).stdout(Stdio::null()).spawn().expect("wattctl runs");
    let state = |wanted: &str| {
        wait(wanted, || {
            let output = app.run(&["status", "--json"]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            if text.contains(&format!("\"state\": \"{wanted}\"")) { Ok(()) } else { Err(text) }
        });
    };
    state("ready");
    watt_tests::kill("INT", up.id());
    state("stopping");
    watt_tests::kill("INT", up.id());
    assert_eq!(up.wait().expect("it ends").code(), Some(0));
    app.assert_gone();
}

#[test]
fn ctrl_c_while_it_starts_ends_the_waiting() {
    let app =
        App::yaml("services:\n  late: { command: sleep 1000, ready: { log: never } }\n", User::Ordinary);
    let mut up = app.wattctl(&["up", "-d"]).stderr(Stdio::null()).spawn().expect("wattctl runs");
    wait("it is starting", || {
        let output = app.run(&["status", "--json"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.contains("\"state\": \"starting\"") { Ok(()) } else { Err(text) }
    });
    watt_tests::kill("INT", up.id());
    assert_eq!(up.wait().expect("it ends").code(), Some(1), "it did not come up");
    assert_eq!(app.worker("late", 0)["state"], "starting", "it is in the background");
    app.down();
}

/// A real shell, which has sourced the script and is told that Tab was pressed.
#[test]
fn a_shell_completes_services_and_applications_that_run() {
    let app = mixed();
    app.run(&["up", "-d"]);
    let tab = |line: &str| {
        let shell = "source <(wattctl completion bash); COMP_WORDS=($0 \"\"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); \
            _clap_complete_wattctl wattctl \"\"; printf '%s\\n' \"${COMPREPLY[@]}\"";
        let folder = wattctl().parent().expect("it is in a folder").display().to_string();
        let mut command = app.command("bash");
        command.env("PATH", format!("{folder}:/usr/bin:/bin")).args(["-c", shell, line]);
        let output = command.output().expect("bash runs");
        assert!(output.status.success(), "{}", printed(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // Whoever presses Tab is not kept waiting for a second: one that is asked and slow is not there this time.
    wait("the services are offered", || {
        let services: Vec<String> = tab("wattctl logs").lines().map(|line| line.trim().to_owned()).collect();
        match ["api", "bad", "idle", "job", "waits"]
            .iter()
            .all(|service| services.iter().any(|one| one == service))
        {
            true => Ok(()),
            false => Err(format!("{services:?}")),
        }
    });
    let name = app.status()["app"].as_str().expect("a name").to_owned();
    assert_eq!(tab("wattctl status --app").trim(), name);
    assert!(
        !tab("wattctl logs --app another").contains("api"),
        "another application's services are not known"
    );
}
