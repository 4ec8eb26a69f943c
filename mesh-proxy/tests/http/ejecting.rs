//! Workers that fail in a row get no requests for a while.

use std::{cell::Cell, rc::Rc};

use tokio::{
    task::{JoinHandle, spawn_local},
    time::{Duration, sleep},
};
use watt_api::mesh::{Ejection, Failures};

use crate::bed::*;

const BROKEN: &str = "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno";

impl Bed {
    /// A service with workers 1 and 2, of which three failures in a row are too many.
    fn ejecting(change: impl FnOnce(&mut Ejection)) -> (Bed, MockWorker, MockWorker) {
        let (bed, bad) = Bed::with_worker();
        let good = bed.worker("api", 2);
        let mut rules = Ejection { failures: 3, ..Ejection::default() };
        change(&mut rules);
        bed.change_api(|api| api.traffic.ejection = Some(rules));
        (bed, bad, good)
    }

    fn ejected(&self) -> (u64, u64) {
        let counts = self.thread.counts()["api"];
        (counts.ejections, counts.ejected)
    }
}

/// How many of so many requests are answered with this status.
async fn answered(bed: &Bed, wanted: u16, requests: u32) -> u32 {
    let mut client = bed.client();
    let mut count = 0;
    for _ in 0..requests {
        client.send(GET).await;
        count += u32::from(client.response().await.0 == wanted);
    }
    count
}

fn statuses(rules: &mut Ejection) {
    rules.on = Failures { statuses: vec![(500, 599)], ..Failures::default() };
}

/// Answers with what the cell says.
fn answer(worker: MockWorker, with: &Rc<Cell<&'static str>>) -> JoinHandle<()> {
    let with = with.clone();
    spawn_local(async move {
        loop {
            let mut wire = worker.accept().await;
            let with = with.clone();
            spawn_local(async move {
                while wire.try_head().await.is_some() {
                    wire.send(with.get()).await;
                }
            });
        }
    })
}

/// Reads each request, and ends the connection. How many there were.
fn leave(worker: MockWorker) -> Rc<Cell<u32>> {
    let asked = Rc::new(Cell::new(0));
    let count = asked.clone();
    spawn_local(async move {
        loop {
            drop(worker.asked().await);
            count.set(count.get() + 1);
        }
    });
    asked
}

#[test]
fn who_answers_with_what_is_a_failure_is_out_for_a_while_that_grows() {
    at_once(async {
        let (bed, bad, good) = Bed::ejecting(statuses);
        let with = Rc::new(Cell::new(BROKEN));
        answer(bad, &with);
        good.answer(OK);
        assert_eq!(answered(&bed, 500, 100).await, 3);
        assert_eq!(bed.ejected(), (1, 1));
        let told = &bed.troubles()[0];
        assert_eq!((&told.kind[..], &told.reason[..], told.run), ("worker_ejected", "status", Some(1)));
        assert_eq!(
            told.text,
            "it gets no requests for 10 s: 3 requests in a row failed, at last it answered 500"
        );

        // After it one failure is enough.
        sleep(Duration::from_secs(11)).await;
        assert_eq!(answered(&bed, 500, 100).await, 1);
        assert!(bed.troubles()[1].text.contains("for 20 s"), "{:?}", bed.troubles());
        sleep(Duration::from_secs(11)).await;
        assert_eq!((answered(&bed, 500, 100).await, bed.ejected()), (0, (2, 1)));

        // And three are needed again once it has answered well.
        sleep(Duration::from_secs(10)).await;
        with.set(OK);
        assert_eq!(answered(&bed, 200, 100).await, 100);
        with.set(BROKEN);
        assert_eq!(answered(&bed, 500, 100).await, 3);
    });
}

#[test]
fn what_a_worker_answers_is_no_failure_unless_that_is_said() {
    local(async {
        let (bed, bad, good) = Bed::ejecting(|_| ());
        bad.answer(BROKEN);
        good.answer(OK);
        assert!(answered(&bed, 500, 100).await > 20);
        assert_eq!(bed.ejected(), (0, 0));
    });
}

