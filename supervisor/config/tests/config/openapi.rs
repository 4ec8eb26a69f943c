//! Descriptions of APIs, their page, and what clients are told of a route's end.

use std::time::Duration;

use insta::assert_snapshot;
use watt_core::{
    ServiceId,
    plan::{ApiPage, DescribedBy, Description, Notice, RouteTarget},
};

use crate::{errors::with_routes, invalid, valid};

#[test]
fn where_an_api_is_described() {
    let config = valid(
        r#"
services:
  a: {command: x, openapi: /openapi.json}
  b: {command: x, listen: none, openapi: {file: docs/b.json, base: /v1/, refresh: never}}
  c: {command: x, openapi: {path: '/d?x', ignore: [/internal/*, 'DELETE /users/{id}'], rename: {Item: Product}}}
  d: {command: x}
gateway:
  routes:
    - {path: /, service: a}
    - {path: /docs, openapi: true}
    - {path: /api, openapi: My API}
    - {path: /all, openapi: {title: All, version: '7', description: words}}
"#,
    );
    let of = |name: &str| config.plan.services[&ServiceId::new(name).unwrap()].openapi.clone();
    let usual = Description {
        from: DescribedBy::Path("/openapi.json".into()),
        base: String::new(),
        refresh: Some(Duration::from_secs(10)),
        ignore: Vec::new(),
        rename: [].into(),
    };
    assert_eq!((of("a"), of("d")), (Some(usual.clone()), None));
    let from = DescribedBy::File("/srv/shop/docs/b.json".into());
    assert_eq!(of("b"), Some(Description { from, base: "/v1".into(), refresh: None, ..usual.clone() }));
    let ignore = vec![(None, "/internal/*".into()), (Some("DELETE".into()), "/users/{id}".into())];
    let rename = [("Item".into(), "Product".into())].into();
    assert_eq!(
        of("c"),
        Some(Description { from: DescribedBy::Path("/d?x".into()), ignore, rename, ..usual })
    );
    let page = |title: Option<&str>, version: &str, description: Option<&str>| {
        RouteTarget::ApiPage(ApiPage {
            title: title.map(str::to_owned),
            version: version.into(),
            description: description.map(str::to_owned),
        })
    };
    let targets: Vec<_> = config.plan.routes[1..].iter().map(|route| route.target.clone()).collect();
    let all = page(Some("All"), "7", Some("words"));
    assert_eq!(targets, [page(None, "1.0.0", None), page(Some("My API"), "1.0.0", None), all]);
    assert!(config.plan.has_api_pages());
}

#[test]
fn what_clients_are_told_of_an_end() {
    let config = valid(&with_routes(
        "  - {path: /a, service: a, deprecation: 2026-06-30, sunset: {at: '2026-12-31T12:00:00+01:00', link: /moving}}\n  - {path: /b, service: a}\n",
    ));
    let first = Notice { at: 1_782_777_600, date: "Tue, 30 Jun 2026 00:00:00 GMT".into(), link: None };
    let last = Notice {
        at: 1_798_714_800,
        date: "Thu, 31 Dec 2026 11:00:00 GMT".into(),
        link: Some("/moving".into()),
    };
    let routes = &config.plan.routes;
    assert_eq!((&routes[0].deprecation, &routes[0].sunset), (&Some(first), &Some(last)));
    assert_eq!((&routes[1].deprecation, &routes[1].sunset), (&None, &None));
}

#[test]
fn what_is_wrong_with_them() {
    assert_snapshot!(invalid(
        "services:\n  a: {command: x, openapi: {path: /a, file: b}}\n  b: {command: x, openapi: {base: x}}\n  c: {command: x, listen: none, openapi: /x}\n  \
         d: {command: x, openapi: {path: /a, ignore: [x, 'get /y'], rename: {A: 'b c'}, url: /z}}\n"
    ), @r##"
    error: `path` and `file` together
     --> watt.yaml:2:39
      |
    2 |   a: {command: x, openapi: {path: /a, file: b}}
      |                                       ^^^^
      = note: the other one is here
     --> watt.yaml:2:29
      |
    2 |   a: {command: x, openapi: {path: /a, file: b}}
      |                             ^^^^
      = hint: keep one of them

    error: `path` is missing
     --> watt.yaml:3:19
      |
    3 |   b: {command: x, openapi: {base: x}}
      |                   ^^^^^^^
      = hint: for example `path: "/openapi.json"`

    error: `x` does not start with `/`
     --> watt.yaml:3:35
      |
    3 |   b: {command: x, openapi: {base: x}}
      |                                   ^
      = hint: did you mean `/x`?

    error: nobody can ask this service: its `listen` is `none`
     --> watt.yaml:4:42
      |
    4 |   c: {command: x, listen: none, openapi: /x}
      |                                          ^^
      = hint: write `file`

    error: `x` is no path of a description
     --> watt.yaml:5:48
      |
    5 |   d: {command: x, openapi: {path: /a, ignore: [x, 'get /y'], rename: {A: 'b c'}, url: /z}}
      |                                                ^
      = hint: for example `/internal/*`, or `DELETE /users/{id}`

    error: `get` is not a method: they are written in capital letters
     --> watt.yaml:5:51
      |
    5 |   d: {command: x, openapi: {path: /a, ignore: [x, 'get /y'], rename: {A: 'b c'}, url: /z}}
      |                                                   ^^^^^^^^
      = hint: did you mean `GET`?

    error: `b c` is not the name of a component
     --> watt.yaml:5:74
      |
    5 |   d: {command: x, openapi: {path: /a, ignore: [x, 'get /y'], rename: {A: 'b c'}, url: /z}}
      |                                                                          ^^^^^
      = hint: letters of ASCII, digits, `.`, `_` and `-`

    error: unknown key `url` in `services.d.openapi`
     --> watt.yaml:5:82
      |
    5 |   d: {command: x, openapi: {path: /a, ignore: [x, 'get /y'], rename: {A: 'b c'}, url: /z}}
      |                                                                                  ^^^
      = hint: write `path`
    "##);
    assert_snapshot!(invalid(&with_routes(
        "  - {path: /a, match: exact, openapi: true}\n  - {path: /b, openapi: false}\n  - {path: /c, openapi: true, service: a}\n  \
         - {path: /d, service: a, deprecation: tomorrow, sunset: {link: x}}\n  - {path: /e, service: a, deprecation: 2027-01-02, sunset: {at: 2027-01-01, link: 'http://a/>'}}\n"
    )), @r##"
    error: `openapi` needs a path with everything below it
     --> watt.yaml:5:30
      |
    5 |   - {path: /a, match: exact, openapi: true}
      |                              ^^^^^^^
      = hint: remove `match`

    error: a route that leads nowhere
     --> watt.yaml:6:25
      |
    6 |   - {path: /b, openapi: false}
      |                         ^^^^^
      = hint: remove it, or write `openapi: true`

    error: `service` and `openapi` together
     --> watt.yaml:7:16
      |
    7 |   - {path: /c, openapi: true, service: a}
      |                ^^^^^^^
      = note: the other one is here
     --> watt.yaml:7:31
      |
    7 |   - {path: /c, openapi: true, service: a}
      |                               ^^^^^^^
      = hint: a route has one of them

    error: `tomorrow` is no date
     --> watt.yaml:8:41
      |
    8 |   - {path: /d, service: a, deprecation: tomorrow, sunset: {link: x}}
      |                                         ^^^^^^^^
      = hint: for example `2026-06-30`, or `2026-06-30T12:00:00Z`

    error: `at` is missing
     --> watt.yaml:8:51
      |
    8 |   - {path: /d, service: a, deprecation: tomorrow, sunset: {link: x}}
      |                                                   ^^^^^^
      = hint: for example `at: "2026-06-30"`

    error: `x` is neither a URL nor a path
     --> watt.yaml:8:66
      |
    8 |   - {path: /d, service: a, deprecation: tomorrow, sunset: {link: x}}
      |                                                                  ^
      = hint: for example `https://example.org/moving`

    error: the end comes before it is told that there is one
     --> watt.yaml:9:66
      |
    9 |   - {path: /e, service: a, deprecation: 2027-01-02, sunset: {at: 2027-01-01, link: 'http://a/>'}}
      |                                                                  ^^^^^^^^^^
      = hint: `sunset` is not earlier than `deprecation` (RFC 9745 §4)

    error: `http://a/>` is neither a URL nor a path
     --> watt.yaml:9:84
      |
    9 |   - {path: /e, service: a, deprecation: 2027-01-02, sunset: {at: 2027-01-01, link: 'http://a/>'}}
      |                                                                                    ^^^^^^^^^^^^
      = hint: for example `https://example.org/moving`
    "##);
}
