//! Who may what at the control socket: root and watt's own user everything, members of groups what their role says, services what
//! their `management` says.

use std::process::Output;

use watt_tests::{App, User, for_each_user, is_root, printed, wait};

/// Groups that nobody has.
const VIEWERS: u32 = 47_301;
const OPERATORS: u32 = 47_302;
const ADMINS: u32 = 47_303;
/// A user that nobody is.
const STRANGER: u32 = 47_300;

/// `wattctl` as another user in these groups, the first of which is its own and the others are supplementary.
fn as_member(app: &App, groups: &[u32], arguments: &[&str]) -> Output {
    let own = groups.first().copied().unwrap_or(STRANGER);
    let more: Vec<String> = groups.iter().skip(1).map(u32::to_string).collect();
    let groups =
        if more.is_empty() { "--clear-groups".to_owned() } else { format!("--groups={}", more.join(",")) };
    let mut command = std::process::Command::new("setpriv");
    command
        .args([format!("--reuid={STRANGER}"), format!("--regid={own}"), groups])
        .arg(watt_tests::wattctl())
        .args(arguments)
        .current_dir("/")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("WATT_CONTROL_SOCKET", app.runtime().join("control.sock"));
    command.output().expect("setpriv runs")
}

#[track_caller]
fn refused(output: &Output, expected: &str) {
    assert_eq!(output.status.code(), Some(DENIED), "{}", printed(output));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(expected), "{expected} in {}", printed(output));
}

#[track_caller]
fn done(output: &Output) {
    assert!(output.status.success(), "{}", printed(output));
}

/// What `wattctl` exits with when something may not be done.
const DENIED: i32 = 6;

#[test]
fn members_of_a_group_do_what_its_role_says_and_no_more() {
    // Only root can be somebody else.
    if !is_root() {
        return;
    }
    for_each_user(|user| {
        let app = App::yaml(
            &format!(
                "control: {{ groups: {{ {VIEWERS}: view, {OPERATORS}: operate, {ADMINS}: admin }} }}
services: {{ api: {{ command: sleep 1000, listen: none }} }}"
            ),
            user,
        );
        app.pass_through();
        app.up();
        for looking in [&["status"][..], &["inspect", "api"], &["logs"], &["events"]] {
            refused(&as_member(&app, &[], looking), "it takes the role view");
            done(&as_member(&app, &[VIEWERS], looking));
        }
        refused(
            &as_member(&app, &[VIEWERS], &["restart", "api"]),
            "it takes the role operate, and user 47300 has view",
        );
        refused(&as_member(&app, &[VIEWERS], &["stop", "api"]), "it takes the role operate");
        let before = app.pid("api", 0);
        done(&as_member(&app, &[OPERATORS], &["restart", "api"]));
        assert_ne!(app.pid("api", 0), before, "{user:?}");
        // By any of its groups, of which the best counts.
        done(&as_member(&app, &[STRANGER, VIEWERS, OPERATORS], &["stop", "api"]));
        done(&as_member(&app, &[STRANGER, OPERATORS], &["start", "api"]));
        refused(
            &as_member(&app, &[OPERATORS], &["down"]),
            "it takes the role admin, and user 47300 has operate",
        );
        let told = wait("a refusal is told", || {
            let events = app.ok(&["events", "--json"]);
            if events.contains("control_refused") { Ok(events) } else { Err(events) }
        });
        assert!(told.contains("user 47300 was refused at the control socket"), "{told}");
        done(&as_member(&app, &[ADMINS], &["down"]));
        app.assert_gone();
    });
}

/// Tries what each role may, as a service.
const TRY: &str = r#"
WATTCTL=$PWD/own-wattctl
try() { "$WATTCTL" "$@" >/dev/null 2>error && echo "$1: done" || echo "$1: $(grep -o 'role [a-z]*' error || head -1 error)"; }
cd "$STATE_DIRECTORY"
[ -n "$WATT_CONTROL_SOCKET" ] && echo "has a socket" || echo "has none"
try status; try stop other; try start other; try down
echo "end of attempts"; exec sleep 1000"#;

fn service_says(user: User, profile: &str, management: &str) -> Vec<String> {
    let app = App::yaml(
        &format!(
            "sandbox: {profile}
services:
  api:
    command: sh try.sh
    listen: none
    depends_on: {{ other: ready }}
    {management}
  other: {{ command: sleep 1000, listen: none }}
"
        ),
        user,
    );
    app.own_wattctl();
    app.write("try.sh", TRY);
    // The service may stop the other one before `up` has seen that ready.
    app.run(&["up", "-d"]);
    let mut lines: Vec<String> = wait("everything was tried", || {
        let output = app.ok(&["logs", "api", "--json"]);
        if !output.contains("end of attempts") {
            return Err(output);
        }
        let lines = output.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        Ok(lines.filter_map(|line| line["text"].as_str().map(str::to_owned)).collect())
    });
    // Who was refused, for whoever reads that it failed.
    lines.extend(app.ok(&["events"]).lines().map(str::to_owned));
    app.down();
    lines
}

