//! From a program that is really another version, built from an older commit of this repository, to this one, while clients of every kind go
//! on; back to it, which keeps all that runs; and to this one again. What `upgrade` tests with this program in the part of another version, this tests with what that version wrote and said.
//!
//! It needs the repository's history and builds that commit, which takes minutes, so that it is run before a release and not by CI:
//!
//! ```text
//! cargo build -p wattctl && cargo test -p watt-tests --test upgrade_from -- --ignored --nocapture
//! ```
//!
//! `WATT_UPGRADE_FROM` names other commits, separated by spaces. What CI has is `upgrade` and the spawner's test of its table.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use watt_tests::{
    App, User, for_each_user, kill, printed, repository,
    traffic::{APPLICATION, SERVICES, Traffic},
    wait, wattctl,
};

/// The first version that another one can take over from. All have written the same form since.
const OLDEST: &str = "fc6716b";

/// What is noted in more than one way: a worker in namespaces of its own, one that completed, one that was stopped, and a job.
const MORE: &str = r#"
  strict: { command: [python3, main.py], listen: none, ready: notify, sandbox: strict, restart: { backoff: { first: 50ms } } }
  done: { command: "true", listen: none, ready: started, restart: never }
  stopped: { command: sleep 1000, listen: none }
jobs:
  late: { service: node, command: "true", schedule: "0 0 1 1 *" }
"#;

/// Ends with 3 at USR1.
const MAIN: &str = r#"
import os, signal, socket, time
signal.signal(signal.SIGUSR1, lambda *_: os._exit(3))
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
s.send(b"READY=1")
while True:
    time.sleep(1000)
"#;

/// The program of a commit. It is built once.
fn built(commit: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("upgrade-from");
    let (source, program) = (folder.join(commit), folder.join(format!("wattctl-{commit}")));
    if program.exists() {
        return program;
    }
    let run = |command: &mut Command| {
        let status = command.status().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        assert!(status.success(), "{command:?}: {status}");
    };
    fs::create_dir_all(&source).expect("a folder");
    let archive = folder.join(format!("{commit}.tar"));
    run(Command::new("git").arg("-C").arg(repository()).args(["archive", "-o"]).arg(&archive).arg(commit));
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&source));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(&source).args(["build", "--locked", "-p", "wattctl"]);
    // Those of the outer cargo are about its own work.
    cargo
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env("CARGO_TARGET_DIR", folder.join("target"));
    run(&mut cargo);
    fs::copy(folder.join("target/debug/wattctl"), &program).expect("a copy of the program");
    fs::remove_dir_all(&source).expect("the source is ours");
    program
}

/// Started by the older program.
fn start(user: User, old: &Path) -> App {
    let app = App::case("", user);
    app.pass_through();
    app.write("main.py", MAIN);
    let (services, rest) = APPLICATION.split_once("server:").expect("it has a server");
    app.write("watt.yaml", &format!("{services}{}server:{rest}", MORE.trim_start_matches('\n')));
    let [old_here, new_here] = [(old, "old"), (&wattctl(), "new")].map(|(from, name)| {
        let path = app.dir.join(name);
        fs::copy(from, &path).expect("a copy of the program");
        path
    });
    assert!(new_here.exists());
    let output = app.command(&old_here.display().to_string()).args(["up", "-d"]).output();
    let output = output.expect("it runs");
    assert!(output.status.success(), "{}", printed(&output));
    app.ok(&["stop", "stopped"]);
    app
}

/// Every worker as an operator sees it: what must not change.
fn workers(app: &App) -> BTreeSet<String> {
    let status = app.status();
    let services = status["services"].as_array().cloned().unwrap_or_default();
    let of_service = |service: &Value| -> Vec<String> {
        let workers = service["workers"].as_array().cloned().unwrap_or_default();
        let worker = |worker: &Value| {
            let words = ["index", "state", "pid", "run", "restarts"].map(|key| worker[key].to_string());
            format!("{} {} {}", service["id"], words.join(" "), worker["last_exit"]["text"])
        };
        workers.iter().map(worker).collect()
    };
    services.iter().flat_map(of_service).collect()
}

fn upgrade(app: &App, to: &str) {
    let before = workers(app);
    let to = app.dir.join(to).display().to_string();
    let output = app.run(&["upgrade", "--json", "--to", &to]);
    assert!(output.status.success(), "to {to}: {} {}", printed(&output), app.own_log());
    assert_eq!(app.status()["supervisor"]["program"], to);
    assert_eq!(workers(app), before, "to {to}");
}

/// The init of a worker, which is the older version's until the worker is replaced, is understood.
fn an_end_is_told(app: &App) {
    let restarts = app.worker("strict", 0)["restarts"].as_u64().expect("a number") + 1;
    kill("USR1", app.pid("strict", 0));
    let exit = wait("it was started again", || match app.worker("strict", 0) {
        worker if worker["state"] == "ready" && worker["restarts"] == restarts => {
            Ok(worker["last_exit"]["text"].clone())
        }
        worker => Err(worker.to_string()),
    });
    assert_eq!(exit, "exit 3");
}

fn everything_works(app: &App, traffic: &Traffic) {
    traffic.go_around();
    an_end_is_told(app);
    for service in SERVICES {
        app.ok(&["restart", service]);
    }
    app.kill_daemon();
    traffic.go_around();
    assert_eq!(app.service("stopped")["state"], "down");
    assert_eq!(app.service("done")["state"], "completed");
    app.ok(&["jobs", "show", "late"]);
}

#[test]
#[ignore = "builds an older commit, and needs the repository's history; see the head of the file"]
fn no_request_is_lost_from_an_older_version_and_it_can_be_gone_back_to() {
    let commits = env::var("WATT_UPGRADE_FROM").unwrap_or_else(|_| OLDEST.to_owned());
    for commit in commits.split_whitespace() {
        let old = built(commit);
        for_each_user(|user| {
            let app = start(user, &old);
            for (round, to) in ["new", "old", "new"].into_iter().enumerate() {
                let traffic = Traffic::start(&app);
                traffic.go_around();
                upgrade(&app, to);
                everything_works(&app, &traffic);
                let counts = traffic.stop();
                let title = format!("an upgrade from or to {commit}, to {to}, as {user:?}");
                if to == "new" {
                    counts.assert_no_failure(&title);
                    // Each traffic counts its requests from the beginning, and the application remembers all of them.
                    if round == 0 {
                        counts.assert_posts(&title, &app);
                    }
                } else {
                    // docs/upgrade.md: an older version takes over what runs, and does not know all that its proxy was told.
                    counts.print(&title);
                }
            }
            app.down();
        });
    }
}
