//! What services are to each other: who waits for whom, and who is started anew with whom.

use std::time::Duration;

use crate::ServiceId;

/// A dependency of one service on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency {
    /// What the other one has to reach before this one starts.
    pub condition: Condition,
    /// Whether it has to reach that at all. If not, it is waited for only as long as its first try may still succeed.
    pub required: bool,
    /// Whether workers are replaced when the runs that they were started after have all been replaced.
    pub restart: bool,
}

impl From<Condition> for Dependency {
    fn from(condition: Condition) -> Self {
        Dependency { condition, required: true, restart: false }
    }
}

/// What a dependency has to reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Every worker's program was executed.
    Started,
    /// Every worker is ready.
    Ready,
    /// Every worker is ready and has passed its health check, if it has one.
    Healthy,
    /// Every worker has ended, however it did, and is not started again by itself soon.
    Completed,
    /// Every worker ended with exit status 0.
    CompletedSuccessfully,
}

impl Condition {
    /// Whether it is an end that is waited for.
    pub fn is_end(self) -> bool {
        match self {
            Condition::Completed | Condition::CompletedSuccessfully => true,
            Condition::Started | Condition::Ready | Condition::Healthy => false,
        }
    }
}

/// Services that are started anew together when one of them fails, as by a supervisor of Erlang/OTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its services in their order; no other group has one of them.
    pub services: Vec<ServiceId>,
    /// Who is started anew.
    pub strategy: GroupStrategy,
    /// So many failures of all of them together within this time make the one that fails last `Failed`.
    pub give_up: Option<(u32, Duration)>,
}

/// Who is started anew when a service of a group fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupStrategy {
    /// The worker that failed alone.
    OneForOne,
    /// All of the group.
    OneForAll,
    /// The worker that failed, and the services that come after its own.
    RestForOne,
}
