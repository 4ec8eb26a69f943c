//! Workers are replaced one after the other, and another plan takes the place of the present one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use watt_core::{
    WorkerId,
    fleet::{Fleet, FleetEvent, Goal, Leaving, Renewal, Request, Saved, Selection},
    plan::{Listen, RestartOrder},
    worker::{Part, State},
};

use crate::{
    plans::plan,
    script::{Script, id, some, text, worker_id},
};

const ALL: Selection = Selection::All;

/// The names of the workers that there are, in order.
fn places(script: &Script) -> String {
    script.fleet.workers().map(|(id, _)| id.to_string()).collect::<Vec<_>>().join(" ")
}

/// Another plan, in which these services need new workers.
fn change(script: &mut Script, services: &str, leaving: &[(&str, &str)], renewed: &str) -> String {
    let last = script.fleet.last_run();
    let renewal: Renewal = renewed.split_whitespace().map(|name| (id(name), last)).collect();
    let leaving = leaving
        .iter()
        .map(|(name, after)| (id(name), Leaving { after: after.split_whitespace().map(id).collect() }));
    let mut effects = Vec::new();
    let leaving = leaving.collect();
    script.fleet.change(script.now, &Arc::new(plan(services)), leaving, &renewal, &mut effects);
    for (worker, effect) in effects.clone() {
        if let watt_core::worker::Effect::Spawn(run) = effect {
            let asked = watt_core::worker::Event::Requested(run);
            effects.extend(script.event_alone(FleetEvent::Worker(worker, asked)));
        }
    }
    text(&effects)
}

/// The same change of a daemon that is killed when it has kept the plan, by its successor.
fn change_by_successor(script: &mut Script, services: &str, renewed: &str) -> String {
    let last = script.fleet.last_run();
    let renewal: Renewal = renewed.split_whitespace().map(|name| (id(name), last)).collect();
    succeed(script, services, &renewal)
}

/// Ends the daemon; the next one finds this plan, and the services that it renews.
fn succeed(script: &mut Script, services: &str, renewal: &Renewal) -> String {
    let last = script.fleet.last_run();
    let saved = saved(script);
    let noted: BTreeSet<WorkerId> = saved.keys().cloned().collect();
    script.fleet = Fleet::new(&Arc::new(plan(services)), watt_core::RunId(1), 1);
    script.fleet.skip_runs(last);
    script.fleet.adopt(script.now, saved, Duration::ZERO, &mut Vec::new());
    let unnoted = script.fleet.workers().map(|(id, _)| id).filter(|id| !noted.contains(id)).collect();
    let mut effects = Vec::new();
    script.fleet.go_on(script.now, BTreeMap::new(), renewal, &unnoted, &mut effects);
    text(&effects)
}

fn saved(script: &Script) -> BTreeMap<WorkerId, Saved> {
    let ids: Vec<WorkerId> = script.fleet.workers().map(|(id, _)| id).collect();
    ids.into_iter().map(|id| (id.clone(), script.fleet.save(script.now, &id).unwrap())).collect()
}

#[test]
fn a_new_worker_is_ready_before_the_old_one_is_drained() {
    let mut script = Script::up("api*2");
    assert_eq!(script.request(Request::Restart(ALL)), "spawn api/0b");
    assert_eq!(script.verdict("api", Goal::Up), "Pending");
    script.tell("api/0b executed");
    assert_eq!(script.tell("api/0b ready"), "drain api/0");
    assert_eq!(
        script.tell_all(&["api/0 drained", "api/0 exited 0"]),
        "signal api/0, terminate-rest api/0, release api/0"
    );
    // The next one when the old one has gone: there is never more than one more than wanted.
    assert_eq!(script.tell("api/0 emptied"), "spawn api/1b");
    assert_eq!(places(&script), "api/0b api/1 api/1b");
    assert_eq!(script.tell("api/1b ready"), "drain api/1");
    assert_eq!(script.verdict("api", Goal::Up), "Pending", "until the last of the old ones has gone");
    script.tell_all(&["api/1 drained", "api/1 exited 0", "api/1 emptied"]);
    assert_eq!(script.verdict("api", Goal::Up), "Ready");
    assert_eq!(places(&script), "api/0b api/1b");
    let removed: Vec<String> = script.fleet.take_removed().iter().map(ToString::to_string).collect();
    assert_eq!(removed, ["api/0", "api/1"]);
    // The places take turns.
    assert_eq!(script.request(Request::Restart(some("api"))), "spawn api/0");
}

