//! The framing of chunked bodies (RFC 9112 §7.1), read strictly.
//!
//! A body is passed on with the framing it came with, so every byte of framing that is let through must mean the
//! same to whoever reads it next. A line counts only once it is there as a whole; nothing of a line that is still
//! incomplete is passed on.

use std::fmt;

use watt_policies::fields;

use super::head::is_token_byte;

/// The longest size line with its extensions.
const LINE_MAX: usize = 4 << 10;

/// All trailer fields together, or one alone: gRPC's details of an error are one.
const TRAILERS_MAX: usize = 16 << 10;

/// Sizes have at most 15 digits that count, so that 64 bits hold them anywhere.
const SIZE_DIGITS_MAX: usize = 15;

/// Where in a chunked body the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunked {
    state: State,
    /// Fields may follow the body.
    has_trailers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the start of a size line.
    Size,
    /// Within a chunk, with so many bytes left.
    Data(u64),
    /// At the CRLF after a chunk's data.
    DataEnd,
    /// After the last chunk, at the start of a trailer line; so many bytes of trailers were read.
    Trailers(usize),
    Done,
}

/// The next bytes of a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece {
    /// So many bytes of framing or trailers.
    Framing(usize),
    /// So many bytes of data.
    Data(usize),
    /// Nothing can be said before more bytes are there.
    More,
}

/// What is wrong with the framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkError {
    Size,
    Extension,
    DataEnd,
    LineEnd,
    Trailer,
    TrailerForbidden,
    LineTooLong,
    /// More data than a body may have.
    TooMuch,
}

impl fmt::Display for ChunkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChunkError::Size => "a chunk's size is not a plain hexadecimal number",
            ChunkError::Extension => "a chunk's extension is malformed",
            ChunkError::DataEnd => "a chunk's data does not end with CRLF",
            ChunkError::LineEnd => "a line of the chunked framing does not end with CRLF",
            ChunkError::Trailer => "a trailer field is malformed",
            ChunkError::TrailerForbidden => "a trailer field may only be sent as a header",
            ChunkError::TooMuch => "the body is larger than it may be",
            ChunkError::LineTooLong => "a chunk's size line or the trailers are too long",
        })
    }
}

impl Chunked {
    pub(crate) fn new() -> Chunked {
        Chunked { state: State::Size, has_trailers: true }
    }

    /// One that may have no trailers: some programs take them for headers, and those of this message are changed.
    pub(crate) fn without_trailers(self) -> Chunked {
        Chunked { has_trailers: false, ..self }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Whether the next line is a trailer or the empty one after them.
    pub(crate) fn is_in_trailers(&self) -> bool {
        matches!(self.state, State::Trailers(_))
    }

    /// Whether a field of this name may be one.
    pub(crate) fn allows_trailer(name: &[u8]) -> bool {
        let is = |other: &&str| name.eq_ignore_ascii_case(other.as_bytes());
        fields::own_folded(name).is_none() && !FORBIDDEN.iter().any(|other| is(&other))
    }

    /// What the next bytes are. `input` starts where the last piece ended.
    pub(crate) fn next(&mut self, input: &[u8]) -> Result<Piece, ChunkError> {
        match self.state {
            State::Size => {
                let Some(line) = line(input, LINE_MAX)? else { return Ok(Piece::More) };
                let size = parse_size_line(line)?;
                self.state = if size == 0 { State::Trailers(0) } else { State::Data(size) };
                Ok(Piece::Framing(line.len() + 2))
            }
            State::Data(left) => {
                let len = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                if len == 0 {
                    return Ok(Piece::More);
                }
                let left = left - len as u64;
                self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
                Ok(Piece::Data(len))
            }
            State::DataEnd => match input {
                [b'\r', b'\n', ..] => {
                    self.state = State::Size;
                    Ok(Piece::Framing(2))
                }
                [] | [b'\r'] => Ok(Piece::More),
                _ => Err(ChunkError::DataEnd),
            },
            State::Trailers(before) => self.trailer_line(before, input),
            State::Done => Ok(Piece::More),
        }
    }

    fn trailer_line(&mut self, before: usize, input: &[u8]) -> Result<Piece, ChunkError> {
        let Some(line) = line(input, TRAILERS_MAX)? else { return Ok(Piece::More) };
        if line.is_empty() {
            self.state = State::Done;
            return Ok(Piece::Framing(2));
        }
        check_trailer(line)?;
        if !self.has_trailers {
            return Err(ChunkError::TrailerForbidden);
        }
        let read = before + line.len() + 2;
        if read > TRAILERS_MAX {
            return Err(ChunkError::LineTooLong);
        }
        self.state = State::Trailers(read);
        Ok(Piece::Framing(line.len() + 2))
    }
}

/// The first line without its CRLF. A lone LF does not end a line, and a lone CR is in none.
fn line(input: &[u8], max: usize) -> Result<Option<&[u8]>, ChunkError> {
    let window = &input[..input.len().min(max)];
    match memchr::memchr2(b'\r', b'\n', window) {
        Some(at) if window[at] == b'\n' => Err(ChunkError::LineEnd),
        Some(at) => match input.get(at + 1) {
            Some(b'\n') => Ok(Some(&input[..at])),
            Some(_) => Err(ChunkError::LineEnd),
            None => Ok(None),
        },
        None if input.len() >= max => Err(ChunkError::LineTooLong),
        None => Ok(None),
    }
}

/// `1*HEXDIG *( ";" ext )`. White space around the size is allowed nowhere: parsers disagree on it.
fn parse_size_line(line: &[u8]) -> Result<u64, ChunkError> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    match line.get(digits) {
        _ if digits == 0 => return Err(ChunkError::Size),
        None => {}
        Some(b';') => check_extension(&line[digits..])?,
        Some(_) => return Err(ChunkError::Size),
    }
    let mut size: u64 = 0;
    let mut counted = 0;
    for digit in &line[..digits] {
        size = size << 4 | u64::from((*digit as char).to_digit(16).unwrap_or(0));
        counted += usize::from(size != 0);
        if counted > SIZE_DIGITS_MAX {
            return Err(ChunkError::Size);
        }
    }
    Ok(size)
}

