//! Responses that are stored, and requests that they answer.

use tokio::task::spawn_local;
use watt_api::mesh::{Believed, Cache, CacheCounts, CacheLimits, RouteCache};

use crate::bed::*;

const FRESH: &str =
    "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"a\"\r\nContent-Length: 10\r\n\r\n0123456789";

fn cache() -> Cache {
    Cache {
        head: true,
        entry_max: 1 << 20,
        tags: Some("cache-tag".into()),
        believes: Believed::Everybody,
        ..Cache::default()
    }
}

fn limits(bytes_max: u64) -> Option<CacheLimits> {
    Some(CacheLimits { bytes_max, entries_max: 1000 })
}

impl Bed {
    /// With a cache for `api`.
    fn caching() -> (Bed, MockWorker) {
        Bed::caching_with(|_| {})
    }

    fn caching_with(change: impl FnOnce(&mut Cache)) -> (Bed, MockWorker) {
        let (bed, worker) = Bed::with_worker();
        let mut rules = cache();
        change(&mut rules);
        bed.change(|snapshot| {
            snapshot.cache = limits(1 << 20);
            snapshot.services.get_mut("api").unwrap().cache = Some(Box::new(rules));
        });
        (bed, worker)
    }

    fn cached(&self) -> CacheCounts {
        self.thread.counts()["api"].cache
    }

    /// Has the worker answer one request, and returns the head that it got and what the client gets.
    async fn through(
        &self,
        worker: &MockWorker,
        request: &str,
        response: &str,
    ) -> (String, (String, String)) {
        let mut client = self.ask(request).await;
        let mut wire = worker.accept().await;
        let asked = wire.head().await;
        let response = response.to_owned();
        let answering = spawn_local(async move { wire.send(response).await });
        let head = client.head().await;
        let body = client.rest_of_unless_head(request, &head).await;
        // And so the next request has a connection of its own.
        answering.await.unwrap();
        (asked, (head, body))
    }

    /// What a client gets that no worker is asked for.
    async fn stored(&self, request: &str) -> (String, String) {
        let mut client = self.ask(request).await;
        let head = client.head().await;
        let body = client.rest_of_unless_head(request, &head).await;
        (head, body)
    }
}

impl Wire {
    async fn rest_of_unless_head(&mut self, request: &str, head: &str) -> String {
        match request.starts_with("HEAD") || status(head) == 304 {
            true => String::new(),
            false => self.rest_of(head).await,
        }
    }
}

fn get(lines: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: shop\r\n{lines}\r\n")
}

#[test]
fn a_fresh_response_answers_without_a_worker() {
    local(async {
        let (bed, worker) = Bed::caching();
        let (_, (head, body)) = bed.through(&worker, &get(""), FRESH).await;
        assert_eq!((status(&head), &*body), (200, "0123456789"));
        assert_eq!(field(&head, "cache-status"), Some("watt; fwd=uri-miss; stored"));
        let (head, body) = bed.stored(&get("")).await;
        assert_eq!((status(&head), &*body, field(&head, "age")), (200, "0123456789", Some("0")));
        assert_eq!(field(&head, "cache-status"), Some("watt; hit; ttl=60"));
        let (head, body) = bed.stored("HEAD /x HTTP/1.1\r\nHost: SHOP:80\r\n\r\n").await;
        assert_eq!((field(&head, "content-length"), &*body), (Some("10"), ""));
        let (head, body) = bed.stored(&get("Range: bytes=2-4\r\n")).await;
        assert_eq!((status(&head), &*body), (206, "234"));
        assert_eq!(field(&head, "content-range"), Some("bytes 2-4/10"));
        let (head, _) = bed.stored(&get("If-None-Match: \"b\", W/\"a\"\r\n")).await;
        assert_eq!((status(&head), field(&head, "etag")), (304, Some("\"a\"")));
        let (head, _) = bed.stored(&get("Range: bytes=10-\r\n")).await;
        assert_eq!((status(&head), field(&head, "content-range")), (416, Some("bytes */10")));
        let expected = CacheCounts { hits: 5, misses: 1, stored: 1, ..CacheCounts::default() };
        assert_eq!(bed.cached(), expected);
        assert_eq!(bed.thread.counts()["api"].requests, 1);
    });
}

