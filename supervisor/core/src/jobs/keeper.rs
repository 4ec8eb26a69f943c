//! What becomes of each instant of one job.
//!
//! Every instant that the schedule names has its turn once, and one of four things becomes of it:
//!
//! | | when |
//! |---|---|
//! | fired | it is its time, and nothing of the job is under way or need not be waited for |
//! | skipped | it is its time, and what is under way comes first ([`Overlap`]) |
//! | missed | its time has passed without anybody there, and it is not to be made up for |
//! | pending | its time has passed, and it is made up for when nothing of the job is under way ([`CatchUp`]) |
//!
//! A firing is noted where it outlives everybody before it begins ([`Effect::Fire`]), together with the [`Mark`] that says which instants
//! have had their turn. Whoever goes on from the notes finds an instant fired or not, never half.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Second, Wall, Zone};
use crate::plan::{CatchUp, Job, Overlap};

/// An instant whose turn comes later than this after its time was missed. It is more than a daemon needs to be replaced.
pub const PUNCTUAL: Duration = Duration::from_secs(10);

/// How many missed instants of a job are made up for at most: the last ones.
pub const MADE_UP_MAX: usize = 100;

/// How many runs of a job may be under way at a time, with [`Overlap::Allow`].
pub const RUNS_MAX: usize = 16;

/// A clock that is set back further than this was wrong before: the job goes on by the new time. Within it, instants that had their turn
/// have none again, and the job waits until the clock has come to where it was.
pub const SET_BACK_MAX: Duration = Duration::from_secs(86_400);

/// Up to this number, missed instants are counted.
const COUNTED_MAX: u64 = 1000;

/// One turn of a job that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Firing {
    /// Counts up within the job, for ever.
    pub number: u64,
    /// The instant it is for; when it was asked for, if somebody did.
    pub at: Second,
    /// Why.
    pub cause: Cause,
}

/// Why a job fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It is time.
    Schedule,
    /// To make up for one that was missed.
    CatchUp,
    /// Somebody asked for it.
    Request,
}

/// One that is to begin when nothing of the job is under way any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pending {
    /// What it is for.
    pub at: Second,
    /// Why.
    pub cause: Cause,
}

/// What had its turn, for whoever goes on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mark {
    /// Instants up to this one have had theirs.
    pub seen: Second,
    /// Whether the job is paused.
    pub paused: bool,
    /// Instants that are to be made up for.
    pub queue: BTreeSet<Second>,
    /// One that waits for others that are being stopped.
    pub next: Option<Pending>,
}

/// What was noted of a job.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Saved {
    /// The last mark.
    pub mark: Mark,
    /// The last number that was given to a firing.
    pub last: u64,
    /// Firings whose end was not noted.
    pub running: Vec<Firing>,
}

/// What happens to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Time passes, or the clock was set.
    Tick,
    /// This firing was noted and may begin.
    Noted(u64),
    /// This firing could not be noted.
    NotNoted(u64),
    /// This firing is over.
    Ended(u64),
    /// Somebody wants it to fire now.
    Run,
    /// Somebody wants it to fire no more by itself.
    Pause,
    /// Somebody wants it to go on.
    Resume,
    /// It has another schedule, or is there again: what was before is none of it.
    Anew,
    /// It is not wanted any more, or the application ends.
    Close,
}

/// What is to be done for a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// To note this firing and the mark, so that it is found again whatever happens. [`Event::Noted`] or [`Event::NotNoted`] answers.
    Fire(Firing, Mark),
    /// To begin with this firing.
    Start(Firing),
    /// To stop this firing, which another one replaces. [`Event::Ended`] answers.
    Stop(u64),
    /// To note the mark. Nothing waits for it.
    Keep(Mark),
    /// To say what was not done.
    Pass(Passed),
    /// To say that the clock was set back so far that the job goes on by the new time.
    SetBack {
        /// Where it had been.
        from: Second,
    },
}

/// Instants that had their turn without a firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// How many; at [`COUNTED_MAX`], at least so many.
    pub count: u64,
    /// The last one of them.
    pub last: Second,
    /// Why.
    pub why: Why,
}

