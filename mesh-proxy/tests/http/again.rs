//! Requests that are sent again because the configuration says so: after statuses, and after the time of a try.

use tokio::{select, time::Instant};
use watt_api::mesh::Traffic;

use crate::{bed::*, h2_bed::*};

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";

impl Bed {
    /// `api` has so many workers and these rules.
    fn again(count: u64, rules: impl FnOnce(&mut Traffic)) -> (Bed, Vec<MockWorker>) {
        let bed = Bed::new();
        let workers = (1..=count).map(|run| bed.worker("api", run)).collect();
        bed.change_api(|api| {
            api.traffic.retries.backoff_ms = 0;
            rules(&mut api.traffic);
        });
        (bed, workers)
    }

    fn retries(&self) -> (u64, u64) {
        let counts = &self.thread.counts()["api"];
        (counts.retries, counts.retries_denied)
    }
}

/// The connection on which one of two workers was asked, and the other worker.
async fn either(workers: &[MockWorker]) -> (Wire, &MockWorker) {
    select! {
        wire = workers[0].accept() => (wire, &workers[1]),
        wire = workers[1].accept() => (wire, &workers[0]),
    }
}

fn on_503(rules: &mut Traffic) {
    rules.retries.on.statuses = vec![(503, 503)];
}

#[test]
fn an_answer_that_is_none_yet_is_asked_for_again() {
    local(async {
        let (bed, workers) = Bed::again(2, on_503);
        let mut client = bed.ask(GET).await;
        let (mut wire, other) = either(&workers).await;
        wire.head().await;
        wire.send(BUSY).await;
        let mut second = other.asked().await;
        assert_eq!(wire.rest().await, "", "the first answer is not waited for");
        second.send(OK).await;
        assert_eq!(client.response().await, (200, "ok".into()));
        let counts = &bed.thread.counts()["api"];
        assert_eq!((counts.requests, counts.failures, counts.retries), (1, 0, 1));
        // Others are passed on.
        client.send(GET).await;
        let mut wire = select! {
            wire = other.asked() => wire,
            head = second.head() => { assert!(head.starts_with("GET ")); second }
            (mut wire, _) = either(&workers) => { wire.head().await; wire }
        };
        wire.send(BUSY.replace("503", "500")).await;
        assert_eq!(client.response().await.0, 500);
    });
}

#[test]
fn the_only_worker_is_asked_again_and_its_last_answer_goes_on() {
    local(async {
        let (bed, workers) = Bed::again(1, on_503);
        let mut client = bed.ask(GET).await;
        for _ in 0..3 {
            workers[0].asked().await.send(BUSY).await;
        }
        assert_eq!(client.response().await, (503, "busy".into()));
        let counts = &bed.thread.counts()["api"];
        assert_eq!((counts.requests, counts.failures, counts.retries), (1, 1, 2));
        bed.change_api(|api| api.traffic.retries.attempts = 1);
        client.send(GET).await;
        workers[0].asked().await.send(BUSY).await;
        assert_eq!(client.response().await, (503, "busy".into()));
        assert_eq!(bed.retries(), (2, 0));
    });
}

#[test]
fn what_a_worker_may_have_acted_upon_is_sent_again_only_where_its_method_is_named() {
    local(async {
        for named in [false, true] {
            let (bed, workers) = Bed::again(1, |rules| {
                on_503(rules);
                rules.retries.methods = named.then(|| vec!["POST".into()]);
            });
            let mut client = bed.ask(POST).await;
            let mut wire = workers[0].asked().await;
            wire.take(2).await;
            wire.send(BUSY).await;
            if named {
                let mut wire = workers[0].asked().await;
                assert_eq!(wire.take(2).await, "ab", "the body is sent again");
                wire.send(OK).await;
            }
            assert_eq!(client.response().await.0, if named { 200 } else { 503 });
            // So it is with workers that die. The connection that is kept is that of another run by now.
            bed.change_api(|api| api.workers[0].run += 1);
            client.send(POST).await;
            let mut wire = workers[0].asked().await;
            wire.take(2).await;
            drop(wire);
            if named {
                // A worker that was lost is not asked again.
                bed.worker("api", 9).asked().await.send(OK).await;
                assert_eq!(client.response().await.0, 200);
            } else {
                assert_eq!(client.failure().await, (502, "connection_lost".into()));
            }
        }
    });
}

#[test]
fn a_body_is_sent_again_up_to_a_length() {
    local(async {
        for (length, again) in [(65_536, true), (65_537, false)] {
            let (bed, workers) = Bed::again(1, on_503);
            let body = "x".repeat(length);
            let mut client = bed.client();
            let head = format!("PUT / HTTP/1.1\r\nHost: shop\r\nContent-Length: {length}\r\n\r\n");
            let asking = async {
                client.send(head).await;
                for piece in body.as_bytes().chunks(10_000) {
                    client.send(piece).await;
                }
                client.response().await
            };
            let answering = async {
                let mut wire = workers[0].asked().await;
                assert_eq!(wire.take(length).await.len(), length);
                wire.send(BUSY).await;
                if again {
                    let mut wire = workers[0].asked().await;
                    assert_eq!(wire.take(length).await, body);
                    wire.send(OK).await;
                }
            };
            let (answer, ()) = tokio::join!(asking, answering);
            assert_eq!(answer.0, if again { 200 } else { 503 }, "{length}");
        }
    });
}

