//! One description of those of all services.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::{
    names::Names,
    problems::{Problem, Problems},
    read::{minor_version, read},
    walk::{Full, Walk, kinds},
    way::{Place, WORK_MAX, Way, leads, segments},
};

/// How large the whole may become, in bytes, or about that. What has no place in it is left out, service by service.
pub const ROOM: usize = 16 << 20;

/// What an operation takes besides what it says.
const OPERATION_BYTES: usize = 200;

/// What the whole says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// What it is called.
    pub title: String,
    /// The version of what it describes.
    pub version: String,
    /// What it is, in Markdown.
    pub description: Option<String>,
}

/// A service's description.
#[derive(Debug, Clone)]
pub struct Source<'s> {
    /// The service.
    pub service: &'s str,
    /// The description, as JSON.
    pub text: &'s [u8],
    /// What the operator says about it.
    pub rules: &'s Rules,
}

/// What is made of a service's description.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// What the service's paths begin with, that those of its description do not.
    pub base: String,
    /// What is left out.
    pub ignore: Vec<Ignored>,
    /// What components and operations are called in the whole, by what the description calls them.
    pub rename: BTreeMap<String, String>,
}

/// What is left out of a description.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ignored {
    /// The only method, in capital letters, or all.
    pub method: Option<String>,
    /// The path as the description has it; with `/*` at its end, everything below it as well.
    pub path: String,
}

impl Ignored {
    fn is(&self, path: &str, method: &str) -> bool {
        let is_path = match self.path.strip_suffix("/*") {
            Some(above) => {
                path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            None => self.path == path,
        };
        is_path && self.method.as_deref().is_none_or(|own| own == method)
    }
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Composed {
    /// The description of all, as JSON.
    pub document: String,
    /// What is in it of each service.
    pub services: BTreeMap<String, OfService>,
    /// What is wrong with descriptions, and what two of them say of one thing.
    pub problems: Vec<Problem>,
}

/// What is in the whole of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OfService {
    /// Operations.
    pub operations: usize,
    /// Operations of its description that no route leads to.
    pub unreached: usize,
}

/// Makes one description of all. It is the same for the same arguments, byte by byte.
pub fn compose(about: &About, sources: &[Source<'_>], ways: &[Way]) -> Composed {
    let mut problems = Problems::default();
    let mut versions = Vec::new();
    for source in sources {
        problems.next_service();
        match minor_version(source.text) {
            Ok(version) => versions.push((source, version)),
            Err(why) => problems.add(source.service, why.to_string()),
        }
    }
    let version = versions.iter().map(|(_, version)| *version).max().unwrap_or(1);
    let mut whole = Whole { version, problems, room: ROOM, ..Whole::default() };
    for (source, own) in versions {
        whole.problems.next_service();
        // One at a time: what is read takes many times what is written.
        match read(source.text) {
            Ok(root) => whole.add(source, own, &root, ways),
            Err(why) => whole.problems.add(source.service, why.to_string()),
        }
    }
    whole.finish(about)
}

/// What was made so far.
#[derive(Default)]
struct Whole {
    version: u8,
    room: usize,
    names: Names,
    problems: Problems,
    paths: Map<String, Value>,
    /// The paths by what is left of them without the names of parameters, which make no difference to clients.
    shapes: BTreeMap<String, String>,
    components: Map<String, Value>,
    webhooks: Map<String, Value>,
    tags: BTreeMap<String, Value>,
    services: BTreeMap<String, OfService>,
}

/// An operation on its way into the whole.
struct Operation<'d> {
    path: &'d str,
    method: &'static str,
    item: &'d Map<String, Value>,
    operation: &'d Map<String, Value>,
}

/// What is made of one service, which is added when all of it has room.
#[derive(Default)]
struct Added {
    operations: Vec<Written>,
    components: Map<String, Value>,
    webhooks: Map<String, Value>,
    /// Those of its operations, by name.
    tags: BTreeMap<String, Value>,
    unreached: usize,
}

/// An operation as it will be.
struct Written {
    place: Place,
    method: &'static str,
    /// The number of the way to it.
    way: usize,
    operation: Value,
    /// What its path says beside it.
    beside: Map<String, Value>,
}

const METHODS: [(&str, &str); 9] = [
    ("get", "GET"),
    ("put", "PUT"),
    ("post", "POST"),
    ("delete", "DELETE"),
    ("options", "OPTIONS"),
    ("head", "HEAD"),
    ("patch", "PATCH"),
    ("trace", "TRACE"),
    // Since 3.2.
    ("query", "QUERY"),
];

impl Whole {
    fn add(&mut self, source: &Source<'_>, version: u8, root: &Map<String, Value>, ways: &[Way]) {
        let before = self.room;
        match self.write(source, version, root, ways) {
            Ok(added) => self.take(source.service, added, ways),
            Err(Full) => {
                self.room = before;
                let text = "there is no room for its description: all of them together are too large, or have too many paths and routes";
                self.problems.add(source.service, text.to_owned());
            }
        }
    }

