//! The event stream: what happened, each event complete in itself, kept in a bounded ring and given to any number of
//! readers, who may come late, be slow, or come back after a pause.
//!
//! Readers pull. Nothing is queued for them, so a reader that stands still costs nothing, and one that comes back too
//! late is told how many events it has missed. Each kind of event is a struct of its own ([`happenings`]), which makes
//! the line of our own log as well.

pub(crate) mod apis;
pub mod happenings;
pub(crate) mod hooks;
pub mod jobs;
pub mod limits;
pub mod lost;
pub mod rolls;
pub mod scaling;
pub(crate) mod tasks;
pub mod troubles;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use watt_api::control::{Event, WorkerState};

use crate::timestamp;

/// How many events are kept. At some 300 bytes each that is 3 MB when full: the starts of 1,000 services are in it.
const KEPT_MAX: usize = 10_000;
/// The longest event kept, in bytes of JSON. Texts that come from a program's output or a peer are cut before.
const TEXT_SIZE_MAX: usize = 2_000;
/// How many events a reader is given at a time.
const BATCH_MAX: usize = 256;

/// How loud a happening is in our own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Info,
    /// Somebody should look at it.
    Warn,
}

/// Something that happens: one struct for each kind.
pub trait Happening {
    /// [`Event::kind`].
    const KIND: &'static str;
    /// How loud it is.
    fn level(&self) -> Level;
    /// Tells the rest. `kind`, `seq` and `at` are filled in already.
    fn describe(self, event: &mut Event);
}

/// The stream; a handle to share.
#[derive(Debug, Clone)]
pub struct Events(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ring: Mutex<Ring>,
    /// The newest event's number.
    newest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Ring {
    /// The number of the first one kept; numbers before it are gone.
    oldest: u64,
    /// The number of the first one ever; those before it were an earlier daemon's.
    first: u64,
    /// As JSON: the form that is sent, and smaller than the struct.
    kept: VecDeque<Arc<str>>,
    kept_max: usize,
}

impl Events {
    /// An empty stream. Its numbers begin at the milliseconds since the epoch: a reader that resumes at the number
    /// which an earlier daemon gave gets everything that this one says.
    pub fn new() -> Events {
        Events::with_limits(timestamp::now_us() / 1000, KEPT_MAX)
    }

    fn with_limits(first: u64, kept_max: usize) -> Events {
        let first = first.max(1);
        let ring = Ring { oldest: first, first, kept: VecDeque::new(), kept_max };
        Events(Arc::new(Shared { ring: Mutex::new(ring), newest: watch::Sender::new(first - 1) }))
    }

    /// Records a happening and writes its line of our own log.
    pub fn emit<H: Happening>(&self, happening: H) {
        let level = happening.level();
        let mut event = Event {
            seq: 0,
            at: timestamp::now(),
            kind: H::KIND.into(),
            service: None,
            worker: None,
            run: None,
            text: String::new(),
            state: None,
            exit: None,
            data: Default::default(),
        };
        happening.describe(&mut event);
        cut(&mut event.text);
        log(level, &event);
        let mut ring = self.0.ring();
        event.seq = ring.next();
        // An event is made of strings and numbers, which always have a JSON form.
        let Ok(json) = serde_json::to_string(&event) else { return };
        ring.push(json.into());
        drop(ring);
        self.0.newest.send_replace(event.seq);
    }

    /// A reader of everything that is kept after number `since`; of all that is kept when that is `None`.
    pub fn read(&self, since: Option<u64>) -> EventReader {
        let next = since.map_or_else(|| self.0.ring().oldest, |since| since.saturating_add(1));
        EventReader { next, newest: self.0.newest.subscribe(), shared: Arc::clone(&self.0) }
    }
}

impl Default for Events {
    fn default() -> Self {
        Events::new()
    }
}

impl Shared {
    /// A panic while the lock was held leaves the ring as usable as before: nothing in there can stop halfway.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn next(&self) -> u64 {
        self.oldest + self.kept.len() as u64
    }

    fn push(&mut self, event: Arc<str>) {
        if self.kept.len() == self.kept_max {
            self.kept.pop_front();
            self.oldest += 1;
        }
        self.kept.push_back(event);
    }
}

/// A place in the stream.
#[derive(Debug)]
pub struct EventReader {
    next: u64,
    newest: watch::Receiver<u64>,
    shared: Arc<Shared>,
}

impl EventReader {
    /// What is there now, at most a few hundred events as JSON; empty at the end of the stream. Events that are gone
    /// are replaced by one of kind `skipped`.
    pub fn batch(&mut self) -> Vec<Arc<str>> {
        let ring = self.shared.ring();
        let mut batch = Vec::new();
        if self.next < ring.oldest {
            let known = self.next >= ring.first;
            batch.extend(skipped(ring.oldest - 1, known.then(|| ring.oldest - self.next)));
            self.next = ring.oldest;
        }
        // A number from the future (a clock that was set back between two daemons) reads from what comes next.
        self.next = self.next.min(ring.next());
        let start = usize::try_from(self.next - ring.oldest).unwrap_or(usize::MAX);
        batch.extend(ring.kept.iter().skip(start).take(BATCH_MAX).cloned());
        self.next = (self.next + BATCH_MAX as u64).min(ring.next());
        batch
    }

