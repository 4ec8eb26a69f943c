//! Lines of the past out of the files, newest first, read backward in blocks so that the last lines of a large file
//! cost little. Runs on a thread that may wait for the disk.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{file::numbered, line::Entry};

/// How much is read at a time.
const BLOCK_SIZE: u64 = 64 << 10;
/// A longer line is not one of ours: 8 KiB of text have at most 48 KiB as JSON.
pub(super) const LINE_SIZE_MAX: usize = 128 << 10;
/// How much text is collected, in bytes: `tail` long lines would be more than a daemon should hold.
const COLLECTED_SIZE_MAX: usize = 32 << 20;

/// One service's part of a question.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// The current file.
    pub(super) path: PathBuf,
    /// How many files there are at most.
    pub(super) files_max: u32,
    /// Only lines before this `seq`: the later ones are known from memory.
    pub(super) before: u64,
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Only lines after this `seq`.
    pub(super) after: u64,
    /// At most so many, the newest.
    pub(super) count: usize,
    /// Only this run.
    pub(super) run: Option<u64>,
}

/// The newest `count` lines of all parts together, oldest first. A file that cannot be read has none.
pub(super) fn read(parts: &[Part], wanted: Wanted, from_memory: Vec<Entry>) -> Vec<Entry> {
    let mut newest = Newest { count: wanted.count, size: 0, heap: BinaryHeap::new() };
    for entry in from_memory {
        newest.offer(entry);
    }
    for part in parts {
        part.read(wanted, &mut newest);
    }
    newest.into_sorted()
}

/// The `seq` of the last line that was written to a service's files; 0 when there is none.
pub(super) fn newest_seq(path: &Path, files_max: u32) -> u64 {
    let files = (0..files_max).map(|number| File::open(numbered(path, number)).and_then(Backward::new));
    // The current one may be empty or missing after a rotation, and its end may be nonsense after a crash of the host.
    let lines = files.flatten().take(2).flat_map(|lines| lines.take(2));
    lines.filter_map(|line| Some(parse(&line)?.0.seq)).next().unwrap_or(0)
}

/// The newest of all lines seen so far.
struct Newest {
    count: usize,
    size: usize,
    heap: BinaryHeap<Reverse<BySeq>>,
}

impl Newest {
    /// Takes a line unless there are enough newer ones, and says whether it did.
    fn offer(&mut self, entry: Entry) -> bool {
        let full = self.heap.len() >= self.count || self.size >= COLLECTED_SIZE_MAX;
        if full && self.heap.peek().is_none_or(|Reverse(oldest)| entry.seq <= oldest.0.seq) {
            return false;
        }
        self.size += entry.json.len();
        self.heap.push(Reverse(BySeq(entry)));
        while self.heap.len() > self.count || (self.size > COLLECTED_SIZE_MAX && self.heap.len() > 1) {
            if let Some(Reverse(dropped)) = self.heap.pop() {
                self.size -= dropped.0.json.len();
            }
        }
        true
    }

    fn into_sorted(self) -> Vec<Entry> {
        // Sorted by `Reverse`, the newest comes first.
        self.heap.into_sorted_vec().into_iter().rev().map(|Reverse(entry)| entry.0).collect()
    }
}

/// An entry in the order of time.
#[derive(Debug)]
pub(super) struct BySeq(pub(super) Entry);

impl PartialEq for BySeq {
    fn eq(&self, other: &Self) -> bool {
        self.0.seq == other.0.seq
    }
}

impl Eq for BySeq {}

impl PartialOrd for BySeq {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for BySeq {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.seq.cmp(&other.0.seq)
    }
}

/// What a stored line is filtered by.
#[derive(Deserialize)]
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) run: u64,
}

impl Part {
    fn read(&self, wanted: Wanted, newest: &mut Newest) {
        // A rotation meanwhile moves a file that was read to the next number. Its lines are not before the last
        // one seen, and are left out the second time.
        let mut before = self.before;
        for number in 0..self.files_max {
            let lines = match File::open(numbered(&self.path, number)).and_then(Backward::new) {
                Ok(lines) => lines,
                // In the middle of a rotation one number is missing.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(_) => return,
            };
            // One without its end is still being written, or never will be.
            for line in lines.filter(|line| line.ends_with(b"\n")) {
                let Some((head, json)) = parse(&line) else { continue };
                if head.seq >= before {
                    continue;
                }
                before = head.seq;
                if head.seq <= wanted.after {
                    return;
                }
                let fits = wanted.run.is_none_or(|run| run == head.run);
                if fits && !newest.offer(Entry { seq: head.seq, json: json.into() }) {
                    return;
                }
            }
        }
    }
}

pub(super) fn parse(line: &[u8]) -> Option<(Head, &str)> {
    let json = std::str::from_utf8(line).ok()?;
    Some((serde_json::from_str(json).ok()?, json))
}

