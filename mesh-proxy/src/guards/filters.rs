//! Services that look at requests before those get on: each gets what is in a head, as JSON, and lets the request pass as it is, changes its
//! headers or its path, or answers it.
//!
//! They are asked one after the other, each about what those before it have left, while the request waits; an answer that does not come, or is
//! none, is a failure, and stops the request unless the filter may fail. They are asked by the proxy itself, so that what is asked passes no filter.

use std::{collections::BTreeMap, fmt, rc::Rc, time::Duration};

use serde::{Deserialize, Serialize};
use watt_api::mesh;
use watt_policies::fields;

use super::{Asking, Known};
use crate::{
    http::{self, Answered, Fields, Lines},
    respond::OwnAnswer,
    table::Service,
    thread::Thread,
};

/// The longest answer of a filter, and the longest body that a client gets of it.
const ANSWER_MAX: usize = 128 << 10;
const BODY_MAX: usize = 64 << 10;

/// How many headers a filter sets or removes, and how long those are together with their names. As much as routes may.
const HEADERS_MAX: usize = 32;
const HEADERS_BYTES_MAX: usize = 8 << 10;

/// The longest path that it gives a request, with the query.
const TARGET_MAX: usize = 8 << 10;

/// A service that looks at requests.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(super) service: Box<str>,
    path: Box<str>,
    timeout: Duration,
    /// Requests pass when it fails.
    pub(super) may_fail: bool,
}

/// A question to it.
pub(crate) struct Look {
    filter: Rc<Filter>,
    to: Rc<Service>,
    request: Vec<u8>,
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Look").field("filter", &self.filter).finish_non_exhaustive()
    }
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    filter: Rc<Filter>,
    pub(super) verdict: Ruling,
}

#[derive(Debug, Clone)]
pub(super) enum Ruling {
    Passes(Rc<Changed>),
    /// In place of the service.
    Answered(OwnAnswer),
    /// Why it says nothing, in words.
    Failed(String),
}

/// What filters have made of a request's head.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Names of headers that go, in lower case: those that are set are among them.
    names: Vec<String>,
    /// Those that come, by name and value.
    set: Vec<(String, String)>,
    /// The path with the query, in place of what the service would get.
    pub(crate) target: Option<String>,
}

impl Changed {
    /// What another filter has made of that.
    pub(super) fn add(&mut self, later: &Changed) {
        self.set.retain(|(name, _)| !later.names.contains(name));
        self.names.extend(
            later.names.iter().filter(|name| !self.names.contains(name)).cloned().collect::<Vec<_>>(),
        );
        self.set.extend(later.set.iter().cloned());
        if later.target.is_some() {
            self.target.clone_from(&later.target);
        }
    }

    /// Whether a line of this name goes. Also with `_` for `-`, which many programs take for the same.
    fn takes(&self, header: &str) -> bool {
        let folded = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        self.names.iter().any(|name| name.bytes().map(folded).eq(header.bytes().map(folded)))
    }

    /// Adds the lines that go to `drop`.
    pub(crate) fn take(&self, fields: &Fields<'_, '_>, drop: &mut Lines) {
        for (line, header) in fields.headers.iter().enumerate() {
            if self.takes(header.name) {
                drop.add(line);
            }
        }
    }

    /// Whether a service may see something of it.
    pub(crate) fn is_seen(&self) -> bool {
        !self.names.is_empty() || self.target.is_some()
    }

    /// Appends those that come.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for (name, value) in &self.set {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
    }

    /// The path without the query.
    pub(crate) fn path(&self) -> Option<&[u8]> {
        self.target.as_deref().map(|target| target.split('?').next().unwrap_or(target).as_bytes())
    }
}

/// What a filter is told of a request.
#[derive(Serialize)]
struct Told<'a> {
    method: &'a str,
    scheme: &'static str,
    host: String,
    /// With the query, as the service would get it.
    path: String,
    /// By name in lower case and value, in their order.
    headers: Vec<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    service: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

