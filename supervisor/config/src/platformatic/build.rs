//! Parts of a configuration of watt's, made of what a project's files say. Each knows the place that it comes from.

use std::rc::Rc;

use crate::{
    source::Span,
    tree::{Entry, Key, Node, Value},
};

/// Text in watt's own notation: braces of placeholders are placeholders.
pub(super) fn text(at: Span, text: impl Into<String>) -> Rc<Node> {
    Rc::new(Node::new(at, Value::Scalar { text: text.into(), quoted: true }))
}

/// A number, a truth value or a word.
pub(super) fn plain(at: Span, value: impl ToString) -> Rc<Node> {
    Rc::new(Node::new(at, Value::Scalar { text: value.to_string(), quoted: false }))
}

/// A list.
pub(super) fn list(at: Span, items: Vec<Rc<Node>>) -> Rc<Node> {
    Rc::new(Node::new(at, Value::List(items)))
}

/// A table that is being made.
#[derive(Debug, Clone)]
pub(super) struct Table {
    at: Span,
    entries: Vec<Entry>,
}

impl Table {
    /// An empty one, for what is said at this place.
    pub(super) fn new(at: Span) -> Self {
        Table { at, entries: Vec::new() }
    }

    /// Sets a key, which was written at `at`. A key that is there already is replaced.
    pub(super) fn set(&mut self, key: &str, at: Span, node: Rc<Node>) {
        let entry = Entry { key: Key { text: key.to_owned(), span: at }, node };
        match self.entries.iter_mut().find(|entry| entry.key.text == key) {
            Some(old) => *old = entry,
            None => self.entries.push(entry),
        }
    }

    /// Sets a key at the place of the table.
    pub(super) fn put(&mut self, key: &str, node: Rc<Node>) {
        self.set(key, self.at, node);
    }

    /// Sets a key unless the table is empty.
    pub(super) fn put_table(&mut self, key: &str, table: Table) {
        if !table.is_empty() {
            let at = table.at;
            self.set(key, at, table.node());
        }
    }

    /// Whether it has this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key.text == key)
    }

    /// The texts in it.
    pub(super) fn texts(&self) -> impl Iterator<Item = String> {
        self.entries.iter().filter_map(|entry| match &entry.node.value {
            Value::Scalar { text, .. } => Some(text.clone()),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        })
    }

    /// Whether nothing was set.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The table.
    pub(super) fn node(self) -> Rc<Node> {
        Rc::new(Node::table(self.at, self.entries))
    }
}
