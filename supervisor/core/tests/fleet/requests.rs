//! What operators ask for, and in which order it happens.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use watt_core::{
    RunId, WorkerId,
    fleet::{Fleet, FleetEvent, Request, Selection},
    plan::Condition,
    worker::{Event, ExitCause, State},
};

use crate::{
    plans::plan,
    script::{Script, id, some},
};

const ALL: Selection = Selection::All;

#[test]
fn services_start_when_their_dependencies_are_there() {
    let mut script = Script::new("db; api*2: db=ready; web: api=started; worker");
    // What has no dependencies starts in parallel.
    assert_eq!(script.request(Request::Start(ALL)), "spawn db/0, spawn worker/0");
    assert_eq!(script.tell("db/0 executed"), "");
    assert_eq!(script.tell("db/0 ready"), "spawn api/0, spawn api/1");
    // Every worker of a dependency counts.
    assert_eq!(script.tell("api/1 executed"), "");
    assert_eq!(script.fleet.waiting_for(&id("web")), [(id("api"), Condition::Started)]);
    assert_eq!(script.tell("api/0 executed"), "spawn web/0");
    assert_eq!(script.fleet.waiting_for(&id("web")), []);
}

#[test]
fn a_dependency_is_waited_for_over_several_runs() {
    // process-compose #189: the wait must not be for one incarnation.
    let mut script = Script::new("db; api: db=ready");
    script.request(Request::Start(ALL));
    assert_eq!(script.tell_all(&["db/0 exited 1", "db/0 emptied"]), "terminate-rest db/0, release db/0");
    assert_eq!(script.pass(Duration::from_secs(1)), "spawn db/0");
    assert_eq!(script.tell("db/0 ready"), "spawn api/0");
}

#[test]
fn a_dependency_that_goes_away_bounces_nobody() {
    let mut script = Script::up("db; api: db=ready");
    script.tell_all(&["db/0 exited 1", "db/0 emptied"]);
    assert!(matches!(script.state("api/0"), State::Ready { .. }));
    // But one that starts again in the meantime waits for it.
    script.tell_all(&["api/0 exited 1", "api/0 emptied"]);
    assert_eq!(script.pass(Duration::from_secs(1)), "spawn db/0");
    assert_eq!(script.state("api/0"), State::Waiting);
    assert_eq!(script.tell("db/0 ready"), "spawn api/0");
}

#[test]
fn a_job_that_has_to_complete_holds_back_until_it_did_so_well() {
    let mut script = Script::new("migrate!; api: migrate=succeeded");
    script.request(Request::Start(ALL));
    assert_eq!(
        script.tell_all(&["migrate/0 executed", "migrate/0 ready", "migrate/0 exited 1"]),
        "terminate-rest migrate/0, release migrate/0"
    );
    script.tell("migrate/0 emptied");
    assert_eq!(script.state("migrate/0"), State::Completed { exit: ExitCause::Exited(1) });
    assert_eq!(script.fleet.waiting_for(&id("api")), [(id("migrate"), Condition::CompletedSuccessfully)]);
    // The operator tries again.
    assert_eq!(script.start("migrate"), "spawn migrate/0");
    assert_eq!(
        script.tell_all(&["migrate/0 exited 0", "migrate/0 emptied"]),
        "terminate-rest migrate/0, release migrate/0, spawn api/0"
    );
}

#[test]
fn a_start_takes_along_what_is_needed_and_nothing_else() {
    let mut script = Script::new("db; cache; api: db=ready; web: api=ready");
    assert_eq!(script.start("web"), "spawn db/0");
    assert_eq!(script.state("cache/0"), State::Down);
    assert_eq!(script.state("api/0"), State::Waiting);
}

#[test]
fn a_completed_dependency_is_not_run_again_unless_it_is_named() {
    let mut script = Script::up("migrate!; api: migrate=succeeded");
    script.stop("api");
    script.tell_all(&["api/0 drained", "api/0 exited 0", "api/0 emptied"]);
    assert_eq!(script.start("api"), "spawn api/0");
    assert_eq!(script.request(Request::Start(ALL)), "");
    assert_eq!(script.request(Request::Restart(some("api"))), "signal api/0", "it does not serve yet");
    assert_eq!(script.start("migrate"), "spawn migrate/0");
}

