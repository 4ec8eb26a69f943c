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
            (true, true) => Some(less_busy(one, other)),
            (true, false) => Some(one),
            (false, true) => Some(other),
            (false, false) => last_resort(workers, tried),
        },
        _ => {
            let first = fastrand::usize(..workers.len());
            let offset = fastrand::usize(1..workers.len());
            let (one, other) = (&workers[first], &workers[(first + offset) % workers.len()]);
            if usable(&one) && usable(&other) {
                Some(less_busy(one, other))
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
    Some(less_busy(draw(), draw()))
}

fn last_resort<'w>(workers: &'w [Rc<Worker>], tried: &[u64]) -> Option<&'w Rc<Worker>> {
    let untried = workers.iter().filter(|worker| !tried.contains(&worker.run));
    untried.min_by_key(|worker| worker.passed_over_until())
}

fn less_busy<'w>(one: &'w Rc<Worker>, other: &'w Rc<Worker>) -> &'w Rc<Worker> {
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