#[test]
fn a_request_for_another_thing_is_not_answered_by_it() {
    local(async {
        let (bed, worker) = Bed::caching();
        bed.through(&worker, &get(""), FRESH).await;
        for request in [
            "GET /y HTTP/1.1\r\nHost: shop\r\n\r\n",
            "GET /x? HTTP/1.1\r\nHost: shop\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: other\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: shop\r\nCache-Control: no-cache\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: shop\r\nIf-Match: \"a\"\r\n\r\n",
            "GET /x HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        ] {
            let (_, (_, body)) = bed.through(&worker, request, OK).await;
            assert_eq!(body, "ok", "{request}");
        }
        let mut client =
            bed.ask("GET /z HTTP/1.1\r\nHost: shop\r\nCache-Control: only-if-cached\r\n\r\n").await;
        assert_eq!(client.failure().await, (504, "not_cached".into()));
    });
}

#[test]
fn what_is_for_one_client_is_not_for_another() {
    local(async {
        let (bed, worker) = Bed::caching();
        for (request, response) in [
            ("Authorization: Basic x\r\n", "Cache-Control: max-age=60\r\n"),
            ("", "Cache-Control: private, max-age=60\r\n"),
            ("Cookie: a=b\r\n", "ETag: \"a\"\r\n"),
            ("", "Cache-Control: max-age=60\r\nSet-Cookie: id=1\r\n"),
            ("Cache-Control: no-store\r\n", "Cache-Control: max-age=60\r\n"),
            ("", "Cache-Control: max-age=60\r\nVary: *\r\n"),
            ("", "Cache-Control: max-age=60\r\nContent-Type: text/event-stream\r\n"),
        ] {
            let response = format!("HTTP/1.1 200 OK\r\n{response}Content-Length: 2\r\n\r\nok");
            for _ in 0..2 {
                let (_, (head, _)) = bed.through(&worker, &get(request), &response).await;
                assert!(field(&head, "cache-status").unwrap().contains("detail="), "{head}");
            }
        }
        let public = "HTTP/1.1 200 OK\r\nCache-Control: public, max-age=60\r\nSet-Cookie: id=1\r\nContent-Length: 2\r\n\r\nok";
        let (_, (head, _)) = bed.through(&worker, &get("Authorization: Basic x\r\n"), public).await;
        assert_eq!(field(&head, "set-cookie"), Some("id=1"), "the client whose it is gets it");
        let (head, body) = bed.stored(&get("")).await;
        assert_eq!((field(&head, "set-cookie"), &*body), (None, "ok"));
    });
}

#[test]
fn what_a_response_is_chosen_by_has_to_be_the_same() {
    local(async {
        let (bed, worker) = Bed::caching_with(|rules| rules.vary = vec!["x-tenant".into()]);
        let in_language = |language: &str| {
            format!(
                "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nVary: Accept-Language\r\nContent-Length: 2\r\n\r\n{language}"
            )
        };
        let asked = |language: &str, tenant: &str| {
            get(&format!("Accept-Language: {language}\r\nX-Tenant: {tenant}\r\n"))
        };
        bed.through(&worker, &asked("en", "a"), &in_language("en")).await;
        let (_, (head, _)) = bed.through(&worker, &asked("de", "a"), &in_language("de")).await;
        assert_eq!(field(&head, "cache-status"), Some("watt; fwd=vary-miss; stored"));
        bed.through(&worker, &asked("de", "b"), &in_language("DE")).await;
        for (language, tenant, expected) in [("en", "a", "en"), ("DE", "a", "de"), ("de", "b", "DE")] {
            assert_eq!(bed.stored(&asked(language, tenant)).await.1, expected);
        }
    });
}

