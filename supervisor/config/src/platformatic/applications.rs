//! The applications of a project: those that are listed, and those of `autoload`.

use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use super::{
    keys::{APPLICATION, AUTOLOAD},
    names,
    translate::{Opened, Scope, Translator},
};
use crate::{
    decode::absolute,
    report::Problem,
    scalar::quote,
    source::Span,
    tree::{Entry, Node, Value},
};

/// One application, before anything is said of its program.
#[derive(Debug)]
pub(super) struct Application {
    pub(super) id: String,
    /// Where it is named.
    pub(super) at: Span,
    pub(super) folder: PathBuf,
    /// What the project's file says of it.
    pub(super) entry: Rc<Node>,
    /// Its own file.
    pub(super) file: Option<(PathBuf, Rc<Node>)>,
    /// For the project's file.
    pub(super) outer: Scope,
    /// For its own.
    pub(super) scope: Scope,
}

/// An application as it is listed.
struct Listed {
    id: String,
    at: Span,
    folder: Option<PathBuf>,
    entry: Rc<Node>,
}

impl Translator<'_> {
    /// All that are enabled, in their order.
    pub(super) fn applications(&self, root: Opened<'_>) -> Vec<Application> {
        let mut listed = self.listed(root);
        self.autoload(root, &mut listed);
        let base = self.resolved_base(root);
        listed.into_iter().filter_map(|listed| self.application(listed, &base)).collect()
    }

    fn listed(&self, root: Opened<'_>) -> Vec<Listed> {
        let mut all: Vec<Listed> = Vec::new();
        for key in ["applications", "services", "web"] {
            let Some(entry) = root.get(key) else { continue };
            let Value::List(items) = &entry.node.value else {
                let message =
                    format!("{} is a list of applications, and this is {}", quote(key), entry.node.kind());
                self.problem(
                    Problem::new(entry.node.span, message)
                        .hint("write `[{ \"id\": \"api\", \"path\": \"web/api\" }]`"),
                );
                continue;
            };
            for item in items {
                let opened = self.open(&APPLICATION, item);
                let Some(id) = opened.get("id") else {
                    let problem = Problem::new(item.span, "an application without `id`");
                    self.problem(problem.hint("write `\"id\": \"api\"`"));
                    continue;
                };
                let Some(name) = self.say(&id.node, &Scope::default()) else { continue };
                if let Some(first) = all.iter().find(|one| one.id == name) {
                    let problem = Problem::new(
                        id.node.span,
                        format!("a second application with the id {}", quote(&name)),
                    );
                    self.problem(problem.related(first.at, "the first one"));
                    continue;
                }
                all.push(Listed { id: name, at: id.node.span, folder: None, entry: Rc::clone(item) });
            }
        }
        all
    }

    /// The folders of `autoload`. One that is listed as well is what the list says of it, and else what `mappings` says.
    fn autoload(&self, root: Opened<'_>, listed: &mut Vec<Listed>) {
        let Some(entry) = root.get("autoload") else { return };
        let autoload = self.open(&AUTOLOAD, &entry.node);
        let Some(path) = autoload.get("path") else {
            self.problem(
                Problem::new(entry.key.span, "`autoload` without `path`").hint("write `\"path\": \"web\"`"),
            );
            return;
        };
        let outer = Scope::default();
        let Some(text) = self.say(&path.node, &outer) else { return };
        let folder = absolute(&self.root, &text);
        let Some(names) = self.view.folder(&folder) else {
            let problem =
                Problem::new(path.node.span, format!("the folder {} does not exist", folder.display()));
            self.problem(problem.hint("`path` is where the applications are, each in a folder of its own"));
            return;
        };
        let excluded =
            autoload.get("exclude").map(|entry| self.texts(&entry.node, &outer)).unwrap_or_default();
        for (name, is_folder) in names {
            if !is_folder || excluded.contains(&name) {
                continue;
            }
            let mapping = autoload.get("mappings").and_then(|entry| of_map(&entry.node, &name));
            let mapped = mapping.map(|entry| (self.open(&APPLICATION, &entry.node), Rc::clone(&entry.node)));
            let id = mapped.as_ref().and_then(|(opened, _)| opened.get("id"));
            let id = id.and_then(|id| self.say(&id.node, &outer)).unwrap_or_else(|| name.clone());
            let at = mapping.map_or(path.node.span, |entry| entry.key.span);
            let node = mapped.map_or_else(|| Rc::new(Node::table(at, Vec::new())), |(_, node)| node);
            match listed.iter_mut().find(|one| one.id == id) {
                Some(one) if one.folder.is_none() => {
                    one.entry = over(&one.entry, &node);
                    one.folder = Some(folder.join(&name));
                }
                Some(one) => {
                    let problem = Problem::new(
                        at,
                        format!("the folder {} is a second application {}", quote(&name), quote(&id)),
                    );
                    self.problem(problem.related(one.at, "the first one"));
                }
                None => listed.push(Listed { id, at, folder: Some(folder.join(&name)), entry: node }),
            }
        }
    }

    fn application(&self, listed: Listed, base: &Path) -> Option<Application> {
        let Listed { id, at, folder, entry } = listed;
        let outer = Scope { id: Some(id.clone()), ..Scope::default() };
        let opened = self.open(&APPLICATION, &entry);
        if !self.is_enabled(opened, &outer) {
            return None;
        }
        let folder = self.folder(opened, (&id, at), folder, base, &outer)?;
        let file = match opened.get("config") {
            Some(config) => Some(absolute(&folder, &self.say(&config.node, &outer)?)),
            None => names::first_in(&folder, |path| self.view.is_there(path)),
        };
        let file = match file {
            Some(path) => Some((
                path.clone(),
                self.tree(&path, opened.get("config").map_or(at, |entry| entry.node.span))?,
            )),
            None => None,
        };
        let own = self.own_variables(opened, &folder, &outer)?;
        let scope = Scope { folder: Some(folder.clone()), id: Some(id.clone()), own };
        Some(Application { id, at, folder, entry, file, outer, scope })
    }

    fn is_enabled(&self, opened: Opened<'_>, scope: &Scope) -> bool {
        let Some(entry) = opened.get("enabled") else { return true };
        let node = match &entry.node.value {
            Value::Map(entries) if super::translate::scalar(&entry.node).is_none() => {
                match entries.iter().find(|entry| entry.key.text == "production") {
                    Some(entry) => &entry.node,
                    None => return true,
                }
            }
            _ => &entry.node,
        };
        self.say(node, scope).is_none_or(|text| text != "false")
    }

    /// Where it is. One of another repository has to be there already.
    fn folder(
        &self,
        opened: Opened<'_>,
        (id, at): (&str, Span),
        autoloaded: Option<PathBuf>,
        base: &Path,
        scope: &Scope,
    ) -> Option<PathBuf> {
        let url = opened.get("url");
        // The variable of a path that `wattpm resolve` would have written need not be set.
        let written = opened.get("path").and_then(|path| match url {
            Some(_) => super::translate::scalar(&path.node).and_then(|text| self.try_fill(&text, scope)),
            None => self.say(&path.node, scope),
        });
        let written = written.filter(|text| !text.is_empty()).map(|text| absolute(&self.root, &text));
        let folder = match (written, autoloaded, url) {
            (Some(folder), _, _) | (None, Some(folder), _) => folder,
            (None, None, Some(_)) => base.join(id),
            (None, None, None) if opened.get("path").is_some() => return None,
            (None, None, None) => {
                let problem = Problem::new(at, format!("the application {} has no `path`", quote(id)));
                self.problem(
                    problem.hint("write `\"path\": \"web/NAME\"`, the folder that its program is in"),
                );
                return None;
            }
        };
        if self.view.folder(&folder).is_some() {
            return Some(folder);
        }
        let problem = match url {
            Some(entry) => {
                let url = self.say(&entry.node, scope).unwrap_or_default();
                let branch = opened.get("gitBranch").and_then(|entry| self.say(&entry.node, scope));
                let branch = branch.map(|branch| format!(" --branch {branch}")).unwrap_or_default();
                Problem::new(
                    entry.node.span,
                    format!("{} is of another repository, which watt does not clone yet", quote(id)),
                )
                .hint(format!("run `git clone --depth 1{branch} {url} {}`", folder.display()))
            }
            None => {
                let at = opened.get("path").map_or(at, |entry| entry.node.span);
                Problem::new(at, format!("the folder {} of {} does not exist", folder.display(), quote(id)))
                    .hint("`path` is from the folder of this file")
            }
        };
        self.problem(problem);
        None
    }

    /// A text with its placeholders filled in, when all of them are set.
    fn try_fill(&self, text: &str, scope: &Scope) -> Option<String> {
        let parts = super::braces::parts(text).into_iter();
        let filled = parts.map(|part| match part {
            super::braces::Part::Text(text) => Some(text.to_owned()),
            super::braces::Part::Variable("PLT_ROOT") => Some(self.root.to_string_lossy().into_owned()),
            super::braces::Part::Variable(name) => self.variable(name, scope),
        });
        filled.collect()
    }

    fn resolved_base(&self, root: Opened<'_>) -> PathBuf {
        let written = root.any(&["resolvedApplicationsBasePath", "resolvedServicesBasePath"]);
        let written = written.and_then(|entry| self.say(&entry.node, &Scope::default()));
        absolute(&self.root, written.as_deref().unwrap_or("external"))
    }

    /// The variables of `envfile`, or of the `.env` in its folder.
    fn own_variables(
        &self,
        opened: Opened<'_>,
        folder: &Path,
        scope: &Scope,
    ) -> Option<std::collections::BTreeMap<String, String>> {
        let Some(entry) = opened.get("envfile") else {
            let beside = folder.join(".env");
            let is_the_projects = self.sources.dotenv.as_ref().is_some_and(|(path, _)| *path == beside);
            return Some(if is_the_projects { None } else { self.variables(&beside) }.unwrap_or_default());
        };
        let path = absolute(&self.root, &self.say(&entry.node, scope)?);
        let variables = self.variables(&path);
        if variables.is_none() {
            let problem = Problem::new(entry.node.span, format!("cannot read {}", path.display()));
            self.problem(
                problem.hint("`envfile` is the path of a file with variables, from the project's folder"),
            );
        }
        variables
    }
}

/// The entry of a table with names of the user's choice.
fn of_map<'n>(node: &'n Node, name: &str) -> Option<&'n Entry> {
    match &node.value {
        Value::Map(entries) => entries.iter().find(|entry| entry.key.text == name),
        Value::Null | Value::Scalar { .. } | Value::List(_) => None,
    }
}

/// A table with what another one has beside it.
pub(super) fn over(first: &Node, second: &Node) -> Rc<Node> {
    let (Value::Map(own), Value::Map(others)) = (&first.value, &second.value) else {
        return Rc::new(Node::table(first.span, Vec::new()));
    };
    let missing = others.iter().filter(|entry| own.iter().all(|one| one.key.text != entry.key.text));
    Rc::new(Node::table(first.span, own.iter().chain(missing).cloned().collect()))
}
