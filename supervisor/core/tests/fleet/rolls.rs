//! Rolls by numbers: so many at a time, each new one proved before the next, to an end whatever happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU16,
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;
use watt_core::{
    RunId, WorkerId,
    fleet::{Fleet, FleetEvent, Goal, Request, RollProgress, Selection},
    plan::{Plan, RestartOrder, Roll, Share, Workers},
    worker::{Event, Part},
};

use crate::{
    plans::plan,
    script::{Script, id, text, worker_id},
    world::World,
};

const ALL: Selection = Selection::All;

/// The services of this text, which roll so.
fn rolling(text: &str, roll: &Roll) -> Plan {
    let mut plan = plan(text);
    plan.services.values_mut().for_each(|service| service.roll = roll.clone());
    plan
}

/// All of them up.
fn up(text: &str, roll: &Roll) -> Script {
    let mut script = Script::up(text);
    script.fleet.change_limits(&Arc::new(rolling(text, roll)));
    script
}

fn numbers(surge: u16, max_unavailable: u16) -> Roll {
    Roll { surge: Share::Count(surge), max_unavailable: Share::Count(max_unavailable), ..Roll::default() }
}

fn progress(script: &Script) -> Option<(usize, usize)> {
    script.fleet.roll_progress(&id("api")).map(|RollProgress { replaced, of }| (replaced, of))
}

#[test]
fn as_many_at_a_time_as_the_numbers_say() {
    let check = |surge, unavailable, first: &str| {
        let mut script = up("api*4", &numbers(surge, unavailable));
        assert_eq!(script.request(Request::Restart(ALL)), first, "{surge} {unavailable}");
        assert_eq!(progress(&script), Some((0, 4)));
    };
    check(1, 0, "spawn api/0b");
    check(2, 0, "spawn api/0b, spawn api/1b");
    check(9, 0, "spawn api/0b, spawn api/1b, spawn api/2b, spawn api/3b");
    check(0, 1, "drain api/0");
    check(0, 2, "drain api/0, drain api/1");
    check(1, 2, "drain api/1, drain api/2, spawn api/0b");
    check(0, 0, "drain api/0");
}

#[test]
fn a_place_that_is_free_again_is_taken_by_the_next_and_how_far_it_is_can_be_told() {
    let mut script = up("api*3", &numbers(2, 0));
    script.request(Request::Restart(ALL));
    assert_eq!(script.tell("api/1b ready"), "drain api/1");
    assert_eq!(progress(&script), Some((1, 3)));
    script.tell_all(&["api/1 drained", "api/1 exited 0"]);
    assert_eq!(script.tell("api/1 emptied"), "spawn api/2b");
    script.tell_all(&["api/0b ready", "api/2b ready"]);
    assert_eq!(progress(&script), None, "all that is left is that the old ones go");
    assert_eq!(script.verdict("api", Goal::Up), "Pending");
}

#[test]
fn a_new_worker_has_to_stay_ready_before_the_old_one_goes() {
    let roll = Roll { min_healthy: Duration::from_secs(10), ..Roll::default() };
    let mut script = up("api", &roll);
    script.request(Request::Restart(ALL));
    assert_eq!(script.tell("api/0b ready"), "");
    assert_eq!(script.verdict("api", Goal::Up), "Pending", "it is ready, and nobody knows for how long");
    assert_eq!(script.pass(Duration::from_secs(9)), "");
    // What it was before counts no more.
    script.tell_all(&["api/0b unready", "api/0b ready"]);
    assert_eq!(script.pass(Duration::from_secs(9)), "");
    assert_eq!(script.pass(Duration::from_secs(1)), "drain api/0");
    assert_eq!(script.fleet.worker(&worker_id("api/0b")).unwrap().part, Part::Stays);
}

