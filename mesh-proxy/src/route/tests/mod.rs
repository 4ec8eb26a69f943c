//! Which route takes a request.

mod conditions;
mod letters;
mod paths;

use proptest::prelude::*;
use watt_api::mesh::{PathMatch, RequestPart, RouteCondition, ValueTest};

use super::*;

/// A rule whose service is called like its host and path.
fn rule(host: &str, path: &str, rewrite: Option<&str>) -> mesh::Route {
    mesh::Route {
        path: path.to_owned(),
        host: (!host.is_empty()).then(|| host.to_owned()),
        service: format!("{host}{path}"),
        rewrite: rewrite.map(str::to_owned),
        ..mesh::Route::default()
    }
}

fn of_kind(matching: PathMatch, path: &str) -> mesh::Route {
    mesh::Route { matching, ..rule("", path, None) }
}

fn exact(path: &str) -> mesh::Route {
    of_kind(PathMatch::Exact, path)
}

fn regex(path: &str) -> mesh::Route {
    of_kind(PathMatch::Regex, path)
}

fn with_methods(methods: &[&str], route: mesh::Route) -> mesh::Route {
    mesh::Route { methods: methods.iter().map(|method| (*method).to_owned()).collect(), ..route }
}

fn condition(part: RequestPart, name: &str, test: ValueTest) -> RouteCondition {
    RouteCondition { part, name: name.to_owned(), test }
}

fn router(rules: &[mesh::Route]) -> Router {
    Router::default().renewed(rules, &HashMap::new(), |_| None, |_| None)
}

fn prefixes(rules: &[(&str, &str, Option<&str>)]) -> Router {
    router(&rules.iter().map(|(host, path, rewrite)| rule(host, path, *rewrite)).collect::<Vec<_>>())
}

