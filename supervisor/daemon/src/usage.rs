//! What workers use, read only when somebody asks: from each worker's cgroup, or, where it has none, from the
//! processes that descend from its main process.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use watt_core::RunId;
use watt_os::cgroup::{Group, Usage};

use crate::status;

/// A rate needs at least this much time between two readings; questions that come faster get the last rate.
const RATE_OVER_MIN: Duration = Duration::from_secs(1);

/// Kernel clock ticks in a second, as `/proc/<pid>/stat` counts CPU time: USER_HZ, 100 on every Linux platform that
/// we build for.
const TICKS_PER_SECOND: u64 = 100;

/// Bytes of a page, in which `/proc/<pid>/statm` counts.
const PAGE_SIZE: u64 = 4096;

/// Remembers the last readings, to tell CPU use as a rate. A handle to share.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter(Arc<Mutex<BTreeMap<RunId, Reading>>>);

#[derive(Debug, Clone, Copy)]
struct Reading {
    at: Instant,
    cpu_us: u64,
    millis: Option<u32>,
}

/// Whose figures are wanted.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    pub(crate) run: RunId,
    pub(crate) pid: Option<u32>,
    pub(crate) group: Group,
    /// When it was started: milliseconds since the Unix epoch.
    pub(crate) started_at_ms: u64,
    /// Forks that its limit of processes had refused in its cgroup before, where it has one.
    pub(crate) pids_refused_before: Option<u64>,
}

/// A worker's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Figures {
    pub(crate) memory: Option<u64>,
    pub(crate) cpu_us: Option<u64>,
    pub(crate) cpu_millis: Option<u32>,
    pub(crate) pids: Option<u32>,
    /// Forks that its limit of processes refused, if any.
    pub(crate) pids_refused: Option<u64>,
}

impl Meter {
    /// Reads the figures of all of these. Some thousand small files for a thousand workers: not for the event loop.
    pub(crate) fn read(&self, subjects: &[Subject]) -> BTreeMap<RunId, Figures> {
        let needs_walk = subjects.iter().any(|subject| !subject.group.is_usable());
        let processes = if needs_walk { Processes::read() } else { Processes::default() };
        let now = Instant::now();
        let figures = subjects.iter().map(|subject| {
            let usage = match (subject.group.is_usable(), subject.pid) {
                (true, _) => subject.group.usage(),
                (false, Some(pid)) => processes.usage(pid),
                (false, None) => Usage::default(),
            };
            (subject.run, self.figures(subject, usage, now))
        });
        let figures: BTreeMap<RunId, Figures> = figures.collect();
        self.readings().retain(|run, _| figures.contains_key(run));
        figures
    }

    fn figures(&self, subject: &Subject, usage: Usage, now: Instant) -> Figures {
        let lived = Duration::from_millis(status::now_ms().saturating_sub(subject.started_at_ms));
        let refused = |before| subject.group.pids_limit_hits().saturating_sub(before);
        Figures {
            memory: usage.memory,
            cpu_us: usage.cpu_us,
            cpu_millis: usage.cpu_us.and_then(|cpu_us| self.rate(subject.run, cpu_us, now, lived)),
            pids: usage.pids.and_then(|pids| u32::try_from(pids).ok()),
            pids_refused: subject.pids_refused_before.map(refused).filter(|refused| *refused > 0),
        }
    }

    /// Thousandths of a CPU since the last reading; at the first one, since the run began.
    fn rate(&self, run: RunId, cpu_us: u64, now: Instant, lived: Duration) -> Option<u32> {
        let mut readings = self.readings();
        let last = readings.get(&run).copied();
        let (passed, used_us) = match last {
            Some(last) => (now.saturating_duration_since(last.at), cpu_us.saturating_sub(last.cpu_us)),
            None => (lived, cpu_us),
        };
        let millis = (passed >= RATE_OVER_MIN)
            .then(|| u32::try_from(u128::from(used_us) * 1000 / passed.as_micros()).ok())
            .flatten();
        match last {
            Some(last) if passed < RATE_OVER_MIN => last.millis,
            Some(_) | None => {
                readings.insert(run, Reading { at: now, cpu_us, millis });
                millis
            }
        }
    }

