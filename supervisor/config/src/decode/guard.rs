//! What requests have to pass: at the gateway as a whole, at a route, at a service.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    num::{NonZeroU32, NonZeroU64},
    time::Duration,
};

use serde_json::json;
use watt_core::{
    ServiceId,
    plan::{
        AccessRule, AddressRule, Authority, Caller, CertificateNames, Compress, Cors, CountedBy, Filter,
        Guard, KeysAt, RateLimit,
    },
};

use super::{
    auth, compress,
    fields::{Field, Fields, Written, show_word, word_of},
    route::{bad, is_token, method, spelt_in_one_way},
    service,
};
use crate::{
    keys::{
        ACCESS_CERTIFICATE, ACCESS_RULE, AUTHORITY, CORS, CORS_METHODS, COUNTED_BY, FILTER, OFF, RATE_LIMIT,
        REQUESTS_MAX, VERDICT, WHEN_FAILED,
    },
    report::Problem,
    scalar::{Bad, Bytes, HostName, Scalar, UrlPath, Whole, quote},
    show::Shown,
    source::Span,
    tree::Value,
};

/// The keys of it that the gateway and routes have.
const KEYS: [&str; 9] =
    ["ip", "cors", "body_limit", "rate_limit", "rules", "authority", "filters", "auth", "roles"];

/// The most rules of addresses, and limits of one place: each is asked for each request.
const RULES_MAX: usize = 1_000;
const LIMITS_MAX: usize = 16;

/// The most headers of an authority's answer that requests get.
const COPIED_MAX: usize = 32;

/// The most rules of who may do what.
const ACCESS_RULES_MAX: usize = 200;

/// The most filters of one place: each has requests wait for it.
const FILTERS_MAX: usize = 8;

