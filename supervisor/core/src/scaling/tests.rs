//! Decisions against a small model of a service: so much to do in all, spread evenly over the workers that are ready.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn count(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

fn rules(min: u16, max: u16, targets: Targets) -> Scaling {
    Scaling {
        min,
        max: count(max),
        targets,
        window: Duration::from_secs(10),
        cooldown: Duration::from_secs(60),
        idle: Duration::from_secs(300),
    }
}

fn in_flight(target: u32) -> Targets {
    Targets { in_flight: std::num::NonZeroU32::new(target), ..Targets::default() }
}

/// A service in which new workers take some seconds to get ready.
struct World {
    rules: Scaling,
    scaler: Scaler,
    now: Instant,
    count: u16,
    /// When each worker is ready.
    ready_at: Vec<Instant>,
    delay: u32,
    room: Room,
    told: Vec<String>,
}

impl World {
    fn new(rules: Scaling, begin: u16, delay: u32) -> World {
        let now = Instant::now();
        World {
            scaler: Scaler::new(now),
            now,
            count: begin,
            ready_at: vec![now; begin.into()],
            delay,
            rules,
            room: Room::default(),
            told: Vec::new(),
        }
    }

    fn ready(&self) -> u16 {
        self.ready_at.iter().filter(|at| **at <= self.now).count().try_into().unwrap()
    }

    fn sample(&self) -> Sample {
        Sample {
            at: self.now,
            passed: SECOND,
            ready: self.ready(),
            cpu: None,
            in_flight: None,
            answers: None,
            queue: None,
            pressure: None,
            active: true,
        }
    }

    /// A second passes.
    fn pass(&mut self, of: impl Fn(Sample) -> Sample) {
        self.now += SECOND;
        let sample = of(self.sample());
        match self.scaler.decide(&self.rules, count(self.count), sample, &self.room) {
            Some(Decision::Count(number, reason)) => {
                self.told.push(format!("{} -> {number}: {reason}", self.count));
                self.count = number.get();
                let ready_at = self.now + self.delay * SECOND;
                self.ready_at.resize(self.count.into(), ready_at);
            }
            Some(Decision::Sleep(reason)) => self.told.push(format!("asleep: {reason}")),
            Some(Decision::Refused(wanted, _, lack)) => self.told.push(format!("no {wanted}: {lack}")),
            None => {}
        }
    }

    fn pass_with(&mut self, seconds: u32, requests: f64) {
        for _ in 0..seconds {
            self.pass(|sample| Sample { in_flight: Some(requests), ..sample });
        }
    }
}

#[test]
fn a_burst_is_met_at_once_and_workers_go_when_they_were_not_needed_for_the_cooldown() {
    let mut world = World::new(rules(1, 8, in_flight(10)), 1, 2);
    world.pass_with(120, 9.0);
    assert_eq!((world.count, world.told.len()), (1, 0));
    world.pass_with(1, 100.0);
    assert_eq!(world.told, ["1 -> 2: 18.1 requests at a time for each worker, target 10"]);
    world.pass_with(15, 35.0);
    assert_eq!(world.count, 4, "{:?}", world.told);
    world.pass_with(59, 5.0);
    assert_eq!(world.count, 4);
    world.pass_with(20, 5.0);
    assert_eq!((world.count, world.told.last().unwrap().as_str()), (1, "2 -> 1: fewer were enough for 60s"));
}

#[test]
fn what_does_not_grow_with_the_work_is_tried_out() {
    let target = Targets { latency_p95: Some(Duration::from_millis(100)), ..Targets::default() };
    let mut world = World::new(rules(1, 8, target), 1, 0);
    // All but one of twenty at 10 ms, which is less than 95 of 100.
    let slow = |ms| {
        move |sample| Sample {
            answers: Some(vec![(Duration::from_millis(10), 18), (Duration::from_millis(ms), 2)]),
            ..sample
        }
    };
    for _ in 0..6 {
        world.pass(slow(500));
    }
    assert_eq!(world.told, ["1 -> 2: 95 % of answers begin within 500ms, target 100ms"]);
    for _ in 0..70 {
        world.pass(slow(80));
    }
    assert_eq!(world.count, 2, "neither too much nor far too little");
    for _ in 0..90 {
        world.pass(slow(20));
    }
    assert_eq!((world.count, world.told.len()), (1, 2), "{:?}", world.told);
    for _ in 0..20 {
        let answers = vec![(Duration::from_millis(10), 97), (SECOND, 3)];
        world.pass(|sample| Sample { answers: Some(answers.clone()), ..sample });
    }
    assert_eq!(world.count, 1, "three of a hundred are not looked at");
}

