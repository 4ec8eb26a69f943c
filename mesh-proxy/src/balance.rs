//! Which worker gets the next request: of two drawn at random the one with fewer requests in flight.
//!
//! Two choices are nearly as good as looking at all, and do not send everybody to the one that has just become free
//! (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001). Each thread counts its own requests
//! only: to count together would mean a shared cache line written with every request.

use std::rc::Rc;

use crate::{timer::Ticks, worker::Worker};

/// A worker that was not tried yet. One that refuses connections is passed over while there is another; when all
/// refuse, it is the one that has been passed over longest.
pub(crate) fn pick<'w>(workers: &'w [Rc<Worker>], now: Ticks, tried: &[u64]) -> Option<&'w Rc<Worker>> {
    let usable = |worker: &&Rc<Worker>| !worker.is_passed_over(now) && !tried.contains(&worker.run);
    match workers {
        [] => None,
        [one] => (!tried.contains(&one.run)).then_some(one),
        [one, other] => match (usable(&one), usable(&other)) {
            (true, true) => Some(less_busy(one, other, now)),
            (true, false) => Some(one),
            (false, true) => Some(other),
            (false, false) => last_resort(workers, tried),
        },
        _ => {
            let first = fastrand::usize(..workers.len());
            let offset = fastrand::usize(1..workers.len());
            let (one, other) = (&workers[first], &workers[(first + offset) % workers.len()]);
            if usable(&one) && usable(&other) {
                Some(less_busy(one, other, now))
            } else {
                among(workers, now, tried)
            }
        }
    }
}

/// The slow way, when one of the two drawn is out of the question.
fn among<'w>(workers: &'w [Rc<Worker>], now: Ticks, tried: &[u64]) -> Option<&'w Rc<Worker>> {
    let usable = workers.iter().filter(|worker| !worker.is_passed_over(now) && !tried.contains(&worker.run));
    let usable: Vec<_> = usable.collect();
    if usable.is_empty() {
        return last_resort(workers, tried);
    }
    let draw = || usable[fastrand::usize(..usable.len())];
    Some(less_busy(draw(), draw(), now))
}

fn last_resort<'w>(workers: &'w [Rc<Worker>], tried: &[u64]) -> Option<&'w Rc<Worker>> {
    let untried = workers.iter().filter(|worker| !tried.contains(&worker.run));
    untried.min_by_key(|worker| worker.passed_over_until())
}

fn less_busy<'w>(one: &'w Rc<Worker>, other: &'w Rc<Worker>, now: Ticks) -> &'w Rc<Worker> {
    // One that warms up leaves a part of what would be its own to the other.
    let leaves = |worker: &Worker| worker.share(now).is_some_and(|share| fastrand::f32() > share);
    match (leaves(one), leaves(other)) {
        (true, false) => return other,
        (false, true) => return one,
        (true, true) | (false, false) => {}
    }
    match one.in_flight.get().cmp(&other.in_flight.get()) {
        std::cmp::Ordering::Less => one,
        std::cmp::Ordering::Greater => other,
        // Without a draw the first one would get everything as long as there is little to do.
        std::cmp::Ordering::Equal => {
            if fastrand::bool() {
                one
            } else {
                other
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn workers(count: u64) -> Vec<Rc<Worker>> {
        (0..count).map(|run| Rc::new(Worker::new(run, Rc::new(|_| {})))).collect()
    }

    #[test]
    fn requests_in_flight_stay_level() {
        for count in [2, 3, 8] {
            let workers = workers(count);
            for _ in 0..count * 100 {
                let worker = pick(&workers, Ticks::START, &[]).unwrap();
                worker.in_flight.set(worker.in_flight.get() + 1);
            }
            let most = workers.iter().map(|worker| worker.in_flight.get()).max().unwrap();
            assert!(most <= 110, "{count} workers, one has {most} where 100 are level");
        }
    }

    #[test]
    fn idle_workers_all_get_some() {
        let workers = workers(3);
        let mut picked: BTreeMap<u64, u32> = BTreeMap::new();
        for _ in 0..3_000 {
            *picked.entry(pick(&workers, Ticks::START, &[]).unwrap().run).or_default() += 1;
        }
        assert!(picked.len() == 3 && picked.values().all(|count| *count > 700), "{picked:?}");
    }

    #[test]
    fn one_that_warms_up_has_a_growing_part_of_its_share() {
        let tenth_of_second = |count: u64| Ticks::from_ms(count * 100);
        for count in [2, 5] {
            let workers = workers(count);
            workers[0].warm_up(false, tenth_of_second(10), tenth_of_second(100));
            // It goes on where it was when another snapshot comes.
            workers[0].warm_up(true, tenth_of_second(20), tenth_of_second(100));
            let part_at = |now| {
                let picked =
                    (0..20_000).filter(|_| pick(&workers, tenth_of_second(now), &[]).unwrap().run == 0);
                picked.count() as f64 / 20_000.0 * count as f64
            };
            let parts = [10, 60, 109, 110].map(part_at);
            let expected = [0.1, 0.5, 1.0, 1.0];
            let is_near = parts.iter().zip(expected).all(|(part, expected)| (part - expected).abs() < 0.1);
            assert!(is_near, "of {count}: {parts:?}");
        }
        let alone = workers(1);
        alone[0].warm_up(false, Ticks::START, tenth_of_second(100));
        assert!(pick(&alone, Ticks::START, &[]).is_some(), "the only one has them all");
    }

    #[test]
    fn one_that_refuses_is_passed_over_but_never_the_last() {
        for count in [1, 2, 3, 5] {
            let workers = workers(count);
            workers[0].refused(Ticks::START);
            for _ in 0..100 {
                let run = pick(&workers, Ticks::START, &[]).unwrap().run;
                assert!(run != 0 || count == 1);
            }
            let all_others: Vec<u64> = (1..count).collect();
            assert_eq!(pick(&workers, Ticks::START, &all_others).map(|worker| worker.run), Some(0));
            let all: Vec<u64> = (0..count).collect();
            assert!(pick(&workers, Ticks::START, &all).is_none());
        }
    }

    #[test]
    fn refusals_in_a_row_cost_more_and_one_success_forgives() {
        let workers = workers(2);
        workers[0].refused(Ticks::START);
        let first = workers[0].passed_over_until();
        workers[0].refused(Ticks::START);
        assert!(workers[0].passed_over_until() > first);
        for _ in 0..100 {
            workers[0].refused(Ticks::START);
        }
        assert!(workers[0].passed_over_until() <= Ticks::from_ms(6_400));
        workers[0].reached();
        assert!(!workers[0].is_passed_over(Ticks::START));
    }
}
