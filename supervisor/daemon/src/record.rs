//! What a daemon leaves to its successor: a note on each run (the spawner keeps it as the run's tag) and one on each
//! worker (kept as a value), in JSON, because the successor may be another version.
//!
//! `watt-core` has no serializable types, so that file, wire and model change separately; the exhaustive matches
//! here join them. Times that people read are milliseconds since the Unix epoch; those that something is decided by are
//! on a clock that nobody can set ([`Uptime`]), and called `_up_ms`: a note of a version that had them on another clock is
//! not read as one of this.

mod cause;

use std::{
    collections::BTreeMap,
    num::{NonZeroU32, NonZeroU64},
    path::PathBuf,
    time::Duration,
};

use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use watt_api::mesh::Endpoint;
use watt_core::{
    RunId, ServiceId, WorkerId,
    fleet::{Saved, SavedState},
    worker::{AfterStop, ExitCause, Left, Part, Wanted},
};

use self::cause::{CauseNote, ComplaintNote, StallNote};
use crate::{launch::Accepts, starts::Starts, tasks::TaskNote};

/// A moment in milliseconds on the clock that all processes of a host share, that only moves forward, and that
/// [`std::time::Instant`] is on as well: CLOCK_MONOTONIC of clock_gettime(2).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uptime(pub(crate) u64);

impl Uptime {
    /// This moment.
    pub(crate) fn now() -> Uptime {
        // The clock is there on every Linux, and is not negative.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
        Uptime(now.map(millis).unwrap_or(0))
    }
}

impl Uptime {
    /// In milliseconds.
    pub(crate) fn millis(self) -> u64 {
        self.0
    }
}

/// Whether something is as it is by itself, so that a note without it says the same: to a daemon of the program before as well, as long as
/// that has a default for it or knows it as an `Option`. The spawner keeps two notes for each worker.
fn is_usual<T: Default + PartialEq>(it: &T) -> bool {
    *it == T::default()
}

/// The note on a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunNote {
    /// Whose run it is.
    pub(crate) of: RunOf,
    /// When it was started.
    pub(crate) started_at_ms: u64,
}

/// Whose run it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunOf {
    /// The mesh proxy.
    Proxy {
        /// The number of its program.
        program: u64,
        /// Where that was found.
        path: String,
    },
    /// A task.
    Task(TaskNote),
    /// A command that checks a worker.
    Check {
        /// The worker's run.
        run: u64,
    },
    /// A worker.
    Worker {
        /// Its service.
        service: String,
        /// Its index.
        index: u16,
        /// Whether it is in the second place of that.
        #[serde(default, skip_serializing_if = "is_usual")]
        second: bool,
        /// How it accepts.
        accepts: AcceptsNote,
        /// Where it was found accepting.
        #[serde(skip_serializing_if = "Option::is_none")]
        endpoint: Option<Endpoint>,
        /// Out-of-memory kills its cgroup had counted when it was started.
        oom_kills_before: u64,
        /// Forks that its limit of processes had refused in that cgroup.
        #[serde(default, skip_serializing_if = "is_usual")]
        pids_refused_before: u64,
        /// What it has said that holds for as long as it lives.
        #[serde(default, skip_serializing_if = "is_usual")]
        said: Said,
        /// The process that was cloned for it and when that started, if another one has taken its place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        first: Option<(u32, u64)>,
        /// The number of its main process in a PID namespace of its own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        inside: Option<u32>,
        /// Whether its hook `post_start` was not begun yet.
        #[serde(default, skip_serializing_if = "is_usual")]
        owes_post_start: bool,
    },
}

/// What a run has said by sd_notify(3) that holds for as long as it lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// `READY=1`.
    pub ready: bool,
    /// `STOPPING=1`.
    pub stopping: bool,
    /// `RELOADING=1`, and not `READY=1` since.
    #[serde(default)]
    pub reloading: bool,
    /// `WATCHDOG_USEC=`: how often it will say that it lives, in place of what the plan says.
    pub watchdog_us: Option<NonZeroU64>,
}

