//! One line of output in the form it has everywhere: in the file, in memory and on the wire. It is encoded once.

use std::{borrow::Cow, sync::Arc};

use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use watt_api::control::{LogLine, Stream};
use watt_core::RunId;

use super::Source;

/// A JSON line nested deeper than this stays text: readers have limits (serde_json's is 128 with what we put around).
const JSON_DEPTH_MAX: usize = 100;
/// The name under which the mesh proxy's own output is kept. It is never mixed with a service of this name.
const PROXY_NAME: &str = "mesh-proxy";

/// A line of output.
#[derive(Debug, Clone)]
pub struct Entry {
    /// [`LogLine::seq`].
    pub seq: u64,
    /// The [`LogLine`] as JSON, without a newline.
    pub json: Arc<str>,
}

impl Entry {
    /// The line as a struct; `None` for one that somebody has tampered with in its file.
    pub fn line(&self) -> Option<LogLine> {
        serde_json::from_str(&self.json).ok()
    }

    /// What the worker wrote, apart from bytes that were not UTF-8; `None` as for [`line`](Self::line).
    pub fn text(&self) -> Option<Cow<'_, str>> {
        #[derive(Deserialize)]
        struct Written<'a> {
            #[serde(borrow, default)]
            text: Option<Cow<'a, str>>,
            #[serde(borrow, default)]
            json: Option<&'a RawValue>,
        }
        let written: Written<'_> = serde_json::from_str(&self.json).ok()?;
        written.text.or(written.json.map(|json| json.get().into()))
    }

    /// Says that lines of this source are missing here.
    pub(super) fn skipped(source: &str, at: &str, seq: u64, count: u64) -> Entry {
        let json = format!(
            r#"{{"at":"{at}","service":"{source}","worker":0,"run":0,"stream":"stdout","skipped":{count},"seq":{seq}}}"#
        );
        Entry { seq, json: json.into() }
    }
}

/// What all lines of one stream have in common, encoded.
#[derive(Debug)]
pub(super) struct Attribution(Box<str>);

impl Attribution {
    pub(super) fn new(source: &Source, run: RunId, stream: Stream) -> Attribution {
        let (service, worker) = (name(source.service()), source.worker());
        let task = match source {
            Source::Task { name, .. } => format!(r#""task":"{name}","#),
            Source::Worker(_) | Source::Proxy => String::new(),
        };
        let stream = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        // Names are made of letters, digits, '-' and '_', so nothing has to be escaped.
        Attribution(
            format!(r#""service":"{service}","worker":{worker},{task}"run":{run},"stream":"{stream}""#)
                .into(),
        )
    }

    /// Encodes a line.
    pub(super) fn entry(&self, at: &str, seq: u64, bytes: &[u8], partial: bool) -> Entry {
        let mut json = String::with_capacity(bytes.len() + self.0.len() + 100);
        json.push_str(r#"{"at":""#);
        json.push_str(at);
        json.push_str(r#"","#);
        json.push_str(&self.0);
        match json_object(bytes).filter(|_| !partial) {
            Some(object) => {
                json.push_str(r#","json":"#);
                json.push_str(object);
            }
            None => {
                json.push_str(r#","text":"#);
                json.push_str(&quoted(&String::from_utf8_lossy(bytes)));
            }
        }
        if partial {
            json.push_str(r#","partial":true"#);
        }
        json.push_str(r#","seq":"#);
        json.push_str(&seq.to_string());
        json.push('}');
        Entry { seq, json: json.into() }
    }
}

/// The name under which a source's skipped lines are reported.
pub(super) fn name(service: Option<&watt_core::ServiceId>) -> &str {
    service.map_or(PROXY_NAME, watt_core::ServiceId::as_str)
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    // Every text has a JSON form; serde_json fails only when a writer or a map key does.
    serde_json::to_string(text).unwrap_or_else(|_| r#""""#.into())
}

/// The line, when it is a JSON object that every reader can read: parsed in full, because a form that looks right may
/// still hold a number or an escape without a value.
fn json_object(bytes: &[u8]) -> Option<&str> {
    let bytes = bytes.trim_ascii();
    if bytes.first() != Some(&b'{') || bytes.last() != Some(&b'}') {
        return None;
    }
    let text = std::str::from_utf8(bytes).ok()?;
    let value: Value = serde_json::from_str(text).ok()?;
    (depth(&value) <= JSON_DEPTH_MAX).then_some(text)
}

/// How deep a value is nested. The parser has bounded it already.
fn depth(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use watt_core::{ServiceId, WorkerId};

    use super::*;

    fn line(bytes: &[u8], partial: bool) -> LogLine {
        let source = Source::Worker(WorkerId::new(ServiceId::new("api").unwrap(), 2));
        let attribution = Attribution::new(&source, RunId(7), Stream::Stderr);
        attribution.entry("2026-01-01T00:00:00.000Z", 5, bytes, partial).line().expect("a line is JSON")
    }

    fn check(bytes: &[u8], text: Option<&str>, json: Option<&str>) {
        let line = line(bytes, false);
        assert_eq!(line.text.as_deref(), text, "{bytes:?}");
        assert_eq!(line.json, json.map(|json| serde_json::from_str(json).unwrap()), "{bytes:?}");
    }

    #[test]
    fn a_line_says_whose_it_is() {
        let line = line(b"hello", true);
        assert_eq!((line.service.as_str(), line.worker, line.run, line.seq), ("api", 2, 7, 5));
        assert_eq!((line.stream, line.partial, line.skipped), (Stream::Stderr, true, None));
        assert_eq!(line.at, "2026-01-01T00:00:00.000Z");
    }

    #[test]
    fn json_objects_stay_json_and_all_else_is_text() {
        check(br#"{"a":[1,"x"]}"#, None, Some(r#"{"a":[1,"x"]}"#));
        check(b" {\"a\":1}\r", None, Some(r#"{"a":1}"#));
        check(b"[1]", Some("[1]"), None);
        check(b"42", Some("42"), None);
        check(b"{\"a\":1} {\"b\":2}", Some("{\"a\":1} {\"b\":2}"), None);
        check(b"{\"a\":1e999}", Some("{\"a\":1e999}"), None);
        check(br#"{"a":"\ud800"}"#, Some(r#"{"a":"\ud800"}"#), None);
        check(b"{\"a\":\"\xff\"}", Some("{\"a\":\"\u{fffd}\"}"), None);
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(101), "]".repeat(101));
        check(deep.as_bytes(), Some(&deep), None);
        assert_eq!(line(b"{}", true).json, None);
    }

    #[test]
    fn control_characters_survive_and_bad_bytes_are_replaced() {
        check(b"a\0b\x1b[31m\r", Some("a\0b\u{1b}[31m\r"), None);
        check(b"caf\xe9", Some("caf\u{fffd}"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_make_a_line(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let line = line(&bytes, false);
            prop_assert!(line.text.is_some() != line.json.is_some());
        }
    }
}
