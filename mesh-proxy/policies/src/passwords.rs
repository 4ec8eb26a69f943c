//! Passwords, known by what a slow function makes of them: argon2 (RFC 9106) or bcrypt.
//!
//! Slow is the point of them: whoever gets hold of a hash tries as many passwords a second as the function lets him. So [`Password::is`] is for
//! threads that nobody waits for, and what it may take of memory and time is bounded when a hash is read.

use std::{fmt, str::FromStr as _};

use argon2::{Argon2, Params, PasswordVerifier, password_hash::phc::PasswordHash};
use bcrypt::HashParts;

use crate::keys::{Hash, is_name};

/// The most that a check may take of memory, in KiB: twice what RFC 9106 §4 asks for where memory is short.
const MEMORY_KIB_MAX: u32 = 128 << 10;

/// The most passes over that much memory, and more of them over less: half a second of an ordinary processor.
const WORK_KIB_MAX: u64 = 512 << 10;

/// The highest cost of bcrypt: about a second.
const COST_MAX: u32 = 14;

/// The longest password, in bytes. Of bcrypt the first 72 count.
pub const PASSWORD_MAX: usize = 1 << 10;

/// What a password is known by.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Scheme);

#[derive(Clone, PartialEq, Eq)]
enum Scheme {
    Argon2(String),
    Bcrypt(String),
}

/// A hash is nobody's business.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(hidden)")
    }
}

/// Why a hash is none. Says nothing of what was written: it may be the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadPassword {
    /// It is neither argon2's nor bcrypt's.
    Unknown,
    /// It is of one of them, and malformed.
    Malformed,
    /// A check would take more memory or time than it may.
    TooSlow,
}

impl BadPassword {
    /// In words.
    pub const fn message(self) -> &'static str {
        match self {
            BadPassword::Unknown => "this is not the hash of a password by argon2 or bcrypt",
            BadPassword::Malformed => "this hash of a password is malformed",
            BadPassword::TooSlow => "to check this hash takes too much",
        }
    }

    /// What to do about it.
    pub const fn hint(self) -> &'static str {
        match self {
            BadPassword::Unknown | BadPassword::Malformed => {
                "`htpasswd -nB NAME` asks for one and prints `NAME:HASH`"
            }
            BadPassword::TooSlow => {
                "up to 128 MiB, and four passes over that, for argon2; a cost of up to 14 for bcrypt"
            }
        }
    }
}

impl Password {
    /// As programs write it: `$argon2id$v=19$m=…` or `$2y$…`.
    pub fn parse(text: &str) -> Result<Password, BadPassword> {
        if text.starts_with("$argon2") {
            let hash = PasswordHash::new(text).map_err(|_| BadPassword::Malformed)?;
            let params = Params::try_from(&hash).map_err(|_| BadPassword::Malformed)?;
            if hash.salt.is_none() || hash.hash.is_none() {
                return Err(BadPassword::Malformed);
            }
            let work = u64::from(params.m_cost()) * u64::from(params.t_cost());
            return match params.m_cost() > MEMORY_KIB_MAX || work > WORK_KIB_MAX {
                true => Err(BadPassword::TooSlow),
                false => Ok(Password(Scheme::Argon2(text.to_owned()))),
            };
        }
        if !text.starts_with("$2") {
            return Err(BadPassword::Unknown);
        }
        let parts = HashParts::from_str(text).map_err(|_| BadPassword::Malformed)?;
        match parts.get_cost() {
            4..=COST_MAX => Ok(Password(Scheme::Bcrypt(text.to_owned()))),
            COST_MAX.. => Err(BadPassword::TooSlow),
            _ => Err(BadPassword::Malformed),
        }
    }

