//! Timeouts and repetitions of requests.

use std::{num::NonZeroU32, time::Duration};

use insta::assert_snapshot;
use watt_core::{
    ServiceId,
    plan::{Balance, Believed, Breaker, Bulkhead, Ejection, Failure, HashKey, Retries, Service},
};

use crate::{invalid, valid};

fn service(keys: &str) -> Service {
    let config = valid(&format!("services:\n  a: {{command: x, {keys}}}"));
    config.plan.services[&ServiceId::new("a").unwrap()].clone()
}

#[test]
fn what_is_not_written_is_the_models() {
    let service = service("listen: auto");
    assert_eq!(service.traffic.retries, Retries::default());
    assert_eq!(service.traffic.ejection, Some(Ejection::default()));
    assert_eq!((service.timeouts.per_try, service.timeouts.total), (None, None));
}

#[test]
fn times_and_repetitions() {
    let service = service(
        "timeouts: {per_try: 1s, total: 2500ms}, retries: {attempts: 5, on: [reset, timeout, 429, 502-504], methods: [GET, PATCH], backoff: 0s}",
    );
    assert_eq!(service.timeouts.per_try, Some(Duration::from_secs(1)));
    assert_eq!(service.timeouts.total, Some(Duration::from_millis(2_500)));
    let expected = Retries {
        attempts: 5,
        on: vec![Failure::Reset, Failure::Timeout, Failure::Status(429, 429), Failure::Status(502, 504)],
        methods: Some(vec!["GET".into(), "PATCH".into()]),
        backoff: Duration::ZERO,
    };
    assert_eq!(service.traffic.retries, expected);
}

#[test]
fn which_worker_gets_a_request() {
    let balance = |written: &str| service(&format!("balance: {written}")).traffic.balance.clone();
    assert_eq!(service("listen: auto").traffic.balance, Balance::TwoChoices);
    for (written, expected) in [
        ("p2c", Balance::TwoChoices),
        ("round_robin", Balance::RoundRobin),
        ("{by: least_latency}", Balance::LeastLatency),
        ("hash", Balance::Hash(HashKey::Address)),
        ("{by: hash, of: path}", Balance::Hash(HashKey::Path)),
        ("{by: hash, header: X-Tenant}", Balance::Hash(HashKey::Header("x-tenant".into()))),
        ("{by: hash, cookie: cart}", Balance::Hash(HashKey::Cookie("cart".into()))),
        ("sticky", Balance::Sticky("a_worker".into())),
        ("{by: sticky, cookie: home}", Balance::Sticky("home".into())),
    ] {
        assert_eq!(balance(written), expected, "{written}");
    }
}

