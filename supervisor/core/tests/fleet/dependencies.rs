//! Conditions, dependencies that are not required, and workers that follow those of another service.

use std::time::Duration;

use watt_core::{
    fleet::{Goal, Request, Selection},
    worker::{Part, State},
};

use crate::script::{Script, some, worker_id};

const ALL: Selection = Selection::All;

/// Everything is started; gives what is asked for at once.
fn start(text: &str) -> (Script, String) {
    let mut script = Script::new(text);
    let effects = script.request(Request::Start(ALL));
    (script, effects)
}

#[test]
fn a_service_with_a_check_is_healthy_when_it_has_passed_it() {
    let (mut script, _) = start("db@*2; api: db=healthy; web: db=ready");
    assert_eq!(script.tell_all(&["db/0 ready", "db/1 ready"]), "spawn web/0");
    assert_eq!(script.tell("db/0 healthy"), "");
    assert_eq!(script.tell("db/1 healthy"), "spawn api/0");
}

#[test]
fn a_check_that_another_run_has_passed_is_none_of_this_one() {
    let (mut script, _) = start("db@; api: db=healthy");
    script.tell_all(&["db/0 ready", "db/0 exited 1", "db/0 emptied"]);
    script.pass(Duration::from_secs(1));
    assert_eq!(script.tell_all(&["db/0 ready"]), "");
    assert_eq!(script.tell("db/0 healthy"), "spawn api/0");
}

#[test]
fn a_service_without_a_check_is_healthy_when_it_is_ready() {
    let (mut script, _) = start("db; api: db=healthy");
    assert_eq!(script.tell("db/0 ready"), "spawn api/0");
}

#[test]
fn completion_is_any_end_and_success_is_status_0() {
    let (mut script, _) = start("job!; after: job=completed; then: job=succeeded");
    script.tell_all(&["job/0 ready", "job/0 exited 3"]);
    assert_eq!(script.tell("job/0 emptied"), "spawn after/0");
    assert!(script.verdict("then", Goal::Up).starts_with("Blocked"));
}

#[test]
fn one_that_has_failed_for_good_has_ended() {
    let (mut script, _) = start("job; after: job=completed");
    for _ in 0..4 {
        script.tell_all(&["job/0 exited 3", "job/0 emptied"]);
        script.pass(Duration::from_secs(5));
    }
    script.tell("job/0 exited 3");
    assert_eq!(script.tell("job/0 emptied"), "spawn after/0");
}

#[test]
fn what_is_not_required_is_started_first_and_waited_for() {
    let mut script = Script::new("cache; api: cache=ready?");
    assert_eq!(script.start("api"), "spawn cache/0");
    assert_eq!(script.tell("cache/0 executed"), "");
    assert_eq!(script.tell("cache/0 ready"), "spawn api/0");
}

#[test]
fn what_is_not_required_holds_nobody_back_once_it_has_failed() {
    let (mut script, _) = start("cache; api: cache=ready?; web: cache=ready");
    assert_eq!(script.tell("cache/0 exited 1"), "terminate-rest cache/0, release cache/0, spawn api/0");
    assert_eq!(script.state("web/0"), State::Waiting);
    // Nor what an operator has stopped.
    let (mut script, _) = start("cache; api: cache=ready?");
    assert_eq!(script.stop("cache"), "signal cache/0, spawn api/0");
}

#[test]
fn what_is_not_required_holds_nobody_back_when_it_waits_for_something_that_failed() {
    let (mut script, _) = start("disk; base: disk=ready; cache: base=ready; api: cache=ready?");
    assert_eq!(script.tell("disk/0 exited 1"), "terminate-rest disk/0, release disk/0, spawn api/0");
    // It is told as one that waits, and not as one that is held back for good.
    assert_eq!(script.verdict("api", Goal::Up), "Pending");
    script.tell("api/0 ready");
    assert_eq!(script.verdict("api", Goal::Up), "Ready");
}

