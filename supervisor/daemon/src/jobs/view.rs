//! What operators see of jobs, and what they ask for.

use std::time::Duration;

use watt_api::control::{self, JobCause, JobDetail, JobInstant, JobInstants, JobRun, JobState};
use watt_core::{
    JobId,
    jobs::{Cause, Event, Firing},
    plan::{CatchUp, Overlap, Work},
};

use super::{Entry, Flight, notes::Ended, shown, store};
use crate::{
    app::{App, Ending},
    beside::VIEWS,
    control::{Refusal, Reply},
    operate::answer,
    timestamp, words,
};

/// How many instants are told at most.
const INSTANTS_MAX: u64 = 1000;

/// What may be done to a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It fires no more by itself.
    Pause,
    /// It does again.
    Resume,
}

/// What somebody waits for who had a job fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    Begun,
    Ended,
}

impl App {
    /// Every job.
    pub(crate) fn view_jobs(&self, reply: Reply<control::Jobs>) {
        let entries = self.jobs.entries.values().filter(|entry| !entry.leaves);
        answer(reply, Ok(control::Jobs { jobs: entries.map(job).collect() }));
    }

    /// One job, with what it said last.
    pub(crate) fn view_job(&self, name: &str, reply: Reply<Box<JobDetail>>) {
        let entry = match self.job(name) {
            Ok(entry) => entry,
            Err(refusal) => return answer(reply, Err(refusal)),
        };
        let detail = JobDetail {
            job: job(entry),
            overlap: overlap(entry.job.overlap).to_owned(),
            catch_up: catch_up(entry.job.catch_up),
            history: entry.history.iter().rev().map(ended).collect(),
            output: None,
        };
        let (folder, id) = (self.jobs.folder.clone(), entry.job.id.clone());
        let has_ended = !entry.history.is_empty();
        tokio::spawn(async move {
            let read = VIEWS.run(move || store::output(&folder, &id).filter(|_| has_ended));
            let output = read.await.flatten().map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            answer(reply, Ok(Box::new(JobDetail { output, ..detail })));
        });
    }

    /// The next instants of a job, whether it is paused or not.
    pub(crate) fn view_instants(&self, name: &str, count: u64, reply: Reply<JobInstants>) {
        let entry = match self.job(name) {
            Ok(entry) => entry,
            Err(refusal) => return answer(reply, Err(refusal)),
        };
        let instants = entry.zone.as_ref().map(|zone| {
            let schedule = &entry.job.schedule;
            let first = entry.keeper.next().filter(|_| !entry.keeper.is_paused());
            let first = first.or_else(|| schedule.next(zone, super::now().second()));
            let all = std::iter::successors(first, |at| schedule.next(zone, *at));
            let each = all.map(|at| JobInstant { at: shown(at), local: zone.shown(at) });
            each.take(usize::try_from(count.min(INSTANTS_MAX)).unwrap_or(usize::MAX)).collect()
        });
        answer(reply, Ok(JobInstants { instants: instants.unwrap_or_default() }));
    }

    /// Pauses a job, or has it go on.
    pub(crate) fn order_job(&mut self, name: &str, order: Order, reply: Reply<Box<control::Job>>) {
        let id = match self.job(name) {
            Ok(entry) => entry.job.id.clone(),
            Err(refusal) => return answer(reply, Err(refusal)),
        };
        let event = match order {
            Order::Pause => Event::Pause,
            Order::Resume => Event::Resume,
        };
        self.tell_job(&id, event);
        if let Some(entry) = self.jobs.entries.get(&id) {
            answer(reply, Ok(Box::new(job(entry))));
        }
    }

    /// Has a job fire now.
    pub(crate) fn run_job(&mut self, name: &str, wait: bool, reply: Reply<JobRun>) {
        let entry = match self.job(name) {
            Ok(_) if self.ending != Ending::No => return answer(reply, Err(Refusal::ShuttingDown)),
            Ok(entry) => entry,
            Err(refusal) => return answer(reply, Err(refusal)),
        };
        if !entry.keeper.takes_requests(&entry.job) {
            return answer(reply, Err(Refusal::JobBusy(name.to_owned())));
        }
        let id = entry.job.id.clone();
        if let Some(entry) = self.jobs.entries.get_mut(&id) {
            let until = if wait { Until::Ended } else { Until::Begun };
            entry.asked.push((until, reply));
        }
        self.tell_job(&id, Event::Run);
    }

