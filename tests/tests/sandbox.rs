//! What a service can and cannot do in each profile, tried by a service.

use watt_tests::{App, User, for_each_user, wait};

/// Runs the attempts in a sandbox, and gives their lines.
fn attempts(user: User, sandbox: &str) -> Vec<String> {
    let app = App::case("", user);
    app.write("other/secret", "of another service");
    app.write("own/README", "");
    // Told from the processes of other tests by its argument.
    let other = app
        .dir
        .display()
        .to_string()
        .bytes()
        .fold(1000_u32, |sum, byte| sum * 31 % 1_000_003 + u32::from(byte));
    app.write(
        "watt.yaml",
        &format!(
            "services:
  a:
    path: own
    command: python3 {}/services/sandboxed.py
    listen: none
    restart: on-failure
    depends_on: {{ other: ready }}
    env: {{ OTHERS_ARGUMENT: \"{other}\" }}
    sandbox: {sandbox}
  other: {{ path: other, command: sleep {other}, listen: none, sandbox: {sandbox} }}
",
            app.dir.display()
        ),
    );
    app.up();
    let output = wait("everything was tried", || {
        let output = app.ok(&["logs", "a", "--json"]);
        if output.contains("end of attempts") { Ok(output) } else { Err(output) }
    });
    app.down();
    let lines = output.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter_map(|line| line["text"].as_str().map(str::to_owned)).collect()
}

#[track_caller]
fn check(user: User, sandbox: &str, expected: &[&str]) {
    let lines = attempts(user, sandbox);
    for expected in expected {
        assert!(lines.iter().any(|line| line == expected), "{user:?} in {sandbox}: {expected} in {lines:#?}");
    }
}

#[test]
fn off_leaves_everything_to_file_modes() {
    for_each_user(|user| {
        check(
            user,
            "off",
            &[
                "no new privileges: 0",
                "umask: 022",
                "processes: all",
                "kmsg: seen",
                "write root: done",
                "write state: done",
                "read other: done",
                // An ordinary user's workers are each in a user namespace.
                if user == User::Root { "look into other: done" } else { "look into other: EACCES" },
                if user == User::Root { "open sysctl: done" } else { "open sysctl: EACCES" },
                "new namespace: done",
            ],
        );
    });
}

#[test]
fn standard_keeps_to_what_services_need() {
    for_each_user(|user| {
        check(
            user,
            "standard",
            &[
                // From chown to setpcap, and net_bind_service.
                "bounding: 00000000000005fb",
                "no new privileges: 1",
                "umask: 027",
                "kmsg: none",
                "write /usr: EROFS",
                "write root: done",
                "write state: done",
                "write tmp: done",
                // Root passes by modes into what covers the folder, and finds it empty.
                if user == User::Root { "read other: ENOENT" } else { "read other: EACCES" },
                "look into other: EACCES",
                if user == User::Root { "open sysctl: EROFS" } else { "open sysctl: EACCES" },
                "mount: EPERM",
                "raw socket: EAFNOSUPPORT",
                "new namespace: done",
            ],
        );
    });
}

#[test]
fn strict_leaves_what_the_program_needs_to_run() {
    for_each_user(|user| {
        check(
            user,
            "strict",
            &[
                "bounding: 0000000000000000",
                "no new privileges: 1",
                "umask: 077",
                // An ordinary user cannot become anybody else.
                if user == User::Root { "user: own" } else { "user: watt's" },
                "processes: own",
                "kmsg: none",
                "write /usr: EROFS",
                "write root: EROFS",
                "write state: done",
                "write tmp: done",
                "read other: EACCES",
                "look into other: ESRCH",
                "open sysctl: EACCES",
                "mount: EPERM",
                "raw socket: EAFNOSUPPORT",
                "new namespace: EPERM",
            ],
        );
    });
}

/// A single switch of a profile, by the example of folders that services share on purpose.
#[test]
fn a_switch_turns_one_thing_off() {
    for_each_user(|user| {
        check(user, "{ protect_services: false }", &["read other: done", "write /usr: EROFS"]);
        check(user, "{ read_only_paths: [other] }", &["read other: done"]);
    });
}

/// An ordinary user cannot give services users of their own. That is told, and is a reason not to start where it is
/// asked for.
#[test]
fn what_cannot_be_done_is_told_or_refused() {
    let yaml = |required: bool| {
        format!(
            "services:
  a: {{ command: sleep 1000, listen: none, sandbox: {{ dynamic_user: true, required: {required} }}, restart: never }}
"
        )
    };
    let app = App::yaml(&yaml(false), User::Ordinary);
    app.up();
    let status = app.ok(&["status", "--json"]);
    assert!(status.contains("sandbox: dynamic_user is not available on this host"), "{status}");
    app.down();
    let app = App::yaml(&yaml(true), User::Ordinary);
    assert!(!app.run(&["up", "-d"]).status.success());
    let status = app.status().to_string();
    assert!(status.contains("exec: sandbox dynamic_user: Operation not supported"), "{status}");
    app.down();
}
