//! Descriptions of services' APIs, the page that has them all, and what clients are told of a route's end.

use std::collections::BTreeMap;

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde_json::json;
use watt_core::plan::{ApiPage, DescribedBy, Description, Listen, Notice, PathMatch, RouteTarget};

use super::{
    fields::{Field, Fields, Written},
    route::{bad, method, parameters_in},
};
use crate::{
    keys::{API_PAGE, DESCRIPTION, NOTICE},
    report::Problem,
    scalar::{Bad, UrlPath, quote},
    show::Shown,
    source::Span,
    tree::Value,
};

/// How many parts of a description are ignored, or called otherwise.
const RULES_MAX: usize = 1_000;

/// The longest text about a page, and the longest name.
const TEXT_MAX: usize = 64 << 10;
const NAME_MAX: usize = 200;

/// The longest link.
const LINK_MAX: usize = 2_000;

/// `openapi` of a service.
pub(super) fn of_service(f: &mut Fields<'_, '_, '_>, listen: Listen) -> Option<Description> {
    let field = f.field("openapi")?;
    let mut inner = Fields::open(f.d, &DESCRIPTION, Some(field), Some("path"));
    let path: Option<Written<UrlPath<true>>> = inner.scalar("path");
    let file = inner.path("file");
    let base: Option<Written<UrlPath<false>>> = inner.scalar("base");
    let refresh = inner.duration_or_never("refresh");
    let ignore = ignore(&mut inner);
    let rename = rename(&mut inner);
    if let (Some(written), Some(other)) = (inner.written("path"), inner.written("file")) {
        let problem = Problem::new(other.key_span, "`path` and `file` together");
        inner.d.problem(problem.related(written.key_span, "the other one is here").hint("keep one of them"));
    }
    if !inner.is_written("path") && !inner.is_written("file") {
        inner.missing("path");
    }
    if let (Listen::None, Some(Written { span: Some(span), .. })) = (listen, &path) {
        let problem = Problem::new(*span, "nobody can ask this service: its `listen` is `none`");
        inner.d.problem(problem.hint("write `file`"));
    }
    let shown = inner.close();
    f.show("openapi", shown);
    let from = match (path, file) {
        (Some(path), _) => DescribedBy::Path(path.value.0),
        (None, Some(file)) => DescribedBy::File(file.value),
        (None, None) => return None,
    };
    Some(Description {
        from,
        base: base.map(|base| base.value.0.trim_end_matches('/').to_owned()).unwrap_or_default(),
        refresh: refresh.and_then(|refresh| refresh.value),
        ignore,
        rename,
    })
}

/// Paths in which `{name}` is a parameter.
fn ignore(f: &mut Fields<'_, '_, '_>) -> Vec<(Option<String>, String)> {
    let mut paths = Vec::new();
    let mut shown = Vec::new();
    let items = f.list("ignore");
    if let Some(beyond) = items.get(RULES_MAX) {
        f.d.problem(Problem::new(beyond.span, format!("more than {RULES_MAX} paths are left out")));
        return paths;
    }
    for item in items {
        if f.d.problems.is_full() {
            break;
        }
        let written = if let Value::Scalar { text, .. } = &item.value { text.as_str() } else { "" };
        let Some(text) = f.d.scalar(item, item.span, "ignore", "a path", &parameters_in(written)) else {
            continue;
        };
        let Some(path) = f.d.parse(&text, ignored) else { continue };
        shown.push(Shown::Leaf { value: json!(text.text), from: text.from, span: Some(text.span) });
        paths.push(path);
    }
    f.show("ignore", Shown::List(shown));
    paths
}

/// `GET /path`, or a path.
fn ignored(text: &str) -> Result<(Option<String>, String), Bad> {
    let (of, path) = match text.split_once(' ') {
        Some((of, path)) => (Some(method(of)?), path.trim_start()),
        None => (None, text),
    };
    match path.starts_with('/') && path.len() <= LINK_MAX {
        true => Ok((of, path.to_owned())),
        false => Err(bad(
            format!("{} is no path of a description", quote(text)),
            "for example `/internal/*`, or `DELETE /users/{id}`",
        )),
    }
}

fn rename(f: &mut Fields<'_, '_, '_>) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    let mut shown = Vec::new();
    let entries = f.entries("rename", "name");
    if let Some(beyond) = entries.get(RULES_MAX) {
        f.d.problem(Problem::new(beyond.key.span, format!("more than {RULES_MAX} names")));
        return names;
    }
    for entry in entries {
        if f.d.problems.is_full() {
            break;
        }
        let field = Field::from(entry);
        let Some(text) = f.d.scalar(field.node, field.at(), &entry.key.text, "a name", &[]) else { continue };
        let Some(name) = f.d.parse(&text, component) else { continue };
        let leaf = Shown::Leaf { value: json!(name), from: text.from, span: Some(text.span) };
        shown.push((entry.key.text.clone(), leaf));
        names.insert(entry.key.text.clone(), name);
    }
    f.show("rename", Shown::Map(shown));
    names
}