    /// Writes anew what clients get to.
    fn write(
        &mut self,
        source: &Source<'_>,
        version: u8,
        root: &Map<String, Value>,
        ways: &[Way],
    ) -> Result<Added, Full> {
        let nothing = Map::new();
        let part = |name: &str| root.get(name).and_then(Value::as_object).unwrap_or(&nothing);
        let components = part("components");
        let mut walk = Walk {
            service: source.service,
            rename: &source.rules.rename,
            components,
            versions: (version, self.version),
            names: &mut self.names,
            problems: &mut self.problems,
            room: &mut self.room,
            wanted: BTreeSet::new(),
            waiting: Vec::new(),
            kinds: kinds(components),
        };
        let mut added = Added::default();
        let mut work = WORK_MAX;
        let own = |(_, way): &(usize, &Way)| way.service.as_deref() == Some(source.service);
        let own: Vec<(usize, &Way)> = ways.iter().enumerate().filter(own).collect();
        for operation in operations(part("paths"), components) {
            let Operation { path, method, item, operation } = &operation;
            if source.rules.ignore.iter().any(|ignored| ignored.is(path, method)) {
                continue;
            }
            let full = format!("{}{path}", source.rules.base);
            let inner = segments(&full);
            let mut is_reached = false;
            for (number, way) in own.iter().filter(|(_, way)| way.takes(method)) {
                work = work.checked_sub(1).ok_or(Full)?;
                let Some(place) = way.place(&inner) else { continue };
                if !leads(ways, *number, &place, method, &mut work).ok_or(Full)? {
                    continue;
                }
                is_reached = true;
                // The path is kept in several places, and each operation takes some bytes however little it says.
                walk.take(3 * place.path().len() + OPERATION_BYTES)?;
                let mut written = finished(&mut walk, root, item, operation, &place, way)?;
                let beside = beside(&mut walk, item)?;
                id(&mut walk, &mut written, path, method, *number);
                added.operations.push(Written {
                    place,
                    method,
                    way: *number,
                    operation: Value::Object(written),
                    beside,
                });
            }
            added.unreached += usize::from(!is_reached);
        }
        if version > 0 {
            for (name, item) in part("webhooks") {
                walk.take(name.len())?;
                let written = walk.object(item)?;
                added.webhooks.insert(format!("{}_{name}", source.service), written);
            }
        }
        let operations = added.operations.iter().map(|written| &written.operation);
        let used: BTreeSet<&str> = operations.flat_map(tags_of).collect();
        for tag in root.get("tags").and_then(Value::as_array).into_iter().flatten() {
            if let Some(name) = tag.get("name").and_then(Value::as_str).filter(|name| used.contains(name)) {
                added.tags.insert(name.to_owned(), walk.data(tag)?);
            }
        }
        walk.components(&mut added.components)?;
        Ok(added)
    }

