//! Starting, looking, stopping; one application beside another.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use watt_tests::{App, User, for_each_user, printed, wait, wattctl};

const TWO: &str = r#"
services:
  web: { command: python3 services/web.py, workers: 2 }
  api: { command: python3 services/web.py port, listen: port, depends_on: [web] }
server: { port: 0 }
gateway:
  routes:
    - { path: /, service: web }
    - { path: /api, service: api, strip: true }
"#;

fn two(user: User) -> App {
    let app = App::case("", user);
    app.write("watt.yaml", TWO);
    app
}

#[test]
fn an_application_comes_up_answers_and_goes_without_a_trace() {
    for_each_user(|user| {
        let app = two(user);
        app.up();
        let status = app.status();
        assert_eq!(status["services"][1]["ready"], 2, "{status}");
        assert!(app.get("/x").1.contains("\"service\": \"web\""));
        let (code, body) = app.get("/api/x?y=1");
        assert_eq!(code, 200);
        assert!(body.contains("\"service\": \"api\"") && body.contains("\"path\": \"/x?y=1\""), "{body}");
        let cgroups = cgroups(app.pid("web", 0), "web/0");
        app.down();
        let left: Vec<_> = cgroups.into_iter().filter(|cgroup| cgroup.exists()).collect();
        assert!(left.is_empty(), "{user:?}: {left:?}");
    });
}

/// The cgroups of a worker in all hierarchies, each followed by the one of all workers.
fn cgroups(pid: u32, worker: &str) -> Vec<PathBuf> {
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    let paths = own.lines().filter_map(|line| line.split_once(":/")).map(|(_, path)| path);
    let paths: Vec<&str> = paths.filter(|path| Path::new(path).ends_with(worker)).collect();
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
    let mounts = mounts.lines().filter(|line| line.contains(" - cgroup"));
    let dirs = mounts.filter_map(|line| line.split(' ').nth(4)).flat_map(|mount| {
        paths.iter().map(move |path| Path::new(mount).join(path)).filter(|path| path.exists())
    });
    dirs.flat_map(|dir| [dir.ancestors().nth(2).expect("a service's").to_owned(), dir]).collect()
}

#[test]
fn services_are_stopped_started_and_restarted() {
    for_each_user(|user| {
        let app = two(user);
        app.up();
        let before = app.pid("api", 0);
        app.ok(&["restart", "api"]);
        let after = app.pid("api", 0);
        assert_ne!(before, after);
        assert_eq!(app.worker("api", 0)["restarts"], 0, "an operator's restart is no failure");
        app.ok(&["stop", "api"]);
        assert_eq!(app.service("api")["state"], "down");
        let (code, body) = app.get("/api/");
        assert_eq!(code, 503, "{body}");
        assert!(body.contains("api"), "{body}");
        app.ok(&["start", "api"]);
        assert_eq!(app.get("/api/").0, 200);
        let unknown = app.run(&["restart", "apo"]);
        assert_eq!(unknown.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&unknown.stderr).contains("api"), "{}", printed(&unknown));
        app.down();
    });
}

#[test]
fn own_processes_are_named_in_ps() {
    for_each_user(|user| {
        let app = two(user);
        app.write("watt.yaml", &format!("name: shop\n{TWO}"));
        app.up();
        let supervisor = app.status()["supervisor"].clone();
        let all = watt_tests::processes();
        for (pid, title) in [
            ("spawner_pid", "wattctl spawner shop"),
            ("daemon_pid", "wattctl daemon shop"),
            ("proxy_pid", "wattctl mesh-proxy shop"),
        ] {
            let shown =
                all.iter().find(|(own, _)| supervisor[pid] == *own).map(|(_, command)| command.trim());
            assert_eq!(shown, Some(title), "{user:?}");
        }
        app.down();
    });
}

#[test]
fn a_second_instance_is_refused_with_the_pid_of_the_first() {
    let app = two(User::Ordinary);
    app.up();
    let second = app.run(&["up", "-d"]);
    assert_eq!(second.status.code(), Some(5), "{}", printed(&second));
    let pid = app.status()["supervisor"]["spawner_pid"].to_string();
    assert!(String::from_utf8_lossy(&second.stderr).contains(&pid), "{}", printed(&second));
    app.down();
    assert_eq!(app.run(&["status"]).status.code(), Some(4));
    assert_eq!(app.run(&["down"]).status.code(), Some(4));
}

#[test]
fn applications_run_side_by_side() {
    let (one, other) = (two(User::Ordinary), two(User::Ordinary));
    one.write("watt.yaml", &format!("name: one\n{TWO}"));
    other.write("watt.yaml", &format!("name: other\n{TWO}"));
    one.up();
    other.up();
    assert_eq!(one.status()["app"], "one");
    assert_eq!(other.status()["app"], "other");
    one.down();
    assert_eq!(other.get("/").0, 200);
    other.down();
}

#[test]
fn in_the_foreground_ctrl_c_drains_and_stops() {
    let app = two(User::Ordinary);
    let mut up = in_the_foreground(&app);
    watt_tests::kill("INT", up.id());
    let ended = up.wait().expect("it ends");
    assert_eq!(ended.code(), Some(0));
    app.assert_gone();
}

