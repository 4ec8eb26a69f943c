//! What routes make of paths.

use super::*;

#[test]
fn no_spelling_leaves_a_rewritten_prefix() {
    for (prefix, rewrite) in
        [("/static", "/app/static"), ("/", "/app/static"), ("/a/b", ""), ("/{x}/b", "/{x}")]
    {
        let router = prefixes(&[("", prefix, Some(rewrite))]);
        let prefix = prefix.trim_end_matches('/').replace("{x}", "a");
        for rest in [
            "/../x",
            "/%2e%2e/x",
            "/..;/x",
            "/.%2e;a=b/x",
            "/..%2f..%2fx",
            "/..\\x",
            "/x/../../y",
            "//../../x",
            "/.././static/x",
            "/..",
        ] {
            assert_eq!(found(&router, "h", &format!("{prefix}{rest}")), Found::Ambiguous, "{prefix}{rest}");
        }
        for rest in ["/x/../y", "/x/..;/y", "/x/%2e%2e", "/...", "/x;y"] {
            assert_ne!(found(&router, "h", &format!("{prefix}{rest}")), Found::Ambiguous, "{prefix}{rest}");
        }
    }
}

#[test]
fn who_keeps_an_encoded_slash_or_a_backslash_has_fewer_segments_to_leave() {
    let router = prefixes(&[("", "/api", None), ("", "/static", Some("/app/static")), ("", "/", None)]);
    for path in [
        "/static/x%2fy/../../secret",
        "/static/x%5cy/../../secret",
        "/static/x\\y/../../secret",
        "/static/x%2Fy%2Fz/%2e%2e/..;/secret",
        "/static/x%2fy\\..\\..\\secret",
        "/static/x\\y%2f..%2f..%2f..%2fsecret",
        "/api/x%2fy/../../admin",
        "/api/x\\y/../../admin",
    ] {
        assert_eq!(found(&router, "h", path), Found::Ambiguous, "{path}");
    }
    for path in ["/static/x%2fy/../z", "/api/a%2fb", "/api/a\\b/../c"] {
        assert_ne!(found(&router, "h", path), Found::Ambiguous, "{path}");
    }
}

/// Removes dot segments exactly as RFC 3986 §5.2.4 says.
fn without_dots(path: &str) -> String {
    let (mut input, mut output) = (path.to_owned(), String::new());
    while !input.is_empty() {
        if input.starts_with("/./") {
            input.replace_range(..2, "");
        } else if input == "/." {
            input = "/".to_owned();
        } else if input.starts_with("/../") || input == "/.." {
            input = if input == "/.." { "/".to_owned() } else { input[3..].to_owned() };
            output.truncate(output.rfind('/').unwrap_or(0));
        } else {
            let end = input[1..].find('/').map_or(input.len(), |at| at + 1);
            output += &input[..end];
            input.replace_range(..end, "");
        }
    }
    output
}

/// A path as readers see it who share no code with the guard: the RFC's own words, before and after escapes are decoded, of slashes
/// merged or not, and of backslashes.
fn read(path: &str) -> Vec<String> {
    let dots = path.replace("%2e", ".").replace("%61", "a");
    let slashes = dots.replace("%2f", "/").replace("%5c", "\\");
    let both = [dots.replace('\\', "/"), slashes.replace('\\', "/")];
    let merge = |mut path: String| {
        while path.contains("//") {
            path = path.replace("//", "/");
        }
        path
    };
    let ways = [dots, slashes].into_iter().chain(both);
    ways.flat_map(|path| [without_dots(&path), merge(without_dots(&path)), without_dots(&merge(path))])
        .collect()
}

