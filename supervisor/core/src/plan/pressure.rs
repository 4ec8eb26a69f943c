//! What is made of workers that stall.

use std::{collections::BTreeMap, time::Duration};

use super::CgroupLimits;

/// What is made of a worker whose processes stall: wait for memory, for a CPU or for a disk (the kernel's
/// Documentation/accounting/psi.rst).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pressure {
    /// For how much of a [`PRESSURE_WINDOW`] some process has to stall for it to be told, where that is asked for.
    pub tell: BTreeMap<Resource, Duration>,
    /// The same of memory for a worker that has `memory_high` by now, unless nothing is to be told: a limit at which the kernel
    /// slows a process down is a trap as long as nobody hears of it.
    pub tell_with_memory_high: Option<Duration>,
    /// A worker that stalls for so long, in every window as much as is told, is drained and replaced. Each is among those
    /// of `tell`.
    pub recycle: BTreeMap<Resource, Duration>,
}

impl Pressure {
    /// What is told of a worker with these limits. What is not here is not watched.
    pub fn told(&self, limits: &CgroupLimits) -> BTreeMap<Resource, Duration> {
        let mut told = self.tell.clone();
        if let (Some(_), Some(time)) = (limits.memory_high, self.tell_with_memory_high) {
            told.entry(Resource::Memory).or_insert(time);
        }
        told
    }
}

/// The time over which stalls are added up: the shortest that the kernel lets an ordinary user choose, which is the same
/// for root so that one configuration means one thing.
pub const PRESSURE_WINDOW: Duration = Duration::from_secs(2);

/// What processes may have to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// Memory: it is being reclaimed, read back, or held up at `memory_high`.
    Memory,
    /// A CPU, or CPU time where it is limited.
    Cpu,
    /// A disk.
    Io,
}

impl Resource {
    /// All of them.
    pub const ALL: [Resource; 3] = [Resource::Memory, Resource::Cpu, Resource::Io];

    /// The kernel's word.
    pub fn name(self) -> &'static str {
        match self {
            Resource::Memory => "memory",
            Resource::Cpu => "cpu",
            Resource::Io => "io",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_millis(200);

    #[test]
    fn stalls_for_memory_are_told_by_default_of_whoever_has_memory_high_by_now() {
        let with = CgroupLimits { memory_high: Some(1 << 20), ..CgroupLimits::default() };
        let without = CgroupLimits { memory: Some(1 << 20), ..CgroupLimits::default() };
        let default = Pressure { tell_with_memory_high: Some(TIME), ..Pressure::default() };
        assert_eq!(default.told(&with), [(Resource::Memory, TIME)].into());
        assert_eq!(default.told(&without), [].into());
        // What somebody has asked for wins, and comes whatever the limits are.
        let asked = Pressure { tell: [(Resource::Memory, TIME * 3), (Resource::Io, TIME)].into(), ..default };
        assert_eq!(asked.told(&with), asked.tell);
        assert_eq!(asked.told(&without), asked.tell);
        assert_eq!(Pressure::default().told(&with), [].into(), "nothing is to be told");
    }
}
