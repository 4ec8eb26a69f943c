//! Lines of the past out of files and memory, oldest first and all of them, in pieces, so that a long history takes no
//! more memory than a short one. Runs on a thread that may wait for the disk.
//!
//! One file of each service is open at a time. It is followed through rotations by what it is, not by its name.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    vec,
};

use super::{
    file::numbered,
    history::{BySeq, Head, LINE_SIZE_MAX, Part, parse},
    line::Entry,
};

/// How many lines a piece has at most.
const PIECE_LINES: usize = 512;
/// How much text a piece has at most, in bytes, or a line more.
const PIECE_SIZE: usize = 256 << 10;
/// A part of a file this small is read from its start in place of being halved once more, in bytes.
const HALVED_MIN: u64 = 64 << 10;

/// A walk through the past.
#[derive(Debug)]
pub(super) struct Replay {
    files: Vec<Walk>,
    memory: vec::IntoIter<Entry>,
    /// The next line of each source; the memory's number is one past the files'.
    heads: BinaryHeap<Reverse<(BySeq, usize)>>,
}

impl Replay {
    /// Everything after `after` that these files have, and what memory has beside them, in order.
    pub(super) fn open(parts: Vec<Part>, from_memory: Vec<Entry>, after: u64, run: Option<u64>) -> Replay {
        let files = parts.into_iter().map(|part| Walk::open(part, after, run)).collect();
        let mut replay = Replay { files, memory: from_memory.into_iter(), heads: BinaryHeap::new() };
        (0..=replay.files.len()).for_each(|source| replay.advance(source));
        replay
    }

    /// The next lines; none at the end.
    pub(super) fn piece(&mut self) -> Vec<Entry> {
        let (mut piece, mut size) = (Vec::new(), 0);
        while piece.len() < PIECE_LINES
            && size < PIECE_SIZE
            && let Some(Reverse((BySeq(entry), source))) = self.heads.pop()
        {
            size += entry.json.len();
            piece.push(entry);
            self.advance(source);
        }
        piece
    }

    fn advance(&mut self, source: usize) {
        let next = match self.files.get_mut(source) {
            Some(walk) => walk.next(),
            None => self.memory.next(),
        };
        self.heads.extend(next.map(|entry| Reverse((BySeq(entry), source))));
    }
}

/// A walk through the files of one service.
#[derive(Debug)]
struct Walk {
    part: Part,
    run: Option<u64>,
    /// Lines up to this one have been given out or are not wanted.
    seen: u64,
    lines: Option<Lines>,
}

impl Walk {
    fn open(part: Part, after: u64, run: Option<u64>) -> Walk {
        // A file that cannot be read has no lines.
        let lines = start(&part, after).and_then(|mut lines| lines.skip_to(after).ok().map(|()| lines));
        Walk { part, run, seen: after, lines }
    }

    fn next(&mut self) -> Option<Entry> {
        loop {
            let lines = self.lines.as_mut()?;
            let Ok(Some((entry, run))) = lines.next() else {
                self.lines = newer(&self.part, lines);
                continue;
            };
            if entry.seq >= self.part.before {
                self.lines = None;
                return None;
            }
            // A rotation meanwhile shows lines twice.
            if entry.seq > self.seen {
                self.seen = entry.seq;
                if self.run.is_none_or(|wanted| wanted == run) {
                    return Some(entry);
                }
            }
        }
    }
}

/// The newest file that starts before the first wanted line, else the oldest one. Looked for from the newest on: a rotation
/// meanwhile shows a file twice and hides none.
fn start(part: &Part, after: u64) -> Option<Lines> {
    let mut oldest = None;
    for mut lines in files(part) {
        let first = lines.first().ok().flatten();
        oldest = Some(lines);
        if first.is_some_and(|seq| seq <= after) {
            break;
        }
    }
    oldest
}

/// The file after this one: the last one that was met before it, coming from the newest.
fn newer(part: &Part, current: &Lines) -> Option<Lines> {
    let mut newer = None;
    for lines in files(part) {
        if lines.identity == current.identity {
            break;
        }
        newer = Some(lines);
    }
    newer
}

/// The files of a service, newest first. In the middle of a rotation one number is missing.
fn files(part: &Part) -> impl Iterator<Item = Lines> {
    (0..part.files_max)
        .filter_map(|number| File::open(numbered(&part.path, number)).and_then(Lines::new).ok())
}

/// The lines of a file from its start.
#[derive(Debug)]
struct Lines {
    reader: BufReader<File>,
    /// Device and inode; not used again for as long as the file is open.
    identity: (u64, u64),
    line: Vec<u8>,
}

impl Lines {
    fn new(file: File) -> io::Result<Lines> {
        let metadata = file.metadata()?;
        let identity = (metadata.dev(), metadata.ino());
        Ok(Lines { reader: BufReader::new(file), identity, line: Vec::new() })
    }

    /// The next line that is one of ours, and its run. One without its end is still being written.
    fn next(&mut self) -> io::Result<Option<(Entry, u64)>> {
        while self.read_line()? {
            if let Some((Head { seq, run }, json)) = parse(self.line.trim_ascii_end()) {
                return Ok(Some((Entry { seq, json: json.into() }, run)));
            }
        }
        Ok(None)
    }

