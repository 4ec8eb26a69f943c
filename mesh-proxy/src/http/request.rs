//! Reads a request head, and refuses what two parsers could read differently.
//!
//! The rules are those of RFC 9112 without its leniencies. A worker behind the proxy may be any program; if it could
//! see another request than the proxy saw, whoever sent the bytes could reach past routes and policies ("request
//! smuggling"). So doubt is an error, never repaired.

use std::mem::MaybeUninit;

use super::{
    buffer::LARGE,
    head::{
        Connection, Fields, Framing, FramingError, HEADERS_MAX, Lines, Storage, is_lookalike, is_token_byte,
        named_by_connection,
    },
};
use crate::{respond::Format, tls};

/// The longest request target.
const TARGET_MAX: usize = 32 << 10;

/// The longest method; the registered ones have up to 17 letters.
const METHOD_MAX: usize = 32;

/// Why a request is refused. The client's fault each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Not a request line, or not a field line, or a byte that may be in neither.
    Syntax,
    /// A line that ends with a lone LF.
    BareLf,
    /// Content-Length and Transfer-Encoding.
    LengthAndCoding,
    /// Content-Length twice, or not a plain number.
    Length,
    /// Transfer-Encoding twice, not exactly `chunked`, or in HTTP/1.0.
    Coding,
    /// No Host, two, or not `name[:port]`.
    Host,
    /// A target that is neither a path, nor `*` for OPTIONS, nor an http URL.
    Target,
    /// Connection names a field that must not get lost.
    ConnectionField,
    /// Chunked framing that parsers read differently.
    Chunk,
    /// A path that would take another route once somebody decodes or normalises it.
    AmbiguousPath,
    /// A target that is too long.
    TargetTooLong,
    /// Too many fields, or too many bytes of them.
    HeadTooLarge,
    /// An expectation other than `100-continue`.
    Expectation,
    /// Another version than HTTP/1.0 and HTTP/1.1.
    Version,
    /// CONNECT: this is not a forward proxy.
    Connect,
    /// A connection of HTTP/2 on which too much was done that led to nothing.
    Flood,
}

impl Refusal {
    /// All, to count them.
    pub const ALL: [Refusal; 16] = [
        Refusal::Syntax,
        Refusal::BareLf,
        Refusal::LengthAndCoding,
        Refusal::Length,
        Refusal::Coding,
        Refusal::Host,
        Refusal::Target,
        Refusal::ConnectionField,
        Refusal::Chunk,
        Refusal::AmbiguousPath,
        Refusal::TargetTooLong,
        Refusal::HeadTooLarge,
        Refusal::Expectation,
        Refusal::Version,
        Refusal::Connect,
        Refusal::Flood,
    ];

    /// A word for it: in error bodies and as a label of counters.
    pub const fn code(self) -> &'static str {
        match self {
            Refusal::Syntax => "malformed_request",
            Refusal::BareLf => "bare_lf",
            Refusal::LengthAndCoding => "content_length_and_transfer_encoding",
            Refusal::Length => "bad_content_length",
            Refusal::Coding => "bad_transfer_encoding",
            Refusal::Host => "bad_host",
            Refusal::Target => "bad_target",
            Refusal::ConnectionField => "bad_connection_field",
            Refusal::Chunk => "bad_chunk",
            Refusal::AmbiguousPath => "ambiguous_path",
            Refusal::TargetTooLong => "uri_too_long",
            Refusal::HeadTooLarge => "head_too_large",
            Refusal::Expectation => "unknown_expectation",
            Refusal::Version => "version_not_supported",
            Refusal::Connect => "connect_not_supported",
            Refusal::Flood => "http2_flood",
        }
    }

    /// The status it is answered with.
    pub const fn status(self) -> u16 {
        match self {
            Refusal::Syntax
            | Refusal::BareLf
            | Refusal::LengthAndCoding
            | Refusal::Length
            | Refusal::Coding
            | Refusal::Host
            | Refusal::Target
            | Refusal::ConnectionField
            | Refusal::Chunk
            | Refusal::AmbiguousPath => 400,
            Refusal::TargetTooLong => 414,
            Refusal::Expectation => 417,
            Refusal::HeadTooLarge => 431,
            Refusal::Connect => 501,
            Refusal::Flood => 429,
            Refusal::Version => 505,
        }
    }

    /// For the client, one sentence.
    pub const fn message(self) -> &'static str {
        match self {
            Refusal::Syntax => "The request is not well-formed HTTP/1.1.",
            Refusal::BareLf => "A line of the request ends with LF alone; CRLF is needed.",
            Refusal::LengthAndCoding => "The request has both Content-Length and Transfer-Encoding.",
            Refusal::Length => "Content-Length must be one plain number.",
            Refusal::Coding => "Transfer-Encoding must be `chunked` alone, in HTTP/1.1.",
            Refusal::Host => "The request must have exactly one valid Host.",
            Refusal::Target => "The request's target must be a path or an http URL.",
            Refusal::ConnectionField => "Connection names a field that must not be removed.",
            Refusal::Chunk => "The chunked framing of the body is malformed.",
            Refusal::AmbiguousPath => "The path would take another route once it is decoded, normalised, or written in other letters.",
            Refusal::TargetTooLong => "The request's target is too long.",
            Refusal::HeadTooLarge => "The request's head is too large.",
            Refusal::Expectation => "The only expectation that is known is 100-continue.",
            Refusal::Version => "Only HTTP/1.0 and HTTP/1.1 are spoken here.",
            Refusal::Connect => "This is not a forward proxy.",
            Refusal::Flood => "Too much was done on this connection that led to nothing.",
        }
    }
}

