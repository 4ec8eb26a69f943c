//! A successor takes over what a predecessor saved.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use watt_core::{
    RunId, WorkerId,
    fleet::{Fleet, FleetEvent, Request, Saved, Selection},
    worker::{Effect, Event, State, Worker},
};

use crate::{
    plans::plan,
    script::{Script, text, worker_id},
};

/// Ends the daemon and starts another one `passed` later.
fn succeed(script: &mut Script, services: &str, passed: Duration) -> String {
    let saved = saved(script);
    script.now += passed;
    script.fleet = Fleet::new(&Arc::new(plan(services)), RunId(1), 1);
    let mut effects = Vec::new();
    assert_eq!(script.fleet.adopt(script.now, saved, passed, &mut effects), []);
    script.fleet.go_on(script.now, BTreeMap::new(), &BTreeMap::new(), &BTreeSet::new(), &mut effects);
    script.fleet.handle(script.now, FleetEvent::Tick, &mut effects);
    text(&effects)
}

fn saved(script: &Script) -> BTreeMap<WorkerId, Saved> {
    let ids: Vec<WorkerId> = script.fleet.workers().map(|(id, _)| id).collect();
    ids.into_iter().map(|id| (id.clone(), script.fleet.save(script.now, &id).unwrap())).collect()
}

#[test]
fn nothing_is_lost_in_any_state() {
    let services = "a; b; c; d: e=ready; e!; f; g; h; i; k";
    let mut script = Script::new(services);
    script.request(Request::Start(Selection::All));
    script.tell("a/0 executed");
    script.tell("b/0 ready");
    script.tell_all(&["c/0 exited 1", "c/0 emptied"]);
    script.tell_all(&["e/0 exited 5", "e/0 emptied"]);
    script.tell("f/0 ready");
    script.stop("f");
    script.tell("g/0 ready");
    script.stop("g");
    script.tell("g/0 drained");
    script.tell("h/0 exited 1");
    script.stop("i");
    script.tell_all(&["i/0 exited 0", "i/0 emptied"]);
    for _ in 0..5 {
        script.tell_all(&["k/0 exited 1", "k/0 emptied"]);
        script.request(Request::Start(Selection::Services(Default::default())));
        if let State::Backoff { until, .. } = script.state("k/0") {
            let wait = until - script.now;
            // Others have their time as well; only k's retry matters here.
            script.now += wait;
            script.event(FleetEvent::Tick);
        }
    }
    let before: Vec<(WorkerId, Worker)> =
        script.fleet.workers().map(|(id, worker)| (id, worker.clone())).collect();
    let kinds: std::collections::BTreeSet<String> = before
        .iter()
        .map(|(_, worker)| format!("{:?}", worker.state).split([' ', '{']).next().unwrap().to_owned())
        .collect();
    assert!(kinds.len() >= 8, "the script reaches too few states: {kinds:?}");

    let saved = saved(&script);
    let mut fleet = Fleet::new(&Arc::new(plan(services)), RunId(1), 1);
    fleet.adopt(script.now, saved, Duration::ZERO, &mut Vec::new());
    let after: Vec<(WorkerId, Worker)> = fleet.workers().map(|(id, worker)| (id, worker.clone())).collect();
    assert_eq!(after, before);
}

#[test]
fn what_the_predecessor_may_not_have_done_is_done_again() {
    let check = |prepare: &[&str], stop: bool, then: &[&str], expected: &str| {
        let mut script = Script::new("api");
        script.request(Request::Start(Selection::All));
        script.tell_all(prepare);
        if stop {
            script.stop("api");
        }
        script.tell_all(then);
        assert_eq!(succeed(&mut script, "api", Duration::ZERO), expected, "{prepare:?} {stop} {then:?}");
    };
    check(&[], false, &[], "");
    check(&["api/0 ready"], false, &[], "");
    check(&["api/0 ready"], true, &[], "drain api/0");
    check(&["api/0 ready"], true, &["api/0 drained"], "signal api/0");
    check(
        &["api/0 ready"],
        true,
        &["api/0 drained", "api/0 exited 0"],
        "terminate-rest api/0, release api/0",
    );
}

