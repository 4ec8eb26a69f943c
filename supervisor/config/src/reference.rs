//! docs/configuration.md and docs/sandbox.md, printed from the tables of `keys` and the profiles.

use serde_json::Value;
use watt_core::sandbox::{Profile, Sandbox};

use crate::{
    decode::sandbox_values,
    keys::{KeyDef, Kind, Preset, SANDBOX, TABLES, Table, WordList},
};

/// What stands before the tables.
const INTRODUCTION: &str = include_str!("reference.md");

/// The reference of the configuration file, as Markdown. docs/configuration.md is this text; a test holds them together.
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    for table in TABLES {
        text += &section(table);
    }
    text
}

/// What profiles are for and what each sets, as Markdown: docs/sandbox.md.
pub fn sandboxes() -> String {
    let mut text = include_str!("sandbox.md").to_owned();
    let profiles = [Profile::Off, Profile::Standard, Profile::Strict];
    let values = profiles.map(|profile| sandbox_values(&Sandbox::of(profile)));
    text += "| switch | `off` | `standard` | `strict` |\n|---|---|---|---|\n";
    for key in SANDBOX.keys.iter().filter(|key| key.name != "profile") {
        let of_key = |values: &Vec<(&str, Value)>| {
            values.iter().find(|(name, _)| *name == key.name).map(|(_, value)| in_a_cell(value))
        };
        if let [Some(off), Some(standard), Some(strict)] = values.each_ref().map(of_key) {
            text += &format!("| `{}` | {off} | {standard} | {strict} |\n", key.name);
        }
    }
    text
}

fn in_a_cell(value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => format!("`{text}`"),
        Value::Array(items) => items.iter().map(in_a_cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn section(table: &Table) -> String {
    let title = if table.title.is_empty() { "The file".to_owned() } else { format!("`{}`", table.title) };
    let mut text = format!("\n## {title}\n\n{}\n\n", table.doc);
    text += "| key | value | default | meaning | example |\n|---|---|---|---|---|\n";
    for key in table.keys {
        text += &row(key);
    }
    for key in table.keys {
        for words in word_lists(&key.kind) {
            text += &format!("\n`{}` knows these words:\n\n", key.name);
            for (word, meaning) in words.words() {
                let meaning = if meaning.is_empty() { String::new() } else { format!(": {meaning}") };
                text += &format!("- `{word}`{meaning}\n");
            }
        }
    }
    text
}

fn row(key: &KeyDef) -> String {
    let default = match key.default {
        Preset::Value(text) => format!("`{text}`"),
        Preset::Derived(words) => words.to_owned(),
        Preset::Unset(words) => words.to_owned(),
        Preset::Required => "has to be written".to_owned(),
        Preset::Inner => "see below".to_owned(),
    };
    let example = key.example.replace('|', "\\|");
    format!("| `{}` | {} | {default} | {} | `{example}` |\n", key.name, value_of(&key.kind), key.doc)
}

fn value_of(kind: &Kind) -> String {
    match kind {
        Kind::Name | Kind::ServiceName => "name".into(),
        Kind::FilePath => "path".into(),
        Kind::Bool => "`true` or `false`".into(),
        Kind::Whole { min, max } => format!("{min}–{max}"),
        Kind::Signed { min, max } => format!("{min}–{max}"),
        Kind::Umask => "octal digits".into(),
        Kind::CpuList => "CPUs".into(),
        Kind::Destination => "destination".into(),
        Kind::FileName => "file's name".into(),
        Kind::VariableName => "variable's name".into(),
        Kind::Account => "name or number".into(),
        Kind::OptionalPath => "path".into(),
        Kind::BindPath => "`source:target`".into(),
        Kind::TemporaryPath => "path, or `path:options`".into(),
        Kind::CallError => "error, or `kill`".into(),
        Kind::Capability => "capability".into(),
        Kind::AddressFamily => "address family".into(),
        Kind::SystemCall => "system call or `@group`".into(),
        Kind::Duration => "time".into(),
        Kind::Share => "number or `%`".into(),
        Kind::Size => "size".into(),
        Kind::Cpu => "CPUs or `%`".into(),
        Kind::Percent => "`%`".into(),
        Kind::Signal => "signal".into(),
        Kind::IpAddress => "IP address".into(),
        Kind::UrlPath => "URL path".into(),
        Kind::RoutePath => "URL path, or regular expression".into(),
        Kind::Status => "HTTP status, or two".into(),
        Kind::HostName => "host name".into(),
        Kind::Pattern => "regular expression".into(),
        Kind::Words(_) => "a word".into(),
        Kind::Command => "text or list".into(),
        Kind::Text => "text".into(),
        Kind::Schedule => "schedule".into(),
        Kind::TimeZone => "time zone".into(),
        Kind::MeshUrl => "URL of a service".into(),
        Kind::WebUrl => "URL".into(),
        Kind::Variables => "table of names and texts".into(),
        Kind::Rlimit => "number, size, `unlimited`, or [two](#servicesnamelimitslimit)".into(),
        Kind::Table(table) => format!("[table](#{})", anchor(table.title)),
        Kind::List(item) => format!("list: {}", value_of(item)),
        Kind::Named(value) => format!("by name: {}", value_of(value)),
        Kind::Either(kinds) => kinds.iter().map(value_of).collect::<Vec<_>>().join(", or "),
    }
}

/// The anchor that Markdown gives a heading.
fn anchor(title: &str) -> String {
    title
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        .collect::<String>()
        .to_lowercase()
}

/// The words in a kind, but not those of tables, which have sections of their own.
fn word_lists(kind: &Kind) -> Vec<&'static dyn WordList> {
    match kind {
        Kind::Words(words) => vec![*words],
        Kind::List(inner) | Kind::Named(inner) => word_lists(inner),
        Kind::Either(kinds) => kinds.iter().flat_map(word_lists).collect(),
        _ => Vec::new(),
    }
}
