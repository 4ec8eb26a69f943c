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

/// What is known of a client that speaks TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secure {
    /// The fields that tell services whose certificate it has: empty, or whole lines.
    pub(crate) fields: String,
}

impl Secure {
    /// For a client with this certificate, which was verified.
    pub(crate) fn new(certificate: Option<&[u8]>) -> Secure {
        let Some(certificate) = certificate else { return Secure::default() };
        let subject = watt_certificates::subject(certificate).unwrap_or_default();
        // A byte sequence of RFC 8941 §3.3.5.
        let whole = base64(certificate);
        Secure { fields: format!("X-Client-Cert-Subject: {subject}\r\nClient-Cert: :{whole}:\r\n") }
    }
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
