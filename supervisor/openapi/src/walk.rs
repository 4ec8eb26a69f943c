//! Writing a part of a description anew: with other names, and as the version of the whole has it.
//!
//! Not every `$ref` is a reference: examples and defaults are data of whatever kind, and a property of an object may be called `$ref`. So the
//! walk knows what it is in: an object of OpenAPI, one whose keys are names of somebody's choice, a schema, or data.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::{
    names::{Names, plain},
    problems::Problems,
};

/// There is no room left for what a service says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Full;

/// A part of a description: section and name below `components`.
pub(crate) type Part = (String, String);

/// The walk through a service's description.
pub(crate) struct Walk<'a> {
    pub(crate) service: &'a str,
    /// What the operator calls parts of it.
    pub(crate) rename: &'a BTreeMap<String, String>,
    pub(crate) components: &'a Map<String, Value>,
    /// The version of the description, and that of the whole.
    pub(crate) versions: (u8, u8),
    pub(crate) names: &'a mut Names,
    pub(crate) problems: &'a mut Problems,
    /// How much may still be written; about the bytes of it.
    pub(crate) room: &'a mut usize,
    /// Parts that were referred to, and which of those have not been written yet.
    pub(crate) wanted: BTreeSet<Part>,
    pub(crate) waiting: Vec<Part>,
    /// Schemas that say that they are kinds of another one.
    pub(crate) kinds: BTreeMap<String, Vec<String>>,
}

/// What the keys of an object of OpenAPI hold that are names, and not words of OpenAPI.
const NAMED: [&str; 8] =
    ["content", "responses", "headers", "callbacks", "links", "encoding", "variables", "examples"];

const SCHEMAS: [&str; 6] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];
const SCHEMA_LISTS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];
const SCHEMA: [&str; 12] = [
    "items",
    "additionalItems",
    "additionalProperties",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contains",
    "propertyNames",
    "not",
    "if",
    "then",
    "else",
    "contentSchema",
];

impl<'a> Walk<'a> {
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Full> {
        *self.room = self.room.checked_sub(bytes + 8).ok_or(Full)?;
        Ok(())
    }

    /// A tag, or whatever else is as it is.
    pub(crate) fn data(&mut self, value: &Value) -> Result<Value, Full> {
        self.take(size(value))?;
        Ok(value.clone())
    }

    /// An object of OpenAPI of any kind but a schema, or a list of such.
    pub(crate) fn object(&mut self, value: &Value) -> Result<Value, Full> {
        match value {
            Value::Object(from) => self.entries(from).map(Value::Object),
            Value::Array(items) => {
                self.take(0)?;
                items.iter().map(|item| self.object(item)).collect::<Result<_, _>>().map(Value::Array)
            }
            other => self.data(other),
        }
    }

    pub(crate) fn entries(&mut self, from: &Map<String, Value>) -> Result<Map<String, Value>, Full> {
        self.take(0)?;
        let mut map = Map::new();
        for (key, value) in from {
            self.take(written(key))?;
            let value = match (key.as_str(), value) {
                // Servers are where the service is, and not where the gateway is.
                ("servers", Value::Array(_)) | ("server", Value::Object(_)) => continue,
                ("$ref", Value::String(to)) => self.reference(to)?,
                ("operationRef", Value::String(_)) => {
                    self.problem("a link by `operationRef` is left out: write `operationId`".to_owned());
                    continue;
                }
                ("operationId", Value::String(id)) => self.text(self.operation_id(id))?,
                ("schema" | "itemSchema", value) => self.schema(value)?,
                ("security", Value::Array(requirements)) => self.security(requirements)?,
                // Of an operation they are a list, of a link data.
                ("parameters", Value::Object(_)) => self.data(value)?,
                (key, Value::Object(entries)) if NAMED.contains(&key) => self.named(entries)?,
                ("example" | "default" | "enum" | "value" | "dataValue" | "mapping", value) => {
                    self.data(value)?
                }
                (key, value) if key.starts_with("x-") => self.data(value)?,
                (_, value) => self.object(value)?,
            };
            map.insert(key.clone(), value);
        }
        Ok(map)
    }

