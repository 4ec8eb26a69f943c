//! Too few open files are allowed: what fails says so, what runs is not lost.

use std::{fs, process::Stdio};

use watt_tests::{App, User, for_each_user, printed, wait, wattctl};

#[test]
fn what_finds_no_room_says_so_and_the_rest_runs() {
    for_each_user(|user| {
        let mut text = "services:\n".to_owned();
        for number in 0..60 {
            text += &format!(
                "  s{number}: {{ command: sleep 1000, listen: none, restart: {{ give_up: {{ failures: 2, within: 1m }} }} }}\n"
            );
        }
        let app = App::yaml(&text, user);
        let up = app.command("sh").args(["-c", "ulimit -n 300; exec \"$0\" up -d"]).arg(wattctl()).output();
        let up = up.expect("sh runs");
        assert_eq!(up.status.code(), Some(1), "{user:?}: {}", printed(&up));
        let said = String::from_utf8_lossy(&up.stderr);
        assert!(said.contains("Too many open files"), "{user:?}: {said}");
        let ready = app.status().to_string().matches("\"state\":\"ready\"").count();
        assert!(ready > 0, "{user:?}: nothing runs");
        app.down();
    });
}

#[test]
fn a_process_whose_descriptors_found_no_room_is_asked_for_again() {
    let app = App::yaml(
        r#"
services:
  second:
    command: [sh, -c, "[ -e tried ] || { touch tried; exit 1; }; echo here; exec sleep 1000"]
    listen: none
    ready: { log: here, timeout: 1h }
    restart: { backoff: { first: 8s } }
"#,
        User::Ordinary,
    );
    // It asks nothing meanwhile, for which the daemon would need a descriptor.
    let mut up = app.wattctl(&["up", "-d", "--json"]).stdout(Stdio::null()).spawn().expect("wattctl runs");
    // Nor does the test: a connection that ends would leave a descriptor free.
    let log = app.dir.with_file_name("state").join("app/logs/watt.log");
    wait("it has failed once", || match fs::read_to_string(&log).unwrap_or_default() {
        text if text.contains("\"state\":\"backoff\"") => Ok(()),
        text => Err(text),
    });
    let info = fs::read(app.runtime().join("info.json")).expect("what is known of the application");
    let info: serde_json::Value = serde_json::from_slice(&info).expect("JSON");
    let pid = info["daemon_pid"].to_string();
    // What the ended one had is closed when all of it has been read.
    let mut seen = (Vec::new(), 0);
    wait("nothing is opened or closed any more", || {
        let now = open(&pid);
        seen = if now == seen.0 { (now, seen.1 + 1) } else { (now, 0) };
        if seen.1 == 20 { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    // For the request with two descriptors, and not for the answer with three.
    let limit = limit_with_room(&pid, 2);
    let set = |limit: &str| {
        let set = app.command("prlimit").args(["--pid", &pid, &format!("--nofile={limit}:")]).output();
        let set = set.expect("prlimit runs");
        assert!(set.status.success(), "{}", printed(&set));
    };
    let before = soft_limit(&pid);
    set(&limit.to_string());
    wait("the loss is told", || match fs::read_to_string(&log).unwrap_or_default() {
        text if text.contains("asked for again") => Ok(()),
        text => Err(text),
    });
    set(&before);
    let code = wait("it is up", || up.try_wait().expect("it is ours").ok_or_else(String::new)).code();
    assert_eq!(code, Some(0));
    assert_eq!(app.worker("second", 0)["restarts"], 1, "the lost one is the one that runs");
    app.down();
}

/// The numbers of a process's descriptors.
fn open(pid: &str) -> Vec<usize> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives").flatten();
    let mut numbers: Vec<usize> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// The limit with which a process can open so many files more: it bounds numbers, and takes the lowest free ones.
fn limit_with_room(pid: &str, room: usize) -> usize {
    let numbers = open(pid);
    let free = (0..).filter(|number| !numbers.contains(number));
    free.take(room).last().expect("there are as many numbers as one likes") + 1
}

fn soft_limit(pid: &str) -> String {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("it lives");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("it is limited");
    line.split_whitespace().nth(3).expect("a number").to_owned()
}
