//! What requests have to pass.

use std::{num::NonZeroU64, time::Duration};

use insta::assert_snapshot;
use watt_core::{
    ServiceId,
    plan::{AddressRule, Authority, Cors, CountedBy, Guard, RateLimit},
};

use crate::{invalid, valid};

fn limit(name: &str, requests: u64, per: u64) -> RateLimit {
    let requests = NonZeroU64::new(requests).unwrap();
    let per = Duration::from_secs(per);
    let (of_gateway, header, by) = (false, None, CountedBy::Address);
    RateLimit { name: name.into(), of_gateway, requests, per, burst: requests, header, by }
}

#[test]
fn what_is_not_written_asks_nothing() {
    let config = valid("services: {a: {command: x}}\ngateway: {routes: [{path: /, service: a}]}");
    assert_eq!(config.plan.routes[0].guard, Guard::default());
    assert_eq!(config.plan.services[&ServiceId::new("a").unwrap()].guard, Guard::default());
}

#[test]
fn everything_in_its_places() {
    let config = valid(
        r#"
services: {a: {command: x, body_limit: 1M, rate_limit: [{requests: 5, by: service}, {requests: 6, by: service}]}}
gateway:
  ip: [allow 10.0.0.0/8, "allow 2001:db8::1"]
  body_limit: 2M
  rate_limit: {requests: 600}
  cors: {origins: ["*"]}
  routes:
  - {path: /, service: a}
  - path: /own
    service: a
    ip: []
    body_limit: 3M
    cors:
      origins: [https://App.example.org, "https://*.example.org:8443"]
      methods: [PUT]
      headers: [X-One]
      expose: [ETag]
      credentials: true
      max_age: 10m
    rate_limit:
    - {requests: 100, per: 1s, burst: 7, header: X-Tenant, by: everyone, name: tenant}
    - {requests: 3}
"#,
    );
    let [usual, own] = &config.plan.routes[..] else { panic!("two routes") };
    let allow =
        |address: &str, bits| AddressRule { allows: true, network: Some((address.parse().unwrap(), bits)) };
    assert_eq!(usual.guard.addresses, [allow("10.0.0.0", 8), allow("2001:db8::1", 128)]);
    assert_eq!(usual.guard.body_max, Some(2 << 20));
    assert_eq!(usual.guard.limits, [RateLimit { of_gateway: true, ..limit("address", 600, 60) }]);
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let any = Cors {
        origins: strings(&["*"]),
        methods: strings(&["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]),
        headers: None,
        expose: Vec::new(),
        credentials: false,
        max_age: None,
    };
    assert_eq!(usual.guard.cors, Some(any));
    assert_eq!(own.guard.addresses, []);
    assert_eq!(own.guard.body_max, Some(3 << 20));
    let listed = Cors {
        origins: strings(&["https://app.example.org", "https://*.example.org:8443"]),
        methods: strings(&["PUT"]),
        headers: Some(strings(&["x-one"])),
        expose: strings(&["etag"]),
        credentials: true,
        max_age: Some(Duration::from_secs(600)),
    };
    assert_eq!(own.guard.cors, Some(listed));
    let tenant = RateLimit {
        burst: NonZeroU64::new(7).unwrap(),
        header: Some("x-tenant".into()),
        by: CountedBy::Everyone,
        ..limit("tenant", 100, 1)
    };
    assert_eq!(own.guard.limits, [tenant, limit("address", 3, 60)]);
    let service = &config.plan.services[&ServiceId::new("a").unwrap()].guard;
    assert_eq!(service.body_max, Some(1 << 20));
    let by_service = |name: &str, requests| RateLimit { by: CountedBy::Service, ..limit(name, requests, 60) };
    assert_eq!(service.limits, [by_service("a-service", 5), by_service("a-service-2", 6)]);
}

#[test]
fn a_route_shows_what_it_has_from_the_gateway() {
    let config =
        valid("services: {a: {command: x}}\ngateway:\n  body_limit: 2M\n  routes: [{path: /, service: a}]");
    let shown = config.show_text();
    assert_eq!(shown.matches("body_limit: 2M").count(), 2, "{shown}");
}

#[test]
fn what_makes_no_sense() {
    assert_snapshot!(invalid("services: {a: {command: x, cors: {origins: ['*']}, rate_limit: {limit: 5}}}\ngateway:\n  ip: [10.0.0.0/8, allow 10.0.0.1/8, deny 10.0.0.0/33, allow x, deny all, allow 192.0.2.1, 'allow ::ffff:10.0.0.1']\n  cors: {origins: ['*', https://a.example], credentials: true}\n  rate_limit: [{requests: 1, per: 0}, {requests: 0}, {requests: 1, name: a b}, {requests: 1, name: x}, {requests: 2, name: x}]\n"), @r#"
error: unknown key `cors` in `services.a`
 --> watt.yaml:1:28
  |
1 | services: {a: {command: x, cors: {origins: ['*']}, rate_limit: {limit: 5}}}
  |                            ^^^^
  = hint: write it into `gateway`, or one of its routes

error: unknown key `limit` in `rate_limit`
 --> watt.yaml:1:65
  |
1 | services: {a: {command: x, cors: {origins: ['*']}, rate_limit: {limit: 5}}}
  |                                                                 ^^^^^
  = hint: write `requests`

error: `10.0.0.0/8` says neither `allow` nor `deny`
 --> watt.yaml:3:8
  |
3 |   ip: [10.0.0.0/8, allow 10.0.0.1/8, deny 10.0.0.0/33, allow x, deny all, allow 192.0.2.1, 'allow ::…
  |        ^^^^^^^^^^
  = hint: write `allow` or `deny` before an address, a network or `all`

error: `10.0.0.1/8` has bits after its first 8
 --> watt.yaml:3:20
  |
3 |   ip: [10.0.0.0/8, allow 10.0.0.1/8, deny 10.0.0.0/33, allow x, deny all, allow 192.0.2.1, 'allow ::…
  |                    ^^^^^^^^^^^^^^^^
  = hint: did you mean `10.0.0.0/8`?

error: `10.0.0.0/33` has a wrong length of its network
 --> watt.yaml:3:38
  |
3 | …: [10.0.0.0/8, allow 10.0.0.1/8, deny 10.0.0.0/33, allow x, deny all, allow 192.0.2.1, 'allow ::ffff…
  |                                   ^^^^^^^^^^^^^^^^
  = hint: between 0 and 32

error: `x` is neither an address nor a network
 --> watt.yaml:3:56
  |
3 | …ow 10.0.0.1/8, deny 10.0.0.0/33, allow x, deny all, allow 192.0.2.1, 'allow ::ffff:10.0.0.1']
  |                                   ^^^^^^^
  = hint: for example `192.0.2.7`, `10.0.0.0/8` or `2001:db8::/32`

error: no address comes to this rule
 --> watt.yaml:3:75
  |
3 | … 10.0.0.0/33, allow x, deny all, allow 192.0.2.1, 'allow ::ffff:10.0.0.1']
  |                                   ^^^^^^^^^^^^^^^
  = note: this one is for all
 --> watt.yaml:3:65
  |
3 | ….1/8, deny 10.0.0.0/33, allow x, deny all, allow 192.0.2.1, 'allow ::ffff:10.0.0.1']
  |                                   ^^^^^^^^
  = hint: put it before that one, or remove it

error: `::ffff:10.0.0.1` is an address of IPv4 as IPv6 has it
 --> watt.yaml:3:92
  |
3 | …ow x, deny all, allow 192.0.2.1, 'allow ::ffff:10.0.0.1']
  |                                   ^^^^^^^^^^^^^^^^^^^^^^^
  = hint: write it as IPv4: clients that come so are known by that

error: `*` is all origins, and others are listed beside it
 --> watt.yaml:4:20
  |
4 |   cors: {origins: ['*', https://a.example], credentials: true}
  |                    ^^^
  = hint: keep one or the other

error: with credentials for all origins, any page could act as its visitor
 --> watt.yaml:4:58
  |
4 |   cors: {origins: ['*', https://a.example], credentials: true}
  |                                                          ^^^^
  = note: all of them
 --> watt.yaml:4:20
  |
4 |   cors: {origins: ['*', https://a.example], credentials: true}
  |                    ^^^
  = hint: list the origins that may

error: in no time there is no number of requests
 --> watt.yaml:5:35
  |
5 | … rate_limit: [{requests: 1, per: 0}, {requests: 0}, {requests: 1, name: a b}, {requests: 1, name: x}…
  |                                   ^
  = hint: for example `1m`

error: 0 is out of range
 --> watt.yaml:5:50
  |
5 | …requests: 1, per: 0}, {requests: 0}, {requests: 1, name: a b}, {requests: 1, name: x}, {requests: 2,…
  |                                   ^
  = hint: between 1 and 1000000000

error: `a b` cannot be a limit's name
 --> watt.yaml:5:74
  |
5 | …equests: 0}, {requests: 1, name: a b}, {requests: 1, name: x}, {requests: 2, name: x}]
  |                                   ^^^
  = hint: up to 64 letters, digits, `-`, `_` and `.`

error: two limits are called `x`
 --> watt.yaml:5:124
  |
5 | …1, name: x}, {requests: 2, name: x}]
  |                                   ^
  = note: this is the other one
 --> watt.yaml:5:100
  |
5 | … name: a b}, {requests: 1, name: x}, {requests: 2, name: x}]
  |                                   ^
  = hint: give one of them another name
"#);
    assert_snapshot!(invalid("services: {a: {command: x}}\ngateway:\n  cors: {origins: ['null', example.org, https://example.org/, https://example.org/x, https://example.org:443, 'https://a.*.org'], methods: [get], headers: ['*'], expose: ['a b'], maxAge: 5s}\n  routes:\n  - {path: /, service: a, cors: {credentials: true}, body_limit: big}\n"), @r#"
error: `null` is the origin of any page that hides its own
 --> watt.yaml:3:20
  |
3 |   cors: {origins: ['null', example.org, https://example.org/, https://example.org/x, https://example…
  |                    ^^^^^^
  = hint: list origins with a host

error: `example.org` is not an origin: it has no scheme
 --> watt.yaml:3:28
  |
3 |   cors: {origins: ['null', example.org, https://example.org/, https://example.org/x, https://example…
  |                            ^^^^^^^^^^^
  = hint: for example `https://example.org` or `https://*.example.org`

error: `https://example.org/` is not how browsers write an origin
 --> watt.yaml:3:41
  |
3 | … {origins: ['null', example.org, https://example.org/, https://example.org/x, https://example.org:44…
  |                                   ^^^^^^^^^^^^^^^^^^^^
  = hint: did you mean `https://example.org`?

error: `https://example.org/x` is not an origin, which has no path
 --> watt.yaml:3:63
  |
3 | …ample.org, https://example.org/, https://example.org/x, https://example.org:443, 'https://a.*.org'],…
  |                                   ^^^^^^^^^^^^^^^^^^^^^
  = hint: for example `https://example.org` or `https://*.example.org`

error: `https://example.org:443` is not how browsers write an origin
 --> watt.yaml:3:86
  |
3 | …ple.org/, https://example.org/x, https://example.org:443, 'https://a.*.org'], methods: [get], header…
  |                                   ^^^^^^^^^^^^^^^^^^^^^^^
  = hint: did you mean `https://example.org`?

error: `https://a.*.org` is not an origin: its host is none
 --> watt.yaml:3:111
  |
3 | ….org/x, https://example.org:443, 'https://a.*.org'], methods: [get], headers: ['*'], expose: ['a b']…
  |                                   ^^^^^^^^^^^^^^^^^
  = hint: for example `https://example.org` or `https://*.example.org`

error: `get` is not a method: they are written in capital letters
 --> watt.yaml:3:141
  |
3 | …3, 'https://a.*.org'], methods: [get], headers: ['*'], expose: ['a b'], maxAge: 5s}
  |                                   ^^^
  = hint: did you mean `GET`?

error: `*` is not the name of a header
 --> watt.yaml:3:157
  |
3 | …org'], methods: [get], headers: ['*'], expose: ['a b'], maxAge: 5s}
  |                                   ^^^
  = hint: without `headers` they may set any

error: `a b` is not the name of a header
 --> watt.yaml:3:172
  |
3 | … [get], headers: ['*'], expose: ['a b'], maxAge: 5s}
  |                                   ^^^^^
  = hint: for example `X-Tenant`

error: unknown key `maxAge` in `cors`
 --> watt.yaml:3:180
  |
3 | …headers: ['*'], expose: ['a b'], maxAge: 5s}
  |                                   ^^^^^^
  = hint: write `max_age`

error: `origins` is missing
 --> watt.yaml:5:27
  |
5 |   - {path: /, service: a, cors: {credentials: true}, body_limit: big}
  |                           ^^^^
  = hint: for example `origins: ["https://app.example.org", "https://*.example.com"]`

error: `big` is not a size
 --> watt.yaml:5:66
  |
5 |   - {path: /, service: a, cors: {credentials: true}, body_limit: big}
  |                                                                  ^^^
  = hint: write `64K`, `512M` or `1.5G` (powers of 1024), or a number of bytes
"#);
}

#[test]
fn a_service_may_be_asked_who_may() {
    let config = valid(
        r#"
services: {a: {command: x}, judge: {command: y}}
gateway:
  authority: {service: judge, path: /allow, copy: [X-User], timeout: 2s}
  routes:
  - {path: /, service: a}
  - {path: /open, service: a, authority: off}
  - {path: /own, service: a, authority: {service: judge}}
"#,
    );
    let [usual, open, own] = &config.plan.routes[..] else { panic!("three routes") };
    let judge = Authority {
        service: ServiceId::new("judge").unwrap(),
        path: "/allow".into(),
        copy: vec!["x-user".into()],
        timeout: Duration::from_secs(2),
    };
    assert_eq!(usual.guard.authority.as_ref(), Some(&judge));
    assert_eq!(open.guard.authority, None);
    let timeout = Duration::from_secs(5);
    assert_eq!(own.guard.authority, Some(Authority { path: "/".into(), copy: Vec::new(), timeout, ..judge }));
}

#[test]
fn who_cannot_be_asked() {
    let report = invalid(
        r#"
services: {a: {command: x}}
gateway:
  authority: {service: nobody, timeout: 0s}
  routes:
  - {path: /, service: a}
  - {path: /own, service: a, authority: {copy: [X-Forwarded-User, "a b"], url: /x}}
"#,
    )
    .to_string();
    for expected in [
        "`nobody`",
        "in no time nobody answers",
        "`X-Forwarded-User`",
        "`a b`",
        "write `service`, and `path`",
    ] {
        assert!(report.contains(expected), "{expected}: {report}");
    }
}
