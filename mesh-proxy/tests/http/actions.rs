//! What routes do besides leading to one service: other headers, shares of several services, answers of their own, faults.

use std::time::Duration;

use watt_api::mesh::{HeaderRules, PathMatch, Route, RouteAnswer, RouteFault, RouteShare};

use crate::bed::*;

fn redirect(path: &str, status: u16, to: &str) -> Route {
    let answer = Some(RouteAnswer::Redirect { status, to: to.into() });
    Route { answer, ..route(path, "", None) }
}

fn fixed(path: &str, status: u16, body: &str) -> Route {
    let answer = Some(RouteAnswer::Fixed { status, body: body.into(), content_type: "text/html".into() });
    Route { answer, ..route(path, "", None) }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_redirect_keeps_what_follows_and_leads_to_no_other_host() {
    local(async {
        let bed = Bed::new();
        bed.change(|snapshot| {
            snapshot.routes = vec![
                redirect("/", 307, "https://example.org"),
                redirect("/old", 308, "/new"),
                redirect("/top", 301, ""),
                redirect("/u/{id}", 302, "https://example.org/people/{id}"),
                Route { matching: PathMatch::Exact, ..redirect("/one", 303, "/two") },
                Route { matching: PathMatch::Regex, ..redirect("/r/(?<rest>.*)", 307, "/{rest}") },
            ];
        });
        let mut client = bed.client();
        for (target, expected, location) in [
            ("/", 307, "https://example.org/"),
            ("/a/b?x=1", 307, "https://example.org/a/b?x=1"),
            ("/old", 308, "/new"),
            ("/old/a%20b?x", 308, "/new/a%20b?x"),
            ("/u/7/posts?x", 302, "https://example.org/people/7/posts?x"),
            ("/one?x", 303, "/two?x"),
            ("/r/a/b?x", 307, "/a/b?x"),
            ("/r//evil.example", 307, "/evil.example"),
            ("/top//evil.example", 301, "/evil.example"),
            ("/top/\\evil.example", 301, "/evil.example"),
            ("//evil.example", 307, "https://example.org/evil.example"),
        ] {
            client.send(format!("GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n")).await;
            let head = client.head().await;
            assert_eq!((status(&head), field(&head, "location")), (expected, Some(location)), "{target}");
            assert_eq!(field(&head, "content-length"), Some("0"));
        }
        // What would lead out of what the redirect leads to, once somebody has decoded it.
        for target in
            ["/../admin", "/a/%2e%2e/%2e%2e/b", "/old/../x", "/r/\\evil.example", "/r/a%2fb", "/u/a%2fb"]
        {
            let mut client = bed.ask(format!("GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n")).await;
            assert_eq!(client.failure().await, (400, "ambiguous_path".to_owned()), "{target}");
        }
        client.send("OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        assert_eq!(field(&client.head().await, "location"), Some("https://example.org/"));
        client.send("POST /old HTTP/1.1\r\nHost: shop\r\nContent-Length: 3\r\n\r\nabc").await;
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "connection")), (308, Some("close")), "the body is not read");
    });
}

#[test]
fn an_answer_of_its_own_takes_no_service() {
    local(async {
        let bed = Bed::new();
        bed.change(|snapshot| {
            let maintenance = Route {
                response_headers: HeaderRules {
                    set: pairs(&[("retry-after", "60"), ("content-type", "text/html; charset=utf-8")]),
                    ..HeaderRules::default()
                },
                ..fixed("/", 503, "<p>soon</p>")
            };
            snapshot.routes = vec![maintenance, fixed("/none", 204, "")];
        });
        let mut client = bed.client();
        client.send(GET).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
        assert_eq!(field(&head, "content-type"), Some("text/html; charset=utf-8"));
        assert_eq!(
            head.to_lowercase().matches("content-").count(),
            2,
            "its type once, and its length: {head}"
        );
        assert_eq!(field(&head, "retry-after"), Some("60"));
        assert_eq!(client.take(11).await, "<p>soon</p>");
        client.send("HEAD / HTTP/1.1\r\nHost: shop\r\n\r\nGET /none HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        assert_eq!(field(&client.head().await, "content-length"), Some("11"), "without the body itself");
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "content-length")), (204, None));
    });
}