#[test]
fn a_stale_response_is_asked_for_and_what_is_new_of_it_is_kept() {
    local(async {
        let (bed, worker) = Bed::caching();
        let stale = FRESH.replace("max-age=60", "max-age=60, no-cache").replace("ETag", "X-A: 1\r\nETag");
        bed.through(&worker, &get(""), &stale).await;
        let client = get("If-None-Match: \"other\"\r\nRange: bytes=0-1\r\n");
        let news = "HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=30\r\nX-A: 2\r\nSet-Cookie: a=b\r\nETag: \"a\"\r\n\r\n";
        let (asked, (head, body)) = bed.through(&worker, &client, news).await;
        assert_eq!((field(&asked, "if-none-match"), field(&asked, "range")), (Some("\"a\""), None));
        assert_eq!((status(&head), &*body, field(&head, "x-a")), (206, "01", Some("2")));
        assert_eq!(field(&head, "cache-status"), Some("watt; fwd=stale; fwd-status=304; ttl=30"));
        assert_eq!(field(&head, "set-cookie"), Some("a=b"), "it is for this client");
        assert_eq!(bed.cached().validated, 1);
        let (head, body) = bed.stored(&get("")).await;
        assert_eq!(
            (&*body, field(&head, "set-cookie"), field(&head, "x-a")),
            ("0123456789", None, Some("2"))
        );
        assert_eq!(field(&head, "cache-control"), Some("max-age=30"));
    });
}

#[test]
fn a_request_that_changes_something_makes_it_invalid() {
    local(async {
        let (bed, worker) = Bed::caching();
        let post = "POST /x HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n";
        let failed = "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n";
        let created = "HTTP/1.1 201 Created\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n";
        let y = "GET /y HTTP/1.1\r\nHost: shop\r\n\r\n";
        bed.through(&worker, &get(""), FRESH).await;
        bed.through(&worker, y, FRESH).await;
        bed.through(&worker, post, failed).await;
        bed.stored(&get("")).await;
        bed.through(&worker, post, created).await;
        for request in [&get("")[..], y] {
            assert_eq!(bed.through(&worker, request, OK).await.1.1, "ok");
        }
    });
}

#[test]
fn what_was_asked_for_before_a_change_is_not_stored_after_it() {
    local(async {
        let (bed, worker) = Bed::caching();
        let mut early = bed.ask(get("")).await;
        let mut wire = worker.asked().await;
        bed.through(&worker, "PUT /x HTTP/1.1\r\nHost: shop\r\nContent-Length: 0\r\n\r\n", OK).await;
        wire.send(FRESH).await;
        assert_eq!(early.response().await.1, "0123456789");
        drop(wire);
        assert_eq!(bed.through(&worker, &get(""), OK).await.1.1, "ok");
    });
}

#[test]
fn half_a_response_is_never_stored() {
    local(async {
        let (bed, worker) = Bed::caching();
        // The worker goes away in the middle.
        let mut client = bed.ask(get("")).await;
        let mut wire = worker.asked().await;
        wire.send(&FRESH[..FRESH.len() - 3]).await;
        client.head().await;
        drop(wire);
        client.rest().await;
        // The client does.
        let mut client = bed.ask(get("")).await;
        let mut wire = worker.asked().await;
        wire.send(&FRESH[..FRESH.len() - 3]).await;
        client.head().await;
        drop(client);
        wire.send(&FRESH[FRESH.len() - 3..]).await;
        until("it is over", || bed.thread.counts()["api"].in_flight == 0).await;
        drop(wire);
        // Its end cannot be told from an accident.
        let mut client = bed.ask(get("")).await;
        let mut wire = worker.asked().await;
        wire.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\nok").await;
        drop(wire);
        client.head().await;
        assert_eq!(bed.through(&worker, &get(""), OK).await.1.1, "ok");
    });
}

#[test]
fn chunks_are_stored_without_their_framing() {
    local(async {
        let (bed, worker) = Bed::caching();
        let chunked = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\nConnection: x-hop\r\nX-Hop: 1\r\n\r\n\
                       3;a=b\r\n012\r\n7\r\n3456789\r\n0\r\nX-Trailer: 1\r\n\r\n";
        let mut client = bed.ask(get("")).await;
        let mut wire = worker.asked().await;
        wire.send(chunked).await;
        client.head().await;
        client.take(10).await;
        until("it is stored", || bed.cached().stored == 1).await;
        let (head, body) = bed.stored(&get("")).await;
        assert_eq!((&*body, field(&head, "content-length")), ("0123456789", Some("10")));
        assert_eq!((field(&head, "x-hop"), field(&head, "transfer-encoding")), (None, None));
    });
}

