//! How many workers a service is to have by what it has to do.
//!
//! [`Scaler`] is told what was measured, once in a while, and answers with a decision, if there is one. Of each target it works out how many
//! workers would be enough, and the largest of these numbers counts.
//!
//! - What grows with the work (CPU time, requests at a time) is divided by the target.
//! - What does not (latency, waiting, pressure) says only that there are too few: then there are more in proportion; or by far enough: then
//!   one less. What was measured with another number of workers says nothing.
//! - **More** at once, by at most [`FACTOR`] times those that are ready: whoever has just come takes his share first.
//! - **Fewer** when fewer would have been enough all the time for the cooldown, and only while all are ready: those that are not may be needed.
//! - In between nothing changes: there are more above a target by [`TOLERANCE`], and fewer if they would be below theirs by as much. So a load that
//!   stays the same comes to a number that stays the same. Where only a trial can tell, the next one comes later each time ([`trials`]).
//! - **No more than there is room for** ([`Room`]).
//! - **None** where that may be and nobody wanted anything for the time that is set.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    num::NonZeroU16,
    time::{Duration, Instant},
};

use self::trials::{Load, Trial, Trials};
use crate::plan::{Scaling, Targets};

mod trials;

/// How many times as many workers there are at most by one decision.
pub const FACTOR: u16 = 2;
/// How far from a target nothing changes.
pub const TOLERANCE: f64 = 0.1;
/// Below this part of a target that does not grow with the work, one worker less is tried.
const BY_FAR: f64 = 0.5;
/// With fewer requests in flight than this, on average, it is no wonder that nobody was answered.
const NOBODY: f64 = 0.1;
/// What part of the CPU time there is may be used before more workers get none of it.
const CPU_FULL: f64 = 0.9;

/// What was measured of a service's workers since the last sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// Over which time.
    pub passed: Duration,
    /// How many workers are ready.
    pub ready: u16,
    /// CPU time that all of them used, in parts of what one may use: 1.5 are three workers at 50 %.
    pub cpu: Option<f64>,
    /// Requests in flight at all of them, on average.
    pub in_flight: Option<f64>,
    /// Within which times how many answers began, each counted once. `None` where that is not known.
    pub answers: Option<Vec<(Duration, u64)>>,
    /// Requests that waited for a worker, on average.
    pub queue: Option<f64>,
    /// The part of the time in which some process of a worker waited for CPU time, on average.
    pub pressure: Option<f64>,
    /// Whether somebody wanted something of it, or may have.
    pub active: bool,
}

/// What there is for more workers. What is not known is no reason to refuse any.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Room {
    /// Bytes of memory that are free.
    pub memory_free: Option<u64>,
    /// Bytes that one of the service's workers has.
    pub memory_each: Option<u64>,
    /// CPUs that are used, and that may be.
    pub cpus: Option<(f64, f64)>,
}

/// What more workers lack.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Lack {
    /// Memory.
    Memory {
        /// Bytes that are free.
        free: u64,
        /// Bytes that one needs.
        each: u64,
    },
    /// CPU time.
    Cpu {
        /// CPUs that are used.
        used: f64,
        /// CPUs that may be.
        of: f64,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// So many workers from now on.
    Count(NonZeroU16, Reason),
    /// None, until somebody wants something.
    Sleep(Reason),
    /// So many would be better, and there is no room for one more. Said once.
    Refused(NonZeroU16, Reason, Lack),
}

/// Why.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// A worker has more to do than it should.
    Busy(Measured),
    /// Fewer have been enough for so long.
    Enough(Duration),
    /// Nobody wanted anything for so long.
    Idle(Duration),
}

/// Something that was measured, for one worker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measured {
    /// Percent of CPU time, and the target.
    Cpu(f64, u32),
    /// Requests in flight.
    InFlight(f64, u32),
    /// Time until answers begin.
    Latency(Duration, Duration),
    /// Requests that wait.
    Queue(f64, u32),
    /// Percent of the time.
    Pressure(f64, u32),
}

