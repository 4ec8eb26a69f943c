//! The cache of responses, in the running application.

use watt_tests::{App, User, exchange, for_each_user, wait};

const APPLICATION: &str = r#"
cache: { size: 8M }
services:
  api:
    command: python3 services/counting.py
    cache: true
  web:
    command: python3 services/counting.py
server: { port: 0 }
gateway:
  routes:
    - { path: /, service: api }
    - { path: /off, service: api, cache: false }
    - { path: /web, service: web, cache: { ttl: 1h } }
"#;

/// Answers with how often it was asked for a path, and with the fields that the query names.
const COUNTING: &str = r#"
import collections, http.server, os, urllib.parse
asked = collections.Counter()
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path, _, query = self.path.partition("?")
        fields = urllib.parse.parse_qsl(query)
        tag = dict(fields).get("ETag")
        asked[path] += 1
        same = tag is not None and self.headers.get("If-None-Match") == tag
        body = b"" if same else str(asked[path]).encode()
        self.send_response_only(304 if same else 200)
        for name, value in fields:
            self.send_header(name, value)
        if not same:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_GET = do_POST = answer
    def log_message(self, *arguments): pass
http.server.ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
"#;

const FRESH: &str = "Cache-Control=max-age=3600";

fn application(user: User) -> App {
    let app = App::yaml(APPLICATION, user);
    app.write("services/counting.py", COUNTING);
    app.up();
    app
}

/// A request of the gateway: its body, and what the cache says of it.
fn ask(app: &App, line: &str, fields: &str) -> (String, String) {
    let request =
        format!("{line} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: 0\r\n{fields}\r\n");
    let answer = exchange(&app.gateway(), &request).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let told = head.lines().find_map(|line| line.strip_prefix("Cache-Status: ")).unwrap_or_default();
    (body.to_owned(), told.to_owned())
}

fn get(app: &App, target: &str) -> String {
    ask(app, &format!("GET {target}"), "").0
}

#[test]
fn what_is_stored_is_one_for_all_threads_and_is_purged_and_counted() {
    for_each_user(|user| {
        let app = application(user);
        // Connections of one client meet several threads of the proxy.
        let tagged = format!("/tagged?{FRESH}&Cache-Tag=t1,t2");
        for target in [&format!("/a?{FRESH}"), &format!("/b?{FRESH}"), &tagged] {
            let bodies: Vec<String> = (0..8).map(|_| get(&app, target)).collect();
            assert_eq!(bodies, ["1"; 8], "{target}");
        }
        assert_eq!([(); 2].map(|()| get(&app, "/off?Cache-Control=max-age=3600")), ["1", "2"]);
        assert_eq!([(); 2].map(|()| get(&app, "/web/x")), ["1", "1"], "by its route's `ttl`");
        let (_, told) = ask(&app, &format!("GET {tagged}"), "");
        assert!(told.starts_with("watt; hit; ttl=3"), "{told}");

        assert_eq!(app.ok(&["cache", "purge", "--tag", "t2"]), "1 response removed\n");
        assert_eq!(get(&app, &tagged), "2");
        assert_eq!(app.ok(&["cache", "purge", "--prefix", "http://shop/a"]), "1 response removed\n");
        assert_eq!(
            (get(&app, &format!("/a?{FRESH}")), get(&app, &format!("/b?{FRESH}"))),
            ("2".into(), "1".into())
        );
        assert_eq!(app.ok(&["cache", "purge", "--uri", &format!("/b?{FRESH}")]), "1 response removed\n");
        assert_eq!(get(&app, &format!("/b?{FRESH}")), "2");
        assert_eq!(app.ok(&["cache", "purge", "--service", "web"]), "1 response removed\n");
        assert_eq!(app.json(&["cache", "purge", "--all"])["removed"], 3);
        for wrong in [
            &["cache", "purge"][..],
            &["cache", "purge", "--service", "wbe"],
            &["cache", "purge", "--uri", "x"],
        ] {
            assert!(!app.wattctl(wrong).output().unwrap().status.success(), "{wrong:?}");
        }

        wait("it is counted", || {
            let cache = app.json(&["cache", "status"]);
            let api = &cache["services"]["api"];
            let all = cache["store"]["purged"] == 7 && cache["store"]["entries"] == 0 && api["misses"] == 6;
            if all { Ok(()) } else { Err(cache.to_string()) }
        });
        let text = app.ok(&["inspect", "api"]);
        assert!(text.contains("  cache      "), "{text}");
        assert!(app.ok(&["cache", "status"]).contains("of 8.0 MB"), "{}", app.ok(&["cache", "status"]));
    });
}

