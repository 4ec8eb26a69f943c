//! Clients that speak HTTP/2, with workers that speak HTTP/1.1.

use bytes::Bytes;
use h2::Reason;
use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::spawn_local,
    time::timeout,
};

use crate::{bed::*, h2_bed::*};

/// When nothing moved for so long, nothing will before the other end reads.
const PAUSE: std::time::Duration = std::time::Duration::from_millis(200);

#[test]
fn a_request_is_one_like_any_other() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let client = bed.h2().await;
        let (response, _) = client.ask(get("/a?b=c").header("x-a", "1").header("cookie", "a=1"), true).await;
        let mut wire = worker.accept().await;
        let head = wire.head().await;
        assert!(head.starts_with("GET /a?b=c HTTP/1.1\r\nHost: shop\r\n"), "{head}");
        for (name, value) in
            [("x-a", "1"), ("cookie", "a=1"), ("x-forwarded-host", "shop"), ("content-length", "")]
        {
            assert_eq!(field(&head, name).unwrap_or_default(), value, "{head}");
        }
        assert!(field(&head, "traceparent").is_some() && field(&head, "via").is_some());
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-B: 2\r\nConnection: keep-alive\r\n\r\nok").await;
        let response = response.await.unwrap();
        assert_eq!((response.status().as_u16(), &response.headers()["x-b"]), (200, &"2".parse().unwrap()));
        assert!(!response.headers().contains_key("connection"));
        assert_eq!(body(&mut response.into_body()).await.0, "ok");
        let counts = &bed.thread.counts()["api"];
        assert_eq!((counts.requests, counts.failures, counts.in_flight), (1, 0, 0));

        let (response, _) = client.ask(get("/again"), true).await;
        assert!(wire.head().await.starts_with("GET /again "), "the worker's connection is used again");
        wire.send(OK).await;
        assert_eq!(whole(response).await, (200, "ok".into()));
        assert_eq!(bed.thread.connections(), 1);
    });
}

#[test]
fn requests_of_one_connection_do_not_wait_for_each_other() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let client = bed.h2().await;
        let (slow, _) = client.ask(get("/slow"), true).await;
        let mut slow_wire = worker.asked().await;
        let (fast, _) = client.ask(get("/fast"), true).await;
        let mut fast_wire = worker.asked().await;
        assert_eq!(bed.thread.in_flight(1), 2);
        fast_wire.send(OK).await;
        assert_eq!(whole(fast).await, (200, "ok".into()));
        slow_wire.send(OK).await;
        assert_eq!(whole(slow).await, (200, "ok".into()));
    });
}

#[test]
fn bodies_and_trailers_go_both_ways_while_both_are_open() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let client = bed.h2().await;
        let (response, mut send) = client.ask(post("/").header("te", "trailers"), false).await;
        let mut wire = worker.accept().await;
        let head = wire.head().await;
        assert_eq!(
            (field(&head, "transfer-encoding"), field(&head, "te")),
            (Some("chunked"), Some("trailers"))
        );
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n").await;
        let mut answer = response.await.unwrap().into_body();
        for _ in 0..3 {
            send.send_data(Bytes::from_static(b"ping"), false).unwrap();
            assert_eq!(wire.take(9).await, "4\r\nping\r\n");
            wire.send("4\r\npong\r\n").await;
            assert_eq!(take(&mut answer, 4).await, "pong");
        }
        send.send_trailers(trailers(&[("x-up", "1"), ("content-length", "5")])).unwrap();
        assert_eq!(wire.take(14).await, "0\r\nx-up: 1\r\n\r\n", "what may be no trailer is left out");
        wire.send("0\r\nX-Sum: 7\r\n\r\n").await;
        assert_eq!(body(&mut answer).await, (String::new(), Some(trailers(&[("x-sum", "7")]))));
        until("nothing is in flight", || bed.thread.in_flight(1) == 0).await;
    });
}

#[test]
fn a_body_with_a_length_keeps_it() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let client = bed.h2().await;
        let (response, mut send) = client.ask(post("/").header("content-length", "2"), false).await;
        send.send_data(Bytes::from_static(b"ab"), true).unwrap();
        let mut wire = worker.accept().await;
        let head = wire.head().await;
        assert_eq!((field(&head, "content-length"), field(&head, "transfer-encoding")), (Some("2"), None));
        assert_eq!(wire.take(2).await, "ab");
        wire.send(OK).await;
        assert_eq!(whole(response).await, (200, "ok".into()));
    });
}

