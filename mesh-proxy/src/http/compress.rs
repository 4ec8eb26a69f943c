//! Responses that get smaller on their way: which ones, in which coding, and the coding itself.
//!
//! What must not be touched is left as it is (RFC 9110 §7.7): what is coded already, a part, a stream of events, gRPC, and whatever says
//! `no-transform`. What came of a read is passed on before the next one is waited for, so that a service that sends something now and then is heard
//! now and then.

use std::{cell::Cell, io, io::Write, rc::Rc};

use brotli::CompressorWriter;
use flate2::{Compression, write::GzEncoder};
use watt_api::mesh;
use zstd::stream::write::Encoder as ZstdEncoder;

use super::{
    head::{Framing, Lines, list},
    request::{Method, Request},
    response::Response,
};
use crate::{files::Coding, thread::Thread};

/// How well: levels that take some ten milliseconds of a processor for a megabyte, and windows of 512 KB at most.
const GZIP_LEVEL: u32 = 5;
const BROTLI_QUALITY: u32 = 4;
const BROTLI_WINDOW_BITS: u32 = 19;
const ZSTD_LEVEL: i32 = 3;
const ZSTD_WINDOW_BITS: u32 = 19;

/// How many responses a thread compresses at a time: each takes up to about 2 MB. Others go on as they are.
const ENCODERS_MAX: usize = 32;

/// What is handed to an encoder before others have their turn: some tenths of a millisecond.
pub(super) const PIECE_MAX: usize = 8 << 10;

/// What says of a response's bytes what would not be so of others.
const OF_THE_BYTES: [&str; 7] = [
    "content-encoding",
    "content-range",
    "content-digest",
    "repr-digest",
    "digest",
    "content-md5",
    "trailer",
];

/// What of responses is compressed along a route.
#[derive(Debug)]
pub(crate) struct Rules {
    codings: Box<[Coding]>,
    types: Box<[Box<str>]>,
    len_min: u64,
}

impl Rules {
    pub(crate) fn new(rules: &mesh::Compress) -> Rules {
        let mesh::Compress { codings, types, len_min } = rules;
        let coding = |name: &String| Coding::ALL.into_iter().find(|coding| coding.name() == name);
        Rules {
            codings: codings.iter().filter_map(coding).collect(),
            types: types.iter().map(|name| name.to_ascii_lowercase().into()).collect(),
            len_min: *len_min,
        }
    }

    /// `text/*`, `application/json`, and `*+json`.
    fn takes(&self, content_type: &[u8]) -> bool {
        let name = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let name = name.to_ascii_lowercase();
        let never = name == b"text/event-stream" || name.starts_with(b"application/grpc");
        let is = |wanted: &str| match (wanted.strip_suffix('*'), wanted.strip_prefix('*')) {
            (Some(start), _) => name.starts_with(start.as_bytes()),
            (None, Some(end)) => name.ends_with(end.as_bytes()),
            (None, None) => name == wanted.as_bytes(),
        };
        !never && self.types.iter().any(|wanted| is(wanted))
    }
}

/// What a request lets be done with its response.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    rules: Rc<Rules>,
    /// What the client takes: the best of it, if anything.
    coding: Option<Coding>,
    /// It has a copy whose tag is a weak one.
    holds_weak: bool,
}

impl Wanted {
    /// `None` where nothing may be done.
    pub(crate) fn of(rules: &Rc<Rules>, request: &Request<'_, '_>) -> Option<Wanted> {
        if request.http10 || request.found.grpc {
            return None;
        }
        let (mut accepted, mut holds_weak) = (Vec::new(), false);
        for header in request.fields.headers {
            let is = |name: &str| header.name.eq_ignore_ascii_case(name);
            if is("accept-encoding") {
                accepted.extend_from_slice(header.value);
                accepted.push(b',');
            } else if is("if-none-match") {
                holds_weak |= memchr::memmem::find(header.value, b"W/").is_some();
            } else if is("cache-control") && has(header.value, b"no-transform") {
                return None;
            }
        }
        let accepted = crate::files::accepted(&accepted);
        let coding = rules.codings.iter().copied().find(|coding| accepted.contains(coding));
        Some(Wanted { rules: Rc::clone(rules), coding, holds_weak })
    }
}

fn has(value: &[u8], directive: &[u8]) -> bool {
    list(value).any(|element| element.eq_ignore_ascii_case(directive))
}

/// What becomes of a response.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) coding: Option<Coding>,
    /// Lines in place of those that were added to the ones that go.
    pub(super) lines: Vec<u8>,
}

/// Whether a response is compressed. One that would be for another client says that it differs by that (RFC 9110 §12.5.5).
pub(super) fn choose(
    wanted: &Wanted,
    method: Method,
    response: &Response<'_, '_>,
    thread: &Thread,
    drop: &mut Lines,
) -> Chosen {
    let mut chosen = Chosen::default();
    if response.status == 304 {
        // It is about the copy that the client has, and has the tag of that.
        if wanted.coding.is_some() && wanted.holds_weak {
            chosen.vary(response);
            chosen.weaken(response, drop);
        }
        return chosen;
    }
    if !is_fit(&wanted.rules, response) {
        return chosen;
    }
    chosen.vary(response);
    let is_free = method == Method::Head || thread.encoders.get() < ENCODERS_MAX;
    let Some(coding) = wanted.coding.filter(|_| is_free) else { return chosen };
    chosen.coding = Some(coding);
    chosen.lines.extend_from_slice(format!("Content-Encoding: {}\r\n", coding.name()).as_bytes());
    *drop |= response.length_lines;
    *drop |= response.coding_lines;
    for (line, header) in response.fields.headers.iter().enumerate() {
        if header.name.eq_ignore_ascii_case("accept-ranges") {
            drop.add(line);
        }
    }
    chosen.weaken(response, drop);
    chosen
}

