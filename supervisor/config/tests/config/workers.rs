//! How many workers there are by what they have to do.

use std::num::NonZeroU32;

use insta::assert_snapshot;
use watt_core::plan::{Targets, Workers};

use crate::{invalid, valid};

fn workers(text: &str) -> Workers {
    let plan = valid(&format!("services: {{a: {{command: x, workers: {text}}}}}")).plan;
    plan.services.into_values().next().unwrap().workers
}

#[test]
fn a_number_or_a_range() {
    assert_eq!(workers("3").to_string(), "3");
    assert_eq!(workers("{max: 4}").to_string(), "1 to 4 (cpu 70%, window 10s, cooldown 60s)");
    let all = "{min: 2, max: 8, target: {cpu: 50, in_flight: 20, latency_p95: 200ms, queue: 5, pressure: 20%}, window: 30s, cooldown: 5m}";
    let all = workers(all);
    let number = NonZeroU32::new;
    let targets = Targets {
        cpu: number(50),
        in_flight: number(20),
        latency_p95: Some(std::time::Duration::from_millis(200)),
        queue: number(5),
        pressure: number(20),
    };
    assert_eq!(all.scaling().unwrap().targets, targets);
    assert_eq!((all.first().get(), all.most().get()), (2, 8));
    let one = workers("{max: 4, target: {in_flight: 20}}");
    assert_eq!(one.scaling().unwrap().targets.cpu, None, "what is written is all that counts");
}

#[test]
fn the_words_of_platformatic() {
    assert_eq!(workers("{static: 3}"), workers("3"));
    assert_eq!(workers("{static: 3, dynamic: false, minimum: 1, maximum: 4}"), workers("3"));
    assert_eq!(workers("{minimum: 2, maximum: 4}"), workers("{min: 2, max: 4}"));
    assert_eq!(workers("{static: 3, dynamic: true, minimum: 2, maximum: 4}"), workers("{min: 2, max: 4}"));
}

#[test]
fn ranges_that_are_none() {
    assert_snapshot!(invalid("services:\n  a: {command: x, workers: {}}\n  b: {command: x, workers: {min: 5, max: 2, window: 1s}}\n  c: {command: x, workers: {static: 2, max: 4}}\n  d: {command: x, workers: {dynamic: false}}\n  e: {command: x, workers: {min: 1, minimum: 2, max: 0}}\n"), @r#"
    error: `max` is missing
     --> watt.yaml:2:19
      |
    2 |   a: {command: x, workers: {}}
      |                   ^^^^^^^
      = hint: for example `max: 8`

    error: 2 workers at most are fewer than 5 at least
     --> watt.yaml:3:42
      |
    3 |   b: {command: x, workers: {min: 5, max: 2, window: 1s}}
      |                                          ^
      = hint: `min` is at most `max`

    error: what is measured once a second needs 2 seconds at least
     --> watt.yaml:3:53
      |
    3 |   b: {command: x, workers: {min: 5, max: 2, window: 1s}}
      |                                                     ^^
      = hint: write `2s`

    error: `max` has no use beside `static`
     --> watt.yaml:4:40
      |
    4 |   c: {command: x, workers: {static: 2, max: 4}}
      |                                        ^^^
      = hint: remove one of them, or write `dynamic: true`

    error: `static` is missing
     --> watt.yaml:5:19
      |
    5 |   d: {command: x, workers: {dynamic: false}}
      |                   ^^^^^^^
      = hint: for example `static: 2`

    error: `min` and `minimum` are the same, and both are written
     --> watt.yaml:6:46
      |
    6 |   e: {command: x, workers: {min: 1, minimum: 2, max: 0}}
      |                                              ^
      = hint: remove one of them

    error: 0 is out of range
     --> watt.yaml:6:54
      |
    6 |   e: {command: x, workers: {min: 1, minimum: 2, max: 0}}
      |                                                      ^
      = hint: between 1 and 1000
    "#);
}

#[test]
fn targets_that_are_none() {
    assert_snapshot!(invalid("services:\n  a: {command: x, listen: none, workers: {max: 2, target: {in_flight: 2, cpu: 120%}}}\n  b: {command: x, workers: {max: 2, target: {latency_p95: 0, latency: 2s}, scaleUpELU: 0.8}}\n  c: {command: x, dynamicWorkers: true}\n"), @r#"
    error: `in_flight` is of requests, and this service does not listen
     --> watt.yaml:2:60
      |
    2 |   a: {command: x, listen: none, workers: {max: 2, target: {in_flight: 2, cpu: 120%}}}
      |                                                            ^^^^^^^^^
      = hint: write `cpu` or `pressure`

    error: `120%` is not a part of the whole
     --> watt.yaml:2:79
      |
    2 |   a: {command: x, listen: none, workers: {max: 2, target: {in_flight: 2, cpu: 120%}}}
      |                                                                               ^^^^
      = hint: write a whole number from `1%` to `100%`

    error: no answer begins in no time
     --> watt.yaml:3:59
      |
    3 |   b: {command: x, workers: {max: 2, target: {latency_p95: 0, latency: 2s}, scaleUpELU: 0.8}}
      |                                                           ^
      = hint: write a longer time

    error: unknown key `latency` in `services.b.workers.target`
     --> watt.yaml:3:62
      |
    3 |   b: {command: x, workers: {max: 2, target: {latency_p95: 0, latency: 2s}, scaleUpELU: 0.8}}
      |                                                              ^^^^^^^
      = hint: write `latency_p95`

    error: unknown key `scaleUpELU` in `services.b.workers`
     --> watt.yaml:3:76
      |
    3 |   b: {command: x, workers: {max: 2, target: {latency_p95: 0, latency: 2s}, scaleUpELU: 0.8}}
      |                                                                            ^^^^^^^^^^
      = hint: write `target: { cpu: 80% }`: an event loop that is busy uses a CPU

    error: unknown key `dynamicWorkers` in `services.c`
     --> watt.yaml:4:19
      |
    4 |   c: {command: x, dynamicWorkers: true}
      |                   ^^^^^^^^^^^^^^
      = hint: write `workers: { min: 1, max: 4 }`
    "#);
}

#[test]
fn no_worker_at_all() {
    let none = workers("{min: 0, max: 2}");
    assert_eq!(none.to_string(), "0 to 2 (cpu 70%, window 10s, cooldown 60s, idle 300s)");
    assert!(none.may_sleep() && !workers("{max: 2}").may_sleep());
    assert_eq!((none.first().get(), none.scaling().unwrap().needs_proxy()), (1, true));
    let told = |service: &str| invalid(&format!("services: {{a: {{command: x, {service}}}}}")).to_string();
    let deaf = told("listen: none, workers: {min: 0, max: 2}");
    assert!(deaf.contains("no request would start a worker") && deaf.contains("write `min: 1`"), "{deaf}");
    let idle = told("workers: {max: 2, idle: 5m}");
    assert!(idle.contains("there is always a worker") && idle.contains("write `min: 0`"), "{idle}");
    let at_once = told("workers: {min: 0, max: 2, idle: 0}");
    assert!(at_once.contains("a worker that goes at once answers nothing"), "{at_once}");
}
