//! What requests have to pass at the gateway and in the mesh, in the running application.

use watt_tests::{App, User, exchange, for_each_user, wait};

const APPLICATION: &str = r#"
services:
  api:
    command: python3 services/echo.py
    rate_limit: { requests: 1000, per: 1h, by: everyone }
server: { port: 0 }
gateway:
  body_limit: 1K
  routes:
    - { path: /, service: api }
    - { path: /closed, service: api, ip: ["deny 127.0.0.1"] }
    - { path: /limited, service: api, rate_limit: { requests: 3, per: 1h } }
    - path: /keys
      service: api
      auth: { api_keys: { billing: "{KEY_HASH}", root: { hash: "{ROOT_HASH}", roles: [admin] } } }
    - { path: /keys/admin, service: api, roles: [admin], auth: { api_keys: { billing: "{KEY_HASH}", root: { hash: "{ROOT_HASH}", roles: [admin] } } } }
    - { path: /pages, service: api, methods: [GET], cors: { origins: ["https://app.example.org"], max_age: 1m } }
"#;

/// Answers with the request's target.
const ECHO: &str = r#"
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = (self.path + " " + self.headers.get("X-Forwarded-User", "nobody")).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = answer
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"#;

fn application(user: User) -> App {
    let app = App::yaml(&with_hashes(APPLICATION), user);
    app.write("services/echo.py", ECHO);
    app
}

/// Written out: what comes from `.env` is in the environment of services, and so is shown there.
fn with_hashes(text: &str) -> String {
    text.replace("{KEY_HASH}", KEY_HASH).replace("{ROOT_HASH}", ROOT_HASH)
}

/// Of `abc` and `abcd`.
const KEY_HASH: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const ROOT_HASH: &str = "sha256:88d4266fd4e6338d13b845fcf289579d209c897823b9217da3e161936f031589";

/// A request of the gateway: its status and its head, in lower case.
fn ask(app: &App, line: &str, fields: &str) -> (u16, String) {
    let request = format!("{line} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n{fields}\r\n");
    let answer = exchange(&app.gateway(), &request).expect("an answer");
    let (head, _) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_ascii_lowercase())
}

#[test]
fn requests_pass_or_are_denied_and_counted() {
    for_each_user(|user| {
        let app = application(user);
        app.up();
        assert_eq!(ask(&app, "GET /", "").0, 200);
        assert_eq!(ask(&app, "GET /closed", "").0, 403);
        assert_eq!(ask(&app, "POST /", "Content-Length: 1025\r\n").0, 413);
        let preflight = "Origin: https://app.example.org\r\nAccess-Control-Request-Method: GET\r\n";
        let (status, head) = ask(&app, "OPTIONS /pages", preflight);
        assert_eq!(status, 204, "{head}");
        assert!(head.contains("access-control-max-age: 60"), "{head}");
        let (_, head) = ask(&app, "GET /pages", "Origin: https://evil.example\r\n");
        assert!(!head.contains("access-control-allow-origin"), "the service's own is left out: {head}");
        // Connections of one client meet several threads of the proxy; the count is one.
        let statuses: Vec<u16> = (0..8).map(|_| ask(&app, "GET /limited", "").0).collect();
        assert_eq!(statuses, [200, 200, 200, 429, 429, 429, 429, 429]);
        let (_, head) = ask(&app, "GET /limited", "");
        assert!(head.contains("ratelimit-policy: \"address\";q=3;w=3600"), "{head}");
        assert!(head.contains("retry-after: "), "{head}");
        wait("the denied are counted", || {
            let denied = app.service("api")["requests"]["denied"].clone();
            let all = denied["address"] == 1 && denied["body"] == 1 && denied["rate"] == 6;
            if all { Ok(()) } else { Err(denied.to_string()) }
        });
        let text = app.ok(&["inspect", "api"]);
        assert!(text.contains("6 denied for their rate"), "{text}");
    });
}

#[test]
fn whoever_has_a_key_is_known_and_hashes_are_shown_nowhere() {
    for_each_user(|user| {
        let app = application(user);
        app.up();
        let said = |path: &str, fields: &str| {
            let request = format!("GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n{fields}\r\n");
            let answer = exchange(&app.gateway(), &request).expect("an answer");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            (head.split(' ').nth(1).unwrap_or_default().to_owned(), body.to_owned())
        };
        assert_eq!(said("/keys", "").0, "401");
        assert_eq!(said("/keys", "X-Api-Key: abd\r\n").0, "401");
        let forged = "X-Api-Key: abc\r\nX-Forwarded-User: root\r\nX_Forwarded_User: root\r\n";
        assert_eq!(said("/keys", forged), ("200".into(), "/keys billing".into()));
        assert_eq!(said("/keys/admin", "X-Api-Key: abc\r\n").0, "403");
        assert_eq!(said("/keys/admin", "X-Api-Key: abcd\r\n"), ("200".into(), "/keys/admin root".into()));
        assert_eq!(said("/", "X-Forwarded-User: root\r\n"), ("200".into(), "/ nobody".into()));
        let commands: [&[&str]; 5] = [
            &["config", "show"],
            &["config", "show", "--json"],
            &["routes", "--json"],
            &["inspect", "api", "--json"],
            &["status", "--json"],
        ];
        for command in commands {
            let text = app.ok(command);
            assert!(!text.contains(&KEY_HASH[10..]), "{command:?}: {text}");
        }
        assert!(!app.own_log().contains(&KEY_HASH[10..]));
    });
}