/// What holds for the gateway as a whole, and so for routes that say nothing else.
pub(super) struct Base {
    guard: Guard,
    shown: Vec<(&'static str, Shown)>,
    /// The services that it names, and where.
    pub(super) services: Vec<(ServiceId, Span)>,
    /// How responses are compressed, and how that is shown.
    pub(super) compress: (Option<Compress>, Option<Shown>),
}

/// Whose it is.
#[derive(Clone, Copy)]
enum Place<'p> {
    Gateway,
    Route,
    Service(&'p str),
}

/// Decodes what the gateway as a whole has.
pub(super) fn of_gateway(f: &mut Fields<'_, '_, '_>) -> Base {
    let guard = decode(f, Place::Gateway);
    let services = named(f, &guard);
    check_auth(f, &guard);
    let shown = KEYS.into_iter().filter_map(|key| Some((key, f.shown(key)?.clone()))).collect();
    let compress = compress::decode(f);
    let compress = (compress, f.shown("compress").cloned());
    Base { guard, shown, services, compress }
}

/// Decodes what a route has, and the services that it names. A key that it does not have is the gateway's.
pub(super) fn of_route(f: &mut Fields<'_, '_, '_>, base: &Base) -> (Guard, Vec<(ServiceId, Span)>) {
    let own = decode(f, Place::Route);
    let services = named(f, &own);
    let mut guard = base.guard.clone();
    // Whoever may be anybody has no roles.
    let is_off = f.is_written("auth") && own.auth.is_none();
    if is_off {
        guard.roles.clear();
    }
    for key in KEYS {
        if !f.is_written(key) {
            if is_off && key == "roles" {
                continue;
            }
            if let Some((_, shown)) = base.shown.iter().find(|(other, _)| *other == key) {
                f.show(key, shown.clone());
            }
            continue;
        }
        match key {
            "ip" => guard.addresses.clone_from(&own.addresses),
            "cors" => guard.cors.clone_from(&own.cors),
            "body_limit" => guard.body_max = own.body_max,
            "auth" => guard.auth.clone_from(&own.auth),
            "roles" => guard.roles.clone_from(&own.roles),
            "rules" => guard.rules.clone_from(&own.rules),
            "authority" => guard.authority.clone_from(&own.authority),
            "filters" => guard.filters.clone_from(&own.filters),
            _ => guard.limits.clone_from(&own.limits),
        }
    }
    check_auth(f, &guard);
    (guard, services)
}

/// The services that a guard asks something of, and where they are written.
fn named(f: &Fields<'_, '_, '_>, guard: &Guard) -> Vec<(ServiceId, Span)> {
    let remote = guard.auth.as_ref().and_then(|auth| auth.jwt.as_ref()?.remote.as_ref());
    let publishes = match remote.map(|remote| &remote.from) {
        Some(KeysAt::Service(id)) => Some(id),
        Some(KeysAt::Server(_)) | None => None,
    };
    let says = guard.authority.as_ref().map(|authority| &authority.service);
    let named = [("auth", publishes), ("authority", says)];
    let filters = guard.filters.iter().map(|filter| ("filters", Some(&filter.service)));
    let all = named.into_iter().chain(filters);
    all.filter_map(|(key, id)| Some((id?.clone(), f.written(key)?.key_span))).collect()
}

/// What is asked of somebody who is known, where nobody is.
fn check_auth(f: &mut Fields<'_, '_, '_>, guard: &Guard) {
    if guard.auth.is_some() {
        return;
    }
    if let (false, Some(field)) = (guard.roles.is_empty(), f.written("roles")) {
        let problem = Problem::new(field.key_span, "nobody has a role where anybody may");
        f.d.problem(problem.hint("write `auth` as well, here or in `gateway`"));
    }
    let asks =
        |rule: &AccessRule| !(rule.roles.is_empty() && rule.users.is_empty() && rule.claims.is_empty());
    if let (true, Some(field)) = (guard.rules.iter().any(asks), f.written("rules")) {
        let problem = Problem::new(field.key_span, "rules about who asks, where nobody is known");
        f.d.problem(problem.hint("write `auth` as well, here or in `gateway`"));
    }
    let by_user = guard.limits.iter().any(|limit| limit.by == CountedBy::User);
    if let (true, Some(field)) = (by_user, f.written("rate_limit")) {
        let problem = Problem::new(field.key_span, "`by: user` where nobody is known");
        f.d.problem(problem.hint("write `auth` as well, here or in `gateway`"));
    }
}

/// Decodes what a service has, and the services that it names.
pub(super) fn of_service(f: &mut Fields<'_, '_, '_>, service: &str) -> (Guard, Vec<(ServiceId, Span)>) {
    let place = Place::Service(service);
    let mut callers = Vec::new();
    let rules = rules(f, place, &mut callers);
    let guard = Guard { body_max: body_limit(f), limits: limits(f, place), rules, ..Guard::default() };
    (guard, callers)
}

fn decode(f: &mut Fields<'_, '_, '_>, place: Place<'_>) -> Guard {
    Guard {
        rules: rules(f, place, &mut Vec::new()),
        addresses: addresses(f),
        cors: cors(f),
        body_max: body_limit(f),
        limits: limits(f, place),
        auth: auth::decode(f, matches!(place, Place::Gateway)),
        roles: auth::roles(f),
        authority: authority(f),
        filters: filters(f),
    }
}

/// Who looks at requests.
fn filters(f: &mut Fields<'_, '_, '_>) -> Vec<Filter> {
    let mut filters = Vec::new();
    let mut shown = Vec::new();
    let items = f.list("filters");
    if let Some(beyond) = items.get(FILTERS_MAX) {
        f.d.problem(Problem::new(beyond.span, format!("more than {FILTERS_MAX} filters")));
        return filters;
    }
    for item in items {
        if f.d.problems.is_full() {
            break;
        }
        let field = Field { key_span: super::gateway::start_of(item), node: item };
        let mut inner = Fields::open(f.d, &FILTER, Some(field), Some("service"));
        let service = super::gateway::service_name(&mut inner, "service");
        let path: Written<UrlPath<false>> = inner.value("path");
        let timeout: Written<Duration> = inner.value("timeout");
        let may_fail = inner.word_or_default("on_failure", &WHEN_FAILED).value;
        if let (true, Some(span)) = (timeout.value.is_zero(), timeout.span) {
            inner.d.problem(Problem::new(span, "in no time nobody answers").hint("for example `1s`"));
        }
        shown.push(inner.close());
        let filter = service.map(|(service, _)| Filter {
            service,
            path: path.value.0,
            timeout: timeout.value,
            may_fail,
        });
        filters.extend(filter);
    }
    f.show("filters", Shown::List(shown));
    filters
}

/// Who is asked. `None` when it is off or was not written.
fn authority(f: &mut Fields<'_, '_, '_>) -> Option<Authority> {
    let field = f.field("authority")?;
    if let Value::Scalar { .. } = field.node.value {
        let text = f.d.scalar(field.node, field.at(), "authority", "`off`, or a table", &[])?;
        f.d.parse(&text, |text| word_of(text, &OFF))?;
        f.show("authority", Shown::Leaf { value: json!("off"), from: text.from, span: Some(text.span) });
        return None;
    }
    let mut inner = Fields::open(f.d, &AUTHORITY, Some(field), None);
    let service = super::gateway::service_name(&mut inner, "service");
    let path: Written<UrlPath<false>> = inner.value("path");
    let copy = inner.each("copy", "a header's name", deciding_header, |name| json!(name));
    let timeout: Written<Duration> = inner.value("timeout");
    if let (true, Some(span)) = (timeout.value.is_zero(), timeout.span) {
        inner.d.problem(Problem::new(span, "in no time nobody answers").hint("for example `5s`"));
    }
    let copy = copy.unwrap_or_default();
    if let Some((_, span)) = copy.get(COPIED_MAX) {
        inner.d.problem(Problem::new(*span, format!("more than {COPIED_MAX} headers")));
    }
    let shown = inner.close();
    f.show("authority", shown);
    let copy = copy.into_iter().map(|(name, _)| name).collect();
    Some(Authority { service: service?.0, path: path.value.0, copy, timeout: timeout.value })
}

/// Who may do what. `callers` gets the services that are named, with their places.
fn rules(
    f: &mut Fields<'_, '_, '_>,
    place: Place<'_>,
    callers: &mut Vec<(ServiceId, Span)>,
) -> Vec<AccessRule> {
    let mut rules: Vec<(AccessRule, Span)> = Vec::new();
    let mut shown = Vec::new();
    let items = f.list("rules");
    for item in items {
        if f.d.problems.is_full() {
            break;
        }
        let field = Field { key_span: super::gateway::start_of(item), node: item };
        let (rule, shown_rule) = access_rule(f, field, place, callers);
        shown.push(shown_rule);
        rules.extend(rule.map(|rule| (rule, field.key_span)));
    }
    if f.is_written("rules") {
        f.show("rules", Shown::List(shown));
    }
    if let Some((_, span)) = rules.get(ACCESS_RULES_MAX) {
        let message = format!("{} rules; at most {ACCESS_RULES_MAX} are supported", rules.len());
        f.d.problem(Problem::new(*span, message));
    }
    rules.into_iter().map(|(rule, _)| rule).collect()
}

fn access_rule(
    f: &mut Fields<'_, '_, '_>,
    field: Field<'_>,
    place: Place<'_>,
    callers: &mut Vec<(ServiceId, Span)>,
) -> (Option<AccessRule>, Shown) {
    let mut inner = Fields::open(f.d, &ACCESS_RULE, Some(field), None);
    let allows = inner.word("do", &VERDICT);
    let texts = |list: Option<Vec<(String, Span)>>| -> Vec<String> {
        list.unwrap_or_default().into_iter().map(|(text, _)| text).collect()
    };
    let methods = texts(inner.each("methods", "a method", method, |method| json!(method)));
    let path = inner.parsed("path", rule_path, |path| json!(path));
    let roles = texts(inner.each("roles", "a role", auth::role, |role| json!(role)));
    let users = inner.each("users", "a name", |text| Ok(text.to_owned()), |name| json!(name));
    let claims = claims(&mut inner);
    let certificate = certificate(&mut inner);
    let from = from(&mut inner, place, callers);
    let shown = inner.close();
    let rule = allows.map(|allows| AccessRule {
        allows: allows.value,
        methods,
        path: path.map(|path| path.value),
        roles,
        users: texts(users),
        claims,
        callers: from,
        certificate,
    });
    (rule, shown)
}

/// A path that is compared segment by segment.
fn rule_path(text: &str) -> Result<String, Bad> {
    spelt_in_one_way(text)?;
    let UrlPath::<false>(text) = UrlPath::parse(text)?;
    if let Some(part) = text.split('/').find(|segment| segment.contains('*') && *segment != "*") {
        let hint = "`*` is a whole segment: `/orders/*/items`";
        return Err(bad(format!("{} is no segment of a rule's path", quote(part)), hint));
    }
    Ok(text)
}

fn claims(f: &mut Fields<'_, '_, '_>) -> BTreeMap<String, Vec<String>> {
    let mut claims = BTreeMap::new();
    let mut shown = Vec::new();
    for entry in f.entries("claims", "claim") {
        if f.d.problems.is_full() {
            break;
        }
        let name = &entry.key.text;
        let items = match &entry.node.value {
            Value::List(items) => items.iter().map(|item| &**item).collect(),
            Value::Null | Value::Scalar { .. } | Value::Map(_) => vec![&*entry.node],
        };
        let (mut values, mut shown_values) = (Vec::new(), Vec::new());
        for item in items {
            let at = Field { key_span: entry.key.span, node: item }.at();
            let Some(text) = f.d.scalar(item, at, name, "a value", &[]) else { continue };
            shown_values.push(Shown::Leaf {
                value: json!(text.text),
                from: text.from,
                span: Some(text.span),
            });
            values.push(text.text);
        }
        if values.is_empty() && f.d.problems.is_empty() {
            let problem = Problem::new(entry.key.span, format!("{} has no value that would do", quote(name)));
            f.d.problem(problem.hint("write one, or a list"));
        }
        shown.push((name.clone(), Shown::List(shown_values)));
        claims.insert(name.clone(), values);
    }
    if f.is_written("claims") {
        f.show("claims", Shown::Map(shown));
    }
    claims
}

/// The names that are asked for of a certificate.
fn certificate(f: &mut Fields<'_, '_, '_>) -> Option<CertificateNames> {
    let field = f.field("certificate")?;
    let mut inner = Fields::open(f.d, &ACCESS_CERTIFICATE, Some(field), None);
    let mut names = |key: &'static str| -> Vec<String> {
        let names = inner.each(key, "a name", certificate_name, |name| json!(name));
        if let (Some([]), Some(field), true) =
            (names.as_deref(), inner.written(key), inner.d.problems.is_empty())
        {
            let problem = Problem::new(field.key_span, format!("{} has no name that would do", quote(key)));
            inner.d.problem(problem.hint("write one, or remove it"));
        }
        names.unwrap_or_default().into_iter().map(|(name, _)| name).collect()
    };
    let names =
        CertificateNames { cn: names("cn"), dns: names("dns"), uri: names("uri"), email: names("email") };
    let shown = inner.close();
    f.show("certificate", shown);
    Some(names)
}

