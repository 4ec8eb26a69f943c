//! Output of services on the operator's terminal. A service may print escape sequences that move the cursor,
//! change the title or worse; colours are kept, everything else that a terminal would obey is shown as text.

use std::fmt::Write;

/// The text with every control character but tab shown as `\x1b` and the like. Sequences that only set colours
/// (`ESC [ digits and semicolons m`, ECMA-48 §8.3.117) are kept when `colours` is set and dropped otherwise.
pub fn line(text: &str, colours: bool) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\t') {
        safe.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(length) = colour_sequence(rest) {
            if colours {
                safe.push_str(&rest[..length]);
            }
            rest = &rest[length..];
            continue;
        }
        let control = rest.chars().next().unwrap_or_default();
        // Carriage returns at the end of lines are common and mean nothing here.
        if !(control == '\r' && rest.len() == 1) {
            let _ = write!(safe, "{}", control.escape_default());
        }
        rest = &rest[control.len_utf8()..];
    }
    safe.push_str(rest);
    safe
}

fn colour_sequence(text: &str) -> Option<usize> {
    let body = text.strip_prefix("\x1b[")?;
    let end = body.find(|c: char| !(c.is_ascii_digit() || c == ';'))?;
    (end <= 32 && body[end..].starts_with('m')).then_some(2 + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_cannot_drive_the_terminal() {
        let check = |text: &str, colours: bool, expected: &str| assert_eq!(line(text, colours), expected);
        check("plain\ttext", true, "plain\ttext");
        check("\x1b[31mred\x1b[0m", true, "\x1b[31mred\x1b[0m");
        check("\x1b[31mred\x1b[0m", false, "red");
        check("\x1b]0;title\x07", true, "\\u{1b}]0;title\\u{7}");
        check("\x1b[2J\x1b[H", true, "\\u{1b}[2J\\u{1b}[H");
        check("bar\r", true, "bar");
        check("10%\r20%", true, "10%\\r20%");
        check("\u{9b}31m", true, "\\u{9b}31m");
        check("\x1b[", true, "\\u{1b}[");
    }
}