impl From<FramingError> for Refusal {
    fn from(error: FramingError) -> Self {
        match error {
            FramingError::LengthAndCoding => Refusal::LengthAndCoding,
            FramingError::Length => Refusal::Length,
            FramingError::Coding => Refusal::Coding,
        }
    }
}

/// The methods that are treated in their own way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// The response has no body.
    Head,
    /// Sending it twice does what sending it once does (RFC 9110 §9.2.2).
    Idempotent,
    Other,
}

/// A request head that passed the guard. Borrows the bytes it was read from.
pub(crate) struct Request<'h, 'b> {
    pub(crate) fields: Fields<'h, 'b>,
    pub(crate) method: Method,
    pub(crate) method_name: &'b str,
    /// Where the target is in the head's bytes, and what it is.
    pub(crate) target: Target<'b>,
    pub(crate) http10: bool,
    /// The authority: from the target where it has one, else from Host. Empty only in HTTP/1.0.
    pub(crate) host: &'b [u8],
    pub(crate) found: Found,
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target<'b> {
    /// As it came.
    pub(crate) raw: &'b str,
    /// Path and query; `*` as it is.
    pub(crate) path_and_query: &'b str,
    pub(crate) absolute: bool,
}

impl<'b> Target<'b> {
    pub(crate) fn path(&self) -> &'b str {
        let end = memchr::memchr(b'?', self.path_and_query.as_bytes());
        &self.path_and_query[..end.unwrap_or(self.path_and_query.len())]
    }
}

/// What the fields say, and where those are that matter.
pub(crate) struct Found {
    pub(crate) framing: Framing,
    pub(crate) connection: Connection,
    /// Lines that go no further than this connection.
    pub(crate) hop_by_hop: Lines,
    pub(crate) host: Option<usize>,
    pub(crate) upgrade: Lines,
    pub(crate) expect: Lines,
    pub(crate) accept: Option<usize>,
    pub(crate) origin: Option<usize>,
    /// Its body is one of gRPC.
    pub(crate) grpc: bool,
    /// It has a Content-Type.
    typed: bool,
    pub(crate) traceparent: Lines,
    pub(crate) tracestate: Lines,
    /// What says how long the client waits: of requests of gRPC, and of others.
    pub(crate) grpc_timeout: Lines,
    pub(crate) timeout_ms: Lines,
    pub(crate) priority: Lines,
    pub(crate) forwarded: Lines,
    pub(crate) forwarded_for: Lines,
    /// `X-Forwarded-*` but for the last, `X-Real-IP`, `X-Mirrored`, and those of a client's certificate.
    pub(crate) forwarded_other: Lines,
    /// Other fields that some programs take for ones of the proxy's, or for framing.
    pub(crate) lookalikes: Lines,
    /// `TE: trailers` goes on.
    pub(crate) te_trailers: bool,
    te: Lines,
    connection_lines: Lines,
    hosts: usize,
}

impl Request<'_, '_> {
    /// How long its body is, where that is said beforehand.
    pub(crate) fn body_length(&self) -> Option<u64> {
        match self.found.framing {
            Framing::Length(length) => Some(length),
            Framing::Unspecified | Framing::Chunked => None,
        }
    }
}

