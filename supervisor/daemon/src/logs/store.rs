//! Where framed lines go: the ring of their service, its file, the readers that wait, and the patterns that are watched
//! for. Holds no pipe; everything here is bounded.

use std::{collections::HashMap, path::PathBuf, time::Instant};

use regex::Regex;
use tokio::sync::oneshot;
use watt_api::control::Stream;
use watt_core::{RunId, ServiceId};

use super::{
    Question, Rotation, Settings, Source,
    file::{self, Appended, LogFile, Sharing},
    frame::Segment,
    history::{self, Part, Wanted},
    line::{Attribution, Entry},
    pipe::WINDOW_SIZE,
    readers::Readers,
    ring::{Record, Ring},
};
use crate::{
    events::{
        Events,
        happenings::{JournalLost, LogFileFailed, LogFileRecovered},
    },
    journal,
    tasks::TaskId,
    timestamp,
};

/// How many log files are open at a time. The others are opened again when a line comes.
const OPEN_FILES_MAX: usize = 64;
/// How far a clock may have been ahead, in microseconds: a year. A file that says more than that is not one of ours.
const AHEAD_MAX_US: u64 = 366 * 86_400 * 1_000_000;
/// How many bytes are written to a file at a time, or a line more.
const BATCH_SIZE: usize = 64 << 10;

/// Whose lines they are.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) attribution: Attribution,
    /// The same for the journal, if there is one.
    pub(super) journal: Option<journal::Fields>,
    pub(super) run: RunId,
    pub(super) worker: u16,
    pub(super) book: usize,
    /// They are the access log's: kept in its file as they are, and nowhere else.
    pub(super) is_access: bool,
}

/// Everything that is kept.
#[derive(Debug)]
pub(super) struct Store {
    settings: Settings,
    events: Events,
    books: Books,
    access: LogFile,
    readers: Readers,
    watches: HashMap<RunId, Vec<Watch>>,
    newest_seq: u64,
    /// Lines on their way to a file; kept for its allocation.
    batch: Vec<u8>,
    journal: Option<journal::Lines>,
}

/// Somebody who waits for a line.
#[derive(Debug)]
struct Watch {
    pattern: Regex,
    found: oneshot::Sender<()>,
}

impl Store {
    pub(super) fn new(settings: Settings, events: Events) -> Store {
        let open = |target| {
            let failed = |error| tracing::warn!("services' lines do not go to the journal: {error}");
            journal::Lines::open(target).map_err(failed).ok()
        };
        Store {
            journal: settings.journal.as_ref().and_then(open),
            access: LogFile::new(settings.dir.join("access.log"), Sharing::Own),
            settings,
            events,
            books: Books::default(),
            readers: Readers::default(),
            watches: HashMap::new(),
            newest_seq: 0,
            batch: Vec::new(),
        }
    }

    /// What entries of the journal have in common for one stream.
    pub(super) fn journal_fields(
        &self,
        source: &Source,
        run: RunId,
        stream: Stream,
    ) -> Option<journal::Fields> {
        Some(self.journal.as_ref()?.fields(source, run, stream))
    }

    /// Rotates files in this way from now on.
    pub(super) fn rotate(&mut self, rotation: Rotation) {
        self.settings.rotation = rotation;
    }

    /// The number of the service's book, made when it is new.
    pub(super) fn book(&mut self, source: &Source) -> usize {
        self.open_book(source.service())
    }

    fn open_book(&mut self, service: Option<&ServiceId>) -> usize {
        if let (Some(_), None) = (service, self.books.find(service)) {
            let written = history::newest_seq(&self.settings.file(service), self.settings.rotation.files_max);
            if written < timestamp::now_us() + AHEAD_MAX_US {
                self.newest_seq = self.newest_seq.max(written);
            }
        }
        let seq = self.next_seq();
        self.books.open(service, seq, &self.settings)
    }

    /// The `seq` a line would get now: unique, growing, and the time as well, unless the clock was set back below what is
    /// written already.
    pub(super) fn next_seq(&self) -> u64 {
        timestamp::now_us().max(self.newest_seq + 1)
    }