    /// Waits until [`batch`](Self::batch) has something to give.
    pub async fn ready(&mut self) {
        let next = self.next;
        // It fails when the sender is gone, and `shared` keeps that.
        let _ = self.newest.wait_for(|newest| *newest >= next).await;
    }
}

/// Stands for events that are gone. How many is not known of an earlier daemon's.
fn skipped(seq: u64, count: Option<u64>) -> Option<Arc<str>> {
    let event = Event {
        seq,
        at: timestamp::now(),
        kind: "skipped".into(),
        service: None,
        worker: None,
        run: None,
        text: count.map_or_else(
            || "events of an earlier daemon may be missing".into(),
            |count| format!("{count} events are gone"),
        ),
        state: None,
        exit: None,
        data: count.map(|count| ("count".into(), count.into())).into_iter().collect(),
    };
    serde_json::to_string(&event).ok().map(Into::into)
}

fn cut(text: &mut String) {
    if text.len() > TEXT_SIZE_MAX {
        text.truncate(text.floor_char_boundary(TEXT_SIZE_MAX));
        text.push('…');
    }
}

fn log(level: Level, event: &Event) {
    let Event { kind, service, worker, run, text, .. } = event;
    let state = event.state.map(state_name);
    let cause = event.exit.as_ref().map(|exit| exit.cause.as_str());
    match level {
        Level::Info => tracing::info!(kind, service, worker, run, state, cause, "{text}"),
        Level::Warn => tracing::warn!(kind, service, worker, run, state, cause, "{text}"),
    }
}

/// As an event has it in JSON.
pub(crate) fn state_name(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Ready => "ready",
        WorkerState::Completed => "completed",
        WorkerState::Asleep => "asleep",
        WorkerState::Down => "down",
        WorkerState::Waiting => "waiting",
        WorkerState::Starting => "starting",
        WorkerState::Unready => "unready",
        WorkerState::Draining => "draining",
        WorkerState::Stopping => "stopping",
        WorkerState::Backoff => "backoff",
        WorkerState::Failed => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::{happenings::AppReady, *};

    fn numbers(batch: &[Arc<str>]) -> Vec<(u64, String)> {
        let parse = |json: &Arc<str>| serde_json::from_str::<Event>(json).unwrap();
        batch.iter().map(parse).map(|event| (event.seq, event.kind)).collect()
    }

    fn ready(seq: u64) -> (u64, String) {
        (seq, "app_ready".into())
    }

    #[test]
    fn a_reader_resumes_where_it_was() {
        let events = Events::with_limits(1, 10);
        (0..3).for_each(|_| events.emit(AppReady { services: 2 }));
        let check = |since, expected: &[(u64, String)]| {
            assert_eq!(numbers(&events.read(since).batch()), expected, "since {since:?}");
        };
        check(None, &[ready(1), ready(2), ready(3)]);
        check(Some(0), &[ready(1), ready(2), ready(3)]);
        check(Some(2), &[ready(3)]);
        check(Some(3), &[]);
        check(Some(u64::MAX), &[]);
    }

    #[test]
    fn the_ring_is_bounded_and_says_what_it_lost() {
        let events = Events::with_limits(1, 3);
        let mut slow = events.read(None);
        (0..5).for_each(|_| events.emit(AppReady { services: 2 }));
        assert_eq!(numbers(&slow.batch()), [(2, "skipped".into()), ready(3), ready(4), ready(5)]);
        assert_eq!(slow.batch(), []);
        assert_eq!(numbers(&events.read(None).batch()), [ready(3), ready(4), ready(5)]);
    }

    #[test]
    fn batches_are_bounded_and_complete() {
        let events = Events::new();
        let mut reader = events.read(None);
        (0..1000).for_each(|_| events.emit(AppReady { services: 2 }));
        let sizes: Vec<usize> =
            std::iter::from_fn(|| Some(reader.batch().len()).filter(|size| *size > 0)).collect();
        assert_eq!(sizes, [256, 256, 256, 232]);
    }

    #[tokio::test]
    async fn a_reader_waits_for_what_comes() {
        let events = Events::new();
        let mut reader = events.read(None);
        let reading = tokio::spawn(async move {
            reader.ready().await;
            reader.batch()
        });
        tokio::task::yield_now().await;
        events.emit(AppReady { services: 2 });
        assert_eq!(reading.await.unwrap().len(), 1);
    }

    #[test]
    fn a_long_text_is_cut() {
        let mut text = "é".repeat(TEXT_SIZE_MAX);
        cut(&mut text);
        assert_eq!(text.chars().count(), TEXT_SIZE_MAX / 2 + 1);
    }
}
