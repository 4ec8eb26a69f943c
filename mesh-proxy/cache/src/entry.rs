//! A stored response, and how one is made.

use std::{
    mem::MaybeUninit,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use httparse::Header;

use crate::{
    conditions::{Conditions, Part, Validators},
    date,
    facts::{Facts, Moment},
    fields::{Fields, is_token},
    judge::{Cookies, Judged, Settings, Unstorable, judge},
    request::Asked,
    store::{Place, Reserved},
    vary::Selecting,
};

/// What an entry takes beside what it is made of: its parts in the store and the heads of allocations.
const OVERHEAD: usize = 512;

/// The most tags of a response.
const TAGS_MAX: usize = 128;

/// A stored response.
#[derive(Debug)]
pub struct Entry {
    made: Making,
    body: Bytes,
    uri: Arc<[u8]>,
    place: Place,
    /// The memory that it takes, until nobody uses it any longer.
    reserved: Reserved,
    /// Another one is being got in its place.
    is_refreshed: AtomicBool,
}

/// One that has no body yet.
#[derive(Debug, Clone)]
pub struct Making {
    /// The status line and the fields, each with its end, without what frames a body and what says how old it is.
    head: Vec<u8>,
    /// How fresh it is.
    pub facts: Facts,
    etag: Option<Box<[u8]>>,
    last_modified: Option<Box<[u8]>>,
    tags: Box<[Box<[u8]>]>,
    selecting: Selecting,
}

/// Which fields are asked for besides those that a response names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Naming {
    /// Fields of requests that every response is chosen by.
    pub vary: Box<[Box<str>]>,
    /// The field that tags come in, in lower case.
    pub tags: Option<Box<str>>,
}

/// Fields that are of one connection or one message, and of no stored response.
const NEVER_STORED: [&str; 15] = [
    "age",
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "x-mirrored",
];

/// Fields that say what the stored bytes are, which another message does not change.
const OF_THE_BYTES: [&str; 4] = ["content-encoding", "content-md5", "content-range", "etag"];

fn is_one_of(names: &[&str], name: &str) -> bool {
    names.iter().any(|other| other.eq_ignore_ascii_case(name))
}

impl Making {
    /// Of a response that may be stored. `hop_by_hop` are the numbers of lines that were for the connection it came on.
    pub fn new(
        status_line: &[u8],
        response: Fields<'_>,
        hop_by_hop: impl Fn(usize) -> bool,
        judged: Judged,
        request: Fields<'_>,
        naming: &Naming,
    ) -> Making {
        let mut head = Vec::with_capacity(512);
        head.extend_from_slice(status_line);
        head.extend_from_slice(b"\r\n");
        for (number, header) in response.0.iter().enumerate() {
            let is_omitted =
                judged.omitted.iter().any(|name| name.eq_ignore_ascii_case(header.name.as_bytes()));
            if !hop_by_hop(number) && !is_one_of(&NEVER_STORED, header.name) && !is_omitted {
                write_line(header, &mut head);
            }
        }
        let tags = naming.tags.iter().flat_map(|name| response.all(name.as_bytes()));
        let tags = tags.flat_map(|value| value.split(|byte| matches!(byte, b',' | b' ' | b'\t')));
        Making {
            head,
            facts: judged.facts,
            etag: response.first("etag").filter(|etag| is_etag(etag)).map(Box::from),
            last_modified: response.first("last-modified").map(Box::from),
            tags: tags.filter(|tag| !tag.is_empty()).take(TAGS_MAX).map(Box::from).collect(),
            selecting: Selecting::of(response, &naming.vary, request),
        }
    }

    /// How much memory it takes, with a body of this length and this URI.
    pub fn size(&self, body_len: usize, uri: &[u8]) -> usize {
        let boxed = |bytes: &Option<Box<[u8]>>| bytes.as_deref().map_or(0, <[u8]>::len);
        let tags: usize = self.tags.iter().map(|tag| size_of_val(tag) + tag.len()).sum();
        let parts = boxed(&self.etag) + boxed(&self.last_modified) + tags + self.selecting.size();
        // The URI is there twice, for the entry and for those with the same one.
        OVERHEAD + self.head.len() + body_len + 2 * uri.len() + parts
    }

    /// With its body. `reserved` is what it takes.
    pub fn with_body(mut self, body: Bytes, uri: Arc<[u8]>, place: Place, reserved: Reserved) -> Entry {
        self.head.shrink_to_fit();
        Entry { made: self, body, uri, place, reserved, is_refreshed: AtomicBool::new(false) }
    }
}

/// A tag that can be put into a list.
fn is_etag(etag: &[u8]) -> bool {
    let opaque = etag.strip_prefix(b"W/").unwrap_or(etag);
    matches!(opaque, [b'"', inner @ .., b'"'] if !inner.contains(&b'"')) || is_token(etag)
}

