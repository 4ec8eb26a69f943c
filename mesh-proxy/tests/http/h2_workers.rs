//! Workers that speak HTTP/2, with clients of both kinds.

use bytes::Bytes;
use h2::{Reason, server};
use http::Response;
use std::{cell::RefCell, rc::Rc};
use watt_api::mesh::{Protocol, WorkerState};

use crate::{bed::*, h2_bed::*};

#[test]
fn clients_of_http1_reach_a_worker_of_http2() {
    local(async {
        let (bed, worker) = Bed::with_h2_worker();
        let mut client =
            bed.ask("GET /a?b HTTP/1.1\r\nHost: shop:80\r\nX-A: 1\r\nConnection: keep-alive\r\n\r\n").await;
        let mut link = H2Worker::accept(&worker).await;
        let mut got = link.next().await.unwrap();
        assert_eq!(got.request.uri(), "http://shop:80/a?b");
        let fields = got.request.headers();
        assert_eq!(&fields["x-a"], "1");
        assert!(fields.contains_key("x-forwarded-host") && fields.contains_key("traceparent"));
        assert!(!fields.contains_key("host") && !fields.contains_key("connection"));
        assert!(got.request.body().is_end_stream());
        got.answer(200, "ok");
        let link = link.drive(|mut got| got.answer(200, "again"));
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
        assert_eq!(client.take(12).await, "2\r\nok\r\n0\r\n\r\n");
        client.send("HEAD / HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        assert_eq!(status(&client.head().await), 200);
        client.send(GET).await;
        client.head().await;
        assert_eq!(client.take(15).await, "5\r\nagain\r\n0\r\n\r\n");
        link.abort();
    });
}

#[test]
fn bodies_of_http1_go_there_with_their_length_and_their_trailers() {
    local(async {
        let (bed, worker) = Bed::with_h2_worker();
        let mut client = bed.ask(POST).await;
        let mut link = H2Worker::accept(&worker).await;
        let mut got = link.next().await.unwrap();
        assert_eq!(&got.request.headers()["content-length"], "2");
        let seen = Rc::new(RefCell::new(Vec::new()));
        let see = Rc::clone(&seen);
        link.drive(move |got| see.borrow_mut().push(got));
        assert_eq!(body(got.request.body_mut()).await, ("ab".into(), None));
        let response = Response::builder().header("content-length", "2").body(()).unwrap();
        let mut send = got.respond.send_response(response, false).unwrap();
        send.send_data(Bytes::from_static(b"ok"), true).unwrap();
        assert_eq!(client.response().await, (200, "ok".into()));

        client.send("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n").await;
        until("it came", || seen.borrow().len() == 1).await;
        let mut got = seen.borrow_mut().pop().unwrap();
        let expected = ("ab".to_owned(), Some(trailers(&[("x-sum", "1")])));
        assert_eq!(body(got.request.body_mut()).await, expected);
        let mut send = got.respond.send_response(Response::new(()), false).unwrap();
        send.send_data(Bytes::from_static(b"ok"), false).unwrap();
        send.send_trailers(trailers(&[("grpc-status", "0"), ("via", "x")])).unwrap();
        client.head().await;
        assert_eq!(client.take(28).await, "2\r\nok\r\n0\r\ngrpc-status: 0\r\n\r\n");
    });
}

/// A call that streams both ways, as gRPC has it.
#[test]
fn grpc_passes_whole() {
    local(async {
        let (bed, worker) = Bed::with_h2_worker();
        let client = bed.h2().await;
        let request = post("/shop.Cart/Watch")
            .header("content-type", "application/grpc+proto")
            .header("te", "trailers")
            .header("grpc-timeout", "5S");
        let (response, mut send) = client.ask(request, false).await;
        let mut link = H2Worker::accept(&worker).await;
        let mut got = link.next().await.unwrap();
        for (name, value) in [("content-type", "application/grpc+proto"), ("te", "trailers")] {
            assert_eq!(&got.request.headers()[name], value);
        }
        let left = got.request.headers()["grpc-timeout"].to_str().unwrap().strip_suffix('m').unwrap();
        assert!((1..=5_000).contains(&left.parse::<u32>().unwrap()), "what is left of it: {left}");
        link.drive(|_| ());
        let answer = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
        let mut send_back = got.respond.send_response(answer, false).unwrap();
        let mut answer = response.await.unwrap().into_body();
        for _ in 0..100 {
            send.send_data(Bytes::from_static(b"\0\0\0\0\x01a"), false).unwrap();
            take(got.request.body_mut(), 6).await;
            send_back.send_data(Bytes::from_static(b"\0\0\0\0\x02bc"), false).unwrap();
            take(&mut answer, 7).await;
        }
        send.send_data(Bytes::new(), true).unwrap();
        assert_eq!(body(got.request.body_mut()).await, (String::new(), None));
        let detail: &'static str = Box::leak("x".repeat(9_000).into_boxed_str());
        let status = trailers(&[
            ("grpc-status", "5"),
            ("grpc-message", "no cart"),
            ("grpc-status-details-bin", detail),
        ]);
        send_back.send_trailers(status.clone()).unwrap();
        assert_eq!(body(&mut answer).await, (String::new(), Some(status)));
        until("nothing is in flight", || bed.thread.in_flight(1) == 0).await;
        assert_eq!(bed.thread.counts()["api"].failures, 0);
    });
}

#[test]
fn a_response_that_is_a_head_alone_stays_one() {
    local(async {
        let (bed, worker) = Bed::with_h2_worker();
        let client = bed.h2().await;
        let (response, _) = client.ask(post("/a.B/C").header("content-type", "application/grpc"), true).await;
        let mut link = H2Worker::accept(&worker).await;
        let mut got = link.next().await.unwrap();
        let answer = Response::builder().header("grpc-status", "12").body(()).unwrap();
        got.respond.send_response(answer, true).unwrap();
        link.drive(|_| ());
        let response = response.await.unwrap();
        assert_eq!(&response.headers()["grpc-status"], "12");
        assert!(response.body().is_end_stream());
    });
}

#[test]
fn many_requests_share_a_connection_as_far_as_the_worker_allows() {
    local(async {
        let (bed, worker) = Bed::with_h2_worker();
        let client = bed.h2().await;
        let mut builder = server::Builder::new();
        builder.max_concurrent_streams(2);
        let got = Rc::new(RefCell::new(Vec::new()));
        let keep = || {
            let got = Rc::clone(&got);
            move |next| got.borrow_mut().push(next)
        };
        let mut asked = vec![client.ask(get("/0"), true).await];
        let first = H2Worker::accept_with(&worker, &builder).await.drive(keep());
        until("the first came", || got.borrow().len() == 1).await;
        asked.push(client.ask(get("/1"), true).await);
        until("the second came", || got.borrow().len() == 2).await;
        asked.push(client.ask(get("/2"), true).await);
        let second = H2Worker::accept_with(&worker, &builder).await.drive(keep());
        until("the third came by another", || got.borrow().len() == 3).await;
        assert_eq!(bed.thread.in_flight(1), 3);
        got.borrow_mut().iter_mut().for_each(|got| got.answer(200, "ok"));
        for (response, _) in asked {
            assert_eq!(whole(response).await, (200, "ok".into()));
        }
        first.abort();
        second.abort();
    });
}

#[test]
fn requests_that_come_at_once_need_one_connection() {
    local(async {
        let (bed, worker) = Bed::with_h2_worker();
        let client = bed.h2().await;
        let mut asked = Vec::new();
        for _ in 0..20 {
            asked.push(client.ask(get("/"), true).await.0);
        }
        let link = H2Worker::accept(&worker).await.drive(|mut got| got.answer(200, "ok"));
        for response in asked {
            assert_eq!(whole(response).await, (200, "ok".into()));
        }
        link.abort();
    });
}

#[test]
fn a_cancelled_request_is_cancelled_at_the_worker_and_a_reset_has_its_reason() {
    local(async {
        let (bed, worker) = Bed::with_h2_worker();
        let client = bed.h2().await;
        let mut asked = [client.ask(post("/"), false).await, client.ask(post("/"), true).await];
        let mut link = H2Worker::accept(&worker).await;
        let mut got = [link.next().await.unwrap(), link.next().await.unwrap()];
        let next = Rc::new(RefCell::new(None));
        let keep = Rc::clone(&next);
        link.drive(move |got| *keep.borrow_mut() = Some(got));
        asked.iter_mut().for_each(|(_, send)| send.send_reset(Reason::CANCEL));
        for got in &mut got {
            let reset = std::future::poll_fn(|cx| got.respond.poll_reset(cx)).await.unwrap();
            assert_eq!(reset, Reason::CANCEL);
        }

        // What would say that nothing was done, or that all went well, does not go on.
        for (sent, seen) in [
            (Reason::ENHANCE_YOUR_CALM, Reason::ENHANCE_YOUR_CALM),
            (Reason::REFUSED_STREAM, Reason::INTERNAL_ERROR),
            (Reason::NO_ERROR, Reason::INTERNAL_ERROR),
        ] {
            let (response, _) = client.ask(get("/"), true).await;
            until("it came", || next.borrow().is_some()).await;
            let mut got = next.take().unwrap();
            let mut send = got.respond.send_response(Response::new(()), false).unwrap();
            send.send_data(Bytes::from_static(b"half"), false).unwrap();
            let mut answer = response.await.unwrap().into_body();
            take(&mut answer, 4).await;
            send.send_reset(sent);
            let error = answer.data().await.unwrap().unwrap_err();
            assert_eq!(error.reason(), Some(seen));
        }
        until("nothing is in flight", || bed.thread.in_flight(1) == 0).await;
    });
}

#[test]
fn what_a_worker_did_not_look_at_is_sent_again_whatever_it_is() {
    local(async {
        let bed = Bed::new();
        bed.change_api(|api| api.protocol = Protocol::H2c);
        let workers = [bed.worker("api", 1), bed.worker("api", 2)];
        let mut client = bed.ask(POST).await;
        let (mut link, other) = tokio::select! {
            link = H2Worker::accept(&workers[0]) => (link, &workers[1]),
            link = H2Worker::accept(&workers[1]) => (link, &workers[0]),
        };
        let mut got = link.next().await.unwrap();
        got.respond.send_reset(Reason::REFUSED_STREAM);
        link.drive(|_| panic!("it refused"));
        let mut link = H2Worker::accept(other).await;
        let mut got = link.next().await.unwrap();
        link.drive(|_| ());
        assert_eq!(body(got.request.body_mut()).await.0, "ab", "the body is sent again");
        got.answer(200, "");
        assert_eq!(client.response().await.0, 200);
        assert!(bed.lost().is_empty());
    });
}

#[test]
fn a_worker_that_says_goaway_finishes_what_it_has_and_gets_the_next_on_a_new_connection() {
    local(async {
        let (bed, worker) = Bed::with_h2_worker();
        let client = bed.h2().await;
        let (first, _) = client.ask(post("/first"), true).await;
        let mut link = H2Worker::accept(&worker).await;
        let mut got = link.next().await.unwrap();
        link.say_goaway();
        let ended = link.drive(|_| panic!("it said goaway"));
        // The link has heard it when it opens another connection.
        let (second, _) = loop {
            let asked = client.ask(post("/second"), true).await;
            if let Ok(link) =
                tokio::time::timeout(std::time::Duration::from_millis(500), H2Worker::accept(&worker)).await
            {
                link.drive(|mut got| got.answer(200, "second"));
                break asked;
            }
        };
        assert_eq!(whole(second).await, (200, "second".into()));
        got.answer(200, "first");
        assert_eq!(whole(first).await, (200, "first".into()));
        drop(got);
        ended.await.unwrap();
    });
}

#[test]
fn a_worker_that_dies_loses_what_it_had_and_no_more() {
    local(async {
        let bed = Bed::new();
        bed.change_api(|api| api.protocol = Protocol::H2c);
        let workers = [bed.worker("api", 1), bed.worker("api", 2)];
        let mut client = bed.ask(GET).await;
        let (mut link, other) = tokio::select! {
            link = H2Worker::accept(&workers[0]) => (link, &workers[1]),
            link = H2Worker::accept(&workers[1]) => (link, &workers[0]),
        };
        let got = link.next().await.unwrap();
        drop((got, link));
        let mut link = H2Worker::accept(other).await;
        let mut got = link.next().await.unwrap();
        got.answer(200, "ok");
        link.drive(|_| ());
        assert_eq!(status(&client.head().await), 200);
        assert!(bed.lost().is_empty());
    });
}

#[test]
fn a_post_whose_worker_dies_is_named() {
    local(async {
        let (bed, worker) = Bed::with_h2_worker();
        let mut client = bed.ask(POST).await;
        let mut link = H2Worker::accept(&worker).await;
        let got = link.next().await.unwrap();
        drop((got, link));
        assert_eq!(client.failure().await, (502, "connection_lost".into()));
        assert_eq!(bed.lost(), ["POST / of api at run 1"]);
    });
}

#[test]
fn a_worker_that_speaks_something_else_is_said_to() {
    local(async {
        let (bed, worker) = Bed::with_h2_worker();
        let mut client = bed.ask(POST).await;
        let mut wire = worker.accept().await;
        wire.take(PREFACE.len()).await;
        wire.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n").await;
        let (status, body) = client.response().await;
        assert!(status == 502 && body.contains("HTTP/2"), "{body}");
    });
}

#[test]
fn a_worker_that_drains_gets_no_new_request_and_finishes_the_others() {
    local(async {
        let (bed, old) = Bed::with_h2_worker();
        let client = bed.h2().await;
        let (first, _) = client.ask(get("/"), true).await;
        let mut link = H2Worker::accept(&old).await;
        let mut got = link.next().await.unwrap();
        let ended = link.drive(|_| panic!("it drains"));
        let new = bed.worker("api", 2);
        bed.change_api(|api| api.workers[0].state = WorkerState::Draining);
        let (second, _) = client.ask(get("/"), true).await;
        H2Worker::accept(&new).await.drive(|mut got| got.answer(200, "new"));
        assert_eq!(whole(second).await, (200, "new".into()));
        got.answer(200, "old");
        assert_eq!(whole(first).await, (200, "old".into()));
        drop(got);
        // Its connection ends with its last request.
        ended.await.unwrap();
        let drained = watt_mesh_proxy::thread::Report::Drained { run: 1 };
        until("it has drained", || bed.reports.borrow().contains(&drained)).await;
    });
}

#[test]
fn interim_responses_of_a_worker_go_on() {
    local(async {
        let (bed, worker) = Bed::with_h2_worker();
        let mut client = bed.ask(GET).await;
        let mut link = H2Worker::accept(&worker).await;
        let mut got = link.next().await.unwrap();
        link.drive(|_| ());
        let hints = Response::builder().status(103).header("link", "</a.css>").body(()).unwrap();
        got.respond.send_informational(hints).unwrap();
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "link")), (103, Some("</a.css>")));
        got.answer(204, "");
        assert_eq!(status(&client.head().await), 204);
    });
}

