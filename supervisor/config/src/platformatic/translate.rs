//! What every part of the translation needs: the files, the variables, and where to note what is wrong and what is not taken over.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    For, braces,
    braces::Part,
    build,
    keys::{Fate, Keys},
    project::{Found, View},
};
use crate::{
    Sources,
    dotenv::{self, Variable},
    report::{Problem, Problems, nearest},
    scalar::quote,
    source::Span,
    tree::{self, Entry, Node, Value},
};

/// How often what a variable holds may name another one.
const DEPTH_MAX: usize = 8;

/// The translation of one project.
pub(super) struct Translator<'a> {
    pub(super) sources: &'a Sources,
    pub(super) view: &'a View<'a>,
    /// Of the project's `.env`.
    pub(super) dotenv: &'a BTreeMap<String, Variable>,
    pub(super) problems: RefCell<&'a mut Problems>,
    pub(super) warnings: RefCell<Problems>,
    pub(super) purpose: For,
    /// The project's folder.
    pub(super) root: PathBuf,
    /// Whether a variable that is not set is an error.
    pub(super) is_strict: bool,
    /// Where the places of each file begin.
    bases: BTreeMap<PathBuf, usize>,
}

/// Whose placeholders are looked at.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    /// The folder of a service, for its own files; `None` for those of the project.
    pub(super) folder: Option<PathBuf>,
    /// The service's name, for variables that end with `_URL`.
    pub(super) id: Option<String>,
    /// The service's own variables, which win over the project's `.env`.
    pub(super) own: BTreeMap<String, String>,
}

/// A table of a file, of which every key is one that is known, or was warned of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opened<'n> {
    entries: &'n [Entry],
    /// Where it is.
    pub(super) span: Span,
}

impl<'n> Opened<'n> {
    /// One without keys.
    pub(super) fn empty(span: Span) -> Opened<'static> {
        Opened { entries: &[], span }
    }

    /// Where it begins, to point at all of it.
    pub(super) fn span_of_start(&self) -> Span {
        Span { start: self.span.start, end: self.span.start }
    }

    /// A key that has a value.
    pub(super) fn get(&self, key: &str) -> Option<&'n Entry> {
        let entry = self.entries.iter().find(|entry| entry.key.text == key)?;
        (!matches!(entry.node.value, Value::Null)).then_some(entry)
    }

    /// The first of several names of the same.
    pub(super) fn any(&self, keys: &[&str]) -> Option<&'n Entry> {
        keys.iter().find_map(|key| self.get(key))
    }
}

impl<'a> Translator<'a> {
    pub(super) fn new(
        sources: &'a Sources,
        view: &'a View<'a>,
        dotenv: &'a BTreeMap<String, Variable>,
        problems: &'a mut Problems,
        purpose: For,
    ) -> Self {
        let root = sources.file.parent().unwrap_or(Path::new("/")).to_owned();
        let bases = sources.attached().map(|(base, path, _)| (path.to_owned(), base)).collect();
        Translator {
            sources,
            view,
            dotenv,
            problems: RefCell::new(problems),
            warnings: RefCell::new(Problems::default()),
            purpose,
            root,
            is_strict: true,
            bases,
        }
    }

