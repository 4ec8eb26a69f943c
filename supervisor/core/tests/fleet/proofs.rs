//! What a new worker has to show before an old one goes for it, and every way in which it fails to.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use watt_core::{
    fleet::{Goal, Request, Selection, WhyKept},
    plan::{Listen, Plan, RestartOrder, RestartPolicy, Roll, Service},
    worker::{ExitCause, Part, State},
};

use crate::{
    plans::plan,
    script::{Script, id, text, worker_id},
};

const ALL: Selection = Selection::All;

fn edited(text: &str, edit: impl Fn(&mut Service)) -> Arc<Plan> {
    let mut plan = plan(text);
    plan.services.values_mut().for_each(edit);
    Arc::new(plan)
}

/// All of them up.
fn up(text: &str, edit: impl Fn(&mut Service)) -> Script {
    let mut script = Script::up(text);
    script.fleet.change_limits(&edited(text, edit));
    script
}

/// A new worker has to stay ready for ten seconds.
fn proving(service: &mut Service) {
    service.roll = Roll { min_healthy: Duration::from_secs(10), ..Roll::default() };
}

/// The same plan once more, of which all workers have to be new.
fn change(script: &mut Script, text_of_plan: &str) -> String {
    let (mut effects, renewal) = (Vec::new(), [(id("api"), script.fleet.last_run())].into());
    let plan = edited(text_of_plan, |_| {});
    script.fleet.change(script.now, &plan, BTreeMap::new(), &renewal, &mut effects);
    text(&effects)
}

fn part(script: &Script, worker: &str) -> Part {
    script.fleet.worker(&worker_id(worker)).unwrap().part
}

fn ended(status: i32) -> WhyKept {
    WhyKept::Ended(ExitCause::Exited(status))
}

#[test]
fn one_that_ends_at_once_without_an_error_is_no_successor() {
    let on_failure = |service: &mut Service| service.restart.policy = RestartPolicy::OnFailure;
    let mut script = up("api", on_failure);
    assert_eq!(script.request(Request::Restart(ALL)), "spawn api/0b");
    let told = script.tell_all(&["api/0b exited 0", "api/0b emptied"]);
    assert_eq!(told, "terminate-rest api/0b, release api/0b", "the old one goes on");
    assert_eq!(part(&script, "api/0"), Part::Outdated);
    assert_eq!(script.verdict("api", Goal::Up), "Kept { why: Ended(Exited(0)) }");

    // Where the old one had to go first, it is told all the same; what runs to completion has done its work.
    let failed = |listen: Option<Listen>| {
        let mut script = up("api", |service| {
            on_failure(service);
            service.restart.order = RestartOrder::StopFirst;
            service.listen = listen.unwrap_or(service.listen);
        });
        script.request(Request::Restart(ALL));
        script.tell_all(&["api/0 drained", "api/0 exited 0", "api/0 emptied"]);
        script.tell_all(&["api/0 exited 0", "api/0 emptied"]);
        assert_eq!(part(&script, "api/0"), Part::Stays);
        script.fleet.failed_roll(&id("api")).cloned()
    };
    assert_eq!(failed(None), Some(ended(0)));
    assert_eq!(failed(Some(Listen::None)), None);
}

#[test]
fn the_death_of_the_old_one_is_no_proof_of_the_new_one() {
    let mut script = up("api", proving);
    script.request(Request::Restart(ALL));
    script.tell_all(&["api/0 exited 1", "api/0 emptied"]);
    assert_eq!(
        part(&script, "api/0b"),
        Part::Returns,
        "it is the only one, and has still to show that it is good"
    );
    script.tell("api/0b ready");
    script.pass(Duration::from_secs(9));
    assert_eq!(part(&script, "api/0b"), Part::Returns);
    script.pass(Duration::from_secs(1));
    assert_eq!(part(&script, "api/0b"), Part::Stays);
    assert_eq!(script.fleet.workers().count(), 1);
    assert_eq!(script.fleet.failed_roll(&id("api")), None);

    let mut script = up("api", proving);
    script.request(Request::Restart(ALL));
    script.tell_all(&["api/0 exited 1", "api/0 emptied", "api/0b exited 7", "api/0b emptied"]);
    assert_eq!(script.fleet.failed_roll(&id("api")), Some(&ended(7)));
}

