//! Ends of HTTP/2 connections: when the proxy retires, when nobody uses them, and when they are abused.

use std::time::Duration;

use h2::Reason;
use tokio::{io::AsyncReadExt, time::timeout};

use crate::{bed::*, h2_bed::*};

const CALM: Option<u32> = Some(0xb);

#[test]
fn a_proxy_that_retires_says_goaway_and_finishes_what_it_has() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let client = bed.h2().await;
        let (response, _) = client.ask(get("/"), true).await;
        let mut wire = worker.asked().await;
        bed.thread.retire();
        while client.is_open().await {
            tokio::task::yield_now().await;
        }
        assert_eq!(bed.thread.connections(), 1);
        wire.send(OK).await;
        assert_eq!(whole(response).await, (200, "ok".into()));
        bed.thread.connections_ended().await;
    });
}

#[test]
fn an_idle_connection_ends_with_the_proxy() {
    local(async {
        let bed = Bed::new();
        let client = bed.h2().await;
        // An answer shows that the connection is there.
        bed.change_api(|api| api.outlook = watt_api::mesh::Outlook::Stopped);
        assert_eq!(client.get("/").await.0, 503);
        bed.thread.shut_down();
        bed.thread.connections_ended().await;
        assert!(!client.is_open().await);
    });
}

#[test]
fn connections_without_a_request_end_after_a_while() {
    at_once(async {
        let bed = Bed::new();
        bed.change_api(|api| api.outlook = watt_api::mesh::Outlook::Stopped);
        let greeted = bed.h2().await;
        let mut mute = bed.client();
        mute.send(PREFACE).await;
        assert_eq!(greeted.get("/").await.0, 503);
        assert!(timeout(Duration::from_secs(60), bed.thread.connections_ended()).await.is_err());
        assert!(greeted.is_open().await);
        timeout(Duration::from_secs(60), bed.thread.connections_ended()).await.expect("they are still there");
    });
}

#[test]
fn streams_that_are_opened_and_taken_back_end_the_connection() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let _worker = worker.answer_unless(OK, std::rc::Rc::new(true.into()), Default::default());
        let cancel = |stream| frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
        let at_once = |time| {
            let stream = 2 * time + 1;
            [frame(HEADERS, 5, stream, GET_BLOCK), cancel(stream)].concat()
        };
        assert_eq!(Frames::new(&bed).await.flood(at_once, 100_000).await, CALM);
        // Once each of them is at the worker.
        let one_by_one = |time| match time % 2 {
            0 => frame(HEADERS, 5, time + 1, GET_BLOCK),
            _ => cancel(time),
        };
        let flood = Frames::new(&bed).await.flood(one_by_one, 1_000);
        assert_eq!(flood.await, CALM);
        until("all is over", || bed.thread.in_flight(1) == 0 && bed.thread.connections() == 0).await;
        let counted: u64 = bed.thread.refusals().map(|(_, count)| count).sum();
        assert!(counted > 0, "it is counted");
    });
}

#[test]
fn a_request_that_was_taken_back_at_once_reaches_no_worker() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let both = |stream| {
            let cancel = frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
            [frame(HEADERS, 5, stream, GET_BLOCK), cancel].concat()
        };
        let mut frames = Frames::new(&bed).await;
        // In one piece, as a client does that means harm, and then one in earnest, of `/last`.
        let mut all: Vec<u8> = (0..100).flat_map(|number| both(2 * number + 1)).collect();
        all.extend(frame(HEADERS, 5, 201, b"\x82\x44\x05/last\x86\x41\x04shop"));
        frames.send(all).await;
        let mut wire = worker.accept().await;
        let head = wire.head().await;
        assert!(head.starts_with("GET /last "), "{head}");
    });
}

#[test]
fn a_body_in_pieces_of_a_byte_waits_in_little_memory() {
    local(async {
        let bed = Bed::new();
        let mut frames = Frames::new(&bed).await;
        frames.send(frame(HEADERS, 4, 1, b"\x83\x84\x86\x41\x04shop")).await;
        // All that its window allows, while nobody takes it. With each piece kept by itself the connection would be ended.
        let count = 65_000;
        frames.send(frame(DATA, 0, 1, b"x").repeat(count)).await;
        frames.send([frame(DATA, 1, 1, b""), frame(PING, 0, 0, b"12345678")].concat()).await;
        frames.wait_for(PING).await;
        let mut wire = bed.worker("api", 1).asked().await;
        while !wire.input.ends_with(b"\r\n0\r\n\r\n") {
            assert_ne!(wire.stream.read_buf(&mut wire.input).await.unwrap(), 0);
        }
        let data = wire.input.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"x"));
        assert_eq!(data.map(|line| line.len() - 1).sum::<usize>(), count);
        assert_eq!(bed.thread.refusals().map(|(_, count)| count).sum::<u64>(), 0);
    });
}