    /// Notes what is wrong.
    pub(super) fn problem(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Notes what is not taken over.
    pub(super) fn warn(&self, at: Span, message: impl Into<String>) {
        self.warnings.borrow_mut().push(Problem::new(at, message));
    }

    /// The table of a file. What is in it and not in `keys` is warned of, and so is what has no equal here.
    pub(super) fn open<'n>(&self, keys: &Keys, node: &'n Node) -> Opened<'n> {
        let Value::Map(entries) = &node.value else {
            if !matches!(node.value, Value::Null) {
                let message = format!("{} is a table, and this is {}", quote(keys.title), node.kind());
                self.problem(Problem::new(node.span, message));
            }
            return Opened { entries: &[], span: node.span };
        };
        for entry in entries {
            self.judge(keys, entry);
        }
        Opened { entries, span: node.span }
    }

    /// The table of a file that somebody else reads as well: what is in it and not in `keys` is his.
    pub(super) fn open_shared<'n>(&self, node: &'n Node) -> Opened<'n> {
        match &node.value {
            Value::Map(entries) => Opened { entries, span: node.span },
            Value::Null | Value::Scalar { .. } | Value::List(_) => Opened { entries: &[], span: node.span },
        }
    }

    fn judge(&self, keys: &Keys, entry: &Entry) {
        let name = &entry.key.text;
        match keys.fate(name) {
            Some(Fate::Becomes(_) | Fate::Needless(_)) => {}
            // Turned off is what it is here in any case.
            Some(Fate::Warned(_)) if is_off(&entry.node) => {}
            Some(Fate::Warned(instead)) => {
                self.warn(entry.key.span, format!("{} is not taken over: {instead}", quote(name)));
            }
            None => {
                let near = nearest(name, keys.keys.iter().map(|(key, _)| *key));
                let near = near.map(|near| format!("; did you mean {}?", quote(near))).unwrap_or_default();
                let message =
                    format!("{} of {} is not known, and not taken over{near}", quote(name), keys.title);
                self.warn(entry.key.span, message);
            }
        }
    }

    /// A file as a tree. `None` when there is none, or when something is wrong with it, which is noted.
    pub(super) fn tree(&self, path: &Path, at: Span) -> Option<Rc<Node>> {
        match self.view.file(path) {
            Found::Missing => {
                self.problem(Problem::new(at, format!("{} does not exist", path.display())));
                None
            }
            Found::Unreadable(why) => {
                self.problem(Problem::new(at, format!("cannot read {}: {why}", path.display())));
                None
            }
            Found::Text(text) => {
                let base = self.bases.get(path).copied().unwrap_or_default();
                tree::read_at(base, path, &text, &mut self.problems.borrow_mut())
            }
        }
    }

    /// `package.json` of a folder, as far as it can be read.
    pub(super) fn package(&self, folder: &Path) -> serde_json::Value {
        match self.view.file(&folder.join("package.json")) {
            Found::Text(text) => serde_json::from_str(&text).unwrap_or_default(),
            Found::Missing | Found::Unreadable(_) => serde_json::Value::Null,
        }
    }

    /// The variables of a file such as `.env`; `None` when there is none.
    pub(super) fn variables(&self, path: &Path) -> Option<BTreeMap<String, String>> {
        let Found::Text(text) = self.view.file(path) else { return None };
        let mut problems = Problems::default();
        let variables = dotenv::parse(&text, &mut problems);
        let base = self.bases.get(path).copied().unwrap_or_default();
        self.problems.borrow_mut().append_text_at(base, problems);
        Some(variables.into_iter().map(|(name, variable)| (name, variable.value)).collect())
    }

    /// What a variable holds: the environment's, else the service's own, else that of `.env`.
    pub(super) fn variable(&self, name: &str, scope: &Scope) -> Option<String> {
        let dotenv = || self.dotenv.get(name).map(|variable| variable.value.clone());
        self.sources.env.get(name).cloned().or_else(|| scope.own.get(name).cloned()).or_else(dotenv)
    }

    /// The text of a scalar with its placeholders filled in, for what is decided here.
    pub(super) fn say(&self, node: &Node, scope: &Scope) -> Option<String> {
        let text = scalar(node).or_else(|| {
            let message = format!("this is text, and not {}", node.kind());
            self.problem(Problem::new(node.span, message));
            None
        })?;
        self.filled(&text, node.span, scope, 0)
    }

    fn filled(&self, text: &str, at: Span, scope: &Scope, depth: usize) -> Option<String> {
        let mut filled = String::new();
        for part in braces::parts(text) {
            match part {
                Part::Text(text) => filled.push_str(text),
                Part::Variable("PLT_ROOT") => filled.push_str(&self.folder_of(scope).to_string_lossy()),
                Part::Variable(name) => match self.variable(name, scope) {
                    Some(value) if depth < DEPTH_MAX => {
                        filled.push_str(&self.filled(&value, at, scope, depth + 1)?);
                    }
                    Some(value) => filled.push_str(&value),
                    None => match own_url(name, scope) {
                        Some(url) => filled.push_str(&url),
                        None if self.is_strict => {
                            self.problem(unset(name, at));
                            return None;
                        }
                        None => {}
                    },
                },
            }
        }
        Some(filled)
    }

    fn folder_of<'s>(&'s self, scope: &'s Scope) -> &'s Path {
        scope.folder.as_deref().unwrap_or(&self.root)
    }

    /// A value as it is, with its placeholders in watt's notation.
    pub(super) fn carry(&self, node: &Node, scope: &Scope) -> Rc<Node> {
        if let Some(text) = scalar(node) {
            let quoted = !matches!(&node.value, Value::Scalar { quoted: false, .. });
            let text = self.written(&text, scope);
            return Rc::new(Node::new(node.span, Value::Scalar { text, quoted }));
        }
        let value = match &node.value {
            Value::List(items) => Value::List(items.iter().map(|item| self.carry(item, scope)).collect()),
            Value::Map(entries) => {
                let carried = entries.iter().map(|Entry { key, node }| {
                    let carried = self.carry(node, scope);
                    Entry { key: tree::Key { text: key.text.clone(), span: key.span }, node: carried }
                });
                Value::Map(carried.collect())
            }
            Value::Null | Value::Scalar { .. } => Value::Null,
        };
        Rc::new(Node::new(node.span, value))
    }

    /// A text with its placeholders in watt's notation.
    pub(super) fn written(&self, text: &str, scope: &Scope) -> String {
        let mut written = String::new();
        for part in braces::parts(text) {
            match part {
                Part::Text(text) => written.push_str(&braces::escaped(text)),
                Part::Variable("PLT_ROOT") => match &scope.folder {
                    Some(folder) => written.push_str(&self.below_root(folder)),
                    None => written.push_str("{WATT_ROOT}"),
                },
                Part::Variable(name) => written.push_str(&self.placeholder(name, scope)),
            }
        }
        written
    }

    /// A folder of the project, from `{WATT_ROOT}` where that is around it.
    fn below_root(&self, folder: &Path) -> String {
        match folder.strip_prefix(&self.root) {
            Ok(below) if below.as_os_str().is_empty() => "{WATT_ROOT}".to_owned(),
            Ok(below) => format!("{{WATT_ROOT}}/{}", braces::escaped(&below.to_string_lossy())),
            Err(_) => braces::escaped(&folder.to_string_lossy()),
        }
    }

    fn placeholder(&self, name: &str, scope: &Scope) -> String {
        let is_everywhere = self.sources.env.contains_key(name) || self.dotenv.contains_key(name);
        if !self.sources.env.contains_key(name)
            && let Some(own) = scope.own.get(name)
        {
            return braces::escaped(own);
        }
        if !is_everywhere && let Some(url) = own_url(name, scope) {
            return url;
        }
        if is_everywhere || self.is_strict { format!("{{{name}}}") } else { format!("{{{name}:-}}") }
    }

    /// A number of milliseconds as a time.
    pub(super) fn milliseconds(&self, node: &Node, scope: &Scope) -> Option<Rc<Node>> {
        let text = scalar(node)?;
        Some(build::text(node.span, format!("{}ms", self.written(&text, scope))))
    }

    /// Whether something is true: `true`, or text that says so.
    pub(super) fn is_true(&self, node: &Node, scope: &Scope) -> bool {
        self.say(node, scope).is_some_and(|text| text == "true")
    }

    /// The texts of a list.
    pub(super) fn texts(&self, node: &Node, scope: &Scope) -> Vec<String> {
        match &node.value {
            Value::List(items) => items.iter().filter_map(|item| self.say(item, scope)).collect(),
            Value::Null => Vec::new(),
            Value::Scalar { .. } | Value::Map(_) => self.say(node, scope).into_iter().collect(),
        }
    }

    /// A path of the project, as a watt.yaml has it.
    pub(super) fn path(&self, path: &Path, at: Span) -> Rc<Node> {
        let text = match path.strip_prefix(&self.root) {
            Ok(below) if below.as_os_str().is_empty() => ".".into(),
            Ok(below) => below.to_string_lossy(),
            Err(_) => path.to_string_lossy(),
        };
        build::text(at, braces::escaped(&text))
    }

    /// The names of variables that a service gets of watt's environment.
    pub(super) fn inherited(&self) -> BTreeSet<&str> {
        match self.purpose {
            For::Writing => BTreeSet::new(),
            For::Running => {
                self.sources.env.keys().map(String::as_str).filter(|name| is_for_services(name)).collect()
            }
        }
    }
}

