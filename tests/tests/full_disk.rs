//! A disk that is full: what needs room says so, what needs none goes on, and all is well when there is room again. Each case is
//! run by this program once more in a mount namespace of its own, where root gives the application a small disk.

use std::{
    collections::BTreeSet,
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use watt_tests::{App, Load, User, for_each_user, is_root, printed, wait, wattctl};

/// Says that a case is in a namespace of its own.
const INSIDE: &str = "WATT_TEST_OWN_MOUNTS";

/// Runs a test that is ignored otherwise.
fn apart(case: &str) {
    if !is_root() {
        return eprintln!("skipped: a disk is root's to mount");
    }
    let program = env::current_exe().expect("a test program");
    let mut output = Command::new("unshare");
    output.arg("-m").arg(program).args(["--exact", case, "--ignored"]);
    let output = output.env(INSIDE, "1").output().expect("unshare runs");
    assert!(output.status.success(), "{}", printed(&output));
}

/// A disk of this size in a folder of the application's home.
struct Disk(PathBuf);

impl Disk {
    fn new(app: &App, name: &str, options: &str) -> Disk {
        assert!(env::var_os(INSIDE).is_some(), "it would be everybody's");
        let path = app.dir.with_file_name(name);
        fs::create_dir_all(&path).expect("a folder");
        let owner = if app.user == User::Ordinary { "uid=65534,gid=65534," } else { "" };
        let options = format!("{owner}mode=755,{options}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "watt-test"]).arg(&path);
        let mounted = mount.output().expect("mount runs");
        assert!(mounted.status.success(), "{}", printed(&mounted));
        Disk(path)
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    fn fill(&self) {
        let mut file = fs::File::options().create(true).append(true).open(self.ballast()).expect("a file");
        while file.write(&[0; 4096]).is_ok() {}
    }

    /// No file can be made.
    fn fill_names(&self) {
        fs::create_dir_all(self.ballast()).expect("a folder");
        let made = |number: &u32| fs::File::create(self.ballast().join(number.to_string())).is_ok();
        let last = (0..100_000).take_while(made).last();
        assert!(last.is_some_and(|last| last < 99_999), "{last:?}");
    }

    fn empty(&self) {
        let path = self.ballast();
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.expect("it is there");
    }
}

fn names(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

const TICKS: &str = r#"
services:
  api: { command: python3 services/ticks.py, listen: port, sandbox: off }
jobs:
  tick: { service: api, http: { method: POST, path: /tick }, schedule: '* * * * * *', history: 1000 }
"#;

/// The instants of which the service has had a request.
fn instants(app: &App) -> Vec<String> {
    let at = |line: String| line.split(' ').nth(1).map(str::to_owned);
    names(&app.dir.join("ticks.log")).into_iter().filter_map(at).collect()
}

fn more(app: &App, what: &str, count: usize) {
    let before = instants(app).len();
    wait(what, || match instants(app).len() {
        now if now >= before + count => Ok(()),
        now => Err(format!("{now} after {before}; {}", app.json(&["jobs", "show", "tick"]))),
    });
}

fn not_noted(app: &App) -> usize {
    let events = app.ok(&["events", "--json"]);
    let parsed = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_told = |event: &Value| {
        let text = event["text"].as_str().unwrap_or_default();
        event["kind"] == "job_missed" && text.ends_with("it could not be noted")
    };
    parsed.filter(is_told).count()
}

fn upgrade(app: &App, name: &str) {
    let next = app.dir.join(name);
    fs::copy(wattctl(), &next).expect("a copy of wattctl");
    let next = next.display().to_string();
    app.ok(&["upgrade", "--to", &next]);
    assert_eq!(app.status()["supervisor"]["program"], *next);
}

/// Applies a service, and gives what came of it.
fn apply(app: &App, service: &str) -> std::process::Output {
    app.write("one.yaml", "command: sleep 1000\nlisten: none\n");
    app.run(&["apply", service, "-f", "one.yaml", "--wait"])
}

/// What became of jobs and what services and watt itself have said.
#[test]
fn the_disk_of_what_is_kept_is_full() {
    apart("inside_full_state");
}

#[test]
#[ignore = "part of the_disk_of_what_is_kept_is_full, which runs it where the disk is small"]
fn inside_full_state() {
    if env::var_os(INSIDE).is_none() {
        return;
    }
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("watt.yaml", TICKS);
        let disk = Disk::new(&app, "state", "size=512k");
        app.up();
        more(&app, "it fires", 2);
        disk.fill();
        // The last page of a file has some room left. Who asks is told.
        wait("a firing that is asked for cannot be noted", || {
            let run = printed(&app.run(&["jobs", "run", "tick"]));
            if run.contains("it could not be noted: No space left on device") { Ok(()) } else { Err(run) }
        });
        let missed = |more: usize| {
            let before = not_noted(&app);
            wait("firings are missed", || match not_noted(&app) {
                now if now >= before + more => Ok(()),
                now => Err(format!("{now} after {before}")),
            });
        };
        missed(2);
        let text = app.json(&["jobs", "show", "tick"])["history"].to_string();
        assert!(text.contains("it could not be noted: No space left on device"), "{user:?}: {text}");
        // None of this needs room there.
        let applied = apply(&app, "more");
        assert!(applied.status.success(), "{user:?}: {}", printed(&applied));
        app.ok(&["restart", "more"]);
        upgrade(&app, "next");
        app.kill_daemon();
        assert_eq!(app.worker("more", 0)["state"], "ready");
        disk.empty();
        more(&app, "it fires again", 3);
        app.ok(&["jobs", "pause", "tick"]);
        wait("nothing is under way", || match app.json(&["jobs", "show", "tick"]) {
            job if job["job"]["running"].as_array().is_some_and(Vec::is_empty) => Ok(()),
            job => Err(job.to_string()),
        });
        let history = app.json(&["jobs", "show", "tick"])["history"].as_array().cloned().unwrap_or_default();
        let scheduled: Vec<String> = history
            .iter()
            .filter(|run| run["cause"] == "schedule")
            .map(|run| run["at"].to_string())
            .collect();
        let different: BTreeSet<&String> = scheduled.iter().collect();
        assert_eq!(different.len(), scheduled.len(), "{user:?}: an instant has fired twice: {history:?}");
        let ended = |how: &str| history.iter().filter(|run| run["result"] == how).count();
        let asked = instants(&app).len();
        // Nothing has fired that was not noted. Where the answer was not, for want of room or of the daemon that was killed, nobody saw it.
        let told = ended("ok")..=ended("ok") + ended("interrupted");
        assert!(told.contains(&asked), "{user:?}: {asked} {history:?}");
        app.down();
    });
}

const WEB: &str = r#"
services:
  web: { command: python3 services/web.py, workers: 2 }
server: { port: 0 }
gateway: { routes: [{ path: /, service: web }] }
"#;

/// Sockets and folders of workers, and what tools find the application by.
#[test]
fn the_disk_of_what_runs_is_full() {
    apart("inside_full_runtime");
}

#[test]
#[ignore = "part of the_disk_of_what_runs_is_full, which runs it where the disk is small"]
fn inside_full_runtime() {
    if env::var_os(INSIDE).is_none() {
        return;
    }
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("watt.yaml", WEB);
        let disk = Disk::new(&app, "run", "size=1m,nr_inodes=500");
        app.up();
        let load = Load::start(&app.gateway(), "/");
        disk.fill();
        // No bytes: what runs is replaced, and who decides about it as well.
        app.kill_daemon();
        app.ok(&["restart", "web"]);
        upgrade(&app, "next");
        let applied = apply(&app, "more");
        assert!(applied.status.success(), "{user:?}: {}", printed(&applied));
        disk.empty();
        // No names either: a new worker has no folder, and the old ones go on.
        disk.fill_names();
        let refused = apply(&app, "another");
        assert!(!refused.status.success(), "{user:?}: {}", printed(&refused));
        let exit = app.worker("another", 0)["last_exit"]["text"].to_string();
        assert!(exit.contains("No space left on device"), "{user:?}: {exit}");
        app.kill_daemon();
        assert_eq!(app.service("web")["ready"], 2, "{user:?}");
        disk.empty();
        app.ok(&["remove", "another"]);
        let applied = apply(&app, "another");
        assert!(applied.status.success(), "{user:?}: {}", printed(&applied));
        app.ok(&["restart", "web"]);
        let tally = load.stop();
        assert!(tally.failures.is_empty(), "{user:?}: {} answered, {:?}", tally.answered, tally.failures);
        app.down();
    });
}

