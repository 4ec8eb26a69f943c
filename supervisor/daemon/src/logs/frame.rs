//! Lines out of the bytes that stand in a pipe. Pure: the same bytes give the same lines, so that a successor daemon
//! that finds the same bytes frames them as its predecessor did.

use std::ops::Range;

/// The longest line that is kept whole, in bytes; s6-log(8) has the same number. Longer ones come in parts.
pub(super) const LINE_SIZE_MAX: usize = 8 << 10;

/// What is to become of bytes at the end that have no newline yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tail {
    /// They stay where they are: the rest will come.
    Wait,
    /// They have stood long enough: a part of a line.
    Part,
    /// Nothing will follow: the last line.
    Line,
}

/// A line, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its bytes, without the newline.
    pub(super) text: Range<usize>,
    /// Where the next one starts.
    pub(super) end: usize,
    /// Whether more of the same line follows.
    pub(super) partial: bool,
}

/// Cuts `bytes` into lines of at most `limit` bytes. What is left behind the last segment's end stays in the pipe.
pub(super) fn frame(bytes: &[u8], limit: usize, tail: Tail) -> Vec<Segment> {
    let mut segments = Vec::new();
    let mut start = 0;
    while let Some(segment) = next(bytes, start, limit, tail) {
        start = segment.end;
        segments.push(segment);
    }
    segments
}

fn next(bytes: &[u8], start: usize, limit: usize, tail: Tail) -> Option<Segment> {
    let rest = &bytes[start..];
    // One byte more than a line may have: its newline.
    let window = &rest[..rest.len().min(limit + 1)];
    if let Some(len) = memchr::memchr(b'\n', window) {
        return Some(Segment { text: start..start + len, end: start + len + 1, partial: false });
    }
    if rest.len() > limit {
        let end = start + whole_characters(&rest[..limit]);
        return Some(Segment { text: start..end, end, partial: true });
    }
    let partial = match tail {
        Tail::Wait => return None,
        Tail::Part => true,
        Tail::Line => false,
    };
    (!rest.is_empty()).then_some(Segment { text: start..bytes.len(), end: bytes.len(), partial })
}

/// How many of these bytes to take so that no character is cut in two. Bytes that are not UTF-8 anyway are cut
/// anywhere.
fn whole_characters(bytes: &[u8]) -> usize {
    // A character has at most four bytes (RFC 3629), so its first one is among the last four.
    let last_start = (bytes.len().saturating_sub(4)..bytes.len()).rev().find(|at| bytes[*at] & 0xc0 != 0x80);
    match last_start {
        // Cutting everything off would make no progress.
        Some(0) | None => bytes.len(),
        Some(at) => match std::str::from_utf8(&bytes[at..]) {
            // Valid so far, but it ends too early.
            Err(error) if error.valid_up_to() == 0 && error.error_len().is_none() => at,
            Err(_) | Ok(_) => bytes.len(),
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(bytes: &[u8], limit: usize, tail: Tail) -> Vec<(String, bool)> {
        let text =
            |segment: Segment| (String::from_utf8_lossy(&bytes[segment.text]).into_owned(), segment.partial);
        frame(bytes, limit, tail).into_iter().map(text).collect()
    }

    fn check(bytes: &str, tail: Tail, expected: &[(&str, bool)]) {
        let expected: Vec<_> =
            expected.iter().map(|(text, partial)| ((*text).to_owned(), *partial)).collect();
        assert_eq!(texts(bytes.as_bytes(), 8, tail), expected, "{bytes:?} {tail:?}");
    }

    #[test]
    fn lines_and_what_is_left() {
        check("", Tail::Line, &[]);
        check("a\nb\n", Tail::Wait, &[("a", false), ("b", false)]);
        check("\n\n", Tail::Wait, &[("", false), ("", false)]);
        check("a\nrest", Tail::Wait, &[("a", false)]);
        check("a\nrest", Tail::Part, &[("a", false), ("rest", true)]);
        check("a\nrest", Tail::Line, &[("a", false), ("rest", false)]);
    }

    #[test]
    fn a_line_as_long_as_allowed_is_whole_and_a_longer_one_is_not() {
        check("12345678", Tail::Wait, &[]);
        check("12345678\n", Tail::Wait, &[("12345678", false)]);
        check("123456789", Tail::Wait, &[("12345678", true)]);
        check("123456789\n", Tail::Wait, &[("12345678", true), ("9", false)]);
    }

    #[test]
    fn a_character_is_not_cut_in_two() {
        check("1234567é!\n", Tail::Wait, &[("1234567", true), ("é!", false)]);
        check("123456é!\n", Tail::Wait, &[("123456é", true), ("!", false)]);
        check("123456€!\n", Tail::Wait, &[("123456", true), ("€!", false)]);
    }

    proptest! {
        /// However the writes fall, the lines are the same and no byte is lost or doubled.
        #[test]
        fn framing_does_not_depend_on_the_reads(
            bytes in proptest::collection::vec(prop_oneof![3 => any::<u8>(), 1 => Just(b'\n'), 4 => Just(b'x')], 0..400),
            cuts in proptest::collection::vec(1usize..40, 1..60),
        ) {
            let whole = texts(&bytes, 16, Tail::Line);
            let mut pipe: Vec<u8> = Vec::new();
            let mut lines = Vec::new();
            let mut rest = &bytes[..];
            let mut cuts = cuts.into_iter().cycle();
            while !rest.is_empty() {
                let (come, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
                rest = later;
                pipe.extend_from_slice(come);
                lines.extend(texts(&pipe, 16, Tail::Wait));
                let consumed = frame(&pipe, 16, Tail::Wait).last().map_or(0, |segment| segment.end);
                pipe.drain(..consumed);
            }
            lines.extend(texts(&pipe, 16, Tail::Line));
            prop_assert_eq!(lines, whole);
        }

        #[test]
        fn every_byte_but_newlines_is_in_one_segment(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let segments = frame(&bytes, 16, Tail::Line);
            let mut end = 0;
            for segment in &segments {
                prop_assert_eq!(segment.text.start, end);
                prop_assert!(segment.text.len() <= 16 && segment.end > end);
                prop_assert_eq!(segment.end - segment.text.end, usize::from(bytes.get(segment.text.end) == Some(&b'\n') && !segment.partial));
                end = segment.end;
            }
            prop_assert_eq!(end, bytes.len());
        }
    }
}
