//! Gateways, which version 2 called composers: routes of the mesh proxy, and no program.

use std::{collections::BTreeMap, rc::Rc};

use super::{
    applications::Application,
    braces::escaped,
    build::{self, Table},
    keys::{GATEWAY, MEMBER, PROXY, SERVICE_FILE, WS},
    kinds::{Program, slashed},
    service::service_name,
    translate::{Opened, Scope, Translator},
};
use crate::{
    report::Problem,
    scalar::quote,
    source::Span,
    tree::{Node, Value},
};

/// Methods of operations of OpenAPI.
const OPERATIONS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// A member of a gateway.
struct Member<'n> {
    id: String,
    at: Span,
    opened: Opened<'n>,
    proxy: Option<Opened<'n>>,
    scope: &'n Scope,
}

/// Where a member's requests go.
enum Destination {
    Service(String),
    Upstream(String),
}

/// A path that a member is at, and what becomes of it on the way.
struct Place {
    /// For clients, without the project's `basePath`.
    path: String,
    /// What the service sees in its place. `None` leaves it.
    inner: Option<String>,
    is_exact: bool,
    methods: Vec<String>,
}

impl Translator<'_> {
    /// The routes of a gateway.
    pub(super) fn gateway(
        &self,
        app: &Application,
        programs: &BTreeMap<String, Program>,
        base: &str,
    ) -> Vec<Rc<Node>> {
        let mut routes = Vec::new();
        let Some((_, tree)) = &app.file else {
            for (id, program) in programs {
                self.member_without_words(&mut routes, app.at, id, program, base);
            }
            return routes;
        };
        let top = self.open(&SERVICE_FILE, tree);
        self.warn_of_code(tree);
        let opened = match top.any(&["gateway", "composer"]) {
            Some(entry) => self.open(&GATEWAY, &entry.node),
            None => Opened::empty(app.at),
        };
        let Some(list) = opened.any(&["applications", "services"]) else {
            for (id, program) in programs {
                self.member_without_words(&mut routes, opened.span, id, program, base);
            }
            return routes;
        };
        let Value::List(items) = &list.node.value else {
            let message = format!("{} is a list, and this is {}", quote(&list.key.text), list.node.kind());
            self.problem(Problem::new(list.node.span, message));
            return routes;
        };
        for item in items {
            let opened = self.open(&MEMBER, item);
            let Some(id) = opened.get("id") else {
                self.problem(
                    Problem::new(item.span, "a member of a gateway without `id`")
                        .hint("write `\"id\": \"api\"`"),
                );
                continue;
            };
            let Some(name) = self.say(&id.node, &app.scope) else { continue };
            let proxy = opened.get("proxy").filter(|entry| matches!(entry.node.value, Value::Map(_)));
            let member = Member {
                id: service_name(&name),
                at: id.node.span,
                opened,
                proxy: proxy.map(|entry| self.open(&PROXY, &entry.node)),
                scope: &app.scope,
            };
            self.member(&mut routes, &member, programs, base);
        }
        routes
    }

    /// Code of a gateway, which nothing runs.
    fn warn_of_code(&self, tree: &Node) {
        let Value::Map(entries) = &tree.value else { return };
        for entry in entries.iter().filter(|entry| entry.key.text == "plugins") {
            self.warn(entry.key.span, "`plugins` of a gateway are not run: put that code into a service");
        }
    }

    /// A service that a gateway has because it is there.
    fn member_without_words(
        &self,
        routes: &mut Vec<Rc<Node>>,
        at: Span,
        id: &str,
        program: &Program,
        base: &str,
    ) {
        if !program.listens {
            return;
        }
        let prefix = program.base.clone().unwrap_or_else(|| format!("/{id}"));
        let inner = inner(&prefix, "", Some(program));
        let place = Place { path: prefix, inner, is_exact: false, methods: Vec::new() };
        routes.push(route(at, &place, &Destination::Service(id.to_owned()), None, base));
    }

    fn member(
        &self,
        routes: &mut Vec<Rc<Node>>,
        member: &Member<'_>,
        programs: &BTreeMap<String, Program>,
        base: &str,
    ) {
        if let Some(ws) = member.proxy.and_then(|proxy| proxy.get("ws")) {
            let _ = self.open(&WS, &ws.node);
        }
        let Some(destination) = self.destination(member, programs) else { return };
        let program = match &destination {
            Destination::Service(id) => programs.get(id),
            Destination::Upstream(_) => None,
        };
        let is_off = member
            .opened
            .get("proxy")
            .is_some_and(|entry| super::translate::scalar(&entry.node).is_some_and(|text| text == "false"));
        let has_document = member.opened.get("openapi").is_some() || member.opened.get("graphql").is_some();
        if member.proxy.is_some() || !is_off && !has_document {
            for place in self.proxied(member, program) {
                routes.push(route(member.at, &place, &destination, None, base));
            }
            if let Some(host) = member
                .proxy
                .and_then(|proxy| proxy.get("hostname"))
                .and_then(|entry| self.say(&entry.node, member.scope))
            {
                // For a host of its own the prefix is not asked for.
                let place = Place { path: "/".to_owned(), inner: None, is_exact: false, methods: Vec::new() };
                routes.push(route(member.at, &place, &destination, Some(&host), base));
            }
        }
        if let Some(entry) = member.opened.get("openapi") {
            for place in self.described(member, &entry.node) {
                routes.push(route(entry.key.span, &place, &destination, None, base));
            }
        }
    }

    /// A service of the project, or another server.
    fn destination(&self, member: &Member<'_>, programs: &BTreeMap<String, Program>) -> Option<Destination> {
        let written =
            member.proxy.and_then(|proxy| proxy.get("upstream")).or_else(|| member.opened.get("origin"));
        let Some(entry) = written else {
            return self.a_service(&member.id, member.at, programs);
        };
        let url = self.say(&entry.node, member.scope)?;
        let inside = url.strip_prefix("internal://").or_else(|| {
            let host = url.strip_prefix("http://")?.trim_end_matches('/');
            host.strip_suffix(".plt.local").or_else(|| host.strip_suffix(".plt.local:80"))
        });
        if let Some(name) = inside {
            return self.a_service(&service_name(name.trim_end_matches('/')), entry.node.span, programs);
        }
        Some(Destination::Upstream(escaped(url.trim_end_matches('/'))))
    }

    fn a_service(&self, id: &str, at: Span, programs: &BTreeMap<String, Program>) -> Option<Destination> {
        if programs.contains_key(id) {
            return Some(Destination::Service(id.to_owned()));
        }
        let known: Vec<String> = programs.keys().map(|id| quote(id)).collect();
        let problem =
            Problem::new(at, format!("there is no service {} that a gateway could have", quote(id)));
        self.problem(problem.hint(format!("there are {}", known.join(", "))));
        None
    }

    /// Where `proxy` puts it.
    fn proxied(&self, member: &Member<'_>, program: Option<&Program>) -> Vec<Place> {
        let said = |key: &str| {
            let entry = member.proxy.and_then(|proxy| proxy.get(key))?;
            self.say(&entry.node, member.scope)
        };
        let prefix = said("prefix").or_else(|| program.and_then(|program| program.base.clone()));
        let prefix = slashed(&prefix.unwrap_or_else(|| member.id.clone()));
        let rewrite = said("rewritePrefix").unwrap_or_default();
        let methods = member.proxy.and_then(|proxy| proxy.get("methods"));
        let methods = methods.map(|entry| self.texts(&entry.node, member.scope)).unwrap_or_default();
        let routes = member.proxy.and_then(|proxy| proxy.get("routes"));
        let routes = routes.map(|entry| self.texts(&entry.node, member.scope)).unwrap_or_default();
        if routes.is_empty() || routes.iter().any(|route| route == "/*" || route == "*") {
            let inner = inner(&prefix, &rewrite, program);
            return vec![Place { path: prefix, inner, is_exact: false, methods }];
        }
        let whole = inner(&prefix, &rewrite, program).unwrap_or_else(|| prefix.clone());
        let places = routes.iter().map(|route| {
            let (part, is_exact) = match route.strip_suffix('*') {
                Some(part) => (part, false),
                None => (route.as_str(), true),
            };
            let part = parameters(part);
            let path = joined(&prefix, &part);
            let inner = joined(&whole, &part);
            Place { inner: (inner != path).then_some(inner), path, is_exact, methods: methods.clone() }
        });
        places.collect()
    }

    /// Where its document of OpenAPI puts it: the paths of a file, or all below a prefix.
    fn described(&self, member: &Member<'_>, node: &Node) -> Vec<Place> {
        let said = |key: &str| super::kinds::member(node, key).and_then(|node| self.say(node, member.scope));
        let prefix = said("prefix").map(|prefix| slashed(&prefix)).unwrap_or_else(|| "/".to_owned());
        if let Some(config) = super::kinds::member(node, "config") {
            self.warn(config.span, "`config` of a document of OpenAPI is not taken over: paths and answers are what the service has");
        }
        let file = said("file").zip(member.scope.folder.as_ref());
        if let Some((file, folder)) = file {
            let path = crate::decode::absolute(folder, &file);
            if let Some(tree) = self.tree(&path, node.span) {
                return paths_of(&tree, &prefix);
            }
            return Vec::new();
        }
        if prefix == "/" && said("prefix").is_none() {
            let message = format!(
                "which paths {} has is in the document at its `url`, which watt does not ask for: it gets all that no other route takes; write `prefix` or `file`",
                quote(&member.id)
            );
            self.warn(node.span, message);
        } else {
            self.warn(
                node.span,
                format!(
                    "{} gets all below {prefix}, and not only what is in its document",
                    quote(&member.id)
                ),
            );
        }
        let inner = (prefix != "/").then(|| "/".to_owned());
        vec![Place { path: prefix, inner, is_exact: false, methods: Vec::new() }]
    }
}

