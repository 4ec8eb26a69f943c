//! `balance` of a service.

use serde_json::json;
use watt_core::plan::{Balance, HashKey};

use super::{
    actions::cookie_name,
    fields::{Fields, Written, show_word},
    guard::deciding_header,
};
use crate::{
    keys::{BALANCE, BALANCE_BY, BalanceBy, HASH_OF, HashOf},
    report::Problem,
    scalar::quote,
};

pub(super) fn decode(f: &mut Fields<'_, '_, '_>, service: &str) -> Balance {
    let field = f.field("balance");
    let mut inner = Fields::open(f.d, &BALANCE, field, Some("by"));
    let by = inner.word_or_default("by", &BALANCE_BY).value;
    let of = inner.word("of", &HASH_OF);
    let header = inner.parsed("header", deciding_header, |name| json!(name));
    let cookie = inner.parsed("cookie", cookie_name, |name| json!(name));
    let takes: &[&str] = match by {
        BalanceBy::Hash => &["of", "header", "cookie"],
        BalanceBy::Sticky => &["cookie"],
        BalanceBy::TwoChoices | BalanceBy::RoundRobin | BalanceBy::LeastLatency => &[],
    };
    fit(&mut inner, by, takes);
    let shown = inner.close();
    f.show("balance", shown);
    let name = |written: Option<Written<String>>| written.map(|written| written.value);
    let (header, cookie) = (name(header), name(cookie));
    match by {
        BalanceBy::TwoChoices => Balance::TwoChoices,
        BalanceBy::RoundRobin => Balance::RoundRobin,
        BalanceBy::LeastLatency => Balance::LeastLatency,
        BalanceBy::Hash => Balance::Hash(match (header, cookie, of.map(|of| of.value)) {
            (Some(header), _, _) => HashKey::Header(header),
            (None, Some(cookie), _) => HashKey::Cookie(cookie),
            (None, None, Some(HashOf::Path)) => HashKey::Path,
            (None, None, Some(HashOf::Address) | None) => HashKey::Address,
        }),
        BalanceBy::Sticky => Balance::Sticky(cookie.unwrap_or_else(|| usual_cookie(service))),
    }
}

/// Of the key of a hash there is one, and of what the word does not take there is nothing.
fn fit(inner: &mut Fields<'_, '_, '_>, by: BalanceBy, takes: &[&str]) {
    let word = show_word(by, &BALANCE_BY);
    let word = quote(word.as_str().unwrap_or_default());
    let mut taken = None;
    for key in ["of", "header", "cookie"] {
        let Some(field) = inner.written(key) else { continue };
        let problem = |message: String, hint: String| Problem::new(field.key_span, message).hint(hint);
        if !takes.contains(&key) {
            let whose = if key == "cookie" { "`hash` or `sticky`" } else { "`hash`" };
            let hint = format!("write `by: hash`, or remove {}", quote(key));
            inner.d.problem(problem(format!("{} is for {whose}, and this is {word}", quote(key)), hint));
        } else if let Some(other) = taken.replace(key) {
            let message = format!("{} and {} at once", quote(other), quote(key));
            inner.d.problem(problem(message, "one of them decides which worker it is".to_owned()));
        }
    }
}

/// The name of a sticky cookie that is given none.
fn usual_cookie(service: &str) -> String {
    format!("{service}_worker")
}
