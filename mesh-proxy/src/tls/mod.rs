//! TLS with clients and with servers outside ([`connector`]): how a connection begins ([`handshake`]), what it shows and asks ([`acceptor`]), and the stream that the engine has of it
//! ([`stream`]), which is in TLS what a socket is without.

mod acceptor;
mod connector;
mod handshake;
mod stream;

pub(crate) use acceptor::Acceptor;
pub(crate) use connector::Connector;
pub(crate) use handshake::{Tally, accept};
pub use stream::TlsStream;
use watt_policies::access::Names;

/// What is known of a client that speaks TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secure {
    /// Whose certificate it has, where it has one.
    pub(crate) shown: Option<Shown>,
}

/// A client's certificate, which was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// What it is called in logs: its subject, and where that is empty, as in those of SPIFFE, the first of its other names.
    pub(crate) name: Box<str>,
    /// What rules ask for.
    pub(crate) names: Names,
    /// The fields that tell services of it, as whole lines.
    pub(crate) fields: Box<str>,
}

impl Secure {
    /// For a client with this certificate, which was verified.
    pub(crate) fn new(certificate: Option<&[u8]>) -> Secure {
        Secure { shown: certificate.map(Shown::new) }
    }
}

/// The longest list of alternative names that services get. Together with the certificate it has to fit into heads of 16 KB, which is what most take.
const SAN_SIZE_MAX: usize = 2 << 10;

impl Shown {
    fn new(certificate: &[u8]) -> Shown {
        let subject = watt_certificates::subject(certificate).unwrap_or_default();
        let names = watt_certificates::names(certificate).unwrap_or_default();
        let san = alternative(&names);
        let first = san.first().cloned().unwrap_or_default();
        let name = if subject.is_empty() { first } else { subject.clone() };
        let san = san.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let san = match san.len() {
            1..=SAN_SIZE_MAX => format!("X-Client-Cert-San: {san}\r\n"),
            _ => String::new(),
        };
        // A byte sequence of RFC 8941 §3.3.5.
        let whole = base64(certificate);
        let fields = format!("X-Client-Cert-Subject: {subject}\r\n{san}Client-Cert: :{whole}:\r\n");
        let boxed = |names: Vec<String>| names.into_iter().map(String::into_boxed_str).collect();
        let watt_certificates::Names { common, dns, uris, emails } = names;
        let names =
            Names { common: boxed(common), dns: boxed(dns), uris: boxed(uris), emails: boxed(emails) };
        Shown { name: name.into(), names, fields: fields.into() }
    }
}

/// The alternative names, each behind its kind. They are visible ASCII.
fn alternative(names: &watt_certificates::Names) -> Vec<String> {
    let of = |kind: &'static str, names: &[String]| -> Vec<String> {
        names.iter().map(|name| format!("{kind}:{name}")).collect()
    };
    [of("uri", &names.uris), of("dns", &names.dns), of("email", &names.emails)].concat()
}

/// A string of RFC 8941 §3.3.3.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Whether this is a name of those fields (RFC 9440, and our own).
pub(crate) fn is_own_field(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"x-client-cert-";
    name.eq_ignore_ascii_case(b"client-cert")
        || name.eq_ignore_ascii_case(b"client-cert-chain")
        || name.len() > PREFIX.len() && name[..PREFIX.len()].eq_ignore_ascii_case(PREFIX)
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for index in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= group.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests;