/// Names of services in the file that all workers have as their `/etc/hosts`: it grows by a page that is not there.
#[test]
fn names_of_new_services_wait_for_room_and_those_that_were_there_stay() {
    apart("inside_full_names");
}

#[test]
#[ignore = "part of names_of_new_services_wait_for_room_and_those_that_were_there_stay, which runs it where the disk is small"]
fn inside_full_names() {
    if env::var_os(INSIDE).is_none() {
        return;
    }
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("watt.yaml", WEB);
        let disk = Disk::new(&app, "run", "size=1m,nr_inodes=5000");
        app.up();
        let hosts = app.runtime().join("hosts");
        let before = names(&hosts);
        assert!(before.iter().any(|line| line.contains("web.plt.local")), "{before:?}");
        disk.fill();
        // Before the one that was there, in the order of the file.
        let new: Vec<String> = (10..75)
            .map(|number| format!("a-service-with-a-name-that-is-as-long-as-names-may-be-{number}"))
            .collect();
        let entry = |name: &String| format!("  {name}: {{ command: sleep 1000, listen: none }}\n");
        let more = format!("services:\n{}", new.iter().map(entry).collect::<String>());
        app.write("watt.yaml", &WEB.replace("services:\n", &more));
        let reloaded = app.json(&["reload", "--wait"]);
        assert_eq!(reloaded["ok"], true, "{user:?}: {reloaded}");
        assert_eq!(names(&hosts), before, "{user:?}: it is as it was");
        assert!(app.own_log().contains("names of new services are missing"), "{user:?}: {}", app.own_log());
        // Nor does a successor need them.
        app.kill_daemon();
        assert_eq!(names(&hosts), before, "{user:?}: it is as it was");
        disk.empty();
        let has = |line: &String, name: &str| line.contains(&format!("{name}.plt.local"));
        wait("all names are there", || {
            let now = names(&hosts);
            let missing: Vec<&String> =
                new.iter().filter(|name| !now.iter().any(|line| has(line, name))).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{missing:?}")) }
        });
        app.down();
    });
}
