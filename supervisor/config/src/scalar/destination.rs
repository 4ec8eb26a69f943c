//! Hosts outside of the mesh: a name, an address or a network, and a port.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    num::NonZeroU16,
};

use serde_json::{Value, json};
use watt_core::plan::{Destination, EgressRule};

use super::{Bad, HostName, Scalar, Whole, quote};

impl Scalar for EgressRule {
    fn parse(text: &str) -> Result<Self, Bad> {
        if let Some((scheme, rest)) = text.split_once("://") {
            let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
            let port = match scheme {
                _ if host.contains(':') => "",
                "https" => ":443",
                "http" => ":80",
                _ => "",
            };
            return Err(Bad::new(format!("{} is a URL", quote(text)))
                .hint(format!("did you mean {}?", quote(&format!("{host}{port}")))));
        }
        let (host, port) = split(text)?;
        let port = match port {
            None => None,
            Some(port) => match Whole::<1, 65535>::parse(port) {
                Ok(Whole(number)) => u16::try_from(number).ok().and_then(NonZeroU16::new),
                Err(bad) => {
                    return Err(Bad::new(format!("{} has a wrong port: {}", quote(text), bad.message))
                        .hint("between 1 and 65535; without a port it is every one"));
                }
            },
        };
        Ok(EgressRule { to: destination(host)?, port })
    }

    fn show(&self) -> Value {
        let to = match &self.to {
            Destination::Anywhere => "*".to_owned(),
            Destination::Name(name) => name.clone(),
            Destination::Network(IpAddr::V4(address), 32) => address.to_string(),
            Destination::Network(IpAddr::V4(address), bits) => format!("{address}/{bits}"),
            Destination::Network(IpAddr::V6(address), 128) => format!("[{address}]"),
            Destination::Network(IpAddr::V6(address), bits) => format!("[{address}]/{bits}"),
        };
        json!(self.port.map_or(to.clone(), |port| format!("{to}:{port}")))
    }
}

/// A port is what follows the last colon; the colons of an IPv6 address are in brackets.
pub(super) fn split(text: &str) -> Result<(&str, Option<&str>), Bad> {
    let after_brackets = text.rfind(']').map_or(0, |end| end + 1);
    let (host, port) = match text[after_brackets..].rsplit_once(':') {
        Some((rest, port)) => (&text[..after_brackets + rest.len()], Some(port)),
        None => (text, None),
    };
    if after_brackets == 0 && host.contains(':') {
        return Err(Bad::new(format!("{} has more than one colon", quote(text)))
            .hint("an IPv6 address is in brackets: `[2001:db8::1]:443`"));
    }
    Ok((host, port))
}

fn destination(host: &str) -> Result<Destination, Bad> {
    if host == "*" {
        return Ok(Destination::Anywhere);
    }
    let (address, bits) = match host.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (host, None),
    };
    let inner = address.strip_prefix('[').and_then(|address| address.strip_suffix(']'));
    let parsed = match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => address.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    };
    if let Some(address) = parsed {
        return network(host, address, bits);
    }
    let is_number = |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit());
    // A name whose last label is a number would be taken for an address by some resolvers (RFC 1123 §2.1).
    let like_address = inner.is_some() || bits.is_some() || host.rsplit('.').next().is_some_and(is_number);
    if like_address {
        return Err(Bad::new(format!("{} is not an address", quote(host)))
            .hint("write `192.0.2.1`, `10.0.0.0/8`, `[2001:db8::1]` or `[2001:db8::]/32`"));
    }
    let HostName(name) = HostName::parse(host).map_err(|_| {
        Bad::new(format!("{} is not a destination", quote(host)))
            .hint("write `*`, `example.org`, `*.example.org`, `10.0.0.0/8` or `[2001:db8::]/32`, and a port after a colon")
    })?;
    if name == "localhost" {
        return Err(own_localhost(host));
    }
    Ok(Destination::Name(name))
}

fn network(text: &str, address: IpAddr, bits: Option<&str>) -> Result<Destination, Bad> {
    let bits_max = if address.is_ipv4() { 32 } else { 128 };
    let bits = match bits.map(str::parse::<u8>) {
        None => bits_max,
        Some(Ok(bits)) if bits <= bits_max => bits,
        Some(_) => {
            return Err(Bad::new(format!("{} has a wrong length of its network", quote(text)))
                .hint(format!("between 0 and {bits_max}")));
        }
    };
    if address.is_loopback() {
        return Err(own_localhost(text));
    }
    let first = first_address(address, bits);
    if first != address {
        let meant = EgressRule { to: Destination::Network(first, bits), port: None }.show();
        return Err(Bad::new(format!("{} has bits after its first {bits}", quote(text)))
            .hint(format!("did you mean {}?", quote(meant.as_str().unwrap_or_default()))));
    }
    Ok(Destination::Network(address, bits))
}

fn own_localhost(text: &str) -> Bad {
    Bad::new(format!("{} is the service's own localhost", quote(text)))
        .hint("ports of the host's localhost are written into `host_ports`")
}

/// The first address of the network of this one.
fn first_address(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}
