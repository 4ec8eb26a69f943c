//! Logins of browsers.

use std::time::Duration;

use serde_json::json;
use watt_core::plan::{KeysAt, Oidc, RemoteKeys};

use super::{
    actions::cookie_name,
    auth::{CLAIMS_MAX, claim, published},
    fields::{Fields, Written, show_word, word_of},
    route::bad,
};
use crate::{
    keys::{ALGORITHM, ID_ALGORITHMS, OIDC, SCOPES},
    report::Problem,
    scalar::{Bad, Scalar, UpstreamUrl, UrlPath, quote},
    show::Shown,
};

/// What a provider says of itself is below its own URL there (OpenID Connect Discovery 1.0 §4).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// How often that is asked for again.
const DISCOVERY_EVERY: Duration = Duration::from_secs(3_600);

/// The most servers and scopes.
const LISTED_MAX: usize = 16;

pub(super) fn decode(f: &mut Fields<'_, '_, '_>) -> Option<Oidc> {
    let field = f.field("oidc")?;
    let mut inner = Fields::open(f.d, &OIDC, Some(field), None);
    let issuer = inner.parsed("issuer", url, |text| json!(text));
    let client_id = inner.parsed("client_id", plain, |text| json!(text));
    let client_secret_file = inner.path("client_secret_file").map(|file| file.value);
    let cookie_keys_file = inner.path("cookie_keys_file").map(|file| file.value);
    if !inner.is_written("cookie_keys_file") {
        inner.missing("cookie_keys_file");
    }
    let discovery = inner.parsed("discovery_url", published, |(_, _, text)| json!(text));
    let servers = inner.each("servers", "a URL", server, |(origin, _)| json!(origin)).unwrap_or_default();
    let scopes = inner.each("scopes", "a scope", plain, |text| json!(text));
    let scopes = usual(&mut inner, "scopes", scopes, &SCOPES);
    for (key, count) in [("servers", servers.len()), ("scopes", scopes.len())] {
        if count > LISTED_MAX {
            inner.d.problem(Problem::new(field.key_span, format!("more than {LISTED_MAX} {key}")));
        }
    }
    if let (false, Some(written)) = (scopes.iter().any(|scope| scope == "openid"), inner.written("scopes")) {
        let problem = Problem::new(written.key_span, "without the scope `openid` it is no login");
        inner.d.problem(problem.hint("for example `[openid, email]`"));
    }
    let origin = inner.parsed("url", origin, |text| json!(text));
    let callback: Written<UrlPath<false>> = inner.value("callback");
    let logout: Option<Written<UrlPath<false>>> = inner.scalar("logout");
    if let Some(Written { value, span: Some(span) }) = &logout
        && *value == callback.value
    {
        inner.d.problem(Problem::new(*span, "browsers come back to the same path"));
    }
    let after_logout = inner.parsed("after_logout", url, |text| json!(text));
    let cookie = inner.parsed("cookie", cookie_name, |name| json!(name));
    let session: Written<Duration> = inner.value("session");
    let renew: Written<Duration> = inner.value("renew");
    if let (true, Some(span)) = (session.value < Duration::from_secs(60), session.span) {
        inner.d.problem(Problem::new(span, "a session lasts for a minute at least").hint("for example `8h`"));
    }
    if let (1..60, Some(span)) = (renew.value.as_secs(), renew.span) {
        inner.d.problem(Problem::new(span, "it is renewed each minute at most").hint("for example `15m`"));
    }
    let algorithms = inner.each(
        "algorithms",
        "an algorithm",
        |text| word_of(text, &ALGORITHM),
        |word| show_word(*word, &ALGORITHM),
    );
    let algorithms =
        algorithms.map(|some| some.into_iter().map(|(name, at)| (name.to_owned(), at)).collect());
    let algorithms = usual(&mut inner, "algorithms", algorithms, &ID_ALGORITHMS);
    let skew: Written<Duration> = inner.value("skew");
    let user = inner.parsed("user", plain, |text| json!(text));
    let roles = inner.parsed("roles", plain, |text| json!(text));
    let claims = inner.each("claims", "a claim's name", claim, |text| json!(text)).unwrap_or_default();
    if let Some((_, span)) = claims.get(CLAIMS_MAX) {
        inner.d.problem(Problem::new(*span, format!("more than {CLAIMS_MAX} claims")));
    }
    let derived = issuer.as_ref().filter(|_| discovery.is_none()).and_then(|issuer| {
        let url = format!("{}{WELL_KNOWN}", issuer.value.trim_end_matches('/'));
        match published(&url) {
            Ok(place) => Some(place),
            Err(Bad { message, hint }) => {
                let problem = Problem::new(issuer.span.unwrap_or(field.key_span), message);
                inner.d.problem(problem.maybe_hint(hint));
                None
            }
        }
    });
    let shown = inner.close();
    f.show("oidc", shown);
    let (from, path, discovery) = discovery.map(|written| written.value).or(derived)?;
    let issuer = issuer?.value;
    let mut asked: Vec<(String, KeysAt)> =
        [&issuer, &discovery].into_iter().map(|url| (origin_of(url), from.clone())).collect();
    asked.extend(servers.into_iter().map(|(server, _)| server));
    let or =
        |written: Option<Written<String>>, usual: &str| written.map_or(usual.to_owned(), |one| one.value);
    Some(Oidc {
        issuer,
        client_id: client_id?.value,
        client_secret_file,
        cookie_keys_file: cookie_keys_file?,
        discovery: RemoteKeys { from, path, every: DISCOVERY_EVERY },
        servers: asked,
        scopes,
        url: origin.map(|written| written.value),
        callback: callback.value.0,
        logout: logout.map(|written| written.value.0),
        after_logout: after_logout.map(|written| written.value),
        cookie: or(cookie, "watt-session"),
        session: session.value,
        renew: renew.value,
        algorithms,
        skew: skew.value,
        name_claim: or(user, "sub"),
        roles_claim: or(roles, "roles"),
        claims: claims.into_iter().map(|(claim, _)| claim).collect(),
    })
}