fn certificate_name(text: &str) -> Result<String, Bad> {
    match text.split_once('=') {
        None if text.is_empty() => Err(bad("no certificate has an empty name".to_owned(), "remove it")),
        Some((kind, name)) if kind.eq_ignore_ascii_case("cn") => Err(bad(
            format!("{} is a subject, and here its name alone", quote(text)),
            format!("write {}", quote(name)),
        )),
        _ => Ok(text.to_owned()),
    }
}

/// What stands for the clients of the gateway among services.
const GATEWAY: &str = "gateway";

fn from(f: &mut Fields<'_, '_, '_>, place: Place<'_>, callers: &mut Vec<(ServiceId, Span)>) -> Vec<Caller> {
    let named = f.each("from", "a service's name", |text| Ok(text.to_owned()), |name| json!(name));
    if let (Place::Gateway | Place::Route, Some(field)) = (place, f.written("from")) {
        let problem = Problem::new(field.key_span, "all that come here are clients");
        f.d.problem(problem.hint("write the rule at the service"));
    }
    let mut from = Vec::new();
    for (name, span) in named.unwrap_or_default() {
        if name == GATEWAY {
            from.push(Caller::Gateway);
        } else if let Some(id) = service::id(f.d, &name, span) {
            callers.push((id.clone(), span));
            from.push(Caller::Service(id));
        }
    }
    from
}