#[test]
fn headers_are_set_added_and_removed_on_both_ways() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        bed.change(|snapshot| {
            snapshot.routes = vec![Route {
                request_headers: HeaderRules {
                    remove: vec!["authorization".into()],
                    set: pairs(&[("x-tenant", "shop")]),
                    add: pairs(&[("accept", "text/plain")]),
                },
                response_headers: HeaderRules {
                    remove: vec!["server".into(), "location".into()],
                    set: pairs(&[("cache-control", "no-store")]),
                    add: pairs(&[("vary", "accept")]),
                },
                ..route("/api", "api", Some(""))
            }];
        });
        let mut client = bed.client();
        client
            .send("GET /api/x HTTP/1.1\r\nHost: shop\r\nAuthorization: a\r\nX-TENANT: other\r\nAccept: */*\r\nX_Tenant: b\r\n\r\n")
            .await;
        let mut wire = worker.accept().await;
        let head = wire.head().await;
        assert!(head.starts_with("GET /x HTTP/1.1\r\n"), "{head}");
        assert_eq!(field(&head, "x-tenant"), Some("shop"));
        assert!(!head.contains("X_Tenant"), "some programs take it for the other: {head}");
        assert_eq!(field(&head, "authorization"), None);
        assert!(head.contains("Accept: */*\r\n") && head.contains("\r\naccept: text/plain\r\n"), "{head}");
        wire.send(
            "HTTP/1.1 200 OK\r\nServer: x\r\nLocation: /y\r\nCache-Control: public\r\nVary: origin\r\nContent-Length: 2\r\n\r\nok",
        )
        .await;
        let head = client.head().await;
        assert_eq!((field(&head, "server"), field(&head, "location")), (None, None));
        assert_eq!(field(&head, "cache-control"), Some("no-store"));
        assert!(head.contains("Vary: origin\r\n") && head.contains("\r\nvary: accept\r\n"), "{head}");
        assert_eq!(client.take(2).await, "ok");
    });
}

/// `api` and `next` with these weights.
fn split(weights: [u32; 2], sticky: Option<&str>) -> Route {
    let share = |(service, weight): (&str, u32)| RouteShare { service: service.into(), weight };
    Route {
        split: ["api", "next"].into_iter().zip(weights).map(share).collect(),
        sticky: sticky.map(str::to_owned),
        ..route("/", "", None)
    }
}

fn two_services(route: Route) -> Bed {
    let bed = Bed::new();
    bed.change(|snapshot| {
        snapshot.services.insert("next".into(), service());
        snapshot.routes = vec![route];
    });
    bed.worker("api", 1).answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na");
    bed.worker("next", 2).answer("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nn");
    bed
}

/// The answer to a request with this cookie, and the cookie that came with it.
async fn met(client: &mut Wire, cookie: &str) -> (String, Option<String>) {
    client.send(format!("GET / HTTP/1.1\r\nHost: shop\r\n{cookie}\r\n")).await;
    let head = client.head().await;
    assert_eq!(status(&head), 200, "{head}");
    (client.take(1).await, field(&head, "set-cookie").map(str::to_owned))
}

#[test]
fn services_share_requests_by_their_weights() {
    local(async {
        let bed = two_services(split([3, 1], None));
        let mut client = bed.client();
        let mut next = 0;
        for _ in 0..2000 {
            let (service, cookie) = met(&mut client, "").await;
            next += u32::from(service == "n");
            assert_eq!(cookie, None);
        }
        // Five hundred are expected, and this is ten standard deviations away.
        assert!((300..700).contains(&next), "{next} of 2000");
        bed.change(|snapshot| snapshot.routes = vec![split([1, 0], None)]);
        for _ in 0..200 {
            assert_eq!(met(&mut client, "").await.0, "a", "one of weight 0 gets none");
        }
    });
}

#[test]
fn a_cookie_keeps_a_client_with_its_service() {
    local(async {
        let bed = two_services(split([1, 1], Some("canary")));
        let mut client = bed.client();
        let (first, cookie) = met(&mut client, "").await;
        let cookie = cookie.expect("a cookie");
        let name = if first == "a" { "api" } else { "next" };
        assert_eq!(cookie, format!("canary={name}; Path=/; HttpOnly; SameSite=Lax"));
        for (service, answer) in [("api", "a"), ("next", "n")] {
            for _ in 0..50 {
                let found = met(&mut client, &format!("Cookie: canary=theirs; canary={service}\r\n")).await;
                assert_eq!(found, (answer.to_owned(), None), "no new cookie either");
            }
        }
        assert!(met(&mut client, "Cookie: canary=other\r\n").await.1.is_some(), "it is none of them");
        bed.change(|snapshot| snapshot.routes = vec![split([1, 0], Some("canary"))]);
        let (service, cookie) = met(&mut client, "Cookie: canary=next\r\n").await;
        assert_eq!(service, "a", "nobody meets one of weight 0 any more");
        assert!(cookie.is_some_and(|cookie| cookie.starts_with("canary=api;")));
    });
}