#[test]
fn what_is_not_required_is_stopped_after_those_that_use_it() {
    let mut script = Script::up("cache; api: cache=ready?");
    assert_eq!(script.request(Request::Stop(ALL)), "drain api/0");
    script.tell_all(&["api/0 drained", "api/0 exited 0"]);
    assert_eq!(script.tell("api/0 emptied"), "drain cache/0");
}

#[test]
fn followers_are_replaced_when_what_they_follow_has_been() {
    let mut script = Script::up("db; api*2: db=ready+; web: db=ready");
    assert_eq!(script.request(Request::Restart(some("db"))), "spawn db/0b");
    // One after the other, from when the new one is there.
    assert_eq!(script.tell("db/0b ready"), "drain db/0, spawn api/0b");
    script.tell_all(&["db/0 drained", "db/0 exited 0", "db/0 emptied"]);
    assert_eq!(script.tell("api/0b ready"), "drain api/0");
    script.tell_all(&["api/0 drained", "api/0 exited 0"]);
    assert_eq!(script.tell("api/0 emptied"), "spawn api/1b");
    script.tell_all(&["api/1b ready", "api/1 drained", "api/1 exited 0", "api/1 emptied"]);
    // And that is that.
    assert_eq!(script.pass(Duration::from_secs(600)), "");
    assert!(script.fleet.workers().all(|(_, worker)| worker.part == Part::Stays));
}

#[test]
fn followers_follow_a_crash_as_well_and_one_another() {
    let mut script = Script::up("db; api: db=ready+; web: api=ready+");
    script.tell_all(&["db/0 exited 1", "db/0 emptied"]);
    assert!(matches!(script.state("api/0"), State::Ready { .. }), "not before it is there again");
    assert_eq!(script.pass(Duration::from_secs(1)), "spawn db/0");
    assert_eq!(script.tell("db/0 ready"), "spawn api/0b");
    assert_eq!(script.tell("api/0b ready"), "drain api/0, spawn web/0b");
}

#[test]
fn followers_stay_as_long_as_one_is_left_that_they_know() {
    let mut script = Script::up("db*2; api: db=ready+");
    script.tell_all(&["db/0 exited 1", "db/0 emptied"]);
    assert_eq!(script.pass(Duration::from_secs(1)), "spawn db/0");
    assert_eq!(script.tell("db/0 ready"), "");
    script.tell_all(&["db/1 exited 1", "db/1 emptied"]);
    assert_eq!(script.pass(Duration::from_secs(1)), "spawn db/1");
    assert_eq!(script.tell("db/1 ready"), "spawn api/0b");
}

#[test]
fn a_follower_that_does_not_get_ready_is_not_tried_again_and_again() {
    let mut script = Script::up("db; api: db=ready+");
    script.tell_all(&["db/0 exited 1", "db/0 emptied"]);
    script.pass(Duration::from_secs(1));
    assert_eq!(script.tell("db/0 ready"), "spawn api/0b");
    script.tell_all(&["api/0b exited 1", "api/0b emptied"]);
    assert_eq!(script.pass(Duration::from_secs(60)), "");
    assert_eq!(script.fleet.worker(&worker_id("api/0")).unwrap().part, Part::Outdated);
}

#[test]
fn a_follower_that_was_stopped_stays_so() {
    let mut script = Script::up("db; api: db=ready+");
    script.stop("api");
    script.tell_all(&["api/0 drained", "api/0 exited 0", "api/0 emptied"]);
    script.tell_all(&["db/0 exited 1", "db/0 emptied"]);
    assert_eq!(script.pass(Duration::from_secs(1)), "spawn db/0");
    assert_eq!(script.tell("db/0 ready"), "");
    assert_eq!(script.state("api/0"), State::Down);
}

#[test]
fn a_job_that_runs_again_replaces_those_that_follow_it() {
    let mut script = Script::up("migrate!; api: migrate=succeeded+");
    assert_eq!(script.start("migrate"), "spawn migrate/0");
    script.tell_all(&["migrate/0 ready", "migrate/0 exited 0"]);
    assert_eq!(script.tell("migrate/0 emptied"), "spawn api/0b");
}
