//! What a rule asks for besides host and path: methods, headers, cookies, parameters of the query.

use std::{borrow::Cow, cell::OnceCell};

use regex::bytes::Regex;
use watt_api::mesh::{self, RequestPart, ValueTest};

use super::{Asked, pattern, reading::decode};
use crate::http::trim;

/// All that a rule asks for.
#[derive(Default)]
pub(super) struct Conditions {
    /// None is every one.
    pub(super) methods: Vec<Box<str>>,
    pub(super) tests: Vec<Condition>,
}

/// One of them.
pub(super) struct Condition {
    pub(super) part: RequestPart,
    pub(super) name: Box<str>,
    pub(super) test: Test,
}

/// What a value has to be.
pub(super) enum Test {
    Is(Box<[u8]>),
    Regex(Regex),
    Present,
    Absent,
}

impl Conditions {
    pub(super) fn new(rule: &mesh::Route) -> Result<Conditions, regex::Error> {
        let tests = rule.conditions.iter().map(Condition::new).collect::<Result<_, _>>()?;
        Ok(Conditions { methods: rule.methods.iter().map(|method| method.as_str().into()).collect(), tests })
    }

    /// How many there are, the methods together being one.
    pub(super) fn count(&self) -> usize {
        self.tests.len() + usize::from(!self.methods.is_empty())
    }

    /// Whether a request has all of it.
    pub(super) fn hold(&self, asked: &Asked<'_>) -> bool {
        self.count() == 0 || self.method_fits(asked.method()) && self.tests_hold(asked)
    }

    /// A response to HEAD is that to GET without its body (RFC 9110 §9.3.2).
    pub(super) fn method_fits(&self, method: &[u8]) -> bool {
        let is = |listed: &str| listed.as_bytes() == method || method == b"HEAD" && listed == "GET";
        self.methods.is_empty() || self.methods.iter().any(|listed| is(listed))
    }

    /// Whether this method is one of those that are written.
    pub(super) fn lists(&self, method: &str) -> bool {
        self.methods.iter().any(|listed| **listed == *method)
    }

    /// Whether all but the method is there.
    pub(super) fn tests_hold(&self, asked: &Asked<'_>) -> bool {
        self.tests.iter().all(|condition| condition.holds(asked))
    }
}

impl Condition {
    fn new(condition: &mesh::RouteCondition) -> Result<Condition, regex::Error> {
        let test = match &condition.test {
            ValueTest::Is(text) => Test::Is(text.as_bytes().into()),
            ValueTest::Regex(expression) => Test::Regex(pattern::compile(expression)?),
            ValueTest::Present => Test::Present,
            ValueTest::Absent => Test::Absent,
        };
        Ok(Condition { part: condition.part, name: condition.name.as_str().into(), test })
    }

    /// Whether it holds: of several values of one name any will do.
    pub(super) fn holds(&self, asked: &Asked<'_>) -> bool {
        let fits = |value: &[u8]| match &self.test {
            Test::Is(text) => **text == *value,
            Test::Regex(regex) => regex.is_match(value),
            Test::Present | Test::Absent => true,
        };
        let any = self.any(asked, fits);
        match self.test {
            Test::Absent => !any,
            Test::Is(_) | Test::Regex(_) | Test::Present => any,
        }
    }

    /// Whether one of the values satisfies.
    pub(super) fn any(&self, asked: &Asked<'_>, mut satisfies: impl FnMut(&[u8]) -> bool) -> bool {
        let name = self.name.as_bytes();
        match self.part {
            RequestPart::Header => asked.values(name).any(satisfies),
            RequestPart::Cookie => asked.cookies(name).any(satisfies),
            RequestPart::Query => {
                asked.parsed.query(asked).iter().any(|(other, value)| **other == *name && satisfies(value))
            }
        }
    }
}

/// A name and a value, decoded.
type Decoded<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);

/// What is found in a request when a condition asks for it first: it may be asked for by many conditions, in every reading of a path.
#[derive(Default)]
pub(crate) struct Parsed<'a> {
    cookies: OnceCell<Vec<(&'a [u8], &'a [u8])>>,
    query: OnceCell<Vec<Decoded<'a>>>,
}

impl<'a> Parsed<'a> {
    pub(super) fn cookies(&self, asked: &Asked<'a>) -> &[(&'a [u8], &'a [u8])] {
        self.cookies.get_or_init(|| asked.values(b"cookie").flat_map(cookies).collect())
    }

    fn query(&self, asked: &Asked<'a>) -> &[Decoded<'a>] {
        self.query.get_or_init(|| {
            let pairs = asked.query().split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
            pairs.map(split).map(|(name, value)| (unescaped(name), unescaped(value))).collect()
        })
    }
}

#[cfg(test)]
impl Parsed<'_> {
    /// How many cookies and parameters were read.
    pub(super) fn counts(&self) -> (Option<usize>, Option<usize>) {
        (self.cookies.get().map(Vec::len), self.query.get().map(Vec::len))
    }
}

/// Names and values of a Cookie field (RFC 6265 §4.2.1), as servers read them: without space around either, and without the quotes that
/// may be around a value.
fn cookies(line: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = line.split(|byte| *byte == b';').map(trim).filter(|pair| !pair.is_empty());
    pairs.map(split).map(|(name, value)| (trim(name), unquoted(trim(value))))
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

fn split(pair: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'=', pair) {
        Some(at) => (&pair[..at], &pair[at + 1..]),
        None => (pair, &[]),
    }
}

/// As forms write it: `+` is a space, and the rest percent-encoded.
fn unescaped(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return text.into();
    }
    let spaces: Vec<u8> = text.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
    decode(&spaces).into()
}