#[test]
fn when_the_new_worker_fails_the_old_ones_stay() {
    let mut script = Script::up("api*2");
    script.request(Request::Restart(ALL));
    assert_eq!(script.tell("api/0b exited 3"), "terminate-rest api/0b, release api/0b");
    let kept = "Kept { why: Ended(Exited(3)) }";
    assert_eq!(script.tell("api/0b emptied"), "");
    assert_eq!(script.verdict("api", Goal::Up), kept);
    assert_eq!(script.pass(Duration::from_secs(60)), "", "nothing is tried again");
    assert_eq!(places(&script), "api/0 api/1");
    for worker in ["api/0", "api/1"] {
        assert!(matches!(script.state(worker), State::Ready { .. }));
        assert_eq!(script.fleet.worker(&worker_id(worker)).unwrap().part, Part::Outdated);
    }
    assert_eq!(script.verdict("api", Goal::Up), kept);
    // The next attempt.
    assert_eq!(script.request(Request::Restart(ALL)), "spawn api/0b");
    assert_eq!(script.verdict("api", Goal::Up), "Pending");
    assert_eq!(script.pass(Duration::from_secs(30)), "signal api/0b", "too late");
    script.tell_all(&["api/0b exited 0", "api/0b emptied"]);
    assert_eq!(script.verdict("api", Goal::Up), "Kept { why: Ended(StartTimeout) }");
}

#[test]
fn an_old_worker_that_ends_by_itself_makes_room_at_once() {
    let mut script = Script::up("api");
    script.request(Request::Restart(ALL));
    assert_eq!(script.tell("api/0 exited 1"), "terminate-rest api/0, release api/0");
    assert_eq!(script.tell("api/0 emptied"), "");
    assert_eq!(places(&script), "api/0b");
    assert_eq!(script.tell("api/0b ready"), "");
    assert_eq!(script.verdict("api", Goal::Up), "Ready");
}

#[test]
fn a_restart_of_everything_waits_for_nobody() {
    let mut script = Script::up("db; api: db=ready");
    assert_eq!(script.request(Request::Restart(ALL)), "spawn api/0b, spawn db/0b");
    assert_eq!(script.tell_all(&["api/0b ready", "db/0b ready"]), "drain api/0, drain db/0");
    assert_eq!(script.fleet.workers().map(|(_, worker)| worker.record.restarts).sum::<u64>(), 0);
}

#[test]
fn two_that_cannot_run_at_a_time_are_stopped_first_one_after_the_other() {
    let check = |change: fn(&mut watt_core::plan::Service), is_alone: bool| {
        let mut plan = plan("api*2");
        plan.services.values_mut().for_each(change);
        let mut script = Script::up("api*2");
        script.fleet.change_limits(&Arc::new(plan));
        script.fleet.set_alone(&id("api"), is_alone);
        let first = script.request(Request::Restart(ALL));
        assert!(first == "drain api/0" || first == "signal api/0", "{first}");
        script.tell_all(&["api/0 drained", "api/0 exited 0"]);
        assert_eq!(script.tell("api/0 emptied"), "spawn api/0");
        assert_eq!(script.verdict("api", Goal::Up), "Pending");
        let second = script.tell("api/0 ready");
        assert!(second == "drain api/1" || second == "signal api/1", "{second}");
        script.tell_all(&["api/1 drained", "api/1 exited 0", "api/1 emptied", "api/1 exited 9"]);
        assert_eq!(script.verdict("api", Goal::Up), "Pending", "it is tried again, as its policy says");
        assert_eq!(places(&script), "api/0 api/1");
    };
    check(|_| {}, true);
    check(|service| service.listen = Listen::None, false);
    check(|service| service.restart.order = RestartOrder::StopFirst, false);
}

#[test]
fn a_stop_ends_a_renewal() {
    let mut script = Script::up("api*2");
    script.request(Request::Restart(ALL));
    assert_eq!(script.stop("api"), "drain api/0, signal api/0b, drain api/1");
    script.tell_all(&["api/0b exited 0", "api/0b emptied"]);
    script.tell_all(&["api/0 drained", "api/0 exited 0", "api/0 emptied"]);
    script.tell_all(&["api/1 drained", "api/1 exited 0", "api/1 emptied"]);
    assert_eq!(places(&script), "api/0 api/1");
    assert_eq!(script.verdict("api", Goal::Down), "Down");
    assert_eq!(script.start("api"), "spawn api/0, spawn api/1");
}

#[test]
fn a_second_restart_joins_the_first_one() {
    let mut script = Script::up("api");
    script.request(Request::Restart(ALL));
    assert_eq!(script.request(Request::Restart(ALL)), "");
    script.tell_all(&["api/0b ready", "api/0 drained", "api/0 exited 0", "api/0 emptied"]);
    assert_eq!(places(&script), "api/0b");
}

