//! Timeouts of a service's requests, and what becomes of those that do not go as they should.

use std::{num::NonZeroU32, time::Duration};

use serde_json::json;
use watt_core::plan::{Breaker, Bulkhead, Ejection, Failure, Retries, Timeouts, Traffic};

use super::{
    balance,
    fields::{Field, Fields, Written, show_word, word_of},
};
use crate::{
    keys::{
        ATTEMPTS_MAX, BELIEVED, BREAKER, BREAKER_ON, BULKHEAD, EJECTION, FAILURE, NEVER, RETRIES, TIMEOUTS,
    },
    report::Problem,
    scalar::{Bad, Percent, Scalar, Status, Whole, quote},
    show::Shown,
    tree::Value,
};

/// What is told of each time takes so long at least.
const TOLD_TIME_MIN: Duration = Duration::from_secs(1);

/// `timeouts`.
pub(super) fn timeouts(f: &mut Fields<'_, '_, '_>) -> Timeouts {
    let field = f.field("timeouts");
    let mut inner = Fields::open(f.d, &TIMEOUTS, field, None);
    let connect: Written<Duration> = inner.value("connect");
    let first_byte: Written<Duration> = inner.value("first_byte");
    let idle: Written<Duration> = inner.value("idle");
    let per_try: Option<Written<Duration>> = inner.scalar("per_try");
    let total: Option<Written<Duration>> = inner.scalar("total");
    let named = [("connect", connect), ("first_byte", first_byte), ("idle", idle)];
    let optional = [("per_try", per_try), ("total", total)];
    let optional = optional.into_iter().filter_map(|(name, written)| Some((name, written?)));
    for (name, timeout) in named.into_iter().chain(optional) {
        if let (true, Some(span)) = (timeout.value.is_zero(), timeout.span) {
            let problem = Problem::new(span, format!("with {} of no time, no request succeeds", quote(name)));
            inner.d.problem(problem.hint("write a longer time, or remove it"));
        }
    }
    if let (Some(per_try), Some(total)) = (per_try, total)
        && let (true, Some(span)) = (per_try.value > total.value, per_try.span)
    {
        let problem = Problem::new(span, "one try may take longer than the whole request");
        inner.d.problem(problem.hint("`per_try` is at most `total`"));
    }
    let shown = inner.close();
    f.show("timeouts", shown);
    Timeouts {
        connect: connect.value,
        first_byte: first_byte.value,
        idle: idle.value,
        per_try: per_try.map(|written| written.value),
        total: total.map(|written| written.value),
    }
}

/// Everything else.
pub(super) fn decode(f: &mut Fields<'_, '_, '_>, service: &str) -> Traffic {
    Traffic {
        retries: retries(f),
        breaker: breaker(f),
        bulkhead: bulkhead(f),
        balance: balance::decode(f, service),
        ejection: ejection(f),
    }
}

fn retries(f: &mut Fields<'_, '_, '_>) -> Retries {
    let field = f.field("retries");
    let mut inner = Fields::open(f.d, &RETRIES, field, None);
    let attempts: Written<Whole<1, ATTEMPTS_MAX>> = inner.value("attempts");
    let on = failures(&mut inner, &Retries::default().on);
    let methods = inner.each("methods", "a method such as `POST`", method, |method| json!(method));
    let backoff: Written<Duration> = inner.value("backoff");
    let shown = inner.close();
    f.show("retries", shown);
    Retries {
        attempts: count(attempts.value.0),
        on,
        methods: methods.map(|methods| methods.into_iter().map(|(method, _)| method).collect()),
        backoff: backoff.value,
    }
}

/// The key `on`: what is a failure.
fn failures(f: &mut Fields<'_, '_, '_>, default: &[Failure]) -> Vec<Failure> {
    let parse = |text: &str| match Status::parse(text) {
        Ok(Status(low, high)) => Ok(Failure::Status(low, high)),
        Err(bad) if text.starts_with(|first: char| first.is_ascii_digit()) => Err(bad),
        Err(_) => word_of(text, &FAILURE).map_err(|Bad { message, hint }| Bad {
            message,
            hint: hint.map(|hint| match hint.starts_with("one of") {
                true => format!("{hint}, or a status such as `503` or `502-504`"),
                false => hint,
            }),
        }),
    };
    match f.each("on", "a word or a status", parse, show) {
        Some(written) => written.into_iter().map(|(on, _)| on).collect(),
        None => {
            f.show("on", Shown::List(default.iter().map(|on| Shown::default_value(show(on))).collect()));
            default.to_vec()
        }
    }
}

