//! One rule of the gateway.

use serde_json::json;
use watt_core::{
    ServiceId,
    plan::{PathMatch, RequestPart, Route, RouteCondition, ValueTest},
};

use super::{
    Decoder, Text, actions, cache, compress,
    fields::{Field, Fields, Written},
    gateway::start_of,
    guard, openapi,
};
use crate::{
    keys::{PATH_CASE, PATH_MATCH, ROUTE, ROUTE_CONDITION},
    report::{Problem, did_you_mean},
    scalar::{Bad, Expression, HostName, Scalar, UrlPath, quote},
    show::Shown,
    source::Span,
    tree::{Node, Value},
};

/// The most segments of a path: the proxy goes down its tree by one for each.
const SEGMENTS_MAX: usize = 64;

/// How much a route asks for at most: headers, cookies and parameters together, and methods. Each of them is looked for in each request
/// that takes the path.
const CONDITIONS_MAX: usize = 32;

/// The longest method, as in the proxy.
const METHOD_LEN_MAX: usize = 32;

/// A route with its places.
#[derive(Debug)]
pub(crate) struct RouteDraft {
    pub(crate) route: Route,
    /// Where it starts.
    pub(crate) at: Span,
    /// The services it names, and where.
    pub(crate) services: Vec<(ServiceId, Span)>,
}

/// A path of a route, and the names of what it has parameters for.
pub(super) struct RoutePath {
    text: String,
    pub(super) parameters: Vec<String>,
}

pub(super) fn decode(d: &mut Decoder<'_>, node: &Node, base: &guard::Base) -> (Option<RouteDraft>, Shown) {
    let at = start_of(node);
    let mut f = Fields::open(d, &ROUTE, Some(Field { key_span: at, node }), None);
    let matching = f.word_or_default("match", &PATH_MATCH).value;
    let path = path(&mut f, matching);
    let case_exact = f.word_or_default("case", &PATH_CASE).value;
    let host: Option<Written<HostName>> = f.scalar("host");
    let methods = f.each("methods", "a method", method, |method| json!(method)).unwrap_or_default();
    let mut conditions = Vec::new();
    for (key, part) in
        [("headers", RequestPart::Header), ("cookies", RequestPart::Cookie), ("query", RequestPart::Query)]
    {
        conditions.extend(self::conditions(&mut f, key, part));
    }
    for (key, count) in [("methods", methods.len()), ("conditions", conditions.len())] {
        if count > CONDITIONS_MAX {
            f.d.problem(Problem::new(at, format!("a route with more than {CONDITIONS_MAX} {key}")));
        }
    }
    let target = actions::target(&mut f, matching, path.as_ref().map(|path| &path.value));
    let strip: Written<bool> = f.value("strip");
    let rewrite = rewrite(&mut f, path.as_ref().map(|path| &path.value));
    check_strip(&mut f, matching, &strip, rewrite.as_ref());
    let request_headers = actions::header_rules(&mut f, "request_headers", actions::is_own_of_requests);
    let response_headers = actions::header_rules(&mut f, "response_headers", actions::is_own_of_responses);
    let fault = actions::fault(&mut f);
    let mirror = actions::mirror(&mut f);
    let (guard, asked) = guard::of_route(&mut f, base);
    let cache = cache::of_route(&mut f);
    let (deprecation, sunset) = openapi::notices(&mut f);
    let compress = compress::of_route(&mut f, &base.compress);
    if let Some((target, _)) = &target {
        actions::check_unused(&mut f, target);
    }
    let shown = f.close();
    let route = path.zip(target).map(|(path, (target, services))| RouteDraft {
        route: Route {
            path: if matching == PathMatch::Prefix {
                without_slash(&path.value.text, "/")
            } else {
                path.value.text
            },
            matching,
            case_exact,
            host: host.map(|written| written.value.0),
            methods: methods.into_iter().map(|(method, _)| method).collect(),
            conditions,
            target,
            rewrite: match rewrite {
                Some(rewrite) if matching == PathMatch::Prefix => Some(without_slash(&rewrite.value, "")),
                Some(rewrite) => Some(rewrite.value),
                None => strip.value.then(String::new),
            },
            request_headers,
            response_headers,
            fault,
            mirror: mirror.as_ref().map(|(service, percent, _)| (service.clone(), *percent)),
            guard,
            cache,
            deprecation,
            sunset,
            compress,
        },
        at: path.span.unwrap_or(at),
        services: services
            .into_iter()
            .chain(mirror.map(|(service, _, at)| (service, at)))
            .chain(asked)
            .collect(),
    });
    (route, shown)
}

