//! What is kept of a job in the state folder: lines of JSON, each of which says one thing that happened.
//!
//! Read from the first to the last they give what a daemon has to know to go on, and the history. A line that was cut off when the host
//! went down is ignored: what it says had not been waited for by anybody. When there are many, they are written anew as the few that say the
//! same.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use watt_api::control::JobResult;
use watt_core::{
    jobs::{Cause, Firing, Mark, Pending, Saved, Second},
    plan::Job,
};

/// The longest text that is kept of how a firing ended.
const TEXT_SIZE_MAX: usize = 500;

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// The marks that follow are about this schedule.
    Schedule(Terms),
    /// What had its turn.
    Mark(MarkNote),
    /// A firing that may begin from now on, and what had its turn with it.
    Fired(Fired),
    /// A call is sent once more.
    Attempt { number: u64, attempts: u32 },
    /// A firing is over.
    Ended(Ended),
}

/// What the instants of a job follow from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    schedule: String,
    timezone: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MarkNote {
    seen: i64,
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    queue: Vec<i64>,
    #[serde(default)]
    next: Option<(i64, CauseNote)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CauseNote {
    Schedule,
    CatchUp,
    Request,
}

/// A firing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fired {
    number: u64,
    at: i64,
    cause: CauseNote,
    /// The life of the application that it belongs to.
    pub(crate) life: String,
    /// When it was noted, in milliseconds since the Unix epoch.
    pub(crate) noted_ms: u64,
    /// How often a call was sent, the time that follows this line included.
    pub(crate) attempts: u32,
    mark: MarkNote,
}

/// A firing that is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    number: u64,
    at: i64,
    cause: CauseNote,
    pub(crate) started_ms: u64,
    pub(crate) ended_ms: u64,
    pub(crate) result: JobResult,
    pub(crate) text: String,
    pub(crate) attempts: u32,
}

/// What lines come to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Notes {
    pub(crate) terms: Option<Terms>,
    mark: Option<MarkNote>,
    last: u64,
    /// Firings whose end is not there.
    pub(crate) open: BTreeMap<u64, Fired>,
    /// Those that have ended, the last one at the end.
    pub(crate) history: VecDeque<Ended>,
}

impl Line {
    /// As it is written.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        // Strings and numbers, which always have a JSON form.
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    pub(crate) fn fired(firing: Firing, mark: &Mark, life: &str, noted_ms: u64) -> Line {
        let Firing { number, at: Second(at), cause } = firing;
        let (life, mark) = (life.to_owned(), mark.into());
        Line::Fired(Fired { number, at, cause: cause.into(), life, noted_ms, attempts: 1, mark })
    }
}

impl Terms {
    pub(crate) fn of(job: &Job) -> Terms {
        Terms { schedule: job.schedule.as_str().to_owned(), timezone: job.timezone.clone() }
    }
}

impl Fired {
    pub(crate) fn firing(&self) -> Firing {
        Firing { number: self.number, at: Second(self.at), cause: self.cause.into() }
    }
}

impl Ended {
    pub(crate) fn new(
        firing: Firing,
        (started_ms, ended_ms): (u64, u64),
        (result, mut text): (JobResult, String),
        attempts: u32,
    ) -> Ended {
        let Firing { number, at: Second(at), cause } = firing;
        if text.len() > TEXT_SIZE_MAX {
            text.truncate(text.floor_char_boundary(TEXT_SIZE_MAX));
        }
        Ended { number, at, cause: cause.into(), started_ms, ended_ms, result, text, attempts }
    }

    pub(crate) fn firing(&self) -> Firing {
        Firing { number: self.number, at: Second(self.at), cause: self.cause.into() }
    }
}

impl Notes {
    /// Reads lines. So many of those that ended are kept.
    pub(crate) fn read(text: &[u8], history_max: usize) -> Notes {
        let mut notes = Notes::default();
        for line in text.split(|byte| *byte == b'\n') {
            if let Ok(line) = serde_json::from_slice(line) {
                notes.take(line, history_max);
            }
        }
        notes
    }

    fn take(&mut self, line: Line, history_max: usize) {
        match line {
            Line::Schedule(terms) => self.terms = Some(terms),
            Line::Mark(mark) => self.mark = Some(mark),
            Line::Fired(fired) => {
                self.mark = Some(fired.mark.clone());
                self.last = self.last.max(fired.number);
                self.open.insert(fired.number, fired);
            }
            Line::Attempt { number, attempts } => {
                if let Some(fired) = self.open.get_mut(&number) {
                    fired.attempts = attempts;
                }
            }
            Line::Ended(ended) => {
                self.open.remove(&ended.number);
                self.last = self.last.max(ended.number);
                self.history.push_back(ended);
                while self.history.len() > history_max {
                    self.history.pop_front();
                }
            }
        }
    }

    /// The fewest lines that come to the same.
    pub(crate) fn lines(self) -> Vec<Line> {
        let Notes { terms, mark, last, open, history } = self;
        let mut lines: Vec<Line> = terms.map(Line::Schedule).into_iter().collect();
        // The last number is that of a firing that is there: the last of the history, or one that is open.
        debug_assert!(last == 0 || !open.is_empty() || !history.is_empty());
        lines.extend(history.into_iter().map(Line::Ended));
        lines.extend(open.into_values().map(Line::Fired));
        lines.extend(mark.map(Line::Mark));
        lines
    }