/// The text of a scalar. `{NAME}` without quotes is a table in YAML, and Platformatic's text.
pub(super) fn scalar(node: &Node) -> Option<String> {
    match &node.value {
        Value::Scalar { text, .. } => Some(text.clone()),
        Value::Map(entries) => match entries.as_slice() {
            [Entry { key, node }] if matches!(node.value, Value::Null) => Some(format!("{{{}}}", key.text)),
            [Entry { key, node }] if key.text.is_empty() => scalar(node),
            _ => None,
        },
        Value::Null | Value::List(_) => None,
    }
}

fn is_off(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Scalar { text, .. } => matches!(text.as_str(), "false" | "0" | ""),
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => {
            entries.is_empty()
                || entries.iter().any(|entry| entry.key.text == "enabled" && is_off(&entry.node))
        }
    }
}

/// What a variable that ends with `_URL` stands for in a service's file where it is not set.
fn own_url(name: &str, scope: &Scope) -> Option<String> {
    let id = scope.id.as_ref().filter(|_| scope.folder.is_some())?;
    name.ends_with("_URL").then(|| format!("http://{id}.plt.local"))
}

fn unset(name: &str, at: Span) -> Problem {
    let hint =
        "set it in the environment or in .env; with `\"strictEnv\": false` in the project's file it is empty";
    Problem::new(at, format!("the variable {name} is not set")).hint(hint)
}

/// What is of a session, of the service manager or of watt's own, and no service's business.
fn is_for_services(name: &str) -> bool {
    /// Those that watt passes on in any case, or sets itself, come first.
    const NOT: [&str; 33] = [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "TZ",
        "TERM",
        "TMPDIR",
        "PORT",
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "LISTEN_PID",
        "FDSTORE",
        "STATE_DIRECTORY",
        "RUNTIME_DIRECTORY",
        "CACHE_DIRECTORY",
        "LOGS_DIRECTORY",
        "CONFIGURATION_DIRECTORY",
        "CREDENTIALS_DIRECTORY",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "SYSTEMD_EXEC_PID",
        "MEMORY_PRESSURE_WATCH",
        "SHELL",
        "SHLVL",
        "PWD",
        "OLDPWD",
        "_",
        "MAIL",
        "LS_COLORS",
    ];
    const NOT_BEGINNING: [&str; 6] = ["WATT_", "LC_", "SSH_", "XDG_", "DBUS_", "SUDO_"];
    crate::dotenv::is_name(name)
        && !NOT.contains(&name)
        && !NOT_BEGINNING.iter().any(|beginning| name.starts_with(beginning))
}
