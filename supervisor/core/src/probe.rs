//! What the outcomes of a check that is repeated say of a run that is ready: when it is not any more and when it is again, when it is
//! healthy and when it is not.
//!
//! The daemon makes the checks, in their times, and gives each outcome that says something to one of these. What is news comes back.

/// The `ready` check of a run that was ready.
///
/// ```text
/// ready ─ so many failures in a row → unready ─ one that passes → ready
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    failures_max: u32,
    state: Ready,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ready {
    /// It is, and this many have failed since the last that passed.
    Yes {
        failures: u32,
    },
    No,
}

impl Readiness {
    /// Of a run that is unready at the moment or is not, and becomes so after this many failures in a row. No number is one.
    pub fn new(failures_max: u32, is_unready: bool) -> Readiness {
        let state = if is_unready { Ready::No } else { Ready::Yes { failures: 0 } };
        Readiness { failures_max: failures_max.max(1), state }
    }

    /// The next outcome. An error is news when it makes the run unready, a success when it makes it ready again.
    pub fn seen<E>(&mut self, outcome: Result<(), E>) -> Option<Result<(), E>> {
        match (&mut self.state, outcome) {
            // Ready → Ready.
            (Ready::Yes { failures }, Ok(())) => {
                *failures = 0;
                None
            }
            // Ready → Ready, Unready.
            (Ready::Yes { failures }, Err(why)) => {
                *failures += 1;
                if *failures < self.failures_max {
                    return None;
                }
                self.state = Ready::No;
                Some(Err(why))
            }
            // Unready → Ready.
            (Ready::No, Ok(())) => {
                self.state = Ready::Yes { failures: 0 };
                Some(Ok(()))
            }
            // Unready → Unready.
            (Ready::No, Err(_)) => None,
        }
    }
}

/// The `health` check of a run that has become ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    failures_max: u32,
    looks: Looks,
    /// Whether one has passed.
    is_known: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Looks {
    /// There was none: so early, one that fails says nothing. One that passes does, since others may wait for that.
    None,
    /// This many have failed since the last that passed, or since it was told that they were too many.
    Some { failures: u32 },
}

impl Health {
    /// Of a run that is unhealthy after this many failures in a row. No number is one.
    pub fn new(failures_max: u32) -> Health {
        Health { failures_max: failures_max.max(1), looks: Looks::None, is_known: false }
    }

    /// The next outcome. The first success is news. An error is when the run is unhealthy by it, and again after as many: it may have to wait
    /// until it is replaced.
    pub fn seen<E>(&mut self, outcome: Result<(), E>) -> Option<Result<(), E>> {
        match (std::mem::replace(&mut self.looks, Looks::Some { failures: 0 }), outcome) {
            (_, Ok(())) => (!std::mem::replace(&mut self.is_known, true)).then_some(Ok(())),
            (Looks::None, Err(_)) => None,
            (Looks::Some { failures }, Err(why)) if failures + 1 >= self.failures_max => Some(Err(why)),
            (Looks::Some { failures }, Err(_)) => {
                self.looks = Looks::Some { failures: failures + 1 };
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Outcomes, failures as often as successes and in long rows as well, by their place.
    fn outcomes() -> impl Strategy<Value = Vec<Result<(), usize>>> {
        let row = (any::<bool>(), 1usize..8);
        prop::collection::vec(row, 0..30).prop_map(|rows| {
            let all = rows.into_iter().flat_map(|(passes, count)| std::iter::repeat_n(passes, count));
            all.enumerate().map(|(nth, passes)| if passes { Ok(()) } else { Err(nth) }).collect()
        })
    }

    /// How many at the end of these have failed.
    fn failed_last(seen: &[Result<(), usize>]) -> usize {
        seen.iter().rev().take_while(|outcome| outcome.is_err()).count()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

        /// The model looks at all outcomes so far, and keeps nothing.
        #[test]
        fn a_run_is_unready_after_so_many_failures_in_a_row_until_one_passes(
            outcomes in outcomes(), failures_max in 0u32..6, was_unready: bool,
        ) {
            let enough = failures_max.max(1) as usize;
            let is_unready = |count: usize| {
                let seen = &outcomes[..count];
                failed_last(seen) >= enough || (was_unready && failed_last(seen) == count)
            };
            let mut readiness = Readiness::new(failures_max, was_unready);
            for (nth, outcome) in outcomes.iter().enumerate() {
                let expected = match (is_unready(nth), is_unready(nth + 1)) {
                    (false, true) => Some(Err(nth)),
                    (true, false) => Some(Ok(())),
                    (true, true) | (false, false) => None,
                };
                prop_assert_eq!(readiness.seen(*outcome), expected, "{}", nth);
            }
        }

        #[test]
        fn a_run_is_unhealthy_after_each_so_many_failures_in_a_row_but_for_its_first_look(
            outcomes in outcomes(), failures_max in 0u32..6,
        ) {
            let enough = failures_max.max(1) as usize;
            let first_pass = outcomes.iter().position(Result::is_ok);
            let mut health = Health::new(failures_max);
            for (nth, outcome) in outcomes.iter().enumerate() {
                let failed = failed_last(&outcomes[1..=nth]);
                let expected = match outcome {
                    Ok(()) => (first_pass == Some(nth)).then_some(Ok(())),
                    Err(_) => (failed > 0 && failed.is_multiple_of(enough)).then_some(Err(nth)),
                };
                prop_assert_eq!(health.seen(*outcome), expected, "{}", nth);
            }
        }
    }
}
