//! Servers that routes lead to and that are no services.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::{Component, Path},
};

use serde_json::{Value, json};
use watt_core::{ServiceId, plan::UpstreamServer};

use super::{Bad, HostName, Scalar, Whole, destination, quote};

/// The longest path of a Unix socket (unix(7)).
const SOCKET_PATH_MAX: usize = 107;

/// Where a route leads that names no service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UpstreamUrl {
    Outside(UpstreamServer),
    /// To a service after all.
    Inside(ServiceId),
}

impl Scalar for UpstreamUrl {
    fn parse(text: &str) -> Result<Self, Bad> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path).map(UpstreamUrl::Outside);
        }
        if let Some(name) = text.strip_prefix("internal://") {
            let name = name.strip_suffix('/').unwrap_or(name);
            return ServiceId::new(name)
                .map(UpstreamUrl::Inside)
                .map_err(|error| Bad::new(format!("{} cannot be a service's name: {error}", quote(name))));
        }
        let schemes = [("http://", false), ("https://", true)];
        let rest =
            schemes.into_iter().find_map(|(scheme, secure)| Some((text.strip_prefix(scheme)?, secure)));
        let Some((rest, secure)) = rest else {
            return Err(Bad::new(format!("{} is not an upstream", quote(text))).hint(
                "write `http://example.org:8080`, `https://example.org`, `unix:/run/other.sock` or `internal://NAME`",
            ));
        };
        let host = rest.strip_suffix('/').unwrap_or(rest);
        if host.contains(['/', '?', '#']) {
            return Err(Bad::new(format!("{} has a path", quote(text)))
                .hint("write what the path becomes as `rewrite`"));
        }
        let (name, port) = host_and_port(host)?;
        Ok(UpstreamUrl::Outside(match secure {
            true => UpstreamServer::Tls { name, port: port.unwrap_or(443) },
            false => UpstreamServer::Tcp { name, port: port.unwrap_or(80) },
        }))
    }

    fn show(&self) -> Value {
        match self {
            UpstreamUrl::Outside(server) => json!(server.to_string()),
            UpstreamUrl::Inside(id) => json!(format!("internal://{id}")),
        }
    }
}

fn unix(path: &str) -> Result<UpstreamServer, Bad> {
    let parsed = Path::new(path);
    let is_plain = parsed.is_absolute() && parsed.components().all(|part| part != Component::ParentDir);
    if !is_plain || path.len() > SOCKET_PATH_MAX || path.contains('\0') {
        return Err(Bad::new(format!("{} is not the path of a socket", quote(path)))
            .hint(format!("an absolute one of at most {SOCKET_PATH_MAX} bytes: `unix:/run/other.sock`")));
    }
    Ok(UpstreamServer::Unix(parsed.to_path_buf()))
}

/// A name or an address, without the brackets of one of IPv6, and a port if there is one.
fn host_and_port(text: &str) -> Result<(String, Option<u16>), Bad> {
    let (host, port) = destination::split(text)?;
    let port = match port.map(Whole::<1, 65535>::parse) {
        None => None,
        Some(Ok(Whole(port))) => Some(u16::try_from(port).unwrap_or(u16::MAX)),
        Some(Err(bad)) => return Err(Bad::new(format!("{} has a wrong port: {}", quote(text), bad.message))),
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(address) = inner.and_then(|inner| inner.parse::<Ipv6Addr>().ok()) {
        return Ok((address.to_string(), port));
    }
    if host.parse::<Ipv4Addr>().is_ok() {
        return Ok((host.to_owned(), port));
    }
    let name = HostName::parse(host).ok().filter(|HostName(name)| !name.starts_with("*."));
    let HostName(name) =
        name.ok_or_else(|| Bad::new(format!("{} is not a host", quote(host))).hint("a name or an address"))?;
    if name.ends_with(".plt.local") {
        return Err(Bad::new(format!("{} is a name of the mesh", quote(&name)))
            .hint("write `service`, or `internal://NAME`"));
    }
    Ok((name, port))
}

/// What requests to an upstream have in `Host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostField {
    /// What the client sent.
    Client,
    /// This.
    Is(String),
}

impl Scalar for HostField {
    fn parse(text: &str) -> Result<Self, Bad> {
        if text == "client" {
            return Ok(HostField::Client);
        }
        let (name, port) = host_and_port(text)?;
        Ok(HostField::Is(UpstreamServer::authority(&name, port)))
    }

    fn show(&self) -> Value {
        match self {
            HostField::Client => json!("client"),
            HostField::Is(host) => json!(host),
        }
    }
}