    fn readings(&self) -> std::sync::MutexGuard<'_, BTreeMap<RunId, Reading>> {
        // Nothing in there can stop halfway.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All processes of the host by their parents, read in one pass.
#[derive(Debug, Default)]
struct Processes {
    children: BTreeMap<u32, Vec<u32>>,
    stats: BTreeMap<u32, Stat>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stat {
    parent: u32,
    cpu_ticks: u64,
    threads: u64,
    resident_pages: u64,
}

impl Processes {
    fn read() -> Processes {
        let mut all = Processes::default();
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        for pid in pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            // One that ends meanwhile is left out.
            let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let Some(stat) = Stat::parse(&text) else { continue };
            all.children.entry(stat.parent).or_default().push(pid);
            all.stats.insert(pid, stat);
        }
        all
    }

    /// What a process and everything that descends from it use; nothing is known of one that is not shown (hidepid of proc(5)).
    fn usage(&self, main: u32) -> Usage {
        if !self.stats.contains_key(&main) {
            return Usage::default();
        }
        let (mut ticks, mut pages, mut threads) = (0, 0, 0);
        let mut left = vec![main];
        while let Some(pid) = left.pop() {
            if let Some(stat) = self.stats.get(&pid) {
                ticks += stat.cpu_ticks;
                pages += stat.resident_pages;
                threads += stat.threads;
            }
            left.extend(self.children.get(&pid).into_iter().flatten());
        }
        Usage {
            memory: Some(pages * PAGE_SIZE),
            memory_peak: None,
            cpu_us: Some(ticks * (1_000_000 / TICKS_PER_SECOND)),
            pids: Some(threads),
        }
    }
}

impl Stat {
    /// `/proc/<pid>/stat` (proc_pid_stat(5)). The name in brackets may hold anything, brackets too.
    fn parse(text: &str) -> Option<Stat> {
        let (_, rest) = text.rsplit_once(')')?;
        // Field 3 is the first behind the name.
        let field = |number: usize| rest.split_ascii_whitespace().nth(number - 3)?.parse::<u64>().ok();
        Some(Stat {
            parent: u32::try_from(field(4)?).ok()?,
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            resident_pages: field(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_use_is_a_rate_between_two_readings() {
        let (meter, run, start) = (Meter::default(), RunId(1), Instant::now());
        let ms = Duration::from_millis;
        let rate = |cpu_us, at| meter.rate(run, cpu_us, start + ms(at), ms(at));
        assert_eq!(rate(1_000_000, 0), None);
        assert_eq!(rate(1_200_000, 500), None, "too early to tell");
        assert_eq!(rate(2_000_000, 2000), Some(500));
        assert_eq!(rate(9_000_000, 2100), Some(500), "the last rate stands");
        assert_eq!(rate(0, 4000), Some(0), "a counter that went back");
        assert_eq!(
            meter.rate(RunId(2), 500_000, start, ms(2000)),
            Some(250),
            "at the first look, of its whole life"
        );
    }

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_hide_the_numbers() {
        let text = "42 (a ) S 9) S 7 42 42 0 -1 4194304 1 0 0 0 11 22 0 0 20 0 3 0 100 9999 555 0";
        let expected = Stat { parent: 7, cpu_ticks: 33, threads: 3, resident_pages: 555 };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("42 (x) S 7"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn we_are_among_the_processes() {
        let usage = Processes::read().usage(std::process::id());
        assert!(usage.memory > Some(0) && usage.pids > Some(0), "{usage:?}");
        assert_eq!(Processes::default().usage(std::process::id()), Usage::default(), "one that is not shown");
    }
}