#[test]
fn what_was_counted_lives_on_with_another_configuration_and_another_daemon() {
    let app = application(User::Ordinary);
    app.up();
    for expected in [200, 200, 200, 429] {
        assert_eq!(ask(&app, "GET /limited", "").0, expected);
    }
    app.write("watt.yaml", &with_hashes(&APPLICATION.replace("requests: 3,", "requests: 3, burst: 4,")));
    app.ok(&["reload"]);
    assert_eq!(ask(&app, "GET /limited", "").0, 200, "one more than before");
    assert_eq!(ask(&app, "GET /limited", "").0, 429);
    app.kill_daemon();
    app.ok(&["reload"]);
    assert_eq!(ask(&app, "GET /limited", "").0, 429, "it is the proxy that counts");
}

/// Of `U*U`, by bcrypt.
const PASSWORD: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

const WITH_FILES: &str = r#"
services:
  api:
    command: python3 services/echo.py
    rules:
      - { do: allow, from: [gateway], path: /files }
      - { do: allow, from: [web], methods: [GET], path: /mesh }
  web: { command: python3 services/echo.py }
server: { port: 0 }
gateway:
  routes:
    - path: /files
      service: api
      auth: { api_keys_file: credentials/keys, basic: credentials/users }
      rules: [{ do: deny, path: /files/secret, roles: [guest] }]
    - { path: /mesh, service: api }
"#;

/// What those are known by who ask is in files: they are read with the configuration, a wrong one refuses it, and no service has them.
#[test]
fn credentials_of_files_change_with_a_reload() {
    for_each_user(|user| {
        let app = App::yaml(WITH_FILES, user);
        app.write("services/echo.py", ECHO);
        app.write("credentials/keys", &format!("# keys\nbilling:{KEY_HASH}\n"));
        app.write("credentials/users", &format!("ada:{PASSWORD}:guest\n"));
        app.up();
        // `ada:U*U`
        let ada = "Authorization: Basic YWRhOlUqVQ==\r\n";
        let status = |path: &str, fields: &str| ask(&app, &format!("GET {path}"), fields).0;
        assert_eq!(status("/files", ""), 401);
        assert_eq!(status("/files", "X-Api-Key: abc\r\n"), 200);
        assert_eq!(status("/files", "X-Api-Key: abcd\r\n"), 401);
        assert_eq!(status("/files", ada), 200);
        assert_eq!(status("/files/secret", ada), 403, "by the route's rule");
        assert_eq!(status("/files/SECRET", ada), 403, "in whatever letters");
        assert_eq!(status("/files/secret", "X-Api-Key: abc\r\n"), 200);
        assert_eq!(status("/mesh", ""), 403, "by the service's rule");
        app.write("credentials/keys", &format!("root:{ROOT_HASH}\n"));
        app.write("credentials/users", "# nobody\n");
        let text = app.ok(&["reload"]);
        assert!(text.contains("gateway.routes"), "{text}");
        assert_eq!(status("/files", "X-Api-Key: abc\r\n"), 401);
        assert_eq!(status("/files", "X-Api-Key: abcd\r\n"), 200);
        assert_eq!(status("/files", ada), 401);
        app.write("credentials/users", "ada:hunter2\n");
        let refused = app.run(&["reload"]);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && told.contains("users, line 1"), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
        assert_eq!(status("/files", "X-Api-Key: abcd\r\n"), 200, "what was in force stays");
        app.kill_daemon();
        app.write("credentials/users", "");
        app.ok(&["reload"]);
        assert_eq!(status("/files", "X-Api-Key: abcd\r\n"), 200);
    });
}

/// Looks at requests: those without a plan have to pay, others are told of it and go elsewhere.
const GATEKEEPER: &str = r#"
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        plans = [value for name, value in asked["headers"] if name == "x-plan"]
        if plans: said = {"path": asked["path"] + "/" + asked["method"] + "/" + plans[0]}
        else: said = {"respond": {"status": 402, "headers": {"x-why": asked["service"]}, "body": "pay"}}
        body = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"#;

#[test]
fn a_service_in_any_language_looks_at_requests_first() {
    for_each_user(|user| {
        let app = App::yaml(
            r#"
services:
  api: { command: python3 services/echo.py }
  gatekeeper: { command: python3 services/gatekeeper.py }
server: { port: 0 }
gateway:
  filters: [gatekeeper]
  routes:
    - { path: /, service: api }
    - { path: /open, service: api, filters: [] }
"#,
            user,
        );
        app.write("services/echo.py", ECHO);
        app.write("services/gatekeeper.py", GATEKEEPER);
        app.up();
        let (status, answer) = ask(&app, "GET /x", "");
        assert!(status == 402 && answer.contains("x-why: api\r\n") && answer.ends_with("pay"), "{answer}");
        let (status, answer) = ask(&app, "GET /x", "X-Plan: pro\r\n");
        assert!(status == 200 && answer.ends_with("/x/get/pro nobody"), "{answer}");
        assert_eq!(ask(&app, "GET /open", "").0, 200);
        app.ok(&["stop", "gatekeeper"]);
        let (status, answer) = ask(&app, "GET /x", "X-Plan: pro\r\n");
        assert!(status == 503 && answer.contains("filter_failed"), "{answer}");
    });
}
