//! Workers that stall are replaced, and that is no storm of restarts.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    time::{Duration, Instant},
};

use proptest::prelude::*;
use watt_core::{
    WorkerId,
    fleet::{FleetEvent, RECYCLE_APART, RECYCLE_APART_MAX, Request, Saved, Selection},
    plan::Resource,
    worker::{ExitCause, Recycled, Stall, State},
};

use crate::script::{Script, worker_id};

const STALL: Stall = Stall { resource: Resource::Memory, percent: 43 };

/// A worker stalls; what is done about it.
fn stall(script: &mut Script, worker: &str) -> String {
    let id = worker_id(worker);
    let run = script.fleet.worker(&id).and_then(|worker| worker.run()).unwrap();
    script.event(FleetEvent::Stalled(id, run, STALL))
}

/// Lets a worker that is being replaced do as it is told, and its successor get ready.
fn replace(script: &mut Script, worker: &str) {
    let tell = |what: &str| format!("{worker} {what}");
    script.tell_all(&[
        &tell("drained"),
        &tell("exited 0"),
        &tell("emptied"),
        &tell("executed"),
        &tell("ready"),
    ]);
}

fn is_ready(script: &Script, worker: &str) -> bool {
    matches!(script.state(worker), State::Ready { .. })
}

#[test]
fn a_worker_that_stalls_is_drained_and_replaced_and_says_why() {
    let mut script = Script::up("api");
    script.pass(RECYCLE_APART);
    assert_eq!(stall(&mut script, "api/0"), "drain api/0");
    assert_eq!(script.tell("api/0 drained"), "signal api/0");
    assert_eq!(
        script.tell_all(&["api/0 exited 0", "api/0 emptied"]),
        "terminate-rest api/0, release api/0, spawn api/0"
    );
    let record = &script.fleet.worker(&worker_id("api/0")).unwrap().record;
    assert_eq!((record.last_exit.clone(), record.restarts), (Some(ExitCause::Recycled(STALL)), 1));
}

#[test]
fn a_young_worker_is_left_alone() {
    let mut script = Script::up("api");
    script.pass(RECYCLE_APART - Duration::from_millis(1));
    assert_eq!(stall(&mut script, "api/0"), "");
    script.pass(Duration::from_millis(1));
    assert_eq!(stall(&mut script, "api/0"), "drain api/0");
}

#[test]
fn one_worker_of_a_service_is_away_at_a_time() {
    let mut script = Script::up("api*2; web");
    script.pass(RECYCLE_APART * 1000);
    assert_eq!(stall(&mut script, "api/0"), "drain api/0");
    assert_eq!(stall(&mut script, "api/1"), "", "the other one is away");
    assert_eq!(stall(&mut script, "web/0"), "drain web/0", "another service is none of its business");
    replace(&mut script, "api/0");
    assert_eq!(stall(&mut script, "api/1"), "", "too soon");
    script.pass(RECYCLE_APART);
    script.tell_all(&["api/0 exited 1", "api/0 emptied"]);
    assert_eq!(stall(&mut script, "api/1"), "", "the other one is away for a reason of its own");
}

#[test]
fn who_is_to_be_stopped_is_not_replaced() {
    let mut script = Script::up("db; api: db=ready");
    script.pass(RECYCLE_APART);
    // It waits for `api` to be gone.
    script.stop("api db");
    assert!(is_ready(&script, "db/0"));
    assert_eq!(stall(&mut script, "db/0"), "");
}

/// A new one has just shown that it would not get ready.
#[test]
fn who_could_not_be_replaced_is_kept_although_it_stalls() {
    let mut script = Script::up("api*2");
    script.request(Request::Restart(Selection::All));
    script.tell_all(&["api/0b exited 1", "api/0b emptied"]);
    script.pass(RECYCLE_APART);
    assert_eq!(stall(&mut script, "api/0"), "");
    assert_eq!(stall(&mut script, "api/1"), "");
    assert!(is_ready(&script, "api/0") && is_ready(&script, "api/1"));
}

