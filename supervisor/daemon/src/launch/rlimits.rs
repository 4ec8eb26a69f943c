//! Resource limits of a worker, by the kernel's numbers.

use watt_core::plan::{Rlimit, Service};

/// A program that has secrets leaves none of them in a core dump, unless its configuration has a limit for that.
pub(super) fn of(service: &Service) -> Vec<(u32, u64, u64)> {
    let written = &service.limits.rlimits;
    let no_core = !service.secrets.is_empty() && !written.contains_key(&Rlimit::Core);
    let written = written.iter().map(|(rlimit, value)| (number(*rlimit), value.soft, value.hard));
    written.chain(no_core.then_some((number(Rlimit::Core), 0, 0))).collect()
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
        assert_eq!(of(&service), [(9, 9, 10), (7, 9, 10)]);
    }
}