    /// An object whose keys are names, of objects of OpenAPI.
    fn named(&mut self, entries: &Map<String, Value>) -> Result<Value, Full> {
        self.each(entries, Self::object)
    }

    fn each(
        &mut self,
        entries: &Map<String, Value>,
        write: fn(&mut Self, &Value) -> Result<Value, Full>,
    ) -> Result<Value, Full> {
        self.take(0)?;
        let mut map = Map::new();
        for (key, value) in entries {
            self.take(written(key))?;
            map.insert(key.clone(), write(self, value)?);
        }
        Ok(Value::Object(map))
    }

    /// A schema.
    pub(crate) fn schema(&mut self, value: &Value) -> Result<Value, Full> {
        let Value::Object(from) = value else { return self.data(value) };
        self.take(0)?;
        let upgrades = self.versions.0 == 0 && self.versions.1 > 0;
        // In 3.0 what stands beside a reference is nothing; in later versions it would count.
        if let (true, Some(Value::String(to))) = (upgrades, from.get("$ref")) {
            return Ok(json!({ "$ref": self.reference(to)? }));
        }
        // References within are about this one, and so they stay.
        if from.get("$id").is_some_and(Value::is_string) {
            return self.data(value);
        }
        let mut map = Map::new();
        for (key, value) in from {
            self.take(written(key))?;
            let value = match (key.as_str(), value) {
                ("$ref", Value::String(to)) => self.reference(to)?,
                ("$dynamicRef" | "$recursiveRef", Value::String(to)) => self.reference(to)?,
                ("$anchor" | "$dynamicAnchor", Value::String(anchor)) => self.text(self.anchor(anchor))?,
                (key, Value::Object(entries)) if SCHEMAS.contains(&key) => {
                    self.each(entries, Self::schema)?
                }
                (key, Value::Array(items)) if SCHEMA_LISTS.contains(&key) || key == "items" => {
                    items.iter().map(|item| self.schema(item)).collect::<Result<_, _>>().map(Value::Array)?
                }
                (key, value) if SCHEMA.contains(&key) => self.schema(value)?,
                ("discriminator", Value::Object(entries)) => self.discriminator(entries)?,
                (_, value) => self.data(value)?,
            };
            map.insert(key.clone(), value);
        }
        if upgrades {
            upgrade(&mut map);
        }
        Ok(Value::Object(map))
    }

    fn discriminator(&mut self, entries: &Map<String, Value>) -> Result<Value, Full> {
        let mut map = entries.clone();
        self.take(size_of_map(entries))?;
        if let Some(Value::Object(mapping)) = map.get_mut("mapping") {
            for to in mapping.values_mut() {
                let Value::String(text) = to else { continue };
                // A name alone is that of a schema, where there is one of that name.
                let is_name = self.has("schemas", text);
                *to = match is_name {
                    true => self.reference(&format!("#/components/schemas/{}", escape(text)))?,
                    false => self.reference(text)?,
                };
            }
        }
        Ok(Value::Object(map))
    }

    /// Which schemes of security apply, by their names.
    pub(crate) fn security(&mut self, requirements: &[Value]) -> Result<Value, Full> {
        let mut list = Vec::new();
        for requirement in requirements {
            let Value::Object(schemes) = requirement else { continue };
            let mut map = Map::new();
            for (name, scopes) in schemes {
                if !self.has("securitySchemes", name) {
                    self.problem(format!("there is no security scheme `{name}`"));
                }
                let scopes = self.data(scopes)?;
                let name = self.part("securitySchemes", name);
                self.take(name.len())?;
                map.insert(name, scopes);
            }
            list.push(Value::Object(map));
        }
        Ok(Value::Array(list))
    }