#[test]
fn the_target_that_takes_most_counts() {
    let percent = std::num::NonZeroU32::new;
    let targets = Targets { cpu: percent(50), pressure: percent(20), queue: percent(2), ..in_flight(10) };
    let mut world = World::new(rules(1, 8, targets), 2, 0);
    for _ in 0..9 {
        let busy = |sample| Sample {
            cpu: Some(1.9),
            in_flight: Some(1.0),
            queue: Some(0.0),
            pressure: Some(0.1),
            ..sample
        };
        world.pass(busy);
    }
    assert_eq!(world.told, ["2 -> 4: CPU at 95 %, target 50 %"]);
    for _ in 0..10 {
        world.pass(|sample| Sample { cpu: Some(1.9), queue: Some(40.0), pressure: Some(0.1), ..sample });
    }
    assert_eq!(world.told[1], "4 -> 5: 2.2 requests wait for each worker, target 2");
    let mut world = World::new(rules(1, 8, Targets { pressure: percent(20), ..Targets::default() }), 1, 0);
    for _ in 0..6 {
        world.pass(|sample| Sample { pressure: Some(0.3), ..sample });
    }
    assert_eq!(world.told, ["1 -> 2: CPU pressure 30 %, target 20 %"]);
}

#[test]
fn what_is_not_known_changes_nothing() {
    let mut world = World::new(rules(1, 8, in_flight(10)), 3, 0);
    for _ in 0..200 {
        world.pass(|sample| sample);
    }
    for _ in 0..200 {
        world.pass(|sample| Sample { in_flight: Some(f64::NAN), passed: Duration::ZERO, ..sample });
    }
    assert_eq!((world.count, world.told.len()), (3, 0), "{:?}", world.told);
    for _ in 0..200 {
        world.pass(|sample| Sample { ready: 0, in_flight: Some(0.0), ..sample });
    }
    assert_eq!(world.count, 3, "nobody is ready: {:?}", world.told);
}

#[test]
fn no_worker_goes_while_others_are_not_ready() {
    // One of four is ready, and has far too much to do, then little.
    let mut world = World::new(rules(1, 8, in_flight(10)), 4, 0);
    for requests in [100.0, 1.0] {
        for _ in 0..200 {
            world.pass(|sample| Sample { ready: 1, in_flight: Some(requests), ..sample });
        }
        assert_eq!((world.count, world.told.len()), (4, 0), "{:?}", world.told);
    }
    world.pass_with(59, 1.0);
    assert_eq!(world.count, 4, "the cooldown begins when all are ready");
    world.pass_with(2, 1.0);
    assert_eq!(world.count, 1);
}

#[test]
fn answers_that_do_not_come_are_no_fast_ones() {
    let target = || Targets { latency_p95: Some(Duration::from_millis(100)), ..Targets::default() };
    let mut world = World::new(rules(1, 8, target()), 3, 0);
    for _ in 0..200 {
        world.pass(|sample| Sample { answers: Some(Vec::new()), in_flight: Some(5.0), ..sample });
    }
    assert_eq!(world.count, 3, "all of them hang");
    for _ in 0..200 {
        world.pass(|sample| sample);
    }
    assert_eq!((world.count, world.told.len()), (3, 0), "it is not known: {:?}", world.told);
    for _ in 0..200 {
        world.pass(|sample| Sample { answers: Some(Vec::new()), in_flight: Some(0.0), ..sample });
    }
    assert_eq!(world.count, 1, "nobody asks");
}