    /// Takes lines. When it returns they are where they can be: a daemon that is killed now has lost none.
    pub(super) fn take(&mut self, origin: &mut Origin, bytes: &[u8], segments: &[Segment], now: Instant) {
        if origin.is_access {
            return self.take_access(bytes, segments, now);
        }
        let at = timestamp::now();
        let plain = self.books.list[origin.book].service.is_none();
        let mut lines = 0;
        for segment in segments {
            let text = &bytes[segment.text.clone()];
            let seq = self.next_seq();
            self.newest_seq = seq;
            let entry = origin.attribution.entry(&at, seq, text, segment.partial);
            self.batch.extend_from_slice(if plain { text } else { entry.json.as_bytes() });
            self.batch.push(b'\n');
            self.keep(origin, entry);
            self.tell_journal(origin, text, segment.partial, now);
            lines += 1;
            // Short lines grow a hundredfold by what is put around them.
            if self.batch.len() >= BATCH_SIZE {
                self.write(origin.book, std::mem::take(&mut lines), now);
            }
        }
        if lines > 0 {
            self.write(origin.book, lines, now);
        }
        // Whoever waits for a line finds it in its file.
        for segment in segments {
            self.look_for_patterns(origin.run, &bytes[segment.text.clone()]);
        }
    }

    fn take_access(&mut self, bytes: &[u8], segments: &[Segment], now: Instant) {
        for segment in segments {
            self.batch.extend_from_slice(&bytes[segment.text.clone()]);
            // What is longer than the pipe comes in parts, and is one line all the same.
            self.batch.extend((!segment.partial).then_some(b'\n'));
        }
        if segments.is_empty() {
            return;
        }
        let appended = self.access.append(&self.batch, segments.len() as u64, self.settings.rotation, now);
        self.batch.clear();
        self.appended(None, self.access.path().to_path_buf(), appended);
    }

    fn keep(&mut self, origin: &Origin, entry: Entry) {
        let record = Record { entry, run: origin.run, worker: origin.worker };
        let readers = &mut self.readers;
        self.books.keep(origin.book, record, &self.settings, |book, evicted| readers.evicted(book, evicted));
    }

    fn tell_journal(&mut self, origin: &mut Origin, text: &[u8], is_partial: bool, now: Instant) {
        let (Some(journal), Some(fields)) = (&mut self.journal, &mut origin.journal) else { return };
        let allowance = &mut self.books.list[origin.book].allowance;
        if let Some(lost) = journal.line(fields, allowance, text, is_partial, now) {
            self.events.emit(JournalLost { count: lost.count, error: lost.error.to_string() });
        }
    }

    fn write(&mut self, book: usize, lines: u64, now: Instant) {
        self.books.make_room_to_open(book);
        let book = &mut self.books.list[book];
        book.written_at = Some(now);
        let appended = book.file.append(&self.batch, lines, self.settings.rotation, now);
        self.batch.clear();
        let (service, path) = (book.service.clone(), book.file.path().to_path_buf());
        self.appended(service, path, appended);
    }

    /// Tells when a file begins to fail, and when it does so no more.
    fn appended(&self, service: Option<ServiceId>, path: PathBuf, appended: Appended) {
        match appended {
            Appended::Written | Appended::StillFailing => {}
            Appended::Recovered { missing } => self.events.emit(LogFileRecovered { service, path, missing }),
            Appended::Failed(error) => {
                self.events.emit(LogFileFailed { service, path, error: format!("cannot write: {error}") });
            }
        }
    }

    /// Waits for a line of this run.
    pub(super) fn watch(&mut self, run: RunId, pattern: Regex, found: oneshot::Sender<()>) {
        self.watches.entry(run).or_default().push(Watch { pattern, found });
    }

