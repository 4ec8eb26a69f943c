//! One job: scripts of what happens, and what is done.

use std::time::Duration;

use watt_core::{
    jobs::{Cause, Context, Effect, Event, Firing, Keeper, Mark, Passed, Saved, Second, Wall},
    plan::{CatchUp, Job, Overlap},
};

use crate::{Utc, job};

/// A job with a clock.
struct Desk {
    job: Job,
    keeper: Keeper,
    now: Wall,
}

impl Desk {
    fn new(job: Job) -> Desk {
        let now = Wall(0);
        let keeper = Keeper::new(Context { now, job: &job, zone: &Utc });
        Desk { job, keeper, now }
    }

    fn handle(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        let context = Context { now: self.now, job: &self.job, zone: &Utc };
        self.keeper.handle(context, event, &mut effects);
        effects
    }

    /// The clock shows this second.
    fn at(&mut self, second: i64) -> Vec<Effect> {
        self.now = Second(second).wall();
        self.handle(Event::Tick)
    }

    /// The same, and each firing is noted and begins. What is left is said in words.
    fn goes(&mut self, second: i64) -> Vec<String> {
        let effects = self.at(second);
        self.note(effects)
    }

    fn tells(&mut self, event: Event) -> Vec<String> {
        let effects = self.handle(event);
        self.note(effects)
    }

    fn note(&mut self, effects: Vec<Effect>) -> Vec<String> {
        let mut words = Vec::new();
        for effect in effects {
            match effect {
                Effect::Fire(firing, _) => {
                    let followed = self.handle(Event::Noted(firing.number));
                    words.extend(self.note(followed));
                }
                Effect::Start(Firing { number, at, cause }) => {
                    let cause = match cause {
                        Cause::Schedule => "",
                        Cause::CatchUp => " late",
                        Cause::Request => " wanted",
                    };
                    words.push(format!("start {number} for {}{cause}", at.0));
                }
                Effect::Stop(number) => words.push(format!("stop {number}")),
                Effect::Pass(Passed { count, last, why }) => {
                    words.push(format!("pass {count} until {}: {why:?}", last.0));
                }
                Effect::SetBack { from } => words.push(format!("set back from {}", from.0)),
                Effect::Keep(_) => {}
            }
        }
        words
    }
}

const DAY: Duration = Duration::from_secs(86_400);
const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn an_instant_is_noted_before_it_begins() {
    let mut desk = Desk::new(job("* * * * *", Overlap::Forbid, CatchUp::Skip));
    assert_eq!(desk.keeper.deadline(&desk.job), Some(Wall(60_000)));
    assert_eq!(desk.at(59), []);
    let firing = Firing { number: 1, at: Second(60), cause: Cause::Schedule };
    let mark = Mark { seen: Second(60), ..Mark::default() };
    assert_eq!(desk.at(60), [Effect::Fire(firing, mark)]);
    assert_eq!(desk.at(60), [], "once");
    assert_eq!(desk.keeper.deadline(&desk.job), Some(Wall(120_000)));
    assert_eq!(desk.handle(Event::Noted(1)), [Effect::Start(firing)]);
    assert_eq!(desk.handle(Event::Noted(1)), []);
    assert_eq!(desk.handle(Event::Ended(1)), []);
    assert_eq!(desk.handle(Event::Ended(7)), []);
}

#[test]
fn what_cannot_be_noted_does_not_begin() {
    let mut desk = Desk::new(job("* * * * *", Overlap::Forbid, CatchUp::Skip));
    desk.at(60);
    assert_eq!(desk.tells(Event::NotNoted(1)), ["pass 1 until 60: NotNoted"]);
    assert_eq!(desk.goes(120), ["start 2 for 120"]);
}

#[test]
fn an_earlier_one_under_way_comes_first() {
    let mut desk = Desk::new(job("* * * * *", Overlap::Forbid, CatchUp::Skip));
    assert_eq!(desk.goes(60), ["start 1 for 60"]);
    assert_eq!(desk.goes(120), ["pass 1 until 120: Busy"]);
    desk.handle(Event::Ended(1));
    assert_eq!(desk.goes(180), ["start 2 for 180"]);
}

#[test]
fn it_may_begin_beside_others() {
    let mut desk = Desk::new(job("* * * * *", Overlap::Allow, CatchUp::Skip));
    for number in 1..=16 {
        assert_eq!(desk.goes(60 * number), [format!("start {number} for {}", 60 * number)]);
    }
    assert_eq!(desk.goes(1020), ["pass 1 until 1020: Busy"]);
    desk.handle(Event::Ended(3));
    assert_eq!(desk.goes(1080), ["start 17 for 1080"]);
}

