//! The access log: a line of JSON for each request, when it is over.
//!
//! What a line says of the request is written down when its head has come, in memory that the connection keeps; what became of it is put
//! behind that at the end. Then it goes into a [`queue`] that all threads share, and a thread of its own writes what is in there to
//! standard output, which the daemon reads and keeps in files. So no request waits for a disk: when too much waits, lines are left out,
//! and counted.

mod queue;

use std::{io::Write, rc::Rc, sync::Arc};

use httparse::Header;
use jiff::Timestamp;
use tokio::time::Instant;
use watt_api::mesh::{self, AccessLog};

use crate::{
    http::{Client, Side, with_request},
    respond::Failure,
};

pub(crate) use queue::Queue;

/// How many bytes are written of a name, a host, a certificate's subject, a path or a query, a field's value, and about how many of all fields: together less than
/// the 8 KiB that the daemon takes for one line.
const NAME_MAX: usize = 64;
const HOST_MAX: usize = 256;
const CERTIFICATE_MAX: usize = 256;
const TEXT_MAX: usize = 2 << 10;
const FIELD_MAX: usize = 512;
const FIELDS_MAX: usize = 1 << 10;

/// Memory that a connection does not keep for its next line.
const LINE_KEPT_MAX: usize = 4 << 10;

/// What is written, and to where.
#[derive(Debug)]
pub(crate) struct Log {
    wanted: mesh::AccessLog,
    queue: Arc<Queue>,
}

impl Log {
    pub(crate) fn new(wanted: &AccessLog, queue: &Arc<Queue>) -> Log {
        Log { wanted: wanted.clone(), queue: Arc::clone(queue) }
    }

    /// Whether requests that came in there are written.
    pub(crate) fn covers(&self, side: &Side) -> bool {
        match side {
            Side::Gateway => true,
            Side::Mesh { .. } => self.wanted.mesh,
        }
    }
}

/// How a request ended that has no failure of the proxy's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CutOff {
    /// The client went away.
    ByClient,
    /// The worker's response broke off in the middle, or took too long.
    InResponse,
}

impl CutOff {
    const fn code(self) -> &'static str {
        match self {
            CutOff::ByClient => "client_gone",
            CutOff::InResponse => "response_cut_off",
        }
    }
}

/// A request that is going to be a line.
#[derive(Debug)]
pub(crate) struct Entry {
    log: Rc<Log>,
    since: Instant,
    /// The line as far as it is known.
    line: Vec<u8>,
    pub(crate) outcome: Outcome,
}

/// What became of a request.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// The one that the client got; 0 is none.
    pub(crate) status: u16,
    /// Bytes of the response that were sent, its head included.
    pub(crate) sent: u64,
    pub(crate) service: Option<Rc<str>>,
    /// Who had it last.
    pub(crate) run: Option<u64>,
    /// How often it was sent to a worker.
    pub(crate) tries: u32,
    /// Why it was not answered by a worker, or not to the end.
    reason: Option<&'static str>,
}

impl Outcome {
    /// The proxy itself answered.
    pub(crate) fn failed(&mut self, failure: &Failure) {
        self.status = failure.reason.status();
        self.reason = Some(failure.reason.code());
        if let (None, Some(service)) = (&self.service, &failure.service) {
            self.service = Some(Rc::clone(service));
        }
    }

    /// This run has it now, the first one or a later one.
    pub(crate) fn sent_to(&mut self, run: u64, tries: u32) {
        self.run = Some(run);
        self.tries = tries;
    }

    /// It got no answer, or a part of one. What was said first stands.
    pub(crate) fn cut_off(&mut self, how: CutOff) {
        self.reason.get_or_insert(how.code());
    }
}