#[test]
fn one_that_ends_before_it_has_proved_itself_fails_the_roll() {
    // Longer than what makes a run a healthy one, after which it is started again at once.
    let roll = Roll { min_healthy: Duration::from_secs(100), ..numbers(2, 0) };
    let mut script = up("api*3", &roll);
    script.request(Request::Restart(ALL));
    script.tell_all(&["api/0b ready", "api/1b ready"]);
    script.pass(Duration::from_secs(50));
    let told = script.tell_all(&["api/0b exited 3", "api/0b emptied"]);
    assert_eq!(told, "terminate-rest api/0b, release api/0b, drain api/1b", "the other one goes as well");
    script.tell_all(&["api/1b drained", "api/1b exited 0", "api/1b emptied"]);
    assert_eq!(script.verdict("api", Goal::Up), "Kept { why: Ended(Exited(3)) }");
    assert_eq!(progress(&script), None);
}

#[test]
fn a_roll_that_takes_too_long_ends() {
    let roll = Roll { deadline: Some(Duration::from_secs(20)), ..Roll::default() };
    let mut script = up("api*2", &roll);
    script.request(Request::Restart(ALL));
    assert_eq!(script.pass(Duration::from_secs(15)), "");
    // It joins, and gives it no more time.
    assert_eq!(script.request(Request::Restart(ALL)), "");
    assert_eq!(script.pass(Duration::from_secs(5)), "signal api/0b");
    script.tell_all(&["api/0b exited 0", "api/0b emptied"]);
    assert_eq!(script.verdict("api", Goal::Up), "Kept { why: Deadline }");
    assert_eq!(script.request(Request::Restart(ALL)), "spawn api/0b", "the next one has its own time");
    assert_eq!(script.tell("api/0b ready"), "drain api/0");
}

#[test]
fn where_others_are_down_they_are_waited_for_and_given_up_when_they_are() {
    let mut script = up("api*2", &numbers(0, 1));
    script.tell_all(&["api/1 exited 1", "api/1 emptied"]);
    assert_eq!(script.pass(Duration::from_secs(1)), "spawn api/1");
    assert_eq!(script.request(Request::Restart(ALL)), "signal api/1", "there is nothing to be lost");
    assert_eq!(
        script.tell_all(&["api/1 exited 0", "api/1 emptied"]),
        "terminate-rest api/1, release api/1, spawn api/1"
    );
    assert_eq!(script.verdict("api", Goal::Up), "Pending");
    assert_eq!(script.tell("api/1 ready"), "drain api/0");

    let mut script = up("api*2", &numbers(0, 1));
    script.tell_all(&["api/1 exited 1", "api/1 emptied"]);
    script.request(Request::Restart(ALL));
    for _ in 0..5 {
        script.tell_all(&["api/1 exited 1", "api/1 emptied"]);
        script.pass(Duration::from_secs(8));
    }
    assert_eq!(script.fleet.worker(&worker_id("api/0")).unwrap().part, Part::Outdated);
    assert!(progress(&script).is_none());
}

#[test]
fn a_stop_at_any_time_of_a_roll_ends_it() {
    for (surge, unavailable) in [(1, 0), (2, 0), (0, 1), (2, 2)] {
        for count in 0..4 {
            let mut world = World::new(rolling(
                "api*4",
                &Roll { min_healthy: Duration::from_secs(5), ..numbers(surge, unavailable) },
            ));
            world.request(Request::Start(ALL));
            world.go_well(40);
            world.request(Request::Restart(ALL));
            world.go_well(count);
            world.request(Request::Stop(ALL));
            world.settle_down();
            assert_eq!(world.fleet.workers_of(&id("api")).count(), 4);
            assert!(
                world.fleet.workers().all(|(_, worker)| worker.part == Part::Stays && worker.run().is_none())
            );
            assert_eq!(world.fleet.deadline(), None);
        }
    }
}

fn share() -> impl Strategy<Value = Share> {
    prop_oneof![(0u16..5).prop_map(Share::Count), (0u8..=100).prop_map(Share::Percent)]
}

