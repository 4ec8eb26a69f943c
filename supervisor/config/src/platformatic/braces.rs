//! Placeholders as Platformatic has them: `{NAME}` or `{{NAME}}`, anywhere in a text, without defaults and without a way to write a brace.
//!
//! They are not filled in here but written as watt writes them, so that `config show` says which variable a value is from, an unset one is
//! reported with its place, and `wattctl migrate` keeps them.

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'t> {
    /// What stands for itself.
    Text(&'t str),
    /// A variable.
    Variable(&'t str),
}

/// The parts of a text.
pub(super) fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    while let Some(found) = text[at..].find('{') {
        let open = at + found;
        match variable(&text[open..]) {
            Some((name, length)) => {
                if start < open {
                    parts.push(Part::Text(&text[start..open]));
                }
                parts.push(Part::Variable(name));
                at = open + length;
                start = at;
            }
            None => at = open + 1,
        }
    }
    if start < text.len() {
        parts.push(Part::Text(&text[start..]));
    }
    parts
}

/// The variable that a text begins with, and how long the placeholder is.
fn variable(text: &str) -> Option<(&str, usize)> {
    let inner = text.strip_prefix("{{").or_else(|| text.strip_prefix('{'))?;
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    let (name, rest) = inner.split_at(end);
    let closing = if rest.starts_with("}}") { 2 } else { usize::from(rest.starts_with('}')) };
    // A count in a regular expression (`\d{2}`) is no variable's name anywhere but there.
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    (is_name && closing > 0).then(|| (name, text.len() - rest.len() + closing))
}

/// A text that stands for itself, in watt's notation: a brace that would begin a placeholder is doubled, and so is the one that closes it.
pub(super) fn escaped(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    let mut open = 0_usize;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let next = chars.peek().copied();
        match c {
            '{' if next.is_some_and(|next| next == '{' || next.is_ascii_alphabetic() || next == '_') => {
                written.push_str("{{");
                open += 1;
            }
            '}' if open > 0 => {
                written.push_str("}}");
                open -= 1;
            }
            c => written.push(c),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::placeholder::{Variables, expand};

    #[test]
    fn variables_of_one_or_two_braces() {
        use Part::{Text, Variable};
        assert_eq!(parts("{PORT}"), [Variable("PORT")]);
        assert_eq!(parts("{{PORT}}"), [Variable("PORT")]);
        assert_eq!(parts("a{A}b{{b_2}}c"), [Text("a"), Variable("A"), Text("b"), Variable("b_2"), Text("c")]);
        assert_eq!(parts(r#"{"a": {"b": 1}}"#), [Text(r#"{"a": {"b": 1}}"#)]);
        assert_eq!(parts(r"\d{2} {a b} {"), [Text(r"\d{2} {a b} {")]);
        assert_eq!(parts(""), []);
    }

    #[test]
    fn a_text_stays_what_it_is() {
        let env = BTreeMap::new();
        let variables = Variables { env: &env, dotenv: BTreeMap::new(), root: "/srv".into() };
        for text in [
            "{PORT}",
            "{a b}",
            "{{x}}",
            r#"{"a":{"b":{}}}"#,
            "\\d{2}",
            "{",
            "}",
            "a{b{c}d}e",
            "}}{a}}",
            "{a}}",
        ] {
            let filled = expand(&escaped(text), &variables, &[]).map(|expanded| expanded.text);
            assert_eq!(
                filled.as_deref().map_err(|error| format!("{error:?}")),
                Ok(text),
                "{}",
                escaped(text)
            );
        }
    }
}