proptest! {
    #[test]
    fn no_reader_of_a_path_that_is_routed_gets_elsewhere(
        prefix in prop_oneof![Just("/a"), Just("/a/b"), Just("/")],
        rewritten in any::<bool>(),
        path in proptest::collection::vec(prop_oneof![
            4 => Just("/"), 2 => Just("a"), 1 => Just("b"), 1 => Just("."), 3 => Just(".."),
            1 => Just("%2f"), 1 => Just("%2e"), 1 => Just("%5c"), 1 => Just("\\"), 1 => Just("%61"),
        ], 0..12),
    ) {
        let router = prefixes(&[("", prefix, rewritten.then_some("/x/y")), ("", "/a/b/c", None), ("", "/b", None)]);
        let path = format!("/{}", path.concat());
        let expected = found(&router, "c", &path);
        if expected == Found::Ambiguous {
            return Ok(());
        }
        for read in read(&path) {
            // What is left encoded, or is no slash to this reader, is another reader's matter.
            if !read.contains('%') && !read.contains('\\') {
                prop_assert_eq!(found(&router, "c", &read), expected.clone(), "{} of {}", read, &path);
            }
        }
        let inward = asking("GET", "c", &path, "", |asked| {
            let mut out = Vec::new();
            router.find(asked).ok()?.change(asked.path)?.write_inward(path.as_bytes(), &mut out);
            Some(String::from_utf8(out).unwrap())
        });
        for read in inward.iter().flat_map(|path| read(path)) {
            prop_assert!(format!("{read}/").starts_with("/x/y/"), "{} of {}", read, &path);
        }
    }
}

#[test]
fn nothing_but_a_segment_stands_for_a_parameter_in_a_rewrite() {
    let router = router(&[
        mesh::Route { rewrite: Some("/{id}/profile".into()), ..rule("", "/u/{id}", None) },
        mesh::Route { rewrite: Some("/one/{id}".into()), ..exact("/e/{id}") },
        mesh::Route { rewrite: Some("/f/{rest}".into()), ..regex("/r/(?<rest>.*)") },
    ]);
    for path in [
        "/u/..",
        "/u/%2e%2e",
        "/u/..;a",
        "/u/a%2f..",
        "/u/a%2fb",
        "/u/a%5cb",
        "/u/.",
        "/e/a%2fb",
        "/e/..",
        "/e/%2E%2E",
        "/r/x/..",
        "/r/x/../y",
        "/r/%2e%2e/x",
        "/r/x%2fy",
        "/r/x%5cy",
    ] {
        assert_eq!(found(&router, "h", path), Found::Ambiguous, "{path}");
    }
    for path in ["/u/a%20b", "/u/a;b", "/e/x%3f", "/r/a//b", "/r/x/y"] {
        assert!(matches!(found(&router, "h", path), Found::Service(_)), "{path}");
    }
}

#[track_caller]
fn inward(route: mesh::Route, target: &str) -> String {
    let router = router(&[route]);
    asking("GET", "h", target, "", |asked| {
        let route = router.find(asked).unwrap();
        let mut out = Vec::new();
        match route.change(asked.path) {
            Some(change) => change.write_inward(target.as_bytes(), &mut out),
            None => out.extend_from_slice(target.as_bytes()),
        }
        String::from_utf8(out).unwrap()
    })
}

#[test]
fn prefixes_are_left_stripped_or_replaced() {
    let inward = |path: &str, rewrite: Option<&str>, target: &str| inward(rule("", path, rewrite), target);
    assert_eq!(inward("/api", None, "/api/x?q=/api"), "/api/x?q=/api");
    assert_eq!(inward("/api", Some(""), "/api/x?q=1"), "/x?q=1");
    assert_eq!(inward("/api", Some(""), "/api"), "/");
    assert_eq!(inward("/api", Some(""), "/api?q"), "/?q");
    assert_eq!(inward("/api", Some(""), "/api//evil.example/x"), "/evil.example/x");
    assert_eq!(inward("/api", Some("/v1"), "/api/x"), "/v1/x");
    assert_eq!(inward("/api", Some("/v1/"), "/api"), "/v1");
    assert_eq!(inward("/api", Some("/v1"), "/api?q"), "/v1?q");
    assert_eq!(inward("/", Some("/v1"), "/x"), "/v1/x");
    assert_eq!(inward("/t/{tenant}", Some(""), "/t/acme/x?q"), "/x?q");
    assert_eq!(inward("/t/{tenant}/a", Some("/{tenant}"), "/t/acme/a/x?q"), "/acme/x?q");
}