    fn look_for_patterns(&mut self, run: RunId, text: &[u8]) {
        let Some(watches) = self.watches.get_mut(&run) else { return };
        let text = String::from_utf8_lossy(text);
        // A watch whose receiver has gone is closed and goes as well.
        let met = watches.extract_if(.., |watch| watch.found.is_closed() || watch.pattern.is_match(&text));
        for watch in met {
            let _ = watch.found.send(());
        }
        if watches.is_empty() {
            self.watches.remove(&run);
        }
    }

    /// The run has no more lines: whoever waits for one waits in vain.
    pub(super) fn ended(&mut self, run: RunId) {
        self.watches.remove(&run);
        self.readers.ended(run);
    }

    /// The newest lines of one worker or task that are in memory, oldest first.
    pub(super) fn last_lines(&self, source: &Source, count: usize) -> Vec<Entry> {
        let Some(book) = self.books.find(source.service()) else { return Vec::new() };
        let task = |record: &Record| TaskId::of_run(record.run).map(|_| record.run);
        let is_of = |record: &&Record| record.worker == source.worker() && task(record) == source.task();
        let ring = &self.books.list[book].ring;
        let mut lines: Vec<Entry> =
            ring.after(0).rev().filter(is_of).take(count).map(|record| record.entry.clone()).collect();
        lines.reverse();
        lines
    }

    /// The moment up to which everything is known: what is taken from now on has a greater `seq`, whatever the clock
    /// does.
    pub(super) fn now(&mut self) -> u64 {
        self.newest_seq = self.next_seq() - 1;
        self.newest_seq
    }

    /// What memory has of an answer, and what has to be looked up in files for the rest of it.
    pub(super) fn ask(&self, question: &Question) -> (Vec<Entry>, Vec<Part>) {
        let count = question.tail.unwrap_or(usize::MAX);
        let mut found = Vec::new();
        for ring in question.services.iter().filter_map(|service| self.books.ring(service)) {
            let fits = |record: &&Record| question.run.is_none_or(|run| run == record.run);
            let newest = ring.after(question.after).rev().filter(fits).take(count);
            found.extend(newest.map(|record| record.entry.clone()));
        }
        found.sort_unstable_by_key(|entry| entry.seq);
        found.drain(..found.len().saturating_sub(count));
        // With as many lines as wanted, only files with lines newer than the oldest of them matter.
        let oldest = found.first().filter(|_| found.len() >= count).map_or(0, |entry| entry.seq);
        let from = oldest.max(question.after.saturating_add(1));
        let part = |service: &ServiceId| {
            let before = self.books.ring(service).map_or(u64::MAX, Ring::complete_from);
            let path = self.settings.file(Some(service));
            (before > from).then_some(Part { path, files_max: self.settings.rotation.files_max, before })
        };
        let parts = if count == 0 { Vec::new() } else { question.services.iter().filter_map(part).collect() };
        (found, parts)
    }

    /// What the file has of one stream from `first_seq` on, oldest first. Looked for at the end of the file alone, so
    /// it may be asked from the thread that must not wait long.
    pub(super) fn written(&self, source: &Source, run: RunId, stream: Stream, first_seq: u64) -> Vec<String> {
        let Some(service) = source.service() else { return Vec::new() };
        let path = self.settings.file(Some(service));
        let part = Part { path, files_max: self.settings.rotation.files_max, before: u64::MAX };
        // A line takes a byte of a batch at least.
        let wanted = Wanted { after: first_seq.saturating_sub(1), count: WINDOW_SIZE, run: Some(run.0) };
        let entries = history::read(&[part], wanted, Vec::new());
        let of_stream = |entry: &&Entry| entry.line().is_some_and(|line| line.stream == stream);
        entries.iter().filter(of_stream).filter_map(Entry::text).map(Into::into).collect()
    }

    /// A reader of the lines to come.
    pub(super) fn follow(&mut self, question: &Question) -> u64 {
        let books = question.services.iter().map(|service| self.open_book(Some(service))).collect();
        self.readers.open(books, question.run, self.newest_seq.max(question.after))
    }

    pub(super) fn pull(&mut self, reader: u64, reply: oneshot::Sender<Vec<Entry>>) {
        self.readers.park(reader, reply);
    }

