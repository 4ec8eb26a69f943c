//! Secrets: each service gets its own as files, in every profile, and they are seen nowhere else.

use watt_tests::{App, User, for_each_user, wait};

const PROFILES: [&str; 3] = ["off", "standard", "strict"];

/// Values that can be told from everything else wherever they turn up.
const VALUES: [&str; 3] = ["a-file-9f27c1", "a-variable-5d10e8", "an-output-b3764a"];

/// What the service says of its folder, and then runs for ever.
const SHOW: &str = r#"cd "$CREDENTIALS_DIRECTORY"
for file in *; do echo "$file=$(cat "$file" | md5sum | cut -c 1-8) $(stat -c %a "$file")"; done
stat -f -c "on %T" . ; [ -O . ] && echo "mine"
(echo x >new) 2>/dev/null || echo "cannot be written"
ulimit -Hc | sed 's/^/core /'
echo "end"; exec sleep 1000"#;

fn md5(text: &str) -> String {
    let script = format!("printf %s '{text}' | md5sum | cut -c 1-8");
    let output = std::process::Command::new("sh").args(["-c", &script]).output().expect("md5sum");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn app(user: User, profile: &str) -> App {
    let app = App::empty(user);
    app.write("keys/file", VALUES[0]);
    app.write(".env", &format!("SHOP_KEY={}\n", VALUES[1]));
    app.write("keys/output", &format!("{}\n", VALUES[2]));
    app.write("show.sh", SHOW);
    app.write("watch/none.sh", "echo \"has ${CREDENTIALS_DIRECTORY:-nothing}\"; exec sleep 1000");
    app.write(
        "watt.yaml",
        &format!(
            "sandbox: {profile}
secrets:
  from_file: {{ file: keys/file }}
  from_variable: {{ env: SHOP_KEY }}
  from_command: {{ command: cat keys/output }}
services:
  shop:
    command: sh {dir}/show.sh
    path: .
    listen: none
    secrets: {{ db: from_file, variable: from_variable, output: from_command }}
  other:
    path: watch
    command: sh none.sh
    listen: none
",
            dir = app.dir.display()
        ),
    );
    app
}

/// The lines of a service, when it has said its last.
fn said(app: &App, service: &str, last: &str, times: usize) -> Vec<String> {
    wait("the service has said everything", || {
        let output = app.ok(&["logs", service, "--json"]);
        let lines = output.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let lines: Vec<String> = lines.filter_map(|line| line["text"].as_str().map(str::to_owned)).collect();
        if lines.iter().filter(|line| line.contains(last)).count() >= times { Ok(lines) } else { Err(output) }
    })
}

#[test]
fn a_service_gets_its_secrets_from_every_source_in_every_profile() {
    for_each_user(|user| {
        for profile in PROFILES {
            let app = app(user, profile);
            app.up();
            let lines = said(&app, "shop", "end", 1);
            let file = |name: &str, value| format!("{name}={} 400", md5(value));
            for expected in [
                file("db", VALUES[0]).as_str(),
                &file("variable", VALUES[1]),
                &file("output", VALUES[2]),
                "on ramfs",
                "mine",
                "cannot be written",
                "core 0",
            ] {
                assert!(
                    lines.iter().any(|line| line == expected),
                    "{user:?} {profile}: {expected} in {lines:#?}"
                );
            }
            assert!(said(&app, "other", "has", 1).contains(&"has nothing".to_owned()));
            app.down();
        }
    });
}

/// What a service does not get is in none of the places where everybody may look, nor in those that only its user sees.
#[test]
fn no_value_is_told_anywhere() {
    for_each_user(|user| {
        let app = app(user, "standard");
        app.up();
        said(&app, "shop", "end", 1);
        let environment = std::fs::read(format!("/proc/{}/environ", app.pid("shop", 0))).unwrap_or_default();
        let mut places = vec![
            ("its environment", String::from_utf8_lossy(&environment).into_owned()),
            ("watt.log", app.own_log()),
        ];
        for arguments in [
            &["status", "--json"][..],
            &["status"],
            &["inspect", "shop", "--json"],
            &["inspect", "shop"],
            &["config", "show"],
            &["config", "show", "--json"],
            &["events", "--json"],
            &["logs", "--json"],
        ] {
            places.push(("what wattctl says", format!("{arguments:?}: {}", app.ok(arguments))));
        }
        for (place, text) in &places {
            for value in VALUES {
                assert!(!text.contains(value), "{user:?}: {value} in {place}: {text}");
            }
        }
        assert!(environment.windows(21).any(|part| part == b"CREDENTIALS_DIRECTORY"));
        // On the host there is a folder to mount on, and nothing in it.
        let folder = app.runtime().join("credentials/shop/0");
        assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 0, "{user:?}");
        app.down();
    });
}

#[test]
fn a_restart_brings_the_new_value() {
    for_each_user(|user| {
        let app = app(user, "strict");
        app.up();
        said(&app, "shop", "end", 1);
        app.write("keys/file", "another");
        app.write("keys/output", "one more");
        app.ok(&["restart", "shop"]);
        let lines = said(&app, "shop", "end", 2);
        for expected in [format!("db={} 400", md5("another")), format!("output={} 400", md5("one more"))] {
            assert!(lines.contains(&expected), "{user:?}: {expected} in {lines:#?}");
        }
        app.down();
    });
}

