//! Bodies: their framing, both ways at once, in bounded memory.

use std::time::Duration;

use tokio::{
    io::AsyncWriteExt,
    net::TcpListener,
    task::spawn_local,
    time::{Instant, sleep},
};

use watt_api::mesh::Endpoint;

use crate::bed::*;

fn post(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: shop\r\n{fields}\r\n")
}

#[test]
fn both_framings_go_through_byte_by_byte_in_both_directions() {
    let chunked = "5;a=b\r\nhello\r\n0003\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n";
    let long = "x".repeat(300_000);
    let long_chunk = format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.client();
        let mut wire = None;
        for (field, body) in [
            ("Content-Length: 5\r\n".to_owned(), "hello"),
            (format!("Content-Length: {}\r\n", long.len()), &*long),
            ("Transfer-Encoding: chunked\r\n".to_owned(), chunked),
            ("transfer-encoding: Chunked\r\n".to_owned(), &*long_chunk),
        ] {
            let request = post(&field) + body;
            let both = async {
                let wire = match &mut wire {
                    Some(wire) => wire,
                    None => wire.insert(worker.accept().await),
                };
                assert!(wire.head().await.contains(&field));
                assert!(wire.take(body.len()).await == body);
                wire.send(format!("HTTP/1.1 200 OK\r\n{field}\r\n{body}")).await;
            };
            let answered = async {
                client.send(&request).await;
                assert_eq!(client.head().await, format!("HTTP/1.1 200 OK\r\n{field}\r\n"));
                assert!(client.take(body.len()).await == body);
            };
            tokio::join!(both, answered);
        }
    });
}

#[test]
fn responses_without_a_body_have_none_whatever_they_say() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.client();
        let head = "HEAD / HTTP/1.1\r\nHost: shop\r\n\r\n";
        client.send(head).await;
        let mut wire = worker.accept().await;
        for (request, response, passed_on) in [
            (head, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "Content-Length: 10\r\n"),
            (head, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding: chunked\r\n"),
            (head, "HTTP/1.1 200 OK\r\n\r\n", ""),
            (GET, "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", "Content-Length: 10\r\n"),
            (GET, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", ""),
            (GET, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
        ] {
            if request != head || response.contains("chunked") || !passed_on.contains("10") {
                client.send(request).await;
            }
            wire.head().await;
            wire.send(response).await;
            let line = response.split_inclusive("\r\n").next().unwrap();
            assert_eq!(client.head().await, format!("{line}{passed_on}\r\n"), "{request:?} {response:?}");
        }
    });
}

#[test]
fn a_response_may_begin_before_the_request_ends() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask(post("Transfer-Encoding: chunked\r\n")).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        assert_eq!(status(&client.head().await), 200);
        for _ in 0..3 {
            client.send("4\r\nping\r\n").await;
            assert_eq!(wire.take(9).await, "4\r\nping\r\n");
            wire.send("4\r\npong\r\n").await;
            assert_eq!(client.take(9).await, "4\r\npong\r\n");
        }
        client.send("0\r\n\r\n").await;
        assert_eq!(wire.take(5).await, "0\r\n\r\n");
        wire.send("0\r\n\r\n").await;
        assert_eq!(client.rest().await, "0\r\n\r\n");
    });
}

#[test]
fn a_response_that_does_not_wait_for_the_request_ends_the_connection() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask(post("Content-Length: 1000000\r\n") + "begin").await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig").await;
        drop(wire);
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "connection")), (413, Some("close")));
        assert_eq!(client.rest().await, "big");
    });
}

#[test]
fn neither_side_can_make_the_proxy_buffer_without_bound() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
        client.head().await;
        let mut sent = 0;
        let block = vec![b'x'; 64 << 10];
        // What both sockets and the proxy's buffer take. Then nothing moves before the client reads.
        while let Ok(len) =
            tokio::time::timeout(std::time::Duration::from_millis(300), wire.stream.write(&block)).await
        {
            sent += len.unwrap();
            assert!(sent < 4 << 20, "the proxy swallows everything");
        }
        let more = spawn_local(async move { wire.stream.write(&block).await.unwrap() });
        client.take(sent).await;
        assert!(more.await.unwrap() > 0);
    });
}

