//! Restarts without end leave nothing behind.
//!
//! `WATT_SOAK_RESTARTS` of one worker in a row (500; 10000 before a release), after a third of that in which buffers of a fixed size fill: those of
//! the daemon have 2 MiB, and are full after 3000.

use std::{fs, path::Path};

use watt_tests::{App, User, for_each_user, wait_within};

const CONFIGURATION: &str = r#"
services:
  once:
    command: "true"
    listen: none
    ready: started
    restart: { policy: always, backoff: { first: 1ms, max: 1ms }, give_up: { failures: 1000, within: 1ms } }
  web: { command: python3 -B services/web.py }
server: { port: 0 }
gateway: { routes: [{ path: /, service: web }] }
"#;

/// What a role holds.
#[derive(Debug)]
struct Holds {
    role: &'static str,
    descriptors: usize,
    threads: usize,
    memory_kib: u64,
}

#[test]
fn restarts_in_a_row_end_where_they_began() {
    let restarts =
        std::env::var("WATT_SOAK_RESTARTS").ok().and_then(|value| value.parse().ok()).unwrap_or(500);
    for_each_user(|user| soak(user, restarts));
}

fn soak(user: User, restarts: u64) {
    let app = App::case("", user);
    app.write("watt.yaml", CONFIGURATION);
    // Whether `once` is between two processes when it looks is no matter.
    app.run(&["up", "-d"]);
    let filled = restarts / 3;
    let to_fill_kib = if filled < 3000 { 2048 } else { 512 };
    after(&app, filled);
    let before = roles(&app);
    let groups = cgroups(&app);
    after(&app, filled + restarts);
    // The worker is between two processes, or in one: everything is looked at while it rests.
    app.ok(&["stop", "once"]);
    let now = roles(&app);
    println!("{user:?}, {restarts} restarts: {before:?} -> {now:?}");
    for (before, now) in before.iter().zip(&now) {
        // A worker has a pidfd, two pipes and the like, which are there or not at the moment of the first look.
        assert!(now.descriptors <= before.descriptors + 12, "{before:?} -> {now:?}");
        assert!(now.threads <= before.threads + 4, "threads that wait for work: {before:?} -> {now:?}");
        assert!(now.memory_kib <= before.memory_kib + to_fill_kib, "{}: {before:?} -> {now:?}", now.role);
    }
    assert!(cgroups(&app) <= groups, "cgroups: {groups} -> {}", cgroups(&app));
    assert_eq!(networks(&app), 1, "networks of `web` alone");
    app.down();
}

/// Waits until it was restarted so often.
fn after(app: &App, restarts: u64) {
    wait_within(std::time::Duration::from_secs(600), "it was restarted so often", || {
        match app.worker("once", 0)["restarts"].as_u64() {
            Some(count) if count >= restarts => Ok(()),
            count => Err(format!("{count:?}")),
        }
    });
}

fn roles(app: &App) -> Vec<Holds> {
    let status = app.status()["supervisor"].clone();
    let role = |role: &'static str, key: &str| {
        let pid = status[key].as_u64().unwrap_or_else(|| panic!("no {key} in {status}"));
        let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_default()
        };
        Holds {
            role,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count),
            threads: number("Threads:") as usize,
            memory_kib: number("RssAnon:"),
        }
    };
    vec![role("spawner", "spawner_pid"), role("daemon", "daemon_pid"), role("proxy", "proxy_pid")]
}

/// How many groups of workers it has, in all hierarchies.
fn cgroups(app: &App) -> usize {
    let own = fs::read_to_string(format!("/proc/{}/cgroup", app.pid("web", 0))).unwrap_or_default();
    let of_line = |line: &str| -> Option<usize> {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let controllers = if controllers.is_empty() { "unified" } else { controllers };
        let mounted = [format!("/sys/fs/cgroup/{controllers}{path}"), format!("/sys/fs/cgroup{path}")];
        let worker = mounted.iter().map(Path::new).find(|dir| path.contains("/web/") && dir.exists())?;
        Some(folders(worker.parent()?.parent()?))
    };
    own.lines().filter_map(of_line).sum()
}

fn folders(dir: &Path) -> usize {
    let below = fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    below.map(|entry| 1 + folders(&entry.path())).sum()
}

/// How many networks its processes are in, beside the host's.
fn networks(app: &App) -> usize {
    let own = fs::read_link("/proc/self/ns/net").expect("it has one");
    let all =
        app.processes().into_iter().filter_map(|(pid, _)| fs::read_link(format!("/proc/{pid}/ns/net")).ok());
    all.filter(|network| *network != own).collect::<std::collections::BTreeSet<_>>().len()
}
