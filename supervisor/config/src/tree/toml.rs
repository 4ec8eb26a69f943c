//! TOML into a tree.

use std::{ops::Range, rc::Rc};

use toml::{
    Spanned,
    de::{DeTable, DeValue, Error},
};

use super::{DEPTH_MAX, Entry, Key, NODES_MAX, Node, Value, duplicate, too_deep, too_many_nodes};
use crate::{
    report::{Problem, Problems},
    scalar::quote,
    source::Span,
};

/// Up to this size all syntax errors are collected, beyond it only the first: the parser keeps each one, and a file of
/// nothing but errors has one for every few bytes.
const RECOVER_BYTES_MAX: usize = 64 << 10;

/// The largest TOML text. The parser makes a list of all its tokens first, which takes up to eighty times the text.
const TOML_BYTES_MAX: usize = 1 << 20;

/// Reads a TOML text.
pub(super) fn read(text: &str, problems: &mut Problems) -> Option<Rc<Node>> {
    if text.len() > TOML_BYTES_MAX {
        let message = format!("too large for TOML: more than {} MiB", TOML_BYTES_MAX >> 20);
        problems.push(Problem::new(Span::default(), message).hint("write it in YAML or JSON"));
        return None;
    }
    let root = match DeTable::parse(text) {
        Ok(root) => root,
        Err(first) => {
            for problem in syntax_problems(text, first) {
                problems.push(problem);
            }
            return None;
        }
    };
    let mut reader = Reader { text, problems, nodes: 0 };
    let span = reader.span(root.span());
    reader.table(root.into_inner(), span, 0)
}

/// All syntax errors of a text that is small enough, else the first.
fn syntax_problems(text: &str, first: Error) -> Vec<Problem> {
    if text.len() > RECOVER_BYTES_MAX {
        return vec![problem(text, &first, None)];
    }
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut search = FirstPlaces { text, table: table.get_ref(), tries_left: TRIES_MAX };
    let problems = errors.iter().map(|error| problem(text, error, Some(&mut search))).collect();
    dismantle(DeValue::Table(table.into_inner()));
    problems
}

/// Drops a value without recursion: the parser bounds each way of nesting by itself, which inside each other makes thousands
/// of levels.
fn dismantle(value: DeValue<'_>) {
    let mut rest = vec![value];
    while let Some(value) = rest.pop() {
        match value {
            DeValue::Table(table) => rest.extend(table.into_iter().map(|(_, value)| value.into_inner())),
            DeValue::Array(items) => rest.extend(items.into_iter().map(Spanned::into_inner)),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }
}

/// A syntax error; `search` finds the first place of a duplicate key.
fn problem(text: &str, error: &Error, search: Option<&mut FirstPlaces<'_>>) -> Problem {
    let span = span_in(text, error.span().unwrap_or_default());
    match error.message() {
        "duplicate key" => {
            let key = Key { text: text[span.start..span.end].trim_matches(['"', '\'']).to_owned(), span };
            match search.and_then(|search| search.first_of(&key)) {
                Some(first) => duplicate(&key, first),
                None => Problem::new(span, format!("{} is written twice", quote(&key.text)))
                    .hint("keep one of them"),
            }
        }
        "recursion limit" => too_deep(span),
        message => Problem::new(span, message),
    }
}

/// How often a text is read again to find the first places of all its duplicate keys.
const TRIES_MAX: usize = 32;

/// The search for where a duplicate key was written first. The parser knows and does not say, so it is tried: the place is
/// the one without which the key is no duplicate.
struct FirstPlaces<'a> {
    text: &'a str,
    /// What could be read beside the errors.
    table: &'a DeTable<'a>,
    /// How many more tries the text gets. Later duplicates are reported without their first place.
    tries_left: usize,
}

impl FirstPlaces<'_> {
    fn first_of(&mut self, duplicate: &Key) -> Option<Span> {
        if self.tries_left == 0 {
            return None;
        }
        let places = places_of(&duplicate.text, self.table).into_iter();
        let mut places: Vec<Span> = places.map(|place| span_in(self.text, place)).collect();
        places.retain(|place| place.end <= duplicate.span.start);
        places.sort_unstable();
        places.into_iter().rev().map_while(|place| self.try_place(duplicate, place)).flatten().next()
    }

    /// `None` when there are no tries left, `Some(None)` when it is not this place.
    fn try_place(&mut self, duplicate: &Key, place: Span) -> Option<Option<Span>> {
        self.tries_left = self.tries_left.checked_sub(1)?;
        let mut changed = self.text.to_owned();
        changed.replace_range(place.start..place.end, &"_".repeat(place.end - place.start));
        let (table, errors) = DeTable::parse_recoverable(&changed);
        dismantle(DeValue::Table(table.into_inner()));
        let is_duplicate_still = errors.iter().any(|error| {
            error.message() == "duplicate key"
                && span_in(self.text, error.span().unwrap_or_default()) == duplicate.span
        });
        Some((!is_duplicate_still).then_some(place))
    }
}

/// Every place of a key of this name, at any depth.
fn places_of(name: &str, table: &DeTable<'_>) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut tables = vec![table];
    while let Some(table) = tables.pop() {
        for (key, value) in table.iter() {
            if key.get_ref() == name {
                places.push(key.span());
            }
            let mut values = vec![value.get_ref()];
            while let Some(value) = values.pop() {
                match value {
                    DeValue::Table(table) => tables.push(table),
                    DeValue::Array(items) => values.extend(items.iter().map(Spanned::get_ref)),
                    _ => {}
                }
            }
        }
    }
    places
}

fn span_in(text: &str, range: Range<usize>) -> Span {
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
    fn span(&self, range: Range<usize>) -> Span {
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
                if !self.is_shallow(depth, span) {
                    dismantle(DeValue::Array(items));
                    return None;
                }
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
        if !self.is_shallow(depth, span) {
            dismantle(DeValue::Table(table));
            return None;
        }
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

    /// Whether a list or table may be this deep; else the problem is noted.
    fn is_shallow(&mut self, depth: usize, span: Span) -> bool {
        if depth > DEPTH_MAX {
            self.problems.push(too_deep(span));
        }
        depth <= DEPTH_MAX
    }
}
