//! The least of gRPC that a probe needs: one call of `grpc.health.v1.Health/Check` over HTTP/2 without TLS, as
//! <https://github.com/grpc/grpc/blob/master/doc/health-checking.md> has it. The two messages are so small that they are written and read
//! here.
//!
//! What a service answers is not trusted: of each connection so many bytes are read, and no more of its headers, its window and
//! its message than here is room for.

use std::{io, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use h2::{
    RecvStream,
    client::{Builder, SendRequest},
};
use hyper::{HeaderMap, Request, StatusCode};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time,
};
use watt_core::plan::GrpcCheck;

use crate::runs::Task;

/// The method.
const PATH: &str = "/grpc.health.v1.Health/Check";

/// How much of a connection is read. An answer takes some hundred bytes.
const READ_SIZE_MAX: u64 = 256 << 10;

/// How much of an answer's headers is kept, as the protocol counts.
const HEADERS_SIZE_MAX: u32 = 16 << 10;

/// How much of an answer's body is taken: of its message no more is looked at.
const BODY_SIZE_MAX: usize = 4 << 10;

/// What comes before a message: whether it is compressed, and its length.
const PREFIX_LEN: usize = 5;

/// How long the connection may take to say goodbye.
const END_TIME_MAX: Duration = Duration::from_secs(1);

/// The longest text of a server's own, in characters.
const TEXT_LEN_MAX: usize = 200;

/// A call, and what has to come back.
pub(super) struct Question {
    service: String,
    authority: String,
}

impl Question {
    /// What a plan's check asks. `host` is the service's name, unless the check has another one.
    pub(super) fn new(check: &GrpcCheck, host: &str) -> Question {
        let authority = check.authority.clone().unwrap_or_else(|| host.to_owned());
        Question { service: check.service.clone(), authority }
    }

    /// Which service of the server is asked about; none is the server.
    pub(super) fn service(&self) -> &str {
        &self.service
    }

