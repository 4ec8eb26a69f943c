//! What a request's conditions and range make of a file (RFC 9110 §13 and §14). Pure.

use std::time::{Duration, SystemTime};

/// What a request says besides its path. Of a field that came several times the first one counts, but for lists, which are joined.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Conditions {
    pub(crate) if_match: Option<Vec<u8>>,
    pub(crate) if_none_match: Option<Vec<u8>>,
    pub(crate) if_modified_since: Option<Vec<u8>>,
    pub(crate) if_unmodified_since: Option<Vec<u8>>,
    pub(crate) range: Option<Vec<u8>>,
    pub(crate) if_range: Option<Vec<u8>>,
}

/// What is compared of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'f> {
    pub(super) etag: &'f str,
    pub(super) modified: SystemTime,
    pub(super) len: u64,
}

/// What the answer has of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Whole,
    /// From the first to the last byte.
    Range(u64, u64),
    /// The client has it.
    NotModified,
    /// It is not the one that the client means.
    Failed,
    /// No byte of what the client wants is there.
    Unsatisfiable,
}

impl Conditions {
    /// In the order of RFC 9110 §13.2.2.
    pub(super) fn part(&self, file: Facts<'_>) -> Part {
        let before = match &self.if_match {
            Some(tags) => !lists(tags, file.etag, Compare::Strongly),
            None => date(&self.if_unmodified_since).is_some_and(|since| seconds(file.modified) > since),
        };
        if before {
            return Part::Failed;
        }
        let same = match &self.if_none_match {
            Some(tags) => lists(tags, file.etag, Compare::Weakly),
            None => date(&self.if_modified_since).is_some_and(|since| seconds(file.modified) <= since),
        };
        if same {
            return Part::NotModified;
        }
        match &self.range {
            Some(range) if self.is_of_range(file) => ranged(range, file.len),
            Some(_) | None => Part::Whole,
        }
    }

