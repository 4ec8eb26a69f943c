//! What a rule of the gateway does with the requests that it takes.

use std::time::Duration;

use serde_json::json;
use watt_core::{
    ServiceId,
    plan::{HeaderRules, PathMatch, RouteFault, RouteTarget},
};
use watt_policies::fields;

use super::{
    Text,
    fields::{Field, Fields, Written},
    files,
    gateway::service_name,
    openapi,
    route::{RoutePath, bad, filled_in, is_token, with_parameters, without_slash},
    service, upstream,
};
use crate::{
    keys::{FAULT, HEADER_RULES, MIRROR, REDIRECT, RESPOND},
    report::Problem,
    scalar::{Bad, HostName, Percent, Scalar, Whole, quote},
    show::Shown,
    source::Span,
    tree::Value,
};

/// The longest body of an answer of the proxy's own.
const BODY_BYTES_MAX: usize = 64 << 10;

/// How many headers a route changes, each way: the proxy counts on no more for HTTP/2.
const HEADERS_MAX: usize = 32;

/// How long their names and values may be, and what they are together in bytes. Others refuse a head with longer ones.
const HEADERS_BYTES_MAX: usize = 8 << 10;

/// The longest delay on purpose.
const DELAY_MAX: Duration = Duration::from_secs(60);

/// Whether a field of requests is the connection's, of the framing, or the proxy's to make.
pub(super) fn is_own_of_requests(name: &str) -> bool {
    fields::own_folded(name.as_bytes()).is_some()
}

/// The same of responses.
pub(super) fn is_own_of_responses(name: &str) -> bool {
    OWN_OF_RESPONSES.contains(&name) || name.starts_with("sec-websocket-")
}

const OWN_OF_RESPONSES: [&str; 7] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What becomes of the requests, and the services that are named there.
pub(super) type Target = (RouteTarget, Vec<(ServiceId, Span)>);

/// The one of its keys that is written.
pub(super) fn target(
    f: &mut Fields<'_, '_, '_>,
    matching: PathMatch,
    path: Option<&RoutePath>,
) -> Option<Target> {
    let written = ["service", "services", "upstream", "static", "openapi", "redirect", "respond"]
        .map(|key| f.written(key).map(|field| (key, field.key_span)));
    let mut written = written.into_iter().flatten();
    let first = written.next();
    if let (Some((one, place)), Some((other, span))) = (first, written.next()) {
        let problem = Problem::new(span, format!("{} and {} together", quote(one), quote(other)));
        f.d.problem(problem.related(place, "the other one is here").hint("a route has one of them"));
    }
    let service = match first {
        None | Some(("service", _)) => service_name(f, "service"),
        Some(_) => {
            f.field("service");
            None
        }
    };
    let split = split(f);
    let upstream = upstream::decode(f);
    let files = files::decode(f, matching);
    let page = openapi::of_route(f, matching);
    let redirect = redirect(f, matching, path);
    let respond = respond(f);
    let sticky = f.parsed("sticky", cookie_name, |name| json!(name));
    if let (Some(Written { span: Some(span), .. }), false) = (&sticky, f.is_written("services")) {
        let problem = Problem::new(*span, "`sticky` has no effect without `services`");
        f.d.problem(problem.hint("it keeps clients with one of `services`"));
    }
    let split = split.map(|shares| {
        let services = shares.iter().map(|(id, _, at)| (id.clone(), *at)).collect();
        let shares = shares.into_iter().map(|(id, weight, _)| (id, weight)).collect();
        (RouteTarget::Split { shares, sticky: sticky.map(|sticky| sticky.value) }, services)
    });
    service
        .map(|(id, at)| (RouteTarget::Service(id.clone()), vec![(id, at)]))
        .or(split)
        .or(upstream)
        .or(files.or(page).or(redirect).or(respond).map(|target| (target, Vec::new())))
}

fn split(f: &mut Fields<'_, '_, '_>) -> Option<Vec<(ServiceId, u32, Span)>> {
    let field = f.written("services");
    let mut shares = Vec::new();
    let mut shown = Vec::new();
    let entries = f.entries("services", "service");
    for entry in entries {
        if f.d.problems.is_full() {
            break;
        }
        let id = service::id(f.d, &entry.key.text, entry.key.span);
        let value = Field::from(entry);
        let text = f.d.scalar(value.node, value.at(), &entry.key.text, "a weight such as `9`", &[]);
        let Some((id, text)) = id.zip(text) else { continue };
        let Some(Whole(weight)) = f.d.parse(&text, Whole::<0, 1000>::parse) else { continue };
        shown.push((
            id.as_str().to_owned(),
            Shown::Leaf { value: json!(weight), from: text.from, span: Some(text.span) },
        ));
        shares.push((id, u32::try_from(weight).unwrap_or(u32::MAX), entry.key.span));
    }
    let field = field?;
    f.show("services", Shown::Map(shown));
    if shares.iter().all(|(_, weight, _)| *weight == 0) {
        // One that is wrong was noted.
        let is_table = matches!(field.node.value, Value::Map(_) | Value::Null);
        if shares.len() == entries.len() && is_table {
            let problem = Problem::new(field.key_span, "no service gets a request");
            f.d.problem(problem.hint("for example `services: { api: 9, next: 1 }`"));
        }
        return None;
    }
    Some(shares)
}

