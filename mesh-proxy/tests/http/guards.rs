//! What requests have to pass: addresses, pages of other origins, sizes of bodies, rates.

use watt_api::mesh::{AddressRule, Cors, CountedBy, Denied, Guard, PathMatch, RateLimit, Route, RouteAnswer};

use crate::bed::*;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn guarded(path: &str, guard: Guard) -> Route {
    Route { guard, ..route(path, "api", None) }
}

fn rule(allows: bool, network: Option<(&str, u8)>) -> AddressRule {
    AddressRule {
        allows,
        address: network.map(|(address, _)| address.parse().unwrap()),
        bits: network.map_or(0, |(_, bits)| bits),
    }
}

fn cors(origins: &[&str]) -> Guard {
    let cors = Cors {
        origins: origins.iter().map(|origin| (*origin).to_owned()).collect(),
        methods: vec!["GET".into(), "POST".into()],
        expose: vec!["etag".into()],
        max_age_s: Some(600),
        ..Cors::default()
    };
    Guard { cors: Some(cors), ..Guard::default() }
}

fn limit(name: &str, requests: u64, by: CountedBy) -> RateLimit {
    RateLimit {
        id: format!("{name} of test"),
        name: name.into(),
        requests,
        per_ms: 60_000,
        burst: requests,
        header: None,
        by,
    }
}

fn limits(limits: &[RateLimit]) -> Guard {
    Guard { limits: limits.to_vec(), ..Guard::default() }
}

fn denied(bed: &Bed) -> Denied {
    bed.thread.counts()["api"].denied
}

#[test]
fn addresses_that_may_not_come() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        worker.answer(OK);
        bed.change(|snapshot| {
            let addresses = vec![
                rule(false, Some(("192.0.2.7", 32))),
                rule(true, Some(("192.0.2.0", 24))),
                rule(true, Some(("2001:db8::", 32))),
            ];
            snapshot.routes = vec![
                guarded("/", Guard { addresses, ..Guard::default() }),
                guarded("/open", Guard::default()),
            ];
        });
        for (address, passes) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("2001:db8::1", true),
            ("192.0.2.7", false),
            ("198.51.100.1", false),
            ("::1", false),
        ] {
            let mut client = bed.client_from(address);
            client.send(GET).await;
            if passes {
                assert_eq!(client.response().await, (200, "ok".to_owned()), "{address}");
            } else {
                assert_eq!(client.failure().await, (403, "address_denied".to_owned()), "{address}");
            }
            client.send("GET /open HTTP/1.1\r\nHost: shop\r\n\r\n").await;
            assert_eq!(client.response().await, (200, "ok".to_owned()), "{address}: the connection goes on");
        }
        let mut unknown = bed.client();
        unknown.send(GET).await;
        assert_eq!(unknown.failure().await, (403, "address_denied".to_owned()));
        assert_eq!(denied(&bed), Denied { address: 4, ..Denied::default() });
        assert_eq!(bed.thread.counts()["api"].requests, 9, "what is denied does not reach it");
    });
}

#[test]
fn preflights_are_answered_by_the_gateway() {
    at_once(async {
        let bed = Bed::new();
        bed.change(|snapshot| {
            // It takes nothing but POST: the question is whether a POST may come.
            snapshot.routes = vec![
                Route {
                    methods: vec!["POST".into()],
                    matching: PathMatch::Exact,
                    ..guarded("/orders", cors(&["https://app.example.org"]))
                },
                guarded("/", Guard::default()),
            ];
        });
        let ask = |origin: &str, method: &str| {
            format!(
                "OPTIONS /orders HTTP/1.1\r\nHost: shop\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n\
                 Access-Control-Request-Headers: content-type,x-one\r\n\r\n"
            )
        };
        let mut client = bed.client();
        client.send(ask("https://app.example.org", "POST")).await;
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "content-length")), (204, None), "{head}");
        for (name, expected) in [
            ("access-control-allow-origin", "https://app.example.org"),
            ("access-control-allow-methods", "GET, POST"),
            ("access-control-allow-headers", "content-type,x-one"),
            ("access-control-max-age", "600"),
            ("vary", "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"),
        ] {
            assert_eq!(field(&head, name), Some(expected), "{head}");
        }
        client.send(ask("https://evil.example.org", "POST")).await;
        assert_eq!(client.failure().await, (403, "cors_denied".to_owned()));
        assert_eq!(denied(&bed), Denied { cors: 1, ..Denied::default() });
        assert_eq!(bed.thread.counts()["api"].requests, 0);
    });
}