/// A path without the slash at its end: `/api/` is a prefix of the same segments as `/api`. `root` is what `/` becomes.
pub(super) fn without_slash(path: &str, root: &str) -> String {
    match path.trim_end_matches('/') {
        "" => root.to_owned(),
        path => path.to_owned(),
    }
}

fn path(f: &mut Fields<'_, '_, '_>, matching: PathMatch) -> Option<Written<RoutePath>> {
    let Some(field) = f.field("path") else {
        if matching == PathMatch::Regex {
            f.missing("path");
            return None;
        }
        f.show("path", Shown::default_value(json!("/")));
        return Some(Written { value: RoutePath { text: "/".into(), parameters: Vec::new() }, span: None });
    };
    let text = with_parameters(f, "path", field, matching)?;
    let path = match matching {
        PathMatch::Prefix | PathMatch::Exact => f.d.parse(&text, segments)?,
        PathMatch::Regex => f.d.parse(&text, expression)?,
    };
    f.show("path", Shown::Leaf { value: json!(path.text), from: text.from, span: Some(text.span) });
    Some(Written { value: path, span: Some(text.span) })
}

/// A text in which `{name}` in lower case stays for the proxy, which fills it in from each request's path.
pub(super) fn with_parameters(
    f: &mut Fields<'_, '_, '_>,
    key: &'static str,
    field: Field<'_>,
    matching: PathMatch,
) -> Option<Text> {
    let written = match &field.node.value {
        Value::Scalar { text, .. } if key != "path" || matching != PathMatch::Regex => text.as_str(),
        Value::Scalar { .. } | Value::Null | Value::List(_) | Value::Map(_) => "",
    };
    f.d.scalar(field.node, field.at(), key, "a path such as `/users/{id}`", &parameters_in(written))
}

/// The names that stay as they are in a text: `{name}` in lower case.
pub(super) fn parameters_in(text: &str) -> Vec<&str> {
    let names = text.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    names.filter(|name| is_name(name)).collect()
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

pub(super) fn bad(message: String, hint: impl Into<String>) -> Bad {
    Bad { message, hint: Some(hint.into()) }
}

/// A path that is compared segment by segment has letters that everybody reads alike: requests for others, which are written with `%`, or
/// cut at `;` by some, would be refused as ambiguous, whatever the route says.
pub(super) fn spelt_in_one_way(text: &str) -> Result<(), Bad> {
    let differs = |c: &char| !c.is_ascii_graphic() || matches!(c, '%' | ';' | '?' | '\\' | '"' | '<' | '>');
    let Some(c) = text.chars().find(differs) else { return Ok(()) };
    let hint = match c {
        '?' => "what has to be in the query is written as `query: {name: value}`",
        ';' => {
            "some read no further than there: leave it out, or write `match: regex` and take both, `/a(;.*)?`"
        }
        _ => {
            r"write `match: regex`, and what it is over the wire as well as what that is decoded to: `/caf(%C3%A9|\xC3\xA9)`"
        }
    };
    Err(bad(format!("{} cannot be in the path of a route", quote(&c.to_string())), hint))
}

fn segments(text: &str) -> Result<RoutePath, Bad> {
    spelt_in_one_way(text)?;
    let UrlPath::<false>(text) = UrlPath::parse(text)?;
    let mut parameters: Vec<String> = Vec::new();
    if text.split('/').count() > SEGMENTS_MAX + 1 {
        return Err(bad(
            format!("{} has more than {SEGMENTS_MAX} segments", quote(&text)),
            "a route for what they begin with takes them as well",
        ));
    }
    for segment in text.split('/').filter(|segment| segment.contains(['{', '}'])) {
        let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let Some(name) = name.filter(|name| is_name(name)) else {
            return Err(bad(
                format!("{} is no parameter of a path", quote(segment)),
                "a parameter is a whole segment, `{name}`, and begins with a letter in lower case; for a part of a segment write `match: regex`",
            ));
        };
        if parameters.iter().any(|other| other == name) {
            return Err(bad(
                format!("two parameters are called {}", quote(name)),
                "give one of them another name",
            ));
        }
        parameters.push(name.to_owned());
    }
    Ok(RoutePath { text, parameters })
}

fn expression(text: &str) -> Result<RoutePath, Bad> {
    let Expression { text, groups } = Expression::parse(text)?;
    if text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return Err(bad(
            format!("{} matches no path: they all begin with `/`", quote(&text)),
            format!("did you mean {}?", quote(&format!("/{text}"))),
        ));
    }
    Ok(RoutePath { text, parameters: groups })
}

