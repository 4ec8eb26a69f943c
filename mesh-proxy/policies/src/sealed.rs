//! Texts that a client keeps and can neither read nor change: AES-256-GCM under keys of the operator's, with a random nonce each.
//!
//! The first key seals and all of them open, so that a key is replaced by writing another one before it, and left out when nothing is left that it
//! has sealed. What a text is for is a part of what is vouched for: one is no use in place of another.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf,
    rand::{SecureRandom, SystemRandom},
};

use crate::jwt::BadKeys;

/// The shortest line of a key: 32 bytes in any of the usual ways to write them are longer.
const KEY_LEN_MIN: usize = 32;

/// The most keys.
const KEYS_MAX: usize = 16;

/// Keys that texts are sealed with.
pub struct Sealer(Vec<LessSafeKey>);

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealer({} keys)", self.0.len())
    }
}

impl Sealer {
    /// Reads keys, each a line, the newest one first; empty lines and those with `#` in front are none.
    ///
    /// # Errors
    /// No key, too many, or one that is too short.
    pub fn parse(text: &str) -> Result<Sealer, BadKeys> {
        let lines = text.lines().map(str::trim).enumerate();
        let lines: Vec<_> = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect();
        if lines.is_empty() || lines.len() > KEYS_MAX {
            return Err(BadKeys::new(format!(
                "it has {} keys: from one to {KEYS_MAX}, each a line",
                lines.len()
            )));
        }
        let key = |(number, line): (usize, &str)| {
            let short =
                || BadKeys::new(format!("line {}: a key has {KEY_LEN_MIN} characters at least", number + 1));
            (line.len() >= KEY_LEN_MIN).then(|| derived(line)).flatten().ok_or_else(short)
        };
        Ok(Sealer(lines.into_iter().map(key).collect::<Result<_, _>>()?))
    }

    /// Seals a text, as base64url. `None` without randomness.
    pub fn seal(&self, purpose: &str, text: &[u8]) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).ok()?;
        let mut sealed = text.to_vec();
        let key = self.0.first()?;
        let aad = Aad::from(purpose.as_bytes());
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).ok()?;
        Some(URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat()))
    }

    /// What was sealed for this purpose. `None` for whatever else it may be.
    pub fn open(&self, purpose: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok()?;
        let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN)?;
        self.0.iter().find_map(|key| {
            let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
            let mut sealed = sealed.to_vec();
            let text = key.open_in_place(nonce, Aad::from(purpose.as_bytes()), &mut sealed).ok()?;
            Some(text.to_vec())
        })
    }
}

/// A key of the right length from a line of any.
fn derived(line: &str) -> Option<LessSafeKey> {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"watt, texts that clients keep");
    let prk = salt.extract(line.as_bytes());
    let okm = prk.expand(&[b"AES-256-GCM"], &AES_256_GCM).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(okm)))
}

/// Bytes that nobody foresees, as base64url.
pub fn random<const LEN: usize>() -> Option<String> {
    let mut bytes = [0; LEN];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = "a key of thirty-two characters, or more";
    const OLD: &str = "# the one before\nanother key of thirty-two characters";

    #[test]
    fn what_was_sealed_is_opened_for_the_same_purpose_alone() {
        let sealer = Sealer::parse(NEW).unwrap();
        let sealed = sealer.seal("session", b"ada").unwrap();
        assert_ne!(sealed, sealer.seal("session", b"ada").unwrap());
        assert_eq!(sealer.open("session", sealed.as_bytes()).as_deref(), Some(&b"ada"[..]));
        assert_eq!(sealer.open("login", sealed.as_bytes()), None);
        for at in 0..sealed.len() {
            let mut forged = sealed.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(sealer.open("session", &forged), None, "{at}");
        }
        for short in ["", "A", &sealed[..20], "="] {
            assert_eq!(sealer.open("session", short.as_bytes()), None, "{short}");
        }
    }

    #[test]
    fn keys_are_replaced_one_after_the_other() {
        let (old, both, new) =
            (Sealer::parse(OLD).unwrap(), format!("{NEW}\n{OLD}\n"), Sealer::parse(NEW).unwrap());
        let both = Sealer::parse(&both).unwrap();
        let before = old.seal("session", b"ada").unwrap();
        assert_eq!(both.open("session", before.as_bytes()).as_deref(), Some(&b"ada"[..]));
        assert_eq!(new.open("session", before.as_bytes()), None);
        let after = both.seal("session", b"ada").unwrap();
        assert_eq!(
            new.open("session", after.as_bytes()).as_deref(),
            Some(&b"ada"[..]),
            "the first one seals"
        );
    }

    #[test]
    fn keys_that_are_none() {
        for (text, expected) in [
            ("", "it has 0 keys: from one to 16, each a line"),
            ("# nothing\n\n", "it has 0 keys: from one to 16, each a line"),
            ("short", "line 1: a key has 32 characters at least"),
        ] {
            assert_eq!(Sealer::parse(text).unwrap_err().to_string(), expected);
        }
    }
}
