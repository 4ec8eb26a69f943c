//! A thousand services.

use std::process::Stdio;

use serde_json::Value;
use watt_tests::{App, User, kill, wait};

#[test]
fn a_thousand_services_start_show_and_stop() {
    let services: String = (0..1000)
        .map(|n| format!("  s{n}: {{ command: sleep 1000000, listen: none, network: host }}\n"))
        .collect();
    let app = App::yaml(&format!("services:\n{services}"), User::Ordinary);
    app.up();
    let status = app.status();
    let ready =
        status["services"].as_array().expect("services").iter().filter(|service| service["state"] == "ready");
    assert_eq!(ready.count(), 1000);
    let table = String::from_utf8(app.run(&["status"]).stdout).expect("text");
    assert!(table.lines().count() > 1000);
    app.down();
}

/// Services that say that they were started.
fn starting(count: usize) -> (App, std::process::Child) {
    let services: String = (0..count)
        .map(|n| format!("  s{n}: {{ command: [sh, -c, 'echo {n} >> started; exec sleep 1000000'], listen: none, network: host }}\n"))
        .collect();
    let app = App::yaml(&format!("services:\n{services}"), User::Ordinary);
    let up = app.wattctl(&["up", "-d"]).stderr(Stdio::null()).spawn().expect("wattctl runs");
    wait("the first ones have started", || match started(&app) {
        0 => Err("none".to_owned()),
        _ => Ok(()),
    });
    (app, up)
}

fn started(app: &App) -> usize {
    std::fs::read_to_string(app.dir.join("started")).map_or(0, |text| text.lines().count())
}

#[test]
fn an_end_does_not_wait_for_starts() {
    let (app, mut up) = starting(1000);
    app.ok(&["down", "--now"]);
    up.wait().expect("it ends");
    app.assert_gone();
    assert!(started(&app) < 1000, "all were started");
}

#[test]
fn a_start_goes_on_after_the_daemon_was_killed_in_it() {
    let (app, mut up) = starting(1000);
    // Not asked of the daemon: it would have started many more before it answers.
    let info = std::fs::read(app.runtime().join("info.json")).expect("what is known of the application");
    let info: Value = serde_json::from_slice(&info).expect("JSON");
    kill("KILL", info["daemon_pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a pid"));
    assert!(started(&app) < 1000, "it was over before");
    assert!(up.wait().expect("it ends").success());
    let status = app.status();
    assert_eq!(status["supervisor"]["daemon_restarts"], 1);
    let unready: Vec<_> = (status["services"].as_array().expect("services").iter())
        .filter(|service| service["state"] != "ready" || service["workers"][0]["restarts"] != 0)
        .collect();
    assert!(unready.is_empty(), "{} are not ready: {}", unready.len(), unready[0]);
    // Those that are ready have been executed, and need not have come to say so.
    wait("each has said that it was started", || match started(&app) {
        1000.. => Ok(()),
        some => Err(some.to_string()),
    });
    assert_eq!(started(&app), 1000, "each was started once");
    app.down();
}
