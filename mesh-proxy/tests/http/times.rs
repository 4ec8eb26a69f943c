//! The time that a whole request has: its service's, or less where its client says so, and what the worker is told of it.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{bed::*, h2_bed::*};

const GRPC: &str = "POST /a.B/C HTTP/1.1\r\nHost: shop\r\nContent-Type: application/grpc\r\ngrpc-timeout: 2S\r\nContent-Length: 2\r\n\r\nab";

fn left(head: &str) -> u64 {
    field(head, "x-request-timeout-ms").expect("what is left").trim().parse().unwrap()
}

#[test]
fn a_request_has_so_much_time_with_all_its_waiting() {
    at_once(async {
        let bed = Bed::new();
        bed.change_api(|api| api.traffic.total_timeout_ms = 1_000);
        let start = Instant::now();
        // There is no worker that it could wait for.
        assert_eq!(bed.ask(GET).await.failure().await, (504, "deadline_exceeded".into()));
        assert_eq!(start.elapsed().as_millis() / 10, 100);
        let worker = bed.worker("api", 1);
        let mut client = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        assert_eq!(client.failure().await, (504, "deadline_exceeded".into()));
        assert_eq!(wire.rest().await, "", "the worker sees that nobody waits any longer");
        let counts = &bed.thread.counts()["api"];
        assert_eq!((counts.requests, counts.failures, counts.timed_out), (1, 2, 2));
        assert_eq!((counts.in_flight, counts.held), (0, 0));

        client.send(GET).await;
        worker.asked().await.send(OK).await;
        assert_eq!(client.response().await, (200, "ok".into()), "the client's connection goes on");
    });
}

#[test]
fn a_response_that_takes_longer_breaks_off() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        bed.change_api(|api| api.traffic.total_timeout_ms = 1_000);
        let mut client = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n").await;
        client.head().await;
        assert_eq!(client.rest().await, "2\r\nab\r\n");
        let h2 = bed.h2().await;
        let (response, _) = h2.ask(get("/"), true).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").await;
        let mut body = response.await.unwrap().into_body();
        assert_eq!(take(&mut body, 2).await, "ab");
        assert!(body.data().await.unwrap().is_err(), "the stream is reset");
        assert_eq!(bed.thread.counts()["api"].timed_out, 2);
    });
}

#[test]
fn a_tunnel_lasts() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        bed.change_api(|api| api.traffic.total_timeout_ms = 1_000);
        let mut client =
            bed.ask("GET / HTTP/1.1\r\nHost: shop\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n").await;
        client.head().await;
        sleep(Duration::from_secs(60)).await;
        client.send("ping").await;
        assert_eq!(wire.take(4).await, "ping");
    });
}

#[test]
fn a_client_may_ask_for_less_and_the_worker_is_told_what_is_left() {
    at_once(async {
        let bed = Bed::new();
        let get = |ms: &str| {
            format!("GET / HTTP/1.1\r\nHost: shop\r\nX-Request-Timeout-Ms: {ms}\r\nX-A: b\r\n\r\n")
        };
        let start = Instant::now();
        assert_eq!(bed.ask(get("500")).await.failure().await, (504, "deadline_exceeded".into()));
        assert_eq!(start.elapsed().as_millis() / 10, 50);

        let mut client = bed.ask(get("5000")).await;
        sleep(Duration::from_secs(2)).await;
        let worker = bed.worker("api", 1);
        let mut wire = worker.accept().await;
        let head = wire.head().await;
        assert!((2_900..=3_000).contains(&left(&head)) && head.contains("X-A: b\r\n"), "{head}");
        drop(wire);
        sleep(Duration::from_secs(1)).await;
        let other = bed.worker("api", 2);
        let mut wire = other.accept().await;
        let head = wire.head().await;
        assert!((1_900..=2_000).contains(&left(&head)), "it is sent again: {head}");
        wire.send(OK).await;
        assert_eq!(client.response().await, (200, "ok".into()));

        // The service's own is told as well, and is what nobody gets beyond.
        bed.change_api(|api| {
            api.traffic.total_timeout_ms = 1_500;
            api.workers.remove(0);
        });
        for request in [GET.to_owned(), get("9000"), get("nonsense")] {
            client.send(&request).await;
            let head = wire.head().await;
            assert!((1_400..=1_500).contains(&left(&head)), "{head}");
            wire.send(OK).await;
            client.response().await;
        }
        // What is no number is left to those who may know what it means.
        bed.change_api(|api| api.traffic.total_timeout_ms = 0);
        client.send(get("nonsense")).await;
        assert_eq!(field(&wire.head().await, "x-request-timeout-ms"), Some("nonsense"));
        wire.send(OK).await;
        client.response().await;
        client.send(GET).await;
        assert_eq!(field(&wire.head().await, "x-request-timeout-ms"), None);
    });
}

#[test]
fn calls_of_the_mesh_have_it_as_well() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.caller("web");
        client.send("GET / HTTP/1.1\r\nHost: api.plt.local\r\nX-Request-Timeout-Ms: 700\r\n\r\n").await;
        let mut wire = worker.accept().await;
        assert!((600..=700).contains(&left(&wire.head().await)));
        assert_eq!(client.failure().await, (504, "deadline_exceeded".into()));
    });
}