    fn text(&mut self, text: String) -> Result<Value, Full> {
        self.take(written(&text))?;
        Ok(Value::String(text))
    }

    /// What an operation is called.
    pub(crate) fn operation_id(&self, id: &str) -> String {
        self.rename.get(id).cloned().unwrap_or_else(|| format!("{}_{id}", self.service))
    }

    fn anchor(&self, anchor: &str) -> String {
        format!("{}_{anchor}", plain(self.service))
    }

    fn has(&self, section: &str, name: &str) -> bool {
        self.components.get(section).and_then(|section| section.get(name)).is_some()
    }

    fn problem(&mut self, text: String) {
        self.problems.add(self.service, text);
    }

    /// Where a reference leads in the whole.
    fn reference(&mut self, to: &str) -> Result<Value, Full> {
        self.take(to.len())?;
        let text = self.referred(to);
        self.text(text)
    }

    fn referred(&mut self, to: &str) -> String {
        if let Some((section, name, deeper)) = component_of(to) {
            if !self.has(&section, &name) {
                self.problem(format!("`{to}` leads nowhere"));
            }
            let new = self.part(&section, &name);
            return format!("#/components/{section}/{}{deeper}", escape(&new));
        }
        match to.strip_prefix('#') {
            Some(anchor) if !anchor.is_empty() && !anchor.starts_with('/') => {
                format!("#{}", self.anchor(anchor))
            }
            Some(_) => {
                self.problem(format!(
                    "`{to}` leads to no component, and what it leads to is elsewhere in the whole"
                ));
                to.to_owned()
            }
            None if to.starts_with("http://") || to.starts_with("https://") => to.to_owned(),
            None => {
                self.problem(format!("`{to}` leads to another document, which is not looked at"));
                to.to_owned()
            }
        }
    }

    /// The new name of a component, which is wanted from now on.
    fn part(&mut self, section: &str, name: &str) -> String {
        let wanted = self.rename.get(name).cloned().unwrap_or_else(|| format!("{}_{name}", self.service));
        let given = self.names.give(section, self.service, name, &wanted);
        if let Some(other) = given.because_of {
            self.problem(format!(
                "`{name}` of its {section} would be called `{wanted}` as one of {other} is: it is called `{}`",
                given.name
            ));
        }
        if self.has(section, name) && self.wanted.insert((section.to_owned(), name.to_owned())) {
            self.waiting.push((section.to_owned(), name.to_owned()));
        }
        given.name
    }

    /// Writes the components that were referred to, and those that they refer to, each once.
    pub(crate) fn components(&mut self, into: &mut Map<String, Value>) -> Result<(), Full> {
        while let Some((section, name)) = self.waiting.pop() {
            let components = self.components;
            let Some(value) = components.get(&section).and_then(|section| section.get(&name)) else {
                continue;
            };
            let new = self.part(&section, &name);
            self.take(new.len())?;
            let written = match section.as_str() {
                "schemas" => self.schema(value)?,
                _ => self.object(value)?,
            };
            // Who has one that can be one of several is told of those as well, which refer to it and not the other way round.
            if section == "schemas" && value.get("discriminator").is_some() {
                for kind in self.kinds.get(&name).cloned().unwrap_or_default() {
                    self.part("schemas", &kind);
                }
            }
            let section = into.entry(section).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(section) = section {
                section.insert(new, written);
            }
        }
        Ok(())
    }
}

/// The schemas of a description that say `allOf` of another one, by that.
pub(crate) fn kinds(components: &Map<String, Value>) -> BTreeMap<String, Vec<String>> {
    let mut kinds: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let Some(Value::Object(schemas)) = components.get("schemas") else { return kinds };
    for (name, schema) in schemas {
        let Some(Value::Array(all)) = schema.get("allOf") else { continue };
        for to in all.iter().filter_map(|one| one.get("$ref")?.as_str()) {
            if let Some((section, parent, _)) = component_of(to)
                && section == "schemas"
            {
                kinds.entry(parent).or_default().push(name.clone());
            }
        }
    }
    kinds
}

