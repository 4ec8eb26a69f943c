//! A service that takes too much meets its limit, by name; its neighbours notice nothing.

use std::{fs, path::Path};

use serde_json::Value;
use watt_tests::{App, User, is_root, kill, wait};

const HOG: &str = r#"
services:
  hog:
    command: python3 services/hog.py
    listen: none
    limits: { memory: 48M }
  neighbour:
    command: python3 services/web.py
server: { port: 0 }
gateway: { routes: [{ path: /, service: neighbour }] }
"#;

/// The user of an application whose limits are enforced, where there is one: root, or an ordinary user to whom cgroups
/// are delegated.
fn limited_user() -> Option<User> {
    if is_root() {
        return Some(User::Root);
    }
    let own = fs::read_to_string("/proc/self/cgroup").expect("/proc is mounted");
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let procs = Path::new("/sys/fs/cgroup").join(path).join("cgroup.procs");
    fs::OpenOptions::new().write(true).open(procs).is_ok().then_some(User::Ordinary)
}

#[test]
fn a_memory_hog_is_killed_as_oom_and_its_neighbour_lives() {
    let Some(user) = limited_user() else { return };
    let app = App::case("", user);
    app.write("watt.yaml", HOG);
    app.run(&["up", "-d"]);
    let pid = app.pid("neighbour", 0);
    let exit = wait("the hog is dead", || {
        let exit = app.worker("hog", 0)["last_exit"].clone();
        if exit.is_null() { Err(app.status().to_string()) } else { Ok(exit) }
    });
    assert_eq!(exit["cause"], "oom", "{exit}");
    assert!(exit["text"].as_str().is_some_and(|text| text.contains("48M")), "{exit}");
    assert_eq!(app.pid("neighbour", 0), pid);
    assert_eq!(app.get("/").0, 200);
    let oom = wait("it was told", || {
        let events = app.ok(&["events", "--json"]);
        let mut parsed = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed.find(|event| event["kind"] == "oom").ok_or(events)
    });
    assert!(oom["data"]["limit"] == 48 << 20 && oom["data"]["kills"].as_u64() > Some(0), "{oom}");
    assert!(oom["data"]["peak"].as_u64() > Some(40 << 20), "{oom}");
    assert_eq!(oom["data"]["level"], "worker", "{oom}");
    assert!(!reads_kernel_log() || oom["data"]["victims"][0]["name"] == "python3", "{oom}");
    app.down();
}

/// Whether the kernel's log can be read and is about our pids; of very many kills at a time it leaves out some.
fn reads_kernel_log() -> bool {
    let pids = fs::read_link("/proc/self/ns/pid").is_ok_and(|found| found == Path::new("pid:[4026531836]"));
    let cgroups =
        fs::read_link("/proc/self/ns/cgroup").is_ok_and(|found| found == Path::new("cgroup:[4026531835]"));
    is_root() && pids && cgroups && fs::File::open("/dev/kmsg").is_ok()
}

/// Whether the kernel counts at each limit how often memory ended there: on cgroup v2.
fn counts_by_limit() -> bool {
    let own = fs::read_to_string("/proc/self/cgroup").expect("/proc is mounted");
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    Path::new("/sys/fs/cgroup").join(own).join("memory.events.local").exists()
}

#[test]
fn a_kill_for_memory_says_whom_it_met_and_whose_limit_it_was() {
    let Some(user) = limited_user() else { return };
    if !reads_kernel_log() && !counts_by_limit() {
        return eprintln!("skipped: the kernel does not say whose limit it was");
    }
    let app = App::case("", user);
    let text = HOG.replace("limits: { memory: 48M }", "workers: 2\n    limits_total: { memory: 48M }");
    app.write("watt.yaml", &text);
    app.run(&["up", "-d"]);
    let oom = wait("it was told", || {
        let events = app.ok(&["events", "--json"]);
        let parsed = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        parsed
            .into_iter()
            .find(|event| event["kind"] == "oom" && event["data"]["level"] == "service")
            .ok_or(events)
    });
    assert_eq!(oom["data"]["limit"], 48 << 20, "{oom}");
    let victim = &oom["data"]["victims"][0];
    let who = match victim["pid"].as_u64() {
        Some(pid) => format!("python3 (pid {pid})"),
        None => "a process".to_owned(),
    };
    assert!(!reads_kernel_log() || victim["name"] == "python3" && victim["pid"].as_u64() > Some(1), "{oom}");
    let text = format!("{who} was killed: oom (limit 48M), that of all workers of the service");
    assert_eq!(oom["text"], text.as_str(), "{oom}");
    app.down();
}