    /// A firing has begun: those who wait for that hear of it.
    pub(super) fn answer_begun(&mut self, id: &JobId, number: u64) {
        let Some(flight) = self.jobs.flight(id, number) else { return };
        let run = running(flight);
        let (begun, others) =
            std::mem::take(&mut flight.waiting).into_iter().partition(|(until, _)| *until == Until::Begun);
        flight.waiting = others;
        let begun: Vec<(Until, Reply<JobRun>)> = begun;
        for (_, reply) in begun {
            answer(reply, Ok(run.clone()));
        }
    }

    fn job(&self, name: &str) -> Result<&Entry, Refusal> {
        let entries = || self.jobs.entries.values().filter(|entry| !entry.leaves);
        let found = JobId::new(name).ok().and_then(|id| entries().find(|entry| entry.job.id == id));
        found.ok_or_else(|| Refusal::UnknownJob {
            name: name.to_owned(),
            known: entries().map(|entry| entry.job.id.to_string()).collect(),
        })
    }
}

fn job(entry: &Entry) -> control::Job {
    let Entry { job, zone, keeper, flights, history, .. } = entry;
    let state = match () {
        () if zone.is_none() => JobState::NoTimezone,
        () if keeper.is_paused() => JobState::Paused,
        () if !flights.is_empty() => JobState::Running,
        () => JobState::Waiting,
    };
    let fires = !keeper.is_paused() && zone.is_some();
    control::Job {
        name: job.id.to_string(),
        service: job.service.to_string(),
        work: work(&job.work),
        schedule: job.schedule.as_str().to_owned(),
        timezone: job.timezone.clone(),
        state,
        next: keeper.next().filter(|_| fires).map(shown),
        pending: keeper.pending() as u64,
        running: flights.values().map(running).collect(),
        last: history.back().map(ended),
    }
}

fn running(flight: &Flight) -> JobRun {
    JobRun {
        started_at: timestamp::from_ms(flight.started_ms),
        ended_at: None,
        result: None,
        text: String::new(),
        attempts: flight.attempts,
        ..of_firing(flight.firing)
    }
}

pub(super) fn ended(ended: &Ended) -> JobRun {
    JobRun {
        started_at: timestamp::from_ms(ended.started_ms),
        ended_at: Some(timestamp::from_ms(ended.ended_ms)),
        result: Some(ended.result),
        text: ended.text.clone(),
        attempts: ended.attempts,
        ..of_firing(ended.firing())
    }
}

fn of_firing(firing: Firing) -> JobRun {
    let Firing { number, at, cause } = firing;
    let cause = match cause {
        Cause::Schedule => JobCause::Schedule,
        Cause::CatchUp => JobCause::CatchUp,
        Cause::Request => JobCause::Request,
    };
    let (started_at, text) = (String::new(), String::new());
    JobRun { number, at: shown(at), cause, started_at, ended_at: None, result: None, text, attempts: 0 }
}

/// As events have it.
pub(super) fn cause_word(cause: Cause) -> &'static str {
    match cause {
        Cause::Schedule => "schedule",
        Cause::CatchUp => "catch_up",
        Cause::Request => "request",
    }
}

fn work(work: &Work) -> String {
    match work {
        Work::Command(argv) => argv.join(" "),
        Work::Call(call) => format!("{} {}", call.method, call.path),
    }
}

fn overlap(overlap: Overlap) -> &'static str {
    match overlap {
        Overlap::Allow => "allow",
        Overlap::Forbid => "forbid",
        Overlap::Replace => "replace",
    }
}

fn catch_up(catch_up: CatchUp) -> String {
    let words = |mode: &str, within: Duration| format!("{mode} within {}", words::duration(within));
    match catch_up {
        CatchUp::Skip => "skip".to_owned(),
        CatchUp::One(within) => words("one", within),
        CatchUp::All(within) => words("all", within),
    }
}

#[cfg(test)]
mod tests {
    use watt_core::jobs::Second;

    use super::*;

    #[test]
    fn words_of_what_is_made_up_for() {
        assert_eq!(catch_up(CatchUp::Skip), "skip");
        assert_eq!(catch_up(CatchUp::One(Duration::from_secs(21_600))), "one within 6h");
        assert_eq!(shown(Second(0)), "1970-01-01T00:00:00.000Z");
    }
}
