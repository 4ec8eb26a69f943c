//! Routes by path, method, header, cookie and query, and what `wattctl routes` says of them, in the running application.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
};

use serde_json::Value;
use watt_tests::{App, User, exchange, for_each_user, printed, wait};

const APPLICATION: &str = r#"
services:
  web: { command: python3 services/echo.py, env: { NAME: web } }
  users: { command: python3 services/echo.py, env: { NAME: users } }
  next: { command: python3 services/echo.py, env: { NAME: next } }
server: { port: 0 }
gateway:
  routes:
    - { path: /, service: web }
    - { path: "/users/{id}", service: users, methods: [GET, PUT], rewrite: "/people/{id}" }
    - { path: "/users/{id}", service: next, methods: [GET], headers: { x-version: "2" } }
    - { path: "/v(?<version>[0-9]+)/.*", match: regex, service: next, rewrite: "/version/{version}" }
    - { path: /health, match: exact, service: next, cookies: { beta: { present: true } }, query: { deep: "1" } }
"#;

/// Answers with its name and the request's target.
const ECHO: &str = r#"
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        tenant = " " + self.headers["x-tenant"] if "x-tenant" in self.headers else ""
        body = (os.environ["NAME"] + " " + self.path + tenant).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_PUT = do_DELETE = do_PATCH = answer
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"#;

fn application(user: User) -> App {
    let app = App::yaml(APPLICATION, user);
    app.write("services/echo.py", ECHO);
    app
}

/// A request of the gateway: status and body.
fn ask(app: &App, line: &str, fields: &str) -> (u16, String) {
    let request = format!("{line} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n{fields}\r\n");
    let answer = exchange(&app.gateway(), &request).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

#[test]
fn requests_go_where_the_explanation_says() {
    for_each_user(|user| {
        let app = application(user);
        app.up();
        for (line, fields, service, target) in [
            ("GET /x", "", "web", "/x"),
            ("GET /users/7?q", "", "users", "/people/7?q"),
            ("GET /users/7", "X-Version: 2", "next", "/users/7"),
            ("PUT /users/7/x", "X-Version: 2", "users", "/people/7/x"),
            ("DELETE /users/7", "", "web", "/users/7"),
            ("GET /v12/a/b", "", "next", "/version/12"),
            ("GET /vx/a", "", "web", "/vx/a"),
            ("GET /health?deep=1", "Cookie: a=b; beta=", "next", "/health?deep=1"),
            ("GET /health?deep=2", "Cookie: beta=1", "web", "/health?deep=2"),
        ] {
            let newline = if fields.is_empty() { "" } else { "\r\n" };
            let answered = ask(&app, line, &format!("{fields}{newline}"));
            assert_eq!(answered, (200, format!("{service} {target}")), "{line} {fields}");
            let mut arguments = vec!["routes", "--test", line];
            if !fields.is_empty() {
                arguments.extend(["-H", fields]);
            }
            let explained: Value = app.json(&arguments);
            assert_eq!(explained["verdict"]["route"]["service"], service, "{explained}");
            assert_eq!(explained["verdict"]["target"], target, "{explained}");
        }
        assert_eq!(ask(&app, "GET /x/..%2fusers/7", "").0, 400);
        let refused = app.run(&["routes", "--test", "GET /x/..%2fusers/7"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(printed(&refused).contains("refused with 400 (ambiguous_path)"), "{}", printed(&refused));
    });
}

#[test]
fn routes_share_redirect_answer_and_change_headers() {
    for_each_user(|user| {
        let app = application(user);
        let routes = r#"
    - { path: /canary, services: { users: 1, next: 1 }, sticky: canary }
    - { path: "/old/{id}", redirect: { to: "https://example.org/new/{id}", status: 308 } }
    - { path: /down, respond: { status: 503, body: "back soon" }, response_headers: { set: { retry-after: 60 } } }
    - { path: /api, service: web, strip: true, request_headers: { set: { x-tenant: shop } }, response_headers: { set: { x-by: watt }, remove: [server] } }
    - { path: /fault, service: web, fault: { abort: 502 } }
"#;
        let (services, _) = APPLICATION.split_once("    - { path: /, ").expect("routes");
        app.write("watt.yaml", &format!("{services}{}", routes.trim_start_matches('\n')));
        app.up();
        let head = |line: &str, fields: &str| {
            let request = format!("{line} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n{fields}\r\n");
            exchange(&app.gateway(), &request).expect("an answer")
        };
        let first = head("GET /canary", "");
        let service = if first.ends_with("users /canary") { "users" } else { "next" };
        assert!(first.contains(&format!("\r\nSet-Cookie: canary={service}; Path=/; ")), "{first}");
        for service in ["users", "next"] {
            let again = head("GET /canary", &format!("Cookie: canary={service}\r\n"));
            assert!(again.ends_with(&format!("{service} /canary")), "{again}");
        }
        let old = head("GET /old/7/x?q", "");
        assert!(old.starts_with("HTTP/1.1 308 "), "{old}");
        assert!(old.contains("\r\nLocation: https://example.org/new/7/x?q\r\n"), "{old}");
        let down = head("GET /down", "");
        assert!(down.starts_with("HTTP/1.1 503 ") && down.ends_with("back soon"), "{down}");
        assert!(down.contains("retry-after: 60"), "{down}");
        let api = head("GET /api/headers", "X-Tenant: other\r\n");
        assert!(api.contains("x-by: watt") && !api.contains("\r\nServer: "), "{api}");
        assert!(api.ends_with("web /headers shop"), "{api}");
        assert!(head("GET /fault", "").contains("\"fault_injected\""));
        let explained = app.json(&["routes", "--test", "GET /old/7/x?q"]);
        assert_eq!(explained["verdict"]["location"], "https://example.org/new/7/x?q", "{explained}");
        assert!(app.ok(&["routes"]).contains("users 50%, next 50%"));
    });
}

/// A server that is no service: answers each request with its first line and its host, and ends the connection.
fn server_outside() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let lines: Vec<String> = BufReader::new(stream.try_clone().expect("a copy"))
                .lines()
                .map_while(Result::ok)
                .take_while(|line| !line.is_empty())
                .collect();
            let host = lines.iter().find(|line| line.starts_with("Host: ")).expect("a host");
            let body = format!("{} {host}", lines[0]);
            let length = body.len();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
                .expect("an answer");
        }
    });
    port
}