    pub(super) fn close(&mut self, reader: u64) {
        self.readers.close(reader);
    }

    /// Rotates watt's own log, to which spawner and daemon append by themselves.
    pub(super) fn look_at_own_log(&self, now: Instant) {
        let path = self.settings.file(None);
        if let Err(error) = file::rotate_shared(&path, self.settings.rotation, now) {
            let error = format!("cannot rotate: {error}");
            self.events.emit(LogFileFailed { service: None, path, error });
        }
    }

    /// Gives every waiting reader what has come.
    pub(super) fn serve_readers(&mut self) {
        self.readers.serve(&self.books, self.newest_seq);
    }
}

/// The lines of one service.
#[derive(Debug)]
pub(super) struct Book {
    /// `None` for the mesh proxy.
    pub(super) service: Option<ServiceId>,
    pub(super) ring: Ring,
    file: LogFile,
    written_at: Option<Instant>,
    /// What it may still send to the journal.
    allowance: journal::Allowance,
}

/// The books of all services that ever had a run.
#[derive(Debug, Default)]
pub(super) struct Books {
    pub(super) list: Vec<Book>,
    by_service: HashMap<Option<ServiceId>, usize>,
    /// Memory of all rings, in bytes.
    size: usize,
}

impl Books {
    fn find(&self, service: Option<&ServiceId>) -> Option<usize> {
        self.by_service.get(&service.cloned()).copied()
    }

    fn ring(&self, service: &ServiceId) -> Option<&Ring> {
        self.find(Some(service)).map(|book| &self.list[book].ring)
    }

    fn open(&mut self, service: Option<&ServiceId>, seq: u64, settings: &Settings) -> usize {
        *self.by_service.entry(service.cloned()).or_insert_with(|| {
            let sharing = if service.is_some() { Sharing::Own } else { Sharing::Shared };
            let file = LogFile::new(settings.file(service), sharing);
            self.list.push(Book {
                service: service.cloned(),
                ring: Ring::new(seq),
                file,
                written_at: None,
                allowance: journal::Allowance::default(),
            });
            self.list.len() - 1
        })
    }

    fn keep(
        &mut self,
        book: usize,
        record: Record,
        settings: &Settings,
        mut evicted: impl FnMut(usize, &Record),
    ) {
        let before = self.list[book].ring.size();
        self.list[book].ring.push(record);
        self.size += self.list[book].ring.size() - before;
        self.shrink(book, settings.memory_per_service, &mut evicted);
        if self.size > settings.memory {
            // The largest one gives up its older half, so that it takes a while until it is looked for again.
            let sizes = self.list.iter().map(|book| book.ring.size()).enumerate();
            if let Some((largest, size)) = sizes.max_by_key(|(_, size)| *size) {
                self.shrink(largest, size / 2, &mut evicted);
            }
        }
    }

    fn shrink(&mut self, book: usize, size_max: usize, evicted: &mut impl FnMut(usize, &Record)) {
        let ring = &mut self.list[book].ring;
        let before = ring.size();
        while ring.size() > size_max
            && let Some(record) = ring.evict()
        {
            evicted(book, &record);
        }
        self.size -= before - ring.size();
    }

    /// Closes the file that has not been written for the longest time when too many are open.
    fn make_room_to_open(&mut self, book: usize) {
        if self.list[book].file.is_open() || self.list.len() <= OPEN_FILES_MAX {
            return;
        }
        let open = || self.list.iter().enumerate().filter(|(_, book)| book.file.is_open());
        if open().count() < OPEN_FILES_MAX {
            return;
        }
        if let Some((idle, _)) = open().min_by_key(|(_, book)| book.written_at) {
            self.list[idle].file.close();
        }
    }
}

impl Settings {
    /// The file of a service, or the one of watt's own processes.
    fn file(&self, service: Option<&ServiceId>) -> PathBuf {
        match service {
            Some(service) => self.dir.join(format!("{service}.jsonl")),
            None => self.dir.join("watt.log"),
        }
    }
}