prop_compose! {
    fn any_roll()(surge in share(), max_unavailable in share(), min_healthy in 0u64..3, deadline in prop::option::of(5u64..60)) -> Roll {
        Roll {
            surge,
            max_unavailable,
            min_healthy: Duration::from_secs(min_healthy),
            deadline: deadline.map(Duration::from_secs),
            ..Roll::default()
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Restart,
    Start,
    Stop,
    /// What processes do that do as they are told.
    Well(usize),
    Happen(usize),
    Pass(u64),
    Succeed,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => Just(Step::Restart),
        1 => Just(Step::Start),
        1 => Just(Step::Stop),
        8 => (1usize..5).prop_map(Step::Well),
        8 => any::<usize>().prop_map(Step::Happen),
        3 => (0u64..8_000).prop_map(Step::Pass),
        1 => Just(Step::Succeed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Whatever processes do: never more places than wanted and surge, never fewer up by the roll's doing than wanted without
    /// those that may be missing; and when they do as they are told from some moment on, every roll ends.
    #[test]
    fn a_roll_keeps_to_its_numbers_and_ends(
        workers in 1u16..6, roll in any_roll(), stops_first: bool, steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut plan = rolling("api", &roll);
        for service in plan.services.values_mut() {
            service.workers = Workers::Fixed(NonZeroU16::new(workers).unwrap());
            if stops_first {
                service.restart.order = RestartOrder::StopFirst;
            }
        }
        let mut world = World::new(plan);
        world.hold_to_numbers();
        world.request(Request::Start(ALL));
        for step in steps {
            match step {
                Step::Restart => world.request(Request::Restart(ALL)),
                Step::Start => world.request(Request::Start(ALL)),
                Step::Stop => world.request(Request::Stop(ALL)),
                Step::Well(count) => world.go_well(count),
                Step::Happen(choice) => world.happen(choice),
                Step::Pass(ms) => world.pass(Duration::from_millis(ms)),
                Step::Succeed => world.succeed(),
            }
        }
        world.settle_down();
        prop_assert!(world.fleet.roll_progress(&id("api")).is_none(), "{:?}", world.fleet.workers().collect::<Vec<_>>());
        world.end(false);
    }
}

/// The plan that failed is taken back: what is of the one from before stays as it is, whoever does it.
#[test]
fn workers_of_a_plan_that_comes_back_are_not_replaced_once_more() {
    for by_successor in [false, true] {
        let mut script = up("api*3", &Roll::default());
        let before = script.fleet.last_run();
        let new = Arc::new(rolling("api*3", &Roll::default()));
        let mut effects = Vec::new();
        script.fleet.change(script.now, &new, BTreeMap::new(), &[(id("api"), before)].into(), &mut effects);
        // One is replaced, the second replacement fails.
        script.event(FleetEvent::Tick);
        let run = script.fleet.worker(&worker_id("api/0b")).unwrap().run().unwrap();
        script.event(FleetEvent::Worker(worker_id("api/0b"), Event::Requested(run)));
        script.tell_all(&["api/0b ready", "api/0 drained", "api/0 exited 0", "api/0 emptied"]);
        script.tell_all(&["api/1b exited 7", "api/1b emptied"]);
        assert_eq!(script.fleet.take_failed_rolls().keys().collect::<Vec<_>>(), [&id("api")]);
        assert_eq!(script.fleet.worker(&worker_id("api/1")).unwrap().part, Part::Outdated);
        let spared = BTreeMap::from([(id("api"), (RunId(0), before))]);
        let renewal = [(id("api"), script.fleet.last_run())].into();
        let mut effects = Vec::new();
        if by_successor {
            let ids: Vec<WorkerId> = script.fleet.workers().map(|(id, _)| id).collect();
            let saved =
                ids.iter().map(|id| (id.clone(), script.fleet.save(script.now, id).unwrap())).collect();
            let last = script.fleet.last_run();
            script.fleet = Fleet::new(&new, RunId(1), 1);
            script.fleet.skip_runs(last);
            script.fleet.adopt(script.now, saved, Duration::ZERO, &mut Vec::new());
            script.fleet.spare(spared);
            script.fleet.go_on(script.now, BTreeMap::new(), &renewal, &BTreeSet::new(), &mut effects);
        } else {
            script.fleet.spare(spared);
            script.fleet.change(script.now, &new, BTreeMap::new(), &renewal, &mut effects);
        }
        assert_eq!(text(&effects), "spawn api/0", "the one that was replaced, and no other");
        let part = |name: &str| script.fleet.worker(&worker_id(name)).unwrap().part;
        assert_eq!((part("api/1"), part("api/2")), (Part::Stays, Part::Stays));
    }
}