#[test]
fn a_route_leads_to_a_server_outside() {
    for_each_user(|user| {
        let app = application(user);
        let port = server_outside();
        let (services, _) = APPLICATION.split_once("    - { path: /, ").expect("routes");
        let routes = format!(
            "    - {{ path: /legacy, upstream: \"http://127.0.0.1:{port}\", strip: true }}\n    - {{ path: /named, upstream: {{ url: \"http://localhost:{port}\", host: client }} }}\n    - {{ path: /web, upstream: \"internal://web\", mirror: next }}\n"
        );
        app.write("watt.yaml", &format!("{services}{routes}"));
        app.up();
        assert_eq!(
            ask(&app, "GET /legacy/x?y", ""),
            (200, format!("GET /x?y HTTP/1.1 Host: 127.0.0.1:{port}"))
        );
        assert_eq!(ask(&app, "GET /named", ""), (200, "GET /named HTTP/1.1 Host: shop".to_owned()));
        assert_eq!(ask(&app, "GET /web", ""), (200, "web /web".to_owned()));
        wait("next has a copy of the last one", || match app.service("next")["requests"] {
            ref requests if requests["total"] == 1 && requests["failures"] == 0 => Ok(()),
            ref requests => Err(requests.to_string()),
        });
        let name = format!("http://127.0.0.1:{port}");
        // Counts come once a second.
        wait("a request to the server outside is counted", || {
            let upstreams = &app.json(&["routes"])["upstreams"];
            if upstreams[&name]["total"] == 1 { Ok(()) } else { Err(upstreams.to_string()) }
        });
        assert!(app.ok(&["routes"]).contains(&name));
    });
}

