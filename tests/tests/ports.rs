//! Many workers, one hard-coded port, one name.

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