#[test]
fn a_body_that_the_worker_does_not_read_holds_up_no_other() {
    local(async {
        let (bed, worker) = Bed::with_h2_worker();
        let client = bed.h2().await;
        let (_slow, mut send) = client.ask(post("/slow"), false).await;
        let mut link = H2Worker::accept(&worker).await;
        let unread = link.next().await.unwrap();
        let _link = link.drive(|_| panic!("it would wait there"));
        let pause = std::time::Duration::from_millis(200);
        while let Ok(room) = tokio::time::timeout(pause, room(&mut send)).await {
            send.send_data(vec![b'x'; room].into(), false).unwrap();
        }
        let (response, mut send) = client.ask(post("/fast"), false).await;
        send.send_data(Bytes::from_static(b"ab"), true).unwrap();
        let mut link = H2Worker::accept(&worker).await;
        let mut got = link.next().await.unwrap();
        link.drive(|_| ());
        assert_eq!(body(got.request.body_mut()).await.0, "ab");
        got.answer(200, "ok");
        assert_eq!(whole(response).await, (200, "ok".into()));
        drop(unread);
    });
}

#[test]
fn a_stream_whose_end_never_comes_is_taken_back() {
    at_once(async {
        let (bed, worker) = Bed::with_h2_worker();
        let mut client = bed.ask(GET).await;
        let mut link = H2Worker::accept(&worker).await;
        let mut got = link.next().await.unwrap();
        link.drive(|_| ());
        let response = Response::builder().header("content-length", "2").body(()).unwrap();
        let mut send = got.respond.send_response(response, false).unwrap();
        send.send_data(Bytes::from_static(b"ok"), false).unwrap();
        assert_eq!(client.response().await, (200, "ok".into()));
        let reset = std::future::poll_fn(|cx| send.poll_reset(cx));
        let reset = tokio::time::timeout(std::time::Duration::from_secs(60), reset).await;
        assert_eq!(reset.expect("it is still open").unwrap(), Reason::CANCEL);
    });
}

#[test]
fn what_the_only_worker_refuses_is_not_held() {
    local(async {
        let (bed, worker) = Bed::with_h2_worker();
        let mut client = bed.ask(GET).await;
        let link = H2Worker::accept(&worker).await;
        link.drive(|mut got| got.respond.send_reset(Reason::REFUSED_STREAM));
        assert_eq!(client.failure().await.0, 502);
        assert_eq!(bed.thread.counts()["api"].held, 0);
    });
}