#[test]
fn frames_that_lead_to_nothing_end_the_connection() {
    local(async {
        let bed = Bed::new();
        for (kind, payload) in [(PING, &b"12345678"[..]), (SETTINGS, b""), (0xfe, b"unknown")] {
            let bytes = move |_| frame(kind, 0, 0, payload).repeat(10);
            assert_eq!(Frames::new(&bed).await.flood(bytes, 10_000).await, CALM);
            until("it has ended", || bed.thread.connections() == 0).await;
        }
    });
}

#[test]
fn heads_without_an_end_end_the_connection() {
    local(async {
        let bed = Bed::new();
        // A head with no END_HEADERS and more and more of it, be it nothing or fields.
        for more in [&b""[..], &b"\x00\x01a\x01b".repeat(100)] {
            let bytes = |time| match time {
                0 => frame(HEADERS, 1, 1, GET_BLOCK),
                _ => frame(CONTINUATION, 0, 1, more),
            };
            Frames::new(&bed).await.flood(bytes, 100_000).await;
            until("it has ended", || bed.thread.connections() == 0).await;
        }
    });
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    local(async {
        let bed = Bed::new();
        let client = bed.h2().await;
        let mut request = get("/");
        for number in 0..30 {
            request = request.header(format!("x-{number}"), "x".repeat(3_000));
        }
        let (response, _) = client.ask(request, true).await;
        match response.await {
            Ok(response) => assert_eq!(response.status().as_u16(), 431),
            Err(error) => panic!("{error}"),
        }
    });
}

#[test]
fn there_are_no_more_streams_than_allowed() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let _worker = worker.answer_unless(OK, std::rc::Rc::new(true.into()), Default::default());
        let mut frames = Frames::new(&bed).await;
        let heads: Vec<u8> = (0..101).flat_map(|time| frame(HEADERS, 5, 2 * time + 1, GET_BLOCK)).collect();
        tokio::io::AsyncWriteExt::write_all(&mut frames.stream, &heads).await.unwrap();
        let refused = frame(RST_STREAM, 0, 201, &u32::from(Reason::REFUSED_STREAM).to_be_bytes());
        let mut read = Vec::new();
        while !read.windows(refused.len()).any(|window| window == refused) {
            assert_ne!(frames.stream.read_buf(&mut read).await.unwrap(), 0);
        }
        until("the others are at the worker", || bed.thread.in_flight(1) == 100).await;
    });
}

#[test]
fn much_in_earnest_is_no_flood() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let mut frames = Frames::new(&bed).await;
        frames.wait_for(WINDOW_UPDATE).await;
        // All that the windows allow, of all streams and in one piece: 4 MB before anybody can have looked at any of it.
        let upload = |stream: u32| {
            let post = b"\x83\x84\x86\x41\x04shop";
            let head = frame(HEADERS, 4, stream, post);
            let body = frame(DATA, 0, stream, &[b'x'; 16_000]).repeat(3);
            [head, body, frame(DATA, 1, stream, b"end")].concat()
        };
        let all: Vec<u8> = (0..80).flat_map(|number| upload(2 * number + 1)).collect();
        let sent = tokio::task::spawn_local(async move {
            tokio::io::AsyncWriteExt::write_all(&mut frames.stream, &all).await.unwrap();
            frames
        });
        let mut wires = Vec::new();
        for _ in 0..80 {
            wires.push(worker.asked().await);
        }
        for mut wire in wires {
            // Each frame is a chunk, with four digits or one of its size.
            for len in [16_000 + 8, 16_000 + 8, 16_000 + 8, 3 + 5, 5] {
                wire.take(len).await;
            }
        }
        let _frames = sent.await.unwrap();
        assert_eq!(bed.thread.refusals().map(|(_, count)| count).sum::<u64>(), 0);
    });
}

#[test]
fn responses_that_a_client_does_not_take_are_taken_back() {
    at_once(async {
        let long: &'static str = Box::leak(
            format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000))
                .into_boxed_str(),
        );
        for response in [OK, long] {
            let (bed, worker) = Bed::with_worker();
            let _worker = worker.answer(response);
            let mut client = bed.client();
            client.send(PREFACE).await;
            // No window at all.
            client.send(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0])).await;
            for time in 0..50 {
                client.send(frame(HEADERS, 5, 2 * time + 1, GET_BLOCK)).await;
            }
            until("all were answered", || bed.thread.counts()["api"].requests == 50).await;
            bed.thread.retire();
            let ended = timeout(Duration::from_secs(300), bed.thread.connections_ended()).await;
            assert!(ended.is_ok(), "it holds the proxy for ever");
            assert_eq!(bed.thread.in_flight(1), 0);
        }
    });
}

