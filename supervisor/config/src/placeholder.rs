//! `{NAME}`, `{NAME:-default}` and `{NAME:?message}` in values.
//!
//! A placeholder is a brace with a name directly behind it; any other brace is text, so JSON in a value needs no escape.
//! `{{` is a brace where one would start a placeholder, and closes with `}}`: `{{NAME}}` is the text `{NAME}`. As in a shell,
//! `:-` and `:?` treat an empty variable as unset. What a variable holds is not looked at again.

use std::{collections::BTreeMap, ops::Range};

use crate::{dotenv::Variable, source::Span};

/// The longest value: what Linux takes for one argument or variable (MAX_ARG_STRLEN, execve(2)).
const VALUE_BYTES_MAX: usize = 128 << 10;

/// How deep defaults may contain placeholders.
const DEPTH_MAX: usize = 8;

/// The placeholders of a worker's own values. They stay in commands and environments; the daemon fills them in.
pub(crate) const PER_WORKER: &[&str] = &["socket", "port"];

/// The variables placeholders can name.
pub(crate) struct Variables<'a> {
    /// The environment, which wins.
    pub(crate) env: &'a BTreeMap<String, String>,
    /// The `.env` file.
    pub(crate) dotenv: BTreeMap<String, Variable>,
    /// `{WATT_ROOT}`: the folder of the configuration file.
    pub(crate) root: String,
}

/// Where a variable's value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Environment,
    DotEnv(Span),
    /// `WATT_ROOT`, which is ours.
    Root,
}

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<(&str, Origin)> {
        if name == "WATT_ROOT" {
            return Some((&self.root, Origin::Root));
        }
        if let Some(value) = self.env.get(name) {
            return Some((value, Origin::Environment));
        }
        self.dotenv.get(name).map(|variable| (variable.value.as_str(), Origin::DotEnv(variable.span)))
    }

    /// The names, for suggestions.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.dotenv.keys().chain(self.env.keys()).map(String::as_str)
    }
}

/// A value with its placeholders filled in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// The variables that were used, in order.
    pub(crate) used: Vec<(String, Origin)>,
}

/// Why a value could not be expanded, and which bytes of it are to blame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ExpandError {
    pub(crate) range: Range<usize>,
    pub(crate) reason: Reason,
}

/// See [`ExpandError`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The variable is not set and there is no default.
    Unset(String),
    /// The variable is not set, and `:?` says what to do.
    Required { name: String, message: String },
    /// A `{` with a name, but without the rest of a placeholder.
    Malformed,
    /// The value grew beyond [`VALUE_BYTES_MAX`].
    TooLong,
    /// Placeholders inside defaults inside defaults.
    TooDeep,
}

/// Fills in the placeholders of a value. Names in `kept` stay as they are.
pub(crate) fn expand(text: &str, variables: &Variables<'_>, kept: &[&str]) -> Result<Expanded, ExpandError> {
    let mut expanded = Expanded::default();
    expand_into(&mut expanded, text, 0, variables, kept, 0)?;
    Ok(expanded)
}

/// `offset` is where `text` starts in the whole value.
fn expand_into(
    out: &mut Expanded,
    text: &str,
    offset: usize,
    variables: &Variables<'_>,
    kept: &[&str],
    depth: usize,
) -> Result<(), ExpandError> {
    let fail =
        |range: Range<usize>, reason| ExpandError { range: offset + range.start..offset + range.end, reason };
    if depth > DEPTH_MAX {
        return Err(fail(0..text.len(), Reason::TooDeep));
    }
    let mut escaped_open = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if out.text.len() > VALUE_BYTES_MAX {
            return Err(fail(0..text.len(), Reason::TooLong));
        }
        if rest.starts_with("{{") {
            out.text.push('{');
            escaped_open += 1;
            at += 2;
        } else if escaped_open > 0 && rest.starts_with("}}") {
            out.text.push('}');
            escaped_open -= 1;
            at += 2;
        } else if starts_placeholder(rest) {
            let length = placeholder_length(rest).ok_or_else(|| fail(at..text.len(), Reason::Malformed))?;
            let inner = &rest[1..length - 1];
            let range = at..at + length;
            let (name, rule) = parse(inner).ok_or_else(|| fail(range.clone(), Reason::Malformed))?;
            if kept.contains(&name) && rule == Rule::Plain {
                out.text.push_str(&rest[..length]);
            } else {
                match (variables.get(name), rule) {
                    (Some((value, origin)), rule) if rule == Rule::Plain || !value.is_empty() => {
                        out.text.push_str(value);
                        out.used.push((name.to_owned(), origin));
                    }
                    (_, Rule::Default(default)) => {
                        let start = offset + at + 1 + name.len() + ":-".len();
                        expand_into(out, default, start, variables, kept, depth + 1)?;
                    }
                    (_, Rule::Required(message)) => {
                        let message = message.to_owned();
                        return Err(fail(range, Reason::Required { name: name.to_owned(), message }));
                    }
                    (_, Rule::Plain) => return Err(fail(range, Reason::Unset(name.to_owned()))),
                }
            }
            at += length;
        } else {
            // The first character is taken whatever it is: a brace that starts nothing is text.
            let first = rest.chars().next().map_or(1, char::len_utf8);
            let next = rest[first..].find(['{', '}']).map_or(rest.len(), |index| first + index);
            out.text.push_str(&rest[..next]);
            at += next;
        }
    }
    if out.text.len() > VALUE_BYTES_MAX {
        return Err(fail(0..text.len(), Reason::TooLong));
    }
    Ok(())
}

