//! The ways in which somebody may read a path: escapes decoded, dot segments resolved, slashes merged, backslashes taken for slashes,
//! `;parameters` cut off.

/// Whether anything in a path is read differently by some. Plain paths are not.
pub(super) fn has_other_readings(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().any(|byte| {
        let odd = matches!(byte, b'%' | b'\\' | b';') || before == b'/' && matches!(byte, b'/' | b'.');
        before = *byte;
        odd
    })
}

/// Whether everybody reads a path as it is written, but for escapes of what has to be escaped.
pub(super) fn is_plain(path: &[u8]) -> bool {
    if !has_other_readings(path) {
        return true;
    }
    let is_needless = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let escapes = path.windows(3).filter(|part| part[0] == b'%');
    let mut decoded = escapes.filter_map(|part| Some(digit(part[1])? << 4 | digit(part[2])?));
    let plain = decode_but_slashes(path);
    !decoded.any(is_needless) && readings(path).iter().all(|reading| reading.path == plain)
}

/// A path as somebody may see it.
pub(super) struct Reading {
    pub(super) path: Vec<u8>,
    /// After a `..`, the number of segments left; the lowest one. `..` at the root leads below it.
    pub(super) depth_min: Option<i64>,
}

/// What readers differ in.
#[derive(Clone, Copy)]
struct Way {
    /// Whether `%2f` and `%5c` are decoded before segments are parted. RFC 3986 §2.2 and the URL standard leave them as they are.
    decodes_slashes: bool,
    /// Whether `\` parts segments, as the URL standard says and no path of Unix.
    splits_at_backslash: bool,
    merges_slashes: Merge,
    cuts_parameters: bool,
    /// Whether a slash is left at the end where an empty or a dot segment was.
    keeps_end: bool,
}

/// When somebody takes several slashes for one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Merge {
    Never,
    /// Before dot segments are resolved, as paths of files are read.
    First,
    /// Afterwards, as one does who is handed what another one has resolved.
    Last,
}

/// Every reading of a path. Readers that cannot differ about this one are asked once.
pub(super) fn readings(path: &[u8]) -> Vec<Reading> {
    let decoded = decode(path);
    let slashes = |text: &[u8]| text.iter().filter(|byte| matches!(byte, b'/' | b'\\')).count();
    let is_slash = |byte: u8| matches!(byte, b'/' | b'\\');
    let after_slash = |is: fn(u8) -> bool| decoded.windows(2).any(|pair| is_slash(pair[0]) && is(pair[1]));
    let either = |differs: bool| if differs { &[true, false][..] } else { &[true][..] };
    let escaped = slashes(&decoded) > slashes(path);
    let backslash = decoded.contains(&b'\\');
    let empty = after_slash(|byte| matches!(byte, b'/' | b'\\' | b';'));
    let dots = after_slash(|byte| byte == b'.');
    let merges = if empty { &[Merge::First, Merge::Last, Merge::Never][..] } else { &[Merge::First][..] };
    let mut readings = Vec::new();
    for &decodes_slashes in either(escaped) {
        for &splits_at_backslash in either(backslash) {
            for &merges_slashes in merges {
                for &cuts_parameters in either(decoded.contains(&b';')) {
                    for &keeps_end in either(empty || dots) {
                        let way = Way {
                            decodes_slashes,
                            splits_at_backslash,
                            merges_slashes,
                            cuts_parameters,
                            keeps_end,
                        };
                        readings.push(reading(path, way));
                    }
                }
            }
        }
    }
    readings
}

/// The path as somebody sees it who decodes escapes and resolves dot segments (RFC 3986 §5.2.4).
fn reading(path: &[u8], way: Way) -> Reading {
    let decoded = if way.decodes_slashes { decode(path) } else { decode_but_slashes(path) };
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut depth_min = None;
    let mut open_end = false;
    for segment in decoded.split(|byte| *byte == b'/' || way.splits_at_backslash && *byte == b'\\').skip(1) {
        let name = match memchr::memchr(b';', segment) {
            Some(end) if way.cuts_parameters => &segment[..end],
            _ => segment,
        };
        open_end = matches!(name, b"." | b"..") || name.is_empty() && way.merges_slashes == Merge::First;
        match name {
            b"" if way.merges_slashes == Merge::First => {}
            b"." => {}
            b".." => {
                let depth = segments.len() as i64 - 1;
                depth_min = Some(depth_min.map_or(depth, |min: i64| min.min(depth)));
                segments.pop();
            }
            _ => segments.push(name),
        }
    }
    if open_end && way.keeps_end {
        segments.push(b"");
    }
    if way.merges_slashes == Merge::Last {
        let has_end = segments.pop_if(|last| last.is_empty()).is_some();
        segments.retain(|segment| !segment.is_empty());
        segments.extend(has_end.then_some(&b""[..]));
    }
    let mut path = Vec::with_capacity(decoded.len());
    for segment in segments {
        path.push(b'/');
        path.extend_from_slice(segment);
    }
    if path.is_empty() {
        path.push(b'/');
    }
    Reading { path, depth_min }
}

/// Without percent-encoding. What is none stays.
pub(super) fn decode(path: &[u8]) -> Vec<u8> {
    decode_unless(path, |_| false)
}

/// The same, with escaped slashes left as they are.
fn decode_but_slashes(path: &[u8]) -> Vec<u8> {
    decode_unless(path, |byte| matches!(byte, b'/' | b'\\'))
}

fn decode_unless(path: &[u8], stays: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => {
                digit(*high).zip(digit(*low)).map(|(high, low)| high << 4 | low).filter(|byte| !stays(*byte))
            }
            _ => None,
        };
        match escaped {
            Some(byte) => {
                decoded.push(byte);
                rest = &rest[3..];
            }
            None => {
                decoded.push(*first);
                rest = after;
            }
        }
    }
    decoded
}

fn digit(letter: u8) -> Option<u8> {
    (letter as char).to_digit(16).map(|digit| digit as u8)
}