/// The kernel says how many it killed, and not whom.
#[test]
fn a_kill_after_one_of_another_process_for_memory_is_not_taken_for_one() {
    let Some(user) = limited_user() else { return };
    let app = App::case("", user);
    app.write(
        "watt.yaml",
        &HOG.replace("services/hog.py", "services/forking_hog.py")
            .replace("memory: 48M", "memory: 48M, oom_group: false"),
    );
    app.run(&["up", "-d"]);
    wait("a child was killed for memory", || match app.ok(&["events", "--json"]) {
        events if events.lines().any(|event| event.contains("\"oom\"")) => Ok(()),
        events => Err(events),
    });
    watt_tests::kill("KILL", app.pid("hog", 0));
    let exit = wait("the hog is dead", || match app.worker("hog", 0)["last_exit"].clone() {
        Value::Null => Err(app.status().to_string()),
        exit => Ok(exit),
    });
    assert_eq!((&exit["cause"], &exit["code"]), (&"signal".into(), &9.into()), "{exit}");
    app.down();
}

#[test]
fn when_one_process_of_a_worker_is_killed_for_memory_the_others_go_with_it() {
    let Some(user) = limited_user() else { return };
    let app = App::case("", user);
    app.write(
        "watt.yaml",
        &HOG.replace("services/hog.py", "services/forking_hog.py")
            .replace("listen: none", "listen: none\n    restart: never"),
    );
    app.run(&["up", "-d"]);
    let exit = wait("the worker has ended", || {
        let exit = app.worker("hog", 0)["last_exit"].clone();
        if exit.is_null() { Err(app.status().to_string()) } else { Ok(exit) }
    });
    assert_eq!(exit["cause"], "oom", "{exit}");
    wait("nothing of it is left", || {
        let left = app.processes().into_iter().filter(|(_, command)| command.contains("forking_hog.py"));
        match left.collect::<Vec<_>>() {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        }
    });
    app.down();
}

const BOMB: &str = r#"
services:
  bomb:
    command: sh services/bomb.sh
    listen: none
    ready: { log: ready }
    restart: never
    limits: { pids: 20 }
  neighbour:
    command: python3 services/web.py
server: { port: 0 }
gateway: { routes: [{ path: /, service: neighbour }] }
"#;

#[test]
fn a_fork_bomb_meets_its_limit_of_processes() {
    let Some(user) = limited_user() else { return };
    let app = App::case("", user);
    app.write("watt.yaml", BOMB);
    app.run(&["up", "-d"]);
    wait("the kernel has refused a fork", || {
        let output = app.ok(&["logs", "bomb"]).to_lowercase();
        if output.contains("fork") { Ok(()) } else { Err(output) }
    });
    let tasks = app.worker("bomb", 0)["pids"].as_u64().unwrap_or_default();
    assert!(tasks <= 20, "{tasks} tasks");
    assert_eq!(app.get("/").0, 200);
    wait("status has the limit and that it was met", || match app.worker("bomb", 0)["pids_limit"].clone() {
        limit if limit["max"] == 20 && limit["refused"].as_u64() > Some(0) => Ok(()),
        limit => Err(limit.to_string()),
    });
    assert!(app.ok(&["status"]).contains("pids limit 20 met "), "{}", app.ok(&["status"]));
    assert!(app.ok(&["inspect", "bomb"]).contains("pids limit 20 met "));
    let told = "bomb/0  met its limit of 20 processes and threads\n";
    wait("the event has come", || {
        let events = app.ok(&["events"]);
        if events.contains(told) { Ok(()) } else { Err(events) }
    });
    assert_eq!(app.ok(&["events"]).matches(told).count(), 1, "thousands of refused forks are one event");
    app.down();
}

