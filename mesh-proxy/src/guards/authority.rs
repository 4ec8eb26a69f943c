//! A service that says who may: it gets the head of a request, and allows it or answers it.
//!
//! It is asked while the request waits, by the way of all requests, and whatever it does not say is no: one that fails, is late or is not there
//! lets nobody through.

use std::{fmt, rc::Rc, time::Duration};

use watt_api::mesh;
use watt_policies::fields::{self, Own};

use super::{Asking, Known};
use crate::{
    forwarded::Forwarded,
    http::{self, Answered, Fields, Lines},
    respond::OwnAnswer,
    table::Service,
    thread::Thread,
};

/// The longest body of an answer that clients get.
const BODY_MAX: usize = 64 << 10;

/// What of a request would have the answer to another one be about less, or in another form, than is asked.
const CONDITIONS: [&str; 7] = [
    "accept-encoding",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "range",
];

/// Whom to ask, and what of the answer the request gets.
#[derive(Debug)]
pub(crate) struct Authority {
    pub(super) service: Box<str>,
    path: Box<str>,
    copy: Box<[Box<str>]>,
    timeout: Duration,
}

/// A question to it.
pub(crate) struct Inquiry {
    authority: Rc<Authority>,
    to: Rc<Service>,
    /// The host that the request is for, and the head but for what tells of the client.
    host: Box<[u8]>,
    head: Vec<u8>,
}

impl fmt::Debug for Inquiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inquiry").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// What it said.
#[derive(Debug, Clone)]
pub(crate) struct Said {
    authority: Rc<Authority>,
    pub(super) word: Word,
}

#[derive(Debug, Clone)]
pub(super) enum Word {
    Allowed(Rc<Granted>),
    /// In place of the service.
    Answered(OwnAnswer),
    /// Nothing, and why, in words.
    Nothing(String),
}

/// What a request gets that was allowed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Granted {
    names: Vec<Box<str>>,
    lines: Vec<u8>,
}

impl Granted {
    /// Whether the service may see something of it.
    pub(crate) fn is_seen(&self) -> bool {
        !self.names.is_empty()
    }

    /// Adds the lines of these names that the client sent to `drop`: nobody says of himself what the authority says. Also those with `_` for `-`.
    pub(crate) fn take(&self, fields: &Fields<'_, '_>, drop: &mut Lines) {
        let folded = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        let is = |name: &str, header: &str| name.bytes().map(folded).eq(header.bytes().map(folded));
        for (line, header) in fields.headers.iter().enumerate() {
            if self.names.iter().any(|name| is(name, header.name)) {
                drop.add(line);
            }
        }
    }

    /// Appends those of the authority.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.lines);
    }
}

impl Said {
    pub(super) fn is_of(&self, authority: &Rc<Authority>) -> bool {
        Rc::ptr_eq(&self.authority, authority)
    }
}

impl Authority {
    pub(super) fn new(authority: &mesh::Authority) -> Authority {
        let mesh::Authority { service, path, copy, timeout_ms } = authority;
        Authority {
            service: service.as_str().into(),
            path: path.as_str().into(),
            copy: copy.iter().map(|name| name.as_str().into()).collect(),
            timeout: Duration::from_millis(*timeout_ms),
        }
    }

    /// What is asked about a request; `None` when there is nobody to ask.
    pub(super) fn inquiry(self: &Rc<Self>, asking: &Asking<'_>, known: Option<&Known>) -> Option<Inquiry> {
        let to = asking.table.service(&self.service)?.clone();
        let request = asking.request;
        let mut drop = request.found.hop_by_hop;
        drop |= request.found.lookalikes;
        if let Some(known) = known {
            known.take_credentials(&request.fields, &mut drop);
        }
        for (line, header) in request.fields.headers.iter().enumerate() {
            let is_trace = header.name.eq_ignore_ascii_case("traceparent")
                || header.name.eq_ignore_ascii_case("tracestate");
            let is_own = match fields::own(header.name.as_bytes()) {
                Some(Own::Said) => !is_trace,
                Some(Own::Connection | Own::Message | Own::Host) => true,
                None => false,
            };
            if is_own || CONDITIONS.iter().any(|name| header.name.eq_ignore_ascii_case(name)) {
                drop.add(line);
            }
        }
        let host = to.host.as_deref().unwrap_or(request.host);
        let mut head = format!("GET {} HTTP/1.1\r\nHost: ", self.path).into_bytes();
        head.extend_from_slice(host);
        head.extend_from_slice(b"\r\n");
        request.fields.copy_lines(request.fields.start_of(0), drop, &mut head);
        let (method, target) = (request.method_name, request.target.path_and_query);
        head.extend_from_slice(
            format!("X-Forwarded-Method: {method}\r\nX-Forwarded-Uri: {target}\r\n").as_bytes(),
        );
        if let Some(known) = known {
            known.identity.write(&mut head);
        }
        head.extend_from_slice(&asking.table.via);
        Some(Inquiry { authority: Rc::clone(self), to, host: request.host.into(), head })
    }

    fn judge(&self, answered: Answered) -> Word {
        match answered.status {
            200..=299 => Word::Allowed(Rc::new(self.granted(&answered))),
            // What a client has already says nothing of who may see it.
            304 | 500..=599 => Word::Nothing(format!("it answered with {}", answered.status)),
            status => {
                let Answered { lines, body, .. } = answered;
                Word::Answered(OwnAnswer { status, lines, body: body.into() })
            }
        }
    }

    fn granted(&self, answered: &Answered) -> Granted {
        let mut granted = Granted { names: self.copy.to_vec(), lines: Vec::new() };
        for name in &self.copy {
            let is = |(other, _): &(&[u8], &[u8])| other.eq_ignore_ascii_case(name.as_bytes());
            for (_, value) in answered.fields().filter(is) {
                granted.lines.extend_from_slice(name.as_bytes());
                granted.lines.extend_from_slice(b": ");
                granted.lines.extend_from_slice(value);
                granted.lines.extend_from_slice(b"\r\n");
            }
        }
        granted
    }
}

impl Inquiry {
    pub(super) fn tell_of_client(&mut self, forwarded: &mut Forwarded) {
        forwarded.write_for_client(&self.host, &mut self.head);
    }

    /// Asks, and waits for the answer.
    pub(super) async fn ask(self, thread: &Rc<Thread>) -> Said {
        let Inquiry { authority, to, host: _, mut head } = self;
        head.extend_from_slice(b"\r\n");
        let answered = http::ask(thread, &to, &head, BODY_MAX, authority.timeout).await;
        let word = match answered {
            Ok(answered) => authority.judge(answered),
            Err(why) => Word::Nothing(why),
        };
        Said { authority, word }
    }
}
