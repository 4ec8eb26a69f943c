//! A stored response as an answer, and what is said of how it came to be (`Cache-Status`, RFC 9211).

use std::io::Write;

use crate::{conditions::Part, date, entry::Entry, facts::Moment, judge::Unstorable};

/// How the cache was of use to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The answer was stored.
    Hit,
    /// Another request for the same got it just now.
    Collapsed,
    /// The service was asked, and said that the stored one is right.
    Validated,
    /// The service was asked, and gave this status; the stored one is the answer all the same.
    Covered(u16),
    /// The service could not be asked; the stored one is the answer all the same.
    Unreachable,
    /// Nothing was stored for this URI, and whether the service's answer is stored now.
    Missed(Result<(), Unstorable>),
    /// What is stored for this URI is for other requests.
    MissedVariant(Result<(), Unstorable>),
    /// What is stored was stale, or is to be asked for each time, and the service had another one.
    Replaced(Result<(), Unstorable>),
    /// The request is none for a cache.
    Bypassed,
    /// Its method is none that is answered by what is stored.
    Method,
}

impl Told {
    /// The line, with its end.
    pub fn write(self, ttl_s: Option<i64>, out: &mut Vec<u8>) {
        let stored = |result: Result<(), Unstorable>, out: &mut Vec<u8>| match result {
            Ok(()) => out.extend_from_slice(b"; stored"),
            // Writing to memory does not fail.
            Err(why) => drop(write!(out, "; detail={}", why.word())),
        };
        out.extend_from_slice(b"Cache-Status: watt; ");
        match self {
            Told::Hit => out.extend_from_slice(b"hit"),
            Told::Collapsed => out.extend_from_slice(b"fwd=uri-miss; collapsed"),
            Told::Validated => out.extend_from_slice(b"fwd=stale; fwd-status=304"),
            Told::Covered(status) => {
                drop(write!(out, "fwd=stale; fwd-status={status}; detail=stale-if-error"))
            }
            Told::Unreachable => out.extend_from_slice(b"fwd=stale; detail=stale-if-error"),
            Told::Missed(result) => {
                out.extend_from_slice(b"fwd=uri-miss");
                stored(result, out);
            }
            Told::MissedVariant(result) => {
                out.extend_from_slice(b"fwd=vary-miss");
                stored(result, out);
            }
            Told::Replaced(result) => {
                out.extend_from_slice(b"fwd=stale");
                stored(result, out);
            }
            Told::Bypassed => out.extend_from_slice(b"fwd=bypass"),
            Told::Method => out.extend_from_slice(b"fwd=method"),
        }
        if let Some(ttl_s) = ttl_s {
            let _ = write!(out, "; ttl={ttl_s}");
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Fields that describe the whole of a body, and so neither nothing of it nor a part.
fn describes_body(name: &[u8]) -> bool {
    const NAMES: [&[u8]; 6] = [
        b"content-type",
        b"content-encoding",
        b"content-language",
        b"content-range",
        b"content-md5",
        b"content-disposition",
    ];
    NAMES.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// Writes the head of an answer that has this part of a stored response, to its empty line; `lines` are more fields, each with its end. Returns the
/// bytes of the body that follow.
pub fn write_head(
    entry: &Entry,
    part: Part,
    told: Told,
    lines: &[u8],
    now: Moment,
    out: &mut Vec<u8>,
) -> std::ops::Range<usize> {
    let len = entry.body().len();
    let mut head = entry.head().split_inclusive(|byte| *byte == b'\n');
    let status_line = head.next().unwrap_or_default();
    match part {
        Part::Whole => out.extend_from_slice(status_line),
        Part::NotModified => out.extend_from_slice(b"HTTP/1.1 304 Not Modified\r\n"),
        Part::Range(..) => out.extend_from_slice(b"HTTP/1.1 206 Partial Content\r\n"),
        Part::Unsatisfiable => out.extend_from_slice(b"HTTP/1.1 416 Range Not Satisfiable\r\n"),
    }
    let mut has_date = false;
    for line in head {
        let name = &line[..memchr::memchr(b':', line).unwrap_or(0)];
        has_date |= name.eq_ignore_ascii_case(b"date");
        let is_left_out = match part {
            Part::Whole => false,
            Part::NotModified | Part::Unsatisfiable => describes_body(name),
            Part::Range(..) => name.eq_ignore_ascii_case(b"content-range"),
        };
        if !is_left_out {
            out.extend_from_slice(line);
        }
    }
    let facts = entry.facts();
    // Whoever counts its age needs to know from when.
    if !has_date {
        let _ = write!(out, "Date: {}\r\n", date::text(facts.date_s));
    }
    let body = match part {
        Part::Whole => 0..len,
        Part::Range(first, last) => {
            let _ = write!(out, "Content-Range: bytes {first}-{last}/{len}\r\n");
            first..last + 1
        }
        Part::Unsatisfiable => {
            let _ = write!(out, "Content-Range: bytes */{len}\r\n");
            0..0
        }
        Part::NotModified => 0..0,
    };
    if part != Part::NotModified && facts.status != 204 {
        let _ = write!(out, "Content-Length: {}\r\n", body.len());
    }
    let _ = write!(out, "Age: {}\r\n", facts.age_s(now));
    told.write(Some(facts.ttl_s(now)), out);
    out.extend_from_slice(lines);
    out.extend_from_slice(b"\r\n");
    body
}