#[test]
fn responses_without_a_body_have_none() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let client = bed.h2().await;
        let mut wire = None;
        for (method, response, length) in [
            ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", Some("10")),
            ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", Some("10")),
            ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
            ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Some("0")),
        ] {
            let (answer, _) = client.ask(Request::builder().method(method).uri("http://shop/"), true).await;
            let wire = match &mut wire {
                Some(wire) => wire,
                None => wire.insert(worker.accept().await),
            };
            wire.head().await;
            wire.send(response).await;
            let answer = answer.await.unwrap();
            let given = answer.headers().get("content-length").map(|value| value.to_str().unwrap());
            assert_eq!(given, length, "{response}");
            assert!(answer.into_body().is_end_stream(), "{response}");
        }
    });
}

#[test]
fn interim_responses_go_on() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let client = bed.h2().await;
        let (mut response, _) = client.ask(get("/"), true).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n").await;
        let hints = std::future::poll_fn(|cx| response.poll_informational(cx)).await.unwrap().unwrap();
        assert_eq!((hints.status().as_u16(), &hints.headers()["link"]), (103, &"</a.css>".parse().unwrap()));
        wire.send(OK).await;
        assert_eq!(whole(response).await, (200, "ok".into()));
    });
}

#[test]
fn a_client_that_takes_back_its_request_cancels_it_at_the_worker() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let client = bed.h2().await;
        // Before the response, in the middle of it, and in the middle of the request.
        for begun in ["", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"] {
            for ended in [true, false] {
                let (response, mut send) = client.ask(post("/"), ended).await;
                let mut wire = worker.asked().await;
                wire.send(begun).await;
                if !begun.is_empty() {
                    take(response.await.unwrap().body_mut(), 4).await;
                }
                send.send_reset(Reason::CANCEL);
                wire.rest().await;
                until("nothing is in flight", || bed.thread.in_flight(1) == 0).await;
            }
        }
        assert!(bed.lost().is_empty() && client.is_open().await);
    });
}

#[test]
fn a_response_that_breaks_off_resets_its_stream_alone() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let client = bed.h2().await;
        let (response, _) = client.ask(get("/broken"), true).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
        let mut answer = response.await.unwrap().into_body();
        take(&mut answer, 4).await;
        drop(wire);
        let error = answer.data().await.unwrap().unwrap_err();
        assert_eq!((error.is_reset(), error.reason()), (true, Some(Reason::INTERNAL_ERROR)));
        assert_eq!(bed.lost(), ["GET /broken of api at run 1"]);
        let (response, _) = client.ask(get("/"), true).await;
        worker.asked().await.send(OK).await;
        assert_eq!(whole(response).await.0, 200);
    });
}

#[test]
fn the_guard_is_the_same() {
    local(async {
        let (bed, _worker) = Bed::with_worker();
        bed.change(|snapshot| snapshot.routes.push(route("/admin", "api", None)));
        let client = bed.h2().await;
        for (request, reason) in [
            (get("/").header("host", "other"), "bad_host"),
            (get("/x/..%2fadmin"), "ambiguous_path"),
            (get("/").header("expect", "more"), "unknown_expectation"),
            (Request::connect("shop:80"), "connect_not_supported"),
        ] {
            let (response, _) = client.ask(request, true).await;
            let (_, body) = whole(response).await;
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            assert_eq!(body["error"]["reason"], reason);
        }
        let counted: u64 = bed.thread.refusals().map(|(_, count)| count).sum();
        assert_eq!(counted, 4);
        assert!(client.is_open().await);
    });
}

#[test]
fn a_response_that_does_not_wait_for_the_request_ends_the_stream() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let client = bed.h2().await;
        let (response, mut send) = client.ask(post("/"), false).await;
        send.send_data(Bytes::from_static(b"begin"), false).unwrap();
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig").await;
        assert_eq!(whole(response).await, (413, "big".into()));
        let reset = std::future::poll_fn(|cx| send.poll_reset(cx)).await.unwrap();
        assert_eq!(reset, Reason::NO_ERROR);
        until("nothing is in flight", || bed.thread.in_flight(1) == 0).await;
    });
}

