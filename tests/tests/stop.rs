//! What is left of a service after its stop: nothing.

use watt_tests::{App, for_each_user, kill, wait};

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
            let pid = std::fs::read_to_string(app.dir.join("pid")).unwrap_or_default();
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
