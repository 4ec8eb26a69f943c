//! `Cache-Control` (RFC 9111 §5.2), and `CDN-Cache-Control`, which says the same to caches like this one alone (RFC 9213).

use crate::fields::{Fields, is_token, trim};

/// The longest time, in seconds: what RFC 9111 §1.2.2 has for whatever is longer.
pub(crate) const SECONDS_MAX: u64 = 1 << 31;

/// One directive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Directive<'d> {
    pub(crate) name: &'d [u8],
    /// What follows `=`, without quotes.
    pub(crate) argument: Option<&'d [u8]>,
}

impl Directive<'_> {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// Its seconds. What is no number is no time at all: a response that says that is better taken for stale.
    pub(crate) fn seconds(&self) -> u64 {
        self.argument.and_then(seconds).unwrap_or(0)
    }
}

/// A number of seconds, which is nothing but digits.
pub(crate) fn seconds(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| (sum * 10 + u64::from(digit - b'0')).min(SECONDS_MAX);
    Some(digits.iter().fold(0, add))
}

/// The directives of one line. Commas in quotes part nothing. What has no form of a directive is passed over.
pub(crate) fn directives(line: &[u8]) -> impl Iterator<Item = Directive<'_>> {
    let mut rest = line;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let (element, after) = rest.split_at(end_of_element(rest));
            rest = after.get(1..).unwrap_or_default();
            if let Some(directive) = directive(trim(element)) {
                return Some(directive);
            }
        }
        None
    })
}

fn directive(element: &[u8]) -> Option<Directive<'_>> {
    let equals = memchr::memchr(b'=', element);
    let (name, argument) = match equals {
        Some(at) => (&element[..at], Some(unquoted(&element[at + 1..]))),
        None => (element, None),
    };
    is_token(name).then_some(Directive { name, argument })
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        other => other,
    }
}

/// Where the comma is that ends the first element, or the end.
fn end_of_element(list: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in list.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return at,
            _ => {}
        }
    }
    list.len()
}

/// What a response says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Control {
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    /// Fields that no other request may get without asking again.
    pub(crate) no_cache_fields: Vec<Vec<u8>>,
    pub(crate) private: bool,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    pub(crate) max_age: Option<u64>,
    pub(crate) s_maxage: Option<u64>,
    pub(crate) while_revalidate: Option<u64>,
    pub(crate) if_error: Option<u64>,
    /// It was said to caches of this kind: `Expires` says nothing then.
    pub(crate) is_targeted: bool,
}

impl Control {
    /// What counts of a response: the targeted field where it is there and has its form, else `Cache-Control`.
    pub(crate) fn of(fields: Fields<'_>) -> Control {
        if let Some(targeted) = targeted(fields) {
            return targeted;
        }
        let mut control = Control::default();
        for line in fields.values("cache-control") {
            directives(line).for_each(|directive| control.take(directive));
        }
        control
    }

    fn take(&mut self, directive: Directive<'_>) {
        // Of two that say different times the shorter one counts.
        let shorter = |known: &mut Option<u64>| {
            let seconds = directive.seconds();
            *known = Some(known.map_or(seconds, |known| known.min(seconds)));
        };
        match directive {
            _ if directive.is("no-store") => self.no_store = true,
            Directive { argument: Some(names), .. } if directive.is("no-cache") => {
                let names = names.split(|byte| *byte == b',').map(trim).filter(|name| is_token(name));
                self.no_cache_fields.extend(names.map(<[u8]>::to_ascii_lowercase));
            }
            _ if directive.is("no-cache") => self.no_cache = true,
            // With names of fields it would do to keep the others; nobody writes that who means to have it shared.
            _ if directive.is("private") => self.private = true,
            _ if directive.is("public") => self.public = true,
            _ if directive.is("must-revalidate") => self.must_revalidate = true,
            _ if directive.is("proxy-revalidate") => self.proxy_revalidate = true,
            _ if directive.is("must-understand") => self.must_understand = true,
            _ if directive.is("max-age") => shorter(&mut self.max_age),
            _ if directive.is("s-maxage") => shorter(&mut self.s_maxage),
            _ if directive.is("stale-while-revalidate") => shorter(&mut self.while_revalidate),
            _ if directive.is("stale-if-error") => shorter(&mut self.if_error),
            _ => {}
        }
    }
}

