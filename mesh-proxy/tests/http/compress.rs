//! Responses that get smaller on their way.

use std::{cell::Cell, io::Read, rc::Rc};

use tokio::task::{spawn_local, yield_now};
use watt_api::mesh::{Believed, Cache, CacheLimits, Compress, Route};

use crate::bed::*;

fn bed() -> (Bed, MockWorker) {
    let (bed, worker) = Bed::with_worker();
    bed.change(|snapshot| {
        let compress = Compress {
            codings: ["br", "zstd", "gzip"].map(str::to_owned).into(),
            types: ["text/*", "application/json", "*+json"].map(str::to_owned).into(),
            len_min: 100,
        };
        snapshot.routes =
            vec![Route { compress: Some(compress), ..route("/", "api", None) }, route("/plain", "api", None)];
    });
    (bed, worker)
}

const TEXT: &str = "Content-Type: text/plain\r\n";

fn get(method: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: shop\r\n{fields}\r\n")
}

fn decoded(coding: &str, body: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    match coding {
        "gzip" => flate2::read::GzDecoder::new(body).read_to_end(&mut text),
        "br" => brotli::Decompressor::new(body, 4096).read_to_end(&mut text),
        "zstd" => zstd::stream::read::Decoder::new(body).unwrap().read_to_end(&mut text),
        other => panic!("{other}"),
    }
    .unwrap();
    text
}

/// The data of the next chunk; nothing at the end.
async fn chunk(client: &mut Wire) -> Vec<u8> {
    let mut size = String::new();
    while !size.ends_with("\r\n") {
        size += &client.take(1).await;
    }
    let len = usize::from_str_radix(size.trim_end(), 16).unwrap();
    let data = client.take_bytes(len).await;
    assert_eq!(client.take(2).await, "\r\n");
    data
}

async fn chunks(client: &mut Wire) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let data = chunk(client).await;
        if data.is_empty() {
            return body;
        }
        body.extend(data);
    }
}

#[test]
fn in_what_a_client_takes_whatever_the_framing() {
    local(async {
        let (bed, worker) = bed();
        let text = "All happy families are alike. ".repeat(3_000);
        let len = text.len();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\n";
        let by_length = format!("{head}Content-Length: {len}\r\n\r\n{text}");
        let by_chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n{len:x}\r\n{text}\r\n0\r\n\r\n");
        let until_close = format!("{head}\r\n{text}");
        for (accepts, coding) in [("gzip", "gzip"), ("gzip, zstd", "zstd"), ("gzip;q=1, br;q=0.1", "br")] {
            for response in [&by_length, &by_chunks, &until_close] {
                let mut client = bed.ask(get("GET", "/", &format!("Accept-Encoding: {accepts}\r\n"))).await;
                let mut wire = worker.asked().await;
                let send = async {
                    wire.send(response).await;
                    drop(wire);
                };
                let take = async {
                    let head = client.head().await;
                    let body = chunks(&mut client).await;
                    (head, body)
                };
                let ((), (head, body)) = tokio::join!(send, take);
                assert_eq!(field(&head, "content-encoding"), Some(coding), "{head}");
                assert_eq!(field(&head, "vary"), Some("Accept-Encoding"));
                assert_eq!(field(&head, "etag"), Some("W/\"a\""));
                assert_eq!(field(&head, "transfer-encoding"), Some("chunked"));
                assert_eq!((field(&head, "content-length"), field(&head, "accept-ranges")), (None, None));
                assert!(body.len() * 20 < len, "{} of {len}", body.len());
                assert!(decoded(coding, &body) == text.as_bytes(), "{coding}");
            }
        }
        assert_eq!(bed.thread.counts()["api"].failures, 0);
    });
}

/// Someone reads a log as it is written.
#[test]
fn what_is_sent_now_and_then_is_heard_now_and_then() {
    local(async {
        for coding in ["gzip", "br", "zstd"] {
            let (bed, worker) = bed();
            let mut client = bed.ask(get("GET", "/", &format!("Accept-Encoding: {coding}\r\n"))).await;
            let mut wire = worker.asked().await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await;
            client.head().await;
            let mut body = Vec::new();
            for _ in 0..3 {
                wire.send("5\r\nhello\r\n").await;
                // It comes before anything else is sent.
                body.extend(chunk(&mut client).await);
            }
            wire.send("0\r\n\r\n").await;
            body.extend(chunks(&mut client).await);
            assert_eq!(decoded(coding, &body), b"hellohellohello", "{coding}");
        }
    });
}

