//! A table of the file, opened with the table of `keys` that says what may be in it.

use std::{
    collections::HashMap,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use super::{Decoder, Text};
use crate::{
    keys::{Kind, NEVER, Preset, Table, Words},
    report::{Problem, did_you_mean, nearest},
    scalar::{Bad, Scalar, quote},
    show::Shown,
    source::Span,
    tree::{Entry, Node, Value},
};

/// A key that was written: where, and with what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'n> {
    pub(crate) key_span: Span,
    pub(crate) node: &'n Node,
}

impl Field<'_> {
    /// Where to point for the value: the key, when there is nothing behind it.
    pub(crate) fn at(&self) -> Span {
        match self.node.value {
            Value::Null => self.key_span,
            Value::Scalar { .. } | Value::List(_) | Value::Map(_) => self.node.span,
        }
    }
}

impl<'n> From<&'n Entry> for Field<'n> {
    fn from(entry: &'n Entry) -> Self {
        Field { key_span: entry.key.span, node: &entry.node }
    }
}

/// A value and where it was written; nowhere, when it is a default.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written<T> {
    pub(crate) value: T,
    pub(crate) span: Option<Span>,
}

/// An opened table. Each key of its definition has to be asked for once; [`Fields::close`] gives what was found for
/// `config show`.
pub(crate) struct Fields<'d, 'a, 'n> {
    pub(crate) d: &'d mut Decoder<'a>,
    table: &'static Table,
    written: HashMap<&'static str, Field<'n>>,
    /// Keys that are not to be reported as missing as well: unknown ones meant them, or the whole table is wrong.
    misspelt: Vec<&'static str>,
    /// Whether something is in it that does not belong there.
    has_unknown: bool,
    /// Where the table is, for what is missing in it.
    at: Span,
    shown: Vec<(String, Shown)>,
    asked: Vec<&'static str>,
}

impl<'d, 'a, 'n> Fields<'d, 'a, 'n> {
    /// Opens a table. `field` is `None` when it was not written, and its keys have their defaults. Where a table has a
    /// short form, a scalar stands for the key `short`.
    pub(crate) fn open(
        d: &'d mut Decoder<'a>,
        table: &'static Table,
        field: Option<Field<'n>>,
        short: Option<&'static str>,
    ) -> Self {
        let mut written = HashMap::new();
        let mut misspelt = Vec::new();
        let mut has_unknown = false;
        match field {
            None => {}
            Some(field) => match (&field.node.value, short) {
                (Value::Null, _) => {}
                (Value::Map(entries), _) => {
                    for entry in entries {
                        match table.key(&entry.key.text) {
                            Some(key) => {
                                written.insert(key.name, Field::from(entry));
                            }
                            None if d.problems.is_full() => break,
                            None => {
                                let (problem, meant) = unknown_key(&d.title(table), table, entry);
                                d.problem(problem);
                                has_unknown = true;
                                misspelt.extend(meant);
                            }
                        }
                    }
                }
                (Value::Scalar { .. }, Some(short)) => {
                    written.insert(short, field);
                }
                (Value::Scalar { .. } | Value::List(_), _) => {
                    let title = quote(&d.title(table));
                    let message = format!("{title} is a table of keys, and this is {}", field.node.kind());
                    let problem = Problem::new(field.at(), message);
                    d.problem(problem.maybe_hint(table_hint(table)));
                    // Nothing is missing in what is no table.
                    misspelt.extend(table.keys.iter().map(|key| key.name));
                }
            },
        }
        let at = field.map_or(Span::default(), |field| field.key_span);
        Fields { d, table, written, misspelt, has_unknown, at, shown: Vec::new(), asked: Vec::new() }
    }

    /// What was written for a key, for kinds of their own. Marks the key as asked for.
    pub(crate) fn field(&mut self, key: &'static str) -> Option<Field<'n>> {
        debug_assert!(self.table.key(key).is_some(), "{key} is not in the table {}", self.table.title);
        self.asked.push(key);
        self.written.get(key).copied()
    }

    /// Whether a key was written, right or wrong.
    pub(crate) fn is_written(&self, key: &str) -> bool {
        self.written.contains_key(key)
    }

    /// A key that was written, without asking for it.
    pub(crate) fn written(&self, key: &str) -> Option<Field<'n>> {
        self.written.get(key).copied()
    }

