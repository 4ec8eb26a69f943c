//! Timeouts and repetitions of requests.

use std::{num::NonZeroU32, time::Duration};

use insta::assert_snapshot;
use watt_core::{
    ServiceId,
    plan::{Believed, Breaker, Bulkhead, Failure, Retries, Service},
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
    assert_eq!(short.traffic.bulkhead.map(|rules| rules.in_flight_max), Some(7));
    let on = [Failure::Connect, Failure::Reset, Failure::Timeout, Failure::Status(500, 599)];
    assert_eq!(short.traffic.breaker.map(|rules| rules.on), Some(on.to_vec()));
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