/// Reads the head at the start of `input`; `None` when it is not there as a whole yet. Empty lines before a
/// request must have been skipped, see [`leading_empty_lines`].
pub(crate) fn parse<'h, 'b>(
    input: &'b [u8],
    storage: &'h mut Storage<'b>,
) -> Result<Option<Request<'h, 'b>>, Refusal> {
    let mut parsed = httparse::Request::new(&mut []);
    let headers: &'h mut [MaybeUninit<httparse::Header<'b>>] = storage;
    let len = match parsed.parse_with_uninit_headers(input, headers) {
        Ok(httparse::Status::Complete(len)) if len <= LARGE => len,
        Ok(httparse::Status::Partial) if input.len() < LARGE => return Ok(None),
        Ok(_) => return Err(too_large(input)),
        Err(error) => return Err(refusal(error, input)),
    };
    let (Some(method), Some(raw), Some(minor)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(Refusal::Syntax);
    };
    let fields = Fields { bytes: &input[..len], headers: parsed.headers };
    if !fields.lines_end_with_crlf() {
        return Err(Refusal::BareLf);
    }
    if method.len() > METHOD_MAX || !input.starts_with(method.as_bytes()) {
        return Err(Refusal::Syntax);
    }
    if is_miswritten(method) {
        return Err(Refusal::Syntax);
    }
    if raw.len() > TARGET_MAX {
        return Err(Refusal::TargetTooLong);
    }
    let http10 = minor == 0;
    let (target, authority) = parse_target(method, raw)?;
    let found = scan(&fields, http10)?;
    let host = host(&fields, &found, authority, http10)?;
    Ok(Some(Request {
        fields,
        method: method_kind(method),
        method_name: method,
        target,
        http10,
        host,
        found,
    }))
}

/// How many bytes of empty lines stand before a request. A client may send one after a body (RFC 9112 §2.2).
pub(crate) fn leading_empty_lines(input: &[u8]) -> usize {
    input.chunks_exact(2).take_while(|pair| *pair == b"\r\n").count() * 2
}

fn too_large(input: &[u8]) -> Refusal {
    if memchr::memchr(b'\n', input).is_none() { Refusal::TargetTooLong } else { Refusal::HeadTooLarge }
}

fn refusal(error: httparse::Error, input: &[u8]) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadTooLarge,
        httparse::Error::Version if names_other_version(input) => Refusal::Version,
        httparse::Error::HeaderName
        | httparse::Error::HeaderValue
        | httparse::Error::NewLine
        | httparse::Error::Status
        | httparse::Error::Token
        | httparse::Error::Version => Refusal::Syntax,
    }
}

