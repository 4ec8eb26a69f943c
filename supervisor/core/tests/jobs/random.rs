//! Anything in any order: a job's instants against a model that knows nothing but what was noted and what began.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;
use watt_core::{
    jobs::{Cause, Context, Effect, Event, Firing, Keeper, Mark, Saved, Second, Wall},
    plan::{CatchUp, Job, Overlap},
};

use crate::{Utc, instants, job};

#[derive(Debug, Clone)]
enum Op {
    /// The clock goes on, and everybody looks at it.
    Pass(i64),
    /// The clock is set back.
    SetBack(i64),
    /// The oldest note is written.
    Note,
    /// The oldest note cannot be written.
    Fail,
    /// The oldest run ends.
    End,
    Run,
    Pause,
    Resume,
    /// The daemon is killed; this many of the notes that were not answered are written all the same.
    Kill(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1i64..40_000).prop_map(Op::Pass),
        2 => (40_000i64..2_000_000).prop_map(Op::Pass),
        1 => (1i64..80_000_000).prop_map(Op::SetBack),
        6 => Just(Op::Note),
        1 => Just(Op::Fail),
        4 => Just(Op::End),
        1 => Just(Op::Run),
        1 => Just(Op::Pause),
        2 => Just(Op::Resume),
        2 => (0usize..3).prop_map(Op::Kill),
    ]
}

/// A line of the notes.
#[derive(Debug, Clone)]
enum Line {
    Fired(Firing, Mark),
    Mark(Mark),
    Ended(u64),
}

struct World {
    job: Job,
    keeper: Keeper,
    now: Wall,
    /// The latest that the clock ever showed.
    latest: Wall,
    /// Written, in order.
    notes: Vec<Line>,
    /// Asked to be written, in order.
    asked: Vec<Line>,
    /// How often each firing began.
    begun: BTreeMap<u64, u32>,
    running: BTreeSet<u64>,
    /// Instants of the schedule that fired.
    fired: BTreeSet<i64>,
}

impl World {
    fn new(job: Job) -> World {
        let now = Wall(1_000_000_000_000);
        let keeper = Keeper::new(Context { now, job: &job, zone: &Utc });
        let notes = vec![Line::Mark(keeper.mark().clone())];
        World {
            job,
            keeper,
            now,
            latest: now,
            notes,
            asked: Vec::new(),
            begun: BTreeMap::new(),
            running: BTreeSet::new(),
            fired: BTreeSet::new(),
        }
    }

    fn tell(&mut self, event: Event) -> Result<(), TestCaseError> {
        let mut effects = Vec::new();
        self.keeper.handle(Context { now: self.now, job: &self.job, zone: &Utc }, event, &mut effects);
        let mut stopped = Vec::new();
        for effect in effects {
            match effect {
                Effect::Fire(firing, mark) => self.asked.push(Line::Fired(firing, mark)),
                Effect::Keep(mark) => self.asked.push(Line::Mark(mark)),
                Effect::Start(firing) => self.begin(firing)?,
                // It ends at once, or does not for a while.
                Effect::Stop(number) => stopped.extend((number % 2 == 0).then_some(number)),
                Effect::Pass(_) | Effect::SetBack { .. } => {}
            }
        }
        stopped.into_iter().try_for_each(|number| self.ended(number))
    }

    fn begin(&mut self, firing: Firing) -> Result<(), TestCaseError> {
        let times = self.begun.entry(firing.number).or_default();
        *times += 1;
        prop_assert_eq!(*times, 1, "{:?} began twice", firing);
        self.running.insert(firing.number);
        let noted = self.notes.iter().any(|line| matches!(line, Line::Fired(noted, _) if *noted == firing));
        prop_assert!(noted, "{:?} was not noted", firing);
        if self.job.overlap != Overlap::Allow {
            prop_assert_eq!(self.running.len(), 1);
        }
        Ok(())
    }

    fn ended(&mut self, number: u64) -> Result<(), TestCaseError> {
        self.running.remove(&number);
        self.notes.push(Line::Ended(number));
        self.tell(Event::Ended(number))
    }

    fn write(&mut self, line: Line) -> Result<(), TestCaseError> {
        if let Line::Fired(firing, _) = &line
            && firing.cause != Cause::Request
        {
            prop_assert!(self.fired.insert(firing.at.0), "{:?} fired twice", firing);
            let named = instants(&self.job.schedule, &Utc, firing.at.0 - 1, firing.at.0);
            prop_assert_eq!(named, vec![firing.at.0], "no instant of the schedule");
        }
        self.notes.push(line);
        Ok(())
    }

