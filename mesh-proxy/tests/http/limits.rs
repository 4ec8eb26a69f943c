//! Limits of a service: a bulkhead with a queue, and a breaker.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::spawn_local,
    time::sleep,
};
use watt_api::mesh::{Believed, Breaker, Bulkhead, Endpoint, Failures, Trouble};
use watt_mesh_proxy::thread::Report;

use crate::{bed::*, h2_bed};

const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno";

impl Bed {
    fn full(in_flight_max: usize, queue_max: usize, believes: Believed) -> (Bed, MockWorker) {
        let (bed, worker) = Bed::with_worker();
        bed.change_api(|api| {
            let rules = Bulkhead { in_flight_max, queue_max, queue_timeout_ms: 60_000, believes };
            api.traffic.bulkhead = Some(rules);
        });
        (bed, worker)
    }

    fn breaking(change: impl FnOnce(&mut Breaker)) -> (Bed, MockWorker) {
        let (bed, worker) = Bed::with_worker();
        let mut rules = Breaker { failures: 2, ..Breaker::default() };
        change(&mut rules);
        bed.change_api(|api| api.traffic.breaker = Some(rules));
        (bed, worker)
    }

    fn held(&self) -> u64 {
        self.thread.counts()["api"].held
    }

    /// What was told of services, without what lost requests and the like are.
    pub(crate) fn troubles(&self) -> Vec<Trouble> {
        let reports = self.reports.borrow();
        let trouble = |report: &Report| match report {
            Report::Trouble(trouble) => Some(trouble.clone()),
            _ => None,
        };
        reports.iter().filter_map(trouble).collect()
    }
}

fn get(urgency: u8) -> String {
    format!("GET /{urgency} HTTP/1.1\r\nHost: shop\r\nPriority: u={urgency}\r\n\r\n")
}

#[test]
fn as_many_requests_are_at_a_service_as_may_and_others_wait_for_their_turn() {
    local(async {
        let (bed, worker) = Bed::full(1, 1, Believed::Nobody);
        let mut first = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        let mut second = bed.ask(GET).await;
        until("it waits", || bed.held() == 1).await;
        let mut third = bed.ask(GET).await;
        let head = third.head().await;
        assert_eq!((status(&head), field(&head, "retry-after")), (503, Some("1")));
        assert!(third.rest_of(&head).await.contains("\"reason\":\"bulkhead_full\""));
        wire.send(OK).await;
        assert_eq!(first.response().await, (200, "ok".into()));
        assert!(wire.head().await.starts_with("GET / "), "the second has its turn");
        assert_eq!(bed.held(), 0);
        wire.send(OK).await;
        assert_eq!(second.response().await, (200, "ok".into()));
        let counts = &bed.thread.counts()["api"];
        assert_eq!((counts.requests, counts.failures, counts.refused_full), (2, 1, 1));
    });
}

#[test]
fn who_waits_too_long_is_told_so_and_who_goes_waits_no_longer() {
    at_once(async {
        let (bed, worker) = Bed::full(1, 5, Believed::Nobody);
        bed.change_api(|api| api.traffic.bulkhead.as_mut().unwrap().queue_timeout_ms = 1_000);
        let _first = bed.ask(GET).await;
        let _wire = worker.asked().await;
        let gone = bed.ask(GET).await;
        let mut late = bed.ask(GET).await;
        until("both wait", || bed.held() == 2).await;
        drop(gone);
        until("one has gone", || bed.held() == 1).await;
        assert_eq!(late.failure().await, (503, "queue_timeout".into()));
        let counts = &bed.thread.counts()["api"];
        assert_eq!((counts.refused_late, counts.held, counts.in_flight), (1, 0, 1));
    });
}