#[test]
fn a_stall_of_a_run_that_has_gone_is_no_news() {
    let mut script = Script::up("api");
    let id = worker_id("api/0");
    let old = script.fleet.worker(&id).and_then(|worker| worker.run()).unwrap();
    script.tell_all(&["api/0 exited 1", "api/0 emptied"]);
    script.pass(Duration::from_secs(1));
    script.tell_all(&["api/0 executed", "api/0 ready"]);
    script.pass(RECYCLE_APART);
    assert_eq!(script.event(FleetEvent::Stalled(id, old, STALL)), "");
}

/// The host itself may be short: then the new worker stalls as the old one did.
#[test]
fn a_service_that_stalls_for_ever_is_replaced_more_and_more_seldom() {
    let mut script = Script::up("api");
    let start = script.now;
    let mut minutes = Vec::new();
    while script.now < start + Duration::from_secs(6 * 3600) {
        if !stall(&mut script, "api/0").is_empty() {
            minutes.push((script.now - start).as_secs() / 60);
            replace(&mut script, "api/0");
        }
        script.pass(Duration::from_secs(2));
    }
    assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 64, 124, 184, 244, 304]);
}

#[test]
fn a_service_that_was_calm_begins_anew() {
    let mut script = Script::up("api");
    let mut nth = |wait: Duration| {
        script.pass(wait);
        assert_eq!(stall(&mut script, "api/0"), "drain api/0");
        replace(&mut script, "api/0");
        script.fleet.worker(&worker_id("api/0")).unwrap().record.recycled.unwrap().in_row.get()
    };
    assert_eq!((nth(RECYCLE_APART), nth(RECYCLE_APART), nth(RECYCLE_APART * 2)), (1, 2, 3));
    assert_eq!(nth(RECYCLE_APART * 8 - Duration::from_millis(1)), 4);
    assert_eq!(nth(RECYCLE_APART * 16), 1);
}

#[test]
fn a_successor_of_the_daemon_goes_on_counting() {
    let mut script = Script::up("api");
    script.pass(RECYCLE_APART);
    stall(&mut script, "api/0");
    replace(&mut script, "api/0");
    let id = worker_id("api/0");
    script.pass(Duration::from_secs(10));
    let saved: BTreeMap<WorkerId, Saved> = [(id.clone(), script.fleet.save(script.now, &id).unwrap())].into();
    let mut next = Script::new("api");
    next.now = script.now + Duration::from_secs(5);
    next.fleet.adopt(next.now, saved, Duration::from_secs(5), &mut Vec::new());
    let expected = Recycled { at: next.now - Duration::from_secs(15), in_row: NonZeroU32::MIN };
    assert_eq!(next.fleet.worker(&id).unwrap().record.recycled, Some(expected));
    assert_eq!(stall(&mut next, "api/0"), "");
}

proptest! {
    /// Two replacements of a service are never closer than that. What counts as calm is two minutes at least, so that in the
    /// long run there is one every two minutes at most.
    #[test]
    fn replacements_are_bounded_whoever_stalls_when(
        steps in prop::collection::vec((0usize..3, 1u64..400), 1..400),
    ) {
        let mut script = Script::up("api*3");
        let mut at: Vec<Instant> = Vec::new();
        for (index, seconds) in steps {
            script.pass(Duration::from_secs(seconds));
            let worker = format!("api/{index}");
            if !stall(&mut script, &worker).is_empty() {
                at.push(script.now);
                replace(&mut script, &worker);
            }
            let all = ["api/0", "api/1", "api/2"].iter().all(|worker| is_ready(&script, worker));
            prop_assert!(all);
        }
        for pair in at.windows(2) {
            prop_assert!(pair[1] - pair[0] >= RECYCLE_APART, "{:?}", pair[1] - pair[0]);
        }
        let in_an_hour = |from: &Instant| at.iter().filter(|at| (*from..*from + RECYCLE_APART_MAX).contains(at)).count();
        prop_assert!(at.iter().all(|from| in_an_hour(from) <= 31), "{at:?}");
    }
}
