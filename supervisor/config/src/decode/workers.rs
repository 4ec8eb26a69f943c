//! How many workers a service has.

use std::{
    num::{NonZeroU16, NonZeroU32},
    time::Duration,
};

use serde_json::json;
use watt_core::plan::{Listen, Scaling, Targets, Workers};

use super::fields::{Fields, Written};
use crate::{
    keys::{CPU_TARGET, IDLE, TARGET, WORKERS, WORKERS_MAX},
    report::Problem,
    scalar::{Percent, Scalar, Whole, quote},
    show::Shown,
    tree::{Node, Value},
};

type Count = Whole<1, { WORKERS_MAX as u64 }>;
type Least = Whole<0, { WORKERS_MAX as u64 }>;
type Requests = Whole<1, 1_000_000>;

/// Measured once a second: what is shorter would be a single look.
const WINDOW_MIN: Duration = Duration::from_secs(2);

/// What asks for requests of a service that gets none.
const OF_REQUESTS: [&str; 3] = ["in_flight", "latency_p95", "queue"];

/// Decodes `workers` of a service that accepts connections in this way.
pub(super) fn decode(f: &mut Fields<'_, '_, '_>, listen: Listen) -> Workers {
    // A placeholder without quotes looks like a table as well.
    let is_table = |node: &Node| match &node.value {
        Value::Map(entries) => {
            entries.is_empty() || entries.iter().any(|entry| !matches!(entry.node.value, Value::Null))
        }
        _ => false,
    };
    if !f.written("workers").is_some_and(|field| is_table(field.node)) {
        let count: Written<Count> = f.value("workers");
        return Workers::Fixed(whole(count.value));
    }
    let field = f.field("workers");
    let mut inner = Fields::open(f.d, &WORKERS, field, None);
    let workers = table(&mut inner, listen);
    let shown = inner.close();
    f.show("workers", shown);
    workers
}

fn table(f: &mut Fields<'_, '_, '_>, listen: Listen) -> Workers {
    let fixed: Option<Written<Count>> = f.scalar("static");
    let dynamic: Option<Written<bool>> = f.scalar("dynamic");
    let min: Written<Least> = either(f, "min", "minimum").unwrap_or_else(|| one(f));
    let is_dynamic = dynamic.map_or(fixed.is_none(), |written| written.value);
    let max: Option<Written<Count>> = either(f, "max", "maximum");
    let targets = targets(f, listen);
    let window: Written<Duration> = f.value("window");
    let cooldown: Written<Duration> = f.value("cooldown");
    if !is_dynamic {
        f.field("idle");
        return fixed_number(f, fixed);
    }
    let Some(max) = max else {
        f.field("idle");
        if !f.is_written("max") && !f.is_written("maximum") {
            f.missing("max");
        }
        return Workers::ONE;
    };
    let (least, most) = (u16::try_from(min.value.0).unwrap_or(u16::MAX), whole(max.value));
    if let (true, Some(at)) = (least > most.get(), max.span.or(min.span)) {
        let problem = Problem::new(at, format!("{most} workers at most are fewer than {least} at least"));
        f.d.problem(problem.hint("`min` is at most `max`"));
    }
    if let (0, Listen::None, Some(at)) = (least, listen, min.span) {
        let problem = Problem::new(at, "no request would start a worker of a service that does not listen");
        f.d.problem(problem.hint("write `min: 1`"));
    }
    let idle = idle(f, least);
    if let (true, Some(at)) = (window.value < WINDOW_MIN, window.span) {
        f.d.problem(
            Problem::new(at, "what is measured once a second needs 2 seconds at least").hint("write `2s`"),
        );
    }
    Workers::Scaled(Scaling {
        min: least,
        max: most,
        targets,
        window: window.value,
        cooldown: cooldown.value,
        idle,
    })
}

/// How long nobody has to want anything, where there may be no worker.
fn idle(f: &mut Fields<'_, '_, '_>, least: u16) -> Duration {
    let standard = || Duration::parse(IDLE).expect("the default of a key is of its kind");
    match (f.scalar::<Duration>("idle"), f.written("idle")) {
        (_, Some(field)) if least > 0 => {
            let problem = Problem::new(field.key_span, "there is always a worker, whatever nobody wants");
            f.d.problem(problem.hint("remove `idle`, or write `min: 0`"));
            standard()
        }
        (Some(Written { value: Duration::ZERO, span: Some(at) }), _) => {
            f.d.problem(
                Problem::new(at, "a worker that goes at once answers nothing").hint("write a longer time"),
            );
            standard()
        }
        (Some(written), _) => written.value,
        (None, _) => {
            if least == 0 && !f.is_written("idle") {
                f.show("idle", Shown::default_value(standard().show()));
            }
            standard()
        }
    }
}