#[test]
fn faults_are_made_on_purpose() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        worker.answer(OK);
        let fault = |fault: RouteFault| Route { fault: Some(fault), ..route("/", "api", None) };
        let abort =
            |percent| RouteFault { abort_status: 418, abort_percent: percent, ..RouteFault::default() };
        bed.change(|snapshot| snapshot.routes = vec![fault(abort(100))]);
        let mut client = bed.client();
        client.send(GET).await;
        assert_eq!(client.failure().await, (418, "fault_injected".to_owned()));
        bed.change(|snapshot| snapshot.routes = vec![fault(abort(30))]);
        let mut aborted = 0;
        for _ in 0..1000 {
            client.send(GET).await;
            aborted += u32::from(client.response().await.0 == 418);
        }
        assert!((150..450).contains(&aborted), "{aborted} of 1000");
        let delay = RouteFault { delay_ms: 5_000, delay_percent: 100, ..RouteFault::default() };
        bed.change(|snapshot| snapshot.routes = vec![fault(delay)]);
        let before = tokio::time::Instant::now();
        client.send(POST).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
        assert!(before.elapsed() >= Duration::from_secs(5), "{:?}", before.elapsed());
        bed.change_api(|service| service.traffic.total_timeout_ms = 1_000);
        let before = tokio::time::Instant::now();
        let failures = bed.thread.counts()["api"].failures;
        client.send(GET).await;
        assert_eq!(client.failure().await, (504, "fault_injected".to_owned()));
        assert!(before.elapsed() < Duration::from_secs(5), "no longer than the request may take in all");
        assert_eq!(bed.thread.counts()["api"].failures, failures, "the service never saw it");
    });
}

#[test]
fn an_answer_waits_on_purpose_too() {
    at_once(async {
        let bed = Bed::new();
        let delay = RouteFault { delay_ms: 5_000, delay_percent: 100, ..RouteFault::default() };
        let both = RouteFault { abort_status: 503, abort_percent: 100, ..delay.clone() };
        bed.change(|snapshot| {
            snapshot.routes = vec![
                Route { fault: Some(delay), ..redirect("/", 307, "/x") },
                Route { fault: Some(both), ..route("/slow", "api", None) },
            ];
        });
        let mut client = bed.client();
        for (target, expected) in [("/", 307), ("/slow", 503)] {
            let before = tokio::time::Instant::now();
            client.send(format!("GET {target} HTTP/1.1\r\nHost: shop\r\n\r\n")).await;
            assert_eq!(client.response().await.0, expected);
            assert!(before.elapsed() >= Duration::from_secs(5), "{target}");
        }
    });
}

#[test]
fn a_delay_ends_when_the_proxy_is_about_to() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        worker.answer(OK);
        let fault = RouteFault { delay_ms: 3_600_000, delay_percent: 100, ..RouteFault::default() };
        bed.change(|snapshot| {
            snapshot.routes = vec![Route { fault: Some(fault), ..route("/", "api", None) }]
        });
        let (mut client, served) = bed.client_at(gateway());
        client.send(GET).await;
        // It is on its way: nobody else looks at this connection.
        tokio::task::yield_now().await;
        bed.thread.shut_down();
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "connection")), (200, Some("close")));
        client.take(2).await;
        client.end().await;
        served.await.unwrap();
    });
}

#[test]
fn an_own_answer_is_the_last_one_of_a_proxy_that_retires() {
    local(async {
        let bed = Bed::new();
        bed.change(|snapshot| snapshot.routes = vec![fixed("/", 200, "x")]);
        let mut client = bed.client();
        client.send(GET).await;
        assert_eq!(field(&client.head().await, "connection"), None);
        client.take(1).await;
        bed.thread.retire();
        client.send(GET).await;
        assert_eq!(field(&client.head().await, "connection"), Some("close"));
    });
}

#[test]
fn no_trailer_passes_a_route_that_changes_headers() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        let tenant = HeaderRules { set: pairs(&[("x-tenant", "shop")]), ..HeaderRules::default() };
        bed.change(|snapshot| {
            snapshot.routes.push(Route { request_headers: tenant, ..route("/api", "api", None) });
        });
        let request = |path: &str, trailer: &str| {
            format!(
                "POST {path} HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{trailer}\r\n"
            )
        };
        let mut client = bed.ask(request("/api", "X-Tenant: other\r\n")).await;
        assert_eq!(client.response().await.0, 400);
        let mut client = bed.ask(request("/", "X_Real_IP: 192.0.2.1\r\n")).await;
        assert_eq!(
            client.response().await.0,
            400,
            "nor what the proxy says by itself, in the letters of CGI"
        );
        for (path, trailer) in [("/api", ""), ("/", "X-Tenant: other\r\n")] {
            let mut client = bed.ask(request(path, trailer)).await;
            let mut wire = loop {
                let mut wire = worker.accept().await;
                if wire.try_head().await.is_some() {
                    break wire;
                }
            };
            wire.send(OK).await;
            assert_eq!(client.response().await.0, 200, "{path}");
        }
    });
}

#[test]
fn who_goes_away_in_a_delay_on_purpose_is_not_waited_for() {
    local(async {
        let (bed, worker) = Bed::with_worker();
        bed.change(|snapshot| {
            let fault = RouteFault { delay_ms: 3_600_000, delay_percent: 100, ..RouteFault::default() };
            snapshot.routes = vec![Route { fault: Some(fault), ..route("/", "api", None) }];
        });
        for request in [GET, POST] {
            let (mut client, served) = bed.client_at(gateway());
            client.send(request).await;
            drop(client);
            served.await.unwrap();
        }
        drop(worker);
    });
}
