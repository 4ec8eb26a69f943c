//! Who asks, and what they may.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use watt_core::{
    ServiceId,
    plan::{ApiKey, Auth, Basic, Hidden, Jwt, KeysAt, RemoteKeys, User},
};
use watt_policies::{
    jwt::{Algorithm, KeySet},
    keys::{Hash, is_name},
    passwords::Password,
};

use super::{
    fields::{Field, Fields, Written, show_word, word_of},
    guard::deciding_header,
    oidc,
    route::bad,
};
use crate::{
    keys::{ALGORITHM, ALGORITHMS, API_KEY, AUTH, BASIC, JWT, KEYS_URL, OFF, USER},
    report::Problem,
    scalar::{Bad, Scalar, UpstreamUrl, UrlPath, quote},
    show::Shown,
    source::Span,
    tree::Value,
};

/// The most claims that services are told, each in a header.
pub(super) const CLAIMS_MAX: usize = 16;

/// `auth`. `None` when it is off or was not written.
pub(super) fn decode(f: &mut Fields<'_, '_, '_>, of_gateway: bool) -> Option<Auth> {
    let field = f.field("auth")?;
    if let Value::Scalar { .. } = field.node.value {
        let text = f.d.scalar(field.node, field.at(), "auth", "`off`, or a table", &[])?;
        f.d.parse(&text, |text| word_of(text, &OFF))?;
        f.show("auth", Shown::Leaf { value: json!("off"), from: text.from, span: Some(text.span) });
        return None;
    }
    let mut inner = Fields::open(f.d, &AUTH, Some(field), None);
    let keys = keys(&mut inner);
    let key_file = inner.path("api_keys_file").map(|file| file.value);
    let header = inner.parsed("header", deciding_header, |name| json!(name));
    let basic = basic(&mut inner);
    let jwt = jwt(&mut inner);
    let oidc = oidc::decode(&mut inner);
    if let (Some(header), true) = (&header, basic.is_some() || jwt.is_some())
        && let (Some(span), true) = (header.span, header.value == "authorization")
    {
        let problem = Problem::new(
            span,
            "tokens and passwords come in `Authorization` already, and would be taken for wrong keys",
        );
        inner.d.problem(problem.hint("for example `X-Api-Key`"));
    }
    let is_known =
        ["api_keys", "api_keys_file", "basic", "jwt", "oidc"].into_iter().any(|key| inner.is_written(key));
    if !is_known && !matches!(field.node.value, Value::List(_)) {
        let problem = Problem::new(field.key_span, "nobody could ever be known");
        inner.d.problem(problem.hint("write `api_keys`, `basic`, `jwt` or `oidc`, or `auth: off`"));
    }
    let shown = inner.close();
    f.show("auth", shown);
    let key_header = header.map_or_else(|| "x-api-key".to_owned(), |header| header.value);
    Some(Auth { of_gateway, key_header, keys, key_file, basic, jwt, oidc })
}

fn basic(f: &mut Fields<'_, '_, '_>) -> Option<Basic> {
    let field = f.field("basic")?;
    let mut inner = Fields::open(f.d, &BASIC, Some(field), Some("file"));
    let users = users(&mut inner);
    let file = inner.path("file").map(|file| file.value);
    let realm = inner.parsed("realm", realm, |realm| json!(realm));
    if !inner.is_written("users") && !inner.is_written("file") {
        let problem = Problem::new(field.key_span, "nobody has a password");
        inner.d.problem(problem.hint("write `users` or `file`"));
    }
    let shown = inner.close();
    f.show("basic", shown);
    Some(Basic { realm: realm.map(|realm| realm.value).unwrap_or_default(), users, file })
}

/// What is in quotes in a header.
fn realm(text: &str) -> Result<String, Bad> {
    let is_plain = |c: char| (' '..='~').contains(&c) && c != '"' && c != '\\';
    if !text.is_empty() && text.len() <= 128 && text.chars().all(is_plain) {
        return Ok(text.to_owned());
    }
    let hint = "up to 128 letters and signs, without quotes and backslashes";
    Err(bad(format!("{} cannot be the name of a realm", quote(text)), hint))
}

