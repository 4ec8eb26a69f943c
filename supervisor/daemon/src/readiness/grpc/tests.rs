use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use h2::server::SendResponse;
use hyper::Response;
use proptest::prelude::*;
use tokio::io::{AsyncWriteExt, DuplexStream};

use super::*;

const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

/// Frames of RFC 9113 §4.1, with their type and flags.
const HEADERS: (u8, u8) = (1, 0);
const SETTINGS: (u8, u8) = (4, 0);
const PING: (u8, u8) = (6, 0);
const CONTINUATION: (u8, u8) = (9, 0);

fn asks(service: &str) -> Question {
    Question::new(&GrpcCheck { service: service.into(), authority: None }, "api.plt.local")
}

/// What is made of an answer with this message and these trailers.
async fn answered(
    service: &'static str,
    message: &'static [u8],
    trailers: &[(&str, &str)],
) -> Result<(), String> {
    let (near, far) = tokio::io::duplex(64 << 10);
    let trailers = headers(trailers);
    let server = respond(far, service, async move |mut response: SendResponse<Bytes>| {
        let mut body = response.send_response(Response::new(()), false).unwrap();
        body.send_data(Bytes::from_static(message), false).unwrap();
        body.send_trailers(trailers).unwrap();
    });
    let question = asks(service);
    let (answer, ()) = tokio::join!(question.ask(near), server);
    answer.unwrap().0
}

fn headers(fields: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        let name: hyper::header::HeaderName = name.parse().unwrap();
        (name, value.parse().unwrap())
    };
    fields.iter().map(field).collect()
}

/// A server that answers one call, and holds what is asked.
async fn respond(connection: DuplexStream, service: &str, answer: impl AsyncFnOnce(SendResponse<Bytes>)) {
    let mut server = h2::server::handshake(connection).await.unwrap();
    let (request, response) = server.accept().await.unwrap().unwrap();
    let (head, mut body) = request.into_parts();
    assert_eq!(head.method, "POST");
    assert_eq!(head.uri, "http://api.plt.local/grpc.health.v1.Health/Check");
    assert_eq!(
        (&head.headers["content-type"], &head.headers["te"]),
        (&"application/grpc".parse().unwrap(), &"trailers".parse().unwrap())
    );
    let mut message = Vec::new();
    let asked = async {
        while let Some(part) = body.data().await {
            message.extend(part.unwrap());
        }
    };
    tokio::select! {
        () = asked => {}
        _ = std::future::poll_fn(|context| server.poll_closed(context)) => {}
    }
    assert_eq!(message, question(service));
    answer(response).await;
    // Until the other side has gone.
    while server.accept().await.is_some_and(|next| next.is_ok()) {}
}

#[tokio::test]
async fn serving_is_good_and_nothing_else_is() {
    let ok = [("grpc-status", "0")];
    assert_eq!(answered("", SERVING, &ok).await, Ok(()));
    assert_eq!(answered("shop.Cart", SERVING, &ok).await, Ok(()));
    let fails = |text: &str| Err(text.to_owned());
    assert_eq!(answered("", &[0, 0, 0, 0, 2, 8, 2], &ok).await, fails("NOT_SERVING"));
    assert_eq!(answered("", &[0, 0, 0, 0, 2, 8, 3], &ok).await, fails("SERVICE_UNKNOWN"));
    assert_eq!(answered("", &[0, 0, 0, 0, 0], &ok).await, fails("UNKNOWN"));
    assert_eq!(answered("", &[0, 0, 0, 0, 3, 8, 0x90, 1], &ok).await, fails("status 144"));
    let none = "the answer is no HealthCheckResponse";
    assert_eq!(answered("", b"", &ok).await, fails(none), "no message");
    assert_eq!(answered("", &[1, 0, 0, 0, 2, 8, 1], &ok).await, fails(none), "compressed");
    assert_eq!(answered("", &[0, 0, 0, 0, 9, 8, 1], &ok).await, fails(none), "cut");
    let unimplemented = answered("", b"", &[("grpc-status", "12"), ("grpc-message", "x")]).await;
    assert_eq!(unimplemented, fails("UNIMPLEMENTED: the server has no grpc.health.v1.Health"));
    let unknown = answered("Cart", b"", &[("grpc-status", "5")]).await;
    assert_eq!(unknown, fails("NOT_FOUND: the server knows no service `Cart`"));
    let other = answered("", SERVING, &[("grpc-status", "14"), ("grpc-message", "full")]).await;
    assert_eq!(other, fails("gRPC status 14: full"), "its status counts, and not its message");
    assert_eq!(answered("", SERVING, &[]).await, fails("the answer has no gRPC status"));
}