    /// Whether the client's part is one of this very file.
    fn is_of_range(&self, file: Facts<'_>) -> bool {
        match self.if_range.as_deref() {
            None => true,
            Some(tag) if tag.starts_with(b"\"") => tag == file.etag.as_bytes(),
            Some(tag) if tag.starts_with(b"W/") => false,
            Some(_) => date(&self.if_range) == Some(seconds(file.modified)),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Compare {
    Strongly,
    Weakly,
}

/// Whether a client that has one of these has what is called so.
pub(crate) fn is_known(tags: &[u8], etag: &str) -> bool {
    lists(tags, etag, Compare::Weakly)
}

/// Whether a list of tags has this one, which is a strong one (RFC 9110 §8.8.3.2). No tag of ours has a comma.
fn lists(tags: &[u8], etag: &str, compare: Compare) -> bool {
    let is = |tag: &[u8]| match tag.strip_prefix(b"W/") {
        Some(tag) => compare == Compare::Weakly && tag == etag.as_bytes(),
        None => tag == etag.as_bytes(),
    };
    tags.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|tag| tag == b"*" || is(tag))
}

/// A date that is none says nothing.
fn date(value: &Option<Vec<u8>>) -> Option<u64> {
    let text = std::str::from_utf8(value.as_ref()?).ok()?;
    httpdate::parse_http_date(text.trim()).ok().map(seconds)
}

/// Dates of HTTP have no parts of a second.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// One range of bytes. Several would be an answer in parts, for which nobody asks but to have others work: the whole is as good an answer to
/// them (RFC 9110 §14.2), as it is to what is no range.
fn ranged(range: &[u8], len: u64) -> Part {
    let parsed = || {
        let (unit, spec) = std::str::from_utf8(range).ok()?.split_once('=')?;
        let (first, last) = spec.trim().split_once('-')?;
        unit.eq_ignore_ascii_case("bytes").then_some((first.trim(), last.trim()))
    };
    match parsed().and_then(|(first, last)| Some((number(first)?, number(last)?))) {
        None | Some((None, None)) => Part::Whole,
        Some((None, Some(0))) => Part::Unsatisfiable,
        Some((None, Some(_))) if len == 0 => Part::Unsatisfiable,
        Some((None, Some(count))) => Part::Range(len.saturating_sub(count), len - 1),
        Some((Some(first), Some(last))) if last < first => Part::Whole,
        Some((Some(first), _)) if first >= len => Part::Unsatisfiable,
        Some((Some(first), last)) => Part::Range(first, last.unwrap_or(u64::MAX).min(len - 1)),
    }
}

/// A number or nothing; `None` is something else. One that is too large is as good as the largest.
fn number(text: &str) -> Option<Option<u64>> {
    if text.is_empty() {
        return Some(None);
    }
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| Some(text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn part(fields: &[(&str, &str)]) -> Part {
        let mut conditions = Conditions::default();
        for (name, value) in fields {
            let field = match *name {
                "if-match" => &mut conditions.if_match,
                "if-none-match" => &mut conditions.if_none_match,
                "if-modified-since" => &mut conditions.if_modified_since,
                "if-unmodified-since" => &mut conditions.if_unmodified_since,
                "range" => &mut conditions.range,
                "if-range" => &mut conditions.if_range,
                other => panic!("{other}"),
            };
            *field = Some(value.as_bytes().to_vec());
        }
        // With a part of a second, which no date has.
        let modified = httpdate::parse_http_date(MODIFIED).unwrap() + Duration::from_millis(500);
        conditions.part(Facts { etag: "\"a-1\"", modified, len: 100 })
    }

    #[test]
    fn conditions_are_asked_in_their_order() {
        let (before, after) = ("Sun, 06 Nov 1994 08:49:36 GMT", "Sun, 06 Nov 1994 08:49:38 GMT");
        for (fields, expected) in [
            (&[][..], Part::Whole),
            (&[("if-none-match", "\"a-1\"")], Part::NotModified),
            (&[("if-none-match", "\"b\", W/\"a-1\"")], Part::NotModified),
            (&[("if-none-match", "*")], Part::NotModified),
            (&[("if-none-match", "\"b\""), ("if-modified-since", after)], Part::Whole),
            (&[("if-modified-since", MODIFIED)], Part::NotModified),
            (&[("if-modified-since", "Sunday, 06-Nov-94 08:49:37 GMT")], Part::NotModified),
            (&[("if-modified-since", "Sun Nov  6 08:49:37 1994")], Part::NotModified),
            (&[("if-modified-since", before)], Part::Whole),
            (&[("if-modified-since", "yesterday")], Part::Whole),
            (&[("if-match", "\"a-1\"")], Part::Whole),
            (&[("if-match", "*"), ("if-none-match", "\"a-1\"")], Part::NotModified),
            (&[("if-match", "W/\"a-1\"")], Part::Failed),
            (&[("if-match", "\"b\"")], Part::Failed),
            (&[("if-unmodified-since", before)], Part::Failed),
            (&[("if-unmodified-since", MODIFIED)], Part::Whole),
            (&[("if-match", "\"a-1\""), ("if-unmodified-since", before)], Part::Whole),
        ] {
            assert_eq!(part(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn ranges_of_bytes() {
        for (range, expected) in [
            ("bytes=0-0", Part::Range(0, 0)),
            ("bytes=10-19", Part::Range(10, 19)),
            ("Bytes = 10-", Part::Whole),
            ("BYTES=10-", Part::Range(10, 99)),
            ("bytes=90-1000", Part::Range(90, 99)),
            ("bytes=0-99999999999999999999999", Part::Range(0, 99)),
            ("bytes=-1", Part::Range(99, 99)),
            ("bytes=-1000", Part::Range(0, 99)),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=100-", Part::Unsatisfiable),
            ("bytes=99999999999999999999999-", Part::Unsatisfiable),
            ("bytes=5-2", Part::Whole),
            ("bytes=0-0,5-6", Part::Whole),
            ("bytes=", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("lines=1-2", Part::Whole),
        ] {
            assert_eq!(part(&[("range", range)]), expected, "{range}");
        }
    }

    #[test]
    fn a_range_of_another_file_is_the_whole_of_this_one() {
        for (value, expected) in [
            ("\"a-1\"", Part::Range(1, 1)),
            ("\"a-2\"", Part::Whole),
            ("W/\"a-1\"", Part::Whole),
            (MODIFIED, Part::Range(1, 1)),
            ("Sun, 06 Nov 1994 08:49:38 GMT", Part::Whole),
            ("nonsense", Part::Whole),
        ] {
            assert_eq!(part(&[("range", "bytes=1-1"), ("if-range", value)]), expected, "{value}");
        }
    }
}