    /// Whether no key at all was written, right or wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.written.is_empty() && !self.has_unknown && self.misspelt.is_empty()
    }

    /// A path, from the file's folder.
    pub(crate) fn path(&mut self, key: &'static str) -> Option<Written<PathBuf>> {
        let root = self.d.root.clone();
        let parse = |text: &str| match text {
            "" => Err(Bad {
                message: "an empty path".into(),
                hint: Some("write `.` for the file's folder".into()),
            }),
            text => Ok(absolute(&root, text)),
        };
        self.parsed(key, parse, |path| path.to_string_lossy().into())
    }

    /// Adds to what `config show` prints.
    pub(crate) fn show(&mut self, key: &str, shown: Shown) {
        if self.d.shows {
            self.shown.push((key.to_owned(), shown));
        }
    }

    /// The text of a key: as written, with its default, or nothing. A key that has to be there and is not is noted.
    fn text(&mut self, key: &'static str) -> Option<Result<Text, &'static str>> {
        let field = self.field(key);
        let definition = self.table.key(key)?;
        match (field, definition.default) {
            (Some(field), _) => {
                let noun = definition.kind.noun();
                self.d.scalar(field.node, field.at(), key, &noun, &[]).map(Ok)
            }
            (None, Preset::Value(default)) => Some(Err(default)),
            (None, Preset::Required) => {
                self.missing(key);
                None
            }
            (None, Preset::Derived(_) | Preset::Unset(_) | Preset::Inner) => None,
        }
    }

    /// Notes that a key has to be written.
    pub(crate) fn missing(&mut self, key: &'static str) {
        if self.misspelt.contains(&key) {
            return;
        }
        let problem = Problem::new(self.at, format!("{} is missing", quote(key))).hint(self.example(key));
        self.d.problem(problem);
    }

    /// A scalar: as written, or its default. `None` when there is neither, or when it is wrong, which is noted.
    pub(crate) fn scalar<T: Scalar>(&mut self, key: &'static str) -> Option<Written<T>> {
        self.parsed(key, T::parse, T::show)
    }

    /// A scalar of a key that has a default, which stands in for a wrong one.
    pub(crate) fn value<T: Scalar>(&mut self, key: &'static str) -> Written<T> {
        self.scalar(key).unwrap_or_else(|| {
            let value = self.default_of(key).and_then(|text| T::parse(text).ok());
            Written { value: value.expect("the default of a key is of its kind"), span: None }
        })
    }

    /// One of some words.
    pub(crate) fn word<T: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        words: &'static Words<T>,
    ) -> Option<Written<T>> {
        self.parsed(key, |text| word_of(text, words), |value| show_word(*value, words))
    }

    /// A word of a key that has a default.
    pub(crate) fn word_or_default<T: Copy + PartialEq>(
        &mut self,
        key: &'static str,
        words: &'static Words<T>,
    ) -> Written<T> {
        self.word(key, words).unwrap_or_else(|| {
            let value = self.default_of(key).and_then(|text| word_of(text, words).ok());
            Written { value: value.expect("the default of a key is one of its words"), span: None }
        })
    }

    fn default_of(&self, key: &str) -> Option<&'static str> {
        match self.table.key(key)?.default {
            Preset::Value(text) => Some(text),
            Preset::Derived(_) | Preset::Unset(_) | Preset::Required | Preset::Inner => None,
        }
    }

    /// A value by any reading.
    pub(crate) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, Bad>,
        show: impl Fn(&T) -> serde_json::Value,
    ) -> Option<Written<T>> {
        match self.text(key)? {
            Ok(text) => {
                let value = self.d.parse(&text, parse)?;
                let shown = Shown::Leaf { value: show(&value), from: text.from, span: Some(text.span) };
                self.show(key, shown);
                Some(Written { value, span: Some(text.span) })
            }
            Err(default) => {
                let value = parse(default).expect("the default of a key is of its kind");
                self.show(key, Shown::default_value(show(&value)));
                Some(Written { value, span: None })
            }
        }
    }

    /// A time, or `never`, which is `None`.
    pub(crate) fn duration_or_never(&mut self, key: &'static str) -> Option<Written<Option<Duration>>> {
        let parse = |text: &str| match word_of(text, &NEVER) {
            Ok(_) => Ok(None),
            Err(_) => Duration::parse(text).map(Some),
        };
        self.parsed(key, parse, |time| time.map_or_else(|| "never".into(), |time| time.show()))
    }

    /// The items of a list. A single scalar is not taken for a list of one.
    pub(crate) fn list(&mut self, key: &'static str) -> &'n [std::rc::Rc<Node>] {
        match self.field(key) {
            None => &[],
            Some(field) => match &field.node.value {
                Value::List(items) => items,
                Value::Null => &[],
                Value::Scalar { .. } | Value::Map(_) => {
                    let problem = Problem::new(
                        field.node.span,
                        format!("{} is a list, and this is {}", quote(key), field.node.kind()),
                    );
                    self.d.problem(problem.hint("write `[…]`, or a line with `-` for each item"));
                    &[]
                }
            },
        }
    }

    /// The entries of a table whose keys are the user's choice.
    pub(crate) fn entries(&mut self, key: &'static str, noun: &str) -> &'n [Entry] {
        match self.field(key).map(|field| (field, &field.node.value)) {
            None | Some((_, Value::Null)) => &[],
            Some((_, Value::Map(entries))) => entries,
            Some((field, Value::Scalar { .. } | Value::List(_))) => {
                let message =
                    format!("{} is a table by {noun}, and this is {}", quote(key), field.node.kind());
                let hint = self.example(key);
                self.d.problem(Problem::new(field.node.span, message).hint(hint));
                &[]
            }
        }
    }

    /// The items of a list, each read in the same way. `None` when it was not written.
    pub(crate) fn each<T>(
        &mut self,
        key: &'static str,
        noun: &str,
        parse: impl Fn(&str) -> Result<T, Bad>,
        show: impl Fn(&T) -> serde_json::Value,
    ) -> Option<Vec<(T, Span)>> {
        self.field(key)?;
        let mut items = Vec::new();
        let mut shown = Vec::new();
        for item in self.list(key) {
            if self.d.problems.is_full() {
                break;
            }
            let Some(text) = self.d.scalar(item, item.span, key, noun, &[]) else { continue };
            let Some(value) = self.d.parse(&text, &parse) else { continue };
            shown.push(Shown::Leaf { value: show(&value), from: text.from, span: Some(text.span) });
            items.push((value, text.span));
        }
        self.show(key, Shown::List(shown));
        Some(items)
    }

    /// Whether a key's value is one piece of text, where it may be a list as well.
    pub(crate) fn is_scalar(&self, key: &str) -> bool {
        self.written.get(key).is_some_and(|field| matches!(field.node.value, Value::Scalar { .. }))
    }

    /// A key's example, as a hint.
    pub(crate) fn example(&self, key: &str) -> String {
        let example = self.table.key(key).map_or("", |definition| definition.example);
        format!("for example `{key}: {example}`")
    }

    /// Puts what a list goes on from before its own items.
    pub(crate) fn prepend(&mut self, key: &str, base: Option<&Shown>) {
        let first = match base {
            Some(Shown::List(items)) => items.clone(),
            Some(leaf @ Shown::Leaf { .. }) => vec![leaf.clone()],
            Some(Shown::Map(_)) | None => Vec::new(),
        };
        if let Some((_, Shown::List(items))) = self.shown.iter_mut().find(|(name, _)| name == key) {
            items.splice(..0, first);
        }
    }

    /// Whether [`Self::show`] was called for a key.
    pub(crate) fn is_shown(&self, key: &str) -> bool {
        self.shown.iter().any(|(name, _)| name == key)
    }

    /// What was shown of a key.
    pub(crate) fn shown(&self, key: &str) -> Option<&Shown> {
        self.shown.iter().find(|(name, _)| name == key).map(|(_, shown)| shown)
    }

    /// Ends with the table; what `config show` prints of it.
    pub(crate) fn close(mut self) -> Shown {
        debug_assert!(
            self.table.keys.iter().all(|key| self.asked.contains(&key.name)),
            "not every key of {:?} was asked for: {:?}",
            self.table.title,
            self.asked
        );
        // In the order of the definition, whatever they were decoded in.
        let order = |name: &str| self.table.keys.iter().position(|key| key.name == name);
        self.shown.sort_by_key(|(name, _)| order(name));
        Shown::Map(self.shown)
    }
}

/// An absolute path, without `.` in it. `..` stays: where it leads depends on links.
pub(crate) fn absolute(root: &Path, written: &str) -> PathBuf {
    root.join(written).components().filter(|part| *part != Component::CurDir).collect()
}

impl Decoder<'_> {
    /// A table's place in the file as users say it, with the name of what is decoded.
    fn title(&self, table: &Table) -> String {
        table.title.replacen("NAME", self.name.as_deref().unwrap_or("NAME"), 1)
    }

    /// Reads a text as a value; what is wrong is noted with the variables it came from.
    pub(crate) fn parse<T>(&mut self, text: &Text, parse: impl Fn(&str) -> Result<T, Bad>) -> Option<T> {
        match parse(&text.text) {
            Ok(value) => Some(value),
            Err(bad) => {
                let from = if text.variables.is_empty() {
                    String::new()
                } else {
                    format!(" (from {})", text.variables)
                };
                self.problem(Problem::new(text.span, format!("{}{from}", bad.message)).maybe_hint(bad.hint));
                None
            }
        }
    }
}