/// [`Accepts`] on the wire, where the variants are documented.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AcceptsNote {
    Unix(PathBuf),
    Inherited(PathBuf),
    Port(u16),
    Found(u16),
    Nowhere,
}

impl From<&Accepts> for AcceptsNote {
    fn from(accepts: &Accepts) -> Self {
        match accepts {
            Accepts::Unix(path) => AcceptsNote::Unix(path.clone()),
            Accepts::Inherited(path) => AcceptsNote::Inherited(path.clone()),
            Accepts::Port(port) => AcceptsNote::Port(*port),
            Accepts::Found(port) => AcceptsNote::Found(*port),
            Accepts::Nowhere => AcceptsNote::Nowhere,
        }
    }
}

impl From<AcceptsNote> for Accepts {
    fn from(note: AcceptsNote) -> Self {
        match note {
            AcceptsNote::Unix(path) => Accepts::Unix(path),
            AcceptsNote::Inherited(path) => Accepts::Inherited(path),
            AcceptsNote::Port(port) => Accepts::Port(port),
            AcceptsNote::Found(port) => Accepts::Found(port),
            AcceptsNote::Nowhere => Accepts::Nowhere,
        }
    }
}

/// What is worth knowing of a worker besides what `watt-core` saves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Times {
    /// When it entered its state.
    pub(crate) since_ms: u64,
    /// When its last run ended.
    pub(crate) exited_at_ms: u64,
    /// How many forks the limit of processes refused to the last ended run that met it.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub(crate) pids_refused: u64,
    /// When it was started.
    #[serde(default)]
    pub(crate) starts: Starts,
}

impl Times {
    /// Those that one begins with which takes over from this one, as it does its record of exits.
    pub(crate) fn of_next(&self) -> Times {
        let starts = Starts { first: self.starts.first, last: None };
        Times { starts, exited_at_ms: self.exited_at_ms, ..Times::default() }
    }
}

/// The note on a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorkerNote {
    /// See [`Times`].
    pub(crate) times: Times,
    wanted_up: bool,
    state: StateNote,
    stop_pending: bool,
    restarts: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_exit: Option<CauseNote>,
    failures_at_up_ms: Vec<u64>,
    failures_in_row: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    recycled: Option<RecycledNote>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_run: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    healthy_run: Option<u64>,
    #[serde(default, skip_serializing_if = "is_usual")]
    part: PartNote,
}

/// When a worker was last replaced because it stalled, and the how manieth in a row it was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct RecycledNote {
    at_up_ms: u64,
    in_row: NonZeroU32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PartNote {
    #[default]
    Stays,
    Due,
    Replaces,
    Returns,
    Outdated,
    Leaves,
}

impl From<Part> for PartNote {
    fn from(part: Part) -> Self {
        match part {
            Part::Stays => PartNote::Stays,
            Part::Due => PartNote::Due,
            Part::Replaces => PartNote::Replaces,
            Part::Returns => PartNote::Returns,
            Part::Outdated => PartNote::Outdated,
            Part::Leaves => PartNote::Leaves,
        }
    }
}

