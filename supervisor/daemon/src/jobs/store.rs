//! The files of jobs: `<state>/jobs/NAME.jsonl` with what happened, and `NAME.out` with what the last firing that ended said.
//!
//! One task writes them all, in the order in which it is asked, on a thread beside the loop. What has to outlive the host is with the disk
//! (fdatasync(2)) before it is answered. A disk that hangs keeps firings from beginning, and nothing else.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use watt_core::JobId;

use super::notes::{Line, Notes};
use crate::{beside, places::make_dir};

/// How many requests may wait.
const WAITING_MAX: usize = 4096;

/// The largest file that is read: far more than is ever written.
const FILE_SIZE_MAX: u64 = 32 << 20;

/// So many lines more than are needed, and they are written anew.
const LINES_TOO_MANY: usize = 500;

/// How much is kept of what a firing said.
pub(crate) const OUTPUT_SIZE_MAX: usize = 64 << 10;

/// What is written.
enum Request {
    Line {
        job: JobId,
        line: Line,
        /// How much of the history is kept when the file is written anew.
        history: usize,
        /// Answered when it is with the disk; nobody waits for it when it is `None`.
        reply: Option<oneshot::Sender<io::Result<()>>>,
    },
    Output {
        job: JobId,
        output: Vec<u8>,
    },
}

/// The way to the files; a handle to share.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    requests: mpsc::Sender<Request>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Request::Line { job, line, .. } => write!(f, "{job}: {line:?}"),
            Request::Output { job, output } => write!(f, "{job}: {} bytes", output.len()),
        }
    }
}

impl Store {
    /// Begins to write into a folder. The task ends when the last handle has gone and all is written.
    pub(crate) fn start(folder: PathBuf) -> (Store, JoinHandle<()>) {
        let (requests, waiting) = mpsc::channel(WAITING_MAX);
        (Store { requests }, tokio::spawn(write(folder, waiting)))
    }

    /// Notes a line, after all that was asked for before; the answer comes when it is with the disk.
    pub(crate) fn note(
        &self,
        job: JobId,
        line: Line,
        history: usize,
    ) -> impl Future<Output = io::Result<()>> + use<> {
        let (reply, written) = oneshot::channel();
        let sent = self.requests.try_send(Request::Line { job, line, history, reply: Some(reply) });
        async move {
            sent.map_err(|_| io::Error::other("the disk is too slow"))?;
            written.await.unwrap_or_else(|_| Err(io::Error::other("nobody writes any more")))
        }
    }

    /// Notes a line that nobody waits for.
    pub(crate) fn put(&self, job: JobId, line: Line, history: usize) {
        self.send(Request::Line { job, line, history, reply: None });
    }

    /// Keeps what a firing said, in place of what an earlier one did.
    pub(crate) fn keep_output(&self, job: JobId, output: Vec<u8>) {
        self.send(Request::Output { job, output });
    }

    fn send(&self, request: Request) {
        if let Err(error) = self.requests.try_send(request) {
            tracing::warn!("what became of a job cannot be noted, the disk is too slow: {error}");
        }
    }
}

async fn write(folder: PathBuf, mut waiting: mpsc::Receiver<Request>) {
    let mut files = Files { folder: folder.clone(), open: BTreeMap::new() };
    while let Some(first) = waiting.recv().await {
        let mut requests = vec![first];
        while let Ok(next) = waiting.try_recv() {
            requests.push(next);
        }
        let written = beside::JOBS.run(move || {
            files.perform(requests);
            files
        });
        files = written.await.unwrap_or_else(|| Files { folder: folder.clone(), open: BTreeMap::new() });
    }
}

/// Reads what was noted of a job. Nothing, when nothing was; what cannot be read is put aside.
pub(crate) fn read(folder: &Path, job: &JobId, history: usize) -> Notes {
    let path = lines_of(folder, job);
    let text = match bounded(&path, FILE_SIZE_MAX) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Notes::default(),
        Err(error) => {
            let aside = path.with_extension("broken");
            tracing::error!("{}: {error}; it is put aside, and the job begins anew", path.display());
            if let Err(error) = fs::rename(&path, aside) {
                tracing::error!("{} cannot be put aside: {error}", path.display());
            }
            return Notes::default();
        }
    };
    Notes::read(&text, history)
}

/// What the last firing that ended said.
pub(crate) fn output(folder: &Path, job: &JobId) -> Option<Vec<u8>> {
    bounded(&output_of(folder, job), 2 * OUTPUT_SIZE_MAX as u64).ok()
}