fn breaker(f: &mut Fields<'_, '_, '_>) -> Option<Breaker> {
    let field = f.field("breaker")?;
    let mut inner = Fields::open(f.d, &BREAKER, Some(field), None);
    let failures: Option<Written<Whole<1, 1000>>> = inner.scalar("failures");
    let ratio: Written<Percent> = inner.value("ratio");
    let requests_min: Written<Whole<1, 1_000_000>> = inner.value("min_requests");
    let window: Written<Duration> = inner.value("window");
    let open: Written<Duration> = inner.value("open");
    let probes: Written<Whole<1, 1000>> = inner.value("probes");
    let on = self::failures(&mut inner, &BREAKER_ON);
    some_failure(&mut inner, "a breaker that takes nothing for a failure never opens");
    no_less_than_a_second(&mut inner, [("window", window), ("open", open)]);
    let shown = inner.close();
    f.show("breaker", shown);
    Some(Breaker {
        failures: failures.and_then(|written| NonZeroU32::new(count(written.value.0))),
        ratio_percent: ratio.value.0,
        requests_min: count(requests_min.value.0),
        window: window.value,
        open: open.value,
        probes: count(probes.value.0),
        on,
    })
}

fn ejection(f: &mut Fields<'_, '_, '_>) -> Option<Ejection> {
    let field = f.field("ejection");
    let mut inner = Fields::open(f.d, &EJECTION, field, Some("failures"));
    let parse = |text: &str| match word_of(text, &NEVER) {
        Ok(_) => Ok(None),
        Err(_) => Whole::<1, 1000>::parse(text).map(Some).map_err(|bad| Bad {
            hint: bad.hint.or_else(|| Some("a number such as `5`, or `never`".into())),
            ..bad
        }),
    };
    let failures = inner
        .parsed("failures", parse, |failures| failures.map_or_else(|| "never".into(), |some| some.show()));
    let usual = Ejection::default();
    let on = self::failures(&mut inner, &usual.on);
    some_failure(&mut inner, "an ejection that takes nothing for a failure never happens");
    let first: Written<Duration> = inner.value("first");
    let max: Written<Duration> = inner.value("max");
    no_less_than_a_second(&mut inner, [("first", first), ("max", max)]);
    if let (true, Some(span)) = (first.value > max.value, first.span.or(max.span)) {
        let problem = Problem::new(span, "the first time is longer than the longest");
        inner.d.problem(problem.hint("`first` is at most `max`"));
    }
    let shown = inner.close();
    f.show("ejection", shown);
    let failures =
        failures.map_or(Some(usual.failures), |written| written.value.map(|some| count(some.0)))?;
    Some(Ejection { failures, on, first: first.value, max: max.value })
}

/// A list of failures is not empty.
fn some_failure(f: &mut Fields<'_, '_, '_>, message: &str) {
    let is_empty = |on: &Field<'_>| matches!(&on.node.value, Value::List(list) if list.is_empty());
    if let Some(on) = f.written("on").filter(is_empty) {
        f.d.problem(Problem::new(on.at(), message).hint("leave `on` out, or name what is a failure"));
    }
}

/// What turned faster would be told more often than anybody reads.
fn no_less_than_a_second(f: &mut Fields<'_, '_, '_>, times: [(&str, Written<Duration>); 2]) {
    for (name, time) in times {
        if let (true, Some(span)) = (time.value < TOLD_TIME_MIN, time.span) {
            let message = format!("{} is shorter than a second", quote(name));
            f.d.problem(Problem::new(span, message).hint("for example `5s`"));
        }
    }
}

fn bulkhead(f: &mut Fields<'_, '_, '_>) -> Option<Bulkhead> {
    let field = f.field("bulkhead")?;
    let mut inner = Fields::open(f.d, &BULKHEAD, Some(field), Some("in_flight"));
    let in_flight: Option<Written<Whole<1, 1_000_000>>> = inner.scalar("in_flight");
    let queue: Written<Whole<0, 1_000_000>> = inner.value("queue");
    let queue_timeout: Written<Duration> = inner.value("queue_timeout");
    let believes = inner.word_or_default("priority", &BELIEVED).value;
    if let (true, Some(span)) = (queue_timeout.value.is_zero(), queue_timeout.span) {
        let problem = Problem::new(span, "who may not wait at all is not in a queue");
        inner.d.problem(problem.hint("write `queue: 0`, so that nobody waits"));
    }
    let shown = inner.close();
    f.show("bulkhead", shown);
    Some(Bulkhead {
        in_flight_max: count(in_flight?.value.0),
        queue_max: count(queue.value.0),
        queue_timeout: queue_timeout.value,
        believes,
    })
}

fn count(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn show(on: &Failure) -> serde_json::Value {
    match *on {
        Failure::Status(low, high) => Status(low, high).show(),
        word @ (Failure::Connect | Failure::Reset | Failure::Timeout) => show_word(word, &FAILURE),
    }
}

/// A method is a token (RFC 9110 §9.1), and letters matter: `get` is none.
fn method(text: &str) -> Result<String, Bad> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if text.is_empty() || text.len() > 32 || !text.bytes().all(is_token) {
        return Err(Bad {
            message: format!("{} is not a method", quote(text)),
            hint: Some("for example `POST`".into()),
        });
    }
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(Bad {
            message: format!("{} is written in other letters than methods are", quote(text)),
            hint: Some(format!("write {}", quote(&text.to_ascii_uppercase()))),
        });
    }
    Ok(text.to_owned())
}