fn users(f: &mut Fields<'_, '_, '_>) -> Vec<User> {
    let mut users = Vec::new();
    let mut shown = Vec::new();
    for entry in f.entries("users", "name") {
        if f.d.problems.is_full() {
            break;
        }
        let name = &entry.key.text;
        if name.contains(':') {
            let problem = Problem::new(entry.key.span, "a colon parts a name from its password");
            f.d.problem(problem.hint("give it another name"));
        } else if let Err(Bad { message, hint }) = plain(name, "the name of who has a password") {
            f.d.problem(Problem::new(entry.key.span, message).maybe_hint(hint));
        }
        let mut inner = Fields::open(f.d, &USER, Some(Field::from(entry)), Some("password"));
        // What was written is not said, not even where it is wrong: it may be the password.
        let password = inner.parsed("password", password, |_| json!("(hidden)"));
        let roles = roles(&mut inner);
        shown.push((name.clone(), inner.close()));
        let Some(Written { value: password, .. }) = password else { continue };
        users.push(User { name: name.clone(), password: Hidden(password), roles });
    }
    f.show("users", Shown::Map(shown));
    users
}

fn password(text: &str) -> Result<String, Bad> {
    let password = Password::parse(text).map_err(|wrong| bad(wrong.message().to_owned(), wrong.hint()))?;
    Ok(password.reveal().to_owned())
}

/// `roles` of the gateway and of routes.
pub(super) fn roles(f: &mut Fields<'_, '_, '_>) -> Vec<String> {
    let roles = f.each("roles", "a role", role, |role| json!(role)).unwrap_or_default();
    roles.into_iter().map(|(role, _)| role).collect()
}

pub(super) fn role(text: &str) -> Result<String, Bad> {
    plain(text, "a role")
}

/// What goes into headers and lists.
fn plain(text: &str, what: &str) -> Result<String, Bad> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err(bad(format!("{} cannot be {what}", quote(text)), "up to 128 letters, digits, and `-_.@:`"))
}

fn keys(f: &mut Fields<'_, '_, '_>) -> Vec<ApiKey> {
    let mut keys = Vec::new();
    let mut shown = Vec::new();
    let mut places: BTreeMap<String, Span> = BTreeMap::new();
    for entry in f.entries("api_keys", "holder") {
        if f.d.problems.is_full() {
            break;
        }
        let name = &entry.key.text;
        if let Err(Bad { message, hint }) = plain(name, "the name of who has a key") {
            f.d.problem(Problem::new(entry.key.span, message).maybe_hint(hint));
        }
        let mut inner = Fields::open(f.d, &API_KEY, Some(Field::from(entry)), Some("hash"));
        // What was written is not said, not even where it is wrong: it may be the key.
        let hash = inner.parsed("hash", hash, |_| json!("(hidden)"));
        let roles = roles(&mut inner);
        let shown_key = inner.close();
        shown.push((name.clone(), shown_key));
        let Some(Written { value: hash, span }) = hash else { continue };
        let span = span.unwrap_or(entry.key.span);
        if let Some(first) = places.insert(hash.clone(), span) {
            let problem = Problem::new(span, "two have the same key");
            f.d.problem(problem.related(first, "this is the other one").hint("make another one"));
        }
        keys.push(ApiKey { name: name.clone(), hash: Hidden(hash), roles });
    }
    f.show("api_keys", Shown::Map(shown));
    keys
}

fn hash(text: &str) -> Result<String, Bad> {
    let hash = Hash::parse(text).map(|hash| hash.reveal());
    hash.ok_or_else(|| {
        bad(
            "this is not the hash of a key".to_owned(),
            "`sha256:` and 64 hexadecimal digits: `printf %s \"$key\" | sha256sum`",
        )
    })
}

