//! The fields of a head, by name.

use httparse::Header;

/// The fields of a message.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'f>(pub &'f [Header<'f>]);

impl<'f> Fields<'f> {
    /// The values of the lines with this name, in order.
    pub fn values(self, name: &'static str) -> impl Iterator<Item = &'f [u8]> {
        self.all(name.as_bytes())
    }

    /// The same of a name that somebody sent.
    pub(crate) fn all(self, name: &[u8]) -> impl Iterator<Item = &'f [u8]> {
        let is_it = move |header: &&Header<'f>| header.name.as_bytes().eq_ignore_ascii_case(name);
        self.0.iter().filter(is_it).map(|header| trim(header.value))
    }

    /// The first value.
    pub fn first(self, name: &'static str) -> Option<&'f [u8]> {
        self.values(name).next()
    }

    /// Whether there is such a line.
    pub fn has(self, name: &'static str) -> bool {
        self.first(name).is_some()
    }

    /// The elements of all lines with this name, of which none is empty. For lists whose elements have no comma in quotes.
    pub(crate) fn elements(self, name: &'static str) -> impl Iterator<Item = &'f [u8]> {
        let elements = self.values(name).flat_map(|value| value.split(|byte| *byte == b',').map(trim));
        elements.filter(|element| !element.is_empty())
    }

    /// All lines joined to one list, where there is any.
    pub(crate) fn joined(self, name: &'static str) -> Option<Vec<u8>> {
        let mut joined: Option<Vec<u8>> = None;
        for value in self.values(name) {
            match &mut joined {
                Some(joined) => {
                    joined.extend_from_slice(b", ");
                    joined.extend_from_slice(value);
                }
                None => joined = Some(value.to_vec()),
            }
        }
        joined
    }
}

/// Without spaces and tabs at both ends.
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// RFC 9110 §5.6.2.
pub(crate) fn is_token(value: &[u8]) -> bool {
    let is_token_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !value.is_empty() && value.iter().all(is_token_byte)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Fields as a test writes them: `Name: value` lines.
    pub(crate) fn with<T>(text: &str, then: impl FnOnce(Fields<'_>) -> T) -> T {
        let split = |line: &'static str| line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
        // A test's text lives for as long as the test.
        let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
        let headers: Vec<Header<'_>> =
            text.lines().map(split).map(|(name, value)| Header { name, value: value.as_bytes() }).collect();
        then(Fields(&headers))
    }

    #[test]
    fn lists_are_joined_and_taken_apart() {
        with("Vary: a, ,b\nvary: c\nX: 1", |fields| {
            let elements: Vec<_> = fields.elements("vary").collect();
            assert_eq!(elements, [&b"a"[..], b"b", b"c"]);
            assert_eq!(fields.joined("vary").unwrap(), b"a, ,b, c");
            assert_eq!((fields.joined("y"), fields.first("x")), (None, Some(&b"1"[..])));
        });
    }
}
