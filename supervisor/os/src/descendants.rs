//! Finding and ending all processes of a run where no cgroup can hold them: an ordinary user without delegation.
//!
//! A process belongs to a run when it descends from the run's main process, or when it is an orphan that has one of the
//! run's marks: it is in a namespace made for the run, in the session of the main process, or was started with the
//! run's environment entry. Each mark can be shed by a process that tries (weak containment, which `status` says),
//! but forking twice, a new session and a changed environment together leave the namespaces. Where an ancestor is
//! given (the spawner, to which orphans are reparented), nothing outside of its descendants is ever touched.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
};

use crate::{namespace, pidfd, process_info::Stat};

/// What the processes of a run can be told by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Marks {
    /// The main process; 0 where only the environment is known.
    pub main: u32,
    /// When that started ([`crate::process_info::start_time`]); its number may mean another process by now.
    pub main_started: u64,
    /// Namespaces made for the run.
    pub namespaces: Vec<namespace::Id>,
    /// An entry of the environment that no other run has.
    pub environment: Option<Environment>,
    /// A later main process and when that started, which has these marks or not.
    pub later: Option<(u32, u64)>,
    /// Whom all of the run's processes descend from, orphans included.
    pub ancestor: Option<u32>,
}

/// An entry of the environment a process was started with, `NAME=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Environment {
    /// This one.
    Entry(Vec<u8>),
    /// Any that begins like this.
    Beginning(Vec<u8>),
}

impl Environment {
    fn is(&self, entry: &[u8]) -> bool {
        match self {
            Environment::Entry(whole) => entry == whole,
            Environment::Beginning(beginning) => entry.starts_with(beginning),
        }
    }
}

/// How often the stopping pass looks for processes that were forked meanwhile.
const PASSES_MAX: usize = 64;

/// How often /proc is listed for one look. A host on which processes come and go all the time never has nothing new.
const LISTINGS_MAX: usize = 32;

/// The most of an environment that is searched, in bytes.
const ENVIRONMENT_SIZE_MAX: u64 = 256 << 10;

/// The processes of a run that have not ended, the main process included.
///
/// # Errors
/// When /proc cannot be read.
pub fn find(marks: &Marks) -> io::Result<BTreeSet<u32>> {
    Ok(select(&table()?, marks).into_keys().collect())
}

/// Whether a process belongs to a run and has not ended, as a look at it and those above it tells.
pub fn is_one(pid: u32, marks: &Marks) -> bool {
    let mut table = BTreeMap::new();
    for first in [pid, marks.main] {
        let mut next = first;
        // A loop cannot be, but the looks are not of one instant.
        while next != 0 && !table.contains_key(&next) {
            let Ok(stat) = Stat::of(next) else { break };
            table.insert(next, stat);
            next = stat.parent;
        }
    }
    select(&table, marks).contains_key(&pid)
}

/// Sends a signal to every process of a run, once.
///
/// # Errors
/// When /proc cannot be read.
pub fn signal(marks: &Marks, signal: i32) -> io::Result<()> {
    for (pid, stat) in select(&table()?, marks) {
        signal_one(pid, &stat, signal);
    }
    Ok(())
}

/// Kills every process of a run: stops them all first, so that none forks away from the killing, and looks again until no
/// new one turns up. Returns how many were signalled; 0 says that the run is empty. Call it again until then.
///
/// # Errors
/// When /proc cannot be read.
pub fn kill(marks: &Marks) -> io::Result<usize> {
    let mut stopped = BTreeMap::new();
    for _ in 0..PASSES_MAX {
        let mut found = select(&table()?, marks);
        found.retain(|pid, stat| stopped.get(pid) != Some(&stat.started));
        if found.is_empty() {
            break;
        }
        for (pid, stat) in found {
            signal_one(pid, &stat, libc::SIGSTOP);
            stopped.insert(pid, stat.started);
        }
    }
    let left = select(&table()?, marks);
    for (pid, stat) in &left {
        signal_one(*pid, stat, libc::SIGKILL);
    }
    Ok(left.len())
}

