//! Timeouts of a service's requests, and what becomes of those that do not go as they should.

use std::time::Duration;

use serde_json::json;
use watt_core::plan::{Failure, Retries, Timeouts, Traffic};

use super::fields::{Fields, Written, show_word, word_of};
use crate::{
    keys::{ATTEMPTS_MAX, FAILURE, RETRIES, TIMEOUTS},
    report::Problem,
    scalar::{Bad, Scalar, Status, Whole, quote},
    show::Shown,
};

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
pub(super) fn decode(f: &mut Fields<'_, '_, '_>) -> Traffic {
    Traffic { retries: retries(f) }
}

fn retries(f: &mut Fields<'_, '_, '_>) -> Retries {
    let field = f.field("retries");
    let mut inner = Fields::open(f.d, &RETRIES, field, None);
    let attempts: Written<Whole<1, ATTEMPTS_MAX>> = inner.value("attempts");
    let on = on(&mut inner);
    let methods = inner.each("methods", "a method such as `POST`", method, |method| json!(method));
    let backoff: Written<Duration> = inner.value("backoff");
    let shown = inner.close();
    f.show("retries", shown);
    Retries {
        attempts: u32::try_from(attempts.value.0).unwrap_or(u32::MAX),
        on,
        methods: methods.map(|methods| methods.into_iter().map(|(method, _)| method).collect()),
        backoff: backoff.value,
    }
}

fn on(f: &mut Fields<'_, '_, '_>) -> Vec<Failure> {
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
    let Some(written) = f.each("on", "a word or a status", parse, show) else {
        let on = Retries::default().on;
        f.show("on", Shown::List(on.iter().map(|on| Shown::default_value(show(on))).collect()));
        return on;
    };
    written.into_iter().map(|(on, _)| on).collect()
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
