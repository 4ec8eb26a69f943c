//! Setting limits, at the start and in place, and saying which ones this host does not enforce.

use std::{fmt, io, path::Path};

use super::{Controller, Group, file};

/// What a worker may use. `None` is no limit of ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes of memory. Swap is off for a worker with this limit: it is meant as a bound, not as a push to disk.
    pub memory: Option<u64>,
    /// Bytes above which the kernel slows the worker down and reclaims.
    pub memory_high: Option<u64>,
    /// Thousandths of one CPU.
    pub cpu_millis: Option<u32>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Whether an out-of-memory kill takes the whole worker. v1 knows no such thing: there the one who notices
    /// the kill ends the rest.
    pub oom_group: bool,
}

/// A limit by its name in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "as in Limits")]
pub enum LimitName {
    Memory,
    MemoryHigh,
    Swap,
    Cpu,
    Pids,
    OomGroup,
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LimitName::Memory => "memory",
            LimitName::MemoryHigh => "memory_high",
            LimitName::Swap => "no swap",
            LimitName::Cpu => "cpu",
            LimitName::Pids => "pids",
            LimitName::OomGroup => "oom_group",
        })
    }
}

/// A limit that the host does not enforce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unenforced {
    /// Which.
    pub limit: LimitName,
    /// Why not.
    pub reason: Reason,
}

/// Why a limit is not enforced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// There is no cgroup for the worker.
    NoCgroup,
    /// The controller is not there: not in the kernel, or not delegated to us.
    NoController(&'static str),
    /// v1 has nothing but a soft limit, which acts when the whole host is short of memory.
    OnlySoft,
    /// The kernel refused the value.
    Refused {
        /// The file it was written to.
        file: &'static str,
        /// An error number of errno(3).
        errno: i32,
    },
}