/// A method (RFC 9110 §9.1): their case matters, and those that there are have capital letters.
pub(super) fn method(text: &str) -> Result<String, Bad> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || text.len() > METHOD_LEN_MAX || !text.bytes().all(is_token) {
        return Err(bad(format!("{} is not a method", quote(text)), "for example `GET`"));
    }
    let upper = text.to_ascii_uppercase();
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"];
    if text != upper && known.contains(&upper.as_str()) {
        return Err(bad(
            format!("{} is not a method: they are written in capital letters", quote(text)),
            format!("did you mean {}?", quote(&upper)),
        ));
    }
    if text == "CONNECT" {
        return Err(bad("the gateway takes no CONNECT".to_owned(), "remove it"));
    }
    Ok(text.to_owned())
}

fn conditions(f: &mut Fields<'_, '_, '_>, key: &'static str, part: RequestPart) -> Vec<RouteCondition> {
    let mut conditions: Vec<RouteCondition> = Vec::new();
    let mut shown = Vec::new();
    for entry in f.entries(key, "name") {
        if f.d.problems.is_full() {
            break;
        }
        let name = match part {
            RequestPart::Header => entry.key.text.to_ascii_lowercase(),
            RequestPart::Cookie | RequestPart::Query => entry.key.text.clone(),
        };
        let problem = match part {
            _ if conditions.iter().any(|other| other.name == name) => {
                Some(format!("the header {} is there twice", quote(&name)))
            }
            RequestPart::Header | RequestPart::Cookie if !is_token(&name) => {
                Some(format!("{} is not the name of a {}", quote(&name), key.trim_end_matches('s')))
            }
            RequestPart::Header if is_the_proxys(&name) => {
                let hint = match name.as_str() {
                    "host" => "write `host` beside `path`",
                    _ => "ask for a header that goes on to the service as the client sent it",
                };
                let problem = format!(
                    "{} is replaced or dropped by the proxy, so clients may write anything",
                    quote(&name)
                );
                f.d.problem(Problem::new(entry.key.span, problem).hint(hint));
                None
            }
            RequestPart::Query if name.is_empty() => Some("a parameter has a name".to_owned()),
            RequestPart::Header | RequestPart::Cookie | RequestPart::Query => None,
        };
        if let Some(problem) = problem {
            f.d.problem(Problem::new(entry.key.span, problem));
        }
        let (test, shown_test) = test(f.d, Field::from(entry));
        shown.push((name.clone(), shown_test));
        conditions.extend(test.map(|test| RouteCondition { part, name, test }));
    }
    f.show(key, Shown::Map(shown));
    conditions
}

/// Whether a header is one that the proxy does not pass on as the client sent it: it would be asked for something that no service sees.
/// With `_` for `-` it is dropped as well.
pub(super) fn is_the_proxys(name: &str) -> bool {
    watt_policies::fields::is_replaced(name.as_bytes())
}

