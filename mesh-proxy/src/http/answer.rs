//! From the bytes of a worker's response to what is sent to the client.

use watt_policies::cors::Cors;

use super::{
    body::{Body, Coding},
    chunked::Chunked,
    compress,
    head::{Framing, Lines, storage},
    prepare::Prepared,
    request::Method,
    response::{self, BadResponse, Response},
};
use crate::thread::Thread;

/// A response head that was written to `out`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The length of its head in the worker's input.
    pub(crate) head_len: usize,
    pub(crate) status: u16,
    /// The same, or what its status of gRPC stands for.
    pub(crate) verdict: u16,
    pub(crate) kind: Kind,
}

/// What follows a response head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Another head.
    Interim,
    /// Another protocol.
    Switch,
    /// A body, and then:
    Final {
        body: Body,
        coding: Coding,
        /// The client's connection ends.
        close: bool,
        /// The worker's may be used again.
        reuse: bool,
        /// In which coding the body goes on, where that is another one than it came in.
        squeezed: Option<crate::files::Coding>,
    },
}

/// What the exchange knows that the response does not.
#[derive(Clone, Copy)]
pub(crate) struct State<'r> {
    pub(crate) request: &'r Prepared,
    pub(crate) thread: &'r Thread,
    /// The request's body is still on its way.
    pub(crate) uploading: bool,
    /// The proxy is going to end.
    pub(crate) closing: bool,
}

/// Reads the response at the start of `input`, and writes the head for the client to `out`. `None` when the head is
/// not there as a whole.
pub(crate) fn read(state: State<'_>, input: &[u8], out: &mut Vec<u8>) -> Result<Option<Answer>, BadResponse> {
    let mut room = storage();
    let Some(response) = response::parse(input, &mut room)? else { return Ok(None) };
    out.clear();
    let kind = match response.status {
        101 => switch(state.request, &response, out)?,
        100..=199 => interim(state.request, &response, out),
        _ => last(state, &response, out),
    };
    let (head_len, status, verdict) = (response.fields.bytes.len(), response.status, response.verdict());
    Ok(Some(Answer { head_len, status, verdict, kind }))
}

fn switch(request: &Prepared, response: &Response<'_, '_>, out: &mut Vec<u8>) -> Result<Kind, BadResponse> {
    if !request.upgrade || response.upgrade.len() != 1 || response.http10 {
        return Err(BadResponse::Upgrade);
    }
    let mut drop = without_framing(response);
    response.upgrade.iter().for_each(|line| drop.remove(line));
    let changed = changed(request, response, &mut drop);
    write_lines(response, drop, out);
    out.extend_from_slice(&changed);
    out.extend_from_slice(b"Connection: upgrade\r\n\r\n");
    Ok(Kind::Switch)
}

/// What a route removes is removed from every response, and what it sets and adds is in the last one.
fn interim(request: &Prepared, response: &Response<'_, '_>, out: &mut Vec<u8>) -> Kind {
    let mut drop = without_framing(response);
    if let Some(headers) = request.returning.as_ref().and_then(|returning| returning.headers.as_ref()) {
        headers.take(&response.fields, &mut drop);
    }
    write_lines(response, drop, out);
    out.extend_from_slice(b"\r\n");
    Kind::Interim
}

fn without_framing(response: &Response<'_, '_>) -> Lines {
    let mut drop = response.hop_by_hop;
    drop |= response.length_lines;
    drop |= response.coding_lines;
    drop
}

