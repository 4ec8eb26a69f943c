//! Which worker gets the next request. Each thread goes by what it has seen itself: to count together would mean a shared cache line
//! written with every request.
//!
//! Of two drawn at random the one with fewer requests in flight is nearly as good as looking at all, and does not send everybody to the
//! one that has just become free (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001). So it is done unless the
//! service wants it otherwise, and where what it wants leaves a choice.

use std::{cell::Cell, cmp::Ordering, rc::Rc};

use watt_api::mesh;

use crate::{
    affinity::{self, Key, Wish},
    dispatch::LeftOut,
    timer::Ticks,
    worker::Worker,
};

/// How a service's requests are spread over its workers.
#[derive(Debug)]
pub(crate) enum Balance {
    /// By requests in flight.
    TwoChoices,
    /// In turn. Whose turn is next, on this thread.
    RoundRobin(Cell<usize>),
    /// By how long answers take, and by requests in flight.
    LeastLatency,
    /// By something in the request.
    Hash(Key),
    /// By a cookie of this name that says who had the client before.
    Sticky(Box<str>),
}

/// What is known of a request that wants a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) now: Ticks,
    pub(crate) left_out: &'a LeftOut,
    pub(crate) wish: Wish,
}

impl From<&mesh::Balance> for Balance {
    fn from(balance: &mesh::Balance) -> Self {
        match balance {
            mesh::Balance::P2c => Balance::TwoChoices,
            // Not from the first one with every snapshot.
            mesh::Balance::RoundRobin => Balance::RoundRobin(Cell::new(fastrand::u16(..).into())),
            mesh::Balance::LeastLatency => Balance::LeastLatency,
            mesh::Balance::Hash { key } => Balance::Hash(key.into()),
            mesh::Balance::Sticky { cookie } => Balance::Sticky(cookie.as_str().into()),
        }
    }
}

impl Balance {
    /// A worker that is not left out. One that refuses connections is passed over while there is another, and so is one that is out since
    /// it failed; when all refuse, it is the one that has been passed over longest.
    pub(crate) fn pick<'w>(&self, workers: &'w [Rc<Worker>], asked: Asked<'_>) -> Option<&'w Rc<Worker>> {
        match (workers, asked.wish) {
            ([], _) => None,
            ([one], _) => (!asked.left_out.has(one.run)).then_some(one),
            (_, Wish::Hash(hash)) => {
                let usable = workers.iter().filter(|worker| asked.may_have(worker));
                let first = usable.max_by_key(|worker| affinity::rank(hash, worker.index.get()));
                first.or_else(|| last_resort(workers, asked))
            }
            (_, Wish::Index(index)) => {
                let is_it = |worker: &&Rc<Worker>| worker.index.get() == index && asked.may_have(worker);
                workers.iter().find(is_it).or_else(|| self.pick_any(workers, asked))
            }
            (_, Wish::Any) => self.pick_any(workers, asked),
        }
    }

    fn pick_any<'w>(&self, workers: &'w [Rc<Worker>], asked: Asked<'_>) -> Option<&'w Rc<Worker>> {
        if let Balance::RoundRobin(next) = self {
            return next_in_turn(next, workers, asked);
        }
        match workers {
            [] => None,
            [one, other] => match (asked.may_have(one), asked.may_have(other)) {
                (true, true) => Some(self.better(one, other, asked.now)),
                (true, false) => Some(one),
                (false, true) => Some(other),
                (false, false) => last_resort(workers, asked),
            },
            _ => {
                let first = fastrand::usize(..workers.len());
                let offset = fastrand::usize(..workers.len() - 1) + 1;
                let (one, other) = (&workers[first], &workers[(first + offset) % workers.len()]);
                if asked.may_have(one) && asked.may_have(other) {
                    Some(self.better(one, other, asked.now))
                } else {
                    self.among(workers, asked)
                }
            }
        }
    }

    /// The slow way, when one of the two drawn is out of the question.
    fn among<'w>(&self, workers: &'w [Rc<Worker>], asked: Asked<'_>) -> Option<&'w Rc<Worker>> {
        let usable: Vec<_> = workers.iter().filter(|worker| asked.may_have(worker)).collect();
        if usable.is_empty() {
            return last_resort(workers, asked);
        }
        let draw = || usable[fastrand::usize(..usable.len())];
        Some(self.better(draw(), draw(), asked.now))
    }

    fn better<'w>(&self, one: &'w Rc<Worker>, other: &'w Rc<Worker>, now: Ticks) -> &'w Rc<Worker> {
        match (one.leaves_it(now), other.leaves_it(now)) {
            (true, false) => return other,
            (false, true) => return one,
            (true, true) | (false, false) => {}
        }
        let order = match self {
            Balance::LeastLatency => one.cost(now).total_cmp(&other.cost(now)),
            Balance::TwoChoices | Balance::RoundRobin(_) | Balance::Hash(_) | Balance::Sticky(_) => {
                one.in_flight.get().cmp(&other.in_flight.get())
            }
        };
        match order {
            Ordering::Less => one,
            Ordering::Greater => other,
            // Without a draw the first one would get everything as long as there is little to do.
            Ordering::Equal => {
                if fastrand::bool() {
                    one
                } else {
                    other
                }
            }
        }
    }
}

