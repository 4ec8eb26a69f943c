//! The cache of responses.

use std::time::Duration;

use insta::assert_snapshot;
use watt_core::{
    ServiceId,
    plan::{Believed, Cache, CacheCookies, CacheStore, RouteCache},
};

use crate::{invalid, valid};

fn usual() -> Cache {
    Cache {
        head: true,
        entry_max: 1 << 20,
        ttl: None,
        heuristic_percent: 0,
        stale_while_revalidate: Duration::ZERO,
        stale_if_error: Duration::ZERO,
        vary: Vec::new(),
        tags: "cache-tag".into(),
        cookies: CacheCookies::Refuse,
        believes: Believed::Services,
    }
}

#[test]
fn it_is_off_unless_somebody_wants_it() {
    let config = valid(
        "services:\n  a: {command: x}\n  b: {command: x, cache: true}\n  c: {command: x, cache: {}}\n  d: {command: x, cache: false}\n\
         gateway:\n  routes:\n    - {path: /a, service: a, cache: true}\n    - {path: /b, service: b, cache: false}\n    - {path: /, service: b}\n",
    );
    let of = |name: &str| config.plan.services[&ServiceId::new(name).unwrap()].cache.clone();
    assert_eq!((of("a"), of("b"), of("c"), of("d")), (None, Some(usual()), Some(usual()), None));
    let of_routes: Vec<_> = config.plan.routes.iter().map(|route| route.cache.clone()).collect();
    assert_eq!(of_routes, [Some(RouteCache::On(usual())), Some(RouteCache::Off), None]);
    assert_eq!(config.plan.cache, CacheStore { bytes_max: 64 << 20, entries_max: 1_000_000 });
}

#[test]
fn all_of_it() {
    let config = valid(
        "cache: {size: 1G, entries: 5}\nservices:\n  a:\n    command: x\n    cache: {methods: [GET], max_size: 2M, ttl: 90s, heuristic: 10%, stale_while_revalidate: 1s, \
         stale_if_error: 1h, vary: [X-Tenant], tags: Surrogate-Key, set_cookie: strip, request_directives: everybody}\n",
    );
    let expected = Cache {
        head: false,
        entry_max: 2 << 20,
        ttl: Some(Duration::from_secs(90)),
        heuristic_percent: 10,
        stale_while_revalidate: Duration::from_secs(1),
        stale_if_error: Duration::from_secs(3600),
        vary: vec!["x-tenant".into()],
        tags: "surrogate-key".into(),
        cookies: CacheCookies::Strip,
        believes: Believed::Everybody,
    };
    assert_eq!(config.plan.services[&ServiceId::new("a").unwrap()].cache, Some(expected));
    assert_eq!(config.plan.cache, CacheStore { bytes_max: 1 << 30, entries_max: 5 });
}

#[test]
fn what_makes_no_sense() {
    assert_snapshot!(invalid("cache: {size: 1K, maxCount: 5}\nservices:\n  a:\n    command: x\n    cache: {methods: [HEAD], vary: [\"a b\"], cacheByDefault: 5}\n  b:\n    command: x\n    cache: maybe\n\
        gateway:\n  routes:\n    - {path: /, redirect: /x, cache: true}\nhttpCache: true\n"), @r#"
error: less than a megabyte has no room for responses
 --> watt.yaml:1:15
  |
1 | cache: {size: 1K, maxCount: 5}
  |               ^^
  = hint: for example `64M`; without `cache` in services nothing is stored

error: unknown key `maxCount` in `cache`
 --> watt.yaml:1:19
  |
1 | cache: {size: 1K, maxCount: 5}
  |                   ^^^^^^^^
  = hint: write `entries`

error: without `GET` nothing is stored
 --> watt.yaml:5:22
  |
5 |     cache: {methods: [HEAD], vary: ["a b"], cacheByDefault: 5}
  |                      ^^^^^^
  = hint: write `[GET]` or `[GET, HEAD]`, or `cache: false`

error: `a b` is not the name of a header
 --> watt.yaml:5:37
  |
5 |     cache: {methods: [HEAD], vary: ["a b"], cacheByDefault: 5}
  |                                     ^^^^^
  = hint: for example `X-Tenant`

error: unknown key `cacheByDefault` in `services.a.cache`
 --> watt.yaml:5:45
  |
5 |     cache: {methods: [HEAD], vary: ["a b"], cacheByDefault: 5}
  |                                             ^^^^^^^^^^^^^^
  = hint: write `ttl`

error: `maybe` is neither `true` nor `false`
 --> watt.yaml:8:12
  |
8 |     cache: maybe
  |            ^^^^^

error: `cache` has no effect: no service sees the request
  --> watt.yaml:11:31
   |
11 |     - {path: /, redirect: /x, cache: true}
   |                               ^^^^^
   = hint: remove it

error: unknown key `httpCache`
  --> watt.yaml:12:1
   |
12 | httpCache: true
   | ^^^^^^^^^
   = hint: write `cache` into the services whose responses are to be stored; how much is `cache` here
"#);
}
