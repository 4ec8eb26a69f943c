//! Lines on their way to standard output: written by a thread of their own, because a pipe that nobody reads makes its writer wait.

use std::{
    fmt::Write as _,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use jiff::Timestamp;

/// How much may wait, in bytes: what comes in the moments in which a daemon is replaced.
const WAITING_MAX: usize = 4 << 20;

/// How long lines are gathered before they are written together: at any rate of requests a few dozen writes a second.
const GATHER: Duration = Duration::from_millis(20);

/// How long the last lines may take at the end.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// The lines that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// There are lines.
    came: Condvar,
    /// There are none left.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Whole lines.
    waiting: Vec<u8>,
    is_writing: bool,
    /// How many lines were left out, since that was told last.
    lost: u64,
    /// No more are gathered.
    is_over: bool,
}

impl Queue {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// EAGAIN when there may be no more threads.
    pub(crate) fn start(to: impl Write + Send + 'static) -> io::Result<Arc<Queue>> {
        let queue = Arc::new(Queue::default());
        let of_thread = Arc::clone(&queue);
        thread::Builder::new().name("access-log".into()).spawn(move || of_thread.write_all(to))?;
        Ok(queue)
    }

    /// Has a line written, with its end. Never waits.
    pub(crate) fn say(&self, line: &[u8]) {
        let mut state = self.state();
        if state.waiting.len() + line.len() > WAITING_MAX {
            state.lost += 1;
            return;
        }
        let is_first = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if is_first {
            self.came.notify_one();
        }
    }

    /// Waits for the last lines, for a moment.
    pub(crate) fn finish(&self) {
        let mut state = self.state();
        state.is_over = true;
        self.came.notify_one();
        let is_left = |state: &mut State| state.is_writing || !state.waiting.is_empty();
        // An error is a panic of the thread, which then writes no more.
        let _ = self.written.wait_timeout_while(state, LAST_PATIENCE, is_left);
    }

    /// A panic elsewhere leaves whole lines.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread. It ends with the process.
    fn write_all(&self, mut to: impl Write) {
        let mut is_told = false;
        loop {
            let lines = self.take();
            if let Err(error) = to.write_all(&lines)
                && !std::mem::replace(&mut is_told, true)
            {
                tracing::warn!(%error, "the access log cannot be written");
            }
            let mut state = self.state();
            state.is_writing = false;
            // The memory of a rush is given back, that of a usual moment is used again.
            if state.waiting.capacity() == 0 && lines.capacity() <= WAITING_MAX / 16 {
                let mut lines = lines;
                lines.clear();
                state.waiting = lines;
            }
            self.written.notify_all();
        }
    }

    /// Waits for lines, and for those that follow at once. The last of them says how many are missing after the others.
    fn take(&self) -> Vec<u8> {
        let is_idle = |state: &mut State| state.waiting.is_empty();
        let state = self.came.wait_while(self.state(), is_idle).unwrap_or_else(PoisonError::into_inner);
        let gathers = |state: &mut State| !state.is_over;
        let gathered = self.came.wait_timeout_while(state, GATHER, gathers);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        state.is_writing = true;
        let mut lines = std::mem::take(&mut state.waiting);
        let lost = std::mem::take(&mut state.lost);
        drop(state);
        if lost > 0 {
            let mut line = String::new();
            // Writing to memory does not fail.
            let _ = writeln!(line, r#"{{"at":"{:.3}","lost":{lost}}}"#, Timestamp::now());
            lines.extend_from_slice(line.as_bytes());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Tells of each write, and waits until it may go on.
    struct Slow {
        wrote: mpsc::Sender<Vec<u8>>,
        may: mpsc::Receiver<()>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.wrote.send(bytes.to_vec());
            let _ = self.may.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (Arc<Queue>, mpsc::Receiver<Vec<u8>>, mpsc::Sender<()>) {
        let ((wrote, written), (go, may)) = (mpsc::channel(), mpsc::channel());
        (Queue::start(Slow { wrote, may }).unwrap(), written, go)
    }

    #[test]
    fn who_speaks_does_not_wait_for_a_pipe_that_nobody_reads_and_what_is_missing_is_counted() {
        let (queue, written, go) = slow();
        queue.say(b"first\n");
        assert_eq!(written.recv().unwrap(), b"first\n");
        let line = vec![b'x'; 1 << 20];
        for _ in 0..7 {
            queue.say(&line);
        }
        go.send(()).unwrap();
        let next = written.recv().unwrap();
        let end = String::from_utf8_lossy(&next[4 << 20..]).into_owned();
        assert!(end.starts_with(r#"{"at":""#) && end.ends_with("\",\"lost\":3}\n"), "{end}");
        go.send(()).unwrap();
        queue.say(b"later\n");
        assert_eq!(written.recv().unwrap(), b"later\n");
    }

    #[test]
    fn the_end_waits_for_the_last_lines() {
        let (queue, written, go) = slow();
        queue.say(b"first\n");
        assert_eq!(written.recv().unwrap(), b"first\n");
        queue.say(b"last\n");
        go.send(()).unwrap();
        go.send(()).unwrap();
        queue.finish();
        assert_eq!(written.try_recv().unwrap(), b"last\n");
    }
}