#[test]
fn a_successor_goes_on_with_a_renewal_wherever_it_was() {
    let told = [
        "api/0b executed",
        "api/0b ready",
        "api/0 drained",
        "api/0 exited 0",
        "api/0 emptied",
        "api/1b ready",
    ];
    for count in 0..=told.len() {
        let mut script = Script::up("api*2");
        script.request(Request::Restart(ALL));
        script.tell_all(&told[..count]);
        succeed(&mut script, "api*2", &Renewal::new());
        script.tell_all(&told[count..]);
        script.tell_all(&["api/1 drained", "api/1 exited 0", "api/1 emptied"]);
        assert_eq!(places(&script), "api/0b api/1b", "after {count}");
        assert_eq!(script.verdict("api", Goal::Up), "Ready", "after {count}");
    }
}

#[test]
fn a_successor_that_finds_the_new_plan_alone_does_what_it_asks_for() {
    let script = Script::up("api*2; old; same");
    let last = script.fleet.last_run();
    let saved = saved(&script);
    let mut fleet = Fleet::new(&Arc::new(plan("api*3; new; old; same*1")), watt_core::RunId(1), 1);
    let known: BTreeSet<WorkerId> = saved.keys().cloned().collect();
    let mut effects = Vec::new();
    fleet.adopt(script.now, saved, Duration::ZERO, &mut effects);
    let unnoted = fleet.workers().map(|(id, _)| id).filter(|id| !known.contains(id)).collect();
    let leaving = BTreeMap::from([(id("old"), Leaving::default())]);
    fleet.go_on(script.now, leaving, &[(id("api"), last)].into(), &unnoted, &mut effects);
    assert_eq!(text(&effects), "spawn api/0b, spawn api/2, spawn new/0, drain old/0");
}

/// Whatever a worker was about to be by the plan before, it is of the new one.
#[test]
fn a_successor_that_finds_the_new_plan_alone_lets_nobody_be_of_the_one_before() {
    let check = |before: fn(&mut Script), expected: &str| {
        for by in [
            |script: &mut Script| change(script, "api*2", &[], "api"),
            |script: &mut Script| change_by_successor(script, "api*2", "api"),
        ] {
            let mut script = Script::up("api*2");
            before(&mut script);
            assert_eq!(by(&mut script), expected);
        }
    };
    fn alone(script: &mut Script) {
        script.fleet.set_alone(&id("api"), true);
        script.request(Request::Restart(ALL));
    }
    fn returns(script: &mut Script) {
        alone(script);
        script.tell_all(&["api/0 drained", "api/0 exited 0", "api/0 emptied", "api/0 executed"]);
    }
    fn replaces(script: &mut Script) {
        script.request(Request::Restart(ALL));
        script.tell("api/0b executed");
    }
    fn outdated(script: &mut Script) {
        script.request(Request::Restart(ALL));
        script.tell_all(&["api/0b exited 1", "api/0b emptied"]);
    }
    fn waits_to_be_tried_again(script: &mut Script) {
        script.tell_all(&["api/0 exited 1", "api/0 emptied"]);
    }
    check(|_| {}, "spawn api/0b");
    check(alone, "");
    check(returns, "signal api/0");
    check(replaces, "signal api/0b");
    check(outdated, "spawn api/0b");
    // Nothing is lost when that one is bad, so that the others wait for it.
    check(waits_to_be_tried_again, "spawn api/0");
}

#[test]
fn a_plan_that_was_tried_in_vain_is_not_tried_again_by_each_successor() {
    let mut script = Script::up("api*2");
    let renewal: Renewal = [(id("api"), script.fleet.last_run())].into();
    assert_eq!(change(&mut script, "api*2", &[], "api"), "spawn api/0b");
    script.tell_all(&["api/0b exited 1", "api/0b emptied"]);
    assert_eq!(succeed(&mut script, "api*2", &renewal), "");
    assert_eq!(succeed(&mut script, "api*2", &renewal), "");
    assert_eq!(places(&script), "api/0 api/1");
}

#[test]
fn another_plan_starts_stops_and_replaces_what_differs() {
    let mut script = Script::up("api*2; old; same*3");
    let effects = change(&mut script, "api*2; new: api=ready; old; same*2", &[("old", "")], "api");
    assert_eq!(effects, "drain same/2, spawn api/0b, spawn new/0, drain old/0");
    script.tell_all(&["old/0 drained", "old/0 exited 0", "old/0 emptied"]);
    assert_eq!(script.fleet.left(), [id("old")]);
    script.tell_all(&["same/2 drained", "same/2 exited 0", "same/2 emptied"]);
    assert_eq!(places(&script), "api/0 api/0b api/1 new/0 same/0 same/1");
}

