//! Whether a service that fails is asked at all. Pure: time comes in.
//!
//! ```text
//! Closed   ─ failures in a row, or a part of those lately ─▶ Open
//! Open     ─ some time later, with the next request ─▶ HalfOpen
//! HalfOpen ─ so many probes passed ─▶ Closed
//! HalfOpen ─ one failed ─▶ Open
//! ```
//!
//! A probe that takes long holds its place for as long as the breaker was open before, and then another one has its turn: else a client
//! that never ends to send its request could keep everybody out.

use std::time::Duration;

use tokio::time::Instant;
use watt_api::mesh;

use crate::failures::{Failures, Outcome};

/// The time that a ratio is of moves on in so many steps.
const SLOTS: usize = 10;

/// For how long it is open at least: each time is told.
const OPEN_MIN: Duration = Duration::from_secs(1);

/// When it opens, and when it closes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rules {
    /// So many failures in a row; 0 is that they are not counted.
    failures: u32,
    /// Such a part of the requests lately, in percent; 0 is that it is not looked at.
    ratio: u32,
    /// Of so many at least.
    requests_min: u32,
    window: Duration,
    open: Duration,
    probes: u32,
    on: Failures,
}

impl From<&mesh::Breaker> for Rules {
    fn from(rules: &mesh::Breaker) -> Self {
        Rules {
            failures: rules.failures,
            ratio: rules.ratio_percent,
            requests_min: rules.requests_min.max(1),
            window: Duration::from_millis(rules.window_ms.max(SLOTS as u64)),
            open: Duration::from_millis(rules.open_ms).max(OPEN_MIN),
            probes: rules.probes.max(1),
            on: (&rules.on).into(),
        }
    }
}

/// One service's.
#[derive(Debug)]
pub(crate) struct Breaker {
    rules: Rules,
    state: State,
    /// How often the state was another one. What began before says nothing about now.
    epoch: u64,
}

#[derive(Debug)]
enum State {
    Closed {
        /// Failures in a row.
        row: u32,
        lately: Window,
    },
    Open {
        since: Instant,
    },
    HalfOpen {
        under_way: u32,
        passed: u32,
        /// When those that are under way no longer keep others from trying, and how often that was so.
        again: Instant,
        round: u32,
    },
}

/// A request that was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Admitted {
    epoch: u64,
    round: u32,
}

/// What became of the breaker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Why, in words, and for how long.
    Opened {
        why: String,
        length: Duration,
    },
    Closed,
}

impl Breaker {
    pub(crate) fn new(rules: Rules, now: Instant) -> Breaker {
        let lately = Window::new(rules.window, now);
        Breaker { rules, state: State::Closed { row: 0, lately }, epoch: 0 }
    }

    /// Goes by other rules from now on. One that is open stays so: nothing has shown that it may close.
    pub(crate) fn rule(&mut self, rules: Rules, now: Instant) {
        if self.rules == rules {
            return;
        }
        match &mut self.state {
            State::Closed { lately, .. } => *lately = Window::new(rules.window, now),
            State::Open { .. } => {}
            // One has to come that closes it.
            State::HalfOpen { passed, .. } => *passed = (*passed).min(rules.probes - 1),
        }
        self.rules = rules;
    }

    /// Whether it keeps requests out. When its time is over and nobody has come since, it does not.
    pub(crate) fn is_open(&self, now: Instant) -> bool {
        match self.state {
            State::Closed { .. } => false,
            State::Open { since } => now < since + self.rules.open,
            State::HalfOpen { .. } => true,
        }
    }

    /// Whether a request may go on; an error is for how long none may.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<Admitted, Duration> {
        if let State::Open { since } = self.state {
            let left = (since + self.rules.open).saturating_duration_since(now);
            if !left.is_zero() {
                return Err(left);
            }
            self.turn(State::HalfOpen { under_way: 0, passed: 0, again: now + self.rules.open, round: 0 });
        }
        let mut admitted = Admitted { epoch: self.epoch, round: 0 };
        if let State::HalfOpen { under_way, passed, again, round } = &mut self.state {
            if *again <= now {
                (*under_way, *again, *round) = (0, now + self.rules.open, round.wrapping_add(1));
            }
            if under_way.saturating_add(*passed) >= self.rules.probes {
                return Err(again.saturating_duration_since(now));
            }
            *under_way += 1;
            admitted.round = *round;
        }
        Ok(admitted)
    }

    /// What a request came to.
    pub(crate) fn tell(&mut self, admitted: Admitted, outcome: Outcome, now: Instant) -> Option<Change> {
        if admitted.epoch != self.epoch {
            return None;
        }
        let failed = self.rules.on.have(outcome);
        match &mut self.state {
            State::Closed { row, lately } => {
                *row = if failed { row.saturating_add(1) } else { 0 };
                lately.add(failed, now);
                let why = self.rules.why_open(*row, lately).filter(|_| failed)?;
                Some(self.open(why, now))
            }
            // Nothing is let through.
            State::Open { .. } => None,
            State::HalfOpen { .. } if failed => Some(self.open("a probe failed".to_owned(), now)),
            State::HalfOpen { under_way, passed, round, .. } => {
                *under_way -= u32::from(admitted.round == *round);
                *passed += 1;
                if *passed < self.rules.probes {
                    return None;
                }
                let lately = Window::new(self.rules.window, now);
                self.turn(State::Closed { row: 0, lately });
                Some(Change::Closed)
            }
        }
    }

    /// A request ended without having come to anything: its client has gone, for example.
    pub(crate) fn forget(&mut self, admitted: Admitted) {
        if let State::HalfOpen { under_way, round, .. } = &mut self.state
            && (admitted.epoch, admitted.round) == (self.epoch, *round)
        {
            *under_way -= 1;
        }
    }

    fn open(&mut self, why: String, now: Instant) -> Change {
        self.turn(State::Open { since: now });
        Change::Opened { why, length: self.rules.open }
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.epoch += 1;
    }
}