pub(super) fn is_token(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// What a value has to be: one of the keys of its table.
fn test(d: &mut Decoder<'_>, field: Field<'_>) -> (Option<ValueTest>, Shown) {
    let at = field.at();
    let mut f = Fields::open(d, &ROUTE_CONDITION, Some(field), Some("is"));
    let is = f.parsed("is", |text| Ok(text.to_owned()), |text| json!(text));
    let regex: Option<Written<Expression>> = f.scalar("regex");
    let present: Option<Written<bool>> = f.scalar("present");
    let presence = |present: bool| if present { ValueTest::Present } else { ValueTest::Absent };
    let mut tests = Vec::new();
    tests.extend(is.map(|is| ValueTest::Is(is.value)));
    tests.extend(regex.map(|regex| ValueTest::Regex(regex.value.text)));
    tests.extend(present.map(|present| presence(present.value)));
    let is_written = ["is", "regex", "present"].into_iter().filter(|key| f.is_written(key)).count();
    if is_written > 1 {
        f.d.problem(
            Problem::new(at, "more than one of `is`, `regex` and `present`").hint("keep one of them"),
        );
    }
    if f.is_empty() {
        f.d.problem(
            Problem::new(at, "nothing that it has to be").hint("write the value, or `present: true`"),
        );
    }
    // In its short form where that says it all.
    let shown = match f.close() {
        Shown::Map(mut parts) if matches!(&parts[..], [(key, _)] if key == "is") => parts.remove(0).1,
        shown => shown,
    };
    (tests.into_iter().next(), shown)
}

/// What the path becomes, with parameters that the path has.
fn rewrite(f: &mut Fields<'_, '_, '_>, path: Option<&RoutePath>) -> Option<Written<String>> {
    let field = f.field("rewrite")?;
    let text = with_parameters(f, "rewrite", field, PathMatch::Prefix)?;
    let known = path.map(|path| path.parameters.as_slice());
    let rewrite = f.d.parse(&text, |text| filled_in(text, known))?;
    f.show("rewrite", Shown::Leaf { value: json!(rewrite), from: text.from, span: Some(text.span) });
    Some(Written { value: rewrite, span: Some(text.span) })
}

/// A path in which nothing stands for what is not known. Whatever will do where the route's own path is wrong.
pub(super) fn filled_in(text: &str, known: Option<&[String]>) -> Result<String, Bad> {
    let UrlPath::<false>(text) = UrlPath::parse(text)?;
    let mut rest = text.as_str();
    while let Some(at) = rest.find(['{', '}']) {
        let inner = rest[at..].strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let Some((name, after)) = inner.filter(|(name, _)| is_name(name)) else {
            return Err(bad(
                format!("a brace of {} is no parameter", quote(&text)),
                "write `%7B` for `{` and `%7D` for `}`",
            ));
        };
        if let Some(known) = known.filter(|known| !known.iter().any(|other| other == name)) {
            let names = || known.iter().map(String::as_str);
            let hint = did_you_mean(name, names()).unwrap_or_else(|| match known {
                [] => "the path has no parameters".to_owned(),
                _ => format!("the path has {}", names().map(quote).collect::<Vec<_>>().join(", ")),
            });
            return Err(bad(format!("the path has no parameter {}", quote(name)), hint));
        }
        rest = after;
    }
    Ok(text)
}

fn check_strip(
    f: &mut Fields<'_, '_, '_>,
    matching: PathMatch,
    strip: &Written<bool>,
    rewrite: Option<&Written<String>>,
) {
    if let (true, Some(Written { span: Some(span), .. })) = (strip.value, rewrite) {
        let problem =
            Problem::new(*span, "`strip` and `rewrite` together").hint("`rewrite` alone replaces the path");
        f.d.problem(match strip.span {
            Some(strip) => problem.related(strip, "`strip` is here"),
            None => problem,
        });
    }
    if let (true, Some(span), PathMatch::Exact | PathMatch::Regex) = (strip.value, strip.span, matching) {
        let problem = Problem::new(span, "`strip` would leave nothing of the path");
        f.d.problem(problem.hint("write what it becomes: `rewrite: /`"));
    }
}
