//! What a limit is called, and why one is not enforced.

use std::{fmt, io};

/// A limit by its name in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "as in Limits")]
pub enum LimitName {
    Memory,
    MemoryHigh,
    MemoryLow,
    MemoryMin,
    Swap,
    Cpu,
    CpuWeight,
    Cpuset,
    Pids,
    IoWeight,
    Io,
    Hugetlb,
    OomGroup,
}

impl LimitName {
    /// Every one.
    pub const ALL: [LimitName; 13] = [
        LimitName::Memory,
        LimitName::MemoryHigh,
        LimitName::MemoryLow,
        LimitName::MemoryMin,
        LimitName::Swap,
        LimitName::Cpu,
        LimitName::CpuWeight,
        LimitName::Cpuset,
        LimitName::Pids,
        LimitName::IoWeight,
        LimitName::Io,
        LimitName::Hugetlb,
        LimitName::OomGroup,
    ];
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LimitName::Memory => "memory",
            LimitName::MemoryHigh => "memory_high",
            LimitName::MemoryLow => "memory_low",
            LimitName::MemoryMin => "memory_min",
            LimitName::Swap => "swap",
            LimitName::Cpu => "cpu",
            LimitName::CpuWeight => "cpu_weight",
            LimitName::Cpuset => "cpuset",
            LimitName::Pids => "pids",
            LimitName::IoWeight => "io_weight",
            LimitName::Io => "io",
            LimitName::Hugetlb => "hugetlb",
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
    /// The kernel was built without it, or is too old.
    NoFile(String),
    /// v1 has nothing but a soft limit, which acts when the whole host is short of memory.
    OnlySoft,
    /// v1 has nothing like it.
    OnlyV2,
    /// v1 limits the sum of memory and swap.
    OnlyWithMemory,
    /// v1 knows whose a write is only when it does not go through the page cache (cgroup-v1/blkio-controller.rst).
    OnlyDirectWrites,
    /// Shares of a disk's time are given by its scheduler, `bfq`, or by iocost (cgroup-v2.rst, "io.cost.qos").
    NoIoScheduler,
    /// None of the CPUs is there for this group.
    NoSuchCpus,
    /// A path that is not on a block device, or not there.
    NoDevice(String),
    /// The kernel refused the value.
    Refused {
        /// The file it was written to.
        file: String,
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
            Reason::NoFile(name) => write!(f, "this kernel has no {name}"),
            Reason::OnlySoft => write!(f, "cgroup v1 has a soft limit only"),
            Reason::OnlyV2 => write!(f, "cgroup v1 has nothing like it"),
            Reason::OnlyWithMemory => write!(f, "cgroup v1 limits swap only together with memory"),
            Reason::OnlyDirectWrites => {
                write!(f, "cgroup v1 does not count writes that go through the page cache")
            }
            Reason::NoIoScheduler => write!(f, "no disk has the scheduler bfq, or iocost turned on"),
            Reason::NoSuchCpus => write!(f, "none of these CPUs is there"),
            Reason::NoDevice(what) => write!(f, "{what}"),
            Reason::Refused { file, errno } => {
                write!(f, "writing {file} failed: {}", io::Error::from_raw_os_error(*errno))
            }
        }
    }
}
