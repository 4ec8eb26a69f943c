//! A service's limits.

use std::collections::BTreeMap;

use watt_core::plan::{Limits, RlimitValue};

use super::{
    Decoder,
    app::unit_hint,
    fields::{Field, Fields, Written},
};
use crate::{
    keys::{LIMITS, RLIMITS, SOFT_HARD},
    report::Problem,
    scalar::{Bytes, CpuMillis, RlimitNumber, Scalar, Whole, quote},
    show::Shown,
    tree::Value,
};

/// No program runs in less memory than this; a smaller number has a forgotten unit.
const MEMORY_BYTES_MIN: u64 = 1 << 20;

/// Decodes limits.
pub(super) fn decode(d: &mut Decoder<'_>, field: Option<Field<'_>>) -> (Limits, Shown) {
    let mut f = Fields::open(d, &LIMITS, field, None);
    let memory = memory_size(&mut f, "memory");
    let memory_high = memory_size(&mut f, "memory_high");
    if let (Some(max), Some(high)) = (memory, memory_high)
        && let (true, Some(at)) = (high.value.0 > max.value.0, high.span)
    {
        let problem = Problem::new(at, "`memory_high` is more than `memory`, so it never has an effect");
        f.d.problem(match max.span {
            Some(span) => problem.related(span, "`memory` is here"),
            None => problem,
        });
    }
    let cpu: Option<Written<CpuMillis>> = f.scalar("cpu");
    let pids: Option<Written<Whole<1, 4_194_304>>> = f.scalar("pids");
    let oom_group: Written<bool> = f.value("oom_group");
    let mut rlimits = BTreeMap::new();
    for (key, resource) in RLIMITS {
        if let Some(value) = f.field(key).and_then(|field| rlimit(&mut f, key, field)) {
            rlimits.insert(resource, value);
        }
    }
    let limits = Limits {
        memory: memory.map(|written| written.value.0),
        memory_high: memory_high.map(|written| written.value.0),
        cpu_millis: cpu.map(|written| written.value.0),
        pids: pids.and_then(|written| u32::try_from(written.value.0).ok()),
        oom_group: oom_group.value,
        rlimits,
    };
    (limits, f.close())
}

fn memory_size(f: &mut Fields<'_, '_, '_>, key: &'static str) -> Option<Written<Bytes>> {
    let written: Written<Bytes> = f.scalar(key)?;
    if let (true, Some(span)) = (written.value.0 < MEMORY_BYTES_MIN, written.span) {
        let problem = Problem::new(span, format!("{} of less than 1M, in which no program runs", quote(key)));
        f.d.problem(problem.hint(unit_hint(written.value)));
    }
    Some(written)
}

/// One value for both, or a table of two.
fn rlimit(f: &mut Fields<'_, '_, '_>, key: &'static str, field: Field<'_>) -> Option<RlimitValue> {
    if let Value::Map(_) = field.node.value {
        return soft_and_hard(f, key, field);
    }
    let text = f.d.scalar(
        field.node,
        field.at(),
        key,
        "a number, a size, `unlimited`, or a table of `soft` and `hard`",
        &[],
    )?;
    let number = f.d.parse(&text, RlimitNumber::parse)?;
    f.show(key, Shown::Leaf { value: number.show(), from: text.from, span: Some(text.span) });
    Some(RlimitValue { soft: number.0, hard: number.0 })
}

fn soft_and_hard(f: &mut Fields<'_, '_, '_>, key: &'static str, field: Field<'_>) -> Option<RlimitValue> {
    let mut inner = Fields::open(f.d, &SOFT_HARD, Some(field), None);
    let soft: Option<Written<RlimitNumber>> = inner.scalar("soft");
    let hard: Option<Written<RlimitNumber>> = inner.scalar("hard");
    let (Some(one), other) = (soft.or(hard), hard.or(soft)) else {
        if !inner.is_written("soft") && !inner.is_written("hard") {
            let problem =
                Problem::new(field.key_span, format!("{} has neither `soft` nor `hard`", quote(key)));
            inner.d.problem(problem.hint(format!("for example `{key}: {{ soft: 1024, hard: 4096 }}`")));
        }
        return None;
    };
    let value = RlimitValue { soft: one.value.0, hard: other.unwrap_or(one).value.0 };
    if value.soft > value.hard {
        let problem = Problem::new(one.span.unwrap_or(field.key_span), "`soft` is more than `hard`");
        inner.d.problem(match other.and_then(|hard| hard.span) {
            Some(span) => problem.related(span, "`hard` is here"),
            None => problem,
        });
    }
    let shown = inner.close();
    f.show(key, shown);
    Some(value)
}
