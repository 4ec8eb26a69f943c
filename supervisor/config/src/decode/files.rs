//! Files that a route leads to.

use std::path::{Component, Path};

use serde_json::json;
use watt_core::plan::{Files, PathMatch, RouteTarget};

use super::{
    actions::header_value,
    fields::{Fields, Written},
    route::bad,
};
use crate::{
    keys::FILES,
    report::Problem,
    scalar::{Bad, FileName, quote},
};

/// `static` of a route.
pub(super) fn decode(f: &mut Fields<'_, '_, '_>, matching: PathMatch) -> Option<RouteTarget> {
    let field = f.field("static")?;
    let mut inner = Fields::open(f.d, &FILES, Some(field), Some("root"));
    let root = match inner.is_written("root") {
        true => inner.path("root"),
        false => {
            inner.field("root");
            inner.missing("root");
            None
        }
    };
    let index: Written<FileName> = inner.value("index");
    let spa = inner.parsed("spa", relative, |text| json!(text));
    let cache_control = inner.parsed("cache_control", header_value, |text| json!(text));
    let precompressed: Written<bool> = inner.value("precompressed");
    let hidden: Written<bool> = inner.value("hidden");
    let shown = inner.close();
    f.show("static", shown);
    if matching != PathMatch::Prefix {
        let problem = Problem::new(field.key_span, "`static` needs a path with everything below it");
        f.d.problem(problem.hint("remove `match`"));
    }
    Some(RouteTarget::Files(Files {
        root: root?.value,
        index: index.value.0,
        spa: spa.map(|spa| spa.value),
        cache_control: cache_control.map(|written| written.value).unwrap_or_default(),
        precompressed: precompressed.value,
        hidden: hidden.value,
    }))
}

/// The path of a file below a folder.
fn relative(text: &str) -> Result<String, Bad> {
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
    if text.is_empty() || !Path::new(text).components().all(is_plain) {
        return Err(bad(
            format!("{} is no path of a file below `root`", quote(text)),
            "for example `index.html`",
        ));
    }
    Ok(text.to_owned())
}