#[test]
fn whole_paths_are_replaced_with_what_stands_for_parameters() {
    let with = |rewrite: &str, route: mesh::Route| mesh::Route { rewrite: Some(rewrite.into()), ..route };
    assert_eq!(inward(with("/h/", exact("/health")), "/health?x"), "/h/?x");
    assert_eq!(inward(with("", exact("/health")), "/health?x"), "/?x");
    assert_eq!(inward(with("/user/{id}", exact("/u/{id}")), "/u/a%20b?x"), "/user/a%20b?x");
    let expression = regex("/v(?<version>[0-9]+)/(?<rest>.*)");
    assert_eq!(inward(with("/{rest}/of/{version}", expression.clone()), "/v2/a/b?x"), "/a/b/of/2?x");
    assert_eq!(inward(with("/{rest}", expression), "/v2//evil.example/x"), "/evil.example/x");
}

#[test]
fn locations_and_cookies_come_back_as_clients_see_them() {
    let change = |path: &str, rewrite: &str, asked: &str| {
        let router = prefixes(&[("", path, Some(rewrite))]);
        asking("GET", "h:80", asked, "", |asked| {
            router.find(asked).unwrap().change(asked.path).unwrap().outward(b"h:80")
        })
    };
    let (api, new) = (change("/api", "", "/api"), change("/new", "/old", "/new/x"));
    let tenant = change("/t/{tenant}", "/{tenant}", "/t/acme/x");
    let root = change("/", "/app", "/x");
    let location = |outward: &Outward, value: &str| {
        outward.location(value.as_bytes()).map(|value| String::from_utf8(value).unwrap())
    };
    assert_eq!(location(&api, "/login?next=/x").as_deref(), Some("/api/login?next=/x"));
    assert_eq!(location(&api, "/").as_deref(), Some("/api/"));
    assert_eq!(location(&api, "/api/login"), None, "the service knows the prefix");
    assert_eq!(location(&api, "login"), None);
    assert_eq!(location(&api, "//other/x"), None);
    for away in ["/app//other/x", "/app/\\other/x", "/app/\t/other"] {
        assert_eq!(location(&root, away), None, "it would be another host to browsers");
    }
    assert_eq!(location(&root, "/app/x").as_deref(), Some("/x"));
    assert_eq!(location(&api, "http://H:80/login").as_deref(), Some("http://H:80/api/login"));
    assert_eq!(location(&api, "http://other/login"), None);
    assert_eq!(location(&new, "/old/x").as_deref(), Some("/new/x"));
    assert_eq!(location(&new, "/older"), None);
    assert_eq!(location(&tenant, "/acme/login").as_deref(), Some("/t/acme/login"));
    assert_eq!(location(&tenant, "/other/login"), None);

    let cookie = |outward: &Outward, value: &str| {
        outward.cookie(value.as_bytes()).map(|value| String::from_utf8(value).unwrap())
    };
    assert_eq!(cookie(&api, "a=b; Path=/; HttpOnly").as_deref(), Some("a=b; Path=/api; HttpOnly"));
    assert_eq!(cookie(&api, "a=b;path=/x").as_deref(), Some("a=b; Path=/api/x"));
    assert_eq!(cookie(&api, "Path=/; Secure"), None, "a cookie may be called Path");
    assert_eq!(cookie(&api, "a=b"), None);
    assert_eq!(cookie(&new, "a=b; Path=/old").as_deref(), Some("a=b; Path=/new"));
    assert_eq!(cookie(&new, "a=b; Path=/"), None);
}

#[test]
fn no_expression_is_asked_about_a_path_of_any_length() {
    let router = router(&[regex("/admin/.*"), regex("/x|/y"), rule("", "/", None), rule("", "/api", None)]);
    let long = |path: &str| format!("{path}/{}", "a".repeat(8 << 10));
    for path in ["/admin", "/other"] {
        assert_eq!(
            found(&router, "h", &long(path)),
            Found::TooLong,
            "{path}: it might be that of an expression"
        );
    }
    assert_eq!(found(&router, "h", &long("/api")), to("/api"), "which goes before any expression");
    assert_eq!(found(&router, "h", "/other"), to("/"));
}