    fn perform(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Pass(ms) => {
                self.now.0 += ms;
                self.latest = self.latest.max(self.now);
                self.tell(Event::Tick)
            }
            Op::SetBack(ms) => {
                // Further back, the job goes on by the new time, and what it names may come again.
                self.now.0 = (self.now.0 - ms).max(self.latest.0 - 86_000_000);
                self.tell(Event::Tick)
            }
            Op::Note if self.asked.is_empty() => Ok(()),
            Op::Note => {
                let line = self.asked.remove(0);
                self.write(line.clone())?;
                match line {
                    Line::Fired(firing, _) => self.tell(Event::Noted(firing.number)),
                    Line::Mark(_) | Line::Ended(_) => Ok(()),
                }
            }
            Op::Fail if self.asked.is_empty() => Ok(()),
            Op::Fail => match self.asked.remove(0) {
                Line::Fired(firing, _) => self.tell(Event::NotNoted(firing.number)),
                Line::Mark(_) | Line::Ended(_) => Ok(()),
            },
            Op::End => match self.running.first().copied() {
                Some(number) => self.ended(number),
                None => Ok(()),
            },
            Op::Run if self.keeper.takes_requests(&self.job) => self.tell(Event::Run),
            Op::Run => Ok(()),
            Op::Pause => self.tell(Event::Pause),
            Op::Resume => self.tell(Event::Resume),
            Op::Kill(written) => self.kill(written),
        }
    }

    /// Another daemon goes on from the notes.
    fn kill(&mut self, written: usize) -> Result<(), TestCaseError> {
        let asked = std::mem::take(&mut self.asked);
        for line in asked.into_iter().take(written) {
            self.write(line)?;
        }
        let mut saved = Saved::default();
        let mut open = BTreeMap::new();
        for line in &self.notes {
            match line {
                Line::Fired(firing, mark) => {
                    saved.mark = mark.clone();
                    saved.last = saved.last.max(firing.number);
                    open.insert(firing.number, *firing);
                }
                Line::Mark(mark) => saved.mark = mark.clone(),
                Line::Ended(number) => drop(open.remove(number)),
            }
        }
        saved.running = open.into_values().collect();
        let firings = saved.running.clone();
        self.keeper = Keeper::restore(saved, Context { now: self.now, job: &self.job, zone: &Utc });
        // What was noted and did not begin begins now.
        for firing in firings {
            if !self.begun.contains_key(&firing.number) {
                self.begin(firing)?;
            }
        }
        self.tell(Event::Tick)
    }
}

fn overlap() -> impl Strategy<Value = Overlap> {
    prop_oneof![Just(Overlap::Allow), Just(Overlap::Forbid), Just(Overlap::Replace)]
}

fn catch_up() -> impl Strategy<Value = CatchUp> {
    let within = || (1u64..4000).prop_map(Duration::from_secs);
    prop_oneof![Just(CatchUp::Skip), within().prop_map(CatchUp::One), within().prop_map(CatchUp::All)]
}

fn schedule() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("* * * * * *"),
        Just("*/10 * * * * *"),
        Just("* * * * *"),
        Just("*/7 3-5 * * *"),
        Just("0 3 * * *"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_instant_fires_twice_and_no_firing_begins_twice(
        schedule in schedule(),
        overlap in overlap(),
        catch_up in catch_up(),
        jitter in 0u64..5,
        ops in prop::collection::vec(op(), 1..120),
    ) {
        let mut job = job(schedule, overlap, catch_up);
        job.jitter = Duration::from_secs(jitter).min(Duration::from_secs(job.schedule.shortest_gap().into()) / 2);
        let mut world = World::new(job);
        for op in ops {
            world.perform(op)?;
        }
    }

    /// As long as nobody pauses it and the clock goes on, every instant is fired, told as passed over, or still to be made up for.
    #[test]
    fn every_instant_is_accounted_for(
        schedule in prop_oneof![Just("*/10 * * * * *"), Just("* * * * *"), Just("*/7 3-5 * * *")],
        overlap in overlap(),
        catch_up in catch_up(),
        steps in prop::collection::vec((1i64..600_000, any::<bool>(), any::<bool>()), 1..60),
    ) {
        let job = job(schedule, overlap, catch_up);
        let start = Wall(1_000_000_000_000);
        let mut now = start;
        let mut keeper = Keeper::new(Context { now, job: &job, zone: &Utc });
        let (mut fired, mut passed) = (0u64, 0u64);
        let mut running = BTreeSet::new();
        for (step, note, end) in steps {
            now.0 += step;
            let mut events = vec![Event::Tick];
            if end && let Some(number) = running.pop_first() {
                events.push(Event::Ended(number));
            }
            while let Some(event) = events.pop() {
                let mut effects = Vec::new();
                keeper.handle(Context { now, job: &job, zone: &Utc }, event, &mut effects);
                for effect in effects {
                    match effect {
                        Effect::Fire(firing, _) if note => events.push(Event::Noted(firing.number)),
                        Effect::Fire(firing, _) => events.push(Event::NotNoted(firing.number)),
                        Effect::Start(firing) => {
                            fired += 1;
                            running.insert(firing.number);
                        }
                        Effect::Stop(number) => {
                            // One that was stopped before it began had its turn as well.
                            fired += u64::from(!running.remove(&number));
                            events.push(Event::Ended(number));
                        }
                        Effect::Pass(told) => passed += told.count,
                        Effect::Keep(_) | Effect::SetBack { .. } => {}
                    }
                }
            }
        }
        let named = instants(&job.schedule, &Utc, start.second().0, keeper.mark().seen.0).len() as u64;
        let waiting = keeper.pending() as u64 + u64::from(keeper.mark().next.is_some());
        prop_assert_eq!(fired + passed + waiting, named);
        let next = keeper.next().map(Second::wall);
        prop_assert!(next.is_some_and(|next| next > now), "{:?} is to come at {:?}", next, now);
    }
}
