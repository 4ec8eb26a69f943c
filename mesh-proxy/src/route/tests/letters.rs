//! Paths in other letters than those that are written.

use watt_api::mesh::{Guard, RateLimit, RouteAnswer};

use super::*;

fn with_roles(roles: &[&str], route: mesh::Route) -> mesh::Route {
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    mesh::Route { guard: Guard { auth: Some("gateway".into()), roles, ..Guard::default() }, ..route }
}

fn refuses(route: mesh::Route) -> mesh::Route {
    let answer = RouteAnswer::Fixed { status: 404, body: String::new(), content_type: String::new() };
    mesh::Route { answer: Some(answer), ..route }
}

/// Every letter of the path that can be is in the other case.
fn check(rules: &[mesh::Route], cases: &[(&str, Found)]) {
    let router = router(rules);
    for (path, expected) in cases {
        assert_eq!(found(&router, "shop", path), *expected, "{path}");
    }
}

#[test]
fn no_spelling_gets_past_what_a_route_asks() {
    let rules = [rule("", "/", None), with_roles(&["admin"], rule("", "/admin", None))];
    let cases = [
        "/ADMIN",
        "/Admin/users",
        "/%41dmin",
        "/%61DMIN",
        "//ADMIN",
        "/./Admin",
        "/x/../ADMIN",
        "/ADMIN;x",
        "/ADMIN%2fusers",
        "/%61dmin",
        "//admin",
        "/./admin",
        "/admin;x",
    ];
    check(&rules, &cases.map(|path| (path, Found::Ambiguous)));
    check(&rules, &[("/admin", to("/admin")), ("/ADMINS", to("/")), ("/users/ADMIN", to("/"))]);
    // It was written with capitals, and is not.
    let capitals = [rule("", "/", None), with_roles(&["admin"], rule("", "/Admin", None))];
    check(&capitals, &[("/admin", Found::Ambiguous), ("/Admin", to("/Admin")), ("/x", to("/"))]);
}

#[test]
fn every_kind_of_path_and_of_refusal_counts() {
    let parameter = with_roles(&["admin"], exact("/users/{id}/keys"));
    check(&[rule("", "/", None), parameter], &[("/Users/7/keys", Found::Ambiguous), ("/Users/7", to("/"))]);
    let expression = with_roles(&["admin"], regex("/v[0-9]/admin.*"));
    check(&[rule("", "/", None), expression], &[("/V1/Admin/x", Found::Ambiguous), ("/V/Admin", to("/"))]);
    check(&[rule("", "/", None), refuses(rule("", "/internal", None))], &[("/INTERNAL/x", Found::Ambiguous)]);
    let limit = RateLimit { id: "x".into(), requests: 1, ..RateLimit::default() };
    let mut login = rule("", "/login", None);
    login.guard.limits = vec![limit];
    check(&[rule("", "/", None), login], &[("/Login", Found::Ambiguous)]);
    let of_host = with_roles(&["admin"], rule("shop", "/admin", None));
    check(&[rule("", "/", None), of_host.clone()], &[("/ADMIN", Found::Ambiguous)]);
    let router = router(&[rule("", "/", None), of_host]);
    assert_eq!(found(&router, "other", "/ADMIN"), to("/"));
}

#[test]
fn what_asks_for_no_more_takes_no_path_away() {
    let plain = [rule("", "/", None), rule("", "/docs", None)];
    check(&plain, &[("/DOCS", to("/"))]);
    // All ask for the same, and this one for less.
    let all = [
        with_roles(&["user"], rule("", "/", None)),
        with_roles(&["user"], rule("", "/api", None)),
        rule("", "/public", None),
    ];
    check(&all, &[("/API", to("/")), ("/PUBLIC", to("/"))]);
    // Somebody wrote both.
    let both = [rule("", "/Admin", None), with_roles(&["admin"], rule("", "/admin", None))];
    check(&both, &[("/Admin", to("/Admin")), ("/admin", to("/admin")), ("/ADMIN", Found::None)]);
    let exact = mesh::Route { case_exact: true, ..with_roles(&["admin"], rule("", "/admin", None)) };
    check(&[rule("", "/", None), exact], &[("/ADMIN", to("/")), ("/%61dmin", Found::Ambiguous)]);
}

#[test]
fn methods_count_as_they_do_for_the_same_letters() {
    let rules = [
        with_methods(&["HEAD"], rule("", "/a", None)),
        with_methods(&["GET"], with_roles(&["admin"], rule("", "/a", None))),
        with_methods(&["POST"], with_roles(&["admin"], rule("", "/b", None))),
        rule("", "/", None),
    ];
    let router = router(&rules);
    assert_eq!(asked(&router, "HEAD", "shop", "/a", ""), to("/a"));
    assert_eq!(asked(&router, "GET", "shop", "/A", ""), Found::Ambiguous);
    assert_eq!(asked(&router, "GET", "shop", "/B", ""), to("/"));
    assert_eq!(asked(&router, "POST", "shop", "/B", ""), Found::Ambiguous);
}