fn bounded(path: &Path, size_max: u64) -> io::Result<Vec<u8>> {
    // Not to wait for the other end of a pipe that somebody has put there.
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let mut bytes = Vec::new();
    file.take(size_max + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > size_max {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(bytes),
    }
}

fn lines_of(folder: &Path, job: &JobId) -> PathBuf {
    folder.join(format!("{job}.jsonl"))
}

fn output_of(folder: &Path, job: &JobId) -> PathBuf {
    folder.join(format!("{job}.out"))
}

struct Files {
    folder: PathBuf,
    open: BTreeMap<JobId, Lines>,
}

/// A file that lines are added to.
struct Lines {
    file: File,
    count: usize,
}

impl Files {
    fn perform(&mut self, requests: Vec<Request>) {
        let mut owed = Vec::new();
        for request in requests {
            match request {
                Request::Line { job, line, history, reply } => {
                    let written = self.add(&job, &line, history);
                    match (written, reply) {
                        (written, Some(reply)) => owed.push((job, written, reply)),
                        (Err(error), None) => tracing::warn!("what became of {job} cannot be noted: {error}"),
                        (Ok(()), None) => {}
                    }
                }
                Request::Output { job, output } => {
                    if let Err(error) = self.keep_output(&job, &output) {
                        tracing::warn!("what {job} said cannot be kept: {error}");
                    }
                }
            }
        }
        // Each file once for all that was added to it.
        let mut synced: BTreeMap<JobId, Result<(), (io::ErrorKind, String)>> = BTreeMap::new();
        for (job, written, reply) in owed {
            let outcome = written.and_then(|()| {
                let of_file = synced.entry(job.clone()).or_insert_with(|| {
                    let synced = self.open.get(&job).map_or(Ok(()), |lines| lines.file.sync_data());
                    synced.map_err(|error| (error.kind(), error.to_string()))
                });
                of_file.clone().map_err(|(kind, text)| io::Error::new(kind, text))
            });
            // Who asked may have gone.
            let _ = reply.send(outcome);
        }
    }

    /// Adds a line, whole or not at all.
    fn add(&mut self, job: &JobId, line: &Line, history: usize) -> io::Result<()> {
        let lines = match self.open.remove(job) {
            Some(lines) if lines.count <= LINES_TOO_MANY + 4 * history => lines,
            Some(_) | None => self.write_anew(job, history)?,
        };
        let lines = self.open.entry(job.clone()).or_insert(lines);
        let bytes = line.bytes();
        lines.count += 1;
        let written = lines.file.write_all(&bytes);
        if written.is_err() {
            // A part may have been written. It is left out when the file is opened again.
            self.open.remove(job);
        }
        written
    }

    /// Opens the file of a job, after writing it anew with the fewest lines that say the same.
    fn write_anew(&mut self, job: &JobId, history: usize) -> io::Result<Lines> {
        make_dir(&self.folder, 0o700)?;
        let notes = read(&self.folder, job, history);
        let lines = notes.lines();
        let count = lines.len();
        let bytes: Vec<u8> = lines.iter().flat_map(Line::bytes).collect();
        let path = lines_of(&self.folder, job);
        let file = self.replace(&path, &bytes, true)?;
        Ok(Lines { file, count })
    }

    fn keep_output(&self, job: &JobId, output: &[u8]) -> io::Result<()> {
        make_dir(&self.folder, 0o700)?;
        self.replace(&output_of(&self.folder, job), output, false).map(drop)
    }

    /// Puts a file in the place of another one, which is there whole until then.
    fn replace(&self, path: &Path, bytes: &[u8], synced: bool) -> io::Result<File> {
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        let _ = fs::remove_file(&new);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        if synced {
            file.sync_data()?;
        }
        fs::rename(&new, path)?;
        if synced {
            File::open(&self.folder)?.sync_all()?;
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use watt_api::control::JobResult;
    use watt_core::{
        jobs::{Cause, Firing, Mark, Second},
        testing,
    };

    use super::{
        super::notes::{Ended, Terms},
        *,
    };

    fn job() -> JobId {
        testing::job("api").id
    }

    fn firing(number: u64) -> Firing {
        Firing { number, at: Second(60 * i64::try_from(number).unwrap()), cause: Cause::Schedule }
    }

    async fn fire_and_end(store: &Store, number: u64) {
        let fired =
            Line::fired(firing(number), &Mark { seen: firing(number).at, ..Mark::default() }, "life", 0);
        store.note(job(), fired, 5).await.unwrap();
        let ended = Ended::new(firing(number), (1, 2), (JobResult::Ok, "status 200".into()), 1);
        store.put(job(), Line::Ended(ended), 5);
    }

    #[tokio::test]
    async fn what_is_noted_is_there_for_the_next_daemon_and_stays_small() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("jobs");
        let (store, task) = Store::start(folder.clone());
        store.put(job(), Line::Schedule(Terms::of(&testing::job("api"))), 5);
        for number in 1..=1000 {
            fire_and_end(&store, number).await;
        }
        store.keep_output(job(), b"first".to_vec());
        store.keep_output(job(), b"last".to_vec());
        drop(store);
        task.await.unwrap();
        let notes = read(&folder, &job(), 5);
        let saved = notes.saved(&testing::job("api")).unwrap();
        assert_eq!((saved.last, saved.mark.seen, saved.running.len()), (1000, Second(60_000), 0));
        assert_eq!(notes.history.len(), 5);
        assert_eq!(output(&folder, &job()).unwrap(), b"last");
        let size = fs::metadata(lines_of(&folder, &job())).unwrap().len();
        assert!(size < 300 << 10, "{size} bytes");
    }

    /// The end of a line that was cut off must not be the beginning of the next one.
    #[tokio::test]
    async fn after_a_cut_line_the_next_one_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().to_owned();
        let cut = Line::fired(firing(1), &Mark::default(), "life", 0).bytes();
        fs::write(lines_of(&folder, &job()), &cut[..cut.len() / 2]).unwrap();
        let (store, task) = Store::start(folder.clone());
        fire_and_end(&store, 2).await;
        drop(store);
        task.await.unwrap();
        let notes = read(&folder, &job(), 5);
        assert_eq!((notes.open.len(), notes.history.len()), (0, 1));
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("jobs");
        fs::write(&folder, "no folder").unwrap();
        let (store, task) = Store::start(folder);
        let fired = Line::fired(firing(1), &Mark::default(), "life", 0);
        assert!(store.note(job(), fired, 5).await.is_err());
        drop(store);
        task.await.unwrap();
    }

    #[test]
    fn what_is_no_file_of_ours_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(lines_of(dir.path(), &job())).unwrap();
        assert_eq!(read(dir.path(), &job(), 5), Notes::default());
        assert!(!lines_of(dir.path(), &job()).exists());
    }
}
