//! The JSON Schema of the file (draft 2020-12), for editors.

use serde_json::{Map, Value, json};
use watt_core::sandbox::{AddressFamily, Capability};

use crate::keys::{Kind, Preset, ROOT, SOFT_HARD, TABLES, Table};

/// The JSON Schema of the configuration file.
pub fn schema() -> Value {
    let mut definitions = Map::new();
    definitions.insert(
        "placeholder".into(),
        json!({
            "type": "string",
            "description": "A value from a variable: {NAME}, {NAME:-default} or {NAME:?message}.",
            "pattern": r"\{[A-Za-z_][A-Za-z0-9_]*(:[-?].*)?\}",
        }),
    );
    for table in TABLES {
        if !table.title.is_empty() {
            definitions.insert(definition_name(table), table_schema(table));
        }
    }
    let mut root = table_schema(&ROOT);
    root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    root["title"] = json!("watt configuration");
    root["patternProperties"] = json!({ "^x-": {} });
    root["properties"]["$schema"] =
        json!({ "type": "string", "description": "The schema of this file, for editors." });
    root["$defs"] = Value::Object(definitions);
    root
}

fn definition_name(table: &Table) -> String {
    table.title.to_owned()
}

fn table_schema(table: &Table) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in table.keys {
        let mut schema = kind_schema(&key.kind);
        schema["description"] = json!(key.doc);
        schema["examples"] = json!([example(key.example)]);
        match key.default {
            Preset::Value(text) => schema["default"] = typed_default(&key.kind, text),
            Preset::Required => required.push(key.name),
            Preset::Derived(_) | Preset::Unset(_) | Preset::Inner => {}
        }
        properties.insert(key.name.into(), schema);
    }
    let mut schema = json!({
        "type": "object",
        "description": table.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// A table's example as a value.
pub(crate) fn example(text: &str) -> Value {
    serde_json::from_str(text).expect("examples of the tables are JSON")
}

/// A default with the type an editor would write.
fn typed_default(kind: &Kind, text: &str) -> Value {
    match kind {
        Kind::Bool | Kind::Whole { .. } => example(text),
        _ => json!(text),
    }
}

fn kind_schema(kind: &Kind) -> Value {
    let text = |pattern: &str| json!({ "anyOf": [{ "type": "string", "pattern": pattern }, { "$ref": "#/$defs/placeholder" }] });
    let text_or_number = |pattern: &str| {
        json!({ "anyOf": [
            { "type": "number", "minimum": 0 },
            { "type": "string", "pattern": pattern },
            { "$ref": "#/$defs/placeholder" },
        ] })
    };
    match kind {
        Kind::Text => json!({ "type": ["string", "number", "boolean", "object"] }),
        Kind::Schedule => text(r"^\s*(@[A-Za-z]+|\S+(\s+\S+){4,5})\s*$"),
        Kind::TimeZone => text("^[A-Za-z0-9+_][A-Za-z0-9+_-]*(/[A-Za-z0-9+_-]+)*$"),
        Kind::MeshUrl => text(r"^http://[a-z0-9_-]+\.plt\.local(:80)?([/?].*)?$"),
        Kind::WebUrl => text(r"^http://([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(:[0-9]+)?([/?].*)?$"),
        Kind::FilePath | Kind::RoutePath | Kind::Pattern | Kind::OptionalPath | Kind::SystemCall => {
            json!({ "type": "string" })
        }
        Kind::Name | Kind::ServiceName => text("^[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9_])?$"),
        Kind::Bool => json!({ "anyOf": [{ "type": "boolean" }, { "$ref": "#/$defs/placeholder" }] }),
        Kind::Whole { min, max } => json!({ "anyOf": [
            { "type": "integer", "minimum": min, "maximum": max },
            { "$ref": "#/$defs/placeholder" },
            { "type": "string", "pattern": "^[0-9]+$" },
        ] }),
        Kind::Signed { min, max } => json!({ "anyOf": [
            { "type": "integer", "minimum": min, "maximum": max },
            { "$ref": "#/$defs/placeholder" },
            { "type": "string", "pattern": "^-?[0-9]+$" },
        ] }),
        Kind::Umask => text_or_number("^(0o)?[0-7]{1,4}$"),
        Kind::CpuList => text_or_number("^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$"),
        Kind::Destination => text(r"^[^/:]+(:[0-9]+)?$|^([0-9.]+|\[[0-9a-fA-F:.]+\])(/[0-9]+)?(:[0-9]+)?$"),
        Kind::FileName => text("^[^/]+$"),
        Kind::VariableName => text("^[A-Za-z_][A-Za-z0-9_]*$"),
        Kind::Account => text_or_number("^[A-Za-z0-9_][A-Za-z0-9_.$-]*$"),
        Kind::TemporaryPath => json!({ "type": "string" }),
        Kind::CallError => text_or_number("^(kill|[A-Za-z0-9]+)$"),
        Kind::BindPath => text("^-?[^:]+(:[^:]+)?$"),
        Kind::Capability => constants("CAP_", Capability::ALL.iter().map(|one| one.name())),
        Kind::AddressFamily => constants("AF_", AddressFamily::ALL.iter().map(|one| one.name())),
        Kind::Duration => text(r"^(0|([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+)$"),
        Kind::Share => text_or_number("^[0-9]+ ?%?$"),
        Kind::Size => text_or_number(r"^[0-9]+(\.[0-9]+)? ?([KkMmGgTt]?([Ii]?[Bb])?)$"),
        Kind::Percent => text_or_number("^(100|[1-9][0-9]?) ?%?$"),
        Kind::Cpu => text_or_number(r"^[0-9]+(\.[0-9]+)? ?%?$"),
        Kind::Signal => text_or_number("^([Ss][Ii][Gg])?[A-Za-z0-9+]+$"),
        Kind::IpAddress => text(r"^(localhost|[0-9.]+|\[?[0-9a-fA-F:.]+\]?)$"),
        Kind::UrlPath => text("^/"),
        Kind::Status => text_or_number("^[1-5][0-9]{2}(-[1-5][0-9]{2})?$"),
        Kind::HostName => text(r"^(\*\.)?[A-Za-z0-9._-]+$|^\[[0-9a-fA-F:.]+\]$"),
        Kind::Words(words) => {
            let each =
                words.words().into_iter().map(|(word, doc)| json!({ "const": word, "description": doc }));
            let mut choices: Vec<Value> = each.collect();
            choices.push(json!({ "$ref": "#/$defs/placeholder" }));
            json!({ "anyOf": choices })
        }
        Kind::Command => json!({ "anyOf": [
            { "type": "string", "minLength": 1 },
            { "type": "array", "minItems": 1, "items": { "type": ["string", "number", "boolean"] } },
        ] }),
        Kind::Variables => {
            json!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } })
        }
        Kind::Rlimit => json!({ "anyOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^(unlimited|infinity|[0-9.]+ ?[A-Za-z]{0,3})$" },
            { "$ref": "#/$defs/placeholder" },
            { "$ref": format!("#/$defs/{}", definition_name(&SOFT_HARD)) },
        ] }),
        Kind::Table(table) => json!({ "$ref": format!("#/$defs/{}", definition_name(table)) }),
        Kind::List(item) => json!({ "type": "array", "items": kind_schema(item) }),
        Kind::Named(value) => json!({ "type": "object", "additionalProperties": kind_schema(value) }),
        Kind::Either(kinds) => json!({ "anyOf": kinds.iter().map(kind_schema).collect::<Vec<_>>() }),
    }
}

/// Constants of the kernel, for which editors make suggestions, and every other way to write them.
fn constants(prefix: &str, names: impl Iterator<Item = &'static str>) -> Value {
    json!({ "anyOf": [
        { "enum": names.collect::<Vec<_>>() },
        { "type": "string", "pattern": format!("^({prefix}|{})?[A-Za-z0-9_-]+$", prefix.to_ascii_lowercase()) },
    ] })
}