impl Entry {
    /// Writes down what a head says. `spare` is an entry that is over, for its memory; `sent` the head as the worker gets it, if one is going to.
    pub(crate) fn begin(
        log: &Rc<Log>,
        spare: Option<Box<Entry>>,
        client: &Client,
        is_http2: bool,
        head: &[u8],
        sent: Option<&[u8]>,
    ) -> Box<Entry> {
        let (log, since, outcome) = (Rc::clone(log), Instant::now(), Outcome::default());
        let mut entry = match spare {
            Some(mut spare) => {
                spare.line.clear();
                *spare = Entry { log, since, line: std::mem::take(&mut spare.line), outcome };
                spare
            }
            None => Box::new(Entry { log, since, line: Vec::new(), outcome }),
        };
        let mut members = Members(&mut entry.line);
        members.client(client);
        members.request(&entry.log.wanted, head, is_http2);
        if let Some(trace) = sent.and_then(trace_id) {
            members.text("trace", trace, NAME_MAX);
        }
        entry
    }

    /// Ends the line, and has it written if it is one of those that are. Returns the memory for the next one.
    pub(crate) fn end(mut self: Box<Self>) -> Option<Box<Entry>> {
        if self.is_wanted() {
            let Entry { log, since, line, outcome } = &mut *self;
            let mut out = Vec::with_capacity(line.len() + 192);
            let took = since.elapsed();
            let at = Timestamp::now();
            // Writing to memory does not fail.
            let _ = write!(out, r#"{{"at":"{at:.3}""#);
            out.extend_from_slice(line);
            Members(&mut out).outcome(outcome);
            let _ = writeln!(out, r#","ms":{:.3}}}"#, took.as_secs_f64() * 1000.0);
            log.queue.say(&out);
        }
        (self.line.capacity() <= LINE_KEPT_MAX).then_some(self)
    }

    /// Whatever failed is written, and of the others a part.
    fn is_wanted(&self) -> bool {
        let percent = self.log.wanted.percent;
        percent >= 100
            || self.outcome.status >= 500
            || self.outcome.reason.is_some()
            || fastrand::u8(..100) < percent
    }
}

/// The entry of a request that is under way, if it has one. A stream of HTTP/2 that its client takes back is dropped wherever it is, and
/// is written all the same.
#[derive(Debug, Default)]
pub(crate) struct Running(Option<Box<Entry>>);

impl Running {
    pub(crate) fn begin(&mut self, entry: Box<Entry>) {
        self.0 = Some(entry);
    }

    pub(crate) fn note(&mut self, note: impl FnOnce(&mut Outcome)) {
        if let Some(entry) = &mut self.0 {
            note(&mut entry.outcome);
        }
    }

    /// See [`Entry::end`].
    pub(crate) fn end(&mut self) -> Option<Box<Entry>> {
        self.0.take()?.end()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A tunnel ends with its streams.
        self.note(|outcome| {
            if outcome.status != 101 {
                outcome.cut_off(CutOff::ByClient)
            }
        });
        drop(self.end());
    }
}

/// Members of an object of JSON, each with a comma before it.
struct Members<'l>(&'l mut Vec<u8>);

impl Members<'_> {
    fn client(&mut self, client: &Client) {
        match &client.side {
            Side::Mesh { caller: Some(caller) } => self.text("caller", caller.as_bytes(), NAME_MAX),
            Side::Mesh { caller: None } => self.text("caller", b"operator", NAME_MAX),
            Side::Gateway => {}
        }
        if let Some(peer) = client.peer {
            let _ = write!(self.0, r#","client":"{}""#, peer.ip().to_canonical());
        }
        if let Some(shown) = client.tls.as_ref().and_then(|secure| secure.shown.as_ref()) {
            self.text("certificate", shown.name.as_bytes(), CERTIFICATE_MAX);
        }
    }

    fn request(&mut self, wanted: &AccessLog, head: &[u8], is_http2: bool) {
        let read = with_request(head, |request| {
            self.text("method", request.method_name.as_bytes(), NAME_MAX);
            self.text("host", request.host, HOST_MAX);
            self.target(wanted, request.target.path_and_query.as_bytes());
            let version = match (is_http2, request.http10) {
                (true, _) => "HTTP/2",
                (false, true) => "HTTP/1.0",
                (false, false) => "HTTP/1.1",
            };
            self.text("protocol", version.as_bytes(), NAME_MAX);
            self.fields(wanted, request.fields.headers);
        });
        if read.is_err() {
            // Of what is no request whatever looks like one, as far as it goes.
            let end = memchr::memchr2(b'\r', b'\n', head).unwrap_or(head.len());
            let mut words = head[..end].split(|byte| *byte == b' ');
            self.text("method", words.next().unwrap_or_default(), NAME_MAX);
            // What does not begin as a path does may have a password in it.
            if let Some(target) = words.next().filter(|target| target.starts_with(b"/")) {
                let fragment = memchr::memchr(b'#', target).unwrap_or(target.len());
                self.target(wanted, &target[..fragment]);
            }
        }
    }

    /// The fields that were asked for, of several of a name the first.
    fn fields(&mut self, wanted: &AccessLog, headers: &[Header<'_>]) {
        let named = |name: &str| headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        let found = wanted.headers.iter().filter_map(|name| Some((name, named(name)?)));
        let mut object = Vec::new();
        for (name, field) in found {
            if object.len() >= FIELDS_MAX {
                break;
            }
            Members(&mut object).text(name, field.value, FIELD_MAX);
        }
        if let [b',', members @ ..] = &object[..] {
            self.0.extend_from_slice(br#","headers":{"#);
            self.0.extend_from_slice(members);
            self.0.push(b'}');
        }
    }

    /// A query may hold what is nobody's business, and is left out where it was not asked for.
    fn target(&mut self, wanted: &AccessLog, target: &[u8]) {
        let end = memchr::memchr(b'?', target).unwrap_or(target.len());
        self.text("path", &target[..end], TEXT_MAX);
        if wanted.query && end < target.len() {
            self.text("query", &target[end + 1..], TEXT_MAX);
        }
    }

    fn outcome(&mut self, outcome: &Outcome) {
        let Outcome { status, sent, service, run, tries, reason } = outcome;
        if let Some(service) = service {
            self.text("service", service.as_bytes(), NAME_MAX);
        }
        if let Some(run) = run {
            let _ = write!(self.0, r#","run":{run}"#);
        }
        if *tries > 1 {
            let _ = write!(self.0, r#","tries":{tries}"#);
        }
        if *status > 0 {
            let _ = write!(self.0, r#","status":{status}"#);
        }
        if let Some(reason) = reason {
            self.text("reason", reason.as_bytes(), NAME_MAX);
        }
        let _ = write!(self.0, r#","bytes":{sent}"#);
    }

    /// A text, of which at most so many bytes are written: what takes more as an escape takes more of them.
    fn text(&mut self, name: &str, value: &[u8], max: usize) {
        let value = String::from_utf8_lossy(&value[..value.len().min(max)]);
        // Writing to memory does not fail.
        let _ = write!(self.0, r#","{name}":""#);
        let end = self.0.len() + max;
        for c in value.chars() {
            let mut room = [0; 4];
            let before = self.0.len();
            match c {
                '"' => self.0.extend_from_slice(br#"\""#),
                '\\' => self.0.extend_from_slice(br"\\"),
                // Some terminals act on these when a file is shown.
                '\0'..='\x1f' | '\x7f'..='\u{9f}' => {
                    let _ = write!(self.0, r"\u{:04x}", u32::from(c));
                }
                c => self.0.extend_from_slice(c.encode_utf8(&mut room).as_bytes()),
            }
            if self.0.len() > end {
                self.0.truncate(before);
                break;
            }
        }
        self.0.push(b'"');
    }
}

/// The id of the trace that a head as the worker gets it belongs to.
fn trace_id(head: &[u8]) -> Option<&[u8]> {
    const FIELD: &[u8] = b"\r\ntraceparent: 00-";
    let start = memchr::memmem::rfind(head, FIELD)? + FIELD.len();
    head.get(start..start + 32)
}

#[cfg(test)]
mod tests;
