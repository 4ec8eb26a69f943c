//! API keys: who has one, known by its hash alone.
//!
//! A key has so many random bits that nobody finds it from its SHA-256, so nothing slower is needed, and a request costs one hash.

use std::{collections::HashMap, fmt};

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};

/// What a hash begins with where it is written.
const PREFIX: &str = "sha256:";

/// The hash of a key. What it is is nobody's business.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash([u8; SHA256_OUTPUT_LEN]);

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hash(hidden)")
    }
}

impl Hash {
    /// Of this key.
    pub fn of(key: &[u8]) -> Hash {
        let mut hash = [0; SHA256_OUTPUT_LEN];
        hash.copy_from_slice(digest(&SHA256, key).as_ref());
        Hash(hash)
    }

    /// As it is written: `sha256:` and 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Hash> {
        let digits = text.strip_prefix(PREFIX)?.as_bytes();
        let mut hash = [0; SHA256_OUTPUT_LEN];
        if digits.len() != 2 * SHA256_OUTPUT_LEN {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
        }
        Some(Hash(hash))
    }

    /// The same, to be written into a configuration.
    pub fn reveal(&self) -> String {
        let hex: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{PREFIX}{hex}")
    }
}

/// Who has which key.
#[derive(Debug, Clone, Default)]
pub struct Keys<H> {
    holders: HashMap<Hash, H>,
}

impl<H> FromIterator<(Hash, H)> for Keys<H> {
    fn from_iter<I: IntoIterator<Item = (Hash, H)>>(holders: I) -> Keys<H> {
        Keys { holders: holders.into_iter().collect() }
    }
}

impl<H> Keys<H> {
    /// Who has this key. How long the look-up takes tells something about the hash at most, and nothing about a key.
    pub fn holder(&self, key: &[u8]) -> Option<&H> {
        self.holders.get(&Hash::of(key))
    }

    /// Whether nobody has one.
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty()
    }
}

/// Whether this may be a holder's name or a role: it goes into headers and lists.
pub fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@:".contains(&byte);
    !text.is_empty() && text.len() <= 128 && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `abc`, from FIPS 180-2.
    const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_key_has_one_holder() {
        let hash = Hash::parse(ABC).unwrap();
        let keys: Keys<&str> = [(hash, "billing"), (Hash::of(b"other"), "ci")].into_iter().collect();
        assert_eq!(keys.holder(b"abc"), Some(&"billing"));
        assert_eq!(keys.holder(b"other"), Some(&"ci"));
        for key in ["", "abd", "ABC", "abc ", ABC] {
            assert_eq!(keys.holder(key.as_bytes()), None, "{key}");
        }
    }

    #[test]
    fn hashes_are_read_and_not_shown() {
        let hash = Hash::parse(ABC).unwrap();
        assert_eq!(hash, Hash::parse(&ABC.to_uppercase().replace("SHA256", "sha256")).unwrap());
        assert_eq!((hash, hash.reveal()), (Hash::of(b"abc"), ABC.to_owned()));
        assert!(!format!("{hash:?}").contains("ba78"));
        for text in ["", "abc", &ABC[7..], &ABC[..70], &format!("{ABC}0"), &ABC.replace("ba", "bg")] {
            assert_eq!(Hash::parse(text), None, "{text}");
        }
    }

    #[test]
    fn names_go_into_headers() {
        for (text, expected) in
            [("billing", true), ("ada@x.org", true), ("a,b", false), ("a b", false), ("", false)]
        {
            assert_eq!(is_name(text), expected, "{text}");
        }
    }
}
