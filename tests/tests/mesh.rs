//! Who may call whom, and how a private service reaches the world outside.

use std::{
    io::{Read, Write},
    net::TcpListener,
};

use watt_tests::{App, User, exchange, for_each_user, is_root};

const POLICIES: &str = r#"
services:
  front: { command: python3 services/web.py }
  other: { command: python3 services/web.py }
  secret: { command: python3 services/web.py }
server: { port: 0 }
gateway:
  routes:
    - { path: /, service: front }
    - { path: /other, service: other, strip: true }
policies:
  - { from: front, to: secret }
"#;

#[test]
fn policies_go_by_the_kernels_word() {
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("watt.yaml", POLICIES);
        app.up();
        for way in ["call", "mesh"] {
            let (_, body) = app.get(&format!("/{way}/secret/x"));
            assert!(body.contains("\"status\": 200"), "{user:?} {way}: {body}");
            let (_, body) = app.get(&format!("/other/{way}/secret/x"));
            assert!(body.contains("\"status\": 403") && body.contains("other"), "{user:?} {way}: {body}");
        }
        app.down();
    });
}

#[test]
fn a_caller_on_the_hosts_network_is_known_too() {
    for_each_user(|user| {
        let app = App::case("", user);
        let host = |name: &str| {
            POLICIES.replace(
                &format!("{name}: {{ command: python3 services/web.py }}"),
                &format!("{name}: {{ command: python3 services/web.py port, listen: port, network: host }}"),
            )
        };
        app.write(
            "watt.yaml",
            &host("front").replace(
                "other: { command: python3 services/web.py }",
                "other: { command: python3 services/web.py port, listen: port, network: host }",
            ),
        );
        app.up();
        // An ordinary user cannot have port 80 on the host: the socket is the way there.
        let ways: &[&str] = if user == User::Root && is_root() { &["mesh", "call"] } else { &["mesh"] };
        for way in ways {
            let (_, body) = app.get(&format!("/{way}/secret/x"));
            assert!(body.contains("\"status\": 200"), "{user:?} {way}: {body}");
            let (_, body) = app.get(&format!("/other/{way}/secret/x"));
            assert!(body.contains("\"status\": 403"), "{user:?} {way}: {body}");
        }
        app.down();
    });
}

/// A server on the host's localhost that answers each connection with one line.
fn host_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    answer(listener, "the host");
    port
}

#[test]
fn the_hosts_own_localhost_is_reached_where_it_is_named_and_nowhere_else() {
    for_each_user(|user| {
        let (open, closed) = (host_server(), host_server());
        let app = App::case("", user);
        app.write(
            "watt.yaml",
            &format!(
                r#"
services:
  web: {{ command: python3 services/web.py, egress: {{ host_ports: [{open}] }} }}
server: {{ port: 0 }}
gateway: {{ routes: [{{ path: /, service: web }}] }}
"#
            ),
        );
        app.up();
        let (_, body) = app.get(&format!("/fetch?http://127.0.0.1:{open}/"));
        assert!(body.contains("the host"), "{user:?}: {body}");
        let (_, body) = app.get(&format!("/fetch?http://127.0.0.1:{closed}/"));
        assert!(body.contains("refused"), "{user:?}: {body}");
        app.down();
    });
}

/// Answers every connection with one word.
fn answer(listener: TcpListener, word: &'static str) {
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let length = word.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(format!("{head}{word}").as_bytes());
        }
    });
}

/// An address of this machine that is not loopback, when it has one.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Sends nothing: connecting a UDP socket only picks the source address.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_loopback() && !address.is_unspecified())
}

