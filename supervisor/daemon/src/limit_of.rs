//! Whose limit it was that acted on a worker: there are three of ours above each other.

use watt_core::{
    WorkerId,
    plan::{CgroupLimits, Plan},
};

/// Whose of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitOf {
    /// The worker's: `limits` of its service.
    Worker,
    /// That of all workers of the service: `limits_total`.
    Service,
    /// That of the application: `limits` of the file.
    Application,
}

impl LimitOf {
    /// From the lowest up, as the kernel looks at them.
    pub(crate) const ALL: [LimitOf; 3] = [LimitOf::Worker, LimitOf::Service, LimitOf::Application];

    /// The limits at this level that hold for a worker.
    pub(crate) fn limits<'a>(self, plan: &'a Plan, worker: &WorkerId) -> Option<&'a CgroupLimits> {
        let service = plan.services.get(&worker.service)?;
        Some(match self {
            LimitOf::Worker => &service.limits.cgroup,
            LimitOf::Service => &service.limits_total,
            LimitOf::Application => &plan.limits,
        })
    }

    /// In one word, for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            LimitOf::Worker => "worker",
            LimitOf::Service => "service",
            LimitOf::Application => "application",
        }
    }

    /// What is to be said after the limit, for people.
    pub(crate) fn apposition(self) -> &'static str {
        match self {
            LimitOf::Worker => "",
            LimitOf::Service => ", that of all workers of the service",
            LimitOf::Application => ", that of the application",
        }
    }
}

/// The only one of these levels for which it is so. Where it is so for several, which of them it was is not known.
pub(crate) fn only(is_so: impl Fn(LimitOf) -> bool) -> Option<LimitOf> {
    let mut found = LimitOf::ALL.into_iter().filter(|of| is_so(*of));
    found.next().filter(|_| found.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_for_two_levels_is_known_of_none() {
        assert_eq!(only(|of| of == LimitOf::Service), Some(LimitOf::Service));
        assert_eq!(only(|of| of != LimitOf::Worker), None);
        assert_eq!(only(|_| false), None);
    }
}