    /// Adds what was written.
    fn take(&mut self, service: &str, added: Added, ways: &[Way]) {
        let Added { operations, components, webhooks, tags, unreached } = added;
        let mut count = 0;
        for Written { place, method, way, mut operation, beside } in operations {
            let key = self.path_of(&place, &mut operation);
            let host = ways[way].host.as_deref();
            if let (Some(host), Value::Object(operation)) = (host, &mut operation) {
                operation.insert("servers".to_owned(), json!([{ "url": format!("//{host}") }]));
            }
            let item = self.paths.entry(key.clone()).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(item) = item else { continue };
            for (word, value) in beside {
                item.entry(word).or_insert(value);
            }
            let method = method.to_ascii_lowercase();
            if item.contains_key(&method) {
                let host = host.unwrap_or("other hosts");
                let text = format!(
                    "`{} {key}` is another operation at {host}: it is left out",
                    method.to_ascii_uppercase()
                );
                self.problems.add(service, text);
                continue;
            }
            item.insert(method, operation);
            count += 1;
        }
        for (section, parts) in components {
            let all = self.components.entry(section).or_insert_with(|| Value::Object(Map::new()));
            if let (Value::Object(all), Value::Object(parts)) = (all, parts) {
                all.extend(parts);
            }
        }
        self.webhooks.extend(webhooks);
        for (name, tag) in tags {
            self.tags.entry(name).or_insert(tag);
        }
        self.services.insert(service.to_owned(), OfService { operations: count, unreached });
    }

    /// The path as the whole has it. Where it is there with other names of parameters, the operation gets those.
    fn path_of(&mut self, place: &Place, operation: &mut Value) -> String {
        let path = place.path();
        let known = self.shapes.entry(shape(&path)).or_insert_with(|| path.clone());
        if *known == path {
            return path;
        }
        let names = parameters(&path).into_iter().zip(parameters(known));
        let names: BTreeMap<&str, &str> = names.filter(|(own, known)| own != known).collect();
        let list = operation.get_mut("parameters").and_then(Value::as_array_mut);
        for parameter in list.into_iter().flatten() {
            let is_of_path = parameter.get("in").and_then(Value::as_str) == Some("path");
            if let (true, Some(Value::String(name))) = (is_of_path, parameter.get_mut("name"))
                && let Some(known) = names.get(name.as_str())
            {
                (*known).clone_into(name);
            }
        }
        known.clone()
    }

    fn finish(self, about: &About) -> Composed {
        let Whole { version, mut problems, paths, components, webhooks, tags, services, .. } = self;
        let About { title, version: of_api, description } = about;
        let mut info = json!({ "title": title, "version": of_api });
        if let (Some(text), Value::Object(info)) = (description, &mut info) {
            info.insert("description".to_owned(), text.as_str().into());
        }
        let mut root = Map::new();
        root.insert("openapi".to_owned(), ["3.0.3", "3.1.1", "3.2.0"][usize::from(version.min(2))].into());
        root.insert("info".to_owned(), info);
        root.insert("paths".to_owned(), sorted(paths));
        let tags: Vec<Value> = tags.into_values().collect();
        let components = components.into_iter().map(|(section, parts)| match parts {
            Value::Object(parts) => (section, sorted(parts)),
            other => (section, other),
        });
        let mut add = |name: &str, value: Value, is_nothing: bool| {
            if !is_nothing {
                root.insert(name.to_owned(), value);
            }
        };
        let components: Map<String, Value> = components.collect();
        let is_nothing = [components.is_empty(), webhooks.is_empty(), tags.is_empty()];
        add("components", sorted(components), is_nothing[0]);
        add("webhooks", sorted(webhooks), is_nothing[1]);
        add("tags", Value::Array(tags), is_nothing[2]);
        problems.next_service();
        // Texts, numbers and names always have a form in JSON.
        let document = serde_json::to_string(&Value::Object(root)).unwrap_or_default();
        debug_assert!(document.len() < 2 * ROOM, "what is written is counted");
        Composed { document, services, problems: problems.into_told() }
    }
}

/// In the order of names, whatever order services have them in.
fn sorted(map: Map<String, Value>) -> Value {
    let sorted: BTreeMap<String, Value> = map.into_iter().collect();
    Value::Object(sorted.into_iter().collect())
}

/// Every operation of a description, in the order of paths.
fn operations<'d>(
    paths: &'d Map<String, Value>,
    components: &'d Map<String, Value>,
) -> impl Iterator<Item = Operation<'d>> {
    let items = paths.iter().filter(|(path, _)| path.starts_with('/'));
    items.flat_map(move |(path, item)| {
        let item = item.as_object().map(|item| referred(item, components));
        METHODS.iter().filter_map(move |(key, method)| {
            let operation = item?.get(*key)?.as_object()?;
            Some(Operation { path, method, item: item?, operation })
        })
    })
}

