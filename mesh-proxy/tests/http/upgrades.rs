//! Upgrades: WebSocket and whatever else, through the gateway and the mesh.

use crate::bed::*;

const WISH: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n";
const YES: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

#[test]
fn a_tunnel_carries_bytes_both_ways_from_either_side() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let long = "y".repeat(500_000);
        for (mut client, host) in [(bed.client(), "shop"), (bed.caller("web"), "api.plt.local")] {
            client.send(format!("GET /ws HTTP/1.1\r\nHost: {host}\r\n{WISH}\r\nearly")).await;
            let mut wire = worker.accept().await;
            let head = wire.head().await;
            assert_eq!(
                (field(&head, "upgrade"), field(&head, "connection")),
                (Some("websocket"), Some("upgrade"))
            );
            wire.send(YES.to_owned() + "first").await;
            let head = client.head().await;
            assert_eq!((status(&head), field(&head, "upgrade")), (101, Some("websocket")));
            assert_eq!(client.take(5).await, "first");
            assert_eq!(wire.take(5).await, "early");
            for _ in 0..3 {
                client.send("ping").await;
                assert_eq!(wire.take(4).await, "ping");
                wire.send("pong").await;
                assert_eq!(client.take(4).await, "pong");
            }
            let (_, got) = tokio::join!(client.send(&long), wire.take(long.len()));
            assert!(got == long);
            assert_eq!(bed.thread.in_flight(1), 1, "a tunnel counts as in flight");
            client.end().await;
            assert_eq!(wire.rest().await, "", "one direction ended");
            wire.send("last words").await;
            drop(wire);
            assert_eq!(client.rest().await, "last words", "the other one went on");
            until("it is over", || bed.thread.in_flight(1) == 0).await;
        }
    });
}

#[test]
fn a_worker_that_declines_answers_as_usual() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask(format!("GET /ws HTTP/1.1\r\nHost: shop\r\n{WISH}\r\n{GET}")).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 426 Upgrade Required\r\nContent-Length: 2\r\n\r\nno").await;
        assert_eq!(client.response().await, (426, "no".into()));
        wire.head().await;
        wire.send(OK).await;
        assert_eq!(client.response().await, (200, "ok".into()), "what followed was a request");
    });
}

#[test]
fn tunnels_outlive_a_change_of_the_table_and_a_shutdown() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut client = bed.ask(format!("GET /ws HTTP/1.1\r\nHost: shop\r\n{WISH}\r\n")).await;
        let mut wire = worker.asked().await;
        wire.send(YES).await;
        client.head().await;
        bed.change(|snapshot| snapshot.services.clear());
        bed.thread.shut_down();
        client.send("still").await;
        assert_eq!(wire.take(5).await, "still");
        drop(client);
        assert_eq!(wire.rest().await, "");
        drop(wire);
        bed.thread.connections_ended().await;
    });
}

#[test]
fn no_upgrade_without_both_fields() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        for wish in [
            "Upgrade: websocket\r\n",
            "Connection: upgrade\r\n",
            "Connection: upgrade\r\nUpgrade: a\x0bb\r\n",
        ] {
            let mut client = bed.ask(format!("GET /ws HTTP/1.1\r\nHost: shop\r\n{wish}\r\n")).await;
            if wish.contains('\x0b') {
                assert_eq!(client.failure().await.0, 400);
                continue;
            }
            let mut wire = worker.accept().await;
            assert_eq!(field(&wire.head().await, "upgrade"), None);
            wire.send(YES).await;
            assert_eq!(client.failure().await, (502, "bad_response".into()));
        }
    });
}
