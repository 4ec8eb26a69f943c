//! Which requests are written to the access log.

use serde_json::json;
use watt_core::plan::AccessLog;

use super::fields::{Fields, Written};
use crate::{
    keys::{ACCESS, ACCESS_LOG, AccessWord},
    report::Problem,
    scalar::{Bad, Percent, quote},
    show::Shown,
    source::Span,
};

/// Their values let in whoever reads them.
const CREDENTIALS: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key"];

/// How many headers are written: a line is at most 8 KiB.
const HEADERS_MAX: usize = 16;

/// Decodes `access` of `logs`, and where its headers were written.
pub(super) fn decode(f: &mut Fields<'_, '_, '_>) -> (Option<AccessLog>, Vec<(String, Span)>) {
    let Some(field) = f.field("access") else {
        f.show("access", Shown::default_value(json!("none")));
        return (None, Vec::new());
    };
    let mut inner = Fields::open(f.d, &ACCESS_LOG, Some(field), Some("requests"));
    let requests = inner.word_or_default("requests", &ACCESS);
    let sample: Written<Percent> = inner.value("sample");
    let headers = inner.each("headers", "a header such as `user-agent`", header, |name| json!(name));
    let headers = headers.unwrap_or_default();
    for (at, (name, span)) in headers.iter().enumerate() {
        if at == HEADERS_MAX {
            inner.d.problem(Problem::new(*span, format!("more than {HEADERS_MAX} headers")));
        } else if headers[..at].iter().any(|(other, _)| other == name) {
            inner.d.problem(Problem::new(*span, format!("{} is there already", quote(name))));
        }
    }
    let query: Written<bool> = inner.value("query");
    let shown = inner.close();
    f.show("access", shown);
    let mesh = match requests.value {
        AccessWord::None => return (None, headers),
        AccessWord::Gateway => false,
        AccessWord::All => true,
    };
    let access = AccessLog {
        mesh,
        percent: u8::try_from(sample.value.0).unwrap_or(100),
        headers: headers.iter().map(|(name, _)| name.clone()).collect(),
        query: query.value,
    };
    (Some(access), headers)
}

fn header(text: &str) -> Result<String, Bad> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || text.len() > 64 || !text.bytes().all(is_token) {
        return Err(Bad {
            message: format!("{} is not the name of a header", quote(text)),
            hint: Some("for example `user-agent`".into()),
        });
    }
    let name = text.to_ascii_lowercase();
    if CREDENTIALS.contains(&&*name) {
        return Err(Bad {
            message: format!("{} lets in whoever reads it, and is not written to a log", quote(text)),
            hint: Some("remove it".into()),
        });
    }
    Ok(name)
}