impl Rules {
    fn why_open(&self, row: u32, lately: &Window) -> Option<String> {
        if self.failures > 0 && row >= self.failures {
            return Some(format!("{row} requests in a row failed"));
        }
        let (failed, all) = lately.sums();
        let too_many = self.ratio > 0 && all >= u64::from(self.requests_min);
        let part = failed * 100 >= all * u64::from(self.ratio);
        (too_many && part).then(|| format!("{failed} of the last {all} requests failed"))
    }
}

/// What became of the requests of some time, in steps.
#[derive(Debug)]
struct Window {
    step: Duration,
    start: Instant,
    /// The number of the newest slot since the start.
    newest: u64,
    /// Failures and all, by the remainder of a slot's number.
    slots: [(u64, u64); SLOTS],
}

impl Window {
    fn new(length: Duration, now: Instant) -> Window {
        Window { step: length / SLOTS as u32, start: now, newest: 0, slots: [(0, 0); SLOTS] }
    }

    fn add(&mut self, failed: bool, now: Instant) {
        let number = now.saturating_duration_since(self.start).as_nanos() / self.step.as_nanos().max(1);
        let number = u64::try_from(number).unwrap_or(u64::MAX).max(self.newest);
        for gone in (self.newest + 1..=number).take(SLOTS) {
            self.slots[(gone % SLOTS as u64) as usize] = (0, 0);
        }
        self.newest = number;
        let slot = &mut self.slots[(number % SLOTS as u64) as usize];
        *slot = (slot.0 + u64::from(failed), slot.1 + 1);
    }

