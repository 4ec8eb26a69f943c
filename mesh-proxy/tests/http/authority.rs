//! A service that says who may.

use watt_api::mesh::{Authority, Cache, CacheLimits, CountedBy, Guard, Outlook, RateLimit, Route};

use crate::bed::*;

/// `/` leads to `api`, and `judge` is asked.
fn bed() -> Bed {
    let bed = Bed::new();
    bed.change(|snapshot| {
        snapshot.services.insert("judge".into(), service());
        let authority = Authority {
            service: "judge".into(),
            path: "/allow?x=1".into(),
            copy: vec!["x-user".into(), "x-groups".into()],
            timeout_ms: 5_000,
        };
        snapshot.routes = vec![Route {
            guard: Guard { authority: Some(authority), ..Guard::default() },
            ..route("/", "api", None)
        }];
    });
    bed
}

const GRANT: &str =
    "HTTP/1.1 200 OK\r\nX-User: ada\r\nX-GROUPS: staff\r\nX-Other: 1\r\nContent-Length: 4\r\n\r\nfine";

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: shop\r\n{fields}\r\n")
}

#[test]
fn it_gets_the_head_and_the_request_gets_its_word() {
    local(async {
        let bed = bed();
        let (api, judge) = (bed.worker("api", 1), bed.worker("judge", 2));
        let mut client = bed.client_from("192.0.2.7");
        client
            .send(
                "POST /a?b=c HTTP/1.1\r\nHost: shop\r\nCookie: k=v\r\nAuthorization: Bearer t\r\nX-User: root\r\nx_groups: wheel\r\n\
                 X-Original-URL: http://shop/free\r\nx_original_uri: /free\r\nRange: bytes=0-1\r\nX-Forwarded-Method: GET\r\nConnection: x-hop\r\nX-Hop: 1\r\nExpect: 100-continue\r\n\
                 Content-Length: 2\r\n\r\n",
            )
            .await;
        let mut asked = judge.accept().await;
        let head = asked.head().await;
        assert!(head.starts_with("GET /allow?x=1 HTTP/1.1\r\nHost: shop\r\n"), "{head}");
        for line in [
            "Cookie: k=v",
            "Authorization: Bearer t",
            "X-Forwarded-Method: POST",
            "X-Forwarded-Uri: /a?b=c",
            "X-Original-URI: /a?b=c",
            "X-Forwarded-For: 192.0.2.7",
            "X-Forwarded-Host: shop",
        ] {
            assert_eq!(head.matches(&format!("{line}\r\n")).count(), 1, "{line}: {head}");
        }
        for gone in [
            "X-Original-URL",
            "x_original_uri",
            "X-User",
            "x_groups",
            "X-Hop",
            "Range",
            "Content-Length",
            "Expect",
            "Connection",
        ] {
            assert!(!head.contains(&format!("{gone}: ")), "{gone}: {head}");
        }
        asked.send(GRANT).await;
        let mut wire = api.accept().await;
        let head = wire.head().await.to_ascii_lowercase();
        assert!(head.starts_with("post /a?b=c "), "{head}");
        assert!(head.contains("x-user: ada\r\n") && head.contains("x-groups: staff\r\n"), "{head}");
        for gone in ["root", "wheel", "x-other", "fine"] {
            assert!(!head.contains(gone), "{gone}: {head}");
        }
        client.send("ab").await;
        assert_eq!(wire.take(2).await, "ab");
        wire.send(OK).await;
        client.head().await;
        client.take(2).await;
        // The next one on the same connections, and another word.
        client.send(get("X-User: root\r\n")).await;
        asked.head().await;
        asked.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        let head = wire.head().await.to_ascii_lowercase();
        assert!(!head.contains("x-user"), "nobody says it of himself: {head}");
    });
}

