//! Which service a request of the gateway goes to, and what it sees of the path.

use watt_api::mesh::{PathMatch, RequestPart, Route, RouteCondition, ValueTest};

use crate::bed::*;

/// Two services with a worker each: `api` answers "a", `next` answers "n".
fn two_services(routes: Vec<Route>) -> Bed {
    let bed = Bed::new();
    bed.change(|snapshot| {
        snapshot.services.insert("next".into(), service());
        snapshot.routes = routes;
    });
    bed.worker("api", 1).answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
    bed.worker("next", 2).answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nn");
    bed
}

fn condition(part: RequestPart, name: &str, value: &str) -> Vec<RouteCondition> {
    vec![RouteCondition { part, name: name.into(), test: ValueTest::Is(value.into()) }]
}

#[test]
fn a_request_goes_where_its_method_headers_cookies_and_query_lead() {
    local(async {
        let next = || route("/", "next", None);
        let bed = two_services(vec![
            route("/", "api", None),
            Route { conditions: condition(RequestPart::Header, "x-version", "2"), ..next() },
            Route { conditions: condition(RequestPart::Cookie, "beta", "yes"), ..next() },
            Route { conditions: condition(RequestPart::Query, "beta", "yes"), ..next() },
            Route { methods: vec!["PROPFIND".into()], ..next() },
        ]);
        let mut client = bed.client();
        for (request, expected) in [
            ("GET / HTTP/1.1\r\nHost: shop\r\n\r\n", "a"),
            ("GET / HTTP/1.1\r\nX-VERSION: 2\r\nHost: shop\r\n\r\n", "n"),
            ("GET / HTTP/1.1\r\nHost: shop\r\nX-Version: 3\r\n\r\n", "a"),
            ("GET / HTTP/1.1\r\nHost: shop\r\nCookie: a=b; beta=yes\r\n\r\n", "n"),
            ("GET /x?a&beta=y%65s HTTP/1.1\r\nHost: shop\r\n\r\n", "n"),
            ("GET http://shop/?beta=yes HTTP/1.1\r\nHost: shop\r\n\r\n", "n"),
            ("PROPFIND / HTTP/1.1\r\nHost: shop\r\n\r\n", "n"),
            ("OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n", "a"),
        ] {
            client.send(request).await;
            assert_eq!(client.response().await, (200, expected.to_owned()), "{request}");
        }
    });
}

#[test]
fn another_method_is_told_which_ones_there_are() {
    local(async {
        let bed = two_services(vec![
            Route { methods: vec!["GET".into(), "POST".into()], ..route("/items", "api", None) },
            Route { methods: vec!["DELETE".into()], ..route("/items/{id}", "next", None) },
        ]);
        let mut client = bed.client();
        client.send("PATCH /items/7 HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "allow")), (405, Some("DELETE, GET, HEAD, POST")));
        let body = client.take(field(&head, "content-length").unwrap().parse().unwrap()).await;
        assert!(
            body.contains("\"reason\":\"method_not_allowed\"") && body.contains("none for PATCH"),
            "{body}"
        );
        client.send("DELETE /items/7 HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        assert_eq!(client.response().await.1, "n", "the connection goes on");
        client.send("PATCH /other HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        assert_eq!(client.failure().await, (404, "no_route".to_owned()));
    });
}

#[test]
fn parameters_of_the_path_are_filled_in_and_taken_back() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        bed.change(|snapshot| {
            snapshot.routes = vec![
                route("/t/{tenant}/shop", "api", Some("/shops/{tenant}")),
                Route { matching: PathMatch::Exact, ..route("/health", "api", Some("/healthz")) },
                Route {
                    matching: PathMatch::Regex,
                    ..route("/v(?<v>[0-9]+)/(?<rest>.*)", "api", Some("/{rest}"))
                },
            ];
        });
        let mut client = bed.client();
        client.send("GET /t/a%20b/shop/cart?x HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        let mut wire = worker.accept().await;
        let head = wire.head().await;
        assert!(head.starts_with("GET /shops/a%20b/cart?x HTTP/1.1\r\n"), "{head}");
        assert_eq!(field(&head, "x-forwarded-prefix"), Some("/t/a%20b/shop"));
        wire.send("HTTP/1.1 302 Found\r\nLocation: /shops/a%20b/login\r\nContent-Length: 0\r\n\r\n").await;
        assert_eq!(field(&client.head().await, "location"), Some("/t/a%20b/shop/login"));
        for (target, expected) in [("/health?x", "/healthz?x"), ("/v12/a/b", "/a/b")] {
            client.send(format!("GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n")).await;
            let head = wire.head().await;
            assert!(head.starts_with(&format!("GET {expected} HTTP/1.1\r\n")), "{head}");
            assert_eq!(field(&head, "x-forwarded-prefix"), None);
            wire.send(OK).await;
            client.response().await;
        }
        for target in ["/t/a%2fb/shop", "/t/%2e%2e/shop", "/v1/%2e%2e/x", "/v1/a%2fb", "/h%65alth"] {
            client.send(format!("GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n")).await;
            assert_eq!(client.failure().await, (400, "ambiguous_path".to_owned()), "{target}");
            client = bed.client();
        }
    });
}