/// Why an instant had its turn without a firing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Missed: its time had passed.
    Late,
    /// Missed: it was to be made up for, and something else came first for too long.
    TooLate,
    /// Missed: what is to be made up for was given up, because the job was paused or has another schedule.
    GivenUp,
    /// Missed: it could not be noted.
    NotNoted,
    /// Skipped: an earlier one is under way.
    Busy,
    /// Skipped: a later one is to replace what is under way.
    Replaced,
}

impl Why {
    /// Whether it was skipped, as its job wants it, and not missed.
    pub fn is_skip(self) -> bool {
        match self {
            Why::Busy | Why::Replaced => true,
            Why::Late | Why::TooLate | Why::GivenUp | Why::NotNoted => false,
        }
    }
}

/// What a decision is made with.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// What the wall clock shows.
    pub now: Wall,
    /// The job as it is configured.
    pub job: &'a Job,
    /// The place whose clocks it is about.
    pub zone: &'a dyn Zone,
}

/// How far a firing has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is being noted.
    Noting,
    /// It is being noted, and is to be stopped as soon as it is.
    Unwanted,
    /// It is under way.
    Running,
    /// It is being stopped.
    Stopping,
}

/// Keeps one job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeper {
    mark: Mark,
    last: u64,
    firings: BTreeMap<u64, (Firing, Stage)>,
    closed: bool,
    /// The first instant after those that had their turn.
    next: Option<Second>,
}

impl Keeper {
    /// A job that is new: what was before now is none of it.
    pub fn new(context: Context<'_>) -> Keeper {
        let mark = Mark { seen: context.now.second(), ..Mark::default() };
        Keeper::restore(Saved { mark, ..Saved::default() }, context)
    }

    /// One that goes on from its notes. [`Event::Tick`] is to follow, when it is known which firings are over.
    pub fn restore(saved: Saved, context: Context<'_>) -> Keeper {
        let Saved { mark, last, running } = saved;
        let last = running.iter().map(|firing| firing.number).fold(last, u64::max);
        let firings = running.into_iter().map(|firing| (firing.number, (firing, Stage::Running))).collect();
        let mut keeper = Keeper { mark, last, firings, closed: false, next: None };
        keeper.look_ahead(context);
        keeper
    }

    /// When it is to be told that time has passed; `None` when nothing is to come.
    pub fn deadline(&self, job: &Job) -> Option<Wall> {
        let next = self.next.filter(|_| !self.mark.paused && !self.closed)?;
        Some(due(job, next))
    }

    /// The first instant that has not had its turn.
    pub fn next(&self) -> Option<Second> {
        self.next
    }

    /// Whether it fires by itself.
    pub fn is_paused(&self) -> bool {
        self.mark.paused
    }

    /// Firings that are under way, in order.
    pub fn firings(&self) -> impl Iterator<Item = &Firing> {
        self.firings.values().map(|(firing, _)| firing)
    }

    /// Instants that are to be made up for.
    pub fn pending(&self) -> usize {
        self.mark.queue.len()
    }

    /// What has to be kept of it.
    pub fn mark(&self) -> &Mark {
        &self.mark
    }

    /// Whether it would fire if somebody asked for it.
    pub fn takes_requests(&self, job: &Job) -> bool {
        match job.overlap {
            Overlap::Forbid => self.is_idle(),
            Overlap::Allow => self.firings.len() < RUNS_MAX,
            Overlap::Replace => true,
        }
    }

    /// Takes an event. What is to be done is to be done in its order, and what comes of it is to be told after all of it.
    pub fn handle(&mut self, context: Context<'_>, event: Event, effects: &mut Vec<Effect>) {
        let before = self.mark.clone();
        match event {
            Event::Tick => self.tick(context, effects),
            Event::Noted(number) => self.noted(number, effects),
            Event::NotNoted(number) => {
                if let Some((firing, _)) = self.firings.remove(&number) {
                    effects.push(pass(1, firing.at, Why::NotNoted));
                }
            }
            Event::Ended(number) => drop(self.firings.remove(&number)),
            Event::Run if self.closed => {}
            Event::Run => self.take(context, context.now.second(), Cause::Request, effects),
            Event::Pause => {
                self.mark.paused = true;
                self.give_up(effects);
            }
            Event::Resume if self.mark.paused => {
                self.mark.paused = false;
                self.begin_at(context);
            }
            Event::Resume => {}
            Event::Anew => {
                self.closed = false;
                self.give_up(effects);
                self.begin_at(context);
            }
            Event::Close => self.closed = true,
        }
        self.go_on(context, effects);
        // A firing is noted with the mark that it belongs to.
        let last = effects.iter().rev().find_map(|effect| match effect {
            Effect::Fire(_, mark) => Some(mark),
            _ => None,
        });
        let is_noted = last == Some(&self.mark);
        if self.mark != before && !is_noted {
            effects.push(Effect::Keep(self.mark.clone()));
        }
    }

