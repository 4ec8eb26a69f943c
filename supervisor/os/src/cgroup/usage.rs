//! What a worker uses, and what its limits did to it.

use std::path::{Path, PathBuf};

use super::{Controller, Group, file};

/// What the processes of a group use now. `None` where the host does not count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Bytes of memory, the page cache of its files included.
    pub memory: Option<u64>,
    /// The highest of those bytes so far.
    pub memory_peak: Option<u64>,
    /// CPU time so far, in microseconds, of processes that have ended too.
    pub cpu_us: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// How often the limits of a group acted, since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Events {
    /// Processes killed for memory.
    pub oom_kills: u64,
    /// Times the memory limit was met, by reclaim too. Recent kernels leave it at 0 on v1 (seen with 6.18).
    pub memory_limit_hits: u64,
    /// Times it was slowed down at `memory_high`; v1 has no such limit.
    pub memory_high_hits: u64,
    /// Forks refused for the limit of processes.
    pub pids_limit_hits: u64,
    /// Periods in which it had something to run, where its CPU time is limited (`nr_periods` of `cpu.stat`).
    pub cpu_periods: u64,
    /// Those in which its CPU time was used up (`nr_throttled`).
    pub cpu_throttled: u64,
    /// How long it waited in them, in microseconds.
    pub cpu_throttled_us: u64,
}

/// What the kernel tells of a group's own limit of processes.
pub(super) const OWN_PIDS_EVENTS: &str = "pids.events.local";

impl Group {
    /// Reads what it uses.
    pub fn usage(&self) -> Usage {
        let v1 = |controller, name: &str| file::number(&self.legacy.get(&controller)?.join(name));
        let v2 = |name: &str| file::number(&self.unified.as_ref()?.join(name));
        Usage {
            memory: v1(Controller::Memory, "memory.usage_in_bytes").or_else(|| v2("memory.current")),
            memory_peak: v1(Controller::Memory, "memory.max_usage_in_bytes").or_else(|| v2("memory.peak")),
            // v2 counts CPU time without its controller as well, so hybrid hosts have it.
            cpu_us: self.unified.as_deref().and_then(unified_cpu_us).or_else(|| {
                let nanoseconds = v1(Controller::Cpuacct, "cpuacct.usage")?;
                Some(nanoseconds / 1000)
            }),
            pids: v1(Controller::Pids, "pids.current")
                .or_else(|| v2("pids.current"))
                .or_else(|| unified_threads(self.unified.as_deref()?)),
        }
    }

    /// Reads how many bytes of [`Usage::memory`] are files that the kernel gives back when memory is needed; those of tmpfs are not among
    /// them. `None` where that is not counted.
    pub fn file_cache(&self) -> Option<u64> {
        let (dir, below) = match (self.legacy.get(&Controller::Memory), &self.unified) {
            // v1 has sums of the groups below under names of their own.
            (Some(dir), _) => (dir, "total_"),
            (None, Some(dir)) => (dir, ""),
            (None, None) => return None,
        };
        let text = file::read(&dir.join("memory.stat")).ok()?;
        let bytes = |list| file::keyed(&text, &format!("{below}{list}_file"));
        Some(bytes("inactive")?.saturating_add(bytes("active")?))
    }

    /// Reads what its limits did. Has to happen before the group is removed.
    pub fn events(&self) -> Events {
        let memory = match (self.legacy.get(&Controller::Memory), &self.unified) {
            (Some(dir), _) => legacy_memory_events(dir),
            (None, Some(dir)) => unified_memory_events(dir),
            (None, None) => Events::default(),
        };
        Events { pids_limit_hits: self.pids_limit_hits(), ..self.cpu_throttled(memory) }
    }

    /// Reads [`Events::oom_kills`] alone.
    pub fn oom_kills(&self) -> u64 {
        let count = match (self.legacy.get(&Controller::Memory), &self.unified) {
            (Some(dir), _) => legacy_oom_kills(dir),
            (None, Some(dir)) => value(dir, "memory.events", "oom_kill"),
            (None, None) => None,
        };
        count.unwrap_or(0)
    }

    /// How often memory ended at this group's own limit, whoever was killed for it then (`oom` of `memory.events.local`, since
    /// Linux 5.2). `None` where the kernel does not say: on v1.
    pub fn memory_ended(&self) -> Option<u64> {
        let v2 = self.unified.as_ref().filter(|_| !self.legacy.contains_key(&Controller::Memory))?;
        value(v2, "memory.events.local", "oom")
    }

    /// Reads [`Events::pids_limit_hits`] alone. Before Linux 6.11 and on v1 these are forks in this group, whoever's limit
    /// refused them; since then those that the limit of this group or of one below refused (cgroup-v2.rst, `pids.events`).
    pub fn pids_limit_hits(&self) -> u64 {
        self.pids_directory().and_then(|dir| value(dir, "pids.events", "max")).unwrap_or(0)
    }

    /// Forks that this group's own limit refused, whoever in it or below forked. `None` before Linux 6.11 and on v1, where
    /// nobody counts that.
    pub fn pids_own_limit_hits(&self) -> Option<u64> {
        value(self.pids_directory()?, OWN_PIDS_EVENTS, "max")
    }

    /// The most processes and threads it has had at a time; where the kernel does not keep that (before Linux 6.1), those it
    /// has now.
    pub fn pids_peak(&self) -> Option<u64> {
        let dir = self.pids_directory()?;
        file::number(&dir.join("pids.peak")).or_else(|| file::number(&dir.join("pids.current")))
    }