/// A name that needs no quotes (RFC 6265 §4.1.1).
pub(super) fn cookie_name(text: &str) -> Result<String, Bad> {
    if is_token(text) && text.len() <= 64 {
        return Ok(text.to_owned());
    }
    Err(bad(format!("{} is not the name of a cookie", quote(text)), "for example `canary`"))
}

fn redirect(
    f: &mut Fields<'_, '_, '_>,
    matching: PathMatch,
    path: Option<&RoutePath>,
) -> Option<RouteTarget> {
    let field = f.field("redirect")?;
    let mut inner = Fields::open(f.d, &REDIRECT, Some(field), Some("to"));
    let to = match inner.field("to") {
        Some(field) => with_parameters(&mut inner, "to", field, PathMatch::Prefix),
        None => {
            inner.missing("to");
            None
        }
    };
    let to = to.and_then(|text| place(&mut inner, text, matching, path));
    let status: Written<Whole<301, 308>> = inner.value("status");
    if let (304..=306, Some(span)) = (status.value.0, status.span) {
        let problem = Problem::new(span, format!("{} sends nobody elsewhere", status.value.0));
        inner.d.problem(problem.hint("301, 302, 303, 307 or 308"));
    }
    let shown = inner.close();
    f.show("redirect", shown);
    Some(RouteTarget::Redirect { status: u16::try_from(status.value.0).unwrap_or(307), to: to? })
}

/// A path or a URL, with the parameters of the route's path in its own.
fn place(
    f: &mut Fields<'_, '_, '_>,
    text: Text,
    matching: PathMatch,
    path: Option<&RoutePath>,
) -> Option<String> {
    let known = path.map(|path| path.parameters.as_slice());
    let parse = |text: &str| {
        let scheme = ["http://", "https://"].into_iter().find(|scheme| text.starts_with(scheme));
        let Some(scheme) = scheme else { return filled_in(text, known) };
        let rest = &text[scheme.len()..];
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
            _ => (host, None),
        };
        let HostName(plain) = HostName::parse(name)?;
        if plain.starts_with('*') {
            return Err(bad(
                format!("{} is not the name of one host", quote(&plain)),
                "write one, or a path alone for the host that was asked",
            ));
        }
        if let Some(port) = port {
            Whole::<1, 65535>::parse(port)?;
        }
        let path = if path.is_empty() { String::new() } else { filled_in(path, known)? };
        Ok(format!("{scheme}{host}{path}"))
    };
    let to = f.d.parse(&text, parse)?;
    f.show("to", Shown::Leaf { value: json!(to), from: text.from, span: Some(text.span) });
    Some(match matching {
        PathMatch::Prefix => without_slash(&to, ""),
        PathMatch::Exact | PathMatch::Regex => to,
    })
}

fn respond(f: &mut Fields<'_, '_, '_>) -> Option<RouteTarget> {
    let field = f.field("respond")?;
    let mut inner = Fields::open(f.d, &RESPOND, Some(field), Some("status"));
    let status: Written<Whole<200, 599>> = inner.value("status");
    let body = inner.parsed(
        "body",
        |text| match text.len() {
            ..=BODY_BYTES_MAX => Ok(text.to_owned()),
            _ => Err(bad("the body has more than 64K".to_owned(), "a service answers with more")),
        },
        |text| json!(text),
    );
    let content_type = inner.parsed("type", header_value, |text| json!(text));
    if let (204 | 205 | 304, Some(Written { span: Some(span), .. })) = (status.value.0, &body) {
        let problem = Problem::new(*span, format!("an answer with status {} has no body", status.value.0));
        inner.d.problem(problem.hint("remove it, or write another status"));
    }
    let shown = inner.close();
    f.show("respond", shown);
    Some(RouteTarget::Respond {
        status: u16::try_from(status.value.0).unwrap_or(503),
        body: body.map(|body| body.value).unwrap_or_default(),
        content_type: content_type.map(|written| written.value).unwrap_or_default(),
    })
}

pub(super) fn header_value(text: &str) -> Result<String, Bad> {
    if text.chars().all(|c| c == '\t' || (' '..='~').contains(&c)) {
        return Ok(text.to_owned());
    }
    Err(Bad { message: format!("{} has characters that no header has", quote(text)), hint: None })
}

