//! The newest lines of one service in memory. A ring that was never written to takes none.

use std::collections::VecDeque;

use watt_core::RunId;

use super::line::Entry;

/// What a line takes beside its text, in bytes: the record, the reference counts, the allocator.
const RECORD_OVERHEAD: usize = 80;

/// A line with what it is filtered by.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) entry: Entry,
    pub(super) run: RunId,
    pub(super) worker: u16,
}

/// Lines in the order they came.
#[derive(Debug)]
pub(super) struct Ring {
    records: VecDeque<Record>,
    size: usize,
    /// Lines with at least this `seq` are all here. Earlier ones may be in the files.
    complete_from: u64,
}

impl Ring {
    /// An empty ring of a service whose lines before `seq` nobody here has seen.
    pub(super) fn new(seq: u64) -> Ring {
        Ring { records: VecDeque::new(), size: 0, complete_from: seq }
    }

    /// Memory in use, in bytes.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn complete_from(&self) -> u64 {
        self.complete_from
    }

    pub(super) fn push(&mut self, record: Record) {
        self.size += size(&record);
        self.records.push_back(record);
    }

    /// Drops the oldest line.
    pub(super) fn evict(&mut self) -> Option<Record> {
        let record = self.records.pop_front()?;
        self.size -= size(&record);
        self.complete_from = record.entry.seq + 1;
        if self.records.is_empty() {
            self.records.shrink_to_fit();
        }
        Some(record)
    }

    /// The newest line's `seq`; 0 when there is none.
    pub(super) fn newest(&self) -> u64 {
        self.records.back().map_or(0, |record| record.entry.seq)
    }

    /// The lines after `seq`, oldest first.
    pub(super) fn after(&self, seq: u64) -> impl DoubleEndedIterator<Item = &Record> {
        let start = self.records.partition_point(|record| record.entry.seq <= seq);
        self.records.range(start..)
    }
}

fn size(record: &Record) -> usize {
    record.entry.json.len() + RECORD_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: u64) -> Record {
        Record { entry: Entry { seq, json: "{}".into() }, run: RunId(1), worker: 0 }
    }

    #[test]
    fn what_is_dropped_is_known_to_be_missing() {
        let mut ring = Ring::new(10);
        [10, 12, 15].into_iter().for_each(|seq| ring.push(record(seq)));
        let after = |ring: &Ring, seq| ring.after(seq).map(|record| record.entry.seq).collect::<Vec<_>>();
        assert_eq!(
            (after(&ring, 0), after(&ring, 11), after(&ring, 15)),
            (vec![10, 12, 15], vec![12, 15], vec![])
        );
        assert_eq!(ring.complete_from(), 10);
        assert_eq!(ring.evict().map(|record| record.entry.seq), Some(10));
        assert_eq!((ring.complete_from(), ring.newest()), (11, 15));
        ring.evict();
        ring.evict();
        assert_eq!((ring.evict().is_none(), ring.size(), ring.complete_from()), (true, 0, 16));
    }
}
