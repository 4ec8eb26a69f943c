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

/// In what Prometheus asks with.
const ACCEPTS: &str =
    "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1\r\n";

#[test]
fn collectors_get_it_over_tcp_and_nothing_else() {
    for_each_user(|user| {
        let app = App::yaml(&(APPLICATION.to_owned() + "metrics: { port: 0 }\n"), user);
        app.write("web.py", WEB);
        app.write("api.py", API);
        app.up();
        let at = |app: &App| {
            let status = app.status();
            let listeners = status["listeners"].as_array().cloned().unwrap_or_default();
            let found = listeners.into_iter().find(|listener| listener["name"] == "metrics");
            let url = found.and_then(|listener| Some(listener["url"].as_str()?.to_owned()))?;
            Some(url.trim_start_matches("http://").trim_end_matches('/').to_owned())
        };
        let address = at(&app).expect("a listener");
        assert!(address.starts_with("127.0.0.1:") && address != app.gateway(), "{address}");
        let get = |request: &str, fields: &str| {
            let head = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
            let answer = exchange(&address, &head).expect("an answer");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            (head.to_lowercase(), body.to_owned())
        };
        ask(&app, "/");
        let sample = "watt_edge_requests_total{caller=\"@gateway\",service=\"web\",route=\"/\",code=\"2xx\"}";
        wait("a request that was counted", || match get("GET /metrics?x=1", "") {
            (head, body) if head.starts_with("http/1.1 200 ") && value(&body, sample) == Some(1.0) => Ok(()),
            answer => Err(format!("{answer:?}")),
        });
        assert!(get("GET /metrics", "").0.contains("content-type: text/plain; version=0.0.4"));
        let (head, body) = get("GET /metrics", ACCEPTS);
        assert!(
            head.contains("content-type: application/openmetrics-text") && body.ends_with("# EOF\n"),
            "{head}"
        );
        let (head, body) = get("HEAD /metrics", "");
        assert!(head.starts_with("http/1.1 200 ") && body.is_empty(), "{head}");
        for (request, status) in [
            ("GET /", "404"),
            ("GET /v1/status", "404"),
            ("GET /metrics/x", "404"),
            ("GET /metrics/../v1/status", "404"),
            ("POST /metrics", "405"),
        ] {
            assert!(get(request, "").0.starts_with(&format!("http/1.1 {status} ")), "{request}");
        }
        for path in ["/ready", "/status"] {
            let (head, body) = get(&format!("GET {path}"), "");
            assert!(head.starts_with("http/1.1 200 ") && body == "OK", "{head}");
        }
        assert!(get("GET /metrics", "Content-Length: 1\r\n").0.starts_with("http/1.1 413 "));
        assert!(app.get("/metrics").1 == "ok", "the gateway's path is the services'");

        // One that never listens, beside those that do.
        let deaf = APPLICATION.replace("services:", "services:\n  deaf: { command: sleep 1000 }");
        app.write("watt.yaml", &(deaf + "metrics: { port: 0 }\n"));
        app.ok(&["reload"]);
        wait("it is not ready", || match get("GET /ready", "") {
            (head, body) if head.starts_with("http/1.1 500 ") && body == "ERR" => Ok(()),
            answer => Err(format!("{answer:?}")),
        });
        assert!(get("GET /status", "").0.starts_with("http/1.1 200 "));

        // The spawner has the socket, and a collector waits for the next daemon.
        app.kill_daemon();
        assert!(get("GET /metrics", "").0.starts_with("http/1.1 200 "));
        app.write("watt.yaml", APPLICATION);
        app.ok(&["reload", "--wait"]);
        assert_eq!(at(&app), None);
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