    /// Asks, and says what is wrong with the answer. What is left of the connection ends by itself.
    ///
    /// # Errors
    /// Those of the connection; InvalidData for anything that is not HTTP/2, UnexpectedEof for an answer that ends early.
    pub(super) async fn ask<C>(&self, connection: C) -> io::Result<(Result<(), String>, Option<Task>)>
    where
        C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (read, write) = tokio::io::split(connection);
        let bounded = tokio::io::join(read.take(READ_SIZE_MAX), write);
        let (sender, connection) = Builder::new()
            .enable_push(false)
            .max_header_list_size(HEADERS_SIZE_MAX)
            .max_concurrent_streams(1)
            .max_concurrent_reset_streams(1)
            .handshake(bounded)
            .await
            .map_err(io_error)?;
        // It ends when the call has, or with this task.
        let mut driver = Task(tokio::spawn(async move {
            // Errors are told to the call.
            let _ = connection.await;
        }));
        let answer = self.call(sender).await.map_err(io_error)?;
        let rest = Task(tokio::spawn(async move {
            let _ = time::timeout(END_TIME_MAX, &mut driver.0).await;
        }));
        Ok((answer, Some(rest)))
    }

    async fn call(&self, sender: SendRequest<Bytes>) -> Result<Result<(), String>, h2::Error> {
        let mut sender = sender.ready().await?;
        let request = Request::post(format!("http://{}{PATH}", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("user-agent", "watt")
            .body(());
        let Ok(request) = request else { return Ok(Err(format!("no authority: {}", self.authority))) };
        let (response, mut body) = sender.send_request(request, false)?;
        body.send_data(question(&self.service), true)?;
        let (head, mut body) = response.await?.into_parts();
        if head.status != StatusCode::OK {
            return Ok(Err(format!("HTTP status {}", head.status.as_u16())));
        }
        let message = read(&mut body).await?;
        // An answer without a message has its status in its only head.
        let trailers = match head.headers.contains_key("grpc-status") {
            true => Some(head.headers),
            false => body.trailers().await?,
        };
        Ok(judge(&message, trailers.as_ref(), &self.service))
    }
}

/// The beginning of an answer's body.
async fn read(body: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut message = Vec::new();
    while let Some(part) = body.data().await {
        let part = part?;
        let room = BODY_SIZE_MAX - message.len();
        message.extend(part.iter().take(room));
        // What there is no room for is read as well, up to the bound of the connection: the trailers come after it.
        body.flow_control().release_capacity(part.len())?;
    }
    Ok(message)
}

/// `HealthCheckRequest { string service = 1; }` with its prefix.
fn question(service: &str) -> Bytes {
    const SERVICE: u8 = 1 << 3 | 2;
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(SERVICE);
        let mut length = service.len();
        while length >= 0x80 {
            message.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        message.push(u8::try_from(length).unwrap_or_default());
        message.extend(service.as_bytes());
    }
    let mut whole = BytesMut::with_capacity(PREFIX_LEN + message.len());
    whole.put_u8(0);
    // A service's name is far shorter.
    whole.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    whole.extend_from_slice(&message);
    whole.freeze()
}

/// What an answer says.
fn judge(message: &[u8], trailers: Option<&HeaderMap>, service: &str) -> Result<(), String> {
    /// Of the codes of gRPC (statuscodes.md) those that are told in words of their own.
    const OK: &str = "0";
    const NOT_FOUND: &str = "5";
    const UNIMPLEMENTED: &str = "12";
    let field = |name| trailers.and_then(|trailers| trailers.get(name)?.to_str().ok());
    match field("grpc-status") {
        Some(OK) => {}
        Some(UNIMPLEMENTED) => {
            return Err("UNIMPLEMENTED: the server has no grpc.health.v1.Health".to_owned());
        }
        Some(NOT_FOUND) => return Err(format!("NOT_FOUND: the server knows no service `{service}`")),
        Some(code) => {
            let text: String = field("grpc-message").unwrap_or_default().chars().take(TEXT_LEN_MAX).collect();
            let code: String = code.chars().take(TEXT_LEN_MAX).collect();
            return Err(format!("gRPC status {code}: {text}").trim_end_matches([' ', ':']).to_owned());
        }
        None => return Err("the answer has no gRPC status".to_owned()),
    }
    match status(message) {
        Some(1) => Ok(()),
        Some(0) => Err("UNKNOWN".to_owned()),
        Some(2) => Err("NOT_SERVING".to_owned()),
        Some(3) => Err("SERVICE_UNKNOWN".to_owned()),
        Some(other) => Err(format!("status {other}")),
        None => Err("the answer is no HealthCheckResponse".to_owned()),
    }
}

/// The status in a `HealthCheckResponse { ServingStatus status = 1; }` with its prefix; 0 where it has none. Of a repeated field the last one
/// counts, and those that are not known are passed over.
fn status(body: &[u8]) -> Option<u64> {
    let (prefix, rest) = body.split_at_checked(PREFIX_LEN)?;
    let [0, length @ ..] = prefix else { return None };
    let length = u32::from_be_bytes(length.try_into().ok()?);
    let mut message = rest.get(..usize::try_from(length).ok()?)?;
    let mut status = 0;
    while !message.is_empty() {
        let key = varint(&mut message)?;
        match (key >> 3, key & 7) {
            (1, 0) => status = varint(&mut message)?,
            (_, 0) => drop(varint(&mut message)?),
            (_, 1) => message = message.get(8..)?,
            (_, 2) => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            (_, 5) => message = message.get(4..)?,
            _ => return None,
        }
    }
    Some(status)
}

/// A number of protocol buffers, of which at most ten bytes are read.
fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (first, rest) = message.split_first()?;
        *message = rest;
        value |= u64::from(first & 0x7f).checked_shl(shift).unwrap_or(0);
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// What went wrong with a connection.
fn io_error(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into());
    }
    io::Error::new(io::ErrorKind::InvalidData, format!("the answer is not HTTP/2: {error}"))
}

#[cfg(test)]
mod tests;