impl From<PartNote> for Part {
    fn from(note: PartNote) -> Self {
        match note {
            PartNote::Stays => Part::Stays,
            PartNote::Due => Part::Due,
            PartNote::Replaces => Part::Replaces,
            PartNote::Returns => Part::Returns,
            PartNote::Outdated => Part::Outdated,
            PartNote::Leaves => Part::Leaves,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StateNote {
    Down,
    Asleep,
    Waiting,
    Starting { run: u64, ready_by_up_ms: Option<u64>, executed: bool },
    Ready { run: u64, since_up_ms: u64 },
    Unready { run: u64, since_up_ms: u64 },
    Draining { run: u64, signal_at_up_ms: u64, then: ThenNote },
    Stopping { run: u64, kill_at_up_ms: u64, then: ThenNote, main_ended: bool, cause: CauseNote },
    Backoff { retry_at_up_ms: u64, failures: NonZeroU32 },
    Failed { failures: NonZeroU32, retry_at_up_ms: Option<u64> },
    Completed { exit: CauseNote },
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ThenNote {
    Down,
    Sleep,
    Restart,
    Together,
    Recycle(StallNote),
    Replace(ComplaintNote),
    Policy,
}

impl WorkerNote {
    /// Notes what `watt-core` says of a worker now.
    pub(crate) fn new(saved: &Saved, times: Times, Uptime(now_ms): Uptime) -> WorkerNote {
        WorkerNote {
            times,
            wanted_up: match saved.wanted {
                Wanted::Up => true,
                Wanted::Down => false,
            },
            state: StateNote::new(&saved.state, now_ms),
            stop_pending: saved.stop_pending,
            restarts: saved.restarts,
            last_exit: saved.last_exit.as_ref().map(CauseNote::from),
            failures_at_up_ms: saved.recent_failures.iter().map(|ago| before(now_ms, *ago)).collect(),
            failures_in_row: saved.failures_in_row,
            recycled: saved
                .recycled
                .map(|(ago, in_row)| RecycledNote { at_up_ms: before(now_ms, ago), in_row }),
            last_run: saved.last_run.map(|run| run.0),
            healthy_run: saved.healthy_run.map(|run| run.0),
            part: saved.part.into(),
        }
    }

    /// What `watt-core` is to take over now.
    pub(crate) fn restore(self, Uptime(now_ms): Uptime) -> Saved {
        Saved {
            wanted: if self.wanted_up { Wanted::Up } else { Wanted::Down },
            state: self.state.restore(now_ms),
            stop_pending: self.stop_pending,
            restarts: self.restarts,
            last_exit: self.last_exit.map(ExitCause::from),
            recent_failures: self.failures_at_up_ms.into_iter().map(|at| since(now_ms, at)).collect(),
            failures_in_row: self.failures_in_row,
            recycled: self.recycled.map(|note| (since(now_ms, note.at_up_ms), note.in_row)),
            last_run: self.last_run.map(RunId),
            healthy_run: self.healthy_run.map(RunId),
            part: self.part.into(),
        }
    }
}

impl StateNote {
    fn new(state: &SavedState, now_ms: u64) -> StateNote {
        let at = |wait: Duration| after(now_ms, wait);
        match state {
            SavedState::Down => StateNote::Down,
            SavedState::Asleep => StateNote::Asleep,
            SavedState::Waiting => StateNote::Waiting,
            SavedState::Starting { run, ready_in, executed } => {
                StateNote::Starting { run: run.0, ready_by_up_ms: ready_in.map(at), executed: *executed }
            }
            SavedState::Ready { run, ready_for } => {
                StateNote::Ready { run: run.0, since_up_ms: before(now_ms, *ready_for) }
            }
            SavedState::Unready { run, unready_for } => {
                StateNote::Unready { run: run.0, since_up_ms: before(now_ms, *unready_for) }
            }
            SavedState::Draining { run, signal_in, then } => StateNote::Draining {
                run: run.0,
                signal_at_up_ms: at(*signal_in),
                then: ThenNote::from(*then),
            },
            SavedState::Stopping { run, kill_in, then, left, cause } => StateNote::Stopping {
                run: run.0,
                kill_at_up_ms: at(*kill_in),
                then: ThenNote::from(*then),
                main_ended: match left {
                    Left::All => false,
                    Left::Rest => true,
                },
                cause: CauseNote::from(cause),
            },
            SavedState::Backoff { retry_in, failures } => {
                StateNote::Backoff { retry_at_up_ms: at(*retry_in), failures: *failures }
            }
            SavedState::Failed { failures, retry_in } => {
                StateNote::Failed { failures: *failures, retry_at_up_ms: retry_in.map(at) }
            }
            SavedState::Completed { exit } => StateNote::Completed { exit: CauseNote::from(exit) },
        }
    }

    fn restore(self, now_ms: u64) -> SavedState {
        let until = |at_ms: u64| Duration::from_millis(at_ms.saturating_sub(now_ms));
        match self {
            StateNote::Down => SavedState::Down,
            StateNote::Asleep => SavedState::Asleep,
            StateNote::Waiting => SavedState::Waiting,
            StateNote::Starting { run, ready_by_up_ms, executed } => {
                SavedState::Starting { run: RunId(run), ready_in: ready_by_up_ms.map(until), executed }
            }
            StateNote::Ready { run, since_up_ms } => {
                SavedState::Ready { run: RunId(run), ready_for: since(now_ms, since_up_ms) }
            }
            StateNote::Unready { run, since_up_ms } => {
                SavedState::Unready { run: RunId(run), unready_for: since(now_ms, since_up_ms) }
            }
            StateNote::Draining { run, signal_at_up_ms, then } => {
                SavedState::Draining { run: RunId(run), signal_in: until(signal_at_up_ms), then: then.into() }
            }
            StateNote::Stopping { run, kill_at_up_ms, then, main_ended, cause } => SavedState::Stopping {
                run: RunId(run),
                kill_in: until(kill_at_up_ms),
                then: then.into(),
                left: if main_ended { Left::Rest } else { Left::All },
                cause: cause.into(),
            },
            StateNote::Backoff { retry_at_up_ms, failures } => {
                SavedState::Backoff { retry_in: until(retry_at_up_ms), failures }
            }
            StateNote::Failed { failures, retry_at_up_ms } => {
                SavedState::Failed { failures, retry_in: retry_at_up_ms.map(until) }
            }
            StateNote::Completed { exit } => SavedState::Completed { exit: exit.into() },
        }
    }
}

impl From<AfterStop> for ThenNote {
    fn from(then: AfterStop) -> Self {
        match then {
            AfterStop::Down => ThenNote::Down,
            AfterStop::Sleep => ThenNote::Sleep,
            AfterStop::Restart => ThenNote::Restart,
            AfterStop::Together => ThenNote::Together,
            AfterStop::Recycle(stall) => ThenNote::Recycle(stall.into()),
            AfterStop::Replace(complaint) => ThenNote::Replace(complaint.into()),
            AfterStop::Policy => ThenNote::Policy,
        }
    }
}

impl From<ThenNote> for AfterStop {
    fn from(note: ThenNote) -> Self {
        match note {
            ThenNote::Down => AfterStop::Down,
            ThenNote::Sleep => AfterStop::Sleep,
            ThenNote::Restart => AfterStop::Restart,
            ThenNote::Together => AfterStop::Together,
            ThenNote::Recycle(stall) => AfterStop::Recycle(stall.into()),
            ThenNote::Replace(complaint) => AfterStop::Replace(complaint.into()),
            ThenNote::Policy => AfterStop::Policy,
        }
    }
}

/// The key of a worker's note among the spawner's values.
pub(crate) fn key(worker: &WorkerId) -> String {
    format!("worker/{worker}")
}

/// The worker of a key; `None` when the key is for something else.
pub(crate) fn worker_of(key: &str) -> Option<WorkerId> {
    let (service, place) = key.strip_prefix("worker/")?.split_once('/')?;
    WorkerId::of_place(ServiceId::new(service).ok()?, place)
}

/// The workers among the values a predecessor left. What cannot be read is left out: its worker starts afresh, and
/// its run, if any, is nobody's.
pub(crate) fn workers(values: &[(String, Vec<u8>)]) -> BTreeMap<WorkerId, WorkerNote> {
    let note =
        |(key, value): &(String, Vec<u8>)| Some((worker_of(key)?, serde_json::from_slice(value).ok()?));
    values.iter().filter_map(note).collect()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn after(now_ms: u64, wait: Duration) -> u64 {
    now_ms.saturating_add(millis(wait))
}

fn before(now_ms: u64, ago: Duration) -> u64 {
    now_ms.saturating_sub(millis(ago))
}

fn since(now_ms: u64, at_ms: u64) -> Duration {
    Duration::from_millis(now_ms.saturating_sub(at_ms))
}

#[cfg(test)]
mod tests {
    use watt_core::{
        plan::Resource,
        worker::{Complaint, ExecFailure, Stall},
    };

    use super::*;

    #[test]
    fn a_workers_record_comes_back_older_by_the_time_that_passed() {
        let seconds = Duration::from_secs;
        let check = |state: SavedState, later: SavedState| {
            let saved = |state, ago| Saved {
                wanted: Wanted::Up,
                state,
                stop_pending: true,
                restarts: 7,
                last_exit: Some(ExitCause::Signaled { signal: 9, core_dumped: false }),
                recent_failures: vec![ago],
                failures_in_row: 2,
                recycled: Some((ago, NonZeroU32::MIN)),
                last_run: Some(RunId(9)),
                healthy_run: Some(RunId(6)),
                part: Part::Outdated,
            };
            let note = WorkerNote::new(&saved(state, seconds(1)), Times::default(), Uptime(1_000_000));
            let bytes = serde_json::to_vec(&note).unwrap();
            let note: WorkerNote = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(note.restore(Uptime(1_005_000)), saved(later, seconds(6)));
        };
        let (run, three) = (RunId(3), NonZeroU32::new(3).unwrap());
        let exec = ExitCause::ExecFailed(ExecFailure { step: "cwd".into(), object: "/x".into(), errno: 2 });
        check(SavedState::Down, SavedState::Down);
        check(SavedState::Asleep, SavedState::Asleep);
        check(SavedState::Waiting, SavedState::Waiting);
        check(
            SavedState::Starting { run, ready_in: Some(seconds(30)), executed: true },
            SavedState::Starting { run, ready_in: Some(seconds(25)), executed: true },
        );
        let queued = SavedState::Starting { run, ready_in: None, executed: false };
        check(queued.clone(), queued);
        check(
            SavedState::Ready { run, ready_for: seconds(10) },
            SavedState::Ready { run, ready_for: seconds(15) },
        );
        check(
            SavedState::Unready { run, unready_for: seconds(10) },
            SavedState::Unready { run, unready_for: seconds(15) },
        );
        let then = AfterStop::Replace(Complaint::Check { failures: 3 });
        check(
            SavedState::Draining { run, signal_in: seconds(7), then },
            SavedState::Draining { run, signal_in: seconds(2), then },
        );
        check(
            SavedState::Draining { run, signal_in: seconds(7), then: AfterStop::Together },
            SavedState::Draining { run, signal_in: seconds(2), then: AfterStop::Together },
        );
        let ended = SavedState::Completed { exit: ExitCause::Group };
        check(ended.clone(), ended);
        for complaint in [Complaint::Watchdog, Complaint::Itself, Complaint::Check { failures: 3 }] {
            let ended = SavedState::Completed { exit: ExitCause::Unhealthy(complaint) };
            check(ended.clone(), ended);
        }
        check(
            SavedState::Draining { run, signal_in: seconds(2), then: AfterStop::Restart },
            SavedState::Draining { run, signal_in: seconds(0), then: AfterStop::Restart },
        );
        let stopping = |kill_in, left| SavedState::Stopping {
            run,
            kill_in,
            then: AfterStop::Policy,
            left,
            cause: ExitCause::StartTimeout,
        };
        let stall = Stall { resource: Resource::Io, percent: 43 };
        let then = AfterStop::Recycle(stall);
        check(
            SavedState::Draining { run, signal_in: seconds(7), then },
            SavedState::Draining { run, signal_in: seconds(2), then },
        );
        let ended = SavedState::Completed { exit: ExitCause::Recycled(stall) };
        check(ended.clone(), ended);
        check(stopping(seconds(9), Left::Rest), stopping(seconds(4), Left::Rest));
        check(stopping(seconds(9), Left::All), stopping(seconds(4), Left::All));
        check(
            SavedState::Backoff { retry_in: seconds(6), failures: three },
            SavedState::Backoff { retry_in: seconds(1), failures: three },
        );
        check(
            SavedState::Failed { failures: three, retry_in: None },
            SavedState::Failed { failures: three, retry_in: None },
        );
        check(SavedState::Completed { exit: exec.clone() }, SavedState::Completed { exit: exec });
    }

    /// What the daemon of the program before this one has to read, after a way back, has all that it wants.
    #[test]
    fn what_is_as_usual_takes_no_room_in_notes_and_its_absence_says_the_same() {
        let saved = Saved {
            wanted: Wanted::Up,
            state: SavedState::Ready { run: RunId(3), ready_for: Duration::from_secs(1) },
            stop_pending: false,
            restarts: 0,
            last_exit: None,
            recent_failures: Vec::new(),
            failures_in_row: 0,
            recycled: None,
            last_run: None,
            healthy_run: None,
            part: Part::Stays,
        };
        let note = WorkerNote::new(&saved, Times::default(), Uptime(5_000));
        let text = serde_json::to_string(&note).unwrap();
        assert_eq!(
            text,
            r#"{"times":{"since_ms":0,"exited_at_ms":0,"starts":{}},"wanted_up":true,"#.to_owned()
                + r#""state":{"ready":{"run":3,"since_up_ms":4000}},"stop_pending":false,"restarts":0,"#
                + r#""failures_at_up_ms":[],"failures_in_row":0}"#
        );
        assert_eq!(serde_json::from_str::<WorkerNote>(&text).unwrap(), note);

        let run = RunNote {
            of: RunOf::Worker {
                service: "api".into(),
                index: 0,
                second: false,
                accepts: AcceptsNote::Nowhere,
                endpoint: None,
                oom_kills_before: 0,
                pids_refused_before: 0,
                said: Said::default(),
                first: None,
                owes_post_start: false,
                inside: None,
            },
            started_at_ms: 7,
        };
        let text = serde_json::to_string(&run).unwrap();
        let of = r#"{"worker":{"service":"api","index":0,"accepts":"nowhere","oom_kills_before":0}}"#;
        assert_eq!(text, format!(r#"{{"of":{of},"started_at_ms":7}}"#));
        assert_eq!(serde_json::from_str::<RunNote>(&text).unwrap(), run);
    }

    #[test]
    fn a_note_of_a_version_with_another_clock_is_left_out() {
        let note = |failures: &str| {
            let times = r#"{"since_ms":1,"exited_at_ms":1}"#;
            let backoff = r#"{"backoff":{"retry_at_ms":1764158400000,"retry_at_up_ms":5000,"failures":1}}"#;
            let note = format!(
                r#"{{"times":{times},"wanted_up":true,"state":{backoff},"stop_pending":false,"restarts":0,
                "last_exit":null,"{failures}":[],"failures_in_row":1}}"#
            );
            workers(&[("worker/api/0".to_owned(), note.into_bytes())]).len()
        };
        assert_eq!((note("failures_at_ms"), note("failures_at_up_ms")), (0, 1));
    }

    #[test]
    fn notes_that_make_no_sense_are_left_out() {
        let values = [("worker/api/0", "{"), ("worker/api", "{}"), ("worker/../0", "{}"), ("cgroups", "{}")];
        let values = values.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec()));
        assert_eq!(workers(&values), BTreeMap::new());
        let worker = WorkerId::new(ServiceId::new("api").unwrap(), 4);
        assert_eq!(worker_of(&key(&worker.beside())), Some(worker.beside()));
        assert_eq!(worker_of(&key(&worker)), Some(worker));
    }
}
