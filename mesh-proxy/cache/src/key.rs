//! What responses are found by: the URI that a client asked for.

/// The URI of a request, so that two that are the same by the rules of `http` (RFC 9110 §4.2.3) are the same here, as far as that is beyond doubt: the
/// host's letters and the usual port. Nothing is done to the path: services differ in what they take for the same.
pub fn uri(is_https: bool, authority: &[u8], path_and_query: &[u8]) -> Vec<u8> {
    let (scheme, port): (&[u8], &[u8]) = if is_https { (b"https://", b":443") } else { (b"http://", b":80") };
    let authority = authority.strip_suffix(port).unwrap_or(authority);
    let mut uri = Vec::with_capacity(scheme.len() + authority.len() + path_and_query.len());
    uri.extend_from_slice(scheme);
    uri.extend(authority.iter().map(u8::to_ascii_lowercase));
    uri.extend_from_slice(path_and_query);
    uri
}

/// Where the path of one begins, if it has one.
pub(crate) fn path_start(uri: &[u8]) -> Option<usize> {
    let authority = memchr::memmem::find(uri, b"://")? + 3;
    Some(authority + memchr::memchr(b'/', &uri[authority..])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_the_same_and_nothing_else() {
        let of =
            |is_https, authority: &str, target: &str| uri(is_https, authority.as_bytes(), target.as_bytes());
        assert_eq!(of(false, "Shop.Example:80", "/A?b"), b"http://shop.example/A?b");
        assert_eq!(of(true, "shop.example:443", "/"), b"https://shop.example/");
        assert_eq!(of(true, "shop.example:80", "/"), b"https://shop.example:80/");
        assert_ne!(of(false, "a", "/x"), of(true, "a", "/x"));
        assert_ne!(of(false, "a", "/x"), of(false, "a", "/x?"));
        assert_eq!(path_start(b"http://a/x"), Some(8));
        assert_eq!((path_start(b"http://a"), path_start(b"x")), (None, None));
    }
}