/// What a service sees in place of a prefix: nothing of it, unless something is written, or it wants the whole.
fn inner(prefix: &str, rewrite: &str, program: Option<&Program>) -> Option<String> {
    let inner = match program {
        _ if !rewrite.is_empty() => slashed(rewrite),
        Some(Program { is_absolute: true, base: Some(base), .. }) => slashed(base),
        Some(Program { is_absolute: true, base: None, .. }) => prefix.to_owned(),
        _ => "/".to_owned(),
    };
    (inner != prefix).then_some(inner)
}

/// The operations of a document of OpenAPI.
fn paths_of(tree: &Node, prefix: &str) -> Vec<Place> {
    let Some(Node { value: Value::Map(paths), .. }) = super::kinds::member(tree, "paths") else {
        return Vec::new();
    };
    let places = paths.iter().filter_map(|entry| {
        let Value::Map(operations) = &entry.node.value else { return None };
        let methods =
            operations.iter().map(|entry| entry.key.text.as_str()).filter(|name| OPERATIONS.contains(name));
        let methods: Vec<String> = methods.map(str::to_ascii_uppercase).collect();
        let part = lower_first(&entry.key.text);
        let path = joined(prefix, &part);
        let inner = joined("/", &part);
        (!methods.is_empty()).then(|| Place {
            inner: (inner != path).then_some(inner),
            path,
            is_exact: true,
            methods,
        })
    });
    places.collect()
}

