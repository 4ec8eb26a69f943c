//! The fields of requests that are the connection's, the framing's or the proxy's own to say: the one list of them.
//!
//! Whoever lets operators change headers, asks for one, or lets one through as a trailer looks here. The request path knows them by their length
//! first and by their name then; a test there holds it to this list.

/// What a field of its own is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Own {
    /// Of one connection: it goes no further, or only as the proxy writes it.
    Connection,
    /// Where a message ends, what it came by, and whom it is for. It goes on.
    Message,
    /// The host.
    Host,
    /// Said by the proxy in place of the client.
    Said,
}

/// All of them by name, in lower case.
pub const OWN: [(&str, Own); 22] = [
    ("client-cert", Own::Said),
    ("client-cert-chain", Own::Said),
    ("connection", Own::Connection),
    ("content-length", Own::Message),
    ("expect", Own::Connection),
    ("forwarded", Own::Said),
    ("grpc-timeout", Own::Said),
    ("host", Own::Host),
    ("http2-settings", Own::Connection),
    ("keep-alive", Own::Connection),
    ("proxy-authorization", Own::Connection),
    ("proxy-connection", Own::Connection),
    ("te", Own::Connection),
    ("traceparent", Own::Said),
    ("tracestate", Own::Said),
    ("trailer", Own::Message),
    ("transfer-encoding", Own::Connection),
    ("upgrade", Own::Connection),
    ("via", Own::Message),
    ("x-mirrored", Own::Said),
    ("x-real-ip", Own::Said),
    ("x-request-timeout-ms", Own::Said),
];

/// And all that begin with one of these and go on.
pub const OWN_BEGINNINGS: [(&str, Own); 2] = [("x-client-cert-", Own::Said), ("x-forwarded-", Own::Said)];

/// What a field is, if it is one of them; its name is in any case.
pub fn own(name: &[u8]) -> Option<Own> {
    let whole = OWN.iter().find(|(own, _)| name.eq_ignore_ascii_case(own.as_bytes()));
    let begins = |(own, _): &&(&str, Own)| {
        name.len() > own.len() && name[..own.len()].eq_ignore_ascii_case(own.as_bytes())
    };
    whole.or_else(|| OWN_BEGINNINGS.iter().find(begins)).map(|(_, own)| *own)
}

/// The same with `_` for `-`, which programs that see headers as CGI has them take for each other (RFC 3875 §4.1.18).
pub fn own_folded(name: &[u8]) -> Option<Own> {
    if !name.contains(&b'_') {
        return own(name);
    }
    let dashed: Vec<u8> = name.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
    own(&dashed)
}

/// Whether a header is one that the proxy does not pass on as the client sent it: whoever asks for it asks for something that no service
/// sees.
pub fn is_replaced(name: &[u8]) -> bool {
    own_folded(name).is_some_and(|own| own != Own::Message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_any_spelling() {
        for (name, exact, folded) in [
            ("Connection", true, true),
            ("X-FORWARDED-USER", true, true),
            ("x_forwarded_user", false, true),
            ("x-forwarded_user", true, true),
            ("X-Forwarded-", false, false),
            ("X-Client-Cert-Subject", true, true),
            ("client_cert", false, true),
            ("x-mirrored", true, true),
            ("X_Mirrored", false, true),
            ("x-client-certain", false, false),
            ("x-tenant", false, false),
            ("", false, false),
        ] {
            let found = (own(name.as_bytes()).is_some(), own_folded(name.as_bytes()).is_some());
            assert_eq!(found, (exact, folded), "{name}");
        }
    }

    #[test]
    fn the_list_is_in_order_and_in_lower_case() {
        assert!(OWN.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(OWN.iter().chain(&OWN_BEGINNINGS).all(|(name, _)| *name == name.to_ascii_lowercase()));
    }
}
