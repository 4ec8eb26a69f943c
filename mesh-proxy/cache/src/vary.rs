//! Which requests a response is for, of those with its URI (RFC 9111 §4.1).

use crate::fields::{Fields, trim};

/// One of the fields, by its name in lower case, and what the request had in it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct By {
    name: Box<[u8]>,
    value: Option<Box<[u8]>>,
}

/// The fields that a response was chosen by, and what the request had in them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Selecting {
    fields: Box<[By]>,
    /// Its language, where it was chosen by that.
    language: Option<Box<[u8]>>,
}

impl Selecting {
    /// What `Vary` names, and these besides. The caller has seen to it that there is no `*`.
    pub(crate) fn of(response: Fields<'_>, also: &[Box<str>], request: Fields<'_>) -> Selecting {
        let mut names: Vec<Box<[u8]>> =
            response.elements("vary").map(|name| name.to_ascii_lowercase().into()).collect();
        names.extend(also.iter().map(|name| name.to_ascii_lowercase().into_bytes().into()));
        names.sort_unstable();
        names.dedup();
        let by_language = names.iter().any(|name| **name == *LANGUAGE);
        let language = response.first("content-language").filter(|_| by_language);
        let fields = names.into_iter().map(|name| {
            let value = normal(&name, request).map(Vec::into_boxed_slice);
            By { name, value }
        });
        Selecting {
            fields: fields.collect(),
            language: language.map(|language| language.to_ascii_lowercase().into()),
        }
    }

    /// Whether it is for this request.
    pub(crate) fn matches(&self, request: Fields<'_>) -> bool {
        self.fields.iter().all(|By { name, value }| {
            let asked = normal(name, request);
            asked.as_deref() == value.as_deref()
                || **name == *LANGUAGE && self.is_in_language(asked.as_deref())
        })
    }

    /// Whether both are chosen by the same fields.
    pub(crate) fn is_by_those_of(&self, other: &Selecting) -> bool {
        self.fields.iter().map(|by| &by.name).eq(other.fields.iter().map(|by| &by.name))
    }

    /// Whether the response is in the one language that the request wants above all.
    fn is_in_language(&self, asked: Option<&[u8]>) -> bool {
        self.language.is_some() && asked.and_then(favourite) == self.language.as_deref()
    }

    /// How much memory it takes.
    pub(crate) fn size(&self) -> usize {
        let field =
            |By { name, value }: &By| size_of::<By>() + name.len() + value.as_deref().map_or(0, <[u8]>::len);
        self.fields.iter().map(field).sum::<usize>() + self.language.as_deref().map_or(0, <[u8]>::len)
    }
}

const LANGUAGE: &[u8] = b"accept-language";

/// A field's value, so that two that mean the same are the same: lines are joined, and white space around commas is gone. Of the fields whose lists
/// have neither an order nor letters of two kinds, that is gone as well.
fn normal(name: &[u8], request: Fields<'_>) -> Option<Vec<u8>> {
    let mut lines = request.all(name).peekable();
    lines.peek()?;
    let elements = lines.flat_map(|line| line.split(|byte| *byte == b',').map(trim));
    if !matches!(name, b"accept-language" | b"accept-encoding") {
        return Some(elements.collect::<Vec<_>>().join(&b','));
    }
    let folded = |element: &[u8]| -> Vec<u8> {
        element.iter().filter(|byte| !matches!(byte, b' ' | b'\t')).map(u8::to_ascii_lowercase).collect()
    };
    let mut elements: Vec<Vec<u8>> = elements.map(folded).filter(|element| !element.is_empty()).collect();
    elements.sort_unstable();
    elements.dedup();
    Some(elements.join(&b','))
}

/// The one element of a list in its normal form that has more weight than each other one.
fn favourite(list: &[u8]) -> Option<&[u8]> {
    let weighed = |element| -> Option<(u32, &[u8])> {
        let mut parts = <[u8]>::split(element, |byte| *byte == b';');
        let name = parts.next()?;
        Some((parts.next().map_or(Some(1000), weight)?, name))
    };
    let weighed: Vec<(u32, &[u8])> = list.split(|byte| *byte == b',').map(weighed).collect::<Option<_>>()?;
    let best = weighed.iter().map(|(weight, _)| *weight).max()?;
    let mut of_best = weighed.iter().filter(|(weight, _)| *weight == best);
    match (of_best.next(), of_best.next()) {
        (Some((1.., name)), None) => Some(name),
        _ => None,
    }
}

/// `q=0.5` in thousandths.
fn weight(parameter: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(parameter.strip_prefix(b"q=")?).ok()?;
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(whole, "0" | "1") || !digits(part) {
        return None;
    }
    let part: u32 = format!("{part:0<3}").parse().ok()?;
    Some((if whole == "1" { 1000 } else { 0 }) + part)
}

#[cfg(test)]
mod tests {
    use super::{super::fields::tests::with, *};

    fn matches(response: &str, stored: &str, asked: &str) -> bool {
        let selecting =
            with(response, |response| with(stored, |stored| Selecting::of(response, &[], stored)));
        with(asked, |asked| selecting.matches(asked))
    }

    #[test]
    fn a_response_is_for_requests_that_are_alike() {
        for (vary, stored, asked, expected) in [
            ("Foo", "Foo: 1", "foo: 1\nOther: 3", true),
            ("Foo", "Foo: 1", "Foo: 2", false),
            ("Foo", "Foo: 1", "", false),
            ("Foo", "", "Foo: 1", false),
            ("Foo", "", "Foo:", false),
            ("Foo", "", "", true),
            ("Foo, Bar", "Foo: 1\nBar: 2", "Bar: 2\nFoo: 1", true),
            ("Foo, Bar", "Foo: 1\nBar: 2", "Foo: 1", false),
            ("Foo", "Foo: 1, 2", "Foo: 1\nFoo: 2", true),
            ("Foo", "Foo: 1,2", "Foo:  1 ,  2 ", true),
            ("Foo", "Foo: 1, 2", "Foo: 2, 1", false),
            ("Accept-Language", "Accept-Language: en, de", "Accept-Language: De ,EN", true),
            ("Accept-Language", "Accept-Language: en, de", "Accept-Language: fr", false),
            ("Accept-Encoding", "Accept-Encoding: gzip, br", "Accept-Encoding: BR,gzip", true),
        ] {
            assert_eq!(
                matches(&format!("Vary: {vary}"), stored, asked),
                expected,
                "{vary}: {stored:?} {asked:?}"
            );
        }
    }

    #[test]
    fn a_language_is_one_that_a_client_wants_above_all() {
        let german = "Vary: Accept-Language\nContent-Language: de";
        let is_for =
            |asked: &str| matches(german, "Accept-Language: en, de", &format!("Accept-Language: {asked}"));
        assert!(is_for("fr;q=0.5, DE;q=1.0") && is_for("de"));
        for asked in ["fr, de", "de;q=0", "fr;q=0.9, de;q=0.8", "de;q=x", "de;q=0.1234", "*"] {
            assert!(!is_for(asked), "{asked}");
        }
    }

    #[test]
    fn an_operator_may_name_more() {
        let also = ["X-Tenant".into()];
        let selecting =
            with("X: 1", |response| with("x-tenant: a", |stored| Selecting::of(response, &also, stored)));
        assert!(with("X-Tenant: a", |asked| selecting.matches(asked)));
        assert!(!with("X-Tenant: b", |asked| selecting.matches(asked)));
        assert!(selecting.size() > 8);
    }
}
