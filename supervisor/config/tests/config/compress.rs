//! Which responses are compressed.

use watt_core::plan::Compress;

use crate::{invalid, valid};

#[test]
fn of_the_gateway_and_of_routes() {
    let config = valid(
        r#"
services: {a: {command: x}}
gateway:
  compress: true
  routes:
  - {path: /, service: a}
  - {path: /off, service: a, compress: false}
  - {path: /own, service: a, compress: {codings: [gzip, br], types: ["Text/*", "*+XML"], min: 4K}}
"#,
    );
    let of = |index: usize| config.plan.routes[index].compress.as_ref();
    let usual = of(0).unwrap();
    assert_eq!(
        (&usual.codings[..], usual.len_min),
        (&["br", "zstd", "gzip"].map(str::to_owned)[..], 1 << 10)
    );
    assert!(usual.types.iter().any(|name| name == "application/json"), "{usual:?}");
    assert_eq!(of(1), None);
    let own = Compress {
        codings: ["gzip", "br"].map(str::to_owned).into(),
        types: ["text/*", "*+xml"].map(str::to_owned).into(),
        len_min: 4 << 10,
    };
    assert_eq!(of(2), Some(&own));
    let config =
        valid("services: {a: {command: x}}\ngateway: {routes: [{path: /, service: a, compress: true}]}");
    assert_eq!(config.plan.routes[0].compress.as_ref(), Some(usual));
}

#[test]
fn what_is_no_coding_and_no_type() {
    let report = invalid(
        r#"
services: {a: {command: x}}
gateway:
  compress: maybe
  routes:
  - {path: /, service: a, compress: {codings: [deflate], types: ["*", "te*t", "a b"], level: 3}}
  - {path: /r, redirect: /, compress: true}
"#,
    )
    .to_string();
    for expected in [
        "`maybe`",
        "`deflate`",
        "`*` is no type",
        "`te*t` is no type",
        "`a b` is no type",
        "`level`",
        "`compress` has no effect: no service sees the request",
    ] {
        assert!(report.contains(expected), "{expected}: {report}");
    }
}
