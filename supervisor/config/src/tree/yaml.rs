//! YAML and JSON into a tree, from the parser's events.
//!
//! The events are used directly and not through serde: they have the exact place of every key, the text of a scalar as
//! written, and both places of a duplicate key; and the tree can be finished around an error, to find the next one.
//!
//! An alias shares the node it names, so a bomb of aliases costs nothing here. What it would cost the decoder is
//! counted: a node weighs as much as all nodes below it, and the sum is bounded.

use std::{
    collections::{HashMap, HashSet},
    rc::Rc,
};

use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Tag, options};

use super::{DEPTH_MAX, Entry, Key, NODES_MAX, Node, Value, duplicate, too_deep, too_many_nodes};
use crate::{
    report::{Problem, Problems},
    scalar::quote,
    source::Span,
};

/// Reads a YAML or JSON text.
pub(super) fn read(text: &str, problems: &mut Problems) -> Option<Rc<Node>> {
    let options = options! {
        emit_comments: false,
        emit_unresolved_aliases: true,
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
    };
    let mut builder =
        Builder { text, problems, open: Vec::new(), anchors: HashMap::new(), nodes: 0, root: None };
    let mut documents = 0;
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span, tag_span) = match event {
            Ok((event, span)) => {
                let node_span = span_of(&span, text);
                (event, node_span, span.tag_span().map_or(node_span, |tag| span_of(&tag, text)))
            }
            Err(error) => {
                let problem = scan_problem(&error, text);
                builder.problems.push(problem);
                return None;
            }
        };
        if let Event::DocumentStart(..) = event {
            documents += 1;
            if documents > 1 {
                let problem = Problem::new(span, "a second document in the file")
                    .hint("keep one document; remove `---`");
                builder.problems.push(problem);
                break;
            }
        }
        builder.refuse_tag(event.tag(), tag_span);
        if builder.event(event, span).is_err() {
            return None;
        }
    }
    // A text of nothing but comments has no document.
    Some(builder.root.unwrap_or_else(|| null(Span::default())))
}

fn span_of(span: &granit_parser::Span, text: &str) -> Span {
    let range = span.byte_range().unwrap_or_default();
    let start = text.floor_char_boundary(range.start.min(text.len()));
    let end = text.floor_char_boundary(range.end.clamp(start, text.len()));
    Span { start, end }
}

fn scan_problem(error: &ScanError, text: &str) -> Problem {
    let start = text.floor_char_boundary(error.marker().byte_offset().unwrap_or(0).min(text.len()));
    let end = start + text[start..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
    let span = Span { start, end };
    match error.kind() {
        ErrorKind::RecursionLimitExceeded => too_deep(span),
        ErrorKind::TabNotAllowed | ErrorKind::TabInBlockIndentation | ErrorKind::TabInIndentation => {
            Problem::new(span, "a tab cannot indent YAML").hint("indent with spaces")
        }
        ErrorKind::UnclosedFlowCollection { open } => {
            let problem = Problem::new(span, format!("this `{open}` is never closed"));
            let is_brace = *open == '{';
            problem.maybe_hint(
                is_brace.then(|| "a value that starts with a brace needs quotes: \"{NAME}\"".into()),
            )
        }
        _ => Problem::new(span, error.info()),
    }
}

/// A collection whose end has not come yet.
struct Open {
    span: Span,
    anchor: usize,
    parts: Parts,
}

enum Parts {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<Entry>, merges: Vec<(Span, Rc<Node>)>, key: PendingKey },
}

/// The key whose value is read next.
enum PendingKey {
    /// The next node is a key.
    None,
    /// The next node is this key's value.
    Key(Key),
    /// The next node is what `<<` merges.
    Merge(Span),
    /// The key was refused; its value is dropped.
    Refused,
}

/// What an anchor stands for.
enum Anchor {
    /// It is being read: an alias to it from inside would never end.
    Open,
    Done(Rc<Node>),
}

/// Reading was given up; the reason is noted.
struct GivenUp;

struct Builder<'a> {
    text: &'a str,
    problems: &'a mut Problems,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchor>,
    nodes: usize,
    root: Option<Rc<Node>>,
}