/// One place, and no queue: whoever comes while somebody has it is refused.
#[test]
fn a_place_is_free_again_however_its_request_ended() {
    local(async {
        let (bed, worker) = Bed::full(1, 0, Believed::Nobody);
        let full = async || bed.ask(GET).await.failure().await == (503, "bulkhead_full".to_owned());

        // Its client goes away.
        let client = bed.ask(GET).await;
        let _wire = worker.asked().await;
        assert!(full().await);
        drop(client);
        until("it has gone", || bed.thread.in_flight(1) == 0).await;

        // Or takes back a stream of HTTP/2.
        let h2 = bed.h2().await;
        let (response, mut send) = h2.ask(h2_bed::get("/"), true).await;
        let _wire = worker.asked().await;
        assert!(full().await);
        send.send_reset(h2::Reason::CANCEL);
        drop(response);
        until("it was taken back", || bed.thread.in_flight(1) == 0).await;

        // Its worker does.
        let mut client = bed.ask(POST).await;
        let wire = worker.asked().await;
        assert!(full().await);
        drop(wire);
        assert_eq!(client.failure().await, (502, "connection_lost".into()));

        // A tunnel has it as long as it lasts.
        let mut client =
            bed.ask("GET / HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n").await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\n").await;
        assert_eq!(status(&client.head().await), 101);
        assert!(full().await);
        drop((client, wire));
        until("the tunnel ended", || bed.thread.in_flight(1) == 0).await;

        let mut last = bed.ask(GET).await;
        worker.asked().await.send(OK).await;
        assert_eq!(last.response().await, (200, "ok".into()));
    });
}

#[test]
fn the_least_urgent_is_shed_first_where_its_word_counts() {
    local(async {
        let (bed, worker) = Bed::full(1, 2, Believed::Everybody);
        let _first = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        let mut low = bed.ask(get(6)).await;
        until("it waits", || bed.held() == 1).await;
        let mut high = bed.ask(get(1)).await;
        until("both wait", || bed.held() == 2).await;
        let mut usual = bed.ask(GET).await;
        assert_eq!(low.failure().await, (503, "shed".into()));
        for expected in ["GET /1 ", "GET / "] {
            wire.send(OK).await;
            let head = wire.head().await;
            assert!(head.starts_with(expected), "{head}");
        }
        assert_eq!(high.response().await.0, 200);
        wire.send(OK).await;
        assert_eq!(usual.response().await.0, 200);
        assert_eq!(bed.thread.counts()["api"].refused_shed, 1);
    });
}

#[test]
fn clients_outside_are_believed_only_where_that_is_said() {
    local(async {
        for believes in [Believed::Nobody, Believed::Services] {
            let (bed, worker) = Bed::full(1, 1, believes);
            let _first = bed.ask(GET).await;
            let _wire = worker.asked().await;
            let mut waits = bed.ask(GET).await;
            until("it waits", || bed.held() == 1).await;
            assert_eq!(bed.ask(get(0)).await.failure().await, (503, "bulkhead_full".into()));
            let mut caller = bed.caller("web");
            caller.send("GET / HTTP/1.1\r\nHost: api.plt.local\r\nPriority: u=0\r\n\r\n").await;
            match believes {
                Believed::Services => assert_eq!(waits.failure().await, (503, "shed".into())),
                _ => assert_eq!(caller.failure().await, (503, "bulkhead_full".into())),
            }
        }
    });
}

