//! Services get other numbers of workers while they run.

use std::{collections::BTreeMap, num::NonZeroU16, sync::Arc, time::Duration};

use watt_core::{
    fleet::{Goal, Leaving, Renewal, Request, Selection},
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
            let scaling = Scaling { min, max, targets, window: time, cooldown: time };
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