#[test]
fn an_answer_of_grpc_has_the_status_that_its_own_stands_for() {
    local(async {
        let (bed, workers) = Bed::again(1, |rules| {
            on_503(rules);
            rules.retries.methods = Some(vec!["POST".into()]);
        });
        let call = POST.replace("\r\nContent-Length", "\r\nContent-Type: application/grpc\r\nContent-Length");
        let answer = |status: u8| {
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\ngrpc-status: {status}\r\nContent-Length: 0\r\n\r\n"
            )
        };
        for (statuses, seen) in [(&[14, 0][..], "0"), (&[13], "13")] {
            let mut client = bed.ask(&call).await;
            for status in statuses {
                workers[0].asked().await.send(answer(*status)).await;
            }
            assert_eq!(field(&client.head().await, "grpc-status"), Some(seen));
            bed.change_api(|api| api.workers[0].run += 1);
        }
    });
}

#[test]
fn no_more_is_sent_again_than_a_fifth_and_what_was_saved_up() {
    at_once(async {
        let (bed, mut workers) = Bed::again(1, |rules| {
            on_503(rules);
            rules.retries.attempts = 2;
        });
        let answering = workers.remove(0).answer(BUSY);
        let mut client = bed.client();
        for _ in 0..1_500 {
            client.send(GET).await;
            assert_eq!(client.response().await.0, 503);
        }
        let (retries, denied) = bed.retries();
        assert_eq!(retries + denied, 1_500);
        // A thousand that were saved up, and one for each five.
        assert!((1_249..=1_300).contains(&retries), "{retries}");
        answering.abort();
    });
}

#[test]
fn a_try_that_takes_too_long_is_followed_by_another_one_where_that_is_safe() {
    at_once(async {
        let rules = |rules: &mut Traffic| rules.try_timeout_ms = 250;
        let (bed, workers) = Bed::again(2, rules);
        let start = Instant::now();
        let mut client = bed.ask(GET).await;
        let (mut silent, other) = either(&workers).await;
        silent.head().await;
        let mut wire = other.asked().await;
        assert_eq!(start.elapsed().as_millis() / 10, 25, "the clock of tries is a fine one");
        wire.send(OK).await;
        assert_eq!(client.response().await, (200, "ok".into()));
        assert_eq!(silent.rest().await, "", "its connection is closed");
        assert_eq!(bed.retries(), (1, 0));

        let (bed, workers) = Bed::again(1, rules);
        let mut client = bed.ask(POST).await;
        let _silent = workers[0].asked().await;
        assert_eq!(client.failure().await, (504, "try_timeout".into()));
        let mut client = bed.ask(GET).await;
        let mut silent = Vec::new();
        for _ in 0..3 {
            silent.push(workers[0].asked().await);
        }
        assert_eq!(client.failure().await, (504, "try_timeout".into()));
        let counts = &bed.thread.counts()["api"];
        assert_eq!((counts.requests, counts.failures, counts.timed_out, counts.retries), (2, 2, 2, 2));

        let (bed, workers) = Bed::again(1, |traffic| {
            rules(traffic);
            traffic.retries.on.timeout = false;
        });
        let mut client = bed.ask(GET).await;
        let _silent = workers[0].asked().await;
        assert_eq!(client.failure().await, (504, "try_timeout".into()));
    });
}

#[test]
fn the_time_of_a_try_begins_when_the_worker_has_the_whole_request() {
    at_once(async {
        let (bed, workers) = Bed::again(1, |rules| rules.try_timeout_ms = 250);
        let mut client = bed.ask("PUT / HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\n").await;
        let mut wire = workers[0].asked().await;
        for piece in ["a", "b", "c", "d"] {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            client.send(piece).await;
            assert_eq!(wire.take(1).await, piece);
        }
        let start = Instant::now();
        let mut again = workers[0].asked().await;
        assert_eq!(start.elapsed().as_millis() / 10, 25);
        assert_eq!(again.take(4).await, "abcd");
        again.send(OK).await;
        assert_eq!(client.response().await, (200, "ok".into()));
    });
}

#[test]
fn a_response_that_has_begun_is_no_longer_a_try() {
    at_once(async {
        let (bed, workers) = Bed::again(1, |rules| rules.try_timeout_ms = 250);
        let mut client = bed.ask(GET).await;
        let mut wire = workers[0].asked().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no").await;
        client.head().await;
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        wire.send("k").await;
        assert_eq!(client.take(2).await, "ok");
    });
}