#[test]
fn a_service_that_fails_is_not_asked_for_a_while() {
    at_once(async {
        let (bed, worker) = Bed::breaking(|_| ());
        let mut client = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        wire.send(BROKEN).await;
        assert_eq!(client.response().await, (500, "no".into()));
        client.send(GET).await;
        wire.head().await;
        wire.send(BROKEN).await;
        assert_eq!(client.response().await, (500, "no".into()), "an answer is passed on as it is");
        client.send(GET).await;
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "retry-after")), (503, Some("5")));
        assert!(client.rest_of(&head).await.contains("\"reason\":\"breaker_open\""));
        let grpc = GET.replace("\r\n\r\n", "\r\nContent-Type: application/grpc\r\n\r\n");
        let head = bed.ask(grpc).await.head().await;
        assert_eq!((status(&head), field(&head, "grpc-status")), (200, Some("14")), "UNAVAILABLE");
        assert!(bed.thread.counts()["api"].breaker_is_open);

        sleep(Duration::from_secs(5)).await;
        let mut probe = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        assert_eq!(bed.ask(GET).await.failure().await, (503, "breaker_open".into()), "one probe at a time");
        wire.send(OK).await;
        assert_eq!(probe.response().await.0, 200);
        let counts = &bed.thread.counts()["api"];
        assert_eq!((counts.breaker_opened, counts.refused_breaker, counts.breaker_is_open), (1, 3, false));
        let kinds: Vec<String> = bed.troubles().into_iter().map(|trouble| trouble.kind).collect();
        assert_eq!(kinds, ["circuit_opened", "circuit_closed"]);
        assert_eq!(bed.troubles()[0].reason, "2 requests in a row failed");
    });
}

#[test]
fn a_worker_that_cannot_be_reached_or_is_silent_is_a_failure_and_an_impatient_client_is_none() {
    at_once(async {
        let (bed, worker) = Bed::breaking(|rules| rules.failures = 1);
        let mut client = bed.client();
        client.send("GET / HTTP/1.1\r\nHost: shop\r\nX-Request-Timeout-Ms: 100\r\n\r\n").await;
        let _wire = worker.asked().await;
        assert_eq!(client.failure().await, (504, "deadline_exceeded".into()));
        assert!(!bed.thread.counts()["api"].breaker_is_open);
        bed.change_api(|api| api.traffic.total_timeout_ms = 100);
        client.send(GET).await;
        let _wire = worker.asked().await;
        assert_eq!(client.failure().await, (504, "deadline_exceeded".into()));
        assert!(bed.thread.counts()["api"].breaker_is_open);

        let (bed, worker) = Bed::breaking(|rules| rules.failures = 1);
        bed.change_api(|api| api.traffic.retries.on = Failures::default());
        drop(worker);
        assert_eq!(bed.ask(GET).await.failure().await, (502, "connection_refused".into()));
        assert!(bed.thread.counts()["api"].breaker_is_open);
    });
}

#[test]
fn a_probe_whose_client_leaves_is_followed_by_another() {
    at_once(async {
        let (bed, worker) = Bed::breaking(|rules| rules.failures = 1);
        let mut client = bed.ask(GET).await;
        worker.asked().await.send(BROKEN).await;
        client.response().await;
        sleep(Duration::from_secs(5)).await;
        let probe = bed.ask(GET).await;
        let _wire = worker.asked().await;
        assert_eq!(bed.ask(GET).await.failure().await, (503, "breaker_open".into()));
        drop(probe);
        until("it has gone", || bed.thread.in_flight(1) == 0).await;
        let mut probe = bed.ask(GET).await;
        worker.asked().await.send(OK).await;
        assert_eq!(probe.response().await.0, 200);
        assert!(!bed.thread.counts()["api"].breaker_is_open);
    });
}

#[test]
fn a_client_that_is_slow_to_send_fails_no_service() {
    at_once(async {
        let (bed, worker) = Bed::breaking(|rules| rules.failures = 1);
        bed.change_api(|api| api.traffic.total_timeout_ms = 1_000);
        let mut client = bed.ask("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 9\r\n\r\nslow").await;
        let _wire = worker.asked().await;
        assert_eq!(client.failure().await, (504, "deadline_exceeded".into()));
        let counts = &bed.thread.counts()["api"];
        assert_eq!((counts.breaker_is_open, counts.failures, counts.timed_out), (false, 0, 1));

        // A worker that does not read is another matter.
        let long = "x".repeat(8 << 20);
        let mut client = bed.client();
        let head = format!("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: {}\r\n\r\n", long.len());
        client.send(head).await;
        let _deaf = worker.accept().await;
        let (mut reading, mut sending) = tokio::io::split(client.stream);
        spawn_local(async move { drop(sending.write_all(long.as_bytes()).await) });
        let mut answer = [0; 12];
        reading.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 504");
        assert!(bed.thread.counts()["api"].breaker_is_open);
    });
}