    /// Gives every instant its turn whose time has come.
    fn tick(&mut self, context: Context<'_>, effects: &mut Vec<Effect>) {
        let Context { now, job, zone } = context;
        if now.second().0 < self.mark.seen.0.saturating_sub(seconds(SET_BACK_MAX)) {
            effects.push(Effect::SetBack { from: self.mark.seen });
            self.mark.seen = now.second();
            self.look_ahead(context);
        }
        if self.mark.paused || self.closed || self.next.is_none_or(|next| due(job, next) > now) {
            return;
        }
        // Whatever is before this is too late, even if it was put off for as long as can be.
        let long_ago = Second(now.second().0 - seconds(PUNCTUAL) - seconds(job.jitter) - 1);
        let mut missed = Missed::default();
        if long_ago > self.mark.seen {
            self.look_back(context, long_ago, &mut missed);
            self.mark.seen = long_ago;
        }
        let mut in_time = Vec::new();
        let (mut seen, mut latest) = (self.mark.seen, Wall(i64::MIN));
        while let Some(next) = job.schedule.next(zone, seen) {
            // One that is put off holds up those that follow it.
            latest = latest.max(due(job, next));
            if latest > now {
                break;
            }
            seen = next;
            match now.since(latest) <= PUNCTUAL {
                true => in_time.push(next),
                false => {
                    missed.note(next);
                    self.mark.seen = next;
                }
            }
        }
        self.pass_over(context, missed, !in_time.is_empty(), effects);
        // One after the other: what is noted with one of them does not say that those after it had their turn.
        for at in in_time {
            self.mark.seen = at;
            self.take(context, at, Cause::Schedule, effects);
        }
        self.look_ahead(context);
    }

    /// Looks at what had no turn up to this second, from the last one back.
    fn look_back(&self, context: Context<'_>, until: Second, missed: &mut Missed) {
        let mut before = Second(until.0 + 1);
        while missed.count < COUNTED_MAX
            && let Some(at) = context.job.schedule.previous(context.zone, before)
            && at > self.mark.seen
        {
            missed.note(at);
            before = at;
        }
    }

    /// Decides about instants that nobody was there for.
    fn pass_over(
        &mut self,
        context: Context<'_>,
        missed: Missed,
        is_one_in_time: bool,
        effects: &mut Vec<Effect>,
    ) {
        let Missed { mut count, last, newest } = missed;
        let Some(last) = last else { return };
        let (max, within) = match context.job.catch_up {
            CatchUp::Skip => (0, Duration::ZERO),
            // The one that is in time is the one that makes up for them.
            CatchUp::One(_) if is_one_in_time => (0, Duration::ZERO),
            CatchUp::One(within) => (1, within),
            CatchUp::All(within) => (MADE_UP_MAX, within),
        };
        let made_up = newest.iter().rev().take(max);
        for at in made_up.take_while(|at| context.now.since(at.wall()) <= within) {
            self.mark.queue.insert(*at);
            count -= 1;
        }
        if count > 0 {
            effects.push(pass(count, last, Why::Late));
        }
        while self.mark.queue.len() > max.max(1)
            && let Some(oldest) = self.mark.queue.pop_first()
        {
            effects.push(pass(1, oldest, Why::TooLate));
        }
    }

    /// Fires, unless what is under way comes first.
    fn take(&mut self, context: Context<'_>, at: Second, cause: Cause, effects: &mut Vec<Effect>) {
        match context.job.overlap {
            _ if self.is_idle() => self.fire(at, cause, effects),
            Overlap::Allow if self.firings.len() < RUNS_MAX => self.fire(at, cause, effects),
            Overlap::Allow | Overlap::Forbid => effects.push(pass(1, at, Why::Busy)),
            Overlap::Replace => {
                if let Some(earlier) = self.mark.next.replace(Pending { at, cause }) {
                    effects.push(pass(1, earlier.at, Why::Replaced));
                }
                self.stop_all(effects);
            }
        }
    }

