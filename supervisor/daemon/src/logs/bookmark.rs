//! Where the reading of each pipe stands, for a successor daemon.
//!
//! Lines go to the file first and leave the pipe after that. A daemon killed between the two leaves lines that are in
//! both places, and its successor would write them again. So before a batch is written, its size is noted in a small
//! file in the runtime folder, and the note is taken back when the bytes have left the pipe. A successor that finds a
//! note compares the file's last lines with the pipe's first ones, and takes out what is in the file already.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::Path,
};

use watt_api::control::Stream;
use watt_core::RunId;

/// One slot: four little-endian `u64`s. A slot of zeros is free.
const SLOT_SIZE: usize = 32;
/// A file with more is not one of ours: 100,000 pipes are more than a process can hold.
const SLOTS_MAX: usize = 100_000;

/// A batch that may be in the file and in the pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Batch {
    /// The `seq` of its first line; later lines of the stream belong to it as well.
    pub(super) first_seq: u64,
    /// How many bytes of the pipe it is.
    pub(super) size: u64,
}

/// One pipe's place in the file.
#[derive(Debug)]
pub(super) struct Slot {
    index: usize,
    run: RunId,
    stream: Stream,
}

/// The file. Where it cannot be written, a killed daemon's last batch may be written twice.
#[derive(Debug)]
pub(super) struct Bookmarks {
    file: Option<File>,
    /// What an earlier daemon has left, by pipe.
    found: HashMap<(u64, u64), (usize, Batch)>,
    free: Vec<usize>,
    count: usize,
}

impl Bookmarks {
    /// Opens the file and reads what an earlier daemon has left.
    pub(super) fn open(path: &Path) -> Bookmarks {
        let mut bookmarks = Bookmarks { file: None, found: HashMap::new(), free: Vec::new(), count: 0 };
        match open(path) {
            Ok((file, content)) => {
                bookmarks.file = Some(file);
                bookmarks.load(&content);
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot note how far output was read");
            }
        }
        bookmarks
    }

    fn load(&mut self, content: &[u8]) {
        let (slots, _) = content.as_chunks::<SLOT_SIZE>();
        self.count = slots.len();
        for (index, slot) in slots.iter().enumerate() {
            let (numbers, _) = slot.as_chunks::<8>();
            match numbers.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect::<Vec<_>>()[..] {
                [run, stream @ 1..=2, first_seq, size] => {
                    self.found.insert((run, stream), (index, Batch { first_seq, size }));
                }
                _ => self.free.push(index),
            }
        }
    }

    /// A pipe's slot, and the batch that an earlier daemon may have left half done.
    pub(super) fn take(&mut self, run: RunId, stream: Stream) -> (Slot, Option<Batch>) {
        let (index, batch) = match self.found.remove(&(run.0, number(stream))) {
            Some((index, batch)) => (index, Some(batch).filter(|batch| batch.size > 0)),
            None => (self.free_index(), None),
        };
        (Slot { index, run, stream }, batch)
    }

    fn free_index(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.count += 1;
            self.count - 1
        })
    }

    /// A batch is about to be written to its file.
    pub(super) fn begin(&self, slot: &Slot, batch: Batch) {
        self.write(slot.index, [slot.run.0, number(slot.stream), batch.first_seq, batch.size]);
    }

    /// The batch has left the pipe.
    pub(super) fn done(&self, slot: &Slot) {
        self.write(slot.index, [slot.run.0, number(slot.stream), 0, 0]);
    }

    /// The pipe is read no longer.
    pub(super) fn give_back(&mut self, slot: &Slot) {
        self.write(slot.index, [0; 4]);
        self.free.push(slot.index);
    }

    fn write(&self, index: usize, numbers: [u64; 4]) {
        let Some(file) = &self.file else { return };
        let mut slot = [0; SLOT_SIZE];
        for (bytes, number) in slot.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
            *bytes = number.to_le_bytes();
        }
        // See the type: what fails here costs little, and the next note may succeed.
        let _ = file.write_all_at(&slot, (index * SLOT_SIZE) as u64);
    }
}

fn open(path: &Path) -> io::Result<(File, Vec<u8>)> {
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let mut content = Vec::new();
    file.by_ref().take((SLOTS_MAX * SLOT_SIZE) as u64).read_to_end(&mut content)?;
    Ok((file, content))
}

fn number(stream: Stream) -> u64 {
    match stream {
        Stream::Stdout => 1,
        Stream::Stderr => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_finds_what_was_half_done() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bookmarks");
        let batch = Batch { first_seq: 10, size: 100 };
        let mut first = Bookmarks::open(&path);
        let [open, done, gone] = [1, 2, 3].map(|run| first.take(RunId(run), Stream::Stdout).0);
        for slot in [&open, &done, &gone] {
            first.begin(slot, batch);
        }
        first.done(&done);
        first.give_back(&gone);

        let mut second = Bookmarks::open(&path);
        assert_eq!(
            second.take(RunId(4), Stream::Stdout).0.index,
            2,
            "a free slot is used before the file grows"
        );
        let mut check = |run, stream, expected| assert_eq!(second.take(RunId(run), stream).1, expected);
        check(1, Stream::Stderr, None);
        check(1, Stream::Stdout, Some(batch));
        check(2, Stream::Stdout, None);
        check(3, Stream::Stdout, None);
    }

    #[test]
    fn nonsense_and_a_missing_folder_are_no_bookmarks() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bookmarks");
        std::fs::write(&path, [0xff; 100]).unwrap();
        assert_eq!(Bookmarks::open(&path).take(RunId(1), Stream::Stdout).1, None);
        let mut nowhere = Bookmarks::open(&dir.path().join("no/such/folder"));
        let (slot, _) = nowhere.take(RunId(1), Stream::Stdout);
        nowhere.begin(&slot, Batch { first_seq: 1, size: 1 });
    }
}