fn body_limit(f: &mut Fields<'_, '_, '_>) -> Option<u64> {
    f.scalar("body_limit").map(|written: Written<Bytes>| written.value.0)
}

fn addresses(f: &mut Fields<'_, '_, '_>) -> Vec<AddressRule> {
    let rules = f.each("ip", "a rule such as `allow 192.0.2.0/24`", address_rule, |rule| json!(shown(rule)));
    let rules = rules.unwrap_or_default();
    let all = rules.iter().position(|(rule, _)| rule.network.is_none());
    if let Some(((_, span), (_, all_at))) = all.and_then(|all| Some((rules.get(all + 1)?, &rules[all]))) {
        let problem = Problem::new(*span, "no address comes to this rule");
        f.d.problem(
            problem.related(*all_at, "this one is for all").hint("put it before that one, or remove it"),
        );
    }
    if let Some((_, span)) = rules.get(RULES_MAX) {
        f.d.problem(Problem::new(*span, format!("{} rules; at most {RULES_MAX} are supported", rules.len())));
    }
    rules.into_iter().map(|(rule, _)| rule).collect()
}

fn shown(rule: &AddressRule) -> String {
    let verdict = if rule.allows { "allow" } else { "deny" };
    let network = rule.network.map_or_else(|| "all".to_owned(), shown_network);
    format!("{verdict} {network}")
}

