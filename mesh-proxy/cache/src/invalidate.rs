//! What a request that changes something makes invalid (RFC 9111 §4.4).

use crate::{
    fields::Fields,
    key::{self, path_start},
};

/// Whether a method may change what is there. One that nobody knows may.
pub fn is_unsafe(method: &str) -> bool {
    !matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PROPFIND" | "REPORT" | "SEARCH" | "QUERY")
}

/// The URIs of which no stored response may be used any longer, after a request with such a method to this one. None when it went
/// wrong.
pub fn invalidated(uri: &[u8], status: u16, fields: Fields<'_>) -> Vec<Vec<u8>> {
    if !(200..400).contains(&status) {
        return Vec::new();
    }
    let named = ["location", "content-location"].into_iter().filter_map(|name| fields.first(name));
    let mut all: Vec<Vec<u8>> = named.filter_map(|reference| resolved(uri, reference)).collect();
    all.push(uri.to_vec());
    all
}

/// What a reference means at a URI. `None` for another origin: nobody is to empty what is another's.
fn resolved(base: &[u8], reference: &[u8]) -> Option<Vec<u8>> {
    let reference = reference.split(|byte| *byte == b'#').next().unwrap_or_default();
    let start = path_start(base)?;
    let (origin, target) = base.split_at(start);
    if let Some(at) = memchr::memmem::find(reference, b"://") {
        let is_https = reference[..at].eq_ignore_ascii_case(b"https");
        if !is_https && !reference[..at].eq_ignore_ascii_case(b"http") {
            return None;
        }
        return of_origin(origin, is_https, &reference[at + 3..]);
    }
    if let Some(rest) = reference.strip_prefix(b"//") {
        return of_origin(origin, origin.starts_with(b"https"), rest);
    }
    let path_end = memchr::memchr(b'?', target).unwrap_or(target.len());
    let path = match reference {
        [] => target.to_vec(),
        [b'/', ..] => reference.to_vec(),
        [b'?', ..] => [&target[..path_end], reference].concat(),
        _ => {
            let folder = target[..path_end].iter().rposition(|byte| *byte == b'/').unwrap_or(0) + 1;
            [&target[..folder], reference].concat()
        }
    };
    Some([origin, &without_dots(&path)].concat())
}

fn of_origin(origin: &[u8], is_https: bool, rest: &[u8]) -> Option<Vec<u8>> {
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let target = if target.starts_with(b"/") { target.to_vec() } else { [b"/", target].concat() };
    let uri = key::uri(is_https, authority, &without_dots(&target));
    (path_start(&uri).is_some_and(|start| uri[..start] == *origin)).then_some(uri)
}

/// RFC 3986 §5.2.4, for a path that begins with a slash.
fn without_dots(target: &[u8]) -> Vec<u8> {
    let end = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (path, query) = target.split_at(end);
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut segments = path.split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment {
            b"." | b".." => {
                if segment == b".." {
                    kept.pop();
                }
                if is_last {
                    kept.push(b"");
                }
            }
            other => kept.push(other),
        }
    }
    [&b"/"[..], &kept.join(&b'/'), query].concat()
}

#[cfg(test)]
mod tests {
    use super::{super::fields::tests::with, *};

    #[test]
    fn a_reference_is_one_at_the_uri() {
        let base = b"http://a.example/x/y?z";
        for (reference, expected) in [
            ("/b", Some("http://a.example/b")),
            ("b", Some("http://a.example/x/b")),
            ("b?c#d", Some("http://a.example/x/b?c")),
            ("../b/./c/", Some("http://a.example/b/c/")),
            ("../../../b/..", Some("http://a.example/")),
            ("?q", Some("http://a.example/x/y?q")),
            ("", Some("http://a.example/x/y?z")),
            ("HTTP://A.example:80/b", Some("http://a.example/b")),
            ("http://a.example", Some("http://a.example/")),
            ("//a.example/b", Some("http://a.example/b")),
            ("https://a.example/b", None),
            ("http://b.example/b", None),
            ("http://a.example@b.example/b", None),
            ("ftp://a.example/b", None),
        ] {
            let found = resolved(base, reference.as_bytes());
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{reference}");
        }
    }

    #[test]
    fn what_went_wrong_changed_nothing() {
        let of = |status| with("Location: /b", |fields| invalidated(b"http://a/x", status, fields));
        assert_eq!(of(201), [&b"http://a/b"[..], b"http://a/x"]);
        assert_eq!(of(303).len(), 2);
        assert!(of(404).is_empty() && of(500).is_empty());
        assert!(is_unsafe("POST") && is_unsafe("M-SEARCH") && !is_unsafe("HEAD"));
    }
}
