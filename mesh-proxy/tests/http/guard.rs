//! What is refused, and that no byte of it reaches a worker.

use crate::bed::*;

const HOST: &str = "Host: shop\r\n";

fn get(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\n{HOST}{fields}\r\n")
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /x HTTP/1.1\r\n{HOST}{fields}\r\n{body}")
}

fn line(line: &str) -> String {
    format!("{line}\r\n{HOST}\r\n")
}

/// Requests that readers could disagree on.
fn refused() -> Vec<(String, u16, &'static str)> {
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    let chunked = "0\r\n\r\n";
    let mut cases = vec![
        (post(both, chunked), 400, "content_length_and_transfer_encoding"),
        (get("X: a\r\n b\r\n"), 400, "malformed_request"),
        (line("post /x HTTP/1.1"), 400, "malformed_request"),
        (line("Get /x HTTP/1.1"), 400, "malformed_request"),
        (line("delete /orders/1 HTTP/1.1"), 400, "malformed_request"),
        (line("PropFind /x HTTP/1.1"), 400, "malformed_request"),
        (get("X: a\rb\r\n"), 400, "malformed_request"),
        (get("X: a\0b\r\n"), 400, "malformed_request"),
        (get("X: a\x07b\r\n"), 400, "malformed_request"),
        (get("X : a\r\n"), 400, "malformed_request"),
        (get("X\t: a\r\n"), 400, "malformed_request"),
        (get("no colon\r\n"), 400, "malformed_request"),
        (get(": a\r\n"), 400, "malformed_request"),
        (get("X(: a\r\n"), 400, "malformed_request"),
        (get("X: a\n"), 400, "bare_lf"),
        ("GET /x HTTP/1.1\nHost: shop\n\n".into(), 400, "bare_lf"),
        ("GET /x HTTP/1.1\r\nHost: shop\r\n\n".into(), 400, "bare_lf"),
        ("\n".to_owned() + GET, 400, "malformed_request"),
        ("GET /x HTTP/1.1\r\n\r\n".into(), 400, "bad_host"),
        (get("Host: shop\r\n"), 400, "bad_host"),
        (get("hOST: other\r\n"), 400, "bad_host"),
        (get("Connection: host\r\n"), 400, "bad_connection_field"),
        (get("Connection: close, Authorization\r\n"), 400, "bad_connection_field"),
        (post("Content-Length: 5\r\nConnection: content-length\r\n", "hello"), 400, "bad_connection_field"),
        (
            format!("POST /x HTTP/1.0\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
            "bad_transfer_encoding",
        ),
        (get("Expect: something\r\n"), 417, "unknown_expectation"),
        (get(&format!("X: {}\r\n", "a".repeat(70_000))), 431, "head_too_large"),
        (get(&"X: y\r\n".repeat(200)), 431, "head_too_large"),
        (line(&format!("GET /{} HTTP/1.1", "a".repeat(40_000))), 414, "uri_too_long"),
        (line(&format!("GET /{} HTTP/1.1", "a".repeat(80_000))), 414, "uri_too_long"),
        (line("CONNECT shop:80 HTTP/1.1"), 501, "connect_not_supported"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\rX".into(), 505, "version_not_supported"),
        (line("GET /x HTTP/2.0"), 505, "version_not_supported"),
        (line("GET /x HTTP/1.10"), 400, "malformed_request"),
        (line("GET /x http/1.1"), 400, "malformed_request"),
        (line("GET /x"), 400, "malformed_request"),
        (line("GET  /x HTTP/1.1"), 400, "malformed_request"),
        (line("GET\t/x\tHTTP/1.1"), 400, "malformed_request"),
        (line("GET /a b HTTP/1.1"), 400, "malformed_request"),
        (line("GET /a\x01b HTTP/1.1"), 400, "malformed_request"),
        (line("G(T /x HTTP/1.1"), 400, "malformed_request"),
        (line("GET /a#b HTTP/1.1"), 400, "bad_target"),
        (line("GET /\u{e9} HTTP/1.1"), 400, "bad_target"),
        (line("GET x HTTP/1.1"), 400, "bad_target"),
        (line("GET * HTTP/1.1"), 400, "bad_target"),
        (line("GET ftp://shop/ HTTP/1.1"), 400, "bad_target"),
        (line("GET http://u@shop/ HTTP/1.1"), 400, "bad_host"),
        (line("GET http:///x HTTP/1.1"), 400, "bad_host"),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\n".into(), 400, "malformed_request"),
    ];
    for host in ["", "a b", "a/b", "u@a", "a,b", "a:b", "a:123456", "[::1", "[x]", "a\\b", "a\"b", ":80"] {
        cases.push((format!("GET /x HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400, "bad_host"));
    }
    for length in ["+5", "-5", "0x5", "5 5", "5, 5", "5,", "", "5a", "18446744073709551621"] {
        cases.push((post(&format!("Content-Length: {length}\r\n"), "hello"), 400, "bad_content_length"));
    }
    cases.push((post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), 400, "bad_content_length"));
    for coding in
        ["xchunked", "identity", "gzip, chunked", "chunked, chunked", ", chunked", "chunked;q=1", ""]
    {
        cases.push((
            post(&format!("Transfer-Encoding: {coding}\r\n"), chunked),
            400,
            "bad_transfer_encoding",
        ));
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    cases.push((post(twice, chunked), 400, "bad_transfer_encoding"));
    for body in
        ["-5\r\n", "0x5\r\n", "5\nhello", "5\r\nhelloXX", "5 \r\nhello", "\r\n", "0\r\nHost: a\r\n\r\n"]
    {
        cases.push((post("Transfer-Encoding: chunked\r\n", body), 400, "bad_chunk"));
    }
    cases
}

#[test]
fn what_readers_disagree_on_is_refused_and_reaches_nobody() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        for (request, status, reason) in refused() {
            let mut client = bed.ask(&request).await;
            let shown = request.chars().take(200).collect::<String>();
            assert_eq!(client.failure().await, (status, reason.to_owned()), "{shown:?}");
            assert_eq!(client.rest().await, "", "{shown:?}: the connection ends");
        }
        let counted: u64 = bed.thread.refusals().map(|(_, count)| count).sum();
        assert_eq!(counted, refused().len() as u64);
        let accepted = tokio::time::timeout(std::time::Duration::ZERO, worker.accept()).await;
        assert!(accepted.is_err(), "a worker was connected to");
    });
}

#[test]
fn a_chunk_that_turns_bad_ends_the_request_and_both_connections() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask(post("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n")).await;
        let mut wire = worker.asked().await;
        assert_eq!(wire.take(10).await, "5\r\nhello\r\n");
        client.send("5\nhello\r\n0\r\n\r\n").await;
        assert_eq!(client.failure().await, (400, "bad_chunk".into()));
        assert_eq!(wire.rest().await, "", "nothing of the bad chunk");
    });
}

