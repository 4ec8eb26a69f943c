//! Requests that wait for a worker, and those that need not; names and policies of the mesh.

use watt_api::mesh::{Outlook, WorkerState};
use watt_mesh_proxy::thread::Report;

use crate::bed::*;

#[test]
fn requests_wait_for_a_worker_that_comes() {
    local(async {
        let bed = Bed::new();
        let mut clients = [bed.client(), bed.client(), bed.client()];
        for client in &mut clients {
            client.send(GET).await;
        }
        until("all wait", || bed.thread.counts()["api"].held == 3).await;
        bed.change_api(|_| {});
        until("they wait on", || bed.thread.counts()["api"].held == 3).await;
        bed.worker("api", 1).answer(OK);
        for client in &mut clients {
            assert_eq!(client.response().await, (200, "ok".into()));
        }
        assert_eq!(bed.thread.counts()["api"].held, 0);
    });
}

#[test]
fn they_wait_for_the_successor_of_a_worker_that_just_died() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        drop(worker);
        let mut client = bed.ask(GET).await;
        until("it waits for news", || bed.thread.counts()["api"].held == 1).await;
        bed.change_api(|api| api.workers.clear());
        bed.worker("api", 2).answer(OK);
        assert_eq!(client.response().await, (200, "ok".into()));
    });
}

#[test]
fn an_answer_that_was_lost_with_the_only_worker_comes_from_its_successor() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask(GET).await;
        worker.asked().await;
        drop(worker);
        until("it waits", || bed.thread.counts()["api"].held == 1).await;
        bed.change_api(|api| api.workers.clear());
        bed.worker("api", 2).answer(OK);
        assert_eq!(client.response().await, (200, "ok".into()));
    });
}

#[test]
fn they_do_not_wait_for_ever() {
    local(async {
        let bed = Bed::new();
        bed.change_api(|api| api.hold_timeout_ms = 100);
        let mut client = bed.ask(GET).await;
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "retry-after")), (503, Some("1")));
    });
}

#[test]
fn nobody_waits_for_a_client_that_left() {
    local(async {
        let bed = Bed::new();
        let client = bed.ask(GET).await;
        until("it waits", || bed.thread.counts()["api"].held == 1).await;
        drop(client);
        until("it waits no more", || bed.thread.counts()["api"].held == 0).await;
        until("it is gone", || bed.thread.connections() == 0).await;
    });
}

#[test]
fn they_do_not_wait_in_crowds() {
    local(async {
        let bed = Bed::new();
        bed.change_api(|api| api.hold_requests_max = 2);
        let mut waiting = [bed.client(), bed.client()];
        for client in &mut waiting {
            client.send(GET).await;
        }
        until("two wait", || bed.thread.counts()["api"].held == 2).await;
        let mut third = bed.ask(GET).await;
        assert_eq!(third.failure().await, (503, "too_many_waiting".into()));
    });
}

#[test]
fn they_do_not_wait_in_vain() {
    local(async {
        let bed = Bed::new();
        let failed =
            Outlook::Failed { reason: "exit 1, 5 times in a minute".into(), retry_after_s: Some(300) };
        for (outlook, code, reason) in [
            (failed, 503, "service_failed"),
            (Outlook::Stopped, 503, "service_stopped"),
            (Outlook::NotListening, 502, "not_listening"),
        ] {
            let mut waiting = bed.client();
            bed.change_api(|api| api.outlook = Outlook::Coming);
            waiting.send(GET).await;
            until("it waits", || bed.thread.counts()["api"].held == 1).await;
            bed.change_api(|api| api.outlook = outlook.clone());
            assert_eq!(waiting.failure().await, (code, reason.into()), "the news reaches those who wait");
            let mut client = bed.ask(GET).await;
            let head = client.head().await;
            let retry = (reason == "service_failed").then_some("300");
            assert_eq!((status(&head), field(&head, "retry-after")), (code, retry));
        }
    });
}

#[test]
fn workers_that_are_not_ready_get_nothing() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        bed.change_api(|api| api.workers[0].state = WorkerState::Starting);
        let _client = bed.ask(GET).await;
        until("it waits", || bed.thread.counts()["api"].held == 1).await;
        bed.change_api(|api| api.workers[0].state = WorkerState::Ready);
        worker.asked().await;
    });
}

#[test]
fn the_mesh_knows_services_by_name() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        worker.answer(OK);
        for (host, expected) in [
            ("api.plt.local", (200, "")),
            ("API.PLT.LOCAL:80", (200, "")),
            ("apo.plt.local", (404, "unknown_service")),
            ("api", (502, "unknown_host")),
            ("example.org", (502, "unknown_host")),
        ] {
            let mut client = bed.caller("web");
            client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
            if expected.0 == 200 {
                assert_eq!(client.response().await.0, 200);
            } else {
                assert_eq!(client.failure().await, (expected.0, expected.1.into()), "{host}");
            }
        }
    });
}

#[test]
fn policies_are_enforced_on_the_kernels_word() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        worker.answer(OK);
        bed.change_api(|api| api.callers = Some(vec!["web".into()]));
        let request = "GET / HTTP/1.1\r\nHost: api.plt.local\r\nForwarded: for=_web\r\n\r\n";
        let mut client = bed.caller("web");
        client.send(request).await;
        assert_eq!(client.response().await.0, 200);
        let mut client = bed.caller("jobs");
        client.send(request).await;
        let (status, body) = client.response().await;
        assert_eq!(status, 403);
        assert!(body.contains("`jobs` may not call `api`") && body.contains("only `web`"), "{body}");
        assert!(matches!(&bed.reports.borrow()[..], [Report::Refused { caller: Some(caller), target, .. }]
            if caller == "jobs" && target == "api"));
        client.send(request).await;
        assert_eq!(client.response().await.0, 403, "the connection lives on");
        let mut client = bed.ask(GET).await;
        assert_eq!(client.response().await.0, 200, "the gateway may call what a route names");
    });
}