    /// Reads a line; `false` at the end, or where a line is none of ours because of its size.
    fn read_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        (&mut self.reader).take(LINE_SIZE_MAX as u64).read_until(b'\n', &mut self.line)?;
        Ok(self.line.ends_with(b"\n"))
    }

    /// The first line's `seq`; the file is as new afterwards.
    fn first(&mut self) -> io::Result<Option<u64>> {
        let seq = self.next()?.map(|(entry, _)| entry.seq);
        self.reader.seek(SeekFrom::Start(0))?;
        Ok(seq)
    }

    /// Goes to a place before the first line after `after`, and not far before it: lines are in order, so that the file
    /// can be halved.
    fn skip_to(&mut self, after: u64) -> io::Result<()> {
        let (mut low, mut high) = (0, self.reader.get_ref().metadata()?.len());
        while high - low > HALVED_MIN {
            let middle = low + (high - low) / 2;
            self.reader.seek(SeekFrom::Start(middle))?;
            // What is left of the line that the middle fell into.
            let whole = self.read_line()?;
            let at = self.reader.stream_position()?;
            match self.next()? {
                Some((entry, _)) if whole && at < high && entry.seq <= after => low = at,
                _ => high = middle,
            }
        }
        self.reader.seek(SeekFrom::Start(low)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

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

    fn part(path: PathBuf) -> Part {
        Part { path, files_max: 3, before: u64::MAX }
    }

    fn entry(seq: u64) -> Entry {
        Entry { seq, json: json(seq).into() }
    }

    fn rest(replay: &mut Replay) -> Vec<u64> {
        let pieces = std::iter::from_fn(|| Some(replay.piece()).filter(|piece| !piece.is_empty()));
        pieces.flatten().map(|entry| entry.seq).collect()
    }

    #[test]
    fn everything_in_order_from_any_place() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (part(dir.path().join("a.jsonl")), part(dir.path().join("b.jsonl")));
        write(&numbered(&a.path, 2), (0..4000).map(|n| n * 2 + 2));
        write(&numbered(&a.path, 1), (4000..8000).map(|n| n * 2 + 2));
        write(&a.path, []);
        write(&b.path, (0..8000).map(|n| n * 2 + 1));
        let parts = [a, b, part(dir.path().join("c.jsonl"))];
        let check = |after, run, expected: &[u64]| {
            let memory = vec![entry(16_001), entry(16_002)];
            let mut replay = Replay::open(parts.to_vec(), memory, after, run);
            assert_eq!(rest(&mut replay), expected, "after {after}");
        };
        let from = |first| (first..=16_002).collect::<Vec<u64>>();
        for after in [0, 1, 2, 5000, 7999, 8000, 8001, 15_999, 16_000] {
            check(after, None, &from(after + 1));
        }
        check(15_995, Some(1), &[15_997, 15_999, 16_001, 16_002]);
        let before = Part { before: 5, ..parts[1].clone() };
        assert_eq!(rest(&mut Replay::open(vec![before], Vec::new(), 0, None)), [1, 3]);
    }

    #[test]
    fn a_piece_is_bounded() {
        let memory: Vec<Entry> = (1..2000).map(entry).collect();
        let mut replay = Replay::open(Vec::new(), memory, 0, None);
        assert_eq!(replay.piece().len(), PIECE_LINES);
        let long = Entry { seq: 1, json: "x".repeat(PIECE_SIZE).into() };
        let mut replay = Replay::open(Vec::new(), vec![long.clone(), long], 0, None);
        assert_eq!(replay.piece().len(), 1);
    }

    #[test]
    fn rotations_meanwhile_lose_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let part = Part { files_max: 10, ..part(dir.path().join("a.jsonl")) };
        let rotate = || {
            for number in (0..9).rev() {
                let _ = fs::rename(numbered(&part.path, number), numbered(&part.path, number + 1));
            }
        };
        write(&numbered(&part.path, 1), 1..1000);
        write(&part.path, 1000..2000);
        let mut replay = Replay::open(vec![part.clone()], Vec::new(), 0, None);
        let mut seqs: Vec<u64> = replay.piece().iter().map(|entry| entry.seq).collect();
        rotate();
        write(&part.path, 2000..3000);
        seqs.extend(replay.piece().iter().map(|entry| entry.seq));
        rotate();
        rotate();
        write(&part.path, 3000..3001);
        seqs.extend(rest(&mut replay));
        assert_eq!(seqs, (1..=3000).collect::<Vec<_>>());
    }

    #[test]
    fn nonsense_is_left_out_and_ends() {
        let dir = tempfile::tempdir().unwrap();
        let part = part(dir.path().join("a.jsonl"));
        let all = || rest(&mut Replay::open(vec![part.clone()], Vec::new(), 2, None));
        let (three, four) = (json(3), json(4));
        let text: [&[u8]; 6] =
            [b"\xff\xfe\n{}\n", three.as_bytes(), b"\n\n[1]\n", four.as_bytes(), b"\n", b"{\"seq\""];
        fs::write(&part.path, text.concat()).unwrap();
        assert_eq!(all(), [3, 4]);
        fs::write(&part.path, vec![b'x'; 3 << 20]).unwrap();
        assert_eq!(all(), [] as [u64; 0]);
        fs::write(&part.path, vec![b'\n'; 3 << 20]).unwrap();
        assert_eq!(all(), [] as [u64; 0]);
    }
}
