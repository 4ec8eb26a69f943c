//! Heads, from HTTP/2 to HTTP/1.1 and back.
//!
//! What comes from a client is written down as it came, and the engine's guard decides: two hosts, a path that is none, lengths that
//! contradict each other are refused there and counted there. What comes from the engine has passed it.

use std::{borrow::Cow, io::Write};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri,
    header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, TE, TRAILER},
    request, response,
};

use crate::http::{Body, Chunked, is_http, is_protocol};

/// The engine and a route add some fields to those of a message: the engine fewer than 16, a route at most 32, and who asks at most 18.
const FIELDS_MAX: usize = 200;

/// How the body behind a head that was written is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// As it is: its length is in the head, or it goes on to the end of the stream.
    Plain,
    Chunked,
}

/// What is known of a client's request when its response is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// For HEAD, whose response has no body whatever it says.
    Head,
    /// For another protocol on this stream (RFC 8441).
    Tunnel,
    Other,
}

/// Why a client's request is not for the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unaskable {
    /// Its protocol is none. `h2` lets any text pass for one, ends of lines as well.
    Malformed,
    /// Its protocol is HTTP, which would carry requests past the routes.
    ToHttp,
}

/// Appends a request's head as HTTP/1.1 has it. `ended`: no body follows.
pub(super) fn write_request(
    request: &request::Parts,
    ended: bool,
    out: &mut Vec<u8>,
) -> Result<(Asked, Framing), Unaskable> {
    let protocol = request.extensions.get::<h2::ext::Protocol>();
    match protocol.map(|protocol| protocol.as_str().as_bytes()) {
        Some(name) if !is_protocol(name) || name.contains(&b',') => return Err(Unaskable::Malformed),
        Some(name) if is_http(name) => return Err(Unaskable::ToHttp),
        Some(_) | None => {}
    }
    let (method, asked) = match request.method.as_str() {
        _ if protocol.is_some() => ("GET", Asked::Tunnel),
        "HEAD" => ("HEAD", Asked::Head),
        other => (other, Asked::Other),
    };
    let authority = request.uri.authority().map(|authority| authority.as_str());
    // Without a path it is CONNECT, which is refused by the method.
    let target = request.uri.path_and_query().map_or(authority.unwrap_or("/"), |target| target.as_str());
    put(out, &[method.as_bytes(), b" ", target.as_bytes(), b" HTTP/1.1\r\n"]);
    if let Some(authority) = authority {
        put(out, &[b"Host: ", authority.as_bytes(), b"\r\n"]);
    }
    if let Some(protocol) = protocol {
        put(out, &[b"Connection: Upgrade\r\nUpgrade: ", protocol.as_str().as_bytes(), b"\r\n"]);
        put(out, &[b"Sec-WebSocket-Key: ", &websocket_key(), b"\r\n"]);
        // What is sent is no body, whatever length it is said to have.
        write_fields(&request.headers, authority, true, out);
        out.extend_from_slice(b"\r\n");
        return Ok((asked, Framing::Plain));
    }
    let has_length = request.headers.contains_key(CONTENT_LENGTH);
    let chunked = !ended && (!has_length || has_trailers(&request.headers));
    write_fields(&request.headers, authority, chunked, out);
    if chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    } else if !has_length && matches!(method, "POST" | "PUT" | "PATCH") {
        out.extend_from_slice(b"Content-Length: 0\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok((asked, if chunked { Framing::Chunked } else { Framing::Plain }))
}

/// The fields but for pseudo-fields. A Host that says what `:authority` says is not needed twice; one that does not is left to the
/// guard. Crumbs of cookies become one field again (RFC 9113 §8.2.3).
fn write_fields(fields: &HeaderMap, authority: Option<&str>, without_length: bool, out: &mut Vec<u8>) {
    for (name, value) in fields {
        let is_known = authority.is_some_and(|authority| authority.as_bytes() == value.as_bytes());
        let is_left_out =
            name == COOKIE || name == HOST && is_known || name == CONTENT_LENGTH && without_length;
        if !is_left_out {
            put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    let mut between: &[u8] = b"cookie: ";
    for crumb in fields.get_all(COOKIE) {
        put(out, &[between, crumb.as_bytes()]);
        between = b"; ";
    }
    if between == b"; " {
        out.extend_from_slice(b"\r\n");
    }
}

/// Whether fields may follow the body. A length would leave no place for them in HTTP/1.1.
fn has_trailers(fields: &HeaderMap) -> bool {
    let is_grpc = |kind: &HeaderValue| kind.as_bytes().starts_with(b"application/grpc");
    fields.contains_key(TRAILER) || fields.get(CONTENT_TYPE).is_some_and(is_grpc)
}

/// HTTP/2 needs no key; workers that speak HTTP/1.1 do. 16 bytes in Base64, the last ones of which are zero.
fn websocket_key() -> [u8; 24] {
    let mut key = [b'A'; 24];
    key[..21].fill_with(|| fastrand::alphanumeric() as u8);
    key[22..].fill(b'=');
    key
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Appends a response's head as HTTP/1.1 has it. `ended`: no body follows.
pub(super) fn write_response(
    response: &response::Parts,
    ended: bool,
    asked_head: bool,
    out: &mut Vec<u8>,
) -> Framing {
    write_status(response.status, out);
    let bodiless = asked_head || matches!(response.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let has_length = response.headers.contains_key(CONTENT_LENGTH);
    let chunked = !bodiless && !ended && (!has_length || has_trailers(&response.headers));
    write_fields_back(&response.headers, chunked, out);
    if chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    } else if !bodiless && !has_length {
        out.extend_from_slice(b"Content-Length: 0\r\n");
    }
    out.extend_from_slice(b"\r\n");
    if chunked { Framing::Chunked } else { Framing::Plain }
}

/// Appends an interim response.
pub(super) fn write_interim(response: &response::Parts, out: &mut Vec<u8>) {
    write_status(response.status, out);
    write_fields_back(&response.headers, true, out);
    out.extend_from_slice(b"\r\n");
}

fn write_status(status: StatusCode, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(out, "HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
}

fn write_fields_back(fields: &HeaderMap, without_length: bool, out: &mut Vec<u8>) {
    for (name, value) in fields {
        if !(without_length && name == CONTENT_LENGTH) {
            put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
}

/// Appends the end of a chunked body. Fields that may not be trailers are left out: the engine would break the message off for them.
pub(super) fn write_trailers(trailers: Option<&HeaderMap>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if Chunked::allows_trailer(name.as_str().as_bytes()) {
            put(out, &[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// A head that was read.
#[derive(Debug)]
pub(super) struct Read<M> {
    /// Its length as HTTP/1.1.
    pub(super) len: usize,
    pub(super) message: M,
    /// What follows it.
    pub(super) body: Body,
}

/// HTTP/2 has no way to say this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unsayable;

fn unsayable<E>(_: E) -> Unsayable {
    Unsayable
}

/// Reads a request that the engine sends to a worker. `None` when its head is not there as a whole.
pub(super) fn read_request(input: &[u8]) -> Result<Option<Read<Request<()>>>, Unsayable> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut fields);
    let len = match parsed.parse(input) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Unsayable),
    };
    let (Some(method), Some(target)) = (parsed.method, parsed.path) else { return Err(Unsayable) };
    let (headers, body) = read_fields(parsed.headers)?;
    let host = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case("host"));
    let uri = Uri::builder()
        .scheme("http")
        .authority(host.map_or(&b""[..], |host| host.value))
        .path_and_query(&*sayable(target))
        .build()
        .map_err(unsayable)?;
    let message = Request::builder().version(http::Version::HTTP_2).method(method).uri(uri).body(());
    let mut message = message.map_err(unsayable)?;
    *message.headers_mut() = headers;
    Ok(Some(Read { len, message, body: body.unwrap_or(Body::Done) }))
}

/// A target with those bytes written in hexadecimal that `http` takes for none. By RFC 3986 they may not be there as they are, but clients
/// send them, and workers that speak HTTP/1.1 get them.
fn sayable(target: &str) -> Cow<'_, str> {
    if !target.contains(['<', '>', '`']) {
        return Cow::Borrowed(target);
    }
    Cow::Owned(target.replace('<', "%3C").replace('>', "%3E").replace('`', "%60"))
}

/// Reads a response that the engine gives. `None` when its head is not there as a whole.
pub(super) fn read_response(input: &[u8], asked: Asked) -> Result<Option<Read<Response<()>>>, Unsayable> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut fields);
    let len = match parsed.parse(input) {
        Ok(httparse::Status::Complete(len)) => len,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Unsayable),
    };
    let status = parsed.code.ok_or(Unsayable)?;
    let (mut headers, body) = read_fields(parsed.headers)?;
    let (status, body) = match (status, asked) {
        // The protocol was switched: here that is the beginning of a body without end (RFC 8441 §5).
        (101, Asked::Tunnel) => {
            headers.remove("sec-websocket-accept");
            (200, Body::UntilClose)
        }
        // To the client it would mean that its tunnel is open. The worker did not take up the protocol.
        (200..=299, Asked::Tunnel) => {
            headers.clear();
            (502, Body::Done)
        }
        (..=199 | 204 | 304, _) | (_, Asked::Head) => (status, Body::Done),
        (_, _) => (status, body.unwrap_or(Body::UntilClose)),
    };
    let message = Response::builder().version(http::Version::HTTP_2).status(status).body(());
    let mut message = message.map_err(unsayable)?;
    *message.headers_mut() = headers;
    Ok(Some(Read { len, message, body }))
}

/// The fields that HTTP/2 has, and what those say that it does not have (RFC 9113 §8.2.2).
fn read_fields(fields: &[httparse::Header<'_>]) -> Result<(HeaderMap, Option<Body>), Unsayable> {
    let mut map = HeaderMap::with_capacity(fields.len());
    let mut body = None;
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(unsayable)?;
        match name.as_str() {
            "connection" | "keep-alive" | "proxy-connection" | "upgrade" | "host" => continue,
            "transfer-encoding" => {
                body = Some(Body::Chunked(Chunked::new()));
                continue;
            }
            "content-length" => {
                let length = std::str::from_utf8(field.value).ok().and_then(|length| length.parse().ok());
                body = length.map(|length| if length == 0 { Body::Done } else { Body::Length(length) });
            }
            _ if name == TE && !field.value.eq_ignore_ascii_case(b"trailers") => continue,
            _ => {}
        }
        map.append(name, HeaderValue::from_bytes(field.value).map_err(unsayable)?);
    }
    Ok((map, body))
}

/// Adds a trailer line of a chunked body, without its CRLF.
pub(super) fn read_trailer(line: &[u8], trailers: &mut HeaderMap) -> Result<(), Unsayable> {
    let colon = memchr::memchr(b':', line).ok_or(Unsayable)?;
    let name = HeaderName::from_bytes(&line[..colon]).map_err(unsayable)?;
    let value = crate::http::trim(&line[colon + 1..]);
    trailers.append(name, HeaderValue::from_bytes(value).map_err(unsayable)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(request: http::request::Builder, ended: bool) -> (String, Asked, Framing) {
        let mut out = Vec::new();
        let (asked, framing) =
            write_request(&request.body(()).unwrap().into_parts().0, ended, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), asked, framing)
    }

    #[test]
    fn a_request_is_written_down_as_it_came() {
        let request = Request::get("http://shop:80/a?b=c").header("x-a", "1").header("accept", "*/*");
        let expected = "GET /a?b=c HTTP/1.1\r\nHost: shop:80\r\nx-a: 1\r\naccept: */*\r\n\r\n";
        assert_eq!(written(request, true), (expected.to_owned(), Asked::Other, Framing::Plain));
        let crumbs = Request::head("http://shop/").header("cookie", "a=1").header("cookie", "b=2");
        let expected = "HEAD / HTTP/1.1\r\nHost: shop\r\ncookie: a=1; b=2\r\n\r\n";
        assert_eq!(written(crumbs, true), (expected.to_owned(), Asked::Head, Framing::Plain));
        let (head, _, _) = written(Request::get("http://shop/").header("host", "shop"), true);
        assert_eq!(head.matches("shop").count(), 1, "{head}");
        let (head, _, _) = written(Request::get("http://shop/").header("host", "other"), true);
        assert!(
            head.contains("Host: shop\r\n") && head.contains("host: other\r\n"),
            "the guard decides: {head}"
        );
    }

    #[test]
    fn a_body_keeps_its_length_unless_fields_follow_it() {
        let framed = |request: http::request::Builder, ended| {
            let (head, _, framing) = written(request, ended);
            let length = head.contains("content-length: 5") || head.contains("Content-Length: 0");
            (framing, length, head.contains("Transfer-Encoding: chunked\r\n"))
        };
        let post = || Request::post("http://shop/");
        assert_eq!(framed(post().header("content-length", "5"), false), (Framing::Plain, true, false));
        assert_eq!(framed(post(), false), (Framing::Chunked, false, true));
        assert_eq!(framed(post(), true), (Framing::Plain, true, false));
        assert_eq!(framed(Request::get("http://shop/"), true), (Framing::Plain, false, false));
        for field in [("trailer", "x-sum"), ("content-type", "application/grpc+proto")] {
            let request = post().header("content-length", "5").header(field.0, field.1);
            assert_eq!(framed(request, false), (Framing::Chunked, false, true), "{field:?}");
        }
    }

    #[test]
    fn another_protocol_is_asked_for_as_an_upgrade() {
        let request =
            Request::connect("http://shop/chat").extension(h2::ext::Protocol::from_static("websocket"));
        let (head, asked, framing) = written(request.header("sec-websocket-version", "13"), false);
        assert!(head.starts_with(
            "GET /chat HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        ));
        assert!(head.contains("sec-websocket-version: 13\r\n") && !head.contains("ransfer-"), "{head}");
        assert_eq!((asked, framing), (Asked::Tunnel, Framing::Plain));
        let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nX-A: 1\r\n\r\n";
        let read = read_response(head, Asked::Tunnel).unwrap().unwrap();
        assert_eq!((read.message.status().as_u16(), read.body), (200, Body::UntilClose));
        assert_eq!(read.message.headers().len(), 1);
        let read =
            read_response(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Asked::Tunnel).unwrap().unwrap();
        assert_eq!((read.message.status().as_u16(), read.body), (502, Body::Done), "there is no tunnel");
        assert!(read.message.headers().is_empty());
        for (name, why) in [
            ("websocket\r\nX: 1", Unaskable::Malformed),
            ("", Unaskable::Malformed),
            ("websocket, h2c", Unaskable::Malformed),
            ("H2C", Unaskable::ToHttp),
            ("http/1.1", Unaskable::ToHttp),
        ] {
            let request = Request::connect("http://shop/chat").extension(h2::ext::Protocol::from(name));
            let request = request.body(()).unwrap().into_parts().0;
            assert_eq!(write_request(&request, false, &mut Vec::new()), Err(why), "{name:?}");
        }
    }

    #[test]
    fn a_response_goes_there_and_back() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\nX-A: 1\r\n\r\nok";
        let read = read_response(head, Asked::Other).unwrap().unwrap();
        assert_eq!((read.len, read.body), (head.len() - 2, Body::Length(2)));
        let names: Vec<_> = read.message.headers().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["content-length", "x-a"]);
        let mut out = Vec::new();
        assert_eq!(write_response(&read.message.into_parts().0, false, false, &mut out), Framing::Plain);
        assert_eq!(out, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: 1\r\n\r\n");
        assert!(read_response(&head[..20], Asked::Other).unwrap().is_none());
        for (head, body) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", Body::Done),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Body::Chunked(Chunked::new())),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Body::Done),
        ] {
            assert_eq!(read_response(head.as_bytes(), Asked::Other).unwrap().unwrap().body, body, "{head}");
            assert_eq!(
                read_response(head.as_bytes(), Asked::Head).unwrap().unwrap().body,
                Body::Done,
                "{head}"
            );
        }
    }

    #[test]
    fn a_request_to_a_worker_has_what_http2_has() {
        let head = "POST /a?b HTTP/1.1\r\nHost: api.plt.local:80\r\nTE: trailers\r\nConnection: TE\r\n\
                    Transfer-Encoding: chunked\r\nX-A: 1\r\n\r\n";
        let Read { len, message, body } = read_request(head.as_bytes()).unwrap().unwrap();
        assert_eq!((len, body), (head.len(), Body::Chunked(Chunked::new())));
        assert_eq!(message.uri(), "http://api.plt.local:80/a?b");
        let names: Vec<_> = message.headers().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["te", "x-a"]);
        assert!(read_request(&head.as_bytes()[..head.len() - 1]).unwrap().is_none());
        let read = read_request(b"GET /<a>?`b` HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().unwrap();
        assert_eq!(read.message.uri(), "http://a/%3Ca%3E?%60b%60");
        assert_eq!(read_request(b"GET / HTTP/1.1\r\nHost: <a>\r\n\r\n").unwrap_err(), Unsayable);
    }

    #[test]
    fn trailers_that_may_be_none_are_left_out() {
        let mut trailers = HeaderMap::new();
        for (name, value) in [("grpc-status", "0"), ("content-length", "5"), ("via", "x"), ("x-sum", "7")] {
            trailers.insert(name, HeaderValue::from_static(value));
        }
        let mut out = Vec::new();
        write_trailers(Some(&trailers), &mut out);
        assert_eq!(out, b"0\r\ngrpc-status: 0\r\nx-sum: 7\r\n\r\n");
        let mut back = HeaderMap::new();
        assert_eq!(read_trailer(b"Grpc-Status:  0 ", &mut back), Ok(()));
        assert_eq!(back["grpc-status"], "0");
    }
}
