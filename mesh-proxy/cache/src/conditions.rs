//! What a request's conditions and range make of a stored response (RFC 9110 §13 and §14, RFC 9111 §4.3.2).

use crate::{
    date,
    fields::{Fields, trim},
};

/// What a request says of what its client has. Of a field that came several times the first one counts, but for lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conditions {
    if_none_match: Option<Box<[u8]>>,
    if_modified_since: Option<u64>,
    range: Option<Box<[u8]>>,
    if_range: Option<Box<[u8]>>,
}

/// What the answer has of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All.
    Whole,
    /// The client has it.
    NotModified,
    /// From the first to the last byte.
    Range(usize, usize),
    /// No byte of what the client wants is there.
    Unsatisfiable,
}

/// What is compared of a response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Validators<'v> {
    pub(crate) etag: Option<&'v [u8]>,
    pub(crate) modified_s: Option<u64>,
    /// When it was made.
    pub(crate) date_s: u64,
}

impl Conditions {
    pub(crate) fn of(fields: Fields<'_>) -> Conditions {
        Conditions {
            if_none_match: fields.joined("if-none-match").map(Vec::into_boxed_slice),
            if_modified_since: fields.first("if-modified-since").and_then(date::seconds),
            range: fields.first("range").map(Box::from),
            if_range: fields.first("if-range").map(Box::from),
        }
    }

    /// Whether there are any.
    pub fn are_any(&self) -> bool {
        *self != Conditions::default()
    }

    /// Whether a part is asked for.
    pub fn has_range(&self) -> bool {
        self.range.is_some()
    }

    /// What an answer has of a response of this length. A range is one of a response with status 200 alone.
    pub(crate) fn part(&self, status: u16, of: Validators<'_>, len: usize) -> Part {
        let has = match (&self.if_none_match, self.if_modified_since) {
            (Some(tags), _) => of.etag.is_some_and(|etag| lists(tags, etag)),
            (None, Some(since)) => of.modified_s.unwrap_or(of.date_s) <= since,
            (None, None) => false,
        };
        // Of an error nobody has a copy (RFC 9110 §13.2.1).
        if has && (200..300).contains(&status) {
            return Part::NotModified;
        }
        match &self.range {
            Some(range) if status == 200 && self.is_of_range(of) => ranged(range, len),
            Some(_) | None => Part::Whole,
        }
    }

    /// Whether the client's part is one of this very response.
    fn is_of_range(&self, of: Validators<'_>) -> bool {
        match self.if_range.as_deref() {
            None => true,
            Some(tag) if tag.starts_with(b"\"") => of.etag == Some(tag),
            Some(tag) if tag.starts_with(b"W/") => false,
            Some(time) => of.modified_s.is_some() && date::seconds(time) == of.modified_s,
        }
    }
}

/// Whether a list of tags has this one, weak or not.
fn lists(tags: &[u8], etag: &[u8]) -> bool {
    let opaque = |tag| <[u8]>::strip_prefix(tag, b"W/").unwrap_or(tag);
    each(tags).any(|tag| tag == b"*" || opaque(tag) == opaque(etag))
}

/// The tags of a list. A comma may be within the quotes of one.
fn each(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        rest = trim(rest);
        while let [b',', after @ ..] = rest {
            rest = trim(after);
        }
        if rest.is_empty() {
            return None;
        }
        let quote = memchr::memchr2(b'"', b',', rest).filter(|at| rest[*at] == b'"');
        let closed = quote.and_then(|open| Some(open + 2 + memchr::memchr(b'"', &rest[open + 1..])?));
        let from = closed.unwrap_or(0);
        let end = memchr::memchr(b',', &rest[from..]).map_or(rest.len(), |at| from + at);
        let tag;
        (tag, rest) = rest.split_at(end);
        Some(trim(tag))
    })
}

/// One range of bytes. Several would be an answer in parts: the whole is as good an answer to them (RFC 9110 §14.2), as it is to what
/// is no range.
fn ranged(range: &[u8], len: usize) -> Part {
    let parsed = || {
        let (unit, spec) = std::str::from_utf8(range).ok()?.split_once('=')?;
        let (first, last) = spec.trim().split_once('-')?;
        unit.eq_ignore_ascii_case("bytes").then_some((number(first)?, number(last)?))
    };
    let end = len.saturating_sub(1);
    match parsed() {
        None | Some((None, None)) => Part::Whole,
        Some((Some(first), Some(last))) if last < first => Part::Whole,
        Some((None, Some(0))) => Part::Unsatisfiable,
        Some((None, Some(_)) | (Some(_), _)) if len == 0 => Part::Unsatisfiable,
        Some((Some(first), _)) if first > end => Part::Unsatisfiable,
        Some((None, Some(count))) => Part::Range(len.saturating_sub(count), end),
        Some((Some(first), last)) => Part::Range(first, last.map_or(end, |last| last.min(end))),
    }
}