impl Chosen {
    fn vary(&mut self, response: &Response<'_, '_>) {
        let mut varies =
            response.fields.headers.iter().filter(|header| header.name.eq_ignore_ascii_case("vary"));
        let says_so =
            |header: &httparse::Header<'_>| has(header.value, b"accept-encoding") || has(header.value, b"*");
        if !varies.any(says_so) {
            self.lines.extend_from_slice(b"Vary: Accept-Encoding\r\n");
        }
    }

    /// The bytes are others, and what they say is the same (RFC 9110 §8.8.1).
    fn weaken(&mut self, response: &Response<'_, '_>, drop: &mut Lines) {
        for (line, header) in response.fields.headers.iter().enumerate() {
            let is_tag = header.name.eq_ignore_ascii_case("etag");
            if is_tag && !header.value.starts_with(b"W/") && !drop.has(line) {
                drop.add(line);
                self.lines.extend_from_slice(b"ETag: W/");
                self.lines.extend_from_slice(header.value);
                self.lines.extend_from_slice(b"\r\n");
            }
        }
    }
}

fn is_fit(rules: &Rules, response: &Response<'_, '_>) -> bool {
    let is_whole = matches!(response.status, 200..=203 | 207..=299 | 400..=599) && !response.is_bodiless();
    let is_long = match response.framing {
        Framing::Length(length) => length >= rules.len_min.max(1),
        Framing::Chunked | Framing::Unspecified => true,
    };
    let mut is_of_type = false;
    for header in response.fields.headers {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if OF_THE_BYTES.into_iter().any(is) || is("cache-control") && has(header.value, b"no-transform") {
            return false;
        }
        if is("content-type") {
            is_of_type = rules.takes(header.value);
        }
    }
    is_whole && is_long && is_of_type
}

/// A response that is being compressed.
pub(super) struct Encoder {
    kind: Kind,
    _place: Place,
}

enum Kind {
    Gzip(GzEncoder<Vec<u8>>),
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
    Done,
}

/// A place among the encoders of a thread.
struct Place(Rc<Thread>);

impl Drop for Place {
    fn drop(&mut self) {
        let encoders: &Cell<usize> = &self.0.encoders;
        encoders.set(encoders.get() - 1);
    }
}

impl Encoder {
    /// Fails when there is no memory for it.
    pub(super) fn new(coding: Coding, thread: &Rc<Thread>) -> io::Result<Encoder> {
        thread.encoders.set(thread.encoders.get() + 1);
        let place = Place(Rc::clone(thread));
        let kind = match coding {
            Coding::Gzip => Kind::Gzip(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL))),
            Coding::Brotli => Kind::Brotli(Box::new(CompressorWriter::new(
                Vec::new(),
                PIECE_MAX,
                BROTLI_QUALITY,
                BROTLI_WINDOW_BITS,
            ))),
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(ZSTD_WINDOW_BITS)?;
                Kind::Zstd(encoder)
            }
        };
        Ok(Encoder { kind, _place: place })
    }

    /// Takes data in: no more than [`PIECE_MAX`] of it at a time.
    pub(super) fn write(&mut self, data: &[u8]) -> io::Result<()> {
        match &mut self.kind {
            Kind::Gzip(encoder) => encoder.write_all(data),
            Kind::Brotli(encoder) => encoder.write_all(data),
            Kind::Zstd(encoder) => encoder.write_all(data),
            Kind::Done => Ok(()),
        }
    }

    /// Appends what has come of the data as a chunk: all of it where nothing else is there for now, which costs some of the gain.
    pub(super) fn take(&mut self, all: bool, out: &mut Vec<u8>) -> io::Result<()> {
        if all {
            match &mut self.kind {
                Kind::Gzip(encoder) => encoder.flush()?,
                Kind::Brotli(encoder) => encoder.flush()?,
                Kind::Zstd(encoder) => encoder.flush()?,
                Kind::Done => {}
            }
        }
        let made = match &mut self.kind {
            Kind::Gzip(encoder) => encoder.get_mut(),
            Kind::Brotli(encoder) => encoder.get_mut(),
            Kind::Zstd(encoder) => encoder.get_mut(),
            Kind::Done => return Ok(()),
        };
        chunk(made, out);
        made.clear();
        Ok(())
    }

    /// Appends the rest, and the last chunk.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let rest = match std::mem::replace(&mut self.kind, Kind::Done) {
            Kind::Gzip(encoder) => encoder.finish()?,
            Kind::Brotli(encoder) => encoder.into_inner(),
            Kind::Zstd(encoder) => encoder.finish()?,
            Kind::Done => return Ok(()),
        };
        chunk(&rest, out);
        out.extend_from_slice(b"0\r\n\r\n");
        Ok(())
    }
}

fn chunk(data: &[u8], out: &mut Vec<u8>) {
    // An empty one would be the last.
    if !data.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}
