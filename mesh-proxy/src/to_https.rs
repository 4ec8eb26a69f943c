//! From HTTP to HTTPS: the same host, path and query, with 308, which has clients keep method and body (RFC 9110 §15.4.9).

use std::rc::Rc;

use watt_api::mesh;

use crate::{
    http::Client,
    respond::OwnAnswer,
    route::{Asked, host_of},
};

/// Of https (RFC 9110 §4.2.2).
const USUAL_PORT: u16 = 443;

/// Where clients of a listener are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToHttps(mesh::ToHttps);

impl ToHttps {
    pub(crate) fn new(of: mesh::ToHttps) -> ToHttps {
        ToHttps(of)
    }

    pub(crate) fn answer(&self, asked: &Asked<'_>, client: &Client) -> OwnAnswer {
        let mut location = b"https://".to_vec();
        write_host(asked.authority, client, &mut location);
        match self.port(client) {
            USUAL_PORT => {}
            port => location.extend_from_slice(format!(":{port}").as_bytes()),
        }
        // `OPTIONS *` is about the server as a whole.
        location.extend_from_slice(if asked.target.starts_with(b"/") { asked.target } else { b"/" });
        let lines = [b"Location: ", &location[..], b"\r\n"].concat();
        OwnAnswer { status: 308, lines, body: Rc::new([]) }
    }

    /// Whoever came to a proxy before the gateway does not know our port, but the usual one of that proxy.
    fn port(&self, client: &Client) -> u16 {
        let mesh::ToHttps { port, for_all } = self.0;
        if client.terms.is_by_proxy() && !for_all { USUAL_PORT } else { port }
    }
}

/// The host without its port. HTTP/1.0 clients may leave it out; then it is the address they came to.
fn write_host(authority: &[u8], client: &Client, out: &mut Vec<u8>) {
    match (host_of(authority), client.local.map(|local| local.ip().to_canonical())) {
        ([], Some(std::net::IpAddr::V6(address))) => out.extend_from_slice(format!("[{address}]").as_bytes()),
        ([], Some(address)) => out.extend_from_slice(address.to_string().as_bytes()),
        ([], None) => out.extend_from_slice(b"localhost"),
        (host, _) => out.extend_from_slice(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Lines, Side, Terms};

    fn client(local: Option<&str>, terms: Terms) -> Client {
        let local = local.map(|local| local.parse().unwrap());
        Client { side: Side::Gateway, peer: None, local, tls: None, terms }
    }

    #[test]
    fn host_path_and_query_stay() {
        let check = |authority: &str, target: &str, port: u16, client: &Client, expected: &str| {
            let asked = Asked {
                authority: authority.as_bytes(),
                path: target.split('?').next().unwrap().as_bytes(),
                target: target.as_bytes(),
                head: b"GET ",
                headers: &[],
                dropped: Lines::default(),
                parsed: Default::default(),
            };
            let answer = ToHttps::new(mesh::ToHttps { port, for_all: false }).answer(&asked, client);
            let lines = String::from_utf8(answer.lines).unwrap();
            assert_eq!((answer.status, lines.as_str()), (308, &*format!("Location: {expected}\r\n")));
        };
        let plain = client(Some("192.0.2.1:80"), Terms::default());
        check("example.org", "/a/b?c=d", 443, &plain, "https://example.org/a/b?c=d");
        check("example.org:80", "/", 443, &plain, "https://example.org/");
        check("example.org:8080", "/", 8443, &plain, "https://example.org:8443/");
        check("[2001:db8::1]:80", "/", 8443, &plain, "https://[2001:db8::1]:8443/");
        check("[2001:db8::1]", "//a", 443, &plain, "https://[2001:db8::1]//a");
        check("", "*", 443, &plain, "https://192.0.2.1/");
        check("", "/", 443, &client(Some("[::1]:80"), Terms::default()), "https://[::1]/");
        check("", "/", 443, &client(None, Terms::default()), "https://localhost/");
        // Whose port 443 is ours under another number.
        let behind = client(Some("198.51.100.1:80"), Terms::default().by_proxy());
        check("example.org", "/", 8443, &behind, "https://example.org/");
    }
}