#[test]
fn an_upload_that_breaks_off_is_not_taken_for_a_whole_one() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        for field in ["Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n"] {
            let client = bed.ask(post(field) + "5\r\nhe").await;
            let mut wire = worker.asked().await;
            drop(client);
            let got = wire.rest().await;
            assert!(!got.contains("0\r\n\r\n") && got.len() < 10, "{got:?}");
        }
    });
}

#[test]
fn a_response_that_breaks_off_is_not_taken_for_a_whole_one() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        for (field, body) in
            [("Content-Length: 10\r\n", "12345"), ("Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n")]
        {
            let mut client = bed.ask(GET).await;
            let mut wire = worker.asked().await;
            wire.send(format!("HTTP/1.1 200 OK\r\n{field}\r\n{body}")).await;
            client.head().await;
            drop(wire);
            assert_eq!(client.rest().await, body);
        }
    });
}

#[test]
fn a_client_that_waits_for_100_gets_it_from_the_worker() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask(post("Content-Length: 5\r\nExpect: 100-continue\r\n")).await;
        let mut wire = worker.accept().await;
        assert_eq!(field(&wire.head().await, "expect"), Some("100-continue"));
        wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.send("hello").await;
        assert_eq!(wire.take(5).await, "hello");
        wire.send(OK).await;
        assert_eq!(client.response().await, (200, "ok".into()));
    });
}

#[test]
fn a_client_that_waits_for_100_waits_not_for_ever() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask(post("Content-Length: 5\r\nExpect: 100-continue\r\n")).await;
        let mut wire = worker.asked().await;
        assert_eq!(
            client.head().await,
            "HTTP/1.1 100 Continue\r\n\r\n",
            "from the proxy, in the worker's place"
        );
        client.send("hello").await;
        assert_eq!(wire.take(5).await, "hello");
        wire.send("HTTP/1.1 100 Continue\r\n\r\n".to_owned() + OK).await;
        assert_eq!(client.response().await, (200, "ok".into()), "and not once more");
    });
}

#[test]
fn a_worker_may_refuse_instead_of_100() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask(post("Content-Length: 5\r\nExpect: 100-continue\r\n")).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n").await;
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "connection")), (401, Some("close")));
    });
}

#[test]
fn interim_responses_are_passed_on_to_those_who_know_them() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
        for (request, interims) in [(GET, 2), ("GET / HTTP/1.0\r\n\r\n", 0)] {
            let mut client = bed.ask(request).await;
            let mut wire = worker.asked().await;
            wire.send(hints.repeat(2)).await;
            for _ in 0..interims {
                assert_eq!(client.head().await, hints);
            }
            wire.send(OK).await;
            assert_eq!(client.response().await, (200, "ok".into()));
        }
        let mut client = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        wire.send(hints.repeat(65)).await;
        for _ in 0..64 {
            client.head().await;
        }
        assert_eq!(client.failure().await, (502, "bad_response".into()));
    });
}

#[test]
fn a_response_is_closed_by_the_worker_only_where_that_ends_it() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask("GET / HTTP/1.0\r\n\r\n").await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 200 OK\r\n\r\nuntil the end").await;
        drop(wire);
        assert_eq!(client.rest().await, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end");
    });
}

#[test]
fn an_unwrapped_response_that_turns_bad_ends_there() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask("GET / HTTP/1.0\r\nHost: shop\r\n\r\n").await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        client.head().await;
        wire.send("2\r\nab\r\n").await;
        assert_eq!(client.take(2).await, "ab");
        wire.send("x\r\n").await;
        assert_eq!(client.rest().await, "", "no second answer in the middle of the first");
    });
}