#[test]
fn a_worker_that_is_not_up_when_another_plan_comes_is_waited_for_like_the_others() {
    let mut script = Script::new("api");
    script.request(Request::Start(ALL));
    assert_eq!(change(&mut script, "api"), "signal api/0");
    assert_eq!(
        script.tell_all(&["api/0 exited 0", "api/0 emptied"]),
        "terminate-rest api/0, release api/0, spawn api/0"
    );
    assert_eq!(part(&script, "api/0"), Part::Returns);
    script.tell_all(&["api/0 exited 4", "api/0 emptied"]);
    assert_eq!(script.fleet.failed_roll(&id("api")), Some(&ended(4)));

    // In the pause after a failure, which is one of the earlier plan.
    let mut script = Script::up("api");
    script.tell_all(&["api/0 exited 1", "api/0 emptied"]);
    assert!(matches!(script.state("api/0"), State::Backoff { .. }));
    assert_eq!(change(&mut script, "api"), "spawn api/0");
    assert_eq!(script.fleet.failed_roll(&id("api")), None);
    script.tell("api/0 ready");
    assert_eq!((part(&script, "api/0"), script.fleet.is_renewing(&id("api"))), (Part::Stays, false));
}

#[test]
fn one_that_is_unready_for_longer_than_a_start_may_take_fails_the_roll() {
    let mut script = up("api", proving);
    let timeout = plan("api").services[&id("api")].ready.timeout;
    script.request(Request::Restart(ALL));
    script.tell_all(&["api/0b ready", "api/0b unready"]);
    assert_eq!(script.verdict("api", Goal::Up), "Pending", "it may be ready again");
    assert_eq!(script.pass(timeout - Duration::from_secs(1)), "");
    assert!(script.fleet.deadline().is_some_and(|at| at == script.now + Duration::from_secs(1)));
    assert_eq!(script.pass(Duration::from_secs(1)), "drain api/0b");
    script.tell_all(&["api/0b drained", "api/0b exited 0", "api/0b emptied"]);
    assert_eq!(script.verdict("api", Goal::Up), "Kept { why: Ended(StartTimeout) }");
}

#[test]
fn one_that_is_unhealthy_fails_the_roll_at_once() {
    let mut script = up("api", proving);
    script.request(Request::Restart(ALL));
    script.tell_all(&["api/0b ready", "api/0b complains"]);
    assert_eq!((part(&script, "api/0"), part(&script, "api/0b")), (Part::Outdated, Part::Leaves));
}

#[test]
fn a_stop_that_is_taken_back_leaves_none_behind() {
    let text = "db; api: db=ready; web: api=started";
    let mut script = Script::up(text);
    script.tell("db/0 unready");
    assert_eq!(script.request(Request::Restart(crate::script::some("api"))), "", "the new one waits");
    // It ends at once, and the old one when nobody needs it any more.
    assert_eq!(script.stop("api web"), "drain web/0");
    assert_eq!((script.fleet.workers_of(&id("api")).count(), part(&script, "api/0")), (1, Part::Due));
    script.start("api web");
    assert_eq!(script.tell("db/0 ready"), "spawn api/0b", "it goes on");
    assert_eq!(script.tell("api/0b ready"), "drain api/0");
}

#[test]
fn another_plan_is_not_blamed_for_what_failed_before_it() {
    let mut script = Script::up("api");
    script.request(Request::Restart(ALL));
    script.tell_all(&["api/0b exited 7", "api/0b emptied"]);
    assert!(script.fleet.failed_roll(&id("api")).is_some());
    change(&mut script, "api");
    assert_eq!(script.fleet.failed_roll(&id("api")), None);
}