#[test]
fn a_stream_that_is_not_read_stalls_itself_alone_and_in_bounded_memory() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        // A client with room for more than one stream.
        let mut builder = h2::client::Builder::new();
        let client = H2::with(bed.client().stream, builder.initial_connection_window_size(1 << 20)).await;
        let (slow, _) = client.ask(get("/slow"), true).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
        let mut slow = slow.await.unwrap().into_body();
        let mut sent = 0;
        let block = vec![b'x'; 64 << 10];
        while let Ok(len) = timeout(PAUSE, wire.stream.write(&block)).await {
            sent += len.unwrap();
            assert!(sent < 2 << 20, "the proxy swallows everything");
        }
        let (fast, _) = client.ask(get("/fast"), true).await;
        worker.asked().await.send(OK).await;
        assert_eq!(whole(fast).await, (200, "ok".into()));
        // What was sent is there once the client reads.
        let mut read = 0;
        while read < sent {
            let data = slow.data().await.unwrap().unwrap();
            slow.flow_control().release_capacity(data.len()).unwrap();
            read += data.len();
        }
    });
}

#[test]
fn a_worker_that_does_not_read_stalls_the_request_alone_and_in_bounded_memory() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let client = bed.h2().await;
        let mut stalled = Vec::new();
        for _ in 0..8 {
            let (response, mut send) = client.ask(post("/slow"), false).await;
            let wire = worker.asked().await;
            let mut taken = 0;
            while let Ok(room) = timeout(PAUSE, room(&mut send)).await {
                taken += room;
                assert!(taken < 2 << 20, "the proxy swallows everything");
                send.send_data(vec![b'x'; room].into(), false).unwrap();
            }
            stalled.push((response, send, wire));
        }
        let (response, mut send) = client.ask(post("/fast"), false).await;
        send.send_data(Bytes::from_static(b"ab"), true).unwrap();
        let mut wire = worker.asked().await;
        wire.take(2).await;
        wire.send(OK).await;
        assert_eq!(whole(response).await, (200, "ok".into()));
    });
}

#[test]
fn a_preface_may_come_in_pieces_and_nothing_else_may_pass_for_it() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let _worker = worker.answer(OK);
        let mut client = bed.client();
        for byte in PREFACE.bytes() {
            client.send([byte]).await;
            tokio::task::yield_now().await;
        }
        client.send(frame(SETTINGS, 0, 0, b"")).await;
        client.send(frame(HEADERS, 5, 1, GET_BLOCK)).await;
        let mut read = Vec::new();
        while !read.windows(2).any(|window| window == b"ok") {
            assert_ne!(client.stream.read_buf(&mut read).await.unwrap(), 0, "{read:?}");
        }
        let mut wrong = bed.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\rX").await;
        assert_eq!(wrong.failure().await.0, 505);
        let mut late = bed.ask(GET).await;
        late.response().await;
        late.send(PREFACE).await;
        assert_eq!(late.failure().await.0, 505, "only at the beginning");
    });
}

#[test]
fn grpc_gets_errors_of_its_own() {
    local(async {
        let bed = Bed::new();
        bed.change_api(|api| api.outlook = watt_api::mesh::Outlook::Stopped);
        let client = bed.h2().await;
        let request =
            post("/shop.Cart/Add").header("content-type", "application/grpc").header("te", "trailers");
        let (response, _) = client.ask(request, true).await;
        let response = response.await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        let field = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
        assert_eq!((field("grpc-status"), field("grpc-message")), ("14".into(), "`api` was stopped.".into()));
        assert!(response.body().is_end_stream());
        assert_eq!(bed.thread.counts()["api"].failures, 1);
    });
}