/// So many requests, of which each worker takes five at a time, and the others wait.
fn queued(requests: f64, measured: f64) -> impl Fn(Sample) -> Sample {
    move |sample| {
        let waiting = (requests - 5.0 * f64::from(sample.ready)).max(0.0);
        Sample { queue: Some(waiting), in_flight: Some(measured), ..sample }
    }
}

fn queue(target: u32) -> Targets {
    Targets { queue: std::num::NonZeroU32::new(target), ..Targets::default() }
}

#[test]
fn a_trial_that_fails_comes_again_after_twice_the_time_unless_there_is_less_to_do() {
    let mut world = World::new(rules(1, 8, queue(1)), 4, 0);
    let mut tried = Vec::new();
    for second in 0..1_000 {
        let before = world.count;
        world.pass(queued(20.0, 20.0));
        assert!((3..=4).contains(&world.count), "{:?}", world.told);
        if world.count < before {
            tried.push(second);
        }
    }
    let waits: Vec<i32> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let doubled = |wait: &i32, times: i32| (60 * times..60 * times + 15).contains(wait);
    assert!(waits.iter().zip([2, 4, 8]).all(|(wait, times)| doubled(wait, times)), "{waits:?}");
    assert_eq!(waits.len(), 3);
    // The next trial would be far away.
    let mut passed = 0;
    while world.count == 4 {
        world.pass(queued(10.0, 10.0));
        passed += 1;
    }
    assert!(passed < 60 + 15, "{passed}");
}

#[test]
fn there_are_no_more_than_there_is_room_for_which_is_said_once() {
    let mut world = World::new(rules(1, 8, in_flight(10)), 4, 0);
    world.room = Room { memory_free: Some(70 << 20), memory_each: Some(30 << 20), cpus: Some((3.0, 4.0)) };
    world.pass_with(1, 80.0);
    assert_eq!(world.count, 6, "for two there is memory");
    world.room.memory_free = Some(20 << 20);
    world.pass_with(5, 80.0);
    assert_eq!(world.told[1..], ["no 8: 20M of memory are free, and a worker has 30M"]);
    world.room.memory_free = None;
    world.room.cpus = Some((3.9, 4.0));
    world.pass_with(5, 80.0);
    assert_eq!(world.told.len(), 2, "whatever it is that lacks");
    assert!(world.scaler.is_refused());
    world.pass_with(20, 50.0);
    assert!(!world.scaler.is_refused());
    world.pass_with(20, 80.0);
    assert_eq!(world.told[2..], ["no 7: 3.9 of 4.0 CPUs are used already"], "it is news again");
}

#[test]
fn a_service_sleeps_when_nobody_wanted_anything_for_the_time_that_is_set() {
    let mut world = World::new(rules(0, 8, in_flight(10)), 1, 0);
    let idle = |sample| Sample { active: false, in_flight: Some(0.0), ..sample };
    for _ in 0..299 {
        world.pass(idle);
    }
    world.pass_with(1, 0.1);
    for _ in 0..299 {
        world.pass(idle);
    }
    assert_eq!(world.told.len(), 0, "{:?}", world.told);
    world.pass(idle);
    assert_eq!(world.told, ["asleep: nothing was asked of it for 300s"]);
    let mut world = World::new(rules(1, 8, in_flight(10)), 1, 0);
    for _ in 0..999 {
        world.pass(idle);
    }
    assert_eq!(world.told.len(), 0, "one that has one at least never does");
}