fn last(state: State<'_>, response: &Response<'_, '_>, out: &mut Vec<u8>) -> Kind {
    let request = state.request;
    let mut drop = response.hop_by_hop;
    let (body, mut coding) = body(request, response, &mut drop);
    let changed = changed(request, response, &mut drop);
    let chosen = match &request.compress {
        Some(wanted) => compress::choose(wanted, request.method, response, state.thread, &mut drop),
        None => compress::Chosen::default(),
    };
    // An answer to HEAD says what one to GET would have.
    let squeezed = chosen.coding.filter(|_| body != Body::Done);
    if squeezed.is_some() {
        coding = Coding::Squeeze;
    }
    let length_unknown = body == Body::UntilClose || coding == Coding::Unwrap;
    let close = !request.keep_alive || state.closing || state.uploading || request.http10 && length_unknown;
    write_lines(response, drop, out);
    out.extend_from_slice(&changed);
    out.extend_from_slice(&chosen.lines);
    if matches!(coding, Coding::Wrap | Coding::Squeeze) {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    if close {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if request.http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
    let reuse = response.keeps_alive() && body != Body::UntilClose;
    Kind::Final { body, coding, close, reuse, squeezed }
}

/// How long the body is and how it goes on (RFC 9112 §6.3). Adds the framing lines that do not fit to `drop`.
fn body(request: &Prepared, response: &Response<'_, '_>, drop: &mut Lines) -> (Body, Coding) {
    if response.is_bodiless() || request.method == Method::Head {
        // For HEAD and 304 they describe the body that GET would have; 204 never has one.
        if response.status == 204 {
            *drop |= response.length_lines;
        }
        if response.status == 204 || request.http10 {
            *drop |= response.coding_lines;
        }
        return (Body::Done, Coding::AsIs);
    }
    match response.framing {
        Framing::Length(0) => (Body::Done, Coding::AsIs),
        Framing::Length(length) => (Body::Length(length), Coding::AsIs),
        Framing::Chunked if request.http10 => {
            *drop |= response.coding_lines;
            (Body::Chunked(Chunked::new()), Coding::Unwrap)
        }
        Framing::Chunked => (Body::Chunked(Chunked::new()), Coding::AsIs),
        Framing::Unspecified if request.http10 => (Body::UntilClose, Coding::AsIs),
        Framing::Unspecified => (Body::UntilClose, Coding::Wrap),
    }
}

/// What a route changes, as lines that replace those added to `drop`: its own headers, and locations and cookie paths as clients see them.
fn changed(request: &Prepared, response: &Response<'_, '_>, drop: &mut Lines) -> Vec<u8> {
    let mut changed = Vec::new();
    let Some(returning) = &request.returning else { return changed };
    let headers = returning.headers.as_ref();
    if let Some(headers) = headers {
        headers.take(&response.fields, drop);
    }
    if returning.replaces_cors {
        for (line, header) in response.fields.headers.iter().enumerate() {
            if Cors::replaces(header.name.as_bytes()) {
                drop.add(line);
            }
        }
    }
    changed.extend_from_slice(&returning.lines);
    if let Some(outward) = &returning.outward {
        let mut replace = |line: usize, name: &[u8], value: Option<Vec<u8>>| {
            if let Some(value) = value.filter(|_| !drop.has(line)) {
                drop.add(line);
                changed.extend_from_slice(name);
                changed.extend_from_slice(&value);
                changed.extend_from_slice(b"\r\n");
            }
        };
        for line in response.location.iter() {
            replace(line, b"Location: ", outward.location(response.fields.value(line)));
        }
        for line in response.set_cookie.iter() {
            replace(line, b"Set-Cookie: ", outward.cookie(response.fields.value(line)));
        }
    }
    if let Some(headers) = headers {
        headers.write(&mut changed);
    }
    for cookie in [&returning.cookie, &returning.worker_cookie].into_iter().flatten() {
        changed.extend_from_slice(cookie.as_bytes());
    }
    changed
}

/// The status line, in our version, and the fields that go on as they are.
fn write_lines(response: &Response<'_, '_>, drop: Lines, out: &mut Vec<u8>) {
    let version = b"HTTP/1.1";
    if response.http10 {
        out.extend_from_slice(version);
        response.fields.copy_lines(version.len(), drop, out);
    } else {
        response.fields.copy_lines(0, drop, out);
    }
}
