//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>): each request carries one valid `traceparent`.
//!
//! The proxy takes part: it keeps the trace's id and puts an id of its own in place of the parent's. Without a valid
//! one it starts a trace. A trace that starts here is marked sampled: the services' tracing libraries follow the flag they are
//! given, so with it unset none would ever record a request that came through the gateway.
//! What is invalid is dropped as a whole together with `tracestate`, as the recommendation wants.

/// The identity of a trace, and whether it is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trace {
    id: u128,
    sampled: bool,
}

impl Trace {
    /// A trace that starts with this request.
    pub(crate) fn start() -> Trace {
        Trace { id: fastrand::u128(1..), sampled: true }
    }

    /// Reads a `traceparent` value; `None` when it is not valid to the letter.
    pub(crate) fn parse(value: &[u8]) -> Option<Trace> {
        let version = lower_hex(value.get(..2)?)?;
        // 255 is forbidden. A later version may have more after these fields, separated by a dash.
        let length_fine = match version {
            0 => value.len() == 55,
            255 => false,
            _ => value.len() == 55 || value.get(55) == Some(&b'-'),
        };
        let dashes =
            value.get(2) == Some(&b'-') && value.get(35) == Some(&b'-') && value.get(52) == Some(&b'-');
        if !length_fine || !dashes {
            return None;
        }
        let id = lower_hex(value.get(3..35)?)?;
        let parent = lower_hex(value.get(36..52)?)?;
        let flags = lower_hex(value.get(53..55)?)?;
        (id != 0 && parent != 0).then_some(Trace { id, sampled: flags & 1 == 1 })
    }

    /// Appends the field with a parent id that is this hop's own.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(b"traceparent: 00-00000000000000000000000000000000-0000000000000000-00\r\n");
        let value = &mut out[start + 13..];
        hex(self.id, &mut value[3..35]);
        hex(u128::from(fastrand::u64(1..)), &mut value[36..52]);
        value[54] = b'0' + u8::from(self.sampled);
    }
}

/// Writes a number in lower-case hexadecimal over the whole of `out`.
fn hex(mut number: u128, out: &mut [u8]) {
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

fn lower_hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Some(number << 4 | u128::from(digit - b'0')),
        b'a'..=b'f' => Some(number << 4 | u128::from(digit - b'a' + 10)),
        _ => None,
    })
}

/// The most entries of a `tracestate`, all its fields together.
const MEMBERS_MAX: usize = 32;

/// Whether these `tracestate` values, read as one list, are valid.
pub(crate) fn is_tracestate<'v>(values: impl Iterator<Item = &'v [u8]>) -> bool {
    let mut keys: Vec<&[u8]> = Vec::new();
    for member in values.flat_map(super::http::list) {
        if member.is_empty() {
            continue;
        }
        let Some(equals) = memchr::memchr(b'=', member) else { return false };
        let (key, value) = (&member[..equals], &member[equals + 1..]);
        if !is_key(key) || !is_value(value) || keys.contains(&key) || keys.len() == MEMBERS_MAX {
            return false;
        }
        keys.push(key);
    }
    true
}

/// A simple key, or `tenant@system`.
fn is_key(key: &[u8]) -> bool {
    let plain = |part: &[u8]| {
        part.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'))
    };
    let lower_first = |part: &[u8]| part.first().is_some_and(u8::is_ascii_lowercase);
    match memchr::memchr(b'@', key) {
        None => key.len() <= 256 && lower_first(key) && plain(key),
        Some(at) => {
            let (tenant, system) = (&key[..at], &key[at + 1..]);
            let tenant_first =
                tenant.first().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            let lengths = tenant.len() <= 241 && system.len() <= 14;
            lengths && tenant_first && plain(tenant) && lower_first(system) && plain(system)
        }
    }
}