impl Builder<'_> {
    fn event(&mut self, event: Event<'_>, span: Span) -> Result<(), GivenUp> {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let value = scalar(text.into_owned(), style);
                let node = Rc::new(Node::new(span, value));
                if anchor != 0 {
                    self.anchors.insert(anchor, Anchor::Done(Rc::clone(&node)));
                }
                let cost = node.weight;
                self.add(node, style == ScalarStyle::Plain, cost)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.start(span, anchor, Parts::List(Vec::new()));
                Ok(())
            }
            Event::MappingStart(_, anchor, _) => {
                self.start(
                    span,
                    anchor,
                    Parts::Map { entries: vec![], merges: vec![], key: PendingKey::None },
                );
                Ok(())
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(span),
            Event::Alias(anchor) => {
                let node = match self.anchors.get(&anchor) {
                    Some(Anchor::Done(node)) => Rc::clone(node),
                    Some(Anchor::Open) | None => {
                        let message =
                            format!("{} is inside what it stands for, so it has no end", self.quoted(span));
                        self.problems.push(Problem::new(span, message));
                        null(span)
                    }
                };
                // The alias brings everything below its anchor again.
                let cost = node.weight;
                self.add(node, false, cost)
            }
            Event::UnresolvedAlias(_) => {
                let message = format!("{} has no anchor before it", self.quoted(span));
                self.problems
                    .push(Problem::new(span, message).hint("an anchor is written `&name` before a value"));
                self.add(null(span), false, 1)
            }
            // The event type is open for additions; the rest of today's are marks without content.
            _ => Ok(()),
        }
    }

    fn quoted(&self, span: Span) -> String {
        quote(&self.text[span.start..span.end])
    }

    /// Only the tags of YAML's own types are understood. An application's own tags (`!include`) would mean something
    /// that does not happen.
    fn refuse_tag(&mut self, tag: Option<&Tag>, span: Span) {
        if let Some(tag) = tag.filter(|tag| !tag.is_yaml_core_schema()) {
            let message = format!("the tag {} is not understood", quote(&tag.original()));
            self.problems.push(Problem::new(span, message).hint("remove it"));
        }
    }

    fn start(&mut self, span: Span, anchor: usize, parts: Parts) {
        if anchor != 0 {
            self.anchors.insert(anchor, Anchor::Open);
        }
        self.open.push(Open { span, anchor, parts });
    }

    fn end(&mut self, end: Span) -> Result<(), GivenUp> {
        let Some(Open { span, anchor, parts }) = self.open.pop() else {
            return Ok(());
        };
        let value = match parts {
            Parts::List(items) => Value::List(items),
            Parts::Map { entries, merges, .. } => Value::Map(self.close_map(entries, merges)),
        };
        let node = Rc::new(Node::new(Span { start: span.start, end: end.end.max(span.end) }, value));
        if anchor != 0 {
            self.anchors.insert(anchor, Anchor::Done(Rc::clone(&node)));
        }
        self.add(node, false, 1)
    }

    /// Puts a finished node where it belongs. `plain` says that it is a scalar without quotes, which `<<` has to be to
    /// merge; `cost` is how many nodes it adds to those counted.
    fn add(&mut self, node: Rc<Node>, plain: bool, cost: usize) -> Result<(), GivenUp> {
        self.count(node.span, cost)?;
        // The parser bounds what it sees; a chain of aliases is deeper than any part of it.
        if node.depth > DEPTH_MAX {
            self.problems.push(too_deep(node.span));
            return Err(GivenUp);
        }
        match self.open.last_mut().map(|open| &mut open.parts) {
            None => self.root = Some(node),
            Some(Parts::List(items)) => items.push(node),
            Some(Parts::Map { entries, merges, key }) => match std::mem::replace(key, PendingKey::None) {
                PendingKey::None => *key = pending_key(&node, plain, self.problems),
                PendingKey::Key(key) => entries.push(Entry { key, node }),
                PendingKey::Merge(span) => merges.push((span, node)),
                PendingKey::Refused => {}
            },
        }
        Ok(())
    }

    fn count(&mut self, span: Span, nodes: usize) -> Result<(), GivenUp> {
        self.nodes += nodes;
        if self.nodes > NODES_MAX {
            self.problems.push(too_many_nodes(span));
            return Err(GivenUp);
        }
        Ok(())
    }

    /// Refuses duplicate keys and adds what is merged. A key of the mapping itself wins over a merged one, and the
    /// first of several merged mappings over later ones (yaml.org/type/merge.html).
    fn close_map(&mut self, entries: Vec<Entry>, merges: Vec<(Span, Rc<Node>)>) -> Vec<Entry> {
        let mut first_places: HashMap<String, Span> = HashMap::with_capacity(entries.len());
        let mut unique = Vec::with_capacity(entries.len());
        for entry in entries {
            match first_places.get(&entry.key.text) {
                Some(first) => self.problems.push(duplicate(&entry.key, *first)),
                None => {
                    first_places.insert(entry.key.text.clone(), entry.key.span);
                    unique.push(entry);
                }
            }
        }
        let mut seen: HashSet<String> = first_places.into_keys().collect();
        for (span, node) in merges {
            self.merge(&mut unique, &mut seen, span, &node);
        }
        unique
    }

    /// What is merged was counted with its alias, or where it was written.
    fn merge(&mut self, into: &mut Vec<Entry>, seen: &mut HashSet<String>, at: Span, node: &Node) {
        match &node.value {
            Value::Map(entries) => {
                for entry in entries {
                    if seen.insert(entry.key.text.clone()) {
                        into.push(entry.clone());
                    }
                }
            }
            Value::List(items) if items.iter().all(|item| matches!(item.value, Value::Map(_))) => {
                for item in items {
                    self.merge(into, seen, at, item);
                }
            }
            Value::Null | Value::Scalar { .. } | Value::List(_) => {
                let message = format!("`<<` merges a table or a list of tables, and this is {}", node.kind());
                self.problems.push(Problem::new(at, message));
            }
        }
    }
}

fn null(span: Span) -> Rc<Node> {
    Rc::new(Node::new(span, Value::Null))
}

fn scalar(text: String, style: ScalarStyle) -> Value {
    // The words of YAML's core schema (§10.3.2).
    if style == ScalarStyle::Plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL") {
        return Value::Null;
    }
    Value::Scalar { text, quoted: style != ScalarStyle::Plain }
}

fn pending_key(node: &Node, plain: bool, problems: &mut Problems) -> PendingKey {
    match &node.value {
        Value::Scalar { text, .. } if plain && text == "<<" => PendingKey::Merge(node.span),
        Value::Scalar { text, .. } => PendingKey::Key(Key { text: text.clone(), span: node.span }),
        Value::Null | Value::List(_) | Value::Map(_) => {
            problems
                .push(Problem::new(node.span, format!("a key has to be text, and this is {}", node.kind())));
            PendingKey::Refused
        }
    }
}