    /// What the job's keeper goes on from, if these notes are about the schedule that it has.
    pub(crate) fn saved(&self, job: &Job) -> Option<Saved> {
        let mark = self.mark.as_ref().filter(|_| self.terms == Some(Terms::of(job)))?;
        Some(Saved { mark: mark.into(), ..self.numbers() })
    }

    /// The same without what is to be made up for.
    pub(crate) fn numbers(&self) -> Saved {
        let running = self.open.values().map(Fired::firing).collect();
        let mark = self.mark.as_ref().map(Mark::from).unwrap_or_default();
        let mark = Mark { seen: mark.seen, paused: mark.paused, ..Mark::default() };
        Saved { mark, last: self.last, running }
    }
}

impl From<&Mark> for MarkNote {
    fn from(mark: &Mark) -> MarkNote {
        let Mark { seen, paused, queue, next } = mark;
        MarkNote {
            seen: seen.0,
            paused: *paused,
            queue: queue.iter().map(|at| at.0).collect(),
            next: next.map(|Pending { at, cause }| (at.0, cause.into())),
        }
    }
}

impl From<&MarkNote> for Mark {
    fn from(note: &MarkNote) -> Mark {
        let MarkNote { seen, paused, queue, next } = note;
        Mark {
            seen: Second(*seen),
            paused: *paused,
            queue: queue.iter().map(|at| Second(*at)).collect(),
            next: next.map(|(at, cause)| Pending { at: Second(at), cause: cause.into() }),
        }
    }
}

impl From<Cause> for CauseNote {
    fn from(cause: Cause) -> CauseNote {
        match cause {
            Cause::Schedule => CauseNote::Schedule,
            Cause::CatchUp => CauseNote::CatchUp,
            Cause::Request => CauseNote::Request,
        }
    }
}

impl From<CauseNote> for Cause {
    fn from(note: CauseNote) -> Cause {
        match note {
            CauseNote::Schedule => Cause::Schedule,
            CauseNote::CatchUp => Cause::CatchUp,
            CauseNote::Request => Cause::Request,
        }
    }
}

#[cfg(test)]
mod tests {
    use watt_core::testing;

    use super::*;

    fn firing(number: u64, at: i64) -> Firing {
        Firing { number, at: Second(at), cause: Cause::Schedule }
    }

    fn ended(number: u64) -> Line {
        let at = 60 * i64::try_from(number).unwrap();
        Line::Ended(Ended::new(firing(number, at), (1, 2), (JobResult::Ok, "status 200".into()), 1))
    }

    fn mark(seen: i64) -> Mark {
        Mark {
            seen: Second(seen),
            paused: true,
            queue: [Second(7), Second(8)].into(),
            next: Some(Pending { at: Second(9), cause: Cause::CatchUp }),
        }
    }

    fn text(lines: &[Line]) -> Vec<u8> {
        lines.iter().flat_map(Line::bytes).collect()
    }

    #[test]
    fn what_was_noted_is_read() {
        let job = testing::job("api");
        let lines = [
            Line::Schedule(Terms::of(&job)),
            Line::Mark(MarkNote::from(&mark(30))),
            Line::fired(firing(1, 60), &mark(60), "life", 5),
            ended(1),
            Line::fired(firing(2, 120), &mark(120), "life", 6),
            Line::Attempt { number: 2, attempts: 3 },
        ];
        let notes = Notes::read(&text(&lines), 10);
        let expected = Saved { mark: mark(120), last: 2, running: vec![firing(2, 120)] };
        assert_eq!(notes.saved(&job), Some(expected));
        assert_eq!(notes.open[&2].attempts, 3);
        assert_eq!(notes.history.len(), 1);
        assert_eq!(Notes::read(&text(&notes.clone().lines()), 10), notes);
        // Another schedule begins anew, and its firings are counted on.
        let mut other = job;
        other.timezone = "Europe/Berlin".into();
        assert_eq!(notes.saved(&other), None);
        assert_eq!(notes.numbers().last, 2);
    }

    #[test]
    fn a_line_that_was_cut_off_or_broken_is_as_if_it_had_not_been() {
        let lines = [Line::fired(firing(1, 60), &mark(60), "life", 5), ended(1)];
        let whole = text(&lines);
        let first = lines[0].bytes().len();
        for cut in first..whole.len() - 1 {
            let notes = Notes::read(&whole[..cut], 10);
            assert_eq!((notes.open.len(), notes.history.len()), (1, 0), "{cut}");
        }
        let mut broken = b"\xff\xfe{\n[]\n{\"mark\":7}\n".to_vec();
        broken.extend(whole);
        assert_eq!(Notes::read(&broken, 10).history.len(), 1);
    }

    #[test]
    fn the_history_is_bounded() {
        let lines: Vec<Line> = (1..=30).map(ended).collect();
        let notes = Notes::read(&text(&lines), 20);
        let numbers: Vec<u64> = notes.history.iter().map(|ended| ended.number).collect();
        assert_eq!(numbers, (11..=30).collect::<Vec<_>>());
        assert_eq!(notes.numbers().last, 30);
    }
}
