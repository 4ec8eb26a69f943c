//! Where a process of a service is at home: its folder, its sockets and its cgroup are named by this.

use std::fmt;

use watt_core::{ServiceId, WorkerId};

use crate::tasks::TaskId;

/// The home of a worker or of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seat {
    /// Whose process it is.
    pub(crate) service: ServiceId,
    /// Its name within the service: `0`, `0b`, `t7`.
    pub(crate) name: String,
    /// The number that a worker finds in its environment.
    pub(crate) index: Option<u16>,
}

impl Seat {
    /// A task's.
    pub(crate) fn of_task(service: ServiceId, task: TaskId) -> Seat {
        Seat { service, name: task.to_string(), index: None }
    }
}

impl From<&WorkerId> for Seat {
    fn from(worker: &WorkerId) -> Seat {
        Seat { service: worker.service.clone(), name: worker.place(), index: Some(worker.index) }
    }
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.name)
    }
}
