//! Secrets: where their values come from, and who gets which. The values themselves are never looked at here.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use watt_core::plan::Secret;

use super::{
    Decoder, command,
    fields::{Field, Fields, Written},
};
use crate::{
    keys::SECRET,
    placeholder::PER_WORKER,
    report::{Problem, did_you_mean},
    scalar::{Bad, FileName, Scalar, VariableName, quote},
    show::Shown,
    source::Span,
    tree::Value,
};

/// Decodes the application's `secrets`.
pub(super) fn decode(f: &mut Fields<'_, '_, '_>) -> BTreeMap<String, Secret> {
    let mut secrets = BTreeMap::new();
    let mut shown = Vec::new();
    for entry in f.entries("secrets", "name") {
        if f.d.problems.is_full() {
            break;
        }
        let name = file_name(f.d, &entry.key.text, entry.key.span);
        let (secret, shown_secret) = secret(f.d, Field::from(entry), &entry.key.text);
        shown.push((entry.key.text.clone(), shown_secret));
        if let (Some(name), Some(secret)) = (name, secret) {
            secrets.insert(name, secret);
        }
    }
    f.show("secrets", Shown::Map(shown));
    secrets
}

/// A secret's name, which is that of a file where nothing else is said.
fn file_name(d: &mut Decoder<'_>, text: &str, span: Span) -> Option<String> {
    match FileName::parse(text) {
        Ok(FileName(name)) => Some(name),
        Err(Bad { message, hint }) => {
            d.problem(Problem::new(span, message).maybe_hint(hint));
            None
        }
    }
}

fn secret(d: &mut Decoder<'_>, field: Field<'_>, name: &str) -> (Option<Secret>, Shown) {
    let mut f = Fields::open(d, &SECRET, Some(field), None);
    let mut sources: Vec<(Secret, Span)> = Vec::new();
    if let Some(Written { value, span: Some(span) }) = f.path("file") {
        sources.push((Secret::File(value), span));
    }
    if let Some(Written { value: VariableName(variable), span: Some(span) }) = f.scalar("env") {
        is_set(f.d, &variable, span);
        sources.push((Secret::Environment(variable), span));
    }
    if let Some(Written { value: FileName(credential), span: Some(span) }) = f.scalar("credential") {
        sources.push((Secret::Credential(credential), span));
    }
    if let Some(field) = f.field("command") {
        sources
            .push((Secret::Command(command::decode(&mut f, "command", field, PER_WORKER)), field.node.span));
    }
    if let [(_, first), (_, second), ..] = &sources[..] {
        let problem =
            Problem::new(*second, "two sources of one secret").related(*first, "this is the first one");
        f.d.problem(problem.hint("keep one of them"));
    } else if f.is_empty() {
        let problem = Problem::new(field.key_span, format!("the secret {} has no source", quote(name)));
        f.d.problem(problem.hint("give it one of `file`, `env`, `credential`, `command`"));
    }
    let secret = sources.into_iter().next().map(|(secret, _)| secret);
    (secret, f.close())
}

/// A variable that is not there now is not there when the service starts.
fn is_set(d: &mut Decoder<'_>, name: &str, span: Span) {
    if d.variables.env.contains_key(name) || d.variables.dotenv.contains_key(name) {
        return;
    }
    let near = did_you_mean(name, d.variables.names());
    let hint = near.unwrap_or_else(|| "set it in the environment or in .env".to_owned());
    d.problem(Problem::new(span, format!("the variable {name} is not set")).hint(hint));
}

/// The variables that are secrets: no service has them in its environment, although they may be in `.env`.
pub(super) fn variables(secrets: &BTreeMap<String, Secret>) -> BTreeSet<&str> {
    let names = secrets.values().filter_map(|secret| match secret {
        Secret::Environment(name) => Some(name.as_str()),
        Secret::File(_) | Secret::Credential(_) | Secret::Command(_) => None,
    });
    names.collect()
}

/// Decodes the `secrets` of a service: the file's name and the secret's, with the place of the latter.
pub(super) fn of_service(f: &mut Fields<'_, '_, '_>) -> Vec<(String, String, Span)> {
    let mut found: Vec<(String, String, Span)> = Vec::new();
    let mut shown = Vec::new();
    let Some(field) = f.field("secrets") else { return found };
    let noun = "the name of a secret";
    let mut add = |d: &mut Decoder<'_>, file: Option<(&str, Span)>, field: Field<'_>| {
        let Some(text) = d.scalar(field.node, field.at(), "secrets", noun, &[]) else { return };
        let Some(FileName(name)) = d.parse(&text, FileName::parse) else { return };
        let file = match file {
            Some((file, span)) => file_name(d, file, span),
            None => Some(name.clone()),
        };
        let Some(file) = file else { return };
        if found.iter().any(|(other, ..)| *other == file) {
            let problem = Problem::new(text.span, format!("{} is written twice", quote(&file)));
            return d.problem(problem.hint("keep one of them"));
        }
        shown
            .push((file.clone(), Shown::Leaf { value: json!(name), from: text.from, span: Some(text.span) }));
        found.push((file, name, text.span));
    };
    match &field.node.value {
        Value::Null => {}
        Value::List(items) => {
            for item in items {
                if f.d.problems.is_full() {
                    break;
                }
                add(f.d, None, Field { key_span: item.span, node: item });
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                if f.d.problems.is_full() {
                    break;
                }
                add(f.d, Some((&entry.key.text, entry.key.span)), Field::from(entry));
            }
        }
        Value::Scalar { .. } => {
            let message = format!("`secrets` is a list or a table, and this is {}", field.node.kind());
            let hint = f.example("secrets");
            f.d.problem(Problem::new(field.node.span, message).hint(hint));
        }
    }
    f.show("secrets", Shown::Map(shown));
    found
}