/// Without a sandbox, of which older kernels do not enforce everything either.
const CEILINGS: &str = r#"
sandbox: off
limits: { pids: 60 }
services:
  api:
    command: [sh, -c, "echo cpus=$(grep Cpus_allowed_list /proc/self/status | cut -f2); exec sleep 1000"]
    listen: none
    workers: 2
    limits: { cpu_weight: 50, cpuset: "0", io: { /: { read_bytes: 100M } } }
    limits_total: { memory: 300M, pids: 40 }
"#;

#[test]
fn ceilings_hold_for_all_workers_of_a_service_and_of_the_application() {
    let Some(user) = limited_user() else { return };
    let app = App::yaml(CEILINGS, user);
    app.up();
    let unenforced = app.service("api")["unenforced"].to_string();
    assert!(unenforced == "[]" || matches!(user, User::Ordinary), "{unenforced}");
    let output = wait("both have said where they may run", || {
        let output = app.ok(&["logs", "api"]);
        if output.matches("cpus=").count() == 2 { Ok(output) } else { Err(output) }
    });
    if !unenforced.contains("cpuset") {
        assert_eq!(output.matches("\"cpus=0\"").count(), 2, "{output}");
    }
    let cgroups = app.ok(&["inspect", "api"]);
    let dirs: Vec<&Path> = cgroups
        .lines()
        .filter_map(|line| line.trim().strip_prefix("cgroup "))
        .map(|dir| Path::new(dir.trim()))
        .collect();
    let read = |levels: usize, names: &[&str]| {
        let found = dirs
            .iter()
            .filter_map(|dir| dir.ancestors().nth(levels))
            .flat_map(|dir| names.iter().filter_map(move |name| fs::read_to_string(dir.join(name)).ok()));
        found.map(|text| text.trim().to_owned()).next().unwrap_or_default()
    };
    assert_eq!(read(1, &["memory.max", "memory.limit_in_bytes"]), (300 << 20).to_string(), "{cgroups}");
    assert_eq!(read(1, &["pids.max"]), "40");
    assert_eq!(read(2, &["pids.max"]), "60");
    let weight = read(0, &["cpu.weight", "cpu.shares"]);
    assert!(weight == "50" || weight == "512", "{weight}");
    // Managers of users have no disks to give on, as systemd sets them up.
    let bound = read(0, &["io.max", "blkio.throttle.read_bps_device"]);
    assert!(
        bound.contains(&(100 << 20).to_string()) || unenforced.contains("controller io"),
        "{bound}: {unenforced}"
    );
    app.down();
}

/// Wants 21 processes, and has as many as it may.
const CROWD: &str = r#"
services:
  crowd:
    command:
      - python3
      - -c
      - |
        import os, time
        for n in range(20):
            try:
                os.fork() or time.sleep(1000)
            except OSError:
                pass
        time.sleep(1000)
    listen: none
    limits: { pids: 10 }
"#;

/// What the kernel says of the processes of `crowd`, at each level, and watt of what is not enforced.
fn processes_of(app: &App) -> String {
    let inspect = app.ok(&["inspect", "crowd"]);
    let dirs = inspect.lines().filter_map(|line| line.trim().strip_prefix("cgroup "));
    let levels = dirs.flat_map(|dir| Path::new(dir.trim()).ancestors().take(3));
    let read = |dir: &Path| {
        let files =
            ["pids.max", "pids.current", "pids.events"].map(|name| fs::read_to_string(dir.join(name)));
        format!("{}: {files:?}\n", dir.display())
    };
    levels.map(read).collect::<String>() + &inspect
}

