//! Limits: of each worker, of a service, of the application.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use watt_core::plan::{CgroupLimits, IoLimits, Limits, RlimitValue};

use super::{
    Decoder,
    app::unit_hint,
    fields::{Field, Fields, Written, absolute},
};
use crate::{
    keys::{CEILING, IO, LIMITS, PIDS_MAX, RLIMITS, SOFT_HARD, WEIGHT_MAX},
    report::Problem,
    scalar::{Bytes, CpuMillis, Cpus, RlimitNumber, Scalar, Whole, quote},
    show::Shown,
    source::Span,
    tree::Value,
};

/// No program runs in less memory than this; a smaller number has a forgotten unit.
const MEMORY_BYTES_MIN: u64 = 1 << 20;

/// Limits, and where those were written that a larger group's are compared with.
#[derive(Debug, Default)]
pub(crate) struct CgroupDraft {
    pub(crate) limits: CgroupLimits,
    places: BTreeMap<&'static str, Span>,
}

/// Decodes the limits of each worker.
pub(super) fn decode(d: &mut Decoder<'_>, field: Option<Field<'_>>) -> (Limits, CgroupDraft, Shown) {
    let mut f = Fields::open(d, &LIMITS, field, None);
    let draft = cgroup(&mut f);
    let oom_group: Written<bool> = f.value("oom_group");
    let mut rlimits = BTreeMap::new();
    for (key, resource) in RLIMITS {
        if let Some(value) = f.field(key).and_then(|field| rlimit(&mut f, key, field)) {
            rlimits.insert(resource, value);
        }
    }
    let limits = Limits { cgroup: draft.limits.clone(), oom_group: oom_group.value, rlimits };
    (limits, draft, f.close())
}

/// Decodes the limits of many workers together.
pub(super) fn ceiling(d: &mut Decoder<'_>, field: Option<Field<'_>>) -> (CgroupDraft, Shown) {
    let mut f = Fields::open(d, &CEILING, field, None);
    let draft = cgroup(&mut f);
    (draft, f.close())
}

/// The keys that every table of limits has.
fn cgroup(f: &mut Fields<'_, '_, '_>) -> CgroupDraft {
    let memory = memory_size(f, "memory");
    let memory_high = memory_size(f, "memory_high");
    let memory_low: Option<Written<Bytes>> = f.scalar("memory_low");
    let memory_min: Option<Written<Bytes>> = f.scalar("memory_min");
    let ascending = [
        ("memory_min", memory_min),
        ("memory_low", memory_low),
        ("memory_high", memory_high),
        ("memory", memory),
    ];
    in_order(f, &ascending);
    let swap: Option<Written<Bytes>> = f.scalar("swap");
    let cpu: Option<Written<CpuMillis>> = f.scalar("cpu");
    let cpu_weight = weight(f, "cpu_weight");
    let cpus: Option<Written<Cpus>> = f.scalar("cpuset");
    let pids: Option<Written<Whole<1, PIDS_MAX>>> = f.scalar("pids");
    let io_weight = weight(f, "io_weight");
    let io = devices(f);
    let hugetlb = huge_pages(f);
    let places = [
        ("memory", memory.and_then(|written| written.span)),
        ("cpu", cpu.and_then(|written| written.span)),
        ("pids", pids.and_then(|written| written.span)),
    ];
    let bytes = |written: Option<Written<Bytes>>| written.map(|written| written.value.0);
    CgroupDraft {
        limits: CgroupLimits {
            memory: bytes(memory),
            memory_high: bytes(memory_high),
            memory_low: bytes(memory_low),
            memory_min: bytes(memory_min),
            swap: bytes(swap),
            cpu_millis: cpu.map(|written| written.value.0),
            cpu_weight,
            cpus: cpus.map_or_else(BTreeSet::new, |written| written.value.0),
            pids: pids.and_then(|written| u32::try_from(written.value.0).ok()),
            io_weight,
            io,
            hugetlb,
        },
        places: places.into_iter().filter_map(|(key, span)| Some((key, span?))).collect(),
    }
}

/// Each amount of memory that was written is at most the next one.
fn in_order(f: &mut Fields<'_, '_, '_>, ascending: &[(&str, Option<Written<Bytes>>)]) {
    let written: Vec<_> = ascending.iter().filter_map(|(key, amount)| Some((*key, (*amount)?))).collect();
    for pair in written.windows(2) {
        let [(low_key, low), (high_key, high)] = pair else { continue };
        if let (true, Some(at)) = (low.value.0 > high.value.0, low.span) {
            let problem = Problem::new(at, format!("{} is more than {}", quote(low_key), quote(high_key)));
            f.d.problem(match high.span {
                Some(span) => problem.related(span, format!("{} is here", quote(high_key))),
                None => problem,
            });
        }
    }
}

