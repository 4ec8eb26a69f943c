//! The thread that drains the workers' pipes.
//!
//! A thread of its own, because it writes files and a disk may be slow, and because one worker that writes as fast as it
//! can must cost the daemon's loop nothing. Every pipe that has something gets a turn of at most one window, round and
//! round, so no worker waits for another's flood. What a worker writes faster than that waits in its pipe, where the
//! kernel makes it wait.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError},
    },
    time::{Duration, Instant},
};

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    eventfd::EventFd,
};
use watt_api::control::Stream as StreamName;
use watt_core::RunId;

use super::{
    Message, RunInfo, Source,
    bookmark::{Batch, Bookmarks, Slot},
    frame::{Tail, frame},
    line::Attribution,
    pipe::{Content, Pipe, Scratch},
    store::{Origin, Store},
};

/// A line that stands unfinished for this long is shown as a part: a prompt, a progress bar.
const TAIL_SHOWN_AFTER: Duration = Duration::from_secs(1);
/// How many turns pipes get between two looks at messages and readers.
const TURNS_MAX: usize = 32;
/// How many messages are taken between two rounds of turns.
const MESSAGES_MAX: usize = 64;
/// What a run that has ended may still have in its pipe: twice what a pipe is ever set to (1 MiB,
/// /proc/sys/fs/pipe-max-size). An orphan that goes on writing is not listened to.
const LAST_TURNS_MAX: usize = 32;
/// How often one looks whether watt's own log has grown too large.
const OWN_LOG_EVERY: Duration = Duration::from_secs(60);
/// The epoll number of the message queue; pipes count from 0.
const MESSAGES: u64 = u64::MAX;

/// The thread's state.
#[derive(Debug)]
pub(super) struct Pump {
    epoll: Epoll,
    wake: Arc<EventFd>,
    messages: Receiver<Message>,
    scratch: Scratch,
    bookmarks: Bookmarks,
    store: Store,
    /// In boxes, because a map keeps room for more than it has.
    streams: BTreeMap<u64, Box<Stream>>,
    last_number: u64,
    runs: HashMap<RunId, Box<Run>>,
    /// Streams that have, or may have, something; each at most once.
    ready: VecDeque<u64>,
    /// When to look at a stream again although nothing new has come; each at most once.
    timers: BTreeSet<(Instant, u64)>,
    /// When to look next whether watt's own log has grown too large.
    own_log_at: Instant,
}

/// One of a run's two pipes.
#[derive(Debug)]
struct Stream {
    pipe: Pipe,
    slot: Slot,
    origin: Origin,
    is_ready: bool,
    has_timer: bool,
    /// No writer is left, as epoll says.
    hung_up: bool,
    /// epoll did not take it, so it is looked at from time to time.
    unwatched: bool,
    /// Since when the first byte in the pipe waits for the end of its line.
    tail_since: Option<Instant>,
}

/// A run whose output is read.
#[derive(Debug)]
struct Run {
    info: RunInfo,
    streams: [u64; 2],
    /// Its lines have at least this `seq`; 0 when an earlier daemon read the first ones.
    since: u64,
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Lines were taken; there may be more.
    Took,
    /// Nothing to take now.
    Idle,
    /// The stream is over.
    Over,
}

