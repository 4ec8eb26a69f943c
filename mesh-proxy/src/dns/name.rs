//! Domain names (RFC 1035 §3.1).

use std::fmt::{self, Write};

/// Bytes of a name on the wire, its end included (RFC 1035 §2.3.4).
const NAME_SIZE_MAX: usize = 255;
/// Bytes of a label (RFC 1035 §2.3.4). Longer values of the length byte are pointers or reserved.
pub(super) const LABEL_SIZE_MAX: u8 = 63;

/// A domain name in wire form, lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(Vec<u8>);

impl Name {
    /// From text with dots, without the last one; `None` when a label or the whole is too long, or a label
    /// empty.
    pub(crate) fn new(text: &str) -> Option<Self> {
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            let size = u8::try_from(label.len()).ok().filter(|size| (1..=LABEL_SIZE_MAX).contains(size))?;
            wire.push(size);
            wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        wire.push(0);
        (wire.len() <= NAME_SIZE_MAX).then_some(Self(wire))
    }

    /// Whether it ends with all labels of `other`, and has more.
    pub(crate) fn is_below(&self, other: &Self) -> bool {
        let mut ends = self.0.len().checked_sub(other.0.len()).into_iter().filter(|more| *more > 0);
        // The bytes alone could be the end of a longer label.
        ends.any(|end| self.0[end..] == other.0 && self.starts().any(|start| start == end))
    }

    /// Where its labels start.
    fn starts(&self) -> impl Iterator<Item = usize> {
        self.labels().scan(0, |next, label| {
            let start = *next;
            *next += 1 + label.len();
            Some(start)
        })
    }

    /// Its bytes on the wire.
    pub(super) fn wire(&self) -> &[u8] {
        &self.0
    }

    /// Its labels from the left.
    pub(crate) fn labels(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let (&size, after) = rest.split_first()?;
            let (label, after) = after.split_at_checked(usize::from(size)).filter(|_| size > 0)?;
            rest = after;
            Some(label)
        })
    }

    /// The bytes of the name at the start of `bytes`, which has no pointers in it.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let mut end = 0;
        loop {
            let size = *bytes.get(end)?;
            end += 1 + usize::from(size);
            if size > LABEL_SIZE_MAX || end > NAME_SIZE_MAX {
                return None;
            }
            if size == 0 {
                // A length byte is at most 63, so it is no capital letter.
                return bytes.get(..end).map(|wire| Self(wire.to_ascii_lowercase()));
            }
        }
    }
}

/// As it is written in text, with whatever is no letter, digit, `-` or `_` as `\DDD` (RFC 4343 §2.1): a
/// client may put anything into a name, and it is shown to people.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, label) in self.labels().enumerate() {
            if number > 0 {
                f.write_char('.')?;
            }
            for &byte in label {
                match byte {
                    b'-' | b'_' => f.write_char(byte.into())?,
                    _ if byte.is_ascii_alphanumeric() => f.write_char(byte.into())?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn case_does_not_count() {
        assert_eq!(name("API.Example.org"), name("api.example.org"));
        assert_eq!(Name::parse(b"\x03ApI\0"), Name::new("api"));
    }

    #[test]
    fn below_is_by_whole_labels() {
        assert!(name("a.example.org").is_below(&name("example.org")));
        assert!(name("a.b.example.org").is_below(&name("org")));
        for (name, other) in
            [("example.org", "example.org"), ("org", "example.org"), ("xexample.org", "example.org")]
        {
            assert!(!self::name(name).is_below(&self::name(other)), "{name} {other}");
        }
        // A label may have the bytes of a length and of further labels in it.
        let hidden = Name::parse(b"\x0dx\x07example\x03org\0").unwrap();
        assert!(!hidden.is_below(&name("example.org")));
    }

    #[test]
    fn it_is_shown_without_what_could_deceive() {
        assert_eq!(name("a-b_c.org").to_string(), "a-b_c.org");
        let hostile = Name::parse(b"\x05a.\"\x1b\xff\x03org\0").unwrap();
        assert_eq!(hostile.to_string(), r"a\046\034\027\255.org");
    }

    #[test]
    fn what_is_too_long_is_no_name() {
        assert_eq!(Name::new(""), None);
        assert_eq!(Name::new("a..b"), None);
        assert_eq!(Name::new(&"a".repeat(64)), None);
        assert_eq!(Name::new(&["a".repeat(63).as_str(); 4].join(".")), None);
    }
}