/// Reads a word.
pub(crate) fn word_of<T: Copy>(text: &str, words: &Words<T>) -> Result<T, Bad> {
    let names = || words.0.iter().map(|(word, ..)| *word);
    match words.0.iter().find(|(word, ..)| *word == text) {
        Some((_, value, _)) => Ok(*value),
        None => {
            let list = names().map(quote).collect::<Vec<_>>().join(", ");
            let hint = did_you_mean(text, names()).unwrap_or_else(|| format!("one of {list}"));
            Err(Bad { message: format!("{} is not understood here", quote(text)), hint: Some(hint) })
        }
    }
}

/// The first word for a value.
pub(crate) fn show_word<T: PartialEq>(value: T, words: &Words<T>) -> serde_json::Value {
    words
        .0
        .iter()
        .find(|(_, known, _)| *known == value)
        .map_or(serde_json::Value::Null, |(word, ..)| (*word).into())
}

/// The problem of a key that is not in the table, and the key that was meant, if that is clear.
fn unknown_key(title: &str, table: &Table, entry: &Entry) -> (Problem, Option<&'static str>) {
    let name = &entry.key.text;
    let within = if title.is_empty() { String::new() } else { format!(" in {}", quote(title)) };
    let problem = Problem::new(entry.key.span, format!("unknown key {}{within}", quote(name)));
    if let Some((_, advice)) = table.foreign.iter().find(|(word, _)| word == name) {
        let meant = table.keys.iter().find(|key| *advice == format!("write `{}`", key.name));
        return (problem.hint(*advice), meant.map(|key| key.name));
    }
    if let Some(near) = nearest(name, table.keys.iter().map(|key| key.name)) {
        return (problem.hint(format!("did you mean {}?", quote(near))), Some(near));
    }
    let keys = table.keys.iter().map(|key| quote(key.name)).collect::<Vec<_>>().join(", ");
    (problem.hint(format!("known here: {keys}")), None)
}