#[test]
fn what_must_not_be_touched_is_not() {
    local(async {
        let (bed, worker) = bed();
        let body = "x".repeat(200);
        let all = "Accept-Encoding: gzip, br\r\n";
        let plain = TEXT;
        for (request, status, fields, len) in [
            (get("GET", "/", ""), "200 OK", plain, 200),
            (get("GET", "/", "Accept-Encoding: identity\r\n"), "200 OK", plain, 200),
            (get("GET", "/plain", all), "200 OK", plain, 200),
            (get("GET", "/", &format!("{all}Cache-Control: no-transform\r\n")), "200 OK", plain, 200),
            (get("GET", "/", all), "200 OK", plain, 99),
            (get("GET", "/", all), "200 OK", "", 200),
            (get("GET", "/", all), "200 OK", "Content-Type: image/png\r\n", 200),
            (get("GET", "/", all), "200 OK", "Content-Type: text/event-stream\r\n", 200),
            (get("GET", "/", all), "200 OK", "Content-Type: application/grpc+json\r\n", 200),
            (get("GET", "/", all), "200 OK", "Content-Type: text/plain\r\nContent-Encoding: gzip\r\n", 200),
            (
                get("GET", "/", all),
                "200 OK",
                "Content-Type: text/plain\r\nCache-Control: max-age=1, no-transform\r\n",
                200,
            ),
            (get("GET", "/", all), "200 OK", "Content-Type: text/plain\r\nContent-Digest: x\r\n", 200),
            (
                get("GET", "/", all),
                "206 Partial Content",
                "Content-Type: text/plain\r\nContent-Range: bytes 0-199/900\r\n",
                200,
            ),
        ] {
            let mut client = bed.ask(&request).await;
            let mut wire = worker.asked().await;
            wire.send(format!(
                "HTTP/1.1 {status}\r\n{fields}ETag: \"a\"\r\nContent-Length: {len}\r\n\r\n{}",
                &body[..len]
            ))
            .await;
            drop(wire);
            let head = client.head().await;
            assert_eq!(field(&head, "etag"), Some("\"a\""), "{request}{fields}: {head}");
            assert_eq!(client.rest_of(&head).await, body[..len], "{request}{fields}");
        }
    });
}

#[test]
fn an_answer_to_head_says_what_one_to_get_would() {
    local(async {
        let (bed, worker) = bed();
        let mut client = bed.client();
        client.send(get("HEAD", "/", "Accept-Encoding: br\r\n")).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Type: application/ld+json\r\nContent-Length: 500\r\n\r\n")
            .await;
        let head = client.head().await;
        assert_eq!(field(&head, "content-encoding"), Some("br"), "{head}");
        assert_eq!((field(&head, "content-length"), field(&head, "vary")), (None, Some("Accept-Encoding")));
        // The connection is as good as before.
        client.send(get("GET", "/plain", "")).await;
        wire.head().await;
        wire.send(OK).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
    });
}

/// What is stored is what the service sent, and each client gets it as it takes it.
#[test]
fn what_is_stored_is_sent_to_each_client_as_it_takes_it() {
    local(async {
        let (bed, worker) = bed();
        bed.change(|snapshot| {
            snapshot.cache = Some(CacheLimits { bytes_max: 1 << 20, entries_max: 100 });
            let rules =
                Cache { head: true, entry_max: 1 << 20, believes: Believed::Nobody, ..Cache::default() };
            snapshot.services.get_mut("api").unwrap().cache = Some(Box::new(rules));
        });
        let text = "All happy families are alike. ".repeat(2_000);
        let len = text.len();
        let mut client = bed.ask(get("GET", "/", "Accept-Encoding: br\r\n")).await;
        let mut wire = worker.asked().await;
        let send = async {
            let head = format!("{TEXT}Cache-Control: max-age=60\r\nETag: \"a\"\r\nContent-Length: {len}\r\n");
            wire.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n{text}")).await;
        };
        let take = async {
            let head = client.head().await;
            assert_eq!(field(&head, "content-encoding"), Some("br"), "{head}");
            chunks(&mut client).await
        };
        let ((), body) = tokio::join!(send, take);
        assert!(decoded("br", &body) == text.as_bytes());
        // No worker is asked again.
        for coding in ["gzip", "br", "zstd"] {
            for method in ["GET", "HEAD"] {
                client.send(get(method, "/", &format!("Accept-Encoding: {coding}\r\n"))).await;
                let head = client.head().await;
                assert_eq!((status(&head), field(&head, "content-encoding")), (200, Some(coding)), "{head}");
                assert_eq!(
                    (field(&head, "etag"), field(&head, "content-length")),
                    (Some("W/\"a\""), None),
                    "{head}"
                );
                if method == "GET" {
                    let body = chunks(&mut client).await;
                    assert!(decoded(coding, &body) == text.as_bytes(), "{coding}");
                }
            }
        }
        client.send(get("GET", "/", "")).await;
        let head = client.head().await;
        assert_eq!((field(&head, "content-encoding"), field(&head, "etag")), (None, Some("\"a\"")), "{head}");
        assert!(client.rest_of(&head).await == text);
        client.send(get("GET", "/", "Accept-Encoding: gzip\r\nRange: bytes=0-9\r\n")).await;
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "content-encoding")), (206, None), "{head}");
        assert_eq!(client.take(10).await, text[..10]);
        client.send(get("GET", "/", "Accept-Encoding: gzip\r\nIf-None-Match: W/\"a\"\r\n")).await;
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "etag")), (304, Some("W/\"a\"")), "{head}");
        assert_eq!(bed.thread.counts()["api"].requests, 1);
    });
}

