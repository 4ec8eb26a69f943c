//! What Prometheus gets of a running application.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use watt_tests::{App, User, exchange, for_each_user, wait};

const APPLICATION: &str = r#"
services:
  web: { command: python3 web.py }
  api: { command: python3 api.py, workers: 2 }
server: { port: 0 }
gateway:
  routes:
    - { path: /, service: web }
    - { path: /api, service: api }
"#;

/// Answers 404 below /missing, and otherwise with what it was told by `api`.
const WEB: &str = r#"
import http.server, os, urllib.request
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = urllib.request.urlopen("http://api.plt.local/api").read()
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const API: &str = r#"
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if self.path == "/api/broken" else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// Reads OpenMetrics as its own people do, and fails where they would.
const PARSER: &str = "
import sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read
print(sum(len(family.samples) for family in read(sys.stdin.read())))
";

fn ask(app: &App, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n");
    exchange(&app.gateway(), &request).expect("an answer");
}

/// The value of a sample, by all that stands before it.
fn value(text: &str, sample: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' ')?.parse().ok())
}

#[test]
fn requests_are_counted_by_caller_service_route_and_class_and_survive_the_daemon() {
    for_each_user(|user| {
        let app = App::yaml(APPLICATION, user);
        app.write("web.py", WEB);
        app.write("api.py", API);
        app.up();
        for path in ["/", "/x", "/missing", "/api", "/api/broken"] {
            ask(&app, path);
        }
        let expected = [
            ("watt_edge_requests_total{caller=\"@gateway\",service=\"web\",route=\"/\",code=\"2xx\"}", 2.0),
            ("watt_edge_requests_total{caller=\"@gateway\",service=\"web\",route=\"/\",code=\"4xx\"}", 1.0),
            (
                "watt_edge_requests_total{caller=\"@gateway\",service=\"api\",route=\"/api\",code=\"2xx\"}",
                1.0,
            ),
            (
                "watt_edge_requests_total{caller=\"@gateway\",service=\"api\",route=\"/api\",code=\"5xx\"}",
                1.0,
            ),
            ("watt_edge_requests_total{caller=\"web\",service=\"api\",route=\"\",code=\"2xx\"}", 3.0),
            ("watt_edge_request_duration_seconds_count{caller=\"web\",service=\"api\",route=\"\"}", 3.0),
            ("watt_requests_total{service=\"api\"}", 5.0),
            ("watt_request_failures_total{service=\"api\"}", 1.0),
            ("watt_service_workers_ready{service=\"api\"}", 2.0),
            ("watt_worker_state{service=\"api\",worker=\"1\",state=\"ready\"}", 1.0),
        ];
        let all_there = || {
            let text = app.ok(&["metrics"]);
            let missing = expected.iter().find(|(sample, count)| value(&text, sample) != Some(*count));
            missing.map_or(Ok(()), |(sample, _)| Err(format!("{sample} is not so in\n{text}")))
        };
        wait("the counts", all_there);
        let text = app.ok(&["metrics"]);
        assert!(
            value(&text, "watt_worker_memory_bytes{service=\"web\",worker=\"0\"}")
                .is_some_and(|bytes| bytes > 1e5)
        );

        // What the proxy counted is told to the next daemon.
        app.kill_daemon();
        wait("the counts again", all_there);
        app.down();
    });
}

#[test]
fn the_parser_of_open_metrics_takes_all_of_it() {
    if !Path::new("/usr/lib/python3/dist-packages/prometheus_client").exists() {
        assert!(std::env::var_os("WATT_TEST_ALL").is_none(), "python3-prometheus-client is missing");
        eprintln!("left out: python3-prometheus-client is not installed");
        return;
    }
    let app = App::yaml(APPLICATION, User::Ordinary);
    app.write("web.py", WEB);
    app.write("api.py", API);
    app.up();
    ask(&app, "/");
    let text = wait("a request that was counted", || {
        let text = app.ok(&["metrics", "--openmetrics"]);
        if text.contains("watt_edge_request_duration_seconds_bucket") { Ok(text) } else { Err(text) }
    });
    let mut parser = Command::new("/usr/bin/python3")
        .args(["-c", PARSER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    parser.stdin.take().expect("its input").write_all(text.as_bytes()).expect("all of it");
    let output = parser.wait_with_output().expect("its end");
    let samples: usize = String::from_utf8_lossy(&output.stdout).trim().parse().unwrap_or_default();
    assert!(output.status.success() && samples > 50, "{samples} samples in\n{text}");
    app.down();
}