#[test]
fn a_preflight_is_the_services_affair_where_the_gateway_says_nothing() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        worker.answer("HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: x\r\n\r\n");
        let mut client = bed.client();
        client
            .send("OPTIONS / HTTP/1.1\r\nHost: shop\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n\r\n")
            .await;
        assert_eq!(field(&client.head().await, "access-control-allow-origin"), Some("x"));
    });
}

#[test]
fn responses_say_who_may_read_them_in_the_services_place() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        bed.change(|snapshot| snapshot.routes = vec![guarded("/", cors(&["https://app.example.org"]))]);
        worker.answer(
            "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\naccess-control-allow-credentials: true\r\n\
             Vary: Accept\r\nContent-Length: 2\r\n\r\nok",
        );
        let from = |origin: &str| format!("GET / HTTP/1.1\r\nHost: shop\r\n{origin}\r\n");
        let mut client = bed.client();
        client.send(from("Origin: https://app.example.org\r\n")).await;
        let head = client.head().await;
        client.take(2).await;
        assert_eq!(head.to_ascii_lowercase().matches("access-control-allow-origin").count(), 1, "{head}");
        assert_eq!(field(&head, "access-control-allow-origin"), Some("https://app.example.org"));
        assert_eq!(field(&head, "access-control-expose-headers"), Some("etag"));
        assert_eq!(field(&head, "access-control-allow-credentials"), None);
        assert!(head.contains("Vary: Accept\r\n") && head.contains("Vary: Origin\r\n"), "{head}");
        for origin in ["Origin: https://evil.example\r\n", ""] {
            client.send(from(origin)).await;
            let head = client.head().await;
            client.take(2).await;
            assert!(!head.to_ascii_lowercase().contains("access-control-allow-origin"), "{head}");
            assert!(head.contains("Vary: Origin\r\n"), "a cache must not give it to others: {head}");
        }
    });
}

#[test]
fn pages_read_the_proxys_own_answers_as_well() {
    at_once(async {
        let bed = Bed::new();
        bed.change(|snapshot| {
            let answer =
                RouteAnswer::Fixed { status: 200, body: "x".into(), content_type: "text/plain".into() };
            snapshot.routes = vec![
                guarded("/", cors(&["*"])),
                Route { answer: Some(answer), ..guarded("/fixed", cors(&["*"])) },
            ];
            snapshot.services.get_mut("api").unwrap().outlook = watt_api::mesh::Outlook::Stopped;
        });
        let mut client = bed.client();
        client.send("GET / HTTP/1.1\r\nHost: shop\r\nOrigin: https://a.example\r\n\r\n").await;
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "access-control-allow-origin")), (503, Some("*")), "{head}");
        let mut client = bed.client();
        client.send("GET /fixed HTTP/1.1\r\nHost: shop\r\nOrigin: https://a.example\r\n\r\n").await;
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "access-control-allow-origin")), (200, Some("*")), "{head}");
    });
}