#[test]
fn a_service_does_what_its_management_says_and_no_more() {
    for_each_user(|user| {
        for profile in ["off", "standard", "strict"] {
            let check = |management: &str, expected: &[&str]| {
                let lines = service_says(user, profile, management);
                for expected in expected {
                    assert!(
                        lines.iter().any(|line| line == expected),
                        "{user:?} {profile} {management:?}: {expected} in {lines:#?}"
                    );
                }
            };
            check(
                "management: view",
                &["has a socket", "status: done", "stop: role operate", "down: role admin"],
            );
            check("management: operate", &["stop: done", "start: done", "down: role admin"]);
            check("", &["has none"]);
        }
    });
}

/// Takes as many streams as it gets.
const GREEDY: &str = r#"
services:
  greedy:
    command:
      - python3
      - -c
      - |
        import os, socket, time
        kept, told = [], 0
        for _ in range(300):
            stream = socket.socket(socket.AF_UNIX)
            stream.settimeout(20)
            try:
                stream.connect(os.environ["WATT_CONTROL_SOCKET"])
                stream.sendall(b"GET /v1/events?follow=true HTTP/1.1\r\nHost: watt\r\n\r\n")
                answer = stream.recv(100)
                if b" 200 " in answer:
                    kept.append(stream)
                told += b" 503 " in answer
            except OSError:
                pass
        print("has", len(kept), "streams;", "is told why" if told else "is not told why", flush=True)
        time.sleep(1000)
    listen: none
    management: view
  other: { command: sleep 1000, listen: none }
"#;

#[test]
fn a_service_that_may_look_does_not_keep_operators_out() {
    for_each_user(|user| {
        let app = App::yaml(GREEDY, user);
        app.up();
        let said = wait("it has all that it gets", || match app.ok(&["logs", "greedy"]) {
            said if said.contains("streams") => Ok(said),
            said => Err(said),
        });
        assert!(said.contains("has 16 streams; is told why"), "{said}");
        let before = app.pid("other", 0);
        app.ok(&["restart", "other"]);
        assert_ne!(app.pid("other", 0), before, "{user:?}");
        app.down();
    });
}

#[test]
fn a_reload_gives_and_takes_roles() {
    // Only root can be somebody else.
    if !is_root() {
        return;
    }
    for_each_user(|user| {
        let service = "services: { api: { command: sleep 1000, listen: none } }\n";
        let with = |role: &str| format!("control: {{ groups: {{ {VIEWERS}: {role} }} }}\n{service}");
        let app = App::yaml(service, user);
        app.pass_through();
        app.up();
        // Nobody else can even connect.
        assert!(!as_member(&app, &[VIEWERS], &["status"]).status.success());
        app.write("watt.yaml", &with("view"));
        app.ok(&["reload"]);
        done(&as_member(&app, &[VIEWERS], &["status"]));
        refused(&as_member(&app, &[VIEWERS], &["stop", "api"]), "it takes the role operate");
        app.write("watt.yaml", &with("operate"));
        app.ok(&["reload"]);
        done(&as_member(&app, &[VIEWERS], &["stop", "api"]));
        app.write("watt.yaml", service);
        app.ok(&["reload"]);
        let output = as_member(&app, &[VIEWERS], &["status"]);
        assert!(!output.status.success(), "{}", printed(&output));
        // The socket is as closed as before, and that is so for the next daemon, too.
        let mode = || {
            use std::os::unix::fs::PermissionsExt;
            std::fs::metadata(app.runtime().join("control.sock")).expect("it is there").permissions().mode()
                & 0o777
        };
        assert_eq!(mode(), 0o600);
        app.write("watt.yaml", &with("view"));
        app.ok(&["reload"]);
        assert_eq!(mode(), 0o666);
        app.kill_daemon();
        done(&as_member(&app, &[VIEWERS], &["status"]));
        app.down();
    });
}

/// Sends the reading end of a pipe with every request that it may make, and says whether somebody has kept one.
const SENDS_FILES: &str = r#"
services:
  sender:
    command:
      - python3
      - -c
      - |
        import array, os, socket, time
        reader, writer = os.pipe()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [reader] * 40))]
        answers, streams = 0, []
        for path in [b"status", b"events?follow=true", b"nothing", b"logs?follow=true", b"stop"] * 3:
            stream = socket.socket(socket.AF_UNIX)
            stream.settimeout(20)
            stream.connect(os.environ["WATT_CONTROL_SOCKET"])
            stream.sendmsg([b"GET /v1/" + path + b" HTTP/1.1\r\nHost: watt\r\n\r\n"], rights)
            answers += stream.recv(12).startswith(b"HTTP/1.1 ")
            streams.append(stream)
        os.close(reader)
        try:
            os.write(writer, b"x")
            print("they are kept after", answers, flush=True)
        except BrokenPipeError:
            print("they are dropped after", answers, flush=True)
        time.sleep(1000)
    listen: none
    management: view
"#;

#[test]
fn descriptors_that_are_sent_to_the_control_socket_are_dropped() {
    for_each_user(|user| {
        let app = App::yaml(SENDS_FILES, user);
        app.up();
        let said = wait("it has sent all", || match app.ok(&["logs", "sender"]) {
            said if said.contains(" after ") => Ok(said),
            said => Err(said),
        });
        assert!(said.contains("they are dropped after 15"), "{user:?}: {said}");
        app.down();
    });
}