#[test]
fn another_protocol_has_a_stream_of_its_own() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let client = bed.h2().await;
        let websocket = h2::ext::Protocol::from_static("websocket");
        until("the proxy's settings came", || client.may_connect()).await;
        let request =
            Request::connect("http://shop/chat").extension(websocket).header("sec-websocket-version", "13");
        let (response, mut send) = client.ask(request, false).await;
        let mut wire = worker.accept().await;
        let head = wire.head().await;
        assert_eq!(
            (field(&head, "upgrade"), field(&head, "connection")),
            (Some("websocket"), Some("upgrade"))
        );
        assert_eq!(field(&head, "sec-websocket-key").unwrap().len(), 24);
        wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n").await;
        let response = response.await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        let mut answer = response.into_body();
        send.send_data(Bytes::from_static(b"\x81\x82mask\x05\x08"), false).unwrap();
        wire.take_bytes(8).await;
        // A text frame, whose first byte is no text.
        wire.send(b"\x81\x02hi").await;
        let data = answer.data().await.unwrap().unwrap();
        assert_eq!(&data[..], b"\x81\x02hi");
        send.send_data(Bytes::from_static(b"\x88\x80mask"), true).unwrap();
        assert_eq!(wire.take_bytes(6).await, b"\x88\x80mask");
        wire.send(b"\x88\x00").await;
        drop(wire);
        assert_eq!(&answer.data().await.unwrap().unwrap()[..], b"\x88\x00");
        assert_eq!(body(&mut answer).await, (String::new(), None), "it has ended well");
    });
}

#[test]
fn a_protocol_that_is_none_reaches_nobody() {
    local(async {
        let (bed, _worker) = Bed::with_worker();
        let client = bed.h2().await;
        until("the proxy's settings came", || client.may_connect()).await;
        let ask = |protocol: &'static str| {
            Request::connect("http://shop/").extension(h2::ext::Protocol::from_static(protocol))
        };
        let smuggled = "x\r\nX-A: 1\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: shop\r\nX-B: ";
        let (response, _) = client.ask(ask(smuggled), false).await;
        assert_eq!(response.await.unwrap_err().reason(), Some(Reason::PROTOCOL_ERROR));
        let (response, _) = client.ask(ask("h2c"), false).await;
        assert_eq!(whole(response).await, (501, String::new()));
        assert_eq!(bed.thread.counts()["api"].requests, 0);
        assert_eq!(bed.thread.refusals().map(|(_, count)| count).sum::<u64>(), 1);
    });
}

#[test]
fn what_is_sent_into_a_tunnel_that_is_not_there_is_no_request() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let client = bed.h2().await;
        until("the proxy's settings came", || client.may_connect()).await;
        for (answer, seen) in [
            (OK, (502, String::new())),
            ("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", (403, "no".into())),
        ] {
            let before = bed.thread.counts()["api"].requests;
            let websocket = h2::ext::Protocol::from_static("websocket");
            let (response, mut send) =
                client.ask(Request::connect("http://shop/chat").extension(websocket), false).await;
            let smuggled = "GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n";
            send.send_data(Bytes::from_static(smuggled.as_bytes()), false).unwrap();
            let mut wire = worker.asked().await;
            wire.send(answer).await;
            assert_eq!(whole(response).await, seen);
            drop(wire);
            until("nothing is in flight", || bed.thread.in_flight(1) == 0).await;
            assert_eq!(bed.thread.counts()["api"].requests, before + 1);
        }
    });
}

#[test]
fn clients_wait_while_a_service_starts() {
    local(async {
        let bed = Bed::new();
        let client = bed.h2().await;
        let waiting = spawn_local(async move { client.get("/").await });
        until("it is held", || bed.thread.counts()["api"].held == 1).await;
        bed.worker("api", 1).answer(OK);
        assert_eq!(waiting.await.unwrap(), (200, "ok".into()));
    });
}

#[test]
fn a_websocket_over_http2_is_told_to_come_back() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        let client = bed.h2().await;
        until("the proxy's settings came", || client.may_connect()).await;
        let websocket = h2::ext::Protocol::from_static("websocket");
        let request = Request::connect("http://shop/chat").extension(websocket);
        let (response, mut send) = client.ask(request, false).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
            .await;
        let mut answer = response.await.unwrap().into_body();
        bed.change_api(|api| {
            api.workers[0].state = watt_api::mesh::WorkerState::Draining;
            api.workers[0].drain_ms = Some(5_000);
        });
        assert_eq!(&answer.data().await.unwrap().unwrap()[..], b"\x88\x11\x03\xf4service restart");
        send.send_data(Bytes::from_static(b"\x88\x82\0\0\0\0\x03\xf4"), true).unwrap();
        assert_eq!(wire.take_bytes(8).await, b"\x88\x82\0\0\0\0\x03\xf4");
        assert_eq!(body(&mut answer).await, (String::new(), None));
        until("nothing is in flight", || bed.thread.in_flight(1) == 0).await;
    });
}