#[test]
fn a_route_serves_files_that_only_the_operator_gets_to() {
    for_each_user(|user| {
        let app = application(user);
        let (services, _) = APPLICATION.split_once("    - { path: /, ").expect("routes");
        app.write(
            "watt.yaml",
            &format!(
                "{services}    - {{ path: /, static: {{ root: private/site/dist, spa: index.html }} }}\n"
            ),
        );
        app.write("private/site/dist/index.html", "first");
        app.write("private/site/dist/app.js", "let it = be;");
        app.write("private/site/secret", "secret");
        // Nobody else gets in there.
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(app.dir.join("private"), closed).expect("a closed folder");
        app.up();
        assert_eq!(ask(&app, "GET /app.js", ""), (200, "let it = be;".to_owned()));
        assert_eq!(ask(&app, "GET /users/7", ""), (200, "first".to_owned()));
        assert_eq!(ask(&app, "GET /%2e%2e/secret", "").0, 404);
        assert_eq!(ask(&app, "PUT /app.js", "").0, 405);
        // A build makes the folder anew.
        std::fs::remove_dir_all(app.dir.join("private/site/dist")).expect("gone");
        assert_eq!(ask(&app, "GET /", "").0, 503);
        app.write("private/site/dist/index.html", "second");
        assert_eq!(ask(&app, "GET /", ""), (200, "second".to_owned()));
        let explained = app.json(&["routes", "--test", "GET /app.js"]);
        let file = explained["verdict"]["file"].as_str().expect("a file");
        assert!(file.ends_with("/private/site/dist/app.js"), "{explained}");
        // Another proxy, and another daemon, have them as well.
        app.write("private/site/other/x.txt", "other");
        app.write("watt.yaml", &format!("{services}    - {{ path: /, static: private/site/other }}\n"));
        app.ok(&["reload"]);
        assert_eq!(ask(&app, "GET /x.txt", ""), (200, "other".to_owned()));
    });
}

/// Has the description that lies in its folder, and asks nobody who it is.
const DESCRIBED: &str = r#"
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try: body, status = open(os.environ["FILE"], "rb").read(), 200
        except OSError: body, status = b"", 404
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const DESCRIBED_APPLICATION: &str = r#"
services:
  users:
    command: python3 services/described.py
    env: { FILE: services/users.json }
    openapi: { path: /openapi.json, refresh: 100ms, ignore: ["/internal/*"] }
  orders:
    command: python3 services/described.py
    env: { FILE: services/none }
    openapi: { file: services/orders.json, refresh: 100ms }
server: { port: 0 }
gateway:
  routes:
    - { path: /users, service: users, strip: true, deprecation: "2026-06-30", sunset: { at: "2026-12-31", link: /moving } }
    - { path: /orders, service: orders }
    - { path: /docs, openapi: { title: The shop } }
"#;

