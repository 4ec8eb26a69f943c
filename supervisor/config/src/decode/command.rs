//! A service's command: a list, or text that is split as a shell would.

use std::borrow::Cow;

use serde_json::json;

use super::fields::{Field, Fields};
use crate::{
    report::Problem,
    scalar::quote,
    show::Shown,
    source::Span,
    tree::Value,
    words::{SplitError, split},
};

/// Decodes the command of this key, in which these placeholders stay. Empty when it is wrong, which is noted.
pub(super) fn decode(
    f: &mut Fields<'_, '_, '_>,
    key: &'static str,
    field: Field<'_>,
    kept: &[&str],
) -> Vec<String> {
    // Split first, filled in afterwards: a value with a space stays one argument.
    let words = match &field.node.value {
        Value::Scalar { text, .. } => match split(text) {
            Ok(words) => words.into_iter().map(|word| (Cow::Owned(word), field.node.span)).collect(),
            Err(error) => {
                f.d.problem(split_problem(&error, key, text, field.node.span));
                return Vec::new();
            }
        },
        Value::List(items) => {
            let scalars = items.iter().filter_map(|item| match &item.value {
                Value::Scalar { text, .. } => Some((Cow::Borrowed(text.as_str()), item.span)),
                Value::Null | Value::List(_) | Value::Map(_) => {
                    let message = format!("an argument is text, and this is {}", item.kind());
                    f.d.problem(Problem::new(item.span, message).hint("put it into quotes"));
                    None
                }
            });
            scalars.collect::<Vec<(Cow<'_, str>, Span)>>()
        }
        Value::Null | Value::Map(_) => {
            let message = format!("{} is text or a list, and this is {}", quote(key), field.node.kind());
            let hint = f.example(key);
            f.d.problem(Problem::new(field.at(), message).hint(hint));
            return Vec::new();
        }
    };
    let mut arguments = Vec::with_capacity(words.len());
    let mut from = f.d.files.short(field.node.span);
    for (word, span) in words {
        if f.d.problems.is_full() {
            break;
        }
        if let Some(text) = f.d.expand(&word, span, kept) {
            if !text.variables.is_empty() {
                from = format!("{from}, {}", text.variables);
            }
            arguments.push(text.text);
        }
    }
    if arguments.first().is_none_or(String::is_empty) {
        let hint = f.example(key);
        f.d.problem(Problem::new(field.at(), "a command without a program").hint(hint));
    }
    f.show(key, Shown::Leaf { value: json!(arguments), from, span: Some(field.node.span) });
    arguments
}

fn split_problem(error: &SplitError, key: &str, text: &str, span: Span) -> Problem {
    let through_shell = || format!("quote it, or run a shell: `{key}: [sh, -c, {}]`", json!(text));
    let (message, hint) = match error {
        SplitError::Unclosed(quote) => (format!("the quote {quote} is never closed"), None),
        SplitError::TrailingBackslash => ("a backslash at the end".to_owned(), None),
        SplitError::Operator(c) => {
            (format!("{} is for a shell, and no shell is run", quote(&c.to_string())), Some(through_shell()))
        }
        SplitError::Dollar => (
            "`$` is for a shell, and no shell is run".to_owned(),
            Some("write `{NAME}` for a variable, or put the word into single quotes".to_owned()),
        ),
        SplitError::Assignment(name) => (
            "a variable before the program is for a shell, and no shell is run".to_string(),
            Some(format!("write {} into `env`", quote(name))),
        ),
    };
    Problem::new(span, message).maybe_hint(hint)
}