/// As an answer without a message may come.
#[tokio::test]
async fn a_status_may_be_in_the_only_head() {
    let (near, far) = tokio::io::duplex(64 << 10);
    let server = respond(far, "", async |mut response: SendResponse<Bytes>| {
        let head = Response::builder().header("grpc-status", "12").body(()).unwrap();
        response.send_response(head, true).unwrap();
    });
    let question = asks("");
    let (answer, ()) = tokio::join!(question.ask(near), server);
    let fails = "UNIMPLEMENTED: the server has no grpc.health.v1.Health";
    assert_eq!(answer.unwrap().0, Err(fails.to_owned()));
}

#[tokio::test]
async fn a_proxy_s_page_is_no_answer() {
    let (near, far) = tokio::io::duplex(64 << 10);
    let server = respond(far, "", async |mut response: SendResponse<Bytes>| {
        response.send_response(Response::builder().status(404).body(()).unwrap(), true).unwrap();
    });
    let question = asks("");
    let (answer, ()) = tokio::join!(question.ask(near), server);
    assert_eq!(answer.unwrap().0, Err("HTTP status 404".to_owned()));
}

#[tokio::test]
async fn who_speaks_something_else_is_told_so() {
    for text in ["HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n"] {
        let (near, mut far) = tokio::io::duplex(64 << 10);
        far.write_all(text.as_bytes()).await.unwrap();
        let error = asks("").ask(near).await.unwrap_err();
        assert!(error.to_string().starts_with("the answer is not HTTP/2"), "{error}");
    }
    let (near, far) = tokio::io::duplex(64 << 10);
    drop(far);
    assert!(asks("").ask(near).await.is_err());
}

fn frame((kind, flags): (u8, u8), stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// How much a server can send that begins with this and then repeats that for ever.
async fn flooded(beginning: Vec<u8>, again: Vec<u8>) -> u64 {
    let (near, far) = tokio::io::duplex(64 << 10);
    let (mut asked, mut answers) = tokio::io::split(far);
    let swallow = tokio::spawn(async move { tokio::io::copy(&mut asked, &mut tokio::io::sink()).await });
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let flood = tokio::spawn(async move {
        answers.write_all(&frame(SETTINGS, 0, b"")).await?;
        answers.write_all(&beginning).await?;
        loop {
            answers.write_all(&again).await?;
            count.fetch_add(again.len() as u64, Ordering::Relaxed);
        }
        #[expect(unreachable_code, reason = "says of what type the errors are")]
        std::io::Result::Ok(())
    });
    let answer = asks("").ask(near).await;
    assert!(!matches!(answer, Ok((Ok(()), _))));
    drop(answer);
    assert!(flood.await.unwrap().is_err());
    drop(swallow);
    sent.load(Ordering::Relaxed)
}

/// However much comes, and of whatever kind.
#[tokio::test]
async fn a_flood_is_read_up_to_its_bound() {
    const BUFFERS: u64 = 192 << 10;
    let bound = READ_SIZE_MAX + BUFFERS;
    let pings = flooded(Vec::new(), frame(PING, 0, b"12345678").repeat(100)).await;
    assert!(pings < bound, "{pings} bytes of pings");
    // A literal field without an index, its name and value being `x`.
    let field = [0, 1, b'x', 1, b'x'].repeat(1000);
    let head = [&[0x88][..], &field].concat();
    let fields = flooded(frame(HEADERS, 1, &head), frame(CONTINUATION, 1, &field)).await;
    assert!(fields < bound, "{fields} bytes of headers");
    let end_headers = 4;
    let body = flooded(frame((1, end_headers), 1, &[0x88]), frame((0, 0), 1, &[0; 1000])).await;
    assert!(body < bound, "{body} bytes of a body");
}

proptest! {
    #[test]
    fn any_message_is_read_without_harm(body in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = status(&body);
        let framed = [&[0, 0, 0, 0, u8::try_from(body.len()).unwrap()][..], &body].concat();
        let _ = status(&framed);
    }

    #[test]
    fn a_name_is_asked_for_with_its_length(name in "[a-z.]{0,300}") {
        let whole = question(&name);
        let (prefix, mut message) = whole.split_at(PREFIX_LEN);
        prop_assert_eq!(u32::from_be_bytes(prefix[1..].try_into().unwrap()) as usize, message.len());
        if !name.is_empty() {
            prop_assert_eq!(varint(&mut message), Some(10));
            prop_assert_eq!(varint(&mut message), Some(name.len() as u64));
        }
        prop_assert_eq!(message, name.as_bytes());
    }
}
