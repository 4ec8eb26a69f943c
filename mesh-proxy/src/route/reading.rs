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

/// Every reading of a path.
pub(super) fn readings(path: &[u8]) -> impl Iterator<Item = Reading> {
    let ways = [(false, false), (false, true), (true, false), (true, true)];
    ways.into_iter().map(|(merge_slashes, cut_parameters)| reading(path, merge_slashes, cut_parameters))
}

/// The path as somebody sees it who decodes escapes, takes `\` for `/` and resolves dot segments.
fn reading(path: &[u8], merge_slashes: bool, cut_parameters: bool) -> Reading {
    let decoded = decode(path);
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut depth_min = None;
    for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')).skip(1) {
        let name = match memchr::memchr(b';', segment) {
            Some(end) if cut_parameters => &segment[..end],
            _ => segment,
        };
        match name {
            b"" if merge_slashes => {}
            b"." => {}
            b".." => {
                let depth = segments.len() as i64 - 1;
                depth_min = Some(depth_min.map_or(depth, |min: i64| min.min(depth)));
                segments.pop();
            }
            _ => segments.push(name),
        }
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
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let [first, after @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => digit(*high).zip(digit(*low)),
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
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
