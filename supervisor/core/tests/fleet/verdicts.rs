//! When an operation is done, and what came of it.

use std::time::Duration;

use watt_core::{
    fleet::{Goal, Request, Selection, Verdict},
    worker::State,
};

use crate::script::{Script, id};

#[test]
fn up_is_reached_when_everything_is_ready_or_completed() {
    let mut script = Script::new("migrate!; api*2: migrate=succeeded");
    script.request(Request::Start(Selection::All));
    assert_eq!(script.verdict("migrate", Goal::Up), "Pending");
    assert_eq!(script.verdict("api", Goal::Up), "Pending");
    script.tell_all(&["migrate/0 ready", "migrate/0 exited 0", "migrate/0 emptied"]);
    assert_eq!(script.verdict("migrate", Goal::Up), "Completed");
    script.tell("api/0 ready");
    assert_eq!(script.verdict("api", Goal::Up), "Pending");
    script.tell("api/1 ready");
    assert_eq!(script.verdict("api", Goal::Up), "Ready");
    let verdicts = script.fleet.verdicts(&Selection::All, Goal::Up);
    assert_eq!(verdicts.len(), 2);
    assert!(verdicts.values().all(|verdict| verdict.is_ok(Goal::Up)));
}

#[test]
fn a_crash_loop_is_pending_until_it_has_failed_too_often() {
    let mut script = Script::new("api");
    script.request(Request::Start(Selection::All));
    for failures in 1..=5 {
        assert_eq!(script.verdict("api", Goal::Up), "Pending", "after {} failures", failures - 1);
        script.tell_all(&["api/0 exited 3", "api/0 emptied"]);
        script.pass(Duration::from_secs(5));
    }
    assert!(matches!(script.state("api/0"), State::Failed { .. }));
    assert_eq!(script.verdict("api", Goal::Up), "Failed { exit: Some(Exited(3)) }");
}

#[test]
fn a_start_that_takes_too_long_is_the_operators_answer_although_it_is_tried_again() {
    let mut script = Script::new("api");
    script.request(Request::Start(Selection::All));
    assert_eq!(script.pass(Duration::from_secs(30)), "signal api/0");
    let failed = "Failed { exit: Some(StartTimeout) }";
    assert_eq!(script.verdict("api", Goal::Up), failed);
    script.tell_all(&["api/0 exited 0", "api/0 emptied"]);
    assert_eq!(script.verdict("api", Goal::Up), failed);
    // The answer stays while the next try is under way, so that two such services are not waited for in turns.
    assert_eq!(script.pass(Duration::from_secs(1)), "spawn api/0");
    assert_eq!(script.verdict("api", Goal::Up), failed);
    script.tell("api/0 ready");
    assert_eq!(script.verdict("api", Goal::Up), "Ready");
}

#[test]
fn who_waits_for_something_that_will_not_come_is_blocked() {
    let mut script = Script::new("migrate!; api: migrate=succeeded; web: api=ready");
    script.request(Request::Start(Selection::All));
    assert_eq!(script.verdict("web", Goal::Up), "Pending");
    script.tell_all(&["migrate/0 exited 1", "migrate/0 emptied"]);
    assert_eq!(script.verdict("migrate", Goal::Up), "Failed { exit: Some(Exited(1)) }");
    assert_eq!(script.verdict("api", Goal::Up), "Blocked { on: (migrate, CompletedSuccessfully) }");
    assert_eq!(script.verdict("web", Goal::Up), "Blocked { on: (api, Ready) }");
}

#[test]
fn a_service_that_never_ends_is_not_waited_for_to_complete() {
    let mut script = Script::new("db; api: db=completed");
    script.request(Request::Start(Selection::All));
    assert_eq!(script.verdict("api", Goal::Up), "Pending");
    script.tell("db/0 ready");
    assert_eq!(script.verdict("api", Goal::Up), "Blocked { on: (db, Completed) }");
    // One that may end is.
    let mut script = Script::new("job!; api: job=succeeded");
    script.request(Request::Start(Selection::All));
    script.tell("job/0 ready");
    assert_eq!(script.verdict("api", Goal::Up), "Pending");
}

#[test]
fn services_that_wait_for_each_other_are_blocked() {
    let mut script = Script::new("a: b=ready; b: a=ready");
    script.request(Request::Start(Selection::All));
    assert!(script.verdict("a", Goal::Up).starts_with("Blocked"));
    assert!(script.verdict("b", Goal::Up).starts_with("Blocked"));
}

#[test]
fn down_is_reached_when_nothing_runs() {
    let mut script = Script::up("db; api: db=ready");
    script.request(Request::Stop(Selection::All));
    // The database waits for its turn, which is no other wish.
    assert_eq!(script.verdict("db", Goal::Down), "Pending");
    assert_eq!(script.verdict("api", Goal::Down), "Pending");
    script.tell_all(&["api/0 drained", "api/0 exited 0", "api/0 emptied"]);
    assert_eq!(script.verdict("api", Goal::Down), "Down");
    script.tell_all(&["db/0 drained", "db/0 exited 0", "db/0 emptied"]);
    let verdicts = script.fleet.verdicts(&Selection::All, Goal::Down);
    assert!(verdicts.values().all(|verdict| verdict.is_ok(Goal::Down)));
}

#[test]
fn the_opposite_wish_of_another_operator_ends_the_wait() {
    let mut script = Script::up("api");
    script.stop("api");
    assert_eq!(script.verdict("api", Goal::Up), "Overruled");
    script.start("api");
    assert_eq!(script.verdict("api", Goal::Down), "Overruled");
    assert_eq!(script.verdict("api", Goal::Up), "Pending");
}

#[test]
fn only_the_selected_services_are_judged() {
    let script = Script::up("db; api: db=ready");
    let selection = Selection::Services([id("api"), id("nobody")].into());
    let verdicts = script.fleet.verdicts(&selection, Goal::Up);
    assert_eq!(verdicts.into_iter().collect::<Vec<_>>(), [(id("api"), Verdict::Ready)]);
}
