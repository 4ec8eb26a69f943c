//! WebSockets when their worker is replaced: told to come back, at a place where a frame may stand, and given time to answer.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use watt_api::mesh::WorkerState;

use crate::bed::*;

const WISH: &str = "GET /ws/1 HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n";
const YES: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";

/// `hello`, as a worker sends it.
const HELLO: &[u8] = b"\x81\x05hello";
/// A Close with 1012, and the same as a client answers it.
const RESTARTS: &[u8] = b"\x88\x11\x03\xf4service restart";
const ANSWER: &[u8] = b"\x88\x82\x00\x00\x00\x00\x03\xf4";

/// A WebSocket that is open, with its client's and its worker's end.
async fn open(bed: &Bed, worker: &MockWorker) -> (Wire, Wire) {
    let mut client = bed.ask(WISH).await;
    let mut wire = worker.asked().await;
    wire.send(YES).await;
    assert_eq!(status(&client.head().await), 101);
    (client, wire)
}

/// Has the worker drain for so long.
fn drain(bed: &Bed, ms: u64) {
    bed.change_api(|api| {
        api.workers[0].state = WorkerState::Draining;
        api.workers[0].drain_ms = Some(ms);
    });
}

async fn expect(wire: &mut Wire, bytes: &[u8]) {
    let mut got = vec![0; bytes.len()];
    wire.stream.read_exact(&mut got).await.unwrap();
    assert_eq!(got, bytes);
}

async fn expect_end(wire: &mut Wire) {
    assert_eq!(wire.stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "more came");
}

async fn send(wire: &mut Wire, bytes: &[u8]) {
    wire.stream.write_all(bytes).await.unwrap();
}

#[test]
fn a_client_is_told_to_come_back_and_the_worker_hears_its_answer() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        let (mut client, mut wire) = open(&bed, &worker).await;
        drain(&bed, 5_000);
        send(&mut wire, HELLO).await;
        expect(&mut client, HELLO).await;
        let begun = tokio::time::Instant::now();
        expect(&mut client, RESTARTS).await;
        let waited = begun.elapsed();
        assert!(
            waited >= Duration::from_millis(3_400) && waited < Duration::from_millis(4_000),
            "{waited:?}"
        );
        // Nothing may follow a Close.
        send(&mut wire, HELLO).await;
        send(&mut client, ANSWER).await;
        expect(&mut wire, ANSWER).await;
        expect_end(&mut client).await;
        expect_end(&mut wire).await;
        drop(wire);
        until("it is over", || bed.thread.in_flight(1) == 0).await;
        assert!(bed.lost().is_empty());
    });
}

#[test]
fn a_close_does_not_come_within_a_frame() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        let (mut client, mut wire) = open(&bed, &worker).await;
        let long: Vec<u8> = [&[0x82, 126, 0x03, 0xe8][..], &[7; 1000]].concat();
        send(&mut wire, &long[..500]).await;
        expect(&mut client, &long[..500]).await;
        drain(&bed, 0);
        // The next one does not go on any more.
        send(&mut wire, &[&long[500..], HELLO].concat()).await;
        expect(&mut client, &long[500..]).await;
        expect(&mut client, RESTARTS).await;
        send(&mut client, ANSWER).await;
        expect(&mut wire, ANSWER).await;
        expect_end(&mut client).await;
    });
}

#[test]
fn a_client_that_does_not_answer_is_cut_off_and_the_worker_is_told() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        let (mut client, mut wire) = open(&bed, &worker).await;
        drain(&bed, 0);
        expect(&mut client, RESTARTS).await;
        let mut close = [0; 8];
        wire.stream.read_exact(&mut close).await.unwrap();
        assert_eq!(close[..2], [0x88, 0x82]);
        let code = [close[6] ^ close[2], close[7] ^ close[3]];
        assert_eq!(u16::from_be_bytes(code), 1012);
        expect_end(&mut client).await;
        expect_end(&mut wire).await;
        until("it is over", || bed.thread.in_flight(1) == 0).await;
    });
}

#[test]
fn a_client_in_the_middle_of_a_frame_keeps_the_worker_from_a_close_of_ours() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        let (mut client, mut wire) = open(&bed, &worker).await;
        send(&mut client, b"\x81\x85\x00\x00\x00\x00he").await;
        expect(&mut wire, b"\x81\x85\x00\x00\x00\x00he").await;
        drain(&bed, 0);
        expect(&mut client, RESTARTS).await;
        expect_end(&mut wire).await;
    });
}

#[test]
fn a_worker_that_goes_while_it_drains_does_not_go_without_a_word_to_its_clients() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        let (mut client, mut wire) = open(&bed, &worker).await;
        drain(&bed, 60_000);
        send(&mut wire, HELLO).await;
        drop(wire);
        expect(&mut client, HELLO).await;
        expect(&mut client, RESTARTS).await;
        send(&mut client, ANSWER).await;
        expect_end(&mut client).await;
        assert!(bed.lost().is_empty());
    });
}

#[test]
fn a_worker_that_closes_by_itself_is_not_corrected() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        let (mut client, mut wire) = open(&bed, &worker).await;
        drain(&bed, 60_000);
        let own = b"\x88\x02\x03\xe9";
        send(&mut wire, own).await;
        expect(&mut client, own).await;
        send(&mut client, ANSWER).await;
        expect(&mut wire, ANSWER).await;
        drop(wire);
        expect_end(&mut client).await;
        assert!(bed.lost().is_empty());
    });
}

#[test]
fn a_worker_that_dies_is_named_and_one_whose_client_leaves_is_not() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let (mut client, wire) = open(&bed, &worker).await;
        drop(wire);
        expect_end(&mut client).await;
        drop(client);
        until("it is over", || bed.thread.in_flight(1) == 0).await;
        assert_eq!(bed.lost(), ["GET /ws/1 of api at run 1"]);
        let (client, mut wire) = open(&bed, &worker).await;
        drop(client);
        expect_end(&mut wire).await;
        drop(wire);
        until("it is over", || bed.thread.in_flight(1) == 0).await;
        assert_eq!(bed.lost().len(), 1);
    });
}

#[test]
fn other_protocols_are_left_alone() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        let wish = WISH.replace("WebSocket", "irc");
        let mut client = bed.ask(wish).await;
        let mut wire = worker.asked().await;
        wire.send(YES.replace("websocket", "irc")).await;
        client.head().await;
        drain(&bed, 0);
        tokio::time::sleep(Duration::from_secs(5)).await;
        send(&mut wire, b"still").await;
        expect(&mut client, b"still").await;
    });
}