/// What a path item refers to in place of having it.
fn referred<'d>(item: &'d Map<String, Value>, components: &'d Map<String, Value>) -> &'d Map<String, Value> {
    let to = item.get("$ref").and_then(Value::as_str).and_then(crate::walk::component_of);
    let found = to.and_then(|(section, name, _)| components.get(&section)?.get(&name)?.as_object());
    found.unwrap_or(item)
}

/// The names of an operation's tags.
fn tags_of(operation: &Value) -> impl Iterator<Item = &str> {
    operation.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// An operation with everything that its path and its description say for it.
fn finished(
    walk: &mut Walk<'_>,
    root: &Map<String, Value>,
    item: &Map<String, Value>,
    operation: &Map<String, Value>,
    place: &Place,
    way: &Way,
) -> Result<Map<String, Value>, Full> {
    let mut written = walk.entries(operation)?;
    let mut list = match written.remove("parameters") {
        Some(Value::Array(own)) => own,
        _ => Vec::new(),
    };
    if let Some(Value::Array(common)) = item.get("parameters") {
        for parameter in common {
            let parameter = walk.object(parameter)?;
            let is = |key: &str, other: &Value| parameter.get(key) == other.get(key);
            if !list.iter().any(|own| is("name", own) && is("in", own) && is("$ref", own)) {
                list.push(parameter);
            }
        }
    }
    for name in &place.more {
        list.push(json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    }
    if !list.is_empty() {
        written.insert("parameters".to_owned(), Value::Array(list));
    }
    if let (false, Some(Value::Array(common))) = (written.contains_key("security"), root.get("security")) {
        let security = walk.security(common)?;
        written.insert("security".to_owned(), security);
    }
    let has_tags = written.get("tags").and_then(Value::as_array).is_some_and(|tags| !tags.is_empty());
    if !has_tags {
        written.insert("tags".to_owned(), json!([walk.service]));
    }
    if way.is_deprecated {
        written.insert("deprecated".to_owned(), Value::Bool(true));
    }
    if let Some(sunset) = &way.sunset {
        written.insert("x-sunset".to_owned(), sunset.as_str().into());
    }
    written.insert("x-watt-service".to_owned(), walk.service.into());
    Ok(written)
}

/// What a path item says of all its operations, in words.
fn beside(walk: &mut Walk<'_>, item: &Map<String, Value>) -> Result<Map<String, Value>, Full> {
    let mut words = Map::new();
    for word in ["summary", "description"] {
        if let Some(Value::String(text)) = item.get(word) {
            walk.take(text.len())?;
            words.insert(word.to_owned(), text.as_str().into());
        }
    }
    Ok(words)
}

/// Gives an operation an id that no other one has.
fn id(walk: &mut Walk<'_>, written: &mut Map<String, Value>, path: &str, method: &str, way: usize) {
    let Some(Value::String(wanted)) = written.get("operationId") else { return };
    let part = format!("{method} {path} {way}");
    let given = walk.names.give("operationId", walk.service, &part, wanted);
    if let Some(other) = given.because_of.filter(|other| other != walk.service) {
        let text = format!(
            "`{method} {path}` is called `{wanted}` as an operation of {other} is: it is called `{}`",
            given.name
        );
        walk.problems.add(walk.service, text);
    }
    written.insert("operationId".to_owned(), given.name.into());
}

/// A path without the names of its parameters.
fn shape(path: &str) -> String {
    let mut shape = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((text, after)) = rest.split_once('{') {
        shape.push_str(text);
        shape.push_str("{}");
        rest = after.split_once('}').map_or("", |(_, rest)| rest);
    }
    shape + rest
}

/// The names of a path's parameters.
fn parameters(path: &str) -> Vec<&str> {
    path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect()
}

#[cfg(test)]
mod tests;
