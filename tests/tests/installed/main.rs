//! The Debian package, installed on a system that systemd runs: the promises of docs/systemd.md, one by one.
//!
//! For the machines of the test `vm` only, as root: it installs, restarts and purges what the system has.

mod unit;

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::Value;
use watt_tests::{kill, printed, wait};

use unit::{Manager, Unit, install, ok, pid};

#[test]
#[ignore = "for the machines of the test `vm`"]
fn it_is_started_serves_drains_and_stops_without_a_trace() {
    install();
    let unit = Unit::new("shop", 18001, "");
    unit.start();
    unit.serves();
    let said = unit.property("StatusText");
    assert!(said.contains("ready"), "{said}");
    let cgroup = unit.property("ControlGroup");
    assert!(
        fs::read_to_string(format!("/proc/{}/cgroup", unit.worker())).expect("it runs").contains(&cgroup)
    );

    // What a client has asked for is answered before its service goes.
    let asked = thread::scope(|scope| {
        let asked = scope.spawn(|| unit.get("/slow/5"));
        wait("the request is with the service", || {
            let status = unit.status().to_string();
            if status.contains("\"in_flight\":1") { Ok(()) } else { Err(status) }
        });
        unit.order(&["stop"]);
        asked.join().expect("it does not panic")
    });
    assert_eq!(asked.expect("an answer").0, 200);
    unit.is_gone(&cgroup);
}

#[test]
#[ignore = "for the machines of the test `vm`"]
fn connections_that_are_made_during_a_restart_wait_for_it() {
    let unit = Unit::new("waits", 18002, "");
    unit.start();
    let (first, spawner) = (unit.serves(), unit.role("spawner_pid"));
    let is_done = AtomicBool::new(false);
    let answered = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let mut answered = 0;
            while !is_done.load(Ordering::Relaxed) {
                let (status, body) = unit.get("/").expect("every connection is answered");
                assert_eq!(status, 200, "{body}");
                answered += 1;
            }
            answered
        });
        unit.order(&["restart"]);
        unit.serves();
        is_done.store(true, Ordering::Relaxed);
        client.join().expect("no request failed")
    });
    assert!(answered > 0);
    assert_ne!(unit.role("spawner_pid"), spawner);
    assert_ne!(unit.worker(), first);
    // Asked for, it is no failure.
    assert_eq!(unit.property("NRestarts"), "0");
}

