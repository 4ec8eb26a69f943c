//! What goes out: a whole reply, or a stream of lines.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    body::{Body, Frame, SizeHint},
    header,
};
use serde::Serialize;
use tokio::sync::mpsc;

use super::problem::Failure;

/// The body of a reply.
#[derive(Debug)]
pub(super) enum Reply {
    /// All of it.
    Whole(Bytes),
    /// It comes as it happens, and the sender waits for the reader.
    Stream(mpsc::Receiver<Bytes>),
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match self.get_mut() {
            Reply::Whole(bytes) if bytes.is_empty() => None,
            Reply::Whole(bytes) => Some(std::mem::take(bytes)),
            Reply::Stream(lines) => std::task::ready!(lines.poll_recv(context)),
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Reply::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Reply::Stream(_) => SizeHint::default(),
        }
    }
}

/// A reply of one JSON value.
pub(super) fn json<T: Serialize>(value: &T) -> Result<Response<Reply>, Failure> {
    let bytes = serde_json::to_vec(value).map_err(|error| Failure::Internal(error.to_string()))?;
    Ok(response(StatusCode::OK, "application/json", Reply::Whole(bytes.into())))
}

/// A reply of JSON values that come one a line.
pub(super) fn lines(receiver: mpsc::Receiver<Bytes>) -> Response<Reply> {
    response(StatusCode::OK, "application/x-ndjson", Reply::Stream(receiver))
}

pub(super) fn response(status: StatusCode, content_type: &'static str, body: Reply) -> Response<Reply> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

/// Lines in one piece, each with its newline.
pub(super) fn joined<'a>(lines: impl IntoIterator<Item = &'a str>) -> Bytes {
    let mut bytes = Vec::new();
    for line in lines {
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
    }
    bytes.into()
}