fn jwt(f: &mut Fields<'_, '_, '_>) -> Option<Jwt> {
    let field = f.field("jwt")?;
    let mut inner = Fields::open(f.d, &JWT, Some(field), None);
    let keys_at = inner.written("keys").map(|field| field.key_span);
    let signers = signers(&mut inner);
    let key_file = inner.path("keys_file").map(|file| file.value);
    let secret_file = inner.path("secret_file").map(|file| file.value);
    let remote = remote(&mut inner);
    let sources = ["keys", "keys_file", "keys_url", "secret_file"];
    if !sources.into_iter().any(|key| inner.is_written(key)) {
        let problem = Problem::new(field.key_span, "no token could ever be taken: there is no key");
        inner.d.problem(problem.hint("write `keys`, `keys_file`, `keys_url` or `secret_file`"));
    }
    let algorithm = |text: &str| word_of(text, &ALGORITHM);
    let algorithms = inner.each("algorithms", "an algorithm", algorithm, |word| show_word(*word, &ALGORITHM));
    let algorithms_at = inner.written("algorithms").map(|field| field.key_span);
    let algorithms: Vec<String> = match algorithms {
        Some(listed) => listed.into_iter().map(|(name, _)| name.to_owned()).collect(),
        None => {
            let shown = ALGORITHMS.iter().map(|name| Shown::default_value(json!(name))).collect();
            inner.show("algorithms", Shown::List(shown));
            ALGORITHMS.map(str::to_owned).into()
        }
    };
    let text = |text: &str| Ok(text.to_owned());
    let issuer = inner.parsed("issuer", text, |text| json!(text));
    let audiences = inner.each("audiences", "an audience", text, |text| json!(text)).unwrap_or_default();
    let skew: Written<Duration> = inner.value("skew");
    let user = inner.parsed("user", text, |text| json!(text));
    let roles = inner.parsed("roles", text, |text| json!(text));
    let claims = inner.each("claims", "a claim's name", claim, |text| json!(text)).unwrap_or_default();
    if let Some((_, span)) = claims.get(CLAIMS_MAX) {
        let problem = format!("{} claims; at most {CLAIMS_MAX} are supported", claims.len());
        inner.d.problem(Problem::new(*span, problem));
    }
    let is_for = |one: Algorithm| signers.iter().any(|(_, keys)| keys.serves(one));
    let has_others = key_file.is_some() || secret_file.is_some() || remote.is_some();
    if let (false, false, Some(span)) = (signers.is_empty(), has_others, keys_at)
        && !algorithms.iter().filter_map(|name| Algorithm::named(name)).any(is_for)
    {
        let problem = Problem::new(algorithms_at.unwrap_or(span), "no key is for any of these algorithms");
        inner.d.problem(problem.related(span, "these are the keys"));
    }
    let shown = inner.close();
    f.show("jwt", shown);
    let or =
        |written: Option<Written<String>>, usual: &str| written.map_or(usual.to_owned(), |one| one.value);
    Some(Jwt {
        jwks: json!({ "keys": signers.into_iter().map(|(jwk, _)| jwk).collect::<Vec<_>>() }).to_string(),
        key_file,
        secret_file,
        remote,
        algorithms,
        issuer: issuer.map(|written| written.value),
        audiences: audiences.into_iter().map(|(audience, _)| audience).collect(),
        skew: skew.value,
        name_claim: or(user, "sub"),
        roles_claim: or(roles, "roles"),
        claims: claims.into_iter().map(|(claim, _)| claim).collect(),
    })
}

/// A claim that is told in a header of its name.
pub(super) fn claim(text: &str) -> Result<String, Bad> {
    match text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
        true if !text.is_empty() => Ok(text.to_owned()),
        _ => {
            let message = format!("{} cannot be a part of a header's name", quote(text));
            Err(bad(message, "letters, digits, `-` and `_`"))
        }
    }
}

/// Where keys are published.
fn remote(f: &mut Fields<'_, '_, '_>) -> Option<RemoteKeys> {
    let field = f.field("keys_url")?;
    let mut inner = Fields::open(f.d, &KEYS_URL, Some(field), Some("url"));
    let url = inner.parsed("url", published, |(_, _, text)| json!(text));
    let every: Written<Duration> = inner.value("every");
    if let (true, Some(span)) = (every.value < Duration::from_secs(5), every.span) {
        let problem = Problem::new(span, "keys are fetched at most every five seconds");
        inner.d.problem(problem.hint("for example `10m`"));
    }
    let shown = inner.close();
    f.show("keys_url", shown);
    let (from, path, _) = url?.value;
    Some(RemoteKeys { from, path, every: every.value })
}