/// A number, or none where there is nothing. What is too large is as good as the largest.
fn number(text: &str) -> Option<Option<usize>> {
    let text = text.trim();
    if text.is_empty() {
        return Some(None);
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| Some(text.parse().unwrap_or(usize::MAX)))
}

#[cfg(test)]
mod tests {
    use super::{super::fields::tests::with, *};

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const SECOND: u64 = 784_111_777;

    fn part(text: &str, etag: Option<&str>, modified_s: Option<u64>) -> Part {
        let of = Validators { etag: etag.map(str::as_bytes), modified_s, date_s: SECOND };
        with(text, Conditions::of).part(200, of, 10)
    }

    #[test]
    fn a_client_that_has_it_is_told_so() {
        for (tags, etag, expected) in [
            ("\"a\"", "\"a\"", Part::NotModified),
            ("W/\"a\"", "\"a\"", Part::NotModified),
            ("\"a\"", "W/\"a\"", Part::NotModified),
            ("\"b\", \"a\"", "\"a\"", Part::NotModified),
            ("\"b,\" ,\"a\",", "\"a\"", Part::NotModified),
            ("\"b, \"a\"", "\"a\"", Part::Whole),
            ("\"a,b\"", "\"a,b\"", Part::NotModified),
            ("*", "\"a\"", Part::NotModified),
            ("a", "\"a\"", Part::Whole),
            ("", "\"a\"", Part::Whole),
        ] {
            assert_eq!(part(&format!("If-None-Match: {tags}"), Some(etag), None), expected, "{tags}");
        }
        let since = format!("If-Modified-Since: {DATE}");
        assert_eq!(part(&since, None, Some(SECOND)), Part::NotModified);
        assert_eq!(part(&since, None, Some(SECOND + 1)), Part::Whole);
        assert_eq!(part(&since, None, None), Part::NotModified, "by when it was made");
        let both = format!("If-None-Match: \"b\"\n{since}");
        assert_eq!(part(&both, Some("\"a\""), Some(0)), Part::Whole, "the tag is the better word");
        let of = Validators { etag: Some(b"\"a\""), modified_s: None, date_s: 0 };
        assert_eq!(with("If-None-Match: *", Conditions::of).part(404, of, 10), Part::Whole);
    }

    #[test]
    fn ranges() {
        for (range, expected) in [
            ("bytes=0-1", Part::Range(0, 1)),
            ("Bytes=8-", Part::Range(8, 9)),
            ("bytes=8-99999999999999999999", Part::Range(8, 9)),
            ("bytes=-3", Part::Range(7, 9)),
            ("bytes=-30", Part::Range(0, 9)),
            ("bytes=10-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=2-1", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=-", Part::Whole),
            ("lines=0-1", Part::Whole),
            ("bytes=+1-2", Part::Whole),
        ] {
            assert_eq!(part(&format!("Range: {range}"), None, None), expected, "{range}");
        }
        let only = |if_range: &str| format!("Range: bytes=0-1\nIf-Range: {if_range}");
        assert_eq!(part(&only("\"a\""), Some("\"a\""), None), Part::Range(0, 1));
        assert_eq!(part(&only("\"b\""), Some("\"a\""), None), Part::Whole);
        assert_eq!(part(&only("W/\"a\""), Some("W/\"a\""), None), Part::Whole);
        assert_eq!(part(&only(DATE), None, Some(SECOND)), Part::Range(0, 1));
        assert_eq!(part(&only(DATE), None, Some(0)), Part::Whole);
        let of = Validators { etag: None, modified_s: None, date_s: 0 };
        assert_eq!(with("Range: bytes=0-", Conditions::of).part(200, of, 0), Part::Unsatisfiable);
        assert_eq!(with("Range: bytes=0-", Conditions::of).part(404, of, 10), Part::Whole);
    }
}