#[test]
fn a_request_that_comes_just_before_the_end_of_its_time_fails_no_service() {
    at_once(async {
        for (slow_ms, is_open) in [(900, false), (100, true)] {
            let (bed, worker) = Bed::breaking(|rules| rules.failures = 1);
            bed.change_api(|api| api.traffic.total_timeout_ms = 1_000);
            let mut client = bed.ask("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nsl").await;
            let mut wire = worker.asked().await;
            sleep(Duration::from_millis(slow_ms)).await;
            client.send("ow").await;
            assert_eq!(wire.take(4).await, "slow");
            assert_eq!(client.failure().await, (504, "deadline_exceeded".into()));
            assert_eq!(bed.thread.counts()["api"].breaker_is_open, is_open, "sent within {slow_ms} ms");
        }
    });
}

#[test]
fn what_this_process_lacks_is_no_failure_of_the_service() {
    at_once(async {
        let (bed, worker) = Bed::breaking(|rules| rules.failures = 1);
        // A worker in a network of its own, to which nobody hands sockets.
        bed.change_api(|api| {
            api.connect_timeout_ms = 1_000;
            api.workers[0].endpoint = Some(Endpoint::PrivateTcp { address: "127.0.0.1:1".parse().unwrap() });
        });
        assert_eq!(bed.ask(GET).await.failure().await, (504, "connect_timeout".into()));
        assert!(!bed.thread.counts()["api"].breaker_is_open);
        drop(worker);
    });
}

#[test]
fn who_waits_for_a_turn_takes_no_place_of_those_who_wait_for_a_worker() {
    local(async {
        let (bed, worker) = Bed::full(2, 5, Believed::Nobody);
        bed.change_api(|api| api.hold_requests_max = 1);
        let _first = bed.ask(GET).await;
        let _wire = worker.asked().await;
        bed.change_api(|api| api.workers.clear());
        let mut second = bed.ask(GET).await;
        until("it waits for a worker", || bed.held() == 1).await;
        let mut third = bed.ask(GET).await;
        until("another one waits for its turn", || bed.held() == 2).await;
        let other = bed.worker("api", 2);
        let mut wire = other.asked().await;
        wire.send(OK).await;
        assert_eq!(second.response().await.0, 200);
        wire.head().await;
        wire.send(OK).await;
        assert_eq!(third.response().await.0, 200);
    });
}

#[test]
fn time_that_is_spent_waiting_for_a_worker_is_no_failure() {
    at_once(async {
        let (bed, worker) = Bed::breaking(|rules| rules.failures = 1);
        bed.change_api(|api| {
            api.traffic.total_timeout_ms = 1_000;
            api.workers.clear();
        });
        assert_eq!(bed.ask(GET).await.failure().await, (504, "deadline_exceeded".into()));
        assert!(!bed.thread.counts()["api"].breaker_is_open);
        drop(worker);
    });
}

#[test]
fn what_a_call_of_grpc_came_to_counts() {
    local(async {
        let (bed, worker) = Bed::breaking(|rules| rules.failures = 1);
        let mut client = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 200 OK\r\ngrpc-status: 5\r\nContent-Length: 0\r\n\r\n").await;
        client.response().await;
        assert!(!bed.thread.counts()["api"].breaker_is_open, "NOT_FOUND is an answer");
        client.send(GET).await;
        wire.head().await;
        wire.send("HTTP/1.1 200 OK\r\ngrpc-status: 14\r\nContent-Length: 0\r\n\r\n").await;
        client.response().await;
        assert!(bed.thread.counts()["api"].breaker_is_open);
    });
}