#[test]
fn grpc_has_its_own_words_for_it() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        let start = Instant::now();
        let mut client = bed.ask(GRPC).await;
        let mut wire = worker.accept().await;
        let head = wire.head().await;
        let left: u64 =
            field(&head, "grpc-timeout").unwrap().trim().strip_suffix('m').unwrap().parse().unwrap();
        assert!((1_900..=2_000).contains(&left), "{head}");
        assert_eq!(field(&head, "x-request-timeout-ms"), None);
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "grpc-status")), (200, Some("4")), "DEADLINE_EXCEEDED");
        assert_eq!(start.elapsed().as_millis() / 10, 200);
        // It is no affair of other requests.
        let mut client = bed.ask("GET / HTTP/1.1\r\nHost: shop\r\ngrpc-timeout: 2S\r\n\r\n").await;
        let mut wire = worker.accept().await;
        assert_eq!(field(&wire.head().await, "grpc-timeout"), Some("2S"));
        sleep(Duration::from_secs(9)).await;
        wire.send(OK).await;
        assert_eq!(client.response().await.0, 200);
    });
}

#[test]
fn grpc_over_http2_on_both_sides() {
    local(async {
        let (bed, worker) = Bed::with_h2_worker();
        bed.change_api(|api| api.traffic.total_timeout_ms = 200);
        let client = bed.h2().await;
        let call = post("/a.B/C").header("content-type", "application/grpc").header("te", "trailers");
        let (response, _) = client.ask(call, true).await;
        let mut link = H2Worker::accept(&worker).await;
        let got = link.next().await.unwrap();
        link.drive(|_| ());
        let left = got.request.headers()["grpc-timeout"].to_str().unwrap().to_owned();
        assert!(left.strip_suffix('m').unwrap().parse::<u64>().unwrap() <= 200, "{left}");
        let response = response.await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["grpc-status"]),
            (200, &"4".parse().unwrap())
        );
        drop(got);
    });
}

/// A worker may take a request for another kind than the proxy does, or `_` for `-`.
#[test]
fn no_client_tells_a_worker_of_more_time_than_there_is() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        bed.change_api(|api| api.traffic.total_timeout_ms = 1_000);
        let grpc = "Content-Type: application/grpc\r\n";
        for (kind, own) in [
            ("", "x-request-timeout-ms"),
            (grpc, "grpc-timeout"),
            ("Content-Type: text/plain\r\nContent-Type: application/grpc\r\n", "x-request-timeout-ms"),
            ("Content-Type: application/grpc\r\nContent-Type: text/plain\r\n", "x-request-timeout-ms"),
        ] {
            for names in [["X-Request-Timeout-Ms", "gRPC-Timeout"], ["X_Request_Timeout-Ms", "grpc_timeout"]]
            {
                let request = format!(
                    "GET / HTTP/1.1\r\nHost: shop\r\n{kind}{}: 90000000\r\n{}: 9H\r\nConnection: close\r\n\r\n",
                    names[0], names[1]
                );
                let mut client = bed.ask(request).await;
                let mut wire = worker.accept().await;
                let head = wire.head().await;
                wire.send(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await;
                client.head().await;
                let said = head.to_ascii_lowercase().replace('_', "-");
                assert_eq!(said.matches("timeout").count(), 1, "{head}");
                assert!(said.contains(&format!("\r\n{own}: ")), "{head}");
            }
        }
    });
}

/// Anybody may ask for an answer at once.
#[test]
fn a_time_that_the_client_set_is_no_failure_of_the_service() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        let counts = || {
            let counts = &bed.thread.counts()["api"];
            (counts.failures, counts.timed_out)
        };
        let get = |ms: &str| format!("GET / HTTP/1.1\r\nHost: shop\r\nX-Request-Timeout-Ms: {ms}\r\n\r\n");
        assert_eq!(bed.ask(get("0")).await.failure().await, (504, "deadline_exceeded".into()));
        let asked = tokio::time::timeout(Duration::ZERO, worker.accept()).await;
        assert!(asked.is_err(), "a worker was connected to for nothing");
        assert_eq!(counts(), (0, 1));

        let mut client = bed.ask(get("500")).await;
        let _silent = worker.asked().await;
        assert_eq!(client.failure().await, (504, "deadline_exceeded".into()));
        assert_eq!(counts(), (0, 2));

        let mut client = bed.ask(get("500")).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").await;
        client.head().await;
        assert_eq!(client.rest().await, "ab");
        assert_eq!(counts(), (0, 3));

        // The service's own time is its affair, whatever the client says beyond that.
        bed.change_api(|api| api.traffic.total_timeout_ms = 400);
        let mut client = bed.ask(get("500")).await;
        let _silent = worker.asked().await;
        assert_eq!(client.failure().await, (504, "deadline_exceeded".into()));
        assert_eq!(counts(), (1, 4));
    });
}
