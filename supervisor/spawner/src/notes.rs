//! What the spawner itself has to say: lines for standard error, which leads to a file, and for systemd's journal.
//!
//! A write to a disk that hangs does not return, and a file has no way to ask beforehand. So the spawner never writes to it: lines wait
//! here, and a process of the exec stage writes all of them, one such process at a time. While that one hangs, lines go on waiting; those
//! for which there is no room are counted, and the count is told when there is. Notes are rare, so that nothing is there most of the
//! time, where a thread or a process that waits for them would be.
//!
//! ```text
//! Idle ─ a line waits ─▶ Writing ─ it has ended ─▶ Idle
//!   └─── it could not be started ─▶ Resting ─ a second later ─▶ Idle
//! ```

use std::{
    fmt::{self, Write},
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::Signal,
};
use watt_exec::plan::Task;
use watt_os::{
    memfd, pidfd,
    process::{Isolation, SpawnError},
};

use crate::{
    journal,
    launch::{Launcher, Reports, Said, Start, at},
    spawner::{Owner, Spawner},
};

/// Once in the life of the process, as standard error is: what says something need not be told where.
static WAITING: Mutex<Waiting> = Mutex::new(Waiting { text: String::new(), lines: 0, lost: 0 });

/// How much may wait, in bytes: some two hundred lines.
const WAITING_SIZE_MAX: usize = 16 << 10;

/// How long nothing is tried after a process could not be started.
const REST: Duration = Duration::from_secs(1);

/// How long the last lines may take at the end. More than this is a disk that hangs.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// Says something. Never waits.
pub(crate) fn note(what: fmt::Arguments<'_>) {
    waiting().add(what);
    journal::write(what);
}

fn waiting() -> MutexGuard<'static, Waiting> {
    // A panic elsewhere leaves whole lines.
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lines that have not been written yet.
#[derive(Debug)]
struct Waiting {
    text: String,
    lines: u64,
    /// How many had no room, or could not be written, since that was told last.
    lost: u64,
}

impl Waiting {
    fn add(&mut self, what: fmt::Arguments<'_>) {
        let before = self.text.len();
        // Formatting into a string does not fail.
        let _ = writeln!(self.text, "watt spawner: {what}");
        if self.text.len() > WAITING_SIZE_MAX {
            self.text.truncate(before);
            self.lost += 1;
        } else {
            self.lines += 1;
        }
    }

    /// Everything, and how many lines that is. The count of what is missing comes last, in its place.
    fn take(&mut self) -> Option<(String, u64)> {
        let mut text = std::mem::take(&mut self.text);
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            let _ = writeln!(text, "watt spawner: {lost} more lines could not be written");
        }
        let lines = std::mem::take(&mut self.lines) + lost;
        (!text.is_empty()).then_some((text, lines))
    }

    /// What was taken and could not be begun with.
    fn put_back(&mut self, text: String, lines: u64) {
        self.text.insert_str(0, &text);
        self.lines += lines;
    }
}

/// Whether lines are being written.
#[derive(Debug)]
pub(crate) enum Writer {
    /// Nothing is.
    Idle,
    /// A process is at it.
    Writing {
        /// Its process.
        pid: u32,
        /// What is lost when it fails.
        lines: u64,
    },
    /// None could be started.
    Resting {
        /// When it is tried again.
        until: Instant,
    },
}

impl Writer {
    /// The process that writes.
    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Writer::Writing { pid, .. } => Some(*pid),
            Writer::Idle | Writer::Resting { .. } => None,
        }
    }

    /// When there is something to be done.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self {
            Writer::Resting { until } => Some(*until),
            Writer::Idle | Writer::Writing { .. } => None,
        }
    }

    /// Writing => Idle: the process has ended.
    pub(crate) fn ended(&mut self, reports: &Reports) {
        if let (Writer::Writing { lines, .. }, Said::Failed(_)) = (&*self, &reports.said) {
            waiting().lost += lines;
        }
        *self = Writer::Idle;
    }
}

impl Spawner {
    /// Has the lines written that wait.
    pub(crate) fn write_notes(&mut self) {
        match self.writer {
            Writer::Resting { until } if until > Instant::now() => return,
            Writer::Writing { .. } => return,
            Writer::Resting { .. } | Writer::Idle => {}
        }
        let Some((text, lines)) = waiting().take() else { return };
        match start(&mut self.launcher, &text) {
            Ok((pid, _, reports)) => {
                self.writer = Writer::Writing { pid, lines };
                self.follow(Owner::Writer, reports);
            }
            Err(_) => {
                waiting().put_back(text, lines);
                self.writer = Writer::Resting { until: Instant::now() + REST };
            }
        }
    }
}

/// Has the last lines written, and waits for that, but not for ever.
pub(crate) fn write_last(launcher: &mut Launcher) {
    let Some((text, _)) = waiting().take() else { return };
    let Ok((_, process, _reports)) = start(launcher, &text) else { return };
    let patience = PollTimeout::try_from(LAST_PATIENCE).unwrap_or(PollTimeout::ZERO);
    let _ = poll(&mut [PollFd::new(process.as_fd(), PollFlags::POLLIN)], patience);
    // One that is through does not mind.
    let _ = pidfd::send_signal(&process, Signal::SIGKILL as i32);
}

/// Starts a process that writes this: its pid, its pidfd, and what it says.
fn start(launcher: &mut Launcher, text: &str) -> Result<(u32, OwnedFd, Reports), SpawnError> {
    let task = Task::Say { text: text.as_bytes().to_vec() };
    let task = postcard::to_stdvec(&task).map_err(|_| Errno::EINVAL).map_err(at("encode"))?;
    let task = memfd::sealed(c"watt-notes", &task).map_err(at("memfd_create"))?;
    let (child, reports) = launcher.start(&Start {
        task: task.as_fd(),
        streams: Some([io::stdout().as_fd(), io::stderr().as_fd()]),
        passed: &[],
        cgroup: None,
        raised_limit: true,
        isolation: Isolation::None,
    })?;
    Ok((child.pid, child.pidfd, reports))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_room_are_counted_and_that_is_told() {
        let mut waiting = Waiting { text: String::new(), lines: 0, lost: 0 };
        assert_eq!(waiting.take(), None);
        let long = "x".repeat(WAITING_SIZE_MAX / 2);
        for _ in 0..3 {
            waiting.add(format_args!("{long}"));
        }
        waiting.add(format_args!("short"));
        let (text, lines) = waiting.take().unwrap();
        assert_eq!(lines, 4);
        let short: Vec<&str> = text.lines().filter(|line| line.len() < 100).collect();
        assert_eq!(short, ["watt spawner: short", "watt spawner: 2 more lines could not be written"]);
        assert_eq!(waiting.take(), None, "told once");
    }
}
