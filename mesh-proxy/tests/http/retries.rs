//! Requests whose worker was lost, or never reached: which of them are sent again, how often, and to whom.

use std::{cell::Cell, future::Future, rc::Rc, task::Poll};

use tokio::{io::AsyncReadExt, task::spawn_local};

use crate::bed::*;

#[test]
fn a_kept_connection_that_the_worker_closed_costs_nothing() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.client();
        drop(warm(&mut client, &worker).await);
        for request in [GET, POST] {
            client.send(request).await;
            let mut wire = worker.asked().await;
            if request == POST {
                assert_eq!(wire.take(2).await, "ab");
            }
            wire.send(OK).await;
            assert_eq!(client.response().await, (200, "ok".into()));
        }
    });
}

#[test]
fn an_idempotent_request_whose_worker_dies_goes_to_another_one() {
    local(async {
        let bed = Bed::new();
        let workers = [bed.worker("api", 1), bed.worker("api", 2)];
        let mut client = bed.ask("PUT / HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nab").await;
        let (mut wire, other) = tokio::select! {
            wire = workers[0].accept() => (wire, &workers[1]),
            wire = workers[1].accept() => (wire, &workers[0]),
        };
        wire.head().await;
        wire.take(2).await;
        drop(wire);
        let mut wire = other.asked().await;
        assert_eq!(wire.take(2).await, "ab", "the body is sent again");
        wire.send(OK).await;
        assert_eq!(client.response().await, (200, "ok".into()));
        assert_eq!(bed.thread.counts()["api"].requests, 1);
    });
}

/// Most clients write a head and then its body.
#[test]
fn a_short_body_that_comes_after_its_head_is_sent_again_as_well() {
    local(async {
        for framing in ["Content-Length: 4", "Transfer-Encoding: chunked"] {
            let bed = Bed::new();
            let workers = [bed.worker("api", 1), bed.worker("api", 2)];
            let parts =
                if framing.starts_with('C') { ["ab", "cd"] } else { ["2\r\nab\r\n", "2\r\ncd\r\n0\r\n\r\n"] };
            let mut client = bed.ask(format!("PUT / HTTP/1.1\r\nHost: shop\r\n{framing}\r\n\r\n")).await;
            let (mut wire, other) = tokio::select! {
                wire = workers[0].accept() => (wire, &workers[1]),
                wire = workers[1].accept() => (wire, &workers[0]),
            };
            wire.head().await;
            client.send(parts[0]).await;
            assert_eq!(wire.take(parts[0].len()).await, parts[0]);
            drop(wire);
            let mut wire = other.asked().await;
            assert_eq!(wire.take(parts[0].len()).await, parts[0], "{framing}");
            client.send(parts[1]).await;
            assert_eq!(wire.take(parts[1].len()).await, parts[1], "{framing}");
            wire.send(OK).await;
            assert_eq!(client.response().await, (200, "ok".into()));
        }
    });
}

#[test]
fn a_request_that_may_have_been_acted_upon_is_not_sent_again() {
    local(async {
        let bed = Bed::new();
        let workers = [bed.worker("api", 1), bed.worker("api", 2)];
        let post = POST.replace("POST / ", "POST /orders?token=x ");
        let mut client = bed.ask(post).await;
        let (mut wire, run) = tokio::select! {
            wire = workers[0].accept() => (wire, 1),
            wire = workers[1].accept() => (wire, 2),
        };
        wire.head().await;
        wire.take(2).await;
        drop(wire);
        assert_eq!(client.failure().await, (502, "connection_lost".into()));
        assert_eq!(bed.lost(), [format!("POST /orders of api at run {run}")]);
    });
}

#[test]
fn a_response_that_breaks_off_is_named_and_a_client_that_leaves_is_not() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").await;
        client.head().await;
        assert_eq!(client.take(2).await, "ab");
        drop(wire);
        assert_eq!(client.rest().await, "");
        assert_eq!(bed.lost(), ["GET / of api at run 1"]);
        let mut client = bed.ask(GET).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").await;
        client.head().await;
        drop(client);
        wire.send("cde").await;
        until("it is over", || bed.thread.in_flight(1) == 0).await;
        assert_eq!(bed.lost().len(), 1);
    });
}

