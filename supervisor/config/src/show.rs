//! The effective configuration: every value with the place it came from, as JSON and as text.

use serde_json::{Map, Value};

use crate::source::Span;

/// The origin of a value that nobody wrote.
pub(crate) const DEFAULT: &str = "default";

/// What the origin of a value from a variable says before the variable's name.
pub(crate) const VARIABLE: &str = "variable ";

/// What is shown in place of what may be a secret.
const REDACTED: &str = "<redacted>";

/// A part of the effective configuration.
#[derive(Debug, Clone)]
pub(crate) enum Shown {
    /// A value.
    Leaf {
        value: Value,
        /// Where it came from, in words.
        from: String,
        /// Where it was written, if it was.
        span: Option<Span>,
    },
    List(Vec<Shown>),
    Map(Vec<(String, Shown)>),
}

impl Shown {
    /// A value that nobody wrote.
    pub(crate) fn default_value(value: Value) -> Self {
        Shown::Leaf { value, from: DEFAULT.to_owned(), span: None }
    }

    /// The part at this path of names.
    pub(crate) fn get(&self, path: &[&str]) -> Option<&Shown> {
        let [first, rest @ ..] = path else {
            return Some(self);
        };
        match self {
            Shown::Map(entries) => entries.iter().find(|(name, _)| name == first)?.1.get(rest),
            Shown::Leaf { .. } | Shown::List(_) => None,
        }
    }

    /// Where this was written; of a list or table, where its first written value is.
    pub(crate) fn span(&self) -> Option<Span> {
        match self {
            Shown::Leaf { span, .. } => *span,
            Shown::List(items) => items.iter().find_map(Shown::span),
            Shown::Map(entries) => entries.iter().find_map(|(_, shown)| shown.span()),
        }
    }

    /// Where this value was written first.
    pub(crate) fn find(&self, wanted: &Value) -> Option<Span> {
        match self {
            Shown::Leaf { value, span, .. } => span.filter(|_| value == wanted),
            Shown::List(items) => items.iter().find_map(|item| item.find(wanted)),
            Shown::Map(entries) => entries.iter().find_map(|(_, shown)| shown.find(wanted)),
        }
    }

    /// The same without what may be a secret: values of environments, and those that are made of variables.
    pub(crate) fn redacted(self) -> Shown {
        self.without(|from| from.contains(VARIABLE))
    }

    fn without(self, is_secret: fn(&str) -> bool) -> Shown {
        match self {
            Shown::Leaf { from, span, .. } if is_secret(&from) => {
                Shown::Leaf { value: REDACTED.into(), from, span }
            }
            Shown::Leaf { .. } => self,
            Shown::List(items) => {
                Shown::List(items.into_iter().map(|item| item.without(is_secret)).collect())
            }
            Shown::Map(entries) => {
                let entries = entries.into_iter().map(|(name, shown)| {
                    let is_secret = if name == "env" { |_: &str| true } else { is_secret };
                    (name, shown.without(is_secret))
                });
                Shown::Map(entries.collect())
            }
        }
    }

    /// Tables and lists as they are, each value as `{"value": …, "from": …}`.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Shown::Leaf { value, from, .. } => {
                let fields = [("value".to_owned(), value.clone()), ("from".to_owned(), from.as_str().into())];
                Value::Object(Map::from_iter(fields))
            }
            Shown::List(items) => Value::Array(items.iter().map(Shown::to_json).collect()),
            Shown::Map(entries) => {
                Value::Object(entries.iter().map(|(name, shown)| (name.clone(), shown.to_json())).collect())
            }
        }
    }

    /// YAML with the origins as comments. It reads back as the same configuration, unless a value has text in it that
    /// looks like a placeholder.
    pub(crate) fn to_text(&self) -> String {
        let mut lines = Vec::new();
        self.lines(0, "", &mut lines);
        // Values are long now and then; a comment far to the right helps nobody.
        const COMMENT_COLUMN_MAX: usize = 48;
        let width = |line: &str| line.chars().count();
        let column = lines
            .iter()
            .filter(|(_, from)| from.is_some())
            .map(|(line, _)| width(line) + 2)
            .filter(|column| *column <= COMMENT_COLUMN_MAX)
            .max()
            .unwrap_or(0);
        let mut text = String::new();
        for (line, from) in &lines {
            text += line;
            if let Some(from) = from {
                let pad = column.saturating_sub(width(line)).max(2);
                text += &format!("{}# {from}", " ".repeat(pad));
            }
            text.push('\n');
        }
        text
    }

    /// Lines with their comments. `lead` is what stands before the first line's own text: `key:` or `-`.
    fn lines(&self, indent: usize, lead: &str, lines: &mut Vec<(String, Option<String>)>) {
        let pad = "  ".repeat(indent);
        match self {
            Shown::Leaf { value, from, .. } => {
                lines.push((
                    format!("{pad}{lead} {}", plain_or_json(value)).trim_end().to_owned(),
                    Some(from.clone()),
                ));
            }
            Shown::List(items) if items.is_empty() => lines.push((format!("{pad}{lead} []"), None)),
            Shown::Map(entries) if entries.is_empty() => lines.push((format!("{pad}{lead} {{}}"), None)),
            Shown::List(items) => {
                lines.push((format!("{pad}{lead}"), None));
                for item in items {
                    item.lines(indent + 1, "-", lines);
                }
            }
            Shown::Map(entries) => {
                let inner = if lead.is_empty() { indent } else { indent + 1 };
                if lead == "-" {
                    // `- first: …` with the other keys below the first.
                    let start = lines.len();
                    for (name, shown) in entries {
                        shown.lines(inner, &format!("{}:", key(name)), lines);
                    }
                    if let Some((line, _)) = lines.get_mut(start) {
                        line.replace_range(..inner * 2, &format!("{pad}- "));
                    }
                    return;
                }
                if !lead.is_empty() {
                    lines.push((format!("{pad}{lead}"), None));
                }
                for (name, shown) in entries {
                    shown.lines(inner, &format!("{}:", key(name)), lines);
                }
            }
        }
    }
}

fn key(name: &str) -> String {
    plain_or_json(&Value::String(name.to_owned()))
}

/// A scalar in YAML: words that cannot be taken for anything else without quotes, the rest as JSON, which is YAML too.
fn plain_or_json(value: &Value) -> String {
    match value {
        Value::String(text) => {
            let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
            let reserved = ["", "true", "false", "null", "~"].contains(&text.to_ascii_lowercase().as_str());
            let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/' || c == '_');
            let number_with_unit = text.starts_with(|c: char| c.is_ascii_digit())
                && text.ends_with(|c: char| c.is_ascii_alphabetic())
                && text.parse::<f64>().is_err()
                && text.chars().all(|c| c.is_ascii_alphanumeric())
                && !text.starts_with("0x")
                && !text.starts_with("0o");
            if (starts_well || number_with_unit) && !reserved && text.chars().all(is_word) {
                text.clone()
            } else {
                Value::String(text.clone()).to_string()
            }
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(plain_or_json).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