/// Whether a placeholder starts here: a brace and a name's first character.
pub(crate) fn starts_placeholder(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next() == Some(b'{') && bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
}

/// How long the placeholder at the start of `text` is, its braces and those inside included.
pub(crate) fn placeholder_length(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(index + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// What to do when the variable is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule<'a> {
    Plain,
    Default(&'a str),
    Required(&'a str),
}

fn parse(inner: &str) -> Option<(&str, Rule<'_>)> {
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
    let (name, rest) = inner.split_at(end);
    let rule = match rest {
        "" => Rule::Plain,
        _ => match rest.split_at_checked(2)? {
            (":-", default) => Rule::Default(default),
            (":?", message) => Rule::Required(message),
            _ => return None,
        },
    };
    Some((name, rule))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, Reason>) {
        let env = BTreeMap::from([
            ("PORT".to_owned(), "3042".to_owned()),
            ("EMPTY".to_owned(), String::new()),
            ("SELF".to_owned(), "{SELF}".to_owned()),
        ]);
        let variable = |value: &str| Variable { value: value.to_owned(), span: Span::default() };
        let dotenv =
            BTreeMap::from([("PORT".to_owned(), variable("1")), ("FROM_FILE".to_owned(), variable("file"))]);
        let variables = Variables { env: &env, dotenv, root: "/srv".to_owned() };
        let got = expand(text, &variables, PER_WORKER);
        assert_eq!(
            got.as_ref().map(|e| e.text.as_str()).map_err(|e| &e.reason),
            expected.as_ref().copied(),
            "{text}"
        );
    }

    #[test]
    fn placeholders() {
        check("{PORT}", Ok("3042"));
        check("a{PORT}b{FROM_FILE}c", Ok("a3042bfilec"));
        check("{WATT_ROOT}/x", Ok("/srv/x"));
        check("{EMPTY}", Ok(""));
        check("{NONE:-}", Ok(""));
        check("{NONE:-d}{EMPTY:-e}{PORT:-f}", Ok("de3042"));
        check("{NONE:-{PORT}/{NO:-x}}", Ok("3042/x"));
        check("{SELF}", Ok("{SELF}"));
        check("{NONE}", Err(Reason::Unset("NONE".into())));
        check("{EMPTY:?say}", Err(Reason::Required { name: "EMPTY".into(), message: "say".into() }));
    }

    #[test]
    fn braces_that_are_text() {
        check(r#"{"a":{"b":1}}"#, Ok(r#"{"a":{"b":1}}"#));
        check("\\d{2}{ }{}", Ok("\\d{2}{ }{}"));
        check("{{PORT}}", Ok("{PORT}"));
        check("{{{PORT}}}", Ok("{3042}"));
        check("{{{{.Name}}}}", Ok("{{.Name}}"));
        check("é{PORT}é", Ok("é3042é"));
        check("{PORT", Err(Reason::Malformed));
        check("{a b}", Err(Reason::Malformed));
        check("{a:é}", Err(Reason::Malformed));
    }

    #[test]
    fn a_workers_own_values_are_kept() {
        check("--port={port} {socket}", Ok("--port={port} {socket}"));
    }

    #[test]
    fn growth_and_depth_are_bounded() {
        let deep = format!("{}x{}", "{N:-".repeat(50), "}".repeat(50));
        check(&deep, Err(Reason::TooDeep));
        check(&"{WATT_ROOT}".repeat(100_000), Err(Reason::TooLong));
    }
}
