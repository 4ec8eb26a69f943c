//! Clients and workers that speak HTTP/2, by the `h2` crate or frame by frame.

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
    server,
};
use http::{HeaderMap, Request, Response, request::Builder};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::{JoinHandle, spawn_local},
};
use watt_api::mesh::Protocol;
use watt_mesh_proxy::http::Stream;

use crate::bed::*;

impl Bed {
    /// `api` has one worker, which speaks HTTP/2.
    pub(crate) fn with_h2_worker() -> (Bed, MockWorker) {
        let (bed, worker) = Bed::with_worker();
        bed.change_api(|api| api.protocol = Protocol::H2c);
        (bed, worker)
    }

    /// A client of the gateway that speaks HTTP/2.
    pub(crate) async fn h2(&self) -> H2 {
        H2::new(self.client().stream).await
    }
}

/// A client's connection.
#[derive(Clone)]
pub(crate) struct H2 {
    send: SendRequest<Bytes>,
}

pub(crate) type Asked = (ResponseFuture, SendStream<Bytes>);

impl H2 {
    pub(crate) async fn new(stream: Stream) -> H2 {
        H2::with(stream, &mut h2::client::Builder::new()).await
    }

    pub(crate) async fn with(stream: Stream, builder: &mut h2::client::Builder) -> H2 {
        let (send, connection) = builder.handshake(stream).await.unwrap();
        spawn_local(connection);
        H2 { send }
    }

    /// Sends a head.
    pub(crate) async fn ask(&self, request: Builder, ended: bool) -> Asked {
        let mut send = self.send.clone().ready().await.unwrap();
        send.send_request(request.body(()).unwrap(), ended).unwrap()
    }

    /// Whether another protocol may be asked for.
    pub(crate) fn may_connect(&self) -> bool {
        self.send.is_extended_connect_protocol_enabled()
    }

    /// Whether the proxy still takes requests here.
    pub(crate) async fn is_open(&self) -> bool {
        self.send.clone().ready().await.is_ok()
    }

    /// Asks without a body, and reads all of the response.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let (response, _) = self.ask(get(path), true).await;
        whole(response).await
    }
}

pub(crate) fn get(path: &str) -> Builder {
    Request::get(format!("http://shop{path}"))
}

pub(crate) fn post(path: &str) -> Builder {
    Request::post(format!("http://shop{path}"))
}

/// A response's status and body.
pub(crate) async fn whole(response: ResponseFuture) -> (u16, String) {
    let response = response.await.unwrap();
    let status = response.status().as_u16();
    (status, body(&mut response.into_body()).await.0)
}

/// A body and its trailers, to the end.
pub(crate) async fn body(from: &mut RecvStream) -> (String, Option<HeaderMap>) {
    let mut read = Vec::new();
    while let Some(data) = from.data().await {
        let data = data.unwrap();
        from.flow_control().release_capacity(data.len()).unwrap();
        read.extend_from_slice(&data);
    }
    (String::from_utf8(read).unwrap(), from.trailers().await.unwrap())
}

/// Waits for room in a request's windows.
pub(crate) async fn room(send: &mut SendStream<Bytes>) -> usize {
    send.reserve_capacity(16 << 10);
    while send.capacity() == 0 {
        std::future::poll_fn(|cx| send.poll_capacity(cx)).await.unwrap().unwrap();
    }
    send.capacity()
}

/// The next `len` bytes of a body.
pub(crate) async fn take(from: &mut RecvStream, len: usize) -> String {
    let mut read = Vec::new();
    while read.len() < len {
        let data = from.data().await.expect("more").unwrap();
        from.flow_control().release_capacity(data.len()).unwrap();
        read.extend_from_slice(&data);
    }
    assert_eq!(read.len(), len);
    String::from_utf8(read).unwrap()
}

pub(crate) fn trailers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

/// A connection of the proxy to a worker.
pub(crate) struct H2Worker {
    connection: server::Connection<Stream, Bytes>,
}