#[test]
fn outgoing_tcp_of_a_private_service_reaches_the_outside() {
    let Some(address) = own_address() else { return };
    let listener = TcpListener::bind((address, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    answer(listener, "outside");
    for_each_user(|user| {
        let app = App::case("", user);
        app.write(
            "watt.yaml",
            "services:\n  web: { command: python3 services/web.py }\nserver: { port: 0 }\ngateway: { routes: [{ path: /, service: web }] }\n",
        );
        app.up();
        let (_, body) = app.get(&format!("/fetch?http://{address}:{port}/"));
        assert!(body.contains("outside"), "{user:?}: {body}");
        app.down();
    });
}

const NO_REDIRECT: &str = r#"
services:
  web: { command: python3 services/web.py }
  api: { command: python3 services/web.py }
server: { port: 0 }
gateway: { routes: [{ path: /, service: web }] }
"#;

#[test]
fn without_redirection_http_by_name_and_to_the_outside_still_works() {
    let Some(address) = own_address() else { return };
    // An ordinary user may not have these ports; then that nobody answers there is what has to be found out and told.
    let answers =
        [80, 443].map(|port| TcpListener::bind((address, port)).map(|at| answer(at, "outside")).is_ok());
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("watt.yaml", NO_REDIRECT);
        let up = app.wattctl(&["up", "-d"]).env("WATT_REDIRECT", "off").output().expect("wattctl runs");
        assert!(up.status.success(), "{}", watt_tests::printed(&up));
        let (_, body) = app.get("/call/api/x");
        assert!(body.contains("\\\"service\\\": \\\"api\\\""), "{user:?}: {body}");
        for (port, answers) in [80, 443].into_iter().zip(answers) {
            let (_, body) = app.get(&format!("/fetch?http://{address}:{port}/"));
            if answers {
                assert!(body.contains("outside"), "{user:?} {port}: {body}");
            } else {
                watt_tests::wait("its refusal is told", || {
                    let events = app.ok(&["events", "--json"]);
                    if events.contains(&format!("{address}:{port}")) { Ok(()) } else { Err(events) }
                });
            }
        }
        app.down();
    });
}

#[test]
fn a_websocket_goes_through_the_gateway_and_through_the_mesh() {
    for_each_user(|user| {
        let app = App::case("", user);
        app.write("watt.yaml", "services:\n  echo: { command: node services/websocket.js }\n  front: { command: node services/websocket.js echo }\nserver: { port: 0 }\ngateway: { routes: [{ path: /, service: echo }, { path: /front, service: front, strip: true }] }\n");
        app.up();
        for path in ["/", "/front/"] {
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nhello, tunnel. bye\n"
            );
            let answer = exchange(&app.gateway(), &request).expect("an answer");
            assert!(answer.starts_with("HTTP/1.1 101"), "{user:?} {path}: {answer}");
            // The key and the answer to it are the example of RFC 6455 §1.3.
            assert!(answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
            assert!(answer.ends_with("hello, tunnel. bye\n"), "{answer}");
        }
        app.down();
    });
}

#[test]
fn requests_that_parsers_disagree_on_are_refused() {
    let app = App::case("", User::Ordinary);
    app.write("watt.yaml", "services:\n  web: { command: python3 services/web.py }\nserver: { port: 0 }\ngateway: { routes: [{ path: /, service: web }] }\n");
    app.up();
    let address = app.gateway();
    for (what, request) in [
        (
            "both lengths",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"),
        ("bare LF", "GET / HTTP/1.1\nHost: x\n\n"),
        ("a bare LF among others", "GET / HTTP/1.1\r\nHost: x\r\nA: b\nC: d\r\n\r\n"),
        ("obs-fold", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n"),
        (
            "a chunk size with a sign",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
        ),
        (
            "a chunk size in hex notation",
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        ),
        ("no host", "GET / HTTP/1.1\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n"),
        ("a space before the colon", "GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n"),
    ] {
        let answer = exchange(&address, request).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 400"), "{what}: {answer}");
    }
    assert!(
        app.ok(&["logs", "web"]).lines().all(|line| line.contains("listening")),
        "one of them was forwarded"
    );
    app.down();
}