fn fixed_number(f: &mut Fields<'_, '_, '_>, fixed: Option<Written<Count>>) -> Workers {
    for key in ["min", "minimum", "max", "maximum", "target", "window", "cooldown", "idle"] {
        if let (true, Some(field)) = (fixed.is_some() && !f.is_written("dynamic"), f.written(key)) {
            let message = format!("{} has no use beside `static`", quote(key));
            f.d.problem(
                Problem::new(field.key_span, message).hint("remove one of them, or write `dynamic: true`"),
            );
        }
    }
    match fixed {
        Some(written) => Workers::Fixed(whole(written.value)),
        // `dynamic: false` alone.
        None => {
            f.missing("static");
            Workers::ONE
        }
    }
}

/// A key by one of its two names.
fn either<T: Scalar>(
    f: &mut Fields<'_, '_, '_>,
    ours: &'static str,
    theirs: &'static str,
) -> Option<Written<T>> {
    let other = f.scalar::<T>(theirs);
    let own = if f.is_written(ours) { f.scalar::<T>(ours) } else { mark(f, ours) };
    if let (Some(_), Some(Written { span: Some(at), .. })) = (&own, &other) {
        let message = format!("{} and {} are the same, and both are written", quote(ours), quote(theirs));
        f.d.problem(Problem::new(*at, message).hint("remove one of them"));
    }
    own.or(other)
}

/// The fewest where nothing was written, or something wrong, which is noted.
fn one(f: &mut Fields<'_, '_, '_>) -> Written<Least> {
    if !f.is_written("min") && !f.is_written("minimum") {
        f.show("min", Shown::default_value(json!(1)));
    }
    Written { value: Whole(1), span: None }
}

/// A key that was not written is asked for all the same.
fn mark<T>(f: &mut Fields<'_, '_, '_>, key: &'static str) -> Option<Written<T>> {
    f.field(key);
    None
}

fn targets(f: &mut Fields<'_, '_, '_>, listen: Listen) -> Targets {
    let field = f.field("target");
    let mut inner = Fields::open(f.d, &TARGET, field, None);
    let is_written = TARGET.keys.iter().any(|key| inner.is_written(key.name));
    let mut cpu: Option<Written<Percent>> = inner.scalar("cpu");
    let in_flight: Option<Written<Requests>> = inner.scalar("in_flight");
    let latency: Option<Written<Duration>> = inner.scalar("latency_p95");
    let queue: Option<Written<Requests>> = inner.scalar("queue");
    let pressure: Option<Written<Percent>> = inner.scalar("pressure");
    if !is_written {
        let value = Percent::parse(CPU_TARGET).expect("the default of a key is of its kind");
        inner.show("cpu", Shown::default_value(value.show()));
        cpu = Some(Written { value, span: None });
    }
    if let Some(Written { value: Duration::ZERO, span: Some(at) }) = latency {
        inner.d.problem(Problem::new(at, "no answer begins in no time").hint("write a longer time"));
    }
    for key in OF_REQUESTS {
        if let (Listen::None, Some(field)) = (listen, inner.written(key)) {
            let message = format!("{} is of requests, and this service does not listen", quote(key));
            inner.d.problem(Problem::new(field.key_span, message).hint("write `cpu` or `pressure`"));
        }
    }
    let shown = inner.close();
    f.show("target", shown);
    let requests = |written: Option<Written<Requests>>| {
        NonZeroU32::new(u32::try_from(written?.value.0).unwrap_or(u32::MAX))
    };
    let percent = |written: Option<Written<Percent>>| NonZeroU32::new(written?.value.0);
    Targets {
        cpu: percent(cpu),
        in_flight: requests(in_flight),
        latency_p95: latency.map(|written| written.value),
        queue: requests(queue),
        pressure: percent(pressure),
    }
}

fn whole(count: Count) -> NonZeroU16 {
    u16::try_from(count.0).ok().and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN)
}
