//! What is left of a service after its stop: nothing.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::PathBuf,
    process::{Child, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use watt_tests::{App, for_each_user, kill, printed, wait, wattctl};

fn stubborn(argument: &str) -> String {
    format!(
        r#"
services:
  stubborn:
    command: python3 services/stubborn.py {argument}
    listen: none
    ready: {{ log: ready }}
    restart: never
    stop: {{ drain: 0s, grace: 300ms }}
"#
    )
}

#[test]
fn a_service_that_forks_detaches_and_ignores_signals_leaves_nothing() {
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("watt.yaml", &stubborn(""));
        app.up();
        wait("its five processes run", || {
            let found =
                app.processes().into_iter().filter(|(_, command)| command.contains("stubborn.py")).count();
            if found >= 4 { Ok(()) } else { Err(format!("{:?}", app.processes())) }
        });
        app.ok(&["stop", "stubborn"]);
        let left: Vec<_> =
            app.processes().into_iter().filter(|(_, command)| command.contains("stubborn.py")).collect();
        assert!(left.is_empty(), "{user:?}: {left:?}");
        assert_eq!(app.service("stubborn")["state"], "down");
        app.down();
    });
}

#[test]
fn what_a_main_process_leaves_behind_is_ended_too() {
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("watt.yaml", &stubborn("leave").replace("ready: { log: ready }", "ready: started"));
        app.run(&["up", "-d"]);
        wait("the service has completed and left nothing", || {
            let left: Vec<_> =
                app.processes().into_iter().filter(|(_, command)| command.contains("stubborn.py")).collect();
            let state = app.service("stubborn")["state"].clone();
            if left.is_empty() && state == "completed" { Ok(()) } else { Err(format!("{state} {left:?}")) }
        });
        app.down();
    });
}

/// A process that is suspended takes no signal but SIGCONT, which therefore follows each of a stop's.
#[test]
fn what_is_suspended_is_woken_to_end_well() {
    let suspended = r#"
services:
  asleep:
    command:
      - bash
      - -c
      - |
        (trap 'touch rest; exit' TERM; echo $BASHPID > pid; while :; do sleep 0.05; done) &
        trap 'touch main; exit' TERM; while :; do sleep 0.05; done
    listen: none
    stop: { grace: 30s }
"#;
    for_each_user(|user| {
        let app = App::yaml(suspended, user);
        app.up();
        let rest: u32 = wait("its child runs", || {
            let pid = fs::read_to_string(app.dir.join("pid")).unwrap_or_default();
            pid.trim().parse().map_err(|_| pid)
        });
        kill("STOP", app.pid("asleep", 0));
        kill("STOP", rest);
        app.ok(&["stop", "asleep"]);
        for ended_well in ["main", "rest"] {
            assert!(app.dir.join(ended_well).exists(), "{user:?}: {ended_well} was killed");
        }
        app.down();
    });
}

/// As long as it is there, every daemon of this application dies as soon as it has taken over.
struct NoDaemon {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    fault: PathBuf,
}

impl NoDaemon {
    fn begin(app: &App) -> NoDaemon {
        let (is_over, fault) = (Arc::<AtomicBool>::default(), app.dir.join("faults/daemon.taking_over"));
        let pid = app.status()["supervisor"]["daemon_pid"].as_u64().and_then(|pid| pid.try_into().ok());
        let thread = std::thread::spawn({
            let (is_over, fault) = (is_over.clone(), fault.clone());
            move || {
                while !is_over.load(Ordering::Relaxed) {
                    fs::write(&fault, "").expect("the folder is there");
                    std::thread::park_timeout(Duration::from_millis(1));
                }
            }
        });
        wait("the next one will die", || if fault.exists() { Ok(()) } else { Err("not yet".to_owned()) });
        kill("KILL", pid.expect("a pid"));
        NoDaemon { is_over, thread: Some(thread), fault }
    }
}

impl Drop for NoDaemon {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
        let _ = fs::remove_file(&self.fault);
    }
}

/// Sends Ctrl-C until a command has ended.
fn interrupt(command: &mut Child) -> std::process::ExitStatus {
    wait("it ends at Ctrl-C", || {
        kill("INT", command.id());
        command.try_wait().expect("it is ours").ok_or_else(|| "it runs".to_owned())
    })
}

#[test]
fn an_application_whose_daemon_cannot_start_can_be_stopped() {
    for_each_user(|user| {
        let app = App::yaml("services: { sleeper: { command: sleep 1000, listen: none } }\n", user);
        app.write("faults/.keep", "");
        fs::set_permissions(app.dir.join("faults"), fs::Permissions::from_mode(0o777)).expect("it is ours");
        let mut up = app.wattctl(&["up"]);
        up.env("WATT_FAULTS", app.dir.join("faults")).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut up = up.spawn().expect("wattctl runs");
        wait("it is ready", || match app.run(&["status", "--json"]) {
            output if output.status.success() && app.worker("sleeper", 0)["state"] == "ready" => Ok(()),
            output => Err(printed(&output)),
        });
        let none = NoDaemon::begin(&app);
        // Whoever has waited long enough can go.
        wait("Ctrl-C ends one that waits", || {
            // A shell has what it starts in the background ignore Ctrl-C, and that is inherited.
            let mut down = app.command("/usr/bin/env");
            down.arg("--default-signal=INT").arg(wattctl()).arg("down").stderr(Stdio::null());
            let mut down = down.spawn().expect("env runs");
            let ended = interrupt(&mut down);
            // One whose connection went with the daemon that was killed just now ends by itself.
            if ended.signal() == Some(2) { Ok(()) } else { Err(ended.to_string()) }
        });
        assert_eq!(interrupt(&mut up).code(), Some(7));
        let said = std::io::read_to_string(up.stderr.take().expect("a pipe")).expect("text");
        assert!(said.contains("error: app has not ended yet"), "{said}");
        let output = app.run(&["down", "--now"]);
        assert!(output.status.success(), "{user:?}: {}", printed(&output));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("warning: watt's daemon does not answer"), "{said}");
        assert_eq!(app.processes(), [], "{user:?}");
        assert_eq!(app.run(&["down"]).status.code(), Some(4), "it is not running");
        drop(none);
        // What was left is removed by the next start.
        app.up().down();
    });
}
