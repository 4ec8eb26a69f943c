//! A log file and its rotations: `api.jsonl`, then `api.jsonl.1` as the one before it, and so on. The file is opened
//! when the first line comes. A disk that is full or a folder that has gone costs the file's lines, nothing else.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long a file that could not be written is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How far back a line that was written in part is looked for; more than the longest line takes.
const TORN_SIZE_MAX: u64 = 256 << 10;
/// How often to look whether somebody has removed the file.
const CHECK_AFTER: Duration = Duration::from_secs(1);

/// How large files get and how many are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// A file is rotated before it gets larger, in bytes.
    pub file_size_max: u64,
    /// How many are kept, the current one included; at least 1.
    pub files_max: u32,
}

/// Who else has the file open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Nobody: it is rotated by renaming.
    Own,
    /// Others append to it and keep it open, so it is copied and emptied.
    Shared,
}

/// What became of an append.
#[derive(Debug)]
pub(super) enum Appended {
    /// It is in the file.
    Written,
    /// It is in the file, after this many lines that are not.
    Recovered { missing: u64 },
    /// It is not in the file, as those before.
    StillFailing,
    /// It is not in the file, for the first time.
    Failed(io::Error),
}

/// One file.
#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    sharing: Sharing,
    open: Option<Open>,
    trouble: Option<Trouble>,
}

#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
    checked_at: Instant,
}

#[derive(Debug)]
struct Trouble {
    missing: u64,
    retry_at: Instant,
}

impl LogFile {
    pub(super) fn new(path: PathBuf, sharing: Sharing) -> LogFile {
        LogFile { path, sharing, open: None, trouble: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Appends whole lines, all or none.
    pub(super) fn append(&mut self, bytes: &[u8], lines: u64, rotation: Rotation, now: Instant) -> Appended {
        if let Some(trouble) = &mut self.trouble
            && now < trouble.retry_at
        {
            trouble.missing += lines;
            return Appended::StillFailing;
        }
        let result = self.try_append(bytes, rotation, now);
        match (result, self.trouble.take()) {
            (Ok(()), None) => Appended::Written,
            (Ok(()), Some(trouble)) => Appended::Recovered { missing: trouble.missing },
            (Err(error), earlier) => {
                self.open = None;
                let missing = lines + earlier.as_ref().map_or(0, |trouble| trouble.missing);
                self.trouble = Some(Trouble { missing, retry_at: now + RETRY_AFTER });
                if earlier.is_some() { Appended::StillFailing } else { Appended::Failed(error) }
            }
        }
    }

    fn try_append(&mut self, bytes: &[u8], rotation: Rotation, now: Instant) -> io::Result<()> {
        if self.open.as_mut().is_some_and(|open| open.is_stale(self.sharing, now)) {
            self.open = None;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => Open::new(&self.path, self.sharing, now)?,
        };
        let len = bytes.len() as u64;
        if open.size > 0 && open.size + len > rotation.file_size_max {
            match self.sharing {
                Sharing::Own => {
                    rotate(&self.path, rotation.files_max)?;
                    open = Open::new(&self.path, self.sharing, now)?;
                }
                Sharing::Shared => copy_and_empty(&self.path, &mut open, rotation.files_max)?,
            }
        }
        if let Err(error) = open.file.write_all(bytes) {
            // What was written of it is cut off again; shrinking works on a full disk. Others' lines may be behind
            // it in a shared file, which is then left as it is.
            if self.sharing == Sharing::Own {
                let _ = open.file.set_len(open.size);
            }
            return Err(error);
        }
        open.size += len;
        self.open = Some(open);
        Ok(())
    }
}

impl Open {
    fn new(path: &Path, sharing: Sharing, now: Instant) -> io::Result<Open> {
        let options = || {
            let mut options = OpenOptions::new();
            options.read(true).append(true).create(true).mode(0o640);
            options
        };
        let mut file = match options().open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let dir = path.parent().unwrap_or(Path::new("/"));
                fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
                options().open(path)?
            }
            result => result?,
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut size = metadata.len();
        if sharing == Sharing::Own {
            size = cut_torn_line(&mut file, size)?;
        }
        Ok(Open { file, size, checked_at: now })
    }

    /// Whether it was removed behind our back. Takes the size anew where others write as well.
    fn is_stale(&mut self, sharing: Sharing, now: Instant) -> bool {
        if sharing == Sharing::Own && now < self.checked_at + CHECK_AFTER {
            return false;
        }
        self.checked_at = now;
        match self.file.metadata() {
            Ok(metadata) => {
                self.size = metadata.len();
                metadata.nlink() == 0
            }
            Err(_) => true,
        }
    }
}

/// A daemon that was killed while it wrote, or a host that lost power, may leave a line without its end. Its bytes are
/// still in the worker's pipe, or lost with the worker.
fn cut_torn_line(file: &mut File, size: u64) -> io::Result<u64> {
    let start = size.saturating_sub(TORN_SIZE_MAX);
    file.seek(SeekFrom::Start(size.saturating_sub(1)))?;
    let mut last = [0];
    if size == 0 || (file.read(&mut last)? == 1 && last == *b"\n") {
        return Ok(size);
    }
    file.seek(SeekFrom::Start(start))?;
    let mut end = Vec::new();
    (&mut *file).take(TORN_SIZE_MAX).read_to_end(&mut end)?;
    let kept = memchr::memrchr(b'\n', &end).map_or(start, |at| start + at as u64 + 1);
    file.set_len(kept)?;
    Ok(kept)
}

fn rotate(path: &Path, files_max: u32) -> io::Result<()> {
    if files_max <= 1 {
        return fs::remove_file(path);
    }
    for number in (1..files_max - 1).rev() {
        if let Err(error) = fs::rename(numbered(path, number), numbered(path, number + 1))
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
    }
    fs::rename(path, numbered(path, 1))
}

/// Rotates a shared file that others made too large while we had no line for it.
pub(super) fn rotate_shared(path: &Path, rotation: Rotation, now: Instant) -> io::Result<()> {
    let size = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        found => found?.len(),
    };
    if size > rotation.file_size_max {
        copy_and_empty(path, &mut Open::new(path, Sharing::Shared, now)?, rotation.files_max)?;
    }
    Ok(())
}