#[test]
fn a_refused_fork_says_whose_limit_of_processes_it_was() {
    let Some(user) = limited_user() else { return };
    for (limits, level, text) in [
        ("limits_total: { pids: 10 }", "service", ", that of all workers of the service"),
        ("\nlimits: { pids: 10 }", "application", ", that of the application"),
    ] {
        let app = App::yaml(&CROWD.replace("limits: { pids: 10 }", limits), user);
        app.up();
        let told = wait("the event has come", || {
            let events = app.ok(&["events", "--json"]);
            let parsed = events.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            parsed
                .into_iter()
                .find(|event| event["kind"] == "pids_limit")
                .ok_or_else(|| format!("{events}{}", processes_of(&app)))
        });
        assert_eq!((&told["data"]["level"], &told["data"]["limit"]), (&level.into(), &10.into()), "{told}");
        assert_eq!(told["text"], format!("met the limit of 10 processes and threads{text}"), "{told}");
        app.down();
    }
}

#[test]
fn that_a_limit_of_processes_was_met_is_no_news_to_a_successor() {
    let Some(user) = limited_user() else { return };
    let app = App::yaml(CROWD, user);
    app.up();
    let told = "crowd/0  met its limit of 10 processes and threads\n";
    wait("the event has come", || {
        let events = app.ok(&["events"]);
        if events.contains(told) { Ok(()) } else { Err(events + &processes_of(&app)) }
    });
    let daemon = app.status()["supervisor"]["daemon_pid"].as_u64().and_then(|pid| pid.try_into().ok());
    kill("KILL", daemon.expect("a pid"));
    wait("a new daemon answers", || match app.status()["supervisor"]["daemon_restarts"].clone() {
        restarts if restarts == 1 => Ok(()),
        restarts => Err(restarts.to_string()),
    });
    // When a run ends, its count is looked at once more.
    app.ok(&["stop", "crowd"]);
    let events = app.ok(&["events"]);
    assert!(events.contains("crowd/0") && !events.contains(told), "{events}");
    app.down();
}