#[test]
fn everything_stops_dependents_first_and_independent_ones_together() {
    let mut script = Script::up("db; api: db=ready; web: api=ready; worker: db=ready; other");
    assert_eq!(script.request(Request::Stop(ALL)), "drain worker/0, drain web/0, drain other/0");
    assert_eq!(
        script.tell_all(&["web/0 drained", "web/0 exited 0"]),
        "signal web/0, terminate-rest web/0, release web/0"
    );
    assert_eq!(script.tell("web/0 emptied"), "drain api/0");
    script.tell_all(&["api/0 drained", "api/0 exited 0", "api/0 emptied"]);
    script.tell_all(&["worker/0 drained", "worker/0 exited 0"]);
    // The database waits for the last of those that depend on it.
    assert_eq!(script.tell("worker/0 emptied"), "drain db/0");
}

#[test]
fn the_order_of_a_stop_reaches_over_services_that_are_not_stopped() {
    let mut script = Script::up("db; api: db=ready; web: api=ready");
    assert_eq!(script.stop("db web"), "drain web/0");
    script.tell_all(&["web/0 drained", "web/0 exited 0"]);
    assert_eq!(script.tell("web/0 emptied"), "drain db/0");
    assert!(matches!(script.state("api/0"), State::Ready { .. }));
}

#[test]
fn a_stop_of_one_service_leaves_its_dependents_and_its_dependencies() {
    let mut script = Script::up("db; api: db=ready; web: api=ready");
    assert_eq!(script.stop("api"), "drain api/0");
    script.tell_all(&["api/0 drained", "api/0 exited 0", "api/0 emptied"]);
    assert_eq!(script.state("api/0"), State::Down);
    assert!(matches!(script.state("web/0"), State::Ready { .. }));
    assert!(matches!(script.state("db/0"), State::Ready { .. }));
}

#[test]
fn a_service_that_dies_while_it_waits_for_its_turn_to_stop_stays_down() {
    let mut script = Script::up("db; api: db=ready");
    script.request(Request::Stop(ALL));
    script.pass(Duration::from_secs(1));
    assert_eq!(script.tell("db/0 exited 1"), "terminate-rest db/0, release db/0");
    assert_eq!(script.tell("db/0 emptied"), "");
    assert_eq!(script.state("db/0"), State::Down);
}

#[test]
fn a_start_takes_back_a_stop_that_has_not_had_its_turn() {
    let mut script = Script::up("db; api: db=ready");
    script.request(Request::Stop(ALL));
    assert_eq!(script.start("db"), "");
    script.tell_all(&["api/0 drained", "api/0 exited 0", "api/0 emptied"]);
    assert_eq!(script.state("api/0"), State::Down);
    assert!(matches!(script.state("db/0"), State::Ready { .. }));
}

#[test]
fn two_stops_keep_one_order() {
    let mut script = Script::up("db; api: db=ready; web: api=ready");
    assert_eq!(script.stop("api web"), "drain web/0");
    assert_eq!(script.stop("db"), "");
    script.tell_all(&["web/0 drained", "web/0 exited 0"]);
    assert_eq!(script.tell("web/0 emptied"), "drain api/0");
    script.tell_all(&["api/0 drained", "api/0 exited 0"]);
    assert_eq!(script.tell("api/0 emptied"), "drain db/0");
}

#[test]
fn a_restart_starts_what_is_down_and_what_it_needs() {
    let mut script = Script::new("db; api: db=ready");
    assert_eq!(script.request(Request::Restart(some("api"))), "spawn db/0");
}

#[test]
fn after_a_shutdown_nothing_starts_any_more() {
    let mut script = Script::up("db; api: db=ready");
    assert_eq!(script.request(Request::Shutdown { now: false }), "drain api/0");
    assert!(script.fleet.is_shutting_down());
    assert_eq!(script.request(Request::Start(ALL)), "");
    assert_eq!(script.request(Request::Restart(ALL)), "");
    script.tell_all(&["api/0 drained", "api/0 exited 0"]);
    assert_eq!(script.tell("api/0 emptied"), "drain db/0");
    assert!(!script.fleet.is_idle());
    script.tell_all(&["db/0 drained", "db/0 exited 0", "db/0 emptied"]);
    assert!(script.fleet.is_idle());
    assert_eq!(script.fleet.deadline(), None);
}

