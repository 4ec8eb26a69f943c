//! TOML into a tree.

use std::rc::Rc;

use toml::{
    Spanned,
    de::{DeTable, DeValue, Error},
};

use super::{DEPTH_MAX, Entry, Key, NODES_MAX, Node, Value, too_deep, too_many_nodes};
use crate::{
    report::{Problem, Problems},
    source::Span,
};

/// Up to this size all syntax errors are collected, beyond it only the first: the parser keeps each one, and a file of
/// nothing but errors has one for every few bytes.
const RECOVER_BYTES_MAX: usize = 64 << 10;

/// Reads a TOML text.
pub(super) fn read(text: &str, problems: &mut Problems) -> Option<Rc<Node>> {
    let root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(_) if text.len() <= RECOVER_BYTES_MAX => {
            for error in DeTable::parse_recoverable(text).1 {
                problems.push(problem(text, &error));
            }
            return None;
        }
        Err(error) => {
            problems.push(problem(text, &error));
            return None;
        }
    };
    let mut reader = Reader { text, problems, nodes: 0 };
    let span = reader.span(root.span());
    reader.table(root.into_inner(), span, 0)
}

fn problem(text: &str, error: &Error) -> Problem {
    let span = span_in(text, error.span().unwrap_or_default());
    let problem = Problem::new(span, error.message());
    match error.message() {
        "duplicate key" => Problem::new(
            span,
            format!("{} is written twice", crate::scalar::quote(&text[span.start..span.end])),
        )
        .hint("keep one of them"),
        "recursion limit" => too_deep(span),
        _ => problem,
    }
}

fn span_in(text: &str, range: std::ops::Range<usize>) -> Span {
    let start = text.floor_char_boundary(range.start.min(text.len()));
    let end = text.floor_char_boundary(range.end.clamp(start, text.len()));
    Span { start, end }
}

struct Reader<'a> {
    text: &'a str,
    problems: &'a mut Problems,
    nodes: usize,
}

impl Reader<'_> {
    fn span(&self, range: std::ops::Range<usize>) -> Span {
        span_in(self.text, range)
    }

    fn node(&mut self, value: Spanned<DeValue<'_>>, depth: usize) -> Option<Rc<Node>> {
        let span = self.span(value.span());
        let unquoted = |text: String| Value::Scalar { text, quoted: false };
        let value = match value.into_inner() {
            DeValue::String(text) => Value::Scalar { text: text.into_owned(), quoted: true },
            DeValue::Integer(number) if number.radix() == 10 => unquoted(number.as_str().replace('_', "")),
            DeValue::Integer(number) => match u64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => unquoted(number.to_string()),
                Err(_) => unquoted(number.to_string()),
            },
            DeValue::Float(number) => unquoted(number.as_str().replace('_', "")),
            DeValue::Boolean(value) => unquoted(value.to_string()),
            DeValue::Datetime(time) => unquoted(time.to_string()),
            DeValue::Array(items) => {
                self.check_depth(depth, span)?;
                let mut list = Vec::with_capacity(items.len());
                for item in items {
                    list.push(self.node(item, depth + 1)?);
                }
                Value::List(list)
            }
            DeValue::Table(table) => return self.table(table, span, depth),
        };
        self.count(span)?;
        Some(Rc::new(Node::new(span, value)))
    }

    fn table(&mut self, table: DeTable<'_>, span: Span, depth: usize) -> Option<Rc<Node>> {
        self.check_depth(depth, span)?;
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            self.count(span)?;
            let key = Key { span: self.span(key.span()), text: key.into_inner().into_owned() };
            entries.push(Entry { key, node: self.node(value, depth + 1)? });
        }
        // The parser's tables are sorted by name.
        entries.sort_by_key(|entry| entry.key.span.start);
        Some(Rc::new(Node::new(span, Value::Map(entries))))
    }

    fn count(&mut self, span: Span) -> Option<()> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            self.problems.push(too_many_nodes(span));
            return None;
        }
        Some(())
    }

    fn check_depth(&mut self, depth: usize, span: Span) -> Option<()> {
        if depth > DEPTH_MAX {
            self.problems.push(too_deep(span));
            return None;
        }
        Some(())
    }
}