/// Up to 256 printable letters without `,` and `=`; the spaces at the ends went with the list's white space.
fn is_value(value: &[u8]) -> bool {
    (1..=256).contains(&value.len())
        && value.iter().all(|byte| matches!(byte, 0x20..=0x7e) && !matches!(byte, b',' | b'='))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "12345678901234567890123456789012";
    const PARENT: &str = "1234567890123456";

    fn valid(value: &str) -> bool {
        Trace::parse(value.as_bytes()).is_some()
    }

    /// The cases of the recommendation's test suite.
    #[test]
    fn traceparent() {
        for (value, expected) in [
            (format!("00-{ID}-{PARENT}-01"), true),
            (format!("cc-{ID}-{PARENT}-01"), true),
            (format!("cc-{ID}-{PARENT}-01-what-the-future-will-be-like"), true),
            (format!("cc-{ID}-{PARENT}-01.what"), false),
            (format!("ff-{ID}-{PARENT}-01"), false),
            (format!("00-{ID}-{PARENT}-01-more"), false),
            (format!("00-{ID}-{PARENT}-01."), false),
            (format!(".0-{ID}-{PARENT}-01"), false),
            (format!("0-{ID}-{PARENT}-01"), false),
            (format!("000-{ID}-{PARENT}-01"), false),
            (format!("00-{ID}-{PARENT}-.1"), false),
            (format!("00-{ID}-{PARENT}-1"), false),
            (format!("00-{ID}-{PARENT}-001"), false),
            (format!("00-{}-{PARENT}-01", "0".repeat(32)), false),
            (format!("00-{ID}-{}-01", "0".repeat(16)), false),
            (format!("00-{}-{PARENT}-01", ID.replace('1', ".")), false),
            (format!("00-{ID}-{}-01", "A".repeat(16)), false),
            (format!("00-{ID}-{PARENT}-"), false),
            (String::new(), false),
        ] {
            assert_eq!(valid(&value), expected, "{value}");
        }
    }

    #[test]
    fn a_hop_keeps_the_trace_and_changes_the_parent() {
        let trace = Trace::parse(format!("00-{ID}-{PARENT}-ff").as_bytes()).unwrap();
        let mut out = Vec::new();
        trace.write(&mut out);
        let line = String::from_utf8(out).unwrap();
        let value = line.strip_prefix("traceparent: ").and_then(|line| line.strip_suffix("\r\n")).unwrap();
        assert!(value.starts_with(&format!("00-{ID}-")) && value.ends_with("-01"), "{value}");
        assert_ne!(&value[36..52], PARENT);
        assert_eq!(Trace::parse(value.as_bytes()), Some(trace));
    }

    #[test]
    fn tracestate() {
        let long = |tenant: usize, system: usize| format!("{}@{}=1", "t".repeat(tenant), "v".repeat(system));
        for (value, expected) in [
            ("foo=1,bar=2".to_owned(), true),
            ("foo=1 , \t bar=2,".to_owned(), true),
            ("".to_owned(), true),
            ("foo=1,foo=2".to_owned(), false),
            ("foo".to_owned(), false),
            ("foo=".to_owned(), false),
            ("=1".to_owned(), false),
            ("foo @=1".to_owned(), false),
            ("@foo=1".to_owned(), false),
            ("foo@@bar=1".to_owned(), false),
            ("foo@bar@baz=1".to_owned(), false),
            ("Foo=1".to_owned(), false),
            ("foo=a=b".to_owned(), false),
            (format!("{}=1", "z".repeat(256)), true),
            (format!("{}=1", "z".repeat(257)), false),
            (long(241, 14), true),
            (long(242, 14), false),
            (long(241, 15), false),
            (format!("foo={}", "v".repeat(256)), true),
            (format!("foo={}", "v".repeat(257)), false),
            ((0..32).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(","), true),
            ((0..33).map(|n| format!("k{n}=1")).collect::<Vec<_>>().join(","), false),
        ] {
            assert_eq!(is_tracestate([value.as_bytes()].into_iter()), expected, "{value}");
        }
    }
}
