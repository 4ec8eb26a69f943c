//! Workers: chosen, passed over, drained, reached through sockets of their own network.

use std::{future::poll_fn, net::TcpListener, os::fd::OwnedFd, task::Poll};

use watt_api::mesh::{Endpoint, WorkerState};
use watt_mesh_proxy::thread::Report;

use crate::bed::*;

#[test]
fn only_the_own_port_of_a_worker_on_the_hosts_network_is_reached() {
    local(async {
        let bed = Bed::new();
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (own, foreign) = (listen(), listen());
        let address = own.local_addr().unwrap();
        bed.change_api(|api| {
            api.reserved_ports = vec![53];
            api.workers.push(ready(7, Endpoint::Tcp { address }));
        });
        let open = async |port| bed.thread.open("api", Some(port), Some("web")).await.map(|_| ());
        assert!(open(address.port()).await.is_ok());
        let failure = open(foreign.local_addr().unwrap().port()).await.unwrap_err();
        assert!(failure.message.contains("host's network"), "{failure:?}");
        foreign.set_nonblocking(true).unwrap();
        assert!(foreign.accept().is_err(), "nothing came there");
        let failure = open(53).await.unwrap_err();
        assert!(failure.message.contains("the mesh's own"), "{failure:?}");
    });
}

/// A worker whose queue is full is waited for only while no other one is there.
/// A worker with as many connections in its queue as fit.
struct FullWorker {
    listener: socket2::Socket,
    _waits: std::os::unix::net::UnixStream,
}

impl FullWorker {
    fn add(bed: &Bed, run: u64) -> FullWorker {
        let path = bed.path(run);
        let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        listener.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let _waits = std::os::unix::net::UnixStream::connect(&path).unwrap();
        bed.change_api(|api| api.workers.push(ready(run, Endpoint::Unix { path })));
        FullWorker { listener, _waits }
    }

    /// Takes what waits, and then the next connection.
    async fn accept(&self) -> Wire {
        drop(self.listener.accept().unwrap());
        self.listener.set_nonblocking(true).unwrap();
        let listener =
            std::os::unix::net::UnixListener::from(OwnedFd::from(self.listener.try_clone().unwrap()));
        Wire::new(tokio::net::UnixListener::from_std(listener).unwrap().accept().await.unwrap().0)
    }
}

#[test]
fn a_full_queue_is_passed_by() {
    local(async {
        let bed = Bed::new();
        let _full = FullWorker::add(&bed, 1);
        bed.worker("api", 2).answer(OK);
        for _ in 0..20 {
            let mut client = bed.ask(GET).await;
            assert_eq!(client.response().await, (200, "ok".into()));
        }
    });
}

#[test]
fn when_all_queues_are_full_one_of_them_is_waited_for() {
    local(async {
        for count in [1, 2] {
            let bed = Bed::new();
            let full: Vec<FullWorker> = (1..=count).map(|run| FullWorker::add(&bed, run)).collect();
            let mut client = bed.ask(GET).await;
            let in_flight = || (1..=count).map(|run| bed.thread.in_flight(run)).sum::<u64>();
            until("it waits at one", || in_flight() == 1).await;
            let mut wire = match &full[..] {
                [one, other] => tokio::select! {
                    wire = one.accept() => wire,
                    wire = other.accept() => wire,
                },
                _ => full[0].accept().await,
            };
            wire.head().await;
            wire.send(OK).await;
            assert_eq!(client.response().await, (200, "ok".into()));
        }
    });
}

#[test]
fn a_worker_that_refuses_connections_is_left_out() {
    local(async {
        let bed = Bed::new();
        drop(bed.worker("api", 1));
        bed.worker("api", 2).answer(OK);
        for _ in 0..20 {
            let mut client = bed.ask(POST).await;
            assert_eq!(client.response().await, (200, "ok".into()));
        }
        let counts = bed.thread.counts()["api"];
        assert_eq!((counts.requests, counts.failures, counts.in_flight), (20, 0, 0));
    });
}

#[test]
fn a_worker_that_refused_is_passed_over_for_a_while() {
    local(async {
        let bed = Bed::new();
        bed.change_api(|api| api.hold_timeout_ms = 1);
        drop(bed.worker("api", 1));
        // As often as it takes for the longest while.
        for _ in 0..8 {
            let mut client = bed.ask(GET).await;
            assert_eq!(client.failure().await, (502, "connection_refused".into()));
        }
        std::fs::remove_file(bed.path(1)).unwrap();
        let back = tokio::net::UnixListener::bind(bed.path(1)).unwrap();
        bed.worker("api", 2).answer(OK);
        for _ in 0..20 {
            let mut client = bed.ask(GET).await;
            assert_eq!(client.response().await, (200, "ok".into()));
        }
        let asked = poll_fn(|cx| Poll::Ready(back.poll_accept(cx).is_ready())).await;
        assert!(!asked);

        // Once it has accepted it is as good as the others.
        bed.change_api(|api| drop(api.workers.pop()));
        let mut client = bed.ask(GET).await;
        let mut wire = Wire::new(back.accept().await.unwrap().0);
        wire.head().await;
        wire.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
        client.response().await;
        let other = bed.worker("api", 3);
        let _clients = sent_to_some_worker(&bed, 40).await;
        assert!(back.accept().await.is_ok());
        drop(other);
    });
}