/// A request that a worker got.
pub(crate) struct Got {
    pub(crate) request: Request<RecvStream>,
    pub(crate) respond: server::SendResponse<Bytes>,
}

impl H2Worker {
    pub(crate) async fn accept(worker: &MockWorker) -> H2Worker {
        H2Worker::accept_with(worker, &server::Builder::new()).await
    }

    pub(crate) async fn accept_with(worker: &MockWorker, builder: &server::Builder) -> H2Worker {
        let stream = worker.accept().await.stream;
        H2Worker { connection: builder.handshake(stream).await.unwrap() }
    }

    /// The next request. `None` at the end of the connection.
    pub(crate) async fn next(&mut self) -> Option<Got> {
        let (request, respond) = self.connection.accept().await?.ok()?;
        Some(Got { request, respond })
    }

    pub(crate) fn say_goaway(&mut self) {
        self.connection.graceful_shutdown();
    }

    /// Goes on with the connection; its requests are `got`.
    pub(crate) fn drive(mut self, mut got: impl FnMut(Got) + 'static) -> JoinHandle<()> {
        spawn_local(async move {
            while let Some(next) = self.next().await {
                got(next);
            }
        })
    }
}

impl Got {
    /// Answers with a short body.
    pub(crate) fn answer(&mut self, status: u16, body: &'static str) {
        let response = Response::builder().status(status).body(()).unwrap();
        let mut send = self.respond.send_response(response, body.is_empty()).unwrap();
        if !body.is_empty() {
            send.send_data(Bytes::from_static(body.as_bytes()), true).unwrap();
        }
    }
}

/// Frames by hand (RFC 9113 §4.1), for what no client would do that means well.
pub(crate) struct Frames {
    pub(crate) stream: Stream,
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// `GET / http` of `shop`, by the static table and one literal (RFC 7541).
pub(crate) const GET_BLOCK: &[u8] = b"\x82\x84\x86\x41\x04shop";

impl Frames {
    /// A connection on which both ends have said what they begin with.
    pub(crate) async fn new(bed: &Bed) -> Frames {
        let mut stream = bed.client().stream;
        stream.write_all(PREFACE.as_bytes()).await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, b"")).await.unwrap();
        Frames { stream }
    }

    /// Sends this.
    pub(crate) async fn send(&mut self, bytes: Vec<u8>) {
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// Reads up to a frame of this kind.
    pub(crate) async fn wait_for(&mut self, kind: u8) {
        loop {
            let mut head = [0; 9];
            self.stream.read_exact(&mut head).await.unwrap();
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            self.stream.read_exact(&mut vec![0; len]).await.unwrap();
            if head[3] == kind {
                return;
            }
        }
    }

    /// Sends this again and again until the proxy ends the connection. The reason that it gave, if that came through.
    pub(crate) async fn flood(self, mut bytes: impl FnMut(u32) -> Vec<u8>, times: u32) -> Option<u32> {
        let (mut from, mut to) = tokio::io::split(self.stream);
        let write = async {
            for time in 0..times {
                if to.write_all(&bytes(time)).await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        };
        let read = async {
            let mut read = Vec::new();
            while let Ok(1..) = from.read_buf(&mut read).await {}
            reason_of_goaway(&read)
        };
        tokio::join!(write, read).1
    }
}

/// The reason of the last GOAWAY among these frames.
pub(crate) fn reason_of_goaway(mut frames: &[u8]) -> Option<u32> {
    let mut reason = None;
    while let Some((head, rest)) = frames.split_first_chunk::<9>() {
        let len = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some(payload) = rest.get(..len) else { break };
        if head[3] == GOAWAY {
            reason = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
        frames = &rest[len..];
    }
    reason
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&len[1..], &[kind, flags], &stream.to_be_bytes()[..]].concat();
    [&head[..], payload].concat()
}
