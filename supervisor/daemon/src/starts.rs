//! When workers were wanted, started, executed and ready: what `wattctl analyze` is about. It is in the notes on the workers, so that a
//! successor of the daemon has it.

use serde::{Deserialize, Serialize};
use watt_core::{RunId, WorkerId, worker::State};

use crate::{app::App, record::Uptime};

/// The first start of a worker since the application was started, and the last one. Milliseconds on the clock of
/// [`crate::record::Uptime`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Starts {
    /// The first one that succeeded, from when that was first wanted; until then the present try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first: Option<Start>,
    /// The last try.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) last: Option<Start>,
}

/// One start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Start {
    /// When it was wanted.
    pub(crate) wanted: u64,
    /// Its run, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<u64>,
    /// When everything that it needs was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spawned: Option<u64>,
    /// When its program was executed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) executed: Option<u64>,
    /// When it was ready for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ready: Option<u64>,
    /// When it had passed its health check for the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) healthy: Option<u64>,
    /// When it had completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ended: Option<u64>,
}

impl Start {
    /// When it was where it was to get: ready, or completed.
    pub(crate) fn done(&self) -> Option<u64> {
        self.ended.or(self.ready)
    }
}

impl Starts {
    /// Notes the state that a worker is in now.
    pub(crate) fn note(&mut self, state: &State, healthy_run: Option<RunId>, now: u64) {
        match state {
            State::Waiting if self.last.is_some_and(|last| last.run.is_none()) => {}
            State::Waiting => self.last = Some(Start { wanted: now, ..Start::default() }),
            State::Starting { run, executed, .. } => {
                let start = self.of(*run, now);
                if *executed {
                    start.executed.get_or_insert(now);
                }
            }
            State::Ready { run, .. } => {
                let start = self.of(*run, now);
                start.executed.get_or_insert(now);
                start.ready.get_or_insert(now);
                if healthy_run == Some(*run) {
                    start.healthy.get_or_insert(now);
                }
            }
            State::Completed { .. } => {
                if let Some(start) = &mut self.last {
                    start.ended.get_or_insert(now);
                }
            }
            State::Down
            | State::Asleep
            | State::Unready { .. }
            | State::Draining { .. }
            | State::Stopping { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {}
        }
        self.note_first();
    }

    /// The start of this run. Waiting for something may have been over at once.
    fn of(&mut self, run: RunId, now: u64) -> &mut Start {
        let start = self.last.get_or_insert_default();
        if start.run != Some(run.0) {
            let wanted = if start.run.is_none() && start.wanted != 0 { start.wanted } else { now };
            *start = Start { wanted, run: Some(run.0), spawned: Some(now), ..Start::default() };
        }
        start
    }

    fn note_first(&mut self) {
        let Some(last) = self.last else { return };
        self.first = match self.first {
            None => Some(last),
            // The same run goes on: it may be healthy, or have completed.
            Some(first) if first.done().is_none() || first.run == last.run => {
                Some(Start { wanted: first.wanted, ..last })
            }
            first => first,
        };
    }
}

impl App {
    /// Notes what a worker is doing, and says whether its run is ready for the first time. One that takes over from another has the
    /// first start of that one, and when a run ended there last.
    pub(crate) fn note_start(&mut self, id: &WorkerId, Uptime(now): Uptime) -> bool {
        let Some(worker) = self.fleet.worker(id) else { return false };
        if !self.times.contains_key(id) {
            let beside = self.times.get(&id.beside());
            let times = beside.map(|beside| beside.of_next()).unwrap_or_default();
            self.times.insert(id.clone(), Box::new(times));
        }
        let Some(times) = self.times.get_mut(id) else { return false };
        let ready = |starts: &Starts| starts.last.and_then(|last| Some((last.run?, last.ready?)));
        let before = ready(&times.starts);
        times.starts.note(&worker.state, worker.record.healthy_run, now);
        let after = ready(&times.starts);
        after.is_some() && after != before
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::record::Times;

    fn starting(run: u64, executed: bool) -> State {
        State::Starting { run: RunId(run), ready_by: None, executed }
    }

    fn ready(run: u64) -> State {
        State::Ready { run: RunId(run), since: Instant::now() }
    }

    #[test]
    fn a_start_is_noted_step_by_step() {
        let mut starts = Starts::default();
        for (state, at) in
            [(State::Waiting, 10), (State::Waiting, 11), (starting(1, false), 20), (starting(1, true), 25)]
        {
            starts.note(&state, None, at);
        }
        starts.note(&ready(1), None, 30);
        starts.note(&ready(1), Some(RunId(1)), 40);
        let start = starts.last.unwrap();
        assert_eq!((start.wanted, start.spawned, start.executed), (10, Some(20), Some(25)));
        assert_eq!((start.ready, start.healthy, start.done()), (Some(30), Some(40), Some(30)));
        assert_eq!(starts.first, starts.last);
    }

    #[test]
    fn the_first_start_counts_from_when_it_was_first_wanted_and_stays() {
        let mut starts = Starts::default();
        starts.note(&State::Waiting, None, 10);
        starts.note(&starting(1, true), None, 20);
        // It failed.
        starts.note(&State::Waiting, None, 50);
        starts.note(&starting(2, true), None, 60);
        starts.note(&ready(2), None, 70);
        assert_eq!(starts.first.map(|first| (first.wanted, first.done())), Some((10, Some(70))));
        assert_eq!(starts.last.map(|last| last.wanted), Some(50));
        starts.note(&State::Waiting, None, 500);
        starts.note(&ready(3), None, 600);
        assert_eq!(starts.first.and_then(|first| first.done()), Some(70));
        assert_eq!(starts.last.and_then(|last| last.done()), Some(600));
    }

    #[test]
    fn who_takes_over_has_the_first_start_and_the_last_exit() {
        let mut starts = Starts::default();
        starts.note(&State::Waiting, None, 10);
        starts.note(&ready(1), None, 30);
        let old = Times { since_ms: 5, exited_at_ms: 4, pids_refused: 3, starts };
        let starts = Starts { first: starts.first, last: None };
        assert_eq!(old.of_next(), Times { exited_at_ms: 4, starts, ..Times::default() });
    }

    #[test]
    fn a_worker_whose_needs_are_there_is_not_seen_waiting() {
        let mut starts = Starts::default();
        starts.note(&starting(4, false), None, 20);
        assert_eq!(starts.last.map(|last| (last.wanted, last.spawned)), Some((20, Some(20))));
    }
}