/// Whether the request line ends with `HTTP/` digit `.` digit: the client means another version, and not nonsense.
fn names_other_version(input: &[u8]) -> bool {
    let end = memchr::memchr2(b'\r', b'\n', input).unwrap_or(input.len());
    let version = input[..end].rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let is_version = matches!(version, [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']);
    is_version && version != b"HTTP/1.0" && version != b"HTTP/1.1"
}

/// Whether it is a usual method in other letters. Methods are not the same in other letters (RFC 9110 §9.1), and routes and policies
/// compare them so; many services write them in capitals first, and would act on a POST that was none here.
fn is_miswritten(method: &str) -> bool {
    const USUAL: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];
    let is_usual = || USUAL.iter().any(|usual| usual.eq_ignore_ascii_case(method));
    method.bytes().any(|byte| byte.is_ascii_lowercase()) && is_usual()
}

fn method_kind(method: &str) -> Method {
    match method {
        "HEAD" => Method::Head,
        "GET" | "OPTIONS" | "TRACE" | "PUT" | "DELETE" => Method::Idempotent,
        _ => Method::Other,
    }
}

/// The target in its form (RFC 9112 §3.2), with the authority of an absolute one.
fn parse_target<'b>(method: &str, raw: &'b str) -> Result<(Target<'b>, Option<&'b [u8]>), Refusal> {
    if method == "CONNECT" {
        return Err(Refusal::Connect);
    }
    // A fragment never goes over the wire, and letters beyond ASCII are percent-encoded.
    if !raw.bytes().all(|byte| matches!(byte, 0x21..=0x7e) && byte != b'#') {
        return Err(Refusal::Target);
    }
    if raw.starts_with('/') || raw == "*" && method == "OPTIONS" {
        return Ok((Target { raw, path_and_query: raw, absolute: false }, None));
    }
    let scheme = ["http://", "https://"]
        .into_iter()
        .find(|scheme| raw.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let rest = scheme.and_then(|scheme| raw.get(scheme.len()..)).ok_or(Refusal::Target)?;
    let end = memchr::memchr2(b'/', b'?', rest.as_bytes()).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = if path.is_empty() { "/" } else { path };
    if !path.starts_with('/') {
        return Err(Refusal::Target);
    }
    Ok((Target { raw, path_and_query: path, absolute: true }, Some(authority.as_bytes())))
}

/// One pass over the fields. The match on the length first sorts nearly all of them out with one comparison.
fn scan(fields: &Fields<'_, '_>, http10: bool) -> Result<Found, Refusal> {
    let mut found = Found::new();
    for (line, header) in fields.headers.iter().enumerate() {
        found.take(line, header.name.as_bytes(), header.value)?;
    }
    if found.framing == Framing::Chunked && http10 {
        return Err(Refusal::Coding);
    }
    if found.connection.names_fields {
        let named =
            named_by_connection(fields, found.connection_lines).map_err(|_| Refusal::ConnectionField)?;
        found.hop_by_hop |= named;
    }
    // `TE: trailers` is the one wish about transfer codings that can be passed on.
    found.te_trailers &= found.te.len() == 1;
    if found.te_trailers {
        found.te.iter().for_each(|line| found.hop_by_hop.remove(line));
    }
    Ok(found)
}

impl Found {
    /// The lines that say how long the client waits.
    pub(crate) fn timeouts(&self) -> Lines {
        if self.grpc { self.grpc_timeout } else { self.timeout_ms }
    }

    /// Those that a worker could take for what the proxy says in their place, whatever kind of request it takes this one for.
    pub(crate) fn all_timeouts(&self) -> Lines {
        let mut lines = self.grpc_timeout;
        lines |= self.timeout_ms;
        lines
    }

    fn new() -> Found {
        Found {
            framing: Framing::Unspecified,
            connection: Connection::default(),
            hop_by_hop: Lines::NONE,
            host: None,
            upgrade: Lines::NONE,
            expect: Lines::NONE,
            accept: None,
            origin: None,
            grpc: false,
            typed: false,
            traceparent: Lines::NONE,
            tracestate: Lines::NONE,
            grpc_timeout: Lines::NONE,
            timeout_ms: Lines::NONE,
            priority: Lines::NONE,
            forwarded: Lines::NONE,
            forwarded_for: Lines::NONE,
            forwarded_other: Lines::NONE,
            lookalikes: Lines::NONE,
            te_trailers: false,
            te: Lines::NONE,
            connection_lines: Lines::NONE,
            hosts: 0,
        }
    }

    fn take(&mut self, line: usize, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        match name.len() {
            2 if is(b"te") => {
                self.te.add(line);
                self.hop_by_hop.add(line);
                self.te_trailers = value.eq_ignore_ascii_case(b"trailers");
            }
            4 if is(b"host") => {
                self.hosts += 1;
                self.host = Some(line);
            }
            6 if is(b"accept") => self.accept = Some(line),
            6 if is(b"origin") => self.origin = Some(line),
            6 if is(b"expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Refusal::Expectation);
                }
                self.expect.add(line);
            }
            7 if is(b"upgrade") => {
                self.upgrade.add(line);
                self.hop_by_hop.add(line);
            }
            8 if is(b"priority") => self.priority.add(line),
            9 if is(b"forwarded") => self.forwarded.add(line),
            9 if is(b"x-real-ip") => self.forwarded_other.add(line),
            10 if is(b"connection") => {
                self.connection.read(value);
                self.connection_lines.add(line);
                self.hop_by_hop.add(line);
            }
            10 if is(b"keep-alive") => self.hop_by_hop.add(line),
            10 if is(b"tracestate") => self.tracestate.add(line),
            10 if is(b"x-mirrored") => self.forwarded_other.add(line),
            11 if is(b"traceparent") => self.traceparent.add(line),
            11 if tls::is_own_field(name) => self.forwarded_other.add(line),
            14 if is(b"content-length") => self.framing.length(value)?,
            14 if is(b"http2-settings") => self.hop_by_hop.add(line),
            15 if is(b"x-forwarded-for") => self.forwarded_for.add(line),
            12 if is(b"content-type") => {
                // Of two, nobody knows which one a worker believes.
                self.grpc = !std::mem::replace(&mut self.typed, true) && Format::is_grpc(value);
            }
            12 if is(b"grpc-timeout") => self.grpc_timeout.add(line),
            13.. if name[..12].eq_ignore_ascii_case(b"x-forwarded-") => self.forwarded_other.add(line),
            15.. if name[1] == b'-' && tls::is_own_field(name) => self.forwarded_other.add(line),
            17 if is(b"client-cert-chain") => self.forwarded_other.add(line),
            16 if is(b"proxy-connection") => self.hop_by_hop.add(line),
            17 if is(b"transfer-encoding") => self.framing.coding(value)?,
            19 if is(b"proxy-authorization") => self.hop_by_hop.add(line),
            20 if is(b"x-request-timeout-ms") => self.timeout_ms.add(line),
            _ if is_lookalike(name) => self.lookalikes.add(line),
            _ => {}
        }
        Ok(())
    }
}