/// Whom a URL is of, its path, and all of it.
pub(super) fn published(text: &str) -> Result<(KeysAt, String, String), Bad> {
    let scheme = ["http://", "https://", "internal://"].into_iter().find(|scheme| text.starts_with(scheme));
    let Some(scheme) = scheme else {
        let hint = "for example `http://id.plt.local/jwks.json` of a service `id`";
        return Err(bad(format!("{} is no URL that keys are fetched from", quote(text)), hint));
    };
    let rest = &text[scheme.len()..];
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (plain, query) = path.split_once('?').unwrap_or((path, ""));
    let is_plain = |c: char| c.is_ascii_graphic() && c != '#';
    if !query.chars().all(is_plain) {
        return Err(bad(format!("{} has a query that is none", quote(text)), "letters and signs of ASCII"));
    }
    if !plain.is_empty() {
        UrlPath::<false>::parse(plain)?;
    }
    let path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
    let of_mesh = host.strip_suffix(".plt.local").filter(|_| scheme == "http://");
    let from = match of_mesh {
        Some(name) => {
            let id = ServiceId::new(name);
            let message = |error| format!("{} cannot be a service's name: {error}", quote(name));
            KeysAt::Service(
                id.map_err(|error| bad(message(error), "for example `http://id.plt.local/jwks.json`"))?,
            )
        }
        None => match UpstreamUrl::parse(&format!("{scheme}{host}"))? {
            UpstreamUrl::Inside(id) => KeysAt::Service(id),
            UpstreamUrl::Outside(server) => KeysAt::Server(server),
        },
    };
    Ok((from, path, text.to_owned()))
}

/// The keys of those who sign, each as it was written and as it is understood.
fn signers(f: &mut Fields<'_, '_, '_>) -> Vec<(serde_json::Value, KeySet)> {
    let mut signers = Vec::new();
    let mut shown = Vec::new();
    for item in f.list("keys") {
        if f.d.problems.is_full() {
            break;
        }
        let at = super::gateway::start_of(item);
        let Value::Map(entries) = &item.value else {
            let problem = Problem::new(item.span, format!("a key is a table, and this is {}", item.kind()));
            f.d.problem(problem.hint(f.example("keys")));
            continue;
        };
        let mut jwk = serde_json::Map::new();
        let mut shown_key = Vec::new();
        for entry in entries {
            // Of the lists that there may be, none says more than others do.
            let Value::Scalar { .. } = entry.node.value else { continue };
            let field = Field::from(entry);
            let name = &entry.key.text;
            let Some(text) = f.d.scalar(field.node, field.at(), name, "text", &[]) else { continue };
            jwk.insert(name.clone(), json!(text.text));
            // A private part has no business here, and is not to be shown before that is said.
            let value = if matches!(&**name, "d" | "k") { json!("(hidden)") } else { json!(text.text) };
            shown_key.push((name.clone(), Shown::Leaf { value, from: text.from, span: Some(text.span) }));
        }
        shown.push(Shown::Map(shown_key));
        let jwk = serde_json::Value::Object(jwk);
        match signer(&jwk) {
            Ok(keys) => signers.push((jwk, keys)),
            Err(Bad { message, hint }) => f.d.problem(Problem::new(at, message).maybe_hint(hint)),
        }
    }
    f.show("keys", Shown::List(shown));
    signers
}

fn signer(jwk: &serde_json::Value) -> Result<KeySet, Bad> {
    let private = ["d", "k", "p", "q"].into_iter().find(|part| jwk.get(part).is_some());
    if let Some(part) = private {
        let message = format!("{} is secret, and does not belong into this file", quote(part));
        return Err(bad(message, "write the public key: whoever signs has the other one"));
    }
    let set = json!({ "keys": [jwk] }).to_string();
    KeySet::parse(set.as_bytes()).map_err(|error| {
        let what = error.to_string();
        let what =
            what.strip_prefix("key 0: ").unwrap_or("it is for no signatures of a known kind").to_owned();
        bad(
            format!("this key is not understood: {what}"),
            "a public key of RSA, of P-256 or of Ed25519, as a JWK",
        )
    })
}