pub(super) fn shown_network(network: (IpAddr, u8)) -> String {
    match network {
        (address @ IpAddr::V4(_), 32) | (address @ IpAddr::V6(_), 128) => address.to_string(),
        (address, bits) => format!("{address}/{bits}"),
    }
}

fn address_rule(text: &str) -> Result<AddressRule, Bad> {
    let (verdict, network) = text.split_once(' ').unwrap_or((text, ""));
    let allows = match verdict {
        "allow" => true,
        "deny" => false,
        _ => {
            let hint = "write `allow` or `deny` before an address, a network or `all`";
            return Err(bad(format!("{} says neither `allow` nor `deny`", quote(text)), hint));
        }
    };
    let network = match network.trim() {
        "all" => None,
        network => Some(self::network(network)?),
    };
    Ok(AddressRule { allows, network })
}

/// Addresses that begin with the same bits.
pub(super) fn network(text: &str) -> Result<(IpAddr, u8), Bad> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().map_err(|_| {
        bad(
            format!("{} is neither an address nor a network", quote(text)),
            "for example `192.0.2.7`, `10.0.0.0/8` or `2001:db8::/32`",
        )
    })?;
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits.map(str::parse::<u8>) {
        None => bits_max,
        Some(Ok(bits)) if bits <= bits_max => bits,
        Some(_) => {
            let message = format!("{} has a wrong length of its network", quote(text));
            return Err(bad(message, format!("between 0 and {bits_max}")));
        }
    };
    if let IpAddr::V6(v6) = address
        && v6.to_ipv4_mapped().is_some()
    {
        return Err(bad(
            format!("{} is an address of IPv4 as IPv6 has it", quote(text)),
            "write it as IPv4: clients that come so are known by that",
        ));
    }
    let first = first_address(address, bits);
    if first != address {
        let message = format!("{} has bits after its first {bits}", quote(text));
        return Err(bad(message, format!("did you mean {}?", quote(&format!("{first}/{bits}")))));
    }
    Ok((address, bits))
}