#[test]
fn a_body_that_is_too_large_goes_nowhere() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        worker.answer(OK);
        bed.change(|snapshot| {
            snapshot.routes = vec![
                guarded("/", Guard { body_max: Some(10), ..Guard::default() }),
                guarded("/free", Guard::default()),
            ];
        });
        let mut client = bed.client();
        client.send("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 10\r\n\r\n0123456789").await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
        client
            .send("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n")
            .await;
        assert_eq!(client.failure().await, (413, "body_too_large".to_owned()));
        let mut client = bed.client();
        client
            .send("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5;x=y\r\n56789\r\n0\r\n\r\n")
            .await;
        assert_eq!(client.response().await, (200, "ok".to_owned()), "framing does not count");
        client
            .send("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n6\r\n567890\r\n0\r\n\r\n")
            .await;
        assert_eq!(client.failure().await, (413, "body_too_large".to_owned()));
        assert_eq!(denied(&bed), Denied { body: 2, ..Denied::default() });
    });
}

#[test]
fn a_body_that_grows_too_large_on_its_way_breaks_off() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        bed.change_api(|service| service.guard.body_max = Some(10));
        let mut client = bed.ask("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let mut wire = worker.asked().await;
        client.send("5\r\n01234\r\n").await;
        assert_eq!(wire.take(10).await, "5\r\n01234\r\n");
        client.send("6\r\n567890\r\n0\r\n\r\n").await;
        assert_eq!(client.failure().await, (413, "body_too_large".to_owned()));
        assert!(!wire.rest().await.contains("567890"), "the worker's connection ends without a whole body");
        assert_eq!(denied(&bed).body, 1);
    });
}

/// Once a worker has begun to answer it waits for a body that never comes whole, and nobody is to wait with it.
#[test]
fn a_body_that_grows_too_large_after_the_answer_began_ends_it() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        bed.change_api(|service| service.guard.body_max = Some(10));
        let began = tokio::time::Instant::now();
        let mut client = bed.ask("POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").await;
        client.head().await;
        assert_eq!(client.take(7).await, "2\r\nok\r\n");
        client.send("5\r\n01234\r\n6\r\n567890\r\n").await;
        assert_eq!(client.rest().await, "", "it breaks off");
        assert!(!wire.rest().await.contains("567890"));
        assert!(began.elapsed() < std::time::Duration::from_secs(1), "{:?}", began.elapsed());
        assert_eq!(denied(&bed).body, 1);
        assert!(bed.lost().is_empty(), "the client's own fault");
    });
}

#[test]
fn a_rate_is_for_each_address_and_told() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        worker.answer(OK);
        bed.change(|snapshot| {
            snapshot.routes = vec![guarded("/", limits(&[limit("address", 2, CountedBy::Address)]))];
        });
        let mut client = bed.client_from("192.0.2.1");
        for left in ["\"address\";r=1;t=30", "\"address\";r=0;t=60"] {
            client.send(GET).await;
            let head = client.head().await;
            client.take(2).await;
            assert_eq!(status(&head), 200);
            assert_eq!(field(&head, "ratelimit"), Some(left));
            assert_eq!(field(&head, "ratelimit-policy"), Some("\"address\";q=2;w=60"));
        }
        client.send(GET).await;
        let head = client.head().await;
        assert_eq!((status(&head), field(&head, "retry-after")), (429, Some("30")), "{head}");
        assert_eq!(field(&head, "ratelimit"), Some("\"address\";r=0;t=60"));
        let mut other = bed.client_from("192.0.2.2");
        other.send(GET).await;
        assert_eq!(other.response().await, (200, "ok".to_owned()));
        // Others of the same network of 64 bits are the same client.
        let mut passed = 0;
        for last in 1..=4 {
            let mut client = bed.client_from(&format!("2001:db8::{last}"));
            client.send(GET).await;
            passed += u32::from(status(&client.head().await) == 200);
        }
        assert_eq!(passed, 2);
        assert_eq!(denied(&bed), Denied { rate: 3, ..Denied::default() });
        tokio::time::advance(std::time::Duration::from_secs(30)).await;
        let mut again = bed.client_from("192.0.2.1");
        again.send(GET).await;
        assert_eq!(again.response().await, (200, "ok".to_owned()), "as it was told");
    });
}

