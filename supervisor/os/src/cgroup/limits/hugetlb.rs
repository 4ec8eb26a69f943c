//! Huge pages.

use std::{collections::BTreeSet, fs};

use super::{LimitName, Limits, Place, Setting, or_max, or_minus_one, write};
use crate::cgroup::Controller;

pub(super) fn set(setting: &mut Setting<'_>, limits: &Limits) {
    if setting.is_new && limits.hugetlb.is_empty() {
        return;
    }
    let sizes = setting.place(Controller::Hugetlb).map(sizes).unwrap_or_default();
    for size in sizes.iter().chain(limits.hugetlb.keys().filter(|size| !sizes.contains(*size))) {
        let bytes = limits.hugetlb.get(size).copied();
        setting.apply(LimitName::Hugetlb, Controller::Hugetlb, bytes.is_some(), |place| match place {
            Place::V1(dir) => write(dir, &format!("hugetlb.{size}{}", suffix(place)), &or_minus_one(bytes)),
            Place::V2(dir) => write(dir, &format!("hugetlb.{size}{}", suffix(place)), &or_max(bytes)),
        });
    }
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
