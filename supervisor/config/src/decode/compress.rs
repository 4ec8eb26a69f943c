//! Which responses are compressed.

use serde_json::json;
use watt_core::plan::Compress;

use super::{
    fields::{Fields, Written, show_word, word_of},
    route::bad,
};
use crate::{
    keys::{CODING, COMPRESS, COMPRESSIBLE},
    report::Problem,
    scalar::{Bad, Bytes, Scalar, quote},
    show::Shown,
    tree::Value,
};

/// The most types.
const TYPES_MAX: usize = 100;

/// Decodes `compress`. `None` where nothing is, or nothing was written.
pub(super) fn decode(f: &mut Fields<'_, '_, '_>) -> Option<Compress> {
    let field = f.field("compress");
    if let Some(Value::Scalar { .. }) = field.map(|field| &field.node.value) {
        let field = field?;
        let text = f.d.scalar(field.node, field.at(), "compress", "`true`, `false`, or a table", &[])?;
        let is_on = f.d.parse(&text, bool::parse)?;
        f.show("compress", Shown::Leaf { value: json!(is_on), from: text.from, span: Some(text.span) });
        return is_on.then(usual);
    }
    let Some(field) = field else {
        f.show("compress", Shown::default_value(json!(false)));
        return None;
    };
    let mut inner = Fields::open(f.d, &COMPRESS, Some(field), None);
    let coding = |text: &str| word_of(text, &CODING);
    let codings = inner.each("codings", "a coding", coding, |word| show_word(*word, &CODING));
    let types = inner.each("types", "a type", media_type, |name| json!(name));
    let min: Written<Bytes> = inner.value("min");
    let usual = usual();
    let listed =
        |texts: &[String]| Shown::List(texts.iter().map(|text| Shown::default_value(json!(text))).collect());
    if codings.is_none() {
        inner.show("codings", listed(&usual.codings));
    }
    if types.is_none() {
        inner.show("types", listed(&usual.types));
    }
    if let Some((_, span)) = types.as_ref().and_then(|types| types.get(TYPES_MAX)) {
        inner.d.problem(Problem::new(*span, format!("more than {TYPES_MAX} types")));
    }
    let shown = inner.close();
    f.show("compress", shown);
    Some(Compress {
        codings: codings
            .map_or(usual.codings, |some| some.into_iter().map(|(name, _)| name.to_owned()).collect()),
        types: types.map_or(usual.types, |some| some.into_iter().map(|(name, _)| name).collect()),
        len_min: min.value.0,
    })
}

/// Decodes what a route has. Without it it is the gateway's.
pub(super) fn of_route(
    f: &mut Fields<'_, '_, '_>,
    (base, shown): &(Option<Compress>, Option<Shown>),
) -> Option<Compress> {
    if f.is_written("compress") {
        return decode(f);
    }
    f.field("compress");
    if let Some(shown) = shown {
        f.show("compress", shown.clone());
    }
    base.clone()
}

fn usual() -> Compress {
    Compress {
        codings: ["br", "zstd", "gzip"].map(str::to_owned).into(),
        types: COMPRESSIBLE.map(str::to_owned).into(),
        len_min: 1 << 10,
    }
}

fn media_type(text: &str) -> Result<String, Bad> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/+-.*_".contains(&byte);
    let stars = text.matches('*').count();
    let is_at_an_end = stars == 0 || stars == 1 && (text.starts_with('*') || text.ends_with('*'));
    if text.len() > 1 && text.bytes().all(is_plain) && is_at_an_end {
        return Ok(text.to_ascii_lowercase());
    }
    Err(bad(format!("{} is no type", quote(text)), "for example `application/json`, `text/*` or `*+json`"))
}