/// What others append between the copy and the cut is lost; it is our own log, not a service's.
fn copy_and_empty(path: &Path, open: &mut Open, files_max: u32) -> io::Result<()> {
    if files_max > 1 {
        for number in (1..files_max - 1).rev() {
            if let Err(error) = fs::rename(numbered(path, number), numbered(path, number + 1))
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
        }
        // A copy that fails (a full disk) must not keep the file growing.
        let _ = fs::copy(path, numbered(path, 1));
    }
    open.file.set_len(0)?;
    open.size = 0;
    Ok(())
}

/// The name of a rotated file; 0 is the current one.
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_path_buf();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROTATION: Rotation = Rotation { file_size_max: 10, files_max: 3 };

    struct Fixture {
        dir: tempfile::TempDir,
        file: LogFile,
        now: Instant,
    }

    impl Fixture {
        fn new(sharing: Sharing) -> Fixture {
            let dir = tempfile::tempdir().unwrap();
            let file = LogFile::new(dir.path().join("logs/api.jsonl"), sharing);
            Fixture { dir, file, now: Instant::now() }
        }

        fn append(&mut self, line: &str) -> Appended {
            self.file.append(line.as_bytes(), 1, ROTATION, self.now)
        }

        fn files(&self) -> Vec<(String, String)> {
            let mut files: Vec<_> = fs::read_dir(self.dir.path().join("logs"))
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .map(|path| {
                    (path.file_name().unwrap().to_str().unwrap().into(), fs::read_to_string(path).unwrap())
                })
                .collect();
            files.sort();
            files
        }

        fn check(&self, expected: &[(&str, &str)]) {
            let expected: Vec<_> =
                expected.iter().map(|(name, text)| ((*name).into(), (*text).into())).collect();
            assert_eq!(self.files(), expected);
        }
    }

    #[test]
    fn files_rotate_and_the_oldest_goes() {
        for sharing in [Sharing::Own, Sharing::Shared] {
            let mut logs = Fixture::new(sharing);
            for line in ["1111\n", "2222\n", "3333\n", "4444\n", "5555\n", "6666\n", "7777\n"] {
                assert!(matches!(logs.append(line), Appended::Written));
            }
            logs.check(&[
                ("api.jsonl", "7777\n"),
                ("api.jsonl.1", "5555\n6666\n"),
                ("api.jsonl.2", "3333\n4444\n"),
            ]);
        }
    }

    #[test]
    fn a_file_that_others_made_too_large_is_rotated() {
        let logs = Fixture::new(Sharing::Shared);
        let look = || rotate_shared(logs.file.path(), ROTATION, logs.now).unwrap();
        look();
        assert!(!logs.file.path().exists(), "a file was made by looking for it");
        fs::create_dir_all(logs.dir.path().join("logs")).unwrap();
        fs::write(logs.file.path(), "123456789\n").unwrap();
        look();
        logs.check(&[("api.jsonl", "123456789\n")]);
        fs::write(logs.file.path(), "0123456789\n").unwrap();
        look();
        logs.check(&[("api.jsonl", ""), ("api.jsonl.1", "0123456789\n")]);
    }

    #[test]
    fn one_file_alone_starts_again() {
        let mut logs = Fixture::new(Sharing::Own);
        let rotation = Rotation { file_size_max: 10, files_max: 1 };
        for line in [&b"1111\n"[..], b"2222\n", b"3333\n"] {
            assert!(matches!(logs.file.append(line, 1, rotation, logs.now), Appended::Written));
        }
        logs.check(&[("api.jsonl", "3333\n")]);
    }

    #[test]
    fn a_batch_larger_than_a_file_is_not_lost() {
        let mut logs = Fixture::new(Sharing::Own);
        assert!(matches!(logs.append("0123456789abcdef\n"), Appended::Written));
        assert!(matches!(logs.append("next\n"), Appended::Written));
        logs.check(&[("api.jsonl", "next\n"), ("api.jsonl.1", "0123456789abcdef\n")]);
    }

    #[test]
    fn a_line_without_its_end_is_cut_off() {
        let mut logs = Fixture::new(Sharing::Own);
        for (before, after) in [("1\n22", "1\n3\n"), ("22", "3\n"), ("1\n", "1\n3\n")] {
            fs::create_dir_all(logs.dir.path().join("logs")).unwrap();
            fs::write(logs.file.path(), before).unwrap();
            logs.file.close();
            assert!(matches!(logs.append("3\n"), Appended::Written));
            logs.check(&[("api.jsonl", after)]);
        }
    }

    #[test]
    fn a_removed_file_is_made_again() {
        let mut logs = Fixture::new(Sharing::Own);
        assert!(matches!(logs.append("1\n"), Appended::Written));
        fs::remove_dir_all(logs.dir.path().join("logs")).unwrap();
        logs.now += CHECK_AFTER;
        assert!(matches!(logs.append("2\n"), Appended::Written));
        logs.check(&[("api.jsonl", "2\n")]);
    }

    #[test]
    fn trouble_is_told_once_and_counted() {
        let mut logs = Fixture::new(Sharing::Own);
        // A folder in the file's place fails for every user, root included.
        fs::create_dir_all(logs.file.path()).unwrap();
        assert!(matches!(logs.append("1\n"), Appended::Failed(_)));
        assert!(matches!(logs.append("2\n"), Appended::StillFailing));
        logs.now += RETRY_AFTER;
        assert!(matches!(logs.append("3\n"), Appended::StillFailing));
        fs::remove_dir(logs.file.path()).unwrap();
        assert!(matches!(logs.append("4\n"), Appended::StillFailing), "it is not tried all the time");
        logs.now += RETRY_AFTER;
        assert!(matches!(logs.append("5\n"), Appended::Recovered { missing: 4 }));
        assert!(matches!(logs.append("6\n"), Appended::Written));
        logs.check(&[("api.jsonl", "5\n6\n")]);
    }
}
