//! A configuration file as a tree whose every key and value knows its place, whichever language it was written in.
//!
//! Scalars stay text as written. So `1.10` in an `env` is "1.10" and not 1.1, `no` is a word, a number may come from a
//! placeholder, and it is the decoder that knows what a value is for, and says so when it is something else.

mod json5;
mod toml;
mod yaml;

use std::{path::Path, rc::Rc};

use crate::{
    report::{Problem, Problems},
    scalar::quote,
    source::{FILE_BYTES_MAX, Span, too_large},
};

/// How deep lists and tables may be inside each other. The format needs six levels.
const DEPTH_MAX: usize = 64;

/// How many keys and values a file may have, aliases and merge keys counted as often as they are used. A thousand
/// services have about fifty thousand.
const NODES_MAX: usize = 500_000;

/// How many bytes of text weigh as much as a node, so that [`NODES_MAX`] bounds memory as well: what is written once and used
/// often is copied as often.
const NODE_BYTES: usize = 64;

/// A value and where it is.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) span: Span,
    pub(crate) value: Value,
    /// How many nodes this one is made of, and as how many its texts count, for [`NODES_MAX`].
    weight: usize,
    /// How many lists and tables are inside each other here, for [`DEPTH_MAX`].
    depth: usize,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Value {
    /// Nothing: `~`, `null`, or nothing at all.
    Null,
    /// Text, a number or a truth value.
    Scalar {
        text: String,
        /// Whether it was in quotes, so that it is text whatever it looks like.
        quoted: bool,
    },
    /// A sequence.
    List(Vec<Rc<Node>>),
    /// A mapping, in the order written. Keys are unique.
    Map(Vec<Entry>),
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) node: Rc<Node>,
}

/// A key and where it is.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) text: String,
    pub(crate) span: Span,
}

impl Node {
    /// One made of what it is.
    pub(crate) fn new(span: Span, value: Value) -> Self {
        let (weight, depth) = match &value {
            Value::Null => (1, 0),
            Value::Scalar { text, .. } => (text_weight(text), 0),
            Value::List(items) => Self::measure(items.iter().map(Rc::as_ref), 1),
            Value::Map(entries) => {
                let keys: usize = entries.iter().map(|entry| text_weight(&entry.key.text)).sum();
                Self::measure(entries.iter().map(|entry| entry.node.as_ref()), 1 + keys)
            }
        };
        Node { span, value, weight, depth }
    }

    /// A table made of parts of others.
    pub(crate) fn table(span: Span, entries: Vec<Entry>) -> Self {
        Node::new(span, Value::Map(entries))
    }

    fn measure<'a>(parts: impl Iterator<Item = &'a Node>, own_weight: usize) -> (usize, usize) {
        parts.fold((own_weight, 1), |(weight, depth), part| (weight + part.weight, depth.max(1 + part.depth)))
    }

    /// The same further on in the text.
    fn moved(&self, by: usize) -> Rc<Node> {
        let value = match &self.value {
            Value::Null => Value::Null,
            Value::Scalar { text, quoted } => Value::Scalar { text: text.clone(), quoted: *quoted },
            Value::List(items) => Value::List(items.iter().map(|item| item.moved(by)).collect()),
            Value::Map(entries) => {
                let moved = entries.iter().map(|Entry { key, node }| {
                    let key = Key { text: key.text.clone(), span: key.span.moved(by) };
                    Entry { key, node: node.moved(by) }
                });
                Value::Map(moved.collect())
            }
        };
        Rc::new(Node { span: self.span.moved(by), value, weight: self.weight, depth: self.depth })
    }

    /// What it is, with its article, for errors.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Scalar { text, quoted: false } if text.parse::<f64>().is_ok() => "a number",
            Value::Scalar { text, quoted: false } if matches!(text.as_str(), "true" | "false") => {
                "a truth value"
            }
            Value::Scalar { .. } => "text",
            Value::List(_) => "a list",
            Value::Map(_) => "a table",
        }
    }
}

fn text_weight(text: &str) -> usize {
    1 + text.len() / NODE_BYTES
}

/// The languages a file can be in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    /// YAML 1.2, and JSON, which is a part of it.
    Yaml,
    Toml,
}

impl Language {
    fn of(file: &Path) -> Self {
        match file.extension() {
            Some(extension) if ["toml", "tml"].iter().any(|one| extension.eq_ignore_ascii_case(one)) => {
                Language::Toml
            }
            _ => Language::Yaml,
        }
    }
}

/// Reads a file. `None` when nothing of it can be used; the reasons are in `problems`. A tree may be returned beside
/// problems, so that the decoder can add its own to them.
pub(crate) fn read(file: &Path, text: &str, problems: &mut Problems) -> Option<Rc<Node>> {
    if text.len() > FILE_BYTES_MAX {
        problems.push(Problem::new(Span::default(), format!("cannot read this file: {}", too_large())));
        return None;
    }
    let is_json5 = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json5"));
    match Language::of(file) {
        // What JSON5 has and YAML has not is comments: in their place are spaces, so that places stay.
        Language::Yaml if is_json5 => yaml::read(&json5::without_comments(text), problems),
        Language::Yaml => yaml::read(text, problems),
        Language::Toml => toml::read(text, problems),
    }
}

/// Reads a text whose places begin here.
pub(crate) fn read_at(base: usize, file: &Path, text: &str, problems: &mut Problems) -> Option<Rc<Node>> {
    let mut own = Problems::default();
    let tree = read(file, text, &mut own);
    problems.append_at(base, own);
    // An alias shares what it names, and has a copy of it now: as many as [`NODES_MAX`] counts.
    Some(tree?.moved(base))
}

/// The problem of a file with more than [`NODES_MAX`] nodes.
fn too_many_nodes(span: Span) -> Problem {
    Problem::new(span, format!("too large: more than {NODES_MAX} keys and values up to here")).hint(
        "aliases and merge keys count as often as they are used, and a long text counts as several values",
    )
}

/// The problem of a file deeper than [`DEPTH_MAX`].
fn too_deep(span: Span) -> Problem {
    Problem::new(span, format!("nested too deeply: more than {DEPTH_MAX} lists and tables inside each other"))
}

/// The problem of a key that was written before.
fn duplicate(key: &Key, first: Span) -> Problem {
    Problem::new(key.span, format!("{} is written twice", quote(&key.text)))
        .related(first, "it was first written here")
        .hint("keep one of them")
}