    fn sums(&self) -> (u64, u64) {
        self.slots.iter().fold((0, 0), |(failed, all), slot| (failed + slot.0, all + slot.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Outcome = Outcome::Status(200);
    const BAD: Outcome = Outcome::Status(503);

    struct Bench {
        breaker: Breaker,
        now: Instant,
    }

    impl Bench {
        fn new(change: impl FnOnce(&mut mesh::Breaker)) -> Bench {
            let mut rules = mesh::Breaker {
                failures: 0,
                ratio_percent: 0,
                requests_min: 4,
                window_ms: 10_000,
                open_ms: 5_000,
                probes: 1,
                on: mesh::Failures { statuses: vec![(500, 599)], ..mesh::Failures::default() },
            };
            change(&mut rules);
            let now = Instant::now();
            Bench { breaker: Breaker::new((&rules).into(), now), now }
        }

        fn after(&mut self, ms: u64) {
            self.now += Duration::from_millis(ms);
        }

        /// A request with this outcome.
        fn one(&mut self, outcome: Outcome) -> Option<Change> {
            let admitted = self.breaker.admit(self.now).expect("it is let through");
            self.breaker.tell(admitted, outcome, self.now)
        }

        fn is_refused_for(&mut self, ms: u64) -> bool {
            self.breaker.admit(self.now) == Err(Duration::from_millis(ms))
        }
    }

    fn opened(why: &str) -> Option<Change> {
        Some(Change::Opened { why: why.to_owned(), length: Duration::from_secs(5) })
    }

    #[test]
    fn failures_in_a_row_open_it_and_one_success_begins_anew() {
        let mut bench = Bench::new(|rules| rules.failures = 3);
        for outcome in [BAD, BAD, OK, BAD, BAD] {
            assert_eq!(bench.one(outcome), None);
        }
        assert_eq!(bench.one(BAD), opened("3 requests in a row failed"));
        assert!(bench.is_refused_for(5_000));
        bench.after(4_000);
        assert!(bench.is_refused_for(1_000));
    }

    #[test]
    fn a_part_of_those_lately_opens_it_when_they_are_many() {
        let mut bench = Bench::new(|rules| rules.ratio_percent = 50);
        assert_eq!((bench.one(BAD), bench.one(BAD), bench.one(OK)), (None, None, None), "they are too few");
        assert_eq!(bench.one(OK), None, "it opens with a failure");
        assert_eq!(bench.one(BAD), opened("3 of the last 5 requests failed"));
        let mut bench = Bench::new(|rules| rules.ratio_percent = 50);
        (0..3).for_each(|_| drop(bench.one(BAD)));
        bench.after(10_000);
        for _ in 0..3 {
            assert_eq!(bench.one(BAD), None, "those before are too long ago");
        }
        bench.after(100_000_000);
        assert_eq!(bench.one(BAD), None);
        assert_eq!(bench.breaker.tell(Admitted { epoch: 9, round: 0 }, BAD, bench.now), None);
    }

    #[test]
    fn probes_close_it_or_open_it_again() {
        let mut bench = Bench::new(|rules| (rules.failures, rules.probes) = (1, 2));
        assert!(bench.one(BAD).is_some());
        bench.after(5_000);
        let probes = [bench.breaker.admit(bench.now).unwrap(), bench.breaker.admit(bench.now).unwrap()];
        assert!(bench.is_refused_for(5_000), "two are under way");
        assert_eq!(bench.breaker.tell(probes[0], OK, bench.now), None);
        assert!(bench.breaker.is_open(bench.now) && bench.is_refused_for(5_000));
        assert_eq!(bench.breaker.tell(probes[1], OK, bench.now), Some(Change::Closed));
        assert!(!bench.breaker.is_open(bench.now));
        assert!(bench.one(BAD).is_some());
        bench.after(5_000);
        assert_eq!(bench.one(BAD), opened("a probe failed"));
        assert!(bench.is_refused_for(5_000));
    }

    #[test]
    fn a_probe_that_comes_to_nothing_makes_room_for_another() {
        let mut bench = Bench::new(|rules| rules.failures = 1);
        assert!(bench.one(BAD).is_some());
        bench.after(5_000);
        let probe = bench.breaker.admit(bench.now).unwrap();
        assert!(bench.is_refused_for(5_000));
        bench.breaker.forget(probe);
        assert_eq!(bench.one(OK), Some(Change::Closed));
    }

    #[test]
    fn a_probe_without_an_end_keeps_nobody_out() {
        let mut bench = Bench::new(|rules| rules.failures = 1);
        assert!(bench.one(BAD).is_some());
        bench.after(5_000);
        let endless = bench.breaker.admit(bench.now).unwrap();
        bench.after(4_000);
        assert!(bench.is_refused_for(1_000));
        bench.after(1_000);
        let other = bench.breaker.admit(bench.now).unwrap();
        assert!(bench.is_refused_for(5_000));
        bench.breaker.forget(endless);
        assert!(bench.is_refused_for(5_000), "the other one is still under way");
        assert_eq!(bench.breaker.tell(other, OK, bench.now), Some(Change::Closed));
    }

    #[test]
    fn other_rules_do_not_close_it() {
        let mut bench = Bench::new(|rules| rules.failures = 1);
        assert!(bench.one(BAD).is_some());
        let mut rules = mesh::Breaker { failures: 9, open_ms: 2_000, probes: 3, ..mesh::Breaker::default() };
        bench.breaker.rule((&rules).into(), bench.now);
        assert!(bench.is_refused_for(2_000), "it holds at once");
        bench.after(2_000);
        assert!(!bench.breaker.is_open(bench.now), "nobody is kept out now");
        assert_eq!(bench.one(OK), None);
        rules.probes = 1;
        bench.breaker.rule((&rules).into(), bench.now);
        assert!(bench.breaker.is_open(bench.now), "one has to pass yet");
        assert_eq!(bench.one(OK), Some(Change::Closed));
        assert_eq!(bench.one(BAD), None, "nine in a row it takes now");
    }

    #[test]
    fn what_began_before_says_nothing_about_now() {
        let mut bench = Bench::new(|rules| rules.failures = 1);
        let old = bench.breaker.admit(bench.now).unwrap();
        let other = bench.breaker.admit(bench.now).unwrap();
        assert!(bench.one(BAD).is_some());
        bench.after(5_000);
        let probe = bench.breaker.admit(bench.now).unwrap();
        assert_eq!(bench.breaker.tell(old, OK, bench.now), None);
        assert_eq!(bench.breaker.tell(old, BAD, bench.now), None);
        bench.breaker.forget(other);
        assert!(bench.is_refused_for(5_000), "the probe is still under way");
        assert_eq!(bench.breaker.tell(probe, OK, bench.now), Some(Change::Closed));
    }

    #[test]
    fn only_what_the_rule_names_is_a_failure() {
        let mut bench = Bench::new(|rules| rules.failures = 1);
        for outcome in [Outcome::Status(404), Outcome::Connect, Outcome::Reset, Outcome::Timeout] {
            assert_eq!(bench.one(outcome), None);
        }
    }
}