/// What decides for one service.
#[derive(Debug, Clone)]
pub struct Scaler {
    /// Of the last window, in order.
    samples: VecDeque<Sample>,
    /// Since when so many are ready.
    ready: (u16, Instant),
    /// How many would have been enough, and when, within the cooldown; in order, and each less than those before it.
    enough: VecDeque<(Instant, NonZeroU16)>,
    /// Since when what would have been enough is known without a gap.
    known_since: Instant,
    /// When somebody last wanted something.
    active_at: Instant,
    /// What came of it when there were fewer.
    trials: Trials,
    /// Whether it was said that there is no room.
    refused: bool,
}

impl Scaler {
    /// Nothing is known yet.
    pub fn new(now: Instant) -> Scaler {
        Scaler {
            samples: VecDeque::new(),
            ready: (0, now),
            enough: VecDeque::new(),
            known_since: now,
            active_at: now,
            trials: Trials::default(),
            refused: false,
        }
    }

    /// Takes what was measured, and decides. `count` is how many workers there are to be by now.
    pub fn decide(
        &mut self,
        rules: &Scaling,
        count: NonZeroU16,
        sample: Sample,
        room: &Room,
    ) -> Option<Decision> {
        let now = sample.at;
        let (ready, active) = (sample.ready, sample.active);
        self.take(rules, sample);
        if active {
            self.active_at = now;
        }
        if rules.min == 0 && now.saturating_duration_since(self.active_at) >= rules.idle {
            return Some(Decision::Sleep(Reason::Idle(rules.idle)));
        }
        let Some(ready) = NonZeroU16::new(ready) else {
            // Nobody does anything that could be measured.
            self.enough.clear();
            self.known_since = now;
            return None;
        };
        let (wanted, why) = self.wanted(rules, ready);
        let wanted = rules.clamp(wanted);
        self.trials.look(now, rules);
        if ready < count {
            // Those that are not ready may be what is lacking, and those that would go may be the ones that are.
            self.enough.clear();
            self.known_since = now;
        } else {
            let fewest = self.trials.fewest(now, rules, &self.load());
            self.note(now, rules, wanted.max(fewest));
        }
        match why {
            // What was measured with fewer says nothing of as many as there were before.
            Some(why) if ready < count && self.trials.has_undone(now, rules, count, &why) => None,
            Some(why) if wanted > count => self.grow(now, count, wanted, why, room),
            Some(_) => {
                self.refused = false;
                None
            }
            None => {
                self.refused = false;
                self.shrink(now, rules, count)
            }
        }
    }

    /// Somebody else has decided how many there are: what would have been enough before says nothing.
    pub fn begin_anew(&mut self, now: Instant) {
        self.enough.clear();
        self.known_since = now;
        self.active_at = now;
        self.trials = Trials::default();
        self.refused = false;
    }

