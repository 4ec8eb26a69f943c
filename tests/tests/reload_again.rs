//! A reload that comes while something of the one before has not gone yet.

use std::{io::Write, net::TcpStream};

use serde_json::Value;
use watt_tests::{App, User, printed, wait};

/// Two services behind the gateway, one of which needs the other; the tests change `api`.
const SHOP: &str = r#"
services:
  db: { command: python3 services/web.py, env: { GREETING: old } }
  api: { command: python3 services/web.py, depends_on: { db: ready } }
server: { port: 0 }
gateway:
  routes:
    - { path: /, service: api }
    - { path: /db, service: db, strip: true }
"#;

fn shop(text: &str) -> App {
    let app = App::case("", User::Ordinary);
    app.write("key", "first");
    app.write("watt.yaml", text);
    app.up();
    app
}

/// Asks for something that is answered when nobody is there to see it any more.
fn ask_for_long(app: &App) -> TcpStream {
    let mut stream = TcpStream::connect(app.gateway()).expect("the gateway listens");
    stream.write_all(b"GET /slow/1000 HTTP/1.1\r\nhost: x\r\n\r\n").expect("it reads");
    wait("the request is with the service", || match app.service("api")["requests"]["in_flight"].clone() {
        count if count == 1 => Ok(()),
        other => Err(other.to_string()),
    });
    stream
}

fn states(app: &App, service: &str) -> Vec<String> {
    let workers = app.service(service)["workers"].as_array().cloned().unwrap_or_default();
    workers.iter().map(|worker| worker["state"].as_str().unwrap_or_default().to_owned()).collect()
}

/// The value that an old worker has is not the one of those that took its place.
#[test]
fn a_worker_that_goes_with_an_old_secret_is_no_reason_to_replace_the_new_one() {
    let secret = "secrets: { key: { file: key } }\n";
    let app = shop(&format!("{secret}{}", SHOP.replace("ready } }", "ready }, secrets: [key] }")));
    let asked = ask_for_long(&app);
    app.write("key", "second");
    assert_eq!(app.json(&["reload"])["changes"][0]["key"], "secrets");
    wait("the new worker is ready and the old one still answers", || match states(&app, "api") {
        states if states.contains(&"draining".to_owned()) && states.contains(&"ready".to_owned()) => Ok(()),
        states => Err(format!("{states:?}")),
    });
    assert_eq!(app.json(&["reload"])["changes"], Value::Array(Vec::new()));
    assert!(states(&app, "api").contains(&"draining".to_owned()));
    drop(asked);
    app.down();
}

/// It was to go and is still there, for the sake of old workers that may need it. What comes back is what is configured now.
#[test]
fn a_service_that_comes_back_while_it_is_kept_for_others_has_its_new_command() {
    let app = shop(SHOP);
    let without = SHOP
        .replace("  db: { command: python3 services/web.py, env: { GREETING: old } }\n", "")
        .replace("    - { path: /db, service: db, strip: true }\n", "")
        .replace("services/web.py, depends_on: { db: ready }", "services/none.py");
    app.write("watt.yaml", &without);
    let output = app.run(&["reload", "--wait"]);
    assert_eq!(output.status.code(), Some(1), "{}", printed(&output));
    assert_eq!(
        (app.worker("api", 0)["part"].clone(), states(&app, "db")),
        ("outdated".into(), vec!["ready".into()])
    );
    let old = app.pid("db", 0);

    app.write("watt.yaml", &SHOP.replace("GREETING: old", "GREETING: new"));
    app.ok(&["reload", "--wait"]);
    let (status, body) = app.get("/db/env");
    assert_eq!(status, 200, "{body}");
    let env: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(env["GREETING"], "new");
    assert_ne!(app.pid("db", 0), old);
    app.down();
}
