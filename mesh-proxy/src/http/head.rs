//! What request heads and response heads have in common: their lines, which of them go on, and their framing.
//!
//! `httparse` finds the fields. It is laxer than a proxy may be (a lone LF ends a line), so what it found is
//! checked again here with the few comparisons that are left to do.

use std::{mem::MaybeUninit, ops::BitOrAssign};

use httparse::Header;
use watt_policies::fields;

/// The most fields that a head may have. Also the number of bits in a [`Lines`] mask.
pub(crate) const HEADERS_MAX: usize = 128;

/// Room for the fields that `httparse` finds, without the cost of clearing it.
pub(crate) type Storage<'b> = [MaybeUninit<Header<'b>>; HEADERS_MAX];

/// Empty storage.
pub(crate) const fn storage<'b>() -> Storage<'b> {
    [const { MaybeUninit::uninit() }; HEADERS_MAX]
}

/// A set of lines of a head, by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Lines(u128);

impl Lines {
    pub(crate) const NONE: Lines = Lines(0);

    pub(crate) fn add(&mut self, line: usize) {
        self.0 |= 1 << line;
    }

    pub(crate) fn remove(&mut self, line: usize) {
        self.0 &= !(1 << line);
    }

    pub(crate) fn has(self, line: usize) -> bool {
        self.0 & (1 << line) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// The lines in order.
    pub(crate) fn iter(mut self) -> impl Iterator<Item = usize> {
        std::iter::from_fn(move || {
            let line = self.0.trailing_zeros() as usize;
            (line < HEADERS_MAX).then(|| {
                self.0 &= self.0 - 1;
                line
            })
        })
    }
}

impl BitOrAssign for Lines {
    fn bitor_assign(&mut self, other: Lines) {
        self.0 |= other.0;
    }
}

/// The bytes of a head, from its first line to the empty one, with the fields found in them.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'h, 'b> {
    /// From the first byte of the first line to the end of the empty line.
    pub(crate) bytes: &'b [u8],
    pub(crate) headers: &'h [Header<'b>],
}

impl<'b> Fields<'_, 'b> {
    /// Whether each line, the first and the empty one included, ends with CRLF, and each field starts where
    /// the line before it ended.
    pub(crate) fn lines_end_with_crlf(&self) -> bool {
        let crlf_before = |at: usize| at >= 2 && &self.bytes[at - 2..at] == b"\r\n";
        crlf_before(self.bytes.len())
            && crlf_before(self.bytes.len() - 2)
            && (0..self.headers.len()).all(|line| crlf_before(self.start_of(line)))
    }

    /// Where a line starts; one past the last field is the empty line.
    pub(crate) fn start_of(&self, line: usize) -> usize {
        match self.headers.get(line) {
            Some(header) => header.name.as_ptr() as usize - self.bytes.as_ptr() as usize,
            None => self.bytes.len() - 2,
        }
    }

    /// A field's value.
    pub(crate) fn value(&self, line: usize) -> &'b [u8] {
        self.headers[line].value
    }

    /// Appends what starts at `from` and goes to the last field, byte by byte as it came, without the lines in `drop`
    /// and without the empty line.
    pub(crate) fn copy_lines(&self, from: usize, drop: Lines, out: &mut Vec<u8>) {
        let mut kept = from;
        for line in drop.iter() {
            out.extend_from_slice(&self.bytes[kept..self.start_of(line)]);
            kept = self.start_of(line + 1);
        }
        out.extend_from_slice(&self.bytes[kept..self.start_of(self.headers.len())]);
    }
}

/// How long a message's body is (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Neither length nor coding was given.
    Unspecified,
    /// Content-Length.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
}

/// What is wrong with the framing fields of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FramingError {
    /// Both lengths.
    LengthAndCoding,
    /// Content-Length is there twice or is not a plain number.
    Length,
    /// Transfer-Encoding is there twice or is not `chunked` alone.
    Coding,
}

impl Framing {
    /// Takes in one Content-Length field.
    pub(crate) fn length(&mut self, value: &[u8]) -> Result<(), FramingError> {
        match self {
            Framing::Unspecified => {}
            Framing::Length(_) => return Err(FramingError::Length),
            Framing::Chunked => return Err(FramingError::LengthAndCoding),
        }
        // 18 digits fit in 64 bits, signed or not.
        if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
            return Err(FramingError::Length);
        }
        let length = value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0'));
        *self = Framing::Length(length);
        Ok(())
    }

    /// Takes in one Transfer-Encoding field.
    pub(crate) fn coding(&mut self, value: &[u8]) -> Result<(), FramingError> {
        match self {
            Framing::Unspecified => {}
            Framing::Length(_) => return Err(FramingError::LengthAndCoding),
            Framing::Chunked => return Err(FramingError::Coding),
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return Err(FramingError::Coding);
        }
        *self = Framing::Chunked;
        Ok(())
    }
}

/// What the Connection fields of a head ask for (RFC 9110 §7.6.1).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Connection {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
    /// Other fields are named, that go no further than this connection.
    pub(crate) names_fields: bool,
}

impl Connection {
    /// Takes in one field.
    pub(crate) fn read(&mut self, value: &[u8]) {
        for option in list(value) {
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else if !option.is_empty() {
                self.names_fields = true;
            }
        }
    }
}

/// Names a field that would change what the message means if it went missing on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NamesNeededField;

/// The lines that the Connection fields in `lines` name.
pub(crate) fn named_by_connection(fields: &Fields<'_, '_>, lines: Lines) -> Result<Lines, NamesNeededField> {
    let mut named = Lines::NONE;
    for option in lines.iter().flat_map(|line| list(fields.value(line))) {
        let needed = [&b"host"[..], b"content-length", b"transfer-encoding", b"authorization", b"cookie"];
        if needed.iter().any(|name| option.eq_ignore_ascii_case(name)) {
            return Err(NamesNeededField);
        }
        for (line, header) in fields.headers.iter().enumerate() {
            if header.name.as_bytes().eq_ignore_ascii_case(option) {
                named.add(line);
            }
        }
    }
    Ok(named)
}

/// The elements of a comma-separated value, without the white space around them.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(trim)
}

/// Without spaces and tabs at both ends.
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether a name is one that the proxy owns or that frames, for programs that read `_` as `-` as CGI does (RFC 3875
/// §4.1.18).
pub(super) fn is_lookalike(name: &[u8]) -> bool {
    memchr::memchr(b'_', name).is_some() && fields::own_folded(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_plain_numbers_and_there_once() {
        for value in
            ["", "+5", "-5", "5 5", "5,5", "0x5", "5.0", "18446744073709551621", "1234567890123456789"]
        {
            assert_eq!(Framing::Unspecified.length(value.as_bytes()), Err(FramingError::Length), "{value}");
        }
        let mut framing = Framing::Unspecified;
        assert_eq!(framing.length(b"0042"), Ok(()));
        assert_eq!(framing, Framing::Length(42));
        assert_eq!(framing.length(b"42"), Err(FramingError::Length));
        assert_eq!(framing.coding(b"chunked"), Err(FramingError::LengthAndCoding));
    }

    #[test]
    fn sets_of_lines_come_out_in_order() {
        let mut lines = Lines::NONE;
        for line in [127, 0, 5] {
            lines.add(line);
        }
        assert_eq!(lines.iter().collect::<Vec<_>>(), [0, 5, 127]);
        assert_eq!(lines.len(), 3);
    }
}
