//! Output of services.

use serde_json::Value;
use watt_tests::{App, User, for_each_user, wait};

fn lines(app: &App, arguments: &[&str]) -> Vec<Value> {
    let arguments: Vec<&str> = ["logs"].iter().chain(arguments).copied().collect();
    app.ok(&arguments).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn lines_are_attributed_and_json_stays_json() {
    for_each_user(|user| {
        let app = App::yaml(
            r#"
services:
  talker:
    command: [sh, -c, 'echo plain; echo "{\"level\":30,\"msg\":\"hi\"}"; echo oops >&2; printf "no end"; exec sleep 1000']
    listen: none
    workers: 2
"#,
            user,
        );
        app.up();
        let all = wait("every line of both workers is there", || match lines(&app, &["talker"]) {
            all if all.len() >= 8 => Ok(all),
            all => Err(format!("{all:?}")),
        });
        for worker in 0..2 {
            let own: Vec<&Value> = all.iter().filter(|line| line["worker"] == worker).collect();
            let of = |stream: &str| {
                own.iter().filter(|line| line["stream"] == stream).copied().collect::<Vec<_>>()
            };
            assert_eq!(of("stdout")[0]["text"], "plain");
            assert_eq!(of("stdout")[1]["json"]["msg"], "hi");
            assert_eq!(of("stdout")[2]["text"], "no end");
            assert_eq!(of("stderr")[0]["text"], "oops");
        }
        assert_eq!(lines(&app, &["talker", "--tail", "1"]).len(), 1);
        assert_eq!(lines(&app, &["talker", "--since", "1h"]).len(), 8);
        let unknown = app.run(&["logs", "walker"]);
        assert!(
            String::from_utf8_lossy(&unknown.stderr).contains("talker"),
            "{}",
            watt_tests::printed(&unknown)
        );
        app.down();
    });
}

#[test]
fn the_past_is_given_as_it_is_asked_for() {
    let app = App::yaml(
        r#"
services:
  one: { command: [sh, -c, 'for n in 1 2 3; do echo one $n; done; exec sleep 1000'], listen: none, ready: { log: one 3 } }
  two:
    command: [sh, -c, 'for n in 1 2 3; do echo two $n; done; exec sleep 1000']
    listen: none
    ready: { log: two 3 }
    depends_on: [one]
"#,
        User::Ordinary,
    );
    app.up();
    let check = |arguments: &[&str], expected: &[&str]| {
        let texts: Vec<Value> = lines(&app, arguments).iter().map(|line| line["text"].clone()).collect();
        assert_eq!(texts, expected, "{arguments:?}");
    };
    let all = ["one 1", "one 2", "one 3", "two 1", "two 2", "two 3"];
    check(&[], &all);
    check(&["two", "one", "two"], &all);
    check(&["two"], &all[3..]);
    check(&["--tail", "4"], &all[2..]);
    check(&["-n", "1", "one"], &["one 3"]);
    check(&["-n", "0"], &[]);
    check(&["-n", "100000"], &all);
    check(&["--since", "1h"], &all);
    check(&["--since", "2100-01-01T00:00:00Z"], &[]);
    let third = lines(&app, &[])[2]["at"].as_str().expect("a time").to_owned();
    assert!(lines(&app, &["--since", &third]).iter().any(|line| line["text"] == "one 3"));
    for wrong in ["yesterday", "", "-5"] {
        let since = format!("--since={wrong}");
        assert_eq!(app.run(&["logs", &since]).status.code(), Some(2), "{wrong}");
    }
    // A reader that has had enough is no error to tell of.
    let head = app
        .command("sh")
        .args(["-c", r#""$0" logs | head -n 1"#])
        .arg(watt_tests::wattctl())
        .output()
        .expect("sh runs");
    let printed = watt_tests::printed(&head);
    assert!(head.stderr.is_empty() && head.stdout.ends_with(b"}\n"), "{printed}");
    app.down();
}

#[test]
fn a_flood_is_bounded_on_disk_and_in_memory_and_hurts_nobody() {
    let app = App::case("", User::Ordinary);
    app.write(
        "watt.yaml",
        r#"
logs: { file_size: 1M, files: 3 }
services:
  flood: { command: [sh, -c, "yes 'a line of a flood that does not end'"], listen: none }
  web: { command: python3 services/web.py }
server: { port: 0 }
gateway: { routes: [{ path: /, service: web }] }
"#,
    );
    app.up();
    let dir =
        app.json(&["inspect", "flood"])["log_dir"].as_str().map(std::path::PathBuf::from).expect("a folder");
    wait("it was rotated", || {
        let files = std::fs::read_dir(&dir).into_iter().flatten().flatten();
        let count =
            files.filter(|entry| entry.file_name().to_string_lossy().starts_with("flood.jsonl")).count();
        if count >= 3 { Ok(()) } else { Err(format!("{count} files")) }
    });
    for _ in 0..50 {
        assert_eq!(app.get("/").0, 200);
    }
    let size: u64 = std::fs::read_dir(&dir)
        .expect("the folder")
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("flood.jsonl"))
        .map(|entry| entry.metadata().map_or(0, |metadata| metadata.len()))
        .sum();
    assert!(size < 4 << 20, "{size} bytes on disk");
    let own = app.status()["supervisor"]["memory"].as_u64().expect("a number");
    assert!(own < 64 << 20, "{own} bytes of memory");
    app.down();
}

const OBSERVED: &str = r#"
logs: { access: { requests: all, headers: [x-who] } }
services:
  api: { command: python3 services/web.py }
server: { port: 0 }
gateway:
  routes:
    - { path: /api, service: api, strip: true }
"#;

/// The lines of the access log that a request with this path left, when there are as many as that.
fn written(app: &App, path: &str, count: usize) -> Vec<Value> {
    let dir =
        app.json(&["inspect", "api"])["log_dir"].as_str().map(std::path::PathBuf::from).expect("a folder");
    wait(&format!("{count} requests for {path} are in the access log"), || {
        let text = std::fs::read_to_string(dir.join("access.log")).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")));
        let found: Vec<Value> = lines.filter(|line: &Value| line["path"] == path).collect();
        if found.len() == count { Ok(found) } else { Err(text) }
    })
}

#[test]
fn requests_are_written_to_the_access_log_also_while_the_daemon_is_away() {
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("watt.yaml", OBSERVED);
        app.up();
        let head =
            "GET /api/one?token=x HTTP/1.1\r\nHost: shop.example\r\nX-Who: me\r\nConnection: close\r\n\r\n";
        watt_tests::exchange(&app.gateway(), head).expect("an answer");
        let line = &written(&app, "/api/one", 1)[0];
        let of = |key: &str| line[key].as_str().unwrap_or_default();
        assert_eq!(
            [of("method"), of("host"), of("client"), of("service")],
            ["GET", "shop.example", "127.0.0.1", "api"]
        );
        assert_eq!(
            (&line["status"], &line["headers"]["x-who"], &line["query"]),
            (&200.into(), &"me".into(), &Value::Null)
        );
        assert_eq!(line["run"], app.worker("api", 0)["run"], "{line}");
        assert!(
            line["bytes"].as_u64() > Some(50) && line["ms"].is_f64() && of("trace").len() == 32,
            "{line}"
        );

        assert_eq!(app.get("/nowhere").0, 404);
        assert_eq!(written(&app, "/nowhere", 1)[0]["reason"], "no_route");

        let gateway = app.gateway();
        app.kill_daemon();
        assert_eq!(watt_tests::get(&gateway, "/api/two").expect("an answer").0, 200);
        wait("there is a daemon again", || {
            let output = app.run(&["status", "--json"]);
            if output.status.success() { Ok(()) } else { Err(watt_tests::printed(&output)) }
        });
        written(&app, "/api/two", 1);

        app.write("watt.yaml", &OBSERVED.replace("requests: all", "requests: none"));
        app.ok(&["reload"]);
        assert_eq!(app.get("/api/three").0, 200);
        app.write("watt.yaml", OBSERVED);
        app.ok(&["reload"]);
        assert_eq!(app.get("/api/four").0, 200);
        written(&app, "/api/four", 1);
        written(&app, "/api/three", 0);

        app.ok(&["stop", "api"]);
        assert_eq!(app.get("/api/five").0, 503);
        let line = &written(&app, "/api/five", 1)[0];
        assert_eq!((&line["reason"], &line["status"]), (&"service_stopped".into(), &503.into()), "{line}");
        app.down();
    });
}