/// `CDN-Cache-Control`, a dictionary of RFC 9651. `None` where it is not there, or is none: then it is as if it was not there.
fn targeted(fields: Fields<'_>) -> Option<Control> {
    let joined = fields.joined("cdn-cache-control").filter(|joined| !joined.is_empty())?;
    let mut control = Control { is_targeted: true, ..Control::default() };
    let mut members: Vec<Directive<'_>> = Vec::new();
    let mut rest = &joined[..];
    loop {
        let end = end_of_element(rest);
        let member = member(trim(&rest[..end]))?;
        // Of two members of one name the last one counts.
        members.retain(|other| other.name != member.name);
        members.push(member);
        match rest.get(end + 1..) {
            Some(after) => rest = after,
            None => break,
        }
    }
    let is_off = |directive: &Directive<'_>| directive.argument == Some(b"?0");
    for directive in members.iter().filter(|directive| !is_off(directive)) {
        let argument = directive.argument.filter(|argument| *argument != b"?1");
        control.take(Directive { argument, ..*directive });
    }
    Some(control)
}

/// One member, without its parameters.
fn member(text: &[u8]) -> Option<Directive<'_>> {
    let end = text.iter().position(|byte| matches!(byte, b'=' | b';')).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let is_key_byte =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.*".contains(byte);
    let begins = name.first().is_some_and(|first| first.is_ascii_lowercase() || *first == b'*');
    if !begins || !name.iter().all(is_key_byte) {
        return None;
    }
    let argument = match rest {
        [b'=', value @ ..] => Some(item(value)?),
        _ => None,
    };
    Some(Directive { name, argument })
}

/// A bare item: a whole number, a boolean, a token, or a text, without its quotes.
fn item(value: &[u8]) -> Option<&[u8]> {
    if let [b'"', inner @ ..] = value {
        let end = end_of_text(inner)?;
        return matches!(inner.get(end + 1), None | Some(b';')).then_some(&inner[..end]);
    }
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    let bare = &value[..end];
    let digits = bare.strip_prefix(b"-").unwrap_or(bare);
    let is_number = (1..=15).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let is_word = matches!(bare.first(), Some(b'a'..=b'z' | b'A'..=b'Z' | b'*')) && is_token(bare);
    (is_number || is_word || matches!(bare, b"?0" | b"?1")).then_some(bare)
}

fn end_of_text(inner: &[u8]) -> Option<usize> {
    let mut escaped = false;
    inner.iter().position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::{super::fields::tests::with, *};

    fn control(text: &str) -> Control {
        with(text, Control::of)
    }

    #[test]
    fn directives_are_read_as_they_are_meant() {
        let ages = |text: &str| control(&format!("Cache-Control: {text}")).max_age;
        for (text, expected) in [
            ("max-age=60", Some(60)),
            ("MaX-aGe=60, foo", Some(60)),
            ("max-age=\"60\"", Some(60)),
            ("max-age=0060", Some(60)),
            ("max-age=99999999999", Some(SECONDS_MAX)),
            ("max-age=-60", Some(0)),
            ("max-age='60'", Some(0)),
            ("max-age=60a", Some(0)),
            ("max-age=", Some(0)),
            ("max-age", Some(0)),
            ("max-age =60", None),
            ("max-age= 60", Some(0)),
            ("max-age=60, max-age=1", Some(1)),
            ("max-age=1, x=\"max-age=60\"", Some(1)),
            ("x=\"a\\\", max-age=60\"", None),
            ("x=\"unfinished, max-age=60", None),
        ] {
            assert_eq!(ages(text), expected, "{text}");
        }
        let both = control("Cache-Control: No-StOrE\nCache-Control: No-CaChE, private=\"x\"");
        assert!(both.no_store && both.no_cache && both.private && !both.is_targeted);
        let named = control("Cache-Control: no-cache=\"A, b\", max-age=9");
        assert!(!named.no_cache && named.no_cache_fields == [b"a", b"b"]);
    }

    #[test]
    fn a_targeted_field_replaces_the_others_where_it_has_its_form() {
        for (text, expected) in [
            ("max-age=60", Some(60)),
            ("max-age=60;x=1, must-revalidate", Some(60)),
            ("a=\"b, c\", max-age=60", Some(60)),
            ("max-age=1, max-age=60", Some(60)),
            ("max-age=\"60\"", Some(60)),
        ] {
            let control = control(&format!("Cache-Control: no-store\nCDN-Cache-Control: {text}"));
            assert_eq!((control.max_age, control.no_store), (expected, false), "{text}");
        }
        for text in ["Max-Age=60", "max-age=60,", "max-age=6 0", "&", "", "max-age=\"6", "max-age=60.5.1"] {
            let control = control(&format!("Cache-Control: no-store\nCDN-Cache-Control: {text}"));
            assert!(control.no_store && !control.is_targeted, "{text}");
        }
        let off = control("CDN-Cache-Control: no-store=?0, private=?1");
        assert!(!off.no_store && off.private);
    }
}