#[test]
fn a_client_that_reads_slowly_gets_the_ends_of_its_responses_from_a_proxy_that_retires() {
    at_once(async {
        const LEN: usize = 16_000;
        const COUNT: u32 = 60;
        let (bed, worker) = Bed::with_worker();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LEN}\r\n\r\n");
        let _worker = worker.answer(Box::leak((head + &"x".repeat(LEN)).into_boxed_str()));
        let mut client = bed.client();
        client.send(PREFACE).await;
        client.send(frame(SETTINGS, 0, 0, b"")).await;
        client.send(frame(WINDOW_UPDATE, 0, 0, &(1u32 << 24).to_be_bytes())).await;
        for time in 0..COUNT {
            client.send(frame(HEADERS, 5, 2 * time + 1, GET_BLOCK)).await;
        }
        let requests = || bed.thread.counts()["api"].requests;
        until("all were answered", || requests() == u64::from(COUNT) && bed.thread.in_flight(1) == 0).await;
        bed.thread.retire();
        tokio::time::sleep(Duration::from_secs(20)).await;
        let mut read = Vec::new();
        let mut ends = 0;
        while ends < COUNT {
            assert_ne!(client.stream.read_buf(&mut read).await.unwrap(), 0, "{ends} of {COUNT} came");
            ends = ends_of_bodies(&read);
        }
    });
}

/// How many of these frames are the last ones of bodies.
fn ends_of_bodies(mut frames: &[u8]) -> u32 {
    let mut ends = 0;
    while let Some((head, rest)) = frames.split_first_chunk::<9>() {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some(rest) = rest.get(len..) else { break };
        ends += u32::from(head[3] == DATA && head[4] & 1 == 1);
        frames = rest;
    }
    ends
}

#[test]
fn a_page_that_is_left_takes_back_all_that_it_asked_for() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let _worker = worker.answer_unless(OK, std::rc::Rc::new(true.into()), Default::default());
        let mut frames = Frames::new(&bed).await;
        let stream = |time: u32| {
            let cancel = frame(RST_STREAM, 0, 2 * time + 1, &8u32.to_be_bytes());
            [frame(HEADERS, 5, 2 * time + 1, GET_BLOCK), cancel].concat()
        };
        let mut all: Vec<u8> = (0..90).flat_map(stream).collect();
        all.extend_from_slice(&frame(PING, 0, 0, b"12345678"));
        tokio::io::AsyncWriteExt::write_all(&mut frames.stream, &all).await.unwrap();
        frames.wait_for(PING).await;
        assert_eq!(bed.thread.connections(), 1);
        assert_eq!(bed.thread.refusals().map(|(_, count)| count).sum::<u64>(), 0);
    });
}

#[test]
fn requests_that_are_taken_back_after_a_while_are_no_flood() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        let _worker = worker.answer_unless(OK, std::rc::Rc::new(true.into()), Default::default());
        let mut client = bed.client();
        client.send(PREFACE).await;
        client.send(frame(SETTINGS, 0, 0, b"")).await;
        let mut frames = Frames { stream: client.stream };
        for batch in 0..12 {
            let streams = || (0..50).map(|time| 100 * batch + 2 * time + 1);
            let heads: Vec<u8> = streams().flat_map(|stream| frame(HEADERS, 5, stream, GET_BLOCK)).collect();
            tokio::io::AsyncWriteExt::write_all(&mut frames.stream, &heads).await.unwrap();
            until("they are at the worker", || bed.thread.in_flight(1) == 50).await;
            // As when the client's own deadline is over.
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            let cancel = |stream| frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
            let cancels: Vec<u8> = streams().flat_map(cancel).collect();
            tokio::io::AsyncWriteExt::write_all(&mut frames.stream, &cancels).await.unwrap();
            until("nothing is in flight", || bed.thread.in_flight(1) == 0).await;
        }
        let ping = frame(PING, 0, 0, b"12345678");
        tokio::io::AsyncWriteExt::write_all(&mut frames.stream, &ping).await.unwrap();
        frames.wait_for(PING).await;
        assert_eq!(bed.thread.refusals().map(|(_, count)| count).sum::<u64>(), 0);
    });
}