    /// Whether this is the password. Takes long, and much memory.
    pub fn is(&self, password: &[u8]) -> bool {
        if password.len() > PASSWORD_MAX {
            return false;
        }
        match &self.0 {
            Scheme::Argon2(hash) => PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok()),
            Scheme::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
        }
    }

    /// The same, to be written into a configuration or compared.
    pub fn reveal(&self) -> &str {
        match &self.0 {
            Scheme::Argon2(hash) | Scheme::Bcrypt(hash) => hash,
        }
    }
}

/// A line of a file that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadLine {
    /// Its number, from 1 on.
    pub line: usize,
    /// What is wrong, in words.
    pub message: String,
    /// What to do about it.
    pub hint: &'static str,
}

/// Somebody in a file: a name, what tells him by, and his roles.
pub type Entry<T> = (String, T, Vec<String>);

/// Reads a file of passwords: lines `NAME:HASH`, as `htpasswd -B` writes them, and behind another colon roles with commas between them. Lines
/// that are empty or begin with `#` are nothing.
///
/// # Errors
/// The first line that is none.
pub fn users(text: &str) -> Result<Vec<Entry<Password>>, BadLine> {
    entries(text, |hash| Password::parse(hash).map_err(|bad| (bad.message(), bad.hint())))
}

/// Reads a file of keys: lines `NAME:sha256:HASH`, likewise.
///
/// # Errors
/// The first line that is none.
pub fn keys(text: &str) -> Result<Vec<Entry<Hash>>, BadLine> {
    let what = "this is not the hash of a key";
    let hint = "`sha256:` and 64 hexadecimal digits: `printf %s \"$key\" | sha256sum`";
    entries(text, |hash| Hash::parse(hash).ok_or((what, hint)))
}

fn entries<T>(
    text: &str,
    parse: impl Fn(&str) -> Result<T, (&'static str, &'static str)>,
) -> Result<Vec<Entry<T>>, BadLine> {
    let is_one = |line: &&str| !line.is_empty() && !line.starts_with('#');
    let mut entries: Vec<Entry<T>> = Vec::new();
    for (index, line) in text.lines().map(str::trim).enumerate().filter(|(_, line)| is_one(line)) {
        let bad = |message: &str, hint| BadLine { line: index + 1, message: message.to_owned(), hint };
        let (name, rest) = line
            .split_once(':')
            .ok_or_else(|| bad("a line has a name, a colon and a hash", "for example `ada:$2y$10$…`"))?;
        if !is_name(name) {
            return Err(bad("this cannot be a name", "up to 128 letters, digits, and `-_.@`"));
        }
        // A hash of a key has a colon, one of a password has none, and a role may have one.
        let end = rest.strip_prefix("sha256:").map_or(0, |_| "sha256:".len());
        let (hash, roles) = match rest[end..].split_once(':') {
            Some((hash, roles)) => (&rest[..end + hash.len()], roles),
            None => (rest, ""),
        };
        let roles: Vec<String> =
            roles.split(',').map(str::trim).filter(|role| !role.is_empty()).map(str::to_owned).collect();
        if roles.iter().any(|role| !is_name(role)) {
            return Err(bad("this cannot be a role", "up to 128 letters, digits, and `-_.@:`"));
        }
        if entries.iter().any(|(other, ..)| other == name) {
            return Err(bad("this name is there twice", "remove one of them"));
        }
        entries.push((name.to_owned(), parse(hash).map_err(|(message, hint)| bad(message, hint))?, roles));
    }
    Ok(entries)
}