#[test]
fn when_all_refuse_the_client_hears_why() {
    local(async {
        let bed = Bed::new();
        bed.change_api(|api| api.hold_timeout_ms = 300);
        drop(bed.worker("api", 1));
        let mut client = bed.ask("GET / HTTP/1.1\r\nHost: shop\r\nAccept: text/html\r\n\r\n").await;
        let (status, body) = client.response().await;
        assert_eq!(status, 502);
        assert!(body.starts_with("502 Bad Gateway, service api (connection_refused)\n"), "{body}");
        assert!(body.contains("Connection refused"), "{body}");
        assert_eq!(bed.thread.counts()["api"].failures, 1);
    });
}

#[test]
fn a_closed_port_of_a_private_worker_is_the_callers_affair() {
    local(async {
        let bed = Bed::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = listener.local_addr().unwrap();
        bed.change_api(|api| api.workers.push(ready(7, Endpoint::PrivateTcp { address })));
        bed.thread.add_sockets(7, (0..64).map(|_| socket()).collect());
        for _ in 0..8 {
            // Nobody waits for a successor.
            let failure = bed.thread.open("api", Some(closed), Some("web")).await.map(|_| ()).unwrap_err();
            assert!(failure.message.contains("could be connected to"), "{failure:?}");
        }
        let _other = bed.worker("api", 8);
        let _clients = sent_to_some_worker(&bed, 40).await;
        assert!(listener.accept().await.is_ok(), "the worker is not passed over");
    });
}

fn socket() -> OwnedFd {
    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap().into()
}

/// Clients with a request that is on its way.
async fn sent_to_some_worker(bed: &Bed, count: usize) -> Vec<Wire> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let client = bed.ask(GET).await;
        clients.push(client);
    }
    clients
}

#[test]
fn a_draining_worker_gets_nothing_new_and_says_when_it_is_done() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.client();
        let mut kept = warm(&mut client, &worker).await;
        let mut busy = bed.ask(GET).await;
        kept.head().await;
        let other = bed.worker("api", 2);
        bed.change_api(|api| api.workers[0].state = WorkerState::Draining);
        assert!(bed.reports.borrow().is_empty());
        client.send(GET).await;
        let mut wire = other.asked().await;
        wire.send(OK).await;
        client.response().await;
        kept.send(OK).await;
        busy.response().await;
        assert_eq!(kept.rest().await, "", "its connection is not kept");
        assert_eq!(*bed.reports.borrow(), [Report::Drained { run: 1 }]);
        bed.apply();
        assert_eq!(bed.reports.borrow().len(), 1, "said once");
    });
}

#[test]
fn a_draining_workers_kept_connections_are_closed_at_once() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut kept = warm(&mut bed.client(), &worker).await;
        bed.change_api(|api| api.workers[0].state = WorkerState::Draining);
        // Left alone they would be closed after 4 s.
        let closed = tokio::time::timeout(std::time::Duration::from_secs(2), kept.rest()).await;
        assert_eq!(closed.as_deref(), Ok(""));
    });
}

#[test]
fn a_private_worker_is_reached_with_sockets_of_its_network() {
    local(async {
        let bed = Bed::new();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        bed.change_api(|api| api.workers.push(ready(7, Endpoint::PrivateTcp { address })));
        let mut client = bed.ask(GET).await;
        until("sockets are asked for", || *bed.reports.borrow() == [Report::NeedSockets { run: 7 }]).await;
        bed.thread.add_sockets(7, vec![socket()]);
        let mut wire = Wire::new(listener.accept().await.unwrap().0);
        wire.head().await;
        wire.send(OK).await;
        assert_eq!(client.response().await, (200, "ok".into()));
        until("more are asked for", || bed.reports.borrow().len() == 2).await;
    });
}

#[test]
fn sockets_may_come_before_the_run_they_are_for() {
    local(async {
        let bed = Bed::new();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        bed.thread.add_sockets(7, vec![socket.into()]);
        bed.change_api(|api| api.workers.push(ready(7, Endpoint::PrivateTcp { address })));
        let passage = bed.thread.open("api", None, Some("web")).await;
        assert!(passage.is_ok());
        assert_eq!(bed.thread.in_flight(7), 1);
        drop(passage);
        assert_eq!(bed.thread.in_flight(7), 0);
    });
}

#[test]
fn without_a_socket_the_client_is_told_in_time() {
    local(async {
        let bed = Bed::new();
        let address = "127.0.0.1:9".parse().unwrap();
        bed.change_api(|api| {
            (api.connect_timeout_ms, api.hold_timeout_ms) = (100, 100);
            api.workers.push(ready(7, Endpoint::PrivateTcp { address }));
        });
        let mut client = bed.ask(GET).await;
        assert_eq!(client.failure().await, (504, "connect_timeout".into()));
    });
}