#[test]
fn too_large_a_response_goes_to_its_client_alone() {
    local(async {
        let (bed, worker) = Bed::caching_with(|rules| rules.entry_max = 9);
        let (_, (head, body)) = bed.through(&worker, &get(""), FRESH).await;
        assert_eq!(
            (&*body, field(&head, "cache-status")),
            ("0123456789", Some("watt; fwd=uri-miss; detail=too-large"))
        );
        assert_eq!(bed.through(&worker, &get(""), OK).await.1.1, "ok");
    });
}

#[test]
fn a_large_response_comes_out_as_it_went_in() {
    local(async {
        let (bed, worker) = Bed::caching();
        let body: String = (0..50_000).map(|number| format!("{number:010}")).collect();
        let response = format!(
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert!(bed.through(&worker, &get(""), &response).await.1.1 == body);
        assert!(bed.stored(&get("")).await.1 == body);
        assert!(bed.stored(&get("Range: bytes=100000-\r\n")).await.1 == body[100_000..]);
    });
}

#[test]
fn a_stale_response_is_used_while_another_one_is_got() {
    local(async {
        let (bed, worker) = Bed::caching();
        bed.through(&worker, &get(""), &FRESH.replace("max-age=60", "max-age=0, stale-while-revalidate=60"))
            .await;
        let (head, body) = bed.stored(&get("X-Who: first\r\n")).await;
        assert_eq!((&*body, field(&head, "cache-status")), ("0123456789", Some("watt; hit; ttl=0")));
        // One of them gets another one, the others do not.
        bed.stored(&get("X-Who: second\r\n")).await;
        let mut wire = worker.accept().await;
        let asked = wire.head().await;
        assert_eq!((field(&asked, "x-who"), field(&asked, "if-none-match")), (Some("first"), Some("\"a\"")));
        wire.send(FRESH.replace("0123456789", "9876543210")).await;
        until("it is stored", || bed.cached().stored == 2).await;
        assert_eq!(bed.stored(&get("")).await.1, "9876543210");
        assert_eq!(bed.cached().stale, 2);
    });
}

#[test]
fn a_stale_response_covers_errors_where_it_may() {
    local(async {
        let (bed, worker) = Bed::caching();
        let failed = "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno";
        bed.through(&worker, &get(""), &FRESH.replace("max-age=60", "max-age=0, stale-if-error=60")).await;
        let (_, (head, body)) = bed.through(&worker, &get(""), failed).await;
        let told = "watt; fwd=stale; fwd-status=503; detail=stale-if-error; ttl=0";
        assert_eq!((status(&head), &*body, field(&head, "cache-status")), (200, "0123456789", Some(told)));
        bed.change_api(|api| api.workers.clear());
        bed.change_api(|api| api.outlook = watt_api::mesh::Outlook::Stopped);
        let (head, _) = bed.stored(&get("")).await;
        assert_eq!(field(&head, "cache-status"), Some("watt; fwd=stale; detail=stale-if-error; ttl=0"));
        let mut client = bed.ask("GET /y HTTP/1.1\r\nHost: shop\r\n\r\n").await;
        assert_eq!(client.failure().await, (503, "service_stopped".into()));
    });
}

#[test]
fn an_error_goes_through_where_nothing_says_otherwise() {
    local(async {
        let (bed, worker) = Bed::caching();
        let failed = "HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno";
        for control in ["max-age=0", "max-age=0, must-revalidate, stale-if-error=60"] {
            bed.through(&worker, &get(""), &FRESH.replace("max-age=60", control)).await;
            assert_eq!(bed.through(&worker, &get(""), failed).await.1.1, "no", "{control}");
        }
    });
}

#[test]
fn a_route_may_have_its_own_cache_or_none() {
    local(async {
        let (bed, worker) = Bed::caching();
        bed.change(|snapshot| {
            snapshot.routes = vec![
                route("/", "api", None),
                watt_api::mesh::Route { cache: Some(RouteCache::Off), ..route("/off", "api", None) },
                route("/a", "api", Some("/x")),
                route("/b", "api", Some("/x")),
            ];
        });
        for _ in 0..2 {
            let off = "GET /off HTTP/1.1\r\nHost: shop\r\n\r\n";
            let (_, (head, _)) = bed.through(&worker, off, FRESH).await;
            assert_eq!(field(&head, "cache-status"), None);
        }
        for path in ["/a", "/b"] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n");
            bed.through(&worker, &request, FRESH).await;
            bed.stored(&request).await;
        }
        // A rule that has the service see another request is another one, whatever the client's is.
        bed.change(|snapshot| snapshot.routes[2].rewrite = Some("/y".into()));
        let (asked, _) = bed.through(&worker, "GET /a HTTP/1.1\r\nHost: shop\r\n\r\n", OK).await;
        assert!(asked.starts_with("GET /y "), "{asked}");
        bed.stored("GET /b HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    });
}

#[test]
fn headers_of_a_route_are_those_of_each_request() {
    local(async {
        let (bed, worker) = Bed::caching();
        bed.through(&worker, &get(""), FRESH).await;
        bed.change(|snapshot| {
            snapshot.routes[0].response_headers.set = vec![("x-new".into(), "1".into())];
            snapshot.routes[0].response_headers.remove = vec!["etag".into()];
        });
        let (head, _) = bed.stored(&get("")).await;
        assert_eq!((field(&head, "x-new"), field(&head, "etag")), (Some("1"), None));
    });
}

#[test]
fn it_outlives_a_reload_and_ends_when_it_is_turned_off() {
    local(async {
        let (bed, worker) = Bed::caching();
        bed.through(&worker, &get(""), FRESH).await;
        bed.change_api(|api| api.slow_start_ms = 5);
        bed.stored(&get("")).await;
        // Not what was stored under other rules.
        bed.change_api(|api| api.cache = Some(Box::new(Cache { vary: vec!["x-who".into()], ..cache() })));
        bed.through(&worker, &get(""), FRESH).await;
        bed.stored(&get("")).await;
        bed.change_api(|api| api.cache = None);
        let (_, (head, _)) = bed.through(&worker, &get(""), OK).await;
        assert_eq!(field(&head, "cache-status"), None);
        bed.change_api(|api| api.cache = Some(Box::new(cache())));
        assert_eq!(bed.through(&worker, &get(""), OK).await.1.1, "ok");
    });
}

#[test]
fn clients_of_http2_and_services_get_what_is_stored_as_well() {
    local(async {
        let (bed, worker) = Bed::caching();
        bed.through(&worker, &get(""), FRESH).await;
        assert_eq!(bed.h2().await.get("/x").await, (200, "0123456789".into()));
        let request = "GET /x HTTP/1.1\r\nHost: api.plt.local\r\n\r\n";
        let mut caller = bed.caller("web");
        caller.send(request).await;
        let mut wire = worker.asked().await;
        wire.send(FRESH).await;
        caller.response().await;
        drop(wire);
        caller.send(request).await;
        assert_eq!(caller.response().await.1, "0123456789");
    });
}

#[test]
fn what_a_caller_got_no_other_one_gets() {
    local(async {
        let (bed, worker) = Bed::caching();
        let route = watt_api::mesh::Route { cache: Some(RouteCache::Off), ..route("/", "api", None) };
        bed.change(|snapshot| snapshot.routes = vec![route]);
        let ask = async |name: &str, method: &str, is_asked: bool| {
            let mut caller = bed.caller(name);
            caller.send(format!("{method} /x HTTP/1.1\r\nHost: api.plt.local\r\n\r\n")).await;
            if is_asked {
                let mut wire = worker.accept().await;
                assert!(wire.head().await.starts_with(method), "{name}");
                wire.send(FRESH.replace("0123456789", &format!("{name:>10}"))).await;
            }
            caller.response().await.1
        };
        for is_asked in [true, false] {
            for name in ["web", "other"] {
                assert_eq!(ask(name, "GET", is_asked).await, format!("{name:>10}"));
            }
        }
        // What somebody changes is changed for all of them.
        ask("other", "DELETE", true).await;
        ask("web", "GET", true).await;
        ask("other", "GET", true).await;
        // Also along a route by which nothing is stored.
        let change = "POST /x HTTP/1.1\r\nHost: api.plt.local\r\nContent-Length: 0\r\n\r\n";
        let (_, (head, _)) = bed.through(&worker, change, OK).await;
        assert_eq!(field(&head, "cache-status"), None);
        ask("web", "GET", true).await;
    });
}

#[test]
fn memory_is_bounded_whatever_is_asked_for() {
    local(async {
        let (bed, worker) = Bed::caching();
        bed.change(|snapshot| snapshot.cache = limits(100_000));
        let body = "x".repeat(10_000);
        let response =
            format!("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10000\r\n\r\n{body}");
        let response: &'static str = Box::leak(response.into_boxed_str());
        worker.answer(response);
        let mut client = bed.client();
        for number in 0..50 {
            client.send(format!("GET /{number} HTTP/1.1\r\nHost: shop\r\n\r\n")).await;
            assert_eq!(client.response().await.0, 200);
            assert!(bed.thread.cache_bytes() <= 100_000, "{}", bed.thread.cache_bytes());
        }
        assert!(bed.thread.cache_bytes() > 50_000, "{}", bed.thread.cache_bytes());
    });
}

#[test]
fn many_requests_for_one_thing_are_one_to_the_service() {
    local(async {
        let (bed, worker) = Bed::caching();
        let mut first = bed.ask(get("")).await;
        let mut wire = worker.asked().await;
        let mut others = Vec::new();
        for _ in 0..10 {
            others.push(bed.ask(get("")).await);
        }
        // One that is known to want its own does not wait.
        let own = bed.through(&worker, &get("Authorization: Basic x\r\n"), OK).await;
        assert_eq!(own.1.1, "ok");
        wire.send(FRESH).await;
        assert_eq!(first.response().await.1, "0123456789");
        for mut other in others {
            let head = other.head().await;
            assert_eq!(field(&head, "cache-status"), Some("watt; fwd=uri-miss; collapsed; ttl=60"));
            assert_eq!(other.rest_of(&head).await, "0123456789");
        }
        let CacheCounts { hits, collapsed, misses, .. } = bed.cached();
        assert_eq!((hits, collapsed, misses, bed.thread.counts()["api"].requests), (10, 10, 2, 2));
    });
}

#[test]
fn nobody_waits_for_what_is_not_stored() {
    local(async {
        let (bed, worker) = Bed::caching();
        let mut first = bed.ask(get("")).await;
        let mut wire = worker.asked().await;
        let mut second = bed.ask(get("")).await;
        // Its head says that it is for one client alone: then the other one is asked for, while the first one goes on.
        wire.send("HTTP/1.1 200 OK\r\nCache-Control: private\r\nContent-Length: 2\r\n\r\n").await;
        first.head().await;
        let mut other = worker.asked().await;
        other.send(OK.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(second.response().await.1, "ok");
        // From now on none waits for another.
        let mut third = bed.ask(get("")).await;
        let mut fourth = bed.ask(get("")).await;
        let (mut one, mut two) = (worker.asked().await, worker.asked().await);
        one.send(OK).await;
        two.send(OK).await;
        assert_eq!((third.response().await.0, fourth.response().await.0), (200, 200));
    });
}

#[test]
fn a_request_that_is_given_up_holds_up_nobody() {
    local(async {
        let (bed, worker) = Bed::caching();
        let first = bed.ask(get("")).await;
        let wire = worker.asked().await;
        let mut second = bed.ask(get("")).await;
        until("it waits", || bed.thread.connections() == 2).await;
        drop(first);
        let mut other = worker.asked().await;
        other.send(FRESH).await;
        assert_eq!(second.response().await.1, "0123456789");
        drop(wire);
    });
}

#[test]
fn waiting_for_another_request_ends() {
    at_once(async {
        let (bed, worker) = Bed::caching();
        let _first = bed.ask(get("")).await;
        let _wire = worker.asked().await;
        let mut second = bed.ask(get("")).await;
        // The first one is never answered.
        let mut other = worker.asked().await;
        other.send(FRESH).await;
        assert_eq!(second.response().await.1, "0123456789");
    });
}