fn write_line(header: &Header<'_>, out: &mut Vec<u8>) {
    for part in [header.name.as_bytes(), b": ", header.value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

impl Entry {
    /// Its status line and fields, each with its end.
    pub fn head(&self) -> &[u8] {
        &self.made.head
    }

    /// Its body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// How fresh it is.
    pub fn facts(&self) -> &Facts {
        &self.made.facts
    }

    /// The URI that it is for.
    pub fn uri(&self) -> &Arc<[u8]> {
        &self.uri
    }

    /// Whose it is.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Whether the caller is to get another one in its place; nobody else is then, until he says that he is done.
    pub fn begin_refresh(&self) -> bool {
        !self.is_refreshed.swap(true, Relaxed)
    }

    /// Whoever was to get another one is done.
    pub fn end_refresh(&self) {
        self.is_refreshed.store(false, Relaxed);
    }

    /// How much memory it takes.
    pub(crate) fn reserved_bytes(&self) -> usize {
        self.reserved.bytes()
    }

    pub(crate) fn is_for(&self, place: &Place, request: Fields<'_>) -> bool {
        self.place == *place && self.made.selecting.matches(request)
    }

    /// Whether another one takes its place: it is for the same requests.
    pub(crate) fn is_replaced_by(&self, other: &Entry) -> bool {
        self.place == other.place && self.made.selecting == other.made.selecting
    }

    pub(crate) fn has_tag(&self, tag: &[u8]) -> bool {
        self.made.tags.iter().any(|other| **other == *tag)
    }

    /// What an answer has of it.
    pub fn part(&self, conditions: &Conditions) -> Part {
        let of = Validators {
            etag: self.made.etag.as_deref(),
            modified_s: self.made.last_modified.as_deref().and_then(date::seconds),
            date_s: self.made.facts.date_s,
        };
        conditions.part(self.made.facts.status, of, self.body.len())
    }

    /// Whether the service can be asked whether it is still right.
    pub fn can_be_validated(&self) -> bool {
        self.made.etag.is_some() || self.made.last_modified.is_some()
    }

    /// Writes the fields that ask that, each with its end.
    pub fn write_conditions(&self, out: &mut Vec<u8>) {
        let lines =
            [(&b"If-None-Match: "[..], &self.made.etag), (b"If-Modified-Since: ", &self.made.last_modified)];
        for (name, value) in lines {
            if let Some(value) = value {
                for part in [name, value, b"\r\n"] {
                    out.extend_from_slice(part);
                }
            }
        }
    }

    /// Whether a response to HEAD tells that what is stored is another one (RFC 9111 §4.3.5).
    pub fn is_contradicted_by(&self, fields: Fields<'_>) -> bool {
        let differs = |stored: &Option<Box<[u8]>>, name| {
            fields.first(name).is_some_and(|said| stored.as_deref().is_some_and(|stored| stored != said))
        };
        let length =
            fields.first("content-length").and_then(|length| std::str::from_utf8(length).ok()?.parse().ok());
        differs(&self.made.etag, "etag")
            || differs(&self.made.last_modified, "last-modified")
            || length.is_some_and(|length: usize| length != self.body.len())
    }

    /// What it becomes by a 304, whose fields replace its own (RFC 9111 §3.2 and §4.3.4). An error is why it is to be used this once and not kept:
    /// with what is to be used.
    pub fn freshened(
        &self,
        asked: &Asked,
        news: Fields<'_>,
        hop_by_hop: impl Fn(usize) -> bool,
        (settings, naming): (&Settings, &Naming),
        request: Fields<'_>,
        (waited_ms, now): (u64, Moment),
    ) -> (Making, Result<(), Unstorable>) {
        let merged = self.merged(news, hop_by_hop, settings.cookies == Cookies::Keep);
        let mut room = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let read = config.parse_response_with_uninit_headers(&mut parsed, &merged, &mut room);
        if !matches!(read, Ok(httparse::Status::Complete(_))) {
            // More fields together than a head may have.
            return (self.made.clone(), Err(Unstorable::Useless));
        }
        let fields = Fields(parsed.headers);
        match judge(asked, self.made.facts.status, fields, settings, waited_ms, now) {
            Ok(judged) => {
                let making = Making::new(self.status_line(), fields, |_| false, judged, request, naming);
                // By other fields than before it may be for others than it was stored for.
                if !making.selecting.is_by_those_of(&self.made.selecting) {
                    return (making, Err(Unstorable::Vary));
                }
                // What it was chosen by does not change with whoever asks whether it is right.
                (Making { selecting: self.made.selecting.clone(), ..making }, Ok(()))
            }
            Err(why) => {
                let facts = Facts { received_ms: now.ms, initial_age_s: 0, lifetime_s: 0, ..self.made.facts };
                let judged = Judged { facts, is_explicit: false, omitted: vec![b"set-cookie".to_vec()] };
                (Making::new(self.status_line(), fields, |_| false, judged, request, naming), Err(why))
            }
        }
    }

    fn status_line(&self) -> &[u8] {
        let end = memchr::memchr(b'\r', &self.made.head).unwrap_or(0);
        &self.made.head[..end]
    }

    /// Its head with the fields of another one in place of its own, to its empty line.
    /// A cookie that a 304 sets is for the one who asked, unless those are stored.
    fn merged(&self, news: Fields<'_>, hop_by_hop: impl Fn(usize) -> bool, keeps_cookies: bool) -> Vec<u8> {
        let is_taken = |number: usize, header: &Header<'_>| {
            let is_age = header.name.eq_ignore_ascii_case("age");
            let is_cookie = header.name.eq_ignore_ascii_case("set-cookie");
            !hop_by_hop(number)
                && (keeps_cookies || !is_cookie)
                && (is_age || !is_one_of(&NEVER_STORED, header.name))
                && !is_one_of(&OF_THE_BYTES, header.name)
        };
        let news: Vec<&Header<'_>> = news
            .0
            .iter()
            .enumerate()
            .filter(|(number, header)| is_taken(*number, header))
            .map(|(_, header)| header)
            .collect();
        let mut merged = Vec::with_capacity(self.made.head.len() + 256);
        for line in self.made.head.split_inclusive(|byte| *byte == b'\n') {
            let name = &line[..memchr::memchr(b':', line).unwrap_or(0)];
            if !news.iter().any(|header| header.name.as_bytes().eq_ignore_ascii_case(name)) {
                merged.extend_from_slice(line);
            }
        }
        news.into_iter().for_each(|header| write_line(header, &mut merged));
        merged.extend_from_slice(b"\r\n");
        merged
    }
}

/// The most fields of a merged head.
const HEADERS_MAX: usize = 128;
