//! Memory and swap.

use std::path::Path;

use super::{LimitName, Limits, Place, Reason, Setting, absent_is_fine, or_max, or_minus_one, write};
use crate::cgroup::Controller;

pub(super) fn set(setting: &mut Setting<'_>, limits: &Limits) {
    let controller = Controller::Memory;
    setting.apply(LimitName::Memory, controller, limits.memory.is_some(), |place| match place {
        Place::V1(dir) => set_legacy(dir, limits.memory, limits.swap),
        Place::V2(dir) => write(dir, "memory.max", &or_max(limits.memory)),
    });
    let bounds_swap = limits.memory.is_some() || limits.swap.is_some();
    setting.apply(LimitName::Swap, controller, bounds_swap, |place| match place {
        // Set with memory.
        Place::V1(_) if limits.memory.is_some() || limits.swap.is_none() => Ok(()),
        Place::V1(_) => Err(Reason::OnlyWithMemory),
        Place::V2(dir) => {
            let bytes = limits.swap.or(limits.memory.map(|_| 0));
            // Absent from a kernel without swap, where nothing needs to be forbidden.
            write(dir, "memory.swap.max", &or_max(bytes)).or_else(absent_is_fine)
        }
    });
    setting.apply(LimitName::MemoryHigh, controller, limits.memory_high.is_some(), |place| match place {
        Place::V1(dir) => {
            let set = write(dir, "memory.soft_limit_in_bytes", &or_minus_one(limits.memory_high));
            set.or_else(absent_is_fine)?;
            Err(Reason::OnlySoft)
        }
        Place::V2(dir) => write(dir, "memory.high", &or_max(limits.memory_high)),
    });
    let kept = [
        (LimitName::MemoryLow, "memory.low", limits.memory_low),
        (LimitName::MemoryMin, "memory.min", limits.memory_min),
    ];
    for (limit, file, bytes) in kept {
        setting.apply(limit, controller, bytes.is_some(), |place| match place {
            Place::V1(_) => Err(Reason::OnlyV2),
            Place::V2(dir) => write(dir, file, &bytes.unwrap_or(0).to_string()),
        });
    }
    // A group without a limit of its own is rarely the one the kernel chooses: not worth a warning.
    let is_wanted = limits.oom_group && limits.memory.is_some();
    setting.apply(LimitName::OomGroup, controller, is_wanted, |place| match place {
        Place::V1(_) => Ok(()),
        Place::V2(dir) => write(dir, "memory.oom.group", if limits.oom_group { "1" } else { "0" }),
    });
}

/// v1 counts memory, and memory with swap; the second may never be below the first, so which is written first
/// depends on the direction of the change.
fn set_legacy(dir: &Path, memory: Option<u64>, swap: Option<u64>) -> Result<(), Reason> {
    let value = or_minus_one(memory);
    let with_swap = or_minus_one(memory.map(|bytes| bytes.saturating_add(swap.unwrap_or(0))));
    let first_try = write(dir, "memory.limit_in_bytes", &value);
    // Absent when swap is not accounted; then the limit holds for memory alone.
    write(dir, "memory.memsw.limit_in_bytes", &with_swap).or_else(absent_is_fine)?;
    match first_try {
        Ok(()) => Ok(()),
        Err(_) => write(dir, "memory.limit_in_bytes", &value),
    }
}