/// The lines of a file from its end.
struct Backward {
    file: File,
    /// What is before it has not been read.
    start: u64,
    /// What was read and not given out: it ends where a line ends.
    rest: Vec<u8>,
}

impl Backward {
    fn new(file: File) -> io::Result<Backward> {
        let start = file.metadata()?.len();
        Ok(Backward { file, start, rest: Vec::new() })
    }

    /// Reads the block before; `false` at the start of the file or when it cannot be read.
    fn fill(&mut self) -> bool {
        let len = self.start.min(BLOCK_SIZE);
        let Ok(size) = usize::try_from(len) else { return false };
        let mut block = vec![0; size];
        if size == 0 || self.file.read_exact_at(&mut block, self.start - len).is_err() {
            return false;
        }
        self.start -= len;
        block.append(&mut self.rest);
        self.rest = block;
        true
    }
}

impl Iterator for Backward {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let end = self.rest.strip_suffix(b"\n").unwrap_or(&self.rest);
            if let Some(at) = memchr::memrchr(b'\n', end) {
                return Some(self.rest.split_off(at + 1));
            }
            if self.rest.len() > LINE_SIZE_MAX {
                // Not a log of ours: nothing useful follows.
                return None;
            }
            if !self.fill() {
                let first = std::mem::take(&mut self.rest);
                return (!first.is_empty()).then_some(first);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn json(seq: u64) -> String {
        format!(
            r#"{{"at":"t","service":"a","worker":0,"run":{},"stream":"stdout","text":"é","seq":{seq}}}"#,
            seq % 2
        )
    }

    fn write(path: &Path, seqs: impl IntoIterator<Item = u64>) {
        fs::write(path, seqs.into_iter().map(|seq| json(seq) + "\n").collect::<String>()).unwrap();
    }

    const ALL: Wanted = Wanted { after: 0, count: 100_000, run: None };

    fn check(parts: &[Part], wanted: Wanted, expected: impl IntoIterator<Item = u64>) {
        let seqs: Vec<u64> = read(parts, wanted, Vec::new()).iter().map(|entry| entry.seq).collect();
        assert_eq!(seqs, expected.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn lines_of_all_files_and_services_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let part = |name: &str| Part { path: dir.path().join(name), files_max: 3, before: u64::MAX };
        let (a, b) = (part("a.jsonl"), part("b.jsonl"));
        write(&numbered(&a.path, 2), (0..2000).map(|n| n * 2 + 2));
        write(&numbered(&a.path, 1), (2000..4000).map(|n| n * 2 + 2));
        write(&a.path, []);
        write(&b.path, (0..4000).map(|n| n * 2 + 1));
        let parts = [a, b, part("c.jsonl")];
        check(&parts, ALL, 1..=8000);
        check(&parts, Wanted { after: 7990, ..ALL }, 7991..=8000);
        check(&parts, Wanted { count: 5, ..ALL }, 7996..=8000);
        check(&parts, Wanted { count: 3, run: Some(1), ..ALL }, [7995, 7997, 7999]);
        check(&parts, Wanted { run: Some(2), ..ALL }, []);
        check(&parts, Wanted { count: 0, ..ALL }, []);
        check(&[Part { before: 5, ..parts[1].clone() }], ALL, [1, 3]);
    }

    #[test]
    fn a_file_read_twice_by_a_rotation_counts_once() {
        let dir = tempfile::tempdir().unwrap();
        let part = Part { path: dir.path().join("a.jsonl"), files_max: 4, before: u64::MAX };
        write(&part.path, 20..30);
        write(&numbered(&part.path, 1), 20..30);
        write(&numbered(&part.path, 3), 10..20);
        check(&[part], ALL, 10..30);
    }

    /// A daemon that was killed may have written all of a line but its end. Its successor cuts that off, and would lose a
    /// line that was taken for written.
    #[test]
    fn a_line_without_its_end_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let part = Part { path: dir.path().join("a.jsonl"), files_max: 2, before: u64::MAX };
        fs::write(&part.path, format!("{}\n{}", json(3), json(4))).unwrap();
        check(&[part], ALL, [3]);
    }

    #[test]
    fn nonsense_in_a_file_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let part = Part { path: dir.path().join("a.jsonl"), files_max: 2, before: u64::MAX };
        fs::write(
            &part.path,
            [b"\xff\xfe\n{}\n", json(3).as_bytes(), b"\n\n[1]\n", json(4).as_bytes(), b"\n"].concat(),
        )
        .unwrap();
        check(std::slice::from_ref(&part), ALL, [3, 4]);
        fs::write(&part.path, vec![b'x'; 10 << 20]).unwrap();
        check(&[part], ALL, []);
    }
}