impl Asked<'_> {
    /// Whether this worker comes into question before it is the last resort.
    fn may_have(&self, worker: &Worker) -> bool {
        !worker.is_passed_over(self.now) && !worker.is_out() && !self.left_out.has(worker.run)
    }
}

/// The next one in turn. One that warms up lets some turns go by while others may have them.
fn next_in_turn<'w>(
    next: &Cell<usize>,
    workers: &'w [Rc<Worker>],
    asked: Asked<'_>,
) -> Option<&'w Rc<Worker>> {
    let in_turn = || (0..workers.len()).map(|step| (next.get() + step) % workers.len());
    let may_have = |at: &usize| asked.may_have(&workers[*at]);
    let warm = in_turn().find(|at| may_have(at) && !workers[*at].leaves_it(asked.now));
    match warm.or_else(|| in_turn().find(may_have)) {
        Some(at) => {
            next.set(at + 1);
            Some(&workers[at])
        }
        None => last_resort(workers, asked),
    }
}

fn last_resort<'w>(workers: &'w [Rc<Worker>], asked: Asked<'_>) -> Option<&'w Rc<Worker>> {
    let left = workers.iter().filter(|worker| !asked.left_out.has(worker.run));
    left.min_by_key(|worker| (worker.is_out(), worker.passed_over_until()))
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::dispatch::Why;

    fn workers(count: u16) -> Vec<Rc<Worker>> {
        let worker = |number: u16| {
            let worker = Worker::new(number.into(), Rc::new(|_| {}));
            worker.index.set(number);
            Rc::new(worker)
        };
        (0..count).map(worker).collect()
    }

    fn pick<'w>(workers: &'w [Rc<Worker>], now: Ticks, left_out: &[u64]) -> Option<&'w Rc<Worker>> {
        pick_by(&Balance::TwoChoices, workers, now, left_out, Wish::Any)
    }

    fn pick_by<'w>(
        balance: &Balance,
        workers: &'w [Rc<Worker>],
        now: Ticks,
        without: &[u64],
        wish: Wish,
    ) -> Option<&'w Rc<Worker>> {
        let mut left_out = LeftOut::default();
        without.iter().for_each(|run| left_out.add(*run, Why::Failed));
        balance.pick(workers, Asked { now, left_out: &left_out, wish })
    }

    #[test]
    fn requests_in_flight_stay_level() {
        for count in [2, 3, 8] {
            let workers = workers(count);
            for _ in 0..u32::from(count) * 100 {
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
                picked.count() as f64 / 20_000.0 * f64::from(count)
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
        for count in [1_u16, 2, 3, 5] {
            let workers = workers(count);
            workers[0].refused(Ticks::START);
            for _ in 0..100 {
                let run = pick(&workers, Ticks::START, &[]).unwrap().run;
                assert!(run != 0 || count == 1);
            }
            let all_others: Vec<u64> = (1..count.into()).collect();
            assert_eq!(pick(&workers, Ticks::START, &all_others).map(|worker| worker.run), Some(0));
            let all: Vec<u64> = (0..count.into()).collect();
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

    /// How many of so many requests each worker gets that nothing is in flight at.
    fn parts(balance: &Balance, workers: &[Rc<Worker>], now: Ticks, requests: usize) -> Vec<usize> {
        let mut parts = vec![0; workers.len()];
        for _ in 0..requests {
            let picked = pick_by(balance, workers, now, &[], Wish::Any).unwrap();
            parts[usize::from(picked.index.get())] += 1;
        }
        parts
    }

    #[test]
    fn in_turn_each_gets_as_many_as_the_others() {
        for count in [2, 3, 7] {
            let workers = workers(count);
            // What is in flight does not matter.
            workers[0].in_flight.set(50);
            let balance = Balance::from(&mesh::Balance::RoundRobin);
            let parts = parts(&balance, &workers, Ticks::START, usize::from(count) * 10);
            assert!(parts.iter().all(|part| *part == 10), "{parts:?}");
        }
        let workers = workers(3);
        let balance = Balance::RoundRobin(Cell::new(0));
        workers[1].refused(Ticks::START);
        assert_eq!(parts(&balance, &workers, Ticks::START, 10), [5, 0, 5]);
        let others: Vec<u64> = vec![0, 2];
        let last = pick_by(&balance, &workers, Ticks::START, &others, Wish::Any);
        assert_eq!(last.map(|worker| worker.run), Some(1), "the one that is left");
        assert!(pick_by(&balance, &workers, Ticks::START, &[0, 1, 2], Wish::Any).is_none());
    }

    #[test]
    fn in_turn_one_that_warms_up_has_a_part_of_its_turns() {
        let workers = workers(4);
        workers[0].warm_up(false, Ticks::START, Ticks::from_ms(10_000));
        let balance = Balance::from(&mesh::Balance::RoundRobin);
        let cold = parts(&balance, &workers, Ticks::START, 4_000)[0];
        let warm = parts(&balance, &workers, Ticks::from_ms(10_000), 4_000)[0];
        assert!((20..250).contains(&cold) && warm == 1_000, "{cold} {warm}");
    }

    #[test]
    fn the_fast_ones_get_more_and_slow_ones_are_tried_again() {
        let workers = workers(2);
        let balance = Balance::LeastLatency;
        let ms = Duration::from_millis;
        workers[0].latency.observe(ms(100), Ticks::START);
        workers[1].latency.observe(ms(10), Ticks::START);
        assert_eq!(parts(&balance, &workers, Ticks::START, 100), [0, 100]);
        // Nine more wait there for each answer.
        workers[1].in_flight.set(20);
        assert_eq!(parts(&balance, &workers, Ticks::START, 100), [100, 0]);
        // One slow answer counts at once, and fast ones little by little.
        workers[1].in_flight.set(0);
        workers[1].latency.observe(ms(500), Ticks::from_ms(100));
        workers[1].latency.observe(ms(10), Ticks::from_ms(200));
        assert_eq!(parts(&balance, &workers, Ticks::from_ms(200), 100), [100, 0]);
        for second in 1..30 {
            let now = Ticks::from_ms(second * 1_000);
            workers[0].latency.observe(ms(100), now);
            workers[1].latency.observe(ms(10), now);
        }
        assert_eq!(parts(&balance, &workers, Ticks::from_ms(30_000), 100), [0, 100]);
        // Nobody has asked the slow one for long.
        workers[1].latency.observe(ms(10), Ticks::from_ms(120_000));
        assert_eq!(parts(&balance, &workers, Ticks::from_ms(120_000), 100), [100, 0]);
    }

    #[test]
    fn one_of_which_nothing_is_known_gets_one_request_and_not_all() {
        let workers = workers(2);
        workers[0].latency.observe(Duration::from_millis(10), Ticks::START);
        assert_eq!(parts(&Balance::LeastLatency, &workers, Ticks::START, 100), [0, 100]);
        workers[1].in_flight.set(1);
        assert_eq!(parts(&Balance::LeastLatency, &workers, Ticks::START, 100), [100, 0]);
    }

    /// Where each of some keys goes.
    fn homes(workers: &[Rc<Worker>]) -> Vec<u64> {
        let home = |key: u32| {
            let wish = Wish::Hash(affinity::hash(&key.to_be_bytes()));
            pick_by(&Balance::TwoChoices, workers, Ticks::START, &[], wish).unwrap().run
        };
        (0..10_000).map(home).collect()
    }

    #[test]
    fn keys_stay_where_they_are_when_others_come_and_go() {
        let all = workers(5);
        let before = homes(&all);
        for run in 0..5 {
            let count = before.iter().filter(|home| **home == run).count();
            assert!((1_700..2_300).contains(&count), "{run} has {count} of 10000 keys");
        }
        // One goes: its keys alone are elsewhere, and not all at one place.
        let four: Vec<_> = all.iter().filter(|worker| worker.run != 2).cloned().collect();
        let after = homes(&four);
        assert!(before.iter().zip(&after).all(|(before, after)| before == after || *before == 2));
        let orphans = |to| before.iter().zip(&after).filter(|(of, now)| **of == 2 && **now == to).count();
        assert!([0, 1, 3, 4].into_iter().all(|to| (350..650).contains(&orphans(to))), "{:?}", orphans(0));
        // The same while it only refuses; and the order of a snapshot does not matter.
        all[2].refused(Ticks::START);
        let turned: Vec<_> = all.iter().rev().cloned().collect();
        assert_eq!(homes(&turned), after);
        all[2].reached();
        // Another run of the same index has its keys.
        let again = workers(5);
        assert_eq!(homes(&again), before);
    }

    #[test]
    fn who_is_wished_for_comes_first_and_others_after() {
        let workers = workers(3);
        let by = Balance::Sticky("w".into());
        let wished = |without: &[u64]| {
            let picked = pick_by(&by, &workers, Ticks::START, without, Wish::Index(1));
            picked.map(|worker| worker.run)
        };
        workers[1].in_flight.set(100);
        assert_eq!(wished(&[]), Some(1));
        assert!(matches!(wished(&[1]), Some(0 | 2)));
        workers[1].refused(Ticks::START);
        assert!(matches!(wished(&[]), Some(0 | 2)));
        let unknown = pick_by(&by, &workers, Ticks::START, &[], Wish::Index(9));
        assert!(unknown.is_some(), "a cookie of long ago");
    }
}