    /// Reads [`Events::cpu_throttled`], of how many periods, and how long that was.
    fn cpu_throttled(&self, others: Events) -> Events {
        let (dir, key, per_us) = match (self.legacy.get(&Controller::Cpu), &self.unified) {
            // v1 counts in nanoseconds (scheduler/sched-bwc.rst).
            (Some(dir), _) => (dir, "throttled_time", 1000),
            (None, Some(dir)) => (dir, "throttled_usec", 1),
            (None, None) => return others,
        };
        let text = file::read(&dir.join("cpu.stat")).unwrap_or_default();
        let number = |key| file::keyed(&text, key).unwrap_or(0);
        Events {
            cpu_periods: number("nr_periods"),
            cpu_throttled: number("nr_throttled"),
            cpu_throttled_us: number(key) / per_us,
            ..others
        }
    }

    /// Where processes are counted.
    pub(super) fn pids_directory(&self) -> Option<&PathBuf> {
        self.legacy.get(&Controller::Pids).or(self.unified.as_ref())
    }
}

/// v2 lists the threads of each group without a controller.
fn unified_threads(dir: &Path) -> Option<u64> {
    let threads = file::read(&dir.join("cgroup.threads")).ok()?;
    let below = file::subdirectories(dir).into_iter().filter_map(|name| unified_threads(&dir.join(name)));
    u64::try_from(threads.lines().count()).ok().map(|own| own + below.sum::<u64>())
}

fn unified_cpu_us(dir: &Path) -> Option<u64> {
    value(dir, "cpu.stat", "usage_usec")
}

fn legacy_memory_events(dir: &Path) -> Events {
    Events {
        oom_kills: legacy_oom_kills(dir).unwrap_or(0),
        // Both limits have the same value, and which of them is met first is the kernel's affair.
        memory_limit_hits: ["memory.failcnt", "memory.memsw.failcnt"]
            .iter()
            .filter_map(|name| file::number(&dir.join(name)))
            .fold(0, u64::saturating_add),
        ..Events::default()
    }
}

/// Counted since Linux 4.13.
fn legacy_oom_kills(dir: &Path) -> Option<u64> {
    value(dir, "memory.oom_control", "oom_kill")
}

fn unified_memory_events(dir: &Path) -> Events {
    let text = file::read(&dir.join("memory.events")).unwrap_or_default();
    Events {
        oom_kills: file::keyed(&text, "oom_kill").unwrap_or(0),
        memory_limit_hits: file::keyed(&text, "max").unwrap_or(0),
        memory_high_hits: file::keyed(&text, "high").unwrap_or(0),
        ..Events::default()
    }
}

fn value(dir: &Path, name: &str, key: &str) -> Option<u64> {
    file::keyed(&file::read(&dir.join(name)).ok()?, key)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;

    #[test]
    fn v2_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        put("memory.current", "1048576\n");
        put("memory.peak", "2097152\n");
        put("cpu.stat", "usage_usec 77\nnr_periods 8\nnr_throttled 5\nthrottled_usec 600\n");
        put("pids.current", "3\n");
        put("memory.events", "low 0\nhigh 3\nmax 9\noom 2\noom_kill 1\noom_group_kill 1\n");
        put("memory.events.local", "low 0\nhigh 3\nmax 9\noom 7\noom_kill 1\n");
        put("pids.events", "max 4\n");
        put("pids.events.local", "max 3\n");
        let group = Group { unified: Some(dir.path().into()), legacy: BTreeMap::new() };
        let expected =
            Usage { memory: Some(1 << 20), memory_peak: Some(2 << 20), cpu_us: Some(77), pids: Some(3) };
        assert_eq!(group.usage(), expected);
        let expected = Events {
            oom_kills: 1,
            memory_limit_hits: 9,
            memory_high_hits: 3,
            pids_limit_hits: 4,
            cpu_periods: 8,
            cpu_throttled: 5,
            cpu_throttled_us: 600,
        };
        assert_eq!(group.events(), expected);
        assert_eq!(group.oom_kills(), 1);
        assert_eq!((group.memory_ended(), group.pids_own_limit_hits()), (Some(7), Some(3)));
        assert_eq!(group.pids_peak(), Some(3), "as many as there are");
        put("pids.peak", "12\n");
        assert_eq!(group.pids_peak(), Some(12));
    }

    #[test]
    fn files_that_are_kept_in_memory_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let text =
            "file 900\ninactive_file 30\nactive_file 12\ntotal_inactive_file 300\ntotal_active_file 120\n";
        fs::write(dir.path().join("memory.stat"), text).unwrap();
        let unified = Group { unified: Some(dir.path().into()), legacy: BTreeMap::new() };
        assert_eq!(unified.file_cache(), Some(42));
        let legacy = [(Controller::Memory, dir.path().into())].into();
        assert_eq!(Group { unified: None, legacy }.file_cache(), Some(420), "with the groups below");
        assert_eq!(Group::default().file_cache(), None);
    }

    #[test]
    fn what_is_not_counted_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("pids.current"), "nonsense").unwrap();
        let group = Group { unified: Some(dir.path().into()), legacy: BTreeMap::new() };
        assert_eq!(group.usage(), Usage::default());
        assert_eq!(group.events(), Events::default());
        assert_eq!(
            (group.memory_ended(), group.pids_own_limit_hits(), group.pids_peak()),
            (None, None, None)
        );
        assert_eq!(Group::default().usage(), Usage::default());
    }
}