/// The headers that are changed; not those that are the proxy's own.
pub(super) fn header_rules(
    f: &mut Fields<'_, '_, '_>,
    key: &'static str,
    is_own: fn(&str) -> bool,
) -> HeaderRules {
    let field = f.field(key);
    let mut inner = Fields::open(f.d, &HEADER_RULES, field, None);
    let set = header_values(&mut inner, "set", is_own);
    let add = header_values(&mut inner, "add", is_own);
    let remove =
        inner.each("remove", "a header's name", |text| header_name(text, is_own), |name| json!(name));
    let remove: Vec<String> = remove.unwrap_or_default().into_iter().map(|(name, _)| name).collect();
    let bytes: usize = set.iter().chain(&add).map(|(name, value)| name.len() + value.len() + 4).sum();
    if let Some(Field { key_span, .. }) = field {
        let too_many = format!("more than {HEADERS_MAX} headers are changed");
        let too_long =
            format!("the headers that are set and added have more than {} KB", HEADERS_BYTES_MAX >> 10);
        for (is_too_much, message) in [
            (set.len() + add.len() + remove.len() > HEADERS_MAX, too_many),
            (bytes > HEADERS_BYTES_MAX, too_long),
        ] {
            if is_too_much {
                inner.d.problem(Problem::new(key_span, message));
            }
        }
    }
    let shown = inner.close();
    f.show(key, shown);
    HeaderRules { remove, set, add }
}

fn header_values(
    f: &mut Fields<'_, '_, '_>,
    key: &'static str,
    is_own: fn(&str) -> bool,
) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut shown = Vec::new();
    for entry in f.entries(key, "name") {
        if f.d.problems.is_full() {
            break;
        }
        let name = match header_name(&entry.key.text, is_own) {
            Ok(name) => name,
            Err(Bad { message, hint }) => {
                f.d.problem(Problem::new(entry.key.span, message).maybe_hint(hint));
                continue;
            }
        };
        let field = Field::from(entry);
        let Some(text) = f.d.scalar(field.node, field.at(), &name, "text", &[]) else { continue };
        let Some(value) = f.d.parse(&text, header_value) else { continue };
        if pairs.iter().any(|(other, _)| *other == name) {
            f.d.problem(Problem::new(entry.key.span, format!("the header {} is there twice", quote(&name))));
            continue;
        }
        shown.push((
            name.clone(),
            Shown::Leaf { value: json!(value), from: text.from, span: Some(text.span) },
        ));
        pairs.push((name, value));
    }
    f.show(key, Shown::Map(shown));
    pairs
}

fn header_name(text: &str, is_own: fn(&str) -> bool) -> Result<String, Bad> {
    let name = text.to_ascii_lowercase();
    if !is_token(&name) {
        return Err(Bad { message: format!("{} is not the name of a header", quote(text)), hint: None });
    }
    // Many programs take `_` for `-`.
    if is_own(&name.replace('_', "-")) {
        let message = format!("{} is the connection's or the proxy's own", quote(text));
        return Err(Bad { message, hint: None });
    }
    Ok(name)
}

pub(super) fn fault(f: &mut Fields<'_, '_, '_>) -> Option<RouteFault> {
    let field = f.field("fault")?;
    let mut inner = Fields::open(f.d, &FAULT, Some(field), None);
    let delay: Option<Written<Duration>> = inner.scalar("delay");
    let delayed: Written<Percent> = inner.value("delayed");
    let abort: Option<Written<Whole<400, 599>>> = inner.scalar("abort");
    let aborted: Written<Percent> = inner.value("aborted");
    if let Some(Written { value, span: Some(span) }) = &delay
        && *value > DELAY_MAX
    {
        inner.d.problem(Problem::new(*span, "a delay on purpose is at most a minute"));
    }
    for (written, part, of, parts) in
        [(delay.is_some(), &delayed, "delay", "delayed"), (abort.is_some(), &aborted, "abort", "aborted")]
    {
        if let (false, false, Some(span)) = (written, inner.is_written(of), part.span) {
            let problem = Problem::new(span, format!("`{parts}` has no effect without `{of}`"));
            inner.d.problem(problem.hint(format!("write `{of}`, or remove it")));
        }
    }
    if inner.is_empty() {
        let problem = Problem::new(field.key_span, "a fault that is none");
        inner.d.problem(problem.hint("write `delay` or `abort`, or remove it"));
    }
    let shown = inner.close();
    f.show("fault", shown);
    Some(RouteFault {
        delay: delay.map(|delay| (delay.value, delayed.value.0)),
        abort: abort.map(|abort| (u16::try_from(abort.value.0).unwrap_or(503), aborted.value.0)),
    })
}

/// Who gets copies, and of how many of a hundred requests.
pub(super) fn mirror(f: &mut Fields<'_, '_, '_>) -> Option<(ServiceId, u32, Span)> {
    let field = f.field("mirror")?;
    let mut inner = Fields::open(f.d, &MIRROR, Some(field), Some("service"));
    let service = service_name(&mut inner, "service");
    let part: Written<Percent> = inner.value("part");
    let shown = inner.close();
    f.show("mirror", shown);
    service.map(|(id, at)| (id, part.value.0, at))
}

/// What has no effect where no service gets the requests.
pub(super) fn check_unused(f: &mut Fields<'_, '_, '_>, target: &RouteTarget) {
    if !target.is_answer() {
        return;
    }
    for key in ["strip", "rewrite", "request_headers", "mirror", "cache", "compress"] {
        if let Some(field) = f.written(key) {
            let problem =
                Problem::new(field.key_span, format!("`{key}` has no effect: no service sees the request"));
            f.d.problem(problem.hint("remove it"));
        }
    }
}
