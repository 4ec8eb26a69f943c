//! Random sequences of events: whatever happens in whatever order, what must always be true stays true, and everything can
//! be ended. A failing sequence is kept by proptest beside this file.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;
use watt_core::{
    ServiceId,
    fleet::{Request, Selection},
    plan::Plan,
};

use crate::{plans::plan, world::World};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

#[derive(Debug, Clone)]
enum Step {
    Start(u8),
    Stop(u8),
    Restart(u8),
    Shutdown(bool),
    Happen(usize),
    Stale(usize),
    Stall(usize),
    Pass(u64),
    Deadline,
    Succeed,
    /// Another number of workers; 0 is the plan's.
    Scale(u8, u16),
    Sleep(u8),
    Wake(u8),
    /// Another plan, with the services of these bits changed, and only those of the next bits there; whether the daemon is killed.
    Change(String, u8, u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => any::<u8>().prop_map(Step::Start),
        2 => any::<u8>().prop_map(Step::Stop),
        2 => any::<u8>().prop_map(Step::Restart),
        1 => prop::bool::weighted(0.2).prop_map(Step::Shutdown),
        20 => any::<usize>().prop_map(Step::Happen),
        2 => any::<usize>().prop_map(Step::Stale),
        4 => any::<usize>().prop_map(Step::Stall),
        4 => (0u64..90_000).prop_map(Step::Pass),
        4 => Just(Step::Deadline),
        1 => Just(Step::Succeed),
        2 => (0u8..4).prop_map(Step::Sleep),
        2 => (0u8..4).prop_map(Step::Wake),
        2 => (0u8..4, 0u16..4).prop_map(|(service, count)| Step::Scale(service, count)),
        1 => (services(), any::<u8>(), 1u8..16, any::<bool>())
            .prop_map(|(text, changed, kept, killed)| Step::Change(text, changed, kept, killed)),
    ]
}

/// A plan in which each service may depend on those before it.
fn services() -> impl Strategy<Value = String> {
    let dependency = (0usize..9, prop::bool::weighted(0.3), prop::bool::weighted(0.3));
    let service = (1u8..3, any::<bool>(), prop::bool::weighted(0.3), prop::collection::vec(dependency, 3));
    let group = (prop::sample::select(vec!["", "one", "all", "rest"]), 1usize..5, prop::option::of(1u8..6));
    (prop::collection::vec(service, NAMES.len()), group).prop_map(|(services, group)| {
        let text = services.iter().enumerate().map(|(index, (workers, job, checked, dependencies))| {
            let dependency = |(other, (condition, soft, follows)): (usize, &(usize, bool, bool))| {
                let condition = ["started", "ready", "healthy", "completed", "succeeded"].get(*condition)?;
                let soft = if *soft { "?" } else { "" };
                let follows = if *follows { "+" } else { "" };
                Some(format!("{}={condition}{soft}{follows}", NAMES[other]))
            };
            let dependencies: Vec<String> =
                dependencies.iter().enumerate().take(index).filter_map(dependency).collect();
            let checked = if *checked { "@" } else { "" };
            let job = if *job { "!" } else { "" };
            format!("{}{checked}{job}*{workers}: {}", NAMES[index], dependencies.join(" "))
        });
        let (strategy, size, failures) = group;
        let failures = failures.map(|failures| format!("/{failures}")).unwrap_or_default();
        let group = format!("{strategy}({}){failures}", NAMES[4 - size..].join(" "));
        text.chain((!strategy.is_empty()).then_some(group)).collect::<Vec<_>>().join(";")
    })
}

/// The plan of this text with only some of its services.
fn some_of(text: &str, kept: u8) -> Plan {
    let mut plan = plan(text);
    let is_kept = |id: &ServiceId| {
        NAMES.iter().position(|name| *name == id.as_str()).is_some_and(|nth| kept & (1 << nth) != 0)
    };
    plan.services.retain(|id, _| is_kept(id));
    let names: BTreeSet<ServiceId> = plan.services.keys().cloned().collect();
    for service in plan.services.values_mut() {
        service.depends_on.retain(|id, _| names.contains(id));
    }
    for group in plan.groups.values_mut() {
        group.services.retain(|id| names.contains(id));
    }
    plan
}

/// Bit 4 is "all"; otherwise the services whose bits are set.
fn selection(bits: u8) -> Selection {
    if bits & 16 != 0 {
        return Selection::All;
    }
    let chosen = NAMES.iter().enumerate().filter(|(index, _)| bits & (1 << index) != 0);
    Selection::Services(chosen.map(|(_, name)| ServiceId::new(name).unwrap()).collect::<BTreeSet<_>>())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_invariants_hold_and_everything_can_be_ended(
        services in services(),
        steps in prop::collection::vec(step(), 0..150),
        now: bool,
    ) {
        let mut world = World::new(plan(&services));
        for step in steps {
            match step {
                Step::Start(bits) => world.request(Request::Start(selection(bits))),
                Step::Stop(bits) => world.request(Request::Stop(selection(bits))),
                Step::Restart(bits) => world.request(Request::Restart(selection(bits))),
                Step::Shutdown(now) => world.request(Request::Shutdown { now }),
                Step::Happen(choice) => world.happen(choice),
                Step::Stale(choice) => world.stale(choice),
                Step::Stall(choice) => world.stall(choice),
                Step::Pass(ms) => world.pass(Duration::from_millis(ms)),
                Step::Deadline => world.pass_until_deadline(),
                Step::Succeed => world.succeed(),
                Step::Sleep(service) => world.sleep(NAMES[usize::from(service)], true),
                Step::Wake(service) => world.sleep(NAMES[usize::from(service)], false),
                Step::Scale(service, count) => world.scale(NAMES[usize::from(service)], count),
                Step::Change(text, changed, kept, killed) => {
                    let changed = match selection(changed) {
                        Selection::All => NAMES.map(|name| ServiceId::new(name).unwrap()).into(),
                        Selection::Services(some) => some.into_iter().collect::<Vec<_>>(),
                    };
                    world.change(some_of(&text, kept), &changed, killed);
                }
            }
        }
        world.end(now);
    }
}

/// A service that waits for one that it can do without does not start because both of them leave.
#[test]
fn what_leaves_does_not_start_for_want_of_what_leaves_with_it() {
    let mut world = World::new(plan("a; b: a=started; c: b=started?; d: a=started b=started c=started"));
    world.request(Request::Restart(selection(1)));
    world.request(Request::Restart(selection(5)));
    let text = "a; b: a=started; c: a=started b=started; d: a=started b=started c=started";
    world.change(some_of(text, 8), &[], false);
    for choice in 0..4 {
        world.stall(choice);
    }
    world.end(false);
}

/// The one in the middle has no run and is no more at once; those on either side are stopped in their order all the same.
#[test]
fn what_leaves_is_stopped_in_order_over_what_has_left() {
    let mut world = World::new(plan("a; b: a=started; c: b=completed?; d: a=started b=started c=started"));
    world.request(Request::Restart(selection(4)));
    world.request(Request::Restart(selection(7)));
    world.change(some_of("a; b; c; d", 8), &[], false);
    for choice in 0..4 {
        world.stall(choice);
    }
    world.end(false);
}
