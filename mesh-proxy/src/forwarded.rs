//! Tells services who called: `X-Forwarded-*` and `Forwarded` (RFC 7239), and whose certificate a client has (`X-Client-Cert-Subject`, and
//! `Client-Cert` of RFC 9440).
//!
//! At the gateway they are made anew from the connection. What a client sent under these names is dropped, so that
//! nobody can pass for another. In the mesh services call each other on somebody's behalf, so what they send is kept
//! and this hop is appended; the last element of `Forwarded` is always the proxy's own and names the calling service.

use std::{io::Write, net::IpAddr, rc::Rc};

use crate::http::{Client, Fields, Lines, Secure, Side};

/// What a connection's requests get, made once and used while the host stays the same.
pub(crate) struct Forwarded {
    /// `for=` of RFC 7239, ready to be written.
    node: String,
    /// The client's address for X-Forwarded-For; none over a Unix socket.
    address: Option<IpAddr>,
    proto: &'static str,
    secure: Option<Rc<Secure>>,
    gateway: bool,
    host: Vec<u8>,
    lines: Vec<u8>,
}

/// The request's own fields of this kind.
pub(crate) struct Theirs<'f, 'h, 'b> {
    pub(crate) fields: &'f Fields<'h, 'b>,
    pub(crate) forwarded: Lines,
    pub(crate) forwarded_for: Lines,
    pub(crate) other: Lines,
}

impl Forwarded {
    pub(crate) fn new(client: &Client) -> Forwarded {
        let address = client.peer.map(|peer| peer.ip().to_canonical());
        let node = match (&client.side, address) {
            (Side::Mesh { caller: Some(caller) }, _) => obfuscated(caller),
            (_, Some(IpAddr::V4(address))) => address.to_string(),
            (_, Some(IpAddr::V6(address))) => format!("\"[{address}]\""),
            (_, None) => "unknown".to_owned(),
        };
        Forwarded {
            node,
            address,
            proto: if client.tls.is_some() { "https" } else { "http" },
            secure: client.tls.clone(),
            gateway: matches!(client.side, Side::Gateway),
            host: Vec::new(),
            lines: Vec::new(),
        }
    }

    /// The request's lines that are not passed on as they are.
    pub(crate) fn replaced(&self, theirs: &Theirs<'_, '_, '_>) -> Lines {
        let mut lines = theirs.forwarded;
        if self.gateway {
            lines |= theirs.forwarded_for;
            lines |= theirs.other;
        } else if self.address.is_some() {
            lines |= theirs.forwarded_for;
        }
        lines
    }