fn weight(f: &mut Fields<'_, '_, '_>, key: &'static str) -> Option<u16> {
    let written: Written<Whole<1, WEIGHT_MAX>> = f.scalar(key)?;
    u16::try_from(written.value.0).ok()
}

fn devices(f: &mut Fields<'_, '_, '_>) -> BTreeMap<PathBuf, IoLimits> {
    let mut devices = BTreeMap::new();
    let mut shown = Vec::new();
    for entry in f.entries("io", "device") {
        if f.d.problems.is_full() {
            break;
        }
        let root = f.d.root.clone();
        let path = absolute(&root, &entry.key.text);
        let mut inner = Fields::open(f.d, &IO, Some(Field::from(entry)), None);
        let mut bytes = |key| {
            let written: Option<Written<Bytes>> = inner.scalar(key);
            written.map(|written| written.value.0)
        };
        let (read_bytes, write_bytes) = (bytes("read_bytes"), bytes("write_bytes"));
        let mut operations = |key| {
            let written: Option<Written<Whole<1, 1_000_000_000>>> = inner.scalar(key);
            written.map(|written| written.value.0)
        };
        let (read_ops, write_ops) = (operations("read_ops"), operations("write_ops"));
        shown.push((path.to_string_lossy().into_owned(), inner.close()));
        let limits = IoLimits { read_bytes, write_bytes, read_ops, write_ops };
        if devices.insert(path, limits).is_some() {
            let message = format!("a second table for {}", quote(&entry.key.text));
            f.d.problem(Problem::new(entry.key.span, message).hint("keep one of them"));
        }
    }
    if !shown.is_empty() {
        f.show("io", Shown::Map(shown));
    }
    devices
}

fn huge_pages(f: &mut Fields<'_, '_, '_>) -> BTreeMap<String, u64> {
    let mut pages = BTreeMap::new();
    let mut shown = Vec::new();
    for entry in f.entries("hugetlb", "page size") {
        if f.d.problems.is_full() {
            break;
        }
        let size = &entry.key.text;
        if !is_page_size(size) {
            let problem = Problem::new(entry.key.span, format!("{} is not the size of a page", quote(size)));
            f.d.problem(problem.hint("write it as the kernel does: `2MB`, `1GB`"));
        }
        let field = Field::from(entry);
        let Some(text) = f.d.scalar(field.node, field.at(), size, "a size such as `512M`", &[]) else {
            continue;
        };
        let Some(bytes) = f.d.parse(&text, Bytes::parse) else { continue };
        shown.push((
            size.clone(),
            Shown::Leaf { value: bytes.show(), from: text.from, span: Some(text.span) },
        ));
        pages.insert(size.clone(), bytes.0);
    }
    if !shown.is_empty() {
        f.show("hugetlb", Shown::Map(shown));
    }
    pages
}

/// The names of hugetlb files: `hugetlb.64KB.max`, `hugetlb.2MB.max`, `hugetlb.1GB.max`.
fn is_page_size(text: &str) -> bool {
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit));
    digits.is_some_and(|digits| {
        (1..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// A part that may use more than the whole: one of the two numbers is not what was meant.
pub(super) fn within(d: &mut Decoder<'_>, part: (&str, &CgroupDraft), whole: (&str, &CgroupDraft)) {
    let amounts = |limits: &CgroupLimits| {
        [
            ("memory", limits.memory),
            ("cpu", limits.cpu_millis.map(u64::from)),
            ("pids", limits.pids.map(u64::from)),
        ]
    };
    let pairs = amounts(&part.1.limits).into_iter().zip(amounts(&whole.1.limits));
    for ((key, inner), (_, outer)) in pairs {
        let (Some(inner), Some(outer), Some(at)) = (inner, outer, part.1.places.get(key)) else { continue };
        if inner > outer {
            let message = format!("{} of {} is more than that of {}", quote(key), part.0, whole.0);
            let problem = Problem::new(*at, message);
            d.problem(match whole.1.places.get(key) {
                Some(span) => problem.related(*span, "which is here"),
                None => problem,
            });
        }
    }
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
