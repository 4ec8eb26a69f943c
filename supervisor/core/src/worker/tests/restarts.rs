//! Waits and giving up, over any lives of a worker and any policy, against a model that has nothing in common with the code but the words of
//! docs/lifecycle.md.

use proptest::prelude::*;

use super::*;

/// One life: how long after the last end's consequence it begins, and how long it is ready; `None`: it never is.
#[derive(Debug, Clone, Copy)]
struct Life {
    late_ms: u64,
    ready_ms: Option<u64>,
    jitter: u32,
}

fn life() -> impl Strategy<Value = Life> {
    let time = prop_oneof![Just(0), 1u64..1_000, 1_000u64..100_000];
    (time.clone(), prop::option::of(time), 0u32..=1_000).prop_map(|(late_ms, ready_ms, jitter)| Life {
        late_ms,
        ready_ms,
        jitter,
    })
}

fn policy() -> impl Strategy<Value = Restart> {
    let time = || prop_oneof![Just(1u64), 1u64..1_000, 1_000u64..100_000].prop_map(Duration::from_millis);
    (time(), time(), time(), 0u32..6, time(), prop::option::of(time())).prop_map(
        |(first, max, healthy, failures, within, retry)| Restart {
            policy: RestartPolicy::Always,
            backoff_first: first,
            backoff_max: max,
            healthy_after: healthy,
            give_up_failures: failures,
            give_up_within: within,
            retry_failed_after: retry,
            order: RestartOrder::StartFirst,
        },
    )
}

/// What follows an end, in nanoseconds.
#[derive(Debug, PartialEq)]
enum Next {
    AtOnce,
    /// Between these.
    Wait(u128, u128),
    /// After so many; tried again after this.
    GivenUp(u32, Option<u128>),
}

/// The times of the failures that count, and how many there were in a row.
#[derive(Default)]
struct Model {
    ends: Vec<u128>,
    row: u32,
}

impl Model {
    fn end(&mut self, policy: &Restart, at: u128, ready: Option<u128>) -> Next {
        let (healthy, within) = (policy.healthy_after.as_nanos(), policy.give_up_within.as_nanos());
        let is_healthy = ready.is_some_and(|ready| ready >= healthy);
        self.row = if is_healthy { 0 } else { self.row + 1 };
        // Lives of that length cannot be too many in the window by themselves.
        let part = within / u128::from(policy.give_up_failures.max(1));
        if is_healthy && ready.is_some_and(|ready| ready >= part) {
            self.ends.clear();
        }
        self.ends.push(at);
        let failures = self.ends.iter().filter(|end| at - **end < within).count() as u32;
        if policy.give_up_failures > 0 && failures >= policy.give_up_failures {
            return Next::GivenUp(failures, policy.retry_failed_after.map(|wait| wait.as_nanos()));
        }
        if self.row == 0 {
            return Next::AtOnce;
        }
        let mut wait = policy.backoff_first.as_nanos();
        for _ in 1..self.row {
            wait = (wait * 2).min(policy.backoff_max.as_nanos());
        }
        let wait = wait.min(policy.backoff_max.as_nanos());
        Next::Wait(wait * 8 / 10 - 1, wait * 12 / 10 + 1)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn what_follows_an_end_is_as_the_model_has_it(
        policy in policy(),
        lives in prop::collection::vec(life(), 1..40),
    ) {
        let mut bench = Bench::new("waiting");
        let begin = bench.now;
        bench.plan.restart = policy.clone().into();
        let mut model = Model::default();
        for life in lives {
            bench.jitter = f64::from(life.jitter) / 1_000.0;
            bench.now += Duration::from_millis(life.late_ms);
            match life.ready_ms {
                Some(ready) => bench.live(Duration::from_millis(ready)),
                None => bench.fail(),
            }
            let at = bench.now - begin;
            let expected = model.end(&policy, at.as_nanos(), life.ready_ms.map(|ready| u128::from(ready) * 1_000_000));
            let until = |at: Instant| (at - bench.now).as_nanos();
            match (&bench.worker.state, &expected) {
                (State::Waiting, Next::AtOnce) => {}
                (State::Backoff { until: at, failures }, Next::Wait(least, most)) => {
                    prop_assert!((*least..=*most).contains(&until(*at)), "{} {expected:?}", until(*at));
                    prop_assert_eq!(failures.get(), model.row);
                }
                (State::Failed { failures, retry_at }, Next::GivenUp(count, retry)) => {
                    prop_assert_eq!((failures.get(), retry_at.map(until)), (*count, *retry));
                }
                (state, _) => prop_assert!(false, "{state:?} {expected:?}"),
            }
            match bench.worker.state.clone() {
                State::Backoff { until, .. } => {
                    bench.now = until;
                    bench.tick();
                }
                State::Failed { retry_at, .. } => {
                    // Who is tried again after that, by itself or by an operator, has a clean record.
                    model = Model::default();
                    match retry_at {
                        Some(at) => {
                            bench.now = at;
                            bench.tick();
                        }
                        None => drop(bench.feed("start", RUN)),
                    }
                }
                _ => {}
            }
            prop_assert_eq!(bench.describe(), "waiting");
        }
    }
}