/// `/users/:id` as watt writes it.
fn parameters(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment.strip_prefix(':') {
        Some(name) => format!("{{{}}}", first_lowered(name)),
        None => escaped(segment),
    });
    segments.collect::<Vec<_>>().join("/")
}

/// The same of a path that has parameters in braces.
fn lower_first(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            Some(name) => format!("{{{}}}", first_lowered(name)),
            None => segment.to_owned(),
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

/// A parameter's name as watt has them, which begin with a small letter to be told from variables.
fn first_lowered(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let mut chars = name.chars();
    let first = chars.next().filter(char::is_ascii_alphabetic);
    match first {
        Some(first) => format!("{}{}", first.to_ascii_lowercase(), chars.as_str()),
        None => format!("p{name}"),
    }
}

fn joined(prefix: &str, part: &str) -> String {
    let path = format!("{}/{}", prefix.trim_end_matches('/'), part.trim_start_matches('/'));
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    }
}

/// A route of a watt.yaml.
fn route(at: Span, place: &Place, to: &Destination, host: Option<&str>, base: &str) -> Rc<Node> {
    let mut route = Table::new(at);
    let path = joined(base, &place.path);
    // What a service sees has nothing of the project's base path.
    let inner = place.inner.clone().unwrap_or_else(|| place.path.clone());
    route.put("path", build::text(at, &path));
    if place.is_exact {
        route.put("match", build::plain(at, "exact"));
    }
    if let Some(host) = host {
        route.put("host", build::text(at, escaped(host)));
    }
    if !place.methods.is_empty() {
        let methods = place.methods.iter().map(|method| build::text(at, escaped(method)));
        route.put("methods", build::list(at, methods.collect()));
    }
    match to {
        Destination::Service(id) => route.put("service", build::text(at, escaped(id))),
        Destination::Upstream(url) => route.put("upstream", build::text(at, url)),
    }
    match inner.as_str() {
        inner if inner == path => {}
        "/" if !place.is_exact => route.put("strip", build::plain(at, true)),
        inner => route.put("rewrite", build::text(at, inner)),
    }
    route.node()
}

/// The route of an entrypoint that is a program: everything goes there.
pub(super) fn to_all(at: Span, id: &str, base: &str) -> Rc<Node> {
    let place = Place { path: "/".to_owned(), inner: None, is_exact: false, methods: Vec::new() };
    route(at, &place, &Destination::Service(id.to_owned()), None, base)
}
