//! Groups: who is started anew with one that fails.

use std::time::Duration;

use watt_core::{
    fleet::{Goal, Request, Selection},
    worker::{ExitCause, State},
};

use crate::script::{Script, some, worker_id};

fn restarts(script: &Script, worker: &str) -> u64 {
    script.fleet.worker(&worker_id(worker)).unwrap().record.restarts
}

#[test]
fn one_for_all_ends_all_before_any_starts() {
    let mut script = Script::up("a; b*2; c: a=ready; other; all(a b c)");
    assert_eq!(
        script.tell("b/1 exited 1"),
        "terminate-rest b/1, release b/1, drain a/0, drain b/0, drain c/0"
    );
    script.tell_all(&["b/1 emptied", "a/0 drained", "a/0 exited 0", "a/0 emptied"]);
    assert_eq!(script.state("a/0"), State::Waiting);
    assert_eq!(script.pass(Duration::from_secs(1)), "", "two of them are still there");
    script.tell_all(&["b/0 drained", "b/0 exited 0", "b/0 emptied", "c/0 drained", "c/0 exited 0"]);
    assert_eq!(script.tell("c/0 emptied"), "spawn a/0, spawn b/0, spawn b/1");
    assert_eq!(script.tell("a/0 ready"), "spawn c/0");
    assert!(matches!(script.state("other/0"), State::Ready { .. }));
    assert_eq!((restarts(&script, "a/0"), restarts(&script, "c/0")), (1, 1));
    let last = script.fleet.worker(&worker_id("c/0")).unwrap().record.last_exit.clone();
    assert_eq!(last, Some(ExitCause::Group));
}

#[test]
fn one_for_all_waits_for_the_one_that_failed() {
    let mut script = Script::up("a; b; all(a b)");
    script.tell_all(&["a/0 exited 1", "a/0 emptied", "b/0 drained", "b/0 exited 0"]);
    assert_eq!(script.tell("b/0 emptied"), "");
    assert!(matches!(script.state("a/0"), State::Backoff { .. }));
    assert_eq!(script.pass(Duration::from_secs(1)), "spawn a/0, spawn b/0");
}

#[test]
fn rest_for_one_ends_those_after_it() {
    let mut script = Script::up("a; b; c; rest(c a b)");
    assert_eq!(script.tell("a/0 exited 1"), "terminate-rest a/0, release a/0, drain b/0");
    assert!(matches!(script.state("c/0"), State::Ready { .. }));
    script.tell_all(&["a/0 emptied", "b/0 drained", "b/0 exited 0", "b/0 emptied"]);
    assert_eq!(script.pass(Duration::from_secs(1)), "spawn a/0, spawn b/0");
}

#[test]
fn one_for_one_ends_nobody() {
    let mut script = Script::up("a; b; one(a b)");
    assert_eq!(script.tell("a/0 exited 1"), "terminate-rest a/0, release a/0");
}

#[test]
fn what_an_operator_does_and_what_completes_is_no_failure() {
    let mut script = Script::up("a; b; task!; all(a b task)");
    assert_eq!(script.request(Request::Restart(some("a"))), "spawn a/0b");
    script.tell_all(&["a/0b ready", "a/0 drained", "a/0 exited 1", "a/0 emptied"]);
    assert_eq!(script.stop("a"), "drain a/0b");
    assert!(matches!(script.state("b/0"), State::Ready { .. }));
    assert_eq!(script.start("task"), "spawn task/0");
    assert_eq!(
        script.tell("task/0 exited 1"),
        "terminate-rest task/0, release task/0",
        "it is not started again"
    );
    assert!(matches!(script.state("b/0"), State::Ready { .. }));
}

#[test]
fn a_new_worker_that_fails_has_the_old_one_to_fall_back_on() {
    let mut script = Script::up("a; b; all(a b)");
    script.request(Request::Restart(some("a")));
    assert_eq!(script.tell("a/0b exited 1"), "terminate-rest a/0b, release a/0b");
    assert!(matches!(script.state("b/0"), State::Ready { .. }));
}

#[test]
fn the_failures_of_a_group_count_together() {
    let mut script = Script::up("a; b; one(a b)/3");
    for worker in ["a/0", "b/0"] {
        script.tell_all(&[&format!("{worker} exited 1"), &format!("{worker} emptied")]);
        assert_eq!(script.pass(Duration::from_secs(1)), format!("spawn {worker}"));
    }
    script.tell_all(&["a/0 ready", "b/0 ready", "b/0 exited 1", "b/0 emptied"]);
    assert!(matches!(script.state("b/0"), State::Failed { .. }), "{:?}", script.state("b/0"));
    assert!(matches!(script.state("a/0"), State::Ready { .. }));
}

#[test]
fn failures_that_are_far_apart_are_not_too_many_for_a_group() {
    let mut script = Script::up("a; b; one(a b)/2");
    script.tell_all(&["a/0 exited 1", "a/0 emptied"]);
    script.pass(Duration::from_secs(61));
    script.tell_all(&["b/0 exited 1", "b/0 emptied"]);
    assert!(
        matches!(script.state("b/0"), State::Waiting | State::Starting { .. }),
        "it was healthy for long"
    );
}

#[test]
fn those_that_wait_for_one_that_has_failed_say_so() {
    let mut script = Script::up("a; b; all(a b)/1");
    script.tell_all(&["b/0 exited 1", "b/0 emptied", "a/0 drained", "a/0 exited 0", "a/0 emptied"]);
    assert!(matches!(script.state("b/0"), State::Failed { .. }));
    assert_eq!(script.state("a/0"), State::Waiting);
    assert_eq!(script.verdict("a", Goal::Up), "Blocked { on: (b, Started) }");
    // The slow retry starts all of them.
    assert_eq!(script.pass(Duration::from_secs(300)), "spawn a/0, spawn b/0");
}

#[test]
fn what_is_to_be_stopped_is_not_started_anew() {
    let mut script = Script::up("db; api: db=ready; all(db api)");
    script.request(Request::Stop(Selection::All));
    assert_eq!(script.tell("db/0 exited 1"), "terminate-rest db/0, release db/0");
}