#[test]
fn limits_change_in_place_and_stay_over_the_death_of_the_daemon() {
    let Some(user) = limited_user() else { return };
    let app = App::case("", user);
    app.write(
        "watt.yaml",
        &HOG.replace("services/hog.py", "services/web.py").replace("listen: none", "listen: auto"),
    );
    app.up();
    let pid = app.pid("hog", 0);
    let changed = app.ok(&["limits", "set", "hog", "memory=64M", "pids=30", "cpu=50%"]);
    assert!(changed.contains("hog, each worker: cpu=0.5 memory=64M pids=30\n"), "{changed}");
    assert!(changed.contains("until the next `wattctl up`"), "{changed}");
    let changed = app.ok(&["limits", "set", "hog", "--total", "pids=40"]);
    assert!(changed.contains("hog, all workers: pids=40\n"), "{changed}");
    let inspect = app.ok(&["inspect", "hog"]);
    let has = |levels: usize, name: &str, expected: &str| {
        let dirs = inspect.lines().filter_map(|line| line.trim().strip_prefix("cgroup "));
        let texts = dirs.filter_map(|dir| {
            fs::read_to_string(Path::new(dir.trim()).ancestors().nth(levels)?.join(name)).ok()
        });
        texts.map(|text| text.trim().to_owned()).any(|text| text == expected)
    };
    assert!(has(0, "memory.max", "67108864") || has(0, "memory.limit_in_bytes", "67108864"), "{inspect}");
    assert!(has(0, "cpu.max", "50000 100000") || has(0, "cpu.cfs_quota_us", "50000"), "{inspect}");
    assert!(has(0, "pids.max", "30") && has(1, "pids.max", "40"), "{inspect}");

    let limits = |app: &App| -> Value { serde_json::from_str(&app.ok(&["limits", "--json"])).expect("JSON") };
    let of = |limits: &Value, worker: Value| {
        let groups = limits["groups"].as_array().cloned().unwrap_or_default();
        let found = groups.into_iter().find(|group| group["service"] == "hog" && group["worker"] == worker);
        found.unwrap_or_default()
    };
    let shown = limits(&app);
    assert_eq!(of(&shown, 0.into())["limits"]["memory"], "64M", "{shown}");
    assert!(of(&shown, 0.into())["memory"].as_u64() > Some(0), "{shown}");
    let all = &shown["groups"][0];
    let pids = [&of(&shown, 0.into()), &of(&shown, Value::Null), all]
        .map(|group| group["pids"].as_u64().unwrap_or(0));
    assert!(pids[0] > 0 && pids[0] == pids[1] && pids[1] < pids[2], "{shown}");

    let refused = app.run(&["limits", "set", "hog", "pids=50"]);
    assert!(!refused.status.success(), "{}", watt_tests::printed(&refused));
    assert!(watt_tests::printed(&refused).contains("`pids` of"), "{}", watt_tests::printed(&refused));

    let told = app.ok(&["events"]);
    assert!(told.contains("limits changed: cpu=50% memory=64M pids=30"), "{told}");

    let daemon = app.status()["supervisor"]["daemon_pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    watt_tests::kill("KILL", daemon.expect("a daemon"));
    let shown = limits(&app);
    assert_eq!(of(&shown, 0.into())["limits"]["memory"], "64M", "{shown}");
    assert_eq!(of(&shown, Value::Null)["limits"]["pids"], "40", "{shown}");
    assert_eq!(app.pid("hog", 0), pid);
    let changed = app.ok(&["limits", "set", "hog", "memory=none", "pids=none", "cpu=none"]);
    assert!(changed.contains("hog, each worker: no limits\n"), "{changed}");
    assert!(has(0, "pids.max", "max"), "{inspect}");
    app.down();
}

/// A process in a frozen cgroup does not come as far as its program, and the spawner would wait for it for as long.
#[test]
fn a_frozen_service_does_not_start_and_holds_nobody_up() {
    let Some(user) = limited_user() else { return };
    let app = App::case("", user);
    app.write(
        "watt.yaml",
        &HOG.replace("services/hog.py", "services/web.py").replace("listen: none", "workers: 2"),
    );
    app.up();
    let inspect = app.ok(&["inspect", "hog"]);
    let dirs = inspect.lines().filter_map(|line| line.trim().strip_prefix("cgroup "));
    let services = dirs.filter_map(|dir| Path::new(dir.trim()).parent());
    let freeze = services.map(|dir| dir.join("cgroup.freeze")).find(|file| file.exists());
    let freeze = freeze.unwrap_or_else(|| panic!("no cgroup v2 in {inspect}"));
    fs::write(&freeze, "1").expect("it is ours");
    kill("KILL", app.pid("hog", 0));
    let refused = format!("exec: cgroup {} is frozen", freeze.parent().expect("a folder").display());
    wait("the start is refused", || match app.worker("hog", 0)["last_exit"]["text"].clone() {
        text if text == refused.as_str() => Ok(()),
        text => Err(text.to_string()),
    });
    app.ok(&["restart", "neighbour"]);
    assert_eq!(app.get("/").0, 200);
    fs::write(&freeze, "0").expect("it is ours");
    app.run(&["start", "hog"]);
    wait("it runs again", || match app.worker("hog", 0) {
        worker if worker["state"] == "ready" => Ok(()),
        worker => Err(worker.to_string()),
    });
    app.down();
}

/// So little that each gets as much on a host that is very busy, too, and has to wait.
#[test]
fn a_worker_that_is_slowed_down_by_its_limit_is_an_event() {
    let Some(user) = limited_user() else { return };
    let app = App::yaml(
        r#"
services:
  spin:
    command: [sh, -c, "while :; do :; done"]
    listen: none
    limits: { cpu: 1% }
  later:
    command: [sh, -c, "while :; do :; done"]
    listen: none
"#,
        user,
    );
    app.up();
    // A limit that comes while it runs is watched as one that was there.
    app.ok(&["limits", "set", "later", "cpu=1%"]);
    wait("it was told", || match app.ok(&["events"]) {
        events if events.contains("spin/0  slowed down: its cpu limit made it wait for ") => {
            assert!(events.contains(" periods, within 5s\n") && !events.contains("of 0 periods"), "{events}");
            Ok(())
        }
        events => Err(events),
    });
    wait("so was the other", || match app.ok(&["events"]) {
        events if events.contains("later/0  slowed down: its cpu limit made it wait for ") => Ok(()),
        events => Err(events),
    });
    let limits = app.ok(&["limits"]);
    assert!(limits.contains("cpu=0.01") && limits.contains("cpu "), "{limits}");
    app.down();
}

#[test]
fn what_an_ordinary_user_cannot_have_enforced_is_named() {
    let app = App::case("", User::Ordinary);
    app.write(
        "watt.yaml",
        &HOG.replace("services/hog.py", "services/web.py")
            .replace("listen: none", "listen: auto\n    sandbox: off"),
    );
    let output = app.run(&["up", "-d"]);
    assert!(output.status.success(), "{}", watt_tests::printed(&output));
    let unenforced = app.service("hog")["unenforced"].clone();
    let delegated = unenforced.as_array().is_some_and(Vec::is_empty);
    if !delegated {
        assert!(unenforced.to_string().contains("memory"), "{unenforced}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("memory"),
            "{}",
            watt_tests::printed(&output)
        );
    }
    app.down();
}

#[test]
fn resource_limits_reach_the_program() {
    watt_tests::for_each_user(|user| {
        let app = App::yaml(
            r#"
services:
  limits:
    command: [sh, -c, "ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -f; umask; exec sleep 1000"]
    listen: none
    limits: { nofile: { soft: 100, hard: 200 }, core: 0, fsize: 1M }
"#,
            user,
        );
        app.up();
        let lines = wait("its output is there", || {
            let output = app.ok(&["logs", "limits", "--json"]);
            if output.lines().count() >= 5 { Ok(output) } else { Err(output) }
        });
        let texts: Vec<String> = lines
            .lines()
            .map(|line| {
                serde_json::from_str::<Value>(line).expect("JSON")["text"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect();
        // `ulimit -f` counts in blocks of 512 bytes (POSIX).
        assert_eq!(texts, ["100", "200", "0", "2048", "0027"], "{user:?}");
        app.down();
    });
}

/// The cgroup of a process in the v1 hierarchy for CPUs, where there is one that we can write to.
fn cpuset_of(pid: u32) -> Option<std::path::PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let of = text.lines().find_map(|line| line.split_once(":cpuset:/"))?.1.to_owned();
    let dir = Path::new("/sys/fs/cgroup/cpuset").join(of);
    dir.join("cgroup.procs").exists().then_some(dir)
}

#[test]
fn a_successor_ends_a_move_that_its_predecessor_began() {
    let Some(before) = cpuset_of(std::process::id()).filter(|_| is_root()) else {
        return eprintln!("skipped: there is no cgroup v1 for CPUs here");
    };
    let app = App::yaml("services:\n  api: { command: sleep 1000, listen: none }\n", User::Root);
    app.up();
    let pid = app.pid("api", 0);
    assert_eq!(cpuset_of(pid).as_ref(), Some(&before), "nothing needs it yet");
    app.ok(&["limits", "set", "api", "cpuset=0"]);
    let after = cpuset_of(pid).expect("it is in one");
    assert!(after.ends_with("app/api/0"), "{}", after.display());

    // The same as when the daemon had died between the plan and the move.
    fs::write(before.join("cgroup.procs"), pid.to_string()).expect("it goes back to where it was");
    let daemon = app.status()["supervisor"]["daemon_pid"].as_u64().and_then(|pid| pid.try_into().ok());
    kill("KILL", daemon.expect("a pid"));
    wait("it is where its limit is", || match cpuset_of(pid) {
        dir if dir.as_ref() == Some(&after) => Ok(()),
        dir => Err(format!("{dir:?}")),
    });
    assert_eq!(app.pid("api", 0), pid);
    app.down();
}
