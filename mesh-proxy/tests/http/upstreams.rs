//! Servers outside of the application: by address, by name and at a Unix socket.

use tokio::net::{TcpListener, UnixListener};
use watt_api::mesh::{Server, Upstream};

use crate::bed::*;

const NAME: &str = "http://legacy";

/// `/` leads to this server, and `/old` as well, without that prefix.
fn leading_to(server: Server, host: Option<&str>) -> Bed {
    let bed = Bed::new();
    bed.change(|snapshot| {
        let upstream = Some(Box::new(Upstream { server, host: host.map(str::to_owned), tls: None }));
        let service =
            watt_api::mesh::Service { upstream, hold_timeout_ms: 0, callers: Some(Vec::new()), ..service() };
        snapshot.services.insert(NAME.into(), service);
        snapshot.routes = vec![route("/", NAME, None), route("/old", NAME, Some(""))];
    });
    bed
}

async fn tcp() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn at(name: &str, port: u16) -> Server {
    Server::Tcp { name: name.into(), port }
}

async fn accept(listener: &TcpListener) -> Wire {
    Wire::new(listener.accept().await.unwrap().0)
}

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn a_server_outside_is_asked_in_its_own_name_and_its_connection_is_kept() {
    local(async {
        for name in ["127.0.0.1", "localhost"] {
            let (listener, port) = tcp().await;
            let bed = leading_to(at(name, port), Some("legacy:81"));
            let mut client = bed.client();
            client.send("GET /x HTTP/1.1\r\nHost: shop\r\nX-Y: z\r\n\r\n").await;
            let mut wire = accept(&listener).await;
            let head = wire.head().await;
            assert!(head.starts_with("GET /x HTTP/1.1\r\nHost: legacy:81\r\nX-Y: z\r\n"), "{head}");
            assert_eq!(head.matches("ost: ").count(), 2, "one Host, and the client's beside it: {head}");
            assert_eq!(field(&head, "x-forwarded-host"), Some("shop"));
            wire.send(ANSWER).await;
            assert_eq!(client.response().await, (200, "ok".to_owned()));
            // A snapshot that says the same of it changes nothing.
            bed.apply();
            client.send(GET).await;
            wire.head().await;
            wire.send(ANSWER).await;
            assert_eq!(client.response().await, (200, "ok".to_owned()), "on the same connection");
            assert_eq!(bed.thread.counts()[NAME].requests, 2);
        }
    });
}

#[test]
fn a_server_that_has_moved_is_asked_where_it_is() {
    local(async {
        let (first, port) = tcp().await;
        let bed = leading_to(at("127.0.0.1", port), None);
        let mut client = bed.client();
        client.send(GET).await;
        let mut wire = accept(&first).await;
        let head = wire.head().await;
        assert_eq!(field(&head, "host"), Some("shop"), "as the client sent it");
        wire.send(ANSWER).await;
        client.response().await;
        let (second, port) = tcp().await;
        bed.change(|snapshot| {
            let service = snapshot.services.get_mut(NAME).unwrap();
            service.upstream =
                Some(Box::new(Upstream { server: at("127.0.0.1", port), host: None, tls: None }));
        });
        client.send(GET).await;
        let mut wire = accept(&second).await;
        wire.head().await;
        wire.send(ANSWER).await;
        assert_eq!(client.response().await.0, 200);
        bed.change(|snapshot| drop(snapshot.services.remove(NAME)));
        client.send(GET).await;
        assert_eq!(client.failure().await, (404, "unknown_service".to_owned()));
        assert_eq!(wire.try_head().await, None, "its connection is closed");
    });
}

#[test]
fn one_at_a_unix_socket_gets_the_host_that_the_client_sent() {
    local(async {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("other.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let bed = leading_to(Server::Unix { path }, None);
        let mut client = bed.client();
        client.send("GET /old/x HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        let mut wire = Wire::new(listener.accept().await.unwrap().0);
        let head = wire.head().await;
        assert!(head.starts_with("GET /x HTTP/1.1\r\nHost: shop\r\n"), "{head}");
        wire.send(ANSWER).await;
        assert_eq!(client.response().await.0, 200);
    });
}

#[test]
fn where_it_sends_clients_is_as_they_see_it() {
    local(async {
        let (listener, port) = tcp().await;
        let bed = leading_to(at("127.0.0.1", port), Some("legacy:81"));
        let mut client = bed.client();
        let mut wire = None;
        for (target, location, expected) in [
            ("/x", "http://legacy:81/y?z", "/y?z"),
            ("/x", "https://LEGACY:81", "/"),
            ("/x", "/y", "/y"),
            ("/x", "http://other/y", "http://other/y"),
            ("/x", "http://shop/y", "http://shop/y"),
            ("/old/x", "http://legacy:81/y?z", "/old/y?z"),
            ("/old/x", "/y", "/old/y"),
        ] {
            client.send(format!("GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n")).await;
            let wire = match &mut wire {
                Some(wire) => wire,
                none => none.insert(accept(&listener).await),
            };
            wire.head().await;
            wire.send(format!(
                "HTTP/1.1 302 Found\r\nLocation: {location}\r\nSet-Cookie: a=b; Path=/y\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
            let head = client.head().await;
            assert_eq!(field(&head, "location"), Some(expected), "{target} {location}");
            let path = if target == "/x" { "/y" } else { "/old/y" };
            assert_eq!(field(&head, "set-cookie"), Some(&*format!("a=b; Path={path}")));
        }
    });
}

#[test]
fn one_that_is_not_there_is_not_waited_for() {
    local(async {
        let (listener, port) = tcp().await;
        drop(listener);
        let bed = leading_to(at("127.0.0.1", port), None);
        let mut client = bed.ask("GET / HTTP/1.1\r\nHost: shop\r\nAccept: text/plain\r\n\r\n").await;
        let (status, text) = client.response().await;
        assert_eq!(status, 502);
        assert!(text.contains("Nobody at `http://legacy` could be connected to: "), "{text}");
        // No name that anybody would be asked for.
        let bed = leading_to(at("not a name", 80), None);
        assert_eq!(bed.ask(GET).await.failure().await, (502, "connection_refused".to_owned()));
        assert_eq!(bed.thread.counts()[NAME].failures, 1);
    });
}

#[test]
fn one_that_does_not_accept_is_waited_for_as_long_as_the_route_says() {
    at_once(async {
        // Nobody takes the connections out of a short queue: when it is full, the kernel answers no other one.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let connect =
            || std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(200));
        let queue: Vec<_> = std::iter::from_fn(|| connect().ok()).collect();
        assert!(!queue.is_empty());
        let bed = leading_to(at("localhost", address.port()), None);
        bed.change(|snapshot| snapshot.services.get_mut(NAME).unwrap().connect_timeout_ms = 1_000);
        assert_eq!(bed.ask(GET).await.failure().await, (504, "connect_timeout".to_owned()));
    });
}

#[test]
fn no_service_calls_it_by_name() {
    local(async {
        let (_listener, port) = tcp().await;
        let bed = leading_to(at("127.0.0.1", port), None);
        bed.change(|snapshot| {
            let service = snapshot.services.remove(NAME).unwrap();
            snapshot.services.insert("legacy".into(), service);
        });
        let mut client = bed.caller("web");
        client.send("GET / HTTP/1.1\r\nHost: legacy.plt.local\r\n\r\n").await;
        assert_eq!(client.failure().await, (403, "policy_denied".to_owned()));
    });
}
