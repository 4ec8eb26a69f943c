//! Reads a response head, as strictly as a request's: a client must not see another response than the proxy saw.

use std::{fmt, mem::MaybeUninit};

use super::{
    buffer::LARGE,
    head::{Connection, Fields, Framing, FramingError, Lines, Storage, named_by_connection},
};
use crate::respond;

/// Why a worker's response is not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadResponse {
    Syntax,
    BareLf,
    Framing(FramingError),
    TooLarge,
    ConnectionField,
    /// 101 although nobody asked for it, or without saying to what.
    Upgrade,
    /// More interim responses than anybody sends in earnest.
    Interim,
}

impl fmt::Display for BadResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadResponse::Syntax => "it is not well-formed HTTP/1.1",
            BadResponse::BareLf => "a line of its head ends with LF alone",
            BadResponse::Framing(FramingError::LengthAndCoding) => {
                "it has both Content-Length and Transfer-Encoding"
            }
            BadResponse::Framing(FramingError::Length) => "its Content-Length is not one plain number",
            BadResponse::Framing(FramingError::Coding) => "its Transfer-Encoding is not `chunked` alone",
            BadResponse::TooLarge => "its head is too large",
            BadResponse::ConnectionField => "its Connection names a field that must not be removed",
            BadResponse::Upgrade => "it switches protocols unasked",
            BadResponse::Interim => "it sent too many interim responses",
        })
    }
}

/// A response head that passed. Borrows the bytes it was read from.
pub(crate) struct Response<'h, 'b> {
    pub(crate) fields: Fields<'h, 'b>,
    pub(crate) status: u16,
    pub(crate) http10: bool,
    pub(crate) framing: Framing,
    pub(crate) connection: Connection,
    /// Lines that go no further than this connection, without the framing.
    pub(crate) hop_by_hop: Lines,
    pub(crate) length_lines: Lines,
    pub(crate) coding_lines: Lines,
    pub(crate) upgrade: Lines,
    pub(crate) location: Lines,
    pub(crate) set_cookie: Lines,
    /// The status of gRPC, in a response without a message.
    pub(crate) grpc_status: Option<u8>,
    connection_lines: Lines,
}

/// Reads the head at the start of `input`; `None` when it is not there as a whole yet.
pub(crate) fn parse<'h, 'b>(
    input: &'b [u8],
    storage: &'h mut Storage<'b>,
) -> Result<Option<Response<'h, 'b>>, BadResponse> {
    let mut parsed = httparse::Response::new(&mut []);
    let headers: &'h mut [MaybeUninit<httparse::Header<'b>>] = storage;
    let found =
        httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, input, headers);
    let len = match found {
        Ok(httparse::Status::Complete(len)) if len <= LARGE => len,
        Ok(httparse::Status::Partial) if input.len() < LARGE => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(BadResponse::TooLarge),
        Err(_) => return Err(BadResponse::Syntax),
    };
    let (Some(status @ 100..=599), Some(minor)) = (parsed.code, parsed.version) else {
        return Err(BadResponse::Syntax);
    };
    let fields = Fields { bytes: &input[..len], headers: parsed.headers };
    if !fields.lines_end_with_crlf() {
        return Err(BadResponse::BareLf);
    }
    // The parser skips empty lines in front; a response that needs that is out of step.
    if !input.starts_with(b"HTTP/1.") {
        return Err(BadResponse::Syntax);
    }
    let mut response = Response::new(fields, status, minor == 0);
    response.scan()?;
    Ok(Some(response))
}

impl<'h, 'b> Response<'h, 'b> {
    fn new(fields: Fields<'h, 'b>, status: u16, http10: bool) -> Self {
        Response {
            fields,
            status,
            http10,
            framing: Framing::Unspecified,
            connection: Connection::default(),
            hop_by_hop: Lines::NONE,
            length_lines: Lines::NONE,
            coding_lines: Lines::NONE,
            upgrade: Lines::NONE,
            location: Lines::NONE,
            set_cookie: Lines::NONE,
            grpc_status: None,
            connection_lines: Lines::NONE,
        }
    }

    fn scan(&mut self) -> Result<(), BadResponse> {
        let headers = self.fields.headers;
        for (line, header) in headers.iter().enumerate() {
            self.take(line, header.name.as_bytes(), header.value).map_err(BadResponse::Framing)?;
        }
        if self.framing == Framing::Chunked && self.http10 {
            return Err(BadResponse::Framing(FramingError::Coding));
        }
        if self.connection.names_fields {
            let named = named_by_connection(&self.fields, self.connection_lines);
            self.hop_by_hop |= named.map_err(|_| BadResponse::ConnectionField)?;
        }
        Ok(())
    }