#[test]
fn ways_to_choose_a_worker_that_make_no_sense() {
    assert_snapshot!(invalid("services:\n  a:\n    command: x\n    balance: random\n  b:\n    command: x\n    balance: {by: round_robin, header: X-Tenant}\n  c:\n    command: x\n    balance: {by: hash, of: path, header: Connection, cookie: a b}\n  d:\n    command: x\n    balance: {by: sticky, cookie: x, of: path, weight: 3}\n  e:\n    command: x\n    balance: {by: sticky, cookie: x}\n"), @r"
error: `random` is not understood here
 --> watt.yaml:4:14
  |
4 |     balance: random
  |              ^^^^^^
  = hint: one of `p2c`, `round_robin`, `least_latency`, `hash`, `sticky`

error: `header` is for `hash`, and this is `round_robin`
 --> watt.yaml:7:32
  |
7 |     balance: {by: round_robin, header: X-Tenant}
  |                                ^^^^^^
  = hint: write `by: hash`, or remove `header`

error: `of` and `header` at once
  --> watt.yaml:10:35
   |
10 |     balance: {by: hash, of: path, header: Connection, cookie: a b}
   |                                   ^^^^^^
   = hint: one of them decides which worker it is

error: `Connection` is the connection's or the proxy's own, and a client may write anything there
  --> watt.yaml:10:43
   |
10 |     balance: {by: hash, of: path, header: Connection, cookie: a b}
   |                                           ^^^^^^^^^^
   = hint: name one of the client's own, for example `X-Tenant`

error: `header` and `cookie` at once
  --> watt.yaml:10:55
   |
10 |     balance: {by: hash, of: path, header: Connection, cookie: a b}
   |                                                       ^^^^^^
   = hint: one of them decides which worker it is

error: `a b` is not the name of a cookie
  --> watt.yaml:10:63
   |
10 |     balance: {by: hash, of: path, header: Connection, cookie: a b}
   |                                                               ^^^
   = hint: for example `canary`

error: `of` is for `hash`, and this is `sticky`
  --> watt.yaml:13:38
   |
13 |     balance: {by: sticky, cookie: x, of: path, weight: 3}
   |                                      ^^
   = hint: write `by: hash`, or remove `of`

error: unknown key `weight` in `services.d.balance`
  --> watt.yaml:13:48
   |
13 |     balance: {by: sticky, cookie: x, of: path, weight: 3}
   |                                                ^^^^^^
   = hint: write `services: { NAME: WEIGHT }` into a route: the workers of a service are all alike

error: the cookie `x` says two things
  --> watt.yaml:14:3
   |
14 |   e:
   |   ^
   = note: the other one is here
  --> watt.yaml:11:3
   |
11 |   d:
   |   ^
   = hint: write `balance: { by: sticky, cookie: … }` with a name of its own
");
}

#[test]
fn workers_that_fail() {
    let ejection = |written: &str| service(&format!("ejection: {written}")).traffic.ejection.clone();
    assert_eq!(ejection("never"), None);
    assert_eq!(ejection("{failures: never}"), None);
    assert_eq!(ejection("9"), Some(Ejection { failures: 9, ..Ejection::default() }));
    let on = vec![Failure::Reset, Failure::Status(500, 599)];
    let (first, max) = (Duration::from_secs(1), Duration::from_secs(60));
    let expected = Ejection { on, first, max, ..Ejection::default() };
    assert_eq!(ejection("{on: [reset, 500-599], first: 1s, max: 1m}"), Some(expected));
    assert_snapshot!(invalid("services:\n  a:\n    command: x\n    ejection: often\n  b:\n    command: x\n    ejection: {on: [], first: 1ms, max: 0}\n  c:\n    command: x\n    ejection: {failures: 0, first: 10m, fail_timeout: 1s}\n"), @r"
error: `often` is not a whole number
 --> watt.yaml:4:15
  |
4 |     ejection: often
  |               ^^^^^
  = hint: a number such as `5`, or `never`

error: an ejection that takes nothing for a failure never happens
 --> watt.yaml:7:20
  |
7 |     ejection: {on: [], first: 1ms, max: 0}
  |                    ^^
  = hint: leave `on` out, or name what is a failure

error: `first` is shorter than a second
 --> watt.yaml:7:31
  |
7 |     ejection: {on: [], first: 1ms, max: 0}
  |                               ^^^
  = hint: for example `5s`

error: the first time is longer than the longest
 --> watt.yaml:7:31
  |
7 |     ejection: {on: [], first: 1ms, max: 0}
  |                               ^^^
  = hint: `first` is at most `max`

error: `max` is shorter than a second
 --> watt.yaml:7:41
  |
7 |     ejection: {on: [], first: 1ms, max: 0}
  |                                         ^
  = hint: for example `5s`

error: 0 is out of range
  --> watt.yaml:10:26
   |
10 |     ejection: {failures: 0, first: 10m, fail_timeout: 1s}
   |                          ^
   = hint: between 1 and 1000

error: the first time is longer than the longest
  --> watt.yaml:10:36
   |
10 |     ejection: {failures: 0, first: 10m, fail_timeout: 1s}
   |                                    ^^^
   = hint: `first` is at most `max`

error: unknown key `fail_timeout` in `services.c.ejection`
  --> watt.yaml:10:41
   |
10 |     ejection: {failures: 0, first: 10m, fail_timeout: 1s}
   |                                         ^^^^^^^^^^^^
   = hint: write `first`
");
}

#[test]
fn breakers_and_bulkheads() {
    let service = service(
        "breaker: {failures: 4, ratio: 25%, on: [reset, 503]}, bulkhead: {in_flight: 5, priority: everybody}",
    );
    let expected = Breaker {
        failures: NonZeroU32::new(4),
        ratio_percent: 25,
        requests_min: 20,
        window: Duration::from_secs(10),
        open: Duration::from_secs(5),
        probes: 1,
        on: vec![Failure::Reset, Failure::Status(503, 503)],
    };
    assert_eq!(service.traffic.breaker, Some(expected));
    let expected = Bulkhead {
        in_flight_max: 5,
        queue_max: 100,
        queue_timeout: Duration::from_secs(1),
        believes: Believed::Everybody,
    };
    assert_eq!(service.traffic.bulkhead, Some(expected));
    let short = self::service("bulkhead: 7, breaker: {}");
    assert_eq!(short.traffic.bulkhead.as_ref().map(|rules| rules.in_flight_max), Some(7));
    let on = [Failure::Connect, Failure::Reset, Failure::Timeout, Failure::Status(500, 599)];
    assert_eq!(short.traffic.breaker.as_ref().map(|rules| &rules.on[..]), Some(&on[..]));
}

#[test]
fn breakers_and_bulkheads_that_make_no_sense() {
    assert_snapshot!(invalid("services:\n  a:\n    command: x\n    breaker: {on: [], open: 1ms}\n    bulkhead: {queue: 5, priority: me}\n  b:\n    command: x\n    bulkhead: 0\n  c:\n    command: x\n    bulkhead: {in_flight: 1, queue_timeout: 0s}\n"), @r"
error: a breaker that takes nothing for a failure never opens
 --> watt.yaml:4:19
  |
4 |     breaker: {on: [], open: 1ms}
  |                   ^^
  = hint: leave `on` out, or name what is a failure

error: `open` is shorter than a second
 --> watt.yaml:4:29
  |
4 |     breaker: {on: [], open: 1ms}
  |                             ^^^
  = hint: for example `5s`

error: `in_flight` is missing
 --> watt.yaml:5:5
  |
5 |     bulkhead: {queue: 5, priority: me}
  |     ^^^^^^^^
  = hint: for example `in_flight: 100`

error: `me` is not understood here
 --> watt.yaml:5:36
  |
5 |     bulkhead: {queue: 5, priority: me}
  |                                    ^^
  = hint: one of `nobody`, `services`, `everybody`

error: 0 is out of range
 --> watt.yaml:8:15
  |
8 |     bulkhead: 0
  |               ^
  = hint: between 1 and 1000000

error: who may not wait at all is not in a queue
  --> watt.yaml:11:45
   |
11 |     bulkhead: {in_flight: 1, queue_timeout: 0s}
   |                                             ^^
   = hint: write `queue: 0`, so that nobody waits
");
}

#[test]
fn times_and_repetitions_that_make_no_sense() {
    assert_snapshot!(invalid("services:\n  a:\n    command: x\n    timeouts: {per_try: 3s, total: 2s}\n  b:\n    command: x\n    timeouts: {total: 0, request: 1s}\n    retries: {attempts: 0, on: [conect, 600], methods: [post, G T], statuses: [503]}\n"), @r"
error: one try may take longer than the whole request
 --> watt.yaml:4:25
  |
4 |     timeouts: {per_try: 3s, total: 2s}
  |                         ^^
  = hint: `per_try` is at most `total`

error: with `total` of no time, no request succeeds
 --> watt.yaml:7:23
  |
7 |     timeouts: {total: 0, request: 1s}
  |                       ^
  = hint: write a longer time, or remove it

error: unknown key `request` in `services.b.timeouts`
 --> watt.yaml:7:26
  |
7 |     timeouts: {total: 0, request: 1s}
  |                          ^^^^^^^
  = hint: write `total`

error: 0 is out of range
 --> watt.yaml:8:25
  |
8 |     retries: {attempts: 0, on: [conect, 600], methods: [post, G T], statuses: [503]}
  |                         ^
  = hint: between 1 and 10

error: `conect` is not understood here
 --> watt.yaml:8:33
  |
8 |     retries: {attempts: 0, on: [conect, 600], methods: [post, G T], statuses: [503]}
  |                                 ^^^^^^
  = hint: did you mean `connect`?

error: `600` is not a status of HTTP
 --> watt.yaml:8:41
  |
8 |     retries: {attempts: 0, on: [conect, 600], methods: [post, G T], statuses: [503]}
  |                                         ^^^
  = hint: one from 200 to 599, or the lowest and the highest such as `200-299`

error: `post` is written in other letters than methods are
 --> watt.yaml:8:57
  |
8 |     retries: {attempts: 0, on: [conect, 600], methods: [post, G T], statuses: [503]}
  |                                                         ^^^^
  = hint: write `POST`

error: `G T` is not a method
 --> watt.yaml:8:63
  |
8 |     retries: {attempts: 0, on: [conect, 600], methods: [post, G T], statuses: [503]}
  |                                                               ^^^
  = hint: for example `POST`

error: unknown key `statuses` in `services.b.retries`
 --> watt.yaml:8:69
  |
8 |     retries: {attempts: 0, on: [conect, 600], methods: [post, G T], statuses: [503]}
  |                                                                     ^^^^^^^^
  = hint: write them into `on`
");
}
