//! From the path of a request to that of a file.

/// The longest path of a file (PATH_MAX of Linux, with its end).
const LEN_MAX: usize = 4095;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// To what has this name below the root: a file, or a folder without the slash at its end. Empty for the root without it.
    Name(Vec<u8>),
    /// To a folder of this name, with its slash.
    Folder(Vec<u8>),
    /// To nothing that a file could be.
    Nowhere,
}

/// `rest` is what follows the route's path: nothing, or something that begins with a slash. It is decoded once. Whatever would still be read in
/// another way then, by somebody or by the kernel, leads nowhere: dot segments, empty ones, slashes and backslashes that were encoded.
pub(super) fn place(rest: &[u8], with_hidden: bool) -> Place {
    let Some(rest) = rest.strip_prefix(b"/") else { return Place::Name(Vec::new()) };
    let mut path = Vec::with_capacity(rest.len());
    let mut segments = rest.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_none() {
            return Place::Folder(path);
        }
        let Some(name) = decoded(segment).filter(|name| is_name(name, with_hidden)) else {
            return Place::Nowhere;
        };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        if path.len() > LEN_MAX {
            return Place::Nowhere;
        }
    }
    Place::Name(path)
}

/// Whether a file may be called so. Names that begin with a dot are those of files that were not meant for others (`.git`, `.env`), but for the one
/// of RFC 8615.
fn is_name(name: &[u8], with_hidden: bool) -> bool {
    let is_plain = |byte: &u8| !matches!(byte, 0..=0x1f | 0x7f | b'/' | b'\\');
    let is_hidden = name.starts_with(b".") && name != b".well-known";
    !name.is_empty()
        && name != b"."
        && name != b".."
        && name.iter().all(is_plain)
        && (with_hidden || !is_hidden)
}

/// Without `%`; `None` where one begins no escape.
fn decoded(segment: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let Some(at) = memchr::memchr(b'%', rest) {
        out.extend_from_slice(&rest[..at]);
        let digits = rest.get(at + 1..at + 3).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
        out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = &rest[at + 3..];
    }
    out.extend_from_slice(rest);
    Some(out)
}

/// Whether a path is for a page of an application in the browser, and not for a file that is not there: its last name has no ending.
pub(super) fn is_page(path: &[u8]) -> bool {
    let last = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    !last.contains(&b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_files() {
        let name = |path: &str| Place::Name(path.as_bytes().to_vec());
        let folder = |path: &str| Place::Folder(path.as_bytes().to_vec());
        for (rest, expected) in [
            ("", name("")),
            ("/", folder("")),
            ("/a", name("a")),
            ("/a/", folder("a")),
            ("/a/b%20c", name("a/b c")),
            ("/a%2eb", name("a.b")),
            ("/100%25", name("100%")),
            ("/a;b", name("a;b")),
            ("/...", Place::Nowhere),
            ("/.well-known/x", name(".well-known/x")),
            ("/caf%C3%A9", name("café")),
        ] {
            assert_eq!(place(rest.as_bytes(), false), expected, "{rest}");
        }
        assert_eq!(place(b"/.git/config", true), name(".git/config"));
    }

    #[test]
    fn what_could_be_read_in_another_way_leads_nowhere() {
        for rest in [
            "/..",
            "/../x",
            "/a/../b",
            "/./a",
            "/a/.",
            "/%2e%2e/x",
            "/.%2E",
            "/a%2fb",
            "/a%2Fb",
            "/a\\b",
            "/a%5cb",
            "//a",
            "/a//b",
            "/a//",
            "/%00",
            "/a%00.html",
            "/a%0ab",
            "/%",
            "/%2",
            "/%zz",
            "/%+1",
            "/.env",
            "/.git/config",
            "/a/.hidden",
            "/..%2f..%2fetc/passwd",
            "/%252e%252e/",
        ] {
            let expected = match rest {
                // Decoded once, it is a name like any other.
                "/%252e%252e/" => Place::Folder(b"%2e%2e".to_vec()),
                _ => Place::Nowhere,
            };
            assert_eq!(place(rest.as_bytes(), false), expected, "{rest}");
        }
        for rest in ["/..", "/.", "/a/../b", "/%2e%2e/x"] {
            assert_eq!(place(rest.as_bytes(), true), Place::Nowhere, "{rest}");
        }
        assert_eq!(place(&[b"/".to_vec(), vec![b'a'; LEN_MAX + 1]].concat(), false), Place::Nowhere);
    }
}
