//! Copies of requests for another service.

use watt_api::mesh::{Bulkhead, CountedBy, RateLimit, Route, RouteMirror, Service};

use crate::bed::*;

/// `/` leads to `api`, and `next` gets copies.
fn mirrored(percent: u32) -> Bed {
    let bed = Bed::new();
    bed.change(|snapshot| {
        snapshot.services.insert("next".into(), service());
        let mirror = Some(RouteMirror { service: "next".into(), percent });
        snapshot.routes = vec![Route { mirror, ..route("/", "api", None) }];
    });
    bed
}

#[test]
fn another_service_gets_what_the_first_one_got() {
    local(async {
        let bed = mirrored(100);
        let (api, next) = (bed.worker("api", 1), bed.worker("next", 2));
        let mut client = bed.client();
        let chunked =
            "POST /x HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let mut wire = None;
        for (request, body) in [(GET, ""), (POST, "ab"), (chunked, "3\r\nabc\r\n0\r\n\r\n")] {
            client.send(request).await;
            let wire = match &mut wire {
                Some(wire) => wire,
                none => none.insert(api.accept().await),
            };
            let head = wire.head().await;
            wire.take(body.len()).await;
            wire.send(OK).await;
            assert_eq!(client.response().await, (200, "ok".to_owned()));
            let mut copy = next.accept().await;
            let copied = copy.head().await;
            let plain = copied.replace("X-Mirrored: 1\r\nConnection: close\r\n", "");
            assert_eq!(plain, head, "and nothing else");
            assert_ne!(plain, copied);
            assert_eq!(copy.take(body.len()).await, body);
            copy.send("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                .await;
            copy.end().await;
        }
        let counts = || bed.thread.counts()["next"];
        until("all copies are answered", || counts().in_flight == 0 && counts().failures == 3).await;
        assert_eq!((counts().requests, bed.thread.counts()["api"].failures), (3, 0));
    });
}

impl Bed {
    /// Changes what gets copies.
    fn change_next(&self, change: impl FnOnce(&mut Service)) {
        self.change(|snapshot| change(snapshot.services.get_mut("next").unwrap()));
    }
}

#[test]
fn what_a_service_asks_of_requests_it_asks_of_copies() {
    local(async {
        let bed = mirrored(100);
        bed.worker("api", 1).answer(OK);
        bed.worker("next", 2).answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let limit = RateLimit {
            id: "next".into(),
            name: "next".into(),
            requests: 2,
            per_ms: 3_600_000,
            burst: 2,
            header: None,
            by: CountedBy::Everyone,
        };
        bed.change_next(|next| next.guard.limits = vec![limit]);
        let counts = || bed.thread.counts()["next"];
        let mut client = bed.client();
        for _ in 0..5 {
            client.send(GET).await;
            let head = client.head().await;
            assert_eq!((status(&head), field(&head, "ratelimit")), (200, None), "it is not the client's limit");
            client.take(2).await;
        }
        until("two copies are answered", || counts().requests == 2 && counts().in_flight == 0).await;
        assert_eq!(counts().denied.rate, 3);
        bed.change_next(|next| {
            next.guard.limits.clear();
            next.guard.body_max = Some(3);
        });
        let chunked = |data: &str| {
            let len = data.len();
            format!("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n{len}\r\n{data}\r\n0\r\n\r\n")
        };
        for request in [chunked("abc"), POST.to_owned(), chunked("abcd"), POST.replace("2\r\n\r\nab", "4\r\n\r\nabcd")] {
            client.send(request).await;
            assert_eq!(client.response().await, (200, "ok".to_owned()));
        }
        until("two more are answered", || counts().requests == 4 && counts().in_flight == 0).await;
        assert_eq!((counts().denied.body, counts().failures), (1, 1), "the chunked one is not copied");
    });
}

#[test]
fn copies_have_no_more_places_than_requests_have() {
    local(async {
        let bed = mirrored(100);
        bed.worker("api", 1).answer(OK);
        let next = bed.worker("next", 2);
        let bulkhead = Bulkhead { in_flight_max: 1, queue_max: 5, queue_timeout_ms: 60_000, ..Bulkhead::default() };
        bed.change_next(|next| next.traffic.bulkhead = Some(bulkhead));
        let mut client = bed.client();
        client.send(GET).await;
        client.response().await;
        let mut copy = next.asked().await;
        for _ in 0..3 {
            client.send(GET).await;
            assert_eq!(client.response().await, (200, "ok".to_owned()));
        }
        let counts = || bed.thread.counts()["next"];
        assert_eq!((counts().requests, counts().refused_full), (1, 3));
        copy.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        copy.end().await;
        drop(copy);
        until("its place is free", || counts().in_flight == 0).await;
        client.send(GET).await;
        client.response().await;
        next.asked().await;
        assert_eq!((counts().failures, counts().refused_full), (0, 3));
    });
}

#[test]
fn no_client_says_that_its_request_is_a_copy() {
    local(async {
        let bed = mirrored(0);
        let api = bed.worker("api", 1);
        let fields = "X-Mirrored: 1\r\nx_mirrored: 1\r\n";
        let _client = bed.ask(format!("GET / HTTP/1.1\r\nHost: shop\r\n{fields}\r\n")).await;
        let head = api.accept().await.head().await.to_ascii_lowercase();
        assert!(!head.contains("mirrored"), "{head}");
    });
}

#[test]
fn nobody_waits_for_one_that_does_not_answer() {
    local(async {
        let bed = mirrored(100);
        bed.worker("api", 1).answer(OK);
        // It listens, and accepts nobody.
        let next = bed.worker("next", 2);
        let mut client = bed.client();
        for _ in 0..100 {
            client.send(GET).await;
            assert_eq!(client.response().await, (200, "ok".to_owned()));
        }
        let counts = bed.thread.counts()["next"];
        assert!(counts.failures >= 36, "no more than 64 at a time: {counts:?}");
        drop(next);
    });
}

#[test]
fn one_that_is_not_there_is_not_missed() {
    local(async {
        let bed = mirrored(100);
        bed.worker("api", 1).answer(OK);
        bed.change(|snapshot| drop(snapshot.services.remove("next")));
        assert_eq!(bed.ask(GET).await.response().await, (200, "ok".to_owned()));
    });
}

#[test]
fn some_of_the_requests_and_no_large_ones() {
    local(async {
        let bed = mirrored(50);
        bed.worker("api", 1).answer(OK);
        bed.worker("next", 2).answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let mut client = bed.client();
        for _ in 0..200 {
            client.send(GET).await;
            client.response().await;
        }
        let attempts = || {
            let counts = bed.thread.counts()["next"];
            counts.requests + counts.failures
        };
        // A hundred are expected, and this is more than seven standard deviations away.
        until("half of them are copied", || attempts() > 45).await;
        assert!(attempts() < 155, "{}", attempts());
        bed.change(|snapshot| snapshot.routes[0].mirror.as_mut().unwrap().percent = 100);
        let before = bed.thread.counts()["next"].failures;
        let large = 65 << 10;
        client
            .send(format!(
                "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: {large}\r\n\r\n{}",
                "x".repeat(large)
            ))
            .await;
        client.response().await;
        until("it counts as a failure", || bed.thread.counts()["next"].failures > before).await;
    });
}
