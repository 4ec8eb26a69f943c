//! What becomes of the lines of heads.

use crate::bed::*;

/// A request's head at the worker, without the lines that every request gets.
async fn forwarded(bed: &Bed, worker: &MockWorker, client: &mut Wire, head: &str) -> String {
    client.send(head).await;
    let mut wire = worker.accept().await;
    let head = wire.head().await;
    wire.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
    client.head().await;
    until("the request is over", || bed.thread.in_flight(1) == 0).await;
    let added = ["via: ", "forwarded: ", "x-forwarded-host: ", "x-forwarded-proto: ", "traceparent: "];
    let ours = |line: &str| added.iter().any(|name| line.to_ascii_lowercase().starts_with(name));
    head.split_inclusive("\r\n").filter(|line| !ours(line)).collect()
}

#[test]
fn lines_are_passed_on_as_they_came() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.client();
        let head = "GET /a%20b?q=1&q=2 HTTP/1.1\r\nHOST: shop:80\r\nx-A:\t v \t\r\nX-a: 2\r\nEmpty:\r\n\
                    Cookie: a=b; c=\"d\"\r\n\r\n";
        assert_eq!(forwarded(&bed, &worker, &mut client, head).await, head);
    });
}

#[test]
fn hop_by_hop_fields_of_requests_go_no_further() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.client();
        let head = "GET / HTTP/1.1\r\nConnection: keep-alive, X-Mine\r\nKeep-Alive: 5\r\nHost: shop\r\n\
                    x-mine: 1\r\nProxy-Connection: close\r\nProxy-Authorization: x\r\nTE: gzip\r\n\
                    Kept: 1\r\nUpgrade: websocket\r\n\r\n";
        let expected = "GET / HTTP/1.1\r\nHost: shop\r\nKept: 1\r\n\r\n";
        assert_eq!(forwarded(&bed, &worker, &mut client, head).await, expected);
        let head = "GET / HTTP/1.1\r\nHost: shop\r\nTE: trailers\r\nConnection: TE\r\n\r\n";
        let expected = "GET / HTTP/1.1\r\nHost: shop\r\nTE: trailers\r\nConnection: TE\r\n\r\n";
        assert_eq!(forwarded(&bed, &worker, &mut client, head).await, expected);
    });
}

/// CGI and its kin read `_` as `-`.
#[test]
fn lookalikes_of_the_proxys_fields_stay_outside() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.client();
        let head = "GET / HTTP/1.1\r\nHost: shop\r\nX_Forwarded_For: 1.2.3.4\r\nX-Forwarded_Proto: https\r\n\
                    X_Real-IP: 1\r\nFORWARDED: for=x\r\nContent_Length: 5\r\nTransfer_Encoding: chunked\r\n\
                    trace_parent: kept\r\nmy_own: kept\r\n\r\n";
        let expected = "GET / HTTP/1.1\r\nHost: shop\r\ntrace_parent: kept\r\nmy_own: kept\r\n\r\n";
        assert_eq!(forwarded(&bed, &worker, &mut client, head).await, expected);
    });
}

#[test]
fn a_route_of_everything_hides_no_prefix() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        bed.change(|snapshot| snapshot.routes = vec![route("/", "api", Some("/v1"))]);
        let mut client = bed.client();
        let head = "GET /x HTTP/1.1\r\nHost: shop\r\n\r\n";
        let expected = "GET /v1/x HTTP/1.1\r\nHost: shop\r\n\r\n";
        assert_eq!(forwarded(&bed, &worker, &mut client, head).await, expected);
    });
}

#[test]
fn the_authority_of_an_absolute_target_replaces_the_host() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.client();
        let head = "GET http://shop.example/x?y HTTP/1.1\r\nA: 1\r\nHost: other\r\nB: 2\r\n\r\n";
        let expected = "GET /x?y HTTP/1.1\r\nHost: shop.example\r\nA: 1\r\nB: 2\r\n\r\n";
        assert_eq!(forwarded(&bed, &worker, &mut client, head).await, expected);
        let head = "GET HTTP://shop.example HTTP/1.1\r\nHost: shop.example\r\n\r\n";
        let expected = "GET / HTTP/1.1\r\nHost: shop.example\r\n\r\n";
        assert_eq!(forwarded(&bed, &worker, &mut client, head).await, expected);
    });
}

