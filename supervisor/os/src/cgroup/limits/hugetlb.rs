//! Huge pages.
//!
//! Each size has two limits: one of what is in use and one of what is promised (hugetlb_cgroup, "Reservation accounting"). Programs ask for
//! a mapping first and touch it later: with the first limit alone mmap(2) succeeds and the touch is a SIGBUS, with both mmap(2) says ENOMEM.

use std::{collections::BTreeSet, fs, path::Path};

use super::{LimitName, Limits, Place, Reason, Setting, absent_is_fine, or_max, or_minus_one, write};
use crate::cgroup::Controller;

pub(super) fn set(setting: &mut Setting<'_>, limits: &Limits) {
    if setting.is_new && limits.hugetlb.is_empty() {
        return;
    }
    let sizes = setting.place(Controller::Hugetlb).map(sizes).unwrap_or_default();
    for size in sizes.iter().chain(limits.hugetlb.keys().filter(|size| !sizes.contains(*size))) {
        let bytes = limits.hugetlb.get(size).copied();
        setting.apply(LimitName::Hugetlb, Controller::Hugetlb, bytes.is_some(), |place| match place {
            Place::V1(dir) => both(dir, size, suffix(place), &or_minus_one(bytes)),
            Place::V2(dir) => both(dir, size, suffix(place), &or_max(bytes)),
        });
    }
}

/// Kernels before 5.7 have no limit of what is promised.
fn both(dir: &Path, size: &str, suffix: &str, value: &str) -> Result<(), Reason> {
    write(dir, &format!("hugetlb.{size}{suffix}"), value)?;
    write(dir, &format!("hugetlb.{size}.rsvd{suffix}"), value).or_else(absent_is_fine)
}

fn suffix(place: Place<'_>) -> &'static str {
    match place {
        Place::V1(_) => ".limit_in_bytes",
        Place::V2(_) => ".max",
    }
}

/// The sizes of pages that the kernel has.
fn sizes(place: Place<'_>) -> BTreeSet<String> {
    let entries = fs::read_dir(place.dir()).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let sizes = names.filter_map(|name| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(suffix(place))?;
        // `hugetlb.2MB.rsvd.max` is about reservations.
        (!size.contains('.')).then(|| size.to_owned())
    });
    sizes.collect()
}