#[test]
#[ignore = "for the machines of the test `vm`"]
fn a_killed_daemon_or_proxy_is_no_business_of_systemds() {
    let unit = Unit::new("roles", 18004, "");
    unit.start();
    let (worker, spawner) = (unit.serves(), unit.role("spawner_pid"));
    for role in ["daemon_pid", "proxy_pid"] {
        let killed = unit.role(role);
        kill("KILL", killed);
        wait(&format!("there is another {role}"), || match pid(&unit.status()["supervisor"][role]) {
            Some(new) if new != killed => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(unit.serves(), worker, "after the death of {role}");
    }
    assert_eq!((unit.role("spawner_pid"), &*unit.property("NRestarts")), (spawner, "0"));
    assert_eq!(unit.property("ActiveState"), "active");
}

#[test]
#[ignore = "for the machines of the test `vm`"]
fn a_daemon_that_hangs_is_replaced_and_nobody_else_notices() {
    let unit = Unit::new("hangs", 18005, "");
    unit.start();
    let (worker, daemon) = (unit.serves(), unit.role("daemon_pid"));
    kill("STOP", daemon);
    let hung = || fs::exists(format!("/proc/{daemon}")).expect("/proc is mounted");
    // It is given 30 seconds, and then some.
    wait("it was killed", || if hung() { Err(daemon.to_string()) } else { Ok(()) });
    wait("there is another one", || match pid(&unit.status()["supervisor"]["daemon_pid"]) {
        Some(new) if new != daemon => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(unit.serves(), worker);
    assert_eq!(unit.property("NRestarts"), "0");
}

/// Nothing is timed by the clock on the wall: what runs goes on, a worker that crashes is started anew, and a daemon is neither taken for one that
/// hangs nor late with what it knows of its predecessor.
#[test]
#[ignore = "for the machines of the test `vm`"]
fn a_clock_that_is_set_forward_and_back_changes_nothing() {
    let unit = Unit::new("clock", 18017, "");
    unit.start();
    let (worker, daemon) = (unit.serves(), unit.role("daemon_pid"));
    for jump in ["+1 day", "-2 days", "+1 day"] {
        ok("date", &["-s", jump]);
        assert_eq!(unit.serves(), worker, "after {jump}");
    }
    assert_eq!(unit.role("daemon_pid"), daemon);
    ok("date", &["-s", "-1 hour"]);
    kill("KILL", worker);
    wait("it is started anew", || match unit.get("/") {
        Ok((200, _)) if unit.worker() != worker => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let worker = unit.worker();
    ok("date", &["-s", "+2 hours"]);
    kill("KILL", daemon);
    wait("there is another daemon", || match pid(&unit.status()["supervisor"]["daemon_pid"]) {
        Some(new) if new != daemon => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(unit.serves(), worker);
    ok("date", &["-s", "-1 hour"]);
    assert_eq!(unit.property("NRestarts"), "0");
}

#[test]
#[ignore = "for the machines of the test `vm`"]
fn a_killed_spawner_is_a_clean_new_start() {
    let unit = Unit::new("spawner", 18006, "");
    unit.start();
    let (worker, spawner) = (unit.serves(), unit.role("spawner_pid"));
    assert_eq!(unit.property("MainPID"), spawner.to_string());
    kill("KILL", spawner);
    unit.becomes("NRestarts", "1");
    unit.becomes("ActiveState", "active");
    let new = unit.serves();
    assert!(new != worker && !fs::exists(format!("/proc/{worker}")).expect("/proc is mounted"));
    assert_ne!(unit.role("spawner_pid"), spawner);
}

#[test]
#[ignore = "for the machines of the test `vm`"]
fn a_spawner_that_hangs_is_restarted_by_the_watchdog() {
    let unit = Unit::new("watchdog", 18007, "");
    unit.drop_in("[Service]\nWatchdogSec=10\n");
    unit.start();
    let (worker, spawner) = (unit.serves(), unit.role("spawner_pid"));
    kill("STOP", spawner);
    unit.becomes("NRestarts", "1");
    unit.becomes("ActiveState", "active");
    assert_ne!(unit.serves(), worker);
}

#[test]
#[ignore = "for the machines of the test `vm`"]
fn systemctl_kill_ends_it_by_a_signal_to_stop_and_starts_it_again_after_any_other() {
    let unit = Unit::new("kill", 18008, "");
    unit.start();
    unit.serves();
    for (restarts, whom) in ["main", "all"].into_iter().enumerate() {
        let before = unit.role("spawner_pid");
        unit.order(&["kill", "--signal=KILL", &format!("--kill-whom={whom}")]);
        unit.becomes("NRestarts", &(restarts + 1).to_string());
        unit.becomes("ActiveState", "active");
        unit.serves();
        assert_ne!(unit.role("spawner_pid"), before, "{whom}");
    }
    for whom in ["main", "all"] {
        let cgroup = unit.property("ControlGroup");
        unit.order(&["kill", "--signal=TERM", &format!("--kill-whom={whom}")]);
        unit.is_gone(&cgroup);
        unit.start();
        unit.serves();
    }
}

#[test]
#[ignore = "for the machines of the test `vm`"]
fn it_comes_back_after_a_reboot() {
    let unit = Unit::new("reboots", 18009, "");
    if std::env::var_os("WATT_VM_RESTARTED").is_none() {
        unit.order(&["enable", "--now"]);
        unit.serves();
        // See tests/vm/inside.
        fs::write("/var/lib/vm/restart", "").expect("root may");
        ok("systemctl", &["reboot"]);
        loop {
            thread::park();
        }
    }
    unit.becomes("ActiveState", "active");
    unit.serves();
    assert_eq!(unit.property("NRestarts"), "0");
}

#[test]
#[ignore = "for the machines of the test `vm`"]
fn a_service_that_takes_too_much_memory_is_in_the_journal_with_numbers() {
    let more = "  hog:
    command: [python3, -c, 'x = b\"x\" * (200 << 20)']
    listen: none
    restart: never
    limits: { memory: 48M }
";
    let unit = Unit::new("hungry", 18010, more);
    unit.start();
    let worker = unit.serves();
    let killed = wait("the journal has it", || {
        let found = unit.journal(&["WATT_SERVICE=hog", "WATT_EVENT=oom"]);
        found.into_iter().next().ok_or_else(|| format!("{:?}", unit.journal(&["WATT_SERVICE=hog"])))
    });
    let message = killed["MESSAGE"].as_str().unwrap_or_default();
    assert!(message.contains("48"), "{killed}");
    assert_eq!(killed["WATT_APP"], "hungry", "{killed}");
    assert_eq!(unit.worker(), worker);
    assert_eq!(unit.property("ActiveState"), "active");
}

#[test]
#[ignore = "for the machines of the test `vm`"]
fn a_credential_of_the_unit_is_a_secret_of_a_service() {
    let more = "    secrets: [password]
  shows:
    command: [sh, -c, 'cat $CREDENTIALS_DIRECTORY/password; sleep 1000']
    listen: none
    secrets: [password]
secrets: { password: { credential: password } }
";
    let unit = Unit::new("secret", 18011, more);
    fs::write(unit.dir().join("credential"), "open sesame\n").expect("root may");
    unit.drop_in(&format!("[Service]\nLoadCredential=password:{}/credential\n", unit.dir().display()));
    unit.start();
    unit.serves();
    wait("the service has said it", || {
        let said = unit.journal(&["WATT_SERVICE=shows"]);
        if said.iter().any(|line| line["MESSAGE"] == "open sesame") {
            Ok(())
        } else {
            Err(format!("{said:?}"))
        }
    });
}

#[test]
#[ignore = "for the machines of the test `vm`"]
fn a_reload_takes_over_what_is_right_and_refuses_what_is_wrong() {
    let unit = Unit::new("reloads", 18003, "    env: { COLOUR: red }\n");
    unit.start();
    let colour = || {
        let (_, body) = unit.get("/env").expect("it answers");
        serde_json::from_str::<Value>(&body).expect("JSON")["COLOUR"].clone()
    };
    unit.serves();
    assert_eq!(colour(), "red");
    let spawner = unit.role("spawner_pid");
    unit.configure("    env: { COLOUR: blue }\n");
    unit.order(&["reload"]);
    let worker = unit.serves();
    assert_eq!(colour(), "blue");

    unit.configure("    env: { COLOUR: green }\n    wrong: true\n");
    let refused = unit.systemctl(&["reload"]);
    assert!(!refused.status.success(), "{}", printed(&refused));
    assert_eq!(unit.property("ActiveState"), "active");
    assert_eq!((unit.serves(), colour()), (worker, "blue".into()));
    assert_eq!(unit.role("spawner_pid"), spawner);
    assert_eq!(unit.property("NRestarts"), "0");
}

#[test]
#[ignore = "for the machines of the test `vm`"]
fn a_restart_after_a_reload_that_moved_the_gateway_is_none_that_fails() {
    let mut unit = Unit::new("moves", 18014, "");
    unit.start();
    unit.serves();
    let stored = unit.property("NFileDescriptorStore");
    assert_ne!(stored, "0");
    // To another port, and to another address of the same one.
    unit.port = 18015;
    unit.configure("");
    unit.order(&["reload"]);
    unit.serves();
    unit.configure_at("127.0.0.1", "");
    unit.order(&["reload"]);
    unit.serves();
    unit.becomes("NFileDescriptorStore", &stored);
    for hostname in ["127.0.0.1", "0.0.0.0"] {
        unit.configure_at(hostname, "");
        unit.order(&["restart"]);
        unit.serves();
        assert_eq!(unit.property("NRestarts"), "0", "{hostname}");
        unit.becomes("NFileDescriptorStore", &stored);
    }
}

#[test]
#[ignore = "for the machines of the test `vm`"]
fn the_unit_is_reloading_until_the_new_configuration_is_what_runs() {
    let unit = Unit::new("hangup", 18016, "");
    unit.start();
    unit.serves();
    let hold = unit.dir().join("hold");
    let configure = |colour: &str| {
        unit.configure(&format!("    env: {{ COLOUR: {colour} }}\n"));
        let file = unit.dir().join("watt.yaml");
        let text = fs::read_to_string(&file).expect("it was written");
        let held = "[sh, -c, 'while [ -e hold ]; do sleep 0.1; done; exec python3 -B web.py']";
        fs::write(file, text.replace("python3 -B web.py", held)).expect("root may");
    };
    let hang_up = || unit.order(&["kill", "--kill-whom=main", "--signal=HUP"]);
    let colour = || {
        let (_, body) = unit.get("/env").expect("it answers");
        serde_json::from_str::<Value>(&body).expect("JSON")["COLOUR"].clone()
    };
    fs::write(&hold, "").expect("root may");
    configure("red");
    hang_up();
    unit.becomes("ActiveState", "reloading");
    fs::remove_file(&hold).expect("it is there");
    unit.becomes("ActiveState", "active");
    assert_eq!(colour(), "red");

    unit.configure("    wrong: true\n");
    hang_up();
    wait("the status says what was refused", || match unit.property("StatusText") {
        said if said.contains("reload refused: ") => Ok(()),
        said => Err(said),
    });
    unit.becomes("ActiveState", "active");
    assert_eq!(colour(), "red");
    assert!(
        !unit.journal(&["MESSAGE_ID=1a48f41d7d574229bdd3553d2d6d0a28"]).is_empty(),
        "that is in the journal"
    );

    // Where systemd asks by the signal itself (Type=notify-reload of systemd 253), it waits for the same.
    let version = ok("systemctl", &["--version"]);
    let number: u32 =
        version.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number");
    if number >= 253 {
        configure("red");
        unit.drop_in("[Service]\nType=notify-reload\nExecReload=\n");
        unit.order(&["restart"]);
        unit.serves();
        configure("blue");
        unit.order(&["reload"]);
        assert_eq!((colour(), &*unit.property("ActiveState")), ("blue".into(), "active"));
    }
}

#[test]
#[ignore = "for the machines of the test `vm`"]
fn an_ordinary_user_has_units_as_well() {
    let unit = Unit::of(Manager::User, "own", 18012, "    limits: { memory: 64M, pids: 30 }\n");
    unit.start();
    let (worker, spawner) = (unit.serves(), unit.role("spawner_pid"));
    let web = unit.web();
    assert!(!web["unenforced"].to_string().contains("memory"), "{web}");
    kill("KILL", unit.role("daemon_pid"));
    wait("there is another daemon", || match &unit.status()["supervisor"]["daemon_restarts"] {
        restarts if *restarts == 1 => Ok(()),
        restarts => Err(restarts.to_string()),
    });
    assert_eq!(unit.serves(), worker);
    kill("KILL", spawner);
    unit.becomes("NRestarts", "1");
    unit.serves();
    let cgroup = unit.property("ControlGroup");
    unit.order(&["stop"]);
    unit.is_gone(&cgroup);
}

#[test]
#[ignore = "for the machines of the test `vm`"]
fn an_upgrade_leaves_what_runs_alone_and_a_purge_leaves_nothing() {
    install();
    let unit = Unit::new("upgraded", 18013, "");
    unit.start();
    let (worker, spawner) = (unit.serves(), unit.role("spawner_pid"));
    install();
    assert_eq!((unit.serves(), unit.role("spawner_pid")), (worker, spawner));
    assert_eq!(unit.property("NRestarts"), "0");

    let cgroup = unit.property("ControlGroup");
    let files = ok("dpkg", &["--listfiles", "watt"]);
    ok("dpkg", &["--remove", "watt"]);
    wait("what ran has ended", || match Path::new("/sys/fs/cgroup").join(cgroup.trim_start_matches('/')) {
        left if left.exists() => Err(left.display().to_string()),
        _ => Ok(()),
    });
    assert!(unit.dir().exists(), "the configuration is the operator's");
    fs::remove_dir_all(unit.dir()).expect("root may");
    ok("dpkg", &["--purge", "watt"]);
    let ours = files.lines().filter(|file| file.contains("watt") && Path::new(file).exists());
    let left: Vec<&str> = ours
        .chain(["/var/lib/watt", "/run/watt", "/etc/watt"])
        .filter(|file| Path::new(file).exists())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