#[test]
fn a_second_shutdown_kills() {
    let mut script = Script::up("db; api: db=ready");
    script.request(Request::Shutdown { now: false });
    assert_eq!(script.request(Request::Shutdown { now: true }), "kill api/0, kill db/0");
    // Again, until everything has gone: a process may have slipped through.
    assert_eq!(script.pass(Duration::from_secs(1)), "kill api/0, kill db/0");
    script.tell_all(&["api/0 exited 0", "api/0 emptied", "db/0 exited 0", "db/0 emptied"]);
    assert!(script.fleet.is_idle());
}

#[test]
fn a_cycle_is_waited_for_and_stopped_without_hanging() {
    let mut script = Script::new("a: b=ready; b: a=ready; c: a=ready; d");
    assert_eq!(script.request(Request::Start(ALL)), "spawn d/0");
    assert_eq!(script.state("a/0"), State::Waiting);
    assert_eq!(script.request(Request::Shutdown { now: false }), "drain d/0".replace("drain", "signal"));
    for worker in ["a/0", "b/0", "c/0"] {
        assert_eq!(script.state(worker), State::Down);
    }
}

#[test]
fn names_that_do_not_exist_are_left_out() {
    let mut script = Script::new("api");
    assert_eq!(script.start("nobody"), "");
    assert_eq!(script.stop("nobody"), "");
    let nobody = WorkerId::new(id("nobody"), 0);
    assert_eq!(script.event(FleetEvent::Worker(nobody, Event::Ready(RunId(1)))), "");
    let tenth = WorkerId::new(id("api"), 10);
    assert_eq!(script.event(FleetEvent::Worker(tenth, Event::Start)), "");
    assert_eq!(script.fleet.workers_of(&id("nobody")).count(), 0);
    assert!(script.fleet.waiting_for(&id("nobody")).is_empty());
}

#[test]
fn what_changed_is_named_once() {
    let mut script = Script::new("db; api: db=ready");
    script.request(Request::Start(ALL));
    let names = |fleet: &mut Fleet| fleet.take_changed().iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&mut script.fleet), ["api/0", "db/0"]);
    script.tell("db/0 executed");
    assert_eq!(names(&mut script.fleet), ["db/0"]);
    script.tell("db/0 executed");
    assert_eq!(names(&mut script.fleet), [""; 0]);
}

#[test]
fn the_deadline_is_the_earliest_of_all() {
    let mut script = Script::new("a; b");
    script.start("a");
    let first = script.now + Duration::from_secs(30);
    assert_eq!(script.fleet.deadline(), Some(first));
    script.pass(Duration::from_secs(1));
    script.start("b");
    assert_eq!(script.fleet.deadline(), Some(first));
    script.tell("a/0 ready");
    assert_eq!(script.fleet.deadline(), Some(script.now + Duration::from_secs(30)));
}

#[test]
fn a_thousand_services_in_a_chain_start_and_stop() {
    let service = |n: usize| match n {
        0 => "s0".to_owned(),
        n => format!("s{n}: s{}=ready", n - 1),
    };
    let text = (0..1000).map(service).collect::<Vec<_>>().join(";");
    let mut fleet = Fleet::new(&Arc::new(plan(&text)), RunId(1), 0);
    let now = Instant::now();
    let mut effects = Vec::new();
    fleet.handle(now, FleetEvent::Request(Request::Start(some("s999"))), &mut effects);
    for n in 0..1000 {
        let worker = WorkerId::new(id(&format!("s{n}")), 0);
        let run = fleet.worker(&worker).and_then(|worker| worker.run()).unwrap();
        fleet.handle(now, FleetEvent::Worker(worker, Event::Ready(run)), &mut effects);
    }
    assert_eq!(effects.len(), 1000);
    fleet.handle(now, FleetEvent::Request(Request::Shutdown { now: false }), &mut effects);
    assert_eq!(effects.len(), 1001);
    for n in (0..1000).rev() {
        let worker = WorkerId::new(id(&format!("s{n}")), 0);
        let run = fleet.worker(&worker).and_then(|worker| worker.run()).unwrap();
        fleet.handle(now, FleetEvent::Worker(worker, Event::Emptied(run)), &mut effects);
    }
    assert!(fleet.is_idle());
}

#[test]
fn a_service_without_a_run_keeps_its_place_in_the_order() {
    // Found by the random sequences: web depends on db by way of a job that has ended.
    let mut script = Script::up("db; migrate!: db=ready; web: migrate=succeeded");
    assert_eq!(script.request(Request::Shutdown { now: false }), "drain web/0");
    script.tell_all(&["web/0 drained", "web/0 exited 0"]);
    assert_eq!(script.tell("web/0 emptied"), "drain db/0");
}
