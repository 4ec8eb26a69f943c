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

/// A path as somebody may see it.
pub(super) struct Reading {
    pub(super) path: Vec<u8>,
    /// After a `..`, the number of segments left; the lowest one. `..` at the root leads below it.
    pub(super) depth_min: Option<i64>,
}

/// What readers differ in.
#[derive(Clone, Copy)]
struct Way {
    /// Whether `\`, `%2f` and `%5c` part segments. Some readers resolve dot segments and leave these as they are.
    splits_more: bool,
    merges_slashes: bool,
    cuts_parameters: bool,
    /// Whether a slash is left at the end where an empty or a dot segment was.
    keeps_end: bool,
}

/// Every reading of a path. Readers that cannot differ about this one are asked once.
pub(super) fn readings(path: &[u8]) -> Vec<Reading> {
    let decoded = decode(path);
    let slashes = |text: &[u8]| text.iter().filter(|byte| matches!(byte, b'/' | b'\\')).count();
    let is_slash = |byte: u8| matches!(byte, b'/' | b'\\');
    let after_slash = |is: fn(u8) -> bool| decoded.windows(2).any(|pair| is_slash(pair[0]) && is(pair[1]));
    let either = |differs: bool| if differs { &[true, false][..] } else { &[true][..] };
    let splits = path.contains(&b'\\') || slashes(&decoded) > slashes(path);
    let empty = after_slash(|byte| matches!(byte, b'/' | b'\\' | b';'));
    let dots = after_slash(|byte| byte == b'.');
    let mut readings = Vec::new();
    for splits_more in either(splits) {
        for merges_slashes in either(empty) {
            for cuts_parameters in either(decoded.contains(&b';')) {
                for keeps_end in either(empty || dots) {
                    let (splits_more, merges_slashes) = (*splits_more, *merges_slashes);
                    let (cuts_parameters, keeps_end) = (*cuts_parameters, *keeps_end);
                    readings
                        .push(reading(path, Way { splits_more, merges_slashes, cuts_parameters, keeps_end }));
                }
            }
        }
    }
    readings
}

/// The path as somebody sees it who decodes escapes and resolves dot segments (RFC 3986 §5.2.4).
fn reading(path: &[u8], way: Way) -> Reading {
    let decoded = if way.splits_more { decode(path) } else { decode_but_slashes(path) };
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut depth_min = None;
    let mut open_end = false;
    for segment in decoded.split(|byte| *byte == b'/' || way.splits_more && *byte == b'\\').skip(1) {
        let name = match memchr::memchr(b';', segment) {
            Some(end) if way.cuts_parameters => &segment[..end],
            _ => segment,
        };
        open_end = matches!(name, b"." | b"..") || name.is_empty() && way.merges_slashes;
        match name {
            b"" if way.merges_slashes => {}
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