impl fmt::Display for Unenforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not enforced: {}", self.limit, self.reason)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoCgroup => write!(f, "no cgroup can be made here"),
            Reason::NoController(name) => write!(f, "the cgroup controller {name} is not available"),
            Reason::OnlySoft => write!(f, "cgroup v1 has a soft limit only"),
            Reason::Refused { file, errno } => {
                write!(f, "writing {file} failed: {}", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

impl Group {
    /// Makes these the limits of the group, whatever they were before. Returns those that are not enforced.
    pub fn set_limits(&self, limits: &Limits) -> Vec<Unenforced> {
        let mut missing = Vec::new();
        self.set_memory(limits, &mut missing);
        self.set_memory_high(limits, &mut missing);
        self.set_cpu(limits, &mut missing);
        self.set_pids(limits, &mut missing);
        missing
    }

    fn set_memory(&self, limits: &Limits, missing: &mut Vec<Unenforced>) {
        let wanted = limits.memory.is_some();
        if let Some(dir) = self.legacy.get(&Controller::Memory) {
            let set = set_legacy_memory(dir, limits.memory);
            note(missing, LimitName::Memory, wanted, "memory", set);
        } else if let Some(dir) = &self.unified {
            let value = or_max(limits.memory);
            note(missing, LimitName::Memory, wanted, "memory", write(dir, "memory.max", &value));
            let swap = if wanted { "0" } else { "max" };
            // Absent from a kernel without swap, where nothing needs to be forbidden.
            let set = write(dir, "memory.swap.max", swap).or_else(absent_is_fine);
            note(missing, LimitName::Swap, wanted, "memory", set);
            let group = if limits.oom_group { "1" } else { "0" };
            // Without a limit of its own a worker is rarely the one the kernel chooses: not worth a warning.
            let wanted = wanted && limits.oom_group;
            note(missing, LimitName::OomGroup, wanted, "memory", write(dir, "memory.oom.group", group));
        } else if wanted {
            missing.push(Unenforced { limit: LimitName::Memory, reason: self.absence("memory") });
        }
    }

    fn set_memory_high(&self, limits: &Limits, missing: &mut Vec<Unenforced>) {
        let wanted = limits.memory_high.is_some();
        if let Some(dir) = self.legacy.get(&Controller::Memory) {
            let set = write(dir, "memory.soft_limit_in_bytes", &or_minus_one(limits.memory_high));
            let set = set.or_else(absent_is_fine);
            note(missing, LimitName::MemoryHigh, wanted, "memory", set);
            if wanted && !missing.iter().any(|entry| entry.limit == LimitName::MemoryHigh) {
                missing.push(Unenforced { limit: LimitName::MemoryHigh, reason: Reason::OnlySoft });
            }
        } else if let Some(dir) = &self.unified {
            let set = write(dir, "memory.high", &or_max(limits.memory_high));
            note(missing, LimitName::MemoryHigh, wanted, "memory", set);
        } else if wanted {
            missing.push(Unenforced { limit: LimitName::MemoryHigh, reason: self.absence("memory") });
        }
    }

    fn set_cpu(&self, limits: &Limits, missing: &mut Vec<Unenforced>) {
        let wanted = limits.cpu_millis.is_some();
        let period_us = period_us(limits.cpu_millis);
        let quota_us = limits.cpu_millis.map(|millis| u64::from(millis) * period_us / 1000);
        if let Some(dir) = self.legacy.get(&Controller::Cpu) {
            let set = write(dir, "cpu.cfs_period_us", &period_us.to_string())
                .and_then(|()| write(dir, "cpu.cfs_quota_us", &or_minus_one(quota_us)));
            note(missing, LimitName::Cpu, wanted, "cpu", set);
        } else if let Some(dir) = &self.unified {
            let value = format!("{} {period_us}", or_max(quota_us));
            note(missing, LimitName::Cpu, wanted, "cpu", write(dir, "cpu.max", &value));
        } else if wanted {
            missing.push(Unenforced { limit: LimitName::Cpu, reason: self.absence("cpu") });
        }
    }

    fn set_pids(&self, limits: &Limits, missing: &mut Vec<Unenforced>) {
        let wanted = limits.pids.is_some();
        // The same file in both versions.
        match self.legacy.get(&Controller::Pids).or(self.unified.as_ref()) {
            Some(dir) => {
                let set = write(dir, "pids.max", &or_max(limits.pids.map(u64::from)));
                note(missing, LimitName::Pids, wanted, "pids", set);
            }
            None if wanted => {
                missing.push(Unenforced { limit: LimitName::Pids, reason: self.absence("pids") });
            }
            None => {}
        }
    }

    fn absence(&self, controller: &'static str) -> Reason {
        if self.is_usable() { Reason::NoController(controller) } else { Reason::NoCgroup }
    }
}

/// v1 counts memory, and memory with swap; the second may never be below the first, so which is written first
/// depends on the direction of the change.
fn set_legacy_memory(dir: &Path, bytes: Option<u64>) -> Result<(), Refused> {
    let value = or_minus_one(bytes);
    let first_try = write(dir, "memory.limit_in_bytes", &value);
    // Absent when swap is not accounted; then the limit holds for memory alone.
    write(dir, "memory.memsw.limit_in_bytes", &value).or_else(absent_is_fine)?;
    match first_try {
        Ok(()) => Ok(()),
        Err(_) => write(dir, "memory.limit_in_bytes", &value),
    }
}

/// The time a CPU quota is counted over. The kernel wants a quota of at least 1 ms and a period of at most 1 s
/// (cgroup-v2.rst, "cpu.max"), so a tiny share needs the longest period; all others get the kernel's default.
fn period_us(cpu_millis: Option<u32>) -> u64 {
    match cpu_millis {
        Some(..10) => 1_000_000,
        _ => 100_000,
    }
}

fn or_max(value: Option<u64>) -> String {
    value.map_or_else(|| "max".into(), |value| value.to_string())
}

fn or_minus_one(value: Option<u64>) -> String {
    value.map_or_else(|| "-1".into(), |value| value.to_string())
}

/// A write that failed.
struct Refused {
    file: &'static str,
    error: io::Error,
}

fn write(dir: &Path, file: &'static str, value: &str) -> Result<(), Refused> {
    file::write(&dir.join(file), value).map_err(|error| Refused { file, error })
}

fn absent_is_fine(refused: Refused) -> Result<(), Refused> {
    if refused.error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(refused) }
}

/// Adds a wanted limit that could not be set to the list. A limit that is not wanted and cannot be lifted was
/// never there.
fn note(
    missing: &mut Vec<Unenforced>,
    limit: LimitName,
    wanted: bool,
    controller: &'static str,
    set: Result<(), Refused>,
) {
    let Err(Refused { file, error }) = set else { return };
    if !wanted {
        return;
    }
    let reason = match error.kind() {
        io::ErrorKind::NotFound => Reason::NoController(controller),
        _ => Reason::Refused { file, errno: error.raw_os_error().unwrap_or(libc::EIO) },
    };
    missing.push(Unenforced { limit, reason });
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;

    const V2_FILES: [&str; 6] =
        ["memory.max", "memory.high", "memory.swap.max", "memory.oom.group", "cpu.max", "pids.max"];

    fn all() -> Limits {
        Limits {
            memory: Some(64 << 20),
            memory_high: Some(32 << 20),
            cpu_millis: Some(1500),
            pids: Some(100),
            oom_group: true,
        }
    }

    /// A directory with these files, standing for a cgroup.
    fn directory(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(dir.path().join(file), "").unwrap();
        }
        dir
    }

    #[test]
    fn v2_values_are_written_and_lifted() {
        let dir = directory(&V2_FILES);
        let group = Group { unified: Some(dir.path().into()), legacy: BTreeMap::new() };
        let check = |limits: &Limits, expected: [&str; 6]| {
            // A fake file keeps the tail of a longer value, which the kernel's do not.
            V2_FILES.iter().for_each(|file| fs::write(dir.path().join(file), "").unwrap());
            assert_eq!(group.set_limits(limits), []);
            let written = V2_FILES.map(|file| fs::read_to_string(dir.path().join(file)).unwrap());
            assert_eq!(written, expected);
        };
        check(&all(), ["67108864", "33554432", "0", "1", "150000 100000", "100"]);
        check(&Limits::default(), ["max", "max", "max", "0", "max 100000", "max"]);
        check(
            &Limits { cpu_millis: Some(1), ..Limits::default() },
            ["max", "max", "max", "0", "1000 1000000", "max"],
        );
    }

    #[test]
    fn a_controller_that_is_not_delegated_is_named() {
        let dir = directory(&["pids.max"]);
        let group = Group { unified: Some(dir.path().into()), legacy: BTreeMap::new() };
        let missing: Vec<String> = group.set_limits(&all()).iter().map(ToString::to_string).collect();
        assert_eq!(
            missing,
            [
                "memory is not enforced: the cgroup controller memory is not available",
                "oom_group is not enforced: the cgroup controller memory is not available",
                "memory_high is not enforced: the cgroup controller memory is not available",
                "cpu is not enforced: the cgroup controller cpu is not available",
            ]
        );
        assert_eq!(group.set_limits(&Limits::default()), []);
    }

    #[test]
    fn without_any_cgroup_each_limit_is_named() {
        let missing = Group::default().set_limits(&all());
        let names: Vec<LimitName> = missing.iter().map(|entry| entry.limit).collect();
        assert_eq!(names, [LimitName::Memory, LimitName::MemoryHigh, LimitName::Cpu, LimitName::Pids]);
        assert!(missing.iter().all(|entry| entry.reason == Reason::NoCgroup));
    }

    #[test]
    fn v1_has_no_high_limit() {
        let dir = directory(&["memory.limit_in_bytes", "memory.soft_limit_in_bytes"]);
        let group = Group { unified: None, legacy: [(Controller::Memory, dir.path().into())].into() };
        let limits = Limits { memory_high: Some(4096), ..Limits::default() };
        let expected = Unenforced { limit: LimitName::MemoryHigh, reason: Reason::OnlySoft };
        assert_eq!(group.set_limits(&limits), [expected]);
        assert_eq!(fs::read_to_string(dir.path().join("memory.soft_limit_in_bytes")).unwrap(), "4096");
    }
}