#[test]
fn a_decision_of_somebody_else_begins_a_cooldown() {
    let mut world = World::new(rules(1, 8, in_flight(10)), 4, 0);
    world.pass_with(59, 5.0);
    world.scaler.begin_anew(world.now);
    world.pass_with(59, 5.0);
    assert_eq!(world.count, 4);
    world.pass_with(2, 5.0);
    assert_eq!(world.count, 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever is measured, there are never fewer than the fewest or more than the most.
    #[test]
    fn never_out_of_bounds(
        min in 1u16..5,
        more in 0u16..8,
        targets in (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        loads in prop::collection::vec(prop::option::of(0.0f64..1e6), 1..200),
        delay in 0u32..20,
    ) {
        let some = |is_some: bool, target| std::num::NonZeroU32::new(target).filter(|_| is_some);
        let targets = Targets {
            cpu: some(targets.0, 70),
            in_flight: some(targets.1, 10),
            latency_p95: targets.2.then_some(Duration::from_millis(100)),
            queue: some(targets.3, 3),
            pressure: some(targets.4, 20),
        };
        let mut world = World::new(rules(min, min + more, targets), min, delay);
        for load in loads {
            let ready = world.ready_at.iter().filter(|at| **at <= world.now + SECOND).count();
            let before = (world.count, u16::try_from(ready).unwrap());
            world.pass(|sample| Sample {
                cpu: load,
                in_flight: load,
                queue: load,
                pressure: load,
                answers: load.map(|load| vec![(Duration::from_secs_f64(load), 5)]),
                ..sample
            });
            prop_assert!((min..=min + more).contains(&world.count), "{}", world.count);
            let at_once = before.1.saturating_mul(FACTOR);
            prop_assert!(world.count <= before.0.max(at_once), "{before:?} -> {}", world.count);
        }
    }

    /// What only a trial can tell is tried less and less often while the load stays the same, and with one worker less at most.
    #[test]
    fn the_same_load_is_not_tried_with_fewer_all_the_time(
        begin in 1u16..12,
        requests in 0.0f64..50.0,
        noise in prop::collection::vec(-0.1f64..0.1, 50),
        target in 1u32..6,
        delay in 0u32..8,
    ) {
        let rules = Scaling { cooldown: 20 * SECOND, ..rules(1, 12, queue(target)) };
        let mut world = World::new(rules, begin, delay);
        let mut noise = noise.into_iter().cycle();
        let mut pass = |world: &mut World| {
            world.pass(queued(requests, requests * (1.0 + noise.next().unwrap())));
            world.count
        };
        for _ in 0..20 * 30 {
            pass(&mut world);
        }
        let changes = world.told.len();
        let seen: std::collections::BTreeSet<u16> = (0..20 * 64).map(|_| pass(&mut world)).collect();
        let (few, most) = (seen.first().unwrap(), seen.last().unwrap());
        prop_assert!(most - few <= 1, "{:?}", world.told);
        prop_assert!(world.told.len() - changes <= 10, "{:?}", world.told);
        let waiting = (requests - 5.0 * f64::from(*most)).max(0.0) / f64::from(*most);
        prop_assert!(waiting <= f64::from(target) * 1.1 + 1e-9 || *most == 12, "{waiting} wait for each of {most}");
    }

    /// A load that stays the same comes to a number that stays the same, and that is the right one.
    #[test]
    fn the_same_load_comes_to_the_right_number_and_stays_there(
        begin in 1u16..30,
        load in 0.0f64..400.0,
        noise in prop::collection::vec(-0.04f64..0.04, 50),
        target in 1u32..40,
        delay in 0u32..15,
    ) {
        let mut world = World::new(rules(1, 30, in_flight(target)), begin, delay);
        let mut noise = noise.into_iter().cycle();
        let mut pass = |world: &mut World, seconds| {
            for _ in 0..seconds {
                let measured = load * (1.0 + noise.next().unwrap());
                world.pass_with(1, measured);
            }
        };
        pass(&mut world, 300);
        let (settled, changes) = (world.count, world.told.len());
        pass(&mut world, 1_000);
        prop_assert_eq!((world.count, world.told.len()), (settled, changes), "{:?}", world.told);
        let each = load / f64::from(settled);
        prop_assert!(each <= f64::from(target) * 1.15 || settled == 30, "{each} for each of {settled}");
        let with_less = load / f64::from((settled - 1).max(1));
        prop_assert!(with_less >= f64::from(target) * 0.85 || settled == 1, "{with_less} would be for each of {settled} less 1");
    }
}
