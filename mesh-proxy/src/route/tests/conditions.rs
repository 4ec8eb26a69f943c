//! What routes ask for besides host and path.

use super::*;

#[test]
fn who_asks_for_more_is_asked_first() {
    use RequestPart::{Cookie, Header, Query};
    let named = |service: &str, conditions: Vec<RouteCondition>| mesh::Route {
        service: service.to_owned(),
        conditions,
        ..rule("", "/", None)
    };
    let is = |text: &str| ValueTest::Is(text.to_owned());
    let router = router(&[
        named("plain", vec![]),
        named("two", vec![condition(Header, "X-Version", is("2"))]),
        named(
            "beta",
            vec![condition(Cookie, "beta", is("yes")), condition(Header, "x-version", ValueTest::Absent)],
        ),
        named("debug", vec![condition(Query, "a b", ValueTest::Regex("[0-9]+".into()))]),
        named("any", vec![condition(Header, "x-version", ValueTest::Present)]),
    ]);
    for (target, fields, service) in [
        ("/", "", "plain"),
        ("/", "x-version: 2\r\n", "two"),
        ("/", "x-version: 1\r\nX-VERSION: 2\r\n", "two"),
        ("/", "x-version: 3\r\n", "any"),
        ("/", "Cookie: a=b; beta=yes\r\n", "beta"),
        ("/", "Cookie: a=b\r\nCookie: beta=yes\r\n", "beta"),
        ("/", "Cookie: a=b; beta=yes; c\r\nx-version: 9\r\n", "any"),
        ("/", "Cookie: abeta=yes\r\n", "plain"),
        ("/?x&a+b=12", "", "debug"),
        ("/?%61%20b=%31", "", "debug"),
        ("/?a+b=1x", "", "plain"),
        ("/?x=a%20b=1", "", "plain"),
    ] {
        assert_eq!(asked(&router, "GET", "h", target, fields), to(service), "{target} {fields}");
    }
}

#[test]
fn what_is_asked_for_is_what_the_service_gets() {
    use RequestPart::{Cookie, Header};
    let is = |text: &str| ValueTest::Is(text.to_owned());
    let with = |service: &str, conditions| mesh::Route {
        service: service.to_owned(),
        conditions,
        ..rule("", "/", None)
    };
    let router = router(&[
        with("plain", vec![]),
        with("key", vec![condition(Header, "x-key", is("1"))]),
        with("session", vec![condition(Cookie, "session", is("x"))]),
    ]);
    for (fields, service) in [
        ("X-Key: 1\r\n", "key"),
        ("Connection: x-key\r\nX-Key: 1\r\n", "plain"),
        ("Connection: x-key\r\nX-Key: 1\r\nCookie: session=x\r\n", "session"),
        ("Cookie: session =x\r\n", "session"),
        ("Cookie: a=b;session= x ; c=d\r\n", "session"),
        ("Cookie: session=\"x\"\r\n", "session"),
        ("Cookie: session=\"x\r\n", "plain"),
    ] {
        assert_eq!(asked(&router, "GET", "h", "/", fields), to(service), "{fields}");
    }
}

#[test]
fn a_listed_head_goes_before_that_of_get() {
    let of = |service: &str, methods: &[&str], route: mesh::Route| mesh::Route {
        service: service.to_owned(),
        ..with_methods(methods, route)
    };
    let version = || condition(RequestPart::Header, "x", ValueTest::Present);
    let with_version = |route: mesh::Route| mesh::Route { conditions: vec![version()], ..route };
    let router = router(&[
        of("get", &["GET"], rule("", "/", None)),
        of("head", &["HEAD"], rule("", "/", None)),
        of("longer", &["GET"], rule("", "/a", None)),
        of("wider", &["HEAD"], rule("*.org", "/b", None)),
        of("host", &["GET"], rule("h.org", "/b", None)),
        of("conditional", &["GET"], with_version(rule("", "/", None))),
        of("every", &[], with_version(rule("", "/c", None))),
        of("get c", &["GET"], rule("", "/c", None)),
        of("head c", &["POST", "HEAD"], rule("", "/c", None)),
    ]);
    for (method, host, path, fields, service) in [
        ("GET", "h", "/", "", "get"),
        ("HEAD", "h", "/", "", "head"),
        ("HEAD", "h", "/a/x", "", "longer"),
        ("HEAD", "h.org", "/b", "", "host"),
        ("HEAD", "i.org", "/b", "", "wider"),
        ("HEAD", "h", "/", "x: 1\r\n", "conditional"),
        ("HEAD", "h", "/c", "x: 1\r\n", "every"),
        ("HEAD", "h", "/c", "", "head c"),
        ("GET", "h", "/c", "", "get c"),
    ] {
        assert_eq!(asked(&router, method, host, path, fields), to(service), "{method} {host}{path} {fields}");
    }
}

#[test]
fn cookies_and_the_query_are_read_once_and_only_when_asked_for() {
    use RequestPart::{Cookie, Query};
    let with = |part, name: &str| mesh::Route {
        conditions: vec![condition(part, name, ValueTest::Present)],
        ..rule("", "/a", None)
    };
    let router = router(&[rule("", "/", None), with(Cookie, "x"), with(Query, "y"), with(Query, "z")]);
    let read = |path: &str| {
        asking("GET", "h", &format!("{path}?a=%62&c"), "Cookie: a=b; c=d\r\n", |asked| {
            assert!(router.find(asked).is_ok());
            asked.parsed.counts()
        })
    };
    assert_eq!(read("/b"), (None, None));
    assert_eq!(read("/a"), (Some(2), Some(2)));
}