/// Section and name of a reference to a component, and what follows them.
pub(crate) fn component_of(reference: &str) -> Option<(String, String, &str)> {
    let rest = reference.strip_prefix("#/components/")?;
    let (section, rest) = rest.split_once('/')?;
    let end = rest.find('/').unwrap_or(rest.len());
    let (name, deeper) = rest.split_at(end);
    (!name.is_empty()).then(|| (section.to_owned(), unescape(name), deeper))
}

/// A name of a pointer (RFC 6901 §4), which is part of a URL.
fn unescape(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match (bytes[at], hex.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).replace("~1", "/").replace("~0", "~")
}

fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// How long a text is in JSON: characters that are written by their number take six bytes.
fn written(text: &str) -> usize {
    let len = |byte: u8| match byte {
        0..=0x1f => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    text.bytes().map(len).sum()
}

/// About the bytes that a value takes.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => written(text) + 8,
        Value::Array(items) => items.iter().map(size).sum::<usize>() + 8,
        Value::Object(entries) => size_of_map(entries),
    }
}

fn size_of_map(entries: &Map<String, Value>) -> usize {
    entries.iter().map(|(key, value)| written(key) + 8 + size(value)).sum::<usize>() + 8
}

/// What 3.0 says of a schema, as JSON Schema says it, which later versions have.
fn upgrade(schema: &mut Map<String, Value>) {
    let is_nullable = schema.remove("nullable") == Some(Value::Bool(true));
    if let (true, Some(Value::String(kind))) = (is_nullable, schema.get("type")) {
        let both = json!([kind, "null"]);
        schema.insert("type".to_owned(), both);
    }
    for (flag, bound) in [("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")] {
        match schema.get(flag) {
            Some(Value::Bool(true)) => {
                match schema.remove(bound) {
                    Some(limit) => schema.insert(flag.to_owned(), limit),
                    None => schema.remove(flag),
                };
            }
            Some(Value::Bool(false)) => drop(schema.remove(flag)),
            _ => {}
        }
    }
    if let Some(example) = schema.remove("example") {
        schema.entry("examples").or_insert_with(|| json!([example]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_pointers_in_a_url() {
        let check = |reference: &str, expected: Option<(&str, &str, &str)>| {
            let found = component_of(reference);
            let found =
                found.as_ref().map(|(section, name, deeper)| (section.as_str(), name.as_str(), *deeper));
            assert_eq!(found, expected, "{reference}");
        };
        check("#/components/schemas/A", Some(("schemas", "A", "")));
        check("#/components/schemas/A~1b%20~0c/properties/x", Some(("schemas", "A/b ~c", "/properties/x")));
        check("#/components/schemas/", None);
        check("#/paths/~1a", None);
        check("#/components/schemas/%", Some(("schemas", "%", "")));
    }

    #[test]
    fn what_3_0_says_is_said_as_3_1_does() {
        let check = |from: Value, expected: Value| {
            let Value::Object(mut schema) = from else { panic!() };
            upgrade(&mut schema);
            assert_eq!(Value::Object(schema), expected);
        };
        check(json!({"type": "string", "nullable": true}), json!({"type": ["string", "null"]}));
        check(json!({"type": "string", "nullable": false}), json!({"type": "string"}));
        check(json!({"nullable": true, "allOf": []}), json!({"allOf": []}));
        check(json!({"minimum": 1, "exclusiveMinimum": true}), json!({"exclusiveMinimum": 1}));
        check(json!({"maximum": 1, "exclusiveMaximum": false}), json!({"maximum": 1}));
        check(json!({"exclusiveMaximum": true}), json!({}));
        check(json!({"example": 1}), json!({"examples": [1]}));
    }
}