#[test]
fn what_every_request_gets() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.client();
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        client
            .send(format!("GET / HTTP/1.1\r\nHost: shop\r\nVia: 1.0 a\r\ntraceparent: {parent}\r\ntracestate: a=1\r\n\r\n"))
            .await;
        let head = worker.accept().await.head().await;
        assert!(head.contains("\r\nVia: 1.0 a\r\n") && head.contains("\r\nVia: 1.1 shop\r\n"), "{head}");
        assert_eq!(field(&head, "forwarded"), Some("for=unknown;host=\"shop\";proto=http"));
        let trace = field(&head, "traceparent").unwrap();
        assert!(trace.starts_with(&parent[..36]) && trace != parent, "{trace}");
        assert_eq!(field(&head, "tracestate"), Some("a=1"));
    });
}

#[test]
fn an_invalid_trace_is_replaced_with_its_state() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        for trace in ["traceparent: 00-0-0-0\r\n", "", "traceparent: {P}\r\ntraceparent: {P}\r\n"] {
            let trace = trace.replace("{P}", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
            let _client =
                bed.ask(format!("GET / HTTP/1.1\r\nHost: shop\r\n{trace}tracestate: a=1\r\n\r\n")).await;
            let head = worker.accept().await.head().await;
            let fresh = field(&head, "traceparent").unwrap();
            assert!(fresh.len() == 55 && !fresh.contains("0af7651916cd43dd"), "{fresh}");
            assert_eq!(field(&head, "tracestate"), None);
        }
    });
}

#[test]
fn responses_are_passed_on_without_hop_by_hop_fields() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        wire.send(
            "HTTP/1.1 200 Fine\r\nServer: x\r\nConnection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\n\
             set-cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\nLocation: /x\r\n\r\n",
        )
        .await;
        assert_eq!(
            client.head().await,
            "HTTP/1.1 200 Fine\r\nServer: x\r\nset-cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\
             Location: /x\r\n\r\n"
        );
    });
}

#[test]
fn a_stripped_prefix_comes_back_in_locations_and_cookies() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        bed.change(|snapshot| snapshot.routes = vec![route("/shop", "api", Some(""))]);
        let mut client = bed.ask("GET /shop/login?x HTTP/1.1\r\nHost: h:8\r\n\r\n").await;
        let mut wire = worker.accept().await;
        let head = wire.head().await;
        assert!(head.starts_with("GET /login?x HTTP/1.1\r\nHost: h:8\r\n"), "{head}");
        assert_eq!(field(&head, "x-forwarded-prefix"), Some("/shop"));
        wire.send(
            "HTTP/1.1 302 Found\r\nLocation: http://h:8/home\r\nSet-Cookie: a=b; Path=/\r\nSet-Cookie: c=d\r\n\
             Content-Length: 0\r\n\r\n",
        )
        .await;
        let head = client.head().await;
        assert_eq!(field(&head, "location"), Some("http://h:8/shop/home"));
        assert!(
            head.contains("\r\nSet-Cookie: a=b; Path=/shop\r\n") && head.contains("\r\nSet-Cookie: c=d\r\n")
        );
        client.send("GET /other HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(client.failure().await, (404, "no_route".into()));
    });
}

#[test]
fn a_client_of_the_last_century() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
        let mut wire = worker.accept().await;
        let head = wire.head().await;
        assert!(head.starts_with("GET / HTTP/1.1\r\nHost: localhost\r\n"), "{head}");
        wire.send(OK).await;
        assert_eq!(
            client.head().await,
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\n"
        );
        client.take(2).await;
        client.send("GET / HTTP/1.0\r\n\r\n").await;
        wire.head().await;
        wire.send(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n",
        )
        .await;
        assert_eq!(client.rest().await, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde");
    });
}

#[test]
fn a_worker_of_the_last_century() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.0 200 OK\r\nX: y\r\n\r\nhello").await;
        assert_eq!(
            client.head().await,
            "HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n",
            "its end is known only when it comes"
        );
        assert_eq!(client.take(10).await, "5\r\nhello\r\n");
        wire.send(" you").await;
        assert_eq!(client.take(9).await, "4\r\n you\r\n");
        drop(wire);
        assert_eq!(client.take(5).await, "0\r\n\r\n");
        client.send(GET).await;
        worker.asked().await;
    });
}
