//! What the spawner itself has to say: lines for standard error, which leads to a file, and for systemd's journal.
//!
//! A write to a disk that hangs does not return, and a file has no way to ask beforehand. So the spawner never writes to it: lines wait
//! here, and a process of the exec stage writes all of them, one such process at a time. While that one hangs, lines go on waiting; those
//! for which there is no room are counted, and so are those of a process that fails, as it does while the disk is full. The count goes with
//! the next lines: alone, it would be tried on the full disk for ever. Notes are rare, so that nothing is there most of the time, where a
//! thread or a process that waits for them would be.
//!
//! ```text
//! Idle    ─ a line waits ─▶ Writing, or Resting when it could not be started
//! Writing ─ it has ended ─▶ Idle, or Resting when it has failed
//! Resting ─ it is over and a line waits ─▶ Writing, or Resting for twice as long
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
    process::{Isolation, Reaped, SpawnError},
};

use crate::{
    handover, journal,
    launch::{Launcher, Reports, Start, at},
    spawner::Spawner,
    table::{Descriptors, NotesRow, TableError},
};

/// Once in the life of the process, as standard error is: what says something need not be told where.
static WAITING: Mutex<Waiting> = Mutex::new(Waiting { text: String::new(), lines: 0, lost: 0 });

/// How much may wait, in bytes: some two hundred lines.
const WAITING_SIZE_MAX: usize = 16 << 10;

/// How long nothing is tried after a failure. Twice as long after each further one.
const REST_FIRST: Duration = Duration::from_secs(1);

/// How long at most.
const REST_MAX: Duration = Duration::from_secs(60);

/// How long the last lines may take at the end. More than this is a disk that hangs.
pub(crate) const LAST_PATIENCE: Duration = Duration::from_secs(1);

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

    /// Everything, and how many lines that is. The count of what is missing comes last, in its place. It alone is nothing.
    fn take(&mut self) -> Option<(String, u64)> {
        if self.text.is_empty() {
            return None;
        }
        let mut text = std::mem::take(&mut self.text);
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            let _ = writeln!(text, "watt spawner: {lost} more lines could not be written");
        }
        let lines = std::mem::take(&mut self.lines) + lost;
        Some((text, lines))
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
        /// How long nothing was tried before.
        rested: Duration,
        /// Where it says why it fails. Nobody reads that: its status is enough. Were this closed, it would say it on standard error.
        reports: Reports,
    },
    /// The last one failed, or none could be started.
    Resting {
        /// When it is tried again.
        until: Instant,
        /// How long that is in all.
        rest: Duration,
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
            Writer::Resting { until, .. } if !waiting().text.is_empty() => Some(*until),
            Writer::Idle | Writer::Writing { .. } | Writer::Resting { .. } => None,
        }
    }

    /// Writing => (Idle, Resting): a child has ended, which may be the process that writes. Of what one that was killed has written, nobody knows.
    pub(crate) fn reaped(&mut self, child: &Reaped) {
        let Writer::Writing { pid, lines, rested, .. } = self else { return };
        if *pid != child.pid {
            return;
        }
        if child.signaled || child.code != 0 {
            waiting().lost += *lines;
            *self = Writer::resting(*rested);
        } else {
            *self = Writer::Idle;
        }
    }

    /// After a failure, with how long the last rest was, if it failed before that as well.
    fn resting(rested: Duration) -> Self {
        let rest = (rested * 2).clamp(REST_FIRST, REST_MAX);
        Writer::Resting { until: Instant::now() + rest, rest }
    }
}

impl Spawner {
    /// Has the lines written that wait.
    pub(crate) fn write_notes(&mut self) {
        let rested = match self.writer {
            Writer::Writing { .. } => return,
            Writer::Resting { until, .. } if until > Instant::now() => return,
            Writer::Resting { rest, .. } => rest,
            Writer::Idle => Duration::ZERO,
        };
        let Some((text, lines)) = waiting().take() else { return };
        self.writer = match start(&mut self.launcher, &text) {
            Ok((pid, _, reports)) => Writer::Writing { pid, lines, rested, reports },
            Err(_) => {
                waiting().put_back(text, lines);
                Writer::resting(rested)
            }
        };
    }
}

/// What waits, and who writes, for a program that takes over. A rest begins anew with that.
pub(crate) fn row(writer: &Writer) -> NotesRow {
    let writer = match writer {
        Writer::Writing { pid, lines, reports, .. } => Some((*pid, *lines, handover::writer_row(reports))),
        Writer::Idle | Writer::Resting { .. } => None,
    };
    let Waiting { text, lines, lost } = &*waiting();
    NotesRow { text: text.clone(), lines: *lines, lost: *lost, writer }
}

/// Takes over what another program has said and what was not written yet, and gives the process that writes.
pub(crate) fn fill(row: NotesRow, descriptors: &Descriptors) -> Result<Writer, TableError> {
    {
        let mut waiting = waiting();
        waiting.put_back(row.text, row.lines);
        waiting.lost += row.lost;
    }
    let Some((pid, lines, reports)) = row.writer else { return Ok(Writer::Idle) };
    let reports = Reports::from_row(reports, descriptors)?;
    Ok(Writer::Writing { pid, lines, rested: Duration::ZERO, reports })
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

    #[test]
    fn a_count_alone_waits_for_the_next_line() {
        let mut waiting = Waiting { text: String::new(), lines: 0, lost: 3 };
        assert_eq!(waiting.take(), None);
        waiting.add(format_args!("next"));
        let text = "watt spawner: next\nwatt spawner: 3 more lines could not be written\n";
        assert_eq!(waiting.take(), Some((text.to_owned(), 4)));
    }

    #[test]
    fn the_rest_grows_to_its_bound() {
        let mut rested = Duration::ZERO;
        let rests: Vec<u64> = (0..9)
            .map(|_| {
                let Writer::Resting { rest, .. } = Writer::resting(rested) else { panic!("it rests") };
                rested = rest;
                rest.as_secs()
            })
            .collect();
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
