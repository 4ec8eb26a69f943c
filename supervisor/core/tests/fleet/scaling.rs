//! Services get other numbers of workers while they run.

use std::{collections::BTreeMap, num::NonZeroU16, sync::Arc, time::Duration};

use watt_core::{
    fleet::{FleetEvent, Goal, Leaving, Renewal, Request, Selection},
    plan::{Plan, Scaling, Targets, Workers},
    worker::State,
};

use crate::{
    plans::plan,
    script::{Script, id},
};

fn places(script: &Script) -> String {
    script.fleet.workers().map(|(id, _)| id.to_string()).collect::<Vec<_>>().join(" ")
}

fn change(script: &mut Script, services: &str) {
    let plan = Arc::new(plan(services));
    script.fleet.change(script.now, &plan, BTreeMap::new(), &Renewal::new(), &mut Vec::new());
}

#[test]
fn more_are_started_and_the_last_ones_are_drained() {
    let mut script = Script::up("api*2");
    assert_eq!(script.scale("api", 4), "spawn api/2, spawn api/3");
    assert_eq!((script.fleet.count(&id("api")), places(&script)), (4, "api/0 api/1 api/2 api/3".into()));
    assert_eq!(script.verdict("api", Goal::Up), "Pending");
    script.tell_all(&["api/2 executed", "api/2 ready", "api/3 executed", "api/3 ready"]);
    assert_eq!(script.verdict("api", Goal::Up), "Ready");
    assert_eq!(script.scale("api", 1), "drain api/1, drain api/2, drain api/3");
    assert_eq!(script.verdict("api", Goal::Up), "Pending", "they answer their last requests");
    assert_eq!(script.scale("api", 2), "spawn api/1b", "the one that is on its way out cannot come back");
    for worker in ["api/1", "api/2", "api/3"] {
        script.tell(&format!("{worker} drained"));
        script.tell(&format!("{worker} exited 0"));
        script.tell(&format!("{worker} emptied"));
    }
    script.tell_all(&["api/1b executed", "api/1b ready"]);
    assert_eq!((places(&script), script.verdict("api", Goal::Up)), ("api/0 api/1b".into(), "Ready".into()));
}

#[test]
fn a_number_holds_until_a_plan_says_another_one() {
    let mut script = Script::up("api*2; web");
    script.scale("api", 3);
    change(&mut script, "api*2; web; new");
    assert_eq!(script.fleet.count(&id("api")), 3, "nothing was said of it");
    change(&mut script, "api*4; web; new");
    assert_eq!((script.fleet.count(&id("api")), script.fleet.counts().len()), (4, 0));
    script.scale("api", 3);
    assert_eq!(script.scale("api", 0), "spawn api/3b", "the plan's again");
    assert_eq!(script.fleet.count(&id("api")), 4);
    let leaving = BTreeMap::from([(id("api"), Leaving::default())]);
    let plan = Arc::new(plan("api*4; web; new"));
    script.fleet.change(script.now, &plan, leaving, &Renewal::new(), &mut Vec::new());
    assert_eq!(script.fleet.count(&id("api")), 0, "it goes");
}

#[test]
fn a_stopped_service_stays_so_with_another_number() {
    let mut script = Script::up("api*2");
    script.stop("api");
    for worker in ["api/0", "api/1"] {
        script.tell_all(&[&format!("{worker} drained"), &format!("{worker} exited 0")]);
        script.tell(&format!("{worker} emptied"));
    }
    assert_eq!(script.scale("api", 3), "");
    assert_eq!(script.state("api/2"), State::Down);
    assert_eq!(script.start("api"), "spawn api/0, spawn api/1, spawn api/2");
}

#[test]
fn a_renewal_goes_on_with_another_number() {
    let mut script = Script::up("api*2");
    script.request(Request::Restart(Selection::All));
    script.tell("api/0b executed");
    assert_eq!(script.scale("api", 3), "spawn api/2", "a new one has nothing to wait for");
    assert_eq!(script.tell("api/0b ready"), "drain api/0");
    assert_eq!(script.scale("api", 1), "drain api/1, signal api/2", "that is not replaced any more");
}

#[test]
fn a_number_that_follows_the_load_is_carried_over_to_another_plan() {
    let scaled = |text: &str, min: u16, max: u16| {
        let mut plan = plan(text);
        let [min, max] = [min, max].map(|count| NonZeroU16::new(count).unwrap());
        for service in plan.services.values_mut() {
            let (targets, time) = (Targets::default(), Duration::from_secs(9));
            let scaling = Scaling { min: min.get(), max, targets, window: time, cooldown: time, idle: time };
            service.workers = Workers::Scaled(scaling);
        }
        Arc::new(plan)
    };
    let mut script = Script::up("api*2");
    let mut change = |plan: &Arc<Plan>| {
        script.fleet.change(script.now, plan, BTreeMap::new(), &Renewal::new(), &mut Vec::new());
        script.fleet.count(&id("api"))
    };
    assert_eq!(change(&scaled("api", 1, 8)), 2, "it begins with what there is");
    assert_eq!(change(&scaled("api", 3, 8)), 3);
    assert_eq!(change(&scaled("api", 1, 6)), 3);
    assert_eq!(change(&scaled("api", 1, 2)), 2);
    assert_eq!(change(&Arc::new(plan("api"))), 1);
}