/// The kernel says by ECONNRESET that bytes were left unread; that does not mean that none were read.
#[test]
fn a_post_of_which_a_part_was_read_is_not_sent_again() {
    local(async {
        let bed = Bed::new();
        let workers = [bed.worker("api", 1), bed.worker("api", 2)];
        let mut client = bed.ask(POST).await;
        let (mut wire, other) = tokio::select! {
            wire = workers[0].accept() => (wire, &workers[1]),
            wire = workers[1].accept() => (wire, &workers[0]),
        };
        wire.stream.read_exact(&mut [0; 4]).await.unwrap();
        drop(wire);
        tokio::select! {
            answer = client.failure() => assert_eq!(answer, (502, "connection_lost".into())),
            _ = other.accept() => panic!("it was sent again"),
        }
    });
}

#[test]
fn a_request_that_kills_workers_meets_two_and_one_successor() {
    local(async {
        let bed = Bed::new();
        let killed = Rc::new(Cell::new(0));
        let add = |run| {
            let (worker, killed) = (bed.worker("api", run), killed.clone());
            spawn_local(async move {
                loop {
                    let _wire = worker.asked().await;
                    killed.set(killed.get() + 1);
                }
            });
        };
        (1..=5).for_each(add);
        let mut client = bed.ask(GET).await;
        until("it waits", || bed.thread.counts()["api"].held == 1).await;
        assert_eq!(killed.get(), 2);
        add(6);
        assert_eq!(client.failure().await, (502, "connection_lost".into()));
        assert_eq!(killed.get(), 3);
    });
}

/// The first connection of whichever worker gets one, and the others.
async fn first_of(mut workers: Vec<MockWorker>) -> (Wire, MockWorker, Vec<MockWorker>) {
    let mut accepts: Vec<_> = workers.iter().map(|worker| Box::pin(worker.accept())).collect();
    let (at, wire) = std::future::poll_fn(|cx| {
        let mut ready = accepts.iter_mut().map(|accept| accept.as_mut().poll(cx)).enumerate();
        match ready
            .find_map(|(at, polled)| if let Poll::Ready(wire) = polled { Some((at, wire)) } else { None })
        {
            Some(found) => Poll::Ready(found),
            None => Poll::Pending,
        }
    })
    .await;
    drop(accepts);
    let worker = workers.swap_remove(at);
    (wire, worker, workers)
}

#[test]
fn a_service_in_trouble_gets_no_multiple_of_its_load() {
    const REQUESTS: u32 = 1_000;
    local(async {
        let bed = Bed::new();
        bed.change_api(|api| api.hold_timeout_ms = 1);
        let met = Rc::new(Cell::new(0));
        for run in [1, 2] {
            let (worker, met) = (bed.worker("api", run), met.clone());
            spawn_local(async move {
                loop {
                    worker.asked().await;
                    met.set(met.get() + 1);
                }
            });
        }
        for _ in 0..REQUESTS {
            let mut client = bed.ask(GET).await;
            assert_eq!(client.failure().await.0, 502);
        }
        // Half of what was saved up goes to second workers, the other half would have gone to successors.
        let again = met.get() - REQUESTS;
        assert!((500..REQUESTS - 100).contains(&again), "{again} of {REQUESTS} were sent again");
    });
}

#[test]
fn a_request_outlives_three_workers_that_are_killed_at_once() {
    local(async {
        let bed = Bed::new();
        let mut left: Vec<_> = (1..=3).map(|run| bed.worker("api", run)).collect();
        let mut client = bed.ask(GET).await;
        for _ in 0..2 {
            let (mut wire, dead, others) = first_of(left).await;
            wire.head().await;
            drop((dead, wire));
            left = others;
        }
        drop(left);
        until("it waits", || bed.thread.counts()["api"].held == 1).await;
        bed.change_api(|api| api.workers.clear());
        bed.worker("api", 4).answer(OK);
        assert_eq!(client.response().await, (200, "ok".into()));
    });
}

#[test]
fn a_kept_connections_loss_counts_when_its_worker_died_of_it() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.client();
        let mut kept = warm(&mut client, &worker).await;
        client.send(GET).await;
        kept.head().await;
        drop((worker, kept));
        for run in [2, 3] {
            until("it waits", || bed.thread.counts()["api"].held == 1).await;
            bed.worker("api", run).accept().await.head().await;
        }
        assert_eq!(client.failure().await, (502, "connection_lost".into()));
    });
}