/// The name and the password of `Authorization: Basic` (RFC 7617), without the scheme.
pub fn basic(credentials: &[u8]) -> Option<(String, Vec<u8>)> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let decoded = STANDARD.decode(credentials).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let name = String::from_utf8(decoded[..colon].to_vec()).ok()?;
    Some((name, decoded[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `password`, by the reference program: `echo -n password | argon2 somesalt -id -t 2 -m 16 -p 1 -l 24`, from its README in form.
    const ARGON2: &str = "$argon2i$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$wWKIMhR9lyDFvRz9YTZweHKfbftvj+qf+YFY4NeBbtA";

    /// Of `U*U`, a test of crypt_blowfish.
    const BCRYPT: &str = "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

    #[test]
    fn a_password_is_known_by_its_hash() {
        for (hash, password) in [(ARGON2, "password"), (BCRYPT, "U*U")] {
            let known = Password::parse(hash).unwrap();
            assert!(known.is(password.as_bytes()), "{hash}");
            for wrong in ["", "Password", "U*V", &"x".repeat(PASSWORD_MAX + 1)] {
                assert!(!known.is(wrong.as_bytes()), "{wrong}");
            }
            assert_eq!((known.reveal(), format!("{known:?}").contains('$')), (hash, false));
        }
    }

    #[test]
    fn hashes_that_are_none() {
        for (text, expected) in [
            ("", BadPassword::Unknown),
            ("secret", BadPassword::Unknown),
            ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", BadPassword::Unknown),
            ("$apr1$x$y", BadPassword::Unknown),
            ("$2y$10$short", BadPassword::Malformed),
            (&BCRYPT.replace("$05$", "$99$"), BadPassword::TooSlow),
            (&BCRYPT.replace("$05$", "$15$"), BadPassword::TooSlow),
            (&BCRYPT.replace("$05$", "$03$"), BadPassword::Malformed),
            (&ARGON2.replace("m=65536", "m=131073"), BadPassword::TooSlow),
            (&ARGON2.replace("t=2", "t=9"), BadPassword::TooSlow),
            ("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ", BadPassword::Malformed),
            ("$argon2id$", BadPassword::Malformed),
        ] {
            assert_eq!(Password::parse(text).err(), Some(expected), "{text}");
        }
    }

    #[test]
    fn files_have_a_line_for_each() {
        let text = format!("# staff\n\nada:{BCRYPT}\r\n bob:{ARGON2}: admin, deploy:all \n");
        let users = users(&text).unwrap();
        let named: Vec<_> = users.iter().map(|(name, _, roles)| (name.as_str(), roles.clone())).collect();
        assert_eq!(named, [("ada", vec![]), ("bob", vec!["admin".to_owned(), "deploy:all".to_owned()])]);
        let hash = Hash::of(b"abc").reveal();
        let keys = keys(&format!("billing:{hash}\nci:{hash}:deploy")).unwrap();
        assert_eq!(keys[0], ("billing".into(), Hash::of(b"abc"), vec![]));
        assert_eq!(keys[1], ("ci".into(), Hash::of(b"abc"), vec!["deploy".to_owned()]));
    }

    #[test]
    fn a_wrong_line_is_named_and_not_shown() {
        for (text, line, expected) in [
            ("ada", 1, "a name, a colon and a hash"),
            ("# x\nada:secret", 2, "not the hash of a password"),
            ("a b:x", 1, "cannot be a name"),
            (&format!("ada:{BCRYPT}\nada:{BCRYPT}"), 2, "twice"),
            (&format!("ada:{BCRYPT}:a b"), 1, "cannot be a role"),
        ] {
            let bad = users(text).unwrap_err();
            assert!(bad.line == line && bad.message.contains(expected), "{text}: {bad:?}");
            assert!(!bad.message.contains("secret"));
        }
        assert_eq!(keys("ci:sha256:xyz").unwrap_err().line, 1);
    }

    #[test]
    fn credentials_of_basic() {
        for (text, expected) in [
            ("YWRhOnNlY3JldA==", Some(("ada", "secret"))),
            ("YWRhOmE6Yg==", Some(("ada", "a:b"))),
            ("Og==", Some(("", ""))),
            ("YWRh", None),
            ("YWRhOnNlY3JldA", None),
            ("?", None),
        ] {
            let expected = expected.map(|(name, password)| (name.to_owned(), password.as_bytes().to_vec()));
            assert_eq!(basic(text.as_bytes()), expected, "{text}");
        }
    }
}