/// Extensions are passed on unread, so they only have to be bytes that end no line anywhere.
fn check_extension(extension: &[u8]) -> Result<(), ChunkError> {
    let plain = |byte: &u8| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..);
    if extension.iter().all(plain) { Ok(()) } else { Err(ChunkError::Extension) }
}

/// `token ":" value`, and no field that frames, routes, authenticates or says who the client is (RFC 9110 §6.5.1).
fn check_trailer(line: &[u8]) -> Result<(), ChunkError> {
    let colon = memchr::memchr(b':', line).ok_or(ChunkError::Trailer)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let value_fine = value.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..));
    if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) || !value_fine {
        return Err(ChunkError::Trailer);
    }
    if Chunked::allows_trailer(name) { Ok(()) } else { Err(ChunkError::TrailerForbidden) }
}

const FORBIDDEN: [&str; 7] = [
    "authorization",
    "cache-control",
    "content-encoding",
    "content-range",
    "content-type",
    "cookie",
    "set-cookie",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `input` in pieces that end at `cuts`. Returns the data and how many bytes belong to the body.
    fn read(input: &[u8], cuts: &[usize]) -> Result<Option<(Vec<u8>, usize)>, ChunkError> {
        let (mut chunked, mut data, mut at) = (Chunked::new(), Vec::new(), 0);
        for end in cuts.iter().copied().filter(|cut| *cut <= input.len()).chain([input.len()]) {
            loop {
                match chunked.next(&input[at.min(end)..end])? {
                    Piece::More => break,
                    Piece::Framing(len) => at += len,
                    Piece::Data(len) => {
                        data.extend_from_slice(&input[at..at + len]);
                        at += len;
                    }
                }
            }
        }
        Ok(chunked.is_done().then_some((data, at)))
    }

    #[track_caller]
    fn check(input: &[u8], expected: Result<Option<&str>, ChunkError>) {
        let found = read(input, &[]).map(|body| body.map(|(data, _)| String::from_utf8(data).unwrap()));
        assert_eq!(
            found,
            expected.map(|body| body.map(str::to_owned)),
            "{:?}",
            String::from_utf8_lossy(input)
        );
    }

    #[test]
    fn well_formed_bodies() {
        check(b"0\r\n\r\n", Ok(Some("")));
        check(b"5\r\nhello\r\n0\r\n\r\n", Ok(Some("hello")));
        check(b"0005\r\nhello\r\n00\r\n\r\n", Ok(Some("hello")));
        check(b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", Ok(Some("01234567890123456789")));
        check(b"5;a=b;c\r\nhello\r\n0;last\r\n\r\n", Ok(Some("hello")));
        check(b"5\r\nhello\r\n0\r\nX-T: 1\r\ngrpc-status:0\r\n\r\n", Ok(Some("hello")));
        check(b"5\r\nhel", Ok(None));
        check(b"5\r\nhello\r\n0\r\n", Ok(None));
    }

    #[test]
    fn sizes_that_are_not_plain_hexadecimal() {
        for size in
            ["", "-5", "+5", "0x5", " 5", "5 ", "5_", "5\t;x", "g", "10000000000000005", "fffffffffffffffff"]
        {
            check(format!("{size}\r\nhello\r\n0\r\n\r\n").as_bytes(), Err(ChunkError::Size));
        }
    }

    #[test]
    fn line_ends_that_are_not_crlf() {
        check(b"5\nhello\r\n0\r\n\r\n", Err(ChunkError::LineEnd));
        check(b"5\rX\r\nhello\r\n0\r\n\r\n", Err(ChunkError::LineEnd));
        check(b"5;\nhello\r\n0\r\n\r\n", Err(ChunkError::LineEnd));
        check(b"5;\x00\r\nhello\r\n0\r\n\r\n", Err(ChunkError::Extension));
        check(b"5\r\nhello\n0\r\n\r\n", Err(ChunkError::DataEnd));
        check(b"5\r\nhello0\r\n\r\n", Err(ChunkError::DataEnd));
        check(b"5\r\nhello\r\n0\n\r\n", Err(ChunkError::LineEnd));
        check(b"0\r\n\n", Err(ChunkError::LineEnd));
    }

    #[test]
    fn trailers_that_could_change_the_message() {
        check(b"0\r\nA : b\r\n\r\n", Err(ChunkError::Trailer));
        check(b"0\r\nno colon\r\n\r\n", Err(ChunkError::Trailer));
        check(b"0\r\n: x\r\n\r\n", Err(ChunkError::Trailer));
        check(b"0\r\n folded: x\r\n\r\n", Err(ChunkError::Trailer));
        check(b"0\r\nX: a\x00b\r\n\r\n", Err(ChunkError::Trailer));
        for name in [
            "Content-Length",
            "transfer-encoding",
            "HOST",
            "Authorization",
            "Forwarded",
            "X-Forwarded-For",
            "Grpc-Timeout",
            "X-Request-Timeout-Ms",
            "Client-Cert",
            "client-cert-chain",
            "X-Client-Cert-Subject",
            "X_Client_Cert_Subject",
            "X_Forwarded_For",
        ] {
            check(format!("0\r\n{name}: 9\r\n\r\n").as_bytes(), Err(ChunkError::TrailerForbidden));
        }
    }

    #[test]
    fn lines_without_end() {
        check(&[b'1'; LINE_MAX], Err(ChunkError::LineTooLong));
        let many = format!("0\r\n{}\r\n", "x: y\r\n".repeat(TRAILERS_MAX));
        check(many.as_bytes(), Err(ChunkError::LineTooLong));
    }

    proptest::proptest! {
        /// However the bytes of a body are cut up, its data and its length are the same.
        #[test]
        fn any_split_reads_the_same(
            chunks in proptest::collection::vec(proptest::collection::vec(0u8.., 1..40), 0..8),
            mut cuts in proptest::collection::vec(0usize..400, 0..12),
            trailers in 0usize..3,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:x};x=y\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n");
            wire.extend_from_slice("X-T: v\r\n".repeat(trailers).as_bytes());
            wire.extend_from_slice(b"\r\n");
            let len = wire.len();
            wire.extend_from_slice(b"GET /next");
            cuts.sort_unstable();
            proptest::prop_assert_eq!(read(&wire, &cuts), Ok(Some((chunks.concat(), len))));
        }

        /// Whatever comes, the reader neither panics nor claims bytes that are not there.
        #[test]
        fn arbitrary_bytes_do_no_harm(wire in proptest::collection::vec(
            proptest::sample::select(b"0123456789abcdefx;= \t\r\n\x00:A".to_vec()), 0..200)) {
            let mut chunked = Chunked::new();
            let mut rest = &wire[..];
            while let Ok(piece) = chunked.next(rest) {
                match piece {
                    Piece::More => break,
                    Piece::Framing(len) | Piece::Data(len) => {
                        proptest::prop_assert!(len > 0 && len <= rest.len());
                        rest = &rest[len..];
                    }
                }
            }
        }
    }
}