    fn take(&mut self, line: usize, name: &[u8], value: &[u8]) -> Result<(), FramingError> {
        let is = |other: &[u8]| name.eq_ignore_ascii_case(other);
        match name.len() {
            7 if is(b"upgrade") => {
                self.upgrade.add(line);
                self.hop_by_hop.add(line);
            }
            8 if is(b"location") => self.location.add(line),
            10 if is(b"connection") => {
                self.connection.read(value);
                self.connection_lines.add(line);
                self.hop_by_hop.add(line);
            }
            10 if is(b"keep-alive") => self.hop_by_hop.add(line),
            10 if is(b"set-cookie") => self.set_cookie.add(line),
            11 if is(b"grpc-status") => self.grpc_status = grpc_status(value),
            14 if is(b"content-length") => {
                self.framing.length(value)?;
                self.length_lines.add(line);
            }
            16 if is(b"proxy-connection") => self.hop_by_hop.add(line),
            17 if is(b"transfer-encoding") => {
                self.framing.coding(value)?;
                self.coding_lines.add(line);
            }
            18 if is(b"proxy-authenticate") => self.hop_by_hop.add(line),
            _ => {}
        }
        Ok(())
    }

    /// Whether the status rules a body out, whatever the fields say (RFC 9112 §6.3).
    pub(crate) fn is_bodiless(&self) -> bool {
        self.status < 200 || self.status == 204 || self.status == 304
    }

    /// Its status, or the one that its status of gRPC stands for.
    pub(crate) fn verdict(&self) -> u16 {
        match (self.status, self.grpc_status) {
            (200, Some(status)) => respond::status_of_grpc(status),
            (status, _) => status,
        }
    }

    /// Whether another request may follow on the worker's connection, as far as its fields say.
    pub(crate) fn keeps_alive(&self) -> bool {
        !self.connection.close && (!self.http10 || self.connection.keep_alive)
    }
}

/// One or two digits.
fn grpc_status(value: &[u8]) -> Option<u8> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{super::head::storage, *};

    #[track_caller]
    fn refused(head: &str) -> BadResponse {
        match parse(head.as_bytes(), &mut storage()) {
            Err(error) => error,
            Ok(response) => panic!("accepted {head:?}: complete {}", response.is_some()),
        }
    }

    #[test]
    fn responses_that_readers_would_disagree_on() {
        let framing = BadResponse::Framing;
        for (fields, expected) in [
            ("Content-Length: 5\r\nContent-Length: 5\r\n", framing(FramingError::Length)),
            ("Content-Length: 5, 5\r\n", framing(FramingError::Length)),
            ("Content-Length: +5\r\n", framing(FramingError::Length)),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", framing(FramingError::LengthAndCoding)),
            ("Transfer-Encoding: gzip, chunked\r\n", framing(FramingError::Coding)),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", framing(FramingError::Coding)),
            ("Connection: content-length\r\nContent-Length: 5\r\n", BadResponse::ConnectionField),
            ("X: a\n", BadResponse::BareLf),
            ("X : a\r\n", BadResponse::Syntax),
            ("X: a\r\n b\r\n", BadResponse::Syntax),
            ("X: a\rb\r\n", BadResponse::Syntax),
            ("X: a\x00b\r\n", BadResponse::Syntax),
            ("no colon\r\n", BadResponse::Syntax),
        ] {
            assert_eq!(refused(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")), expected, "{fields:?}");
        }
        assert_eq!(
            refused("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            framing(FramingError::Coding)
        );
        assert_eq!(refused("HTTP/2.0 200 OK\r\n\r\n"), BadResponse::Syntax);
        assert_eq!(refused("HTTP/1.1 700 No\r\n\r\n"), BadResponse::Syntax);
        assert_eq!(refused("\r\nHTTP/1.1 200 OK\r\n\r\n"), BadResponse::Syntax);
        assert_eq!(refused("HTTP/1.1 200 OK\n\n"), BadResponse::BareLf);
    }

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        let head = b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\nConnection: close, x-a\r\nX-A: 1\r\n\r\nrest";
        for end in 0..head.len() - 4 {
            assert!(matches!(parse(&head[..end], &mut storage()), Ok(None)), "{end}");
        }
        let mut room = storage();
        let response = parse(head, &mut room).unwrap().unwrap();
        assert_eq!((response.status, response.framing), (304, Framing::Length(10)));
        assert!(response.is_bodiless() && !response.keeps_alive());
        assert_eq!(response.hop_by_hop.iter().collect::<Vec<_>>(), [1, 2]);
    }
}