#[test]
fn it_may_take_the_place_of_an_earlier_one() {
    let mut desk = Desk::new(job("* * * * *", Overlap::Replace, CatchUp::Skip));
    assert_eq!(desk.goes(60), ["start 1 for 60"]);
    assert_eq!(desk.goes(120), ["stop 1"]);
    assert_eq!(desk.goes(180), ["pass 1 until 120: Replaced"]);
    assert_eq!(desk.tells(Event::Ended(1)), ["start 2 for 180"]);
    // One that is being noted is not begun with at all.
    desk.handle(Event::Ended(2));
    desk.at(240);
    assert_eq!(desk.goes(300), [""; 0]);
    assert_eq!(desk.tells(Event::Noted(3)), ["stop 3"]);
    assert_eq!(desk.tells(Event::Ended(3)), ["start 4 for 300"]);
}

#[test]
fn what_waits_for_its_place_is_found_again() {
    let mut desk = Desk::new(job("* * * * *", Overlap::Replace, CatchUp::Skip));
    desk.goes(60);
    desk.goes(120);
    let running = desk.keeper.firings().copied().collect();
    let saved = Saved { mark: desk.keeper.mark().clone(), last: 1, running };
    desk.keeper = Keeper::restore(saved, Context { now: desk.now, job: &desk.job, zone: &Utc });
    assert_eq!(desk.goes(121), ["stop 1"]);
    assert_eq!(desk.tells(Event::Ended(1)), ["start 2 for 120"]);
}

#[test]
fn what_was_missed_is_passed_over_or_made_up_for() {
    let check = |catch_up, expected: &[&str]| {
        let mut desk = Desk::new(job("*/10 * * * *", Overlap::Forbid, catch_up));
        // Six instants have passed, the last one half a minute ago.
        assert_eq!(desk.goes(3630), expected, "{catch_up:?}");
        desk
    };
    check(CatchUp::Skip, &["pass 6 until 3600: Late"]);
    check(CatchUp::One(MINUTE), &["pass 5 until 3600: Late", "start 1 for 3600 late"]);
    check(CatchUp::One(Duration::from_secs(20)), &["pass 6 until 3600: Late"]);
    let mut desk = check(CatchUp::All(MINUTE * 25), &["pass 3 until 3600: Late", "start 1 for 2400 late"]);
    // One after the other.
    assert_eq!(desk.tells(Event::Ended(1)), ["start 2 for 3000 late"]);
    assert_eq!(desk.keeper.pending(), 1);
    // What was to be made up for is too late in the end.
    desk.now = Second(3600 + 26 * 60).wall();
    assert_eq!(desk.tells(Event::Ended(2)), ["pass 1 until 3600: TooLate"]);
}

#[test]
fn the_one_that_is_in_time_makes_up_for_those_before() {
    let mut desk = Desk::new(job("*/10 * * * *", Overlap::Forbid, CatchUp::One(DAY)));
    assert_eq!(desk.goes(3605), ["pass 5 until 3000: Late", "start 1 for 3600"]);
}

#[test]
fn each_instant_of_a_short_absence_has_its_turn() {
    let mut desk = Desk::new(job("* * * * * *", Overlap::Allow, CatchUp::Skip));
    desk.goes(1);
    let found = desk.goes(5);
    assert_eq!(found, ["start 2 for 2", "start 3 for 3", "start 4 for 4", "start 5 for 5"]);
}

#[test]
fn a_long_absence_costs_no_more_than_a_short_one() {
    let mut desk = Desk::new(job("* * * * * *", Overlap::Allow, CatchUp::All(DAY)));
    let year = 366 * 86_400;
    let found = desk.goes(year);
    assert_eq!(found[0], format!("pass 900 until {}: Late", year - 11));
    assert_eq!(desk.keeper.pending(), 100);
    assert_eq!(found.len(), 1 + 11, "and those that are in time: {found:?}");
}

#[test]
fn while_it_is_paused_time_passes() {
    let mut desk = Desk::new(job("* * * * *", Overlap::Forbid, CatchUp::All(DAY)));
    assert_eq!(desk.handle(Event::Pause), [Effect::Keep(Mark { paused: true, ..Mark::default() })]);
    assert_eq!(desk.keeper.deadline(&desk.job), None);
    assert_eq!(desk.goes(600), [""; 0]);
    assert_eq!(desk.tells(Event::Run), ["start 1 for 600 wanted"]);
    desk.handle(Event::Ended(1));
    let mark = Mark { seen: Second(600), ..Mark::default() };
    assert_eq!(desk.handle(Event::Resume), [Effect::Keep(mark)]);
    assert_eq!(desk.goes(660), ["start 2 for 660"]);
}