/// As `wattctl up | head -1` does, and Ctrl-C in `wattctl up | tee log`, which ends `tee` first, perhaps.
#[test]
fn a_reader_that_goes_away_stops_it() {
    let app = two(User::Ordinary);
    let mut up = in_the_foreground(&app);
    drop(up.stdout.take());
    assert_eq!(up.wait().expect("it ends").code(), Some(0));
    app.assert_gone();
}

/// Started to outlive its terminal, it does.
#[test]
fn a_hangup_that_nohup_ignores_ends_nothing() {
    let app = two(User::Ordinary);
    let mut nohup = app.command("nohup");
    let mut up = ready(&app, nohup.arg(wattctl()).arg("up"));
    watt_tests::kill("HUP", up.id());
    app.ok(&["restart"]);
    assert!(up.try_wait().expect("it is ours").is_none(), "it goes on");
    watt_tests::kill("TERM", up.id());
    assert_eq!(up.wait().expect("it ends").code(), Some(0));
    app.assert_gone();
}

/// `wattctl up` whose services are ready.
fn in_the_foreground(app: &App) -> Child {
    ready(app, &mut app.wattctl(&["up"]))
}

fn ready(app: &App, up: &mut Command) -> Child {
    let up = up.stdout(Stdio::piped()).spawn().expect("wattctl runs");
    wait("it is up", || {
        let status = app.run(&["status", "--json"]);
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        if text.matches("\"state\": \"ready\"").count() >= 5 { Ok(()) } else { Err(text) }
    });
    up
}

#[test]
fn what_a_killed_spawner_leaves_is_cleaned_up_by_the_next_start() {
    for_each_user(|user| {
        let app = two(user);
        app.up();
        watt_tests::kill("KILL", spawner(&app));
        wait("everything has ended with it", || match app.processes() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
        assert_eq!(app.run(&["status"]).status.code(), Some(4));
        app.up();
        assert_eq!(app.get("/").0, 200);
        app.down();
    });
}

#[test]
fn what_escaped_from_a_killed_spawner_is_ended_by_the_next_start() {
    for_each_user(|user| {
        let app = App::case("", user);
        app.write(
            "watt.yaml",
            "services:\n  stubborn: { command: python3 services/stubborn.py, listen: none, ready: { log: ready }, stop: { grace: 300ms } }\n",
        );
        let stubborn = || -> Vec<u32> {
            let processes = app.processes().into_iter();
            processes.filter(|(_, command)| command.contains("stubborn.py")).map(|(pid, _)| pid).collect()
        };
        app.up();
        let all = wait("all its processes run", || match stubborn() {
            found if found.len() >= 4 => Ok(found),
            found => Err(format!("{found:?}")),
        });
        let main = app.pid("stubborn", 0);
        watt_tests::kill("KILL", spawner(&app));
        wait("what the kernel ends with it has ended", || {
            match app
                .processes()
                .into_iter()
                .find(|(pid, command)| *pid == main || command.contains("wattctl"))
            {
                None => Ok(()),
                left => Err(format!("{left:?}")),
            }
        });
        app.up();
        let left: Vec<u32> = stubborn().into_iter().filter(|pid| all.contains(pid)).collect();
        assert!(left.is_empty(), "{user:?}: {left:?} of {all:?}");
        app.down();
    });
}

fn spawner(app: &App) -> u32 {
    let pid = app.status()["supervisor"]["spawner_pid"].as_u64();
    pid.and_then(|pid| pid.try_into().ok()).expect("a pid")
}

#[test]
fn a_service_that_does_not_start_shows_its_last_lines() {
    for_each_user(|user| {
        let app = App::yaml(
            r#"
services:
  bad:
    command: [sh, -c, "echo to stdout; echo to stderr >&2; exit 3"]
    restart: { give_up: { failures: 2, within: 1m } }
"#,
            user,
        );
        let up = app.run(&["up", "-d"]);
        assert_eq!(up.status.code(), Some(1), "{}", printed(&up));
        let text = String::from_utf8_lossy(&up.stderr).into_owned();
        for part in ["exit 3", "to stdout", "to stderr", "bad/0"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let status = String::from_utf8_lossy(&app.run(&["status"]).stdout).into_owned();
        assert!(status.contains("failed") && status.contains("to stderr"), "{status}");
        app.down();
    });
}

#[test]
fn an_application_that_is_stopped_from_elsewhere_ended_well() {
    for_each_user(|user| {
        let talks =
            "services: { talks: { command: [sh, -c, 'echo here; exec sleep 1000'], listen: none } }\n";
        let app = App::yaml(talks, user);
        let up = app.wattctl(&["up"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut up = up.expect("wattctl runs");
        let mut output = BufReader::new(up.stdout.take().expect("a pipe"));
        // From here on it follows the log.
        output.read_line(&mut String::new()).expect("a line");
        app.down();
        let ended = up.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success() && said.contains("stopped from elsewhere"), "{user:?}: {said}");
    });
}