/// Signals a process if it is still the one that was looked at. Failing means that it has gone, or that it became another
/// user's (a set-user-ID program), which nobody but root can end.
fn signal_one(pid: u32, expected: &Stat, signal: i32) {
    let Ok(process) = pidfd::open(pid) else { return };
    // The pidfd is held first: if the start time is right now, the pidfd refers to that process or to none.
    if Stat::of(pid).is_ok_and(|stat| stat.started == expected.started) {
        let _ = pidfd::send_signal(&process, signal);
    }
}

/// Every process of the host by number.
///
/// A process that forks and exits between the listing and the look at it is missed, and its child was not listed yet. So the
/// listing is repeated until it has nothing new: every process that was there at the last one was looked at.
fn table() -> io::Result<BTreeMap<u32, Stat>> {
    let mut table = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for _ in 0..LISTINGS_MAX {
        let entries = fs::read_dir("/proc")?.flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let new: Vec<u32> = pids.filter(|pid| seen.insert(*pid)).collect();
        if new.is_empty() {
            break;
        }
        table.extend(new.into_iter().filter_map(|pid| Some((pid, Stat::of(pid).ok()?))));
    }
    Ok(table)
}

/// Those of the table that belong to the run and have not ended.
fn select(table: &BTreeMap<u32, Stat>, marks: &Marks) -> BTreeMap<u32, Stat> {
    let ours = std::process::id();
    let in_reach = |pid: u32| marks.ancestor.is_none_or(|ancestor| descends(table, pid, ancestor));
    let marked: BTreeSet<u32> = table
        .iter()
        .filter(|(pid, stat)| **pid != ours && in_reach(**pid) && is_marked(**pid, stat, table, marks))
        .map(|(pid, _)| *pid)
        .collect();
    // Children of a marked process are the run's as well, whatever marks they shed.
    let belongs = |pid: u32| pid != ours && lineage(table, pid).any(|above| marked.contains(&above));
    table
        .iter()
        .filter(|(pid, stat)| !stat.has_ended() && belongs(**pid))
        .map(|(pid, stat)| (*pid, *stat))
        .collect()
}

fn is_marked(pid: u32, stat: &Stat, table: &BTreeMap<u32, Stat>, marks: &Marks) -> bool {
    if pid == marks.main {
        return stat.started == marks.main_started;
    }
    if marks.later == Some((pid, stat.started)) {
        return true;
    }
    // Nothing of the run can be older than its first process.
    if stat.started < marks.main_started {
        return false;
    }
    // A session's number stays taken while the session has members, unless its leader is another process by now.
    // 0 is the session of the kernel's own threads, and of those that were started outside of a PID namespace.
    let leader = table.get(&marks.main);
    let in_session = marks.main != 0
        && stat.session == marks.main
        && leader.is_none_or(|stat| stat.started == marks.main_started);
    in_session
        || marks
            .namespaces
            .iter()
            .any(|id| namespace::Id::of_process(pid, id.kind).is_ok_and(|own| own == *id))
        || marks.environment.as_ref().is_some_and(|entry| was_started_with(pid, entry))
}

fn was_started_with(pid: u32, wanted: &Environment) -> bool {
    use std::io::Read;
    let mut environment = Vec::new();
    let file = fs::File::open(format!("/proc/{pid}/environ"));
    let read = file.and_then(|file| file.take(ENVIRONMENT_SIZE_MAX).read_to_end(&mut environment));
    read.is_ok() && environment.split(|byte| *byte == 0).any(|entry| wanted.is(entry))
}

/// Whether `ancestor` is strictly above `pid`.
fn descends(table: &BTreeMap<u32, Stat>, pid: u32, ancestor: u32) -> bool {
    lineage(table, pid).skip(1).any(|above| above == ancestor)
}