    /// Appends the fields. `prefix` is what a route hides from the service.
    pub(crate) fn write(
        &mut self,
        host: &[u8],
        prefix: Option<&[u8]>,
        theirs: &Theirs<'_, '_, '_>,
        out: &mut Vec<u8>,
    ) {
        let theirs_is_empty = theirs.forwarded.is_empty() && theirs.forwarded_for.is_empty();
        if !self.gateway && !theirs_is_empty {
            self.append(host, theirs, out);
        } else {
            if self.lines.is_empty() || self.host != host {
                self.remember(host);
            }
            out.extend_from_slice(&self.lines);
        }
        // A route of `/` hides nothing.
        if let (true, Some(prefix @ [_, ..])) = (self.gateway, prefix) {
            out.extend_from_slice(b"X-Forwarded-Prefix: ");
            out.extend_from_slice(prefix);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// The same of a client of the gateway, whatever it has sent itself.
    pub(crate) fn write_for_client(&mut self, host: &[u8], out: &mut Vec<u8>) {
        if self.lines.is_empty() || self.host != host {
            self.remember(host);
        }
        out.extend_from_slice(&self.lines);
    }

    fn remember(&mut self, host: &[u8]) {
        self.host.clear();
        self.host.extend_from_slice(host);
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        if let Some(address) = self.address {
            // Writing to memory does not fail, here and below.
            let _ = write!(lines, "X-Forwarded-For: {address}\r\n");
        }
        if self.gateway {
            lines.extend_from_slice(b"X-Forwarded-Host: ");
            lines.extend_from_slice(host);
            let _ = write!(lines, "\r\nX-Forwarded-Proto: {}\r\n", self.proto);
            if let Some(shown) = self.secure.as_ref().and_then(|secure| secure.shown.as_ref()) {
                lines.extend_from_slice(shown.fields.as_bytes());
            }
        }
        lines.extend_from_slice(b"Forwarded: ");
        self.write_element(host, &mut lines);
        lines.extend_from_slice(b"\r\n");
        self.lines = lines;
    }

    /// The mesh, when the caller sent some itself. One line each, because some frameworks read only the first.
    fn append(&self, host: &[u8], theirs: &Theirs<'_, '_, '_>, out: &mut Vec<u8>) {
        if let Some(address) = self.address {
            out.extend_from_slice(b"X-Forwarded-For: ");
            write_list(theirs.fields, theirs.forwarded_for, out);
            let _ = write!(out, "{address}\r\n");
        }
        out.extend_from_slice(b"Forwarded: ");
        write_list(theirs.fields, theirs.forwarded, out);
        self.write_element(host, out);
        out.extend_from_slice(b"\r\n");
    }

    fn write_element(&self, host: &[u8], out: &mut Vec<u8>) {
        let _ = write!(out, "for={};host=\"", self.node);
        // An authority has neither quotes nor backslashes in it.
        out.extend_from_slice(host);
        let _ = write!(out, "\";proto={}", self.proto);
    }
}

/// The values of these lines, each followed by a comma.
fn write_list(fields: &Fields<'_, '_>, lines: Lines, out: &mut Vec<u8>) {
    for value in lines.iter().map(|line| fields.value(line)).filter(|value| !value.is_empty()) {
        out.extend_from_slice(value);
        out.extend_from_slice(b", ");
    }
}

/// A service's name as RFC 7239 §6.3 wants names that are no addresses: `_web`.
fn obfuscated(service: &str) -> String {
    let plain =
        |letter: char| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '_' };
    std::iter::once('_').chain(service.chars().map(plain)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::{Terms, with_request},
        tls::Shown,
    };

    fn client(side: Side, peer: Option<&str>) -> Client {
        Client {
            side,
            peer: peer.map(|peer| peer.parse().unwrap()),
            local: None,
            tls: None,
            terms: Terms::default(),
        }
    }

    fn written(client: &Client, fields: &str, prefix: Option<&str>) -> String {
        let head = format!("GET / HTTP/1.1\r\nHost: shop:80\r\n{fields}\r\n");
        with_request(head.as_bytes(), |request| {
            let theirs = Theirs {
                fields: &request.fields,
                forwarded: request.found.forwarded,
                forwarded_for: request.found.forwarded_for,
                other: request.found.forwarded_other,
            };
            let mut forwarded = Forwarded::new(client);
            let mut out = Vec::new();
            request.fields.copy_lines(request.fields.start_of(1), forwarded.replaced(&theirs), &mut out);
            forwarded.write(request.host, prefix.map(str::as_bytes), &theirs, &mut out);
            String::from_utf8(out).unwrap()
        })
        .unwrap()
    }

    #[test]
    fn a_client_cannot_pass_for_another() {
        let spoofed = "X-Forwarded-For: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\n\
                       X-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\nx-forwarded-host: evil\r\n";
        let gateway = client(Side::Gateway, Some("192.0.2.7:1234"));
        assert_eq!(
            written(&gateway, spoofed, Some("/api")),
            "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Host: shop:80\r\nX-Forwarded-Proto: http\r\n\
             Forwarded: for=192.0.2.7;host=\"shop:80\";proto=http\r\nX-Forwarded-Prefix: /api\r\n"
        );
        let mapped = client(Side::Gateway, Some("[::ffff:192.0.2.7]:1"));
        assert!(written(&mapped, "", None).starts_with("X-Forwarded-For: 192.0.2.7\r\n"));
        let v6 = client(Side::Gateway, Some("[2001:db8::1]:1"));
        assert!(written(&v6, "", None).contains("Forwarded: for=\"[2001:db8::1]\";"));
    }

    #[test]
    fn a_clients_certificate_is_told_and_cannot_be_made_up() {
        let forged = "Client-Cert: :AAAA:\r\nClient-Cert-Chain: :AAAA:\r\nX-Client-Cert-Subject: CN=root\r\n\
                      X-Client-Cert-San: \"dns:root\"\r\nx-client-cert-anything: 1\r\nX-Client-Certain: stays\r\n";
        let mut gateway = client(Side::Gateway, Some("192.0.2.7:1234"));
        assert!(written(&gateway, forged, None).starts_with("X-Client-Certain: stays\r\nX-Forwarded-For: "));
        let fields = "X-Client-Cert-Subject: CN=alice\r\nClient-Cert: :MAA=:\r\n".to_owned();
        let shown =
            Shown { name: "CN=alice".into(), names: Default::default(), fields: fields.as_str().into() };
        gateway.tls = Some(Rc::new(Secure { shown: Some(shown) }));
        assert_eq!(
            written(&gateway, forged, None),
            format!(
                "X-Client-Certain: stays\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Host: shop:80\r\n\
                 X-Forwarded-Proto: https\r\n{fields}Forwarded: for=192.0.2.7;host=\"shop:80\";proto=https\r\n"
            )
        );
        // Services call each other on somebody's behalf.
        let web = client(Side::Mesh { caller: Some("web".into()) }, None);
        assert!(written(&web, "Client-Cert: :AAAA:\r\n", None).contains("Client-Cert: :AAAA:"));
    }

    #[test]
    fn the_mesh_appends_the_calling_service() {
        let web = client(Side::Mesh { caller: Some("web".into()) }, None);
        let theirs = "X-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.7\r\nForwarded: for=a,for=b\r\n";
        assert_eq!(
            written(&web, theirs, None),
            "X-Forwarded-For: 192.0.2.7\r\n\
             Forwarded: for=192.0.2.7, for=a,for=b, for=_web;host=\"shop:80\";proto=http\r\n"
        );
        assert_eq!(written(&web, "", None), "Forwarded: for=_web;host=\"shop:80\";proto=http\r\n");
        let over_tcp = client(Side::Mesh { caller: None }, Some("127.0.0.1:1"));
        assert_eq!(
            written(&over_tcp, "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n", None),
            "X-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.7, 127.0.0.1\r\n\
             Forwarded: for=127.0.0.1;host=\"shop:80\";proto=http\r\n"
        );
    }
}
