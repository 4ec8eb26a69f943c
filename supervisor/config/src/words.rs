//! A command written as one string, split the way a shell splits it. No shell runs: what only a shell could do is
//! refused, so that it is not passed to the program as an odd argument.

use crate::placeholder::{placeholder_length, starts_placeholder};

/// Why a command could not be split.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SplitError {
    /// This quote has no end.
    Unclosed(char),
    /// A backslash is the last character.
    TrailingBackslash,
    /// This would need a shell: `&&`, `|`, `>` …
    Operator(char),
    /// `$NAME`: a shell would fill it in, we do it with braces.
    Dollar,
    /// `NAME=value` before the program.
    Assignment(String),
}

/// Splits a command. Quotes and backslashes work as in sh(1); a placeholder is one piece whatever is in it.
pub(crate) fn split(text: &str) -> Result<Vec<String>, SplitError> {
    let mut words = Vec::new();
    // `None` between words; an empty pair of quotes makes an empty word.
    let mut word: Option<String> = None;
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let mut length = c.len_utf8();
        match c {
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            '\'' => {
                let end = rest[1..].find('\'').ok_or(SplitError::Unclosed('\''))?;
                word.get_or_insert_default().push_str(&rest[1..=end]);
                length = end + 2;
            }
            '"' => length = double_quoted(rest, word.get_or_insert_default())?,
            '\\' => {
                let next = rest[1..].chars().next().ok_or(SplitError::TrailingBackslash)?;
                length += next.len_utf8();
                // A backslash before a line break joins the lines.
                if next != '\n' {
                    word.get_or_insert_default().push(next);
                }
            }
            '|' | '&' | ';' | '<' | '>' | '`' | '(' | ')' => return Err(SplitError::Operator(c)),
            '$' if is_shell_variable(rest) => return Err(SplitError::Dollar),
            '{' if starts_placeholder(rest) => {
                length = placeholder_length(rest).unwrap_or(rest.len());
                word.get_or_insert_default().push_str(&rest[..length]);
            }
            c => word.get_or_insert_default().push(c),
        }
        at += length;
    }
    words.extend(word);
    match words.first().and_then(|first| first.split_once('=')) {
        Some((name, _)) if crate::dotenv::is_name(name) => Err(SplitError::Assignment(name.to_owned())),
        _ => Ok(words),
    }
}

/// The part in double quotes at the start of `text`; gives its length.
fn double_quoted(text: &str, word: &mut String) -> Result<usize, SplitError> {
    let mut at = 1;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        match c {
            '"' => return Ok(at + 1),
            '\\' => match rest[1..].chars().next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => {
                    word.push(escaped);
                    at += 1;
                }
                Some('\n') => at += 1,
                _ => word.push('\\'),
            },
            '$' if is_shell_variable(rest) => return Err(SplitError::Dollar),
            '`' => return Err(SplitError::Operator('`')),
            '{' if starts_placeholder(rest) => {
                let length = placeholder_length(rest).unwrap_or(rest.len());
                word.push_str(&rest[..length]);
                at += length;
                continue;
            }
            c => word.push(c),
        }
        at += c.len_utf8();
    }
    Err(SplitError::Unclosed('"'))
}

fn is_shell_variable(text: &str) -> bool {
    text[1..].starts_with(|c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '{' | '(' | '@' | '*' | '?' | '$' | '#')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&[&str], SplitError>) {
        let expected = expected.map(|words| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(split(text), expected, "{text}");
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        check("  node   server.js\n--x ", Ok(&["node", "server.js", "--x"]));
        check(r#"a 'b c' "d \" e" f\ g"#, Ok(&["a", "b c", "d \" e", "f g"]));
        check(r#"a ''"" b"#, Ok(&["a", "", "b"]));
        check(r#"a'b'"c"d"#, Ok(&["abcd"]));
        check(r"a \é é\\", Ok(&["a", "é", "é\\"]));
        check("a \\\n b", Ok(&["a", "b"]));
        check("run {NAME:?say it now} \"{A:-\"x\"}\"", Ok(&["run", "{NAME:?say it now}", "{A:-\"x\"}"]));
        check("price 5$ a=b", Ok(&["price", "5$", "a=b"]));
        check("", Ok(&[]));
    }

    #[test]
    fn what_needs_a_shell_is_refused() {
        check("a && b", Err(SplitError::Operator('&')));
        check("a > b", Err(SplitError::Operator('>')));
        check("echo \"$HOME\"", Err(SplitError::Dollar));
        check("echo '$HOME' '&&'", Ok(&["echo", "$HOME", "&&"]));
        check("A=1 node x", Err(SplitError::Assignment("A".into())));
        check("a 'b", Err(SplitError::Unclosed('\'')));
        check("a \"b", Err(SplitError::Unclosed('"')));
        check("a \\", Err(SplitError::TrailingBackslash));
    }
}
