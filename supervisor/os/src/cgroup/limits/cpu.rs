//! CPU time, its shares, and the CPUs themselves.

use std::{collections::BTreeSet, path::Path};

use super::{LimitName, Limits, Place, Reason, Setting, or_max, or_minus_one, write};
use crate::cgroup::{Controller, file};

/// The kernel's own `cpu.weight` and `io.weight` (cgroup-v2.rst).
pub(super) const WEIGHT: u16 = 100;
/// The same in v1: `cpu.shares`.
const SHARES: u64 = 1024;

pub(super) fn set(setting: &mut Setting<'_>, limits: &Limits) {
    let period_us = period_us(limits.cpu_millis);
    let quota_us = limits.cpu_millis.map(|millis| u64::from(millis) * period_us / 1000);
    setting.apply(LimitName::Cpu, Controller::Cpu, limits.cpu_millis.is_some(), |place| match place {
        Place::V1(dir) => write(dir, "cpu.cfs_period_us", &period_us.to_string())
            .and_then(|()| write(dir, "cpu.cfs_quota_us", &or_minus_one(quota_us))),
        Place::V2(dir) => write(dir, "cpu.max", &format!("{} {period_us}", or_max(quota_us))),
    });
    let weight = limits.cpu_weight.unwrap_or(WEIGHT);
    setting.apply(LimitName::CpuWeight, Controller::Cpu, limits.cpu_weight.is_some(), |place| match place {
        Place::V1(dir) => write(dir, "cpu.shares", &shares(weight).to_string()),
        Place::V2(dir) => write(dir, "cpu.weight", &weight.to_string()),
    });
    let is_wanted = !limits.cpus.is_empty();
    setting.apply(LimitName::Cpuset, Controller::Cpuset, is_wanted, |place| match place {
        Place::V1(dir) => set_legacy_cpus(dir, &limits.cpus),
        Place::V2(dir) => set_cpus(dir, &limits.cpus),
    });
}

/// The time a CPU quota is counted over. The kernel wants a quota of at least 1 ms and a period of at most 1 s
/// (cgroup-v2.rst, "cpu.max"), so a tiny share needs the longest period; all others get the kernel's default.
fn period_us(cpu_millis: Option<u32>) -> u64 {
    match cpu_millis {
        Some(..10) => 1_000_000,
        _ => 100_000,
    }
}

/// The kernel's own conversion. It takes no fewer than 2.
fn shares(weight: u16) -> u64 {
    (u64::from(weight) * SHARES / u64::from(WEIGHT)).max(2)
}

/// v1 takes CPUs that the group above has, and none that are not there.
fn set_legacy_cpus(dir: &Path, cpus: &BTreeSet<u16>) -> Result<(), Reason> {
    let above = || dir.parent().and_then(|above| file::read(&above.join("cpuset.cpus")).ok());
    let value = if cpus.is_empty() { above().unwrap_or_default() } else { list(cpus) };
    write(dir, "cpuset.cpus", value.trim())
}

/// v2 takes any number, and falls back to what the group above has when none of them is there.
fn set_cpus(dir: &Path, cpus: &BTreeSet<u16>) -> Result<(), Reason> {
    // An empty list is a line end, because an empty write(2) does not reach the kernel.
    write(dir, "cpuset.cpus", &format!("{}\n", list(cpus)))?;
    let effective = file::read(&dir.join("cpuset.cpus.effective")).unwrap_or_default();
    if cpus.is_empty() || parse(&effective).iter().all(|cpu| cpus.contains(cpu)) {
        return Ok(());
    }
    Err(Reason::NoSuchCpus)
}

fn list(cpus: &BTreeSet<u16>) -> String {
    cpus.iter().map(u16::to_string).collect::<Vec<_>>().join(",")
}

/// Reads a list like `0-2,5`. What is no number is left out.
fn parse(text: &str) -> BTreeSet<u16> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_keep_the_proportions_of_weights() {
        assert_eq!([1, 50, 100, 200, 10_000].map(shares), [10, 512, 1024, 2048, 102_400]);
    }

    #[test]
    fn lists_of_cpus() {
        assert_eq!(parse("0-2,5\n"), [0, 1, 2, 5].into());
        assert_eq!(parse("\n"), [].into());
        assert_eq!(parse("a-b,3,9-"), [3].into());
        assert_eq!(list(&[3, 0].into()), "0,3");
    }

    #[test]
    fn cpus_of_which_none_is_there_are_not_enforced() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        put("cpuset.cpus", "");
        put("cpuset.cpus.effective", "0-1\n");
        assert_eq!(set_cpus(dir.path(), &[7].into()), Err(Reason::NoSuchCpus));
        assert_eq!(set_cpus(dir.path(), &[0, 1, 7].into()), Ok(()));
        assert_eq!(set_cpus(dir.path(), &[].into()), Ok(()));
    }
}
