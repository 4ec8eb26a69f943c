//! The project's own file, and the whole tree.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use super::{
    Translated,
    applications::{Application, over},
    build::{self, Table},
    gateway,
    keys::{HTTPS, METRICS, POLICIES, ROOT, SCHEDULED, SERVER},
    kinds::{Kind, Program, member, slashed},
    names::{self, FileKind},
    service::service_name,
    translate::{Opened, Scope, Translator, scalar},
};
use crate::{
    decode::absolute,
    report::Problem,
    scalar::quote,
    source::Span,
    tree::{self, Entry, Key, Node, Value},
};

/// How many files one may go on from.
const EXTENDS_MAX: usize = 8;

impl Translator<'_> {
    /// Everything.
    pub(super) fn project(mut self) -> Option<Translated> {
        let tree = tree::read(&self.sources.file, &self.sources.text, &mut self.problems.borrow_mut())?;
        let root = match names::kind_of(&tree) {
            Some(FileKind::Root) => self.extended(tree)?,
            Some(FileKind::Application(_)) => self.wrapped(&tree)?,
            None => {
                let problem = Problem::new(start_of(&tree), "this file does not say what it is for");
                self.problem(problem.hint("write `\"$schema\": \"https://schemas.platformatic.dev/wattpm/3.0.0.json\"` for a project of Platformatic's"));
                return None;
            }
        };
        self.is_strict = !is_lax(&root);
        let opened = self.open(&ROOT, &root);
        self.say_of_lax(opened);
        let applications = self.applications(opened);
        let tree = self.assemble(opened, &applications);
        Some(Translated { tree, warnings: self.warnings.into_inner() })
    }

    /// A project's file with what it goes on from.
    fn extended(&self, tree: Rc<Node>) -> Option<Rc<Node>> {
        let mut whole = tree;
        let mut folder = self.root.clone();
        for _ in 0..EXTENDS_MAX {
            let Some(base) = member(&whole, "extends").filter(|node| scalar(node).is_some()) else {
                return Some(whole);
            };
            let path = absolute(&folder, &self.say(base, &Scope::default())?);
            let other = self.tree(&path, base.span)?;
            folder = path.parent().unwrap_or(&self.root).to_owned();
            whole = over(&without(&whole, "extends"), &other);
        }
        self.problem(Problem::new(start_of(&whole), "`extends` leads from file to file without an end"));
        None
    }

    /// The project of a file that is an application's, and the only one.
    fn wrapped(&self, tree: &Rc<Node>) -> Option<Rc<Node>> {
        let at = start_of(tree);
        let package = self.package(&self.root);
        let name =
            package["name"].as_str().map(|name| name.rsplit('/').next().unwrap_or(name)).unwrap_or("main");
        let runtime = member(tree, "runtime");
        let mut application = Table::new(at);
        application.put("id", build::text(at, super::braces::escaped(name)));
        application.put("path", build::text(at, "."));
        let file = self.sources.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        application.put("config", build::text(at, super::braces::escaped(&file)));
        let application = match runtime.and_then(|runtime| member(runtime, "application")) {
            Some(more) => over(&application.node(), more),
            None => application.node(),
        };
        let mut root = Table::new(at);
        if let Some(server) = member(tree, "server") {
            root.set("server", server.span, self.of_wrapped_server(server));
        }
        root.put("applications", build::list(at, vec![application]));
        root.put("entrypoint", build::text(at, super::braces::escaped(name)));
        let root = root.node();
        Some(match runtime {
            Some(runtime) => over(&root, &without(runtime, "application")),
            None => root,
        })
    }

    /// What of `server` is the project's, and not the program's own.
    fn of_wrapped_server(&self, server: &Node) -> Rc<Node> {
        let Value::Map(entries) = &server.value else { return Rc::new(Node::table(server.span, Vec::new())) };
        let own =
            entries.iter().filter(|entry| matches!(entry.key.text.as_str(), "hostname" | "port" | "https"));
        Rc::new(Node::table(server.span, own.cloned().collect()))
    }

    fn say_of_lax(&self, root: Opened<'_>) {
        if let Some(entry) = root.get("strictEnv").filter(|_| !self.is_strict) {
            let is_warning = scalar(&entry.node).is_some_and(|text| text == "warn");
            if is_warning {
                self.warn(entry.key.span, "variables that are not set are empty");
            }
        }
    }

    fn assemble(&self, root: Opened<'_>, applications: &[Application]) -> Rc<Node> {
        let mut gateways: Vec<&Application> = Vec::new();
        let mut programs: BTreeMap<String, Program> = BTreeMap::new();
        let mut services = Vec::new();
        for app in applications {
            match self.kind(app, root) {
                Some(Kind::Gateway) => gateways.push(app),
                Some(Kind::Program(program)) => {
                    if programs.insert(service_name(&app.id), program).is_some() {
                        let message = format!(
                            "{} is there already: names have no capitals in the mesh",
                            quote(&app.id)
                        );
                        self.problem(Problem::new(app.at, message).hint("give one of the two another `id`"));
                    }
                    services.push(app);
                }
                None => {}
            }
        }
        let names: BTreeSet<&str> = gateways.iter().map(|app| app.id.as_str()).collect();
        let mut table = Table::new(root.span);
        let base = root.get("basePath").and_then(|entry| self.say(&entry.node, &Scope::default()));
        let base = slashed(&base.unwrap_or_default());
        let routes = self.entry(root, applications, &gateways, &programs, &base);
        let mut entries = Table::new(root.span);
        for app in services {
            let Some(program) = programs.get(&service_name(&app.id)) else { continue };
            let service = self.service(app, program, root, &names);
            entries.set(&service_name(&app.id), app.at, service);
        }
        if !routes.is_empty() {
            table.put_table("server", self.server(root));
            let mut gateway = Table::new(root.span);
            gateway.put("routes", build::list(root.span, routes));
            table.put("services", entries.node());
            table.put_table("gateway", gateway);
        } else {
            table.put("services", entries.node());
        }
        if let Some(entry) = root.get("metrics") {
            self.metrics(&mut table, entry);
        }
        if let Some(policies) = self.policies(root, &programs) {
            table.put("policies", policies);
        }
        if let Some(entry) = root.get("scheduler") {
            self.scheduler(&mut table, entry);
        }
        table.node()
    }

    /// The routes for clients.
    fn entry(
        &self,
        root: Opened<'_>,
        applications: &[Application],
        gateways: &[&Application],
        programs: &BTreeMap<String, Program>,
        base: &str,
    ) -> Vec<Rc<Node>> {
        let written = root
            .get("entrypoint")
            .and_then(|entry| Some((self.say(&entry.node, &Scope::default())?, entry.node.span)));
        let chosen = match (&written, applications, gateways) {
            (Some((id, _)), _, _) => applications.iter().find(|app| app.id == *id),
            (None, [only], _) => Some(only),
            (None, _, [only]) => Some(*only),
            (None, _, _) => None,
        };
        for gateway in gateways {
            if chosen.is_none_or(|app| app.id != gateway.id) {
                self.warn(
                    gateway.at,
                    format!(
                        "{} is a gateway and not the entrypoint: its routes are nowhere",
                        quote(&gateway.id)
                    ),
                );
            }
            self.without_program(gateway);
        }
        match (chosen, written) {
            (Some(app), _) if gateways.iter().any(|gateway| gateway.id == app.id) => {
                self.gateway(app, programs, base)
            }
            (Some(app), written) => match programs.get(&service_name(&app.id)) {
                Some(program) if program.listens => {
                    let at = written.map_or(app.at, |(_, at)| at);
                    vec![gateway::to_all(at, &service_name(&app.id), base)]
                }
                Some(_) => Vec::new(),
                // What is wrong with it was said.
                None => Vec::new(),
            },
            (None, Some((id, at))) => {
                let names: Vec<String> = applications.iter().map(|app| quote(&app.id)).collect();
                let problem = Problem::new(
                    at,
                    format!("the entrypoint {} is not an application that is enabled", quote(&id)),
                );
                self.problem(problem.hint(format!("the applications are {}", names.join(", "))));
                Vec::new()
            }
            (None, None) => {
                self.warn(
                    root.span_of_start(),
                    "there is no `entrypoint`: clients reach nothing, and services each other",
                );
                Vec::new()
            }
        }
    }

    fn server(&self, root: Opened<'_>) -> Table {
        let scope = Scope::default();
        let Some(entry) = root.get("server") else { return Table::new(root.span) };
        let opened = self.open(&SERVER, &entry.node);
        let mut server = Table::new(entry.key.span);
        if let Some(hostname) = opened.get("hostname") {
            let node = match scalar(&hostname.node).as_deref() {
                Some("localhost") => build::text(hostname.node.span, "127.0.0.1"),
                _ => self.carry(&hostname.node, &scope),
            };
            server.set("hostname", hostname.key.span, node);
        }
        if let Some(port) = opened.get("port") {
            server.set("port", port.key.span, self.carry(&port.node, &scope));
        }
        if let Some(limit) = opened.get("bodyLimit") {
            server.set("body_limit", limit.key.span, self.carry(&limit.node, &scope));
        }
        if let Some(idle) = opened.get("keepAliveTimeout")
            && let Some(time) = self.milliseconds(&idle.node, &scope)
        {
            server.set("idle_timeout", idle.key.span, time);
        }
        if let Some(https) = opened.get("https") {
            server.put_table("tls", self.tls(https, &scope));
        }
        server
    }

    fn tls(&self, https: &Entry, scope: &Scope) -> Table {
        let opened = self.open(&HTTPS, &https.node);
        let mut tls = Table::new(https.key.span);
        for (theirs, ours) in [("cert", "certificate"), ("key", "key")] {
            let Some(entry) = opened.get(theirs) else { continue };
            let items: Vec<&Rc<Node>> = match &entry.node.value {
                Value::List(items) => items.iter().collect(),
                _ => vec![&entry.node],
            };
            if items.len() > 1 {
                self.warn(entry.key.span, format!("of `{theirs}` only the first is taken: `certificates` of `server.tls` in a watt.yaml has several"));
            }
            let Some(item) = items.first() else { continue };
            match member(item, "path") {
                Some(path) => tls.set(ours, entry.key.span, self.carry(path, scope)),
                None => {
                    let problem = Problem::new(
                        item.span,
                        format!("`{theirs}` is the text of a certificate or key, and not a file"),
                    );
                    self.problem(problem.hint(format!(
                        "write it into a file, and `\"{theirs}\": {{ \"path\": \"{theirs}.pem\" }}`"
                    )));
                }
            }
        }
        tls
    }

    /// Who may call whom: of each service that is denied to somebody, all the others.
    fn policies(&self, root: Opened<'_>, programs: &BTreeMap<String, Program>) -> Option<Rc<Node>> {
        let entry = root.get("policies")?;
        let opened = self.open(&POLICIES, &entry.node);
        let deny = opened.get("deny")?;
        let Value::Map(pairs) = &deny.node.value else {
            let message = format!("`deny` is a table of names, and this is {}", deny.node.kind());
            self.problem(Problem::new(deny.node.span, message));
            return None;
        };
        let scope = Scope::default();
        let mut denied: BTreeMap<String, (Span, BTreeSet<String>)> = BTreeMap::new();
        for pair in pairs {
            let one = service_name(&pair.key.text);
            for other in self.texts(&pair.node, &scope) {
                let other = service_name(&other);
                for name in [&one, &other] {
                    if !programs.contains_key(name) {
                        self.warn(
                            pair.key.span,
                            format!("{} is no service here, so that nothing is denied to it", quote(name)),
                        );
                    }
                }
                denied
                    .entry(one.clone())
                    .or_insert_with(|| (pair.key.span, BTreeSet::new()))
                    .1
                    .insert(other.clone());
                denied.entry(other).or_insert_with(|| (pair.key.span, BTreeSet::new())).1.insert(one.clone());
            }
        }
        let mut policies = Vec::new();
        for (to, (at, refused)) in denied.iter().filter(|(to, _)| programs.contains_key(*to)) {
            // It may always call itself, so that there is a rule even where nobody else may.
            for from in programs.keys().filter(|from| *from == to || !refused.contains(*from)) {
                let mut policy = Table::new(*at);
                policy.put("from", build::text(*at, super::braces::escaped(from)));
                policy.put("to", build::text(*at, super::braces::escaped(to)));
                policies.push(policy.node());
            }
        }
        (!policies.is_empty()).then(|| build::list(deny.node.span, policies))
    }

    /// Where collectors get what was counted. What is not for everybody is not opened to everybody.
    fn metrics(&self, table: &mut Table, entry: &Entry) {
        let scope = Scope::default();
        if scalar(&entry.node).is_some() {
            return table.set("metrics", entry.key.span, self.carry(&entry.node, &scope));
        }
        let opened = self.open(&METRICS, &entry.node);
        if let Some(auth) = opened.get("auth") {
            let message = "`metrics` is not taken over, as nobody is asked for a password there: leave `auth` out to have them on 127.0.0.1, or fetch them from the control socket";
            return self.warn(auth.key.span, message);
        }
        let mut metrics = Table::new(entry.key.span);
        for key in ["enabled", "hostname", "port", "endpoint"] {
            if let Some(written) = opened.get(key) {
                metrics.set(key, written.key.span, self.carry(&written.node, &scope));
            }
        }
        if metrics.is_empty() {
            return table.set("metrics", entry.key.span, build::plain(entry.key.span, true));
        }
        table.put_table("metrics", metrics);
    }

    fn scheduler(&self, table: &mut Table, entry: &Entry) {
        let Value::List(items) = &entry.node.value else {
            let message = format!("`scheduler` is a list of jobs, and this is {}", entry.node.kind());
            return self.problem(Problem::new(entry.node.span, message));
        };
        let scope = Scope::default();
        let mut jobs = Vec::new();
        for item in items {
            let opened = self.open(&SCHEDULED, item);
            if let Some(url) = opened.get("callbackUrl") {
                let Some(text) = self.say(&url.node, &scope) else { continue };
                let host = text.strip_prefix("http://").and_then(|rest| rest.split(['/', ':', '?']).next());
                if !host.is_some_and(|host| host.to_ascii_lowercase().ends_with(".plt.local")) {
                    self.warn(url.node.span, format!("{text:?} is not the URL of a service, and is not called: have a job with a `command` do it, in a watt.yaml"));
                    continue;
                }
            }
            let Value::Map(entries) = &self.carry(item, &scope).value else { continue };
            let known = entries.iter().filter(|entry| SCHEDULED.fate(&entry.key.text).is_some());
            let known = known.filter(|entry| !matches!(entry.node.value, Value::Null));
            jobs.push(Rc::new(Node::table(item.span, known.map(copied).collect())));
        }
        if !jobs.is_empty() {
            table.set("scheduler", entry.key.span, build::list(entry.node.span, jobs));
        }
    }
}

fn copied(entry: &Entry) -> Entry {
    Entry { key: Key { text: entry.key.text.clone(), span: entry.key.span }, node: Rc::clone(&entry.node) }
}

/// A table without one of its keys.
fn without(node: &Node, key: &str) -> Rc<Node> {
    let Value::Map(entries) = &node.value else { return Rc::new(Node::table(node.span, Vec::new())) };
    let others = entries.iter().filter(|entry| entry.key.text != key);
    Rc::new(Node::table(node.span, others.cloned().collect()))
}

/// Whether variables that are not set are empty.
fn is_lax(root: &Node) -> bool {
    let written = member(root, "strictEnv").and_then(scalar);
    written.is_some_and(|text| matches!(text.as_str(), "false" | "warn"))
}

/// The first character of a table, to point at it without its whole text.
fn start_of(node: &Node) -> Span {
    Span { start: node.span.start, end: node.span.start }
}