#[test]
fn it_outlives_reloads_and_daemons() {
    let app = application(User::Ordinary);
    let target = format!("/a?{FRESH}");
    assert_eq!(get(&app, &target), "1");
    app.write("watt.yaml", &APPLICATION.replace("8M", "16M"));
    app.ok(&["reload"]);
    assert_eq!(get(&app, &target), "1");
    app.kill_daemon();
    app.ok(&["reload"]);
    assert_eq!(get(&app, &target), "1");
    assert_eq!(
        app.ok(&["cache", "purge", "--all"]),
        "1 response removed\n",
        "the successor's purge is done as well"
    );
    assert_eq!(get(&app, &target), "2");
    app.write("watt.yaml", &APPLICATION.replace("    cache: true\n", ""));
    app.ok(&["reload"]);
    assert_eq!([(); 2].map(|()| get(&app, &target)), ["3", "4"]);
}

/// The important ones of https://github.com/http-tests/cache-tests: what a request with these fields gets after another one.
#[test]
fn responses_are_stored_and_used_as_http_has_it() {
    let app = application(User::Ordinary);
    let day = "Date=Sun, 06 Nov 1994 08:49:37 GMT";
    let ahead = "Expires=Fri, 06 Nov 2093 08:49:37 GMT";
    let number = std::cell::Cell::new(0);
    let is_reused = |answer: &str, first: &str, second: &str| {
        number.set(number.get() + 1);
        let target = format!("GET /case/{}?{}", number.get(), answer.replace(' ', "%20").replace('"', "%22"));
        ask(&app, &target, first);
        ask(&app, &target, second).0 == "1"
    };
    for (answer, first, second) in [
        ("Cache-Control=max-age=3600", "", ""),
        ("Cache-Control=MaX-aGe=3600,%20foo", "", ""),
        ("Cache-Control=max-age=0,%20s-maxage=3600", "", ""),
        ("Cache-Control=max-age=3600&Expires=0", "", ""),
        ("Cache-Control=no-store&CDN-Cache-Control=max-age=60", "", ""),
        (ahead, "", ""),
        ("Cache-Control=max-age=3600&Vary=Foo", "Foo: 1,2\r\n", "Foo:  1 , 2\r\n"),
        (
            "Cache-Control=max-age=3600&Vary=Accept-Language",
            "Accept-Language: en, de\r\n",
            "Accept-Language: De,en\r\n",
        ),
        ("Cache-Control=max-age=3600", "", "Cookie: a=b\r\n"),
        ("Cache-Control=public,max-age=3600", "Authorization: x\r\n", ""),
        ("Cache-Control=max-age=3600", "", "Cache-Control: no-cache\r\n"),
    ] {
        assert!(is_reused(answer, first, second), "{answer} {first} {second}");
    }
    for (answer, first, second) in [
        ("", "", ""),
        ("Cache-Control=max-age=0", "", ""),
        ("Cache-Control=max-age=-60", "", ""),
        ("Cache-Control=max-age='60'", "", ""),
        ("Cache-Control=x=\"max-age=3600\",%20max-age=0", "", ""),
        ("Cache-Control=max-age=3600,%20No-StOrE", "", ""),
        ("Cache-Control=max-age=3600,%20No-CaChE", "", ""),
        ("Cache-Control=max-age=3600,%20private", "", ""),
        ("Cache-Control=max-age=3600&CDN-Cache-Control=no-store", "", ""),
        ("Cache-Control=max-age=3600&Age=7200", "", ""),
        ("Cache-Control=max-age=3600&Age=abc", "", ""),
        ("Cache-Control=max-age=3600&Age=0&Age=0", "", ""),
        ("Cache-Control=max-age=3600&Set-Cookie=a", "", ""),
        ("Expires=0", "", ""),
        ("Expires=Sun, 06 Nov 1994 08:49:37 GMT", "", ""),
        ("Cache-Control=max-age=3600&Vary=*", "", ""),
        ("Cache-Control=max-age=3600&Vary=,%20*", "", ""),
        ("Cache-Control=max-age=3600&Vary=Foo", "Foo: 1\r\n", "Foo: 2\r\n"),
        ("Cache-Control=max-age=3600&Vary=Foo", "", "Foo: 1\r\n"),
        ("Cache-Control=max-age=3600", "Authorization: x\r\n", ""),
        ("Cache-Control=max-age=3600", "Cache-Control: no-store\r\n", ""),
        ("Cache-Control=max-age=3600", "", "If-Match: \"x\"\r\n"),
    ] {
        assert!(!is_reused(answer, first, second), "{answer} {first} {second}");
    }
    assert!(!is_reused(&format!("Cache-Control=max-age=3600&{day}"), "", ""), "it is old by its date");
    let target = "GET /valid?ETag=%22a%22&Cache-Control=no-cache";
    assert_eq!(
        [(); 3].map(|()| ask(&app, target, "").0),
        ["1", "1", "1"],
        "the service says that it is right"
    );
    let changed = format!("/changed?{FRESH}");
    assert_eq!((get(&app, &changed), get(&app, &changed)), ("1".into(), "1".into()));
    ask(&app, &format!("POST {changed}"), "");
    assert_eq!(get(&app, &changed), "3");
}
