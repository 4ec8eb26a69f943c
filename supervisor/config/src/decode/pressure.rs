//! What is made of workers that stall.

use std::{collections::BTreeMap, time::Duration};

use watt_core::plan::{CgroupLimits, PRESSURE_WINDOW, Pressure, Resource};

use super::fields::{Fields, Written};
use crate::{
    keys::{PRESSURE, RECYCLE, TOLD},
    report::Problem,
    scalar::{Scalar, quote},
    show::Shown,
    source::Span,
};

/// A time with the place where it was written.
type Times = BTreeMap<Resource, (Duration, Option<Span>)>;

/// Decodes `pressure` of a service with these limits.
pub(super) fn decode(f: &mut Fields<'_, '_, '_>, limits: &CgroupLimits) -> Pressure {
    let field = f.field("pressure");
    let mut inner = Fields::open(f.d, &PRESSURE, field, None);
    let recycle = recycle(&mut inner);
    let tell = tell(&mut inner, limits, &recycle);
    let tell_with_memory_high = tell_with_memory_high(&inner, &tell);
    for (resource, (_, at)) in &recycle {
        if let (false, Some(at)) = (tell.contains_key(resource), at) {
            let name = resource.name();
            let message = format!(
                "a worker is replaced that stalls as much as is told, and {} is `never`",
                quote(name)
            );
            inner.d.problem(Problem::new(*at, message).hint(format!("write how much is told: `{name}: 1s`")));
        }
    }
    let shown = inner.close();
    f.show("pressure", shown);
    let times = |times: Times| times.into_iter().map(|(resource, (time, _))| (resource, time)).collect();
    Pressure { tell: times(tell), tell_with_memory_high, recycle: times(recycle) }
}

fn recycle(f: &mut Fields<'_, '_, '_>) -> Times {
    let field = f.field("recycle");
    let mut inner = Fields::open(f.d, &RECYCLE, field, None);
    let mut times = Times::new();
    for resource in Resource::ALL {
        let Some(Written { value: Some(time), span }) = inner.duration_or_never(resource.name()) else {
            continue;
        };
        if let (true, Some(span)) = (time < PRESSURE_WINDOW, span) {
            inner.d.problem(Problem::new(span, "shorter than the 2 seconds over which stalls are added up"));
        }
        times.insert(resource, (time, span));
    }
    let shown = inner.close();
    f.show("recycle", shown);
    times
}

/// How much is told, with defaults where something is made of it.
fn tell(f: &mut Fields<'_, '_, '_>, limits: &CgroupLimits, recycle: &Times) -> Times {
    let mut times = Times::new();
    for (resource, default) in TOLD {
        let name = resource.name();
        let is_wanted =
            recycle.contains_key(&resource) || (resource == Resource::Memory && limits.memory_high.is_some());
        match f.duration_or_never(name) {
            Some(Written { value: Some(time), span }) => {
                let is_part = (Duration::from_millis(1)..=PRESSURE_WINDOW).contains(&time);
                if let (false, Some(span)) = (is_part, span) {
                    let problem = Problem::new(span, format!("{} is not a part of 2 seconds", quote(name)));
                    f.d.problem(problem.hint("between `1ms` and `2s`, or `never`"));
                }
                times.insert(resource, (time, span));
            }
            None if is_wanted && !f.is_written(name) => {
                let time = Duration::parse(default).expect("the default of a key is of its kind");
                f.show(name, Shown::default_value(time.show()));
                times.insert(resource, (time, None));
            }
            Some(Written { value: None, .. }) | None => {}
        }
    }
    times
}

/// How much would be told of memory if `memory_high` were set, which an operator may do later. `None` for `never`.
fn tell_with_memory_high(f: &Fields<'_, '_, '_>, tell: &Times) -> Option<Duration> {
    let name = Resource::Memory.name();
    let default = || {
        let (_, default) = TOLD.into_iter().find(|(resource, _)| *resource == Resource::Memory)?;
        Duration::parse(default).ok().filter(|_| !f.is_written(name))
    };
    tell.get(&Resource::Memory).map(|(time, _)| *time).or_else(default)
}