#[test]
fn what_one_limit_refuses_no_other_counts() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        worker.answer(OK);
        bed.change(|snapshot| {
            let both = [limit("address", 3, CountedBy::Address), limit("everyone", 4, CountedBy::Everyone)];
            snapshot.routes = vec![guarded("/", limits(&both))];
        });
        let statuses = async |address: &str, count: usize| {
            let mut client = bed.client_from(address);
            let mut statuses = Vec::new();
            for _ in 0..count {
                client.send(GET).await;
                let head = client.head().await;
                let length: usize = field(&head, "content-length").unwrap().parse().unwrap();
                client.take(length).await;
                statuses.push(status(&head));
            }
            statuses
        };
        assert_eq!(statuses("192.0.2.1", 5).await, [200, 200, 200, 429, 429]);
        assert_eq!(statuses("192.0.2.2", 4).await, [200, 429, 429, 429], "one was left for everyone");
        tokio::time::advance(std::time::Duration::from_secs(15)).await;
        // Of its three it has used one: those that everyone's refused are not counted.
        assert_eq!(statuses("192.0.2.2", 1).await, [200]);
    });
}

#[test]
fn a_header_tells_who_is_counted() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        worker.answer(OK);
        bed.change(|snapshot| {
            let limit = RateLimit { header: Some("x-tenant".into()), ..limit("t", 1, CountedBy::Address) };
            snapshot.routes = vec![guarded("/", limits(&[limit]))];
        });
        let ask = async |fields: &str| {
            let mut client = bed.client_from("192.0.2.1");
            client.send(format!("GET / HTTP/1.1\r\nHost: shop\r\n{fields}\r\n")).await;
            status(&client.head().await)
        };
        assert_eq!(ask("X-Tenant: a\r\n").await, 200);
        assert_eq!(ask("x-tenant: b\r\n").await, 200);
        assert_eq!(ask("X-TENANT: a\r\n").await, 429);
        assert_eq!(ask("").await, 200, "by its address");
        assert_eq!(ask("Connection: x-tenant\r\nX-Tenant: c\r\n").await, 429, "which does not go on");
    });
}

#[test]
fn a_services_limit_holds_in_the_mesh_and_survives_a_new_table() {
    at_once(async {
        let (bed, worker) = Bed::with_worker();
        worker.answer(OK);
        bed.change_api(|service| {
            service.guard = limits(&[limit("api-service", 2, CountedBy::Service)]).into()
        });
        let get = "GET / HTTP/1.1\r\nHost: api.plt.local\r\n\r\n";
        let mut web = bed.caller("web");
        for expected in [200, 200, 429] {
            web.send(get).await;
            let head = web.head().await;
            let length: usize = field(&head, "content-length").unwrap().parse().unwrap();
            web.take(length).await;
            assert_eq!(status(&head), expected);
        }
        let mut jobs = bed.caller("jobs");
        jobs.send(get).await;
        assert_eq!(jobs.response().await, (200, "ok".to_owned()));
        bed.change(|snapshot| snapshot.version += 1);
        web.send(get).await;
        assert_eq!(web.failure().await, (429, "rate_limited".to_owned()));
        let mut client = bed.client_from("192.0.2.1");
        client.send(GET).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()), "the gateway is another caller");
    });
}

#[test]
fn grpc_is_told_in_its_own_words() {
    at_once(async {
        let bed = Bed::new();
        bed.change_api(|service| service.guard.body_max = Some(1));
        let mut client = bed
            .ask("POST / HTTP/1.1\r\nHost: shop\r\nContent-Type: application/grpc\r\nContent-Length: 2\r\n\r\nab")
            .await;
        assert_eq!(field(&client.head().await, "grpc-status"), Some("8"));
    });
}
