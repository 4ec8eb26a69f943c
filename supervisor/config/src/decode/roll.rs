//! `services.NAME.roll`.

use std::time::Duration;

use watt_core::plan::{Roll, Share};

use super::fields::{Fields, Written};
use crate::{
    keys::{ON_FAILURE, ROLL},
    report::Problem,
};

pub(super) fn decode(f: &mut Fields<'_, '_, '_>) -> Roll {
    let field = f.field("roll");
    let mut inner = Fields::open(f.d, &ROLL, field, None);
    let surge: Written<Share> = inner.value("surge");
    let max_unavailable: Written<Share> = inner.value("max_unavailable");
    let is_zero = |share: &Share| matches!(share, Share::Count(0) | Share::Percent(0));
    if is_zero(&surge.value)
        && is_zero(&max_unavailable.value)
        && let Some(span) = surge.span.or(max_unavailable.span)
    {
        let message = "with neither a worker more nor one fewer, none can be replaced";
        inner.d.problem(Problem::new(span, message).hint("write `max_unavailable: 1` with `surge: 0`"));
    }
    let min_healthy: Written<Duration> = inner.value("min_healthy");
    let deadline = inner.duration_or_never("deadline");
    let on_failure = inner.word_or_default("on_failure", &ON_FAILURE).value;
    let shown = inner.close();
    f.show("roll", shown);
    Roll {
        surge: surge.value,
        max_unavailable: max_unavailable.value,
        min_healthy: min_healthy.value,
        deadline: deadline.and_then(|written| written.value),
        on_failure,
    }
}
