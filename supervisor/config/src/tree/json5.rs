//! JSON5 as YAML reads it.

/// The text with spaces in the place of comments. The bytes of everything else stay where they are.
pub(super) fn without_comments(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match (bytes[at], bytes.get(at + 1)) {
            (quote @ (b'"' | b'\''), _) => {
                at = end_of_string(&bytes, at, quote);
                continue;
            }
            (b'/', Some(b'/')) => position(&bytes, at, |rest| rest.first() == Some(&b'\n')),
            (b'/', Some(b'*')) => {
                (position(&bytes, at + 2, |rest| rest.starts_with(b"*/")) + 2).min(bytes.len())
            }
            _ => {
                at += 1;
                continue;
            }
        };
        for byte in &mut bytes[at..end] {
            // Lines stay, too.
            if !matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        at = end;
    }
    // Comments begin and end with whole characters.
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

fn end_of_string(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

fn position(bytes: &[u8], from: usize, is_it: impl Fn(&[u8]) -> bool) -> usize {
    (from.min(bytes.len())..bytes.len()).find(|at| is_it(&bytes[*at..])).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_spaces() {
        for (text, expected) in [
            ("{a: 1, // b\n c: 2}", "{a: 1,     \n c: 2}"),
            ("{/* \u{e9}\n */a: 1}", "{     \n   a: 1}"),
            (r#"{a: "http://x/*y*/", b: '//\'//'}"#, r#"{a: "http://x/*y*/", b: '//\'//'}"#),
            ("{a: 1} // end", "{a: 1}       "),
            ("/* open", "       "),
            ("\"open", "\"open"),
            ("/", "/"),
        ] {
            let stripped = without_comments(text);
            assert_eq!(stripped, expected);
            assert_eq!(stripped.len(), text.len());
        }
    }
}