/// The one host: the target's authority wins over the field, which must be there and valid all the same.
fn host<'b>(
    fields: &Fields<'_, 'b>,
    found: &Found,
    authority: Option<&'b [u8]>,
    http10: bool,
) -> Result<&'b [u8], Refusal> {
    let field = match (found.hosts, found.host) {
        (1, Some(line)) if is_authority(fields.value(line)) => fields.value(line),
        (0, _) if http10 => b"",
        _ => return Err(Refusal::Host),
    };
    match authority {
        Some(authority) if is_authority(authority) => Ok(authority),
        Some(_) => Err(Refusal::Host),
        None => Ok(field),
    }
}

/// `name[:port]` or `[v6][:port]`, without a user and without letters that need escapes.
pub(crate) fn is_authority(value: &[u8]) -> bool {
    let (name_fine, rest) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let fine = rest[..end].iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
            (end > 0 && fine, &rest[end + 1..])
        }
        _ => {
            let end = memchr::memchr(b':', value).unwrap_or(value.len());
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
            (end > 0 && value[..end].iter().all(plain), &value[end..])
        }
    };
    name_fine
        && match rest {
            [] => true,
            [b':', port @ ..] => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
            _ => false,
        }
}

/// Whether a value is one or more tokens with optional versions, as Upgrade has them (RFC 9110 §7.8).
pub(crate) fn is_protocol(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|byte| is_token_byte(*byte) || matches!(byte, b'/' | b',' | b' '))
}

const _: () = assert!(HEADERS_MAX == u128::BITS as usize);

#[cfg(test)]
mod tests {
    use watt_policies::fields::{OWN, OWN_BEGINNINGS, Own};

    use super::*;

    fn found(name: &str, own: Own) -> Found {
        let mut found = Found::new();
        let value: &[u8] = match (name, own) {
            ("expect", _) => b"100-continue",
            ("transfer-encoding", _) => b"chunked",
            _ => b"1",
        };
        found.take(5, name.as_bytes(), value).unwrap();
        found
    }

    #[test]
    fn what_is_the_proxys_to_say_has_its_place() {
        let beginnings = OWN_BEGINNINGS.map(|(begins, own)| (format!("{begins}x"), own));
        let all = OWN.map(|(name, own)| (name.to_owned(), own)).into_iter().chain(beginnings);
        for (name, own) in all.flat_map(|(name, own)| [(name.to_uppercase(), own), (name, own)]) {
            let found = found(&name.to_ascii_lowercase(), own);
            let is_taken = match own {
                Own::Connection => {
                    found.hop_by_hop.has(5) || found.expect.has(5) || found.framing == Framing::Chunked
                }
                Own::Host => found.host == Some(5),
                Own::Message => true,
                Own::Said => [
                    found.traceparent,
                    found.tracestate,
                    found.grpc_timeout,
                    found.timeout_ms,
                    found.forwarded,
                    found.forwarded_for,
                    found.forwarded_other,
                ]
                .iter()
                .any(|lines| lines.has(5)),
            };
            assert!(is_taken, "{name}");
            let lookalike = name.replace('-', "_");
            if lookalike != name {
                let mut found = Found::new();
                found.take(5, lookalike.as_bytes(), b"1").unwrap();
                assert!(found.lookalikes.has(5), "{lookalike}");
            }
        }
    }
}