    /// Whether there is no room for workers that it would take.
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    fn take(&mut self, rules: &Scaling, sample: Sample) {
        if self.ready.0 != sample.ready {
            self.ready = (sample.ready, sample.at);
        }
        let is_old = |old: &Sample| sample.at.saturating_duration_since(old.at) >= rules.window;
        while self.samples.front().is_some_and(is_old) {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// How many workers would be enough, and what says that they are more than those that are ready.
    fn wanted(&self, rules: &Scaling, ready: NonZeroU16) -> (NonZeroU16, Option<Measured>) {
        let Targets { cpu, in_flight, latency_p95, queue, pressure } = &rules.targets;
        let each = |total: f64| total / f64::from(ready.get());
        let all = self.samples.iter();
        let parts = [
            cpu.zip(mean(all.clone(), |sample| sample.cpu)).map(|(target, total)| {
                let measured = Measured::Cpu(each(total) * 100.0, target.get());
                (in_proportion(ready, total, f64::from(target.get()) / 100.0), measured)
            }),
            in_flight.zip(mean(all, |sample| sample.in_flight)).map(|(target, total)| {
                let measured = Measured::InFlight(each(total), target.get());
                (in_proportion(ready, total, f64::from(target.get())), measured)
            }),
            latency_p95.and_then(|target| self.by_latency(rules, ready, target)),
            queue.and_then(|target| {
                let total = mean(self.settled(rules)?, |sample| sample.queue)?;
                let measured = Measured::Queue(each(total), target.get());
                Some((by_trial(ready, each(total) / f64::from(target.get())), measured))
            }),
            pressure.and_then(|target| {
                let percent = mean(self.settled(rules)?, |sample| sample.pressure)? * 100.0;
                let measured = Measured::Pressure(percent, target.get());
                Some((by_trial(ready, percent / f64::from(target.get())), measured))
            }),
        ];
        let most = parts.into_iter().flatten().max_by_key(|(count, _)| *count);
        match most {
            Some((count, measured)) => (count, (count > ready).then_some(measured)),
            // Without a target, or with nothing known of it, it stays as it is.
            None => (ready, None),
        }
    }

    fn by_latency(
        &self,
        rules: &Scaling,
        ready: NonZeroU16,
        target: Duration,
    ) -> Option<(NonZeroU16, Measured)> {
        let mut answers: BTreeMap<Duration, u64> = BTreeMap::new();
        for (within, count) in self.settled(rules)?.filter_map(|sample| sample.answers.as_ref()).flatten() {
            *answers.entry(*within).or_default() += count;
        }
        let all: u64 = answers.values().sum();
        if all == 0 {
            // Either nobody asks, or nobody is answered.
            let in_flight = mean(self.settled(rules)?, |sample| sample.in_flight)?;
            let idle = (by_trial(ready, 0.0), Measured::Latency(Duration::ZERO, target));
            return (in_flight < NOBODY).then_some(idle);
        }
        let mut left = all - all / 100 * 95 - all % 100 * 95 / 100;
        // From the slowest: when so many are left out, the next one is the time that is meant.
        let mut slowest = answers.into_iter().rev().skip_while(|(_, count)| {
            let is_left_out = *count < left;
            left = left.saturating_sub(*count);
            is_left_out
        });
        let (time, _) = slowest.next()?;
        let times = time.as_secs_f64() / target.as_secs_f64();
        Some((by_trial(ready, times), Measured::Latency(time, target)))
    }

    /// What was measured since so many workers are ready. `None` before that is half a window.
    fn settled(&self, rules: &Scaling) -> Option<impl Iterator<Item = &Sample>> {
        let (_, since) = self.ready;
        let last = self.samples.back()?.at;
        let is_settled = last.saturating_duration_since(since) >= rules.window / 2;
        is_settled.then(|| self.samples.iter().filter(move |sample| sample.at > since))
    }

    /// Notes how many would be enough now. One that is smaller than a later one never counts again.
    fn note(&mut self, now: Instant, rules: &Scaling, wanted: NonZeroU16) {
        while self.enough.back().is_some_and(|(_, earlier)| *earlier <= wanted) {
            self.enough.pop_back();
        }
        self.enough.push_back((now, wanted));
        let is_old = |(at, _): &(Instant, NonZeroU16)| now.saturating_duration_since(*at) > rules.cooldown;
        while self.enough.front().is_some_and(is_old) {
            self.enough.pop_front();
        }
    }

    /// What there is to do in all.
    fn load(&self) -> Load {
        let all = self.samples.iter();
        Load { in_flight: mean(all.clone(), |sample| sample.in_flight), cpu: mean(all, |sample| sample.cpu) }
    }

    fn grow(
        &mut self,
        now: Instant,
        count: NonZeroU16,
        wanted: NonZeroU16,
        why: Measured,
        room: &Room,
    ) -> Option<Decision> {
        let failed = self.trials.that_failed(count, &why);
        // What was enough before is so again; should it not be, that is seen soon.
        let wanted = failed.map_or(wanted, |trial| wanted.min(trial.from));
        let why = Reason::Busy(why);
        match room.for_more(wanted.get() - count.get()) {
            Ok(more) => {
                self.refused = false;
                self.trials.grown(now, failed);
                Some(Decision::Count(count.saturating_add(more.get()), why))
            }
            Err(lack) => {
                let is_news = !std::mem::replace(&mut self.refused, true);
                is_news.then_some(Decision::Refused(wanted, why, lack))
            }
        }
    }

    fn shrink(&mut self, now: Instant, rules: &Scaling, count: NonZeroU16) -> Option<Decision> {
        let most = self.enough.front().map(|(_, count)| *count)?;
        let is_sure = now.saturating_duration_since(self.known_since) >= rules.cooldown;
        if !is_sure || most >= count {
            return None;
        }
        self.trials.begin(Trial { from: count, to: most, at: now, load: self.load() });
        Some(Decision::Count(most, Reason::Enough(rules.cooldown)))
    }
}

impl Room {
    /// For how many of so many workers there is room: one at least, or what they lack.
    fn for_more(&self, more: u16) -> Result<NonZeroU16, Lack> {
        if let Some((used, of)) = self.cpus.filter(|(used, of)| *used >= of * CPU_FULL) {
            return Err(Lack::Cpu { used, of });
        }
        let fit = match (self.memory_free, self.memory_each) {
            (Some(free), Some(each)) if each > 0 => u16::try_from(free / each).unwrap_or(u16::MAX),
            _ => u16::MAX,
        };
        NonZeroU16::new(more.min(fit))
            .ok_or(Lack::Memory { free: self.memory_free.unwrap_or(0), each: self.memory_each.unwrap_or(0) })
    }
}

/// The mean of what is known, by the time that each sample stands for.
fn mean<'a>(samples: impl Iterator<Item = &'a Sample>, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
    let known = samples.filter_map(|sample| Some((of(sample)?, sample.passed.as_secs_f64())));
    let (sum, time) =
        known.fold((0.0, 0.0), |(sum, time), (value, passed)| (sum + value * passed, time + passed));
    let mean = sum / time;
    mean.is_finite().then_some(mean)
}

/// How many workers a total takes of which each is to have so much.
fn in_proportion(ready: NonZeroU16, total: f64, target: f64) -> NonZeroU16 {
    if total > f64::from(ready.get()) * target * (1.0 + TOLERANCE) {
        return whole(total / target).min(most_at_once(ready));
    }
    whole(total / (target * (1.0 - TOLERANCE))).min(ready)
}

/// How many workers something takes that is so many times its target.
fn by_trial(ready: NonZeroU16, times: f64) -> NonZeroU16 {
    if times > 1.0 + TOLERANCE {
        let more = whole(f64::from(ready.get()) * times).max(ready.saturating_add(1));
        return more.min(most_at_once(ready));
    }
    let less = NonZeroU16::new(ready.get() - 1).filter(|_| times < BY_FAR);
    less.unwrap_or(ready)
}

fn most_at_once(ready: NonZeroU16) -> NonZeroU16 {
    ready.saturating_mul(NonZeroU16::new(FACTOR).unwrap_or(NonZeroU16::MIN))
}

/// Rounded up, one at least. What is no number is one, and what is too large the largest.
fn whole(count: f64) -> NonZeroU16 {
    // A cast of a double takes what lies outside for the nearest, and what is none for 0.
    NonZeroU16::new(count.ceil() as u16).unwrap_or(NonZeroU16::MIN)
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Busy(measured) => measured.fmt(f),
            Reason::Idle(time) => write!(f, "nothing was asked of it for {}", seconds(*time)),
            Reason::Enough(time) => write!(f, "fewer were enough for {}", seconds(*time)),
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Measured::Cpu(percent, target) => write!(f, "CPU at {percent:.0} %, target {target} %"),
            Measured::InFlight(each, target) => {
                write!(f, "{each:.1} requests at a time for each worker, target {target}")
            }
            Measured::Latency(time, target) => {
                write!(f, "95 % of answers begin within {}, target {}", millis(*time), millis(*target))
            }
            Measured::Queue(each, target) => {
                write!(f, "{each:.1} requests wait for each worker, target {target}")
            }
            Measured::Pressure(percent, target) => {
                write!(f, "CPU pressure {percent:.0} %, target {target} %")
            }
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lack::Memory { free, each } => {
                write!(f, "{} of memory are free, and a worker has {}", mebibytes(*free), mebibytes(*each))
            }
            Lack::Cpu { used, of } => write!(f, "{used:.1} of {of:.1} CPUs are used already"),
        }
    }
}

fn seconds(time: Duration) -> String {
    format!("{}s", time.as_secs_f64())
}

fn millis(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

fn mebibytes(bytes: u64) -> String {
    format!("{}M", bytes >> 20)
}

#[cfg(test)]
mod tests;