/// A copy with a tag that is weak is one that was compressed, and what is said of it is said of that.
#[test]
fn what_has_not_changed_keeps_the_tag_that_the_client_has() {
    local(async {
        let (bed, worker) = bed();
        for (fields, tag) in [
            ("Accept-Encoding: gzip\r\nIf-None-Match: W/\"a\"\r\n", "W/\"a\""),
            ("Accept-Encoding: gzip\r\nIf-None-Match: \"a\"\r\n", "\"a\""),
            ("If-None-Match: W/\"a\"\r\n", "\"a\""),
        ] {
            let mut client = bed.ask(get("GET", "/", fields)).await;
            let mut wire = worker.asked().await;
            wire.send("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n").await;
            let head = client.head().await;
            assert_eq!((status(&head), field(&head, "etag")), (304, Some(tag)), "{fields}{head}");
        }
    });
}

/// One large response takes no thread for itself: between two pieces of it others have a turn.
#[test]
fn others_have_their_turns_while_much_is_compressed() {
    local(async {
        let (bed, worker) = bed();
        let len = 4 << 20;
        let turns = Rc::new(Cell::new(0));
        let mut client = bed.ask(get("GET", "/", "Accept-Encoding: zstd\r\n")).await;
        let mut wire = worker.asked().await;
        let counted = turns.clone();
        let counting = spawn_local(async move {
            loop {
                counted.set(counted.get() + 1);
                yield_now().await;
            }
        });
        let send = async {
            wire.send(format!("HTTP/1.1 200 OK\r\n{TEXT}Content-Length: {len}\r\n\r\n{}", "x".repeat(len)))
                .await;
        };
        let take = async {
            client.head().await;
            chunks(&mut client).await
        };
        let ((), body) = tokio::join!(send, take);
        counting.abort();
        assert_eq!(decoded("zstd", &body).len(), len);
        // One for each piece, but for some at the beginning; for each read there would be a few dozen.
        assert!(turns.get() >= len / (16 << 10), "{} turns", turns.get());
    });
}

/// More than a thread compresses at a time go on as they are.
#[test]
fn too_many_at_a_time_are_not_compressed() {
    local(async {
        let (bed, worker) = bed();
        let mut open = Vec::new();
        let begin = async || {
            let (mut client, served) = bed.client_at(gateway());
            client.send(get("GET", "/", "Accept-Encoding: gzip\r\n")).await;
            let mut wire = worker.asked().await;
            wire.send(format!("HTTP/1.1 200 OK\r\n{TEXT}Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")).await;
            let head = client.head().await;
            let coding = field(&head, "content-encoding").map(str::to_owned);
            (coding, served, (client, wire))
        };
        for _ in 0..32 {
            let begun = begin().await;
            assert_eq!(begun.0.as_deref(), Some("gzip"));
            open.push(begun);
        }
        assert_eq!(begin().await.0, None);
        for (_, served, ends) in open {
            drop(ends);
            served.await.unwrap();
        }
        assert_eq!(begin().await.0.as_deref(), Some("gzip"));
    });
}
