//! Hooks of a service.

use std::{collections::BTreeMap, time::Duration};

use watt_core::plan::{Hook, HookPoint};

use super::{
    command,
    fields::{Field, Fields, Written},
};
use crate::{
    keys::{HOOK, HOOKS},
    report::Problem,
    tree::Value,
};

/// Decodes `hooks`.
pub(super) fn decode(f: &mut Fields<'_, '_, '_>) -> BTreeMap<HookPoint, Hook> {
    let field = f.field("hooks");
    let mut inner = Fields::open(f.d, &HOOKS, field, None);
    let mut hooks = BTreeMap::new();
    for point in HookPoint::ALL {
        if let Some(field) = inner.field(point.name()) {
            hooks.insert(point, hook(&mut inner, point, field));
        }
    }
    let shown = inner.close();
    f.show("hooks", shown);
    hooks
}

fn hook(f: &mut Fields<'_, '_, '_>, point: HookPoint, field: Field<'_>) -> Hook {
    // A command alone is a hook with the default timeout.
    let (alone, table) = match field.node.value {
        Value::Map(_) => (None, Some(field)),
        Value::Null | Value::Scalar { .. } | Value::List(_) => (Some(field), None),
    };
    let mut inner = Fields::open(f.d, &HOOK, table, None);
    let written = inner.field("command");
    let command = match alone.or(written) {
        Some(field) => command::decode(&mut inner, "command", field, &[]),
        None => {
            inner.d.problem(
                Problem::new(field.key_span, "a hook without a command")
                    .hint("for example `command: [./flush]`"),
            );
            Vec::new()
        }
    };
    let timeout: Written<Duration> = inner.value("timeout");
    if let (true, Some(span)) = (timeout.value.is_zero(), timeout.span) {
        let problem = Problem::new(span, "in no time, no hook succeeds");
        inner.d.problem(problem.hint("write a longer time, or remove it"));
    }
    let shown = inner.close();
    f.show(point.name(), shown);
    Hook { command, timeout: timeout.value }
}