#[test]
fn who_ends_connections_without_an_answer_is_out() {
    local(async {
        let (bed, bad, good) = Bed::ejecting(|_| ());
        let asked = leave(bad);
        good.answer(OK);
        assert_eq!(answered(&bed, 200, 100).await, 100, "the other one is asked");
        assert_eq!((asked.get(), bed.ejected()), (3, (1, 1)));
        assert_eq!(bed.troubles()[0].reason, "reset");
    });
}

#[test]
fn who_accepts_no_connections_is_out() {
    at_once(async {
        let (bed, bad, good) = Bed::ejecting(|_| ());
        drop(bad);
        good.answer(OK);
        // It is passed over by itself, for a while that grows as well.
        for _ in 0..40 {
            assert_eq!(answered(&bed, 200, 10).await, 10);
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(bed.ejected(), (1, 1));
        assert_eq!(bed.troubles()[0].reason, "connect");
    });
}

#[test]
fn who_does_not_answer_in_the_services_time_is_out_and_who_has_no_patience_puts_nobody_out() {
    at_once(async {
        for (of_service, expected) in [(true, (1, 1)), (false, (0, 0))] {
            let (bed, silent, good) = Bed::ejecting(|_| ());
            good.answer(OK);
            silent.answer_unless("", Rc::new(Cell::new(true)), Rc::default());
            if of_service {
                bed.change_api(|api| api.traffic.total_timeout_ms = 1_000);
            }
            let wish = if of_service { "" } else { "X-Request-Timeout-Ms: 1000\r\n" };
            let mut late = 0;
            for _ in 0..60 {
                let request = format!("POST / HTTP/1.1\r\nHost: shop\r\n{wish}Content-Length: 2\r\n\r\nab");
                let mut client = bed.ask(request).await;
                late += u32::from(client.response().await.0 == 504);
            }
            assert_eq!(bed.ejected().0, expected.0, "{late} of 60 requests were late");
            assert!(if of_service { late == 3 } else { late > 3 }, "{late}");
        }
    });
}

#[test]
fn a_client_that_is_slow_to_send_puts_nobody_out() {
    at_once(async {
        let (bed, one, other) = Bed::ejecting(|rules| rules.failures = 1);
        // Both lose patience with a body that does not come.
        for worker in [one, other] {
            leave(worker);
        }
        let mut client = bed.ask("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 9\r\n\r\nslow").await;
        assert_eq!(client.failure().await, (502, "connection_lost".into()));
        assert_eq!(bed.ejected(), (0, 0));
    });
}

#[test]
fn one_alone_is_never_out_and_those_that_are_out_are_the_last_resort() {
    local(async {
        let (bed, bad) = Bed::with_worker();
        bed.change_api(|api| {
            let mut rules = Ejection { failures: 3, ..Ejection::default() };
            statuses(&mut rules);
            api.traffic.ejection = Some(rules);
        });
        let with = Rc::new(Cell::new(BROKEN));
        answer(bad, &with);
        assert_eq!(answered(&bed, 500, 20).await, 20);
        assert_eq!(bed.ejected(), (0, 0));

        let good = bed.worker("api", 2).answer(OK);
        // It has failed often enough already.
        assert!(answered(&bed, 500, 40).await <= 1);
        assert_eq!(bed.ejected(), (1, 1));
        good.abort();
        with.set(OK);
        assert_eq!(answered(&bed, 200, 20).await, 20, "better than nobody");

        // The other one goes: of one worker none is out.
        bed.change_api(|api| drop(api.workers.pop()));
        assert_eq!(bed.ejected(), (1, 0));
        assert_eq!(bed.troubles().last().unwrap().kind, "worker_returned");
    });
}

#[test]
fn a_reload_without_the_rule_puts_all_in() {
    local(async {
        let (bed, bad, good) = Bed::ejecting(statuses);
        bad.answer(BROKEN);
        good.answer(OK);
        assert_eq!(answered(&bed, 500, 100).await, 3);
        bed.change_api(|api| api.traffic.ejection = None);
        assert!(answered(&bed, 500, 100).await > 20);
        assert_eq!(bed.ejected(), (1, 0));
    });
}
