//! What a process of watt's itself says, on its way to standard error, which leads to a file: written by a thread of its own.
//!
//! A write to a disk that hangs does not return. Whoever says something, the loop above all, puts a line into a queue and goes on; the
//! thread writes what is there at once. A queue that is full takes no more. What it did not take is counted, and the count is told when a
//! write has succeeded again.
//!
//! The crate tracing-appender has such a writer. It counts lines in place of bytes, which bounds nothing, tells nobody what it dropped,
//! and brings the `time` crate for files that it rotates.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing_subscriber::fmt::MakeWriter;

/// How much may wait, in bytes: some thousand lines.
const QUEUE_SIZE_MAX: usize = 256 << 10;

/// How long the last lines may take at the end. More than this is a disk that hangs.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// The log, and the thread that writes it. The last lines are waited for, for a moment, when this is dropped; that happens when a
/// panic unwinds the stack as well.
#[derive(Debug)]
pub struct OwnLog(Arc<Shared>);

/// Where lines are said: a handle to share.
#[derive(Debug, Clone)]
pub struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There are lines, or there will be none any more.
    came: Condvar,
    /// There are none left.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines.
    waiting: Vec<u8>,
    /// Whether the thread is writing what it took.
    is_writing: bool,
    /// How many lines are missing, since that was told last.
    lost: usize,
    is_over: bool,
}

impl OwnLog {
    /// Starts the thread.
    ///
    /// # Errors
    /// EAGAIN when there may be no more threads.
    pub fn start(to: impl Write + Send + 'static) -> io::Result<OwnLog> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        thread::Builder::new().name("watt-own-log".into()).spawn(move || of_thread.write_all(to))?;
        Ok(OwnLog(shared))
    }

    /// Where lines are said.
    pub fn queue(&self) -> Queue {
        Queue(Arc::clone(&self.0))
    }
}

impl Drop for OwnLog {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_over = true;
        self.0.came.notify_one();
        let is_left = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        // An error is a panic of the thread, which then writes no more.
        let _ = self.0.written.wait_timeout_while(state, LAST_PATIENCE, is_left);
    }
}

impl Queue {
    /// Has a line written, with its end. Never waits.
    pub fn say(&self, line: &[u8]) {
        let mut state = self.0.state();
        if state.waiting.len() + line.len() > QUEUE_SIZE_MAX {
            state.lost += 1;
        } else {
            state.waiting.extend_from_slice(line);
            self.0.came.notify_one();
        }
    }
}

impl Shared {
    /// A panic elsewhere leaves whole lines.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread.
    fn write_all(&self, mut to: impl Write) {
        while let Some(lines) = self.take() {
            let result = to.write_all(&lines);
            let lost = self.wrote(&lines, result.is_ok());
            if lost > 0 {
                // By the usual way, so that it looks like every other line and is in the journal as well.
                tracing::warn!("{lost} lines of watt's own log could not be written");
            }
        }
    }

    /// Waits for lines and takes all there are. `None` at the end.
    fn take(&self) -> Option<Vec<u8>> {
        let idle = |state: &mut State| state.waiting.is_empty() && !state.is_over;
        let mut state = self.came.wait_while(self.state(), idle).unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() {
            return None;
        }
        state.is_writing = true;
        Some(std::mem::take(&mut state.waiting))
    }

    /// Lines were written, or not. Returns how many are missing, when it is time to tell: a disk that refuses these would refuse
    /// that as well.
    fn wrote(&self, lines: &[u8], is_ok: bool) -> usize {
        let mut state = self.state();
        state.is_writing = false;
        self.written.notify_all();
        if is_ok {
            return std::mem::take(&mut state.lost);
        }
        state.lost += memchr::memchr_iter(b'\n', lines).count();
        0
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line(self)
    }
}

/// One line, which its maker writes at once.
#[derive(Debug)]
pub struct Line<'a>(&'a Queue);

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.say(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A disk: it takes what comes when it is let, and shows it.
    struct Disk {
        may: mpsc::Receiver<io::Result<()>>,
        shown: mpsc::Sender<String>,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // One that is let no more works for ever.
            self.may.recv().unwrap_or(Ok(()))?;
            self.shown.send(String::from_utf8(bytes.to_vec()).unwrap()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    type LetGo = mpsc::Sender<io::Result<()>>;

    fn start() -> (OwnLog, LetGo, mpsc::Receiver<String>) {
        let ((let_go, may), (shown, seen)) = (mpsc::channel(), mpsc::channel());
        (OwnLog::start(Disk { may, shown }).unwrap(), let_go, seen)
    }

    #[test]
    fn a_disk_that_hangs_holds_nobody_up_and_what_had_no_room_is_counted() {
        let (log, let_go, seen) = start();
        let queue = log.queue();
        let line = [b"x".repeat(999), b"\n".to_vec()].concat();
        let (done, is_done) = mpsc::channel();
        let sayer = queue.clone();
        thread::spawn(move || {
            (0..1000).for_each(|_| sayer.say(&line));
            done.send(()).unwrap();
        });
        is_done.recv_timeout(PATIENCE).expect("nobody waits");
        let lost = log.0.state().lost;
        assert!(lost >= 1000 - 2 * QUEUE_SIZE_MAX / 1000, "{lost}");

        // The thread tells by the log, which is not set up here. What it tells is seen by who is told.
        assert_eq!(log.0.wrote(b"", true), lost);
        assert_eq!(log.0.wrote(b"", true), 0, "told once");
        drop(let_go);
        drop(log);
        let lines: usize = seen.iter().map(|text| text.lines().count()).sum();
        assert_eq!(lines + lost, 1000);
    }

    #[test]
    fn the_last_lines_come_out_and_not_for_ever() {
        let (log, let_go, seen) = start();
        log.queue().say(b"last\n");
        let_go.send(Ok(())).unwrap();
        drop(log);
        assert_eq!(seen.try_recv().unwrap(), "last\n");

        let (log, _let_go, seen) = start();
        log.queue().say(b"last\n");
        drop(log);
        assert!(seen.try_recv().is_err());
    }

    #[test]
    fn a_full_disk_is_told_when_it_is_no_longer() {
        let shared = Shared::default();
        assert_eq!(shared.wrote(b"one\ntwo\n", false), 0);
        assert_eq!(shared.wrote(b"three\n", false), 0);
        assert_eq!(shared.wrote(b"four\n", true), 3);
    }

    #[test]
    fn an_event_is_one_line() {
        let (log, let_go, seen) = start();
        drop(let_go);
        let layer = tracing_subscriber::fmt::layer().json().with_writer(log.queue());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(service = "api", "two\nlines");
        });
        drop(log);
        let text: String = seen.iter().collect();
        let line: serde_json::Value = serde_json::from_str(text.strip_suffix('\n').unwrap()).unwrap();
        assert_eq!(line["fields"]["message"], "two\nlines");
        assert_eq!(text.lines().count(), 1);
    }
}
