//! Bytes from nowhere: the proxy never panics, never hangs, and serves the next client.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::bed::*;

/// Pieces that parsers stumble over.
const PIECES: [&[u8]; 27] = [
    b"GET / HTTP/1.1\r\n",
    b"POST /x HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\n",
    b"Host: shop\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 99999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: upgrade\r\n",
    b"Connection: close\r\n",
    b"Connection: a,b,,c\r\n",
    b"Upgrade: websocket\r\n",
    b"Expect: 100-continue\r\n",
    b"traceparent: 00-\r\n",
    b"Forwarded: for=x\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"\0",
    b"\xff\xfe",
    b":",
    b" ",
];

fn nonsense(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..random.usize(1..16) {
        bytes.extend_from_slice(PIECES[random.usize(..PIECES.len())]);
    }
    if random.u8(..4) == 0 {
        let at = random.usize(..bytes.len());
        bytes[at] = random.u8(..);
    }
    bytes
}

/// Sends nonsense in pieces, ends its direction, and reads what comes.
async fn talk(wire: &mut Wire, random: &mut fastrand::Rng) {
    let bytes = nonsense(random);
    for piece in bytes.chunks(random.usize(1..64)) {
        if wire.stream.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    let _ = wire.stream.shutdown().await;
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(10), wire.stream.read_to_end(&mut rest))
        .await
        .expect("the proxy lets go of a peer that has ended");
}

#[test]
fn nonsense_from_clients_and_workers() {
    // A failure names the seed to run again.
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    local(async {
        let bed = Bed::new();
        bed.change_api(|api| {
            (api.idle_timeout_ms, api.first_byte_timeout_ms, api.hold_timeout_ms) = (100, 100, 100);
        });
        let worker = bed.worker("api", 1);
        tokio::task::spawn_local(async move {
            let mut random = fastrand::Rng::with_seed(seed ^ 1);
            loop {
                let mut wire = worker.accept().await;
                let mut random = random.fork();
                tokio::task::spawn_local(async move { talk(&mut wire, &mut random).await });
            }
        });
        let mut random = fastrand::Rng::with_seed(seed);
        let mut served = Vec::new();
        for number in 0..400 {
            let side =
                if number % 2 == 0 { gateway() } else { watt_mesh_proxy::http::Side::Mesh { caller: None } };
            let (mut wire, task) = bed.client_at(side);
            let mut random = random.fork();
            served.push(tokio::task::spawn_local(async move {
                if random.bool() {
                    // A request that reaches the worker, so that its nonsense is read.
                    wire.send(if number % 2 == 0 {
                        GET
                    } else {
                        "GET / HTTP/1.1\r\nHost: api.plt.local\r\n\r\n"
                    })
                    .await;
                }
                talk(&mut wire, &mut random).await;
                drop(wire);
                task.await.expect("no panic");
            }));
        }
        for task in served {
            task.await.unwrap();
        }
        assert_eq!(bed.thread.connections(), 0);
        assert_eq!((bed.thread.in_flight(1), bed.thread.counts()["api"].held), (0, 0));
    });
}
