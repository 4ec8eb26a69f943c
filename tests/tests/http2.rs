//! HTTP/2 from clients, in the mesh and to workers, with the HTTP/2 of Node and of curl at both ends.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use watt_tests::{App, User, for_each_user, wait, wattctl};

const APPLICATION: &str = r#"
services:
  grpc: { command: node services/grpc.js, listen: port, protocol: h2c, workers: 2, stop: { drain: 30s } }
  caller: { command: node services/grpc_caller.js, listen: unix }
server: { port: 0 }
gateway:
  routes:
    - { path: /, service: grpc }
    - { path: /caller, service: caller, strip: true }
"#;

/// `None` where there is no Node.
fn application(user: User) -> Option<App> {
    Command::new("node").arg("--version").stdout(Stdio::null()).status().ok()?;
    let app = App::case("", user);
    app.write("watt.yaml", APPLICATION);
    app.pass_through();
    app.up();
    Some(app)
}

/// A client of the gateway.
struct Client {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Client {
    fn start(app: &App, way: &str) -> Client {
        let address = format!("http://{}", app.gateway());
        let mut command = app.command("node");
        command.args(["services/grpc_client.js", &address, way]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("node runs");
        let lines = BufReader::new(process.stdout.take().expect("it is piped"));
        Client { process, lines }
    }

    fn say(&mut self, line: &str) {
        let input = self.process.stdin.as_mut().expect("it is piped");
        writeln!(input, "{line}").expect("it reads");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("text");
        line.trim_end().to_owned()
    }

    /// The next line that begins like this.
    fn says(&mut self, word: &str) -> String {
        std::iter::repeat_with(|| self.line())
            .take(100)
            .find(|line| line.starts_with(word))
            .unwrap_or_else(|| panic!("no `{word}`"))
    }

    /// Ends its input. The last line that it says, which begins like this.
    fn end(mut self, word: &str) -> String {
        drop(self.process.stdin.take());
        let last = self.says(word);
        self.process.wait().expect("it ends");
        last
    }
}

#[test]
fn grpc_passes_through_the_gateway_and_the_mesh() {
    for_each_user(|user| {
        let Some(app) = application(user) else { return };
        for way in ["name", "socket"] {
            assert_eq!(app.get(&format!("/caller/{way}")), (200, "hello 0".to_owned()), "{user:?} {way}");
        }
        let url = format!("http://{}/", app.gateway());
        // The HTTP/1.1 of curl, and its HTTP/2 with the beginning that clients have who know.
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            let told =
                app.command("curl").args(["-sS", version, "-d", "hello", &url]).output().expect("curl");
            assert_eq!(String::from_utf8_lossy(&told.stdout), "hello", "{user:?} {version}: {told:?}");
        }
        app.down();
    });
}

#[test]
fn a_roll_loses_no_call_and_lets_a_stream_go_on_where_it_is() {
    for_each_user(|user| {
        let Some(app) = application(user) else { return };
        let mut calls = Client::start(&app, "calls");
        let mut stream = Client::start(&app, "stream");
        stream.say("before");
        assert_eq!(stream.line(), "before");
        let old = [app.pid("grpc", 0), app.pid("grpc", 1)];
        let [first, second] = [calls.says("worker"), calls.says("worker")];
        assert!(
            old.iter().all(|pid| [&first, &second].contains(&&format!("worker {pid}"))),
            "{first} {second}"
        );
        let mut roll = app.wattctl(&["restart", "grpc"]);
        let mut roll = roll.stdout(Stdio::null()).spawn().expect("wattctl runs");
        // One of the old ones has the stream, and is not waited for to see new ones at work.
        let new = calls.says("worker");
        assert!(!old.iter().any(|pid| new == format!("worker {pid}")), "{new}");
        stream.say("while it rolls");
        assert_eq!(stream.line(), "while it rolls");
        assert_eq!(stream.end("status"), "status 0");
        assert!(roll.wait().expect("it ends").success());
        wait("both are new", || match [app.pid("grpc", 0), app.pid("grpc", 1)] {
            now if now.iter().any(|pid| old.contains(pid)) => Err(format!("{now:?}")),
            _ => Ok(()),
        });
        let told: Value = serde_json::from_str(&calls.end("{")).expect("JSON");
        assert_eq!((&told["failures"], &told["sessions"]), (&json!([]), &json!(1)), "{told}");
        app.down();
    });
}

#[test]
fn an_upgrade_says_goaway_and_lets_a_stream_go_on_where_it_is() {
    for_each_user(|user| {
        let Some(app) = application(user) else { return };
        let mut calls = Client::start(&app, "calls");
        let mut stream = Client::start(&app, "stream");
        stream.say("before");
        assert_eq!(stream.line(), "before");
        calls.says("worker");
        let to = app.dir.join("wattctl");
        std::fs::copy(wattctl(), &to).expect("a copy of wattctl");
        app.ok(&["upgrade", "--to", &to.display().to_string()]);
        assert_eq!(calls.says("session"), "session 2");
        stream.say("after");
        assert_eq!(stream.line(), "after");
        assert_eq!(stream.end("status"), "status 0");
        let told: Value = serde_json::from_str(&calls.end("{")).expect("JSON");
        assert_eq!((&told["failures"], &told["sessions"]), (&json!([]), &json!(2)), "{told}");
        app.down();
    });
}