/// A process, its parent, and so on. The table is not of one instant, so even a loop is possible and has to end.
fn lineage(table: &BTreeMap<u32, Stat>, pid: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(pid), |pid| Some(table.get(pid)?.parent)).take(table.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, session: u32, started: u64, state: u8) -> (u32, Stat) {
        (pid, Stat { state, parent, session, started })
    }

    /// Numbers far above what this host can have, so that no mark is looked up in a real /proc entry.
    const SPAWNER: u32 = 900_000_000;
    const MAIN: u32 = SPAWNER + 1;

    fn check(processes: &[(u32, Stat)], ancestor: Option<u32>, expected: &[u32]) {
        let marks = Marks { main: MAIN, main_started: 100, ancestor, ..Marks::default() };
        let table = processes.iter().copied().collect();
        let found: Vec<u32> = select(&table, &marks).into_keys().collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn descendants_and_orphans_of_the_session_belong_to_the_run() {
        check(
            &[
                process(SPAWNER, 1, SPAWNER, 50, b'S'),
                process(MAIN, SPAWNER, MAIN, 100, b'S'),
                process(MAIN + 1, MAIN, MAIN + 1, 110, b'S'), // a child with its own session
                process(MAIN + 2, MAIN + 1, MAIN + 1, 111, b'S'),
                process(MAIN + 3, SPAWNER, MAIN, 112, b'S'), // an orphan that kept the session
                process(MAIN + 4, SPAWNER, MAIN + 4, 113, b'S'), // another run
                process(MAIN + 5, MAIN, MAIN, 114, b'Z'),
            ],
            Some(SPAWNER),
            &[MAIN, MAIN + 1, MAIN + 2, MAIN + 3],
        );
    }

    #[test]
    fn a_later_main_process_belongs_to_the_run_whatever_marks_it_shed() {
        let table = [
            process(SPAWNER, 1, SPAWNER, 50, b'S'),
            process(MAIN + 1, SPAWNER, MAIN + 1, 110, b'S'),
            process(MAIN + 2, MAIN + 1, MAIN + 1, 111, b'S'),
        ];
        let found = |later| {
            let ancestor = Some(SPAWNER);
            let marks = Marks { main: MAIN, main_started: 100, later, ancestor, ..Marks::default() };
            select(&table.into(), &marks).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(found(Some((MAIN + 1, 110))), [MAIN + 1, MAIN + 2]);
        assert_eq!(found(Some((MAIN + 1, 109))), [0; 0], "another process has its number");
        assert_eq!(found(None), [0; 0]);
    }

    #[test]
    fn a_reused_number_is_another_process() {
        check(
            &[
                process(SPAWNER, 1, SPAWNER, 50, b'S'),
                process(MAIN, SPAWNER, MAIN, 700, b'S'),
                process(MAIN + 1, MAIN, MAIN, 701, b'S'),
            ],
            Some(SPAWNER),
            &[],
        );
    }

    #[test]
    fn nothing_outside_of_the_ancestor_is_touched() {
        let processes = [
            process(1, 0, 1, 1, b'S'),
            process(MAIN, 1, MAIN, 100, b'S'),
            process(MAIN + 1, 1, MAIN, 101, b'S'),
        ];
        check(&processes, Some(SPAWNER), &[]);
        check(&processes, None, &[MAIN, MAIN + 1]);
    }

    #[test]
    fn without_a_main_process_no_session_is_meant() {
        let table = [process(2, 0, 0, 1, b'S'), process(SPAWNER, 0, 0, 50, b'S')].into();
        let environment = Some(Environment::Beginning(b"WATT_RUN=".into()));
        assert_eq!(select(&table, &Marks { environment, ..Marks::default() }), BTreeMap::new());
    }

    #[test]
    fn a_table_with_a_loop_ends() {
        let processes =
            [process(MAIN, MAIN + 1, MAIN, 100, b'S'), process(MAIN + 1, MAIN, MAIN + 1, 100, b'S')];
        check(&processes, Some(SPAWNER), &[]);
        check(&processes, None, &[MAIN, MAIN + 1]);
    }
}