fn asking<T>(method: &str, host: &str, target: &str, fields: &str, then: impl FnOnce(&Asked<'_>) -> T) -> T {
    let head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    crate::http::with_request(head.as_bytes(), |request| then(&crate::http::asked(request))).unwrap()
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Service(String),
    Ambiguous,
    TooLong,
    Allow(String),
    None,
}

fn to(service: &str) -> Found {
    Found::Service(service.to_owned())
}

fn asked(router: &Router, method: &str, host: &str, target: &str, fields: &str) -> Found {
    asking(method, host, target, fields, |asked| match router.find(asked) {
        Ok(route) => Found::Service(route.service.to_string()),
        Err(Unrouted::Ambiguous(_)) => Found::Ambiguous,
        Err(Unrouted::Method { allow }) => Found::Allow(allow.into()),
        Err(Unrouted::TooLong) => Found::TooLong,
        Err(Unrouted::NoRoute) => Found::None,
    })
}

fn found(router: &Router, host: &str, path: &str) -> Found {
    asked(router, "GET", host, path, "")
}

#[test]
fn the_longest_prefix_of_whole_segments_wins() {
    let router = prefixes(&[("", "/", None), ("", "/api", None), ("", "/api/v2/", None)]);
    for (path, service) in [
        ("/", "/"),
        ("/x", "/"),
        ("/apix", "/"),
        ("/api", "/api"),
        ("/api/", "/api"),
        ("/api/v20", "/api"),
        ("/api/v2", "/api/v2/"),
        ("/api/v2/users", "/api/v2/"),
    ] {
        assert_eq!(found(&router, "any", path), to(service), "{path}");
    }
}

#[test]
fn an_exact_host_goes_before_a_wildcard_before_none() {
    let router = prefixes(&[
        ("", "/", None),
        ("*.example.org", "/", None),
        ("*.eu.example.org", "/", None),
        ("www.example.org", "/shop", None),
    ]);
    let deep = format!("{}eu.example.org", "a.".repeat(10_000));
    for (host, path, service) in [
        ("www.example.org", "/shop/1", "www.example.org/shop"),
        ("WWW.Example.ORG:8080", "/shop", "www.example.org/shop"),
        ("www.example.org.", "/shop", "www.example.org/shop"),
        ("www.example.org", "/other", "*.example.org/"),
        ("a.eu.example.org", "/", "*.eu.example.org/"),
        (&deep, "/", "*.eu.example.org/"),
        ("eu.example.org", "/", "*.example.org/"),
        ("example.org", "/", "/"),
        ("notexample.org", "/", "/"),
        ("[::1]:80", "/", "/"),
    ] {
        assert_eq!(found(&router, host, path), to(service), "{host}{path}");
    }
}

#[test]
fn text_goes_before_a_parameter_before_the_rest() {
    let router = router(&[
        rule("", "/users/{id}", None),
        rule("", "/users/me", None),
        rule("", "/users/{id}/posts", None),
        exact("/users/{id}"),
        exact("/users/"),
        regex("/users/[0-9]+"),
        regex("/users/(?<id>[0-9]+)/p.*"),
        rule("", "/users", None),
    ]);
    for (path, service) in [
        ("/users", "/users"),
        ("/users/", "/users/"),
        ("/users/me", "/users/me"),
        ("/users/me/posts", "/users/me"),
        ("/users/x/posts/1", "/users/{id}/posts"),
        ("/users/x/other", "/users/{id}"),
        // The expression says `/users` alone before what is its own.
        ("/users/7/pictures", "/users/{id}"),
    ] {
        assert_eq!(found(&router, "h", path), to(service), "{path}");
    }
}

#[test]
fn of_two_expressions_the_first_one_of_the_file_wins() {
    let rules = [rule("", "/api", None), regex("/api/v[0-9]"), regex("/api/v.?"), rule("", "/api/v1", None)];
    let router = router(&rules);
    assert_eq!(found(&router, "h", "/api/v1"), to("/api/v1"));
    assert_eq!(found(&router, "h", "/api/v2"), to("/api/v[0-9]"));
    assert_eq!(found(&router, "h", "/api/vx"), to("/api/v.?"));
    assert_eq!(found(&router, "h", "/api/v22"), to("/api"));
}

#[test]
fn an_exact_path_is_nothing_else() {
    let router = router(&[exact("/"), exact("/health"), exact("/dir/")]);
    for (path, expected) in [
        ("/", to("/")),
        ("/?x=1", to("/")),
        ("/health", to("/health")),
        ("/dir/", to("/dir/")),
        ("/health/", Found::None),
        ("/healthy", Found::None),
        ("/dir", Found::None),
        ("/dir/x", Found::None),
    ] {
        assert_eq!(found(&router, "h", path), expected, "{path}");
    }
}

#[test]
fn a_method_that_no_route_takes_is_told_those_that_are() {
    let router = router(&[
        with_methods(&["GET"], rule("", "/api", None)),
        with_methods(&["POST", "PUT"], rule("", "/api/items", None)),
        with_methods(&["DELETE"], rule("h", "/api", None)),
        with_methods(&["GET", "OPTIONS"], exact("/")),
    ]);
    let of = |method, target| asked(&router, method, "h", target, "");
    assert_eq!(of("GET", "/api/items"), to("/api"), "the next wider one takes it");
    assert_eq!(of("HEAD", "/api/items"), to("/api"), "GET takes HEAD");
    assert_eq!(of("POST", "/api/items"), to("/api/items"));
    assert_eq!(of("DELETE", "/api/items"), to("h/api"));
    assert_eq!(of("PATCH", "/api/items"), Found::Allow("DELETE, POST, PUT, GET, HEAD".into()));
    assert_eq!(of("PATCH", "/other"), Found::None);
    assert_eq!(of("OPTIONS", "*"), to("/"));
}

#[test]
fn no_spelling_dodges_a_route() {
    let router = prefixes(&[("", "/", None), ("", "/api", Some("")), ("", "/admin", None)]);
    for path in [
        "/api/../admin",
        "/api/..%2fadmin",
        "/api/%2e%2e/admin",
        "/api/.%2E/admin",
        "/api/..;a=b/admin",
        "/api\\..\\admin",
        "/api/%5c../../admin",
        "//admin",
        "/./admin",
        "/%61dmin",
        "/x/..//admin",
        "/api%2fx",
        "/admin/../x",
        "/admin;x",
        "/admin;x/y",
        "/api;a=b",
    ] {
        assert_eq!(found(&router, "h", path), Found::Ambiguous, "{path}");
    }
    for (path, service) in [
        ("/api/a%20b", "/api"),
        ("/api/a%2fb", "/api"),
        ("/api//x", "/api"),
        ("/api/x/../y", "/api"),
        ("/api/.hidden", "/api"),
        ("/100%", "/"),
        ("/x;y/z", "/"),
    ] {
        assert_eq!(found(&router, "h", path), to(service), "{path}");
    }
}

#[test]
fn no_spelling_dodges_a_route_of_another_kind() {
    let router = router(&[
        rule("", "/", None),
        exact("/secret"),
        rule("", "/users/{id}", None),
        rule("", "/users/{id}/admin", None),
        regex("/v[0-9]+/private"),
        exact("/files/{name}"),
        with_methods(&["POST"], rule("", "/hook", None)),
    ]);
    for path in [
        "/x/../secret",
        "/%73ecret",
        "//secret",
        "/secret;x",
        "/users/7%2fadmin",
        "/users/x/..%2f7/admin",
        "/users//admin",
        "/users/7/;a/admin",
        "/v1/p%72ivate",
        "/v1//private",
        "/v1/x/../private",
        "/files/a%2fb",
        "/files/a/../b",
    ] {
        assert_eq!(found(&router, "h", path), Found::Ambiguous, "{path}");
    }
    assert_eq!(found(&router, "h", "/users/a%20b"), to("/users/{id}"));
    assert_eq!(found(&router, "h", "/files/a%20b"), to("/files/{name}"));
    // For this method both readings are of one route; for the other one they are not.
    assert_eq!(found(&router, "h", "/x/../hook"), to("/"));
    assert_eq!(asked(&router, "POST", "h", "/x/../hook", ""), Found::Ambiguous);
}

#[test]
fn rules_that_did_not_change_are_kept() {
    let rules = [regex("/x/.*"), rule("", "/", None)];
    let first = router(&rules);
    assert!(Rc::ptr_eq(&first.rules, &first.renewed(&rules, &HashMap::new(), |_| None, |_| None).rules));
    assert!(!Rc::ptr_eq(
        &first.rules,
        &first.renewed(&rules[..1], &HashMap::new(), |_| None, |_| None).rules
    ));
}

#[test]
fn a_route_that_is_not_understood_is_left_out() {
    let router = router(&[regex("/(x"), rule("", "/", None)]);
    assert_eq!(found(&router, "h", "/(x"), to("/"));
}

#[test]
fn readers_that_keep_escaped_slashes_and_resolve_dots_are_readers_too() {
    let router = router(&[
        rule("", "/", None),
        rule("", "/static", Some("/app/static")),
        rule("", "/api", None),
        rule("", "/admin", None),
    ]);
    for path in [
        "/static/x%2fy/../../secret",
        "/static/x%5Cy/../../secret",
        "/static/x\\y/../../secret",
        "/api/x%2Fy/../../admin",
        "/api/x\\y/../../admin",
        "/api/x%2fy/%2e%2e/%2e%2e/admin",
    ] {
        assert_eq!(found(&router, "h", path), Found::Ambiguous, "{path}");
    }
    assert_eq!(found(&router, "h", "/api/x%2fy/../z"), to("/api"));
    assert_eq!(found(&router, "h", "/static/a%2fb"), to("/static"));
}

#[test]
fn a_slash_at_the_end_is_not_lost_on_the_way() {
    let router = router(&[rule("", "/", None), exact("/dir/"), regex("/admin/.*"), exact("/u/{id}/")]);
    for path in ["/dir/.", "/dir/x/..", "//dir/", "/dir//", "/dir/%2e", "//admin/", "/admin/x/..", "/dir/;a"]
    {
        assert_eq!(found(&router, "h", path), Found::Ambiguous, "{path}");
    }
    assert_eq!(found(&router, "h", "/u/a%20b/"), to("/u/{id}/"));
    assert_eq!(found(&router, "h", "/dir/"), to("/dir/"));
}

#[test]
fn an_expression_that_takes_the_decoded_path_as_well_has_it() {
    let router = router(&[
        regex("/u/[A-Za-z0-9%]+"),
        regex("/n/[^/]+"),
        regex(r"/caf(%C3%A9|\xC3\xA9)"),
        regex("/a(;.*)?"),
    ]);
    assert_eq!(found(&router, "h", "/u/J%C3%BCrgen"), Found::Ambiguous);
    for (path, service) in
        [("/n/J%C3%BCrgen", "/n/[^/]+"), ("/caf%C3%A9", r"/caf(%C3%A9|\xC3\xA9)"), ("/a;b", "/a(;.*)?")]
    {
        assert_eq!(found(&router, "h", path), to(service), "{path}");
    }
}

/// A path, or a rule's path, of few letters, so that they meet.
fn path(segment: &'static str) -> impl Strategy<Value = String> {
    proptest::collection::vec(segment, 0..4).prop_map(|segments| format!("/{}", segments.join("/")))
}

fn any_rule() -> impl Strategy<Value = mesh::Route> {
    let hosts = prop_oneof![Just(None), Just(Some("a.b.c")), Just(Some("*.b.c")), Just(Some("*.c"))];
    let paths = prop_oneof![
        path("a|b|\\{x\\}").prop_map(|path| (PathMatch::Prefix, path)),
        path("a|b|\\{x\\}").prop_map(|path| (PathMatch::Exact, path)),
        path("a|b|\\[ab\\]|\\.\\*").prop_map(|path| (PathMatch::Regex, path)),
    ];
    let methods = prop_oneof![Just(vec![]), Just(vec!["GET".to_owned()]), Just(vec!["POST".to_owned()])];
    let conditions = proptest::collection::vec(
        prop_oneof![
            Just(condition(RequestPart::Header, "x", ValueTest::Is("1".into()))),
            Just(condition(RequestPart::Query, "q", ValueTest::Present)),
        ],
        0..2,
    );
    (hosts, paths, methods, conditions).prop_map(|(host, (matching, path), methods, conditions)| {
        mesh::Route {
            path,
            matching,
            host: host.map(str::to_owned),
            methods,
            conditions,
            ..mesh::Route::default()
        }
    })
}

proptest! {
    /// What the tree finds is what looking at every rule finds, by the order that is written in the docs.
    #[test]
    fn the_tree_finds_the_first_of_those_that_take_a_request(
        rules in proptest::collection::vec(any_rule(), 1..12),
        path in path("a|b|c|"),
        host in prop_oneof![Just("a.b.c"), Just("x.b.c"), Just("x.c"), Just("c")],
        get in any::<bool>(),
        fields in prop_oneof![Just(""), Just("x: 1\r\n")],
        query in prop_oneof![Just(""), Just("?q")],
    ) {
        let rules = Rules::new(&rules);
        let method = if get { "GET" } else { "POST" };
        asking(method, host, &format!("{path}{query}"), fields, |asked| {
            let takes = |rule: &&Rule| {
                rule.pattern.takes(asked.path)
                    && rule.conditions.hold(asked)
                    && explain::takes_host(&rules.source[rule.number], asked)
            };
            let first = rules.all.iter().filter(takes).min_by(|one, other| explain::compare(&rules, one, other));
            let found = rules.find(host.as_bytes(), asked.path, asked);
            prop_assert_eq!(
                found.map(|rule| rules.all[rule as usize].number),
                first.map(|rule| rule.number)
            );
            Ok(())
        })?;
    }

    /// Whatever a path is spelt like, no reading of what goes on belongs to another route.
    #[test]
    fn no_reading_of_a_path_that_is_routed_is_another_routes(
        rules in proptest::collection::vec(any_rule(), 1..8),
        path in proptest::collection::vec(prop_oneof![
            Just("/"), Just("a"), Just("b"), Just("."), Just(".."), Just("%2f"), Just("%2e"), Just(";"), Just("\\"), Just("%61"),
        ], 0..10),
    ) {
        let rules = Rules::new(&rules);
        asking("GET", "c", &format!("/{}", path.concat()), "", |asked| {
            if let Ok(rule) = rules.decide(asked) {
                for reading in readings(asked.path) {
                    prop_assert_eq!(rules.find(b"c", &reading.path, asked), Some(rule));
                }
            }
            Ok(())
        })?;
    }
}
