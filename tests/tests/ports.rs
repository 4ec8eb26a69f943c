//! Many workers, one hard-coded port, one name; and the addresses programs choose to listen on.

use std::collections::BTreeSet;

use serde_json::Value;
use watt_tests::{App, for_each_user, wait};

/// Workers 0 and 1 are Node, 2 to 4 are Python; all listen on port 3000, and no port is configured anywhere.
const MIXED: &str = r#"
services:
  web:
    command: [sh, -c, 'if [ "$WATT_WORKER" -lt 2 ]; then exec node services/web.js; else exec python3 services/web.py; fi']
    workers: 5
server: { port: 0 }
gateway: { routes: [{ path: /, service: web }] }
"#;

#[test]
fn five_workers_in_two_languages_share_a_hard_coded_port() {
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("watt.yaml", MIXED);
        app.up();
        let mut seen = BTreeSet::new();
        wait("every worker has answered", || {
            let (status, body) = app.get("/");
            assert_eq!(status, 200, "{body}");
            let answer: Value = serde_json::from_str(&body).expect("JSON");
            seen.insert(format!("{} {}", answer["worker"], answer["language"]));
            if seen.len() == 5 { Ok(()) } else { Err(format!("{seen:?}")) }
        });
        let languages = seen.iter().filter(|worker| worker.contains("node")).count();
        assert_eq!(languages, 2, "{seen:?}");
        app.down();
    });
}

/// Node listens on `::` when it is not told where, and Python is told to listen on IPv6 alone.
const IPV6: &str = r#"
services:
  node: { command: [node, -e, 'require("http").createServer((q, r) => r.end("from node")).listen(3000)'] }
  one: { command: "python3 services/web.py [::1]:3000", ready: { http: /ready } }
server: { port: 0 }
gateway:
  routes:
    - { path: /node, service: node }
    - { path: /one, service: one }
"#;

#[test]
fn a_program_that_listens_on_ipv6_is_reached() {
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("watt.yaml", IPV6);
        app.up();
        for _ in 0..40 {
            // More often than there are sockets made at the start.
            let (status, body) = app.get("/one/");
            assert_eq!(status, 200, "{user:?}: {body}");
        }
        assert_eq!(app.get("/node/"), (200, "from node".to_owned()), "{user:?}");
        app.down();
    });
}