/// What is listed, or what is usual.
fn usual<S>(
    f: &mut Fields<'_, '_, '_>,
    key: &'static str,
    listed: Option<Vec<(String, S)>>,
    usual: &[&str],
) -> Vec<String> {
    match listed {
        Some(listed) => listed.into_iter().map(|(text, _)| text).collect(),
        None => {
            let shown = usual.iter().map(|text| Shown::default_value(json!(text))).collect();
            f.show(key, Shown::List(shown));
            usual.iter().map(|text| (*text).to_owned()).collect()
        }
    }
}

fn plain(text: &str) -> Result<String, Bad> {
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(bad(
            format!("{} is not written in letters and signs of ASCII", quote(text)),
            "without spaces",
        )),
    }
}

fn url(text: &str) -> Result<String, Bad> {
    let is_url =
        ["http://", "https://"].iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme));
    match is_url && !text.contains('#') {
        true => plain(text),
        false => Err(bad(format!("{} is no URL", quote(text)), "for example `https://id.example.org`")),
    }
}

fn origin(text: &str) -> Result<String, Bad> {
    let text = url(text.strip_suffix('/').unwrap_or(text))?;
    match origin_of(&text) == text.to_ascii_lowercase() {
        true => Ok(text.to_ascii_lowercase()),
        false => Err(bad(format!("{} has a path", quote(&text)), "for example `https://shop.example.org`")),
    }
}

fn server(text: &str) -> Result<(String, KeysAt), Bad> {
    let text = origin(text)?;
    match UpstreamUrl::parse(&text)? {
        UpstreamUrl::Outside(server) => Ok((text, KeysAt::Server(server))),
        UpstreamUrl::Inside(id) => Ok((text, KeysAt::Service(id))),
    }
}

/// What is before the path of a URL.
fn origin_of(url: &str) -> String {
    let after = url.find("://").map_or(0, |at| at + 3);
    let end = url[after..].find(['/', '?']).map_or(url.len(), |at| after + at);
    url[..end].to_ascii_lowercase()
}
