//! How many workers a service has changes while it runs, and no request is lost.

use serde_json::Value;
use watt_tests::{App, Load, User, for_each_user, wait};

const TWO: &str = r#"
services:
  web: { command: python3 services/web.py, workers: 2 }
server: { port: 0 }
gateway: { routes: [{ path: /, service: web }] }
"#;

fn app(user: User, text: &str) -> App {
    let app = App::case("", user);
    app.write("watt.yaml", text);
    app.up();
    app
}

fn indexes(app: &App) -> Vec<u64> {
    let workers = app.service("web")["workers"].as_array().cloned().unwrap_or_default();
    workers.iter().filter_map(|worker| worker["index"].as_u64()).collect()
}

#[test]
fn an_operators_number_is_had_without_a_lost_request_and_kept() {
    for_each_user(|user| {
        let app = app(user, TWO);
        let first = [app.pid("web", 0), app.pid("web", 1)];
        let load = Load::start(&app.gateway(), "/");
        let scaled = app.json(&["scale", "web=4"]);
        assert_eq!(scaled["services"]["web"], serde_json::json!({ "from": 2, "to": 4, "result": "ready" }));
        assert_eq!((app.service("web")["ready"].clone(), indexes(&app)), (4.into(), vec![0, 1, 2, 3]));
        app.ok(&["scale", "web=1"]);
        assert_eq!((app.service("web")["ready"].clone(), indexes(&app)), (1.into(), vec![0]));
        app.ok(&["scale", "web=3"]);
        let scaling = app.service("web")["scaling"].clone();
        assert_eq!((&scaling["by"], &scaling["from"]), (&Value::from("operator"), &1.into()), "{scaling}");
        assert!(app.ok(&["status"]).contains("scaled from 1"), "{}", app.ok(&["status"]));

        app.kill_daemon();
        wait("it has them all", || match app.service("web") {
            web if web["ready"] == 3 && web["wanted"] == 3 => Ok(()),
            web => Err(web.to_string()),
        });
        assert_eq!(app.service("web")["scaling"], scaling, "and knows why");

        let told = app.ok(&["reload"]);
        assert!(told.contains("web keeps 3 of `workers`"), "{told}");
        assert_eq!(indexes(&app), [0, 1, 2]);
        app.write("watt.yaml", &TWO.replace("workers: 2", "workers: 1"));
        let reloaded = app.json(&["reload", "--wait"]);
        assert_eq!(reloaded["stay"], serde_json::json!([]));
        assert_eq!((indexes(&app), &app.service("web")["scaling"]), (vec![0], &Value::Null));
        app.kill_daemon();
        assert_eq!(app.service("web")["wanted"], 1, "an earlier number is forgotten");

        app.ok(&["scale", "web=2"]);
        app.ok(&["scale", "web=auto"]);
        assert_eq!((indexes(&app), &app.service("web")["scaling"]), (vec![0], &Value::Null));
        assert_eq!(app.pid("web", 0), first[0], "the lowest indexes stay");
        let tally = load.stop();
        assert!(tally.failures.is_empty(), "{user:?}: {} answered, {:?}", tally.answered, tally.failures);
        assert!(tally.answered > 0);
        let events = app.ok(&["events"]);
        assert!(events.contains("1 -> 2 workers: `wattctl scale`"), "since the last daemon came: {events}");
        app.down();
    });
}

#[test]
fn a_number_that_a_reload_goes_on_from_is_kept_by_the_next_daemon() {
    let app = app(User::Ordinary, TWO);
    app.write("watt.yaml", &TWO.replace("workers: 2", "workers: { min: 1, max: 4, cooldown: 1h }"));
    app.ok(&["reload", "--wait"]);
    let scaling = app.service("web")["scaling"].clone();
    assert_eq!((&scaling["by"], &scaling["from"]), (&Value::from("load"), &2.into()), "{scaling}");
    app.kill_daemon();
    let web = app.service("web");
    assert_eq!((&web["wanted"], &web["scaling"]), (&2.into(), &scaling), "{web}");
    assert_eq!(indexes(&app), [0, 1]);
    app.down();
}

#[test]
fn numbers_that_cannot_be_had_change_nothing() {
    let app = app(User::Ordinary, TWO);
    let refused = |arguments: &[&str], what: &str| {
        let output = app.run(&[&["scale"], arguments].concat());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(what), "{arguments:?}: {told}");
    };
    refused(&["web=0"], "wattctl stop web");
    refused(&["web=1001"], "1000 is the most");
    refused(&["web"], "SERVICE=N");
    refused(&["web=many"], "a number of workers");
    refused(&["web=3", "wep=1"], "did you mean web?");
    assert_eq!(indexes(&app), [0, 1], "all of it or nothing");
    app.ok(&["stop", "web"]);
    let scaled = app.json(&["scale", "web=3"]);
    assert_eq!(scaled["services"]["web"]["result"], "down", "what is stopped is not waited for: {scaled}");
    app.ok(&["start", "web"]);
    assert_eq!(indexes(&app), [0, 1, 2]);
    app.down();
}