#[test]
fn a_process_that_was_not_asked_for_is_asked_for_by_the_successor_and_not_late() {
    let mut script = Script::new("api; db");
    let effects = script.event_alone(FleetEvent::Request(Request::Start(Selection::All)));
    let [(_, Effect::Spawn(first)), (_, Effect::Spawn(second))] = effects[..] else { panic!("{effects:?}") };
    let asked = FleetEvent::Worker(worker_id("api/0"), Event::Requested(first));
    assert_eq!(script.event_alone(asked), []);
    // Longer than it takes to be late, but for the one that was asked for.
    assert_eq!(succeed(&mut script, "api; db", Duration::from_secs(1000)), "spawn db/0, signal api/0");
    assert_eq!(script.fleet.worker(&worker_id("db/0")).unwrap().run(), Some(second));
    assert_eq!(script.pass(Duration::from_secs(1000)), "kill api/0");
    script.event_alone(FleetEvent::Worker(worker_id("db/0"), Event::Requested(second)));
    assert!(script.pass(Duration::from_secs(1000)).contains("signal db/0"));
}

#[test]
fn time_went_on_while_nobody_looked() {
    let mut script = Script::new("late; slow; fresh");
    script.request(Request::Start(Selection::All));
    script.tell("late/0 ready");
    script.stop("late");
    script.tell("late/0 drained");
    script.tell("fresh/0 ready");
    script.tell_all(&["slow/0 exited 1", "slow/0 emptied"]);
    let effects = succeed(&mut script, "late; slow; fresh", Duration::from_secs(10));
    assert_eq!(effects, "signal late/0, kill late/0, spawn slow/0");
    let State::Ready { since, .. } = script.state("fresh/0") else { panic!() };
    assert_eq!(script.now - since, Duration::from_secs(10));
}

#[test]
fn numbers_of_runs_are_not_given_out_twice() {
    let mut script = Script::up("a; b");
    let highest = script.fleet.workers().filter_map(|(_, worker)| worker.run()).max().unwrap();
    succeed(&mut script, "a; b", Duration::ZERO);
    script.tell_all(&["a/0 exited 1", "a/0 emptied"]);
    script.pass(Duration::from_secs(1));
    assert!(script.fleet.worker(&worker_id("a/0")).unwrap().run().unwrap() > highest);
}

#[test]
fn a_stop_that_waited_for_its_turn_still_comes() {
    let services = "db; api: db=ready";
    let mut script = Script::up(services);
    script.request(Request::Stop(Selection::All));
    assert_eq!(succeed(&mut script, services, Duration::ZERO), "drain api/0");
    script.tell_all(&["api/0 drained", "api/0 exited 0"]);
    assert_eq!(script.tell("api/0 emptied"), "drain db/0");
}

#[test]
fn a_waiting_worker_goes_on_when_its_dependency_came_meanwhile() {
    let mut script = Script::new("db; api: db=ready");
    script.request(Request::Start(Selection::All));
    succeed(&mut script, "db; api: db=ready", Duration::ZERO);
    assert_eq!(script.state("api/0"), State::Waiting);
    assert_eq!(script.tell("db/0 ready"), "spawn api/0");
}

#[test]
fn workers_of_another_plan_are_given_back() {
    let script = Script::up("api*2; old");
    let mut fleet = Fleet::new(&Arc::new(plan("api")), RunId(1), 0);
    let foreign = fleet.adopt(script.now, saved(&script), Duration::ZERO, &mut Vec::new());
    let names: Vec<String> = foreign.iter().map(|(id, _)| id.to_string()).collect();
    assert_eq!(names, ["old/0"]);
}
