//! Limits that an operator changes while the application runs. A change is checked by being written: what is in force and
//! what is new become a configuration of their own, which is decoded like any other.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::json;
use watt_core::plan::{CgroupLimits, Plan, Service};

use crate::{
    Sources,
    report::{Problem, did_you_mean},
    scalar::{Bytes, CpuMillis, Cpus, Scalar, quote},
};

/// What can be changed: the limits of cgroups that are one value.
const KEYS: [&str; 10] = [
    "memory",
    "memory_high",
    "memory_low",
    "memory_min",
    "swap",
    "cpu",
    "cpu_weight",
    "cpuset",
    "pids",
    "io_weight",
];
/// Takes a limit away.
const NONE: &str = "none";
/// The service of the configuration that is decoded.
const SERVICE: &str = "service";

/// Changes of a service's limits: keys and values as the configuration has them, `none` for no limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LimitChanges {
    /// Of those of each worker: `limits`.
    pub each: BTreeMap<String, String>,
    /// Of those of all its workers together: `limits_total`.
    pub total: BTreeMap<String, String>,
}

impl LimitChanges {
    /// The service as it is after the change.
    ///
    /// # Errors
    /// Every error in words: an unknown key, a bad value, or one that does not go with the others.
    pub fn apply(&self, plan: &Plan, service: &Service) -> Result<Service, Vec<String>> {
        let each = changed(&service.limits.cgroup, &self.each)?;
        let total = changed(&service.limits_total, &self.total)?;
        let text = json!({
            "name": "limits",
            "services": { SERVICE: { "command": "true", "limits": each, "limits_total": total } },
            "limits": written_limits(&plan.limits),
        });
        let sources =
            Sources { file: PathBuf::from("/limits.json"), text: text.to_string(), ..Sources::default() };
        let decoded = crate::plan(&sources)
            .map_err(|report| report.problems().iter().map(Problem::in_words).collect::<Vec<_>>())?;
        let mut after = service.clone();
        for decoded in decoded.services.into_values() {
            put(&mut after.limits.cgroup, decoded.limits.cgroup.clone());
            put(&mut after.limits_total, (*decoded.limits_total).clone());
        }
        Ok(after)
    }
}

/// The limits in force with the changes, as they are written.
fn changed(
    limits: &CgroupLimits,
    changes: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Vec<String>> {
    let mut written = written_limits(limits);
    for (key, value) in changes {
        if !KEYS.contains(&key.as_str()) {
            let hint = did_you_mean(key, KEYS).unwrap_or_else(|| format!("these are: {}", KEYS.join(", ")));
            return Err(vec![format!(
                "{} is no limit that can be changed while it runs; {hint}",
                quote(key)
            )]);
        }
        match value.as_str() {
            NONE => written.remove(key),
            value => written.insert(key.clone(), value.to_owned()),
        };
    }
    Ok(written)
}

/// Replaces limits, but for those by device and size of page, which do not change.
fn put(limits: &mut CgroupLimits, new: CgroupLimits) {
    let old = std::mem::take(limits);
    *limits = CgroupLimits { io: old.io, hugetlb: old.hugetlb, ..new };
}

/// Limits as the configuration writes them, without those by device or size of page.
pub fn written_limits(limits: &CgroupLimits) -> BTreeMap<String, String> {
    fn text<T: Scalar>(value: T) -> String {
        let shown = value.show();
        shown.as_str().map_or_else(|| shown.to_string(), str::to_owned)
    }
    let bytes = |bytes: Option<u64>| bytes.map(|bytes| text(Bytes(bytes)));
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    let cpus = (!limits.cpus.is_empty()).then(|| text(Cpus(limits.cpus.clone())));
    let written = [
        ("memory", bytes(limits.memory)),
        ("memory_high", bytes(limits.memory_high)),
        ("memory_low", bytes(limits.memory_low)),
        ("memory_min", bytes(limits.memory_min)),
        ("swap", bytes(limits.swap)),
        ("cpu", limits.cpu_millis.map(|millis| text(CpuMillis(millis)))),
        ("cpu_weight", number(limits.cpu_weight.map(u32::from))),
        ("cpuset", cpus),
        ("pids", number(limits.pids)),
        ("io_weight", number(limits.io_weight.map(u32::from))),
    ];
    written.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use watt_core::plan::Resource;

    use super::*;

    fn plan(text: &str) -> Plan {
        let sources = Sources { file: "/w.yaml".into(), text: text.into(), ..Sources::default() };
        crate::plan(&sources).unwrap()
    }

    type Changes<'a> = &'a [(&'a str, &'a str)];

    fn change(text: &str, each: Changes<'_>, total: Changes<'_>) -> Result<Service, Vec<String>> {
        let plan = plan(&format!("services: {{ a: {{ command: x, {text} }} }}"));
        let map = |changes: Changes<'_>| {
            changes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let changes = LimitChanges { each: map(each), total: map(total) };
        changes.apply(&plan, plan.services.values().next().unwrap())
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = "limits: { memory: 64M, memory_high: 48M, memory_low: 1M, memory_min: 1K, swap: 5M, cpu: 1.5, \
                    cpu_weight: 7, cpuset: '0-2,5', pids: 9, io_weight: 8, io: { /: { read_ops: 5 } }, hugetlb: { 2MB: 4M } }";
        let expected = plan(&format!("services: {{ a: {{ command: x, {text} }} }}"));
        let expected = expected.services.values().next().unwrap();
        assert_eq!(change(text, &[], &[]).as_ref(), Ok(expected));
    }

    #[test]
    fn a_limit_is_set_changed_and_taken_away() {
        let text = "limits: { memory: 64M, pids: 9 }, limits_total: { pids: 10 }";
        let changes = [("memory", "1G"), ("cpu", "150%"), ("pids", "none")];
        let after = change(text, &changes, &[("pids", "5")]).unwrap();
        let expected =
            CgroupLimits { memory: Some(1 << 30), cpu_millis: Some(1500), ..CgroupLimits::default() };
        assert_eq!(after.limits.cgroup, expected);
        assert_eq!(*after.limits_total, CgroupLimits { pids: Some(5), ..CgroupLimits::default() });
        assert!(after.limits.oom_group);
    }

    #[test]
    fn a_worker_that_is_to_be_slowed_down_is_told_of() {
        let told = |text: &str, memory_high: &str| {
            let Service { pressure, limits, .. } =
                change(text, &[("memory_high", memory_high)], &[]).unwrap();
            pressure.told(&limits.cgroup).get(&Resource::Memory).map(Duration::as_millis)
        };
        assert_eq!(told("workers: 1", "64M"), Some(200));
        assert_eq!(told("workers: 1", "none"), None);
        assert_eq!(told("pressure: { memory: never }", "64M"), None);
        assert_eq!(told("pressure: { memory: 1s }", "64M"), Some(1000));
    }

    #[test]
    fn errors_are_the_configurations() {
        let check = |changes: &[(&str, &str)], expected: &str| {
            let text = "limits: { memory_high: 32M }, limits_total: { pids: 20 }";
            let errors = change(text, changes, &[]).unwrap_err().join("\n");
            assert!(errors.contains(expected), "{errors}");
        };
        check(&[("memory", "much")], "much");
        check(&[("memory", "16M")], "`memory_high` is more than `memory`");
        check(&[("pids", "30")], "`pids` of");
        check(&[("memry", "16M")], "did you mean `memory`");
        check(&[("nofile", "16")], "`nofile` is no limit that can be changed");
        check(&[("io", "16")], "these are: memory, ");
    }
}
