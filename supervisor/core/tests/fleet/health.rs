//! Workers that are not ready any more, and those that are unhealthy.

use std::time::Duration;

use watt_core::{
    fleet::{Goal, Request, Selection},
    worker::{Part, State},
};

use crate::script::{Script, worker_id};

#[test]
fn one_unhealthy_worker_of_a_service_is_away_at_a_time() {
    let mut script = Script::up("api*3; web");
    assert_eq!(script.tell("api/1 unhealthy"), "drain api/1");
    assert_eq!(script.tell_all(&["api/0 unhealthy", "api/2 unhealthy"]), "");
    assert_eq!(script.tell("web/0 unhealthy"), "drain web/0", "another service is another matter");
    // One that says so itself is believed.
    assert_eq!(script.tell("api/2 complains"), "drain api/2");
    script.tell_all(&["api/2 drained", "api/2 exited 0", "api/2 emptied", "api/1 drained", "api/1 exited 0"]);
    assert_eq!(script.tell("api/0 unhealthy"), "", "its successor is not there yet");
    script.tell("api/1 emptied");
    script.pass(Duration::from_secs(1));
    script.tell_all(&["api/1 ready", "api/2 ready"]);
    assert_eq!(script.tell("api/0 unhealthy"), "drain api/0");
}

#[test]
fn who_is_to_be_stopped_is_not_replaced() {
    let mut script = Script::up("db; api: db=ready");
    script.request(Request::Stop(Selection::All));
    assert_eq!(script.tell("db/0 unhealthy"), "");
    assert!(matches!(script.state("db/0"), State::Ready { .. }));
}

/// It may be what an operator reloads for: others take its place one after the other, as with those that are ready.
#[test]
fn one_that_is_not_ready_any_more_is_renewed_like_any_other() {
    let mut script = Script::up("api*2");
    script.tell_all(&["api/0 unready", "api/1 unready"]);
    assert_eq!(script.request(Request::Restart(Selection::All)), "spawn api/0b");
    let part = |script: &Script, id: &str| script.fleet.worker(&worker_id(id)).unwrap().part;
    assert_eq!((part(&script, "api/0"), part(&script, "api/1")), (Part::Due, Part::Due));
    assert_eq!(script.tell("api/0b ready"), "drain api/0");
}

#[test]
fn nobody_waits_without_end_for_one_that_is_not_ready_any_more() {
    let mut script = Script::new("api; web: api=ready; log: api=started");
    script.request(Request::Start(Selection::All));
    script.tell_all(&["api/0 executed", "log/0 ready", "api/0 ready", "api/0 unready"]);
    assert_eq!(script.verdict("api", Goal::Up), "Unready");
    assert_eq!(script.verdict("log", Goal::Up), "Ready");
    // Its dependency was ready for a moment, so it was started.
    assert_eq!(script.verdict("web", Goal::Up), "Pending");
    script.tell_all(&["web/0 exited 1", "web/0 emptied"]);
    script.pass(Duration::from_secs(1));
    let verdict = script.verdict("web", Goal::Up);
    assert!(verdict.starts_with("Blocked") || verdict.starts_with("Failed"), "{verdict}");
    script.tell("api/0 ready");
    assert_eq!(script.verdict("api", Goal::Up), "Ready");
}
