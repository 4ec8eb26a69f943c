//! Groups of services.

use std::time::Duration;

use insta::assert_snapshot;
use watt_core::{
    ServiceId,
    plan::{Group, GroupStrategy},
};

use crate::{invalid, valid};

const SERVICES: &str = "services: {a: {command: x}, b: {command: x, depends_on: [a]}, c: {command: x}}";

fn groups(text: &str) -> Vec<(String, Group)> {
    valid(&format!("{SERVICES}\ngroups: {text}\n")).plan.groups.into_iter().collect()
}

#[test]
fn a_group_has_services_a_strategy_and_an_intensity() {
    let group = |strategy, give_up| Group {
        services: ["a", "b"].map(|name| ServiceId::new(name).unwrap()).into(),
        strategy,
        give_up,
    };
    let check = |text: &str, expected: Group| {
        let text = format!("{{back: {{services: [a, b], {text}}}}}");
        assert_eq!(groups(&text), [("back".to_owned(), expected)], "{text}");
    };
    check("strategy: one_for_all", group(GroupStrategy::OneForAll, None));
    check("strategy: rest_for_one", group(GroupStrategy::RestForOne, None));
    check("", group(GroupStrategy::OneForOne, None));
    check("give_up: {}", group(GroupStrategy::OneForOne, Some((5, Duration::from_secs(60)))));
    let intensity = Some((2, Duration::from_secs(5)));
    check("give_up: {failures: 2, within: 5s}", group(GroupStrategy::OneForOne, intensity));
}

#[test]
fn wrong_groups() {
    assert_snapshot!(invalid(&format!("{SERVICES}\ngroups:\n  one: {{services: [a, a, d], strategy: all}}\n  two: {{services: [c, a]}}\n  My: {{}}\n  three: {{services: [], members: [a]}}\n")), @r#"
    error: `a` is written twice
     --> watt.yaml:3:23
      |
    3 |   one: {services: [a, a, d], strategy: all}
      |                       ^
      = note: it was first written here
     --> watt.yaml:3:20
      |
    3 |   one: {services: [a, a, d], strategy: all}
      |                    ^
      = hint: keep one of them

    error: there is no service `d`
     --> watt.yaml:3:26
      |
    3 |   one: {services: [a, a, d], strategy: all}
      |                          ^
      = hint: did you mean `a`?

    error: `all` is not understood here
     --> watt.yaml:3:40
      |
    3 |   one: {services: [a, a, d], strategy: all}
      |                                        ^^^
      = hint: one of `one_for_one`, `one_for_all`, `rest_for_one`

    error: `a` is in the group `one` already
     --> watt.yaml:4:23
      |
    4 |   two: {services: [c, a]}
      |                       ^
      = note: it was first written here
     --> watt.yaml:3:20
      |
    3 |   one: {services: [a, a, d], strategy: all}
      |                    ^
      = hint: a service is in one group at most

    error: `My` cannot be a group's name: 'M' is not allowed: a name is made of a-z, 0-9, '-' and '_'
     --> watt.yaml:5:3
      |
    5 |   My: {}
      |   ^^

    error: `services` is missing
     --> watt.yaml:5:3
      |
    5 |   My: {}
      |   ^^
      = hint: for example `services: ["db", "api"]`

    error: unknown key `members` in `groups.NAME`
     --> watt.yaml:6:25
      |
    6 |   three: {services: [], members: [a]}
      |                         ^^^^^^^
      = hint: write `services`
    "#);
}

#[test]
fn a_list_that_is_the_wrong_way_round() {
    assert_snapshot!(invalid(&format!("{SERVICES}\ngroups: {{back: {{services: [b, c, a], strategy: rest_for_one}}}}\n")), @r#"
    error: `b` comes before `a`, which it depends on
     --> watt.yaml:2:28
      |
    2 | groups: {back: {services: [b, c, a], strategy: rest_for_one}}
      |                            ^
      = note: it depends on it here
     --> watt.yaml:1:58
      |
    1 | services: {a: {command: x}, b: {command: x, depends_on: [a]}, c: {command: x}}
      |                                                          ^
      = hint: with `rest_for_one` a service takes along those after it: put `a` before `b`
    "#);
}
