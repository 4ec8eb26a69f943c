//! A service's environment.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use watt_core::plan::Listen;

use super::{
    Text,
    fields::{Field, Fields},
};
use crate::{
    placeholder::PER_WORKER,
    report::Problem,
    scalar::{Scalar, VariableName, quote},
    show::Shown,
    source::Span,
    tree::Value,
};

/// Variables that watt sets itself, after everything else (ARCHITECTURE.md, "A worker's environment").
const OURS: [&str; 13] = [
    "WATT_APP",
    "WATT_SERVICE",
    "WATT_WORKER",
    "WATT_MESH_SOCKET",
    "WATT_ROOT",
    "WATT_SOCKET",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "STATE_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
];

/// Decodes `env`, on top of what every service has.
pub(super) fn decode(
    f: &mut Fields<'_, '_, '_>,
    field: Option<Field<'_>>,
    base: &BTreeMap<String, Text>,
    listen: Listen,
) -> BTreeMap<String, String> {
    // A place in `.env` is none in this file.
    let mut all: BTreeMap<String, (String, String, Option<Span>)> = base
        .iter()
        .map(|(name, text)| (name.clone(), (text.text.clone(), text.from.clone(), None)))
        .collect();
    match field.map(|field| (field, &field.node.value)) {
        None | Some((_, Value::Null)) => {}
        Some((_, Value::Map(entries))) => {
            for entry in entries {
                if f.d.problems.is_full() {
                    break;
                }
                let name = &entry.key.text;
                let field = Field::from(entry);
                let Some(text) = f.d.scalar(field.node, field.at(), name, "text", PER_WORKER) else {
                    continue;
                };
                if let Some(problem) = refused_variable(name, entry.key.span, &text, listen) {
                    f.d.problem(problem);
                }
                all.insert(name.clone(), (text.text, text.from, Some(text.span)));
            }
        }
        Some((field, Value::Scalar { .. } | Value::List(_))) => {
            let message = format!("`env` is a table of names and texts, and this is {}", field.node.kind());
            f.d.problem(Problem::new(field.node.span, message).hint("write `NAME: value` for each variable"));
        }
    }
    let shown = all.iter().map(|(name, (text, from, span))| {
        (name.clone(), Shown::Leaf { value: json!(text), from: from.clone(), span: *span })
    });
    f.show("env", Shown::Map(shown.collect()));
    all.into_iter().map(|(name, (text, ..))| (name, text)).collect()
}

/// Decodes `unset_env`.
pub(super) fn unset(f: &mut Fields<'_, '_, '_>) -> BTreeSet<String> {
    let names = f.each("unset_env", "a variable's name", VariableName::parse, Scalar::show);
    let mut unset = BTreeSet::new();
    for (VariableName(name), span) in names.unwrap_or_default() {
        if OURS.contains(&name.as_str()) {
            f.d.problem(Problem::new(span, format!("watt sets {} itself", quote(&name))).hint("remove it"));
        }
        unset.insert(name);
    }
    unset
}

fn refused_variable(name: &str, span: Span, text: &Text, listen: Listen) -> Option<Problem> {
    if name.is_empty() || name.contains(['=', '\0']) {
        let problem = Problem::new(span, format!("{} is not a variable's name", quote(name)));
        return Some(problem.hint("a name has no `=` and no NUL character, and is not empty"));
    }
    if OURS.contains(&name) {
        return Some(Problem::new(span, format!("watt sets {} itself", quote(name))).hint("remove it"));
    }
    let sets_port = matches!(listen, Listen::Auto | Listen::Port(_));
    if name == "PORT" && sets_port && text.text != "{port}" {
        let hint = format!("remove it, or write `listen: {}`", text.text);
        return Some(Problem::new(span, "watt sets `PORT` itself").hint(hint));
    }
    None
}
