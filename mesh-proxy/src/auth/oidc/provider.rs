//! The provider, as the proxy asks it: what it says of itself, and tokens (OpenID Connect Discovery 1.0, RFC 6749).

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use tokio::time::Instant;
use watt_api::mesh;

use crate::{auth::remote::Remote, http, table::Service, thread::Thread};

/// The longest answers, and how long one may take.
const ANSWER_MAX: usize = 256 << 10;
const TIME_MAX: Duration = Duration::from_secs(10);

/// How long what it says of itself holds, and how soon it is asked again after that failed.
const KNOWN_FOR: Duration = Duration::from_secs(3_600);
const PAUSE: Duration = Duration::from_secs(1);

/// How much is passed on of what it says.
const SAID_MAX: usize = 200;

/// How often its keys are fetched, besides.
const KEYS_EVERY_MS: u64 = 3_600_000;

/// Where something of it is asked for.
#[derive(Debug, Clone)]
struct Endpoint {
    service: String,
    host: String,
    path: String,
}

/// What it says of itself.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) authorization: String,
    pub(super) end_session: Option<String>,
    pub(super) keys: Rc<Remote>,
    token: Endpoint,
    /// The client's secret goes in the body.
    is_posted: bool,
}

/// As it is written (OpenID Connect Discovery 1.0 §3).
#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    end_session_endpoint: Option<String>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

/// Tokens.
#[derive(Deserialize)]
pub(super) struct Tokens {
    pub(super) id_token: Option<String>,
    pub(super) refresh_token: Option<String>,
}

/// Why there are none.
#[derive(Debug)]
pub(super) enum NoTokens {
    /// It says no.
    Refused(String),
    /// It says nothing, or nothing of use.
    Unavailable(String),
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Refusal {
    error: String,
    error_description: String,
}

/// A provider.
#[derive(Debug)]
pub(super) struct Provider {
    known: RefCell<Option<(Rc<Metadata>, Instant)>>,
    failed: Cell<Option<Instant>>,
}

impl Provider {
    pub(super) fn new() -> Provider {
        Provider { known: RefCell::default(), failed: Cell::new(None) }
    }