/// A name of a component (OpenAPI 3.1 §4.8.7).
fn component(text: &str) -> Result<String, Bad> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match !text.is_empty() && text.len() <= NAME_MAX && text.bytes().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err(bad(
            format!("{} is not the name of a component", quote(text)),
            "letters of ASCII, digits, `.`, `_` and `-`",
        )),
    }
}

/// `openapi` of a route.
pub(super) fn of_route(f: &mut Fields<'_, '_, '_>, matching: PathMatch) -> Option<RouteTarget> {
    let field = f.field("openapi")?;
    if matching != PathMatch::Prefix {
        let problem = Problem::new(field.key_span, "`openapi` needs a path with everything below it");
        f.d.problem(problem.hint("remove `match`"));
    }
    let is_default = match &field.node.value {
        Value::Scalar { text, .. } if text == "false" => {
            let problem = Problem::new(field.at(), "a route that leads nowhere");
            f.d.problem(problem.hint("remove it, or write `openapi: true`"));
            return None;
        }
        Value::Scalar { text, .. } => text == "true",
        Value::Null | Value::List(_) | Value::Map(_) => false,
    };
    let opened = (!is_default).then_some(field);
    let mut inner = Fields::open(f.d, &API_PAGE, opened, Some("title"));
    let title = inner.parsed("title", |text| short(text, NAME_MAX), |text| json!(text));
    let version = inner.parsed("version", |text| short(text, NAME_MAX), |text| json!(text));
    let description = inner.parsed("description", |text| short(text, TEXT_MAX), |text| json!(text));
    let shown = inner.close();
    f.show("openapi", shown);
    Some(RouteTarget::ApiPage(ApiPage {
        title: title.map(|title| title.value),
        version: version.map_or_else(|| "1.0.0".to_owned(), |version| version.value),
        description: description.map(|text| text.value),
    }))
}

fn short(text: &str, bytes_max: usize) -> Result<String, Bad> {
    match text.len() {
        1.. if text.len() <= bytes_max => Ok(text.to_owned()),
        0 => Err(bad("it is empty".to_owned(), "remove it")),
        _ => Err(bad(format!("it has more than {bytes_max} bytes"), "write less")),
    }
}

/// `deprecation` and `sunset` of a route.
pub(super) fn notices(f: &mut Fields<'_, '_, '_>) -> (Option<Notice>, Option<Notice>) {
    let deprecation = notice(f, "deprecation");
    let sunset = notice(f, "sunset");
    if let (Some((deprecation, _)), Some((sunset, at))) = (&deprecation, &sunset)
        && sunset.at < deprecation.at
    {
        let problem = Problem::new(*at, "the end comes before it is told that there is one");
        f.d.problem(problem.hint("`sunset` is not earlier than `deprecation` (RFC 9745 §4)"));
    }
    (deprecation.map(|(notice, _)| notice), sunset.map(|(notice, _)| notice))
}

fn notice(f: &mut Fields<'_, '_, '_>, key: &'static str) -> Option<(Notice, Span)> {
    let field = f.field(key)?;
    let mut inner = Fields::open(f.d, &NOTICE, Some(field), Some("at"));
    let at = inner.parsed("at", instant, |(_, text)| json!(text));
    if !inner.is_written("at") {
        inner.missing("at");
    }
    let link = inner.parsed("link", link, |text| json!(text));
    let shown = inner.close();
    f.show(key, shown);
    let at = at?;
    let (instant, _) = at.value;
    let zoned = instant.to_zoned_datetime(TimeZone::UTC);
    let notice = Notice {
        at: instant.as_second(),
        date: zoned.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
        link: link.map(|link| link.value),
    };
    Some((notice, at.span.unwrap_or(field.key_span)))
}

/// A day, or a time with its zone; with how it was written.
fn instant(text: &str) -> Result<(Timestamp, String), Bad> {
    let day =
        || text.parse::<Date>().ok().filter(|_| text.len() == 10)?.to_zoned_datetime(TimeZone::UTC).ok();
    let found = text.parse::<Timestamp>().ok().or_else(|| day().map(|zoned| zoned.timestamp()));
    match found {
        // Dates of HTTP have four digits for a year.
        Some(instant) if (1..=9999).contains(&instant.to_zoned_datetime(TimeZone::UTC).year()) => {
            Ok((instant, text.to_owned()))
        }
        _ => Err(bad(
            format!("{} is no date", quote(text)),
            "for example `2026-06-30`, or `2026-06-30T12:00:00Z`",
        )),
    }
}

/// A URL or a path, as it may stand between `<` and `>`.
fn link(text: &str) -> Result<String, Bad> {
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'<' | b'>' | b'"' | b'\\');
    let is_link = ["http://", "https://", "/"].iter().any(|begin| text.starts_with(begin));
    match is_link && text.len() <= LINK_MAX && text.bytes().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err(bad(
            format!("{} is neither a URL nor a path", quote(text)),
            "for example `https://example.org/moving`",
        )),
    }
}
