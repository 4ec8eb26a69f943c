//! Connections: kept, reused, pipelined, half-closed, timed out, shut down.

use std::time::Duration;

use crate::bed::*;

#[test]
fn both_connections_are_used_again() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut clients = [bed.client(), bed.client()];
        clients[0].send(GET).await;
        let mut wire = worker.accept().await;
        for request in 0..20 {
            wire.head().await;
            wire.send(OK).await;
            assert_eq!(clients[request % 2].response().await, (200, "ok".into()));
            clients[(request + 1) % 2].send(GET).await;
        }
        assert_eq!(bed.thread.connections(), 2);
    });
}

#[test]
fn requests_sent_ahead_are_answered_in_order() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.client();
        let requests: String = (0..20)
            .map(|number| format!("POST /{number} HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nab"))
            .collect();
        client.send(requests).await;
        let mut wire = worker.accept().await;
        for number in 0..20 {
            assert!(wire.head().await.starts_with(&format!("POST /{number} ")));
            assert_eq!(wire.take(2).await, "ab");
            wire.send(format!("HTTP/1.1 200 OK\r\nX: {number}\r\nContent-Length: 0\r\n\r\n")).await;
        }
        for number in 0..20 {
            assert_eq!(field(&client.head().await, "x"), Some(&*number.to_string()));
        }
    });
}

#[test]
fn close_is_heeded_on_both_sides() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask("GET / HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").await;
        let mut wire = worker.accept().await;
        let head = wire.head().await;
        assert_eq!(field(&head, "connection"), None, "the client's own wish");
        wire.send(OK).await;
        assert_eq!(
            client.rest().await,
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
        );
        let mut client = bed.ask(GET).await;
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").await;
        assert_eq!(client.response().await.0, 200);
        client.send(GET).await;
        worker.asked().await;
    });
}

#[test]
fn a_client_that_ended_its_direction_still_gets_its_response() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask(GET).await;
        client.end().await;
        let mut wire = worker.asked().await;
        tokio::task::yield_now().await;
        wire.send(OK).await;
        assert_eq!(client.rest().await, OK);
    });
}

#[test]
fn a_caller_that_closes_frees_the_worker() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let client = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        drop(client);
        assert_eq!(wire.rest().await, "");
        until("nothing is in flight", || bed.thread.in_flight(1) == 0).await;
    });
}

#[test]
fn a_client_that_resets_frees_the_worker() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.tcp_client().await;
        client.send(GET).await;
        let mut wire = worker.accept().await;
        let head = wire.head().await;
        assert_eq!(field(&head, "x-forwarded-for"), Some("127.0.0.1"));
        client.stream.socket().unwrap().set_linger(Some(Duration::ZERO)).unwrap();
        drop(client);
        assert_eq!(wire.rest().await, "");
        until("nothing is in flight", || bed.thread.in_flight(1) == 0 && bed.thread.connections() == 0).await;
    });
}

#[test]
fn a_client_that_is_refused_may_still_finish_sending() {
    local(async {
        let (bed, _worker) = Bed::with_worker();
        let mut client = bed.tcp_client().await;
        client.send("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: +5\r\n\r\n").await;
        assert_eq!(client.failure().await, (400, "bad_content_length".into()));
        // A closed connection would answer the first piece with a reset, and the next one could not be sent. Many
        // clients then never look at the response.
        for _ in 0..20 {
            client.send("x".repeat(10_000)).await;
            tokio::task::yield_now().await;
        }
        client.end().await;
        assert_eq!(client.rest().await, "");
        until("it is over", || bed.thread.connections() == 0).await;
    });
}

#[test]
fn bytes_that_belong_to_no_response_end_the_workers_connection() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        wire.send(OK.to_owned() + OK).await;
        assert_eq!(client.response().await, (200, "ok".into()));
        client.send(GET).await;
        let mut other = worker.asked().await;
        other.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother").await;
        assert_eq!(client.response().await, (200, "other".into()));
    });
}

#[test]
fn a_silent_worker_is_a_timeout_and_not_asked_twice() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        bed.change_api(|api| api.first_byte_timeout_ms = 200);
        let mut client = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        assert_eq!(client.failure().await, (504, "first_byte_timeout".into()));
        assert_eq!(wire.rest().await, "");
        client.send(GET).await;
        worker.asked().await;
    });
}

#[test]
fn a_body_that_stops_coming_is_a_timeout() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        bed.change_api(|api| api.idle_timeout_ms = 200);
        let mut client = bed.ask("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 9\r\n\r\nhalf").await;
        let _wire = worker.asked().await;
        assert_eq!(client.failure().await, (408, "request_timeout".into()));
        let mut client = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
        assert!(client.rest().await.ends_with("half"), "all that can be done is to end the connection");
    });
}

#[test]
fn shutting_down_ends_idle_connections_now_and_others_after_their_request() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut idle = bed.client();
        let mut busy = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        bed.thread.shut_down();
        assert_eq!(idle.rest().await, "");
        assert_eq!(bed.thread.connections(), 1);
        wire.send(OK).await;
        assert_eq!(busy.rest().await, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        bed.thread.connections_ended().await;
    });
}

#[test]
fn heads_may_come_letter_by_letter() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.client();
        client.send_slowly(GET).await;
        let mut wire = worker.asked().await;
        wire.send_slowly(&format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{OK}")).await;
        assert_eq!(status(&client.head().await), 103);
        assert_eq!(client.response().await, (200, "ok".into()));
    });
}
