//! Those who follow output. They pull: nothing is queued for a reader, so one that stands still holds no memory, and
//! what the rings dropped before it came back is counted.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
};

use tokio::sync::oneshot;
use watt_core::RunId;

use super::{
    line::{self, Entry},
    ring::Record,
    store::Books,
};
use crate::timestamp;

/// How many lines a reader is given at a time: with the longest lines some 2 MB.
const BATCH_MAX: usize = 256;

/// All readers by number.
#[derive(Debug, Default)]
pub(super) struct Readers {
    list: HashMap<u64, Reader>,
    last: u64,
}

#[derive(Debug)]
struct Reader {
    books: BTreeSet<usize>,
    /// Only lines of this run, and whether it has ended.
    run: Option<(RunId, bool)>,
    /// It has everything up to this `seq`.
    seen: u64,
    /// How many lines of which book it will never see.
    skipped: BTreeMap<usize, u64>,
    waiting: Option<oneshot::Sender<Vec<Entry>>>,
}

impl Readers {
    pub(super) fn open(&mut self, books: BTreeSet<usize>, run: Option<RunId>, seen: u64) -> u64 {
        self.last += 1;
        let run = run.map(|run| (run, false));
        let reader = Reader { books, run, seen, skipped: BTreeMap::new(), waiting: None };
        self.list.insert(self.last, reader);
        self.last
    }

    pub(super) fn close(&mut self, reader: u64) {
        self.list.remove(&reader);
    }

    /// The reader waits. One that is not known has its channel closed: the end.
    pub(super) fn park(&mut self, reader: u64, reply: oneshot::Sender<Vec<Entry>>) {
        if let Some(reader) = self.list.get_mut(&reader) {
            reader.waiting = Some(reply);
        }
    }

    pub(super) fn ended(&mut self, ended: RunId) {
        for (run, has_ended) in self.list.values_mut().filter_map(|reader| reader.run.as_mut()) {
            *has_ended |= *run == ended;
        }
    }

    /// A line was dropped from memory.
    pub(super) fn evicted(&mut self, book: usize, record: &Record) {
        for reader in self.list.values_mut().filter(|reader| reader.wants(book, record)) {
            if record.entry.seq > reader.seen {
                *reader.skipped.entry(book).or_default() += 1;
            }
        }
    }

    /// Answers those who wait and for whom there is something.
    pub(super) fn serve(&mut self, books: &Books, newest: u64) {
        self.list.retain(|_, reader| {
            let Some(reply) = reader.waiting.take() else { return true };
            let batch = if newest > reader.seen { reader.batch(books, newest) } else { Vec::new() };
            let has_ended = reader.run.is_some_and(|(_, has_ended)| has_ended);
            match (batch.is_empty(), has_ended) {
                (true, false) => reader.waiting = Some(reply),
                // Dropping the reply is the end.
                (true, true) => return false,
                // The handle keeps the receiver until it has the batch; when it is gone, `close` follows.
                (false, _) => {
                    let _ = reply.send(batch);
                }
            }
            true
        });
    }
}

impl Reader {
    fn wants(&self, book: usize, record: &Record) -> bool {
        self.books.contains(&book) && self.run.is_none_or(|(run, _)| run == record.run)
    }

    /// The next lines in the order of time, after a word for each service that lines are missing of.
    fn batch(&mut self, books: &Books, newest: u64) -> Vec<Entry> {
        let mut batch: Vec<Entry> = Vec::new();
        let at = timestamp::now();
        for (book, count) in std::mem::take(&mut self.skipped) {
            let name = line::name(books.list[book].service.as_ref());
            batch.push(Entry::skipped(name, &at, self.seen, count));
        }
        let run = self.run;
        let mut sources: Vec<_> = self
            .books
            .iter()
            .map(|book| &books.list[*book].ring)
            .filter(|ring| ring.newest() > self.seen)
            .map(|ring| {
                ring.after(self.seen).filter(move |record| run.is_none_or(|(run, _)| run == record.run))
            })
            .map(Iterator::peekable)
            .collect();
        let seq = |record: &&Record| record.entry.seq;
        let heads = sources.iter_mut().enumerate();
        let mut heads: BinaryHeap<_> =
            heads.filter_map(|(source, lines)| Some(Reverse((lines.peek().map(seq)?, source)))).collect();
        while batch.len() < BATCH_MAX
            && let Some(Reverse((_, source))) = heads.pop()
        {
            let lines = &mut sources[source];
            batch.extend(lines.next().map(|record| record.entry.clone()));
            heads.extend(lines.peek().map(seq).map(|seq| Reverse((seq, source))));
        }
        self.seen = match batch.last() {
            Some(last) if !heads.is_empty() => last.seq,
            // Lines of other runs count as seen: they are not looked through again.
            Some(_) | None => newest,
        };
        batch
    }
}
