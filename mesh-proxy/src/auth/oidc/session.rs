//! What a browser keeps: a session, and what a login that it has begun belongs to. All of it is sealed, so that nobody but the proxy reads or changes it,
//! and the proxy keeps nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use watt_policies::{jwt::Claims, sealed::Sealer};

/// The longest value of one cookie: browsers keep 4,096 bytes with its name and what is said of it. And how many there are of one session.
const VALUE_MAX: usize = 3_800;
const PARTS_MAX: usize = 4;

/// Who is logged in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(super) claims: Claims,
    /// Until when, in seconds since the Unix epoch.
    pub(super) until_s: u64,
    /// When it is to be asked whether he still is.
    pub(super) renewed_s: u64,
    /// What for.
    pub(super) refresh_token: Option<String>,
}

/// What a login belongs to, in the browser.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Browser {
    pub(super) secret: String,
    pub(super) until_s: u64,
}

/// The same on its way over the provider, with all that is needed when it comes back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    /// The hash of the browser's secret.
    pub(super) browser: String,
    pub(super) nonce: String,
    pub(super) verifier: String,
    /// Where it began.
    pub(super) origin: String,
    pub(super) target: String,
    pub(super) until_s: u64,
}

/// Cookies of one kind.
pub(super) struct Jar<'l> {
    pub(super) sealer: &'l Sealer,
    /// What they are for, which is vouched for.
    pub(super) purpose: String,
    pub(super) name: String,
    pub(super) is_secure: bool,
}

impl Jar<'_> {
    /// Lines that have the browser keep this. `None` when it is too large.
    pub(super) fn keep(&self, what: &impl Serialize, time: Duration) -> Option<String> {
        let sealed = seal(self.sealer, &self.purpose, what)?;
        let parts: Vec<&str> = sealed
            .as_bytes()
            .chunks(VALUE_MAX)
            // It is base64.
            .map(|part| std::str::from_utf8(part).unwrap_or_default())
            .collect();
        if parts.len() > PARTS_MAX {
            return None;
        }
        let mut lines = String::new();
        for (number, part) in parts.iter().enumerate() {
            // How many there are is with the first one: more may be left of another one.
            let value = if number == 0 { format!("{}.{part}", parts.len()) } else { (*part).to_owned() };
            lines += &self.line(number, &value, time.as_secs());
        }
        Some(lines)
    }

    /// Lines that have it forget.
    pub(super) fn forget(&self) -> String {
        self.line(0, "", 0)
    }

    fn line(&self, number: usize, value: &str, age_s: u64) -> String {
        let name = self.part_name(number);
        let secure = if self.is_secure { "; Secure" } else { "" };
        format!("Set-Cookie: {name}={value}; Path=/; Max-Age={age_s}; HttpOnly; SameSite=Lax{secure}\r\n")
    }

    fn part_name(&self, number: usize) -> String {
        if number == 0 { self.name.clone() } else { format!("{}.{number}", self.name) }
    }

    /// What was kept, of the cookies that a browser sends.
    pub(super) fn find<T: DeserializeOwned>(&self, cookies: &[&[u8]]) -> Option<T> {
        let first = value_of(cookies, &self.name)?;
        let dot = memchr::memchr(b'.', first)?;
        let count: usize = std::str::from_utf8(&first[..dot]).ok()?.parse().ok()?;
        let mut sealed = first[dot + 1..].to_vec();
        for number in 1..count.min(PARTS_MAX) {
            sealed.extend_from_slice(value_of(cookies, &self.part_name(number))?);
        }
        open(self.sealer, &self.purpose, &sealed)
    }
}

pub(super) fn seal(sealer: &Sealer, purpose: &str, what: &impl Serialize) -> Option<String> {
    sealer.seal(purpose, &serde_json::to_vec(what).ok()?)
}

pub(super) fn open<T: DeserializeOwned>(sealer: &Sealer, purpose: &str, sealed: &[u8]) -> Option<T> {
    serde_json::from_slice(&sealer.open(purpose, sealed)?).ok()
}

/// Pairs of `Cookie` lines.
fn pairs<'c>(cookies: &'c [&'c [u8]]) -> impl Iterator<Item = &'c [u8]> {
    cookies.iter().flat_map(|line| line.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii)
}

fn value_of<'c>(cookies: &'c [&'c [u8]], name: &str) -> Option<&'c [u8]> {
    pairs(cookies).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// The cookies that are not the proxy's own, as one line's value; `None` when there are none.
pub(super) fn others(cookies: &[&[u8]], names: &[String]) -> Option<Vec<u8>> {
    let is_own = |pair: &[u8]| {
        let name = &pair[..memchr::memchr(b'=', pair).unwrap_or(pair.len())];
        names.iter().any(|own| {
            name.strip_prefix(own.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."))
        })
    };
    let kept: Vec<&[u8]> = pairs(cookies).filter(|pair| !pair.is_empty() && !is_own(pair)).collect();
    (!kept.is_empty()).then(|| kept.join(&b"; "[..]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cookies(lines: &str) -> Vec<String> {
        let value =
            |line: &str| line.strip_prefix("Set-Cookie: ").unwrap().split(';').next().unwrap().to_owned();
        lines.lines().map(value).collect()
    }

    #[test]
    fn what_a_browser_keeps_is_found_again_whole_or_not_at_all() {
        let sealer = Sealer::parse("a key of thirty-two characters, or more").unwrap();
        let jar = Jar { sealer: &sealer, purpose: "p".into(), name: "s".into(), is_secure: true };
        for len in [0, 10, 5_000, 10_000] {
            let what = json!("x".repeat(len));
            let lines = jar.keep(&what, Duration::from_secs(60)).unwrap();
            let mut kept = cookies(&lines);
            let found = |kept: &[String]| {
                let line = kept.join("; ");
                jar.find::<serde_json::Value>(&[b"a=b", line.as_bytes()])
            };
            assert_eq!(found(&kept).as_ref(), Some(&what), "{len}");
            // More of one that was larger is left.
            kept.push("s.4=zzz".into());
            assert_eq!(found(&kept).as_ref(), Some(&what), "{len}");
            kept.remove(0);
            assert_eq!(found(&kept), None);
        }
        assert_eq!(jar.keep(&json!("x".repeat(20_000)), Duration::from_secs(60)), None);
        let lines = jar.keep(&json!(1), Duration::from_secs(60)).unwrap();
        assert!(lines.ends_with("; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure\r\n"), "{lines}");
    }

    #[test]
    fn services_get_the_cookies_of_others_alone() {
        let names = ["s".to_owned(), "l".to_owned()];
        for (lines, expected) in [
            (&[&b"s=1"[..]][..], None),
            (&[b"a=1; s=2; s.1=3;l=4; sa=5"], Some("a=1; sa=5")),
            (&[b"a=1", b"s=2", b"b"], Some("a=1; b")),
        ] {
            let left = others(lines, &names).map(|left| String::from_utf8(left).unwrap());
            assert_eq!(left.as_deref(), expected);
        }
    }
}