/// The first address of the network of this one.
fn first_address(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

fn cors(f: &mut Fields<'_, '_, '_>) -> Option<Cors> {
    let field = f.field("cors")?;
    let mut inner = Fields::open(f.d, &CORS, Some(field), None);
    let origins =
        inner.each("origins", "an origin such as `https://example.org`", origin, |text| json!(text));
    if origins.is_none() {
        inner.missing("origins");
    }
    let origins = origins.unwrap_or_default();
    let methods = inner.each("methods", "a method such as `GET`", method, |method| json!(method));
    let methods = match methods {
        Some(methods) => methods.into_iter().map(|(method, _)| method).collect(),
        None => {
            let shown = CORS_METHODS.iter().map(|method| Shown::default_value(json!(method))).collect();
            inner.show("methods", Shown::List(shown));
            CORS_METHODS.map(str::to_owned).into()
        }
    };
    let header = |text: &str| match text {
        "*" => Err(bad("`*` is not the name of a header".to_owned(), "without `headers` they may set any")),
        text => header_name(text),
    };
    let headers = inner.each("headers", "a header's name", header, |name| json!(name));
    let names = |names: Vec<(String, Span)>| names.into_iter().map(|(name, _)| name).collect();
    let expose = inner.each("expose", "a header's name", header_name, |name| json!(name)).map(names);
    let credentials: Written<bool> = inner.value("credentials");
    let max_age: Option<Written<Duration>> = inner.scalar("max_age");
    check_origins(&mut inner, &origins, credentials);
    let shown = inner.close();
    f.show("cors", shown);
    Some(Cors {
        origins: origins.into_iter().map(|(origin, _)| origin).collect(),
        methods,
        headers: headers.map(names),
        expose: expose.unwrap_or_default(),
        credentials: credentials.value,
        max_age: max_age.map(|written| written.value),
    })
}

/// All origins are all, and none of them may act as whoever visits it.
fn check_origins(f: &mut Fields<'_, '_, '_>, origins: &[(String, Span)], credentials: Written<bool>) {
    let Some((_, star)) = origins.iter().find(|(origin, _)| origin == "*") else { return };
    if origins.len() > 1 {
        let problem = Problem::new(*star, "`*` is all origins, and others are listed beside it");
        f.d.problem(problem.hint("keep one or the other"));
    }
    if let (true, Some(span)) = (credentials.value, credentials.span) {
        let problem =
            Problem::new(span, "with credentials for all origins, any page could act as its visitor");
        f.d.problem(problem.related(*star, "all of them").hint("list the origins that may"));
    }
}

/// An origin as browsers write it.
fn origin(text: &str) -> Result<String, Bad> {
    if text == "*" {
        return Ok(text.to_owned());
    }
    if text == "null" {
        let hint = "list origins with a host";
        return Err(bad("`null` is the origin of any page that hides its own".to_owned(), hint));
    }
    let wrong = |message: &str| {
        bad(
            format!("{} {message}", quote(text)),
            "for example `https://example.org` or `https://*.example.org`",
        )
    };
    let lower = text.to_ascii_lowercase();
    let (scheme, rest) =
        lower.split_once("://").ok_or_else(|| wrong("is not an origin: it has no scheme"))?;
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    if !is_scheme {
        return Err(wrong("is not an origin: its scheme is none"));
    }
    let host = rest.trim_end_matches('/');
    if host.contains('/') || host.contains(['?', '#', '@']) {
        return Err(wrong("is not an origin, which has no path"));
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let HostName(_) = HostName::parse(name).map_err(|_| wrong("is not an origin: its host is none"))?;
    if let Some(port) = port {
        Whole::<1, 65535>::parse(port)?;
    }
    let usual = matches!((scheme, port), ("http", Some("80")) | ("https", Some("443")));
    if usual || host != rest {
        let name = if usual { name } else { host };
        let hint = format!("did you mean {}?", quote(&format!("{scheme}://{name}")));
        return Err(bad(format!("{} is not how browsers write an origin", quote(text)), hint));
    }
    Ok(lower)
}

pub(super) fn header_name(text: &str) -> Result<String, Bad> {
    if is_token(text) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(bad(format!("{} is not the name of a header", quote(text)), "for example `X-Tenant`"))
}

/// The header that something is known by: one that a service gets as its client wrote it, and without which the request stays one.
pub(super) fn deciding_header(text: &str) -> Result<String, Bad> {
    let name = header_name(text)?;
    let of_framing = ["content-length", "content-type", "trailer", "via"].contains(&name.as_str());
    if !of_framing && !super::route::is_the_proxys(&name) {
        return Ok(name);
    }
    let hint = match name.as_str() {
        "x-forwarded-for" | "x-real-ip" | "forwarded" => "the address is counted with `by: address`",
        "x-forwarded-user" => "who asks is counted with `by: user`",
        _ => "name one of the client's own, for example `X-Tenant`",
    };
    Err(bad(
        format!(
            "{} is the connection's or the proxy's own, and a client may write anything there",
            quote(text)
        ),
        hint,
    ))
}

fn limits(f: &mut Fields<'_, '_, '_>, place: Place<'_>) -> Vec<RateLimit> {
    let Some(field) = f.field("rate_limit") else { return Vec::new() };
    let mut limits: Vec<(RateLimit, Span)> = Vec::new();
    let shown = match &field.node.value {
        Value::List(items) => {
            let mut shown = Vec::new();
            for item in items {
                if f.d.problems.is_full() {
                    break;
                }
                let field = Field { key_span: super::gateway::start_of(item), node: item };
                shown.push(limit(f, field, place, &mut limits));
            }
            Shown::List(shown)
        }
        Value::Null | Value::Scalar { .. } | Value::Map(_) => limit(f, field, place, &mut limits),
    };
    f.show("rate_limit", shown);
    if let Some((_, span)) = limits.get(LIMITS_MAX) {
        f.d.problem(Problem::new(
            *span,
            format!("{} limits; at most {LIMITS_MAX} are supported", limits.len()),
        ));
    }
    limits.into_iter().map(|(limit, _)| limit).collect()
}

fn limit(
    f: &mut Fields<'_, '_, '_>,
    field: Field<'_>,
    place: Place<'_>,
    limits: &mut Vec<(RateLimit, Span)>,
) -> Shown {
    let mut inner = Fields::open(f.d, &RATE_LIMIT, Some(field), None);
    let requests: Option<Written<Whole<1, REQUESTS_MAX>>> = inner.scalar("requests");
    let per: Written<Duration> = inner.value("per");
    if let (true, Some(span)) = (per.value.is_zero(), per.span) {
        let problem = Problem::new(span, "in no time there is no number of requests");
        inner.d.problem(problem.hint("for example `1m`"));
    }
    let burst: Option<Written<Whole<1, REQUESTS_MAX>>> = inner.scalar("burst");
    let by = inner.word_or_default("by", &COUNTED_BY).value;
    let header = inner.parsed("header", deciding_header, |name| json!(name));
    let name = inner.parsed("name", name, |name| json!(name));
    let shown = inner.close();
    let Some(requests) = requests else { return shown };
    let some = |number: u64| NonZeroU64::new(number).unwrap_or(NonZeroU64::MIN);
    let header = header.map(|header| header.value);
    let name_at = name.as_ref().and_then(|name| name.span);
    let name = name.map_or_else(|| usual_name(place, by, header.as_deref(), limits), |name| name.value);
    let known = limits.iter().find(|(other, _)| other.name == name);
    if let (Some((_, other)), Some(span)) = (known, name_at) {
        let problem = Problem::new(span, format!("two limits are called {}", quote(&name)));
        f.d.problem(problem.related(*other, "this is the other one").hint("give one of them another name"));
    }
    let limit = RateLimit {
        name,
        of_gateway: matches!(place, Place::Gateway),
        requests: some(requests.value.0),
        per: per.value,
        burst: some(burst.map_or(requests.value.0, |burst| burst.value.0)),
        header,
        by,
    };
    limits.push((limit, name_at.unwrap_or(field.key_span)));
    shown
}

/// What a limit is called that has no name: by what it counts, with a number from the second on.
fn usual_name(place: Place<'_>, by: CountedBy, header: Option<&str>, limits: &[(RateLimit, Span)]) -> String {
    let word = show_word(by, &COUNTED_BY);
    let counted = header.or(word.as_str()).unwrap_or_default();
    let base = match place {
        Place::Gateway | Place::Route => counted.to_owned(),
        Place::Service(service) => format!("{service}-{counted}"),
    };
    let is_free = |name: &String| limits.iter().all(|(other, _)| other.name != *name);
    let numbered = (2..).filter_map(NonZeroU32::new).map(|number| format!("{base}-{number}"));
    std::iter::once(base.clone()).chain(numbered).find(is_free).unwrap_or(base)
}

fn name(text: &str) -> Result<String, Bad> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !text.is_empty() && text.len() <= 64 && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err(bad(
        format!("{} cannot be a limit's name", quote(text)),
        "up to 64 letters, digits, `-`, `_` and `.`",
    ))
}
