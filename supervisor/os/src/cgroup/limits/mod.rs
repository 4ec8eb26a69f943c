//! Setting limits, at the start and in place, and saying which ones this host does not enforce.
//!
//! A limit is written where its controller is: to the v1 hierarchy that the group is in, else to the v2 directory if
//! the controller is turned on there. Each file here has the limits of one controller or two, in both versions.

mod cpu;
mod hugetlb;
mod io;
mod memory;
mod names;

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
    io as std_io,
    path::{Path, PathBuf},
};

pub use self::{
    io::IoLimits,
    names::{LimitName, Reason, Unenforced},
};
use super::{Controller, Group, file};

/// What a group may use. `None`, and what is empty, is no limit of ours.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Limits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes above which the kernel slows the group down and reclaims.
    pub memory_high: Option<u64>,
    /// Bytes that are reclaimed from others first.
    pub memory_low: Option<u64>,
    /// Bytes that are never reclaimed.
    pub memory_min: Option<u64>,
    /// Bytes of swap. Off for a group with a limit of memory and none of swap: that is meant as a bound, not as a push
    /// to disk.
    pub swap: Option<u64>,
    /// Thousandths of one CPU.
    pub cpu_millis: Option<u32>,
    /// Share of CPU time, 1 to 10,000; the kernel's own is 100.
    pub cpu_weight: Option<u16>,
    /// The CPUs it may run on.
    pub cpus: BTreeSet<u16>,
    /// Processes and threads.
    pub pids: Option<u32>,
    /// Share of a disk's time, 1 to 10,000; the kernel's own is 100.
    pub io_weight: Option<u16>,
    /// Bounds by block device: the device, or any path on it.
    pub io: BTreeMap<PathBuf, IoLimits>,
    /// Bytes of huge pages by page size, as the kernel writes it: `2MB`.
    pub hugetlb: BTreeMap<String, u64>,
    /// Whether an out-of-memory kill takes the whole group. v1 knows no such thing: there the one who notices
    /// the kill ends the rest.
    pub oom_group: bool,
}

impl Limits {
    /// The controllers that enforce these.
    pub fn controllers(&self) -> BTreeSet<Controller> {
        let memory = [self.memory, self.memory_high, self.memory_low, self.memory_min, self.swap];
        let needs = [
            (Controller::Memory, memory.iter().any(Option::is_some)),
            (Controller::Cpu, self.cpu_millis.is_some() || self.cpu_weight.is_some()),
            (Controller::Cpuset, !self.cpus.is_empty()),
            (Controller::Pids, self.pids.is_some()),
            (Controller::Io, self.io_weight.is_some() || !self.io.is_empty()),
            (Controller::Hugetlb, !self.hugetlb.is_empty()),
        ];
        needs.into_iter().filter(|(_, is_needed)| *is_needed).map(|(controller, _)| controller).collect()
    }
}

impl Group {
    /// Makes these the limits of the group, whatever they were before. Returns those that are not enforced.
    pub fn set_limits(&self, limits: &Limits) -> Vec<Unenforced> {
        self.set(limits, false)
    }

    /// The same for a group that was made just now and has no limit yet: without any to set it costs nothing.
    pub fn set_first_limits(&self, limits: &Limits) -> Vec<Unenforced> {
        self.set(limits, true)
    }

    fn set(&self, limits: &Limits, is_new: bool) -> Vec<Unenforced> {
        let mut setting = Setting { group: self, is_new, offered: OnceCell::new(), missing: Vec::new() };
        memory::set(&mut setting, limits);
        cpu::set(&mut setting, limits);
        setting.apply(LimitName::Pids, Controller::Pids, limits.pids.is_some(), |place| {
            // The same file in both versions.
            write(place.dir(), "pids.max", &or_max(limits.pids.map(u64::from)))
        });
        io::set(&mut setting, limits);
        hugetlb::set(&mut setting, limits);
        setting.missing
    }
}

/// Limits that are being set.
struct Setting<'a> {
    group: &'a Group,
    /// Whether there is nothing to be lifted.
    is_new: bool,
    /// The controllers that are turned on in its v2 directory, once somebody asked.
    offered: OnceCell<BTreeSet<String>>,
    missing: Vec<Unenforced>,
}

/// Where a controller's files are.
#[derive(Debug, Clone, Copy)]
enum Place<'a> {
    V1(&'a Path),
    V2(&'a Path),
}

impl<'a> Place<'a> {
    fn dir(self) -> &'a Path {
        match self {
            Place::V1(dir) | Place::V2(dir) => dir,
        }
    }
}

impl Setting<'_> {
    /// Sets or lifts a limit. One that is not wanted and cannot be lifted was never there.
    fn apply(
        &mut self,
        limit: LimitName,
        controller: Controller,
        is_wanted: bool,
        set: impl FnOnce(Place<'_>) -> Result<(), Reason>,
    ) {
        if self.is_new && !is_wanted {
            return;
        }
        let set = self.place(controller).and_then(set);
        if let (true, Err(reason)) = (is_wanted, set) {
            self.missing.push(Unenforced { limit, reason });
        }
    }

    fn place(&self, controller: Controller) -> Result<Place<'_>, Reason> {
        match (self.group.legacy.get(&controller), &self.group.unified) {
            (Some(dir), _) => Ok(Place::V1(dir)),
            (None, Some(dir)) if self.offered(dir).contains(controller.name()) => Ok(Place::V2(dir)),
            (None, _) if self.group.is_usable() => Err(Reason::NoController(controller.name())),
            (None, _) => Err(Reason::NoCgroup),
        }
    }

    fn offered(&self, dir: &Path) -> &BTreeSet<String> {
        self.offered.get_or_init(|| file::words(&dir.join("cgroup.controllers")).collect())
    }
}

fn or_max(value: Option<u64>) -> String {
    value.map_or_else(|| "max".into(), |value| value.to_string())
}

fn or_minus_one(value: Option<u64>) -> String {
    value.map_or_else(|| "-1".into(), |value| value.to_string())
}

fn write(dir: &Path, file: &str, value: &str) -> Result<(), Reason> {
    file::write(&dir.join(file), value).map_err(|error| match error.kind() {
        std_io::ErrorKind::NotFound => Reason::NoFile(file.to_owned()),
        _ => Reason::Refused { file: file.to_owned(), errno: error.raw_os_error().unwrap_or(libc::EIO) },
    })
}

fn absent_is_fine(reason: Reason) -> Result<(), Reason> {
    if matches!(reason, Reason::NoFile(_)) { Ok(()) } else { Err(reason) }
}

#[cfg(test)]
mod tests;