/// How long a client that sends a piece of so many bytes every so often is listened to, and what it is told.
async fn trickle(
    bed: &Bed,
    worker: &MockWorker,
    mut client: Wire,
    piece: usize,
    every: Duration,
) -> (Duration, String) {
    let start = Instant::now();
    // What a service calls is named by the host; at the gateway there is one route.
    let fields = "Transfer-Encoding: chunked\r\n";
    client.send(format!("POST / HTTP/1.1\r\nHost: api.plt.local\r\n{fields}\r\n")).await;
    let mut wire = worker.accept().await;
    wire.head().await;
    let chunk = format!("{piece:x}\r\n{}\r\n", "x".repeat(piece));
    let told = loop {
        if start.elapsed() > Duration::from_secs(1800) {
            break "listens".to_owned();
        }
        tokio::select! {
            head = client.head() => break head,
            () = sleep(every) => {
                client.send(&chunk).await;
                wire.take(chunk.len()).await;
            }
        }
    };
    drop(wire);
    until("its place is free", || bed.thread.in_flight(1) == 0).await;
    (start.elapsed(), told)
}

#[test]
fn a_body_that_trickles_in_holds_no_worker_for_ever() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        bed.change(|snapshot| snapshot.body_rate_min = 100);
        let slow = trickle(&bed, &worker, bed.client(), 10, Duration::from_secs(1));
        let (took, told) = slow.await;
        assert!(told.starts_with("HTTP/1.1 408 "), "{told}");
        let seconds = took.as_secs();
        assert!((60..80).contains(&seconds), "{seconds} s: a minute, and a second for each hundred bytes");
        for (is_service, piece) in [(false, 120), (true, 1)] {
            let client = if is_service { bed.caller("api") } else { bed.client() };
            let (took, told) = trickle(&bed, &worker, client, piece, Duration::from_secs(1)).await;
            assert_eq!(told, "listens", "fast enough, or a service: {piece} after {took:?}");
        }
        bed.change(|snapshot| snapshot.body_rate_min = 0);
        let (_, told) = trickle(&bed, &worker, bed.client(), 1, Duration::from_secs(50)).await;
        assert_eq!(told, "listens", "where there is no bound");
    });
}

#[test]
fn a_worker_that_reads_slowly_does_not_make_its_client_a_slow_one() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        bed.change(|snapshot| snapshot.body_rate_min = 1_000_000_000);
        let body = "x".repeat(4 << 20);
        let mut client = bed.client();
        let request = post(&format!("Content-Length: {}\r\n", body.len())) + &body;
        let sent = spawn_local(async move {
            client.send(request).await;
            client.head().await
        });
        let mut wire = worker.accept().await;
        wire.head().await;
        for _ in 0..32 {
            sleep(Duration::from_secs(30)).await;
            wire.take(body.len() / 32).await;
        }
        wire.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert!(sent.await.unwrap().starts_with("HTTP/1.1 204 "));
    });
}

/// As Python's `http.server` does: a head, and then a body, which Nagle's algorithm keeps until the head was acknowledged.
#[test]
fn a_response_that_is_written_in_pieces_does_not_wait_for_acknowledgements() {
    local(async {
        let bed = Bed::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        bed.change_api(|api| api.workers.push(ready(1, Endpoint::Tcp { address })));
        spawn_local(async move {
            let mut worker = Wire::new(listener.accept().await.unwrap().0);
            loop {
                worker.head().await;
                for piece in ["HTTP/1.1 200 OK\r\n", "Content-Length: 4\r\n\r\n", "th", "is"] {
                    worker.send(piece).await;
                }
            }
        });
        let mut client = bed.client();
        let mut fastest = Duration::MAX;
        for turn in 0..40 {
            let start = Instant::now();
            client.send(GET).await;
            assert_eq!(client.response().await, (200, "this".to_owned()));
            // At first the kernel acknowledges everything at once, as it may be a transfer that starts slowly.
            if turn >= 20 {
                fastest = fastest.min(start.elapsed());
            }
        }
        // The kernel's delay, which each of them would have (TCP_DELACK_MIN).
        assert!(fastest < Duration::from_millis(40), "{fastest:?}");
    });
}
