//! The `.env` file: `NAME=value` lines, as dotenv programs and shells agree on them.
//!
//! ```text
//! # a comment
//! PLAIN=value            # a comment after white space
//! export EXPORTED=value
//! SINGLE='taken as it is, $ and \n too'
//! DOUBLE="escapes \n \t \" \\ \$ are understood,
//! and lines may follow"
//! ```
//!
//! Nothing is substituted: a value that is read twice must not change.

use std::collections::BTreeMap;

use crate::{
    report::{Place, Problem, Problems},
    scalar::quote,
    source::Span,
};

/// A variable of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    /// Its value.
    pub(crate) value: String,
    /// Where its name is.
    pub(crate) span: Span,
}

/// Reads a `.env` file. Every bad line is a problem; the others are still taken. The last of equal names wins, as in a
/// shell.
pub(crate) fn parse(text: &str, problems: &mut Problems) -> BTreeMap<String, Variable> {
    let mut reader = Reader { text, at: if text.starts_with('\u{feff}') { 3 } else { 0 } };
    let mut variables = BTreeMap::new();
    while reader.at < text.len() {
        let start = reader.at;
        match reader.line() {
            Ok(Some((name, variable))) => {
                variables.insert(name, variable);
            }
            Ok(None) => {}
            Err(problem) => {
                problems.push(problem);
                // A problem inside a quoted value of many lines must not turn each of them into another problem, and
                // one that found no end must not swallow the rest: go on after the line it started on.
                reader.at = start;
                reader.skip_line();
            }
        }
    }
    variables
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    /// One line, or several when a quoted value goes on.
    fn line(&mut self) -> Result<Option<(String, Variable)>, Problem> {
        self.skip_blanks();
        let rest = self.rest();
        if rest.is_empty() || rest.starts_with(['#', '\n', '\r']) {
            self.skip_line();
            return Ok(None);
        }
        if let Some(after) = rest.strip_prefix("export")
            && after.starts_with([' ', '\t'])
        {
            self.at += "export".len();
            self.skip_blanks();
        }
        let (name, span) = self.name()?;
        let value = self.value()?;
        if value.contains('\0') {
            return Err(Problem::new(
                Place::dotenv(span),
                format!("the value of {name} has a NUL character"),
            ));
        }
        Ok(Some((name, Variable { value, span })))
    }

    fn name(&mut self) -> Result<(String, Span), Problem> {
        let start = self.at;
        let line_end = start + self.rest().find('\n').unwrap_or(self.rest().len());
        let line = &self.text[start..line_end];
        let Some(equals) = line.find('=') else {
            let end = start + line.trim_end().len();
            return Err(Problem::new(Place::dotenv(Span { start, end }), "this line has no `=`")
                .hint("a line is NAME=value; a comment starts with `#`"));
        };
        let name = line[..equals].trim_end_matches([' ', '\t']);
        let span = Span { start, end: start + name.len() };
        if !is_name(name) {
            let at = Place::dotenv(if name.is_empty() { Span { start, end: start + 1 } } else { span });
            return Err(Problem::new(at, format!("{} is not a variable's name", quote(name)))
                .hint("a name is made of letters, digits and `_`, and does not start with a digit"));
        }
        self.at = start + equals + 1;
        Ok((name.to_owned(), span))
    }

    fn value(&mut self) -> Result<String, Problem> {
        self.skip_blanks();
        match self.rest().chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let value = self.quoted(quote)?;
                self.end_of_line()?;
                Ok(value)
            }
            _ => Ok(self.plain()),
        }
    }

    /// Up to the end of the line or a `#` after white space.
    fn plain(&mut self) -> String {
        let rest = self.rest();
        let line = &rest[..rest.find('\n').unwrap_or(rest.len())];
        let comment = line.char_indices().find(|(index, c)| {
            *c == '#' && line[..*index].chars().next_back().is_none_or(char::is_whitespace)
        });
        let value = comment.map_or(line, |(index, _)| &line[..index]).trim().to_owned();
        self.skip_line();
        value
    }

    fn quoted(&mut self, quote: char) -> Result<String, Problem> {
        let start = self.at;
        let mut value = String::new();
        let mut chars = self.text[start + 1..].char_indices();
        while let Some((index, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.at = start + 1 + index + 1;
                    return Ok(value);
                }
                '\\' if quote == '"' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 'r')) => value.push('\r'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, c @ ('"' | '\\' | '$' | '`' | '\''))) => value.push(c),
                    // A backslash at the end of a line joins it to the next one.
                    Some((_, '\n')) => {}
                    Some((_, other)) => value.extend(['\\', other]),
                    None => break,
                },
                c => value.push(c),
            }
        }
        let span = Span { start, end: start + 1 };
        Err(Problem::new(Place::dotenv(span), format!("the quote {quote} is never closed")))
    }

    /// After a closing quote only a comment may follow.
    fn end_of_line(&mut self) -> Result<(), Problem> {
        self.skip_blanks();
        let rest = self.rest();
        let line = rest[..rest.find('\n').unwrap_or(rest.len())].trim_end();
        if line.is_empty() || line.starts_with('#') {
            self.skip_line();
            return Ok(());
        }
        let span = Span { start: self.at, end: self.at + line.len() };
        Err(Problem::new(Place::dotenv(span), "text after the closing quote")
            .hint("put the whole value into quotes, or write `#` before a comment"))
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_blanks(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t']).len();
    }

    fn skip_line(&mut self) {
        self.at += self.rest().find('\n').map_or(self.rest().len(), |end| end + 1);
    }
}

/// Whether this can be a variable's name (POSIX, "Environment Variable Definition").
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