#[test]
fn what_it_does_not_allow_it_answers() {
    local(async {
        let bed = bed();
        let judge = bed.worker("judge", 2);
        judge.answer(
            "HTTP/1.1 302 Found\r\nLocation: https://login.example/\r\nSet-Cookie: s=1\r\nSet-Cookie: t=2\r\nKeep-Alive: x\r\n\
             Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        );
        let mut client = bed.client();
        for _ in 0..2 {
            client.send(get("")).await;
            let head = client.head().await;
            assert_eq!(
                (status(&head), field(&head, "location")),
                (302, Some("https://login.example/")),
                "{head}"
            );
            assert_eq!(head.matches("Set-Cookie: ").count(), 2, "{head}");
            assert!(!head.contains("Keep-Alive") && !head.contains("Transfer-Encoding"), "{head}");
            assert_eq!(client.rest_of(&head).await, "hello");
        }
        let counts = &bed.thread.counts();
        assert_eq!(
            (counts["api"].requests, counts["api"].denied.authority, counts["judge"].requests),
            (0, 2, 2)
        );
    });
}

#[test]
fn one_that_says_nothing_says_no() {
    at_once(async {
        let bed = bed();
        let unavailable = (503, "authority_unavailable".to_owned());
        // It fails.
        let judge = bed.worker("judge", 2);
        let failing = judge.answer("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(bed.ask(get("")).await.failure().await, unavailable);
        failing.abort();
        // It does not answer.
        bed.change(|snapshot| snapshot.services.get_mut("judge").unwrap().workers.clear());
        let silent = bed.worker("judge", 3);
        let mut client = bed.ask(get("")).await;
        let _wire = silent.asked().await;
        assert_eq!(client.failure().await, unavailable);
        // It is not there.
        bed.change(|snapshot| snapshot.services.get_mut("judge").unwrap().outlook = Outlook::Stopped);
        bed.change(|snapshot| snapshot.services.get_mut("judge").unwrap().workers.clear());
        assert_eq!(bed.ask(get("")).await.failure().await, unavailable);
        bed.change(|snapshot| drop(snapshot.services.remove("judge")));
        assert_eq!(bed.ask(get("")).await.failure().await, unavailable);
        assert_eq!(bed.thread.counts()["api"].denied.authority, 4);
    });
}

#[test]
fn answers_that_cannot_be_passed_on_are_none() {
    local(async {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
            "nonsense\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        ] {
            let bed = bed();
            let judge = bed.worker("judge", 2);
            let mut client = bed.ask(get("")).await;
            let mut wire = judge.asked().await;
            wire.send(answer).await;
            wire.end().await;
            drop(wire);
            assert_eq!(client.failure().await, (503, "authority_unavailable".to_owned()), "{answer}");
        }
        let bed = bed();
        let judge = bed.worker("judge", 2);
        let mut client = bed.ask(get("")).await;
        let mut wire = judge.asked().await;
        let large = 100 << 10;
        wire.send(format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {large}\r\n\r\n{}", "x".repeat(large)))
            .await;
        assert_eq!(client.failure().await, (503, "authority_unavailable".to_owned()));
    });
}

#[test]
fn a_connection_that_waited_and_ended_is_no_reason() {
    local(async {
        let bed = bed();
        bed.worker("api", 1).answer(OK);
        let judge = bed.worker("judge", 2);
        let mut client = bed.client();
        client.send(get("")).await;
        let mut wire = judge.asked().await;
        wire.send(GRANT).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
        client.send(get("")).await;
        wire.head().await;
        drop(wire);
        judge.asked().await.send(GRANT).await;
        assert_eq!(client.response().await, (200, "ok".to_owned()));
    });
}

#[test]
fn it_is_asked_last_and_a_request_counts_once() {
    local(async {
        let bed = bed();
        bed.worker("api", 1).answer(OK);
        bed.worker("judge", 2).answer(GRANT);
        let limit = RateLimit {
            id: "x".into(),
            name: "x".into(),
            requests: 2,
            per_ms: 3_600_000,
            burst: 2,
            header: None,
            by: CountedBy::Everyone,
        };
        bed.change(|snapshot| snapshot.routes[0].guard.limits = vec![limit]);
        let mut client = bed.client();
        for left in ["\"x\";r=1;t=1800", "\"x\";r=0;t=3600"] {
            client.send(get("")).await;
            let head = client.head().await;
            client.take(2).await;
            assert_eq!((status(&head), field(&head, "ratelimit")), (200, Some(left)));
        }
        client.send(get("")).await;
        assert_eq!(client.failure().await, (429, "rate_limited".to_owned()));
        assert_eq!(bed.thread.counts()["judge"].requests, 2, "one that is refused is not asked about");
        // A preflight comes without what it could be judged by.
        let mut page = bed
            .ask("OPTIONS / HTTP/1.1\r\nHost: shop\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n\r\n")
            .await;
        assert_eq!(page.failure().await, (429, "rate_limited".to_owned()));
        bed.change(|snapshot| snapshot.routes[0].guard.limits.clear());
        page.send("OPTIONS / HTTP/1.1\r\nHost: shop\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n\r\n")
            .await;
        assert_eq!(page.response().await, (200, "ok".to_owned()));
        assert_eq!(bed.thread.counts()["judge"].requests, 2);
    });
}

/// What a service makes of whom the authority names is for that one, unless it says that it is for all.
#[test]
fn what_is_made_of_its_word_is_not_for_others() {
    local(async {
        for (control, requests) in [("max-age=60", 2), ("public, max-age=60", 1)] {
            let bed = bed();
            bed.worker("judge", 2).answer(GRANT);
            let answer =
                format!("HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nContent-Length: 2\r\n\r\nok");
            bed.worker("api", 1).answer(Box::leak(answer.into_boxed_str()));
            bed.change(|snapshot| {
                snapshot.cache = Some(CacheLimits { bytes_max: 1 << 20, entries_max: 100 });
                let rules = Cache { entry_max: 1 << 20, ..Cache::default() };
                snapshot.services.get_mut("api").unwrap().cache = Some(Box::new(rules));
            });
            let mut client = bed.client();
            for _ in 0..2 {
                client.send(get("")).await;
                assert_eq!(client.response().await, (200, "ok".to_owned()));
            }
            let counts = bed.thread.counts();
            assert_eq!((counts["api"].requests, counts["judge"].requests), (requests, 2), "{control}");
        }
    });
}

#[test]
fn a_path_that_it_may_read_otherwise_than_the_service_is_refused() {
    local(async {
        let bed = bed();
        let (_api, judge) = (bed.worker("api", 1), bed.worker("judge", 2));
        for path in [
            "/free/../admin",
            "/free/%2e%2e/admin",
            "//admin",
            "/admin;x",
            "/free\\..\\admin",
            "/%61dmin",
            "/a%2fb",
        ] {
            let mut client = bed.ask(&format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n")).await;
            assert_eq!(client.failure().await, (400, "ambiguous_path".into()), "{path}");
        }
        for path in ["/.well-known/a%20b", "/%C3%A4?a=../b", "/a.b/"] {
            let _client = bed.ask(&format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n")).await;
            judge.asked().await;
        }
    });
}

#[test]
fn nobody_says_in_its_place_what_it_is_not_asked_about() {
    local(async {
        let bed = bed();
        let api = bed.worker("api", 1);
        let preflight = "OPTIONS / HTTP/1.1\r\nHost: shop\r\nOrigin: http://a\r\nAccess-Control-Request-Method: GET\r\n\
                         X-User: root\r\nx_groups: wheel\r\nX-Other: 1\r\n\r\n";
        let _client = bed.ask(preflight).await;
        let head = api.accept().await.head().await;
        assert!(!head.contains("root") && !head.contains("wheel") && head.contains("X-Other: 1"), "{head}");
    });
}