/// `api` may sleep, `web` depends on it.
fn sleepy() -> Plan {
    let mut plan = plan("api; web: api=ready");
    let time = Duration::from_secs(9);
    let max = NonZeroU16::new(4).unwrap();
    let scaling =
        Scaling { min: 0, max, targets: Targets::default(), window: time, cooldown: time, idle: time };
    plan.services.get_mut(&id("api")).unwrap().workers = Workers::Scaled(scaling);
    plan
}

fn asleep() -> Script {
    let mut script = Script::of(sleepy());
    assert_eq!(
        script.request(Request::Start(Selection::All)),
        "spawn web/0",
        "what sleeps is there for others"
    );
    assert_eq!((script.state("api/0"), script.verdict("api", Goal::Up)), (State::Asleep, "Asleep".into()));
    script
}

fn wake(script: &mut Script) -> String {
    script.event(FleetEvent::Wake(id("api")))
}

#[test]
fn what_sleeps_is_started_by_the_first_request_and_goes_back_to_sleep() {
    let mut script = asleep();
    assert_eq!(wake(&mut script), "spawn api/0");
    assert_eq!(wake(&mut script), "", "it is on its way");
    script.tell_all(&["api/0 executed", "api/0 ready"]);
    assert_eq!(script.event(FleetEvent::Sleep(id("api"))), "drain api/0");
    assert_eq!(script.verdict("api", Goal::Up), "Asleep");
    assert_eq!(script.tell("api/0 drained"), "signal api/0");
    script.tell_all(&["api/0 exited 0", "api/0 emptied"]);
    assert!(script.fleet.is_asleep(&id("api")));
    // By name it is started, and a stop holds.
    assert_eq!(script.start("api"), "spawn api/0");
    script.tell_all(&["api/0 executed", "api/0 ready", "web/0 executed", "web/0 ready"]);
    script.stop("api");
    script.tell_all(&["api/0 drained", "api/0 exited 0", "api/0 emptied"]);
    assert_eq!((wake(&mut script), script.state("api/0")), (String::new(), State::Down));
}

#[test]
fn a_request_that_comes_while_the_last_run_ends_has_a_new_one_at_once() {
    let mut script = asleep();
    wake(&mut script);
    script.tell_all(&["api/0 executed", "api/0 ready"]);
    script.event(FleetEvent::Sleep(id("api")));
    script.tell("api/0 drained");
    assert_eq!(wake(&mut script), "spawn api/0b", "whatever time the old one takes");
    script.tell_all(&["api/0 exited 0", "api/0 emptied", "api/0b executed", "api/0b ready"]);
    assert_eq!((places(&script), script.verdict("api", Goal::Up)), ("api/0b web/0".into(), "Ready".into()));
}

#[test]
fn two_that_cannot_run_at_a_time_follow_each_other_when_one_is_woken() {
    let mut script = asleep();
    script.fleet.set_alone(&id("api"), true);
    wake(&mut script);
    script.tell_all(&["api/0 executed", "api/0 ready"]);
    script.event(FleetEvent::Sleep(id("api")));
    assert_eq!(wake(&mut script), "");
    assert_eq!(
        script.tell_all(&["api/0 drained", "api/0 exited 0", "api/0 emptied"]),
        "signal api/0, terminate-rest api/0, release api/0, spawn api/0"
    );
}

#[test]
fn a_restart_leaves_what_sleeps_asleep_and_a_plan_that_forbids_it_wakes() {
    let mut script = asleep();
    script.tell_all(&["web/0 executed", "web/0 ready"]);
    assert_eq!(script.request(Request::Restart(Selection::Services([id("api")].into()))), "");
    assert_eq!((script.state("api/0"), script.verdict("api", Goal::Up)), (State::Asleep, "Asleep".into()));
    change(&mut script, "api; web: api=ready");
    assert!(matches!(script.state("api/0"), State::Starting { .. }));
}

#[test]
fn a_number_comes_back_with_its_plan_and_no_worker_has_to_go_for_it() {
    let mut script = Script::up("api*4");
    let mut change = |text: &str| {
        let mut effects = Vec::new();
        script.fleet.change(
            script.now,
            &Arc::new(plan(text)),
            BTreeMap::new(),
            &Renewal::new(),
            &mut effects,
        );
        crate::script::text(&effects)
    };
    assert_eq!(change("api*3"), "drain api/3");
    script.fleet.bring_back([(id("api"), NonZeroU16::new(3).unwrap())].into());
    let mut change = |text: &str| {
        let mut effects = Vec::new();
        script.fleet.change(
            script.now,
            &Arc::new(plan(text)),
            BTreeMap::new(),
            &Renewal::new(),
            &mut effects,
        );
        (crate::script::text(&effects), script.fleet.count(&id("api")))
    };
    assert_eq!(change("api*1"), (String::new(), 3));
    assert_eq!(change("api*2").1, 2, "it was said of that one alone");
}