impl Pump {
    pub(super) fn new(
        wake: Arc<EventFd>,
        messages: Receiver<Message>,
        bookmarks: Bookmarks,
        store: Store,
    ) -> io::Result<Pump> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, MESSAGES))?;
        Ok(Pump {
            epoll,
            wake,
            messages,
            scratch: Scratch::new()?,
            bookmarks,
            store,
            streams: BTreeMap::new(),
            last_number: 0,
            runs: HashMap::new(),
            ready: VecDeque::new(),
            timers: BTreeSet::new(),
            own_log_at: Instant::now(),
        })
    }

    /// Works until every handle is gone.
    pub(super) fn run(mut self) {
        loop {
            self.wait();
            if !self.take_messages() {
                return;
            }
            for _ in 0..TURNS_MAX {
                let Some(number) = self.ready.pop_front() else { break };
                self.look_at(number);
            }
            self.expire_timers();
            self.look_at_own_log();
            self.store.serve_readers();
        }
    }

    fn look_at_own_log(&mut self) {
        let now = Instant::now();
        if now >= self.own_log_at {
            self.own_log_at = now + OWN_LOG_EVERY;
            self.store.look_at_own_log(now);
        }
    }

    fn wait(&mut self) {
        let mut events = [EpollEvent::empty(); 128];
        // It fails by a signal, or in a kernel out of memory: as good a moment as any to look at what is known.
        let count = self.epoll.wait(&mut events, self.timeout()).unwrap_or_default();
        for event in &events[..count] {
            if event.data() == MESSAGES {
                // It counts; one read empties it. It cannot block, having been readable with no other reader.
                let _ = self.wake.read();
                continue;
            }
            if let Some(stream) = self.streams.get_mut(&event.data()) {
                stream.hung_up |= event.events().contains(EpollFlags::EPOLLHUP);
                self.mark_ready(event.data());
            }
        }
    }

    fn timeout(&self) -> EpollTimeout {
        if !self.ready.is_empty() {
            return EpollTimeout::ZERO;
        }
        let due = self.timers.first().map_or(self.own_log_at, |(due, _)| self.own_log_at.min(*due));
        // One more, because epoll counts whole milliseconds and would wake up just before.
        let wait = due.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX)
    }

    fn mark_ready(&mut self, number: u64) {
        if let Some(stream) = self.streams.get_mut(&number)
            && !stream.is_ready
        {
            stream.is_ready = true;
            self.ready.push_back(number);
        }
    }

    /// `false` when nobody can ask any more.
    fn take_messages(&mut self) -> bool {
        for _ in 0..MESSAGES_MAX {
            match self.messages.try_recv() {
                Ok(message) => self.handle(message),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        // There may be more, and their wake-up has been read.
        let _ = self.wake.write(1);
        true
    }

    fn handle(&mut self, message: Message) {
        // Answers to somebody who has gone go nowhere.
        match message {
            Message::Attach { info, stdout, stderr } => self.attach(info, stdout, stderr),
            Message::Ended { run, reply } => {
                self.end(run);
                let _ = reply.send(());
            }
            Message::LastLines { source, count, reply } => {
                // In whichever of its places it runs.
                let of = |source: &super::Source| (source.service().cloned(), source.worker(), source.task());
                let wanted = of(&source);
                self.catch_up(|run| of(&run.info.source) == wanted);
                let _ = reply.send(self.store.last_lines(&source, count));
            }
            Message::Rotate(rotation) => self.store.rotate(rotation),
            Message::Ask { mut question, reply } => {
                if let Some(wanted) = question.run {
                    self.catch_up(|run| run.info.run == wanted);
                    // A number may be an earlier life's as well: of a run that is not read, nothing is known to be its.
                    let since = self.runs.get(&wanted).map_or(u64::MAX, |run| run.since);
                    question.after = question.after.max(since.saturating_sub(1));
                }
                let goes_on = question.run.is_none_or(|run| self.runs.contains_key(&run));
                let reader = (question.follow && goes_on).then(|| self.store.follow(&question));
                let until = self.store.now();
                let (found, parts) = self.store.ask(&question);
                let _ = reply.send(super::Answer { found, parts, after: question.after, until, reader });
            }
            Message::Watch { run, pattern, found } => {
                if self.runs.contains_key(&run) {
                    self.store.watch(run, pattern, found);
                }
            }
            Message::Pull { reader, reply } => self.store.pull(reader, reply),
            Message::Close { reader } => self.store.close(reader),
        }
    }

    fn attach(&mut self, info: RunInfo, stdout: OwnedFd, stderr: OwnedFd) {
        if let Some(earlier) = self.runs.remove(&info.run) {
            // A run that comes a second time brings the same pipes; one reader each is enough.
            earlier.streams.into_iter().for_each(|number| self.remove(number));
        }
        let book = self.store.book(&info.source);
        let since = info.adopted_since.unwrap_or_else(|| self.store.next_seq());
        let streams = [(StreamName::Stdout, stdout), (StreamName::Stderr, stderr)].map(|(name, reader)| {
            let attribution = Attribution::new(&info.source, info.run, name);
            let journal = self.store.journal_fields(&info.source, info.run, name);
            let is_access = info.source == Source::Proxy && name == StreamName::Stdout;
            let worker = info.source.worker();
            let origin = Origin { attribution, journal, run: info.run, worker, book, is_access };
            let mut pipe = Pipe::new(reader);
            let (slot, batch) = self.bookmarks.take(info.run, name);
            if let Some(batch) = batch.filter(|_| info.adopted_since.is_some()) {
                self.leave_out(&info, name, &mut pipe, batch);
            }
            self.bookmarks.done(&slot);
            self.add_stream(pipe, slot, origin)
        });
        self.runs.insert(info.run, Box::new(Run { info, streams, since }));
    }

    /// Takes lines out of a pipe that an earlier daemon has written to the file already.
    fn leave_out(&mut self, info: &RunInfo, stream: StreamName, pipe: &mut Pipe, batch: Batch) {
        let Ok(Content::Bytes(bytes)) = self.scratch.look(pipe) else { return };
        let Some(bytes) = usize::try_from(batch.size).ok().and_then(|size| bytes.get(..size)) else { return };
        let segments = frame(bytes, pipe.line_size_max(), Tail::Line);
        let written = self.store.written(&info.source, info.run, stream, batch.first_seq);
        let same = written.iter().zip(&segments).all(|(line, segment)| {
            String::from_utf8_lossy(&bytes[segment.text.clone()]).trim_ascii() == line.trim_ascii()
        });
        // Other lines: the batch has left the pipe, and the next one stands there.
        if same
            && written.len() <= segments.len()
            && let Some(last) = written.len().checked_sub(1)
            && let Err(error) = self.scratch.consume(pipe, segments[last].end)
        {
            tracing::warn!(run = info.run.0, %error, "somebody else reads a worker's pipe");
        }
    }

    fn add_stream(&mut self, pipe: Pipe, slot: Slot, origin: Origin) -> u64 {
        self.last_number += 1;
        let number = self.last_number;
        // Edge-triggered: a line that is not finished stays in the pipe and must not wake us all the time.
        let event = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, number);
        let unwatched = self.epoll.add(&pipe, event).is_err();
        let stream = Stream {
            pipe,
            slot,
            origin,
            is_ready: false,
            has_timer: false,
            hung_up: false,
            unwatched,
            tail_since: None,
        };
        self.streams.insert(number, Box::new(stream));
        self.mark_ready(number);
        number
    }

    /// A stream's turn.
    fn look_at(&mut self, number: u64) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.is_ready = false;
        // Nobody looks on while a line of the access log comes.
        let stands_too_long = !stream.origin.is_access
            && stream.tail_since.is_some_and(|since| since.elapsed() >= TAIL_SHOWN_AFTER);
        let turn = match self.turn(number, if stands_too_long { Tail::Part } else { Tail::Wait }) {
            // What is left has no end and will never have one.
            Turn::Idle if self.streams.get(&number).is_some_and(|stream| stream.hung_up) => {
                self.turn(number, Tail::Line)
            }
            turn => turn,
        };
        match turn {
            Turn::Took => self.mark_ready(number),
            Turn::Idle => self.set_timer(number),
            Turn::Over => self.remove(number),
        }
    }

    /// Takes the lines of one window: into the store first, out of the pipe then.
    fn turn(&mut self, number: u64, tail: Tail) -> Turn {
        let Some(stream) = self.streams.get_mut(&number) else { return Turn::Over };
        let bytes = match self.scratch.look(&stream.pipe) {
            Ok(Content::Bytes(bytes)) => bytes,
            Ok(Content::Nothing) => {
                stream.tail_since = None;
                return Turn::Idle;
            }
            Ok(Content::End) => return Turn::Over,
            // No memory for the copy, or not a pipe at all.
            Err(error) => {
                tracing::warn!(run = stream.origin.run.0, %error, "cannot look into a worker's pipe");
                return if error.kind() == io::ErrorKind::OutOfMemory { Turn::Idle } else { Turn::Over };
            }
        };
        let now = Instant::now();
        let segments = frame(bytes, stream.pipe.line_size_max(), tail);
        let Some(taken) = segments.last().map(|segment| segment.end) else {
            stream.tail_since.get_or_insert(now);
            return Turn::Idle;
        };
        stream.tail_since = (taken < bytes.len()).then_some(now);
        let batch = Batch { first_seq: self.store.next_seq(), size: taken as u64 };
        self.bookmarks.begin(&stream.slot, batch);
        self.store.take(&mut stream.origin, bytes, &segments, now);
        let consumed = self.scratch.consume(&mut stream.pipe, taken);
        self.bookmarks.done(&stream.slot);
        match consumed {
            Ok(()) => Turn::Took,
            Err(error) => {
                tracing::warn!(run = stream.origin.run.0, %error, "somebody else reads a worker's pipe");
                Turn::Over
            }
        }
    }

    fn set_timer(&mut self, number: u64) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let wait_from = if stream.unwatched { Some(Instant::now()) } else { stream.tail_since };
        if let Some(from) = wait_from
            && !stream.has_timer
        {
            stream.has_timer = true;
            self.timers.insert((from + TAIL_SHOWN_AFTER, number));
        }
    }

    fn expire_timers(&mut self) {
        let now = Instant::now();
        while let Some((due, number)) = self.timers.first().copied()
            && due <= now
        {
            self.timers.pop_first();
            if let Some(stream) = self.streams.get_mut(&number) {
                stream.has_timer = false;
                self.mark_ready(number);
            }
        }
    }

    fn remove(&mut self, number: u64) {
        if let Some(stream) = self.streams.remove(&number) {
            // The spawner has the same open file, so closing our descriptor alone would leave it watched (epoll(7)).
            let _ = self.epoll.delete(&stream.pipe);
            self.bookmarks.give_back(&stream.slot);
        }
    }

    /// Takes what stands in the pipes of some runs now, so that an answer about them is complete.
    fn catch_up(&mut self, of: impl Fn(&Run) -> bool) {
        let numbers: Vec<u64> =
            self.runs.values().filter(|run| of(run)).flat_map(|run| run.streams).collect();
        for number in numbers {
            self.drain(number);
            self.mark_ready(number);
        }
    }

    fn drain(&mut self, number: u64) {
        let mut turns = 0;
        while turns < LAST_TURNS_MAX && self.turn(number, Tail::Wait) == Turn::Took {
            turns += 1;
        }
    }

    /// The run is over: its last lines are taken, with or without an end, and its pipes are left to whoever may
    /// still hold them.
    fn end(&mut self, run: RunId) {
        let Some(ended) = self.runs.remove(&run) else { return };
        for number in ended.streams {
            self.drain(number);
            self.turn(number, Tail::Line);
            self.remove(number);
        }
        self.store.serve_readers();
        self.store.ended(run);
    }
}