#[test]
fn it_waits_before_it_asks_again_and_not_for_a_client_that_has_gone() {
    at_once(async {
        let (bed, workers) = Bed::again(1, |rules| {
            on_503(rules);
            rules.retries.backoff_ms = 1_000;
        });
        let mut client = bed.ask(GET).await;
        workers[0].asked().await.send(BUSY).await;
        let start = Instant::now();
        workers[0].asked().await.send(OK).await;
        assert!((500..=1_010).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
        assert_eq!(client.response().await.0, 200);

        bed.change_api(|api| api.workers[0].run += 1);
        let client = bed.ask(GET).await;
        workers[0].asked().await.send(BUSY).await;
        drop(client);
        let again = tokio::time::timeout(std::time::Duration::from_secs(5), workers[0].accept()).await;
        assert!(again.is_err(), "it was sent again for nobody");
        assert_eq!(bed.retries(), (1, 0), "what was sent is counted, and not what was meant");
    });
}

#[test]
fn a_worker_that_cannot_be_connected_to_may_be_the_last_one_that_is_asked() {
    at_once(async {
        for on_connect in [true, false] {
            let (bed, mut workers) = Bed::again(2, |rules| rules.retries.on.connect = on_connect);
            drop(workers.remove(0));
            let answering = workers.remove(0).answer(OK);
            let mut failed = 0;
            for _ in 0..100 {
                match bed.ask(GET).await.response().await {
                    (200, _) => {}
                    (502, body) => {
                        assert!(body.contains("connection_refused"), "{body}");
                        failed += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
            // It is passed over from then on.
            assert_eq!(failed, usize::from(!on_connect));
            answering.abort();
        }
    });
}

/// That a connection was used before says nothing about a worker that dies of a request, or resets it.
#[test]
fn on_a_connection_that_was_used_before_the_rules_hold_as_well() {
    local(async {
        for (attempts, reset) in [(1, true), (3, false)] {
            let (bed, workers) = Bed::again(1, |rules| {
                rules.retries.attempts = attempts;
                rules.retries.on.reset = reset;
            });
            let mut client = bed.client();
            let mut kept = warm(&mut client, &workers[0]).await;
            client.send(GET).await;
            kept.head().await;
            drop(kept);
            let asked = async {
                workers[0].asked().await.send(OK).await;
            };
            tokio::select! {
                failure = client.failure() => assert_eq!(failure, (502, "connection_lost".into())),
                () = asked => panic!("it was sent again: {attempts} {reset}"),
            }
        }
    });
}

#[test]
fn who_began_to_answer_did_not_close_because_he_waited() {
    local(async {
        for said in ["HTTP/1.1 200 O", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"] {
            let (bed, workers) = Bed::again(1, |_| ());
            let mut client = bed.client();
            let mut kept = warm(&mut client, &workers[0]).await;
            client.send(GET).await;
            kept.head().await;
            kept.send(said).await;
            let other = bed.worker("api", 2);
            drop(kept);
            other.asked().await.send(OK).await;
            assert_eq!(client.response().await, (200, "ok".into()));
            assert_eq!(bed.retries(), (1, 0), "{said:?}");
        }
    });
}

#[test]
fn a_stream_that_is_reset_follows_the_rules_whatever_its_connection_did_before() {
    local(async {
        let (bed, worker) = Bed::with_h2_worker();
        bed.change_api(|api| {
            api.traffic.retries.on.reset = false;
            api.traffic.retries.on.statuses = vec![(503, 503)];
            api.traffic.retries.methods = Some(vec!["POST".into()]);
        });
        let client = bed.h2().await;
        let asked = std::rc::Rc::new(std::cell::Cell::new(0));
        let count = asked.clone();
        let (response, _) = client.ask(post("/"), true).await;
        H2Worker::accept(&worker).await.drive(move |mut got| {
            count.set(count.get() + 1);
            match count.get() {
                2 => got.respond.send_reset(h2::Reason::INTERNAL_ERROR),
                _ => got.answer(200, "ok"),
            }
        });
        assert_eq!(whole(response).await, (200, "ok".into()));
        until("the connection is idle", || bed.thread.in_flight(1) == 0).await;
        let (response, _) = client.ask(post("/"), true).await;
        assert_eq!(whole(response).await.0, 502);
        assert_eq!(asked.get(), 2, "it was sent once");
    });
}

/// Some close one that had nothing to do just when a request comes, and say no GOAWAY.
#[test]
fn a_connection_of_http2_that_ends_because_it_waited_costs_nothing() {
    local(async {
        let (bed, worker) = Bed::with_h2_worker();
        bed.change_api(|api| api.traffic.retries.attempts = 2);
        let client = bed.h2().await;
        let (response, _) = client.ask(get("/"), true).await;
        let mut link = H2Worker::accept(&worker).await;
        link.next().await.unwrap().answer(200, "ok");
        let gone = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let keep = gone.clone();
        let driven = link.drive(move |got| keep.borrow_mut().push(got));
        assert_eq!(whole(response).await, (200, "ok".into()));
        until("the connection is idle", || bed.thread.in_flight(1) == 0).await;
        let (response, _) = client.ask(get("/"), true).await;
        until("it came", || gone.borrow().len() == 1).await;
        driven.abort();
        gone.borrow_mut().clear();
        H2Worker::accept(&worker).await.drive(|mut got| got.answer(200, "again"));
        assert_eq!(whole(response).await, (200, "again".into()));
        assert_eq!(bed.retries(), (0, 0));
    });
}
