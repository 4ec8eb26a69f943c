//! Where requests of watt's own go.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};
use watt_core::{ServiceId, plan::Receiver};

use super::{Bad, HostName, Scalar, UrlPath, Whole, destination, quote};

/// A URL of a service of the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MeshUrl {
    pub(crate) service: ServiceId,
    /// Path and query.
    pub(crate) path: String,
}

impl Scalar for MeshUrl {
    fn parse(text: &str) -> Result<Self, Bad> {
        let bad = || {
            Bad::new(format!("{} is not the URL of a service", quote(text)))
                .hint("calls go to services: `http://NAME.plt.local/path`")
        };
        let rest = text.strip_prefix("http://").ok_or_else(bad)?;
        let (host, path) = split_path(rest);
        let host = host.strip_suffix(":80").unwrap_or(host);
        let name = host.strip_suffix(".plt.local").ok_or_else(bad)?;
        let service = ServiceId::new(name).map_err(|_| bad())?;
        let UrlPath::<true>(path) = UrlPath::parse(&path)?;
        Ok(MeshUrl { service, path })
    }

    fn show(&self) -> Value {
        json!(format!("http://{}.plt.local{}", self.service, self.path))
    }
}

/// Where a webhook goes: to a service of the mesh, or outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WebUrl {
    pub(crate) receiver: Receiver,
    /// Path and query.
    pub(crate) path: String,
}

impl WebUrl {
    /// Whether a text is meant as one.
    pub(crate) fn is_meant(text: &str) -> bool {
        text.starts_with("http://") || text.starts_with("https://")
    }
}

impl Scalar for WebUrl {
    fn parse(text: &str) -> Result<Self, Bad> {
        if text.starts_with("https://") {
            return Err(Bad::new(format!("{} needs TLS, which webhooks do not have", quote(text)))
                .hint("write a `command` that sends it, for example with curl, or the URL of a service that passes it on"));
        }
        let rest = text.strip_prefix("http://").ok_or_else(|| {
            Bad::new(format!("{} is not a URL", quote(text)))
                .hint("write one such as `http://alerts.plt.local/failed`, or `http://example.org:8080/`")
        })?;
        let (host, path) = split_path(rest);
        let receiver = receiver(host)?;
        let UrlPath::<true>(path) = UrlPath::parse(&path)?;
        Ok(WebUrl { receiver, path })
    }

    fn show(&self) -> Value {
        let host = match &self.receiver {
            Receiver::Service(service) => format!("{service}.plt.local"),
            Receiver::Host { name, port } => {
                let name = if name.contains(':') { format!("[{name}]") } else { name.clone() };
                if *port == 80 { name } else { format!("{name}:{port}") }
            }
        };
        json!(format!("http://{host}{}", self.path))
    }
}

/// What is before the path, and the path, which may be a query alone.
fn split_path(text: &str) -> (&str, String) {
    match text.find(['/', '?']) {
        Some(index) if text[index..].starts_with('/') => (&text[..index], text[index..].to_owned()),
        Some(index) => (&text[..index], format!("/{}", &text[index..])),
        None => (text, "/".to_owned()),
    }
}

fn receiver(text: &str) -> Result<Receiver, Bad> {
    let (host, port) = destination::split(text)?;
    let port = match port.map(Whole::<1, 65535>::parse) {
        None => 80,
        Some(Ok(Whole(port))) => u16::try_from(port).unwrap_or(u16::MAX),
        Some(Err(bad)) => return Err(Bad::new(format!("{} has a wrong port: {}", quote(text), bad.message))),
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(address) = inner.and_then(|inner| inner.parse::<Ipv6Addr>().ok()) {
        return Ok(Receiver::Host { name: address.to_string(), port });
    }
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok(Receiver::Host { name: address.to_string(), port });
    }
    let HostName(name) = HostName::parse(host)
        .ok()
        .filter(|HostName(name)| !name.starts_with("*."))
        .ok_or_else(|| Bad::new(format!("{} is not a host", quote(host))).hint("a name or an address"))?;
    let Some(service) = name.strip_suffix(".plt.local") else { return Ok(Receiver::Host { name, port }) };
    if port != 80 {
        return Err(Bad::new(format!("a service of the mesh has no port {port}")).hint("leave it out"));
    }
    let service = ServiceId::new(service)
        .map_err(|error| Bad::new(format!("{} cannot be a service's name: {error}", quote(service))))?;
    Ok(Receiver::Service(service))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<(Receiver, &str), &str>) {
        let found = WebUrl::parse(text);
        match expected {
            Ok((receiver, path)) => {
                let expected = WebUrl { receiver, path: path.to_owned() };
                assert_eq!(found, Ok(expected.clone()), "{text}");
                let shown = expected.show();
                assert_eq!(WebUrl::parse(shown.as_str().unwrap()), Ok(expected), "{shown}");
            }
            Err(message) => assert_eq!(found.unwrap_err().message, message, "{text}"),
        }
    }

    #[test]
    fn webhooks_go_to_services_and_to_hosts() {
        let host = |name: &str, port| Receiver::Host { name: name.to_owned(), port };
        let service = Receiver::Service(ServiceId::new("alerts").unwrap());
        check("http://alerts.plt.local/failed?x=1", Ok((service.clone(), "/failed?x=1")));
        check("http://alerts.plt.local:80", Ok((service, "/")));
        check("http://example.org?x", Ok((host("example.org", 80), "/?x")));
        check("http://Example.org:8080/a", Ok((host("example.org", 8080), "/a")));
        check("http://localhost:9093/", Ok((host("localhost", 9093), "/")));
        check("http://192.0.2.1:81/", Ok((host("192.0.2.1", 81), "/")));
        check("http://[2001:DB8::1]:81/", Ok((host("2001:db8::1", 81), "/")));
        check("http://[::1]/", Ok((host("::1", 80), "/")));
    }

    #[test]
    fn what_is_no_url_of_a_webhook() {
        check("https://example.org/", Err("`https://example.org/` needs TLS, which webhooks do not have"));
        check("example.org", Err("`example.org` is not a URL"));
        check("ftp://example.org", Err("`ftp://example.org` is not a URL"));
        check("http://", Err("`` is not a host"));
        check("http://*.example.org/", Err("`*.example.org` is not a host"));
        check(
            "http://user:word@example.org/",
            Err("`user:word@example.org` has a wrong port: `word@example.org` is not a whole number"),
        );
        check("http://user@example.org/", Err("`user@example.org` is not a host"));
        check("http://[2001:db8::1/", Err("`[2001:db8::1` has more than one colon"));
        check("http://2001:db8::1/", Err("`2001:db8::1` has more than one colon"));
        check("http://alerts.plt.local:81/", Err("a service of the mesh has no port 81"));
        check(
            "http://a.b.plt.local/",
            Err(
                "`a.b` cannot be a service's name: '.' is not allowed: a name is made of a-z, 0-9, '-' and '_'",
            ),
        );
        check("http://example.org/a b", Err("` ` cannot be in a path"));
    }
}