fn table_hint(table: &Table) -> Option<String> {
    let key = table.keys.iter().find(|key| key.default == Preset::Required).or(table.keys.first())?;
    Some(format!("for example `{}: {}`", key.name, key.example))
}

impl Kind {
    /// What a value of this kind is, with its article.
    pub(crate) fn noun(&self) -> String {
        match self {
            Kind::Command | Kind::Text => "text".into(),
            Kind::Schedule => "a schedule such as `0 3 * * *`".into(),
            Kind::TimeZone => "a time zone such as `Europe/Berlin`".into(),
            Kind::MeshUrl => "a URL such as `http://api.plt.local/`".into(),
            Kind::WebUrl => "a URL such as `http://alerts.plt.local/failed`".into(),
            Kind::Name | Kind::ServiceName => "a name".into(),
            Kind::FilePath => "a path".into(),
            Kind::Bool => "`true` or `false`".into(),
            Kind::Whole { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Signed { min, max } => format!("a whole number from {min} to {max}"),
            Kind::Umask => "octal digits such as `027`".into(),
            Kind::CpuList => "a set of CPUs such as `0-3,6`".into(),
            Kind::Destination => "a destination such as `example.org:443`".into(),
            Kind::FileName => "a file's name".into(),
            Kind::VariableName => "a variable's name".into(),
            Kind::Account => "an account's name or number".into(),
            Kind::OptionalPath => "a path".into(),
            Kind::BindPath => "`source:target`".into(),
            Kind::TemporaryPath => "a path".into(),
            Kind::CallError => "an error such as `EPERM`, or `kill`".into(),
            Kind::Capability => "a capability such as `CAP_NET_BIND_SERVICE`".into(),
            Kind::AddressFamily => "an address family such as `AF_INET`".into(),
            Kind::SystemCall => "a system call or a group such as `@system-service`".into(),
            Kind::Duration => "a time such as `30s`".into(),
            Kind::Share => "a number of workers, or a part such as `25%`".into(),
            Kind::Size => "a size such as `512M`".into(),
            Kind::Cpu => "an amount of CPU such as `1.5`".into(),
            Kind::Percent => "a part such as `70%`".into(),
            Kind::Signal => "a signal such as `TERM`".into(),
            Kind::IpAddress => "an IP address".into(),
            Kind::UrlPath => "a path such as `/api`".into(),
            Kind::RoutePath => "a path such as `/api`, or `/users/{id}`".into(),
            Kind::Status => "a status such as `200`, or `200-299`".into(),
            Kind::HostName => "a host name".into(),
            Kind::Pattern => "a regular expression".into(),
            Kind::Words(words) => {
                let words: Vec<_> = words.words().iter().map(|(word, _)| quote(word)).collect();
                format!("one of {}", words.join(", "))
            }
            Kind::Rlimit => "a number, a size or `unlimited`".into(),
            Kind::Variables | Kind::Table(_) | Kind::Named(_) => "a table".into(),
            Kind::List(_) => "a list".into(),
            Kind::Either(kinds) => kinds.iter().map(Kind::noun).collect::<Vec<_>>().join(", or "),
        }
    }
}
