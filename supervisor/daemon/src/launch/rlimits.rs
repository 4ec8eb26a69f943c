//! Resource limits of a worker (setrlimit(2)).

use std::collections::BTreeMap;

use watt_core::plan::{Rlimit, Service};

use super::Host;

/// A program that has secrets leaves none of them in a core dump, unless its configuration has a limit for that. Where no
/// cgroup bounds how many processes a worker has, a resource limit does.
pub(super) fn of(service: &Service, host: &Host) -> Vec<(u32, u64, u64)> {
    let mut limits: BTreeMap<u32, (u64, u64)> = service
        .limits
        .rlimits
        .iter()
        .map(|(rlimit, value)| (number(*rlimit), (value.soft, value.hard)))
        .collect();
    if !service.secrets.is_empty() {
        limits.entry(number(Rlimit::Core)).or_insert((0, 0));
    }
    if let Some(pids) = service.limits.cgroup.pids.filter(|_| host.pids_by_rlimit).map(u64::from) {
        let (soft, hard) = limits.entry(number(Rlimit::Nproc)).or_insert((pids, pids));
        (*soft, *hard) = (pids.min(*soft), pids.min(*hard));
    }
    limits.into_iter().map(|(number, (soft, hard))| (number, soft, hard)).collect()
}

/// The kernel's number of a resource (include/uapi/asm-generic/resource.h).
fn number(rlimit: Rlimit) -> u32 {
    match rlimit {
        Rlimit::Cpu => 0,
        Rlimit::Fsize => 1,
        Rlimit::Data => 2,
        Rlimit::Stack => 3,
        Rlimit::Core => 4,
        Rlimit::Rss => 5,
        Rlimit::Nproc => 6,
        Rlimit::Nofile => 7,
        Rlimit::Memlock => 8,
        Rlimit::As => 9,
        Rlimit::Locks => 10,
        Rlimit::Sigpending => 11,
        Rlimit::Msgqueue => 12,
        Rlimit::Nice => 13,
        Rlimit::Rtprio => 14,
        Rlimit::Rttime => 15,
    }
}

#[cfg(test)]
mod tests {
    use watt_core::plan::RlimitValue;

    use super::*;
    use crate::testing;

    #[test]
    fn resource_limits_have_the_kernels_numbers() {
        let mut service = testing::plan(&["api"]).services.into_values().next().unwrap();
        let value = RlimitValue { soft: 9, hard: 10 };
        service.limits.rlimits = [(Rlimit::Nofile, value), (Rlimit::As, value)].into();
        assert_eq!(of(&service, &testing::HOST), [(7, 9, 10), (9, 9, 10)]);
    }

    #[test]
    fn without_a_cgroup_for_it_pids_is_a_resource_limit() {
        let bounded = |pids_by_rlimit, pids, nproc: Option<u64>| {
            let mut service = testing::plan(&["api"]).services.into_values().next().unwrap();
            service.limits.cgroup.pids = pids;
            let value = nproc.map(|value| (Rlimit::Nproc, RlimitValue { soft: value, hard: value }));
            service.limits.rlimits.extend(value);
            let limits = of(&service, &Host { pids_by_rlimit, ..testing::HOST });
            limits.into_iter().find(|(number, ..)| *number == 6).map(|(_, soft, hard)| (soft, hard))
        };
        assert_eq!(bounded(true, Some(32), None), Some((32, 32)));
        assert_eq!(bounded(true, Some(32), Some(8)), Some((8, 8)), "the smaller one");
        assert_eq!(bounded(true, Some(32), Some(64)), Some((32, 32)));
        assert_eq!(bounded(true, None, Some(64)), Some((64, 64)));
        assert_eq!(bounded(false, Some(32), None), None);
    }
}