/// What it may say.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Said {
    headers: SaidHeaders,
    path: Option<String>,
    respond: Option<SaidAnswer>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct SaidHeaders {
    set: BTreeMap<String, String>,
    remove: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SaidAnswer {
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
}

impl Seen {
    pub(super) fn is_of(&self, filter: &Rc<Filter>) -> bool {
        Rc::ptr_eq(&self.filter, filter)
    }
}

impl Filter {
    pub(super) fn new(filter: &mesh::Filter) -> Filter {
        let mesh::Filter { service, path, timeout_ms, may_fail } = filter;
        Filter {
            service: service.as_str().into(),
            path: path.as_str().into(),
            timeout: Duration::from_millis(*timeout_ms),
            may_fail: *may_fail,
        }
    }

    /// What is asked about a request of which others have made this; `None` when there is nobody to ask.
    pub(super) fn look(
        self: &Rc<Self>,
        asking: &Asking<'_>,
        known: Option<&Known>,
        changed: &Changed,
    ) -> Option<Look> {
        let to = asking.table.service(&self.service)?.clone();
        let request = asking.request;
        let mut drop = request.found.hop_by_hop;
        drop |= request.found.lookalikes;
        if let Some(known) = known {
            known.take_credentials(&request.fields, &mut drop);
        }
        changed.take(&request.fields, &mut drop);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let lines = request.fields.headers.iter().enumerate().filter(|(line, _)| !drop.has(*line));
        let theirs = lines.map(|(_, header)| (header.name.to_ascii_lowercase(), text(header.value)));
        let target = changed.target.clone().unwrap_or_else(|| asking.target());
        let told = Told {
            method: request.method_name,
            scheme: if asking.client.tls.is_some() { "https" } else { "http" },
            host: text(request.host),
            path: target,
            headers: theirs.chain(changed.set.iter().cloned()).collect(),
            client: asking.address().map(|address| address.to_string()),
            service: asking.service.map_or("", |service| &service.name),
            user: known.map(|known| &*known.identity.name),
        };
        // Strings always have a form in JSON.
        let body = serde_json::to_vec(&told).unwrap_or_default();
        let host = to.host.as_deref().map_or_else(|| format!("{}.plt.local", self.service), text);
        let mut head = format!(
            "POST {} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nAccept: application/json\r\nContent-Length: {}\r\n",
            self.path,
            body.len()
        )
        .into_bytes();
        head.extend_from_slice(&asking.table.via);
        head.extend_from_slice(b"\r\n");
        Some(Look { filter: Rc::clone(self), to, request: [head, body].concat() })
    }
}

impl Look {
    /// Asks, and waits for the answer.
    pub(super) async fn ask(self, thread: &Rc<Thread>) -> Seen {
        let Look { filter, to, request } = self;
        let answered = http::ask(thread, &to, &request, ANSWER_MAX, filter.timeout).await;
        let verdict = answered.and_then(|answered| judge(&answered)).unwrap_or_else(Ruling::Failed);
        Seen { filter, verdict }
    }
}

/// What an answer means.
fn judge(answered: &Answered) -> Result<Ruling, String> {
    let Answered { status, body, .. } = answered;
    match status {
        204 => return Ok(Ruling::Passes(Rc::default())),
        200 => {}
        other => return Err(format!("it answered with {other}")),
    }
    let said: Said =
        serde_json::from_slice(body).map_err(|error| format!("its answer is not understood: {error}"))?;
    let Said { headers: SaidHeaders { set, remove }, path, respond } = said;
    if let Some(respond) = respond {
        return own_answer(respond).map(Ruling::Answered);
    }
    check_size(
        set.iter().map(|(name, value)| name.len() + value.len()).chain(remove.iter().map(String::len)),
    )?;
    let mut changed = Changed::default();
    for name in remove.iter().chain(set.keys()) {
        changed.names.push(name_of(name, &fields::own_folded)?);
    }
    for (name, value) in set {
        changed.set.push((name.to_ascii_lowercase(), value_of(value)?));
    }
    if let Some(target) = path {
        let is_plain = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        if !target.starts_with('/') || target.starts_with("//") || !is_plain || target.len() > TARGET_MAX {
            return Err("the path that it gives is none".to_owned());
        }
        changed.target = Some(target);
    }
    Ok(Ruling::Passes(Rc::new(changed)))
}

fn own_answer(SaidAnswer { status, headers, body }: SaidAnswer) -> Result<OwnAnswer, String> {
    if !(200..=599).contains(&status) {
        return Err(format!("it would have {status} answered, which is no status of an answer"));
    }
    if body.len() > BODY_MAX {
        return Err(format!("the body that it answers with has more than {} KB", BODY_MAX >> 10));
    }
    check_size(headers.iter().map(|(name, value)| name.len() + value.len()))?;
    let mut lines = Vec::new();
    for (name, value) in headers {
        let name =
            name_of(&name, &|name| OF_CONNECTION.iter().any(|own| own.as_bytes() == name).then_some(()))?;
        lines.extend_from_slice(format!("{name}: {}\r\n", value_of(value)?).as_bytes());
    }
    Ok(OwnAnswer { status, lines, body: body.into_bytes().into() })
}

/// Fields of answers that are the connection's.
const OF_CONNECTION: [&str; 7] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn check_size(sizes: impl Iterator<Item = usize>) -> Result<(), String> {
    let (count, bytes) = sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
    match count <= HEADERS_MAX && bytes <= HEADERS_BYTES_MAX {
        true => Ok(()),
        false => Err("it changes too many headers".to_owned()),
    }
}

fn name_of<T>(name: &str, is_own: &dyn Fn(&[u8]) -> Option<T>) -> Result<String, String> {
    let name = name.to_ascii_lowercase();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let folded = name.replace('_', "-");
    if name.is_empty() || !name.bytes().all(is_token) || is_own(folded.as_bytes()).is_some() {
        return Err(format!("it changes `{}`, which is not its to change", name.escape_debug()));
    }
    Ok(name)
}

fn value_of(value: String) -> Result<String, String> {
    match value.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte)) {
        true => Ok(value),
        false => Err("it sets a header to what no header has".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &str) -> Result<Ruling, String> {
        judge(&Answered { status, lines: Vec::new(), body: body.as_bytes().to_vec() })
    }

    #[test]
    fn what_a_filter_says() {
        for (status, body) in [(204, ""), (200, "{}"), (200, r#"{"headers": {}}"#)] {
            let Ok(Ruling::Passes(changed)) = judged(status, body) else { panic!("{body}") };
            assert!(!changed.is_seen(), "{body}");
        }
        let body = r#"{"headers": {"set": {"X-User": "ada"}, "remove": ["cookie"]}, "path": "/a?b"}"#;
        let Ok(Ruling::Passes(changed)) = judged(200, body) else { panic!() };
        let mut out = Vec::new();
        changed.write(&mut out);
        assert_eq!(
            (&*out, changed.target.as_deref(), changed.path()),
            (&b"x-user: ada\r\n"[..], Some("/a?b"), Some(&b"/a"[..]))
        );
        assert!(changed.takes("X_User") && changed.takes("Cookie") && !changed.takes("x-other"));
        let body = r#"{"respond": {"status": 418, "headers": {"x-a": "b"}, "body": "tea"}}"#;
        let Ok(Ruling::Answered(own)) = judged(200, body) else { panic!() };
        assert_eq!((own.status, &*own.lines, &*own.body), (418, &b"x-a: b\r\n"[..], &b"tea"[..]));
    }

    #[test]
    fn what_is_not_understood_is_a_failure() {
        let many: Vec<String> = (0..40).map(|number| format!("\"x{number}\"")).collect();
        for (status, body) in [
            (500, "{}".to_owned()),
            (302, "{}".to_owned()),
            (403, String::new()),
            (200, String::new()),
            (200, "[]".to_owned()),
            (200, r#"{"pass": true}"#.to_owned()),
            (200, r#"{"path": "x"}"#.to_owned()),
            (200, r#"{"path": "//x"}"#.to_owned()),
            (200, r#"{"path": "/a b"}"#.to_owned()),
            (200, r#"{"path": "/a\r\nx: y"}"#.to_owned()),
            (200, r#"{"headers": {"set": {"a": "b\r\nc: d"}}}"#.to_owned()),
            (200, r#"{"headers": {"set": {"a b": "c"}}}"#.to_owned()),
            (200, r#"{"headers": {"set": {"Host": "c"}}}"#.to_owned()),
            (200, r#"{"headers": {"set": {"content_length": "5"}}}"#.to_owned()),
            (200, r#"{"headers": {"remove": ["Transfer-Encoding"]}}"#.to_owned()),
            (200, format!(r#"{{"headers": {{"remove": [{}]}}}}"#, many.join(","))),
            (200, r#"{"respond": {"status": 101}}"#.to_owned()),
            (200, r#"{"respond": {"status": 200, "headers": {"content-length": "3"}}}"#.to_owned()),
            (200, format!(r#"{{"respond": {{"status": 200, "body": "{}"}}}}"#, "x".repeat(BODY_MAX + 1))),
        ] {
            assert!(judged(status, &body).is_err(), "{status} {body:.80}");
        }
    }

    #[test]
    fn what_comes_later_counts() {
        let said = |body: &str| match judged(200, body) {
            Ok(Ruling::Passes(changed)) => (*changed).clone(),
            other => panic!("{other:?}"),
        };
        let mut changed = said(r#"{"headers": {"set": {"a": "1", "b": "1"}}, "path": "/1"}"#);
        changed.add(&said(r#"{"headers": {"set": {"a": "2"}, "remove": ["b"]}}"#));
        assert_eq!(
            (&*changed.set, changed.target.as_deref()),
            (&[("a".to_owned(), "2".to_owned())][..], Some("/1"))
        );
    }
}