#[test]
fn what_is_to_be_made_up_for_is_given_up_by_a_pause_and_by_another_schedule() {
    for event in [Event::Pause, Event::Anew] {
        let mut desk = Desk::new(job("* * * * *", Overlap::Forbid, CatchUp::All(DAY)));
        desk.goes(200);
        assert_eq!(desk.keeper.pending(), 2);
        assert_eq!(desk.tells(event), ["pass 2 until 180: GivenUp"]);
        assert_eq!(desk.tells(Event::Ended(1)), [""; 0]);
    }
}

#[test]
fn nothing_fires_twice_when_the_clock_is_set_back() {
    let mut desk = Desk::new(job("* * * * *", Overlap::Forbid, CatchUp::All(DAY)));
    desk.goes(60);
    desk.handle(Event::Ended(1));
    assert_eq!(desk.goes(120), ["start 2 for 120"]);
    desk.handle(Event::Ended(2));
    assert_eq!(desk.goes(30), [""; 0]);
    assert_eq!(desk.keeper.deadline(&desk.job), Some(Wall(180_000)));
    assert_eq!(desk.goes(60), [""; 0]);
    assert_eq!(desk.goes(120), [""; 0]);
    assert_eq!(desk.goes(180), ["start 3 for 180"]);
}

#[test]
fn a_pause_does_not_make_an_instant_come_again() {
    let mut desk = Desk::new(job("* * * * *", Overlap::Forbid, CatchUp::All(DAY)));
    desk.goes(600);
    desk.handle(Event::Ended(1));
    desk.goes(30);
    for event in [Event::Pause, Event::Resume, Event::Anew] {
        desk.handle(event);
        assert_eq!(desk.keeper.mark().seen, Second(600), "{event:?}");
    }
}

#[test]
fn a_clock_that_was_far_ahead_does_not_silence_a_job() {
    let mut desk = Desk::new(job("* * * * *", Overlap::Forbid, CatchUp::Skip));
    let year = 366 * 86_400;
    desk.goes(year);
    desk.handle(Event::Ended(1));
    assert_eq!(desk.goes(600), [format!("set back from {year}")]);
    assert_eq!(desk.goes(660), ["start 2 for 660"]);
}

#[test]
fn what_a_clock_that_is_set_forward_passes_over_was_missed() {
    let mut desk = Desk::new(job("0 3 * * *", Overlap::Forbid, CatchUp::Skip));
    desk.goes(2 * 3600);
    assert_eq!(desk.goes(4 * 3600), ["pass 1 until 10800: Late"]);
}

#[test]
fn at_the_end_nothing_begins() {
    let mut desk = Desk::new(job("* * * * *", Overlap::Forbid, CatchUp::Skip));
    desk.at(60);
    assert_eq!(desk.tells(Event::Close), [""; 0]);
    assert_eq!(desk.tells(Event::Noted(1)), ["stop 1"]);
    desk.handle(Event::Ended(1));
    assert_eq!(desk.keeper.deadline(&desk.job), None);
    assert_eq!(desk.goes(120), [""; 0]);
    assert_eq!(desk.tells(Event::Run), [""; 0]);
}

#[test]
fn a_firing_is_put_off_by_less_than_the_jitter_and_by_the_same_each_time() {
    let mut jittery = job("* * * * *", Overlap::Forbid, CatchUp::Skip);
    jittery.jitter = Duration::from_secs(30);
    let mut seen = std::collections::BTreeSet::new();
    for minute in 1..50 {
        let now = Second(60 * (minute - 1)).wall();
        let keeper = Keeper::new(Context { now, job: &jittery, zone: &Utc });
        let due = keeper.deadline(&jittery).unwrap();
        assert_eq!(keeper.deadline(&jittery), Some(due));
        let delay = due.0 - 60_000 * minute;
        assert!((0..30_000).contains(&delay), "{delay}");
        seen.insert(delay);
        let mut desk = Desk { job: jittery.clone(), keeper, now: Wall(due.0 - 1) };
        assert_eq!(desk.handle(Event::Tick), []);
        desk.now = due;
        assert_eq!(desk.tells(Event::Tick), [format!("start 1 for {}", 60 * minute)]);
    }
    assert!(seen.len() > 40, "they differ: {seen:?}");
}