/// A description with one operation at each of these paths, whose answer is a thing.
fn description(version: &str, paths: &[&str]) -> String {
    let operation = serde_json::json!({ "get": { "operationId": "list", "responses": { "200": { "description": "all",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Thing" } } } } } } });
    let paths: serde_json::Map<String, Value> =
        paths.iter().map(|path| ((*path).to_owned(), operation.clone())).collect();
    let thing = serde_json::json!({ "Thing": { "type": "string" } });
    serde_json::json!({ "openapi": version, "paths": paths, "components": { "schemas": thing } }).to_string()
}

#[test]
fn the_apis_are_described_in_one_document_that_follows_the_services() {
    for_each_user(|user| {
        let app = App::yaml(DESCRIBED_APPLICATION, user);
        app.write("services/described.py", DESCRIBED);
        app.write("services/users.json", &description("3.0.3", &["/", "/{id}", "/internal/x"]));
        app.write("services/orders.json", &description("3.1.0", &["/orders/{id}", "/elsewhere"]));
        app.up();
        let is_described = |paths: &[&str]| {
            wait("the APIs are described", || {
                let (status, body) = ask(&app, "GET /docs/openapi.json", "");
                let whole: Value = serde_json::from_str(&body).unwrap_or_default();
                let found = whole["paths"].as_object().map(|paths| paths.keys().cloned().collect::<Vec<_>>());
                match found == Some(paths.iter().map(|path| (*path).to_owned()).collect()) {
                    true => Ok(whole),
                    false => Err(format!("{status} {body}")),
                }
            })
        };
        let whole = is_described(&["/orders/{id}", "/users", "/users/{id}"]);
        assert_eq!(
            (&whole["openapi"], &whole["info"]["title"]),
            (&Value::from("3.1.1"), &Value::from("The shop"))
        );
        let schemas: Vec<&String> =
            whole["components"]["schemas"].as_object().expect("schemas").keys().collect();
        assert_eq!(schemas, ["orders_Thing", "users_Thing"]);
        let list = &whole["paths"]["/users"]["get"];
        assert_eq!(
            (&list["operationId"], &list["deprecated"]),
            (&Value::from("users_list"), &Value::from(true))
        );
        let (status, page) = ask(&app, "GET /docs/", "");
        assert!(status == 200 && page.contains("page.js"), "{status} {page}");
        // Without a restart: what a service says, and what a file has.
        app.write("services/users.json", &description("3.0.3", &["/{id}/friends"]));
        is_described(&["/orders/{id}", "/users/{id}/friends"]);
        app.write("services/orders.json", &description("3.1.0", &["/orders"]));
        is_described(&["/orders", "/users/{id}/friends"]);
        // One that is wrong is told of, and what was right stays.
        app.write("services/orders.json", "{");
        wait("it is told", || {
            let events = app.ok(&["events", "--json"]);
            match events.contains("openapi_problem") && events.contains("no JSON") {
                true => Ok(()),
                false => Err(events),
            }
        });
        is_described(&["/orders", "/users/{id}/friends"]);
        // Another proxy has it as well, and so has another daemon.
        let proxy = app.status()["supervisor"]["proxy_pid"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok())
            .expect("a proxy");
        watt_tests::kill("KILL", proxy);
        is_described(&["/orders", "/users/{id}/friends"]);
        app.kill_daemon();
        app.write("services/users.json", &description("3.0.3", &["/new"]));
        is_described(&["/orders", "/users/new"]);
        let request = "GET /users/1 HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n";
        let answer = exchange(&app.gateway(), request).expect("an answer");
        for line in [
            "Deprecation: @1782777600",
            "Sunset: Thu, 31 Dec 2026 00:00:00 GMT",
            "Link: </moving>; rel=\"sunset\"",
        ] {
            assert!(
                answer.to_lowercase().contains(&format!("\r\n{}\r\n", line.to_lowercase())),
                "{line}: {answer}"
            );
        }
    });
}

#[test]
fn routes_are_listed_and_changed_by_a_reload() {
    for_each_user(|user| {
        let app = application(user);
        assert!(app.ok(&["routes"]).contains("/health exactly"), "of the file alone");
        app.up();
        let listed = app.json(&["routes"]);
        assert_eq!(listed["routes"].as_array().map(Vec::len), Some(5));
        assert_eq!(listed["gateway"], format!("http://{}", app.gateway()));
        let only = APPLICATION.replace("    - { path: /, service: web }\n", "");
        app.write("watt.yaml", &only);
        app.ok(&["reload"]);
        assert_eq!(app.json(&["routes"])["routes"].as_array().map(Vec::len), Some(4));
        wait("the gateway has the new routes", || match ask(&app, "DELETE /users/7", "") {
            (405, _) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert_eq!(ask(&app, "GET /x", "").0, 404);
        let explained = app.run(&["routes", "--test", "DELETE https://shop/users/7"]);
        assert!(
            printed(&explained).contains("405: routes take GET, HEAD, PUT there"),
            "{}",
            printed(&explained)
        );
    });
}