#[test]
fn a_secret_that_cannot_be_had_is_the_reason_not_to_start() {
    for_each_user(|user| {
        let check = |source: &str, expected: &str| {
            let text = format!(
                "secrets: {{ db: {source} }}
services: {{ shop: {{ command: sleep 1000, listen: none, secrets: [db], restart: never }} }}"
            );
            let app = App::yaml(&text, user);
            app.write("quiet.sh", "echo 'the vault is closed' >&2; exit 3");
            let output = app.run(&["up", "-d"]);
            assert!(!output.status.success());
            let status = app.service("shop").to_string();
            assert!(status.contains(expected), "{user:?}: {expected} in {status}");
        };
        check("{ file: missing }", "/missing: No such file or directory");
        check("{ file: . }", "secrets db: file ");
        check("{ credential: db }", "secrets db: credential db: systemd gave watt none");
        check(
            "{ command: no-such-program }",
            "secrets db: command no-such-program: exec no-such-program: No such file",
        );
        check("{ command: sh quiet.sh }", "secrets db: command sh: exit 3: the vault is closed");
        check("{ command: cat /dev/zero }", "secrets db: command cat: it says more than 1048576 bytes");
    });
}

/// systemd's folder of the unit, which a supervisor started by it has in its environment.
#[test]
fn a_credential_of_systemd_is_handed_on() {
    for_each_user(|user| {
        let app = App::yaml(
            "secrets: { db: { credential: shop.db } }
services: { shop: { command: sh show.sh, listen: none, secrets: [db] } }",
            user,
        );
        app.write("show.sh", SHOW);
        app.write("unit/shop.db", "by systemd");
        let output = app
            .wattctl(&["up", "-d"])
            .env("CREDENTIALS_DIRECTORY", app.dir.join("unit"))
            .output()
            .expect("wattctl runs");
        assert!(output.status.success(), "{}", watt_tests::printed(&output));
        let expected = format!("db={} 400", md5("by systemd"));
        assert!(said(&app, "shop", "end", 1).contains(&expected), "{user:?}");
        app.down();
    });
}

/// A sibling has the folder's path, and finds nothing there; nor does it find what the values came from: a file, `.env`, the
/// folder that systemd made for watt's unit.
#[test]
fn a_sibling_finds_none() {
    for_each_user(|user| {
        let app = app(user, "standard");
        let script = format!(
            "ls {0}/credentials/shop/0 || echo no folder
             cat {0}/credentials/shop/0/db || echo no secret
             grep . {1}/keys/file || echo no source
             grep . {1}/.env || echo no variable
             grep . {1}/unit/shop.db || echo no credential
             echo tried; exec sleep 1000",
            app.runtime().display(),
            app.dir.display()
        );
        app.write("watch/try.sh", &script);
        let yaml = std::fs::read_to_string(app.dir.join("watt.yaml")).expect("written above");
        let (before, _) = yaml.split_once("  other:").expect("it has another");
        app.write(
            "watt.yaml",
            &format!(
                "{before}  other: {{ path: watch, command: sh try.sh, listen: none, depends_on: {{ shop: started }} }}\n"
            ),
        );
        app.write("unit/shop.db", "by systemd");
        let unit = app.dir.join("unit");
        let output =
            app.wattctl(&["up", "-d"]).env("CREDENTIALS_DIRECTORY", unit).output().expect("wattctl runs");
        assert!(output.status.success(), "{}", watt_tests::printed(&output));
        let lines = said(&app, "other", "tried", 1);
        for expected in ["no folder", "no secret", "no source", "no variable", "no credential"] {
            assert!(lines.iter().any(|line| line == expected), "{user:?}: {expected} in {lines:#?}");
        }
        app.down();
    });
}

/// A service whose secret is said by a program that waits for a file, when that runs.
fn slow(user: User) -> (App, std::process::Child) {
    let app = App::yaml(
        "secrets: { db: { command: sh slow.sh } }
services: { shop: { command: sh show.sh, listen: none, secrets: [db], stop: { grace: 1s } } }",
        user,
    );
    app.write("show.sh", SHOW);
    app.write("slow.sh", "until [ -e go ]; do sleep 0.05; done; cat go");
    let up = app.wattctl(&["up", "-d"]).stderr(std::process::Stdio::null()).spawn().expect("wattctl runs");
    wait("the program runs", || match app.processes() {
        all if all.iter().any(|(_, command)| command.starts_with("sh slow.sh")) => Ok(()),
        all => Err(format!("{all:?}")),
    });
    (app, up)
}

#[test]
fn a_program_that_says_nothing_ends_with_its_worker() {
    for_each_user(|user| {
        let (app, mut up) = slow(user);
        app.ok(&["down", "--now"]);
        up.wait().expect("wattctl ends");
        app.assert_gone();
    });
}

#[test]
fn a_successor_of_the_daemon_asks_for_the_secret_again() {
    for_each_user(|user| {
        let (app, mut up) = slow(user);
        let daemon = app.status()["supervisor"]["daemon_pid"].as_u64().expect("a pid");
        watt_tests::kill("KILL", u32::try_from(daemon).expect("a pid"));
        app.write("go", "at last");
        up.wait().expect("wattctl ends");
        let expected = format!("db={} 400", md5("at last"));
        assert!(said(&app, "shop", "end", 1).contains(&expected), "{user:?}");
        app.down();
    });
}