    /// What it says of itself; asked for when that is not known, or was asked for long ago.
    pub(super) async fn metadata(
        &self,
        source: &mesh::Oidc,
        thread: &Rc<Thread>,
    ) -> Result<Rc<Metadata>, String> {
        let known = self.known.borrow().clone();
        let is_pause = self.failed.get().is_some_and(|at| at.elapsed() < PAUSE);
        match known {
            Some((metadata, at)) if at.elapsed() < KNOWN_FOR || is_pause => return Ok(metadata),
            None if is_pause => return Err("it could not be asked".to_owned()),
            Some(_) | None => {}
        }
        match discover(source, known.as_ref().map(|(metadata, _)| &**metadata), thread).await {
            Ok(metadata) => {
                let metadata = Rc::new(metadata);
                self.known.replace(Some((Rc::clone(&metadata), Instant::now())));
                Ok(metadata)
            }
            Err(why) => {
                self.failed.set(Some(Instant::now()));
                tracing::warn!(
                    issuer = source.issuer,
                    why,
                    "what a provider of logins says of itself is not known"
                );
                known.map(|(metadata, _)| metadata).ok_or(why)
            }
        }
    }
}

async fn discover(
    source: &mesh::Oidc,
    known: Option<&Metadata>,
    thread: &Rc<Thread>,
) -> Result<Metadata, String> {
    let mesh::RemoteKeys { service, host, path, every_ms: _ } = &source.discovery;
    let place = Endpoint { service: service.clone(), host: host.clone(), path: path.clone() };
    let text = get(source, &place, thread).await?;
    let document: Document = serde_json::from_slice(&text)
        .map_err(|error| format!("what it says of itself is not understood: {error}"))?;
    if document.issuer != source.issuer {
        return Err(format!("it says that it is `{}`", document.issuer));
    }
    let keys = endpoint(source, &document.jwks_uri)?;
    let keys =
        mesh::RemoteKeys { service: keys.service, host: keys.host, path: keys.path, every_ms: KEYS_EVERY_MS };
    let fetched = known.map(|known| &known.keys).filter(|remote| remote.source == keys);
    let methods = &document.token_endpoint_auth_methods_supported;
    let takes = |method: &str| methods.iter().any(|one| one == method);
    for url in
        [Some(&document.authorization_endpoint), document.end_session_endpoint.as_ref()].into_iter().flatten()
    {
        if !is_url(url) {
            return Err(format!("`{url}` is no place to send a browser to"));
        }
    }
    Ok(Metadata {
        token: endpoint(source, &document.token_endpoint)?,
        keys: fetched.cloned().unwrap_or_else(|| Rc::new(Remote::new(&keys))),
        authorization: document.authorization_endpoint,
        end_session: document.end_session_endpoint,
        // Basic is what everybody takes who says nothing.
        is_posted: !methods.is_empty() && !takes("client_secret_basic") && takes("client_secret_post"),
    })
}

fn is_url(url: &str) -> bool {
    let scheme = url.starts_with("https://") || url.starts_with("http://");
    scheme && url.bytes().all(|byte| byte.is_ascii_graphic()) && !url.contains('#')
}

/// Who has a URL, of those whom the proxy may ask.
fn endpoint(source: &mesh::Oidc, url: &str) -> Result<Endpoint, String> {
    let after = url
        .find("://")
        .map(|at| at + 3)
        .filter(|_| is_url(url))
        .ok_or_else(|| format!("`{url}` is no URL"))?;
    let end = url[after..].find(['/', '?']).map_or(url.len(), |at| after + at);
    let (origin, path) = url.split_at(end);
    let server = source.servers.get(&origin.to_ascii_lowercase());
    let server = server.ok_or_else(|| format!("`{origin}` is none of `servers`"))?;
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(Endpoint { service: server.service.clone(), host: server.host.clone(), path })
}

/// The host, and of a service of the application how browsers come to it: what it says of itself is for them as well.
fn hosts(source: &mesh::Oidc, host: &str, to: &Service) -> String {
    let scheme = source.issuer.split_once("://").map_or("http", |(scheme, _)| scheme);
    match to.is_upstream {
        true => format!("Host: {host}\r\n"),
        false => format!("Host: {host}\r\nX-Forwarded-Host: {host}\r\nX-Forwarded-Proto: {scheme}\r\n"),
    }
}

async fn get(source: &mesh::Oidc, place: &Endpoint, thread: &Rc<Thread>) -> Result<Vec<u8>, String> {
    let Endpoint { service, host, path } = place;
    let table = thread.table();
    let to = table.service(service).ok_or("there is no such service")?;
    let hosts = hosts(source, host, to);
    let request =
        format!("GET {path} HTTP/1.1\r\n{hosts}Accept: application/json\r\nUser-Agent: watt\r\n\r\n");
    let answered = http::ask(thread, to, request.as_bytes(), ANSWER_MAX, TIME_MAX).await?;
    match answered.status {
        200 => Ok(answered.body),
        status => Err(format!("it answered with {status}")),
    }
}

impl Metadata {
    /// Asks for tokens. `form` is what for.
    pub(super) async fn tokens(
        &self,
        source: &mesh::Oidc,
        form: &[(&str, &str)],
        thread: &Rc<Thread>,
    ) -> Result<Tokens, NoTokens> {
        let Endpoint { service, host, path } = &self.token;
        let mut form = form.to_vec();
        let mut authorization = String::new();
        match &source.client_secret {
            Some(secret) if self.is_posted => {
                form.extend([("client_id", &*source.client_id), ("client_secret", secret.0.trim())]);
            }
            Some(secret) => {
                let pair = format!("{}:{}", encoded(&source.client_id), encoded(secret.0.trim()));
                authorization = format!("Authorization: Basic {}\r\n", STANDARD.encode(pair));
            }
            None => form.push(("client_id", &source.client_id)),
        }
        let body = query(&form);
        let table = thread.table();
        let to = table
            .service(service)
            .ok_or_else(|| NoTokens::Unavailable("there is no such service".to_owned()))?;
        let hosts = hosts(source, host, to);
        let request = format!(
            "POST {path} HTTP/1.1\r\n{hosts}Accept: application/json\r\nUser-Agent: watt\r\n{authorization}\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        // What it gives for may be used once.
        let asked = http::ask_once(thread, to, request.as_bytes(), ANSWER_MAX, TIME_MAX);
        let answered = asked.await.map_err(NoTokens::Unavailable)?;
        match answered.status {
            200 => serde_json::from_slice(&answered.body)
                .map_err(|error| NoTokens::Unavailable(format!("its tokens are not understood: {error}"))),
            400..=499 => {
                let Refusal { error, error_description } =
                    serde_json::from_slice(&answered.body).unwrap_or_default();
                let said = format!("{error} {error_description}");
                let said: String = said.trim().chars().filter(|c| !c.is_control()).take(SAID_MAX).collect();
                Err(NoTokens::Refused(said))
            }
            status => Err(NoTokens::Unavailable(format!("it answered with {status}"))),
        }
    }
}

/// Names and values as a query or a form has them.
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{}={}", encoded(name), encoded(value));
    pairs.iter().map(pair).collect::<Vec<_>>().join("&")
}

fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}

/// A value of a query, decoded.
pub(super) fn value_of(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.into_iter().find(|(other, _)| *other == name)?;
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_there_and_back() {
        let text = "a b&c=d/é?+%";
        let written = query(&[("x", "1"), ("y", text)]);
        assert_eq!(written, "x=1&y=a%20b%26c%3Dd%2F%C3%A9%3F%2B%25");
        assert_eq!(value_of(&written, "y").as_deref(), Some(text));
        assert_eq!(value_of("y=a+b", "y").as_deref(), Some("a b"));
        assert_eq!(value_of("y=%4", "y"), None);
        assert_eq!(value_of("yy=1", "y"), None);
    }
}