#[test]
fn what_comes_after_a_response_reaches_nobody() {
    local(async {
        for bodiless in ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\n\r\n"] {
            let (bed, worker) = Bed::with_worker();
            let mut client = bed.ask(GET).await;
            let mut wire = worker.asked().await;
            wire.send(bodiless).await;
            client.head().await;
            // At once, so that the runtime has not looked at the kernel since.
            let late = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
            let socket = wire.stream.socket().unwrap();
            rustix::net::send(&*socket, late, rustix::net::SendFlags::empty()).unwrap();
            client.send(GET).await;
            let mut wire = worker.asked().await;
            wire.send(OK).await;
            assert_eq!(client.response().await, (200, "ok".into()));
        }
    });
}

#[test]
fn a_newer_table_is_looked_at_before_waiting() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask(GET).await;
        let wire = worker.asked().await;
        // The successor is ready before the old one is lost, and no further news comes.
        bed.change_api(|api| api.workers.clear());
        bed.worker("api", 2).answer(OK);
        drop((worker, wire));
        assert_eq!(client.response().await, (200, "ok".into()));
    });
}

/// A worker that reads a request, says `said`, and is killed; what the client gets, with another worker there.
async fn killed_after_saying(request: &str, said: &str) -> (u16, String) {
    let bed = Bed::new();
    let workers = [bed.worker("api", 1), bed.worker("api", 2)];
    let mut client = bed.ask(request).await;
    let (mut wire, other) = tokio::select! {
        wire = workers[0].accept() => (wire, &workers[1]),
        wire = workers[1].accept() => (wire, &workers[0]),
    };
    wire.head().await;
    wire.send(said).await;
    drop(wire);
    tokio::select! {
        answer = client.response() => answer,
        () = async {
            let mut wire = other.asked().await;
            wire.send(OK).await;
            std::future::pending().await
        } => unreachable!(),
    }
}

#[test]
fn a_response_of_which_the_client_saw_nothing_is_asked_for_again() {
    local(async {
        for said in ["HTTP/1.1 200 O", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"] {
            assert_eq!(killed_after_saying(GET, said).await, (200, "ok".into()), "{said:?}");
        }
    });
}

#[test]
fn a_half_read_response_to_a_post_is_not_asked_for_again() {
    local(async {
        let (status, body) = killed_after_saying(POST, "HTTP/1.1 200 O").await;
        assert_eq!(status, 502, "{body}");
    });
}

#[test]
fn a_request_with_an_interim_response_is_not_sent_again() {
    local(async {
        let bed = Bed::new();
        let workers = [bed.worker("api", 1), bed.worker("api", 2)];
        let mut client = bed.ask(GET).await;
        let mut wire = tokio::select! {
            wire = workers[0].accept() => wire,
            wire = workers[1].accept() => wire,
        };
        wire.head().await;
        wire.send("HTTP/1.1 103 Early Hints\r\n\r\n").await;
        client.head().await;
        drop(wire);
        assert_eq!(client.failure().await, (502, "connection_lost".into()));
    });
}

/// The promise: `kill -9` of a worker under load loses no idempotent request while another one is ready.
#[test]
fn load_survives_the_death_of_a_worker() {
    local(async {
        let bed = Rc::new(Bed::new());
        let (stuck, unanswered) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let first = bed.worker("api", 1).answer_unless(OK, stuck.clone(), unanswered.clone());
        bed.worker("api", 2).answer(OK);
        let answered = Rc::new(Cell::new(0));
        let mut clients = Vec::new();
        for _ in 0..16 {
            let (bed, answered) = (bed.clone(), answered.clone());
            clients.push(spawn_local(async move {
                let mut client = bed.client();
                for _ in 0..200 {
                    client.send(GET).await;
                    assert_eq!(client.response().await, (200, "ok".into()));
                    answered.set(answered.get() + 1);
                }
            }));
        }
        until("load is on", || answered.get() > 500).await;
        stuck.set(true);
        until("it has read requests", || unanswered.get() >= 4).await;
        first.abort();
        for client in clients {
            client.await.unwrap();
        }
        assert_eq!(answered.get(), 3_200);
    });
}