#[test]
fn what_is_well_formed_passes() {
    let ows = get("X-A:\t v \t\r\n");
    let cases = [
        GET.to_owned(),
        "\r\n".to_owned() + GET,
        ows,
        get("X-A:\r\n"),
        get("X-A: caf\u{e9}\r\n"),
        get(&"X: y\r\n".repeat(120)),
        get(&format!("X: {}\r\n", "a".repeat(60_000))),
        get("Content-Length: 0\r\n"),
        get("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n"),
        get("Connection: close\r\n"),
        line("OPTIONS * HTTP/1.1"),
        line("GET http://shop.example HTTP/1.1"),
        line("M-SEARCH /x HTTP/1.1"),
        "GET /x HTTP/1.1\r\nHost: [2001:db8::1]:8080\r\n\r\n".into(),
        "GET /x HTTP/1.1\r\nHost: a_b.example.\r\n\r\n".into(),
        "GET / HTTP/1.0\r\n\r\n".into(),
    ];
    local(async {
        let (bed, worker) = Bed::with_worker();
        worker.answer(OK);
        for request in cases {
            let mut client = bed.ask(&request).await;
            assert_eq!(client.response().await, (200, "ok".into()), "{request:?}");
        }
    });
}

#[test]
fn http2_is_not_tunnelled_past_the_routes() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.client();
        let wish = "Upgrade: websocket, h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA\r\n";
        client.send(get(wish)).await;
        let head = worker.accept().await.head().await.to_ascii_lowercase();
        assert!(
            !head.contains("upgrade") && !head.contains("http2") && !head.contains("connection"),
            "{head}"
        );
    });
}

#[test]
fn no_spelling_reaches_another_route() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        bed.change(|snapshot| {
            snapshot.services.insert("admin".into(), service());
            snapshot.routes = vec![route("/api", "api", Some("")), route("/admin", "admin", None)];
        });
        for path in ["/api/../admin", "/api/%2e%2e/admin", "/api/..%2fadmin", "//admin", "/api/..;/admin"] {
            let mut client = bed.ask(line(&format!("GET {path} HTTP/1.1"))).await;
            assert_eq!(client.failure().await, (400, "ambiguous_path".into()), "{path}");
        }
        let _client = bed.ask(line("GET /api/a/../b%2fc HTTP/1.1")).await;
        let head = worker.accept().await.head().await;
        assert!(head.starts_with("GET /a/../b%2fc HTTP/1.1\r\n"), "passed on as it came: {head}");
    });
}

#[test]
fn responses_that_readers_disagree_on_are_not_passed_on() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        for response in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
            "HTTP/1.1 099 What\r\n\r\n",
            "ICY 200 OK\r\n\r\n",
            "hello",
        ] {
            let mut client = bed.ask(GET).await;
            let mut wire = worker.asked().await;
            wire.send(response).await;
            assert_eq!(client.failure().await, (502, "bad_response".into()), "{response:?}");
            assert_eq!(wire.rest().await, "");
        }
        assert_eq!(bed.thread.counts()["api"].failures, 10);
    });
}
