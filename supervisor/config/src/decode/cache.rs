//! Which responses the proxy stores.

use std::time::Duration;

use serde_json::json;
use watt_core::plan::{Cache, CacheStore, RouteCache};

use super::{
    fields::{Field, Fields, Written, show_word, word_of},
    route::{bad, is_token},
};
use crate::{
    keys::{CACHE, CACHE_BELIEVED, CACHE_COOKIES, CACHE_METHOD, CACHE_STORE},
    report::Problem,
    scalar::{Bad, Bytes, Percent, Scalar, Whole, quote},
    show::Shown,
    tree::Value,
};

/// The most fields that every response is chosen by.
const VARY_MAX: usize = 16;

/// The least memory in which anything worthwhile has room.
const SIZE_MIN: u64 = 1 << 20;

/// `cache` of the application: how much.
pub(super) fn store(f: &mut Fields<'_, '_, '_>) -> CacheStore {
    let field = f.field("cache");
    let mut inner = Fields::open(f.d, &CACHE_STORE, field, None);
    let size: Written<Bytes> = inner.value("size");
    let entries: Written<Whole<1, 100_000_000>> = inner.value("entries");
    if let (true, Some(span)) = (size.value.0 < SIZE_MIN, size.span) {
        let problem = Problem::new(span, "less than a megabyte has no room for responses");
        inner.d.problem(problem.hint("for example `64M`; without `cache` in services nothing is stored"));
    }
    let shown = inner.close();
    f.show("cache", shown);
    CacheStore { bytes_max: size.value.0, entries_max: entries.value.0 }
}

/// `cache` of a service.
pub(super) fn of_service(f: &mut Fields<'_, '_, '_>) -> Option<Cache> {
    match f.field("cache") {
        Some(field) => decode(f, field)?.into(),
        None => {
            f.show("cache", Shown::default_value(json!(false)));
            None
        }
    }
}

/// `cache` of a route.
pub(super) fn of_route(f: &mut Fields<'_, '_, '_>) -> Option<RouteCache> {
    let field = f.field("cache")?;
    decode(f, field).map(|cache: Choice| match cache.0 {
        Some(cache) => RouteCache::On(cache),
        None => RouteCache::Off,
    })
}

/// On or off.
struct Choice(Option<Cache>);

impl From<Choice> for Option<Cache> {
    fn from(Choice(cache): Choice) -> Self {
        cache
    }
}

/// `None` when it is wrong, which is noted.
fn decode(f: &mut Fields<'_, '_, '_>, field: Field<'_>) -> Option<Choice> {
    if let Value::Scalar { .. } = field.node.value {
        let text = f.d.scalar(field.node, field.at(), "cache", "`true`, `false`, or a table", &[])?;
        let is_on = f.d.parse(&text, bool::parse)?;
        if !is_on {
            f.show("cache", Shown::Leaf { value: json!(false), from: text.from, span: Some(text.span) });
            return Some(Choice(None));
        }
        let (cache, shown) = table(f, None);
        f.show("cache", shown);
        return Some(Choice(Some(cache)));
    }
    let (cache, shown) = table(f, Some(field));
    f.show("cache", shown);
    Some(Choice(Some(cache)))
}

fn table(f: &mut Fields<'_, '_, '_>, field: Option<Field<'_>>) -> (Cache, Shown) {
    let mut inner = Fields::open(f.d, &CACHE, field, None);
    let head = methods(&mut inner);
    let entry_max: Written<Bytes> = inner.value("max_size");
    let ttl: Option<Written<Duration>> = inner.scalar("ttl");
    let heuristic: Option<Written<Percent>> = inner.scalar("heuristic");
    let while_revalidate: Written<Duration> = inner.value("stale_while_revalidate");
    let if_error: Written<Duration> = inner.value("stale_if_error");
    let vary = inner.each("vary", "a header", header, |name| json!(name)).unwrap_or_default();
    if let Some((_, span)) = vary.get(VARY_MAX) {
        inner.d.problem(Problem::new(*span, format!("more than {VARY_MAX} headers")));
    }
    let tags = inner.parsed("tags", header, |name| json!(name));
    let cookies = inner.word_or_default("set_cookie", &CACHE_COOKIES).value;
    let believes = inner.word_or_default("request_directives", &CACHE_BELIEVED).value;
    let shown = inner.close();
    let cache = Cache {
        head,
        entry_max: entry_max.value.0,
        ttl: ttl.map(|written| written.value).filter(|ttl| !ttl.is_zero()),
        heuristic_percent: heuristic.map_or(0, |written| written.value.0),
        stale_while_revalidate: while_revalidate.value,
        stale_if_error: if_error.value,
        vary: vary.into_iter().map(|(name, _)| name).collect(),
        tags: tags.map_or_else(|| "cache-tag".to_owned(), |written| written.value),
        cookies,
        believes,
    };
    (cache, shown)
}

/// Whether HEAD is among them. GET is what is stored for.
fn methods(f: &mut Fields<'_, '_, '_>) -> bool {
    let at = f.written("methods").map(|field| field.at());
    let parse = |text: &str| word_of(text, &CACHE_METHOD);
    let Some(written) =
        f.each("methods", "`GET` or `HEAD`", parse, |method| show_word(*method, &CACHE_METHOD))
    else {
        f.show(
            "methods",
            Shown::List(["GET", "HEAD"].map(|method| Shown::default_value(json!(method))).into()),
        );
        return true;
    };
    if let (false, Some(at)) = (written.iter().any(|(is_head, _)| !is_head), at) {
        let problem = Problem::new(at, "without `GET` nothing is stored");
        f.d.problem(problem.hint("write `[GET]` or `[GET, HEAD]`, or `cache: false`"));
    }
    written.iter().any(|(is_head, _)| *is_head)
}

/// A header's name, in lower case.
fn header(text: &str) -> Result<String, Bad> {
    if is_token(text) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(bad(format!("{} is not the name of a header", quote(text)), "for example `X-Tenant`"))
}