#[test]
fn what_is_removed_stays_while_an_old_worker_may_need_it() {
    let mut script = Script::up("db; api: db=ready");
    assert_eq!(change(&mut script, "api; db", &[("db", "api")], "api"), "spawn api/0b");
    assert_eq!(script.tell("api/0b exited 1"), "terminate-rest api/0b, release api/0b");
    assert_eq!(script.tell("api/0b emptied"), "", "the old one goes on, and what it needs");
    assert_eq!(change(&mut script, "api; db", &[("db", "api")], "api"), "spawn api/0b");
    assert_eq!(script.tell("api/0b ready"), "drain api/0");
    script.tell_all(&["api/0 drained", "api/0 exited 0"]);
    assert_eq!(script.tell("api/0 emptied"), "drain db/0");
}

#[test]
fn a_service_that_was_stopped_stays_so() {
    let mut script = Script::up("api");
    script.stop("api");
    script.tell_all(&["api/0 drained", "api/0 exited 0", "api/0 emptied"]);
    assert_eq!(change(&mut script, "api*2", &[], "api"), "");
    assert_eq!(places(&script), "api/0 api/1");
    assert_eq!(script.start("api"), "spawn api/0, spawn api/1");
}

#[test]
fn a_failed_service_is_tried_with_the_new_plan_at_once() {
    let mut script = Script::new("api");
    script.request(Request::Start(ALL));
    script.tell_all(&["api/0 exited 1", "api/0 emptied"]);
    assert!(matches!(script.state("api/0"), State::Backoff { .. }));
    assert_eq!(change(&mut script, "api", &[], "api"), "spawn api/0");
}

#[test]
fn a_service_that_comes_back_while_it_goes_gets_a_new_worker() {
    let mut script = Script::up("api");
    assert_eq!(change(&mut script, "api", &[("api", "")], ""), "drain api/0");
    assert_eq!(change(&mut script, "api", &[], ""), "spawn api/0b");
    script.tell_all(&["api/0 drained", "api/0 exited 0", "api/0 emptied"]);
    assert_eq!(places(&script), "api/0b");
}

#[test]
fn two_that_cannot_run_at_a_time_do_not_when_their_service_comes_back() {
    let mut script = Script::up("api");
    script.fleet.set_alone(&id("api"), true);
    assert_eq!(change(&mut script, "api", &[("api", "")], ""), "drain api/0");
    assert_eq!(change(&mut script, "api", &[], ""), "");
    assert_eq!(
        script.tell_all(&["api/0 drained", "api/0 exited 0"]),
        "signal api/0, terminate-rest api/0, release api/0"
    );
    assert_eq!(script.tell("api/0 emptied"), "spawn api/0");
}

#[test]
fn a_service_that_comes_back_is_not_stopped_for_that_it_had_to_go() {
    let services = "db; api: db=ready";
    let comes_back: [fn(&mut Script) -> String; 2] = [
        |script| change(script, "db; api: db=ready", &[], ""),
        |script| succeed(script, "db; api: db=ready", &Renewal::new()),
    ];
    for comes_back in comes_back {
        let mut script = Script::up(services);
        assert_eq!(change(&mut script, services, &[("api", ""), ("db", "")], ""), "drain api/0", "then db");
        assert_eq!(comes_back(&mut script), "spawn api/0b");
        let told = script.tell_all(&["api/0 drained", "api/0 exited 0", "api/0 emptied"]);
        assert_eq!(told, "signal api/0, terminate-rest api/0, release api/0");
        // A moment without anybody that needs it.
        let told = script.tell_all(&["api/0b exited 1", "api/0b emptied"]);
        assert_eq!(told, "terminate-rest api/0b, release api/0b");
        assert!(matches!(script.state("db/0"), State::Ready { .. }));
    }
}

#[test]
fn a_change_during_a_renewal_replaces_the_new_ones_too() {
    let mut script = Script::up("api");
    change(&mut script, "api", &[], "api");
    script.tell("api/0b executed");
    assert_eq!(change(&mut script, "api", &[], "api"), "signal api/0b");
    script.tell("api/0b exited 0");
    assert_eq!(script.tell("api/0b emptied"), "spawn api/0b");
    assert_eq!(script.tell("api/0b ready"), "drain api/0");
}