    fn fire(&mut self, at: Second, cause: Cause, effects: &mut Vec<Effect>) {
        self.last += 1;
        let firing = Firing { number: self.last, at, cause };
        self.firings.insert(firing.number, (firing, Stage::Noting));
        effects.push(Effect::Fire(firing, self.mark.clone()));
    }

    fn noted(&mut self, number: u64, effects: &mut Vec<Effect>) {
        let Some((firing, stage)) = self.firings.get_mut(&number) else { return };
        let (next, effect) = match stage {
            Stage::Noting if self.closed => (Stage::Stopping, Effect::Stop(number)),
            Stage::Noting => (Stage::Running, Effect::Start(*firing)),
            Stage::Unwanted => (Stage::Stopping, Effect::Stop(number)),
            Stage::Running | Stage::Stopping => return,
        };
        *stage = next;
        effects.push(effect);
    }

    fn stop_all(&mut self, effects: &mut Vec<Effect>) {
        for (number, (_, stage)) in &mut self.firings {
            match stage {
                Stage::Noting => *stage = Stage::Unwanted,
                Stage::Running => {
                    *stage = Stage::Stopping;
                    effects.push(Effect::Stop(*number));
                }
                Stage::Unwanted | Stage::Stopping => {}
            }
        }
    }

    /// Begins with what waits, when nothing is under way.
    fn go_on(&mut self, context: Context<'_>, effects: &mut Vec<Effect>) {
        if self.closed || !self.firings.is_empty() {
            // After its notes were read, one may wait for others that nobody has told to stop.
            if self.mark.next.is_some() && !self.closed {
                self.stop_all(effects);
            }
            return;
        }
        if let Some(Pending { at, cause }) = self.mark.next.take() {
            return self.fire(at, cause, effects);
        }
        let within = match context.job.catch_up {
            CatchUp::Skip => Duration::ZERO,
            CatchUp::One(within) | CatchUp::All(within) => within,
        };
        while let Some(at) = self.mark.queue.pop_first() {
            if context.now.since(at.wall()) <= within {
                return self.fire(at, Cause::CatchUp, effects);
            }
            effects.push(pass(1, at, Why::TooLate));
        }
    }

    /// Gives up what was to be made up for.
    fn give_up(&mut self, effects: &mut Vec<Effect>) {
        let queue = std::mem::take(&mut self.mark.queue);
        if let Some(last) = queue.last() {
            effects.push(pass(queue.len() as u64, *last, Why::GivenUp));
        }
    }

    /// Goes on from now, or from where it had come to before the clock was set back.
    fn begin_at(&mut self, context: Context<'_>) {
        self.mark.seen = self.mark.seen.max(context.now.second());
        self.look_ahead(context);
    }

    fn look_ahead(&mut self, context: Context<'_>) {
        self.next = context.job.schedule.next(context.zone, self.mark.seen);
    }

    fn is_idle(&self) -> bool {
        self.firings.is_empty() && self.mark.next.is_none()
    }
}

/// Instants that nobody was there for.
#[derive(Debug, Default)]
struct Missed {
    count: u64,
    last: Option<Second>,
    /// The last ones.
    newest: BTreeSet<Second>,
}

impl Missed {
    fn note(&mut self, at: Second) {
        self.count += 1;
        self.last = self.last.max(Some(at));
        self.newest.insert(at);
        if self.newest.len() > MADE_UP_MAX {
            self.newest.pop_first();
        }
    }
}

fn pass(count: u64, last: Second, why: Why) -> Effect {
    Effect::Pass(Passed { count, last, why })
}

/// When an instant has its turn: put off by less than the job's jitter, by as much each time it is looked at.
fn due(job: &Job, at: Second) -> Wall {
    let jitter_ms = u64::try_from(job.jitter.as_millis()).unwrap_or(u64::MAX);
    if jitter_ms == 0 {
        return at.wall();
    }
    // FNV-1a of the name and the instant, mixed once more so that instants that are close to each other are not alike.
    let bytes = job.id.as_str().bytes().chain(at.0.to_le_bytes());
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let mixed = (hash ^ (hash >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11;
    let delay = i64::try_from(mixed % jitter_ms).unwrap_or(0);
    Wall(at.wall().0.saturating_add(delay))
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX / 4)
}
